//! kill -9 at random moments of a run: of plikd, of PostgreSQL, of the S3 server. The same command
//! ends the run then, and the end is that of one that nobody disturbed.
//!
//! `PLIKD_SOAK_KILLS` is how many moments of each; `PLIKD_TEST_SEED` chooses them again.

use std::collections::BTreeSet;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::hostile::Random;
use crate::own_postgres::Cluster;
use crate::own_s3::OwnS3;
use crate::places::{Database, Store};
use crate::properties::setting;
use crate::scene::{Run, Scene, Server, finish, signal, unique, wait_until};

/// Moments that `make test` tries of each.
pub const KILLS: u64 = 2;

/// Rows for a while, and small blobs.
const SOURCE: &[&str] = &[
    "--users=40",
    "--tokens=2",
    "--uploads=10",
    "--files=5",
    "--anon-uploads=0",
    "--file-size=0..1KiB",
    "--deleted=90",
];

/// Of a bucket: large blobs have several parts.
pub const PART_SIZE: &str = "PartSize = 5242880";

/// What both ends of a move hold when it is done.
#[derive(Debug, PartialEq)]
struct Contents {
    rows: BTreeSet<String>,
    blobs: BTreeSet<String>,
}

impl Contents {
    fn of(server: &Server) -> Result<Self> {
        Ok(Self {
            rows: server.database.rows()?,
            blobs: server.store.blobs(&server.database)?,
        })
    }
}

/// A source with small blobs and one of several parts.
fn source(scene: &Scene) -> Result<Server> {
    let from = scene.made_up("from", SOURCE)?;
    let large: Vec<u8> = (0..16_u32 << 20).map(|byte| (byte >> 9) as u8).collect();
    from.database.add_upload("theUpload")?;
    from.database
        .add_file("largeFile", "theUpload", "uploaded", &large)?;
    from.store.put("largeFile", &large)?;
    Ok(from)
}

/// Ways to make the target of one run; each gives another one.
type Target<'a> = dyn Fn(&Scene) -> Result<Server> + 'a;

fn local(scene: &Scene) -> Result<Server> {
    scene.local(&unique("to"))
}

fn services(scene: &Scene) -> Result<Server> {
    let (database, store) = (Database::postgres()?, Store::bucket_with(PART_SIZE)?);
    scene.server(&unique("to"), database, store)
}

/// A target that has rows, so that it is not loaded as a whole.
fn with_rows(scene: &Scene, to: Server) -> Result<Server> {
    let other = scene.made_up(&unique("other"), crate::scene::NO_FILES)?;
    // What both have would be a conflict.
    for table in ["settings", "users", "tokens", "usage_stats"] {
        other.database.query(&format!("DELETE FROM {table}"))?;
    }
    other.database.add_upload("ofTheTarget")?;
    scene
        .migrate(&other, &to, &["--metadata-only"])?
        .expect(0)?;
    Ok(to)
}

/// Moments that are tried beyond those, until a kill has met a run.
pub const MORE_KILLS: u64 = 20;

/// What goes away in the middle of a run, and comes back.
pub trait Victim {
    /// What a run says that has met the kill, if it lives to say it.
    fn told(&self) -> &'static str;

    /// Kills it; the run goes on or ends.
    fn kill(&self, run: &Child) -> Result<()>;

    /// Brings it back.
    fn restore(&self) -> Result<()> {
        Ok(())
    }
}

pub struct Plikd;

impl Victim for Plikd {
    fn told(&self) -> &'static str {
        ""
    }

    fn kill(&self, run: &Child) -> Result<()> {
        signal(run, Signal::KILL)
    }
}

/// Plays the move so many times, each with a kill at another moment.
fn survives(
    name: &str,
    scene: &Scene,
    from: &Server,
    target: &Target<'_>,
    victim: &dyn Victim,
) -> Result<()> {
    let kills = setting("PLIKD_SOAK_KILLS", KILLS)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seed = setting("PLIKD_TEST_SEED", now)?;
    let mut random = Random::new(seed);
    let pilot = target(scene)?;
    let start = Instant::now();
    let code = scene.migrate(from, &pilot, &[])?.code.unwrap_or(0);
    // 20: the target has rows of its own.
    ensure!(
        matches!(code, 0 | 20),
        "an undisturbed run ended with {code}"
    );
    let duration = start.elapsed();
    let expected = Contents::of(&pilot)?;
    let (mut survived, mut among) = (0, 0);
    while survived < kills || (among == 0 && survived < kills + MORE_KILLS) {
        let to = target(scene)?;
        let moment = duration.mul_f64(random.below(1000) as f64 / 1000.0);
        let cut = once(scene, from, &to, &[], victim, moment, code)
            .and_then(|cut| Ok((cut, scene.migrate(from, &to, &[])?)))
            .and_then(|(cut, run)| Ok((cut, run.expect(code)?)))
            .and_then(|(cut, _)| Ok((cut, Contents::of(&to)?)));
        let told = || format!("{name}: kill {survived} after {moment:?}, PLIKD_TEST_SEED={seed}");
        let (was_cut, found) = cut.with_context(told)?;
        ensure!(
            found == expected,
            "{}: {}",
            told(),
            differences(&expected, &found)
        );
        survived += 1;
        among += u64::from(was_cut);
        remove(&to);
    }
    ensure!(
        among > 0,
        "{name}: {survived} kills, and none of them met a run"
    );
    println!("{name}: {survived} kills survived, {among} of them in the middle of a run");
    Ok(())
}

