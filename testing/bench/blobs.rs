//! Blobs between directories and buckets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::contest::{Amount, Attempt, Check, Contest, PLIKD};
use crate::places::{Contents, Stage, contents_of, metadata_section, succeed};

/// The same blobs in a directory and a bucket, with the database that has their rows.
pub struct Blobs {
    database: PathBuf,
    directory: PathBuf,
    bucket: String,
    contents: Contents,
    amount: Amount,
}

const DATA: &str = "--data-only";

impl Blobs {
    pub fn small(stage: &Stage) -> Result<Self> {
        let mut blobs = Self::make_up(stage, stage.scaled(500), 10, 32)?;
        blobs.amount = Amount::Blobs(blobs.contents.blobs);
        Ok(blobs)
    }

    pub fn large(stage: &Stage) -> Result<Self> {
        Self::make_up(stage, 1, 4, stage.scaled(256 << 10))
    }

    fn make_up(stage: &Stage, uploads: u64, files: u64, kib: u64) -> Result<Self> {
        let (database, directory) = (stage.path("blobs.db"), stage.path("blobs"));
        let mut fakedb = stage.plikd();
        fakedb.args(["fakedb", "--users=1", "--tokens=1", "--anon-uploads=0"]);
        // Every file has its bytes.
        fakedb.args(["--removed=0", "--missing=0", "--uploading=0", "--deleted=0"]);
        fakedb.args(["--soft-deleted=0", "--streamed=0"]);
        fakedb.arg(format!("--uploads={uploads}"));
        fakedb.arg(format!("--files={files}"));
        fakedb.arg(format!("--file-size={kib}KiB"));
        fakedb.arg("--output").arg(&database);
        fakedb.arg("--data").arg(&directory);
        succeed(&mut fakedb)?;
        let contents = contents_of(&directory)?;
        ensure!(
            contents.blobs == uploads * files && contents.bytes == (contents.blobs * kib) << 10,
            "{contents:?} was made up"
        );
        let blobs = Self {
            bucket: stage.s3.bucket()?,
            database,
            directory,
            contents,
            amount: Amount::Bytes(contents.bytes),
        };
        succeed(&mut blobs.migration(stage, &blobs.here(), &blobs.there(stage))?)?;
        ensure!(
            stage.s3.contents(&blobs.bucket)? == contents,
            "the bucket does not have the blobs"
        );
        Ok(blobs)
    }

    fn here(&self) -> String {
        directory_section(&self.directory)
    }

    fn there(&self, stage: &Stage) -> String {
        stage.s3.section(&self.bucket)
    }

    fn migration(&self, stage: &Stage, from: &str, to: &str) -> Result<Command> {
        let database = metadata_section("sqlite3", &self.database.display().to_string());
        stage.migration(&format!("{from}{database}"), to, DATA)
    }

    fn contest<'a>(&self, stage: &Stage) -> Contest<'a> {
        Contest {
            amount: self.amount,
            log: stage.directory().join("said"),
            contestants: Vec::new(),
        }
    }
}

fn directory_section(path: &Path) -> String {
    let path = path.display();
    format!("DataBackend = \"file\"\n[DataBackendConfig]\nDirectory = \"{path}\"\n")
}

pub fn small_to_s3(stage: &Stage) -> Result<Option<Contest<'_>>> {
    to_s3(stage, stage.small_blobs()?)
}

pub fn large_to_s3(stage: &Stage) -> Result<Option<Contest<'_>>> {
    to_s3(stage, stage.large_blobs()?)
}

pub fn small_to_local(stage: &Stage) -> Result<Option<Contest<'_>>> {
    to_local(stage, stage.small_blobs()?)
}

pub fn large_to_local(stage: &Stage) -> Result<Option<Contest<'_>>> {
    to_local(stage, stage.large_blobs()?)
}

pub fn small_inside_s3(stage: &Stage) -> Result<Option<Contest<'_>>> {
    inside_s3(stage, stage.small_blobs()?)
}

pub fn large_inside_s3(stage: &Stage) -> Result<Option<Contest<'_>>> {
    inside_s3(stage, stage.large_blobs()?)
}

fn to_s3<'a>(stage: &'a Stage, blobs: &'a Blobs) -> Result<Option<Contest<'a>>> {
    let from = blobs.directory.display().to_string();
    into_bucket(stage, blobs, blobs.here(), &format!("{from}/"), &from)
}

fn inside_s3<'a>(stage: &'a Stage, blobs: &'a Blobs) -> Result<Option<Contest<'a>>> {
    let bucket = &blobs.bucket;
    let (s5cmd, rclone) = (format!("s3://{bucket}/*"), format!("{REMOTE}:{bucket}"));
    into_bucket(stage, blobs, blobs.there(stage), &s5cmd, &rclone)
}

