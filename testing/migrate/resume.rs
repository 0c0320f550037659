//! Runs that are cut off, by a signal, by force or by a backend that goes away: the same command
//! ends them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::places::{Database, Store};
use crate::scene::{Scene, Server, assert_equal, finish, signal, wait_until};

/// Small blobs, enough of them to be caught in the middle.
const MANY_BLOBS: &[&str] = &[
    "--users=5",
    "--tokens=1",
    "--uploads=20",
    "--files=20",
    "--anon-uploads=0",
    "--file-size=1..2KiB",
];
/// Rows for some batches of every engine.
pub const MANY_ROWS: &[&str] = &[
    "--users=500",
    "--tokens=2",
    "--uploads=10",
    "--files=10",
    "--anon-uploads=0",
];

fn blobs_in(directory: &Path) -> usize {
    let Ok(directories) = fs::read_dir(directory) else {
        return 0;
    };
    directories
        .flatten()
        .filter_map(|entry| fs::read_dir(entry.path()).ok())
        .map(Iterator::count)
        .sum()
}

pub fn start(scene: &Scene, from: &Server, to: &Server, options: &[&str]) -> Result<Child> {
    Ok(scene.migration(&from.config, &to.config, options).spawn()?)
}

/// A run that a signal reached while blobs were copied, and what it said.
fn interrupted_among_blobs(asked: Signal, code: i32) -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", MANY_BLOBS)?, scene.local("to")?);
    let run = start(&scene, &from, &to, &["--workers=2"])?;
    wait_until("some blobs are there", || {
        Ok(blobs_in(&scene.path("to.files")) > 50)
    })?;
    signal(&run, asked)?;
    finish(run)?.expect(code)?.says(&[
        "stopped after ",
        "interrupted",
        "hint: run the same command again to resume",
    ])?;
    let arrived = to.store.blobs(&to.database)?;
    ensure!(
        arrived.len() < 1900,
        "the run was not cut off: {} blobs",
        arrived.len()
    );
    ensure!(
        arrived.is_subset(&from.store.blobs(&from.database)?),
        "something else is visible"
    );
    assert_eq!(to.database.count("files")?, 0);
    refuses_to_serve(&scene, &to)?;
    let resumed = scene.migrate(&from, &to, &[])?.expect(0)?;
    let resumed =
        resumed.says(&["has a run from this source that was cut off, which is resumed"])?;
    // What was written down need not be asked about; what was not is found by its digest.
    assert_eq!(resumed.summary("blobs")?.present, arrived.len() as u64);
    assert_equal(&from, &to)?;
    scene.serve(&to).map(drop)
}

pub fn refuses_to_serve(scene: &Scene, to: &Server) -> Result<()> {
    let mut server = scene.plikd();
    server
        .arg("--config")
        .arg(&to.config)
        .args(["server", "--port", "1"]);
    crate::scene::run(server)?
        .expect(7)?
        .says(&[
            "is the target of a migration that was cut off",
            "hint: run the migration again",
        ])
        .map(drop)
}

#[test]
fn sigint_among_blobs() -> Result<()> {
    interrupted_among_blobs(Signal::INT, 130)
}

#[test]
fn sigterm_among_blobs() -> Result<()> {
    interrupted_among_blobs(Signal::TERM, 143)
}

/// As when the connection of the administrator is lost.
#[test]
fn sighup_among_blobs() -> Result<()> {
    interrupted_among_blobs(Signal::HUP, 129)
}

/// As `nohup` starts it.
#[test]
fn a_run_that_was_started_to_ignore_sighup_does() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", MANY_BLOBS)?, scene.local("to")?);
    let mut run = Command::new("sh");
    run.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    let plain = scene.migration(&from.config, &to.config, &["--bwlimit=50KiB"]);
    run.arg(plain.get_program()).args(plain.get_args());
    run.current_dir(scene.path(""));
    run.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = run.spawn()?;
    wait_until("blobs arrive", || Ok(scene.path("to.files").exists()))?;
    signal(&run, Signal::HUP)?;
    finish(run)?.expect(0)?;
    assert_equal(&from, &to)
}

/// Batches are to be seen as they come.
const SOME_FILES: &str = "SELECT count(*) > 0 FROM files";
/// A whole load is to be seen when it is done; until then nobody else can read the table.
pub const LOADING_FILES: &str = "SELECT count(*) > 0 FROM pg_stat_progress_copy c \
     JOIN pg_class t ON t.oid = c.relid WHERE t.relname = 'files' AND c.tuples_processed > 0";

fn interrupted_among_rows(scene: &Scene, to: &Server, under_way: &str) -> Result<()> {
    let from = scene.made_up("from", &[MANY_ROWS, &["--file-size=0"]].concat())?;
    // The tables are there, so that they can be watched.
    let empty = scene.made_up("empty", crate::scene::NO_FILES)?;
    scene.migrate(&empty, to, &["--metadata-only"])?.expect(0)?;
    to.database.query("DELETE FROM usage_stats")?;
    to.database.query("DELETE FROM upload_stats_daily")?;
    to.database.query("DELETE FROM settings")?;
    to.database.query("DELETE FROM tokens")?;
    to.database.query("DELETE FROM uploads")?;
    to.database.query("DELETE FROM users")?;
    if let Database::Sqlite(_) = to.database {
        // Something that watches each row keeps them from being loaded whole, where none is seen.
        to.database
            .query("CREATE TRIGGER watch AFTER INSERT ON users BEGIN SELECT 1; END")?;
    }
    let run = start(scene, &from, to, &["--metadata-only"])?;
    wait_until("some files are there", || {
        Ok(matches!(
            to.database.value(under_way)?.as_str(),
            "1" | "true" | "t"
        ))
    })?;
    signal(&run, Signal::INT)?;
    finish(run)?
        .expect(130)?
        .says(&["hint: run the same command again to resume"])?;
    let (arrived, all) = (to.database.count("files")?, from.database.count("files")?);
    ensure!(arrived < all, "the run was not cut off");
    refuses_to_serve(scene, to)?;
    let resumed = scene.migrate(&from, to, &["--metadata-only"])?.expect(0)?;
    assert_eq!(resumed.summary("files")?.copied, all);
    assert_eq!(resumed.summary("files")?.present, 0);
    assert_eq!(from.database.rows()?, to.database.rows()?);
    assert_eq!(to.database.count("plikd_migrate_checkpoints")?, 0);
    Ok(())
}

