//! How far a migration has come: bars on a terminal, else a log line every few seconds.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use super::changes::{self, Changes, Kind};
use super::meter::millis;
use super::words::{counted, one_line};
use crate::metadata::Built;
use crate::migrate::{BlobProblem, CheckItem, Effect, Event, Progress, Verdict};

/// Between two log lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

const ROWS_TEMPLATE: &str = "{prefix:20} {bar:24} {human_pos}/{human_len} rows {per_sec} {eta}";
const BYTES_TEMPLATE: &str =
    "{prefix:20} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}";

/// The way to show progress that fits where standard error goes.
pub fn watcher(verbose: bool) -> std::sync::Arc<dyn Progress> {
    match std::io::stderr().is_terminal() {
        true => std::sync::Arc::new(Bars::new(verbose)),
        false => std::sync::Arc::new(Lines::new(verbose)),
    }
}

/// One bar per table and one for the bytes, on standard error.
struct Bars {
    screen: MultiProgress,
    blobs: Mutex<Option<ProgressBar>>,
    table: Mutex<Option<ProgressBar>>,
    changes: Changes,
}

impl Bars {
    fn new(verbose: bool) -> Self {
        Self {
            screen: MultiProgress::new(),
            blobs: Mutex::new(None),
            table: Mutex::new(None),
            changes: Changes::new(verbose),
        }
    }

    fn bar(&self, length: u64, template: &str, prefix: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| {
            // The templates are constants, which the tests try.
            ProgressStyle::default_bar()
        });
        let bar = ProgressBar::new(length)
            .with_style(style)
            .with_prefix(prefix.to_owned());
        self.screen.add(bar)
    }

    fn say(&self, line: &str) {
        // A terminal that went away takes its messages with it.
        let _ = self.screen.println(line);
    }
}

fn with(slot: &Mutex<Option<ProgressBar>>, act: impl FnOnce(&ProgressBar)) {
    if let Ok(slot) = slot.lock()
        && let Some(bar) = slot.as_ref()
    {
        act(bar);
    }
}

fn put(slot: &Mutex<Option<ProgressBar>>, bar: ProgressBar) {
    if let Ok(mut slot) = slot.lock() {
        *slot = Some(bar);
    }
}

impl Progress for Bars {
    fn on(&self, event: Event<'_>) {
        match event {
            Event::BlobsBegin { blobs, bytes } => {
                let bar = self.bar(bytes, BYTES_TEMPLATE, "blobs");
                bar.set_message(counted(blobs, "blob"));
                put(&self.blobs, bar);
            }
            Event::BlobBytes(bytes) => with(&self.blobs, |bar| bar.inc(bytes)),
            Event::BlobEnd { bytes_left } => with(&self.blobs, |bar| bar.inc(bytes_left)),
            Event::TableBegin { table, rows } => {
                put(&self.table, self.bar(rows, ROWS_TEMPLATE, table));
            }
            Event::Rows { rows, .. } => with(&self.table, |bar| bar.inc(rows)),
            Event::TableEnd { .. } => with(&self.table, ProgressBar::finish),
            Event::LintBegin => self.say("looking at the rows of the source"),
            Event::Keys(Built { done: 0, all }) => {
                put(&self.table, self.bar(all as u64, ROWS_TEMPLATE, "keys"));
            }
            Event::Keys(Built { done, all }) => with(&self.table, |bar| {
                bar.set_position(done as u64);
                if done == all {
                    bar.finish();
                }
            }),
            Event::VerifyBegin => self.say("comparing source and target"),
            Event::Would { .. } => {
                if let Some(line) = line_of(&event, &self.changes) {
                    self.screen.suspend(|| print_line(&line));
                }
            }
            event => {
                if let Some(line) = line_of(&event, &self.changes) {
                    self.say(&line);
                }
            }
        }
    }
}

/// A line of output. One that nobody reads any more must not end the run.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Says when it is time to tell how far a run is.
pub struct Pace {
    interval: Duration,
    started: Instant,
    /// Milliseconds since `started` at which it was told last.
    last: AtomicU64,
}

