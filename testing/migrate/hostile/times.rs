//! Instants in every form in which a database may hold them.

use jiff::Timestamp;
use jiff::tz::Offset;
use rusqlite::types::Value;

use super::Cell;
use super::random::Random;
use super::values::holds;
use crate::plain::Plain;

/// An instant so many seconds around another, in a form of [`written`].
pub(super) fn time(random: &mut Random, middle: i64, around: u64) -> Cell {
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

pub(super) fn odd_time(random: &mut Random) -> Cell {
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

pub(super) fn shown(form: &str, micros: i64) -> Cell {
    holds(Value::Text(form.into()), Plain::Time(micros))
}

pub(super) fn written(nanoseconds: i64, offset: i32, digits: usize, separator: char) -> String {
    written_wide(i128::from(nanoseconds), offset, digits, separator)
}

/// An instant as `2024-05-06 07:08:09.5+02:00`, with so many digits behind the point.
pub(super) fn written_wide(
    nanoseconds: i128,
    offset: i32,
    digits: usize,
    separator: char,
) -> String {
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
