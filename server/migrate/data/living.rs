//! The rows of a server that goes on while its blobs are copied.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::config::MetadataConfig;
use crate::metadata::{Metadata, MetadataError, OpenMode};
use crate::migrate::blob::BlobRow;
use crate::model::FileStatus;

/// The rows of a server as they are now, not as the snapshot has them. Clones share what is opened.
#[derive(Clone)]
pub struct LivingRows {
    config: MetadataConfig,
    metadata: Arc<OnceCell<Metadata>>,
}

impl LivingRows {
    /// Opens nothing yet: most runs never ask.
    pub fn new(config: &MetadataConfig) -> Self {
        Self {
            config: config.clone(),
            metadata: Arc::default(),
        }
    }

    /// Whether the source has a file of that id with bytes.
    pub async fn promise_blob(&self, file_id: &str) -> Result<bool, MetadataError> {
        let file = self.metadata().await?.file(file_id).await?;
        Ok(file.is_some_and(|file| file.status.has_blob()))
    }

    /// Whether there is a file of that id, of whatever status.
    pub async fn has_file(&self, file_id: &str) -> Result<bool, MetadataError> {
        let file = self.metadata().await?.file(file_id).await?;
        Ok(file.is_some())
    }

    /// Whether a server removed the file since the snapshot was taken.
    pub async fn has_removed(&self, row: &BlobRow) -> Result<bool, MetadataError> {
        // A server never finds a file without id, which may well be there; nor one whose id is bytes.
        if row.status != FileStatus::Uploaded || row.file_id.is_empty() {
            return Ok(false);
        }
        let metadata = self.metadata().await?;
        match metadata.file(&row.file_id).await? {
            Some(file) => Ok(file.status != FileStatus::Uploaded),
            None => Ok(!metadata.has_file_of_bytes(&row.file_id).await?),
        }
    }

    async fn metadata(&self) -> Result<&Metadata, MetadataError> {
        let open = || Metadata::open(&self.config, OpenMode::ReadOnly);
        self.metadata.get_or_try_init(open).await
    }
}
