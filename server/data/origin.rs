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

/// When the MD5 of what a store copies has to be known to be the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Before anything is copied: what is under that name now must not be lost to a wrong copy.
    Before,
    /// Afterwards will do: nothing is there, and a wrong copy is removed at once. A crash between
    /// may leave one, which has another MD5 than the expected wherever it is asked about.
    Afterwards,
}
