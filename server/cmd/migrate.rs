//! `plikd migrate`: moves this server to other backends.

mod progress;

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use indicatif::{BinaryBytes, HumanCount, HumanDuration};

use super::exit::{Exit, Failure, Outcome};
use crate::config::{self, Environment, Loaded};
use crate::data::Location;
use crate::lifecycle::{self, Shutdown};
use crate::metadata;
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
    tracing::info!("from {}", places(from, options.halves));
    tracing::info!("to {}", places(to, options.halves));
    let progress = progress::watcher(args.verbose);
    let shutdown = lifecycle::listen().map_err(|error| Failure::new(Exit::Failed, error))?;
    let cancel = shutdown.ask.clone();
    let work = async {
        if args.dry_run {
            let preview = migrate::preview(from, to, options, &progress, &cancel).await;
            return preview
                .map(|preview| print_preview(&preview))
                .map_err(|error| not_startable(error, &shutdown));
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

/// What is moved at one end, for a person to recognise.
fn places(end: Endpoint<'_>, halves: Halves) -> String {
    let metadata = halves
        .has_metadata()
        .then(|| metadata::name_of(end.metadata));
    let data = halves.has_data().then(|| match Location::of(end.data) {
        Ok(location) => location.to_string(),
        Err(error) => format!("a directory that cannot be looked at ({error})"),
    });
    let places: Vec<String> = metadata.into_iter().chain(data).collect();
    places.join(" and ")
}

/// A dry run that comes to its end has two answers: the real run could start, or not.
fn not_startable(error: MigrateError, shutdown: &Shutdown) -> Failure {
    let interrupted = matches!(error, MigrateError::Interrupted);
    let failure = failure(error, shutdown);
    Failure {
        exit: if interrupted {
            failure.exit
        } else {
            Exit::Failed
        },
        ..failure
    }
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

/// What does not fit on the one line of a failure.
fn print_problems(error: &MigrateError) {
    match error {
        MigrateError::Preflight(problems) => {
            // One alone is named, with its hint, by the failure itself.
            for problem in problems.iter().filter(|_| problems.len() > 1) {
                say(&format!("problem: {}", problem.explain()));
                if let Some(hint) = problem.hint() {
                    say(&format!("   hint: {hint}"));
                }
            }
        }
        MigrateError::Rejected(rejects) => {
            for reject in rejects {
                say(&format!(
                    "rejected: {} {}: {}",
                    reject.table, reject.key, reject.reason
                ));
            }
        }
        _ => {}
    }
}

/// A line on standard error. One that nobody reads any more must not end the run.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
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

/// Prints what was done; the exit code says whether that is all.
fn print_report(report: &Report) -> Exit {
    print(&report_text(report));
    match report.is_complete() {
        true => Exit::Done,
        false => Exit::Incomplete,
    }
}

fn print_preview(preview: &Preview) -> Exit {
    print(&preview_text(preview));
    Exit::Done
}

/// With nobody left to read it, what was done is done all the same, and the exit code says so.
fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

fn report_text(report: &Report) -> String {
    let mut text = tables_text(&report.tables, "copied");
    if let Some(blobs) = &report.blobs {
        text += &blobs_text(blobs, "copied");
    }
    text += &format!("finished in {}\n", HumanDuration(report.elapsed));
    text += &match (report.left_behind(), report.extra()) {
        (0, 0) => match &report.tables[..] {
            [] => "next: migrate the metadata, or use the new data backend with this metadata\n"
                .into(),
            _ => "next: put the settings of the target into the configuration, start the server\n"
                .into(),
        },
        (0, extra) => format!(
            "next: look at the {extra} rows named above: the target's own, or removed from the \
             source since an earlier run\n"
        ),
        (count, _) => {
            format!("next: look at the {count} rows and blobs named above, they were not copied\n")
        }
    };
    text
}

fn preview_text(preview: &Preview) -> String {
    let mut text = "dry run: nothing was written\n".to_owned();
    text += &tables_text(&preview.tables, "to copy");
    for status in &preview.statuses {
        text += &format!(
            "files {:<14} {:>12} files, {}\n",
            status.status,
            HumanCount(status.files).to_string(),
            BinaryBytes(status.bytes)
        );
    }
    if let Some(blobs) = &preview.blobs {
        text += &blobs_text(blobs, "to copy");
    }
    text
}

/// One line per table, in columns: the words are the field's, the numbers end in one place.
fn tables_text(tables: &[TableReport], verb: &str) -> String {
    let line = |TableReport { table, rows, extra }: &TableReport| {
        let extra = match extra {
            0 => String::new(),
            extra => format!(", {} only in the target", HumanCount(*extra)),
        };
        format!(
            "{table:<20} {:>12} {verb}, {} present, {} conflicts, {} failed{extra}\n",
            HumanCount(rows.copied).to_string(),
            HumanCount(rows.present),
            HumanCount(rows.conflicts),
            HumanCount(rows.failed)
        )
    };
    tables.iter().map(line).collect()
}

fn blobs_text(blobs: &BlobReport, verb: &str) -> String {
    format!(
        "{:<20} {:>12} {verb}, {} present, {} skipped, {} failed, {}\n",
        "blobs",
        HumanCount(blobs.copied).to_string(),
        HumanCount(blobs.present),
        HumanCount(blobs.skipped),
        HumanCount(blobs.failed),
        BinaryBytes(blobs.bytes)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::data::DataError;
    use crate::metadata::{MetadataError, Tally};
    use crate::migrate::{Side, StatusReport};

    fn report() -> Report {
        let rows = |copied, conflicts| Tally {
            copied,
            present: 2,
            conflicts,
            failed: 0,
        };
        let table = |table: &str, rows| TableReport {
            extra: 0,
            table: table.to_owned(),
            rows,
        };
        Report {
            tables: vec![
                table("users", rows(12_345, 0)),
                table("uploads", rows(1, 3)),
            ],
            blobs: Some(BlobReport {
                copied: 7,
                present: 1,
                skipped: 2,
                failed: 0,
                bytes: 3 << 30,
            }),
            elapsed: Duration::from_secs(90),
        }
    }

    #[test]
    fn the_summary_has_a_line_for_each_table_and_one_for_the_blobs() {
        assert_eq!(
            report_text(&report()),
            "users                      12,345 copied, 2 present, 0 conflicts, 0 failed\n\
             uploads                         1 copied, 2 present, 3 conflicts, 0 failed\n\
             blobs                           7 copied, 1 present, 2 skipped, 0 failed, 3.00 GiB\n\
             finished in 2 minutes\n\
             next: look at the 3 rows and blobs named above, they were not copied\n"
        );
    }

    #[test]
    fn the_next_step_follows_from_what_was_moved() {
        let mut complete = report();
        complete.tables.truncate(1);
        assert!(report_text(&complete).ends_with(
            "next: put the settings of the target into the configuration, start the server\n"
        ));
        complete.tables[0].extra = 2;
        assert!(report_text(&complete).contains("0 failed, 2 only in the target\n"));
        assert!(report_text(&complete).contains("next: look at the 2 rows named above"));
        assert!(report_text(&Report::default()).contains("next: migrate the metadata"));
    }

    #[test]
    fn a_dry_run_also_counts_files_by_status() {
        let preview = Preview {
            tables: report().tables[..1].to_vec(),
            statuses: vec![StatusReport {
                status: "uploaded".to_owned(),
                files: 8,
                bytes: 2048,
            }],
            blobs: report().blobs,
        };
        assert_eq!(
            preview_text(&preview),
            "dry run: nothing was written\n\
             users                      12,345 to copy, 2 present, 0 conflicts, 0 failed\n\
             files uploaded                  8 files, 2.00 KiB\n\
             blobs                           7 to copy, 1 present, 2 skipped, 0 failed, 3.00 GiB\n"
        );
    }

    #[test]
    fn every_end_has_the_exit_code_of_the_manual() {
        let not_initialised = || MetadataError::NotInitialised {
            backend: "sqlite x".to_owned(),
        };
        let in_use = || MetadataError::InUse {
            backend: "sqlite x".to_owned(),
            by: "a server".to_owned(),
        };
        let unreachable = || DataError::Unreachable {
            action: "store".to_owned(),
            backend: "s3".to_owned(),
            source: "gone".into(),
        };
        let problem = |problem| MigrateError::Preflight(vec![problem]);
        let ends = [
            (problem(Problem::NoPlaceForKeys), Exit::Usage),
            (
                problem(Problem::SamePlace {
                    half: "data",
                    place: "files".to_owned(),
                }),
                Exit::Usage,
            ),
            (
                problem(Problem::NoPrimaryKey("notes".to_owned())),
                Exit::Failed,
            ),
            (
                problem(Problem::Metadata {
                    side: Side::Source,
                    source: not_initialised(),
                }),
                Exit::NotInitialised,
            ),
            (
                problem(Problem::Data {
                    side: Side::Target,
                    source: unreachable(),
                }),
                Exit::Unreachable,
            ),
            (MigrateError::Metadata(in_use()), Exit::InUse),
            (MigrateError::Data(unreachable()), Exit::Unreachable),
            (MigrateError::Rejected(Vec::new()), Exit::Failed),
            (MigrateError::Interrupted, Exit::Interrupted),
            (
                MigrateError::Differs {
                    table: "users".to_owned(),
                    missing: 1,
                    different: 0,
                    example: None,
                },
                Exit::Different,
            ),
        ];
        for (error, exit) in ends {
            assert_eq!(exit_of(&error), exit, "{error:?}");
        }
    }
}
