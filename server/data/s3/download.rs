//! Reads an object, and goes on where a connection broke.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::Bytes;
use futures::Stream;
use rand::RngExt;

use super::encryption::{CustomerKey, with_customer_key};
use super::error::{Failure, Kind};
use super::{Store, size_of};
use crate::data::buffers::Buffer;
use crate::data::{Blob, BlobReader};

/// How often one download is begun again, each time after twice the wait.
const MAX_RESUMES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Objects up to that size are asked for with one request; of larger ones the size is asked first.
const AT_ONCE_BYTES: u64 = 8 << 20;

/// Opens an object; `None` if there is none. The stream ends with an error unless all bytes came.
pub(super) async fn open(
    store: &Arc<Store>,
    key: String,
    customer_key: Option<CustomerKey>,
    range: Option<Range<u64>>,
) -> Result<Option<Blob>, Failure> {
    // HTTP has no empty range, and an empty object has no range at all.
    if let Some(range) = range.as_ref().filter(|range| range.is_empty()) {
        return open_empty(store, &key, customer_key.as_ref(), range).await;
    }
    let mut source = Source {
        store: Arc::clone(store),
        key,
        customer_key,
        e_tag: None,
    };
    let Some(answer) = source.ask_first(range.as_ref()).await? else {
        return Ok(None);
    };
    let size_bytes = check(&answer, range.as_ref())?;
    source.e_tag = answer.e_tag;
    let range = range.unwrap_or(0..size_bytes);
    Ok(Some(Blob {
        size_bytes,
        body: Box::pin(bytes_of(Download {
            source,
            body: Some(answer.body),
            offset: range.start,
            end: range.end,
            breaks: 0,
        })),
    }))
}

/// As [`open`], to be read at any offset. `size_hint` decides whether all of it is asked for at
/// once.
pub(super) async fn reader(
    store: &Arc<Store>,
    key: String,
    customer_key: Option<CustomerKey>,
    size_hint: u64,
) -> Result<Option<S3Reader>, Failure> {
    let mut source = Source {
        store: Arc::clone(store),
        key,
        customer_key,
        e_tag: None,
    };
    if size_hint > AT_ONCE_BYTES {
        let head = store.head(&source.key, source.customer_key.as_ref());
        let Some(head) = head.await? else {
            return Ok(None);
        };
        source.e_tag = head.e_tag;
        source.customer_key = source.customer_key.filter(|_| head.with_customer_key);
        return Ok(Some(S3Reader {
            source,
            size_bytes: head.size_bytes,
            begun: Mutex::default(),
        }));
    }
    let Some(answer) = source.ask_first(None).await? else {
        return Ok(None);
    };
    let size_bytes = check(&answer, None)?;
    source.e_tag = answer.e_tag;
    let begun = Download {
        source: source.clone(),
        body: Some(answer.body),
        offset: 0,
        end: size_bytes,
        breaks: 0,
    };
    Ok(Some(S3Reader {
        source,
        size_bytes,
        begun: Mutex::new(Some(begun)),
    }))
}

/// One version of an object, read by ranges.
pub(super) struct S3Reader {
    source: Source,
    size_bytes: u64,
    /// All of a small object, which came with the answer that told its size.
    begun: Mutex<Option<Download>>,
}

impl S3Reader {
    fn begun(&self, range: &Range<u64>) -> Option<Download> {
        let whole = *range == (0..self.size_bytes);
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.take_if(|_| whole)
    }
}

#[async_trait]
impl BlobReader for S3Reader {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn read(&self, offset: u64, mut buffer: Buffer) -> io::Result<Buffer> {
        let range = offset..offset + buffer.length() as u64;
        let mut download = self.begun(&range).unwrap_or_else(|| Download {
            source: self.source.clone(),
            body: None,
            offset: range.start,
            end: range.end,
            breaks: 0,
        });
        let mut filled = 0;
        while let Some(bytes) = download.next().await? {
            buffer.bytes_mut()[filled..filled + bytes.len()].copy_from_slice(&bytes);
            filled += bytes.len();
        }
        Ok(buffer)
    }
}

async fn open_empty(
    store: &Store,
    key: &str,
    customer_key: Option<&CustomerKey>,
    range: &Range<u64>,
) -> Result<Option<Blob>, Failure> {
    let Some(head) = store.head(key, customer_key).await? else {
        return Ok(None);
    };
    if range.start > range.end || range.end > head.size_bytes {
        return Err(outside(range, head.size_bytes));
    }
    Ok(Some(Blob {
        size_bytes: head.size_bytes,
        body: Box::pin(futures::stream::empty()),
    }))
}

