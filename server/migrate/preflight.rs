//! What was checked before the first write, as a list to read: what is well, what is not, and what
//! to do about it.

use super::check::{Found, Retyped};
use super::ends::{DatabaseEnd, Ends};
use super::error::{Problem, Side};
use super::{Endpoint, Mode};
use crate::config::{DataConfig, MetadataConfig};
use crate::data::{self, Feature, Suitability, Tuning};
use crate::metadata;

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckItem {
    pub name: String,
    pub verdict: Verdict,
    pub detail: String,
    /// What the administrator can do, in one sentence.
    pub hint: Option<String>,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// The run can start, but may surprise.
    Doubtful,
    /// It could not be found out.
    Unknown,
    /// The run cannot start.
    Failed,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Doubtful => "doubtful",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}

/// Connections that a run, its checks and its comparison take at the most.
const CONNECTIONS: i64 = 10;

/// The checks that look at the tables of the source.
const TABLE_CHECKS: [&str; 4] = ["primary keys", "names", "column types", "rights"];

/// What the list of one run is made from.
pub(super) struct Preflight<'a> {
    pub ends: &'a Ends,
    /// Each is a failed check; what has none, and could be looked at, passed.
    pub problems: &'a [Problem],
    pub found: &'a Found,
    /// Schema versions of the source that this program does not know.
    pub foreign_versions: &'a [String],
    pub mode: Mode,
}

impl Preflight<'_> {
    pub async fn list(&self, to: Endpoint<'_>, tuning: &Tuning) -> Vec<CheckItem> {
        let mut list = List { items: Vec::new() };
        list.source(self);
        list.target(self);
        list.versions(self.foreign_versions);
        list.generated(&self.found.left_out);
        list.tables(self.found);
        list.data(self);
        list.between(self.problems);
        list.space(self);
        let is_usable = |half: &str| !self.problems.iter().any(|problem| name(problem) == half);
        if self.ends.to.metadata.is_some() && is_usable("target metadata") {
            list.connections(to.metadata).await;
        }
        if self.ends.to.data.is_some() && is_usable("target data") {
            list.file_numbers(to.data, self.found.blobs.map(|totals| totals.blobs));
            list.features(data::survey(to.data, tuning).await);
        }
        list.items
    }
}

struct List {
    items: Vec<CheckItem>,
}

impl List {
    fn add(&mut self, name: &str, verdict: Verdict, detail: impl Into<String>) {
        self.items.push(CheckItem {
            name: name.to_owned(),
            verdict,
            detail: detail.into(),
            hint: None,
        });
    }

    /// The failed checks of that name, or else that it passed.
    fn passed_unless(&mut self, problems: &[Problem], wanted: &str, detail: String) {
        let before = self.items.len();
        let failed = problems.iter().filter(|problem| name(problem) == wanted);
        self.items.extend(failed.map(Problem::as_check));
        if self.items.len() == before && !detail.is_empty() {
            self.add(wanted, Verdict::Passed, detail);
        }
    }

    fn doubt(&mut self, name: &str, detail: String, hint: &str) {
        self.items.push(CheckItem {
            name: name.to_owned(),
            verdict: Verdict::Doubtful,
            detail,
            hint: Some(hint.to_owned()),
        });
    }

    fn source(&mut self, run: &Preflight<'_>) {
        let from = run.ends.from.metadata.as_ref();
        let detail = from.map_or_else(String::new, |from| format!("{} can be read", shown(from)));
        self.passed_unless(run.problems, "source metadata", detail);
        if run.found.source_is_served {
            self.doubt(
                "server of the source",
                "it is running: what it changes from now on is not in the target".to_owned(),
                match run.mode {
                    Mode::Copy => "stop it in the end, and run again with --sync",
                    Mode::Sync { .. } => "stop it for the last run",
                },
            );
        }
    }

    fn target(&mut self, run: &Preflight<'_>) {
        const NAME: &str = "target metadata";
        let is_the_source = |problem: &Problem| matches!(problem, Problem::SamePlace { half, .. } if *half == "metadata");
        // Nothing of it was looked at then.
        let to = match run.problems.iter().any(is_the_source) {
            true => None,
            false => run.ends.to.metadata.as_ref(),
        };
        if let (Some(to), Some(rows)) = (to, &run.found.others_rows) {
            self.doubt(
                NAME,
                format!(
                    "{} can be written, but holds {rows} that did not come from this source",
                    shown(to)
                ),
                "choose an empty database, unless the two servers are to become one",
            );
            return;
        }
        let detail = to.map_or_else(String::new, |to| {
            let state = match (&to.identity, to.schema_versions.is_empty()) {
                (Some(_), _) if run.found.in_parts => "has rows of this source that came in parts",
                (Some(_), _) if run.found.goes_on => {
                    "has a run from this source that was cut off, which is resumed"
                }
                (None, _) => "does not exist yet and can be created",
                (Some(_), true) => "is empty, in use by nobody, and can be written",
                (Some(_), false) => "is in use by nobody and can be written",
            };
            format!("{} {state}", shown(to))
        });
        self.passed_unless(run.problems, NAME, detail);
    }

