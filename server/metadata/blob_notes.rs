//! What a run writes down of the blobs, in the target: which arrived, and what their rows must say.

use std::collections::HashMap;

use super::MetadataError;
use super::engine::Statement;
use super::loader::Loader;
use super::snapshot::Identity;
use super::value::{Row, Value};

/// Files asked about at once.
const IDS_PER_QUERY: usize = 500;

/// What became of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRecord {
    pub file_id: String,
    /// It is in the target, whole. If not, its row must stay out.
    pub arrived: bool,
    /// What the file's row must say in `backend_details`; `None` if what the source says holds.
    pub details: Option<String>,
}

/// What the target knows of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobState {
    /// Its blob arrived in this run, or in one that was cut off.
    pub recorded: bool,
    /// A run that was cut off could not copy it.
    pub failed: bool,
    /// `backend_details` of its row, else those that were recorded, if there are any.
    pub details: Option<String>,
    /// `md5` of its row, if there is one whose status promises a blob.
    pub md5: Option<String>,
}

impl Loader {
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
             (source, file_id, arrived, backend_details) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (source, file_id) DO UPDATE \
             SET arrived = excluded.arrived, backend_details = excluded.backend_details";
        const CORRECT: &str = "UPDATE files SET backend_details = $1 WHERE id = $2";
        let mut statements = Vec::with_capacity(records.len());
        for record in records {
            let details = record.details.clone().map_or(Value::Null, Value::Text);
            let id = Value::Text(record.file_id.clone());
            if record.details.is_some() {
                statements.push(Statement::new(CORRECT, [details.clone(), id.clone()]));
            }
            let source = Value::Text(source.to_string());
            let arrived = Value::Boolean(record.arrived);
            statements.push(Statement::new(RECORD, [source, id, arrived, details]));
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
        const SQL: &str = "SELECT file_id, arrived, backend_details FROM plikd_migrate_blobs \
             WHERE source = $1 AND file_id IN";
        let mut records = Vec::new();
        for ids in ids.chunks(IDS_PER_QUERY) {
            let source = Value::Text(source.to_string());
            let rows = self
                .query_ids("read its records of blobs", SQL, Some(source), ids)
                .await?;
            records.extend(rows.iter().map(|row| BlobRecord {
                file_id: row.text("file_id"),
                arrived: row.boolean("arrived"),
                details: match row.value("backend_details") {
                    Value::Text(text) => Some(text.clone()),
                    _ => None,
                },
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
            let state = known.entry(record.file_id).or_default();
            state.recorded = record.arrived;
            state.failed = !record.arrived;
            state.details = record.details;
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
        let mut params: Vec<Value> = parameter.into_iter().collect();
        let first = params.len() + 1;
        params.extend(ids.iter().map(|id| Value::from(*id)));
        let list: Vec<String> = (first..=params.len())
            .map(|number| format!("${number}"))
            .collect();
        let sql = format!("{sql} ({})", list.join(", "));
        self.metadata.engine().query(action, sql, params).await
    }
}
