//! What a run finds out about the bucket that blobs are to go to, before it writes anything else.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::own_s3::OwnS3;
use crate::places::{Database, Store};
use crate::scene::{Run, SMALL, Scene, Server, assert_equal, finish, run, signal, wait_until};

/// A server of the test's own, and what is to move to it.
struct Move {
    scene: Scene,
    from: Server,
}

/// What a run came to, and how often a fault happened.
struct Met {
    run: Run,
    faults: usize,
}

impl Move {
    fn prepare() -> Result<Self> {
        let scene = Scene::new()?;
        let from = scene.made_up("from", SMALL)?;
        Ok(Self { scene, from })
    }

    /// With a blob that goes in parts.
    fn with_large_blob() -> Result<Self> {
        let this = Self::prepare()?;
        let database = &this.from.database;
        let large = vec![7; 6 << 20];
        database.add_upload("theUpload")?;
        database.add_file("largeFile", "theUpload", "uploaded", &large)?;
        this.from.store.put("largeFile", &large)?;
        Ok(this)
    }

    fn server(&self, name: &str, url: &str) -> Result<Server> {
        let store = Store::Bucket {
            server: url.to_owned(),
            bucket: format!("bucket-{name}"),
            settings: "PartSize = 5242880\nPrefix = \"some/where\"".to_owned(),
        };
        let database = Database::Sqlite(self.scene.path(&format!("{name}.db")));
        self.scene.server(name, database, store)
    }

    fn start(&self, faults: &[&str]) -> Result<(OwnS3, String)> {
        let log = self.scene.path("faults.log").display().to_string();
        let mut arguments = vec!["--fault-log", &log];
        for fault in faults {
            arguments.extend(["--fault", fault]);
        }
        OwnS3::start(&self.scene, &arguments)
    }

    fn run(&self, faults: &[&str], options: &[&str]) -> Result<Met> {
        let (_s3, url) = self.start(faults)?;
        let to = self.server("to", &url)?;
        let run = self.scene.migrate(&self.from, &to, options)?;
        let met = fs::read_to_string(self.scene.path("faults.log"))?;
        Ok(Met {
            run,
            faults: met.lines().count(),
        })
    }

    /// As [`run`](Self::run), and everything arrives.
    fn run_to_the_end(&self, faults: &[&str]) -> Result<Met> {
        let met = self.run(faults, &[])?;
        let (_s3, url) = self.start(&[])?;
        assert_equal(&self.from, &self.server("to", &url)?)?;
        Ok(met)
    }

    /// Neither objects nor parts of objects in the server's directory.
    fn assert_nothing_left(&self) -> Result<()> {
        let mut left = self.scene.listing()?;
        left.retain(|path| path.contains("plikd-trial-") || path.contains("upload_id"));
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    }
}

#[test]
fn a_sound_server_passes_everything_and_nothing_stays() -> Result<()> {
    let this = Move::with_large_blob()?;
    this.run_to_the_end(&[])?.run.expect(0)?.says(&[
        "✓ objects: can be stored and read",
        "✓ removal of objects: leaves nothing",
        "✓ empty objects: can be stored",
        "✓ checksums: ETags prove what arrived and a wrong Content-MD5 is refused",
        "✓ conditional writes: ",
        "✓ lists: are whole and in order",
        "✓ objects in parts: can be stored",
    ])?;
    this.assert_nothing_left()
}

#[test]
fn a_dry_run_tries_nothing() -> Result<()> {
    let this = Move::prepare()?;
    let met = this.run(&["Trial.PutObject:1+:403"], &["--dry-run"])?;
    met.run.expect(0)?.never_says(&["objects: can be stored"])?;
    assert_eq!(met.faults, 0);
    Ok(())
}

