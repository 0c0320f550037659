//! Every direction: content arrives equal, and only once.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::places::{Database, Store};
use crate::scene::{Counts, SMALL, Scene, Server, assert_equal};

/// There, once more, and on to a second one: `to` is a source as good as any.
fn there_and_on(scene: &Scene, to: &Server, further: &Server) -> Result<()> {
    let from = scene.made_up("from", SMALL)?;
    let first = scene.migrate(&from, to, &[])?.expect(0)?;
    assert_equal(&from, to)?;
    assert!(!to.store.blobs(&to.database)?.is_empty());
    let files = first.summary("files")?;
    assert_eq!(files, Counts::copied(from.database.count("files")?));
    let blobs = first.summary("blobs")?;
    assert_eq!(blobs, Counts::copied(blobs.copied));

    let second = scene.migrate(&from, to, &[])?.expect(0)?;
    assert_eq!(second.summary("files")?, Counts::present(files.copied));
    assert_eq!(second.summary("blobs")?, Counts::present(blobs.copied));

    scene.migrate(to, further, &[])?.expect(0)?;
    assert_equal(&from, further)
}

#[test]
fn between_local_backends() -> Result<()> {
    let scene = Scene::new()?;
    there_and_on(&scene, &scene.local("to")?, &scene.local("further")?)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn to_postgres_and_from_there_to_another() -> Result<()> {
    let scene = Scene::new()?;
    let files = |name: &str| Store::Directory(scene.path(name));
    let to = scene.server("to", Database::postgres()?, files("to"))?;
    let further = scene.server("further", Database::postgres()?, files("further"))?;
    there_and_on(&scene, &to, &further)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn to_postgres_and_back() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.postgres("to")?;
    there_and_on(&scene, &to, &scene.local("further")?)
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn to_a_bucket_and_from_there_to_another() -> Result<()> {
    let scene = Scene::new()?;
    let sqlite = |name: &str| Database::Sqlite(scene.path(name));
    let to = scene.server("to", sqlite("to.db"), Store::bucket()?)?;
    let further = scene.server("further", sqlite("further.db"), Store::bucket()?)?;
    there_and_on(&scene, &to, &further)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn to_services_and_back() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.server("to", Database::postgres()?, Store::bucket()?)?;
    there_and_on(&scene, &to, &scene.local("further")?)
}

/// One half at a time, in either order, comes to the same as both at once.
#[test]
fn half_by_half() -> Result<()> {
    for halves in [
        ["--data-only", "--metadata-only"],
        ["--metadata-only", "--data-only"],
    ] {
        let scene = Scene::new()?;
        let from = scene.made_up("from", SMALL)?;
        let to = scene.local("to")?;
        for half in halves {
            scene.migrate(&from, &to, &[half])?.expect(0)?;
        }
        assert_equal(&from, &to)?;
    }
    Ok(())
}

#[test]
fn only_what_is_new_is_copied_by_a_later_run() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    from.database.add_upload("0newUpload000000")?;
    from.database
        .add_file("0newFile00000000", "0newUpload000000", "uploaded", b"new")?;
    from.store.put("0newFile00000000", b"new")?;
    let run = scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(run.summary("uploads")?.copied, 1);
    assert_eq!(run.summary("files")?.copied, 1);
    assert_eq!(run.summary("blobs")?.copied, 1);
    assert_equal(&from, &to)
}

fn conflicts_are_named(scene: &Scene, to: &Server) -> Result<()> {
    let from = scene.made_up("from", SMALL)?;
    scene.migrate(&from, to, &[])?.expect(0)?;
    let upload = from.database.value("SELECT min(id) FROM uploads")?;
    let token = from.database.value("SELECT min(token) FROM tokens")?;
    to.database.query(&format!(
        "UPDATE uploads SET comments = 'mine' WHERE id = '{upload}'"
    ))?;
    to.database.query(&format!(
        "UPDATE tokens SET comment = 'mine' WHERE token = '{token}'"
    ))?;

    let would = scene.migrate(&from, to, &["--dry-run"])?.expect(20)?;
    let run = scene.migrate(&from, to, &[])?.expect(20)?;
    let run = run.says(&[&format!(
        "conflict: uploads {upload}: the target has it with other values"
    )])?;
    for run in [would, run] {
        assert_eq!(run.summary("uploads")?.conflicts, 1);
        assert_eq!(run.summary("tokens")?.conflicts, 1);
        assert_eq!(run.summary("files")?.conflicts, 0);
        run.says(&[&format!("uploads {upload}"), &token[..8]])?
            .never_says(&[&token, "mine"])?;
    }
    let comments = to.database.value(&format!(
        "SELECT comments FROM uploads WHERE id = '{upload}'"
    ))?;
    assert_eq!(comments, "mine");
    Ok(())
}

#[test]
fn rows_that_differ_are_named_and_left_as_they_are() -> Result<()> {
    let scene = Scene::new()?;
    conflicts_are_named(&scene, &scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn rows_that_differ_are_named_and_left_as_they_are_in_postgres() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.postgres("to")?;
    conflicts_are_named(&scene, &to)
}

#[test]
fn a_blob_with_other_bytes_is_replaced_but_not_that_of_another_row() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    let id = from
        .database
        .value("SELECT min(id) FROM files WHERE status = 'uploaded'")?;
    to.store.put(&id, b"left behind by something else")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_equal(&from, &to)?;

    let md5 = crate::scene::md5_hex(b"another file of the target");
    to.database
        .query(&format!("UPDATE files SET md5 = '{md5}' WHERE id = '{id}'"))?;
    to.store.put(&id, b"another file of the target")?;
    scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?
        .says(&[&id])?;
    assert_eq!(
        std::fs::read(to.store.path_of(&id))?,
        b"another file of the target"
    );
    Ok(())
}

/// PostgreSQL would write it otherwise than this program does.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_key_with_a_time_is_written_the_same_by_dry_run_run_and_verification() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.postgres("to")?);
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    to.database
        .query("UPDATE upload_stats_daily SET bytes = bytes + 1")?;
    let keys = |text: &str, before: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(before));
        let keys = lines.filter_map(|line| line.trim_start().strip_prefix("upload_stats_daily "));
        keys.map(|key| key.split(": ").next().unwrap_or(key).to_owned())
            .collect()
    };
    let dry = scene.migrate(&from, &to, &["--metadata-only", "--dry-run"])?;
    let run = scene
        .migrate(&from, &to, &["--metadata-only"])?
        .expect(20)?;
    let verified = scene.verify(&from, &to, &["--metadata-only"])?;
    let named = keys(&dry.stdout, "conflict");
    ensure!(!named.is_empty(), "{dry}");
    assert_eq!(keys(&run.stderr, "conflict:"), named);
    assert_eq!(keys(&verified.stdout, "  different:"), named);
    Ok(())
}
