//! A row that is rejected is told once, however often a run comes past it.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use super::progress::{Event, Progress};

/// Rejected rows that are remembered, in 8 bytes each. Those after them may be told again.
const MOST_ROWS: usize = 1 << 18;

/// Passes events on, but for rejected rows that were told before: tables are read again from their
/// start where a living source was resumed, and by a further attempt.
pub(super) struct Once {
    progress: Arc<dyn Progress>,
    hasher: RandomState,
    told: Mutex<HashSet<u64>>,
}

impl Once {
    pub fn new(progress: &Arc<dyn Progress>) -> Self {
        Self {
            progress: Arc::clone(progress),
            hasher: RandomState::new(),
            told: Mutex::default(),
        }
    }

    fn is_new(&self, event: &Event<'_>) -> bool {
        let Event::Rejected(reject) = event else {
            return true;
        };
        // The key that is shown may be masked, and be that of several rows.
        let row = (&reject.table, &reject.row.tuple, &reject.reason);
        let row = self.hasher.hash_one(row);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        !told.contains(&row) && (told.len() >= MOST_ROWS || told.insert(row))
    }
}

impl Progress for Once {
    fn on(&self, event: Event<'_>) {
        if self.is_new(&event) {
            self.progress.on(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Encoding, Reject, StoredRow};

    /// Counts what comes through.
    #[derive(Default)]
    struct Heard(Mutex<u32>);

    impl Progress for Heard {
        fn on(&self, _: Event<'_>) {
            *self.0.lock().unwrap() += 1;
        }
    }

    #[test]
    fn a_rejected_row_is_told_once_and_another_of_the_same_masked_key_too() {
        let reject = |tuple: &[u8]| Reject {
            table: "tokens".to_owned(),
            key: "abc…".to_owned(),
            reason: "no time".to_owned(),
            faults: Vec::new(),
            row: StoredRow {
                encoding: Encoding::Binary,
                tuple: tuple.to_vec(),
            },
        };
        let heard = Arc::new(Heard::default());
        let once = Once::new(&(Arc::clone(&heard) as Arc<dyn Progress>));
        for tuple in [b"one", b"two", b"one", b"two"] {
            once.on(Event::Rejected(&reject(tuple)));
        }
        assert_eq!(*heard.0.lock().unwrap(), 2);
        once.on(Event::LintBegin);
        once.on(Event::LintBegin);
        assert_eq!(*heard.0.lock().unwrap(), 4);
    }
}
