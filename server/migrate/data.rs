//! The blobs: those of every file that has, or may still have, bytes.

mod counted;
pub(super) mod past;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::blob::{BlobRow, md5_text};
use super::error::MigrateError;
use super::gate::Gate;
use super::known::{Known, Md5, Standing};
use super::progress::{BlobProblem, Event, Progress};
use super::report::BlobReport;
use super::retry::{RetryPolicy, Trying};
use super::shard::Shard;
use super::uploads::BlobJournal;
use crate::config::MetadataConfig;
use crate::data::buffers::Buffers;
use crate::data::digest::hashed;
use crate::data::{
    BlobReader, BlobRef, BlobStat, BoxError, ByteStream, DataBackend, DataError, Proof, Stored,
    Transfer,
};
use crate::metadata::{
    BlobNotes, BlobRecord, BlobState, Encoding, Identity, Layout, Loader, Metadata, MetadataError,
    OpenMode, Order, Request, RowStream, Rows, Snapshot, UploadLog,
};
use crate::model::{BackendDetails, FileStatus};
use counted::{Counted, Passed};
use past::{Left, Past};

/// Finished blobs are written down after so many of them …
const RECORDS_PER_WRITE: usize = 500;
/// … or after that long, so that little is asked twice when a run is cut off.
const RECORD_INTERVAL: Duration = Duration::from_secs(2);

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

/// What the attempts of one run have copied so far: a blob that one of them copied is present for
/// the next, and was copied by the run all the same.
#[derive(Debug, Default)]
pub(super) struct Earlier(Mutex<BlobReport>);

impl Earlier {
    /// The report of an attempt as that of the run up to its end.
    fn with(&self, attempt: BlobReport) -> BlobReport {
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

/// What the target has under the name of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Blob(Presence),
    /// Other bytes, or such as nobody can tell from them.
    Other,
    Nothing,
}

/// How a blob is known to be in the target, with the right bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// By the listing, which the next run has too, and by what was proven before.
    Listed,
    /// The target was asked about it, or it was read.
    Asked,
}

