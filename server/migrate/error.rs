//! Why a migration did not start, or stopped.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::data::DataError;
use crate::metadata::{MetadataError, Reject};

use super::lint::{Effect, LintReport};
use super::outlook::Moved;
use super::progress::BlobProblem;
use super::unfit::Unfit;

/// Something that keeps a migration from starting.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("source and target are the same {half}: {place}")]
    SamePlace {
        half: &'static str,
        place: String,
        /// The other half is the same too, so that moving it alone is no way out.
        both: bool,
    },
    #[error("the {side} cannot be used")]
    Metadata { side: Side, source: MetadataError },
    #[error("the {side} cannot be used")]
    Data { side: Side, source: DataError },
    #[error("{place} has {free} bytes free, and {needed} are to be written")]
    NoSpace {
        place: String,
        free: u64,
        needed: u64,
    },
    /// The source's directory is absent, or has nothing in it.
    #[error("{place} {}, but {} of the source {} there", if *.is_absent { "does not exist" } else { "is empty" }, files(*.promised), if *.promised == 1 { "has its bytes" } else { "have their bytes" })]
    NoBlobs {
        place: String,
        is_absent: bool,
        /// Files whose rows say that there are bytes.
        promised: u64,
    },
    /// Making it equal to the source would take the place of what another server keeps there.
    #[error(
        "--sync would overwrite what is in {place}: it holds {rows} that did not come from this source"
    )]
    OthersRows { place: String, rows: String },
    /// The target cannot have a table of the source.
    #[error("{0}")]
    Table(Unfit),
    #[error(
        "the target encrypts each blob with a key of its own (SSE-C), and there is no row of the target to keep it in"
    )]
    NoPlaceForKeys,
    #[error(
        "the target encrypts each blob with a key of its own (SSE-C), and keys are written by one run at a time"
    )]
    ShardWithKeys,
    #[error("rows go into a SQLite database by one run, not in parts")]
    ShardOfFile,
}

/// One of the two ends of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Target,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

impl Side {
    fn hint(self) -> String {
        match self {
            Self::Source => "check the configuration of this server".to_owned(),
            Self::Target => "check the file of --to".to_owned(),
        }
    }
}

/// An error with its causes, in one line.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl Problem {
    /// The problem with its causes, in one line.
    pub fn explain(&self) -> String {
        explain(self)
    }

    /// What the administrator can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::SamePlace { both: true, .. } => {
                Some("name another place in the file of --to".to_owned())
            }
            Self::SamePlace { half, .. } => {
                let other = if *half == "data" { "metadata" } else { "data" };
                Some(format!(
                    "give the file of --to a place of its own for the {half}, or move the {other} \
                     alone with --{other}-only"
                ))
            }
            Self::Metadata {
                side: Side::Target,
                source: MetadataError::NotInitialised { .. },
            } => Some("run the migration first: `plikd migrate --to` with the same file".to_owned()),
            Self::Metadata { side, source } => source.hint().or_else(|| Some(side.hint())),
            Self::Data { side, source } => source.hint().or_else(|| Some(side.hint())),
            Self::NoBlobs { .. } => Some(
                "mount its disk, or correct the Directory of the source; --metadata-only moves the \
                 rows alone"
                    .to_owned(),
            ),
            Self::OthersRows { .. } => Some(
                "run the migration without --sync first: it overwrites nothing and names what \
                 differs; or check the file of --to"
                    .to_owned(),
            ),
            Self::NoSpace { .. } => Some("free some space there, or choose another place".to_owned()),
            Self::Table(unfit) => Some(match unfit.is_dispensable() {
                true => format!("{}; or leave it out with --ignore-errors", unfit.hint()),
                false => unfit.hint(),
            }),
            Self::NoPlaceForKeys => Some(
                "migrate the metadata to a database of its own first (or together), or set SSE to 'S3' or ''".to_owned(),
            ),
            Self::ShardOfFile => Some(
                "leave out --shard, or --metadata-only: then the part has blobs only".to_owned(),
            ),
            Self::ShardWithKeys => {
                Some("leave out --shard, or set SSE of the target to 'S3' or ''".to_owned())
            }
        }
    }
}

/// A line of a file of rejected rows that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// From 1.
    pub line: usize,
    pub cause: String,
}

