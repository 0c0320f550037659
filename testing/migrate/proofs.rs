//! A blob of the target is taken for the right one only where that is proven: never because it
//! has the right size, or because a row says so.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::own_s3::OwnS3;
use crate::places::{Database, Store};
use crate::scene::{Run, Scene, Server, assert_equal, finish, signal, wait_until};

const SOURCE: &[&str] = &[
    "--users=3",
    "--tokens=1",
    "--uploads=20",
    "--files=5",
    "--anon-uploads=0",
    "--file-size=1..2KiB",
];
const SYNC: &[&str] = &["--sync", "--delete"];
/// Slow enough to be cut off in the middle.
const SLOW: [&str; 2] = ["--bwlimit=50KiB", "--workers=1"];

/// The bytes of all files that a server promises.
fn contents(server: &Server) -> Result<BTreeMap<String, Vec<u8>>> {
    let sql = "SELECT id FROM files WHERE status = 'uploaded'";
    let ids = server.database.query(sql)?.concat();
    let read = |id: String| Ok((id.clone(), fs::read(server.store.path_of(&id))?));
    ids.into_iter().map(read).collect()
}

/// Gives files other bytes.
fn write(server: &Server, contents: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    for (id, bytes) in contents {
        server.store.put(id, bytes)?;
        let md5 = crate::scene::md5_hex(bytes);
        server
            .database
            .query(&format!("UPDATE files SET md5 = '{md5}' WHERE id = '{id}'"))?;
    }
    Ok(())
}

/// Others of the same length.
fn others(contents: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let other = |bytes: &Vec<u8>| bytes.iter().map(|byte| !byte).collect();
    let others = contents
        .iter()
        .map(|(id, bytes)| (id.clone(), other(bytes)));
    others.collect()
}

/// A run that ends when at least `count` of the target's blobs are other than they were.
fn cut_off(
    scene: &Scene,
    (from, to): (&Server, &Server),
    options: &[&str],
    asked: Signal,
    count: usize,
) -> Result<Run> {
    // A target that is still to be created has none.
    let held = || to.store.blobs(&to.database).unwrap_or_default();
    let before = held();
    let options = [options, &SLOW].concat();
    let run = scene
        .migration(&from.config, &to.config, &options)
        .spawn()?;
    wait_until("some blobs have come", || {
        Ok(held().difference(&before).count() >= count)
    })?;
    signal(&run, asked)?;
    finish(run)
}

fn services(scene: &Scene) -> Result<Server> {
    scene.server("to", Database::postgres()?, Store::bucket()?)
}

/// What was written down about blobs is about the bytes that they had then.
fn what_changed_after_a_cut_is_brought(scene: &Scene, to: &Server, options: &[&str]) -> Result<()> {
    let from = scene.made_up("from", SOURCE)?;
    let cut = cut_off(scene, (&from, to), options, Signal::INT, 20)?;
    cut.expect(130)?;
    let recorded = to.database.count("plikd_migrate_blobs")?;
    ensure!(recorded >= 10, "{recorded} blobs were written down");
    write(&from, &others(&contents(&from)?))?;
    scene.migrate(&from, to, options)?.expect(0)?;
    assert_equal(&from, to)
}

#[test]
fn bytes_that_changed_after_a_run_was_cut_off_are_brought() -> Result<()> {
    for options in [&[], SYNC] {
        let scene = Scene::new()?;
        what_changed_after_a_cut_is_brought(&scene, &scene.local("to")?, options)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn bytes_that_changed_after_a_run_to_services_was_cut_off_are_brought() -> Result<()> {
    let scene = Scene::new()?;
    let to = services(&scene)?;
    what_changed_after_a_cut_is_brought(&scene, &to, &[])
}

/// The rows of both sides are the same again, as the finished run has left them; the blobs are not.
fn a_source_that_was_restored_is_followed(to: &Server, scene: &Scene) -> Result<()> {
    let from = scene.made_up("from", SOURCE)?;
    scene.migrate(&from, to, &[])?.expect(0)?;
    let (was, other) = (contents(&from)?, others(&contents(&from)?));
    for asked in [Signal::INT, Signal::KILL] {
        write(&from, &other)?;
        cut_off(scene, (&from, to), SYNC, asked, 10)?;
        write(&from, &was)?;
        scene.migrate(&from, to, SYNC)?.expect(0)?;
        assert_equal(&from, to)?;
    }
    Ok(())
}

#[test]
fn a_source_that_was_restored_after_a_cut_is_followed() -> Result<()> {
    let scene = Scene::new()?;
    a_source_that_was_restored_is_followed(&scene.local("to")?, &scene)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn a_source_that_was_restored_after_a_cut_is_followed_by_services() -> Result<()> {
    let scene = Scene::new()?;
    a_source_that_was_restored_is_followed(&services(&scene)?, &scene)
}

/// What a run that was cut off wrote down outlives one about rows alone, but no other source.
#[test]
fn a_run_from_another_source_takes_the_proof() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOURCE)?, scene.local("to")?);
    cut_off(&scene, (&from, &to), &[], Signal::INT, 20)?.expect(130)?;
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    let recorded = to.database.count("plikd_migrate_blobs")?;
    ensure!(recorded >= 10, "{recorded} blobs were written down");
    let other = scene.made_up("other", SOURCE)?;
    write(&other, &others(&contents(&other)?))?;
    // It comes to a target of another's rows, so it has to have seen them first.
    scene
        .migrate(&other, &to, &["--metadata-only"])?
        .expect(20)?;
    scene.migrate(&other, &to, &["--sync"])?.expect(0)?;
    scene.migrate(&from, &to, &["--sync"])?.expect(0)?;
    assert_equal(&from, &to)
}

