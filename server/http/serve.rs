//! Connections: accepted, bounded, served, and ended when the server stops.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::body::Body;
use super::progress::Progress;
use super::state::App;
use super::tls::{self, TlsError};
use crate::config::Config;
use crate::data::BoxError;

/// Time to send the head of a request, or the next one on the same connection.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Time to agree on TLS.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Longest head of a request.
const HEAD_BYTES: usize = 32 * 1024;
/// What a connection reads or writes at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long a client may read nothing of what it is sent, as it may send nothing of an upload.
const STALL_TIME: Duration = Duration::from_secs(300);
/// How long a closed connection waits for its client to read the answer.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// What running requests get when the server stops.
const GRACE_TIME: Duration = Duration::from_secs(60);
/// What they get to clean up once their connections are cut.
const CLEANUP_TIME: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted, which a retry at once would not change.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("unable to listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl ServeError {
    /// What the administrator can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    Some("stop what listens there, or choose another ListenPort".to_owned())
                }
                io::ErrorKind::PermissionDenied => {
                    Some("ports below 1024 need a privilege; choose a higher ListenPort".to_owned())
                }
                _ => Some("check ListenAddress and ListenPort".to_owned()),
            },
            Self::Tls(error) => Some(error.hint()),
        }
    }
}

/// Tells the server to stop.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Accept nothing more, finish what runs.
    pub ask: CancellationToken,
    /// Cut what still runs.
    pub insist: CancellationToken,
}

/// A socket that listens.
pub struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
    host: String,
    address: SocketAddr,
}

impl Listener {
    /// Listens as configured; port 0 is any free one.
    pub async fn bind(config: &Config) -> Result<Self, ServeError> {
        let tls = config
            .ssl_enabled
            .then(|| tls::acceptor(config))
            .transpose()?;
        let (host, port) = (config.listen_address.as_str(), config.listen_port);
        let failed = |source| ServeError::Listen {
            address: format!("{}:{port}", bracketed(host)),
            source,
        };
        let socket = TcpListener::bind((host, port)).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self {
            socket,
            tls,
            host: host.to_owned(),
            address,
        })
    }

    /// Where it listens: scheme, address as configured, port as it is.
    pub fn url(&self) -> String {
        self.url_of(&self.host)
    }

    /// Where a client on this machine reaches it.
    pub fn local_url(&self) -> String {
        match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => self.url_of("127.0.0.1"),
            IpAddr::V6(ip) if ip.is_unspecified() => self.url_of(&Ipv6Addr::LOCALHOST.to_string()),
            _ => self.url(),
        }
    }

    fn url_of(&self, host: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", bracketed(host), self.address.port())
    }
}

/// Serves until `shutdown` asks to stop and what runs has ended, or is cut after a minute.
///
/// At most `max_connections` are open at a time; more wait to be accepted.
pub async fn serve(listener: Listener, app: Arc<App>, max_connections: usize, shutdown: &Shutdown) {
    let connections = TaskTracker::new();
    accept(listener, &app, &connections, max_connections, shutdown).await;

    connections.close();
    app.tasks.close();
    let ended = async {
        connections.wait().await;
        app.tasks.wait().await;
    };
    tokio::pin!(ended);
    tokio::select! {
        () = &mut ended => return,
        () = shutdown.insist.cancelled() => {}
        () = sleep(GRACE_TIME) => warn!("some requests still run and are cut"),
    }
    shutdown.insist.cancel();
    if timeout(CLEANUP_TIME, ended).await.is_err() {
        warn!("some requests could not clean up in time");
    }
}

