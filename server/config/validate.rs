//! From what was set to what it means: derived values, and the checks in their order.

use super::backends;
use super::domain::{self, Domains};
use super::error::ConfigError;
use super::feature::{Feature, States};
use super::keys::Settings;
use super::{Config, Secret, duration, size};

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

struct Features {
    authentication: Feature,
    one_shot: Feature,
    removable: Feature,
    stream: Feature,
    password: Feature,
    comments: Feature,
    set_ttl: Feature,
    extend_ttl: Feature,
    github: Feature,
    clients: Feature,
    text: Feature,
    local_login: Feature,
    delete_account: Feature,
    api_tokens: Feature,
    e2ee: Feature,
}

impl Features {
    /// The flags, checked in this order; an old boolean counts where its flag is empty.
    fn of(s: &Settings) -> Result<Self, ConfigError> {
        use Feature::{Disabled, Enabled};
        use States::{Four, Two};

        let authentication = match (s.no_anonymous_uploads, s.authentication) {
            (true, _) => Feature::Forced,
            (false, true) => Enabled,
            (false, false) => Disabled,
        };
        let old = |enabled| if enabled { Enabled } else { Disabled };
        let authentication = feature(
            "FeatureAuthentication",
            &s.feature_authentication,
            Four,
            authentication,
        )?;
        let one_shot = feature("FeatureOneShot", &s.feature_one_shot, Four, old(s.one_shot))?;
        let removable = feature(
            "FeatureRemovable",
            &s.feature_removable,
            Four,
            old(s.removable),
        )?;
        let stream = feature("FeatureStream", &s.feature_stream, Four, old(s.stream))?;
        let password = old(s.protected_by_password);
        let password = feature("FeaturePassword", &s.feature_password, Four, password)?;
        let comments = feature("FeatureComments", &s.feature_comments, Four, Enabled)?;
        let set_ttl = feature("FeatureSetTTL", &s.feature_set_ttl, Four, Enabled)?;
        let extend_ttl = feature("FeatureExtendTTL", &s.feature_extend_ttl, Four, Disabled)?;
        let github = feature("FeatureGithub", &s.feature_github, Two, Enabled)?;
        let clients = feature("FeatureClients", &s.feature_clients, Two, Enabled)?;
        let text = feature("FeatureText", &s.feature_text, Four, Enabled)?;
        let local_login = feature("FeatureLocalLogin", &s.feature_local_login, Two, Enabled)?;
        let delete_account = feature(
            "FeatureDeleteAccount",
            &s.feature_delete_account,
            Two,
            Enabled,
        )?;
        let api_tokens = feature("FeatureApiTokens", &s.feature_api_tokens, Two, Enabled)?;
        let e2ee = feature("FeatureE2EE", &s.feature_e2ee, Four, Enabled)?;
        // The command line client could not log in.
        let clients = match (authentication, api_tokens) {
            (Feature::Forced, Disabled) => Disabled,
            _ => clients,
        };
        Ok(Self {
            authentication,
            one_shot,
            removable,
            stream,
            password,
            comments,
            set_ttl,
            extend_ttl,
            github,
            clients,
            text,
            local_login,
            delete_account,
            api_tokens,
            e2ee,
        })
    }
}

fn feature(
    key: &'static str,
    text: &str,
    states: States,
    otherwise: Feature,
) -> Result<Feature, ConfigError> {
    if text.is_empty() {
        return Ok(otherwise);
    }
    states.parse(text).ok_or_else(|| {
        wrong(
            key,
            format!(
                "Invalid value for {key} : Invalid feature flag value. Expecting : {}",
                states.names()
            ),
            format!("set {key} to one of these words, in lower case"),
        )
    })
}

