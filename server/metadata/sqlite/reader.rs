//! Reads whole tables of a SQLite database for a migration.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, Statement, ToSql, params_from_iter};

use super::{Access, Location, connect, failure, read_state};
use crate::config::MetadataConfig;
use crate::metadata::MetadataError;
use crate::metadata::error::During;
use crate::metadata::fault::{Fault, Reason};
use crate::metadata::layout::{self, Column, Index, Layout, quote};
use crate::metadata::rules::{Checks, Keys, Rules, Standing};
use crate::metadata::schema::State;
use crate::metadata::snapshot::{
    BLOB_TOTALS, BlobSizes, Cursor, Identity, Message, Reject, Request, RowStream, Sender,
    SourceBatch, is_full, kind_of_declared,
};
use crate::metadata::table::Kind;
use crate::metadata::tuple::{Batch, Encoding, Native, POSTGRES_EPOCH_MICROS, Tuple};
use crate::model::time;

/// The earliest time of PostgreSQL, 4713 BC, in microseconds since 1970.
const EARLIEST_MICROS: i64 = -210_866_803_200_000_000;

/// A SQLite database inside one read transaction.
pub struct Reader {
    connection: Arc<Mutex<Connection>>,
    identity: Identity,
    label: String,
    rules: Rules,
}

