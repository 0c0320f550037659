//! Tries rejected rows again, from the file in which an administrator has mended them.

mod lines;

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::blob::BlobRow;
use super::error::{BadLine, MigrateError, Problem, Side, explain};
use super::progress::{Event, Progress};
use super::rejects::{Line, LineReason, sync_directory, write_line};
use super::report::{Report, TableReport};
use super::{Endpoint, LintReport};
use crate::config::{Driver, MetadataConfig};
use crate::data::{self, Access, DataBackend};
use crate::metadata::{
    self, Batch, Checkpoint, Encoding, Existing, Fault, Identity, Layout, Loader, OnReject,
    ReadRow, Reason, Reject, RunRecord, Snapshot, Tally, Write,
};
use crate::model::{FileStatus, Timestamp, id};
use lines::{Lines, check, layout_of, parse};

/// Rows, and their bytes in the file, that are written together.
const BATCH_LINES: usize = 1_000;
const BATCH_BYTES: usize = 1 << 20;

/// Writes the rows of `file` to a target that a migration has filled, parents first.
///
/// What is still rejected goes to the new file `rejects`, if there is one. Running again finds the
/// rows that have arrived.
///
/// # Errors
///
/// [`MigrateError::BadLines`], before anything is written, if a line is no row of the target.
pub async fn replay(
    file: &Path,
    to: Endpoint<'_>,
    rejects: Option<&Path>,
    progress: &Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Report, MigrateError> {
    let (started, started_at) = (Instant::now(), Timestamp::now());
    let source = Identity::of_rejects(&file.display().to_string());
    let layouts = filled(to.metadata, &source).await.map_err(refused)?;
    let counts = check(file, &layouts)?;
    let data = match counts.contains_key("files") {
        true => Some(
            data::open(to.data, Access::ReadOnly)
                .await
                .map_err(|source| {
                    MigrateError::Preflight(vec![Problem::Data {
                        side: Side::Target,
                        source,
                    }])
                })?,
        ),
        false => None,
    };
    let again = rejects.map(Again::create).transpose()?;
    let loader = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(MigrateError::Interrupted),
        loader = Loader::open(to.metadata, &|_| ()) => loader.map_err(refused)?,
    };
    loader.begin(&source).await?;
    let mut replay = Replay {
        file,
        loader,
        data,
        source,
        again,
        progress: progress.as_ref(),
        cancel,
    };
    let mut tables = Vec::new();
    for layout in layouts
        .iter()
        .filter(|layout| counts.contains_key(&layout.name))
    {
        let (table, rows) = (&layout.name, counts[&layout.name]);
        progress.on(Event::TableBegin { table, rows });
        tables.push(TableReport {
            table: table.clone(),
            rows: replay.table(layout).await?,
            extra: 0,
            proof: None,
        });
        progress.on(Event::TableEnd { table });
    }
    let run = RunRecord {
        id: id::alphanumeric(id::ID_LENGTH, &mut rand::rng()),
        source: replay.source,
        started_at,
        finished_at: Timestamp::now(),
        summary: serde_json::json!({ "replayed": counts }).to_string(),
        has_rows: true,
        both_halves: false,
    };
    replay.loader.finish(&run, &[]).await?;
    replay.loader.close().await;
    Ok(Report {
        files: None,
        shard: None,
        tables,
        blobs: None,
        lint: LintReport::default(),
        omitted: Vec::new(),
        source_is_served: false,
        elapsed: started.elapsed(),
    })
}

fn refused(source: metadata::MetadataError) -> MigrateError {
    MigrateError::Preflight(vec![Problem::Metadata {
        side: Side::Target,
        source,
    }])
}

/// The tables of a target that has been migrated to, parents first.
async fn filled(
    to: &MetadataConfig,
    source: &Identity,
) -> Result<Vec<Layout>, metadata::MetadataError> {
    let target = Snapshot::open(to).await?;
    target.versions().await?;
    target.refuse_other_migration(source).await?;
    Ok(metadata::migrated(target.layouts().await?))
}

struct Replay<'a> {
    file: &'a Path,
    loader: Loader,
    /// Where the bytes of files are, if there are files.
    data: Option<Arc<dyn DataBackend>>,
    source: Identity,
    again: Option<Again>,
    progress: &'a dyn Progress,
    cancel: &'a CancellationToken,
}

/// Rows of the same columns that are to be written together.
struct Pending {
    layout: Layout,
    encoding: Encoding,
    rows: Batch,
    /// The lines of `rows`.
    lines: Vec<Line>,
}

