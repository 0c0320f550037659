//! Schema versions: what a database has, what it should have, and the steps between.
//!
//! A version is an id in the table `migrations`, shared with Plik (Go). Nothing here runs a
//! statement: [`next_step`] says, from what a database has, which statements to run next as one
//! transaction, and the engines ask until there is none.

mod ddl;

use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
pub(super) use ddl::ddl_until;
pub use ddl::{ddl_foreign_keys, ddl_indexes, ddl_migrations, ddl_tables};

use super::dialect::Dialect;
use super::engine::Statement;
use super::table::{
    Column, Kind, TABLES, Table, V0001, V0002, V0003, V0004, V0005, V0006, V0007, V0008, V0009,
    V0010, V0011,
};
use super::value::Value;
use super::{MetadataError, maintenance, stats};

/// Says that the tables were created at once, not grown from an older version.
pub const SCHEMA_INIT: &str = "SCHEMA_INIT";

/// Every id that this program writes, in the order of the versions.
pub const KNOWN_IDS: &[&str] = &[
    SCHEMA_INIT,
    V0001,
    V0002,
    V0003,
    V0004,
    V0005,
    V0006,
    V0007,
    V0008,
    V0009,
    V0010,
    V0011,
];

/// The versions up to this one are applied after orphan rows are gone, because they rebuilt the
/// foreign keys.
const LAST_TO_DROP_ORPHANS: &str = V0004;

/// What a database has.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The rows of `migrations`; `None` without that table.
    pub ids: Option<Vec<String>>,
    /// Columns by table, in the order of the table.
    pub tables: BTreeMap<String, Vec<FoundColumn>>,
    /// Names of indexes and constraints.
    pub names: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundColumn {
    pub name: String,
    /// As the engine calls it. SQLite's says nothing about the values.
    pub type_name: String,
}

/// Statements that belong in one transaction.
#[derive(Clone, Debug)]
pub struct Step {
    /// The log line that announces it.
    pub title: String,
    pub statements: Vec<Statement>,
}

impl State {
    pub fn add_column(&mut self, table: String, column: FoundColumn) {
        self.tables.entry(table).or_default().push(column);
    }

    /// Whether there is a table `migrations` with a column `id`, which can be read.
    pub fn has_migrations(&self) -> bool {
        self.has_column("migrations", "id")
    }

    pub fn has_column(&self, table: &str, column: &str) -> bool {
        self.find(table, column).is_some()
    }

    fn find(&self, table: &str, column: &str) -> Option<&FoundColumn> {
        let columns = self.tables.get(table)?;
        columns.iter().find(|found| found.name == column)
    }

    fn has_id(&self, id: &str) -> bool {
        self.ids.iter().flatten().any(|found| found == id)
    }

    fn is_initialised(&self) -> bool {
        self.ids.as_ref().is_some_and(|ids| !ids.is_empty())
    }

    /// The first id that belongs to a version after the last one this program knows.
    pub fn newer_id(&self) -> Option<&str> {
        let newest = number(V0011);
        let mut ids = self.ids.iter().flatten().map(String::as_str);
        ids.find(|id| number(id) > newest)
    }
}

/// The number that an id of Plik (Go) starts with.
fn number(id: &str) -> Option<u32> {
    id.get(..4)?.parse().ok()
}

/// Checks that these are tables of Plik, at whatever version, and that there are any.
///
/// # Errors
///
/// [`MetadataError::NotInitialised`] or [`MetadataError::Layout`].
pub fn check(dialect: Dialect, backend: &str, state: &State) -> Result<(), MetadataError> {
    check_layout(dialect, backend, state)?;
    if !state.is_initialised() {
        return Err(MetadataError::NotInitialised {
            backend: backend.to_owned(),
        });
    }
    Ok(())
}

/// The step that a database needs next, or `None` if it has the shape of this program.
///
/// # Errors
///
/// [`MetadataError::Layout`] if the tables are not those of Plik.
pub fn next_step(
    dialect: Dialect,
    backend: &str,
    state: &State,
) -> Result<Option<Step>, MetadataError> {
    check_layout(dialect, backend, state)?;
    if !state.is_initialised() {
        return Ok(Some(initial_step(dialect, state)));
    }
    let versions = KNOWN_IDS.iter().filter(|id| **id != SCHEMA_INIT);
    if let Some(id) = versions.copied().find(|id| !state.has_id(id)) {
        return Ok(Some(upgrade_step(dialect, state, id)));
    }
    check_complete(backend, state).map(|()| None)
}

