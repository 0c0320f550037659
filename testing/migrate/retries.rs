//! Backends that go away in the middle and come back: the run waits, and goes on by itself.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::own_postgres::Cluster;
use crate::own_s3::OwnS3;
use crate::places::{Database, Store};
use crate::scene::{NO_FILES, SOME, Scene, finish, signal, wait_until};

/// A source whose rows take a while, written into a moment before the copy is complete.
const ROWS: &[&str] = &[
    "--users=100",
    "--tokens=2",
    "--uploads=50",
    "--files=10",
    "--anon-uploads=0",
    "--file-size=0",
];

/// What the tests ask for, so that nothing waits long and every batch is seen.
const PATIENT: &[&str] = &["--metadata-only", "--retry-for=2m", "--nice=5"];

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_target_that_is_restarted_in_the_middle() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", ROWS)?;
    let cluster = Cluster::start(&scene)?;
    let url = cluster.url("plik");
    let config =
        format!("[MetadataBackendConfig]\nDriver = \"postgres\"\nConnectionString = \"{url}\"\n");
    let to = scene.write("to.cfg", &config)?;
    let run = scene.migration(&from.config, &to, PATIENT).spawn()?;
    wait_until("some rows are there", || {
        let tables = Database::query_url(&url, "SELECT to_regclass('plikd_migrate_checkpoints')")?;
        Ok(tables[0][0] != "NULL"
            && Database::query_url(&url, "SELECT count(*) FROM users")?[0][0] != "0")
    })?;
    cluster.control(&["stop", "-m", "immediate"])?;
    // Whoever asks now is refused, as in a fail-over.
    std::thread::sleep(std::time::Duration::from_secs(1));
    cluster.control(&["start"])?;
    finish(run)?.expect(0)?.says(&["retry 1 in "])?;
    let count = Database::query_url(&url, "SELECT count(*) FROM files")?;
    assert_eq!(count[0][0], from.database.count("files")?.to_string());
    let missing = Database::query_url(
        &url,
        "SELECT count(*) FROM pg_constraint WHERE contype IN ('p', 'f')",
    )?;
    ensure!(missing[0][0] != "0", "keys are missing");
    // And what is there is what a run without any trouble finds.
    scene
        .migrate_config(&from.config, &to, &["--metadata-only"])?
        .expect(0)?
        .never_says(&["retry ", "conflict: "])?;
    Ok(())
}

/// Its answer shows that the address is right, so it is waited for from the first attempt on.
#[test]
fn a_target_that_is_still_starting() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    let server = TcpListener::bind(("127.0.0.1", 0))?;
    let port = server.local_addr()?.port();
    thread::spawn(move || {
        for client in server.incoming() {
            let _ = client.and_then(|client| refuse(client, "57P03"));
        }
    });
    let config = format!(
        "[MetadataBackendConfig]\nDriver = \"postgres\"\n\
         ConnectionString = \"postgres://plik@127.0.0.1:{port}/plik?sslmode=disable\"\n"
    );
    let to = scene.write("to.cfg", &config)?;
    scene
        .migrate_config(&from.config, &to, &["--metadata-only", "--retry-for=1s"])?
        .expect(4)?
        .says(&["retry 1 in", "is starting or stopping"])?;
    Ok(())
}

/// What PostgreSQL says to a client that it lets in later.
fn refuse(mut client: TcpStream, code: &str) -> io::Result<()> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut startup)?;
    let fields = format!("SFATAL\0VFATAL\0C{code}\0Mnot yet\0\0");
    let length = (fields.len() + 4) as u32;
    client.write_all(b"E")?;
    client.write_all(&length.to_be_bytes())?;
    client.write_all(fields.as_bytes())
}

/// Such as a load balancer with nothing behind it.
#[test]
fn a_target_that_accepts_connections_and_says_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    let silent = TcpListener::bind(("127.0.0.1", 0))?;
    let port = silent.local_addr()?.port();
    let config = format!(
        "[MetadataBackendConfig]\nDriver = \"postgres\"\nConnectionString = \
         \"postgres://plik@127.0.0.1:{port}/plik?sslmode=disable&connect_timeout=1\"\n"
    );
    let to = scene.write("to.cfg", &config)?;
    scene
        .migrate_config(&from.config, &to, &["--metadata-only"])?
        .expect(4)?
        .says(&["it accepts a connection and then does not answer"])?;
    Ok(())
}

