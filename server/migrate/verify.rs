//! Whether the target holds what was written to it: both sides are read once more and compared.
//!
//! Digests first, both sides at the same time; rows, in the order of their keys, only where those
//! differ.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::compare::{Compared, Comparison, Digests, Standing};
use super::error::MigrateError;
use super::limits::Limiter;
use super::metadata::not_compared;
use super::plan::Plan;
use super::progress::{Event, Progress};
use super::report::TableReport;
use crate::config::MetadataConfig;
use crate::metadata::{Rows, Snapshot};

/// The check at the end of a migration.
pub(super) struct EndCheck<'a> {
    pub plan: &'a Plan,
    pub to: &'a MetadataConfig,
    pub with_blobs: bool,
    pub limiter: &'a Arc<Limiter>,
    pub progress: &'a dyn Progress,
    pub cancel: &'a CancellationToken,
}

impl EndCheck<'_> {
    /// The first table in which source and target differ by more than the rows that `tables` says
    /// were rejected or in conflict. Counts and tells the rows that only the target has. Tables of
    /// which there is proof already, or digests in `left`, are not read again; the digests of the
    /// others go there.
    pub async fn difference(
        &self,
        tables: &mut [TableReport],
        left: &mut HashMap<String, Digests>,
    ) -> Result<Option<MigrateError>, MigrateError> {
        let to = Snapshot::open(self.to).await?;
        let targets = to.layouts().await?;
        for (layout, report) in self.plan.layouts.iter().zip(tables) {
            if report.proof.is_some() {
                continue;
            }
            let Some(target) = targets.iter().find(|target| target.name == layout.name) else {
                continue;
            };
            let comparison = Comparison {
                from: &self.plan.source,
                driver: to.driver(),
                to: Some((&to, target)),
                layout,
                not_compared: not_compared(layout, self.with_blobs),
                rows: Rows::All,
                limiter: self.limiter,
            };
            let difference = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
                difference = compare(comparison, report, left, self.progress) => difference?,
            };
            if difference.is_some() {
                return Ok(difference);
            }
        }
        Ok(None)
    }
}

/// Compares digests, and only where they differ rows.
async fn compare(
    mut comparison: Comparison<'_>,
    report: &mut TableReport,
    left: &mut HashMap<String, Digests>,
    progress: &dyn Progress,
) -> Result<Option<MigrateError>, MigrateError> {
    let digests = match left.remove(&report.table) {
        Some(digests) => Some(digests),
        None => comparison.digests().await?,
    };
    let mut found = Found::default();
    if let Some(digests) = &digests {
        comparison.rows = digests.differing();
        found.rejected = digests.rejected;
    }
    report.proof = digests.as_ref().map(Digests::proof);
    if !digests.as_ref().is_some_and(Digests::are_same) {
        let table = &report.table;
        comparison
            .run(|row| match row {
                Ok(row) => found.add(&row, table, progress),
                // The digests have counted it.
                Err(_) if digests.is_some() => {}
                Err(_) => found.rejected += 1,
            })
            .await?;
    }
    report.extra = found.extra;
    left.extend(digests.map(|digests| (report.table.clone(), digests)));
    let known = report.rows;
    // A row that was left out may be there all the same, with other values.
    let explained = known.failed + known.conflicts;
    if found.missing + found.rejected <= known.failed
        && found.missing + found.rejected + found.different <= explained
    {
        return Ok(None);
    }
    Ok(Some(MigrateError::Differs {
        table: report.table.clone(),
        missing: found.missing,
        different: found.different,
        example: found.example,
    }))
}

/// The rows that are not equal.
#[derive(Default)]
struct Found {
    missing: u64,
    different: u64,
    extra: u64,
    rejected: u64,
    /// The key of the first that is missing or different, and in which columns.
    example: Option<String>,
}

impl Found {
    fn add(&mut self, row: &Compared<'_>, table: &str, progress: &dyn Progress) {
        match row.standing {
            Standing::Equal => return,
            Standing::Missing => self.missing += 1,
            Standing::Different => self.different += 1,
            Standing::Extra => {
                self.extra += 1;
                let key = &row.key();
                let reason = row.why_extra();
                progress.on(Event::Extra { table, key, reason });
                return;
            }
        }
        self.example
            .get_or_insert_with(|| match &row.columns()[..] {
                [] => row.key(),
                columns => format!("{} (in {})", row.key(), columns.join(", ")),
            });
    }
}
