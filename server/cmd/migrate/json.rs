//! `--json`: the events of a run on standard output, one JSON object per line.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::audience::Opening;
use super::meter::{Meter, Passed};
use super::progress::Pace;
use super::summary::Summary;
use super::values;
use crate::cmd::exit::OutcomeRef;
use crate::migrate::{CheckItem, Event, Progress};
use crate::model::Timestamp;

/// Between two lines of progress.
const INTERVAL: Duration = Duration::from_secs(1);

/// Of the events; raised when a field changes its meaning or goes, not when one is added.
pub const SCHEMA: u32 = 1;

/// What a dry run would do is told of each row and blob only when all is wanted.
pub struct JsonLines {
    verbose: bool,
    meter: Meter,
    pace: Pace,
}

impl JsonLines {
    /// Tells that the run begins.
    pub fn start(opening: &Opening<'_>) -> Self {
        let lines = Self {
            verbose: opening.verbose,
            meter: Meter::new(),
            pace: Pace::new(INTERVAL),
        };
        lines.print(
            "start",
            json!({
                "schema": SCHEMA,
                "program": "plikd",
                "version": env!("CARGO_PKG_VERSION"),
                "command": opening.command,
                "options": opening.options,
            }),
        );
        lines
    }

    /// Tells what a run that came to its end did.
    pub fn summary(&self, summary: &Summary) {
        self.print("progress", passed(&self.meter.passed()));
        self.print("summary", values::summary(summary));
    }

    /// The last line, whatever happened.
    pub fn end(&self, outcome: OutcomeRef<'_>) {
        self.print("end", values::ending(outcome));
    }

    fn print(&self, event: &str, fields: Value) {
        let line = line(event, Timestamp::now(), fields);
        // One that nobody reads any more must not end the run.
        let _ = writeln!(io::stdout().lock(), "{line}");
    }
}

impl Progress for JsonLines {
    fn on(&self, event: Event<'_>) {
        if let Event::Checked(items) = event {
            items
                .iter()
                .for_each(|item| self.print("check", check(item)));
        }
        let told = fields(&event, self.verbose);
        let is_progress = matches!(
            event,
            Event::BlobBytes(_) | Event::BlobEnd { .. } | Event::Rows { .. }
        );
        self.meter.on(event);
        if let Some((name, fields)) = told {
            self.print(name, fields);
        }
        if is_progress && self.pace.is_due() {
            self.print("progress", passed(&self.meter.passed()));
        }
    }
}

fn line(event: &str, time: Timestamp, fields: Value) -> Value {
    let mut all = Map::new();
    all.insert("event".to_owned(), event.into());
    all.insert("time".to_owned(), time.to_string().into());
    if let Value::Object(fields) = fields {
        all.extend(fields);
    }
    Value::Object(all)
}

fn passed(passed: &Passed) -> Value {
    let tables = passed.tables.iter().map(
        |table| json!({"table": table.table, "rows": table.rows, "rows_total": table.rows_total}),
    );
    json!({
        "blobs": passed.blobs,
        "blobs_total": passed.blobs_total,
        "bytes": passed.bytes,
        "bytes_total": passed.bytes_total,
        "tables": tables.collect::<Value>(),
    })
}

fn check(item: &CheckItem) -> Value {
    json!({
        "name": item.name,
        "verdict": item.verdict.as_str(),
        "detail": item.detail,
        "hint": item.hint,
    })
}

