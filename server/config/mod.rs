//! `plikd.cfg` and `PLIKD_*`: what an administrator can set.
//!
//! [`load`] lays the built-in values, the file and the environment over each other, checks them,
//! and returns a [`Config`] with what an administrator should be warned of. Nothing here prints.
//!
//! `keys.rs` is the list of keys; `file.rs` and `env.rs` read the two sources; `validate.rs` derives
//! and checks; `reference.rs` writes the commented example and the tables of the manual.

use std::fmt;
use std::path::{Path, PathBuf};

mod backends;
mod domain;
pub mod duration;
mod env;
mod error;
mod feature;
mod file;
mod key;
mod keys;
mod postgres_url;
mod reference;
pub mod size;
mod suggest;
mod validate;
mod value;

pub use env::Environment;
pub use error::{BackendProblem, ConfigError};
pub use feature::Feature;
pub use file::find;
pub use reference::{example, key_tables};

use file::Document;
use keys::Settings;
use suggest::Unknown;
use value::Value;

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

/// A configuration, and how it came about.
#[derive(Clone)]
pub struct Loaded {
    pub config: Config,
    /// What is survived but not as meant: unknown keys, settings without effect. A sentence each.
    pub warnings: Vec<String>,
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// The backends that this configuration sets itself, in its file or by a variable.
    pub sets: Sections,
    /// The database that `PLIKD_POSTGRES_URL` puts the one of the configuration aside for; then
    /// `config.metadata` is that of the variable.
    pub aside: Option<Aside>,
    settings: Settings,
}

/// What the configuration says of the database where `PLIKD_POSTGRES_URL` decides.
#[derive(Clone, Debug)]
pub struct Aside {
    /// `None` if it could not be used, which is no error as long as it is not needed.
    pub configured: Option<MetadataConfig>,
}

/// The two parts of a configuration that a migration replaces, each as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sections {
    /// `[MetadataBackendConfig]`
    pub metadata: bool,
    /// `DataBackend` and `[DataBackendConfig]`
    pub data: bool,
}

/// Reads the configuration: the built-in values, the file that [`find`] finds, the environment.
///
/// # Errors
///
/// The first problem met: a file that cannot be read, a value of the wrong type, settings that
/// make no sense together, a backend without what it needs.
pub fn load(explicit: Option<&Path>, env: &Environment) -> Result<Loaded, ConfigError> {
    load_warning(explicit, env, &mut Vec::new())
}

/// As [`load`]; what an administrator should be warned of is in `warnings` also when it fails,
/// since that is often why.
///
/// # Errors
///
/// Those of [`load`].
pub fn load_warning(
    explicit: Option<&Path>,
    env: &Environment,
    warnings: &mut Vec<String>,
) -> Result<Loaded, ConfigError> {
    let path = find(explicit, env)?;
    let document = path.as_deref().map(Document::read).transpose()?;
    let sets = Sections::of(document.as_ref(), env, env::OWN);
    let mut settings = Settings::default();
    if let Some(document) = &document {
        warnings.extend(document.unknown().map(|unknown| unknown.warning()));
    }
    warnings.extend(env.misspelt(env::OWN));
    if let Some(document) = &document {
        document.apply(&mut settings)?;
    }
    env.apply(env::OWN, &mut settings)?;
    let aside = postgres_url::read(env)?.map(|url| settings.put_on_postgres(&url));
    let config = validate::config(&settings, warnings)?;
    Ok(Loaded {
        config,
        warnings: warnings.clone(),
        path,
        sets,
        aside,
        settings,
    })
}

impl Settings {
    /// Keeps what else is set for the database, such as the number of connections.
    fn put_on_postgres(&mut self, url: &Secret) -> Aside {
        let table = &mut self.metadata_backend_config;
        let configured = backends::metadata(table, &mut Vec::new()).ok();
        table.insert("Driver".to_owned(), Value::Text("postgres".to_owned()));
        table.insert(
            "ConnectionString".to_owned(),
            Value::Text(url.expose().to_owned()),
        );
        table.remove("EraseFirst");
        Aside { configured }
    }
}

