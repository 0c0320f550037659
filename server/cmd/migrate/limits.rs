//! `--retries`, `--bwlimit` and their like, and the file that changes limits while a migration
//! runs.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio_util::task::AbortOnDropHandle;

use crate::cmd::exit::{Exit, Failure};
use crate::config::duration;
use crate::files;
use crate::lifecycle::{self, Hangups, Shutdown};
use crate::migrate::{
    Event, Limiter, Limits, Nice, Progress, RetryPolicy, Schedule, lower_priority,
};

/// The heading of what a migration may take.
pub const LIMITS: &str = "Limits";

/// No file of limits has as many.
const FILE_BYTES: u64 = 1 << 20;

/// What to do about outages.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Retries")]
pub struct RetryArgs {
    /// How often one blob is tried again that fails where others do not
    #[arg(long, value_name = "N", default_value_t = RetryPolicy::default().retries)]
    retries: u32,

    /// How long an outage of a backend is waited out, such as `90s` or `1h`; 0 tries nothing again
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration::parse_clock)]
    retry_for: Duration,
}

impl RetryArgs {
    pub fn policy(&self) -> RetryPolicy {
        RetryPolicy {
            retries: self.retries,
            retry_for: self.retry_for,
            ..RetryPolicy::default()
        }
    }
}

/// What the migration may take from others.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = LIMITS)]
pub struct LimitArgs {
    /// Bytes of blobs per second: `50MiB`, or by the time of day: `08:00,5MiB 19:00,off`
    #[arg(long, value_name = "RATE", conflicts_with = "limits")]
    bwlimit: Option<Schedule>,

    /// Requests per second to S3 servers, both ends together
    #[arg(long, value_name = "N", conflicts_with = "limits", value_parser = at_least_one::<NonZeroU32>)]
    max_rps: Option<NonZeroU32>,

    /// Spare the source: lowest priority, page cache left alone, and a rest after each batch of
    /// rows, RATIO times as long as the batch took [1 if no RATIO is given]
    #[arg(
        long,
        value_name = "RATIO",
        num_args = 0..=1,
        default_missing_value = "1",
        conflicts_with = "limits"
    )]
    nice: Option<Nice>,

    /// TOML file with the keys bwlimit, max-rps and nice, read again at each SIGHUP
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
}

impl LimitArgs {
    /// The limits at the start, which are told if there are any.
    pub fn limits(&self, progress: &dyn Progress) -> Result<Limits, Failure> {
        let limits = match &self.limits {
            Some(path) => read(path).map_err(|error| unusable(path, &error))?,
            None => Limits {
                bandwidth: self.bwlimit.clone().unwrap_or_default(),
                max_rps: self.max_rps,
                nice: self.nice,
            },
        };
        lower_priority_for(&limits);
        if limits != Limits::default() {
            progress.on(Event::Limits {
                limits: &limits,
                changed: false,
            });
        }
        Ok(limits)
    }

    /// The file that changes the limits, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.limits.as_deref()
    }

    /// What was asked for, as JSON; a file may say something else meanwhile.
    pub fn asked(&self) -> Map<String, Value> {
        let bwlimit = self.bwlimit.as_ref().map(Schedule::to_string);
        let limits = self.limits.as_ref().map(|path| path.display().to_string());
        let fields = [
            ("bwlimit", bwlimit.into()),
            ("max_rps", self.max_rps.map(NonZeroU32::get).into()),
            ("nice", self.nice.map(Nice::ratio).into()),
            ("limits", limits.into()),
        ];
        let fields = fields.into_iter();
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// Listens for the wish that the run ends. Without a file to read again, SIGHUP is one: the
    /// terminal went away.
    pub fn listen(&self) -> Result<Shutdown, Failure> {
        let shutdown = match &self.limits {
            Some(_) => lifecycle::listen(),
            None => lifecycle::listen_and_hang_up(),
        };
        shutdown.map_err(|error| Failure::new(Exit::Failed, error))
    }

    /// Changes the limits whenever SIGHUP asks for it, for as long as the result is kept.
    pub fn follow(
        &self,
        limiter: &Arc<Limiter>,
        progress: &Arc<dyn Progress>,
    ) -> Result<Option<AbortOnDropHandle<()>>, Failure> {
        let Some(path) = self.limits.clone() else {
            return Ok(None);
        };
        let hangups = lifecycle::hangups().map_err(|error| Failure::new(Exit::Failed, error))?;
        let task = reread(path, hangups, Arc::clone(limiter), Arc::clone(progress));
        Ok(Some(AbortOnDropHandle::new(tokio::spawn(task))))
    }
}

/// Reads a file of limits. What could make its reader wait is refused: the end of the run would wait
/// too.
fn read(path: &Path) -> Result<Limits, String> {
    let text = || {
        let file = files::open_regular(path, File::options().read(true))?;
        io::read_to_string(file.take(FILE_BYTES))
    };
    let text = text().map_err(|error| error.to_string())?;
    match text.len() as u64 {
        FILE_BYTES.. => Err("it is too long".to_owned()),
        _ => Limits::parse(&text),
    }
}

/// A number that is not zero.
pub fn at_least_one<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse()
        .map_err(|_| "a whole number from 1 on is needed".to_owned())
}

fn unusable(path: &Path, error: &str) -> Failure {
    let error = anyhow::anyhow!("the limits in {} cannot be used: {error}", path.display());
    Failure::new(Exit::Usage, error)
        .with_hint("correct the file; its keys are bwlimit, max-rps and nice".to_owned())
}

async fn reread(
    path: PathBuf,
    mut hangups: Hangups,
    limiter: Arc<Limiter>,
    progress: Arc<dyn Progress>,
) {
    while hangups.next().await {
        let file = path.clone();
        let limits = tokio::task::spawn_blocking(move || read(&file)).await;
        match limits.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(limits) => {
                lower_priority_for(&limits);
                progress.on(Event::Limits {
                    limits: &limits,
                    changed: true,
                });
                limiter.set(limits);
            }
            Err(error) => tracing::warn!(
                "the limits stay as they are: {} cannot be used: {error}",
                path.display()
            ),
        }
    }
}

fn lower_priority_for(limits: &Limits) {
    if limits.nice.is_some()
        && let Err(error) = lower_priority()
    {
        tracing::warn!("the priority cannot be lowered: {error}");
    }
}
