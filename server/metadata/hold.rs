//! Whether a lock that lives in a connection to PostgreSQL is still held, and what follows when it is
//! not: whoever writes under it has his connections cut, and a server takes it again.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use super::error::During;
use super::loader::HALF_DONE;
use super::lock::take_in_postgres;
use super::postgres::{Connector, failure, read_state};
use super::{MetadataError, OpenMode};

/// How long a call waits for a lock that is being taken again.
const PATIENCE: Duration = Duration::from_secs(5);
/// The lock's connection says something this often, because what lies between may drop one that is
/// silent.
const PULSE: Duration = Duration::from_secs(15);
/// After the first failure to take the lock again; doubled each time …
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// … up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// After this a try to take the lock again has failed.
const LONGEST_TRY: Duration = Duration::from_secs(30);

/// Whether a lock is held. Clones are about the same lock, and none keeps it.
#[derive(Clone)]
pub struct Hold {
    standing: watch::Receiver<Standing>,
    label: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// Taken so many times.
    Held(u64),
    /// Lost, and about to be taken again.
    Wanted,
    Over(End),
}

/// Why a lock is not taken again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// What was under way may have met somebody else's work: it is to begin anew.
    Lost,
    InUse(String),
    HalfMigrated,
}

impl Hold {
    /// Waits a moment for a lock that is being taken again.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Unreachable`] while it is not held, [`MetadataError::InUse`] or
    /// [`MetadataError::HalfMigrated`] once it never will be.
    pub(super) async fn ready(&self, during: During<'_>) -> Result<(), MetadataError> {
        let settled = when(&self.standing, |standing| *standing != Standing::Wanted);
        let end = match timeout(PATIENCE, settled).await {
            Ok(Some(Standing::Over(end))) => end,
            // Once it was given back nobody is to be kept away any more.
            Ok(_) => return Ok(()),
            Err(_) => End::Lost,
        };
        Err(end.explain(&self.label, during))
    }

    /// Whether nobody else can have had the database since the lock was taken.
    pub fn is_held(&self) -> bool {
        *self.standing.borrow() == Standing::Held(1)
    }

    /// Ends when the lock, as it is held at this moment, has been lost: at once if it is not held.
    /// Never once it was given back.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let standing = self.standing.clone();
        let now = standing.borrow().clone();
        async move {
            let lost = |standing: &Standing| !matches!(now, Standing::Held(_)) || *standing != now;
            let is_given_back = standing.has_changed().is_err();
            if is_given_back || when(&standing, lost).await.is_none() {
                pending::<()>().await;
            }
        }
    }

    /// Ends when the lock will not be held any more, with the reason. Never once it was given back.
    pub async fn over(&self) -> MetadataError {
        let during = During {
            action: "go on",
            backend: &self.label,
        };
        let is_over = |standing: &Standing| matches!(standing, Standing::Over(_));
        match when(&self.standing, is_over).await {
            Some(Standing::Over(end)) => end.explain(&self.label, during),
            _ => pending().await,
        }
    }
}

/// The first standing that is `wanted`; `None` if the lock is given back before.
async fn when(
    standing: &watch::Receiver<Standing>,
    wanted: impl Fn(&Standing) -> bool,
) -> Option<Standing> {
    let mut standing = standing.clone();
    let found = standing.wait_for(wanted).await;
    found.ok().map(|standing| standing.clone())
}

impl End {
    fn explain(&self, label: &str, during: During<'_>) -> MetadataError {
        let backend = label.to_owned();
        match self {
            Self::Lost => during.unreachable("the connection that kept its lock has ended"),
            Self::InUse(by) => MetadataError::InUse {
                backend,
                by: by.clone(),
            },
            Self::HalfMigrated => MetadataError::HalfMigrated { backend },
        }
    }
}

/// A connection that has the lock and does nothing else. It is cut when this is dropped, whatever it
/// waits for.
pub(super) struct Session {
    pub client: Client,
    /// Ends with the connection.
    pub task: AbortOnDropHandle<()>,
}

