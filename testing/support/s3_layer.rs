//! What `s3s-fs` lacks to behave as S3 does, laid over it.
//!
//! - Objects with SSE-C are refused without their key, and their ETag is not their MD5.
//! - `Content-MD5` is compared before an object or a part appears.
//! - A bucket that is not there is an error for every operation.
//! - Readers see an object with the ETag and attributes it was written with, also while it is
//!   being replaced.
//! - Multipart uploads and their parts can be listed; parts are checked before they are put
//!   together.
//! - `If-Match` on reading, and on the source of a copy.
//! - Lists tell ETags.
//! - The copy of an object that came in parts is in one piece, and its ETag is its MD5.

mod encryption;
mod multipart;
mod seal;

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use md5::{Digest, Md5};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::RwLock;
use tokio_util::io::ReaderStream;

use crate::s3_faults::Oddity;
use encryption::{check_key_given, customer_key_md5, mark, shown_e_tag, take_mark};
use multipart::{OpenUpload, forget_open_uploads};
use seal::sealed;

const READ_BYTES: usize = 256 << 10;
/// Objects share this many locks.
const LOCKS: usize = 256;

type Response<T> = S3Result<S3Response<T>>;

pub struct S3Layer {
    fs: FileSystem,
    root: PathBuf,
    /// Held for writing while an object and its attributes are replaced, which `s3s-fs` does in
    /// several steps.
    locks: Vec<Arc<RwLock<()>>>,
    uploads: Mutex<BTreeMap<String, OpenUpload>>,
}

