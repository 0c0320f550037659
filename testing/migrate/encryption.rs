//! Targets and sources that encrypt each blob with a key of its own, kept in the file's row.

use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::places::{Database, Store};
use crate::scene::{SMALL, SOME, Scene, Server, finish, signal};

const DETAILS: &str = "files.backend_details";

fn encrypted(scene: &Scene, name: &str) -> Result<Server> {
    scene.server(
        name,
        Database::postgres()?,
        Store::bucket_with("SSE = \"SSE-C\"")?,
    )
}

/// Rows are equal but for the keys, and the keys of `to` open its blobs.
fn assert_equal(from: &Server, to: &Server) -> Result<()> {
    assert_eq!(
        from.database.rows_without(&[DETAILS])?,
        to.database.rows_without(&[DETAILS])?
    );
    assert_eq!(
        from.store.blobs(&from.database)?,
        to.store.blobs(&to.database)?
    );
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn keys_go_into_the_rows_of_the_target_and_a_server_reads_by_them() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, encrypted(&scene, "to")?);
    let path = scene.serve(&from)?.upload(b"read me later")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_equal(&from, &to)?;
    let blobs = from
        .database
        .value("SELECT count(*) FROM files WHERE status IN ('uploaded', 'removed')")?;
    let keys =
        "SELECT count(DISTINCT backend_details) FROM files WHERE backend_details LIKE '%SSEKey%'";
    assert_eq!(to.database.value(keys)?, blobs);
    assert_eq!(scene.serve(&to)?.download(&path)?, b"read me later");

    let again = scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(again.summary("blobs")?.present.to_string(), blobs);

    // And out again: to no encryption, and to another bucket with keys of its own.
    let plain = scene.server(
        "plain",
        Database::Sqlite(scene.path("plain.db")),
        Store::bucket()?,
    )?;
    scene.migrate(&to, &plain, &[])?.expect(0)?;
    assert_equal(&from, &plain)?;
    assert_eq!(plain.database.value(&keys.replace("DISTINCT ", ""))?, "0");
    let local = scene.local("local")?;
    scene.migrate(&to, &local, &[])?.expect(0)?;
    assert_equal(&from, &local)?;
    assert_eq!(scene.serve(&local)?.download(&path)?, b"read me later");
    let other = encrypted(&scene, "other")?;
    scene.migrate(&to, &other, &[])?.expect(0)?;
    assert_equal(&to, &other)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn killed_at_any_moment_no_key_is_lost() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SOME)?;
    let to = encrypted(&scene, "to")?;
    let mut cut_off = 0;
    for round in 0..8_u64 {
        let mut run: Child = scene.migration(&from.config, &to.config, &[]).spawn()?;
        sleep(Duration::from_millis(100 + round * 151));
        cut_off += u32::from(run.try_wait()?.is_none());
        signal(&run, Signal::KILL).ok();
        finish(run)?;
    }
    ensure!(cut_off > 3, "only {cut_off} runs were cut off");
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_equal(&from, &to)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn blobs_alone_have_no_place_for_their_keys() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let bucket = Store::bucket_with("SSE = \"SSE-C\"")?;
    let to = scene.write("to.cfg", &bucket.section())?;
    for (options, code) in [
        (&["--data-only", "--dry-run"][..], 2),
        (&["--data-only"], 2),
    ] {
        crate::scene::run(scene.migration(&from.config, &to, options))?
            .expect(code)?
            .says(&[
                "SSE-C",
                "hint: migrate the metadata to a database of its own first",
            ])?;
    }
    ensure!(
        bucket.blobs(&from.database).is_err(),
        "the bucket was created"
    );

    // With rows of its own it has.
    let to = scene.server("to", Database::postgres()?, bucket)?;
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    scene.migrate(&from, &to, &["--data-only"])?.expect(0)?;
    assert_equal(&from, &to)
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn objects_named_by_an_old_release_are_found() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", SMALL)?;
    let sqlite = |name: &str| Database::Sqlite(scene.path(name));
    let from = scene.server("from", sqlite("from.db"), Store::bucket()?)?;
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    // Plik (Go) 1.3 named objects by the file's id alone.
    let renamed = from
        .store
        .rename_objects(|key| key.split_once('.').map(|(_, id)| id.to_owned()))?;
    ensure!(renamed > 10, "only {renamed} objects");
    let to = scene.local("to")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(
        made_up.store.blobs(&made_up.database)?,
        to.store.blobs(&to.database)?
    );
    made_up.database.rows().context("the rows")?;
    Ok(())
}

/// Blobs alone do not make half a move of the rows whole: no server starts on it.
#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn blobs_alone_leave_the_marks_of_half_the_rows() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let to = encrypted(&scene, "to")?;
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    // What a run of the rows leaves that is cut off among the uploads.
    to.database.query(
        "INSERT INTO plikd_migrate_checkpoints \
         (source, table_name, copied, present, conflicts, failed) \
         SELECT source, 'uploads', 1, 0, 0, 0 FROM plikd_migrate_runs",
    )?;
    scene.migrate(&from, &to, &["--data-only"])?.expect(0)?;
    assert_eq!(to.database.count("plikd_migrate_checkpoints")?, 1);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(to.database.count("plikd_migrate_checkpoints")?, 0);
    assert_equal(&from, &to)
}
