//! Everyone who hears of a run: a person, a program that reads `--json`, the report.

use std::sync::Arc;

use super::args::RunArgs;
use super::dialect::DialectLines;
use super::json::JsonLines;
use super::progress;
use super::report::ReportFile;
use super::summary::Summary;
use crate::cmd::exit::{Failure, Outcome};
use crate::migrate::{Event, Options, Progress};

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
    /// If the report cannot be written where it should go.
    pub fn gather(args: &RunArgs, options: &Options<'_>) -> Result<Self, Failure> {
        let command = args.command();
        let program = args
            .json
            .then(|| JsonLines::start(command, options, args.verbose));
        let mut audience = Self {
            person: (!args.json).then(|| match args.dialect.dialect {
                Some(_) => Arc::new(DialectLines::default()) as _,
                None => progress::watcher(args.verbose),
            }),
            // The lines of a change of dialect say it all.
            prints_summary: args.dialect.dialect.is_none() || args.dry_run,
            program,
            report: None,
        };
        if let Some(path) = &args.report {
            match ReportFile::create(path, command, options) {
                Ok(report) => audience.report = Some(report),
                Err(failure) => {
                    audience.end(Err(failure))?;
                }
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
