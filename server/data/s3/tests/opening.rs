//! How a bucket is found, created or refused.

use tokio::net::TcpListener;

use super::*;
use crate::config::DataConfig;

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
