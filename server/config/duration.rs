//! Durations as text: `30d`, `1w2d3h`, `1.5h`, or plain seconds.

use std::time::Duration;

/// What is wrong with a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
}

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 24 * 3600 * SECOND;

/// Units in nanoseconds, as every duration accepts them.
const CLOCK: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    // The micro sign and the Greek letter look the same.
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

/// Units that only settings have.
const CALENDAR: &[(&str, i128)] = &[("d", DAY), ("w", 7 * DAY)];

/// Whole seconds of a duration: an integer of seconds, or numbers with units from `ns` to `w`.
/// Anything negative is -1, and a part of a second is cut.
pub fn parse_seconds(text: &str) -> Result<i64, DurationError> {
    let seconds = match text.parse::<i64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let nanoseconds = nanoseconds(text, &[CLOCK, CALENDAR])?;
            // Rounding down keeps half a second below zero negative.
            i64::try_from(nanoseconds.div_euclid(SECOND))
                .map_err(|_| DurationError::Invalid(text.to_owned()))?
        }
    };
    Ok(seconds.max(-1))
}

/// A duration with units from `ns` to `h`, none of them optional except in `0`.
pub fn parse_clock(text: &str) -> Result<Duration, DurationError> {
    if matches!(text, "0" | "+0" | "-0") {
        return Ok(Duration::ZERO);
    }
    let nanoseconds = nanoseconds(text, &[CLOCK])?;
    u64::try_from(nanoseconds)
        .map(Duration::from_nanos)
        .map_err(|_| DurationError::Invalid(text.to_owned()))
}

fn nanoseconds(text: &str, units: &[&[(&str, i128)]]) -> Result<i128, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut sum: i128 = 0;
    while !rest.is_empty() {
        let number = leading(rest, |c| c.is_ascii_digit() || c == '.');
        rest = &rest[number.len()..];
        let unit = leading(rest, |c| !c.is_ascii_digit() && c != '.');
        rest = &rest[unit.len()..];
        let (whole, fraction) = decimal(number).ok_or_else(invalid)?;
        let length = length_of(unit, units, text)?;
        let part = fraction.parse::<i128>().map_or(0, |digits| {
            digits * length / 10i128.pow(fraction.len() as u32)
        });
        sum = whole
            .checked_mul(length)
            .and_then(|product| sum.checked_add(product)?.checked_add(part))
            // 292 years, the longest that 64 bits of nanoseconds hold.
            .filter(|sum| *sum <= i128::from(i64::MAX))
            .ok_or_else(invalid)?;
    }
    Ok(if negative { -sum } else { sum })
}

fn length_of(unit: &str, units: &[&[(&str, i128)]], text: &str) -> Result<i128, DurationError> {
    if unit.is_empty() {
        return Err(DurationError::MissingUnit(text.to_owned()));
    }
    let known = units.iter().copied().flatten();
    known
        .into_iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, length)| *length)
        .ok_or_else(|| DurationError::UnknownUnit {
            unit: unit.to_owned(),
            text: text.to_owned(),
        })
}

/// The whole number and the digits of the fraction, at most fifteen of them.
fn decimal(number: &str) -> Option<(i128, &str)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    Some((whole, &fraction[..fraction.len().min(15)]))
}

fn leading(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_seconds_or_numbers_with_units() {
        for (text, seconds) in [
            ("0", 0),
            ("3600", 3600),
            ("+7", 7),
            ("-1", -1),
            ("-300", -1),
            ("30d", 2_592_000),
            ("1w2d3h", 788_400),
            ("1.5d", 129_600),
            (".5h", 1800),
            ("1h30m", 5400),
            ("1500ms", 1),
            ("999999us", 0),
            ("2000000\u{b5}s", 2),
            ("2000000\u{3bc}s", 2),
            ("3000000000ns", 3),
            ("-1h", -1),
            ("-500ms", -1),
            ("365d", 31_536_000),
        ] {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn anything_else_says_what_is_wrong_with_it() {
        for (text, message) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("unlimited", "time: invalid duration \"unlimited\""),
            ("1.5", "time: missing unit in duration \"1.5\""),
            ("1h30", "time: missing unit in duration \"1h30\""),
            ("1..5h", "time: invalid duration \"1..5h\""),
            (".h", "time: invalid duration \".h\""),
            ("1y", "time: unknown unit \"y\" in duration \"1y\""),
            ("1D", "time: unknown unit \"D\" in duration \"1D\""),
            ("1h 2m", "time: unknown unit \"h \" in duration \"1h 2m\""),
            ("300000w", "time: invalid duration \"300000w\""),
        ] {
            let error = parse_seconds(text).unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
        }
    }

    #[test]
    fn clock_durations_know_neither_days_nor_bare_seconds() {
        assert_eq!(parse_clock("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_clock("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_clock("0"), Ok(Duration::ZERO));
        for text in ["1d", "5", "-1s"] {
            assert!(parse_clock(text).is_err(), "{text}");
        }
    }
}
