//! The tables as statements: in SQLite in the text that Plik (Go)'s ORM writes and parses, in
//! PostgreSQL with the names that it looks for.

use crate::metadata::dialect::Dialect;
use crate::metadata::table::{Column, ForeignKey, Index, TABLES, Table};

/// Creates the table of the schema ids.
pub fn ddl_migrations(dialect: Dialect) -> String {
    match dialect {
        Dialect::Sqlite => "CREATE TABLE `migrations` (`id` text,PRIMARY KEY (`id`))",
        Dialect::Postgres => {
            "CREATE TABLE \"migrations\" (\"id\" varchar(255),PRIMARY KEY (\"id\"))"
        }
    }
    .to_owned()
}

/// Creates every table of [`TABLES`] at its newest shape, parents first. Without indexes, and
/// without foreign keys where those can be added later: see [`ddl_indexes`] and
/// [`ddl_foreign_keys`].
pub fn ddl_tables(dialect: Dialect) -> Vec<String> {
    let tables = TABLES.iter();
    tables
        .map(|table| create_table(dialect, table, |_| true))
        .collect()
}

/// Creates every index.
pub fn ddl_indexes(dialect: Dialect) -> Vec<String> {
    let tables = TABLES.iter();
    tables
        .flat_map(|table| {
            let indexes = table.indexes.iter();
            indexes.map(move |index| create_index(dialect, table, index))
        })
        .collect()
}

/// Adds every foreign key. None for SQLite, where they are part of the table.
pub fn ddl_foreign_keys(dialect: Dialect) -> Vec<String> {
    let tables = TABLES.iter();
    tables
        .flat_map(|table| {
            let keys = table.foreign_keys.iter();
            keys.filter_map(move |key| add_foreign_key(dialect, table, key))
        })
        .collect()
}

/// The tables, indexes and foreign keys of an older version.
#[cfg(test)]
pub fn ddl_until(dialect: Dialect, until: &str) -> Vec<String> {
    let tables = || TABLES.iter().filter(|table| table.since <= until);
    let mut ddl: Vec<String> = tables()
        .map(|table| create_table(dialect, table, |column| column.since <= until))
        .collect();
    for table in tables() {
        let indexes = table.indexes.iter().filter(|index| index.since <= until);
        ddl.extend(indexes.map(|index| create_index(dialect, table, index)));
        let keys = table.foreign_keys.iter();
        ddl.extend(keys.filter_map(|key| add_foreign_key(dialect, table, key)));
    }
    ddl
}

/// The table with some of its columns.
pub fn create_table(dialect: Dialect, table: &Table, has: impl Fn(&Column) -> bool) -> String {
    let mut parts: Vec<String> = table
        .columns
        .iter()
        .filter(|column| has(column))
        .map(|column| column_definition(dialect, column))
        .collect();
    parts.push(format!(
        "PRIMARY KEY ({})",
        names(dialect, table.primary_key)
    ));
    if dialect == Dialect::Sqlite {
        let keys = table.foreign_keys.iter();
        parts.extend(keys.map(|key| foreign_key(dialect, key)));
    }
    format!(
        "CREATE TABLE {} ({})",
        dialect.quote(table.name),
        parts.join(",")
    )
}

pub fn add_column(dialect: Dialect, table: &Table, column: &Column) -> String {
    format!(
        "ALTER TABLE {} ADD {}",
        dialect.quote(table.name),
        column_definition(dialect, column)
    )
}

/// Only PostgreSQL has columns to widen.
pub fn widen_column(dialect: Dialect, table: &Table, column: &Column) -> String {
    format!(
        "ALTER TABLE {} ALTER COLUMN {} TYPE {}",
        dialect.quote(table.name),
        dialect.quote(column.name),
        dialect.column_type(column)
    )
}

pub fn create_index(dialect: Dialect, table: &Table, index: &Index) -> String {
    format!(
        "CREATE INDEX {} ON {}({})",
        dialect.quote(index.name),
        dialect.quote(table.name),
        names(dialect, index.columns)
    )
}

