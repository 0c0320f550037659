//! Numbers and names as a person reads them.

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

/// The text in one line that does nothing to a terminal, whatever names are in it.
pub fn one_line(text: &str) -> String {
    let printable = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_makes_no_line_of_its_own() {
        let name = one_line("a\nnext: b\u{1b}[2J ü");
        assert_eq!(name, "a\\nnext: b\\u{1b}[2J ü");
    }

    #[test]
    fn only_one_is_no_plural() {
        let counts = [0, 1, 1_234].map(|count| counted(count, "row"));
        assert_eq!(counts, ["0 rows", "1 row", "1,234 rows"]);
    }
}
