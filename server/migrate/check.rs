//! Looks at both ends of a migration, and writes nothing.

mod blobs;
mod room;
mod tables;

use std::sync::Arc;

use super::ends::Ends;
use super::error::{MigrateError, Problem, Side};
use super::outlook::{BlobTotals, Room};
use super::unfit::Unfit;
use super::{Endpoint, Mode, Options};
use crate::config::Driver;
use crate::data::{DataBackend, Tuning};
use crate::metadata::{self, Layout, Lock, MetadataError, Snapshot};
use crate::model::Shard;

pub(super) use blobs::{keeps_keys, shared_place};
pub(super) use tables::Retyped;

/// The look at both ends.
pub(super) struct Check<'a> {
    from: Endpoint<'a>,
    to: Endpoint<'a>,
    options: Options<'a>,
    tuning: &'a Tuning,
    pub problems: Vec<Problem>,
    pub ends: Ends,
    pub found: Found,
}

/// A source that could be read.
pub(super) struct Source {
    pub snapshot: Snapshot,
    /// Schema versions that were applied.
    pub versions: Vec<String>,
    /// The tables to copy, parents first.
    pub layouts: Vec<Layout>,
    /// Its blobs, if they are to be moved and could be opened.
    pub data: Option<Arc<dyn DataBackend>>,
}

impl Source {
    pub fn has_table(&self, name: &str) -> bool {
        self.layouts.iter().any(|layout| layout.name == name)
    }
}

/// What was found out that is no problem.
#[derive(Default)]
pub(super) struct Found {
    /// A server uses the source.
    pub source_is_served: bool,
    /// What the target's database holds that no run from this source has brought, and that this
    /// one will not overwrite.
    pub others_rows: Option<String>,
    /// Columns of the source, each with its table, that the target neither makes nor can be given.
    pub left_out: Vec<(String, String)>,
    /// What the target cannot have of the source, and is left out on request.
    pub omitted: Vec<Unfit>,
    /// Columns whose types the target does not have, and that get others.
    pub retyped: Vec<Retyped>,
    /// A run from this source into the target was cut off.
    pub goes_on: bool,
    /// Rows of this source have come into the target in parts, which no run has put together.
    pub in_parts: bool,
    /// The target's directory or bucket is still to be created.
    pub to_is_absent: bool,
    /// What the rows take, if any are to be moved.
    pub room_for_rows: Option<Room>,
    /// The places that tell how much room they have, if it is enough.
    pub roomy: Vec<String>,
    /// Those to be copied, once they were counted.
    pub blobs: Option<BlobTotals>,
}

impl<'a> Check<'a> {
    pub fn new(
        from: Endpoint<'a>,
        to: Endpoint<'a>,
        options: Options<'a>,
        tuning: &'a Tuning,
    ) -> Self {
        Self {
            from,
            to,
            options,
            tuning,
            problems: Vec::new(),
            ends: Ends::named(from, to, options.halves),
            found: Found::default(),
        }
    }

    /// `None` if the source could not even be read.
    pub async fn run(&mut self) -> Result<Option<Source>, MigrateError> {
        let halves = self.options.halves;
        self.check_part();
        let source = self.open_source().await;
        let target = self
            .open_target(source.as_ref().map(|(source, _)| source))
            .await;
        let data = match halves.has_data() {
            true => self.open_data().await,
            false => None,
        };
        self.check_places();
        let Some((snapshot, versions)) = source else {
            return Ok(None);
        };
        // Not knowing it keeps no run from starting.
        self.found.source_is_served = Lock::is_served(self.from.metadata).await.unwrap_or(false);
        let layouts = metadata::migrated(snapshot.layouts().await?);
        let layouts = self
            .check_tables(&snapshot, layouts, target.as_ref())
            .await?;
        if let Some(target) = target.as_ref().filter(|_| halves.has_metadata()) {
            self.found.others_rows = others_rows(target, &snapshot).await?;
            self.check_owner();
            self.found.goes_on = target.has_checkpoint_of(snapshot.identity()).await?;
            self.found.in_parts = target.has_parts_of(snapshot.identity()).await?;
        }
        // What has read the tables would keep another part from taking them apart meanwhile.
        let target = target.filter(|_| self.options.shard.is_none() || !halves.has_metadata());
        if let Some(data) = &data {
            self.check_blobs(&snapshot, &layouts, data.as_ref()).await?;
        }
        self.check_keys_of_blobs(target.as_ref()).await?;
        self.check_space(&snapshot, target.as_ref(), &layouts, data.as_deref())
            .await?;
        Ok(Some(Source {
            snapshot,
            versions,
            layouts,
            data,
        }))
    }

