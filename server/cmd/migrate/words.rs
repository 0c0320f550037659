//! Numbers as a person reads them.

use indicatif::HumanCount;

/// So many of these: `1 row`, `2 rows`.
pub fn counted(count: u64, word: &str) -> String {
    format!("{} {}", HumanCount(count), noun(count, word))
}

/// The word for one, or for so many.
pub fn noun(count: u64, word: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{word}{plural}")
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
