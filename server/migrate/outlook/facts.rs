//! What a plan was made from, and whether it still is so.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::config::{DataConfig, Sse};
use crate::metadata::{Layout, MetadataError, Snapshot};
use crate::migrate::ends::{DataEnd, DatabaseEnd, Ends};
use crate::migrate::error::MigrateError;
use crate::migrate::plan::Plan;
use crate::migrate::{Endpoint, Halves};

/// What can be told of both ends before anything is written, without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The version of the program that looked.
    pub program: String,
    #[serde(flatten)]
    pub ends: Ends,
    /// Who encrypts the blobs of the target; `None` for nobody.
    pub encryption: Option<String>,
    /// Rows of each table to be copied, in the source.
    pub source_rows: BTreeMap<String, u64>,
    /// Rows of the same tables in the target, as far as it has them.
    pub target_rows: BTreeMap<String, u64>,
    /// What the rows of the source say of the blobs to be copied; `None` if only metadata is to be copied.
    pub blobs: Option<BlobTotals>,
}

/// How much the blobs of a server are, as its rows say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobTotals {
    pub blobs: u64,
    pub bytes: u64,
}

/// Something that is not as it was when a plan was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    pub what: String,
    pub planned: String,
    pub now: String,
}

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, planned, now } = self;
        write!(f, "{what}: {planned} in the plan, {now} now")
    }
}

/// When a difference counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Always,
    /// Until a run has begun, which itself changes it.
    BeforeBegin,
    /// Unless it is something that was not there, which a run creates.
    OnceThere,
}

/// One fact, in words.
struct Fact {
    scope: Scope,
    value: Option<String>,
}

impl Facts {
    /// Looks at the ends of `plan`. The second value: the target was left half-way by a run from
    /// this source.
    pub(super) async fn gather(
        plan: &Plan,
        to: Endpoint<'_>,
        halves: Halves,
    ) -> Result<(Self, bool), MigrateError> {
        let mut facts = Self {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            ends: plan.ends.clone(),
            encryption: encryption(to.data).map(str::to_owned),
            ..Self::default()
        };
        if halves.has_data() {
            facts.blobs = Some(plan.blobs);
        } else {
            facts.encryption = None;
        }
        if halves.has_metadata() {
            facts.source_rows = counts(&plan.source, &plan.layouts).await?;
        }
        if !plan.needs_loader && !halves.has_metadata() {
            return Ok((facts, false));
        }
        let target = match Snapshot::open(to.metadata).await {
            Ok(target) => target,
            Err(MetadataError::NotInitialised { .. }) => return Ok((facts, false)),
            Err(error) => return Err(error.into()),
        };
        if halves.has_metadata() {
            facts.target_rows = counts(&target, &plan.layouts).await?;
        }
        let has_begun = target.has_checkpoint_of(plan.source.identity()).await?;
        Ok((facts, has_begun))
    }

    /// What is other `now` than in these facts. With `has_begun` a run of the plan was cut off, and
    /// what it changes itself is not asked.
    pub fn moved(&self, now: &Self, has_begun: bool) -> Vec<Moved> {
        let (mut planned, mut now) = (self.listed(), now.listed());
        let names: BTreeSet<String> = planned.keys().chain(now.keys()).cloned().collect();
        let mut moved = Vec::new();
        for what in names {
            let (before, after) = (planned.remove(&what), now.remove(&what));
            let scope = before.as_ref().or(after.as_ref()).map(|fact| fact.scope);
            let (before, after) = (before.and_then(value), after.and_then(value));
            let counts = match scope {
                Some(Scope::BeforeBegin) => !has_begun,
                Some(Scope::OnceThere) => before.is_some(),
                Some(Scope::Always) | None => true,
            };
            if counts && before != after {
                let none = || "none".to_owned();
                moved.push(Moved {
                    what,
                    planned: before.unwrap_or_else(none),
                    now: after.unwrap_or_else(none),
                });
            }
        }
        moved
    }

    /// Every fact under its name.
    fn listed(&self) -> BTreeMap<String, Fact> {
        let mut list = List::default();
        list.add("program version", Scope::Always, Some(&self.program));
        let encryption = self.encryption.as_ref();
        list.add("encryption of the target", Scope::Always, encryption);
        let (from, to) = (&self.ends.from, &self.ends.to);
        list.database("source metadata", Scope::Always, from.metadata.as_ref());
        list.database("target metadata", Scope::BeforeBegin, to.metadata.as_ref());
        list.data("source data", Scope::Always, from.data.as_ref());
        list.data("target data", Scope::OnceThere, to.data.as_ref());
        list.rows("source", Scope::Always, &self.source_rows);
        list.rows("target", Scope::BeforeBegin, &self.target_rows);
        let blobs = self.blobs.map(|blobs| blobs.blobs.to_string());
        list.add("blobs of the source", Scope::Always, blobs.as_ref());
        let bytes = self.blobs.map(|blobs| blobs.bytes.to_string());
        list.add(
            "bytes of blobs of the source",
            Scope::Always,
            bytes.as_ref(),
        );
        list.0
    }
}

fn value(fact: Fact) -> Option<String> {
    fact.value
}

