//! Backends that go away in the middle, and readers of the output that do.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::own_s3::OwnS3;
use crate::places::{Database, Store};
use crate::scene::{NO_FILES, Run, SMALL, SOME, Scene, Server, finish, wait_until};

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_bucket_that_goes_away_in_the_middle() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SOME)?;
    let (s3, server) = OwnS3::start(&scene, &[])?;
    let store = Store::Bucket {
        server: server.clone(),
        bucket: "plik".into(),
        settings: String::new(),
    };
    let to = scene.server("to", Database::Sqlite(scene.path("to.db")), store)?;
    let options = ["--retry-for=1s"];
    let run = scene
        .migration(&from.config, &to.config, &options)
        .spawn()?;
    let bucket = scene.path("s3/plik");
    wait_until("some blobs are there", || {
        Ok(fs::read_dir(&bucket).is_ok_and(|objects| objects.count() > 20))
    })?;
    drop(s3);
    finish(run)?.expect(4)?.says(&[
        "cannot be reached",
        "hint: check that",
        "run the same command again",
    ])?;
    assert_eq!(to.database.count("files")?, 0);
    let port = server.rsplit(':').next().context("a port")?;
    let (_s3, _) = OwnS3::start(&scene, &["--port", port])?;
    let resumed = scene.migrate(&from, &to, &[])?.expect(0)?;
    ensure!(
        resumed.summary("blobs")?.present > 10,
        "everything was copied again"
    );
    assert_eq!(
        from.store.blobs(&from.database)?,
        to.store.blobs(&to.database)?
    );
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

/// `plikd migrate … | head` and a terminal that is closed: the run goes on to its end.
#[test]
fn nobody_reads_what_is_said() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    let mut run = scene.migration(&from.config, &to.config, &[]).spawn()?;
    drop((run.stdout.take(), run.stderr.take()));
    assert_eq!(run.wait()?.code(), Some(0));
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

/// Rows by the hundred thousand and a blob larger than the memory that is used.
#[test]
fn memory_does_not_grow_with_the_server() -> Result<()> {
    const LIMIT_KIB: u64 = 200 << 10;
    let scene = Scene::new()?;
    let from = scene.made_up(
        "from",
        &[
            "--users=200",
            "--tokens=1",
            "--uploads=50",
            "--files=10",
            "--anon-uploads=0",
            "--file-size=0",
            "--removed=0",
            "--deleted=0",
        ],
    )?;
    let rows = from.database.count("files")?;
    ensure!(rows >= 100_000, "only {rows} files");
    // Its blobs are not what this is about.
    from.database.query("UPDATE files SET status = 'deleted'")?;
    from.database.add_upload("theUpload")?;
    let bytes: Vec<u8> = (0..300_u32 << 20)
        .map(|number| (number >> 3) as u8)
        .collect();
    from.database
        .add_file("largeFile", "theUpload", "uploaded", &bytes)?;
    from.store.put("largeFile", &bytes)?;
    drop(bytes);
    let to = scene.local("to")?;
    let run = run_within(LIMIT_KIB, scene.migration(&from.config, &to.config, &[]))?;
    assert_eq!(run.summary("files")?.copied, rows + 1);
    assert_eq!(run.summary("blobs")?.copied, 1);
    Ok(())
}

/// Many large blobs at once, in the parts of an S3 server, share the same memory.
#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn memory_does_not_grow_with_workers_and_parts() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.local("from")?;
    scene.serve(&from)?;
    from.database.add_upload("theUpload")?;
    for number in 0..6_u8 {
        let (id, bytes) = (format!("largeFile{number}"), vec![number; 40 << 20]);
        from.database
            .add_file(&id, "theUpload", "uploaded", &bytes)?;
        from.store.put(&id, &bytes)?;
    }
    let to = scene.server(
        "to",
        Database::Sqlite(scene.path("to.db")),
        Store::bucket()?,
    )?;
    let command = scene.migration(&from.config, &to.config, &["--workers=16"]);
    let run = run_within(200 << 10, command)?;
    assert_eq!(run.summary("blobs")?.copied, 6);
    Ok(())
}

/// Texts of ten mebibytes, one a row: few of them are held at once, wherever rows go.
fn large_values(to: &Server, scene: &Scene) -> Result<()> {
    const LIMIT_KIB: u64 = 200 << 10;
    let from = scene.made_up("from", NO_FILES)?;
    let add = |name: &str| {
        from.database.query(&format!(
            "WITH RECURSIVE n (n) AS (SELECT 10 UNION ALL SELECT n + 1 FROM n WHERE n < 21) \
             INSERT INTO uploads (id, ttl, \"user\", token, comments, created_at) \
             SELECT '{name}' || n, 0, '', '', hex(zeroblob(5242880)), '2025-01-02 03:04:05+00:00' \
             FROM n"
        ))
    };
    add("large")?;
    let options = ["--metadata-only"];
    let run = run_within(
        LIMIT_KIB,
        scene.migration(&from.config, &to.config, &options),
    )?;
    assert_eq!(
        run.summary("uploads")?.copied,
        from.database.count("uploads")?
    );
    // Batch by batch, beside those that are there.
    add("more")?;
    run_within(
        LIMIT_KIB,
        scene.migration(&from.config, &to.config, &options),
    )?;
    from.database
        .query("UPDATE uploads SET comments = comments || '!' WHERE id LIKE 'large%'")?;
    let options = ["--metadata-only", "--sync"];
    let run = run_within(
        LIMIT_KIB,
        scene.migration(&from.config, &to.config, &options),
    )?;
    run.says(&["12 updated"])?;
    let back = scene.local("back")?;
    let options = ["--metadata-only"];
    run_within(
        LIMIT_KIB,
        scene.migration(&to.config, &back.config, &options),
    )?;
    let verify = scene.verification(&from, to, &options);
    run_within(LIMIT_KIB, verify)?;
    Ok(())
}

#[test]
fn memory_does_not_grow_with_large_values() -> Result<()> {
    let scene = Scene::new()?;
    large_values(&scene.local("to")?, &scene)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn memory_does_not_grow_with_large_values_postgres() -> Result<()> {
    let scene = Scene::new()?;
    large_values(&scene.postgres("to")?, &scene)
}

/// Runs a command that succeeds, and never takes `limit_kib` of memory.
fn run_within(limit_kib: u64, mut command: Command) -> Result<Run> {
    let mut run = command.spawn()?;
    let status = format!("/proc/{}/status", run.id());
    let mut peak_kib = 0;
    while run.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = line.and_then(|line| line.split_whitespace().next()) {
            peak_kib = kib.parse()?;
        }
        ensure!(peak_kib < limit_kib, "{peak_kib} KiB of memory");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    ensure!(peak_kib > 0, "the memory was not watched");
    finish(run)?.expect(0)
}
