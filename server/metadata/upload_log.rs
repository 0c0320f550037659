//! Uploads in parts that a migration has begun, in the target's bookkeeping.

use super::engine::Statement;
use super::snapshot::Identity;
use super::value::{Row, Value};
use super::{Metadata, MetadataError};

/// Their tables, in the SQL of both engines.
pub(super) const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS plikd_migrate_uploads (place text NOT NULL, \
     source text NOT NULL, file_id text NOT NULL, object_key text NOT NULL, \
     upload_id text NOT NULL, part_size bigint NOT NULL, size bigint NOT NULL, \
     backend_details text NOT NULL, PRIMARY KEY (place, source, file_id))",
    "CREATE TABLE IF NOT EXISTS plikd_migrate_parts (place text NOT NULL, \
     source text NOT NULL, file_id text NOT NULL, number bigint NOT NULL, e_tag text NOT NULL, \
     size bigint NOT NULL, md5 text NOT NULL, PRIMARY KEY (place, source, file_id, number))",
];

/// An upload that is neither complete nor given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRecord {
    /// The source and the file whose blob it is.
    pub source: String,
    pub file_id: String,
    pub key: String,
    pub upload_id: String,
    /// In bytes.
    pub part_size: u64,
    /// In bytes, of the whole blob.
    pub size: u64,
    pub details: String,
}

/// A part that the place has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRecord {
    pub number: i32,
    pub e_tag: String,
    /// In bytes.
    pub size: u64,
    /// In hexadecimal digits.
    pub md5: String,
}

/// Reads and writes the uploads from one source to one place. Clones share the connection.
#[derive(Clone)]
pub struct UploadLog {
    metadata: Metadata,
    source: String,
    place: String,
}

impl UploadLog {
    pub(super) fn new(metadata: &Metadata, source: &Identity, place: &str) -> Self {
        Self {
            metadata: metadata.clone(),
            source: source.to_string(),
            place: place.to_owned(),
        }
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    /// The upload of the blob of `file_id`, and its parts.
    pub async fn find(
        &self,
        file_id: &str,
    ) -> Result<Option<(UploadRecord, Vec<PartRecord>)>, MetadataError> {
        const UPLOAD: &str = "SELECT source, file_id, object_key, upload_id, part_size, size, \
             backend_details FROM plikd_migrate_uploads \
             WHERE place = $1 AND source = $2 AND file_id = $3";
        const PARTS: &str = "SELECT number, e_tag, size, md5 FROM plikd_migrate_parts \
             WHERE place = $1 AND source = $2 AND file_id = $3";
        const ACTION: &str = "read its unfinished uploads";
        let engine = self.metadata.engine();
        let found = engine
            .query(ACTION, UPLOAD, self.of(&self.source, file_id))
            .await?;
        let Some(upload) = found.first().map(upload_of) else {
            return Ok(None);
        };
        let parts = engine
            .query(ACTION, PARTS, self.of(&self.source, file_id))
            .await?;
        Ok(Some((upload, parts.iter().map(part_of).collect())))
    }

    /// Every upload to the place that is written down, of any source.
    pub async fn all(&self) -> Result<Vec<UploadRecord>, MetadataError> {
        const SQL: &str = "SELECT source, file_id, object_key, upload_id, part_size, size, \
             backend_details FROM plikd_migrate_uploads WHERE place = $1";
        let engine = self.metadata.engine();
        let place = [Value::Text(self.place.clone())];
        let found = engine.query("read its unfinished uploads", SQL, place);
        let found = found.await?;
        Ok(found.iter().map(upload_of).collect())
    }

    /// Writes `upload` down, in place of what was written about its file.
    pub async fn begin(&self, upload: &UploadRecord) -> Result<(), MetadataError> {
        const SQL: &str = "INSERT INTO plikd_migrate_uploads (place, source, file_id, object_key, \
             upload_id, part_size, size, backend_details) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let mut statements = self.forget(&upload.source, &upload.file_id);
        let values = [
            Value::Text(self.place.clone()),
            Value::Text(upload.source.clone()),
            Value::Text(upload.file_id.clone()),
            Value::Text(upload.key.clone()),
            Value::Text(upload.upload_id.clone()),
            number(upload.part_size),
            number(upload.size),
            Value::Text(upload.details.clone()),
        ];
        statements.push(Statement::new(SQL, values));
        self.write("record an upload", statements).await
    }

    /// Writes down that `parts` of the upload of `file_id` are there.
    pub async fn add(&self, file_id: &str, parts: &[PartRecord]) -> Result<(), MetadataError> {
        const SQL: &str = "INSERT INTO plikd_migrate_parts (place, source, file_id, number, e_tag, \
             size, md5) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (place, source, file_id, number) DO UPDATE SET e_tag = excluded.e_tag, size = excluded.size, md5 = excluded.md5";
        let statements = parts.iter().map(|part| {
            let values = [
                Value::Text(self.place.clone()),
                Value::Text(self.source.clone()),
                file_id.into(),
                Value::Integer(i64::from(part.number)),
                Value::Text(part.e_tag.clone()),
                number(part.size),
                Value::Text(part.md5.clone()),
            ];
            Statement::new(SQL, values)
        });
        self.write("record parts of an upload", statements.collect())
            .await
    }

    /// Forgets the upload of `file_id` from `source`.
    pub async fn end(&self, source: &str, file_id: &str) -> Result<(), MetadataError> {
        self.write("forget an upload", self.forget(source, file_id))
            .await
    }

    fn forget(&self, source: &str, file_id: &str) -> Vec<Statement> {
        const UPLOAD: &str = "DELETE FROM plikd_migrate_uploads \
             WHERE place = $1 AND source = $2 AND file_id = $3";
        const PARTS: &str = "DELETE FROM plikd_migrate_parts \
             WHERE place = $1 AND source = $2 AND file_id = $3";
        [UPLOAD, PARTS]
            .map(|sql| Statement::new(sql, self.of(source, file_id)))
            .into()
    }

    fn of(&self, source: &str, file_id: &str) -> [Value; 3] {
        let place = Value::Text(self.place.clone());
        [place, source.into(), file_id.into()]
    }

    async fn write(
        &self,
        action: &'static str,
        statements: Vec<Statement>,
    ) -> Result<(), MetadataError> {
        let written = self.metadata.engine().write(action, statements).await;
        written.map(|_| ())
    }
}

fn upload_of(row: &Row) -> UploadRecord {
    UploadRecord {
        source: row.text("source"),
        file_id: row.text("file_id"),
        key: row.text("object_key"),
        upload_id: row.text("upload_id"),
        part_size: row.integer("part_size").unsigned_abs(),
        size: row.integer("size").unsigned_abs(),
        details: row.text("backend_details"),
    }
}

fn part_of(row: &Row) -> PartRecord {
    PartRecord {
        number: i32::try_from(row.integer("number")).unwrap_or_default(),
        e_tag: row.text("e_tag"),
        size: row.integer("size").unsigned_abs(),
        md5: row.text("md5"),
    }
}

fn number(bytes: u64) -> Value {
    Value::Integer(i64::try_from(bytes).unwrap_or(i64::MAX))
}
