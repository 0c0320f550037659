//! Keeps a migration and a server apart: who serves a database shares it with other servers, who
//! loads into it has it alone.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use tokio_util::task::AbortOnDropHandle;

use super::error::During;
use super::hold::{self, Hold, Session};
use super::postgres::{Connector, failure};
use super::sqlite::Location;
use super::{MetadataError, OpenMode};
use crate::config::{Driver, MetadataConfig};

/// Of all advisory locks of a PostgreSQL database, the one that says who uses it. Any number will
/// do that other programs are unlikely to have chosen.
const USE_LOCK: i64 = 0x706c_696b_6475_7365;

/// Each part of a load has a lock of its own, whose key is this and its number.
const PARTS_LOCK: i32 = 0x706c_6b70;

/// PostgreSQL may notice only after a moment that a program was killed, and keeps its lock until
/// then: so long it is waited for …
const PATIENCE: Duration = Duration::from_secs(5);
/// … and asked about again this often.
const PAUSE: Duration = Duration::from_millis(100);

/// Who has the lock of this database. A key of 64 bits is shown as two halves.
const HOLDERS: &str = "FROM pg_locks WHERE locktype = 'advisory' AND granted \
     AND objsubid = 1 AND (classid::bigint << 32 | objid::bigint) = $1 \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Who has the lock of any part of this database.
const PART_HOLDERS: &str = "FROM pg_locks WHERE locktype = 'advisory' AND granted \
     AND objsubid = 2 AND classid::bigint = $1 \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Held as long as the database is used; given back by the operating system or by PostgreSQL even
/// if this program is killed.
pub enum Lock {
    /// A file beside the database: SQLite's own locks come and go with each transaction.
    Sqlite { _file: File },
    /// A connection that does nothing else, and who looks after it.
    Postgres {
        hold: Hold,
        _keeper: AbortOnDropHandle<()>,
    },
}

impl Lock {
    /// # Errors
    ///
    /// [`MetadataError::InUse`] if somebody uses the database in a way that excludes `mode`.
    pub async fn take(
        config: &MetadataConfig,
        mode: OpenMode,
    ) -> Result<Option<Self>, MetadataError> {
        if mode == OpenMode::ReadOnly {
            return Ok(None);
        }
        match config.driver {
            Driver::Sqlite => sqlite(config, mode != OpenMode::Serve).map(Some),
            Driver::Postgres => postgres(config, mode).await.map(Some),
        }
    }

    /// Whether it is held still, if that can change: what the operating system keeps is not lost.
    pub fn hold(&self) -> Option<&Hold> {
        match self {
            Self::Sqlite { .. } => None,
            Self::Postgres { hold, .. } => Some(hold),
        }
    }

    /// Keeps servers and migrations away from a database that is only read, as far as that can be
    /// done without writing: `None` for a SQLite database that no plikd has ever served.
    ///
    /// # Errors
    ///
    /// [`MetadataError::InUse`] if somebody uses it.
    pub async fn keep_away(config: &MetadataConfig) -> Result<Option<Self>, MetadataError> {
        match config.driver {
            Driver::Sqlite => hold_sqlite(config),
            Driver::Postgres => postgres(config, OpenMode::Load).await.map(Some),
        }
    }

    /// Whether a server uses the database now, as far as it is a plikd and the file system has locks.
    ///
    /// Creates nothing and keeps nobody waiting: of a SQLite database the lock is held for a moment, of one of
    /// PostgreSQL the locks are only listed.
    pub async fn is_served(config: &MetadataConfig) -> Result<bool, MetadataError> {
        match config.driver {
            Driver::Sqlite => is_served_sqlite(config),
            Driver::Postgres => is_served_postgres(config).await,
        }
    }

    /// Finds out whether [`Lock::take`] would get the database to load it, or that part of it.
    /// Creates nothing; of a SQLite database the lock is held for a moment.
    ///
    /// # Errors
    ///
    /// [`MetadataError::InUse`] if somebody uses it.
    pub async fn probe(
        config: &MetadataConfig,
        part: Option<NonZeroU32>,
    ) -> Result<(), MetadataError> {
        match config.driver {
            Driver::Sqlite => hold_sqlite(config).map(drop),
            Driver::Postgres => probe_postgres(config, part).await,
        }
    }
}

