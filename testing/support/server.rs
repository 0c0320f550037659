//! A plikd of one's own: the built program, in a directory of its own, on a free port.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// Long enough for a busy machine; nobody waits that long for a server that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a server lives: its configuration, database and files, which outlast the process.
pub struct Home {
    directory: TempDir,
}

impl Home {
    /// A server with SQLite and local files, and `settings` in its configuration file.
    pub fn new(settings: &str) -> anyhow::Result<Self> {
        Self::with_backends(
            settings,
            "[MetadataBackendConfig]\nConnectionString = \"plik.db\"\n\
             [DataBackendConfig]\nDirectory = \"files\"\n",
        )
    }

    /// A server with the backends that these tables name.
    pub fn with_backends(settings: &str, backends: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let fixed = "ListenAddress = \"127.0.0.1\"\nListenPort = 0\n";
        let text = format!("{fixed}{settings}\n{backends}");
        std::fs::write(directory.path().join("plikd.cfg"), text)?;
        Ok(Self { directory })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program, about to run here with `args` and nothing of our own environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plikd"));
        command
            .args(args)
            .current_dir(self.directory.path())
            .env_clear()
            .stdin(Stdio::null());
        command
    }

    /// Runs the program here to its end.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.command(args);
        let output = spawn_blocking(move || command.output());
        Ok(timeout(PATIENCE, output).await???)
    }

    /// Starts a server here and waits until it serves.
    pub async fn start(self) -> anyhow::Result<Server> {
        Server::start_in(Arc::new(self), &[]).await
    }

    /// The files below a directory, sorted.
    pub fn files_below(&self, name: &str) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        collect_files(&self.path(name), &mut files)?;
        files.sort();
        Ok(files)
    }
}

fn collect_files(directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect_files(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// A server that runs. Dropping it kills it.
pub struct Server {
    pub home: Arc<Home>,
    /// `http://127.0.0.1:port`, as its log says.
    pub url: String,
    process: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if it has ended, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// A server with SQLite and local files, and the built-in configuration.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with("").await
    }

    /// One with `settings` in its configuration file.
    pub async fn with(settings: &str) -> anyhow::Result<Self> {
        Home::new(settings)?.start().await
    }

    pub async fn start_in(home: Arc<Home>, args: &[&str]) -> anyhow::Result<Self> {
        let mut process = home
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = Arc::new(Mutex::new(String::new()));
        let stdout = process.stdout.take().context("no standard output")?;
        let stderr = process.stderr.take().context("no standard error")?;
        let readers = vec![copy_lines(stdout, &log), copy_lines(stderr, &log)];
        let mut server = Self {
            home,
            url: String::new(),
            process,
            log,
            readers,
        };
        let ready = timeout(PATIENCE, server.address()).await;
        server.url = ready.with_context(|| format!("not ready: {}", server.log()))??;
        Ok(server)
    }

    /// Waits for the line that says where the server listens.
    async fn address(&mut self) -> anyhow::Result<String> {
        const LINE: &str = "Starting server at ";
        loop {
            let log = self.log();
            if let Some((_, rest)) = log.split_once(LINE)
                && let Some((url, _)) = rest.split_once('\n')
            {
                return Ok(url.to_owned());
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("the server ended with {status}: {log}");
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// `host:port`.
    pub fn host(&self) -> &str {
        self.url.split_once("://").map_or("", |(_, host)| host)
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.clone()
    }

    /// Waits until it has printed `text`: an answer may be here before the line about it is.
    pub async fn await_log(&self, text: &str) -> anyhow::Result<()> {
        let printed = async {
            while !self.log().contains(text) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let printed = timeout(PATIENCE, printed).await;
        printed.with_context(|| format!("never printed {text:?}: {}", self.log()))
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.process.id())?).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let ended = async {
            loop {
                if let Some(status) = self.process.try_wait()? {
                    return anyhow::Ok(status);
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let status = timeout(PATIENCE, ended).await;
        let status = status.with_context(|| format!("still runs: {}", self.log()))??;
        for reader in self.readers.drain(..) {
            reader.join().ok().context("a reader panicked")?;
        }
        Ok(status)
    }

    /// Asks the server to stop, waits for its end, and starts it again where it was.
    pub async fn restart(mut self) -> anyhow::Result<Self> {
        self.signal(Signal::TERM)?;
        self.ended().await?;
        self.restart_ended().await
    }

    /// Starts a server that has ended again where it was.
    pub async fn restart_ended(self) -> anyhow::Result<Self> {
        Self::start_in(Arc::clone(&self.home), &[]).await
    }

    /// Kills the server at once and starts it again where it was.
    pub async fn crash_and_restart(mut self) -> anyhow::Result<Self> {
        self.signal(Signal::KILL)?;
        self.ended().await?;
        self.restart_ended().await
    }

    /// A line of `/proc/<pid>/status` in KiB, such as `VmHWM`, the peak of the memory in use.
    pub fn memory_kib(&self, line: &str) -> anyhow::Result<u64> {
        let status = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(status)?;
        let value = status
            .lines()
            .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'))
            .and_then(|text| text.split_whitespace().next())
            .with_context(|| format!("no {line}"))?;
        Ok(value.parse()?)
    }
}

fn copy_lines(from: impl Read + Send + 'static, log: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
        }
    })
}