/// Somebody copies the blobs by hand, not all of them well.
#[test]
fn rows_that_came_alone_prove_no_blob() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOURCE)?, scene.local("to")?);
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    let all = contents(&from)?;
    for (id, bytes) in &all {
        to.store.put(id, bytes)?;
    }
    let rotten = others(&all).into_iter().take(5);
    for (id, bytes) in rotten {
        to.store.put(&id, &bytes)?;
    }
    let run = scene.migrate(&from, &to, SYNC)?.expect(0)?;
    assert_eq!(run.summary("blobs")?.copied, missing(&from, &all)? + 5);
    assert_equal(&from, &to)
}

/// How many blobs a source has besides `contents`: those of removed files.
fn missing(from: &Server, contents: &BTreeMap<String, Vec<u8>>) -> Result<u64> {
    let all = from.store.blobs(&from.database)?.len();
    Ok((all - contents.len()) as u64)
}

/// A finished run that was about rows only takes away what one about both has left.
#[test]
fn a_later_run_of_rows_alone_takes_the_proof() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOURCE)?, scene.local("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let other = others(&contents(&from)?);
    write(&from, &other)?;
    let only = ["--sync", "--metadata-only"];
    scene.migrate(&from, &to, &only)?.expect(0)?;
    scene.migrate(&from, &to, &["--sync"])?.expect(0)?;
    assert_equal(&from, &to)
}

/// The bookkeeping of an earlier version does not say of which bytes it tells.
#[test]
fn records_of_an_earlier_version_are_read_and_prove_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOURCE)?, scene.local("to")?);
    cut_off(&scene, (&from, &to), &[], Signal::INT, 20)?.expect(130)?;
    for column in ["md5", "place"] {
        let sql = format!("ALTER TABLE plikd_migrate_blobs DROP COLUMN {column}");
        to.database.query(&sql)?;
    }
    write(&from, &others(&contents(&from)?))?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_equal(&from, &to)
}

/// A run that finds what a finished one has left asks for no blob.
#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn what_a_finished_run_has_left_is_not_asked_about() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SOURCE)?;
    let log = scene.path("faults.log");
    let log_name = log.to_str().context("not UTF-8")?;
    let mut arguments = vec!["--fault-log", log_name];
    for counted in ["GetObject:1+:slow=1", "HeadObject:1+:slow=1"] {
        arguments.extend(["--fault", counted]);
    }
    let (_s3, server) = OwnS3::start(&scene, &arguments)?;
    let store = Store::Bucket {
        server,
        bucket: "bucket-to".to_owned(),
        settings: String::new(),
    };
    let to = scene.server("to", Database::Sqlite(scene.path("to.db")), store)?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let asked = || anyhow::Ok(fs::read_to_string(&log)?.lines().count());
    let before = asked()?;
    let run = scene.migrate(&from, &to, &["--sync"])?.expect(0)?;
    let blobs = run.summary("blobs")?;
    ensure!(blobs.copied == 0 && blobs.present > 80, "{run}");
    // Some are about the trial of the bucket.
    let asked = asked()? - before;
    ensure!(asked < 20, "{asked} requests about {} blobs", blobs.present);
    assert_equal(&from, &to)
}

/// A migration into a bucket whose objects were replaced by others of the same size afterwards.
struct Replaced {
    scene: Scene,
    from: Server,
    objects: u64,
}

impl Replaced {
    fn prepare() -> Result<Self> {
        let scene = Scene::new()?;
        let from = scene.made_up("from", SOURCE)?;
        let mut this = Self {
            scene,
            from,
            objects: 0,
        };
        let (_s3, to) = this.target(&[])?;
        this.scene.migrate(&this.from, &to, &[])?.expect(0)?;
        this.objects = to.store.rewrite_objects(|_| true)? as u64;
        ensure!(this.objects > 80, "{} objects", this.objects);
        Ok(this)
    }

    fn target(&self, options: &[&str]) -> Result<(OwnS3, Server)> {
        let (s3, server) = OwnS3::start(&self.scene, options)?;
        let store = Store::Bucket {
            server,
            bucket: "bucket-to".to_owned(),
            settings: String::new(),
        };
        let database = Database::Sqlite(self.scene.path("to.db"));
        Ok((s3, self.scene.server("to", database, store)?))
    }
}

#[test]
fn objects_that_were_replaced_are_found_by_their_e_tags_and_brought_again() -> Result<()> {
    let this = Replaced::prepare()?;
    let (_s3, to) = this.target(&[])?;
    let wrong = format!("{} wrong in the target", this.objects);
    let verified = this.scene.verify(&this.from, &to, &[])?;
    verified
        .expect(21)?
        .says(&[&wrong])?
        .never_says(&["by the size of their blob only"])?;
    let run = this
        .scene
        .migrate(&this.from, &to, &["--sync"])?
        .expect(0)?;
    assert_eq!(run.summary("blobs")?.copied, this.objects);
    assert_equal(&this.from, &to)
}

#[test]
fn where_a_list_tells_no_e_tags_a_verification_says_that_it_compared_sizes() -> Result<()> {
    let this = Replaced::prepare()?;
    let (_s3, to) = this.target(&["--fault", "ListObjectsV2:1+:no-etags"])?;
    let by_size = format!(
        "{} of the equal by the size of their blob only",
        this.objects
    );
    let verified = this.scene.verify(&this.from, &to, &[])?;
    verified.expect(0)?.says(&[&by_size])?;
    let wrong = format!("{} wrong in the target", this.objects);
    let verified = this.scene.verify(&this.from, &to, &["--deep"])?;
    verified.expect(21)?.says(&[&wrong])?;
    Ok(())
}
