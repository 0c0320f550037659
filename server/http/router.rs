//! From a method and a path to an endpoint.
//!
//! Paths are matched by segment after percent-decoding, so an encoded slash separates segments,
//! too; a trailing slash is a different path, and no path answers to methods it does not list.
//! Frameworks differ in each of these points, which is why the few paths are matched here.

use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::error::ApiError;

/// What a path segment or a value in a URL must not hold as it is.
pub const SEGMENT: &AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// What a whole path must not hold as it is.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Endpoint {
    Health,
    Config,
    Version,
    QuickUpload,
    CreateUpload,
    GetUpload {
        upload_id: String,
    },
    RemoveUpload {
        upload_id: String,
    },
    AddFile {
        upload_id: String,
    },
    UploadFile(FilePath),
    DownloadFile(FilePath),
    RemoveFile(FilePath),
    /// A browser asks whether a page of another domain may download.
    Preflight,
}

impl Endpoint {
    /// Whether it reads or changes uploads, so that it matters who asks.
    pub fn is_about_uploads(&self) -> bool {
        !matches!(
            self,
            Self::Health | Self::Config | Self::Version | Self::Preflight
        )
    }
}

/// The path of one file.
#[derive(Debug, PartialEq, Eq)]
pub struct FilePath {
    pub upload_id: String,
    pub file_id: String,
    pub name: String,
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    To(Endpoint),
    /// To another path of this server, percent-encoded, without query.
    Moved(String),
}

/// Finds the endpoint of a request. `path` is as received; `prefix` is the configured one.
pub fn route(method: &Method, path: &str, prefix: &str) -> Result<Route, ApiError> {
    let decoded = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| ApiError::NoRoute)?;
    if !decoded.starts_with('/') {
        return Err(ApiError::NoRoute);
    }
    if let Some(cleaned) = cleaned(&decoded) {
        return Ok(Route::Moved(encode(&cleaned)));
    }
    let Some(rest) = below(&decoded, prefix) else {
        return Err(ApiError::NoRoute);
    };
    if rest.is_empty() {
        return Ok(Route::Moved(encode(&format!("{decoded}/"))));
    }
    endpoint(method, rest).map(Route::To)
}

/// The part of `path` under `prefix`, which ends at a segment; empty if it is the prefix itself.
pub fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let prefix = prefix.trim_matches('/');
    if prefix.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix('/')?.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn endpoint(method: &Method, path: &str) -> Result<Endpoint, ApiError> {
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let is_get = method == Method::GET;
    let is_post = method == Method::POST;
    let is_delete = method == Method::DELETE;
    let is_download = is_get || method == Method::HEAD;
    let endpoint = match segments.as_slice() {
        [""] if is_post => Endpoint::QuickUpload,
        ["health"] if is_get => Endpoint::Health,
        ["config"] if is_get => Endpoint::Config,
        ["version"] if is_get => Endpoint::Version,
        ["upload"] if is_post => Endpoint::CreateUpload,
        [""] | ["health"] | ["config"] | ["version"] | ["upload"] => {
            return Err(ApiError::NoMethod);
        }
        segments if segments.contains(&"") => return Err(ApiError::NoRoute),
        ["upload", upload_id] => {
            let upload_id = (*upload_id).to_owned();
            if is_get {
                Endpoint::GetUpload { upload_id }
            } else if is_delete {
                Endpoint::RemoveUpload { upload_id }
            } else {
                return Err(ApiError::NoMethod);
            }
        }
        ["file", upload_id] if is_post => Endpoint::AddFile {
            upload_id: (*upload_id).to_owned(),
        },
        ["file", _] => return Err(ApiError::NoMethod),
        ["file" | "stream", upload_id, file_id, name] => {
            let path = FilePath {
                upload_id: (*upload_id).to_owned(),
                file_id: (*file_id).to_owned(),
                name: (*name).to_owned(),
            };
            if is_post {
                Endpoint::UploadFile(path)
            } else if is_download {
                Endpoint::DownloadFile(path)
            } else if is_delete {
                Endpoint::RemoveFile(path)
            } else if method == Method::OPTIONS {
                Endpoint::Preflight
            } else {
                return Err(ApiError::NoMethod);
            }
        }
        _ => return Err(ApiError::NoRoute),
    };
    Ok(endpoint)
}

