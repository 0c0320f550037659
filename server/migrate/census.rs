//! What became of each file: its row and its blob are one truth.

use std::collections::HashSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::blob::BlobRow;
use super::compare::{Comparison, Merge, Standing};
use super::data::LivingRows;
use super::error::MigrateError;
use super::limits::Limiter;
use super::metadata::not_compared;
use super::report::{BlobReport, FileStates, Report};
use crate::config::MetadataConfig;
use crate::metadata::{Layout, Loader, Rows, Snapshot, Tuple};
use crate::model::FileStatus;

/// Files whose blobs are asked for together.
const FILES_AT_ONCE: usize = 1000;

/// Counts the files of the source after rows and blobs were copied and the rows were compared.
pub(super) struct Census<'a> {
    pub source: &'a Snapshot,
    /// As the source has it.
    pub files: &'a Layout,
    pub to: &'a MetadataConfig,
    /// Knows which blobs arrived.
    pub loader: &'a Loader,
    pub source_now: LivingRows,
    pub limiter: &'a Arc<Limiter>,
    pub cancel: &'a CancellationToken,
}

/// How the row of a file stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowState {
    Equal,
    Conflict,
    Rejected,
}

impl Census<'_> {
    /// `None` if the rows were not compared.
    ///
    /// Where all went well the numbers of `report` say it all; otherwise both sides' files are
    /// read once more.
    pub async fn take(&self, report: &Report) -> Result<Option<FileStates>, MigrateError> {
        let table = report.tables.iter().find(|table| table.table == "files");
        let (Some(blobs), Some(table)) = (report.blobs, table) else {
            return Ok(None);
        };
        let Some(proof) = &table.proof else {
            return Ok(None);
        };
        let all = self.source.count(&self.files.name).await?;
        let is_equal = proof.source == proof.target && proof.rejected == 0;
        if is_equal && proof.source.rows == all && blobs.failed == 0 {
            return Ok(Some(without_trouble(all, &blobs)));
        }
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(MigrateError::Interrupted),
            states = self.count(all) => states.map(Some),
        }
    }

    async fn count(&self, all: u64) -> Result<FileStates, MigrateError> {
        let target = Snapshot::open(self.to).await?;
        let layouts = target.layouts().await?;
        let there = layouts.iter().find(|layout| layout.name == self.files.name);
        let comparison = Comparison {
            from: self.source,
            driver: target.driver(),
            to: there.map(|there| (&target, there)),
            layout: self.files,
            not_compared: not_compared(self.files, true),
            rows: Rows::All,
            limiter: self.limiter,
        };
        let mut merge = comparison.merge();
        let mut states = FileStates::default();
        loop {
            let files = self.next_files(&mut merge).await?;
            if files.is_empty() {
                break;
            }
            let promised: Vec<&str> = files
                .iter()
                .filter(|(file, _)| file.status.has_blob())
                .map(|(file, _)| file.file_id.as_str())
                .collect();
            let source = self.source.identity();
            let records = self.loader.blob_records(source, &promised).await?;
            let absent: HashSet<&str> = records
                .iter()
                .filter(|record| !record.arrived)
                .map(|record| record.file_id.as_str())
                .collect();
            for (file, row) in &files {
                let is_absent = absent.contains(file.file_id.as_str());
                *self.state_of(file, *row, is_absent, &mut states).await? += 1;
            }
        }
        // What the rules leave out is not read at all.
        states.left_out = all.saturating_sub(states.files());
        Ok(states)
    }

    /// The next files of the source, each with how its row stands; none behind the last one.
    async fn next_files(
        &self,
        merge: &mut Merge,
    ) -> Result<Vec<(BlobRow, RowState)>, MigrateError> {
        let (layout, encoding) = (merge.layout().clone(), merge.encoding());
        let mut files = Vec::with_capacity(FILES_AT_ONCE);
        while files.len() < FILES_AT_ONCE {
            let Some(row) = merge.next().await? else {
                break;
            };
            files.push(match row {
                Ok(row) => {
                    let state = match row.standing {
                        Standing::Equal => RowState::Equal,
                        Standing::Different => RowState::Conflict,
                        Standing::Missing => RowState::Rejected,
                        Standing::Extra => continue,
                    };
                    (BlobRow::decode(row.row(), &layout, encoding), state)
                }
                Err(reject) => {
                    let row = Tuple::new(&reject.row.tuple);
                    let file = BlobRow::decode(row, &layout, reject.row.encoding);
                    (file, RowState::Rejected)
                }
            });
        }
        Ok(files)
    }

    /// The counter of the one state of a file. `is_absent`: its blob is known not to have arrived.
    async fn state_of<'s>(
        &self,
        file: &BlobRow,
        row: RowState,
        is_absent: bool,
        states: &'s mut FileStates,
    ) -> Result<&'s mut u64, MigrateError> {
        if is_absent && file.status == FileStatus::Uploaded {
            return Ok(match self.source_now.has_removed(file).await? {
                true => &mut states.gone,
                false => &mut states.blob_failed,
            });
        }
        Ok(match row {
            RowState::Conflict => &mut states.conflict,
            RowState::Rejected => &mut states.rejected,
            RowState::Equal if is_absent => &mut states.gone,
            RowState::Equal if file.status.has_blob() => &mut states.equal,
            RowState::Equal => &mut states.no_blob,
        })
    }
}

/// Every row is in the target, and every blob that is not gone.
fn without_trouble(files: u64, blobs: &BlobReport) -> FileStates {
    let arrived = blobs.copied + blobs.present;
    FileStates {
        equal: arrived,
        gone: blobs.skipped,
        no_blob: files.saturating_sub(arrived + blobs.skipped),
        ..FileStates::default()
    }
}
