//! What can be wrong with a row that is to go to another database.

use std::fmt;

/// One thing that is wrong with a row, and in which column if it is one column's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub column: Option<String>,
    pub reason: Reason,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "{column}: {}", self.reason),
            None => self.reason.fmt(f),
        }
    }
}

/// Why a value, or a row, cannot be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    Nul,
    NotUtf8,
    /// More characters than the column allows.
    TooLong,
    FractionInText,
    NumberInBytes,
    /// A number that is no 64-bit integer.
    NotWhole,
    NoNumber,
    /// A whole number with more digits than a floating point number has.
    NotExact,
    /// A floating point number that is none: SQLite would make NULL of it.
    NotANumber,
    NoBoolean,
    NoTime,
    /// Before the earliest time of PostgreSQL.
    TooEarly,
    /// Infinite, before Christ or with five digits of year: SQLite has no text for it.
    TooFar,
    NullInKey,
    BytesInKey,
    /// More bytes than surely fit into an index of PostgreSQL.
    IndexEntry,
    /// The row of this table that it belongs to does not exist.
    Orphan(&'static str),
    /// The row of this table that it belongs to is rejected itself.
    LostParent(&'static str),
    /// Another row of the source is the same one to the target.
    SameKey,
    /// What the target's own engine said.
    Refused(String),
}

impl Reason {
    /// One word for counts and for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nul => "nul",
            Self::NotUtf8 => "utf8",
            Self::TooLong => "length",
            Self::FractionInText | Self::NumberInBytes | Self::NoNumber => "storage_class",
            Self::NotWhole | Self::NotExact | Self::NotANumber => "range",
            Self::NoBoolean => "boolean",
            Self::NoTime | Self::TooEarly | Self::TooFar => "time",
            Self::NullInKey | Self::BytesInKey => "key",
            Self::IndexEntry => "index_length",
            Self::Orphan(_) => "orphan",
            Self::LostParent(_) => "rejected_parent",
            Self::SameKey => "same_key",
            Self::Refused(_) => "refused",
        }
    }

    /// What mends it, in a few words; `None` where only the administrator can know.
    pub fn fix(&self) -> Option<&'static str> {
        Some(match self {
            Self::Nul => {
                "--strip-nul removes the byte, unless others refer to the row by this text"
            }
            Self::NotUtf8 => "write the text again as UTF-8",
            Self::TooLong => "shorten the text",
            Self::FractionInText => "write the number as text",
            Self::NumberInBytes => "write it as bytes",
            Self::NotWhole => "round the number, within 64 bits",
            Self::NotExact => "round the number, within 53 bits",
            Self::NoNumber | Self::NotANumber => "write a number",
            Self::NoBoolean => "write 0 or 1",
            Self::NoTime => "write the time as YYYY-MM-DD HH:MM:SS+00:00",
            Self::TooEarly | Self::TooFar => "choose a time between the years 1 and 9999",
            Self::NullInKey | Self::BytesInKey => "give the row a key of text, or delete it",
            Self::IndexEntry => "shorten the text, if the target refuses it",
            Self::Orphan(_) => "--fix-orphans leaves it out, as cleaning would delete it",
            Self::LostParent(_) => "mend the row that it belongs to",
            Self::SameKey => "merge the rows, or delete all but one",
            Self::Refused(_) => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nul => "the text has a NUL byte",
            Self::NotUtf8 => "the text is not UTF-8",
            Self::TooLong => "the text is longer than the column allows",
            Self::FractionInText => "a number with a fraction is no text",
            Self::NumberInBytes => "a number is no bytes",
            Self::NotWhole => "the number has a fraction or is out of range",
            Self::NoNumber => "the value is no number",
            Self::NotExact => "the number has more digits than the target's column keeps",
            Self::NotANumber => "SQLite would make NULL of a NaN",
            Self::NoBoolean => "the value is neither true nor false",
            Self::NoTime => "the value is no time that Plik reads",
            Self::TooEarly => "the time is before 4713 BC",
            Self::TooFar => "SQLite has no text for a time so far away",
            Self::NullInKey => "a key must not be NULL",
            Self::BytesInKey => "a key must be text, not bytes",
            Self::IndexEntry => {
                "the text may be refused: PostgreSQL indexes 2704 bytes, after compression"
            }
            Self::Orphan(parent) => {
                return write!(f, "it refers to a row of {parent} that does not exist");
            }
            Self::LostParent(parent) => {
                return write!(f, "it refers to a row of {parent} that is rejected too");
            }
            Self::SameKey => "another row has the same key, as the target sees it",
            Self::Refused(text) => text,
        })
    }
}
