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
    /// Its certificate is not to be trusted, so nothing was sent.
    #[error("{backend} cannot prove who it is, to {action}")]
    Untrusted {
        action: String,
        backend: String,
        source: BoxError,
    },
    /// There is no such bucket.
    #[error("{backend} cannot be used")]
    BucketMissing {
        action: String,
        backend: String,
        source: BoxError,
    },
    /// It asks for fewer requests at a time.
    #[error("{backend} is too busy to {action}")]
    Busy {
        action: String,
        backend: String,
        source: BoxError,
    },
    /// It failed in a way that passes by itself: an error of its own, a transfer that broke.
    #[error("{backend} failed for now to {action}")]
    Passing {
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
    /// What is known of an unfinished upload could not be read or written down: neither backend is
    /// to blame.
    #[error("the upload of blob {id} could not be written down")]
    Journal { id: String, source: BoxError },
    /// A setting of the backend is wrong; the text says which.
    #[error("{0}")]
    Config(String),
}

impl DataError {
    /// What the administrator can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Denied { backend, .. } if backend.starts_with("s3://") => Some(format!(
                "check the access key and its secret, and what it may do: this server must read and \
                 write {backend}"
            )),
            Self::Denied { backend, .. } => Some(format!(
                "check the owner of the directory and its permissions: this user must read and \
                 write {backend}"
            )),
            Self::Full { backend, .. } => Some(format!("free some space in {backend}")),
            Self::Unreachable { backend, .. } => Some(format!(
                "check that {backend} is up and its address is right"
            )),
            Self::Untrusted { backend, .. } => Some(format!(
                "let this machine trust the authority that signed the certificate of {backend}, and \
                 use the host name that the certificate is for"
            )),
            Self::BucketMissing { backend, .. } => Some(format!(
                "check that {backend} names the right bucket, and create it if it does"
            )),
            Self::Busy { backend, .. } => Some(format!(
                "try again when {backend} has less to do, or with fewer requests at a time"
            )),
            Self::Passing { .. } => Some("try again".to_owned()),
            _ => None,
        }
    }

    /// Whether every other blob would fail the same way, so that carrying on is pointless.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Denied { .. }
                | Self::Full { .. }
                | Self::Unreachable { .. }
                | Self::Untrusted { .. }
                | Self::BucketMissing { .. }
                | Self::Busy { .. }
                | Self::Journal { .. }
                | Self::Config(_)
        )
    }

    /// Whether the same call can succeed a moment later with nobody mending anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } | Self::Passing { .. } => true,
            Self::Body { source, .. } => is_transient(source),
            Self::NotFound { .. }
            | Self::WrongSize { .. }
            | Self::InvalidId { .. }
            | Self::Denied { .. }
            | Self::Full { .. }
            | Self::Untrusted { .. }
            | Self::BucketMissing { .. }
            | Self::Failed { .. }
            | Self::Journal { .. }
            | Self::Config(_) => false,
        }
    }
}

/// Whether reading or writing can succeed a moment later: lost connections and time-outs, also
/// those of a network file system. What the disk itself refuses stays refused.
pub(super) fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable, NotConnected, ResourceBusy, StaleNetworkFileHandle,
        TimedOut, UnexpectedEof, WouldBlock,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | NotConnected
            | ResourceBusy
            | StaleNetworkFileHandle
            | TimedOut
            | UnexpectedEof
            | WouldBlock
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(kind: io::ErrorKind) -> DataError {
        DataError::Body {
            id: "x".into(),
            source: kind.into(),
        }
    }

    #[test]
    fn a_refusal_names_what_can_be_mended_there() {
        let hint = |backend: &str| {
            let error = DataError::Denied {
                action: "write".into(),
                backend: backend.into(),
                source: "no".into(),
            };
            error.hint().unwrap()
        };
        assert!(!hint("s3://host:9000/bucket").contains("directory"));
        assert!(!hint("directory files").contains("access key"));
    }

    #[test]
    fn only_a_body_that_broke_on_its_way_is_read_again() {
        for kind in [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::TimedOut,
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::StaleNetworkFileHandle,
        ] {
            assert!(body(kind).is_transient(), "{kind}");
        }
        for kind in [
            // Not the bytes that the row promises: the next read gives the same.
            io::ErrorKind::InvalidData,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::NotFound,
            io::ErrorKind::StorageFull,
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::Other,
        ] {
            assert!(!body(kind).is_transient(), "{kind}");
        }
    }
}
