//! `plikd migrate`: moves this server to other backends.

mod args;
mod audience;
mod failure;
mod json;
mod limits;
mod meter;
mod progress;
mod report;
mod summary;
mod values;
mod verdict;
mod whole_file;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::exit::{Exit, Failure, Outcome};
use crate::config::{self, Environment, Loaded};
use crate::data::Location;
use crate::lifecycle;
use crate::metadata;
use crate::migrate::{self, Endpoint, Halves, Limiter, MigrateError, Options, Progress, proof};

pub use args::MigrateArgs;
use args::{MigrateCommand, ReplayArgs, RunArgs, VerifyArgs};
use audience::Audience;
use limits::LimitArgs;
use summary::Summary;

/// Runs what `args` ask for from the server that `source` describes.
pub async fn run(args: MigrateArgs, source: &Loaded, env: &Environment) -> Outcome {
    match (args.command, args.run) {
        (Some(MigrateCommand::Verify(args)), _) => verify(args, source, env).await,
        (Some(MigrateCommand::Replay(args)), _) => replay(args, source, env).await,
        (None, Some(run)) => {
            let options = run.options(&args.retry);
            let audience = Arc::new(Audience::gather(&run, &options)?);
            let outcome = migrate(&run, &args.limits, options, source, env, &audience).await;
            audience.end(outcome)
        }
        // The parser asks for --to where there is no subcommand.
        (None, None) => Err(anyhow::anyhow!("--to is missing").into()),
    }
}

async fn migrate(
    args: &RunArgs,
    limits: &LimitArgs,
    options: Options<'_>,
    source: &Loaded,
    env: &Environment,
    audience: &Arc<Audience>,
) -> Outcome {
    let target = load_target(source, &args.to, env)?;
    let (from, to) = (end(source), end(&target));
    announce(from, to, options.halves);
    let progress: Arc<dyn Progress> = Arc::clone(audience) as _;
    let limiter = Arc::new(Limiter::new(limits.limits()?));
    let _limits = limits.follow(&limiter, &progress)?;
    let shutdown = lifecycle::listen().map_err(|error| Failure::new(Exit::Failed, error))?;
    let cancel = shutdown.ask.clone();
    let work = async {
        let summary = match args.dry_run {
            true => migrate::preview(from, to, options, &progress, &cancel)
                .await
                .map(Summary::Preview)
                .map_err(|error| failure::not_startable(error, &shutdown))?,
            false => migrate::run(from, to, options, &limiter, &progress, &cancel)
                .await
                .map(Summary::Run)
                .map_err(|error| failure::failure(error, &shutdown))?,
        };
        audience.summary(&summary);
        Ok(summary.exit())
    };
    tokio::select! {
        biased;
        // What is in hand is dropped, which leaves nothing half-written visible.
        () = shutdown.insist.cancelled() => Err(failure::failure(MigrateError::Interrupted, &shutdown)),
        outcome = work => outcome,
    }
}

/// Compares the target with the source. Nothing is written, so the first signal ends it at once.
async fn verify(args: VerifyArgs, source: &Loaded, env: &Environment) -> Outcome {
    let target = load_target(source, &args.to, env)?;
    let options = args.options();
    let (from, to) = (end(source), end(&target));
    announce(from, to, options.halves);
    let progress = progress::watcher(false);
    let shutdown = lifecycle::listen().map_err(|error| Failure::new(Exit::Failed, error))?;
    proof::verify(from, to, options, &progress, &shutdown.ask)
        .await
        .map(|found| verdict::print(&found))
        .map_err(|error| failure::not_compared(error, &shutdown))
}

/// Tries rejected rows again.
async fn replay(args: ReplayArgs, source: &Loaded, env: &Environment) -> Outcome {
    let target = load_target(source, &args.to, env)?;
    let to = end(&target);
    tracing::info!("to {}", places(to, Halves::Both));
    let progress = progress::watcher(false);
    let shutdown = lifecycle::listen().map_err(|error| Failure::new(Exit::Failed, error))?;
    let work = migrate::replay(
        &args.file,
        to,
        args.rejects.as_deref(),
        &progress,
        &shutdown.ask,
    );
    tokio::select! {
        biased;
        () = shutdown.insist.cancelled() => Err(failure::failure(MigrateError::Interrupted, &shutdown)),
        replayed = work => {
            let report = replayed.map_err(|error| failure::failure(error, &shutdown))?;
            let summary = Summary::Run(report);
            summary.print();
            Ok(summary.exit())
        }
    }
}

fn load_target(source: &Loaded, to: &Path, env: &Environment) -> Result<Loaded, Failure> {
    let target = config::load_target(source, to, env)?;
    for warning in &target.warnings {
        tracing::warn!("{}: {warning}", to.display());
    }
    Ok(target)
}

fn end(loaded: &Loaded) -> Endpoint<'_> {
    Endpoint {
        metadata: &loaded.config.metadata,
        data: &loaded.config.data,
    }
}

fn announce(from: Endpoint<'_>, to: Endpoint<'_>, halves: Halves) {
    tracing::info!("from {}", places(from, halves));
    tracing::info!("to {}", places(to, halves));
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
/// A line on standard error. One that nobody reads any more must not end the run.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
