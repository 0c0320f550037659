//! Whether two servers hold the same: rows by digests, then by keys; blobs by asking, or by reading.
//!
//! Both sides are only read. Either may be in use: what differs at first is looked at again, after
//! a while, before it is told.

mod blobs;
mod odd;
mod report;
mod rows;
mod strays;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::check::{keeps_keys, shared_place};
use super::data::LivingRows;
use super::ends::{End, Ends};
use super::error::{MigrateError, Problem, Side, tell_both_halves};
use super::limits::{Limited, Limiter};
use super::progress::{Event, Progress};
use super::{Endpoint, Halves};
use crate::config::MetadataConfig;
use crate::data::{self, Access, DataBackend, Location};
use crate::metadata::{self, MetadataError, Snapshot};
use blobs::{BlobCheck, Seen};
use odd::OddRows;
use rows::RowCheck;

pub use report::{
    Difference, FileDifference, FileFault, FileVerdict, RowDifference, SHOWN, StrayBlob,
    StrayBlobs, TableVerdict, Verification,
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
    limiter: &Arc<Limiter>,
    progress: &Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Verification, MigrateError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(MigrateError::Interrupted),
        found = compare(from, to, options, limiter, progress) => found,
    }
}

async fn compare(
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    options: VerifyOptions,
    limiter: &Arc<Limiter>,
    progress: &Arc<dyn Progress>,
) -> Result<Verification, MigrateError> {
    let started = Instant::now();
    let mut ends = Ends::named(from, to, options.halves);
    let sides = Sides::open(from, to, options.halves, limiter, &mut ends).await;
    progress.on(Event::Ends(&ends));
    let sides = sides?;
    let mut found = Verification::default();
    progress.on(Event::VerifyBegin);
    let mut odd = OddRows::of(None);
    let layouts = metadata::migrated(sides.source.layouts().await?);
    if options.halves.has_metadata()
        && let Some(target) = &sides.target
    {
        let check = RowCheck {
            from: from.metadata,
            to: to.metadata,
            own_blobs: sides.own_blobs,
            limiter,
            progress: progress.as_ref(),
        };
        let (tables, differing) = check.run(&sides.source, target, &layouts).await?;
        (found.tables, odd) = (tables, differing);
    }
    let files = layouts.iter().find(|layout| layout.name == "files");
    if let (Some((from_data, to_data)), Some(files)) = (&sides.data, files) {
        let check = BlobCheck {
            from: Arc::clone(from_data),
            to: Arc::clone(to_data),
            to_keeps_keys: keeps_keys(to.data),
            source: LivingRows::new(from.metadata),
            names_blobs: LivingRows::new(match sides.target {
                Some(_) => to.metadata,
                None => from.metadata,
            }),
            options,
            progress: Arc::clone(progress),
            seen: Seen::default(),
        };
        found.files = Some(
            check
                .run(&sides.source, files, sides.target.as_ref(), odd)
                .await?,
        );
    }
    found.elapsed = started.elapsed();
    Ok(found)
}

/// Both sides, opened to be read.
struct Sides {
    source: Snapshot,
    /// `None` if its rows are not needed.
    target: Option<Snapshot>,
    /// `None` if only rows are compared.
    data: Option<(Arc<dyn DataBackend>, Arc<dyn DataBackend>)>,
    /// Each side has blobs of its own, and says so in its own way in the rows of their files.
    own_blobs: bool,
}

impl Sides {
    /// Also completes what `ends` tell.
    async fn open(
        from: Endpoint<'_>,
        to: Endpoint<'_>,
        halves: Halves,
        limiter: &Arc<Limiter>,
        ends: &mut Ends,
    ) -> Result<Self, MigrateError> {
        let mut problems = Vec::new();
        let needs_target = halves.has_metadata() || keeps_keys(to.data);
        let source = open_rows(from.metadata, Side::Source, &mut ends.from, &mut problems).await;
        let target = match needs_target {
            true => open_rows(to.metadata, Side::Target, &mut ends.to, &mut problems).await,
            false => None,
        };
        if let (Some(source), Some(target)) = (&source, &target)
            && source.identity() == target.identity()
            && halves.has_metadata()
        {
            problems.push(Problem::SamePlace {
                half: "metadata",
                place: metadata::name_of(from.metadata),
                both: false,
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
                both: false,
            }));
            let from = open_blobs(from, Side::Source, limiter, &mut problems).await;
            data = from.zip(open_blobs(to, Side::Target, limiter, &mut problems).await);
        }
        match source {
            Some(source) if problems.is_empty() => Ok(Self {
                source,
                target,
                data,
                own_blobs,
            }),
            _ => {
                tell_both_halves(&mut problems);
                Err(MigrateError::Preflight(problems))
            }
        }
    }
}

async fn open_rows(
    config: &MetadataConfig,
    side: Side,
    end: &mut End,
    problems: &mut Vec<Problem>,
) -> Option<Snapshot> {
    let opened: Result<Snapshot, MetadataError> = async {
        let snapshot = Snapshot::open(config).await?;
        snapshot.versions().await?;
        if side == Side::Source {
            snapshot.refuse_half_migrated().await?;
        }
        end.look(&snapshot).await?;
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
    limiter: &Arc<Limiter>,
    problems: &mut Vec<Problem>,
) -> Option<Arc<dyn DataBackend>> {
    let opened = data::open_with(end.data, Access::ReadOnly, limiter.tuning()).await;
    opened
        .map(|backend| Arc::new(Limited::new(backend, limiter)) as Arc<dyn DataBackend>)
        .map_err(|source| problems.push(Problem::Data { side, source }))
        .ok()
}
