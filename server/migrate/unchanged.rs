//! Which files of a source that is followed are as an earlier run left them: their blobs need not
//! be asked about one by one.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::compare::{Comparison, Digests};
use super::error::MigrateError;
use super::limits::Limiter;
use super::metadata::not_compared;
use super::plan::Plan;
use crate::config::MetadataConfig;
use crate::metadata::{Rows, Snapshot};

/// Compares the files of both sides, before anything changes in the target. `None` if that does
/// not tell: a first run, a source with rows that cannot be compared, a target with fewer columns.
pub(super) async fn compare_files(
    plan: &Plan,
    to: &MetadataConfig,
    limiter: &Arc<Limiter>,
    cancel: &CancellationToken,
) -> Result<Option<Arc<Digests>>, MigrateError> {
    let Some(files) = plan.files() else {
        return Ok(None);
    };
    let target = Snapshot::open(to).await?;
    let layouts = target.layouts().await?;
    let there = layouts.iter().find(|layout| layout.name == files.name);
    let Some(there) = there.filter(|there| {
        let mut columns = files.columns.iter();
        columns.all(|column| there.position(&column.name).is_some())
    }) else {
        return Ok(None);
    };
    if target.count(&files.name).await? == 0 {
        return Ok(None);
    }
    let comparison = Comparison {
        from: &plan.source,
        driver: target.driver(),
        to: Some((&target, there)),
        layout: files,
        not_compared: not_compared(files, true),
        rows: Rows::All,
        limiter,
    };
    let digests = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(MigrateError::Interrupted),
        digests = comparison.digests() => digests?,
    };
    Ok(digests
        .filter(|digests| digests.rejected == 0)
        .map(Arc::new))
}
