//! Sizes as text: `10GB`, `1.5 MiB`, `unlimited`.

/// What is wrong with a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error("strconv.ParseFloat: parsing {0:?}: invalid syntax")]
    Number(String),
    #[error("unhandled size name: {0}")]
    Unit(String),
    #[error("too large: {0}")]
    TooLarge(String),
}

/// Bytes of a size: a number, perhaps with a fraction, and a unit. `kB`, `MB`, … are powers of
/// 1000, `KiB`, `MiB`, … of 1024, in any case; commas are skipped and a part of a byte is cut.
/// `unlimited` and `-1` are -1.
pub fn parse(text: &str) -> Result<i64, SizeError> {
    if matches!(text, "unlimited" | "-1") {
        return Ok(-1);
    }
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',')))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = number.replace(',', "");
    let (whole, fraction) = split(&number).ok_or_else(|| SizeError::Number(number.clone()))?;
    let factor = factor(unit.trim())?;
    bytes(whole, fraction, factor).ok_or_else(|| SizeError::TooLarge(text.to_owned()))
}

/// The digits before and after the point, of which one side may be empty.
fn split(number: &str) -> Option<(&str, &str)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let empty = whole.is_empty() && fraction.is_empty();
    (!empty && !fraction.contains('.')).then_some((whole, fraction))
}

fn factor(unit: &str) -> Result<u128, SizeError> {
    let lower = unit.to_lowercase();
    let prefix = lower.strip_suffix('b').unwrap_or(&lower);
    let (base, prefix): (u128, _) = match prefix.strip_suffix('i') {
        Some(prefix) if !prefix.is_empty() => (1024, prefix),
        _ => (1000, prefix),
    };
    let exponent = match prefix {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return Err(SizeError::Unit(lower)),
    };
    Ok(base.pow(exponent))
}

/// Exact, unlike a product of floating point numbers, which can lose a byte.
fn bytes(whole: &str, fraction: &str, factor: u128) -> Option<i64> {
    // Eighteen digits of a fraction decide about every byte of an exabyte.
    let fraction = &fraction[..fraction.len().min(18)];
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let part = match fraction.parse::<u128>() {
        Ok(digits) => digits * factor / 10u128.pow(fraction.len() as u32),
        Err(_) => 0,
    };
    whole
        .checked_mul(factor)?
        .checked_add(part)?
        .try_into()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1000_or_1024_in_any_case() {
        for (text, bytes) in [
            ("0", 0),
            ("42", 42),
            ("42B", 42),
            ("42 b", 42),
            ("1k", 1_000),
            ("1kB", 1_000),
            ("1KB", 1_000),
            ("1Ki", 1_024),
            ("1kib", 1_024),
            ("10GB", 10_000_000_000),
            ("256MiB", 268_435_456),
            ("1,000,000", 1_000_000),
            ("1.5 MiB", 1_572_864),
            ("4.35GB", 4_350_000_000),
            (".5k", 500),
            ("2.k", 2_000),
            ("1.0009k", 1_000),
            ("7E", 7_000_000_000_000_000_000),
            ("7EiB", 8_070_450_532_247_928_832),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn unlimited_and_minus_one_are_no_limit() {
        assert_eq!(parse("unlimited"), Ok(-1));
        assert_eq!(parse("-1"), Ok(-1));
    }

    #[test]
    fn anything_else_says_what_is_wrong_with_it() {
        for (text, message) in [
            ("", "strconv.ParseFloat: parsing \"\": invalid syntax"),
            ("-5", "strconv.ParseFloat: parsing \"\": invalid syntax"),
            ("GB", "strconv.ParseFloat: parsing \"\": invalid syntax"),
            (".", "strconv.ParseFloat: parsing \".\": invalid syntax"),
            (
                "1.2.3",
                "strconv.ParseFloat: parsing \"1.2.3\": invalid syntax",
            ),
            ("5 Foo", "unhandled size name: foo"),
            ("5i", "unhandled size name: i"),
            ("5 5", "unhandled size name: 5"),
            ("8EiB", "too large: 8EiB"),
            ("9223372036854775808", "too large: 9223372036854775808"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
        }
        let many = "9".repeat(60);
        assert_eq!(parse(&many), Err(SizeError::TooLarge(many.clone())));
    }
}
