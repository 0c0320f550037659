//! Blobs as objects of an S3 bucket: `[<prefix>/]<upload id>.<file id>`.

mod bucket;
mod client;
mod copy;
mod download;
mod encryption;
mod error;
mod list;
mod multipart;
mod pace;
mod part;
mod resume;
mod survey;
mod target;
mod trial;
mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::types::ServerSideEncryption;
use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use super::location::{bucket_name, one_spelling};
use super::name::BlobName;
use super::{
    Access, Blob, BlobReader, BlobRef, BlobStat, ByteStream, DataBackend, DataError, Feature,
    Listing, Origin, Proof, Stored, Transfer, Trial, Tuning, Unfinished,
};
use crate::config::{S3Config, Sse};
use crate::model::BackendDetails;
use encryption::{CustomerKey, with_customer_key};
use error::{Failure, Kind};
pub(super) use survey::survey;

/// Versions of one object that a single `remove` deletes. A file has one, but for retries.
const MAX_VERSIONS: usize = 100;
/// Objects by which a bucket is known again.
const SAMPLE: usize = 100;

/// In how many parts a blob of that size is sent.
pub(super) fn parts_of(config: &S3Config, size_bytes: u64) -> u64 {
    let part_bytes = part::part_bytes(config.part_size, Some(size_bytes));
    size_bytes.div_ceil(part_bytes).max(1)
}

/// See the module: `open` makes one.
pub(super) struct S3Backend {
    store: Arc<Store>,
    absent: bool,
}

/// What uploads and downloads need of the backend.
struct Store {
    client: Client,
    config: S3Config,
    /// What is sent need not be signed: see [`Store::send_proven`].
    e_tags_prove: AtomicBool,
    /// A body that does not have its `Content-MD5` is refused, as far as is known.
    md5s_guard: AtomicBool,
    /// Lists are whole and in order, as far as is known.
    can_list: AtomicBool,
    copying: copy::Willingness,
    /// Clean-ups of uploads that were dropped; `close` waits for them.
    cleanups: TaskTracker,
}

impl S3Backend {
    pub async fn open_with(
        config: &S3Config,
        access: Access,
        tuning: Tuning,
    ) -> Result<Self, DataError> {
        let (client, absent) = bucket::open(config, access, &tuning).await?;
        let store = Arc::new(Store {
            client,
            e_tags_prove: AtomicBool::new(part::e_tags_prove(config)),
            md5s_guard: AtomicBool::new(true),
            can_list: AtomicBool::new(true),
            copying: copy::Willingness::default(),
            config: config.clone(),
            cleanups: TaskTracker::new(),
        });
        Ok(Self { store, absent })
    }

    /// The keys under which a blob may be read, and its own key.
    fn places(&self, blob: &BlobRef, name: &BlobName) -> Vec<(String, Option<CustomerKey>)> {
        if self.absent {
            return Vec::new();
        }
        let customer_key = CustomerKey::of(&blob.details);
        let keys = self.store.keys(name).into_iter();
        keys.map(|key| (key, customer_key.clone())).collect()
    }

    /// How a blob is written, and what its row has to say then.
    fn upload<'a>(
        &'a self,
        blob: &'a BlobRef,
        name: &'a BlobName,
    ) -> (upload::Upload<'a>, BackendDetails) {
        let encrypt = self.store.config.sse == Sse::Customer;
        let (customer_key, details) = encryption::key_for_writing(&blob.details, encrypt);
        let upload = upload::Upload {
            store: &self.store,
            name,
            content_type: &blob.content_type,
            customer_key,
        };
        (upload, details)
    }

    fn unreadable(&self, name: &BlobName, failure: Failure) -> DataError {
        self.store
            .failed(format!("read blob {}", name.id()), failure)
    }

    fn not_found(&self, name: &BlobName) -> DataError {
        DataError::NotFound {
            id: name.id().to_owned(),
            backend: self.to_string(),
        }
    }
}

/// What a request for the headers of an object gave.
struct Head {
    size_bytes: u64,
    e_tag: Option<String>,
    version_id: Option<String>,
    /// The ETag may be the MD5 of the bytes.
    e_tag_is_digest: bool,
    /// It was written with the key that it was asked for with.
    with_customer_key: bool,
}

impl Store {
    fn key(&self, name: &BlobName) -> String {
        name.key(&self.config.prefix)
    }

    /// Where a blob may be: where this release writes it, and where 1.3 did.
    fn keys(&self, name: &BlobName) -> [String; 2] {
        [self.key(name), name.old_key(&self.config.prefix)]
    }

    /// An object as messages name it.
    fn shown(&self, key: &str) -> String {
        bucket_name(&self.config.endpoint, &self.config.bucket, key)
    }

    fn endpoint(&self) -> String {
        one_spelling(&self.config.endpoint, self.config.use_ssl)
    }

    /// Whether the server may be asked to copy from there, with the rights of the same key.
    fn may_copy(&self, origin: &Origin) -> bool {
        self.config.sse != Sse::Customer
            && self.config.access_key_id == origin.access_key_id
            && self.endpoint() == origin.endpoint
            && !self.copying.refuses()
    }

