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

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use md5::{Digest, Md5};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio_util::io::ReaderStream;

use crate::s3_faults::Oddity;

/// The smallest part that S3 accepts, but for the last.
const MIN_PART_BYTES: u64 = 5 << 20;
/// Where the MD5 of an object's SSE-C key is kept: among its own metadata, never shown.
const SSE_MARK: &str = "plikd-sse-c-key-md5";
/// Parts in one answer: far fewer than S3 lists, so that tests see more than one.
const MAX_LISTED: i32 = 4;
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

/// A multipart upload that is neither completed nor aborted.
#[derive(Clone)]
struct OpenUpload {
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

    fn uploads(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, OpenUpload>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn open_upload(&self, id: &str, bucket: &str, key: &str) -> S3Result<OpenUpload> {
        self.uploads()
            .get(id)
            .filter(|upload| upload.bucket == bucket && upload.key == key)
            .cloned()
            .ok_or_else(|| s3_error!(NoSuchUpload))
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

/// Multipart uploads are known to the process that began them only: what another left is removed.
fn forget_open_uploads(root: &Path) -> io::Result<()> {
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

fn take_mark(metadata: &mut Option<Metadata>) -> Option<String> {
    metadata.as_mut()?.remove(SSE_MARK)
}

fn mark(metadata: &mut Option<Metadata>, sse: Option<&str>) {
    if let Some(sse) = sse {
        metadata
            .get_or_insert_default()
            .insert(SSE_MARK.to_owned(), sse.to_owned());
    }
}

/// The rules of S3 for objects whose key the client keeps.
fn check_key_given(stored: Option<&str>, given: Option<&str>) -> S3Result<()> {
    match (stored, given) {
        (None, None) => Ok(()),
        (Some(stored), Some(given)) if stored == given => Ok(()),
        (Some(_), Some(_)) => Err(s3_error!(AccessDenied)),
        (Some(_), None) => Err(s3_error!(
            InvalidRequest,
            "The object was stored using a form of Server Side Encryption. The correct parameters \
             must be provided to retrieve the object."
        )),
        (None, Some(_)) => Err(s3_error!(
            InvalidRequest,
            "The encryption parameters are not applicable to this object."
        )),
    }
}

/// The MD5 of the key that a request brings, once algorithm, key and MD5 fit each other.
fn customer_key_md5(
    algorithm: Option<&str>,
    key: Option<&str>,
    md5: Option<&str>,
) -> S3Result<Option<String>> {
    let (Some(algorithm), Some(key), Some(md5)) = (algorithm, key, md5) else {
        return match (algorithm, key, md5) {
            (None, None, None) => Ok(None),
            _ => Err(s3_error!(
                InvalidArgument,
                "SSE-C needs all of its three headers"
            )),
        };
    };
    let bytes = STANDARD
        .decode(key)
        .map_err(|error| s3_error!(error, InvalidArgument))?;
    if algorithm != "AES256" || bytes.len() != 32 || STANDARD.encode(Md5::digest(&bytes)) != md5 {
        return Err(s3_error!(InvalidArgument, "this is no SSE-C key"));
    }
    Ok(Some(md5.to_owned()))
}

/// With SSE-C the ETag of S3 is not the MD5 of the bytes.
fn shown_e_tag(e_tag: ETag, sse: Option<&str>) -> ETag {
    let Some(sse) = sse else { return e_tag };
    let value = e_tag.into_value();
    let (digest, parts) = match value.split_once('-') {
        Some((digest, parts)) => (digest, format!("-{parts}")),
        None => (value.as_str(), String::new()),
    };
    let hidden = Md5::digest(format!("{digest}{sse}"));
    let hidden: String = hidden.iter().map(|byte| format!("{byte:02x}")).collect();
    ETag::Strong(format!("{hidden}{parts}"))
}

/// Something that the end of a request's body leaves for the code after it.
#[derive(Clone, Default)]
struct Seal(Arc<Mutex<Sealed>>);

#[derive(Default)]
struct Sealed {
    guard: Option<OwnedRwLockWriteGuard<()>>,
    size: u64,
    bad_digest: bool,
}

impl Seal {
    fn with<T>(&self, read: impl FnOnce(&mut Sealed) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn check<T>(&self, result: S3Result<T>) -> S3Result<T> {
        if self.with(|sealed| sealed.bad_digest) {
            return Err(s3_error!(BadDigest));
        }
        result
    }
}

/// The same bytes, but their end is only told when they have the digest announced, and with the
/// lock of the object held.
fn sealed(
    body: StreamingBlob,
    content_md5: Option<&str>,
    lock: Option<Arc<RwLock<()>>>,
) -> S3Result<(StreamingBlob, Seal)> {
    let expected = content_md5
        .map(|text| STANDARD.decode(text))
        .transpose()
        .map_err(|error| s3_error!(error, InvalidDigest))?;
    let seal = Seal::default();
    let bytes = Sealing {
        body,
        md5: Md5::new(),
        expected,
        lock,
        seal: seal.clone(),
    };
    Ok((StreamingBlob::wrap(bytes.into_stream()), seal))
}

struct Sealing {
    body: StreamingBlob,
    md5: Md5,
    expected: Option<Vec<u8>>,
    lock: Option<Arc<RwLock<()>>>,
    seal: Seal,
}

impl Sealing {
    fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static {
        futures::stream::unfold(Some(self), |state| async {
            let mut state = state?;
            match state.body.next().await {
                Some(Ok(bytes)) => {
                    state.seal.with(|sealed| sealed.size += bytes.len() as u64);
                    if state.expected.is_some() {
                        state.md5.update(&bytes);
                    }
                    Some((Ok(bytes), Some(state)))
                }
                Some(Err(error)) => Some((Err(io::Error::other(error)), None)),
                None => state.end().await.map(|error| (Err(error), None)),
            }
        })
    }

    async fn end(self) -> Option<io::Error> {
        if self
            .expected
            .is_some_and(|md5| md5 != self.md5.finalize().as_slice())
        {
            self.seal.with(|sealed| sealed.bad_digest = true);
            return Some(io::Error::other("the bytes do not have the MD5 announced"));
        }
        if let Some(lock) = self.lock {
            let guard = lock.write_owned().await;
            self.seal.with(|sealed| sealed.guard = Some(guard));
        }
        None
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

    async fn upload_part(
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

    async fn upload_part_copy(
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

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> Response<ListPartsOutput> {
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

    async fn list_multipart_uploads(
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

    async fn complete_multipart_upload(
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

    async fn abort_multipart_upload(
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

/// A bucket is empty when nothing but empty directories is left of it.
fn has_objects(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| !entry.path().is_dir() || has_objects(&entry.path()))
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
