//! From bucket to bucket of one server, which copies the blobs by itself.

use std::fs;

use anyhow::Result;

use crate::own_s3::OwnS3;
use crate::places::{Database, Store};
use crate::scene::{Run, SMALL, Scene, Server};

/// A source whose blobs are in a bucket.
struct Move {
    scene: Scene,
    made_up: Server,
}

impl Move {
    fn prepare() -> Result<Self> {
        let scene = Scene::new()?;
        let made_up = scene.made_up("made-up", SMALL)?;
        let this = Self { scene, made_up };
        let (_s3, url) = OwnS3::start(&this.scene, &[])?;
        let from = this.server("from", &url)?;
        this.scene.migrate(&this.made_up, &from, &[])?.expect(0)?;
        Ok(this)
    }

    fn server(&self, name: &str, url: &str) -> Result<Server> {
        let store = Store::Bucket {
            server: url.to_owned(),
            bucket: format!("bucket-{name}"),
            settings: String::new(),
        };
        let database = Database::Sqlite(self.scene.path(&format!("{name}.db")));
        self.scene.server(name, database, store)
    }

    /// The move while the server has these faults, and the operations that met one.
    fn run(&self, faults: &[&str], options: &[&str]) -> Result<(Run, Vec<String>)> {
        let log = self.scene.path("faults.log");
        let log_name = log.to_str().unwrap_or_default().to_owned();
        let mut arguments = vec!["--fault-log", &log_name];
        for fault in faults {
            arguments.extend(["--fault", fault]);
        }
        let (_s3, url) = OwnS3::start(&self.scene, &arguments)?;
        let run = self.scene.migrate(
            &self.server("from", &url)?,
            &self.server("to", &url)?,
            options,
        )?;
        let met = fs::read_to_string(log)?;
        Ok((run, met.lines().map(str::to_owned).collect()))
    }

    fn assert_equal(&self) -> Result<()> {
        let (_s3, url) = OwnS3::start(&self.scene, &[])?;
        let (from, to) = (self.server("from", &url)?, self.server("to", &url)?);
        let blobs = to.store.blobs(&to.database)?;
        assert_eq!(from.store.blobs(&from.database)?, blobs);
        assert!(!blobs.is_empty());
        assert_eq!(from.database.rows()?, to.database.rows()?);
        Ok(())
    }

    fn count(&self, sql: &str) -> Result<usize> {
        Ok(self.made_up.database.value(sql)?.parse()?)
    }
}

const WITH_MD5: &str = "SELECT count(*) FROM files WHERE status = 'uploaded' AND length(md5) = 32";

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn no_blob_is_read_and_all_are_there() -> Result<()> {
    let this = Move::prepare()?;
    // Whoever reads or sends a blob has to fail.
    let (run, met) = this.run(&["GetObject:1+:403", "PutObject:1+:403"], &[])?;
    let run = run.expect(0)?;
    assert_eq!(met, [] as [&str; 0]);
    let copied = run.summary("blobs")?.copied as usize;
    run.says(&[&format!(
        "{copied} copied ({copied} by the S3 server itself), "
    )])?;
    assert!(copied >= this.count(WITH_MD5)? && copied > 0);
    this.assert_equal()
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn blobs_go_the_longer_way_if_the_server_does_not_copy() -> Result<()> {
    for refusal in ["501", "403"] {
        let this = Move::prepare()?;
        let (run, met) = this.run(&[&format!("CopyObject:1+:{refusal}")], &["--workers=1"])?;
        run.expect(0)?;
        assert_eq!(met, ["CopyObject 1"], "it is asked once");
        this.assert_equal()?;
    }
    Ok(())
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_copy_that_fails_behind_its_status_is_tried_again() -> Result<()> {
    let this = Move::prepare()?;
    let (run, met) = this.run(&["CopyObject:2:error-in-200"], &[])?;
    run.expect(0)?.says(&["retry 1 in "])?;
    assert_eq!(met, ["CopyObject 2"]);
    this.assert_equal()
}

/// What is done, but told to nobody, is not done again.
#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_blob_whose_answer_is_lost_is_not_sent_again() -> Result<()> {
    let this = Move::prepare()?;
    let faults = [
        "CopyObject:1:truncate",
        "CopyObject:2+:501",
        "PutObject:1+:403",
    ];
    let lone = "DELETE FROM files WHERE id <> (SELECT min(id) FROM files WHERE status = 'uploaded' \
                AND length(md5) = 32)";
    Database::Sqlite(this.scene.path("from.db")).query(lone)?;
    let (run, met) = this.run(&faults, &[])?;
    run.expect(0)?.says(&["retry 1 in "])?;
    assert_eq!(met, ["CopyObject 1"]);
    Ok(())
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_rotten_blob_is_named_and_not_copied() -> Result<()> {
    let this = Move::prepare()?;
    let id = this.made_up.database.value(
        "SELECT min(id) FROM files WHERE status = 'uploaded' AND length(md5) = 32 AND size > 0",
    )?;
    {
        let (_s3, url) = OwnS3::start(&this.scene, &[])?;
        let from = this.server("from", &url)?;
        let rotten = from.store.rewrite_objects(|key| key.ends_with(&id))?;
        assert_eq!(rotten, 1);
    }
    let (run, _) = this.run(&[], &["--ignore-errors"])?;
    run.expect(20)?.says(&[&id, "MD5"])?;
    let (_s3, url) = OwnS3::start(&this.scene, &[])?;
    let to = this.server("to", &url)?;
    let blobs = to.store.blobs(&to.database)?;
    assert!(!blobs.is_empty());
    assert!(!blobs.iter().any(|blob| blob.contains(&id)), "{blobs:?}");
    Ok(())
}
