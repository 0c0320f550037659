//! The arguments of `plikd migrate`.

mod planned;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::dialect::Terms;
use crate::config::duration::parse_clock;

use super::limits::{LIMITS, LimitArgs, RetryArgs, at_least_one};
use crate::migrate::proof::VerifyOptions;
use crate::migrate::{Halves, Mode, Options};
use crate::model::Shard;

pub use planned::PlannedArgs;

/// Move this server's metadata and data to other backends
///
/// The source is this server's configuration, the target what FILE says differently. The source is
/// only read. Blobs are copied first, then rows, so that no row ever promises bytes that are not
/// there. Running the same command again resumes a run that was cut off, and copies only what is
/// missing.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct MigrateArgs {
    #[command(subcommand)]
    pub command: Option<MigrateCommand>,

    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, clap::Subcommand)]
pub enum MigrateCommand {
    Verify(VerifyArgs),
    Replay(ReplayArgs),
}

/// What a plan decides, or has no use for one.
const PLANNED: [&str; 19] = [
    "to",
    "dialect",
    "overwrite",
    "yes",
    "lock_timeout",
    "plan",
    "metadata_only",
    "data_only",
    "sync",
    "delete",
    "shard",
    "workers",
    "dry_run",
    "verbose",
    "ignore_errors",
    "rejects",
    "fix_orphans",
    "strip_nul",
    "no_verify",
];

const TARGET: &str = "Target";
const PLANS: &str = "Looking ahead";
const WHAT: &str = "What is moved";
const FAULTS: &str = "Rows and blobs that cannot be copied";
const PROOF: &str = "Proof at the end";
const TOLD: &str = "What is told";

/// A migration, or a dry run of one.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("where").args(["to", "dialect", "plan_file"]).required(true)))]
#[command(group(clap::ArgGroup::new("losing").args(["overwrite", "delete"]).multiple(true)))]
pub struct RunArgs {
    /// Configuration of the target, laid over the one of this server
    #[arg(help_heading = TARGET, long, value_name = "FILE")]
    pub to: Option<PathBuf>,

    #[command(flatten)]
    pub dialect: DialectArgs,

    /// Write what would be done to FILE, for --plan-file, and do nothing
    #[arg(help_heading = PLANS, long, value_name = "FILE", conflicts_with = "dialect")]
    pub plan: Option<PathBuf>,

    /// Do what the plan in FILE says, unless something has moved since it was made
    #[arg(
        help_heading = PLANS,
        long,
        value_name = "FILE",
        conflicts_with_all = PLANNED
    )]
    pub plan_file: Option<PathBuf>,

    /// Move the rows only: users, tokens, uploads, files, settings
    #[arg(help_heading = WHAT, long, conflicts_with = "data_only")]
    metadata_only: bool,

    /// Move the bytes of files only
    #[arg(help_heading = WHAT, long)]
    data_only: bool,

    /// Bring the target to the state of the source now: rows and blobs that have changed since an
    /// earlier run are made equal, those that are new are copied
    #[arg(help_heading = WHAT, long)]
    sync: bool,

    /// With --sync, remove rows and blobs from the target that came from this source and are gone
    /// from it; what the target has of its own stays
    #[arg(help_heading = WHAT, long, requires = "sync", conflicts_with = "data_only")]
    delete: bool,

    /// Move the K-th of N parts, while other processes, on any hosts, move the others: of the bytes
    /// of files and, where the target is PostgreSQL, of the rows; then a run without --shard puts
    /// the parts together
    #[arg(help_heading = WHAT, long, value_name = "K/N", conflicts_with = "sync")]
    shard: Option<Shard>,

    /// Blobs copied at the same time
    #[arg(
        help_heading = LIMITS,
        long,
        value_name = "N",
        default_value = "4",
        value_parser = at_least_one::<NonZeroUsize>
    )]
    workers: NonZeroUsize,

    /// Check both sides and show what would be done, without writing anything anywhere
    #[arg(help_heading = PLANS, long, conflicts_with = "plan")]
    pub dry_run: bool,

    /// Carry on past rows, blobs and tables that cannot be copied; each is named, the exit code is 20
    #[arg(help_heading = FAULTS, long)]
    ignore_errors: bool,

    /// With --ignore-errors, keep rejected rows whole in this file, for `plikd migrate replay`; it
    /// holds secrets, so only its owner can read it
    #[arg(
        help_heading = FAULTS,
        long,
        value_name = "FILE",
        requires = "ignore_errors",
        conflicts_with = "dry_run"
    )]
    rejects: Option<PathBuf>,

    /// Leave out files without their upload and tokens without their user, as cleaning would
    #[arg(help_heading = FAULTS, long)]
    fix_orphans: bool,

    /// Remove NUL bytes from text that PostgreSQL cannot hold with them; not from keys, nor from
    /// what refers to them
    #[arg(help_heading = FAULTS, long)]
    strip_nul: bool,

    /// Do not compare source and target after the last row
    #[arg(help_heading = PROOF, long)]
    no_verify: bool,

    /// Name every row that differs, that only the target has, is updated or removed, and not only
    /// the first few; with --dry-run or --plan, list every row and blob
    #[arg(help_heading = TOLD, long, short)]
    pub verbose: bool,

    #[command(flatten)]
    pub tell: TellArgs,

    #[command(flatten)]
    retry: RetryArgs,

    #[command(flatten)]
    pub limits: LimitArgs,
}

