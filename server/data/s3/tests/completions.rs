//! What the completion of an upload in parts may answer, and what it proves.

use super::*;

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
