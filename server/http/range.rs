//! The `Range` header of a download.

use std::ops::Range;

/// More ranges than any client needs; each of them is one read of the backend.
const MAX_RANGES: usize = 32;

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Requested {
    /// No header, or one that is to be ignored: the whole blob.
    Whole,
    /// At least one range, each within the blob and not empty.
    Parts(Vec<Range<u64>>),
    /// Nothing of it is within the blob, or it is not written as ranges are.
    Unsatisfiable,
}

/// Reads a `Range` header for a blob of `size_bytes`.
///
/// A unit other than bytes is ignored, as is a list that asks for more than the whole blob or
/// for very many parts. An empty blob has no range, so it is sent whole.
pub fn parse(header: &str, size_bytes: u64) -> Requested {
    let Some((unit, list)) = header.split_once('=') else {
        return Requested::Unsatisfiable;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || size_bytes == 0 {
        return Requested::Whole;
    }
    let mut parts = Vec::new();
    for spec in list
        .split(',')
        .map(str::trim)
        .filter(|spec| !spec.is_empty())
    {
        let Some(range) = parse_one(spec, size_bytes) else {
            return Requested::Unsatisfiable;
        };
        if parts.len() == MAX_RANGES {
            return Requested::Whole;
        }
        if !range.is_empty() {
            parts.push(range);
        }
    }
    if parts.is_empty() {
        return Requested::Unsatisfiable;
    }
    let total = parts.iter().fold(0, |sum: u64, range| {
        sum.saturating_add(range.end - range.start)
    });
    if total > size_bytes {
        return Requested::Whole;
    }
    Requested::Parts(parts)
}

/// `first-last`, `first-` or `-suffix`, cut to the blob; an empty range lies outside of it. `None`
/// for anything else.
fn parse_one(spec: &str, size_bytes: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(size_bytes - suffix.min(size_bytes)..size_bytes);
    }
    let first = number(first)?;
    let end = match last {
        "" => size_bytes,
        last => {
            let last = number(last)?;
            if last < first {
                return None;
            }
            last.saturating_add(1).min(size_bytes)
        }
    };
    Some(first.min(end)..end)
}

/// Decimal digits only; a number too large to hold is past the end of any blob.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(ranges: &[Range<u64>]) -> Requested {
        Requested::Parts(ranges.to_vec())
    }

    #[test]
    fn one_range_in_each_form_is_read() {
        for (header, expected) in [
            ("bytes=0-", 0..10),
            ("bytes=0-0", 0..1),
            ("bytes=3-5", 3..6),
            ("bytes=9-99999999999999999999999", 9..10),
            ("bytes=-3", 7..10),
            ("bytes=-300", 0..10),
            ("Bytes = 2 - 3", 2..4),
        ] {
            assert_eq!(parse(header, 10), parts(&[expected]), "{header}");
        }
    }

    #[test]
    fn several_ranges_are_kept_in_order_without_those_outside() {
        assert_eq!(parse("bytes=5-6, 0-1,,20-30", 10), parts(&[5..7, 0..2]));
    }

    #[test]
    fn what_is_outside_or_malformed_is_not_satisfiable() {
        for header in [
            "bytes=10-",
            "bytes=10-20,11-",
            "bytes=-0",
            "bytes=",
            "bytes=5-3",
            "bytes=a-b",
            "bytes=1",
            "bytes=-",
            "bytes=--1",
            "bytes=+1-2",
            "bytes",
        ] {
            assert_eq!(parse(header, 10), Requested::Unsatisfiable, "{header}");
        }
    }

    #[test]
    fn other_units_overlong_lists_and_empty_blobs_mean_the_whole() {
        assert_eq!(parse("items=0-5", 10), Requested::Whole);
        assert_eq!(parse("bytes=0-9,0-0", 10), Requested::Whole);
        assert_eq!(parse("bytes=0-", 0), Requested::Whole);
        let many = format!("bytes={}", vec!["0-0"; MAX_RANGES + 1].join(","));
        assert_eq!(parse(&many, 1000), Requested::Whole);
    }
}
