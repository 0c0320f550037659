//! What goes from the target because it is gone from the source: rows, children first, then blobs
//! that no row promises any more.
//!
//! A blob is written down before its row goes, so that a run that was cut off in between still
//! knows it.

use std::collections::HashSet;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::blob::BlobRow;
use super::compare::{Compared, Standing};
use super::data::LivingRows;
use super::error::MigrateError;
use super::metadata::{RowCopy, Table};
use super::progress::{Event, Progress};
use super::sync::BATCH_ROWS;
use crate::data::{BlobRef, DataBackend, DataError};
use crate::metadata::{
    Batch, Delete, DoomedBlob, Encoding, Identity, Layout, Loader, Owned, Rows, Snapshot, Tuple,
};
use crate::model::BackendDetails;

/// Blobs that are looked for in one listing of the target.
const SOUGHT_BLOBS: usize = 100_000;

/// Among which rows those are that only the target has, and which came from the source.
pub(super) struct Leftovers {
    pub rows: Rows,
    pub owned: Owned,
}

impl RowCopy<'_> {
    /// Removes the rows that only the target has, as far as they came from the source.
    pub(super) async fn delete_leftovers(
        &mut self,
        table: &Table,
        target: &Snapshot,
        leftovers: &Leftovers,
    ) -> Result<u64, MigrateError> {
        let comparison = self.comparison(table, target, leftovers.rows.clone());
        let mut merge = comparison.merge();
        let encoding = merge.encoding();
        let (mut keys, mut shown) = (Batch::default(), Vec::new());
        let (mut doomed, mut deleted) = (Vec::new(), 0);
        loop {
            let row = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
                row = merge.next() => row?,
            };
            let ended = row.is_none();
            if let Some(Ok(row)) = row
                && row.standing == Standing::Extra
                // The source has that row still, in a form that the target cannot hold.
                && !row.replaces_rejected()
                && leftovers.owned.holds(row.row())
            {
                keys.push_tuple(&row.key_bytes());
                shown.push(row.key());
                doomed.extend(self.promised_blob(&table.from, encoding, row.row()));
            }
            if ended || keys.len() >= BATCH_ROWS {
                // Should the run die between the two, the row still promises its blob, which stays.
                self.doom(std::mem::take(&mut doomed)).await?;
                let layout = &table.to.project(&table.to.key_names());
                let keys = &std::mem::take(&mut keys);
                let shown = std::mem::take(&mut shown);
                if !keys.is_empty() {
                    let delete = Delete {
                        layout,
                        keys,
                        encoding,
                    };
                    let gone = self.to.delete(delete).await?;
                    deleted += gone.len() as u64;
                    let table = &table.from.name;
                    for key in gone.into_iter().filter_map(|place| shown.get(place)) {
                        self.progress.on(Event::Deleted { table, key });
                    }
                }
            }
            if ended {
                return Ok(deleted);
            }
        }
    }

    /// The blob that the target's row of a file promises and the source's does not any more.
    pub(super) fn erased_blob(
        &self,
        layout: &Layout,
        encoding: Encoding,
        row: &Compared<'_>,
    ) -> Option<DoomedBlob> {
        let is_promised = self.promised_blob(layout, encoding, row.row()).is_some();
        let there = row.other().filter(|_| !is_promised)?;
        self.promised_blob(layout, encoding, there)
    }

    fn promised_blob(
        &self,
        layout: &Layout,
        encoding: Encoding,
        row: Tuple<'_>,
    ) -> Option<DoomedBlob> {
        let row = self
            .with_blobs
            .then(|| promised_blob(layout, encoding, row));
        row.flatten().map(|row| DoomedBlob {
            details: row.details.as_str().to_owned(),
            file_id: row.file_id,
            upload_id: row.upload_id,
        })
    }

    pub(super) async fn doom(&self, blobs: Vec<DoomedBlob>) -> Result<(), MigrateError> {
        if !blobs.is_empty() {
            let source = self.from.identity();
            self.to.doom(source, self.place_of_blobs, &blobs).await?;
        }
        Ok(())
    }
}

