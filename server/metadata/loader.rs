//! The target of a migration: rows written in batches, each with its checkpoint.

use jiff::tz::TimeZone;

use super::blob_notes::LATER_COLUMNS;
use super::checkpoint::{Checkpoint, Tally};
use super::divided::{self, SHARDS};
use super::engine::Statement;
use super::error::During;
use super::fresh::{Built, FreshError};
use super::layout::{Layout, quote};
use super::postgres::writer::BulkWriter as PostgresWriter;
use super::reject::Reject;
use super::snapshot::Identity;
use super::sqlite::loading::{Draft, Unpublished};
use super::sqlite::writer::BulkWriter as SqliteWriter;
use super::strangers::Strangers;
use super::tuple::{Batch, Encoding};
use super::upload_log::{self, UploadLog};
use super::value::Value;
use super::{Hold, Metadata, MetadataError, OpenMode, followed, place, sqlite, stats};
use crate::config::{Driver, MetadataConfig};
use crate::model::{Shard, Timestamp};

/// What one batch came to.
#[derive(Debug, Default)]
pub struct Loaded {
    pub copied: u64,
    pub present: u64,
    pub updated: u64,
    /// Keys that are there with other values, for a person to read.
    pub conflicts: Vec<String>,
    pub rejects: Vec<Reject>,
}

impl Loaded {
    pub fn tally(&self) -> Tally {
        Tally {
            copied: self.copied,
            present: self.present,
            conflicts: self.conflicts.len() as u64,
            failed: self.rejects.len() as u64,
            updated: self.updated,
            deleted: 0,
        }
    }
}

/// What to do about a row that the target cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReject {
    /// Write nothing of its batch.
    Stop,
    /// Write the others.
    Continue,
}

/// What to do about a row whose key is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it as it is.
    Keep,
    /// Give it the new values, but in the columns that are not compared. Rows whose key is not
    /// there are not written.
    Update,
}

/// One batch to write.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    pub layout: &'a Layout,
    pub rows: &'a Batch,
    pub encoding: Encoding,
    /// Columns in which a row that is there may differ and still be equal.
    pub not_compared: &'a [&'a str],
    pub existing: Existing,
    pub on_reject: OnReject,
    /// Where the run stands with this batch; what becomes of its rows is added. `None` if that is
    /// found out by comparing.
    pub checkpoint: Option<&'a Checkpoint>,
}

/// Rows to remove.
#[derive(Clone, Copy)]
pub struct Delete<'a> {
    /// The columns of the primary key, and no others.
    pub layout: &'a Layout,
    pub keys: &'a Batch,
    pub encoding: Encoding,
}

/// What a finished run leaves behind.
#[derive(Clone, Debug)]
pub struct RunRecord {
    pub id: String,
    pub source: Identity,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// Counts, as JSON.
    pub summary: String,
    /// Rows were copied, to the last one.
    pub has_rows: bool,
    /// Blobs were copied, and rows that promise them.
    pub both_halves: bool,
}

/// A database that rows are loaded into. Its tables exist and have this program's schema.
pub struct Loader {
    pub(super) metadata: Metadata,
    pub(super) bulk: Bulk,
    config: MetadataConfig,
    /// The part that it loads, if not all.
    pub(super) shard: Option<Shard>,
}

pub(super) enum Bulk {
    Sqlite(SqliteWriter),
    Postgres(Box<PostgresWriter>),
}

/// The bookkeeping of migrations, in the SQL of both engines. The names start with `plikd_migrate_`.
const BOOKKEEPING: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS plikd_migrate_checkpoints (source text NOT NULL, \
     table_name text NOT NULL, last_key text, copied bigint NOT NULL, present bigint NOT NULL, \
     conflicts bigint NOT NULL, failed bigint NOT NULL, PRIMARY KEY (source, table_name))",
    "CREATE TABLE IF NOT EXISTS plikd_migrate_blobs (source text NOT NULL, \
     file_id text NOT NULL, arrived boolean NOT NULL, backend_details text, md5 text, place text, \
     PRIMARY KEY (source, file_id))",
    "CREATE TABLE IF NOT EXISTS plikd_migrate_runs (id text PRIMARY KEY, source text NOT NULL, \
     started_at text NOT NULL, finished_at text NOT NULL, summary text NOT NULL)",
    divided::TABLE,
];

/// What became of blobs, and what they were proven to be.
const BLOBS: &str = "plikd_migrate_blobs";

/// Says how far the runs came that are not complete.
pub(super) const CHECKPOINTS: &str = "plikd_migrate_checkpoints";

/// One row for each migration that has come to its end.
pub(super) const RUNS: &str = "plikd_migrate_runs";