/// Why a migration ended early.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Nothing was written.
    #[error("the migration cannot start: {}", problems(.0))]
    Preflight(Vec<Problem>),
    /// What a plan was made from is not as it was: everything that moved. Nothing was written.
    #[error("the plan no longer fits: {}", moved(.0))]
    Moved(Vec<Moved>),
    #[error("the metadata could not be copied")]
    Metadata(#[from] MetadataError),
    #[error("the data could not be copied")]
    Data(#[from] DataError),
    /// Rows that the target cannot hold; the first hundred at most.
    #[error("{} of table {} cannot go to the target: {}", rows(.0.len() as u64), .0[0].table, .0[0].reason)]
    Rejected(Vec<Reject>),
    /// The source has rows that the target cannot hold. Nothing was written.
    #[error("{} of the source cannot go to the target{}", rows(.0.rows(Effect::Rejected)), such_as(.0.first.first().map(ToString::to_string).as_deref()))]
    Unfit(Box<LintReport>),
    /// PostgreSQL does not say which row of a part it was.
    #[error("the target refuses a row of table {table} in this part: {reason}")]
    PartRefused { table: String, reason: String },
    #[error("{} cannot be written", .path.display())]
    Rejects { path: PathBuf, source: io::Error },
    /// Nothing was written. The first hundred lines that are no rows of the target, of `total`.
    #[error("{} of {} cannot be read: line {}: {}", lines_of(*.total), .path.display(), .lines[0].line, .lines[0].cause)]
    BadLines {
        path: PathBuf,
        lines: Vec<BadLine>,
        total: usize,
    },
    #[error("{} cannot be read", .path.display())]
    ReplayFile { path: PathBuf, source: io::Error },
    #[error("{} has something else than rejected rows of this source", .0.display())]
    RejectsTaken(PathBuf),
    #[error("blob {} of upload {}{}: {}", .0.file_id, .0.upload_id, .0.places, .0.reason)]
    Blob(Box<BlobProblem>),
    /// Stopped on request, after the item in hand; what was done stays done.
    #[error("interrupted")]
    Interrupted,
    /// The target does not hold what was written to it.
    #[error("table {table} differs between source and target after the copy: {} missing, {} different{}", rows(*.missing), rows(*.different), such_as(.example.as_deref()))]
    Differs {
        table: String,
        missing: u64,
        different: u64,
        example: Option<String>,
    },
    /// Following the source would remove most of what came from it. Nothing was removed.
    #[error(
        "--delete would remove {removed} of the {of} files that {place} has from the source: they are \
         gone from it"
    )]
    MassRemoval {
        removed: u64,
        /// Files of the target that came from the source.
        of: u64,
        place: String,
    },
    /// Something that could have passed did not, for so many seconds.
    #[error("given up after {} of trying again", counted_seconds(*.seconds))]
    GivenUp {
        seconds: u64,
        source: Box<MigrateError>,
    },
    #[error("a task of the migration ended unexpectedly")]
    Task(#[from] tokio::task::JoinError),
}

/// What to do about a source that has lost most of its files.
pub const MASS_REMOVAL_HINT: &str = "nothing was removed. If the source is a wrong one, was emptied or restored, mend that first; \
     if these files are to go, give --yes too; without --delete nothing is removed";

fn to_resume(hint: Option<String>, transient: bool) -> Option<String> {
    match transient {
        true => hint.map(|hint| format!("{hint}, then run the same command again to resume")),
        false => hint,
    }
}

/// A lock that an attempt of this run left behind goes as soon as the server notices that its
/// connection is gone.
fn is_passing(error: &MetadataError, again: bool) -> bool {
    error.is_transient() || (again && matches!(error, MetadataError::InUse { .. }))
}

impl Problem {
    /// A server that cannot be reached when the run begins has most likely another address; later
    /// it is known to have been there.
    fn is_passing(&self, again: bool) -> bool {
        match self {
            Self::Metadata { source, .. } => match source {
                MetadataError::Unreachable { .. } | MetadataError::Standby { .. } => again,
                source => is_passing(source, again),
            },
            Self::Data { source, .. } => match source {
                DataError::Unreachable { .. } => again,
                source => source.is_transient(),
            },
            Self::SamePlace { .. }
            | Self::NoBlobs { .. }
            | Self::NoSpace { .. }
            | Self::OthersRows { .. }
            | Self::Table(_)
            | Self::NoPlaceForKeys
            | Self::ShardWithKeys
            | Self::ShardOfFile => false,
        }
    }
}

