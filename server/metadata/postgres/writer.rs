//! Writes the rows of a migration into a PostgreSQL database.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::pin::pin;

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::{Client, Transaction};
use twox_hash::XxHash3_128;

use super::fresh::{self, FreshLoad};
use super::layouts::layouts;
use super::reader::type_of;
use super::{Connector, SCHEMA_LOCK, failure, is_about_a_row, run};
use crate::config::MetadataConfig;
use crate::metadata::MetadataError;
use crate::metadata::catalog::MAX_NAME_BYTES;
use crate::metadata::checkpoint::Tally;
use crate::metadata::divided::Part;
use crate::metadata::error::During;
use crate::metadata::fresh::Built;
use crate::metadata::hold::Hold;
use crate::metadata::layout::{Column, Layout, quote, unreferred};
use crate::metadata::loader::{Delete, Existing, Loaded, OnReject, Write};
use crate::metadata::reject::{Reject, join_key};
use crate::metadata::table::Kind;

/// What a binary COPY starts with: signature, flags, length of the header's extension.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub(super) const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// The only join looks a batch up in a table that may be a thousand times larger: by the key, always.
/// Rows that row level security hides must be an error.
pub(super) const SESSION: &str =
    "SET row_security = off; SET enable_hashjoin = off; SET enable_mergejoin = off";

/// In a transaction that needs a table for itself: whoever reads it meanwhile is waited for so long,
/// and so long those who come after have to wait too. An error tells of it, and the run tries again.
pub(in crate::metadata) const SOON: &str = "SET LOCAL lock_timeout = '5s'";

/// For each column of the tables `$1` that has a sequence, the statement that advances it.
const SEQUENCES: &str = "SELECT format('SELECT setval(%L, m) FROM (SELECT max(%I)::bigint AS m FROM %s) t, \
         %s AS s WHERE m > s.last_value OR (m = s.last_value AND NOT s.is_called)', \
         owned.sequence, owned.attname, owned.oid::regclass, owned.sequence) \
     FROM (SELECT c.oid, a.attname, \
             pg_get_serial_sequence(quote_ident(c.relname), a.attname) AS sequence \
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
         WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY($1) \
         AND a.attnum > 0 AND NOT a.attisdropped) AS owned \
     WHERE owned.sequence IS NOT NULL";

/// A connection of its own, beside those of the pool.
pub struct BulkWriter {
    client: Client,
    connector: Connector,
    label: String,
    /// Tables that have a staging table on this connection, because a batch could not simply be
    /// copied into them.
    staged: HashSet<String>,
}

impl BulkWriter {
    /// Opens a database whose tables exist.
    pub async fn open(config: &MetadataConfig, hold: Option<Hold>) -> Result<Self, MetadataError> {
        let connector = Connector::new(config)?.steady().under(hold);
        let label = connector.to_string();
        let client = connector.connect().await?;
        client.batch_execute(SESSION).await.map_err(|error| {
            failure(
                During {
                    action: "open it",
                    backend: &label,
                },
                &error,
            )
        })?;
        Ok(Self {
            client,
            connector,
            label,
            staged: HashSet::new(),
        })
    }

    /// Gives the tables what a load that was cut off, or came in parts, has left out: keys, indexes,
    /// foreign keys.
    pub async fn restore(&self, tell: &(dyn Fn(Built) + Sync)) -> Result<(), MetadataError> {
        fresh::restore(&self.connector, tell).await
    }

    /// Waits until nobody changes the tables, and keeps others from it until
    /// [`BulkWriter::release_schema`], or until this connection ends.
    pub async fn hold_schema(&self) -> Result<(), MetadataError> {
        self.ask_for_schema("SELECT pg_advisory_lock($1)").await
    }

    pub async fn release_schema(&self) -> Result<(), MetadataError> {
        self.ask_for_schema("SELECT pg_advisory_unlock($1)").await
    }

    async fn ask_for_schema(&self, sql: &str) -> Result<(), MetadataError> {
        let during = During {
            action: "prepare its tables",
            backend: &self.label,
        };
        let asked = self.client.execute(sql, &[&SCHEMA_LOCK]).await;
        asked.map(|_| ()).map_err(|error| failure(during, &error))
    }

