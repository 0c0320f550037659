//! Makes those wait who would exceed the limits.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use jiff::civil::Time;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Limits, Nice};
use crate::data::{ByteStream, Manners, Tuning};

/// What may pass at once after a pause, in time of the rate.
const BURST: Duration = Duration::from_millis(250);
/// Bytes are let pass in pieces of at most that time, so that a limit that changes, by the clock
/// or by the administrator, soon holds for those that wait.
const PIECE: Duration = Duration::from_millis(250);

/// The limits of a migration as they are now. All its tasks ask the same one. Dropping a call that
/// waits is safe.
pub struct Limiter {
    state: Mutex<State>,
    time_of_day: fn() -> Time,
}

struct State {
    limits: Limits,
    bytes: Bucket,
    requests: Bucket,
}

impl Limiter {
    pub fn new(limits: Limits) -> Self {
        Self::with_clock(limits, || jiff::Zoned::now().time())
    }

    fn with_clock(limits: Limits, time_of_day: fn() -> Time) -> Self {
        Self {
            state: Mutex::new(State {
                limits,
                bytes: Bucket::default(),
                requests: Bucket::default(),
            }),
            time_of_day,
        }
    }

    /// Replaces the limits. Who waits already waits for what is at most a moment of the old ones.
    pub fn set(&self, limits: Limits) {
        let mut state = self.state();
        state.limits = limits;
        // What was let pass under the old limits does not count against the new.
        state.bytes = Bucket::default();
        state.requests = Bucket::default();
    }

    /// The same bytes, none faster than allowed.
    pub fn paced(self: Arc<Self>, body: ByteStream) -> ByteStream {
        Box::pin(body.then(move |chunk: io::Result<Bytes>| {
            let limiter = Arc::clone(&self);
            async move {
                let chunk = chunk?;
                limiter.bytes(chunk.len() as u64).await;
                Ok(chunk)
            }
        }))
    }

    /// How to open a backend that keeps to the limits.
    pub(in crate::migrate) fn tuning(self: &Arc<Self>) -> Tuning {
        Tuning {
            manners: Some(Arc::clone(self) as Arc<dyn Manners>),
            ..Tuning::default()
        }
    }

    /// Waits until so many bytes may pass.
    pub(super) async fn bytes(&self, count: u64) {
        let mut left = count;
        while left > 0 {
            let Some((start, piece)) = self.reserve_bytes(left) else {
                return;
            };
            sleep_until(start).await;
            left -= piece;
        }
    }

    /// When how many of the bytes may pass; `None` if all may now.
    fn reserve_bytes(&self, left: u64) -> Option<(Instant, u64)> {
        let mut state = self.state();
        let rate = state.limits.bandwidth.at((self.time_of_day)())?.get();
        let most = (rate as f64 * PIECE.as_secs_f64()) as u64;
        let piece = left.min(most.max(1));
        let cost = Duration::from_secs_f64(piece as f64 / rate as f64);
        Some((state.bytes.reserve(cost), piece))
    }

    fn reserve_request(&self) -> Option<Instant> {
        let mut state = self.state();
        let rate = state.limits.max_rps?.get();
        let cost = Duration::from_secs_f64(1.0 / f64::from(rate));
        Some(state.requests.reserve(cost))
    }

