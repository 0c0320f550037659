//! A repeated run: the target is brought to the state of the source now.
//!
//! Each table is read once on both sides and becomes a digest in buckets of keys. Where two differ,
//! those ranges are read again in the order of their keys, and what the source has otherwise is
//! written. Nothing but the rows tells how far a run has come: one that was cut off finds less to
//! do the next time.

use super::compare::{Comparison, Digests, Standing};
use super::error::MigrateError;
use super::metadata::{RowCopy, Table, not_compared};
use super::report::TableReport;
use crate::config::MetadataConfig;
use crate::metadata::{Encoding, Existing, Rows, Snapshot, SourceBatch, Tally};

/// Rows and bytes after which what has changed is written.
const BATCH_ROWS: usize = 10_000;
const BATCH_BYTES: usize = 1 << 20;

impl RowCopy<'_> {
    /// Makes the tables hold what the source holds, parents first. Tables that have no rows yet are
    /// loaded whole. Rows that only the target has stay.
    pub async fn sync(
        &mut self,
        tables: &[Table],
        to: &MetadataConfig,
    ) -> Result<Vec<TableReport>, MigrateError> {
        self.load_fresh(tables).await?;
        let target = Snapshot::open(to).await?;
        let mut reports = Vec::new();
        for table in tables {
            let loaded = self.fresh.get(&table.from.name).copied();
            let (rows, proof) = match loaded {
                Some(rows) => (rows, None),
                None => {
                    self.table_begins(table).await?;
                    let (rows, digests) = self.sync_table(table, &target).await?;
                    self.table_ends(table);
                    // What was equal need not be compared again.
                    let proof = digests.filter(Digests::are_same);
                    (rows, proof.as_ref().map(Digests::proof))
                }
            };
            reports.push(TableReport {
                table: table.from.name.clone(),
                rows,
                extra: 0,
                proof,
            });
        }
        Ok(reports)
    }

    async fn sync_table(
        &mut self,
        table: &Table,
        target: &Snapshot,
    ) -> Result<(Tally, Option<Digests>), MigrateError> {
        let mut comparison = Comparison {
            from: self.from,
            driver: self.to.driver(),
            to: Some((target, &table.to)),
            layout: &table.from,
            not_compared: not_compared(&table.from, self.with_blobs),
            rows: Rows::All,
        };
        let digests = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
            digests = comparison.digests() => digests?,
        };
        let rows = match &digests {
            Some(digests) => digests.from.rows(),
            None => self.from.count(&table.from.name).await?,
        };
        // A row that cannot be held is named wherever it is.
        if let Some(digests) = digests.as_ref().filter(|digests| digests.rejected == 0) {
            comparison.rows = digests.differing();
        }
        let mut tally = match &digests {
            Some(digests) if digests.are_same() && digests.rejected == 0 => Tally::default(),
            _ => self.write_changes(table, &comparison).await?,
        };
        // Some that were to be written may be among those that the target refused.
        tally.present += rows.saturating_sub(tally.total());
        self.tell_rows(table, tally.present);
        Ok((tally, digests))
    }

    /// Writes the rows that the target lacks or has otherwise.
    async fn write_changes(
        &mut self,
        table: &Table,
        comparison: &Comparison<'_>,
    ) -> Result<Tally, MigrateError> {
        let mut merge = comparison.merge();
        let encoding = merge.encoding();
        let (mut missing, mut changed) = (SourceBatch::default(), SourceBatch::default());
        let mut tally = Tally::default();
        loop {
            let row = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
                row = merge.next() => row?,
            };
            match row {
                None => break,
                Some(Err(reject)) => missing.rejects.push(*reject),
                Some(Ok(row)) => match row.standing {
                    Standing::Missing => missing.rows.push_tuple(row.row().as_bytes()),
                    Standing::Different => changed.rows.push_tuple(row.row().as_bytes()),
                    Standing::Equal | Standing::Extra => {}
                },
            }
            if is_full(&missing) || is_full(&changed) {
                let batches = (std::mem::take(&mut missing), std::mem::take(&mut changed));
                tally = tally + self.write_both(table, encoding, batches).await?;
            }
        }
        Ok(tally + self.write_both(table, encoding, (missing, changed)).await?)
    }

    async fn write_both(
        &mut self,
        table: &Table,
        encoding: Encoding,
        (missing, changed): (SourceBatch, SourceBatch),
    ) -> Result<Tally, MigrateError> {
        let mut tally = Tally::default();
        for (batch, existing) in [(missing, Existing::Keep), (changed, Existing::Update)] {
            if batch.rows.is_empty() && batch.rejects.is_empty() {
                continue;
            }
            let batch = self.prepared(&table.from, encoding, batch).await?;
            tally.failed += batch.rejects.len() as u64;
            let written = self
                .write(&table.to, encoding, &batch, existing, None)
                .await?;
            tally = tally + written.tally();
            self.keep_rejects(&batch.rejects)?;
            self.keep_rejects(&written.rejects)?;
            self.tell(&table.from, &batch, &written);
        }
        Ok(tally)
    }
}

fn is_full(batch: &SourceBatch) -> bool {
    batch.rows.len() + batch.rejects.len() >= BATCH_ROWS
        || batch.rows.as_bytes().len() >= BATCH_BYTES
}
