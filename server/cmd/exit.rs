//! How every subcommand ends: its exit code, and what it prints when it failed.

use std::fmt;
use std::io::{self, Write};
use std::process::{ExitCode, Termination};

use crate::config::ConfigError;
use crate::data::DataError;
use crate::lifecycle::Signal;
use crate::metadata::MetadataError;

/// The exit codes, the same for every subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All that was asked for is done.
    Done = 0,
    /// It failed, for a reason that has no code of its own.
    Failed = 1,
    /// Bad usage or configuration; nothing was begun.
    Usage = 2,
    /// The database was never initialised, or is not one of ours.
    NotInitialised = 3,
    /// A backend cannot be reached, or refuses us.
    Unreachable = 4,
    /// The schema of the database is older than this program needs.
    NeedsUpgrade = 5,
    /// The schema of the database is newer than this program.
    Newer = 6,
    /// Another server or run holds what this one needs.
    InUse = 7,
    /// An earlier run died inside a step that a person must judge.
    NeedsJudgement = 8,
    /// Finished, but errors were ignored or rows rejected; the report names them.
    Incomplete = 20,
    /// Verification found a difference.
    Different = 21,
    /// Ended by SIGHUP; the same command resumes.
    HungUp = 129,
    /// Ended by SIGINT; the same command resumes.
    Interrupted = 130,
    /// Ended by SIGTERM; the same command resumes.
    Terminated = 143,
}

impl Exit {
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

impl From<Signal> for Exit {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Interrupt => Self::Interrupted,
            Signal::Terminate => Self::Terminated,
            Signal::HangUp => Self::HungUp,
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.into()
    }
}

/// Why a subcommand did not do what it was asked, and what can be done about it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// What failed on what; its causes are printed behind it.
    pub error: anyhow::Error,
    /// One sentence.
    pub hint: Option<String>,
    /// The database that it is about, as messages name it, if it is about one.
    pub database: Option<String>,
}

/// What a subcommand gives back: [`Exit::Done`], a code that is no failure of its own, such as
/// [`Exit::Incomplete`] after a report, or a failure still to be printed.
pub type Outcome = Result<Exit, Failure>;

/// An [`Outcome`] to be looked at.
pub type OutcomeRef<'a> = Result<&'a Exit, &'a Failure>;

impl Failure {
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
            hint: None,
            database: None,
        }
    }

    /// With the database that it is about.
    pub fn about(mut self, database: Option<&str>) -> Self {
        self.database = database.map(str::to_owned);
        self
    }

    /// With what the administrator can do, if anything.
    pub fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// With what was being done, in front of what failed.
    pub fn context(mut self, doing: impl fmt::Display + Send + Sync + 'static) -> Self {
        self.error = self.error.context(doing);
        self
    }
}

/// Two lines at most: `plikd: <what failed>: <cause>: …` and `hint: …`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plikd: {}", one_line(&format!("{:#}", self.error)))?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {}", one_line(hint)),
            None => Ok(()),
        }
    }
}

/// An error without a code of its own.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let hint = error.hint();
        let unread = matches!(
            error,
            ConfigError::Unreadable { .. } | ConfigError::Directory { .. }
        );
        let failure = Self::new(Exit::Usage, error).with_hint(hint);
        match unread {
            true => failure,
            false => failure.context("Unable to load config"),
        }
    }
}

impl From<&MetadataError> for Exit {
    fn from(error: &MetadataError) -> Self {
        match error {
            MetadataError::NotInitialised { .. }
            | MetadataError::NoDatabase { .. }
            | MetadataError::Layout { .. } => Self::NotInitialised,
            MetadataError::Newer { .. } => Self::Newer,
            MetadataError::Unreachable { .. }
            | MetadataError::NoTls { .. }
            | MetadataError::Untrusted { .. }
            | MetadataError::Standby { .. }
            | MetadataError::Hidden { .. }
            | MetadataError::Denied { .. } => Self::Unreachable,
            MetadataError::InUse { .. }
            | MetadataError::Busy { .. }
            | MetadataError::HalfMigrated { .. }
            | MetadataError::OtherMigration { .. } => Self::InUse,
            MetadataError::Config(_)
            | MetadataError::Divided { .. }
            | MetadataError::NoParts { .. } => Self::Usage,
            MetadataError::Full { .. }
            | MetadataError::CutOff { .. }
            | MetadataError::Damaged { .. }
            | MetadataError::Failed { .. } => Self::Failed,
        }
    }
}