impl Pace {
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            started: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// Whether it is time; of several tasks that ask at once one is told so.
    pub fn is_due(&self) -> bool {
        let (now, last) = (
            millis(self.started.elapsed()),
            self.last.load(Ordering::Relaxed),
        );
        now.saturating_sub(last) >= millis(self.interval)
            && self
                .last
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// Log lines, for a service manager's journal or a file.
struct Lines {
    pace: Pace,
    bytes: AtomicU64,
    bytes_total: AtomicU64,
    rows: AtomicU64,
    rows_total: AtomicU64,
    changes: Changes,
}

impl Lines {
    fn new(verbose: bool) -> Self {
        Self {
            pace: Pace::new(LINE_INTERVAL),
            bytes: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            rows_total: AtomicU64::new(0),
            changes: Changes::new(verbose),
        }
    }

    fn bytes_passed(&self, bytes: u64) {
        let done = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.pace.is_due() {
            let total = self.bytes_total.load(Ordering::Relaxed);
            tracing::info!("{} of {} done", HumanBytes(done), HumanBytes(total));
        }
    }

    fn rows_passed(&self, table: &str, rows: u64) {
        let done = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        if self.pace.is_due() {
            let total = self.rows_total.load(Ordering::Relaxed);
            tracing::info!("{table}: {done} of {total} rows");
        }
    }
}

impl Progress for Lines {
    fn on(&self, event: Event<'_>) {
        match event {
            Event::BlobsBegin { blobs, bytes } => {
                self.bytes_total.store(bytes, Ordering::Relaxed);
                tracing::info!(
                    "{} to look at, {}",
                    counted(blobs, "blob"),
                    HumanBytes(bytes)
                );
            }
            Event::BlobBytes(bytes) | Event::BlobEnd { bytes_left: bytes } => {
                self.bytes_passed(bytes);
            }
            Event::TableBegin { rows, .. } => {
                self.rows.store(0, Ordering::Relaxed);
                self.rows_total.store(rows, Ordering::Relaxed);
            }
            Event::Rows { table, rows } => self.rows_passed(table, rows),
            Event::TableEnd { table } => {
                tracing::info!(
                    "{table}: {} read",
                    counted(self.rows.load(Ordering::Relaxed), "row")
                );
            }
            Event::LintBegin => tracing::info!("Looking at the rows of the source"),
            Event::Keys(Built { done: 0, all }) => {
                tracing::info!("Building {all} keys and indexes");
            }
            Event::VerifyBegin => tracing::info!("Comparing source and target"),
            // What a dry run would do is its output.
            Event::Would { .. } => {
                if let Some(line) = line_of(&event, &self.changes) {
                    print_line(&line);
                }
            }
            event => {
                if let Some(line) = line_of(&event, &self.changes) {
                    super::say(&line);
                }
            }
        }
    }
}

/// The line about one row or blob, if there is something to say about it that was not said often
/// enough.
fn line_of(event: &Event<'_>, changes: &Changes) -> Option<String> {
    let line = changes::line(event).or_else(|| other_line(event, changes.all()))?;
    match Kind::of(event) {
        Some(kind) => changes.few(kind, line),
        None => Some(line),
    }
}

fn other_line(event: &Event<'_>, all: bool) -> Option<String> {
    match event {
        Event::BlobProblem { problem } => Some(blob_line(problem)),
        // A row that is rejected is named when it is, or when that ends the run.
        Event::Finding(finding) => (finding.effect != Effect::Rejected)
            .then(|| format!("{}: {finding}", finding.effect.as_str())),
        Event::Checked(items) => Some(check_lines(items)),
        Event::Rejected(reject) => Some(format!(
            "rejected: {} {}: {}",
            reject.table, reject.key, reject.reason
        )),
        Event::FreshAbandoned { reason } => Some(format!(
            "the target cannot be loaded whole ({reason}): starting the rows again, batch by batch"
        )),
        Event::Conflict { table, key } => Some(format!(
            "conflict: {table} {key}: the target has it with other values"
        )),
        Event::Extra { table, key, reason } => {
            let reason = reason.unwrap_or("only the target has it");
            Some(format!("extra: {table} {key}: {reason}"))
        }
        Event::Retry {
            blob,
            reason,
            failures,
            wait,
        } => {
            let what = blob.map(|id| format!("blob {id}: ")).unwrap_or_default();
            let wait = wait.as_secs_f64();
            Some(format!("retry {failures} in {wait:.1}s: {what}{reason}"))
        }
        Event::Limits {
            limits,
            changed: true,
        } => Some(format!("limits changed: {limits}")),
        Event::Limits { limits, .. } => Some(format!("limits: {limits}")),
        Event::Would {
            action,
            what,
            key,
            detail,
            fix,
        } => {
            let detail = if detail.is_empty() {
                String::new()
            } else {
                format!(": {detail}")
            };
            let fix = fix.map(|fix| format!(" ({fix})")).unwrap_or_default();
            let line = format!("{:9} {what} {key}{detail}{fix}", action.as_str());
            (all || action.is_notable()).then_some(line)
        }
        _ => None,
    }
}

/// One line each, and one with the remedy where one is needed. Those that could not be found out for
/// one reason share a line: a server often knows nothing of a whole part of S3.
pub fn check_lines(items: &[CheckItem]) -> String {
    let is_like = |one: &CheckItem, other: &CheckItem| {
        let unknown = (Verdict::Unknown, Verdict::Unknown);
        (one.verdict, other.verdict) == unknown
            && (&one.detail, &one.hint) == (&other.detail, &other.hint)
    };
    let mut lines = Vec::new();
    for (place, item) in items.iter().enumerate() {
        if items[..place].iter().any(|earlier| is_like(earlier, item)) {
            continue;
        }
        let like = items[place + 1..]
            .iter()
            .filter(|later| is_like(item, later));
        let names = std::iter::once(item).chain(like).map(|item| &item.name[..]);
        lines.push(check_line(&names.collect::<Vec<_>>().join(", "), item));
    }
    lines.join("\n")
}

fn check_line(names: &str, item: &CheckItem) -> String {
    let mark = match item.verdict {
        Verdict::Passed => '✓',
        Verdict::Doubtful => '!',
        Verdict::Unknown => '?',
        Verdict::Failed => '✗',
    };
    let line = format!("{mark} {names}: {}", item.detail);
    match &item.hint {
        Some(hint) => format!("{line}\n   hint: {hint}"),
        None => line,
    }
}

fn blob_line(problem: &BlobProblem) -> String {
    let BlobProblem {
        file_id,
        upload_id,
        harmless,
        places,
        reason,
    } = problem;
    one_line(&match harmless {
        true => format!("skipped: blob {file_id} of a removed file: {reason}"),
        false => format!("failed: blob {file_id} of upload {upload_id}{places}: {reason}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::Action;

    #[test]
    fn the_templates_are_valid() {
        for template in [ROWS_TEMPLATE, BYTES_TEMPLATE] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }

    #[test]
    fn what_is_tried_again_is_told_with_its_reason() {
        let line = |blob, millis| {
            let event = Event::Retry {
                blob,
                reason: "s3://h/b is too busy",
                failures: 3,
                wait: Duration::from_millis(millis),
            };
            line_of(&event, &Changes::new(false)).unwrap()
        };
        assert_eq!(
            line(Some("abc"), 1240),
            "retry 3 in 1.2s: blob abc: s3://h/b is too busy"
        );
        assert_eq!(line(None, 0), "retry 3 in 0.0s: s3://h/b is too busy");
    }

    #[test]
    fn what_could_not_be_found_out_for_one_reason_is_one_line() {
        let item = |name: &str, verdict, detail: &str| CheckItem {
            name: name.to_owned(),
            verdict,
            detail: detail.to_owned(),
            hint: None,
        };
        let silent = "the server does not say: 501 NotImplemented";
        let items = [
            item("clock", Verdict::Passed, "well"),
            item("versions", Verdict::Unknown, silent),
            item("space", Verdict::Passed, silent),
            item("object lock", Verdict::Unknown, silent),
            item("encryption", Verdict::Unknown, "403"),
        ];
        assert_eq!(
            check_lines(&items),
            "✓ clock: well\n\
             ? versions, object lock: the server does not say: 501 NotImplemented\n\
             ✓ space: the server does not say: 501 NotImplemented\n\
             ? encryption: 403"
        );
    }

    #[test]
    fn a_dry_run_lists_everything_only_when_asked() {
        let event = |action| Event::Would {
            action,
            what: "users",
            key: "local:joe",
            detail: "",
            fix: None,
        };
        assert_eq!(line_of(&event(Action::Copy), &Changes::new(false)), None);
        assert_eq!(
            line_of(&event(Action::Copy), &Changes::new(true)).unwrap(),
            "copy      users local:joe"
        );
        assert!(line_of(&event(Action::Conflict), &Changes::new(false)).is_some());
    }
}
