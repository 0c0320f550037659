//! A blob on its way from one backend to another: read ahead, in parts, each with its digest.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;

use super::buffers::{Buffer, Buffers};
use super::digest::Mismatch;
use super::md5_pair::Md5Pair;
use super::{DataError, Origin, UploadJournal};

/// Up to here digests take less time than asking another thread to compute them.
const INLINE_BYTES: usize = 64 << 10;
/// Parts of one blob that are read before they are asked for.
const AHEAD: usize = 3;

/// A blob that is read at any offset, at several at the same time.
#[async_trait]
pub trait BlobReader: Send + Sync {
    /// Of the whole blob, as its backend says.
    fn size_bytes(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on. Fewer bytes are an error.
    async fn read(&self, offset: u64, buffer: Buffer) -> io::Result<Buffer>;
}

/// What [`DataBackend::put_all_of`](super::DataBackend::put_all_of) stores.
pub struct Transfer {
    pub from: Arc<dyn BlobReader>,
    /// The bytes that there have to be. Another size is a [`Mismatch`].
    pub size_bytes: u64,
    /// The MD5 that they have to have; `None` is not compared.
    pub md5: Option<[u8; 16]>,
    /// Where the bytes come from, if a store could copy them from there by itself.
    pub origin: Option<Origin>,
    /// What parts of all blobs share.
    pub buffers: Buffers,
    /// Where an upload in parts is written down, if anywhere.
    pub journal: Option<Arc<dyn UploadJournal>>,
}

/// Some bytes of a blob in a row, and their MD5.
pub(super) struct Part {
    pub offset: u64,
    pub last: bool,
    pub bytes: Bytes,
    pub md5: [u8; 16],
}

/// Reads the parts of a transfer.
pub(super) struct PartReader<'a> {
    id: &'a str,
    transfer: Transfer,
    part_bytes: u64,
    /// Where the next part to be read begins, and the next to be given out.
    asked: u64,
    given: u64,
    reading: VecDeque<AbortOnDropHandle<io::Result<Buffer>>>,
    md5: Md5Pair,
}

impl<'a> PartReader<'a> {
    /// Parts of `part_bytes`, a multiple of 64, but for the last.
    pub fn new(id: &'a str, transfer: Transfer, part_bytes: u64) -> Result<Self, DataError> {
        let reader = Self {
            id,
            part_bytes,
            asked: 0,
            given: 0,
            reading: VecDeque::new(),
            md5: Md5Pair::new(),
            transfer,
        };
        let (expected, actual) = (
            reader.transfer.size_bytes,
            reader.transfer.from.size_bytes(),
        );
        if expected != actual {
            return Err(reader.unreadable(Mismatch::Size { expected, actual }.into()));
        }
        Ok(reader)
    }

    pub fn size_bytes(&self) -> u64 {
        self.transfer.size_bytes
    }

    pub fn origin(&self) -> Option<&Origin> {
        self.transfer.origin.as_ref()
    }

    /// The next part, to be called until it was the last. An empty blob has one part.
    ///
    /// Before the last is given out, the whole has been compared with its MD5: a blob that is not
    /// what it has to be ends with a [`Mismatch`] instead.
    pub async fn next(&mut self) -> Result<Part, DataError> {
        self.read_ahead().await;
        let reading = self.reading.pop_front();
        let buffer = match reading {
            Some(reading) => reading.await.map_err(io::Error::other).flatten(),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let buffer = buffer.map_err(|error| self.unreadable(error))?;
        let part = self.digest(buffer).await?;
        if part.last {
            self.check_whole()?;
        }
        Ok(part)
    }

    /// Asks for the next part, and for those after it as far as there is room.
    ///
    /// Room is waited for only while this blob has none: nobody who waits keeps others waiting.
    async fn read_ahead(&mut self) {
        if self.reading.is_empty() {
            let buffer = self.transfer.buffers.take(self.next_length()).await;
            self.ask(buffer);
        }
        while self.reading.len() < AHEAD && self.asked < self.size_bytes() {
            let Some(buffer) = self.transfer.buffers.try_take(self.next_length()) else {
                break;
            };
            self.ask(buffer);
        }
    }

    fn next_length(&self) -> usize {
        let left = self.size_bytes() - self.asked;
        usize::try_from(left.min(self.part_bytes)).unwrap_or(usize::MAX)
    }

    fn ask(&mut self, buffer: Buffer) {
        let (from, offset) = (Arc::clone(&self.transfer.from), self.asked);
        self.asked += buffer.length() as u64;
        let read = tokio::spawn(async move { from.read(offset, buffer).await });
        self.reading.push_back(AbortOnDropHandle::new(read));
    }

    async fn digest(&mut self, buffer: Buffer) -> Result<Part, DataError> {
        let small = buffer.length() <= INLINE_BYTES;
        let mut md5 = std::mem::take(&mut self.md5);
        let digest = move || {
            md5.update(buffer.bytes());
            (md5.take_part(), md5, buffer)
        };
        let (part_md5, md5, buffer) = match small {
            true => digest(),
            false => tokio::task::spawn_blocking(digest)
                .await
                .map_err(|error| self.unreadable(io::Error::other(error)))?,
        };
        self.md5 = md5;
        let offset = self.given;
        self.given += buffer.length() as u64;
        Ok(Part {
            offset,
            last: self.given >= self.size_bytes(),
            bytes: buffer.freeze(),
            md5: part_md5,
        })
    }

    fn check_whole(&self) -> Result<(), DataError> {
        let actual = self.md5.whole();
        match self.transfer.md5 {
            Some(expected) if expected != actual => {
                Err(self.unreadable(Mismatch::Md5 { expected, actual }.into()))
            }
            _ => Ok(()),
        }
    }

    fn unreadable(&self, source: io::Error) -> DataError {
        DataError::Body {
            id: self.id.to_owned(),
            source,
        }
    }
}
