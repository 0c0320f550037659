//! Files and their status.

use super::dialect::Dialect;
use super::engine::{Expect, Statement};
use super::value::{Row, Value};
use super::{Metadata, MetadataError};
use super::{stats, uploads};
use crate::model::{BackendDetails, File, FileStatus, Timestamp};

pub(super) const COLUMNS: &[&str] = &[
    "id",
    "upload_id",
    "name",
    "status",
    "md5",
    "type",
    "size",
    "is_text",
    "reference",
    "backend_details",
    "created_at",
];

/// Locks the upload of a file before the file itself, in the order that every write keeps. A file
/// without an upload is its own.
const LOCK_UPLOAD: &str =
    "SELECT id FROM uploads WHERE id = (SELECT upload_id FROM files WHERE id = $1)";

/// Locks a file that the counters still count.
const LOCK_UPLOADED: &str = "SELECT id FROM files WHERE id = $1 AND status = 'uploaded'";

/// Rows of old releases hold `''` or NULL for `missing`.
const STATUS: &str = "COALESCE(NULLIF(status, ''), 'missing')";

impl Metadata {
    /// The files of an upload, oldest first.
    pub async fn files_of_upload(&self, upload_id: &str) -> Result<Vec<File>, MetadataError> {
        let sql = format!(
            "SELECT {} FROM files WHERE upload_id = $1 AND upload_id <> '' ORDER BY {}, id",
            self.0.file_columns,
            self.engine().dialect().time_key("created_at")
        );
        self.files("list the files of an upload", sql, [Value::from(upload_id)])
            .await
    }

    /// The file of that id, whatever its status. The empty id is nobody's.
    pub async fn file(&self, id: &str) -> Result<Option<File>, MetadataError> {
        let sql = format!(
            "SELECT {} FROM files WHERE id = $1 AND id <> ''",
            self.0.file_columns
        );
        let mut files = self.files("read a file", sql, [Value::from(id)]).await?;
        Ok(files.pop())
    }

    /// Whether there is a file whose id is stored as these bytes, not as a text: no server finds it.
    /// Only SQLite can hold one.
    pub async fn has_file_of_bytes(&self, id: &str) -> Result<bool, MetadataError> {
        const SQL: &str = "SELECT 1 AS file FROM files WHERE id = CAST($1 AS BLOB)";
        if self.engine().dialect() != Dialect::Sqlite {
            return Ok(false);
        }
        let rows = self.engine().query("read a file", SQL, [Value::from(id)]);
        Ok(!rows.await?.is_empty())
    }

    /// How many files an upload has, of any status.
    pub async fn count_files(&self, upload_id: &str) -> Result<u64, MetadataError> {
        const SQL: &str =
            "SELECT COUNT(*) AS files FROM files WHERE upload_id = $1 AND upload_id <> ''";
        let rows = self
            .engine()
            .query(
                "count the files of an upload",
                SQL,
                [Value::from(upload_id)],
            )
            .await?;
        let count = rows.first().map_or(0, |row| row.integer("files"));
        Ok(count.unsigned_abs())
    }

    /// Adds a file to its upload; `false` if that is not live.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Failed`] if the id is taken.
    pub async fn add_file(&self, file: &File) -> Result<bool, MetadataError> {
        let mut statements = vec![uploads::lock_live(&file.upload_id), insert(file)];
        if file.status == FileStatus::Uploaded {
            statements.extend(self.completed(&file.id));
        }
        let written = self.engine().write("add a file", statements).await?;
        Ok(written.is_done())
    }

