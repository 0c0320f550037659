//! Connections that break midway.

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Passes connections on to the S3 server, and cuts some of them.
struct Proxy {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

/// How many bytes of the `n`th connection pass in each direction; `None` for all.
type Limit = fn(usize) -> Option<u64>;

impl Proxy {
    async fn start(to: &str, upwards: Limit, downwards: Limit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (to, count) = (to.to_owned(), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let n = count.fetch_add(1, Ordering::Relaxed);
                let server = TcpStream::connect(&to).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(from_client, to_server, upwards(n)) => {}
                        () = pass(from_server, to_client, downwards(n)) => {}
                    }
                });
            }
        });
        Self {
            address,
            connections,
        }
    }
}

async fn pass(
    from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    limit: Option<u64>,
) {
    let mut from = from.take(limit.unwrap_or(u64::MAX));
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.flush().await;
}

fn all(_: usize) -> Option<u64> {
    None
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_download_goes_on_where_the_connection_broke() {
    let bucket = Bucket::new().await;
    let content = bytes(5_000_000, 1);
    let at = put(&*bucket.backend, &new_blob(), &content).await;
    // The first connection looks for the bucket and reads; it and the next break midway.
    let limits: Limit = |n| (n < 2).then_some(2_000_000);
    let proxy = Proxy::start(&bucket.config.endpoint, all, limits).await;
    let backend = bucket.through(proxy.address).await;
    assert!(get(&backend, &at, None).await == content);
    assert_eq!(proxy.connections.load(Ordering::Relaxed), 3);
    let range = 1_000_000..4_500_000;
    let proxy = Proxy::start(&bucket.config.endpoint, all, limits).await;
    let backend = bucket.through(proxy.address).await;
    assert!(get(&backend, &at, Some(range)).await == content.slice(1_000_000..4_500_000));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_download_does_not_go_on_with_another_blob() {
    let bucket = Bucket::new().await;
    let at = put(&*bucket.backend, &new_blob(), &bytes(5_000_000, 1)).await;
    let proxy = Proxy::start(&bucket.config.endpoint, all, |n| {
        (n == 0).then_some(4_000_000)
    })
    .await;
    let backend = bucket.through(proxy.address).await;
    let mut found = backend.get(&at, None).await.unwrap();
    found.body.next().await.unwrap().unwrap();
    put(&*bucket.backend, &at, &bytes(5_000_000, 2)).await;
    assert!(collect(found.body).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_download_that_breaks_again_and_again_is_an_error() {
    let bucket = Bucket::new().await;
    let at = put(&*bucket.backend, &new_blob(), &bytes(3_000_000, 1)).await;
    let proxy = Proxy::start(&bucket.config.endpoint, all, |_| Some(100_000)).await;
    let backend = bucket.through(proxy.address).await;
    let found = backend.get(&at, None).await.unwrap();
    let error = collect(found.body).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn an_upload_survives_a_connection_that_breaks() {
    let bucket = Bucket::new().await;
    for length in [3_000_000, 3 * PART_BYTES] {
        let limits: Limit = |n| (n < 2).then_some(1_000_000);
        let proxy = Proxy::start(&bucket.config.endpoint, limits, all).await;
        let backend = bucket.through(proxy.address).await;
        let at = put(&backend, &new_blob(), &bytes(length, 1)).await;
        assert!(proxy.connections.load(Ordering::Relaxed) > 2);
        assert_stored(&*bucket.backend, &at, &bytes(length, 1)).await;
        assert_eq!(bucket.leftovers().await, [] as [String; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn an_upload_whose_server_goes_away_fails_and_keeps_the_older_blob() {
    let bucket = Bucket::new().await;
    let older = put(&*bucket.backend, &new_blob(), &bytes(10, 1)).await;
    let proxy = Proxy::start(&bucket.config.endpoint, |_| Some(1_000_000), all).await;
    let backend = bucket.through(proxy.address).await;
    let content = bytes(PART_BYTES, 2);
    let error = backend.put(&older, body(&content), None).await;
    let error = error.err().unwrap();
    assert!(matches!(error, DataError::Unreachable { .. }), "{error:?}");
    assert_stored(&*bucket.backend, &older, &bytes(10, 1)).await;
}
