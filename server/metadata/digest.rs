//! What a table holds, as a number that does not depend on the order of its rows.
//!
//! Two databases are compared by reading each once, as it finds its rows fastest, and comparing
//! two digests. A digest is kept in buckets, each a range of keys: where two differ, only that
//! range is read again to name the rows.

use std::fmt;

use twox_hash::XxHash3_128;

use super::layout::{Column, Layout};
use super::table::Kind;
use super::tuple::{Encoding, Native, Tuple};

/// The bytes that ids are made of, in byte order. Any other byte counts as the one before it.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Ranks of one byte: below all digits, or one of them.
const RANKS: usize = DIGITS.len() + 1;
const BUCKETS: usize = RANKS * RANKS;
/// More ranges than these are read as one: a query must not grow with the differences.
const MAX_RANGES: usize = 32;

/// The digest of a table's rows: equal sets of rows have equal digests, whatever the order in
/// which they came, and others do not (but once in 2^128, unless someone aims at it).
///
/// Takes the same memory whatever the number of rows.
#[derive(Clone, PartialEq, Eq)]
pub struct TableDigest {
    buckets: Vec<Bucket>,
    /// The text column that buckets follow; without one there is one bucket.
    key: Option<usize>,
    /// Columns that are not part of the digest.
    skipped: Vec<usize>,
    encoding: Encoding,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    /// Of the hashes of its rows, mod 2^128.
    sum: u128,
    rows: u64,
}

/// The text keys from `from` on and before `until`, by their bytes. `None` is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub(super) from: Option<String>,
    pub(super) until: Option<String>,
}

impl KeyRange {
    /// The condition on `key`, in the SQL of both engines.
    pub(super) fn condition(&self, key: &str) -> String {
        // Bounds are made of digits and letters only.
        let from = self.from.iter().map(|from| format!("{key} >= '{from}'"));
        let until = self.until.iter().map(|until| format!("{key} < '{until}'"));
        match from.chain(until).collect::<Vec<String>>() {
            bounds if bounds.is_empty() => "1 = 1".to_owned(),
            bounds => format!("({})", bounds.join(" AND ")),
        }
    }
}

impl TableDigest {
    /// The digest of no rows. `layout` and `other` are the table as the two sides that will be
    /// compared have it, with the same columns in the same order.
    pub fn new(layout: &Layout, other: &Layout, encoding: Encoding, not_compared: &[&str]) -> Self {
        let key = layout.primary_key.first().copied().filter(|key| {
            let sides = [layout, other];
            sides.iter().all(|side| holds_text(&side.columns[*key]))
        });
        let buckets = key.map_or(1, |_| BUCKETS);
        Self {
            buckets: vec![Bucket::default(); buckets],
            key,
            skipped: not_compared
                .iter()
                .filter_map(|name| layout.position(name))
                .collect(),
            encoding,
            scratch: Vec::new(),
        }
    }

    pub fn add(&mut self, row: Tuple<'_>) {
        let bucket = self
            .key
            .map_or(0, |key| bucket_of(text(row.field(key), self.encoding)));
        let hash = match self.skipped.is_empty() {
            true => XxHash3_128::oneshot(row.as_bytes()),
            false => {
                self.scratch.clear();
                row.append_without(&self.skipped, &mut self.scratch);
                XxHash3_128::oneshot(&self.scratch)
            }
        };
        let bucket = &mut self.buckets[bucket];
        bucket.sum = bucket.sum.wrapping_add(hash);
        bucket.rows += 1;
    }

