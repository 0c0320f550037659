//! The pages about migrations in `docs/operations/`, executed as written: only names, ports and credentials are
//! those of the tests' own services.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::places::{Database, Store};
use crate::scene::{SOME, Scene, Server, finish, run, signal};

pub const MANUAL: &str = concat!(
    include_str!("../../docs/operations/migration.md"),
    include_str!("../../docs/operations/migration-checks.md"),
    include_str!("../../docs/operations/migration-faults.md"),
);

/// The section under a heading, to the next one.
fn section(heading: &str) -> Result<&'static str> {
    let mut sections = MANUAL.split("\n## ");
    let section = sections.find(|section| section.starts_with(&format!("{heading}\n")));
    section.with_context(|| format!("the manual has no section `{heading}`"))
}

/// The fenced blocks of one language.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let mut blocks = section.split("\n```").skip(1).step_by(2);
    let start = format!("{language}\n");
    let found = blocks
        .by_ref()
        .filter_map(|block| block.strip_prefix(&start));
    found.map(str::to_owned).collect()
}

fn the_block(heading: &str, language: &str) -> Result<String> {
    let mut found = blocks(section(heading)?, language);
    ensure!(
        found.len() == 1,
        "{} blocks of {language} in `{heading}`",
        found.len()
    );
    found.pop().context("a block")
}

/// The services that stand in for those of the manual.
struct Stage {
    scene: Scene,
    source: Server,
    database: Database,
    bucket: Store,
}

impl Stage {
    fn new() -> Result<Self> {
        let scene = Scene::new()?;
        let source = scene.made_up("plikd", &[SOME, &["--now"]].concat())?;
        Ok(Self {
            scene,
            source,
            database: Database::postgres()?,
            bucket: Store::bucket()?,
        })
    }

    /// Puts the names of the tests' services in place of the manual's, each of which must be there.
    fn translate(&self, text: &str) -> Result<String> {
        let url = self.database.url();
        let (user, rest) = url
            .trim_start_matches("postgres://")
            .split_once(':')
            .context("a user")?;
        let (password, rest) = rest.split_once('@').context("a password")?;
        let (host, rest) = rest.split_once(':').context("a host")?;
        let (port, name) = rest.split_once('/').context("a port")?;
        let database = format!(
            "host={host} port={port} user={user} password={password} dbname={name} sslmode=disable"
        );
        let Store::Bucket { server, bucket, .. } = &self.bucket else {
            unreachable!("a bucket was made")
        };
        let (keys, endpoint) = server
            .trim_start_matches("http://")
            .split_once('@')
            .context("keys")?;
        let (access, secret) = keys.split_once(':').context("a secret key")?;
        let names = [
            (
                "host=127.0.0.1 port=5432 user=plik password=secret dbname=plik sslmode=disable",
                database.as_str(),
            ),
            ("\"127.0.0.1:9000\"", &format!("\"{endpoint}\"")),
            ("\"access\"", &format!("\"{access}\"")),
            (
                "SecretAccessKey = \"secret\"",
                &format!("SecretAccessKey = \"{secret}\""),
            ),
            ("Bucket = \"plik\"", &format!("Bucket = \"{bucket}\"")),
        ];
        let text = names
            .iter()
            .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        ensure!(
            !text.contains(":9000") && !text.contains("port=5432"),
            "not translated: {text}"
        );
        Ok(text)
    }

    fn write_target(&self, heading: &str) -> Result<()> {
        let text = self.translate(&the_block(heading, "toml")?)?;
        self.scene.write("target.cfg", &text).map(drop)
    }

    /// Runs the one block of shell under a heading.
    fn run(&self, heading: &str) -> Result<()> {
        self.shell(&the_block(heading, "sh")?)
    }

    fn shell(&self, script: &str) -> Result<()> {
        ensure!(script.contains("plikd "), "nothing to run: {script}");
        let directory = Path::new(env!("CARGO_BIN_EXE_plikd")).with_file_name("");
        let directory = directory.display();
        let mut shell = Command::new("sh");
        shell
            .args(["-euc", script])
            .current_dir(self.scene.path("."));
        shell
            .env_clear()
            .env("PATH", format!("{directory}:/usr/bin:/bin"));
        shell.stdin(Stdio::null());
        run(shell)?.expect(0)?;
        Ok(())
    }

    fn assert_rows_arrived(&self) -> Result<()> {
        assert_eq!(self.source.database.rows()?, self.database.rows()?);
        Ok(())
    }

    fn assert_blobs_arrived(&self) -> Result<()> {
        let blobs = self.source.store.blobs(&self.source.database)?;
        assert_eq!(blobs, self.bucket.blobs(&self.source.database)?);
        Ok(())
    }

