//! Stores a body: as one object if it fits into a part, else in parts that are sent at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ServerSideEncryption};
use bytes::Bytes;
use md5::{Digest, Md5};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};

use super::encryption::{CustomerKey, with_customer_key};
use super::error::Failure;
use super::part::{self, MAX_PARTS, Parts, Prepared};
use super::resume::Resumed;
use super::{Store, client, md5_of_e_tag};
use crate::config::Sse;
use crate::data::name::BlobName;
use crate::data::transfer::{Part, PartReader};
use crate::data::{BoxError, ByteStream, DataError, SentPart, Transfer, Unfinished, UploadJournal};
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

/// Where an object goes, and how: the same for all its requests.
#[derive(Clone)]
struct Target {
    store: Arc<Store>,
    /// Of the blob.
    id: String,
    key: String,
    content_type: String,
    customer_key: Option<CustomerKey>,
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
        let mut multipart = Multipart::begin(target, None).await?;
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
        let mut multipart = match resumed {
            Some(resumed) => Multipart::resume(target, resumed, journal),
            None => Multipart::begin(target, journal).await?,
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
        let mut part = first;
        loop {
            let sent = multipart.send(part.bytes, Some(part.md5)).await;
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

    fn target(&self) -> Target {
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

    fn failed(&self, failure: Failure) -> DataError {
        failed(self.store, self.name.id(), failure)
    }
}

fn failed(store: &Store, id: &str, failure: Failure) -> DataError {
    store.failed(format!("write blob {id}"), failure)
}

/// Where an upload is written down, and what is written about it.
struct Journal {
    journal: Arc<dyn UploadJournal>,
    part_bytes: u64,
    size_bytes: u64,
    details: BackendDetails,
}

impl Journal {
    async fn begin(&self, target: &Target, upload_id: &str) -> Result<(), BoxError> {
        let upload = Unfinished {
            key: target.key.clone(),
            upload_id: upload_id.to_owned(),
            part_bytes: self.part_bytes,
            size_bytes: self.size_bytes,
            details: self.details.clone(),
        };
        self.journal.begin(&upload).await
    }
}

impl Target {
    fn unwritten(&self, source: BoxError) -> DataError {
        DataError::Journal {
            id: self.id.clone(),
            source,
        }
    }

    /// Stores an object. With its MD5 the server has to compare it.
    async fn put(&self, bytes: Bytes, md5: Option<[u8; 16]>) -> Result<(), Failure> {
        self.store
            .send_proven(bytes, md5, md5, |part| self.put_once(part))
            .await?;
        Ok(())
    }

    async fn put_once(&self, part: Prepared) -> Result<Option<String>, Failure> {
        let request = self
            .store
            .client
            .put_object()
            .bucket(&self.store.config.bucket)
            .key(&self.key)
            .content_type(&self.content_type)
            .set_server_side_encryption(self.server_side_encryption())
            .set_content_md5(part.content_md5.clone())
            .body(part.body());
        let answer = with_customer_key!(request, self.customer_key.as_ref())
            .customize()
            .config_override(client::patient(part.bytes.len()))
            .interceptor(part.signature())
            .send()
            .await?;
        Ok(answer.e_tag)
    }

    fn server_side_encryption(&self) -> Option<ServerSideEncryption> {
        (self.store.config.sse == Sse::S3).then_some(ServerSideEncryption::Aes256)
    }

    async fn create_multipart(&self) -> Result<String, Failure> {
        let request = self
            .store
            .client
            .create_multipart_upload()
            .bucket(&self.store.config.bucket)
            .key(&self.key)
            .content_type(&self.content_type)
            .set_server_side_encryption(self.server_side_encryption());
        with_customer_key!(request, self.customer_key.as_ref())
            .send()
            .await?
            .upload_id
            .ok_or_else(|| Failure::other("the answer does not name the upload"))
    }

    async fn upload_part(
        self,
        upload_id: String,
        number: i32,
        bytes: Bytes,
        md5: Option<[u8; 16]>,
    ) -> Result<Sent, Failure> {
        let size_bytes = bytes.len() as u64;
        let e_tag = self
            .store
            .send_proven(bytes, md5, None, |part| {
                self.upload_part_once(&upload_id, number, part)
            })
            .await
            .map_err(Failure::of_part)?;
        let noted = e_tag.as_deref().zip(md5).map(|(e_tag, md5)| SentPart {
            number,
            e_tag: e_tag.trim_matches('"').to_owned(),
            size_bytes,
            md5,
        });
        Ok((completed_part(number, e_tag), noted))
    }

    async fn upload_part_once(
        &self,
        upload_id: &str,
        number: i32,
        part: Prepared,
    ) -> Result<Option<String>, Failure> {
        let request = self
            .store
            .client
            .upload_part()
            .bucket(&self.store.config.bucket)
            .key(&self.key)
            .upload_id(upload_id)
            .part_number(number)
            .set_content_md5(part.content_md5.clone())
            .body(part.body());
        let answer = with_customer_key!(request, self.customer_key.as_ref())
            .customize()
            .config_override(client::patient_part(part.bytes.len()))
            .interceptor(part.signature())
            .send()
            .await?;
        Ok(answer.e_tag)
    }

    /// Gives an upload up, for somebody who cannot do more about it than say so.
    async fn abort_multipart(&self, upload_id: &str) -> bool {
        let ended = self.store.abort(&self.key, upload_id).await;
        if let Err(failure) = &ended {
            tracing::warn!(
                "unfinished upload {upload_id} of {} stays in {}: {failure}",
                self.key,
                self.store
            );
        }
        ended.is_ok()
    }
}

/// A part that is there, and what is to be written down about it.
type Sent = (CompletedPart, Option<SentPart>);

fn completed_part(number: i32, e_tag: Option<String>) -> CompletedPart {
    CompletedPart::builder()
        .part_number(number)
        .set_e_tag(e_tag)
        .build()
}

/// A multipart upload. Dropped before it is completed, one that is written down stays for a later
/// try; another is aborted by a task that [`close`](crate::data::DataBackend::close) waits for.
struct Multipart {
    target: Target,
    upload_id: String,
    journal: Option<Journal>,
    /// What an earlier try sent.
    there: BTreeMap<i32, SentPart>,
    sending: JoinSet<Result<Sent, Failure>>,
    sent: Vec<CompletedPart>,
    /// What is to be written down.
    unwritten: Vec<SentPart>,
    finished: bool,
}

impl Multipart {
    /// Begins in a task of its own: if the caller goes away while the server answers, the upload
    /// would be unknown to anyone.
    async fn begin(target: Target, journal: Option<Journal>) -> Result<Self, DataError> {
        let (store, id) = (Arc::clone(&target.store), target.id.clone());
        let beginning = store.cleanups.spawn(async move {
            let created = target.create_multipart().await;
            let upload_id = created.map_err(|f| failed(&target.store, &target.id, f))?;
            if let Some(journal) = &journal
                && let Err(error) = journal.begin(&target, &upload_id).await
            {
                target.abort_multipart(&upload_id).await;
                return Err(target.unwritten(error));
            }
            Ok(Self::new(target, upload_id, journal, BTreeMap::new()))
        });
        let begun = beginning.await;
        begun.map_err(|error| failed(&store, &id, broken(error)))?
    }

    fn resume(target: Target, resumed: Resumed, journal: Option<Journal>) -> Self {
        Self::new(target, resumed.upload_id, journal, resumed.there)
    }

    fn new(
        target: Target,
        upload_id: String,
        journal: Option<Journal>,
        there: BTreeMap<i32, SentPart>,
    ) -> Self {
        Self {
            target,
            upload_id,
            journal,
            there,
            sending: JoinSet::new(),
            sent: Vec::new(),
            unwritten: Vec::new(),
            finished: false,
        }
    }

    /// Sends a part, as soon as one of the others makes room; not if it is there.
    async fn send(&mut self, bytes: Bytes, md5: Option<[u8; 16]>) -> Result<(), Failure> {
        let number = self.sent.len() + self.sending.len() + 1;
        if number as u64 > MAX_PARTS {
            return Err(Failure::other(format!(
                "S3 takes at most {MAX_PARTS} parts: a larger PartSize allows larger files"
            )));
        }
        let number = i32::try_from(number).map_err(|error| Failure::other(error.to_string()))?;
        // One that is there with other bytes is replaced: the source has changed since.
        if let Some(part) = self.there.remove(&number)
            && part.size_bytes == bytes.len() as u64
            && Some(part.md5) == md5
        {
            let e_tag = Some(format!("\"{}\"", part.e_tag));
            self.sent.push(completed_part(number, e_tag));
            self.unwritten.push(part);
            return Ok(());
        }
        let concurrency = self.target.store.config.part_upload_concurrency.max(1);
        while self.sending.len() >= concurrency {
            self.wait_for_one().await?;
        }
        let part = self
            .target
            .clone()
            .upload_part(self.upload_id.clone(), number, bytes, md5);
        self.sending.spawn(part);
        Ok(())
    }

    /// Writes down which parts are there, once that are `enough`.
    async fn note(&mut self, enough: usize) -> Result<(), DataError> {
        if self.unwritten.len() < enough {
            return Ok(());
        }
        let parts = std::mem::take(&mut self.unwritten);
        match &self.journal {
            Some(journal) => {
                let written = journal.journal.sent(&parts).await;
                written.map_err(|error| self.target.unwritten(error))
            }
            None => Ok(()),
        }
    }

    /// Takes what is written down away.
    async fn forget(&mut self) -> Result<(), DataError> {
        match self.journal.take() {
            Some(journal) => {
                let ended = journal.journal.end().await;
                ended.map_err(|error| self.target.unwritten(error))
            }
            None => Ok(()),
        }
    }

    async fn wait_for_one(&mut self) -> Result<(), Failure> {
        if let Some(part) = self.sending.join_next().await {
            let (completed, noted) = part.map_err(broken)??;
            self.sent.push(completed);
            self.unwritten.extend(noted);
        }
        Ok(())
    }

    /// Makes the object of `size_bytes` visible, and verifies that it is.
    async fn complete(&mut self, size_bytes: u64) -> Result<(), Failure> {
        while !self.sending.is_empty() {
            self.wait_for_one().await?;
        }
        self.sent.sort_by_key(CompletedPart::part_number);
        let completed = self.send_complete().await;
        self.verify(completed, size_bytes).await?;
        self.finished = true;
        Ok(())
    }

    async fn send_complete(&self) -> Result<(), Failure> {
        let target = &self.target;
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(self.sent.clone()))
            .build();
        let request = target
            .store
            .client
            .complete_multipart_upload()
            .bucket(&target.store.config.bucket)
            .key(&target.key)
            .upload_id(&self.upload_id)
            .multipart_upload(parts);
        with_customer_key!(request, target.customer_key.as_ref())
            .customize()
            .config_override(client::with_timeout(client::COMPLETE_TIMEOUT))
            .send()
            .await?;
        Ok(())
    }

    /// Servers begin to answer before they are done, and an answer that got lost is followed by
    /// "no such upload" when it is asked for again: what counts is the object.
    async fn verify(&self, completed: Result<(), Failure>, size_bytes: u64) -> Result<(), Failure> {
        let target = &self.target;
        let found = target
            .store
            .head(&target.key, target.customer_key.as_ref())
            .await;
        let head = match (completed, found) {
            (Ok(()), found) => found?,
            // Without a success, only an object of these very parts will do.
            (Err(failure), Ok(Some(head))) => {
                if head.e_tag.is_none() || head.e_tag != self.e_tag() {
                    return Err(failure);
                }
                Some(head)
            }
            (Err(failure), _) => return Err(failure),
        };
        match head {
            Some(head) if head.size_bytes == size_bytes => Ok(()),
            Some(head) => Err(Failure::other(format!(
                "the object has {} bytes instead of {size_bytes}",
                head.size_bytes
            ))),
            None => Err(Failure::other("the object is not there")),
        }
    }

    /// The ETag that S3 gives an object of these parts.
    fn e_tag(&self) -> Option<String> {
        let mut md5 = Md5::new();
        for part in &self.sent {
            md5.update(md5_of_e_tag(part.e_tag()?)?);
        }
        let digest: String = md5.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Some(format!("\"{digest}-{}\"", self.sent.len()))
    }

    /// Leaves an upload that is written down to a later try, where that may come further than
    /// `error`, and aborts any other.
    async fn end_after(mut self, error: &DataError) {
        self.finished = true;
        // A part that arrives after the abort would stay.
        self.sending.shutdown().await;
        let may_go_on = error.is_transient() || error.is_fatal();
        let ended = match self.journal.is_some() && may_go_on {
            true => self.note(1).await,
            false if self.target.abort_multipart(&self.upload_id).await => self.forget().await,
            false => Ok(()),
        };
        if let Err(error) = ended {
            // What is written down is behind, which costs time only: what `error` says counts.
            tracing::debug!("{error}");
        }
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        if std::mem::replace(&mut self.finished, true) || self.journal.is_some() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (target, upload_id) = (self.target.clone(), std::mem::take(&mut self.upload_id));
        let mut sending = std::mem::take(&mut self.sending);
        let cleanups = target.store.cleanups.clone();
        cleanups.spawn_on(
            async move {
                sending.shutdown().await;
                target.abort_multipart(&upload_id).await;
            },
            &runtime,
        );
    }
}

fn broken(error: JoinError) -> Failure {
    Failure::other(error.to_string())
}
