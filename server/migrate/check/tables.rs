//! The tables of the source, and whether the target can have them.

use std::collections::HashSet;

use super::Check;
use crate::config::Driver;
use crate::metadata::{self, Layout, MAX_NAME_BYTES, MadeType, Snapshot};
use crate::migrate::error::{MigrateError, Problem};
use crate::migrate::names;
use crate::migrate::unfit::{TableFault, Unfit};

/// What every table of PostgreSQL has.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// A column that gets another type in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::migrate) struct Retyped {
    pub table: String,
    pub column: String,
    pub from: String,
    pub to: String,
}

/// What the target has already, of what stays there.
#[derive(Default)]
struct There {
    layouts: Vec<Layout>,
    taken: HashSet<String>,
    of_others: HashSet<String>,
}

impl There {
    /// Tables that were taken apart to be loaded count as those of the source that they will be.
    async fn look(target: Option<&Snapshot>, source: &[Layout]) -> Result<Self, MigrateError> {
        let Some(target) = target else {
            return Ok(Self::default());
        };
        let mut layouts = target.layouts().await?;
        if target.is_apart().await? {
            for there in &mut layouts {
                let here = source.iter().find(|here| here.name == there.name);
                here.into_iter().for_each(|here| there.take_key_of(here));
            }
        }
        Ok(Self {
            layouts,
            taken: target.taken_names().await?,
            of_others: target.tables_of_others().await?,
        })
    }

    fn table(&self, name: &str) -> Option<&Layout> {
        self.layouts.iter().find(|layout| layout.name == name)
    }

    fn has_column(&self, table: &str, column: &str) -> bool {
        self.table(table)
            .is_some_and(|there| there.position(column).is_some())
    }
}

