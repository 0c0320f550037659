//! Blobs as files of a directory: `<directory>/<first 2 characters of the id>/<id>`.

mod draft;
mod list;
mod reader;
mod sweep;
mod transfer;

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use futures::StreamExt;
use rustix::fs::Access as Right;

use super::error::is_transient;
use super::name::BlobName;
use super::{
    Access, Blob, BlobReader, BlobRef, BlobStat, ByteStream, DataBackend, DataError, Listing,
    Stored, Transfer, Tuning, Unfinished,
};
use crate::config::FileConfig;
use draft::DraftWriter;

/// See the module: `open` makes one, and it can be shared with other servers.
pub(super) struct FileBackend {
    store: Arc<Store>,
    absent: bool,
}

/// What blocking jobs need of the backend.
struct Store {
    directory: PathBuf,
    tuning: Tuning,
    /// Directories of blobs whose own entry is known to be on stable storage.
    durable: Mutex<HashMap<PathBuf, Birth>>,
}

/// Tells a directory from one that another server removed and created again.
#[derive(PartialEq, Eq)]
struct Birth {
    inode: u64,
    /// Inodes are used again; not every file system knows this time.
    created: Option<SystemTime>,
}

impl Birth {
    fn of(directory: &fs::Metadata) -> Self {
        Self {
            inode: directory.ino(),
            created: directory.created().ok(),
        }
    }
}

impl FileBackend {
    pub async fn open_with(
        config: &FileConfig,
        access: Access,
        tuning: Tuning,
    ) -> Result<Self, DataError> {
        let store = Arc::new(Store {
            directory: PathBuf::from(&config.directory),
            tuning,
            durable: Mutex::default(),
        });
        let absent = blocking({
            let store = Arc::clone(&store);
            move || store.open(access)
        })
        .await
        .map_err(|error| store.failed("open it", error))?;
        Ok(Self { store, absent })
    }

    async fn run<T: Send + 'static>(
        &self,
        action: &str,
        job: impl FnOnce(&Store) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DataError> {
        let store = Arc::clone(&self.store);
        blocking(move || job(&store))
            .await
            .map_err(|error| self.store.failed(action, error))
    }
}

/// Runs `job` on a blocking thread. Short jobs only: a slow peer must not hold a thread.
async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(job)
        .await
        .map_err(io::Error::other)?
}

impl FileBackend {
    /// Opens a blob with `open`, which answers `None` if there is none.
    async fn read<T: Send + 'static>(
        &self,
        blob: &BlobRef,
        open: impl FnOnce(&Store, &BlobName) -> io::Result<Option<T>> + Send + 'static,
    ) -> Result<T, DataError> {
        let name = BlobName::of(blob)?;
        let action = format!("read blob {}", name.id());
        let found = self
            .run(&action, {
                let name = name.clone();
                move |store| open(store, &name)
            })
            .await?;
        found.ok_or_else(|| DataError::NotFound {
            id: name.id().to_owned(),
            backend: self.to_string(),
        })
    }
}