/// Who is told besides a person.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = TOLD)]
pub struct TellArgs {
    /// Write what happens to standard output as it happens, one JSON object per line
    #[arg(long)]
    pub json: bool,

    /// Write a report of the run to FILE, as JSON, also if it fails
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// The rows of one server to its other database.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = TARGET)]
pub struct DialectArgs {
    /// Move the rows of this server to its other database: `postgres` is the one of
    /// PLIKD_POSTGRES_URL, `sqlite` the file of the configuration
    #[arg(
        long,
        value_name = "DATABASE",
        conflicts_with_all = ["to", "data_only", "metadata_only", "shard", "workers"]
    )]
    pub dialect: Option<String>,

    /// With --dialect: replace what the target holds; a SQLite file is kept under another name
    // The parser forgets what is required where that would conflict, so both are said.
    #[arg(long, requires = "dialect", conflicts_with = "to")]
    overwrite: bool,

    /// With --overwrite: do not ask before tables are dropped; with --delete: remove rows and blobs
    /// also where most of the target's files go
    #[arg(long, requires = "losing")]
    yes: bool,

    /// With --dialect: how long to wait for a server that has one of the databases, such as 30s
    #[arg(
        long,
        requires = "dialect",
        conflicts_with = "to",
        value_name = "TIME",
        default_value = "0s",
        value_parser = duration
    )]
    lock_timeout: Duration,
}

impl DialectArgs {
    pub fn terms(&self, dry_run: bool) -> Terms {
        Terms {
            dry_run,
            overwrite: self.overwrite,
            yes: self.yes,
            lock_timeout: self.lock_timeout,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_clock(text).map_err(|error| error.to_string())
}

/// Compare the target of a migration with this server
///
/// Both are only read, and may be in use: what differs is looked at again before it is told. Rows
/// are compared by digests of whole tables, then those that differ by key: missing, extra, or in
/// which columns. Of each blob presence and size are asked on both sides; with --deep its bytes are
/// read. The exit code is 21 if anything differs.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Configuration of the target, laid over the one of this server
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,

    /// Read every blob on both sides and compare its MD5
    #[arg(long, conflicts_with = "metadata_only")]
    deep: bool,

    /// Compare the rows only
    #[arg(long, conflicts_with = "data_only")]
    metadata_only: bool,

    /// Compare the bytes of files only
    #[arg(long)]
    data_only: bool,

    /// Blobs looked at at the same time
    #[arg(
        help_heading = LIMITS,
        long,
        value_name = "N",
        default_value = "4",
        value_parser = at_least_one::<NonZeroUsize>
    )]
    workers: NonZeroUsize,

    #[command(flatten)]
    pub tell: TellArgs,

    #[command(flatten)]
    pub limits: LimitArgs,
}