    /// Takes apart those of `layouts`, all empty, that can be loaded bare, and gives their names.
    pub async fn take_apart(&self, layouts: &[&Layout]) -> Result<HashSet<String>, MetadataError> {
        fresh::take_apart(&self.connector, layouts).await
    }

    /// Begins the load of one part of `tables`, which were taken apart; of some it has `arrived`.
    pub async fn begin_part(
        &self,
        part: Part,
        tables: HashSet<String>,
        arrived: HashMap<String, Tally>,
    ) -> Result<FreshLoad, MetadataError> {
        FreshLoad::join(self.connector.clone(), part, tables, arrived).await
    }

    /// Sequences that number the rows of `tables` go on behind the highest number that is there.
    pub async fn advance_sequences(&self, tables: &[&str]) -> Result<(), MetadataError> {
        let during = During {
            action: "advance its sequences",
            backend: &self.label,
        };
        let advanced = async {
            for row in self.client.query(SEQUENCES, &[&tables]).await? {
                self.client.batch_execute(row.get(0)).await?;
            }
            Ok(())
        };
        advanced.await.map_err(|error| failure(during, &error))
    }

    /// Begins a load of those of `layouts`, all empty, that can be loaded bare.
    pub async fn begin_fresh(
        &self,
        layouts: &[&Layout],
    ) -> Result<Option<FreshLoad>, MetadataError> {
        FreshLoad::begin(self.connector.clone(), layouts).await
    }

    /// Every table of the database.
    pub async fn layouts(&self) -> Result<Vec<Layout>, MetadataError> {
        layouts(&self.client, &self.label).await
    }

    /// Runs DDL, all of it or none.
    pub async fn define(&self, statements: Vec<String>) -> Result<(), MetadataError> {
        let all = format!("BEGIN; {SOON}; {}; COMMIT", statements.join("; "));
        let during = During {
            action: "extend its tables",
            backend: &self.label,
        };
        let outcome = self.client.batch_execute(&all).await;
        if outcome.is_err() {
            // The first error is the one to report.
            let _ = self.client.batch_execute("ROLLBACK").await;
        }
        outcome.map_err(|error| failure(during, &error))
    }

    /// Writes the rows and the checkpoint as one transaction.
    pub async fn write(&mut self, write: Write<'_>) -> Result<Loaded, MetadataError> {
        let label = self.label.clone();
        let during = During {
            action: "write rows",
            backend: &label,
        };
        self.try_write(write)
            .await
            .map_err(|error| failure(during, &error))
    }

    async fn try_write(&mut self, write: Write<'_>) -> Result<Loaded, tokio_postgres::Error> {
        let mut transaction = self.client.transaction().await?;
        let mut load = Load {
            write,
            loaded: Loaded::default(),
        };
        let table = &write.layout.name;
        let straight = write.existing == Existing::Keep && !self.staged.contains(table);
        if !straight || !load.copy_whole(&mut transaction).await? {
            if self.staged.insert(table.clone()) {
                let create = create_staging(write.layout, "DELETE ROWS");
                transaction.batch_execute(&create).await?;
            }
            load.rows(&mut transaction, 0..write.rows.len()).await?;
        }
        let loaded = load.loaded;
        if write.on_reject == OnReject::Stop && !loaded.rejects.is_empty() {
            // The run ends here, so it does not matter that the staging table goes too.
            transaction.rollback().await?;
            return Ok(loaded);
        }
        if let Some(checkpoint) = write.checkpoint {
            run(&transaction, &checkpoint.statement_after(&loaded)).await?;
        }
        transaction.commit().await?;
        Ok(loaded)
    }

    /// Removes rows by their keys, as one transaction.
    pub async fn delete(&mut self, delete: Delete<'_>) -> Result<Vec<usize>, MetadataError> {
        let label = self.label.clone();
        let during = During {
            action: "delete rows",
            backend: &label,
        };
        self.try_delete(delete)
            .await
            .map_err(|error| failure(during, &error))
    }

