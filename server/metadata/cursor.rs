//! Cursors: where the next read of an ordered list starts.
//!
//! A list is read by keyset: the cursor holds the sort keys of one row, and the next page is what
//! sorts after (or before) them. So a page costs the same wherever it lies, and rows that come and
//! go between two pages shift nothing. Clients see a cursor as the base 64 of a JSON array, the
//! layout of Plik (Go).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value as Json;

use super::dialect::Dialect;
use super::value::{Row, Value};
use crate::model::time;

/// One sort key of a list. The last one of a list is unique.
#[derive(Clone, Copy, Debug)]
pub struct SortKey {
    /// The column, as the query returns it.
    pub column: &'static str,
    /// The column or expression to compare, where it has another name than the column returned.
    pub expression: &'static str,
    pub kind: KeyKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Compared as instants, to the last digit that the database holds.
    Time,
    Integer,
    Text,
}

/// The text is not a cursor of this list.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no cursor of this list")]
pub struct InvalidCursor(String);

/// What a client asks of a list.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Rows of a page, at least 1.
    pub limit: u32,
    /// The direction of every key.
    pub ascending: bool,
    pub start: Start,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    First,
    /// The page after the row of this cursor.
    After(String),
    /// The page before it.
    Before(String),
}

/// Rows in the order asked for, and the cursors of the pages beside them, if there are any.
#[derive(Clone, Debug)]
pub struct Page {
    pub rows: Vec<Row>,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// The parts of a query that make it a page.
#[derive(Clone, Debug)]
pub struct Clauses {
    /// A condition for `WHERE`; always true on the first page.
    pub condition: String,
    /// What follows `ORDER BY`.
    pub order: String,
    /// One more than the page has rows, to see whether it is the last.
    pub limit: u32,
}

impl PageRequest {
    /// The clauses of the page, their parameters appended to `params`. A list that is read
    /// backward is queried in the opposite order; [`PageRequest::page`] turns it round.
    pub fn clauses(
        &self,
        dialect: Dialect,
        keys: &[SortKey],
        params: &mut Vec<Value>,
    ) -> Result<Clauses, InvalidCursor> {
        let ascending = self.ascending != self.is_backward();
        let direction = if ascending { "ASC" } else { "DESC" };
        let order: Vec<String> = keys
            .iter()
            .map(|key| format!("{} {direction}", key.comparable(dialect, key.expression)))
            .collect();
        let condition = match &self.start {
            Start::First => "1 = 1".to_owned(),
            Start::After(cursor) | Start::Before(cursor) => {
                let first = params.len() + 1;
                params.extend(decode(cursor, keys)?);
                beyond(dialect, keys, first, if ascending { ">" } else { "<" })
            }
        };
        Ok(Clauses {
            condition,
            order: order.join(", "),
            limit: self.limit.saturating_add(1),
        })
    }

    /// The page from the rows that the query with these clauses returned.
    pub fn page(&self, mut rows: Vec<Row>, keys: &[SortKey]) -> Page {
        let limit = self.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        if self.is_backward() {
            rows.reverse();
        }
        // Where the list came from there are rows, unless this is its beginning.
        let (has_before, has_after) = match self.start {
            Start::First => (false, more),
            Start::After(_) => (true, more),
            Start::Before(_) => (more, true),
        };
        let cursor =
            |row: Option<&Row>, wanted: bool| row.filter(|_| wanted).map(|row| encode(row, keys));
        Page {
            before: cursor(rows.first(), has_before),
            after: cursor(rows.last(), has_after),
            rows,
        }
    }

