//! Where a test keeps its database, and how it looks into it behind the repository's back.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rand::RngExt;
use tempfile::TempDir;

use crate::config::{Driver, MetadataConfig, Secret};
use crate::metadata::schema::State;
use crate::metadata::value::Row;
use crate::metadata::{Dialect, Metadata, MetadataError, OpenMode, postgres, sqlite};
use crate::model::{BackendDetails, File, FileStatus, Upload};

/// A database of one test's own, gone with it.
pub enum Place {
    Sqlite(TempDir),
    Postgres { maintenance: String, name: String },
}

impl Place {
    pub fn sqlite() -> Self {
        Self::Sqlite(TempDir::new().unwrap())
    }

    /// # Panics
    ///
    /// Without `PLIKD_TEST_POSTGRES`, the URL of a database from which others can be created.
    pub async fn postgres() -> Self {
        let maintenance = std::env::var("PLIKD_TEST_POSTGRES").expect("PLIKD_TEST_POSTGRES");
        let name = format!("plikd_{:016x}", rand::rng().random::<u64>());
        administer(&maintenance, &format!("CREATE DATABASE {name}")).await;
        Self::Postgres { maintenance, name }
    }

    /// A further database on the same engine.
    pub async fn another(&self) -> Self {
        match self {
            Self::Sqlite(_) => Self::sqlite(),
            Self::Postgres { .. } => Self::postgres().await,
        }
    }

    pub fn config(&self) -> MetadataConfig {
        match self {
            Self::Sqlite(directory) => {
                let path = directory.path().join("plik.db");
                config(Driver::Sqlite, path.to_str().unwrap())
            }
            Self::Postgres { maintenance, name } => {
                config(Driver::Postgres, &with_database(maintenance, name))
            }
        }
    }

    pub async fn open(&self) -> Metadata {
        self.try_open(OpenMode::Serve).await.unwrap()
    }

    pub async fn try_open(&self, mode: OpenMode) -> Result<Metadata, MetadataError> {
        // Neither UTC nor whole hours, to see where a time zone is forgotten.
        let zone = TimeZone::fixed(jiff::tz::Offset::from_seconds(-(3 * 3600 + 1800)).unwrap());
        Metadata::open_in(&self.config(), mode, zone).await
    }

    /// Runs any statements in the database.
    pub async fn script(&self, sql: &str) {
        match self {
            Self::Sqlite(_) => {
                let text = self.config().connection_string;
                let location = sqlite::Location::parse(text.expose()).unwrap();
                let connection = sqlite::connect(&location, sqlite::Access::ReadWrite).unwrap();
                connection.execute_batch(sql).unwrap();
            }
            Self::Postgres { maintenance, name } => {
                administer(&with_database(maintenance, name), sql).await;
            }
        }
    }

    /// What the database has, read without opening it.
    pub async fn state(&self) -> State {
        let config = self.config();
        match self {
            Self::Sqlite(_) => {
                let location = sqlite::Location::parse(config.connection_string.expose()).unwrap();
                let connection = sqlite::connect(&location, sqlite::Access::ReadWrite).unwrap();
                sqlite::read_state(&connection, "it").unwrap()
            }
            Self::Postgres { .. } => {
                let connector = postgres::Connector::new(&config).unwrap();
                let client = connector.connect().await.unwrap();
                postgres::read_state(&client, "it").await.unwrap()
            }
        }
    }

    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres { .. } => Dialect::Postgres,
        }
    }

    /// The first of the two for SQLite, the second for PostgreSQL.
    pub fn choose<'a>(&self, sqlite: &'a str, postgres: &'a str) -> &'a str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres { .. } => postgres,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Postgres { maintenance, name } = self {
            let maintenance = maintenance.clone();
            let drop = format!("DROP DATABASE {name} WITH (FORCE)");
            // A runtime of its own: this one is busy with the test.
            let dropping = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(administer(&maintenance, &drop));
            });
            dropping.join().unwrap();
        }
    }
}

fn config(driver: Driver, connection_string: &str) -> MetadataConfig {
    MetadataConfig {
        driver,
        connection_string: Secret::new(connection_string),
        debug: false,
        slow_query_threshold: Duration::from_secs(1),
        max_open_conns: 0,
        max_idle_conns: 0,
    }
}

pub async fn administer(url: &str, sql: &str) {
    let connector = postgres::Connector::new(&config(Driver::Postgres, url)).unwrap();
    let client = connector.connect().await.unwrap();
    client.batch_execute(sql).await.unwrap();
}

fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = base.rsplit_once('/').unwrap();
    format!("{server}/{name}?{query}")
}

/// Rows of a query that a test asks directly.
pub async fn rows(metadata: &Metadata, sql: &str) -> Vec<Row> {
    metadata
        .engine()
        .query("look", sql.to_owned(), [])
        .await
        .unwrap()
}

/// One number.
pub async fn number(metadata: &Metadata, sql: &str) -> i64 {
    let sql = format!("SELECT ({sql}) AS n");
    rows(metadata, &sql).await[0].integer("n")
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// An upload with something in every field.
pub fn upload(id: &str) -> Upload {
    Upload {
        id: id.to_owned(),
        ttl: i64::from(i32::MAX) + 1,
        extend_ttl: true,
        remote_ip: "192.0.2.7".to_owned(),
        comments: "愛 الحب 사랑 'quoted' \"twice\"".to_owned(),
        e2ee: "age".to_owned(),
        upload_token: "UPLOADTOKEN".to_owned(),
        user: String::new(),
        token: String::new(),
        stream: true,
        one_shot: true,
        removable: true,
        protected_by_password: true,
        login: "foo".to_owned(),
        password: "bar".to_owned(),
        created_at: Some(time("2026-11-20T20:48:52.223437Z")),
        expire_at: Some(time("2026-11-21T20:48:52.9Z")),
    }
}

pub fn file(id: &str, upload_id: &str, status: FileStatus) -> File {
    File {
        id: id.to_owned(),
        upload_id: upload_id.to_owned(),
        name: "愛愛愛.txt".to_owned(),
        status,
        md5: "ccea80b85af4f156af9d4d3b94e91a5e".to_owned(),
        mime_type: "text/plain; charset=utf-8".to_owned(),
        size: 42,
        is_text: true,
        reference: "1".to_owned(),
        backend_details: BackendDetails::new("{foo:\"bar\"}"),
        created_at: Some(time("2026-11-20T20:48:53Z")),
    }
}