/// The name and the fields of an event that has a line of its own.
fn fields(event: &Event<'_>, verbose: bool) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::Ends(ends) => (
            "ends",
            json!({"from": values::end(&ends.from), "to": values::end(&ends.to)}),
        ),
        Event::ColumnLeftOut { table, column } => {
            ("column_left_out", json!({"table": table, "column": column}))
        }
        Event::TableLeftOut(unfit) => (
            "table_left_out",
            json!({"table": unfit.table, "reason": unfit.to_string()}),
        ),
        Event::BlobsBegin { blobs, bytes } => {
            ("blobs_begin", json!({"blobs": blobs, "bytes": bytes}))
        }
        Event::BlobProblem { problem } => (
            "blob_problem",
            json!({
                "file": problem.file_id,
                "upload": problem.upload_id,
                "harmless": problem.harmless,
                "from_place": problem.places.from,
                "to_place": problem.places.to,
                "reason": problem.reason,
            }),
        ),
        Event::TableBegin { table, rows } => ("table_begin", json!({"table": table, "rows": rows})),
        Event::TableEnd { table } => ("table_end", json!({"table": table})),
        Event::LintBegin => ("lint_begin", json!({})),
        Event::Finding(finding) => ("finding", values::finding(finding)),
        Event::Rejected(reject) => (
            "rejected",
            json!({"table": reject.table, "key": reject.key, "reason": reject.reason}),
        ),
        Event::Conflict { table, key } => ("conflict", json!({"table": table, "key": key})),
        Event::Extra { table, key, reason } => (
            "extra",
            json!({"table": table, "key": key, "reason": reason}),
        ),
        Event::Updated { table, key } => ("updated", json!({"table": table, "key": key})),
        Event::Deleted { table, key } => ("deleted", json!({"table": table, "key": key})),
        Event::BlobDeleted { file_id, upload_id } => (
            "blob_deleted",
            json!({"file": file_id, "upload": upload_id}),
        ),
        Event::Dropped { tables } => ("dropped", json!({"tables": tables})),
        Event::WouldDrop { table, rows } => ("would_drop", json!({"table": table, "rows": rows})),
        Event::FreshBegin => ("fresh_begin", json!({})),
        Event::FreshAbandoned { reason } => ("fresh_abandoned", json!({"reason": reason})),
        Event::Keys(built) => ("keys", json!({"built": built.done, "all": built.all})),
        Event::Retry {
            blob,
            reason,
            failures,
            wait,
        } => (
            "retry",
            json!({
                "file": blob,
                "reason": reason,
                "failures": failures,
                "wait_seconds": wait.as_secs_f64(),
            }),
        ),
        Event::Limits { limits, changed } => (
            "limits",
            json!({"limits": limits.to_string(), "changed": changed}),
        ),
        Event::VerifyBegin => ("verify_begin", json!({})),
        Event::RowDiffers { table, row } => ("row_difference", values::row_difference(table, row)),
        Event::Stray(blob) => ("stray", values::stray(blob)),
        Event::FileDiffers(file) => ("file_difference", values::file_difference(file)),
        Event::Would {
            action,
            what,
            key,
            detail,
            fix,
        } if verbose || action.is_notable() => (
            "would",
            json!({
                "action": action.as_str(),
                "what": what,
                "key": key,
                "detail": detail,
                "fix": fix,
            }),
        ),
        // Together they are the progress, told at intervals.
        Event::BlobBytes(_) | Event::BlobEnd { .. } | Event::Rows { .. } | Event::Would { .. } => {
            return None;
        }
        // Each of them has a line.
        Event::Checked(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::Action;

    #[test]
    fn outages_and_changed_limits_are_told() {
        let retry = Event::Retry {
            blob: None,
            reason: "gone",
            failures: 2,
            wait: Duration::from_millis(1500),
        };
        let expected = json!({"file": null, "reason": "gone", "failures": 2, "wait_seconds": 1.5});
        assert_eq!(fields(&retry, false), Some(("retry", expected)));
        let limits = crate::migrate::Limits::default();
        let expected = json!({
            "limits": "bandwidth unlimited, requests unlimited, nice off",
            "changed": true,
        });
        let told = fields(
            &Event::Limits {
                limits: &limits,
                changed: true,
            },
            false,
        );
        assert_eq!(told, Some(("limits", expected)));
    }

    #[test]
    fn a_line_says_what_and_when_first() {
        let time = "2026-05-06T07:08:09.5Z".parse().unwrap();
        let told = fields(&Event::TableEnd { table: "users" }, false);
        let (name, fields) = told.unwrap();
        assert_eq!(
            line(name, time, fields),
            json!({"event": "table_end", "time": "2026-05-06T07:08:09.5Z", "table": "users"})
        );
    }

    #[test]
    fn bytes_have_no_line_each() {
        assert!(fields(&Event::BlobBytes(9), true).is_none());
        let table = "users";
        assert!(fields(&Event::Rows { table, rows: 1 }, true).is_none());
    }

    #[test]
    fn what_a_dry_run_would_copy_is_told_only_when_asked() {
        let event = |action| Event::Would {
            action,
            what: "users",
            key: "local:joe",
            detail: "",
            fix: None,
        };
        assert!(fields(&event(Action::Copy), false).is_none());
        assert!(fields(&event(Action::Copy), true).is_some());
        assert!(fields(&event(Action::Conflict), false).is_some());
    }
}