#[test]
fn sigint_among_rows() -> Result<()> {
    let scene = Scene::new()?;
    interrupted_among_rows(&scene, &scene.local("to")?, SOME_FILES)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn sigint_among_rows_of_postgres() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.postgres("to")?;
    interrupted_among_rows(&scene, &to, LOADING_FILES)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn the_second_signal_does_not_wait() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", crate::scene::NO_FILES)?;
    let to = scene.postgres("to")?;
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    from.database
        .query("INSERT INTO users (id) VALUES ('new')")?;
    let url = to.database.url();
    // Whoever holds this table keeps every writer waiting.
    let holder = "BEGIN; LOCK TABLE users IN EXCLUSIVE MODE; SELECT pg_sleep(30)";
    std::thread::spawn(move || Database::query_url(&url, holder));
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'users'::regclass AND ";
    wait_until("the table is held", || {
        Ok(to
            .database
            .value(&format!("{waiting} mode = 'ExclusiveLock' AND granted"))?
            == "1")
    })?;
    let mut run = start(&scene, &from, &to, &["--metadata-only"])?;
    wait_until("the run waits", || {
        Ok(to.database.value(&format!("{waiting} NOT granted"))? == "1")
    })?;
    signal(&run, Signal::INT)?;
    sleep(Duration::from_millis(300));
    ensure!(
        run.try_wait()?.is_none(),
        "the first signal did not let the batch finish"
    );
    let asked = Instant::now();
    signal(&run, Signal::INT)?;
    finish(run)?.expect(130)?;
    ensure!(
        asked.elapsed() < Duration::from_secs(3),
        "the second signal waited"
    );
    Ok(())
}

/// Kills the same command at one moment after another, then lets it finish.
fn killed_again_and_again(
    scene: &Scene,
    from: &Server,
    to: &Server,
    options: &[&str],
) -> Result<()> {
    let mut cut_off = 0;
    for round in 0..12_u64 {
        let mut run = start(scene, from, to, options)?;
        sleep(Duration::from_millis(20 + round * 53));
        cut_off += u32::from(run.try_wait()?.is_none());
        signal(&run, Signal::KILL).ok();
        finish(run)?;
    }
    ensure!(cut_off > 5, "only {cut_off} runs were cut off");
    scene.migrate(from, to, options)?.expect(0)?;
    assert_equal(from, to)?;
    scene.serve(to).map(drop)?;
    // What was half written when it was cut off is gone once a server has started.
    assert_eq!(
        from.store.blobs(&from.database)?,
        to.store.blobs(&to.database)?
    );
    Ok(())
}

#[test]
fn killed_at_any_moment() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", MANY_BLOBS)?, scene.local("to")?);
    killed_again_and_again(&scene, &from, &to, &[])
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn killed_at_any_moment_on_the_way_to_services() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", MANY_BLOBS)?;
    let to = scene.server("to", Database::postgres()?, Store::bucket()?)?;
    killed_again_and_again(&scene, &from, &to, &[])
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_database_that_goes_away_in_the_middle() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", &[MANY_ROWS, &["--file-size=0"]].concat())?;
    let to = scene.postgres("to")?;
    let run = start(&scene, &from, &to, &["--metadata-only", "--retry-for=0"])?;
    wait_until("some uploads are there", || {
        Ok(to.database.count("uploads").is_ok_and(|count| count > 0))
    })?;
    to.database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )?;
    finish(run)?
        .expect(4)?
        .says(&["cannot be reached", "hint: check that"])?;
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

/// What was written down is looked for all the same: somebody may have tidied up meanwhile.
#[test]
fn blobs_that_vanished_since_are_copied_again() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", MANY_BLOBS)?, scene.local("to")?);
    let run = start(&scene, &from, &to, &["--workers=2"])?;
    wait_until("some blobs are there", || {
        Ok(blobs_in(&scene.path("to.files")) > 50)
    })?;
    signal(&run, Signal::INT)?;
    finish(run)?.expect(130)?;
    ensure!(
        to.database.count("plikd_migrate_blobs")? > 0,
        "nothing was written down"
    );
    fs::remove_dir_all(scene.path("to.files"))?;
    fs::create_dir(scene.path("to.files"))?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_equal(&from, &to)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_dry_run_can_be_interrupted_too() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", crate::scene::NO_FILES)?;
    let to = scene.postgres("to")?;
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    let url = to.database.url();
    let holder = "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(30)";
    std::thread::spawn(move || Database::query_url(&url, holder));
    let waiting =
        "SELECT count(*) FROM pg_locks WHERE relation = 'users'::regclass AND NOT granted";
    let run = start(&scene, &from, &to, &["--metadata-only", "--dry-run"])?;
    wait_until("the run waits", || Ok(to.database.value(waiting)? == "1"))?;
    signal(&run, Signal::TERM)?;
    finish(run)?.expect(143)?.says(&["interrupted"])?;
    Ok(())
}