/// Tables, each with a column to know it by, that have rows while a migration is not complete.
pub(super) const HALF_DONE: [(&str, &str); 3] = [
    (CHECKPOINTS, "source"),
    (SHARDS, "source"),
    ("plikd_migrate_deferred", "definition"),
];

impl Loader {
    /// Makes a SQLite database readable in which a program died in the middle of a transaction, as
    /// opening it to load does. To be called before one looks at it; changes nothing else, and
    /// nothing that a living program has begun.
    pub async fn recover(config: &MetadataConfig) {
        if let Some(location) = place::location(config) {
            let recovered = tokio::task::spawn_blocking(move || sqlite::recover(&location));
            if let Err(error) = recovered.await {
                tracing::debug!("cannot recover the target: {error}");
            }
        }
    }

    /// Opens the database, creates or upgrades its tables, and keeps everybody else from loading
    /// into it or serving it until this is closed. Gives tables the keys that an earlier load has
    /// left out, `tell`ing how far it is.
    ///
    /// # Errors
    ///
    /// [`MetadataError::InUse`] if a server or another run has it.
    pub async fn open(
        config: &MetadataConfig,
        tell: &(dyn Fn(Built) + Sync),
    ) -> Result<Self, MetadataError> {
        let loader = Self::open_in(config, OpenMode::Load).await?;
        loader.keep_books().await?;
        if let Bulk::Postgres(writer) = &loader.bulk {
            writer.restore(tell).await?;
        }
        Ok(loader)
    }

    /// [`Loader::open`] beside others that load another part of the rows. They wait from here on, and
    /// only until [`Loader::begin_part`].
    ///
    /// # Errors
    ///
    /// [`MetadataError::InUse`] if a server, a run that is no part, or one of the same part has it.
    pub async fn open_part(config: &MetadataConfig, shard: Shard) -> Result<Self, MetadataError> {
        let mode = OpenMode::LoadPart(shard.number());
        let loader = Self {
            shard: Some(shard),
            ..Self::open_in(config, mode).await?
        };
        if let Bulk::Postgres(writer) = &loader.bulk {
            writer.hold_schema().await?;
        }
        loader.keep_books().await?;
        Ok(loader)
    }

    async fn open_in(config: &MetadataConfig, mode: OpenMode) -> Result<Self, MetadataError> {
        let metadata = Metadata::open(config, mode).await?;
        let bulk = match config.driver {
            Driver::Sqlite => Bulk::Sqlite(SqliteWriter::open(config, TimeZone::system()).await?),
            Driver::Postgres => Bulk::Postgres(Box::new(
                PostgresWriter::open(config, metadata.hold().cloned()).await?,
            )),
        };
        Ok(Self {
            metadata,
            bulk,
            config: config.clone(),
            shard: None,
        })
    }

    /// Creates the tables in which migrations keep what they have done.
    async fn keep_books(&self) -> Result<(), MetadataError> {
        let tables = BOOKKEEPING
            .iter()
            .chain(&upload_log::TABLES)
            .chain(&followed::TABLES);
        self.define(tables.map(|sql| (*sql).to_owned()).collect())
            .await?;
        self.extend_bookkeeping().await
    }

    /// Adds the columns that the bookkeeping of an earlier version lacks.
    async fn extend_bookkeeping(&self) -> Result<(), MetadataError> {
        let layouts = self.layouts().await?;
        let blobs = layouts.iter().find(|table| table.name == BLOBS);
        let lacks = |name: &str| blobs.is_some_and(|blobs| blobs.position(name).is_none());
        let lacking = LATER_COLUMNS.iter().filter(|(name, _)| lacks(name));
        let statements: Vec<String> = lacking
            .map(|(name, kind)| format!("ALTER TABLE {BLOBS} ADD COLUMN {name} {kind}"))
            .collect();
        match statements.is_empty() {
            true => Ok(()),
            false => self.define(statements).await,
        }
    }

    /// The lock that keeps everybody else away, if it can be lost: what is under way fails then.
    pub fn hold(&self) -> Option<&Hold> {
        self.metadata.hold()
    }

    pub fn driver(&self) -> Driver {
        match self.bulk {
            Bulk::Sqlite(_) => Driver::Sqlite,
            Bulk::Postgres(_) => Driver::Postgres,
        }
    }

    /// Every table of the database.
    pub async fn layouts(&self) -> Result<Vec<Layout>, MetadataError> {
        match &self.bulk {
            Bulk::Sqlite(writer) => writer.layouts().await,
            Bulk::Postgres(writer) => writer.layouts().await,
        }
    }

