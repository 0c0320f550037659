//! How far a run has come, kept in the target in the transaction of its rows.

use std::ops::Add;

use super::MetadataError;
use super::engine::Statement;
use super::loader::{Loaded, Loader};
use super::request::Cursor;
use super::snapshot::Identity;
use super::value::Value;

/// What became of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub copied: u64,
    /// Already there, equal.
    pub present: u64,
    /// Already there, different; left as they are.
    pub conflicts: u64,
    /// Rejected.
    pub failed: u64,
    /// Already there, different; made equal.
    pub updated: u64,
    /// Only there, and removed.
    pub deleted: u64,
}

impl Tally {
    /// Rows of the source that were dealt with.
    pub fn total(&self) -> u64 {
        self.copied + self.present + self.conflicts + self.failed + self.updated
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            copied: self.copied + other.copied,
            present: self.present + other.present,
            conflicts: self.conflicts + other.conflicts,
            failed: self.failed + other.failed,
            updated: self.updated + other.updated,
            deleted: self.deleted + other.deleted,
        }
    }
}

/// How far a run has come with one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The database that the rows come from.
    pub source: Identity,
    pub table: String,
    /// The last row read; `None` at the start.
    pub cursor: Option<Cursor>,
    /// All rows of the table were read, in an order that has no cursor.
    pub whole: bool,
    pub tally: Tally,
}

/// In place of a cursor: the table is whole.
pub(super) const WHOLE: &str = "whole";

impl Checkpoint {
    /// Before the first row.
    pub fn new(source: &Identity, table: &str) -> Self {
        Self {
            source: source.clone(),
            table: table.to_owned(),
            cursor: None,
            whole: false,
            tally: Tally::default(),
        }
    }

    /// The statement that writes it down, with what became of the batch.
    pub(super) fn statement_after(&self, loaded: &Loaded) -> Statement {
        let tally = self.tally + loaded.tally();
        let checkpoint = Self {
            tally,
            ..self.clone()
        };
        checkpoint.statement()
    }

    /// The statement that writes it down.
    pub(super) fn statement(&self) -> Statement {
        const SQL: &str = "INSERT INTO plikd_migrate_checkpoints \
             (source, table_name, last_key, copied, present, conflicts, failed) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (source, table_name) DO UPDATE SET last_key = excluded.last_key, \
             copied = excluded.copied, present = excluded.present, \
             conflicts = excluded.conflicts, failed = excluded.failed";
        let tally = self.tally;
        let cursor = match self.whole {
            true => Some(WHOLE.to_owned()),
            false => self.cursor.as_ref().map(Cursor::to_text),
        };
        Statement::new(
            SQL,
            [
                Value::Text(self.source.to_string()),
                Value::Text(self.table.clone()),
                cursor.map_or(Value::Null, Value::Text),
                number(tally.copied),
                number(tally.present),
                number(tally.conflicts),
                number(tally.failed),
            ],
        )
    }
}

fn number(count: u64) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

impl Loader {
    /// Where a run from `source` that was cut off stood with `table`.
    pub async fn checkpoint(
        &self,
        source: &Identity,
        table: &str,
    ) -> Result<Option<Checkpoint>, MetadataError> {
        const SQL: &str = "SELECT last_key, copied, present, conflicts, failed \
             FROM plikd_migrate_checkpoints WHERE source = $1 AND table_name = $2";
        let params = [Value::Text(source.to_string()), table.into()];
        let rows = self
            .metadata
            .engine()
            .query("read its checkpoints", SQL, params)
            .await?;
        let checkpoint = rows.first().map(|row| {
            let count = |column| row.integer(column).unsigned_abs();
            let last_key = row.text("last_key");
            let whole = last_key == WHOLE;
            if whole && count("failed") > 0 {
                // What could not go in then may go in now.
                return Checkpoint::new(source, table);
            }
            Checkpoint {
                source: source.clone(),
                table: table.to_owned(),
                cursor: Cursor::from_text(&last_key),
                whole,
                tally: Tally {
                    copied: count("copied"),
                    present: count("present"),
                    conflicts: count("conflicts"),
                    failed: count("failed"),
                    ..Tally::default()
                },
            }
        });
        Ok(checkpoint)
    }
}
