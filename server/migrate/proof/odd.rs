//! The rows of files that are not equal on both sides, beside their blobs.

use crate::metadata::Tuple;
use crate::migrate::blob::BlobRow;
use crate::migrate::compare::{Merge, Standing};
use crate::migrate::error::MigrateError;

/// In what way the row of a file is not equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oddity {
    /// The target does not have it.
    Missing,
    /// The target has it with other values.
    Different,
    /// The target cannot hold it.
    Rejected,
}

/// The odd rows of the source, asked for in the order of their ids. Those of files that promise no
/// bytes are counted on the way.
pub(super) struct OddRows {
    /// `None` if all rows are equal, or are not compared.
    merge: Option<Merge>,
    next: Option<(BlobRow, Oddity)>,
    pub without_blob: OddCounts,
}

/// How many rows are odd in each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OddCounts {
    pub missing: u64,
    pub different: u64,
    pub rejected: u64,
}

impl OddCounts {
    fn count(&mut self, oddity: Oddity) {
        *match oddity {
            Oddity::Missing => &mut self.missing,
            Oddity::Different => &mut self.different,
            Oddity::Rejected => &mut self.rejected,
        } += 1;
    }

    pub fn total(self) -> u64 {
        self.missing + self.different + self.rejected
    }
}

impl OddRows {
    /// Those that `merge` comes by.
    pub fn of(merge: Option<Merge>) -> Self {
        Self {
            merge,
            next: None,
            without_blob: OddCounts::default(),
        }
    }

    /// Whether the row of that file is odd; ids must be asked for in ascending order.
    pub async fn at(&mut self, id: &str) -> Result<Option<Oddity>, MigrateError> {
        loop {
            if self.next.is_none() {
                self.next = self.advance().await?;
            }
            match &self.next {
                Some((row, oddity)) if row.file_id == id => return Ok(Some(*oddity)),
                Some((row, _)) if row.file_id.as_str() < id => self.next = None,
                _ => return Ok(None),
            }
        }
    }

    /// Counts those behind the last file that was asked for.
    pub async fn finish(&mut self) -> Result<(), MigrateError> {
        while self.advance().await?.is_some() {}
        Ok(())
    }

    /// The next one that promises bytes.
    async fn advance(&mut self) -> Result<Option<(BlobRow, Oddity)>, MigrateError> {
        let Some(merge) = &mut self.merge else {
            return Ok(None);
        };
        let (layout, encoding) = (merge.layout().clone(), merge.encoding());
        while let Some(row) = merge.next().await? {
            let (file, oddity) = match row {
                Ok(row) => {
                    let oddity = match row.standing {
                        Standing::Missing => Oddity::Missing,
                        Standing::Different => Oddity::Different,
                        Standing::Equal | Standing::Extra => continue,
                    };
                    (BlobRow::decode(row.row(), &layout, encoding), oddity)
                }
                Err(reject) => {
                    let row = Tuple::new(&reject.row.tuple);
                    let file = BlobRow::decode(row, &layout, reject.row.encoding);
                    (file, Oddity::Rejected)
                }
            };
            if file.status.has_blob() {
                return Ok(Some((file, oddity)));
            }
            self.without_blob.count(oddity);
        }
        self.merge = None;
        Ok(None)
    }
}
