//! How long it may take, judged by reading a little of the source and asking the target a few times.

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde::Serialize;

use crate::data::{self, Access, BlobRef, DataBackend, Tuning};
use crate::metadata::{MetadataError, Order, Request, Rows, Snapshot};
use crate::migrate::data::BlobRows;
use crate::migrate::error::MigrateError;
use crate::migrate::plan::Plan;
use crate::migrate::report::Preview;
use crate::migrate::{Endpoint, Options};
use crate::model::{BackendDetails, FileStatus};

/// How long rows are read, and blobs.
const READING: Duration = Duration::from_millis(800);
/// How often the target is asked.
const QUESTIONS: u32 = 5;
/// How long it may take to answer all of them.
const ASKING: Duration = Duration::from_secs(1);
/// Rows that travel together.
const ROWS_PER_BATCH: u64 = 1000;

/// How it was estimated, for who reads the plan.
const HOW: &str = "an estimate, not a promise: rows and blobs of the source were read for a second each, \
     and the target was asked a few times; the target is taken to write as fast as the source reads, \
     every row is read once to look at it, once to copy it and once to compare it, and limits of the \
     rate are left out";

/// How long a run may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Estimate {
    pub seconds: u64,
    pub rows_seconds: u64,
    pub blobs_seconds: u64,
    /// Read from the source; `None` if there was nothing to read, as in all that follow.
    pub rows_per_second: Option<u64>,
    /// Read from the source, one blob after another.
    pub bytes_per_second: Option<u64>,
    /// To open a blob of the source.
    pub source_blob_microseconds: Option<u64>,
    /// Of one question to the target.
    pub target_metadata_microseconds: Option<u64>,
    pub target_data_microseconds: Option<u64>,
    pub how: &'static str,
}

/// Reads a sample. Nothing is written.
pub(super) async fn take(
    plan: &Plan,
    to: Endpoint<'_>,
    options: Options<'_>,
    preview: &Preview,
    tuning: Tuning,
) -> Result<Estimate, MigrateError> {
    let mut estimate = Estimate {
        how: HOW,
        ..Estimate::default()
    };
    if options.halves.has_metadata() {
        estimate.rows_per_second = rows_per_second(plan, to, options).await?;
        estimate.target_metadata_microseconds = metadata_round_trip(to).await?;
    }
    if let (Some(blobs), Some(from)) = (&preview.blobs, &plan.from_data)
        && blobs.copied > 0
    {
        let read = read_blobs(plan, from.as_ref(), options).await?;
        estimate.source_blob_microseconds = read.opening.map(micros);
        estimate.bytes_per_second = read.bytes_per_second();
        let target = data::open_with(to.data, Access::Probe, tuning).await?;
        if !target.is_absent() {
            estimate.target_data_microseconds = data_round_trip(target.as_ref()).await;
        }
    }
    estimate.conclude(options, preview);
    Ok(estimate)
}

impl Estimate {
    /// Puts together what was measured.
    fn conclude(&mut self, options: Options<'_>, preview: &Preview) {
        let rows: u64 = preview.tables.iter().map(|table| table.rows.total()).sum();
        let readings = if options.verify { 3 } else { 2 };
        let reading = per_second(rows * readings, self.rows_per_second);
        let asked = self.target_metadata_microseconds.unwrap_or(0) * (rows / ROWS_PER_BATCH);
        self.rows_seconds = reading + asked / 1_000_000;
        let blobs = preview.blobs.unwrap_or_default();
        let each =
            self.source_blob_microseconds.unwrap_or(0) + self.target_data_microseconds.unwrap_or(0);
        let opening = each * blobs.copied / 1_000_000 / options.workers.get() as u64;
        self.blobs_seconds = opening.max(per_second(blobs.bytes, self.bytes_per_second));
        self.seconds = self.rows_seconds + self.blobs_seconds;
    }
}

/// Seconds for so many at that rate, rounded up.
fn per_second(count: u64, rate: Option<u64>) -> u64 {
    rate.map_or(0, |rate| count.div_ceil(rate.max(1)))
}

/// The rate at which the largest table is read for the target.
async fn rows_per_second(
    plan: &Plan,
    to: Endpoint<'_>,
    options: Options<'_>,
) -> Result<Option<u64>, MigrateError> {
    let mut largest = None;
    for layout in &plan.layouts {
        let rows = plan.source.count(&layout.name).await?;
        if largest.is_none_or(|(most, _)| rows > most) {
            largest = Some((rows, layout));
        }
    }
    let Some((_, layout)) = largest else {
        return Ok(None);
    };
    let started = Instant::now();
    let mut stream = plan.source.read(Request {
        layout: layout.clone(),
        encoding: plan.source.encoding_for(to.metadata.driver),
        to: to.metadata.driver,
        after: None,
        rows: Rows::of_shard(options.shard),
        order: Order::Any,
    });
    let mut rows = 0;
    while started.elapsed() < READING
        && let Some(batch) = stream.next().await?
    {
        rows += batch.rows.len() as u64;
    }
    Ok(rate(rows, started.elapsed()))
}

