//! Whole loads into a PostgreSQL without rows: bare tables, keys afterwards.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::places::{Database, Store};
use crate::resume::{LOADING_FILES, MANY_ROWS, refuses_to_serve, start};
use crate::scene::{NO_FILES, SMALL, Scene, Server, finish, signal, wait_until};

/// What is said of a whole load, and of no other.
const WHOLE_LOAD: &str = "Building ";
const STARTING_AGAIN: &str = "starting the rows again";

/// What an administrator may have added to the tables of a server.
const EXTRAS: &str = "\
    CREATE INDEX by_lower_name ON files (lower(name)) WHERE status = 'uploaded'; \
    CREATE INDEX by_size ON files USING btree (size DESC NULLS LAST) INCLUDE (name) \
        WITH (fillfactor = 70); \
    CREATE INDEX \"Odd \"\"name\" ON files (md5); \
    CREATE INDEX with_comment ON uploads (login); \
    COMMENT ON INDEX with_comment IS 'mine'; \
    ALTER TABLE uploads ADD CONSTRAINT one_token UNIQUE (id, upload_token) \
        DEFERRABLE INITIALLY DEFERRED; \
    ALTER TABLE files ADD CONSTRAINT not_negative CHECK (size >= 0); \
    CREATE TABLE favourites (file_id text REFERENCES files (id) ON DELETE CASCADE)";

/// Every index and constraint of the database, as PostgreSQL spells it.
pub const DEFINITIONS: &str = "\
    SELECT 'index', pg_get_indexdef(i.indexrelid) FROM pg_index i \
        JOIN pg_class t ON t.oid = i.indrelid WHERE t.relnamespace = 'public'::regnamespace \
        AND t.relname NOT LIKE 'plikd%' \
    UNION ALL SELECT k.conrelid::regclass || ' ' || k.conname, pg_get_constraintdef(k.oid) \
        FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid \
        WHERE t.relnamespace = 'public'::regnamespace AND t.relname NOT LIKE 'plikd%' \
    ORDER BY 1, 2";

const EMPTY: &str = "TRUNCATE users, tokens, uploads, files, settings, usage_stats, \
    download_stats_daily, upload_stats_daily CASCADE";

fn postgres(scene: &Scene, name: &str) -> Result<Server> {
    let files = scene.path(&format!("{name}.files"));
    scene.server(name, Database::postgres()?, Store::Directory(files))
}

/// A database whose tables are there, and have no rows.
fn empty_postgres(scene: &Scene) -> Result<Server> {
    let (from, to) = (scene.made_up("empty", NO_FILES)?, postgres(scene, "to")?);
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    to.database.query(EMPTY)?;
    Ok(to)
}