/// `path` without empty, `.` and `..` segments, if it has any. A slash at the end is kept.
fn cleaned(path: &str) -> Option<String> {
    let segments = || path.split('/').skip(1);
    let last = segments().count().saturating_sub(1);
    let is_odd = |(at, segment): (usize, &str)| {
        segment == "." || segment == ".." || (segment.is_empty() && at != last)
    };
    if !segments().enumerate().any(is_odd) {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in segments() {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut cleaned = format!("/{}", kept.join("/"));
    if path.ends_with('/') && !kept.is_empty() {
        cleaned.push('/');
    }
    Some(cleaned)
}

fn encode(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(method: &str, path: &str, prefix: &str) -> String {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        match route(&method, path, prefix) {
            Ok(Route::To(endpoint)) => format!("{endpoint:?}"),
            Ok(Route::Moved(path)) => format!("moved to {path}"),
            Err(error) => error.status().as_u16().to_string(),
        }
    }

    #[test]
    fn every_endpoint_has_its_method_and_path() {
        let file = r#"(FilePath { upload_id: "u", file_id: "f", name: "n" })"#;
        for (method, path, expected) in [
            ("GET", "/health", "Health".to_owned()),
            ("GET", "/config", "Config".to_owned()),
            ("GET", "/version", "Version".to_owned()),
            ("POST", "/", "QuickUpload".to_owned()),
            ("POST", "/upload", "CreateUpload".to_owned()),
            (
                "GET",
                "/upload/u",
                r#"GetUpload { upload_id: "u" }"#.to_owned(),
            ),
            (
                "DELETE",
                "/upload/u",
                r#"RemoveUpload { upload_id: "u" }"#.to_owned(),
            ),
            (
                "POST",
                "/file/u",
                r#"AddFile { upload_id: "u" }"#.to_owned(),
            ),
            ("POST", "/file/u/f/n", format!("UploadFile{file}")),
            ("GET", "/file/u/f/n", format!("DownloadFile{file}")),
            ("HEAD", "/file/u/f/n", format!("DownloadFile{file}")),
            ("DELETE", "/file/u/f/n", format!("RemoveFile{file}")),
            ("POST", "/stream/u/f/n", format!("UploadFile{file}")),
            ("GET", "/stream/u/f/n", format!("DownloadFile{file}")),
            ("HEAD", "/stream/u/f/n", format!("DownloadFile{file}")),
            ("DELETE", "/stream/u/f/n", format!("RemoveFile{file}")),
            ("OPTIONS", "/file/u/f/n", "Preflight".to_owned()),
        ] {
            assert_eq!(to(method, path, ""), expected, "{method} {path}");
        }
    }

    #[test]
    fn known_paths_refuse_other_methods() {
        for (method, path) in [
            ("GET", "/"),
            ("HEAD", "/config"),
            ("POST", "/health"),
            ("GET", "/upload"),
            ("POST", "/upload/u"),
            ("GET", "/file/u"),
            ("PUT", "/file/u/f/n"),
            ("OPTIONS", "/upload"),
        ] {
            assert_eq!(to(method, path, ""), "405", "{method} {path}");
        }
    }

    #[test]
    fn unknown_paths_are_not_found() {
        for path in [
            "/nothing",
            "/upload/",
            "/upload/u/",
            "/config/",
            "/file/u/f",
            "/file/u/f/n/",
            "/file/u/f/a%2Fb",
            "/stream/u",
            "/me",
            "/archive/u/x.zip",
            "/file/u/f/%ff",
            "*",
        ] {
            assert_eq!(to("GET", path, ""), "404", "{path}");
        }
        assert_eq!(to("POST", "/stream/u", ""), "404");
    }

    #[test]
    fn segments_are_decoded() {
        let expected =
            r#"DownloadFile(FilePath { upload_id: "u", file_id: "f", name: "a b é%?.txt" })"#;
        assert_eq!(
            to("GET", "/file/u/f/a%20b%20%C3%A9%25%3F.txt", ""),
            expected
        );
        assert_eq!(to("GET", "/%63onfig", ""), "Config");
    }

    #[test]
    fn unclean_paths_move_to_the_clean_one_whatever_the_method() {
        for (path, clean) in [
            ("//config", "/config"),
            ("/./config", "/config"),
            ("/a/../config", "/config"),
            ("/../../x", "/x"),
            ("/a//b/", "/a/b/"),
            ("/a/..", "/"),
            ("//", "/"),
            ("//evil.example/..", "/"),
            ("/a%2f%2fb%20%3Fc", "/a/b%20%3Fc"),
        ] {
            for method in ["GET", "POST", "PURGE"] {
                assert_eq!(to(method, path, ""), format!("moved to {clean}"), "{path}");
            }
        }
    }

    #[test]
    fn a_prefix_matches_whole_segments() {
        assert_eq!(to("GET", "/sub/config", "/sub"), "Config");
        assert_eq!(to("POST", "/sub/", "/sub"), "QuickUpload");
        assert_eq!(to("GET", "/a/b/config", "/a/b"), "Config");
        assert_eq!(to("POST", "/sub", "/sub"), "moved to /sub/");
        for path in ["/config", "/subconfig", "/sub2/config", "/"] {
            assert_eq!(to("GET", path, "/sub"), "404", "{path}");
        }
    }
}
