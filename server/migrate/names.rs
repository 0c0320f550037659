//! Names that are one in SQLite, which does not tell cases apart, and two in PostgreSQL.

use std::collections::HashMap;

use super::unfit::{TableFault, Unfit};
use crate::metadata::Layout;

/// The tables of the source, and their columns, that a SQLite database cannot have beside others of
/// the source, or beside those `there`.
pub(super) fn same(source: &[Layout], there: &[Layout]) -> Vec<Unfit> {
    let tables = source.iter().chain(there).map(|layout| &*layout.name);
    let mut unfit = Vec::new();
    for (one, other) in clashes(tables) {
        // One of them is the source's.
        let of_source = |name: &str| source.iter().find(|layout| layout.name == name);
        let found = of_source(other).map(|layout| (layout, one));
        let found = found.or_else(|| of_source(one).map(|layout| (layout, other)));
        unfit.extend(
            found.map(|(layout, beside)| {
                Unfit::table(layout, TableFault::SameName(beside.to_owned()))
            }),
        );
    }
    for layout in source {
        let known = there.iter().find(|known| known.name == layout.name);
        let columns = layout
            .columns
            .iter()
            .chain(known.into_iter().flat_map(|known| &known.columns));
        for (one, other) in clashes(columns.map(|column| &*column.name)) {
            let (column, beside) = match layout.position(other) {
                Some(_) => (other, one),
                None => (one, other),
            };
            let beside = format!("{}.{beside}", layout.name);
            unfit.push(Unfit::column(layout, column, TableFault::SameName(beside)));
        }
    }
    unfit
}

/// The names that are one to SQLite, in pairs, the earlier one first.
fn clashes<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, &'a str)> {
    // SQLite folds ASCII alone.
    let mut first: HashMap<String, &str> = HashMap::new();
    let mut found = Vec::new();
    for name in names {
        let one = *first.entry(name.to_ascii_lowercase()).or_insert(name);
        if one != name {
            found.push((one, name));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Column;
    use crate::metadata::table::Kind;

    fn layout(name: &str, columns: &[&str]) -> Layout {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            kind: Kind::Text,
            declared: "text".to_owned(),
        };
        Layout {
            name: name.to_owned(),
            columns: columns.iter().map(column).collect(),
            ..Layout::default()
        }
    }

    fn told(source: &[Layout], there: &[Layout]) -> Vec<String> {
        same(source, there).iter().map(Unfit::to_string).collect()
    }

    #[test]
    fn names_that_differ_by_case_only_are_told() {
        let source = [layout("Ev", &["A", "b", "a"]), layout("ev", &["É", "é"])];
        let told = told(&source, &[]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("tables Ev and ev are the same name"));
        assert!(told[1].starts_with("columns Ev.A and Ev.a are the same name"));
    }

    #[test]
    fn what_the_target_has_counts_and_equal_names_are_no_problem() {
        let there = [layout("users", &["id", "Note"]), layout("Events", &["id"])];
        let source = [layout("users", &["id", "note"]), layout("events", &["ID"])];
        assert_eq!(told(&source, &there).len(), 2);
        assert!(told(&there, &there).is_empty());
    }
}
