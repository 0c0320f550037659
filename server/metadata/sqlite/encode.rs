//! Rows of SQLite as the target takes them, or the reasons why it cannot.

use std::borrow::Cow;

use rusqlite::Row;
use rusqlite::types::ValueRef;

use crate::metadata::fault::{Fault, Reason};
use crate::metadata::layout::{self, Layout};
use crate::metadata::reject::Reject;
use crate::metadata::request::Request;
use crate::metadata::rules::{Checks, Judgement};
use crate::metadata::stream::SourceBatch;
use crate::metadata::table::Kind;
use crate::metadata::tuple::{Batch, Encoding, Native};
use crate::model::time;

/// The earliest time of PostgreSQL, 4713 BC, in microseconds since 1970.
const EARLIEST_MICROS: i64 = -210_866_803_200_000_000;

/// What is known of a column before its first value.
struct Rule {
    kind: Kind,
    is_key: bool,
    /// Characters that the target takes.
    max_length: Option<usize>,
    /// NUL bytes are removed from its text.
    strips_nul: bool,
}

impl Rule {
    fn all_of(layout: &Layout, checks: &Checks) -> Vec<Self> {
        let columns = layout.columns.iter().enumerate();
        let rules = columns.map(|(position, column)| Self {
            kind: column.kind,
            is_key: layout.primary_key.contains(&position),
            max_length: layout::max_length(&layout.name, &column.name),
            strips_nul: checks.strips(position),
        });
        rules.collect()
    }

    /// Appends the value, or says why it cannot go to the target.
    fn encode(
        &self,
        value: ValueRef<'_>,
        encoding: Encoding,
        out: &mut Batch,
    ) -> Result<(), Reason> {
        match (encoding, value) {
            // Such a row would be taken for a new one by every run.
            (_, ValueRef::Null) if self.is_key => Err(Reason::NullInKey),
            (Encoding::Native, value) => {
                out.native(native(value));
                Ok(())
            }
            // SQLite sorts bytes behind all text, where they would be looked for in vain.
            (Encoding::Binary, ValueRef::Blob(_)) if self.is_key => Err(Reason::BytesInKey),
            (Encoding::Binary, value) => match binary(value, self.kind, self.max_length, out) {
                Err(Reason::Nul) if self.strips_nul => {
                    let text = without_nul(value);
                    binary(ValueRef::Text(&text), self.kind, self.max_length, out)
                }
                encoded => encoded,
            },
        }
    }
}

/// How the rows of one table are judged.
pub struct Judge<'a> {
    request: &'a Request,
    checks: &'a Checks,
    rules: Vec<Rule>,
}

impl<'a> Judge<'a> {
    pub fn new(request: &'a Request, checks: &'a Checks) -> Self {
        Self {
            request,
            checks,
            rules: Rule::all_of(&request.layout, checks),
        }
    }
}

/// Appends the row to the batch, or to its rejects with the reasons.
pub fn encode(row: &Row<'_>, judge: &Judge<'_>, batch: &mut SourceBatch) -> rusqlite::Result<()> {
    let Judge {
        request,
        checks,
        rules,
    } = judge;
    if checks.has_references() {
        match standing(row, rules.len(), checks)? {
            Judgement::Fit => {}
            Judgement::Skipped => return Ok(()),
            Judgement::Unfit(faults) => return reject(row, judge, faults, batch),
        }
    }
    batch.rows.begin_row(rules.len());
    for (position, rule) in rules.iter().enumerate() {
        let value = row.get_ref(position)?;
        if rule
            .encode(value, request.encoding, &mut batch.rows)
            .is_err()
        {
            batch.rows.abandon_row();
            return reject(row, judge, Vec::new(), batch);
        }
    }
    let key = || batch.rows.open_row().project(&request.layout.primary_key);
    if let Some(fault) = checks.key_fault(key) {
        batch.rows.abandon_row();
        return reject(row, judge, vec![fault], batch);
    }
    batch.rows.end_row();
    Ok(())
}

/// The bytes of a text, or of bytes where a text belongs, without those that are zero.
fn without_nul(value: ValueRef<'_>) -> Vec<u8> {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            bytes.iter().copied().filter(|byte| *byte != 0).collect()
        }
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => Vec::new(),
    }
}

