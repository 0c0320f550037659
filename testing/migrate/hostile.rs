//! Databases full of what nobody should have stored, from a seed, each value with what it means.

mod random;
mod times;
mod values;

use std::path::Path;

use anyhow::Result;
use rusqlite::params_from_iter;
use rusqlite::types::Value;

use crate::places::Database;
use crate::plain::{Kind, Plain};
pub use random::Random;
use times::written;
use values::{BROKEN_TEXT, broken, holds, odd, ordinary, refuse, refused, text};

/// Whether a database with types can hold a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    Holds(Plain),
    Refused,
    /// It depends on what the database makes of it: either refused, or held as this.
    Unsure(Plain),
}

/// A value as SQLite gets it, and what it means.
#[derive(Clone, Debug)]
pub struct Cell {
    pub stored: Value,
    pub fate: Fate,
}

/// A row of a hostile database.
#[derive(Clone, Debug)]
pub struct Row {
    pub table: &'static str,
    /// What its key starts with, and no other's of its table; [`NO_KEY`] where its key is NULL.
    pub tag: String,
    pub cells: Vec<(String, Cell)>,
    /// The columns of its key.
    pub keys: &'static [&'static str],
    /// The row that it refers to, as its position in the list of all.
    pub parent: Parent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    NotNeeded,
    Row(usize),
    Missing,
}

/// The tag of rows whose key is NULL: they cannot be told apart.
pub const NO_KEY: &str = "NULL";

/// A table, the columns of its key, the last of which has the tag, and its columns with a limit in
/// PostgreSQL.
struct Shape {
    table: &'static str,
    keys: &'static [&'static str],
    limited: &'static [(&'static str, usize)],
    parent: Option<(&'static str, &'static str)>,
    rows: u64,
}

impl Shape {
    /// The column that has the tag.
    fn tagged(&self) -> &'static str {
        self.keys[self.keys.len() - 1]
    }
}

/// Every table that a migration carries, parents before children, and one of nobody's.
const SHAPES: &[Shape] = &[
    shape("users", &["id"], &[], None, 60),
    shape(
        "tokens",
        &["token"],
        &[("user_id", 256)],
        Some(("users", "user_id")),
        40,
    ),
    shape("uploads", &["id"], &[], None, 60),
    shape(
        "files",
        &["id"],
        &[("upload_id", 256)],
        Some(("uploads", "upload_id")),
        120,
    ),
    shape("settings", &["key"], &[], None, 20),
    shape(
        "usage_stats",
        &["token", "user_id"],
        &[("user_id", 256), ("token", 256)],
        None,
        20,
    ),
    shape(
        "download_stats_daily",
        &["day", "entity_type", "entity_id"],
        &[
            ("entity_type", 16),
            ("entity_id", 256),
            ("user_id", 256),
            ("token", 256),
        ],
        None,
        40,
    ),
    shape(
        "upload_stats_daily",
        &["day", "token", "user_id"],
        &[("user_id", 256), ("token", 256)],
        None,
        40,
    ),
    shape(STRANGER, &["the key"], &[], None, 60),
];

const fn shape(
    table: &'static str,
    keys: &'static [&'static str],
    limited: &'static [(&'static str, usize)],
    parent: Option<(&'static str, &'static str)>,
    rows: u64,
) -> Shape {
    Shape {
        table,
        keys,
        limited,
        parent,
        rows,
    }
}

/// A table that no release has.
const STRANGER: &str = "Odd \"Täble\"";

const STRANGERS: &[&str] = &[
    "CREATE TABLE \"Odd \"\"Täble\"\"\" (\"the key\" text PRIMARY KEY, \"a number\" integer, \
     \"Größe\" real, bytes blob, \"when\" datetime, \"is it\" boolean, \"select\" text)",
    "ALTER TABLE uploads ADD COLUMN weight real",
    "ALTER TABLE uploads ADD COLUMN thumbnail blob",
];

/// The tables of a hostile database.
pub fn tables() -> impl Iterator<Item = &'static str> {
    SHAPES.iter().map(|shape| shape.table)
}

/// The columns of a table's key, the last of which has the tag.
pub fn keys(table: &str) -> &'static [&'static str] {
    let shape = SHAPES.iter().find(|shape| shape.table == table);
    shape.map_or(&[], |shape| shape.keys)
}

