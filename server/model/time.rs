//! Times as Plik's SQLite databases hold them: text, in several forms.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};

/// Integers above this are milliseconds since 1970, below it seconds.
const LARGEST_SECONDS: i64 = 1_000_000_000_000;

/// Reads a time in any form that Plik (Go) reads: `2024-05-06 07:08:09.5+02:00`, with `T` in place
/// of the space, without offset (then UTC), without seconds, without time; one `Z` at the end is
/// ignored. `None` for anything else.
pub fn parse(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, rest) = split_date(text)?;
    if rest.is_empty() {
        return instant(DateTime::from_parts(date, Time::midnight()), Offset::UTC);
    }
    let clock = rest.strip_prefix([' ', 'T'])?;
    // The offset is the last six bytes, `±hh:mm`, and only a clock with seconds may carry one.
    let (clock, offset) = match clock.len().checked_sub(6) {
        Some(at) if at >= 8 && matches!(clock.as_bytes()[at], b'+' | b'-') => {
            (&clock[..at], parse_offset(&clock[at..])?)
        }
        _ => (clock, Offset::UTC),
    };
    instant(DateTime::from_parts(date, parse_clock(clock)?), offset)
}

/// `to_micros(parse(text))` of the form that [`write()`] has, many times faster; `None` for any
/// other form, which may be a time all the same.
pub fn micros_as_written(text: &[u8]) -> Option<i64> {
    const FRACTION: usize = 19;
    let (clock, rest) = text.split_at_checked(FRACTION)?;
    let (fraction, offset) = rest.split_at_checked(rest.len().checked_sub(6)?)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| clock[*at] != *byte) || offset[3] != b':' {
        return None;
    }
    let (year, month, day) = (
        number(&clock[..4])?,
        number(&clock[5..7])?,
        number(&clock[8..10])?,
    );
    let (hour, minute, second) = (
        number(&clock[11..13])?,
        number(&clock[14..16])?,
        number(&clock[17..19])?,
    );
    let (hours, minutes) = (number(&offset[1..3])?, number(&offset[4..])?);
    // Far from where a date in one zone has no instant.
    let date = (1..=9998).contains(&year) && (1..=12).contains(&month);
    let clock = hour < 24 && minute < 60 && second < 60 && hours < 24 && minutes < 60;
    if !date || !clock || day == 0 || day > days_of(year, month) {
        return None;
    }
    let offset = match offset[0] {
        b'+' => i64::from(hours * 60 + minutes),
        b'-' => -i64::from(hours * 60 + minutes),
        _ => return None,
    };
    let minutes = (days_since_1970(year, month, day) * 24 + i64::from(hour)) * 60;
    let seconds = (minutes + i64::from(minute) - offset) * 60 + i64::from(second);
    Some(seconds * 1_000_000 + micros_of_fraction(fraction)?)
}

/// Whole microseconds of `.f`, with one to nine digits, or of nothing.
fn micros_of_fraction(fraction: &[u8]) -> Option<i64> {
    match fraction {
        [] => Some(0),
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => {
            let nanoseconds = number(digits)? * 10_u32.pow(9 - digits.len() as u32);
            Some(i64::from(nanoseconds / 1000))
        }
        _ => None,
    }
}

fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Of a date of the Gregorian calendar, whose years are counted from March here, so that a leap
/// day is a year's last.
fn days_since_1970(year: u32, month: u32, day: u32) -> i64 {
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    i64::from(days) - 719_468
}

/// Reads a time stored as an integer: Unix seconds, or milliseconds beyond 10^12.
pub fn from_unix(number: i64) -> Option<Timestamp> {
    if number.unsigned_abs() > LARGEST_SECONDS.unsigned_abs() {
        Timestamp::from_millisecond(number).ok()
    } else {
        Timestamp::from_second(number).ok()
    }
}

/// Appends `time` in the form Plik (Go) writes: `2024-05-06 07:08:09.5+02:00`, in `zone`.
///
/// Plik (Go) compares this text with its own clock's, so `zone` must be the server's. An offset
/// with seconds, as before standard time, has no text form; such a time is written in UTC.
pub fn write(time: Timestamp, zone: &TimeZone, out: &mut String) {
    let offset = match zone.to_offset(time) {
        offset if offset.seconds() % 60 == 0 => offset,
        _ => Offset::UTC,
    };
    let civil = offset.to_datetime(time);
    match u32::try_from(civil.year()) {
        Ok(year) => digits(year, 4, out),
        Err(_) => {
            let _ = write!(out, "{:04}", civil.year());
        }
    }
    let rest = [
        ('-', civil.month()),
        ('-', civil.day()),
        (' ', civil.hour()),
        (':', civil.minute()),
        (':', civil.second()),
    ];
    for (separator, number) in rest {
        out.push(separator);
        digits(u32::from(number.unsigned_abs()), 2, out);
    }
    fraction(civil.subsec_nanosecond().unsigned_abs(), out);
    let minutes = offset.seconds() / 60;
    out.push(if minutes < 0 { '-' } else { '+' });
    digits(minutes.unsigned_abs() / 60, 2, out);
    out.push(':');
    digits(minutes.unsigned_abs() % 60, 2, out);
}

