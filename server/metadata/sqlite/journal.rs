//! The files that SQLite keeps beside a database that is open, or was not closed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Whether there is a write-ahead log with something in it that is not in the database yet.
pub fn has_log(database: &Path) -> bool {
    fs::metadata(beside(database, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// Whether there is a rollback journal that is not empty and not zeroed, as SQLite leaves one that
/// it has done with. Whoever wrote it is in the middle of a transaction, or died there; which of
/// both, SQLite finds out from its locks.
pub fn may_be_in_a_transaction(database: &Path) -> bool {
    let mut first = [0];
    let journal = File::open(beside(database, "-journal"));
    match journal.and_then(|mut journal| journal.read_exact(&mut first)) {
        Ok(()) => first != [0],
        // One that may not be read is taken for one that counts, as SQLite does.
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof),
    }
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
