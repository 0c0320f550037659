//! The SQLite engine: one writer thread that commits what is waiting as one transaction, and a
//! pool of readers.

mod commit;
pub(super) mod encode;
mod fields;
pub(super) mod fresh;
mod functions;
mod journal;
mod layouts;
pub(super) mod loading;
mod location;
pub(super) mod reader;
mod readers;
mod rows;
pub(super) mod writer;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::engine::{Statement, Written};
use super::error::During;
use super::schema::{FoundColumn, State};
use super::value::{Row, Value};
use super::{MetadataError, OpenMode, dialect::Dialect, schema};
use crate::model::time;
use commit::Writer;
use journal::{has_log, may_be_in_a_transaction};
pub use location::Location;
use readers::Readers;

/// Statements kept prepared per connection; the repository has fewer.
const CACHED_STATEMENTS: usize = 128;
/// Readers at once, unless `MaxOpenConns` says otherwise.
const DEFAULT_READERS: usize = 8;

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Creates the file if it is missing.
    ReadWrite,
    /// Writes nothing to the database, works on one that a server is using and on one that this
    /// user cannot write, and leaves no `-wal` or `-shm` file that was not there.
    ReadOnly,
}

/// Opens one connection, with the pragmas and SQL functions that the statements of this program
/// rely on: durable commits, no enforcement of foreign keys (real databases hold dangling rows),
/// `instant(x)` (microseconds since 1970, or NULL) and `moment(x)` (sorts as the instants do).
///
/// # Errors
///
/// [`MetadataError::NotInitialised`] if there is no file to read, [`MetadataError::CutOff`] if only
/// writing to it would make it readable, [`MetadataError::Config`] if the directory of a file to
/// write is missing.
pub fn connect(location: &Location, access: Access) -> Result<Connection, MetadataError> {
    let label = location.to_string();
    let during = During {
        action: "open the file",
        backend: &label,
    };
    let connection = match access {
        Access::ReadWrite => open_to_write(location),
        Access::ReadOnly => open_to_read(location),
    }?;
    prepare(&connection, location.busy_timeout)
        .map_err(|error| failure(during, &error))
        .map(|()| connection)
}

/// Lets SQLite take back the transaction in which the last program to write the file died, if one
/// did. What keeps it from that is what will keep the file from being opened, with the reason.
pub fn recover(location: &Location) {
    if location.file.exists()
        && may_be_in_a_transaction(&location.file)
        && let Err(error) = connect(location, Access::ReadWrite)
    {
        tracing::debug!("cannot recover {location}: {error}");
    }
}

fn open_to_write(location: &Location) -> Result<Connection, MetadataError> {
    check_to_write(location)?;
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, location.may_create);
    if location.may_create
        && let Err(error) = create_private(&location.file)
    {
        // SQLite meets the same, and says it with its own words.
        tracing::debug!("cannot create {location}: {error}");
    }
    open_checked(location, flags)
}

/// An empty file that only its owner may read, unless there is one: it will hold password hashes
/// and tokens. SQLite gives what it puts beside the file the same permissions.
fn create_private(path: &Path) -> io::Result<()> {
    // An existing file is not even opened: closing it would drop the locks that others of this
    // process have on it.
    let created = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map(drop),
    }
}

/// The directory in which the database may be written, or will be created.
///
/// # Errors
///
/// [`MetadataError::Config`] if the location is one to read only, or there is no such directory.
pub(super) fn check_to_write(location: &Location) -> Result<PathBuf, MetadataError> {
    let label = location.to_string();
    if location.read_only {
        return Err(MetadataError::Config(format!(
            "ConnectionString says mode=ro, but {label} must be written"
        )));
    }
    let directory = match location.file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !directory.is_dir() {
        return Err(MetadataError::Config(format!(
            "the directory {} for {label} does not exist: create it, or correct ConnectionString",
            directory.display()
        )));
    }
    Ok(directory.to_owned())
}

