//! What the target holds already, learned from one listing instead of a question per blob.

use std::hash::{BuildHasher, RandomState};

use futures::StreamExt;

use super::blob::BlobRow;
use crate::data::{DataBackend, DataError, Listed};
use crate::model::Shard;

/// Blobs remembered at most, in 24 bytes each. Those after them are asked about.
const MAX_BLOBS: usize = 1 << 20;
/// A target with many blobs that the source has not is not read to its end to find a few.
const SPARE_BLOBS: u64 = 10_000;

/// In place of a hash, where there is no MD5.
const UNTOLD: u64 = 0;

/// How a store stands to a blob that a row promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InListing {
    /// Nothing of that name was there.
    Absent,
    /// One of that name was there, with other bytes.
    Different,
    /// One of that name and size was there, and of its MD5 that is known.
    Found(Md5),
    /// The listing does not tell.
    Unknown,
}

/// What a listing tells of the MD5 of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Md5 {
    /// It is that of the row.
    Same,
    /// It is another, or no MD5 at all.
    Other,
    /// None is kept.
    Untold,
}

/// Names and sizes of a store's blobs when they were listed.
///
/// Of a name only a hash is kept: two names of one hash make a blob be asked about, or copied,
/// without need. Of an MD5 half is, in another hash: that two hashes are alike by chance does not
/// happen.
#[derive(Default)]
pub(super) struct Known {
    hasher: RandomState,
    blobs: Vec<Entry>,
    /// Which of them a row names, once anybody has asked for that.
    named: Vec<bool>,
    complete: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    name: u64,
    size_bytes: u64,
    md5: u64,
}

impl Known {
    /// Of a target that was just created.
    pub fn empty() -> Self {
        Self {
            complete: true,
            ..Self::default()
        }
    }

    /// Lists `store`, as far as that is worth it for `blobs` blobs, and keeps what is in `shard`. One
    /// whose listing cannot be relied on is not listed.
    ///
    /// # Errors
    ///
    /// As the listing: one that fails is no empty store.
    pub async fn of(
        store: &dyn DataBackend,
        blobs: u64,
        shard: Option<Shard>,
    ) -> Result<Self, DataError> {
        let worth = blobs.saturating_mul(2).saturating_add(SPARE_BLOBS);
        let limit = usize::try_from(worth).unwrap_or(MAX_BLOBS).min(MAX_BLOBS);
        let mut known = Self::default();
        if !store.can_list() {
            return Ok(known);
        }
        let mut listing = store.list();
        while let Some(batch) = listing.next().await {
            let mut batch = batch?;
            batch.retain(|listed| shard.is_none_or(|shard| shard.holds(listed.file_id.as_bytes())));
            if known.blobs.len() + batch.len() > limit {
                known.blobs.sort_unstable();
                return Ok(known);
            }
            let entries = batch.iter().map(|listed| entry(&known.hasher, listed));
            known.blobs.extend(entries);
        }
        known.blobs.sort_unstable();
        known.complete = true;
        Ok(known)
    }

    /// Notes that a row names its blob.
    pub fn name(&mut self, row: &BlobRow) {
        self.named.resize(self.blobs.len(), false);
        for name in self.names_of(row) {
            if let Some((first, _)) = self.find(name) {
                let same = self.blobs[first..].iter();
                let same = same.take_while(|entry| entry.name == name).count();
                self.named[first..first + same].fill(true);
            }
        }
    }

    /// How many blobs no row has named; `None` if not all of them were listed.
    pub fn unnamed(&self) -> Option<usize> {
        let named = self.named.iter().filter(|named| **named).count();
        self.complete.then(|| self.blobs.len() - named)
    }

    /// Whether it was there when the store was listed, and no row has named it.
    pub fn is_unnamed(&self, listed: &Listed) -> bool {
        let name = entry(&self.hasher, listed).name;
        self.find(name)
            .is_some_and(|(first, _)| !self.named.get(first).is_some_and(|named| *named))
    }

    fn names_of(&self, row: &BlobRow) -> [u64; 2] {
        [Some(row.upload_id.as_str()), None]
            .map(|upload_id| self.hasher.hash_one((row.file_id.as_str(), upload_id)))
    }

