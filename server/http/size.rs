//! Sizes as error messages show them.

/// `1.5 kB`, `10 GB`: powers of 1000, one decimal below 10 units, none above. Negative is `0 B`.
pub fn human(size_bytes: i64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let size_bytes = size_bytes.max(0);
    if size_bytes < 10 {
        return format!("{size_bytes} B");
    }
    let exponent = size_bytes.ilog(1000);
    // Rounded to a tenth first, then, from 10 units on, to a whole number.
    let value = size_bytes as f64 / 1000_f64.powi(exponent as i32);
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[exponent as usize];
    if value < 10.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_are_short_and_decimal() {
        for (size_bytes, expected) in [
            (-1, "0 B"),
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1500, "1.5 kB"),
            (9949, "9.9 kB"),
            (9950, "10 kB"),
            (82_854_982, "83 MB"),
            (10_000_000_000, "10 GB"),
            (i64::MAX, "9.2 EB"),
        ] {
            assert_eq!(human(size_bytes), expected);
        }
    }
}
