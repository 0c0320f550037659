//! Blobs that are not what their rows say: never at the target, and named.

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use plikd::config::{self, Environment, Loaded};
use plikd::migrate::{
    self, BlobProblem, Endpoint, Event, Halves, Limiter, Limits, Mode, Options, Progress, Report,
    RetryPolicy,
};
use tokio_util::sync::CancellationToken;

use crate::places::{Database, Store, block_on};
use crate::scene::{Counts, NO_FILES, SMALL, Scene, Server};

/// A source with a sound file `goodFile`, a file `badFile` whose bytes are `stored`, and `files`
/// without trouble after it.
fn source_with(scene: &Scene, status: &str, stored: Option<&[u8]>) -> Result<Server> {
    let from = scene.made_up("from", NO_FILES)?;
    from.database.add_upload("theUpload")?;
    from.database
        .add_file("badFile", "theUpload", status, b"ten bytes!")?;
    if let Some(stored) = stored {
        from.store.put("badFile", stored)?;
    }
    for id in ["aGoodFile", "goodFile", "zGoodFile"] {
        from.database
            .add_file(id, "theUpload", "uploaded", id.as_bytes())?;
        from.store.put(id, id.as_bytes())?;
    }
    Ok(from)
}

fn fault(to: impl Fn(&Scene) -> Result<Server>, stored: Option<&[u8]>, said: &str) -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source_with(&scene, "uploaded", stored)?, to(&scene)?);
    scene.migrate(&from, &to, &[])?.expect(1)?.says(&[
        "badFile",
        "theUpload",
        said,
        "--ignore-errors",
    ])?;
    // Nothing is visible: no row promises anything yet, and no blob has the name.
    ensure!(
        to.database.count("files")? == 0,
        "rows were written before their blobs"
    );
    let run = scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?;
    run.summary("blobs")
        .map(|blobs| assert_eq!(blobs.failed, 1))?;
    let path = from.store.path_of("badFile");
    run.says(&[
        &format!(
            "failed: blob badFile of upload theUpload ({}): ",
            path.display()
        ),
        said,
        "rejected: files badFile: its blob could not be copied",
    ])?;
    let blobs = to.store.blobs(&to.database)?;
    let names: Vec<&str> = blobs
        .iter()
        .filter_map(|blob| blob.split(' ').next())
        .collect();
    assert_eq!(names, ["aGoodFile", "goodFile", "zGoodFile"]);
    // No row promises what is not there.
    assert_eq!(to.database.count("files")?, 3);
    let again = scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?;
    let expected = Counts {
        present: 3,
        failed: 1,
        ..Counts::default()
    };
    assert_eq!(again.summary("blobs")?, expected);
    // Mended in the source, it arrives.
    from.store.put("badFile", b"ten bytes!")?;
    let mended = scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(mended.summary("blobs")?.copied, 1);
    assert_eq!(from.database.rows()?, to.database.rows()?);
    assert_eq!(
        from.store.blobs(&from.database)?,
        to.store.blobs(&to.database)?
    );
    Ok(())
}

const FAULTS: [(Option<&[u8]>, &str); 5] = [
    (None, "is not in directory"),
    (Some(b"ten rotten"), "have MD5"),
    (Some(b"ten"), "3 bytes instead of 10"),
    (Some(b"more than ten bytes"), "more than the 10 bytes"),
    (Some(b""), "0 bytes instead of 10"),
];

#[test]
fn bytes_that_are_not_what_the_row_says_never_arrive() -> Result<()> {
    for (stored, said) in FAULTS {
        fault(|scene| scene.local("to"), stored, said)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn bytes_that_are_not_what_the_row_says_never_arrive_in_services() -> Result<()> {
    for (stored, said) in FAULTS {
        fault(
            |scene| scene.server("to", Database::postgres()?, Store::bucket()?),
            stored,
            said,
        )?;
    }
    Ok(())
}

#[test]
fn a_dry_run_sees_what_size_tells() -> Result<()> {
    for (stored, expected) in [
        (None, "its bytes are missing"),
        (Some(&b"ten"[..]), "another size"),
    ] {
        let scene = Scene::new()?;
        let (from, to) = (source_with(&scene, "uploaded", stored)?, scene.local("to")?);
        let run = scene.migrate(&from, &to, &["--dry-run"])?.expect(1)?;
        assert_eq!(run.summary("blobs")?.failed, 1);
        run.says(&["reject    blob badFile: ", expected])?;
    }
    Ok(())
}

/// Its row would be left out if it were not there already.
#[test]
fn a_row_that_came_before_its_blob_failed_is_told_to_be_there() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source_with(&scene, "uploaded", None)?, scene.local("to")?);
    let fresh = scene.local("fresh")?;
    scene.migrate(&from, &to, &["--metadata-only"])?.expect(0)?;
    let rejected = "rejected: files badFile: its blob could not be copied, ";
    let run = scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?;
    run.says(&[&format!("{rejected}and the target has its row")])?;
    let run = scene
        .migrate(&from, &fresh, &["--ignore-errors"])?
        .expect(20)?;
    run.says(&[&format!("{rejected}so the row is left out")])?;
    Ok(())
}

