//! The MD5 of bytes while they pass, computed beside the thread that moves them.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use md5::{Digest as _, Md5};
use tokio::task::JoinHandle;

use super::{ByteStream, DataError};

/// Up to here hashing takes less time than asking another thread to do it.
const INLINE_BYTES: usize = 64 << 10;
/// What is handed to another thread at once.
const BATCH_BYTES: usize = 256 << 10;
/// So that a body of tiny chunks does not gather many of them.
const BATCH_CHUNKS: usize = 1024;

/// What a body turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    pub md5: [u8; 16],
    pub size_bytes: u64,
}

impl Digest {
    /// Lower-case hex, as in `files.md5`.
    pub fn md5_hex(&self) -> String {
        to_hex(&self.md5)
    }
}

/// What a body has to be. `None` is not compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    pub md5: Option<[u8; 16]>,
    pub size_bytes: Option<u64>,
}

/// A body that is not what it has to be. Found inside the [`io::Error`] that ends the stream, of
/// kind [`io::ErrorKind::InvalidData`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// `actual` is what had been read when it showed: of a body that is too long, not all of it.
    #[error("{}", wrong_size(*expected, *actual))]
    Size { expected: u64, actual: u64 },
    #[error(
        "the bytes have MD5 {} instead of {}",
        to_hex(actual),
        to_hex(expected)
    )]
    Md5 {
        expected: [u8; 16],
        actual: [u8; 16],
    },
}

impl Mismatch {
    /// The mismatch that made `error`, if one did.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The mismatch that made a [`put`](super::DataBackend::put) fail, if one did.
    pub fn behind(error: &DataError) -> Option<&Self> {
        match error {
            DataError::Body { source, .. } => Self::of(source),
            _ => None,
        }
    }
}

impl From<Mismatch> for io::Error {
    fn from(mismatch: Mismatch) -> Self {
        Self::new(io::ErrorKind::InvalidData, mismatch)
    }
}

fn wrong_size(expected: u64, actual: u64) -> String {
    if actual > expected {
        format!("there are more than the {expected} bytes expected")
    } else {
        format!("there are {actual} bytes instead of {expected}")
    }
}

/// Tells what a body was, once its end was reached.
#[derive(Clone, Debug, Default)]
pub struct DigestHandle(Arc<Mutex<Option<Digest>>>);

impl DigestHandle {
    /// `None` until the end of the stream was signalled, and for ever if it failed.
    pub fn get(&self) -> Option<Digest> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, digest: Digest) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
    }
}

/// The same bytes, and a handle that knows their digest when the end was reached.
///
/// Of a large body at most half a MiB waits to be hashed: a slow processor slows the stream.
/// Needs a tokio runtime.
pub fn hashed(body: ByteStream) -> (ByteStream, DigestHandle) {
    verified(body, Expected::default())
}

/// As [`hashed`], but bytes that are not as `expected` end the stream with a [`Mismatch`] instead
/// of its end, so that whoever stores them stops before they become visible. A body that is too
/// long fails at the first chunk that shows it, which is not passed on.
pub fn verified(body: ByteStream, expected: Expected) -> (ByteStream, DigestHandle) {
    let handle = DigestHandle::default();
    let stream = Hashed {
        phase: Phase::Reading(body),
        expected,
        size_bytes: 0,
        hasher: Hasher::Idle(Md5::new()),
        waiting: Vec::new(),
        waiting_bytes: 0,
        handle: handle.clone(),
    };
    (Box::pin(stream), handle)
}

struct Hashed {
    phase: Phase,
    expected: Expected,
    size_bytes: u64,
    hasher: Hasher,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    handle: DigestHandle,
}

enum Phase {
    Reading(ByteStream),
    /// All bytes were passed on, some are still being hashed.
    Ending,
    /// The end, or an error, was signalled.
    Done,
}

enum Hasher {
    Idle(Md5),
    Busy(JoinHandle<Md5>),
}

