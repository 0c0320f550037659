//! The promises of [`DataBackend`], as tests that every backend passes.
//!
//! A backend's tests say how to make one, as a [`Subject`], and invoke `contract_tests!`.

mod transfer;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use md5::{Digest as _, Md5};

use super::digest::{self, Expected, Mismatch};
use super::{BlobRef, ByteStream, DataBackend, DataError, Stored};
use crate::model::{BackendDetails, id};

pub use transfer::*;

/// The part size of backends that have one: S3's least.
pub const PART_BYTES: usize = 5 << 20;

/// A backend of its own for one test.
#[async_trait]
pub trait Subject: Sync {
    fn backend(&self) -> Arc<dyn DataBackend>;

    /// What is in the store beside whole blobs, after `close` and a sweep.
    async fn leftovers(&self) -> Vec<String>;

    /// The bytes that the store has at a place of [`DataBackend::place`].
    async fn at(&self, place: &str) -> u64;

    /// Stores a blob where an older release would have.
    async fn put_as_older_release(&self, blob: &BlobRef, bytes: Bytes);
}

/// One test per promise, for the subject that `$make` makes.
macro_rules! contract_tests {
    ($make:expr, [$($attribute:meta),*]) => {
        contract_tests!(@each $make, [$($attribute),*],
            an_empty_blob_is_stored
            one_byte_is_stored
            blobs_about_a_part_long_are_stored
            several_parts_are_stored_with_and_without_a_length
            tiny_chunks_are_stored
            ranges_are_what_was_asked_for
            a_range_outside_is_refused
            an_older_blob_is_replaced
            a_missing_blob_is_not_found
            removing_twice_succeeds
            ids_that_lead_elsewhere_are_refused
            the_older_layout_is_read_and_removed
            a_blob_lies_where_it_is_said_to_lie
            a_failing_body_leaves_the_older_blob
            a_wrong_length_leaves_nothing
            wrong_bytes_leave_nothing
            a_dropped_put_leaves_nothing
            readers_see_one_blob_or_the_other
            a_hundred_puts_at_once
            a_whole_blob_is_stored_at_every_size
            a_whole_blob_passes_from_its_reader
            a_reader_gives_the_bytes_of_any_offset
            a_missing_blob_has_no_reader
            a_whole_blob_with_wrong_bytes_leaves_nothing
            a_whole_blob_that_cannot_be_read_leaves_the_older_one
            a_dropped_put_of_a_whole_blob_leaves_nothing
            many_whole_blobs_share_little_memory
            a_listing_names_every_blob_and_nothing_else
            putting_and_removing_at_once);
    };
    (@each $make:expr, $attributes:tt, $($name:ident)*) => {
        $(contract_tests!(@one $make, $attributes, $name);)*
    };
    (@one $make:expr, [$($attribute:meta),*], $name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])*
        async fn $name() {
            let subject = $make.await;
            crate::data::contract::$name(&subject).await;
        }
    };
}
pub(super) use contract_tests;

pub fn blob(file_id: &str) -> BlobRef {
    BlobRef {
        file_id: file_id.into(),
        upload_id: "upload0000000001".into(),
        content_type: "text/plain".into(),
        details: BackendDetails::default(),
    }
}

pub fn new_blob() -> BlobRef {
    blob(&id::alphanumeric(id::ID_LENGTH, &mut rand::rng()))
}

/// `length` bytes that do not repeat soon, other ones for each `seed`.
pub fn bytes(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let words = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32).to_le_bytes()
    });
    words.flatten().take(length).collect::<Vec<_>>().into()
}

/// `bytes` in chunks of `chunk_bytes`.
pub fn body_of(bytes: &Bytes, chunk_bytes: usize) -> ByteStream {
    let bytes = bytes.clone();
    let starts = (0..bytes.len()).step_by(chunk_bytes);
    Box::pin(futures::stream::iter(starts.map(move |start| {
        Ok(bytes.slice(start..bytes.len().min(start + chunk_bytes)))
    })))
}

pub fn body(bytes: &Bytes) -> ByteStream {
    body_of(bytes, 64 << 10)
}

pub async fn put(backend: &dyn DataBackend, to: &BlobRef, content: &Bytes) -> BlobRef {
    let stored = backend
        .put(to, body(content), Some(content.len() as u64))
        .await
        .unwrap();
    assert_eq!(stored.size_bytes, content.len() as u64);
    stored_as(to, stored)
}