/// Has a SQLite database alone until the lock is dropped; creates the file that is locked.
///
/// # Errors
///
/// [`MetadataError::InUse`] if a server or a migration uses it.
pub fn lock_alone(location: Location) -> Result<Lock, MetadataError> {
    lock_file(location, true)
}

fn hold_sqlite(config: &MetadataConfig) -> Result<Option<Lock>, MetadataError> {
    let location = Location::parse(config.connection_string.expose())?;
    let label = location.to_string();
    // Nobody has locked it yet, or whether it can be locked shows when it is.
    let Ok(file) = File::open(lock_path(location)) else {
        return Ok(None);
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(in_use(label, ALONE)),
        Err(TryLockError::Error(_)) => Ok(None),
        Ok(()) => Ok(Some(Lock::Sqlite { _file: file })),
    }
}

fn is_served_sqlite(config: &MetadataConfig) -> Result<bool, MetadataError> {
    let location = Location::parse(config.connection_string.expose())?;
    // Where there is no file nobody has locked it; one that may not be read tells nothing.
    let Ok(file) = File::open(lock_path(location)) else {
        return Ok(false);
    };
    // What can be shared but not had alone is shared by a server: a migration has it alone.
    let is_used = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    Ok(is_used && file.try_lock_shared().is_ok())
}

async fn is_served_postgres(config: &MetadataConfig) -> Result<bool, MetadataError> {
    let sql = format!("SELECT count(*) > 0 {HOLDERS} AND mode = 'ShareLock'");
    let connector = Connector::new(config)?;
    let label = connector.to_string();
    let client = connector.connect().await?;
    let row = client.query_one(&sql, &[&USE_LOCK]).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| {
        let during = During {
            action: "tell who uses it",
            backend: &label,
        };
        during.failed(error)
    })
}

async fn probe_postgres(
    config: &MetadataConfig,
    part: Option<NonZeroU32>,
) -> Result<(), MetadataError> {
    let connector = Connector::new(config)?;
    let label = connector.to_string();
    let client = connector.connect().await?;
    let asking = Asking {
        client: &client,
        during: During {
            action: "tell who uses it",
            backend: &label,
        },
    };
    if !asking.nobody_uses_it().await? {
        return Err(in_use(label, ALONE));
    }
    match part {
        None if !asking.nobody_loads_parts().await? => Err(in_use(label, PARTS)),
        Some(number) if !asking.nobody_loads(number).await? => Err(in_use(label, THIS_PART)),
        _ => Ok(()),
    }
}

/// A file beside the database, the same one for every name of it.
fn lock_path(location: Location) -> OsString {
    let mut path = location.file.into_os_string();
    path.push(".lock");
    path
}

fn sqlite(config: &MetadataConfig, alone: bool) -> Result<Lock, MetadataError> {
    lock_file(Location::parse(config.connection_string.expose())?, alone)
}

fn lock_file(location: Location, alone: bool) -> Result<Lock, MetadataError> {
    let label = location.to_string();
    let during = During {
        action: "lock it",
        backend: &label,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lock_path(location))
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                MetadataError::Config(format!("the directory for {label} does not exist"))
            }
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                during.denied(error)
            }
            _ => during.failed(error),
        })?;
    let locked = if alone {
        file.try_lock()
    } else {
        file.try_lock_shared()
    };
    match locked {
        Ok(()) => Ok(Lock::Sqlite { _file: file }),
        Err(TryLockError::WouldBlock) => Err(in_use(label, if alone { ALONE } else { SHARED })),
        Err(TryLockError::Error(error)) if has_no_locks(&error) => {
            tracing::warn!(
                "the file system of {label} has no locks, so nothing keeps a migration from a database in use"
            );
            Ok(Lock::Sqlite { _file: file })
        }
        Err(TryLockError::Error(error)) => Err(during.failed(error)),
    }
}

