//! The rows: every table of the source, in foreign-key order, to the target.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use super::error::MigrateError;
use super::progress::{Event, Progress};
use super::rejects::RejectsFile;
use super::report::TableReport;
use crate::metadata::{
    Batch, BlobRecord, Checkpoint, Encoding, Layout, Loaded, Loader, OnReject, Order, Reject,
    Request, RowStream, Rows, Snapshot, SourceBatch, Tally, Tuple, Write, text_of,
};
use crate::model::FileStatus;

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

/// A table as each side has it: the same columns in the same order.
pub(super) struct Table {
    pub from: Layout,
    pub to: Layout,
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
    pub progress: &'a dyn Progress,
    pub cancel: &'a CancellationToken,
}

impl RowCopy<'_> {
    /// Copies every table, each from where its checkpoint says, or `from_start`.
    pub async fn run(
        &mut self,
        tables: &[Table],
        from_start: bool,
    ) -> Result<Vec<TableReport>, MigrateError> {
        let mut reports = Vec::new();
        for table in tables {
            let layout = &table.from;
            let rows = self.from.count(&layout.name).await?;
            self.progress.on(Event::TableBegin {
                table: &layout.name,
                rows,
            });
            let tally = self.copy_table(table, from_start).await?;
            self.progress.on(Event::TableEnd {
                table: &layout.name,
            });
            reports.push(TableReport {
                table: layout.name.clone(),
                rows: tally,
                extra: 0,
            });
        }
        Ok(reports)
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
        let mut stream = self.from.read(Request {
            layout: layout.clone(),
            encoding,
            to: self.to.driver(),
            after: checkpoint.cursor.clone(),
            rows: Rows::All,
            order: Order::Key,
        });
        while let Some(batch) = self.next_batch(&mut stream).await? {
            let cursor = batch.cursor(layout, encoding);
            self.refuse_rejects(&batch)?;
            // A blob that ends a run has ended it before: a file that is left out here does not.
            let batch = self.as_blobs_came(layout, encoding, batch).await?;
            checkpoint.cursor = cursor.or(checkpoint.cursor);
            checkpoint.tally.failed += batch.rejects.len() as u64;
            let written = self.write(&table.to, encoding, &batch, &checkpoint).await?;
            checkpoint.tally = checkpoint.tally + written.tally();
            self.keep(&batch, &written)?;
            self.tell(layout, &batch, &written);
        }
        Ok(checkpoint.tally)
    }

    async fn next_batch(
        &self,
        stream: &mut RowStream,
    ) -> Result<Option<SourceBatch>, MigrateError> {
        tokio::select! {
            biased; // a cancelled run takes no further batch, even one that is ready
            () = self.cancel.cancelled() => Err(MigrateError::Interrupted),
            batch = stream.next() => Ok(batch?),
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

    async fn write(
        &mut self,
        layout: &Layout,
        encoding: Encoding,
        batch: &SourceBatch,
        checkpoint: &Checkpoint,
    ) -> Result<Loaded, MigrateError> {
        let written = self
            .to
            .write(Write {
                layout,
                rows: &batch.rows,
                encoding,
                not_compared: not_compared(layout, self.with_blobs),
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
    ) -> Result<SourceBatch, MigrateError> {
        let (Some(id), Some(details)) = (layout.position("id"), layout.position("backend_details"))
        else {
            return Ok(batch);
        };
        if layout.name != "files" || !self.with_blobs {
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
                    let reason = "its blob could not be copied".to_owned();
                    rejects.push(Reject::new(layout, row, encoding, reason));
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
    fn keep(&mut self, batch: &SourceBatch, written: &Loaded) -> Result<(), MigrateError> {
        let Some(rejects) = &mut self.rejects else {
            return Ok(());
        };
        let mut rejected = batch.rejects.iter().chain(&written.rejects);
        rejected.try_for_each(|reject| rejects.add(reject))?;
        rejects.sync()
    }

    fn tell(&self, layout: &Layout, batch: &SourceBatch, written: &Loaded) {
        let table = &layout.name;
        for reject in batch.rejects.iter().chain(&written.rejects) {
            self.progress.on(Event::Rejected(reject));
        }
        for key in &written.conflicts {
            self.progress.on(Event::Conflict { table, key });
        }
        let rows = (batch.rows.len() + batch.rejects.len()) as u64;
        self.progress.on(Event::Rows { table, rows });
    }
}
