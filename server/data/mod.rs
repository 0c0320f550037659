//! The data backend: where the bytes of uploaded files are.

pub mod buffers;
#[cfg(test)]
mod contract;
pub mod digest;
mod error;
mod file;
mod location;
mod manners;
mod md5_pair;
mod name;
mod origin;
mod s3;
mod survey;
mod transfer;
mod unfinished;

use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, Stream};
use jiff::Timestamp;

use crate::config::DataConfig;
use crate::model::{BackendDetails, File};

pub use error::{BoxError, DataError};
pub use location::Location;
pub use manners::{Manners, Tuning};
pub use origin::{Origin, Proof};
pub use survey::{Feature, Suitability, Trial, survey};
pub use transfer::{BlobReader, Transfer};
pub use unfinished::{SentPart, Unfinished, UploadJournal};

/// What a backend is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read and write: a directory or bucket that is absent is created, and what a crash left
    /// of unfinished blobs is swept.
    Serve,
    /// To read only: nothing is created. An absent directory holds no blobs, see
    /// [`DataBackend::is_absent`]; an absent bucket is an error.
    ReadOnly,
    /// To see what writing would meet: nothing is created, an absent directory or bucket holds no
    /// blobs, and a place that could not be written to is an error as far as asking can tell.
    Probe,
}

/// The backend that `config` names.
///
/// Fails if it cannot be reached or refuses us, and as [`Access`] says.
pub async fn open(config: &DataConfig, access: Access) -> Result<Arc<dyn DataBackend>, DataError> {
    open_with(config, access, Tuning::default()).await
}

/// As [`open`], to be used as `tuning` says.
pub async fn open_with(
    config: &DataConfig,
    access: Access,
    tuning: Tuning,
) -> Result<Arc<dyn DataBackend>, DataError> {
    Ok(match config {
        DataConfig::File(config) => {
            Arc::new(file::FileBackend::open_with(config, access, tuning).await?)
        }
        DataConfig::S3(config) => {
            // Without its type, which is nested deeper than the compiler follows.
            let opening = s3::S3Backend::open_with(config, access, tuning).boxed();
            Arc::new(opening.await?)
        }
    })
}

/// In how many parts a blob of that size is sent; `None` for a directory.
pub fn parts_of(config: &DataConfig, size_bytes: u64) -> Option<u64> {
    match config {
        DataConfig::File(_) => None,
        DataConfig::S3(config) => Some(s3::parts_of(config, size_bytes)),
    }
}

/// The file system that the blobs are on, or will be; `None` for a bucket.
pub fn device(config: &DataConfig) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let DataConfig::File(config) = config else {
        return None;
    };
    let path = std::path::absolute(&config.directory).ok()?;
    let mut found = path
        .ancestors()
        .filter_map(|path| std::fs::metadata(path).ok());
    found.next().map(|found| found.dev())
}

/// Files that can still be added where the directory is; `None` for a bucket, and where the file
/// system has no such limit.
pub fn free_files(config: &DataConfig) -> Option<u64> {
    let DataConfig::File(config) = config else {
        return None;
    };
    // A directory that does not exist yet will be on the file system of the nearest that does.
    let path = std::path::absolute(&config.directory).ok()?;
    let space = path
        .ancestors()
        .find_map(|path| rustix::fs::statvfs(path).ok())?;
    (space.f_files > 0).then_some(space.f_favail)
}

/// The bytes of a blob on their way, in chunks of at most a few hundred KiB.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Names one blob: the bytes of one file.
#[derive(Clone, Debug)]
pub struct BlobRef {
    pub file_id: String,
    pub upload_id: String,
    /// MIME type, which some backends keep with the bytes.
    pub content_type: String,
    pub details: BackendDetails,
}

impl From<&File> for BlobRef {
    fn from(file: &File) -> Self {
        Self {
            file_id: file.id.clone(),
            upload_id: file.upload_id.clone(),
            content_type: file.mime_type.clone(),
            details: file.backend_details.clone(),
        }
    }
}

/// What a backend says of bytes it has just stored.
#[derive(Clone, Debug)]
pub struct Stored {
    pub size_bytes: u64,
    /// To be written into the file's row: without it the blob may be unreadable.
    pub details: BackendDetails,
}

/// What a backend knows of a stored blob without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobStat {
    pub size_bytes: u64,
    /// The MD5 of the bytes, where the backend keeps one that can be trusted to be it.
    pub md5: Option<[u8; 16]>,
}

/// A blob that a listing names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub file_id: String,
    /// `None` where the name of what is stored does not tell.
    pub upload_id: Option<String>,
    /// As [`DataBackend::stat`] has it, but a digest of another kind may be told as `md5`: one that
    /// is the right one proves what is stored, another proves nothing.
    pub stat: BlobStat,
}

/// What a store holds, many blobs at a time.
pub type Listing = Pin<Box<dyn Stream<Item = Result<Vec<Listed>, DataError>> + Send>>;

/// A blob being read.
pub struct Blob {
    /// Size of the whole blob, also when only a range of it is read.
    pub size_bytes: u64,
    pub body: ByteStream,
}

