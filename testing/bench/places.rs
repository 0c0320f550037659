//! Where the work is done: databases, buckets and directories that are new for each run.

use std::cell::{OnceCell, RefCell};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::blobs::Blobs;
use crate::rows::Rows;

/// A directory and two servers, and what is the same for every workload.
pub struct Stage {
    directory: TempDir,
    pub scale: f64,
    pub workers: NonZeroUsize,
    tools: Option<PathBuf>,
    /// URL of a database from which others can be made.
    postgres: String,
    pub s3: S3,
    rows: OnceCell<Rows>,
    small: OnceCell<Blobs>,
    large: OnceCell<Blobs>,
    finished: RefCell<Vec<String>>,
}

impl Stage {
    /// # Errors
    ///
    /// The servers are not named by `PLIKD_TEST_POSTGRES` and `PLIKD_TEST_S3`.
    pub fn new(scale: f64, workers: NonZeroUsize, tools: Option<&Path>) -> Result<Self> {
        const HINT: &str = "start it with `testing/services.sh run --`";
        let variable = |name| std::env::var(name).with_context(|| format!("{name}: {HINT}"));
        Ok(Self {
            directory: directory()?,
            scale,
            workers,
            tools: tools.map(Path::to_owned),
            postgres: variable("PLIKD_TEST_POSTGRES")?,
            s3: S3::of(&variable("PLIKD_TEST_S3")?)?,
            rows: OnceCell::new(),
            small: OnceCell::new(),
            large: OnceCell::new(),
            finished: RefCell::default(),
        })
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path that nobody had yet. It ends as asked: pgloader knows a database by that.
    pub fn path(&self, name: &str) -> PathBuf {
        let name = format!("{}-{name}", unique(""));
        self.directory.path().join(name)
    }

    pub fn scaled(&self, count: u64) -> u64 {
        ((count as f64 * self.scale) as u64).max(1)
    }

    pub fn plikd(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plikd"));
        command.current_dir(self.directory.path());
        command
    }

    /// `plikd migrate` between two configurations.
    pub fn migration(&self, from: &str, to: &str, half: &str) -> Result<Command> {
        let mut command = self.between(from, to, &["migrate"])?;
        command.args([half, "--workers", &self.workers.to_string()]);
        Ok(command)
    }

    /// `plikd migrate verify` between two configurations.
    pub fn verification(&self, from: &str, to: &str) -> Result<Command> {
        self.between(from, to, &["migrate", "verify"])
    }

    fn between(&self, from: &str, to: &str, what: &[&str]) -> Result<Command> {
        let (source, target) = (self.path("from.cfg"), self.path("to.cfg"));
        fs::write(&source, from)?;
        fs::write(&target, to)?;
        let mut command = self.plikd();
        command.arg("--config").arg(source).args(what);
        command.arg("--to").arg(target);
        Ok(command)
    }

    /// Another program, if it is installed.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = self
            .tools
            .iter()
            .cloned()
            .chain(std::env::split_paths(&path));
        places.map(|place| place.join(name)).find(|at| at.is_file())
    }

    /// [`Stage::find`], and says so if it is not there.
    pub fn tool(&self, name: &str) -> Option<PathBuf> {
        let found = self.find(name);
        if found.is_none() {
            eprintln!("  {name} is not installed and left out: make bench-deps");
        }
        found
    }

    /// A new empty database.
    pub fn postgres(&self) -> Result<Postgres> {
        let name = unique("plikd_bench_");
        query(&self.postgres, &format!("CREATE DATABASE {name}"))?;
        // What earlier runs left for the server to write is not the next one's.
        query(&self.postgres, "CHECKPOINT")?;
        Ok(Postgres {
            maintenance: self.postgres.clone(),
            name,
        })
    }

    pub fn postgres_version(&self) -> Result<String> {
        let version = query(&self.postgres, "SHOW server_version")?;
        let version = version.first().context("no version")?;
        Ok(version.split(' ').next().unwrap_or(version).to_owned())
    }

    /// Made up for the first that asks, as those below.
    pub fn rows(&self) -> Result<&Rows> {
        once(&self.rows, || Rows::make_up(self))
    }

    pub fn small_blobs(&self) -> Result<&Blobs> {
        once(&self.small, || Blobs::small(self))
    }

    pub fn large_blobs(&self) -> Result<&Blobs> {
        once(&self.large, || Blobs::large(self))
    }

    /// A bucket that [`Stage::end`] removes.
    pub fn remove_at_the_end(&self, bucket: String) {
        self.finished.borrow_mut().push(bucket);
    }

    pub fn end(self) -> Result<()> {
        let buckets = self.finished.into_inner();
        buckets.iter().try_for_each(|bucket| self.s3.remove(bucket))
    }
}

/// Below that of the services, if there is one: it is removed even when this program is killed.
fn directory() -> Result<TempDir> {
    let mut name = tempfile::Builder::new();
    name.prefix("plikd-bench.");
    Ok(match std::env::var_os("PLIKD_TEST_DIRECTORY") {
        Some(parent) => name.tempdir_in(parent)?,
        None => name.tempdir()?,
    })
}

