//! What keeps a migration from starting: said before anything is written, with a way out.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use anyhow::{Context, Result};

use crate::places::{Database, Store};
use crate::scene::{NO_FILES, Run, SMALL, Scene, Server, run, wait_until};

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
fn the_same_database_by_another_name() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    symlink(scene.path("from.db"), scene.path("link.db"))?;
    fs::hard_link(scene.path("from.db"), scene.path("hard.db"))?;
    fs::create_dir(scene.path("sub"))?;
    for path in ["from.db", "link.db", "hard.db", "sub/../from.db"] {
        for path in [scene.path(path), PathBuf::from(path)] {
            let to = Store::Directory(scene.path("to.files"));
            let to = scene.server("to", Database::Sqlite(path), to)?;
            refused(&scene, &from, &to, &["--metadata-only"], 2)?.says(&[
                "source and target are the same metadata",
                "hint: give the file of --to",
            ])?;
            fs::remove_file(&to.config)?;
        }
    }
    Ok(())
}

#[test]
fn the_same_directory_by_another_name() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    symlink(scene.path("from.files"), scene.path("link"))?;
    for path in [
        scene.path("link"),
        scene.path("from.files/."),
        "from.files".into(),
    ] {
        let to = scene.server(
            "to",
            Database::Sqlite(scene.path("to.db")),
            Store::Directory(path),
        )?;
        for options in [&["--data-only"][..], &[]] {
            refused(&scene, &from, &to, options, 2)?
                .says(&["source and target are the same data"])?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn the_same_bucket_by_another_host_name() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made", SMALL)?;
    let store = Store::bucket()?;
    let Store::Bucket {
        server,
        bucket,
        settings,
    } = &store
    else {
        unreachable!("a bucket was made")
    };
    let alias = Store::Bucket {
        server: server.replace("127.0.0.1", "127.1"),
        bucket: bucket.clone(),
        settings: settings.clone(),
    };
    let from = scene.server("from", Database::Sqlite(scene.path("from.db")), store)?;
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    let to = scene.server("to", Database::Sqlite(scene.path("to.db")), alias)?;
    for options in [&["--data-only"][..], &[]] {
        refused(&scene, &from, &to, options, 2)?
            .says(&["source and target are the same data", "by another name"])?;
    }
    Ok(())
}

#[test]
fn a_directory_inside_the_other() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    symlink(scene.path("from.files"), scene.path("link"))?;
    for (path, said) in [
        (scene.path("from.files/new"), "the target's "),
        (scene.path("link/deep/er"), "the target's "),
        (scene.path("."), "the source's "),
    ] {
        let to = scene.server(
            "to",
            Database::Sqlite(scene.path("to.db")),
            Store::Directory(path),
        )?;
        refused(&scene, &from, &to, &[], 2)?.says(&[
            "source and target are the same data",
            said,
            " is inside the ",
            "from.files",
        ])?;
    }
    // A name that only begins the same is another place.
    let to = scene.server(
        "to",
        Database::Sqlite(scene.path("to.db")),
        Store::Directory(scene.path("from.files2")),
    )?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn the_same_postgres_by_another_host_name() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", NO_FILES)?;
    let files = |name: &str| Store::Directory(scene.path(name));
    let from = scene.server("from", Database::postgres()?, files("from"))?;
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    let url = from.database.url().replace("127.0.0.1", "localhost");
    let to =
        format!("[MetadataBackendConfig]\nDriver = \"postgres\"\nConnectionString = \"{url}\"\n");
    let to = scene.write("to.cfg", &to)?;
    run(scene.migration(&from.config, &to, &[]))?
        .expect(2)?
        .says(&["source and target are the same metadata"])?;
    Ok(())
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn the_same_bucket_unless_the_prefix_differs() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", SMALL)?;
    let bucket = Store::bucket()?;
    let sqlite = |name: &str| Database::Sqlite(scene.path(name));
    let from = scene.server("from", sqlite("from.db"), bucket.clone())?;
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    let to = scene.server("to", sqlite("to.db"), bucket.clone())?;
    refused(&scene, &from, &to, &[], 2)?.says(&["source and target are the same data"])?;
    let Store::Bucket { server, bucket, .. } = bucket else {
        unreachable!("a bucket was made")
    };
    let server = server.replace("127.0.0.1", "localhost");
    let other_name = Store::Bucket {
        server: server.clone(),
        bucket: bucket.clone(),
        settings: String::new(),
    };
    let to = scene.server("to", sqlite("to.db"), other_name)?;
    refused(&scene, &from, &to, &[], 2)?;
    let settings = "Prefix = \"below\"".to_owned();
    let below = scene.server(
        "below",
        sqlite("to.db"),
        Store::Bucket {
            server,
            bucket,
            settings,
        },
    )?;
    scene.migrate(&from, &below, &[])?.expect(0)?;
    Ok(())
}

