//! What a verification found.

use std::time::Duration;

use crate::migrate::report::TableProof;
use crate::migrate::{BlobPlaces, Side};

/// Differences that are named, of each table and of the blobs; beyond that they are counted.
pub const SHOWN: usize = 100;

/// How two servers compare. Bounded, however many rows and blobs there are.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// Parents before children; empty if only data was compared.
    pub tables: Vec<TableVerdict>,
    /// `None` if only metadata was compared.
    pub files: Option<FileVerdict>,
    pub elapsed: Duration,
}

impl Verification {
    /// Whether the target holds what the source holds, and nothing else.
    pub fn is_equal(&self) -> bool {
        self.tables.iter().all(TableVerdict::is_equal)
            && self.files.as_ref().is_none_or(FileVerdict::is_equal)
    }
}

/// One table of the source.
#[derive(Clone, Debug, Default)]
pub struct TableVerdict {
    pub table: String,
    /// Rows and digests at the moment when each side was first read.
    pub proof: TableProof,
    /// Why the rows could not be compared at all: then they are all missing.
    pub obstacle: Option<&'static str>,
    /// Columns that the target does not have.
    pub lost_columns: Vec<String>,
    /// Rows of the source that the target does not have, those that it cannot hold aside.
    pub missing: u64,
    /// Rows of both with other values.
    pub different: u64,
    /// Rows that only the target has.
    pub extra: u64,
    /// Rows that were not equal at first and are now: one of the two sides is in use.
    pub settled: u64,
    /// The first [`SHOWN`] that differ, in the order of their keys, behind those that cannot be held.
    pub shown: Vec<RowDifference>,
}

impl TableVerdict {
    pub fn is_equal(&self) -> bool {
        self.differences() == 0 && (self.lost_columns.is_empty() || self.proof.source.rows == 0)
    }

    /// Rows that are not the same on both sides.
    pub fn differences(&self) -> u64 {
        self.missing + self.different + self.extra + self.proof.rejected
    }
}

/// A row that is not the same on both sides. No value of it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowDifference {
    /// For a person to read.
    pub key: String,
    pub kind: Difference,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The target does not have the row.
    Missing,
    /// Only the target has it; why, where that can be told.
    Extra(Option<&'static str>),
    /// The names of the columns with other values.
    Different(Vec<String>),
    /// Why the target cannot hold it.
    Rejected(String),
}

/// The files of the source. Each is counted in one place only.
#[derive(Clone, Debug, Default)]
pub struct FileVerdict {
    /// Row and blob are on both sides and equal, as far as was asked.
    pub equal: u64,
    /// Of these, blobs of the target of which nothing but the size was told.
    pub by_size: u64,
    /// Bytes of removed files that are gone already, or were removed while this went on.
    pub gone: u64,
    /// The row is on both sides, equal as far as rows are compared, and promises no bytes.
    pub no_blob: u64,
    /// The target has no row of the file, so that its blob, if it has one, is of no use there.
    pub without_row: u64,
    /// Nothing is wrong with the blob, if there is one, but the rows have other values.
    pub row_different: u64,
    /// The target cannot hold the row.
    pub rejected: u64,
    /// The blob is missing or not what its row says: in the source, in the target, in both.
    pub source_wrong: u64,
    pub target_wrong: u64,
    pub both_wrong: u64,
    /// Blobs of the target that no row names, on either side: invisible to users, and no loss. `None` if
    /// the target has too many blobs to look for them.
    pub strays: Option<StrayBlobs>,
    /// Of all files, as the rows say.
    pub bytes: u64,
    /// The bytes were read, not only asked about.
    pub deep: bool,
    /// The places in which not one of these blobs was found, where more than one should be.
    pub bare: Vec<(Side, String)>,
    /// Files that [`FileVerdict::shown`] names, or is too short to.
    pub to_be_named: u64,
    /// The first [`SHOWN`] whose blob is wrong somewhere, or has no row.
    pub shown: Vec<FileDifference>,
}

impl FileVerdict {
    /// Whether the target has every file as the source has it. Blobs that no row names are left
    /// out of account: a store may be shared.
    pub fn is_equal(&self) -> bool {
        self.differences() == 0
    }

    pub fn differences(&self) -> u64 {
        let equal = self.equal + self.gone + self.no_blob;
        self.files() - equal
    }

    /// All of them.
    pub fn files(&self) -> u64 {
        self.states().iter().map(|(_, files)| files).sum()
    }

    /// Whether the fault of that file follows from a place that has none of the blobs.
    pub fn is_of_bare(&self, file: &FileDifference) -> bool {
        let is_bare = |side| self.bare.iter().any(|(bare, _)| *bare == side);
        match file.kind {
            FileFault::WithoutRow => false,
            FileFault::Wrong(Some(side)) => is_bare(side),
            FileFault::Wrong(None) => is_bare(Side::Source) && is_bare(Side::Target),
        }
    }

