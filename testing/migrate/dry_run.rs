//! A dry run says what would be done, and leaves no trace on either side.

use anyhow::{Result, ensure};

use crate::places::{Database, Store};
use crate::scene::{Run, SMALL, Scene, Server};

/// The dry run announces what the run then does.
fn announces(scene: &Scene, from: &Server, to: &Server) -> Result<()> {
    let before = scene.listing()?;
    let tokens = from.database.query("SELECT token FROM tokens")?;
    let would = scene.migrate(from, to, &["--dry-run", "-v"])?.expect(0)?;
    scene.is_as(&before)?;
    let would = would.says(&["dry run: nothing was written", "copy      files "])?;
    for token in tokens.iter().flatten() {
        ensure!(!would.stderr.contains(token), "a token was printed");
        ensure!(!would.stdout.contains(token), "a token was printed");
    }
    let did = scene.migrate(from, to, &[])?.expect(0)?;
    for what in [
        "users",
        "tokens",
        "uploads",
        "files",
        "settings",
        "usage_stats",
        "blobs",
    ] {
        assert_eq!(would.summary(what)?, did.summary(what)?, "{what}");
    }
    let uploaded = from
        .database
        .value("SELECT count(*) FROM files WHERE status = 'uploaded'")?;
    would.says(&[&format!("status uploaded {uploaded:>17} files, ")])?;

    let again = scene.migrate(from, to, &["--dry-run"])?.expect(0)?;
    for what in ["files", "blobs"] {
        let expected = did.summary(what)?;
        assert_eq!(again.summary(what)?.present, expected.copied, "{what}");
        assert_eq!(again.summary(what)?.copied, 0, "{what}");
    }
    Ok(())
}

#[test]
fn announces_what_the_run_does() -> Result<()> {
    let scene = Scene::new()?;
    announces(&scene, &scene.made_up("from", SMALL)?, &scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn announces_what_the_run_does_to_services() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.server("to", Database::postgres()?, Store::bucket()?)?;
    announces(&scene, &scene.made_up("from", SMALL)?, &to)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn creates_no_table_and_no_bucket() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let to = scene.server("to", Database::postgres()?, Store::bucket()?)?;
    scene
        .migrate(&from, &to, &["--dry-run"])?
        .expect(0)?
        .says(&["does not exist yet and will be created"])?
        .never_says(&["space: "])?;
    let relations = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
         WHERE nspname = 'public'";
    assert_eq!(to.database.value(relations)?, "0");
    let missing = to.store.blobs(&from.database).unwrap_err();
    ensure!(
        format!("{missing:?}").contains("NoSuchBucket"),
        "{missing:?}"
    );
    Ok(())
}

/// A server that is running, or died, leaves a log beside its database: it is read and stays.
#[test]
fn reads_a_log_and_leaves_it() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    let Database::Sqlite(path) = &from.database else {
        unreachable!("local servers have a file")
    };
    let living = rusqlite::Connection::open(path)?;
    living.pragma_update(None, "journal_mode", "WAL")?;
    living.execute("INSERT INTO settings (key, value) VALUES ('late', '1')", ())?;
    let before = scene.listing()?;
    let settings = from.database.count("settings")?;
    let would = scene.migrate(&from, &to, &["--dry-run"])?.expect(0)?;
    assert_eq!(would.summary("settings")?.copied, settings);
    // The index of the log is shared memory, whose bytes tell who is reading.
    let stays = |line: &&String| !line.contains("from.db-shm");
    let after = scene.listing()?;
    assert!(before.iter().filter(stays).eq(after.iter().filter(stays)));
    Ok(())
}

#[test]
fn reads_what_it_may_not_write() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    from.database.query("PRAGMA journal_mode = WAL")?;
    let before = scene.listing()?;
    scene.migrate(&from, &to, &["--dry-run"])?.expect(0)?;
    scene.is_as(&before)?;
    Ok(())
}

#[test]
fn ends_as_the_run_does_where_that_cannot_start() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let bare = scene.local("bare")?;
    all_end_with(&scene, &bare, &from, &[], 3)?.says(&["was never initialised"])?;
    let run = all_end_with(&scene, &from, &from, &[], 2)?;
    run.says(&[
        "✗ places: source and target are the same metadata",
        "✗ places: source and target are the same data",
        "plikd: the migration cannot start: 2 problems, listed above",
        "hint: name another place in the file of --to",
    ])?
    .never_says(&["alone"])?;
    Ok(())
}

/// Dry run, plan and run with the same options, in this order; nothing but the run writes.
fn all_end_with(
    scene: &Scene,
    from: &Server,
    to: &Server,
    options: &[&str],
    code: i32,
) -> Result<Run> {
    // The index of a log is shared memory, whose bytes tell who is reading.
    let listing = || -> Result<Vec<String>> {
        let listing = scene.listing()?.into_iter();
        Ok(listing.filter(|line| !line.contains(".db-shm")).collect())
    };
    let before = listing()?;
    let dry = scene.migrate(from, to, &[&["--dry-run"], options].concat())?;
    let dry = dry.expect(code)?;
    assert_eq!(listing()?, before);
    let plan = scene.migrate(from, to, &[&["--plan", "plan.json"], options].concat())?;
    plan.expect(code)?;
    scene.migrate(from, to, options)?.expect(code)?;
    Ok(dry)
}

#[test]
fn ends_as_the_run_does_where_rows_differ() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    all_end_with(&scene, &from, &to, &[], 0)?;
    to.database.add_upload("extraUpload")?;
    // Without a comparison the run does not see it.
    all_end_with(&scene, &from, &to, &["--no-verify"], 0)?;
    all_end_with(&scene, &from, &to, &[], 20)?;
    to.database
        .query("DELETE FROM uploads WHERE id = 'extraUpload'")?;
    to.database
        .query("UPDATE users SET name = 'mine' WHERE id = (SELECT min(id) FROM users)")?;
    all_end_with(&scene, &from, &to, &["--no-verify"], 20)?;
    all_end_with(&scene, &from, &to, &["--sync"], 0)?;
    Ok(())
}

/// A run that cannot come to its end is not announced as one that can, and has no plan.
#[test]
fn says_that_the_run_would_stop_and_what_mends_it() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    from.database
        .query("INSERT INTO users (id, name) VALUES (NULL, 'x')")?;
    let would = "plikd: the run would stop before it wrote anything: 1 row of the source";
    let dry = all_end_with(&scene, &from, &to, &[], 1)?;
    dry.says(&[
        would,
        "(give the row a key of text, or delete it)",
        "hint: mend the rows",
    ])?;
    ensure!(!scene.path("plan.json").exists(), "a plan was written");
    let plan = scene
        .migrate(&from, &to, &["--plan", "plan.json"])?
        .expect(1)?;
    plan.says(&[would, "no plan: nothing was written"])?
        .never_says(&["next: "])?;
    all_end_with(&scene, &from, &to, &["--ignore-errors"], 20)?;
    ensure!(scene.path("plan.json").exists(), "no plan was written");
    Ok(())
}

#[test]
fn says_that_the_run_would_stop_at_a_blob() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    from.database.add_upload("theUpload")?;
    from.database
        .add_file("goneFile", "theUpload", "uploaded", b"gone")?;
    all_end_with(&scene, &from, &to, &[], 1)?.says(&[
        "reject    blob goneFile",
        "plikd: the run would stop before the rows: 1 blob cannot be copied",
    ])?;
    all_end_with(&scene, &from, &to, &["--ignore-errors"], 20)?;
    Ok(())
}
