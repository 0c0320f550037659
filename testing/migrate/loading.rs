//! Rows into a SQLite database that has none: they go into a file beside it, which takes its place
//! when it is whole.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::places::{Database, Store};
use crate::scene::{Scene, Server, finish, signal, wait_until};

/// Rows for some batches.
const MANY_ROWS: &[&str] = &[
    "--users=60",
    "--tokens=2",
    "--uploads=10",
    "--files=10",
    "--anon-uploads=10",
    "--file-size=0",
];

/// What a table may hold besides what Plik puts there.
const ODDITIES: &[&str] = &[
    "ALTER TABLE uploads ADD COLUMN download_domain varchar(255)",
    "UPDATE uploads SET download_domain = 'https://dl.example.org/' || id",
    "CREATE TABLE events (id text PRIMARY KEY, size integer, at datetime)",
    "CREATE INDEX idx_event_size ON events (size, at)",
    "INSERT INTO events VALUES ('é', 7, '2026-01-02 03:04:05.123456+01:00'), \
     ('e2', -1, '2026-07-02 03:04:05Z'), ('E3', NULL, '2024-02-29'), \
     ('', 0, '1999-12-31 23:59:59.9+14:00'), ('e10', 9, '0001-01-01 00:00:00+00:00')",
    "CREATE TABLE days (day datetime, n integer, PRIMARY KEY (day, n))",
    "INSERT INTO days VALUES ('2026-03-08 00:00:00+00:00', 1), ('2026-03-07 22:00:00-03:30', 2)",
    "UPDATE files SET upload_id = 'nobody' WHERE id = (SELECT min(id) FROM files)",
];

fn source(scene: &Scene) -> Result<Server> {
    let from = scene.made_up("from", MANY_ROWS)?;
    for sql in ODDITIES {
        from.database.query(sql)?;
    }
    Ok(from)
}

fn path_of(server: &Server) -> Result<PathBuf> {
    match &server.database {
        Database::Sqlite(path) => Ok(path.clone()),
        Database::Postgres { .. } => anyhow::bail!("not a file"),
    }
}

fn loading_file(server: &Server) -> Result<PathBuf> {
    let mut path = path_of(server)?.into_os_string();
    path.push(".loading");
    Ok(path.into())
}

/// Every value as it is stored, and every definition, of all that a migration carries.
fn contents(server: &Server) -> Result<Vec<Vec<String>>> {
    let definitions = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name";
    let mut all = server.database.query(definitions)?;
    for table in server.database.query(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'plikd_migrate_%' \
         ORDER BY name",
    )? {
        let table = &table[0];
        let rows = format!("SELECT '{table}', * FROM \"{table}\"");
        all.extend(server.database.query(&rows)?);
    }
    all.sort();
    Ok(all)
}

/// A target whose rows must go in one by one, because something watches each.
fn watched(scene: &Scene, name: &str) -> Result<Server> {
    let to = scene.local(name)?;
    scene.serve(&to).map(drop)?;
    to.database
        .query("CREATE TRIGGER watch AFTER INSERT ON users BEGIN SELECT 1; END")?;
    Ok(to)
}

fn start(scene: &Scene, from: &Server, to: &Server) -> Result<Child> {
    let options = &["--metadata-only"];
    Ok(scene.migration(&from.config, &to.config, options).spawn()?)
}

/// Both ways of loading into SQLite end in the same database, to the letter.
fn is_as_row_by_row(scene: &Scene, from: &Server) -> Result<()> {
    let (to, slow) = (scene.local("to")?, watched(scene, "slow")?);
    let options = &["--metadata-only"];
    let mut run = start(scene, from, &to)?;
    let loading = loading_file(&to)?;
    wait_until("the file is filled", || Ok(loading.exists()))?;
    ensure!(run.try_wait()?.is_none(), "the file was left behind");
    finish(run)?.expect(0)?;
    scene.migrate(from, &slow, options)?.expect(0)?;
    slow.database.query("DROP TRIGGER watch")?;
    assert_eq!(contents(&to)?, contents(&slow)?);
    let check = "SELECT group_concat(integrity_check) FROM pragma_integrity_check";
    assert_eq!(to.database.value(check)?, "ok");
    ensure!(!loading.exists(), "the file was left behind");
    scene.serve(&to).map(drop)
}

