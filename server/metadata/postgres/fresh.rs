//! Loads bare tables of a PostgreSQL database.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::{Client, CopyInSink};

use super::deferred::{Deferred, FOREIGN_KEYS, INDEXES, KEYS, STEPS};
use super::writer::{HEADER, PART_BYTES, SESSION, SOON, TRAILER, copy_sql, holds_tuples};
use super::{Connector, explain, failure, is_about_a_row, run};
use crate::metadata::MetadataError;
use crate::metadata::checkpoint::{Checkpoint, Tally, WHOLE};
use crate::metadata::divided::Part;
use crate::metadata::error::During;
use crate::metadata::fresh::{Built, FreshError};
use crate::metadata::layout::{Layout, quote};
use crate::metadata::tuple::Batch;

/// Bytes after which a COPY is ended and another begun, in the same transaction: a refusal is
/// learnt of only at the end of a COPY.
const COPY_BYTES: usize = 64 << 20;

/// Of the tables `$2` in the schema `$1`, those that do nothing by themselves when rows come or go,
/// and keep them in one place.
const PLAIN: &str = "SELECT c.relname::text FROM pg_catalog.pg_class c \
     WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1) \
     AND c.relname = ANY($2) AND c.relkind = 'r' AND NOT c.relispartition \
     AND NOT c.relhasrules AND NOT c.relrowsecurity AND NOT c.relhassubclass \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid) \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t \
         WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)";

/// One connection that copies, and what is to be done when it is through.
pub struct FreshLoad {
    client: Client,
    connector: Connector,
    schema: String,
    tables: HashSet<String>,
    table: Option<Table>,
    /// Others load other parts of the same tables.
    part: Option<Part>,
    /// What has arrived of the part before, by table.
    arrived: HashMap<String, Tally>,
}

/// The table that is being loaded.
struct Table {
    copy_sql: String,
    copy: Option<Pin<Box<CopyInSink<Bytes>>>>,
    /// Sent by the COPY that is open.
    bytes: usize,
}

impl FreshLoad {
    /// Takes apart those of `layouts`, all empty, that can be loaded bare. `None` if none can.
    pub async fn begin(
        connector: Connector,
        layouts: &[&Layout],
    ) -> Result<Option<Self>, MetadataError> {
        let (client, schema) = open(&connector).await?;
        let tables = defer(&connector, (&client, &schema), layouts).await?;
        Ok((!tables.is_empty()).then(|| Self {
            client,
            connector,
            schema,
            tables,
            table: None,
            part: None,
            arrived: HashMap::new(),
        }))
    }

    /// Goes on with one part of `tables`, which were taken apart for all of them.
    pub async fn join(
        connector: Connector,
        part: Part,
        tables: HashSet<String>,
        arrived: HashMap<String, Tally>,
    ) -> Result<Self, MetadataError> {
        let (client, schema) = open(&connector).await?;
        Ok(Self {
            client,
            connector,
            schema,
            tables,
            table: None,
            part: Some(part),
            arrived,
        })
    }

    pub fn takes(&self, layout: &Layout) -> bool {
        self.tables.contains(&layout.name) && !self.arrived.contains_key(&layout.name)
    }

    pub fn arrived(&self, layout: &Layout) -> Option<Tally> {
        self.arrived.get(&layout.name).copied()
    }

    /// Rows that come into a table in the transaction that emptied it are frozen: nobody has to
    /// come back to them to mark them as seen. Those of a part come beside others.
    pub async fn begin_table(&mut self, layout: &Layout) -> Result<(), FreshError> {
        let name = format!("{}.{}", quote(&self.schema), quote(&layout.name));
        let options = match &self.part {
            None => {
                let empty = format!("BEGIN; {SOON}; TRUNCATE {name}");
                self.execute(&empty).await?;
                "FORMAT binary, FREEZE"
            }
            Some(part) => {
                self.execute("BEGIN").await?;
                self.claim(part, layout).await?;
                "FORMAT binary"
            }
        };
        self.table = Some(Table {
            copy_sql: copy_sql(&name, layout, options),
            copy: None,
            bytes: 0,
        });
        Ok(())
    }