/// Creates everything at its newest shape. Tables that are there, left by a first start that was
/// interrupted, are extended.
fn initial_step(dialect: Dialect, state: &State) -> Step {
    let mut statements = Vec::new();
    if !state.has_migrations() {
        statements.push(Statement::new(ddl_migrations(dialect), []));
    }
    statements.extend(changes_of(dialect, state, KNOWN_IDS));
    statements.extend(KNOWN_IDS.iter().map(|id| record(id)));
    Step {
        title: format!("Initializing {} database", dialect.driver()),
        statements,
    }
}

fn upgrade_step(dialect: Dialect, state: &State, id: &str) -> Step {
    let mut statements = changes_of(dialect, state, &[id]);
    statements.push(record(id));
    // Plik (Go) announces this version under another name than it records.
    let name = match id {
        V0004 => "0004-user-max-user-size",
        id => id,
    };
    Step {
        title: format!("Applying database migration {name}"),
        statements,
    }
}

/// The statement that records a version as applied.
pub fn record(id: &str) -> Statement {
    const SQL: &str = "INSERT INTO migrations (id) VALUES ($1)";
    Statement::new(SQL, [Value::from(id)])
}

/// What these versions add and `state` lacks.
fn changes_of(dialect: Dialect, state: &State, ids: &[&str]) -> Vec<Statement> {
    let mut changes = Vec::new();
    if ids.iter().any(|id| *id <= LAST_TO_DROP_ORPHANS) {
        changes.extend(orphans(state));
    }
    let tables = TABLES.iter();
    let ddl = tables.flat_map(|table| table_changes(dialect, state, table, ids));
    changes.extend(ddl.map(|sql| Statement::new(sql, [])));
    if ids.contains(&V0011) {
        changes.extend(stats::adopt(dialect));
    }
    changes
}

fn table_changes(dialect: Dialect, state: &State, table: &Table, ids: &[&str]) -> Vec<String> {
    let mut ddl = Vec::new();
    if exists(state, table) {
        if ids.contains(&V0001) {
            ddl.extend(widened_columns(dialect, state, table));
        }
        let columns = table.columns.iter().filter(|column| {
            ids.contains(&column.since) && !state.has_column(table.name, column.name)
        });
        ddl.extend(columns.map(|column| ddl::add_column(dialect, table, column)));
    } else if ids.contains(&table.since) {
        let columns = |column: &Column| ids.contains(&column.since);
        ddl.push(ddl::create_table(dialect, table, columns));
    }
    let indexes = table
        .indexes
        .iter()
        .filter(|index| ids.contains(&index.since) && !state.names.contains(index.name));
    ddl.extend(indexes.map(|index| ddl::create_index(dialect, table, index)));
    if ids.contains(&table.since) {
        let keys = table.foreign_keys.iter();
        let missing = keys.filter(|key| !state.names.contains(key.name));
        ddl.extend(missing.filter_map(|key| ddl::add_foreign_key(dialect, table, key)));
    }
    ddl
}

/// Rows without their parent, which a foreign key would refuse.
fn orphans(state: &State) -> Vec<Statement> {
    let both = |child: &str, parent: &str| {
        state.tables.contains_key(child) && state.tables.contains_key(parent)
    };
    let mut statements = Vec::new();
    if both("files", "uploads") {
        statements.push(Statement::new(maintenance::DELETE_ORPHAN_FILES, []));
    }
    if both("tokens", "users") {
        statements.push(Statement::new(maintenance::DELETE_ORPHAN_TOKENS, []));
    }
    statements
}

/// PostgreSQL columns of the first releases that hold less than ours: `ttl integer`,
/// `varchar(255)`. SQLite's types limit nothing.
fn widened_columns(dialect: Dialect, state: &State, table: &Table) -> Vec<String> {
    if dialect == Dialect::Sqlite {
        return Vec::new();
    }
    let narrow = table.columns.iter().filter(|column| {
        let found = state.find(table.name, column.name);
        found.is_some_and(|found| is_narrower(column, &found.type_name))
    });
    narrow
        .map(|column| ddl::widen_column(dialect, table, column))
        .collect()
}

