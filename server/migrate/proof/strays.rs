//! Blobs of the target that no row names.

use std::sync::Arc;

use futures::StreamExt;

use super::LOOKED_AT_AGAIN;
use super::report::{SHOWN, StrayBlob, StrayBlobs};
use crate::data::DataBackend;
use crate::migrate::data::LivingRows;
use crate::migrate::error::MigrateError;
use crate::migrate::known::Known;
use crate::migrate::progress::{Event, Progress};

/// Looks for them once every row has named its blob.
pub(super) struct StrayCheck<'a> {
    pub to: &'a Arc<dyn DataBackend>,
    /// The rows that name the target's blobs, as they are now.
    pub rows: &'a LivingRows,
    pub progress: &'a dyn Progress,
}

impl StrayCheck<'_> {
    /// `None` if the store was not listed to its end.
    pub async fn run(&self, named: &Known) -> Result<Option<StrayBlobs>, MigrateError> {
        let Some(unnamed) = named.unnamed() else {
            return Ok(None);
        };
        let mut strays = StrayBlobs::default();
        if unnamed == 0 {
            return Ok(Some(strays));
        }
        // Of names only hashes were kept.
        let mut listing = self.to.list();
        let mut asked = 0;
        while let Some(batch) = listing.next().await {
            for blob in batch?.iter().filter(|blob| named.is_unnamed(blob)) {
                // What has come since the rows were read is a server at work; so many are not.
                if asked < LOOKED_AT_AGAIN {
                    asked += 1;
                    if self.rows.has_file(&blob.file_id).await? {
                        continue;
                    }
                }
                let stray = StrayBlob {
                    file_id: blob.file_id.clone(),
                    upload_id: blob.upload_id.clone(),
                    size_bytes: blob.stat.size_bytes,
                };
                strays.blobs += 1;
                strays.bytes += stray.size_bytes;
                self.progress.on(Event::Stray(&stray));
                if strays.shown.len() < SHOWN {
                    strays.shown.push(stray);
                }
            }
        }
        Ok(Some(strays))
    }
}
