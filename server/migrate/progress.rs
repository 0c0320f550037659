//! What a migration tells while it runs. It prints nothing itself.

use std::time::Duration;

use super::ends::Ends;
use super::limits::Limits;
use super::lint::Finding;
use super::places::BlobPlaces;
use super::preflight::CheckItem;
use super::proof::{FileDifference, RowDifference, StrayBlob};
use super::unfit::Unfit;
use crate::metadata::{Built, Reject};

/// Something that happened, for a person who watches.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// What both ends turned out to be.
    Ends(&'a Ends),
    /// Things that were checked before the first write.
    Checked(&'a [CheckItem]),
    /// A column of the source that the target will not have: its values are made from others, or
    /// it cannot be there and is left out on request.
    ColumnLeftOut {
        table: &'a str,
        column: &'a str,
    },
    /// A table of the source that the target cannot have, and that is left out on request.
    TableLeftOut(&'a Unfit),
    /// Blobs are about to be copied: how many, and their bytes, as the rows say.
    BlobsBegin {
        blobs: u64,
        bytes: u64,
    },
    /// That many bytes of a blob have passed.
    BlobBytes(u64),
    /// A blob is done, copied or not; its bytes that did not pass are not coming.
    BlobEnd {
        bytes_left: u64,
    },
    /// A blob that could not be copied, or was left out, and why.
    BlobProblem {
        problem: &'a BlobProblem,
    },
    /// These tables of the target, and all their rows, are gone: they were to be replaced.
    Dropped {
        tables: &'a [String],
    },
    /// A dry run found a table of the target that the run would drop, with so many rows.
    WouldDrop {
        table: &'a str,
        rows: u64,
    },
    /// The target has no rows, so whole tables are loaded, and their keys built afterwards.
    FreshBegin,
    /// The target refused some row of a whole load: all of it is undone, and the rows go in batch
    /// by batch.
    FreshAbandoned {
        reason: &'a str,
    },
    /// How far keys, indexes and foreign keys are, after a whole load.
    Keys(Built),
    TableBegin {
        table: &'a str,
        rows: u64,
    },
    /// So many rows of the table were dealt with since the last such event.
    Rows {
        table: &'a str,
        rows: u64,
    },
    TableEnd {
        table: &'a str,
    },
    /// The rows of the source are being looked at, before anything is written.
    LintBegin,
    /// What is wrong with one row of the source.
    Finding(&'a Finding),
    /// A row that cannot go to the target.
    Rejected(&'a Reject),
    /// A row whose key is in the target with other values.
    Conflict {
        table: &'a str,
        key: &'a str,
    },
    /// A row that only the target has; why, where that can be told.
    Extra {
        table: &'a str,
        key: &'a str,
        reason: Option<&'a str>,
    },
    /// A row that the target had with other values, and that was made equal.
    Updated {
        table: &'a str,
        key: &'a str,
    },
    /// A row that was removed from the target: it came from the source, and is gone there.
    Deleted {
        table: &'a str,
        key: &'a str,
    },
    /// The blob of such a row, or of one that promises no bytes any more, likewise.
    BlobDeleted {
        file_id: &'a str,
        /// `None` where the name of the blob does not tell.
        upload_id: Option<&'a str>,
    },
    /// Something failed that can pass, and is tried again after a wait.
    Retry {
        /// The blob that it is about; `None` if the whole run goes on from its checkpoints.
        blob: Option<&'a str>,
        /// The error with its causes, in one line.
        reason: &'a str,
        /// Failures so far, without a success in between.
        failures: u32,
        wait: Duration,
    },
    /// The limits, at the start if there are any, and whenever they were changed.
    Limits {
        limits: &'a Limits,
        changed: bool,
    },
    /// The target is being compared with the source.
    VerifyBegin,
    /// A verification found a row that is not the same on both sides, also at a further look.
    RowDiffers {
        table: &'a str,
        row: &'a RowDifference,
    },
    /// The same of a file.
    FileDiffers(&'a FileDifference),
    /// A blob of the target that no row names.
    Stray(&'a StrayBlob),
    /// Something that a dry run would do with one row or blob.
    Would {
        action: Action,
        what: &'a str,
        key: &'a str,
        detail: &'a str,
        /// What mends it, where something is wrong with it and that is known.
        fix: Option<&'a str>,
    },
}

/// What a run would do with one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Copy,
    Keep,
    Conflict,
    /// It is there with other values, and is made equal.
    Update,
    /// Only the target has it; it stays.
    Extra,
    /// It came from the source and is gone there, so it is removed.
    Delete,
    Skip,
    Reject,
}

impl Action {
    /// Whether it leaves the two ends different, or changes what the target has.
    pub fn is_notable(self) -> bool {
        match self {
            Self::Conflict | Self::Update | Self::Extra | Self::Delete | Self::Reject => true,
            Self::Copy | Self::Keep | Self::Skip => false,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Keep => "present",
            Self::Conflict => "conflict",
            Self::Update => "update",
            Self::Extra => "extra",
            Self::Delete => "delete",
            Self::Skip => "skip",
            Self::Reject => "reject",
        }
    }
}

/// A blob that is not in the target after the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobProblem {
    pub file_id: String,
    pub upload_id: String,
    /// A file about to be deleted: its bytes are missed by nobody.
    pub harmless: bool,
    pub places: BlobPlaces,
    pub reason: String,
}

/// Watches a migration. Called often, from several tasks: it must not block.
pub trait Progress: Send + Sync {
    fn on(&self, event: Event<'_>);
}

/// Watches nothing.
pub struct Quiet;

impl Progress for Quiet {
    fn on(&self, _: Event<'_>) {}
}
