//! Numbers as a person reads them.

use indicatif::HumanCount;

/// So many of these: `1 row`, `2 rows`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", HumanCount(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_no_plural() {
        let counts = [0, 1, 1_234].map(|count| counted(count, "row"));
        assert_eq!(counts, ["0 rows", "1 row", "1,234 rows"]);
    }
}
