//! A blob being read: a chunk ahead of whoever reads it, and no thread held in between.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use rustix::fs::{Advice, fadvise};
use tokio::task::JoinHandle;

use super::super::buffers::Buffer;
use super::super::name::BlobName;
use super::super::{Blob, BlobReader};
use super::{Store, blocking, is_absent, regular};

/// What is read at once. One is on its way to the reader while the next is read.
const CHUNK_BYTES: u64 = 128 << 10;

/// Opens a blob where it is, or where releases before 1.3 put it. `None` if it is in neither.
///
/// Blocks. Needs a tokio runtime only when the stream is read.
pub(super) fn open(
    store: &Store,
    name: &BlobName,
    range: Option<Range<u64>>,
) -> io::Result<Option<Blob>> {
    let spare_cache = store.tuning.spares_page_cache();
    match open_either(&store.directory, name)? {
        Some((file, size_bytes)) => blob(file, size_bytes, range, spare_cache).map(Some),
        None => Ok(None),
    }
}

/// As [`open`], to be read at any offset.
pub(super) fn open_reader(store: &Store, name: &BlobName) -> io::Result<Option<FileReader>> {
    let opened = open_either(&store.directory, name)?;
    Ok(opened.map(|(file, size_bytes)| FileReader {
        file: Arc::new(file),
        size_bytes,
        spare_cache: store.tuning.spares_page_cache(),
    }))
}

/// An open file: it stays the same one when another takes its name.
pub(super) struct FileReader {
    file: Arc<File>,
    size_bytes: u64,
    /// As in [`Source`].
    spare_cache: bool,
}

#[async_trait]
impl BlobReader for FileReader {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn read(&self, offset: u64, mut buffer: Buffer) -> io::Result<Buffer> {
        let (file, spare_cache) = (Arc::clone(&self.file), self.spare_cache);
        blocking(move || {
            file.read_exact_at(buffer.bytes_mut(), offset)?;
            if spare_cache {
                forget_pages(&file, offset, buffer.length() as u64);
            }
            Ok(buffer)
        })
        .await
    }
}

/// Lets go of what was read. Advice only: a file system that takes none keeps its pages.
fn forget_pages(file: &File, offset: u64, length: u64) {
    if let Some(length) = NonZeroU64::new(length) {
        let _ = fadvise(file, offset, Some(length), Advice::DontNeed);
    }
}

/// The blob's file and its size, by the newer or the older name.
fn open_either(directory: &Path, name: &BlobName) -> io::Result<Option<(File, u64)>> {
    for path in [name.path(), name.old_path()] {
        match open_file(&directory.join(path)) {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let file = File::options()
        .read(true)
        // Whatever else may lie there is neither followed nor waited for.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let stat = regular(&file.metadata()?)?;
    Ok((file, stat.size_bytes))
}

fn blob(
    mut file: File,
    size_bytes: u64,
    range: Option<Range<u64>>,
    spare_cache: bool,
) -> io::Result<Blob> {
    let range = range.unwrap_or(0..size_bytes);
    if range.start > range.end || range.end > size_bytes {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "bytes {}..{} are not within its {size_bytes}",
                range.start, range.end
            ),
        ));
    }
    file.seek(SeekFrom::Start(range.start))?;
    let source = Source {
        file,
        offset: range.start,
        left: range.end - range.start,
        spare_cache,
    };
    let first = Chunk::read(source)?;
    Ok(Blob {
        size_bytes,
        body: Box::pin(chunks(first)),
    })
}

/// What is still to be read.
struct Source {
    file: File,
    offset: u64,
    left: u64,
    /// Lets go of each chunk's pages: a server on this machine has better use for the memory.
    spare_cache: bool,
}

/// A chunk, and what is left to read after it.
struct Chunk {
    bytes: Bytes,
    rest: Source,
}

impl Chunk {
    fn read(mut source: Source) -> io::Result<Self> {
        let wanted = source.left.min(CHUNK_BYTES);
        let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        (&source.file).take(wanted).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < wanted {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the file ends {} bytes before its length", source.left),
            ));
        }
        if source.spare_cache {
            forget_pages(&source.file, source.offset, wanted);
        }
        source.offset += wanted;
        source.left -= wanted;
        Ok(Self {
            bytes: bytes.into(),
            rest: source,
        })
    }
}

enum Ahead {
    Read(Chunk),
    Reading(JoinHandle<io::Result<Chunk>>),
    End,
}

fn chunks(first: Chunk) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures::stream::unfold(Ahead::Read(first), |ahead| async {
        let chunk = match ahead {
            Ahead::Read(chunk) => Ok(chunk),
            Ahead::Reading(job) => job
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error))),
            Ahead::End => return None,
        };
        match chunk {
            Ok(chunk) if chunk.bytes.is_empty() => None,
            Ok(Chunk { bytes, rest }) => Some((Ok(bytes), next(rest))),
            Err(error) => Some((Err(error), Ahead::End)),
        }
    })
}

fn next(source: Source) -> Ahead {
    if source.left == 0 {
        return Ahead::End;
    }
    Ahead::Reading(tokio::task::spawn_blocking(move || Chunk::read(source)))
}