    /// How many rows were added.
    pub fn rows(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.rows).sum()
    }

    /// Whether the two tables hold the same rows.
    pub fn is_same(&self, other: &Self) -> bool {
        self.buckets == other.buckets
    }

    /// Whether the two tables hold the same rows in the range of keys that `key` falls into.
    pub fn is_same_around(&self, other: &Self, key: &str) -> bool {
        let bucket = self.key.map_or(0, |_| bucket_of(Some(key.as_bytes())));
        self.buckets.len() == other.buckets.len() && self.buckets[bucket] == other.buckets[bucket]
    }

    /// The ranges of keys that hold every difference between the two tables, in key order: whole
    /// buckets, neighbours joined. `None` if they are not to be told apart by ranges.
    pub fn differing(&self, other: &Self) -> Option<Vec<KeyRange>> {
        if self.key.is_none() || self.buckets.len() != other.buckets.len() {
            return None;
        }
        let mut runs: Vec<(usize, usize)> = Vec::new();
        let pairs = self.buckets.iter().zip(&other.buckets).enumerate();
        for (bucket, _) in pairs.filter(|(_, (a, b))| a != b) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == bucket => *last = bucket,
                _ => runs.push((bucket, bucket)),
            }
        }
        if runs.len() > MAX_RANGES {
            runs = vec![(runs[0].0, runs[runs.len() - 1].1)];
        }
        let range = |(first, last): (usize, usize)| KeyRange {
            from: lowest_key(first),
            until: lowest_key(last + 1),
        };
        Some(runs.into_iter().map(range).collect())
    }
}

impl TableDigest {
    /// So many rows of this table, of those in `owned`, `other` may lack at the most: all in the
    /// ranges of keys in which the two differ.
    pub fn most_missing(&self, other: &Self, owned: &Owned) -> u64 {
        let pairs = self.buckets.iter().zip(&owned.buckets).enumerate();
        let differing = pairs.filter(|(number, (bucket, owned))| {
            **owned && other.buckets.get(*number) != Some(*bucket)
        });
        differing.map(|(_, (bucket, _))| bucket.rows).sum()
    }

    /// So many rows of this table are in `owned`.
    pub fn rows_in(&self, owned: &Owned) -> u64 {
        let pairs = self.buckets.iter().zip(&owned.buckets);
        let inside = pairs.filter(|(_, owned)| **owned);
        inside.map(|(bucket, _)| bucket.rows).sum()
    }

    /// All of it, to be written down. Read by [`TableDigest::rows_of`].
    pub fn to_text(&self) -> String {
        let buckets = self.buckets.iter().enumerate();
        let filled = buckets.filter(|(_, bucket)| bucket.rows > 0);
        let filled =
            filled.map(|(number, Bucket { sum, rows })| format!("{number}:{rows}:{sum:x}"));
        let filled: Vec<String> = filled.collect();
        format!("{FORM}{}", filled.join(" "))
    }

    /// The rows of this table that are known to be those of an earlier digest: whole buckets that
    /// are still as they were. None if the text is not one of [`TableDigest::to_text`].
    pub fn rows_of(&self, earlier: &str) -> Owned {
        let mut buckets = vec![Bucket::default(); self.buckets.len()];
        let read = earlier.strip_prefix(FORM).and_then(|text| {
            text.split_ascii_whitespace().try_for_each(|bucket| {
                let mut parts = bucket.split(':');
                let number: usize = parts.next()?.parse().ok()?;
                let rows = parts.next()?.parse().ok()?;
                let sum = u128::from_str_radix(parts.next()?, 16).ok()?;
                *buckets.get_mut(number)? = Bucket { sum, rows };
                Some(())
            })
        });
        let pairs = self.buckets.iter().zip(&buckets);
        let owned = pairs.map(|(now, then)| read.is_some() && now == then);
        self.owned(owned.collect())
    }

    /// The rows that [`Owned::to_text`] told of.
    pub fn owned_of(&self, text: &str) -> Owned {
        let digits = text.strip_prefix(FORM).unwrap_or_default();
        let owned: Vec<bool> = match digits {
            ALL => vec![true; self.buckets.len()],
            digits if digits.len() == self.buckets.len() => {
                digits.bytes().map(|digit| digit == b'1').collect()
            }
            _ => vec![false; self.buckets.len()],
        };
        self.owned(owned)
    }

    /// What is known at the end of a run to have come from the source, whose digest this is: in
    /// the ranges where all that the target had did, what the target has now, else what the source
    /// has.
    pub fn left_in(&self, target: &Self, owned: &Owned) -> Self {
        let pairs = self.buckets.iter().zip(&target.buckets).zip(&owned.buckets);
        let buckets = pairs.map(|((here, there), owned)| if *owned { *there } else { *here });
        Self {
            buckets: buckets.collect(),
            ..self.clone()
        }
    }

