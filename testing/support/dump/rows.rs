//! Rows as lines: `table {"column":value,…}`, columns by name.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use plikd::model::time;
use rusqlite::OpenFlags;
use rusqlite::types::ValueRef;
use serde_json::Value;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Tables that a migration does not carry: the schema's own, logins of minutes, and its notes.
const NOT_CARRIED: &[&str] = &["migrations", "cli_auth_sessions"];
const NOTES: &str = "plikd_";

pub struct Options {
    pub without: Vec<String>,
    pub times_as_stored: bool,
}

impl Options {
    fn is_wanted(&self, table: &str, column: &str) -> bool {
        !self.without.contains(&format!("{table}.{column}"))
    }
}

/// Writes the rows of every table that a migration carries.
pub async fn write(database: &str, options: &Options, out: &mut impl Write) -> Result<()> {
    match database.starts_with("postgres://") {
        true => write_postgres(database, options, out).await,
        false => write_sqlite(database, options, out),
    }
}

/// The `backend_details` of every file that has some, by file id.
pub async fn details(database: &str) -> Result<BTreeMap<String, String>> {
    const SQL: &str = "SELECT id, backend_details FROM files WHERE backend_details <> ''";
    let mut details = BTreeMap::new();
    if database.starts_with("postgres://") {
        for row in connect(database).await?.query(SQL, &[]).await? {
            details.insert(row.get(0), row.get(1));
        }
    } else {
        let connection = open(database)?;
        let mut select = connection.prepare(SQL)?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            details.insert(row.get(0)?, row.get(1)?);
        }
    }
    Ok(details)
}

fn is_carried(table: &str) -> bool {
    !NOT_CARRIED.contains(&table) && !table.starts_with(NOTES)
}

fn write_row(out: &mut impl Write, table: &str, row: &BTreeMap<&str, Value>) -> Result<()> {
    write!(out, "{table} ")?;
    serde_json::to_writer(&mut *out, row)?;
    Ok(writeln!(out)?)
}

// --- SQLite

fn open(database: &str) -> Result<rusqlite::Connection> {
    // Not created if it is missing: an empty dump would equal another empty dump.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    rusqlite::Connection::open_with_flags(database, flags).context(database.to_owned())
}

fn write_sqlite(database: &str, options: &Options, out: &mut impl Write) -> Result<()> {
    let connection = open(database)?;
    let tables = strings(
        &connection,
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' \
         ESCAPE '\\'",
    )?;
    for table in tables.iter().filter(|table| is_carried(table)) {
        let times = strings(
            &connection,
            &format!(
                "SELECT name FROM pragma_table_info('{table}') \
                 WHERE lower(type) IN ('datetime', 'timestamp')"
            ),
        )?;
        let mut select = connection.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let names: Vec<String> = select.column_names().map(String::from).collect();
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            let mut values = BTreeMap::new();
            for (position, name) in names.iter().enumerate() {
                if options.is_wanted(table, name) {
                    let is_time = !options.times_as_stored && times.contains(name);
                    values.insert(
                        name.as_str(),
                        sqlite_value(row.get_ref(position)?, is_time)?,
                    );
                }
            }
            write_row(out, table, &values)?;
        }
    }
    Ok(())
}

fn strings(connection: &rusqlite::Connection, sql: &str) -> Result<Vec<String>> {
    let mut select = connection.prepare(sql)?;
    let rows = select.query_map((), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn sqlite_value(value: ValueRef<'_>, is_time: bool) -> Result<Value> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text)?;
            match time::parse(text).filter(|_| is_time) {
                Some(time) => time::to_micros(time).into(),
                None => text.into(),
            }
        }
        ValueRef::Blob(_) => anyhow::bail!("a column holds bytes"),
    })
}

// --- PostgreSQL

async fn connect(database: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(database, NoTls).await?;
    tokio::spawn(async move {
        // Its errors reach the client's calls too.
        let _ = connection.await;
    });
    Ok(client)
}

async fn write_postgres(database: &str, options: &Options, out: &mut impl Write) -> Result<()> {
    let client = connect(database).await?;
    let columns = client
        .query(
            "SELECT table_name::text, column_name::text, data_type::text \
             FROM information_schema.columns WHERE table_schema = current_schema() \
             ORDER BY table_name, column_name",
            &[],
        )
        .await?;
    let mut tables: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for column in columns {
        let (table, name): (String, String) = (column.get(0), column.get(1));
        if is_carried(&table) && options.is_wanted(&table, &name) {
            tables.entry(table).or_default().push((name, column.get(2)));
        }
    }
    for (table, columns) in &tables {
        let list: Vec<String> = columns
            .iter()
            .map(|(name, kind)| expression(name, kind))
            .collect();
        let sql = format!("SELECT {} FROM \"{table}\"", list.join(", "));
        let mut rows = std::pin::pin!(client.simple_query_raw(&sql).await?);
        while let Some(message) = rows.try_next().await? {
            let SimpleQueryMessage::Row(row) = message else {
                continue;
            };
            let mut values = BTreeMap::new();
            for (position, (name, kind)) in columns.iter().enumerate() {
                values.insert(name.as_str(), postgres_value(row.get(position), kind)?);
            }
            write_row(out, table, &values)?;
        }
    }
    Ok(())
}

/// Every kind of column as a number or a text.
fn expression(name: &str, kind: &str) -> String {
    match kind {
        "boolean" => format!("\"{name}\"::int"),
        "timestamp with time zone" => {
            format!("(extract(epoch FROM \"{name}\") * 1000000)::bigint")
        }
        _ => format!("\"{name}\""),
    }
}

fn postgres_value(text: Option<&str>, kind: &str) -> Result<Value> {
    let Some(text) = text else {
        return Ok(Value::Null);
    };
    Ok(match kind {
        "text" | "character varying" => text.into(),
        _ => text.parse::<i64>().context(kind.to_owned())?.into(),
    })
}
