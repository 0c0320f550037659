//! What keeps a downloaded file from harming the one who downloads it, and secrets from being
//! guessed.

use http::HeaderMap;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, EXPIRES, HeaderName, HeaderValue, PRAGMA,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use md5::{Digest, Md5};

/// Longest name in a `Content-Disposition`, in bytes.
const MAX_NAME_BYTES: usize = 1024;
const BYTES: &str = "application/octet-stream";
/// Types that a browser would run or open in a plug-in.
const ACTIVE_TYPES: [&str; 6] = ["html", "svg", "xml", "javascript", "flash", "pdf"];
const POLICY: &str = "default-src 'none'; media-src 'self'; form-action 'none'; \
                      frame-ancestors 'none'; sandbox";

/// The form in which every release stores the credentials of a protected upload: the lower-case
/// hex MD5 of the Base64 text that a client sends.
pub fn hash_credentials(base64: impl AsRef<[u8]>) -> String {
    hex(&Md5::digest(base64))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Whether a secret that was presented is the one expected. Takes as long whichever byte differs,
/// and an empty secret never matches.
pub fn is_secret(presented: &[u8], expected: &[u8]) -> bool {
    if expected.is_empty() || presented.len() != expected.len() {
        return false;
    }
    let difference = presented
        .iter()
        .zip(expected)
        .fold(0, |difference, (left, right)| difference | (left ^ right));
    std::hint::black_box(difference) == 0
}

/// The type a file is served with: one that no browser runs.
pub fn served_type(stored: &str, is_encrypted: bool) -> HeaderValue {
    const FALLBACK: HeaderValue = HeaderValue::from_static(BYTES);
    let lower = stored.to_ascii_lowercase();
    if stored.is_empty() || is_encrypted || ACTIVE_TYPES.iter().any(|kind| lower.contains(kind)) {
        return FALLBACK;
    }
    HeaderValue::from_str(stored).unwrap_or(FALLBACK)
}

/// `Content-Disposition`: the name, without what could end the header or disguise the name.
pub fn disposition(name: &str, is_attachment: bool) -> HeaderValue {
    let is_unsafe = |letter: char| {
        letter == '"'
            || letter.is_ascii_control()
            || matches!(letter, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    let name: String = name.chars().filter(|letter| !is_unsafe(*letter)).collect();
    let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
    let prefix = if is_attachment { "attachment; " } else { "" };
    let value = format!("{prefix}filename=\"{name}\"");
    // Without control characters, every text is a header value.
    HeaderValue::from_bytes(value.as_bytes())
        .unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}

/// Adds the headers that keep a browser from running what it downloads.
pub fn add_download_headers(headers: &mut HeaderMap, enhanced: bool) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    if enhanced {
        headers.insert(X_XSS_PROTECTION, HeaderValue::from_static("1; mode=block"));
    }
}

/// Adds the headers that keep a file which exists once from being kept by a cache.
pub fn add_no_cache_headers(headers: &mut HeaderMap) {
    const HEADERS: [(HeaderName, &str); 3] = [
        (CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (PRAGMA, "no-cache"),
        (EXPIRES, "0"),
    ];
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hashed_as_every_release_does() {
        // base64("foo:bar")
        assert_eq!(
            hash_credentials("Zm9vOmJhcg=="),
            "c44b06a6808bc297af0d0346c3c578d4"
        );
    }

    #[test]
    fn only_the_very_secret_matches() {
        assert!(is_secret(b"secret", b"secret"));
        for presented in ["", "secre", "secreT", "secrets"] {
            assert!(!is_secret(presented.as_bytes(), b"secret"), "{presented}");
        }
        assert!(!is_secret(b"", b""));
    }

    #[test]
    fn active_content_is_served_as_bytes() {
        for stored in [
            "",
            "text/html; charset=utf-8",
            "TEXT/HTML",
            "image/svg+xml",
            "text/xml; charset=utf-8",
            "application/javascript",
            "application/x-shockwave-flash",
            "application/pdf",
            "text/plain\r\nX-Evil: 1",
        ] {
            assert_eq!(served_type(stored, false), BYTES, "{stored}");
        }
        assert_eq!(served_type("image/png", false), "image/png");
        assert_eq!(served_type("image/png", true), BYTES);
    }

    #[test]
    fn names_cannot_break_out_of_the_disposition() {
        let text = |name: &str, is_attachment| {
            let value = disposition(name, is_attachment);
            String::from_utf8(value.as_bytes().to_vec()).unwrap()
        };
        assert_eq!(text("a b é.txt", false), "filename=\"a b é.txt\"");
        assert_eq!(text("x", true), "attachment; filename=\"x\"");
        assert_eq!(
            text("a\"\r\n\0\u{7f}\u{202e}\u{2067}b", true),
            "attachment; filename=\"ab\""
        );
        let long = "é".repeat(1000);
        assert_eq!(
            text(&long, false),
            format!("filename=\"{}\"", "é".repeat(512))
        );
    }
}
