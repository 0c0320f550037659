//! What can go wrong with the metadata.

/// Any other error, kept as the cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// No message holds a password, a connection string or a value of a row.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// There is no database, or one without any of our tables.
    #[error("{backend} was never initialised")]
    NotInitialised { backend: String },
    #[error("{backend} has the schema version {id}, which is newer than this program")]
    Newer { backend: String, id: String },
    #[error("{backend} cannot be reached to {action}")]
    Unreachable {
        action: String,
        backend: String,
        source: BoxError,
    },
    /// The connection string asks for TLS, which the server does not offer.
    #[error("{backend} does not support TLS")]
    NoTls { backend: String },
    #[error("{backend} refused to {action}")]
    Denied {
        action: String,
        backend: String,
        source: BoxError,
    },
    /// Row level security would leave out rows without a word.
    #[error("{backend} hides rows from this user, asked to {action}")]
    Hidden {
        action: String,
        backend: String,
        source: BoxError,
    },
    /// Its certificate is not to be trusted, so nothing was sent.
    #[error("{backend} cannot prove who it is, to {action}")]
    Untrusted {
        action: String,
        backend: String,
        source: BoxError,
    },
    /// It is there, but not ready yet, or not any more; who waits finds it ready.
    #[error("{backend} is starting or stopping, asked to {action}")]
    Starting {
        action: String,
        backend: String,
        source: BoxError,
    },
    /// It follows another server, or was told to take no writes; a fail-over can change that.
    #[error("{backend} takes no writes now, to {action}")]
    Standby {
        action: String,
        backend: String,
        source: BoxError,
    },
    /// Somebody else holds a lock for longer than we may wait; trying again can succeed.
    #[error("{backend} is too busy to {action}")]
    Busy {
        action: String,
        backend: String,
        source: BoxError,
    },
    /// Another server or run uses the database, so this one must not.
    #[error("{backend} is in use by {by}")]
    InUse { backend: String, by: String },
    #[error("{backend} has no space left to {action}")]
    Full {
        action: String,
        backend: String,
        source: BoxError,
    },
    /// A migration into it has not come to its end.
    #[error("{backend} is the target of a migration that was cut off")]
    HalfMigrated { backend: String },
    /// A migration into it from another source has not come to its end.
    #[error(
        "{backend} is the target of a migration from another source, {source_identity}, that was cut off"
    )]
    OtherMigration {
        backend: String,
        source_identity: String,
        /// It is the source's own database, from before its server ran on it for the first time.
        is_same_place: bool,
    },
    /// Its rows are being loaded in another number of parts.
    #[error("the rows of {backend} are being loaded in {parts} parts")]
    Divided { backend: String, parts: String },
    /// Rows can only come in parts into empty tables, by [`Loader::open_part`](super::Loader).
    #[error("{backend} takes no part of the rows: {reason}")]
    NoParts {
        backend: String,
        reason: &'static str,
    },
    /// A SQLite database that has to be written to before it can be read, by whom it belongs to.
    #[error("{backend} was left in the middle of a transaction by a program that died")]
    CutOff { backend: String },
    #[error("{backend} is no SQLite database")]
    NoDatabase { backend: String },
    /// The file is a broken database.
    #[error("{backend} is damaged")]
    Damaged { backend: String, source: BoxError },
    /// The tables are not those of Plik.
    #[error("{backend} has an unknown layout: {table}: expected {expected}, found {found}")]
    Layout {
        backend: String,
        table: String,
        expected: String,
        found: String,
    },
    /// A setting of the backend is wrong; the text says which.
    #[error("{0}")]
    Config(String),
    #[error("{backend} failed to {action}")]
    Failed {
        action: String,
        backend: String,
        source: BoxError,
    },
}

