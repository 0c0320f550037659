//! The PostgreSQL engine: a pool of connections that survives a restart of the server.

mod connect;
mod deferred;
pub(super) mod fresh;
pub(super) mod layouts;
pub(super) mod reader;
mod settings;
mod tls;
mod value;
pub(super) mod writer;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
};
use futures::FutureExt;
use futures::future::{OptionFuture, maybe_done};
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, GenericClient};

use connect::SILENT;

pub use connect::Connector;
pub use settings::Settings;

use super::dialect::Dialect;
use super::engine::{Statement, Written};
use super::error::During;
use super::hold::Hold;
use super::schema::{FoundColumn, State};
use super::value::{Row, Value};
use super::{MetadataError, OpenMode, schema};
use crate::config::MetadataConfig;

/// Connections at once, unless `MaxOpenConns` says otherwise.
const DEFAULT_CONNECTIONS: usize = 8;
/// How long a call waits for a connection while all are busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until it tries again while the server accepts no more connections.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a query is tried, or a transaction that the server gave up in favour of another. That
/// the server ended its connections may show twice: in one of the pool, and in a new one that is cut
/// because the lock was lost with the rest.
const ATTEMPTS: u32 = 5;
/// Of all advisory locks of a database, the one under which its tables change. Any number will
/// do that other programs are unlikely to have chosen.
const SCHEMA_LOCK: i64 = 0x706c_696b_6473_6368;

/// The database as the repository uses it.
pub(super) struct Database {
    label: String,
    pool: Pool,
    read_only: bool,
    hold: Option<Hold>,
}

impl Database {
    /// Opens the database under the lock that was taken and, to serve, creates or upgrades its tables.
    pub async fn open(
        config: &MetadataConfig,
        mode: OpenMode,
        hold: Option<Hold>,
    ) -> Result<(Self, State), MetadataError> {
        let connector = Connector::new(config)?.under(hold.clone());
        let connector = match mode {
            OpenMode::Serve => connector,
            OpenMode::Load | OpenMode::LoadPart(_) | OpenMode::ReadOnly => connector.steady(),
        };
        let label = connector.to_string();
        let mut client = connector.connect().await?;
        let state = match mode {
            OpenMode::Serve | OpenMode::Load | OpenMode::LoadPart(_) => {
                create_or_upgrade(&mut client, &label).await?;
                read_state(&client, &label).await?
            }
            OpenMode::ReadOnly => {
                let state = read_state(&client, &label).await?;
                schema::check(Dialect::Postgres, &label, &state)?;
                state
            }
        };
        let size = match config.max_open_conns {
            0 => DEFAULT_CONNECTIONS,
            size => size,
        };
        let database = Self {
            pool: pool(connector, size, &label)?,
            label,
            read_only: mode == OpenMode::ReadOnly,
            hold,
        };
        Ok((database, state))
    }

    /// Reads can be repeated, so one that loses its connection is.
    pub async fn query(
        &self,
        action: &'static str,
        statement: &Statement,
    ) -> Result<Vec<Row>, MetadataError> {
        let during = self.during(action);
        let mut attempt = 1;
        loop {
            let client = self.client(during).await?;
            let outcome = rows(&client, statement).await;
            drop(client);
            match outcome {
                Ok(rows) => return Ok(rows),
                Err(error) if attempt < ATTEMPTS && lost_connection(&error) => self.forget_idle(),
                Err(error) => return Err(failure(during, &error)),
            }
            attempt += 1;
        }
    }

    /// Runs the statements as one transaction. It is repeated if the server gave it up for
    /// another one, or if its connection was lost before it could have been committed.
    pub async fn write(
        &self,
        action: &'static str,
        statements: &[Statement],
    ) -> Result<Written, MetadataError> {
        let during = self.during(action);
        if self.read_only {
            return Err(during.denied("it was opened to read only"));
        }
        let mut attempt = 1;
        loop {
            let mut client = self.client(during).await?;
            let outcome = try_write(&mut client, statements).await;
            drop(client);
            let error = match outcome {
                Ok(written) => return Ok(written),
                Err(error) => error,
            };
            let may_repeat = attempt < ATTEMPTS;
            match error {
                WriteError::Undone(error) if may_repeat && lost_connection(&error) => {
                    self.forget_idle();
                }
                error if may_repeat && is_passing(error.cause()) => {}
                error => return Err(failure(during, error.cause())),
            }
            attempt += 1;
        }
    }

    /// Closes the pool: connections that work end with their work, later calls fail.
    pub fn close(&self) {
        self.pool.close();
    }

