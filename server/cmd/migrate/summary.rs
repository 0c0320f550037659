//! What a person reads when a migration or a dry run is over.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::anyhow;
use indicatif::{BinaryBytes, HumanCount, HumanDuration};

use super::verdict;
use super::words::{counted, noun, one_line};
use crate::cmd::exit::{Exit, Failure, Outcome};
use crate::migrate::proof::Verification;
use crate::migrate::{
    BlobReport, FileStates, LintReport, MASS_REMOVAL_HINT, Outlook, Preview, Prospect, Report,
    TableLint, TableReport, Unfit,
};

/// What a run that came to its end has to show.
pub enum Summary {
    Run(Report),
    Preview(Preview),
    Plan(Box<Outlook>),
    Verification(Verification),
}

impl Summary {
    /// Prints it, for a person. With nobody left to read it, what was done is done all the same,
    /// and the exit code says so.
    pub fn print(&self) {
        let text = match self {
            Self::Run(report) => report_text(report),
            Self::Preview(preview) => preview_text("dry run: nothing was written\n", preview),
            Self::Plan(outlook) => outlook_text(outlook),
            Self::Verification(found) => verdict::text(found),
        };
        let _ = io::stdout().lock().write_all(text.as_bytes());
    }

    /// Whether all was done that was to be done; of a dry run and a plan, how the run would end.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Run(report) if !report.is_complete() => Ok(Exit::Incomplete),
            Self::Verification(found) if !found.is_equal() => Ok(Exit::Different),
            Self::Run(_) | Self::Verification(_) => Ok(Exit::Done),
            Self::Preview(preview) => foreseen(preview),
            Self::Plan(outlook) => foreseen(&outlook.preview),
        }
    }

    /// Whether the run would come to its end.
    pub fn can_be_done(&self) -> bool {
        self.outcome().is_ok()
    }
}

fn foreseen(preview: &Preview) -> Outcome {
    let failure = match preview.prospect {
        Prospect::Complete => return Ok(Exit::Done),
        Prospect::Incomplete => return Ok(Exit::Incomplete),
        Prospect::Refused { rows } => Failure::new(
            Exit::Failed,
            anyhow!(
                "the run would stop before it wrote anything: {} of the source cannot go to the \
                 target",
                counted(rows, "row")
            ),
        )
        .with_hint(
            "mend the rows in the source, or add --ignore-errors to go on without them; \
             --fix-orphans leaves out rows without their parent, --strip-nul removes NUL bytes"
                .to_owned(),
        ),
        Prospect::MassRemoval { removed, of } => Failure::new(
            Exit::Failed,
            anyhow!(
                "the run would stop before it wrote anything: --delete would remove {} of the {} \
                 files that the target has from the source: they are gone from it",
                HumanCount(removed),
                HumanCount(of)
            ),
        )
        .with_hint(MASS_REMOVAL_HINT.to_owned()),
        Prospect::Stopped { blobs } => Failure::new(
            Exit::Failed,
            anyhow!(
                "the run would stop before the rows: {} cannot be copied",
                counted(blobs, "blob")
            ),
        )
        .with_hint(
            "mend the files named above in the source, or add --ignore-errors to go on without \
             them"
                .to_owned(),
        ),
    };
    Err(failure)
}

fn report_text(report: &Report) -> String {
    let mut text = tables_text(&report.tables, "copied");
    if let Some(blobs) = &report.blobs {
        text += &blobs_text(blobs, "copied");
    }
    if let Some(files) = &report.files {
        text += &files_text(files);
    }
    text += &lint_text(&report.lint);
    text += &omitted_text(&report.omitted);
    text += &format!("finished in {}\n", HumanDuration(report.elapsed));
    text += &match (report.left_behind(), report.extra()) {
        (0, 0) if !report.omitted.is_empty() => {
            "next: look at what is left out above: the target does not have it\n".into()
        }
        (0, 0) if report.source_is_served => running_text(report),
        (0, 0) => match (&report.tables[..], report.shard) {
            ([], Some(shard)) => format!(
                "next: when the other parts of {} are there, migrate the rows without --shard\n",
                shard.of()
            ),
            (_, Some(shard)) => format!(
                "next: when the other parts of {} are there, migrate without --shard, which builds \
                 the keys, brings what is left and compares\n",
                shard.of()
            ),
            ([], None) => {
                "next: migrate the metadata, or use the new data backend with this metadata\n"
                    .into()
            }
            (_, _) => {
                "next: put the settings of the target into the configuration, start the server\n"
                    .into()
            }
        },
        (0, extra) => format!(
            "next: look at the {} named above: the target's own, or removed from the source since \
             an earlier run\n",
            counted(extra, "row")
        ),
        (count, extra) => {
            let conflicts = report.tables.iter().any(|table| table.rows.conflicts > 0);
            let sync = match conflicts {
                true => "; with --sync, rows that differ become those of the source",
                false => "",
            };
            let extra = match extra {
                0 => String::new(),
                extra => format!(
                    ", and at the {} that only the target has",
                    counted(extra, "row")
                ),
            };
            let left = match count {
                1 => "1 row or blob".to_owned(),
                count => format!("{} rows and blobs", HumanCount(count)),
            };
            format!("next: look at what is named above: {left} not copied{extra}{sync}\n")
        }
    };
    text
}

