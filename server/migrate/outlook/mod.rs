//! What a migration would be: everything that a dry run finds, and what it takes besides. Nothing
//! is written.

mod facts;
mod requests;
mod sample;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::error::MigrateError;
use super::plan::Plan;
use super::preview::look;
use super::progress::Progress;
use super::report::Preview;
use super::{Endpoint, Limiter, Options};
use crate::data::{self, Access};

pub use facts::{BlobTotals, Facts, Moved};
pub use requests::Requests;
pub use sample::Estimate;

/// What is known of a migration before it runs.
#[derive(Clone, Debug)]
pub struct Outlook {
    pub facts: Facts,
    pub preview: Preview,
    pub rooms: Vec<Room>,
    pub requests: Requests,
    pub estimate: Estimate,
}

/// What a place must have room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub place: String,
    pub needed_bytes: u64,
    /// `None` where it cannot be told, as for a bucket.
    pub available_bytes: Option<u64>,
}

/// Looks at everything that [`super::run()`] would copy, and reads a little of it to see how long
/// that takes.
///
/// # Errors
///
/// [`MigrateError::Preflight`] with every problem that would keep the run from starting.
pub async fn outlook(
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    options: Options<'_>,
    limiter: &Arc<Limiter>,
    progress: &Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Outlook, MigrateError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(MigrateError::Interrupted),
        outlook = make(from, to, options, limiter, progress, cancel) => outlook,
    }
}

async fn make(
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    options: Options<'_>,
    limiter: &Arc<Limiter>,
    progress: &Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Outlook, MigrateError> {
    let mut sizes = requests::Sizes::new(from.data, to.data);
    let mut note = |bytes| sizes.add(bytes);
    let (plan, preview) = look(from, to, options, limiter, progress, cancel, &mut note).await?;
    let (facts, _) = Facts::gather(&plan, to, options.halves).await?;
    Ok(Outlook {
        facts,
        rooms: rooms(&plan, to, &preview).await?,
        requests: sizes.requests(&preview, plan.to_is_absent),
        estimate: sample::take(&plan, to, options, &preview, limiter.tuning()).await?,
        preview,
    })
}

async fn rooms(
    plan: &Plan,
    to: Endpoint<'_>,
    preview: &Preview,
) -> Result<Vec<Room>, MigrateError> {
    let mut rooms: Vec<Room> = plan.room_for_rows.iter().cloned().collect();
    if let Some(blobs) = &preview.blobs {
        let target = data::open(to.data, Access::Probe).await?;
        rooms.push(Room {
            place: target.to_string(),
            needed_bytes: blobs.bytes,
            available_bytes: target.available_bytes().await?,
        });
    }
    Ok(rooms)
}

impl Facts {
    /// Compares these with the ends of a run that is about to begin.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Moved`] with everything that is not as it was.
    pub(super) async fn check(
        &self,
        plan: &Plan,
        to: Endpoint<'_>,
        options: Options<'_>,
    ) -> Result<(), MigrateError> {
        let (now, has_begun) = Self::gather(plan, to, options.halves).await?;
        match self.moved(&now, has_begun) {
            moved if moved.is_empty() => Ok(()),
            moved => Err(MigrateError::Moved(moved)),
        }
    }
}
