//! What the server copies by itself.

use http::request::Parts;
use md5::{Digest, Md5};

use super::*;
use crate::data::s3::copy::{Sizes, Terms};
use crate::data::{Origin, Proof, Trial};

const HELLO: &[u8] = b"hello";
const COPIED: &str =
    "<CopyObjectResult><ETag>\"5d41402abc4b2a76b9719d911017c592\"</ETag></CopyObjectResult>";
const COPIED_OTHERWISE: &str =
    "<CopyObjectResult><ETag>\"00000000000000000000000000000000\"</ETag></CopyObjectResult>";

fn stat_of(content: &[u8]) -> BlobStat {
    BlobStat {
        size_bytes: content.len() as u64,
        md5: Some(Md5::digest(content).into()),
    }
}

/// As a copy to `to` by a server that cuts at the size of a part.
async fn copy_cut(to: &Bucket, at: &BlobRef, origin: &Origin, expected: BlobStat) -> bool {
    let sizes = Sizes {
        whole_bytes: PART_BYTES as u64,
        part_bytes: PART_BYTES as u64,
    };
    let name = BlobName::of(at).unwrap();
    let (upload, _) = to.backend.upload(at, &name);
    let terms = Terms {
        expected,
        proof: Proof::Before,
        sizes,
    };
    upload.copy(origin, terms).await.unwrap()
}

/// As a copy of `at` from bucket to bucket.
async fn copied(
    from: &Bucket,
    to: &Bucket,
    at: &BlobRef,
    expected: BlobStat,
    proof: Proof,
) -> Option<Stored> {
    let origin = from.backend.origin(at).unwrap();
    let copied = to.backend.copy(at, &origin, expected, proof).await;
    copied.unwrap()
}