impl Session {
    async fn end(mut self) {
        loop {
            tokio::select! {
                _ = &mut self.task => return,
                () = sleep(PULSE) => {
                    let pulse = self.client.simple_query("SELECT 1");
                    // Should it fail because the connection is gone, the task says so. Whoever takes
                    // it and says nothing would be waited for without end.
                    if timeout(LONGEST_TRY, pulse).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Looks after the lock that `session` has, until the second value is dropped. Who serves takes it
/// again when it is lost; for anybody else it is over then.
pub(super) fn keep(
    session: Session,
    connector: Connector,
    mode: OpenMode,
) -> (Hold, AbortOnDropHandle<()>) {
    let (sender, standing) = watch::channel(Standing::Held(1));
    let hold = Hold {
        standing,
        label: connector.to_string().into(),
    };
    let keeper = Keeper {
        label: Arc::clone(&hold.label),
        connector,
        mode,
        standing: sender,
    };
    let task = tokio::spawn(keeper.run(session));
    (hold, AbortOnDropHandle::new(task))
}

struct Keeper {
    connector: Connector,
    label: Arc<str>,
    mode: OpenMode,
    standing: watch::Sender<Standing>,
}

impl Keeper {
    async fn run(self, mut session: Session) {
        let mut taken = 1;
        let end = loop {
            session.end().await;
            let label = &self.label;
            if self.mode != OpenMode::Serve {
                tracing::debug!("{label}: the connection that kept the lock has ended");
                break End::Lost;
            }
            self.standing.send_replace(Standing::Wanted);
            tracing::warn!(
                "{label}: the connection has ended that kept migrations away; nothing is read or \
                 written until there is another"
            );
            session = match self.take_again().await {
                Ok(session) => session,
                Err(end) => break end,
            };
            taken += 1;
            self.standing.send_replace(Standing::Held(taken));
            tracing::info!("{label}: migrations are kept away again");
        };
        self.standing.send_replace(Standing::Over(end));
        // As long as this lives nobody takes it for given back.
        pending::<()>().await;
    }

    async fn take_again(&self) -> Result<Session, End> {
        let mut wait = FIRST_WAIT;
        let mut told = String::new();
        loop {
            // Whoever accepts a connection and then says nothing would be waited for without end.
            let reason = match timeout(LONGEST_TRY, self.try_to_take()).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(MetadataError::InUse { by, .. })) => return Err(End::InUse(by)),
                Ok(Err(MetadataError::HalfMigrated { .. })) => return Err(End::HalfMigrated),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it does not answer".to_owned(),
            };
            if reason != told {
                tracing::warn!("{}: cannot be locked again yet: {reason}", self.label);
                told = reason;
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// What happened while nobody kept them away is told by what is there now.
    async fn try_to_take(&self) -> Result<Session, MetadataError> {
        let session = take_in_postgres(&self.connector, self.mode).await?;
        let label = &*self.label;
        let state = read_state(&session.client, label).await?;
        let during = During {
            action: "look for a migration",
            backend: label,
        };
        for (table, column) in HALF_DONE {
            if !state.has_column(table, column) {
                continue;
            }
            let sql = format!("SELECT 1 FROM {table} LIMIT 1");
            let row = session.client.query_opt(&sql, &[]).await;
            if row.map_err(|error| failure(during, &error))?.is_some() {
                let backend = label.to_owned();
                return Err(MetadataError::HalfMigrated { backend });
            }
        }
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_lock_is_lost_while_it_is_not_held_and_never_once_it_was_given_back() {
        let (sender, standing) = watch::channel(Standing::Held(1));
        let hold = Hold {
            standing,
            label: "it".into(),
        };
        let is_lost = |lost: &mut (dyn Future<Output = ()> + Unpin)| lost.now_or_never().is_some();
        let mut since_it_was_taken = Box::pin(hold.lost());
        assert!(!is_lost(&mut since_it_was_taken));
        sender.send_replace(Standing::Wanted);
        assert!(is_lost(&mut since_it_was_taken));
        assert!(is_lost(&mut Box::pin(hold.lost())));
        sender.send_replace(Standing::Held(2));
        assert!(!is_lost(&mut Box::pin(hold.lost())));
        sender.send_replace(Standing::Wanted);
        drop(sender);
        assert!(!is_lost(&mut Box::pin(hold.lost())));
    }
}
