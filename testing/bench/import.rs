//! PostgreSQL to SQLite with the tools of both: `psql` writes CSV, `sqlite3` reads it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};

/// A file that nobody else knows: neither the journal nor the disk is waited for.
const PRAGMAS: &str = "PRAGMA journal_mode = off; PRAGMA synchronous = off;";

/// The tables of a SQLite database, to be filled anew: without what `sqlite3` makes of the values.
/// A NULL becomes an empty text, and a boolean a letter.
pub struct Import {
    tables: PathBuf,
    indexes: PathBuf,
    queries: Vec<(String, String)>,
}

impl Import {
    /// Of the `tables` of `database`; what is written for `sqlite3` goes into `directory`.
    pub fn of(database: &Path, tables: &[&str], directory: PathBuf) -> Result<Self> {
        fs::create_dir(&directory)?;
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let statements = |kind: &str| -> Result<String> {
            let mut found = connection.prepare(
                "SELECT sql FROM sqlite_schema WHERE type = ? AND sql IS NOT NULL \
                 AND name NOT LIKE 'sqlite_%'",
            )?;
            let found = found.query_map([kind], |row| row.get::<_, String>(0))?;
            let found: Vec<String> = found.collect::<Result<_, _>>()?;
            Ok(found.join(";\n") + ";\n")
        };
        let file = |name: &str, text: String| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, format!("{PRAGMAS}\n{text}"))?;
            Ok(path)
        };
        let queries = tables.iter().map(|table| {
            let query = query(&connection, table).with_context(|| (*table).to_owned())?;
            Ok(((*table).to_owned(), query))
        });
        Ok(Self {
            queries: queries.collect::<Result<_>>()?,
            tables: file("tables.sql", statements("table")?)?,
            indexes: file("indexes.sql", statements("index")?)?,
        })
    }

    /// From the PostgreSQL database of that URL into the file `to`.
    pub fn command(
        &self,
        bash: &Path,
        psql: &Path,
        sqlite3: &Path,
        url: &str,
        to: &Path,
    ) -> Command {
        let import = |(table, query): &(String, String)| {
            let query = query.replace('\'', "'\\''");
            format!(
                "\"$1\" -Xqd \"$3\" -c 'COPY ({query}) TO STDOUT (FORMAT csv)' |\n\
                 \"$2\" -cmd '{PRAGMAS}' -csv \"$4\" '.import /dev/stdin {table}' >/dev/null\n"
            )
        };
        let imports: String = self.queries.iter().map(import).collect();
        let read = |file: &Path| format!("\"$2\" \"$4\" <'{}' >/dev/null\n", file.display());
        let script = read(&self.tables) + &imports + &read(&self.indexes) + "sync \"$4\"\n";
        let mut command = Command::new(bash);
        command.args(["-euo", "pipefail", "-c", &script, "import"]);
        command.arg(psql).arg(sqlite3).arg(url).arg(to);
        command
    }
}

/// All rows, with the columns as SQLite has them and in the order of the key, in which it takes them
/// fastest.
fn query(connection: &Connection, table: &str) -> Result<String> {
    let mut columns =
        connection.prepare("SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid")?;
    let columns = columns.query_map([table], |row| {
        let (name, kind, key): (String, String, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((format!("\"{name}\""), kind, key))
    })?;
    let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
    let names: Vec<&str> = columns.iter().map(|(name, ..)| name.as_str()).collect();
    let mut keys: Vec<_> = columns.iter().filter(|(_, _, key)| *key > 0).collect();
    keys.sort_by_key(|(_, _, key)| *key);
    let keys = keys.iter().map(|(name, kind, _)| {
        let is_text = ["text", "varchar"].contains(&kind.to_lowercase().as_str());
        name.clone() + if is_text { " COLLATE \"C\"" } else { "" }
    });
    let keys: Vec<String> = keys.collect();
    let order = match keys.is_empty() {
        true => String::new(),
        false => format!(" ORDER BY {}", keys.join(", ")),
    };
    Ok(format!("SELECT {} FROM {table}{order}", names.join(", ")))
}