    /// Adds the tables and columns of `source` that the database lacks: those that this program
    /// does not know, which must survive a migration all the same. Gives the tables of `source`
    /// as this database has them: the same columns in the same order, with its own types.
    pub async fn adopt(
        &self,
        source: &[Layout],
        from: Driver,
    ) -> Result<Vec<Layout>, MetadataError> {
        let statements = self.missing(source, &self.layouts().await?, from);
        if !statements.is_empty() {
            self.define(statements).await?;
        }
        let target = self.layouts().await?;
        source
            .iter()
            .map(|layout| self.counterpart(layout, &target))
            .collect()
    }

    fn missing(&self, source: &[Layout], target: &[Layout], from: Driver) -> Vec<String> {
        let strangers = Strangers {
            dialect: self.metadata.engine().dialect(),
            same_engine: from == self.driver(),
        };
        let mut statements = Vec::new();
        for layout in source {
            match target.iter().find(|found| found.name == layout.name) {
                Some(found) => {
                    let missing = layout
                        .columns
                        .iter()
                        .filter(|c| found.position(&c.name).is_none());
                    statements.extend(missing.map(|column| strangers.add_column(layout, column)));
                }
                None => statements.extend(strangers.create_table(layout)),
            }
        }
        statements
    }

    fn counterpart(&self, layout: &Layout, target: &[Layout]) -> Result<Layout, MetadataError> {
        let names: Vec<&str> = layout
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let found = target.iter().find(|found| found.name == layout.name);
        let mut found = found.map(|found| found.project(&names)).unwrap_or_default();
        if self.shard.is_some() {
            found.take_key_of(layout);
        }
        if found.primary_key != layout.primary_key {
            return Err(MetadataError::Layout {
                backend: self.metadata.to_string(),
                table: layout.name.clone(),
                expected: format!("the primary key ({})", layout.key_names().join(", ")),
                found: format!("({})", found.key_names().join(", ")),
            });
        }
        for (there, here) in found.columns.iter_mut().zip(&layout.columns) {
            // What travels is what the source's columns hold.
            there.kind = here.kind;
        }
        Ok(found)
    }

    async fn define(&self, statements: Vec<String>) -> Result<(), MetadataError> {
        match &self.bulk {
            Bulk::Sqlite(writer) => writer.define(statements).await,
            Bulk::Postgres(writer) => writer.define(statements).await,
        }
    }

    /// Writes a batch and its checkpoint as one transaction. With [`OnReject::Stop`] nothing is
    /// written if a row is rejected.
    pub async fn write(&mut self, write: Write<'_>) -> Result<Loaded, MetadataError> {
        match &mut self.bulk {
            Bulk::Sqlite(writer) => writer.write(write).await,
            Bulk::Postgres(writer) => writer.write(write).await,
        }
    }

    /// Removes the rows with these keys as one transaction, and gives the places of those that
    /// went in `keys`, in their order. Rows that other rows refer to stay.
    pub async fn delete(&mut self, delete: Delete<'_>) -> Result<Vec<usize>, MetadataError> {
        match &mut self.bulk {
            Bulk::Sqlite(writer) => writer.delete(delete).await,
            Bulk::Postgres(writer) => writer.delete(delete).await,
        }
    }

    /// Notes that a run from `source` has begun: no server starts on the database before
    /// [`Loader::finish`].
    pub async fn begin(&self, source: &Identity) -> Result<(), MetadataError> {
        const SQL: &str = "INSERT INTO plikd_migrate_checkpoints \
             (source, table_name, copied, present, conflicts, failed) \
             VALUES ($1, '', 0, 0, 0, 0) ON CONFLICT (source, table_name) DO NOTHING";
        let statement = Statement::new(SQL, [Value::Text(source.to_string())]);
        self.metadata
            .engine()
            .write("begin the migration", vec![statement])
            .await
            .map(|_| ())
    }

    /// Whether the table has any row.
    pub async fn has_rows(&self, layout: &Layout) -> Result<bool, MetadataError> {
        let sql = format!("SELECT 1 AS row FROM {} LIMIT 1", quote(&layout.name));
        let rows = self
            .metadata
            .engine()
            .query("look for rows", sql, [])
            .await?;
        Ok(!rows.is_empty())
    }

    /// Where the unfinished uploads of blobs from `source` to `place` are written down. To be
    /// dropped before rows are loaded.
    pub fn upload_log(&self, source: &Identity, place: &str) -> UploadLog {
        UploadLog::new(&self.metadata, source, place)
    }

