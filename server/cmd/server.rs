//! `plikd` and `plikd server`: the daemon.

use std::sync::Arc;

use anyhow::Context;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::database::{self, Insistence};
use super::exit::{Exit, Failure, Outcome};
use super::{limits, open};
use crate::clean::Cleaner;
use crate::config::{Config, Feature, Loaded};
use crate::data::DataBackend;
use crate::http::{self, App, Clock, Listener, ServeError, Shutdown, VERSION};
use crate::lifecycle;
use crate::metadata::{Metadata, MetadataError};
use crate::model::Timestamp;

#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// Port to listen on, instead of ListenPort
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// With PLIKD_POSTGRES_URL: start even though that database is empty and the SQLite file of
    /// the configuration is not
    #[arg(long)]
    fresh: bool,

    /// Start on a SQLite file that was migrated to PostgreSQL, and forget that it was
    #[arg(long)]
    use_old_database: bool,
}

impl ServerArgs {
    /// These arguments, else those given before the subcommand.
    pub fn or(self, outer: Self) -> Self {
        Self {
            port: self.port.or(outer.port),
            fresh: self.fresh || outer.fresh,
            use_old_database: self.use_old_database || outer.use_old_database,
        }
    }
}

/// Serves until a signal asks to stop; running requests are given a minute then.
pub async fn run(args: ServerArgs, mut loaded: Loaded) -> Outcome {
    if let Some(port) = args.port.filter(|port| *port != 0) {
        loaded.config.listen_port = port;
    }
    info!("Starting plikd server v{VERSION}");
    debug!("{:?}", loaded.config);
    warn_of_what_is_not_served(&loaded.config);
    // Before anything is opened, so that a signal which comes meanwhile closes it properly.
    let signals = lifecycle::listen().context("unable to listen for signals")?;
    let shutdown = Shutdown {
        ask: signals.ask.clone(),
        insist: signals.insist.clone(),
    };
    let insistence = Insistence {
        fresh: args.fresh,
        use_old_database: args.use_old_database,
    };
    let started = async {
        database::check(&loaded, insistence).await?;
        start(&loaded.config).await
    };
    let started = started
        .await
        .map_err(|failure| failure.context("unable to start Plik server"))?;
    serve(loaded.config, started, &shutdown).await
}

/// What a server needs, open.
struct Started {
    metadata: Metadata,
    data: Arc<dyn DataBackend>,
    listener: Listener,
}

async fn start(config: &Config) -> Result<Started, Failure> {
    Ok(Started {
        metadata: open::metadata(config).await?,
        data: open::data(config).await?,
        listener: Listener::bind(config).await?,
    })
}

async fn serve(config: Config, started: Started, shutdown: &Shutdown) -> Outcome {
    let Started {
        metadata,
        data,
        listener,
    } = started;
    let url = listener.url();
    info!("Starting server at {url}");

    let clock: Clock = Arc::new(Timestamp::now);
    let cleaner = Cleaner {
        metadata: metadata.clone(),
        data: Arc::clone(&data),
        clock: Arc::clone(&clock),
    };
    let app = App {
        address: listener.local_url(),
        config,
        metadata: metadata.clone(),
        data,
        tasks: TaskTracker::new(),
        clock,
    };
    let announced = async {
        shutdown.ask.cancelled().await;
        info!("Shutdown server at {url}");
    };
    let max_connections = limits::max_connections();
    let served = http::serve(listener, Arc::new(app), max_connections, shutdown);
    let cleaned = cleaner.run_forever(&shutdown.ask);
    let guarded = stop_if_taken_away(&metadata, shutdown);
    let (_, (), (), outcome) = tokio::join!(served, announced, cleaned, guarded);
    metadata.close().await;
    outcome
}

/// A migration that got hold of the database, while the connection was lost that kept it away, must
/// not find somebody else's rows among its own; and clients are better served by a server that is
/// down than by one whose tables come and go.
async fn stop_if_taken_away(metadata: &Metadata, shutdown: &Shutdown) -> Outcome {
    let Some(hold) = metadata.hold() else {
        return Ok(Exit::Done);
    };
    let error = tokio::select! {
        () = shutdown.ask.cancelled() => return Ok(Exit::Done),
        error = hold.over() => error,
    };
    shutdown.ask.cancel();
    let hint = match &error {
        MetadataError::InUse { .. } => {
            Some("start it again when that has come to its end".to_owned())
        }
        error => error.hint(),
    };
    let failure = Failure::new(Exit::from(&error), error);
    Err(failure.context("Plik server was stopped").with_hint(hint))
}

/// Tells the administrator of settings that mean more than this version does.
fn warn_of_what_is_not_served(config: &Config) {
    match config.feature_authentication {
        Feature::Disabled => {}
        Feature::Forced => warn!(
            "FeatureAuthentication is forced, but this version serves anonymous uploads only: \
             existing uploads can be downloaded, new ones are refused"
        ),
        Feature::Enabled | Feature::Default => warn!(
            "FeatureAuthentication is enabled, but this version serves anonymous uploads only: \
             there are no accounts, and API tokens are refused"
        ),
    }
    if config.feature_stream == Feature::Forced {
        warn!("FeatureStream is forced, but this version stores every upload and streams none");
    }
    if config.metrics_port > 0 {
        warn!("MetricsPort is set, but this version publishes no metrics");
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let exit = match error {
            ServeError::Listen { .. } => Exit::Failed,
            ServeError::Tls(_) => Exit::Usage,
        };
        let hint = error.hint();
        Self::new(exit, error).with_hint(hint)
    }
}