    /// Moves a file from one status to another; `false` if it was not in the first, and then
    /// nothing has changed.
    pub async fn change_status(
        &self,
        id: &str,
        from: FileStatus,
        to: FileStatus,
    ) -> Result<bool, MetadataError> {
        let sql =
            format!("UPDATE files SET status = $3 WHERE id = $1 AND id <> '' AND {STATUS} = $2");
        let params = [
            Value::from(id),
            Value::from(from.as_str()),
            Value::from(to.as_str()),
        ];
        let mut statements = vec![Statement::lock(LOCK_UPLOAD, [Value::from(id)])];
        if from == FileStatus::Uploaded {
            let lock = Statement::lock(LOCK_UPLOADED, [Value::from(id)]);
            statements.push(lock.expecting(Expect::AtLeastOne));
            statements.extend(stats::file_leaves(id, Timestamp::now()));
        }
        statements.push(Statement::new(sql, params).expecting(Expect::AtLeastOne));
        if to == FileStatus::Uploaded {
            statements.extend(self.completed(id));
        }
        let written = self
            .engine()
            .write("change the status of a file", statements)
            .await?;
        Ok(written.is_done())
    }

    /// Ends the transfer of a file: it is uploaded, with this type, size, digest, details and
    /// kind. `false` if it was not uploading any more, and then nothing has changed.
    pub async fn complete_file(&self, file: &File) -> Result<bool, MetadataError> {
        const SQL: &str = "UPDATE files SET status = 'uploaded', type = $2, size = $3, md5 = $4, \
             backend_details = $5, is_text = $6 WHERE id = $1 AND id <> '' AND status = 'uploading'";
        let params = [
            Value::from(file.id.as_str()),
            Value::from(file.mime_type.as_str()),
            Value::from(file.size),
            Value::from(file.md5.as_str()),
            Value::from(file.backend_details.as_str()),
            Value::from(file.is_text),
        ];
        let mut statements = vec![
            Statement::lock(LOCK_UPLOAD, [Value::from(file.id.as_str())]),
            Statement::new(SQL, params).expecting(Expect::AtLeastOne),
        ];
        statements.extend(self.completed(&file.id));
        let written = self.engine().write("complete a file", statements).await?;
        Ok(written.is_done())
    }

    /// Up to `limit` files whose bytes are to be deleted, ascending by id from the first after
    /// `after`; fewer mean that there are no more.
    pub async fn removed_files(&self, after: &str, limit: u32) -> Result<Vec<File>, MetadataError> {
        let sql = format!(
            "SELECT {} FROM files WHERE status = 'removed' AND id > $1 ORDER BY id LIMIT $2",
            self.0.file_columns
        );
        let params = [Value::from(after), Value::from(limit)];
        self.files("list removed files", sql, params).await
    }

    /// Counts a file that is now uploaded.
    fn completed(&self, id: &str) -> Vec<Statement> {
        stats::file_completed(self.engine().dialect(), id, Timestamp::now())
    }

    async fn files(
        &self,
        action: &'static str,
        sql: String,
        params: impl Into<Vec<Value>>,
    ) -> Result<Vec<File>, MetadataError> {
        let rows = self.engine().query(action, sql, params).await?;
        Ok(rows.iter().map(from_row).collect())
    }
}

pub(super) fn insert(file: &File) -> Statement {
    const SQL: &str = "INSERT INTO files (id, upload_id, name, status, md5, type, size, is_text, \
         reference, backend_details, created_at, download_count) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0)";
    let text = |text: &String| Value::from(text.as_str());
    Statement::new(
        SQL,
        [
            text(&file.id),
            text(&file.upload_id),
            text(&file.name),
            Value::from(file.status.as_str()),
            text(&file.md5),
            text(&file.mime_type),
            Value::from(file.size),
            Value::from(file.is_text),
            text(&file.reference),
            Value::from(file.backend_details.as_str()),
            Value::from(file.created_at),
        ],
    )
}

fn from_row(row: &Row) -> File {
    File {
        id: row.text("id"),
        upload_id: row.text("upload_id"),
        name: row.text("name"),
        // A name that no release has written is served to nobody.
        status: FileStatus::parse(&row.text("status")).unwrap_or(FileStatus::Deleted),
        md5: row.text("md5"),
        mime_type: row.text("type"),
        size: row.integer("size"),
        is_text: row.boolean("is_text"),
        reference: row.text("reference"),
        backend_details: BackendDetails::new(row.text("backend_details")),
        created_at: row.time("created_at"),
    }
}