    /// Only the ranges in which `other` has the same rows.
    pub fn same_in(&self, other: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&other.buckets);
        let same = pairs.map(|(here, there)| match here == there {
            true => *here,
            false => Bucket::default(),
        });
        Self {
            buckets: same.collect(),
            ..self.clone()
        }
    }

    fn owned(&self, buckets: Vec<bool>) -> Owned {
        Owned {
            buckets,
            key: self.key,
            encoding: self.encoding,
        }
    }
}

/// What the texts of digests start with.
const FORM: &str = "1 ";
const ALL: &str = "all";

/// Rows of a table, told by the ranges of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    buckets: Vec<bool>,
    key: Option<usize>,
    encoding: Encoding,
}

impl Owned {
    /// What [`Owned::to_text`] would say of all rows of any table.
    pub fn all() -> String {
        format!("{FORM}{ALL}")
    }

    pub fn holds(&self, row: Tuple<'_>) -> bool {
        let bucket = self
            .key
            .map_or(0, |key| bucket_of(text(row.field(key), self.encoding)));
        self.buckets[bucket]
    }

    /// Whether the range that the text `key` falls into is among them.
    pub fn holds_key(&self, key: &str) -> bool {
        let bucket = self.key.map_or(0, |_| bucket_of(Some(key.as_bytes())));
        self.buckets[bucket]
    }

    pub fn to_text(&self) -> String {
        let digit = |owned: &bool| if *owned { '1' } else { '0' };
        FORM.chars().chain(self.buckets.iter().map(digit)).collect()
    }
}

/// The digest of the whole table, 32 hexadecimal digits.
impl fmt::Display for TableDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sums = self.buckets.iter().map(|bucket| bucket.sum);
        write!(f, "{:032x}", sums.fold(0, u128::wrapping_add))
    }
}

impl fmt::Debug for TableDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableDigest({} rows, {self})", self.rows())
    }
}

/// Whether the engine compares values of that column with text as text. SQLite goes by what is
/// declared, and takes a text for a number in a column of numbers.
fn holds_text(column: &Column) -> bool {
    let declared = column.declared.to_ascii_lowercase();
    let is_text = ["char", "clob", "text"];
    column.kind == Kind::Text && is_text.iter().any(|part| declared.contains(part))
}

/// The key as the engines order it: numbers before all text, bytes behind it.
fn text(field: Option<&[u8]>, encoding: Encoding) -> Option<&[u8]> {
    match encoding {
        Encoding::Binary => field,
        Encoding::Native => match Native::decode(field)? {
            Native::Text(text) => Some(text),
            Native::Blob(_) => Some(&[u8::MAX]),
            Native::Null | Native::Integer(_) | Native::Real(_) => None,
        },
    }
}

/// Never less for a greater key, so that a bucket is a range of keys.
fn bucket_of(key: Option<&[u8]>) -> usize {
    let Some((first, rest)) = key.and_then(<[u8]>::split_first) else {
        return 0;
    };
    match rank(*first) {
        (0, _) => 0,
        (first, true) => first * RANKS + rest.first().map_or(0, |byte| rank(*byte).0),
        (first, false) => first * RANKS + RANKS - 1,
    }
}

/// How many digits are not above `byte`, and whether it is one.
fn rank(byte: u8) -> (usize, bool) {
    let below = DIGITS.partition_point(|digit| *digit < byte);
    let is_digit = DIGITS.get(below) == Some(&byte);
    (below + usize::from(is_digit), is_digit)
}

