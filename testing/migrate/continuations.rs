//! What a target holds of a run that was cut off, met by one that is not its continuation.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::interlocks::refused;
use crate::places::{Database, Store};
use crate::scene::{
    NO_FILES, SMALL, SOME, Scene, Server, assert_equal, finish, run, signal, wait_until,
};

/// A run that is killed among its blobs.
fn cut_off(scene: &Scene, from: &Server, to: &Server) -> Result<()> {
    let options = ["--workers=1", "--bwlimit=64KiB"];
    let cut = scene
        .migration(&from.config, &to.config, &options)
        .spawn()?;
    wait_until("it has begun", || {
        let begun = to
            .database
            .value("SELECT count(*) FROM plikd_migrate_checkpoints");
        Ok(begun.is_ok_and(|begun| begun != "0"))
    })?;
    // Some blobs arrive.
    sleep(Duration::from_millis(500));
    signal(&cut, Signal::KILL)?;
    finish(cut)?;
    Ok(())
}

fn refuses_another_source(scene: &Scene, to: Server) -> Result<()> {
    let from = scene.made_up("from", SOME)?;
    let other = scene.made_up("other", &[SMALL, &["--seed=5"]].concat())?;
    cut_off(scene, &from, &to)?;
    let before = to.database.rows()?;
    for options in [&[][..], &["--metadata-only"], &["--sync"]] {
        for (dry, code) in [(Some("--dry-run"), 7), (None, 7)] {
            let options: Vec<&str> = options.iter().copied().chain(dry).collect();
            scene.migrate(&other, &to, &options)?.expect(code)?.says(&[
                "is the target of a migration from another source",
                "hint: run that migration to its end; or empty the target",
            ])?;
        }
    }
    assert_eq!(to.database.rows()?, before);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_equal(&from, &to)?;
    // One that has come to its end is in nobody's way: what is there is told.
    scene
        .migrate(&other, &to, &[])?
        .expect(20)?
        .says(&["only the target has it"])?;
    Ok(())
}

#[test]
fn half_a_migration_from_another_source_is_not_mixed_with_this_one() -> Result<()> {
    let scene = Scene::new()?;
    refuses_another_source(&scene, scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn half_a_migration_from_another_source_is_not_mixed_with_this_one_in_postgres() -> Result<()> {
    let scene = Scene::new()?;
    refuses_another_source(&scene, scene.postgres("to")?)
}

/// Its key makes the database another source, of which nothing is there yet.
#[test]
fn half_a_migration_from_before_the_first_start_of_its_server_has_a_way_out() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.local("to")?);
    let key = "authentication_signature_key";
    from.database
        .query(&format!("DELETE FROM settings WHERE key = '{key}'"))?;
    cut_off(&scene, &from, &to)?;
    from.database.query(&format!(
        "INSERT INTO settings (key, value) VALUES ('{key}', 'new')"
    ))?;
    scene.migrate(&from, &to, &[])?.expect(7)?.says(&[
        "is the target of a migration from another source",
        "hint: a server has started on the source since, so that migration cannot go on",
    ])?;
    for table in ["checkpoints", "blobs", "owned"] {
        to.database
            .query(&format!("DROP TABLE plikd_migrate_{table}"))?;
    }
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_equal(&from, &to)
}

#[test]
fn what_arrived_in_another_directory_is_not_taken_for_arrived() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.local("to")?);
    cut_off(&scene, &from, &to)?;
    let elsewhere = Store::Directory(scene.path("elsewhere"));
    let to = scene.server("moved", Database::Sqlite(scene.path("to.db")), elsewhere)?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_equal(&from, &to)
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn what_arrived_under_another_prefix_is_not_taken_for_arrived() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SOME)?;
    let bucket = Store::bucket()?;
    let Store::Bucket {
        server,
        bucket,
        settings,
    } = &bucket
    else {
        unreachable!("a bucket was made")
    };
    let under = |name: &str, prefix: &str| {
        let store = Store::Bucket {
            server: server.clone(),
            bucket: bucket.clone(),
            settings: format!("{settings}\nPrefix = \"{prefix}\""),
        };
        scene.server(name, Database::Sqlite(scene.path("to.db")), store)
    };
    cut_off(&scene, &from, &under("one", "one")?)?;
    let to = under("two", "two")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_equal(&from, &to)
}

