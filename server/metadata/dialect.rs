//! The few places where the SQL of the two engines differs, each with a name.

use super::table::{Column, Kind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// The name of the driver in the configuration and in log lines.
    pub fn driver(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite3",
            Self::Postgres => "postgres",
        }
    }

    /// Whether the time in `column` is known and lies before `param`, as instants. SQLite's times
    /// are text with any offset; PostgreSQL holds the zero time of Plik (Go) as year 1.
    pub(super) fn is_before(self, column: &str, param: &str) -> String {
        match self {
            Self::Sqlite => format!("instant({column}) < instant({param})"),
            Self::Postgres => {
                format!("({column} < {param} AND {column} >= TIMESTAMPTZ '0002-01-01 00:00:00+00')")
            }
        }
    }

    /// Something that sorts like the instants in `column`, to the last digit; unknown times come
    /// first.
    pub(super) fn time_key(self, column: &str) -> String {
        match self {
            Self::Sqlite => format!("moment({column})"),
            Self::Postgres => {
                format!("COALESCE({column}, TIMESTAMPTZ '0001-01-01 00:00:00+00')")
            }
        }
    }

    /// The aggregate for the latest of the times in `column`.
    pub(super) fn latest(self, column: &str) -> String {
        match self {
            // The key has 22 characters; the text behind it is what the row held.
            Self::Sqlite => {
                let key = self.time_key(column);
                format!("substr(MAX(CASE WHEN {key} <> '' THEN {key} || {column} END), 23)")
            }
            Self::Postgres => format!("MAX({column})"),
        }
    }

    /// A parameter that is a time, where the statement does not say so: PostgreSQL would take it
    /// for text. SQLite's cast would make a number of it.
    pub(super) fn time_param(self, param: &str) -> String {
        match self {
            Self::Sqlite => param.to_owned(),
            Self::Postgres => format!("CAST({param} AS timestamptz)"),
        }
    }

    /// Whether a column of text can have that value.
    pub(super) fn holds(self, text: &str) -> bool {
        self == Self::Sqlite || !text.contains('\0')
    }

    /// An identifier of the DDL, quoted as Plik (Go)'s ORM quotes it and reads it back.
    pub(super) fn quote(self, name: &str) -> String {
        match self {
            Self::Sqlite => format!("`{name}`"),
            Self::Postgres => format!("\"{name}\""),
        }
    }

    /// The type of a column that holds such values, of any length.
    pub(super) fn type_of(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (_, Kind::Text) => "text",
            (Self::Sqlite, Kind::Integer) => "integer",
            (Self::Sqlite, Kind::Boolean) => "numeric",
            (Self::Sqlite, Kind::Time) => "datetime",
            (Self::Sqlite, Kind::Real) => "real",
            (Self::Sqlite, Kind::Bytes) => "blob",
            (Self::Postgres, Kind::Integer) => "bigint",
            (Self::Postgres, Kind::Boolean) => "boolean",
            (Self::Postgres, Kind::Time) => "timestamptz",
            (Self::Postgres, Kind::Real) => "double precision",
            (Self::Postgres, Kind::Bytes) => "bytea",
        }
    }

    pub(super) fn column_type(self, column: &Column) -> String {
        match (self, column.kind, column.max_length) {
            (Self::Postgres, Kind::Text, Some(length)) => format!("varchar({length})"),
            _ => self.type_of(column.kind).to_owned(),
        }
    }

    /// A default. SQLite's has double quotes, as in the tables of Plik (Go).
    pub(super) fn default_text(self, text: &str) -> String {
        match self {
            Self::Sqlite => format!("\"{text}\""),
            Self::Postgres => format!("'{text}'"),
        }
    }
}