/// Some network file systems cannot lock; a server must start there all the same.
fn has_no_locks(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Unsupported || error.raw_os_error() == Some(libc::ENOLCK)
}

async fn postgres(config: &MetadataConfig, mode: OpenMode) -> Result<Lock, MetadataError> {
    let connector = Connector::new(config)?.steady();
    let session = take_in_postgres(&connector, mode).await?;
    let (hold, keeper) = hold::keep(session, connector, mode);
    Ok(Lock::Postgres {
        hold,
        _keeper: keeper,
    })
}

/// A new connection that has the lock. Servers share one lock, which a load has alone; each part has
/// one of its own. Whoever has taken one looks for those that exclude it, so of two that come
/// together at least one sees the other.
///
/// # Errors
///
/// [`MetadataError::InUse`] if somebody uses the database in a way that excludes `mode`.
pub(super) async fn take_in_postgres(
    connector: &Connector,
    mode: OpenMode,
) -> Result<Session, MetadataError> {
    let label = connector.to_string();
    let session = connector.session().await?;
    let during = During {
        action: "lock it",
        backend: &label,
    };
    let asking = Asking {
        client: &session.client,
        during,
    };
    let (use_lock, parts_lock) = (&USE_LOCK, &PARTS_LOCK);
    let excluded_by = match mode {
        OpenMode::LoadPart(number) => {
            let sql = "SELECT pg_try_advisory_lock($1, $2)";
            let number = number.get().cast_signed();
            match asking.becomes_true(sql, &[parts_lock, &number]).await? {
                false => Some(THIS_PART),
                true => (!asking.nobody_uses_it().await?).then_some(ALONE),
            }
        }
        mode => {
            let (sql, others) = match mode {
                OpenMode::Serve => ("SELECT pg_try_advisory_lock_shared($1)", SHARED),
                _ => ("SELECT pg_try_advisory_lock($1)", ALONE),
            };
            match asking.becomes_true(sql, &[use_lock]).await? {
                false => Some(others),
                true => (!asking.nobody_loads_parts().await?).then_some(PARTS),
            }
        }
    };
    match excluded_by {
        None => Ok(session),
        Some(by) => Err(in_use(label, by)),
    }
}

/// What is asked about the locks of a PostgreSQL database.
struct Asking<'a> {
    client: &'a Client,
    during: During<'a>,
}

impl Asking<'_> {
    async fn nobody_uses_it(&self) -> Result<bool, MetadataError> {
        let sql = format!("SELECT count(*) = 0 {HOLDERS}");
        self.becomes_true(&sql, &[&USE_LOCK]).await
    }

    async fn nobody_loads_parts(&self) -> Result<bool, MetadataError> {
        let sql = format!("SELECT count(*) = 0 {PART_HOLDERS}");
        self.becomes_true(&sql, &[&i64::from(PARTS_LOCK)]).await
    }

    async fn nobody_loads(&self, part: NonZeroU32) -> Result<bool, MetadataError> {
        let sql = format!("SELECT count(*) = 0 {PART_HOLDERS} AND objid::bigint = $2");
        let part = i64::from(part.get());
        self.becomes_true(&sql, &[&i64::from(PARTS_LOCK), &part])
            .await
    }

    /// Asks until the answer is yes, for as long as a dead holder may keep a lock.
    async fn becomes_true(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<bool, MetadataError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let row = self.client.query_one(sql, params).await;
            let answer: Result<bool, _> = row.and_then(|row| row.try_get(0));
            let answer = answer.map_err(|error| failure(self.during, &error))?;
            if answer || Instant::now() >= deadline {
                return Ok(answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// By whom a database is in use, for who would have it alone …
const ALONE: &str = "a server or another migration";
/// … for a server …
const SHARED: &str = "a migration into it";
/// … for both …
const PARTS: &str = "a migration into it, in parts";
/// … and for a part.
const THIS_PART: &str = "another run of this part";

fn in_use(backend: String, by: &str) -> MetadataError {
    MetadataError::InUse {
        backend,
        by: by.to_owned(),
    }
}