/// A row that the target takes and does not keep.
#[test]
fn a_target_that_changes_what_is_written_to_it_is_found_out() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    to.database.query(
        "CREATE TRIGGER loses AFTER INSERT ON uploads BEGIN DELETE FROM uploads WHERE id = NEW.id; END",
    )?;
    from.database.add_upload("lostUpload")?;
    let run = scene
        .migrate(&from, &to, &["--report", "report.json"])?
        .expect(21)?;
    run.says(&[
        "table uploads differs between source and target after the copy: a row missing, 0 rows different",
        "lostUpload",
        "hint: ",
    ])?;
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(scene.path("report.json"))?)?;
    assert_eq!(report["exit_code"], 21);
    scene
        .verify(&from, &to, &[])?
        .expect(21)?
        .says(&["missing: uploads lostUpload"])?;
    to.database.query("DROP TRIGGER loses")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    Ok(())
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_source_whose_bucket_is_not_there() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", SMALL)?;
    let Store::Bucket {
        server, settings, ..
    } = Store::bucket()?
    else {
        unreachable!("a bucket was made")
    };
    let absent = Store::Bucket {
        server,
        bucket: "plikd-no-such-bucket".to_owned(),
        settings,
    };
    let from = scene.server("from", made_up.database, absent)?;
    refused(&scene, &from, &scene.local("to")?, &[], 4)?.says(&[
        "the source cannot be used",
        "there is no such bucket",
        "plikd-no-such-bucket",
    ])?;
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_database_that_takes_no_more_connections() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let full = scene.postgres("full")?;
    let name = full.database.value("SELECT current_database()")?;
    // A limit does not hold for superusers, so somebody else comes.
    let user = format!("{name}_user");
    full.database
        .query(&format!("CREATE ROLE {user} LOGIN PASSWORD 'secret-word'"))?;
    full.database
        .query(&format!("ALTER DATABASE {name} CONNECTION LIMIT 0"))?;
    let url = full.database.url();
    let (_, host) = url.rsplit_once('@').unwrap_or(("", &url));
    let host = host.trim_start_matches("postgres://");
    let config = scene.write(
        "to.cfg",
        &format!(
            "[MetadataBackendConfig]\nDriver = \"postgres\"\n\
             ConnectionString = \"postgres://{user}:secret-word@{host}\"\n"
        ),
    )?;
    let to = Server {
        config,
        database: Database::Sqlite(scene.path("unused.db")),
        store: Store::Directory(scene.path("unused")),
    };
    let refused = refused(&scene, &from, &to, &["--metadata-only"], 4);
    full.database.query(&format!("DROP ROLE {user}"))?;
    refused?.says(&["the target cannot be used", "too many connections"])?;
    Ok(())
}

/// A run whose end meets what another has left half: somebody has gone on with that one since this
/// one looked.
fn leaves_the_half_of_another(scene: &Scene, to: Server) -> Result<()> {
    let from = scene.made_up("from", SOME)?;
    let options = ["--workers=1", "--bwlimit=64KiB"];
    let migration = scene
        .migration(&from.config, &to.config, &options)
        .spawn()?;
    wait_until("it has begun", || {
        let begun = to
            .database
            .value("SELECT count(*) FROM plikd_migrate_checkpoints");
        Ok(begun.is_ok_and(|begun| begun != "0"))
    })?;
    for sql in [
        "INSERT INTO plikd_migrate_checkpoints (source, table_name, copied, present, conflicts, \
         failed) VALUES ('another', 'users', 1, 0, 0, 0), ('rejects:/r', '', 0, 0, 0, 0)",
        "INSERT INTO plikd_migrate_blobs (source, file_id, arrived, backend_details) \
         VALUES ('another', 'file', true, 'key')",
        "INSERT INTO plikd_migrate_owned (source, table_name, buckets) \
         VALUES ('another', 'users', '')",
    ] {
        to.database.query(sql)?;
    }
    finish(migration)?.expect(0)?;
    for table in ["checkpoints", "blobs", "owned"] {
        let left = format!("SELECT source FROM plikd_migrate_{table}");
        assert_eq!(to.database.query(&left)?, [["another"]], "{table}");
    }
    let mut server = scene.plikd();
    server.arg("--config").arg(&to.config);
    run(server)?.expect(7)?.says(&[
        "is the target of a migration that was cut off",
        "hint: run the migration again to its end",
    ])?;
    Ok(())
}

#[test]
fn the_end_of_a_run_leaves_what_another_source_has_half_done() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.local("to")?;
    leaves_the_half_of_another(&scene, to)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn the_end_of_a_run_leaves_what_another_source_has_half_done_in_postgres() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.postgres("to")?;
    leaves_the_half_of_another(&scene, to)
}
