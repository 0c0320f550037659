//! Where a database is, for a person and for checks before anything is opened.

use std::path::PathBuf;

use super::postgres::{Connector, Settings};
use super::sqlite::Location;
use crate::config::{Driver, MetadataConfig};

/// The database as messages name it, never with a password.
pub fn name_of(config: &MetadataConfig) -> String {
    let name = match config.driver {
        Driver::Sqlite => {
            Location::parse(config.connection_string.expose()).map(|location| location.to_string())
        }
        Driver::Postgres => Connector::new(config).map(|connector| connector.to_string()),
    };
    name.unwrap_or_else(|_| "database".to_owned())
}

/// The database as a server says at its start what it uses, never with a password.
pub fn announcement(config: &MetadataConfig) -> String {
    match config.driver {
        Driver::Sqlite => {
            let path = sqlite_name(config).unwrap_or_default();
            format!("SQLite: {}", path.display())
        }
        Driver::Postgres => {
            let url = Settings::parse(config.connection_string.expose());
            format!(
                "Postgres: {}",
                url.map(|url| url.shown()).unwrap_or_default()
            )
        }
    }
}

/// Bytes that can still be written where the database is; `None` for one behind a network.
pub fn free_bytes(config: &MetadataConfig) -> Option<u64> {
    let space = rustix::fs::statvfs(&directory_of(config)?).ok()?;
    Some(space.f_bavail * space.f_frsize)
}

/// The file system that the database is on; `None` for one behind a network.
pub fn device(config: &MetadataConfig) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(directory_of(config)?).ok()?;
    Some(found.dev())
}

fn directory_of(config: &MetadataConfig) -> Option<PathBuf> {
    let path = sqlite_path(config)?;
    Some(match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    })
}

/// Bytes that the database's file has; 0 if there is none.
pub fn file_size(config: &MetadataConfig) -> u64 {
    sqlite_path(config)
        .and_then(|path| std::fs::metadata(path).ok())
        .map_or(0, |found| found.len())
}

/// Whether both name one SQLite file, which may have several names. Nothing is opened: SQLite
/// itself would take two names for two databases.
pub fn is_same_file(one: &MetadataConfig, other: &MetadataConfig) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |config| {
        let found = std::fs::metadata(sqlite_path(config)?).ok()?;
        Some((found.dev(), found.ino()))
    };
    inode(one).is_some_and(|inode_of_one| inode(other) == Some(inode_of_one))
}

/// The file of a SQLite database, which is the same whichever of its names was given; `None` for
/// PostgreSQL.
pub fn sqlite_path(config: &MetadataConfig) -> Option<PathBuf> {
    location(config).map(|location| location.file)
}

/// The name of a SQLite database as it was given, for messages; `None` for PostgreSQL.
pub fn sqlite_name(config: &MetadataConfig) -> Option<PathBuf> {
    location(config).map(|location| location.path)
}

/// Where a SQLite database is; `None` for PostgreSQL, and for a text that names no file.
pub(super) fn location(config: &MetadataConfig) -> Option<Location> {
    match config.driver {
        Driver::Sqlite => Location::parse(config.connection_string.expose()).ok(),
        Driver::Postgres => None,
    }
}
