//! Everyone who hears of a run: a person, a program that reads `--json`, the report.

use std::sync::Arc;

use serde_json::Value;

use super::args::{RunArgs, TellArgs, VerifyArgs};
use super::dialect::DialectLines;
use super::json::JsonLines;
use super::outputs::Outputs;
use super::progress;
use super::report::ReportFile;
use super::summary::Summary;
use super::values;
use crate::cmd::exit::{Failure, Outcome};
use crate::config::{Environment, Loaded};
use crate::migrate::{Event, Options, Progress};

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

    pub fn of_verification(args: &'a VerifyArgs, source: &Loaded, env: &Environment) -> Self {
        Self {
            command: "verify",
            options: values::verify_options(&args.options(), &args.limits),
            tell: &args.tell,
            outputs: Outputs::of_verification(args, source, env),
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
            Err(failure) => {
                audience.end(Err(failure))?;
            }
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
        let outcome = match &self.report {
            Some(report) => report.end(outcome),
            None => outcome,
        };
        if let Some(program) = &self.program {
            program.end(&outcome);
        }
        outcome
    }
}

impl Progress for Audience {
    fn on(&self, event: Event<'_>) {
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
