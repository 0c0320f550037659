//! Faults of an S3 server, each at the n-th request of an operation.
//!
//! `PutObject:3:500` is the third, `GetObject:2+:truncate` each from the second on. The operations
//! have the names of S3's API. Those on the objects of a trial, which plikd makes before it copies,
//! count apart, as `Trial.PutObject`. The faults are
//!
//! | | |
//! |---|---|
//! | `500`, `501`, `503`, `403` | refused as InternalError, NotImplemented, SlowDown, AccessDenied; nothing is done |
//! | `error-in-200` | refused as InternalError below the status 200 |
//! | `truncate` | done, but the connection ends in the middle of the answer |
//! | `etag` | done, but the header `ETag` is that of something else |
//! | `no-md5` | done, whatever `Content-MD5` says |
//! | `old-etag` | a copy gets the ETag of its source, also where that came in parts |
//! | `backwards` | a list ends with what it should begin with |
//! | `no-etags` | a list tells no ETags |
//! | `slow=MS` | done, after so many milliseconds without a byte |

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use s3s::service::S3Service;
use s3s::{Body, HttpError};

/// One fault and where it happens.
#[derive(Clone, Debug)]
pub struct Fault {
    operation: String,
    /// The first request is 1.
    number: u64,
    /// Each from that one on.
    repeats: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Refuse(StatusCode, &'static str),
    Truncate,
    WrongETag,
    Slow(Duration),
    Odd(Oddity),
}

/// What the server itself does otherwise than others. Requests carry it as an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    NoMd5,
    OldETag,
    Backwards,
    NoETags,
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().context("not OPERATION:NUMBER:FAULT");
        let (operation, number, kind) = (part()?.to_owned(), part()?, part()?);
        let repeats = number.ends_with('+');
        Ok(Self {
            operation,
            number: number.trim_end_matches('+').parse()?,
            repeats,
            kind: kind.parse()?,
        })
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "500" => Self::Refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            "501" => Self::Refuse(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
            "503" => Self::Refuse(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
            "403" => Self::Refuse(StatusCode::FORBIDDEN, "AccessDenied"),
            "error-in-200" => Self::Refuse(StatusCode::OK, "InternalError"),
            "truncate" => Self::Truncate,
            "etag" => Self::WrongETag,
            "no-md5" => Self::Odd(Oddity::NoMd5),
            "old-etag" => Self::Odd(Oddity::OldETag),
            "backwards" => Self::Odd(Oddity::Backwards),
            "no-etags" => Self::Odd(Oddity::NoETags),
            _ => {
                let millis = text.strip_prefix("slow=").context("no such fault")?;
                Self::Slow(Duration::from_millis(millis.parse()?))
            }
        })
    }
}

/// The faults of a server, and how far it is towards them.
pub struct Faults {
    faults: Vec<Fault>,
    /// Requests of each operation so far.
    seen: Mutex<BTreeMap<String, u64>>,
    /// Gets a line with the operation of each fault that happens.
    log: Option<File>,
}

impl Faults {
    pub fn new(faults: Vec<Fault>, log: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        Ok(Self {
            faults,
            seen: Mutex::default(),
            log: log.map(open).transpose()?,
        })
    }

    /// What `service` answers, or what the fault for this request makes of it.
    pub async fn answer(
        &self,
        service: &S3Service,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, HttpError> {
        let request = request.map(Body::from);
        match self.due(operation_of(&request)) {
            None => service.call(request).await,
            Some(Kind::Refuse(status, code)) => Ok(refuse(request, status, code).await),
            Some(Kind::Slow(time)) => {
                tokio::time::sleep(time).await;
                service.call(request).await
            }
            Some(Kind::Odd(oddity)) => {
                let mut request = request;
                request.extensions_mut().insert(oddity);
                service.call(request).await
            }
            Some(Kind::Truncate) => truncated(service.call(request).await?).await,
            Some(Kind::WrongETag) => {
                let mut response = service.call(request).await?;
                let wrong = HeaderValue::from_static("\"00000000000000000000000000000000\"");
                response.headers_mut().insert(ETAG, wrong);
                Ok(response)
            }
        }
    }

    fn due(&self, operation: String) -> Option<Kind> {
        let number = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let number = seen.entry(operation.clone()).or_default();
            *number += 1;
            *number
        };
        let is_due = |fault: &&Fault| {
            let reached = number == fault.number || (fault.repeats && number > fault.number);
            reached && fault.operation == operation
        };
        let fault = self.faults.iter().find(is_due)?;
        if let Some(mut log) = self.log.as_ref()
            && let Err(error) = writeln!(log, "{operation} {number}")
        {
            eprintln!("s3-server: the fault of {operation} is not noted: {error}");
        }
        Some(fault.kind)
    }
}

fn operation_of<B>(request: &Request<B>) -> String {
    let is_trial = request.uri().to_string().contains("plikd-trial-");
    let trial = if is_trial { "Trial." } else { "" };
    format!("{trial}{}", bare_operation_of(request))
}

fn bare_operation_of<B>(request: &Request<B>) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    let has = |name| {
        query
            .split('&')
            .any(|pair| pair.split('=').next() == Some(name))
    };
    let copies = request.headers().contains_key("x-amz-copy-source");
    let is_object = request.uri().path().trim_matches('/').contains('/');
    match (request.method(), is_object) {
        (&Method::PUT, true) => match (has("partNumber"), copies) {
            (true, true) => "UploadPartCopy",
            (true, false) => "UploadPart",
            (false, true) => "CopyObject",
            (false, false) => "PutObject",
        },
        (&Method::GET, true) if has("uploadId") => "ListParts",
        (&Method::GET, true) => "GetObject",
        (&Method::HEAD, true) => "HeadObject",
        (&Method::POST, true) if has("uploads") => "CreateMultipartUpload",
        (&Method::POST, true) => "CompleteMultipartUpload",
        (&Method::DELETE, true) if has("uploadId") => "AbortMultipartUpload",
        (&Method::DELETE, true) => "DeleteObject",
        (&Method::PUT, false) => "CreateBucket",
        (&Method::HEAD, false) => "HeadBucket",
        (&Method::POST, false) => "DeleteObjects",
        (&Method::DELETE, false) => "DeleteBucket",
        (_, false) if has("uploads") => "ListMultipartUploads",
        (_, false) if has("location") => "GetBucketLocation",
        (_, false) if has("list-type") => "ListObjectsV2",
        (_, _) => "unknown",
    }
}

async fn refuse(request: Request<Body>, status: StatusCode, code: &str) -> Response<Body> {
    // What is on its way is read first: a client that still sends would see a broken connection.
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <Error><Code>{code}</Code><Message>as the test asked for</Message></Error>"
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let xml = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(CONTENT_TYPE, xml);
    response
}

/// Promises the whole answer and gives half of it.
async fn truncated(response: Response<Body>) -> Result<Response<Body>, HttpError> {
    let (mut head, body) = response.into_parts();
    let bytes = body.collect().await.map_err(HttpError::new)?.to_bytes();
    let half = bytes.slice(..bytes.len() / 2);
    // An empty answer is cut before its first byte.
    let length = bytes.len().max(1);
    head.headers.remove(TRANSFER_ENCODING);
    head.headers
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    let cut: io::Result<Frame<Bytes>> = Err(io::Error::other("cut, as the test asked for"));
    let frames = stream::iter([Ok(Frame::data(half)), cut]);
    Ok(Response::from_parts(
        head,
        Body::http_body(StreamBody::new(frames)),
    ))
}
