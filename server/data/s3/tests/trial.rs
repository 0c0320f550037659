//! What a trial finds, and what it makes the backend do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::signatures::{HELLO_SHA256, UNSIGNED};
use super::*;
use crate::data::{Suitability, Trial};

/// A request that fails is not sent again.
async fn as_a_migration(config: &S3Config) -> S3Backend {
    let tuning = Tuning {
        tries_once: true,
        ..Tuning::default()
    };
    let opened = S3Backend::open_with(config, Access::Serve, tuning);
    opened.await.unwrap()
}

async fn names_and_suitability(
    backend: &S3Backend,
    trial: Trial,
) -> Vec<(&'static str, Suitability)> {
    let features = backend.try_out(trial).await.unwrap();
    let pair = |feature: Feature| (feature.name, feature.suitability);
    features.into_iter().map(pair).collect()
}

fn large() -> Trial {
    Trial {
        largest_bytes: u64::MAX,
        ..Trial::default()
    }
}

const ALL: [(&str, Suitability); 7] = [
    ("objects", Suitability::Good),
    ("removal of objects", Suitability::Good),
    ("empty objects", Suitability::Good),
    ("checksums", Suitability::Good),
    ("conditional writes", Suitability::Good),
    ("lists", Suitability::Good),
    ("objects in parts", Suitability::Good),
];

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_sound_bucket_passes_and_stays_empty() {
    for bucket in [Bucket::new().await, Bucket::encrypted().await] {
        let backend = as_a_migration(&bucket.config).await;
        assert_eq!(names_and_suitability(&backend, large()).await, ALL);
        assert_eq!(bucket.keys().await, [] as [String; 0]);
        assert_eq!(bucket.leftovers().await, [] as [String; 0]);
        assert!(backend.can_list() && backend.store.md5s_guard.load(Ordering::Relaxed));
    }
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_server_that_can_copy_is_found_where_there_is_something_to_copy() {
    let (from, to) = (Bucket::new().await, Bucket::new().await);
    let trial = Trial {
        origin: from.backend.origin(&new_blob()),
        ..Trial::default()
    };
    let to_backend = as_a_migration(&to.config).await;
    let found = names_and_suitability(&to_backend, trial).await;
    assert_eq!(
        found.last(),
        Some(&("copies by the server", Suitability::Good))
    );
    assert_eq!(to.keys().await, [] as [String; 0]);
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn copies_of_large_blobs_are_tried_also_where_large_blobs_go_in_one_part() {
    let from = Bucket::new().await;
    let to = Bucket::with(|config| config.part_size = 1 << 30).await;
    let backend = as_a_migration(&to.config).await;
    for (largest_bytes, is_tried) in [(5 << 20, false), ((5 << 20) + 1, true)] {
        let trial = Trial {
            origin: from.backend.origin(&new_blob()),
            largest_bytes,
            ..Trial::default()
        };
        let found = names_and_suitability(&backend, trial).await;
        let copies = ("copies of objects in parts", Suitability::Good);
        assert_eq!(found.contains(&copies), is_tried);
        assert!(!found.iter().any(|(name, _)| *name == "objects in parts"));
        assert_eq!(to.keys().await, [] as [String; 0]);
        assert_eq!(to.leftovers().await, [] as [String; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn a_trial_that_is_dropped_leaves_nothing_once_the_backend_is_closed() {
    let bucket = Bucket::new().await;
    for micros in [0, 500, 2_000, 8_000, 20_000] {
        let backend = S3Backend::open(&bucket.config, Access::Serve)
            .await
            .unwrap();
        let time = std::time::Duration::from_micros(micros);
        let _ = tokio::time::timeout(time, backend.try_out(large())).await;
        backend.close().await;
        assert_eq!(bucket.keys().await, [] as [String; 0]);
        assert_eq!(bucket.leftovers().await, [] as [String; 0]);
    }
}

#[tokio::test]
async fn what_was_left_long_ago_goes_and_what_may_be_in_use_stays() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "GET" => answer(
            200,
            &[],
            "<ListBucketResult>\
             <Contents><Key>plikd-trial-new-small</Key><LastModified>2999-01-01T00:00:00.000Z</LastModified></Contents>\
             <Contents><Key>plikd-trial-old-small</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified></Contents>\
             </ListBucketResult>",
        ),
        _ => answer(200, &[("content-length", "0")], ""),
    })
    .await;
    let backend = fake.open().await;
    backend.try_out(Trial::default()).await.unwrap();
    assert_eq!(fake.was_asked("DELETE /plik/plikd-trial-old-small"), 1);
    assert_eq!(fake.was_asked("DELETE /plik/plikd-trial-new-small"), 0);
}

#[tokio::test]
async fn whole_bodies_are_signed_where_content_md5_is_passed_over_and_parts_are_not() {
    let fake = Fake::start(|request| {
        let md5 = request.headers.get("content-md5");
        let md5 = md5.map(|md5| STANDARD.decode(md5).unwrap());
        let hex = |md5: Vec<u8>| md5.iter().map(|byte| format!("{byte:02x}")).collect();
        let e_tag: String = md5.map_or_else(|| PART_E_TAG.to_owned(), hex);
        match request.method.as_str() {
            "PUT" => answer(200, &[("etag", &e_tag)], ""),
            "GET" => answer(403, &[], "<Error><Code>AccessDenied</Code></Error>"),
            _ => answer(200, &[], ""),
        }
    })
    .await;
    let backend = S3Backend::open(&fake.config(), Access::Probe)
        .await
        .unwrap();
    backend.try_out(Trial::default()).await.unwrap();
    assert!(backend.store.e_tags_prove());
    let (hello, md5) = (Bytes::from_static(b"hello"), md5_of_e_tag(PART_E_TAG));
    let blob = new_blob();
    let name = BlobName::of(&blob).unwrap();
    let target = backend.upload(&blob, &name).0.target();
    for (content_md5, expected) in [(md5, HELLO_SHA256), (None, UNSIGNED)] {
        fake.signed.lock().unwrap().clear();
        let send = |part| target.put_once(part);
        let sent = backend
            .store
            .send_proven(hello.clone(), md5, content_md5, send);
        sent.await.unwrap();
        assert_eq!(*fake.signed.lock().unwrap(), [expected]);
    }
}