    /// A server with the sections of `target.cfg` in place of its own answers as before.
    fn assert_served(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let target = fs::read_to_string(self.scene.path("target.cfg"))?;
        let source = fs::read_to_string(&self.source.config)?;
        let mut kept = String::new();
        if !target.contains("[DataBackendConfig]") {
            kept += source
                .split("[MetadataBackendConfig]")
                .next()
                .unwrap_or_default();
        }
        kept += &target;
        if !target.contains("[MetadataBackendConfig]") {
            let rest = source
                .split("[MetadataBackendConfig]")
                .nth(1)
                .unwrap_or_default();
            kept += &format!("\n[MetadataBackendConfig]{rest}");
        }
        let config = self.scene.write("new.cfg", &kept)?;
        let daemon = self.scene.serve_config(&config)?;
        assert_eq!(daemon.download(path)?, bytes);
        Ok(())
    }
}

fn scenario(heading: &str, half: &str, rows: bool, blobs: bool) -> Result<()> {
    let stage = Stage::new()?;
    let path = stage
        .scene
        .serve(&stage.source)?
        .upload(b"before the move")?;
    stage.write_target(heading)?;
    let look = the_block("Before you start", "sh")?;
    stage.shell(&look.replace("--dry-run", &format!("--dry-run {half}")))?;
    stage.run(heading)?;
    if rows {
        stage.assert_rows_arrived()?;
    }
    if blobs {
        stage.assert_blobs_arrived()?;
    }
    stage.assert_served(&path, b"before the move")
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn from_sqlite_to_postgresql() -> Result<()> {
    scenario("From SQLite to PostgreSQL", "--metadata-only", true, false)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn from_local_files_to_s3() -> Result<()> {
    scenario("From local files to S3", "--data-only", false, true)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn both_at_once() -> Result<()> {
    scenario("Both at once", "", true, true)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn short_interruption() -> Result<()> {
    let stage = Stage::new()?;
    stage.write_target("Both at once")?;
    let script = the_block("Short interruption", "sh")?;
    let (before, after) = script
        .split_once("# stop the server\n")
        .context("the stop")?;
    let daemon = stage.scene.serve(&stage.source)?;
    stage.shell(before)?;
    let path = daemon.upload(b"in between")?;
    drop(daemon);
    stage.shell(after)?;
    stage.assert_rows_arrived()?;
    stage.assert_blobs_arrived()?;
    stage.assert_served(&path, b"in between")
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn following_a_living_source() -> Result<()> {
    let stage = Stage::new()?;
    stage.write_target("Both at once")?;
    let script = the_block("Following a living source", "sh")?;
    let (before, after) = script
        .split_once("# stop the server\n")
        .context("the stop")?;
    let daemon = stage.scene.serve(&stage.source)?;
    let early = daemon.upload(b"before")?;
    stage.shell(before)?;
    let path = daemon.upload(b"in between")?;
    assert_eq!(daemon.download(&early)?, b"before");
    drop(daemon);
    stage.shell(after)?;
    stage.assert_rows_arrived()?;
    stage.assert_blobs_arrived()?;
    stage.assert_served(&path, b"in between")
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn split_over_machines() -> Result<()> {
    let stage = Stage::new()?;
    stage.write_target("Both at once")?;
    stage.run("Split over machines")?;
    stage.assert_rows_arrived()?;
    stage.assert_blobs_arrived()
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn resuming() -> Result<()> {
    let stage = Stage::new()?;
    stage.write_target("Both at once")?;
    let target = stage.scene.path("target.cfg");
    for asked in [Signal::INT, Signal::KILL] {
        let mut cut = stage
            .scene
            .migration(&stage.source.config, &target, &[])
            .spawn()?;
        std::thread::sleep(Duration::from_millis(400));
        ensure!(
            cut.try_wait()?.is_none(),
            "the run was over before it could be cut off"
        );
        signal(&cut, asked)?;
        finish(cut)?;
    }
    stage.run("Resuming")?;
    stage.assert_rows_arrived()?;
    stage.assert_blobs_arrived()?;
    assert_eq!(stage.database.count("plikd_migrate_checkpoints")?, 0);
    assert_eq!(stage.database.count("plikd_migrate_blobs")?, 0);
    assert_eq!(stage.database.count("plikd_migrate_runs")?, 1);
    Ok(())
}

/// Every option of the manual is one of the program's, and the other way round.
#[test]
fn the_options_are_those_of_the_program() -> Result<()> {
    let scene = Scene::new()?;
    let mut help = String::new();
    for words in [&["migrate", "--help"][..], &["migrate", "verify", "--help"]] {
        let mut command = scene.plikd();
        command.args(words);
        help += &run(command)?.expect(0)?.stdout;
    }
    let options = |text: &str| -> BTreeSet<String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let words = text.split(|c: char| !is_part(c));
        words
            .filter(|word| word.starts_with("--") && word.len() > 3)
            .map(str::to_owned)
            .collect()
    };
    let mut of_program = options(&help);
    for general in ["--help", "--version", "--port", "--verbose"] {
        of_program.remove(general);
    }
    // Those of another program are none of ours.
    let ours: Vec<&str> = MANUAL
        .lines()
        .filter(|line| !line.starts_with("aws "))
        .collect();
    assert_eq!(options(&ours.join("\n")), of_program);
    Ok(())
}