/// Accepts connections until asked to stop; the listener is closed then.
async fn accept(
    listener: Listener,
    app: &Arc<App>,
    connections: &TaskTracker,
    max_connections: usize,
    shutdown: &Shutdown,
) {
    let slots = Arc::new(Semaphore::new(max_connections));
    let next = async || {
        let slot = Arc::clone(&slots).acquire_owned().await;
        (slot, listener.socket.accept().await)
    };
    loop {
        let (slot, accepted) = tokio::select! {
            biased;
            () = shutdown.ask.cancelled() => return,
            next = next() => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let app = Arc::clone(app);
                let (tls, shutdown) = (listener.tls.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection(app, stream, peer.ip(), tls, &shutdown).await;
                    drop(slot);
                });
            }
            Err(error) => {
                let error = error.to_string();
                warn!(error, "unable to accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    app: Arc<App>,
    stream: TcpStream,
    peer: IpAddr,
    tls: Option<TlsAcceptor>,
    shutdown: &Shutdown,
) {
    // Answers are written whole; waiting to fill a packet would only delay their ends.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "unable to set TCP_NODELAY");
    }
    let stream = Progress::new(stream, STALL_TIME);
    let Some(tls) = tls else {
        return requests(app, stream, peer, shutdown).await;
    };
    match timeout(HANDSHAKE_TIME, tls.accept(stream)).await {
        Ok(Ok(stream)) => requests(app, stream, peer, shutdown).await,
        Ok(Err(error)) => debug!(%peer, %error, "no TLS connection"),
        Err(_) => debug!(%peer, "no TLS connection in time"),
    }
}

/// Serves the requests of one connection, until either side ends it.
async fn requests<S>(app: Arc<App>, stream: S, peer: IpAddr, shutdown: &Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let app = Arc::clone(&app);
        // Boxed because only a connection whose futures can move gives its socket back.
        Box::pin(async move { Ok::<_, Infallible>(respond(app, request, peer).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut is_asked = false;
    let result = loop {
        tokio::select! {
            biased;
            () = shutdown.insist.cancelled() => return,
            () = shutdown.ask.cancelled(), if !is_asked => {
                Pin::new(&mut connection).graceful_shutdown();
                is_asked = true;
            }
            result = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break result,
        }
    };
    if let Err(error) = result {
        debug!(%peer, %error, "connection ended early");
    }
    let stream = connection.into_parts().io.into_inner();
    tokio::select! {
        () = linger(stream) => {}
        () = shutdown.insist.cancelled() => {}
    }
}

/// Answers one request. It runs as a task of its own, which survives the connection and whose
/// panic is an answer.
async fn respond(app: Arc<App>, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
    let request = request.map(|body| BodyExt::boxed_unsync(body.map_err(BoxError::from)));
    let task = app.tasks.spawn(Arc::clone(&app).handle(request, peer));
    match task.await {
        Ok(response) => response,
        Err(error) => app.panicked(panic_message(error)),
    }
}

fn panic_message(error: tokio::task::JoinError) -> String {
    let Ok(cause) = error.try_into_panic() else {
        return "the request was cancelled".to_owned();
    };
    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| cause.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Closes a connection in both directions, one after the other. Closing it at once while the
/// client still sends would make the client's system drop the answer unread.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut buffer = vec![0; 8 * 1024];
        while let Ok(1..) = stream.read(&mut buffer).await {}
    };
    // A client that keeps sending is cut, it had its time.
    let _ = timeout(LINGER_TIME, drain).await;
}

/// An IPv6 address as it stands in a URL; anything else as it is.
fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_explained_by_its_message() {
        let literal = tokio::spawn(async { panic!("why") }).await;
        assert_eq!(panic_message(literal.unwrap_err()), "why");
        let formatted = tokio::spawn(async { panic!("why {}", 5) }).await;
        assert_eq!(panic_message(formatted.unwrap_err()), "why 5");
        let cancelled = tokio::spawn(std::future::pending::<()>());
        cancelled.abort();
        let message = panic_message(cancelled.await.unwrap_err());
        assert_eq!(message, "the request was cancelled");
    }

    #[test]
    fn ipv6_addresses_are_bracketed_in_urls() {
        assert_eq!(bracketed("::1"), "[::1]");
        assert_eq!(bracketed("localhost"), "localhost");
    }
}