/// One blob that was dealt with.
struct Done {
    file_id: String,
    /// As its row says, and its bytes if they are there.
    md5: Option<[u8; 16]>,
    outcome: Outcome,
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
        let mut run = Run::new(self, files.identity());
        let ended = run.copy_all(&mut rows, journal.as_deref_mut()).await;
        // Also after a failure: what was finished need not be copied again. Dropping the set
        // aborts what is in flight.
        run.copies.shutdown().await;
        let recorded = run.write_down(journal).await;
        let report = self.earlier.with(run.report);
        ended?;
        recorded?;
        Ok(report)
    }

    /// Copies one blob unless it is there already.
    async fn copy(&self, row: BlobRow, past: Past) -> Result<Done, MigrateError> {
        let outcome = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
            outcome = self.try_copy(&row, past) => outcome?,
        };
        Ok(Done {
            file_id: row.file_id,
            md5: row.md5,
            outcome,
        })
    }

    async fn try_copy(&self, row: &BlobRow, past: Past) -> Result<Outcome, MigrateError> {
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
            Err(error) => Ok(Outcome::Problem(row.problem(explain(&error)))),
        }
    }

    /// Whether a blob that an earlier run has left proven need not even be asked about: the target
    /// has one of that name and size, and its listing does not say that it is another. Of an
    /// encrypted one the key must be there too.
    fn is_as_it_was(&self, row: &BlobRow) -> bool {
        let standing = self.known.standing(row);
        !self.to_keeps_keys && matches!(standing, Standing::Found(Md5::Same | Md5::Untold))
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
            return Ok(Outcome::Problem(row.problem(reason)));
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

    /// Whether the target has the blob with the size and digest that the row says. A row without a
    /// digest does not tell which bytes those are.
    async fn there(&self, row: &BlobRow, past: &Past) -> Result<There, DataError> {
        let standing = self.known.standing(row);
        if standing == Standing::Absent {
            return Ok(There::Nothing);
        }
        if row.md5.is_none() {
            return Ok(There::Other);
        }
        let details = past.details();
        if self.to_keeps_keys && details.sse_key().is_none() {
            // Without its key a blob cannot be asked about, and nobody can read it either.
            return Ok(There::Other);
        }
        match standing {
            Standing::Different => return Ok(There::Other),
            Standing::Found(Md5::Same) => return Ok(There::Blob(Presence::Listed)),
            Standing::Found(Md5::Untold) if past.proves(row) => {
                return Ok(There::Blob(Presence::Listed));
            }
            Standing::Found(_) | Standing::Unknown | Standing::Absent => {}
        }
        let blob = BlobRef {
            details,
            ..row.blob()
        };
        let Some(stat) = self.to.stat(&blob).await? else {
            return Ok(There::Nothing);
        };
        if !row.may_have(stat.size_bytes) {
            return Ok(There::Other);
        }
        if stat.md5 == row.md5 || (stat.md5.is_none() && past.proves(row)) {
            return Ok(There::Blob(Presence::Asked));
        }
        // No digest is kept there, or one that need not be the MD5: the bytes decide.
        match self.to.get(&blob, None).await {
            Ok(found) => Ok(match md5_of(found.body).await == row.md5 {
                true => There::Blob(Presence::Asked),
                false => There::Other,
            }),
            Err(DataError::NotFound { .. }) => Ok(There::Nothing),
            Err(error) => Err(error),
        }
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
                    return Ok(Outcome::Problem(row.problem(explain(&error))));
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

    /// Whether the source seems to have the blob as `row` says: its store would copy the right MD5
    /// under a wrong size too. What it has otherwise is read, and named for that.
    async fn is_held(&self, row: &BlobRow, source: &BlobRef) -> Result<bool, DataError> {
        if row.md5.is_none() {
            // There is nothing but the size to know it by, so the store looks at that.
            return Ok(true);
        }
        Ok(match self.held.standing(row) {
            Standing::Found(md5) => md5 != Md5::Other,
            Standing::Absent | Standing::Different => false,
            Standing::Unknown => {
                let stat = self.from.stat(source).await?;
                stat.is_some_and(|stat| row.may_have(stat.size_bytes))
            }
        })
    }

    /// The blob, if an earlier try has stored it, though its answer was lost.
    async fn arrived(&self, row: &BlobRow) -> Result<Option<BlobStat>, DataError> {
        if row.md5.is_none() || self.to_keeps_keys {
            return Ok(None);
        }
        let blob = BlobRef {
            details: BackendDetails::default(),
            ..row.blob()
        };
        let stat = self.to.stat(&blob).await?;
        Ok(stat.filter(|stat| row.may_have(stat.size_bytes) && stat.md5 == row.md5))
    }
}

/// The MD5 of all of `body`, or `None` if it cannot be read to its end.
async fn md5_of(body: ByteStream) -> Option<[u8; 16]> {
    let (mut body, digest) = hashed(body);
    while let Some(chunk) = body.next().await {
        chunk.ok()?;
    }
    digest.get().map(|digest| digest.md5)
}

/// The target's database failed, as if it had been asked for something else.
fn unwritten(id: String, source: BoxError) -> MigrateError {
    match source.downcast::<MetadataError>() {
        Ok(error) => MigrateError::Metadata(*error),
        Err(source) => DataError::Journal { id, source }.into(),
    }
}

/// An error with its causes, in one line.
pub(super) fn explain(error: &DataError) -> String {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    reason
}

impl BlobRow {
    /// What went wrong with this blob; harmless if its file waits to be deleted anyway.
    fn problem(&self, reason: String) -> BlobProblem {
        BlobProblem {
            file_id: self.file_id.clone(),
            upload_id: self.upload_id.clone(),
            harmless: self.status == FileStatus::Removed,
            reason,
        }
    }

    /// Its bytes went the usual way while the run was on its way to them.
    fn removed_meanwhile(&self) -> BlobProblem {
        BlobProblem {
            harmless: true,
            ..self.problem("it was removed in the source meanwhile".to_owned())
        }
    }
}

/// The rows of a server as they are now, not as the snapshot has them. Clones share what is opened.
#[derive(Clone)]
pub(super) struct LivingRows {
    config: MetadataConfig,
    metadata: Arc<OnceCell<Metadata>>,
}

impl LivingRows {
    /// Opens nothing yet: most runs never ask.
    pub fn new(config: &MetadataConfig) -> Self {
        Self {
            config: config.clone(),
            metadata: Arc::default(),
        }
    }

    /// Whether the source has a file of that id with bytes.
    pub async fn promise_blob(&self, file_id: &str) -> Result<bool, MetadataError> {
        let file = self.metadata().await?.file(file_id).await?;
        Ok(file.is_some_and(|file| file.status.has_blob()))
    }

    /// Whether there is a file of that id, of whatever status.
    pub async fn has_file(&self, file_id: &str) -> Result<bool, MetadataError> {
        let file = self.metadata().await?.file(file_id).await?;
        Ok(file.is_some())
    }

    /// Whether a server removed the file since the snapshot was taken.
    pub async fn has_removed(&self, row: &BlobRow) -> Result<bool, MetadataError> {
        // A server never finds a file without id, which may well be there.
        if row.status != FileStatus::Uploaded || row.file_id.is_empty() {
            return Ok(false);
        }
        let file = self.metadata().await?.file(&row.file_id).await?;
        Ok(file.is_none_or(|file| file.status != FileStatus::Uploaded))
    }

    async fn metadata(&self) -> Result<&Metadata, MetadataError> {
        let open = || Metadata::open(&self.config, OpenMode::ReadOnly);
        self.metadata.get_or_try_init(open).await
    }
}

/// A run of [`BlobCopy`]: the copies in flight and what came of those before.
struct Run<'a> {
    copy: &'a BlobCopy,
    source: &'a Identity,
    copies: JoinSet<Result<Done, MigrateError>>,
    report: BlobReport,
    records: Vec<BlobRecord>,
    recorded: Instant,
}