#[test]
fn options_that_exclude_each_other() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    scene
        .migrate(&from, &to, &["--metadata-only", "--data-only"])?
        .expect(2)?
        .says(&["--metadata-only", "cannot be used with"])?;
    for options in [&["--workers", "0"][..], &["--workers", "many"]] {
        scene.migrate(&from, &to, options)?.expect(2)?;
    }
    Ok(())
}

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

/// The administrator has a configuration, but is somewhere else.
#[test]
fn a_source_without_a_configuration_file_asks_for_it() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.local("to")?;
    if Path::new("/etc/plikd.cfg").exists() {
        return Ok(());
    }
    let mut command = scene.plikd();
    command
        .args(["migrate", "--dry-run", "--to"])
        .arg(&to.config);
    run(command)?.expect(3)?.says(&[
        "was never initialised",
        "hint: there is no configuration file, neither plikd.cfg nor /etc/plikd.cfg: name it with \
         --config; or check",
    ])?;
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

#[test]
fn a_target_that_is_newer_or_of_another_program() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    let newer = scene.made_up("newer", NO_FILES)?;
    newer
        .database
        .query("INSERT INTO migrations (id) VALUES ('0012-the-future')")?;
    refused(&scene, &from, &newer, &[], 6)?
        .says(&["the target cannot be used", "0012-the-future"])?;
    let other = scene.local("other")?;
    other
        .database
        .query("CREATE TABLE users (uid integer primary key, name text)")?;
    refused(&scene, &from, &other, &[], 3)?
        .says(&["the target cannot be used", "unknown layout"])?;
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_target_that_cannot_be_reached_or_refuses() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let database = Database::postgres()?;
    let good = database.url();
    let (user, rest) = good.split_once('@').context("a URL with a password")?;
    let password = user.rsplit(':').next().context("a password")?;
    let wrong = good.replace(password, "wrong-password");
    let (server, _) = good.rsplit_once('/').context("a URL with a database")?;
    let (_, host) = rest.split_once(':').context("a port")?;
    let down = good.replace(host.split('/').next().context("a port")?, "1");
    for (url, said) in [
        (&down, "cannot be reached"),
        (&wrong, "refused"),
        (&format!("{server}/no_such_database"), "refused"),
    ] {
        let to = format!(
            "[MetadataBackendConfig]\nDriver = \"postgres\"\nConnectionString = \"{url}\"\n"
        );
        let to = scene.write("to.cfg", &to)?;
        let dry = run(scene.migration(&from.config, &to, &["--dry-run", "--metadata-only"]))?
            .expect(4)?;
        let real = run(scene.migration(&from.config, &to, &["--metadata-only"]))?.expect(4)?;
        for run in [dry, real] {
            run.says(&["the target cannot be used", said, "hint: check"])?
                .never_says(&[password, "wrong-password"])?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_postgres_target_that_may_not_be_written() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    let database = Database::postgres()?;
    let Database::Postgres { name, .. } = &database else {
        unreachable!("a database was made")
    };
    let role = format!("{name}_reader");
    database.query(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'reader'; REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    ))?;
    let url = database.url();
    let (_, host) = url.split_once('@').context("a URL with a password")?;
    let to = scene.write(
        "to.cfg",
        &format!("[MetadataBackendConfig]\nDriver = \"postgres\"\nConnectionString = \"postgres://{role}:reader@{host}\"\n"),
    )?;
    let dry = run(scene.migration(&from.config, &to, &["--dry-run", "--metadata-only"]))?;
    let real = run(scene.migration(&from.config, &to, &["--metadata-only"]))?;
    database.query(&format!("DROP ROLE {role}"))?;
    dry.expect(4)?.says(&["refused to", "hint: "])?;
    real.expect(4)?.says(&["refused to", "hint: "])?;
    Ok(())
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

/// A run that was killed leaves its target so, and the next one goes on. Who only looks does not
/// roll back.
#[test]
fn a_target_that_was_cut_off_in_a_transaction() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("source", SMALL)?, scene.local("from")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let whole = to.database.rows()?;
    cut_off(&scene, &to)?;
    let journal = scene.path("from.db-journal");
    let cut = "was left in the middle of a transaction by a program that died";
    scene
        .migrate(&from, &to, &["--dry-run"])?
        .expect(1)?
        .says(&[cut])?;
    assert!(fs::metadata(&journal)?.len() > 0);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(to.database.rows()?, whole);
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

#[test]
fn a_target_directory_that_may_not_be_written() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    fs::write(scene.path("file"), "a file is no directory")?;
    let sqlite = Database::Sqlite(scene.path("to.db"));
    let to = scene.server("to", sqlite, Store::Directory(scene.path("file")))?;
    refused(&scene, &from, &to, &[], 1)?.says(&["the target cannot be used", "not a directory"])?;
    Ok(())
}

