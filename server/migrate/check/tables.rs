//! The tables of the source, and whether the target can have them.

use super::Check;
use crate::config::Driver;
use crate::metadata::{Layout, Snapshot};
use crate::migrate::error::{MigrateError, Problem};
use crate::migrate::names;

impl Check<'_> {
    /// What the target could not be given of the tables.
    pub(super) async fn check_tables(
        &mut self,
        source: &Snapshot,
        layouts: &[Layout],
        target: Option<&Snapshot>,
    ) -> Result<(), MigrateError> {
        let there = match target {
            Some(target) => target.layouts().await?,
            None => Vec::new(),
        };
        self.check_keys(layouts);
        if self.to.metadata.driver == Driver::Sqlite {
            self.problems.extend(names::same(layouts, &there));
        }
        self.check_generated(source, layouts, target).await
    }

    fn check_keys(&mut self, layouts: &[Layout]) {
        let keyless = layouts
            .iter()
            .filter(|layout| layout.primary_key.is_empty());
        self.problems
            .extend(keyless.map(|layout| Problem::NoPrimaryKey(layout.name.clone())));
    }

    /// Values that a database makes cannot be written: they are there if the target makes them too.
    async fn check_generated(
        &mut self,
        source: &Snapshot,
        layouts: &[Layout],
        target: Option<&Snapshot>,
    ) -> Result<(), MigrateError> {
        let there = match target.filter(|_| self.options.replace.is_none()) {
            Some(target) => target.generated_columns().await?,
            None => Vec::new(),
        };
        let mut made = source.generated_columns().await?;
        made.retain(|column| {
            let is_moved = layouts.iter().any(|layout| layout.name == column.0);
            is_moved && !there.contains(column)
        });
        self.found.left_out = made;
        Ok(())
    }
}