#[test]
fn a_bucket_that_refuses_ends_the_run_before_anything_is_written() -> Result<()> {
    let this = Move::prepare()?;
    let met = this.run(&["Trial.PutObject:1+:403"], &["--json"])?;
    let said = met.run.expect(4)?.stdout;
    for part in [
        r#""name":"target data""#,
        r#""verdict":"failed""#,
        "refused to store an object on trial",
        "403 AccessDenied",
        "check the access key",
    ] {
        ensure!(said.contains(part), "{part} is not in {said}");
    }
    assert!(!this.scene.path("to.db").exists());
    this.assert_nothing_left()
}

#[test]
fn parts_that_are_refused_are_found_before_the_first_blob() -> Result<()> {
    let this = Move::with_large_blob()?;
    let met = this.run(&["Trial.UploadPart:2+:403"], &[])?;
    met.run
        .expect(4)?
        .says(&["refused to store an object in parts on trial"])?;
    assert!(!this.scene.path("to.db").exists());
    this.assert_nothing_left()
}

#[test]
fn where_no_blob_is_large_no_parts_are_tried() -> Result<()> {
    let this = Move::prepare()?;
    let met = this.run_to_the_end(&["Trial.CreateMultipartUpload:1+:403"])?;
    met.run.expect(0)?.never_says(&["objects in parts"])?;
    assert_eq!(met.faults, 0);
    Ok(())
}

#[test]
fn where_content_md5_is_passed_over_whole_blobs_are_signed() -> Result<()> {
    let this = Move::prepare()?;
    let met = this.run_to_the_end(&["Trial.PutObject:1+:no-md5"])?;
    met.run
        .expect(0)?
        .says(&["✓ checksums: ETags prove what arrived, but Content-MD5 is passed over"])?;
    this.assert_nothing_left()
}

#[test]
fn where_e_tags_are_no_md5s_all_bytes_are_signed() -> Result<()> {
    let this = Move::prepare()?;
    let met = this.run_to_the_end(&["Trial.PutObject:1+:etag", "PutObject:1+:etag"])?;
    met.run
        .expect(0)?
        .says(&["✓ checksums: all bytes are signed"])?;
    this.assert_nothing_left()
}

#[test]
fn a_bucket_whose_lists_are_out_of_order_is_not_listed() -> Result<()> {
    let this = Move::prepare()?;
    let faults = ["Trial.ListObjectsV2:1:backwards", "ListObjectsV2:1+:403"];
    // The bucket is there, or there would be nothing to list.
    this.run(&[], &["--data-only"])?.run.expect(0)?;
    let (_s3, url) = this.start(&faults)?;
    let to = this.server("to", &url)?;
    let run = this.scene.migrate(&this.from, &to, &["--data-only"])?;
    run.expect(0)?
        .says(&["! lists: are not whole, or not in order"])?;
    let met = fs::read_to_string(this.scene.path("faults.log"))?;
    assert_eq!(met, "Trial.ListObjectsV2 1\n");
    this.assert_nothing_left()
}

#[test]
fn what_may_not_be_removed_is_named() -> Result<()> {
    let this = Move::prepare()?;
    let met = this.run(&["Trial.DeleteObject:1+:403"], &[])?;
    met.run.expect(0)?.says(&[
        "! removal of objects: some/where/plikd-trial-",
        "s3:DeleteObject",
    ])?;
    Ok(())
}

#[test]
fn a_removal_that_fails_in_passing_is_tried_again() -> Result<()> {
    let this = Move::prepare()?;
    let met = this.run_to_the_end(&["Trial.DeleteObject:1:503"])?;
    met.run
        .expect(0)?
        .says(&["✓ removal of objects: leaves nothing"])?;
    this.assert_nothing_left()
}

#[test]
fn a_trial_that_fails_in_passing_is_made_again() -> Result<()> {
    let this = Move::prepare()?;
    let met = this.run_to_the_end(&["Trial.PutObject:1:503", "Trial.PutObject:2:503"])?;
    met.run.expect(0)?;
    assert_eq!(met.faults, 2);
    this.assert_nothing_left()
}

