//! Names the blobs of a directory.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::{Store, blocking, is_absent, regular};
use crate::data::name::is_id;
use crate::data::{Listed, Listing};

/// One directory of blobs after the other.
pub(super) fn list(store: &Arc<Store>) -> Listing {
    let store = Arc::clone(store);
    let failed = {
        let store = Arc::clone(&store);
        move |error| store.failed("list its blobs", error)
    };
    let batches = async move {
        let directories = {
            let directory = store.directory.clone();
            blocking(move || directories_in(&directory)).await?
        };
        let batches = futures::stream::iter(directories)
            .then(|directory| blocking(move || blobs_in(&directory, None)));
        io::Result::Ok(batches)
    };
    Box::pin(futures::stream::once(batches).try_flatten().map_err(failed))
}

fn directories_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in entries(directory)? {
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The blobs of one directory; in one that is not of an upload, also those of older releases in the
/// directories of their uploads.
fn blobs_in(directory: &Path, upload_id: Option<&str>) -> io::Result<Vec<Listed>> {
    let mut found = Vec::new();
    for entry in entries(directory)? {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_id(name)) else {
            continue;
        };
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_dir() && upload_id.is_none() {
            found.extend(blobs_in(&entry.path(), Some(name))?);
        } else if let Ok(stat) = regular(&metadata) {
            found.push(Listed {
                file_id: name.to_owned(),
                upload_id: upload_id.map(str::to_owned),
                stat,
            });
        }
    }
    Ok(found)
}

/// Nothing for a directory that went meanwhile, or is still to come.
fn entries(directory: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.collect(),
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
