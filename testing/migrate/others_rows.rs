//! Targets that hold the rows of another server, which `--sync` must not replace.

use anyhow::Result;

use crate::scene::{NO_FILES, SMALL, Scene, Server};

#[test]
fn a_target_with_rows_of_others_is_pointed_out() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    let other = scene.made_up("other", NO_FILES)?;
    let pointed_out = "that did not come from this source";
    scene
        .migrate(&from, &other, &["--dry-run", "--metadata-only"])?
        .says(&[
            "! target metadata: ",
            "holds 2 users and 2 uploads ",
            pointed_out,
        ])?;
    // A target of this source is known, also in the middle of a run.
    for _ in 0..2 {
        scene
            .migrate(&from, &to, &["--metadata-only"])?
            .expect(0)?
            .never_says(&[pointed_out])?;
    }
    Ok(())
}

/// The rows of another server, its secrets among them, are not what `--sync` may replace.
fn another_servers_rows_stay(scene: &Scene, to: &Server) -> Result<()> {
    let from = scene.made_up("from", SMALL)?;
    let other = scene.made_up("other", &[NO_FILES, &["--seed=5"]].concat())?;
    scene.migrate(&other, to, &["--metadata-only"])?.expect(0)?;
    for (server, whose) in [(&from, "ours"), (to, "theirs")] {
        server.database.query(&format!(
            "INSERT INTO settings (key, value) VALUES ('shared', '{whose}')"
        ))?;
    }
    let before = to.database.rows()?;
    for mode in [&["--sync"][..], &["--sync", "--delete"]] {
        for (dry, code) in [(Some("--dry-run"), 7), (None, 7)] {
            let options: Vec<&str> = mode.iter().copied().chain(dry).collect();
            scene.migrate(&from, to, &options)?.expect(code)?.says(&[
                "✗ target metadata: --sync would overwrite what is in ",
                "2 users and 2 uploads that did not come from this source",
                "hint: run the migration without --sync first: it overwrites nothing",
            ])?;
        }
    }
    assert_eq!(to.database.rows()?, before);
    // Who has seen what differs may ask for it.
    let shared = "SELECT value FROM settings WHERE key = 'shared'";
    let plain = scene.migrate(&from, to, &[])?.expect(20)?;
    plain.says(&["! target metadata: ", "conflict: settings shared"])?;
    assert_eq!(to.database.value(shared)?, "theirs");
    scene.migrate(&from, to, &["--sync"])?.expect(20)?;
    assert_eq!(to.database.value(shared)?, "ours");
    Ok(())
}

/// A file that is put in the place of another gets its inode at times.
#[test]
fn another_servers_database_in_the_same_file_is_another_source() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let to = scene.local("to")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    scene.migrate(&from, &to, &["--sync"])?.expect(0)?;
    from.database
        .query("UPDATE settings SET value = 'other' WHERE key = 'authentication_signature_key'")?;
    let before = to.database.rows()?;
    scene
        .migrate(&from, &to, &["--sync", "--delete"])?
        .expect(7)?
        .says(&["--sync would overwrite what is in "])?;
    assert_eq!(to.database.rows()?, before);
    Ok(())
}

/// Who restores a dump of another server into the database has the same database, and other rows.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn another_servers_tables_in_the_same_postgres_are_another_source() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", SMALL)?;
    let other = scene.made_up("other", &[NO_FILES, &["--seed=5"]].concat())?;
    let (from, to) = (scene.postgres("from")?, scene.local("to")?);
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    scene.migrate(&from, &to, &["--sync"])?.expect(0)?;
    for sql in ["DROP SCHEMA public CASCADE", "CREATE SCHEMA public"] {
        from.database.query(sql)?;
    }
    scene.migrate(&other, &from, &[])?.expect(0)?;
    let before = to.database.rows()?;
    scene
        .migrate(&from, &to, &["--sync", "--delete"])?
        .expect(7)?
        .says(&["--sync would overwrite what is in "])?;
    assert_eq!(to.database.rows()?, before);
    Ok(())
}

#[test]
fn following_into_another_servers_database_is_refused() -> Result<()> {
    let scene = Scene::new()?;
    another_servers_rows_stay(&scene, &scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn following_into_another_servers_postgres_is_refused() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.postgres("to")?;
    another_servers_rows_stay(&scene, &to)
}
