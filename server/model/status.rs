//! The status of a file, from announced to deleted.

use std::fmt;

/// Where a file stands. The metadata stores the lower-case name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileStatus {
    /// Announced, nothing received; the backend has no bytes. Legacy rows store `''`.
    Missing,
    /// A transfer runs, or a server died during one; the backend may have bytes.
    Uploading,
    /// Complete; the backend has the bytes.
    Uploaded,
    /// Not served any more; the backend may still have the bytes.
    Removed,
    /// The bytes are gone, or never were.
    Deleted,
}

impl FileStatus {
    /// Every status, in the order a file goes through them.
    pub const ALL: [Self; 5] = [
        Self::Missing,
        Self::Uploading,
        Self::Uploaded,
        Self::Removed,
        Self::Deleted,
    ];

    /// The name stored in the metadata and sent to clients.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Uploading => "uploading",
            Self::Uploaded => "uploaded",
            Self::Removed => "removed",
            Self::Deleted => "deleted",
        }
    }

    /// Reads a stored name; `''` is the legacy spelling of [`FileStatus::Missing`]. `None` for a
    /// name that no release has written.
    pub fn parse(name: &str) -> Option<Self> {
        if name.is_empty() {
            return Some(Self::Missing);
        }
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether a migration carries the bytes of such a file: they exist, or may still exist.
    pub fn has_blob(self) -> bool {
        matches!(self, Self::Uploaded | Self::Removed)
    }
}

impl fmt::Display for FileStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_names_are_read_back() {
        for status in FileStatus::ALL {
            assert_eq!(FileStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(FileStatus::parse(""), Some(FileStatus::Missing));
        assert_eq!(FileStatus::parse("Uploaded"), None);
    }
}
