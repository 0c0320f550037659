//! What can keep a made-up server from being made.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum FakedbError {
    #[error("{} is there already", .path.display())]
    Exists { path: PathBuf },
    /// A device, a link, a directory, or a file with something else in it.
    #[error("{} is not an SQLite database, and nothing else is replaced", .path.display())]
    NotADatabase { path: PathBuf },
    #[error("the directory {} is not empty", .path.display())]
    NotEmpty { path: PathBuf },
    #[error("{0}")]
    Options(&'static str),
    #[error("cannot {action} {}", .path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot write the database {}", .path.display())]
    Sqlite {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error(transparent)]
    Metadata(#[from] crate::metadata::MetadataError),
}

impl FakedbError {
    /// What can be done about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => {
                Some("choose another --output, or replace it with --force".to_owned())
            }
            Self::NotADatabase { .. } => Some("choose another --output".to_owned()),
            Self::NotEmpty { .. } => Some(
                "choose another --data, or write into it with --force, which removes nothing"
                    .to_owned(),
            ),
            Self::Metadata(error) => error.hint(),
            _ => None,
        }
    }
}
