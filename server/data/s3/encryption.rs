//! SSE-C: the server encrypts an object with a key that only the file's row holds.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use crate::model::{BackendDetails, id};

/// The key's characters; their bytes are the AES-256 key.
const KEY_LENGTH: usize = 32;

/// A blob's key, as requests carry it. Has no `Debug`: it is a secret.
#[derive(Clone)]
pub(super) struct CustomerKey {
    pub base64: String,
    pub md5_base64: String,
}

impl CustomerKey {
    /// The only algorithm there is.
    pub const ALGORITHM: &str = "AES256";

    /// The key a blob was written with, whatever the setting is now.
    pub fn of(details: &BackendDetails) -> Option<Self> {
        details.sse_key().map(|key| Self::new(&key))
    }

    fn new(key: &str) -> Self {
        Self {
            base64: STANDARD.encode(key),
            md5_base64: STANDARD.encode(Md5::digest(key)),
        }
    }
}

/// The key to write a blob with, and the details that say how it was written.
///
/// A file keeps its key: bytes that are being replaced stay readable until they are. Written
/// without SSE-C, the details must not hold a key any more, or the blob could not be read.
pub(super) fn key_for_writing(
    details: &BackendDetails,
    encrypt: bool,
) -> (Option<CustomerKey>, BackendDetails) {
    match (details.sse_key(), encrypt) {
        (Some(key), true) => (Some(CustomerKey::new(&key)), details.clone()),
        (None, true) => {
            let key = id::alphanumeric(KEY_LENGTH, &mut rand::rng());
            (
                Some(CustomerKey::new(&key)),
                BackendDetails::with_sse_key(&key),
            )
        }
        (Some(_), false) => (None, BackendDetails::default()),
        (None, false) => (None, details.clone()),
    }
}

/// The request with the three headers of SSE-C. A macro, for the builders share no trait.
macro_rules! with_customer_key {
    ($request:expr, $key:expr) => {{
        let key: Option<&crate::data::s3::encryption::CustomerKey> = $key;
        $request
            .set_sse_customer_algorithm(key.map(|_| CustomerKey::ALGORITHM.to_owned()))
            .set_sse_customer_key(key.map(|key| key.base64.clone()))
            .set_sse_customer_key_md5(key.map(|key| key.md5_base64.clone()))
    }};
}
pub(super) use with_customer_key;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_gets_a_key_of_its_own_and_keeps_it() {
        let (_, one) = key_for_writing(&BackendDetails::default(), true);
        let (_, other) = key_for_writing(&BackendDetails::default(), true);
        assert_ne!(one, other);
        let key = one.sse_key().unwrap();
        assert_eq!(key.len(), 32);
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let (used, kept) = key_for_writing(&one, true);
        assert_eq!(kept, one);
        assert_eq!(used.unwrap().base64, STANDARD.encode(key));
    }

    #[test]
    fn without_encryption_no_key_is_used_or_remembered() {
        let keyed = BackendDetails::with_sse_key("key");
        let opaque = BackendDetails::new("{foo:\"bar\"}");
        for (details, after) in [(keyed, BackendDetails::default()), (opaque.clone(), opaque)] {
            let (key, stored) = key_for_writing(&details, false);
            assert!(key.is_none());
            assert_eq!(stored, after);
        }
    }
}
