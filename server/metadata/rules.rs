//! What is done about rows on their way out of a source, beyond judging each value by itself.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::fault::{Fault, Reason};
use super::layout::Layout;
use super::table::ForeignKey;

/// Keys of one table, as they are stored.
pub type Keys = HashSet<Box<[u8]>>;

/// Which rows of a source do not go to the target, and which values are mended on the way.
///
/// A snapshot that was given rules reads as if they had been done to it: whoever copies its rows
/// and whoever compares them see the same.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// NUL bytes are removed from text where the target cannot hold them, except from keys,
    /// indexed columns and references: what refers to the row would not find it any more.
    pub strip_nul: bool,
    /// Rows without their parent are no rows of the source. Otherwise they are rejected.
    pub skip_orphans: bool,
    missing: HashMap<String, Arc<Keys>>,
    rejected: HashMap<String, Arc<Keys>>,
    same: HashMap<String, Arc<Keys>>,
}

impl Rules {
    /// Notes rows that the children of `table` refer to and that are not there.
    pub fn set_missing_parents(&mut self, table: &str, keys: Keys) {
        insert(&mut self.missing, table, keys);
    }

    /// Takes rows without their parent for rows like others.
    pub fn keep_orphans(&mut self) {
        self.missing.clear();
    }

    /// Notes rows of `table` that cannot go to the target, so that their children cannot either.
    pub fn set_rejected(&mut self, table: &str, keys: Keys) {
        insert(&mut self.rejected, table, keys);
    }

    /// Notes keys of `table`, encoded, that more than one row would have in the target.
    pub fn set_same_keys(&mut self, table: &str, keys: Keys) {
        insert(&mut self.same, table, keys);
    }

    /// Whether whoever reads `layout` must look at each row.
    pub fn concern(&self, layout: &Layout) -> bool {
        !self.checks(layout).is_empty()
    }

    /// The rules for the columns of `layout`.
    pub(super) fn checks(&self, layout: &Layout) -> Checks {
        let references = references(layout).filter_map(|(column, key)| {
            let missing = self.missing.get(&layout.name).cloned();
            let rejected = self.rejected.get(key.parent).cloned();
            (missing.is_some() || rejected.is_some()).then_some(Reference {
                column,
                key,
                missing: missing.unwrap_or_default(),
                rejected: rejected.unwrap_or_default(),
            })
        });
        Checks {
            strip_nul: match self.strip_nul {
                true => (0..layout.columns.len())
                    .map(|column| !layout.finds_rows_by(column))
                    .collect(),
                false => Vec::new(),
            },
            skip_orphans: self.skip_orphans,
            references: references.collect(),
            same: self.same.get(&layout.name).cloned(),
        }
    }

    /// Those that take rows away without a word, and none that rejects one.
    pub(super) fn only_skipping(&self) -> Self {
        Self {
            missing: match self.skip_orphans {
                true => self.missing.clone(),
                false => HashMap::new(),
            },
            skip_orphans: self.skip_orphans,
            ..Self::default()
        }
    }
}

fn insert(map: &mut HashMap<String, Arc<Keys>>, table: &str, keys: Keys) {
    if !keys.is_empty() {
        map.insert(table.to_owned(), Arc::new(keys));
    }
}

/// The foreign keys of the table among the columns of `layout`.
fn references(layout: &Layout) -> impl Iterator<Item = (usize, &'static ForeignKey)> {
    let keys = layout.known().map_or(&[][..], |table| table.foreign_keys);
    keys.iter()
        .filter_map(|key| Some((layout.position(key.column)?, key)))
}

/// [`Rules`] for one table, by the positions of its columns.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    strip_nul: Vec<bool>,
    skip_orphans: bool,
    references: Vec<Reference>,
    same: Option<Arc<Keys>>,
}

#[derive(Clone, Debug)]
struct Reference {
    column: usize,
    key: &'static ForeignKey,
    missing: Arc<Keys>,
    rejected: Arc<Keys>,
}

/// What the parents of a row make of it.
pub enum Judgement {
    Fit,
    /// The row is none of the source's.
    Skipped,
    Unfit(Vec<Fault>),
}

impl Checks {
    pub fn is_empty(&self) -> bool {
        self.strip_nul.is_empty() && self.references.is_empty() && self.same.is_none()
    }

