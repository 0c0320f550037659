//! How a backend is asked to behave towards others that use the same machine and servers.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

/// What a backend asks its caller before it takes from what is shared.
#[async_trait]
pub trait Manners: fmt::Debug + Send + Sync {
    /// Waits until one more request may be sent to an S3 server.
    async fn request(&self);

    /// Whether what was read of local files leaves the page cache as it was.
    fn spares_page_cache(&self) -> bool;
}

/// How a backend is used, besides [`Access`](super::Access). By default as a server does.
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    /// A request that fails is not sent again by the backend, because its caller tries again.
    /// The parts of a large blob are, so that a fault costs a part and not the blob.
    pub tries_once: bool,
    pub manners: Option<Arc<dyn Manners>>,
}

impl Tuning {
    pub(super) fn spares_page_cache(&self) -> bool {
        let manners = self.manners.as_ref();
        manners.is_some_and(|manners| manners.spares_page_cache())
    }
}
