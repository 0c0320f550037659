//! Has the server copy objects between its buckets, so that no byte of them comes by here.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::types::{CompletedPart, MetadataDirective};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::{Failure, Kind};
use super::multipart::Multipart;
use super::target::{Sent, Target, completed_part, sent_part};
use super::upload::Upload;
use super::{Store, client, md5_of_e_tag, part, size_of};
use crate::data::{BlobStat, DataError, Origin, Proof};

/// What stays as it is in the name of a source, which is part of a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// How objects are cut for copying.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// The largest that is copied by one request.
    pub whole_bytes: u64,
    /// The parts of larger ones.
    pub part_bytes: u64,
}

impl Sizes {
    /// Of S3. A server copies parts of half a GiB in seconds, several at the same time.
    pub const S3: Self = Self {
        whole_bytes: 5 << 30,
        part_bytes: 512 << 20,
    };
}

/// What is to be copied, and how.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub expected: BlobStat,
    pub proof: Proof,
    pub sizes: Sizes,
}

/// What the answers so far tell of the server's will to copy.
#[derive(Debug, Default)]
pub(super) struct Willingness {
    has_copied: AtomicBool,
    refuses: AtomicBool,
    /// The ETag of a copy in one piece is the MD5 of its bytes, whatever its source's was.
    digests: AtomicBool,
    /// A part that it copied was not told to have the MD5 of its bytes.
    doubts_parts: AtomicBool,
}

impl Willingness {
    pub fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }

    /// Whether the caller has to hear of the failure. Otherwise bytes can go the longer way.
    ///
    /// A refusal is the server's way, and it is not asked again, unless it has copied before: then
    /// it is about this one object.
    pub fn is_error(&self, failure: &Failure) -> bool {
        if failure.may_be_of_the_request() && !self.has_copied.load(Ordering::Relaxed) {
            self.give_up(&failure.to_string());
        }
        let is_about_the_copy = matches!(failure.kind, Kind::Unmatched | Kind::Missing);
        !is_about_the_copy && !failure.may_be_of_the_request()
    }

    /// Whether the ETags of copies are believed where those of their sources tell nothing.
    pub fn believe_digests(&self, digests: bool) {
        self.digests.store(digests, Ordering::Relaxed);
    }

    pub fn give_up(&self, reason: &str) {
        if !self.refuses.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "the S3 server does not copy by itself, blobs are read instead: {reason}"
            );
        }
    }
}

impl Upload<'_> {
    /// Has the server store what is at `origin`, if that is as `expected` says. `false`: nothing of
    /// it is visible, and it has to be read.
    ///
    /// The digest is that of the source's ETag, or of the copy's: where neither is the MD5, bytes of
    /// which the MD5 is known are not copied, since nobody could tell whether they are those.
    pub async fn copy(self, origin: &Origin, terms: Terms) -> Result<bool, DataError> {
        for key in &origin.keys {
            let copy = Copy {
                from: Source {
                    bucket: origin.bucket.clone(),
                    key: key.clone(),
                },
                to: self.target(),
                terms,
            };
            match copy.run().await {
                Ok(copied) => {
                    let willing = &self.store.copying.has_copied;
                    willing.fetch_or(copied, Ordering::Relaxed);
                    return Ok(copied);
                }
                Err(failure) if failure.kind == Kind::Missing => {}
                Err(failure) if self.store.copying.is_error(&failure) => {
                    return Err(self.failed(failure));
                }
                Err(_) => return Ok(false),
            }
        }
        Ok(false)
    }
}

/// Has the server copy the object `key` of the target's own bucket, of which the `expected` MD5 is
/// known, to see whether it does. It need not be willing to copy from another bucket.
pub(super) async fn within(
    to: Target,
    key: String,
    expected: BlobStat,
    proof: Proof,
) -> Result<bool, Failure> {
    let copy = Copy {
        from: Source {
            bucket: to.store.config.bucket.clone(),
            key,
        },
        to,
        terms: Terms {
            expected,
            proof,
            sizes: Sizes::S3,
        },
    };
    copy.run().await
}

/// An object on the server, maybe in another bucket.
#[derive(Clone)]
struct Source {
    bucket: String,
    key: String,
}

impl Source {
    /// As the header `x-amz-copy-source` has it.
    fn header(&self) -> String {
        let key = utf8_percent_encode(&self.key, ENCODED);
        format!("{}/{key}", self.bucket)
    }

