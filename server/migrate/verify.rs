//! Whether the target holds what was written to it: both sides are read once more and compared.

use tokio_util::sync::CancellationToken;

use super::compare::{Comparison, Standing};
use super::error::MigrateError;
use super::metadata::not_compared;
use super::plan::Plan;
use super::progress::{Event, Progress};
use super::report::TableReport;
use crate::config::MetadataConfig;
use crate::metadata::Snapshot;

/// The first table in which source and target differ by more than the rows that `tables` says were
/// rejected or in conflict. Counts and tells the rows that only the target has.
pub(super) async fn difference(
    plan: &Plan,
    to: &MetadataConfig,
    tables: &mut [TableReport],
    with_blobs: bool,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Option<MigrateError>, MigrateError> {
    let to = Snapshot::open(to).await?;
    let targets = to.layouts().await?;
    for (layout, report) in plan.layouts.iter().zip(tables) {
        let Some(target) = targets.iter().find(|target| target.name == layout.name) else {
            continue;
        };
        let comparison = Comparison {
            from: &plan.source,
            driver: to.driver(),
            to: Some((&to, target)),
            layout,
            not_compared: not_compared(layout, with_blobs),
        };
        let difference = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(MigrateError::Interrupted),
            difference = compare(&comparison, report, progress) => difference?,
        };
        if difference.is_some() {
            return Ok(difference);
        }
    }
    Ok(None)
}

async fn compare(
    comparison: &Comparison<'_>,
    report: &mut TableReport,
    progress: &dyn Progress,
) -> Result<Option<MigrateError>, MigrateError> {
    let (mut missing, mut different, mut extra, mut rejected) = (0, 0, 0, 0);
    let mut example = None;
    let table = &report.table;
    comparison
        .run(|row| match row {
            Ok(row) => {
                match row.standing {
                    Standing::Equal => return,
                    Standing::Missing => missing += 1,
                    Standing::Different => different += 1,
                    Standing::Extra => {
                        extra += 1;
                        let key = &row.key();
                        progress.on(Event::Extra { table, key });
                        return;
                    }
                }
                example.get_or_insert_with(|| row.key());
            }
            Err(_) => rejected += 1,
        })
        .await?;
    report.extra = extra;
    let known = report.rows;
    // A row that was left out may be there all the same, with other values.
    let explained = known.failed + known.conflicts;
    if missing + rejected <= known.failed && missing + rejected + different <= explained {
        return Ok(None);
    }
    Ok(Some(MigrateError::Differs {
        table: report.table.clone(),
        missing,
        different,
        example,
    }))
}