/// One run with a kill; whether it has met the run.
pub fn once(
    scene: &Scene,
    from: &Server,
    to: &Server,
    options: &[&str],
    victim: &dyn Victim,
    moment: Duration,
    code: i32,
) -> Result<bool> {
    let mut run = scene.migration(&from.config, &to.config, options).spawn()?;
    sleep(moment);
    let was_cut = run.try_wait()?.is_none();
    if was_cut {
        victim.kill(&run)?;
        victim.restore()?;
    }
    let run = finish(run)?;
    assert_ended_cleanly(&run, code)?;
    Ok(was_cut && run.stderr.contains(victim.told()))
}

/// Killed, done all the same, or failed with what, why and what to do.
fn assert_ended_cleanly(run: &Run, undisturbed: i32) -> Result<()> {
    ensure!(!run.stderr.contains("panicked"), "a panic: {run}");
    match run.code {
        None => Ok(()),
        Some(code) if code == undisturbed => Ok(()),
        Some(1 | 4) if run.stderr.contains("hint: ") => Ok(()),
        _ => anyhow::bail!("neither done nor failed cleanly: {run}"),
    }
}

fn differences(expected: &Contents, found: &Contents) -> String {
    let some = |a: &BTreeSet<String>, b: &BTreeSet<String>| -> Vec<String> {
        a.difference(b).take(5).cloned().collect()
    };
    format!(
        "missing {:?} {:?}, not expected {:?} {:?}",
        some(&expected.rows, &found.rows),
        some(&expected.blobs, &found.blobs),
        some(&found.rows, &expected.rows),
        some(&found.blobs, &expected.blobs)
    )
}

/// A hundred targets would fill the disk.
fn remove(to: &Server) {
    if let Database::Sqlite(path) = &to.database {
        let _ = std::fs::remove_file(path);
    }
    if let Store::Directory(path) = &to.store {
        let _ = std::fs::remove_dir_all(path);
    }
}

#[test]
fn plikd_killed_on_the_way_to_local_backends() -> Result<()> {
    let scene = Scene::new()?;
    let from = source(&scene)?;
    survives("plikd, to SQLite and files", &scene, &from, &local, &Plikd)
}

#[test]
fn plikd_killed_on_the_way_to_local_backends_that_have_rows() -> Result<()> {
    let scene = Scene::new()?;
    let from = source(&scene)?;
    let target = |scene: &Scene| with_rows(scene, local(scene)?);
    survives("plikd, to SQLite with rows", &scene, &from, &target, &Plikd)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn plikd_killed_on_the_way_to_services() -> Result<()> {
    let scene = Scene::new()?;
    let from = source(&scene)?;
    survives(
        "plikd, to PostgreSQL and S3",
        &scene,
        &from,
        &services,
        &Plikd,
    )
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn plikd_killed_on_the_way_to_services_that_have_rows() -> Result<()> {
    let scene = Scene::new()?;
    let from = source(&scene)?;
    let target = |scene: &Scene| with_rows(scene, services(scene)?);
    survives(
        "plikd, to PostgreSQL with rows",
        &scene,
        &from,
        &target,
        &Plikd,
    )
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn plikd_killed_on_the_way_from_services() -> Result<()> {
    let scene = Scene::new()?;
    let origin = source(&scene)?;
    let from = services(&scene)?;
    scene.migrate(&origin, &from, &[])?.expect(0)?;
    survives(
        "plikd, from PostgreSQL and S3",
        &scene,
        &from,
        &local,
        &Plikd,
    )
}

/// The server process of a connection: the postmaster ends all others then, and starts anew.
struct Backend<'a>(&'a Cluster);

impl Backend<'_> {
    /// A process that is another after each new start.
    fn helper(&self) -> Result<Vec<Vec<String>>> {
        let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
        Database::query_url(&self.0.url("postgres"), sql)
    }
}

impl Victim for Backend<'_> {
    fn told(&self) -> &'static str {
        "retry "
    }

    fn kill(&self, _: &Child) -> Result<()> {
        let others = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' \
             AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1";
        // Between two connections there is none.
        let before = self.helper()?;
        for row in Database::query_url(&self.0.url("postgres"), others)? {
            let pid = Pid::from_raw(row[0].parse()?).context("a process")?;
            if kill_process(pid, Signal::KILL).is_ok() {
                // Until it has noticed, it takes connections that it will end.
                wait_until("PostgreSQL starts anew", || {
                    Ok(self.helper().is_ok_and(|helper| helper != before))
                })?;
            }
        }
        Ok(())
    }

    fn restore(&self) -> Result<()> {
        self.0.wait()
    }
}

