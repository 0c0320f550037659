//! Rows that several processes bring into one database, each a part of every table: what the target
//! notes of them until a run puts the parts together.
//!
//! The first part takes the empty tables apart, as any fresh load does, and writes down which; the
//! others join. From then on what is noted of a table by one part comes and goes with its rows, in
//! one transaction.

use std::collections::{HashMap, HashSet};

use super::MetadataError;
use super::checkpoint::Tally;
use super::engine::Statement;
use super::error::During;
use super::fresh::FreshLoad;
use super::layout::{Layout, migrated};
use super::loader::{Bulk, Loader};
use super::postgres::writer::BulkWriter;
use super::snapshot::{Identity, Snapshot};
use super::value::Value;
use crate::model::Shard;

/// What was noted. A row with the number 0 says of a table that parts are loaded into it.
pub(super) const SHARDS: &str = "plikd_migrate_shards";

/// The name starts with `plikd_migrate_`, as those of all bookkeeping.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS plikd_migrate_shards (\
     source text NOT NULL, table_name text NOT NULL, number bigint NOT NULL, \
     parts bigint NOT NULL, copied bigint NOT NULL, failed bigint NOT NULL, \
     PRIMARY KEY (table_name, number))";

/// What has arrived of the rows of one table, by the number of the part.
const NOTED: &str = "SELECT table_name, number, parts, copied, failed FROM plikd_migrate_shards";

/// One part of the rows of a source.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// As [`Identity::of_copies`] gives it.
    source: Identity,
    shard: Shard,
}

/// Who has loaded what, when a part joins.
#[derive(Default)]
struct Noted {
    /// Tables that parts are loaded into.
    tables: HashSet<String>,
    /// What has arrived of this part, by table.
    arrived: HashMap<String, Tally>,
}

impl Part {
    /// Claims a table for this part, in the transaction of its rows. It changes nothing if they have
    /// come, and waits for whoever is bringing them.
    pub fn claim(&self, table: &str) -> Statement {
        const SQL: &str = "INSERT INTO plikd_migrate_shards \
             (source, table_name, number, parts, copied, failed) VALUES ($1, $2, $3, $4, 0, 0) \
             ON CONFLICT (table_name, number) DO NOTHING";
        self.note(SQL, table, i64::from(self.shard.number().get()))
    }

    /// Says of a table that parts are loaded into it.
    fn opened(&self, table: &str) -> Statement {
        const SQL: &str = "INSERT INTO plikd_migrate_shards \
             (source, table_name, number, parts, copied, failed) VALUES ($1, $2, $3, $4, 0, 0)";
        self.note(SQL, table, 0)
    }

    fn note(&self, sql: &'static str, table: &str, number: i64) -> Statement {
        let parts = i64::from(self.shard.of().get());
        let source = Value::Text(self.source.to_string());
        let values = [
            source,
            table.into(),
            Value::Integer(number),
            Value::Integer(parts),
        ];
        Statement::new(sql, values)
    }

    /// Says what has arrived of a table that was claimed.
    pub fn arrived(&self, table: &str, tally: Tally) -> Statement {
        const SQL: &str = "UPDATE plikd_migrate_shards SET copied = $1, failed = $2 \
             WHERE table_name = $3 AND number = $4";
        let count = |count| Value::Integer(i64::try_from(count).unwrap_or(i64::MAX));
        let number = i64::from(self.shard.number().get());
        let values = [
            count(tally.copied),
            count(tally.failed),
            table.into(),
            Value::Integer(number),
        ];
        Statement::new(SQL, values)
    }
}

impl Snapshot {
    /// # Errors
    ///
    /// [`MetadataError::Divided`] if rows are being loaded into it in another number of parts,
    /// [`MetadataError::NoParts`] if it has rows that did not come in parts, or a run has begun to
    /// put the parts together.
    pub async fn refuse_part(&self, shard: Shard) -> Result<(), MetadataError> {
        let layouts = self.layouts().await?;
        let backend = || self.label().to_owned();
        let parts = self.column_of(&layouts, SHARDS, "parts").await?;
        let of = shard.of().get().to_string();
        if let Some(parts) = parts.iter().find(|parts| **parts != of) {
            return Err(MetadataError::Divided {
                backend: backend(),
                parts: parts.clone(),
            });
        }
        let reason = match parts.is_empty() {
            true if self.has_any_row(&layouts).await? => "it has rows already",
            false if !self.is_apart().await? => {
                "a run without --shard has begun to put the parts together"
            }
            _ => return Ok(()),
        };
        Err(MetadataError::NoParts {
            backend: backend(),
            reason,
        })
    }

    /// What an attempt ends with that another one can follow at once.
    pub fn changed_meanwhile(&self, what: &'static str) -> MetadataError {
        let during = During {
            action: "take rows",
            backend: self.label(),
        };
        during.busy(what)
    }