#[test]
fn missing_bytes_of_a_removed_file_are_only_told() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source_with(&scene, "removed", None)?, scene.local("to")?);
    let would = scene.migrate(&from, &to, &["--dry-run"])?.expect(0)?;
    let run = scene.migrate(&from, &to, &[])?.expect(0)?;
    let expected = Counts {
        copied: 3,
        skipped: 1,
        ..Counts::default()
    };
    assert_eq!(would.summary("blobs")?, expected);
    assert_eq!(run.summary("blobs")?, expected);
    run.says(&["skipped: blob badFile of a removed file"])?;
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

#[test]
fn bytes_of_other_statuses_stay_behind() -> Result<()> {
    for status in ["missing", "uploading", "deleted", ""] {
        let scene = Scene::new()?;
        let (from, to) = (
            source_with(&scene, status, Some(b"ten bytes!"))?,
            scene.local("to")?,
        );
        let run = scene.migrate(&from, &to, &[])?.expect(0)?;
        assert_eq!(run.summary("blobs")?, Counts::copied(3), "{status}");
        ensure!(!to.store.path_of("badFile").exists(), "{status}");
        assert_eq!(from.database.rows()?, to.database.rows()?);
    }
    Ok(())
}

/// The id in a row becomes a path; one that leads elsewhere is refused, not followed.
#[test]
fn an_id_that_is_none_is_named() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (
        source_with(&scene, "uploaded", Some(b"ten bytes!"))?,
        scene.local("to")?,
    );
    from.database
        .query("UPDATE files SET id = '../../from.cfg' WHERE id = 'badFile'")?;
    scene
        .migrate(&from, &to, &[])?
        .expect(1)?
        .says(&["is no id of a file"])?;
    let run = scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?;
    assert_eq!(run.summary("blobs")?.failed, 1);
    Ok(())
}

/// A dry run looks at every blob, whatever is wrong with one of them.
#[test]
fn a_dry_run_goes_on_past_an_id_that_is_none() -> Result<()> {
    for id in ["", "../../from.cfg"] {
        let scene = Scene::new()?;
        let (from, to) = (
            source_with(&scene, "uploaded", Some(b"ten bytes!"))?,
            scene.local("to")?,
        );
        from.database.query(&format!(
            "UPDATE files SET id = '{id}' WHERE id = 'badFile'"
        ))?;
        let run = scene.migrate(&from, &to, &["--dry-run"])?.expect(1)?;
        let expected = Counts {
            failed: 1,
            ..Counts::copied(3)
        };
        assert_eq!(run.summary("blobs")?, expected, "`{id}`");
        run.says(&[&format!("reject    blob {id}: "), "is no id of a file"])?;
    }
    Ok(())
}

/// Removes `badFile` as a server does, when the snapshot is taken and no blob is copied yet.
struct RemovesMeanwhile {
    database: Database,
    blob: PathBuf,
    sql: &'static str,
    /// What was told, or why nothing could be removed.
    problems: Mutex<Vec<Result<BlobProblem>>>,
}

impl RemovesMeanwhile {
    fn remove(&self) -> Result<()> {
        self.database.query(self.sql)?;
        Ok(fs::remove_file(&self.blob)?)
    }

    fn problems(&self) -> MutexGuard<'_, Vec<Result<BlobProblem>>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for RemovesMeanwhile {
    fn on(&self, event: Event<'_>) {
        match event {
            Event::BlobsBegin { .. } => {
                if let Err(error) = self.remove() {
                    self.problems().push(Err(error));
                }
            }
            Event::BlobProblem { problem } => self.problems().push(Ok(problem.clone())),
            _ => {}
        }
    }
}

/// No row of the target can have it, and no query may ask for it.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn an_id_with_a_nul_byte_is_named_and_ends_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let from = source_with(&scene, "uploaded", Some(b"ten bytes!"))?;
    let to = scene.postgres("to")?;
    from.database
        .query("UPDATE files SET id = 'bad' || char(0) || 'File' WHERE id = 'badFile'")?;
    for options in [&["--ignore-errors"][..], &["--ignore-errors", "--sync"]] {
        scene
            .migrate(&from, &to, options)?
            .expect(20)?
            .says(&["rejected: files bad", "the text has a NUL byte"])?;
        assert_eq!(to.database.count("files")?, 3);
    }
    scene
        .verify(&from, &to, &[])?
        .expect(21)?
        .says(&["cannot be held: files bad"])?;
    Ok(())
}

/// No server finds such a file, which is no sign that somebody removed it.
#[test]
fn a_file_whose_id_is_bytes_was_not_removed() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source_with(&scene, "uploaded", None)?, scene.local("to")?);
    from.database
        .query("UPDATE files SET id = CAST(id AS BLOB) WHERE id = 'badFile'")?;
    let run = scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?;
    let run = run.never_says(&["was removed in the source", "of a removed file"])?;
    assert_eq!(run.summary("blobs")?.failed, 1);
    Ok(())
}

