//! Tries rejected rows again, from the file in which an administrator has mended them.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::blob::BlobRow;
use super::error::{BadLine, MigrateError, Problem, Side};
use super::progress::{Event, Progress};
use super::rejects::{FORMAT, Line, LineReason, sync_directory, write_line};
use super::report::{Report, TableReport};
use super::{Endpoint, LintReport};
use crate::config::{Driver, MetadataConfig};
use crate::data::{self, Access, BlobRef, DataBackend};
use crate::metadata::{
    self, Batch, Checkpoint, Encoding, Existing, Fault, Identity, Layout, Loader, OnReject,
    ReadRow, Reason, Reject, RunRecord, Snapshot, Tally, Write,
};
use crate::model::{FileStatus, Timestamp, id};

/// Bad lines that are named.
const BAD_LINES_KEPT: usize = 100;

/// A longer line is no row: both databases stop at 1 GB per value, Plik long before.
const MOST_LINE_BYTES: u64 = 512 << 20;

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
    let layouts = filled(to.metadata).await.map_err(refused)?;
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
    let loader = Loader::open(to.metadata).await.map_err(refused)?;
    let source = Identity::of_rejects(&file.display().to_string());
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
    };
    replay.loader.finish(&run, &[]).await?;
    replay.loader.close().await;
    Ok(Report {
        shard: None,
        tables,
        blobs: None,
        lint: LintReport::default(),
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
async fn filled(to: &MetadataConfig) -> Result<Vec<Layout>, metadata::MetadataError> {
    let target = Snapshot::open(to).await?;
    target.versions().await?;
    target.refuse_half_migrated().await?;
    Ok(metadata::migrated(target.layouts().await?))
}

/// Reads every line, and counts them by table.
fn check(file: &Path, layouts: &[Layout]) -> Result<HashMap<String, u64>, MigrateError> {
    let mut counts = HashMap::new();
    let (mut bad, mut total) = (Vec::new(), 0);
    let mut lines = Lines::open(file)?;
    while let Some((number, text)) = lines.next_line()? {
        let line = parse(&text).and_then(|line| {
            let layout = layout_of(&line, layouts)?;
            ReadRow::of(&line.row, &layout)?;
            Ok(line.table)
        });
        match line {
            Ok(table) => *counts.entry(table).or_default() += 1,
            Err(cause) => {
                total += 1;
                if bad.len() < BAD_LINES_KEPT {
                    bad.push(BadLine {
                        line: number,
                        cause,
                    });
                }
            }
        }
    }
    match total {
        0 => Ok(counts),
        total => Err(MigrateError::BadLines {
            path: file.to_owned(),
            lines: bad,
            total,
        }),
    }
}

/// # Errors
///
/// What is wrong with the line; no value is shown.
fn parse(text: &[u8]) -> Result<Line, String> {
    if text.len() as u64 >= MOST_LINE_BYTES {
        return Err("it is too long for a row".to_owned());
    }
    let line: Line = serde_json::from_slice(text).map_err(|error| {
        let column = error.column();
        match error.is_data() {
            true => format!("it lacks a part of a rejected row, or has one of another type (near column {column})"),
            false => format!("it is no JSON, from column {column} on"),
        }
    })?;
    match (line.format, line.encoding.as_str()) {
        (FORMAT, "native" | "binary") => Ok(line),
        (FORMAT, _) => Err("its encoding is neither native nor binary".to_owned()),
        (format, _) => Err(format!(
            "it has format {format}, this program reads {FORMAT}"
        )),
    }
}

/// The columns of the target that the line has.
fn layout_of(line: &Line, layouts: &[Layout]) -> Result<Layout, String> {
    let table = &line.table;
    let Some(layout) = layouts.iter().find(|layout| layout.name == *table) else {
        return Err(format!("the target has no table {table}"));
    };
    let names: Vec<&str> = line.row.keys().map(String::as_str).collect();
    if let Some(name) = names.iter().find(|name| layout.position(name).is_none()) {
        return Err(format!("table {table} of the target has no column {name}"));
    }
    let found = layout.project(&names);
    match found.primary_key.is_empty() {
        true => Err(format!(
            "it lacks a column of the key ({})",
            layout.key_names().join(", ")
        )),
        false => Ok(found),
    }
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
                && !has_bytes(data.as_ref(), &file.blob()).await?
            {
                let reason = "its bytes are not in the target".to_owned();
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

/// A row must not promise bytes that are not there.
async fn has_bytes(data: &dyn DataBackend, blob: &BlobRef) -> Result<bool, MigrateError> {
    match data.stat(blob).await {
        Ok(stat) => Ok(stat.is_some()),
        Err(error) if error.is_fatal() => Err(error.into()),
        Err(_) => Ok(false),
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

/// The lines of a file that are not blank, with their numbers from 1.
struct Lines<'a> {
    path: &'a Path,
    lines: BufReader<File>,
    number: usize,
}

impl<'a> Lines<'a> {
    fn open(path: &'a Path) -> Result<Self, MigrateError> {
        let file = File::open(path).map_err(|source| unreadable(path, source))?;
        Ok(Self {
            path,
            lines: BufReader::new(file),
            number: 0,
        })
    }

    fn next_line(&mut self) -> Result<Option<(usize, Vec<u8>)>, MigrateError> {
        loop {
            let mut text = Vec::new();
            let mut bounded = (&mut self.lines).take(MOST_LINE_BYTES);
            let length = bounded
                .read_until(b'\n', &mut text)
                .map_err(|source| unreadable(self.path, source))?;
            self.number += 1;
            if length == 0 {
                return Ok(None);
            }
            if !text.trim_ascii().is_empty() {
                return Ok(Some((self.number, text)));
            }
        }
    }
}

fn unreadable(path: &Path, source: io::Error) -> MigrateError {
    MigrateError::ReplayFile {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::table::Kind;

    fn line(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut line = serde_json::json!({
            "format": 1, "source": "s", "table": "users", "key": "joe", "reasons": [],
            "encoding": "native", "row": { "id": { "text": "joe" } },
        });
        change(&mut line);
        line.to_string().into_bytes()
    }

    fn users() -> Layout {
        let columns = [("id", Kind::Text), ("name", Kind::Text)];
        Layout {
            name: "users".to_owned(),
            columns: columns
                .map(|(name, kind)| metadata::Column {
                    name: name.to_owned(),
                    kind,
                    declared: "text".to_owned(),
                })
                .to_vec(),
            primary_key: vec![0],
            indexes: Vec::new(),
        }
    }

    #[test]
    fn bad_lines_are_named_with_number_and_cause() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows");
        let lines = [
            line(|_| ()),
            b"  ".to_vec(),
            b"{".to_vec(),
            line(|line| line["format"] = 2.into()),
            line(|line| line["table"] = "notes".into()),
            line(|line| line["row"]["age"] = serde_json::Value::Null),
            line(|line| line["row"] = serde_json::json!({ "name": { "text": "x" } })),
            line(|line| line["row"]["name"] = "secret".into()),
            line(|line| line["encoding"] = "other".into()),
            line(|line| line["table"] = 7.into()),
        ];
        std::fs::write(&path, lines.join(&b'\n')).unwrap();
        let Err(MigrateError::BadLines { lines, total, .. }) = check(&path, &[users()]) else {
            unreachable!("the lines are bad")
        };
        assert_eq!(total, 8);
        let found: Vec<String> = lines
            .iter()
            .map(|bad| format!("{} {}", bad.line, bad.cause))
            .collect();
        let expected = [
            "3 it is no JSON",
            "4 it has format 2",
            "5 the target has no table notes",
            "6 table users of the target has no column age",
            "7 it lacks a column of the key (id)",
            "8 column name is neither",
            "9 its encoding is neither",
            "10 it lacks a part",
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
            assert!(!found.contains("secret"), "{found}");
        }
    }
}
