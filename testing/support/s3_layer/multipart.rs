//! Uploads in parts: known to the process that began them, listed, and checked before they are put
//! together.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::time::SystemTime;

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::encryption::{check_key_given, customer_key_md5, mark, shown_e_tag};
use super::seal::sealed;
use super::{Response, S3Layer};

/// The smallest part that S3 accepts, but for the last.
const MIN_PART_BYTES: u64 = 5 << 20;
/// Parts in one answer: far fewer than S3 lists, so that tests see more than one.
const MAX_LISTED: i32 = 4;

/// A multipart upload that is neither completed nor aborted.
#[derive(Clone)]
pub(super) struct OpenUpload {
    bucket: String,
    key: String,
    sse: Option<String>,
    initiated: SystemTime,
    parts: BTreeMap<i32, UploadedPart>,
}

#[derive(Clone)]
struct UploadedPart {
    e_tag: ETag,
    size: u64,
}

impl S3Layer {
    fn uploads(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, OpenUpload>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_upload(&self, id: &str, bucket: &str, key: &str) -> S3Result<OpenUpload> {
        self.uploads()
            .get(id)
            .filter(|upload| upload.bucket == bucket && upload.key == key)
            .cloned()
            .ok_or_else(|| s3_error!(NoSuchUpload))
    }

    pub(super) async fn begin(
        &self,
        mut request: S3Request<CreateMultipartUploadInput>,
    ) -> Response<CreateMultipartUploadOutput> {
        let input = &mut request.input;
        self.check_key(&input.bucket, &input.key)?;
        let sse = customer_key_md5(
            input.sse_customer_algorithm.as_deref(),
            input.sse_customer_key.as_deref(),
            input.sse_customer_key_md5.as_deref(),
        )?;
        mark(&mut input.metadata, sse.as_deref());
        let upload = OpenUpload {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            sse: sse.clone(),
            initiated: SystemTime::now(),
            parts: BTreeMap::new(),
        };
        let mut response = self.fs.create_multipart_upload(request).await?;
        response.output.sse_customer_key_md5 = sse;
        let id = response
            .output
            .upload_id
            .clone()
            .ok_or_else(|| s3_error!(InternalError))?;
        self.uploads().insert(id, upload);
        Ok(response)
    }

    pub(super) async fn take_part(
        &self,
        mut request: S3Request<UploadPartInput>,
    ) -> Response<UploadPartOutput> {
        let input = &mut request.input;
        let (id, number) = (input.upload_id.clone(), input.part_number);
        let upload = self.open_upload(&id, &input.bucket, &input.key)?;
        let sse = customer_key_md5(
            input.sse_customer_algorithm.as_deref(),
            input.sse_customer_key.as_deref(),
            input.sse_customer_key_md5.as_deref(),
        )?;
        check_key_given(upload.sse.as_deref(), sse.as_deref())?;
        let body = input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
        let (body, seal) = sealed(body, input.content_md5.as_deref(), None)?;
        input.body = Some(body);

        let mut response = seal.check(self.fs.upload_part(request).await)?;
        let e_tag = response
            .output
            .e_tag
            .take()
            .map(|e_tag| shown_e_tag(e_tag, sse.as_deref()))
            .ok_or_else(|| s3_error!(InternalError))?;
        let part = UploadedPart {
            e_tag: e_tag.clone(),
            size: seal.with(|sealed| sealed.size),
        };
        match self.uploads().get_mut(&id) {
            Some(upload) => upload.parts.insert(number, part),
            // Aborted meanwhile: nothing may stay.
            None => {
                let name = format!(".upload_id-{id}.part-{number}");
                let _ = std::fs::remove_file(self.root.join(name));
                return Err(s3_error!(NoSuchUpload));
            }
        };
        response.output.e_tag = Some(e_tag);
        response.output.sse_customer_key_md5 = sse;
        Ok(response)
    }

    pub(super) async fn copy_part(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> Response<UploadPartCopyOutput> {
        let input = &request.input;
        let (id, number) = (input.upload_id.clone(), input.part_number);
        let upload = self.open_upload(&id, &input.bucket, &input.key)?;
        if upload.sse.is_some() {
            return Err(s3_error!(NotImplemented));
        }
        let if_match = input.copy_source_if_match.as_ref();
        let head = self
            .check_source(&request, &input.copy_source, if_match)
            .await?;
        let whole = head.content_length.unwrap_or(0).unsigned_abs();
        let size = input.copy_source_range.as_deref().map_or(whole, range_size);
        let response = self.fs.upload_part_copy(request).await?;
        let copied = response.output.copy_part_result.as_ref();
        let e_tag = copied
            .and_then(|part| part.e_tag.clone())
            .ok_or_else(|| s3_error!(InternalError))?;
        match self.uploads().get_mut(&id) {
            Some(upload) => upload.parts.insert(number, UploadedPart { e_tag, size }),
            // Aborted meanwhile: nothing may stay.
            None => {
                let name = format!(".upload_id-{id}.part-{number}");
                let _ = std::fs::remove_file(self.root.join(name));
                return Err(s3_error!(NoSuchUpload));
            }
        };
        Ok(response)
    }

    pub(super) async fn parts_of(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> Response<ListPartsOutput> {
        let input = request.input;
        let upload = self.open_upload(&input.upload_id, &input.bucket, &input.key)?;
        let after = input.part_number_marker.unwrap_or(0);
        let limit = usize::try_from(input.max_parts.unwrap_or(MAX_LISTED)).unwrap_or(0);
        let later = upload.parts.range(after + 1..);
        let parts: Vec<Part> = later
            .clone()
            .take(limit)
            .map(|(number, part)| Part {
                part_number: Some(*number),
                e_tag: Some(part.e_tag.clone()),
                size: i64::try_from(part.size).ok(),
                ..Default::default()
            })
            .collect();
        let is_truncated = later.count() > parts.len();
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            is_truncated: Some(is_truncated),
            parts: Some(parts),
            ..Default::default()
        }))
    }

