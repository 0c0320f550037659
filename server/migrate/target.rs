//! The target, opened for writing.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use twox_hash::XxHash3_128;

use super::Endpoint;
use super::error::{MigrateError, Problem, Side};
use super::guard::Guard;
use super::plan::Plan;
use super::preflight::CheckItem;
use super::progress::{Event, Progress};
use crate::config::DataConfig;
use crate::data::{self, Access, DataBackend, DataError, Trial, Tuning};
use crate::metadata::{Loader, MetadataError};
use crate::model::Shard;

/// What a run writes to.
pub(super) struct Target {
    pub loader: Option<Loader>,
    pub data: Option<Arc<dyn DataBackend>>,
}

/// How it is opened.
pub(super) struct Opening<'a> {
    pub plan: &'a Plan,
    pub to: Endpoint<'a>,
    pub tuning: &'a Tuning,
    pub shard: Option<Shard>,
    /// Hears what a store turned out to be able to do, if anybody is to.
    pub progress: Option<&'a dyn Progress>,
    pub cancel: &'a CancellationToken,
    pub guard: &'a Guard,
}

impl Opening<'_> {
    /// Opens what the plan needs, creating what is missing, and tries out the bucket that blobs are
    /// to go to. One that cannot be written to ends the run before anything else is written.
    pub async fn open(&self) -> Result<Target, MigrateError> {
        // A directory is swept when it is opened, which may only be done once the database says
        // that nobody else uses it.
        let bucket = match (self.plan.needs_data, self.to.data) {
            (true, DataConfig::S3(_)) => Some(self.tried_bucket().await?),
            _ => None,
        };
        let loader = match self.plan.needs_loader {
            true => Some(self.loader().await?),
            false => None,
        };
        let data = match bucket {
            None if self.plan.needs_data => Some(self.data().await?),
            bucket => bucket,
        };
        Ok(Target { loader, data })
    }

    async fn loader(&self) -> Result<Loader, MigrateError> {
        let tell = |built| {
            if let Some(progress) = self.progress {
                progress.on(Event::Keys(built));
            }
        };
        let opened = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
            opened = Loader::open(self.to.metadata, &tell) => opened,
        };
        let loader = opened.map_err(|source| match source {
            // The checks have reached it, and it may have built keys for hours since.
            MetadataError::Unreachable { .. } | MetadataError::Standby { .. } => source.into(),
            source => MigrateError::Preflight(vec![Problem::Metadata {
                side: Side::Target,
                source,
            }]),
        })?;
        self.guard.watch(&loader);
        Ok(loader)
    }

    async fn data(&self) -> Result<Arc<dyn DataBackend>, MigrateError> {
        let opened = data::open_with(self.to.data, Access::Serve, self.tuning.clone()).await;
        opened.map_err(refused)
    }

    async fn tried_bucket(&self) -> Result<Arc<dyn DataBackend>, MigrateError> {
        let bucket = self.data().await?;
        let trial = Trial {
            id: self.run_id(),
            largest_bytes: self.plan.source.largest_blob().await?,
            origin: self.plan.origin(),
        };
        let tried = tokio::select! {
            biased;
            () = self.cancel.cancelled() => {
                bucket.close().await;
                return Err(MigrateError::Interrupted);
            }
            tried = bucket.try_out(trial) => tried,
        };
        match tried {
            Ok(features) => {
                for feature in features {
                    self.tell(&feature.into());
                }
                Ok(bucket)
            }
            Err(error) => {
                let problem = Problem::Data {
                    side: Side::Target,
                    source: error,
                };
                self.tell(&problem.as_check());
                Err(MigrateError::Preflight(vec![problem]))
            }
        }
    }

    /// The same for every run from this source with this part of the blobs.
    fn run_id(&self) -> String {
        let shard = self
            .shard
            .map_or_else(String::new, |shard| shard.to_string());
        let run = format!("{} {shard}", self.plan.source.identity());
        format!("{:032x}", XxHash3_128::oneshot(run.as_bytes()))
    }

    fn tell(&self, item: &CheckItem) {
        if let Some(progress) = self.progress {
            progress.on(Event::Checked(std::slice::from_ref(item)));
        }
    }
}

fn refused(source: DataError) -> MigrateError {
    MigrateError::Preflight(vec![Problem::Data {
        side: Side::Target,
        source,
    }])
}
