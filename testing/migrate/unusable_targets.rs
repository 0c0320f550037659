//! Targets that cannot be migrated to, and what is created with which permissions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::interlocks::refused;
use crate::places::{Database, Store};
use crate::scene::{NO_FILES, SMALL, Scene, run};
use crate::unusable_sources::cut_off;

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

/// That there is no room for it is no reason to stop before the first of the others.
#[test]
fn a_row_that_promises_more_than_any_disk_has() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("source", SMALL)?, scene.local("to")?);
    let id = from
        .database
        .value("SELECT min(id) FROM files WHERE status = 'uploaded'")?;
    let change = format!("UPDATE files SET size = 4611686018427387904 WHERE id = '{id}'");
    from.database.query(&change)?;
    let run = scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?;
    run.says(&[&id])?.never_says(&["free some space"])?;
    Ok(())
}

/// A pipe says once what it says, as `--to <(decrypt target.cfg)` does.
#[test]
fn the_configuration_of_the_target_may_come_from_a_pipe() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("source", SMALL)?, scene.local("to")?);
    let mut migration = scene.migration(&from.config, Path::new("/dev/stdin"), &[]);
    migration.stdin(fs::File::open(&to.config)?);
    run(migration)?.expect(0)?;
    assert_eq!(to.database.rows()?, from.database.rows()?);
    Ok(())
}
