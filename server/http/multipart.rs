//! Multipart bodies, read as they arrive.
//!
//! Only what an upload needs: the parts in order, their name and file name, their bytes. Memory is
//! bounded whatever a client sends: a part's header has a maximum size, its bytes pass in the
//! chunks in which they arrived.

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use memchr::memmem::Finder;
use percent_encoding::percent_decode_str;

use super::body::{BodyError, RequestBody};

/// Longest header of one part, in bytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Longest boundary, in bytes; RFC 2046 allows 70.
const MAX_BOUNDARY_BYTES: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum MultipartError {
    #[error("the content type is not multipart")]
    NotMultipart,
    #[error("the content type has no usable boundary")]
    NoBoundary,
    #[error("the header of a part is longer than {MAX_HEADER_BYTES} bytes")]
    LongHeader,
    #[error("the header of a part is malformed")]
    BadHeader,
    #[error("the body ends before its last boundary")]
    Truncated,
    #[error("the body cannot be read")]
    Body(#[from] BodyError),
}

/// One part, as its header names it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Name of the form field, if this is one.
    pub name: Option<String>,
    /// The file name as sent, with directories.
    pub file_name: Option<String>,
}

/// Where in the body we are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    /// In the bytes of a part, or in the preamble.
    Content,
    /// Right after a boundary.
    Boundary,
    /// After the last boundary.
    End,
}

/// A multipart body while it is read.
pub struct Multipart<'a> {
    body: &'a mut RequestBody,
    /// CR LF, two dashes, the boundary.
    delimiter: Finder<'static>,
    /// Bytes that arrived and have not been given out.
    buffer: Bytes,
    position: Position,
}

impl<'a> Multipart<'a> {
    /// Nothing of the body is read yet.
    pub fn new(
        body: &'a mut RequestBody,
        content_type: Option<&HeaderValue>,
    ) -> Result<Self, MultipartError> {
        let content_type = content_type
            .and_then(|value| value.to_str().ok())
            .ok_or(MultipartError::NotMultipart)?;
        let boundary = boundary(content_type)?;
        Ok(Self {
            body,
            delimiter: Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned(),
            // The first boundary may stand at the very start, without a line end before it.
            buffer: Bytes::from_static(b"\r\n"),
            position: Position::Content,
        })
    }

