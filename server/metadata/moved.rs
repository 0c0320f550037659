//! The marker beside a SQLite database that was moved to PostgreSQL, so that no server goes on
//! with the old data by mistake.

use std::path::{Path, PathBuf};

use super::MetadataError;
use super::error::During;
use super::place::{sqlite_name, sqlite_path};
use crate::config::MetadataConfig;
use crate::model::Timestamp;

/// `<database>.moved`: when the database was moved, and to where.
pub struct MovedMarker {
    database: PathBuf,
    path: PathBuf,
}

impl MovedMarker {
    /// The marker of that database, whether it is there or not. `None` for PostgreSQL.
    pub fn of(config: &MetadataConfig) -> Option<Self> {
        let mut path = sqlite_path(config)?.into_os_string();
        path.push(".moved");
        Some(Self {
            database: sqlite_name(config)?,
            path: path.into(),
        })
    }

    /// The database that it stands beside, as it was named, for messages.
    pub fn database(&self) -> &Path {
        &self.database
    }

    /// When the database was moved, if it was.
    ///
    /// # Errors
    ///
    /// If the marker is there but cannot be read: nobody knows then that going on is safe.
    pub fn read(&self) -> Result<Option<String>, MetadataError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text.lines().next().unwrap_or_default().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read its marker", error)),
        }
    }

    /// Says that the database was moved to `target` at `time`. On stable storage when this
    /// returns.
    pub fn write(&self, time: Timestamp, target: &str) -> Result<(), MetadataError> {
        use std::io::Write;
        let write = || {
            let mut file = std::fs::File::create(&self.path)?;
            writeln!(file, "{time}\n{target}")?;
            file.sync_all()?;
            self.sync_directory()
        };
        write().map_err(|error| self.failed("mark it as moved", error))
    }

    /// Takes the marker away; one that is not there is no error.
    pub fn remove(&self) -> Result<(), MetadataError> {
        let removed = match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.and_then(|()| self.sync_directory()),
        };
        removed.map_err(|error| self.failed("remove its marker", error))
    }

    fn sync_directory(&self) -> std::io::Result<()> {
        let directory = self.path.parent().filter(|path| *path != Path::new(""));
        std::fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn failed(&self, action: &str, error: std::io::Error) -> MetadataError {
        During {
            action,
            backend: &self.database.display().to_string(),
        }
        .failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};

    #[test]
    fn a_marker_says_when_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plik.db");
        let config = format!("ConnectionString = {path:?}");
        let file = directory.path().join("plikd.cfg");
        std::fs::write(&file, format!("[MetadataBackendConfig]\n{config}\n")).unwrap();
        let loaded = load(Some(&file), &Environment::default()).unwrap();
        let marker = MovedMarker::of(&loaded.config.metadata).unwrap();
        assert_eq!(marker.read().unwrap(), None);
        marker.remove().unwrap();
        let time = "2026-01-02T03:04:05Z".parse().unwrap();
        marker.write(time, "postgres db:5432/plik").unwrap();
        assert_eq!(
            marker.read().unwrap().as_deref(),
            Some("2026-01-02T03:04:05Z")
        );
        assert!(directory.path().join("plik.db.moved").exists());
        marker.remove().unwrap();
        assert_eq!(marker.read().unwrap(), None);
    }
}
