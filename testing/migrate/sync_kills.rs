//! kill -9 in the middle of a run that follows a source: the same command ends it, and the target
//! holds what the source holds, and what is its own.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::hostile::Random;
use crate::kills::{KILLS, MORE_KILLS, PART_SIZE, Plikd, Postmaster, Victim, in_cluster, once};
use crate::own_postgres::Cluster;
use crate::places::{Database, Store};
use crate::properties::setting;
use crate::scene::{Scene, Server, finish, md5_hex, signal, unique, wait_until};

const SOURCE: &[&str] = &[
    "--users=20",
    "--tokens=2",
    "--uploads=10",
    "--files=4",
    "--anon-uploads=0",
    "--file-size=0..1KiB",
    "--deleted=10",
    "--now",
];
const SYNC: &[&str] = &["--sync", "--delete"];
/// A key in a range of its own, so that what is beside it may go.
const OWN: &str = "--own";
/// Several parts, in a bucket.
const LARGE_BYTES: usize = 11 << 20;

/// A source, what follows it, and how the two live on.
struct Pair<'a> {
    scene: &'a Scene,
    from: Server,
    to: Server,
    random: Random,
    /// How often the source has lived on.
    age: u64,
}

impl<'a> Pair<'a> {
    fn new(scene: &'a Scene, to: Server, seed: u64) -> Result<Self> {
        let from = scene.made_up(&unique("from"), SOURCE)?;
        scene.migrate(&from, &to, &[])?.expect(0)?;
        to.database.add_upload(OWN)?;
        to.database.add_file(OWN, OWN, "missing", b"")?;
        Ok(Self {
            scene,
            from,
            to,
            random: Random::new(seed),
            age: 0,
        })
    }

    /// Some of the files that have bytes, or of the uploads.
    fn some(&mut self, column: &str, count: usize) -> Result<Vec<String>> {
        let sql = format!("SELECT DISTINCT {column} FROM files WHERE status = 'uploaded'");
        let mut found = self.from.database.query(&sql)?.concat();
        let chosen = (0..count.min(found.len())).map(|_| {
            let place = self.random.below(found.len() as u64) as usize;
            found.swap_remove(place)
        });
        Ok(chosen.collect())
    }

    /// Changes users, uploads and the bytes of files; removes uploads, and the bytes of files;
    /// adds others.
    fn lives_on(&mut self) -> Result<()> {
        self.age += 1;
        let age = self.age;
        let mut statements = vec![format!("UPDATE users SET name = 'at {age}'")];
        for id in self.some("upload_id", 20)? {
            statements.push(format!(
                "UPDATE uploads SET comments = 'at {age}' WHERE id = '{id}'"
            ));
        }
        for id in self.some("id", 20)? {
            let bytes = format!("at {age} {id}").into_bytes();
            let (md5, size) = (md5_hex(&bytes), bytes.len());
            self.from.store.put(&id, &bytes)?;
            statements.push(format!(
                "UPDATE files SET md5 = '{md5}', size = {size} WHERE id = '{id}'"
            ));
        }
        for id in self.some("id", 10)? {
            self.erase(&id)?;
            statements.push(format!(
                "UPDATE files SET status = 'deleted' WHERE id = '{id}'"
            ));
        }
        for sql in statements {
            self.from.database.query(&sql)?;
        }
        for upload in self.some("upload_id", 10)? {
            self.remove_upload(&upload)?;
        }
        for number in 0..10 {
            let length = if number == 0 { LARGE_BYTES } else { 500 };
            self.adds(&format!("new{age}x{number}"), length)?;
        }
        Ok(())
    }

    fn adds(&mut self, id: &str, length: usize) -> Result<()> {
        let bytes: Vec<u8> = (0..length).map(|byte| (byte >> 8) as u8).collect();
        self.from.database.add_upload(id)?;
        self.from.database.add_file(id, id, "uploaded", &bytes)?;
        self.from.store.put(id, &bytes)
    }

    /// Rows and bytes, as a server and its cleaning routine do.
    fn remove_upload(&self, upload: &str) -> Result<()> {
        let database = &self.from.database;
        let of_upload = format!("FROM files WHERE upload_id = '{upload}'");
        for id in database.query(&format!("SELECT id {of_upload}"))?.concat() {
            self.erase(&id)?;
        }
        database.query(&format!("DELETE {of_upload}"))?;
        database.query(&format!("DELETE FROM uploads WHERE id = '{upload}'"))?;
        Ok(())
    }

