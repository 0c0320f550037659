//! The subcommands: one file each, with its arguments and its run. Only here anything is printed.

mod clean;
mod database;
mod exit;
mod fakedb;
mod limits;
mod migrate;
mod open;
mod server;

use std::io;
use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};
use tracing::warn;

use crate::config::{self, Environment};
use crate::logging::{self, Threshold};
use exit::Outcome;

pub use exit::Exit;

/// Temporary file sharing server
///
/// Without a command, starts the server.
#[derive(Debug, Parser)]
#[command(name = "plikd", version = concat!("version v", env!("CARGO_PKG_VERSION")))]
#[command(disable_version_flag = true)]
struct Cli {
    /// Configuration file [default: $PLIKD_CONFIG, else ./plikd.cfg, else /etc/plikd.cfg]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(flatten)]
    server: server::ServerArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server
    Server(server::ServerArgs),
    /// Remove what has expired and erase what was removed, once
    Clean,
    #[command(alias = "migration")]
    Migrate(Box<migrate::MigrateArgs>),
    Fakedb(fakedb::FakedbArgs),
}

/// Does what the command line asks for; what failed has been printed when this returns.
pub async fn main() -> Exit {
    exit::end(run(Cli::parse()).await)
}

async fn run(cli: Cli) -> Outcome {
    let env = Environment::of_process();
    let mut warnings = Vec::new();
    let loaded = config::load_warning(cli.config.as_deref(), &env, &mut warnings)
        .inspect_err(|_| exit::warn(&warnings))?;
    let threshold = Threshold::named(&loaded.config.log_level);
    match &cli.command {
        // What it found and did is its output; what happens meanwhile is not.
        Some(Command::Migrate(_)) => logging::init(threshold, io::stderr),
        _ => logging::init(threshold, io::stdout),
    }
    .map_err(anyhow::Error::from)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let found = database::Found::of(&loaded, &env);
    let outcome = match cli.command {
        None => server::run(cli.server, loaded).await,
        Some(Command::Server(args)) => server::run(args.or(cli.server), loaded).await,
        Some(Command::Clean) => clean::run(loaded.config).await,
        Some(Command::Migrate(args)) => return migrate::run(*args, &loaded, &env).await,
        Some(Command::Fakedb(args)) => fakedb::run(args).await,
    };
    outcome.map_err(|failure| found.correct(failure))
}
