//! Makes up a server: a SQLite database full of rows, and the blobs of its files.
//!
//! For trying out a migration, an upgrade or a backup on something of the size and the oddities of
//! the real one. Everything follows from a seed, so any machine can make the same server.

mod blobs;
mod database;
mod entities;
mod error;
mod random;
mod recipe;
mod rows;
mod words;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

pub use error::FakedbError;
pub use recipe::{Counts, Recipe, Shares};
pub use rows::PASSWORD;

use blobs::Blobs;
use database::Database;
use entities::File;
use rows::Rows;

/// Files made by a thread before they are handed over to be inserted.
const BATCH: u64 = 1024;
/// Threads that make files and blobs, besides the one that inserts.
const MAKERS: usize = 2;

/// What to make, and where.
#[derive(Clone, Debug)]
pub struct Order {
    pub recipe: Recipe,
    /// The SQLite file.
    pub output: PathBuf,
    /// The directory of the blobs; without one there are rows only, and their MD5 are made up.
    pub data: Option<PathBuf>,
    /// Replace `output`, and write into a `data` that is not empty.
    pub force: bool,
}

/// What the files came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files whose status says that there are bytes.
    pub blobs: u64,
    pub blob_bytes: u64,
}

impl Totals {
    fn add(&mut self, file: &File) {
        if file.has_blob {
            self.blobs += 1;
            self.blob_bytes += file.size;
        }
    }
}

/// Makes the server. Blobs first: the database gets its name only when all is there.
///
/// # Errors
///
/// [`FakedbError::Exists`] and [`FakedbError::NotEmpty`] unless forced, before anything is
/// written; forced, [`FakedbError::NotADatabase`] if `output` is anything but a database, and
/// [`MetadataError::InUse`](crate::metadata::MetadataError::InUse) if somebody uses it. After a later error there is no database, but there may be blobs.
pub fn make(order: &Order) -> Result<Totals, FakedbError> {
    check(order)?;
    // Until the database has its name: a server that uses the old one would lose what it writes.
    let _lock = database::claim(&order.output)?;
    let rows = Rows::new(order.recipe.clone());
    let database = Database::create(&order.output)?;
    database.insert_rows(&rows)?;
    let totals = make_files(&database, &rows, order.data.as_deref())?;
    database.publish(&rows)?;
    Ok(totals)
}

fn check(order: &Order) -> Result<(), FakedbError> {
    let recipe = &order.recipe;
    if recipe.shares.files() > 100 {
        return Err(FakedbError::Options(
            "the shares of removed, missing, uploading and deleted files exceed 100 % together",
        ));
    }
    if recipe.file_size.is_empty() || i64::try_from(*recipe.file_size.end()).is_err() {
        return Err(FakedbError::Options("the range of file sizes is empty"));
    }
    if !recipe.counts.fit() {
        return Err(FakedbError::Options(
            "that is more than a database can hold",
        ));
    }
    if order.force {
        return Ok(());
    }
    if let Some(path) = database::existing(&order.output) {
        return Err(FakedbError::Exists { path });
    }
    match order.data.as_deref().map(is_empty) {
        Some(Ok(false)) => Err(FakedbError::NotEmpty {
            path: order.data.clone().unwrap_or_default(),
        }),
        Some(Err(source)) => Err(FakedbError::Io {
            action: "list",
            path: order.data.clone().unwrap_or_default(),
            source,
        }),
        Some(Ok(true)) | None => Ok(()),
    }
}

/// Whether nothing is in that directory; one that is not there holds nothing.
fn is_empty(directory: &Path) -> std::io::Result<bool> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

type Batch = Result<Vec<File>, FakedbError>;

/// Makes the files by several threads and inserts them in order.
fn make_files(
    database: &Database,
    rows: &Rows,
    data: Option<&Path>,
) -> Result<Totals, FakedbError> {
    thread::scope(|scope| {
        let makers: Vec<Receiver<Batch>> = (0..MAKERS)
            .map(|maker| {
                // A maker that is ahead waits: memory does not grow with the database.
                let (batches, made) = sync_channel(2);
                let blobs = data.map(|directory| Blobs::new(rows.seed(), directory));
                scope.spawn(move || make_batches(maker, rows, blobs, &batches));
                made
            })
            .collect();
        // Batch n is the work of maker n modulo their number, so taking turns restores the order.
        let in_order = makers.iter().cycle().map_while(|made| made.recv().ok());
        database.insert_files(rows, in_order)
    })
}

/// Makes every [`MAKERS`]-th batch, until the last, an error, or nobody takes them any more.
fn make_batches(maker: usize, rows: &Rows, mut blobs: Option<Blobs>, made: &SyncSender<Batch>) {
    let total = rows.counts().files();
    let starts = (0..total).step_by(BATCH as usize);
    for start in starts.skip(maker).step_by(MAKERS) {
        let batch = (start..total.min(start + BATCH))
            .map(|index| make_file(rows.file(index), blobs.as_mut()))
            .collect();
        if made.send(batch).is_err() {
            return;
        }
    }
}

fn make_file(mut file: File, blobs: Option<&mut Blobs>) -> Result<File, FakedbError> {
    if let Some(blobs) = blobs
        && !file.md5.is_empty()
    {
        file.md5 = blobs.make(&file)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
