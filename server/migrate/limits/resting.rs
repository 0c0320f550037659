//! Rows that are read no faster than the source can bear.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Limiter;
use crate::metadata::{MetadataError, RowStream, SourceBatch};

/// Passes the batches on, and leaves the source alone before each for as long as the limits say
/// that the one before has earned. Dropping a call that waits loses no batch.
pub(in crate::migrate) struct Resting {
    rows: RowStream,
    limiter: Option<Arc<Limiter>>,
    /// How long the last batch took.
    last: Duration,
}

impl Resting {
    /// Without a limiter there is never a rest: what reads a target spares nobody.
    pub fn new(rows: RowStream, limiter: Option<&Arc<Limiter>>) -> Self {
        Self {
            rows,
            limiter: limiter.cloned(),
            last: Duration::ZERO,
        }
    }

    pub async fn next(&mut self) -> Result<Option<SourceBatch>, MetadataError> {
        if let Some(limiter) = &self.limiter {
            limiter.rest_after(self.last).await;
        }
        self.last = Duration::ZERO;
        let asked = Instant::now();
        let batch = self.rows.next().await;
        self.last = asked.elapsed();
        batch
    }
}