/// The way of reading that leaves no traces depends on what lies beside the file.
fn open_to_read(location: &Location) -> Result<Connection, MetadataError> {
    if !location.file.exists() {
        return Err(MetadataError::NotInitialised {
            backend: location.to_string(),
        });
    }
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // A server is running, or has died: its log must be read too, and stays; a transaction that it
    // has not ended must not be seen, and is not ours to roll back.
    if may_be_in_a_transaction(&location.file) || has_log(&location.file) {
        return open_checked(location, read_only);
    }
    match open_closed(location)? {
        Some(connection) => Ok(connection),
        None => open_checked(location, read_only),
    }
}

/// Opens a database that nobody has open. `None` if it has no write-ahead log, so that it can be
/// read like any file.
fn open_closed(location: &Location) -> Result<Option<Connection>, MetadataError> {
    // Reading a cleanly closed WAL database creates a log, which only a connection that may
    // write removes again when it closes.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open_checked(location, flags)
        .and_then(|connection| {
            query_only(&connection)
                .map_err(|error| failure(opening(&location.to_string()), &error))
                .map(|has_log| has_log.then_some(connection))
        })
        .or_else(|error| match error {
            MetadataError::Unreachable { .. } | MetadataError::Denied { .. } => {
                open_immutable(location).map(Some).map_err(|_| error)
            }
            _ => Err(error),
        })
}

/// Keeps the connection from writing rows, and tells whether it works with a write-ahead log.
fn query_only(connection: &Connection) -> rusqlite::Result<bool> {
    connection.pragma_update(None, "query_only", true)?;
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    Ok(mode == "wal")
}

/// For a database in a directory that cannot be written: SQLite may take no locks there. Nobody
/// else writes to it either, as the missing log shows.
fn open_immutable(location: &Location) -> Result<Connection, MetadataError> {
    let path = std::path::absolute(&location.file).unwrap_or_else(|_| location.file.clone());
    let encoded = percent_encoding::percent_encode(
        path.as_os_str().as_encoded_bytes(),
        percent_encoding::NON_ALPHANUMERIC,
    );
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let uri = format!("file:{encoded}?immutable=1");
    Connection::open_with_flags(uri, flags)
        .and_then(|connection| first_read(&connection).map(|()| connection))
        .map_err(|error| failure(opening(&location.to_string()), &error))
}

fn open_checked(location: &Location, flags: OpenFlags) -> Result<Connection, MetadataError> {
    Connection::open_with_flags(&location.file, flags)
        .and_then(|connection| {
            connection.busy_timeout(location.busy_timeout)?;
            first_read(&connection).map(|()| connection)
        })
        .map_err(|error| failure(opening(&location.to_string()), &error))
}

/// Opening alone reads nothing, so it succeeds on files that are no database.
fn first_read(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("SELECT COUNT(*) FROM sqlite_schema", (), |_| Ok(()))
}

fn opening(label: &str) -> During<'_> {
    During {
        action: "open the file",
        backend: label,
    }
}

fn prepare(connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    // FULL: an acknowledged commit survives a power failure, in WAL mode too.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", false)?;
    functions::register(connection)
}

/// The database as the repository uses it.
pub(super) struct Database {
    label: String,
    zone: TimeZone,
    readers: Readers,
    /// None if opened to read only.
    writer: Option<Writer>,
}

impl Database {
    /// Opens the database and, to serve, creates or upgrades its tables. Blocks.
    pub fn open(
        location: Location,
        mode: OpenMode,
        max_readers: usize,
        zone: TimeZone,
    ) -> Result<(Self, State), MetadataError> {
        let label = location.to_string();
        let (access, writer, state) = match mode {
            OpenMode::Serve | OpenMode::Load | OpenMode::LoadPart(_) => {
                let mut connection = connect(&location, Access::ReadWrite)?;
                switch_to_wal(&connection, &label, location.busy_timeout)?;
                create_or_upgrade(&mut connection, &label, &zone)?;
                let state = read_state(&connection, &label)?;
                let writer = Writer::start(connection, label.clone(), zone.clone())?;
                (Access::ReadWrite, Some(writer), state)
            }
            OpenMode::ReadOnly => {
                let connection = connect(&location, Access::ReadOnly)?;
                let state = read_state(&connection, &label)?;
                schema::check(Dialect::Sqlite, &label, &state)?;
                (Access::ReadOnly, None, state)
            }
        };
        let readers = match max_readers {
            0 => DEFAULT_READERS,
            readers => readers,
        };
        let database = Self {
            label,
            zone,
            readers: Readers::new(location, access, readers),
            writer,
        };
        Ok((database, state))
    }

