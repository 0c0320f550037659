//! Where a migration is played: a directory, servers in it, and the program.

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::places::{Database, Store, block_on};

/// Fails unless both hold the same rows and the same blobs.
pub fn assert_equal(from: &Server, to: &Server) -> Result<()> {
    assert_eq!(from.database.rows()?, to.database.rows()?);
    assert_eq!(
        from.store.blobs(&from.database)?,
        to.store.blobs(&to.database)?
    );
    Ok(())
}

/// A directory of a test's own, gone with it.
pub struct Scene(TempDir);

/// A configuration and the backends that it names.
pub struct Server {
    pub config: PathBuf,
    pub database: Database,
    pub store: Store,
}

/// What a run of the program came to.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Few enough rows for a debug build, with every status and oddity among them.
pub const SMALL: &[&str] = &[
    "--users=3",
    "--tokens=2",
    "--uploads=5",
    "--files=4",
    "--anon-uploads=4",
];
/// Enough blobs to be caught in the middle of them.
pub const SOME: &[&str] = &[
    "--users=3",
    "--tokens=1",
    "--uploads=20",
    "--files=5",
    "--anon-uploads=20",
    "--file-size=1..2KiB",
];
/// No file but those that a test adds.
pub const NO_FILES: &[&str] = &[
    "--users=1",
    "--tokens=1",
    "--uploads=2",
    "--files=0",
    "--anon-uploads=0",
    "--legacy=0",
];

impl Scene {
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A server with these backends; nothing of it exists yet but its configuration.
    pub fn server(&self, name: &str, database: Database, store: Store) -> Result<Server> {
        let config = self.write(
            &format!("{name}.cfg"),
            &format!("{}{}", store.section(), database.section()),
        )?;
        Ok(Server {
            config,
            database,
            store,
        })
    }

    /// A server in a SQLite file and a directory.
    pub fn local(&self, name: &str) -> Result<Server> {
        let database = Database::Sqlite(self.path(&format!("{name}.db")));
        self.server(
            name,
            database,
            Store::Directory(self.path(&format!("{name}.files"))),
        )
    }

    /// A server in a new database of PostgreSQL and a directory.
    pub fn postgres(&self, name: &str) -> Result<Server> {
        let files = self.path(&format!("{name}.files"));
        self.server(name, Database::postgres()?, Store::Directory(files))
    }

    /// A local server full of rows and blobs; `options` are those of `plikd fakedb`.
    pub fn made_up(&self, name: &str, options: &[&str]) -> Result<Server> {
        let server = self.local(name)?;
        let mut command = self.plikd();
        command
            .arg("fakedb")
            .arg("--output")
            .arg(self.path(&format!("{name}.db")));
        command
            .arg("--data")
            .arg(self.path(&format!("{name}.files")))
            .args(options);
        run(command)?.expect(0)?;
        // Without a file there is no directory either.
        fs::create_dir_all(self.path(&format!("{name}.files")))?;
        Ok(server)
    }

    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// The program in this directory, with nothing of this process's environment.
    pub fn plikd(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plikd"));
        command
            .env_clear()
            .env("TZ", "America/St_Johns")
            .current_dir(self.0.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A server on these backends, ready for requests.
    pub fn serve(&self, server: &Server) -> Result<Daemon> {
        self.serve_config(&server.config)
    }

    /// A server with that configuration, ready for requests.
    pub fn serve_config(&self, config: &Path) -> Result<Daemon> {
        Daemon::start(self.plikd(), config)
    }

    /// `plikd migrate` from one configuration to another, not yet started.
    pub fn migration(&self, from: &Path, to: &Path, options: &[&str]) -> Command {
        let mut command = self.plikd();
        command
            .arg("--config")
            .arg(from)
            .arg("migrate")
            .arg("--to")
            .arg(to)
            .args(options);
        command
    }

    pub fn migrate(&self, from: &Server, to: &Server, options: &[&str]) -> Result<Run> {
        self.migrate_config(&from.config, &to.config, options)
    }

    pub fn migrate_config(&self, from: &Path, to: &Path, options: &[&str]) -> Result<Run> {
        run(self.migration(from, to, options))
    }

    /// `plikd migrate verify` of two servers, not yet started.
    pub fn verification(&self, from: &Server, to: &Server, options: &[&str]) -> Command {
        let mut command = self.plikd();
        command.arg("--config").arg(&from.config);
        command.args(["migrate", "verify", "--to"]).arg(&to.config);
        command.args(options);
        command
    }

    pub fn verify(&self, from: &Server, to: &Server, options: &[&str]) -> Result<Run> {
        run(self.verification(from, to, options))
    }

    /// Every path below the directory, with size and content digest of files: what a dry run must
    /// leave as it was.
    pub fn listing(&self) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        list(self.0.path(), &mut found)?;
        Ok(found)
    }

    /// Fails unless nothing was added, removed or changed since `before`.
    pub fn is_as(&self, before: &BTreeSet<String>) -> Result<()> {
        let after = self.listing()?;
        let changed: Vec<_> = before.symmetric_difference(&after).collect();
        ensure!(changed.is_empty(), "changed: {changed:#?}");
        Ok(())
    }
}

fn list(directory: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.insert(format!("{}/", path.display()));
            list(&path, found)?;
        } else {
            let bytes = match path.is_symlink() && !path.exists() {
                true => Vec::new(),
                false => fs::read(&path)?,
            };
            found.insert(format!(
                "{} {} {}",
                path.display(),
                bytes.len(),
                md5_hex(&bytes)
            ));
        }
    }
    Ok(())
}