/// The bytes of uploaded files, one blob per file. Every backend passes `contract.rs`.
#[async_trait]
pub trait DataBackend: Display + Send + Sync + 'static {
    /// Stores `body`, replacing any older blob of that file.
    ///
    /// All or nothing: after an error (of the backend or from `body` itself), a dropped future or
    /// a crash, readers see the old blob or none, never part of the new one; and what is
    /// answered is on stable storage. With `size_bytes`, a body of another length is
    /// [`DataError::WrongSize`].
    async fn put(
        &self,
        blob: &BlobRef,
        body: ByteStream,
        size_bytes: Option<u64>,
    ) -> Result<Stored, DataError>;

    /// Stores a whole blob of another backend, replacing any older blob of that file.
    ///
    /// As [`put`](Self::put), but several parts are on their way at the same time, each in a buffer
    /// of the transfer. Bytes without the size or MD5 that the transfer tells never become visible:
    /// they are a [`DataError::Body`] with the [`Mismatch`](digest::Mismatch) inside.
    ///
    /// With a journal in the transfer, an upload in parts that an earlier try left is gone on in:
    /// parts that are there and equal are read, but not sent again. A try that ends in a way that
    /// can pass, or is dropped, leaves its upload for the next; otherwise nothing is left.
    async fn put_all_of(&self, blob: &BlobRef, transfer: Transfer) -> Result<Stored, DataError>;

    /// Where the store has the blob, if that is a store that can copy. Nobody is asked.
    fn origin(&self, _blob: &BlobRef) -> Option<Origin> {
        None
    }

    /// Whether it is worth asking this store to [`copy`](Self::copy) what is at `origin`. Nobody is
    /// asked.
    fn may_copy(&self, _origin: &Origin) -> bool {
        false
    }

    /// Has the store itself copy the blob at `origin`, replacing any older blob of that file.
    ///
    /// As [`put_all_of`](Self::put_all_of), but no byte of it comes by here, and that its bytes are
    /// those with the `expected` MD5 is the store's word, which is heard as `proof` says. Of an
    /// expected MD5 the size is not compared. `None`: it has to be read, because it is at another
    /// store, or this one does not copy, or does not tell that MD5. What `put_all_of` finds wrong
    /// with a blob is found by it alone.
    async fn copy(
        &self,
        _blob: &BlobRef,
        _origin: &Origin,
        _expected: BlobStat,
        _proof: Proof,
    ) -> Result<Option<Stored>, DataError> {
        Ok(None)
    }

    /// Tries out, under names that no blob can have, what the store does with blobs, and from then
    /// on uses the fastest ways that were seen to be safe.
    ///
    /// Nothing of it stays, also if the future is dropped: then [`close`](Self::close) waits for
    /// the end of it. An error is a store that cannot be written to.
    async fn try_out(&self, _trial: Trial) -> Result<Vec<Feature>, DataError> {
        Ok(Vec::new())
    }

    /// Whether [`list`](Self::list) can be relied on. It can unless a trial found otherwise.
    fn can_list(&self) -> bool {
        true
    }

    /// Some of what the store holds, each with the time at which it was stored, as far as it tells:
    /// two stores that give the same are one by two names. Nothing if it is empty or tells no times.
    async fn sample(&self) -> Result<Vec<(String, Timestamp)>, DataError> {
        Ok(Vec::new())
    }

    /// The blob, to be read at any offset. `size_hint` is what the file's row says: it decides what
    /// is read ahead, and a wrong one costs time only.
    ///
    /// A blob that is replaced meanwhile is never read half and half: reading it fails, or goes on
    /// with the bytes that were there.
    async fn reader(
        &self,
        blob: &BlobRef,
        size_hint: u64,
    ) -> Result<Arc<dyn BlobReader>, DataError>;

    /// Reads the blob, or only `range` of it (bytes, end exclusive, within the blob).
    async fn get(&self, blob: &BlobRef, range: Option<Range<u64>>) -> Result<Blob, DataError>;

    /// What is stored under that name: `None` if nothing is.
    async fn stat(&self, blob: &BlobRef) -> Result<Option<BlobStat>, DataError>;

    /// Where [`put`](Self::put) stores the blob, for people who look there: the absolute path of a
    /// file, or `s3://` with the host, the bucket and the key. `None` for ids that nothing can be
    /// stored under. Nobody is asked.
    fn place(&self, blob: &BlobRef) -> Option<String>;

    /// Where readers find the blob, as [`place`](Self::place) writes it: another place than that if
    /// an older release stored it. `None` if nothing is there, or the store does not tell.
    async fn found_at(&self, blob: &BlobRef) -> Option<String>;

    /// Names all blobs, in no order, also those that no row knows.
    ///
    /// A blob that is there all the time is named, twice if it is stored under two names; what comes
    /// or goes meanwhile may be missed, and nothing else is. A listing that fails ends with an
    /// error: only one that ends without was whole. Memory does not grow with the store.
    fn list(&self) -> Listing;

    /// Removes the blob. Removing one that is not there succeeds, so a cleanup can be retried.
    async fn remove(&self, blob: &BlobRef) -> Result<(), DataError>;

    /// Ends an upload that a call of [`put_all_of`](Self::put_all_of) left, and removes its parts.
    /// One that is not there any more is ended.
    async fn give_up(&self, upload: &Unfinished) -> Result<(), DataError>;

    /// Bytes that can still be stored, where the backend has such a limit.
    async fn available_bytes(&self) -> Result<Option<u64>, DataError> {
        Ok(None)
    }

    /// Whether the directory or bucket did not exist when it was opened, and was not created
    /// either: no blob is in it.
    fn is_absent(&self) -> bool {
        false
    }

    /// Waits until what failed or dropped calls of `put` left behind is cleaned up.
    ///
    /// To be called once, after the last `put`, before the program ends: otherwise unfinished
    /// uploads may stay in a bucket that are written down nowhere.
    async fn close(&self) {}
}
