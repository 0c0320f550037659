//! The objects that a trial makes, and that they go.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;

use crate::config::Sse;
use crate::data::name::prefixed;
use crate::data::s3::Store;
use crate::data::s3::encryption::{CustomerKey, key_for_writing};
use crate::data::s3::error::Failure;
use crate::data::s3::list::Named;
use crate::data::s3::target::Target;
use crate::model::BackendDetails;

/// The keys begin with this; no id of an upload or a file has a `-`.
const BEGINNING: &str = "plikd-trial-";
/// What a trial of another run left is removed after that time: before, that may be going on.
const LEFT_AFTER: Duration = Duration::from_secs(60 * 60);
/// Before a removal that failed in passing is tried again.
const WAITS: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// One of the objects.
#[derive(Clone, Copy)]
pub enum Name {
    Small,
    Empty,
    WrongMd5,
    WrongSignature,
    Parts,
    Copy,
    CopyOfParts,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Empty => "empty",
            Self::WrongMd5 => "md5",
            Self::WrongSignature => "signature",
            Self::Parts => "parts",
            Self::Copy => "copy",
            Self::CopyOfParts => "copy-of-parts",
        }
    }
}

/// See the module.
pub struct Scratch {
    pub store: Arc<Store>,
    /// Of this run, among others into the same bucket.
    id: String,
    customer_key: Option<CustomerKey>,
    /// Keys of what may be there.
    there: Mutex<BTreeSet<String>>,
}

impl Scratch {
    pub fn new(store: &Arc<Store>, id: String) -> Self {
        let encrypt = store.config.sse == Sse::Customer;
        let (customer_key, _) = key_for_writing(&BackendDetails::default(), encrypt);
        Self {
            store: Arc::clone(store),
            id,
            customer_key,
            there: Mutex::default(),
        }
    }

    /// Of the keys of this trial and all others.
    pub fn prefix(&self) -> String {
        prefixed(&self.store.config.prefix, BEGINNING)
    }

    /// Of the keys of this run.
    pub fn stem(&self) -> String {
        format!("{}{}-", self.prefix(), self.id)
    }

    pub fn target(&self, name: Name) -> Target {
        Target {
            store: Arc::clone(&self.store),
            id: self.id.clone(),
            key: format!("{}{}", self.stem(), name.as_str()),
            content_type: "application/octet-stream".to_owned(),
            customer_key: self.customer_key.clone(),
        }
    }

    /// The same, once it is noted whether the object may be there now.
    pub fn noted<T>(&self, name: Name, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if outcome.as_ref().err().is_none_or(Failure::may_be_done) {
            self.lock().insert(self.target(name).key);
        }
        outcome
    }

    /// Notes what earlier trials have left, to be removed with what this one leaves.
    pub fn note_left(&self, listed: &[Named]) {
        let (stem, long_ago) = (self.stem(), Timestamp::now() - LEFT_AFTER);
        let left = listed.iter().filter(|object| {
            object.key.starts_with(&stem) || object.modified.is_some_and(|time| time < long_ago)
        });
        self.lock().extend(left.map(|object| object.key.clone()));
    }

    /// Aborts uploads in parts that a trial of this run was killed in. A server that does not tell
    /// of them keeps them, as it does those of others.
    pub async fn abort_left(&self) {
        let store = &self.store;
        let request = store.client.list_multipart_uploads();
        let request = request.bucket(&store.config.bucket).prefix(self.stem());
        let Ok(answer) = request.send().await else {
            return;
        };
        for upload in answer.uploads() {
            if let (Some(key), Some(id)) = (upload.key(), upload.upload_id())
                && key.starts_with(&self.stem())
                && let Err(failure) = store.abort(key, id).await
            {
                tracing::debug!("unfinished upload {id} of {key} stays in {store}: {failure}");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes all of it, or tells the key of what stays, and why.
    pub async fn remove(&self) -> Result<(), (String, Failure)> {
        let keys = std::mem::take(&mut *self.lock());
        let removed = join_all(keys.into_iter().map(|key| self.remove_one(key))).await;
        removed.into_iter().collect()
    }

    async fn remove_one(&self, key: String) -> Result<(), (String, Failure)> {
        let mut waits = WAITS.into_iter();
        loop {
            match self.store.delete(&key, self.customer_key.as_ref()).await {
                Ok(()) => return Ok(()),
                Err(failure) => match waits.next().filter(|_| failure.may_be_done()) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err((key, failure)),
                },
            }
        }
    }
}