    /// A run of the same part that was killed may have got through after all.
    async fn claim(&self, part: &Part, layout: &Layout) -> Result<(), FreshError> {
        let claimed = run(&self.client, &part.claim(&layout.name)).await;
        match claimed.map_err(|error| self.fault(&error))? {
            1 => Ok(()),
            _ => {
                self.execute("ROLLBACK").await?;
                let backend = &self.connector.to_string();
                let action = "write rows";
                let reason = "they have come meanwhile, by another run of this part";
                Err(During { action, backend }.busy(reason).into())
            }
        }
    }

    pub async fn write(&mut self, rows: Batch) -> Result<(), FreshError> {
        let Some(mut table) = self.table.take() else {
            return Err(self.out_of_order().into());
        };
        let sent = self.send(&mut table, rows).await;
        self.table = Some(table);
        sent
    }

    async fn send(&self, table: &mut Table, rows: Batch) -> Result<(), FreshError> {
        if table.copy.is_none() {
            let copy = self.client.copy_in(&table.copy_sql).await;
            let copy = copy.map_err(|error| self.fault(&error))?;
            table.copy = Some(Box::pin(copy));
            self.feed(table, Bytes::from_static(HEADER)).await?;
        }
        let mut rows = Bytes::from(rows.into_bytes());
        while !rows.is_empty() {
            let part = rows.split_to(rows.len().min(PART_BYTES));
            self.feed(table, part).await?;
        }
        if table.bytes >= COPY_BYTES {
            self.end_copy(table).await?;
        }
        Ok(())
    }

    async fn feed(&self, table: &mut Table, bytes: Bytes) -> Result<(), FreshError> {
        let Some(copy) = &mut table.copy else {
            return Err(self.out_of_order().into());
        };
        table.bytes += bytes.len();
        copy.send(bytes).await.map_err(|error| self.fault(&error))
    }

    async fn end_copy(&self, table: &mut Table) -> Result<(), FreshError> {
        if table.copy.is_none() {
            return Ok(());
        }
        self.feed(table, Bytes::from_static(TRAILER)).await?;
        table.bytes = 0;
        if let Some(mut copy) = table.copy.take() {
            let ended = copy.as_mut().finish().await;
            ended.map_err(|error| self.fault(&error))?;
        }
        Ok(())
    }

    pub async fn end_table(&mut self, checkpoint: &Checkpoint) -> Result<(), FreshError> {
        let Some(mut table) = self.table.take() else {
            return Err(self.out_of_order().into());
        };
        self.end_copy(&mut table).await?;
        let statement = match &self.part {
            None => checkpoint.statement(),
            Some(part) => part.arrived(&checkpoint.table, checkpoint.tally),
        };
        run(&self.client, &statement)
            .await
            .map_err(|error| self.fault(&error))?;
        self.execute("COMMIT").await
    }

    pub async fn build(&mut self, tell: &(dyn Fn(Built) + Sync)) -> Result<(), FreshError> {
        let deferred = self.deferred();
        deferred.build(&self.client, &[INDEXES, KEYS], tell).await
    }

    pub async fn relate(&mut self, tell: &(dyn Fn(Built) + Sync)) -> Result<(), FreshError> {
        let deferred = self.deferred();
        deferred.build(&self.client, &[FOREIGN_KEYS], tell).await
    }

    pub async fn abandon(mut self) -> Result<(), MetadataError> {
        // Dropped, a COPY that is open is cancelled.
        self.table = None;
        let ended = self.client.batch_execute("ROLLBACK").await;
        ended.map_err(|error| failed(&self.connector, "undo the load", &error))?;
        empty(&self.deferred(), &self.client).await
    }

    fn deferred(&self) -> Deferred<'_> {
        Deferred {
            connector: &self.connector,
            schema: &self.schema,
        }
    }

    async fn execute(&self, sql: &str) -> Result<(), FreshError> {
        let done = self.client.batch_execute(sql).await;
        done.map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &tokio_postgres::Error) -> FreshError {
        match is_about_a_row(error) {
            true => FreshError::Refused(explain(error)),
            false => failed(&self.connector, "write rows", error).into(),
        }
    }

    /// Rows for no table: a mistake of the caller.
    fn out_of_order(&self) -> MetadataError {
        let backend = &self.connector.to_string();
        let action = "write rows";
        During { action, backend }.failed("no table was begun")
    }
}

