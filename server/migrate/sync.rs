//! A repeated run: the target is brought to the state of the source now.
//!
//! Each table is read once on both sides and becomes a digest in buckets of keys. Where two differ,
//! those ranges are read again in the order of their keys, and what the source has otherwise is
//! written. Nothing but the rows tells how far a run has come: one that was cut off finds less to
//! do the next time.
//!
//! A row that only the target has may be its own. It is known to have come from the source if its
//! range of keys is exactly as a finished run from that source has left it, or if the table was
//! empty when the first run began. That is written down before the first change, so that a run
//! that was cut off still knows it.

use std::collections::HashSet;
use std::sync::Arc;

use super::compare::{Comparison, Digests, Standing};
use super::error::MigrateError;
use super::metadata::{Filled, RowCopy, Table};
use super::progress::Event;
use super::removal::Leftovers;
use super::report::TableReport;
use crate::metadata::{
    Encoding, Existing, MetadataError, Owned, Rows, Snapshot, SourceBatch, Tally,
};

/// A table that was gone through.
struct Synced {
    tally: Tally,
    /// Rows that only the target has, if there are any that may be removed.
    leftovers: Option<Leftovers>,
}

/// Rows and bytes after which what has changed is written.
pub(super) const BATCH_ROWS: usize = 10_000;
const BATCH_BYTES: usize = 1 << 20;

