//! Where an object goes: the requests that put it there.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream as Body;
use aws_sdk_s3::types::{CompletedPart, ServerSideEncryption};
use bytes::Bytes;

use super::encryption::{CustomerKey, with_customer_key};
use super::error::Failure;
use super::part::Prepared;
use super::{Store, client};
use crate::config::Sse;
use crate::data::SentPart;

/// Where an object goes, and how: the same for all its requests.
#[derive(Clone)]
pub(super) struct Target {
    pub store: Arc<Store>,
    /// Of the blob.
    pub id: String,
    pub key: String,
    pub content_type: String,
    pub customer_key: Option<CustomerKey>,
}

impl Target {
    /// Stores an object. With its MD5 the server has to compare it.
    pub async fn put(&self, bytes: Bytes, md5: Option<[u8; 16]>) -> Result<(), Failure> {
        self.store
            .send_proven(bytes, md5, md5, |part| self.put_once(part))
            .await?;
        Ok(())
    }

    pub async fn put_once(&self, part: Prepared) -> Result<Option<String>, Failure> {
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

    /// Stores an object if there is none of this key, as far as the server cares for conditions.
    pub async fn put_if_absent(&self, bytes: Bytes) -> Result<(), Failure> {
        let request = self
            .store
            .client
            .put_object()
            .bucket(&self.store.config.bucket)
            .key(&self.key)
            .if_none_match("*")
            .set_server_side_encryption(self.server_side_encryption())
            .body(Body::from(bytes));
        let request = with_customer_key!(request, self.customer_key.as_ref());
        request.send().await?;
        Ok(())
    }

    pub fn server_side_encryption(&self) -> Option<ServerSideEncryption> {
        (self.store.config.sse == Sse::S3).then_some(ServerSideEncryption::Aes256)
    }

    pub async fn create_multipart(&self) -> Result<String, Failure> {
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

    pub async fn upload_part(
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
        let noted = e_tag.as_deref().zip(md5);
        let noted = noted.map(|(e_tag, md5)| sent_part(number, e_tag, size_bytes, md5));
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
    pub async fn abort_multipart(&self, upload_id: &str) -> bool {
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
pub(super) type Sent = (CompletedPart, Option<SentPart>);

pub(super) fn sent_part(number: i32, e_tag: &str, size_bytes: u64, md5: [u8; 16]) -> SentPart {
    SentPart {
        number,
        e_tag: e_tag.trim_matches('"').to_owned(),
        size_bytes,
        md5,
    }
}

pub(super) fn completed_part(number: i32, e_tag: Option<String>) -> CompletedPart {
    CompletedPart::builder()
        .part_number(number)
        .set_e_tag(e_tag)
        .build()
}
