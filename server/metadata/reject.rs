//! Rows that cannot go to the target, and how they are named.

use super::fault::{Fault, Reason};
use super::layout::Layout;
use super::tuple::{Encoding, Native, Tuple, display_fields, text_of};

/// A row that cannot go to the target as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub table: String,
    pub key: String,
    /// What is wrong, with the column where it is one column's fault; no value is shown.
    pub reason: String,
    /// The same, one by one; never empty.
    pub faults: Vec<Fault>,
    /// The whole row: as it is stored if the source's reader rejected it, as it was encoded for
    /// the target if that refused it.
    pub row: StoredRow,
}

/// A row that was put aside, with the columns of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    pub encoding: Encoding,
    pub tuple: Vec<u8>,
}

impl StoredRow {
    /// The bytes by which other rows refer to this one. `None` for NULL.
    pub fn key_bytes(&self, column: usize) -> Option<Vec<u8>> {
        let field = Tuple::new(&self.tuple).field(column);
        match self.encoding {
            Encoding::Binary => field.map(<[u8]>::to_vec),
            Encoding::Native => match Native::decode(field)? {
                Native::Text(bytes) | Native::Blob(bytes) => Some(bytes.to_vec()),
                _ => text_of(field, self.encoding).map(String::into_bytes),
            },
        }
    }
}

impl Reject {
    /// A row that the target refused.
    pub fn new(layout: &Layout, row: Tuple<'_>, encoding: Encoding, reason: String) -> Self {
        let fault = Fault {
            column: None,
            reason: Reason::Refused(reason),
        };
        Self::of(layout, row, encoding, vec![fault])
    }

    /// What mends the row, in a few words; `None` where only the administrator can know.
    pub fn fix(&self) -> Option<String> {
        let mut fixes: Vec<&str> = Vec::new();
        for fix in self.faults.iter().filter_map(|fault| fault.reason.fix()) {
            if !fixes.contains(&fix) {
                fixes.push(fix);
            }
        }
        (!fixes.is_empty()).then(|| fixes.join("; "))
    }

    /// Its name and what is wrong with it, to be kept for long: a row may be large.
    pub fn without_row(&self) -> Self {
        Self {
            table: self.table.clone(),
            key: self.key.clone(),
            reason: self.reason.clone(),
            faults: self.faults.clone(),
            row: StoredRow {
                encoding: self.row.encoding,
                tuple: Vec::new(),
            },
        }
    }

    /// A row with all that is wrong with it.
    pub fn of(layout: &Layout, row: Tuple<'_>, encoding: Encoding, faults: Vec<Fault>) -> Self {
        let reasons: Vec<String> = faults.iter().map(Fault::to_string).collect();
        Self {
            table: layout.name.clone(),
            key: shown_key(layout, row, encoding),
            reason: reasons.join("; "),
            faults,
            row: StoredRow {
                encoding,
                tuple: row.as_bytes().to_vec(),
            },
        }
    }
}

/// The key of a row, for a person to read.
pub fn shown_key(layout: &Layout, row: Tuple<'_>, encoding: Encoding) -> String {
    let key = row.project(&layout.primary_key);
    let fields = display_fields(Tuple::new(&key), &layout.key_kinds(), encoding);
    join_key(layout, fields)
}

/// The fields of a key as one text, separated by `/`, with secrets masked.
pub(super) fn join_key(layout: &Layout, fields: impl IntoIterator<Item = String>) -> String {
    let names = layout.key_names().into_iter();
    let masked = names.zip(fields).map(|(column, field)| mask(column, field));
    masked.collect::<Vec<_>>().join("/")
}

/// A token that is part of a key is shown only as far as it helps to find the row; no key breaks a
/// line or moves a terminal's cursor.
fn mask(column: &str, field: String) -> String {
    let start: String = field.chars().take(TOKEN_SHOWN).collect();
    let shown = match column {
        "token" if start != field => format!("{start}…"),
        _ => field,
    };
    match shown.contains(char::is_control) {
        true => shown.chars().map(printable).collect(),
        false => shown,
    }
}

fn printable(character: char) -> String {
    match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    }
}

/// Characters of a token that are shown.
const TOKEN_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_in_one_line_and_a_token_in_part() {
        let shown = |column, field: &str| mask(column, field.to_owned());
        assert_eq!(
            shown("id", "a\nb\u{1b}[2J\u{85}é"),
            "a\\nb\\u{1b}[2J\\u{85}é"
        );
        assert_eq!(shown("token", "12345678"), "12345678");
        assert_eq!(shown("token", "\t234567890"), "\\t2345678…");
    }

    #[test]
    fn tokens_are_not_shown_whole() {
        assert_eq!(mask("token", "dff7aa8c-dc44-4313".to_owned()), "dff7aa8c…");
        assert_eq!(mask("token", String::new()), "");
        assert_eq!(mask("user_id", "local:admin".to_owned()), "local:admin");
    }
}