    async fn client(&self, during: During<'_>) -> Result<Object, MetadataError> {
        loop {
            if let Some(hold) = &self.hold {
                hold.ready(during).await?;
            }
            let lost = OptionFuture::from(self.hold.as_ref().map(Hold::lost));
            let client = patiently(is_crowded, || self.pool.get()).await;
            // It was cut, or is about to be: there is another once the lock is held again.
            if lost.now_or_never() == Some(Some(())) {
                continue;
            }
            return client.map_err(|error| match &error {
                PoolError::Backend(error) => failure(during, error),
                PoolError::Timeout(TimeoutType::Create) => during.unreachable(SILENT),
                PoolError::Timeout(_) => during.busy("all its connections are busy"),
                _ => during.failed(error.to_string()),
            });
        }
    }

    /// The next connection is a new one: where one is lost the idle ones are too.
    fn forget_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    fn during<'a>(&'a self, action: &'a str) -> During<'a> {
        During {
            action,
            backend: &self.label,
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// Tries until it works, fails for a reason that does not pass, or [`PATIENCE`] is over.
async fn patiently<T, E, F: Future<Output = Result<T, E>>>(
    passes: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Err(error) if passes(&error) && Instant::now() < deadline => sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

/// Whether the server has no connection left for one more; one of the pool's may become free.
fn is_crowded(error: &PoolError) -> bool {
    matches!(error, PoolError::Backend(error)
        if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS))
}

fn pool(connector: Connector, size: usize, label: &str) -> Result<Pool, MetadataError> {
    // A connection whose server went away says so itself, without a query before each use.
    let config = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let create_timeout = connector.patience();
    let manager = Manager::from_connect(connector.config().clone(), connector, config);
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(PATIENCE))
        .create_timeout(create_timeout)
        .build()
        .map_err(|error| {
            let during = During {
                action: "open a connection",
                backend: label,
            };
            during.failed(error)
        })
}

/// Brings the tables of a database to the shape of this program, step by step, each step in one
/// transaction that also records it. Of several programs that start at once each step is taken by
/// one.
///
/// # Errors
///
/// [`MetadataError::Layout`] if the tables are not those of Plik; nothing has changed then.
pub async fn create_or_upgrade(client: &mut Client, label: &str) -> Result<(), MetadataError> {
    let during = During {
        action: "create or upgrade its tables",
        backend: label,
    };
    let failed = |error: tokio_postgres::Error| failure(during, &error);
    loop {
        let transaction = client.transaction().await.map_err(failed)?;
        // Released with the transaction, so it works behind a pooler of transactions too.
        transaction
            .execute("SELECT pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK])
            .await
            .map_err(failed)?;
        let state = read_state(&transaction, label).await?;
        let Some(step) = schema::next_step(Dialect::Postgres, label, &state)? else {
            return Ok(());
        };
        tracing::warn!("{}", step.title);
        for statement in &step.statements {
            run(&transaction, statement).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
    }
}

/// Reads which tables, columns, indexes, constraints and schema ids a database has.
pub async fn read_state(client: &impl GenericClient, label: &str) -> Result<State, MetadataError> {
    let during = During {
        action: "read its schema",
        backend: label,
    };
    try_read_state(client)
        .await
        .map_err(|error| failure(during, &error))
}

async fn try_read_state(client: &impl GenericClient) -> Result<State, tokio_postgres::Error> {
    /// Tables that an unqualified name finds.
    const COLUMNS: &str = "SELECT c.relname::text, a.attname::text, \
             pg_catalog.format_type(a.atttypid, a.atttypmod) \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
         WHERE c.relkind IN ('r', 'p') AND pg_catalog.pg_table_is_visible(c.oid) \
           AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
           AND a.attnum > 0 AND NOT a.attisdropped \
         ORDER BY c.relname, a.attnum";
    const NAMES: &str = "SELECT c.relname::text FROM pg_catalog.pg_class c \
         WHERE c.relkind IN ('i', 'I') AND pg_catalog.pg_table_is_visible(c.oid) \
         UNION SELECT k.conname::text FROM pg_catalog.pg_constraint k \
         WHERE k.conrelid <> 0 AND pg_catalog.pg_table_is_visible(k.conrelid)";
    let mut state = State::default();
    for row in client.query(COLUMNS, &[]).await? {
        let column = FoundColumn {
            name: row.try_get(1)?,
            type_name: row.try_get(2)?,
        };
        state.add_column(row.try_get(0)?, column);
    }
    for row in client.query(NAMES, &[]).await? {
        state.names.insert(row.try_get(0)?);
    }
    if state.has_migrations() {
        let ids = "SELECT id::text FROM migrations WHERE id IS NOT NULL";
        let rows = client.query(ids, &[]).await?;
        let ids = rows.iter().map(|row| row.try_get(0));
        state.ids = Some(ids.collect::<Result<_, _>>()?);
    }
    Ok(state)
}

enum WriteError {
    /// Nothing of it can have been committed.
    Undone(tokio_postgres::Error),
    /// Whether it was committed is not known, unless the error says so.
    Unknown(tokio_postgres::Error),
}

impl WriteError {
    fn cause(&self) -> &tokio_postgres::Error {
        let (Self::Undone(error) | Self::Unknown(error)) = self;
        error
    }
}

async fn try_write(client: &mut Object, statements: &[Statement]) -> Result<Written, WriteError> {
    let transaction = client.transaction().await.map_err(WriteError::Undone)?;
    let written = pipeline(&transaction, statements)
        .await
        .map_err(WriteError::Undone)?;
    match written {
        Written::Done(_) => transaction.commit().await.map_err(WriteError::Unknown)?,
        Written::Refused { .. } => transaction.rollback().await.map_err(WriteError::Undone)?,
    }
    Ok(written)
}

/// Sends all statements before it waits for the first answer, so that a write takes the time of
/// three round trips however many statements it has, and holds its locks no longer. What runs
/// after a refusal or an error is rolled back with the rest; the first of them counts.
async fn pipeline(
    transaction: &deadpool_postgres::Transaction<'_>,
    statements: &[Statement],
) -> Result<Written, tokio_postgres::Error> {
    let mut answers = Vec::with_capacity(statements.len());
    for statement in statements {
        let sql = match statement.lock {
            true => Cow::Owned(format!("{} FOR UPDATE", statement.sql)),
            false => Cow::Borrowed(statement.sql.as_ref()),
        };
        let prepared = transaction.prepare_cached(&sql).await?;
        let answer = async move { transaction.execute(&prepared, &params(statement)).await };
        answers.push(Box::pin(maybe_done(answer)));
    }
    for answer in &mut answers {
        // The first poll sends the request: in this order, which a join would not promise.
        let _ = futures::poll!(answer.as_mut());
    }
    let mut done = Vec::with_capacity(statements.len());
    for (position, (mut answer, statement)) in answers.into_iter().zip(statements).enumerate() {
        answer.as_mut().await;
        let rows = answer.as_mut().take_output().transpose()?.unwrap_or(0);
        if !statement.expect.is_met_by(rows) {
            return Ok(Written::Refused {
                statement: position,
                rows,
            });
        }
        done.push(rows);
    }
    Ok(Written::Done(done))
}

/// Runs one statement that is not worth preparing.
async fn run(
    client: &impl GenericClient,
    statement: &Statement,
) -> Result<u64, tokio_postgres::Error> {
    let sql = statement.sql.as_ref();
    client.execute(sql, &params(statement)).await
}

async fn rows(client: &Object, statement: &Statement) -> Result<Vec<Row>, tokio_postgres::Error> {
    let prepared = client.prepare_cached(&statement.sql).await?;
    let names = prepared.columns().iter();
    let names: Arc<[String]> = names.map(|column| column.name().to_owned()).collect();
    let found = client.query(&prepared, &params(statement)).await?;
    let rows = found.iter().map(|row| {
        let values = (0..names.len()).map(|column| row.try_get(column));
        let values = values.collect::<Result<Vec<Value>, _>>()?;
        Ok(Row::new(Arc::clone(&names), values))
    });
    rows.collect()
}

fn params(statement: &Statement) -> Vec<&(dyn ToSql + Sync)> {
    let params = statement.params.iter();
    params.map(|value| value as &(dyn ToSql + Sync)).collect()
}

/// Whether the connection is gone, so that another one may work.
fn lost_connection(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => is_shutdown(code),
        None => error.is_closed() || is_io(error),
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

fn is_shutdown(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ]
    .contains(code)
}

/// Whether the server gave up a transaction in favour of another, so that it can be repeated.
fn is_passing(error: &tokio_postgres::Error) -> bool {
    let passing = [
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ];
    error.code().is_some_and(|code| passing.contains(code))
}

/// Whether the fault is in a row, so that others can still be written: classes "data exception"
/// and "integrity constraint violation", and keys too long for an index.
fn is_about_a_row(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        code.code().starts_with("22")
            || code.code().starts_with("23")
            || *code == SqlState::PROGRAM_LIMIT_EXCEEDED
    })
}

/// How the TLS library says that it refused a certificate.
const NOT_TRUSTED: &str = "invalid peer certificate";

/// What an error of PostgreSQL means.
pub(super) fn failure(during: During<'_>, error: &tokio_postgres::Error) -> MetadataError {
    let source = explain(error);
    let Some(code) = error.code() else {
        if source.contains("server does not support TLS") {
            let backend = during.backend.to_owned();
            return MetadataError::NoTls { backend };
        }
        if source.contains(NOT_TRUSTED) {
            return during.untrusted(source);
        }
        return match error.is_closed() || is_io(error) || never_connected(error) {
            true => during.unreachable(source),
            false => during.failed(source),
        };
    };
    if is_row_security(error) {
        return during.hidden(source);
    }
    answered(during, code.code(), source)
}

/// Whether a session that is to see every row was refused because it would not. The code is that of
/// any lacking privilege, and the text may be in any language.
fn is_row_security(error: &tokio_postgres::Error) -> bool {
    let error = error.as_db_error();
    error.and_then(|error| error.routine()) == Some("check_enable_rls")
}

/// What an SQLSTATE of the server means.
fn answered(during: During<'_>, code: &str, source: String) -> MetadataError {
    match code {
        // Wrong user or password, no such database any more or at all, no privilege.
        code if code.starts_with("28") => during.denied(source),
        "3D000" | "42501" | "57P04" => during.denied(source),
        // It starts, stops, or puts in order what a crash has left.
        "57P03" => during.starting(source),
        // Connection exceptions; the server has no connection left or ended ours.
        code if code.starts_with("08") || code.starts_with("57P") => during.unreachable(source),
        "53300" | "25P03" | "25P04" => during.unreachable(source),
        "25006" => during.standby(source),
        "53100" => during.full(source),
        // Another transaction or a time limit was in the way, or what was read is too old by now.
        "40001" | "40003" | "40P01" | "57014" | "72000" => during.busy(source),
        "55P03" => during.busy(format!(
            "another session keeps a lock that is needed (pg_locks tells which): {source}"
        )),
        _ => during.failed(source),
    }
}

/// Errors before there was a connection carry no kind that can be asked for.
fn never_connected(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    ["connecting to server", "TLS handshake", "timeout waiting"]
        .iter()
        .any(|start| text.contains(start))
}

/// The server's message and code, without the details: those quote the values of the row.
fn explain(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} ({})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{Driver, Secret};

    #[test]
    fn what_a_code_means_for_the_next_try() {
        let during = During {
            action: "write",
            backend: "postgres",
        };
        let transient = |code| answered(during, code, String::new()).is_transient();
        for code in [
            "57P01", "57P02", "57P03", "57P05", "08000", "08001", "08003", "08004", "08006",
            "08007", "08P01", "53300", "25006", "25P03", "25P04", "40001", "40003", "40P01",
            "55P03", "57014", "72000",
        ] {
            assert!(transient(code), "{code}");
        }
        for code in [
            "57P04", "28000", "28P01", "3D000", "42501", "42P01", "53100", "53200", "53400",
            "58030", "23505", "22021", "0A000", "XX000", "XX001",
        ] {
            assert!(!transient(code), "{code}");
        }
    }

    #[tokio::test]
    async fn a_server_without_tls_is_not_said_to_be_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 8];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(b"N").await.unwrap();
        });
        let config = MetadataConfig {
            driver: Driver::Postgres,
            connection_string: Secret::new(format!(
                "host=127.0.0.1 port={port} user=plik dbname=plik sslmode=require"
            )),
            debug: false,
            slow_query_threshold: Duration::ZERO,
            max_open_conns: 0,
            max_idle_conns: 0,
        };
        let connected = Connector::new(&config).unwrap().connect().await;
        let error = connected.err().unwrap();
        assert!(matches!(error, MetadataError::NoTls { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("sslmode=prefer"));
        server.await.unwrap();
    }

    #[tokio::test]
    async fn only_what_passes_is_waited_for() {
        let attempts = Cell::new(0);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            ready(match attempts.get() {
                1 | 2 => Err("crowded"),
                3 => Ok("connection"),
                _ => Err("broken"),
            })
        };
        let passes = |error: &&str| *error == "crowded";
        assert_eq!(patiently(passes, attempt).await, Ok("connection"));
        assert_eq!(patiently(passes, attempt).await, Err("broken"));
        assert_eq!(attempts.get(), 4);
    }
}