fn check_default_admin(s: &Settings, features: &Features) -> Result<(), ConfigError> {
    const LOGIN: &str = "DefaultAdminLogin";
    const PASSWORD: &str = "DefaultAdminPassword";
    let password = s.default_admin_password.expose();
    if s.default_admin_login.is_empty() {
        return Ok(());
    }
    if !features.authentication.is_available() {
        let message = "DefaultAdminLogin is set but FeatureAuthentication is disabled";
        let remedy = "set FeatureAuthentication to \"enabled\", or remove DefaultAdminLogin";
        return Err(wrong(LOGIN, message, remedy));
    }
    if !features.local_login.is_available() {
        let message = "DefaultAdminLogin is set but FeatureLocalLogin is disabled";
        let remedy = "set FeatureLocalLogin to \"enabled\", or remove DefaultAdminLogin";
        return Err(wrong(LOGIN, message, remedy));
    }
    if s.default_admin_login.len() < 4 {
        let message = "DefaultAdminLogin is too short (min 4 chars)";
        return Err(wrong(LOGIN, message, "choose a longer login"));
    }
    if !password.is_empty() && password.len() < 8 {
        let message = "DefaultAdminPassword is too short (min 8 chars)";
        let remedy = "choose a longer password, or remove it to have one made up";
        return Err(wrong(PASSWORD, message, remedy));
    }
    Ok(())
}

