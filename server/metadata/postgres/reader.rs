//! Reads whole tables of a PostgreSQL database for a migration.

use std::borrow::Cow;
use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use futures::StreamExt;
use tokio_postgres::Client;

use super::layouts::layouts;
use super::{Connector, failure, read_state};
use crate::config::{Driver, MetadataConfig};
use crate::metadata::MetadataError;
use crate::metadata::dialect::Dialect;
use crate::metadata::error::During;
use crate::metadata::fault::{Fault, Reason};
use crate::metadata::layout::{self, Column, Layout, quote};
use crate::metadata::reject::Reject;
use crate::metadata::request::{Cursor, Request};
use crate::metadata::rules::{Checks, Judgement, Keys, Rules};
use crate::metadata::schema::State;
use crate::metadata::snapshot::{BLOB_TOTALS, Identity, LARGEST_BLOB};
use crate::metadata::stream::{Message, RowStream, Sender, SourceBatch, is_full};
use crate::metadata::table::Kind;
use crate::metadata::tuple::{Encoding, Fields, POSTGRES_EPOCH_MICROS, Tuple};
use crate::model::Timestamp;

/// What every binary COPY starts with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Bytes of a text that fits into any index, with others beside it.
const SURELY_INDEXED: usize = 256;

/// What it ends with, in place of a number of fields.
const END: &[u8] = &(-1_i16).to_be_bytes();

/// A day into year 0, so that a time has four digits of year in every zone. The year 1 of Go's
/// zero time is behind it.
const FIRST: Timestamp = Timestamp::constant(-62_167_132_800, 0);

/// Tables that keep their rows themselves, whatever inherits from them.
const ORDINARY: &str = "SELECT c.relname::text FROM pg_catalog.pg_class c \
     WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace";

/// A PostgreSQL database inside one read-only transaction.
pub struct Reader {
    client: Arc<Client>,
    identity: Identity,
    label: String,
    rules: Rules,
    /// Tables that others may inherit from: their rows are not those of these.
    ordinary: HashSet<String>,
}

