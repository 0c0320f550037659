//! Values of a column: ordinary ones, odd ones that mean something, and ones that no type holds.

use rusqlite::types::Value;

use super::random::Random;
use super::times::{odd_time, time};
use super::{Cell, Fate};
use crate::plain::{Kind, Plain};

pub(super) fn holds(stored: Value, plain: Plain) -> Cell {
    let fate = Fate::Holds(plain);
    Cell { stored, fate }
}

pub(super) fn refuse(stored: Value) -> Cell {
    let fate = Fate::Refused;
    Cell { stored, fate }
}

pub(super) fn text(text: &str) -> Cell {
    holds(Value::Text(text.into()), Plain::Text(text.into()))
}

pub(super) fn ordinary(random: &mut Random, kind: Kind) -> Cell {
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

pub(super) fn integer(number: i64) -> Cell {
    holds(Value::Integer(number), Plain::Integer(number))
}

pub(super) fn real(number: f64) -> Cell {
    holds(Value::Real(number), Plain::Real(number.to_bits()))
}

pub(super) fn boolean(stored: impl Fn(i64) -> Value, number: u64) -> Cell {
    holds(stored(number as i64), Plain::Boolean(number == 1))
}

/// What no typed column of that kind can hold.
pub(super) fn refused(random: &mut Random, kind: Kind, limit: Option<usize>) -> Cell {
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
pub(super) const BROKEN_TEXT: &[u8] = b"|\xed\xa0\xbd|\xed\xb8\x80|\xc0\x80|\xf0\x9f\x98";

/// Bytes to be stored as text.
pub(super) fn broken(tag: &str) -> Value {
    Value::Blob([tag.as_bytes(), BROKEN_TEXT].concat())
}

/// What nobody expects and means something all the same.
pub(super) fn odd(random: &mut Random, kind: Kind, limit: Option<usize>, indexed: bool) -> Cell {
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

pub(super) fn odd_text(random: &mut Random, limit: Option<usize>, indexed: bool) -> Cell {
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