impl Reader {
    pub async fn open(config: &MetadataConfig) -> Result<Self, MetadataError> {
        let location = Location::parse(config.connection_string.expose())?;
        let label = location.to_string();
        blocking(&label.clone(), move || {
            let connection = connect(&location, Access::ReadOnly)?;
            let during = During {
                action: "start reading",
                backend: &label,
            };
            // A deferred transaction takes its snapshot at the first read.
            connection
                .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")
                .map_err(|error| failure(during, &error))?;
            let identity = identity(&location)?;
            Ok(Self {
                connection: Arc::new(Mutex::new(connection)),
                identity,
                label,
                rules: Rules::default(),
            })
        })
        .await
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    /// Tables, columns and schema versions.
    pub async fn state(&self) -> Result<State, MetadataError> {
        let (connection, label) = (Arc::clone(&self.connection), self.label.clone());
        blocking(&self.label, move || read_state(&lock(&connection), &label)).await
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub async fn layouts(&self) -> Result<Vec<Layout>, MetadataError> {
        self.with(layouts).await
    }

    pub async fn count(&self, table: &str) -> Result<u64, MetadataError> {
        let sql = format!("SELECT count(*) FROM {}", quote(table));
        let count = move |connection: &Connection| {
            connection.query_row(&sql, [], |row| row.get::<_, i64>(0))
        };
        Ok(self.with(count).await?.unsigned_abs())
    }

    pub async fn blob_totals(&self) -> Result<BlobSizes, MetadataError> {
        self.with(|connection| {
            connection.query_row(BLOB_TOTALS, (), |row| {
                Ok(BlobSizes::new(row.get(0)?, row.get(1)?, row.get(2)?))
            })
        })
        .await
    }

    pub async fn size_bytes(&self) -> Result<u64, MetadataError> {
        self.with(|connection| {
            let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            let size: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
            Ok(pages.unsigned_abs() * size.unsigned_abs())
        })
        .await
    }

    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The first column of what `sql` selects, as it is stored.
    pub async fn keys(&self, sql: String) -> Result<Keys, MetadataError> {
        self.with(move |connection| {
            let mut statement = connection.prepare(&sql)?;
            let mut rows = statement.query(())?;
            let mut keys = Keys::new();
            while let Some(row) = rows.next()? {
                keys.extend(stored(row.get_ref(0)?).map(|key| key.into()));
            }
            Ok(keys)
        })
        .await
    }

    /// Whether a time that is part of the key of `layout` may stand there in two ways. Times are
    /// few, so this is quick where looking at every key is not.
    pub async fn has_one_time_in_two_ways(&self, layout: &Layout) -> Result<bool, MetadataError> {
        let key = layout.primary_key.iter().map(|key| &layout.columns[*key]);
        let times = key.filter(|column| column.kind == Kind::Time);
        let sql: Vec<String> = times
            .map(|column| {
                let (name, table) = (quote(&column.name), quote(&layout.name));
                format!(
                    "SELECT count(*) > count(DISTINCT instant(time)) \
                     FROM (SELECT DISTINCT {name} AS time FROM {table})"
                )
            })
            .collect();
        self.with(move |connection| {
            for sql in &sql {
                if connection.query_row(sql, (), |row| row.get(0))? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    pub fn read(&self, request: Request, checks: Checks) -> RowStream {
        let (connection, label) = (Arc::clone(&self.connection), self.label.clone());
        RowStream::new(&self.label, |batches| {
            tokio::task::spawn_blocking(move || {
                let outcome = read_rows(&lock(&connection), &request, &checks, &batches, &label);
                // A receiver that is gone has stopped listening on purpose.
                let _ = batches.blocking_send(match outcome {
                    Ok(()) => Message::End,
                    Err(error) => Message::Failed(error),
                });
            })
        })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, MetadataError> {
        let (connection, label) = (Arc::clone(&self.connection), self.label.clone());
        blocking(&self.label, move || {
            let during = During {
                action: "read it",
                backend: &label,
            };
            work(&lock(&connection)).map_err(|error| failure(during, &error))
        })
        .await
    }
}

/// A connection survives a panic of another reader: it holds no half-done change.
fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(
    label: &str,
    work: impl FnOnce() -> Result<T, MetadataError> + Send + 'static,
) -> Result<T, MetadataError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        During {
            action: "read it",
            backend: label,
        }
        .failed(error)
    })?
}

/// The file itself, however it is named: two paths to one file are one database.
pub(super) fn identity(location: &Location) -> Result<Identity, MetadataError> {
    use std::os::unix::fs::MetadataExt;
    let label = location.to_string();
    let found = std::fs::metadata(&location.path).map_err(|error| {
        During {
            action: "look at its file",
            backend: &label,
        }
        .failed(error)
    })?;
    Ok(Identity(format!("sqlite:{}:{}", found.dev(), found.ino())))
}

/// Every table, with columns in the order of the table.
pub(super) fn layouts(connection: &Connection) -> rusqlite::Result<Vec<Layout>> {
    let mut tables =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let names: Vec<String> = tables
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    names
        .iter()
        .map(|name| layout_of(connection, name))
        .collect()
}

fn layout_of(connection: &Connection, table: &str) -> rusqlite::Result<Layout> {
    let mut columns = Vec::new();
    let mut key: Vec<(u32, usize)> = Vec::new();
    let mut info = connection.prepare("SELECT name, type, pk FROM pragma_table_info(?1)")?;
    let mut rows = info.query([table])?;
    while let Some(row) = rows.next()? {
        let (name, declared, rank): (String, String, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if rank > 0 {
            key.push((rank, columns.len()));
        }
        let kind = layout::kind_of(table, &name, kind_of_declared(&declared));
        columns.push(Column {
            name,
            kind,
            declared,
        });
    }
    key.sort_unstable();
    let primary_key = key.into_iter().map(|(_, column)| column).collect();
    Ok(Layout {
        name: table.to_owned(),
        columns,
        primary_key,
        indexes: indexes(connection, table)?,
    })
}

/// The indexes that a `CREATE INDEX` made, on columns only.
fn indexes(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Index>> {
    let mut list = connection.prepare(
        "SELECT name FROM pragma_index_list(?1) WHERE origin = 'c' AND partial = 0 ORDER BY name",
    )?;
    let names: Vec<String> = list
        .query_map([table], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for name in names {
        let mut info =
            connection.prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")?;
        let columns: Vec<Option<String>> = info
            .query_map([&name], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        // An index on an expression has a NULL in place of a column.
        if let Some(columns) = columns.into_iter().collect() {
            found.push(Index { name, columns });
        }
    }
    Ok(found)
}

fn read_rows(
    connection: &Connection,
    request: &Request,
    checks: &Checks,
    batches: &Sender,
    label: &str,
) -> Result<(), MetadataError> {
    let action = format!("read table {}", request.layout.name);
    let during = During {
        action: &action,
        backend: label,
    };
    let failed = |error| failure(during, &error);
    let mut statement = connection.prepare(&select(request)).map_err(failed)?;
    let after = after_key(request)
        .ok_or_else(|| during.failed("the checkpoint is not one of this table"))?;
    let mut rows = query(&mut statement, &after).map_err(failed)?;
    let judge = Judge {
        request,
        checks,
        rules: Rule::all_of(&request.layout, checks),
    };
    let mut batch = SourceBatch::roomy();
    while let Some(row) = rows.next().map_err(failed)? {
        encode(row, &judge, &mut batch).map_err(failed)?;
        if is_full(&batch) {
            let full = std::mem::replace(&mut batch, SourceBatch::roomy());
            if batches.blocking_send(Message::Batch(full)).is_err() {
                return Ok(());
            }
        }
    }
    if batch.rows.len() + batch.rejects.len() > 0 {
        let _ = batches.blocking_send(Message::Batch(batch));
    }
    Ok(())
}

fn query<'s>(
    statement: &'s mut Statement<'_>,
    after: &[ToSqlOutput<'_>],
) -> rusqlite::Result<rusqlite::Rows<'s>> {
    statement.query(params_from_iter(
        after.iter().map(|value| value as &dyn ToSql),
    ))
}

/// The statement that reads what `request` asks for, with the key of its cursor as parameters.
fn select(request: &Request) -> String {
    let keys = match request.after {
        Some(_) => request.layout.primary_key.len(),
        None => 0,
    };
    let parameters: Vec<String> = (1..=keys).map(|number| format!("?{number}")).collect();
    request.select(|column| quote(&column.name), sort_key, &parameters)
}

/// Times are ordered as instants: their text may have several offsets.
fn sort_key(column: &Column) -> String {
    match column.kind {
        Kind::Time => format!("instant({})", quote(&column.name)),
        // The column may be declared with a collation of its own.
        Kind::Text => format!("{} COLLATE BINARY", quote(&column.name)),
        _ => quote(&column.name),
    }
}

/// The parameters of [`select`]. `None` if the cursor is not one of this table.
fn after_key(request: &Request) -> Option<Vec<ToSqlOutput<'_>>> {
    let Some(cursor) = &request.after else {
        return Some(Vec::new());
    };
    let kinds = request.layout.key_kinds();
    let fields: Vec<Option<&[u8]>> = Tuple::new(&cursor.key).fields().collect();
    if fields.len() != kinds.len() {
        return None;
    }
    fields
        .into_iter()
        .zip(kinds)
        .map(|(field, kind)| key_value(field, kind, cursor))
        .collect()
}

fn key_value<'a>(field: Option<&'a [u8]>, kind: Kind, cursor: &Cursor) -> Option<ToSqlOutput<'a>> {
    let value = match cursor.encoding {
        Encoding::Native => match (Native::decode(field)?, kind) {
            (Native::Text(text), Kind::Time) => {
                let time = time::parse(std::str::from_utf8(text).ok()?)?;
                ValueRef::Integer(time::to_micros(time))
            }
            (Native::Integer(number), _) => ValueRef::Integer(number),
            (Native::Real(number), _) => ValueRef::Real(number),
            (Native::Text(text), _) => ValueRef::Text(text),
            (Native::Blob(bytes), _) => ValueRef::Blob(bytes),
            (Native::Null, _) => return None,
        },
        Encoding::Binary => match kind {
            Kind::Text => ValueRef::Text(field?),
            Kind::Bytes => ValueRef::Blob(field?),
            Kind::Integer => ValueRef::Integer(i64::from_be_bytes(field?.try_into().ok()?)),
            Kind::Time => ValueRef::Integer(
                i64::from_be_bytes(field?.try_into().ok()?).checked_add(POSTGRES_EPOCH_MICROS)?,
            ),
            Kind::Boolean => ValueRef::Integer(i64::from(field? == [1])),
            Kind::Real => ValueRef::Real(f64::from_be_bytes(field?.try_into().ok()?)),
        },
    };
    Some(ToSqlOutput::Borrowed(value))
}

/// What is known of a column before its first value.
struct Rule {
    kind: Kind,
    is_key: bool,
    /// Characters that the target takes.
    max_length: Option<usize>,
    /// NUL bytes are removed from its text.
    strips_nul: bool,
}

impl Rule {
    fn all_of(layout: &Layout, checks: &Checks) -> Vec<Self> {
        let columns = layout.columns.iter().enumerate();
        let rules = columns.map(|(position, column)| Self {
            kind: column.kind,
            is_key: layout.primary_key.contains(&position),
            max_length: layout::max_length(&layout.name, &column.name),
            strips_nul: checks.strips(position),
        });
        rules.collect()
    }

    /// Appends the value, or says why it cannot go to the target.
    fn encode(
        &self,
        value: ValueRef<'_>,
        encoding: Encoding,
        out: &mut Batch,
    ) -> Result<(), Reason> {
        match (encoding, value) {
            // Such a row would be taken for a new one by every run.
            (_, ValueRef::Null) if self.is_key => Err(Reason::NullInKey),
            (Encoding::Native, value) => {
                out.native(native(value));
                Ok(())
            }
            // SQLite sorts bytes behind all text, where they would be looked for in vain.
            (Encoding::Binary, ValueRef::Blob(_)) if self.is_key => Err(Reason::BytesInKey),
            (Encoding::Binary, value) => match binary(value, self.kind, self.max_length, out) {
                Err(Reason::Nul) if self.strips_nul => {
                    let text = without_nul(value);
                    binary(ValueRef::Text(&text), self.kind, self.max_length, out)
                }
                encoded => encoded,
            },
        }
    }
}

/// How the rows of one table are judged.
struct Judge<'a> {
    request: &'a Request,
    checks: &'a Checks,
    rules: Vec<Rule>,
}

/// Appends the row to the batch, or to its rejects with the reasons.
fn encode(row: &Row<'_>, judge: &Judge<'_>, batch: &mut SourceBatch) -> rusqlite::Result<()> {
    let Judge {
        request,
        checks,
        rules,
    } = judge;
    if checks.has_references() {
        match standing(row, rules.len(), checks)? {
            Standing::Fit => {}
            Standing::Skipped => return Ok(()),
            Standing::Unfit(faults) => return reject(row, judge, faults, batch),
        }
    }
    batch.rows.begin_row(rules.len());
    for (position, rule) in rules.iter().enumerate() {
        let value = row.get_ref(position)?;
        if rule
            .encode(value, request.encoding, &mut batch.rows)
            .is_err()
        {
            batch.rows.abandon_row();
            return reject(row, judge, Vec::new(), batch);
        }
    }
    let key = || batch.rows.open_row().project(&request.layout.primary_key);
    if let Some(fault) = checks.key_fault(key) {
        batch.rows.abandon_row();
        return reject(row, judge, vec![fault], batch);
    }
    batch.rows.end_row();
    Ok(())
}

/// The bytes of a text, or of bytes where a text belongs, without those that are zero.
fn without_nul(value: ValueRef<'_>) -> Vec<u8> {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            bytes.iter().copied().filter(|byte| *byte != 0).collect()
        }
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => Vec::new(),
    }
}

fn standing(row: &Row<'_>, columns: usize, checks: &Checks) -> rusqlite::Result<Standing> {
    let values: Vec<ValueRef<'_>> = (0..columns)
        .map(|position| row.get_ref(position))
        .collect::<Result<_, _>>()?;
    Ok(checks.standing(|position| stored(values[position])))
}

/// The bytes by which rows refer to each other. `None` for NULL.
fn stored(value: ValueRef<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string().into_bytes().into()),
        ValueRef::Real(number) => Some(number.to_string().into_bytes().into()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.into()),
    }
}

