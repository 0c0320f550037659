//! Rows on their way from a reader, in batches.

use tokio::task::JoinHandle;

use super::MetadataError;
use super::error::During;
use super::family::Division;
use super::layout::Layout;
use super::reject::Reject;
use super::request::Cursor;
use super::tuple::{Batch, Encoding, Tuple};
use super::weighed::{self, Gone, Receiver};

/// Batches read ahead of the writer, or one that is large by itself; with the batch limit this
/// bounds the memory of a migration.
const BATCHES_AHEAD: usize = 2;

/// Rows and bytes after which a batch is handed on.
pub(super) const BATCH_ROWS: usize = 10_000;
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// Of a batch of small rows: the one that makes it full is over the limit.
pub(super) const FULL_BYTES: usize = BATCH_BYTES + BATCH_BYTES / 16;
/// Rejected rows are held whole, each in memory of its own.
const BATCH_REJECTS: usize = 1_000;
const BIG_REJECT: usize = 64 << 10;

/// Whether a batch is big enough to be handed on. One row may be larger than the limit.
pub(super) fn is_full(batch: &SourceBatch) -> bool {
    let last = batch.rejects.last();
    batch.rows.len() + batch.rejects.len() >= BATCH_ROWS
        || batch.rows.as_bytes().len() >= BATCH_BYTES
        || batch.rejects.len() >= BATCH_REJECTS
        || last.is_some_and(|reject| reject.row.tuple.len() >= BIG_REJECT)
}

/// Rows in key order, and those that could not be encoded.
#[derive(Debug, Default)]
pub struct SourceBatch {
    pub rows: Batch,
    pub rejects: Vec<Reject>,
}

impl SourceBatch {
    /// With room for as many rows as a batch usually has.
    pub(super) fn roomy() -> Self {
        Self {
            rows: Batch::with_capacity(FULL_BYTES),
            rejects: Vec::new(),
        }
    }

    fn bytes(&self) -> usize {
        let rejects = self.rejects.iter().map(|reject| reject.row.tuple.len());
        self.rows.as_bytes().len() + rejects.sum::<usize>()
    }

    /// Where the next read starts. `None` if no row was read, or the key of the last one has a
    /// NULL, behind which nothing can be found again.
    pub fn cursor(&self, layout: &Layout, encoding: Encoding) -> Option<Cursor> {
        let last = self.rows.tuple(self.rows.len().checked_sub(1)?);
        let key = last.project(&layout.primary_key);
        let complete =
            !layout.primary_key.is_empty() && Tuple::new(&key).fields().all(|f| f.is_some());
        complete.then_some(Cursor { encoding, key })
    }
}

/// Batches of one table, read ahead by a task of their own.
pub struct RowStream {
    batches: Receiver<Message>,
    task: JoinHandle<()>,
    label: String,
    division: Option<Division>,
}

pub(super) enum Message {
    Batch(SourceBatch),
    /// The last row was read. A stream that stops without it was cut short.
    End,
    Failed(MetadataError),
}

/// The reading end's counterpart: where a reader, or several, put their batches.
#[derive(Clone)]
pub(super) struct Sender(weighed::Sender<Message>);

impl Sender {
    pub async fn send(&self, message: Message) -> Result<(), Gone> {
        let bytes = message.bytes();
        self.0.send(message, bytes).await
    }

    /// On a thread of the runtime that may wait.
    pub fn blocking_send(&self, message: Message) -> Result<(), Gone> {
        let bytes = message.bytes();
        self.0.blocking_send(message, bytes)
    }
}

impl Message {
    fn bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.bytes(),
            Self::End | Self::Failed(_) => 0,
        }
    }
}

impl RowStream {
    pub(super) fn new(label: &str, start: impl FnOnce(Sender) -> JoinHandle<()>) -> Self {
        let (sender, batches) = weighed::channel(BATCHES_AHEAD, FULL_BYTES);
        Self {
            batches,
            task: start(Sender(sender)),
            label: label.to_owned(),
            division: None,
        }
    }

    /// Only what `division` wants of it.
    pub(super) fn divided(mut self, division: Option<Division>) -> Self {
        self.division = division;
        self
    }

    /// The next batch, which may be empty, or `None` behind the last row.
    pub async fn next(&mut self) -> Result<Option<SourceBatch>, MetadataError> {
        match self.batches.recv().await {
            Some(Message::Batch(batch)) => Ok(Some(match &self.division {
                Some(division) => division.of(batch),
                None => batch,
            })),
            Some(Message::End) => Ok(None),
            Some(Message::Failed(error)) => Err(error),
            None => {
                let during = During {
                    action: "read all rows",
                    backend: &self.label,
                };
                Err(during.failed("the reader stopped early"))
            }
        }
    }
}

impl Drop for RowStream {
    fn drop(&mut self) {
        // A blocking reader sees the closed channel; an async one is stopped where it waits.
        self.task.abort();
    }
}
