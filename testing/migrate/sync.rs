//! A source that has lived on since it was migrated, and `--sync`.

use anyhow::{Result, ensure};

use crate::places::{Database, Store};
use crate::scene::{Counts, SOME, Scene, Server, md5_hex};

fn services(scene: &Scene) -> Result<Server> {
    scene.server("to", Database::postgres()?, Store::bucket()?)
}

/// The id of a file that has bytes, the first behind `id`.
fn file_behind(server: &Server, id: &str) -> Result<String> {
    server.database.value(&format!(
        "SELECT min(id) FROM files WHERE status = 'uploaded' AND id > '{id}'"
    ))
}

/// Changes a user, an upload and the bytes of a file, removes a file as servers do, adds another.
fn live_on(from: &Server) -> Result<()> {
    let changed = file_behind(from, "")?;
    let removed = file_behind(from, &changed)?;
    let bytes = b"not what it was";
    from.store.put(&changed, bytes)?;
    let (md5, size) = (md5_hex(bytes), bytes.len());
    for sql in [
        "UPDATE users SET name = 'another' WHERE id = (SELECT min(id) FROM users)".to_owned(),
        "UPDATE uploads SET comments = 'another' WHERE id = (SELECT max(id) FROM uploads)".into(),
        format!("UPDATE files SET md5 = '{md5}', size = {size} WHERE id = '{changed}'"),
        format!("UPDATE files SET status = 'removed' WHERE id = '{removed}'"),
    ] {
        from.database.query(&sql)?;
    }
    from.database.add_upload("newUploadNewUpload")?;
    from.database
        .add_file("newFileNewFile", "newUploadNewUpload", "uploaded", b"new")?;
    from.store.put("newFileNewFile", b"new")
}

fn assert_equal(from: &Server, to: &Server) -> Result<()> {
    let rows = |server: &Server| server.database.rows_without(&["files.backend_details"]);
    assert_eq!(rows(from)?, rows(to)?);
    assert_eq!(
        from.store.blobs(&from.database)?,
        to.store.blobs(&to.database)?
    );
    Ok(())
}

fn brings_what_has_changed(scene: &Scene, to: &Server) -> Result<()> {
    let from = scene.made_up("from", SOME)?;
    scene.migrate(&from, to, &["--sync"])?.expect(0)?;
    assert_equal(&from, to)?;
    live_on(&from)?;
    let plain = scene.migrate(&from, to, &["--ignore-errors"])?.expect(20)?;
    plain.says(&["conflict: users", "conflict: uploads", "--sync"])?;
    let dry = scene.migrate(&from, to, &["--sync", "--dry-run", "-v"])?;
    let dry = dry
        .expect(0)?
        .says(&["update    users", "update    uploads", "1 to update"])?;
    ensure!(dry.summary("users")?.conflicts == 0, "{dry}");
    let run = scene.migrate(&from, to, &["--sync"])?.expect(0)?;
    let run = run.says(&["1 updated", "2 updated"])?;
    assert_eq!(run.summary("users")?.conflicts, 0);
    assert_equal(&from, to)?;
    let again = scene.migrate(&from, to, &["--sync"])?.expect(0)?;
    let again = again.never_says(&["updated"])?;
    for what in ["users", "uploads", "files", "blobs"] {
        let Counts { copied, failed, .. } = again.summary(what)?;
        assert_eq!((copied, failed), (0, 0), "{what}");
    }
    Ok(())
}

#[test]
fn a_repeated_run_brings_what_has_changed() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.local("to")?;
    brings_what_has_changed(&scene, &to)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn a_repeated_run_brings_what_has_changed_to_services() -> Result<()> {
    let scene = Scene::new()?;
    let to = services(&scene)?;
    brings_what_has_changed(&scene, &to)
}

/// Their rows are the same on both sides, so nothing but the listing of the target tells.
#[test]
fn blobs_that_the_target_has_lost_are_brought_again() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.local("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let lost = file_behind(&from, "")?;
    let cut = file_behind(&from, &lost)?;
    std::fs::remove_file(to.store.path_of(&lost))?;
    to.store.put(&cut, b"")?;
    let run = scene.migrate(&from, &to, &["--sync"])?.expect(0)?;
    assert_eq!(run.summary("blobs")?.copied, 2);
    assert_equal(&from, &to)
}