    fn erase(&self, id: &str) -> Result<()> {
        let path = self.from.store.path_of(id);
        if path.exists() {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Follows the source to the end: the target's own rows are named, and stay.
    fn follow(&self) -> Result<()> {
        self.follow_rows()?;
        ensure!(self.left_behind()?.is_empty(), "blobs are left behind");
        Ok(())
    }

    fn follow_rows(&self) -> Result<()> {
        let run = self.scene.migrate(&self.from, &self.to, SYNC)?;
        let run = run.expect(20)?;
        let run = run.says(&[&format!("extra: uploads {OWN}")])?;
        let extra = run.stderr.matches("extra: ").count();
        ensure!(extra == 2, "{extra} rows are only in the target: {run}");
        self.assert_rows_followed()
    }

    fn assert_rows_followed(&self) -> Result<()> {
        let rows = |server: &Server| server.database.rows_without(&["files.backend_details"]);
        let (here, there) = (rows(&self.from)?, rows(&self.to)?);
        let own: BTreeSet<_> = there.difference(&here).collect();
        ensure!(own.len() == 2, "only in the target: {own:#?}");
        ensure!(own.iter().all(|row| row.contains(OWN)), "{own:#?}");
        let missing: Vec<_> = here.difference(&there).collect();
        ensure!(missing.is_empty(), "missing: {missing:#?}");
        Ok(())
    }

    /// Blobs that only the target has. Fails if it lacks one.
    fn left_behind(&self) -> Result<Vec<String>> {
        let here = self.from.store.blobs(&self.from.database)?;
        let there = self.to.store.blobs(&self.to.database)?;
        let missing: Vec<_> = here.difference(&there).collect();
        ensure!(missing.is_empty(), "missing: {missing:#?}");
        Ok(there.difference(&here).cloned().collect())
    }
}

fn services(scene: &Scene) -> Result<Server> {
    let (database, store) = (Database::postgres()?, Store::bucket_with(PART_SIZE)?);
    scene.server(&unique("to"), database, store)
}

/// One pair lives on, and is followed with a kill at another moment each time.
fn survives(name: &str, scene: &Scene, to: Server, victim: &dyn Victim) -> Result<()> {
    let kills = setting("PLIKD_SOAK_KILLS", KILLS)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seed = setting("PLIKD_TEST_SEED", now)?;
    println!("{name}: PLIKD_TEST_SEED={seed}");
    let mut pair = Pair::new(scene, to, seed)?;
    pair.lives_on()?;
    let start = Instant::now();
    pair.follow()?;
    let duration = start.elapsed();
    let (mut survived, mut among) = (0, 0);
    while survived < kills || (among == 0 && survived < kills + MORE_KILLS) {
        pair.lives_on()?;
        let moment = duration.mul_f64(pair.random.below(1000) as f64 / 1000.0);
        let told = || format!("{name}: kill {survived} after {moment:?}, PLIKD_TEST_SEED={seed}");
        let cut = once(scene, &pair.from, &pair.to, SYNC, victim, moment, 20);
        among += u64::from(cut.with_context(told)?);
        pair.follow().with_context(told)?;
        survived += 1;
    }
    ensure!(
        among > 0,
        "{name}: {survived} kills, and none of them met a run"
    );
    println!("{name}: {survived} kills survived, {among} of them in the middle of a run");
    Ok(())
}

#[test]
fn plikd_killed_while_it_follows_to_local_backends() -> Result<()> {
    let scene = Scene::new()?;
    survives(
        "plikd, following to SQLite",
        &scene,
        scene.local("to")?,
        &Plikd,
    )
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn plikd_killed_while_it_follows_to_services() -> Result<()> {
    let scene = Scene::new()?;
    survives(
        "plikd, following to PostgreSQL and S3",
        &scene,
        services(&scene)?,
        &Plikd,
    )
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn postgres_killed_while_it_follows() -> Result<()> {
    let scene = Scene::new()?;
    let cluster = Cluster::start(&scene)?;
    survives(
        "PostgreSQL, following",
        &scene,
        in_cluster(&scene, &cluster)?,
        &Postmaster(&cluster),
    )
}

/// What a run has brought that was cut off, and is gone from the source before the next one: no row
/// was ever written of it.
fn leaves_no_blob_behind(scene: &Scene, to: Server) -> Result<()> {
    let mut pair = Pair::new(scene, to, 1)?;
    let added: Vec<String> = (0..200).map(|number| format!("added{number:03}")).collect();
    for id in &added {
        pair.adds(id, 10_000)?;
    }
    let options = ["--sync", "--delete", "--bwlimit=40KiB", "--workers=1"];
    let run = scene
        .migration(&pair.from.config, &pair.to.config, &options)
        .spawn()?;
    wait_until("some of it is there", || {
        let blobs = pair.to.store.blobs(&pair.to.database)?;
        Ok(blobs
            .iter()
            .filter(|blob| blob.starts_with("added"))
            .count()
            > 5)
    })?;
    signal(&run, Signal::INT)?;
    finish(run)?.expect(130)?;
    for id in &added {
        pair.remove_upload(id)?;
    }
    pair.follow_rows()?;
    // The one that was in hand may have arrived when nothing could be written down any more.
    let left = pair.left_behind()?;
    ensure!(left.len() <= 1, "{left:#?}");
    Ok(())
}

#[test]
fn what_a_run_that_was_cut_off_has_brought_goes_with_its_file() -> Result<()> {
    let scene = Scene::new()?;
    leaves_no_blob_behind(&scene, scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn what_a_run_that_was_cut_off_has_brought_to_services_goes_with_its_file() -> Result<()> {
    let scene = Scene::new()?;
    leaves_no_blob_behind(&scene, services(&scene)?)
}
