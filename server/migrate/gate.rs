//! How many blobs may be in flight while a store asks for less: one number for all workers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::data::DataError;

/// Halves what may be in flight each time a store asks for fewer requests, and lets it grow again
/// by one for about as many successes as are in flight.
pub(super) struct Gate {
    state: Mutex<State>,
    room: Notify,
    most: f64,
}

struct State {
    allowed: f64,
    in_flight: usize,
    /// Counts the halvings: those that were in flight together at one of them are told no twice
    /// for one reason.
    halvings: u64,
}

/// The permission for one blob. Dropped, it makes room for another.
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    halvings: u64,
}

impl Gate {
    pub fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        Self {
            state: Mutex::new(State {
                allowed: most,
                in_flight: 0,
                halvings: 0,
            }),
            room: Notify::new(),
            most,
        }
    }

    /// Waits until one more may be in flight.
    pub async fn enter(&self) -> Pass<'_> {
        loop {
            let room = self.room.notified();
            if let Some(pass) = self.try_enter() {
                return pass;
            }
            room.await;
        }
    }

    fn try_enter(&self) -> Option<Pass<'_>> {
        let mut state = self.state();
        // Whole ones only: 3.9 allows three.
        if state.in_flight as f64 + 1.0 > state.allowed {
            return None;
        }
        state.in_flight += 1;
        Some(Pass {
            gate: self,
            halvings: state.halvings,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    pub fn succeeded(self) {
        let mut state = self.gate.state();
        state.allowed = (state.allowed + 1.0 / state.allowed).min(self.gate.most);
    }

    pub fn failed(self, error: &DataError) {
        if !matches!(error, DataError::Busy { .. }) {
            return;
        }
        let mut state = self.gate.state();
        if state.halvings == self.halvings {
            state.halvings += 1;
            state.allowed = (state.allowed / 2.0).max(1.0);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.state().in_flight -= 1;
        // All of them: a success may have made room for two.
        self.gate.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> DataError {
        DataError::Busy {
            action: "write".into(),
            backend: "s3".into(),
            source: "503 SlowDown".into(),
        }
    }

    fn fill(gate: &Gate) -> Vec<Pass<'_>> {
        std::iter::from_fn(|| gate.try_enter()).collect()
    }

    #[test]
    fn a_store_that_asks_for_less_gets_half() {
        let gate = Gate::new(16);
        assert_eq!(fill(&gate).len(), 16);
        for expected in [8, 4, 2, 1, 1] {
            gate.try_enter().unwrap().failed(&busy());
            assert_eq!(fill(&gate).len(), expected);
        }
    }

    #[test]
    fn refusals_of_one_moment_count_once() {
        let gate = Gate::new(16);
        for pass in fill(&gate) {
            pass.failed(&busy());
        }
        assert_eq!(fill(&gate).len(), 8);
    }

    #[test]
    fn it_recovers_one_by_one_and_never_above_the_start() {
        let gate = Gate::new(4);
        gate.try_enter().unwrap().failed(&busy());
        let mut seen = Vec::new();
        for _ in 0..12 {
            gate.try_enter().unwrap().succeeded();
            seen.push(fill(&gate).len());
        }
        assert_eq!(seen, [2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4]);
    }

    #[test]
    fn other_errors_change_nothing() {
        let gate = Gate::new(4);
        for pass in fill(&gate) {
            pass.failed(&DataError::NotFound {
                id: "x".into(),
                backend: "s3".into(),
            });
        }
        assert_eq!(fill(&gate).len(), 4);
    }

    #[tokio::test]
    async fn who_waits_enters_when_another_leaves() {
        let gate = Gate::new(1);
        let pass = gate.enter().await;
        let mut second = Box::pin(gate.enter());
        assert!(futures::poll!(&mut second).is_pending());
        drop(pass);
        assert!(futures::poll!(&mut second).is_ready());
    }
}
