//! Whether two servers hold the same: rows by digests, then by keys; blobs by asking, or by reading.
//!
//! Both sides are only read. Either may be in use: what differs at first is looked at again, after
//! a while, before it is told.

mod blobs;
mod report;
mod rows;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::data::LivingRows;
use super::error::{MigrateError, Problem, Side};
use super::plan::{keeps_keys, shared_place};
use super::progress::{Event, Progress};
use super::{Endpoint, Halves};
use crate::config::MetadataConfig;
use crate::data::{self, Access, DataBackend, Location};
use crate::metadata::{self, MetadataError, Snapshot};
use blobs::BlobCheck;
use rows::RowCheck;

pub use report::{
    Difference, FileDifference, FileVerdict, RowDifference, SHOWN, TableVerdict, Verification,
};

/// How long to wait before each further look at what differed.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];
/// Differences of one table, or of the blobs, that are looked at again. More are no passing thing.
const LOOKED_AT_AGAIN: usize = 1000;

/// What to compare, and how well.
#[derive(Clone, Copy, Debug)]
pub struct VerifyOptions {
    pub halves: Halves,
    /// Read every blob on both sides, instead of asking for its size.
    pub deep: bool,
    /// Blobs looked at at the same time.
    pub workers: NonZeroUsize,
}

/// Compares the target with the source, and writes nothing anywhere.
///
/// # Errors
///
/// [`MigrateError::Preflight`] with every problem of a side that cannot be read; a difference is
/// no error.
pub async fn verify(
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    options: VerifyOptions,
    progress: &Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Verification, MigrateError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(MigrateError::Interrupted),
        found = compare(from, to, options, progress) => found,
    }
}

async fn compare(
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    options: VerifyOptions,
    progress: &Arc<dyn Progress>,
) -> Result<Verification, MigrateError> {
    let started = Instant::now();
    let ends = Ends::open(from, to, options.halves).await?;
    let mut found = Verification::default();
    progress.on(Event::VerifyBegin);
    let layouts = metadata::migrated(ends.source.layouts().await?);
    if options.halves.has_metadata()
        && let Some(target) = &ends.target
    {
        let check = RowCheck {
            from: from.metadata,
            to: to.metadata,
            own_blobs: ends.own_blobs,
            progress: progress.as_ref(),
        };
        found.tables = check.run(&ends.source, target, &layouts).await?;
    }
    let files = layouts.iter().find(|layout| layout.name == "files");
    if let (Some((from_data, to_data)), Some(files)) = (&ends.data, files) {
        let check = BlobCheck {
            from: Arc::clone(from_data),
            to: Arc::clone(to_data),
            to_keeps_keys: keeps_keys(to.data),
            source: LivingRows::new(from.metadata),
            options,
            progress: Arc::clone(progress),
        };
        found.files = Some(check.run(&ends.source, files, ends.target.as_ref()).await?);
    }
    found.elapsed = started.elapsed();
    Ok(found)
}

/// Both sides, opened to be read.
struct Ends {
    source: Snapshot,
    /// `None` if its rows are not needed.
    target: Option<Snapshot>,
    /// `None` if only rows are compared.
    data: Option<(Arc<dyn DataBackend>, Arc<dyn DataBackend>)>,
    /// Each side has blobs of its own, and says so in its own way in the rows of their files.
    own_blobs: bool,
}

impl Ends {
    async fn open(
        from: Endpoint<'_>,
        to: Endpoint<'_>,
        halves: Halves,
    ) -> Result<Self, MigrateError> {
        let mut problems = Vec::new();
        let needs_target = halves.has_metadata() || keeps_keys(to.data);
        let source = open_rows(from.metadata, Side::Source, &mut problems).await;
        let target = match needs_target {
            true => open_rows(to.metadata, Side::Target, &mut problems).await,
            false => None,
        };
        if let (Some(source), Some(target)) = (&source, &target)
            && source.identity() == target.identity()
            && halves.has_metadata()
        {
            problems.push(Problem::SamePlace {
                half: "metadata",
                place: metadata::name_of(from.metadata),
            });
        }
        let places = (Location::of(from.data), Location::of(to.data));
        let (shared, own_blobs) = match &places {
            (Ok(from), Ok(to)) => (shared_place(from, to), !from.is_same(to)),
            _ => (None, true),
        };
        let mut data = None;
        if halves.has_data() {
            problems.extend(shared.map(|place| Problem::SamePlace {
                half: "data",
                place,
            }));
            let from = open_blobs(from, Side::Source, &mut problems).await;
            data = from.zip(open_blobs(to, Side::Target, &mut problems).await);
        }
        match source {
            Some(source) if problems.is_empty() => Ok(Self {
                source,
                target,
                data,
                own_blobs,
            }),
            _ => Err(MigrateError::Preflight(problems)),
        }
    }
}

async fn open_rows(
    config: &MetadataConfig,
    side: Side,
    problems: &mut Vec<Problem>,
) -> Option<Snapshot> {
    let opened: Result<Snapshot, MetadataError> = async {
        let snapshot = Snapshot::open(config).await?;
        snapshot.versions().await?;
        if side == Side::Source {
            snapshot.refuse_half_migrated().await?;
        }
        Ok(snapshot)
    }
    .await;
    opened
        .map_err(|source| problems.push(Problem::Metadata { side, source }))
        .ok()
}

async fn open_blobs(
    end: Endpoint<'_>,
    side: Side,
    problems: &mut Vec<Problem>,
) -> Option<Arc<dyn DataBackend>> {
    let opened = data::open(end.data, Access::ReadOnly).await;
    opened
        .map_err(|source| problems.push(Problem::Data { side, source }))
        .ok()
}