    /// The next part; `None` after the last. What was not read of the part before is skipped.
    pub async fn next_part(&mut self) -> Result<Option<Part>, MultipartError> {
        while self.chunk().await?.is_some() {}
        if self.position == Position::End {
            return Ok(None);
        }
        while self.buffer.len() < 2 {
            self.fill().await?;
        }
        if self.buffer.starts_with(b"--") {
            self.position = Position::End;
            return Ok(None);
        }
        let padding = self.line(MAX_HEADER_BYTES).await?;
        if !padding.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(MultipartError::BadHeader);
        }
        let part = self.header().await?;
        self.position = Position::Content;
        Ok(Some(part))
    }

    /// The next bytes of the part; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, MultipartError> {
        if self.position != Position::Content {
            return Ok(None);
        }
        let length = self.delimiter.needle().len();
        loop {
            // The bytes that are content whatever comes.
            let certain = match self.delimiter.find(&self.buffer) {
                Some(at) => match ends_delimiter(&self.buffer[at + length..]) {
                    Some(true) if at == 0 => {
                        let _ = self.buffer.split_to(length);
                        self.position = Position::Boundary;
                        return Ok(None);
                    }
                    Some(false) => at + length,
                    Some(true) | None => at,
                },
                None => self.buffer.len() - partial_match(&self.buffer, self.delimiter.needle()),
            };
            if certain > 0 {
                return Ok(Some(self.buffer.split_to(certain)));
            }
            self.fill().await?;
        }
    }

    /// The lines up to the empty one.
    async fn header(&mut self) -> Result<Part, MultipartError> {
        let mut part = Part::default();
        let mut left = MAX_HEADER_BYTES;
        loop {
            let line = self.line(left).await?;
            if line.is_empty() {
                return Ok(part);
            }
            left -= line.len();
            let line = std::str::from_utf8(&line).map_err(|_| MultipartError::BadHeader)?;
            let (name, value) = line.split_once(':').ok_or(MultipartError::BadHeader)?;
            if name.trim_end().eq_ignore_ascii_case("content-disposition") {
                part = parse_disposition(value).ok_or(MultipartError::BadHeader)?;
            }
        }
    }

    /// The bytes up to the next line end, which is consumed.
    async fn line(&mut self, limit: usize) -> Result<Bytes, MultipartError> {
        loop {
            let end = memchr::memmem::find(&self.buffer, b"\r\n");
            if end.unwrap_or(self.buffer.len()) > limit {
                return Err(MultipartError::LongHeader);
            }
            if let Some(end) = end {
                let line = self.buffer.split_to(end);
                let _ = self.buffer.split_to(2);
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), MultipartError> {
        let bytes = self.body.chunk().await?.ok_or(MultipartError::Truncated)?;
        if self.buffer.is_empty() {
            self.buffer = bytes;
            return Ok(());
        }
        let mut joined = BytesMut::with_capacity(self.buffer.len() + bytes.len());
        joined.extend_from_slice(&self.buffer);
        joined.extend_from_slice(&bytes);
        self.buffer = joined.freeze();
        Ok(())
    }
}

/// Whether what follows makes a delimiter one: the end of its line, white space, or the dashes of
/// the last. Anything else continues a line of content. `None` if more bytes are needed to tell.
fn ends_delimiter(after: &[u8]) -> Option<bool> {
    match after {
        [b' ' | b'\t', ..] | [b'\r', b'\n', ..] | [b'-', b'-', ..] => Some(true),
        [] | [b'\r'] | [b'-'] => None,
        _ => Some(false),
    }
}

/// How many bytes at the end of `buffer` may be the beginning of `delimiter`.
fn partial_match(buffer: &[u8], delimiter: &[u8]) -> usize {
    let longest = buffer.len().min(delimiter.len() - 1);
    let tail = &buffer[buffer.len() - longest..];
    // A delimiter starts with its only CR, so at most one place can be its beginning.
    match memchr::memrchr(b'\r', tail) {
        Some(at) if delimiter.starts_with(&tail[at..]) => tail.len() - at,
        _ => 0,
    }
}

/// The boundary that a `Content-Type` announces.
fn boundary(content_type: &str) -> Result<String, MultipartError> {
    let (kind, parameters) = split_parameters(content_type);
    let kind = kind.to_ascii_lowercase();
    if kind != "multipart/form-data" && kind != "multipart/mixed" {
        return Err(MultipartError::NotMultipart);
    }
    let is_usable = |boundary: &String| {
        (1..=MAX_BOUNDARY_BYTES).contains(&boundary.len())
            && boundary.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    };
    parse_parameters(parameters)
        .and_then(|parameters| find(&parameters, "boundary"))
        .filter(is_usable)
        .ok_or(MultipartError::NoBoundary)
}

/// Reads `form-data; name="…"; filename="…"`. A name that is no UTF-8 text, or holds a NUL, cannot
/// be stored: that is malformed, too.
fn parse_disposition(value: &str) -> Option<Part> {
    let (kind, parameters) = split_parameters(value);
    let parameters = parse_parameters(parameters)?;
    let is_field = kind.eq_ignore_ascii_case("form-data");
    let file_name = match find(&parameters, "filename*") {
        Some(extended) => Some(decode_extended(&extended)?),
        None => find(&parameters, "filename"),
    };
    if file_name.as_ref().is_some_and(|name| name.contains('\0')) {
        return None;
    }
    Some(Part {
        name: find(&parameters, "name").filter(|_| is_field),
        file_name,
    })
}

fn split_parameters(value: &str) -> (&str, &str) {
    let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
    (kind.trim(), parameters)
}

fn find(parameters: &[(String, String)], key: &str) -> Option<String> {
    let (_, value) = parameters.iter().find(|(name, _)| name == key)?;
    Some(value.clone())
}

/// Reads `a=b; c="d"`; names come back in lower case.
fn parse_parameters(mut text: &str) -> Option<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ';']);
        if text.is_empty() {
            return Some(parameters);
        }
        let (name, rest) = text.split_once('=')?;
        let rest = rest.trim_start();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => parse_quoted(quoted)?,
            None => {
                let end = rest.find(';').unwrap_or(rest.len());
                (rest[..end].trim_end().to_owned(), &rest[end..])
            }
        };
        parameters.push((name.trim().to_ascii_lowercase(), value));
        text = rest;
    }
}

