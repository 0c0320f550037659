//! The names of a blob: the one that is written, and the one that older releases wrote.

use std::path::PathBuf;

use super::{BlobRef, DataError};

/// The shortest id from which a path can be made.
const MIN_ID_LENGTH: usize = 3;
/// Characters of an id that name the directory it is in.
const FAN_OUT_LENGTH: usize = 2;

/// A blob whose ids are known to be letters and digits: nothing in them leads elsewhere.
#[derive(Clone, Debug)]
pub(super) struct BlobName {
    file_id: String,
    upload_id: String,
}

impl BlobName {
    pub fn of(blob: &BlobRef) -> Result<Self, DataError> {
        Ok(Self {
            file_id: checked(&blob.file_id)?,
            upload_id: checked(&blob.upload_id)?,
        })
    }

    pub fn id(&self) -> &str {
        &self.file_id
    }

    /// Where the blob is, below the directory of the file backend.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(&self.file_id[..FAN_OUT_LENGTH]).join(&self.file_id)
    }

    /// Where releases before 1.3 put it.
    pub fn old_path(&self) -> PathBuf {
        PathBuf::from(&self.upload_id[..FAN_OUT_LENGTH])
            .join(&self.upload_id)
            .join(&self.file_id)
    }

    /// The object's key in a bucket.
    pub fn key(&self, prefix: &str) -> String {
        prefixed(prefix, &format!("{}.{}", self.upload_id, self.file_id))
    }

    /// The key that 1.3 gave it.
    pub fn old_key(&self, prefix: &str) -> String {
        prefixed(prefix, &self.file_id)
    }
}

/// File and upload of an object that a server with this prefix may have written; the upload only
/// where the key has it.
pub(super) fn ids_of_key<'a>(key: &'a str, prefix: &str) -> Option<(&'a str, Option<&'a str>)> {
    let name = match prefix {
        "" => key,
        prefix => key.strip_prefix(prefix)?.strip_prefix('/')?,
    };
    let (upload_id, file_id) = match name.split_once('.') {
        Some((upload_id, file_id)) => (Some(upload_id), file_id),
        None => (None, name),
    };
    (is_id(file_id) && upload_id.is_none_or(is_id)).then_some((file_id, upload_id))
}

/// Whether something can be stored under that id.
pub(super) fn is_id(id: &str) -> bool {
    id.len() >= MIN_ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn checked(id: &str) -> Result<String, DataError> {
    if is_id(id) {
        return Ok(id.to_owned());
    }
    Err(DataError::InvalidId {
        // It may be anything, and long.
        id: id.chars().take(64).flat_map(char::escape_default).collect(),
    })
}

/// The prefix is used as it is given: `a` and `a/` are two places.
pub(super) fn prefixed(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BackendDetails;

    fn name(file_id: &str, upload_id: &str) -> Result<BlobName, DataError> {
        BlobName::of(&BlobRef {
            file_id: file_id.into(),
            upload_id: upload_id.into(),
            content_type: String::new(),
            details: BackendDetails::default(),
        })
    }

    #[test]
    fn names_are_those_of_the_releases() {
        let name = name("FileId", "UploadId").unwrap();
        assert_eq!(name.path(), PathBuf::from("Fi/FileId"));
        assert_eq!(name.old_path(), PathBuf::from("Up/UploadId/FileId"));
        assert_eq!(name.key(""), "UploadId.FileId");
        assert_eq!(name.key("a/b"), "a/b/UploadId.FileId");
        assert_eq!(name.old_key("a/b/"), "a/b//FileId");
    }

    #[test]
    fn a_key_tells_its_ids() {
        let both = Some(("FileId", Some("UploadId")));
        assert_eq!(ids_of_key("UploadId.FileId", ""), both);
        assert_eq!(ids_of_key("a/b/UploadId.FileId", "a/b"), both);
        assert_eq!(ids_of_key("a//UploadId.FileId", "a/"), both);
        assert_eq!(ids_of_key("FileId", ""), Some(("FileId", None)));
        for (key, prefix) in [
            ("UploadId.FileId", "a"),
            ("a/UploadId.FileId", ""),
            ("ab/UploadId.FileId", "a"),
            ("UploadId.FileId.tmp", ""),
            ("UploadId.", ""),
            ("", ""),
        ] {
            assert_eq!(ids_of_key(key, prefix), None, "{key}");
        }
    }

    #[test]
    fn ids_that_lead_elsewhere_are_refused() {
        for id in [
            "",
            "ab",
            "../../etc",
            "abc/def",
            "abc\0",
            "äöü",
            "abc.d",
            ".upload-x",
        ] {
            for (file_id, upload_id) in [(id, "UploadId"), ("FileId", id)] {
                let error = name(file_id, upload_id).unwrap_err();
                assert!(matches!(error, DataError::InvalidId { .. }), "{id:?}");
            }
        }
    }
}
