//! What is sent at once: cut from the body, with what lets the server check it.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::primitives::{ByteStream as Body, SdkBody};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use md5::Md5;
use sha2::{Digest, Sha256};

use super::error::Failure;
use super::{Store, md5_of_e_tag};
use crate::config::{S3Config, Sse};
use crate::data::{ByteStream, DataError};

/// S3 takes no more: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
pub(super) const MAX_PARTS: u64 = 10_000;
/// Up to here digests take less time than asking another thread to compute them.
const INLINE_BYTES: usize = 64 << 10;
const MIB: u64 = 1 << 20;

/// What one part must not be larger than.
const MAX_PART_BYTES: u64 = 5 << 30;
/// Digests of parts are computed in blocks of that many bytes.
const BLOCK_BYTES: u64 = 64;

/// The size of the parts of a body: as configured, or as much more as it takes to have at most
/// [`MAX_PARTS`] of them. A multiple of 64.
pub(super) fn part_bytes(configured: u64, size_bytes: Option<u64>) -> u64 {
    let least = size_bytes.unwrap_or(0).div_ceil(MAX_PARTS);
    let wanted = configured.max(least.next_multiple_of(MIB));
    wanted.next_multiple_of(BLOCK_BYTES).min(MAX_PART_BYTES)
}

/// Cuts a body into parts, and checks its length.
pub(super) struct Parts<'a> {
    id: &'a str,
    body: ByteStream,
    part_bytes: usize,
    expected: Option<u64>,
    received: u64,
    /// The rest of a chunk that did not fit.
    rest: Bytes,
    begun: bool,
    ended: bool,
}

impl<'a> Parts<'a> {
    pub fn new(id: &'a str, body: ByteStream, part_bytes: usize, expected: Option<u64>) -> Self {
        Self {
            id,
            body,
            part_bytes,
            expected,
            received: 0,
            rest: Bytes::new(),
            begun: false,
            ended: false,
        }
    }

    /// The next part, full unless it is the last; `None` after the last. The first is always
    /// there, if need be empty.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DataError> {
        let first = !std::mem::replace(&mut self.begun, true);
        let mut part = BytesMut::with_capacity(self.next_capacity());
        loop {
            let room = self.part_bytes - part.len();
            part.extend_from_slice(&self.rest.split_to(room.min(self.rest.len())));
            if part.len() == self.part_bytes && !self.rest.is_empty() {
                return Ok(Some(part.freeze()));
            }
            // Full, but perhaps the last: only the end of the body tells.
            if self.ended || !self.read().await? {
                return Ok((first || !part.is_empty()).then(|| part.freeze()));
            }
        }
    }

    /// Whether the part that was given out was the last.
    pub fn is_last(&self) -> bool {
        self.ended && self.rest.is_empty()
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    fn next_capacity(&self) -> usize {
        let given = self.received - self.rest.len() as u64;
        match self.expected {
            Some(expected) => {
                let left = usize::try_from(expected - given).unwrap_or(usize::MAX);
                left.min(self.part_bytes)
            }
            // A blob of unknown size is small, until it has filled a part.
            None if given == 0 => 0,
            None => self.part_bytes,
        }
    }

    async fn read(&mut self) -> Result<bool, DataError> {
        match self.body.next().await {
            Some(Ok(chunk)) => {
                self.received += chunk.len() as u64;
                if let Some(expected) = self.expected
                    && self.received > expected
                {
                    return Err(self.wrong_size(expected));
                }
                self.rest = chunk;
                Ok(true)
            }
            Some(Err(source)) => Err(DataError::Body {
                id: self.id.to_owned(),
                source,
            }),
            None => {
                self.ended = true;
                match self.expected {
                    Some(expected) if self.received != expected => Err(self.wrong_size(expected)),
                    _ => Ok(false),
                }
            }
        }
    }

    fn wrong_size(&self, expected: u64) -> DataError {
        DataError::WrongSize {
            id: self.id.to_owned(),
            expected,
            actual: self.received,
        }
    }
}

/// Bytes with their digests. They stay in memory until they are sent, so that a request can be
/// tried again.
pub(super) struct Prepared {
    pub bytes: Bytes,
    pub content_md5: Option<String>,
    signature: PayloadSigningOverride,
}

impl Prepared {
    /// Computes the digests; those of more than a few KiB on a blocking thread.
    pub async fn new(bytes: Bytes, with_md5: bool) -> Result<Self, Failure> {
        if bytes.len() <= INLINE_BYTES {
            return Ok(Self::compute(bytes, with_md5));
        }
        tokio::task::spawn_blocking(move || Self::compute(bytes, with_md5))
            .await
            .map_err(|error| Failure::other(error.to_string()))
    }

    fn compute(bytes: Bytes, with_md5: bool) -> Self {
        Self {
            content_md5: with_md5.then(|| STANDARD.encode(Md5::digest(&bytes))),
            signature: PayloadSigningOverride::Precomputed(hex(&Sha256::digest(&bytes))),
            bytes,
        }
    }

    /// Not signed over the bytes: what the server received is known by the ETag of its answer.
    pub fn unsigned(bytes: Bytes, content_md5: Option<[u8; 16]>) -> Self {
        Self {
            content_md5: content_md5.map(|md5| STANDARD.encode(md5)),
            signature: PayloadSigningOverride::UnsignedPayload,
            bytes,
        }
    }

    /// Signed over `others`: unless these are the same, a server that compares refuses it.
    pub fn signed_over(bytes: Bytes, others: &[u8]) -> Self {
        Self {
            content_md5: None,
            signature: PayloadSigningOverride::Precomputed(hex(&Sha256::digest(others))),
            bytes,
        }
    }

