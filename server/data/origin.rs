//! Blobs that their store can copy by itself.

/// Where a store has a blob. One backend tells it, another takes it, see
/// [`DataBackend::copy`](super::DataBackend::copy).
#[derive(Clone, Debug)]
pub struct Origin {
    /// In the one spelling of [`Location`](super::Location).
    pub(super) endpoint: String,
    /// Whose rights the store is asked with.
    pub(super) access_key_id: String,
    pub(super) bucket: String,
    /// The names that it may have there; the first that exists counts.
    pub(super) keys: Vec<String>,
}
