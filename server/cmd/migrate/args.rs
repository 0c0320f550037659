//! The arguments of `plikd migrate`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::dialect::Terms;
use crate::config::duration::parse_clock;

use super::limits::{LimitArgs, RetryArgs};
use crate::migrate::proof::VerifyOptions;
use crate::migrate::{Halves, Mode, Options};

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

/// A migration, or a dry run of one.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Configuration of the target, laid over the one of this server
    #[arg(long, value_name = "FILE", required_unless_present = "dialect")]
    pub to: Option<PathBuf>,

    #[command(flatten)]
    pub dialect: DialectArgs,

    /// Move the rows only: users, tokens, uploads, files, settings
    #[arg(long, conflicts_with = "data_only")]
    metadata_only: bool,

    /// Move the bytes of files only
    #[arg(long)]
    data_only: bool,

    /// Bring the target to the state of the source now: rows and blobs that have changed since an
    /// earlier run are made equal, those that are new are copied
    #[arg(long)]
    sync: bool,

    /// Blobs copied at the same time
    #[arg(long, value_name = "N", default_value = "4")]
    workers: NonZeroUsize,

    /// Check both sides and show what would be done, without writing anything anywhere
    #[arg(long)]
    pub dry_run: bool,

    /// Carry on past rows and blobs that cannot be copied; each is named, the exit code is 20
    #[arg(long)]
    ignore_errors: bool,

    /// With --ignore-errors, keep rejected rows whole in this file, for `plikd migrate replay`; it
    /// holds secrets, so only its owner can read it
    #[arg(
        long,
        value_name = "FILE",
        requires = "ignore_errors",
        conflicts_with = "dry_run"
    )]
    rejects: Option<PathBuf>,

    /// Leave out files without their upload and tokens without their user, as cleaning would
    #[arg(long)]
    fix_orphans: bool,

    /// Remove NUL bytes from text that PostgreSQL cannot hold with them; not from keys, nor from
    /// what refers to them
    #[arg(long)]
    strip_nul: bool,

    /// Do not compare source and target after the last row
    #[arg(long)]
    no_verify: bool,

    /// With --dry-run, list every row and blob
    #[arg(long, short, requires = "dry_run")]
    pub verbose: bool,

    /// Write what happens to standard output as it happens, one JSON object per line
    #[arg(long)]
    pub json: bool,

    /// Write a report of the run to FILE, as JSON, also if it fails
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    #[command(flatten)]
    retry: RetryArgs,

    #[command(flatten)]
    pub limits: LimitArgs,
}

/// The rows of one server to its other database.
#[derive(Debug, clap::Args)]
pub struct DialectArgs {
    /// Move the rows of this server to its other database: `postgres` is the one of
    /// PLIKD_POSTGRES_URL, `sqlite` the file of the configuration
    #[arg(
        long,
        value_name = "DATABASE",
        conflicts_with_all = ["to", "data_only", "metadata_only", "workers"]
    )]
    pub dialect: Option<String>,

    /// With --dialect: replace what the target holds; a SQLite file is kept under another name
    // The parser forgets what is required where that would conflict, so both are said.
    #[arg(long, requires = "dialect", conflicts_with = "to")]
    overwrite: bool,

    /// With --overwrite: do not ask before tables are dropped
    #[arg(long, requires = "overwrite")]
    yes: bool,

    /// With --dialect: how long to wait for a server that has one of the databases, such as 30s
    #[arg(long, requires = "dialect", value_name = "TIME", default_value = "0s", value_parser = duration)]
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
    #[arg(long, value_name = "N", default_value = "4")]
    workers: NonZeroUsize,
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
    pub fn options(&self) -> Options<'_> {
        Options {
            halves: match self.dialect.dialect {
                Some(_) => Halves::MetadataOnly,
                None => halves(self.metadata_only, self.data_only),
            },
            mode: match self.sync {
                true => Mode::Sync,
                false => Mode::Copy,
            },
            workers: self.workers,
            ignore_errors: self.ignore_errors,
            rejects: self.rejects.as_deref(),
            fix_orphans: self.fix_orphans,
            strip_nul: self.strip_nul,
            verify: !self.no_verify,
            retry: self.retry.policy(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: MigrateArgs,
    }

    fn parse(line: &str) -> Result<MigrateArgs, clap::Error> {
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
        let replay = parse("migrate replay r --to t.cfg").unwrap();
        assert!(matches!(replay.command, Some(MigrateCommand::Replay(_))));
        let verify = parse("migrate verify --to t.cfg --deep").unwrap();
        assert!(
            matches!(verify.command, Some(MigrateCommand::Verify(args)) if args.options().deep)
        );
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
            "migrate --to t.cfg --dialect sqlite",
            "migrate --dialect sqlite --workers 2",
            "migrate --dialect sqlite --data-only",
            "migrate --to t.cfg --overwrite",
            "migrate --dialect sqlite --yes",
            "migrate --dialect sqlite --lock-timeout soon",
            "migrate --to t.cfg --rejects r",
            "migrate --to t.cfg --rejects r --ignore-errors --dry-run",
            "migrate replay --to t.cfg",
            "migrate replay r",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
