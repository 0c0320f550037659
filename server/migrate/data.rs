//! The blobs: those of every file that has, or may still have, bytes.

mod counted;
mod living;
pub(super) mod past;
mod rows;
mod run;
mod there;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

use super::blob::BlobRow;
use super::error::{MigrateError, Side, explain};
use super::gate::Gate;
use super::known::Known;
use super::places::BlobPlaces;
use super::progress::{BlobProblem, Event, Progress};
use super::report::BlobReport;
use super::retry::{RetryPolicy, Trying};
use super::uploads::BlobJournal;
use crate::data::buffers::Buffers;
use crate::data::{
    BlobReader, BlobRef, BlobStat, BoxError, DataBackend, DataError, Proof, Stored, Transfer,
};
use crate::metadata::{BlobNotes, BlobRecord, Layout, Loader, MetadataError, Snapshot, UploadLog};
use crate::model::{BackendDetails, FileStatus, Shard};
use counted::{Counted, Passed};
pub(super) use living::LivingRows;
use past::{Left, Past};
pub(super) use rows::{BlobRows, blob_totals};
use run::BlobRun;
pub(super) use run::Earlier;
use there::{Presence, There};

/// Copies blobs between two data backends.
#[derive(Clone)]
pub(super) struct BlobCopy {
    pub from: Arc<dyn DataBackend>,
    pub to: Arc<dyn DataBackend>,
    pub source: LivingRows,
    /// What the target holds; of blobs that it does not tell about the target is asked.
    pub known: Arc<Known>,
    /// What the source holds, if the target's store may copy it by itself; of blobs that it does not
    /// tell about the source is asked then.
    pub held: Arc<Known>,
    /// The target encrypts each blob with a key of its own, kept in the file's row.
    pub to_keeps_keys: bool,
    /// The part of the blobs to copy, if not all.
    pub shard: Option<Shard>,
    /// What an earlier run has left proven, if this one follows it.
    pub left: Option<Arc<Left>>,
    /// The target's directory or bucket, as records name it.
    pub place: String,
    /// Where it is written down that a blob is about to be replaced, if there is a database for it.
    pub notes: Option<BlobNotes>,
    pub workers: NonZeroUsize,
    /// A blob of other bytes than the source's gives way, instead of being a problem.
    pub replace: bool,
    /// What the bytes on their way may take of the memory.
    pub buffers: Buffers,
    /// Where uploads in parts are written down, if there is a database for it.
    pub uploads: Option<UploadLog>,
    pub ignore_errors: bool,
    pub retry: RetryPolicy,
    /// Shared by all workers.
    pub gate: Arc<Gate>,
    /// Shared by all attempts of a run.
    pub earlier: Arc<Earlier>,
    pub progress: Arc<dyn Progress>,
    pub cancel: CancellationToken,
}

/// How the copy of one blob ended.
#[derive(Debug)]
enum Outcome {
    /// With what the row must say, where the target's backend said something new.
    Copied {
        bytes: u64,
        details: Option<BackendDetails>,
        /// The store that has both sides did it.
        by_store: bool,
    },
    /// Already there, with what is to be written down about that.
    Present(Option<BlobRecord>),
    Problem(BlobProblem),
}

impl BlobCopy {
    /// Copies every blob that `files` names and the target lacks, at most `workers` at a time.
    ///
    /// The first error ends the run, unless it concerns one blob only and errors are ignored; what
    /// is in flight then is aborted and leaves nothing visible. Once `cancel` fires no new copy
    /// starts and those in flight are aborted. What was finished is written down in `journal`.
    pub async fn run(
        &self,
        files: &Snapshot,
        layout: &Layout,
        mut journal: Option<&mut Loader>,
    ) -> Result<BlobReport, MigrateError> {
        let mut rows = BlobRows::with_blob(files, layout).of_shard(self.shard);
        let mut run = BlobRun::new(self, files.identity());
        let ended = run.copy_all(&mut rows, journal.as_deref_mut()).await;
        // Also after a failure: what was finished need not be copied again. Dropping the set
        // aborts what is in flight.
        run.stop().await;
        let recorded = run.write_down(journal).await;
        let report = self.earlier.with(run.report);
        ended?;
        recorded?;
        Ok(report)
    }