/// What is next while the server of the source is running.
fn running_text(report: &Report) -> String {
    let again = match (&report.tables[..], report.shard) {
        ([], Some(_)) => "again for what came meanwhile, as all other parts, then the rows",
        (_, Some(_)) => {
            "without --shard when the other parts are there, also for what came meanwhile"
        }
        ([], None) => "again for what came meanwhile, together with the metadata",
        (_, _) => "again with --sync for what it has changed meanwhile",
    };
    format!("next: the server of the source is running: stop it, then migrate {again}\n")
}

fn outlook_text(outlook: &Outlook) -> String {
    let is_plan = foreseen(&outlook.preview).is_ok();
    let head = match is_plan {
        true => "plan: nothing was written but the plan\n",
        false => "no plan: nothing was written\n",
    };
    let mut text = preview_text(head, &outlook.preview);
    for room in &outlook.rooms {
        text += &format!(
            "space: {} takes {}",
            room.place,
            BinaryBytes(room.needed_bytes)
        );
        text += &match room.available_bytes {
            Some(bytes) => format!(" of the {} that are free\n", BinaryBytes(bytes)),
            None => "\n".to_owned(),
        };
    }
    let requests = &outlook.requests;
    if requests.total() > 0 {
        text += &format!(
            "requests: {} to S3: {} listings, {} single puts, {} uploads in {} parts, {} reads\n",
            HumanCount(requests.total()),
            HumanCount(requests.listings),
            HumanCount(requests.puts),
            HumanCount(requests.uploads),
            HumanCount(requests.parts),
            HumanCount(requests.gets),
        );
    }
    let estimate = &outlook.estimate;
    let time = |seconds| HumanDuration(Duration::from_secs(seconds));
    text += &format!(
        "time: about {} (rows {}, blobs {}), judged by a short sample\n",
        time(estimate.seconds.max(1)),
        time(estimate.rows_seconds),
        time(estimate.blobs_seconds),
    );
    if is_plan {
        text += "next: look at the plan, then run it with --plan-file\n";
    }
    text
}

fn preview_text(head: &str, preview: &Preview) -> String {
    let mut text = head.to_owned();
    text += &tables_text(&preview.tables, "to copy");
    for status in &preview.statuses {
        text += &format!(
            "status {:<13} {:>12} {}, {}\n",
            status.status,
            HumanCount(status.files).to_string(),
            noun(status.files, "file"),
            BinaryBytes(status.bytes)
        );
    }
    if let Some(blobs) = &preview.blobs {
        text += &blobs_text(blobs, "to copy");
    }
    text += &lint_text(&preview.lint);
    text += &omitted_text(&preview.omitted);
    text
}

/// One line per reason for which a table or a column stays behind.
fn omitted_text(omitted: &[Unfit]) -> String {
    let line = |unfit: &Unfit| format!("left out: {}\n", one_line(&unfit.to_string()));
    omitted.iter().map(line).collect()
}

/// One line per table in which the lint has found something.
fn lint_text(lint: &LintReport) -> String {
    let line = |table: &TableLint| {
        let rows = table.rows.iter();
        let rows: Vec<String> = rows
            .map(|(effect, rows)| format!("{} {}", HumanCount(*rows), effect.as_str()))
            .collect();
        let kinds: Vec<String> = table
            .kinds
            .iter()
            .map(|(kind, count)| format!("{kind} {}", HumanCount(*count)))
            .collect();
        let (table, rows, kinds) = (&table.table, rows.join(", "), kinds.join(", "));
        format!("found in {table}: {rows} (reasons: {kinds})\n")
    };
    lint.tables.iter().map(line).collect()
}

/// One line per table, in columns: the words are the field's, the numbers end in one place.
fn tables_text(tables: &[TableReport], verb: &str) -> String {
    let line = |report: &TableReport| {
        let TableReport {
            table, rows, extra, ..
        } = report;
        let (updated, deleted) = match verb {
            "to copy" => ("to update", "to delete"),
            _ => ("updated", "deleted"),
        };
        let more = [
            (rows.updated, updated),
            (rows.deleted, deleted),
            (*extra, "only in the target"),
        ];
        let more: String = more
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!(", {} {what}", HumanCount(*count)))
            .collect();
        format!(
            "{table:<20} {:>12} {verb}, {} present, {}, {} failed{more}\n",
            HumanCount(rows.copied).to_string(),
            HumanCount(rows.present),
            counted(rows.conflicts, "conflict"),
            HumanCount(rows.failed)
        )
    };
    tables.iter().map(line).collect()
}