/// The blob as its row names it after it was stored.
pub fn stored_as(blob: &BlobRef, stored: Stored) -> BlobRef {
    BlobRef {
        details: stored.details,
        ..blob.clone()
    }
}

pub async fn collect(body: ByteStream) -> io::Result<Bytes> {
    let all = body
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await?;
    Ok(all.into())
}

pub async fn get(backend: &dyn DataBackend, from: &BlobRef, range: Option<Range<u64>>) -> Bytes {
    let blob = backend.get(from, range).await.unwrap();
    collect(blob.body).await.unwrap()
}

#[track_caller]
fn assert_same(actual: &Bytes, expected: &Bytes) {
    assert_eq!(actual.len(), expected.len());
    assert!(actual == expected, "other bytes than were stored");
}

pub async fn assert_stored(backend: &dyn DataBackend, at: &BlobRef, content: &Bytes) {
    let found = backend.get(at, None).await.unwrap();
    assert_eq!(found.size_bytes, content.len() as u64);
    assert_same(&collect(found.body).await.unwrap(), content);
    let stat = backend.stat(at).await.unwrap().unwrap();
    assert_eq!(stat.size_bytes, content.len() as u64);
    if let Some(md5) = stat.md5 {
        assert_eq!(md5, <[u8; 16]>::from(Md5::digest(content)));
    }
}

pub async fn assert_missing(backend: &dyn DataBackend, at: &BlobRef) {
    assert_eq!(backend.stat(at).await.unwrap(), None);
    let error = backend.get(at, None).await.err().unwrap();
    assert!(
        matches!(&error, DataError::NotFound { id, .. } if *id == at.file_id),
        "{error:?}"
    );
}

async fn assert_nothing_left(subject: &impl Subject) {
    subject.backend().close().await;
    assert_eq!(subject.leftovers().await, Vec::<String>::new());
}

async fn round_trip(subject: &impl Subject, length: usize, announced: bool) {
    let backend = subject.backend();
    let (to, content) = (new_blob(), bytes(length, length as u64));
    let size_bytes = announced.then_some(length as u64);
    let stored = backend.put(&to, body(&content), size_bytes).await.unwrap();
    assert_eq!(stored.size_bytes, length as u64);
    assert_stored(&*backend, &stored_as(&to, stored), &content).await;
    assert_nothing_left(subject).await;
}

pub async fn an_empty_blob_is_stored(subject: &impl Subject) {
    round_trip(subject, 0, true).await;
    round_trip(subject, 0, false).await;
}

pub async fn one_byte_is_stored(subject: &impl Subject) {
    round_trip(subject, 1, true).await;
    round_trip(subject, 1, false).await;
}

pub async fn blobs_about_a_part_long_are_stored(subject: &impl Subject) {
    for length in [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1] {
        round_trip(subject, length, true).await;
        round_trip(subject, length, false).await;
    }
}

pub async fn several_parts_are_stored_with_and_without_a_length(subject: &impl Subject) {
    round_trip(subject, 5 * PART_BYTES + 12_345, true).await;
    round_trip(subject, 5 * PART_BYTES + 12_345, false).await;
    round_trip(subject, 3 * PART_BYTES, false).await;
}

pub async fn tiny_chunks_are_stored(subject: &impl Subject) {
    let backend = subject.backend();
    let (to, content) = (new_blob(), bytes(300_001, 3));
    let stored = backend.put(&to, body_of(&content, 7), None).await.unwrap();
    assert_stored(&*backend, &stored_as(&to, stored), &content).await;
}

pub async fn ranges_are_what_was_asked_for(subject: &impl Subject) {
    let backend = subject.backend();
    let content = bytes(700_000, 1);
    let at = put(&*backend, &new_blob(), &content).await;
    for range in [
        0..1,
        699_999..700_000,
        350_000..350_001,
        0..700_000,
        100..600_000,
        131_072..262_144,
        0..0,
        700_000..700_000,
    ] {
        let found = backend.get(&at, Some(range.clone())).await.unwrap();
        assert_eq!(found.size_bytes, 700_000);
        let (start, end) = (range.start as usize, range.end as usize);
        assert_same(
            &collect(found.body).await.unwrap(),
            &content.slice(start..end),
        );
    }
    let empty = put(&*backend, &new_blob(), &Bytes::new()).await;
    assert_eq!(get(&*backend, &empty, Some(0..0)).await, Bytes::new());
}