fn check_login_methods(s: &Settings, features: &Features) -> Result<(), ConfigError> {
    let both = |id: &str, secret: &Secret| !id.is_empty() && !secret.expose().is_empty();
    let possible = features.local_login.is_available()
        || both(&s.google_api_client_id, &s.google_api_secret)
        || both(&s.ovh_api_key, &s.ovh_api_secret)
        || both(&s.oidc_client_id, &s.oidc_client_secret) && !s.oidc_provider_url.is_empty()
        || both(&s.github_api_client_id, &s.github_api_secret);
    if possible || !features.authentication.is_available() {
        return Ok(());
    }
    Err(wrong(
        "FeatureAuthentication",
        "authentication is enabled but no authentication method is available, enable at least \
         one of : FeatureLocalLogin, Google, OVH, OIDC, or GitHub",
        "set FeatureLocalLogin to \"enabled\", or both the id and the secret of a provider",
    ))
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

fn sizes(s: &Settings) -> Result<(i64, i64), ConfigError> {
    let size = |key, text: &str, bytes| match text {
        "" => Ok(bytes),
        _ => size_of(key, text),
    };
    Ok((
        size("MaxFileSizeStr", &s.max_file_size_str, s.max_file_size)?,
        size("MaxUserSizeStr", &s.max_user_size_str, s.max_user_size)?,
    ))
}

fn ttls(s: &Settings) -> Result<(i64, i64), ConfigError> {
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

fn session_timeout(s: &Settings) -> Result<i64, ConfigError> {
    match seconds_of("SessionTimeout", &s.session_timeout)? {
        seconds @ 1.. => Ok(seconds),
        _ => Err(wrong(
            "SessionTimeout",
            "invalid negative or zero value for SessionTimeout",
            "set SessionTimeout to how long a login lasts, such as \"365d\"",
        )),
    }
}

fn stream_timeout(s: &Settings) -> Result<i64, ConfigError> {
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

fn size_of(key: &'static str, text: &str) -> Result<i64, ConfigError> {
    size::parse(text).map_err(|error| {
        wrong(
            key,
            format!("unable to parse {key} : {error}"),
            format!("set {key} to a size such as \"10GB\" or \"512MiB\", or to \"unlimited\""),
        )
    })
}

fn seconds_of(key: &'static str, text: &str) -> Result<i64, ConfigError> {
    seconds_labelled(key, key, text)
}

fn seconds_labelled(key: &'static str, label: &str, text: &str) -> Result<i64, ConfigError> {
    duration::parse_seconds(text).map_err(|error| {
        wrong(
            key,
            format!("unable to parse {label} : {error}"),
            format!("set {key} to a time such as \"30d\" or \"1h30m\", or to a number of seconds"),
        )
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{load_text, refusal};

    fn config(text: &str) -> Config {
        load_text(text, &[]).unwrap().config
    }

    fn warnings(text: &str) -> Vec<String> {
        load_text(text, &[]).unwrap().warnings
    }

    #[test]
    fn debug_and_the_log_level_set_each_other() {
        let set = |config: Config| (config.debug, config.debug_requests, config.log_level);
        let level = String::from;
        assert_eq!(set(config("Debug = true")), (true, false, level("DEBUG")));
        assert_eq!(
            set(config("LogLevel = \"DEBUG\"")),
            (true, true, level("DEBUG"))
        );
        assert_eq!(
            set(config("LogLevel = \"FATAL\"")),
            (false, false, level("FATAL"))
        );
        assert_eq!(
            set(config("LogLevel = \"debug\"")),
            (false, false, level("INFO"))
        );
        assert_eq!(warnings("LogLevel = \"debug\"").len(), 1);
    }

    #[test]
    fn one_slash_at_the_end_of_the_path_goes() {
        assert_eq!(config("Path = \"/plik/\"").path, "/plik");
        assert_eq!(config("Path = \"/plik//\"").path, "/plik/");
    }

    #[test]
    fn old_tls_versions_are_raised_with_a_warning() {
        assert_eq!(config("TlsVersion = \"tlsv13\"").tls_version, "tlsv13");
        assert_eq!(config("TlsVersion = \"\"").tls_version, "tlsv12");
        assert!(warnings("TlsVersion = \"\"").is_empty());
        assert_eq!(config("TlsVersion = \"tlsv10\"").tls_version, "tlsv12");
        assert!(warnings("TlsVersion = \"tlsv10\"")[0].contains("raised to tlsv12"));
        assert!(warnings("TlsVersion = \"1.3\"")[0].contains("neither"));
    }

    #[test]
    fn an_address_in_the_whitelist_is_a_network_of_one() {
        let text = "UploadWhitelist = [\"192.0.2.7\", \"10.1.2.3/8\", \"2001:db8::1\"]";
        let networks: Vec<_> = config(text)
            .upload_whitelist
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(networks, ["192.0.2.7/32", "10.0.0.0/8", "2001:db8::1/128"]);
        assert_eq!(
            refusal("UploadWhitelist = [\"::1\", \"10.0.0.300\"]"),
            "failed to parse upload whitelist : \"10.0.0.300\" is no IP address or network"
        );
    }

    #[test]
    fn a_bad_feature_flag_lists_the_good_ones() {
        assert_eq!(
            refusal("FeatureOneShot = \"Enabled\""),
            "Invalid value for FeatureOneShot : Invalid feature flag value. \
             Expecting : disabled|enabled|default|forced"
        );
        for switch in [
            "Github",
            "Clients",
            "LocalLogin",
            "DeleteAccount",
            "ApiTokens",
        ] {
            assert_eq!(
                refusal(&format!("Feature{switch} = \"forced\"")),
                format!(
                    "Invalid value for Feature{switch} : Invalid feature flag value. \
                     Expecting : disabled|enabled"
                )
            );
        }
    }

    #[test]
    fn an_old_boolean_counts_where_its_flag_is_empty() {
        let config = config(
            "OneShot = false\nRemovable = true\nStream = false\nFeatureStream = \"forced\"\n\
             ProtectedByPassword = false\nAuthentication = true",
        );
        assert_eq!(config.feature_one_shot, Feature::Disabled);
        assert_eq!(config.feature_removable, Feature::Enabled);
        assert_eq!(config.feature_stream, Feature::Forced);
        assert_eq!(config.feature_password, Feature::Disabled);
        assert_eq!(config.feature_authentication, Feature::Enabled);
    }

    #[test]
    fn no_anonymous_uploads_forces_authentication_by_itself() {
        let authentication = |text| config(text).feature_authentication;
        assert_eq!(authentication("NoAnonymousUploads = true"), Feature::Forced);
        assert_eq!(
            authentication("NoAnonymousUploads = true\nFeatureAuthentication = \"enabled\""),
            Feature::Enabled
        );
    }

    #[test]
    fn clients_that_cannot_log_in_are_not_offered() {
        let text = "FeatureAuthentication = \"forced\"\nFeatureApiTokens = \"disabled\"";
        assert_eq!(config(text).feature_clients, Feature::Disabled);
        let text = "FeatureApiTokens = \"disabled\"";
        assert_eq!(config(text).feature_clients, Feature::Enabled);
    }

    #[test]
    fn the_default_admin_needs_a_way_to_log_in_and_a_password() {
        let admin = "DefaultAdminLogin = \"root\"\n";
        let on = "FeatureAuthentication = \"enabled\"\n";
        assert_eq!(
            refusal(admin),
            "DefaultAdminLogin is set but FeatureAuthentication is disabled"
        );
        assert_eq!(
            refusal(&format!("{admin}{on}FeatureLocalLogin = \"disabled\"")),
            "DefaultAdminLogin is set but FeatureLocalLogin is disabled"
        );
        assert_eq!(
            refusal(&format!("DefaultAdminLogin = \"abc\"\n{on}")),
            "DefaultAdminLogin is too short (min 4 chars)"
        );
        assert_eq!(
            refusal(&format!("{admin}{on}DefaultAdminPassword = \"1234567\"")),
            "DefaultAdminPassword is too short (min 8 chars)"
        );
        assert_eq!(config(&format!("{admin}{on}")).default_admin_login, "root");
    }

    #[test]
    fn authentication_needs_a_method() {
        let none = "FeatureAuthentication = \"forced\"\nFeatureLocalLogin = \"disabled\"\n";
        let message = "authentication is enabled but no authentication method is available, enable \
                       at least one of : FeatureLocalLogin, Google, OVH, OIDC, or GitHub";
        assert_eq!(refusal(none), message);
        let half = format!("{none}OIDCClientID = \"a\"\nOIDCClientSecret = \"b\"\n");
        assert_eq!(refusal(&half), message);
        config(&format!(
            "{half}OIDCProviderURL = \"https://id.example.com\""
        ));
        config(&format!(
            "{none}GitHubApiClientID = \"a\"\nGitHubApiSecret = \"b\""
        ));
        assert_eq!(refusal(&format!("{none}OvhApiKey = \"a\"")), message);
    }

    #[test]
    fn https_is_assumed_where_it_is_sure() {
        assert!(!config("").assume_https);
        for text in [
            "AssumeHTTPS = true",
            "SslEnabled = true",
            "EnhancedWebSecurity = true",
            "PlikDomain = \"https://plik.example.com\"",
        ] {
            assert!(config(text).assume_https, "{text}");
        }
        assert!(!config("PlikDomain = \"http://plik.example.com\"").assume_https);
        assert!(warnings("EnhancedWebSecurity = true")[0].contains("AssumeHTTPS"));
    }

    #[test]
    fn a_text_wins_over_the_number_of_the_same_setting() {
        let config = config(
            "MaxFileSize = 5\nMaxFileSizeStr = \"1kB\"\nMaxUserSize = 6\n\
             DefaultTTL = 7\nDefaultTTLStr = \"1m\"\nMaxTTL = 80\nMaxTTLStr = \"\"",
        );
        assert_eq!((config.max_file_size, config.max_user_size), (1000, 6));
        assert_eq!((config.default_ttl, config.max_ttl), (60, 80));
    }

    #[test]
    fn a_ttl_may_exceed_no_limit_but_not_a_limit() {
        assert_eq!(
            config("DefaultTTLStr = \"90d\"\nMaxTTLStr = \"0\"").default_ttl,
            7_776_000
        );
        assert_eq!(config("DefaultTTLStr = \"-1\"").default_ttl, -1);
        assert_eq!(
            refusal("DefaultTTLStr = \"31d\""),
            "DefaultTTL should not be more than MaxTTL"
        );
        assert_eq!(
            refusal("DefaultTTL = 7\nMaxTTL = 6"),
            "DefaultTTL should not be more than MaxTTL"
        );
    }

    #[test]
    fn bad_sizes_and_durations_name_their_setting() {
        for (text, message) in [
            (
                "MaxFileSizeStr = \"many\"",
                "unable to parse MaxFileSizeStr : strconv.ParseFloat: parsing \"\": invalid syntax",
            ),
            (
                "MaxUserSizeStr = \"1 XB\"",
                "unable to parse MaxUserSizeStr : unhandled size name: xb",
            ),
            (
                "DefaultTTLStr = \"unlimited\"",
                "unable to parse TTL : time: invalid duration \"unlimited\"",
            ),
            (
                "MaxTTLStr = \"1y\"",
                "unable to parse TTL : time: unknown unit \"y\" in duration \"1y\"",
            ),
            (
                "SessionTimeout = \"\"",
                "unable to parse SessionTimeout : time: invalid duration \"\"",
            ),
            (
                "SessionTimeout = \"0\"",
                "invalid negative or zero value for SessionTimeout",
            ),
            (
                "SessionTimeout = \"-1d\"",
                "invalid negative or zero value for SessionTimeout",
            ),
            (
                "StreamTimeoutStr = \"-1\"",
                "invalid negative value for StreamTimeout",
            ),
            (
                "UpgradeScriptTimeoutStr = \"1.5\"",
                "unable to parse UpgradeScriptTimeoutStr : time: missing unit in duration \"1.5\"",
            ),
        ] {
            assert_eq!(refusal(text), message);
        }
        let error = load_text("MaxTTLStr = \"1y\"", &[]).unwrap_err();
        assert!(error.hint().unwrap().starts_with("set MaxTTLStr to a time"));
    }

    #[test]
    fn empty_texts_keep_what_is_built_in() {
        let built_in = Config::default();
        let config = config("StreamTimeoutStr = \"\"\nOvhApiEndpoint = \"\"\nMaxTTLStr = \"\"");
        assert_eq!(config, built_in);
        assert_eq!(built_in.ovh_api_endpoint, "https://eu.api.ovh.com/1.0");
        assert_eq!(built_in.stream_timeout, 300);
    }

    #[test]
    fn ids_are_8_to_64_characters_long() {
        assert_eq!(config("UploadIDLength = 8").upload_id_length, 8);
        assert_eq!(config("UploadIDLength = 64").upload_id_length, 64);
        for length in ["7", "65", "-1"] {
            assert_eq!(
                refusal(&format!("UploadIDLength = {length}")),
                format!("invalid value for UploadIDLength : {length}")
            );
        }
    }

    #[test]
    fn ports_are_16_bits() {
        assert_eq!(config("ListenPort = 0").listen_port, 0);
        assert_eq!(config("MetricsPort = -1").metrics_port, -1);
        assert_eq!(
            refusal("ListenPort = 65536"),
            "invalid value for ListenPort : 65536"
        );
        assert_eq!(
            refusal("ListenPort = -1"),
            "invalid value for ListenPort : -1"
        );
        assert_eq!(
            refusal("MetricsPort = 70000"),
            "invalid value for MetricsPort : 70000"
        );
    }

    #[test]
    fn the_first_problem_in_the_documented_order_is_reported() {
        let mut problems = vec![
            (
                "UploadWhitelist = [\"?\"]",
                "failed to parse upload whitelist",
            ),
            ("FeatureOneShot = \"?\"", "Invalid value for FeatureOneShot"),
            ("FeatureText = \"?\"", "Invalid value for FeatureText"),
            ("DefaultAdminLogin = \"root\"", "DefaultAdminLogin is set"),
            ("PlikDomain = \"?\"", "invalid plik domain URL"),
            ("DownloadDomain = \"?\"", "invalid download domain URL"),
            ("MaxFileSizeStr = \"?\"", "unable to parse MaxFileSizeStr"),
            ("MaxUserSizeStr = \"?\"", "unable to parse MaxUserSizeStr"),
            ("DefaultTTLStr = \"?\"", "unable to parse TTL"),
            ("SessionTimeout = \"?\"", "unable to parse SessionTimeout"),
            (
                "StreamTimeoutStr = \"?\"",
                "unable to parse StreamTimeoutStr",
            ),
            (
                "MetadataBackendConfig = { Driver = \"?\" }",
                "unable to initialize metadata backend",
            ),
            ("DataBackend = \"?\"", "unable to initialize data backend"),
        ];
        while let Some((_, first)) = problems.first() {
            let text: Vec<_> = problems.iter().map(|(line, _)| *line).collect();
            let message = refusal(&text.join("\n"));
            assert!(message.starts_with(first), "{message}");
            problems.remove(0);
        }
    }
}
