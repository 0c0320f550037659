//! What databases hold, as values that mean the same in both engines. Shares no code with what it
//! checks.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use rusqlite::types::ValueRef;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::places::{Database, block_on};

/// What a value means, whichever database holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    Null,
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// Microseconds since 1970; the smallest and the largest are the infinities.
    Time(i64),
    /// By its bits: a number that is none is equal to itself.
    Real(u64),
    Bytes(Vec<u8>),
}

/// The types of PostgreSQL that a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Boolean,
    Time,
    Real,
    Bytes,
}

impl Kind {
    /// By the name of a type in SQLite, as Plik (Go) declares its columns.
    pub fn of_sqlite(declared: &str) -> Result<Self> {
        Ok(match declared {
            "text" => Self::Text,
            "integer" => Self::Integer,
            "numeric" | "boolean" => Self::Boolean,
            "datetime" => Self::Time,
            "real" => Self::Real,
            "blob" => Self::Bytes,
            _ => bail!("no kind for the type {declared}"),
        })
    }

    fn of_postgres(data_type: &str) -> Result<Self> {
        Ok(match data_type {
            "text" | "character varying" => Self::Text,
            "bigint" => Self::Integer,
            "boolean" => Self::Boolean,
            "timestamp with time zone" => Self::Time,
            "double precision" => Self::Real,
            "bytea" => Self::Bytes,
            _ => bail!("no kind for the type {data_type}"),
        })
    }
}

pub type Row = BTreeMap<String, Plain>;

/// Name and kind of each column, in the order of the database.
pub type Columns = Vec<(String, Kind)>;

impl Database {
    /// The columns of a table.
    pub fn columns(&self, table: &str) -> Result<Columns> {
        let sql = match self {
            Self::Sqlite(_) => format!(
                "SELECT name, lower(type) FROM pragma_table_info('{}')",
                table.replace('\'', "''")
            ),
            Self::Postgres { .. } => format!(
                "SELECT column_name::text, data_type::text FROM information_schema.columns \
                 WHERE table_schema = current_schema() AND table_name = '{table}' \
                 ORDER BY ordinal_position"
            ),
        };
        let columns = self.query(&sql)?.into_iter().map(|row| {
            let kind = match self {
                Self::Sqlite(_) => Kind::of_sqlite(&row[1]),
                Self::Postgres { .. } => Kind::of_postgres(&row[1]),
            };
            Ok((row[0].clone(), kind?))
        });
        columns.collect()
    }

    /// Every row of a table, by what it means.
    pub fn plain(&self, table: &str) -> Result<Vec<Row>> {
        let columns = self.columns(table)?;
        ensure!(!columns.is_empty(), "there is no table {table}");
        match self {
            Self::Sqlite(path) => sqlite_rows(path, table, &columns),
            Self::Postgres { .. } => postgres_rows(&self.url(), table, &columns),
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn sqlite_rows(path: &Path, table: &str, columns: &Columns) -> Result<Vec<Row>> {
    let connection = rusqlite::Connection::open(path)?;
    let names: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
    let sql = format!("SELECT {} FROM {}", names.join(", "), quoted(table));
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let values = columns.iter().enumerate().map(|(position, (name, kind))| {
            let value = of_sqlite(row.get_ref(position)?, *kind)
                .with_context(|| format!("{table}.{name}"))?;
            Ok((name.clone(), value))
        });
        found.push(values.collect::<Result<_>>()?);
    }
    Ok(found)
}

/// A value of a database that this program has written, where each has the class of its column.
fn of_sqlite(value: ValueRef<'_>, kind: Kind) -> Result<Plain> {
    Ok(match (kind, value) {
        (_, ValueRef::Null) => Plain::Null,
        (Kind::Text, ValueRef::Text(text)) => Plain::Text(std::str::from_utf8(text)?.to_owned()),
        (Kind::Integer, ValueRef::Integer(number)) => Plain::Integer(number),
        (Kind::Boolean, ValueRef::Integer(number @ (0 | 1))) => Plain::Boolean(number == 1),
        (Kind::Real, ValueRef::Real(number)) => Plain::Real(number.to_bits()),
        (Kind::Bytes, ValueRef::Blob(bytes)) => Plain::Bytes(bytes.to_owned()),
        (Kind::Time, ValueRef::Text(text)) => {
            let text = std::str::from_utf8(text)?;
            let time: Timestamp = text.parse().with_context(|| text.to_owned())?;
            Plain::Time(time.as_nanosecond().div_euclid(1000).try_into()?)
        }
        (kind, value) => bail!("{value:?} is no {kind:?}"),
    })
}

fn postgres_rows(url: &str, table: &str, columns: &Columns) -> Result<Vec<Row>> {
    let list: Vec<String> = columns
        .iter()
        .map(|(name, kind)| expression(&quoted(name), *kind))
        .collect();
    let sql = format!("SELECT {} FROM {}", list.join(", "), quoted(table));
    let messages = block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        // Its errors reach the client's calls too.
        tokio::spawn(connection);
        Ok(client.simple_query(&sql).await?)
    })?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| {
        let values = columns.iter().enumerate().map(|(position, (name, kind))| {
            let value = match row.get(position) {
                None => Plain::Null,
                Some(text) => of_postgres(text, *kind)?,
            };
            Ok((name.clone(), value))
        });
        values.collect()
    })
    .collect()
}

/// A column as a text that loses nothing.
fn expression(name: &str, kind: Kind) -> String {
    match kind {
        Kind::Time => format!(
            "CASE WHEN {name} = 'infinity' THEN '{}' WHEN {name} = '-infinity' THEN '{}' \
             ELSE (extract(epoch FROM {name}) * 1000000)::bigint::text END",
            i64::MAX,
            i64::MIN
        ),
        Kind::Bytes => format!("encode({name}, 'hex')"),
        _ => name.to_owned(),
    }
}

fn of_postgres(text: &str, kind: Kind) -> Result<Plain> {
    Ok(match kind {
        Kind::Text => Plain::Text(text.to_owned()),
        Kind::Integer => Plain::Integer(text.parse()?),
        Kind::Boolean => Plain::Boolean(text == "t"),
        Kind::Time => Plain::Time(text.parse()?),
        Kind::Real => Plain::Real(text.parse::<f64>()?.to_bits()),
        Kind::Bytes => {
            let pairs = text.as_bytes().chunks(2).map(|pair| {
                let pair = std::str::from_utf8(pair)?;
                Ok(u8::from_str_radix(pair, 16)?)
            });
            Plain::Bytes(pairs.collect::<Result<_>>()?)
        }
    })
}
