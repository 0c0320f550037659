//! What tables a SQLite database has.

use rusqlite::Connection;

use crate::metadata::layout::{self, Column, Index, Layout, kind_of_declared};

/// Every table but the engine's own, with columns in the order of the table.
pub(super) fn layouts(connection: &Connection) -> rusqlite::Result<Vec<Layout>> {
    let mut tables = connection.prepare(
        "SELECT name FROM sqlite_schema \
         WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let names: Vec<String> = tables
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    names
        .iter()
        .map(|name| layout_of(connection, name))
        .collect()
}

fn layout_of(connection: &Connection, table: &str) -> rusqlite::Result<Layout> {
    let mut columns = Vec::new();
    let mut key: Vec<(u32, usize)> = Vec::new();
    let mut info = connection.prepare("SELECT name, type, pk FROM pragma_table_info(?1)")?;
    let mut rows = info.query([table])?;
    let is_strict = is_strict(connection, table)?;
    while let Some(row) = rows.next()? {
        let (name, declared, rank): (String, String, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if rank > 0 {
            key.push((rank, columns.len()));
        }
        let kind = layout::kind_of(table, &name, kind_of_declared(table, &declared));
        // Elsewhere that word makes numbers of texts; no type at all keeps what it is given.
        let declared = match is_strict && declared.eq_ignore_ascii_case("any") {
            true => String::new(),
            false => declared,
        };
        columns.push(Column {
            name,
            kind,
            declared,
        });
    }
    key.sort_unstable();
    let primary_key = key.into_iter().map(|(_, column)| column).collect();
    Ok(Layout {
        name: table.to_owned(),
        columns,
        primary_key,
        indexes: indexes(connection, table)?,
    })
}

fn is_strict(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) > 0 FROM pragma_table_list(?1) WHERE schema = 'main' AND strict";
    connection.query_row(sql, [table], |row| row.get(0))
}

/// The indexes that a `CREATE INDEX` made, on columns only.
fn indexes(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Index>> {
    let mut list = connection.prepare(
        "SELECT name FROM pragma_index_list(?1) WHERE origin = 'c' AND partial = 0 ORDER BY name",
    )?;
    let names: Vec<String> = list
        .query_map([table], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for name in names {
        let mut info =
            connection.prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")?;
        let columns: Vec<Option<String>> = info
            .query_map([&name], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        // An index on an expression has a NULL in place of a column.
        if let Some(columns) = columns.into_iter().collect() {
            found.push(Index { name, columns });
        }
    }
    Ok(found)
}