    async fn open_source(&mut self) -> Option<(Snapshot, Vec<String>)> {
        let opened = async {
            let source = Snapshot::open(self.from.metadata).await?;
            self.ends.from.look(&source).await?;
            let versions = source.versions().await?;
            source.refuse_half_migrated().await?;
            Ok((source, versions))
        };
        let problem = |source| Problem::Metadata {
            side: Side::Source,
            source,
        };
        opened
            .await
            .map_err(|error| self.problems.push(problem(error)))
            .ok()
    }

    /// The target's metadata as it is, if it exists and is another than the source's.
    async fn open_target(&mut self, source: Option<&Snapshot>) -> Option<Snapshot> {
        if !self.options.halves.has_metadata() && !keeps_keys(self.to.data) {
            return None;
        }
        if metadata::is_same_file(self.from.metadata, self.to.metadata) {
            self.refuse_same_metadata();
            return None;
        }
        let part = self.options.shard;
        let part = part.filter(|_| self.options.halves.has_metadata());
        let looked_at = async {
            let target = match Snapshot::open(self.to.metadata).await {
                Ok(target) => Some(target),
                Err(MetadataError::NotInitialised { .. }) => None,
                Err(error) => return Err(error),
            };
            let (one, other) = (source.map(Snapshot::identity), target.as_ref());
            if one.is_some() && one == other.map(Snapshot::identity) {
                return Ok(None);
            }
            if let Some(target) = &target {
                self.look_at_target(target).await?;
                if let Some(source) = one {
                    target.refuse_other_migration(source).await?;
                }
                if let Some(shard) = part {
                    target.refuse_part(shard).await?;
                }
            }
            metadata::probe(self.to.metadata, part.map(Shard::number)).await?;
            Ok(Some(target))
        };
        match looked_at.await {
            Ok(Some(target)) => target,
            Ok(None) => {
                self.refuse_same_metadata();
                None
            }
            Err(source) => {
                self.problems.push(Problem::Metadata {
                    side: Side::Target,
                    source,
                });
                None
            }
        }
    }

    async fn look_at_target(&mut self, target: &Snapshot) -> Result<(), MetadataError> {
        match target.versions().await {
            // One that is empty is to be filled.
            Ok(_) | Err(MetadataError::NotInitialised { .. }) => self.ends.to.look(target).await,
            // Of whatever version it is, it makes room.
            Err(MetadataError::Newer { .. }) if self.options.replace.is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Rows are divided where several can write at once.
    fn check_part(&mut self) {
        let Options { shard, halves, .. } = self.options;
        let is_file = self.to.metadata.driver == Driver::Sqlite;
        if shard.is_some() && halves.has_metadata() && is_file {
            self.problems.push(Problem::ShardOfFile);
        }
    }

    /// Harmless where no rows are to be moved.
    fn refuse_same_metadata(&mut self) {
        if self.options.halves.has_metadata() {
            self.problems.push(Problem::SamePlace {
                half: "metadata",
                place: metadata::name_of(self.from.metadata),
                both: false,
            });
        }
    }

    /// The source wins over what is in the target only where a run from it was there before.
    fn check_owner(&mut self) {
        let overwrites = self.options.mode != Mode::Copy && self.options.replace.is_none();
        if let Some(rows) = self.found.others_rows.take_if(|_| overwrites) {
            self.problems.push(Problem::OthersRows {
                place: metadata::name_of(self.to.metadata),
                rows,
            });
        }
    }
}

/// What `target` holds, if it holds anything and no run from `source` was ever begun into it.
async fn others_rows(target: &Snapshot, source: &Snapshot) -> Result<Option<String>, MigrateError> {
    let layouts = target.layouts().await?;
    let mut found = Vec::new();
    for table in ["users", "uploads"] {
        if layouts.iter().any(|layout| layout.name == table) {
            found.push(target.count(table).await?);
        }
    }
    if found.iter().sum::<u64>() == 0 || target.has_run_of(source.identity()).await? {
        return Ok(None);
    }
    let found: Vec<String> = ["user", "upload"]
        .iter()
        .zip(found)
        .map(|(what, count)| match count {
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        })
        .collect();
    Ok(Some(found.join(" and ")))
}
