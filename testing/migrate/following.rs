//! The scenario of the manual: a server is followed while clients use it, stopped, followed once
//! more, and gone on with where it was brought to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, ensure};

use crate::clients::Client;
use crate::places::{Database, Store};
use crate::properties::setting;
use crate::scene::{Run, SOME, Scene, Server, run};

const CLIENTS: u64 = 4;
/// Between two cleanings of the source, which erase what was removed and its rows.
const CLEANING_PAUSE: Duration = Duration::from_millis(300);
/// The passes while clients use the source.
const PASSES: [&[&str]; 3] = [&[], SYNC, SYNC];
const SYNC: &[&str] = &["--sync", "--delete"];

/// Runs `work` while clients use the server, and gives them back.
fn under_load(
    scene: &Scene,
    from: &Server,
    seed: u64,
    work: impl FnOnce() -> Result<()>,
) -> Result<Vec<Client>> {
    let daemon = scene.serve(from)?;
    let done = AtomicBool::new(false);
    let mut clients: Vec<_> = (0..CLIENTS).map(|n| Client::new(seed ^ n)).collect();
    std::thread::scope(|scope| {
        let (url, done) = (&daemon.url, &done);
        let mut living: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| client.live(url, done)))
            .collect();
        living.push(scope.spawn(|| clean(scene, from, done)));
        let worked = work();
        done.store(true, Ordering::Relaxed);
        for thread in living {
            thread.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        worked
    })?;
    Ok(clients)
}

fn clean(scene: &Scene, from: &Server, done: &AtomicBool) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        let mut command = scene.plikd();
        command.arg("--config").arg(&from.config).arg("clean");
        run(command)?.expect(0)?;
        sleep(CLEANING_PAUSE);
    }
    Ok(())
}

/// A pass beside clients: a file that is removed at the moment in which its bytes are on their way
/// is left to the next one.
fn passed(run: Run) -> Result<()> {
    ensure!(matches!(run.code, Some(0 | 20)), "a pass failed: {run}");
    ensure!(!run.stderr.contains("cannot be copied: "), "{run}");
    Ok(())
}

fn goes_on_where_it_was_brought_to(scene: &Scene, from: &Server, to: &Server) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seed = setting("PLIKD_TEST_SEED", now)?;
    println!("PLIKD_TEST_SEED={seed}");
    let clients = under_load(scene, from, seed, || {
        for options in PASSES {
            passed(scene.migrate(from, to, options)?)?;
        }
        Ok(())
    })?;
    for client in &clients {
        let (kept, gone) = client.counts();
        ensure!(kept > 5 && gone > 5, "a client did little: {kept}, {gone}");
    }
    scene.migrate(from, to, SYNC)?.expect(0)?;
    verify(scene, from, to)?.expect(0)?;
    let rows = |server: &Server| server.database.rows_without(&["files.backend_details"]);
    assert_eq!(rows(from)?, rows(to)?);
    assert_eq!(
        from.store.blobs(&from.database)?,
        to.store.blobs(&to.database)?
    );
    let daemon = scene.serve(to)?;
    for client in &clients {
        client.finds_all(&daemon.url)?;
    }
    Ok(())
}

fn verify(scene: &Scene, from: &Server, to: &Server) -> Result<Run> {
    let mut command = scene.plikd();
    command.arg("--config").arg(&from.config);
    command.args(["migrate", "verify", "--deep", "--to"]);
    command.arg(&to.config);
    run(command)
}

fn living(scene: &Scene) -> Result<Server> {
    scene.made_up("from", &[SOME, &["--now"]].concat())
}

fn services(scene: &Scene, name: &str) -> Result<Server> {
    scene.server(name, Database::postgres()?, Store::bucket()?)
}

#[test]
fn a_server_goes_on_in_other_local_backends() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (living(&scene)?, scene.local("to")?);
    goes_on_where_it_was_brought_to(&scene, &from, &to)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn a_server_goes_on_in_services() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (living(&scene)?, services(&scene, "to")?);
    goes_on_where_it_was_brought_to(&scene, &from, &to)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn a_server_in_services_goes_on_in_local_backends() -> Result<()> {
    let scene = Scene::new()?;
    let (origin, from) = (living(&scene)?, services(&scene, "service")?);
    scene.migrate(&origin, &from, &[])?.expect(0)?;
    goes_on_where_it_was_brought_to(&scene, &from, &scene.local("to")?)
}
