//! Objects that are put together from parts.

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use md5::{Digest, Md5};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};

use super::copy::Slice;
use super::encryption::{CustomerKey, with_customer_key};
use super::error::Failure;
use super::part::MAX_PARTS;
use super::target::Target;
use super::{client, md5_of_e_tag};

/// A multipart upload. Dropped before it is completed, it is aborted by a task that
/// [`close`](crate::data::DataBackend::close) waits for.
pub(super) struct Multipart {
    target: Target,
    upload_id: String,
    sending: JoinSet<Result<CompletedPart, Failure>>,
    sent: Vec<CompletedPart>,
    finished: bool,
}

impl Multipart {
    /// Begins in a task of its own: if the caller goes away while the server answers, the upload
    /// would be unknown to anyone.
    pub async fn begin(target: Target) -> Result<Self, Failure> {
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
    pub async fn send(&mut self, bytes: Bytes, md5: Option<[u8; 16]>) -> Result<(), Failure> {
        let number = self.next_number().await?;
        let (target, upload_id) = (self.target.clone(), self.upload_id.clone());
        let part = target.upload_part(upload_id, number, bytes, md5);
        self.sending.spawn(part);
        Ok(())
    }

    /// Has the server copy a part, as soon as one of the others makes room.
    pub async fn copy(&mut self, slice: Slice) -> Result<(), Failure> {
        let number = self.next_number().await?;
        let (target, upload_id) = (self.target.clone(), self.upload_id.clone());
        self.sending.spawn(slice.copy(target, upload_id, number));
        Ok(())
    }

    /// The number of the next part, once there is room for it.
    async fn next_number(&mut self) -> Result<i32, Failure> {
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
        i32::try_from(number).map_err(|error| Failure::other(error.to_string()))
    }

    async fn wait_for_one(&mut self) -> Result<(), Failure> {
        if let Some(part) = self.sending.join_next().await {
            self.sent.push(part.map_err(broken)??);
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
