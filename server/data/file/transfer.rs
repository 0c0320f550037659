//! Stores a blob that comes in parts.

use std::sync::Arc;

use super::Store;
use super::draft::DraftWriter;
use crate::data::name::BlobName;
use crate::data::transfer::PartReader;
use crate::data::{DataError, Transfer};

/// What is read and written at once: enough to keep a distant source busy.
const PART_BYTES: u64 = 8 << 20;

/// Stores all that `transfer` reads, and returns its size in bytes. Writing overlaps reading.
pub(super) async fn store(
    store: &Arc<Store>,
    name: &BlobName,
    transfer: Transfer,
) -> Result<u64, DataError> {
    let failed = |error| store.failed(&format!("write blob {}", name.id()), error);
    let mut parts = PartReader::new(name.id(), transfer, PART_BYTES)?;
    let mut writer = DraftWriter::new(Arc::clone(store), name.path());
    loop {
        let part = parts.next().await?;
        if part.last {
            let end = part.offset + part.bytes.len() as u64;
            writer.publish_after(part.bytes).await.map_err(failed)?;
            return Ok(end);
        }
        writer.append(part.bytes).await.map_err(failed)?;
    }
}