/// The row as that of a file, if it is one and promises a blob.
pub(super) fn promised_blob(
    layout: &Layout,
    encoding: Encoding,
    row: Tuple<'_>,
) -> Option<BlobRow> {
    let row = (layout.name == "files").then(|| BlobRow::decode(row, layout, encoding));
    row.filter(|row| row.status.has_blob())
}

/// Removes blobs from the target whose files are gone from the source.
pub(super) struct BlobRemoval<'a> {
    pub loader: &'a Loader,
    pub to: &'a dyn DataBackend,
    pub source: &'a Identity,
    /// The source as it is now.
    pub living: LivingRows,
    /// The target's directory or bucket, as messages name it.
    pub place: &'a str,
    pub progress: &'a dyn Progress,
    pub cancel: &'a CancellationToken,
}

impl BlobRemoval<'_> {
    /// Removes them, and gives their number. To be called when the rows are as the source's.
    pub async fn run(&self) -> Result<u64, MigrateError> {
        Ok(self.remove_doomed().await? + self.remove_unpromised().await?)
    }

    /// Those whose rows are gone from the target, or promise no bytes any more.
    async fn remove_doomed(&self) -> Result<u64, MigrateError> {
        let mut removed = 0;
        loop {
            let blobs = self.loader.doomed(self.source, self.place).await?;
            if blobs.is_empty() {
                return Ok(removed);
            }
            for blob in &blobs {
                let upload_id = Some(blob.upload_id.as_str());
                self.remove(&blob.file_id, upload_id, &blob.details).await?;
            }
            self.loader.forget_doomed(self.source, &blobs).await?;
            removed += blobs.len() as u64;
        }
    }

    /// Those that a run brought which was cut off, and that were gone from the source before the
    /// next: the target never had a row of them.
    async fn remove_unpromised(&self) -> Result<u64, MigrateError> {
        let (mut removed, mut cursor) = (0, String::new());
        loop {
            let sought = self.unpromised(&mut cursor).await?;
            if sought.is_empty() {
                return Ok(removed);
            }
            let mut listing = self.to.list();
            while let Some(listed) = listing.next().await {
                for blob in listed? {
                    if sought.contains(&blob.file_id) {
                        let upload_id = blob.upload_id.as_deref();
                        self.remove(&blob.file_id, upload_id, "").await?;
                        removed += 1;
                    }
                }
            }
        }
    }

    /// The next files behind `cursor` whose blobs were brought, and that have none in the source
    /// now. A file whose row was rejected still has.
    async fn unpromised(&self, cursor: &mut String) -> Result<HashSet<String>, MigrateError> {
        let mut sought = HashSet::new();
        while sought.len() < SOUGHT_BLOBS {
            let files = self.loader.unpromised(self.source, cursor).await?;
            let Some(last) = files.last() else { break };
            cursor.clone_from(last);
            for file_id in files {
                if !self.living.promise_blob(&file_id).await? {
                    sought.insert(file_id);
                }
            }
        }
        Ok(sought)
    }

    async fn remove(
        &self,
        file_id: &str,
        upload_id: Option<&str>,
        details: &str,
    ) -> Result<(), MigrateError> {
        if self.cancel.is_cancelled() {
            return Err(MigrateError::Interrupted);
        }
        let blob = BlobRef {
            file_id: file_id.to_owned(),
            // A directory names its blobs by the file alone.
            upload_id: upload_id.unwrap_or(file_id).to_owned(),
            content_type: String::new(),
            details: BackendDetails::new(details.to_owned()),
        };
        match self.to.remove(&blob).await {
            // No blob has ever had that name.
            Err(DataError::InvalidId { .. }) => return Ok(()),
            removed => removed?,
        }
        self.progress.on(Event::BlobDeleted { file_id, upload_id });
        Ok(())
    }
}