fn standing(row: &Row<'_>, columns: usize, checks: &Checks) -> rusqlite::Result<Judgement> {
    let values: Vec<ValueRef<'_>> = (0..columns)
        .map(|position| row.get_ref(position))
        .collect::<Result<_, _>>()?;
    Ok(checks.judge(|position| stored(values[position])))
}

/// The bytes by which rows refer to each other. `None` for NULL.
pub fn stored(value: ValueRef<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string().into_bytes().into()),
        ValueRef::Real(number) => Some(number.to_string().into_bytes().into()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.into()),
    }
}

/// Puts the row aside as it is stored, with all that its values have and the `others`.
fn reject(
    row: &Row<'_>,
    judge: &Judge<'_>,
    others: Vec<Fault>,
    batch: &mut SourceBatch,
) -> rusqlite::Result<()> {
    let layout = &judge.request.layout;
    let mut faults = Vec::new();
    let mut whole = Batch::default();
    whole.begin_row(layout.columns.len());
    for (position, (column, rule)) in layout.columns.iter().zip(&judge.rules).enumerate() {
        let value = row.get_ref(position)?;
        whole.native(native(value));
        let fault = |value| {
            let encoded = rule.encode(value, judge.request.encoding, &mut Batch::default());
            encoded.err().map(|reason| Fault {
                column: Some(column.name.clone()),
                reason,
            })
        };
        let found = fault(value);
        if found.as_ref().map(|found| &found.reason) == Some(&Reason::Nul) {
            // It may not be all that is wrong with the text.
            faults.extend(fault(ValueRef::Text(&without_nul(value))));
        }
        faults.extend(found);
    }
    whole.end_row();
    faults.extend(others);
    let reject = Reject::of(layout, whole.tuple(0), Encoding::Native, faults);
    batch.rejects.push(reject);
    Ok(())
}