async fn metadata_round_trip(to: Endpoint<'_>) -> Result<Option<u64>, MigrateError> {
    let target = match Snapshot::open(to.metadata).await {
        Ok(target) => target,
        Err(MetadataError::NotInitialised { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let started = Instant::now();
    for asked in 1..=QUESTIONS {
        target.engine_version().await?;
        if asked == QUESTIONS || started.elapsed() > ASKING {
            return Ok(Some(micros(started.elapsed() / asked)));
        }
    }
    Ok(None)
}

/// The time that the target takes to say that it has not a blob. One that does not answer has been
/// found out before; here it only tells no time.
async fn data_round_trip(target: &dyn DataBackend) -> Option<u64> {
    let nothing = BlobRef {
        file_id: "plikd-asks-how-long-it-takes".to_owned(),
        upload_id: "plikd".to_owned(),
        content_type: String::new(),
        details: BackendDetails::default(),
    };
    let started = Instant::now();
    for asked in 1..=QUESTIONS {
        target.stat(&nothing).await.ok()?;
        if asked == QUESTIONS || started.elapsed() > ASKING {
            return Some(micros(started.elapsed() / asked));
        }
    }
    None
}

/// What reading some blobs told.
#[derive(Default)]
struct BlobSample {
    bytes: u64,
    reading: Duration,
    /// Of one blob, on the average.
    opening: Option<Duration>,
}

impl BlobSample {
    fn bytes_per_second(&self) -> Option<u64> {
        rate(self.bytes, self.reading)
    }
}

async fn read_blobs(
    plan: &Plan,
    from: &dyn DataBackend,
    options: Options<'_>,
) -> Result<BlobSample, MigrateError> {
    let (mut sample, mut opened, mut opening) = (BlobSample::default(), 0, Duration::ZERO);
    let Some(files) = plan.files() else {
        return Ok(sample);
    };
    let started = Instant::now();
    let mut rows = BlobRows::with_blob(&plan.source, files).of_shard(options.shard);
    let batch = rows.next().await?.unwrap_or_default();
    let uploaded = batch
        .iter()
        .filter(|row| row.status == FileStatus::Uploaded);
    for row in uploaded {
        if started.elapsed() > READING {
            break;
        }
        let begun = Instant::now();
        // One that cannot be read has been counted.
        let Ok(mut blob) = from.get(&row.blob(), None).await else {
            continue;
        };
        opening += begun.elapsed();
        opened += 1;
        while started.elapsed() < READING
            && let Some(Ok(chunk)) = blob.body.next().await
        {
            sample.bytes += chunk.len() as u64;
        }
        sample.reading += begun.elapsed();
    }
    sample.opening = (opened > 0).then(|| opening / opened.max(1));
    Ok(sample)
}

/// So many per second; `None` of nothing.
fn rate(count: u64, time: Duration) -> Option<u64> {
    (count > 0).then(|| count.saturating_mul(1_000_000) / micros(time).max(1))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::metadata::Tally;
    use crate::migrate::report::{BlobReport, TableReport};
    use crate::migrate::{Halves, Mode, RetryPolicy};

    fn options(verify: bool) -> Options<'static> {
        Options {
            removes_most: false,
            shard: None,
            halves: Halves::Both,
            mode: Mode::Copy,
            workers: NonZeroUsize::new(4).unwrap(),
            ignore_errors: false,
            rejects: None,
            fix_orphans: false,
            strip_nul: false,
            verify,
            retry: RetryPolicy::default(),
            expected: None,
            replace: None,
        }
    }

    #[test]
    fn rows_are_read_three_times_and_blobs_take_what_is_slowest() {
        let preview = Preview {
            tables: vec![TableReport {
                table: "files".to_owned(),
                rows: Tally {
                    copied: 1_000_000,
                    ..Tally::default()
                },
                extra: 0,
                proof: None,
            }],
            blobs: Some(BlobReport {
                copied: 4000,
                bytes: 20_000_000,
                ..BlobReport::default()
            }),
            ..Preview::default()
        };
        let mut estimate = Estimate {
            rows_per_second: Some(500_000),
            target_metadata_microseconds: Some(1000),
            bytes_per_second: Some(10_000_000),
            source_blob_microseconds: Some(1000),
            target_data_microseconds: Some(9000),
            ..Estimate::default()
        };
        estimate.conclude(options(true), &preview);
        // 10 ms for each of 4000 blobs, four at a time.
        assert_eq!((estimate.rows_seconds, estimate.blobs_seconds), (7, 10));
        assert_eq!(estimate.seconds, 17);
        estimate.target_data_microseconds = None;
        estimate.conclude(options(false), &preview);
        assert_eq!((estimate.rows_seconds, estimate.blobs_seconds), (5, 2));
    }

    #[test]
    fn nothing_has_no_rate() {
        assert_eq!(rate(0, Duration::from_secs(1)), None);
        assert_eq!(rate(500, Duration::from_millis(500)), Some(1000));
        assert_eq!(per_second(10, None), 0);
    }
}
