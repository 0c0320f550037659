//! `plikd migrate`: moves this server to other backends.

mod args;
mod audience;
mod failure;
mod json;
mod meter;
mod progress;
mod report;
mod summary;
mod values;
mod whole_file;

use std::io::{self, Write};
use std::sync::Arc;

use super::exit::{Exit, Failure, Outcome};
use crate::config::{self, Environment, Loaded};
use crate::data::Location;
use crate::lifecycle;
use crate::metadata;
use crate::migrate::{self, Endpoint, Halves, MigrateError, Options, Progress};

pub use args::MigrateArgs;
use audience::Audience;
use summary::Summary;

/// Runs the migration from the server that `source` describes.
pub async fn run(args: MigrateArgs, source: &Loaded, env: &Environment) -> Outcome {
    let options = args.options();
    let audience = Arc::new(Audience::gather(&args, &options)?);
    let outcome = migrate(&args, options, source, env, &audience).await;
    audience.end(outcome)
}

async fn migrate(
    args: &MigrateArgs,
    options: Options,
    source: &Loaded,
    env: &Environment,
    audience: &Arc<Audience>,
) -> Outcome {
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
    tracing::info!("from {}", places(from, options.halves));
    tracing::info!("to {}", places(to, options.halves));
    let progress: Arc<dyn Progress> = Arc::clone(audience) as _;
    let shutdown = lifecycle::listen().map_err(|error| Failure::new(Exit::Failed, error))?;
    let cancel = shutdown.ask.clone();
    let work = async {
        let summary = match args.dry_run {
            true => migrate::preview(from, to, options, &progress, &cancel)
                .await
                .map(Summary::Preview)
                .map_err(|error| failure::not_startable(error, &shutdown))?,
            false => migrate::run(from, to, options, &progress, &cancel)
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