/// Marks that both halves are the same, if they are: each was found by itself.
pub(super) fn tell_both_halves(problems: &mut [Problem]) {
    let is_same = |problem: &&mut Problem| matches!(problem, Problem::SamePlace { .. });
    if problems.iter_mut().filter(is_same).count() < 2 {
        return;
    }
    for problem in problems {
        if let Problem::SamePlace { both, .. } = problem {
            *both = true;
        }
    }
}

/// One problem with its causes. Several have been told as a list of checks.
fn problems(problems: &[Problem]) -> String {
    match problems {
        [problem] => problem.explain(),
        problems => format!("{} problems, listed above", problems.len()),
    }
}

fn lines_of(count: usize) -> String {
    match count {
        1 => "a line".to_owned(),
        count => format!("{count} lines"),
    }
}

fn files(count: u64) -> String {
    match count {
        1 => "a file".to_owned(),
        count => format!("{count} files"),
    }
}

fn rows(count: u64) -> String {
    match count {
        1 => "a row".to_owned(),
        count => format!("{count} rows"),
    }
}

/// The first thing that moved, and how many more.
fn moved(moved: &[Moved]) -> String {
    let first = moved.first().map(ToString::to_string).unwrap_or_default();
    match moved.len() {
        0 | 1 => first,
        count => format!("{first} (and {} more)", count - 1),
    }
}

fn such_as(key: Option<&str>) -> String {
    key.map(|key| format!(", such as {key}"))
        .unwrap_or_default()
}

fn counted_seconds(seconds: u64) -> String {
    match seconds {
        1 => "1 second".to_owned(),
        seconds => format!("{seconds} seconds"),
    }
}

impl MigrateError {
    /// The error of an attempt that was not the first: what kept it from starting has come up
    /// while the run was under way.
    pub(super) fn in_the_middle(self) -> Self {
        match self {
            Self::Preflight(problems) => match problems.into_iter().next() {
                Some(Problem::Metadata { source, .. }) => Self::Metadata(source),
                Some(Problem::Data { source, .. }) => Self::Data(source),
                first => Self::Preflight(first.into_iter().collect()),
            },
            error => error,
        }
    }

    /// The error once it was tried again for so long, if it was.
    pub(super) fn tried_for(self, time: Duration) -> Self {
        match time.as_secs() {
            0 => self,
            seconds => Self::GivenUp {
                seconds,
                source: Box::new(self),
            },
        }
    }

    /// Whether another attempt of the whole run can succeed where this one failed. With `again`
    /// this one was not the first of its run.
    ///
    /// The blobs have been tried again one by one, so what ended the run there ends it.
    pub(super) fn is_transient(&self, again: bool) -> bool {
        match self {
            Self::Metadata(error) => is_passing(error, again),
            Self::Preflight(problems) => {
                !problems.is_empty() && problems.iter().all(|problem| problem.is_passing(again))
            }
            Self::Data(_)
            | Self::Moved(_)
            | Self::Rejected(_)
            | Self::Unfit(_)
            | Self::PartRefused { .. }
            | Self::Rejects { .. }
            | Self::RejectsTaken(_)
            | Self::BadLines { .. }
            | Self::ReplayFile { .. }
            | Self::Blob(_)
            | Self::Interrupted
            | Self::Differs { .. }
            | Self::MassRemoval { .. }
            | Self::GivenUp { .. }
            | Self::Task(_) => false,
        }
    }

