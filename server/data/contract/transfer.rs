//! What is promised of whole blobs on their way, and of listings.

use std::collections::BTreeSet;

use super::*;
use crate::data::buffers::{Buffer, Buffers};
use crate::data::{BlobReader, Transfer};

/// Room for fewer parts than a blob has.
const BUFFER_BYTES: usize = 2 * PART_BYTES;

/// Bytes to be stored, whatever goes wrong with them.
struct Memory {
    bytes: Bytes,
    /// No byte comes from here on: reading fails, or never ends.
    good_until: u64,
    stuck: bool,
}

#[async_trait]
impl BlobReader for Memory {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn read(&self, offset: u64, mut buffer: Buffer) -> io::Result<Buffer> {
        let end = offset + buffer.length() as u64;
        if end > self.good_until {
            if self.stuck {
                futures::future::pending::<()>().await;
            }
            return Err(io::Error::other("the disk is broken"));
        }
        let bytes = &self.bytes[offset as usize..end as usize];
        buffer.bytes_mut().copy_from_slice(bytes);
        Ok(buffer)
    }
}

fn memory(bytes: &Bytes) -> Memory {
    Memory {
        bytes: bytes.clone(),
        good_until: u64::MAX,
        stuck: false,
    }
}

fn transfer(from: Memory) -> Transfer {
    Transfer {
        origin: None,
        size_bytes: from.size_bytes(),
        md5: Some(Md5::digest(&from.bytes).into()),
        from: Arc::new(from),
        buffers: Buffers::new(BUFFER_BYTES),
        journal: None,
    }
}

/// A transfer of these bytes, with nothing wrong with them.
pub fn transfer_of(bytes: &Bytes) -> Transfer {
    transfer(memory(bytes))
}

async fn put_all_of(backend: &dyn DataBackend, to: &BlobRef, content: &Bytes) -> BlobRef {
    let stored = backend.put_all_of(to, transfer_of(content)).await;
    let stored = stored.unwrap();
    assert_eq!(stored.size_bytes, content.len() as u64);
    stored_as(to, stored)
}

pub async fn a_whole_blob_is_stored_at_every_size(subject: &impl Subject) {
    let backend = subject.backend();
    for length in [
        0,
        1,
        100_000,
        PART_BYTES - 1,
        PART_BYTES,
        PART_BYTES + 1,
        4 * PART_BYTES + 12_345,
    ] {
        let content = bytes(length, length as u64);
        let at = put_all_of(&*backend, &new_blob(), &content).await;
        assert_stored(&*backend, &at, &content).await;
    }
    assert_nothing_left(subject).await;
}

pub async fn a_whole_blob_passes_from_its_reader(subject: &impl Subject) {
    let backend = subject.backend();
    for length in [0, 1, 100_000, 4 * PART_BYTES + 12_345] {
        let content = bytes(length, length as u64);
        let at = put(&*backend, &new_blob(), &content).await;
        for hint in [length as u64, 0, 1 << 30] {
            let from = backend.reader(&at, hint).await.unwrap();
            assert_eq!(from.size_bytes(), length as u64);
            let transfer = Transfer {
                from,
                ..transfer_of(&content)
            };
            let to = new_blob();
            let stored = backend.put_all_of(&to, transfer).await.unwrap();
            assert_stored(&*backend, &stored_as(&to, stored), &content).await;
        }
    }
}

pub async fn a_reader_gives_the_bytes_of_any_offset(subject: &impl Subject) {
    let backend = subject.backend();
    let content = bytes(300_000, 1);
    let at = put(&*backend, &new_blob(), &content).await;
    let buffers = Buffers::new(BUFFER_BYTES);
    for hint in [0, 1 << 30] {
        let reader = backend.reader(&at, hint).await.unwrap();
        for range in [0..1, 299_999..300_000, 0..300_000, 100..200_000, 0..0] {
            let buffer = buffers.take(range.len()).await;
            let read = reader.read(range.start as u64, buffer).await.unwrap();
            assert_same(&read.freeze(), &content.slice(range));
        }
        let outside = buffers.take(10).await;
        assert!(reader.read(299_995, outside).await.is_err());
    }
}

pub async fn a_missing_blob_has_no_reader(subject: &impl Subject) {
    let backend = subject.backend();
    for hint in [0, 1 << 30] {
        let error = backend.reader(&new_blob(), hint).await.err().unwrap();
        assert!(matches!(error, DataError::NotFound { .. }), "{error:?}");
    }
}