    fn unwritten(&self, id: &str, failure: Failure) -> DataError {
        self.failed(format!("write blob {id}"), failure)
    }

    fn failed(&self, action: impl Into<String>, failure: Failure) -> DataError {
        failure.into_data_error(action.into(), self.to_string())
    }

    /// `None` if there is no such object.
    async fn head(
        &self,
        key: &str,
        customer_key: Option<&CustomerKey>,
    ) -> Result<Option<Head>, Failure> {
        let request = self
            .client
            .head_object()
            .bucket(&self.config.bucket)
            .key(key);
        let output = match with_customer_key!(request, customer_key).send().await {
            Ok(output) => output,
            Err(error) => {
                let failure = Failure::from(error);
                return match (failure.kind, customer_key) {
                    (Kind::Missing, _) => Ok(None),
                    // Perhaps it was written without that key, before or after SSE-C was set.
                    (Kind::BadRequest, Some(_)) => Box::pin(self.head(key, None)).await,
                    _ => Err(failure),
                };
            }
        };
        let encrypted_otherwise = output.sse_customer_algorithm().is_some()
            || output
                .server_side_encryption()
                .is_some_and(|algorithm| *algorithm != ServerSideEncryption::Aes256);
        Ok(Some(Head {
            size_bytes: size_of(output.content_length())?,
            version_id: output.version_id,
            with_customer_key: customer_key.is_some(),
            e_tag_is_digest: !encrypted_otherwise && customer_key.is_none(),
            e_tag: output.e_tag,
        }))
    }

    /// Deletes an object and its older versions. A bucket with versions would keep the bytes
    /// behind a mark otherwise, and show an older version once the newest is gone.
    async fn delete(&self, key: &str, customer_key: Option<&CustomerKey>) -> Result<(), Failure> {
        for _ in 0..MAX_VERSIONS {
            let version_id = match self.head(key, customer_key).await {
                Ok(None) => return Ok(()),
                Ok(Some(head)) => head.version_id,
                // Its key is lost: then at least the object goes.
                Err(failure) if failure.kind == Kind::BadRequest => None,
                Err(failure) => return Err(failure),
            };
            let versioned = version_id.is_some();
            let deleted = self
                .client
                .delete_object()
                .bucket(&self.config.bucket)
                .key(key)
                .set_version_id(version_id)
                .send()
                .await
                .map_err(Failure::from);
            match deleted {
                Ok(_) if versioned => {}
                Ok(_) => return Ok(()),
                Err(failure) if failure.kind == Kind::Missing => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::other(format!(
            "it has more than {MAX_VERSIONS} versions"
        )))
    }
}

/// Of a header that S3 always sends.
fn size_of(content_length: Option<i64>) -> Result<u64, Failure> {
    content_length
        .and_then(|length| u64::try_from(length).ok())
        .ok_or_else(|| Failure::other("the answer does not tell the size"))
}

/// The MD5 that an ETag is, for objects that were not uploaded in parts.
fn md5_of_e_tag(e_tag: &str) -> Option<[u8; 16]> {
    let hex = e_tag.trim_matches('"');
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    let mut md5 = [0; 16];
    for (byte, digits) in md5.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(md5)
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bucket::place(&self.config))
    }
}

impl fmt::Display for S3Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl DataBackend for S3Backend {
    async fn put(
        &self,
        blob: &BlobRef,
        body: ByteStream,
        size_bytes: Option<u64>,
    ) -> Result<Stored, DataError> {
        let name = BlobName::of(blob)?;
        let (upload, details) = self.upload(blob, &name);
        let size_bytes = upload.put(body, size_bytes).await?;
        Ok(Stored {
            size_bytes,
            details,
        })
    }

    async fn put_all_of(&self, blob: &BlobRef, transfer: Transfer) -> Result<Stored, DataError> {
        let name = BlobName::of(blob)?;
        let resumed = resume::find(&self.store, &name, blob, &transfer).await?;
        let details = resumed.as_ref().map(|upload| upload.details.clone());
        let blob = BlobRef {
            details: details.unwrap_or_else(|| blob.details.clone()),
            ..blob.clone()
        };
        let (upload, details) = self.upload(&blob, &name);
        let size_bytes = upload.put_all_of(transfer, &details, resumed).await?;
        Ok(Stored {
            size_bytes,
            details,
        })
    }

    async fn try_out(&self, trial: Trial) -> Result<Vec<Feature>, DataError> {
        trial::run(&self.store, trial).await
    }

    fn can_list(&self) -> bool {
        self.store.can_list.load(Ordering::Relaxed)
    }

    async fn sample(&self) -> Result<Vec<(String, Timestamp)>, DataError> {
        if self.absent {
            return Ok(Vec::new());
        }
        let page = list::first_page(&self.store, self.store.config.prefix.clone()).await;
        let page = page.map_err(|failure| self.store.failed("list its blobs", failure))?;
        let timed = page
            .into_iter()
            .filter_map(|named| Some((named.key, named.modified?)));
        Ok(timed.take(SAMPLE).collect())
    }

