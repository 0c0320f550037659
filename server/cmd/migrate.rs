//! `plikd migrate`: moves this server to other backends.

mod args;
mod audience;
mod changes;
mod dialect;
mod failure;
mod json;
mod limits;
mod meter;
mod outputs;
mod plan;
mod progress;
mod report;
mod summary;
mod values;
mod verdict;
mod whole_file;
mod words;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::database;
use super::exit::{Exit, Failure, Outcome};
use crate::config::{self, ConfigError, Environment, Loaded};
use crate::data::Location;
use crate::lifecycle;
use crate::metadata;
use crate::migrate::{
    self, Endpoint, Facts, Halves, Limiter, MigrateError, Mode, Options, Progress, proof,
};

pub use args::MigrateArgs;
use args::{MigrateCommand, ReplayArgs, RunArgs, VerifyArgs};
use audience::{Audience, Opening};
use dialect::{Dialect, Move};
use outputs::Outputs;
use plan::{PlanDraft, Planned};
use summary::Summary;

/// Runs what `args` ask for from the server that `source` describes.
pub async fn run(args: MigrateArgs, source: &Loaded, env: &Environment) -> Outcome {
    // What programs read is what a person reads.
    let found = database::Found::of(source, env);
    match (args.command, args.run) {
        (Some(MigrateCommand::Verify(args)), _) => {
            let target = config::load_target(source, &args.to, env);
            let opening = Opening::of_verification(&args, source, target.as_ref().ok());
            let audience = Arc::new(Audience::gather(&opening)?);
            let outcome = verify(&args, source, target, &audience).await;
            audience.end(outcome.map_err(|failure| found.correct(failure)))
        }
        (Some(MigrateCommand::Replay(args)), _) => {
            let outcome = replay(args, source, env).await;
            outcome.map_err(|failure| found.correct(failure))
        }
        (None, args) => {
            let (args, facts) = follow_plan(args, source)?;
            let options = Options {
                expected: facts.as_ref(),
                ..args.options()
            };
            let target = args.to.as_deref();
            let target = target.map(|path| config::load_target(source, path, env));
            let known = target.as_ref().and_then(|target| target.as_ref().ok());
            let opening = Opening::of_run(&args, &options, Outputs::of_run(&args, source, known));
            let audience = Arc::new(Audience::gather(&opening)?);
            let outcome = match &args.dialect.dialect {
                Some(name) => change_dialect(name, &args, options, source, &audience).await,
                None => migrate(&args, options, source, target, &audience).await,
            };
            audience.end(outcome.map_err(|failure| found.correct(failure)))
        }
    }
}

/// The arguments as their plan says, if they name one, and what it was made from.
fn follow_plan(args: RunArgs, source: &Loaded) -> Result<(RunArgs, Option<Facts>), Failure> {
    let Some(path) = &args.plan_file else {
        return Ok((args, None));
    };
    match Planned::read(path) {
        Ok(planned) => Ok((args.with_planned(planned.args), Some(planned.facts))),
        Err(failure) => {
            let outputs = Outputs::of_run(&args, source, None);
            let opening = Opening::of_run(&args, &args.options(), outputs);
            let audience = Audience::gather(&opening)?;
            Err(audience.end_failed(failure))
        }
    }
}

async fn migrate(
    args: &RunArgs,
    options: Options<'_>,
    source: &Loaded,
    target: Option<Result<Loaded, ConfigError>>,
    audience: &Arc<Audience>,
) -> Outcome {
    // The parser asks for it where there is no --dialect.
    let (Some(path), Some(target)) = (&args.to, target) else {
        return Err(anyhow::anyhow!("--to is missing").into());
    };
    let target = target?;
    warn_of(&target, path);
    let (from, to) = (end(source), end(&target));
    let options = options.towards(to);
    heed_moves(from, to, options)?;
    announce(from, to, options.halves);
    if let Some(shard) = options.shard {
        tracing::info!("part {shard} of {}", parted(options.halves));
    }
    let draft = args.plan.as_ref();
    let draft = draft.map(|plan| PlanDraft::create(plan, args, path));
    let draft = draft.transpose()?;
    let summary = carry_out(args, options, from, to, audience).await?;
    if let (Some(draft), Summary::Plan(outlook)) = (draft, &summary)
        && summary.can_be_done()
    {
        draft.finish(outlook, &summary)?;
    }
    audience.summary(&summary);
    summary.outcome()
}

/// Moves the rows to the server's other database, and makes that the one it starts on.
async fn change_dialect(
    name: &str,
    args: &RunArgs,
    options: Options<'_>,
    source: &Loaded,
    audience: &Arc<Audience>,
) -> Outcome {
    let dialect = Dialect::parse(name)?;
    let change = Move::prepare(dialect, args.dialect.terms(args.dry_run), source).await?;
    let data = &source.config.data;
    let end = |metadata| Endpoint { metadata, data };
    let (from, to) = (end(&change.from), end(&change.to));
    let options = Options {
        replace: change.replacement(),
        ..options
    };
    let summary = carry_out(args, options, from, to, audience).await;
    let summary = summary.map_err(|failure| change.failed(failure))?;
    audience.summary(&summary);
    if let Summary::Run(report) = &summary {
        if !report.is_complete() && !options.ignore_errors {
            return Err(change.stale());
        }
        let concluded = change.conclude(report).await;
        concluded.map_err(|failure| failure.context("all rows were copied"))?;
    }
    summary.outcome()
}

