//! Rows on their way between two databases: the tuple format of PostgreSQL's binary COPY.
//!
//! A tuple is the number of fields (16 bits), then each field as its length (32 bits, -1 for NULL)
//! and its bytes, all big-endian. A reader encodes straight from what its database hands out, and
//! PostgreSQL takes the bytes as they are, so nothing is allocated per value.

use std::cmp::Ordering;

use super::table::Kind;
use crate::model::time;

/// How the bytes inside a field are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As PostgreSQL's binary format of the column's kind: what both engines can hold.
    Binary,
    /// A SQLite storage class (one byte) and its value: exact, whatever the column is declared to
    /// hold. Only between two SQLite databases.
    Native,
}

/// Microseconds from 1970 to 2000, where PostgreSQL's clock starts.
pub const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Tags of [`Encoding::Native`].
const INTEGER: u8 = b'i';
const REAL: u8 = b'r';
const TEXT: u8 = b't';
const BLOB: u8 = b'b';

/// Rows of one table, in key order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each tuple ends in `bytes`.
    ends: Vec<usize>,
}

impl Batch {
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::new(),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All tuples, one after another, without header and trailer.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// [`Batch::as_bytes`], without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The bytes of the tuples `rows`.
    pub fn slice(&self, rows: std::ops::Range<usize>) -> &[u8] {
        &self.bytes[self.start_of(rows.start)..self.start_of(rows.end)]
    }

