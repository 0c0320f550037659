//! How often and how long what can pass is tried again: the one policy of blobs and whole runs.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use crate::data::DataError;

/// The longest first wait; each further one may be twice as long …
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// … up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// When to give up.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// How often one blob is tried again that fails where others do not.
    pub retries: u32,
    /// How long something may fail without a success in between; zero tries nothing again.
    pub retry_for: Duration,
    /// A number from 0 to 1 by which each wait is shortened, so that those that failed together
    /// do not come back together.
    pub jitter: fn() -> f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 10,
            retry_for: Duration::from_secs(300),
            jitter: || rand::rng().random_range(0.0..1.0),
        }
    }
}

/// What fails, and so what bounds the tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// One item, for a reason of its own: by count and by time.
    Item,
    /// A backend as a whole: by time, because how often it is asked meanwhile says nothing.
    Backend,
}

/// Something that is tried until it succeeds or the policy gives up.
#[derive(Debug)]
pub(super) struct Trying {
    policy: RetryPolicy,
    failures: u32,
    item_failures: u32,
    /// The first failure since the last success.
    since: Option<Instant>,
}

impl Trying {
    pub fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            failures: 0,
            item_failures: 0,
            since: None,
        }
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Since the first failure after the last success; zero if there was none.
    pub fn failing_for(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Notes a failure that can pass. Gives the time to wait before the next try, or `None` once
    /// enough was tried.
    pub fn wait_after(&mut self, scope: Scope) -> Option<Duration> {
        let now = Instant::now();
        let failing = now - *self.since.get_or_insert(now);
        self.failures += 1;
        self.item_failures += u32::from(scope == Scope::Item);
        let left = self.policy.retry_for.checked_sub(failing)?;
        if left.is_zero() || self.item_failures > self.policy.retries {
            return None;
        }
        let doubled = FIRST_WAIT.saturating_mul(1 << (self.failures - 1).min(16));
        let wait = doubled.min(LONGEST_WAIT).mul_f64((self.policy.jitter)());
        // The last try is at the end of the time, not behind it.
        Some(wait.min(left))
    }

    /// As [`Trying::wait_after`], for an error of a blob: what cannot pass is not tried again.
    pub fn wait_after_blob(&mut self, error: &DataError) -> Option<Duration> {
        if !error.is_transient() {
            return None;
        }
        self.wait_after(match error.is_fatal() {
            true => Scope::Backend,
            false => Scope::Item,
        })
    }

    /// Notes a success: what fails from now on has all its tries.
    pub fn succeeded(&mut self) {
        *self = Self::new(self.policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(retries: u32, seconds: u64) -> RetryPolicy {
        RetryPolicy {
            retries,
            retry_for: Duration::from_secs(seconds),
            jitter: || 1.0,
        }
    }

    /// The waits until it gives up, in seconds, when every try fails at once.
    async fn waits(policy: RetryPolicy, scope: Scope) -> Vec<f64> {
        let mut trying = Trying::new(policy);
        let mut waits = Vec::new();
        while let Some(wait) = trying.wait_after(scope) {
            waits.push(wait.as_secs_f64());
            tokio::time::sleep(wait).await;
        }
        waits
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_a_bound() {
        assert_eq!(
            waits(policy(8, 3600), Scope::Item).await,
            [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_count_bounds_an_item_and_the_time_bounds_both() {
        assert_eq!(waits(policy(2, 3600), Scope::Item).await, [0.5, 1.0]);
        let expected = [0.5, 1.0, 2.0, 1.5];
        assert_eq!(waits(policy(100, 5), Scope::Item).await, expected);
        assert_eq!(waits(policy(0, 5), Scope::Backend).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_means_no_second_try() {
        for scope in [Scope::Item, Scope::Backend] {
            assert_eq!(waits(policy(10, 0), scope).await, [0.0; 0]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_gives_back_all_tries() {
        let mut trying = Trying::new(policy(1, 3600));
        for _ in 0..3 {
            assert!(trying.wait_after(Scope::Item).is_some());
            trying.succeeded();
        }
        assert!(trying.wait_after(Scope::Item).is_some());
        assert_eq!(trying.wait_after(Scope::Item), None);
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_shortens_each_wait() {
        let halved = RetryPolicy {
            jitter: || 0.5,
            ..policy(3, 3600)
        };
        assert_eq!(waits(halved, Scope::Item).await, [0.25, 0.5, 1.0]);
        for _ in 0..1000 {
            let chance = (RetryPolicy::default().jitter)();
            assert!((0.0..=1.0).contains(&chance), "{chance}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_pass_is_not_tried_again() {
        let mut trying = Trying::new(policy(10, 3600));
        let denied = DataError::Denied {
            action: "write".into(),
            backend: "s3".into(),
            source: "403".into(),
        };
        assert_eq!(trying.wait_after_blob(&denied), None);
        let busy = DataError::Busy {
            action: "write".into(),
            backend: "s3".into(),
            source: "503".into(),
        };
        assert!(trying.wait_after_blob(&busy).is_some());
    }
}
