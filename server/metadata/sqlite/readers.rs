//! A pool of connections that read, each on a blocking thread while it works.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{Access, Location, connect, failure};
use crate::metadata::MetadataError;
use crate::metadata::error::During;

pub struct Readers {
    pool: Arc<Pool>,
    size: u32,
}

struct Pool {
    location: Location,
    access: Access,
    /// One permit per connection that may exist.
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub fn new(location: Location, access: Access, size: usize) -> Self {
        let size = u32::try_from(size).unwrap_or(u32::MAX).min(1024);
        let permits = Arc::new(Semaphore::new(size as usize));
        let pool = Pool {
            location,
            access,
            permits,
            idle: Mutex::default(),
        };
        Self {
            pool: Arc::new(pool),
            size,
        }
    }

    /// Runs `read` with a connection. Waits while all are busy.
    pub async fn with<T: Send + 'static>(
        &self,
        action: &'static str,
        read: impl FnOnce(&Connection) -> Result<T, MetadataError> + Send + 'static,
    ) -> Result<T, MetadataError> {
        let pool = Arc::clone(&self.pool);
        let permit = Arc::clone(&pool.permits)
            .acquire_owned()
            .await
            .map_err(|_| pool.stopped(action, "it was closed"))?;
        let work = tokio::task::spawn_blocking({
            let pool = Arc::clone(&pool);
            move || {
                let connection = pool.take()?;
                let result = read(&connection);
                pool.give_back(connection);
                drop(permit);
                result
            }
        });
        work.await
            .map_err(|error| pool.stopped(action, &error.to_string()))?
    }

    /// Waits for the reads in flight and closes the connections; later reads fail.
    pub async fn close(&self) {
        let all = self.pool.permits.acquire_many(self.size).await;
        self.pool.permits.close();
        drop(all);
        self.pool.lock().clear();
    }
}

impl Pool {
    fn take(&self) -> Result<Connection, MetadataError> {
        if let Some(connection) = self.lock().pop() {
            return Ok(connection);
        }
        let connection = connect(&self.location, self.access)?;
        connection
            .pragma_update(None, "query_only", true)
            .map_err(|error| {
                let backend = self.location.to_string();
                let during = During {
                    action: "open the file",
                    backend: &backend,
                };
                failure(during, &error)
            })?;
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        self.lock().push(connection);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // A list of connections is whole whatever panicked while it was held.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self, action: &str, why: &str) -> MetadataError {
        let backend = self.location.to_string();
        During {
            action,
            backend: &backend,
        }
        .failed(why)
    }
}