impl Store {
    /// Whether the directory is absent, and stays so.
    fn open(&self, access: Access) -> io::Result<bool> {
        if access == Access::Serve {
            create_durably(&self.directory)?;
        }
        let absent = match fs::metadata(&self.directory) {
            Ok(metadata) if metadata.is_dir() => false,
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        if access != Access::ReadOnly {
            self.check_writable()?;
        } else if !absent {
            rustix::fs::access(&self.directory, Right::READ_OK | Right::EXEC_OK)?;
        }
        if access == Access::Serve {
            sweep::sweep(&self.directory)?;
        }
        Ok(absent)
    }

    /// Asks the system: writing to find out would change something.
    fn check_writable(&self) -> io::Result<()> {
        let directory = std::path::absolute(&self.directory)?;
        // What will be created is created in the nearest directory that exists.
        let nearest = directory.ancestors().find(|path| path.exists());
        rustix::fs::access(
            nearest.unwrap_or(&directory),
            Right::WRITE_OK | Right::EXEC_OK,
        )?;
        Ok(())
    }

    /// Creates the directory of a blob, if it is absent.
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_durably(&self.directory)?;
                fs::create_dir_all(directory)
            }
            result => result,
        }
    }

    /// Makes the entries of a blob's directory durable, and its own entry.
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let file = match File::open(directory) {
            Ok(file) => file,
            // The blob was removed by another call already, and this with it.
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        file.sync_all()?;
        let birth = Birth::of(&file.metadata()?);
        if self.durable().get(directory) == Some(&birth) {
            return Ok(());
        }
        File::open(&self.directory)?.sync_all()?;
        self.durable().insert(directory.to_owned(), birth);
        Ok(())
    }

    /// Removes a directory of blobs if it is empty, and tells whether it was.
    fn remove_directory(&self, directory: &Path) -> bool {
        self.durable().remove(directory);
        fs::remove_dir(directory).is_ok()
    }

    fn durable(&self) -> MutexGuard<'_, HashMap<PathBuf, Birth>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stat(&self, name: &BlobName) -> io::Result<Option<BlobStat>> {
        let found = self.found(name)?;
        found.map(|(_, metadata)| regular(&metadata)).transpose()
    }

    /// A path as people can use it, wherever they are.
    fn shown(&self, path: &Path) -> String {
        let path = self.directory.join(path);
        let absolute = std::path::absolute(&path).unwrap_or(path);
        absolute.display().to_string()
    }

    /// The first of the names of a blob under which there is something, whatever it is.
    fn found(&self, name: &BlobName) -> io::Result<Option<(PathBuf, fs::Metadata)>> {
        for path in [name.path(), name.old_path()] {
            match fs::symlink_metadata(self.directory.join(&path)) {
                Ok(metadata) => return Ok(Some((path, metadata))),
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn remove(&self, name: &BlobName) -> io::Result<()> {
        self.remove_path(&name.path())?;
        self.remove_path(&name.old_path())
    }

    /// Removes a file and the directories that this leaves empty.
    fn remove_path(&self, path: &Path) -> io::Result<()> {
        let full = self.directory.join(path);
        match fs::remove_file(&full) {
            Err(error) if is_absent(&error) => return Ok(()),
            result => result?,
        }
        for parent in path.ancestors().skip(1).filter(|p| p.as_os_str() != "") {
            let parent = self.directory.join(parent);
            if !self.remove_directory(&parent) {
                // It stays, and what was removed from it is made durable.
                return match File::open(&parent) {
                    Ok(directory) => directory.sync_all(),
                    // Another call removed it, and makes that durable.
                    Err(error) if is_absent(&error) => Ok(()),
                    Err(error) => Err(error),
                };
            }
        }
        File::open(&self.directory)?.sync_all()
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let directory = std::path::absolute(&self.directory)?;
        let nearest = directory.ancestors().find(|path| path.exists());
        let space = rustix::fs::statvfs(nearest.unwrap_or(&directory))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn failed(&self, action: &str, error: io::Error) -> DataError {
        let (action, backend) = (action.to_owned(), self.to_string());
        let source = Box::new(error);
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DataError::Full {
                action,
                backend,
                source,
            },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                DataError::Denied {
                    action,
                    backend,
                    source,
                }
            }
            // A network file system whose server is away for a moment.
            _ if is_transient(&source) => DataError::Passing {
                action,
                backend,
                source,
            },
            _ => DataError::Failed {
                action,
                backend,
                source,
            },
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "directory {}", self.directory.display())
    }
}

impl fmt::Display for FileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

/// Creates a directory and those above it, each with its entry on stable storage. Nobody but the
/// owner can look into new ones: they hold what users did not mean for everybody on the machine.
fn create_durably(directory: &Path) -> io::Result<()> {
    let directory = std::path::absolute(directory)?;
    let missing: Vec<&Path> = directory.ancestors().take_while(|p| !p.exists()).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)?;
    for created in missing {
        if let Some(parent) = created.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

/// No file of that name, or not even a directory for it.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// A blob is a regular file: anything else there was not put there by a server.
fn regular(metadata: &fs::Metadata) -> io::Result<BlobStat> {
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(BlobStat {
        size_bytes: metadata.len(),
        md5: None,
    })
}

#[async_trait]
impl DataBackend for FileBackend {
    async fn put(
        &self,
        blob: &BlobRef,
        mut body: ByteStream,
        size_bytes: Option<u64>,
    ) -> Result<Stored, DataError> {
        let name = BlobName::of(blob)?;
        let wrong_size = |actual| DataError::WrongSize {
            id: name.id().to_owned(),
            expected: size_bytes.unwrap_or_default(),
            actual,
        };
        let failed = |error| {
            self.store
                .failed(&format!("write blob {}", name.id()), error)
        };
        let mut writer = DraftWriter::new(Arc::clone(&self.store), name.path());
        let mut received = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|source| DataError::Body {
                id: name.id().to_owned(),
                source,
            })?;
            received += chunk.len() as u64;
            if size_bytes.is_some_and(|expected| received > expected) {
                return Err(wrong_size(received));
            }
            writer.write(&chunk).await.map_err(failed)?;
        }
        if size_bytes.is_some_and(|expected| received != expected) {
            return Err(wrong_size(received));
        }
        writer.publish().await.map_err(failed)?;
        Ok(Stored {
            size_bytes: received,
            details: blob.details.clone(),
        })
    }

    async fn put_all_of(&self, blob: &BlobRef, transfer: Transfer) -> Result<Stored, DataError> {
        let name = BlobName::of(blob)?;
        let size_bytes = transfer::store(&self.store, &name, transfer).await?;
        Ok(Stored {
            size_bytes,
            details: blob.details.clone(),
        })
    }

    /// A blob that is not whole is a file that the next start sweeps away: nothing is gone on in.
    async fn give_up(&self, _upload: &Unfinished) -> Result<(), DataError> {
        Ok(())
    }

    async fn reader(
        &self,
        blob: &BlobRef,
        _size_hint: u64,
    ) -> Result<Arc<dyn BlobReader>, DataError> {
        let reader = self.read(blob, reader::open_reader).await?;
        Ok(Arc::new(reader))
    }

    async fn get(&self, blob: &BlobRef, range: Option<Range<u64>>) -> Result<Blob, DataError> {
        self.read(blob, |store, name| reader::open(store, name, range))
            .await
    }

    async fn stat(&self, blob: &BlobRef) -> Result<Option<BlobStat>, DataError> {
        let name = BlobName::of(blob)?;
        let action = format!("look up blob {}", name.id());
        self.run(&action, move |store| store.stat(&name)).await
    }

    fn place(&self, blob: &BlobRef) -> Option<String> {
        Some(self.store.shown(&BlobName::of(blob).ok()?.path()))
    }

    async fn found_at(&self, blob: &BlobRef) -> Option<String> {
        let name = BlobName::of(blob).ok()?;
        let look = move |store: &Store| Ok(store.found(&name)?.map(|(path, _)| store.shown(&path)));
        self.run("look for a blob", look).await.ok().flatten()
    }

    fn list(&self) -> Listing {
        list::list(&self.store)
    }

    async fn remove(&self, blob: &BlobRef) -> Result<(), DataError> {
        let name = BlobName::of(blob)?;
        let action = format!("remove blob {}", name.id());
        self.run(&action, move |store| store.remove(&name)).await
    }

    async fn available_bytes(&self) -> Result<Option<u64>, DataError> {
        self.run("tell its free space", Store::available_bytes)
            .await
            .map(Some)
    }

    fn is_absent(&self) -> bool {
        self.absent
    }
}

#[cfg(test)]
mod tests;
