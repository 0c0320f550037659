//! The metadata backend: users, tokens, uploads, files and settings, as rows of SQLite or
//! PostgreSQL. Each statement is written once, for both engines.
//!
//! [`table`] lists the tables, [`schema`] says which statements bring a database to their shape,
//! [`sqlite`] and [`postgres`] run statements, and `uploads`, `files` and `maintenance` are what
//! the rest of the program asks for. [`Snapshot`] and [`Loader`] are the two ends of a migration:
//! whole tables, read as of one moment and written in batches.

mod blob_notes;
mod catalog;
mod checkpoint;
pub mod cursor;
mod dialect;
mod digest;
mod divided;
mod engine;
mod error;
mod family;
mod fault;
mod files;
mod followed;
mod fresh;
mod hold;
mod layout;
mod loader;
mod lock;
mod maintenance;
mod moved;
mod overwrite;
mod place;
pub mod postgres;
mod probe;
mod reject;
mod request;
mod rules;
pub mod schema;
mod snapshot;
pub mod sqlite;
pub mod stats;
mod stored;
mod strangers;
mod stream;
pub mod table;
mod tuple;
mod upload_log;
mod uploads;
mod value;
mod weighed;

#[cfg(test)]
mod contract;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::{Driver, MetadataConfig};
pub use blob_notes::{BlobNotes, BlobRecord, BlobState};
pub use catalog::{MAX_NAME_BYTES, MadeType};
pub use checkpoint::{Checkpoint, Tally};
pub use dialect::Dialect;
pub use digest::{KeyRange, Owned, TableDigest};
use engine::{Backend, Engine, StatementLog};
pub use engine::{Expect, Statement, Written};
pub use error::{BoxError, MetadataError};
pub use fault::{Fault, Reason};
pub use followed::DoomedBlob;
pub use fresh::{Built, FreshError, FreshLoad};
pub use hold::Hold;
pub use layout::{Column, Index, Layout, migrated};
pub use loader::{Delete, Existing, Loaded, Loader, OnReject, RunRecord, Write};
pub use lock::{Lock, lock_alone};
pub use maintenance::Orphans;
pub use moved::MovedMarker;
pub use overwrite::{drop_tables, is_of_plikd, replace_file};
pub use place::{
    announcement, device, file_size, free_bytes, is_same_file, name_of, sqlite_name, sqlite_path,
};
pub use probe::{free_connections, probe};
pub use reject::{Reject, StoredRow, shown_key};
pub use request::{Cursor, Order, Request, Rows};
pub use rules::{Keys, Rules};
use schema::State;
pub use snapshot::{Identity, Snapshot};
pub use stored::ReadRow;
pub use stream::{RowStream, SourceBatch};
pub use tuple::{Batch, Encoding, Tuple, integer_of, order_of, text_of};
pub use upload_log::{PartRecord, UploadLog, UploadRecord};
pub use value::{Row, Value};

/// What a program means to do with a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Create the tables, or bring those of any SQL release of Plik (Go) to this version.
    Serve,
    /// As [`OpenMode::Serve`], and nobody else may use the database meanwhile.
    Load,
    /// As [`OpenMode::Load`], but for others that load another of as many parts, each of which has a
    /// number.
    LoadPart(NonZeroU32),
    /// Take it as it is. Nothing is written at all: no table, no file, no change of mode.
    ReadOnly,
}

/// An open metadata backend. Clones share it.
#[derive(Clone)]
pub struct Metadata(Arc<Shared>);

struct Shared {
    engine: Engine,
    /// Given back when the last clone goes, and that of every [`Metadata::reopen`].
    lock: Option<Arc<Lock>>,
    upload_columns: String,
    file_columns: String,
}

impl Metadata {
    /// Opens the database that `config` names.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Unreachable`] or [`MetadataError::Denied`] if it cannot be opened,
    /// [`MetadataError::NotInitialised`] if it is to be read and has no tables,
    /// [`MetadataError::Layout`] if its tables are not those of Plik.
    pub async fn open(config: &MetadataConfig, mode: OpenMode) -> Result<Self, MetadataError> {
        Self::open_in(config, mode, TimeZone::system()).await
    }

    /// [`Metadata::open`] with the time zone of the times that SQLite is given to store.
    pub async fn open_in(
        config: &MetadataConfig,
        mode: OpenMode,
        zone: TimeZone,
    ) -> Result<Self, MetadataError> {
        let lock = Lock::take(config, mode).await?.map(Arc::new);
        Self::open_locked(config, mode, zone, lock).await
    }

