//! Against a real S3 server, each test with a bucket of its own, and against servers that fail in
//! ways a real one rarely does. All over real sockets.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::request::Parts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::{BucketLookup, DataConfig, Secret};
use crate::data::contract::{
    PART_BYTES, Subject, assert_missing, assert_stored, body, bytes, collect, contract_tests, get,
    new_blob, put, transfer_of,
};
use crate::data::{Listed, s3::part::e_tags_prove};
use crate::model::{BackendDetails, id};

struct Bucket {
    config: S3Config,
    backend: Arc<S3Backend>,
}

impl S3Backend {
    /// As a server opens it.
    async fn open(config: &S3Config, access: Access) -> Result<Self, DataError> {
        Self::open_with(config, access, Tuning::default()).await
    }
}

/// A configuration for a bucket that does not exist yet.
fn config() -> S3Config {
    let url = std::env::var("PLIKD_TEST_S3").expect("PLIKD_TEST_S3 is set");
    let (keys, endpoint) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('@'))
        .expect("PLIKD_TEST_S3 is http://KEY:SECRET@HOST:PORT");
    let (access_key_id, secret_access_key) = keys.split_once(':').unwrap();
    let name = id::crockford(16, &mut rand::rng());
    S3Config {
        endpoint: endpoint.into(),
        access_key_id: access_key_id.into(),
        secret_access_key: Secret::new(secret_access_key),
        bucket: format!("plikd-test-{name}"),
        ..offline_config()
    }
}

fn offline_config() -> S3Config {
    S3Config {
        endpoint: String::new(),
        access_key_id: "key".into(),
        secret_access_key: Secret::new("secret"),
        bucket: "plik".into(),
        location: "us-east-1".into(),
        prefix: String::new(),
        use_ssl: false,
        part_size: PART_BYTES as u64,
        sse: Sse::None,
        part_upload_concurrency: 2,
        send_content_md5: false,
        bucket_lookup: BucketLookup::Auto,
    }
}

impl Bucket {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut S3Config)) -> Self {
        let mut config = config();
        change(&mut config);
        let backend = S3Backend::open(&config, Access::Serve).await.unwrap();
        Self {
            config,
            backend: Arc::new(backend),
        }
    }

    /// With all that a setting can add to a request.
    async fn encrypted() -> Self {
        Self::with(|config| {
            config.sse = Sse::Customer;
            config.prefix = "some/where".into();
            config.send_content_md5 = true;
        })
        .await
    }

    /// The same bucket, by way of `endpoint`.
    async fn through(&self, endpoint: SocketAddr) -> S3Backend {
        let config = S3Config {
            endpoint: endpoint.to_string(),
            ..self.config.clone()
        };
        S3Backend::open(&config, Access::Serve).await.unwrap()
    }

    fn client(&self) -> &Client {
        &self.backend.store.client
    }

    async fn keys(&self) -> Vec<String> {
        let list = self.client().list_objects_v2().bucket(&self.config.bucket);
        let list = list.send().await.unwrap();
        let keys = list.contents().iter().filter_map(|object| object.key());
        keys.map(str::to_owned).collect()
    }

    async fn put_object(&self, key: &str, bytes: Bytes) {
        let put = self.client().put_object().bucket(&self.config.bucket);
        put.key(key).body(bytes.into()).send().await.unwrap();
    }
}

#[async_trait]
impl Subject for Bucket {
    fn backend(&self) -> Arc<dyn DataBackend> {
        self.backend.clone()
    }

    async fn leftovers(&self) -> Vec<String> {
        let list = self.client().list_multipart_uploads();
        let list = list.bucket(&self.config.bucket).send().await.unwrap();
        let keys = list.uploads().iter().filter_map(|upload| upload.key());
        keys.map(str::to_owned).collect()
    }

