//! `GET` and `HEAD /file/{upload}/{file}/{name}`: the bytes of a file on their way out.

use std::error::Error;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap,
    HeaderValue, RANGE, USER_AGENT,
};
use http::{Method, Response, StatusCode};
use percent_encoding::utf8_percent_encode;
use tracing::{info, warn};

use super::body::{self, Body};
use super::error::{self, ApiError};
use super::range::{self, Requested};
use super::router::{FilePath, SEGMENT};
use super::state::{App, Caller};
use super::{access, domain, file, one_shot, security};
use crate::data::{BlobRef, ByteStream};
use crate::model::{File, FileStatus, Upload, id};

/// Programs that fetch a link when somebody writes it in a chat. They would consume the file.
const PREVIEW_BOTS: [&str; 17] = [
    "Slackbot",
    "TelegramBot",
    "WhatsApp",
    "Signal",
    "facebookexternalhit",
    "Facebot",
    "Discordbot",
    "SkypeUriPreview",
    "Viber",
    "LinkedInBot",
    "Twitterbot",
    "Wire",
    "Mattermost",
    "Rocket.Chat",
    "Zulip",
    "Teams",
    "MicrosoftPreview",
];

/// Length of the boundary between several ranges.
const BOUNDARY_LENGTH: usize = 32;

/// Answers with a file, or a part of it. The one download of a one-shot file is decided here:
/// exactly one caller gets the bytes.
pub async fn download(
    app: &Arc<App>,
    caller: &Caller,
    path: &FilePath,
) -> Result<Response<Body>, ApiError> {
    let upload = access::open(app, caller, &path.upload_id).await?.upload;
    let is_get = caller.method == Method::GET;
    let is_once = upload.one_shot || upload.stream;
    if is_get && is_once && is_preview_bot(caller) {
        return Err(ApiError::PreviewBot);
    }
    let file = file::find(app, &upload, path).await?;
    if !domain::allows_download(&app.config, &caller.host) {
        return Err(ApiError::DownloadDomain(caller.host.clone()));
    }
    if !upload.e2ee.is_empty() && caller.is_web_client() {
        return Ok(to_web_interface(app, &upload));
    }
    if file.status != FileStatus::Uploaded {
        return Err(not_available(&file));
    }
    let headers = headers(app, caller, &upload, &file);
    let mut response = if !is_get {
        head(&file)
    } else if is_once {
        once(app, file.clone()).await?
    } else {
        ranges(app, caller, &file, &headers[CONTENT_TYPE]).await?
    };
    // What the answer knows better, such as the type of several ranges, stays.
    for (name, value) in &headers {
        response
            .headers_mut()
            .entry(name)
            .or_insert_with(|| value.clone());
    }
    if is_get {
        info!(
            upload.id = upload.id, file.id = file.id, size_bytes = file.size,
            status = response.status().as_u16(), remote_ip = %caller.source_ip,
            "file {} downloaded", file.id
        );
    }
    Ok(response)
}

fn is_preview_bot(caller: &Caller) -> bool {
    let agent = caller.headers.get(USER_AGENT);
    let agent = agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    agent.is_some_and(|agent| PREVIEW_BOTS.iter().any(|bot| agent.contains(bot)))
}

/// Only the web interface has the key of an encrypted upload.
fn to_web_interface(app: &App, upload: &Upload) -> Response<Body> {
    let id = utf8_percent_encode(&upload.id, SEGMENT);
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    error::redirect(response, &format!("{}/#/?id={id}", app.config.path))
}

fn not_available(file: &File) -> ApiError {
    ApiError::FileNotAvailable {
        name: file.name.clone(),
        id: file.id.clone(),
        status: file.status,
    }
}

