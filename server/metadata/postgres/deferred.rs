//! Keys, indexes and foreign keys that wait until the rows are there.
//!
//! What is dropped is written down in the transaction that drops it, and what is built is struck
//! out in the transaction that builds it. So whatever happens in between, the list says exactly
//! what the tables lack.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::try_join_all;
use futures::stream::{FuturesUnordered, TryStreamExt};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::writer::{SESSION, SOON};
use super::{Connector, failure, is_about_a_row};
use crate::metadata::MetadataError;
use crate::metadata::error::During;
use crate::metadata::fresh::{Built, FreshError};

/// Definitions that are built at the same time, each by a connection of its own.
const BUILDERS: usize = 4;

/// Names in definitions are qualified, and so the list is found however a connection searches.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS $SCHEMA.plikd_migrate_deferred (\
     step smallint NOT NULL, table_name text NOT NULL, name text NOT NULL, \
     definition text NOT NULL, PRIMARY KEY (step, table_name, name))";

/// Whether there is such a list in the schema `$1`.
const EXISTS: &str = "SELECT count(*) FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relname = 'plikd_migrate_deferred'";

/// What is built in which order; constraints use the indexes.
pub const STEPS: [i16; 3] = [INDEXES, KEYS, FOREIGN_KEYS];
pub const INDEXES: i16 = 1;
pub const KEYS: i16 = 2;
pub const FOREIGN_KEYS: i16 = 3;

/// Everything that `CREATE INDEX` or a constraint would have to check for each row: how to build
/// it, and how to get rid of it. What cannot be built again exactly as it is stays in place: an
/// index with a comment, a place or statistics of its own, one that orders or identifies its table,
/// or one that is not valid.
const DEFINITIONS: &str = "\
     WITH tables AS (SELECT c.oid, c.relname::text AS name FROM pg_catalog.pg_class c \
         WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1) \
         AND c.relname = ANY($2)), \
     indexes AS (SELECT t.oid AS table_oid, t.name AS table_name, x.oid, x.relname::text AS name, \
         n.nspname, k.conname, k.contype, k.condeferrable, k.condeferred \
         FROM tables t \
         JOIN pg_catalog.pg_index i ON i.indrelid = t.oid \
         JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace \
         LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = x.oid AND k.conrelid = t.oid \
             AND k.contype IN ('p', 'u', 'x') \
         WHERE i.indisvalid AND NOT i.indisclustered AND NOT i.indisreplident \
         AND NOT i.indisexclusion AND x.reltablespace = 0 \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_description d WHERE d.objoid IN (x.oid, k.oid)) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
             WHERE d.objid IN (x.oid, k.oid) AND d.deptype IN ('e', 'x')) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = x.oid AND a.attstattarget >= 0)) \
     SELECT 3::smallint, k.conrelid::regclass::text, k.conname::text, \
         format('ALTER TABLE %s ADD CONSTRAINT %I %s', k.conrelid::regclass, k.conname, \
             pg_catalog.pg_get_constraintdef(k.oid)), \
         format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname) \
         FROM pg_catalog.pg_constraint k \
         WHERE k.contype = 'f' AND k.conparentid = 0 \
         AND (k.conrelid IN (SELECT oid FROM tables) OR k.confrelid IN (SELECT oid FROM tables)) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_description d WHERE d.objoid = k.oid) \
     UNION ALL \
     SELECT 2::smallint, table_oid::regclass::text, name, \
         format('ALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %I%s%s', table_oid::regclass, \
             conname, CASE contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, name, \
             CASE WHEN condeferrable THEN ' DEFERRABLE' END, \
             CASE WHEN condeferred THEN ' INITIALLY DEFERRED' END), \
         format('ALTER TABLE %s DROP CONSTRAINT %I', table_oid::regclass, conname) \
         FROM indexes WHERE contype IS NOT NULL \
     UNION ALL \
     SELECT 1::smallint, table_oid::regclass::text, name, pg_catalog.pg_get_indexdef(oid), \
         CASE WHEN contype IS NULL THEN format('DROP INDEX %I.%I', nspname, name) ELSE '' END \
         FROM indexes \
     ORDER BY 1 DESC, 2, 3";

/// Foreign keys that are still there: one of them makes a table impossible to load bare.
const LEFT: &str = "SELECT count(*) FROM pg_catalog.pg_constraint k \
     JOIN pg_catalog.pg_class c ON c.oid IN (k.conrelid, k.confrelid) \
     WHERE k.contype = 'f' AND c.relname = ANY($2) \
     AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1)";

/// The list of a database: what its tables lack for now.
pub struct Deferred<'a> {
    pub connector: &'a Connector,
    /// Where tables of a name without schema are; not quoted.
    pub schema: &'a str,
}

struct Definition {
    step: i16,
    table: String,
    name: String,
    create: String,
}

