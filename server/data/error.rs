//! What can go wrong with a blob.

use std::io;

/// Any other error, kept as the cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("blob {id} is not in {backend}")]
    NotFound { id: String, backend: String },
    #[error("blob {id} has {actual} bytes instead of {expected}")]
    WrongSize {
        id: String,
        expected: u64,
        actual: u64,
    },
    /// The stream given to `put` failed: the backend is not to blame.
    #[error("the bytes of blob {id} could not be read")]
    Body { id: String, source: io::Error },
    #[error("`{id}` is no id of a file or an upload: letters and digits only, at least 3")]
    InvalidId { id: String },
    #[error("{backend} refused to {action}")]
    Denied {
        action: String,
        backend: String,
        source: BoxError,
    },
    #[error("{backend} has no space left to {action}")]
    Full {
        action: String,
        backend: String,
        source: BoxError,
    },
    #[error("{backend} cannot be reached to {action}")]
    Unreachable {
        action: String,
        backend: String,
        source: BoxError,
    },
    #[error("{backend} failed to {action}")]
    Failed {
        action: String,
        backend: String,
        source: BoxError,
    },
    /// A setting of the backend is wrong; the text says which.
    #[error("{0}")]
    Config(String),
}

impl DataError {
    /// What the administrator can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Denied { backend, .. } => Some(format!(
                "check the access key and its secret, or the owner of the directory: this server \
                 must read and write {backend}"
            )),
            Self::Full { backend, .. } => Some(format!("free some space in {backend}")),
            Self::Unreachable { backend, .. } => Some(format!(
                "check that {backend} is up and its address is right"
            )),
            _ => None,
        }
    }

    /// Whether every other blob would fail the same way, so that carrying on is pointless.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Denied { .. } | Self::Full { .. } | Self::Unreachable { .. } | Self::Config(_)
        )
    }
}