/// The rows and blobs that go are those that came from the source; a row of the target's own, in a
/// range of keys with others, keeps all of those.
fn removes_what_is_gone(scene: &Scene, to: &Server) -> Result<()> {
    let from = scene.made_up("from", SOME)?;
    scene.migrate(&from, to, &[])?.expect(0)?;
    let upload = from
        .database
        .value("SELECT min(upload_id) FROM files WHERE status = 'uploaded'")?;
    let erased = from.database.value(&format!(
        "SELECT min(id) FROM files WHERE status = 'uploaded' AND upload_id <> '{upload}'"
    ))?;
    for sql in [
        format!("DELETE FROM files WHERE upload_id = '{upload}'"),
        format!("DELETE FROM uploads WHERE id = '{upload}'"),
        format!("UPDATE files SET status = 'deleted' WHERE id = '{erased}'"),
    ] {
        from.database.query(&sql)?;
    }
    let gone = scene.migrate(&from, to, &["--sync"])?.expect(20)?;
    gone.says(&[&format!("extra: uploads {upload}"), "only in the target"])?;
    to.database.add_upload("--own")?;
    let late = from.database.value(&format!(
        "SELECT max(id) FROM files WHERE status = 'uploaded' AND id <> '{erased}'"
    ))?;
    from.database.query(&format!(
        "UPDATE files SET status = 'deleted' WHERE id = '{late}'"
    ))?;
    let of_upload = to.database.value(&format!(
        "SELECT min(id) FROM files WHERE upload_id = '{upload}'"
    ))?;
    let before = scene.listing()?;
    let dry = scene.migrate(&from, to, &["--sync", "--delete", "--dry-run"])?;
    dry.expect(20)?.says(&[
        &format!("delete    uploads {upload}\n"),
        &format!("delete    files {of_upload}\n"),
        &format!("update    files {late}\n"),
        &format!("delete    blob {late}\n"),
        "extra     uploads --own: it stays: where it came from cannot be told",
        "1 to delete, 1 only in the target",
    ])?;
    scene.is_as(&before)?;
    let run = scene.migrate(&from, to, &["--sync", "--delete"])?;
    run.expect(20)?.says(&[
        &format!("deleted: uploads {upload}: it is gone from the source"),
        &format!("deleted: files {of_upload}: "),
        &format!("updated: files {late}\n"),
        &format!("deleted: blob {late} of upload "),
        &format!("deleted: blob {erased} of upload "),
        "extra: uploads --own",
        "1 deleted, 1 only in the target",
        "1 only in the target",
    ])?;
    to.database
        .query("DELETE FROM uploads WHERE id = '--own'")?;
    scene
        .migrate(&from, to, &["--sync", "--delete"])?
        .expect(0)?;
    assert_eq!(
        from.database.rows_without(&["files.backend_details"])?,
        to.database.rows_without(&["files.backend_details"])?
    );
    let blobs = to.store.blobs(&to.database)?;
    let promised = from
        .database
        .query("SELECT id FROM files WHERE status IN ('uploaded', 'removed')")?
        .concat();
    for blob in &blobs {
        ensure!(promised.iter().any(|id| blob.starts_with(id)), "{blob}");
    }
    Ok(())
}

#[test]
fn what_is_gone_from_the_source_is_removed_and_nothing_else() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.local("to")?;
    removes_what_is_gone(&scene, &to)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn what_is_gone_from_the_source_is_removed_from_services_and_nothing_else() -> Result<()> {
    let scene = Scene::new()?;
    let to = services(&scene)?;
    removes_what_is_gone(&scene, &to)
}

#[test]
fn a_row_whose_origin_cannot_be_told_stays() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.local("to")?);
    scene.migrate(&from, &to, &["--no-verify"])?.expect(0)?;
    let id = file_behind(&from, "")?;
    from.database
        .query(&format!("DELETE FROM files WHERE id = '{id}'"))?;
    for _ in 0..2 {
        let run = scene.migrate(&from, &to, &["--sync", "--delete"])?;
        run.expect(20)?
            .says(&[&format!("extra: files {id}: only the target has it")])?
            .never_says(&[" deleted"])?;
    }
    ensure!(to.store.path_of(&id).exists(), "its blob was removed");
    Ok(())
}

