//! The cleaning routine: removes what has expired, erases what was removed, forgets what is gone.
//!
//! Several servers may clean one backend at the same time: each step is a compare-and-set or
//! changes nothing the second time.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use rand::{Rng, RngExt};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::data::{BlobRef, DataBackend};
use crate::metadata::{Metadata, MetadataError};
use crate::model::{File, FileStatus, Timestamp};

/// Rows read at once.
const BATCH: u32 = 500;
/// Blobs erased at the same time.
const WORKERS: usize = 8;
/// Days for which daily statistics are kept.
const STATISTICS_DAYS: i64 = 30;
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Cleans the two backends of a server.
pub struct Cleaner {
    pub metadata: Metadata,
    pub data: Arc<dyn DataBackend>,
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// How long to wait before the next run: five to ten minutes, so that servers which started
/// together do not clean together.
pub fn interval(rng: &mut impl Rng) -> Duration {
    Duration::from_secs(300 + rng.random_range(0..300))
}

impl Cleaner {
    /// Waits and cleans until cancelled. There is no run at the start.
    pub async fn run_forever(&self, cancel: &CancellationToken) {
        loop {
            let pause = interval(&mut rand::rng());
            info!("Will clean old uploads in {} seconds.", pause.as_secs());
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => self.run(cancel).await,
            }
        }
    }

    /// Cleans once. A step that fails is logged and left to the next run; the others still run.
    /// When cancelled, stops after the item in hand.
    pub async fn run(&self, cancel: &CancellationToken) {
        info!("Cleaning expired uploads...");
        let now = (self.clock)();
        let orphans = async {
            let orphans = self.metadata.delete_orphans().await?;
            Ok(orphans.files + orphans.tokens)
        };
        report(
            "remove expired uploads",
            self.expire(now, cancel).await,
            |count| {
                info!("removed {count} expired uploads");
            },
        );
        report("delete removed files", self.erase(cancel).await, |count| {
            info!("purged {count} deleted files");
        });
        report("purge deleted uploads", self.purge(cancel).await, |count| {
            info!("purged {count} deleted uploads");
        });
        if cancel.is_cancelled() {
            return;
        }
        report("delete orphans", orphans.await, |count| {
            if count > 0 {
                info!("deleted {count} orphan files and tokens");
            }
        });
        let prune = self.metadata.prune_daily_stats(statistics_start(now));
        report("prune statistics", prune.await, |_| {});
        let sessions = self.metadata.delete_expired_cli_sessions(now);
        report("delete expired login sessions", sessions.await, |_| {});
    }

    /// Removes every live upload past its expiry.
    async fn expire(
        &self,
        now: Timestamp,
        cancel: &CancellationToken,
    ) -> Result<u64, MetadataError> {
        let mut count = 0;
        let mut cursor = String::new();
        loop {
            let ids = self.metadata.expired_uploads(now, &cursor, BATCH).await?;
            let Some(last) = ids.last() else {
                return Ok(count);
            };
            cursor.clone_from(last);
            for id in &ids {
                if cancel.is_cancelled() {
                    return Ok(count);
                }
                match self.metadata.remove_upload(id, now).await {
                    Ok(removed) => count += u64::from(removed),
                    Err(error) => retry_later(&format!("remove upload {id}"), &error),
                }
            }
        }
    }

    /// Erases the bytes of every removed file.
    async fn erase(&self, cancel: &CancellationToken) -> Result<u64, MetadataError> {
        let mut count = 0;
        let mut cursor = String::new();
        loop {
            let files = self.metadata.removed_files(&cursor, BATCH).await?;
            let Some(last) = files.last() else {
                return Ok(count);
            };
            cursor.clone_from(&last.id);
            let erased = stream::iter(files)
                .take_while(|_| std::future::ready(!cancel.is_cancelled()))
                .map(async |file| self.erase_one(&file).await)
                .buffer_unordered(WORKERS)
                .filter(|erased| std::future::ready(*erased))
                .count();
            count += erased.await as u64;
            if cancel.is_cancelled() {
                return Ok(count);
            }
        }
    }

    async fn erase_one(&self, file: &File) -> bool {
        let action = format!("delete file {}", file.id);
        if let Err(error) = self.data.remove(&BlobRef::from(file)).await {
            retry_later(&action, &error);
            return false;
        }
        let (from, to) = (FileStatus::Removed, FileStatus::Deleted);
        let changed = self.metadata.change_status(&file.id, from, to).await;
        changed.unwrap_or_else(|error| {
            retry_later(&action, &error);
            false
        })
    }

    /// Forgets every removed upload that has no bytes any more.
    async fn purge(&self, cancel: &CancellationToken) -> Result<u64, MetadataError> {
        let mut count = 0;
        let mut cursor = String::new();
        loop {
            let ids = self.metadata.removed_uploads(&cursor, BATCH).await?;
            let Some(last) = ids.last() else {
                return Ok(count);
            };
            cursor.clone_from(last);
            for id in &ids {
                if cancel.is_cancelled() {
                    return Ok(count);
                }
                match self.metadata.purge_upload(id).await {
                    Ok(purged) => count += u64::from(purged),
                    Err(error) => retry_later(&format!("purge upload {id}"), &error),
                }
            }
        }
    }
}

/// The start of the first day, in UTC, of which statistics are kept.
fn statistics_start(now: Timestamp) -> Timestamp {
    let today = now.as_second().div_euclid(DAY_SECONDS);
    let first = (today - STATISTICS_DAYS) * DAY_SECONDS;
    Timestamp::from_second(first).unwrap_or(Timestamp::MIN)
}

fn report<T>(step: &str, result: Result<T, MetadataError>, done: impl FnOnce(T)) {
    match result {
        Ok(value) => done(value),
        Err(error) => retry_later(step, &error),
    }
}

fn retry_later(action: &str, error: &(dyn Error + 'static)) {
    warn!(error, "unable to {action}, will retry");
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn runs_are_five_to_ten_minutes_apart() {
        let mut rng = StdRng::seed_from_u64(1);
        let pauses: Vec<u64> = (0..10_000).map(|_| interval(&mut rng).as_secs()).collect();
        assert_eq!(pauses.iter().min(), Some(&300));
        assert_eq!(pauses.iter().max(), Some(&599));
    }

    #[test]
    fn statistics_of_thirty_days_before_today_are_kept() {
        let start = |now: &str| statistics_start(now.parse().unwrap()).to_string();
        assert_eq!(start("2026-03-31T23:59:59Z"), "2026-03-01T00:00:00Z");
        assert_eq!(start("2026-03-31T00:00:00Z"), "2026-03-01T00:00:00Z");
    }
}
