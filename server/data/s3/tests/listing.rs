//! Lists of a bucket, page by page.

use futures::TryStreamExt;

use super::*;
use crate::data::Listed;

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
