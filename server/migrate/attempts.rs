//! Another attempt of the whole run, where a connection was lost that may come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use super::error::{MigrateError, explain};
use super::progress::{Event, Progress};
use super::retry::{RetryPolicy, Scope, Trying};

/// Counts the attempts of one run, and how far each came.
pub(super) struct Attempts {
    trying: Trying,
    watch: Arc<Watch>,
    /// The most that any attempt did.
    furthest: u64,
    is_first: bool,
}

impl Attempts {
    pub fn new(policy: RetryPolicy, progress: &Arc<dyn Progress>) -> Self {
        Self {
            trying: Trying::new(policy),
            watch: Arc::new(Watch {
                progress: Arc::clone(progress),
                done: AtomicU64::new(0),
            }),
            furthest: 0,
            is_first: true,
        }
    }

    /// What the attempts must tell their progress to.
    pub fn watch(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.watch) as Arc<dyn Progress>
    }

    /// Whether there was an attempt before the one that is next.
    pub fn is_further(&self) -> bool {
        !self.is_first
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    ///
    /// `error` itself if no further attempt is to be made, [`MigrateError::Interrupted`] as soon
    /// as `cancel` fires.
    pub async fn wait_after(
        &mut self,
        error: MigrateError,
        cancel: &CancellationToken,
    ) -> Result<(), MigrateError> {
        let is_transient = error.is_transient(self.is_further());
        // What keeps a later attempt from starting ends a run that has begun.
        let error = match self.is_further() {
            true => error.in_the_middle(),
            false => error,
        };
        if !is_transient {
            return Err(error);
        }
        self.is_first = false;
        self.note_how_far();
        let failing = self.trying.failing_for();
        let Some(wait) = self.trying.wait_after(Scope::Backend) else {
            return Err(error.tried_for(failing));
        };
        self.watch.progress.on(Event::Retry {
            blob: None,
            reason: &explain(&error),
            failures: self.trying.failures(),
            wait,
        });
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(MigrateError::Interrupted),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// An attempt that came further than those before was a success as far as it came.
    fn note_how_far(&mut self) {
        let done = self.watch.done.swap(0, Ordering::Relaxed);
        if done > self.furthest {
            self.furthest = done;
            self.trying.succeeded();
        }
    }
}

/// Passes events on, and counts blobs and rows that were dealt with. A resumed table tells of the
/// rows before its checkpoint too, so the counts of two attempts compare.
struct Watch {
    progress: Arc<dyn Progress>,
    done: AtomicU64,
}

impl Progress for Watch {
    fn on(&self, event: Event<'_>) {
        let done = match event {
            Event::BlobEnd { .. } => 1,
            Event::Rows { rows, .. } => rows,
            _ => 0,
        };
        self.done.fetch_add(done, Ordering::Relaxed);
        self.progress.on(event);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::metadata::MetadataError;
    use crate::migrate::Quiet;
    use crate::migrate::{Problem, Side};

    fn attempts(seconds: u64) -> Attempts {
        let policy = RetryPolicy {
            retries: 0,
            retry_for: Duration::from_secs(seconds),
            jitter: || 1.0,
        };
        Attempts::new(policy, &(Arc::new(Quiet) as Arc<dyn Progress>))
    }

    fn lost() -> MigrateError {
        MigrateError::Metadata(MetadataError::Unreachable {
            action: "write".into(),
            backend: "postgres".into(),
            source: "closed".into(),
        })
    }

    fn not_started() -> MigrateError {
        MigrateError::Preflight(vec![Problem::Metadata {
            side: Side::Target,
            source: MetadataError::Unreachable {
                action: "connect".into(),
                backend: "postgres".into(),
                source: "refused".into(),
            },
        }])
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_ends_the_run_after_the_time() {
        let (mut attempts, cancel) = (attempts(60), CancellationToken::new());
        let begun = Instant::now();
        while attempts.wait_after(lost(), &cancel).await.is_ok() {}
        assert_eq!(begun.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn what_keeps_a_later_attempt_from_starting_is_no_start_that_failed() {
        let (mut attempts, cancel) = (attempts(60), CancellationToken::new());
        attempts.wait_after(lost(), &cancel).await.unwrap();
        let error = loop {
            if let Err(error) = attempts.wait_after(not_started(), &cancel).await {
                break error;
            }
        };
        let text = explain(&error);
        assert!(
            text.starts_with("given up after 60 seconds of trying again: "),
            "{text}"
        );
        assert!(text.contains("the metadata could not be copied"), "{text}");
        let hint = error.hint().unwrap();
        assert!(
            hint.ends_with("run the same command again to resume"),
            "{hint}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn progress_gives_back_all_the_time_and_its_lack_does_not() {
        let (mut attempts, cancel) = (attempts(10), CancellationToken::new());
        for rows in 1..100 {
            attempts.watch().on(Event::Rows {
                table: "users",
                rows,
            });
            attempts.wait_after(lost(), &cancel).await.unwrap();
        }
        // The same rows again and again lead nowhere.
        let begun = Instant::now();
        loop {
            attempts.watch().on(Event::Rows {
                table: "users",
                rows: 99,
            });
            if attempts.wait_after(lost(), &cancel).await.is_err() {
                break;
            }
        }
        assert!(begun.elapsed() <= Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_pass_ends_the_run_at_once() {
        let (mut attempts, cancel) = (attempts(60), CancellationToken::new());
        let error = MigrateError::Rejected(Vec::new());
        let error = attempts.wait_after(error, &cancel).await.unwrap_err();
        assert!(matches!(error, MigrateError::Rejected(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_the_run_is_to_end() {
        let (mut attempts, cancel) = (attempts(60), CancellationToken::new());
        let begun = Instant::now();
        cancel.cancel();
        let error = attempts.wait_after(lost(), &cancel).await.unwrap_err();
        assert!(matches!(error, MigrateError::Interrupted));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
