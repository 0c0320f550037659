//! The source of a migration: a database at one moment, only read.

use std::ops::RangeInclusive;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::MetadataError;
use super::dialect::Dialect;
use super::digest::KeyRange;
use super::error::During;
use super::fault::{Fault, Reason};
use super::layout::{Column, Layout, quote};
use super::loader::{CHECKPOINTS, HALF_DONE};
use super::postgres::reader::{Reader as PostgresReader, suspects};
use super::rules::{Keys, Rules};
use super::schema::{self, State};
use super::sqlite::reader::Reader as SqliteReader;
use super::table::Kind;
use super::tuple::{Batch, Encoding, Native, Tuple, display_fields, text_of};
use crate::config::{Driver, MetadataConfig};

/// Batches read ahead of the writer; with the batch limit this bounds the memory of a migration.
const BATCHES_AHEAD: usize = 2;

/// Everything a database held at the moment [`Snapshot::open`] returned, whatever others write to
/// it meanwhile. Nothing is ever written to it, not even a schema upgrade.
pub enum Snapshot {
    Sqlite(SqliteReader),
    Postgres(PostgresReader),
}

/// Tells one database from another, also when it is named in two ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(pub(super) String);

impl Identity {
    /// What rows have that come from a file of rejected rows.
    pub fn of_rejects(path: &str) -> Self {
        Self(format!("rejects:{path}"))
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What to read of one table.
#[derive(Clone, Debug)]
pub struct Request {
    /// The columns, in the order in which they are wanted.
    pub layout: Layout,
    pub encoding: Encoding,
    /// The engine that is to hold the rows; those that it cannot hold are rejected.
    pub to: Driver,
    /// Rows after that key only; needs [`Order::Key`].
    pub after: Option<Cursor>,
    pub rows: Rows,
    pub order: Order,
}

/// The order in which the rows of a table come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By the key: text by its bytes, numbers and times by value.
    Key,
    /// As the database finds them fastest, several times faster than by key.
    Any,
}

impl Request {
    /// The query, once for both engines: how they read a column, what they order by and how the
    /// key of the cursor is given are the caller's.
    pub(super) fn select(
        &self,
        read: impl Fn(&Column) -> String,
        sort_key: impl Fn(&Column) -> String,
        after: &[String],
    ) -> String {
        let columns: Vec<String> = self.layout.columns.iter().map(read).collect();
        let mut sql = format!(
            "SELECT {} FROM {}",
            columns.join(", "),
            quote(&self.layout.name)
        );
        let key = self
            .layout
            .primary_key
            .iter()
            .map(|key| &self.layout.columns[*key]);
        let keys: Vec<String> = key.map(sort_key).collect();
        let chosen = self.rows.condition(keys.first().map(String::as_str));
        let key = keys.join(", ");
        let behind = (!after.is_empty()).then(|| format!("({key}) > ({})", after.join(", ")));
        let conditions: Vec<String> = chosen.into_iter().chain(behind).collect();
        if !conditions.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&conditions.join(" AND "));
        }
        if self.order == Order::Key && !key.is_empty() {
            sql.push_str(" ORDER BY ");
            sql.push_str(&key);
        }
        sql
    }
}

/// Which rows of a table to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    All,
    /// Of `files`, those whose status says that there are bytes.
    WithBlob,
    /// Those whose key begins with a text in one of these ranges; none if there is no range.
    Within(Vec<KeyRange>),
    /// Of SQLite, those with such a row-id.
    Numbered(RangeInclusive<i64>),
}

impl Rows {
    /// The condition, in the SQL of both engines; `key` is what they order the first column of
    /// the key by.
    fn condition(&self, key: Option<&str>) -> Option<String> {
        match (self, key) {
            (Self::WithBlob, _) => Some("status IN ('uploaded', 'removed')".to_owned()),
            (Self::Within(ranges), Some(key)) => {
                let ranges: Vec<String> = ranges.iter().map(|range| range.condition(key)).collect();
                Some(match ranges.is_empty() {
                    true => "1 = 0".to_owned(),
                    false => format!("({})", ranges.join(" OR ")),
                })
            }
            (Self::Numbered(range), _) => Some(format!(
                "_rowid_ BETWEEN {} AND {}",
                range.start(),
                range.end()
            )),
            (Self::All, _) | (Self::Within(_), None) => None,
        }
    }
}