/// Into a new bucket, from what each program calls the source.
fn into_bucket<'a>(
    stage: &'a Stage,
    blobs: &'a Blobs,
    plikd_from: String,
    s5cmd_from: &str,
    rclone_from: &str,
) -> Result<Option<Contest<'a>>> {
    let mut contest = blobs.contest(stage);
    let end = |command, bucket: String| Attempt {
        command,
        check: bucket_check(stage, bucket, blobs.contents),
    };
    contest.add(PLIKD, move || {
        let bucket = stage.s3.bucket()?;
        let to = stage.s3.section(&bucket);
        Ok(end(blobs.migration(stage, &plikd_from, &to)?, bucket))
    });
    if let Some(program) = stage.tool("s5cmd") {
        let from = s5cmd_from.to_owned();
        contest.add("s5cmd", move || {
            let bucket = stage.s3.bucket()?;
            let command = s5cmd(stage, &program, &from, &format!("s3://{bucket}/"));
            Ok(end(command, bucket))
        });
    }
    if let Some(program) = stage.tool("rclone") {
        let from = rclone_from.to_owned();
        contest.add("rclone", move || {
            let bucket = stage.s3.bucket()?;
            let command = rclone(stage, &program, &from, &format!("{REMOTE}:{bucket}"));
            Ok(end(command, bucket))
        });
    }
    Ok(Some(contest))
}

fn to_local<'a>(stage: &'a Stage, blobs: &'a Blobs) -> Result<Option<Contest<'a>>> {
    let mut contest = blobs.contest(stage);
    contest.add(PLIKD, move || {
        let to = new_directory(stage)?;
        let from = blobs.there(stage);
        let command = blobs.migration(stage, &from, &directory_section(&to))?;
        Ok(into_directory(command, to, blobs.contents))
    });
    if let Some(program) = stage.tool("s5cmd") {
        let from = format!("s3://{}/*", blobs.bucket);
        let copy = move |to: &Path| s5cmd(stage, &program, &from, &format!("{}/", to.display()));
        fetched(
            &mut contest,
            stage,
            blobs,
            ["s5cmd", "s5cmd, then sync"],
            copy,
        );
    }
    if let Some(program) = stage.tool("rclone") {
        let from = format!("{REMOTE}:{}", blobs.bucket);
        let copy = move |to: &Path| rclone(stage, &program, &from, &to.display().to_string());
        fetched(
            &mut contest,
            stage,
            blobs,
            ["rclone", "rclone, then sync"],
            copy,
        );
    }
    Ok(Some(contest))
}

/// Fills a new directory: as the program does it, and so that the blobs outlive a loss of power.
fn fetched<'a>(
    contest: &mut Contest<'a>,
    stage: &'a Stage,
    blobs: &Blobs,
    [name, synced]: [&'static str; 2],
    copy: impl Fn(&Path) -> Command + Clone + 'a,
) {
    let expected = blobs.contents;
    let again = copy.clone();
    contest.add(name, move || {
        let to = new_directory(stage)?;
        Ok(into_directory(copy(&to), to, expected))
    });
    contest.add(synced, move || {
        let to = new_directory(stage)?;
        Ok(into_directory(then_sync(&again(&to), &to), to, expected))
    });
}

fn then_sync(copy: &Command, to: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#""$@" && exec sync --file-system "$0""#]);
    command
        .arg(to)
        .arg(copy.get_program())
        .args(copy.get_args());
    let set = copy.get_envs();
    command.envs(set.filter_map(|(name, value)| Some((name, value?))));
    command
}

/// More of them are removed after the last run only: ext4 without a journal looks through the
/// inodes that were freed of late whenever it makes a file, so the next run would have to pay.
const REMOVED_AT_ONCE: u64 = 100;

fn bucket_check(stage: &Stage, bucket: String, expected: Contents) -> Check<'_> {
    Box::new(move || {
        let found = stage.s3.contents(&bucket)?;
        ensure!(found == expected, "{found:?}, not {expected:?}");
        match found.blobs > REMOVED_AT_ONCE {
            true => stage.remove_at_the_end(bucket),
            false => stage.s3.remove(&bucket)?,
        }
        Ok(())
    })
}

fn new_directory(stage: &Stage) -> Result<PathBuf> {
    let directory = stage.path("to");
    fs::create_dir(&directory)?;
    Ok(directory)
}

fn into_directory(command: Command, directory: PathBuf, expected: Contents) -> Attempt<'static> {
    let check = move || {
        let found = contents_of(&directory)?;
        ensure!(found == expected, "{found:?}, not {expected:?}");
        match found.blobs > REMOVED_AT_ONCE {
            true => Ok(()), // it goes with the stage
            false => Ok(fs::remove_dir_all(&directory)?),
        }
    };
    Attempt {
        command,
        check: Box::new(check),
    }
}

fn s5cmd(stage: &Stage, program: &Path, from: &str, to: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("AWS_ACCESS_KEY_ID", &stage.s3.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &stage.s3.secret_key)
        .env("AWS_REGION", "us-east-1");
    command.arg("--endpoint-url").arg(stage.s3.endpoint());
    command.args(["--numworkers", &stage.workers.to_string()]);
    command.args(["cp", from, to]);
    command
}

/// What the server is called towards rclone, which reads its settings from the environment.
const REMOTE: &str = "bench";

fn rclone(stage: &Stage, program: &Path, from: &str, to: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("RCLONE_CONFIG_BENCH_TYPE", "s3")
        .env("RCLONE_CONFIG_BENCH_PROVIDER", "Other")
        .env("RCLONE_CONFIG_BENCH_ACCESS_KEY_ID", &stage.s3.access_key)
        .env(
            "RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY",
            &stage.s3.secret_key,
        )
        .env("RCLONE_CONFIG_BENCH_ENDPOINT", stage.s3.endpoint());
    command.arg("--config").arg(stage.directory().join("none"));
    let workers = stage.workers.to_string();
    command.args(["copy", "--transfers", &workers, "--checkers", &workers]);
    command.args([from, to]);
    command
}
