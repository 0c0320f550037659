//! The source of a migration: a database at one moment, only read.

use std::collections::HashSet;

use twox_hash::XxHash3_128;

use super::MetadataError;
use super::dialect::Dialect;
use super::divided::SHARDS;
use super::error::During;
use super::layout::{Layout, quote};
use super::loader::{CHECKPOINTS, HALF_DONE, RUNS};
use super::postgres::reader::{Reader as PostgresReader, suspects};
use super::request::{Order, Request, Rows};
use super::rules::{Keys, Rules};
use super::schema::{self, State};
use super::sqlite::reader::Reader as SqliteReader;
use super::stream::RowStream;
use super::table::Kind;
use super::tuple::{Encoding, integer_of, text_of};
use crate::config::{Driver, MetadataConfig};

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
    /// The server whose rows are at `place` and who made up the session key, if it ever ran.
    pub(super) fn of_server(place: String, session_key: Option<&[u8]>) -> Self {
        Self(match session_key {
            Some(key) => format!("{place}:{:08x}", XxHash3_128::oneshot(key) as u32),
            None => place,
        })
    }

    /// Whether `other`, as it was written down, is what this was before its server first ran.
    fn was(&self, other: &str) -> bool {
        let key = self.0.strip_prefix(other);
        let key = key.and_then(|rest| rest.strip_prefix(':'));
        key.is_some_and(|key| key.len() == 8 && key.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }

    /// The same for all copies of one SQLite database, once its server has run: other hosts may
    /// have copies only.
    #[must_use]
    pub fn of_copies(&self) -> Self {
        match self.0.split(':').collect::<Vec<_>>()[..] {
            ["sqlite", _device, _inode, key] => Self(format!("sqlite:{key}")),
            _ => self.clone(),
        }
    }

    /// With what those begin that [`Identity::of_rejects`] gives.
    pub(super) const OF_REJECTS: &str = "rejects:";

    /// What rows have that come from a file of rejected rows.
    pub fn of_rejects(path: &str) -> Self {
        Self(format!("{}{path}", Self::OF_REJECTS))
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
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
        Ok(self.sources_in(CHECKPOINTS).await?.contains(&source.0)
            || self.has_parts_of(source).await?)
    }

    /// Whether rows of `source`, or of a copy of it, have come or are coming into it in parts, and
    /// no run has put them together.
    pub async fn has_parts_of(&self, source: &Identity) -> Result<bool, MetadataError> {
        let sources = self.sources_in(SHARDS).await?;
        Ok(sources.contains(&source.of_copies().0))
    }

    /// Whether a migration into it from `source` has ever begun.
    pub async fn has_run_of(&self, source: &Identity) -> Result<bool, MetadataError> {
        Ok(self.sources_in(RUNS).await?.contains(&source.0)
            || self.has_checkpoint_of(source).await?)
    }

    /// # Errors
    ///
    /// [`MetadataError::OtherMigration`] if a migration into it from another source than `source`
    /// has not come to its end: rows of both would be mixed. Rows that are replayed are added to
    /// whatever is there.
    pub async fn refuse_other_migration(&self, source: &Identity) -> Result<(), MetadataError> {
        let unfinished = self.sources_in(CHECKPOINTS).await?;
        let is_other =
            |other: &&String| **other != source.0 && !other.starts_with(Identity::OF_REJECTS);
        let parts = self.sources_in(SHARDS).await?;
        let is_of_others = |other: &&String| **other != source.of_copies().0;
        let mut others = unfinished.iter().filter(is_other);
        let other = others.next().or_else(|| parts.iter().find(is_of_others));
        match other {
            Some(other) => Err(MetadataError::OtherMigration {
                backend: self.label().to_owned(),
                is_same_place: source.was(other),
                source_identity: other.clone(),
            }),
            None => Ok(()),
        }
    }

    /// The sources of migrations into it that rows of `table` name.
    async fn sources_in(&self, table: &str) -> Result<HashSet<String>, MetadataError> {
        let layouts = self.layouts().await?;
        self.column_of(&layouts, table, "source").await
    }

    /// The texts and numbers that a column of the bookkeeping has; none if there is no such table.
    pub(super) async fn column_of(
        &self,
        layouts: &[Layout],
        table: &str,
        column: &str,
    ) -> Result<HashSet<String>, MetadataError> {
        let mut values = HashSet::new();
        let Some(layout) = layouts.iter().find(|layout| layout.name == table) else {
            return Ok(values);
        };
        let Some(position) = layout.position(column) else {
            return Ok(values);
        };
        let encoding = self.encoding_for(self.driver());
        let mut rows = self.read(Request {
            layout: layout.project(&[column]),
            encoding,
            to: self.driver(),
            after: None,
            rows: Rows::All,
            order: Order::Any,
        });
        while let Some(batch) = rows.next().await? {
            values.extend(batch.rows.iter().filter_map(|row| {
                let field = row.field(0);
                match (layout.columns[position].kind, encoding) {
                    (Kind::Integer, Encoding::Binary) => {
                        integer_of(field, encoding).map(|number| number.to_string())
                    }
                    _ => text_of(field, encoding),
                }
            }));
        }
        Ok(values)
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

    pub(super) fn label(&self) -> &str {
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

    /// Whether the table has any row.
    pub async fn has_rows(&self, table: &str) -> Result<bool, MetadataError> {
        match self {
            Self::Sqlite(reader) => {
                let sql = format!("SELECT 1 FROM {} LIMIT 1", quote(table));
                reader.finds(sql).await
            }
            Self::Postgres(reader) => reader.has_rows(table).await,
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
        let (request, division) = request.divided();
        let rows = match self {
            Self::Sqlite(reader) => reader.read(request, checks),
            Self::Postgres(reader) => reader.read(request, checks, None),
        };
        rows.divided(division)
    }

    /// [`Snapshot::read`] with the rows that the rules reject: whoever mends them may yet want
    /// what belongs to them.
    pub fn read_rejected_too(&self, request: Request) -> RowStream {
        let checks = self.rules().only_skipping().checks(&request.layout);
        let (request, division) = request.divided();
        let rows = match self {
            Self::Sqlite(reader) => reader.read(request, checks),
            Self::Postgres(reader) => reader.read(request, checks, None),
        };
        rows.divided(division)
    }

    /// [`Snapshot::read`] of every row that may be rejected or refused, and perhaps others.
    pub fn read_suspects(&self, request: Request) -> RowStream {
        let checks = self.rules().checks(&request.layout);
        let (request, division) = request.divided();
        let rows = match self {
            Self::Sqlite(reader) => reader.read(request, checks),
            Self::Postgres(reader) => {
                let suspects = checks.is_empty().then(|| suspects(&request));
                reader.read(request, checks, suspects)
            }
        };
        rows.divided(division)
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