/// The lowest key of that bucket, or of the next one that can have a key. `None` for the first
/// bucket, and behind the last one.
fn lowest_key(bucket: usize) -> Option<String> {
    let (first, second) = match bucket {
        0 => return None,
        bucket if bucket < RANKS => (1, 0),
        bucket => (bucket / RANKS, bucket % RANKS),
    };
    let digit = |rank: usize| Some(char::from(*DIGITS.get(rank.checked_sub(1)?)?));
    let first = digit(first)?;
    Some([Some(first), digit(second)].into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tuple::Batch;

    fn layout() -> Layout {
        let column = |name: &str, kind, declared: &str| Column {
            name: name.to_owned(),
            kind,
            declared: declared.to_owned(),
        };
        Layout {
            name: "notes".to_owned(),
            columns: vec![
                column("id", Kind::Text, "varchar(16)"),
                column("size", Kind::Integer, "bigint"),
                column("details", Kind::Text, "text"),
            ],
            primary_key: vec![0],
            indexes: Vec::new(),
        }
    }

    fn digest(rows: &[(&str, i64, &str)], not_compared: &[&str]) -> TableDigest {
        let mut digest = TableDigest::new(&layout(), &layout(), Encoding::Binary, not_compared);
        let mut batch = Batch::default();
        for (id, size, details) in rows {
            batch.begin_row(3);
            batch.field(id.as_bytes());
            batch.integer(*size);
            batch.field(details.as_bytes());
            batch.end_row();
        }
        batch.iter().for_each(|row| digest.add(row));
        digest
    }

    fn range(from: &str, until: &str) -> KeyRange {
        let bound = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        KeyRange {
            from: bound(from),
            until: bound(until),
        }
    }

    #[test]
    fn the_order_of_rows_does_not_count_and_everything_else_does() {
        let rows = [("a", 1, "x"), ("b", 2, "y"), ("b2", 2, "y")];
        let one = digest(&rows, &[]);
        let mut turned = rows;
        turned.reverse();
        assert!(one.is_same(&digest(&turned, &[])));
        assert_eq!(one.to_string(), digest(&turned, &[]).to_string());
        assert_eq!(one.rows(), 3);
        for other in [
            &rows[..2],
            &[rows[0], rows[1], rows[1]],
            &[rows[0], rows[1], ("b2", 3, "y")],
            // The same bytes, cut into fields elsewhere.
            &[("a", 1, "x"), ("b", 2, "y"), ("b", 2, "2y")],
        ] {
            assert!(!one.is_same(&digest(other, &[])), "{other:?}");
            assert_ne!(one.to_string(), digest(other, &[]).to_string());
        }
    }

    #[test]
    fn two_equal_rows_are_not_none() {
        let twice = digest(&[("a", 1, "x"), ("a", 1, "x")], &[]);
        assert!(!twice.is_same(&digest(&[], &[])));
        assert_ne!(twice.to_string(), digest(&[], &[]).to_string());
    }

    #[test]
    fn a_column_that_is_not_compared_does_not_count() {
        let (one, other) = ([("a", 1, "x")], [("a", 1, "longer")]);
        assert!(digest(&one, &["details"]).is_same(&digest(&other, &["details"])));
        assert!(!digest(&one, &[]).is_same(&digest(&other, &[])));
        let resized = [("a", 2, "x")];
        assert!(!digest(&one, &["details"]).is_same(&digest(&resized, &["details"])));
    }

    #[test]
    fn a_difference_is_in_the_range_of_its_bucket() {
        let whole = digest(&[("aB1", 1, ""), ("zzz", 1, ""), ("local:x", 1, "")], &[]);
        let lacks = |rows: &[(&str, i64, &str)]| whole.differing(&digest(rows, &[])).unwrap();
        assert_eq!(
            lacks(&[("zzz", 1, ""), ("local:x", 1, "")]),
            [range("aB", "aC")]
        );
        assert_eq!(
            lacks(&[("aB1", 1, ""), ("local:x", 1, "")]),
            [range("zz", "")]
        );
        assert_eq!(
            lacks(&[("aB1", 1, ""), ("aC", 1, ""), ("zzz", 1, "")]),
            [range("aC", "aD"), range("lo", "lp")]
        );
        assert_eq!(
            lacks(&[("zzz", 1, ""), ("local:x", 1, ""), ("", 1, "")]),
            [range("", "0"), range("aB", "aC")]
        );
        assert!(whole.differing(&whole).unwrap().is_empty());
    }

    #[test]
    fn neighbours_are_one_range_and_many_ranges_are_one_too() {
        let keys = |step: usize| -> Vec<String> {
            let pairs = DIGITS.iter().step_by(step);
            pairs
                .map(|digit| format!("a{}", char::from(*digit)))
                .collect()
        };
        let ranges = |keys: &[String]| {
            let rows: Vec<_> = keys.iter().map(|key| (key.as_str(), 1, "")).collect();
            digest(&rows, &[]).differing(&digest(&[], &[])).unwrap()
        };
        assert_eq!(ranges(&keys(1)), [range("a0", "b")]);
        assert_eq!(ranges(&keys(2)).len(), 31);
        let mut many = keys(2);
        many.extend(["b0".to_owned(), "b2".to_owned()]);
        assert_eq!(ranges(&many), [range("a0", "b3")]);
    }

    /// Every key lies within the range of its bucket, and buckets follow the order of the bytes.
    #[test]
    fn a_bucket_is_a_range_of_keys() {
        let bytes: Vec<u8> = (0..=u8::MAX).collect();
        let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
        for first in &bytes {
            keys.push(vec![*first]);
            keys.extend(bytes.iter().map(|second| vec![*first, *second]));
        }
        keys.sort();
        let mut last = 0;
        for key in keys {
            let bucket = bucket_of(Some(&key));
            assert!(bucket >= last && bucket < BUCKETS, "{key:?}");
            last = bucket;
            if let Some(from) = lowest_key(bucket) {
                assert!(from.as_bytes() <= &key[..], "{key:?} {from}");
            }
            if let Some(until) = lowest_key(bucket + 1) {
                assert!(&key[..] < until.as_bytes(), "{key:?} {until}");
            }
        }
        assert_eq!(last, BUCKETS - 1);
    }

    #[test]
    fn stored_numbers_and_bytes_are_where_sqlite_sorts_them() {
        let bucket = |value| {
            let mut batch = Batch::default();
            batch.begin_row(1);
            batch.native(value);
            batch.end_row();
            bucket_of(text(batch.tuple(0).field(0), Encoding::Native))
        };
        assert_eq!(bucket(Native::Integer(9)), 0);
        assert_eq!(bucket(Native::Real(9.5)), 0);
        assert_eq!(bucket(Native::Text(b"zz")), BUCKETS - 1);
        assert_eq!(bucket(Native::Blob(b"0")), BUCKETS - 1);
        assert_eq!(bucket(Native::Text(b"00")), RANKS + 1);
    }

    #[test]
    fn a_bucket_that_is_as_it_was_left_is_known_and_no_other() {
        let left = digest(&[("aB1", 1, ""), ("zzz", 1, "")], &[]).to_text();
        let now = digest(&[("aB1", 1, ""), ("zzz", 1, ""), ("zz1", 1, "")], &[]);
        let row = |id: &str| {
            let mut batch = Batch::default();
            batch.begin_row(3);
            batch.field(id.as_bytes());
            batch.integer(1);
            batch.field(b"");
            batch.end_row();
            batch
        };
        let owned = now.rows_of(&left);
        for owned in [&owned, &now.owned_of(&owned.to_text())] {
            assert!(owned.holds(row("aB1").tuple(0)));
            // One of the two came from elsewhere, and nobody knows which.
            assert!(!owned.holds(row("zz1").tuple(0)));
            assert!(!owned.holds(row("zzz").tuple(0)));
        }
        let source = digest(&[("aB2", 1, ""), ("zz2", 1, "")], &[]);
        let left = now.rows_of(&source.left_in(&now, &owned).to_text());
        assert!(left.holds(row("aB1").tuple(0)));
        assert!(!left.holds(row("zzz").tuple(0)));
        for text in ["", "1 9999999:1:a", "2 1:1:1", "1 x"] {
            assert!(!now.rows_of(text).holds(row("aB1").tuple(0)), "{text}");
            assert!(!now.owned_of(text).holds(row("aB1").tuple(0)), "{text}");
        }
        assert!(now.owned_of(&Owned::all()).holds(row("zz1").tuple(0)));
    }

    #[test]
    fn keys_that_are_no_text_have_one_bucket() {
        let mut numbers = layout();
        numbers.columns[0].declared = "numeric".to_owned();
        for (one, other) in [(layout(), numbers.clone()), (numbers, layout())] {
            let digest = TableDigest::new(&one, &other, Encoding::Binary, &[]);
            assert_eq!(digest.buckets.len(), 1);
            assert_eq!(digest.differing(&digest), None);
        }
    }
}
