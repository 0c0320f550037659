//! Writes the rows of a migration into a SQLite database.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::tz::TimeZone;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement, TransactionBehavior};

use super::reader::layouts;
use super::{Access, Location, connect, failure, run};
use crate::config::MetadataConfig;
use crate::metadata::MetadataError;
use crate::metadata::error::During;
use crate::metadata::layout::{Layout, quote};
use crate::metadata::loader::{Checkpoint, Loaded, OnReject, Write};
use crate::metadata::snapshot::{Reject, shown_key};
use crate::metadata::table::Kind;
use crate::metadata::tuple::{Batch, Encoding, Native, POSTGRES_EPOCH_MICROS, Tuple};
use crate::model::{Timestamp, time};

/// A connection of its own, beside those of the pool.
pub struct BulkWriter {
    connection: Arc<Mutex<Connection>>,
    label: String,
    zone: TimeZone,
}

/// [`Write`] with everything it needs, to be moved to a blocking thread.
struct Job {
    layout: Layout,
    rows: Batch,
    encoding: Encoding,
    not_compared: HashSet<String>,
    on_reject: OnReject,
    checkpoint: Checkpoint,
    zone: TimeZone,
}

impl BulkWriter {
    /// Opens a database whose tables exist.
    pub async fn open(config: &MetadataConfig, zone: TimeZone) -> Result<Self, MetadataError> {
        let location = Location::parse(config.connection_string.expose())?;
        let label = location.to_string();
        tokio::task::spawn_blocking(move || {
            let connection = connect(&location, Access::ReadWrite)?;
            Ok(Self {
                connection: Arc::new(Mutex::new(connection)),
                label,
                zone,
            })
        })
        .await
        .map_err(|error| opening(&error))?
    }

    /// Every table of the database.
    pub async fn layouts(&self) -> Result<Vec<Layout>, MetadataError> {
        self.with("read its schema", |connection| layouts(connection))
            .await
    }

    /// Runs DDL, all of it or none.
    pub async fn define(&self, statements: Vec<String>) -> Result<(), MetadataError> {
        self.with("extend its tables", move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for statement in &statements {
                transaction.execute(statement, ())?;
            }
            transaction.commit()
        })
        .await
    }

    /// Writes the rows and the checkpoint as one transaction.
    pub async fn write(&self, write: Write<'_>) -> Result<Loaded, MetadataError> {
        let job = Job {
            layout: write.layout.clone(),
            rows: write.rows.clone(),
            encoding: write.encoding,
            not_compared: write
                .not_compared
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
            on_reject: write.on_reject,
            checkpoint: write.checkpoint.clone(),
            zone: self.zone.clone(),
        };
        self.with("write rows", move |connection| job.run(connection))
            .await
    }

    async fn with<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, MetadataError> {
        let (connection, label) = (Arc::clone(&self.connection), self.label.clone());
        tokio::task::spawn_blocking(move || {
            // A transaction that a panic cut short was rolled back when it was dropped.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let during = During {
                action,
                backend: &label,
            };
            work(&mut connection).map_err(|error| failure(during, &error))
        })
        .await
        .map_err(|error| opening(&error))?
    }
}

fn opening(error: &tokio::task::JoinError) -> MetadataError {
    During {
        action: "run a task",
        backend: "SQLite",
    }
    .failed(error.to_string())
}

