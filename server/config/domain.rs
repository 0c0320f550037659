//! The public URLs of the server: scheme and host, no more.

use super::error::ConfigError;
use super::keys::Settings;
use super::validate::wrong;

pub(super) struct Domains {
    pub plik_domain: String,
    pub download_domain: String,
    pub download_domain_alias: Vec<String>,
}

/// Reduces the URLs to scheme and host, and checks that the page and the downloads are apart.
pub(super) fn check(s: &Settings, warnings: &mut Vec<String>) -> Result<Domains, ConfigError> {
    let plik = parse("PlikDomain", "plik", &s.plik_domain, warnings)?;
    let download = parse("DownloadDomain", "download", &s.download_domain, warnings)?;
    let mut aliases = Vec::new();
    for alias in &s.download_domain_alias {
        aliases.extend(parse("DownloadDomainAlias", "download", alias, warnings)?);
    }
    if download.is_none() && !aliases.is_empty() {
        warnings.push("DownloadDomainAlias has no effect without DownloadDomain".to_owned());
        aliases.clear();
    }
    if let Some(plik) = &plik
        && let Some(same) = download
            .iter()
            .chain(&aliases)
            .find(|other| other.host == plik.host)
    {
        return Err(wrong(
            "DownloadDomain",
            format!(
                "PlikDomain and DownloadDomain must be different domains ({}), using the same \
                 domain would cause redirect loops",
                same.host
            ),
            "give downloads a host name of their own, or remove DownloadDomain",
        ));
    }
    Ok(Domains {
        plik_domain: plik.map(|domain| domain.url).unwrap_or_default(),
        download_domain: download.map(|domain| domain.url).unwrap_or_default(),
        download_domain_alias: aliases.into_iter().map(|domain| domain.url).collect(),
    })
}

struct Domain {
    /// `scheme://host[:port]`
    url: String,
    /// `host[:port]`
    host: String,
}

/// The domain of a URL; `None` if it is empty. `label` is what the message calls it.
fn parse(
    key: &'static str,
    label: &str,
    text: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<Domain>, ConfigError> {
    let trimmed = text.trim_matches(|c: char| c.is_whitespace() || c == '/');
    if trimmed.is_empty() {
        return Ok(None);
    }
    let invalid = |problem: String| {
        wrong(
            key,
            format!("invalid {label} domain URL {trimmed} : {problem}"),
            format!("set {key} to a URL such as https://plik.example.com"),
        )
    };
    let uri: http::Uri = trimmed
        .parse()
        .map_err(|error: http::uri::InvalidUri| invalid(error.to_string()))?;
    let scheme = uri
        .scheme_str()
        .filter(|scheme| matches!(*scheme, "http" | "https"));
    let Some(scheme) = scheme else {
        return Err(invalid(
            "it does not begin with http:// or https://".to_owned(),
        ));
    };
    let authority = uri
        .authority()
        .filter(|authority| !authority.host().is_empty());
    let Some(authority) = authority else {
        return Err(invalid("it has no host".to_owned()));
    };
    let host = authority.as_str();
    if host.contains('@') {
        return Err(invalid("it has a user name".to_owned()));
    }
    if host.len() > authority.host().len() && authority.port_u16().is_none() {
        return Err(invalid("its port is not a number up to 65535".to_owned()));
    }
    let url = format!("{scheme}://{host}");
    if uri
        .path_and_query()
        .is_some_and(|path| path.as_str() != "/")
    {
        warnings.push(format!(
            "{key} is a domain without a path; {trimmed} is cut to {url}"
        ));
    }
    Ok(Some(Domain {
        url,
        host: host.to_ascii_lowercase(),
    }))
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{load_text, refusal};

    #[test]
    fn domains_lose_blanks_slashes_and_paths() {
        let text = "PlikDomain = \" https://plik.example.com:8443/ \"\n\
                    DownloadDomain = \"http://dl.example.com/files/\"\n\
                    DownloadDomainAlias = [\"\", \"https://dl2.example.com\"]";
        let loaded = load_text(text, &[]).unwrap();
        assert_eq!(loaded.config.plik_domain, "https://plik.example.com:8443");
        assert_eq!(loaded.config.download_domain, "http://dl.example.com");
        assert_eq!(
            loaded.config.download_domain_alias,
            ["https://dl2.example.com"]
        );
        assert_eq!(
            loaded.warnings,
            [
                "DownloadDomain is a domain without a path; http://dl.example.com/files is cut to \
              http://dl.example.com"
            ]
        );
    }

    #[test]
    fn a_domain_is_a_url_with_a_host() {
        for (url, problem) in [
            (
                "plik.example.com",
                "it does not begin with http:// or https://",
            ),
            (
                "ftp://plik.example.com",
                "it does not begin with http:// or https://",
            ),
            ("https://user@plik.example.com", "it has a user name"),
        ] {
            assert_eq!(
                refusal(&format!("PlikDomain = \"{url}\"")),
                format!("invalid plik domain URL {url} : {problem}")
            );
            assert_eq!(
                refusal(&format!("DownloadDomainAlias = [\"{url}\"]")),
                format!("invalid download domain URL {url} : {problem}")
            );
        }
        for url in [
            "https://",
            "https://:80",
            "https://a b",
            "https://[::1",
            "https://a:99999",
        ] {
            let message = refusal(&format!("DownloadDomain = \"{url}\""));
            assert!(
                message.starts_with("invalid download domain URL "),
                "{message}"
            );
        }
    }

    #[test]
    fn page_and_downloads_need_hosts_of_their_own() {
        let same = "PlikDomain and DownloadDomain must be different domains (plik.example.com), \
                    using the same domain would cause redirect loops";
        let plik = "PlikDomain = \"https://plik.example.com\"\n";
        let alone = format!("{plik}DownloadDomain = \"http://PLIK.example.com\"");
        assert_eq!(refusal(&alone), same);
        let alias = format!(
            "{plik}DownloadDomain = \"https://dl.example.com\"\n\
             DownloadDomainAlias = [\"https://plik.example.com\"]"
        );
        assert_eq!(refusal(&alias), same);
        let port = format!("{plik}DownloadDomain = \"https://plik.example.com:8443\"");
        assert!(load_text(&port, &[]).is_ok());
    }

    #[test]
    fn an_alias_needs_a_download_domain() {
        let text =
            "PlikDomain = \"https://a.example\"\nDownloadDomainAlias = [\"https://a.example\"]";
        let loaded = load_text(text, &[]).unwrap();
        assert_eq!(loaded.config.download_domain_alias, Vec::<String>::new());
        assert_eq!(
            loaded.warnings,
            ["DownloadDomainAlias has no effect without DownloadDomain"]
        );
    }
}