    /// Copies the blob of one row unless it is there already, whatever else is going on; `past` is
    /// what is known of it.
    ///
    /// What can pass is tried again. What is wrong with this blob alone is an outcome, not an error.
    /// Dropped, it leaves no part of a blob visible; what the store that has both sides was copying
    /// may still come, and is looked at by the next try.
    async fn copy_one(&self, row: &BlobRow, past: Past) -> Result<Outcome, MigrateError> {
        let passed = Passed {
            bytes: Arc::default(),
            progress: Arc::clone(&self.progress),
        };
        let outcome = self.persist(row, past, &passed).await;
        let passed = passed.bytes.load(Ordering::Relaxed);
        self.progress.on(Event::BlobEnd {
            bytes_left: row.announced_bytes().saturating_sub(passed),
        });
        match outcome {
            Ok(outcome) => Ok(outcome),
            Err(DataError::NotFound { .. }) if self.source.has_removed(row).await? => {
                Ok(Outcome::Problem(row.removed_meanwhile()))
            }
            Err(DataError::Journal { id, source }) => Err(unwritten(id, source)),
            Err(error) if error.is_fatal() => Err(error.into()),
            Err(error) => Ok(Outcome::Problem(self.failed(row, &error).await)),
        }
    }

    /// What is told of a blob that was tried often enough.
    async fn failed(&self, row: &BlobRow, error: &DataError) -> BlobProblem {
        let (from, to) = (self.from.as_ref(), self.to.as_ref());
        let places = BlobPlaces::of_failure(error, row, from, to).await;
        row.problem(places, explain(error))
    }

    /// Tries until it succeeds, cannot pass or was tried enough.
    async fn persist(
        &self,
        row: &BlobRow,
        mut past: Past,
        passed: &Passed,
    ) -> Result<Outcome, DataError> {
        let mut trying = Trying::new(self.retry);
        loop {
            let pass = self.gate.enter().await;
            let outcome = match trying.failures() {
                0 => self.present_or_put(row, &mut past, passed).await,
                _ => self.arrived_or_put(row, &mut past, passed).await,
            };
            let error = match outcome {
                Ok(outcome) => {
                    pass.succeeded();
                    return Ok(outcome);
                }
                Err(error) => error,
            };
            // Others may go on while this one waits.
            pass.failed(&error);
            let Some(wait) = trying.wait_after_blob(&error) else {
                return Err(error);
            };
            self.progress.on(Event::Retry {
                blob: Some(&row.file_id),
                reason: &explain(&error),
                failures: trying.failures(),
                wait,
            });
            tokio::time::sleep(wait).await;
        }
    }

    async fn present_or_put(
        &self,
        row: &BlobRow,
        past: &mut Past,
        passed: &Passed,
    ) -> Result<Outcome, DataError> {
        let known = past.md5();
        if known.is_some() && known != row.md5 && !self.replace {
            let reason = "the target has another file of that id, with other bytes".to_owned();
            let places = BlobPlaces::on(Side::Target, self.to.place(&row.blob()));
            return Ok(Outcome::Problem(row.problem(places, reason)));
        }
        let proof = match self.there(row, past).await? {
            There::Blob(presence) => {
                let was_asked = presence == Presence::Asked;
                return Ok(Outcome::Present(past.found(row, &self.place, was_asked)));
            }
            There::Other => Proof::Before,
            There::Nothing => Proof::Afterwards,
        };
        self.note_replacement(row, past).await?;
        self.put(row, proof, passed).await
    }

    /// Before the first byte of a blob that replaces one: should the run be cut off, what was known
    /// of that one holds no more.
    async fn note_replacement(&self, row: &BlobRow, past: &mut Past) -> Result<(), DataError> {
        if let Some(notes) = self.notes.as_ref().filter(|_| past.is_told()) {
            let noted = notes.begin(&[&row.file_id]).await;
            noted.map_err(|source| DataError::Journal {
                id: row.file_id.clone(),
                source: source.into(),
            })?;
            past.forget();
        }
        Ok(())
    }