impl Check<'_> {
    /// Looks whether the target can have the tables, and gives those that go there, as they are to
    /// be made there.
    pub(super) async fn check_tables(
        &mut self,
        source: &Snapshot,
        mut layouts: Vec<Layout>,
        target: Option<&Snapshot>,
    ) -> Result<Vec<Layout>, MigrateError> {
        if !self.options.halves.has_metadata() {
            return Ok(layouts);
        }
        let mut there = There::look(target, &layouts).await?;
        if self.options.replace.is_some() {
            there
                .layouts
                .retain(|layout| !metadata::is_of_plikd(&layout.name));
        }
        let unreadable = source.unreadable_tables().await?;
        let mut own_tables = source.own_tables().await?;
        if let Some(target) = target {
            own_tables.extend(target.own_tables().await?);
        }
        let mut unfit = Vec::new();
        for layout in &layouts {
            if layout.primary_key.is_empty() {
                unfit.push(Unfit::table(layout, TableFault::NoPrimaryKey));
            }
            if own_tables.contains(&layout.name) {
                unfit.push(Unfit::table(layout, TableFault::CatalogName));
            }
            if unreadable.contains(&layout.name) {
                unfit.push(Unfit::table(layout, TableFault::Unreadable));
            }
            unfit.extend(self.unfit_parts(layout, &there));
        }
        if self.to.metadata.driver == Driver::Sqlite {
            unfit.extend(names::same(&layouts, &there.layouts));
        }
        if let Some(target) = target {
            let unknown = self.retype(source, &mut layouts, target, &there).await?;
            unfit.extend(unknown);
        }
        let layouts = self.settle(unfit, layouts);
        self.check_generated(source, &layouts, target).await?;
        Ok(layouts)
    }

    /// What the target cannot be given of one table, whatever is in the others.
    fn unfit_parts(&self, layout: &Layout, there: &There) -> Vec<Unfit> {
        let to = self.to.metadata.driver;
        let mut unfit = Vec::new();
        let found = there.table(&layout.name);
        match found {
            Some(found) if layout.known().is_none() && found.key_names() != layout.key_names() => {
                let fault = TableFault::OtherKey {
                    here: layout.key_names().join(", "),
                    there: found.key_names().join(", "),
                };
                unfit.push(Unfit::table(layout, fault));
            }
            Some(_) => {}
            None => {
                let fault = relation_fault(&layout.name, to, there);
                unfit.extend(fault.map(|fault| Unfit::table(layout, fault)));
                let indexes = layout.indexes.iter().map(|index| index.name.as_str());
                unfit.extend(
                    indexes
                        .filter(|_| layout.known().is_none())
                        .filter_map(|index| {
                            relation_fault(index, to, there)
                                .map(|fault| Unfit::index(layout, index, fault))
                        }),
                );
            }
        }
        let columns = layout.columns.iter().map(|column| column.name.as_str());
        for column in columns.filter(|column| !there.has_column(&layout.name, column)) {
            let not_ours = found.is_some() && there.of_others.contains(&layout.name);
            let fault = match not_ours {
                true => Some(TableFault::OthersTable),
                false => column_fault(column, to),
            };
            unfit.extend(fault.map(|fault| Unfit::column(layout, column, fault)));
        }
        unfit
    }

    /// Gives the columns whose types the target does not have one that it has. The others cannot
    /// go there.
    async fn retype(
        &mut self,
        source: &Snapshot,
        layouts: &mut [Layout],
        target: &Snapshot,
        there: &There,
    ) -> Result<Vec<Unfit>, MigrateError> {
        if target.driver() != Driver::Postgres {
            return Ok(Vec::new());
        }
        let made = source.made_types().await?;
        let types: Vec<&str> = made.iter().map(|made| made.declared.as_str()).collect();
        let unknown = target.unknown_types(&types).await?;
        let lacking = made.into_iter().filter(|made| {
            unknown.contains(&made.declared) && !there.has_column(&made.table, &made.column)
        });
        let mut unfit = Vec::new();
        for MadeType {
            table,
            column,
            declared,
            instead,
        } in lacking
        {
            let Some(layout) = layouts.iter_mut().find(|layout| layout.name == table) else {
                continue;
            };
            let position = layout.position(&column);
            match instead.zip(position) {
                Some((instead, position)) => {
                    layout.columns[position].declared.clone_from(&instead);
                    self.found.retyped.push(Retyped {
                        table,
                        column,
                        from: declared,
                        to: instead,
                    });
                }
                None => {
                    let fault = TableFault::UnknownType(declared);
                    unfit.push(Unfit::column(layout, &column, fault));
                }
            }
        }
        Ok(unfit)
    }

    /// Keeps the run from starting, or leaves out what it can do without, if that was asked for.
    fn settle(&mut self, unfit: Vec<Unfit>, mut layouts: Vec<Layout>) -> Vec<Layout> {
        for unfit in unfit {
            match self.options.ignore_errors && unfit.is_dispensable() {
                true => self.found.omitted.push(unfit),
                false => self.problems.push(Problem::Table(unfit)),
            }
        }
        let omitted = &self.found.omitted;
        layouts.retain(|layout| {
            let mut of_table = omitted.iter().filter(|unfit| unfit.table == layout.name);
            of_table.all(|unfit| unfit.omitted_column().is_some())
        });
        for layout in &mut layouts {
            let of_table = omitted.iter().filter(|unfit| unfit.table == layout.name);
            let columns: Vec<&str> = of_table.filter_map(Unfit::omitted_column).collect();
            if !columns.is_empty() {
                *layout = layout.without(&columns);
            }
        }
        layouts
    }

    /// Values that a database makes cannot be written: they are there if the target makes them too.
    async fn check_generated(
        &mut self,
        source: &Snapshot,
        layouts: &[Layout],
        target: Option<&Snapshot>,
    ) -> Result<(), MigrateError> {
        let there = match target.filter(|_| self.options.replace.is_none()) {
            Some(target) => target.generated_columns().await?,
            None => Vec::new(),
        };
        let mut made = source.generated_columns().await?;
        made.retain(|column| {
            let is_moved = layouts.iter().any(|layout| layout.name == column.0);
            is_moved && !there.contains(column)
        });
        self.found.left_out = made;
        Ok(())
    }
}

/// Why no table or index of that name can be created.
fn relation_fault(name: &str, to: Driver, there: &There) -> Option<TableFault> {
    let is_taken = match to {
        Driver::Postgres => there.taken.contains(name),
        Driver::Sqlite => there
            .taken
            .iter()
            .any(|taken| taken.eq_ignore_ascii_case(name)),
    };
    let is_reserved = to == Driver::Sqlite && name.to_ascii_lowercase().starts_with("sqlite_");
    match (is_reserved, is_taken) {
        (true, _) => Some(TableFault::ReservedName),
        (_, true) => Some(TableFault::TakenName),
        _ => length_fault(name, to),
    }
}

fn column_fault(name: &str, to: Driver) -> Option<TableFault> {
    match to == Driver::Postgres && SYSTEM_COLUMNS.contains(&name) {
        true => Some(TableFault::SystemColumn),
        false => length_fault(name, to),
    }
}

fn length_fault(name: &str, to: Driver) -> Option<TableFault> {
    match name.len() {
        _ if to == Driver::Sqlite => None,
        0 => Some(TableFault::NoName),
        length if length > MAX_NAME_BYTES => Some(TableFault::LongName),
        _ => None,
    }
}
