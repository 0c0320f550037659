//! From bucket to bucket of one server, which copies the blobs by itself.

use std::fs;

use anyhow::Result;

use crate::own_s3::OwnS3;
use crate::places::{Database, Store};
use crate::scene::{Run, SMALL, Scene, Server};

const LARGE: &str = "largeFile";

/// A source whose blobs are in a bucket.
struct Move {
    scene: Scene,
    made_up: Server,
}

impl Move {
    fn prepare() -> Result<Self> {
        let scene = Scene::new()?;
        let made_up = scene.made_up("made-up", SMALL)?;
        Self { scene, made_up }.into_bucket()
    }

    /// With a blob that came in parts.
    fn with_large_blob() -> Result<Self> {
        let scene = Scene::new()?;
        let made_up = scene.made_up("made-up", SMALL)?;
        let database = &made_up.database;
        let large = vec![7; 6 << 20];
        database.add_upload("theUpload")?;
        database.add_file(LARGE, "theUpload", "uploaded", &large)?;
        made_up.store.put(LARGE, &large)?;
        Self { scene, made_up }.into_bucket()
    }

    fn into_bucket(self) -> Result<Self> {
        let this = self;
        let (_s3, url) = OwnS3::start(&this.scene, &[])?;
        let from = this.server("from", &url)?;
        this.scene.migrate(&this.made_up, &from, &[])?.expect(0)?;
        Ok(this)
    }

    fn server(&self, name: &str, url: &str) -> Result<Server> {
        let store = Store::Bucket {
            server: url.to_owned(),
            bucket: format!("bucket-{name}"),
            settings: "PartSize = 5242880".to_owned(),
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

#[test]
fn a_blob_that_came_in_parts_is_not_read_either() -> Result<()> {
    let this = Move::with_large_blob()?;
    let (run, met) = this.run(&["GetObject:1+:403", "UploadPart:1+:403"], &[])?;
    run.expect(0)?
        .says(&["✓ copies of objects in parts: tell the MD5 of the whole, and are used"])?;
    assert_eq!(met, [] as [&str; 0]);
    this.assert_equal()
}

/// The server copies their parts, and whoever sends one has to fail.
#[test]
fn where_copies_tell_no_md5_blobs_that_came_in_parts_are_read_and_not_sent() -> Result<()> {
    let this = Move::with_large_blob()?;
    let faults = [
        "Trial.CopyObject:1+:old-etag",
        "CopyObject:1+:old-etag",
        "UploadPart:1+:403",
    ];
    let (run, met) = this.run(&faults, &[])?;
    run.expect(0)?
        .says(&["! copies of objects in parts: do not tell the MD5 of the whole"])?;
    assert!(
        !met.iter().any(|met| met.starts_with("UploadPart")),
        "{met:?}"
    );
    this.assert_equal()
}

#[test]
fn where_parts_are_not_copied_they_are_sent() -> Result<()> {
    let this = Move::with_large_blob()?;
    let faults = [
        "Trial.CopyObject:1+:old-etag",
        "CopyObject:1+:old-etag",
        "UploadPartCopy:1+:501",
    ];
    let (run, met) = this.run(&faults, &[])?;
    run.expect(0)?;
    assert!(
        met.iter().any(|met| met.starts_with("UploadPartCopy")),
        "{met:?}"
    );
    this.assert_equal()
}

#[test]
fn a_rotten_blob_whose_parts_are_copied_never_becomes_visible() -> Result<()> {
    let this = Move::with_large_blob()?;
    Database::Sqlite(this.scene.path("from.db")).query(&format!(
        "UPDATE files SET md5 = '00000000000000000000000000000000' WHERE id = '{LARGE}'"
    ))?;
    let faults = [
        "Trial.CopyObject:1+:old-etag",
        "CompleteMultipartUpload:1+:403",
    ];
    let (run, met) = this.run(&faults, &["--ignore-errors"])?;
    run.expect(20)?.says(&[LARGE, "MD5"])?;
    let completed = |met: &String| met.starts_with("CompleteMultipartUpload");
    assert!(!met.iter().any(completed), "{met:?}");
    Ok(())
}

/// Cut off between the copy and the look at its MD5: what is there then is no proof of anything.
#[test]
fn a_copy_that_nobody_has_compared_is_not_taken_for_the_blob() -> Result<()> {
    let this = Move::with_large_blob()?;
    let (_s3, url) = OwnS3::start(&this.scene, &[])?;
    let (from, to) = (this.server("from", &url)?, this.server("to", &url)?);
    this.scene
        .migrate(&from, &to, &["--data-only"])?
        .expect(0)?;
    assert_eq!(to.store.rewrite_objects(|key| key.ends_with(LARGE))?, 1);
    let run = this.scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(run.summary("blobs")?.copied, 1);
    this.assert_equal()
}

#[test]
fn a_rotten_blob_that_came_in_parts_is_named_and_does_not_stay() -> Result<()> {
    let this = Move::with_large_blob()?;
    let from = Database::Sqlite(this.scene.path("from.db"));
    from.query(&format!(
        "UPDATE files SET md5 = '00000000000000000000000000000000' WHERE id = '{LARGE}'"
    ))?;
    let (run, _) = this.run(&[], &["--ignore-errors"])?;
    run.expect(20)?.says(&[LARGE, "MD5"])?;
    let (_s3, url) = OwnS3::start(&this.scene, &[])?;
    let to = this.server("to", &url)?;
    let blobs = to.store.blobs(&to.database)?;
    assert!(!blobs.iter().any(|blob| blob.contains(LARGE)), "{blobs:?}");
    Ok(())
}

/// The right MD5, and another size than the row says.
#[test]
fn a_blob_of_another_size_than_its_row_says_is_named_and_not_copied() -> Result<()> {
    // The second server lets nobody list the source: then it is asked.
    for faults in [&[][..], &["ListObjectsV2:1+:403"]] {
        let this = Move::with_large_blob()?;
        let from = Database::Sqlite(this.scene.path("from.db"));
        let small = from.value(
            "SELECT min(id) FROM files WHERE status = 'uploaded' AND length(md5) = 32 AND size > 0",
        )?;
        for id in [LARGE, &small] {
            from.query(&format!(
                "UPDATE files SET size = size + 7 WHERE id = '{id}'"
            ))?;
        }
        let (run, met) = this.run(faults, &["--ignore-errors"])?;
        assert_eq!(met.len(), faults.len());
        let run = run.expect(20)?.says(&[LARGE, &small, "bytes instead of"])?;
        let blobs = run.summary("blobs")?;
        assert_eq!(blobs.failed, 2);
        assert!(blobs.copied > 0);
        let (_s3, url) = OwnS3::start(&this.scene, &[])?;
        let to = this.server("to", &url)?;
        let blobs = to.store.blobs(&to.database)?;
        for id in [LARGE, &small] {
            assert!(!blobs.iter().any(|blob| blob.contains(id)), "{blobs:?}");
        }
    }
    Ok(())
}