    /// Row number `row`, counted from 0.
    pub fn tuple(&self, row: usize) -> Tuple<'_> {
        Tuple::new(self.slice(row..row + 1))
    }

    pub fn iter(&self) -> impl Iterator<Item = Tuple<'_>> {
        (0..self.len()).map(|row| self.tuple(row))
    }

    /// Starts a row of `fields` fields, each of which must follow before [`Batch::end_row`].
    pub fn begin_row(&mut self, fields: usize) {
        // A table has at most 1,600 columns in PostgreSQL and 2,000 in SQLite.
        self.bytes.extend_from_slice(&(fields as i16).to_be_bytes());
    }

    pub fn end_row(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// Forgets a row that was begun and not ended.
    pub fn abandon_row(&mut self) {
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// The fields so far of a row that was begun and not ended.
    pub fn open_row(&self) -> Tuple<'_> {
        Tuple::new(&self.bytes[self.ends.last().copied().unwrap_or(0)..])
    }

    /// Appends a whole tuple, as a database sent it.
    pub fn push_tuple(&mut self, tuple: &[u8]) {
        self.bytes.extend_from_slice(tuple);
        self.end_row();
    }

    /// Appends a row with the text of one field replaced.
    pub fn push_replacing(
        &mut self,
        tuple: Tuple<'_>,
        column: usize,
        text: &str,
        encoding: Encoding,
    ) {
        self.begin_row(tuple.fields().count());
        for (position, value) in tuple.fields().enumerate() {
            match (value, encoding) {
                (_, Encoding::Binary) if position == column => self.field(text.as_bytes()),
                (_, Encoding::Native) if position == column => {
                    self.native(Native::Text(text.as_bytes()));
                }
                (Some(bytes), _) => self.field(bytes),
                (None, _) => self.null(),
            }
        }
        self.end_row();
    }

    pub fn null(&mut self) {
        self.bytes.extend_from_slice(&(-1_i32).to_be_bytes());
    }

    /// A field of bytes: text, or anything already encoded.
    pub fn field(&mut self, bytes: &[u8]) {
        // Both databases stop at 1 GB per value.
        self.bytes
            .extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    pub fn integer(&mut self, value: i64) {
        self.field(&value.to_be_bytes());
    }

    pub fn real(&mut self, value: f64) {
        self.field(&value.to_be_bytes());
    }

    pub fn boolean(&mut self, value: bool) {
        self.field(&[u8::from(value)]);
    }

    /// An instant, in microseconds since 1970.
    pub fn time(&mut self, micros: i64) {
        self.integer(micros - POSTGRES_EPOCH_MICROS);
    }

    pub fn native(&mut self, value: Native<'_>) {
        match value {
            Native::Null => self.null(),
            Native::Integer(value) => self.tagged(INTEGER, &value.to_be_bytes()),
            Native::Real(value) => self.tagged(REAL, &value.to_be_bytes()),
            Native::Text(bytes) => self.tagged(TEXT, bytes),
            Native::Blob(bytes) => self.tagged(BLOB, bytes),
        }
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.bytes
            .extend_from_slice(&(bytes.len() as i32 + 1).to_be_bytes());
        self.bytes.push(tag);
        self.bytes.extend_from_slice(bytes);
    }

    fn start_of(&self, row: usize) -> usize {
        match row {
            0 => 0,
            row => self.ends[row - 1],
        }
    }
}

/// A value by its SQLite storage class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Native<'a> {
    Null,
    Integer(i64),
    Real(f64),
    /// Whatever bytes the database holds as text; not always UTF-8.
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

impl<'a> Native<'a> {
    /// Reads a field of [`Encoding::Native`]. `None` if it is none.
    pub fn decode(field: Option<&'a [u8]>) -> Option<Self> {
        let Some(field) = field else {
            return Some(Self::Null);
        };
        let (tag, bytes) = field.split_first()?;
        match *tag {
            INTEGER => Some(Self::Integer(i64::from_be_bytes(bytes.try_into().ok()?))),
            REAL => Some(Self::Real(f64::from_be_bytes(bytes.try_into().ok()?))),
            TEXT => Some(Self::Text(bytes)),
            BLOB => Some(Self::Blob(bytes)),
            _ => None,
        }
    }
}

/// One encoded row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple<'a>(&'a [u8]);

impl<'a> Tuple<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The fields in order, NULL as `None`. Ends early at the first field that is cut short.
    pub fn fields(self) -> Fields<'a> {
        Fields {
            rest: self.0.get(2..).unwrap_or_default(),
        }
    }

    /// Field number `column`, counted from 0.
    pub fn field(self, column: usize) -> Option<&'a [u8]> {
        self.fields().nth(column).flatten()
    }

    /// The fields `columns` as a tuple of their own: the key of the row.
    pub fn project(self, columns: &[usize]) -> Vec<u8> {
        let mut key = Batch::default();
        key.begin_row(columns.len());
        for column in columns {
            match self.field(*column) {
                Some(bytes) => key.field(bytes),
                None => key.null(),
            }
        }
        key.bytes
    }

    /// Appends the encoded fields but those at `skipped`.
    pub fn append_without(self, skipped: &[usize], bytes: &mut Vec<u8>) {
        let mut rest = self.0.get(2..).unwrap_or_default();
        let mut column = 0;
        while let Some(length) = rest.first_chunk::<4>() {
            let length = 4 + usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            let Some((field, behind)) = rest.split_at_checked(length) else {
                return;
            };
            if !skipped.contains(&column) {
                bytes.extend_from_slice(field);
            }
            rest = behind;
            column += 1;
        }
    }
}

/// See [`Tuple::fields`].
#[derive(Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.rest = rest;
            return Some(None);
        };
        let (field, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Some(field))
    }
}

/// The text of a field, whichever encoding it has. `None` for NULL and for what is no text.
pub fn text_of(field: Option<&[u8]>, encoding: Encoding) -> Option<String> {
    match encoding {
        Encoding::Binary => field.map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
        Encoding::Native => match Native::decode(field)? {
            Native::Text(bytes) | Native::Blob(bytes) => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
            Native::Integer(number) => Some(number.to_string()),
            Native::Real(number) => Some(number.to_string()),
            Native::Null => None,
        },
    }
}

/// The number in a field, whichever encoding it has. `None` for NULL and for what is no number.
pub fn integer_of(field: Option<&[u8]>, encoding: Encoding) -> Option<i64> {
    match encoding {
        Encoding::Binary => Some(i64::from_be_bytes(field?.try_into().ok()?)),
        Encoding::Native => match Native::decode(field)? {
            Native::Integer(number) => Some(number),
            _ => None,
        },
    }
}