/// What every answer says, whichever part of the file it holds.
fn headers(app: &App, caller: &Caller, upload: &Upload, file: &File) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let content_type = security::served_type(&file.mime_type, !upload.e2ee.is_empty());
    headers.insert(CONTENT_TYPE, content_type);
    let disposition = security::disposition(&file.name, wants_attachment(&caller.query));
    headers.insert(CONTENT_DISPOSITION, disposition);
    security::add_download_headers(&mut headers, app.config.enhanced_web_security);
    if upload.one_shot || upload.stream {
        security::add_no_cache_headers(&mut headers);
    } else {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    headers
}

/// Any value of `dl` but an empty one asks for an attachment.
fn wants_attachment(query: &str) -> bool {
    query.split('&').any(|pair| {
        pair.strip_prefix("dl=")
            .is_some_and(|value| !value.is_empty())
    })
}

/// The headers alone.
fn head(file: &File) -> Response<Body> {
    let mut response = Response::new(body::empty());
    if file.size > 0 {
        let size = HeaderValue::from(file.size);
        response.headers_mut().insert(CONTENT_LENGTH, size);
    }
    response
}

/// The whole file, for the one caller that is first.
async fn once(app: &Arc<App>, file: File) -> Result<Response<Body>, ApiError> {
    // Opened before the row says `removed`: a cleaning routine erases the bytes from then on. If
    // they cannot be had, the download is still to come.
    let blob = match app.data.get(&BlobRef::from(&file), None).await {
        Ok(blob) => blob,
        Err(error) => {
            let current = file::current(app, &file).await?;
            return Err(match current.status {
                FileStatus::Uploaded => ApiError::internal("unable to get file", error),
                _ => not_available(&current),
            });
        }
    };
    let (from, to) = (FileStatus::Uploaded, FileStatus::Removed);
    let won = app.metadata.change_status(&file.id, from, to).await;
    if !won.map_err(|error| ApiError::internal("unable to update file", error))? {
        return Err(not_available(&file::current(app, &file).await?));
    }
    let body = one_shot::consume(app, file, blob.body, blob.size_bytes).await;
    Ok(sized(StatusCode::OK, blob.size_bytes, body))
}

/// The whole file, or the ranges of it that the caller asks for.
async fn ranges(
    app: &Arc<App>,
    caller: &Caller,
    file: &File,
    content_type: &HeaderValue,
) -> Result<Response<Body>, ApiError> {
    let size_bytes = u64::try_from(file.size).unwrap_or(0);
    let requested = caller
        .headers
        .get(RANGE)
        .and_then(|header| header.to_str().ok())
        .map_or(Requested::Whole, |header| range::parse(header, size_bytes));
    match requested {
        Requested::Unsatisfiable => Err(ApiError::Range { size_bytes }),
        Requested::Whole => {
            let blob = app.data.get(&BlobRef::from(file), None).await;
            let blob = blob.map_err(|error| ApiError::internal("unable to get file", error))?;
            let body = logged(file, blob.body);
            Ok(sized(StatusCode::OK, blob.size_bytes, body))
        }
        Requested::Parts(parts) => match <[Range<u64>; 1]>::try_from(parts) {
            Ok([range]) => one_range(app, file, range, size_bytes).await,
            Err(parts) => Ok(several_ranges(app, file, &parts, size_bytes, content_type)),
        },
    }
}

async fn one_range(
    app: &App,
    file: &File,
    range: Range<u64>,
    size_bytes: u64,
) -> Result<Response<Body>, ApiError> {
    let blob = app
        .data
        .get(&BlobRef::from(file), Some(range.clone()))
        .await;
    let blob = blob.map_err(|error| ApiError::internal("unable to get file", error))?;
    let length = range.end - range.start;
    let mut response = sized(StatusCode::PARTIAL_CONTENT, length, logged(file, blob.body));
    if let Ok(value) = HeaderValue::try_from(content_range(&range, size_bytes)) {
        response.headers_mut().insert(CONTENT_RANGE, value);
    }
    Ok(response)
}

