//! What can be wrong with a configuration.

use std::io;
use std::path::PathBuf;

use super::duration::DurationError;

/// A configuration that cannot be used. No message repeats the value of a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("Unable to read config file {} : {reason}", path.display())]
    Unreadable { path: PathBuf, reason: io::Error },
    #[error("Unable to read config file {}", path.display())]
    Directory { path: PathBuf },
    #[error("unable to load config file {} : toml: line {line}: {problem}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        problem: String,
    },
    #[error(
        "unable to load config file {} : toml: line {line} (last key {key:?}): \
         incompatible types: found {found}, expected {expected}",
        path.display()
    )]
    Type {
        path: PathBuf,
        line: usize,
        key: String,
        found: &'static str,
        expected: &'static str,
    },
    #[error(
        "unable to load config file {} : toml: line {line} (last key {key:?}): \
         set already on line {first}",
        path.display()
    )]
    Twice {
        path: PathBuf,
        line: usize,
        key: String,
        first: usize,
    },
    /// An environment variable with a value that its key cannot take.
    #[error("unable to assign {key} : {problem}")]
    Variable {
        key: &'static str,
        variable: String,
        problem: String,
    },
    /// A setting with a value that makes no sense, alone or beside the others.
    #[error("{message}")]
    Setting {
        key: &'static str,
        message: String,
        remedy: String,
    },
    #[error("unable to initialize metadata backend : {0}")]
    MetadataBackend(BackendProblem),
    #[error("unable to initialize data backend : {0}")]
    DataBackend(BackendProblem),
    #[error("{variable} is not a PostgreSQL URL")]
    NoPostgresUrl { variable: &'static str },
    #[error("PLIKD_POSTGRES_URL and PLIKD_POSTGRES_URL_FILE are both set")]
    TwoPostgresUrls,
    #[error("Unable to read {}, which PLIKD_POSTGRES_URL_FILE names : {reason}", path.display())]
    PostgresUrlFile { path: PathBuf, reason: io::Error },
    /// The target of a migration names neither of its backends.
    #[error(
        "target configuration {} sets neither [MetadataBackendConfig] nor DataBackend with \
         [DataBackendConfig], so there is nothing to move",
        path.display()
    )]
    NoTarget {
        path: PathBuf,
        /// What the file has instead.
        warnings: Vec<String>,
    },
}

/// What is wrong with the settings of a backend.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendProblem {
    #[error("{key} in [{table}]: found {found}, expected {expected}")]
    Type {
        table: &'static str,
        key: String,
        found: &'static str,
        expected: &'static str,
    },
    #[error("Invalid metadata backend driver : {0}")]
    UnknownDriver(String),
    #[error("Invalid data backend {0}")]
    UnknownBackend(String),
    /// A backend that Plik (Go) has.
    #[error("{key} = {name:?} is not in this version, which has {present}")]
    Missing {
        key: &'static str,
        name: String,
        present: &'static str,
    },
    #[error("EraseFirst = true would drop all tables at every start")]
    EraseFirst,
    #[error("{key} is empty")]
    Empty { key: &'static str },
    #[error("Driver is postgres, but ConnectionString names no server")]
    NoServer,
    #[error("Driver is sqlite3, but ConnectionString is a URL")]
    NoPath,
    #[error("Unable to parse SlowQueryThreshold : {0}")]
    SlowQueryThreshold(DurationError),
    #[error("invalid s3 data backend config : {problem}")]
    S3 { key: &'static str, problem: String },
    #[error("invalid SSE type {0}")]
    Sse(String),
    #[error("KMS server side encryption is not yet implemented")]
    Kms,
}

impl ConfigError {
    /// What the administrator can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { .. } | Self::Directory { .. } => {
                "name a file that this user may read".to_owned()
            }
            Self::Syntax { path, line, .. } | Self::Type { path, line, .. } => {
                format!("correct line {line} of {}", path.display())
            }
            Self::Twice {
                path, line, first, ..
            } => format!(
                "upper and lower case make no difference; remove line {first} or {line} of {}",
                path.display()
            ),
            Self::Variable { variable, .. } => format!("correct or unset {variable}"),
            Self::Setting { remedy, .. } => remedy.clone(),
            Self::NoPostgresUrl { .. } => "postgres://user:password@host:5432/plik".to_owned(),
            Self::TwoPostgresUrls => "unset one of them".to_owned(),
            Self::PostgresUrlFile { .. } => "correct or unset PLIKD_POSTGRES_URL_FILE".to_owned(),
            Self::MetadataBackend(problem) | Self::DataBackend(problem) => problem.hint(),
            Self::NoTarget { path, warnings } => {
                let advice = format!(
                    "write the backend to move to into {}, or set \
                     PLIKD_TARGET_METADATA_BACKEND_CONFIG or PLIKD_TARGET_DATA_BACKEND",
                    path.display()
                );
                std::iter::once(&advice)
                    .chain(warnings)
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join("; ")
            }
        })
    }
}

impl BackendProblem {
    fn hint(&self) -> String {
        match self {
            Self::Type { table, key, .. } => {
                format!("correct {key} in [{table}], or in the variable that overrides this table")
            }
            Self::UnknownDriver(_) => {
                "set Driver in [MetadataBackendConfig] to \"sqlite3\" or \"postgres\"".to_owned()
            }
            Self::UnknownBackend(_) => "set DataBackend to \"file\" or \"s3\"".to_owned(),
            Self::Missing { key, name, present } => format!(
                "set {key} to one of {present}; this version can neither serve nor migrate {name}"
            ),
            Self::EraseFirst => "remove EraseFirst from [MetadataBackendConfig]".to_owned(),
            Self::Empty { key } => format!("set {key}, or remove it to use its default"),
            Self::NoServer => "set ConnectionString in [MetadataBackendConfig] to a URL like \
                 postgres://user:password@host:5432/plik"
                .to_owned(),
            Self::NoPath => {
                "set ConnectionString in [MetadataBackendConfig] to the path of a file, \
                 or Driver to postgres"
                    .to_owned()
            }
            Self::SlowQueryThreshold(_) => {
                "write a number and a unit from ns to h, such as \"500ms\"".to_owned()
            }
            Self::S3 { key, .. } => format!("set {key} in [DataBackendConfig]"),
            Self::Sse(_) | Self::Kms => {
                "set SSE in [DataBackendConfig] to \"\", \"S3\" or \"SSE-C\"".to_owned()
            }
        }
    }
}
