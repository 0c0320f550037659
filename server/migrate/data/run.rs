//! Many blobs at a time: which rows they are of, what came of them, and that it is written down.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::past::Past;
use super::rows::BlobRows;
use super::{BlobCopy, Outcome};
use crate::metadata::{BlobRecord, BlobState, Identity, Loader};
use crate::migrate::blob::{BlobRow, md5_text};
use crate::migrate::error::MigrateError;
use crate::migrate::progress::Event;
use crate::migrate::report::BlobReport;

/// Finished blobs are written down after so many of them …
const RECORDS_PER_WRITE: usize = 500;
/// … or after that long, so that little is asked twice when a run is cut off.
const RECORD_INTERVAL: Duration = Duration::from_secs(2);

/// What the attempts of one run have copied so far: a blob that one of them copied is present for
/// the next, and was copied by the run all the same.
#[derive(Debug, Default)]
pub struct Earlier(Mutex<BlobReport>);

impl Earlier {
    /// The report of an attempt as that of the run up to its end.
    pub fn with(&self, attempt: BlobReport) -> BlobReport {
        let mut earlier = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let report = BlobReport {
            copied: earlier.copied + attempt.copied,
            copied_by_store: earlier.copied_by_store + attempt.copied_by_store,
            bytes: earlier.bytes + attempt.bytes,
            present: attempt.present.saturating_sub(earlier.copied),
            ..attempt
        };
        *earlier = report;
        report
    }
}

/// One blob that was dealt with.
struct Done {
    file_id: String,
    /// As its row says, and its bytes if they are there.
    md5: Option<[u8; 16]>,
    outcome: Outcome,
}

/// A run of [`BlobCopy`]: the copies in flight and what came of those before.
pub struct BlobRun<'a> {
    copy: &'a BlobCopy,
    source: &'a Identity,
    copies: JoinSet<Result<Done, MigrateError>>,
    pub report: BlobReport,
    records: Vec<BlobRecord>,
    recorded: Instant,
}

impl<'a> BlobRun<'a> {
    pub fn new(copy: &'a BlobCopy, source: &'a Identity) -> Self {
        Self {
            copy,
            source,
            copies: JoinSet::new(),
            report: BlobReport::default(),
            records: Vec::new(),
            recorded: Instant::now(),
        }
    }

    pub async fn copy_all(
        &mut self,
        rows: &mut BlobRows,
        mut journal: Option<&mut Loader>,
    ) -> Result<(), MigrateError> {
        loop {
            let batch = tokio::select! {
                biased; // a cancelled run takes no further row, even one that is ready
                () = self.copy.cancel.cancelled() => return Err(MigrateError::Interrupted),
                batch = rows.next() => batch?,
            };
            let Some(batch) = batch else { break };
            let batch = self.pass_over(batch, journal.as_deref()).await?;
            for (row, past) in batch {
                // Backpressure: the next copy starts only when a worker is free.
                while self.copies.len() >= self.copy.workers.get() {
                    self.finish_one().await?;
                }
                let copy = self.copy.clone();
                self.copies.spawn(finish(copy, row, past));
                if self.is_time_to_write_down() {
                    self.write_down(journal.as_deref_mut()).await?;
                }
            }
        }
        while !self.copies.is_empty() {
            self.finish_one().await?;
        }
        Ok(())
    }

    /// Aborts what is in flight.
    pub async fn stop(&mut self) {
        self.copies.shutdown().await;
    }

