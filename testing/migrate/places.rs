//! The backends of a server, and ways to look at and into them that are not the program's own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rusqlite::types::ValueRef;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::scene::{md5_hex, unique};
use crate::{blobs, rows};

pub enum Database {
    Sqlite(PathBuf),
    /// Dropped with this.
    Postgres {
        maintenance: String,
        name: String,
    },
}

impl Database {
    /// A new empty database on the server of `PLIKD_TEST_POSTGRES`.
    pub fn postgres() -> Result<Self> {
        let maintenance = std::env::var("PLIKD_TEST_POSTGRES").context("PLIKD_TEST_POSTGRES")?;
        Self::postgres_at(&maintenance)
    }

    /// A new empty database on another server, by the URL of any database there.
    pub fn postgres_at(maintenance: &str) -> Result<Self> {
        let name = unique("plikd_");
        query_postgres(maintenance, &format!("CREATE DATABASE {name}"))?;
        Ok(Self::Postgres {
            maintenance: maintenance.to_owned(),
            name,
        })
    }

    /// Runs SQL in a database of PostgreSQL, by its URL.
    pub fn query_url(url: &str, sql: &str) -> Result<Vec<Vec<String>>> {
        query_postgres(url, sql)
    }

    /// As the program and the dumps take it: a path, or a URL.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres { maintenance, name } => {
                let (server, _) = maintenance.rsplit_once('/').unwrap_or((maintenance, ""));
                format!("{server}/{name}")
            }
        }
    }

    /// The section of a configuration.
    pub fn section(&self) -> String {
        let driver = match self {
            Self::Sqlite(_) => "sqlite3",
            Self::Postgres { .. } => "postgres",
        };
        let url = self.url();
        format!("[MetadataBackendConfig]\nDriver = \"{driver}\"\nConnectionString = \"{url}\"\n")
    }

    /// Runs SQL and gives every value as text, NULL as `NULL`.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        match self {
            Self::Sqlite(path) => query_sqlite(path, sql),
            Self::Postgres { .. } => query_postgres(&self.url(), sql),
        }
        .with_context(|| sql.to_owned())
    }

    /// The first value of the first row.
    pub fn value(&self, sql: &str) -> Result<String> {
        let rows = self.query(sql)?;
        rows.into_iter()
            .flatten()
            .next()
            .with_context(|| format!("no row: {sql}"))
    }

    pub fn count(&self, table: &str) -> Result<u64> {
        Ok(self
            .value(&format!("SELECT count(*) FROM {table}"))?
            .parse()?)
    }

    /// Every row of every table that a migration carries, times as instants.
    pub fn rows(&self) -> Result<BTreeSet<String>> {
        self.rows_without(&[])
    }

    /// [`Database::rows`] without some columns, each as `table.column`.
    pub fn rows_without(&self, columns: &[&str]) -> Result<BTreeSet<String>> {
        let options = rows::Options {
            without: columns.iter().map(|column| (*column).to_owned()).collect(),
            times_as_stored: false,
        };
        let mut out = Vec::new();
        block_on(rows::write(&self.url(), &options, &mut out))?;
        lines(out)
    }

    /// Adds an upload without anything special.
    pub fn add_upload(&self, id: &str) -> Result<()> {
        let time = "2025-01-02 03:04:05+00:00";
        let sql = format!(
            "INSERT INTO uploads (id, ttl, comments, \"user\", token, created_at) \
             VALUES ('{id}', 0, '', '', '', '{time}')"
        );
        self.query(&sql).map(|_| ())
    }

    /// Adds a file whose row says that it has these bytes.
    pub fn add_file(&self, id: &str, upload: &str, status: &str, bytes: &[u8]) -> Result<()> {
        let (md5, size) = (md5_hex(bytes), bytes.len());
        let time = "2025-01-02 03:04:05+00:00";
        let sql = format!(
            "INSERT INTO files (id, upload_id, name, status, md5, type, size, backend_details, \
             created_at) VALUES ('{id}', '{upload}', '{id}.bin', '{status}', '{md5}', \
             'application/octet-stream', {size}, '', '{time}')"
        );
        self.query(&sql).map(|_| ())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Self::Postgres { maintenance, name } = self {
            // What cannot be dropped goes with the cluster.
            let _ = query_postgres(maintenance, &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

fn query_sqlite(path: &Path, sql: &str) -> Result<Vec<Vec<String>>> {
    let connection = rusqlite::Connection::open(path)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query(())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|column| Ok(sqlite_text(row.get_ref(column)?)));
        found.push(values.collect::<Result<_>>()?);
    }
    Ok(found)
}

fn sqlite_text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
    }
}

fn query_postgres(url: &str, sql: &str) -> Result<Vec<Vec<String>>> {
    block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        // Its errors reach the client's calls too.
        tokio::spawn(connection);
        let messages = client.simple_query(sql).await?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).unwrap_or("NULL").to_owned())
                    .collect(),
            ),
            _ => None,
        });
        Ok(rows.collect())
    })
}

pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

fn lines(out: Vec<u8>) -> Result<BTreeSet<String>> {
    Ok(String::from_utf8(out)?.lines().map(str::to_owned).collect())
}

#[derive(Clone)]
pub enum Store {
    Directory(PathBuf),
    Bucket {
        /// `http://KEY:SECRET@HOST:PORT`.
        server: String,
        bucket: String,
        /// Further settings, as lines.
        settings: String,
    },
}

impl Store {
    /// A bucket that does not exist yet on the server of `PLIKD_TEST_S3`.
    pub fn bucket() -> Result<Self> {
        Self::bucket_with("")
    }

    pub fn bucket_with(settings: &str) -> Result<Self> {
        let server = std::env::var("PLIKD_TEST_S3").context("PLIKD_TEST_S3")?;
        Ok(Self::Bucket {
            server,
            bucket: unique("plikd-"),
            settings: settings.to_owned(),
        })
    }

    /// The sections of a configuration; must come before other sections.
    pub fn section(&self) -> String {
        match self {
            Self::Directory(path) => {
                let path = path.display();
                format!("DataBackend = \"file\"\n[DataBackendConfig]\nDirectory = \"{path}\"\n")
            }
            Self::Bucket {
                server,
                bucket,
                settings,
            } => {
                let (keys, host) = server
                    .trim_start_matches("http://")
                    .split_once('@')
                    .unwrap_or_default();
                let (access, secret) = keys.split_once(':').unwrap_or_default();
                format!(
                    "DataBackend = \"s3\"\n[DataBackendConfig]\nEndpoint = \"{host}\"\n\
                     AccessKeyID = \"{access}\"\nSecretAccessKey = \"{secret}\"\n\
                     Bucket = \"{bucket}\"\n{settings}\n"
                )
            }
        }
    }

    /// Every blob as `id size md5`; `keys` is the database that has those of encrypted ones.
    pub fn blobs(&self, keys: &Database) -> Result<BTreeSet<String>> {
        let mut out = Vec::new();
        match self {
            Self::Directory(path) => blobs::write_directory(path, &mut out)?,
            Self::Bucket { server, bucket, .. } => {
                let url = format!("{server}/{bucket}");
                block_on(blobs::write_bucket(&url, "", Some(&keys.url()), &mut out))?;
            }
        }
        lines(out)
    }

    /// Renames the objects of a bucket for which `renamed` gives a name, and tells how many.
    pub fn rename_objects(&self, renamed: impl Fn(&str) -> Option<String>) -> Result<usize> {
        let Self::Bucket { server, bucket, .. } = self else {
            anyhow::bail!("a directory has no objects")
        };
        let url = format!("{server}/{bucket}");
        let (client, bucket) = blobs::connect(&url).context("no URL of a bucket")?;
        block_on(async {
            let listed = client.list_objects_v2().bucket(bucket).send().await?;
            let mut count = 0;
            for key in listed.contents().iter().filter_map(|object| object.key()) {
                let Some(name) = renamed(key) else { continue };
                let object = client.get_object().bucket(bucket).key(key).send().await?;
                let bytes = object.body.collect().await?.into_bytes();
                let put = client.put_object().bucket(bucket).key(name);
                put.body(bytes.into()).send().await?;
                client
                    .delete_object()
                    .bucket(bucket)
                    .key(key)
                    .send()
                    .await?;
                count += 1;
            }
            Ok(count)
        })
    }

    /// Puts other bytes of the same length into the objects that `is_meant` finds, and tells how
    /// many.
    pub fn rewrite_objects(&self, is_meant: impl Fn(&str) -> bool) -> Result<usize> {
        let Self::Bucket { server, bucket, .. } = self else {
            anyhow::bail!("a directory has no objects")
        };
        let url = format!("{server}/{bucket}");
        let (client, bucket) = blobs::connect(&url).context("no URL of a bucket")?;
        block_on(async {
            let listed = client.list_objects_v2().bucket(bucket).send().await?;
            let mut count = 0;
            let keys = listed.contents().iter().filter_map(|object| object.key());
            for key in keys.filter(|key| is_meant(key)) {
                let object = client.get_object().bucket(bucket).key(key).send().await?;
                let bytes = object.body.collect().await?.into_bytes();
                let other: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
                let put = client.put_object().bucket(bucket).key(key);
                put.body(other.into()).send().await?;
                count += 1;
            }
            Ok(count)
        })
    }

    /// Where a directory keeps a blob.
    pub fn path_of(&self, id: &str) -> PathBuf {
        match self {
            Self::Directory(path) => path.join(&id[..2]).join(id),
            Self::Bucket { bucket, .. } => PathBuf::from(bucket).join(id),
        }
    }

    /// Puts a blob into a directory, as a server of Plik (Go) would.
    pub fn put(&self, id: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path_of(id);
        fs::create_dir_all(path.with_file_name(""))?;
        Ok(fs::write(path, bytes)?)
    }
}