    /// Whether its tables lack keys for now, because a load that was cut off, or that goes on in
    /// parts, has taken them apart.
    pub async fn is_apart(&self) -> Result<bool, MetadataError> {
        const DEFERRED: &str = "plikd_migrate_deferred";
        let layouts = self.layouts().await?;
        match layouts.iter().any(|layout| layout.name == DEFERRED) {
            true => self.has_rows(DEFERRED).await,
            false => Ok(false),
        }
    }

    /// Counters of nothing, from a server's first start, give way.
    async fn has_any_row(&self, layouts: &[Layout]) -> Result<bool, MetadataError> {
        for layout in migrated(layouts.to_vec()) {
            if layout.name != "usage_stats" && self.has_rows(&layout.name).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Loader {
    /// Begins the load of one part of the rows of `source`, or goes on with it. The loader is one of
    /// [`Loader::open_part`]; others may then join.
    ///
    /// # Errors
    ///
    /// [`MetadataError::NoParts`] if the tables have rows, or cannot be taken apart.
    pub async fn begin_part(
        &self,
        source: &Identity,
        tables: &[&Layout],
    ) -> Result<FreshLoad, MetadataError> {
        let (Bulk::Postgres(writer), Some(shard)) = (&self.bulk, self.shard) else {
            return Err(self.takes_no_parts("it was opened for all of them"));
        };
        let part = Part {
            source: source.of_copies(),
            shard,
        };
        let mut noted = self.noted(shard).await?;
        if noted.tables.is_empty() {
            noted.tables = self.open_tables(writer, &part, tables).await?;
        }
        writer.release_schema().await?;
        let load = writer.begin_part(part, noted.tables, noted.arrived).await?;
        Ok(FreshLoad::of_part(load))
    }

    /// Takes the tables apart, and gives those that parts are loaded into.
    async fn open_tables(
        &self,
        writer: &BulkWriter,
        part: &Part,
        tables: &[&Layout],
    ) -> Result<HashSet<String>, MetadataError> {
        for layout in tables {
            if self.has_rows(layout).await? {
                return Err(self.takes_no_parts("it has rows already"));
            }
        }
        let taken = writer.take_apart(tables).await?;
        if taken.is_empty() {
            return Err(self.takes_no_parts("its tables cannot be taken apart"));
        }
        let notes = taken.iter().map(|table| part.opened(table)).collect();
        let engine = self.metadata.engine();
        engine.write("prepare it for parts", notes).await?;
        Ok(taken)
    }

    async fn noted(&self, shard: Shard) -> Result<Noted, MetadataError> {
        let mut noted = Noted::default();
        let engine = self.metadata.engine();
        for row in engine
            .query("read what has come in parts", NOTED, [])
            .await?
        {
            let table = row.text("table_name");
            let count = |column| row.integer(column).unsigned_abs();
            if count("number") == u64::from(shard.number().get()) {
                let tally = Tally {
                    copied: count("copied"),
                    failed: count("failed"),
                    ..Tally::default()
                };
                noted.arrived.insert(table, tally);
            } else {
                noted.tables.insert(table);
            }
        }
        Ok(noted)
    }

    /// The tables whose rows have come in parts, if any have.
    pub async fn tables_in_parts(&self) -> Result<HashSet<String>, MetadataError> {
        const SQL: &str = "SELECT DISTINCT table_name FROM plikd_migrate_shards";
        let engine = self.metadata.engine();
        let rows = engine.query("read what has come in parts", SQL, []).await?;
        Ok(rows.iter().map(|row| row.text("table_name")).collect())
    }

    /// Removes rows that came in parts and promise bytes which `source` could not give: whoever
    /// brought the row knew nothing of the blob.
    pub async fn withdraw_promises(&self, source: &Identity) -> Result<(), MetadataError> {
        const SQL: &str = "DELETE FROM files WHERE status = 'uploaded' AND id IN \
             (SELECT file_id FROM plikd_migrate_blobs WHERE source = $1 AND NOT arrived)";
        let statement = Statement::new(SQL, [Value::Text(source.to_string())]);
        let engine = self.metadata.engine();
        let written = engine.write("withdraw files without bytes", vec![statement]);
        written.await.map(|_| ())
    }

    fn takes_no_parts(&self, reason: &'static str) -> MetadataError {
        MetadataError::NoParts {
            backend: self.metadata.to_string(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_one_database_are_one_source_and_others_are_not() {
        let of_copies = |text: &str| Identity(text.to_owned()).of_copies().0;
        assert_eq!(
            of_copies("sqlite:1:22:aabbccdd"),
            of_copies("sqlite:3:4:aabbccdd")
        );
        assert_ne!(
            of_copies("sqlite:1:22:aabbccdd"),
            of_copies("sqlite:1:22:aabbccde")
        );
        for alone in ["sqlite:1:22", "postgres:7:16384", "rejects:a:b:c"] {
            assert_eq!(of_copies(alone), alone);
        }
    }
}