/// Takes apart those of `layouts`, all empty, that can be loaded bare, and gives their names.
pub async fn take_apart(
    connector: &Connector,
    layouts: &[&Layout],
) -> Result<HashSet<String>, MetadataError> {
    let (client, schema) = open(connector).await?;
    defer(connector, (&client, &schema), layouts).await
}

async fn defer(
    connector: &Connector,
    (client, schema): (&Client, &str),
    layouts: &[&Layout],
) -> Result<HashSet<String>, MetadataError> {
    let candidates = layouts
        .iter()
        .filter(|layout| layout.columns.iter().all(holds_tuples));
    let names: Vec<&str> = candidates.map(|layout| layout.name.as_str()).collect();
    let plain = client.query(PLAIN, &[&schema, &names]).await;
    let plain = plain.map_err(|error| failed(connector, "look at its tables", &error))?;
    let tables: HashSet<String> = plain.iter().map(|row| row.get(0)).collect();
    let names: Vec<&str> = tables.iter().map(String::as_str).collect();
    let deferred = Deferred { connector, schema };
    match names.is_empty() || deferred.defer(client, &names).await? {
        true => Ok(tables),
        false => Ok(HashSet::new()),
    }
}

/// Gives tables of a load that was cut off, or came in parts, what they lack. Those that were
/// loaded keep their rows, unless these do not allow it: then all are empty again.
pub async fn restore(
    connector: &Connector,
    tell: &(dyn Fn(Built) + Sync),
) -> Result<(), MetadataError> {
    let (client, schema) = open(connector).await?;
    let deferred = Deferred {
        connector,
        schema: &schema,
    };
    match deferred.build(&client, &STEPS, tell).await {
        Ok(()) => Ok(()),
        Err(FreshError::Refused(reason)) => {
            tracing::info!("{connector}: an earlier load is undone: {reason}");
            empty(&deferred, &client).await
        }
        Err(FreshError::Failed(error)) => Err(error),
    }
}

/// Empties every table that a fresh load has filled, and builds what they lack.
async fn empty(deferred: &Deferred<'_>, client: &Client) -> Result<(), MetadataError> {
    let failed = |error| failed(deferred.connector, "undo the load", &error);
    let sql = "SELECT table_name FROM plikd_migrate_checkpoints WHERE last_key = $1 \
         UNION SELECT table_name FROM plikd_migrate_shards";
    let loaded = client.query(sql, &[&WHOLE]).await.map_err(failed)?;
    let loaded: Vec<String> = loaded
        .iter()
        .map(|row| format!("{}.{}", quote(deferred.schema), quote(row.get(0))))
        .collect();
    if !loaded.is_empty() {
        let undo = format!(
            "BEGIN; {SOON}; TRUNCATE {}; DELETE FROM plikd_migrate_checkpoints WHERE last_key = '{WHOLE}'; \
             DELETE FROM plikd_migrate_shards; COMMIT",
            loaded.join(", ")
        );
        client.batch_execute(&undo).await.map_err(failed)?;
    }
    match deferred.build(client, &STEPS, &|_| ()).await {
        Ok(()) => Ok(()),
        Err(FreshError::Failed(error)) => Err(error),
        Err(FreshError::Refused(reason)) => {
            let backend = &deferred.connector.to_string();
            let action = "give its tables their keys";
            Err(During { action, backend }.failed(reason))
        }
    }
}

/// A connection, and the schema in which it finds its tables.
async fn open(connector: &Connector) -> Result<(Client, String), MetadataError> {
    let client = connector.connect().await?;
    let opened = async {
        client.batch_execute(SESSION).await?;
        let sql = "SELECT coalesce(current_schema(), '')::text";
        client.query_one(sql, &[]).await?.try_get(0)
    };
    let schema = opened
        .await
        .map_err(|error| failed(connector, "open it", &error))?;
    Ok((client, schema))
}

fn failed(connector: &Connector, action: &str, error: &tokio_postgres::Error) -> MetadataError {
    let backend = &connector.to_string();
    failure(During { action, backend }, error)
}
