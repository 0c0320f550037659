//! Large blobs on their way into a bucket: an upload in parts that was cut off is gone on in.

use std::fs;

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::Client;
use rustix::process::Signal;

use crate::blobs;
use crate::own_s3::OwnS3;
use crate::places::{Database, Store, block_on};
use crate::scene::{NO_FILES, Scene, Server, finish, signal, wait_until};

const PART_BYTES: usize = 5 << 20;
const PARTS: usize = 12;
/// What is on its way at once may be sent again.
const IN_FLIGHT: usize = 2;
const SETTINGS: &str = "PartSize = 5242880\nPartUploadConcurrency = 2";
const FOREIGN: &str = "somebody/else";

/// One blob of [`PARTS`] parts, on its way to a bucket where each part takes a while, and a small one:
/// a source directory without any blob is taken for a disk that is not mounted.
struct Way {
    scene: Scene,
    from: Server,
    to: Server,
    server: String,
    _s3: OwnS3,
}

fn content(seed: usize) -> Vec<u8> {
    let bytes = (0..PARTS * PART_BYTES - 7).map(|n| (n / 64 * 31 + n + seed) as u8);
    bytes.collect()
}

impl Way {
    fn new(settings: &str) -> Result<Self> {
        let scene = Scene::new()?;
        let from = scene.made_up("from", NO_FILES)?;
        from.database.add_upload("theUpload")?;
        let bytes = content(0);
        from.database
            .add_file("largeFile", "theUpload", "uploaded", &bytes)?;
        from.store.put("largeFile", &bytes)?;
        from.database
            .add_file("smallFile", "theUpload", "uploaded", b"small")?;
        from.store.put("smallFile", b"small")?;
        let log = scene.path("parts.log");
        let log = log.to_str().context("a path")?.to_owned();
        let options = ["--fault", "UploadPart:1+:slow=150", "--fault-log", &log];
        let (s3, server) = OwnS3::start(&scene, &options)?;
        let store = Store::Bucket {
            server: server.clone(),
            bucket: "plik".into(),
            settings: format!("{SETTINGS}\n{settings}"),
        };
        let to = scene.server("to", Database::Sqlite(scene.path("to.db")), store)?;
        Ok(Self {
            scene,
            from,
            to,
            server,
            _s3: s3,
        })
    }

    /// Cuts a run off in the middle of the blob, with somebody else's upload in the same bucket.
    fn cut_off(&self, by: Signal) -> Result<()> {
        let options: [&str; 0] = [];
        let mut command = self
            .scene
            .migration(&self.from.config, &self.to.config, &options);
        let run = command.spawn()?;
        wait_until("some parts are written down", || {
            let count = self.to.database.count("plikd_migrate_parts");
            Ok(count.is_ok_and(|count| count >= 4))
        })?;
        signal(&run, by)?;
        finish(run)?;
        ensure!(self.parts_sent()? < PARTS, "the run was not cut off");
        assert_eq!(self.uploads()?.len(), 1, "the upload is kept");
        self.bucket(async |client, bucket| {
            let upload = client.create_multipart_upload().bucket(bucket);
            upload.key(FOREIGN).send().await?;
            Ok(())
        })
    }

    /// Requests that brought a part.
    fn parts_sent(&self) -> Result<usize> {
        let log = fs::read_to_string(self.scene.path("parts.log"))?;
        Ok(log.lines().count())
    }

    /// Keys and ids of the uploads that the bucket has.
    fn uploads(&self) -> Result<Vec<(String, String)>> {
        self.bucket(async |client, bucket| {
            let listed = client.list_multipart_uploads().bucket(bucket).send();
            let listed = listed.await?;
            let uploads = listed.uploads().iter();
            let name = |text: Option<&str>| text.unwrap_or_default().to_owned();
            Ok(uploads
                .map(|upload| (name(upload.key()), name(upload.upload_id())))
                .collect())
        })
    }

