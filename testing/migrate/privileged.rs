//! What only root can set up: somebody else's files, and a file system that is full.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::interlocks::refused;
use crate::places::{Database, Store};
use crate::scene::{NO_FILES, Run, SMALL, SOME, Scene, md5_hex, run};
use crate::unusable_sources::cut_off;

/// Root may write anywhere, so somebody else runs the program.
#[test]
#[ignore = "needs a root that may mount file systems"]
fn a_target_that_this_user_may_not_write() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    for (name, mode) in [(".", 0o755), ("from.db", 0o644), ("from.files", 0o755)] {
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(mode))?;
    }
    fs::create_dir(scene.path("closed"))?;
    let to = scene.server(
        "to",
        Database::Sqlite(scene.path("closed/to.db")),
        Store::Directory(scene.path("closed/files")),
    )?;
    for (half, name) in [
        ("--metadata-only", "to.db"),
        ("--data-only", "closed/files"),
    ] {
        for (dry, code) in [(Some("--dry-run"), 4), (None, 4)] {
            let options: Vec<&str> = [half].into_iter().chain(dry).collect();
            let before = scene.listing()?;
            as_nobody(scene.migration(&from.config, &to.config, &options))?
                .expect(code)?
                .says(&["the target cannot be used", name, "refused to", "hint: "])?;
            scene.is_as(&before)?;
        }
    }
    Ok(())
}

/// Without the right to roll it back, half a transaction must not be taken for the whole.
#[test]
#[ignore = "needs a root that may mount file systems"]
fn a_source_cut_off_in_a_transaction_that_this_user_may_not_write() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    cut_off(&scene, &from)?;
    for (name, mode) in [(".", 0o755), ("from.db", 0o644), ("from.db-journal", 0o644)] {
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(mode))?;
    }
    let before = scene.listing()?;
    as_nobody(scene.migration(&from.config, &to.config, &["--dry-run"]))?
        .expect(1)?
        .says(&["was left in the middle of a transaction", "hint: "])?;
    scene.is_as(&before)
}

fn as_nobody(command: Command) -> Result<Run> {
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    nobody.arg(command.get_program()).args(command.get_args());
    nobody.env_clear();
    if let Some(directory) = command.get_current_dir() {
        nobody.current_dir(directory);
    }
    run(nobody)
}

/// One blob of the source that may not be read is a problem of that blob.
#[test]
#[ignore = "needs a root that may mount file systems"]
fn a_blob_that_this_user_may_not_read() -> Result<()> {
    let scene = Scene::new()?;
    fs::set_permissions(scene.path("."), fs::Permissions::from_mode(0o777))?;
    let from = scene.made_up("from", NO_FILES)?;
    from.database.add_upload("theUpload")?;
    for id in ["aGoodFile", "closedFile", "zGoodFile"] {
        from.database
            .add_file(id, "theUpload", "uploaded", id.as_bytes())?;
        from.store.put(id, id.as_bytes())?;
    }
    // What was made up is its owner's alone.
    for (name, mode) in [("from.db", 0o644), ("from.files", 0o755)] {
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(mode))?;
    }
    let closed = from.store.path_of("closedFile");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000))?;
    let to = scene.local("to")?;
    as_nobody(scene.migration(&from.config, &to.config, &[]))?
        .expect(1)?
        .says(&["closedFile", "refused to read blob", "--ignore-errors"])?;
    let run = as_nobody(scene.migration(&from.config, &to.config, &["--ignore-errors"]))?;
    let run = run.expect(20)?;
    let blobs = run.summary("blobs")?;
    assert_eq!((blobs.copied + blobs.present, blobs.failed), (2, 1));
    run.says(&["failed: blob closedFile of upload theUpload ("])?;
    assert_eq!(to.database.count("files")?, 2);
    // The directory as a whole is another matter.
    let Store::Directory(files) = &from.store else {
        unreachable!("local servers have a directory")
    };
    fs::set_permissions(files, fs::Permissions::from_mode(0o700))?;
    as_nobody(scene.migration(&from.config, &to.config, &["--ignore-errors"]))?
        .expect(4)?
        .says(&["the source cannot be used", "from.files"])?;
    Ok(())
}

struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(path: &Path, size: &str) -> Result<Self> {
        fs::create_dir(path)?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(path);
        run(mount)?.expect(0)?;
        Ok(Self(path.to_owned()))
    }

    fn bind(directory: &Path, path: &Path) -> Result<Self> {
        fs::create_dir(path)?;
        let mut mount = Command::new("mount");
        mount.arg("--bind").arg(directory).arg(path);
        run(mount)?.expect(0)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
#[ignore = "needs a root that may mount file systems"]
fn a_target_without_room() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", &[SMALL, &["--file-size=64KiB"]].concat())?;
    let small = Mounted::tmpfs(&scene.path("small"), "256k")?;
    let directory = |path: &Path| Store::Directory(path.join("files"));
    let to = scene.server(
        "to",
        Database::Sqlite(scene.path("to.db")),
        directory(&small.0),
    )?;
    refused(&scene, &from, &to, &[], 1)?.says(&["bytes free", "hint: free some space"])?;
    let to = scene.server(
        "to",
        Database::Sqlite(small.0.join("to.db")),
        directory(&scene.path(".")),
    )?;
    refused(&scene, &from, &to, &[], 1)?.says(&["bytes free", "hint: free some space"])?;
    Ok(())
}

/// One byte takes a block: a place that is large enough by the numbers can fill up all the same.
#[test]
#[ignore = "needs a root that may mount file systems"]
fn a_target_that_fills_up_in_the_middle() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", &[SOME, &["--seed=2"]].concat())?;
    from.database
        .query("UPDATE files SET size = 1, status = 'uploaded'")?;
    for id in from.database.query("SELECT id FROM files")?.concat() {
        let md5 = md5_hex(b"x");
        from.database
            .query(&format!("UPDATE files SET md5 = '{md5}' WHERE id = '{id}'"))?;
        from.store.put(&id, b"x")?;
    }
    let small = Mounted::tmpfs(&scene.path("small"), "256k")?;
    let store = Store::Directory(small.0.join("files"));
    let to = scene.server("to", Database::Sqlite(scene.path("to.db")), store)?;
    let run = scene.migrate(&from, &to, &[])?.expect(1)?;
    run.says(&["has no space left", "hint: free some space"])?;
    assert_eq!(to.database.count("files")?, 0);
    let blobs = to.store.blobs(&to.database)?;
    ensure!(
        blobs.is_subset(&from.store.blobs(&from.database)?),
        "something else is visible"
    );
    let mut larger = Command::new("mount");
    larger.args(["-o", "remount,size=16m"]).arg(&small.0);
    crate::scene::run(larger)?.expect(0)?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(
        from.store.blobs(&from.database)?,
        to.store.blobs(&to.database)?
    );
    Ok(())
}

/// The file beside an empty SQLite database, into which the rows go, meets a disk that somebody
/// else fills meanwhile.
#[test]
#[ignore = "needs a root that may mount file systems"]
fn a_database_that_is_loaded_while_its_disk_fills_up() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    from.database.query(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 40000) \
         INSERT INTO uploads (id, comments) SELECT 'upload' || n, hex(zeroblob(100)) FROM n",
    )?;
    let small = Mounted::tmpfs(&scene.path("small"), "80m")?;
    let files = Store::Directory(scene.path("to.files"));
    let to = scene.server("to", Database::Sqlite(small.0.join("to.db")), files)?;
    let options = ["--metadata-only", "--nice=2"];
    let filled = scene
        .migration(&from.config, &to.config, &options)
        .spawn()?;
    let loading = small.0.join("to.db.loading");
    crate::scene::wait_until("the rows go beside it", || Ok(loading.exists()))?;
    let filler = small.0.join("filler");
    // Ends when there is no room left.
    let full = fs::write(&filler, vec![0; 80 << 20]).map_err(|error| error.kind());
    assert_eq!(full, Err(std::io::ErrorKind::StorageFull));
    let run = crate::scene::finish(filled)?.expect(1)?;
    run.says(&["has no space left", "hint: free some space"])?;
    ensure!(!loading.exists(), "what is of no use takes room");
    fs::remove_file(&filler)?;
    assert_eq!(to.database.count("uploads")?, 0);
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

/// A server of one would clean what the other has.
#[test]
#[ignore = "needs a root that may mount file systems"]
fn a_target_inside_the_source_by_another_mount() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let mount = Mounted::bind(&scene.path("from.files"), &scene.path("mount"))?;
    let inside = Store::Directory(mount.0.join("inside"));
    let to = scene.server("to", Database::Sqlite(scene.path("to.db")), inside)?;
    scene
        .migrate(&from, &to, &[])?
        .expect(2)?
        .says(&["source and target"])?;
    Ok(())
}