/// Reads a quoted text from after its opening quote; what follows the closing one is the rest.
///
/// A backslash escapes only a quote or a backslash: old browsers send Windows paths unescaped.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => {
                let escaped = letters.next_if(|(_, next)| matches!(next, '"' | '\\'));
                value.push(escaped.map_or('\\', |(_, escaped)| escaped));
            }
            letter => value.push(letter),
        }
    }
    None
}

/// Decodes `UTF-8'language'percent-encoded`, as of RFC 5987.
fn decode_extended(text: &str) -> Option<String> {
    let mut pieces = text.splitn(3, '\'');
    let charset = pieces.next()?;
    let _language = pieces.next()?;
    let encoded = pieces.next()?;
    if !charset.eq_ignore_ascii_case("utf-8") && !charset.eq_ignore_ascii_case("us-ascii") {
        return None;
    }
    let decoded = percent_decode_str(encoded).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use std::io;

    use http::HeaderMap;

    use super::super::body;
    use super::*;

    const TYPE: HeaderValue = HeaderValue::from_static("multipart/form-data; boundary=XX");

    fn request(bytes: &[u8], chunk_bytes: usize) -> RequestBody {
        let chunks: Vec<io::Result<Bytes>> = bytes
            .chunks(chunk_bytes)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        let bytes = Box::pin(futures::stream::iter(chunks));
        RequestBody::new(body::stream(bytes), &HeaderMap::new())
    }

    type Parts = Vec<(Part, Vec<u8>)>;

    async fn parse(bytes: &[u8], chunk_bytes: usize) -> Result<Parts, MultipartError> {
        let mut body = request(bytes, chunk_bytes);
        let mut multipart = Multipart::new(&mut body, Some(&TYPE))?;
        let mut parts = Vec::new();
        while let Some(part) = multipart.next_part().await? {
            let mut content = Vec::new();
            while let Some(bytes) = multipart.chunk().await? {
                content.extend_from_slice(&bytes);
            }
            parts.push((part, content));
        }
        Ok(parts)
    }

    fn part(name: &str, file_name: Option<&str>) -> Part {
        Part {
            name: Some(name.to_owned()),
            file_name: file_name.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn parts_come_out_whole_however_the_bytes_arrive() {
        let content = b"\r\n--X \r\r\n--\r\n--XXY\r\n--XX-\r\n--XX\r\r\n--XX\n\r\n--XY\r\n-";
        let mut bytes = b"preamble\r\n--XX  \r\nContent-Disposition: form-data; name=\"a\"\r\n\
            \r\n1\r\n--XX\r\ncontent-disposition:form-data; name=file; filename=\"x y\"\r\n\
            Content-Type: text/plain\r\n\r\n"
            .to_vec();
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(b"\r\n--XX--epilogue");
        let expected = vec![
            (part("a", None), b"1".to_vec()),
            (part("file", Some("x y")), content.to_vec()),
        ];
        for chunk_bytes in 1..bytes.len() {
            assert_eq!(parse(&bytes, chunk_bytes).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn the_first_boundary_may_be_the_first_bytes_and_content_may_be_empty() {
        let bytes = b"--XX\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n\r\n--XX--";
        let expected = vec![(part("file", None), Vec::new())];
        assert_eq!(parse(bytes, 7).await.unwrap(), expected);
        assert_eq!(parse(b"--XX--", 7).await.unwrap(), Vec::new());
    }

    #[tokio::test]
    async fn a_body_cut_anywhere_is_truncated() {
        let bytes = b"--XX\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nab\r\n--XX--";
        for end in 0..bytes.len() {
            let error = parse(&bytes[..end], 1000).await.unwrap_err();
            assert!(matches!(error, MultipartError::Truncated), "{end}");
        }
    }

    #[tokio::test]
    async fn headers_are_bounded() {
        let long = [b"--XX\r\nA: ".as_slice(), &[b'x'; 20_000]].concat();
        let many = [b"--XX\r\n".as_slice(), &b"A: b\r\n".repeat(9000)].concat();
        let padding = [b"--XX".as_slice(), &[b' '; 20_000]].concat();
        for bytes in [long, many, padding] {
            let error = parse(&bytes, 1000).await.unwrap_err();
            assert!(matches!(error, MultipartError::LongHeader));
        }
    }

    #[tokio::test]
    async fn malformed_headers_are_refused() {
        for header in [
            "no colon",
            "Content-Disposition: form-data; name=\"open",
            "Content-Disposition: form-data; name",
            "Content-Disposition: form-data; filename*=latin-1''x",
            "Content-Disposition: form-data; filename*=UTF-8''%ff",
            "Content-Disposition: form-data; filename*=UTF-8''%00",
        ] {
            let bytes = format!("--XX\r\n{header}\r\n\r\n\r\n--XX--");
            let error = parse(bytes.as_bytes(), 1000).await.unwrap_err();
            assert!(matches!(error, MultipartError::BadHeader), "{header}");
        }
        let error = parse(b"--XX not the end\r\n\r\n", 1000).await.unwrap_err();
        assert!(matches!(error, MultipartError::BadHeader));
    }

    #[test]
    fn dispositions_are_read_in_every_spelling() {
        for (value, expected) in [
            (
                r#"form-data; name="file"; filename="a.txt""#,
                part("file", Some("a.txt")),
            ),
            (
                r#"Form-Data;NAME=file;FileName=a.txt;"#,
                part("file", Some("a.txt")),
            ),
            (
                r#"form-data; name="file"; filename="C:\dir\a \"q\".txt""#,
                part("file", Some(r#"C:\dir\a "q".txt"#)),
            ),
            (
                r#"form-data; name="file"; filename="é; x=y""#,
                part("file", Some("é; x=y")),
            ),
            (
                r#"form-data; name="file"; filename="e"; filename*=UTF-8'en'%C3%A9"#,
                part("file", Some("é")),
            ),
            (
                r#"form-data; name="file"; filename="""#,
                part("file", Some("")),
            ),
            (
                r#"attachment; name="file"; filename="x""#,
                Part {
                    name: None,
                    file_name: Some("x".into()),
                },
            ),
        ] {
            assert_eq!(parse_disposition(value), Some(expected), "{value}");
        }
    }

    #[test]
    fn boundaries_are_read_in_every_spelling() {
        for content_type in [
            "multipart/form-data; boundary=ab",
            "Multipart/Mixed; charset=utf-8; Boundary=\"ab\"",
        ] {
            assert_eq!(boundary(content_type).unwrap(), "ab");
        }
        for content_type in ["multipart/form-data", "multipart/form-data; boundary=\"\""] {
            let error = boundary(content_type).unwrap_err();
            assert!(matches!(error, MultipartError::NoBoundary));
        }
        for content_type in [
            "text/plain; boundary=ab",
            "",
            "multipart/alternative; boundary=a",
        ] {
            let error = boundary(content_type).unwrap_err();
            assert!(matches!(error, MultipartError::NotMultipart));
        }
    }
}
