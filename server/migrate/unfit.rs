//! What the target cannot have of the source's tables.

use crate::metadata::table::Table;
use crate::metadata::{Layout, MAX_NAME_BYTES};

/// A table of the source, or a column or index of one, that the target cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    pub table: String,
    pub part: Part,
    pub fault: TableFault,
}

/// What of a table it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    Column(String),
    Index(String),
}

/// Why the target cannot have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableFault {
    /// Its rows cannot be told apart.
    NoPrimaryKey,
    /// The columns of the primary key in the source and in the target.
    OtherKey { here: String, there: String },
    /// To SQLite it is the same name as that one.
    SameName(String),
    /// PostgreSQL would cut it.
    LongName,
    /// PostgreSQL has no names without a letter.
    NoName,
    /// Names that begin like it are SQLite's own.
    ReservedName,
    /// PostgreSQL would find a table of its own instead.
    CatalogName,
    /// Every table of PostgreSQL has such a column already.
    SystemColumn,
    /// A view, an index or the like has that name in the target.
    TakenName,
    /// The target has no type of that name.
    UnknownType(String),
    /// The user of the source may not read it.
    Unreadable,
    /// The target lacks it, and its user may not add it to the table of somebody else.
    OthersTable,
}

impl Unfit {
    pub fn table(layout: &Layout, fault: TableFault) -> Self {
        Self {
            table: layout.name.clone(),
            part: Part::Whole,
            fault,
        }
    }

    pub fn column(layout: &Layout, column: &str, fault: TableFault) -> Self {
        Self {
            table: layout.name.clone(),
            part: Part::Column(column.to_owned()),
            fault,
        }
    }

    pub fn index(layout: &Layout, index: &str, fault: TableFault) -> Self {
        Self {
            table: layout.name.clone(),
            part: Part::Index(index.to_owned()),
            fault,
        }
    }

    /// Whether a run can do without what it is about: a table that this program does not know, or
    /// a column that it does not know of one that it does.
    pub fn is_dispensable(&self) -> bool {
        match (Table::find(&self.table), &self.part) {
            (None, _) => true,
            (Some(table), Part::Column(column)) => table.column(column).is_none(),
            (Some(_), Part::Whole | Part::Index(_)) => false,
        }
    }

    /// The column that is left out where the table is not, because this program needs it.
    pub fn omitted_column(&self) -> Option<&str> {
        match &self.part {
            Part::Column(column) if Table::find(&self.table).is_some() => Some(column),
            Part::Column(_) | Part::Whole | Part::Index(_) => None,
        }
    }

    /// What a person calls it.
    fn name(&self) -> String {
        match &self.part {
            Part::Whole => self.table.clone(),
            Part::Column(name) | Part::Index(name) => format!("{}.{name}", self.table),
        }
    }

    fn kind(&self) -> &'static str {
        match self.part {
            Part::Whole => "table",
            Part::Column(_) => "column",
            Part::Index(_) => "index",
        }
    }

    /// The check that finds it.
    pub fn check(&self) -> &'static str {
        match self.fault {
            TableFault::NoPrimaryKey | TableFault::OtherKey { .. } => "primary keys",
            TableFault::SameName(_)
            | TableFault::LongName
            | TableFault::NoName
            | TableFault::ReservedName
            | TableFault::CatalogName
            | TableFault::SystemColumn
            | TableFault::TakenName => "names",
            TableFault::UnknownType(_) => "column types",
            TableFault::Unreadable | TableFault::OthersTable => "rights",
        }
    }

    /// Whether a backend refuses us, which the administrator of that one can change.
    pub fn is_denied(&self) -> bool {
        matches!(self.fault, TableFault::Unreadable | TableFault::OthersTable)
    }

    /// What the administrator can do about it, in one sentence.
    pub fn hint(&self) -> String {
        let (name, table) = (self.name(), &self.table);
        match &self.fault {
            TableFault::NoPrimaryKey => {
                format!("give table {table} a primary key, or drop it if nothing needs it")
            }
            TableFault::OtherKey { .. } => {
                format!("rename or drop table {table} in the target, or give both the same key")
            }
            TableFault::SameName(_) => {
                format!("rename {name}, or drop it if nothing needs it; or migrate to PostgreSQL")
            }
            TableFault::LongName
            | TableFault::NoName
            | TableFault::ReservedName
            | TableFault::CatalogName
            | TableFault::SystemColumn => {
                format!(
                    "rename {} {name}, or drop it if nothing needs it",
                    self.kind()
                )
            }
            TableFault::TakenName => {
                format!(
                    "rename {} {name}, or what has its name in the target",
                    self.kind()
                )
            }
            TableFault::UnknownType(made) => format!(
                "create type {made} in the target first (an extension may have it), or drop {} \
                 {name} if nothing needs it",
                self.kind()
            ),
            TableFault::Unreadable => {
                format!("GRANT SELECT ON {table} to the user of the source's ConnectionString")
            }
            TableFault::OthersTable => format!(
                "add {name} in the target as the owner of {table}, or let the user of the \
                 target's ConnectionString own that table"
            ),
        }
    }
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, name) = (self.kind(), self.name());
        match &self.fault {
            TableFault::NoPrimaryKey => write!(
                f,
                "table {name} has no primary key, so its rows cannot be told apart"
            ),
            TableFault::OtherKey { here, there } => write!(
                f,
                "table {name} has the primary key ({here}), and ({there}) in the target"
            ),
            TableFault::SameName(one) => write!(
                f,
                "{kind}s {one} and {name} are the same name in SQLite, which does not tell cases \
                 apart"
            ),
            TableFault::LongName => write!(
                f,
                "{kind} {name} has a name of more than {MAX_NAME_BYTES} bytes, which PostgreSQL \
                 would cut"
            ),
            TableFault::NoName => write!(
                f,
                "{kind} {name} has an empty name, which PostgreSQL does not take"
            ),
            TableFault::ReservedName => write!(
                f,
                "{kind} {name} cannot be in SQLite, whose own names begin with sqlite_"
            ),
            TableFault::CatalogName => write!(
                f,
                "{kind} {name} has the name of a table of PostgreSQL's own, which is found instead"
            ),
            TableFault::SystemColumn => write!(
                f,
                "{kind} {name} cannot be in PostgreSQL, which has a column of that name in every \
                 table"
            ),
            TableFault::TakenName => write!(
                f,
                "{kind} {name} cannot be created in the target: a view, an index or the like has \
                 its name"
            ),
            TableFault::UnknownType(made) => {
                write!(
                    f,
                    "{kind} {name} has type {made}, which the target does not have"
                )
            }
            TableFault::Unreadable => write!(
                f,
                "{kind} {name} of the source may not be read by this user"
            ),
            TableFault::OthersTable => write!(
                f,
                "{kind} {name} is not in the target, where this user may not add it: the table is \
                 somebody else's"
            ),
        }
    }
}