/// A server that runs until this goes.
pub struct Daemon {
    child: Option<Child>,
    pub url: String,
}

impl Daemon {
    fn start(mut command: Command, config: &Path) -> Result<Self> {
        // A client asks for this even where nothing is encrypted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        command
            .arg("--config")
            .arg(config)
            .args(["server", "--port", &port.to_string()]);
        let mut child = command.stdout(Stdio::null()).spawn()?;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if child.try_wait()?.is_some() {
                bail!("the server ended: {}", finish(child)?);
            }
            sleep(Duration::from_millis(20));
        }
        Ok(Self {
            child: Some(child),
            url: format!("http://127.0.0.1:{port}"),
        })
    }

    /// Uploads a file and gives the path of its download.
    pub fn upload(&self, bytes: &[u8]) -> Result<String> {
        let part = reqwest::multipart::Part::bytes(bytes.to_owned()).file_name("file.bin");
        let form = reqwest::multipart::Form::new().part("file", part);
        let url = block_on(async {
            let request = reqwest::Client::new().post(&self.url).multipart(form);
            Ok(request.send().await?.error_for_status()?.text().await?)
        })?;
        let path = url
            .trim()
            .find("/file/")
            .map(|at| url.trim()[at..].to_owned());
        path.with_context(|| format!("the server answered `{url}`"))
    }

    pub fn download(&self, path: &str) -> Result<Vec<u8>> {
        let url = format!("{}{path}", self.url);
        block_on(async {
            let answer = reqwest::get(&url).await?.error_for_status()?;
            Ok(answer.bytes().await?.to_vec())
        })
    }
}

impl Daemon {
    /// Waits until it ends by itself.
    pub fn end(mut self) -> Result<Run> {
        let mut child = self.child.take().context("it has ended")?;
        let ended = wait_until("the server ends", || Ok(child.try_wait()?.is_some()));
        if ended.is_err() {
            let _ = signal(&child, Signal::TERM);
        }
        let run = finish(child)?;
        ended.with_context(|| run.to_string())?;
        Ok(run)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = signal(&child, Signal::TERM);
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a program that was started.
pub fn signal(child: &Child, signal: Signal) -> Result<()> {
    Ok(kill_process(Pid::from_child(child), signal)?)
}

/// Waits until `done`, for half a minute.
pub fn wait_until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done()? {
        ensure!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Result<Run> {
    Ok(Run::of(command.output().context("cannot start plikd")?))
}

/// Waits for a command that was started.
pub fn finish(child: Child) -> Result<Run> {
    Ok(Run::of(child.wait_with_output()?))
}

impl Run {
    fn of(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Fails, showing all that was said, unless the program ended with `code`.
    pub fn expect(self, code: i32) -> Result<Self> {
        ensure!(self.code == Some(code), "not exit code {code}: {self}");
        Ok(self)
    }

    /// Fails unless every one of `parts` was said, on either stream.
    pub fn says(self, parts: &[&str]) -> Result<Self> {
        for part in parts {
            let said = self.stdout.contains(part) || self.stderr.contains(part);
            ensure!(said, "`{part}` was not said: {self}");
        }
        Ok(self)
    }

    /// Fails if one of `parts` was said.
    pub fn never_says(self, parts: &[&str]) -> Result<Self> {
        for part in parts {
            let said = self.stdout.contains(part) || self.stderr.contains(part);
            ensure!(!said, "`{part}` was said: {self}");
        }
        Ok(self)
    }

    /// The line of the summary about a table, or about the `blobs`.
    pub fn summary(&self, what: &str) -> Result<Counts> {
        let mut lines = self.stdout.lines();
        let line = lines.find(|line| line.split_whitespace().next() == Some(what));
        Counts::read(line.with_context(|| format!("no summary of {what}: {self}"))?)
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "exit code {code:?}\n--- stdout\n{stdout}--- stderr\n{stderr}"
        )
    }
}

/// The numbers of one line of the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub copied: u64,
    pub present: u64,
    /// Of rows; blobs have none.
    pub conflicts: u64,
    /// Of blobs; rows have none.
    pub skipped: u64,
    pub failed: u64,
}

impl Counts {
    pub fn copied(copied: u64) -> Self {
        Self {
            copied,
            ..Self::default()
        }
    }

    pub fn present(present: u64) -> Self {
        Self {
            present,
            ..Self::default()
        }
    }

    fn read(line: &str) -> Result<Self> {
        let number = |word: &str| -> Option<u64> {
            let (before, _) = line.split_once(&format!(" {word}"))?;
            // Thousands are separated by commas.
            before.rsplit(' ').next()?.replace(',', "").parse().ok()
        };
        let copied = number("copied").or_else(|| number("to copy"));
        Ok(Self {
            copied: copied.with_context(|| format!("no number of copies in `{line}`"))?,
            present: number("present").with_context(|| line.to_owned())?,
            conflicts: number("conflict").unwrap_or(0),
            skipped: number("skipped").unwrap_or(0),
            failed: number("failed").with_context(|| line.to_owned())?,
        })
    }
}

/// A name that no other test has, nor another run of this one.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        "{prefix}{}x{}x{number}",
        std::process::id(),
        now.as_millis()
    )
}

pub fn md5_hex(bytes: &[u8]) -> String {
    use md5::{Digest, Md5};
    Md5::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
