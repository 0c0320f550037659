//! What a run writes down of the blobs, in the target: which arrived, and what their rows must say.

use std::collections::{HashMap, HashSet};

use super::engine::Statement;
use super::loader::Loader;
use super::snapshot::Identity;
use super::value::{Row, Value};
use super::{Metadata, MetadataError};

/// Files asked about at once.
const IDS_PER_QUERY: usize = 500;

/// What became of a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobRecord {
    pub file_id: String,
    /// It is in the target, whole. If not, its row must stay out.
    pub arrived: bool,
    /// What the file's row must say in `backend_details`; `None` if what the source says holds.
    pub details: Option<String>,
    /// The MD5 that its bytes at `place` were proven to have, in hexadecimal digits. `None` if that
    /// is not known, or something was begun since that may have replaced them.
    pub md5: Option<String>,
    /// The directory or bucket.
    pub place: String,
}

/// What the target knows of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobState {
    /// What a run from the same source that was cut off, or could not copy it, wrote down.
    pub recorded: Option<BlobRecord>,
    /// `backend_details` of its row, else those that were recorded, if there are any.
    pub details: Option<String>,
    /// `md5` of its row, if there is one whose status promises a blob.
    pub md5: Option<String>,
}

/// Columns that the table of an earlier version lacks, with their types.
pub(super) const LATER_COLUMNS: [(&str, &str); 2] = [("md5", "text"), ("place", "text")];

/// Writes down that blobs are about to be replaced. Clones share the connection.
#[derive(Clone)]
pub struct BlobNotes {
    metadata: Metadata,
    source: String,
    place: String,
}

impl BlobNotes {
    /// From here on nothing that was written down proves what the bytes of these files are, and
    /// their rows stay out until they have arrived. On stable storage when this returns.
    pub async fn begin(&self, ids: &[&str]) -> Result<(), MetadataError> {
        const SQL: &str = "INSERT INTO plikd_migrate_blobs (source, file_id, arrived, place) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (source, file_id) DO UPDATE \
             SET arrived = excluded.arrived, md5 = NULL, place = excluded.place";
        let dialect = self.metadata.engine().dialect();
        let ids = ids.iter().filter(|id| dialect.holds(id));
        let statements = ids.map(|id| {
            let (source, place) = (self.source.as_str(), self.place.as_str());
            let values = [
                source.into(),
                (*id).into(),
                Value::Boolean(false),
                place.into(),
            ];
            Statement::new(SQL, values)
        });
        let engine = self.metadata.engine();
        let written = engine.write("note what is replaced", statements.collect());
        written.await.map(|_| ())
    }
}

impl Loader {
    /// Where blobs from `source` that are about to be replaced at `place` are written down. To be
    /// dropped before rows are loaded.
    pub fn blob_notes(&self, source: &Identity, place: &str) -> BlobNotes {
        BlobNotes {
            metadata: self.metadata.clone(),
            source: source.to_string(),
            place: place.to_owned(),
        }
    }

    /// Forgets what runs from other sources have proven of blobs: the one that begins may replace
    /// them.
    pub async fn forget_proofs_of_others(&self, source: &Identity) -> Result<(), MetadataError> {
        const SQL: &str = "UPDATE plikd_migrate_blobs SET md5 = NULL \
             WHERE source <> $1 AND md5 IS NOT NULL";
        let statement = Statement::new(SQL, [Value::Text(source.to_string())]);
        let engine = self.metadata.engine();
        let written = engine.write("forget what others proved", vec![statement]);
        written.await.map(|_| ())
    }

    /// The sources of which there are records of blobs.
    pub async fn sources_of_records(&self) -> Result<Vec<String>, MetadataError> {
        const SQL: &str = "SELECT DISTINCT source FROM plikd_migrate_blobs";
        let engine = self.metadata.engine();
        let rows = engine.query("read its records of blobs", SQL, []).await?;
        Ok(rows.iter().map(|row| row.text("source")).collect())
    }

    /// Which of the files `ids` any of `sources` has a record of.
    pub async fn recorded_of(
        &self,
        sources: &[String],
        ids: &[&str],
    ) -> Result<HashSet<String>, MetadataError> {
        const SQL: &str = "SELECT file_id FROM plikd_migrate_blobs WHERE source = $1 \
             AND file_id IN";
        let mut found = HashSet::new();
        for source in sources {
            for ids in ids.chunks(IDS_PER_QUERY) {
                let source = Value::from(source.as_str());
                let action = "read its records of blobs";
                let rows = self.query_ids(action, SQL, Some(source), ids).await?;
                found.extend(rows.iter().map(|row| row.text("file_id")));
            }
        }
        Ok(found)
    }

