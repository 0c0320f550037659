//! A source that goes on living, and a target that is served.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow, ensure};

use crate::places::{Database, Store};
use crate::scene::{Run, SMALL, SOME, Scene, Server};

/// A run while uploads go on, and the paths of what was uploaded meanwhile.
fn while_it_lives(
    scene: &Scene,
    from: &Server,
    to: &Server,
    options: &[&str],
) -> Result<(Run, Vec<String>)> {
    let daemon = scene.serve(from)?;
    let done = AtomicBool::new(false);
    let (run, paths) = std::thread::scope(|scope| {
        let uploads = scope.spawn(|| {
            let mut paths = Vec::new();
            while !done.load(Ordering::Relaxed) {
                paths.push(daemon.upload(format!("upload {}", paths.len()).as_bytes())?);
            }
            Ok::<_, anyhow::Error>(paths)
        });
        let run = scene.migrate(from, to, options);
        done.store(true, Ordering::Relaxed);
        (run, uploads.join())
    });
    let paths = paths.map_err(|_| anyhow!("the uploads panicked"))??;
    ensure!(paths.len() > 3, "only {} uploads", paths.len());
    Ok((run?.expect(0)?, paths))
}

/// No row of the target promises bytes that are not there.
fn assert_whole(to: &Server) -> Result<()> {
    let blobs = to.store.blobs(&to.database)?;
    let promised = to
        .database
        .query("SELECT id FROM files WHERE status = 'uploaded'")?;
    ensure!(promised.len() > 100, "only {} files", promised.len());
    for id in promised.concat() {
        ensure!(
            blobs.iter().any(|blob| blob.starts_with(&id)),
            "file {id} has no bytes"
        );
    }
    Ok(())
}

#[test]
fn what_is_copied_from_a_living_server_is_whole() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", &[SOME, &["--now"]].concat())?;
    let to = scene.local("to")?;
    while_it_lives(&scene, &from, &to, &[])?;
    assert_whole(&to)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn what_is_copied_from_a_living_server_to_services_is_whole() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", &[SOME, &["--now"]].concat())?;
    let to = scene.server("to", Database::postgres()?, Store::bucket()?)?;
    while_it_lives(&scene, &from, &to, &[])?;
    assert_whole(&to)
}

/// The blobs while the server lives, the rows when it has stopped: nothing is lost, and the second
/// run has few blobs to copy.
#[test]
fn blobs_can_go_before_the_server_stops() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", &[SOME, &["--now"]].concat())?;
    let to = scene.local("to")?;
    let (first, paths) = while_it_lives(&scene, &from, &to, &["--data-only"])?;
    let second = scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(
        second.summary("blobs")?.present,
        first.summary("blobs")?.copied
    );
    let daemon = scene.serve(&to)?;
    for (number, path) in paths.iter().enumerate() {
        assert_eq!(
            daemon.download(path)?,
            format!("upload {number}").as_bytes(),
            "{path}"
        );
    }
    Ok(())
}

fn not_while_served(scene: &Scene, to: &Server) -> Result<()> {
    let from = scene.made_up("from", SMALL)?;
    let daemon = scene.serve(to)?;
    let rows = to.database.rows()?;
    for (options, code) in [(&["--dry-run"][..], 7), (&[], 7)] {
        scene.migrate(&from, to, options)?.expect(code)?.says(&[
            "is in use by a server or another migration",
            "hint: stop it first",
        ])?;
    }
    assert_eq!(to.database.rows()?, rows);
    drop(daemon);
    scene.migrate(&from, to, &[])?.expect(0)?;
    Ok(())
}

#[test]
fn a_target_that_is_served_is_left_alone() -> Result<()> {
    let scene = Scene::new()?;
    not_while_served(&scene, &scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn a_target_that_is_served_by_services_is_left_alone() -> Result<()> {
    let scene = Scene::new()?;
    not_while_served(
        &scene,
        &scene.server("to", Database::postgres()?, Store::bucket()?)?,
    )
}
