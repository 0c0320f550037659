//! `plikd migrate`: moves this server to other backends.

mod args;
mod failure;
mod progress;
mod summary;

use std::io::{self, Write};

use super::exit::{Exit, Failure, Outcome};
use crate::config::{self, Environment, Loaded};
use crate::data::Location;
use crate::lifecycle;
use crate::metadata;
use crate::migrate::{self, Endpoint, Halves, MigrateError};

pub use args::MigrateArgs;

/// Runs the migration from the server that `source` describes.
pub async fn run(args: MigrateArgs, source: &Loaded, env: &Environment) -> Outcome {
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
    let options = args.options();
    tracing::info!("from {}", places(from, options.halves));
    tracing::info!("to {}", places(to, options.halves));
    let progress = progress::watcher(args.verbose);
    let shutdown = lifecycle::listen().map_err(|error| Failure::new(Exit::Failed, error))?;
    let cancel = shutdown.ask.clone();
    let work = async {
        if args.dry_run {
            let preview = migrate::preview(from, to, options, &progress, &cancel).await;
            return preview
                .map(|preview| summary::print_preview(&preview))
                .map_err(|error| failure::not_startable(error, &shutdown));
        }
        let report = migrate::run(from, to, options, &progress, &cancel).await;
        report
            .map(|report| summary::print_report(&report))
            .map_err(|error| failure::failure(error, &shutdown))
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
