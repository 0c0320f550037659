//! Ends an attempt whose target somebody else may have.

use std::future::pending;

use tokio::sync::watch;

use crate::metadata::{Hold, Loader, MetadataError};

/// Watches the lock of the target, once there is one.
pub(super) struct Guard(watch::Sender<Option<Hold>>);

impl Default for Guard {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Guard {
    pub fn watch(&self, loader: &Loader) {
        self.0.send_replace(loader.hold().cloned());
    }

    /// What an attempt before this one has had means nothing any more.
    pub fn leave(&self) {
        self.0.send_replace(None);
    }

    /// Ends when the lock is lost, with what it means.
    pub async fn is_taken_away(&self) -> MetadataError {
        let mut watched = self.0.subscribe();
        let hold = match watched.wait_for(Option::is_some).await {
            Ok(hold) => hold.clone(),
            Err(_) => None,
        };
        match hold {
            Some(hold) => hold.over().await,
            None => pending().await,
        }
    }
}