#[test]
fn a_target_database_in_a_directory_that_is_not_there() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let sqlite = Database::Sqlite(scene.path("not/there/to.db"));
    let to = scene.server("to", sqlite, Store::Directory(scene.path("to.files")))?;
    refused(&scene, &from, &to, &[], 2)?.says(&["the target cannot be used", "not/there"])?;
    Ok(())
}

#[test]
fn a_target_that_says_nothing_different() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    let to = scene.write("to.cfg", "ListenPort = 8081\n")?;
    let before = scene.listing()?;
    run(scene.migration(&from.config, &to, &[]))?
        .expect(2)?
        .says(&["to.cfg", "hint: "])?;
    run(scene.migration(&from.config, &scene.path("absent.cfg"), &[]))?.expect(2)?;
    scene.is_as(&before)?;
    Ok(())
}

/// What is mistyped would send the run to another place.
#[test]
fn a_target_with_a_setting_that_means_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    let text = "[MetadataBackendConfig]\nConectionString = \"to.db\"\n";
    let to = scene.write("to.cfg", text)?;
    let before = scene.listing()?;
    for options in [&["--dry-run"][..], &[]] {
        run(scene.migration(&from.config, &to, options))?
            .expect(2)?
            .says(&[
                "unknown key ConectionString in [MetadataBackendConfig]: did you mean \
                 ConnectionString?",
                "hint: nothing was done; correct what is named, or remove it",
            ])?;
    }
    scene.is_as(&before)?;
    Ok(())
}

/// Only a warning for the server, and the reason of what is missing then.
#[test]
fn a_misspelt_table_of_the_source_is_named_before_what_is_missing() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.local("to")?;
    let text = "DataBackend = \"s3\"\n[DataBackendConfg]\nEndpoint = \"h\"\n";
    let from = scene.write("from.cfg", text)?;
    run(scene.migration(&from, &to.config, &[]))?
        .expect(2)?
        .says(&[
            "warning: unknown table [DataBackendConfg] in ",
            "did you mean DataBackendConfig?",
            "missing endpoint",
        ])?;
    Ok(())
}

/// The setting that containers use for their own server would otherwise win over the file.
#[test]
fn the_environment_of_the_source_does_not_reach_the_target() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    let path = |name: &str| scene.path(name).display().to_string();
    let mut command = scene.migration(&scene.write("empty.cfg", "")?, &to.config, &[]);
    command.env(
        "PLIKD_METADATA_BACKEND_CONFIG",
        format!("{{\"ConnectionString\":\"{}\"}}", path("from.db")),
    );
    command.env(
        "PLIKD_DATA_BACKEND_CONFIG",
        format!("{{\"Directory\":\"{}\"}}", path("from.files")),
    );
    run(command)?.expect(0)?;
    assert_eq!(from.database.rows()?, to.database.rows()?);

    let mut command = scene.migration(&from.config, &to.config, &[]);
    command.env(
        "PLIKD_TARGET_METADATA_BACKEND_CONFIG",
        format!("{{\"ConnectionString\":\"{}\"}}", path("other.db")),
    );
    command.env(
        "PLIKD_TARGET_DATA_BACKEND_CONFIG",
        format!("{{\"Directory\":\"{}\"}}", path("other.files")),
    );
    run(command)?.expect(0)?;
    assert_eq!(
        from.database.rows()?,
        Database::Sqlite(scene.path("other.db")).rows()?
    );
    Ok(())
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_bucket_with_another_secret() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let Store::Bucket {
        server,
        bucket,
        settings,
    } = Store::bucket()?
    else {
        unreachable!("a bucket was made")
    };
    let (before, host) = server.rsplit_once('@').context("credentials")?;
    let (key, _) = before.rsplit_once(':').context("a secret")?;
    let server = format!("{key}:another-secret@{host}");
    let store = Store::Bucket {
        server,
        bucket,
        settings,
    };
    let to = scene.server("to", Database::Sqlite(scene.path("to.db")), store)?;
    refused(&scene, &from, &to, &[], 4)?
        .says(&[
            "the target cannot be used",
            "refused to",
            "hint: check the access key and its secret",
        ])?
        .never_says(&["another-secret"])?;
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