#[test]
fn what_is_loaded_whole_is_what_is_loaded_row_by_row() -> Result<()> {
    let scene = Scene::new()?;
    let from = source(&scene)?;
    is_as_row_by_row(&scene, &from)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn what_is_loaded_whole_from_postgres_is_what_is_loaded_row_by_row() -> Result<()> {
    let scene = Scene::new()?;
    let sqlite = source(&scene)?;
    sqlite
        .database
        .query("DELETE FROM files WHERE upload_id = 'nobody'")?;
    let from = scene.server(
        "postgres",
        Database::postgres()?,
        Store::Directory(scene.path("from.files")),
    )?;
    scene
        .migrate(&sqlite, &from, &["--metadata-only"])?
        .expect(0)?;
    is_as_row_by_row(&scene, &from)
}

#[test]
fn killed_in_the_middle_nothing_is_half_there() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.local("to")?);
    let loading = loading_file(&to)?;
    let mut left_behind = 0;
    for round in 0..8 {
        let mut run = start(&scene, &from, &to)?;
        wait_until("the file is filled", || {
            Ok(loading.exists() || run.try_wait()?.is_some())
        })?;
        sleep(Duration::from_millis(round * 15));
        signal(&run, Signal::KILL).ok();
        finish(run)?;
        if loading.exists() {
            left_behind += 1;
            assert_eq!(to.database.count("files")?, 0);
            assert_eq!(to.database.count("plikd_migrate_checkpoints")?, 1);
        }
    }
    ensure!(left_behind > 2, "only {left_behind} loads were cut off");
    let run = scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    assert_eq!(run.summary("files")?.copied, from.database.count("files")?);
    assert_eq!(from.database.rows()?, to.database.rows()?);
    ensure!(!loading.exists(), "the file was left behind");
    Ok(())
}

#[test]
fn interrupted_it_leaves_no_file() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.local("to")?);
    let loading = loading_file(&to)?;
    let run = start(&scene, &from, &to)?;
    wait_until("the file is filled", || Ok(loading.exists()))?;
    signal(&run, Signal::INT)?;
    finish(run)?.expect(130)?;
    ensure!(!loading.exists(), "the file was left behind");
    assert_eq!(to.database.count("files")?, 0);
    Ok(())
}

/// An index of the target's own refuses one row, which is named.
#[test]
fn a_row_that_is_refused_is_named() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.local("to")?);
    scene.serve(&to).map(drop)?;
    to.database
        .query("CREATE UNIQUE INDEX one_domain ON users (email)")?;
    from.database
        .query("UPDATE users SET email = 'a@example.org' WHERE id IN (SELECT id FROM users ORDER BY id LIMIT 2)")?;
    from.database
        .query("UPDATE users SET email = id WHERE email <> 'a@example.org'")?;
    let twice = from
        .database
        .query("SELECT id FROM users WHERE email = 'a@example.org' ORDER BY id")?;
    ensure!(twice.len() > 1, "{twice:?}");
    scene
        .migrate(&from, &to, &["--metadata-only"])?
        .expect(1)?
        .says(&[&twice[1][0], "UNIQUE constraint failed: users.email"])?;
    ensure!(!loading_file(&to)?.exists(), "the file was left behind");
    to.database.query("DROP INDEX one_domain")?;
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

/// The old file must not be taken away from under somebody, nor its log be left to the new one.
#[test]
fn a_database_that_another_program_has_open_is_loaded_all_the_same() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.local("to")?);
    scene.serve(&to).map(drop)?;
    let other = rusqlite::Connection::open(path_of(&to)?)?;
    let files = |connection: &rusqlite::Connection| {
        connection.query_row("SELECT count(*) FROM files", (), |row| row.get::<_, i64>(0))
    };
    assert_eq!(files(&other)?, 0);
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    assert_eq!(files(&other)?.unsigned_abs(), from.database.count("files")?);
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

#[test]
fn the_file_keeps_its_permissions() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.local("to")?);
    scene.serve(&to).map(drop)?;
    let path = path_of(&to)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660))?;
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    let mode = fs::metadata(&path)
        .context("the database")?
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    Ok(())
}