/// Reads the target of a migration: what `target` sets is laid over the configuration of `source`.
///
/// A backend that the target sets replaces the source's as a whole, absent keys falling back to
/// their built-in values; one that it leaves out is the source's, as its environment made it.
/// Other keys replace one by one. Variables of the target are called `PLIKD_TARGET_*`.
///
/// # Errors
///
/// As [`load`], [`ConfigError::NoTarget`] when neither backend is set, and
/// [`ConfigError::UnknownInTarget`] for a key or table that means nothing: with a setting lost, the
/// target would be another place than the one that was meant.
pub fn load_target(
    source: &Loaded,
    target: &Path,
    env: &Environment,
) -> Result<Loaded, ConfigError> {
    let document = Document::read(target)?;
    let mut unknown: Vec<_> = document.unknown().collect();
    let misspelt = env.misspelt(env::TARGET);
    let sets = Sections::of(Some(&document), env, env::TARGET);
    if !sets.metadata && !sets.data {
        return Err(ConfigError::NoTarget {
            path: target.into(),
            warnings: refusals(&unknown).chain(misspelt).collect(),
        });
    }
    let mut settings = source.settings.clone();
    sets.reset(&mut settings);
    document.apply(&mut settings)?;
    env.apply(env::TARGET, &mut settings)?;
    if sets.metadata {
        unknown.extend(backends::unknown_of_metadata(
            &settings.metadata_backend_config,
        ));
    }
    if sets.data {
        unknown.extend(backends::unknown_of_data(
            &settings.data_backend,
            &settings.data_backend_config,
        ));
    }
    let unknown: Vec<String> = refusals(&unknown).chain(misspelt).collect();
    if !unknown.is_empty() {
        return Err(ConfigError::UnknownInTarget {
            path: target.into(),
            unknown,
        });
    }
    let mut warnings = Vec::new();
    let config = validate::config(&settings, &mut warnings)?;
    // What is inherited was warned of when the source was read.
    warnings.retain(|warning| !source.warnings.contains(warning));
    Ok(Loaded {
        config,
        warnings,
        path: Some(target.into()),
        sets,
        aside: None,
        settings,
    })
}

fn refusals(unknown: &[Unknown]) -> impl Iterator<Item = String> {
    unknown.iter().map(Unknown::refusal)
}

impl Sections {
    fn of(document: Option<&Document>, env: &Environment, prefix: &str) -> Self {
        let sets =
            |key| document.is_some_and(|document| document.sets(key)) || env.sets(prefix, key);
        Self {
            metadata: sets("MetadataBackendConfig"),
            data: sets("DataBackend") || sets("DataBackendConfig"),
        }
    }

    /// Puts the sections back to their built-in values.
    fn reset(self, settings: &mut Settings) {
        let built_in = Settings::default();
        if self.metadata {
            settings.metadata_backend_config = built_in.metadata_backend_config;
        }
        if self.data {
            settings.data_backend = built_in.data_backend;
            settings.data_backend_config = built_in.data_backend_config;
        }
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the settings, whose tables hold secrets in clear.
        f.debug_struct("Loaded")
            .field("config", &self.config)
            .field("warnings", &self.warnings)
            .field("path", &self.path)
            .field("sets", &self.sets)
            .field("aside", &self.aside)
            .finish_non_exhaustive()
    }
}

/// Every setting, validated. Sizes are bytes, times are seconds; 0 or less means no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub debug: bool,
    pub debug_requests: bool,
    /// `DEBUG`, `INFO`, `WARNING`, `CRITICAL` or `FATAL`.
    pub log_level: String,
    pub listen_address: String,
    pub listen_port: u16,
    pub metrics_address: String,
    /// 0 or less = no metrics; never above 65535.
    pub metrics_port: i64,
    /// URL prefix, without a `/` at its end.
    pub path: String,
    pub ssl_enabled: bool,
    pub ssl_cert: String,
    pub ssl_key: String,
    /// The oldest version to accept: `tlsv12` or `tlsv13`.
    pub tls_version: String,
    pub no_web_interface: bool,
    pub webapp_directory: String,
    pub clients_directory: String,
    pub changelog_directory: String,
    pub source_ip_header: String,
    pub upload_whitelist: Vec<ipnet::IpNet>,
    pub abuse_contact: String,
    /// More than 0.
    pub session_timeout: i64,
    pub enhanced_web_security: bool,
    pub assume_https: bool,
    pub enable_archive_compression: bool,
    /// 0 = for ever.
    pub stream_timeout: i64,
    /// Scheme and host, without path; empty if not set.
    pub plik_domain: String,
    /// Likewise.
    pub download_domain: String,
    /// Likewise; empty without a download domain.
    pub download_domain_alias: Vec<String>,
    pub max_file_size: i64,
    pub max_user_size: i64,
    pub max_file_per_upload: i64,
    pub default_ttl: i64,
    pub max_ttl: i64,
    /// 8 to 64.
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

impl Default for Config {
    /// The built-in values.
    fn default() -> Self {
        match validate::config(&Settings::default(), &mut Vec::new()) {
            Ok(config) => config,
            Err(error) => unreachable!("the built-in values are valid: {error}"),
        }
    }
}

/// `[MetadataBackendConfig]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataConfig {
    pub driver: Driver,
    /// A SQLite file, with parameters after `?`, or a PostgreSQL connection string.
    pub connection_string: Secret,
    pub debug: bool,
    /// Slower statements are logged as warnings; zero = never.
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
#[derive(Clone, Debug, PartialEq)]
pub enum DataConfig {
    File(FileConfig),
    S3(S3Config),
}

#[derive(Clone, Debug, PartialEq)]
pub struct FileConfig {
    pub directory: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct S3Config {
    /// `host[:port]`, without scheme.
    pub endpoint: String,
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub bucket: String,
    pub location: String,
    pub prefix: String,
    pub use_ssl: bool,
    /// Bytes, 5 MiB to 5 GiB.
    pub part_size: u64,
    pub sse: Sse,
    /// At least 1.
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

#[cfg(test)]
mod tests;