#[derive(Default)]
struct List(BTreeMap<String, Fact>);

impl List {
    fn add(&mut self, what: impl Into<String>, scope: Scope, value: Option<&String>) {
        let value = value.cloned();
        self.0.insert(what.into(), Fact { scope, value });
    }

    /// `scope` is that of what a run changes.
    fn database(&mut self, end: &str, scope: Scope, database: Option<&DatabaseEnd>) {
        let versions = database.map(|database| database.schema_versions.join(", "));
        let versions = versions.filter(|versions| !versions.is_empty());
        self.add(end, Scope::Always, database.map(|database| &database.place));
        let identity = database.and_then(|database| database.identity.as_ref());
        self.add(format!("identity of the {end}"), scope, identity);
        let name = format!("schema versions of the {end}");
        self.add(name, scope, versions.as_ref());
    }

    fn data(&mut self, end: &str, scope: Scope, data: Option<&DataEnd>) {
        self.add(end, Scope::Always, data.map(|data| &data.place));
        let identity = data.and_then(|data| data.identity.as_ref());
        self.add(format!("identity of the {end}"), scope, identity);
    }

    fn rows(&mut self, end: &str, scope: Scope, rows: &BTreeMap<String, u64>) {
        for (table, rows) in rows {
            let name = format!("rows of table {table} of the {end}");
            self.add(name, scope, Some(&rows.to_string()));
        }
    }
}

fn encryption(config: &DataConfig) -> Option<&'static str> {
    match config {
        DataConfig::File(_) => None,
        DataConfig::S3(s3) => match s3.sse {
            Sse::None => None,
            Sse::S3 => Some("by the S3 server"),
            Sse::Customer => Some("with a key per file"),
        },
    }
}

/// The rows of those tables that the database has.
async fn counts(
    database: &Snapshot,
    wanted: &[Layout],
) -> Result<BTreeMap<String, u64>, MetadataError> {
    let mut counts = BTreeMap::new();
    for layout in database.layouts().await? {
        if wanted.iter().any(|wanted| wanted.name == layout.name) {
            let rows = database.count(&layout.name).await?;
            counts.insert(layout.name, rows);
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::ends::End;

    fn facts() -> Facts {
        let database = |identity: Option<&str>| DatabaseEnd {
            driver: "sqlite".to_owned(),
            place: "sqlite plik.db".to_owned(),
            identity: identity.map(str::to_owned),
            engine_version: None,
            schema_versions: Vec::new(),
        };
        let data = |identity: Option<&str>| DataEnd {
            driver: "file".to_owned(),
            place: "directory files".to_owned(),
            identity: identity.map(str::to_owned),
        };
        Facts {
            program: "1".to_owned(),
            ends: Ends {
                from: End {
                    metadata: Some(database(Some("1:2"))),
                    data: Some(data(Some("1:3"))),
                },
                to: End {
                    metadata: Some(database(None)),
                    data: Some(data(None)),
                },
            },
            source_rows: BTreeMap::from([("users".to_owned(), 3)]),
            blobs: Some(BlobTotals { blobs: 2, bytes: 9 }),
            ..Facts::default()
        }
    }

    /// What moves when the facts are changed.
    fn moved(has_begun: bool, change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut now = facts();
        change(&mut now);
        let moved = facts().moved(&now, has_begun);
        moved.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_moved_is_named_with_both_values() {
        assert!(moved(false, |_| ()).is_empty());
        assert_eq!(
            moved(false, |now| {
                now.program = "2".to_owned();
                now.source_rows.insert("users".to_owned(), 4);
                now.source_rows.insert("notes".to_owned(), 0);
                now.blobs = Some(BlobTotals { blobs: 2, bytes: 8 });
            }),
            [
                "bytes of blobs of the source: 9 in the plan, 8 now",
                "program version: 1 in the plan, 2 now",
                "rows of table notes of the source: none in the plan, 0 now",
                "rows of table users of the source: 3 in the plan, 4 now",
            ]
        );
    }

    #[test]
    fn what_a_run_changes_itself_does_not_stop_it_from_being_resumed() {
        let arrived = |now: &mut Facts| {
            if let Some(target) = &mut now.ends.to.metadata {
                target.identity = Some("1:4".to_owned());
                target.schema_versions = vec!["0001".to_owned()];
            }
            now.target_rows.insert("users".to_owned(), 1);
        };
        assert_eq!(moved(false, arrived).len(), 3);
        assert!(moved(true, arrived).is_empty());
        let elsewhere = |now: &mut Facts| {
            arrived(now);
            if let Some(target) = &mut now.ends.to.metadata {
                target.place = "sqlite other.db".to_owned();
            }
        };
        assert_eq!(moved(true, elsewhere).len(), 1);
    }

    #[test]
    fn a_directory_may_come_to_be_but_not_become_another() {
        let set = |end: &mut End, identity: &str| {
            if let Some(data) = &mut end.data {
                data.identity = Some(identity.to_owned());
            }
        };
        assert!(moved(false, |now| set(&mut now.ends.to, "1:5")).is_empty());
        assert_eq!(moved(true, |now| set(&mut now.ends.from, "1:5")).len(), 1);
    }
}
