//! Every way in which a request can fail, as its status and text.

use http::header::{
    CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};

use super::body::{self, Body, BodyError};
use super::create;
use super::multipart::MultipartError;
use super::size::human;
use crate::data::BoxError;
use crate::model::FileStatus;

/// Clients show and compare these texts, so they never change.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("404 page not found")]
    NoRoute,
    /// A known path with another method; its body is empty.
    #[error("method not allowed")]
    NoMethod,
    #[error("invalid IP address")]
    InvalidSource,
    #[error("invalid token")]
    InvalidToken,
    #[error("untrusted source IP address")]
    UntrustedSource,

    #[error("upload {0} not found")]
    UploadNotFound(String),
    #[error("upload {0} has expired")]
    UploadExpired(String),
    #[error("please provide valid credentials to access this upload : {0}")]
    Credentials(&'static str),
    #[error("unable to create upload : {0}")]
    CreateUpload(create::Refusal),
    #[error("unable to read request body : {0}")]
    ReadBody(BodyError),
    #[error("unable to deserialize request body : {0}")]
    ParseBody(serde_json::Error),
    #[error("you are not allowed to remove this upload")]
    RemoveUpload,

    #[error("file {0} not found")]
    FileNotFound(String),
    #[error("invalid file name")]
    InvalidFileName,
    #[error("you are not allowed to add file to this upload")]
    AddFile,
    #[error("you are not allowed to remove files from this upload")]
    RemoveFile,
    #[error("maximum number file per upload reached, limit is {max}")]
    UploadIsFull { max: i64 },
    #[error("unable to create file : {0}")]
    CreateFile(create::Refusal),
    #[error("{0}")]
    StreamDisabled(create::Refusal),
    #[error("invalid multipart form : {}", chain(.0))]
    Multipart(#[from] MultipartError),
    #[error("missing file from multipart form")]
    MissingPart,
    #[error("missing file name from multipart form")]
    MissingPartName,
    #[error("invalid file status {0}, expected missing")]
    FileStatus(FileStatus),
    #[error("file too big (limit is set to {})", human(*.limit))]
    FileTooBig { limit: i64 },
    /// The client's fault, but clients know it as a failure of the server.
    #[error("unable to read data from request body : {}", chain(.0))]
    CutShort(MultipartError),

    #[error("Invalid download domain {0}")]
    DownloadDomain(String),
    #[error(
        "Messaging app link preview bots are not allowed to download one-shot or streaming files"
    )]
    PreviewBot,
    #[error("file {name} ({id}) is not available : {status}")]
    FileNotAvailable {
        name: String,
        id: String,
        status: FileStatus,
    },
    #[error("requested range not satisfiable")]
    Range { size_bytes: u64 },

    /// Not the client's fault. The text says what failed, the source why; neither is for clients.
    #[error("{action}")]
    Internal { action: String, source: BoxError },
}

impl ApiError {
    /// A failure of the server while it was to do `action`.
    pub fn internal(action: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Internal {
            action: action.into(),
            source: source.into(),
        }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute
            | Self::UploadNotFound(_)
            | Self::UploadExpired(_)
            | Self::FileNotFound(_)
            | Self::FileNotAvailable { .. } => StatusCode::NOT_FOUND,
            Self::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::InvalidToken
            | Self::UntrustedSource
            | Self::RemoveUpload
            | Self::RemoveFile
            | Self::AddFile => StatusCode::FORBIDDEN,
            Self::Credentials(_) => StatusCode::UNAUTHORIZED,
            Self::InvalidSource
            | Self::CreateUpload(_)
            | Self::ReadBody(_)
            | Self::ParseBody(_)
            | Self::InvalidFileName
            | Self::UploadIsFull { .. }
            | Self::CreateFile(_)
            | Self::StreamDisabled(_)
            | Self::Multipart(_)
            | Self::MissingPart
            | Self::MissingPartName
            | Self::FileStatus(_)
            | Self::FileTooBig { .. }
            | Self::DownloadDomain(_) => StatusCode::BAD_REQUEST,
            Self::PreviewBot => StatusCode::NOT_ACCEPTABLE,
            Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::CutShort(_) | Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The text for the client, without line end; `debug` adds what is only for administrators.
    pub fn text(&self, debug: bool) -> String {
        match self {
            Self::NoMethod => String::new(),
            Self::Internal { action, source } if debug => {
                format!("{action} : {}", chain(source.as_ref()))
            }
            Self::Internal { .. } => "internal server error".to_owned(),
            other => other.to_string(),
        }
    }

    /// The answer.
    pub fn response(&self, debug: bool) -> Response<Body> {
        let mut text = self.text(debug);
        if text.is_empty() {
            let mut response = Response::new(body::empty());
            *response.status_mut() = self.status();
            return response;
        }
        text.push('\n');
        let mut response = Response::new(body::full(text));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, super::TEXT);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        match self {
            Self::Credentials(_) => {
                let challenge = HeaderValue::from_static("Basic realm=\"plik\"");
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
            Self::Range { size_bytes } => {
                if let Ok(value) = HeaderValue::try_from(format!("bytes */{size_bytes}")) {
                    headers.insert(CONTENT_RANGE, value);
                }
            }
            _ => {}
        }
        response
    }
}

/// A permanent redirect, with the small page that browsers of old want.
pub fn moved_permanently(location: &str) -> Response<Body> {
    let page = format!("<a href=\"{location}\">Moved Permanently</a>.\n\n");
    let mut response = Response::new(body::full(page));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, html);
    redirect(response, location)
}

/// Points `response` to `location`, which is percent-encoded.
pub fn redirect(mut response: Response<Body>, location: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use http_body_util::BodyExt;

    use super::*;

    async fn text_of(response: Response<Body>) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_error_is_one_line_of_plain_text() {
        let response = ApiError::UploadNotFound("abc".into()).response(false);
        assert_eq!(response.status(), 404);
        assert_eq!(
            response.headers()["content-type"],
            "text/plain; charset=utf-8"
        );
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_eq!(text_of(response).await, "upload abc not found\n");
    }

    #[tokio::test]
    async fn failures_of_the_server_are_explained_in_debug_mode_only() {
        let error = ApiError::internal("unable to get upload", io::Error::other("disk on fire"));
        assert_eq!(error.response(false).status(), 500);
        assert_eq!(
            text_of(error.response(false)).await,
            "internal server error\n"
        );
        assert_eq!(
            text_of(error.response(true)).await,
            "unable to get upload : disk on fire\n"
        );
    }

    #[tokio::test]
    async fn a_wrong_method_has_no_text() {
        let response = ApiError::NoMethod.response(true);
        assert_eq!(response.status(), 405);
        assert!(response.headers().is_empty());
        assert_eq!(text_of(response).await, "");
    }

    #[test]
    fn credentials_are_asked_for_and_ranges_say_the_size() {
        let response = ApiError::Credentials("invalid credentials").response(false);
        assert_eq!(
            response.headers()["www-authenticate"],
            "Basic realm=\"plik\""
        );
        let response = ApiError::Range { size_bytes: 7 }.response(false);
        assert_eq!(response.headers()["content-range"], "bytes */7");
    }
}
