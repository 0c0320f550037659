//! Servers and runs that use an end of a migration already: said before anything is written.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread::JoinHandle;

use anyhow::Result;

use crate::places::{Database, Store};
use crate::scene::{NO_FILES, Run, SMALL, Scene, Server, wait_until};

/// Both runs refuse in the same words and with the same code, and nothing has changed.
pub fn refused(
    scene: &Scene,
    from: &Server,
    to: &Server,
    options: &[&str],
    code: i32,
) -> Result<Run> {
    let before = scene.listing()?;
    let dry: Vec<&str> = options.iter().copied().chain(["--dry-run"]).collect();
    let dry = scene
        .migrate(from, to, &dry)?
        .expect(code)?
        .says(&["hint: "])?;
    scene.is_as(&before)?;
    let real = scene.migrate(from, to, options)?.expect(code)?;
    scene.is_as(&before)?;
    assert_eq!(dry.stderr.lines().last(), real.stderr.lines().last());
    Ok(real)
}

#[test]
fn a_server_or_another_run_that_uses_the_target() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    let lock = fs::File::create(scene.path("to.db.lock"))?;
    lock.lock_shared()?;
    refused(&scene, &from, &to, &[], 7)?.says(&[
        "is in use by a server or another migration",
        "hint: stop it first",
    ])?;
    drop(lock);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    Ok(())
}

/// The lock lies beside the file, whichever name leads there.
#[test]
fn a_server_that_uses_the_target_by_another_name() -> Result<()> {
    let scene = Scene::new()?;
    let (from, served) = (scene.made_up("from", NO_FILES)?, scene.local("served")?);
    let daemon = scene.serve(&served)?;
    symlink("served.db", scene.path("link.db"))?;
    let files = Store::Directory(scene.path("to.files"));
    let to = scene.server("to", Database::Sqlite("link.db".into()), files)?;
    scene
        .migrate(&from, &to, &[])?
        .expect(7)?
        .says(&["link.db is in use by a server or another migration"])?;
    drop(daemon);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(from.database.rows()?, served.database.rows()?);
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_run_that_uses_a_postgres_target() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    let to = scene.postgres("to")?;
    let held = scene.postgres("held")?;
    scene.migrate(&from, &held, &[])?.expect(0)?;
    let _held = hold_lock(&to, 30)?;
    refused(&scene, &from, &to, &[], 7)?.says(&["is in use by a server or another migration"])?;
    Ok(())
}

/// PostgreSQL notices a moment late that a program that held the lock was killed.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_lock_that_goes_in_a_moment_is_waited_for() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    let to = scene.postgres("to")?;
    for options in [&["--dry-run"][..], &[]] {
        let held = hold_lock(&to, 2)?;
        scene.migrate(&from, &to, options)?.expect(0)?;
        assert!(held.is_finished(), "it did not wait");
    }
    Ok(())
}

/// Uses a PostgreSQL database for so many seconds, as a server does.
fn hold_lock(to: &Server, seconds: u32) -> Result<JoinHandle<Result<()>>> {
    let lock = 0x706c_696b_6475_7365_i64;
    let sql = format!("SELECT pg_advisory_lock_shared({lock}), pg_sleep({seconds})");
    let url = to.database.url();
    let held = std::thread::spawn(move || Database::query_url(&url, &sql).map(|_| ()));
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    wait_until(
        "the lock is held",
        || Ok(to.database.value(waiting)? != "0"),
    )?;
    Ok(held)
}

fn a_server_that_runs(scene: &Scene, from: &Server, to: &Server) -> Result<()> {
    let doubt = "! server of the source: it is running";
    let served = scene.serve(from)?;
    scene
        .migrate(from, to, &["--dry-run"])?
        .expect(0)?
        .says(&[doubt, "hint: stop it in the end, and run again with --sync"])?;
    scene
        .migrate(from, to, &[])?
        .expect(0)?
        .says(&[doubt, "next: the server of the source is running: stop it"])?
        .never_says(&["put the settings"])?;
    // It was not disturbed.
    served.upload(b"later")?;
    drop(served);
    scene
        .migrate(from, to, &["--sync"])?
        .expect(0)?
        .says(&["next: put the settings of the target"])?
        .never_says(&[doubt])?;
    Ok(())
}

#[test]
fn a_server_that_runs_on_the_source_is_pointed_out() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    a_server_that_runs(&scene, &from, &to)?;
    // A migration has the lock alone; one that may not be read says nothing.
    let lock = fs::File::create(scene.path("from.db.lock"))?;
    lock.lock()?;
    scene
        .migrate(&from, &to, &["--dry-run"])?
        .never_says(&["server of the source"])?;
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_server_that_runs_on_a_postgres_source_is_pointed_out() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", SMALL)?;
    let (from, to) = (scene.postgres("from")?, scene.local("to")?);
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    a_server_that_runs(&scene, &from, &to)
}
