//! Sizes and times, as numbers of bytes and seconds.

use super::wrong;
use crate::config::error::ConfigError;
use crate::config::keys::Settings;
use crate::config::{duration, size};

pub(super) fn sizes(s: &Settings) -> Result<(i64, i64), ConfigError> {
    let size = |key, text: &str, bytes| match text {
        "" => Ok(bytes),
        _ => size_of(key, text),
    };
    Ok((
        size("MaxFileSizeStr", &s.max_file_size_str, s.max_file_size)?,
        size("MaxUserSizeStr", &s.max_user_size_str, s.max_user_size)?,
    ))
}

pub(super) fn ttls(s: &Settings) -> Result<(i64, i64), ConfigError> {
    let ttl = |key: &'static str, text: &str, seconds| match text {
        "" => Ok(seconds),
        _ => seconds_labelled(key, "TTL", text),
    };
    let default = ttl("DefaultTTLStr", &s.default_ttl_str, s.default_ttl)?;
    let max = ttl("MaxTTLStr", &s.max_ttl_str, s.max_ttl)?;
    if max > 0 && default > max {
        return Err(wrong(
            "DefaultTTLStr",
            "DefaultTTL should not be more than MaxTTL",
            "lower DefaultTTLStr or raise MaxTTLStr",
        ));
    }
    Ok((default, max))
}

pub(super) fn session_timeout(s: &Settings) -> Result<i64, ConfigError> {
    match seconds_of("SessionTimeout", &s.session_timeout)? {
        seconds @ 1.. => Ok(seconds),
        _ => Err(wrong(
            "SessionTimeout",
            "invalid negative or zero value for SessionTimeout",
            "set SessionTimeout to how long a login lasts, such as \"365d\"",
        )),
    }
}

pub(super) fn stream_timeout(s: &Settings) -> Result<i64, ConfigError> {
    // Empty keeps the built-in value, as it does for the TTLs.
    let text = match s.stream_timeout.as_str() {
        "" => Settings::default().stream_timeout,
        text => text.to_owned(),
    };
    match seconds_of("StreamTimeoutStr", &text)? {
        seconds @ 0.. => Ok(seconds),
        _ => Err(wrong(
            "StreamTimeoutStr",
            "invalid negative value for StreamTimeout",
            "set StreamTimeoutStr to a time such as \"5m\", or to \"0\" to wait for ever",
        )),
    }
}

pub(super) fn size_of(key: &'static str, text: &str) -> Result<i64, ConfigError> {
    size::parse(text).map_err(|error| {
        wrong(
            key,
            format!("unable to parse {key} : {error}"),
            format!("set {key} to a size such as \"10GB\" or \"512MiB\", or to \"unlimited\""),
        )
    })
}

pub(super) fn seconds_of(key: &'static str, text: &str) -> Result<i64, ConfigError> {
    seconds_labelled(key, key, text)
}

pub(super) fn seconds_labelled(
    key: &'static str,
    label: &str,
    text: &str,
) -> Result<i64, ConfigError> {
    duration::parse_seconds(text).map_err(|error| {
        wrong(
            key,
            format!("unable to parse {label} : {error}"),
            format!("set {key} to a time such as \"30d\" or \"1h30m\", or to a number of seconds"),
        )
    })
}