impl Reader {
    pub async fn open(config: &MetadataConfig) -> Result<Self, MetadataError> {
        let connector = Connector::new(config)?.steady();
        let label = connector.to_string();
        let client = connector.connect().await?;
        // It is about all rows: that some are hidden must be an error.
        client
            .batch_execute(
                "SET row_security = off; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            )
            .await
            .map_err(|error| failure(during(&label, "start reading"), &error))?;
        let identity = identity(&client, &label).await?;
        let ordinary = client.query(ORDINARY, &[]).await.and_then(|rows| {
            let names = rows.iter().map(|row| row.try_get(0));
            names.collect()
        });
        let ordinary =
            ordinary.map_err(|error| failure(during(&label, "list its tables"), &error))?;
        Ok(Self {
            client: Arc::new(client),
            identity,
            label,
            rules: Rules::default(),
            ordinary,
        })
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    /// Tables, columns and schema versions.
    pub async fn state(&self) -> Result<State, MetadataError> {
        read_state(&*self.client, &self.label).await
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub async fn layouts(&self) -> Result<Vec<Layout>, MetadataError> {
        layouts(&self.client, &self.label).await
    }

    /// What `sql` selects from the catalog, where every column is a text.
    pub async fn catalog(
        &self,
        sql: &str,
        names: &[&str],
    ) -> Result<Vec<Vec<Option<String>>>, MetadataError> {
        let statement = self.client.prepare(sql).await;
        let rows = match statement {
            Ok(statement) if statement.params().is_empty() => {
                self.client.query(&statement, &[]).await
            }
            Ok(statement) => self.client.query(&statement, &[&names]).await,
            Err(error) => Err(error),
        };
        let fields = |row: &tokio_postgres::Row| (0..row.len()).map(|at| row.try_get(at)).collect();
        rows.and_then(|rows| rows.iter().map(fields).collect())
            .map_err(|error| failure(during(&self.label, "read its schema"), &error))
    }

    pub async fn count(&self, table: &str) -> Result<u64, MetadataError> {
        let sql = format!("SELECT count(*) FROM {}", self.from(table));
        Ok(self.number(&sql).await?.unsigned_abs())
    }

    pub async fn has_rows(&self, table: &str) -> Result<bool, MetadataError> {
        let sql = format!("SELECT 1 FROM {} LIMIT 1", self.from(table));
        self.finds(&sql).await
    }

    /// The table with the rows of its own; those of a partitioned table are in its partitions.
    fn from(&self, table: &str) -> String {
        match self.ordinary.contains(table) {
            true => format!("ONLY {}", quote(table)),
            false => quote(table),
        }
    }

    /// Whether `sql` selects anything.
    pub async fn finds(&self, sql: &str) -> Result<bool, MetadataError> {
        let row = self.client.query_opt(sql, &[]).await;
        row.map(|row| row.is_some())
            .map_err(|error| failure(during(&self.label, "look for rows"), &error))
    }

    pub async fn blob_totals(&self) -> Result<(u64, u64), MetadataError> {
        let row = self.client.query_one(BLOB_TOTALS, &[]).await;
        let totals = row.and_then(|row| Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, f64>(1)?)));
        let (blobs, bytes) =
            totals.map_err(|error| failure(during(&self.label, "count blobs"), &error))?;
        Ok((blobs.unsigned_abs(), bytes as u64))
    }

    pub async fn largest_blob(&self) -> Result<u64, MetadataError> {
        let row = self.client.query_one(LARGEST_BLOB, &[]).await;
        let largest = row.and_then(|row| row.try_get::<_, f64>(0));
        let largest = largest
            .map_err(|error| failure(during(&self.label, "find the largest blob"), &error))?;
        Ok(largest as u64)
    }

    pub async fn size_bytes(&self) -> Result<u64, MetadataError> {
        const SQL: &str = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint \
             FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace";
        Ok(self.number(SQL).await?.unsigned_abs())
    }

    pub async fn server_version(&self) -> Result<String, MetadataError> {
        let row = self.client.query_one("SHOW server_version", &[]).await;
        row.and_then(|row| row.try_get(0))
            .map_err(|error| failure(during(&self.label, "tell its version"), &error))
    }

    async fn number(&self, sql: &str) -> Result<i64, MetadataError> {
        let row = self.client.query_one(sql, &[]).await;
        row.and_then(|row| row.try_get(0))
            .map_err(|error| failure(during(&self.label, "count"), &error))
    }

    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The first column, a text, of what `sql` selects.
    pub async fn keys(&self, sql: &str) -> Result<Keys, MetadataError> {
        let rows = self.client.query(sql, &[]).await;
        let keys = rows.and_then(|rows| {
            let keys = rows.iter().map(|row| row.try_get::<_, String>(0));
            keys.map(|key| key.map(|key| key.into_bytes().into()))
                .collect()
        });
        keys.map_err(|error| failure(during(&self.label, "look for lost rows"), &error))
    }

    /// Reads what `request` asks for, or of that only what fulfils `condition`.
    pub fn read(&self, request: Request, checks: Checks, condition: Option<String>) -> RowStream {
        let (client, label) = (Arc::clone(&self.client), self.label.clone());
        let from = self.from(&request.layout.name);
        RowStream::new(&self.label, |batches| {
            tokio::spawn(async move {
                let limits = unbounded(&request);
                let wanted = Wanted {
                    request: &request,
                    from: &from,
                    checks: &checks,
                    condition: condition.as_deref(),
                    limits: &limits,
                };
                let message = match read_rows(&client, wanted, &batches, &label).await {
                    Ok(()) => Message::End,
                    Err(error) => Message::Failed(error),
                };
                // A receiver that is gone has stopped listening on purpose.
                let _ = batches.send(message).await;
            })
        })
    }
}

/// Cluster, database and schema, whichever host name or port led there. Another server's tables that
/// take their place have another key that their server made up.
async fn identity(client: &Client, label: &str) -> Result<Identity, MetadataError> {
    const SQL: &str = "SELECT system_identifier::text, \
         (SELECT oid::text FROM pg_database WHERE datname = current_database()), \
         coalesce(current_schema(), '') FROM pg_control_system()";
    let row = client.query_one(SQL, &[]).await;
    let row = row.map_err(|error| failure(during(label, "be identified"), &error))?;
    let (cluster, database, schema): (String, String, String) =
        (row.get(0), row.get(1), row.get(2));
    let place = format!("postgres:{cluster}:{database}:{schema}");
    let key = session_key(client, &schema).await;
    let key = key.map_err(|error| failure(during(label, "read the key of its server"), &error))?;
    Ok(Identity::of_server(place, key.as_deref()))
}

/// `None` if no server has run on the database yet, or it is another program's. A database that
/// cannot be read now is no other one for that.
async fn session_key(
    client: &Client,
    schema: &str,
) -> Result<Option<Vec<u8>>, tokio_postgres::Error> {
    const COLUMNS: &str = "SELECT count(*) FROM pg_catalog.pg_attribute a \
         JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p') \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = 'settings' AND a.attname IN ('key', 'value') \
         AND a.attnum > 0 AND NOT a.attisdropped";
    let columns: i64 = client.query_one(COLUMNS, &[&schema]).await?.try_get(0)?;
    if columns < 2 {
        return Ok(None);
    }
    let sql = format!(
        "SELECT value::text FROM {}.settings \
         WHERE key::text = 'authentication_signature_key' LIMIT 1",
        quote(schema)
    );
    let Some(row) = client.query_opt(&sql, &[]).await? else {
        return Ok(None);
    };
    let key: Option<String> = row.try_get(0)?;
    Ok(key.map(String::into_bytes))
}

/// The type whose binary form is that of the kind.
pub(super) fn type_of(kind: Kind) -> &'static str {
    Dialect::Postgres.type_of(kind)
}

