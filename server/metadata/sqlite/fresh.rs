//! Loads whole tables into a SQLite database: into a file beside it, on a thread that does
//! nothing else, while the rows are read on others.

use std::collections::HashSet;

use jiff::tz::TimeZone;
use rusqlite::{Connection, InterruptHandle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::fields::Fields;
use super::loading::{Draft, Loading};
use super::writer::{insert_sql, is_about_the_row};
use super::{failure, run};
use crate::metadata::checkpoint::Checkpoint;
use crate::metadata::error::During;
use crate::metadata::fresh::{Built, FreshError};
use crate::metadata::layout::Layout;
use crate::metadata::stream::FULL_BYTES;
use crate::metadata::tuple::{Batch, Encoding};
use crate::metadata::weighed;

/// Batches that wait for the thread, or one that is large by itself; with the batch limit this
/// bounds the memory.
const BATCHES_WAITING: usize = 2;

/// A load on its way. Dropped before its end it leaves nothing.
pub struct FreshLoad {
    tables: HashSet<String>,
    indexes: usize,
    label: String,
    steps: Option<mpsc::Sender<Step>>,
    /// The table that was begun.
    items: Option<weighed::Sender<Item>>,
    thread: Option<JoinHandle<Result<Option<Draft>, FreshError>>>,
    interrupt: InterruptHandle,
}

/// What the thread does next.
enum Step {
    Table {
        layout: Layout,
        encoding: Encoding,
        items: weighed::Receiver<Item>,
    },
    /// The last one: build the indexes, telling how many are done.
    Build(mpsc::Sender<usize>),
}

/// What comes for one table.
enum Item {
    Rows(Batch),
    End(Checkpoint, oneshot::Sender<()>),
}

impl FreshLoad {
    /// Starts the thread that fills `loading`, in which `tables` are empty.
    pub fn start(loading: Loading, tables: &[Layout], label: &str, zone: TimeZone) -> Self {
        let (steps, waiting) = mpsc::channel(1);
        let (indexes, interrupt) = (
            loading.indexes.len(),
            loading.connection.get_interrupt_handle(),
        );
        let filler = Filler {
            loading,
            label: label.to_owned(),
            zone,
        };
        Self {
            tables: tables.iter().map(|table| table.name.clone()).collect(),
            indexes,
            label: label.to_owned(),
            steps: Some(steps),
            items: None,
            thread: Some(tokio::task::spawn_blocking(move || filler.work(waiting))),
            interrupt,
        }
    }

    pub fn takes(&self, layout: &Layout) -> bool {
        self.tables.contains(&layout.name)
    }

    pub async fn begin_table(
        &mut self,
        layout: &Layout,
        encoding: Encoding,
    ) -> Result<(), FreshError> {
        let (sender, items) = weighed::channel(BATCHES_WAITING, FULL_BYTES);
        self.items = Some(sender);
        self.step(Step::Table {
            layout: layout.clone(),
            encoding,
            items,
        })
        .await
    }

    pub async fn write(&mut self, rows: Batch) -> Result<(), FreshError> {
        self.item(Item::Rows(rows)).await
    }

    pub async fn end_table(&mut self, checkpoint: &Checkpoint) -> Result<(), FreshError> {
        let (ended, wait) = oneshot::channel();
        self.item(Item::End(checkpoint.clone(), ended)).await?;
        self.items = None;
        match wait.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.fault().await),
        }
    }

    /// Builds the indexes, and waits until the file is on disk, whole.
    pub async fn finish(&mut self, tell: &(dyn Fn(Built) + Sync)) -> Result<Draft, FreshError> {
        let (told, mut built) = mpsc::channel(1);
        let all = self.indexes;
        tell(Built { done: 0, all });
        self.step(Step::Build(told)).await?;
        while let Some(done) = built.recv().await {
            tell(Built { done, all });
        }
        match self.join().await? {
            Some(draft) => Ok(draft),
            None => Err(self.ended_early()),
        }
    }

    async fn step(&mut self, step: Step) -> Result<(), FreshError> {
        let sent = match &self.steps {
            Some(steps) => steps.send(step).await.is_ok(),
            None => false,
        };
        match sent {
            true => Ok(()),
            false => Err(self.fault().await),
        }
    }

    async fn item(&mut self, item: Item) -> Result<(), FreshError> {
        let sent = match &self.items {
            Some(items) => {
                let bytes = match &item {
                    Item::Rows(rows) => rows.as_bytes().len(),
                    Item::End(..) => 0,
                };
                items.send(item, bytes).await.is_ok()
            }
            None => false,
        };
        match sent {
            true => Ok(()),
            false => Err(self.fault().await),
        }
    }

    /// Why the thread has stopped listening.
    async fn fault(&mut self) -> FreshError {
        match self.join().await {
            Err(error) => error,
            Ok(_) => self.ended_early(),
        }
    }

    async fn join(&mut self) -> Result<Option<Draft>, FreshError> {
        self.items = None;
        self.steps = None;
        match self.thread.take() {
            Some(thread) => thread
                .await
                .unwrap_or_else(|error| Err(self.during().failed(error.to_string()).into())),
            None => Err(self.ended_early()),
        }
    }

    fn ended_early(&self) -> FreshError {
        self.during().failed("the writer stopped early").into()
    }

    fn during(&self) -> During<'_> {
        During {
            action: "load rows",
            backend: &self.label,
        }
    }
}

