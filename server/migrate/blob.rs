//! A file as the migration of its bytes sees it.

use crate::data::BlobRef;
use crate::metadata::{Encoding, Layout, Tuple, integer_of, text_of};
use crate::model::{BackendDetails, FileStatus};

/// The MD5 of no bytes at all.
const MD5_OF_NOTHING: [u8; 16] = [
    0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04, 0xe9, 0x80, 0x09, 0x98, 0xec, 0xf8, 0x42, 0x7e,
];

/// What a row of `files` promises about its blob.
#[derive(Clone, Debug)]
pub(super) struct BlobRow {
    pub file_id: String,
    pub upload_id: String,
    pub status: FileStatus,
    pub mime_type: String,
    pub details: BackendDetails,
    /// `None` if the row has none, or something that is no size.
    size_bytes: Option<u64>,
    /// `None` if the row has none, or something else.
    pub md5: Option<[u8; 16]>,
}

impl BlobRow {
    /// The columns of `files` that [`BlobRow::decode`] looks for.
    pub const COLUMNS: &[&str] = &[
        "id",
        "upload_id",
        "status",
        "md5",
        "type",
        "size",
        "backend_details",
    ];

    /// Reads a row that has some of [`BlobRow::COLUMNS`], as `layout` says.
    pub fn decode(row: Tuple<'_>, layout: &Layout, encoding: Encoding) -> Self {
        let field = |name: &str| layout.position(name).and_then(|column| row.field(column));
        let text = |name: &str| text_of(field(name), encoding).unwrap_or_default();
        Self {
            file_id: text("id"),
            upload_id: text("upload_id"),
            status: FileStatus::parse(&text("status")).unwrap_or(FileStatus::Missing),
            mime_type: text("type"),
            details: BackendDetails::new(text("backend_details")),
            size_bytes: integer_of(field("size"), encoding)
                .and_then(|size| u64::try_from(size).ok()),
            md5: parse_md5(&text("md5")),
        }
    }

    /// The bytes that the blob must have. `None` if the row does not tell: it may be mended, and
    /// then wants the bytes that there are.
    ///
    /// Plik (Go) 1.3 kept the announced size of a file whose content turned out to be empty; its
    /// digest tells.
    pub fn size_bytes(&self) -> Option<u64> {
        match self.md5 {
            Some(MD5_OF_NOTHING) => Some(0),
            _ => self.size_bytes,
        }
    }

    /// What the row adds to a total.
    pub fn announced_bytes(&self) -> u64 {
        self.size_bytes().unwrap_or(0)
    }

    /// Whether the blob may be one of `size_bytes`.
    pub fn may_have(&self, size_bytes: u64) -> bool {
        self.size_bytes().is_none_or(|told| told == size_bytes)
    }

    /// What a blob of `size_bytes`, with that MD5 if it is known, has other than the row says.
    pub fn mismatch(&self, size_bytes: u64, md5: Option<[u8; 16]>) -> Option<String> {
        if let Some(expected) = self.size_bytes().filter(|told| *told != size_bytes) {
            return Some(format!("it has {size_bytes} bytes instead of {expected}"));
        }
        let is_other = matches!((self.md5, md5), (Some(one), Some(other)) if one != other);
        is_other.then(|| "its MD5 is not the one of its row".to_owned())
    }

    /// The blob as the source's backend knows it.
    pub fn blob(&self) -> BlobRef {
        BlobRef {
            file_id: self.file_id.clone(),
            upload_id: self.upload_id.clone(),
            content_type: self.mime_type.clone(),
            details: self.details.clone(),
        }
    }
}

/// The digest that 32 hexadecimal digits stand for.
pub(super) fn parse_md5(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).map(|value| value as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    (digits.len() == 32).then_some(bytes)?.try_into().ok()
}

/// The 32 hexadecimal digits of a digest.
pub(super) fn md5_text(md5: [u8; 16]) -> String {
    md5.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
impl BlobRow {
    /// The row of an uploaded file.
    pub fn of_test(file_id: &str, upload_id: &str, size_bytes: u64, md5: Option<[u8; 16]>) -> Self {
        Self {
            file_id: file_id.into(),
            upload_id: upload_id.into(),
            status: FileStatus::Uploaded,
            mime_type: String::new(),
            details: BackendDetails::default(),
            size_bytes: Some(size_bytes),
            md5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_and_anything_else_is_none() {
        assert_eq!(
            parse_md5("d41d8cd98f00b204e9800998ecf8427e"),
            Some(MD5_OF_NOTHING)
        );
        assert_eq!(
            parse_md5("D41D8CD98F00B204E9800998ECF8427E"),
            Some(MD5_OF_NOTHING)
        );
        for text in [
            "",
            "d41d",
            "d41d8cd98f00b204e9800998ecf8427g",
            "d41d8cd98f00b204e9800998ecf8427e0",
        ] {
            assert_eq!(parse_md5(text), None, "{text}");
        }
    }

    #[test]
    fn an_empty_file_is_empty_whatever_was_announced() {
        let row = |md5| BlobRow::of_test("id", "id", 42, md5);
        assert_eq!(row(Some(MD5_OF_NOTHING)).size_bytes(), Some(0));
        assert_eq!(row(None).size_bytes(), Some(42));
    }
}
