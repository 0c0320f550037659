//! Where a backend keeps its blobs, to see whether two of them are the same place.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{DataConfig, FileConfig, S3Config};

/// The place of a backend's blobs. Two that [are the same](Location::is_same) share every blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Directory {
        /// Absolute and without symbolic links, as far as it exists.
        path: PathBuf,
        /// Device and inode, if it exists.
        inode: Option<(u64, u64)>,
    },
    Bucket {
        /// `host:port`, in one spelling.
        endpoint: String,
        /// The same as it was configured, to be shown.
        address: String,
        bucket: String,
        prefix: String,
    },
}

impl Location {
    /// The place that `config` names. Nothing is opened or created; of a bucket only the
    /// configuration is looked at, so two names of one S3 host are two places, which
    /// [may be the same](Location::may_be_same).
    pub fn of(config: &DataConfig) -> io::Result<Self> {
        match config {
            DataConfig::File(config) => Self::directory(config),
            DataConfig::S3(config) => Ok(Self::bucket(config)),
        }
    }

    /// Whether both hold the same blobs.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            // A directory mounted twice has two paths and one inode.
            (
                Self::Directory {
                    inode: Some(one), ..
                },
                Self::Directory {
                    inode: Some(other), ..
                },
            ) => one == other,
            _ => self.key() == other.key(),
        }
    }

    /// Whether they may yet be the same although they are not by name: one bucket of one server that
    /// has two names.
    pub fn may_be_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Bucket { bucket, prefix, .. },
                Self::Bucket {
                    bucket: other_bucket,
                    prefix: other_prefix,
                    ..
                },
            ) => (bucket, prefix) == (other_bucket, other_prefix),
            _ => false,
        }
    }

    /// The same text for one place under whatever name, as far as names tell.
    pub fn key(&self) -> String {
        match self {
            Self::Directory { path, .. } => path.display().to_string(),
            Self::Bucket {
                endpoint,
                bucket,
                prefix,
                ..
            } => bucket_name(endpoint, bucket, prefix),
        }
    }

    /// Whether `other` is a directory below this one, at any depth.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory { path: outer, inode }, Self::Directory { path: inner, .. }) => {
                let mut above = inner.ancestors().skip(1);
                // By another mount it has another path, too.
                above.any(|path| path == outer || inode.is_some() && *inode == inode_of(path))
            }
            _ => false,
        }
    }

    fn directory(config: &FileConfig) -> io::Result<Self> {
        let path = canonical(&std::path::absolute(&config.directory)?)?;
        let inode = match fs::metadata(&path) {
            Ok(metadata) => Some(inode_in(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self::Directory { path, inode })
    }

    fn bucket(config: &S3Config) -> Self {
        Self::Bucket {
            endpoint: one_spelling(&config.endpoint, config.use_ssl),
            address: config.endpoint.clone(),
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, .. } => write!(f, "{}", path.display()),
            Self::Bucket {
                address,
                bucket,
                prefix,
                ..
            } => f.write_str(&bucket_name(address, bucket, prefix)),
        }
    }
}

/// A bucket, or what is below a prefix of it, as messages name it.
pub(super) fn bucket_name(server: &str, bucket: &str, prefix: &str) -> String {
    match prefix {
        "" => format!("s3://{server}/{bucket}"),
        prefix => format!("s3://{server}/{bucket}/{prefix}"),
    }
}

/// Device and inode.
fn inode_in(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn inode_of(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| inode_in(&metadata))
}

/// Links are resolved in what exists; what does not cannot be a link.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(canonical(parent)?.join(name))
        }
        (result, _, _) => result,
    }
}

/// `host:port` of an S3 server, the same for all ways to write it.
pub(super) fn one_spelling(endpoint: &str, use_ssl: bool) -> String {
    let endpoint = endpoint.to_ascii_lowercase();
    let (host, port) = match endpoint.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (endpoint.as_str(), if use_ssl { "443" } else { "80" }),
    };
    let host = match host.trim_end_matches('.') {
        "127.0.0.1" | "[::1]" => "localhost",
        host => host,
    };
    format!("{host}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &Path) -> Location {
        Location::of(&DataConfig::File(FileConfig {
            directory: path.to_str().unwrap().into(),
        }))
        .unwrap()
    }

    #[test]
    fn a_directory_is_the_same_by_whatever_path() {
        let temporary = tempfile::tempdir().unwrap();
        let files = temporary.path().join("files");
        let link = temporary.path().join("link");
        let around = temporary.path().join("other/../files/.");
        fs::create_dir(&files).unwrap();
        fs::create_dir(temporary.path().join("other")).unwrap();
        std::os::unix::fs::symlink(&files, &link).unwrap();
        assert!(directory(&files).is_same(&directory(&link)));
        assert!(directory(&files).is_same(&directory(&around)));
        assert!(!directory(&files).is_same(&directory(&temporary.path().join("other"))));
    }

    #[test]
    fn directories_that_do_not_exist_are_compared_by_path() {
        let temporary = tempfile::tempdir().unwrap();
        let link = temporary.path().join("link");
        std::os::unix::fs::symlink(temporary.path(), &link).unwrap();
        let (one, other) = (temporary.path().join("a/b"), link.join("a/b"));
        assert!(directory(&one).is_same(&directory(&other)));
        assert!(!directory(&one).is_same(&directory(&link.join("a/c"))));
    }

    #[test]
    fn a_directory_contains_what_is_below_it_and_not_itself() {
        let temporary = tempfile::tempdir().unwrap();
        let link = temporary.path().join("link");
        std::os::unix::fs::symlink(temporary.path(), &link).unwrap();
        let files = directory(&temporary.path().join("files"));
        assert!(files.contains(&directory(&link.join("files/a/b"))));
        for apart in ["files", "files2", "other", "."] {
            assert!(!files.contains(&directory(&link.join(apart))), "{apart}");
        }
    }

    #[test]
    fn a_bucket_is_shown_as_it_was_configured_and_is_the_same_by_any_name() {
        let at = |address: &str| Location::Bucket {
            endpoint: one_spelling(address, false),
            address: address.to_owned(),
            bucket: "b".to_owned(),
            prefix: String::new(),
        };
        let (one, other) = (at("127.0.0.1:9000"), at("localhost:9000"));
        assert_eq!(one.to_string(), "s3://127.0.0.1:9000/b");
        assert!(one.is_same(&other) && one.key() == other.key());
        assert!(!one.is_same(&at("localhost:9001")));
    }

    #[test]
    fn an_endpoint_has_one_spelling() {
        assert_eq!(one_spelling("S3.Example.org.", true), "s3.example.org:443");
        assert_eq!(
            one_spelling("s3.example.org:443", true),
            "s3.example.org:443"
        );
        assert_eq!(one_spelling("127.0.0.1:9000", false), "localhost:9000");
        assert_eq!(one_spelling("minio", false), "minio:80");
    }
}
