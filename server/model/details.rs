//! What a data backend remembers about one blob, in `files.backend_details`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The text of `files.backend_details`: opaque, kept as it is, except for the one member that
/// this program reads and writes, the SSE-C key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BackendDetails(String);

#[derive(Default, Deserialize, Serialize)]
struct Members {
    #[serde(rename = "SSEKey", default)]
    sse_key: String,
}

impl BackendDetails {
    /// The details as stored; any text is accepted, old releases wrote some that is not JSON.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Details that hold nothing but an SSE-C key.
    pub fn with_sse_key(key: &str) -> Self {
        // The key is alphanumeric, so nothing in it needs escaping.
        Self(format!("{{\"SSEKey\":\"{key}\"}}"))
    }

    /// The 32 characters whose bytes are the blob's AES-256 key, if it was written with SSE-C.
    pub fn sse_key(&self) -> Option<String> {
        let members: Members = serde_json::from_str(&self.0).ok()?;
        (!members.sse_key.is_empty()).then_some(members.sse_key)
    }

    /// The text to store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Never shows the text: it may hold an encryption key.
impl fmt::Debug for BackendDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackendDetails({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_beside_other_members() {
        let details = BackendDetails::new(r#"{"other":1,"SSEKey":"abc"}"#);
        assert_eq!(details.sse_key().as_deref(), Some("abc"));
        assert_eq!(
            BackendDetails::with_sse_key("abc").sse_key().as_deref(),
            Some("abc")
        );
    }

    #[test]
    fn text_that_is_no_json_holds_no_key_and_is_kept() {
        for text in ["", r#"{foo:"bar"}"#, "{}", "null", r#"{"SSEKey":""}"#] {
            let details = BackendDetails::new(text);
            assert_eq!(details.sse_key(), None);
            assert_eq!(details.as_str(), text);
        }
    }

    #[test]
    fn debug_output_hides_the_key() {
        assert!(!format!("{:?}", BackendDetails::with_sse_key("secret")).contains("secret"));
    }
}
