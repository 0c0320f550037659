//! A target whose tables make room for those of the source.

use std::sync::OnceLock;

use super::error::MigrateError;
use super::progress::{Event, Progress};
use crate::config::MetadataConfig;
use crate::metadata::{Snapshot, drop_tables, is_of_plikd};

/// Lets a run drop the tables of plikd from its target, once everything that can be found out
/// before the first write speaks for the run.
#[derive(Debug, Default)]
pub struct Replacement {
    dropped: OnceLock<Vec<String>>,
}

impl Replacement {
    /// The tables that are gone from the target; `None` as long as all are there.
    pub fn dropped(&self) -> Option<&[String]> {
        self.dropped.get().map(Vec::as_slice)
    }

    /// Drops them, unless an earlier attempt of the run has: what is there then is the run's own.
    pub(super) async fn make_room(
        &self,
        to: &MetadataConfig,
        progress: &dyn Progress,
    ) -> Result<(), MigrateError> {
        if self.dropped().is_some() {
            return Ok(());
        }
        let dropped = drop_tables(to).await?;
        let tables = self.dropped.get_or_init(|| dropped);
        progress.on(Event::Dropped { tables });
        Ok(())
    }
}

/// Tells what [`Replacement::make_room`] would drop.
pub(super) async fn preview(
    target: &Snapshot,
    progress: &dyn Progress,
) -> Result<(), MigrateError> {
    let layouts = target.layouts().await?;
    for layout in layouts.iter().filter(|layout| is_of_plikd(&layout.name)) {
        let rows = target.count(&layout.name).await?;
        let table = layout.name.as_str();
        progress.on(Event::WouldDrop { table, rows });
    }
    Ok(())
}