/// Appends `.` and the nanoseconds without the zeros at their end, or nothing.
fn fraction(mut nanoseconds: u32, out: &mut String) {
    if nanoseconds == 0 {
        return;
    }
    let mut width = 9;
    while nanoseconds.is_multiple_of(10) {
        nanoseconds /= 10;
        width -= 1;
    }
    out.push('.');
    digits(nanoseconds, width, out);
}

/// Appends a number with zeros in front. By hand: a migration writes millions of times, and the
/// machinery of `write!` takes ten times as long.
fn digits(number: u32, width: u32, out: &mut String) {
    for place in (0..width).rev() {
        let digit = number / 10_u32.pow(place) % 10;
        out.push(char::from(b'0' + digit as u8));
    }
}

/// [`write()`] into a new string.
pub fn format(time: Timestamp, zone: &TimeZone) -> String {
    let mut out = String::with_capacity(35);
    write(time, zone, &mut out);
    out
}

/// Microseconds since 1970, the precision of PostgreSQL: a part of a microsecond is cut, never
/// rounded up, as Plik (Go)'s driver does.
pub fn to_micros(time: Timestamp) -> i64 {
    // The range of `Timestamp`, ±10^13 seconds, fits an i64 of microseconds.
    time.as_nanosecond().div_euclid(1000) as i64
}

fn instant(civil: DateTime, offset: Offset) -> Option<Timestamp> {
    offset.to_timestamp(civil).ok()
}

fn split_date(text: &str) -> Option<(Date, &str)> {
    let bytes = text.as_bytes();
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' || !text.is_char_boundary(10) {
        return None;
    }
    let date = Date::new(
        number(&bytes[..4])? as i16,
        number(&bytes[5..7])? as i8,
        number(&bytes[8..10])? as i8,
    );
    Some((date.ok()?, &text[10..]))
}

/// `hh:mm`, `hh:mm:ss` or `hh:mm:ss.f`, with one to nine digits of fraction.
fn parse_clock(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    if bytes.len() < 5 || bytes[2] != b':' {
        return None;
    }
    let (hour, minute) = (number(&bytes[..2])?, number(&bytes[3..5])?);
    let (second, nanosecond) = match &bytes[5..] {
        [] => (0, 0),
        [b':', tens, units] => (number(&[*tens, *units])?, 0),
        [b':', tens, units, b'.', fraction @ ..] if (1..=9).contains(&fraction.len()) => {
            let scale = 10_u32.pow(9 - fraction.len() as u32);
            (number(&[*tens, *units])?, number(fraction)? * scale)
        }
        _ => return None,
    };
    Time::new(hour as i8, minute as i8, second as i8, nanosecond as i32).ok()
}

fn parse_offset(text: &str) -> Option<Offset> {
    let bytes = text.as_bytes();
    if bytes.len() != 6 || bytes[3] != b':' {
        return None;
    }
    let (hours, minutes) = (number(&bytes[1..3])?, number(&bytes[4..6])?);
    if minutes > 59 {
        return None;
    }
    let seconds = (hours * 3600 + minutes * 60) as i32;
    Offset::from_seconds(if bytes[0] == b'-' { -seconds } else { seconds }).ok()
}

