//! Locks of PostgreSQL that are lost with their connection: whoever had one notices, and nobody
//! writes beside somebody else.

use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::places::Database;
use crate::scene::{
    NO_FILES, SMALL, SOME, Scene, Server, assert_equal, finish, signal, wait_until,
};

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
        "ALTER DATABASE {name} SET idle_session_timeout = '1s'"
    ))?;
    let run = scene
        .migration(&from.config, &to.config, &["--bwlimit=30KiB"])
        .spawn()?;
    wait_until("it has begun", || Ok(has_begun(&to)))?;
    let before = holder(&to)?;
    sleep(Duration::from_secs(3));
    assert_eq!(holder(&to)?, before);
    finish(run)?.expect(0)?.never_says(&["retry "])?;
    assert_equal(&from, &to)
}

/// Somebody who has read the files of a database and goes on with other things, such as a backup.
pub struct Reader(JoinHandle<Result<()>>);

impl Reader {
    pub fn start(database: &Database) -> Result<Self> {
        let url = database.url();
        let read = "BEGIN; SELECT count(*) FROM files; SELECT pg_sleep(300)";
        let reader = std::thread::spawn(move || Database::query_url(&url, read).map(drop));
        wait_until("it is read", || {
            has_session(database, "wait_event = 'PgSleep'")
        })?;
        Ok(Self(reader))
    }

    pub fn end(self, database: &Database) -> Result<()> {
        end_sessions(database, "wait_event = 'PgSleep'")?;
        let read = self.0.join();
        ensure!(read.is_ok_and(|read| read.is_err()), "it was not ended");
        Ok(())
    }
}

/// Whether somebody waits for whoever reads or writes a table.
pub fn is_waiting(database: &Database) -> Result<bool> {
    has_session(database, "wait_event = 'relation'")
}

pub fn has_session(database: &Database, condition: &str) -> Result<bool> {
    let sql = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity \
         WHERE {condition} AND datname = current_database()"
    );
    Ok(database.value(&sql)? == "t")
}

pub fn end_sessions(database: &Database, condition: &str) -> Result<()> {
    let sql = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE {condition} AND datname = current_database()"
    );
    ensure!(database.value(&sql)? != "0", "nobody was there");
    Ok(())
}

/// A database whose tables are there and have no rows.
fn empty_tables(scene: &Scene, name: &str) -> Result<Server> {
    let server = scene.postgres(name)?;
    scene.serve(&server).map(drop)?;
    server.database.query("DELETE FROM settings")?;
    Ok(server)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn whoever_reads_the_target_is_waited_for_and_told_of() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, empty_tables(&scene, "to")?);
    let reader = Reader::start(&to.database)?;
    let run = scene
        .migration(&from.config, &to.config, &["--metadata-only"])
        .spawn()?;
    wait_until("the run waits", || is_waiting(&to.database))?;
    wait_until("it lets others pass", || Ok(!is_waiting(&to.database)?))?;
    reader.end(&to.database)?;
    finish(run)?
        .expect(0)?
        .says(&["another session keeps a lock that is needed", "retry 1 in "])?;
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_part_that_waits_for_the_first_one_can_be_stopped() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, empty_tables(&scene, "to")?);
    let reader = Reader::start(&to.database)?;
    let part = |shard| {
        let options = ["--metadata-only", shard];
        scene.migration(&from.config, &to.config, &options).spawn()
    };
    let first = part("--shard=1/2")?;
    wait_until("the first part waits", || is_waiting(&to.database))?;
    let second = part("--shard=2/2")?;
    wait_until("the second part waits for it", || {
        has_session(&to.database, "wait_event = 'advisory'")
    })?;
    signal(&second, Signal::INT)?;
    finish(second)?.expect(130)?.says(&["interrupted"])?;
    reader.end(&to.database)?;
    finish(first)?.expect(0)?;
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_target_that_is_lost_while_its_keys_are_built_is_waited_for() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.postgres("to")?);
    for shard in ["--shard=1/2", "--shard=2/2"] {
        scene
            .migrate(&from, &to, &["--metadata-only", shard])?
            .expect(0)?;
    }
    let reader = Reader::start(&to.database)?;
    let last = scene
        .migration(&from.config, &to.config, &["--metadata-only"])
        .spawn()?;
    wait_until("keys wait", || is_waiting(&to.database))?;
    end_sessions(&to.database, "application_name = 'plikd'")?;
    reader.end(&to.database)?;
    finish(last)?.expect(0)?.says(&["retry 1 in "])?;
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

/// Such as an administrator sets for the role of a web server.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_limit_for_statements_ends_no_run() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.postgres("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let name = to.database.value("SELECT current_database()")?;
    to.database.query(&format!(
        "ALTER DATABASE {name} SET statement_timeout = '1s'"
    ))?;
    let url = to.database.url();
    // The last statement of a run writes to this table.
    let holder = "SET statement_timeout = 0; BEGIN; \
         LOCK TABLE plikd_migrate_runs IN EXCLUSIVE MODE; SELECT pg_sleep(300)";
    let holder = std::thread::spawn(move || Database::query_url(&url, holder).map(drop));
    wait_until("the table is held", || {
        has_session(&to.database, "wait_event = 'PgSleep'")
    })?;
    let run = scene
        .migration(&from.config, &to.config, &["--sync"])
        .spawn()?;
    wait_until("the run waits", || is_waiting(&to.database))?;
    sleep(Duration::from_secs(2));
    Reader(holder).end(&to.database)?;
    finish(run)?.expect(0)?.never_says(&["retry "])?;
    Ok(())
}