impl Job {
    fn run(&self, connection: &mut Connection) -> rusqlite::Result<Loaded> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let loaded = self.insert_all(&transaction)?;
        if self.on_reject == OnReject::Stop && !loaded.rejects.is_empty() {
            // Dropped, the transaction is rolled back: the run ends before these rows.
            return Ok(loaded);
        }
        run(
            &transaction,
            &self.checkpoint.statement_after(&loaded),
            &self.zone,
        )?;
        transaction.commit()?;
        Ok(loaded)
    }

    fn insert_all(&self, connection: &Connection) -> rusqlite::Result<Loaded> {
        let mut insert = connection.prepare_cached(&self.insert_sql())?;
        let mut same = connection.prepare_cached(&self.same_sql())?;
        let mut loaded = Loaded::default();
        for row in self.rows.iter() {
            match self.insert(&mut insert, row) {
                Ok(0) => match self.is_same(&mut same, row)? {
                    true => loaded.present += 1,
                    false => loaded
                        .conflicts
                        .push(shown_key(&self.layout, row, self.encoding)),
                },
                Ok(_) => loaded.copied += 1,
                Err(error) if is_about_the_row(&error) => {
                    let reason = error.to_string();
                    loaded
                        .rejects
                        .push(Reject::new(&self.layout, row, self.encoding, reason));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(loaded)
    }

    fn insert(&self, insert: &mut Statement<'_>, row: Tuple<'_>) -> rusqlite::Result<usize> {
        self.bind(insert, row, 0..self.layout.columns.len())?;
        insert.raw_execute()
    }

    /// Whether the row of that key has the same values, times compared as instants.
    fn is_same(&self, same: &mut Statement<'_>, row: Tuple<'_>) -> rusqlite::Result<bool> {
        self.bind(same, row, 0..self.layout.columns.len())?;
        Ok(same.raw_query().next()?.is_some())
    }

    fn bind(
        &self,
        statement: &mut Statement<'_>,
        row: Tuple<'_>,
        columns: std::ops::Range<usize>,
    ) -> rusqlite::Result<()> {
        for (position, field) in row.fields().enumerate() {
            if columns.contains(&position) && position < statement.parameter_count() {
                let value = self.value(field, position);
                statement.raw_bind_parameter(position + 1, value)?;
            }
        }
        Ok(())
    }

    fn value<'a>(&self, field: Option<&'a [u8]>, column: usize) -> ToSqlOutput<'a> {
        match self.encoding {
            Encoding::Native => native(field),
            Encoding::Binary => {
                let key = self.layout.primary_key.contains(&column);
                // A day that is part of a key is midnight UTC, in UTC, wherever the server is.
                let zone = if key { &TimeZone::UTC } else { &self.zone };
                binary(field, self.layout.columns[column].kind, zone)
            }
        }
    }

    fn insert_sql(&self) -> String {
        let names: Vec<String> = self
            .layout
            .columns
            .iter()
            .map(|column| quote(&column.name))
            .collect();
        let values: Vec<String> = (1..=names.len()).map(|n| format!("?{n}")).collect();
        let key: Vec<String> = self
            .layout
            .primary_key
            .iter()
            .map(|key| names[*key].clone())
            .collect();
        format!(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO NOTHING",
            quote(&self.layout.name),
            names.join(", "),
            values.join(", "),
            key.join(", ")
        )
    }

    /// Finds the row if it is there with the same values.
    fn same_sql(&self) -> String {
        let columns = self.layout.columns.iter().enumerate();
        let conditions: Vec<String> = columns
            .filter(|(_, column)| !self.not_compared.contains(&column.name))
            .map(|(position, column)| {
                let (name, parameter) = (quote(&column.name), format!("?{}", position + 1));
                match column.kind {
                    Kind::Time => {
                        format!("({name} IS {parameter} OR instant({name}) = instant({parameter}))")
                    }
                    _ => format!("{name} IS {parameter}"),
                }
            })
            .collect();
        format!(
            "SELECT 1 FROM {} WHERE {}",
            quote(&self.layout.name),
            conditions.join(" AND ")
        )
    }
}

fn native(field: Option<&[u8]>) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match Native::decode(field) {
        Some(Native::Integer(number)) => ValueRef::Integer(number),
        Some(Native::Real(number)) => ValueRef::Real(number),
        Some(Native::Text(text)) => ValueRef::Text(text),
        Some(Native::Blob(bytes)) => ValueRef::Blob(bytes),
        Some(Native::Null) | None => ValueRef::Null,
    })
}

fn binary<'a>(field: Option<&'a [u8]>, kind: Kind, zone: &TimeZone) -> ToSqlOutput<'a> {
    let Some(bytes) = field else {
        return ToSqlOutput::Borrowed(ValueRef::Null);
    };
    let number = || bytes.try_into().map_or(0, i64::from_be_bytes);
    ToSqlOutput::Borrowed(match kind {
        Kind::Text => ValueRef::Text(bytes),
        Kind::Bytes => ValueRef::Blob(bytes),
        Kind::Integer => ValueRef::Integer(number()),
        Kind::Boolean => ValueRef::Integer(i64::from(bytes == [1])),
        Kind::Real => ValueRef::Real(bytes.try_into().map_or(0.0, f64::from_be_bytes)),
        Kind::Time => {
            let time = number()
                .checked_add(POSTGRES_EPOCH_MICROS)
                .and_then(|micros| Timestamp::from_microsecond(micros).ok());
            return match time {
                Some(time) => ToSqlOutput::from(time::format(time, zone)),
                None => ToSqlOutput::Borrowed(ValueRef::Null),
            };
        }
    })
}

/// Whether another row could still be written: the fault is in this one.
fn is_about_the_row(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    matches!(
        error.sqlite_error_code(),
        Some(ConstraintViolation | TooBig | TypeMismatch)
    )
}
