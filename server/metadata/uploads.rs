//! Uploads.

use super::engine::{Expect, Statement};
use super::files;
use super::stats;
use super::value::{Row, Value};
use super::{Metadata, MetadataError};
use crate::model::{File, FileStatus, Timestamp, Upload};

pub(super) const COLUMNS: &[&str] = &[
    "id",
    "ttl",
    "extend_ttl",
    "remote_ip",
    "comments",
    "e2ee",
    "upload_token",
    "user",
    "token",
    "stream",
    "one_shot",
    "removable",
    "protected_by_password",
    "login",
    "password",
    "created_at",
    "expire_at",
];

/// The first statement of every write about an upload: everyone who changes its files or counters
/// waits here for the others.
const LOCK_LIVE: &str = "SELECT id FROM uploads WHERE id = $1 AND id <> '' AND deleted_at IS NULL";

/// Takes the files of an upload out of service: what may have bytes is to be removed, the rest is
/// gone. Rows of old releases hold `''` or NULL for `missing`.
const REMOVE_FILES: &str = "UPDATE files SET status = \
     CASE WHEN status IN ('uploading', 'uploaded') THEN 'removed' ELSE 'deleted' END \
     WHERE upload_id = $1 AND (status IS NULL OR status IN ('', 'missing', 'uploading', 'uploaded'))";

const LOCK_FILES: &str = "SELECT id FROM files WHERE upload_id = $1 ORDER BY id";

/// Locks one live upload; the write it belongs to is refused if there is none.
pub(super) fn lock_live(id: &str) -> Statement {
    Statement::lock(LOCK_LIVE, [Value::from(id)]).expecting(Expect::AtLeastOne)
}

impl Metadata {
    /// Stores an upload and its announced files, in one transaction.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Failed`] if one of the ids is taken.
    pub async fn create_upload(
        &self,
        upload: &Upload,
        files: &[File],
    ) -> Result<(), MetadataError> {
        let (dialect, now) = (self.engine().dialect(), Timestamp::now());
        let mut statements = vec![insert(upload)];
        statements.extend(files.iter().map(files::insert));
        statements.extend(stats::upload_created(dialect, upload, now));
        let uploaded = files
            .iter()
            .filter(|file| file.status == FileStatus::Uploaded);
        statements.extend(uploaded.flat_map(|file| stats::file_completed(dialect, &file.id, now)));
        self.engine()
            .write("create an upload", statements)
            .await
            .map(|_| ())
    }

    /// The live upload of that id, expired or not. The empty id is nobody's.
    pub async fn upload(&self, id: &str) -> Result<Option<Upload>, MetadataError> {
        let sql = format!(
            "SELECT {} FROM uploads WHERE id = $1 AND id <> '' AND deleted_at IS NULL",
            self.0.upload_columns
        );
        let rows = self
            .engine()
            .query("read an upload", sql, [Value::from(id)])
            .await?;
        Ok(rows.first().map(from_row))
    }

    /// Moves the expiry of a live upload; `false` if it is not live.
    pub async fn set_expiry(
        &self,
        id: &str,
        expire_at: Option<Timestamp>,
    ) -> Result<bool, MetadataError> {
        const SQL: &str = "UPDATE uploads SET expire_at = $2 \
             WHERE id = $1 AND id <> '' AND deleted_at IS NULL";
        let update = Statement::new(SQL, [Value::from(id), Value::from(expire_at)]);
        let written = self
            .engine()
            .write(
                "move the expiry of an upload",
                vec![update.expecting(Expect::AtLeastOne)],
            )
            .await?;
        Ok(written.is_done())
    }

    /// Takes an upload and its files out of service; their bytes are still to be deleted. `false`
    /// if it was not live, and then nothing has changed.
    pub async fn remove_upload(&self, id: &str, now: Timestamp) -> Result<bool, MetadataError> {
        const SOFT_DELETE: &str = "UPDATE uploads SET deleted_at = $2 WHERE id = $1";
        let this = || vec![Value::from(id)];
        let mut statements = vec![lock_live(id), Statement::lock(LOCK_FILES, this())];
        statements.extend(stats::upload_leaves(id, now));
        statements.push(Statement::new(REMOVE_FILES, this()));
        let params = [Value::from(id), Value::Time(now)];
        statements.push(Statement::new(SOFT_DELETE, params));
        let written = self.engine().write("remove an upload", statements).await?;
        Ok(written.is_done())
    }

