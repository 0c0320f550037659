//! The end of a body is told only once its digest is right, with the lock of the object held.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use md5::{Digest, Md5};
use s3s::dto::StreamingBlob;
use s3s::{S3Result, s3_error};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

/// Something that the end of a request's body leaves for the code after it.
#[derive(Clone, Default)]
pub(super) struct Seal(Arc<Mutex<Sealed>>);

#[derive(Default)]
pub(super) struct Sealed {
    guard: Option<OwnedRwLockWriteGuard<()>>,
    pub(super) size: u64,
    bad_digest: bool,
}

impl Seal {
    pub(super) fn with<T>(&self, read: impl FnOnce(&mut Sealed) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn check<T>(&self, result: S3Result<T>) -> S3Result<T> {
        if self.with(|sealed| sealed.bad_digest) {
            return Err(s3_error!(BadDigest));
        }
        result
    }
}

/// The same bytes, but their end is only told when they have the digest announced, and with the
/// lock of the object held.
pub(super) fn sealed(
    body: StreamingBlob,
    content_md5: Option<&str>,
    lock: Option<Arc<RwLock<()>>>,
) -> S3Result<(StreamingBlob, Seal)> {
    let expected = content_md5
        .map(|text| STANDARD.decode(text))
        .transpose()
        .map_err(|error| s3_error!(error, InvalidDigest))?;
    let seal = Seal::default();
    let bytes = Sealing {
        body,
        md5: Md5::new(),
        expected,
        lock,
        seal: seal.clone(),
    };
    Ok((StreamingBlob::wrap(bytes.into_stream()), seal))
}

struct Sealing {
    body: StreamingBlob,
    md5: Md5,
    expected: Option<Vec<u8>>,
    lock: Option<Arc<RwLock<()>>>,
    seal: Seal,
}

impl Sealing {
    fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static {
        futures::stream::unfold(Some(self), |state| async {
            let mut state = state?;
            match state.body.next().await {
                Some(Ok(bytes)) => {
                    state.seal.with(|sealed| sealed.size += bytes.len() as u64);
                    if state.expected.is_some() {
                        state.md5.update(&bytes);
                    }
                    Some((Ok(bytes), Some(state)))
                }
                Some(Err(error)) => Some((Err(io::Error::other(error)), None)),
                None => state.end().await.map(|error| (Err(error), None)),
            }
        })
    }

    async fn end(self) -> Option<io::Error> {
        if self
            .expected
            .is_some_and(|md5| md5 != self.md5.finalize().as_slice())
        {
            self.seal.with(|sealed| sealed.bad_digest = true);
            return Some(io::Error::other("the bytes do not have the MD5 announced"));
        }
        if let Some(lock) = self.lock {
            let guard = lock.write_owned().await;
            self.seal.with(|sealed| sealed.guard = Some(guard));
        }
        None
    }
}
