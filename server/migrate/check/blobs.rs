//! The blobs of both ends, and their places.

use std::sync::Arc;

use futures::StreamExt;

use super::Check;
use crate::config::{DataConfig, Sse};
use crate::data::{self, Access, DataBackend, DataError, Location};
use crate::metadata::{Layout, Snapshot};
use crate::migrate::Endpoint;
use crate::migrate::data::BlobRows;
use crate::migrate::error::{MigrateError, Problem, Side};
use crate::model::FileStatus;

impl Check<'_> {
    /// The source's blobs; the target is looked at too.
    pub(super) async fn open_data(&mut self) -> Option<Arc<dyn DataBackend>> {
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
    pub(super) async fn check_blobs(
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

    pub(super) async fn open_one(
        &self,
        end: Endpoint<'_>,
        access: Access,
    ) -> Result<Arc<dyn DataBackend>, DataError> {
        data::open_with(end.data, access, self.tuning.clone()).await
    }

    pub(super) fn check_places(&mut self) {
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

    /// Keys of blobs go into rows of the target, which must be there already, or come with them.
    pub(super) async fn check_keys_of_blobs(
        &mut self,
        target: Option<&Snapshot>,
    ) -> Result<(), MigrateError> {
        let halves = self.options.halves;
        if !keeps_keys(self.to.data) || !halves.has_data() {
            return Ok(());
        }
        if self.options.shard.is_some() {
            self.problems.push(Problem::ShardWithKeys);
        } else if !halves.has_metadata() && !has_files(target).await? {
            self.problems.push(Problem::NoPlaceForKeys);
        }
        Ok(())
    }
}

async fn has_files(target: Option<&Snapshot>) -> Result<bool, MigrateError> {
    let layouts = match target {
        Some(target) => target.layouts().await?,
        None => Vec::new(),
    };
    Ok(layouts.iter().any(|layout| layout.name == "files"))
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

/// What both ends would write to, if they are not apart.
///
/// One inside the other counts: a server takes what lies in its directory for its own.
pub(in crate::migrate) fn shared_place(from: &Location, to: &Location) -> Option<String> {
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

pub(in crate::migrate) fn keeps_keys(config: &DataConfig) -> bool {
    matches!(config, DataConfig::S3(s3) if s3.sse == Sse::Customer)
}
