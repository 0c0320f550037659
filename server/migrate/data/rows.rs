//! The files of the source, one batch after the other.

use crate::metadata::{Encoding, Layout, Order, Request, RowStream, Rows, Snapshot};
use crate::migrate::blob::BlobRow;
use crate::migrate::error::MigrateError;
use crate::migrate::outlook::BlobTotals;
use crate::model::Shard;

/// The files of the source, in the order of their ids.
pub struct BlobRows {
    stream: RowStream,
    layout: Layout,
    encoding: Encoding,
    shard: Option<Shard>,
}

impl BlobRows {
    /// The files whose status says that there are bytes.
    pub fn with_blob(from: &Snapshot, files: &Layout) -> Self {
        Self::read(from, files, Rows::WithBlob)
    }

    /// Every file.
    pub fn all(from: &Snapshot, files: &Layout) -> Self {
        Self::read(from, files, Rows::All)
    }

    fn read(from: &Snapshot, files: &Layout, rows: Rows) -> Self {
        let layout = files.project(BlobRow::COLUMNS);
        // The values are read here and stay here, so they come exactly as they are stored.
        let encoding = from.encoding_for(from.driver());
        // A file whose row is rejected may be mended, and then wants its bytes.
        let stream = from.read_rejected_too(Request {
            layout: layout.clone(),
            encoding,
            to: from.driver(),
            after: None,
            rows,
            order: Order::Key,
        });
        Self {
            stream,
            layout,
            encoding,
            shard: None,
        }
    }

    /// Only those whose blob is in that part.
    pub fn of_shard(self, shard: Option<Shard>) -> Self {
        Self { shard, ..self }
    }

    /// A batch of them, which may be empty; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<BlobRow>>, MigrateError> {
        let Some(batch) = self.stream.next().await? else {
            return Ok(None);
        };
        let rows = batch.rows.iter();
        let rows = rows.map(|row| BlobRow::decode(row, &self.layout, self.encoding));
        let is_asked_for = |row: &BlobRow| {
            self.shard
                .is_none_or(|shard| shard.holds(row.file_id.as_bytes()))
        };
        Ok(Some(rows.filter(is_asked_for).collect()))
    }
}

/// What the rows of `source` say of its blobs, or of one part of them.
pub async fn blob_totals(
    source: &Snapshot,
    layouts: &[Layout],
    shard: Option<Shard>,
) -> Result<BlobTotals, MigrateError> {
    let Some(shard) = shard else {
        let (blobs, bytes) = source.blob_totals().await?;
        return Ok(BlobTotals { blobs, bytes });
    };
    let mut totals = BlobTotals::default();
    let Some(files) = layouts.iter().find(|layout| layout.name == "files") else {
        return Ok(totals);
    };
    let mut rows = BlobRows::with_blob(source, files).of_shard(Some(shard));
    while let Some(batch) = rows.next().await? {
        for row in batch {
            totals.blobs += 1;
            totals.bytes = totals.bytes.saturating_add(row.announced_bytes());
        }
    }
    Ok(totals)
}