    /// The database that it is about, as messages name it, if it is about one alone.
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::Preflight(problems) => match &problems[..] {
                [Problem::Metadata { source, .. }] => source.backend(),
                _ => None,
            },
            Self::Metadata(error) => error.backend(),
            Self::GivenUp { source, .. } => source.database(),
            Self::Data(_)
            | Self::Moved(_)
            | Self::Rejected(_)
            | Self::Unfit(_)
            | Self::Rejects { .. }
            | Self::RejectsTaken(_)
            | Self::BadLines { .. }
            | Self::ReplayFile { .. }
            | Self::Blob(_)
            | Self::Interrupted
            | Self::MassRemoval { .. }
            | Self::PartRefused { .. }
            | Self::Differs { .. }
            | Self::Task(_) => None,
        }
    }

    /// What the administrator can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Preflight(problems) => match &problems[..] {
                [problem] => problem.hint(),
                _ => Some("do what is said below each of them".to_owned()),
            },
            Self::Metadata(error) => to_resume(error.hint(), error.is_transient()),
            Self::Data(error) => to_resume(error.hint(), error.is_transient()),
            Self::Moved(_) => Some(
                "nothing was written; make a new plan with --plan, and look at it".to_owned(),
            ),
            Self::Rejected(_) => Some(
                "mend them in the source (`plikd clean` drops rows without a parent), or carry on without them with --ignore-errors".to_owned(),
            ),
            Self::Unfit(_) => Some(
                "nothing was written. Mend the rows in the source, or give --ignore-errors to go on \
                 without them (--rejects FILE keeps them whole, for `plikd migrate replay`); \
                 --fix-orphans leaves out rows without their parent, --strip-nul removes NUL bytes"
                    .to_owned(),
            ),
            Self::PartRefused { .. } => Some(
                "run the migration without --shard when the other parts are there: it brings these \
                 rows in batches and names the one at fault"
                    .to_owned(),
            ),
            Self::Rejects { path, source } if source.kind() == io::ErrorKind::AlreadyExists => {
                Some(format!(
                    "give --rejects another file, or move {} away: nothing of it is overwritten",
                    path.display()
                ))
            }
            Self::Rejects { path, .. } => Some(format!(
                "check that {} is in a directory that exists, with free space, and that this user may write it",
                path.display()
            )),
            Self::BadLines { .. } => Some(
                "nothing was written; mend the lines, or take them out of the file".to_owned(),
            ),
            Self::ReplayFile { .. } => Some("check the name of the file".to_owned()),
            Self::RejectsTaken(_) => Some("give --rejects another file".to_owned()),
            Self::Blob(_) => Some(
                "remove the file in the source, or carry on without it with --ignore-errors".to_owned(),
            ),
            Self::Interrupted => Some("run the same command again to resume".to_owned()),
            Self::Differs { .. } => Some(
                "another program may be writing to the target; run the same command again".to_owned(),
            ),
            Self::MassRemoval { .. } => Some(MASS_REMOVAL_HINT.to_owned()),
            Self::GivenUp { source, .. } => source.hint(),
            Self::Task(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(side: Side, source: MetadataError) -> MigrateError {
        MigrateError::Preflight(vec![Problem::Metadata { side, source }])
    }

    fn unreachable() -> MetadataError {
        MetadataError::Unreachable {
            action: "connect".into(),
            backend: "postgres".into(),
            source: "refused".into(),
        }
    }

    fn in_use() -> MetadataError {
        MetadataError::InUse {
            backend: "postgres".into(),
            by: "a server".into(),
        }
    }

    #[test]
    fn several_problems_are_counted_and_both_halves_have_no_way_out_by_the_other() {
        let same = |half| Problem::SamePlace {
            half,
            place: "there".to_owned(),
            both: false,
        };
        let hint = |problems: &[Problem]| problems[0].hint().unwrap_or_default();
        let mut one = vec![same("data")];
        tell_both_halves(&mut one);
        assert!(hint(&one).contains("--metadata-only"));
        let mut two = vec![same("metadata"), same("data")];
        tell_both_halves(&mut two);
        for problem in &two {
            assert_eq!(
                problem.hint().as_deref(),
                Some("name another place in the file of --to")
            );
        }
        assert_eq!(
            MigrateError::Preflight(two).to_string(),
            "the migration cannot start: 2 problems, listed above"
        );
        assert_eq!(
            MigrateError::Preflight(one).to_string(),
            "the migration cannot start: source and target are the same data: there"
        );
    }

    #[test]
    fn a_lost_connection_is_worth_another_attempt_a_wrong_address_is_not() {
        assert!(MigrateError::Metadata(unreachable()).is_transient(false));
        assert!(!metadata(Side::Target, unreachable()).is_transient(false));
        assert!(metadata(Side::Target, unreachable()).is_transient(true));
    }

    #[test]
    fn a_lock_is_waited_for_only_by_a_run_that_may_have_left_it() {
        assert!(!metadata(Side::Target, in_use()).is_transient(false));
        assert!(metadata(Side::Target, in_use()).is_transient(true));
    }

    #[test]
    fn one_problem_that_stays_is_enough_to_end_it() {
        let passing = || Problem::Metadata {
            side: Side::Source,
            source: unreachable(),
        };
        let error = MigrateError::Preflight(vec![passing(), Problem::NoPlaceForKeys]);
        assert!(!error.is_transient(true));
        assert!(MigrateError::Preflight(vec![passing(), passing()]).is_transient(true));
        assert!(!MigrateError::Interrupted.is_transient(true));
        assert!(!MigrateError::Rejected(Vec::new()).is_transient(true));
    }
}