    /// Its size and ETag.
    async fn head(&self, store: &Store) -> Result<(u64, String), Failure> {
        let request = store.client.head_object();
        let request = request.bucket(&self.bucket).key(&self.key);
        let answer = request.send().await?;
        let e_tag = answer.e_tag.ok_or_else(no_e_tag)?;
        Ok((size_of(answer.content_length)?, e_tag))
    }
}

struct Copy {
    from: Source,
    to: Target,
    terms: Terms,
}

impl Copy {
    async fn run(&self) -> Result<bool, Failure> {
        let Terms {
            expected, sizes, ..
        } = self.terms;
        let fits = expected.size_bytes <= sizes.whole_bytes;
        match expected.md5 {
            Some(md5) if fits => match self.copy_bytes_of(md5).await {
                Err(failure)
                    if failure.kind == Kind::Unmatched && self.can_compare_afterwards() =>
                {
                    self.copy_and_compare(md5).await
                }
                copied => copied,
            },
            _ => self.copy_as_found().await,
        }
    }

    fn can_compare_afterwards(&self) -> bool {
        let digests = &self.to.store.copying.digests;
        self.terms.proof == Proof::Afterwards && digests.load(Ordering::Relaxed)
    }

    /// One request, on the condition that the source has this MD5.
    async fn copy_bytes_of(&self, md5: [u8; 16]) -> Result<bool, Failure> {
        let hex: String = md5.iter().map(|byte| format!("{byte:02x}")).collect();
        let e_tag = self.copy_object(format!("\"{hex}\"")).await?;
        if md5_of_e_tag(&e_tag) == Some(md5) {
            return Ok(true);
        }
        // Either the condition was passed over, or ETags of the target are no MD5s.
        let store = &self.to.store;
        store
            .copying
            .give_up("the ETag of its copy is not that of the source");
        store.delete(&self.to.key, None).await?;
        Ok(false)
    }

    /// For an object that came in parts, whose ETag tells nothing of its bytes: that of the copy, which
    /// is in one piece, is their MD5.
    async fn copy_and_compare(&self, md5: [u8; 16]) -> Result<bool, Failure> {
        let (size_bytes, e_tag) = self.from.head(&self.to.store).await?;
        if size_bytes != self.terms.expected.size_bytes || md5_of_e_tag(&e_tag).is_some() {
            return Ok(false);
        }
        let found = md5_of_e_tag(&self.copy_object(e_tag).await?);
        if found == Some(md5) {
            return Ok(true);
        }
        let store = &self.to.store;
        if found.is_none() {
            store.copying.believe_digests(false);
        }
        store.delete(&self.to.key, None).await?;
        Ok(false)
    }

    /// Asks for the source's size and ETag first.
    async fn copy_as_found(&self) -> Result<bool, Failure> {
        let (size_bytes, e_tag) = self.from.head(&self.to.store).await?;
        let expected = self.terms.expected;
        let is_other = |md5| md5_of_e_tag(&e_tag) != Some(md5);
        if size_bytes != expected.size_bytes || expected.md5.is_some_and(is_other) {
            return Ok(false);
        }
        if size_bytes > self.terms.sizes.whole_bytes {
            self.copy_in_parts(e_tag).await?;
            return Ok(true);
        }
        self.copy_object(e_tag).await?;
        let store = &self.to.store;
        match store.head(&self.to.key, None).await? {
            Some(head) if head.size_bytes == size_bytes => Ok(true),
            _ => {
                store.delete(&self.to.key, None).await?;
                Ok(false)
            }
        }
    }

    /// The ETag of the copy.
    async fn copy_object(&self, if_match: String) -> Result<String, Failure> {
        let store = &self.to.store;
        let request = store
            .client
            .copy_object()
            .bucket(&store.config.bucket)
            .key(&self.to.key)
            .copy_source(self.from.header())
            .copy_source_if_match(if_match)
            .metadata_directive(MetadataDirective::Replace)
            .content_type(&self.to.content_type)
            .set_server_side_encryption(self.to.server_side_encryption());
        let answer = request
            .customize()
            .config_override(client::with_timeout(client::COMPLETE_TIMEOUT))
            .send()
            .await?;
        let copy = answer.copy_object_result;
        copy.and_then(|copy| copy.e_tag).ok_or_else(no_e_tag)
    }