impl Replay<'_> {
    async fn table(&mut self, layout: &Layout) -> Result<Tally, MigrateError> {
        let mut lines = Lines::open(self.file)?;
        let mut pending: Option<Pending> = None;
        let mut tally = Tally::default();
        while let Some((number, text)) = lines.next_line()? {
            let changed = |cause| MigrateError::BadLines {
                path: self.file.to_owned(),
                lines: vec![BadLine {
                    line: number,
                    cause,
                }],
                total: 1,
            };
            let line = parse(&text).map_err(changed)?;
            if line.table != layout.name {
                continue;
            }
            let columns = layout_of(&line, std::slice::from_ref(layout)).map_err(changed)?;
            let row = ReadRow::of(&line.row, &columns).map_err(changed)?;
            let encoding = match (self.loader.driver(), line.encoding.as_str()) {
                (Driver::Sqlite, "native") => Encoding::Native,
                _ => Encoding::Binary,
            };
            let fits = |pending: &Pending| {
                pending.layout == columns
                    && pending.encoding == encoding
                    && pending.lines.len() < BATCH_LINES
                    && pending.rows.as_bytes().len() < BATCH_BYTES
            };
            if !pending.as_ref().is_some_and(fits)
                && let Some(full) = pending.take()
            {
                tally = tally + self.write(full).await?;
            }
            let batch = pending.get_or_insert_with(|| Pending {
                layout: columns,
                encoding,
                rows: Batch::default(),
                lines: Vec::new(),
            });
            match self.encode(&row, batch).await? {
                Ok(()) => batch.lines.push(line),
                Err(faults) => {
                    let stored = row.stored();
                    let tuple = metadata::Tuple::new(&stored.tuple);
                    let reject = Reject::of(&batch.layout, tuple, stored.encoding, faults);
                    self.reject(line, &reject)?;
                    tally.failed += 1;
                }
            }
        }
        match pending {
            Some(pending) => Ok(tally + self.write(pending).await?),
            None => Ok(tally),
        }
    }

    /// Appends the row to the batch unless the target cannot hold it.
    async fn encode(
        &self,
        row: &ReadRow,
        batch: &mut Pending,
    ) -> Result<Result<(), Vec<Fault>>, MigrateError> {
        let mut one = Batch::default();
        if let Err(faults) = row.encode(&batch.layout, batch.encoding, &mut one) {
            return Ok(Err(faults));
        }
        let tuple = one.tuple(0);
        if let Some(data) = &self.data
            && batch.layout.name == "files"
        {
            let file = BlobRow::decode(tuple, &batch.layout, batch.encoding);
            if file.status == FileStatus::Uploaded
                && let Some(reason) = broken_promise(data.as_ref(), &file).await?
            {
                return Ok(Err(vec![Fault {
                    column: None,
                    reason: Reason::Refused(reason),
                }]));
            }
        }
        batch.rows.push_tuple(tuple.as_bytes());
        Ok(Ok(()))
    }

    async fn write(&mut self, pending: Pending) -> Result<Tally, MigrateError> {
        if self.cancel.is_cancelled() {
            return Err(MigrateError::Interrupted);
        }
        let table = &pending.layout.name;
        let rows = pending.lines.len() as u64;
        let written = self
            .loader
            .write(Write {
                layout: &pending.layout,
                rows: &pending.rows,
                encoding: pending.encoding,
                not_compared: &[],
                existing: Existing::Keep,
                on_reject: OnReject::Continue,
                checkpoint: Some(&Checkpoint::new(&self.source, table)),
            })
            .await?;
        for key in &written.conflicts {
            self.progress.on(Event::Conflict { table, key });
        }
        for reject in &written.rejects {
            let mut rows = pending.rows.iter().zip(&pending.lines);
            let line = rows.find(|(row, _)| row.as_bytes() == reject.row.tuple);
            if let Some((_, line)) = line {
                self.reject(line.clone(), reject)?;
            }
        }
        self.progress.on(Event::Rows { table, rows });
        Ok(written.tally())
    }

    fn reject(&mut self, line: Line, reject: &Reject) -> Result<(), MigrateError> {
        self.progress.on(Event::Rejected(reject));
        match &mut self.again {
            Some(again) => again.add(Line {
                reasons: LineReason::all(&reject.faults),
                ..line
            }),
            None => Ok(()),
        }
    }
}

/// Why the row may not go in: it must not promise bytes that are not there, or others than there
/// are, as far as asking the store tells.
async fn broken_promise(
    data: &dyn DataBackend,
    file: &BlobRow,
) -> Result<Option<String>, MigrateError> {
    match data.stat(&file.blob()).await {
        Ok(Some(stat)) => {
            let mismatch = file.mismatch(stat.size_bytes, stat.md5);
            Ok(mismatch.map(|what| format!("its blob in the target is another: {what}")))
        }
        Ok(None) => Ok(Some("its bytes are not in the target".to_owned())),
        Err(error) if error.is_fatal() => Err(error.into()),
        Err(error) => Ok(Some(format!(
            "its bytes cannot be asked for in the target: {}",
            explain(&error)
        ))),
    }
}

/// A new file for the rows that are rejected again.
struct Again {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Again {
    fn create(path: &Path) -> Result<Self, MigrateError> {
        let failed = |source| MigrateError::Rejects {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let out = BufWriter::new(file.map_err(failed)?);
        sync_directory(path).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            out,
        })
    }

    /// The line is on stable storage when this returns: its batch is not tried again.
    fn add(&mut self, line: Line) -> Result<(), MigrateError> {
        let written = write_line(&mut self.out, &line)
            .and_then(|()| self.out.flush())
            .and_then(|()| self.out.get_ref().sync_data());
        written.map_err(|source| MigrateError::Rejects {
            path: self.path.clone(),
            source,
        })
    }
}
