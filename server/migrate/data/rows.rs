//! The files of the source, one batch after the other.

use crate::metadata::{Encoding, Layout, Order, Request, RowStream, Rows, Snapshot};
use crate::migrate::blob::BlobRow;
use crate::migrate::error::MigrateError;
use crate::migrate::shard::Shard;

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
        let is_asked_for = |row: &BlobRow| self.shard.is_none_or(|shard| shard.holds(&row.file_id));
        Ok(Some(rows.filter(is_asked_for).collect()))
    }
}