/// Puts the row aside as it is stored, with all that its values have and the `others`.
fn reject(
    row: &Row<'_>,
    judge: &Judge<'_>,
    others: Vec<Fault>,
    batch: &mut SourceBatch,
) -> rusqlite::Result<()> {
    let layout = &judge.request.layout;
    let mut faults = Vec::new();
    let mut whole = Batch::default();
    whole.begin_row(layout.columns.len());
    for (position, (column, rule)) in layout.columns.iter().zip(&judge.rules).enumerate() {
        let value = row.get_ref(position)?;
        whole.native(native(value));
        let fault = |value| {
            let encoded = rule.encode(value, judge.request.encoding, &mut Batch::default());
            encoded.err().map(|reason| Fault {
                column: Some(column.name.clone()),
                reason,
            })
        };
        let found = fault(value);
        if found.as_ref().map(|found| &found.reason) == Some(&Reason::Nul) {
            // It may not be all that is wrong with the text.
            faults.extend(fault(ValueRef::Text(&without_nul(value))));
        }
        faults.extend(found);
    }
    whole.end_row();
    faults.extend(others);
    let reject = Reject::of(layout, whole.tuple(0), Encoding::Native, faults);
    batch.rejects.push(reject);
    Ok(())
}

fn native(value: ValueRef<'_>) -> Native<'_> {
    match value {
        ValueRef::Null => Native::Null,
        ValueRef::Integer(number) => Native::Integer(number),
        ValueRef::Real(number) => Native::Real(number),
        ValueRef::Text(bytes) => Native::Text(bytes),
        ValueRef::Blob(bytes) => Native::Blob(bytes),
    }
}

/// Encodes a value as its column's kind, or says why it is none.
///
/// What counts is the storage class of the value, not the type of the column: SQLite lets any
/// value into any column.
pub(in crate::metadata) fn binary(
    value: ValueRef<'_>,
    kind: Kind,
    max_length: Option<usize>,
    out: &mut Batch,
) -> Result<(), Reason> {
    match (kind, value) {
        (_, ValueRef::Null) => out.null(),
        (Kind::Text, ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
            out.field(checked_text(bytes, max_length)?);
        }
        (Kind::Text, ValueRef::Integer(number)) => out.field(number.to_string().as_bytes()),
        (Kind::Text, ValueRef::Real(_)) => return Err(Reason::FractionInText),
        (Kind::Bytes, ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => out.field(bytes),
        (Kind::Bytes, _) => return Err(Reason::NumberInBytes),
        (Kind::Integer, ValueRef::Integer(number)) => out.integer(number),
        (Kind::Integer, ValueRef::Real(number)) => {
            out.integer(whole(number).ok_or(Reason::NotWhole)?);
        }
        (Kind::Integer, _) => return Err(Reason::NoNumber),
        (Kind::Boolean, value) => {
            out.boolean(truth(value).ok_or(Reason::NoBoolean)?);
        }
        (Kind::Time, value) => {
            let micros = micros(value).ok_or(Reason::NoTime)?;
            if micros < EARLIEST_MICROS {
                return Err(Reason::TooEarly);
            }
            out.time(micros);
        }
        (Kind::Real, ValueRef::Real(number)) => out.real(number),
        (Kind::Real, ValueRef::Integer(number)) => out.real(number as f64),
        (Kind::Real, _) => return Err(Reason::NoNumber),
    }
    Ok(())
}

fn checked_text(bytes: &[u8], max_length: Option<usize>) -> Result<&[u8], Reason> {
    if memchr::memchr(0, bytes).is_some() {
        return Err(Reason::Nul);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Reason::NotUtf8)?;
    // No text has more characters than bytes.
    if max_length.is_some_and(|limit| bytes.len() > limit && text.chars().count() > limit) {
        return Err(Reason::TooLong);
    }
    Ok(bytes)
}

/// A floating point number as the integer it stands for, if it stands for exactly one.
fn whole(number: f64) -> Option<i64> {
    // 2^63 itself is out of range, and the largest double below it converts exactly.
    let range = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;
    (number.fract() == 0.0 && range.contains(&number)).then_some(number as i64)
}

fn truth(value: ValueRef<'_>) -> Option<bool> {
    match value {
        ValueRef::Integer(0) => Some(false),
        ValueRef::Integer(1) => Some(true),
        ValueRef::Real(0.0) => Some(false),
        ValueRef::Real(1.0) => Some(true),
        ValueRef::Text(text) if text.eq_ignore_ascii_case(b"false") => Some(false),
        ValueRef::Text(text) if text.eq_ignore_ascii_case(b"true") => Some(true),
        _ => None,
    }
}

fn micros(value: ValueRef<'_>) -> Option<i64> {
    let time = match value {
        ValueRef::Text(text) => match time::micros_as_written(text) {
            Some(micros) => return Some(micros),
            None => time::parse(std::str::from_utf8(text).ok()?),
        },
        ValueRef::Integer(number) => time::from_unix(number),
        _ => None,
    };
    time.map(time::to_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: ValueRef<'_>, kind: Kind) -> Result<Vec<u8>, Reason> {
        let mut batch = Batch::default();
        batch.begin_row(1);
        binary(value, kind, Some(4), &mut batch)?;
        batch.end_row();
        Ok(batch.tuple(0).field(0).unwrap_or(b"NULL").to_vec())
    }

    #[test]
    fn values_are_judged_by_what_they_are() {
        use ValueRef::{Blob, Integer, Null, Real, Text};
        assert_eq!(encoded(Null, Kind::Boolean).unwrap(), b"NULL");
        assert_eq!(
            encoded(Text("éé😀x".as_bytes()), Kind::Text).unwrap(),
            "éé😀x".as_bytes()
        );
        assert!(encoded(Text("éé😀xy".as_bytes()), Kind::Text).is_err());
        assert!(encoded(Text(b"x    "), Kind::Text).is_err());
        assert!(encoded(Text(b"a\0"), Kind::Text).is_err());
        assert!(encoded(Text(b"\xed\xa0\x80"), Kind::Text).is_err());
        assert_eq!(encoded(Blob(b"abc"), Kind::Text).unwrap(), b"abc");
        assert_eq!(
            encoded(Real(2.0), Kind::Integer).unwrap(),
            2_i64.to_be_bytes()
        );
        assert!(encoded(Real(2.5), Kind::Integer).is_err());
        assert!(encoded(Real(9_223_372_036_854_775_808.0), Kind::Integer).is_err());
        assert!(encoded(Text(b"2"), Kind::Integer).is_err());
        assert_eq!(encoded(Text(b"TRUE"), Kind::Boolean).unwrap(), [1]);
        assert!(encoded(Integer(2), Kind::Boolean).is_err());
        assert!(encoded(Real(0.5), Kind::Boolean).is_err());
        assert!(encoded(Text(b""), Kind::Time).is_err());
        assert!(encoded(Real(2_460_000.5), Kind::Time).is_err());
        assert!(encoded(Text(b"-9999-01-01 00:00:00"), Kind::Time).is_err());
        let micros = encoded(Text(b"2000-01-01 02:00:00.000001999+02:00"), Kind::Time).unwrap();
        assert_eq!(micros, 1_i64.to_be_bytes());
        assert_eq!(
            encoded(Integer(946_684_801), Kind::Time).unwrap(),
            1_000_000_i64.to_be_bytes()
        );
    }
}
