//! One part of the rows, while other processes bring the others: into tables without keys, which a
//! run of no part puts together.

use crate::metadata::{
    Batch, Encoding, FreshLoad, Layout, Loader, Snapshot, SourceBatch, Tally, Tuple, text_of,
};
use crate::model::{BackendDetails, Shard};

use super::error::MigrateError;
use super::fresh::Fault;
use super::metadata::{RowCopy, Table};
use super::plan::Plan;
use super::rejects::RejectsFile;
use super::report::TableReport;
use super::run::Run;

impl Run<'_> {
    /// Brings the part, and gives what became of it: nothing of it is compared before the parts are
    /// together.
    pub(super) async fn copy_part(
        &self,
        plan: &Plan,
        shard: Shard,
        rejects: Option<&mut RejectsFile>,
    ) -> Result<Vec<TableReport>, MigrateError> {
        let source = plan.source.identity();
        let mut loader = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
            opened = Loader::open_part(self.to.metadata, shard) => opened?,
        };
        self.guard.watch(&loader);
        // Another part may have come first since both were looked at.
        let target = Snapshot::open(self.to.metadata).await?;
        target.refuse_other_migration(source).await?;
        target.refuse_part(shard).await?;
        drop(target);
        let targets = loader.adopt(&plan.layouts, plan.source.driver()).await?;
        let tables = Table::pairs(&plan.layouts, targets);
        loader.drop_empty_counters().await?;
        let layouts: Vec<&Layout> = tables.iter().map(|table| &table.to).collect();
        let mut load = loader.begin_part(source, &layouts).await?;
        let place = self.place_of_blobs();
        let mut copy = self.row_copy(plan, &mut loader, rejects, &place);
        copy.shard = Some(shard);
        let reports = copy.load_part(&mut load, &tables).await?;
        loader.close().await;
        Ok(reports)
    }
}

impl RowCopy<'_> {
    async fn load_part(
        &mut self,
        load: &mut FreshLoad,
        tables: &[Table],
    ) -> Result<Vec<TableReport>, MigrateError> {
        let mut reports = Vec::new();
        for table in tables {
            let rows = match load.arrived(&table.to) {
                Some(arrived) => self.pass_over(table, arrived).await?,
                None if load.takes(&table.to) => self.load_part_of(load, table).await?,
                // It is left to the run that puts the parts together.
                None => continue,
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

    /// An earlier run of this part has brought them.
    async fn pass_over(&self, table: &Table, arrived: Tally) -> Result<Tally, MigrateError> {
        self.table_begins(table).await?;
        self.tell_rows(table, arrived.total());
        self.table_ends(table);
        Ok(arrived)
    }

    async fn load_part_of(
        &mut self,
        load: &mut FreshLoad,
        table: &Table,
    ) -> Result<Tally, MigrateError> {
        self.table_begins(table).await?;
        let loaded = self.load_table(load, table, None).await;
        let (tally, _) = loaded.map_err(|fault| match fault {
            Fault::Refused(reason) => MigrateError::PartRefused {
                table: table.from.name.clone(),
                reason,
            },
            Fault::Failed(error) => error,
        })?;
        self.table_ends(table);
        Ok(tally)
    }

    /// Rows of files say nothing of the keys that the source has encrypted their blobs with: those
    /// of the target are not, and whoever copies them does not know the rows.
    pub(super) fn without_keys(
        &self,
        layout: &Layout,
        encoding: Encoding,
        batch: SourceBatch,
    ) -> SourceBatch {
        let details = layout.position("backend_details");
        let Some(column) = details.filter(|_| layout.name == "files" && self.with_blobs) else {
            return batch;
        };
        let has_key = |row: &Tuple<'_>| {
            let details = row.field(column).filter(|details| !details.is_empty());
            let details = details.and_then(|_| text_of(row.field(column), encoding));
            details.is_some_and(|details| BackendDetails::new(details).sse_key().is_some())
        };
        if !batch.rows.iter().any(|row| has_key(&row)) {
            return batch;
        }
        let none = BackendDetails::default();
        let mut rows = Batch::with_capacity(batch.rows.as_bytes().len());
        for row in batch.rows.iter() {
            match has_key(&row) {
                true => rows.push_replacing(row, column, none.as_str(), encoding),
                false => rows.push_tuple(row.as_bytes()),
            }
        }
        SourceBatch { rows, ..batch }
    }
}
