//! Tables as a database really has them, which may be more than this program knows.

use super::table::{Kind, TABLES, Table};

/// One table found in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub name: String,
    pub columns: Vec<Column>,
    /// Positions in `columns`, in key order; empty for a table without primary key.
    pub primary_key: Vec<usize>,
    /// Plain indexes besides the primary key.
    pub indexes: Vec<Index>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
    /// The type as the database spells it, or as another one of the same engine is to have it.
    pub declared: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    pub name: String,
    pub columns: Vec<String>,
}

impl Layout {
    /// This program's own definition, if it has one.
    pub fn known(&self) -> Option<&'static Table> {
        Table::find(&self.name)
    }

    pub fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|found| found.name == column)
    }

    /// The columns of the primary key.
    pub fn key_names(&self) -> Vec<&str> {
        self.primary_key
            .iter()
            .map(|column| self.columns[*column].name.as_str())
            .collect()
    }

    /// Whether rows are found by that column: it is part of a key, an index or a reference.
    pub fn finds_rows_by(&self, column: usize) -> bool {
        let name = self.columns[column].name.as_str();
        let is_known = |table: &Table| {
            let mut keys = table.foreign_keys.iter();
            let mut indexes = table.indexes.iter();
            keys.any(|key| key.column == name) || indexes.any(|index| index.columns.contains(&name))
        };
        let mut indexes = self.indexes.iter();
        self.primary_key.contains(&column)
            || indexes.any(|index| index.columns.iter().any(|column| column == name))
            || self.known().is_some_and(is_known)
    }

    /// The kinds of the columns of the primary key.
    pub fn key_kinds(&self) -> Vec<Kind> {
        self.primary_key
            .iter()
            .map(|column| self.columns[*column].kind)
            .collect()
    }

    /// Takes the key of `other` where there is none: a table that was taken apart to be loaded gets
    /// its own when all rows are there.
    pub fn take_key_of(&mut self, other: &Self) {
        if self.primary_key.is_empty() {
            let key = other.key_names().into_iter();
            let key: Option<Vec<usize>> = key.map(|name| self.position(name)).collect();
            self.primary_key = key.unwrap_or_default();
        }
    }

    /// The same table without some columns, none of which is part of the primary key.
    pub fn without(&self, columns: &[&str]) -> Self {
        let names = self.columns.iter().map(|column| column.name.as_str());
        let keep: Vec<&str> = names.filter(|name| !columns.contains(name)).collect();
        self.project(&keep)
    }

    /// The same table with the columns `keep` only, in that order; those it lacks are left out.
    ///
    /// The primary key must be among them, or the result has none.
    pub fn project(&self, keep: &[&str]) -> Self {
        let columns: Vec<Column> = keep
            .iter()
            .filter_map(|name| self.columns.iter().find(|column| column.name == *name))
            .cloned()
            .collect();
        let primary_key = self
            .primary_key
            .iter()
            .map(|key| {
                columns
                    .iter()
                    .position(|column| column.name == self.columns[*key].name)
            })
            .collect::<Option<Vec<usize>>>()
            .unwrap_or_default();
        Self {
            name: self.name.clone(),
            columns,
            primary_key,
            indexes: Vec::new(),
        }
    }
}

/// What a column of `table` holds: as this program knows it, else as `declared` suggests.
pub fn kind_of(table: &str, column: &str, declared: Kind) -> Kind {
    Table::find(table)
        .and_then(|table| table.column(column))
        .map_or(declared, |known| known.kind)
}

/// The longest text that this program's PostgreSQL schema takes in that column, in characters.
pub fn max_length(table: &str, column: &str) -> Option<usize> {
    let known = Table::find(table)?.column(column)?;
    known.max_length.map(usize::from)
}

/// An identifier that came from a database.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A further condition on a row `t`: no row of a table that this program knows refers to it.
pub(super) fn unreferred(layout: &Layout) -> String {
    let mut condition = String::new();
    for table in TABLES {
        for key in table.foreign_keys {
            if key.parent == layout.name {
                let (child, column) = (quote(table.name), quote(key.column));
                let parent = quote(key.parent_column);
                condition += &format!(
                    " AND NOT EXISTS (SELECT 1 FROM {child} c WHERE c.{column} = t.{parent})"
                );
            }
        }
    }
    condition
}

