//! What a migration did, or would do.

use std::time::Duration;

use super::Options;
use super::lint::{Effect, LintReport};
use super::unchanged::is_most;
use super::unfit::Unfit;
use crate::metadata::{TableDigest, Tally};
use crate::model::Shard;

/// One table after the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReport {
    pub table: String,
    pub rows: Tally,
    /// Rows that only the target has: its own, or removed from the source since an earlier run.
    pub extra: u64,
    /// What the check at the end saw; `None` if there was none.
    pub proof: Option<TableProof>,
}

/// What one reading of a table on both sides told.
///
/// A digest is 32 hexadecimal digits that follow from the rows as the target holds them and not
/// from their order; equal digests mean equal rows. Digests of different tables, pairs of engines
/// or releases are not to be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableProof {
    pub source: TableContent,
    pub target: TableContent,
    /// Rows of the source that the target cannot hold. They are in neither digest.
    pub rejected: u64,
}

/// The rows of a table on one side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableContent {
    /// As far as the target can hold them.
    pub rows: u64,
    pub digest: String,
}

impl From<&TableDigest> for TableContent {
    fn from(digest: &TableDigest) -> Self {
        Self {
            rows: digest.rows(),
            digest: digest.to_string(),
        }
    }
}

/// The blobs after the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlobReport {
    pub copied: u64,
    /// Of these, so many were copied by the S3 server that has both sides: no byte came by here.
    pub copied_by_store: u64,
    /// Already there, with the right size and digest.
    pub present: u64,
    /// Bytes of removed files that were gone already.
    pub skipped: u64,
    pub failed: u64,
    /// Of files that are gone from the source.
    pub deleted: u64,
    /// Of those copied.
    pub bytes: u64,
}

/// The files of the source, each in exactly one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStates {
    /// Row and blob are in the target, as they are in the source.
    pub equal: u64,
    /// The row is, and promises no bytes.
    pub no_blob: u64,
    /// The bytes of a removed file, which are gone.
    pub gone: u64,
    /// The blob could not be copied, so the row was left out.
    pub blob_failed: u64,
    /// The target has another row of that key.
    pub conflict: u64,
    /// The target cannot hold the row.
    pub rejected: u64,
    /// The row was left out on request.
    pub left_out: u64,
}

impl FileStates {
    /// All of them.
    pub fn files(&self) -> u64 {
        self.each().iter().map(|(_, files)| files).sum()
    }

    /// Every state, by a word for programs, and how many files are in it.
    pub fn each(&self) -> [(&'static str, u64); 7] {
        // Every field is named, so that a new one cannot be forgotten.
        let Self {
            equal,
            no_blob,
            gone,
            blob_failed,
            conflict,
            rejected,
            left_out,
        } = *self;
        [
            ("equal", equal),
            ("no_blob", no_blob),
            ("gone", gone),
            ("blob_failed", blob_failed),
            ("conflict", conflict),
            ("rejected", rejected),
            ("left_out", left_out),
        ]
    }
}

/// What one run did. Bounded, however many rows and blobs there were.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order in which they were copied; empty if only data was.
    pub tables: Vec<TableReport>,
    /// `None` if only metadata was copied.
    pub blobs: Option<BlobReport>,
    /// `None` if only one half was copied, or the rows were not compared at the end.
    pub files: Option<FileStates>,
    /// The part of the blobs that it was about; `None` for all of them.
    pub shard: Option<Shard>,
    /// What was wrong with the rows of the source; nothing if only data was copied.
    pub lint: LintReport,
    /// Tables and columns that the target cannot have.
    pub omitted: Vec<Unfit>,
    /// A server was using the source: what it has changed since is not in the target.
    pub source_is_served: bool,
    pub elapsed: Duration,
}

impl Report {
    /// Whether the target holds what the source holds, and nothing else.
    pub fn is_complete(&self) -> bool {
        self.left_behind() == 0 && self.extra() == 0 && self.omitted.is_empty()
    }

    /// Rows and blobs that are not in the target as they are in the source.
    pub fn left_behind(&self) -> u64 {
        let rows: u64 = self
            .tables
            .iter()
            .map(|table| table.rows.conflicts + table.rows.failed)
            .sum();
        rows + self.blobs.map_or(0, |blobs| blobs.failed)
    }