/// SQLite cannot add a foreign key to a table that is there.
pub fn add_foreign_key(dialect: Dialect, table: &Table, key: &ForeignKey) -> Option<String> {
    match dialect {
        Dialect::Sqlite => None,
        Dialect::Postgres => Some(format!(
            "ALTER TABLE {} ADD {}",
            dialect.quote(table.name),
            foreign_key(dialect, key)
        )),
    }
}

fn column_definition(dialect: Dialect, column: &Column) -> String {
    let mut definition = format!(
        "{} {}",
        dialect.quote(column.name),
        dialect.column_type(column)
    );
    if column.not_null {
        definition.push_str(" NOT NULL");
    }
    if let Some(default) = column.default {
        definition.push_str(" DEFAULT ");
        definition.push_str(&dialect.default_text(default));
    }
    definition
}

fn foreign_key(dialect: Dialect, key: &ForeignKey) -> String {
    format!(
        "CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {}({})",
        dialect.quote(key.name),
        dialect.quote(key.column),
        dialect.quote(key.parent),
        dialect.quote(key.parent_column)
    )
}

fn names(dialect: Dialect, columns: &[&str]) -> String {
    let quoted: Vec<String> = columns.iter().map(|name| dialect.quote(name)).collect();
    quoted.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(dialect: Dialect, name: &str) -> String {
        let quoted = format!("CREATE TABLE {} ", dialect.quote(name));
        let mut tables = ddl_tables(dialect).into_iter();
        tables.find(|ddl| ddl.starts_with(&quoted)).unwrap()
    }

    // The ORM of Plik (Go) parses this very text to see which columns there are.
    #[test]
    fn sqlite_tables_have_the_text_of_plik_go() {
        assert_eq!(
            table(Dialect::Sqlite, "files"),
            "CREATE TABLE `files` (`id` text,`upload_id` text,`name` text,`status` text,`md5` text,\
             `type` text,`size` integer,`is_text` numeric,`reference` text,`backend_details` text,\
             `download_count` integer,`last_downloaded_at` datetime,`created_at` datetime,\
             PRIMARY KEY (`id`),CONSTRAINT `fk_uploads_files` FOREIGN KEY (`upload_id`) REFERENCES \
             `uploads`(`id`))"
        );
        assert_eq!(
            table(Dialect::Sqlite, "cli_auth_sessions"),
            "CREATE TABLE `cli_auth_sessions` (`code` text,`secret` text,\
             `status` text DEFAULT \"pending\",`token` text,`created_at` datetime,\
             `expires_at` datetime,PRIMARY KEY (`code`))"
        );
        assert!(table(Dialect::Sqlite, "usage_stats").starts_with(
            "CREATE TABLE `usage_stats` (`user_id` text NOT NULL DEFAULT \"\",\
             `token` text NOT NULL DEFAULT \"\",`current_uploads` integer,"
        ));
    }

    #[test]
    fn postgres_tables_have_the_types_of_plik_go() {
        assert_eq!(
            table(Dialect::Postgres, "tokens"),
            "CREATE TABLE \"tokens\" (\"token\" text,\"comment\" text,\"user_id\" varchar(256),\
             \"created_at\" timestamptz,PRIMARY KEY (\"token\"))"
        );
        assert_eq!(
            ddl_foreign_keys(Dialect::Postgres),
            [
                "ALTER TABLE \"tokens\" ADD CONSTRAINT \"fk_users_tokens\" FOREIGN KEY (\"user_id\") \
                 REFERENCES \"users\"(\"id\")",
                "ALTER TABLE \"files\" ADD CONSTRAINT \"fk_uploads_files\" FOREIGN KEY \
                 (\"upload_id\") REFERENCES \"uploads\"(\"id\")",
            ]
        );
        assert_eq!(ddl_foreign_keys(Dialect::Sqlite), [""; 0]);
    }

    #[test]
    fn indexes_are_those_of_the_last_version() {
        let indexes = ddl_indexes(Dialect::Sqlite);
        assert_eq!(indexes.len(), 11);
        let daily = "CREATE INDEX `idx_upload_stats_daily_user_day` ON \
             `upload_stats_daily`(`user_id`,`day`)";
        assert!(indexes.iter().any(|index| index == daily));
    }
}