impl From<&DataError> for Exit {
    fn from(error: &DataError) -> Self {
        match error {
            DataError::Unreachable { .. }
            | DataError::Denied { .. }
            | DataError::Untrusted { .. }
            | DataError::BucketMissing { .. }
            | DataError::Busy { .. } => Self::Unreachable,
            DataError::Config(_) => Self::Usage,
            DataError::NotFound { .. }
            | DataError::WrongSize { .. }
            | DataError::Body { .. }
            | DataError::InvalidId { .. }
            | DataError::Full { .. }
            | DataError::Passing { .. }
            | DataError::Failed { .. }
            | DataError::Journal { .. } => Self::Failed,
        }
    }
}

impl From<MetadataError> for Failure {
    fn from(error: MetadataError) -> Self {
        let (hint, database) = (error.hint(), error.backend().map(str::to_owned));
        Self::new(Exit::from(&error), error)
            .with_hint(hint)
            .about(database.as_deref())
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        let hint = error.hint();
        Self::new(Exit::from(&error), error).with_hint(hint)
    }
}

/// What the configuration has that a failure may come from. There is no log yet.
pub fn warn(warnings: &[String]) {
    let mut stderr = io::stderr().lock();
    for warning in warnings {
        // With standard error gone there is no one left to tell.
        let _ = writeln!(stderr, "warning: {}", one_line(warning));
    }
}

/// The end of the program: prints a failure on standard error, and gives the exit code.
pub fn end(outcome: Outcome) -> Exit {
    end_on(outcome, &mut io::stderr().lock())
}

fn end_on(outcome: Outcome, stderr: &mut impl Write) -> Exit {
    outcome.unwrap_or_else(|failure| {
        // With standard error gone there is no one left to tell, and the exit code still says it.
        let _ = writeln!(stderr, "{failure}");
        failure.exit
    })
}

/// Databases and other servers answer in several lines, and in what characters they please.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join(" ");
    joined.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::config::{Environment, load};

    fn printed(outcome: Outcome) -> (Exit, String) {
        let mut stderr = Vec::new();
        let exit = end_on(outcome, &mut stderr);
        (exit, String::from_utf8(stderr).unwrap())
    }

    #[test]
    fn the_codes_are_those_of_the_manual() {
        let codes = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::NotInitialised, 3),
            (Exit::Unreachable, 4),
            (Exit::NeedsUpgrade, 5),
            (Exit::Newer, 6),
            (Exit::InUse, 7),
            (Exit::NeedsJudgement, 8),
            (Exit::Incomplete, 20),
            (Exit::Different, 21),
            (Exit::HungUp, 129),
            (Exit::Interrupted, 130),
            (Exit::Terminated, 143),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code);
            assert_eq!(ExitCode::from(exit), ExitCode::from(code));
        }
        for signal in [Signal::Interrupt, Signal::Terminate, Signal::HangUp] {
            assert_eq!(Exit::from(signal).code(), signal.exit_code());
        }
    }

    #[test]
    fn success_prints_nothing() {
        assert_eq!(printed(Ok(Exit::Done)), (Exit::Done, String::new()));
        assert_eq!(
            printed(Ok(Exit::Incomplete)),
            (Exit::Incomplete, String::new())
        );
    }

    #[test]
    fn a_failure_is_one_line_with_its_causes_and_one_with_a_hint() {
        let cause = anyhow!("permission denied").context("cannot open plik.db");
        let failure = Failure::new(Exit::Unreachable, cause)
            .context("cannot start")
            .with_hint("let this user write there".to_owned());
        assert_eq!(
            printed(Err(failure)),
            (
                Exit::Unreachable,
                "plikd: cannot start: cannot open plik.db: permission denied\n\
                 hint: let this user write there\n"
                    .to_owned()
            )
        );
        let (exit, text) = printed(Err(anyhow!("no hint").into()));
        assert_eq!((exit, text.as_str()), (Exit::Failed, "plikd: no hint\n"));
    }

    #[test]
    fn what_others_said_stays_on_one_line() {
        let failure = Failure::from(anyhow!("ERROR: bad\r\n\n  DETAIL: worse\u{1b}[2J"));
        let (_, text) = printed(Err(failure));
        assert_eq!(text, "plikd: ERROR: bad DETAIL: worse [2J\n");
    }

    #[test]
    fn a_bad_configuration_is_bad_usage() {
        let env = Environment::new([("PLIKD_DEBUG", "maybe")]);
        let failure = Failure::from(load(None, &env).unwrap_err());
        assert_eq!(
            printed(Err(failure)),
            (
                Exit::Usage,
                "plikd: Unable to load config: unable to assign Debug : invalid boolean value\n\
                 hint: correct or unset PLIKD_DEBUG\n"
                    .to_owned()
            )
        );
        let absent = std::path::Path::new("/nonexistent/plikd.cfg");
        let failure = Failure::from(load(Some(absent), &env).unwrap_err());
        let (_, text) = printed(Err(failure));
        assert!(text.starts_with("plikd: Unable to read config file /nonexistent/plikd.cfg : "));
    }
}