    fn versions(&mut self, foreign: &[String]) {
        if !foreign.is_empty() {
            self.add(
                "schema versions",
                Verdict::Doubtful,
                format!(
                    "the source has some that this program does not know, which travel along: {}",
                    foreign.join(", ")
                ),
            );
        }
    }

    fn generated(&mut self, left_out: &[(String, String)]) {
        let names = left_out.iter();
        let names: Vec<String> = names
            .map(|(table, name)| format!("{table}.{name}"))
            .collect();
        if !names.is_empty() {
            self.doubt(
                "generated columns",
                format!(
                    "the source makes their values from others, so they are left out: {}",
                    names.join(", ")
                ),
                "create their tables in the target with them first, if they are wanted there",
            );
        }
    }

    /// What the target gets otherwise than the source has it, or not at all.
    fn tables(&mut self, found: &Found) {
        for retyped in &found.retyped {
            let Retyped {
                table,
                column,
                from,
                to,
            } = retyped;
            self.doubt(
                "column types",
                format!("the target has no type {from}, so {table}.{column} becomes {to} there"),
                &format!("create type {from} in the target first, if it is wanted there"),
            );
        }
        for unfit in &found.omitted {
            let what = match unfit.omitted_column() {
                Some(column) => format!("column {}.{column}", unfit.table),
                None => format!("table {}", unfit.table),
            };
            let detail = format!("{unfit}: {what} is left out");
            self.doubt(unfit.check(), detail, &unfit.hint());
        }
    }

    fn data(&mut self, run: &Preflight<'_>) {
        // A bucket is only asked whether it is there: what else it can do is tried out by the run.
        let to_is_bucket = run
            .ends
            .to
            .data
            .as_ref()
            .is_some_and(|end| end.driver == "s3");
        let writable = match (run.found.to_is_absent, to_is_bucket) {
            (true, true) => "does not exist yet and will be created, if this access key may",
            (true, false) => "does not exist yet and can be created",
            (false, true) => "can be reached",
            (false, false) => "can be written",
        };
        let sides = [
            ("source data", &run.ends.from.data, "can be read"),
            ("target data", &run.ends.to.data, writable),
        ];
        for (side, end, state) in sides {
            let detail = end.as_ref().map(|end| format!("{} {state}", end.place));
            self.passed_unless(run.problems, side, detail.unwrap_or_default());
        }
    }

    fn between(&mut self, problems: &[Problem]) {
        let was_not_opened =
            |problem: &Problem| matches!(problem, Problem::Metadata { .. } | Problem::Data { .. });
        // What could not be opened may still be the same.
        let detail = match problems.iter().any(was_not_opened) {
            true => String::new(),
            false => "source and target are apart".to_owned(),
        };
        self.passed_unless(problems, "places", detail);
        for check in TABLE_CHECKS {
            self.passed_unless(problems, check, String::new());
        }
        self.passed_unless(problems, "keys of blobs", String::new());
    }

    /// Room is looked at when all else is well; servers behind a network tell nothing of it.
    fn space(&mut self, run: &Preflight<'_>) {
        let detail = match &run.found.roomy[..] {
            [] => String::new(),
            places => format!("enough for {}", places.join(" and ")),
        };
        self.passed_unless(run.problems, "space", detail);
    }

    async fn connections(&mut self, to: &MetadataConfig) {
        const NAME: &str = "connections";
        match metadata::free_connections(to).await {
            Ok(None) => {}
            Ok(Some(free)) if free >= CONNECTIONS => {
                self.add(
                    NAME,
                    Verdict::Passed,
                    format!("PostgreSQL has {free} to give"),
                );
            }
            Ok(Some(free)) => self.items.push(CheckItem {
                name: NAME.to_owned(),
                verdict: Verdict::Doubtful,
                detail: format!("PostgreSQL has only {free} to give"),
                hint: Some("raise its max_connections, or stop what holds so many".to_owned()),
            }),
            Err(error) => self.add(NAME, Verdict::Unknown, error.to_string()),
        }
    }

    /// A directory needs a file for each blob.
    fn file_numbers(&mut self, to: &DataConfig, blobs: Option<u64>) {
        const NAME: &str = "number of files";
        let (Some(free), Some(blobs)) = (data::free_files(to), blobs) else {
            return;
        };
        match free > blobs {
            true => self.add(
                NAME,
                Verdict::Passed,
                format!("{free} can be added to the directory"),
            ),
            // Those of an earlier run are there already.
            false => self.items.push(CheckItem {
                name: NAME.to_owned(),
                verdict: Verdict::Doubtful,
                detail: format!("{free} can be added to the directory, for {blobs} blobs"),
                hint: Some("choose a file system with more inodes".to_owned()),
            }),
        }
    }

    fn features(&mut self, features: Vec<Feature>) {
        self.items.extend(features.into_iter().map(CheckItem::from));
    }
}

impl From<Feature> for CheckItem {
    fn from(feature: Feature) -> Self {
        Self {
            name: feature.name.to_owned(),
            verdict: match feature.suitability {
                Suitability::Good => Verdict::Passed,
                Suitability::Doubtful => Verdict::Doubtful,
                Suitability::Unknown => Verdict::Unknown,
            },
            detail: feature.detail,
            hint: feature.hint,
        }
    }
}