impl VerifyArgs {
    pub fn options(&self) -> VerifyOptions {
        VerifyOptions {
            halves: halves(self.metadata_only, self.data_only),
            deep: self.deep,
            workers: self.workers,
        }
    }
}

/// Try rejected rows again, from a file of --rejects in which they were mended
///
/// Parents go first, whatever the order of the lines. Rows that are in the target already stay as
/// they are; those that are rejected again are named, and the exit code is 20. A line that is no
/// row of the target ends the run before anything is written.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// The file with the rows, one JSON object per line
    pub file: PathBuf,

    /// Configuration of the target, laid over the one of this server
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,

    /// Write rows that are rejected again to this new file
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
}

fn halves(metadata_only: bool, data_only: bool) -> Halves {
    match (metadata_only, data_only) {
        (true, _) => Halves::MetadataOnly,
        (_, true) => Halves::DataOnly,
        _ => Halves::Both,
    }
}

impl RunArgs {
    /// The word for what they ask for.
    pub fn command(&self) -> &'static str {
        match (self.dry_run, &self.plan) {
            (true, _) => "dry-run",
            (_, Some(_)) => "plan",
            _ => "migrate",
        }
    }

    pub fn options(&self) -> Options<'_> {
        Options {
            halves: match self.dialect.dialect {
                Some(_) => Halves::MetadataOnly,
                None => halves(self.metadata_only, self.data_only),
            },
            removes_most: self.dialect.yes,
            shard: self.shard,
            mode: match self.sync {
                true => Mode::Sync {
                    delete: self.delete,
                },
                false => Mode::Copy,
            },
            workers: self.workers,
            ignore_errors: self.ignore_errors,
            rejects: self.rejects.as_deref(),
            fix_orphans: self.fix_orphans,
            strip_nul: self.strip_nul,
            verify: !self.no_verify,
            retry: self.retry.policy(),
            expected: None,
            replace: None,
        }
    }
}