impl Drop for FreshLoad {
    fn drop(&mut self) {
        // A thread that is still there need not finish the index it is at.
        if self.thread.is_some() {
            self.interrupt.interrupt();
        }
    }
}

/// The thread's side.
struct Filler {
    loading: Loading,
    label: String,
    zone: TimeZone,
}

impl Filler {
    /// Takes steps until the last one. `None` if that never came: the load was given up.
    fn work(self, mut steps: mpsc::Receiver<Step>) -> Result<Option<Draft>, FreshError> {
        while let Some(step) = steps.blocking_recv() {
            match step {
                Step::Table {
                    layout,
                    encoding,
                    items,
                } => self.fill(&layout, encoding, items)?,
                Step::Build(told) => {
                    let build = || self.build(&told);
                    self.loading.flush_beside(&self.label, build)?;
                    return Ok(Some(self.loading.seal(&self.label)?));
                }
            }
        }
        Ok(None)
    }

    fn fill(
        &self,
        layout: &Layout,
        encoding: Encoding,
        mut items: weighed::Receiver<Item>,
    ) -> Result<(), FreshError> {
        let mut fields = Fields::new(layout, encoding, &self.zone);
        let connection = &self.loading.connection;
        connection
            .execute_batch("BEGIN")
            .map_err(|error| self.fault(&error))?;
        while let Some(item) = items.blocking_recv() {
            match item {
                Item::Rows(rows) => insert(connection, layout, &mut fields, &rows),
                Item::End(checkpoint, ended) => {
                    let noted = run(connection, &checkpoint.statement(), &self.zone);
                    noted
                        .and_then(|_| connection.execute_batch("COMMIT"))
                        .map(|()| {
                            // Whoever asked may have gone.
                            let _ = ended.send(());
                        })
                }
            }
            .map_err(|error| self.fault(&error))?;
        }
        Ok(())
    }

    fn build(&self, told: &mpsc::Sender<usize>) -> Result<(), FreshError> {
        for (done, definition) in self.loading.indexes.iter().enumerate() {
            self.loading
                .connection
                .execute(definition, ())
                .map_err(|error| self.fault(&error))?;
            // Whoever listened may have gone.
            let _ = told.blocking_send(done + 1);
        }
        Ok(())
    }

    /// Another way of loading may name the row, where it is a row's fault.
    fn fault(&self, error: &rusqlite::Error) -> FreshError {
        if is_about_the_row(error) {
            return FreshError::Refused(error.to_string());
        }
        let during = During {
            action: "load rows",
            backend: &self.label,
        };
        failure(during, error).into()
    }
}

fn insert(
    connection: &Connection,
    layout: &Layout,
    fields: &mut Fields,
    rows: &Batch,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(&insert_sql(layout))?;
    for row in rows.iter() {
        fields.bind(&mut insert, row)?;
        insert.raw_execute()?;
    }
    Ok(())
}
