//! Blobs that the server encrypts, with a key of the client or with its own.

use super::*;

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
