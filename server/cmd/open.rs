//! The two backends, opened for a command that serves or changes them.

use std::sync::Arc;

use super::exit::{Exit, Failure};
use crate::config::Config;
use crate::data::{self, DataBackend, DataError};
use crate::metadata::{Metadata, MetadataError, OpenMode};

/// The metadata, created or brought to this version if need be.
pub async fn metadata(config: &Config) -> Result<Metadata, Failure> {
    Metadata::open(&config.metadata, OpenMode::Serve)
        .await
        .map_err(|error| Failure::from(error).context("unable to initialize metadata backend"))
}

/// The blobs; what a crash left half written is swept.
pub async fn data(config: &Config) -> Result<Arc<dyn DataBackend>, Failure> {
    data::open(&config.data, data::Access::Serve)
        .await
        .map_err(|error| Failure::from(error).context("unable to initialize data backend"))
}

impl From<MetadataError> for Failure {
    fn from(error: MetadataError) -> Self {
        let exit = match &error {
            MetadataError::NotInitialised { .. } | MetadataError::Layout { .. } => {
                Exit::NotInitialised
            }
            MetadataError::Newer { .. } => Exit::Newer,
            MetadataError::Unreachable { .. } | MetadataError::Denied { .. } => Exit::Unreachable,
            MetadataError::InUse { .. } | MetadataError::Busy { .. } => Exit::InUse,
            MetadataError::Config(_) => Exit::Usage,
            _ => Exit::Failed,
        };
        let hint = error.hint();
        Self::new(exit, error).with_hint(hint)
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        let exit = match &error {
            DataError::Unreachable { .. } | DataError::Denied { .. } => Exit::Unreachable,
            DataError::Config(_) => Exit::Usage,
            _ => Exit::Failed,
        };
        let hint = error.hint();
        Self::new(exit, error).with_hint(hint)
    }
}
