//! DDL for tables and columns that this program does not know, which must survive a migration all
//! the same.

use super::dialect::Dialect;
use super::layout::{Column, Layout, quote};
use super::table::Kind;

/// Turns what was found in one database into DDL for another.
pub(super) struct Strangers {
    /// The other database is of the same engine, so its own types will do.
    pub same_engine: bool,
    pub dialect: Dialect,
}

impl Strangers {
    pub fn add_column(&self, layout: &Layout, column: &Column) -> String {
        format!(
            "ALTER TABLE {} ADD COLUMN {}",
            quote(&layout.name),
            self.column(column)
        )
    }

    /// The table and its plain indexes.
    pub fn create_table(&self, layout: &Layout) -> Vec<String> {
        let mut parts: Vec<String> = layout.columns.iter().map(|c| self.column(c)).collect();
        let name_of = |column: &usize| quote(&layout.columns[*column].name);
        let key: Vec<String> = layout.primary_key.iter().map(name_of).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
        let table = quote(&layout.name);
        let mut statements = vec![format!("CREATE TABLE {table} ({})", parts.join(", "))];
        statements.extend(layout.indexes.iter().map(|index| {
            let columns: Vec<String> = index.columns.iter().map(|name| quote(name)).collect();
            format!(
                "CREATE INDEX {} ON {table} ({})",
                quote(&index.name),
                columns.join(", ")
            )
        }));
        statements
    }

    fn column(&self, column: &Column) -> String {
        let declared = match self.same_engine {
            true => &column.declared,
            // `numeric` would be any number to whoever reads the table.
            false if self.dialect == Dialect::Sqlite && column.kind == Kind::Boolean => "boolean",
            false => self.dialect.type_of(column.kind),
        };
        format!("{} {declared}", quote(&column.name))
    }
}
