//! What a file is, from its first bytes. What a client says about it is not trusted.

/// How much of the beginning of a file [`detect`] looks at.
pub const HEAD_BYTES: usize = 32 * 1024;

/// Binary formats that are written in readable characters, by their magic numbers.
const TEXTUAL_MAGIC: [&str; 5] = [
    "application/pdf",
    "application/postscript",
    "application/rtf",
    "text/html",
    "text/xml",
];

/// The verdict on a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Detected {
    /// Empty for an empty file.
    pub mime_type: String,
    pub is_text: bool,
}

/// Judges a file by its first [`HEAD_BYTES`], or all of it if it is shorter.
pub fn detect(head: &[u8]) -> Detected {
    if head.is_empty() {
        return verdict("", false);
    }
    // Encrypted files start with readable characters, but must never be shown as text.
    if head.starts_with(b"age-encryption.org") {
        return verdict("application/octet-stream", false);
    }
    let magic = infer::get(head).map(|kind| kind.mime_type());
    if let Some(charset) = text_charset(head) {
        // Short magic numbers are words, too: a text may start with `BM` without being a bitmap.
        return match magic.filter(|magic| TEXTUAL_MAGIC.contains(magic)) {
            Some(magic) if magic.starts_with("text/") => {
                verdict(&format!("{magic}; charset={charset}"), true)
            }
            Some(magic) => verdict(magic, false),
            None => verdict(&format!("text/plain; charset={charset}"), true),
        };
    }
    verdict(magic.unwrap_or("application/octet-stream"), false)
}

fn verdict(mime_type: &str, is_text: bool) -> Detected {
    Detected {
        mime_type: mime_type.to_owned(),
        is_text,
    }
}

/// The character set if this is text: a byte order mark says so, else the absence of the control
/// characters that no text has.
fn text_charset(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(&[0xFE, 0xFF]) {
        return Some("utf-16be");
    }
    if head.starts_with(&[0xFF, 0xFE]) {
        return Some("utf-16le");
    }
    let is_binary = |byte: &u8| matches!(byte, 0..=8 | 0x0B | 0x0E..=0x1A | 0x1C..=0x1F);
    (!head.iter().any(is_binary)).then_some("utf-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mime(head: &[u8]) -> String {
        detect(head).mime_type
    }

    #[test]
    fn text_is_text_whatever_it_talks_about() {
        for text in [
            "hello",
            "{\"a\":1}",
            "alert(1)",
            "<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            "BMW is a make of cars",
            "MZ are two letters",
            "日本語\r\n\tindented\x1b[0m",
        ] {
            let expected = verdict("text/plain; charset=utf-8", true);
            assert_eq!(detect(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(mime(b"\xFF\xFEh\0i\0"), "text/plain; charset=utf-16le");
        assert_eq!(mime(b"\xFE\xFF\0h\0i"), "text/plain; charset=utf-16be");
    }

    #[test]
    fn markup_keeps_its_type() {
        assert_eq!(mime(b"<html><body>"), "text/html; charset=utf-8");
        assert_eq!(mime(b"<!DOCTYPE html>\n"), "text/html; charset=utf-8");
        assert_eq!(
            mime(b"<?xml version=\"1.0\"?><a/>"),
            "text/xml; charset=utf-8"
        );
        assert_eq!(
            detect(b"%PDF-1.4\n1 0 obj"),
            verdict("application/pdf", false)
        );
    }

    #[test]
    fn formats_are_known_by_their_magic_number() {
        assert_eq!(mime(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "image/png");
        assert_eq!(mime(b"\xff\xd8\xff\xe0\0\x10JFIF"), "image/jpeg");
        assert_eq!(mime(b"PK\x03\x04\x14\0\0\0\0\0"), "application/zip");
        assert_eq!(mime(b"\x1f\x8b\x08\0\0\0\0\0"), "application/gzip");
    }

    #[test]
    fn what_nobody_knows_is_bytes_and_what_is_empty_has_no_type() {
        assert_eq!(
            detect(b"\x00\x01\x02\x03"),
            verdict("application/octet-stream", false)
        );
        assert_eq!(detect(b""), verdict("", false));
    }

    #[test]
    fn encrypted_files_are_bytes() {
        let head = b"age-encryption.org/v1\n-> X25519 abc\n";
        assert_eq!(detect(head), verdict("application/octet-stream", false));
    }
}
