//! `--report FILE`: what a run was, found and did, as one JSON document.
//!
//! Findings go to the file as they come, so that memory does not grow with them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::{Map, Value, json};

use super::audience::Opening;
use super::meter::{Meter, millis};
use super::summary::Summary;
use super::values;
use super::whole_file::WholeFile;
use crate::cmd::exit::{Exit, Failure, OutcomeRef};
use crate::metadata::Reject;
use crate::migrate::proof::{Difference, FileDifference, RowDifference};
use crate::migrate::{Action, BlobPlaces, Effect, Ends, Event, Finding, MigrateError, Progress};
use crate::model::Timestamp;

/// Of the report; raised when a field changes its meaning or goes, not when one is added.
pub const SCHEMA: u32 = 1;

/// The report of the run that goes on.
pub struct ReportFile {
    path: PathBuf,
    started: Timestamp,
    meter: Meter,
    state: Mutex<State>,
}

struct State {
    /// Until the end.
    file: Option<WholeFile>,
    findings: u64,
    /// The first failure to write; what comes after it is not written either.
    failed: Option<io::Error>,
    ends: Option<Ends>,
    summary: Option<Value>,
}

impl ReportFile {
    /// Begins the report of a run that begins now.
    ///
    /// # Errors
    ///
    /// [`Exit::Usage`] if no file can be written there.
    pub fn create(path: &Path, opening: &Opening<'_>) -> Result<Self, Failure> {
        let started = Timestamp::now();
        let begin = || {
            let mut file = WholeFile::create(path, is_report)?;
            let head = json!({
                "schema": SCHEMA,
                "program": "plikd",
                "version": env!("CARGO_PKG_VERSION"),
                "command": opening.command,
                "started": started.to_string(),
                "options": opening.options,
            });
            // The findings are the next field; what is known at the end comes behind them.
            let head = head.to_string();
            let open = head.strip_suffix('}').unwrap_or(&head);
            write!(file, "{open},\n\"findings\":[")?;
            file.flush()?;
            Ok(file)
        };
        let file = begin().map_err(|error: io::Error| {
            let error = anyhow::Error::from(error)
                .context(format!("cannot write a report to {}", path.display()));
            Failure::new(Exit::Usage, error).with_hint(
                "give --report the name of a new file, or of an earlier report, in a directory \
                 that this user may write"
                    .to_owned(),
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
            started,
            meter: Meter::new(),
            state: Mutex::new(State {
                file: Some(file),
                findings: 0,
                failed: None,
                ends: None,
                summary: None,
            }),
        })
    }

    /// What a run that came to its end did.
    pub fn summary(&self, summary: &Summary) {
        let summary = values::summary(summary);
        self.with(|state| state.summary = Some(summary));
    }

    /// Writes how the run ended and gives the file its name.
    ///
    /// A run whose report could not be written has failed, unless it had already.
    ///
    /// # Errors
    ///
    /// That the report of a run that did not fail could not be written.
    pub fn end(&self, outcome: OutcomeRef<'_>) -> Result<(), Failure> {
        let error = outcome.err();
        match error.and_then(|failure| failure.error.downcast_ref()) {
            Some(MigrateError::Rejected(rejects)) => rejects
                .iter()
                .for_each(|reject| self.found(of_reject(reject))),
            Some(MigrateError::Unfit(lint)) => lint
                .first
                .iter()
                .for_each(|finding| self.found(of_finding("reject", finding))),
            _ => {}
        }
        let tail = self.tail(outcome);
        match (self.with(|state| state.finish(&tail)), outcome) {
            (Ok(()), _) => Ok(()),
            (Err(error), Ok(_)) => {
                let error = anyhow::Error::from(error).context(format!(
                    "the run is over, but its report cannot be written to {}",
                    self.path.display()
                ));
                Err(Failure::new(Exit::Failed, error))
            }
            (Err(error), Err(_)) => {
                tracing::error!(
                    "cannot write the report to {}: {error}",
                    self.path.display()
                );
                Ok(())
            }
        }
    }

    fn tail(&self, outcome: OutcomeRef<'_>) -> Map<String, Value> {
        let finished = Timestamp::now();
        let (ends, summary) = self.with(|state| (state.ends.take(), state.summary.take()));
        let elapsed = finished.duration_since(self.started).unsigned_abs();
        let passed = self.meter.passed();
        let told = |name: &str| summary.as_ref().map_or(&Value::Null, |told| &told[name]);
        let tables = told("tables");
        let tables: Value = passed
            .tables
            .iter()
            .map(|passed| {
                let mut fields = json!({
                    "table": passed.table,
                    "rows": passed.rows_total,
                    "rows_done": passed.rows,
                });
                // Only a run that came to its end knows the rest.
                let counts = tables
                    .as_array()
                    .into_iter()
                    .flatten()
                    .find(|table| table["table"] == passed.table.as_str());
                if let (Value::Object(fields), Some(Value::Object(counts))) = (&mut fields, counts)
                {
                    fields.extend(counts.clone());
                }
                fields
            })
            .collect();
        let tail = json!({
            "finished": finished.to_string(),
            "elapsed_milliseconds": millis(elapsed),
            "from": ends.as_ref().map(|ends| values::end(&ends.from)),
            "to": ends.as_ref().map(|ends| values::end(&ends.to)),
            "phase": self.meter.phase().as_str(),
            "phases": self.meter.phases(),
            "retries": passed.retries,
            "tables": tables,
            "blobs": told("blobs"),
            "blobs_done": {
                "blobs": passed.blobs,
                "blobs_total": passed.blobs_total,
                "bytes": passed.bytes,
                "bytes_total": passed.bytes_total,
            },
            "files": told("files"),
            "file_states": told("file_states"),
            "equal_by_size": told("equal_by_size"),
            "strays": told("strays"),
            "lint": told("lint"),
        });
        let mut fields = Map::new();
        for part in [tail, values::ending(outcome)] {
            if let Value::Object(part) = part {
                fields.extend(part);
            }
        }
        fields
    }

    fn found(&self, finding: Value) {
        self.with(|state| {
            let separator = if state.findings == 0 { "\n" } else { ",\n" };
            if state.failed.is_none()
                && let Some(file) = &mut state.file
            {
                state.findings += 1;
                state.failed = write!(file, "{separator}{finding}").err();
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // What was written survives the panic of another task.
        let mut state = self.state.lock().unwrap_or_else(|state| state.into_inner());
        act(&mut state)
    }
}

impl State {
    fn finish(&mut self, tail: &Map<String, Value>) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        write!(file, "\n]")?;
        for (name, value) in tail {
            write!(file, ",\n{}:{value}", Value::from(name.as_str()))?;
        }
        writeln!(file, "}}")?;
        file.finish()
    }
}

impl Progress for ReportFile {
    fn on(&self, event: Event<'_>) {
        match &event {
            Event::Ends(ends) => {
                let ends = (*ends).clone();
                self.with(|state| state.ends = Some(ends));
            }
            event => {
                if let Some(finding) = finding(event) {
                    self.found(finding);
                }
            }
        }
        self.meter.on(event);
    }
}

/// The head of a report, in its first line, takes no more than that.
const HEAD_BYTES: u64 = 1 << 20;

/// Whether `file` was written as a report, of whatever version.
fn is_report(file: File) -> bool {
    let mut head = String::new();
    let read = BufReader::new(file.take(HEAD_BYTES)).read_line(&mut head);
    let head = head.trim_end().strip_suffix(',').unwrap_or_default();
    let head: Value = serde_json::from_str(&format!("{head}}}")).unwrap_or_default();
    read.is_ok()
        && head["program"] == "plikd"
        && head["schema"].is_u64()
        && head["command"].is_string()
}

fn of_reject(reject: &Reject) -> Value {
    row("reject", &reject.table, &reject.key, Some(&reject.reason))
}

fn of_finding(kind: &str, finding: &Finding) -> Value {
    let Finding { column, reason, .. } = finding;
    let reason = match column {
        Some(column) => format!("{column}: {reason}"),
        None => reason.to_string(),
    };
    row(kind, &finding.table, &finding.key, Some(&reason))
}

fn of_row_difference(table: &str, found: &RowDifference) -> Value {
    match &found.kind {
        Difference::Missing => row("missing", table, &found.key, None),
        Difference::Extra(reason) => row("extra", table, &found.key, *reason),
        Difference::Rejected(reason) => row("reject", table, &found.key, Some(reason)),
        Difference::Different(columns) => {
            let mut finding = row("different", table, &found.key, None);
            finding["columns"] = columns.as_slice().into();
            finding
        }
    }
}

fn row(kind: &str, table: &str, key: &str, reason: Option<&str>) -> Value {
    json!({"kind": kind, "table": table, "key": key, "reason": reason})
}

fn blob(kind: &str, file: &str, upload: Option<&str>, reason: Option<&str>) -> Value {
    json!({"kind": kind, "file": file, "upload": upload, "reason": reason})
}

/// With where the blob lies, on the sides where it is at fault.
fn at(places: &BlobPlaces, mut blob: Value) -> Value {
    blob["from_place"] = json!(places.from);
    blob["to_place"] = json!(places.to);
    blob
}

/// The row or blob that is not in the target as it is in the source, if the event is about one.
fn finding(event: &Event<'_>) -> Option<Value> {
    Some(match event {
        // A row that is rejected is named when it is, or at the end if nothing was written.
        Event::Finding(finding) => match finding.effect {
            Effect::LeftOut => of_finding("left_out", finding),
            Effect::Stripped => of_finding("mended", finding),
            Effect::Rejected | Effect::Doubtful | Effect::Kept => return None,
        },
        Event::ColumnLeftOut { table, column } => {
            json!({"kind": "column_left_out", "table": table, "columns": [column]})
        }
        Event::TableLeftOut(unfit) => json!({
            "kind": "table_left_out", "table": unfit.table, "reason": unfit.to_string(),
        }),
        Event::Rejected(reject) => of_reject(reject),
        Event::Conflict { table, key } => row("conflict", table, key, None),
        Event::Extra { table, key, reason } => row("extra", table, key, *reason),
        Event::Updated { table, key } => row("updated", table, key, None),
        Event::Deleted { table, key } => row("deleted", table, key, None),
        Event::BlobDeleted { file_id, upload_id } => {
            blob("blob_deleted", file_id, *upload_id, None)
        }
        Event::Stray(found) => blob(
            "blob_stray",
            &found.file_id,
            found.upload_id.as_deref(),
            Some("no row names it"),
        ),
        Event::RowDiffers { table, row: found } => of_row_difference(table, found),
        Event::FileDiffers(found) => {
            let FileDifference {
                file_id, upload_id, ..
            } = found;
            let kind = format!("file_{}", found.kind.as_str());
            at(
                &found.places,
                blob(&kind, file_id, Some(upload_id), Some(&found.reason)),
            )
        }
        Event::BlobProblem { problem } => {
            let kind = match problem.harmless {
                true => "blob_skipped",
                false => "blob_failed",
            };
            let found = blob(
                kind,
                &problem.file_id,
                Some(&problem.upload_id),
                Some(&problem.reason),
            );
            at(&problem.places, found)
        }
        Event::Would {
            action,
            what: "blob",
            key,
            detail,
            ..
        } => match action {
            Action::Reject | Action::Conflict => blob("blob_failed", key, None, Some(detail)),
            Action::Skip => blob("blob_skipped", key, None, Some(detail)),
            Action::Delete => blob("blob_deleted", key, None, None),
            Action::Copy | Action::Keep | Action::Update | Action::Extra => return None,
        },
        Event::Would {
            action,
            what,
            key,
            detail,
            ..
        } => match action {
            Action::Reject => row("reject", what, key, Some(detail)),
            Action::Conflict => row("conflict", what, key, None),
            Action::Extra => {
                let reason = Some(*detail).filter(|detail| !detail.is_empty());
                row("extra", what, key, reason)
            }
            Action::Update => row("updated", what, key, None),
            Action::Delete => row("deleted", what, key, None),
            Action::Copy | Action::Keep | Action::Skip => return None,
        },
        _ => return None,
    })
}