/// A source that lives on may remove a file between its row and its bytes.
#[test]
fn a_file_removed_meanwhile_is_left_out_and_ends_nothing() -> Result<()> {
    for sql in [
        "UPDATE files SET status = 'removed' WHERE id = 'badFile'",
        "UPDATE files SET status = 'deleted' WHERE id = 'badFile'",
        "DELETE FROM files WHERE id = 'badFile'",
    ] {
        let scene = Scene::new()?;
        let (from, to) = (
            source_with(&scene, "uploaded", Some(b"ten bytes!"))?,
            scene.local("to")?,
        );
        from.database.query("PRAGMA journal_mode = WAL")?;
        let watch = Arc::new(RemovesMeanwhile {
            database: Database::Sqlite(scene.path("from.db")),
            blob: from.store.path_of("badFile"),
            sql,
            problems: Mutex::default(),
        });
        let report = run_here(&from, &to, watch.clone())?;
        let blobs = report.blobs.context("no blobs")?;
        assert_eq!((blobs.copied, blobs.skipped, blobs.failed), (3, 1, 0));
        let problems: Vec<BlobProblem> = watch.problems().drain(..).collect::<Result<_>>()?;
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].file_id, "badFile");
        assert!(problems[0].harmless);
        assert_eq!(problems[0].reason, "it was removed in the source meanwhile");
        // The row of the snapshot would promise bytes that are gone.
        let rows = "SELECT count(*) FROM files WHERE id = 'badFile'";
        assert_eq!(to.database.value(rows)?, "0");
        assert_eq!(to.database.count("files")?, 3);
        scene.migrate(&from, &to, &[])?.expect(0)?;
        assert_eq!(from.database.rows()?, to.database.rows()?, "{sql}");
    }
    Ok(())
}

fn endpoint(loaded: &Loaded) -> Endpoint<'_> {
    Endpoint {
        metadata: &loaded.config.metadata,
        data: &loaded.config.data,
    }
}

/// A migration in this process, which can be watched.
fn run_here(from: &Server, to: &Server, watch: Arc<dyn Progress>) -> Result<Report> {
    let env = Environment::new::<&str, &str>([]);
    let source = config::load(Some(&from.config), &env)?;
    let target = config::load_target(&source, &to.config, &env)?;
    let options = Options {
        mode: Mode::Copy,
        halves: Halves::Both,
        removes_most: false,
        shard: None,
        workers: NonZeroUsize::MIN,
        ignore_errors: false,
        rejects: None,
        fix_orphans: false,
        strip_nul: false,
        retry: RetryPolicy::default(),
        expected: None,
        replace: None,
        verify: true,
    };
    let limiter = Arc::new(Limiter::new(Limits::default()));
    block_on(async {
        let (from, to) = (endpoint(&source), endpoint(&target));
        let cancel = CancellationToken::new();
        Ok(migrate::run(from, to, options, &limiter, &watch, &cancel).await?)
    })
}

/// Plik (Go) before 1.3 kept blobs in a directory for each upload.
#[test]
fn blobs_are_found_where_an_old_release_left_them() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    let Store::Directory(directory) = &from.store else {
        unreachable!("a local server has a directory")
    };
    let expected = from.store.blobs(&from.database)?;
    for row in from
        .database
        .query("SELECT id, upload_id FROM files WHERE status IN ('uploaded', 'removed')")?
    {
        let [id, upload] = &row[..] else {
            unreachable!("two columns were asked for")
        };
        let old = directory.join(&upload[..2]).join(upload);
        fs::create_dir_all(&old)?;
        fs::rename(from.store.path_of(id), old.join(id))?;
    }
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(to.store.blobs(&to.database)?, expected);
    Ok(())
}

/// Plik (Go) 1.3 kept the announced size of a file whose content turned out to be empty.
#[test]
fn an_empty_file_is_copied_whatever_was_announced() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database.add_upload("theUpload")?;
    from.database
        .add_file("emptyFile", "theUpload", "uploaded", b"")?;
    from.database
        .query("UPDATE files SET size = 42 WHERE id = 'emptyFile'")?;
    from.store.put("emptyFile", b"")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(fs::read(to.store.path_of("emptyFile"))?, b"");
    Ok(())
}

/// A digest that is none says nothing; the size still counts.
#[test]
fn a_file_without_digest_is_copied_by_its_size() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (
        source_with(&scene, "uploaded", Some(b"ten others"))?,
        scene.local("to")?,
    );
    from.database
        .query("UPDATE files SET md5 = '' WHERE id = 'badFile'")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(fs::read(to.store.path_of("badFile"))?, b"ten others");
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(fs::read(to.store.path_of("badFile"))?, b"ten others");
    Ok(())
}