/// The whole of PostgreSQL, which starts again where its log ends.
pub struct Postmaster<'a>(pub &'a Cluster);

impl Victim for Postmaster<'_> {
    fn told(&self) -> &'static str {
        "retry "
    }

    fn kill(&self, _: &Child) -> Result<()> {
        self.0.kill()
    }

    fn restore(&self) -> Result<()> {
        // What is left of the one before keeps another from starting until it sees that it is alone.
        wait_until("PostgreSQL starts again", || {
            Ok(self.0.control(&["start"]).is_ok())
        })
    }
}

/// A target in a cluster of the test's own.
pub fn in_cluster(scene: &Scene, cluster: &Cluster) -> Result<Server> {
    let maintenance = cluster.url("postgres");
    let database = Database::postgres_at(&maintenance)?;
    let name = unique("to");
    let files = Store::Directory(scene.path(&format!("{name}.files")));
    scene.server(&name, database, files)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn postgres_killed_while_it_is_the_target() -> Result<()> {
    let scene = Scene::new()?;
    let from = source(&scene)?;
    let cluster = Cluster::start(&scene)?;
    let empty = |scene: &Scene| in_cluster(scene, &cluster);
    let victim = Backend(&cluster);
    survives(
        "a process of PostgreSQL, target",
        &scene,
        &from,
        &empty,
        &victim,
    )?;
    let victim = Postmaster(&cluster);
    survives("PostgreSQL, target", &scene, &from, &empty, &victim)?;
    let with_rows = |scene: &Scene| with_rows(scene, in_cluster(scene, &cluster)?);
    survives(
        "PostgreSQL, target with rows",
        &scene,
        &from,
        &with_rows,
        &victim,
    )
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn postgres_killed_while_it_is_the_source() -> Result<()> {
    let scene = Scene::new()?;
    let origin = source(&scene)?;
    let cluster = Cluster::start(&scene)?;
    let from = in_cluster(&scene, &cluster)?;
    scene.migrate(&origin, &from, &[])?.expect(0)?;
    let victim = Postmaster(&cluster);
    survives("PostgreSQL, source", &scene, &from, &local, &victim)
}

/// An S3 server of the test's own, which finds its objects when it starts again.
struct S3<'a> {
    scene: &'a Scene,
    port: String,
    running: std::cell::RefCell<Option<OwnS3>>,
}

impl<'a> S3<'a> {
    fn start(scene: &'a Scene) -> Result<(Self, String)> {
        let (running, url) = OwnS3::start(scene, &[])?;
        let port = url.rsplit(':').next().context("a port")?.to_owned();
        let running = Some(running).into();
        Ok((
            Self {
                scene,
                port,
                running,
            },
            url,
        ))
    }
}

impl Victim for S3<'_> {
    fn told(&self) -> &'static str {
        "retry "
    }

    fn kill(&self, _: &Child) -> Result<()> {
        // Dropping kills it.
        self.running.replace(None);
        Ok(())
    }

    fn restore(&self) -> Result<()> {
        let (running, _) = OwnS3::start(self.scene, &["--port", &self.port])?;
        self.running.replace(Some(running));
        Ok(())
    }
}

fn in_bucket(scene: &Scene, server: &str) -> Result<Server> {
    let name = unique("to");
    let store = Store::Bucket {
        server: server.to_owned(),
        bucket: unique("plikd-"),
        settings: PART_SIZE.to_owned(),
    };
    let database = Database::Sqlite(scene.path(&format!("{name}.db")));
    scene.server(&name, database, store)
}

#[test]
fn an_s3_server_killed_while_it_is_the_target() -> Result<()> {
    let scene = Scene::new()?;
    let from = source(&scene)?;
    let (s3, url) = S3::start(&scene)?;
    let target = |scene: &Scene| in_bucket(scene, &url);
    survives("the S3 server, target", &scene, &from, &target, &s3)
}

#[test]
fn an_s3_server_killed_while_it_is_the_source() -> Result<()> {
    let scene = Scene::new()?;
    let origin = source(&scene)?;
    let (s3, url) = S3::start(&scene)?;
    let from = in_bucket(&scene, &url)?;
    scene.migrate(&origin, &from, &[])?.expect(0)?;
    survives("the S3 server, source", &scene, &from, &local, &s3)
}
