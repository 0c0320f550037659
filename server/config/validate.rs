//! From what was set to what it means: derived values, and the checks in their order.

mod features;
mod limits;
mod logins;
#[cfg(test)]
mod tests;

use super::Config;
use super::backends;
use super::domain::{self, Domains};
use super::error::ConfigError;
use super::keys::Settings;
use features::Features;
use limits::{seconds_of, session_timeout, size_of, sizes, stream_timeout, ttls};
use logins::{check_default_admin, check_login_methods};

const LOG_LEVELS: &[&str] = &["DEBUG", "INFO", "WARNING", "CRITICAL", "FATAL"];

/// Ids of 64 characters fill the column of the database; those below 8 can be guessed.
const UPLOAD_ID_LENGTHS: std::ops::RangeInclusive<i64> = 8..=64;

/// Makes a configuration of the settings, and adds what an administrator should know to
/// `warnings`. The first problem is the one returned.
pub(super) fn config(
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<Config, ConfigError> {
    let s = settings;
    let log_level = log_level(s, warnings);
    let upload_whitelist = whitelist(&s.upload_whitelist)?;
    let features = Features::of(s)?;
    check_default_admin(s, &features)?;
    check_login_methods(s, &features)?;
    let Domains {
        plik_domain,
        download_domain,
        download_domain_alias,
    } = domain::check(s, warnings)?;
    let assume_https = assume_https(s, &plik_domain, warnings);
    let (max_file_size, max_user_size) = sizes(s)?;
    let (default_ttl, max_ttl) = ttls(s)?;
    Ok(Config {
        debug: s.debug || log_level == "DEBUG",
        debug_requests: s.debug_requests || s.log_level == "DEBUG",
        log_level,
        listen_address: s.listen_address.clone(),
        listen_port: port("ListenPort", s.listen_port)?,
        metrics_address: s.metrics_address.clone(),
        metrics_port: metrics_port(s.metrics_port)?,
        path: s.path.strip_suffix('/').unwrap_or(&s.path).to_owned(),
        ssl_enabled: s.ssl_enabled,
        ssl_cert: s.ssl_cert.clone(),
        ssl_key: s.ssl_key.clone(),
        tls_version: tls_version(s, warnings),
        no_web_interface: s.no_web_interface,
        webapp_directory: s.webapp_directory.clone(),
        clients_directory: s.clients_directory.clone(),
        changelog_directory: s.changelog_directory.clone(),
        source_ip_header: s.source_ip_header.clone(),
        upload_whitelist,
        abuse_contact: s.abuse_contact.clone(),
        session_timeout: session_timeout(s)?,
        enhanced_web_security: s.enhanced_web_security,
        assume_https,
        enable_archive_compression: s.enable_archive_compression,
        stream_timeout: stream_timeout(s)?,
        plik_domain,
        download_domain,
        download_domain_alias,
        max_file_size,
        max_user_size,
        max_file_per_upload: s.max_file_per_upload,
        default_ttl,
        max_ttl,
        upload_id_length: upload_id_length(s.upload_id_length)?,
        upload_id_in_b32: s.upload_id_in_b32,
        feature_authentication: features.authentication,
        feature_local_login: features.local_login,
        feature_delete_account: features.delete_account,
        feature_one_shot: features.one_shot,
        feature_removable: features.removable,
        feature_stream: features.stream,
        feature_password: features.password,
        feature_comments: features.comments,
        feature_set_ttl: features.set_ttl,
        feature_extend_ttl: features.extend_ttl,
        feature_clients: features.clients,
        feature_api_tokens: features.api_tokens,
        feature_github: features.github,
        feature_text: features.text,
        feature_e2ee: features.e2ee,
        google_api_client_id: s.google_api_client_id.clone(),
        google_api_secret: s.google_api_secret.clone(),
        google_valid_domains: s.google_valid_domains.clone(),
        ovh_api_key: s.ovh_api_key.clone(),
        ovh_api_secret: s.ovh_api_secret.clone(),
        ovh_api_endpoint: ovh_api_endpoint(s),
        oidc_client_id: s.oidc_client_id.clone(),
        oidc_client_secret: s.oidc_client_secret.clone(),
        oidc_provider_url: s.oidc_provider_url.clone(),
        oidc_provider_name: s.oidc_provider_name.clone(),
        oidc_valid_domains: s.oidc_valid_domains.clone(),
        oidc_require_verified_email: s.oidc_require_verified_email,
        github_api_client_id: s.github_api_client_id.clone(),
        github_api_secret: s.github_api_secret.clone(),
        github_valid_organizations: s.github_valid_organizations.clone(),
        default_admin_login: s.default_admin_login.clone(),
        default_admin_password: s.default_admin_password.clone(),
        plugins_directory: s.plugins_directory.clone(),
        preset_plugins_directory: s.preset_plugins_directory.clone(),
        upgrade_auto: s.upgrade_auto,
        upgrade_script_memory: size_of("UpgradeScriptMemoryStr", &s.upgrade_script_memory)?,
        upgrade_script_timeout: seconds_of("UpgradeScriptTimeoutStr", &s.upgrade_script_timeout)?,
        metadata: backends::metadata(&s.metadata_backend_config, warnings)?,
        data: backends::data(&s.data_backend, &s.data_backend_config, warnings)?,
    })
}

/// One of [`LOG_LEVELS`].
fn log_level(s: &Settings, warnings: &mut Vec<String>) -> String {
    if !LOG_LEVELS.contains(&s.log_level.as_str()) {
        warnings.push(format!(
            "LogLevel {:?} is none of {} and means INFO",
            s.log_level,
            LOG_LEVELS.join(", ")
        ));
    }
    let level = LOG_LEVELS.iter().find(|level| **level == s.log_level);
    let level = if s.debug {
        "DEBUG"
    } else {
        level.unwrap_or(&"INFO")
    };
    level.to_owned()
}

/// `tlsv12` or `tlsv13`.
fn tls_version(s: &Settings, warnings: &mut Vec<String>) -> String {
    match s.tls_version.as_str() {
        "tlsv13" => return "tlsv13".to_owned(),
        "" | "tlsv12" => {}
        old @ ("tlsv10" | "tlsv11") => warnings.push(format!(
            "TlsVersion {old} is no longer safe and is raised to tlsv12"
        )),
        other => warnings.push(format!(
            "TlsVersion {other:?} is neither tlsv12 nor tlsv13 and means tlsv12"
        )),
    }
    "tlsv12".to_owned()
}

/// An address alone is a network of that one address.
fn whitelist(entries: &[String]) -> Result<Vec<ipnet::IpNet>, ConfigError> {
    entries
        .iter()
        .map(|entry| {
            let address = entry.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
            let network = address.or_else(|_| entry.parse::<ipnet::IpNet>());
            network.map(|network| network.trunc()).map_err(|_| {
                wrong(
                    "UploadWhitelist",
                    format!(
                        "failed to parse upload whitelist : {entry:?} is no IP address or network"
                    ),
                    "write addresses such as \"192.0.2.7\" and networks such as \"192.0.2.0/24\"",
                )
            })
        })
        .collect()
}

fn assume_https(s: &Settings, plik_domain: &str, warnings: &mut Vec<String>) -> bool {
    if s.enhanced_web_security {
        warnings
            .push("EnhancedWebSecurity is an older name of AssumeHTTPS, which it sets".to_owned());
    }
    s.assume_https
        || s.enhanced_web_security
        || s.ssl_enabled
        || plik_domain.starts_with("https://")
}

fn ovh_api_endpoint(s: &Settings) -> String {
    match s.ovh_api_endpoint.as_str() {
        "" => Settings::default().ovh_api_endpoint,
        endpoint => endpoint.to_owned(),
    }
}

fn upload_id_length(length: i64) -> Result<usize, ConfigError> {
    usize::try_from(length)
        .ok()
        .filter(|_| UPLOAD_ID_LENGTHS.contains(&length))
        .ok_or_else(|| {
            wrong(
                "UploadIDLength",
                format!("invalid value for UploadIDLength : {length}"),
                "set UploadIDLength to a number from 8 to 64",
            )
        })
}

fn port(key: &'static str, number: i64) -> Result<u16, ConfigError> {
    u16::try_from(number).map_err(|_| {
        wrong(
            key,
            format!("invalid value for {key} : {number}"),
            format!("set {key} to a port, at most 65535"),
        )
    })
}

fn metrics_port(number: i64) -> Result<i64, ConfigError> {
    if number > 0 {
        port("MetricsPort", number)?;
    }
    Ok(number)
}

pub(super) fn wrong(
    key: &'static str,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> ConfigError {
    ConfigError::Setting {
        key,
        message: message.into(),
        remedy: remedy.into(),
    }
}
