//! Objects that are put together from parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use md5::{Digest, Md5};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};

use super::copy::Slice;
use super::encryption::{CustomerKey, with_customer_key};
use super::error::Failure;
use super::part::MAX_PARTS;
use super::resume::Resumed;
use super::target::{Sent, Target, completed_part};
use super::{client, md5_of_e_tag};
use crate::data::{BoxError, DataError, SentPart, Unfinished, UploadJournal};
use crate::model::BackendDetails;

/// Where an upload is written down, and what is written about it.
pub(super) struct Journal {
    pub journal: Arc<dyn UploadJournal>,
    pub part_bytes: u64,
    pub size_bytes: u64,
    pub details: BackendDetails,
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

/// A multipart upload. Dropped before it is completed, one that is written down stays for a later
/// try; another is aborted by a task that [`close`](crate::data::DataBackend::close) waits for.
pub(super) struct Multipart {
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
    /// Begins one that nobody else knows of.
    pub async fn begin(target: Target) -> Result<Self, Failure> {
        let cleanups = target.store.cleanups.clone();
        // In a task of its own: if the caller goes away while the server answers, the upload would
        // be unknown to anyone.
        let beginning = cleanups.spawn(Self::create(target));
        beginning.await.map_err(broken)?
    }

    /// Begins one that is written down, for a later try.
    pub async fn begin_noted(target: Target, journal: Journal) -> Result<Self, DataError> {
        let (store, id) = (Arc::clone(&target.store), target.id.clone());
        let beginning = store.cleanups.spawn(async move {
            let (store, id) = (Arc::clone(&target.store), target.id.clone());
            let created = Self::create(target).await;
            let mut multipart = created.map_err(|f| store.unwritten(&id, f))?;
            let noted = journal.begin(&multipart.target, &multipart.upload_id).await;
            // Dropped without a journal, it is aborted.
            noted.map_err(|error| unnoted(&id, error))?;
            multipart.journal = Some(journal);
            Ok(multipart)
        });
        let begun = beginning.await;
        begun.map_err(|error| store.unwritten(&id, broken(error)))?
    }

    async fn create(target: Target) -> Result<Self, Failure> {
        let upload_id = target.create_multipart().await?;
        Ok(Self::new(target, upload_id, None, BTreeMap::new()))
    }

    pub fn resume(target: Target, resumed: Resumed, journal: Option<Journal>) -> Self {
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
    pub async fn send(&mut self, bytes: Bytes, md5: Option<[u8; 16]>) -> Result<(), Failure> {
        let (target, upload_id) = (self.target.clone(), self.upload_id.clone());
        let send = |number, bytes| target.upload_part(upload_id, number, bytes, md5);
        self.send_by(send, bytes, md5).await
    }

    /// As [`send`](Self::send) does with bytes that were read from `slice`, but the server copies
    /// them from there if it can.
    pub async fn copy_or_send(
        &mut self,
        slice: Slice,
        bytes: Bytes,
        md5: [u8; 16],
    ) -> Result<(), Failure> {
        let (target, upload_id) = (self.target.clone(), self.upload_id.clone());
        let send = |number, bytes| slice.copy_or_send(target, upload_id, number, bytes, md5);
        self.send_by(send, bytes, Some(md5)).await
    }

    async fn send_by<S>(
        &mut self,
        send: impl FnOnce(i32, Bytes) -> S,
        bytes: Bytes,
        md5: Option<[u8; 16]>,
    ) -> Result<(), Failure>
    where
        S: Future<Output = Result<Sent, Failure>> + Send + 'static,
    {
        let number = self.next_number()?;
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
        self.make_room().await?;
        self.sending.spawn(send(number, bytes));
        Ok(())
    }

    /// Has the server copy a part, as soon as one of the others makes room.
    pub async fn copy(&mut self, slice: Slice) -> Result<(), Failure> {
        let number = self.next_number()?;
        self.make_room().await?;
        let (target, upload_id) = (self.target.clone(), self.upload_id.clone());
        let copying = slice.copy(target, upload_id, number);
        self.sending.spawn(async { Ok((copying.await?, None)) });
        Ok(())
    }

    fn next_number(&self) -> Result<i32, Failure> {
        let number = self.sent.len() + self.sending.len() + 1;
        if number as u64 > MAX_PARTS {
            return Err(Failure::other(format!(
                "S3 takes at most {MAX_PARTS} parts: a larger PartSize allows larger files"
            )));
        }
        i32::try_from(number).map_err(|error| Failure::other(error.to_string()))
    }

    async fn make_room(&mut self) -> Result<(), Failure> {
        let concurrency = self.target.store.config.part_upload_concurrency.max(1);
        while self.sending.len() >= concurrency {
            self.wait_for_one().await?;
        }
        Ok(())
    }

    /// Writes down which parts are there, once that are `enough`.
    pub async fn note(&mut self, enough: usize) -> Result<(), DataError> {
        if self.unwritten.len() < enough {
            return Ok(());
        }
        let parts = std::mem::take(&mut self.unwritten);
        match &self.journal {
            Some(journal) => {
                let written = journal.journal.sent(&parts).await;
                written.map_err(|error| unnoted(&self.target.id, error))
            }
            None => Ok(()),
        }
    }

    /// Takes what is written down away.
    pub async fn forget(&mut self) -> Result<(), DataError> {
        match self.journal.take() {
            Some(journal) => {
                let ended = journal.journal.end().await;
                ended.map_err(|error| unnoted(&self.target.id, error))
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
    pub async fn complete(&mut self, size_bytes: u64) -> Result<(), Failure> {
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

    pub async fn abort(mut self) {
        self.finished = true;
        // A part that arrives after the abort would stay.
        self.sending.shutdown().await;
        self.target.abort_multipart(&self.upload_id).await;
    }

    /// Leaves an upload that is written down to a later try, where that may come further than
    /// `error`, and aborts any other.
    pub async fn end_after(mut self, error: &DataError) {
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

fn unnoted(id: &str, source: BoxError) -> DataError {
    DataError::Journal {
        id: id.to_owned(),
        source,
    }
}

fn broken(error: JoinError) -> Failure {
    Failure::other(error.to_string())
}
