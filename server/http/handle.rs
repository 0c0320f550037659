//! What holds for every request, whichever endpoint it is for.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::{HeaderValue, STRICT_TRANSPORT_SECURITY};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use percent_encoding::utf8_percent_encode;
use tracing::{debug, error, info};

use super::body::{self, Body, RequestBody};
use super::error::{ApiError, moved_permanently, redirect};
use super::router::{self, Endpoint, Route, SEGMENT, route};
use super::source_ip::source_ip;
use super::state::{App, Caller, host};
use super::{domain, download, file, info, quick, upload};

impl App {
    /// Answers one request of `peer`.
    ///
    /// The future must run to its end even if the client goes away: it leaves no file half
    /// uploaded.
    pub async fn handle(self: Arc<Self>, request: Request<Body>, peer: IpAddr) -> Response<Body> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let mut body = RequestBody::new(body, &parts.headers);
        let line = format!("{} {}", parts.method, parts.uri.path());
        // Whoever watches this server asks all the time.
        let is_logged = router::below(parts.uri.path(), &self.config.path) != Some("/health");
        let mut response = self.route(parts, &mut body, peer).await;
        body.drain().await;
        if self.config.assume_https {
            let value = HeaderValue::from_static("max-age=31536000");
            response
                .headers_mut()
                .insert(STRICT_TRANSPORT_SECURITY, value);
        }
        if is_logged {
            self.log(&line, &response, peer, started);
        }
        response
    }

    /// The answer to a request that made its handler panic.
    pub fn panicked(&self, cause: String) -> Response<Body> {
        self.refuse(&ApiError::internal("panic", cause))
    }

    async fn route(
        self: &Arc<Self>,
        parts: Parts,
        body: &mut RequestBody,
        peer: IpAddr,
    ) -> Response<Body> {
        if let Some(location) = self.elsewhere(&parts) {
            return redirected(StatusCode::FOUND, &location);
        }
        match route(&parts.method, parts.uri.path(), &self.config.path) {
            Ok(Route::To(endpoint)) => self.call(&endpoint, parts, body, peer).await,
            Ok(Route::Moved(path)) => {
                let location = match parts.uri.query() {
                    Some(query) => format!("{path}?{query}"),
                    None => path,
                };
                redirected(StatusCode::MOVED_PERMANENTLY, &location)
            }
            Err(error) => self.refuse(&error),
        }
    }

    /// Where a request must go that this domain does not serve.
    fn elsewhere(&self, parts: &Parts) -> Option<String> {
        let below = router::below(parts.uri.path(), &self.config.path)?;
        let target = parts.uri.path_and_query()?.as_str();
        domain::elsewhere(&self.config, &host(parts), below, target)
    }

    async fn call(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        parts: Parts,
        body: &mut RequestBody,
        peer: IpAddr,
    ) -> Response<Body> {
        let source = match endpoint {
            // Whoever watches this server may not pass the header that its clients pass.
            Endpoint::Health => Ok(peer),
            _ => source_ip(&parts.headers, peer, &self.config),
        };
        let caller = match source {
            Ok(source_ip) => Caller::new(parts, source_ip),
            Err(error) => return self.refuse(&error),
        };
        let is_download = matches!(endpoint, Endpoint::DownloadFile(_) | Endpoint::Preflight);
        let mut response = match self.answer(endpoint, &caller, body).await {
            Ok(response) => response,
            Err(error) if is_download => self.refuse_download(&error, &caller),
            Err(error) => self.refuse(&error),
        };
        if is_download {
            domain::add_cors_header(response.headers_mut(), &self.config);
        }
        response
    }

    async fn answer(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        caller: &Caller,
        body: &mut RequestBody,
    ) -> Result<Response<Body>, ApiError> {
        if endpoint.is_about_uploads() {
            self.check_token(caller)?;
        }
        match endpoint {
            Endpoint::Health => Ok(info::health()),
            Endpoint::Config => info::config(&self.config),
            Endpoint::Version => info::version(),
            Endpoint::Preflight => domain::preflight(&self.config).ok_or(ApiError::NoMethod),
            Endpoint::QuickUpload => quick::upload(self, caller, body).await,
            Endpoint::CreateUpload => upload::create(self, caller, body).await,
            Endpoint::GetUpload { upload_id } => upload::get(self, caller, upload_id).await,
            Endpoint::RemoveUpload { upload_id } => upload::remove(self, caller, upload_id).await,
            Endpoint::AddFile { upload_id } => file::add(self, caller, body, upload_id).await,
            Endpoint::UploadFile(path) => file::upload(self, caller, body, path).await,
            Endpoint::DownloadFile(path) => download::download(self, caller, path).await,
            Endpoint::RemoveFile(path) => file::remove(self, caller, path).await,
        }
    }

    /// Nobody has an account here, so no token is valid; but whoever presents one where tokens
    /// count does not want to be taken for somebody anonymous.
    fn check_token(&self, caller: &Caller) -> Result<(), ApiError> {
        let token = caller.headers.get("x-pliktoken");
        let is_presented = token.is_some_and(|token| !token.is_empty());
        if is_presented && self.config.feature_authentication.is_available() {
            return Err(ApiError::InvalidToken);
        }
        Ok(())
    }

    fn refuse(&self, error: &ApiError) -> Response<Body> {
        if let ApiError::Internal { action, source } = error {
            let error: &(dyn Error + 'static) = source.as_ref();
            error!(error, "{action}");
        }
        error.response(self.config.debug)
    }

    /// The web interface follows a link to a file and can only show an error as a page of its
    /// own. Credentials are asked for by the browser itself.
    fn refuse_download(&self, error: &ApiError, caller: &Caller) -> Response<Body> {
        let refused = self.refuse(error);
        if !caller.is_web_client() || matches!(error, ApiError::Credentials(_)) {
            return refused;
        }
        let text = error.text(self.config.debug);
        let location = format!(
            "{}/#/?err={}&errcode={}&uri={}",
            self.config.path,
            utf8_percent_encode(&text, SEGMENT),
            error.status().as_u16(),
            utf8_percent_encode(&caller.target, SEGMENT),
        );
        moved_permanently(&location)
    }

    fn log(&self, line: &str, response: &Response<Body>, peer: IpAddr, started: Instant) {
        let status = response.status().as_u16();
        let elapsed_ms = started.elapsed().as_millis() as u64;
        if self.config.debug_requests {
            info!(status, elapsed_ms, peer = %peer, "{line}");
        } else {
            debug!(status, elapsed_ms, peer = %peer, "{line}");
        }
    }
}

fn redirected(status: StatusCode, location: &str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    redirect(response, location)
}
