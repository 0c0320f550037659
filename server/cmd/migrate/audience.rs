//! Everyone who hears of a run: a person, a program that reads `--json`, the report.

use std::sync::Arc;

use serde_json::Value;

use super::args::{RunArgs, TellArgs, VerifyArgs};
use super::dialect::DialectLines;
use super::json::JsonLines;
use super::meter::{Meter, Passed, TablePassed};
use super::outputs::Outputs;
use super::report::ReportFile;
use super::summary::Summary;
use super::{progress, say, values};
use crate::cmd::exit::{Failure, Outcome, OutcomeRef};
use crate::config::Loaded;
use crate::migrate::{Event, MigrateError, Options, Progress};

/// What is about to happen, for those who hear of it.
pub struct Opening<'a> {
    /// The word for it.
    pub command: &'static str,
    /// What was asked for.
    pub options: Value,
    tell: &'a TellArgs,
    outputs: Outputs,
    /// Every row and blob is of interest.
    pub verbose: bool,
    is_change_of_dialect: bool,
    is_dry_run: bool,
    prints_summary: bool,
}

impl<'a> Opening<'a> {
    pub fn of_run(args: &'a RunArgs, options: &Options<'_>, outputs: Outputs) -> Self {
        let is_change_of_dialect = args.dialect.dialect.is_some();
        Self {
            command: args.command(),
            options: values::options(options, &args.limits),
            tell: &args.tell,
            outputs,
            verbose: args.verbose,
            is_change_of_dialect,
            is_dry_run: args.dry_run,
            // The lines of a change of dialect say it all.
            prints_summary: !is_change_of_dialect || args.dry_run,
        }
    }

    pub fn of_verification(args: &'a VerifyArgs, source: &Loaded, target: Option<&Loaded>) -> Self {
        Self {
            command: "verify",
            options: values::verify_options(&args.options(), &args.limits),
            tell: &args.tell,
            outputs: Outputs::of_verification(args, source, target),
            verbose: false,
            is_change_of_dialect: false,
            is_dry_run: false,
            prints_summary: true,
        }
    }

    fn person(&self) -> Arc<dyn Progress> {
        match self.is_change_of_dialect {
            true => Arc::new(DialectLines::new(self.is_dry_run)),
            false => progress::watcher(self.verbose),
        }
    }
}

pub struct Audience {
    /// Nobody, if a program reads.
    person: Option<Arc<dyn Progress>>,
    meter: Meter,
    prints_summary: bool,
    program: Option<JsonLines>,
    report: Option<ReportFile>,
}

impl Audience {
    /// # Errors
    ///
    /// If the report cannot be written where it should go, or one of the other files of the run.
    pub fn gather(opening: &Opening<'_>) -> Result<Self, Failure> {
        let json = opening.tell.json;
        let mut audience = Self {
            program: json.then(|| JsonLines::start(opening)),
            person: (!json).then(|| opening.person()),
            meter: Meter::new(),
            prints_summary: opening.prints_summary,
            report: None,
        };
        let report = opening.outputs.check().and_then(|()| {
            let path = opening.tell.report.as_ref();
            path.map(|path| ReportFile::create(path, opening))
                .transpose()
        });
        match report {
            Ok(report) => audience.report = report,
            Err(failure) => return Err(audience.end_failed(failure)),
        }
        Ok(audience)
    }

    /// Tells what a run that came to its end did.
    pub fn summary(&self, summary: &Summary) {
        if let Some(program) = &self.program {
            program.summary(summary);
        }
        if let Some(report) = &self.report {
            report.summary(summary);
        }
        if self.person.is_some() && self.prints_summary {
            summary.print();
        }
    }

    /// Tells how it ended; what becomes of the report is part of that.
    pub fn end(&self, outcome: Outcome) -> Outcome {
        let outcome = match (outcome, &self.report) {
            (Ok(exit), Some(report)) => report.end(Ok(&exit)).map(|()| exit),
            (Err(failure), _) => return Err(self.end_failed(failure)),
            (outcome, None) => outcome,
        };
        self.tell_end(outcome.as_ref());
        outcome
    }

    /// Tells that it failed, and gives the failure back.
    pub fn end_failed(&self, failure: Failure) -> Failure {
        let mut told = failure;
        if let Some(report) = &self.report
            && let Err(failure) = report.end(Err(&told))
        {
            told = failure;
        }
        self.tell_end(Err(&told));
        told
    }

    fn tell_end(&self, outcome: OutcomeRef<'_>) {
        if let Some(program) = &self.program {
            program.end(outcome);
        }
        let is_interrupted = |failure: &Failure| {
            matches!(
                failure.error.downcast_ref::<MigrateError>(),
                Some(MigrateError::Interrupted)
            )
        };
        if self.person.is_some() && outcome.is_err_and(is_interrupted) {
            say(&stopped(&self.meter.passed()));
        }
    }
}

/// How far a run has come that is to end.
fn stopped(passed: &Passed) -> String {
    let Passed {
        blobs, blobs_total, ..
    } = passed;
    let blobs = (*blobs_total > 0).then(|| format!("{blobs} of {blobs_total} blobs"));
    let tables = passed.tables.iter().map(|table| {
        let TablePassed {
            table,
            rows,
            rows_total,
        } = table;
        format!("{rows} of {rows_total} rows of {table}")
    });
    let passed: Vec<String> = blobs.into_iter().chain(tables).collect();
    match &passed[..] {
        [] => "stopped before the first blob and row".to_owned(),
        passed => format!("stopped after {}", passed.join(", ")),
    }
}

impl Progress for Audience {
    fn on(&self, event: Event<'_>) {
        self.meter.on(event);
        if let Some(person) = &self.person {
            person.on(event);
        }
        if let Some(program) = &self.program {
            program.on(event);
        }
        if let Some(report) = &self.report {
            report.on(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_stopped_says_how_far_it_came() {
        let mut passed = Passed::default();
        assert_eq!(stopped(&passed), "stopped before the first blob and row");
        (passed.blobs, passed.blobs_total) = (3, 40);
        assert_eq!(stopped(&passed), "stopped after 3 of 40 blobs");
        passed.tables.push(TablePassed {
            table: "users".to_owned(),
            rows: 5,
            rows_total: 9,
        });
        assert_eq!(
            stopped(&passed),
            "stopped after 3 of 40 blobs, 5 of 9 rows of users"
        );
    }
}