/// In which states the files are; what none of them is in is not worth a word.
fn files_text(files: &FileStates) -> String {
    let words = files.each().into_iter().filter(|(_, files)| *files > 0);
    let words: Vec<String> = words
        .map(|(state, files)| format!("{} {}", HumanCount(files), state.replace('_', " ")))
        .collect();
    match &words[..] {
        [] => String::new(),
        words => format!("row and blob of each file: {}\n", words.join(", ")),
    }
}

fn blobs_text(blobs: &BlobReport, verb: &str) -> String {
    let deleted = match (blobs.deleted, verb) {
        (0, _) => String::new(),
        (deleted, "to copy") => format!(", {} to delete", HumanCount(deleted)),
        (deleted, _) => format!(", {} deleted", HumanCount(deleted)),
    };
    let by_store = match blobs.copied_by_store {
        0 => String::new(),
        blobs => format!(" ({} by the S3 server itself)", HumanCount(blobs)),
    };
    format!(
        "{:<20} {:>12} {verb}{by_store}, {} present, {} skipped, {} failed{deleted}, {}\n",
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
    use crate::metadata::Tally;
    use crate::migrate::{Effect, StatusReport};

    fn report() -> Report {
        let rows = |copied, conflicts| Tally {
            copied,
            present: 2,
            conflicts,
            failed: 0,
            ..Tally::default()
        };
        let table = |table: &str, rows| TableReport {
            extra: 0,
            proof: None,
            table: table.to_owned(),
            rows,
        };
        Report {
            shard: None,
            tables: vec![
                table("users", rows(12_345, 0)),
                table("uploads", rows(1, 3)),
            ],
            blobs: Some(BlobReport {
                copied: 7,
                copied_by_store: 0,
                present: 1,
                skipped: 2,
                failed: 0,
                deleted: 0,
                bytes: 3 << 30,
            }),
            files: Some(FileStates {
                equal: 1_008,
                no_blob: 3,
                ..FileStates::default()
            }),
            lint: LintReport::default(),
            omitted: Vec::new(),
            source_is_served: false,
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
             row and blob of each file: 1,008 equal, 3 no blob\n\
             finished in 2 minutes\n\
             next: look at what is named above: 3 rows and blobs not copied; \
             with --sync, rows that differ become those of the source\n"
        );
    }

    #[test]
    fn the_next_step_follows_from_what_was_moved() {
        let mut complete = report();
        complete.tables.truncate(1);
        assert!(report_text(&complete).ends_with(
            "next: put the settings of the target into the configuration, start the server\n"
        ));
        complete.source_is_served = true;
        assert!(report_text(&complete).contains("stop it, then migrate again with --sync"));
        assert!(!report_text(&complete).contains("put the settings"));
        complete.tables[0].extra = 2;
        assert!(report_text(&complete).contains("0 failed, 2 only in the target\n"));
        assert!(report_text(&complete).contains("next: look at the 2 rows named above"));
        assert!(report_text(&Report::default()).contains("next: migrate the metadata"));
        let part = Report {
            shard: "2/4".parse().ok(),
            ..Report::default()
        };
        let text = report_text(&part);
        assert!(text.contains("the other parts of 4 are there, migrate the rows without --shard"));
        let part = Report {
            tables: report().tables[..1].to_vec(),
            ..part
        };
        let text = report_text(&part);
        assert!(text.contains("the other parts of 4 are there, migrate without --shard, which"));
    }

    #[test]
    fn what_the_lint_found_is_counted_by_table() {
        let mut report = Report::default();
        report.lint.tables.push(TableLint {
            table: "tokens".to_owned(),
            rows: [(Effect::Rejected, 1_200), (Effect::LeftOut, 2)].into(),
            kinds: [("orphan", 2), ("utf8", 1_201)].into(),
        });
        assert!(report_text(&report).contains(
            "found in tokens: 1,200 rejected, 2 left out (reasons: orphan 2, utf8 1,201)\n"
        ));
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
            lint: LintReport::default(),
            omitted: Vec::new(),
            files_owned: 0,
            files_gone: 0,
            prospect: Prospect::Complete,
        };
        assert_eq!(
            preview_text("dry run: nothing was written\n", &preview),
            "dry run: nothing was written\n\
             users                      12,345 to copy, 2 present, 0 conflicts, 0 failed\n\
             status uploaded                 8 files, 2.00 KiB\n\
             blobs                           7 to copy, 1 present, 2 skipped, 0 failed, 3.00 GiB\n"
        );
    }
}
