//! Tells the progress of a blob while it is copied.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use crate::data::BlobReader;
use crate::data::buffers::Buffer;
use crate::migrate::progress::{Event, Progress};

/// How much of a blob has been told as passed, in all tries together.
#[derive(Clone)]
pub struct Passed {
    pub bytes: Arc<AtomicU64>,
    pub progress: Arc<dyn Progress>,
}

impl Passed {
    /// All up to `end` has passed.
    pub fn reach(&self, end: u64) {
        // What passed in an earlier try was told then.
        let before = self.bytes.fetch_max(end, Ordering::Relaxed);
        if end > before {
            self.progress.on(Event::BlobBytes(end - before));
        }
    }
}

/// A blob whose bytes are counted when they were read.
pub struct Counted {
    pub from: Arc<dyn BlobReader>,
    pub passed: Passed,
}

#[async_trait]
impl BlobReader for Counted {
    fn size_bytes(&self) -> u64 {
        self.from.size_bytes()
    }

    async fn read(&self, offset: u64, buffer: Buffer) -> io::Result<Buffer> {
        let buffer = self.from.read(offset, buffer).await?;
        self.passed.reach(offset + buffer.length() as u64);
        Ok(buffer)
    }
}