    async fn put_as_older_release(&self, blob: &BlobRef, bytes: Bytes) {
        let key = BlobName::of(blob).unwrap().old_key(&self.config.prefix);
        self.put_object(&key, bytes).await;
    }
}

mod copying;
mod trial;

mod plain {
    use super::*;
    contract_tests!(Bucket::new(), [ignore = "needs S3: set PLIKD_TEST_S3"]);
}

mod encrypted {
    use super::*;
    contract_tests!(
        Bucket::encrypted(),
        [ignore = "needs S3: set PLIKD_TEST_S3"]
    );
}

#[test]
fn an_e_tag_is_an_md5_unless_it_was_made_of_parts() {
    let md5 = md5_of_e_tag("\"5d41402abc4b2a76b9719d911017c592\"").unwrap();
    assert_eq!((md5[0], md5[15]), (0x5d, 0x92));
    for e_tag in [
        "\"5d41402abc4b2a76b9719d911017c592-2\"",
        "\"\"",
        "\"5d41402abc4b2a76b9719d911017c59g\"",
        "\"ä5d41402abc4b2a76b9719d911017c5\"",
    ] {
        assert_eq!(md5_of_e_tag(e_tag), None, "{e_tag}");
    }
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn an_object_has_the_name_and_type_that_older_releases_look_for() {
    let bucket = Bucket::with(|config| config.prefix = "pre".into()).await;
    let to = new_blob();
    put(&*bucket.backend, &to, &bytes(5, 1)).await;
    let key = format!("pre/{}.{}", to.upload_id, to.file_id);
    let head = bucket.client().head_object().bucket(&bucket.config.bucket);
    let head = head.key(&key).send().await.unwrap();
    assert_eq!(bucket.keys().await, [key]);
    assert_eq!(head.content_type(), Some("text/plain"));
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_content_type_that_no_header_can_hold_is_no_obstacle() {
    let bucket = Bucket::new().await;
    for content_type in ["", "text/plain\r\nX-Evil: 1", "téxt/plain"] {
        let to = BlobRef {
            content_type: content_type.into(),
            ..new_blob()
        };
        let at = put(&*bucket.backend, &to, &bytes(5, 1)).await;
        assert_stored(&*bucket.backend, &at, &bytes(5, 1)).await;
    }
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn the_newer_name_is_read_first_and_both_are_removed() {
    let bucket = Bucket::new().await;
    let at = put(&*bucket.backend, &new_blob(), &bytes(5, 1)).await;
    bucket.put_as_older_release(&at, bytes(6, 2)).await;
    assert_stored(&*bucket.backend, &at, &bytes(5, 1)).await;
    bucket.backend.remove(&at).await.unwrap();
    assert_eq!(bucket.keys().await, [] as [String; 0]);
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn an_encrypted_blob_is_unreadable_without_its_key() {
    let bucket = Bucket::encrypted().await;
    for length in [10, PART_BYTES + 1] {
        let to = new_blob();
        let at = put(&*bucket.backend, &to, &bytes(length, 1)).await;
        assert_eq!(at.details.sse_key().unwrap().len(), 32);
        let with_other_key = BlobRef {
            details: BackendDetails::with_sse_key(&"x".repeat(32)),
            ..to.clone()
        };
        for locked_out in [&to, &with_other_key] {
            assert!(bucket.backend.get(locked_out, None).await.is_err());
            assert!(bucket.backend.stat(locked_out).await.is_err());
        }
        // The ETag of an encrypted object is no MD5.
        assert_eq!(bucket.backend.stat(&at).await.unwrap().unwrap().md5, None);
    }
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_blob_stays_readable_when_the_setting_changes() {
    let encrypted = Bucket::encrypted().await;
    let config = S3Config {
        sse: Sse::None,
        ..encrypted.config.clone()
    };
    let plain = S3Backend::open(&config, Access::ReadOnly).await.unwrap();
    let at = put(&*encrypted.backend, &new_blob(), &bytes(10, 1)).await;
    assert_stored(&plain, &at, &bytes(10, 1)).await;
    assert_eq!(get(&plain, &at, Some(3..5)).await, bytes(10, 1).slice(3..5));

    // Written again without: the key goes, and one that stayed behind does no harm.
    let again = put(&plain, &at, &bytes(20, 2)).await;
    assert_eq!(again.details.sse_key(), None);
    assert_stored(&plain, &again, &bytes(20, 2)).await;
    assert_stored(&*encrypted.backend, &at, &bytes(20, 2)).await;
    encrypted.backend.remove(&at).await.unwrap();
    assert_missing(&plain, &again).await;
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn an_encrypted_blob_can_be_removed_without_its_key() {
    let bucket = Bucket::encrypted().await;
    let to = new_blob();
    put(&*bucket.backend, &to, &bytes(10, 1)).await;
    bucket.backend.remove(&to).await.unwrap();
    assert_eq!(bucket.keys().await, [] as [String; 0]);
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn the_md5_of_a_blob_in_one_part_is_known() {
    let bucket = Bucket::new().await;
    let at = put(&*bucket.backend, &new_blob(), &bytes(10, 1)).await;
    let stat = bucket.backend.stat(&at).await.unwrap().unwrap();
    assert!(stat.md5.is_some());
    let at = put(&*bucket.backend, &new_blob(), &bytes(PART_BYTES + 1, 1)).await;
    let stat = bucket.backend.stat(&at).await.unwrap().unwrap();
    assert_eq!(stat.md5, None);
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_bucket_that_is_absent_is_created_to_serve_only() {
    let config = config();
    let error = S3Backend::open(&config, Access::ReadOnly).await;
    let error = error.err().unwrap();
    assert!(
        matches!(error, DataError::BucketMissing { .. }),
        "{error:?}"
    );

    let probe = S3Backend::open(&config, Access::Probe).await.unwrap();
    assert!(probe.is_absent());
    assert_missing(&probe, &new_blob()).await;
    probe.remove(&new_blob()).await.unwrap();
    assert!(S3Backend::open(&config, Access::ReadOnly).await.is_err());

    let both = (
        S3Backend::open(&config, Access::Serve),
        S3Backend::open(&config, Access::Serve),
    );
    let (one, other) = tokio::join!(both.0, both.1);
    assert!(!one.unwrap().is_absent() && !other.unwrap().is_absent());
    let probe = S3Backend::open(&config, Access::Probe).await.unwrap();
    assert!(!probe.is_absent());
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn wrong_credentials_are_refused_and_never_shown() {
    for access in [Access::Serve, Access::ReadOnly, Access::Probe] {
        let config = S3Config {
            secret_access_key: Secret::new("not-the-secret"),
            ..config()
        };
        let error = S3Backend::open(&config, access).await.err().unwrap();
        assert!(matches!(error, DataError::Denied { .. }), "{error:?}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        let expected = format!("unable to check if bucket {} exists : 403", config.bucket);
        assert!(cause.starts_with(&expected), "{cause}");
        assert!(cause.contains("SignatureDoesNotMatch"), "{cause}");
        assert!(!format!("{error:?} {cause}").contains("not-the-secret"));
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_unreachable() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = closed.local_addr().unwrap().to_string();
    drop(closed);
    for use_ssl in [false, true] {
        let config = DataConfig::S3(S3Config {
            endpoint: endpoint.clone(),
            use_ssl,
            ..offline_config()
        });
        let opened = crate::data::open(&config, Access::Serve).await;
        let error = opened.err().unwrap();
        assert!(matches!(error, DataError::Unreachable { .. }), "{error:?}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("refused"), "{cause}");
    }
}

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

/// A server that answers as the test says, and remembers what it was asked.
struct Fake {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
    /// What the signature of each `PUT` covers of its body.
    signed: Arc<Mutex<Vec<String>>>,
}

type Answer = fn(&Parts) -> Response;

impl Fake {
    async fn start(answer: Answer) -> Self {
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

    fn config(&self) -> S3Config {
        S3Config {
            endpoint: self.endpoint.clone(),
            bucket: "plik".into(),
            ..offline_config()
        }
    }

    async fn open(&self) -> S3Backend {
        S3Backend::open(&self.config(), Access::Serve)
            .await
            .unwrap()
    }

    fn was_asked(&self, beginning: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|a| a.starts_with(beginning)).count()
    }
}

fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response {
    let mut response = http::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

const BEGUN: &str =
    "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>";
const NO_SUCH_UPLOAD: &str = "<Error><Code>NoSuchUpload</Code></Error>";
/// The ETag of every part.
const PART_E_TAG: &str = "\"5d41402abc4b2a76b9719d911017c592\"";

/// All of a multipart upload but its completion, of a blob of two parts.
fn parts_are_taken(request: &Parts) -> Option<Response> {
    let query = request.uri.query().unwrap_or_default();
    match request.method.as_str() {
        "HEAD" if request.uri.path().trim_end_matches('/') == "/plik" => Some(answer(200, &[], "")),
        "POST" if query.starts_with("uploads") => Some(answer(200, &[], BEGUN)),
        "PUT" if query.contains("partNumber") => Some(answer(200, &[("etag", PART_E_TAG)], "")),
        "DELETE" => Some(answer(204, &[], "")),
        _ => None,
    }
}

async fn put_two_parts(fake: &Fake) -> Result<Stored, DataError> {
    let backend = fake.open().await;
    let content = bytes(PART_BYTES + 1, 1);
    backend.put(&new_blob(), body(&content), None).await
}

#[tokio::test]
async fn a_completion_that_fails_behind_its_status_is_an_error() {
    let fake = Fake::start(|request| {
        parts_are_taken(request).unwrap_or_else(|| match request.method.as_str() {
            "POST" => answer(
                200,
                &[],
                "<Error><Code>AccessDenied</Code><Message>no</Message></Error>",
            ),
            _ => answer(404, &[], ""),
        })
    })
    .await;
    assert!(put_two_parts(&fake).await.is_err());
    assert_eq!(fake.was_asked("DELETE"), 1, "it is aborted");
}

#[tokio::test]
async fn a_completion_that_leaves_no_object_is_an_error() {
    let fake = Fake::start(|request| {
        parts_are_taken(request).unwrap_or_else(|| match request.method.as_str() {
            "POST" => answer(
                200,
                &[],
                "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>",
            ),
            _ => answer(404, &[], ""),
        })
    })
    .await;
    let error = put_two_parts(&fake).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "the object is not there");
}

#[tokio::test]
async fn a_completion_whose_answer_got_lost_is_recognised_by_the_object() {
    let fake = Fake::start(|request| {
        parts_are_taken(request).unwrap_or_else(|| match request.method.as_str() {
            "POST" => answer(404, &[], NO_SUCH_UPLOAD),
            _ => answer(
                200,
                &[
                    ("content-length", "5242881"),
                    ("etag", "\"616b22817b80eed9f65c3aa38cd29054-2\""),
                ],
                "",
            ),
        })
    })
    .await;
    put_two_parts(&fake).await.unwrap();
    assert_eq!(fake.was_asked("DELETE"), 0);
}

#[tokio::test]
async fn an_upload_that_is_gone_does_not_count_as_stored() {
    let fake = Fake::start(|request| {
        parts_are_taken(request).unwrap_or_else(|| match request.method.as_str() {
            "POST" => answer(404, &[], NO_SUCH_UPLOAD),
            // An older blob, of the same size.
            _ => answer(
                200,
                &[
                    ("content-length", "5242881"),
                    ("etag", "\"00000000000000000000000000000000-2\""),
                ],
                "",
            ),
        })
    })
    .await;
    assert!(put_two_parts(&fake).await.is_err());
}

#[tokio::test]
async fn a_bucket_in_another_region_is_found() {
    let fake = Fake::start(|request| {
        let signature = request.headers["authorization"].to_str().unwrap();
        if signature.contains("/eu-west-3/") {
            answer(200, &[], "")
        } else {
            answer(301, &[("x-amz-bucket-region", "eu-west-3")], "")
        }
    })
    .await;
    let backend = fake.open().await;
    assert!(!backend.is_absent());
}

#[tokio::test]
async fn a_region_that_only_the_bucket_location_tells_is_found() {
    let fake = Fake::start(|request| {
        let signature = request.headers["authorization"].to_str().unwrap();
        match request.uri.query() {
            Some(query) if query.contains("location") => {
                answer(200, &[], "<LocationConstraint>garage</LocationConstraint>")
            }
            _ if signature.contains("/garage/") => answer(200, &[], ""),
            _ => answer(400, &[], ""),
        }
    })
    .await;
    fake.open().await;
}

#[tokio::test]
async fn refusal_is_not_taken_for_absence() {
    let fake = Fake::start(|request| {
        if request.uri.path().trim_end_matches('/') == "/plik" {
            answer(200, &[], "")
        } else {
            answer(403, &[], "")
        }
    })
    .await;
    let backend = fake.open().await;
    let errors = [
        backend.get(&new_blob(), None).await.err().unwrap(),
        backend.stat(&new_blob()).await.unwrap_err(),
        backend.remove(&new_blob()).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, DataError::Denied { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn every_version_of_an_object_is_deleted() {
    static VERSIONS: AtomicUsize = AtomicUsize::new(3);
    let fake = Fake::start(|request| {
        let path = request.uri.path().trim_end_matches('/');
        let left = VERSIONS.load(Ordering::Relaxed);
        match request.method.as_str() {
            "HEAD" if path == "/plik" => answer(200, &[], ""),
            "HEAD" if left > 0 && path.contains('.') => answer(
                200,
                &[("x-amz-version-id", "v"), ("content-length", "1")],
                "",
            ),
            "DELETE" => {
                assert!(request.uri.query().unwrap().contains("versionId=v"));
                VERSIONS.fetch_sub(1, Ordering::Relaxed);
                answer(204, &[], "")
            }
            _ => answer(404, &[], ""),
        }
    })
    .await;
    fake.open().await.remove(&new_blob()).await.unwrap();
    assert_eq!(VERSIONS.load(Ordering::Relaxed), 0);
    assert_eq!(fake.was_asked("DELETE"), 3);
}

#[tokio::test]
async fn a_request_that_fails_for_a_while_is_tried_again() {
    static FAILURES: AtomicUsize = AtomicUsize::new(0);
    let fake = Fake::start(|request| {
        if request.method == "PUT" && FAILURES.fetch_add(1, Ordering::Relaxed) < 2 {
            return answer(503, &[], "<Error><Code>SlowDown</Code></Error>");
        }
        answer(200, &[], "")
    })
    .await;
    let backend = fake.open().await;
    let at = put(&backend, &new_blob(), &bytes(10, 1)).await;
    assert_eq!(at.details.sse_key(), None);
    assert_eq!(fake.was_asked("PUT"), 3);
}

#[tokio::test]
async fn a_server_that_ignores_the_range_is_found_out() {
    let fake = Fake::start(|_| answer(200, &[("content-length", "5")], "hello")).await;
    let backend = fake.open().await;
    assert_eq!(get(&backend, &new_blob(), None).await, "hello");
    assert!(backend.get(&new_blob(), Some(1..3)).await.is_err());
}

#[tokio::test]
async fn the_server_is_asked_to_encrypt_with_a_key_of_its_own() {
    let fake = Fake::start(|request| {
        if request.method == "PUT" {
            assert_eq!(request.headers["x-amz-server-side-encryption"], "AES256");
        }
        answer(200, &[], "")
    })
    .await;
    let config = S3Config {
        sse: Sse::S3,
        ..fake.config()
    };
    let backend = S3Backend::open(&config, Access::Serve).await.unwrap();
    let at = put(&backend, &new_blob(), &bytes(10, 1)).await;
    assert_eq!(at.details, BackendDetails::default());
    assert_eq!(fake.was_asked("PUT"), 1);
}

#[tokio::test]
async fn every_body_is_signed_and_has_its_md5_if_wanted() {
    fn check(request: &Parts, md5: Option<&str>) -> Response {
        if request.method == "PUT" {
            assert_eq!(
                request.headers["x-amz-content-sha256"],
                "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
            );
            let given = request.headers.get("content-md5");
            assert_eq!(given.map(|value| value.to_str().unwrap()), md5);
            assert_eq!(request.headers["content-length"], "5");
            let names = request.headers.keys().map(|name| name.as_str());
            let checksums = names.filter(|name| name.starts_with("x-amz-checksum"));
            assert_eq!(checksums.count(), 0, "other servers refuse them");
        }
        answer(200, &[], "")
    }
    let plain = Fake::start(|request| check(request, None)).await;
    let with_md5 = Fake::start(|request| check(request, Some("XUFAKrxLKna5cZ2REBfFkg=="))).await;
    let config = S3Config {
        send_content_md5: true,
        ..with_md5.config()
    };
    let with_md5 = S3Backend::open(&config, Access::Serve).await.unwrap();
    for backend in [plain.open().await, with_md5] {
        let hello = Bytes::from_static(b"hello");
        backend.put(&new_blob(), body(&hello), None).await.unwrap();
    }
}

/// Stores blobs of 5 bytes as a migration does, and answers with the digests that were signed.
async fn signed_digests(fake: &Fake, blobs: usize) -> Vec<String> {
    let backend = fake.open().await;
    for _ in 0..blobs {
        let transfer = transfer_of(&Bytes::from_static(b"hello"));
        let stored = backend.put_all_of(&new_blob(), transfer).await.unwrap();
        assert_eq!(stored.size_bytes, 5);
    }
    let signed = fake.signed.lock().unwrap();
    signed.clone()
}

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const HELLO_SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[tokio::test]
async fn bytes_that_their_e_tag_proves_need_no_signature() {
    let fake = Fake::start(|request| {
        if request.method == "PUT" {
            assert_eq!(request.headers["content-md5"], "XUFAKrxLKna5cZ2REBfFkg==");
        }
        answer(200, &[("etag", PART_E_TAG)], "")
    })
    .await;
    assert_eq!(signed_digests(&fake, 2).await, [UNSIGNED, UNSIGNED]);
}

#[tokio::test]
async fn bytes_that_no_e_tag_proves_are_signed() {
    let fake = Fake::start(|_| answer(200, &[("etag", "\"0123\"")], "")).await;
    let digests = signed_digests(&fake, 2).await;
    assert_eq!(digests, [UNSIGNED, HELLO_SHA256, HELLO_SHA256]);
}

#[tokio::test]
async fn bytes_are_signed_where_unsigned_ones_are_refused() {
    for status in [400, 403, 501] {
        static STATUS: AtomicUsize = AtomicUsize::new(0);
        STATUS.store(status, Ordering::Relaxed);
        let fake = Fake::start(|request| {
            let signed = request.headers["x-amz-content-sha256"] != UNSIGNED;
            match signed {
                true => answer(200, &[("etag", PART_E_TAG)], ""),
                false => answer(STATUS.load(Ordering::Relaxed) as u16, &[], ""),
            }
        })
        .await;
        let digests = signed_digests(&fake, 2).await;
        let unsigned = digests.iter().filter(|digest| *digest == UNSIGNED).count();
        assert_eq!(digests.len() - unsigned, 2, "{digests:?}");
        assert_eq!(digests[digests.len() - 1], HELLO_SHA256);
    }
}

#[test]
fn an_e_tag_is_believed_only_where_nobody_can_change_it() {
    let config = |endpoint: &str, use_ssl, sse| S3Config {
        endpoint: endpoint.into(),
        use_ssl,
        sse,
        ..offline_config()
    };
    for (endpoint, use_ssl, sse, believed) in [
        ("s3.example.com", true, Sse::None, true),
        ("s3.example.com", false, Sse::None, false),
        ("s3.example.com", true, Sse::Customer, false),
        ("127.0.0.1:9000", false, Sse::S3, true),
        ("localhost:9000", false, Sse::None, true),
        ("[::1]:9000", false, Sse::None, true),
        ("10.0.0.1:9000", false, Sse::None, false),
        ("127.0.0.1.example.com", false, Sse::None, false),
    ] {
        let config = config(endpoint, use_ssl, sse);
        assert_eq!(e_tags_prove(&config), believed, "{endpoint} {use_ssl}");
    }
}

async fn listed(fake: &Fake) -> Result<Vec<String>, DataError> {
    let batches: Vec<Vec<Listed>> = fake.open().await.list().try_collect().await?;
    let ids = batches.into_iter().flatten().map(|listed| listed.file_id);
    Ok(ids.collect())
}

#[tokio::test]
async fn a_listing_goes_on_to_its_last_page() {
    let fake = Fake::start(|request| match request.uri.query() {
        Some(query) if query.contains("continuation-token=two") => answer(
            200,
            &[],
            "<ListBucketResult><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>\
             <Contents><Key>upload.file2</Key><Size>5</Size></Contents>\
             <Contents><Key>other%01thing</Key><Size>5</Size></Contents></ListBucketResult>",
        ),
        Some(query) if query.contains("list-type=2") => answer(
            200,
            &[],
            "<ListBucketResult><IsTruncated>true</IsTruncated>\
             <NextContinuationToken>two</NextContinuationToken>\
             <Contents><Key>upload.file1</Key><Size>5</Size></Contents></ListBucketResult>",
        ),
        _ => answer(200, &[], ""),
    })
    .await;
    assert_eq!(listed(&fake).await.unwrap(), ["file1", "file2"]);
}

#[tokio::test]
async fn a_server_that_knows_the_older_listing_only_is_listed() {
    let fake = Fake::start(|request| match request.uri.query() {
        Some(query) if query.contains("list-type=2") => {
            answer(501, &[], "<Error><Code>NotImplemented</Code></Error>")
        }
        Some(query) if query.contains("marker=upload.file1") => answer(
            200,
            &[],
            "<ListBucketResult><IsTruncated>false</IsTruncated>\
             <Contents><Key>upload.file2</Key><Size>5</Size></Contents></ListBucketResult>",
        ),
        _ => answer(
            200,
            &[],
            "<ListBucketResult><IsTruncated>true</IsTruncated>\
             <Contents><Key>upload.file1</Key><Size>5</Size></Contents></ListBucketResult>",
        ),
    })
    .await;
    assert_eq!(listed(&fake).await.unwrap(), ["file1", "file2"]);
}

#[tokio::test]
async fn a_listing_that_fails_is_no_empty_store() {
    let refused = Fake::start(|request| match request.method.as_str() {
        "HEAD" => answer(200, &[], ""),
        _ => answer(403, &[], "<Error><Code>AccessDenied</Code></Error>"),
    })
    .await;
    let error = listed(&refused).await.unwrap_err();
    assert!(matches!(error, DataError::Denied { .. }), "{error:?}");
    let cut_off = Fake::start(|_| {
        answer(
            200,
            &[],
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        )
    })
    .await;
    assert!(listed(&cut_off).await.is_err());
}
