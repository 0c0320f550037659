//! The S3 server of the tests: `s3s-fs` behind a real listener, with SigV4 credentials.
//!
//! `s3-server --root DIR --access-key K --secret-key S [--port 0] [--ready-file F]` listens on
//! 127.0.0.1. Once it does, it prints `http://K:S@127.0.0.1:PORT` on a line of its own, and writes
//! the same into the ready file. A bucket is a directory of the root. SIGTERM and SIGINT stop it.

mod s3_faults;
mod s3_layer;

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use s3_faults::{Fault, Faults};

/// How long requests in flight may take to finish once the server is told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// An S3 server for tests, on 127.0.0.1
#[derive(Debug, Parser)]
struct Args {
    /// Directory of the buckets, created if it is absent
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    access_key: String,
    #[arg(long)]
    secret_key: String,
    /// 0 picks a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where to write the server's URL once it listens
    #[arg(long)]
    ready_file: Option<PathBuf>,
    /// Go wrong at the n-th request of an operation, such as `PutObject:3:503`
    #[arg(long = "fault", value_name = "OPERATION:N:FAULT")]
    faults: Vec<Fault>,
    /// Where to write a line for each fault that happens
    #[arg(long)]
    fault_log: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let service = service(&args)?;
    let faults = Faults::new(args.faults.clone(), args.fault_log.as_deref())?;
    let faults = Arc::new(faults);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port))
        .await
        .with_context(|| format!("cannot listen on port {}", args.port))?;
    announce(&args, listener.local_addr()?.port())?;

    let connections = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => serve(socket, &service, &faults, &connections),
                // Out of file descriptors, most likely: those in use come back.
                Err(error) => {
                    eprintln!("s3-server: cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    // Too slow is no failure: tests stop the server while clients still hold connections.
    let _ = tokio::time::timeout(GRACE, connections.shutdown()).await;
    Ok(())
}

fn service(args: &Args) -> anyhow::Result<S3Service> {
    std::fs::create_dir_all(&args.root)
        .with_context(|| format!("cannot create {}", args.root.display()))?;
    let layer = s3_layer::S3Layer::open(&args.root)?;
    let mut builder = S3ServiceBuilder::new(layer);
    builder.set_auth(SimpleAuth::from_single(
        args.access_key.clone(),
        args.secret_key.clone(),
    ));
    Ok(builder.build())
}

fn announce(args: &Args, port: u16) -> anyhow::Result<()> {
    let url = format!(
        "http://{}:{}@127.0.0.1:{port}",
        args.access_key, args.secret_key
    );
    if let Some(file) = &args.ready_file {
        write_at_once(file, &url).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{url}")?;
    stdout.flush()?;
    Ok(())
}

/// Whoever finds the file finds all of it.
fn write_at_once(file: &Path, text: &str) -> std::io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    std::fs::write(&new, format!("{text}\n"))?;
    std::fs::rename(&new, file)
}

fn serve(
    socket: TcpStream,
    service: &S3Service,
    faults: &Arc<Faults>,
    connections: &GracefulShutdown,
) {
    // Small answers are all that many requests get: they must not wait for more bytes to go with.
    let _ = socket.set_nodelay(true);
    let (service, faults) = (service.clone(), Arc::clone(faults));
    let service = service_fn(move |request| {
        let (service, faults) = (service.clone(), Arc::clone(&faults));
        async move { faults.answer(&service, request).await }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        // A client that goes away is what some tests are about.
        let _ = connection.await;
    });
}