/// A source that was emptied, or took the place of the right one, does not empty its target.
fn an_emptied_source_is_a_question(scene: &Scene, to: &Server) -> Result<()> {
    let from = scene.made_up("from", SOME)?;
    scene.migrate(&from, to, &[])?.expect(0)?;
    let files = to.database.count("files")?;
    let half = format!(
        "DELETE FROM files WHERE id IN (SELECT id FROM files ORDER BY id LIMIT {})",
        files / 2
    );
    from.database.query(&half)?;
    let dry = scene.migrate(&from, to, &["--sync", "--delete", "--dry-run"])?;
    assert_eq!(dry.expect(0)?.summary("files")?.copied, 0);
    for table in ["files", "uploads"] {
        from.database.query(&format!("DELETE FROM {table}"))?;
    }
    let held = (to.database.rows()?, to.store.blobs(&to.database)?);
    let of = format!("--delete would remove {files} of the {files} files that ");
    for options in [&["--dry-run"][..], &["--plan", "plan.json"], &[]] {
        let run = scene.migrate(&from, to, &[&["--sync", "--delete"], options].concat())?;
        run.expect(1)?.says(&[
            &of,
            "they are gone from it",
            "hint: nothing was removed",
            "give --yes too",
        ])?;
        assert_eq!((to.database.rows()?, to.store.blobs(&to.database)?), held);
    }
    ensure!(!scene.path("plan.json").exists(), "a plan was written");
    // Nothing was begun, so that a server starts on what was left alone.
    assert_eq!(to.database.count("plikd_migrate_checkpoints")?, 0);
    scene.migrate(&from, to, &["--sync"])?.expect(20)?;
    scene
        .migrate(&from, to, &["--sync", "--delete", "--yes", "--dry-run"])?
        .expect(0)?;
    scene
        .migrate(&from, to, &["--sync", "--delete", "--yes"])?
        .expect(0)?;
    assert_eq!(to.database.count("files")?, 0);
    ensure!(to.store.blobs(&to.database)?.is_empty(), "blobs were left");
    Ok(())
}

#[test]
fn an_emptied_source_does_not_empty_the_target() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.local("to")?;
    an_emptied_source_is_a_question(&scene, &to)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn an_emptied_source_does_not_empty_services() -> Result<()> {
    let scene = Scene::new()?;
    let to = services(&scene)?;
    an_emptied_source_is_a_question(&scene, &to)
}

/// A source and its target, which has three times as many files of its own, and the number of the
/// others.
fn ends_of_which_one_has_its_own(scene: &Scene) -> Result<(Server, Server, u64)> {
    let (from, to) = (scene.made_up("from", SOME)?, scene.local("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let files = to.database.count("files")?;
    to.database.add_upload("ownUpload")?;
    for number in 0..3 * files {
        to.database
            .add_file(&format!("own{number}"), "ownUpload", "missing", b"")?;
    }
    Ok((from, to, files))
}

#[test]
fn files_of_its_own_do_not_hide_that_all_the_others_would_go() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to, files) = ends_of_which_one_has_its_own(&scene)?;
    from.database.query("DELETE FROM files")?;
    for options in [&["--dry-run"][..], &[]] {
        let run = scene.migrate(&from, &to, &[&["--sync", "--delete"], options].concat())?;
        run.expect(1)?.says(&["--delete would remove"])?;
    }
    assert_eq!(to.database.count("files")?, 4 * files);
    Ok(())
}

/// What the target has of its own is not about to go, so it is no reason to stop.
#[test]
fn a_target_with_more_of_its_own_is_no_question() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to, files) = ends_of_which_one_has_its_own(&scene)?;
    let run = scene
        .migrate(&from, &to, &["--sync", "--delete"])?
        .expect(20)?;
    run.never_says(&["would remove"])?;
    assert_eq!(to.database.count("files")?, 4 * files);
    Ok(())
}
