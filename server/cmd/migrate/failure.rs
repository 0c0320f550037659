//! What a migration that failed says, and its exit code.

use super::say;
use super::words::counted;
use crate::cmd::exit::{Exit, Failure};
use crate::lifecycle::Shutdown;
use crate::migrate::{BadLine, Effect, LintReport, MigrateError, Problem};

pub fn failure(error: MigrateError, shutdown: &Shutdown) -> Failure {
    print_rejects(&error);
    let exit = match (&error, shutdown.signal()) {
        (MigrateError::Interrupted, Some(signal)) => signal.into(),
        (error, _) => exit_of(error),
    };
    let (hint, database) = (error.hint(), error.database().map(str::to_owned));
    Failure::new(exit, error)
        .with_hint(hint)
        .about(database.as_deref())
}

/// Why two sides could not be compared.
pub fn not_compared(error: MigrateError, shutdown: &Shutdown) -> Failure {
    print_problems(&error);
    let failure = failure(error, shutdown);
    let (hint, database) = (failure.hint, failure.database);
    let (error, hint) = match failure.error.downcast::<MigrateError>() {
        Ok(MigrateError::Preflight(problems)) => match problems.into_iter().next() {
            Some(problem) => {
                let hint = problem.hint();
                (anyhow::Error::new(problem), hint)
            }
            None => (anyhow::anyhow!("a side cannot be used"), hint),
        },
        Ok(MigrateError::Metadata(error)) => (error.into(), hint),
        Ok(MigrateError::Data(error)) => (error.into(), hint),
        // There is nothing to resume.
        Ok(MigrateError::Interrupted) => (MigrateError::Interrupted.into(), None),
        Ok(error) => (error.into(), hint),
        Err(error) => (error, hint),
    };
    Failure {
        exit: failure.exit,
        error,
        hint,
        database,
    }
    .context("source and target could not be compared")
}

/// What does not fit on the one line of a failure. What kept a run from starting has been told as
/// a list of checks.
fn print_rejects(error: &MigrateError) {
    match error {
        MigrateError::Rejected(rejects) => {
            for reject in rejects {
                say(&format!(
                    "rejected: {} {}: {}",
                    reject.table, reject.key, reject.reason
                ));
            }
        }
        // One alone is named by the failure itself.
        MigrateError::Moved(moved) => {
            for moved in moved.iter().filter(|_| moved.len() > 1) {
                say(&format!("moved: {moved}"));
            }
        }
        MigrateError::Unfit(lint) => print_findings(lint),
        // One alone is named by the failure itself.
        MigrateError::BadLines { path, lines, .. } => {
            for BadLine { line, cause } in lines.iter().filter(|_| lines.len() > 1) {
                say(&format!("{}: line {line}: {cause}", path.display()));
            }
        }
        _ => {}
    }
}

/// What keeps two sides from being compared, each with its remedy. One alone is named by the
/// failure itself.
fn print_problems(error: &MigrateError) {
    if let MigrateError::Preflight(problems) = error {
        for problem in problems.iter().filter(|_| problems.len() > 1) {
            say(&format!("problem: {}", problem.explain()));
            if let Some(hint) = problem.hint() {
                say(&format!("   hint: {hint}"));
            }
        }
    }
}

/// The rows that keep a run from starting, each with what mends it.
fn print_findings(lint: &LintReport) {
    for finding in &lint.first {
        match finding.reason.fix() {
            Some(fix) => say(&format!("rejected: {finding} ({fix})")),
            None => say(&format!("rejected: {finding}")),
        }
    }
    let rows = lint.rows(Effect::Rejected);
    say(&format!(
        "rejected: {} in all, the first reasons are above",
        counted(rows, "row")
    ));
}

fn exit_of(error: &MigrateError) -> Exit {
    match error {
        MigrateError::Preflight(problems) => problems.first().map_or(Exit::Failed, exit_of_problem),
        MigrateError::Metadata(error) => error.into(),
        MigrateError::Data(error) => error.into(),
        MigrateError::GivenUp { source, .. } => exit_of(source),
        MigrateError::Interrupted => Exit::Interrupted,
        MigrateError::RejectsTaken(_)
        | MigrateError::ReplayFile { .. }
        | MigrateError::Moved(_) => Exit::Usage,
        MigrateError::Differs { .. } => Exit::Different,
        MigrateError::Rejected(_)
        | MigrateError::Unfit(_)
        | MigrateError::PartRefused { .. }
        | MigrateError::Rejects { .. }
        | MigrateError::BadLines { .. }
        | MigrateError::Blob(_)
        | MigrateError::MassRemoval { .. }
        | MigrateError::Task(_) => Exit::Failed,
    }
}

fn exit_of_problem(problem: &Problem) -> Exit {
    match problem {
        Problem::SamePlace { .. }
        | Problem::NoPlaceForKeys
        | Problem::ShardWithKeys
        | Problem::ShardOfFile => Exit::Usage,
        Problem::Metadata { source, .. } => source.into(),
        Problem::Data { source, .. } => source.into(),
        Problem::OthersRows { .. } => Exit::InUse,
        Problem::Table(unfit) if unfit.is_denied() => Exit::Unreachable,
        Problem::NoBlobs { .. } | Problem::NoSpace { .. } | Problem::Table(_) => Exit::Failed,
    }
}

#[cfg(test)]
mod tests;