fn outside(range: &Range<u64>, size_bytes: u64) -> Failure {
    Failure::other(format!(
        "bytes {}..{} are not within its {size_bytes}",
        range.start, range.end
    ))
}

/// The size of the whole object, once the answer is known to be what was asked for.
fn check(answer: &GetObjectOutput, range: Option<&Range<u64>>) -> Result<u64, Failure> {
    let length = size_of(answer.content_length())?;
    let Some(range) = range else {
        return Ok(length);
    };
    let (first, total) = answer
        .content_range()
        .and_then(parse_content_range)
        .ok_or_else(|| Failure::other("the server does not answer with the range asked for"))?;
    // A range that goes on behind the end is cut off by servers, not refused.
    if first != range.start || range.end > total || length != range.end - range.start {
        return Err(outside(range, total));
    }
    Ok(total)
}

/// First byte and total size of `bytes 0-9/100`.
fn parse_content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()?))
}

/// An object, and the version of it that is being read.
#[derive(Clone)]
struct Source {
    store: Arc<Store>,
    key: String,
    customer_key: Option<CustomerKey>,
    e_tag: Option<String>,
}

impl Source {
    async fn ask_first(
        &mut self,
        range: Option<&Range<u64>>,
    ) -> Result<Option<GetObjectOutput>, Failure> {
        let mut answer = self.ask(range).await;
        // Perhaps it was written without that key, before or after SSE-C was set.
        if matches!(&answer, Err(failure) if failure.kind == Kind::BadRequest)
            && self.customer_key.take().is_some()
        {
            answer = self.ask(range).await;
        }
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.kind == Kind::Missing => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn ask(&self, range: Option<&Range<u64>>) -> Result<GetObjectOutput, Failure> {
        let request = self
            .store
            .client
            .get_object()
            .bucket(&self.store.config.bucket)
            .key(&self.key)
            .set_if_match(self.e_tag.clone())
            .set_range(range.map(|range| format!("bytes={}-{}", range.start, range.end - 1)));
        Ok(with_customer_key!(request, self.customer_key.as_ref())
            .send()
            .await?)
    }
}

struct Download {
    source: Source,
    /// `None` before it began, and after it broke.
    body: Option<Body>,
    offset: u64,
    end: u64,
    /// How often it broke.
    breaks: u32,
}

impl Download {
    /// The next bytes; `None` once all have come.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.offset < self.end {
            let Some(body) = &mut self.body else {
                self.ask().await?;
                continue;
            };
            let broken = match body.try_next().await {
                Ok(Some(bytes)) if bytes.is_empty() => continue,
                Ok(Some(bytes)) => {
                    let room = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
                    let bytes = bytes.slice(..bytes.len().min(room));
                    self.offset += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Ok(None) => "the body ended early".to_owned(),
                Err(error) => error.to_string(),
            };
            self.break_off(&broken)?;
        }
        Ok(None)
    }

    fn break_off(&mut self, reason: &str) -> io::Result<()> {
        self.body = None;
        if self.breaks == MAX_RESUMES {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "{} broke at byte {}, as {MAX_RESUMES} times before: {reason}",
                    self.source.key, self.offset
                ),
            ));
        }
        self.breaks += 1;
        tracing::debug!(
            "{} broke at byte {}: {reason}",
            self.source.key,
            self.offset
        );
        Ok(())
    }

    /// Asks for what is still to come; after a break not at once.
    async fn ask(&mut self) -> io::Result<()> {
        if self.breaks > 0 {
            let wait = FIRST_WAIT * 2_u32.pow(self.breaks - 1);
            let chance = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(wait.mul_f64(chance)).await;
        }
        let range = self.offset..self.end;
        let answer = self.source.ask(Some(&range)).await;
        let answer = answer?;
        check(&answer, Some(&range)).map_err(io::Error::from)?;
        self.body = Some(answer.body);
        Ok(())
    }
}

fn bytes_of(download: Download) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures::stream::unfold(Some(download), |download| async {
        let mut download = download?;
        match download.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(download))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_tells_start_and_size() {
        assert_eq!(parse_content_range("bytes 0-9/100"), Some((0, 100)));
        assert_eq!(parse_content_range("bytes 50-99/100"), Some((50, 100)));
        for text in ["", "bytes */100", "bytes 0-9/*", "0-9/100"] {
            assert_eq!(parse_content_range(text), None, "{text}");
        }
    }
}