    /// Ends the run: its checkpoints and records go, but for uploads that nobody has ended; one row
    /// about it stays. Those of a run from another source stay too: what that one has left here is
    /// still half. So do those of rows, if this run brought none. Of rows that were replayed nothing
    /// is half, so their checkpoints go.
    ///
    /// Records of blobs go once their rows say the same. Those of blobs that did not arrive stay:
    /// nobody knows what bytes there are now.
    ///
    /// Schema versions that only the source knows are noted too, as its tables are here now.
    pub async fn finish(&self, run: &RunRecord, versions: &[String]) -> Result<(), MetadataError> {
        let source = || Value::Text(run.source.to_string());
        let mut statements = vec![
            Statement::new(
                "DELETE FROM plikd_migrate_checkpoints WHERE source = $1 AND table_name = ''",
                [source()],
            ),
            Statement::new(
                "INSERT INTO plikd_migrate_runs (id, source, started_at, finished_at, summary) \
                 VALUES ($1, $2, $3, $4, $5)",
                [
                    Value::Text(run.id.clone()),
                    source(),
                    Value::Text(run.started_at.to_string()),
                    Value::Text(run.finished_at.to_string()),
                    Value::Text(run.summary.clone()),
                ],
            ),
        ];
        if run.has_rows {
            let replayed = Value::Text(format!("{}%", Identity::OF_REJECTS));
            statements.extend([
                Statement::new(
                    "DELETE FROM plikd_migrate_checkpoints WHERE source = $1 OR source LIKE $2",
                    [source(), replayed],
                ),
                Statement::new(
                    "DELETE FROM plikd_migrate_owned WHERE source = $1",
                    [source()],
                ),
                Statement::new(
                    "DELETE FROM plikd_migrate_shards WHERE source = $1",
                    [Value::Text(run.source.of_copies().to_string())],
                ),
            ]);
        }
        if run.both_halves {
            let sql = "DELETE FROM plikd_migrate_blobs WHERE source = $1 AND arrived";
            statements.push(Statement::new(sql, [source()]));
        }
        statements.extend(versions.iter().map(|version| {
            let sql = "INSERT INTO migrations (id) VALUES ($1) ON CONFLICT (id) DO NOTHING";
            Statement::new(sql, [Value::Text(version.clone())])
        }));
        self.metadata
            .engine()
            .write("finish the migration", statements)
            .await
            .map(|_| ())
    }

    /// Makes room for the counters of the source: those that a server's first start put into an
    /// otherwise empty database would be in conflict with them.
    pub async fn drop_empty_counters(&self) -> Result<(), MetadataError> {
        self.metadata
            .engine()
            .write("drop empty counters", vec![stats::drop_empty_sentinels()])
            .await
            .map(|_| ())
    }

    /// Lets new rows of `tables` be numbered behind those that were loaded. SQLite does by itself.
    pub async fn advance_sequences(&self, tables: &[Layout]) -> Result<(), MetadataError> {
        let Bulk::Postgres(writer) = &self.bulk else {
            return Ok(());
        };
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        writer.advance_sequences(&names).await
    }

    /// Counts what the rows say, for a source from before there were counters.
    pub async fn count_usage(&self) -> Result<(), MetadataError> {
        let statements = stats::adopt(self.metadata.engine().dialect());
        self.metadata
            .engine()
            .write("count its usage", statements)
            .await
            .map(|_| ())
    }

    /// Puts a file in the place of the SQLite database and goes on in it. The database stays
    /// locked, and what this loader had open of the old one is closed.
    ///
    /// # Errors
    ///
    /// [`FreshError::Refused`] if the old one stays: this loader goes on in it.
    pub(super) async fn replace(&mut self, draft: Draft) -> Result<(), FreshError> {
        if let Bulk::Sqlite(writer) = &self.bulk {
            writer.close().await?;
        }
        // The last connection moves the log into the database and removes it.
        self.metadata.clone().close().await;
        let outcome = match &self.bulk {
            Bulk::Sqlite(writer) => writer.publish(draft).await?,
            Bulk::Postgres(_) => Ok(()),
        };
        self.metadata = self.metadata.reopen(&self.config, OpenMode::Load).await?;
        outcome.map_err(|error| self.unpublished(error))
    }

    fn unpublished(&self, error: Unpublished) -> FreshError {
        let label = self.metadata.to_string();
        match error {
            Unpublished::Refused(reason) => FreshError::Refused(reason),
            Unpublished::Unsynced(error) => {
                let during = During {
                    action: "sync its directory",
                    backend: &label,
                };
                during.failed(error).into()
            }
        }
    }

    pub async fn close(self) {
        self.metadata.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::layout::is_bookkeeping;

    #[test]
    fn every_table_of_the_bookkeeping_is_known_as_such() {
        let tables = BOOKKEEPING
            .iter()
            .chain(&upload_log::TABLES)
            .chain(&followed::TABLES);
        for sql in tables {
            let mut words = sql.split_whitespace();
            let name = words.find(|word| word.starts_with("plikd_migrate_"));
            assert!(name.is_some_and(is_bookkeeping), "{sql}");
        }
    }
}