pub async fn a_whole_blob_with_wrong_bytes_leaves_nothing(subject: &impl Subject) {
    let backend = subject.backend();
    let older = bytes(10, 1);
    for length in [0, 10, 1_000_000, PART_BYTES, 3 * PART_BYTES + 1] {
        let at = put(&*backend, &new_blob(), &older).await;
        let rotten = Transfer {
            md5: Some([7; 16]),
            ..transfer(memory(&bytes(length, 2)))
        };
        let short = Transfer {
            size_bytes: length as u64 + 1,
            ..transfer(memory(&bytes(length, 2)))
        };
        for (transfer, is_md5) in [(rotten, true), (short, false)] {
            let error = backend.put_all_of(&at, transfer).await.unwrap_err();
            let mismatch = Mismatch::behind(&error).expect("it names what differs");
            assert_eq!(matches!(mismatch, Mismatch::Md5 { .. }), is_md5);
            assert_stored(&*backend, &at, &older).await;
        }
    }
    assert_nothing_left(subject).await;
}

pub async fn a_whole_blob_that_cannot_be_read_leaves_the_older_one(subject: &impl Subject) {
    let backend = subject.backend();
    let older = bytes(10, 1);
    let at = put(&*backend, &new_blob(), &older).await;
    for (length, good_until) in [(10, 0), (4 * PART_BYTES, 2 * PART_BYTES)] {
        let from = Memory {
            good_until: good_until as u64,
            ..memory(&bytes(length, 2))
        };
        let error = backend.put_all_of(&at, transfer(from)).await.unwrap_err();
        assert!(
            matches!(&error, DataError::Body { source, .. } if source.to_string() == "the disk is broken"),
            "{error:?}"
        );
        assert_stored(&*backend, &at, &older).await;
    }
    assert_nothing_left(subject).await;
}

pub async fn a_dropped_put_of_a_whole_blob_leaves_nothing(subject: &impl Subject) {
    let backend = subject.backend();
    for (length, good_until) in [(10, 0), (4 * PART_BYTES, 2 * PART_BYTES)] {
        let to = new_blob();
        let transfer = transfer(Memory {
            good_until: good_until as u64,
            stuck: true,
            ..memory(&bytes(length, 2))
        });
        let buffers = transfer.buffers.clone();
        let put = backend.put_all_of(&to, transfer);
        tokio::time::timeout(Duration::from_millis(300), put)
            .await
            .expect_err("the blob has no end");
        backend.close().await;
        assert_missing(&*backend, &to).await;
        let all = tokio::time::timeout(Duration::from_secs(10), buffers.take(BUFFER_BYTES));
        all.await.expect("every buffer is given back");
    }
    assert_nothing_left(subject).await;
}

pub async fn many_whole_blobs_share_little_memory(subject: &impl Subject) {
    let backend = subject.backend();
    let buffers = Buffers::new(BUFFER_BYTES);
    let puts = (0..6).map(|n| {
        let (backend, buffers) = (Arc::clone(&backend), buffers.clone());
        tokio::spawn(async move {
            let content = bytes(3 * PART_BYTES + n, n as u64);
            let transfer = Transfer {
                buffers,
                ..transfer_of(&content)
            };
            let to = new_blob();
            let stored = backend.put_all_of(&to, transfer).await.unwrap();
            assert_stored(&*backend, &stored_as(&to, stored), &content).await;
        })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap();
    }
}

pub async fn a_listing_names_every_blob_and_nothing_else(subject: &impl Subject) {
    let backend = subject.backend();
    let mut expected = BTreeSet::new();
    for length in 0..30 {
        let at = put(&*backend, &new_blob(), &bytes(length, 1)).await;
        expected.insert((at.file_id, length as u64));
    }
    let old = new_blob();
    subject.put_as_older_release(&old, bytes(77, 1)).await;
    expected.insert((old.file_id, 77));
    let batches: Vec<Vec<_>> = backend.list().try_collect().await.unwrap();
    let found = batches.into_iter().flatten().map(|listed| {
        let upload_id = listed.upload_id;
        assert!(upload_id.is_none_or(|id| id == old.upload_id));
        (listed.file_id, listed.stat.size_bytes)
    });
    assert_eq!(found.collect::<BTreeSet<_>>(), expected);
}
