//! Writes the rows of a migration into a SQLite database.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::tz::TimeZone;
use rusqlite::{Connection, Statement, TransactionBehavior};

use super::fields::Fields;
use super::fresh::FreshLoad;
use super::layouts::layouts;
use super::loading::{Draft, Loading, Unpublished, remove_leftover};
use super::{Access, Location, connect, failure, run};
use crate::config::MetadataConfig;
use crate::metadata::MetadataError;
use crate::metadata::checkpoint::Checkpoint;
use crate::metadata::error::During;
use crate::metadata::layout::{Column, Layout, quote, unreferred};
use crate::metadata::loader::{Delete, Existing, Loaded, OnReject, Write};
use crate::metadata::reject::{Reject, shown_key};
use crate::metadata::table::Kind;
use crate::metadata::tuple::{Batch, Encoding, Tuple};

/// A connection of its own, beside those of the pool.
pub struct BulkWriter {
    /// `None` after [`BulkWriter::close`], until it is needed again.
    connection: Arc<Mutex<Option<Connection>>>,
    location: Location,
    label: String,
    zone: TimeZone,
}

/// [`Write`] with everything it needs, to be moved to a blocking thread.
struct Job {
    layout: Layout,
    rows: Batch,
    encoding: Encoding,
    not_compared: HashSet<String>,
    existing: Existing,
    on_reject: OnReject,
    checkpoint: Option<Checkpoint>,
    zone: TimeZone,
}

impl BulkWriter {
    /// Opens a database whose tables exist.
    pub async fn open(config: &MetadataConfig, zone: TimeZone) -> Result<Self, MetadataError> {
        let location = Location::parse(config.connection_string.expose())?;
        let label = location.to_string();
        blocking(move || {
            // This program has it alone.
            remove_leftover(&location);
            let connection = connect(&location, Access::ReadWrite)?;
            Ok(Self {
                connection: Arc::new(Mutex::new(Some(connection))),
                location,
                label,
                zone,
            })
        })
        .await
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
            existing: write.existing,
            on_reject: write.on_reject,
            checkpoint: write.checkpoint.cloned(),
            zone: self.zone.clone(),
        };
        self.with("write rows", move |connection| job.run(connection))
            .await
    }

    /// Removes rows by their keys, as one transaction.
    pub async fn delete(&self, delete: Delete<'_>) -> Result<Vec<usize>, MetadataError> {
        let (layout, keys) = (delete.layout.clone(), delete.keys.clone());
        let mut fields = Fields::new(&layout, delete.encoding, &self.zone);
        self.with("delete rows", move |connection| {
            let sql = format!(
                "DELETE FROM {} AS t WHERE {}{}",
                quote(&layout.name),
                same_key(&layout),
                unreferred(&layout)
            );
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut deleted = Vec::new();
            {
                let mut delete = transaction.prepare_cached(&sql)?;
                for (place, key) in keys.iter().enumerate() {
                    fields.bind(&mut delete, key)?;
                    deleted.extend((delete.raw_execute()? > 0).then_some(place));
                }
            }
            transaction.commit()?;
            Ok(deleted)
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, MetadataError> {
        let label = self.label.clone();
        self.with_connection(move |connection, _| {
            let during = During {
                action,
                backend: &label,
            };
            work(connection).map_err(|error| failure(during, &error))
        })
        .await
    }

    async fn with_connection<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, &Location) -> Result<T, MetadataError> + Send + 'static,
    ) -> Result<T, MetadataError> {
        let (connection, location) = (Arc::clone(&self.connection), self.location.clone());
        blocking(move || {
            // A transaction that a panic cut short was rolled back when it was dropped.
            let mut slot = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let connection = match slot.take() {
                Some(connection) => connection,
                None => connect(&location, Access::ReadWrite)?,
            };
            work(slot.insert(connection), &location)
        })
        .await
    }

    /// Begins a load of `tables`, all empty, into a file beside the database. `None` if that file
    /// could not take its place.
    pub async fn begin_fresh(
        &self,
        tables: &[&Layout],
    ) -> Result<Option<FreshLoad>, MetadataError> {
        let tables: Vec<Layout> = tables.iter().copied().cloned().collect();
        let (label, zone) = (self.label.clone(), self.zone.clone());
        self.with_connection(move |connection, location| {
            let loading = Loading::create(location, connection, &tables)?;
            Ok(loading.map(|loading| FreshLoad::start(loading, &tables, &label, zone)))
        })
        .await
    }

    /// Puts `draft` in the place of the database, which is closed.
    pub async fn publish(&self, draft: Draft) -> Result<Result<(), Unpublished>, MetadataError> {
        let location = self.location.clone();
        blocking(move || Ok(draft.publish(&location))).await
    }

    /// Closes the connection. It is opened again when there is more to do.
    pub async fn close(&self) -> Result<(), MetadataError> {
        let connection = Arc::clone(&self.connection);
        blocking(move || {
            let mut slot = connection.lock().unwrap_or_else(PoisonError::into_inner);
            drop(slot.take());
            Ok(())
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MetadataError> + Send + 'static,
) -> Result<T, MetadataError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        During {
            action: "run a task",
            backend: "SQLite",
        }
        .failed(error.to_string())
    })?
}

