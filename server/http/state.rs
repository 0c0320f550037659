//! What every request needs, and what is known of a request besides its endpoint.

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Method};
use tokio_util::task::TaskTracker;

use super::domain;
use crate::config::Config;
use crate::data::DataBackend;
use crate::metadata::Metadata;
use crate::model::Timestamp;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The server behind the endpoints.
pub struct App {
    pub config: Config,
    pub metadata: Metadata,
    pub data: Arc<dyn DataBackend>,
    /// Work that must end even if its client goes away: every request, every one-shot download.
    pub tasks: TaskTracker,
    pub clock: Clock,
    /// Scheme, address and port at which the server listens.
    pub address: String,
}

impl App {
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The base of every link to a file.
    pub fn download_url(&self) -> String {
        domain::download_url(&self.config)
            .unwrap_or_else(|| format!("{}{}", self.address, self.config.path))
    }
}

/// Who sends a request, and how.
pub struct Caller {
    pub method: Method,
    pub headers: HeaderMap,
    pub source_ip: IpAddr,
    /// The `Host` header.
    pub host: String,
    /// Path and query as received.
    pub target: String,
    pub query: String,
}

impl Caller {
    pub fn new(parts: Parts, source_ip: IpAddr) -> Self {
        let target = parts.uri.path_and_query();
        Self {
            host: host(&parts),
            target: target.map_or("/", |target| target.as_str()).to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            method: parts.method,
            headers: parts.headers,
            source_ip,
        }
    }

    /// A header's value, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the web interface asks.
    pub fn is_web_client(&self) -> bool {
        self.header("x-clientapp") == Some("web_client")
    }
}

/// The host a request is for: that of the request line if it has one, else of the header.
pub fn host(parts: &Parts) -> String {
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let header = || parts.headers.get(http::header::HOST)?.to_str().ok();
    authority.or_else(header).unwrap_or_default().to_owned()
}
