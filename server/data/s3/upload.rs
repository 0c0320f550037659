//! Stores a body: as one object if it fits into a part, else in parts that are sent at once.

use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use super::copy::Donor;
use super::encryption::CustomerKey;
use super::error::Failure;
use super::multipart::{Journal, Multipart};
use super::part::{self, Parts};
use super::resume::Resumed;
use super::target::Target;
use crate::data::name::BlobName;
use crate::data::transfer::{Part, PartReader};
use crate::data::{ByteStream, DataError, Transfer};
use crate::model::BackendDetails;

/// For what browsers and clients announce that cannot be sent in a header.
const UNKNOWN_TYPE: &str = "application/octet-stream";
/// Parts that are there are written down so many at a time.
const PARTS_PER_NOTE: usize = 4;

/// A blob to be stored.
pub(super) struct Upload<'a> {
    pub store: &'a Arc<Store>,
    pub name: &'a BlobName,
    pub content_type: &'a str,
    pub customer_key: Option<CustomerKey>,
}

impl Upload<'_> {
    /// Stores `body`, and returns its size in bytes.
    ///
    /// Up to (`PartUploadConcurrency` + 1) parts are in memory: those being sent, and the one
    /// being read meanwhile.
    pub async fn put(self, body: ByteStream, size_bytes: Option<u64>) -> Result<u64, DataError> {
        let part_bytes = part::part_bytes(self.store.config.part_size, size_bytes);
        let part_bytes = usize::try_from(part_bytes).unwrap_or(usize::MAX);
        let mut parts = Parts::new(self.name.id(), body, part_bytes, size_bytes);
        let first = parts.next().await?.unwrap_or_default();
        let target = self.target();
        if parts.is_last() {
            target.put(first, None).await.map_err(|f| self.failed(f))?;
            return Ok(parts.received());
        }
        let mut multipart = Multipart::begin(target).await.map_err(|f| self.failed(f))?;
        let sent = self.send_parts(&mut multipart, first, &mut parts).await;
        match sent {
            Ok(()) => Ok(parts.received()),
            Err(error) => {
                multipart.end_after(&error).await;
                Err(error)
            }
        }
    }

    /// Stores all that `transfer` reads, and returns its size in bytes. Each part is in a buffer of
    /// the transfer.
    ///
    /// Goes on in `resumed`; a new upload is written down with `details` where the transfer has a
    /// journal.
    pub async fn put_all_of(
        self,
        transfer: Transfer,
        details: &BackendDetails,
        resumed: Option<Resumed>,
    ) -> Result<u64, DataError> {
        let size_bytes = transfer.size_bytes;
        let configured = part::part_bytes(self.store.config.part_size, Some(size_bytes));
        let part_bytes = resumed
            .as_ref()
            .map_or(configured, |found| found.part_bytes);
        let journal = transfer.journal.clone();
        let mut parts = PartReader::new(self.name.id(), transfer, part_bytes)?;
        let target = self.target();
        let first = parts.next().await?;
        if first.last {
            let put = target.put(first.bytes, Some(first.md5)).await;
            return put.map(|()| size_bytes).map_err(|f| self.failed(f));
        }
        let journal = journal.map(|journal| Journal {
            journal,
            part_bytes,
            size_bytes,
            details: details.clone(),
        });
        let mut multipart = match (resumed, journal) {
            (Some(resumed), journal) => Multipart::resume(target, resumed, journal),
            (None, Some(journal)) => Multipart::begin_noted(target, journal).await?,
            (None, None) => Multipart::begin(target).await.map_err(|f| self.failed(f))?,
        };
        match self.send_all_of(&mut multipart, first, &mut parts).await {
            Ok(()) => Ok(size_bytes),
            Err(error) => {
                multipart.end_after(&error).await;
                Err(error)
            }
        }
    }

    async fn send_all_of(
        &self,
        multipart: &mut Multipart,
        first: Part,
        parts: &mut PartReader<'_>,
    ) -> Result<(), DataError> {
        let donor = Donor::find(self.store, parts.origin(), parts.size_bytes()).await;
        let mut part = first;
        loop {
            let end = part.offset + part.bytes.len() as u64;
            let sent = match donor
                .as_ref()
                .and_then(|donor| donor.slice(part.offset..end))
            {
                Some(slice) => multipart.copy_or_send(slice, part.bytes, part.md5).await,
                None => multipart.send(part.bytes, Some(part.md5)).await,
            };
            sent.map_err(|f| self.failed(f))?;
            multipart.note(PARTS_PER_NOTE).await?;
            if part.last {
                break;
            }
            part = parts.next().await?;
        }
        let completed = multipart.complete(parts.size_bytes()).await;
        completed.map_err(|f| self.failed(f))?;
        multipart.forget().await
    }

    async fn send_parts(
        &self,
        multipart: &mut Multipart,
        first: Bytes,
        parts: &mut Parts<'_>,
    ) -> Result<(), DataError> {
        let mut next = Some(first);
        while let Some(bytes) = next {
            let sent = multipart.send(bytes, None).await;
            sent.map_err(|f| self.failed(f))?;
            if parts.is_last() {
                break;
            }
            next = parts.next().await?;
        }
        multipart
            .complete(parts.received())
            .await
            .map_err(|f| self.failed(f))
    }

    pub fn target(&self) -> Target {
        let printable = self
            .content_type
            .bytes()
            .all(|b| (b' '..=b'~').contains(&b));
        let content_type = if printable && !self.content_type.trim().is_empty() {
            self.content_type
        } else {
            UNKNOWN_TYPE
        };
        Target {
            store: Arc::clone(self.store),
            id: self.name.id().to_owned(),
            key: self.store.key(self.name),
            content_type: content_type.to_owned(),
            customer_key: self.customer_key.clone(),
        }
    }

    pub fn failed(&self, failure: Failure) -> DataError {
        self.store.unwritten(self.name.id(), failure)
    }
}