impl Hasher {
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Md5>> {
        if let Self::Busy(job) = self {
            let md5 = ready!(Pin::new(job).poll(cx)).map_err(io::Error::other)?;
            *self = Self::Idle(md5);
        }
        match self {
            Self::Idle(md5) => Poll::Ready(Ok(md5)),
            Self::Busy(_) => Poll::Pending,
        }
    }
}

impl Hashed {
    fn batch_is_full(&self) -> bool {
        self.waiting_bytes >= BATCH_BYTES || self.waiting.len() >= BATCH_CHUNKS
    }

    /// Hands what waits to another thread, once that is done with what it had before.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut md5 = std::mem::take(ready!(self.hasher.poll_idle(cx))?);
        let batch = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        self.hasher = Hasher::Busy(tokio::task::spawn_blocking(move || {
            batch.iter().for_each(|chunk| md5.update(chunk));
            md5
        }));
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, chunk: &Bytes) -> Result<(), Mismatch> {
        self.size_bytes += chunk.len() as u64;
        if let Some(expected) = self.expected.size_bytes
            && self.size_bytes > expected
        {
            return Err(Mismatch::Size {
                expected,
                actual: self.size_bytes,
            });
        }
        self.waiting_bytes += chunk.len();
        self.waiting.push(chunk.clone());
        Ok(())
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting_bytes > INLINE_BYTES {
            ready!(self.poll_hand_over(cx))?;
        }
        let md5 = ready!(self.hasher.poll_idle(cx))?;
        self.waiting.iter().for_each(|chunk| md5.update(chunk));
        let digest = Digest {
            md5: std::mem::take(md5).finalize().into(),
            size_bytes: self.size_bytes,
        };
        Poll::Ready(self.check(digest).map_err(io::Error::from))
    }

    fn check(&self, digest: Digest) -> Result<(), Mismatch> {
        if let Some(expected) = self.expected.size_bytes
            && digest.size_bytes != expected
        {
            let actual = digest.size_bytes;
            return Err(Mismatch::Size { expected, actual });
        }
        if let Some(expected) = self.expected.md5
            && digest.md5 != expected
        {
            let actual = digest.md5;
            return Err(Mismatch::Md5 { expected, actual });
        }
        self.handle.set(digest);
        Ok(())
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Phase::Reading(_) = self.phase
            && self.batch_is_full()
        {
            ready!(self.poll_hand_over(cx))?;
        }
        if let Phase::Reading(body) = &mut self.phase {
            match ready!(body.as_mut().poll_next(cx)) {
                Some(chunk) => {
                    let chunk = chunk?;
                    self.take(&chunk)?;
                    return Poll::Ready(Some(Ok(chunk)));
                }
                None => self.phase = Phase::Ending,
            }
        }
        if let Phase::Ending = self.phase {
            ready!(self.poll_end(cx))?;
        }
        Poll::Ready(None)
    }
}

impl Stream for Hashed {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let step = ready!(self.poll_step(cx));
        if !matches!(step, Some(Ok(_))) {
            self.phase = Phase::Done;
        }
        Poll::Ready(step)
    }
}