/// Which rows of a table to read, and what to make of them.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    request: &'a Request,
    from: &'a str,
    checks: &'a Checks,
    condition: Option<&'a str>,
    /// Texts that may be longer than the target's columns, and how long those are.
    limits: &'a [(usize, usize)],
}

async fn read_rows(
    client: &Client,
    wanted: Wanted<'_>,
    batches: &Sender,
    label: &str,
) -> Result<(), MetadataError> {
    let request = wanted.request;
    let action = format!("read table {}", request.layout.name);
    let during = during(label, &action);
    let mut sql = select(request, wanted.from)
        .ok_or_else(|| during.failed("the checkpoint is not one of this table"))?;
    if let Some(condition) = wanted.condition {
        sql = format!("SELECT * FROM ({sql}) AS s WHERE {condition}");
    }
    let copy = client
        .copy_out(&format!("COPY ({sql}) TO STDOUT (FORMAT binary)"))
        .await
        .map_err(|error| failure(during, &error))?;
    let mut copy = pin!(copy);
    let mut tuples = Tuples::default();
    let mut batch = SourceBatch::roomy();
    while let Some(bytes) = copy.next().await {
        let bytes = bytes.map_err(|error| failure(during, &error))?;
        if tuples.is_next(&bytes) {
            take(Tuple::new(&bytes), wanted, &mut batch);
        } else {
            tuples.buffer.extend_from_slice(&bytes);
            while let Some(length) = tuples.next_length() {
                take(Tuple::new(&tuples.buffer[..length]), wanted, &mut batch);
                tuples.buffer.advance(length);
            }
        }
        // Not to be held beside the batch for as long as that waits.
        drop(bytes);
        if is_full(&batch) {
            let full = std::mem::replace(&mut batch, SourceBatch::roomy());
            if batches.send(Message::Batch(full)).await.is_err() {
                return Ok(());
            }
        }
    }
    if !tuples.ended {
        return Err(during.unreachable("the server stopped early"));
    }
    if batch.rows.len() + batch.rejects.len() > 0 {
        let _ = batches.send(Message::Batch(batch)).await;
    }
    Ok(())
}

/// Appends the row to the batch, or to its rejects with the reasons, if it is one to be read.
fn take(tuple: Tuple<'_>, wanted: Wanted<'_>, batch: &mut SourceBatch) {
    match judge(wanted, tuple) {
        Judgement::Fit => batch.rows.push_tuple(tuple.as_bytes()),
        Judgement::Skipped => {}
        Judgement::Unfit(faults) => {
            let layout = &wanted.request.layout;
            let reject = Reject::of(layout, tuple, Encoding::Binary, faults);
            batch.rejects.push(reject);
        }
    }
}

fn judge(wanted: Wanted<'_>, tuple: Tuple<'_>) -> Judgement {
    let Wanted {
        request,
        checks,
        limits,
        ..
    } = wanted;
    let mut faults = unwritable(request, tuple);
    let too_long = limits.iter().filter(|(column, limit)| {
        let text = tuple.field(*column).unwrap_or_default();
        text.len() > *limit && String::from_utf8_lossy(text).chars().count() > *limit
    });
    faults.extend(too_long.map(|(column, _)| Fault {
        column: Some(request.layout.columns[*column].name.clone()),
        reason: Reason::TooLong,
    }));
    if checks.has_references() {
        match checks.judge(|column| tuple.field(column).map(Cow::Borrowed)) {
            Judgement::Fit => {}
            Judgement::Skipped => return Judgement::Skipped,
            Judgement::Unfit(more) => faults.extend(more),
        }
    }
    faults.extend(checks.key_fault(|| tuple.project(&request.layout.primary_key)));
    match faults.is_empty() {
        true => Judgement::Fit,
        false => Judgement::Unfit(faults),
    }
}