    pub async fn query(
        &self,
        action: &'static str,
        statement: Statement,
    ) -> Result<Vec<Row>, MetadataError> {
        let (label, zone) = (self.label.clone(), self.zone.clone());
        self.readers
            .with(action, move |connection| {
                rows(connection, &statement, &zone).map_err(|error| {
                    let backend = &label;
                    failure(During { action, backend }, &error)
                })
            })
            .await
    }

    pub async fn write(
        &self,
        action: &'static str,
        statements: Vec<Statement>,
    ) -> Result<Written, MetadataError> {
        match &self.writer {
            Some(writer) => writer.write(action, statements).await,
            None => Err(During {
                action,
                backend: &self.label,
            }
            .denied("it was opened to read only")),
        }
    }

    /// Waits for the writes and reads in flight. The writer goes last: SQLite moves the log into
    /// the database when its last connection that may write closes.
    pub async fn close(&self) {
        self.readers.close().await;
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }
}

impl std::fmt::Display for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.label)
    }
}

/// Switching needs the database for itself for a moment, and SQLite does not wait for that.
fn switch_to_wal(
    connection: &Connection,
    label: &str,
    patience: Duration,
) -> Result<(), MetadataError> {
    let started = std::time::Instant::now();
    loop {
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            // Some network file systems cannot do it; the rollback journal is as durable.
            Ok(mode) if mode != "wal" => {
                tracing::warn!("{label} cannot use a write-ahead log, so readers block writers");
                return Ok(());
            }
            Ok(_) => return Ok(()),
            Err(error) if is_busy(&error) && started.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(failure(opening(label), &error)),
        }
    }
}

/// Brings the tables of a database to the shape of this program, step by step, each step in one
/// transaction that also records it. Of several programs that start at once each step is taken by
/// one.
///
/// # Errors
///
/// [`MetadataError::Layout`] if the tables are not those of Plik; nothing has changed then.
pub fn create_or_upgrade(
    connection: &mut Connection,
    label: &str,
    zone: &TimeZone,
) -> Result<(), MetadataError> {
    let during = During {
        action: "create or upgrade its tables",
        backend: label,
    };
    loop {
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(|error| failure(during, &error))?;
        let state = read_state(&transaction, label)?;
        let Some(step) = schema::next_step(Dialect::Sqlite, label, &state)? else {
            return Ok(());
        };
        tracing::warn!("{}", step.title);
        for statement in &step.statements {
            run(&transaction, statement, zone).map_err(|error| failure(during, &error))?;
        }
        transaction
            .commit()
            .map_err(|error| failure(during, &error))?;
    }
}

/// Reads which tables, columns, indexes and schema ids a database has.
pub fn read_state(connection: &Connection, label: &str) -> Result<State, MetadataError> {
    let during = During {
        action: "read its schema",
        backend: label,
    };
    try_read_state(connection).map_err(|error| failure(during, &error))
}

fn try_read_state(connection: &Connection) -> rusqlite::Result<State> {
    let mut state = State::default();
    let mut columns = connection.prepare(
        "SELECT s.name, c.name, c.type FROM sqlite_schema AS s, pragma_table_info(s.name) AS c \
         WHERE s.type = 'table' ORDER BY s.name, c.cid",
    )?;
    let mut rows = columns.query(())?;
    while let Some(row) = rows.next()? {
        state.add_column(
            row.get(0)?,
            FoundColumn {
                name: row.get(1)?,
                type_name: row.get(2)?,
            },
        );
    }
    let mut indexes = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'index'")?;
    let mut rows = indexes.query(())?;
    while let Some(row) = rows.next()? {
        state.names.insert(row.get(0)?);
    }
    if state.has_migrations() {
        state.ids = Some(applied_ids(connection)?);
    }
    Ok(state)
}