/// The arguments of a migration, for tests.
#[cfg(test)]
pub fn parsed(line: &str) -> RunArgs {
    tests::parse(line).unwrap().run
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: MigrateArgs,
    }

    pub fn parse(line: &str) -> Result<MigrateArgs, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.args)
    }

    #[test]
    fn a_migration_needs_no_word_and_a_verification_one() {
        let args = parse("migrate --to t.cfg --no-verify --retry-for 0").unwrap();
        let options = args.run.options();
        assert!(!options.verify && options.retry.retry_for.is_zero());
        let other = parse("migrate --dialect sqlite --lock-timeout 2m")
            .unwrap()
            .run;
        assert_eq!(other.options().halves, Halves::MetadataOnly);
        assert_eq!(
            other.dialect.terms(false).lock_timeout,
            Duration::from_secs(120)
        );
        for nice in [
            "--nice 2 --to t.cfg",
            "--nice=2 --to t.cfg",
            "--to t.cfg --nice 2",
        ] {
            let args = parse(&format!("migrate {nice}")).unwrap().run;
            assert_eq!(args.limits.asked()["nice"], 2.0, "{nice}");
        }
        let args = parse("migrate --nice --to t.cfg").unwrap().run;
        assert_eq!(args.limits.asked()["nice"], 1.0);
        for (half, halves) in [
            ("", Halves::Both),
            (" --data-only", Halves::DataOnly),
            (" --metadata-only", Halves::MetadataOnly),
        ] {
            let line = format!("migrate --to t.cfg --shard 1/2{half}");
            assert_eq!(parse(&line).unwrap().run.options().halves, halves);
        }
        let all = parse("migrate --to t.cfg --sync --delete --yes").unwrap();
        assert!(all.run.options().removes_most);
        let replay = parse("migrate replay r --to t.cfg").unwrap();
        assert!(matches!(replay.command, Some(MigrateCommand::Replay(_))));
        let verify = parse("migrate verify --to t.cfg --deep").unwrap();
        assert!(
            matches!(verify.command, Some(MigrateCommand::Verify(args)) if args.options().deep)
        );
    }

    /// What says how fast a planned run may go, and who is told.
    const BESIDE_A_PLAN: [&str; 9] = [
        "plan_file",
        "json",
        "report",
        "retries",
        "retry_for",
        "bwlimit",
        "max_rps",
        "nice",
        "limits",
    ];

    #[test]
    fn a_plan_decides_all_but_how_fast_and_who_is_told() {
        let command = Cli::command();
        let known: Vec<_> = command.get_arguments().collect();
        assert_eq!(known.len(), BESIDE_A_PLAN.len() + PLANNED.len());
        for argument in known {
            let Some(long) = argument.get_long() else {
                panic!("{argument} has no long name");
            };
            let value = match argument.get_id().as_str() {
                _ if !argument.get_action().takes_values() => "",
                "shard" => "=1/2",
                "lock_timeout" | "retry_for" => "=2s",
                _ => "=2",
            };
            let line = format!("migrate --plan-file=p --{long}{value}");
            let kind = parse(&line).map_err(|error| error.kind());
            if argument.get_id() == "plan_file" {
                assert_eq!(kind.err(), Some(ErrorKind::ArgumentConflict), "{line}");
            } else if BESIDE_A_PLAN.contains(&argument.get_id().as_str()) {
                assert!(kind.is_ok(), "{line}");
            } else {
                let refused = [
                    ErrorKind::ArgumentConflict,
                    ErrorKind::MissingRequiredArgument,
                ];
                assert!(kind.is_err_and(|kind| refused.contains(&kind)), "{line}");
            }
        }
    }

    /// A flattened group gives its heading to all that comes behind it.
    #[test]
    fn each_option_stands_under_a_heading_that_fits() {
        let command = Cli::command();
        let heading = |name: &str| {
            let mut arguments = command.get_arguments();
            let found = arguments.find(|argument| argument.get_id() == name);
            found.unwrap().get_help_heading().unwrap_or_default()
        };
        for (heading_of, names) in [
            (
                TARGET,
                &["to", "dialect", "overwrite", "yes", "lock_timeout"][..],
            ),
            (LIMITS, &["workers", "bwlimit", "max_rps", "nice", "limits"]),
            (PROOF, &["no_verify"]),
            (TOLD, &["verbose", "json", "report"]),
        ] {
            for name in names {
                assert_eq!(heading(name), heading_of, "{name}");
            }
        }
        let targets = command.get_arguments();
        let targets = targets.filter(|argument| argument.get_help_heading() == Some(TARGET));
        assert_eq!(targets.count(), 5);
    }

    #[test]
    fn a_migration_to_nowhere_names_every_way_to_say_where() {
        let error = parse("migrate --metadata-only").unwrap_err().to_string();
        for way in ["--to <FILE>", "--dialect <DATABASE>", "--plan-file <FILE>"] {
            assert!(error.contains(way), "{error}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_bad_usage() {
        for line in [
            "migrate",
            "migrate --workers 2",
            "migrate verify",
            "migrate --to t.cfg verify --to t.cfg",
            "migrate verify --to t.cfg --deep --metadata-only",
            "migrate --to t.cfg --deep",
            "migrate --to t.cfg --sync --delete --data-only",
            "migrate --to t.cfg --workers 0",
            "migrate --to t.cfg --shard 3/2",
            "migrate --to t.cfg --shard 1/2 --sync",
            "migrate --dialect sqlite --shard 1/2",
            "migrate --to t.cfg --dialect sqlite",
            "migrate --dialect sqlite --workers 2",
            "migrate --dialect sqlite --data-only",
            "migrate --to t.cfg --overwrite",
            "migrate --dialect sqlite --yes",
            "migrate --to t.cfg --yes",
            "migrate --to t.cfg --sync --yes",
            "migrate --dialect sqlite --lock-timeout soon",
            "migrate --to t.cfg --plan p --dry-run",
            "migrate --plan p",
            "migrate --dialect sqlite --plan p",
            "migrate --to t.cfg --rejects r",
            "migrate --to t.cfg --rejects r --ignore-errors --dry-run",
            "migrate replay --to t.cfg",
            "migrate replay r",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
