//! What runs the statements: one of two engines, behind the same two calls.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::dialect::Dialect;
use super::value::{Row, Value};
use super::{MetadataError, postgres, sqlite};

/// One step of a write.
#[derive(Clone, Debug)]
pub struct Statement {
    pub(super) sql: Cow<'static, str>,
    pub(super) params: Vec<Value>,
    pub(super) expect: Expect,
    /// A query whose rows are locked until the write ends.
    pub(super) lock: bool,
}

/// How many rows a statement of a write must change, or a lock must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Any,
    AtLeastOne,
    None,
}

impl Expect {
    pub(super) fn is_met_by(self, rows: u64) -> bool {
        match self {
            Self::Any => true,
            Self::AtLeastOne => rows > 0,
            Self::None => rows == 0,
        }
    }
}

impl Statement {
    /// A statement that may change any number of rows. Parameters are `$1`, `$2`, …
    pub fn new(sql: impl Into<Cow<'static, str>>, params: impl Into<Vec<Value>>) -> Self {
        Self {
            sql: sql.into(),
            params: params.into(),
            expect: Expect::Any,
            lock: false,
        }
    }

    /// A query whose rows nobody else may change before this write ends. SQLite has one writer
    /// at a time, so there it only counts the rows.
    pub fn lock(sql: impl Into<Cow<'static, str>>, params: impl Into<Vec<Value>>) -> Self {
        Self {
            lock: true,
            ..Self::new(sql, params)
        }
    }

    /// Makes the whole write depend on this statement.
    pub fn expecting(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }
}

/// How a write ended when nothing failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Committed: the rows that each statement changed.
    Done(Vec<u64>),
    /// Rolled back: this statement did not meet its expectation, so nothing has changed.
    Refused { statement: usize, rows: u64 },
}

impl Written {
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// The rows that the statement of that index changed; 0 if the write was refused.
    pub fn rows(&self, statement: usize) -> u64 {
        match self {
            Self::Done(rows) => rows.get(statement).copied().unwrap_or(0),
            Self::Refused { .. } => 0,
        }
    }
}

pub(super) enum Backend {
    Sqlite(sqlite::Database),
    Postgres(postgres::Database),
}

/// A backend and what is logged about its statements.
pub(super) struct Engine {
    pub backend: Backend,
    pub log: StatementLog,
}

impl Engine {
    pub fn dialect(&self) -> Dialect {
        match self.backend {
            Backend::Sqlite(_) => Dialect::Sqlite,
            Backend::Postgres(_) => Dialect::Postgres,
        }
    }

    /// The rows of one query, all of them: a query that can return many carries a `LIMIT`.
    /// `action` completes the sentence "the backend failed to …".
    pub async fn query(
        &self,
        action: &'static str,
        sql: impl Into<Cow<'static, str>>,
        params: impl Into<Vec<Value>>,
    ) -> Result<Vec<Row>, MetadataError> {
        let statement = Statement::new(sql, params);
        let (started, text) = (Instant::now(), statement.sql.clone());
        let rows = match &self.backend {
            Backend::Sqlite(database) => database.query(action, statement).await,
            Backend::Postgres(database) => database.query(action, &statement).await,
        };
        self.log.finished(action, &text, started.elapsed());
        rows
    }

    /// Runs the statements as one transaction, which is durable when this returns `Done`. A
    /// dropped future leaves all of it or nothing.
    pub async fn write(
        &self,
        action: &'static str,
        statements: Vec<Statement>,
    ) -> Result<Written, MetadataError> {
        let (started, text) = (Instant::now(), self.log.describe(&statements));
        let written = match &self.backend {
            Backend::Sqlite(database) => database.write(action, statements).await,
            Backend::Postgres(database) => database.write(action, &statements).await,
        };
        self.log.finished(action, &text, started.elapsed());
        written
    }
}

/// `Debug` and `SlowQueryThreshold` of `[MetadataBackendConfig]`. Parameters are never logged:
/// they hold tokens and hashes.
pub(super) struct StatementLog {
    pub debug: bool,
    pub slow: Duration,
}

impl StatementLog {
    fn describe(&self, statements: &[Statement]) -> String {
        let texts: Vec<&str> = statements.iter().map(|one| one.sql.as_ref()).collect();
        texts.join("; ")
    }

    fn finished(&self, action: &str, sql: &str, elapsed: Duration) {
        if elapsed >= self.slow && !self.slow.is_zero() {
            tracing::warn!(?elapsed, sql, "Slow query: {action} took {elapsed:?}");
        } else if self.debug {
            tracing::info!(?elapsed, sql, "Query: {action}");
        }
    }
}