/// Decimal digits and nothing else; at most nine, so it fits.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_of_plik_go_is_read() {
        for (text, expected) in [
            (
                "2026-11-20 15:48:52.223437479-05:00",
                "2026-11-20T20:48:52.223437479Z",
            ),
            ("2000-01-01 00:00:00+00:00", "2000-01-01T00:00:00Z"),
            ("2024-05-06T07:08:09.5+02:00", "2024-05-06T05:08:09.5Z"),
            ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09Z"),
            ("2024-05-06 07:08:09", "2024-05-06T07:08:09Z"),
            ("2024-05-06 07:08:09.123", "2024-05-06T07:08:09.123Z"),
            ("2024-05-06 07:08", "2024-05-06T07:08:00Z"),
            ("2024-05-06T07:08", "2024-05-06T07:08:00Z"),
            ("2024-05-06", "2024-05-06T00:00:00Z"),
            ("0001-01-01 00:00:00+00:00", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(parse(text), Some(utc(expected)), "{text}");
        }
    }

    #[test]
    fn what_plik_go_cannot_read_is_no_time() {
        for text in [
            "",
            "2024",
            "2024-05-06 07:08:09.1+0200",
            "2024-05-06 07:08:09 +02:00",
            "2024-05-06 07:08:09 CEST",
            "2024-05-06t07:08:09",
            "2024-05-06 07:08:09z",
            "2024-13-06 07:08:09",
            "2024-05-06 25:08:09",
            "2024-05-06 07:08+02:00",
            "2024-05-06 07:08:09.1234567891",
            "2024-05-06 07:08:09.",
            "2024-05-06 07:08:09+02:60",
            "愛024-05-06 07:08:09",
            "2024-05-06愛",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn integers_are_seconds_or_milliseconds() {
        assert_eq!(from_unix(1_704_164_645), Some(utc("2024-01-02T03:04:05Z")));
        assert_eq!(
            from_unix(1_704_164_645_500),
            Some(utc("2024-01-02T03:04:05.5Z"))
        );
        assert_eq!(from_unix(i64::MAX), None);
    }

    #[test]
    fn times_are_written_in_the_zone_of_the_server() {
        let zone = TimeZone::fixed(jiff::tz::offset(-5));
        let text = "2026-11-20 15:48:52.2234-05:00";
        assert_eq!(format(parse(text).unwrap(), &zone), text);
        let whole = "2026-11-20 15:48:52-05:00";
        assert_eq!(format(parse(whole).unwrap(), &zone), whole);
        assert_eq!(
            format(utc("0001-01-01T00:00:00Z"), &TimeZone::UTC),
            "0001-01-01 00:00:00+00:00"
        );
        let half = TimeZone::fixed(Offset::from_seconds(-(3 * 3600 + 1800)).unwrap());
        assert_eq!(
            format(utc("2024-01-01T00:00:00Z"), &half),
            "2023-12-31 20:30:00-03:30"
        );
    }

    #[test]
    fn every_time_is_written_as_its_parts_are() {
        for zone in [TimeZone::UTC, TimeZone::fixed(jiff::tz::offset(-11))] {
            for nanoseconds in [0, 1, 10, 123_456_789, 500_000_000, 999_999_990] {
                for seconds in [-62_135_596_800, -1, 0, 1_709_164_800, 253_402_100_000] {
                    let time = Timestamp::new(seconds, nanoseconds).unwrap();
                    let civil = zone.to_datetime(time);
                    let hours = if zone == TimeZone::UTC {
                        "+00:00"
                    } else {
                        "-11:00"
                    };
                    let expected = format!("{}{hours}", civil.to_string().replace('T', " "));
                    assert_eq!(format(time, &zone), expected);
                    assert_eq!(parse(&format(time, &zone)), Some(time));
                }
            }
        }
    }

    #[test]
    fn the_fast_way_reads_what_the_other_reads() {
        let mut found = 0;
        for year in [1, 1900, 1969, 1970, 1996, 2000, 2023, 2024, 2100, 9998] {
            for month in 0..=13 {
                for day in [0, 1, 15, 28, 29, 30, 31, 32] {
                    let date = format!("{year:04}-{month:02}-{day:02}");
                    for rest in [
                        " 00:00:00+00:00",
                        " 23:59:59.999999999-23:59",
                        " 12:34:56.1+05:30",
                        " 24:00:00+00:00",
                        " 12:60:00+00:00",
                        " 12:34:60+00:00",
                        " 12:34:56+00:60",
                        " 12:34:56.+01:00",
                        " 12:34:56.1234567890+01:00",
                        " 12:34:56.12 4+01:00",
                    ] {
                        let text = format!("{date}{rest}");
                        let fast = micros_as_written(text.as_bytes());
                        assert_eq!(fast, parse(&text).map(to_micros), "{text}");
                        found += usize::from(fast.is_some());
                    }
                }
            }
        }
        assert!(found > 1000, "{found}");
    }

    #[test]
    fn the_fast_way_leaves_other_forms_to_the_other() {
        for text in [
            "",
            "2024-05-06",
            "2024-05-06T07:08:09+00:00",
            "2024-05-06 07:08:09",
            "2024-05-06 07:08:09Z",
            "2024-05-06 07:08:09*00:00",
            "0000-05-06 07:08:09+00:00",
            "9999-12-31 23:59:59-12:00",
            "2024-05-06 07:08:09+24:00",
        ] {
            assert_eq!(micros_as_written(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_offset_with_seconds_is_written_in_utc() {
        let zone = TimeZone::fixed(Offset::from_seconds(561).unwrap());
        assert_eq!(
            format(utc("0001-01-01T00:00:00Z"), &zone),
            "0001-01-01 00:00:00+00:00"
        );
    }

    #[test]
    fn microseconds_are_cut_also_before_1970() {
        assert_eq!(to_micros(utc("1970-01-01T00:00:00.0000019Z")), 1);
        assert_eq!(to_micros(utc("1969-12-31T23:59:59.9999991Z")), -1);
    }
}