/// The columns whose texts are bounded in the target, with the bound, and not as much in the source.
fn unbounded(request: &Request) -> Vec<(usize, usize)> {
    if request.to != Driver::Postgres {
        return Vec::new();
    }
    let layout = &request.layout;
    let columns = layout.columns.iter().enumerate();
    columns
        .filter_map(|(position, column)| {
            let limit = layout::max_length(&layout.name, &column.name)?;
            let bounded = column.declared == format!("character varying({limit})");
            (!bounded).then_some((position, limit))
        })
        .collect()
}

/// The columns with a value that SQLite has no place for: a time that cannot be written as Plik (Go)
/// reads it (infinite, before Christ, or with more than four digits of year), and a number that is
/// none, of which SQLite would make NULL.
fn unwritable(request: &Request, tuple: Tuple<'_>) -> Vec<Fault> {
    if request.to != Driver::Sqlite {
        return Vec::new();
    }
    let columns = request.layout.columns.iter().zip(tuple.fields());
    let faults = columns.filter_map(|(column, field)| {
        let reason = match column.kind {
            Kind::Time if !is_writable(field?) => Reason::TooFar,
            Kind::Real if is_nan(field?) => Reason::NotANumber,
            _ => return None,
        };
        Some(Fault {
            column: Some(column.name.clone()),
            reason,
        })
    });
    faults.collect()
}

fn is_nan(real: &[u8]) -> bool {
    real.try_into()
        .is_ok_and(|bytes| f64::from_be_bytes(bytes).is_nan())
}

/// The condition for rows whose values the target may not hold: all of them fulfil it, and few
/// others, in the names and types of what `request` selects.
pub(in crate::metadata) fn suspects(request: &Request) -> String {
    let layout = &request.layout;
    let mut conditions = Vec::new();
    for (position, column) in layout.columns.iter().enumerate() {
        let name = quote(&column.name);
        match (request.to, column.kind) {
            (Driver::Sqlite, Kind::Time) => conditions.push(format!(
                "NOT ({name} >= '0002-01-01' AND {name} < '9999-01-01')"
            )),
            (Driver::Sqlite, Kind::Real) => conditions.push(format!("{name} = 'NaN'")),
            (Driver::Postgres, Kind::Text) if layout.finds_rows_by(position) => {
                conditions.push(format!("octet_length({name}) > {SURELY_INDEXED}"));
            }
            _ => {}
        }
    }
    for (column, limit) in unbounded(request) {
        let name = quote(&layout.columns[column].name);
        conditions.push(format!("length({name}) > {limit}"));
    }
    match conditions.is_empty() {
        true => "false".to_owned(),
        false => conditions.join(" OR "),
    }
}

fn is_writable(time: &[u8]) -> bool {
    let micros = time.try_into().map(i64::from_be_bytes);
    micros
        .ok()
        .and_then(|micros| micros.checked_add(POSTGRES_EPOCH_MICROS))
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .is_some_and(|time| time >= FIRST)
}

fn during<'a>(label: &'a str, action: &'a str) -> During<'a> {
    During {
        action,
        backend: label,
    }
}

/// Text as a literal of SQL, where there can be no parameters.
fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Cuts the bytes of a binary COPY into tuples, however the server has packed them.
#[derive(Default)]
struct Tuples {
    buffer: BytesMut,
    started: bool,
    ended: bool,
}

impl Tuples {
    /// The length of the tuple at the start of the buffer, if all of it has arrived.
    fn next_length(&mut self) -> Option<usize> {
        if !self.started {
            let extension = self.buffer.get(SIGNATURE.len() + 4..SIGNATURE.len() + 8)?;
            let extension = u32::from_be_bytes(extension.try_into().ok()?) as usize;
            let header = SIGNATURE.len() + 8 + extension;
            if self.buffer.len() < header {
                return None;
            }
            self.buffer.advance(header);
            self.started = true;
        }
        self.ended = self.buffer.starts_with(END);
        length_of(&self.buffer)
    }

    /// Whether `bytes` are the next tuple, whole and alone: what PostgreSQL sends, so that a row
    /// is copied only once.
    fn is_next(&self, bytes: &[u8]) -> bool {
        self.started && self.buffer.is_empty() && length_of(bytes) == Some(bytes.len())
    }
}

/// The length of the tuple that `bytes` start with, if all of it is there.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let fields = i16::from_be_bytes(*bytes.first_chunk::<2>()?);
    let fields = usize::try_from(fields).ok()?;
    let mut length = 2;
    for _ in 0..fields {
        let field = i32::from_be_bytes(*bytes.get(length..)?.first_chunk::<4>()?);
        length += 4 + usize::try_from(field).unwrap_or(0);
    }
    (length <= bytes.len()).then_some(length)
}