/// After the loss a new moment of the source is read, with rows that sort before the checkpoint.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_source_that_is_lost_and_written_to_meanwhile() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", ROWS)?;
    let from = scene.server(
        "from",
        Database::postgres()?,
        Store::Directory(scene.path("made-up.files")),
    )?;
    scene
        .migrate(&made_up, &from, &["--metadata-only"])?
        .expect(0)?;
    let to = scene.local("to")?;
    let run = scene.migration(&from.config, &to.config, PATIENT).spawn()?;
    wait_until("some rows are there", || {
        Ok(
            scene.path("to.db").exists() && to.database.count("users").is_ok_and(|rows| rows > 0)
                || scene.path("to.db.loading").exists(),
        )
    })?;
    from.database.add_upload("00000000")?;
    let lost = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    ensure!(from.database.value(lost)? != "0", "nobody was connected");
    finish(run)?.expect(0)?.says(&["retry 1 in "])?;
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_bucket_that_comes_back_in_the_middle() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SOME)?;
    let (s3, server) = OwnS3::start(&scene, &[])?;
    let store = Store::Bucket {
        server: server.clone(),
        bucket: "plik".into(),
        settings: String::new(),
    };
    let to = scene.server("to", Database::Sqlite(scene.path("to.db")), store)?;
    let options = ["--retry-for=2m", "--max-rps=50"];
    let run = scene
        .migration(&from.config, &to.config, &options)
        .spawn()?;
    let objects = || -> usize { count(&scene.path("s3/plik")) };
    wait_until("some blobs are there", || Ok(objects() > 20))?;
    drop(s3);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let port = server.rsplit(':').next().context("a port")?;
    let (_s3, _) = OwnS3::start(&scene, &["--port", port])?;
    let run = finish(run)?.expect(0)?.says(&["retry 1 in ", ": blob "])?;
    assert_eq!(run.summary("blobs")?.failed, 0);
    assert_eq!(
        from.store.blobs(&from.database)?,
        to.store.blobs(&to.database)?
    );
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, |entries| entries.count())
}

/// Slow enough never to end by itself, until the file says otherwise.
#[test]
fn limits_change_while_it_runs() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.local("to")?);
    let limits = scene.write("limits.toml", "bwlimit = \"100\"\n")?;
    let file = limits.to_str().context("a path")?;
    let run = scene
        .migration(&from.config, &to.config, &["--limits", file])
        .spawn()?;
    wait_until("it has begun", || Ok(scene.path("to.files").exists()))?;
    fs::write(&limits, "bwlimit = \"fast\"\n")?;
    signal(&run, Signal::HUP)?;
    // The file must have been read before it is mended.
    std::thread::sleep(std::time::Duration::from_secs(1));
    fs::write(&limits, "max-rps = 1000\nnice = 0\n")?;
    signal(&run, Signal::HUP)?;
    finish(run)?.expect(0)?.says(&[
        "the limits stay as they are",
        "limits: bandwidth 100 B/s, requests unlimited, nice off",
        "cannot be used: bwlimit: ",
        "limits changed: bandwidth unlimited, requests 1000/s, nice 0",
    ])?;
    assert_eq!(
        from.store.blobs(&from.database)?,
        to.store.blobs(&to.database)?
    );
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

#[test]
fn a_pipe_in_the_place_of_the_limits_is_not_waited_for() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.local("to")?);
    let limits = scene.write("limits.toml", "bwlimit = \"8KiB\"\n")?;
    let pipe = || {
        std::fs::remove_file(&limits)?;
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &limits,
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )?;
        anyhow::Ok(())
    };
    let file = limits.to_str().context("a path")?;
    let options = ["--limits", file, "--workers=1"];
    let run = scene
        .migration(&from.config, &to.config, &options)
        .spawn()?;
    wait_until("it has begun", || Ok(scene.path("to.files").exists()))?;
    pipe()?;
    signal(&run, Signal::HUP)?;
    let said = ["cannot be used: it is no regular file"];
    finish(run)?.expect(0)?.says(&said)?;
    // Nor is it at the start.
    scene
        .migrate(&from, &to, &options)?
        .expect(2)?
        .says(&said)?;
    Ok(())
}

#[test]
fn a_run_within_limits_ends_as_one_without() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.local("to")?);
    let options = ["--bwlimit=00:00,2MiB 12:00,3MiB", "--nice", "--max-rps=1"];
    scene.migrate(&from, &to, &options)?.expect(0)?;
    assert_eq!(
        from.store.blobs(&from.database)?,
        to.store.blobs(&to.database)?
    );
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

#[test]
fn limits_that_make_no_sense_are_bad_usage() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.local("from")?, scene.local("to")?);
    scene.write("limits.toml", "bwlimits = \"1MiB\"\n")?;
    for (options, said) in [
        (&["--bwlimit=0"][..], "lets nothing pass"),
        (&["--bwlimit=25:00,1MiB"], "is no time and rate"),
        (&["--max-rps=0"], "--max-rps"),
        (&["--nice=-1"], "a number from 0 to 100"),
        (&["--retry-for=soon"], "--retry-for"),
        (&["--limits=absent.toml"], "absent.toml cannot be used"),
        (&["--limits=limits.toml"], "bwlimits"),
        (
            &["--limits=limits.toml", "--max-rps=1"],
            "cannot be used with",
        ),
    ] {
        scene
            .migrate(&from, &to, options)?
            .expect(2)?
            .says(&[said])?;
    }
    Ok(())
}