    /// Up to `limit` ids of live uploads whose expiry lies before `now`, ascending from the first
    /// after `after`; fewer mean that there are no more.
    pub async fn expired_uploads(
        &self,
        now: Timestamp,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, MetadataError> {
        let expired = self.engine().dialect().is_before("expire_at", "$1");
        let sql = format!(
            "SELECT id FROM uploads WHERE deleted_at IS NULL AND expire_at IS NOT NULL \
             AND {expired} AND id > $2 ORDER BY id LIMIT $3"
        );
        let params = [Value::Time(now), Value::from(after), Value::from(limit)];
        self.ids("list expired uploads", sql, params).await
    }

    /// Up to `limit` ids of uploads that were removed, ascending from the first after `after`.
    pub async fn removed_uploads(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, MetadataError> {
        const SQL: &str = "SELECT id FROM uploads WHERE deleted_at IS NOT NULL AND id > $1 \
             ORDER BY id LIMIT $2";
        let params = [Value::from(after), Value::from(limit)];
        self.ids("list removed uploads", SQL.to_owned(), params)
            .await
    }

    /// Forgets a removed upload whose files have all been deleted; `true` if it is gone. A file
    /// that still has a life of its own is taken out of service and left for the next time.
    pub async fn purge_upload(&self, id: &str) -> Result<bool, MetadataError> {
        const ACTION: &str = "purge an upload";
        const LOCK: &str =
            "SELECT id FROM uploads WHERE id = $1 AND id <> '' AND deleted_at IS NOT NULL";
        // A status of NULL, which no release gives to a file with bytes, holds nothing back.
        const KEPT: &str = "SELECT id FROM files WHERE upload_id = $1 AND status <> 'deleted'";
        let this = || vec![Value::from(id)];
        let lock = || Statement::lock(LOCK, this()).expecting(Expect::AtLeastOne);
        let purge = vec![
            lock(),
            Statement::lock(LOCK_FILES, this()),
            Statement::new(KEPT, this()).expecting(Expect::None),
            Statement::new("DELETE FROM files WHERE upload_id = $1", this()),
            Statement::new("DELETE FROM uploads WHERE id = $1", this()),
        ];
        if self.engine().write(ACTION, purge).await?.is_done() {
            return Ok(true);
        }
        let remove = vec![
            lock(),
            Statement::lock(LOCK_FILES, this()),
            Statement::new(REMOVE_FILES, this()),
        ];
        self.engine().write(ACTION, remove).await.map(|_| false)
    }

    async fn ids(
        &self,
        action: &'static str,
        sql: String,
        params: impl Into<Vec<Value>>,
    ) -> Result<Vec<String>, MetadataError> {
        let rows = self.engine().query(action, sql, params).await?;
        Ok(rows.iter().map(|row| row.text("id")).collect())
    }
}

fn insert(upload: &Upload) -> Statement {
    const SQL: &str = "INSERT INTO uploads (id, ttl, extend_ttl, remote_ip, comments, e2ee, \
         upload_token, \"user\", token, stream, one_shot, removable, protected_by_password, login, \
         password, created_at, expire_at, download_count, downloaded_bytes) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 0, 0)";
    let text = |text: &String| Value::from(text.as_str());
    Statement::new(
        SQL,
        [
            text(&upload.id),
            Value::from(upload.ttl),
            Value::from(upload.extend_ttl),
            text(&upload.remote_ip),
            text(&upload.comments),
            text(&upload.e2ee),
            text(&upload.upload_token),
            text(&upload.user),
            text(&upload.token),
            Value::from(upload.stream),
            Value::from(upload.one_shot),
            Value::from(upload.removable),
            Value::from(upload.protected_by_password),
            text(&upload.login),
            text(&upload.password),
            Value::from(upload.created_at),
            Value::from(upload.expire_at),
        ],
    )
}

fn from_row(row: &Row) -> Upload {
    Upload {
        id: row.text("id"),
        ttl: row.integer("ttl"),
        extend_ttl: row.boolean("extend_ttl"),
        remote_ip: row.text("remote_ip"),
        comments: row.text("comments"),
        e2ee: row.text("e2ee"),
        upload_token: row.text("upload_token"),
        user: row.text("user"),
        token: row.text("token"),
        stream: row.boolean("stream"),
        one_shot: row.boolean("one_shot"),
        removable: row.boolean("removable"),
        protected_by_password: row.boolean("protected_by_password"),
        login: row.text("login"),
        password: row.text("password"),
        created_at: row.time("created_at"),
        expire_at: row.time("expire_at"),
    }
}