impl Deferred<'_> {
    /// Writes down what the tables `names` have besides columns and drops it. `false`, and nothing
    /// has changed, if the database does not let us.
    pub async fn defer(&self, client: &Client, names: &[&str]) -> Result<bool, MetadataError> {
        client
            .batch_execute(&format!("BEGIN; SET LOCAL search_path = ''; {SOON}"))
            .await
            .map_err(|error| self.failure("prepare its tables", &error))?;
        let outcome = self.try_defer(client, names).await;
        let end = match outcome {
            Ok(true) => "COMMIT",
            _ => "ROLLBACK",
        };
        let ended = client.batch_execute(end).await;
        match outcome {
            Ok(done) => ended
                .map(|()| done)
                .map_err(|error| self.failure("prepare its tables", &error)),
            Err(error) if is_not_allowed(&error) => Ok(false),
            Err(error) => Err(self.failure("prepare its tables", &error)),
        }
    }

    async fn try_defer(
        &self,
        client: &Client,
        names: &[&str],
    ) -> Result<bool, tokio_postgres::Error> {
        client.batch_execute(&self.sql(CREATE)).await?;
        let insert = self.sql(
            "INSERT INTO $SCHEMA.plikd_migrate_deferred (step, table_name, name, definition) \
             VALUES ($1, $2, $3, $4)",
        );
        for row in client.query(DEFINITIONS, &[&self.schema, &names]).await? {
            let (step, table, name): (i16, String, String) = (row.get(0), row.get(1), row.get(2));
            let (create, drop): (String, String) = (row.get(3), row.get(4));
            client
                .execute(&insert, &[&step, &table, &name, &create])
                .await?;
            // An index of a constraint goes with it.
            if !drop.is_empty() {
                client.batch_execute(&drop).await?;
            }
        }
        let left: i64 = client
            .query_one(LEFT, &[&self.schema, &names])
            .await?
            .get(0);
        Ok(left == 0)
    }

    /// Builds what is on the list for these `steps`, `tell`ing after each how far it is.
    ///
    /// # Errors
    ///
    /// [`FreshError::Refused`] if the rows do not allow it.
    pub async fn build(
        &self,
        client: &Client,
        steps: &[i16],
        tell: &(dyn Fn(Built) + Sync),
    ) -> Result<(), FreshError> {
        let mut all = self.list(client).await?;
        all.retain(|definition| steps.contains(&definition.step));
        if all.is_empty() {
            return Ok(());
        }
        let builders = all.len().min(BUILDERS);
        let builders = try_join_all((0..builders).map(|_| self.builder())).await?;
        let done = AtomicUsize::new(0);
        tell(Built {
            done: 0,
            all: all.len(),
        });
        for step in steps {
            let work = all.iter().filter(|definition| definition.step == *step);
            let work = Mutex::new(work);
            let next = || work.lock().ok().and_then(|mut work| work.next());
            let building: FuturesUnordered<_> = builders
                .iter()
                .map(|builder| async {
                    while let Some(definition) = next() {
                        self.build_one(builder, definition).await?;
                        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                        tell(Built {
                            done,
                            all: all.len(),
                        });
                    }
                    Ok::<(), FreshError>(())
                })
                .collect();
            building.try_collect::<()>().await?;
        }
        Ok(())
    }

    /// A connection that builds.
    async fn builder(&self) -> Result<Client, MetadataError> {
        let client = self.connector.connect().await?;
        client
            .batch_execute(SESSION)
            .await
            .map_err(|error| self.failure("open it", &error))?;
        Ok(client)
    }

    async fn build_one(&self, client: &Client, definition: &Definition) -> Result<(), FreshError> {
        let outcome = self.try_build(client, definition).await;
        let Err(error) = outcome else {
            return Ok(());
        };
        let action = format!("build {} of {}", definition.name, definition.table);
        match is_about_a_row(&error) {
            true => Err(FreshError::Refused(super::explain(&error))),
            false => Err(self.failure(&action, &error).into()),
        }
    }

    async fn try_build(
        &self,
        client: &Client,
        definition: &Definition,
    ) -> Result<(), tokio_postgres::Error> {
        let strike = self.sql(
            "DELETE FROM $SCHEMA.plikd_migrate_deferred \
             WHERE step = $1 AND table_name = $2 AND name = $3",
        );
        let key: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&definition.step, &definition.table, &definition.name];
        client.batch_execute("BEGIN").await?;
        // First, because the connection of a run that was killed may still be at it: this waits
        // until it is through, and then finds the definition struck out.
        let outcome = match client.execute(&strike, &key).await {
            Ok(0) => Ok(()),
            Ok(_) => client.batch_execute(&definition.create).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => client.batch_execute("COMMIT").await,
            Err(error) => {
                // The first error is the one to report.
                let _ = client.batch_execute("ROLLBACK").await;
                Err(error)
            }
        }
    }

    /// What is to be built, in the order in which it should be: what takes longest first.
    async fn list(&self, client: &Client) -> Result<Vec<Definition>, MetadataError> {
        let failed = |error| self.failure("read what its tables lack", &error);
        let exists = client.query_one(EXISTS, &[&self.schema]).await;
        if exists.map_err(failed)?.get::<_, i64>(0) == 0 {
            return Ok(Vec::new());
        }
        let sql = self.sql(
            "SELECT step, table_name, name, definition FROM $SCHEMA.plikd_migrate_deferred \
             ORDER BY step, pg_catalog.pg_relation_size(to_regclass(table_name)) DESC, name",
        );
        let rows = client.query(&sql, &[]).await.map_err(failed)?;
        Ok(rows
            .iter()
            .map(|row| Definition {
                step: row.get(0),
                table: row.get(1),
                name: row.get(2),
                create: row.get(3),
            })
            .collect())
    }

    /// `sql` with the name of the schema in place of `$SCHEMA`.
    fn sql(&self, sql: &str) -> String {
        sql.replace("$SCHEMA", &crate::metadata::layout::quote(self.schema))
    }

    fn failure(&self, action: &str, error: &tokio_postgres::Error) -> MetadataError {
        let backend = &self.connector.to_string();
        failure(During { action, backend }, error)
    }
}

/// Whether the database is one in which tables cannot be taken apart: they belong to somebody else
/// or something depends on their keys.
fn is_not_allowed(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            SqlState::FEATURE_NOT_SUPPORTED,
            SqlState::WRONG_OBJECT_TYPE,
        ]
        .contains(code)
    })
}
