//! What proves the bytes of a body: a signature, an MD5, an ETag.

use axum::response::Response;
use http::request::Parts;

use super::*;
use crate::data::s3::part::e_tags_prove;

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

pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
pub(super) const HELLO_SHA256: &str =
    "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

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