impl<'a> Run<'a> {
    fn new(copy: &'a BlobCopy, source: &'a Identity) -> Self {
        Self {
            copy,
            source,
            copies: JoinSet::new(),
            report: BlobReport::default(),
            records: Vec::new(),
            recorded: Instant::now(),
        }
    }

    async fn copy_all(
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
                self.copies.spawn(async move { copy.copy(row, past).await });
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
                    return Err(MigrateError::Blob(problem));
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
    async fn write_down(&mut self, journal: Option<&mut Loader>) -> Result<(), MigrateError> {
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

/// The files of the source, in the order of their ids.
pub(super) struct BlobRows {
    stream: RowStream,
    layout: Layout,
    encoding: Encoding,
    shard: Option<Shard>,
}

impl BlobRows {
    /// The files whose status says that there are bytes.
    pub fn with_blob(from: &Snapshot, files: &Layout) -> Self {
        Self::read(from, files, Rows::WithBlob)
    }

    /// Every file.
    pub fn all(from: &Snapshot, files: &Layout) -> Self {
        Self::read(from, files, Rows::All)
    }

    fn read(from: &Snapshot, files: &Layout, rows: Rows) -> Self {
        let layout = files.project(BlobRow::COLUMNS);
        // The values are read here and stay here, so they come exactly as they are stored.
        let encoding = from.encoding_for(from.driver());
        // A file whose row is rejected may be mended, and then wants its bytes.
        let stream = from.read_rejected_too(Request {
            layout: layout.clone(),
            encoding,
            to: from.driver(),
            after: None,
            rows,
            order: Order::Key,
        });
        Self {
            stream,
            layout,
            encoding,
            shard: None,
        }
    }

    /// Only those whose blob is in that part.
    pub fn of_shard(self, shard: Option<Shard>) -> Self {
        Self { shard, ..self }
    }

    /// A batch of them, which may be empty; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<BlobRow>>, MigrateError> {
        let Some(batch) = self.stream.next().await? else {
            return Ok(None);
        };
        let rows = batch.rows.iter();
        let rows = rows.map(|row| BlobRow::decode(row, &self.layout, self.encoding));
        let is_asked_for = |row: &BlobRow| self.shard.is_none_or(|shard| shard.holds(&row.file_id));
        Ok(Some(rows.filter(is_asked_for).collect()))
    }
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
