//! A backend whose bytes come no faster than allowed.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use super::Limiter;
use crate::data::buffers::Buffer;
use crate::data::{
    Blob, BlobReader, BlobRef, BlobStat, ByteStream, DataBackend, DataError, Feature, Listing,
    Origin, Proof, Stored, Transfer, Trial, Unfinished,
};
use crate::model::Timestamp;

/// Passes everything on, and slows down what is read. What is stored was read before, so it is
/// slow already.
pub(in crate::migrate) struct Limited {
    backend: Arc<dyn DataBackend>,
    limiter: Arc<Limiter>,
}

impl Limited {
    pub fn new(backend: Arc<dyn DataBackend>, limiter: &Arc<Limiter>) -> Self {
        let limiter = Arc::clone(limiter);
        Self { backend, limiter }
    }
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}

// A method with a default body must be thought of too: it could bring bytes past the limit.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl DataBackend for Limited {
    async fn put(
        &self,
        blob: &BlobRef,
        body: ByteStream,
        size_bytes: Option<u64>,
    ) -> Result<Stored, DataError> {
        self.backend.put(blob, body, size_bytes).await
    }

    async fn put_all_of(&self, blob: &BlobRef, transfer: Transfer) -> Result<Stored, DataError> {
        self.backend.put_all_of(blob, transfer).await
    }

    async fn try_out(&self, trial: Trial) -> Result<Vec<Feature>, DataError> {
        self.backend.try_out(trial).await
    }

    fn can_list(&self) -> bool {
        self.backend.can_list()
    }

    fn origin(&self, blob: &BlobRef) -> Option<Origin> {
        self.backend.origin(blob)
    }

    fn may_copy(&self, origin: &Origin) -> bool {
        self.backend.may_copy(origin)
    }

    // Not slowed down: what a store copies by itself is on nobody's line.
    async fn copy(
        &self,
        blob: &BlobRef,
        origin: &Origin,
        expected: BlobStat,
        proof: Proof,
    ) -> Result<Option<Stored>, DataError> {
        self.backend.copy(blob, origin, expected, proof).await
    }

    async fn reader(
        &self,
        blob: &BlobRef,
        size_hint: u64,
    ) -> Result<Arc<dyn BlobReader>, DataError> {
        Ok(Arc::new(LimitedReader {
            reader: self.backend.reader(blob, size_hint).await?,
            limiter: Arc::clone(&self.limiter),
        }))
    }

    async fn get(&self, blob: &BlobRef, range: Option<Range<u64>>) -> Result<Blob, DataError> {
        let found = self.backend.get(blob, range).await?;
        Ok(Blob {
            size_bytes: found.size_bytes,
            body: Arc::clone(&self.limiter).paced(found.body),
        })
    }

    async fn stat(&self, blob: &BlobRef) -> Result<Option<BlobStat>, DataError> {
        self.backend.stat(blob).await
    }

    async fn sample(&self) -> Result<Vec<(String, Timestamp)>, DataError> {
        self.backend.sample().await
    }

    fn place(&self, blob: &BlobRef) -> Option<String> {
        self.backend.place(blob)
    }

    async fn found_at(&self, blob: &BlobRef) -> Option<String> {
        self.backend.found_at(blob).await
    }

    fn list(&self) -> Listing {
        self.backend.list()
    }

    async fn remove(&self, blob: &BlobRef) -> Result<(), DataError> {
        self.backend.remove(blob).await
    }

    async fn give_up(&self, upload: &Unfinished) -> Result<(), DataError> {
        self.backend.give_up(upload).await
    }

    async fn available_bytes(&self) -> Result<Option<u64>, DataError> {
        self.backend.available_bytes().await
    }

    fn is_absent(&self) -> bool {
        self.backend.is_absent()
    }

    async fn close(&self) {
        self.backend.close().await;
    }
}

/// A blob that is read no faster than allowed.
struct LimitedReader {
    reader: Arc<dyn BlobReader>,
    limiter: Arc<Limiter>,
}

#[async_trait]
impl BlobReader for LimitedReader {
    fn size_bytes(&self) -> u64 {
        self.reader.size_bytes()
    }

    async fn read(&self, offset: u64, buffer: Buffer) -> io::Result<Buffer> {
        let buffer = self.reader.read(offset, buffer).await?;
        self.limiter.bytes(buffer.length() as u64).await;
        Ok(buffer)
    }
}