/// A piece of a `multipart/byteranges` body.
enum Piece {
    Text(Bytes),
    Range(Range<u64>),
}

fn several_ranges(
    app: &Arc<App>,
    file: &File,
    parts: &[Range<u64>],
    size_bytes: u64,
    content_type: &HeaderValue,
) -> Response<Body> {
    let boundary = id::alphanumeric(BOUNDARY_LENGTH, &mut rand::rng());
    let pieces = pieces(parts, size_bytes, content_type, &boundary);
    let length = pieces.iter().fold(0, |sum, piece| match piece {
        Piece::Text(text) => sum + text.len() as u64,
        Piece::Range(range) => sum + (range.end - range.start),
    });
    let (app, blob) = (Arc::clone(app), BlobRef::from(file));
    // Each range is opened when the one before it has been sent.
    let body = stream::iter(pieces)
        .then(move |piece| open_piece(Arc::clone(&app), blob.clone(), piece))
        .try_flatten();
    let body = logged(file, Box::pin(body));
    let mut response = sized(StatusCode::PARTIAL_CONTENT, length, body);
    let content_type = format!("multipart/byteranges; boundary={boundary}");
    if let Ok(value) = HeaderValue::try_from(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

fn pieces(
    parts: &[Range<u64>],
    size_bytes: u64,
    content_type: &HeaderValue,
    boundary: &str,
) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for range in parts {
        let mut text = format!("\r\n--{boundary}\r\nContent-Type: ").into_bytes();
        text.extend_from_slice(content_type.as_bytes());
        let content_range = content_range(range, size_bytes);
        text.extend_from_slice(format!("\r\nContent-Range: {content_range}\r\n\r\n").as_bytes());
        pieces.push(Piece::Text(text.into()));
        pieces.push(Piece::Range(range.clone()));
    }
    pieces.push(Piece::Text(format!("\r\n--{boundary}--\r\n").into()));
    pieces
}

async fn open_piece(app: Arc<App>, blob: BlobRef, piece: Piece) -> io::Result<ByteStream> {
    match piece {
        Piece::Text(text) => Ok(Box::pin(stream::once(async { Ok(text) }))),
        Piece::Range(range) => {
            let blob = app.data.get(&blob, Some(range)).await;
            blob.map(|blob| blob.body).map_err(io::Error::other)
        }
    }
}

fn content_range(range: &Range<u64>, size_bytes: u64) -> String {
    format!("bytes {}-{}/{size_bytes}", range.start, range.end - 1)
}

fn sized(status: StatusCode, length: u64, body: ByteStream) -> Response<Body> {
    let mut response = Response::new(body::stream(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// The same bytes; a failure to read them, of which the client only sees a broken connection, is
/// logged.
fn logged(file: &File, body: ByteStream) -> ByteStream {
    let id = file.id.clone();
    Box::pin(body.inspect_err(move |error| {
        let error: &(dyn Error + 'static) = error;
        warn!(file.id = id, error, "unable to read file {id} to its end");
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_of_dl_asks_for_an_attachment() {
        for query in ["dl=1", "a=b&dl=0", "dl=x&y"] {
            assert!(wants_attachment(query), "{query}");
        }
        for query in ["", "dl", "dl=", "xdl=1"] {
            assert!(!wants_attachment(query), "{query}");
        }
    }

    #[test]
    fn several_ranges_are_framed_by_a_boundary() {
        let content_type = HeaderValue::from_static("text/plain");
        let text: Vec<String> = pieces(&[0..2, 5..6], 10, &content_type, "XX")
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
                Piece::Range(range) => format!("<{range:?}>"),
            })
            .collect();
        assert_eq!(
            text.concat(),
            "\r\n--XX\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n<0..2>\
             \r\n--XX\r\nContent-Type: text/plain\r\nContent-Range: bytes 5-5/10\r\n\r\n<5..6>\
             \r\n--XX--\r\n"
        );
    }
}
