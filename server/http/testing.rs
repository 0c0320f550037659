//! What the unit tests of the API share.

use crate::config::Config;

/// The built-in configuration.
pub fn config() -> Config {
    Config::default()
}