    /// Every state of a file, by a word for programs, and how many files are in it.
    pub fn states(&self) -> [(&'static str, u64); 9] {
        [
            ("equal", self.equal),
            ("no_blob", self.no_blob),
            ("gone", self.gone),
            ("without_row", self.without_row),
            ("row_different", self.row_different),
            ("rejected", self.rejected),
            ("source_wrong", self.source_wrong),
            ("target_wrong", self.target_wrong),
            ("both_wrong", self.both_wrong),
        ]
    }

    /// Counts the file, and gives what is to be told of it.
    pub(super) fn count(
        &mut self,
        file: impl Fn() -> FileNames,
        state: FileState,
    ) -> Option<FileDifference> {
        let (kind, reason) = match state {
            FileState::Equal { by_size } => {
                self.equal += 1;
                self.by_size += u64::from(by_size);
                return None;
            }
            FileState::Gone => {
                self.gone += 1;
                return None;
            }
            // What is wrong with the row was told with the rows.
            FileState::RowDifferent => {
                self.row_different += 1;
                return None;
            }
            FileState::Rejected => {
                self.rejected += 1;
                return None;
            }
            FileState::WithoutRow => {
                let reason = "its row is not in the target".to_owned();
                (FileFault::WithoutRow, reason)
            }
            FileState::Wrong(side, reason) => (FileFault::Wrong(side), reason),
        };
        match kind {
            FileFault::WithoutRow => self.without_row += 1,
            FileFault::Wrong(Some(Side::Source)) => self.source_wrong += 1,
            FileFault::Wrong(Some(Side::Target)) => self.target_wrong += 1,
            FileFault::Wrong(None) => self.both_wrong += 1,
        }
        let FileNames {
            file_id,
            upload_id,
            places,
        } = file();
        let found = FileDifference {
            file_id,
            upload_id,
            kind,
            places,
            reason,
        };
        self.to_be_named += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(found.clone());
        }
        Some(found)
    }
}

/// Blobs of the target that no row names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrayBlobs {
    pub blobs: u64,
    pub bytes: u64,
    /// The first [`SHOWN`].
    pub shown: Vec<StrayBlob>,
}

/// A blob that no row names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrayBlob {
    pub file_id: String,
    /// `None` where the name of what is stored does not tell.
    pub upload_id: Option<String>,
    pub size_bytes: u64,
}

/// A file that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDifference {
    pub file_id: String,
    pub upload_id: String,
    pub kind: FileFault,
    /// Where its blob is, or should be, on the sides where it is at fault.
    pub places: BlobPlaces,
    pub reason: String,
}

/// In what way a file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFault {
    /// The target has no row of it.
    WithoutRow,
    /// Its blob is missing or not what its row says, on that side; `None` for both.
    Wrong(Option<Side>),
}

impl FileFault {
    /// A word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WithoutRow => "without_row",
            Self::Wrong(Some(Side::Source)) => "source_wrong",
            Self::Wrong(Some(Side::Target)) => "target_wrong",
            Self::Wrong(None) => "both_wrong",
        }
    }

    /// Where the fault is; `None` for both sides.
    pub fn side(self) -> Option<Side> {
        match self {
            Self::WithoutRow => Some(Side::Target),
            Self::Wrong(side) => side,
        }
    }
}

impl Difference {
    /// A word for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra(_) => "extra",
            Self::Different(_) => "different",
            Self::Rejected(_) => "rejected",
        }
    }
}

/// How a file is told apart, and where its blob is at fault.
#[derive(Default)]
pub(super) struct FileNames {
    pub file_id: String,
    pub upload_id: String,
    pub places: BlobPlaces,
}

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileState {
    /// Nothing but the size of the target's blob may tell so.
    Equal {
        by_size: bool,
    },
    Gone,
    WithoutRow,
    RowDifferent,
    Rejected,
    /// The blob, on that side; `None` for both.
    Wrong(Option<Side>, String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_counted_once_and_the_first_are_named() {
        let mut verdict = FileVerdict::default();
        let states = [
            FileState::Equal { by_size: false },
            FileState::Gone,
            FileState::WithoutRow,
            FileState::RowDifferent,
            FileState::Rejected,
            FileState::Wrong(Some(Side::Source), "missing".to_owned()),
            FileState::Wrong(Some(Side::Target), "missing".to_owned()),
            FileState::Wrong(None, "missing".to_owned()),
        ];
        let count = states.len() as u64;
        for state in states {
            verdict.count(FileNames::default, state);
        }
        assert_eq!((verdict.files(), verdict.differences()), (count, 6));
        assert_eq!(verdict.shown.len(), 4);
        for _ in 0..SHOWN {
            verdict.count(FileNames::default, FileState::WithoutRow);
        }
        assert_eq!((verdict.shown.len(), verdict.without_row), (SHOWN, 101));
    }

    #[test]
    fn a_column_that_is_lost_is_a_difference_where_there_are_rows() {
        let mut table = TableVerdict {
            lost_columns: vec!["note".to_owned()],
            ..TableVerdict::default()
        };
        assert!(table.is_equal());
        table.proof.source.rows = 1;
        assert!(!table.is_equal());
    }

    #[test]
    fn a_row_that_the_target_cannot_hold_is_a_difference() {
        let mut table = TableVerdict::default();
        table.proof.rejected = 1;
        let verification = Verification {
            tables: vec![table],
            ..Verification::default()
        };
        assert!(!verification.is_equal());
        assert!(Verification::default().is_equal());
    }
}
