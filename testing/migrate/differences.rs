//! What keeps two servers from being equal after a run: told, and never hidden behind exit code 0.

use anyhow::Result;

use crate::scene::{NO_FILES, SMALL, Scene};

/// A file that was removed between two runs would otherwise come back on the target unseen.
#[test]
fn rows_that_only_the_target_has_are_named() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let id = from.database.value("SELECT max(id) FROM files")?;
    from.database
        .query(&format!("DELETE FROM files WHERE id = '{id}'"))?;
    let said = format!("extra: files {id}: only the target has it");
    scene.migrate(&from, &to, &[])?.expect(20)?.says(&[
        &said,
        "1 only in the target",
        "removed from the source since",
    ])?;
    assert_eq!(
        to.database
            .value(&format!("SELECT id FROM files WHERE id = '{id}'"))?,
        id
    );
    let dry = scene.migrate(&from, &to, &["--dry-run"])?.expect(20)?;
    dry.says(&["1 only in the target"])?;
    Ok(())
}

#[test]
fn a_target_that_is_not_finished_is_no_source() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database.query(
        "CREATE TABLE plikd_migrate_checkpoints (source text, table_name text, last_key text, \
         copied bigint, present bigint, conflicts bigint, failed bigint)",
    )?;
    from.database
        .query("INSERT INTO plikd_migrate_checkpoints (source) VALUES ('sqlite:1:2')")?;
    let before = scene.listing()?;
    for (options, code) in [(&["--dry-run"][..], 7), (&[], 7)] {
        scene.migrate(&from, &to, options)?.expect(code)?.says(&[
            "the source cannot be used",
            "is the target of a migration that was cut off",
            "hint: run the migration again to its end",
        ])?;
    }
    scene.is_as(&before)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn keys_that_mean_one_instant_are_rejected() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.postgres("to")?);
    for day in ["2024-05-06 00:00:00+00:00", "2024-05-05 20:00:00-04:00"] {
        from.database.query(&format!(
            "INSERT INTO download_stats_daily (day, entity_type, entity_id, user_id, downloads) \
             VALUES ('{day}', 'upload', 'theUpload', '{day}', 1)"
        ))?;
    }
    let said = "theUpload: another row has the same key, as the target sees it";
    let options = ["--metadata-only", "--ignore-errors"];
    scene
        .migrate(&from, &to, &options[..1])?
        .expect(1)?
        .says(&["rejected: download_stats_daily 2024-05-06", said])?;
    let run = scene.migrate(&from, &to, &options)?.expect(20)?;
    // Which of them is right is not for a program to say.
    assert_eq!(run.summary("download_stats_daily")?.failed, 2);
    assert_eq!(to.database.count("download_stats_daily")?, 0);
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_key_of_bytes_is_rejected() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.postgres("to")?);
    from.database
        .query("INSERT INTO users (id, login) VALUES (x'616263', 'bytes')")?;
    scene
        .migrate(&from, &to, &["--metadata-only"])?
        .expect(1)?
        .says(&["rejected: users abc: id: a key must be text, not bytes"])?;
    scene
        .migrate(&from, &to, &["--metadata-only", "--ignore-errors"])?
        .expect(20)?;
    Ok(())
}

/// What a run that was cut off wrote down about a blob does not outlive the blob's arrival.
#[test]
fn a_blob_that_came_after_all_brings_its_row() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let id = to
        .database
        .value("SELECT max(id) FROM files WHERE status = 'uploaded'")?;
    to.database
        .query(&format!("DELETE FROM files WHERE id = '{id}'"))?;
    to.database.query(&format!(
        "INSERT INTO plikd_migrate_blobs (source, file_id, arrived) \
         SELECT source, '{id}', 0 FROM plikd_migrate_runs"
    ))?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

#[test]
fn what_is_to_be_looked_at_is_counted_by_its_kind() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    for id in ["one", "two"] {
        to.database.add_upload(id)?;
    }
    to.database.query("UPDATE users SET name = 'mine'")?;
    let users = from.database.count("users")?;
    let run = scene.migrate(&from, &to, &[])?.expect(20)?;
    let left = match users {
        1 => "1 row or blob".to_owned(),
        users => format!("{users} rows and blobs"),
    };
    run.says(&[&format!(
        "next: look at what is named above: {left} not copied, and at the 2 rows that only the \
         target has; with --sync"
    )])?;
    Ok(())
}
