//! What a person reads while a server is moved to its other database.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::progress::check_lines;
use super::super::words::counted;
use super::say;
use crate::migrate::{CheckItem, Event, Progress, Verdict};

/// Tells how a change of dialect goes on, a line for each step.
pub struct DialectLines {
    /// What is done with the rows of a table.
    verb: &'static str,
    table: Mutex<Table>,
}

impl DialectLines {
    pub fn new(dry_run: bool) -> Self {
        Self {
            verb: if dry_run { "compare" } else { "copy" },
            table: Mutex::default(),
        }
    }

    fn say(&self, name: &str, table: &Table) {
        let Table { rows, all, .. } = table;
        say(&format!("info: {} {name} {rows}/{all}", self.verb));
    }
}

/// The table being copied, and how far.
#[derive(Default)]
struct Table {
    rows: u64,
    all: u64,
    said: Option<Instant>,
}

/// Between two lines about one table.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

impl Progress for DialectLines {
    fn on(&self, event: Event<'_>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::TableBegin { rows, .. } => {
                *table = Table {
                    all: rows,
                    said: Some(Instant::now()),
                    ..Table::default()
                };
            }
            Event::Rows { table: name, rows } => {
                table.rows += rows;
                let is_time = |said: Instant| said.elapsed() >= LINE_INTERVAL;
                if table.said.is_some_and(is_time) {
                    table.said = Some(Instant::now());
                    self.say(name, &table);
                }
            }
            Event::TableEnd { table: name } => {
                self.say(name, &table);
            }
            Event::Rejected(reject) => say(&format!(
                "warning: skip {} {}: {}",
                reject.table, reject.key, reject.reason
            )),
            Event::Dropped { tables } => say(&format!("info: dropped {}", tables.join(", "))),
            Event::WouldDrop { table, rows } => {
                say(&format!(
                    "info: would drop {table} ({})",
                    counted(rows, "row")
                ));
            }
            // One alone is named by the failure itself.
            Event::Checked(items) => {
                let failed = items.iter().filter(|item| item.verdict == Verdict::Failed);
                let failed: Vec<CheckItem> = failed.cloned().collect();
                if failed.len() > 1 {
                    say(&check_lines(&failed));
                }
            }
            Event::FreshAbandoned { reason } => {
                say(&format!("info: once more, row by row: {reason}"));
            }
            _ => {}
        }
    }
}
