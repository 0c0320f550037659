use super::*;
use crate::config::Feature;
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
