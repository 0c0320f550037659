//! `plikd.cfg` and `PLIKD_*`: what an administrator can set.

use std::fmt;

/// Text that must never be shown: a password, a key, a connection string.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "(empty)"
        } else {
            "(secret)"
        })
    }
}

/// The state of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    Disabled,
    Enabled,
    Default,
    Forced,
}

impl Feature {
    pub fn is_available(self) -> bool {
        self != Self::Disabled
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Default => "default",
            Self::Forced => "forced",
        }
    }
}

/// Every setting, validated. Sizes are bytes, times are seconds; 0 or less means no limit.
#[derive(Clone, Debug)]
pub struct Config {
    pub debug: bool,
    pub debug_requests: bool,
    pub log_level: String,
    pub listen_address: String,
    pub listen_port: u16,
    pub metrics_address: String,
    pub metrics_port: i64,
    /// URL prefix, without a `/` at its end.
    pub path: String,
    pub ssl_enabled: bool,
    pub ssl_cert: String,
    pub ssl_key: String,
    pub tls_version: String,
    pub no_web_interface: bool,
    pub webapp_directory: String,
    pub clients_directory: String,
    pub changelog_directory: String,
    pub source_ip_header: String,
    pub upload_whitelist: Vec<ipnet::IpNet>,
    pub abuse_contact: String,
    pub session_timeout: i64,
    pub enhanced_web_security: bool,
    pub assume_https: bool,
    pub enable_archive_compression: bool,
    pub stream_timeout: i64,
    /// Scheme and host, without path; empty if not set.
    pub plik_domain: String,
    pub download_domain: String,
    pub download_domain_alias: Vec<String>,
    pub max_file_size: i64,
    pub max_user_size: i64,
    pub max_file_per_upload: i64,
    pub default_ttl: i64,
    pub max_ttl: i64,
    pub upload_id_length: usize,
    pub upload_id_in_b32: bool,
    pub feature_authentication: Feature,
    pub feature_local_login: Feature,
    pub feature_delete_account: Feature,
    pub feature_one_shot: Feature,
    pub feature_removable: Feature,
    pub feature_stream: Feature,
    pub feature_password: Feature,
    pub feature_comments: Feature,
    pub feature_set_ttl: Feature,
    pub feature_extend_ttl: Feature,
    pub feature_clients: Feature,
    pub feature_api_tokens: Feature,
    pub feature_github: Feature,
    pub feature_text: Feature,
    pub feature_e2ee: Feature,
    pub google_api_client_id: String,
    pub google_api_secret: Secret,
    pub google_valid_domains: Vec<String>,
    pub ovh_api_key: String,
    pub ovh_api_secret: Secret,
    pub ovh_api_endpoint: String,
    pub oidc_client_id: String,
    pub oidc_client_secret: Secret,
    pub oidc_provider_url: String,
    pub oidc_provider_name: String,
    pub oidc_valid_domains: Vec<String>,
    pub oidc_require_verified_email: bool,
    pub github_api_client_id: String,
    pub github_api_secret: Secret,
    pub github_valid_organizations: Vec<String>,
    pub default_admin_login: String,
    pub default_admin_password: Secret,
    pub metadata: MetadataConfig,
    pub data: DataConfig,
    pub plugins_directory: String,
    pub preset_plugins_directory: String,
    pub upgrade_auto: bool,
    pub upgrade_script_memory: i64,
    pub upgrade_script_timeout: i64,
}

/// `[MetadataBackendConfig]`.
#[derive(Clone, Debug)]
pub struct MetadataConfig {
    pub driver: Driver,
    /// A SQLite file, with parameters after `?`, or a PostgreSQL connection string.
    pub connection_string: Secret,
    pub debug: bool,
    pub slow_query_threshold: std::time::Duration,
    /// 0 = the engine's default.
    pub max_open_conns: usize,
    pub max_idle_conns: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Sqlite,
    Postgres,
}

/// `DataBackend` and `[DataBackendConfig]`.
#[derive(Clone, Debug)]
pub enum DataConfig {
    File(FileConfig),
    S3(S3Config),
}

#[derive(Clone, Debug)]
pub struct FileConfig {
    pub directory: String,
}

#[derive(Clone, Debug)]
pub struct S3Config {
    /// `host[:port]`, without scheme.
    pub endpoint: String,
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub bucket: String,
    pub location: String,
    pub prefix: String,
    pub use_ssl: bool,
    pub part_size: u64,
    pub sse: Sse,
    pub part_upload_concurrency: usize,
    pub send_content_md5: bool,
    pub bucket_lookup: BucketLookup,
}

/// Who encrypts the objects of an S3 bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sse {
    None,
    /// The server, with its own key.
    S3,
    /// The server, with a key of ours per file.
    Customer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketLookup {
    Auto,
    Dns,
    Path,
}
