//! What a place for blobs is set up to do with them, found out by reading only.

use futures::FutureExt;

use super::{Origin, Tuning, s3};
use crate::config::DataConfig;

/// One thing about a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    pub suitability: Suitability,
    pub detail: String,
    /// What the administrator can do, in one sentence.
    pub hint: Option<String>,
}

/// What that means for blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suitability {
    Good,
    /// Works, but may surprise.
    Doubtful,
    /// Cannot be told: the server does not know the question, or does not answer it to us.
    Unknown,
}

/// What a store is tried out for, see [`DataBackend::try_out`](super::DataBackend::try_out).
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// Letters and digits. What a trial that was killed has left is removed by the next of the same
    /// id.
    pub id: String,
    /// Of the largest blob that is to be stored.
    pub largest_bytes: u64,
    /// Of any blob that the store may be asked to copy by itself.
    pub origin: Option<Origin>,
}

impl Feature {
    pub(super) fn new(
        name: &'static str,
        suitability: Suitability,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            name,
            suitability,
            detail: detail.into(),
            hint: None,
        }
    }

    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// Asks an S3 server about its clock and about the bucket that `config` names: versions, object
/// lock, rules that delete, encryption. Nothing for a directory, and for a bucket that is absent.
pub async fn survey(config: &DataConfig, tuning: &Tuning) -> Vec<Feature> {
    match config {
        DataConfig::File(_) => Vec::new(),
        // Without its type, which is nested deeper than the compiler follows.
        DataConfig::S3(config) => s3::survey(config, tuning).boxed().await,
    }
}
