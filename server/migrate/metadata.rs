//! The rows: every table of the source, in foreign-key order, to the target.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::compare::{Comparison, Digests};
use super::error::MigrateError;
use super::limits::Limiter;
use super::progress::{Event, Progress};
use super::rejects::RejectsFile;
use super::report::TableReport;
use crate::config::MetadataConfig;
use crate::metadata::{
    Batch, BlobRecord, Checkpoint, Encoding, Existing, Layout, Loaded, Loader, OnReject, Order,
    Reject, Request, RowStream, Rows, Snapshot, SourceBatch, Tally, Tuple, Write, text_of,
};
use crate::model::{FileStatus, Shard};

/// Rejected rows that are named when they end the run.
const REJECTS_SHOWN: usize = 100;

/// The columns of `layout` in which source and target may differ.
///
/// Where a blob is copied too, what its backend keeps in `backend_details` is each side's own.
pub(super) fn not_compared(layout: &Layout, with_blobs: bool) -> &'static [&'static str] {
    match layout.name.as_str() {
        "files" if with_blobs => &["backend_details"],
        _ => &[],
    }
}

/// Whether the target may have rows of a table already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    Maybe,
    Not,
}

/// A table as each side has it: the same columns in the same order.
pub(super) struct Table {
    pub from: Layout,
    pub to: Layout,
}

impl Table {
    /// Each table of the source beside that of the target.
    pub fn pairs(from: &[Layout], to: Vec<Layout>) -> Vec<Self> {
        let pairs = from.iter().cloned().zip(to);
        pairs.map(|(from, to)| Self { from, to }).collect()
    }
}

/// Copies rows from a snapshot to a loader.
pub(super) struct RowCopy<'a> {
    pub from: &'a Snapshot,
    pub to: &'a mut Loader,
    pub on_reject: OnReject,
    /// Where rejected rows go.
    pub rejects: Option<&'a mut RejectsFile>,
    /// The blobs were copied too, so `files.backend_details` is the target's own business.
    pub with_blobs: bool,
    pub limiter: &'a Arc<Limiter>,
    /// Some blobs did not arrive, or have other details than their rows say.
    pub has_blob_notes: bool,
    /// The table `files` as both sides had it before the run, if that was compared.
    pub files: Option<Arc<Digests>>,
    /// The part of the rows to copy, if not all.
    pub shard: Option<Shard>,
    /// What became of the tables that were loaded whole.
    pub fresh: HashMap<String, Tally>,
    /// What the tables hold at the end, as far as they were compared.
    pub left: HashMap<String, Digests>,
    /// Compare what is loaded whole while its foreign keys are made; `left` has it then.
    pub reads_back: bool,
    /// The database that `to` writes to.
    pub target: &'a MetadataConfig,
    /// The target's directory or bucket, as messages name it.
    pub place_of_blobs: &'a str,
    pub progress: &'a dyn Progress,
    pub cancel: &'a CancellationToken,
}

impl<'s> RowCopy<'s> {
    /// Copies every table, each from where its checkpoint says, or `from_start`. Tables that the
    /// target has no rows of are loaded whole.
    pub async fn run(
        &mut self,
        tables: &[Table],
        from_start: bool,
    ) -> Result<Vec<TableReport>, MigrateError> {
        if !from_start {
            self.load_fresh(tables).await?;
        }
        let mut reports = Vec::new();
        for table in tables {
            let loaded = self.fresh.get(&table.from.name).copied();
            let rows = match loaded.filter(|_| !from_start) {
                Some(tally) => tally,
                None => {
                    self.table_begins(table).await?;
                    let tally = self.copy_table(table, from_start).await?;
                    self.table_ends(table);
                    tally
                }
            };
            reports.push(TableReport {
                table: table.from.name.clone(),
                rows,
                extra: 0,
                proof: None,
            });
        }
        Ok(reports)
    }

    pub(super) async fn table_begins(&self, table: &Table) -> Result<(), MigrateError> {
        let table = &table.from.name;
        let rows = self.from.count(table).await?;
        let rows = Rows::of_shard(self.shard).share_of(rows);
        self.progress.on(Event::TableBegin { table, rows });
        Ok(())
    }

    pub(super) fn table_ends(&self, table: &Table) {
        let table = &table.from.name;
        self.progress.on(Event::TableEnd { table });
    }

