//! What is checked before the first write, and what the two ends turned out to be.

use std::sync::Arc;

use futures::StreamExt;

use super::data::{BlobRows, blob_totals};
use super::ends::Ends;
use super::error::{MigrateError, Problem, Side, tell_both_halves};
use super::names;
use super::outlook::{BlobTotals, Room};
use super::preflight::{CheckItem, Preflight};
use super::progress::{Event, Progress};
use super::space::{Need, added_up};
use super::{Endpoint, Mode, Options};
use crate::config::{DataConfig, Driver, MetadataConfig, Sse};
use crate::data::{self, Access, BlobRef, DataBackend, DataError, Location, Origin, Tuning};
use crate::metadata::schema::KNOWN_IDS;
use crate::metadata::{self, Layout, Lock, MetadataError, Rows, Snapshot};
use crate::model::{BackendDetails, FileStatus, Shard};

/// Room that a database needs besides its rows, for its log.
const SPARE_BYTES: u64 = 16 << 20;

/// A migration whose ends were looked at and found fit.
pub(super) struct Plan {
    pub source: Snapshot,
    /// The tables to copy, parents first.
    pub layouts: Vec<Layout>,
    /// What both ends turned out to be.
    pub ends: Ends,
    checks: Vec<CheckItem>,
    /// Schema versions of the source that this program does not know.
    pub foreign_versions: Vec<String>,
    /// Columns that the target will not have, each with its table.
    left_out: Vec<(String, String)>,
    /// The source has no counters, so the target's are to be counted.
    pub lacks_counters: bool,
    pub from_data: Option<Arc<dyn DataBackend>>,
    /// What is to be copied of the source's blobs, as the rows say.
    pub blobs: BlobTotals,
    /// A server was using the source when it was looked at.
    pub source_is_served: bool,
    /// The target's directory or bucket is still to be created, so it has no blob.
    pub to_is_absent: bool,
    /// What the rows take, if any are to be moved.
    pub room_for_rows: Option<Room>,
    /// The target encrypts each blob with a key of its own, kept in the file's row.
    pub to_keeps_keys: bool,
    /// Rows of this source have come into the target in parts, which no run has put together.
    pub in_parts: bool,
    /// What to do about what the target has. Rows that came in parts are of many moments of the
    /// source, and nobody has used them yet: they become those of this one.
    pub mode: Mode,
    /// The target's metadata is written to by the run as a whole: rows, keys, or records of blobs.
    pub needs_loader: bool,
    pub needs_data: bool,
}

impl Plan {
    /// Looks at both ends, and writes nothing.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Preflight`] with every problem that was found.
    pub async fn make(
        from: Endpoint<'_>,
        to: Endpoint<'_>,
        options: Options<'_>,
        tuning: &Tuning,
        progress: &dyn Progress,
    ) -> Result<Self, MigrateError> {
        let mut check = Check {
            from,
            to,
            options,
            tuning,
            problems: Vec::new(),
            ends: Ends::named(from, to, options.halves),
            found: Found::default(),
        };
        let plan = check.run().await;
        progress.on(Event::Ends(&check.ends));
        let plan = plan?;
        tell_both_halves(&mut check.problems);
        let foreign = plan.as_ref().map(|plan| &plan.foreign_versions[..]);
        let (foreign, problems) = (foreign.unwrap_or_default(), &check.problems);
        let checks = Preflight {
            ends: &check.ends,
            problems,
            found: &check.found,
            foreign_versions: foreign,
            mode: options.mode,
        };
        let checks = checks.list(to, tuning).await;
        match plan {
            Some(plan) if check.problems.is_empty() => Ok(Self {
                checks,
                blobs: check.found.blobs.unwrap_or_default(),
                source_is_served: check.found.source_is_served,
                to_is_absent: check.found.to_is_absent,
                room_for_rows: check.found.room_for_rows,
                left_out: check.found.left_out,
                ends: check.ends,
                ..plan
            }),
            _ => {
                progress.on(Event::Checked(&checks));
                Err(MigrateError::Preflight(check.problems))
            }
        }
    }

    /// Tells what was checked; a plan that could not be made has told it.
    pub fn tell_checks(&self, progress: &dyn Progress) {
        progress.on(Event::Checked(&self.checks));
        for (table, column) in &self.left_out {
            progress.on(Event::ColumnLeftOut { table, column });
        }
    }

