//! Removes what servers that crashed left of unfinished blobs.

use std::fs::{self, DirEntry, File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::draft::PREFIX;
use super::is_absent;

/// Removes the temporary files below `directory` that no server holds, and tells how many.
///
/// Safe while other servers write there. Blocks for one listing of every directory of blobs.
pub(super) fn sweep(directory: &Path) -> io::Result<u64> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.path().is_dir() {
            continue;
        }
        match sweep_blobs(&entry.path()) {
            Ok(number) => removed += number,
            Err(error) if is_absent(&error) => {}
            Err(error) => tracing::warn!("cannot sweep {}: {error}", entry.path().display()),
        }
    }
    if removed > 0 {
        tracing::info!(
            "removed {removed} unfinished blobs from {}",
            directory.display()
        );
    }
    Ok(removed)
}

fn sweep_blobs(directory: &Path) -> io::Result<u64> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
        {
            continue;
        }
        match remove_leftover(&entry) {
            Ok(true) => removed += 1,
            Ok(false) => {}
            Err(error) if is_absent(&error) => {}
            Err(error) => tracing::warn!("cannot sweep {}: {error}", entry.path().display()),
        }
    }
    if removed > 0 {
        // It was there for the leftovers alone, perhaps; if not, it stays.
        let _ = fs::remove_dir(directory);
    }
    Ok(removed)
}

/// `false` if a server is writing it.
fn remove_leftover(entry: &DirEntry) -> io::Result<bool> {
    let file = File::options()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(entry.path())?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Still locked: a server that has just created it sees that it lost it.
    fs::remove_file(entry.path())?;
    Ok(true)
}
