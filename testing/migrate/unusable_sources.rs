//! Sources that cannot be migrated: never initialised, newer, cut off, hidden, not mounted.

use std::fs;

use anyhow::{Context, Result};

use crate::interlocks::refused;
use crate::places::Database;
use crate::scene::{NO_FILES, SMALL, Scene, Server, run};

#[test]
fn a_source_that_was_never_initialised() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.local("from")?, scene.local("to")?);
    let hint = "if it is, start the server on it once, which creates the tables";
    refused(&scene, &from, &to, &[], 3)?.says(&["was never initialised", hint])?;
    fs::write(scene.path("from.db"), "")?;
    refused(&scene, &from, &to, &[], 3)?.says(&["was never initialised", hint])?;
    fs::write(
        scene.path("from.db"),
        "no database at all, but long enough to be looked at, surely",
    )?;
    refused(&scene, &from, &to, &[], 3)?.says(&["is no SQLite database"])?;
    Ok(())
}

#[test]
fn a_source_of_another_program() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.local("from")?, scene.local("to")?);
    from.database
        .query("CREATE TABLE users (uid integer primary key, name text)")?;
    refused(&scene, &from, &to, &[], 3)?.says(&["unknown layout", "another program"])?;
    Ok(())
}

#[test]
fn a_source_that_is_newer() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database
        .query("INSERT INTO migrations (id) VALUES ('0012-the-future')")?;
    refused(&scene, &from, &to, &[], 6)?
        .says(&["0012-the-future", "hint: install a newer plikd"])?;
    Ok(())
}

/// Leaves the files of a database as a program leaves them that dies in a transaction, part of
/// which is in the file already.
pub fn cut_off(scene: &Scene, server: &Server) -> Result<()> {
    let (database, journal) = (scene.path("from.db"), scene.path("from.db-journal"));
    assert_eq!(server.database.url(), database.display().to_string());
    let dying = rusqlite::Connection::open(&database)?;
    dying.execute_batch(
        "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN IMMEDIATE; \
         UPDATE uploads SET comments = 'HALF' || hex(zeroblob(2000))",
    )?;
    let (half, undo) = (fs::read(&database)?, fs::read(&journal)?);
    drop(dying);
    fs::write(&database, half)?;
    fs::write(&journal, undo)?;
    Ok(())
}

/// Reading it means rolling back, which is not ours to do.
#[test]
fn a_source_that_was_cut_off_in_a_transaction() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    cut_off(&scene, &from)?;
    refused(&scene, &from, &to, &[], 1)?.says(&[
        "was left in the middle of a transaction by a program that died",
        "hint: start its server once",
    ])?;
    drop(scene.serve(&from)?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let half = "SELECT count(*) FROM uploads WHERE comments LIKE 'HALF%'";
    assert_eq!(to.database.value(half)?, "0");
    Ok(())
}

/// To a user like this one the source would seem to have fewer rows, or none.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_postgres_source_that_hides_rows() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", NO_FILES)?;
    let (from, to) = (scene.postgres("from")?, scene.local("to")?);
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    let Database::Postgres { name, .. } = &from.database else {
        unreachable!("a database was made")
    };
    let role = format!("{name}_reader");
    from.database.query(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'reader'; GRANT USAGE ON SCHEMA public TO {role}; \
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; \
         ALTER TABLE uploads ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY few ON uploads USING (id < 'M')"
    ))?;
    let url = from.database.url();
    let (_, host) = url.split_once('@').context("a URL with a password")?;
    let reader = scene.write(
        "reader.cfg",
        &format!("[MetadataBackendConfig]\nDriver = \"postgres\"\nConnectionString = \"postgres://{role}:reader@{host}\"\n"),
    )?;
    let options = ["--metadata-only"];
    let hidden = run(scene.migration(&reader, &to.config, &options))?;
    // What is there already must not be taken for extra.
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let rows = to.database.rows()?;
    let options = ["--metadata-only", "--sync", "--delete"];
    let sync = run(scene.migration(&reader, &to.config, &options))?;
    from.database.query(&format!(
        "GRANT {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"
    ))?;
    for run in [hidden, sync] {
        run.expect(4)?
            .says(&["hides rows from this user", "hint: let", "BYPASSRLS"])?;
    }
    assert_eq!(to.database.rows()?, rows);
    Ok(())
}

/// A name that is wrong, or a disk that is not mounted.
#[test]
fn a_source_directory_that_is_not_there_or_empty() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    fs::rename(scene.path("from.files"), scene.path("elsewhere"))?;
    for said in ["does not exist, but ", "is empty, but "] {
        for options in [&[][..], &["--ignore-errors"]] {
            refused(&scene, &from, &to, options, 1)?
                .says(&[said, "✗ source data: ", "hint: mount its disk"])?
                .never_says(&["✓ source data", "failed: blob"])?;
        }
        scene
            .migrate(&from, &to, &["--metadata-only", "--dry-run"])?
            .expect(0)?;
        fs::create_dir_all(scene.path("from.files"))?;
    }
    // Without a blob there is nothing to be missed.
    let bare = scene.made_up("bare", NO_FILES)?;
    fs::remove_dir(scene.path("bare.files"))?;
    scene.migrate(&bare, &to, &[])?.expect(0)?;
    Ok(())
}
