//! A load into tables that have no rows yet: bare tables first, keys and indexes when the rows are
//! there.
//!
//! It is an optimist's way. A row at fault is found late and not named, so the load is then
//! abandoned: the tables are empty again and have their keys, and the rows go in batch by batch,
//! through [`Loader::write`](super::Loader::write), which names it.

use super::MetadataError;
use super::checkpoint::{Checkpoint, Tally};
use super::layout::Layout;
use super::loader::{Bulk, Loader};
use super::postgres::fresh::FreshLoad as PostgresLoad;
use super::request::Order;
use super::snapshot::Identity;
use super::sqlite::fresh::FreshLoad as SqliteLoad;
use super::tuple::{Batch, Encoding};

/// A fresh load on its way. Between two tables, and before its end, it may be dropped or killed:
/// whoever opens the database with [`Loader::open`] finds tables that are whole or empty, and with
/// all their keys.
pub struct FreshLoad(Target);

enum Target {
    Sqlite(SqliteLoad),
    Postgres(Box<PostgresLoad>),
}

/// Why a fresh load did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum FreshError {
    /// The database refuses some row, for a reason that it gives without naming the row.
    /// [`FreshLoad::abandon`] is what is left to do.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Failed(#[from] MetadataError),
}

/// How far the keys, indexes and foreign keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    pub done: usize,
    pub all: usize,
}

impl Loader {
    /// Begins a load from `source` of those of `tables` that a load which was cut off has not left
    /// whole.
    ///
    /// `None` if there is none of these, one of them has rows, or the database does not allow it;
    /// nothing has changed then.
    pub async fn begin_fresh(
        &mut self,
        source: &Identity,
        tables: &[&Layout],
    ) -> Result<Option<FreshLoad>, MetadataError> {
        let mut bare = Vec::new();
        for layout in tables {
            let checkpoint = self.checkpoint(source, &layout.name).await?;
            if checkpoint.is_some_and(|checkpoint| checkpoint.whole) {
                continue;
            }
            if self.has_rows(layout).await? {
                return Ok(None);
            }
            bare.push(*layout);
        }
        if bare.is_empty() {
            return Ok(None);
        }
        match &self.bulk {
            Bulk::Sqlite(writer) => {
                let load = writer.begin_fresh(&bare).await?;
                Ok(load.map(|load| FreshLoad(Target::Sqlite(load))))
            }
            Bulk::Postgres(writer) => {
                let load = writer.begin_fresh(&bare).await?;
                Ok(load.map(|load| FreshLoad(Target::Postgres(Box::new(load)))))
            }
        }
    }
}

impl FreshLoad {
    pub(super) fn of_part(load: PostgresLoad) -> Self {
        Self(Target::Postgres(Box::new(load)))
    }

    /// What has arrived of the table before this load, of the part that it loads.
    pub fn arrived(&self, layout: &Layout) -> Option<Tally> {
        match &self.0 {
            Target::Sqlite(_) => None,
            Target::Postgres(load) => load.arrived(layout),
        }
    }

    /// Whether this load takes the table. Others are for [`Loader::write`], afterwards.
    pub fn takes(&self, layout: &Layout) -> bool {
        match &self.0 {
            Target::Sqlite(load) => load.takes(layout),
            Target::Postgres(load) => load.takes(layout),
        }
    }

    /// The order in which the rows are wanted.
    pub fn order(&self) -> Order {
        match &self.0 {
            // Each tree of the file then grows at one edge.
            Target::Sqlite(_) => Order::Key,
            Target::Postgres(_) => Order::Any,
        }
    }

    /// Begins one table. Nothing of it is to be seen before [`FreshLoad::end_table`].
    pub async fn begin_table(
        &mut self,
        layout: &Layout,
        encoding: Encoding,
    ) -> Result<(), FreshError> {
        match &mut self.0 {
            Target::Sqlite(load) => load.begin_table(layout, encoding).await,
            Target::Postgres(load) => load.begin_table(layout).await,
        }
    }

    /// Adds rows to the table that was begun.
    pub async fn write(&mut self, rows: Batch) -> Result<(), FreshError> {
        match &mut self.0 {
            Target::Sqlite(load) => load.write(rows).await,
            Target::Postgres(load) => load.write(rows).await,
        }
    }

    /// Ends the table that was begun and writes down, with it, that it is whole.
    pub async fn end_table(&mut self, checkpoint: &Checkpoint) -> Result<(), FreshError> {
        match &mut self.0 {
            Target::Sqlite(load) => load.end_table(checkpoint).await,
            Target::Postgres(load) => load.end_table(checkpoint).await,
        }
    }

    /// Builds indexes and primary keys, `tell`ing how far it is. `loader` is the one that began
    /// this load. From then on the rows can be read like any others.
    pub async fn build(
        &mut self,
        loader: &mut Loader,
        tell: &(dyn Fn(Built) + Sync),
    ) -> Result<(), FreshError> {
        match &mut self.0 {
            Target::Sqlite(load) => loader.replace(load.finish(tell).await?).await,
            Target::Postgres(load) => load.build(tell).await,
        }
    }

    /// Builds the foreign keys, which is the last step: the tables are as they were, but full.
    pub async fn relate(&mut self, tell: &(dyn Fn(Built) + Sync)) -> Result<(), FreshError> {
        match &mut self.0 {
            // Its tables have had theirs all the time, and SQLite has not looked at them.
            Target::Sqlite(_) => Ok(()),
            Target::Postgres(load) => load.relate(tell).await,
        }
    }

    /// Empties the tables and gives them back their keys, indexes and foreign keys.
    pub async fn abandon(self, _loader: &mut Loader) -> Result<(), MetadataError> {
        match self.0 {
            // Its file goes with it.
            Target::Sqlite(load) => {
                drop(load);
                Ok(())
            }
            Target::Postgres(load) => load.abandon().await,
        }
    }
}