    async fn copy_in_parts(&self, e_tag: String) -> Result<(), Failure> {
        let mut multipart = Multipart::begin(self.to.clone()).await?;
        match self.copy_parts(&mut multipart, e_tag).await {
            Ok(()) => Ok(()),
            Err(failure) => {
                multipart.abort().await;
                Err(failure)
            }
        }
    }

    async fn copy_parts(&self, multipart: &mut Multipart, e_tag: String) -> Result<(), Failure> {
        let size_bytes = self.terms.expected.size_bytes;
        let part_bytes = part::part_bytes(self.terms.sizes.part_bytes, Some(size_bytes));
        let mut offset = 0;
        while offset < size_bytes {
            let end = size_bytes.min(offset + part_bytes);
            let slice = Slice {
                from: self.from.clone(),
                range: offset..end,
                e_tag: e_tag.clone(),
            };
            multipart.copy(slice).await?;
            offset = end;
        }
        multipart.complete(size_bytes).await
    }
}

/// An object that is read for its digests only: the server copies its parts, and tells what they are.
pub(super) struct Donor {
    store: Arc<Store>,
    from: Source,
    e_tag: String,
}

impl Donor {
    /// The object of that size at `origin`. `None`, for whatever reason, and its bytes are sent.
    pub async fn find(
        store: &Arc<Store>,
        origin: Option<&Origin>,
        size_bytes: u64,
    ) -> Option<Self> {
        let origin = origin.filter(|origin| store.may_copy(origin))?;
        for key in &origin.keys {
            let from = Source {
                bucket: origin.bucket.clone(),
                key: key.clone(),
            };
            match from.head(store).await {
                Ok((size, e_tag)) if size == size_bytes => {
                    let store = Arc::clone(store);
                    return Some(Self { store, from, e_tag });
                }
                Err(failure) if failure.kind == Kind::Missing => {}
                Ok(_) | Err(_) => return None,
            }
        }
        None
    }

    /// Some of its bytes, as long as the server's copies of them are what they should be.
    pub fn slice(&self, range: Range<u64>) -> Option<Slice> {
        let doubts = self.store.copying.doubts_parts.load(Ordering::Relaxed);
        (!doubts).then(|| Slice {
            from: self.from.clone(),
            range,
            e_tag: self.e_tag.clone(),
        })
    }
}

/// Some bytes of one version of an object.
pub(super) struct Slice {
    from: Source,
    range: Range<u64>,
    e_tag: String,
}

impl Slice {
    /// Makes it a part of the upload if that has the MD5 of `bytes`, which were read there, and sends
    /// them otherwise.
    pub async fn copy_or_send(
        self,
        to: Target,
        upload_id: String,
        number: i32,
        bytes: Bytes,
        md5: [u8; 16],
    ) -> Result<Sent, Failure> {
        let copied = self.copy(to.clone(), upload_id.clone(), number).await;
        let doubts = match copied {
            Ok(part) => match part.e_tag() {
                Some(e_tag) if md5_of_e_tag(e_tag) == Some(md5) => {
                    let noted = sent_part(number, e_tag, bytes.len() as u64, md5);
                    return Ok((part, Some(noted)));
                }
                _ => true,
            },
            Err(failure) => failure.may_be_of_the_request(),
        };
        to.store
            .copying
            .doubts_parts
            .fetch_or(doubts, Ordering::Relaxed);
        to.upload_part(upload_id, number, bytes, Some(md5)).await
    }

    /// Makes it a part of the upload.
    pub async fn copy(
        self,
        to: Target,
        upload_id: String,
        number: i32,
    ) -> Result<CompletedPart, Failure> {
        let store = Arc::clone(&to.store);
        let request = store
            .client
            .upload_part_copy()
            .bucket(&store.config.bucket)
            .key(&to.key)
            .upload_id(upload_id)
            .part_number(number)
            .copy_source(self.from.header())
            .copy_source_if_match(self.e_tag)
            .copy_source_range(format!("bytes={}-{}", self.range.start, self.range.end - 1));
        let answer = request
            .customize()
            .config_override(client::with_timeout(client::COMPLETE_TIMEOUT))
            .send()
            .await?;
        let part = answer.copy_part_result;
        let e_tag = part.and_then(|part| part.e_tag).ok_or_else(no_e_tag)?;
        Ok(completed_part(number, Some(e_tag)))
    }
}

fn no_e_tag() -> Failure {
    Failure::other("the answer does not tell the ETag")
}