impl Problem {
    /// As the check that found it.
    pub(super) fn as_check(&self) -> CheckItem {
        CheckItem {
            name: name(self).to_owned(),
            verdict: Verdict::Failed,
            detail: self.explain(),
            hint: self.hint(),
        }
    }
}

/// The check that found the problem.
fn name(problem: &Problem) -> &'static str {
    match problem {
        Problem::Metadata {
            side: Side::Source, ..
        } => "source metadata",
        Problem::Metadata {
            side: Side::Target, ..
        } => "target metadata",
        Problem::Data {
            side: Side::Source, ..
        } => "source data",
        Problem::Data {
            side: Side::Target, ..
        } => "target data",
        Problem::OthersRows { .. } => "target metadata",
        Problem::NoBlobs { .. } => "source data",
        Problem::SamePlace { .. } => "places",
        Problem::Table(unfit) => unfit.check(),
        Problem::ShardOfFile => "target metadata",
        Problem::NoPlaceForKeys | Problem::ShardWithKeys => "keys of blobs",
        Problem::NoSpace { .. } => "space",
    }
}

fn shown(end: &DatabaseEnd) -> String {
    match &end.engine_version {
        Some(version) => format!("{} (version {version})", end.place),
        None => end.place.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data::DataError;
    use crate::metadata::MetadataError;
    use crate::migrate::unfit::{Part, TableFault, Unfit};

    /// Name, verdict and whether there is a hint, of a run between local backends.
    async fn checked(problems: &[Problem], found: &Found) -> Vec<(String, Verdict, bool)> {
        let run = Preflight {
            ends: &Ends::default(),
            problems,
            found,
            foreign_versions: &[],
            mode: Mode::Copy,
        };
        let config = Config::default();
        let to = Endpoint {
            metadata: &config.metadata,
            data: &config.data,
        };
        let items = run.list(to, &Tuning::default()).await.into_iter();
        items
            .map(|item| (item.name, item.verdict, item.hint.is_some()))
            .collect()
    }

    #[tokio::test]
    async fn what_failed_is_listed_with_its_remedy_and_the_rest_passed() {
        let problem = Problem::NoSpace {
            place: "directory files".to_owned(),
            free: 1,
            needed: 2,
        };
        let expected = [
            ("places".to_owned(), Verdict::Passed, false),
            ("space".to_owned(), Verdict::Failed, true),
        ];
        assert_eq!(checked(&[problem], &Found::default()).await, expected);
    }

    #[tokio::test]
    async fn a_problem_of_every_kind_is_listed_as_failed() {
        let (text, half) = (String::new, "metadata");
        let lost = || MetadataError::NotInitialised { backend: text() };
        let away = || DataError::InvalidId { id: text() };
        let [metadata, data]: [fn(_, _, _) -> Problem; 2] = [
            |side, source, _| Problem::Metadata { side, source },
            |side, _, source| Problem::Data { side, source },
        ];
        let unfit = |fault| {
            Problem::Table(Unfit {
                table: text(),
                part: Part::Whole,
                fault,
            })
        };
        let problems = [
            metadata(Side::Source, lost(), away()),
            metadata(Side::Target, lost(), away()),
            data(Side::Source, lost(), away()),
            data(Side::Target, lost(), away()),
            Problem::SamePlace {
                half,
                place: text(),
                both: false,
            },
            Problem::NoSpace {
                place: text(),
                free: 1,
                needed: 2,
            },
            Problem::NoBlobs {
                place: text(),
                is_absent: true,
                promised: 1,
            },
            Problem::OthersRows {
                place: text(),
                rows: text(),
            },
            unfit(TableFault::NoPrimaryKey),
            unfit(TableFault::LongName),
            unfit(TableFault::UnknownType(text())),
            unfit(TableFault::Unreadable),
            Problem::NoPlaceForKeys,
            Problem::ShardWithKeys,
            Problem::ShardOfFile,
        ];
        for problem in problems {
            let explained = problem.explain();
            let items = checked(&[problem], &Found::default()).await;
            let failed = items.iter().filter(|item| item.1 == Verdict::Failed);
            assert_eq!(failed.count(), 1, "{explained}: {items:?}");
        }
    }

    #[tokio::test]
    async fn room_is_told_of_where_it_is_known() {
        let names = async |found: &Found| -> Vec<String> {
            let items = checked(&[], found).await.into_iter();
            items.map(|(name, _, _)| name).collect()
        };
        assert_eq!(names(&Found::default()).await, ["places"]);
        let found = Found {
            roomy: vec!["directory files".to_owned()],
            ..Found::default()
        };
        assert_eq!(names(&found).await, ["places", "space"]);
    }

    #[tokio::test]
    async fn a_server_that_runs_on_the_source_is_a_doubt_with_a_remedy() {
        let found = Found {
            source_is_served: true,
            ..Found::default()
        };
        let expected = ("server of the source".to_owned(), Verdict::Doubtful, true);
        assert_eq!(checked(&[], &found).await[0], expected);
    }
}