pub async fn a_range_outside_is_refused(subject: &impl Subject) {
    let backend = subject.backend();
    let at = put(&*backend, &new_blob(), &bytes(10, 1)).await;
    for range in [0..11, 10..11, 12..12] {
        let error = backend.get(&at, Some(range)).await.err().unwrap();
        assert!(matches!(error, DataError::Failed { .. }), "{error:?}");
    }
}

pub async fn an_older_blob_is_replaced(subject: &impl Subject) {
    let backend = subject.backend();
    let to = new_blob();
    for (length, seed) in [(1_000_000, 1), (10, 2), (PART_BYTES + 5, 3), (0, 4)] {
        let content = bytes(length, seed);
        let at = put(&*backend, &to, &content).await;
        assert_stored(&*backend, &at, &content).await;
    }
    assert_nothing_left(subject).await;
}

pub async fn a_missing_blob_is_not_found(subject: &impl Subject) {
    let backend = subject.backend();
    assert_missing(&*backend, &new_blob()).await;
    let error = backend.get(&new_blob(), Some(0..1)).await.err().unwrap();
    assert!(matches!(error, DataError::NotFound { .. }), "{error:?}");
}

pub async fn removing_twice_succeeds(subject: &impl Subject) {
    let backend = subject.backend();
    let at = put(&*backend, &new_blob(), &bytes(10, 1)).await;
    let other = put(&*backend, &new_blob(), &bytes(20, 2)).await;
    backend.remove(&at).await.unwrap();
    assert_missing(&*backend, &at).await;
    backend.remove(&at).await.unwrap();
    assert_stored(&*backend, &other, &bytes(20, 2)).await;
}

pub async fn ids_that_lead_elsewhere_are_refused(subject: &impl Subject) {
    let backend = subject.backend();
    for id in ["", "ab", "../../../etc/passwd", "abc/def", "abc\0", "äöü"] {
        let as_file = blob(id);
        let as_upload = BlobRef {
            upload_id: id.into(),
            ..new_blob()
        };
        for hostile in [as_file, as_upload] {
            let errors = [
                backend
                    .put(&hostile, body(&bytes(1, 1)), None)
                    .await
                    .err()
                    .unwrap(),
                backend.get(&hostile, None).await.err().unwrap(),
                backend.stat(&hostile).await.err().unwrap(),
                backend.remove(&hostile).await.err().unwrap(),
            ];
            for error in errors {
                assert!(matches!(error, DataError::InvalidId { .. }), "{error:?}");
            }
        }
    }
}

pub async fn the_older_layout_is_read_and_removed(subject: &impl Subject) {
    let backend = subject.backend();
    let (at, content) = (new_blob(), bytes(1000, 1));
    subject.put_as_older_release(&at, content.clone()).await;
    assert_stored(&*backend, &at, &content).await;
    assert_eq!(get(&*backend, &at, Some(1..3)).await, content.slice(1..3));
    backend.remove(&at).await.unwrap();
    assert_missing(&*backend, &at).await;
    assert_nothing_left(subject).await;
}

pub async fn a_blob_lies_where_it_is_said_to_lie(subject: &impl Subject) {
    let backend = subject.backend();
    let (at, other, older) = (new_blob(), new_blob(), new_blob());
    let place = backend.place(&at).unwrap();
    assert!(place.contains(&at.file_id), "{place}");
    assert_ne!(backend.place(&other).unwrap(), place);
    assert_eq!(backend.found_at(&at).await, None, "nothing is there yet");
    let at = put(&*backend, &at, &bytes(10, 1)).await;
    assert_eq!(backend.found_at(&at).await.as_ref(), Some(&place));
    assert_eq!(subject.at(&place).await, bytes(10, 1).len() as u64);

    subject.put_as_older_release(&older, bytes(20, 2)).await;
    let found = backend.found_at(&older).await.unwrap();
    assert_ne!(Some(&found), backend.place(&older).as_ref());
    assert_eq!(subject.at(&found).await, 20);
    assert_eq!(backend.place(&blob("../etc")), None);
    assert_eq!(backend.found_at(&blob("../etc")).await, None);
}

fn then_fails(content: &Bytes) -> ByteStream {
    let failure = futures::stream::iter([Err(io::Error::other("the client went away"))]);
    Box::pin(body(content).chain(failure))
}