fn native(value: ValueRef<'_>) -> Native<'_> {
    match value {
        ValueRef::Null => Native::Null,
        ValueRef::Integer(number) => Native::Integer(number),
        ValueRef::Real(number) => Native::Real(number),
        ValueRef::Text(bytes) => Native::Text(bytes),
        ValueRef::Blob(bytes) => Native::Blob(bytes),
    }
}

/// Encodes a value as its column's kind, or says why it is none.
///
/// What counts is the storage class of the value, not the type of the column: SQLite lets any
/// value into any column.
pub(in crate::metadata) fn binary(
    value: ValueRef<'_>,
    kind: Kind,
    max_length: Option<usize>,
    out: &mut Batch,
) -> Result<(), Reason> {
    match (kind, value) {
        (_, ValueRef::Null) => out.null(),
        (Kind::Text, ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
            out.field(checked_text(bytes, max_length)?);
        }
        (Kind::Text, ValueRef::Integer(number)) => out.field(number.to_string().as_bytes()),
        (Kind::Text, ValueRef::Real(_)) => return Err(Reason::FractionInText),
        (Kind::Bytes, ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => out.field(bytes),
        (Kind::Bytes, _) => return Err(Reason::NumberInBytes),
        (Kind::Integer, ValueRef::Integer(number)) => out.integer(number),
        (Kind::Integer, ValueRef::Real(number)) => {
            out.integer(whole(number).ok_or(Reason::NotWhole)?);
        }
        (Kind::Integer, _) => return Err(Reason::NoNumber),
        (Kind::Boolean, value) => {
            out.boolean(truth(value).ok_or(Reason::NoBoolean)?);
        }
        (Kind::Time, value) => {
            let micros = micros(value).ok_or(Reason::NoTime)?;
            if micros < EARLIEST_MICROS {
                return Err(Reason::TooEarly);
            }
            out.time(micros);
        }
        (Kind::Real, ValueRef::Real(number)) => out.real(number),
        (Kind::Real, ValueRef::Integer(number)) => {
            let real = number as f64;
            if real as i128 != i128::from(number) {
                return Err(Reason::NotExact);
            }
            out.real(real);
        }
        (Kind::Real, _) => return Err(Reason::NoNumber),
    }
    Ok(())
}

fn checked_text(bytes: &[u8], max_length: Option<usize>) -> Result<&[u8], Reason> {
    if memchr::memchr(0, bytes).is_some() {
        return Err(Reason::Nul);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Reason::NotUtf8)?;
    // No text has more characters than bytes.
    if max_length.is_some_and(|limit| bytes.len() > limit && text.chars().count() > limit) {
        return Err(Reason::TooLong);
    }
    Ok(bytes)
}

/// A floating point number as the integer it stands for, if it stands for exactly one.
fn whole(number: f64) -> Option<i64> {
    // 2^63 itself is out of range, and the largest double below it converts exactly.
    let range = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;
    (number.fract() == 0.0 && range.contains(&number)).then_some(number as i64)
}

fn truth(value: ValueRef<'_>) -> Option<bool> {
    match value {
        ValueRef::Integer(0) => Some(false),
        ValueRef::Integer(1) => Some(true),
        ValueRef::Real(0.0) => Some(false),
        ValueRef::Real(1.0) => Some(true),
        ValueRef::Text(text) if text.eq_ignore_ascii_case(b"false") => Some(false),
        ValueRef::Text(text) if text.eq_ignore_ascii_case(b"true") => Some(true),
        _ => None,
    }
}

fn micros(value: ValueRef<'_>) -> Option<i64> {
    let time = match value {
        ValueRef::Text(text) => match time::micros_as_written(text) {
            Some(micros) => return Some(micros),
            None => time::parse(std::str::from_utf8(text).ok()?),
        },
        ValueRef::Integer(number) => time::from_unix(number),
        _ => None,
    };
    time.map(time::to_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: ValueRef<'_>, kind: Kind) -> Result<Vec<u8>, Reason> {
        let mut batch = Batch::default();
        batch.begin_row(1);
        binary(value, kind, Some(4), &mut batch)?;
        batch.end_row();
        Ok(batch.tuple(0).field(0).unwrap_or(b"NULL").to_vec())
    }

    #[test]
    fn values_are_judged_by_what_they_are() {
        use ValueRef::{Blob, Integer, Null, Real, Text};
        assert_eq!(encoded(Null, Kind::Boolean).unwrap(), b"NULL");
        assert_eq!(
            encoded(Text("éé😀x".as_bytes()), Kind::Text).unwrap(),
            "éé😀x".as_bytes()
        );
        assert!(encoded(Text("éé😀xy".as_bytes()), Kind::Text).is_err());
        assert!(encoded(Text(b"x    "), Kind::Text).is_err());
        assert!(encoded(Text(b"a\0"), Kind::Text).is_err());
        assert!(encoded(Text(b"\xed\xa0\x80"), Kind::Text).is_err());
        assert_eq!(encoded(Blob(b"abc"), Kind::Text).unwrap(), b"abc");
        assert_eq!(
            encoded(Real(2.0), Kind::Integer).unwrap(),
            2_i64.to_be_bytes()
        );
        assert!(encoded(Real(2.5), Kind::Integer).is_err());
        assert!(encoded(Integer(1 << 53), Kind::Real).is_ok());
        for inexact in [(1 << 53) + 1, i64::MAX] {
            assert!(encoded(Integer(inexact), Kind::Real).is_err());
        }
        assert!(encoded(Real(9_223_372_036_854_775_808.0), Kind::Integer).is_err());
        assert!(encoded(Text(b"2"), Kind::Integer).is_err());
        assert_eq!(encoded(Text(b"TRUE"), Kind::Boolean).unwrap(), [1]);
        assert!(encoded(Integer(2), Kind::Boolean).is_err());
        assert!(encoded(Real(0.5), Kind::Boolean).is_err());
        assert!(encoded(Text(b""), Kind::Time).is_err());
        assert!(encoded(Real(2_460_000.5), Kind::Time).is_err());
        assert!(encoded(Text(b"-9999-01-01 00:00:00"), Kind::Time).is_err());
        let micros = encoded(Text(b"2000-01-01 02:00:00.000001999+02:00"), Kind::Time).unwrap();
        assert_eq!(micros, 1_i64.to_be_bytes());
        assert_eq!(
            encoded(Integer(946_684_801), Kind::Time).unwrap(),
            1_000_000_i64.to_be_bytes()
        );
    }
}