/// Columns of an index, where PostgreSQL holds no long text.
const INDEXED: &[&str] = &["user", "token"];

/// Fills a database that has the tables and nothing in them.
pub fn fill(database: &Database, seed: u64) -> Result<Vec<Row>> {
    for sql in STRANGERS {
        database.query(sql)?;
    }
    let mut random = Random::new(seed);
    let mut rows: Vec<Row> = Vec::new();
    for shape in SHAPES {
        let columns = database.columns(shape.table)?;
        for number in 0..shape.rows {
            let mut row = row(&mut random, shape, number, &columns, &rows);
            if let Some(before) = rows.last()
                && before.table == shape.table
                && shape.keys[0] == "day"
                && number % 8 == 7
                && matches!(before.cells[0].1.fate, Fate::Holds(_))
            {
                twin(&mut row, before);
            }
            rows.push(row);
        }
    }
    if let Some(comments) = cell_of(&mut rows, "uploads", "comments") {
        // Ten megabytes that do not compress away, with the end in sight.
        let long: String = (0..10 << 20)
            .map(|at: u32| char::from(b' ' + (at.wrapping_mul(2_654_435_761) >> 26) as u8))
            .collect();
        *comments = text(&format!("{long}!"));
    }
    let Database::Sqlite(path) = database else {
        anyhow::bail!("only SQLite holds everything")
    };
    write(path, &rows)?;
    Ok(rows)
}

/// Gives a row the key of another, in which the same instant is written in another way.
fn twin(row: &mut Row, of: &Row) {
    row.tag.clone_from(&of.tag);
    for (name, cell) in &mut row.cells {
        let other = of.cells.iter().find(|(column, _)| column == name);
        let Some((_, other)) = other.filter(|_| row.keys.contains(&name.as_str())) else {
            continue;
        };
        *cell = other.clone();
        if let Fate::Holds(Plain::Time(micros)) = other.fate {
            cell.stored = Value::Text(written(micros * 1000, 7200, 3, 'T'));
        }
    }
}

fn cell_of<'a>(rows: &'a mut [Row], table: &str, column: &str) -> Option<&'a mut Cell> {
    let row = rows.iter_mut().find(|row| row.table == table)?;
    let cell = row.cells.iter_mut().find(|(name, _)| name == column)?;
    Some(&mut cell.1)
}

fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let mut connection = rusqlite::Connection::open(path)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    let transaction = connection.transaction()?;
    for row in rows {
        let marks = vec!["?"; row.cells.len()].join(", ");
        let table = row.table.replace('"', "\"\"");
        let sql = format!("INSERT INTO \"{table}\" VALUES ({marks})");
        // A text that is no UTF-8 can be made, but not bound.
        let values = row.cells.iter().map(|(_, cell)| cell.stored.clone());
        transaction
            .prepare_cached(&sql)?
            .execute(params_from_iter(values))?;
        for (column, cell) in &row.cells {
            if let (Value::Blob(bytes), Fate::Refused) = (&cell.stored, &cell.fate)
                && bytes.ends_with(BROKEN_TEXT)
            {
                let column = column.replace('"', "\"\"");
                transaction.execute(
                    &format!(
                        "UPDATE \"{table}\" SET \"{column}\" = CAST(\"{column}\" AS TEXT) \
                         WHERE rowid = last_insert_rowid()"
                    ),
                    (),
                )?;
            }
        }
    }
    Ok(transaction.commit()?)
}

