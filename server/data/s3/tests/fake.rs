//! A server that answers as a test says.

use std::sync::Mutex;

use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use tokio::net::TcpListener;

use super::*;

/// A server that answers as the test says, and remembers what it was asked.
pub(super) struct Fake {
    pub(super) endpoint: String,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
    /// What the signature of each `PUT` covers of its body.
    pub(super) signed: Arc<Mutex<Vec<String>>>,
}

pub(super) type Answer = fn(&Parts) -> Response;

impl Fake {
    pub(super) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let signed = Arc::new(Mutex::new(Vec::new()));
        let logs = (Arc::clone(&asked), Arc::clone(&signed));
        let app = axum::Router::new().fallback(move |request: Request| {
            let (log, signed) = logs.clone();
            async move {
                let (parts, body) = request.into_parts();
                if parts.method == "PUT"
                    && let Some(digest) = parts.headers.get("x-amz-content-sha256")
                {
                    let digest = digest.to_str().unwrap().to_owned();
                    signed.lock().unwrap().push(digest);
                }
                axum::body::to_bytes(body, 100 << 20).await.unwrap();
                log.lock()
                    .unwrap()
                    .push(format!("{} {}", parts.method, parts.uri));
                answer(&parts)
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            endpoint,
            asked,
            signed,
        }
    }

    pub(super) fn config(&self) -> S3Config {
        S3Config {
            endpoint: self.endpoint.clone(),
            bucket: "plik".into(),
            ..offline_config()
        }
    }

    pub(super) async fn open(&self) -> S3Backend {
        S3Backend::open(&self.config(), Access::Serve)
            .await
            .unwrap()
    }

    pub(super) fn was_asked(&self, beginning: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|a| a.starts_with(beginning)).count()
    }
}

pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response {
    let mut response = http::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

pub(super) const BEGUN: &str =
    "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>";
pub(super) const NO_SUCH_UPLOAD: &str = "<Error><Code>NoSuchUpload</Code></Error>";
/// The ETag of every part.
pub(super) const PART_E_TAG: &str = "\"5d41402abc4b2a76b9719d911017c592\"";

/// All of a multipart upload but its completion, of a blob of two parts.
pub(super) fn parts_are_taken(request: &Parts) -> Option<Response> {
    let query = request.uri.query().unwrap_or_default();
    match request.method.as_str() {
        "HEAD" if request.uri.path().trim_end_matches('/') == "/plik" => Some(answer(200, &[], "")),
        "POST" if query.starts_with("uploads") => Some(answer(200, &[], BEGUN)),
        "PUT" if query.contains("partNumber") => Some(answer(200, &[("etag", PART_E_TAG)], "")),
        "DELETE" => Some(answer(204, &[], "")),
        _ => None,
    }
}
