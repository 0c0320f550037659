//! What the target's database tells of a blob before the run comes to it.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::blob::{BlobRow, md5_text, parse_md5};
use super::super::compare::Digests;
use super::super::error::MigrateError;
use crate::metadata::{BlobRecord, BlobState, Identity, Loader, Owned};
use crate::model::BackendDetails;

/// The files whose blobs a finished run has left proven, if the target still has all it left.
pub(in crate::migrate) struct Left {
    /// The files of both sides, before the run.
    files: Arc<Digests>,
    proven: Owned,
    /// Whoever has a record of a blob may have replaced it since.
    meddlers: Vec<String>,
}

impl Left {
    /// What the last finished run from `source` has left at `place`. `None` if there was none, or
    /// it was not about blobs.
    pub async fn find(
        loader: &Loader,
        source: &Identity,
        place: &str,
        files: Arc<Digests>,
    ) -> Result<Option<Self>, MigrateError> {
        let Some(proven) = loader.proven_digest(source, place).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            proven: files.to.rows_of(&proven),
            files,
            meddlers: loader.sources_of_records().await?,
        }))
    }

    /// Those of the files `rows` whose blobs are proven: their rows are the same on both sides and
    /// as they were left, and nothing was begun with their blobs since.
    pub async fn of(
        &self,
        loader: &Loader,
        rows: &[BlobRow],
    ) -> Result<HashSet<String>, MigrateError> {
        let ids = rows.iter().filter(|row| row.md5.is_some());
        let ids = ids.map(|row| row.file_id.as_str());
        let is_left = |id: &&str| self.files.are_same_around(id) && self.proven.holds_key(id);
        let ids: Vec<&str> = ids.filter(is_left).collect();
        let meddled = loader.recorded_of(&self.meddlers, &ids).await?;
        let ids = ids.into_iter().filter(|id| !meddled.contains(*id));
        Ok(ids.map(str::to_owned).collect())
    }
}

/// What is known of one blob.
pub(super) struct Past {
    state: BlobState,
    /// The MD5 that its bytes were proven to have, with nothing begun since that could have
    /// replaced them.
    proven: Option<[u8; 16]>,
}

impl Past {
    /// With `is_left` a finished run has proven that it is as its row says.
    pub fn new(state: BlobState, row: &BlobRow, is_left: bool, place: &str) -> Self {
        let record = state.recorded.as_ref();
        let record = record.filter(|record| record.arrived && record.place == place);
        let recorded = record.and_then(|record| parse_md5(record.md5.as_deref()?));
        Self {
            proven: if is_left { row.md5 } else { recorded },
            state,
        }
    }

    /// Whether the blob was proven to be as `row` says.
    pub fn proves(&self, row: &BlobRow) -> bool {
        self.proven.is_some() && self.proven == row.md5
    }

    /// What the target's row says, if it promises a blob.
    pub fn md5(&self) -> Option<[u8; 16]> {
        self.state.md5.as_deref().and_then(parse_md5)
    }

    pub fn details(&self) -> BackendDetails {
        BackendDetails::new(self.state.details.clone().unwrap_or_default())
    }

    /// Whether a record or a row of the target says anything of the blob's bytes that replacing
    /// them makes untrue.
    pub fn is_told(&self) -> bool {
        match &self.state.recorded {
            Some(record) => record.arrived,
            None => self.state.md5.is_some(),
        }
    }

    /// Whether the blob is sure to be replaced, as `row` says.
    pub fn is_outdated(&self, row: &BlobRow) -> bool {
        self.is_told() && !self.proves(row) && self.md5().is_some_and(|md5| Some(md5) != row.md5)
    }

    /// Its replacement was written down.
    pub fn forget(&mut self) {
        let record = self.state.recorded.get_or_insert_default();
        record.arrived = false;
        record.md5 = None;
        self.proven = None;
    }

    /// What to write down of a blob that was found as `row` says: nothing, if that is known.
    pub fn found(&self, row: &BlobRow, place: &str, was_asked: bool) -> Option<BlobRecord> {
        let recorded = self.state.recorded.as_ref();
        if self.proves(row) || (recorded.is_none() && !was_asked) {
            return None;
        }
        Some(BlobRecord {
            file_id: row.file_id.clone(),
            arrived: true,
            details: recorded.and_then(|record| record.details.clone()),
            md5: row.md5.map(md5_text),
            place: place.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "/srv/files";

    fn record(arrived: bool, md5: [u8; 16], place: &str) -> BlobState {
        BlobState {
            recorded: Some(BlobRecord {
                file_id: "id".into(),
                arrived,
                details: None,
                md5: Some(md5_text(md5)),
                place: place.into(),
            }),
            ..BlobState::default()
        }
    }

    fn row(md5: Option<[u8; 16]>) -> BlobRow {
        BlobRow::of_test("id", "upload", 5, md5)
    }

    #[test]
    fn a_record_proves_the_md5_and_the_place_that_it_names() {
        let proves = |state, md5| {
            let row = row(md5);
            Past::new(state, &row, false, PLACE).proves(&row)
        };
        assert!(proves(record(true, [1; 16], PLACE), Some([1; 16])));
        assert!(!proves(record(true, [1; 16], PLACE), Some([2; 16])));
        assert!(!proves(record(true, [1; 16], "/srv/other"), Some([1; 16])));
        assert!(!proves(record(false, [1; 16], PLACE), Some([1; 16])));
        assert!(!proves(record(true, [1; 16], PLACE), None));
        // A row of the target alone proves nothing.
        let in_row = BlobState {
            md5: Some(md5_text([1; 16])),
            ..BlobState::default()
        };
        assert!(!proves(in_row, Some([1; 16])));
    }

    #[test]
    fn what_is_to_be_replaced_is_told_of_once() {
        let row = row(Some([1; 16]));
        let mut past = Past::new(record(true, [1; 16], PLACE), &row, false, PLACE);
        assert!(past.is_told() && past.proves(&row));
        assert_eq!(past.found(&row, PLACE, true), None);
        past.forget();
        assert!(!past.is_told() && !past.proves(&row));
        let found = past.found(&row, PLACE, false).unwrap();
        assert_eq!((found.arrived, found.md5), (true, Some(md5_text([1; 16]))));
        let unknown = Past::new(BlobState::default(), &row, false, PLACE);
        assert!(!unknown.is_told());
        assert_eq!(unknown.found(&row, PLACE, false), None);
        assert!(unknown.found(&row, PLACE, true).is_some());
    }
}