/// The fields of a key for a person to read.
pub fn display_fields(key: Tuple<'_>, kinds: &[Kind], encoding: Encoding) -> Vec<String> {
    let shown = key
        .fields()
        .zip(kinds)
        .map(|(field, kind)| match (kind, encoding) {
            (Kind::Time, Encoding::Binary) => integer_of(field, encoding)
                .and_then(|micros| micros.checked_add(POSTGRES_EPOCH_MICROS))
                .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
                .map_or_else(|| "NULL".to_owned(), |time| time.to_string()),
            (Kind::Integer, Encoding::Binary) => {
                integer_of(field, encoding).map_or_else(|| "NULL".to_owned(), |n| n.to_string())
            }
            _ => text_of(field, encoding).unwrap_or_else(|| "NULL".to_owned()),
        });
    shown.collect()
}

/// How two keys of one table are ordered: as the readers of both engines order them.
pub fn order_of(a: Tuple<'_>, b: Tuple<'_>, kinds: &[Kind], encoding: Encoding) -> Ordering {
    let fields = a.fields().zip(b.fields()).zip(kinds);
    let mut orders = fields.map(|((a, b), kind)| match (*kind, encoding) {
        (Kind::Integer | Kind::Time, Encoding::Binary) => {
            integer_of(a, encoding).cmp(&integer_of(b, encoding))
        }
        (Kind::Time, Encoding::Native) => native_time(a).cmp(&native_time(b)),
        (_, Encoding::Native) => native_order(a, b),
        _ => a.cmp(&b),
    });
    orders
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// As SQLite orders values whatever their column: NULL, numbers, text, bytes.
fn native_order(a: Option<&[u8]>, b: Option<&[u8]>) -> Ordering {
    use Native::{Blob, Integer, Null, Real, Text};
    let class = |value| match value {
        None | Some(Null) => 0,
        Some(Integer(_) | Real(_)) => 1,
        Some(Text(_)) => 2,
        Some(Blob(_)) => 3,
    };
    match (Native::decode(a), Native::decode(b)) {
        (Some(Integer(a)), Some(Integer(b))) => a.cmp(&b),
        (Some(Real(a)), Some(Real(b))) => a.total_cmp(&b),
        (Some(Integer(a)), Some(Real(b))) => (a as f64).total_cmp(&b),
        (Some(Real(a)), Some(Integer(b))) => a.total_cmp(&(b as f64)),
        (Some(Text(a)), Some(Text(b))) | (Some(Blob(a)), Some(Blob(b))) => a.cmp(b),
        (a, b) => class(a).cmp(&class(b)),
    }
}

fn native_time(field: Option<&[u8]>) -> Option<i64> {
    let time = match Native::decode(field)? {
        Native::Text(text) => time::parse(std::str::from_utf8(text).ok()?)?,
        Native::Integer(number) => time::from_unix(number)?,
        _ => return None,
    };
    Some(time::to_micros(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let mut batch = Batch::default();
        batch.begin_row(3);
        batch.field(b"id");
        batch.null();
        batch.integer(42);
        batch.end_row();
        batch.begin_row(3);
        batch.native(Native::Text(b"\xff"));
        batch.native(Native::Null);
        batch.native(Native::Real(0.5));
        batch.end_row();
        batch
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let batch = batch();
        assert_eq!(batch.len(), 2);
        let first: Vec<_> = batch.tuple(0).fields().collect();
        assert_eq!(
            first,
            [Some(&b"id"[..]), None, Some(&42_i64.to_be_bytes()[..])]
        );
        let second: Vec<_> = batch.tuple(1).fields().map(Native::decode).collect();
        assert_eq!(
            second,
            [
                Some(Native::Text(b"\xff")),
                Some(Native::Null),
                Some(Native::Real(0.5))
            ]
        );
    }

    #[test]
    fn the_layout_is_that_of_binary_copy() {
        let mut batch = Batch::default();
        batch.begin_row(2);
        batch.field(b"a");
        batch.null();
        batch.end_row();
        assert_eq!(batch.as_bytes(), b"\0\x02\0\0\0\x01a\xff\xff\xff\xff");
    }

    #[test]
    fn an_abandoned_row_leaves_no_trace() {
        let mut batch = batch();
        let before = batch.as_bytes().to_vec();
        batch.begin_row(3);
        batch.field(b"half");
        batch.abandon_row();
        assert_eq!((batch.as_bytes(), batch.len()), (&before[..], 2));
    }

    #[test]
    fn one_field_is_replaced() {
        let batch = batch();
        let mut other = Batch::default();
        other.push_replacing(batch.tuple(0), 1, "new", Encoding::Binary);
        let fields: Vec<_> = other.tuple(0).fields().collect();
        assert_eq!(
            fields,
            [
                Some(&b"id"[..]),
                Some(b"new"),
                Some(&42_i64.to_be_bytes()[..])
            ]
        );
    }

    #[test]
    fn keys_are_projected_and_shown() {
        let batch = batch();
        let key = batch.tuple(0).project(&[2, 0, 1]);
        let kinds = [Kind::Integer, Kind::Text, Kind::Text];
        assert_eq!(
            display_fields(Tuple::new(&key), &kinds, Encoding::Binary),
            ["42", "id", "NULL"]
        );
        let key = batch.tuple(1).project(&[2]);
        assert_eq!(
            display_fields(Tuple::new(&key), &[Kind::Text], Encoding::Native),
            ["0.5"]
        );
    }

    #[test]
    fn fields_are_left_out() {
        let batch = batch();
        let row = batch.tuple(0);
        let (mut all, mut some) = (Vec::new(), Vec::new());
        row.append_without(&[], &mut all);
        assert_eq!(all, row.as_bytes()[2..]);
        row.append_without(&[1], &mut some);
        assert_eq!(some, row.project(&[0, 2])[2..]);
    }

    #[test]
    fn keys_are_ordered_as_they_are_read() {
        let key = |number: i64, text: &[u8]| {
            let mut key = Batch::default();
            key.begin_row(2);
            key.integer(number);
            key.field(text);
            key.end_row();
            key.as_bytes().to_vec()
        };
        let kinds = [Kind::Integer, Kind::Text];
        let order =
            |a: &[u8], b: &[u8]| order_of(Tuple::new(a), Tuple::new(b), &kinds, Encoding::Binary);
        assert_eq!(order(&key(-1, b"b"), &key(1, b"a")), Ordering::Less);
        assert_eq!(order(&key(1, b"b"), &key(1, b"ab")), Ordering::Greater);
        assert_eq!(order(&key(1, b"b"), &key(1, b"b")), Ordering::Equal);
    }

    #[test]
    fn native_keys_are_ordered_by_storage_class_first() {
        let values = [
            Native::Null,
            Native::Integer(-2),
            Native::Real(1.5),
            Native::Integer(2),
            Native::Text(b""),
            Native::Text(b"B"),
            Native::Text(b"a"),
            Native::Blob(b""),
            Native::Blob(b"a"),
        ];
        let key = |value| {
            let mut key = Batch::default();
            key.begin_row(1);
            key.native(value);
            key.end_row();
            key.as_bytes().to_vec()
        };
        for (one, a) in values.into_iter().enumerate() {
            for (other, b) in values.into_iter().enumerate() {
                let (a, b) = (key(a), key(b));
                let order = order_of(
                    Tuple::new(&a),
                    Tuple::new(&b),
                    &[Kind::Text],
                    Encoding::Native,
                );
                assert_eq!(order, one.cmp(&other), "{one} {other}");
            }
        }
    }

    #[test]
    fn a_cut_tuple_ends_early() {
        let batch = batch();
        let bytes = batch.slice(0..1);
        assert_eq!(Tuple::new(&bytes[..bytes.len() - 1]).fields().count(), 2);
        assert_eq!(Tuple::new(&[]).fields().count(), 0);
    }
}
