//! The fast way of the rows: whole tables into a target that has none yet.

use std::time::Instant;

use crate::metadata::{Built, Checkpoint, FreshError, FreshLoad, Reject, Request, Rows, Tally};

use super::error::MigrateError;
use super::metadata::{RowCopy, Table};
use super::progress::Event;

/// Rows left out that are kept to be told at the end: if the load is abandoned, they are found
/// again, and are not to be told twice.
const REJECTS_HELD: usize = 1_000;

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
        let mut rejects = Vec::new();
        for table in tables {
            if !load.takes(&table.to) {
                continue;
            }
            self.table_begins(table).await?;
            let tally = self.load_table(load, table, &mut rejects).await?;
            self.table_ends(table);
            self.fresh.insert(table.from.name.clone(), tally);
        }
        self.keep_rejects(&rejects)?;
        let progress = self.progress;
        let tell = |built: Built| progress.on(Event::Keys(built));
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(MigrateError::Interrupted.into()),
            built = load.finish(self.to, &tell) => built?,
        }
        self.tell_rejects(&rejects);
        Ok(())
    }

    async fn load_table(
        &mut self,
        load: &mut FreshLoad,
        table: &Table,
        rejects: &mut Vec<Reject>,
    ) -> Result<Tally, Fault> {
        let layout = &table.from;
        let encoding = self.from.encoding_for(self.to.driver());
        let mut stream = self.from.read(Request {
            layout: layout.clone(),
            encoding,
            to: self.to.driver(),
            after: None,
            rows: Rows::All,
            order: load.order(),
        });
        let mut checkpoint = Checkpoint::new(self.from.identity(), &layout.name);
        checkpoint.whole = true;
        load.begin_table(&table.to, encoding).await?;
        let mut begun = Instant::now();
        while let Some(batch) = self.next_batch(&mut stream).await? {
            let batch = self.prepared(layout, encoding, batch).await?;
            let (rows, failed) = (batch.rows.len() as u64, batch.rejects.len() as u64);
            checkpoint.tally.copied += rows;
            checkpoint.tally.failed += failed;
            rejects.extend(batch.rejects);
            if rejects.len() > REJECTS_HELD {
                return Err(Fault::Refused("many rows cannot be copied".to_owned()));
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
        Ok(checkpoint.tally)
    }
}

/// Why rows did not go in the fast way.
enum Fault {
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