    async fn try_delete(
        &mut self,
        delete: Delete<'_>,
    ) -> Result<Vec<usize>, tokio_postgres::Error> {
        let keys = Layout {
            name: format!("{}_keys", delete.layout.name),
            ..delete.layout.clone()
        };
        let transaction = self.client.transaction().await?;
        // Gone with the transaction, because the next table's may have its name.
        let create = create_staging(&keys, "DROP");
        transaction.batch_execute(&create).await?;
        // Keys are counted as they come, to tell which of them went.
        let number = format!(
            "ALTER TABLE {} ADD COLUMN {PLACE} bigint GENERATED ALWAYS AS IDENTITY (MINVALUE 0)",
            staging(&keys)
        );
        transaction.batch_execute(&number).await?;
        let rows = delete.keys.as_bytes();
        copy_in(&transaction, &staging(&keys), &keys, rows).await?;
        let sql = format!(
            "DELETE FROM {} t USING {} s WHERE {}{} RETURNING s.{PLACE}",
            quote(&delete.layout.name),
            staging(&keys),
            same_key(delete.layout),
            unreferred(delete.layout)
        );
        let gone = transaction.query(&sql, &[]).await?;
        transaction.commit().await?;
        let places = gone.iter().map(|row| row.try_get::<_, i64>(0));
        let places: Vec<i64> = places.collect::<Result<_, _>>()?;
        let places = places.into_iter().map(usize::try_from);
        let mut places: Vec<usize> = places.filter_map(Result::ok).collect();
        places.sort_unstable();
        Ok(places)
    }
}

/// The column of the keys to be deleted that counts them.
const PLACE: &str = "plikd_migrate_place";

/// One batch on its way in.
struct Load<'a> {
    write: Write<'a>,
    loaded: Loaded,
}

