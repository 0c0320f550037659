//! Whether the target has room for what is to be written.

use super::Check;
use crate::config::MetadataConfig;
use crate::data::{self, Access, DataBackend, DataError};
use crate::metadata::{self, Layout, Rows, Snapshot};
use crate::migrate::data::{BlobRows, blob_totals};
use crate::migrate::error::{MigrateError, Problem};
use crate::migrate::outlook::Room;
use crate::migrate::space::{Need, added_up};

/// Room that a database needs besides its rows, for its log.
const SPARE_BYTES: u64 = 16 << 20;

impl Check<'_> {
    pub(super) async fn check_space(
        &mut self,
        source: &Snapshot,
        target: Option<&Snapshot>,
        layouts: &[Layout],
        from: Option<&dyn DataBackend>,
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
        if let Some(from) = from {
            let to = self.open_one(self.to, Access::Probe).await?;
            let free = to.available_bytes().await?;
            let totals = blob_totals(source, layouts, self.options.shard).await?;
            self.found.blobs = Some(totals);
            let rows: u64 = needs.iter().map(|need| need.needed).sum();
            let files = layouts.iter().find(|layout| layout.name == "files");
            let needed = match (free, files) {
                // A run that is resumed has most of them there already.
                (Some(free), Some(files)) if free < totals.bytes.saturating_add(rows) => {
                    let rows = BlobRows::with_blob(source, files).of_shard(self.options.shard);
                    missing_bytes(rows, from, to.as_ref(), free).await?
                }
                _ => totals.bytes,
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

/// Bytes of the blobs that `to`, which has room for `free`, does not have in full.
async fn missing_bytes(
    mut rows: BlobRows,
    from: &dyn DataBackend,
    to: &dyn DataBackend,
    free: u64,
) -> Result<u64, MigrateError> {
    let mut bytes = 0_u64;
    while let Some(batch) = rows.next().await? {
        for row in batch {
            let there = match to.stat(&row.blob()).await {
                // No blob can have that name, so none will be written.
                Err(DataError::InvalidId { .. }) => continue,
                there => there?,
            };
            if there.is_some_and(|stat| row.may_have(stat.size_bytes)) {
                continue;
            }
            bytes = bytes.saturating_add(match row.announced_bytes() {
                // Rather than a blob so large, the row is wrong, and will be named for it.
                announced if announced > free => {
                    match from.stat(&row.blob()).await {
                        Ok(found) => found.map_or(0, |stat| stat.size_bytes),
                        Err(error) if error.is_transient() => return Err(error.into()),
                        // What cannot be read is not copied, and will be named for it.
                        Err(_) => 0,
                    }
                }
                announced => announced,
            });
        }
    }
    Ok(bytes)
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