fn once<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(made) = cell.get() {
        return Ok(made);
    }
    let made = make()?;
    Ok(cell.get_or_init(|| made))
}

/// A name that nobody had yet.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{}x{number}", std::process::id())
}

/// A database, dropped with this.
pub struct Postgres {
    maintenance: String,
    name: String,
}

impl Postgres {
    pub fn url(&self) -> String {
        let server = self.maintenance.rsplit_once('/');
        let (server, _) = server.unwrap_or((&self.maintenance, ""));
        format!("{server}/{}", self.name)
    }

    pub fn section(&self) -> String {
        metadata_section("postgres", &self.url())
    }

    pub fn count(&self, sql: &str) -> Result<u64> {
        let found = query(&self.url(), sql)?;
        Ok(found.first().context("no row")?.parse()?)
    }

    /// The first column.
    pub fn values(&self, sql: &str) -> Result<Vec<String>> {
        query(&self.url(), sql)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // What cannot be dropped goes with the cluster.
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let _ = query(&self.maintenance, &sql);
    }
}

pub fn metadata_section(driver: &str, place: &str) -> String {
    format!("[MetadataBackendConfig]\nDriver = \"{driver}\"\nConnectionString = \"{place}\"\n")
}

fn query(url: &str, sql: &str) -> Result<Vec<String>> {
    runtime()?.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let messages = client
            .simple_query(sql)
            .await
            .with_context(|| sql.to_owned())?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(rows.collect())
    })
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// An S3 server, and the keys to it.
#[derive(Clone)]
pub struct S3 {
    host: String,
    pub access_key: String,
    pub secret_key: String,
}

/// What is in a bucket or a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub blobs: u64,
    pub bytes: u64,
}

impl S3 {
    fn of(url: &str) -> Result<Self> {
        let split = || {
            let (keys, host) = url.strip_prefix("http://")?.split_once('@')?;
            let (access_key, secret_key) = keys.split_once(':')?;
            Some(Self {
                host: host.to_owned(),
                access_key: access_key.to_owned(),
                secret_key: secret_key.to_owned(),
            })
        };
        split().context("PLIKD_TEST_S3 is not http://KEY:SECRET@HOST:PORT")
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.host)
    }

    /// The sections of a configuration; must come before other sections.
    pub fn section(&self, bucket: &str) -> String {
        let Self {
            host,
            access_key,
            secret_key,
        } = self;
        format!(
            "DataBackend = \"s3\"\n[DataBackendConfig]\nEndpoint = \"{host}\"\n\
             AccessKeyID = \"{access_key}\"\nSecretAccessKey = \"{secret_key}\"\n\
             Bucket = \"{bucket}\"\n"
        )
    }

    fn client(&self) -> Client {
        let credentials = Credentials::from_keys(&self.access_key, &self.secret_key, None);
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(credentials)
            .region(Region::new("us-east-1"))
            .endpoint_url(self.endpoint())
            .force_path_style(true)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Client::from_conf(config)
    }

    /// A new empty bucket.
    pub fn bucket(&self) -> Result<String> {
        let name = unique("plikd-bench-");
        runtime()?.block_on(self.client().create_bucket().bucket(&name).send())?;
        Ok(name)
    }

    pub fn contents(&self, bucket: &str) -> Result<Contents> {
        runtime()?.block_on(async {
            let listing = self.client().list_objects_v2().bucket(bucket);
            let mut pages = listing.into_paginator().send();
            let mut found = Contents::default();
            while let Some(page) = pages.next().await {
                for object in page?.contents() {
                    found.blobs += 1;
                    found.bytes += u64::try_from(object.size().unwrap_or(0))?;
                }
            }
            Ok(found)
        })
    }

    pub fn remove(&self, bucket: &str) -> Result<()> {
        runtime()?.block_on(async {
            let client = self.client();
            let mut pages = client
                .list_objects_v2()
                .bucket(bucket)
                .into_paginator()
                .send();
            while let Some(page) = pages.next().await {
                let page = page?;
                let keys = page.contents().iter().filter_map(|object| object.key());
                let keys = keys.map(|key| ObjectIdentifier::builder().key(key).build());
                let keys = Delete::builder()
                    .set_objects(Some(keys.collect::<Result<_, _>>()?))
                    .quiet(true)
                    .build()?;
                let delete = client.delete_objects().bucket(bucket).delete(keys);
                delete.send().await?;
            }
            client.delete_bucket().bucket(bucket).send().await?;
            Ok(())
        })
    }
}

/// What is below a directory.
pub fn contents_of(directory: &Path) -> Result<Contents> {
    let mut found = Contents::default();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let below = contents_of(&entry.path())?;
            found.blobs += below.blobs;
            found.bytes += below.bytes;
        } else {
            found.blobs += 1;
            found.bytes += entry.metadata()?.len();
        }
    }
    Ok(found)
}

/// Runs a command whose cost nobody asks for.
pub fn succeed(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} ended with {}: {said}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}