fn to_hex(bytes: &[u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, TryStreamExt};

    fn body(chunks: impl IntoIterator<Item = Vec<u8>>) -> ByteStream {
        let chunks: Vec<_> = chunks.into_iter().map(|c| Ok(Bytes::from(c))).collect();
        Box::pin(futures::stream::iter(chunks))
    }

    fn digest_of(bytes: &[u8]) -> Digest {
        Digest {
            md5: Md5::digest(bytes).into(),
            size_bytes: bytes.len() as u64,
        }
    }

    async fn collect(stream: ByteStream) -> io::Result<Vec<u8>> {
        stream
            .try_fold(Vec::new(), |mut all, chunk| async move {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await
    }

    async fn passes(chunk_bytes: usize, chunks: usize) {
        let chunks: Vec<Vec<u8>> = (0..chunks)
            .map(|n| vec![u8::try_from(n % 251).unwrap(); chunk_bytes])
            .collect();
        let bytes = chunks.concat();
        let (stream, handle) = hashed(body(chunks));
        assert_eq!(handle.get(), None);
        assert_eq!(collect(stream).await.unwrap(), bytes);
        assert_eq!(handle.get(), Some(digest_of(&bytes)));
    }

    #[tokio::test]
    async fn the_digest_is_known_at_the_end() {
        passes(0, 0).await;
        passes(1, 1).await;
        passes(1, 5000).await;
        passes(INLINE_BYTES, 1).await;
        passes(INLINE_BYTES + 1, 1).await;
        passes(BATCH_BYTES, 1).await;
        passes(100_000, 50).await;
        passes(3 * BATCH_BYTES + 1, 3).await;
    }

    #[test]
    fn md5_is_written_as_in_the_database() {
        let digest = digest_of(b"hello");
        assert_eq!(digest.md5_hex(), "5d41402abc4b2a76b9719d911017c592");
    }

    #[tokio::test]
    async fn bytes_as_expected_pass() {
        let expected = Expected {
            md5: Some(digest_of(b"hello").md5),
            size_bytes: Some(5),
        };
        let (stream, handle) = verified(body([b"hel".to_vec(), b"lo".to_vec()]), expected);
        assert_eq!(collect(stream).await.unwrap(), b"hello");
        assert_eq!(handle.get(), Some(digest_of(b"hello")));
    }

    #[tokio::test]
    async fn other_bytes_fail_before_the_end_is_signalled() {
        let expected = Expected {
            md5: Some(digest_of(b"hello").md5),
            size_bytes: Some(5),
        };
        for (bytes, mismatch) in [
            (
                b"hellO".to_vec(),
                Mismatch::Md5 {
                    expected: digest_of(b"hello").md5,
                    actual: digest_of(b"hellO").md5,
                },
            ),
            (
                b"hell".to_vec(),
                Mismatch::Size {
                    expected: 5,
                    actual: 4,
                },
            ),
        ] {
            let (mut stream, handle) = verified(body([bytes]), expected);
            stream.next().await.unwrap().unwrap();
            let error = stream.next().await.unwrap().unwrap_err();
            assert_eq!(Mismatch::of(&error), Some(&mismatch));
            assert_eq!(handle.get(), None);
            assert!(stream.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn a_body_too_long_fails_at_once() {
        let expected = Expected {
            md5: None,
            size_bytes: Some(5),
        };
        let endless = futures::stream::repeat_with(|| Ok(Bytes::from_static(b"abc")));
        let (mut stream, _) = verified(Box::pin(endless), expected);
        assert_eq!(stream.next().await.unwrap().unwrap(), "abc");
        let error = stream.next().await.unwrap().unwrap_err();
        assert_eq!(
            Mismatch::of(&error),
            Some(&Mismatch::Size {
                expected: 5,
                actual: 6
            })
        );
    }

    #[tokio::test]
    async fn an_error_of_the_body_is_passed_on_and_leaves_no_digest() {
        let chunks = vec![Ok(Bytes::from_static(b"a")), Err(io::Error::other("gone"))];
        let (mut stream, handle) = hashed(Box::pin(futures::stream::iter(chunks)));
        stream.next().await.unwrap().unwrap();
        assert_eq!(
            stream.next().await.unwrap().unwrap_err().to_string(),
            "gone"
        );
        assert_eq!(handle.get(), None);
    }

    #[test]
    fn a_slow_processor_slows_the_stream() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (release, released) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || released.recv());
            let endless = futures::stream::repeat_with(|| Ok(Bytes::from(vec![0; 1 << 14])));
            let (mut stream, _) = hashed(Box::pin(endless));
            let mut passed = 0;
            let patience = std::time::Duration::from_millis(50);
            while let Ok(chunk) = tokio::time::timeout(patience, stream.next()).await {
                passed += chunk.unwrap().unwrap().len();
                assert!(passed <= 2 * BATCH_BYTES + (1 << 14));
            }
            release.send(()).unwrap();
            busy.await.unwrap().unwrap();
            assert!(stream.next().await.unwrap().is_ok());
        });
    }
}
