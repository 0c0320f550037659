//! Locks of PostgreSQL that are lost with their connection: whoever had one notices, and nobody
//! writes beside somebody else.

use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::places::Database;
use crate::scene::{NO_FILES, SMALL, SOME, Scene, Server, assert_equal, finish, wait_until};

const LOCK: i64 = 0x706c_696b_6475_7365;

/// Who has the lock of this database, and who waits for it. Its key is shown as two halves.
const LOCKS: &str = "FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 \
     AND (classid::bigint << 32 | objid::bigint) = x'706c696b64757365'::bigint AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

fn holder(server: &Server) -> Result<String> {
    let sql = format!("SELECT coalesce(min(pid), 0) {LOCKS} AND granted");
    server.database.value(&sql)
}

/// Whether a run has the database, and is on its way.
fn has_begun(server: &Server) -> bool {
    let begun = server.database.count("plikd_migrate_checkpoints");
    begun.is_ok_and(|begun| begun > 0)
}

/// Ends the connections that have the lock.
fn end_holders(server: &Server) -> Result<()> {
    let sql = format!("SELECT count(pg_terminate_backend(pid)) {LOCKS} AND granted");
    let ended = server.database.value(&sql)?;
    ensure!(ended == "1", "{ended} had the lock");
    Ok(())
}

/// Has the lock alone for so many seconds, from the moment when it is free.
fn take_when_free(server: &Server, seconds: u32) -> Result<JoinHandle<Result<()>>> {
    let sql = format!("SELECT pg_advisory_lock({LOCK}), pg_sleep({seconds})");
    let url = server.database.url();
    let waiting = std::thread::spawn(move || Database::query_url(&url, &sql).map(|_| ()));
    let sql = format!("SELECT count(*) {LOCKS} AND NOT granted");
    wait_until("somebody waits for the lock", || {
        Ok(server.database.value(&sql)? == "1")
    })?;
    Ok(waiting)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_server_whose_lock_is_lost_takes_it_again() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.postgres("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let daemon = scene.serve(&to)?;
    for _ in 0..2 {
        let before = holder(&to)?;
        end_holders(&to)?;
        wait_until("the lock is held again", || {
            let now = holder(&to)?;
            Ok(now != before && now != "0")
        })?;
        let path = daemon.upload(b"after it")?;
        assert_eq!(daemon.download(&path)?, b"after it");
        scene
            .migrate(&from, &to, &["--sync"])?
            .expect(7)?
            .says(&["is in use by a server or another migration"])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_server_whose_database_went_to_a_migration_stops() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.postgres("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let daemon = scene.serve(&to)?;
    let uploads = to.database.count("uploads")?;
    let migration = take_when_free(&to, 20)?;
    end_holders(&to)?;
    ensure!(daemon.upload(b"too late").is_err(), "it went on writing");
    daemon.end()?.expect(7)?.says(&[
        "Plik server was stopped: ",
        "is in use by a migration into it",
        "hint: start it again when that has come to its end",
    ])?;
    assert_eq!(to.database.count("uploads")?, uploads);
    ensure!(!migration.is_finished(), "the lock was free again");
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_server_that_finds_half_a_migration_after_an_outage_stops() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.postgres("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let daemon = scene.serve(&to)?;
    to.database.query(
        "INSERT INTO plikd_migrate_checkpoints \
         (source, table_name, copied, present, conflicts, failed) VALUES ('s', '', 0, 0, 0, 0)",
    )?;
    end_holders(&to)?;
    daemon
        .end()?
        .expect(7)?
        .says(&["is the target of a migration that was cut off"])?;
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_run_whose_lock_is_lost_begins_anew_under_another() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.postgres("to")?);
    let run = scene
        .migration(&from.config, &to.config, &["--bwlimit=30KiB"])
        .spawn()?;
    wait_until("it has begun", || Ok(has_begun(&to)))?;
    let before = holder(&to)?;
    end_holders(&to)?;
    wait_until("it has the lock again", || {
        let now = holder(&to)?;
        Ok(now != before && now != "0")
    })?;
    finish(run)?.expect(0)?.says(&["retry 1 in "])?;
    assert_equal(&from, &to)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_run_whose_target_went_to_another_ends() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.postgres("to")?);
    let options = ["--bwlimit=30KiB", "--retry-for=1s"];
    let run = scene
        .migration(&from.config, &to.config, &options)
        .spawn()?;
    wait_until("it has begun", || Ok(has_begun(&to)))?;
    let other = take_when_free(&to, 20)?;
    end_holders(&to)?;
    finish(run)?
        .expect(7)?
        .says(&["is in use by a server or another migration"])?;
    ensure!(!other.is_finished(), "the lock was free again");
    assert_eq!(to.database.count("files")?, 0);
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_limit_for_idle_sessions_ends_no_lock() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.postgres("to")?);
    let name = to.database.value("SELECT current_database()")?;
    to.database.query(&format!(
        "ALTER DATABASE {name} SET idle_session_timeout = '300ms'"
    ))?;
    let run = scene
        .migration(&from.config, &to.config, &["--bwlimit=30KiB"])
        .spawn()?;
    wait_until("it has begun", || Ok(has_begun(&to)))?;
    let before = holder(&to)?;
    sleep(Duration::from_secs(1));
    assert_eq!(holder(&to)?, before);
    finish(run)?.expect(0)?.never_says(&["retry "])?;
    assert_equal(&from, &to)
}
