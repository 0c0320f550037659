//! The names and types of objects.

use super::*;

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