    /// For another try: a blob that has arrived is not sent again because the answer was lost.
    async fn arrived_or_put(
        &self,
        row: &BlobRow,
        past: &mut Past,
        passed: &Passed,
    ) -> Result<Outcome, DataError> {
        let Some(stat) = self.arrived(row).await? else {
            return self.present_or_put(row, past, passed).await;
        };
        let had_key = row.details.sse_key().is_some();
        Ok(Outcome::Copied {
            bytes: stat.size_bytes,
            details: had_key.then(BackendDetails::default),
            by_store: false,
        })
    }

    async fn put(
        &self,
        row: &BlobRow,
        proof: Proof,
        passed: &Passed,
    ) -> Result<Outcome, DataError> {
        let source = row.blob();
        // A key of the source's backend means nothing to a backend that keeps none.
        let details = match self.to_keeps_keys {
            true => source.details.clone(),
            false => BackendDetails::default(),
        };
        let target = BlobRef {
            details,
            ..source.clone()
        };
        // One that is not told may be that of a large blob.
        let size_hint = row.size_bytes().unwrap_or(u64::MAX);
        let copied = self.copied_by_store(row, &source, &target, proof).await?;
        let by_store = copied.is_some();
        let stored = match copied {
            Some(stored) => {
                passed.reach(stored.size_bytes);
                stored
            }
            None => match self.from.reader(&source, size_hint).await {
                Ok(from) => {
                    let transfer = self.transfer(row, from, passed);
                    self.to.put_all_of(&target, transfer).await?
                }
                // The source as a whole could be read when the run began: it is this blob that may
                // not be, and the others need not wait for it.
                Err(error @ DataError::Denied { .. }) => {
                    let places = BlobPlaces::on(Side::Source, self.from.place(&source));
                    return Ok(Outcome::Problem(row.problem(places, explain(&error))));
                }
                Err(error) => return Err(error),
            },
        };
        let changed = stored.details.sse_key() != source.details.sse_key();
        Ok(Outcome::Copied {
            bytes: stored.size_bytes,
            details: changed.then_some(stored.details),
            by_store,
        })
    }

    fn transfer(&self, row: &BlobRow, from: Arc<dyn BlobReader>, passed: &Passed) -> Transfer {
        let log = self.uploads.as_ref();
        let size_bytes = row.size_bytes().unwrap_or(from.size_bytes());
        Transfer {
            from: Arc::new(Counted {
                from,
                passed: passed.clone(),
            }),
            size_bytes,
            md5: row.md5,
            origin: self.from.origin(&row.blob()),
            buffers: self.buffers.clone(),
            journal: log.map(|log| BlobJournal::shared(log, &row.file_id)),
        }
    }

    /// What came of it, where the two are one store that copies by itself.
    async fn copied_by_store(
        &self,
        row: &BlobRow,
        source: &BlobRef,
        target: &BlobRef,
        proof: Proof,
    ) -> Result<Option<Stored>, DataError> {
        let (Some(origin), Some(size_bytes)) = (self.from.origin(source), row.size_bytes()) else {
            return Ok(None);
        };
        if !self.to.may_copy(&origin) || !self.is_held(row, source).await? {
            return Ok(None);
        }
        let expected = BlobStat {
            size_bytes,
            md5: row.md5,
        };
        self.to.copy(target, &origin, expected, proof).await
    }
}

/// The target's database failed, as if it had been asked for something else.
fn unwritten(id: String, source: BoxError) -> MigrateError {
    match source.downcast::<MetadataError>() {
        Ok(error) => MigrateError::Metadata(*error),
        Err(source) => DataError::Journal { id, source }.into(),
    }
}

impl BlobRow {
    /// What went wrong with this blob; harmless if its file waits to be deleted anyway.
    fn problem(&self, places: BlobPlaces, reason: String) -> BlobProblem {
        BlobProblem {
            file_id: self.file_id.clone(),
            upload_id: self.upload_id.clone(),
            harmless: self.status == FileStatus::Removed,
            places,
            reason,
        }
    }

    /// Its bytes went the usual way while the run was on its way to them.
    fn removed_meanwhile(&self) -> BlobProblem {
        BlobProblem {
            harmless: true,
            ..self.problem(
                BlobPlaces::default(),
                "it was removed in the source meanwhile".to_owned(),
            )
        }
    }
}