    pub(super) async fn uploads_of(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> Response<ListMultipartUploadsOutput> {
        let input = request.input;
        self.check_bucket(&input.bucket)?;
        let prefix = input.prefix.unwrap_or_default();
        let mut open: Vec<MultipartUpload> = self
            .uploads()
            .iter()
            .filter(|(_, upload)| upload.bucket == input.bucket && upload.key.starts_with(&prefix))
            .map(|(id, upload)| MultipartUpload {
                key: Some(upload.key.clone()),
                upload_id: Some(id.clone()),
                initiated: Some(Timestamp::from(upload.initiated)),
                ..Default::default()
            })
            .collect();
        open.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            is_truncated: Some(false),
            uploads: Some(open),
            ..Default::default()
        }))
    }

    pub(super) async fn complete(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Response<CompleteMultipartUploadOutput> {
        let input = &request.input;
        let id = input.upload_id.clone();
        let upload = self.open_upload(&id, &input.bucket, &input.key)?;
        check_parts(&upload, input.multipart_upload.as_ref())?;
        let lock = self.lock(&input.bucket, &input.key);
        let _writing = lock.write().await;
        if self.uploads().remove(&id).is_none() {
            return Err(s3_error!(NoSuchUpload));
        }
        // `s3s-fs` would give it the checksums of an object that is replaced.
        let _ = std::fs::remove_file(self.attributes(&upload.bucket, &upload.key, "internal"));
        let mut response = self.fs.complete_multipart_upload(request).await?;
        // `s3s-fs` answers from a future, after the status: here everything is done already.
        let mut output = match response.output.future.take() {
            Some(answer) => answer.await?,
            None => response.output,
        };
        output.e_tag = output
            .e_tag
            .take()
            .map(|e_tag| shown_e_tag(e_tag, upload.sse.as_deref()));
        Ok(S3Response::new(output))
    }

    pub(super) async fn abort(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Response<AbortMultipartUploadOutput> {
        let input = &request.input;
        self.open_upload(&input.upload_id, &input.bucket, &input.key)?;
        self.uploads().remove(&input.upload_id);
        self.fs.abort_multipart_upload(request).await
    }
}

/// Bytes of a range such as `bytes=0-9`; 0 of another, which is refused later.
fn range_size(range: &str) -> u64 {
    let ends = range
        .strip_prefix("bytes=")
        .and_then(|ends| ends.split_once('-'));
    let ends = ends.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    ends.map_or(0, |(first, last): (u64, u64)| {
        (last + 1).saturating_sub(first)
    })
}

fn check_parts(upload: &OpenUpload, list: Option<&CompletedMultipartUpload>) -> S3Result<()> {
    let parts = list
        .and_then(|list| list.parts.as_deref())
        .unwrap_or_default();
    for (index, part) in parts.iter().enumerate() {
        let known = part
            .part_number
            .and_then(|number| upload.parts.get(&number))
            .filter(|known| {
                part.e_tag
                    .as_ref()
                    .is_some_and(|e_tag| e_tag.value() == known.e_tag.value())
            })
            .ok_or_else(|| s3_error!(InvalidPart))?;
        if index + 1 < parts.len() && known.size < MIN_PART_BYTES {
            return Err(s3_error!(EntityTooSmall));
        }
    }
    Ok(())
}

/// Multipart uploads are known to the process that began them only: what another left is removed.
pub(super) fn forget_open_uploads(root: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".upload_id-") || name.starts_with(".upload-") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