impl RowCopy<'_> {
    /// Makes the tables hold what the source holds, parents first. Tables that have no rows yet are
    /// loaded whole. With `delete`, rows that only the target has and that came from the source
    /// are removed in the end, children first; others stay.
    pub async fn sync(
        &mut self,
        tables: &[Table],
        delete: bool,
    ) -> Result<Vec<TableReport>, MigrateError> {
        self.load_fresh(tables).await?;
        let target = Snapshot::open(self.target).await?;
        let mut reports = Vec::new();
        let mut leftovers = Vec::new();
        for table in tables {
            let name = &table.from.name;
            let loaded = self.fresh.get(name).copied();
            let (rows, proof) = match loaded {
                Some(rows) => (rows, None),
                None => {
                    self.table_begins(table).await?;
                    let (synced, digests) = self.sync_table(table, &target).await?;
                    self.table_ends(table);
                    leftovers.extend(synced.leftovers.map(|rows| (table, rows)));
                    // What was equal need not be compared again.
                    let equal = digests.filter(Digests::are_same);
                    let proof = equal.as_ref().map(Digests::proof);
                    self.left
                        .extend(equal.map(|digests| (name.clone(), digests)));
                    (synced.tally, proof)
                }
            };
            reports.push(TableReport {
                table: table.from.name.clone(),
                rows,
                extra: 0,
                proof,
            });
        }
        for (table, rest) in leftovers.iter().rev().filter(|_| delete) {
            let deleted = self.delete_leftovers(table, &target, rest).await?;
            let mut reports = reports.iter_mut();
            if let Some(report) = reports.find(|report| report.table == table.from.name) {
                report.rows.deleted = deleted;
            }
        }
        Ok(reports)
    }

    /// Notes of the tables that are empty before the first run that all they will have comes from
    /// the source, as all has that those hold which were filled `in_parts`.
    pub async fn own_tables(
        &self,
        tables: &[Table],
        in_parts: &HashSet<String>,
    ) -> Result<(), MetadataError> {
        for table in tables {
            let name = &table.from.name;
            if in_parts.contains(name) || !self.to.has_rows(&table.to).await? {
                let source = self.from.identity();
                self.to.set_owned(source, name, &Owned::all()).await?;
            }
        }
        Ok(())
    }

    /// Leaves in the target what is known to have come from the source, table by table, and where
    /// its blobs are proven. One that did not arrive has a record that says so.
    pub async fn leave_digests(&self) -> Result<(), MigrateError> {
        let source = self.from.identity();
        let mut left = Vec::new();
        for (name, digests) in &self.left {
            let owned = match self.to.owned(source, name).await? {
                Some(owned) => digests.to.owned_of(&owned),
                // Where nothing was written since, it still holds.
                None => {
                    let earlier = self.to.left_digest(source, name).await?;
                    digests.to.rows_of(&earlier.unwrap_or_default())
                }
            };
            let digest = digests.from.left_in(&digests.to, &owned);
            left.push((name.clone(), digest.to_text()));
        }
        let files = self.left.get("files").filter(|_| self.with_blobs);
        let proven = files.map(|files| files.from.same_in(&files.to).to_text());
        let proven = proven.map(|proven| (self.place_of_blobs, proven));
        Ok(self.to.leave_digests(source, &left, proven).await?)
    }

    async fn sync_table(
        &mut self,
        table: &Table,
        target: &Snapshot,
    ) -> Result<(Synced, Option<Digests>), MigrateError> {
        let mut comparison = self.comparison(table, target, Rows::All);
        // Since the files were compared, blobs may have come, and no row has changed.
        let compared = match table.from.name.as_str() {
            "files" => self.files.take(),
            _ => None,
        };
        let digests = match compared {
            Some(digests) => Some(Arc::unwrap_or_clone(digests)),
            None => tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
                digests = comparison.digests() => digests?,
            },
        };
        let rows = match &digests {
            Some(digests) => digests.from.rows() + digests.rejected,
            None => self.from.count(&table.from.name).await?,
        };
        // A row that cannot be held is named wherever it is.
        if let Some(digests) = digests.as_ref().filter(|digests| digests.rejected == 0) {
            comparison.rows = digests.differing();
        }
        let owned = match &digests {
            Some(digests) => Some(self.owned(table, digests).await?),
            None => None,
        };
        let (mut tally, extra) = match &digests {
            Some(digests) if digests.are_same() && digests.rejected == 0 => (Tally::default(), 0),
            _ => {
                self.write_changes(table, &comparison, owned.as_ref())
                    .await?
            }
        };
        // Some that were to be written may be among those that the target refused.
        tally.present += rows.saturating_sub(tally.total());
        self.tell_rows(table, tally.present);
        // A row that the target cannot hold may be there as it was before.
        let leftovers = owned.filter(|_| extra > 0 && tally.failed == 0);
        let leftovers = leftovers.map(|owned| Leftovers {
            rows: comparison.rows,
            owned,
        });
        Ok((Synced { tally, leftovers }, digests))
    }

    /// Which rows of the target came from the source.
    async fn owned(&self, table: &Table, digests: &Digests) -> Result<Owned, MigrateError> {
        let (source, name) = (self.from.identity(), &table.from.name);
        if let Some(owned) = self.to.owned(source, name).await? {
            return Ok(digests.to.owned_of(&owned));
        }
        let left = self.to.left_digest(source, name).await?;
        let owned = digests.to.rows_of(&left.unwrap_or_default());
        if !digests.are_same() {
            self.to.set_owned(source, name, &owned.to_text()).await?;
        }
        Ok(owned)
    }

    /// Writes the rows that the target lacks or has otherwise, and counts those that only it has.
    async fn write_changes(
        &mut self,
        table: &Table,
        comparison: &Comparison<'_>,
        owned: Option<&Owned>,
    ) -> Result<(Tally, u64), MigrateError> {
        let mut merge = comparison.merge();
        let encoding = merge.encoding();
        let (mut missing, mut changed) = (SourceBatch::default(), Changed::default());
        let (mut tally, mut extra) = (Tally::default(), 0);
        let mut doomed = Vec::new();
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
                    Standing::Different => {
                        if owned.is_some_and(|owned| owned.holds(row.row())) {
                            doomed.extend(self.erased_blob(&table.from, encoding, &row));
                        }
                        changed.batch.rows.push_tuple(row.row().as_bytes());
                        changed.keys.push(row.key());
                    }
                    Standing::Extra => extra += 1,
                    Standing::Equal => {}
                },
            }
            if is_full(&missing) || is_full(&changed.batch) {
                self.doom(std::mem::take(&mut doomed)).await?;
                let batches = (std::mem::take(&mut missing), std::mem::take(&mut changed));
                tally = tally + self.write_both(table, encoding, batches).await?;
            }
        }
        self.doom(doomed).await?;
        tally = tally + self.write_both(table, encoding, (missing, changed)).await?;
        Ok((tally, extra))
    }

    async fn write_both(
        &mut self,
        table: &Table,
        encoding: Encoding,
        (missing, changed): (SourceBatch, Changed),
    ) -> Result<Tally, MigrateError> {
        let mut tally = Tally::default();
        let batches = [
            (missing, Existing::Keep, Vec::new()),
            (changed.batch, Existing::Update, changed.keys),
        ];
        for (batch, existing, keys) in batches {
            if batch.rows.is_empty() && batch.rejects.is_empty() {
                continue;
            }
            let batch = self
                .prepared(&table.from, encoding, batch, Filled::Maybe)
                .await?;
            tally.failed += batch.rejects.len() as u64;
            let written = self
                .write(&table.to, encoding, &batch, existing, None)
                .await?;
            tally = tally + written.tally();
            self.keep_rejects(&batch.rejects)?;
            self.keep_rejects(&written.rejects)?;
            self.tell(&table.from, &batch, &written);
            let refused = batch.rejects.iter().chain(&written.rejects);
            let refused: HashSet<&str> = refused.map(|reject| reject.key.as_str()).collect();
            let table = &table.from.name;
            for key in keys.iter().filter(|key| !refused.contains(key.as_str())) {
                self.progress.on(Event::Updated { table, key });
            }
        }
        Ok(tally)
    }
}

/// Rows that the target has with other values.
#[derive(Default)]
struct Changed {
    batch: SourceBatch,
    /// For a person to read.
    keys: Vec<String>,
}

fn is_full(batch: &SourceBatch) -> bool {
    batch.rows.len() + batch.rejects.len() >= BATCH_ROWS
        || batch.rows.as_bytes().len() >= BATCH_BYTES
}