impl Load<'_> {
    /// Copies the batch straight into the table. `false`, and nothing is written, if PostgreSQL
    /// refuses one of its rows, as it does when one is there already.
    async fn copy_whole(
        &mut self,
        transaction: &mut Transaction<'_>,
    ) -> Result<bool, tokio_postgres::Error> {
        let layout = self.write.layout;
        if !layout.columns.iter().all(holds_tuples) {
            return Ok(false);
        }
        let savepoint = transaction.transaction().await?;
        let rows = self.write.rows.as_bytes();
        match copy_in(&savepoint, &quote(&layout.name), layout, rows).await {
            Ok(()) => {
                savepoint.commit().await?;
                self.loaded.copied = self.write.rows.len() as u64;
                Ok(true)
            }
            Err(error) if is_about_a_row(&error) => {
                savepoint.rollback().await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the rows in `range`. If PostgreSQL refuses one of them it refuses all, so they are
    /// tried by halves, until the one at fault is found and named.
    async fn rows(
        &mut self,
        transaction: &mut Transaction<'_>,
        range: Range<usize>,
    ) -> Result<(), tokio_postgres::Error> {
        let mut pending = vec![range];
        while let Some(range) = pending.pop() {
            if range.is_empty() {
                continue;
            }
            let savepoint = transaction.transaction().await?;
            match self.try_rows(&savepoint, range.clone()).await {
                Ok(()) => savepoint.commit().await?,
                Err(error) if is_about_a_row(&error) => {
                    savepoint.rollback().await?;
                    if range.len() == 1 {
                        self.reject(range.start, &error);
                    } else {
                        let middle = range.start + range.len() / 2;
                        pending.push(middle..range.end);
                        pending.push(range.start..middle);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn try_rows(
        &mut self,
        transaction: &Transaction<'_>,
        range: Range<usize>,
    ) -> Result<(), tokio_postgres::Error> {
        let layout = self.write.layout;
        let tuples = self.write.rows.slice(range.clone());
        copy_in(transaction, &staging(layout), layout, tuples).await?;
        let rows = range.len() as u64;
        let moved = match self.write.existing {
            Existing::Keep => self.insert(transaction, rows).await?,
            Existing::Update => {
                let sql = update_sql(layout, self.write.not_compared);
                let updated = transaction.execute(&sql, &[]).await?;
                Loaded {
                    updated,
                    ..Loaded::default()
                }
            }
        };
        if range.len() < self.write.rows.len() {
            // A whole batch is cleared by the commit, a part of one must make room for the next.
            transaction
                .batch_execute(&format!("TRUNCATE {}", staging(layout)))
                .await?;
        }
        self.loaded.copied += moved.copied;
        self.loaded.updated += moved.updated;
        self.loaded.present += moved.present;
        self.loaded.conflicts.extend(moved.conflicts);
        Ok(())
    }

    /// Moves the staged rows into the table, as far as their keys are new.
    async fn insert(
        &self,
        transaction: &Transaction<'_>,
        rows: u64,
    ) -> Result<Loaded, tokio_postgres::Error> {
        let layout = self.write.layout;
        let copied = transaction.execute(&insert_sql(layout), &[]).await?;
        let mut conflicts = Vec::new();
        if copied < rows {
            let sql = conflicts_sql(layout, self.write.not_compared);
            let found = transaction.query(&sql, &[]).await?;
            let kinds = layout.key_kinds();
            conflicts.extend(found.iter().map(|row| {
                let fields = kinds.iter().enumerate();
                let fields = fields.map(|(field, kind)| shown_field(row.get(field), *kind));
                join_key(layout, fields)
            }));
        }
        Ok(Loaded {
            copied,
            present: rows - copied - conflicts.len() as u64,
            conflicts,
            ..Loaded::default()
        })
    }

    fn reject(&mut self, row: usize, error: &tokio_postgres::Error) {
        let reason = error.as_db_error().map_or_else(
            || error.to_string(),
            |error| match (error.column(), error.constraint()) {
                (Some(column), _) => format!("{column}: {}", error.message()),
                (None, Some(constraint)) => format!("{} ({constraint})", error.message()),
                (None, None) => error.message().to_owned(),
            },
        );
        let tuple = self.write.rows.tuple(row);
        self.loaded.rejects.push(Reject::new(
            self.write.layout,
            tuple,
            self.write.encoding,
            reason,
        ));
    }
}

/// Whether the column's type has the binary form that the tuples have.
pub(super) fn holds_tuples(column: &Column) -> bool {
    match column.kind {
        Kind::Text => column.declared == "text" || column.declared.starts_with("character varying"),
        Kind::Time => column.declared == "timestamp with time zone",
        kind => column.declared == type_of(kind),
    }
}

/// What is sent at once of rows, wherever a row ends: what was made for the wire is held beside the
/// rows themselves.
pub(super) const PART_BYTES: usize = 2 << 20;

/// Sends ready-made tuples to a table, whose name is quoted.
async fn copy_in(
    transaction: &Transaction<'_>,
    table: &str,
    layout: &Layout,
    tuples: &[u8],
) -> Result<(), tokio_postgres::Error> {
    let sql = copy_sql(table, layout, "FORMAT binary");
    let mut sink = pin!(transaction.copy_in::<_, Bytes>(&sql).await?);
    sink.feed(Bytes::from_static(HEADER)).await?;
    for part in tuples.chunks(PART_BYTES) {
        sink.feed(Bytes::copy_from_slice(part)).await?;
    }
    sink.feed(Bytes::from_static(TRAILER)).await?;
    sink.finish().await?;
    Ok(())
}

/// The statement that sends all columns of a table, whose name is quoted.
pub(super) fn copy_sql(table: &str, layout: &Layout, options: &str) -> String {
    let names: Vec<String> = layout
        .columns
        .iter()
        .map(|column| quote(&column.name))
        .collect();
    format!("COPY {table} ({}) FROM STDIN ({options})", names.join(", "))
}

/// A table of this connection only, which keeps nothing on disk past it.
fn staging(layout: &Layout) -> String {
    let name = format!("plikd_migrate_staging_{}", layout.name);
    // What is longer is cut, and two that begin alike would become one.
    quote(&match name.len() > MAX_NAME_BYTES {
        true => format!(
            "plikd_migrate_staging_{:032x}",
            XxHash3_128::oneshot(name.as_bytes())
        ),
        false => name,
    })
}

/// Its columns have the types whose binary form the tuples have. `on_commit` is what a commit does
/// with it.
fn create_staging(layout: &Layout, on_commit: &str) -> String {
    let columns: Vec<String> = layout
        .columns
        .iter()
        .map(|column| format!("{} {}", quote(&column.name), type_of(column.kind)))
        .collect();
    let (table, columns) = (staging(layout), columns.join(", "));
    format!("CREATE TEMPORARY TABLE {table} ({columns}) ON COMMIT {on_commit}")
}

/// Moves the staged rows into the table, except those whose key is there already.
fn insert_sql(layout: &Layout) -> String {
    let names: Vec<String> = layout
        .columns
        .iter()
        .map(|column| quote(&column.name))
        .collect();
    let values: Vec<String> = layout.columns.iter().map(as_declared).collect();
    let key: Vec<String> = layout
        .primary_key
        .iter()
        .map(|key| names[*key].clone())
        .collect();
    format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} ON CONFLICT ({}) DO NOTHING",
        quote(&layout.name),
        names.join(", "),
        values.join(", "),
        staging(layout),
        key.join(", ")
    )
}

/// Gives the rows of the table the values of the staged rows with their keys.
fn update_sql(layout: &Layout, not_compared: &[&str]) -> String {
    let columns = layout.columns.iter().enumerate();
    let changed = columns
        .filter(|(position, column)| {
            !layout.primary_key.contains(position) && !not_compared.contains(&column.name.as_str())
        })
        .map(|(_, column)| {
            let name = quote(&column.name);
            format!("{name} = s.{name}")
        });
    let values = layout.columns.iter().map(|column| {
        let (name, value) = (quote(&column.name), as_declared(column));
        format!("{value} AS {name}")
    });
    format!(
        "UPDATE {} t SET {} FROM (SELECT {} FROM {}) s WHERE {}",
        quote(&layout.name),
        changed.collect::<Vec<String>>().join(", "),
        values.collect::<Vec<String>>().join(", "),
        staging(layout),
        same_key(layout)
    )
}

/// The condition that a row `t` of the table has the key of a staged row `s`, which may have the
/// types of the table already.
fn same_key(layout: &Layout) -> String {
    let key = layout.primary_key.iter().map(|key| &layout.columns[*key]);
    let same = key.map(|column| {
        let name = quote(&column.name);
        format!("t.{name} = s.{}", as_declared(column))
    });
    same.collect::<Vec<String>>().join(" AND ")
}

/// A staged value as the table's type. Text is left to the assignment, which refuses what is too
/// long where a cast would cut it.
fn as_declared(column: &Column) -> String {
    let name = quote(&column.name);
    match column.kind {
        Kind::Text if column.declared != "text" && !column.declared.starts_with("char") => {
            format!("{name}::{}", column.declared)
        }
        _ => name,
    }
}

/// A part of a key as [`conflicts_sql`] gives it, for a person to read.
fn shown_field(text: Option<String>, kind: Kind) -> String {
    let text = text.unwrap_or_else(|| "NULL".to_owned());
    let micros = text.parse().ok().filter(|_| kind == Kind::Time);
    let time = micros.and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    time.map_or(text, |time| time.to_string())
}

/// The keys of the staged rows that the table has with other values; times as microseconds.
fn conflicts_sql(layout: &Layout, not_compared: &[&str]) -> String {
    let key: Vec<String> = layout
        .primary_key
        .iter()
        .map(|key| quote(&layout.columns[*key].name))
        .collect();
    let kinds = layout.key_kinds();
    let shown = key.iter().zip(&kinds).map(|(name, kind)| match kind {
        // Of a time its microseconds, for it to be written as everywhere.
        Kind::Time => format!(
            "CASE WHEN isfinite(s.{name}) \
             THEN (extract(epoch FROM s.{name}) * 1000000)::bigint::text ELSE s.{name}::text END"
        ),
        _ => format!("s.{name}::text"),
    });
    let shown: Vec<String> = shown.collect();
    let different: Vec<String> = layout
        .columns
        .iter()
        .filter(|column| !not_compared.contains(&column.name.as_str()))
        .map(|column| {
            let (name, kind) = (quote(&column.name), type_of(column.kind));
            format!("t.{name}::{kind} IS DISTINCT FROM s.{name}")
        })
        .collect();
    format!(
        "SELECT {} FROM {} s JOIN {} t ON {} WHERE {}",
        shown.join(", "),
        staging(layout),
        quote(&layout.name),
        same_key(layout),
        different.join(" OR ")
    )
}
