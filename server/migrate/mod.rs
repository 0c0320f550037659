//! Moves a server from one set of backends to another: blobs first, then rows.
//!
//! The source is only read. What is copied is one moment of it, even while it is written to. The
//! blobs go first, so that no row in the target ever promises bytes that are not there. A run that
//! was cut off is resumed by running it again: what has arrived is found and not copied again.

mod attempts;
mod blob;
mod census;
mod check;
mod compare;
mod data;
mod ends;
mod error;
mod fresh;
mod gate;
mod guard;
mod known;
mod limits;
mod lint;
mod metadata;
mod names;
mod once;
mod outlook;
mod part;
mod places;
mod plan;
mod preflight;
mod preview;
mod progress;
pub mod proof;
mod rejects;
mod removal;
mod replacement;
mod replay;
mod report;
mod retry;
mod run;
mod space;
mod sync;
mod target;
mod unchanged;
mod unfit;
mod uploads;
mod verify;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::config::{DataConfig, Driver, MetadataConfig};
use crate::model::Shard;

pub use ends::{DataEnd, DatabaseEnd, End, Ends};
pub use error::{BadLine, MASS_REMOVAL_HINT, MigrateError, Problem, Side};
pub use limits::{Limiter, Limits, Nice, Schedule, lower_priority};
pub use lint::{Effect, Finding, LintReport, TableLint};
pub use outlook::{BlobTotals, Estimate, Facts, Moved, Outlook, Requests, Room, outlook};
pub use places::BlobPlaces;
pub use preflight::{CheckItem, Verdict};
pub use preview::preview;
pub use progress::{Action, BlobProblem, Event, Progress, Quiet};
pub use replacement::Replacement;
pub use replay::replay;
pub use report::{
    BlobReport, FileStates, Preview, Prospect, Report, StatusReport, TableContent, TableProof,
    TableReport,
};
pub use retry::RetryPolicy;
pub use unfit::{Part, TableFault, Unfit};

use attempts::Attempts;
use once::Once;
use run::Run;

/// One end of a migration.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    pub metadata: &'a MetadataConfig,
    pub data: &'a DataConfig,
}

/// Which of the two halves to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    Both,
    MetadataOnly,
    DataOnly,
}

impl Halves {
    pub fn has_metadata(self) -> bool {
        self != Self::DataOnly
    }

    pub fn has_data(self) -> bool {
        self != Self::MetadataOnly
    }
}

/// What to do about what the target has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Leave it as it is: where it differs from the source is a conflict.
    Copy,
    /// Make it equal to the source. With `delete`, remove what only the target has, if it came
    /// from this source.
    Sync { delete: bool },
}

#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    pub halves: Halves,
    pub mode: Mode,
    /// With [`Mode::Sync`] and `delete`, go on also where most of the target's files would be
    /// removed: it is known that the source has lost them.
    pub removes_most: bool,
    /// Which part of the rows and blobs to move. Others may be moved at the same time by processes
    /// that share nothing with this one but the target; a run of no part puts them together. For
    /// [`Mode::Copy`]; rows go in parts into PostgreSQL only.
    pub shard: Option<Shard>,
    /// Blobs copied at the same time.
    pub workers: NonZeroUsize,
    /// Carry on past rows, blobs and strange tables that cannot be copied.
    pub ignore_errors: bool,
    /// Where rejected rows go whole, if anywhere; of use with `ignore_errors` only.
    pub rejects: Option<&'a Path>,
    /// Leave out rows without their parent.
    pub fix_orphans: bool,
    /// Remove NUL bytes from text that the target cannot hold with them.
    pub strip_nul: bool,
    /// Compare source and target after the last row. Without it, rows that only the target has
    /// are not found, nor those that a resumed run of a living source has passed over.
    pub verify: bool,
    pub retry: RetryPolicy,
    /// What both ends must still be, as a plan says. A run that was cut off goes on although it has
    /// changed the target itself.
    pub expected: Option<&'a Facts>,
    /// Drop the tables of plikd from a target in PostgreSQL first. Nothing is dropped unless the
    /// run could start, and every row of the source can go to the target as far as can be told.
    pub replace: Option<&'a Replacement>,
}

impl Options<'_> {
    /// The same with what there are parts of in that target: a SQLite database is filled by one run.
    #[must_use]
    pub fn towards(self, to: Endpoint<'_>) -> Self {
        let has_no_rows = self.shard.is_some()
            && self.halves == Halves::Both
            && to.metadata.driver == Driver::Sqlite;
        match has_no_rows {
            true => Self {
                halves: Halves::DataOnly,
                ..self
            },
            false => self,
        }
    }
}

/// Copies what the target lacks.
///
/// Before the first write both sides are checked, and all problems are reported at once. Once
/// `cancel` fires the run ends with [`MigrateError::Interrupted`] after writing down how far it
/// came. Dropping the future is safe too: nothing half-written becomes visible.
///
/// What can pass is tried again as `options.retry` says: a blob by itself, everything else as
/// another attempt of the whole run, which goes on from the checkpoints of the one before.
/// `limiter` holds for all of it, and may be changed meanwhile.
///
/// # Errors
///
/// [`MigrateError::Preflight`] if nothing was written; with any other error what was copied stays,
/// and running again goes on from there.
pub async fn run(
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    options: Options<'_>,
    limiter: &Arc<Limiter>,
    progress: &Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Report, MigrateError> {
    let started = Instant::now();
    let progress: Arc<dyn Progress> = Arc::new(Once::new(progress));
    let mut attempts = Attempts::new(options.retry, &progress);
    let progress = attempts.watch();
    let run = Run::new(from, to, options, limiter, &progress, cancel);
    loop {
        // Without its type, which is nested deeper than the compiler follows.
        match run.attempt(attempts.is_further()).boxed().await {
            Ok(report) => {
                return Ok(Report {
                    elapsed: started.elapsed(),
                    ..report
                });
            }
            Err(error) => attempts.wait_after(error, cancel).await?,
        }
    }
}