    fn is_backward(&self) -> bool {
        matches!(self.start, Start::Before(_))
    }
}

impl SortKey {
    fn comparable(&self, dialect: Dialect, expression: &str) -> String {
        match self.kind {
            KeyKind::Time => dialect.time_key(expression),
            KeyKind::Integer => format!("COALESCE({expression}, 0)"),
            KeyKind::Text => expression.to_owned(),
        }
    }
}

/// `k1 > $1 OR (k1 = $1 AND k2 > $2) OR …`
fn beyond(dialect: Dialect, keys: &[SortKey], first_param: usize, operator: &str) -> String {
    let compare = |position: usize, operator: &str| {
        let key = &keys[position];
        let param = format!("${}", first_param + position);
        let column = key.comparable(dialect, key.expression);
        format!("{column} {operator} {}", key.comparable(dialect, &param))
    };
    let alternatives: Vec<String> = (0..keys.len())
        .map(|last| {
            let mut all: Vec<String> = (0..last).map(|equal| compare(equal, "=")).collect();
            all.push(compare(last, operator));
            format!("({})", all.join(" AND "))
        })
        .collect();
    format!("({})", alternatives.join(" OR "))
}

/// The cursor of a row.
fn encode(row: &Row, keys: &[SortKey]) -> String {
    let values = keys.iter().map(|key| match key.kind {
        KeyKind::Time => Json::from(instant(row.value(key.column)).to_string()),
        KeyKind::Integer => Json::from(row.integer(key.column)),
        KeyKind::Text => Json::from(row.text(key.column)),
    });
    STANDARD.encode(Json::Array(values.collect()).to_string())
}

/// What the database compares; a time that it does not know comes first, as year 1.
fn instant(value: &Value) -> Timestamp {
    match value {
        Value::Time(time) => Some(*time),
        Value::Text(text) => time::parse(text),
        Value::Integer(number) => time::from_unix(*number),
        Value::Null | Value::Boolean(_) | Value::Day(_) => None,
    }
    .unwrap_or(YEAR_ONE)
}

/// 0001-01-01T00:00:00Z, the time that Plik (Go) holds for none.
const YEAR_ONE: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// The keys of a cursor. Elements beyond them, which other versions may add, are ignored.
fn decode(cursor: &str, keys: &[SortKey]) -> Result<Vec<Value>, InvalidCursor> {
    let invalid = || InvalidCursor(cursor.to_owned());
    let text = STANDARD.decode(cursor).map_err(|_| invalid())?;
    let values: Vec<Json> = serde_json::from_slice(&text).map_err(|_| invalid())?;
    if values.len() < keys.len() {
        return Err(invalid());
    }
    keys.iter()
        .zip(values)
        .map(|(key, value)| match (key.kind, value) {
            (KeyKind::Time, Json::String(time)) => {
                let time = time.parse::<Timestamp>().map_err(|_| invalid())?;
                Ok(Value::Time(time))
            }
            (KeyKind::Integer, Json::Number(number)) => {
                number.as_i64().map(Value::Integer).ok_or_else(invalid)
            }
            (KeyKind::Text, Json::String(text)) => Ok(Value::Text(text)),
            _ => Err(invalid()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const KEYS: &[SortKey] = &[
        SortKey {
            column: "created_at",
            expression: "created_at",
            kind: KeyKind::Time,
        },
        SortKey {
            column: "id",
            expression: "id",
            kind: KeyKind::Text,
        },
    ];

    fn row(created_at: &str, id: &str) -> Row {
        let columns = Arc::from(["created_at".to_owned(), "id".to_owned()]);
        Row::new(columns, vec![Value::from(created_at), Value::from(id)])
    }

    #[test]
    fn a_cursor_of_plik_go_is_read() {
        let cursor = "WyIyMDI2LTExLTIwVDE1OjQ5OjMwLjI3ODA4NjM0LTA1OjAwIiwiVlkydkRlOWFyNDZUaHdaVSJd";
        let time: Timestamp = "2026-11-20T20:49:30.27808634Z".parse().unwrap();
        assert_eq!(
            decode(cursor, KEYS).unwrap(),
            [Value::Time(time), Value::from("VY2vDe9ar46ThwZU")]
        );
    }

    #[test]
    fn a_cursor_holds_the_instant_to_the_nanosecond() {
        let row = row("2026-11-20 15:49:30.278086341-05:00", "a\"b");
        let time: Timestamp = "2026-11-20T20:49:30.278086341Z".parse().unwrap();
        assert_eq!(
            decode(&encode(&row, KEYS), KEYS).unwrap(),
            [Value::Time(time), Value::from("a\"b")]
        );
    }

    #[test]
    fn surplus_elements_are_ignored_and_anything_else_is_refused() {
        let encode = |json: &str| STANDARD.encode(json);
        let long = encode(r#"["2026-11-20T15:49:30Z","id",3,null]"#);
        assert_eq!(decode(&long, KEYS).unwrap().len(), 2);
        for cursor in [
            "",
            "no base 64",
            "e30=",
            &encode("not json"),
            &encode(r#"["2026-11-20T15:49:30Z"]"#),
            &encode(r#"["yesterday","id"]"#),
            &encode(r#"[1,"id"]"#),
            &encode(r#"["2026-11-20T15:49:30Z",null]"#),
        ] {
            assert!(decode(cursor, KEYS).is_err(), "{cursor}");
        }
    }

    #[test]
    fn pages_name_their_neighbours_only_where_there_are_any() {
        let rows = |count: usize| vec![row("2026-11-20", "id"); count];
        let request = |start| PageRequest {
            limit: 2,
            ascending: false,
            start,
        };
        for (start, count, before, after) in [
            (Start::First, 2, false, false),
            (Start::First, 3, false, true),
            (Start::After(String::new()), 3, true, true),
            (Start::After(String::new()), 2, true, false),
            (Start::Before(String::new()), 3, true, true),
            (Start::Before(String::new()), 2, false, true),
            (Start::After(String::new()), 0, false, false),
        ] {
            let page = request(start.clone()).page(rows(count), KEYS);
            let found = (page.before.is_some(), page.after.is_some());
            assert_eq!(found, (before, after), "{start:?} with {count}");
            assert_eq!(page.rows.len(), count.min(2));
        }
    }
}