impl MetadataError {
    /// What the administrator can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotInitialised { .. } => Some(
                "check that ConnectionString is right; if it is, start the server on it once, which \
                 creates the tables"
                    .to_owned(),
            ),
            Self::Newer { .. } => Some("install a newer plikd".to_owned()),
            Self::Unreachable { backend, .. } => Some(format!(
                "check that {backend} is up and that ConnectionString is right"
            )),
            Self::Denied { backend, .. } if backend.starts_with("sqlite") => Some(format!(
                "let the user of this server read and write {backend} and its directory"
            )),
            Self::Untrusted { backend, .. } => Some(format!(
                "let sslrootcert in ConnectionString name the authority that signed the \
                 certificate of {backend}, and use the host name that the certificate is for"
            )),
            Self::Starting { .. } => Some("try again when it is up".to_owned()),
            Self::Standby { .. } => Some(
                "let ConnectionString name the server that takes writes, or add \
                 target_session_attrs=read-write to it"
                    .to_owned(),
            ),
            Self::NoTls { .. } => {
                Some("enable ssl on the server, or use sslmode=prefer".to_owned())
            }
            Self::Denied { backend, .. } => Some(format!(
                "check the user, password and database name in ConnectionString, and that this \
                 user may read, write and create tables in {backend}"
            )),
            Self::Busy { backend, .. } => Some(format!(
                "find out what keeps {backend} locked, then try again"
            )),
            Self::HalfMigrated { .. } => Some(
                "run the migration again to its end, without --shard; or, to keep what has arrived, \
                 and if the tables plikd_migrate_deferred and plikd_migrate_shards, as far as they \
                 exist, have no rows, drop the tables plikd_migrate_checkpoints, \
                 plikd_migrate_blobs and plikd_migrate_owned"
                    .to_owned(),
            ),
            Self::OtherMigration {
                is_same_place: true,
                ..
            } => Some(
                "a server has started on the source since, so that migration cannot go on: empty the \
                 target; or, to keep what has arrived beside what is to come, drop its tables \
                 plikd_migrate_checkpoints, plikd_migrate_blobs and plikd_migrate_owned"
                    .to_owned(),
            ),
            Self::OtherMigration { .. } => Some(
                "run that migration to its end; or empty the target; or, to keep what has arrived \
                 beside what is to come, drop its tables plikd_migrate_checkpoints, \
                 plikd_migrate_blobs and plikd_migrate_owned"
                    .to_owned(),
            ),
            Self::Divided { parts, .. } => Some(format!(
                "give --shard K/{parts}; or leave it out: such a run brings what other parts have not"
            )),
            Self::NoParts { .. } => Some(
                "leave out --shard: such a run finds what is there and brings the rest; with \
                 --data-only, --shard divides the blobs"
                    .to_owned(),
            ),
            Self::CutOff { .. } => Some(
                "start its server once, or read a table of it once with sqlite3, as a user who may \
                 write it: that rolls the transaction back; then try again"
                    .to_owned(),
            ),
            Self::Hidden { .. } => Some(
                "let ConnectionString name a role with BYPASSRLS, or the owner of the tables if \
                 their row level security is not forced"
                    .to_owned(),
            ),
            Self::InUse { .. } => Some("stop it first".to_owned()),
            Self::Full { backend, .. } => Some(format!("free some space for {backend}")),
            Self::NoDatabase { .. } => {
                Some("check that ConnectionString names the right file".to_owned())
            }
            Self::Damaged { .. } => Some("restore a backup".to_owned()),
            Self::Layout { .. } => Some(
                "check that ConnectionString names the database of Plik, not of another program"
                    .to_owned(),
            ),
            Self::Config(_) | Self::Failed { .. } => None,
        }
    }

    /// The database that it is about, as messages name it.
    pub fn backend(&self) -> Option<&str> {
        match self {
            Self::NotInitialised { backend }
            | Self::Newer { backend, .. }
            | Self::Unreachable { backend, .. }
            | Self::NoTls { backend }
            | Self::Denied { backend, .. }
            | Self::Hidden { backend, .. }
            | Self::Untrusted { backend, .. }
            | Self::Starting { backend, .. }
            | Self::Standby { backend, .. }
            | Self::Busy { backend, .. }
            | Self::InUse { backend, .. }
            | Self::Full { backend, .. }
            | Self::HalfMigrated { backend }
            | Self::OtherMigration { backend, .. }
            | Self::Divided { backend, .. }
            | Self::NoParts { backend, .. }
            | Self::CutOff { backend }
            | Self::NoDatabase { backend }
            | Self::Damaged { backend, .. }
            | Self::Layout { backend, .. }
            | Self::Failed { backend, .. } => Some(backend),
            Self::Config(_) => None,
        }
    }

    /// Whether the same can succeed a moment later with nobody mending anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Starting { .. }
                | Self::Busy { .. }
                | Self::Standby { .. }
        )
    }
}

/// The parts of an error that a caller of an engine knows.
#[derive(Clone, Copy)]
pub(super) struct During<'a> {
    pub action: &'a str,
    pub backend: &'a str,
}

impl During<'_> {
    pub fn unreachable(self, source: impl Into<BoxError>) -> MetadataError {
        MetadataError::Unreachable {
            action: self.action.to_owned(),
            backend: self.backend.to_owned(),
            source: source.into(),
        }
    }

    pub fn denied(self, source: impl Into<BoxError>) -> MetadataError {
        MetadataError::Denied {
            action: self.action.to_owned(),
            backend: self.backend.to_owned(),
            source: source.into(),
        }
    }

    pub fn hidden(self, source: impl Into<BoxError>) -> MetadataError {
        MetadataError::Hidden {
            action: self.action.to_owned(),
            backend: self.backend.to_owned(),
            source: source.into(),
        }
    }

    pub fn untrusted(self, source: impl Into<BoxError>) -> MetadataError {
        MetadataError::Untrusted {
            action: self.action.to_owned(),
            backend: self.backend.to_owned(),
            source: source.into(),
        }
    }

    pub fn starting(self, source: impl Into<BoxError>) -> MetadataError {
        MetadataError::Starting {
            action: self.action.to_owned(),
            backend: self.backend.to_owned(),
            source: source.into(),
        }
    }

    pub fn standby(self, source: impl Into<BoxError>) -> MetadataError {
        MetadataError::Standby {
            action: self.action.to_owned(),
            backend: self.backend.to_owned(),
            source: source.into(),
        }
    }

    pub fn busy(self, source: impl Into<BoxError>) -> MetadataError {
        MetadataError::Busy {
            action: self.action.to_owned(),
            backend: self.backend.to_owned(),
            source: source.into(),
        }
    }

    pub fn full(self, source: impl Into<BoxError>) -> MetadataError {
        MetadataError::Full {
            action: self.action.to_owned(),
            backend: self.backend.to_owned(),
            source: source.into(),
        }
    }

    pub fn failed(self, source: impl Into<BoxError>) -> MetadataError {
        MetadataError::Failed {
            action: self.action.to_owned(),
            backend: self.backend.to_owned(),
            source: source.into(),
        }
    }
}
