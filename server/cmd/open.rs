//! The two backends, opened for a command that serves or changes them.

use std::sync::Arc;

use super::exit::Failure;
use crate::config::Config;
use crate::data::{self, DataBackend};
use crate::metadata::{Metadata, OpenMode};

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