/// The key of the last row read, written down so that a later run goes on behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) encoding: Encoding,
    /// The key's fields as a tuple; none of them is NULL.
    pub(super) key: Vec<u8>,
}

impl Cursor {
    /// As text, for a checkpoint.
    pub fn to_text(&self) -> String {
        use base64::Engine as _;
        let encoding = match self.encoding {
            Encoding::Binary => "binary",
            Encoding::Native => "native",
        };
        format!(
            "{encoding}:{}",
            base64::engine::general_purpose::STANDARD.encode(&self.key)
        )
    }

    /// Reads what [`Cursor::to_text`] wrote; `None` for anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        use base64::Engine as _;
        let (encoding, key) = text.split_once(':')?;
        let encoding = match encoding {
            "binary" => Encoding::Binary,
            "native" => Encoding::Native,
            _ => return None,
        };
        let key = base64::engine::general_purpose::STANDARD.decode(key).ok()?;
        Some(Self { encoding, key })
    }
}

/// Rows in key order, and those that could not be encoded.
#[derive(Debug, Default)]
pub struct SourceBatch {
    pub rows: Batch,
    pub rejects: Vec<Reject>,
}

impl SourceBatch {
    /// With room for as many rows as a batch usually has.
    pub(super) fn roomy() -> Self {
        Self {
            // The row that makes a batch full is over the limit.
            rows: Batch::with_capacity(BATCH_BYTES + BATCH_BYTES / 16),
            rejects: Vec::new(),
        }
    }

    /// Where the next read starts. `None` if no row was read, or the key of the last one has a
    /// NULL, behind which nothing can be found again.
    pub fn cursor(&self, layout: &Layout, encoding: Encoding) -> Option<Cursor> {
        let last = self.rows.tuple(self.rows.len().checked_sub(1)?);
        let key = last.project(&layout.primary_key);
        let complete =
            !layout.primary_key.is_empty() && Tuple::new(&key).fields().all(|f| f.is_some());
        complete.then_some(Cursor { encoding, key })
    }
}

/// A row that cannot go to the target as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub table: String,
    pub key: String,
    /// What is wrong, with the column where it is one column's fault; no value is shown.
    pub reason: String,
    /// The same, one by one; never empty.
    pub faults: Vec<Fault>,
    /// The whole row: as it is stored if the source's reader rejected it, as it was encoded for
    /// the target if that refused it.
    pub row: StoredRow,
}

/// A row that was put aside, with the columns of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    pub encoding: Encoding,
    pub tuple: Vec<u8>,
}

impl StoredRow {
    /// The bytes by which other rows refer to this one. `None` for NULL.
    pub fn key_bytes(&self, column: usize) -> Option<Vec<u8>> {
        let field = Tuple::new(&self.tuple).field(column);
        match self.encoding {
            Encoding::Binary => field.map(<[u8]>::to_vec),
            Encoding::Native => match Native::decode(field)? {
                Native::Text(bytes) | Native::Blob(bytes) => Some(bytes.to_vec()),
                _ => text_of(field, self.encoding).map(String::into_bytes),
            },
        }
    }
}

impl Reject {
    /// A row that the target refused.
    pub fn new(layout: &Layout, row: Tuple<'_>, encoding: Encoding, reason: String) -> Self {
        let fault = Fault {
            column: None,
            reason: Reason::Refused(reason),
        };
        Self::of(layout, row, encoding, vec![fault])
    }

    /// A row with all that is wrong with it.
    pub fn of(layout: &Layout, row: Tuple<'_>, encoding: Encoding, faults: Vec<Fault>) -> Self {
        let reasons: Vec<String> = faults.iter().map(Fault::to_string).collect();
        Self {
            table: layout.name.clone(),
            key: shown_key(layout, row, encoding),
            reason: reasons.join("; "),
            faults,
            row: StoredRow {
                encoding,
                tuple: row.as_bytes().to_vec(),
            },
        }
    }
}

/// The key of a row, for a person to read.
pub fn shown_key(layout: &Layout, row: Tuple<'_>, encoding: Encoding) -> String {
    let key = row.project(&layout.primary_key);
    let fields = display_fields(Tuple::new(&key), &layout.key_kinds(), encoding);
    join_key(layout, fields)
}