#[test]
fn an_interrupted_trial_leaves_nothing() -> Result<()> {
    let this = Move::with_large_blob()?;
    let (_s3, url) = this.start(&["Trial.UploadPart:1+:slow=1000"])?;
    let to = this.server("to", &url)?;
    let trying = this
        .scene
        .migration(&this.from.config, &to.config, &[])
        .spawn()?;
    let log = this.scene.path("faults.log");
    wait_until("parts are tried", || {
        Ok(fs::read_to_string(&log)?.contains("UploadPart"))
    })?;
    signal(&trying, Signal::INT)?;
    finish(trying)?.expect(130)?;
    std::thread::sleep(Duration::from_millis(100));
    assert!(!this.scene.path("to.db").exists());
    this.assert_nothing_left()
}

/// From bucket to bucket of one server.
#[test]
fn a_server_that_does_not_copy_is_not_asked_again() -> Result<()> {
    let this = Move::prepare()?;
    let (s3, url) = this.start(&[])?;
    let middle = this.server("middle", &url)?;
    this.scene.migrate(&this.from, &middle, &[])?.expect(0)?;
    let port = url.rsplit(':').next().context("a port")?;
    drop(s3);
    let log = this.scene.path("copies.log").display().to_string();
    let faults = [
        "--fault",
        "Trial.CopyObject:1:501",
        "--fault",
        "CopyObject:1+:501",
    ];
    let options = ["--port", port, "--fault-log", &log];
    let (_s3, url) = OwnS3::start(&this.scene, &[&options[..], &faults].concat())?;
    let to = this.server("to", &url)?;
    let migration = this.scene.migration(&middle.config, &to.config, &[]);
    run(migration)?
        .expect(0)?
        .says(&["! copies by the server: are refused, or cannot be proven"])?;
    assert_eq!(fs::read_to_string(log)?, "Trial.CopyObject 1\n");
    assert_equal(&middle, &to)?;
    this.assert_nothing_left()
}

#[test]
fn a_server_that_copies_is_found_out() -> Result<()> {
    let this = Move::prepare()?;
    let (_s3, url) = this.start(&[])?;
    let (middle, to) = (this.server("middle", &url)?, this.server("to", &url)?);
    this.scene
        .migrate(&this.from, &middle, &[])?
        .expect(0)?
        .never_says(&["copies by the server"])?;
    this.scene
        .migrate(&middle, &to, &[])?
        .expect(0)?
        .says(&["✓ copies by the server: are as good as their source"])?;
    this.assert_nothing_left()
}

#[test]
fn a_list_that_fails_in_passing_is_asked_for_again() -> Result<()> {
    let this = Move::prepare()?;
    this.run(&[], &[])?.run.expect(0)?;
    let met = this.run(&["ListObjectsV2:1:500", "Trial.ListObjectsV2:1:503"], &[])?;
    met.run
        .expect(0)?
        .says(&["✓ lists: are whole and in order"])?;
    assert_eq!(met.faults, 2);
    Ok(())
}

#[test]
fn what_a_killed_trial_has_left_goes_when_the_command_is_run_again() -> Result<()> {
    let this = Move::with_large_blob()?;
    let (s3, url) = this.start(&["Trial.CompleteMultipartUpload:1:slow=60000"])?;
    let to = this.server("to", &url)?;
    let trying = this
        .scene
        .migration(&this.from.config, &to.config, &[])
        .spawn()?;
    let log = this.scene.path("faults.log");
    wait_until("parts are put together", || {
        Ok(fs::read_to_string(&log)?.contains("CompleteMultipartUpload"))
    })?;
    signal(&trying, Signal::KILL)?;
    finish(trying)?;
    assert!(this.assert_nothing_left().is_err());
    this.scene.migrate(&this.from, &to, &[])?.expect(0)?;
    this.assert_nothing_left()?;
    assert_equal(&this.from, &to)?;
    drop(s3);
    Ok(())
}
