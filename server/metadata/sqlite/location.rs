//! Where a SQLite database is: the connection string of Plik, read as its Go driver reads it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::files;
use crate::metadata::MetadataError;

/// How long to wait for a lock, unless `_busy_timeout` says otherwise.
const BUSY_TIMEOUT: Duration = Duration::from_millis(5000);

/// A file, and the parameters after `?` that matter: `_busy_timeout` (or `_timeout`), in
/// milliseconds, and `mode`. The others of the Go driver have no effect here: foreign keys are
/// never enforced, every transaction takes the write lock at its beginning, the log is WAL, and
/// times carry their offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// As it was given, for messages.
    pub path: PathBuf,
    /// The file itself, without symbolic links. SQLite names its logs after this one, so whatever
    /// is opened, or lies beside the database, is named after it: one file has one of each,
    /// whichever of its names was given.
    pub file: PathBuf,
    pub busy_timeout: Duration,
    /// A missing file is created; not with `mode=rw`.
    pub may_create: bool,
    /// `mode=ro`: opening it to write is an error.
    pub read_only: bool,
}

impl Location {
    /// # Errors
    ///
    /// [`MetadataError::Config`] for a database in memory, which would vanish.
    pub fn parse(connection_string: &str) -> Result<Self, MetadataError> {
        if is_of_another_engine(connection_string) {
            // Taken for a file name it would be shown, with its password.
            return Err(MetadataError::Config(
                "ConnectionString is one of another engine, but Driver is sqlite3".to_owned(),
            ));
        }
        let (name, parameters) = connection_string
            .split_once('?')
            .unwrap_or((connection_string, ""));
        let path = match name.strip_prefix("file:") {
            Some(uri) => uri_path(uri)?,
            None => PathBuf::from(name),
        };
        if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
            return Err(vanishing());
        }
        let mut location = Self {
            file: files::resolved(&path),
            path,
            busy_timeout: BUSY_TIMEOUT,
            may_create: true,
            read_only: false,
        };
        for parameter in parameters.split('&') {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            location.apply(key, value)?;
        }
        Ok(location)
    }

    fn apply(&mut self, key: &str, value: &str) -> Result<(), MetadataError> {
        match (key, value) {
            ("_busy_timeout" | "_timeout", milliseconds) => {
                let milliseconds = milliseconds.parse().map_err(|_| {
                    MetadataError::Config(format!(
                        "{key} of the SQLite database is `{milliseconds}`, not a number of \
                         milliseconds"
                    ))
                })?;
                self.busy_timeout = Duration::from_millis(milliseconds);
            }
            ("mode", "memory") => return Err(vanishing()),
            ("mode", "ro") => self.read_only = true,
            ("mode", "rw") => self.may_create = false,
            _ => {}
        }
        Ok(())
    }
}

fn is_of_another_engine(connection_string: &str) -> bool {
    let lower = connection_string.to_ascii_lowercase();
    let url = lower.starts_with("postgres://") || lower.starts_with("postgresql://");
    let keywords = lower.split_whitespace().any(|word| {
        ["host=", "dbname=", "user=", "password="]
            .iter()
            .any(|keyword| word.starts_with(keyword))
    });
    url || keywords || lower.contains("@tcp(") || lower.contains("@unix(")
}

/// `file:relative`, `file:/absolute`, `file:///absolute` or `file://localhost/absolute`.
fn uri_path(uri: &str) -> Result<PathBuf, MetadataError> {
    let path = match uri.strip_prefix("//") {
        None => uri,
        Some(rest) => match rest.split_once('/') {
            Some(("" | "localhost", _)) => &rest[rest.find('/').unwrap_or(0)..],
            _ => {
                return Err(MetadataError::Config(
                    "the file: URI of the SQLite database names another host".to_owned(),
                ));
            }
        },
    };
    Ok(PathBuf::from(
        percent_decode_str(path).decode_utf8_lossy().as_ref(),
    ))
}

fn vanishing() -> MetadataError {
    MetadataError::Config(
        "a SQLite database in memory would lose everything at the end of the program: name a file"
            .to_owned(),
    )
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite {}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn path(connection_string: &str) -> String {
        let location = Location::parse(connection_string).unwrap();
        location.path.to_string_lossy().into_owned()
    }

    #[test]
    fn the_file_is_found_in_every_spelling() {
        assert_eq!(path("plik.db"), "plik.db");
        assert_eq!(path("/var/lib/a b%20.db"), "/var/lib/a b%20.db");
        assert_eq!(path("plik.db?_fk=1&_busy_timeout=5000"), "plik.db");
        assert_eq!(path("file:plik.db?cache=shared&mode=rwc"), "plik.db");
        assert_eq!(path("file:/var/a%20b.db"), "/var/a b.db");
        assert_eq!(path("file:///var/plik.db"), "/var/plik.db");
        assert_eq!(
            path("file://localhost/var/plik.db?_txlock=immediate"),
            "/var/plik.db"
        );
    }

    #[test]
    fn every_name_of_a_file_leads_to_it_before_it_is_there_too() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let at = |name: &str| root.join(name);
        fs::create_dir(at("real")).unwrap();
        let links = [
            ("dir", at("real")),
            ("link.db", at("real/plik.db")),
            ("relative.db", "real/plik.db".into()),
            ("chain.db", "link.db".into()),
            ("ring.db", "ring.db".into()),
        ];
        for (name, target) in links {
            std::os::unix::fs::symlink(target, at(name)).unwrap();
        }
        let file = |name: &str| Location::parse(at(name).to_str().unwrap()).unwrap().file;
        for _ in 0..2 {
            for name in [
                "real/plik.db",
                "dir/plik.db",
                "real/../dir/plik.db",
                "link.db",
                "relative.db",
                "chain.db",
            ] {
                assert_eq!(file(name), at("real/plik.db"), "{name}");
            }
            fs::write(at("real/plik.db"), "").unwrap();
        }
        for name in ["ring.db", "not/there.db"] {
            assert_eq!(file(name), at(name));
        }
    }

    #[test]
    fn the_parameters_that_matter_are_read_and_others_ignored() {
        let location =
            Location::parse("a.db?_loc=auto&_journal_mode=DELETE&x&_busy_timeout=70&mode=rw")
                .unwrap();
        assert_eq!(location.busy_timeout, Duration::from_millis(70));
        assert!(!location.may_create);
        let location = Location::parse("a.db").unwrap();
        assert_eq!(location.busy_timeout, Duration::from_secs(5));
        assert!(location.may_create);
    }

    #[test]
    fn a_database_that_would_vanish_or_lies_elsewhere_is_refused() {
        for text in [
            "",
            ":memory:",
            "file::memory:?cache=shared",
            "file:x?mode=memory",
            "file://elsewhere/x.db",
            "postgres://u:hush@h/x",
            "host=h password=hush",
            "u:hush@tcp(h)/x",
            "x.db?_busy_timeout=soon",
        ] {
            let error = Location::parse(text).unwrap_err();
            assert!(matches!(error, MetadataError::Config(_)), "{text}: {error}");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}