    async fn copy_table(&mut self, table: &Table, from_start: bool) -> Result<Tally, MigrateError> {
        let layout = &table.from;
        let source = self.from.identity().clone();
        let mut checkpoint = match self.to.checkpoint(&source, &layout.name).await? {
            Some(checkpoint) if !from_start => checkpoint,
            _ => Checkpoint::new(&source, &layout.name),
        };
        let encoding = self.from.encoding_for(self.to.driver());
        self.progress.on(Event::Rows {
            table: &layout.name,
            rows: checkpoint.tally.total(),
        });
        if checkpoint.whole {
            return Ok(checkpoint.tally);
        }
        let mut stream = self.from.read(Request {
            layout: layout.clone(),
            encoding,
            to: self.to.driver(),
            after: checkpoint.cursor.clone(),
            rows: Rows::All,
            order: Order::Key,
        });
        let mut begun = Instant::now();
        while let Some(batch) = self.next_batch(&mut stream).await? {
            let cursor = batch.cursor(layout, encoding);
            let batch = self
                .prepared(layout, encoding, batch, Filled::Maybe)
                .await?;
            checkpoint.cursor = cursor.or(checkpoint.cursor);
            checkpoint.tally.failed += batch.rejects.len() as u64;
            let written = self
                .write(
                    &table.to,
                    encoding,
                    &batch,
                    Existing::Keep,
                    Some(&checkpoint),
                )
                .await?;
            checkpoint.tally = checkpoint.tally + written.tally();
            self.keep_rejects(&batch.rejects)?;
            self.keep_rejects(&written.rejects)?;
            self.tell(layout, &batch, &written);
            self.rest_after(begun.elapsed()).await?;
            begun = Instant::now();
        }
        Ok(checkpoint.tally)
    }

