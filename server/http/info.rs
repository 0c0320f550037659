//! What a client may know of this server: `/config`, `/version` and `/health`.

use http::Response;
use serde::Serialize;

use super::body::Body;
use super::error::ApiError;
use super::{answer_json, answer_text, domain};
use crate::config::{Config, Feature};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `GET /health`: the server answers.
pub fn health() -> Response<Body> {
    answer_text("ok\n")
}

/// `GET /config`: the limits and features that concern clients.
pub fn config(config: &Config) -> Result<Response<Body>, ApiError> {
    answer_json(&ConfigAnswer::new(config))
}

/// `GET /version`. This server has no clients to download and tells nobody how it was built.
pub fn version() -> Result<Response<Body>, ApiError> {
    answer_json(&VersionAnswer {
        version: VERSION,
        date: 0,
        is_release: false,
        is_mint: false,
        clients: [],
        releases: [],
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionAnswer {
    version: &'static str,
    date: i64,
    is_release: bool,
    is_mint: bool,
    clients: [(); 0],
    releases: [(); 0],
}

/// The keys in the order in which clients know them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigAnswer<'a> {
    max_file_size: i64,
    max_user_size: i64,
    max_file_per_upload: i64,
    #[serde(rename = "defaultTTL")]
    default_ttl: i64,
    #[serde(rename = "maxTTL")]
    max_ttl: i64,
    plik_domain: &'a str,
    download_domain: &'a str,
    download_domain_alias: Option<&'a [String]>,
    #[serde(rename = "downloadURL", skip_serializing_if = "Option::is_none")]
    download_url: Option<String>,
    stream_timeout: i64,
    abuse_contact: &'a str,
    #[serde(flatten)]
    features: Features,
    authentication: bool,
    no_anonymous_uploads: bool,
    one_shot: bool,
    removable: bool,
    stream: bool,
    protected_by_password: bool,
    google_authentication: bool,
    ovh_authentication: bool,
    ovh_api_endpoint: &'a str,
    oidc_authentication: bool,
    oidc_provider_name: &'a str,
    #[serde(rename = "githubAuthentication")]
    github_authentication: bool,
}

#[derive(Serialize)]
struct Features {
    feature_authentication: &'static str,
    feature_local_login: &'static str,
    feature_delete_account: &'static str,
    feature_one_shot: &'static str,
    feature_removable: &'static str,
    feature_stream: &'static str,
    feature_password: &'static str,
    feature_comments: &'static str,
    feature_set_ttl: &'static str,
    feature_extend_ttl: &'static str,
    feature_clients: &'static str,
    feature_api_tokens: &'static str,
    feature_github: &'static str,
    feature_text: &'static str,
    feature_e2ee: &'static str,
}

/// Streaming from an uploader to a downloader is not served, whatever is configured.
const STREAM: Feature = Feature::Disabled;

impl<'a> ConfigAnswer<'a> {
    fn new(config: &'a Config) -> Self {
        let aliases = &config.download_domain_alias;
        Self {
            max_file_size: config.max_file_size,
            max_user_size: config.max_user_size,
            max_file_per_upload: config.max_file_per_upload,
            default_ttl: config.default_ttl,
            max_ttl: config.max_ttl,
            plik_domain: &config.plik_domain,
            download_domain: &config.download_domain,
            download_domain_alias: (!aliases.is_empty()).then_some(aliases),
            download_url: domain::download_url(config),
            stream_timeout: config.stream_timeout,
            abuse_contact: &config.abuse_contact,
            features: Features::new(config),
            authentication: config.feature_authentication.is_available(),
            no_anonymous_uploads: config.feature_authentication == Feature::Forced,
            one_shot: config.feature_one_shot.is_available(),
            removable: config.feature_removable.is_available(),
            stream: STREAM.is_available(),
            protected_by_password: config.feature_password.is_available(),
            // Nobody can log in here, whichever provider is configured.
            google_authentication: false,
            ovh_authentication: false,
            ovh_api_endpoint: &config.ovh_api_endpoint,
            oidc_authentication: false,
            oidc_provider_name: &config.oidc_provider_name,
            github_authentication: false,
        }
    }
}

impl Features {
    fn new(config: &Config) -> Self {
        Self {
            feature_authentication: config.feature_authentication.as_str(),
            feature_local_login: config.feature_local_login.as_str(),
            feature_delete_account: config.feature_delete_account.as_str(),
            feature_one_shot: config.feature_one_shot.as_str(),
            feature_removable: config.feature_removable.as_str(),
            feature_stream: STREAM.as_str(),
            feature_password: config.feature_password.as_str(),
            feature_comments: config.feature_comments.as_str(),
            feature_set_ttl: config.feature_set_ttl.as_str(),
            feature_extend_ttl: config.feature_extend_ttl.as_str(),
            feature_clients: config.feature_clients.as_str(),
            feature_api_tokens: config.feature_api_tokens.as_str(),
            feature_github: config.feature_github.as_str(),
            feature_text: config.feature_text.as_str(),
            feature_e2ee: config.feature_e2ee.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::http::testing;

    async fn text_of(response: Response<Body>) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_configuration_has_every_key_in_the_order_clients_know() {
        let response = super::config(&testing::config()).unwrap();
        assert_eq!(
            response.headers()["content-type"],
            "text/plain; charset=utf-8"
        );
        let expected = concat!(
            r#"{"maxFileSize":10000000000,"maxUserSize":-1,"maxFilePerUpload":1000,"#,
            r#""defaultTTL":2592000,"maxTTL":2592000,"plikDomain":"","downloadDomain":"","#,
            r#""downloadDomainAlias":null,"streamTimeout":300,"abuseContact":"","#,
            r#""feature_authentication":"disabled","feature_local_login":"enabled","#,
            r#""feature_delete_account":"enabled","feature_one_shot":"enabled","#,
            r#""feature_removable":"enabled","feature_stream":"disabled","#,
            r#""feature_password":"enabled","feature_comments":"enabled","#,
            r#""feature_set_ttl":"enabled","feature_extend_ttl":"disabled","#,
            r#""feature_clients":"enabled","feature_api_tokens":"enabled","#,
            r#""feature_github":"enabled","feature_text":"enabled","feature_e2ee":"enabled","#,
            r#""authentication":false,"noAnonymousUploads":false,"oneShot":true,"#,
            r#""removable":true,"stream":false,"protectedByPassword":true,"#,
            r#""googleAuthentication":false,"ovhAuthentication":false,"#,
            r#""ovhApiEndpoint":"https://eu.api.ovh.com/1.0","oidcAuthentication":false,"#,
            r#""oidcProviderName":"OpenID","githubAuthentication":false}"#,
        );
        assert_eq!(text_of(response).await, expected);
    }

    #[tokio::test]
    async fn the_version_tells_nothing_of_the_build() {
        let expected = format!(
            r#"{{"version":"{VERSION}","date":0,"isRelease":false,"isMint":false,"clients":[],"releases":[]}}"#
        );
        assert_eq!(text_of(version().unwrap()).await, expected);
    }
}