/// Two buckets of a server that was tried out for large blobs.
async fn tried_buckets() -> (Bucket, Bucket) {
    let (from, to) = (Bucket::new().await, Bucket::new().await);
    let trial = Trial {
        origin: from.backend.origin(&new_blob()),
        largest_bytes: u64::MAX,
        ..Trial::default()
    };
    to.backend.try_out(trial).await.unwrap();
    (from, to)
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_blob_is_copied_from_bucket_to_bucket() {
    let from = Bucket::with(|config| config.prefix = "pre fix/ä".into()).await;
    let to = Bucket::new().await;
    for length in [0, 1, 100_000, PART_BYTES] {
        let content = bytes(length, 1);
        let at = put(&*from.backend, &new_blob(), &content).await;
        let copied = copied(&from, &to, &at, stat_of(&content), Proof::Before).await;
        assert_eq!(copied.unwrap().size_bytes, length as u64);
        assert_stored(&*to.backend, &at, &content).await;
        let head = to.client().head_object().bucket(&to.config.bucket);
        let key = format!("{}.{}", at.upload_id, at.file_id);
        let head = head.key(key).send().await.unwrap();
        assert_eq!(head.content_type(), Some("text/plain"));
    }
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_blob_of_an_older_release_is_copied_to_the_newer_name() {
    let (from, to) = (Bucket::new().await, Bucket::new().await);
    let (at, content) = (new_blob(), bytes(10, 1));
    from.put_as_older_release(&at, content.clone()).await;
    let copied = copied(&from, &to, &at, stat_of(&content), Proof::Before).await;
    assert!(copied.is_some());
    assert_eq!(
        to.keys().await,
        [format!("{}.{}", at.upload_id, at.file_id)]
    );
    assert_stored(&*to.backend, &at, &content).await;
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_blob_that_is_too_large_for_one_request_is_copied_in_parts() {
    let (from, to) = (Bucket::new().await, Bucket::new().await);
    let content = bytes(3 * PART_BYTES + 17, 1);
    let at = put(&*from.backend, &new_blob(), &content).await;
    let origin = from.backend.origin(&at).unwrap();
    let without_md5 = BlobStat {
        md5: None,
        ..stat_of(&content)
    };
    assert!(copy_cut(&to, &at, &origin, without_md5).await);
    assert_stored(&*to.backend, &at, &content).await;
    let key = format!("{}.{}", at.upload_id, at.file_id);
    let head = to.client().head_object().bucket(&to.config.bucket);
    let head = head.key(key).send().await.unwrap();
    assert_eq!(head.content_type(), Some("text/plain"));
    let e_tag = head.e_tag().unwrap();
    assert!(e_tag.ends_with("-4\""), "{e_tag}");
    assert_eq!(to.leftovers().await, [] as [String; 0]);
}

/// One object of 12 MiB, whose ETag is its MD5.
#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_large_blob_whose_md5_is_kept_is_copied_if_it_is_the_one() {
    let (from, to) = (Bucket::new().await, Bucket::new().await);
    let (at, content) = (new_blob(), bytes(2 * PART_BYTES + 17, 1));
    from.put_as_older_release(&at, content.clone()).await;
    let origin = from.backend.origin(&at).unwrap();
    let rotten = BlobStat {
        md5: Some([7; 16]),
        ..stat_of(&content)
    };
    assert!(!copy_cut(&to, &at, &origin, rotten).await);
    assert_missing(&*to.backend, &at).await;
    assert!(copy_cut(&to, &at, &origin, stat_of(&content)).await);
    assert_stored(&*to.backend, &at, &content).await;
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_blob_that_is_not_known_to_be_the_one_is_not_copied() {
    let (from, to) = (Bucket::new().await, Bucket::new().await);
    let content = bytes(10, 1);
    let at = put(&*from.backend, &new_blob(), &content).await;
    let parts = bytes(PART_BYTES + 1, 2);
    let in_parts = put(&*from.backend, &new_blob(), &parts).await;
    let longer = BlobStat {
        size_bytes: 11,
        md5: None,
    };
    for (at, expected) in [
        (&at, stat_of(b"0123456789")),
        (&at, longer),
        (&in_parts, stat_of(&parts)),
        (&new_blob(), stat_of(&content)),
    ] {
        for proof in [Proof::Before, Proof::Afterwards] {
            let copied = copied(&from, &to, at, expected, proof).await;
            assert!(copied.is_none(), "{expected:?}");
            assert_missing(&*to.backend, at).await;
        }
    }
    // None of these is a reason to copy nothing any more.
    let copied = copied(&from, &to, &at, stat_of(&content), Proof::Before).await;
    assert!(copied.is_some());
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_blob_that_came_in_parts_is_copied_and_its_md5_is_that_of_the_copy() {
    let (from, to) = tried_buckets().await;
    let content = bytes(2 * PART_BYTES + 17, 1);
    let at = put(&*from.backend, &new_blob(), &content).await;
    assert_eq!(from.backend.stat(&at).await.unwrap().unwrap().md5, None);
    let expected = stat_of(&content);
    let copied = copied(&from, &to, &at, expected, Proof::Afterwards).await;
    assert_eq!(copied.unwrap().size_bytes, content.len() as u64);
    assert_eq!(to.backend.stat(&at).await.unwrap(), Some(expected));
    assert_stored(&*to.backend, &at, &content).await;
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_blob_that_came_in_parts_and_is_another_does_not_stay() {
    let (from, to) = tried_buckets().await;
    let content = bytes(PART_BYTES + 1, 1);
    let at = put(&*from.backend, &new_blob(), &content).await;
    let rotten = BlobStat {
        md5: Some([7; 16]),
        ..stat_of(&content)
    };
    let longer = BlobStat {
        size_bytes: rotten.size_bytes + 1,
        ..stat_of(&content)
    };
    for expected in [rotten, longer] {
        let copied = copied(&from, &to, &at, expected, Proof::Afterwards).await;
        assert!(copied.is_none(), "{expected:?}");
        assert_missing(&*to.backend, &at).await;
    }
    // That says nothing of other blobs.
    let copied = copied(&from, &to, &at, stat_of(&content), Proof::Afterwards).await;
    assert!(copied.is_some());
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_blob_that_is_there_is_not_replaced_by_one_of_which_nothing_is_known() {
    let (from, to) = tried_buckets().await;
    let (older, newer) = (bytes(10, 1), bytes(PART_BYTES + 1, 2));
    let at = put(&*to.backend, &new_blob(), &older).await;
    put(&*from.backend, &at, &newer).await;
    let copied = copied(&from, &to, &at, stat_of(&newer), Proof::Before).await;
    assert!(copied.is_none());
    assert_stored(&*to.backend, &at, &older).await;
}

async fn copy(fake: &Fake, backend: &S3Backend) -> Result<Option<Stored>, DataError> {
    let at = new_blob();
    let source = S3Config {
        bucket: "source".into(),
        ..fake.config()
    };
    let source = S3Backend::open(&source, Access::Probe).await.unwrap();
    let origin = source.origin(&at).unwrap();
    let copied = backend.copy(&at, &origin, stat_of(HELLO), Proof::Afterwards);
    copied.await
}

#[tokio::test]
async fn a_copy_is_one_request_that_only_the_right_bytes_fulfil() {
    let fake = Fake::start(|request| {
        if request.method == "PUT" {
            let header = |name| request.headers[name].to_str().unwrap();
            assert!(header("x-amz-copy-source").starts_with("source/"));
            assert_eq!(header("x-amz-copy-source-if-match"), PART_E_TAG);
            assert_eq!(header("x-amz-metadata-directive"), "REPLACE");
            assert_eq!(header("content-type"), "text/plain");
        }
        answer(200, &[], COPIED)
    })
    .await;
    let backend = fake.open().await;
    let before = fake.was_asked("");
    let stored = copy(&fake, &backend).await.unwrap().unwrap();
    assert_eq!(stored.size_bytes, 5);
    // One to open the source, and the copy.
    assert_eq!(fake.was_asked("") - before, 2);
}

#[tokio::test]
async fn a_copy_that_fails_behind_its_status_is_an_error() {
    let fake = Fake::start(|request| {
        let failed = "<Error><Code>InternalError</Code></Error>";
        let body = if request.method == "PUT" { failed } else { "" };
        answer(200, &[], body)
    })
    .await;
    let tuning = Tuning {
        tries_once: true,
        ..Tuning::default()
    };
    let backend = S3Backend::open_with(&fake.config(), Access::Serve, tuning).await;
    let error = copy(&fake, &backend.unwrap()).await.err().unwrap();
    assert!(matches!(error, DataError::Passing { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_copy_is_asked_once() {
    for refusal in [
        |request: &Parts| match request.method.as_str() {
            "PUT" => answer(501, &[], "<Error><Code>NotImplemented</Code></Error>"),
            _ => answer(200, &[], ""),
        },
        |request: &Parts| match request.method.as_str() {
            "PUT" => answer(403, &[], "<Error><Code>AccessDenied</Code></Error>"),
            _ => answer(200, &[], ""),
        },
        |request: &Parts| match request.method.as_str() {
            "PUT" => answer(400, &[], "<Error><Code>InvalidRequest</Code></Error>"),
            _ => answer(200, &[], ""),
        },
    ] {
        let fake = Fake::start(refusal).await;
        let backend = fake.open().await;
        for _ in 0..3 {
            assert!(copy(&fake, &backend).await.unwrap().is_none());
        }
        assert_eq!(fake.was_asked("PUT"), 1);
    }
}

#[tokio::test]
async fn a_refusal_after_a_copy_is_about_one_blob() {
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    let fake = Fake::start(|request| {
        if request.method == "PUT" && COPIES.fetch_add(1, Ordering::Relaxed) == 1 {
            return answer(403, &[], "<Error><Code>AccessDenied</Code></Error>");
        }
        answer(200, &[], COPIED)
    })
    .await;
    let backend = fake.open().await;
    for copied in [true, false, true] {
        let found = copy(&fake, &backend).await.unwrap();
        assert_eq!(found.is_some(), copied);
    }
}

#[tokio::test]
async fn a_copy_of_other_bytes_does_not_stay() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "PUT" => answer(200, &[], COPIED_OTHERWISE),
        "DELETE" => answer(204, &[], ""),
        _ => answer(200, &[("content-length", "5")], ""),
    })
    .await;
    let backend = fake.open().await;
    for _ in 0..2 {
        assert!(copy(&fake, &backend).await.unwrap().is_none());
    }
    assert_eq!((fake.was_asked("PUT"), fake.was_asked("DELETE")), (1, 1));
}

#[tokio::test]
async fn another_server_other_rights_and_keys_per_file_are_no_case_for_a_copy() {
    let fake = Fake::start(|_| answer(200, &[], COPIED)).await;
    let other = Fake::start(|_| answer(200, &[], COPIED)).await;
    let config = fake.config();
    let mut targets = vec![other.config(), config.clone(), config.clone()];
    targets[1].access_key_id = "another".into();
    targets[2].sse = Sse::Customer;
    for target in targets {
        let backend = S3Backend::open(&target, Access::Serve).await.unwrap();
        assert!(copy(&fake, &backend).await.unwrap().is_none());
    }
    assert_eq!(fake.was_asked("PUT") + other.was_asked("PUT"), 0);
    let keyed = BlobRef {
        details: BackendDetails::with_sse_key(&"x".repeat(32)),
        ..new_blob()
    };
    assert!(fake.open().await.origin(&keyed).is_none());
}
