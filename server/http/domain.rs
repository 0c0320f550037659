//! The public addresses of this server: where its pages are, and where downloads are allowed.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    HeaderValue,
};
use http::{HeaderMap, Response};

use super::body::{self, Body};
use crate::config::Config;

/// The base of every link to a file, if a public domain is configured.
pub fn download_url(config: &Config) -> Option<String> {
    let domain = [&config.download_domain, &config.plik_domain]
        .into_iter()
        .find(|domain| !domain.is_empty())?;
    Some(format!("{domain}{}", config.path))
}

/// Whether files may be downloaded from `host`, as in the `Host` header.
pub fn allows_download(config: &Config, host: &str) -> bool {
    config.download_domain.is_empty() || is_download_host(config, host)
}

/// Where a request must go that is not for the download domain, to which it was sent: with two
/// domains, one serves downloads and nothing else. `path` is below the prefix.
pub fn elsewhere(config: &Config, host: &str, path: &str, target: &str) -> Option<String> {
    const SERVED: [&str; 3] = ["/file/", "/stream/", "/archive/"];
    let is_served = path == "/health" || SERVED.iter().any(|start| path.starts_with(start));
    let is_misplaced = has_both(config) && is_download_host(config, host) && !is_served;
    is_misplaced.then(|| format!("{}{target}", config.plik_domain))
}

/// Lets pages of the other domain read a download.
pub fn add_cors_header(headers: &mut HeaderMap, config: &Config) {
    if has_both(config)
        && let Ok(origin) = HeaderValue::try_from(&config.plik_domain)
    {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}

/// The answer to a browser that asks whether a page of the other domain may download; `None` if
/// there is no other domain.
pub fn preflight(config: &Config) -> Option<Response<Body>> {
    const METHODS: &str = "GET, HEAD, OPTIONS";
    const HEADERS: &str = "Authorization, Range, X-ClientApp, X-ClientVersion, X-UploadToken";
    if !has_both(config) {
        return None;
    }
    let mut response = Response::new(body::empty());
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(METHODS),
    );
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(HEADERS),
    );
    Some(response)
}

fn has_both(config: &Config) -> bool {
    !config.plik_domain.is_empty() && !config.download_domain.is_empty()
}

fn is_download_host(config: &Config, host: &str) -> bool {
    std::iter::once(&config.download_domain)
        .chain(&config.download_domain_alias)
        .any(|domain| host_of(domain) == host)
}

/// `host[:port]` of a URL without path.
fn host_of(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing;

    fn config(plik_domain: &str, download_domain: &str) -> Config {
        let mut config = testing::config();
        config.plik_domain = plik_domain.to_owned();
        config.download_domain = download_domain.to_owned();
        config.download_domain_alias = vec!["https://alias.example:8443".to_owned()];
        config.path = "/sub".to_owned();
        config
    }

    #[test]
    fn links_start_with_the_download_domain_else_with_the_main_one() {
        let url = |plik, download| download_url(&config(plik, download));
        assert_eq!(
            url("https://a.example", "https://d.example").unwrap(),
            "https://d.example/sub"
        );
        assert_eq!(
            url("https://a.example", "").unwrap(),
            "https://a.example/sub"
        );
        assert_eq!(url("", ""), None);
    }

    #[test]
    fn downloads_are_allowed_on_the_domain_and_its_aliases_with_their_ports() {
        let restricted = config("", "https://d.example");
        for host in ["d.example", "alias.example:8443"] {
            assert!(allows_download(&restricted, host), "{host}");
        }
        for host in ["d.example:443", "alias.example", "evil.example", ""] {
            assert!(!allows_download(&restricted, host), "{host}");
        }
        assert!(allows_download(
            &config("https://a.example", ""),
            "any.example"
        ));
    }

    #[test]
    fn with_two_domains_only_downloads_stay_on_the_download_domain() {
        let both = config("https://a.example", "https://d.example");
        assert_eq!(
            elsewhere(&both, "d.example", "/config", "/sub/config?x=1").as_deref(),
            Some("https://a.example/sub/config?x=1")
        );
        for path in [
            "/file/u/f/n",
            "/stream/u/f/n",
            "/archive/u/a.zip",
            "/health",
        ] {
            assert_eq!(elsewhere(&both, "d.example", path, path), None, "{path}");
        }
        assert_eq!(elsewhere(&both, "a.example", "/config", "/config"), None);
        let one = config("", "https://d.example");
        assert_eq!(elsewhere(&one, "d.example", "/config", "/config"), None);
    }

    #[test]
    fn pages_of_the_other_domain_may_download_only_if_there_is_one() {
        let both = config("https://a.example", "https://d.example");
        let mut headers = HeaderMap::new();
        add_cors_header(&mut headers, &both);
        assert_eq!(headers["access-control-allow-origin"], "https://a.example");
        assert!(preflight(&both).is_some());

        let one = config("", "https://d.example");
        let mut headers = HeaderMap::new();
        add_cors_header(&mut headers, &one);
        assert!(headers.is_empty());
        assert!(preflight(&one).is_none());
    }
}
