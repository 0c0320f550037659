//! One file of an upload.

use super::{BackendDetails, FileStatus, Timestamp};

/// One row of `files`.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub id: String,
    pub upload_id: String,
    pub name: String,
    pub status: FileStatus,
    /// Lower-case hex of the content's MD5, empty until uploaded.
    pub md5: String,
    /// MIME type: announced, then detected.
    pub mime_type: String,
    /// Bytes: announced, then received.
    pub size: i64,
    /// The content was recognised as text.
    pub is_text: bool,
    /// The client's own name for this file, echoed.
    pub reference: String,
    pub backend_details: BackendDetails,
    pub created_at: Option<Timestamp>,
}
