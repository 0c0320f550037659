//! Rows of the source that were passed because the target cannot hold them, remembered by their
//! keys: the target may have a row of such a key all the same, as when it was mended and replayed.

use std::collections::{HashSet, VecDeque};

use crate::metadata::{Encoding, Layout, Reject, StoredRow, Tuple};

/// Keys remembered at most of what one reading passes; those beyond are forgotten.
const MAX_KEYS: usize = 10_000;

/// The bytes of each column of a key.
type Key = Vec<Option<Vec<u8>>>;

/// The keys of rejected rows where the source is being read. Memory does not grow with the table.
#[derive(Default)]
pub(super) struct RejectedKeys {
    /// Of the reading before the last: the target may not be past them yet.
    earlier: HashSet<Key>,
    latest: HashSet<Key>,
}

impl RejectedKeys {
    /// The source was read on, past these rows.
    pub fn read_on(&mut self, rejects: &VecDeque<Reject>, layout: &Layout) {
        self.earlier = std::mem::take(&mut self.latest);
        let keys = rejects.iter().map(|reject| key_of(&reject.row, layout));
        self.latest = keys.take(MAX_KEYS).collect();
    }

    /// Whether a row of that key was rejected. A key with times may be written in another way there,
    /// and is not found then.
    pub fn have(&self, row: Tuple<'_>, encoding: Encoding, layout: &Layout) -> bool {
        if self.earlier.is_empty() && self.latest.is_empty() {
            return false;
        }
        let row = StoredRow {
            encoding,
            tuple: row.as_bytes().to_vec(),
        };
        let key = key_of(&row, layout);
        self.latest.contains(&key) || self.earlier.contains(&key)
    }
}

fn key_of(row: &StoredRow, layout: &Layout) -> Key {
    let columns = layout.primary_key.iter();
    columns.map(|column| row.key_bytes(*column)).collect()
}
