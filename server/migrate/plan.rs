//! What is checked before the first write, and what the two ends turned out to be.

use std::sync::Arc;

use super::check::{Check, Found, Source, keeps_keys};
use super::ends::Ends;
use super::error::{MigrateError, tell_both_halves};
use super::outlook::{BlobTotals, Room};
use super::preflight::{CheckItem, Preflight};
use super::progress::{Event, Progress};
use super::unfit::Unfit;
use super::{Endpoint, Mode, Options};
use crate::data::{BlobRef, DataBackend, Origin, Tuning};
use crate::metadata::schema::KNOWN_IDS;
use crate::metadata::{Layout, Snapshot};
use crate::model::BackendDetails;

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
    /// What the target cannot have of the source, and is left out on request.
    pub omitted: Vec<Unfit>,
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
        let mut check = Check::new(from, to, options, tuning);
        let source = check.run().await;
        progress.on(Event::Ends(&check.ends));
        let source = source?;
        tell_both_halves(&mut check.problems);
        let preflight = Preflight {
            ends: &check.ends,
            problems: &check.problems,
            found: &check.found,
            foreign_versions: &source.as_ref().map(foreign_versions).unwrap_or_default(),
            mode: options.mode,
        };
        let checks = preflight.list(to, tuning).await;
        match source {
            Some(source) if check.problems.is_empty() => {
                let halves = options.halves;
                let to_keeps_keys = keeps_keys(to.data) && halves.has_data();
                let Found {
                    source_is_served,
                    left_out,
                    omitted,
                    to_is_absent,
                    room_for_rows,
                    blobs,
                    in_parts,
                    ..
                } = check.found;
                let is_part = options.shard.is_some();
                Ok(Self {
                    foreign_versions: foreign_versions(&source),
                    lacks_counters: !source.has_table("usage_stats"),
                    source: source.snapshot,
                    layouts: source.layouts,
                    ends: check.ends,
                    checks,
                    left_out,
                    omitted,
                    from_data: source.data,
                    blobs: blobs.unwrap_or_default(),
                    source_is_served,
                    to_is_absent,
                    room_for_rows,
                    to_keeps_keys,
                    in_parts,
                    mode: match in_parts && !is_part {
                        true => Mode::Sync { delete: true },
                        false => options.mode,
                    },
                    needs_loader: (halves.has_metadata() && !is_part) || to_keeps_keys,
                    needs_data: halves.has_data(),
                })
            }
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
        for unfit in &self.omitted {
            progress.on(match unfit.omitted_column() {
                Some(column) => Event::ColumnLeftOut {
                    table: &unfit.table,
                    column,
                },
                None => Event::TableLeftOut(unfit),
            });
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

/// Schema versions of the source that this program does not know.
fn foreign_versions(source: &Source) -> Vec<String> {
    let versions = source.versions.iter();
    let foreign = versions.filter(|version| !KNOWN_IDS.contains(&version.as_str()));
    foreign.cloned().collect()
}
