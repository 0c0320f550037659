//! Whether a migration could load into a database, found out without writing anything.

use std::io;
use std::num::NonZeroU32;
use std::path::Path;

use rustix::fs::{Access, access};
use tokio_postgres::Client;

use super::MetadataError;
use super::error::During;
use super::lock::Lock;
use super::postgres::{Connector, failure};
use super::sqlite::{self, Location};
use crate::config::{Driver, MetadataConfig};

/// # Errors
///
/// What [`Loader::open`](super::Loader::open), or with the number of a part
/// [`Loader::open_part`](super::Loader::open_part), would fail with: the database is in use, its
/// place cannot be written, this user may not create tables in it, or it cannot hold all text.
pub async fn probe(config: &MetadataConfig, part: Option<NonZeroU32>) -> Result<(), MetadataError> {
    match config.driver {
        Driver::Sqlite => {
            let location = Location::parse(config.connection_string.expose())?;
            probe_file(&location)?;
        }
        Driver::Postgres => {
            let connector = Connector::new(config)?;
            let client = connector.connect().await?;
            probe_postgres(&client, &connector.to_string()).await?;
        }
    }
    Lock::probe(config, part).await
}

/// Connections that PostgreSQL can still give to this user; `None` for SQLite.
pub async fn free_connections(config: &MetadataConfig) -> Result<Option<i64>, MetadataError> {
    const SQL: &str = "SELECT current_setting('max_connections')::bigint \
         - current_setting('superuser_reserved_connections')::bigint \
         - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";
    if config.driver == Driver::Sqlite {
        return Ok(None);
    }
    let connector = Connector::new(config)?;
    let label = connector.to_string();
    let client = connector.connect().await?;
    let row = client.query_one(SQL, &[]).await;
    row.and_then(|row| row.try_get(0))
        .map(Some)
        .map_err(|error| {
            let during = During {
                action: "count its connections",
                backend: &label,
            };
            failure(during, &error)
        })
}

fn probe_file(location: &Location) -> Result<(), MetadataError> {
    let label = location.to_string();
    let during = During {
        action: "be written",
        backend: &label,
    };
    let directory = sqlite::check_to_write(location)?;
    let may_write = |path: &Path, rights| {
        access(path, rights).map_err(|error| during.denied(io::Error::from(error)))
    };
    may_write(&directory, Access::WRITE_OK | Access::EXEC_OK)?;
    if location.file.exists() {
        may_write(&location.file, Access::READ_OK | Access::WRITE_OK)?;
    }
    Ok(())
}

/// Text in any other encoding than UTF-8 would be refused or garbled; temporary tables hold what
/// is on its way.
const RIGHTS: &str = "SELECT current_setting('server_encoding'), \
     current_setting('transaction_read_only')::boolean, \
     coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), \
     has_database_privilege(current_database(), 'TEMPORARY'), \
     (SELECT min(c.relname)::text FROM pg_class c WHERE c.relkind IN ('r', 'p') \
         AND c.relnamespace = to_regnamespace(quote_ident(current_schema())) \
         AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') \
         AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')))";

async fn probe_postgres(client: &Client, label: &str) -> Result<(), MetadataError> {
    let during = During {
        action: "be written",
        backend: label,
    };
    let failed = |error| failure(during, &error);
    let row = client.query_one(RIGHTS, &[]).await.map_err(failed)?;
    let encoding: String = row.try_get(0).map_err(failed)?;
    if encoding != "UTF8" {
        return Err(MetadataError::Config(format!(
            "{label} has the encoding {encoding}, which cannot hold every text: create the \
             database with the encoding UTF8"
        )));
    }
    if row.try_get(1).map_err(failed)? {
        return Err(during.denied("it is read-only"));
    }
    for (column, right) in [
        (2, "create tables in its schema"),
        (3, "create temporary tables"),
    ] {
        if !row.try_get::<_, bool>(column).map_err(failed)? {
            return Err(during.denied(format!("this user may not {right}")));
        }
    }
    match row.try_get::<_, Option<String>>(4).map_err(failed)? {
        Some(table) => Err(during.denied(format!("this user may not change table {table}"))),
        None => Ok(()),
    }
}
