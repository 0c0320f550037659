//! Reads whole tables of a SQLite database for a migration.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension};

use super::encode::stored;
use super::layouts::layouts;
use super::rows::read_rows;
use super::{Access, Location, connect, failure, read_state};
use crate::config::MetadataConfig;
use crate::metadata::MetadataError;
use crate::metadata::error::During;
use crate::metadata::layout::{Layout, quote};
use crate::metadata::request::{Order, Request, Rows};
use crate::metadata::rules::{Checks, Keys, Rules};
use crate::metadata::schema::State;
use crate::metadata::snapshot::{BLOB_TOTALS, Identity, LARGEST_BLOB};
use crate::metadata::stream::{Message, RowStream, Sender};
use crate::metadata::table::Kind;

/// Tries to find one moment with two connections while others write.
const TRIES: usize = 5;

/// Row-ids that one connection reads faster than two.
const FEW_ROWS: i64 = 20_000;

/// A SQLite database inside one read transaction.
pub struct Reader {
    connection: Arc<Mutex<Connection>>,
    /// Sees the same moment, and reads a half of what may come in any order.
    second: Option<Arc<Mutex<Connection>>>,
    identity: Identity,
    label: String,
    rules: Rules,
}

impl Reader {
    pub async fn open(config: &MetadataConfig) -> Result<Self, MetadataError> {
        let location = Location::parse(config.connection_string.expose())?;
        let label = location.to_string();
        blocking(&label.clone(), move || {
            let (connection, second) = open_pair(&location, &label)?;
            let identity = identity(&connection, &location)?;
            Ok(Self {
                connection: Arc::new(Mutex::new(connection)),
                second: second.map(|second| Arc::new(Mutex::new(second))),
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

    /// What `sql` selects from the schema, where every column is a text.
    pub async fn catalog(
        &self,
        sql: &'static str,
    ) -> Result<Vec<Vec<Option<String>>>, MetadataError> {
        self.with(|connection| {
            let mut statement = connection.prepare(sql)?;
            let columns = statement.column_count();
            let found =
                statement.query_map((), |row| (0..columns).map(|at| row.get(at)).collect())?;
            found.collect()
        })
        .await
    }

    pub async fn count(&self, table: &str) -> Result<u64, MetadataError> {
        let sql = format!("SELECT count(*) FROM {}", quote(table));
        let count = move |connection: &Connection| {
            connection.query_row(&sql, [], |row| row.get::<_, i64>(0))
        };
        Ok(self.with(count).await?.unsigned_abs())
    }

    /// Whether `sql` selects anything.
    pub async fn finds(&self, sql: String) -> Result<bool, MetadataError> {
        self.with(move |connection| connection.prepare(&sql)?.exists(()))
            .await
    }

    pub async fn blob_totals(&self) -> Result<(u64, u64), MetadataError> {
        self.with(|connection| {
            connection.query_row(BLOB_TOTALS, (), |row| {
                let (blobs, bytes): (i64, f64) = (row.get(0)?, row.get(1)?);
                Ok((blobs.unsigned_abs(), bytes as u64))
            })
        })
        .await
    }

    pub async fn largest_blob(&self) -> Result<u64, MetadataError> {
        let largest = |connection: &Connection| {
            connection.query_row(LARGEST_BLOB, (), |row| row.get::<_, f64>(0))
        };
        Ok(self.with(largest).await? as u64)
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
        let reading = Reading {
            connections: [Some(&self.connection), self.second.as_ref()]
                .into_iter()
                .flatten()
                .map(Arc::clone)
                .collect(),
            request,
            checks,
            label: self.label.clone(),
        };
        RowStream::new(&self.label, |batches| {
            tokio::spawn(async move {
                let outcome = reading.run(&batches).await;
                // A receiver that is gone has stopped listening on purpose.
                let last = outcome.map_or_else(Message::Failed, |()| Message::End);
                let _ = batches.send(last).await;
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

/// One table on its way.
struct Reading {
    connections: Vec<Arc<Mutex<Connection>>>,
    request: Request,
    checks: Checks,
    label: String,
}

impl Reading {
    async fn run(self, batches: &Sender) -> Result<(), MetadataError> {
        let reading = Arc::new(self);
        let parts = Arc::clone(&reading);
        let parts = blocking(&reading.label, move || Ok(parts.parts())).await?;
        let started: Vec<_> = parts
            .into_iter()
            .zip(&reading.connections)
            .map(|(rows, connection)| {
                let (reading, connection) = (Arc::clone(&reading), Arc::clone(connection));
                let batches = batches.clone();
                tokio::task::spawn_blocking(move || reading.read(&connection, rows, &batches))
            })
            .collect();
        let divided = started.len() > 1;
        let mut rows = Some(0);
        for part in started {
            let part = part
                .await
                .map_err(|error| reading.during().failed(error))??;
            rows = rows.zip(part).map(|(rows, part)| rows + part);
        }
        match rows {
            Some(rows) if divided => reading.are_all(rows).await,
            _ => Ok(()),
        }
    }

    /// Makes sure that the parts of the table were all of it.
    async fn are_all(self: Arc<Self>, read: u64) -> Result<(), MetadataError> {
        let label = self.label.clone();
        blocking(&label, move || {
            let table = &self.request.layout.name;
            let count = format!("SELECT count(*) FROM {}", quote(table));
            let rows: i64 = lock(&self.connections[0])
                .query_row(&count, (), |row| row.get(0))
                .map_err(|error| failure(self.during(), &error))?;
            match rows.unsigned_abs() == read {
                true => Ok(()),
                false => Err(self.during().failed(format!(
                    "{read} rows of table {table} were read and it has {rows}"
                ))),
            }
        })
        .await
    }

    fn read(
        &self,
        connection: &Mutex<Connection>,
        rows: Rows,
        batches: &Sender,
    ) -> Result<Option<u64>, MetadataError> {
        let request = Request {
            rows,
            ..self.request.clone()
        };
        read_rows(
            &lock(connection),
            &request,
            &self.checks,
            batches,
            &self.label,
        )
    }

    /// What each connection reads; the first one everything if it is not to be divided.
    fn parts(&self) -> Vec<Rows> {
        let Request { order, rows, .. } = &self.request;
        let halves = match (&self.connections[..], order, rows) {
            ([first, _], Order::Any, Rows::All) => halves(&lock(first), &self.request.layout),
            _ => None,
        };
        match halves {
            Some(halves) => halves.map(Rows::Numbered).into(),
            None => vec![rows.clone()],
        }
    }

    fn during(&self) -> During<'_> {
        During {
            action: "read it",
            backend: &self.label,
        }
    }
}

/// Two ranges of row-ids with about as many rows each. `None` if the table is small or has none.
fn halves(connection: &Connection, layout: &Layout) -> Option<[RangeInclusive<i64>; 2]> {
    // Such a column stands for itself, also if it is a generated one.
    let columns =
        "SELECT count(*) FROM pragma_table_xinfo(?1) WHERE name = '_rowid_' COLLATE NOCASE";
    let shadowed: i64 = connection
        .query_row(columns, [&layout.name], |row| row.get(0))
        .ok()?;
    if shadowed > 0 {
        return None;
    }
    let table = quote(&layout.name);
    let ends =
        format!("SELECT (SELECT min(_rowid_) FROM {table}), (SELECT max(_rowid_) FROM {table})");
    // A table without row-ids refuses that.
    let (first, last): (i64, i64) = connection
        .query_row(&ends, (), |row| Ok((row.get(0)?, row.get(1)?)))
        .ok()?;
    let half = last.checked_sub(first)? / 2;
    (half >= FEW_ROWS).then(|| [i64::MIN..=first + half, first + half + 1..=i64::MAX])
}

/// Two connections inside read transactions of one moment; one, if others write too often.
fn open_pair(
    location: &Location,
    label: &str,
) -> Result<(Connection, Option<Connection>), MetadataError> {
    let during = During {
        action: "start reading",
        backend: label,
    };
    let first = connect(location, Access::ReadOnly)?;
    let second = connect(location, Access::ReadOnly)?;
    for _ in 0..TRIES {
        if begin_both(&first, &second).map_err(|error| failure(during, &error))? {
            return Ok((first, Some(second)));
        }
    }
    begin(&first).map_err(|error| failure(during, &error))?;
    Ok((first, None))
}

/// Whether both have begun to read the same moment; else neither is in a transaction.
fn begin_both(first: &Connection, second: &Connection) -> rusqlite::Result<bool> {
    // Changes as soon as this connection sees what another one has committed since. The second one
    // begins in between, so if nothing has changed it sees the same.
    let version = || first.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0));
    let before = version()?;
    begin(second)?;
    begin(first)?;
    if version()? == before {
        return Ok(true);
    }
    first.execute_batch("ROLLBACK")?;
    second.execute_batch("ROLLBACK")?;
    Ok(false)
}

/// A deferred transaction takes its snapshot at the first read.
fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")
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

/// The file itself, however it is named: two paths to one file are one database. Another server's
/// file that takes its place may have its inode, but not the key that its server made up.
fn identity(connection: &Connection, location: &Location) -> Result<Identity, MetadataError> {
    use std::os::unix::fs::MetadataExt;
    let label = location.to_string();
    let found = std::fs::metadata(&location.file).map_err(|error| {
        During {
            action: "look at its file",
            backend: &label,
        }
        .failed(error)
    })?;
    let place = format!("sqlite:{}:{}", found.dev(), found.ino());
    let key = session_key(connection).map_err(|error| {
        let during = During {
            action: "read the key of its server",
            backend: &label,
        };
        failure(during, &error)
    })?;
    Ok(Identity::of_server(place, key.as_deref()))
}

/// `None` if no server has run on the database yet, or it is another program's. A database that
/// cannot be read now is no other one for that.
fn session_key(connection: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
    const SQL: &str = "SELECT CAST(value AS BLOB) FROM settings \
         WHERE key = 'authentication_signature_key'";
    if !connection.column_exists(None, "settings", "key")?
        || !connection.column_exists(None, "settings", "value")?
    {
        return Ok(None);
    }
    let key = connection.query_row(SQL, [], |row| row.get(0));
    key.optional().map(Option::flatten)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tempfile::TempDir;

    use super::super::switch_to_wal;
    use super::*;
    use crate::config::Driver;
    use crate::metadata::tuple::Encoding;

    struct Scene {
        directory: TempDir,
        real: Connection,
    }

    impl Scene {
        fn new(tables: &str) -> Self {
            let directory = TempDir::new().unwrap();
            let real = connect(&location(&directory), Access::ReadWrite).unwrap();
            switch_to_wal(&real, "it", Duration::from_secs(1)).unwrap();
            real.execute_batch(tables).unwrap();
            Self { directory, real }
        }

        fn fill(&self, table: &str, rows: i64) {
            let fill = format!(
                "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows}) \
                 INSERT INTO {table} SELECT 'key ' || n, n FROM n"
            );
            self.real.execute_batch(&fill).unwrap();
        }

        fn reader(&self) -> Reader {
            let location = location(&self.directory);
            let (connection, second) = open_pair(&location, "it").unwrap();
            let identity = identity(&connection, &location).unwrap();
            Reader {
                connection: Arc::new(Mutex::new(connection)),
                second: second.map(|second| Arc::new(Mutex::new(second))),
                identity,
                label: "it".to_owned(),
                rules: Rules::default(),
            }
        }
    }

    fn location(directory: &TempDir) -> Location {
        Location::parse(directory.path().join("plik.db").to_str().unwrap()).unwrap()
    }

    async fn keys(reader: &Reader, table: &str) -> Vec<Vec<u8>> {
        let layouts = reader.layouts().await.unwrap();
        let layout = layouts.into_iter().find(|layout| layout.name == table);
        let request = Request {
            layout: layout.unwrap().project(&["id"]),
            encoding: Encoding::Binary,
            to: Driver::Postgres,
            after: None,
            rows: Rows::All,
            order: Order::Any,
        };
        let checks = Rules::default().checks(&request.layout);
        let mut stream = reader.read(request, checks);
        let mut keys = Vec::new();
        while let Some(batch) = stream.next().await.unwrap() {
            assert!(batch.rejects.is_empty());
            let ids = batch.rows.iter().map(|row| row.field(0).unwrap().to_vec());
            keys.extend(ids);
        }
        keys
    }

    #[tokio::test]
    async fn every_row_is_read_once_by_one_of_two() {
        let tables = [
            "CREATE TABLE few (id text PRIMARY KEY, n integer)",
            "CREATE TABLE many (id text PRIMARY KEY, n integer)",
            "CREATE TABLE numberless (id text PRIMARY KEY, n integer) WITHOUT ROWID",
            "CREATE TABLE shadowed (id text PRIMARY KEY, _RowId_ integer)",
            "CREATE TABLE generated (id text PRIMARY KEY, n integer, \
             _ROWID_ integer GENERATED ALWAYS AS (n % 100))",
        ];
        let scene = Scene::new(&tables.join("; "));
        let rows = [
            ("few", 100),
            ("many", 50_000),
            ("numberless", 50_000),
            ("shadowed", 50_000),
            ("generated", 50_000),
        ];
        for (table, rows) in rows {
            scene.fill(table, rows);
        }
        scene
            .real
            .execute_batch("DELETE FROM many WHERE n % 3 = 0")
            .unwrap();
        let sparse = "UPDATE shadowed SET _RowId_ = NULL WHERE _RowId_ % 2 = 0";
        scene.real.execute(sparse, ()).unwrap();
        let reader = scene.reader();
        let layouts = reader.layouts().await.unwrap();
        let divided = layouts
            .iter()
            .filter(|layout| halves(&lock(&reader.connection), layout).is_some());
        let divided: Vec<&str> = divided.map(|layout| layout.name.as_str()).collect();
        assert_eq!(divided, ["many"]);
        for (table, rows) in rows {
            let keys = keys(&reader, table).await;
            let expected = if table == "many" {
                rows - rows / 3
            } else {
                rows
            };
            assert_eq!(keys.len() as i64, expected, "{table}");
            assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
        }
    }

    #[test]
    fn two_connections_see_one_moment_while_another_writes() {
        let scene = Scene::new("CREATE TABLE t (n integer)");
        let ended = AtomicBool::new(false);
        let count = |connection: &Connection| -> i64 {
            connection
                .query_row("SELECT count(*) FROM t", (), |row| row.get(0))
                .unwrap()
        };
        let location = location(&scene.directory);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let writer = connect(&location, Access::ReadWrite).unwrap();
                while !ended.load(Ordering::Relaxed) {
                    writer.execute("INSERT INTO t VALUES (1)", ()).unwrap();
                }
            });
            let (mut pairs, mut last) = (0, -1);
            while pairs < 50 {
                let (first, second) = open_pair(&location, "it").unwrap();
                if let Some(second) = second {
                    assert_eq!(count(&first), count(&second));
                    pairs += i32::from(count(&first) > last);
                    last = count(&first);
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn two_moments_are_told_from_one() {
        let scene = Scene::new("CREATE TABLE t (n integer)");
        let location = location(&scene.directory);
        let open = || connect(&location, Access::ReadOnly).unwrap();
        let (first, second) = (open(), open());
        assert!(begin_both(&first, &second).unwrap());
        scene.real.execute("INSERT INTO t VALUES (1)", ()).unwrap();
        // One that sees the change is not of the moment of the other.
        let version = |connection: &Connection| -> i64 {
            connection
                .pragma_query_value(None, "data_version", |row| row.get(0))
                .unwrap()
        };
        let before = version(&first);
        first.execute_batch("ROLLBACK").unwrap();
        begin(&first).unwrap();
        assert_ne!(version(&first), before);
    }
}
