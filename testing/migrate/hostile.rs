//! Databases full of what nobody should have stored, from a seed, each value with what it means.

use std::path::Path;

use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::Offset;
use rusqlite::params_from_iter;
use rusqlite::types::Value;

use crate::places::Database;
use crate::plain::{Kind, Plain};

/// Numbers that look random and are the same for a seed for ever (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True that often in a hundred.
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

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
     \"Größe\" real, bytes blob, \"when\" datetime, \"is it\" numeric, \"select\" text)",
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

fn holds(stored: Value, plain: Plain) -> Cell {
    let fate = Fate::Holds(plain);
    Cell { stored, fate }
}

fn refuse(stored: Value) -> Cell {
    let fate = Fate::Refused;
    Cell { stored, fate }
}

fn text(text: &str) -> Cell {
    holds(Value::Text(text.into()), Plain::Text(text.into()))
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

fn ordinary(random: &mut Random, kind: Kind) -> Cell {
    match kind {
        Kind::Text => text(random.pick(&["", "a", "report.pdf", "10.1.2.3"])),
        Kind::Integer => integer(random.below(1 << 40) as i64),
        Kind::Boolean => boolean(Value::Integer, random.below(2)),
        Kind::Time => time(random, 1_500_000_000, 300_000_000),
        Kind::Real => real(random.below(1000) as f64 / 7.0),
        Kind::Bytes => {
            let bytes: Vec<u8> = (0..random.below(20)).map(|at| at as u8 * 13).collect();
            holds(Value::Blob(bytes.clone()), Plain::Bytes(bytes))
        }
    }
}

fn integer(number: i64) -> Cell {
    holds(Value::Integer(number), Plain::Integer(number))
}

fn real(number: f64) -> Cell {
    holds(Value::Real(number), Plain::Real(number.to_bits()))
}

fn boolean(stored: impl Fn(i64) -> Value, number: u64) -> Cell {
    holds(stored(number as i64), Plain::Boolean(number == 1))
}

/// What no typed column of that kind can hold.
fn refused(random: &mut Random, kind: Kind, limit: Option<usize>) -> Cell {
    let words: &[&str] = match kind {
        Kind::Text => &["\0", "a\0b", "end\0"],
        Kind::Integer => &["lots", "", "0x10", "12 apples", "9223372036854775808", "٣"],
        Kind::Boolean => &["maybe", "", "2", "-1", "yes", "true "],
        Kind::Time => &[
            "yesterday",
            "",
            "0",
            "2024-13-01 00:00:00",
            "2023-02-29 00:00:00+00:00",
            "2024-01-02 24:00:00+00:00",
            "2024-01-02 03:04:60+00:00",
            "2024-01-02 03:04:05.5 +0200 CEST m=+0.1",
            "2024-01-02 03:04:05.1234567891+00:00",
            "12024-01-02 03:04:05+00:00",
            " 2024-01-02 03:04:05+00:00",
            "infinity",
            "now",
        ],
        Kind::Real => &["much", "", "1.5 kg"],
        Kind::Bytes => return refuse(random.pick(&[Value::Integer(7), Value::Real(0.5)])),
    };
    let word = Value::Text(random.pick(words).into());
    match (kind, random.below(4)) {
        (Kind::Text, 0) => refuse(broken("")),
        (Kind::Text, 1) => refuse(Value::Blob(vec![0xff, 0, 0xfe])),
        (Kind::Text, _) if limit.is_some() => {
            let limit = limit.unwrap_or_default();
            // The database would cut spaces beyond the limit and say nothing.
            let end = random.pick(&[" ", "x", "é"]);
            refuse(Value::Text("é".repeat(limit) + end))
        }
        (Kind::Integer, 0) => refuse(random.pick(&[
            Value::Real(1.5),
            Value::Real(9_223_372_036_854_775_808.0),
            Value::Real(f64::INFINITY),
            Value::Blob(b"7".to_vec()),
        ])),
        (Kind::Boolean, 0) => refuse(random.pick(&[
            Value::Real(0.5),
            Value::Integer(i64::MIN),
            Value::Blob(vec![1]),
        ])),
        (Kind::Time, 0) => refuse(random.pick(&[
            Value::Real(2_460_000.5),
            Value::Blob(b"2024-01-02 03:04:05+00:00".to_vec()),
            Value::Integer(i64::MAX),
        ])),
        (Kind::Time, _) if word == Value::Text("0".into()) => refuse(Value::Integer(i64::MIN)),
        (Kind::Real, 0) => refuse(Value::Blob(vec![0; 8])),
        _ => refuse(word),
    }
}

/// What text that is no UTF-8 ends with here, and no other value does: lone surrogates, overlong
/// and cut sequences.
const BROKEN_TEXT: &[u8] = b"|\xed\xa0\xbd|\xed\xb8\x80|\xc0\x80|\xf0\x9f\x98";

/// Bytes to be stored as text.
fn broken(tag: &str) -> Value {
    Value::Blob([tag.as_bytes(), BROKEN_TEXT].concat())
}

/// What nobody expects and means something all the same.
fn odd(random: &mut Random, kind: Kind, limit: Option<usize>, indexed: bool) -> Cell {
    if random.percent(15) {
        return holds(Value::Null, Plain::Null);
    }
    match kind {
        Kind::Text => odd_text(random, limit, indexed),
        Kind::Integer => random.pick(&[
            integer(0),
            integer(-1),
            integer(i64::MAX),
            integer(i64::MIN),
            integer(i64::from(i32::MAX) + 1),
            holds(Value::Real(2.0), Plain::Integer(2)),
            holds(
                Value::Real(-9_223_372_036_854_775_808.0),
                Plain::Integer(i64::MIN),
            ),
            // SQLite makes numbers of these itself.
            holds(Value::Text(" 7 ".into()), Plain::Integer(7)),
            holds(Value::Text("1e3".into()), Plain::Integer(1000)),
        ]),
        Kind::Boolean => random.pick(&[
            boolean(|number| Value::Real(number as f64), 1),
            boolean(|number| Value::Text(number.to_string()), 0),
            holds(Value::Text("TRUE".into()), Plain::Boolean(true)),
            holds(Value::Text("false".into()), Plain::Boolean(false)),
            holds(Value::Text("False".into()), Plain::Boolean(false)),
        ]),
        Kind::Time => odd_time(random),
        Kind::Real => random.pick(&[
            real(f64::MAX),
            real(f64::MIN_POSITIVE),
            real(5e-324),
            real(-0.1),
            real(f64::INFINITY),
            real(f64::NEG_INFINITY),
            holds(
                Value::Integer(i64::MAX),
                Plain::Real((i64::MAX as f64).to_bits()),
            ),
            holds(Value::Text("12.5".into()), Plain::Real(12.5_f64.to_bits())),
        ]),
        Kind::Bytes => random.pick(&[
            holds(Value::Blob(Vec::new()), Plain::Bytes(Vec::new())),
            holds(Value::Blob(vec![0, 255, 0]), Plain::Bytes(vec![0, 255, 0])),
            holds(Value::Text("a\0b".into()), Plain::Bytes(b"a\0b".to_vec())),
            holds(
                Value::Blob(vec![7; 100_000]),
                Plain::Bytes(vec![7; 100_000]),
            ),
        ]),
    }
}

fn odd_text(random: &mut Random, limit: Option<usize>, indexed: bool) -> Cell {
    let short = [
        "trailing  ",
        "  leading",
        "NULL",
        "\\N",
        "\\.",
        "a\tb\r\nc\u{b}",
        "'; DROP TABLE files; --",
        "\"",
        "\u{feff}bom",
        "\u{fffd}",
        "\u{ffff}\u{10ffff}",
        "\u{202e}kcab",
        "👩‍👩‍👧‍👦",
        "e\u{301}",
        "İıſẞ",
        "\u{1}\u{7f}\u{85}",
        "\u{1b}[2J",
    ];
    match (random.below(8), limit) {
        (0, Some(limit)) => text(&"é".repeat(limit)),
        (0, None) if indexed => {
            // Longer than what an index takes, unless it can be made shorter.
            let long: String = (0..4000)
                .map(|_| random.pick(&["a", "é", "7", "Z", "愛", "\u{1f600}"]))
                .collect();
            let fate = Fate::Unsure(Plain::Text(long.clone()));
            let stored = Value::Text(long);
            Cell { stored, fate }
        }
        (0, None) => text(&random.pick(&short).repeat(20_000)),
        (1, _) => holds(Value::Blob(b"bytes".to_vec()), Plain::Text("bytes".into())),
        (2, _) => holds(Value::Integer(-12), Plain::Text("-12".into())),
        // A column of text makes this text itself.
        (3, _) => holds(Value::Real(0.5), Plain::Text("0.5".into())),
        (_, Some(limit)) => {
            let word = random.pick(&short);
            text(if word.chars().count() > limit {
                "short"
            } else {
                word
            })
        }
        (_, None) => text(random.pick(&short)),
    }
}

/// An instant so many seconds around another, in a form of [`written`].
fn time(random: &mut Random, middle: i64, around: u64) -> Cell {
    let seconds = middle + random.below(2 * around) as i64 - around as i64;
    let nanoseconds = random.below(1_000_000_000) as i64;
    let offset = random.pick(&[0, 3600, -12_600, 50_400, -43_200, 20_700]);
    let digits = random.pick(&[0, 1, 3, 6, 9, 9]);
    let nanoseconds = nanoseconds / 10_i64.pow(9 - digits) * 10_i64.pow(9 - digits);
    let instant = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let separator = random.pick(&[' ', 'T']);
    let form = written_wide(instant, offset, digits as usize, separator);
    let micros = instant.div_euclid(1000) as i64;
    holds(Value::Text(form), Plain::Time(micros))
}

fn odd_time(random: &mut Random) -> Cell {
    const YEAR_1: i64 = -62_135_596_800;
    const DAYS_9999: i64 = 253_402_128_000;
    match random.below(8) {
        0 => time(random, YEAR_1 + 600_000_000, 599_000_000),
        1 => time(random, DAYS_9999 - 600_000_000, 599_000_000),
        // Just before and behind 1970 and 2000, where the clocks of both engines start.
        2 => time(random, 0, 2),
        3 => time(random, 946_684_800, 2),
        4 => {
            let seconds = random.below(4_000_000_000) as i64;
            holds(Value::Integer(seconds), Plain::Time(seconds * 1_000_000))
        }
        5 => {
            let millis = 1_000_000_000_001 + random.below(1 << 40) as i64;
            holds(Value::Integer(millis), Plain::Time(millis * 1000))
        }
        // Numbers in the clothes of a text become numbers.
        6 => holds(Value::Text("2024".into()), Plain::Time(2_024_000_000)),
        _ => random.pick(&[
            shown("0001-01-01 00:00:00+00:00", YEAR_1 * 1_000_000),
            shown("2024-05-06", 1_714_953_600_000_000),
            shown("2024-05-06 07:08", 1_714_979_280_000_000),
            shown("2024-05-06T07:08:09Z", 1_714_979_289_000_000),
            shown("2024-02-29 23:59:59.999999999+00:00", 1_709_251_199_999_999),
            shown("1969-12-31 23:59:59.9999999+00:00", -1),
            shown("2024-05-06 07:08:09-23:59", 1_715_065_629_000_000),
        ]),
    }
}

fn shown(form: &str, micros: i64) -> Cell {
    holds(Value::Text(form.into()), Plain::Time(micros))
}

fn written(nanoseconds: i64, offset: i32, digits: usize, separator: char) -> String {
    written_wide(i128::from(nanoseconds), offset, digits, separator)
}

/// An instant as `2024-05-06 07:08:09.5+02:00`, with so many digits behind the point.
fn written_wide(nanoseconds: i128, offset: i32, digits: usize, separator: char) -> String {
    let seconds = nanoseconds.div_euclid(1_000_000_000) as i64;
    let rest = nanoseconds.rem_euclid(1_000_000_000) as i64;
    let Ok(offset) = Offset::from_seconds(offset) else {
        return String::new();
    };
    let Ok(instant) = Timestamp::from_second(seconds) else {
        return String::new();
    };
    let civil = offset.to_datetime(instant);
    let mut form = civil
        .strftime(&format!("%Y-%m-%d{separator}%H:%M:%S"))
        .to_string();
    if digits > 0 {
        form += &format!(".{:0digits$}", rest / 10_i64.pow(9 - digits as u32));
    }
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    let (hours, minutes) = (minutes.abs() / 60, minutes.abs() % 60);
    form + &format!("{sign}{hours:02}:{minutes:02}")
}