    /// The first blob of that name.
    fn find(&self, name: u64) -> Option<(usize, &Entry)> {
        let first = self.blobs.partition_point(|entry| entry.name < name);
        let entry = self.blobs.get(first)?;
        (entry.name == name).then_some((first, entry))
    }

    pub fn in_listing(&self, row: &BlobRow) -> InListing {
        let md5 = row.md5.map(|md5| self.hasher.hash_one(md5));
        let mut standing = match self.complete {
            true => InListing::Absent,
            false => InListing::Unknown,
        };
        // The newer name is read first.
        for name in self.names_of(row) {
            let Some((_, entry)) = self.find(name) else {
                continue;
            };
            standing = match row.may_have(entry.size_bytes) {
                true => InListing::Found(match entry.md5 {
                    UNTOLD => Md5::Untold,
                    told if md5 == Some(told) => Md5::Same,
                    _ => Md5::Other,
                }),
                false => InListing::Different,
            };
            break;
        }
        standing
    }
}

fn entry(hasher: &RandomState, listed: &Listed) -> Entry {
    Entry {
        name: hasher.hash_one((listed.file_id.as_str(), listed.upload_id.as_deref())),
        size_bytes: listed.stat.size_bytes,
        md5: listed.stat.md5.map_or(UNTOLD, |md5| hasher.hash_one(md5)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::BlobStat;

    fn listed(file_id: &str, upload_id: Option<&str>, md5: Option<[u8; 16]>) -> Listed {
        Listed {
            file_id: file_id.into(),
            upload_id: upload_id.map(str::to_owned),
            stat: BlobStat { size_bytes: 5, md5 },
        }
    }

    fn known(complete: bool) -> Known {
        let hasher = RandomState::new();
        let mut blobs: Vec<Entry> = [
            listed("same", Some("upload"), Some([1; 16])),
            listed("parts", Some("upload"), None),
            listed("older", None, Some([1; 16])),
            listed("stranger", Some("another"), Some([1; 16])),
            listed("rotten", Some("upload"), Some([2; 16])),
        ]
        .iter()
        .map(|listed| entry(&hasher, listed))
        .collect();
        blobs.sort_unstable();
        Known {
            hasher,
            blobs,
            named: Vec::new(),
            complete,
        }
    }

    fn row(file_id: &str) -> BlobRow {
        BlobRow::of_test(file_id, "upload", 5, Some([1; 16]))
    }

    #[test]
    fn a_blob_is_found_by_either_name_and_only_the_right_md5_proves_it() {
        let known = known(true);
        let proven = InListing::Found(Md5::Same);
        let (other, untold) = (InListing::Found(Md5::Other), InListing::Found(Md5::Untold));
        for (id, standing) in [
            ("same", proven),
            ("older", proven),
            ("parts", untold),
            ("rotten", other),
            ("stranger", InListing::Absent),
            ("missing", InListing::Absent),
        ] {
            assert_eq!(known.in_listing(&row(id)), standing, "{id}");
        }
        let longer = BlobRow::of_test("same", "upload", 6, Some([1; 16]));
        assert_eq!(known.in_listing(&longer), InListing::Different);
        let without_md5 = BlobRow::of_test("parts", "upload", 5, None);
        assert_eq!(known.in_listing(&without_md5), untold);
    }

    #[test]
    fn what_no_row_names_is_left_over() {
        let mut known = known(true);
        assert_eq!(known.unnamed(), Some(5));
        for id in ["same", "older", "parts", "stranger", "missing"] {
            known.name(&row(id));
        }
        assert_eq!(known.unnamed(), Some(2));
        let stranger = listed("stranger", Some("another"), Some([1; 16]));
        assert!(known.is_unnamed(&stranger));
        assert!(known.is_unnamed(&listed("rotten", Some("upload"), None)));
        assert!(!known.is_unnamed(&listed("same", Some("upload"), None)));
        // What has come since is not what was there.
        assert!(!known.is_unnamed(&listed("new", Some("upload"), None)));
    }

    #[test]
    fn a_listing_that_was_not_read_to_its_end_proves_no_absence() {
        let known = known(false);
        assert_eq!(known.in_listing(&row("missing")), InListing::Unknown);
        assert_eq!(known.in_listing(&row("same")), InListing::Found(Md5::Same));
    }
}
