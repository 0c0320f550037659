//! The fast way of the rows: whole tables into a target that has none yet.

use std::time::Instant;

use crate::metadata::{
    Built, Checkpoint, FreshError, FreshLoad, Reject, Request, Rows, Snapshot, Tally,
};

use super::compare::{Digests, Reading};
use super::error::MigrateError;
use super::metadata::{Filled, RowCopy, Table, not_compared};
use super::progress::Event;

/// Rows left out that are kept to be told at the end: if the load is abandoned, they are found
/// again, and are not to be told twice.
const REJECTS_HELD: usize = 1_000;
/// They are held whole.
const REJECTED_BYTES_HELD: usize = 4 << 20;

impl RowCopy<'_> {
    /// Loads the tables of `tables` that the target can take bare, and leaves a checkpoint for each
    /// that says that it is whole. Whatever is left, which is everything if a row is refused, is
    /// for [`RowCopy::copy_table`].
    pub(super) async fn load_fresh(&mut self, tables: &[Table]) -> Result<(), MigrateError> {
        let layouts: Vec<_> = tables.iter().map(|table| &table.to).collect();
        let source = self.from.identity();
        let Some(mut load) = self.to.begin_fresh(source, &layouts).await? else {
            return Ok(());
        };
        self.progress.on(Event::FreshBegin);
        match self.load_and_build(&mut load, tables).await {
            Ok(()) => Ok(()),
            Err(Fault::Refused(reason)) => {
                self.progress.on(Event::FreshAbandoned { reason: &reason });
                self.fresh.clear();
                Ok(load.abandon(self.to).await?)
            }
            Err(Fault::Failed(error)) => Err(error),
        }
    }

    async fn load_and_build(
        &mut self,
        load: &mut FreshLoad,
        tables: &[Table],
    ) -> Result<(), Fault> {
        let (mut rejects, mut readings) = (Vec::new(), Vec::new());
        for table in tables {
            if !load.takes(&table.to) {
                continue;
            }
            self.table_begins(table).await?;
            let (tally, reading) = self.load_table(load, table, Some(&mut rejects)).await?;
            self.table_ends(table);
            self.fresh.insert(table.from.name.clone(), tally);
            readings.extend(reading.map(|reading| (table, reading)));
        }
        self.keep_rejects(&rejects)?;
        let cancel = self.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(MigrateError::Interrupted.into()),
            built = self.build(load, readings) => built?,
        }
        self.tell_rejects(&rejects);
        Ok(())
    }

    /// Makes the keys. Foreign keys leave a processor free, which reads back what was loaded.
    async fn build(
        &mut self,
        load: &mut FreshLoad,
        readings: Vec<(&Table, Reading)>,
    ) -> Result<(), Fault> {
        let progress = self.progress;
        let tell = |built: Built| progress.on(Event::Keys(built));
        load.build(self.to, &tell).await?;
        let relate = async { Ok(load.relate(&tell).await?) };
        let ((), digests) = tokio::try_join!(relate, self.read_back(readings))?;
        self.left.extend(digests);
        Ok(())
    }

    /// What the target holds of the tables that were loaded, beside what the source was read to
    /// hold.
    async fn read_back(
        &self,
        readings: Vec<(&Table, Reading)>,
    ) -> Result<Vec<(String, Digests)>, Fault> {
        let mut digests = Vec::new();
        if !self.reads_back {
            return Ok(digests);
        }
        let target = Snapshot::open(self.target)
            .await
            .map_err(MigrateError::from)?;
        for (table, from) in readings {
            let comparison = self.comparison(table, &target, Rows::All);
            if let Some(to) = comparison.read_target() {
                let to = to.await.map_err(MigrateError::from)?;
                let to = to.map_err(MigrateError::from)?;
                digests.push((table.from.name.clone(), Digests::new(from, to)));
            }
        }
        Ok(digests)
    }

    /// Loads one table. Rows that are left out go to `held`, if the load may be abandoned yet.
    pub(super) async fn load_table(
        &mut self,
        load: &mut FreshLoad,
        table: &Table,
        mut held: Option<&mut Vec<Reject>>,
    ) -> Result<(Tally, Option<Reading>), Fault> {
        let layout = &table.from;
        let encoding = self.from.encoding_for(self.to.driver());
        let mut stream = self.from.read(Request {
            layout: layout.clone(),
            encoding,
            to: self.to.driver(),
            after: None,
            rows: Rows::of_shard(self.shard),
            order: load.order(),
        });
        let mut checkpoint = Checkpoint::new(self.from.identity(), &layout.name);
        checkpoint.whole = true;
        let not_compared = not_compared(layout, self.with_blobs);
        let mut reading = match self.reads_back {
            true => Reading::of(layout, &table.to, encoding, not_compared),
            false => None,
        };
        load.begin_table(&table.to, encoding).await?;
        let mut begun = Instant::now();
        while let Some(batch) = self.next_batch(&mut stream).await? {
            reading.iter_mut().for_each(|reading| reading.add(&batch));
            let batch = self.prepared(layout, encoding, batch, Filled::Not).await?;
            let (rows, failed) = (batch.rows.len() as u64, batch.rejects.len() as u64);
            checkpoint.tally.copied += rows;
            checkpoint.tally.failed += failed;
            match &mut held {
                Some(held) => hold(held, batch.rejects)?,
                None => {
                    self.keep_rejects(&batch.rejects)?;
                    self.tell_rejects(&batch.rejects);
                }
            }
            load.write(batch.rows).await?;
            self.progress.on(Event::Rows {
                table: &layout.name,
                rows: rows + failed,
            });
            self.rest_after(begun.elapsed()).await?;
            begun = Instant::now();
        }
        load.end_table(&checkpoint).await?;
        Ok((checkpoint.tally, reading))
    }
}

fn hold(held: &mut Vec<Reject>, rejects: Vec<Reject>) -> Result<(), Fault> {
    held.extend(rejects);
    let bytes = held.iter().map(|reject| reject.row.tuple.len());
    if held.len() > REJECTS_HELD || bytes.sum::<usize>() > REJECTED_BYTES_HELD {
        return Err(Fault::Refused("many rows cannot be copied".to_owned()));
    }
    Ok(())
}

/// Why rows did not go in the fast way.
pub(super) enum Fault {
    /// They must go in batch by batch, which names the row at fault.
    Refused(String),
    Failed(MigrateError),
}

impl From<FreshError> for Fault {
    fn from(error: FreshError) -> Self {
        match error {
            FreshError::Refused(reason) => Self::Refused(reason),
            FreshError::Failed(error) => Self::Failed(error.into()),
        }
    }
}

impl From<MigrateError> for Fault {
    fn from(error: MigrateError) -> Self {
        Self::Failed(error)
    }
}
