//! Blobs that several processes bring, which know nothing of each other.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::places::{Database, Store};
use crate::scene::{Counts, SOME, Scene, Server, assert_equal, finish, run, signal, wait_until};

const PARTS: u64 = 3;
/// In a bucket a blob of several parts has no MD5 that could be asked for.
const LARGE_BYTES: usize = 6 << 20;

fn source(scene: &Scene) -> Result<Server> {
    let from = scene.made_up("from", SOME)?;
    let large: Vec<u8> = (0..LARGE_BYTES).map(|byte| (byte >> 9) as u8).collect();
    from.database.add_upload("theUpload")?;
    for id in ["largeFileOne", "largeFileTwo", "largeFileThree"] {
        from.database
            .add_file(id, "theUpload", "uploaded", &large)?;
        from.store.put(id, &large)?;
    }
    Ok(from)
}

fn services(scene: &Scene) -> Result<Server> {
    let store = Store::bucket_with("PartSize = 5242880")?;
    scene.server("to", Database::postgres()?, store)
}

fn part(number: u64) -> String {
    format!("--shard={number}/{PARTS}")
}

/// All parts at the same time; what each of them did.
fn all_at_once(scene: &Scene, from: &Server, to: &Server) -> Result<Vec<Counts>> {
    let children: Vec<_> = (1..=PARTS)
        .map(|number| {
            let options = [&*part(number)];
            scene.migration(&from.config, &to.config, &options).spawn()
        })
        .collect::<Result<_, _>>()?;
    let mut done = Vec::new();
    for child in children {
        let run = finish(child)?.expect(0)?;
        let run = run.says(&["the other parts of 3 are there", "without --shard"])?;
        done.push(run.summary("blobs")?);
    }
    Ok(done)
}

/// How many blobs the source has, also of removed files.
fn blobs(from: &Server) -> Result<u64> {
    Ok(from.store.blobs(&from.database)?.len() as u64)
}

/// The rows, and no blob twice.
fn rows_follow(scene: &Scene, from: &Server, to: &Server) -> Result<()> {
    let whole = scene.migrate(from, to, &[])?.expect(0)?;
    let whole = whole.summary("blobs")?;
    assert_eq!((whole.copied, whole.present), (0, blobs(from)?));
    let mut verify = scene.plikd();
    verify.arg("--config").arg(&from.config);
    verify.args(["migrate", "verify", "--deep", "--to"]);
    verify.arg(&to.config);
    run(verify)?.expect(0)?;
    assert_equal(from, to)
}

fn parts_are_the_whole(scene: &Scene, to: &Server) -> Result<()> {
    let from = source(scene)?;
    let dry = scene.migrate(&from, to, &["--dry-run", &part(2)])?;
    let dry = dry.expect(0)?.summary("blobs")?;
    let done = all_at_once(scene, &from, to)?;
    assert_eq!(done[1].copied, dry.copied);
    for part in &done {
        ensure!(part.copied > 0 && part.present == 0, "{done:?}");
    }
    let copied: u64 = done.iter().map(|part| part.copied).sum();
    assert_eq!(copied, blobs(&from)?);
    rows_follow(scene, &from, to)
}

#[test]
fn parts_that_are_brought_at_once_are_the_whole() -> Result<()> {
    let scene = Scene::new()?;
    parts_are_the_whole(&scene, &scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn parts_that_are_brought_to_services_at_once_are_the_whole() -> Result<()> {
    let scene = Scene::new()?;
    parts_are_the_whole(&scene, &services(&scene)?)
}

/// The others go on meanwhile, and what the killed one has brought is not brought again.
fn a_killed_part_goes_on(scene: &Scene, to: &Server) -> Result<()> {
    let from = source(scene)?;
    let slowly = [&*part(2), "--bwlimit=2MiB", "--workers=1"];
    let killed = scene.migration(&from.config, &to.config, &slowly).spawn()?;
    wait_until("some of it is there", || {
        // There may be no bucket yet, and there is no row.
        let blobs = to.store.blobs(&from.database);
        Ok(blobs.is_ok_and(|blobs| blobs.len() > 5))
    })?;
    signal(&killed, Signal::KILL)?;
    ensure!(finish(killed)?.code.is_none(), "it was over before");
    let done = all_at_once(scene, &from, to)?;
    ensure!(done[1].copied > 0 && done[1].present > 3, "{done:?}");
    let again = scene.migrate(&from, to, &[&part(2)])?.expect(0)?;
    let again = again.summary("blobs")?;
    assert_eq!(again.present, done[1].copied + done[1].present);
    rows_follow(scene, &from, to)
}

#[test]
fn a_part_that_was_killed_is_gone_on_with() -> Result<()> {
    let scene = Scene::new()?;
    a_killed_part_goes_on(&scene, &scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn a_part_that_was_killed_on_its_way_to_services_is_gone_on_with() -> Result<()> {
    let scene = Scene::new()?;
    a_killed_part_goes_on(&scene, &services(&scene)?)
}

#[test]
fn a_part_is_planned_and_reported_as_one() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.local("to")?);
    let plan = ["--plan=plan.json", &*part(1)];
    scene.migrate(&from, &to, &plan)?.expect(0)?;
    let mut planned = scene.plikd();
    planned.arg("--config").arg(&from.config);
    planned.args(["migrate", "--plan-file=plan.json", "--report=report.json"]);
    let copied = run(planned)?.expect(0)?.summary("blobs")?.copied;
    let report = std::fs::read(scene.path("report.json"))?;
    let report: serde_json::Value = serde_json::from_slice(&report)?;
    assert_eq!(report["options"]["shard"], format!("1/{PARTS}"));
    let total = report["blobs_done"]["blobs_total"].as_u64();
    assert_eq!(total.context("a number")?, copied);
    ensure!(copied < blobs(&from)?, "all of it");
    Ok(())
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn keys_of_blobs_are_not_written_by_many() -> Result<()> {
    let scene = Scene::new()?;
    let from = source(&scene)?;
    let store = Store::bucket_with("SSE = \"SSE-C\"")?;
    let to = scene.server("to", Database::Sqlite(scene.path("to.db")), store)?;
    scene.migrate(&from, &to, &[&part(1)])?.expect(2)?.says(&[
        "keys are written by one run at a time",
        "hint: leave out --shard",
    ])?;
    Ok(())
}
