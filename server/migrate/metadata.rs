//! The rows: every table of the source, in foreign-key order, to the target.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use super::error::MigrateError;
use super::progress::{Event, Progress};
use super::report::TableReport;
use crate::metadata::{
    Batch, Checkpoint, Encoding, Layout, Loaded, Loader, OnReject, Request, RowStream, Rows,
    Snapshot, SourceBatch, Tally, Write, text_of,
};

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
        });
        while let Some(batch) = self.next_batch(&mut stream).await? {
            self.refuse_rejects(&batch)?;
            let written = self.write(table, encoding, &batch, &checkpoint).await?;
            checkpoint.tally = checkpoint.tally + written.tally();
            checkpoint.tally.failed += batch.rejects.len() as u64;
            if let Some(cursor) = batch.cursor(layout, encoding) {
                checkpoint.cursor = Some(cursor);
            }
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
        table: &Table,
        encoding: Encoding,
        batch: &SourceBatch,
        checkpoint: &Checkpoint,
    ) -> Result<Loaded, MigrateError> {
        let layout = &table.to;
        let next = Checkpoint {
            cursor: batch
                .cursor(layout, encoding)
                .or_else(|| checkpoint.cursor.clone()),
            tally: Tally {
                failed: checkpoint.tally.failed + batch.rejects.len() as u64,
                ..checkpoint.tally
            },
            ..checkpoint.clone()
        };
        let files = layout.name == "files" && self.with_blobs;
        let overlaid = match files {
            true => self.overlay(layout, encoding, &batch.rows).await?,
            false => None,
        };
        let written = self
            .to
            .write(Write {
                layout,
                rows: overlaid.as_ref().unwrap_or(&batch.rows),
                encoding,
                not_compared: not_compared(layout, self.with_blobs),
                on_reject: self.on_reject,
                checkpoint: &next,
            })
            .await?;
        if self.on_reject == OnReject::Stop && !written.rejects.is_empty() {
            let shown = written.rejects.into_iter().take(REJECTS_SHOWN);
            return Err(MigrateError::Rejected(shown.collect()));
        }
        Ok(written)
    }

    /// The rows of `files` with what the target's backend said of their blobs, where that is not
    /// what the source's said. `None` if nothing is to be changed.
    async fn overlay(
        &self,
        layout: &Layout,
        encoding: Encoding,
        rows: &Batch,
    ) -> Result<Option<Batch>, MigrateError> {
        let (Some(id), Some(details)) = (layout.position("id"), layout.position("backend_details"))
        else {
            return Ok(None);
        };
        let ids: Vec<String> = rows
            .iter()
            .map(|row| text_of(row.field(id), encoding).unwrap_or_default())
            .collect();
        let asked: Vec<&str> = ids.iter().map(String::as_str).collect();
        let records = self.to.blob_records(self.from.identity(), &asked).await?;
        let known: HashMap<String, String> = records
            .into_iter()
            .filter_map(|record| Some((record.file_id, record.details?)))
            .collect();
        if known.is_empty() {
            return Ok(None);
        }
        let mut changed = Batch::with_capacity(rows.as_bytes().len());
        for (id, tuple) in ids.iter().zip(rows.iter()) {
            match known.get(id) {
                Some(text) => changed.push_replacing(tuple, details, text, encoding),
                None => changed.push_tuple(tuple.as_bytes()),
            }
        }
        Ok(Some(changed))
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