fn row(
    random: &mut Random,
    shape: &Shape,
    number: u64,
    columns: &[(String, Kind)],
    rows: &[Row],
) -> Row {
    // Every third key differs from the one before in nothing but case.
    let mut tag = match number % 3 {
        2 => format!("K{}~", number - 1),
        _ => format!("k{number}~"),
    };
    let mut parent = Parent::NotNeeded;
    let mut cells = Vec::new();
    for (name, kind) in columns {
        let limit = shape.limited.iter().find(|(column, _)| column == name);
        let limit = limit.map(|(_, limit)| *limit);
        let mut cell = if name == shape.tagged() {
            let cell = key(random, shape, &tag);
            if cell.stored == Value::Null {
                NO_KEY.clone_into(&mut tag);
            }
            cell
        } else if shape.parent.is_some_and(|(_, column)| column == name) {
            let (cell, found) = reference(random, shape, rows, limit);
            parent = found;
            cell
        } else if shape.table.ends_with("_daily") && name == "day" {
            day(random)
        } else if shape.table == "usage_stats" && name == "token" {
            // Part of a key that is never NULL.
            text(random.pick(&["", "a", "A"]))
        } else if random.percent(70) {
            ordinary(random, *kind)
        } else if random.percent(8) {
            refused(random, *kind, limit)
        } else {
            odd(random, *kind, limit, INDEXED.contains(&name.as_str()))
        };
        let is_key = shape.keys.contains(&name.as_str());
        if is_key && matches!(cell.stored, Value::Null | Value::Blob(_)) {
            cell.fate = Fate::Refused;
        }
        cells.push((name.clone(), cell));
    }
    Row {
        table: shape.table,
        tag,
        cells,
        keys: shape.keys,
        parent,
    }
}

/// What a key may end with.
const TAILS: &[&str] = &[
    "",
    " ",
    "  ",
    "😀",
    "é",
    "e\u{301}",
    "\"quoted\"",
    "'",
    "\\",
    "\t",
    "\n",
    "/../",
    "%",
    "NULL",
];

fn key(random: &mut Random, shape: &Shape, tag: &str) -> Cell {
    let tagged = format!("{tag}{}", random.pick(TAILS));
    let never_null = shape.table == "usage_stats";
    match random.below(40) {
        0 if !never_null && !shape.table.ends_with("_daily") => refuse(Value::Null),
        // A key of bytes would be equal to one of text.
        1 => refuse(Value::Blob(tagged.into())),
        2 => refuse(Value::Text(format!("{tagged}\0"))),
        3 => refuse(broken(&tagged)),
        4 if shape
            .limited
            .iter()
            .any(|(column, _)| *column == shape.tagged()) =>
        {
            refuse(Value::Text(format!("{tag}{}", "x".repeat(257))))
        }
        5 => text(&format!("{tag}{}", "é".repeat(256 - tag.len()))),
        _ => text(&tagged),
    }
}

fn reference(
    random: &mut Random,
    shape: &Shape,
    rows: &[Row],
    limit: Option<usize>,
) -> (Cell, Parent) {
    let orphan = (text("nobody"), Parent::Missing);
    match random.below(30) {
        0 => return orphan,
        1 => return (holds(Value::Null, Plain::Null), Parent::NotNeeded),
        _ => {}
    }
    let parents: Vec<usize> = (0..rows.len())
        .filter(|&at| Some(rows[at].table) == shape.parent.map(|(table, _)| table))
        .filter(|&at| rows[at].tag != NO_KEY)
        .collect();
    if parents.is_empty() {
        return orphan;
    }
    let at = random.pick(&parents);
    // The key is the first column of each parent.
    let mut cell = rows[at].cells[0].1.clone();
    // In what is no key, bytes that are a text are that text.
    if let (Value::Blob(bytes), Ok(read)) = (
        &cell.stored,
        String::from_utf8(match &cell.stored {
            Value::Blob(bytes) => bytes.clone(),
            _ => Vec::new(),
        }),
    ) && !bytes.ends_with(BROKEN_TEXT)
    {
        cell.fate = Fate::Holds(Plain::Text(read));
    }
    let length = match &cell.stored {
        Value::Text(text) => text.chars().count(),
        _ => 0,
    };
    if limit.is_some_and(|limit| length > limit) {
        cell.fate = Fate::Refused;
    }
    (cell, Parent::Row(at))
}

/// A day as a counter has it, sometimes in another form of the same instant.
fn day(random: &mut Random) -> Cell {
    let days = random.below(5) as i64;
    let micros = (19_000 + days) * 86_400_000_000;
    let zone = random.pick(&[0, 0, 0, 0, 0, 3600, -5400]);
    let stored = match random.below(40) {
        0 => return refuse(Value::Null),
        1 => return refuse(Value::Text("yesterday".into())),
        _ => written(micros * 1000, zone, 0, ' '),
    };
    holds(Value::Text(stored), Plain::Time(micros))
}