impl S3Layer {
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let root = root.canonicalize()?;
        forget_open_uploads(&root)?;
        let fs = FileSystem::new(&root).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(Self {
            fs,
            root,
            locks: (0..LOCKS).map(|_| Arc::new(RwLock::new(()))).collect(),
            uploads: Mutex::default(),
        })
    }

    fn lock(&self, bucket: &str, key: &str) -> Arc<RwLock<()>> {
        let mut hasher = DefaultHasher::new();
        (bucket, key).hash(&mut hasher);
        Arc::clone(&self.locks[hasher.finish() as usize % LOCKS])
    }

    fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if self.root.join(bucket).is_dir() {
            Ok(())
        } else {
            Err(s3_error!(NoSuchBucket))
        }
    }

    /// Keys become paths, so the few that would lead elsewhere are refused.
    fn check_key(&self, bucket: &str, key: &str) -> S3Result<()> {
        self.check_bucket(bucket)?;
        if key.split('/').any(|part| matches!(part, "." | ".." | "")) {
            return Err(s3_error!(InvalidArgument, "this server has no such keys"));
        }
        Ok(())
    }

    fn check_object(&self, bucket: &str, key: &str) -> S3Result<()> {
        self.check_key(bucket, key)?;
        if self.root.join(bucket).join(key).is_file() {
            Ok(())
        } else {
            Err(s3_error!(NoSuchKey))
        }
    }

    /// An object and its attributes, as they are together. The caller holds the lock.
    async fn head(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let given = request.input.sse_customer_key_md5.clone();
        self.check_object(&request.input.bucket, &request.input.key)?;
        let mut response = self.fs.head_object(request).await?;
        let output = &mut response.output;
        let stored = take_mark(&mut output.metadata);
        check_key_given(stored.as_deref(), given.as_deref())?;
        output.e_tag = output
            .e_tag
            .take()
            .map(|e_tag| shown_e_tag(e_tag, stored.as_deref()));
        output.sse_customer_algorithm = stored.as_ref().map(|_| "AES256".to_owned());
        output.sse_customer_key_md5 = stored;
        Ok(response)
    }

    /// The same bytes that `s3s-fs` answers with, but in larger pieces. The caller holds the lock.
    async fn body(&self, key: &Path, answer: &GetObjectOutput) -> S3Result<StreamingBlob> {
        let first = answer
            .content_range
            .as_deref()
            .and_then(|range| range.strip_prefix("bytes ")?.split_once('-'))
            .and_then(|(first, _)| first.parse().ok())
            .unwrap_or(0);
        let length = answer.content_length.unwrap_or(0).unsigned_abs();
        let opened = async {
            let mut file = tokio::fs::File::open(self.root.join(key)).await?;
            file.seek(io::SeekFrom::Start(first)).await?;
            io::Result::Ok(file.take(length))
        };
        let file = opened
            .await
            .map_err(|error| s3_error!(error, InternalError))?;
        Ok(StreamingBlob::wrap(ReaderStream::with_capacity(
            file, READ_BYTES,
        )))
    }

    /// Whether an object may be copied: it is there, needs no key and has the ETag asked for.
    async fn check_source<T>(
        &self,
        request: &S3Request<T>,
        source: &CopySource,
        if_match: Option<&ETagCondition>,
    ) -> S3Result<HeadObjectOutput> {
        let CopySource::Bucket { bucket, key, .. } = source else {
            return Err(s3_error!(NotImplemented));
        };
        let lock = self.lock(bucket, key);
        let _reading = lock.read().await;
        let input = HeadObjectInput {
            bucket: bucket.to_string(),
            key: key.to_string(),
            ..Default::default()
        };
        let head = self.head(same_request(request, input)).await?.output;
        let matches = match (if_match, &head.e_tag) {
            (Some(ETagCondition::ETag(expected)), Some(e_tag)) => expected.strong_cmp(e_tag),
            _ => true,
        };
        match matches {
            true => Ok(head),
            false => Err(s3_error!(PreconditionFailed)),
        }
    }

    /// Adds what `s3s-fs` leaves out of a list, but for objects that have gone since.
    async fn add_e_tags(
        &self,
        request: &S3Request<()>,
        bucket: &str,
        listed: &mut Option<Vec<Object>>,
    ) {
        for object in listed.iter_mut().flatten() {
            let key = object.key.clone().unwrap_or_default();
            let lock = self.lock(bucket, &key);
            let _reading = lock.read().await;
            let input = HeadObjectInput {
                bucket: bucket.to_owned(),
                key,
                ..Default::default()
            };
            let Ok(head) = self.fs.head_object(same_request(request, input)).await else {
                continue;
            };
            let mut head = head.output;
            let sse = take_mark(&mut head.metadata);
            let e_tag = head.e_tag.map(|e_tag| shown_e_tag(e_tag, sse.as_deref()));
            object.e_tag = e_tag;
        }
    }

    /// Gives an object its MD5 as ETag. The caller holds the lock.
    async fn digest(&self, bucket: &str, key: &str) -> S3Result<ETag> {
        let object = self.root.join(bucket).join(key);
        let info = self.attributes(bucket, key, "internal");
        let digest = move || -> anyhow::Result<String> {
            let mut md5 = Md5::new();
            let mut reader = io::BufReader::with_capacity(READ_BYTES, File::open(object)?);
            loop {
                let bytes = reader.fill_buf()?;
                if bytes.is_empty() {
                    break;
                }
                md5.update(bytes);
                let read = bytes.len();
                reader.consume(read);
            }
            let e_tag: String = md5.finalize().iter().map(|b| format!("{b:02x}")).collect();
            let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&info)?)?;
            kept["e_tag"] = e_tag.clone().into();
            std::fs::write(&info, serde_json::to_vec(&kept)?)?;
            Ok(e_tag)
        };
        let digested = tokio::task::spawn_blocking(digest).await;
        let digested = digested.map_err(|error| s3_error!(error, InternalError))?;
        let e_tag = digested.map_err(|error| s3_error!(InternalError, "{error}"))?;
        Ok(ETag::Strong(e_tag))
    }

    /// Where `s3s-fs` keeps what an object has besides its bytes.
    fn attributes(&self, bucket: &str, key: &str, kind: &str) -> PathBuf {
        let (bucket, key) = (URL_SAFE_NO_PAD.encode(bucket), URL_SAFE_NO_PAD.encode(key));
        let name = format!(".bucket-{bucket}.object-{key}.{kind}.json");
        self.root.join(name)
    }

    fn forget_attributes(&self, bucket: &str, key: &str) {
        for kind in ["metadata", "internal"] {
            // Most objects have both, some none: nothing to remove is fine.
            let _ = std::fs::remove_file(self.attributes(bucket, key, kind));
        }
    }
}

