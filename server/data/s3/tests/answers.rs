//! Answers that a real server gives rarely.

use super::*;

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