fn is_narrower(column: &Column, type_name: &str) -> bool {
    match column.kind {
        Kind::Integer => matches!(type_name, "smallint" | "integer"),
        Kind::Text => {
            let length = varchar_length(type_name);
            length.is_some_and(|length| column.max_length.is_none_or(|max| length < max))
        }
        Kind::Boolean | Kind::Time | Kind::Real | Kind::Bytes => false,
    }
}

fn varchar_length(type_name: &str) -> Option<u16> {
    let length = type_name.strip_prefix("character varying(")?;
    length.strip_suffix(')')?.parse().ok()
}

fn exists(state: &State, table: &Table) -> bool {
    state.tables.contains_key(table.name)
}

/// Tables with our names must be ours: their first columns and, where the engine enforces
/// types, what they hold.
fn check_layout(dialect: Dialect, backend: &str, state: &State) -> Result<(), MetadataError> {
    check_migrations(backend, state)?;
    let lost = |table: &&Table| state.has_id(table.since) && !exists(state, table);
    if let Some(table) = TABLES.iter().find(lost) {
        let expected = format!("the table that came with {}", table.since);
        return Err(layout(backend, table.name, expected, "none"));
    }
    for table in TABLES.iter().filter(|table| exists(state, table)) {
        for column in table.columns {
            let essential = column.since == V0001 || table.primary_key.contains(&column.name);
            match state.find(table.name, column.name) {
                None if essential => {
                    let expected = format!("a column {}", column.name);
                    return Err(layout(backend, table.name, expected, &found(state, table)));
                }
                Some(column_found) if !holds(dialect, column, &column_found.type_name) => {
                    let expected = format!(
                        "a column {} of type {}",
                        column.name,
                        dialect.column_type(column)
                    );
                    return Err(layout(
                        backend,
                        table.name,
                        expected,
                        &column_found.type_name,
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn check_migrations(backend: &str, state: &State) -> Result<(), MetadataError> {
    let expected = || format!("a column id with {SCHEMA_INIT} or {V0001}");
    match &state.ids {
        None if state.tables.contains_key("migrations") => {
            Err(layout(backend, "migrations", expected(), "no column id"))
        }
        None => match TABLES.iter().find(|table| exists(state, table)) {
            Some(table) => {
                let expected = format!("a table migrations beside {}", table.name);
                Err(layout(backend, "the database", expected, "none"))
            }
            None => Ok(()),
        },
        Some(ids) if ids.is_empty() => Ok(()),
        Some(ids) if ids.iter().any(|id| KNOWN_IDS.contains(&id.as_str())) => Ok(()),
        Some(_) => Err(layout(
            backend,
            "migrations",
            expected(),
            "only ids of another program",
        )),
    }
}

/// After the last step: a version that was recorded but whose columns are gone would fail in the
/// middle of a request.
fn check_complete(backend: &str, state: &State) -> Result<(), MetadataError> {
    for table in TABLES {
        let lacks = |column: &&Column| !state.has_column(table.name, column.name);
        if let Some(column) = table.columns.iter().find(lacks) {
            let expected = format!("a column {} since {}", column.name, column.since);
            return Err(layout(backend, table.name, expected, &found(state, table)));
        }
    }
    Ok(())
}

fn holds(dialect: Dialect, column: &Column, type_name: &str) -> bool {
    if dialect == Dialect::Sqlite {
        return true;
    }
    let kind = match type_name {
        "text" => Kind::Text,
        name if name.starts_with("character") => Kind::Text,
        "smallint" | "integer" | "bigint" => Kind::Integer,
        "boolean" => Kind::Boolean,
        name if name.starts_with("timestamp") && name.ends_with("with time zone") => Kind::Time,
        _ => return false,
    };
    kind == column.kind
}

fn found(state: &State, table: &Table) -> String {
    let Some(columns) = state.tables.get(table.name) else {
        return "no table".to_owned();
    };
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    format!("only {}", names.join(", "))
}

fn layout(backend: &str, table: &str, expected: String, found: &str) -> MetadataError {
    MetadataError::Layout {
        backend: backend.to_owned(),
        table: table.to_owned(),
        expected,
        found: found.to_owned(),
    }
}
