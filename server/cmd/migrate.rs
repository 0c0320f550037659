//! `plikd migrate`: moves this server to other backends.

mod progress;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use indicatif::{BinaryBytes, HumanCount, HumanDuration};

use super::exit::{Exit, Failure, Outcome};
use crate::config::{self, Environment, Loaded};
use crate::lifecycle::{self, Shutdown};
use crate::migrate::{
    self, BlobReport, Endpoint, Halves, MigrateError, Options, Preview, Problem, Report,
    TableReport,
};

/// Move this server's metadata and data to other backends
///
/// The source is this server's configuration, the target what FILE says differently. The source is
/// only read. Blobs are copied first, then rows, so that no row ever promises bytes that are not
/// there. Running the same command again resumes a run that was cut off, and copies only what is
/// missing.
#[derive(Debug, clap::Args)]
pub struct MigrateArgs {
    /// Configuration of the target, laid over the one of this server
    #[arg(long, value_name = "FILE")]
    to: PathBuf,

    /// Move the rows only: users, tokens, uploads, files, settings
    #[arg(long, conflicts_with = "data_only")]
    metadata_only: bool,

    /// Move the bytes of files only
    #[arg(long)]
    data_only: bool,

    /// Blobs copied at the same time
    #[arg(long, value_name = "N", default_value = "4")]
    workers: NonZeroUsize,

    /// Check both sides and show what would be done, without writing anything anywhere
    #[arg(long)]
    dry_run: bool,

    /// Carry on past rows and blobs that cannot be copied; each is named, the exit code is 20
    #[arg(long)]
    ignore_errors: bool,

    /// With --dry-run, list every row and blob
    #[arg(long, short, requires = "dry_run")]
    verbose: bool,
}

impl MigrateArgs {
    fn halves(&self) -> Halves {
        match (self.metadata_only, self.data_only) {
            (true, _) => Halves::MetadataOnly,
            (_, true) => Halves::DataOnly,
            _ => Halves::Both,
        }
    }
}

/// Runs the migration from the server that `source` describes.
pub async fn run(args: MigrateArgs, source: &Loaded, env: &Environment) -> Outcome {
    let target = config::load_target(source, &args.to, env)?;
    for warning in &target.warnings {
        tracing::warn!("{}: {warning}", args.to.display());
    }
    let from = Endpoint {
        metadata: &source.config.metadata,
        data: &source.config.data,
    };
    let to = Endpoint {
        metadata: &target.config.metadata,
        data: &target.config.data,
    };
    let options = Options {
        halves: args.halves(),
        workers: args.workers,
        ignore_errors: args.ignore_errors,
    };
    let progress = progress::watcher(args.verbose);
    let shutdown = lifecycle::listen().map_err(|error| Failure::new(Exit::Failed, error))?;
    let cancel = shutdown.ask.clone();
    let work = async {
        if args.dry_run {
            let preview = migrate::preview(from, to, options, &progress, &cancel).await;
            return preview
                .map(|preview| print_preview(&preview))
                .map_err(not_startable);
        }
        let report = migrate::run(from, to, options, &progress, &cancel).await;
        report
            .map(|report| print_report(&report))
            .map_err(|error| failure(error, &shutdown))
    };
    tokio::select! {
        biased;
        // What is in hand is dropped, which leaves nothing half-written visible.
        () = shutdown.insist.cancelled() => Err(failure(MigrateError::Interrupted, &shutdown)),
        outcome = work => outcome,
    }
}

/// A dry run has two answers: the real run could start, or not.
fn not_startable(error: MigrateError) -> Failure {
    print_problems(&error);
    let hint = error.hint();
    Failure::new(Exit::Failed, error).with_hint(hint)
}

fn failure(error: MigrateError, shutdown: &Shutdown) -> Failure {
    print_problems(&error);
    let exit = match (&error, shutdown.signal()) {
        (MigrateError::Interrupted, Some(signal)) => signal.into(),
        (error, _) => exit_of(error),
    };
    let hint = error.hint();
    Failure::new(exit, error).with_hint(hint)
}

/// Everything but the first, which the failure itself names.
fn print_problems(error: &MigrateError) {
    match error {
        MigrateError::Preflight(problems) => {
            for problem in problems.iter().skip(1) {
                eprintln!("also: {}", problem.explain());
            }
        }
        MigrateError::Rejected(rejects) => {
            for reject in rejects {
                eprintln!(
                    "rejected: {} {}: {}",
                    reject.table, reject.key, reject.reason
                );
            }
        }
        _ => {}
    }
}

fn exit_of(error: &MigrateError) -> Exit {
    match error {
        MigrateError::Preflight(problems) => problems.first().map_or(Exit::Failed, exit_of_problem),
        MigrateError::Metadata(error) => error.into(),
        MigrateError::Data(error) => error.into(),
        MigrateError::Interrupted => Exit::Interrupted,
        MigrateError::Differs { .. } => Exit::Different,
        MigrateError::Rejected(_) | MigrateError::Blob(_) | MigrateError::Task(_) => Exit::Failed,
    }
}

fn exit_of_problem(problem: &Problem) -> Exit {
    match problem {
        Problem::SamePlace { .. } | Problem::NoPlaceForKeys => Exit::Usage,
        Problem::Metadata { source, .. } => source.into(),
        Problem::Data { source, .. } => source.into(),
        Problem::NoSpace { .. } | Problem::NoPrimaryKey(_) => Exit::Failed,
    }
}

fn print_report(report: &Report) -> Exit {
    print_tables(&report.tables, "copied");
    if let Some(blobs) = &report.blobs {
        print_blobs(blobs, "copied", blobs.bytes);
    }
    println!("finished in {}", HumanDuration(report.elapsed));
    match report.left_behind() {
        0 => {
            println!(
                "next: put the settings of the target into the configuration, start the server"
            );
            Exit::Done
        }
        count => {
            println!("next: look at the {count} rows and blobs named above, they were not copied");
            Exit::Incomplete
        }
    }
}

fn print_preview(preview: &Preview) -> Exit {
    println!("dry run: nothing was written");
    print_tables(&preview.tables, "to copy");
    for status in &preview.statuses {
        println!(
            "files {:<14} {:>12} files, {}",
            status.status,
            HumanCount(status.files).to_string(),
            BinaryBytes(status.bytes)
        );
    }
    if let Some(blobs) = &preview.blobs {
        print_blobs(blobs, "to copy", blobs.bytes);
    }
    Exit::Done
}

/// One line per table, in columns: the words are the field's, the numbers end in one place.
fn print_tables(tables: &[TableReport], verb: &str) {
    for TableReport { table, rows } in tables {
        println!(
            "{table:<20} {:>12} {verb}, {} present, {} conflicts, {} failed",
            HumanCount(rows.copied).to_string(),
            HumanCount(rows.present),
            HumanCount(rows.conflicts),
            HumanCount(rows.failed)
        );
    }
}

fn print_blobs(blobs: &BlobReport, verb: &str, bytes: u64) {
    println!(
        "{:<20} {:>12} {verb}, {} present, {} skipped, {} failed, {}",
        "blobs",
        HumanCount(blobs.copied).to_string(),
        HumanCount(blobs.present),
        HumanCount(blobs.skipped),
        HumanCount(blobs.failed),
        BinaryBytes(bytes)
    );
}
