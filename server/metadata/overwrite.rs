//! Makes room where a database of plikd is to be replaced by another.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::error::During;
use super::layout::{is_bookkeeping, quote};
use super::lock::Lock;
use super::postgres::layouts::layouts;
use super::postgres::writer::SOON;
use super::postgres::{Connector, failure};
use super::table::TABLES;
use super::{MetadataError, OpenMode};
use crate::config::MetadataConfig;

/// Drops the tables of plikd from a PostgreSQL database, all or none, and gives their names. Those
/// of others in the same schema stay.
///
/// # Errors
///
/// [`MetadataError::InUse`] if a server or a migration has the database; any other if a table
/// cannot be dropped, as when one of somebody else refers to it.
pub async fn drop_tables(config: &MetadataConfig) -> Result<Vec<String>, MetadataError> {
    let lock = Lock::take(config, OpenMode::Load).await?;
    let hold = lock.as_ref().and_then(Lock::hold).cloned();
    let connector = Connector::new(config)?.steady().under(hold);
    let label = connector.to_string();
    let client = connector.connect().await?;
    let found = layouts(&client, &label).await?.into_iter();
    let names: Vec<String> = found
        .map(|layout| layout.name)
        .filter(|name| is_of_plikd(name))
        .collect();
    if names.is_empty() {
        return Ok(names);
    }
    let list: Vec<String> = names.iter().map(|name| quote(name)).collect();
    // One statement, so that foreign keys among them are no obstacle. The end of the transaction is
    // a step of its own: where this program has gone meanwhile, nothing has happened.
    let drop = format!("BEGIN; {SOON}; DROP TABLE {}", list.join(", "));
    let dropped = match client.batch_execute(&drop).await {
        Ok(()) => client.batch_execute("COMMIT").await,
        refused => refused,
    };
    let during = During {
        action: "drop the tables of plikd",
        backend: &label,
    };
    dropped
        .map(|()| names)
        .map_err(|error| failure(during, &error))
}

/// Puts the closed SQLite database `new` in the place of the one at `path`, which is kept as `kept`
/// together with its log. On stable storage when this returns; a crash on the way leaves both
/// databases whole, and doing it again finishes it.
pub fn replace_file(new: &Path, path: &Path, kept: &Path) -> Result<(), MetadataError> {
    let replace = || -> io::Result<()> {
        // What a database still has in its log would not come along.
        if std::fs::metadata(beside(new, "-wal")).is_ok_and(|log| log.len() > 0) {
            return Err(io::Error::other(format!(
                "{} is still in use",
                new.display()
            )));
        }
        File::open(new)?.sync_all()?;
        // A log that stayed behind would be replayed into the new database.
        for suffix in ["", "-wal", "-shm"] {
            rename_if_there(&beside(path, suffix), &beside(kept, suffix))?;
        }
        std::fs::rename(new, path)?;
        let directory = path.parent().filter(|path| *path != Path::new(""));
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
        // Nobody locks the old name again.
        remove_if_there(&beside(new, ".lock"))
    };
    let backend = path.display().to_string();
    let during = During {
        action: "put the new database in its place",
        backend: &backend,
    };
    replace().map_err(|error| during.failed(error))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether [`drop_tables`] drops a table of that name.
pub fn is_of_plikd(table: &str) -> bool {
    table == "migrations" || is_bookkeeping(table) || TABLES.iter().any(|known| known.name == table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_kept_with_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let write = |name: &str| std::fs::write(at(name), name).unwrap();
        let read = |name: &str| std::fs::read_to_string(at(name)).ok();
        for name in ["new", "new.lock", "db", "db-wal", "db-shm"] {
            write(name);
        }
        replace_file(&at("new"), &at("db"), &at("old")).unwrap();
        assert_eq!(read("db").as_deref(), Some("new"));
        assert_eq!(read("old").as_deref(), Some("db"));
        assert_eq!(read("old-wal").as_deref(), Some("db-wal"));
        for name in ["new", "new.lock", "db-wal", "db-shm"] {
            assert_eq!(read(name), None, "{name}");
        }
        write("new");
        replace_file(&at("new"), &at("other"), &at("nothing")).unwrap();
        assert_eq!(read("other").as_deref(), Some("new"));
        assert_eq!(read("nothing"), None);
    }

    #[test]
    fn a_database_that_is_not_closed_takes_no_place() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["new", "new-wal", "db"] {
            std::fs::write(at(name), name).unwrap();
        }
        let error = replace_file(&at("new"), &at("db"), &at("old")).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("still in use"), "{cause}");
        assert_eq!(std::fs::read_to_string(at("db")).unwrap(), "db");
    }

    #[test]
    fn only_tables_of_plikd_are_dropped() {
        for name in ["files", "users", "migrations", "plikd_migrate_runs"] {
            assert!(is_of_plikd(name), "{name}");
        }
        for name in ["orders", "file", "plik", "plikd_migrate_notes"] {
            assert!(!is_of_plikd(name), "{name}");
        }
    }
}