    /// Opens the database again under the lock of this one, which was closed. A lock that was lost
    /// is not taken again by it.
    async fn reopen(&self, config: &MetadataConfig, mode: OpenMode) -> Result<Self, MetadataError> {
        Self::open_locked(config, mode, TimeZone::system(), self.0.lock.clone()).await
    }

    async fn open_locked(
        config: &MetadataConfig,
        mode: OpenMode,
        zone: TimeZone,
        lock: Option<Arc<Lock>>,
    ) -> Result<Self, MetadataError> {
        let (backend, state) = match config.driver {
            Driver::Sqlite => open_sqlite(config, mode, zone).await?,
            Driver::Postgres => {
                let hold = lock.as_deref().and_then(Lock::hold).cloned();
                let (database, state) = postgres::Database::open(config, mode, hold).await?;
                (Backend::Postgres(database), state)
            }
        };
        let log = StatementLog {
            debug: config.debug,
            slow: config.slow_query_threshold,
        };
        let metadata = Self(Arc::new(Shared {
            engine: Engine { backend, log },
            lock,
            upload_columns: columns(&state, "uploads", uploads::COLUMNS),
            file_columns: columns(&state, "files", files::COLUMNS),
        }));
        if mode == OpenMode::Serve {
            if let Some(id) = state.newer_id() {
                tracing::warn!(
                    "{metadata} has schema version {id}, which this program does not know: what it \
                     added is kept and not used"
                );
            }
            metadata.refuse_half_migrated(&state).await?;
            let sentinels = stats::ensure_sentinels(Timestamp::now());
            metadata
                .engine()
                .write("prepare its counters", sentinels)
                .await?;
        }
        Ok(metadata)
    }

    /// Waits for what is in flight and closes every connection. Calls on other clones fail
    /// afterwards.
    pub async fn close(self) {
        match &self.engine().backend {
            Backend::Sqlite(database) => database.close().await,
            Backend::Postgres(database) => database.close(),
        }
    }

    /// Asks the database for an answer.
    pub async fn ping(&self) -> Result<(), MetadataError> {
        let answer = self.engine().query("answer", "SELECT 1", []).await;
        answer.map(|_| ())
    }

    /// The lock that this was opened with, if it can be lost.
    pub fn hold(&self) -> Option<&Hold> {
        self.0.lock.as_deref().and_then(Lock::hold)
    }

    /// A migration into this database that was cut off left some of its rows out, or keys.
    async fn refuse_half_migrated(&self, state: &State) -> Result<(), MetadataError> {
        for (table, column) in loader::HALF_DONE {
            if !state.has_column(table, column) {
                continue;
            }
            let sql = format!("SELECT 1 AS row FROM {table} LIMIT 1");
            let rows = self.engine().query("look for a migration", sql, []).await?;
            if !rows.is_empty() {
                let backend = self.to_string();
                return Err(MetadataError::HalfMigrated { backend });
            }
        }
        Ok(())
    }

    fn engine(&self) -> &Engine {
        &self.0.engine
    }
}

/// `sqlite plik.db` or `postgres localhost:5432/plik`, never a password.
impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.engine().backend {
            Backend::Sqlite(database) => database.fmt(f),
            Backend::Postgres(database) => database.fmt(f),
        }
    }
}

async fn open_sqlite(
    config: &MetadataConfig,
    mode: OpenMode,
    zone: TimeZone,
) -> Result<(Backend, State), MetadataError> {
    let location = sqlite::Location::parse(config.connection_string.expose())?;
    let (label, readers) = (location.to_string(), config.max_open_conns);
    let open = move || sqlite::Database::open(location, mode, readers, zone);
    let (database, state) = tokio::task::spawn_blocking(open).await.map_err(|error| {
        let during = error::During {
            action: "open the file",
            backend: &label,
        };
        during.failed(error)
    })??;
    Ok((Backend::Sqlite(database), state))
}

/// The list of a `SELECT`. A column that an older database lacks, which is opened to read only,
/// is NULL.
fn columns(state: &State, table: &str, names: &[&str]) -> String {
    let columns: Vec<String> = names
        .iter()
        .map(|name| match state.has_column(table, name) {
            true => format!("\"{name}\""),
            false => format!("NULL AS \"{name}\""),
        })
        .collect();
    columns.join(", ")
}