    pub fn with_content_md5(self, md5: [u8; 16]) -> Self {
        Self {
            content_md5: Some(STANDARD.encode(md5)),
            ..self
        }
    }

    pub fn body(&self) -> Body {
        Body::new(SdkBody::from(self.bytes.clone()))
    }

    /// Has the request signed over these bytes, where that is wanted: the server compares them
    /// with the signature.
    pub fn signature(&self) -> SignedOver {
        SignedOver(self.signature.clone())
    }
}

impl Store {
    /// Whether ETags have been, so far, what they have to be to prove the bytes.
    pub fn e_tags_prove(&self) -> bool {
        self.e_tags_prove.load(Ordering::Relaxed)
    }

    /// Sends `bytes` by `send`, which answers with their ETag, and has them checked.
    ///
    /// Where their `md5` is known, an ETag that is this MD5 proves what the server received, and the
    /// signature need not cover them: that would cost both sides a digest of all bytes. Where the
    /// ETag proves nothing, or such requests are refused, they are sent again and signed, as all
    /// are from then on. `content_md5` goes along with the unsigned ones; it is for bytes that are
    /// visible at once, which must not be damaged even until the answer is looked at, so these are
    /// signed where the server does not look at it.
    pub async fn send_proven<S>(
        &self,
        bytes: Bytes,
        md5: Option<[u8; 16]>,
        content_md5: Option<[u8; 16]>,
        send: impl Fn(Prepared) -> S,
    ) -> Result<Option<String>, Failure>
    where
        S: Future<Output = Result<Option<String>, Failure>> + Send,
    {
        let may_be_unsigned = content_md5.is_none() || self.md5s_guard.load(Ordering::Relaxed);
        if md5.is_some() && self.e_tags_prove() && may_be_unsigned {
            match send(Prepared::unsigned(bytes.clone(), content_md5)).await {
                Ok(e_tag) if e_tag.as_deref().and_then(md5_of_e_tag) == md5 => return Ok(e_tag),
                Ok(_) => {}
                Err(failure) if failure.may_be_of_the_request() => {}
                Err(failure) => return Err(failure),
            }
            self.e_tags_prove.store(false, Ordering::Relaxed);
        }
        let part = Prepared::new(bytes, self.config.send_content_md5).await?;
        send(part).await
    }
}

/// Whether the ETag of an answer can be believed: it is the MD5 of the bytes, and nobody on the way
/// to the server can change both.
pub(super) fn e_tags_prove(config: &S3Config) -> bool {
    let host = config.endpoint.rsplit_once(':');
    let host = host.map_or(config.endpoint.as_str(), |(host, _)| host);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    config.sse != Sse::Customer && (config.use_ssl || here)
}

/// Gives the SDK the digest of a body to sign. By itself it would compute it on a thread that
/// serves other requests, and again for each attempt.
#[derive(Debug)]
pub(super) struct SignedOver(PayloadSigningOverride);

#[dyn_dispatch_hint]
impl Intercept for SignedOver {
    fn name(&self) -> &'static str {
        "SignedOver"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(self.0.clone());
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(lengths: &[usize]) -> ByteStream {
        let chunks: Vec<_> = lengths
            .iter()
            .map(|n| Ok(Bytes::from(vec![7; *n])))
            .collect();
        Box::pin(futures::stream::iter(chunks))
    }

    async fn cut(lengths: &[usize], expected: Option<u64>) -> Result<Vec<usize>, DataError> {
        let mut parts = Parts::new("id", body(lengths), 10, expected);
        let mut cut = Vec::new();
        while !parts.is_last() {
            let part = parts.next().await?;
            cut.push(part.expect("the last part is recognised").len());
        }
        assert!(parts.next().await?.is_none());
        Ok(cut)
    }

    #[tokio::test]
    async fn parts_are_full_but_for_the_last() {
        for (lengths, parts) in [
            (&[][..], &[0][..]),
            (&[0, 0], &[0]),
            (&[9], &[9]),
            (&[10], &[10]),
            (&[10, 0], &[10]),
            (&[11], &[10, 1]),
            (&[0, 4, 4, 0, 4], &[10, 2]),
            (&[35], &[10, 10, 10, 5]),
            (&[20], &[10, 10]),
        ] {
            let total = lengths.iter().sum::<usize>() as u64;
            assert_eq!(cut(lengths, None).await.unwrap(), parts, "{lengths:?}");
            assert_eq!(cut(lengths, Some(total)).await.unwrap(), parts);
        }
    }

    #[tokio::test]
    async fn a_wrong_length_is_an_error() {
        for (lengths, expected) in [(&[5][..], 6), (&[5], 4), (&[10], 11), (&[30], 20), (&[], 1)] {
            let error = cut(lengths, Some(expected)).await.unwrap_err();
            assert!(matches!(error, DataError::WrongSize { .. }), "{error:?}");
        }
    }

    #[test]
    fn parts_grow_when_there_would_be_too_many() {
        let configured = 16 * MIB;
        assert_eq!(part_bytes(configured, None), configured);
        assert_eq!(part_bytes(configured, Some(1)), configured);
        assert_eq!(
            part_bytes(configured, Some(10_000 * configured)),
            configured
        );
        let grown = part_bytes(configured, Some(10_000 * configured + 1));
        assert_eq!(grown, 17 * MIB);
        let terabyte = 1_000_000 * MIB;
        assert!(terabyte.div_ceil(part_bytes(configured, Some(terabyte))) <= MAX_PARTS);
    }
}