    fn origin(&self, blob: &BlobRef) -> Option<Origin> {
        // The key to it would have to be given too, and what comes of it be read with another.
        if self.absent || CustomerKey::of(&blob.details).is_some() {
            return None;
        }
        let name = BlobName::of(blob).ok()?;
        let config = &self.store.config;
        Some(Origin {
            endpoint: self.store.endpoint(),
            access_key_id: config.access_key_id.clone(),
            bucket: config.bucket.clone(),
            keys: self.store.keys(&name).into(),
        })
    }

    fn may_copy(&self, origin: &Origin) -> bool {
        self.store.may_copy(origin)
    }

    async fn copy(
        &self,
        blob: &BlobRef,
        origin: &Origin,
        expected: BlobStat,
        proof: Proof,
    ) -> Result<Option<Stored>, DataError> {
        if !self.store.may_copy(origin) {
            return Ok(None);
        }
        let name = BlobName::of(blob)?;
        let (upload, details) = self.upload(blob, &name);
        let terms = copy::Terms {
            expected,
            proof,
            sizes: copy::Sizes::S3,
        };
        let copied = upload.copy(origin, terms).await?;
        Ok(copied.then_some(Stored {
            size_bytes: expected.size_bytes,
            details,
        }))
    }

    async fn reader(
        &self,
        blob: &BlobRef,
        size_hint: u64,
    ) -> Result<Arc<dyn BlobReader>, DataError> {
        let name = BlobName::of(blob)?;
        for (key, customer_key) in self.places(blob, &name) {
            let opened = download::reader(&self.store, key, customer_key, size_hint).await;
            if let Some(reader) = opened.map_err(|failure| self.unreadable(&name, failure))? {
                return Ok(Arc::new(reader));
            }
        }
        Err(self.not_found(&name))
    }

    async fn get(&self, blob: &BlobRef, range: Option<Range<u64>>) -> Result<Blob, DataError> {
        let name = BlobName::of(blob)?;
        for (key, customer_key) in self.places(blob, &name) {
            let opened = download::open(&self.store, key, customer_key, range.clone()).await;
            if let Some(blob) = opened.map_err(|failure| self.unreadable(&name, failure))? {
                return Ok(blob);
            }
        }
        Err(self.not_found(&name))
    }

    async fn stat(&self, blob: &BlobRef) -> Result<Option<BlobStat>, DataError> {
        let name = BlobName::of(blob)?;
        if self.absent {
            return Ok(None);
        }
        let customer_key = CustomerKey::of(&blob.details);
        for key in self.store.keys(&name) {
            let head = self
                .store
                .head(&key, customer_key.as_ref())
                .await
                .map_err(|failure| {
                    self.store
                        .failed(format!("look up blob {}", name.id()), failure)
                })?;
            if let Some(head) = head {
                let e_tag = head.e_tag.filter(|_| head.e_tag_is_digest);
                return Ok(Some(BlobStat {
                    size_bytes: head.size_bytes,
                    md5: e_tag.as_deref().and_then(md5_of_e_tag),
                }));
            }
        }
        Ok(None)
    }

    fn place(&self, blob: &BlobRef) -> Option<String> {
        let name = BlobName::of(blob).ok()?;
        Some(self.store.shown(&self.store.key(&name)))
    }

    async fn found_at(&self, blob: &BlobRef) -> Option<String> {
        for (key, customer_key) in self.places(blob, &BlobName::of(blob).ok()?) {
            match self.store.head(&key, customer_key.as_ref()).await {
                Ok(None) => {}
                Ok(Some(_)) => return Some(self.store.shown(&key)),
                // It is there, and wants another key than this one.
                Err(failure) if failure.kind == Kind::BadRequest => {
                    return Some(self.store.shown(&key));
                }
                Err(_) => return None,
            }
        }
        None
    }

    fn list(&self) -> Listing {
        if self.absent {
            return Box::pin(futures::stream::empty());
        }
        list::list(&self.store)
    }

    async fn remove(&self, blob: &BlobRef) -> Result<(), DataError> {
        let name = BlobName::of(blob)?;
        if self.absent {
            return Ok(());
        }
        let customer_key = CustomerKey::of(&blob.details);
        for key in self.store.keys(&name) {
            self.store
                .delete(&key, customer_key.as_ref())
                .await
                .map_err(|failure| {
                    self.store
                        .failed(format!("remove blob {}", name.id()), failure)
                })?;
        }
        Ok(())
    }

    async fn give_up(&self, upload: &Unfinished) -> Result<(), DataError> {
        let ended = self.store.abort(&upload.key, &upload.upload_id).await;
        ended.map_err(|failure| {
            let action = format!("abort the upload of {}", upload.key);
            self.store.failed(action, failure)
        })
    }

    fn is_absent(&self) -> bool {
        self.absent
    }

    async fn close(&self) {
        self.store.cleanups.close();
        self.store.cleanups.wait().await;
    }
}

#[cfg(test)]
mod tests;
