//! Names that are one in SQLite, which does not tell cases apart, and two in PostgreSQL.

use std::collections::HashMap;

use super::error::Problem;
use crate::metadata::Layout;

/// The tables of the source, and their columns, that a SQLite database cannot have beside others of
/// the source, or beside those `there`.
pub(super) fn same(source: &[Layout], there: &[Layout]) -> Vec<Problem> {
    let tables = source.iter().chain(there).map(|layout| &*layout.name);
    let mut problems = clashes(tables, "tables", str::to_owned);
    for layout in source {
        let known = there.iter().find(|known| known.name == layout.name);
        let columns = layout
            .columns
            .iter()
            .chain(known.into_iter().flat_map(|known| &known.columns));
        let shown = |column: &str| format!("{}.{column}", layout.name);
        problems.extend(clashes(
            columns.map(|column| &*column.name),
            "columns",
            shown,
        ));
    }
    problems
}

fn clashes<'a>(
    names: impl Iterator<Item = &'a str>,
    what: &str,
    shown: impl Fn(&str) -> String,
) -> Vec<Problem> {
    // SQLite folds ASCII alone.
    let mut first: HashMap<String, &str> = HashMap::new();
    let mut problems = Vec::new();
    for name in names {
        let one = *first.entry(name.to_ascii_lowercase()).or_insert(name);
        if one != name {
            problems.push(Problem::SameName {
                one: format!("{what} {}", shown(one)),
                other: shown(name),
            });
        }
    }
    problems
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
        same(source, there).iter().map(Problem::explain).collect()
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