/// The tables in which migrations keep what they have done.
pub(super) const BOOKKEEPING: [&str; 11] = [
    "plikd_migrate_blobs",
    "plikd_migrate_checkpoints",
    "plikd_migrate_deferred",
    "plikd_migrate_digests",
    "plikd_migrate_doomed",
    "plikd_migrate_owned",
    "plikd_migrate_parts",
    "plikd_migrate_proven",
    "plikd_migrate_runs",
    "plikd_migrate_shards",
    "plikd_migrate_uploads",
];

/// Whether a table of that name is of migrations themselves. Others may be called like them.
pub(super) fn is_bookkeeping(table: &str) -> bool {
    BOOKKEEPING.contains(&table)
}

/// The tables whose rows a migration carries, parents before children, then those that this
/// program does not know, by name.
///
/// Left out: schema versions, which the target has of its own; login sessions that live for
/// minutes; the bookkeeping of migrations.
pub fn migrated(mut layouts: Vec<Layout>) -> Vec<Layout> {
    layouts.retain(|layout| match layout.known() {
        Some(table) => table.migrated,
        None => layout.name != "migrations" && !is_bookkeeping(&layout.name),
    });
    let rank = |layout: &Layout| {
        TABLES
            .iter()
            .position(|table| table.name == layout.name)
            .unwrap_or(TABLES.len())
    };
    layouts.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name)));
    layouts
}

/// What a column of `table` holds that this program does not know, by its type in SQL.
pub(super) fn kind_of_declared(table: &str, declared: &str) -> Kind {
    let declared = declared.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
    // Plik's ORM declares booleans of SQLite `numeric`. To others that is any number.
    let is_of_plik = Table::find(table).is_some();
    if has(&["bool"]) || is_of_plik && declared == "numeric" {
        Kind::Boolean
    } else if has(&["date", "time"]) {
        Kind::Time
    } else if has(&["int"]) {
        Kind::Integer
    } else if has(&["char", "clob", "text"]) {
        Kind::Text
    } else if has(&["real", "floa", "doub", "numeric", "decimal"]) {
        Kind::Real
    } else if declared.is_empty() || has(&["blob", "bytea"]) {
        Kind::Bytes
    } else {
        Kind::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(name: &str, columns: &[&str], primary_key: &[usize]) -> Layout {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            kind: Kind::Text,
            declared: "text".to_owned(),
        };
        Layout {
            name: name.to_owned(),
            columns: columns.iter().map(column).collect(),
            primary_key: primary_key.to_vec(),
            indexes: Vec::new(),
        }
    }

    #[test]
    fn tables_are_carried_parents_first_and_strangers_last() {
        let found = [
            "events",
            "files",
            "migrations",
            "uploads",
            "settings",
            "tokens",
            "users",
            "cli_auth_sessions",
            "plikd_migrate_runs",
            "plikd_migrate_notes",
            "aaa",
            "usage_stats",
            "sqlite_notes",
        ];
        let names: Vec<String> = migrated(
            found
                .iter()
                .map(|name| layout(name, &["id"], &[0]))
                .collect(),
        )
        .into_iter()
        .map(|layout| layout.name)
        .collect();
        let expected = [
            "users",
            "tokens",
            "uploads",
            "files",
            "settings",
            "usage_stats",
            "aaa",
            "events",
            "plikd_migrate_notes",
            "sqlite_notes",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_projection_keeps_the_key_where_it_moved_to() {
        let files = layout("files", &["name", "id", "size"], &[1]);
        let projected = files.project(&["size", "md5", "id"]);
        assert_eq!(projected.columns.len(), 2);
        assert_eq!(projected.primary_key, [1]);
        assert!(files.project(&["size"]).primary_key.is_empty());
    }

    #[test]
    fn known_columns_keep_their_kind_whatever_is_declared() {
        assert_eq!(kind_of("uploads", "stream", Kind::Integer), Kind::Boolean);
        assert_eq!(kind_of("uploads", "stranger", Kind::Integer), Kind::Integer);
        assert_eq!(max_length("files", "upload_id"), Some(256));
        assert_eq!(max_length("files", "name"), None);
    }

    #[test]
    fn declared_types_are_understood() {
        for (declared, kind) in [
            ("varchar(255)", Kind::Text),
            ("bool", Kind::Boolean),
            ("numeric", Kind::Real),
            ("numeric(10,2)", Kind::Real),
            ("decimal(8,3)", Kind::Real),
            ("bigint", Kind::Integer),
            ("datetime", Kind::Time),
            ("timestamp with time zone", Kind::Time),
            ("double precision", Kind::Real),
            ("", Kind::Bytes),
            ("jsonb", Kind::Text),
        ] {
            assert_eq!(kind_of_declared("events", declared), kind, "{declared}");
        }
    }
}