    pub fn files(&self) -> Option<&Layout> {
        self.layouts.iter().find(|layout| layout.name == "files")
    }

    /// Where the source has its blobs, if a store could copy them by itself.
    pub fn origin(&self) -> Option<Origin> {
        let any = BlobRef {
            file_id: "any".to_owned(),
            upload_id: "any".to_owned(),
            content_type: String::new(),
            details: BackendDetails::default(),
        };
        self.from_data.as_ref()?.origin(&any)
    }
}

struct Check<'a> {
    from: Endpoint<'a>,
    to: Endpoint<'a>,
    options: Options<'a>,
    tuning: &'a Tuning,
    problems: Vec<Problem>,
    ends: Ends,
    found: Found,
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

impl Check<'_> {
    /// `None` if the source could not even be read.
    async fn run(&mut self) -> Result<Option<Plan>, MigrateError> {
        let halves = self.options.halves;
        let source = self.open_source().await;
        let target = self
            .open_target(source.as_ref().map(|(source, _)| source))
            .await;
        let from_data = match halves.has_data() {
            true => self.open_data().await,
            false => None,
        };
        self.check_places();
        let Some((source, versions)) = source else {
            return Ok(None);
        };
        // Not knowing it keeps no run from starting.
        self.found.source_is_served = Lock::is_served(self.from.metadata).await.unwrap_or(false);
        let layouts = metadata::migrated(source.layouts().await?);
        self.check_keys(&layouts);
        self.check_names(&layouts, target.as_ref()).await?;
        self.check_generated(&source, &layouts, target.as_ref())
            .await?;
        if let Some(target) = target.as_ref().filter(|_| halves.has_metadata()) {
            self.found.others_rows = others_rows(target, &source).await?;
            self.check_owner();
            self.found.goes_on = target.has_checkpoint_of(source.identity()).await?;
            self.found.in_parts = target.has_parts_of(source.identity()).await?;
        }
        if let Some(from_data) = &from_data {
            self.check_blobs(&source, &layouts, from_data.as_ref())
                .await?;
        }
        let to_keeps_keys = keeps_keys(self.to.data) && halves.has_data();
        let is_part = self.options.shard.is_some();
        if is_part && halves.has_metadata() && self.to.metadata.driver == Driver::Sqlite {
            self.problems.push(Problem::ShardOfFile);
        }
        if to_keeps_keys && is_part {
            self.problems.push(Problem::ShardWithKeys);
        } else if to_keeps_keys && !halves.has_metadata() {
            self.check_place_for_keys(target.as_ref()).await?;
        }
        self.check_space(&source, target.as_ref(), &layouts).await?;
        Ok(Some(Plan {
            lacks_counters: !layouts.iter().any(|layout| layout.name == "usage_stats"),
            foreign_versions: versions
                .into_iter()
                .filter(|version| !KNOWN_IDS.contains(&version.as_str()))
                .collect(),
            ends: Ends::default(),
            checks: Vec::new(),
            source,
            layouts,
            from_data,
            blobs: BlobTotals::default(),
            source_is_served: false,
            to_is_absent: false,
            room_for_rows: None,
            left_out: Vec::new(),
            to_keeps_keys,
            in_parts: self.found.in_parts,
            mode: match self.found.in_parts && !is_part {
                true => Mode::Sync { delete: true },
                false => self.options.mode,
            },
            needs_loader: (halves.has_metadata() && !is_part) || to_keeps_keys,
            needs_data: halves.has_data(),
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

    /// The source's blobs; the target is looked at too.
    async fn open_data(&mut self) -> Option<Arc<dyn DataBackend>> {
        let from = self.open_one(self.from, Access::ReadOnly).await;
        let from = from.map_err(|source| {
            self.problems.push(Problem::Data {
                side: Side::Source,
                source,
            });
        });
        let to = self.open_one(self.to, Access::Probe).await;
        match (to, &from) {
            (Ok(to), Ok(from)) => {
                self.found.to_is_absent = to.is_absent();
                self.check_aliases(from.as_ref(), to.as_ref()).await;
            }
            (Ok(_), Err(())) => {}
            (Err(source), _) => self.problems.push(Problem::Data {
                side: Side::Target,
                source,
            }),
        }
        from.ok()
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

    /// One bucket that is reached by two names of its server is found by what it holds: two hold
    /// nothing under the same names since the same moments. Who may not list finds out nothing.
    async fn check_aliases(&mut self, from: &dyn DataBackend, to: &dyn DataBackend) {
        let places = (Location::of(self.from.data), Location::of(self.to.data));
        let (Ok(here), Ok(there)) = places else {
            return;
        };
        if here.is_same(&there) || !here.may_be_same(&there) {
            return;
        }
        let (held, found) = tokio::join!(from.sample(), to.sample());
        let (Ok(held), Ok(found)) = (held, found) else {
            return;
        };
        // A living source may have got another between the two looks.
        let common = held.iter().filter(|blob| found.contains(blob)).count();
        if common * 2 > held.len() {
            self.problems.push(Problem::SamePlace {
                half: "data",
                place: format!("{here} by another name, {there}"),
                both: false,
            });
        }
    }

    /// A directory without any blob has another name, or its disk is not mounted: each blob would
    /// fail by itself. A bucket is not listed for that.
    async fn check_blobs(
        &mut self,
        source: &Snapshot,
        layouts: &[Layout],
        from: &dyn DataBackend,
    ) -> Result<(), MigrateError> {
        let is_directory = matches!(self.from.data, DataConfig::File(_));
        if !is_directory || !(from.is_absent() || is_empty(from).await) {
            return Ok(());
        }
        let Some(files) = layouts.iter().find(|layout| layout.name == "files") else {
            return Ok(());
        };
        let mut rows = BlobRows::with_blob(source, files).of_shard(self.options.shard);
        let mut promised = 0;
        while let Some(batch) = rows.next().await? {
            // The bytes of a removed file may be gone.
            let uploaded = batch
                .iter()
                .filter(|row| row.status == FileStatus::Uploaded);
            promised += uploaded.count() as u64;
        }
        if promised > 0 {
            self.problems.push(Problem::NoBlobs {
                place: from.to_string(),
                is_absent: from.is_absent(),
                promised,
            });
        }
        Ok(())
    }

    async fn open_one(
        &self,
        end: Endpoint<'_>,
        access: Access,
    ) -> Result<Arc<dyn DataBackend>, DataError> {
        data::open_with(end.data, access, self.tuning.clone()).await
    }

    fn check_keys(&mut self, layouts: &[Layout]) {
        if self.options.halves.has_metadata() {
            let keyless = layouts
                .iter()
                .filter(|layout| layout.primary_key.is_empty());
            self.problems
                .extend(keyless.map(|layout| Problem::NoPrimaryKey(layout.name.clone())));
        }
    }

    /// SQLite takes names for the same that differ by case only. Those of the target count too:
    /// what it lacks is added to what it has.
    async fn check_names(
        &mut self,
        layouts: &[Layout],
        target: Option<&Snapshot>,
    ) -> Result<(), MigrateError> {
        if !self.options.halves.has_metadata() || self.to.metadata.driver != Driver::Sqlite {
            return Ok(());
        }
        let there = match target {
            Some(target) => target.layouts().await?,
            None => Vec::new(),
        };
        self.problems.extend(names::same(layouts, &there));
        Ok(())
    }

    /// Values that a database makes cannot be written: they are there if the target makes them too.
    async fn check_generated(
        &mut self,
        source: &Snapshot,
        layouts: &[Layout],
        target: Option<&Snapshot>,
    ) -> Result<(), MigrateError> {
        if !self.options.halves.has_metadata() {
            return Ok(());
        }
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

    fn check_places(&mut self) {
        let places = (Location::of(self.from.data), Location::of(self.to.data));
        if let (true, (Ok(from), Ok(to))) = (self.options.halves.has_data(), places)
            && let Some(place) = shared_place(&from, &to)
        {
            self.problems.push(Problem::SamePlace {
                half: "data",
                place,
                both: false,
            });
        }
    }

    /// Keys of blobs go into rows of the target, which must be there already.
    async fn check_place_for_keys(
        &mut self,
        target: Option<&Snapshot>,
    ) -> Result<(), MigrateError> {
        let usable = match target {
            Some(target) => target
                .layouts()
                .await?
                .iter()
                .any(|layout| layout.name == "files"),
            None => false,
        };
        if !usable {
            self.problems.push(Problem::NoPlaceForKeys);
        }
        Ok(())
    }

    async fn check_space(
        &mut self,
        source: &Snapshot,
        target: Option<&Snapshot>,
        layouts: &[Layout],
    ) -> Result<(), MigrateError> {
        if !self.problems.is_empty() {
            return Ok(());
        }
        let mut needs = Vec::new();
        if self.options.halves.has_metadata() {
            let mut room = metadata_room(source, target, self.to.metadata).await?;
            room.needed_bytes = Rows::of_shard(self.options.shard).share_of(room.needed_bytes);
            self.found.room_for_rows = Some(room.clone());
            needs.push(Need {
                place: room.place,
                device: metadata::device(self.to.metadata),
                free: room.available_bytes,
                needed: room.needed_bytes,
            });
        }
        if self.options.halves.has_data() {
            let to = self.open_one(self.to, Access::Probe).await?;
            let free = to.available_bytes().await?;
            let totals = blob_totals(source, layouts, self.options.shard).await?;
            self.found.blobs = Some(totals);
            let rows: u64 = needs.iter().map(|need| need.needed).sum();
            let needed = match free.is_some_and(|free| free < totals.bytes.saturating_add(rows)) {
                // A run that is resumed has most of them there already.
                true => self.missing_bytes(source, layouts, to.as_ref()).await?,
                false => totals.bytes,
            };
            needs.push(Need {
                place: to.to_string(),
                device: data::device(self.to.data),
                free,
                needed,
            });
        }
        for need in added_up(needs) {
            self.check_free(need);
        }
        Ok(())
    }

    /// Bytes of the blobs that the target does not have in full.
    async fn missing_bytes(
        &self,
        source: &Snapshot,
        layouts: &[Layout],
        to: &dyn DataBackend,
    ) -> Result<u64, MigrateError> {
        let Some(files) = layouts.iter().find(|layout| layout.name == "files") else {
            return Ok(0);
        };
        let mut rows = BlobRows::with_blob(source, files).of_shard(self.options.shard);
        let mut bytes = 0;
        while let Some(batch) = rows.next().await? {
            for row in batch {
                let stat = to.stat(&row.blob()).await?;
                if stat.is_none_or(|stat| !row.may_have(stat.size_bytes)) {
                    bytes += row.announced_bytes();
                }
            }
        }
        Ok(bytes)
    }

    fn check_free(&mut self, need: Need) {
        let Need {
            place,
            free,
            needed,
            ..
        } = need;
        match free {
            // It does not tell.
            None => {}
            Some(free) if free < needed => self.problems.push(Problem::NoSpace {
                place,
                free,
                needed,
            }),
            Some(_) => self.found.roomy.push(place),
        }
    }
}

/// Whether there is no blob in it; one that cannot be listed may have some.
async fn is_empty(store: &dyn DataBackend) -> bool {
    let mut blobs = store.list();
    while let Some(batch) = blobs.next().await {
        if batch.map_or(true, |blobs| !blobs.is_empty()) {
            return false;
        }
    }
    true
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

/// What the rows of `source` take in the target, as it is now, if it exists.
async fn metadata_room(
    source: &Snapshot,
    target: Option<&Snapshot>,
    to: &MetadataConfig,
) -> Result<Room, MigrateError> {
    let needed = source.size_bytes().await? + SPARE_BYTES;
    let there = match is_grown(target).await? {
        true => metadata::file_size(to),
        // A new file is filled beside it, and takes its place only when it is whole.
        false => 0,
    };
    Ok(Room {
        place: metadata::name_of(to),
        needed_bytes: needed.saturating_sub(there),
        available_bytes: metadata::free_bytes(to),
    })
}

/// Whether rows are added to what `target` has; one without rows is loaded whole.
async fn is_grown(target: Option<&Snapshot>) -> Result<bool, MigrateError> {
    let Some(target) = target else {
        return Ok(false);
    };
    for layout in target.layouts().await? {
        let is_loaded = ["users", "tokens", "uploads", "files"].contains(&layout.name.as_str());
        if is_loaded && target.has_rows(&layout.name).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What both ends would write to, if they are not apart.
///
/// One inside the other counts: a server takes what lies in its directory for its own.
pub(super) fn shared_place(from: &Location, to: &Location) -> Option<String> {
    if from.is_same(to) {
        Some(from.to_string())
    } else if from.contains(to) {
        Some(format!("the target's {to} is inside the source's {from}"))
    } else if to.contains(from) {
        Some(format!("the source's {from} is inside the target's {to}"))
    } else {
        None
    }
}

pub(super) fn keeps_keys(config: &DataConfig) -> bool {
    matches!(config, DataConfig::S3(s3) if s3.sse == Sse::Customer)
}
