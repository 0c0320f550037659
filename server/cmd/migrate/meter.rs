//! How much of a run is done, counted from its events, and how long each phase took.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::migrate::{Event, Progress};

/// The part of a run that an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Looking at both ends.
    Check,
    Blobs,
    Rows,
    /// Building keys and indexes after the rows.
    Keys,
    /// Comparing both ends.
    Verify,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Blobs => "blobs",
            Self::Rows => "rows",
            Self::Keys => "keys",
            Self::Verify => "verify",
        }
    }
}

/// What has passed so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub blobs: u64,
    pub blobs_total: u64,
    /// Of blobs, also of those that needed no copy.
    pub bytes: u64,
    pub bytes_total: u64,
    /// In the order in which they came.
    pub tables: Vec<TablePassed>,
    /// What was tried again: blobs, and the run as a whole.
    pub retries: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablePassed {
    pub table: String,
    pub rows: u64,
    pub rows_total: u64,
}

/// Counts events; asked at any time.
pub struct Meter(Mutex<State>);

struct State {
    passed: Passed,
    phase: Phase,
    since: Instant,
    spent: BTreeMap<Phase, Duration>,
    /// Bytes that were copied, unlike those that were there.
    moved_bytes: u64,
}

impl Meter {
    pub fn new() -> Self {
        Self(Mutex::new(State {
            passed: Passed::default(),
            phase: Phase::Check,
            since: Instant::now(),
            spent: BTreeMap::new(),
            moved_bytes: 0,
        }))
    }

    pub fn passed(&self) -> Passed {
        self.with(|state| state.passed.clone())
    }

    pub fn phase(&self) -> Phase {
        self.with(|state| state.phase)
    }

    /// Milliseconds per phase, and for blobs and rows how fast they went.
    pub fn phases(&self) -> Value {
        self.with(|state| {
            state.enter(state.phase);
            let phases = state.spent.iter().map(|(phase, spent)| {
                let (what, count) = match phase {
                    Phase::Blobs => ("bytes_per_second", Some(state.moved_bytes)),
                    Phase::Rows => ("rows_per_second", Some(state.rows())),
                    Phase::Check | Phase::Keys | Phase::Verify => ("", None),
                };
                let mut fields = json!({"phase": phase.as_str(), "milliseconds": millis(*spent)});
                if let (Some(count), Value::Object(fields)) = (count, &mut fields) {
                    fields.insert(what.to_owned(), per_second(count, *spent).into());
                }
                fields
            });
            phases.collect()
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // A count survives the panic of another task.
        let mut state = self.0.lock().unwrap_or_else(|state| state.into_inner());
        act(&mut state)
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        let now = Instant::now();
        *self.spent.entry(self.phase).or_default() += now - self.since;
        (self.phase, self.since) = (phase, now);
    }

    fn rows(&self) -> u64 {
        self.passed.tables.iter().map(|table| table.rows).sum()
    }

    fn begin_table(&mut self, table: &str, rows_total: u64) {
        // A second pass over the rows begins its tables anew.
        self.passed.tables.retain(|known| known.table != table);
        self.passed.tables.push(TablePassed {
            table: table.to_owned(),
            rows: 0,
            rows_total,
        });
    }
}

impl Progress for Meter {
    fn on(&self, event: Event<'_>) {
        self.with(|state| match event {
            Event::BlobsBegin { blobs, bytes } => {
                state.enter(Phase::Blobs);
                // A further attempt looks at all of them again.
                (state.passed.blobs, state.passed.bytes) = (0, 0);
                state.passed.blobs_total = blobs;
                state.passed.bytes_total = bytes;
            }
            Event::BlobBytes(bytes) => {
                state.passed.bytes += bytes;
                state.moved_bytes += bytes;
            }
            Event::BlobEnd { bytes_left } => {
                state.passed.blobs += 1;
                state.passed.bytes += bytes_left;
            }
            Event::TableBegin { table, rows } => {
                state.enter(Phase::Rows);
                state.begin_table(table, rows);
            }
            Event::Rows { table, rows } => {
                let mut tables = state.passed.tables.iter_mut();
                if let Some(known) = tables.find(|known| known.table == table) {
                    known.rows += rows;
                }
            }
            Event::Keys(_) => state.enter(Phase::Keys),
            Event::Retry { .. } => state.passed.retries += 1,
            Event::VerifyBegin => state.enter(Phase::Verify),
            _ => {}
        });
    }
}

/// Whole milliseconds, as JSON carries them.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn per_second(count: u64, time: Duration) -> u64 {
    let seconds = time.as_secs_f64();
    match seconds > 0.0 {
        true => (count as f64 / seconds) as u64,
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_is_counted_per_table_and_a_second_pass_counts_anew() {
        let meter = Meter::new();
        let table = "users";
        for rows in [7, 5] {
            meter.on(Event::TableBegin { table, rows: 9 });
            meter.on(Event::Rows { table, rows });
            meter.on(Event::TableEnd { table });
        }
        meter.on(Event::BlobsBegin {
            blobs: 2,
            bytes: 10,
        });
        meter.on(Event::BlobBytes(4));
        meter.on(Event::BlobEnd { bytes_left: 1 });
        let passed = meter.passed();
        let users = TablePassed {
            table: table.to_owned(),
            rows: 5,
            rows_total: 9,
        };
        assert_eq!(passed.tables, [users]);
        assert_eq!((passed.blobs, passed.bytes), (1, 5));
    }

    #[test]
    fn every_phase_has_its_time() {
        let meter = Meter::new();
        meter.on(Event::BlobsBegin { blobs: 0, bytes: 0 });
        std::thread::sleep(Duration::from_millis(20));
        meter.on(Event::BlobBytes(1000));
        meter.on(Event::VerifyBegin);
        let phases = meter.phases();
        assert_eq!(phases[0]["phase"], "check");
        assert!(phases[1]["milliseconds"].as_u64().unwrap() >= 20);
        let rate = phases[1]["bytes_per_second"].as_u64().unwrap();
        assert!((1..=50_000).contains(&rate), "{rate}");
        assert_eq!(phases[2]["phase"], "verify");
        assert!(phases[2].get("bytes_per_second").is_none());
    }

    #[test]
    fn a_rate_of_no_time_is_none() {
        assert_eq!(per_second(5, Duration::ZERO), 0);
        assert_eq!(per_second(5, Duration::from_millis(500)), 10);
    }
}
