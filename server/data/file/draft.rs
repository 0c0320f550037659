//! A blob being written: under a temporary name until all of it is on stable storage.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::Store;
use crate::model::id;

/// Begins a temporary name. No id begins so, hence no blob is ever served from one.
pub(super) const PREFIX: &str = ".upload-";
/// What is written at once, on a blocking thread, while as much is gathered for the next time.
const BATCH_BYTES: usize = 256 << 10;
/// How often the directory may be removed under a new file, as the one that another file was the
/// last in.
const ATTEMPTS: usize = 64;

/// A temporary file, locked as long as it is one. Dropping it removes it, and its directory if
/// nothing else is in it.
struct Draft {
    store: Arc<Store>,
    file: File,
    path: PathBuf,
    published: bool,
}

impl Draft {
    fn create(store: &Arc<Store>, directory: &Path) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            store.create_directory(directory)?;
            let name = format!("{PREFIX}{}", id::alphanumeric(20, &mut rand::rng()));
            let path = directory.join(name);
            match File::options()
                .write(true)
                .create_new(true)
                .mode(0o666)
                .open(&path)
            {
                Ok(file) => {
                    let draft = Self {
                        store: Arc::clone(store),
                        file,
                        path,
                        published: false,
                    };
                    if draft.lock()? {
                        return Ok(draft);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("its directory is removed again and again"))
    }

    /// Tells sweeps that the file is in use. `false`: one was faster, and has removed it.
    fn lock(&self) -> io::Result<bool> {
        match self.file.lock() {
            // A file system without locks has sweeps that cannot lock either, and remove nothing.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOLCK) => return Ok(true),
            result => result?,
        }
        Ok(self.file.metadata()?.nlink() > 0)
    }

    /// Gives the file its name, in place of any other of that name.
    fn publish(mut self, path: &Path) -> io::Result<()> {
        // Not later again if this fails: the kernel tells of lost pages only once.
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        self.published = true;
        match path.parent() {
            Some(directory) => self.store.sync_directory(directory),
            None => Ok(()),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
        if let Some(directory) = self.path.parent() {
            self.store.remove_directory(directory);
        }
    }
}

/// Writes a draft in batches on blocking threads, one at a time; none is held while the caller
/// waits for bytes. Dropping it removes the draft.
pub(super) struct DraftWriter {
    store: Arc<Store>,
    path: PathBuf,
    /// Created with the first batch: a small blob is one job.
    draft: Option<Draft>,
    batch: Vec<u8>,
    job: Option<Job>,
}

/// Gives back the draft, and the batch as an empty buffer.
type Job = JoinHandle<io::Result<(Draft, Vec<u8>)>>;

impl DraftWriter {
    /// A writer for the blob at `path`, below the store's directory.
    pub fn new(store: Arc<Store>, path: PathBuf) -> Self {
        Self {
            path: store.directory.join(path),
            store,
            draft: None,
            batch: Vec::new(),
            job: None,
        }
    }

    pub async fn write(&mut self, mut chunk: &[u8]) -> io::Result<()> {
        while !chunk.is_empty() {
            let room = BATCH_BYTES - self.batch.len();
            let (now, later) = chunk.split_at(chunk.len().min(room));
            self.batch.extend_from_slice(now);
            chunk = later;
            if self.batch.len() == BATCH_BYTES {
                self.write_batch().await?;
            }
        }
        Ok(())
    }

    async fn write_batch(&mut self) -> io::Result<()> {
        let spare = self.wait().await?;
        let mut batch = std::mem::replace(&mut self.batch, spare);
        let draft = self.draft.take();
        let (store, path) = (Arc::clone(&self.store), self.path.clone());
        self.job = Some(tokio::task::spawn_blocking(move || {
            let mut draft = created(draft, &store, &path)?;
            draft.file.write_all(&batch)?;
            batch.clear();
            Ok((draft, batch))
        }));
        Ok(())
    }

    /// Writes `part` as it is, after what was written before. Not to be mixed with
    /// [`write`](Self::write).
    pub async fn append(&mut self, part: Bytes) -> io::Result<()> {
        self.wait().await?;
        let draft = self.draft.take();
        let (store, path) = (Arc::clone(&self.store), self.path.clone());
        self.job = Some(tokio::task::spawn_blocking(move || {
            let mut draft = created(draft, &store, &path)?;
            draft.file.write_all(&part)?;
            Ok((draft, Vec::new()))
        }));
        Ok(())
    }

    /// Writes the last part as [`append`](Self::append) does, and publishes at once: of a small blob
    /// all is one job.
    pub async fn publish_after(mut self, last: Bytes) -> io::Result<()> {
        self.wait().await?;
        let draft = self.draft.take();
        let (store, path) = (Arc::clone(&self.store), self.path.clone());
        super::blocking(move || {
            let mut draft = created(draft, &store, &path)?;
            draft.file.write_all(&last)?;
            draft.publish(&path)
        })
        .await
    }

    /// Waits for the job in flight, and gives back its empty buffer.
    async fn wait(&mut self) -> io::Result<Vec<u8>> {
        let Some(job) = &mut self.job else {
            return Ok(Vec::new());
        };
        let done = job.await;
        self.job = None;
        let (draft, spare) = done.map_err(io::Error::other)??;
        self.draft = Some(draft);
        Ok(spare)
    }

    /// Writes the rest, makes it durable and visible.
    pub async fn publish(mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.batch);
        self.publish_after(rest.into()).await
    }
}

fn created(draft: Option<Draft>, store: &Arc<Store>, path: &Path) -> io::Result<Draft> {
    match (draft, path.parent()) {
        (Some(draft), _) => Ok(draft),
        (None, Some(directory)) => Draft::create(store, directory),
        (None, None) => Err(io::ErrorKind::InvalidFilename.into()),
    }
}

impl Drop for DraftWriter {
    fn drop(&mut self) {
        // To remove a large file takes a while; a job in flight does it when it ends.
        if let Some(draft) = self.draft.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(draft));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Tuning;
    use std::sync::Mutex;

    #[test]
    fn a_draft_is_created_while_another_takes_the_directory_along() {
        let around = tempfile::tempdir().unwrap();
        let store = Arc::new(Store {
            tuning: Tuning::default(),
            directory: around.path().to_owned(),
            durable: Mutex::default(),
        });
        let directory = around.path().join("aa");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..3000 {
                        drop(Draft::create(&store, &directory).unwrap());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(around.path()).unwrap().count(), 0);
    }
}