fn applied_ids(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut ids =
        connection.prepare("SELECT CAST(id AS text) FROM migrations WHERE id IS NOT NULL")?;
    let ids = ids.query_map((), |row| row.get(0))?;
    ids.collect()
}

/// Runs one statement, and returns the rows it changed or, for a query, returned.
fn run(connection: &Connection, statement: &Statement, zone: &TimeZone) -> rusqlite::Result<u64> {
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    bind(&mut prepared, &statement.params, zone)?;
    if prepared.column_count() == 0 {
        return Ok(prepared.raw_execute()? as u64);
    }
    let mut rows = prepared.raw_query();
    let mut count = 0;
    while rows.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn rows(
    connection: &Connection,
    statement: &Statement,
    zone: &TimeZone,
) -> rusqlite::Result<Vec<Row>> {
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    bind(&mut prepared, &statement.params, zone)?;
    let names: Arc<[String]> = prepared.column_names().map(str::to_owned).collect();
    let mut rows = prepared.raw_query();
    let mut result = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..names.len())
            .map(|column| row.get_ref(column).map(read))
            .collect::<rusqlite::Result<_>>()?;
        result.push(Row::new(Arc::clone(&names), values));
    }
    Ok(result)
}

/// SQLite numbers `$n` by order of appearance, so they are bound by name.
fn bind(
    statement: &mut rusqlite::Statement<'_>,
    params: &[Value],
    zone: &TimeZone,
) -> rusqlite::Result<()> {
    for (position, value) in params.iter().enumerate() {
        let name = format!("${}", position + 1);
        if let Some(index) = statement.parameter_index(&name)? {
            statement.raw_bind_parameter(index, Bound { value, zone })?;
        }
    }
    Ok(())
}

struct Bound<'a> {
    value: &'a Value,
    zone: &'a TimeZone,
}

impl rusqlite::ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.value {
            Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Value::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Value::Integer(number) => ToSqlOutput::Borrowed(ValueRef::Integer(*number)),
            Value::Boolean(boolean) => {
                ToSqlOutput::Borrowed(ValueRef::Integer(i64::from(*boolean)))
            }
            Value::Time(time) => ToSqlOutput::from(time::format(*time, self.zone)),
            Value::Day(day) => ToSqlOutput::from(format!("{day} 00:00:00+00:00")),
        })
    }
}

/// What a value of whatever storage class stands for. SQLite lets any value into any column:
/// bytes that are no UTF-8 are replaced, a whole number is a number however it is stored.
fn read(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => match number as i64 {
            whole if whole as f64 == number => Value::Integer(whole),
            _ => Value::Text(number.to_string()),
        },
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Value::Text(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// What an error of SQLite means. Its texts hold no values of rows.
fn failure(during: During<'_>, error: &rusqlite::Error) -> MetadataError {
    let source = error.to_string();
    let extended = error.sqlite_error().map(|error| error.extended_code);
    if extended == Some(ffi::SQLITE_READONLY_ROLLBACK) {
        let backend = during.backend.to_owned();
        return MetadataError::CutOff { backend };
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => during.busy(source),
        Some(
            ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::AuthorizationForStatementDenied,
        ) => during.denied(source),
        Some(ErrorCode::DiskFull) => during.full(source),
        Some(ErrorCode::CannotOpen) => during.unreachable(source),
        Some(ErrorCode::NotADatabase) => MetadataError::NoDatabase {
            backend: during.backend.to_owned(),
        },
        Some(ErrorCode::DatabaseCorrupt) => MetadataError::Damaged {
            backend: during.backend.to_owned(),
            source: source.into(),
        },
        _ => during.failed(source),
    }
}

#[cfg(test)]
mod tests;
