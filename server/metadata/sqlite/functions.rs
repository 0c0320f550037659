//! SQL functions that compare times as instants, whatever their form and offset.

use jiff::Timestamp;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

use crate::metadata::value::known;
use crate::model::time;

/// Seconds added so that every time of the calendar is positive and has as many digits.
const SHIFT: i64 = 1_000_000_000_000;

pub fn register(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("instant", 1, flags, |context| {
        Ok(argument(context).map(time::to_micros))
    })?;
    connection.create_scalar_function("moment", 1, flags, |context| {
        Ok(argument(context).map_or_else(String::new, moment))
    })
}

fn argument(context: &Context<'_>) -> Option<Timestamp> {
    match context.get_raw(0) {
        ValueRef::Text(text) => std::str::from_utf8(text).ok().and_then(time::parse),
        ValueRef::Integer(number) => time::from_unix(number),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => None,
    }
    .and_then(known)
}

/// 13 digits of seconds and 9 of nanoseconds: text that sorts as the instants do, where an
/// integer of nanoseconds would not reach past the year 2262.
fn moment(time: Timestamp) -> String {
    let nanoseconds = time.as_nanosecond();
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let fraction = nanoseconds.rem_euclid(1_000_000_000);
    format!("{:013}{fraction:09}", seconds + i128::from(SHIFT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        register(&connection).unwrap();
        connection
    }

    #[test]
    fn instants_compare_across_offsets_and_forms() {
        let compare = |left: &str, right: &str| -> Option<bool> {
            connection()
                .query_row("SELECT instant(?1) < instant(?2)", (left, right), |row| {
                    row.get(0)
                })
                .unwrap()
        };
        // As text the first would be the smaller one in both cases.
        assert_eq!(
            compare("2026-11-20 16:48:00-05:00", "2026-11-20 20:49:00+00:00"),
            Some(false)
        );
        assert_eq!(
            compare("2026-11-20T20:49:00Z", "2026-11-20 16:50:00-05:00"),
            Some(true)
        );
        assert_eq!(compare("no time", "2026-11-20"), None);
        assert_eq!(compare("0001-01-01 00:00:00+00:00", "2026-11-20"), None);
    }

    #[test]
    fn integers_are_times_and_null_is_none() {
        let instant = |value: Option<i64>| -> Option<i64> {
            connection()
                .query_row("SELECT instant(?1)", [value], |row| row.get(0))
                .unwrap()
        };
        assert_eq!(instant(Some(1)), Some(1_000_000));
        assert_eq!(instant(None), None);
    }

    #[test]
    fn moments_sort_as_instants_to_the_nanosecond() {
        let times = [
            "0002-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999999Z",
            "1970-01-01T00:00:00Z",
            "2026-11-20T20:49:00.000000001Z",
            "2026-11-20T20:49:00.000000002Z",
            "9999-12-30T00:00:00Z",
        ];
        let moments = times.map(|text| moment(text.parse().unwrap()));
        assert!(moments.is_sorted());
        assert!(moments.iter().all(|moment| moment.len() == 22));
    }
}
