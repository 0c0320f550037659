//! The connection to an S3 server: addresses, time-outs, retries.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use super::pace::Paced;
use crate::config::{BucketLookup, S3Config};
use crate::data::Tuning;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one attempt of a request that carries next to nothing, until its answer begins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Putting the parts of a large object together takes servers minutes.
pub(super) const COMPLETE_TIMEOUT: Duration = Duration::from_secs(600);
/// The slowest line that a part is given the time for.
const SLOWEST_BYTES_PER_SECOND: u64 = 16 << 10;
/// How long not one byte of an answer may move.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// Servers and proxies close idle connections, some after 20 seconds; a request sent into a
/// closing one would be an attempt lost.
const IDLE_CONNECTION: Duration = Duration::from_secs(15);
/// Attempts of one request, with waits that double from `FIRST_WAIT` to `LONGEST_WAIT`, each
/// shortened by chance so that clients do not come back together.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A client whose requests are signed for `region`.
pub(super) fn new(config: &S3Config, region: &str, tuning: &Tuning) -> Client {
    let scheme = if config.use_ssl { "https" } else { "http" };
    let retry = match tuning.tries_once {
        true => RetryConfig::disabled(),
        false => again(),
    };
    // Uploads come from memory: what stalls there is the peer, which the time-outs see.
    let stalled = StalledStreamProtectionConfig::enabled()
        .upload_enabled(false)
        .grace_period(STALLED_AFTER)
        .build();
    let settings = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::from_keys(
            &config.access_key_id,
            config.secret_access_key.expose(),
            None,
        ))
        .region(Region::new(region.to_owned()))
        .endpoint_url(format!("{scheme}://{}", config.endpoint))
        .force_path_style(uses_path_style(config))
        .http_client(paced(http_client(config.use_ssl), tuning))
        .retry_config(retry)
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(ANSWER_TIMEOUT)
                .build(),
        )
        .stalled_stream_protection(stalled)
        // Many other servers refuse the checksums that the SDK would add by itself. Ours are the
        // signature over every body and `Content-MD5`, see `part.rs`.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(settings)
}

/// Tries a request again by itself.
fn again() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(FIRST_WAIT)
        .with_max_backoff(LONGEST_WAIT)
}

fn paced(client: SharedHttpClient, tuning: &Tuning) -> SharedHttpClient {
    match &tuning.manners {
        Some(manners) => SharedHttpClient::new(Paced {
            client,
            manners: Arc::clone(manners),
        }),
        None => client,
    }
}

fn http_client(use_ssl: bool) -> SharedHttpClient {
    let builder = aws_smithy_http_client::Builder::new().pool_idle_timeout(IDLE_CONNECTION);
    if use_ssl {
        builder
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https()
    } else {
        builder.build_http()
    }
}

/// For a request that carries `body_bytes`: even a slow line gets them through.
pub(super) fn patient(body_bytes: usize) -> Builder {
    let transfer = Duration::from_secs(body_bytes as u64 / SLOWEST_BYTES_PER_SECOND);
    with_timeout(ANSWER_TIMEOUT + transfer)
}

/// For one of many requests that make one thing: it is sent again by itself whatever the client does.
pub(super) fn patient_part(body_bytes: usize) -> Builder {
    patient(body_bytes).retry_config(again())
}

/// The time one attempt may take.
pub(super) fn with_timeout(timeout: Duration) -> Builder {
    Builder::new().timeout_config(
        TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(timeout)
            .build(),
    )
}

fn uses_path_style(config: &S3Config) -> bool {
    match config.bucket_lookup {
        BucketLookup::Path => true,
        BucketLookup::Dns => false,
        // The certificate for `*.host` does not cover a bucket name with a dot in it.
        BucketLookup::Auto => {
            !has_bucket_hosts(&config.endpoint) || (config.use_ssl && config.bucket.contains('.'))
        }
    }
}

/// Whether the provider is known to have a host name for each bucket.
fn has_bucket_hosts(endpoint: &str) -> bool {
    let host = endpoint
        .split(':')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let amazon = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
    amazon || host == "storage.googleapis.com" || host.ends_with(".aliyuncs.com")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, Sse};

    fn config(endpoint: &str, bucket: &str, bucket_lookup: BucketLookup) -> S3Config {
        S3Config {
            endpoint: endpoint.into(),
            access_key_id: "key".into(),
            secret_access_key: Secret::new("secret"),
            bucket: bucket.into(),
            location: "us-east-1".into(),
            prefix: String::new(),
            use_ssl: true,
            part_size: 16 << 20,
            sse: Sse::None,
            part_upload_concurrency: 4,
            send_content_md5: false,
            bucket_lookup,
        }
    }

    #[test]
    fn buckets_are_looked_up_where_the_provider_has_them() {
        use BucketLookup::*;
        for (endpoint, bucket, lookup, path_style) in [
            ("s3.amazonaws.com", "plik", Auto, false),
            ("s3.eu-west-3.amazonaws.com:443", "plik", Auto, false),
            ("s3.amazonaws.com", "my.plik", Auto, true),
            ("s3.amazonaws.com", "my.plik", Dns, false),
            ("s3.amazonaws.com", "plik", Path, true),
            ("storage.googleapis.com", "plik", Auto, false),
            ("oss-cn-hangzhou.aliyuncs.com", "plik", Auto, false),
            ("127.0.0.1:9000", "plik", Auto, true),
            ("amazonaws.com.example.org", "plik", Auto, true),
            ("s3.example.org", "plik", Dns, false),
        ] {
            let config = config(endpoint, bucket, lookup);
            assert_eq!(uses_path_style(&config), path_style, "{endpoint} {bucket}");
        }
    }

    #[test]
    fn large_parts_get_more_time() {
        let timeout = |bytes| {
            let settings = patient(bytes).behavior_version(BehaviorVersion::latest());
            settings
                .build()
                .timeout_config()
                .and_then(TimeoutConfig::operation_attempt_timeout)
        };
        assert_eq!(timeout(0), Some(ANSWER_TIMEOUT));
        assert_eq!(
            timeout(16 << 20),
            Some(ANSWER_TIMEOUT + Duration::from_secs(1024))
        );
    }
}
