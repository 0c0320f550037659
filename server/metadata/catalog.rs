//! What a database says of its tables beyond their columns: who may do what with them, and what
//! another database could not make again.

use std::collections::HashSet;

use super::MetadataError;
use super::snapshot::Snapshot;

/// What PostgreSQL keeps of a name.
pub const MAX_NAME_BYTES: usize = 63;

/// A column whose type is none of the engine's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeType {
    pub table: String,
    pub column: String,
    /// The type as the database spells it.
    pub declared: String,
    /// A type of the engine's own that holds all its values, where there is one.
    pub instead: Option<String>,
}

type Sql = &'static str;

impl Snapshot {
    /// Columns whose values the database makes from others, each with its table. No layout has
    /// them: they cannot be written.
    pub async fn generated_columns(&self) -> Result<Vec<(String, String)>, MetadataError> {
        // 2 and 3: made when they are read, and when their row is written.
        const SQLITE: Sql = "SELECT s.name, c.name FROM sqlite_schema s, \
             pragma_table_xinfo(s.name) c \
             WHERE s.type = 'table' AND c.hidden IN (2, 3) ORDER BY s.name, c.cid";
        const POSTGRES: Sql = "SELECT c.relname::text, a.attname::text FROM pg_class c \
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace \
             AND a.attgenerated <> '' ORDER BY c.relname, a.attnum";
        let found = self.catalog(Some(SQLITE), POSTGRES, &[]).await?;
        let pairs = found
            .into_iter()
            .filter_map(|row| match <[_; 2]>::try_from(row) {
                Ok([Some(table), Some(column)]) => Some((table, column)),
                _ => None,
            });
        Ok(pairs.collect())
    }

    /// Tables with a column that this user may not read. In SQLite there are no such rights.
    pub async fn unreadable_tables(&self) -> Result<HashSet<String>, MetadataError> {
        const POSTGRES: Sql = "SELECT c.relname::text FROM pg_class c \
             WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace \
             AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
                 AND NOT a.attisdropped AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT'))";
        self.names(None, POSTGRES, &[]).await
    }

    /// Tables that this user may not add a column to. In SQLite there are no such rights.
    pub async fn tables_of_others(&self) -> Result<HashSet<String>, MetadataError> {
        const POSTGRES: Sql = "SELECT c.relname::text FROM pg_class c \
             WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace \
             AND NOT pg_has_role(c.relowner, 'USAGE')";
        self.names(None, POSTGRES, &[]).await
    }

    /// What has a name that no table can have beside it: views, indexes, sequences.
    pub async fn taken_names(&self) -> Result<HashSet<String>, MetadataError> {
        const SQLITE: Sql = "SELECT name FROM sqlite_schema WHERE type IN ('view', 'index')";
        const POSTGRES: Sql = "SELECT c.relname::text FROM pg_class c \
             WHERE c.relkind NOT IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace";
        self.names(Some(SQLITE), POSTGRES, &[]).await
    }

    /// The tables of the engine's own that a name finds before any other. SQLite has none.
    pub async fn own_tables(&self) -> Result<HashSet<String>, MetadataError> {
        const POSTGRES: Sql = "SELECT c.relname::text FROM pg_class c \
             WHERE c.relnamespace = 'pg_catalog'::regnamespace";
        self.names(None, POSTGRES, &[]).await
    }

    /// The columns of types that somebody has made: enumerations, domains, types of extensions, and
    /// arrays of these. SQLite has none.
    pub async fn made_types(&self) -> Result<Vec<MadeType>, MetadataError> {
        // What is not PostgreSQL's own has a number from 16384 on. An array is taken by its
        // elements, a domain is followed to its base.
        const POSTGRES: Sql = "WITH RECURSIVE made AS ( \
             SELECT c.relname::text AS in_table, a.attname::text AS in_column, a.attnum, \
                 format_type(a.atttypid, a.atttypmod) AS declared, \
                 t.typcategory = 'A' AND t.typtype <> 'd' AS is_array, \
                 CASE WHEN t.typcategory = 'A' AND t.typtype <> 'd' THEN t.typelem ELSE t.oid END AS base, \
                 -1 AS modifier \
             FROM pg_class c \
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
                 AND NOT a.attisdropped AND a.attgenerated = '' \
             JOIN pg_type t ON t.oid = a.atttypid \
             WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace \
             AND (CASE WHEN t.typcategory = 'A' AND t.typtype <> 'd' THEN t.typelem ELSE t.oid END) >= 16384 \
             UNION ALL \
             SELECT m.in_table, m.in_column, m.attnum, m.declared, m.is_array, d.typbasetype, \
                 d.typtypmod \
             FROM made m JOIN pg_type d ON d.oid = m.base AND d.typtype = 'd') \
             SELECT m.in_table, m.in_column, m.declared, \
                 CASE WHEN e.typtype = 'e' THEN 'text' \
                     WHEN e.oid < 16384 THEN format_type(m.base, m.modifier) END \
                 || CASE WHEN m.is_array THEN '[]' ELSE '' END \
             FROM made m JOIN pg_type e ON e.oid = m.base AND e.typtype <> 'd' \
             ORDER BY m.in_table, m.attnum";
        let found = self.catalog(None, POSTGRES, &[]).await?;
        let types = found
            .into_iter()
            .filter_map(|row| match <[_; 4]>::try_from(row) {
                Ok([Some(table), Some(column), Some(declared), instead]) => Some(MadeType {
                    table,
                    column,
                    declared,
                    instead,
                }),
                _ => None,
            });
        Ok(types.collect())
    }

    /// Those of `types`, as PostgreSQL spells them, that the database does not have.
    pub async fn unknown_types(&self, types: &[&str]) -> Result<HashSet<String>, MetadataError> {
        const POSTGRES: Sql = "SELECT t FROM unnest($1::text[]) AS t WHERE to_regtype(t) IS NULL";
        self.names(None, POSTGRES, types).await
    }

    async fn names(
        &self,
        sqlite: Option<Sql>,
        postgres: Sql,
        parameter: &[&str],
    ) -> Result<HashSet<String>, MetadataError> {
        let found = self.catalog(sqlite, postgres, parameter).await?;
        Ok(found.into_iter().flatten().flatten().collect())
    }

    async fn catalog(
        &self,
        sqlite: Option<Sql>,
        postgres: Sql,
        parameter: &[&str],
    ) -> Result<Vec<Vec<Option<String>>>, MetadataError> {
        match (self, sqlite) {
            (Self::Sqlite(reader), Some(sql)) => reader.catalog(sql).await,
            (Self::Sqlite(_), None) => Ok(Vec::new()),
            (Self::Postgres(reader), _) => reader.catalog(postgres, parameter).await,
        }
    }
}
