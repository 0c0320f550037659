//! Uploads in parts that were begun and are neither complete nor given up.

use async_trait::async_trait;

use super::error::BoxError;
use crate::model::BackendDetails;

/// An upload in parts, as the backend has to know it to go on in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub key: String,
    pub upload_id: String,
    /// Of each part but the last.
    pub part_bytes: u64,
    /// Of the whole blob.
    pub size_bytes: u64,
    /// What the file's row has to say once the blob is there.
    pub details: BackendDetails,
}

/// A part that the backend has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentPart {
    /// From 1 on.
    pub number: i32,
    /// What the backend calls these bytes, without quotes.
    pub e_tag: String,
    pub size_bytes: u64,
    pub md5: [u8; 16],
}

/// Where the unfinished upload of one blob to one backend is written down, to be found by a later try, also of
/// another process. Whatever fails here ends the try as [`DataError::Journal`](super::DataError).
#[async_trait]
pub trait UploadJournal: Send + Sync {
    /// What an earlier try has begun, and the parts that it wrote down.
    async fn unfinished(&self) -> Result<Option<(Unfinished, Vec<SentPart>)>, BoxError>;

    /// Notes that `upload` is there, in place of any other. To be called before its first part.
    async fn begin(&self, upload: &Unfinished) -> Result<(), BoxError>;

    /// Notes that the backend has `parts`, in place of others of these numbers.
    async fn sent(&self, parts: &[SentPart]) -> Result<(), BoxError>;

    /// Notes that the upload is complete, or was given up.
    async fn end(&self) -> Result<(), BoxError>;
}
