//! `plikd clean`: one run of the cleaning routine.

use std::sync::Arc;

use anyhow::Context;

use super::exit::{Exit, Outcome};
use super::{database, open};
use crate::clean::Cleaner;
use crate::config::Config;
use crate::lifecycle;
use crate::model::Timestamp;

/// Cleans once. What could not be cleaned is logged and left to the next run.
pub async fn run(config: Config) -> Outcome {
    // What has expired or was removed there may be in use where the server went on.
    database::refuse_moved(&config.metadata)?;
    let signals = lifecycle::listen().context("unable to listen for signals")?;
    let metadata = open::metadata(&config).await?;
    let cleaner = Cleaner {
        metadata: metadata.clone(),
        data: open::data(&config).await?,
        clock: Arc::new(Timestamp::now),
    };
    cleaner.run(&signals.ask).await;
    metadata.close().await;
    Ok(signals.signal().map_or(Exit::Done, Exit::from))
}
