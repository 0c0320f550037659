//! Against a real S3 server, each test with a bucket of its own, and against servers that fail in
//! ways a real one rarely does. All over real sockets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use fake::{Fake, NO_SUCH_UPLOAD, PART_E_TAG, answer, parts_are_taken};

use super::*;
use crate::config::{BucketLookup, Secret};
use crate::data::contract::{
    PART_BYTES, Subject, assert_missing, assert_stored, body, bytes, collect, contract_tests, get,
    new_blob, put, transfer_of,
};
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

    async fn at(&self, place: &str) -> u64 {
        let bucket = format!("s3://{}/{}/", self.config.endpoint, self.config.bucket);
        let key = place.strip_prefix(&bucket).expect(place);
        let list = self.client().list_objects_v2().bucket(&self.config.bucket);
        let list = list.send().await.unwrap();
        let mut found = list.contents().iter();
        let found = found.find(|object| object.key() == Some(key));
        found.unwrap().size().unwrap() as u64
    }

    async fn put_as_older_release(&self, blob: &BlobRef, bytes: Bytes) {
        let key = BlobName::of(blob).unwrap().old_key(&self.config.prefix);
        self.put_object(&key, bytes).await;
    }
}

mod answers;
mod broken_connections;
mod completions;
mod copying;
mod encryption;
mod fake;
mod listing;
mod naming;
mod opening;
mod signatures;
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