    /// Leaves the source alone after a batch of rows that took so long.
    pub async fn rest_after(&self, batch: Duration) {
        let nice = self.state().limits.nice;
        if let Some(rest) = nice.map(Nice::ratio).filter(|ratio| *ratio > 0.0) {
            sleep(batch.mul_f64(rest)).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Manners for Limiter {
    async fn request(&self) {
        if let Some(start) = self.reserve_request() {
            sleep_until(start).await;
        }
    }

    fn spares_page_cache(&self) -> bool {
        self.state().limits.nice.is_some()
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limiter")
            .field(&self.state().limits)
            .finish()
    }
}

/// A token bucket that keeps a moment instead of tokens: the one at which it is full of debts paid.
#[derive(Default)]
struct Bucket {
    paid_until: Option<Instant>,
}

impl Bucket {
    /// Takes what costs so much time, and gives the moment from which on it may be used.
    fn reserve(&mut self, cost: Duration) -> Instant {
        let now = Instant::now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let start = self.paid_until.unwrap_or(now).max(earliest);
        self.paid_until = Some(start + cost);
        start.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(text: &str) -> Arc<Limiter> {
        let limits = Limits::parse(text).unwrap();
        Arc::new(Limiter::with_clock(limits, || Time::constant(12, 0, 0, 0)))
    }

    async fn seconds(work: impl Future) -> f64 {
        let begun = Instant::now();
        work.await;
        begun.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate() {
        let limiter = limiter("bwlimit = \"1KiB\"");
        // The last quarter of a second is paid by whoever comes next.
        assert!((9.7..=10.0).contains(&seconds(limiter.bytes(10 << 10)).await));
        assert!((9.9..=10.1).contains(&seconds(limiter.bytes(10 << 10)).await));
    }

    #[tokio::test(start_paused = true)]
    async fn all_workers_share_the_rate() {
        let limiter = limiter("bwlimit = \"1KiB\"");
        let all = futures::future::join_all((0..8).map(|_| limiter.bytes(1 << 10)));
        assert!((7.7..=8.0).contains(&seconds(all).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_up_a_burst_and_no_more() {
        let limiter = limiter("bwlimit = \"1KiB\"");
        limiter.bytes(1).await;
        sleep(Duration::from_secs(100)).await;
        assert!((9.4..=9.8).contains(&seconds(limiter.bytes(10 << 10)).await));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nobody_waits() {
        let limiter = limiter("");
        let all = async {
            limiter.bytes(u64::MAX).await;
            limiter.request().await;
            limiter.rest_after(Duration::from_secs(9)).await;
        };
        assert_eq!(seconds(all).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_over_the_second() {
        let limiter = limiter("max-rps = 10");
        let all = futures::future::join_all((0..21).map(|_| limiter.request()));
        assert!((1.99..=2.01).contains(&seconds(all).await));
    }

    #[tokio::test(start_paused = true)]
    async fn the_source_rests_in_proportion() {
        let limiter = limiter("nice = 0.5");
        let rest = limiter.rest_after(Duration::from_secs(4));
        assert_eq!(seconds(rest).await, 2.0);
        assert!(limiter.spares_page_cache());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_holds_for_those_that_wait() {
        let limiter = limiter("bwlimit = \"1KiB\"\nmax-rps = 1\nnice = 1");
        let waiting = limiter.bytes(1 << 20);
        let change = async {
            sleep(Duration::from_secs(5)).await;
            limiter.set(Limits::default());
        };
        let both = async { tokio::join!(waiting, change) };
        assert!((5.0..=5.3).contains(&seconds(both).await));
        assert!(!limiter.spares_page_cache());
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_chooses_the_rate() {
        let limiter = limiter("bwlimit = \"11:00,1KiB 13:00,1MiB\"");
        assert!((9.7..=10.0).contains(&seconds(limiter.bytes(10 << 10)).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_the_same_only_slower() {
        let limiter = limiter("bwlimit = \"1KiB\"");
        let chunks = vec![
            Ok(Bytes::from(vec![1; 2048])),
            Ok(Bytes::from(vec![2; 1024])),
            Err(io::Error::other("gone")),
        ];
        let body: ByteStream = Box::pin(futures::stream::iter(chunks));
        let mut sizes = Vec::new();
        let read = async {
            let mut body = limiter.paced(body);
            while let Some(chunk) = body.next().await {
                sizes.push(chunk.map(|chunk| chunk.len()).ok());
            }
        };
        assert!((2.7..=3.0).contains(&seconds(read).await));
        assert_eq!(sizes, [Some(2048), Some(1024), None]);
    }
}
