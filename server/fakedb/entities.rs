//! The rows of each table, as they are written, with what the statistics count of them.

/// A row of `users`.
pub struct User {
    pub id: String,
    pub provider: &'static str,
    pub login: String,
    pub password: &'static str,
    pub name: String,
    pub email: String,
    pub later: Option<LaterUser>,
    pub is_admin: bool,
    pub max_file_size: i64,
    pub max_ttl: i64,
    pub created_at: String,
}

/// Columns of `users` that the rows of old releases do not have.
pub struct LaterUser {
    pub profile_picture: String,
    pub theme: &'static str,
    pub language: &'static str,
    pub max_user_size: i64,
}

/// A row of `tokens`.
pub struct Token {
    pub token: String,
    pub comment: String,
    pub user_id: String,
    pub created_at: String,
}

/// A row of `uploads`, and what the statistics count of it.
pub struct Upload {
    pub id: String,
    pub ttl: i64,
    pub remote_ip: String,
    pub comments: &'static str,
    pub upload_token: String,
    pub user: String,
    pub token: String,
    pub stream: bool,
    pub one_shot: bool,
    pub removable: bool,
    pub protected_by_password: bool,
    pub login: &'static str,
    pub password: &'static str,
    pub later: Option<LaterUpload>,
    pub last_downloaded_at: Option<String>,
    pub created_at: String,
    pub deleted_at: Option<String>,
    pub expire_at: Option<String>,
    /// The day it was created and the bytes it brought, if its statistics are still kept.
    pub uploaded: Option<(String, i64)>,
    pub downloaded: Option<DailyDownloads>,
}

/// Columns of `uploads` that the rows of old releases do not have.
pub struct LaterUpload {
    pub extend_ttl: bool,
    pub e2ee: &'static str,
    pub download_count: i64,
    pub downloaded_bytes: i64,
}

/// A row of `files`, and what the statistics count of it.
pub struct File {
    pub id: String,
    pub upload_id: String,
    pub name: &'static str,
    pub status: &'static str,
    pub md5: String,
    pub mime_type: &'static str,
    pub size: u64,
    pub reference: String,
    pub later: Option<LaterFile>,
    pub last_downloaded_at: Option<String>,
    pub created_at: String,
    pub downloaded: Option<DailyDownloads>,
    /// The content is text, whatever the row says of it.
    pub is_text: bool,
    pub has_blob: bool,
}

/// Columns of `files` that the rows of old releases do not have.
pub struct LaterFile {
    pub is_text: bool,
    pub download_count: i64,
}

/// A row of `download_stats_daily`, but for the entity.
pub struct DailyDownloads {
    pub day: String,
    pub downloads: i64,
    pub bytes: i64,
    pub user: String,
    pub token: String,
}
