//! A PostgreSQL of a test's own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::places::Database;
use crate::scene::{Scene, wait_until};

/// A PostgreSQL cluster of a test's own, to be stopped and started.
pub struct Cluster {
    programs: PathBuf,
    directory: PathBuf,
    port: u16,
    /// PostgreSQL refuses to be root.
    user: Option<(u32, u32)>,
}

impl Cluster {
    /// With the programs of the server of the tests, and as its user.
    pub fn start(scene: &Scene) -> Result<Self> {
        let url = std::env::var("PLIKD_TEST_POSTGRES").context("PLIKD_TEST_POSTGRES")?;
        let ask = |sql: &str| -> Result<String> {
            let rows = Database::query_url(&url, sql)?;
            rows.into_iter().flatten().next().context(sql.to_owned())
        };
        let programs = ask("SELECT setting FROM pg_config() WHERE name = 'BINDIR'")?;
        let data = fs::metadata(ask("SHOW data_directory")?)?;
        let owner = (
            std::os::unix::fs::MetadataExt::uid(&data),
            std::os::unix::fs::MetadataExt::gid(&data),
        );
        let directory = scene.path("cluster");
        fs::create_dir(&directory)?;
        let user = rustix::process::geteuid().is_root().then_some(owner);
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&directory, Some(uid), Some(gid))?;
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            fs::set_permissions(scene.path(""), open)?;
        }
        let port = free_port()?;
        let cluster = Self {
            programs: programs.into(),
            directory,
            port,
            user,
        };
        cluster.run("initdb", &["--auth=trust", "--username=plik", "-E", "UTF8"])?;
        cluster.control(&["start"])?;
        Database::query_url(&cluster.url("postgres"), "CREATE DATABASE plik")?;
        Ok(cluster)
    }

    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://plik@127.0.0.1:{}/{database}?sslmode=disable",
            self.port
        )
    }

    /// `pg_ctl` to its end; a start ends when the server takes connections.
    pub fn control(&self, arguments: &[&str]) -> Result<()> {
        let options = format!(
            "-c port={} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off",
            self.port
        );
        let log = self.directory.join("log");
        let log = log.to_str().context("a path")?;
        self.run(
            "pg_ctl",
            &[&["-w", "-l", log, "-o", &options], arguments].concat(),
        )
    }

    /// Ends it as a crash would: kill -9 of the process that all others belong to.
    pub fn kill(&self) -> Result<()> {
        let file = fs::read_to_string(self.directory.join("data/postmaster.pid"))?;
        let pid = file.lines().next().context("no process")?.parse()?;
        kill_process(Pid::from_raw(pid).context("no process")?, Signal::KILL)?;
        // The others see that it is gone, and go; it cannot be started before they have.
        wait_until("PostgreSQL has gone", || {
            Ok(Database::query_url(&self.url("postgres"), "SELECT 1").is_err())
        })
    }

    /// Waits until it takes connections.
    pub fn wait(&self) -> Result<()> {
        wait_until("PostgreSQL is back", || {
            Ok(Database::query_url(&self.url("postgres"), "SELECT 1").is_ok())
        })
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(self.programs.join(program));
        command.arg("-D").arg(self.directory.join("data"));
        command.args(arguments).current_dir(&self.directory);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let status = command.status().context(program.to_owned())?;
        ensure!(status.success(), "{program}: {status}");
        Ok(())
    }
}

/// Below those that the kernel hands out to clients: one of them would keep PostgreSQL from
/// coming back.
fn free_port() -> Result<u16> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    let ports = (0..100).map(|step| 20_000 + ((now / 1000 + step * 101) % 12_000) as u16);
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().context("no free port")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.control(&["stop", "-m", "immediate"]);
    }
}
