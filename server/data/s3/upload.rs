//! Stores a body: as one object if it fits into a part, else in parts that are sent at once.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ServerSideEncryption};
use bytes::Bytes;
use md5::{Digest, Md5};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};

use super::encryption::{CustomerKey, with_customer_key};
use super::error::{Failure, Kind};
use super::part::{self, MAX_PARTS, Parts, Prepared};
use super::{Store, client, md5_of_e_tag};
use crate::config::Sse;
use crate::data::name::BlobName;
use crate::data::transfer::{Part, PartReader};
use crate::data::{ByteStream, DataError, Transfer};

/// For what browsers and clients announce that cannot be sent in a header.
const UNKNOWN_TYPE: &str = "application/octet-stream";
/// How long a clean-up may take: it must not hold up the end of the program for ever.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(60);

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
        let mut multipart = Multipart::begin(target).await.map_err(|f| self.failed(f))?;
        let sent = self.send_parts(&mut multipart, first, &mut parts).await;
        match sent {
            Ok(()) => Ok(parts.received()),
            Err(error) => {
                multipart.abort().await;
                Err(error)
            }
        }
    }

    /// Stores all that `transfer` reads, and returns its size in bytes. Each part is in a buffer of
    /// the transfer.
    pub async fn put_all_of(self, transfer: Transfer) -> Result<u64, DataError> {
        let size_bytes = transfer.size_bytes;
        let part_bytes = part::part_bytes(self.store.config.part_size, Some(size_bytes));
        let mut parts = PartReader::new(self.name.id(), transfer, part_bytes)?;
        let target = self.target();
        let first = parts.next().await?;
        if first.last {
            let put = target.put(first.bytes, Some(first.md5)).await;
            return put.map(|()| size_bytes).map_err(|f| self.failed(f));
        }
        let mut multipart = Multipart::begin(target).await.map_err(|f| self.failed(f))?;
        match self.send_all_of(&mut multipart, first, &mut parts).await {
            Ok(()) => Ok(size_bytes),
            Err(error) => {
                multipart.abort().await;
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
            if part.last {
                break;
            }
            part = parts.next().await?;
        }
        multipart
            .complete(parts.size_bytes())
            .await
            .map_err(|f| self.failed(f))
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
            key: self.store.key(self.name),
            content_type: content_type.to_owned(),
            customer_key: self.customer_key.clone(),
        }
    }

    fn failed(&self, failure: Failure) -> DataError {
        self.store
            .failed(format!("write blob {}", self.name.id()), failure)
    }
}

impl Target {
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
    ) -> Result<CompletedPart, Failure> {
        let e_tag = self
            .store
            .send_proven(bytes, md5, None, |part| {
                self.upload_part_once(&upload_id, number, part)
            })
            .await?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(e_tag)
            .build())
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

    async fn abort_multipart(&self, upload_id: &str) {
        let aborting = self
            .store
            .client
            .abort_multipart_upload()
            .bucket(&self.store.config.bucket)
            .key(&self.key)
            .upload_id(upload_id)
            .send();
        let failure = match tokio::time::timeout(CLEANUP_TIMEOUT, aborting).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => Failure::from(error),
            Err(_) => Failure::other("no answer in time"),
        };
        // It is gone already, which is what was wanted.
        if failure.kind != Kind::Missing {
            tracing::warn!(
                "unfinished upload {upload_id} of {} stays in {}: {failure}",
                self.key,
                self.store
            );
        }
    }
}

/// A multipart upload. Dropped before it is completed, it is aborted by a task that
/// [`close`](crate::data::DataBackend::close) waits for.
struct Multipart {
    target: Target,
    upload_id: String,
    sending: JoinSet<Result<CompletedPart, Failure>>,
    sent: Vec<CompletedPart>,
    finished: bool,
}

impl Multipart {
    /// Begins in a task of its own: if the caller goes away while the server answers, the upload
    /// would be unknown to anyone.
    async fn begin(target: Target) -> Result<Self, Failure> {
        let cleanups = target.store.cleanups.clone();
        let beginning = cleanups.spawn(async move {
            let upload_id = target.create_multipart().await?;
            Ok(Self {
                target,
                upload_id,
                sending: JoinSet::new(),
                sent: Vec::new(),
                finished: false,
            })
        });
        beginning.await.map_err(broken)?
    }

    /// Sends a part, as soon as one of the others makes room.
    async fn send(&mut self, bytes: Bytes, md5: Option<[u8; 16]>) -> Result<(), Failure> {
        let concurrency = self.target.store.config.part_upload_concurrency.max(1);
        while self.sending.len() >= concurrency {
            self.wait_for_one().await?;
        }
        let number = self.sent.len() + self.sending.len() + 1;
        if number as u64 > MAX_PARTS {
            return Err(Failure::other(format!(
                "S3 takes at most {MAX_PARTS} parts: a larger PartSize allows larger files"
            )));
        }
        let number = i32::try_from(number).map_err(|error| Failure::other(error.to_string()))?;
        let part = self
            .target
            .clone()
            .upload_part(self.upload_id.clone(), number, bytes, md5);
        self.sending.spawn(part);
        Ok(())
    }

    async fn wait_for_one(&mut self) -> Result<(), Failure> {
        if let Some(part) = self.sending.join_next().await {
            self.sent.push(part.map_err(broken)??);
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

    async fn abort(mut self) {
        self.finished = true;
        // A part that arrives after the abort would stay.
        self.sending.shutdown().await;
        self.target.abort_multipart(&self.upload_id).await;
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
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