    /// Whether a record of a blob from `source` says anything that its file's row does not.
    pub async fn has_blob_notes(&self, source: &Identity) -> Result<bool, MetadataError> {
        const SQL: &str = "SELECT 1 AS note FROM plikd_migrate_blobs WHERE source = $1 \
             AND (NOT arrived OR backend_details IS NOT NULL) LIMIT 1";
        let params = [Value::Text(source.to_string())];
        let notes = self
            .metadata
            .engine()
            .query("read its records of blobs", SQL, params)
            .await?;
        Ok(!notes.is_empty())
    }

    /// Writes down what became of blobs, and corrects the rows that are there already.
    pub async fn record_blobs(
        &self,
        source: &Identity,
        records: &[BlobRecord],
    ) -> Result<(), MetadataError> {
        const RECORD: &str = "INSERT INTO plikd_migrate_blobs \
             (source, file_id, arrived, backend_details, md5, place) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (source, file_id) DO UPDATE \
             SET arrived = excluded.arrived, backend_details = excluded.backend_details, \
             md5 = excluded.md5, place = excluded.place";
        const CORRECT: &str = "UPDATE files SET backend_details = $1 WHERE id = $2";
        let dialect = self.metadata.engine().dialect();
        let mut statements = Vec::with_capacity(records.len());
        // A file that the target cannot have is none that a later run asks about.
        for record in records
            .iter()
            .filter(|record| dialect.holds(&record.file_id))
        {
            let details = record.details.clone().map_or(Value::Null, Value::Text);
            let id = Value::Text(record.file_id.clone());
            if record.details.is_some() {
                statements.push(Statement::new(CORRECT, [details.clone(), id.clone()]));
            }
            let source = Value::Text(source.to_string());
            let arrived = Value::Boolean(record.arrived);
            let md5 = record.md5.clone().map_or(Value::Null, Value::Text);
            let place = Value::Text(record.place.clone());
            let values = [source, id, arrived, details, md5, place];
            statements.push(Statement::new(RECORD, values));
        }
        self.metadata
            .engine()
            .write("record blobs", statements)
            .await
            .map(|_| ())
    }

    /// What became of the blobs of the files `ids`, as far as it was recorded, in no order.
    pub async fn blob_records(
        &self,
        source: &Identity,
        ids: &[&str],
    ) -> Result<Vec<BlobRecord>, MetadataError> {
        const SQL: &str = "SELECT file_id, arrived, backend_details, md5, place \
             FROM plikd_migrate_blobs WHERE source = $1 AND file_id IN";
        let mut records = Vec::new();
        for ids in ids.chunks(IDS_PER_QUERY) {
            let source = Value::Text(source.to_string());
            let rows = self
                .query_ids("read its records of blobs", SQL, Some(source), ids)
                .await?;
            records.extend(rows.iter().map(|row| BlobRecord {
                file_id: row.text("file_id"),
                arrived: row.boolean("arrived"),
                details: optional(row, "backend_details"),
                md5: optional(row, "md5"),
                place: optional(row, "place").unwrap_or_default(),
            }));
        }
        Ok(records)
    }

    /// What is known of the files `ids`, in their order.
    pub async fn blob_states(
        &self,
        source: &Identity,
        ids: &[&str],
    ) -> Result<Vec<BlobState>, MetadataError> {
        const SQL: &str = "SELECT id, status, md5, backend_details FROM files WHERE id IN";
        let mut known: HashMap<String, BlobState> = HashMap::new();
        for record in self.blob_records(source, ids).await? {
            let state = known.entry(record.file_id.clone()).or_default();
            state.details.clone_from(&record.details);
            state.recorded = Some(record);
        }
        for ids in ids.chunks(IDS_PER_QUERY) {
            for row in self.query_ids("read its files", SQL, None, ids).await? {
                let promised = matches!(row.text("status").as_str(), "uploaded" | "removed");
                let state = known.entry(row.text("id")).or_default();
                state.details = Some(row.text("backend_details"));
                state.md5 = promised.then(|| row.text("md5"));
            }
        }
        Ok(ids
            .iter()
            .map(|id| known.remove(*id).unwrap_or_default())
            .collect())
    }

    /// Runs a query that ends in `IN`, with the list of `ids` after its other parameter.
    async fn query_ids(
        &self,
        action: &'static str,
        sql: &str,
        parameter: Option<Value>,
        ids: &[&str],
    ) -> Result<Vec<Row>, MetadataError> {
        let dialect = self.metadata.engine().dialect();
        let ids: Vec<&str> = ids.iter().copied().filter(|id| dialect.holds(id)).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut params: Vec<Value> = parameter.into_iter().collect();
        let first = params.len() + 1;
        params.extend(ids.into_iter().map(Value::from));
        let list: Vec<String> = (first..=params.len())
            .map(|number| format!("${number}"))
            .collect();
        let sql = format!("{sql} ({})", list.join(", "));
        self.metadata.engine().query(action, sql, params).await
    }
}

fn optional(row: &Row, column: &str) -> Option<String> {
    match row.value(column) {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}