fn assert_whole(from: &Server, to: &Server, definitions: &[Vec<String>]) -> Result<()> {
    assert_eq!(from.database.rows()?, to.database.rows()?);
    assert_eq!(to.database.query(DEFINITIONS)?, definitions);
    assert_eq!(to.database.count("plikd_migrate_deferred")?, 0);
    assert_eq!(to.database.count("plikd_migrate_checkpoints")?, 0);
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn indexes_and_constraints_of_others_survive_a_whole_load() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, empty_postgres(&scene)?);
    to.database.query(EXTRAS)?;
    let before = to.database.query(DEFINITIONS)?;
    let run = scene.migrate(&from, &to, &["--metadata-only"])?;
    run.expect(0)?.says(&[WHOLE_LOAD])?;
    assert_whole(&from, &to, &before)?;
    let comment = "SELECT obj_description('with_comment'::regclass)";
    assert_eq!(to.database.value(comment)?, "mine");
    let again = scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    assert_eq!(again.summary("files")?.copied, 0);
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn rows_that_are_there_are_kept() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, empty_postgres(&scene)?);
    to.database
        .query("INSERT INTO settings VALUES ('mine', 'x')")?;
    let run = scene.migrate(&from, &to, &["--metadata-only"])?;
    run.expect(20)?.never_says(&[WHOLE_LOAD])?;
    assert_eq!(
        to.database
            .value("SELECT value FROM settings WHERE key = 'mine'")?,
        "x"
    );
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_text_too_long_for_its_index_is_named_although_a_whole_load_cannot() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, empty_postgres(&scene)?);
    let definitions = to.database.query(DEFINITIONS)?;
    from.database.add_upload("tooLong")?;
    from.database
        .query("UPDATE uploads SET user = hex(randomblob(8000)) WHERE id = 'tooLong'")?;
    let named = "rejected: uploads tooLong";
    let run = scene.migrate(&from, &to, &["--metadata-only"])?;
    run.expect(1)?.says(&[WHOLE_LOAD, STARTING_AGAIN, named])?;
    let options = &["--metadata-only", "--ignore-errors"];
    let run = scene.migrate(&from, &to, options)?.expect(20)?;
    assert_eq!(run.summary("uploads")?.failed, 1);
    from.database
        .query("DELETE FROM uploads WHERE id = 'tooLong'")?;
    assert_whole(&from, &to, &definitions)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_row_left_out_of_a_whole_load_is_told_once() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, postgres(&scene, "to")?);
    let id = from.database.value("SELECT min(id) FROM files")?;
    from.database.query(&format!(
        "UPDATE files SET name = 'a' || char(0) WHERE id = '{id}'"
    ))?;
    scene
        .migrate(&from, &to, &["--metadata-only"])?
        .expect(1)?
        .says(&["NUL", &id])?;
    let options = &["--metadata-only", "--ignore-errors"];
    let run = scene.migrate(&from, &to, options)?.expect(20)?;
    let run = run.says(&[WHOLE_LOAD])?.never_says(&[STARTING_AGAIN])?;
    assert_eq!(
        run.stderr.matches(&format!("rejected: files {id}")).count(),
        1
    );
    let (all, left) = (from.database.count("files")?, to.database.count("files")?);
    assert_eq!(left, all - 1);
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_load_killed_among_rows_is_resumed() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", &[MANY_ROWS, &["--file-size=0"]].concat())?;
    let to = empty_postgres(&scene)?;
    let definitions = to.database.query(DEFINITIONS)?;
    let run = start(&scene, &from, &to, &["--metadata-only"])?;
    wait_until("some files are there", || {
        Ok(to.database.value(LOADING_FILES)? == "t")
    })?;
    signal(&run, Signal::KILL)?;
    finish(run)?;
    assert_eq!(to.database.count("files")?, 0);
    ensure!(
        to.database.count("plikd_migrate_deferred")? > 0,
        "the tables are not bare"
    );
    refuses_to_serve(&scene, &to)?;
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    assert_whole(&from, &to, &definitions)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_load_killed_among_keys_is_resumed() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, empty_postgres(&scene)?);
    to.database.query(
        "CREATE FUNCTION slow(text) RETURNS text IMMUTABLE LANGUAGE plpgsql \
         AS 'BEGIN PERFORM pg_sleep(0.3); RETURN $1; END'; \
         CREATE INDEX is_slow ON users (slow(id))",
    )?;
    let definitions = to.database.query(DEFINITIONS)?;
    let run = start(&scene, &from, &to, &["--metadata-only"])?;
    let building = "SELECT count(*) FROM pg_stat_progress_create_index p \
         JOIN pg_class t ON t.oid = p.relid WHERE t.relname = 'users'";
    wait_until("the slow index is built", || {
        Ok(to.database.value(building)? != "0")
    })?;
    signal(&run, Signal::KILL)?;
    finish(run)?;
    let files = to.database.count("files")?;
    assert_eq!(files, from.database.count("files")?);
    refuses_to_serve(&scene, &to)?;
    // A load would empty the table first, which gives it another file.
    let loaded = "SELECT pg_relation_filenode('files')";
    let before = to.database.value(loaded)?;
    let run = scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    let run = run.says(&["Building "])?.never_says(&[STARTING_AGAIN])?;
    assert_eq!(to.database.value(loaded)?, before);
    assert_eq!(run.summary("files")?.copied, files);
    assert_whole(&from, &to, &definitions)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn numbers_go_on_behind_those_that_were_loaded() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (postgres(&scene, "from")?, postgres(&scene, "to")?);
    let made = scene.made_up("made", SMALL)?;
    scene
        .migrate(&made, &from, &["--metadata-only"])?
        .expect(0)?;
    let table = "CREATE TABLE visits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
        serial bigserial, note text)";
    from.database.query(table)?;
    from.database
        .query("INSERT INTO visits (note) SELECT 'n' FROM generate_series(1, 7)")?;
    to.database.query(table)?;
    scene
        .migrate(&from, &to, &["--metadata-only"])?
        .expect(0)?
        .says(&[WHOLE_LOAD])?;
    let next = "INSERT INTO visits (note) VALUES ('new') RETURNING id, serial";
    let row = to.database.query(next)?;
    assert_eq!(row.first().context("no row")?, &["8", "8"]);
    Ok(())
}
