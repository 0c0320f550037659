//! A SQLite file whose server was moved to PostgreSQL, and what nobody does to it by mistake.

use std::fs;

use anyhow::Result;

use crate::scene::{SMALL, Scene, Server};

const MOVED: &str = "was migrated to PostgreSQL at 2026-01-02T03:04:05Z";

/// Leaves the marker that `--dialect postgres` leaves.
fn mark(scene: &Scene, server: &str) -> Result<()> {
    scene.write(
        &format!("{server}.db.moved"),
        "2026-01-02T03:04:05Z\npostgres db:5432/plik\n",
    )?;
    Ok(())
}

/// Two servers, of which the second has all rows of the first.
fn migrated() -> Result<(Scene, Server, Server)> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let to = scene.local("to")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    Ok((scene, from, to))
}

#[test]
fn rows_from_a_moved_database_are_copied_with_a_warning() -> Result<()> {
    let (scene, from, to) = migrated()?;
    mark(&scene, "from")?;
    let warning = ["warning: ", MOVED, "what has changed since is not in it"];
    scene
        .migrate(&from, &to, &["--dry-run"])?
        .expect(0)?
        .says(&warning)?;
    scene.migrate(&from, &to, &[])?.expect(0)?.says(&warning)?;
    Ok(())
}

/// Its old rows would take the place of those that the server has written since.
#[test]
fn a_moved_database_is_never_what_others_are_made_equal_to() -> Result<()> {
    let (scene, from, to) = migrated()?;
    mark(&scene, "from")?;
    to.database.query("UPDATE uploads SET comments = 'new'")?;
    let rows = to.database.rows()?;
    for options in [&["--sync"][..], &["--sync", "--delete"]] {
        let refused = scene.migrate(&from, &to, options)?.expect(1)?;
        refused.says(&[MOVED, "hint: set PLIKD_POSTGRES_URL", "--use-old-database"])?;
    }
    assert_eq!(to.database.rows()?, rows);
    Ok(())
}

#[test]
fn nothing_is_written_to_a_moved_database() -> Result<()> {
    let (scene, from, to) = migrated()?;
    mark(&scene, "to")?;
    to.database.query("DELETE FROM tokens")?;
    scene.write("rows.jsonl", "")?;
    let before = scene.listing()?;
    for options in [&[][..], &["--metadata-only"], &["--dry-run"]] {
        let refused = scene.migrate(&from, &to, options)?.expect(1)?;
        refused.says(&[MOVED, "hint: let --to name another file"])?;
    }
    let mut replay = scene.plikd();
    replay.arg("--config").arg(&from.config);
    replay.args(["migrate", "replay", "rows.jsonl", "--to"]);
    replay.arg(&to.config);
    crate::scene::run(replay)?.expect(1)?.says(&[MOVED])?;
    scene.is_as(&before)?;
    fs::remove_file(scene.path("to.db.moved"))?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    Ok(())
}
