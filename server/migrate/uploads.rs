//! The uploads in parts that a run has begun: written down in the target, so that a later try goes
//! on in them, and given up at last where nobody will.

use std::sync::Arc;

use async_trait::async_trait;

use super::blob::{md5_text, parse_md5};
use super::error::MigrateError;
use crate::data::{BoxError, DataBackend, SentPart, Unfinished, UploadJournal};
use crate::metadata::{PartRecord, UploadLog, UploadRecord};
use crate::model::BackendDetails;

/// The journal of the blob of one file.
pub(super) struct BlobJournal {
    log: UploadLog,
    file_id: String,
}

impl BlobJournal {
    pub fn shared(log: &UploadLog, file_id: &str) -> Arc<dyn UploadJournal> {
        Arc::new(Self {
            log: log.clone(),
            file_id: file_id.to_owned(),
        })
    }
}

#[async_trait]
impl UploadJournal for BlobJournal {
    async fn unfinished(&self) -> Result<Option<(Unfinished, Vec<SentPart>)>, BoxError> {
        let Some((upload, parts)) = self.log.find(&self.file_id).await? else {
            return Ok(None);
        };
        let parts = parts.into_iter().filter_map(|part| {
            Some(SentPart {
                number: part.number,
                e_tag: part.e_tag,
                size_bytes: part.size,
                md5: parse_md5(&part.md5)?,
            })
        });
        Ok(Some((unfinished(upload), parts.collect())))
    }

    async fn begin(&self, upload: &Unfinished) -> Result<(), BoxError> {
        let record = UploadRecord {
            source: self.log.source().to_owned(),
            file_id: self.file_id.clone(),
            key: upload.key.clone(),
            upload_id: upload.upload_id.clone(),
            part_size: upload.part_bytes,
            size: upload.size_bytes,
            details: upload.details.as_str().to_owned(),
        };
        Ok(self.log.begin(&record).await?)
    }

    async fn sent(&self, parts: &[SentPart]) -> Result<(), BoxError> {
        let record = |part: &SentPart| PartRecord {
            number: part.number,
            e_tag: part.e_tag.clone(),
            size: part.size_bytes,
            md5: md5_text(part.md5),
        };
        let records: Vec<_> = parts.iter().map(record).collect();
        Ok(self.log.add(&self.file_id, &records).await?)
    }

    async fn end(&self) -> Result<(), BoxError> {
        Ok(self.log.end(self.log.source(), &self.file_id).await?)
    }
}

fn unfinished(record: UploadRecord) -> Unfinished {
    Unfinished {
        key: record.key,
        upload_id: record.upload_id,
        part_bytes: record.part_size,
        size_bytes: record.size,
        details: BackendDetails::new(record.details),
    }
}

/// Ends what is left once every blob has been dealt with: uploads of blobs that were given up, or
/// of another source whose migration nobody resumes. What cannot be ended stays written down.
pub(super) async fn give_up_all(log: &UploadLog, to: &dyn DataBackend) -> Result<(), MigrateError> {
    for record in log.all().await? {
        let (source, file_id) = (record.source.clone(), record.file_id.clone());
        let upload = unfinished(record);
        match to.give_up(&upload).await {
            Ok(()) => log.end(&source, &file_id).await?,
            Err(error) => tracing::warn!(
                "unfinished upload {} of {} stays in {}: {}",
                upload.upload_id,
                upload.key,
                log.place(),
                super::error::explain(&error)
            ),
        }
    }
    Ok(())
}