    /// The table on both sides.
    pub(super) fn comparison<'t>(
        &self,
        table: &'t Table,
        target: &'t Snapshot,
        rows: Rows,
    ) -> Comparison<'t>
    where
        's: 't,
    {
        Comparison {
            from: self.from,
            driver: self.to.driver(),
            to: Some((target, &table.to)),
            layout: &table.from,
            not_compared: not_compared(&table.from, self.with_blobs),
            rows,
            limiter: self.limiter,
        }
    }

    /// The batch as it goes to the writer: every row of every table passes here.
    pub(super) async fn prepared(
        &self,
        layout: &Layout,
        encoding: Encoding,
        batch: SourceBatch,
        target: Filled,
    ) -> Result<SourceBatch, MigrateError> {
        self.refuse_rejects(&batch)?;
        if self.shard.is_some() {
            return Ok(self.without_keys(layout, encoding, batch));
        }
        // A blob that ends a run has ended it before: a file that is left out here does not.
        self.as_blobs_came(layout, encoding, batch, target).await
    }

    pub(super) async fn next_batch(
        &self,
        stream: &mut RowStream,
    ) -> Result<Option<SourceBatch>, MigrateError> {
        tokio::select! {
            biased; // a cancelled run takes no further batch, even one that is ready
            () = self.cancel.cancelled() => Err(MigrateError::Interrupted),
            batch = stream.next() => Ok(batch?),
        }
    }

    /// Leaves the source alone for as long as the limits say.
    pub(super) async fn rest_after(&self, batch: Duration) -> Result<(), MigrateError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(MigrateError::Interrupted),
            () = self.limiter.rest_after(batch) => Ok(()),
        }
    }

    /// Rows that could not even be encoded end a run that was not told to carry on.
    fn refuse_rejects(&self, batch: &SourceBatch) -> Result<(), MigrateError> {
        match self.on_reject {
            OnReject::Stop if !batch.rejects.is_empty() => {
                let shown = batch.rejects.iter().take(REJECTS_SHOWN);
                Err(MigrateError::Rejected(shown.cloned().collect()))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn write(
        &mut self,
        layout: &Layout,
        encoding: Encoding,
        batch: &SourceBatch,
        existing: Existing,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Loaded, MigrateError> {
        let written = self
            .to
            .write(Write {
                layout,
                rows: &batch.rows,
                encoding,
                not_compared: not_compared(layout, self.with_blobs),
                existing,
                on_reject: self.on_reject,
                checkpoint,
            })
            .await?;
        if self.on_reject == OnReject::Stop && !written.rejects.is_empty() {
            let shown = written.rejects.into_iter().take(REJECTS_SHOWN);
            return Err(MigrateError::Rejected(shown.collect()));
        }
        Ok(written)
    }

    /// Makes rows of `files` say what became of their blobs: `backend_details` is what the
    /// target's backend gave back, and an uploaded file whose blob did not arrive is rejected,
    /// because its row would promise bytes that are not there.
    async fn as_blobs_came(
        &self,
        layout: &Layout,
        encoding: Encoding,
        batch: SourceBatch,
        target: Filled,
    ) -> Result<SourceBatch, MigrateError> {
        let (Some(id), Some(details)) = (layout.position("id"), layout.position("backend_details"))
        else {
            return Ok(batch);
        };
        if layout.name != "files" || !self.has_blob_notes {
            return Ok(batch);
        }
        let ids = batch
            .rows
            .iter()
            .map(|row| text_of(row.field(id), encoding));
        let ids: Vec<String> = ids.map(Option::unwrap_or_default).collect();
        let asked: Vec<&str> = ids.iter().map(String::as_str).collect();
        let records = self.to.blob_records(self.from.identity(), &asked).await?;
        let changes = records
            .iter()
            .filter(|record| !record.arrived || record.details.is_some());
        let changes: HashMap<&str, &BlobRecord> = changes
            .map(|record| (record.file_id.as_str(), record))
            .collect();
        if changes.is_empty() {
            return Ok(batch);
        }
        let failed = records.iter().filter(|record| !record.arrived);
        let failed: Vec<&str> = failed.map(|record| record.file_id.as_str()).collect();
        let states = match target {
            Filled::Maybe => self.to.blob_states(self.from.identity(), &failed).await?,
            // The load itself keeps everybody from reading the table.
            Filled::Not => Vec::new(),
        };
        let states = failed.iter().zip(&states);
        let there: HashSet<&str> = states
            .filter_map(|(id, state)| state.md5.as_ref().map(|_| *id))
            .collect();
        let status = layout.position("status");
        let promises_blob = |row: Tuple<'_>| {
            let status = text_of(status.and_then(|status| row.field(status)), encoding);
            status.as_deref() == Some(FileStatus::Uploaded.as_str())
        };
        let mut rows = Batch::with_capacity(batch.rows.as_bytes().len());
        let mut rejects = batch.rejects;
        for (id, row) in ids.iter().zip(batch.rows.iter()) {
            match changes.get(id.as_str()) {
                Some(BlobRecord { arrived: false, .. }) if promises_blob(row) => {
                    let reason = match there.contains(id.as_str()) {
                        true => {
                            "its blob could not be copied, and the target has its row from an \
                             earlier run: users find a file without bytes there"
                        }
                        false => "its blob could not be copied, so the row is left out",
                    };
                    rejects.push(Reject::new(layout, row, encoding, reason.to_owned()));
                }
                Some(BlobRecord {
                    details: Some(text),
                    ..
                }) => {
                    rows.push_replacing(row, details, text, encoding);
                }
                _ => rows.push_tuple(row.as_bytes()),
            }
        }
        Ok(SourceBatch { rows, rejects })
    }

    /// Keeps the rows that were rejected and that nobody could know of before.
    pub(super) fn keep_rejects(&mut self, rejected: &[Reject]) -> Result<(), MigrateError> {
        let Some(rejects) = &mut self.rejects else {
            return Ok(());
        };
        rejected.iter().try_for_each(|reject| rejects.add(reject))?;
        rejects.sync()
    }

    pub(super) fn tell_rejects(&self, rejects: &[Reject]) {
        for reject in rejects {
            self.progress.on(Event::Rejected(reject));
        }
    }

    pub(super) fn tell(&self, layout: &Layout, batch: &SourceBatch, written: &Loaded) {
        let table = &layout.name;
        self.tell_rejects(&batch.rejects);
        self.tell_rejects(&written.rejects);
        for key in &written.conflicts {
            self.progress.on(Event::Conflict { table, key });
        }
        let rows = (batch.rows.len() + batch.rejects.len()) as u64;
        self.progress.on(Event::Rows { table, rows });
    }

    /// Rows that need nothing done were dealt with too.
    pub(super) fn tell_rows(&self, table: &Table, rows: u64) {
        let table = &table.from.name;
        self.progress.on(Event::Rows { table, rows });
    }
}