/// With the target's section for data alone, the database of both is one.
#[test]
fn the_database_of_both_is_not_called_new() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let files = Store::Directory(scene.path("to.files"));
    let to = scene.write("to.cfg", &files.section())?;
    run(scene.migration(&from.config, &to, &["--dry-run"]))?
        .expect(2)?
        .says(&["source and target are the same metadata"])?
        .never_says(&["target metadata: "])?;
    Ok(())
}

#[test]
fn a_target_with_rows_of_others_is_pointed_out() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    let other = scene.made_up("other", NO_FILES)?;
    let pointed_out = "that did not come from this source";
    scene
        .migrate(&from, &other, &["--dry-run", "--metadata-only"])?
        .says(&[
            "! target metadata: ",
            "holds 2 users and 2 uploads ",
            pointed_out,
        ])?;
    // A target of this source is known, also in the middle of a run.
    for _ in 0..2 {
        scene
            .migrate(&from, &to, &["--metadata-only"])?
            .expect(0)?
            .never_says(&[pointed_out])?;
    }
    Ok(())
}

/// Rows hold password hashes and tokens.
#[test]
fn what_is_created_is_its_owners_alone_and_what_exists_stays_as_it_is() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    let modes = |names: [&str; 2]| -> Result<Vec<u32>> {
        let mode = |name| anyhow::Ok(fs::metadata(scene.path(name))?.permissions().mode() & 0o777);
        names.into_iter().map(mode).collect()
    };
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(modes(["to.db", "to.files"])?, [0o600, 0o700]);
    let other = scene.local("other")?;
    fs::write(scene.path("other.db"), "")?;
    fs::create_dir(scene.path("other.files"))?;
    for (name, mode) in [("other.db", 0o640), ("other.files", 0o755)] {
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(mode))?;
    }
    scene.migrate(&from, &other, &[])?.expect(0)?;
    assert_eq!(modes(["other.db", "other.files"])?, [0o640, 0o755]);
    Ok(())
}

/// The rows of another server, its secrets among them, are not what `--sync` may replace.
fn another_servers_rows_stay(scene: &Scene, to: &Server) -> Result<()> {
    let from = scene.made_up("from", SMALL)?;
    let other = scene.made_up("other", &[NO_FILES, &["--seed=5"]].concat())?;
    scene.migrate(&other, to, &["--metadata-only"])?.expect(0)?;
    for (server, whose) in [(&from, "ours"), (to, "theirs")] {
        server.database.query(&format!(
            "INSERT INTO settings (key, value) VALUES ('shared', '{whose}')"
        ))?;
    }
    let before = to.database.rows()?;
    for mode in [&["--sync"][..], &["--sync", "--delete"]] {
        for (dry, code) in [(Some("--dry-run"), 7), (None, 7)] {
            let options: Vec<&str> = mode.iter().copied().chain(dry).collect();
            scene.migrate(&from, to, &options)?.expect(code)?.says(&[
                "✗ target metadata: --sync would overwrite what is in ",
                "2 users and 2 uploads that did not come from this source",
                "hint: run the migration without --sync first: it overwrites nothing",
            ])?;
        }
    }
    assert_eq!(to.database.rows()?, before);
    // Who has seen what differs may ask for it.
    let shared = "SELECT value FROM settings WHERE key = 'shared'";
    let plain = scene.migrate(&from, to, &[])?.expect(20)?;
    plain.says(&["! target metadata: ", "conflict: settings shared"])?;
    assert_eq!(to.database.value(shared)?, "theirs");
    scene.migrate(&from, to, &["--sync"])?.expect(20)?;
    assert_eq!(to.database.value(shared)?, "ours");
    Ok(())
}

/// A file that is put in the place of another gets its inode at times.
#[test]
fn another_servers_database_in_the_same_file_is_another_source() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let to = scene.local("to")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    scene.migrate(&from, &to, &["--sync"])?.expect(0)?;
    from.database
        .query("UPDATE settings SET value = 'other' WHERE key = 'authentication_signature_key'")?;
    let before = to.database.rows()?;
    scene
        .migrate(&from, &to, &["--sync", "--delete"])?
        .expect(7)?
        .says(&["--sync would overwrite what is in "])?;
    assert_eq!(to.database.rows()?, before);
    Ok(())
}

#[test]
fn following_into_another_servers_database_is_refused() -> Result<()> {
    let scene = Scene::new()?;
    another_servers_rows_stay(&scene, &scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn following_into_another_servers_postgres_is_refused() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.postgres("to")?;
    another_servers_rows_stay(&scene, &to)
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
