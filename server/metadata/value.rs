//! Values and rows as both engines give and take them.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::model::time;

/// One value of a row, or one parameter of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// An instant. SQLite gets it as text in the server's time zone.
    Time(Timestamp),
    /// Midnight UTC of a day, the key of the daily counters. SQLite gets it as text in UTC,
    /// whatever the server's time zone, because that text is part of a primary key.
    Day(Date),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(i64::from(number))
    }
}

impl From<bool> for Value {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(time: Option<Timestamp>) -> Self {
        time.map_or(Self::Null, Self::Time)
    }
}

/// The time, unless it lies before year 2: Plik (Go) stores its zero time, year 1, where it
/// knows none.
pub(super) fn known(time: Timestamp) -> Option<Timestamp> {
    (time.as_second() >= FIRST_KNOWN_SECOND).then_some(time)
}

/// 0002-01-01T00:00:00Z, in seconds since 1970.
const FIRST_KNOWN_SECOND: i64 = -62_104_060_800;

/// One row that a query returned. Every accessor gives what the column *means* and none fails:
/// NULL, and a column that the query did not return, is empty, 0, false or no time.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(super) fn new(columns: Arc<[String]>, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// The value as stored.
    pub fn value(&self, column: &str) -> &Value {
        self.columns
            .iter()
            .position(|name| name == column)
            .and_then(|position| self.values.get(position))
            .unwrap_or(&Value::Null)
    }

    /// The text; a number that SQLite stored in a text column as its digits.
    pub fn text(&self, column: &str) -> String {
        match self.value(column) {
            Value::Text(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(boolean) => i64::from(*boolean).to_string(),
            Value::Null | Value::Time(_) | Value::Day(_) => String::new(),
        }
    }

    /// The number; text that is not one counts as 0.
    pub fn integer(&self, column: &str) -> i64 {
        match self.value(column) {
            Value::Integer(number) => *number,
            Value::Boolean(boolean) => i64::from(*boolean),
            Value::Text(text) => text.trim().parse().unwrap_or(0),
            Value::Null | Value::Time(_) | Value::Day(_) => 0,
        }
    }

    /// The boolean, also from the numbers and words that SQLite may hold in its place.
    pub fn boolean(&self, column: &str) -> bool {
        match self.value(column) {
            Value::Boolean(boolean) => *boolean,
            Value::Integer(number) => *number != 0,
            Value::Text(text) => matches!(text.trim(), "1" | "true" | "TRUE" | "t"),
            Value::Null | Value::Time(_) | Value::Day(_) => false,
        }
    }

    /// The instant; `None` for NULL, for text that is no time and for year 1.
    pub fn time(&self, column: &str) -> Option<Timestamp> {
        match self.value(column) {
            Value::Time(time) => Some(*time),
            Value::Text(text) => time::parse(text),
            Value::Integer(number) => time::from_unix(*number),
            Value::Null | Value::Boolean(_) | Value::Day(_) => None,
        }
        .and_then(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Row {
        Row::new(Arc::from(["it".to_owned()]), vec![value])
    }

    #[test]
    fn null_and_absent_columns_read_as_empty() {
        for (row, column) in [(row(Value::Null), "it"), (row(Value::Integer(1)), "other")] {
            assert_eq!(row.text(column), "");
            assert_eq!(row.integer(column), 0);
            assert!(!row.boolean(column));
            assert_eq!(row.time(column), None);
        }
    }

    #[test]
    fn odd_storage_classes_keep_their_meaning() {
        assert_eq!(row(Value::Text(" 42 ".to_owned())).integer("it"), 42);
        assert_eq!(row(Value::Boolean(true)).integer("it"), 1);
        assert_eq!(row(Value::Integer(7)).text("it"), "7");
        assert!(row(Value::Text("true".to_owned())).boolean("it"));
        assert!(row(Value::Integer(2)).boolean("it"));
        assert!(!row(Value::Text("no".to_owned())).boolean("it"));
        assert_eq!(
            row(Value::Integer(1)).time("it"),
            Some(Timestamp::from_second(1).unwrap())
        );
    }

    #[test]
    fn year_one_and_garbage_are_no_times() {
        for text in ["0001-01-01 00:00:00+00:00", "yesterday", ""] {
            assert_eq!(row(Value::from(text)).time("it"), None, "{text}");
        }
        let first: Timestamp = "0002-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(row(Value::Time(first)).time("it"), Some(first));
        let before = first - jiff::SignedDuration::from_secs(1);
        assert_eq!(row(Value::Time(before)).time("it"), None);
    }
}