/// The fields of a key as one text, separated by `/`, with secrets masked.
pub(super) fn join_key(layout: &Layout, fields: impl IntoIterator<Item = String>) -> String {
    let names = layout.key_names().into_iter();
    let masked = names.zip(fields).map(|(column, field)| mask(column, field));
    masked.collect::<Vec<_>>().join("/")
}

/// A token that is part of a key is shown only as far as it helps to find the row; no key breaks a
/// line or moves a terminal's cursor.
fn mask(column: &str, field: String) -> String {
    let start: String = field.chars().take(TOKEN_SHOWN).collect();
    let shown = match column {
        "token" if start != field => format!("{start}…"),
        _ => field,
    };
    match shown.contains(char::is_control) {
        true => shown.chars().map(printable).collect(),
        false => shown,
    }
}

fn printable(character: char) -> String {
    match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    }
}

/// Characters of a token that are shown.
const TOKEN_SHOWN: usize = 8;

/// Batches of one table, read ahead by a task of their own.
pub struct RowStream {
    batches: mpsc::Receiver<Message>,
    task: JoinHandle<()>,
    label: String,
}

pub(super) enum Message {
    Batch(SourceBatch),
    /// The last row was read. A stream that stops without it was cut short.
    End,
    Failed(MetadataError),
}

/// The reading end's counterpart: where a reader puts its batches.
pub(super) type Sender = mpsc::Sender<Message>;

impl RowStream {
    pub(super) fn new(label: &str, start: impl FnOnce(Sender) -> JoinHandle<()>) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        Self {
            batches,
            task: start(sender),
            label: label.to_owned(),
        }
    }

    /// The next batch, or `None` behind the last row.
    pub async fn next(&mut self) -> Result<Option<SourceBatch>, MetadataError> {
        match self.batches.recv().await {
            Some(Message::Batch(batch)) => Ok(Some(batch)),
            Some(Message::End) => Ok(None),
            Some(Message::Failed(error)) => Err(error),
            None => {
                let during = During {
                    action: "read all rows",
                    backend: &self.label,
                };
                Err(during.failed("the reader stopped early"))
            }
        }
    }
}

impl Drop for RowStream {
    fn drop(&mut self) {
        // A blocking reader sees the closed channel; an async one is stopped where it waits.
        self.task.abort();
    }
}

impl Snapshot {
    /// Opens the database and fixes the moment that is read.
    pub async fn open(config: &MetadataConfig) -> Result<Self, MetadataError> {
        match config.driver {
            Driver::Sqlite => SqliteReader::open(config).await.map(Self::Sqlite),
            Driver::Postgres => PostgresReader::open(config).await.map(Self::Postgres),
        }
    }

    pub fn driver(&self) -> Driver {
        match self {
            Self::Sqlite(_) => Driver::Sqlite,
            Self::Postgres(_) => Driver::Postgres,
        }
    }

    pub fn identity(&self) -> &Identity {
        match self {
            Self::Sqlite(reader) => reader.identity(),
            Self::Postgres(reader) => reader.identity(),
        }
    }

    /// How rows of this database must be encoded for one of `target`.
    pub fn encoding_for(&self, target: Driver) -> Encoding {
        match (self.driver(), target) {
            (Driver::Sqlite, Driver::Sqlite) => Encoding::Native,
            _ => Encoding::Binary,
        }
    }

    /// Every table of the database, whether this program knows it or not.
    pub async fn layouts(&self) -> Result<Vec<Layout>, MetadataError> {
        match self {
            Self::Sqlite(reader) => reader.layouts().await,
            Self::Postgres(reader) => reader.layouts().await,
        }
    }

    /// The schema versions that were applied, in no order.
    ///
    /// # Errors
    ///
    /// [`MetadataError::NotInitialised`] if there are no tables of Plik, [`MetadataError::Layout`]
    /// if there are others of their names, [`MetadataError::Newer`] if a newer program made them.
    pub async fn versions(&self) -> Result<Vec<String>, MetadataError> {
        let state = self.state().await?;
        schema::check(self.dialect(), self.label(), &state)?;
        if let Some(id) = state.newer_id() {
            return Err(MetadataError::Newer {
                backend: self.label().to_owned(),
                id: id.to_owned(),
            });
        }
        Ok(state.ids.unwrap_or_default())
    }