fn same_request<T, U>(request: &S3Request<T>, input: U) -> S3Request<U> {
    S3Request {
        input,
        method: request.method.clone(),
        uri: request.uri.clone(),
        headers: request.headers.clone(),
        extensions: request.extensions.clone(),
        credentials: request.credentials.clone(),
        region: request.region.clone(),
        service: request.service.clone(),
        trailing_headers: None,
    }
}

fn head_of(get: &GetObjectInput) -> HeadObjectInput {
    HeadObjectInput {
        bucket: get.bucket.clone(),
        key: get.key.clone(),
        sse_customer_key_md5: get.sse_customer_key_md5.clone(),
        ..Default::default()
    }
}

#[async_trait::async_trait]
impl S3 for S3Layer {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> Response<CreateBucketOutput> {
        match std::fs::create_dir(self.root.join(&request.input.bucket)) {
            Ok(()) => Ok(S3Response::new(CreateBucketOutput {
                location: Some(format!("/{}", request.input.bucket)),
            })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(s3_error!(BucketAlreadyOwnedByYou))
            }
            Err(error) => Err(s3_error!(error, InternalError)),
        }
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> Response<DeleteBucketOutput> {
        self.check_bucket(&request.input.bucket)?;
        if has_objects(&self.root.join(&request.input.bucket)) {
            return Err(s3_error!(BucketNotEmpty));
        }
        self.fs.delete_bucket(request).await
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> Response<HeadBucketOutput> {
        self.fs.head_bucket(request).await
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> Response<GetBucketLocationOutput> {
        self.fs.get_bucket_location(request).await
    }

    async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> Response<ListBucketsOutput> {
        self.fs.list_buckets(request).await
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> Response<ListObjectsOutput> {
        let (plain, bucket) = (same_request(&request, ()), request.input.bucket.clone());
        let mut response = self.fs.list_objects(request).await?;
        self.add_e_tags(&plain, &bucket, &mut response.output.contents)
            .await;
        Ok(response)
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> Response<ListObjectsV2Output> {
        let (plain, bucket) = (same_request(&request, ()), request.input.bucket.clone());
        let mut response = self.fs.list_objects_v2(request).await?;
        let listed = &mut response.output.contents;
        let oddity = plain.extensions.get();
        if oddity != Some(&Oddity::NoETags) {
            self.add_e_tags(&plain, &bucket, listed).await;
        }
        if let (Some(Oddity::Backwards), Some(objects)) = (oddity, listed) {
            objects.reverse();
        }
        Ok(response)
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> Response<HeadObjectOutput> {
        let lock = self.lock(&request.input.bucket, &request.input.key);
        let _reading = lock.read().await;
        self.head(request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> Response<GetObjectOutput> {
        let lock = self.lock(&request.input.bucket, &request.input.key);
        let _reading = lock.read().await;
        let head = self
            .head(same_request(&request, head_of(&request.input)))
            .await?
            .output;
        if let (Some(condition), Some(e_tag)) = (&request.input.if_match, &head.e_tag)
            && let Some(expected) = condition.as_etag()
            && !expected.strong_cmp(e_tag)
        {
            return Err(s3_error!(PreconditionFailed));
        }
        let key = Path::new(&request.input.bucket).join(&request.input.key);
        let mut response = self.fs.get_object(request).await?;
        let output = &mut response.output;
        take_mark(&mut output.metadata);
        output.e_tag = head.e_tag;
        output.sse_customer_algorithm = head.sse_customer_algorithm;
        output.sse_customer_key_md5 = head.sse_customer_key_md5;
        output.body = Some(self.body(&key, output).await?);
        Ok(response)
    }

    async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> Response<PutObjectOutput> {
        let input = &mut request.input;
        if request.extensions.get() == Some(&Oddity::NoMd5) {
            input.content_md5 = None;
        }
        self.check_key(&input.bucket, &input.key)?;
        let sse = customer_key_md5(
            input.sse_customer_algorithm.as_deref(),
            input.sse_customer_key.as_deref(),
            input.sse_customer_key_md5.as_deref(),
        )?;
        mark(&mut input.metadata, sse.as_deref());
        let body = input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
        let lock = self.lock(&input.bucket, &input.key);
        let (body, seal) = sealed(body, input.content_md5.as_deref(), Some(lock))?;
        input.body = Some(body);
        let encryption = input.server_side_encryption.clone();

        let mut response = seal.check(self.fs.put_object(request).await)?;
        let output = &mut response.output;
        output.e_tag = output
            .e_tag
            .take()
            .map(|e_tag| shown_e_tag(e_tag, sse.as_deref()));
        output.server_side_encryption = encryption;
        output.sse_customer_algorithm = sse.as_ref().map(|_| "AES256".to_owned());
        output.sse_customer_key_md5 = sse;
        Ok(response)
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> Response<CopyObjectOutput> {
        let input = &request.input;
        if input.sse_customer_key.is_some() {
            return Err(s3_error!(NotImplemented));
        }
        self.check_key(&input.bucket, &input.key)?;
        let if_match = input.copy_source_if_match.as_ref();
        self.check_source(&request, &input.copy_source, if_match)
            .await?;
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let keeps_e_tag = request.extensions.get() == Some(&Oddity::OldETag);
        let lock = self.lock(&bucket, &key);
        let _writing = lock.write().await;
        let mut response = self.fs.copy_object(request).await?;
        if let Some(copied) = &mut response.output.copy_object_result
            && copied
                .e_tag
                .as_ref()
                .is_some_and(|e_tag| e_tag.value().contains('-'))
            && !keeps_e_tag
        {
            copied.e_tag = Some(self.digest(&bucket, &key).await?);
        }
        Ok(response)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> Response<DeleteObjectOutput> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        let lock = self.lock(&bucket, &key);
        let _writing = lock.write().await;
        match self.check_object(&bucket, &key) {
            Ok(()) => {}
            Err(error) if *error.code() == s3s::S3ErrorCode::NoSuchKey => {
                return Ok(S3Response::new(DeleteObjectOutput::default()));
            }
            Err(error) => return Err(error),
        }
        let response = self.fs.delete_object(request).await?;
        self.forget_attributes(&bucket, &key);
        Ok(response)
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> Response<DeleteObjectsOutput> {
        let mut deleted = Vec::new();
        for object in &request.input.delete.objects {
            let input = DeleteObjectInput {
                bucket: request.input.bucket.clone(),
                key: object.key.clone(),
                ..Default::default()
            };
            self.delete_object(same_request(&request, input)).await?;
            deleted.push(DeletedObject {
                key: Some(object.key.clone()),
                ..Default::default()
            });
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Response<CreateMultipartUploadOutput> {
        self.begin(request).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> Response<UploadPartOutput> {
        self.take_part(request).await
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> Response<UploadPartCopyOutput> {
        self.copy_part(request).await
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> Response<ListPartsOutput> {
        self.parts_of(request).await
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> Response<ListMultipartUploadsOutput> {
        self.uploads_of(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Response<CompleteMultipartUploadOutput> {
        self.complete(request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Response<AbortMultipartUploadOutput> {
        self.abort(request).await
    }
}

/// A bucket is empty when nothing but empty directories is left of it.
fn has_objects(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| !entry.path().is_dir() || has_objects(&entry.path()))
    })
}