/// Does what the arguments ask for between two ends, until it is done or a signal comes.
async fn carry_out(
    args: &RunArgs,
    options: Options<'_>,
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    audience: &Arc<Audience>,
) -> Result<Summary, Failure> {
    let progress: Arc<dyn Progress> = Arc::clone(audience) as _;
    let limiter = Arc::new(Limiter::new(args.limits.limits(progress.as_ref())?));
    let _limits = args.limits.follow(&limiter, &progress)?;
    let shutdown = args.limits.listen()?;
    let cancel = shutdown.ask.clone();
    let work = async {
        match (args.dry_run, &args.plan) {
            (true, _) => migrate::preview(from, to, options, &limiter, &progress, &cancel)
                .await
                .map(Summary::Preview),
            (false, Some(_)) => migrate::outlook(from, to, options, &limiter, &progress, &cancel)
                .await
                .map(|outlook| Summary::Plan(Box::new(outlook))),
            (false, None) => migrate::run(from, to, options, &limiter, &progress, &cancel)
                .await
                .map(Summary::Run),
        }
    };
    tokio::select! {
        biased;
        // What is in hand is dropped, which leaves nothing half-written visible.
        () = shutdown.insist.cancelled() => Err(failure::failure(MigrateError::Interrupted, &shutdown)),
        outcome = work => outcome.map_err(|error| failure::failure(error, &shutdown)),
    }
}

/// Compares the target with the source. Nothing is written, so the first signal ends it at once.
async fn verify(
    args: &VerifyArgs,
    source: &Loaded,
    target: Result<Loaded, ConfigError>,
    audience: &Arc<Audience>,
) -> Outcome {
    let target = target?;
    warn_of(&target, &args.to);
    let options = args.options();
    let (from, to) = (end(source), end(&target));
    announce(from, to, options.halves);
    let progress: Arc<dyn Progress> = Arc::clone(audience) as _;
    let limiter = Arc::new(Limiter::new(args.limits.limits(progress.as_ref())?));
    let _limits = args.limits.follow(&limiter, &progress)?;
    let shutdown = args.limits.listen()?;
    let found = proof::verify(from, to, options, &limiter, &progress, &shutdown.ask)
        .await
        .map_err(|error| failure::not_compared(error, &shutdown))?;
    let summary = Summary::Verification(found);
    audience.summary(&summary);
    summary.outcome()
}

/// Refuses what would be lost because a database was moved away from a SQLite file, and warns of
/// what would be old.
fn heed_moves(from: Endpoint<'_>, to: Endpoint<'_>, options: Options<'_>) -> Result<(), Failure> {
    if options.halves.has_metadata() {
        refuse_moved_target(to)?;
    }
    // It would put old rows in the place of those that have lived on.
    if options.mode != Mode::Copy {
        database::refuse_moved(from.metadata)?;
    }
    if let Some(moved) = database::moved(from.metadata)? {
        say(&format!(
            "warning: {moved}: what has changed since is not in it (set PLIKD_POSTGRES_URL to copy \
             from there)"
        ));
    }
    Ok(())
}

/// No server would start on it.
fn refuse_moved_target(to: Endpoint<'_>) -> Result<(), Failure> {
    match database::moved(to.metadata)? {
        None => Ok(()),
        Some(moved) => Err(Failure::new(Exit::Failed, anyhow::anyhow!(moved)).with_hint(
            "let --to name another file (to go back to that one: plikd migrate --dialect sqlite \
             --overwrite)"
                .to_owned(),
        )),
    }
}

/// Tries rejected rows again.
async fn replay(args: ReplayArgs, source: &Loaded, env: &Environment) -> Outcome {
    let target = config::load_target(source, &args.to, env);
    Outputs::of_replay(&args, source, target.as_ref().ok()).check()?;
    let target = target?;
    warn_of(&target, &args.to);
    let to = end(&target);
    refuse_moved_target(to)?;
    tracing::info!("to {}", places(to, Halves::Both));
    let progress = progress::watcher(false);
    let shutdown =
        lifecycle::listen_and_hang_up().map_err(|error| Failure::new(Exit::Failed, error))?;
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
            summary.outcome()
        }
    }
}

fn warn_of(target: &Loaded, path: &Path) {
    for warning in &target.warnings {
        tracing::warn!("{}: {warning}", path.display());
    }
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

/// What there is a part of.
fn parted(halves: Halves) -> &'static str {
    match halves {
        Halves::Both => "the blobs and rows",
        Halves::MetadataOnly => "the rows, no blobs",
        Halves::DataOnly => "the blobs, no rows",
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
/// A line on standard error. One that nobody reads any more must not end the run.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