    fn bucket<T>(&self, work: impl AsyncFnOnce(&Client, &str) -> Result<T>) -> Result<T> {
        let url = format!("{}/plik", self.server);
        let (client, bucket) = blobs::connect(&url).context("no URL of a bucket")?;
        block_on(work(&client, bucket))
    }

    /// The same command ends the migration, and no upload of it is left.
    fn resume(&self, options: &[&str], code: i32) -> Result<()> {
        let run = self.scene.migrate(&self.from, &self.to, options)?;
        run.expect(code)?;
        let left = self.uploads()?;
        let left: Vec<&str> = left.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(left, [FOREIGN]);
        assert_eq!(self.to.database.count("plikd_migrate_uploads")?, 0);
        assert_eq!(self.to.database.count("plikd_migrate_parts")?, 0);
        Ok(())
    }

    fn assert_equal(&self) -> Result<()> {
        assert_eq!(
            self.from.store.blobs(&self.from.database)?,
            self.to.store.blobs(&self.to.database)?
        );
        Ok(())
    }
}

fn resumes_inside(by: Signal, settings: &str, sent_again: usize) -> Result<()> {
    let way = Way::new(settings)?;
    way.cut_off(by)?;
    way.resume(&[], 0)?;
    let sent = way.parts_sent()?;
    ensure!(sent <= PARTS + sent_again, "{sent} parts were sent");
    way.assert_equal()
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_killed_run_resumes_inside_a_large_blob() -> Result<()> {
    resumes_inside(Signal::KILL, "", IN_FLIGHT)
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn an_interrupted_run_resumes_inside_a_large_blob() -> Result<()> {
    resumes_inside(Signal::INT, "", IN_FLIGHT)
}

/// Its ETags tell nothing of the bytes: what was not written down yet is sent again.
#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_killed_run_resumes_inside_an_encrypted_blob() -> Result<()> {
    resumes_inside(Signal::KILL, "SSE = \"SSE-C\"", IN_FLIGHT + 3)
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn an_upload_that_somebody_aborted_starts_over() -> Result<()> {
    let way = Way::new("")?;
    way.cut_off(Signal::KILL)?;
    let uploads = way.uploads()?;
    let ours = uploads.iter().find(|(key, _)| key != FOREIGN);
    let (key, id) = ours.context("no upload of ours")?;
    way.bucket(async |client, bucket| {
        let abort = client.abort_multipart_upload().bucket(bucket);
        abort.key(key).upload_id(id).send().await?;
        Ok(())
    })?;
    let before = way.parts_sent()?;
    way.resume(&[], 0)?;
    assert_eq!(way.parts_sent()? - before, PARTS);
    way.assert_equal()
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn parts_that_changed_in_the_source_are_sent_again() -> Result<()> {
    let way = Way::new("")?;
    way.cut_off(Signal::KILL)?;
    let bytes = content(1);
    way.from
        .database
        .query("DELETE FROM files WHERE id = 'largeFile'")?;
    way.from
        .database
        .add_file("largeFile", "theUpload", "uploaded", &bytes)?;
    way.from.store.put("largeFile", &bytes)?;
    let before = way.parts_sent()?;
    way.resume(&[], 0)?;
    assert_eq!(way.parts_sent()? - before, PARTS);
    way.assert_equal()
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn the_upload_of_a_blob_that_rotted_is_aborted() -> Result<()> {
    let way = Way::new("")?;
    way.cut_off(Signal::INT)?;
    way.from.store.put("largeFile", &content(1))?;
    way.resume(&["--ignore-errors"], 20)
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn the_upload_of_a_blob_that_is_gone_is_aborted() -> Result<()> {
    let way = Way::new("")?;
    way.cut_off(Signal::INT)?;
    fs::remove_file(way.from.store.path_of("largeFile"))?;
    way.resume(&["--ignore-errors"], 20)
}