pub async fn a_failing_body_leaves_the_older_blob(subject: &impl Subject) {
    let backend = subject.backend();
    let older = bytes(10, 1);
    let at = put(&*backend, &new_blob(), &older).await;
    for length in [0, 10, 1_000_000, 2 * PART_BYTES + 1] {
        for announced in [None, Some(length as u64)] {
            let error = backend
                .put(&at, then_fails(&bytes(length, 2)), announced)
                .await
                .err()
                .unwrap();
            assert!(
                matches!(&error, DataError::Body { source, .. } if source.to_string() == "the client went away"),
                "{error:?}"
            );
            assert_stored(&*backend, &at, &older).await;
        }
    }
    assert_nothing_left(subject).await;
}

pub async fn a_wrong_length_leaves_nothing(subject: &impl Subject) {
    let backend = subject.backend();
    for length in [0, 10, PART_BYTES, 2 * PART_BYTES + 1] {
        for announced in [
            length.saturating_sub(1),
            length + 1,
            length + 2 * PART_BYTES,
        ] {
            if announced == length {
                continue;
            }
            let to = new_blob();
            let error = backend
                .put(&to, body(&bytes(length, 1)), Some(announced as u64))
                .await
                .err()
                .unwrap();
            assert!(
                matches!(&error, DataError::WrongSize { expected, .. } if *expected == announced as u64),
                "{error:?}"
            );
            assert_missing(&*backend, &to).await;
        }
    }
    assert_nothing_left(subject).await;
}

pub async fn wrong_bytes_leave_nothing(subject: &impl Subject) {
    let backend = subject.backend();
    for length in [10, 1_000_000, 2 * PART_BYTES] {
        let to = new_blob();
        let expected = Expected {
            md5: Some(Md5::digest(b"other bytes").into()),
            size_bytes: Some(length as u64),
        };
        let (body, digest) = digest::verified(body(&bytes(length, 1)), expected);
        let error = backend
            .put(&to, body, Some(length as u64))
            .await
            .err()
            .unwrap();
        assert!(
            matches!(Mismatch::behind(&error), Some(Mismatch::Md5 { .. })),
            "{error:?}"
        );
        assert_eq!(digest.get(), None);
        assert_missing(&*backend, &to).await;
    }
    assert_nothing_left(subject).await;
}

pub async fn a_dropped_put_leaves_nothing(subject: &impl Subject) {
    let backend = subject.backend();
    let older = bytes(10, 1);
    for length in [0, 10, 1_000_000, 3 * PART_BYTES + 1] {
        let fresh = new_blob();
        let replaced = put(&*backend, &new_blob(), &older).await;
        for to in [&fresh, &replaced] {
            let stuck = body(&bytes(length, 2)).chain(futures::stream::pending());
            let put = backend.put(to, Box::pin(stuck), None);
            tokio::time::timeout(Duration::from_millis(200), put)
                .await
                .expect_err("the body has no end");
        }
        assert_missing(&*backend, &fresh).await;
        assert_stored(&*backend, &replaced, &older).await;
    }
    assert_nothing_left(subject).await;
}

pub async fn readers_see_one_blob_or_the_other(subject: &impl Subject) {
    let backend = subject.backend();
    let to = new_blob();
    let versions = [bytes(400_000, 1), bytes(PART_BYTES + 1, 2)];
    // A store may need what the first put answered to read what the next ones write.
    let at = put(&*backend, &to, &versions[0]).await;
    let writer = async {
        for round in 0..10 {
            put(&*backend, &at, &versions[round % 2]).await;
        }
    };
    let reader = async {
        for _ in 0..20 {
            let found = get(&*backend, &at, None).await;
            assert!(versions.contains(&found), "part of a blob");
        }
    };
    tokio::join!(writer, reader);
    assert_nothing_left(subject).await;
}

pub async fn a_hundred_puts_at_once(subject: &impl Subject) {
    let backend = subject.backend();
    let puts = (0..100).map(|n| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            let content = bytes(1000 * n, n as u64);
            let at = put(&*backend, &new_blob(), &content).await;
            assert_stored(&*backend, &at, &content).await;
        })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap();
    }
    assert_nothing_left(subject).await;
}

pub async fn putting_and_removing_at_once(subject: &impl Subject) {
    let backend = subject.backend();
    // Neighbours: in a directory they have the same parent, which comes and goes.
    let tasks = (0..8).map(|n| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            let to = blob(&format!("aa0000000000000{n}"));
            let content = bytes(100 + n, n as u64);
            for _ in 0..25 {
                let at = put(&*backend, &to, &content).await;
                assert_stored(&*backend, &at, &content).await;
                backend.remove(&at).await.unwrap();
                assert_missing(&*backend, &at).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_nothing_left(subject).await;
}