    /// Counts the blobs that need not be asked about, and gives back the others.
    async fn pass_over(
        &mut self,
        batch: Vec<BlobRow>,
        journal: Option<&Loader>,
    ) -> Result<Vec<(BlobRow, Past)>, MigrateError> {
        let left = match (&self.copy.left, journal) {
            (Some(left), Some(loader)) => left.of(loader, &batch).await?,
            _ => HashSet::new(),
        };
        let (there, others): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|row| left.contains(&row.file_id) && self.copy.is_as_it_was(row));
        self.report.present += there.len() as u64;
        for row in there {
            let bytes_left = row.announced_bytes();
            self.copy.progress.on(Event::BlobEnd { bytes_left });
        }
        let states = match journal {
            Some(loader) => {
                let ids: Vec<&str> = others.iter().map(|row| row.file_id.as_str()).collect();
                loader.blob_states(self.source, &ids).await?
            }
            None => vec![BlobState::default(); others.len()],
        };
        let place = &self.copy.place;
        let past = |(row, state): (BlobRow, BlobState)| {
            let past = Past::new(state, &row, left.contains(&row.file_id), place);
            (row, past)
        };
        let mut batch: Vec<_> = others.into_iter().zip(states).map(past).collect();
        self.note_replacements(&mut batch).await?;
        Ok(batch)
    }

    /// At once, what would be noted one by one.
    async fn note_replacements(&self, batch: &mut [(BlobRow, Past)]) -> Result<(), MigrateError> {
        let Some(notes) = self.copy.notes.as_ref().filter(|_| self.copy.replace) else {
            return Ok(());
        };
        let outdated = batch.iter().filter(|(row, past)| past.is_outdated(row));
        let outdated: Vec<&str> = outdated.map(|(row, _)| row.file_id.as_str()).collect();
        if outdated.is_empty() {
            return Ok(());
        }
        notes.begin(&outdated).await?;
        let outdated = batch.iter_mut().filter(|(row, past)| past.is_outdated(row));
        outdated.for_each(|(_, past)| past.forget());
        Ok(())
    }

    async fn finish_one(&mut self) -> Result<(), MigrateError> {
        let Some(done) = self.copies.join_next().await else {
            return Ok(());
        };
        let done = done??;
        match done.outcome {
            Outcome::Copied {
                bytes,
                details,
                by_store,
            } => {
                self.report.copied += 1;
                self.report.copied_by_store += u64::from(by_store);
                self.report.bytes += bytes;
                let details = details.map(|details| details.as_str().to_owned());
                self.records.push(BlobRecord {
                    file_id: done.file_id,
                    arrived: true,
                    details,
                    md5: done.md5.map(md5_text),
                    place: self.copy.place.clone(),
                });
            }
            Outcome::Present(record) => {
                self.report.present += 1;
                self.records.extend(record);
            }
            Outcome::Problem(problem) => {
                self.copy
                    .progress
                    .on(Event::BlobProblem { problem: &problem });
                if problem.harmless {
                    self.report.skipped += 1;
                } else if self.copy.ignore_errors {
                    self.report.failed += 1;
                } else {
                    return Err(MigrateError::Blob(Box::new(problem)));
                }
                self.records.push(BlobRecord {
                    file_id: done.file_id,
                    arrived: false,
                    details: None,
                    md5: None,
                    place: self.copy.place.clone(),
                });
            }
        }
        Ok(())
    }

    fn is_time_to_write_down(&self) -> bool {
        self.records.len() >= RECORDS_PER_WRITE
            || (!self.records.is_empty() && self.recorded.elapsed() >= RECORD_INTERVAL)
    }

    /// Only what is on stable storage is written down: a record is worth no less than its blob.
    pub async fn write_down(&mut self, journal: Option<&mut Loader>) -> Result<(), MigrateError> {
        if let Some(loader) = journal
            && !self.records.is_empty()
        {
            loader.record_blobs(self.source, &self.records).await?;
        }
        self.records.clear();
        self.recorded = Instant::now();
        Ok(())
    }
}

/// Copies a blob unless the run is cancelled.
async fn finish(copy: BlobCopy, row: BlobRow, past: Past) -> Result<Done, MigrateError> {
    let outcome = tokio::select! {
        biased;
        () = copy.cancel.cancelled() => return Err(MigrateError::Interrupted),
        outcome = copy.copy_one(&row, past) => outcome?,
    };
    Ok(Done {
        file_id: row.file_id,
        md5: row.md5,
        outcome,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_attempt_copied_was_copied_by_the_run() {
        let report = |copied, present, bytes| BlobReport {
            copied,
            present,
            bytes,
            ..BlobReport::default()
        };
        let earlier = Earlier::default();
        assert_eq!(earlier.with(report(3, 1, 30)), report(3, 1, 30));
        assert_eq!(earlier.with(report(0, 0, 0)), report(3, 0, 30));
        assert_eq!(earlier.with(report(2, 4, 20)), report(5, 1, 50));
        assert_eq!(earlier.with(report(0, 6, 0)), report(5, 1, 50));
    }
}