    /// # Errors
    ///
    /// [`MetadataError::HalfMigrated`] if a migration into it has not come to its end.
    pub async fn refuse_half_migrated(&self) -> Result<(), MetadataError> {
        let state = self.state().await?;
        for (table, column) in HALF_DONE {
            if state.has_column(table, column) && self.count(table).await? > 0 {
                let backend = self.label().to_owned();
                return Err(MetadataError::HalfMigrated { backend });
            }
        }
        Ok(())
    }

    /// Whether a migration into it from `source` has not come to its end.
    pub async fn has_checkpoint_of(&self, source: &Identity) -> Result<bool, MetadataError> {
        let layouts = self.layouts().await?;
        let Some(checkpoints) = layouts.iter().find(|layout| layout.name == CHECKPOINTS) else {
            return Ok(false);
        };
        let encoding = self.encoding_for(self.driver());
        let mut rows = self.read(Request {
            layout: checkpoints.project(&["source"]),
            encoding,
            to: self.driver(),
            after: None,
            rows: Rows::All,
            order: Order::Any,
        });
        while let Some(batch) = rows.next().await? {
            let mut sources = batch.rows.iter().map(|row| text_of(row.field(0), encoding));
            if sources.any(|found| found.as_ref() == Some(&source.0)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The version of the database engine: of the server, or of the SQLite in this program.
    pub async fn engine_version(&self) -> Result<String, MetadataError> {
        match self {
            Self::Sqlite(_) => Ok(rusqlite::version().to_owned()),
            Self::Postgres(reader) => reader.server_version().await,
        }
    }

    async fn state(&self) -> Result<State, MetadataError> {
        match self {
            Self::Sqlite(reader) => reader.state().await,
            Self::Postgres(reader) => reader.state().await,
        }
    }

    fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    fn label(&self) -> &str {
        match self {
            Self::Sqlite(reader) => reader.label(),
            Self::Postgres(reader) => reader.label(),
        }
    }

    /// How many rows the table has.
    pub async fn count(&self, table: &str) -> Result<u64, MetadataError> {
        match self {
            Self::Sqlite(reader) => reader.count(table).await,
            Self::Postgres(reader) => reader.count(table).await,
        }
    }

    /// How many files there are whose status says that they have bytes, and how many bytes.
    pub async fn blob_totals(&self) -> Result<(u64, u64), MetadataError> {
        match self {
            Self::Sqlite(reader) => reader.blob_totals().await,
            Self::Postgres(reader) => reader.blob_totals().await,
        }
    }

    /// Bytes of the largest of these blobs.
    pub async fn largest_blob(&self) -> Result<u64, MetadataError> {
        match self {
            Self::Sqlite(reader) => reader.largest_blob().await,
            Self::Postgres(reader) => reader.largest_blob().await,
        }
    }

    /// An upper bound, near enough, of what the rows take on disk, indexes included.
    pub async fn size_bytes(&self) -> Result<u64, MetadataError> {
        match self {
            Self::Sqlite(reader) => reader.size_bytes().await,
            Self::Postgres(reader) => reader.size_bytes().await,
        }
    }

    /// Makes every later [`Snapshot::read`] follow these rules.
    pub fn set_rules(&mut self, rules: Rules) {
        match self {
            Self::Sqlite(reader) => reader.set_rules(rules),
            Self::Postgres(reader) => reader.set_rules(rules),
        }
    }

    fn rules(&self) -> &Rules {
        match self {
            Self::Sqlite(reader) => reader.rules(),
            Self::Postgres(reader) => reader.rules(),
        }
    }

    /// Reads one table, as the rules say.
    ///
    /// One stream at a time: a second one waits until the first is dropped or read to its end. A
    /// large table of SQLite is read by two threads if it may come in any order.
    pub fn read(&self, request: Request) -> RowStream {
        let checks = self.rules().checks(&request.layout);
        match self {
            Self::Sqlite(reader) => reader.read(request, checks),
            Self::Postgres(reader) => reader.read(request, checks, None),
        }
    }

    /// [`Snapshot::read`] with the rows that the rules reject: whoever mends them may yet want
    /// what belongs to them.
    pub fn read_rejected_too(&self, request: Request) -> RowStream {
        let checks = self.rules().only_skipping().checks(&request.layout);
        match self {
            Self::Sqlite(reader) => reader.read(request, checks),
            Self::Postgres(reader) => reader.read(request, checks, None),
        }
    }

    /// [`Snapshot::read`] of every row that may be rejected or refused, and perhaps others.
    pub fn read_suspects(&self, request: Request) -> RowStream {
        let checks = self.rules().checks(&request.layout);
        match self {
            Self::Sqlite(reader) => reader.read(request, checks),
            Self::Postgres(reader) => {
                let suspects = checks.is_empty().then(|| suspects(&request));
                reader.read(request, checks, suspects)
            }
        }
    }

    /// The keys that rows of `layout` refer to and that no row of the parent table has.
    ///
    /// # Errors
    ///
    /// Also if there are more than a million of them.
    pub async fn missing_parents(&self, layout: &Layout) -> Result<Keys, MetadataError> {
        let mut found = Keys::new();
        let known = layout.known().map_or(&[][..], |table| table.foreign_keys);
        for key in known {
            if layout.position(key.column).is_none() {
                continue;
            }
            let (parent, child) = (quote(key.parent_column), quote(key.column));
            let is_parent = match self {
                // Bytes become the text that they spell.
                Self::Sqlite(_) => {
                    format!("p.{parent} = d.key OR p.{parent} = CAST(d.key AS TEXT)")
                }
                Self::Postgres(_) => format!("p.{parent} = d.key"),
            };
            let sql = format!(
                "SELECT d.key FROM (SELECT DISTINCT {child} AS key FROM {table} \
                 WHERE {child} IS NOT NULL) AS d \
                 WHERE NOT EXISTS (SELECT 1 FROM {parents} p WHERE {is_parent}) LIMIT {limit}",
                table = quote(&layout.name),
                parents = quote(key.parent),
                limit = MOST_KEYS + 1,
            );
            found.extend(match self {
                Self::Sqlite(reader) => reader.keys(sql).await?,
                Self::Postgres(reader) => reader.keys(&sql).await?,
            });
        }
        self.few_enough(found)
    }

    /// The keys, encoded for `to`, that more than one row of `layout` would have there: times that
    /// are written in two ways and are one instant.
    ///
    /// # Errors
    ///
    /// Also if there are more than a million of them.
    pub async fn same_keys(&self, layout: &Layout, to: Driver) -> Result<Keys, MetadataError> {
        let mut found = Keys::new();
        let encoding = self.encoding_for(to);
        let may_have = match self {
            Self::Sqlite(reader) if encoding == Encoding::Binary => {
                reader.has_one_time_in_two_ways(layout).await?
            }
            _ => false,
        };
        if !may_have {
            return Ok(found);
        }
        let mut stream = self.read(Request {
            layout: layout.project(&layout.key_names()),
            encoding,
            to,
            after: None,
            rows: Rows::All,
            order: Order::Key,
        });
        let mut last = Vec::new();
        while let Some(batch) = stream.next().await? {
            for key in batch.rows.iter() {
                if key.as_bytes() == last {
                    found.insert(key.as_bytes().into());
                }
                last = key.as_bytes().to_vec();
            }
        }
        self.few_enough(found)
    }

    /// Sets of keys are held in memory.
    pub fn few_enough(&self, keys: Keys) -> Result<Keys, MetadataError> {
        if keys.len() <= MOST_KEYS {
            return Ok(keys);
        }
        let during = During {
            action: "be checked",
            backend: self.label(),
        };
        Err(during.failed(format!(
            "more than {MOST_KEYS} of its rows are in disorder, which is more than this program \
             holds in memory; `plikd clean` deletes those without a parent"
        )))
    }
}

/// Keys that are held in memory at once, for one table.
const MOST_KEYS: usize = 1_000_000;

/// Floating point, because a sum may be beyond 64 bits where sizes are nonsense.
pub(super) const BLOB_TOTALS: &str = "SELECT count(*), CAST(coalesce(sum(CAST(size AS double precision)), 0) AS double precision) \
     FROM files WHERE status IN ('uploaded', 'removed')";

pub(super) const LARGEST_BLOB: &str = "SELECT CAST(coalesce(max(CAST(size AS double precision)), 0) AS double precision) \
     FROM files WHERE status IN ('uploaded', 'removed')";

/// Rows and bytes after which a batch is handed on.
pub(super) const BATCH_ROWS: usize = 10_000;
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// Rejected rows are held whole, each in memory of its own.
const BATCH_REJECTS: usize = 1_000;
const BIG_REJECT: usize = 64 << 10;

/// Whether a batch is big enough to be handed on. One row may be larger than the limit.
pub(super) fn is_full(batch: &SourceBatch) -> bool {
    let last = batch.rejects.last();
    batch.rows.len() + batch.rejects.len() >= BATCH_ROWS
        || batch.rows.as_bytes().len() >= BATCH_BYTES
        || batch.rejects.len() >= BATCH_REJECTS
        || last.is_some_and(|reject| reject.row.tuple.len() >= BIG_REJECT)
}

/// What an undeclared type in SQL most likely holds.
pub(super) fn kind_of_declared(declared: &str) -> Kind {
    let declared = declared.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
    if has(&["bool", "numeric"]) {
        // Plik's ORM declares booleans of SQLite `numeric`.
        Kind::Boolean
    } else if has(&["date", "time"]) {
        Kind::Time
    } else if has(&["int"]) {
        Kind::Integer
    } else if has(&["char", "clob", "text"]) {
        Kind::Text
    } else if has(&["real", "floa", "doub"]) {
        Kind::Real
    } else if declared.is_empty() || has(&["blob", "bytea"]) {
        Kind::Bytes
    } else {
        Kind::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_in_one_line_and_a_token_in_part() {
        let shown = |column, field: &str| mask(column, field.to_owned());
        assert_eq!(
            shown("id", "a\nb\u{1b}[2J\u{85}é"),
            "a\\nb\\u{1b}[2J\\u{85}é"
        );
        assert_eq!(shown("token", "12345678"), "12345678");
        assert_eq!(shown("token", "\t234567890"), "\\t2345678…");
    }

    #[test]
    fn a_cursor_survives_being_written_down() {
        for encoding in [Encoding::Binary, Encoding::Native] {
            let cursor = Cursor {
                encoding,
                key: vec![0, 1, 255],
            };
            assert_eq!(Cursor::from_text(&cursor.to_text()), Some(cursor));
        }
        assert_eq!(Cursor::from_text("binary"), None);
        assert_eq!(Cursor::from_text("other:AA=="), None);
        assert_eq!(Cursor::from_text("binary:?"), None);
    }

    #[test]
    fn ranges_of_keys_are_a_condition_on_the_first_column_of_the_key() {
        let column = |name: &str| Column {
            name: name.to_owned(),
            kind: Kind::Text,
            declared: "text".to_owned(),
        };
        let range = |from: Option<&str>, until: Option<&str>| KeyRange {
            from: from.map(str::to_owned),
            until: until.map(str::to_owned),
        };
        let select = |ranges: Vec<KeyRange>| {
            let request = Request {
                layout: Layout {
                    name: "notes".to_owned(),
                    columns: vec![column("text"), column("id"), column("part")],
                    primary_key: vec![1, 2],
                    indexes: Vec::new(),
                },
                encoding: Encoding::Binary,
                to: Driver::Postgres,
                after: None,
                rows: Rows::Within(ranges),
                order: Order::Any,
            };
            let sql = request.select(|column| column.name.clone(), |key| key.name.clone(), &[]);
            sql.replace("SELECT text, id, part FROM \"notes\"", "")
        };
        assert_eq!(
            select(vec![range(Some("a"), Some("b"))]),
            " WHERE ((id >= 'a' AND id < 'b'))"
        );
        assert_eq!(
            select(vec![range(None, Some("0")), range(Some("zz"), None)]),
            " WHERE ((id < '0') OR (id >= 'zz'))"
        );
        assert_eq!(select(vec![range(None, None)]), " WHERE (1 = 1)");
        assert_eq!(select(Vec::new()), " WHERE 1 = 0");
    }

    #[test]
    fn tokens_are_not_shown_whole() {
        assert_eq!(mask("token", "dff7aa8c-dc44-4313".to_owned()), "dff7aa8c…");
        assert_eq!(mask("token", String::new()), "");
        assert_eq!(mask("user_id", "local:admin".to_owned()), "local:admin");
    }

    #[test]
    fn declared_types_are_understood() {
        for (declared, kind) in [
            ("varchar(255)", Kind::Text),
            ("bool", Kind::Boolean),
            ("numeric", Kind::Boolean),
            ("bigint", Kind::Integer),
            ("datetime", Kind::Time),
            ("timestamp with time zone", Kind::Time),
            ("double precision", Kind::Real),
            ("", Kind::Bytes),
            ("jsonb", Kind::Text),
        ] {
            assert_eq!(kind_of_declared(declared), kind, "{declared}");
        }
    }
}