impl Job {
    fn run(&self, connection: &mut Connection) -> rusqlite::Result<Loaded> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let loaded = match self.existing {
            Existing::Keep => self.insert_all(&transaction)?,
            Existing::Update => self.update_all(&transaction)?,
        };
        if self.on_reject == OnReject::Stop && !loaded.rejects.is_empty() {
            // Dropped, the transaction is rolled back: the run ends before these rows.
            return Ok(loaded);
        }
        if let Some(checkpoint) = &self.checkpoint {
            run(
                &transaction,
                &checkpoint.statement_after(&loaded),
                &self.zone,
            )?;
        }
        transaction.commit()?;
        Ok(loaded)
    }

    fn insert_all(&self, connection: &Connection) -> rusqlite::Result<Loaded> {
        let mut insert = connection.prepare_cached(&self.insert_sql())?;
        let mut same = connection.prepare_cached(&self.same_sql())?;
        let mut fields = Fields::new(&self.layout, self.encoding, &self.zone);
        let mut loaded = Loaded::default();
        for row in self.rows.iter() {
            let inserted = fields.bind(&mut insert, row);
            match inserted.and_then(|()| insert.raw_execute()) {
                Ok(0) => match is_same(&mut fields, &mut same, row)? {
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

    fn update_all(&self, connection: &Connection) -> rusqlite::Result<Loaded> {
        let mut update = connection.prepare_cached(&self.update_sql())?;
        let mut fields = Fields::new(&self.layout, self.encoding, &self.zone);
        let mut loaded = Loaded::default();
        for row in self.rows.iter() {
            let bound = fields.bind(&mut update, row);
            match bound.and_then(|()| update.raw_execute()) {
                Ok(rows) => loaded.updated += rows as u64,
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

    fn update_sql(&self) -> String {
        let columns = self.layout.columns.iter().enumerate();
        let changed: Vec<String> = columns
            .filter(|(position, column)| {
                !self.layout.primary_key.contains(position)
                    && !self.not_compared.contains(&column.name)
            })
            .map(|(position, column)| format!("{} = ?{}", quote(&column.name), position + 1))
            .collect();
        format!(
            "UPDATE {} SET {} WHERE {}",
            quote(&self.layout.name),
            changed.join(", "),
            same_key(&self.layout)
        )
    }

    fn insert_sql(&self) -> String {
        let key: Vec<String> = self.layout.key_names().into_iter().map(quote).collect();
        format!(
            "{} ON CONFLICT ({}) DO NOTHING",
            insert_sql(&self.layout),
            key.join(", ")
        )
    }

    /// Finds the row if it is there with the same values.
    fn same_sql(&self) -> String {
        let columns = self.layout.columns.iter().enumerate();
        let conditions: Vec<String> = columns
            .filter(|(_, column)| !self.not_compared.contains(&column.name))
            .map(|(position, column)| same_value(position, column))
            .collect();
        format!(
            "SELECT 1 FROM {} WHERE {}",
            quote(&self.layout.name),
            conditions.join(" AND ")
        )
    }
}

/// The condition that the column has the value of its parameter, times compared as instants.
fn same_value(position: usize, column: &Column) -> String {
    let (name, parameter) = (quote(&column.name), format!("?{}", position + 1));
    match column.kind {
        Kind::Time => {
            format!("({name} IS {parameter} OR instant({name}) = instant({parameter}))")
        }
        _ => format!("{name} IS {parameter}"),
    }
}

/// The condition that a row has the key that the parameters have.
fn same_key(layout: &Layout) -> String {
    let key = layout.primary_key.iter();
    let same = key.map(|position| same_value(*position, &layout.columns[*position]));
    same.collect::<Vec<String>>().join(" AND ")
}

/// Inserts one row, its fields as parameters.
pub(super) fn insert_sql(layout: &Layout) -> String {
    let names: Vec<String> = layout.columns.iter().map(|c| quote(&c.name)).collect();
    let values: Vec<String> = (1..=names.len()).map(|n| format!("?{n}")).collect();
    format!(
        "INSERT INTO {} ({}) VALUES ({})",
        quote(&layout.name),
        names.join(", "),
        values.join(", ")
    )
}

/// Whether the row of that key has the same values, times compared as instants.
fn is_same(
    fields: &mut Fields,
    same: &mut Statement<'_>,
    row: Tuple<'_>,
) -> rusqlite::Result<bool> {
    fields.bind(same, row)?;
    Ok(same.raw_query().next()?.is_some())
}

/// Whether another row could still be written: the fault is in this one.
pub(super) fn is_about_the_row(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    matches!(
        error.sqlite_error_code(),
        Some(ConstraintViolation | TooBig | TypeMismatch)
    )
}