    /// Rows that only the target has.
    pub fn extra(&self) -> u64 {
        self.tables.iter().map(|table| table.extra).sum()
    }
}

/// What a run would do.
#[derive(Clone, Debug, Default)]
pub struct Preview {
    pub tables: Vec<TableReport>,
    pub statuses: Vec<StatusReport>,
    pub blobs: Option<BlobReport>,
    /// Files of the target that came from the source, counted only where some are to be removed …
    pub files_owned: u64,
    /// … and those of them that are gone from it.
    pub files_gone: u64,
    /// What is wrong with the rows of the source.
    pub lint: LintReport,
    /// Tables and columns that the target cannot have.
    pub omitted: Vec<Unfit>,
    /// How the run would end.
    pub prospect: Prospect,
}

/// How a run would end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prospect {
    /// With everything of the source in the target, and nothing else.
    #[default]
    Complete,
    /// With rows or blobs that differ, are left out or are only in the target.
    Incomplete,
    /// Before it wrote anything: so many rows of the source cannot go to the target.
    Refused { rows: u64 },
    /// In the middle: so many blobs cannot be copied.
    Stopped { blobs: u64 },
    /// Before it wrote anything: most of the files of the target would be removed.
    MassRemoval { removed: u64, of: u64 },
}

impl Preview {
    /// Whether rows of a table may go: one of which a row cannot be brought keeps all of them.
    pub(super) fn may_delete_from(&self, table: &str) -> bool {
        let mut found = self.lint.tables.iter().filter(|lint| lint.table == table);
        let rejected = found.any(|lint| lint.rows(Effect::Rejected) > 0);
        let blobs = self.blobs.filter(|_| table == "files");
        !rejected && blobs.is_none_or(|blobs| blobs.failed == 0)
    }

    /// As the run finds it, which does not know of the blobs then.
    fn mass_removal(&self, options: Options<'_>) -> Option<Prospect> {
        let files = self.tables.iter().find(|table| table.table == "files")?;
        let (removed, of) = (self.files_gone, self.files_owned);
        let is_most = files.rows.failed == 0 && !options.removes_most && is_most(removed, of);
        is_most.then_some(Prospect::MassRemoval { removed, of })
    }

    /// How a run with these options would end.
    pub(super) fn prospect(&self, options: Options<'_>) -> Prospect {
        let (rows, blobs) = (
            self.lint.rows(Effect::Rejected),
            self.blobs.map_or(0, |blobs| blobs.failed),
        );
        let differing = |table: &TableReport| {
            // Nobody looks for rows that only the target has if nothing is compared.
            let extra = if options.verify { table.extra } else { 0 };
            table.rows.conflicts + table.rows.failed + extra
        };
        let differing: u64 = self.tables.iter().map(differing).sum();
        match options.ignore_errors {
            false if rows > 0 => Prospect::Refused { rows },
            _ if let Some(removal) = self.mass_removal(options) => removal,
            false if blobs > 0 => Prospect::Stopped { blobs },
            _ if differing + blobs > 0 => Prospect::Incomplete,
            _ if !self.omitted.is_empty() => Prospect::Incomplete,
            _ => Prospect::Complete,
        }
    }
}

/// The files of one status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// As stored; `''` is legacy for missing.
    pub status: String,
    pub files: u64,
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_and_failures_are_left_behind() {
        let rows = Tally {
            copied: 5,
            present: 4,
            conflicts: 1,
            failed: 2,
            ..Tally::default()
        };
        let report = Report {
            tables: vec![TableReport {
                table: "users".into(),
                rows,
                extra: 0,
                proof: None,
            }],
            blobs: Some(BlobReport {
                failed: 3,
                skipped: 9,
                ..BlobReport::default()
            }),
            files: None,
            shard: None,
            lint: LintReport::default(),
            omitted: Vec::new(),
            source_is_served: false,
            elapsed: Duration::ZERO,
        };
        assert_eq!(report.left_behind(), 6);
        assert!(!report.is_complete());
        assert!(Report::default().is_complete());
    }
}