    /// Whether the NUL bytes of that column's text are to be removed.
    pub fn strips(&self, column: usize) -> bool {
        self.strip_nul.get(column).copied().unwrap_or(false)
    }

    pub fn has_references(&self) -> bool {
        !self.references.is_empty()
    }

    /// Judges a row by its parents; `stored` gives the bytes of a column as they are stored.
    pub fn judge<'v>(&self, stored: impl Fn(usize) -> Option<Cow<'v, [u8]>>) -> Judgement {
        let mut faults = Vec::new();
        for reference in &self.references {
            let Some(parent) = stored(reference.column) else {
                continue;
            };
            let reason = if reference.missing.contains(&*parent) {
                if self.skip_orphans {
                    return Judgement::Skipped;
                }
                Reason::Orphan(reference.key.parent)
            } else if reference.rejected.contains(&*parent) {
                Reason::LostParent(reference.key.parent)
            } else {
                continue;
            };
            faults.push(Fault {
                column: Some(reference.key.column.to_owned()),
                reason,
            });
        }
        match faults.is_empty() {
            true => Judgement::Fit,
            false => Judgement::Unfit(faults),
        }
    }

    /// What is wrong with a row whose encoded key `key` gives.
    pub fn key_fault(&self, key: impl FnOnce() -> Vec<u8>) -> Option<Fault> {
        let same = self.same.as_ref()?;
        same.contains(&*key()).then_some(Fault {
            column: None,
            reason: Reason::SameKey,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::layout::Column;
    use crate::metadata::table::Kind;

    fn files() -> Layout {
        let column = |name: &str| Column {
            name: name.to_owned(),
            kind: Kind::Text,
            declared: "text".to_owned(),
        };
        Layout {
            name: "files".to_owned(),
            columns: ["id", "upload_id", "name"].map(column).to_vec(),
            primary_key: vec![0],
            indexes: Vec::new(),
        }
    }

    fn keys(keys: &[&str]) -> Keys {
        keys.iter().map(|key| key.as_bytes().into()).collect()
    }

    fn standing(rules: &Rules, upload: Option<&'static str>) -> Judgement {
        rules.checks(&files()).judge(|column| match column {
            1 => upload.map(|id| Cow::Borrowed(id.as_bytes())),
            _ => unreachable!("no other column is a reference"),
        })
    }

    #[test]
    fn a_row_is_judged_by_its_parent() {
        let mut rules = Rules::default();
        assert!(!rules.concern(&files()));
        rules.set_missing_parents("files", keys(&["gone"]));
        rules.set_rejected("uploads", keys(&["bad"]));
        assert!(rules.concern(&files()));
        let reason = |upload| match standing(&rules, Some(upload)) {
            Judgement::Unfit(faults) => Some(faults[0].to_string()),
            Judgement::Fit | Judgement::Skipped => None,
        };
        assert!(
            reason("gone")
                .unwrap()
                .starts_with("upload_id: it refers to a row of uploads that does not")
        );
        assert!(reason("bad").unwrap().ends_with("that is rejected too"));
        assert_eq!(reason("good"), None);
        assert!(matches!(standing(&rules, None), Judgement::Fit));
    }

    #[test]
    fn orphans_are_skipped_on_request_and_children_of_rejected_rows_are_not() {
        let mut rules = Rules {
            skip_orphans: true,
            ..Rules::default()
        };
        rules.set_missing_parents("files", keys(&["gone"]));
        rules.set_rejected("uploads", keys(&["bad"]));
        assert!(matches!(standing(&rules, Some("gone")), Judgement::Skipped));
        assert!(matches!(standing(&rules, Some("bad")), Judgement::Unfit(_)));
        let rules = rules.only_skipping();
        assert!(matches!(standing(&rules, Some("gone")), Judgement::Skipped));
        assert!(matches!(standing(&rules, Some("bad")), Judgement::Fit));
    }

    #[test]
    fn text_by_which_rows_are_found_is_never_changed() {
        let rules = Rules {
            strip_nul: true,
            ..Rules::default()
        };
        let checks = rules.checks(&files());
        assert_eq!(
            [0, 1, 2].map(|column| checks.strips(column)),
            [false, false, true]
        );
        assert!(!Rules::default().checks(&files()).strips(2));
    }
}