/// The query that reads what `request` asks for. `None` if its cursor is not one of this table.
fn select(request: &Request, from: &str) -> Option<String> {
    let after = match &request.after {
        Some(cursor) => after_key(cursor, &request.layout.key_kinds())?,
        None => Vec::new(),
    };
    Some(request.select(from, in_binary_form, sort_key, &after))
}

fn in_binary_form(column: &Column) -> String {
    format!("{}::{}", quote(&column.name), type_of(column.kind))
}

/// Text is ordered by its bytes, as SQLite orders it, whatever the collation of the database.
fn sort_key(column: &Column) -> String {
    match column.kind {
        Kind::Text => format!("{}::text COLLATE \"C\"", quote(&column.name)),
        _ => quote(&column.name),
    }
}

/// COPY takes no parameters, so the key is written as literals.
fn after_key(cursor: &Cursor, kinds: &[Kind]) -> Option<Vec<String>> {
    let fields: Fields<'_> = Tuple::new(&cursor.key).fields();
    if cursor.encoding != Encoding::Binary || fields.clone().count() != kinds.len() {
        return None;
    }
    fields
        .zip(kinds)
        .map(|(field, kind)| key_literal(field?, *kind))
        .collect()
}

fn key_literal(field: &[u8], kind: Kind) -> Option<String> {
    let number = || Some(i64::from_be_bytes(field.try_into().ok()?));
    match kind {
        Kind::Text => Some(quote_literal(std::str::from_utf8(field).ok()?)),
        Kind::Integer => Some(format!("{}::bigint", number()?)),
        Kind::Time => Some(format!(
            "('2000-01-01 00:00:00+00'::timestamptz + '{} microseconds'::interval)",
            number()?
        )),
        Kind::Boolean => Some((field == [1]).to_string()),
        Kind::Real => Some(format!(
            "'{}'::double precision",
            f64::from_be_bytes(field.try_into().ok()?)
        )),
        Kind::Bytes => {
            let hex: String = field.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("'\\x{hex}'::bytea"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::request::{Order, Rows};
    use crate::metadata::tuple::Batch;

    fn files() -> Layout {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
            declared: String::new(),
        };
        Layout {
            name: "files".into(),
            columns: vec![column("size", Kind::Integer), column("id", Kind::Text)],
            primary_key: vec![1],
            indexes: Vec::new(),
        }
    }

    #[test]
    fn reading_goes_on_behind_the_cursor_in_byte_order() {
        let mut key = Batch::default();
        key.begin_row(1);
        key.field(b"it's");
        let after = Cursor {
            encoding: Encoding::Binary,
            key: key.as_bytes().to_vec(),
        };
        let request = Request {
            layout: files(),
            encoding: Encoding::Binary,
            after: Some(after),
            rows: Rows::WithBlob,
            order: Order::Key,
            to: Driver::Postgres,
        };
        assert_eq!(
            select(&request, "ONLY \"files\"").unwrap(),
            "SELECT \"size\"::bigint, \"id\"::text FROM ONLY \"files\" \
             WHERE status IN ('uploaded', 'removed') \
             AND (\"id\"::text COLLATE \"C\") > ('it''s') ORDER BY \"id\"::text COLLATE \"C\""
        );
    }

    #[test]
    fn tuples_are_cut_however_they_arrive() {
        let mut copy = [SIGNATURE, &[0; 8]].concat();
        let mut batch = Batch::default();
        for id in ["a", "bb"] {
            batch.begin_row(2);
            batch.field(id.as_bytes());
            batch.null();
            batch.end_row();
        }
        copy.extend_from_slice(batch.as_bytes());
        copy.extend_from_slice(&(-1_i16).to_be_bytes());
        for step in [1, 3, copy.len()] {
            let (mut tuples, mut found) = (Tuples::default(), Vec::new());
            for bytes in copy.chunks(step) {
                assert!(!tuples.is_next(bytes));
                tuples.buffer.extend_from_slice(bytes);
                while let Some(length) = tuples.next_length() {
                    found.extend_from_slice(&tuples.buffer[..length]);
                    tuples.buffer.advance(length);
                }
            }
            assert_eq!(found, batch.as_bytes());
            assert!(tuples.ended);
        }
        let mut tuples = Tuples {
            started: true,
            ..Tuples::default()
        };
        assert!(tuples.is_next(batch.tuple(1).as_bytes()));
        assert!(!tuples.is_next(batch.as_bytes()));
        assert!(!tuples.is_next(END));
        tuples.buffer.extend_from_slice(b"\0");
        assert!(!tuples.is_next(batch.tuple(1).as_bytes()));
    }
}
