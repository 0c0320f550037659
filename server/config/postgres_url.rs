//! `PLIKD_POSTGRES_URL`: one variable that puts a server on PostgreSQL, whatever its configuration
//! says of the database.

use std::path::PathBuf;

use super::env::Environment;
use super::{ConfigError, Secret};

/// Holds the URL. Unlike the variables of keys, an empty one counts as not set.
pub(super) const URL: &str = "PLIKD_POSTGRES_URL";
/// Names a file that holds the URL.
pub(super) const URL_FILE: &str = "PLIKD_POSTGRES_URL_FILE";

/// The URL that the environment gives, if it gives one.
pub(super) fn read(env: &Environment) -> Result<Option<Secret>, ConfigError> {
    let set = |name| env.variable(name).filter(|value| !value.is_empty());
    let (name, text) = match (set(URL), set(URL_FILE)) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(ConfigError::TwoPostgresUrls),
        (Some(url), None) => (URL, url.to_str().map(str::to_owned)),
        (None, Some(path)) => (URL_FILE, Some(contents(path.into())?)),
    };
    let url = text.as_deref().map(str::trim).filter(|text| is_url(text));
    match url {
        Some(url) => Ok(Some(Secret::new(url))),
        None => Err(ConfigError::NoPostgresUrl { variable: name }),
    }
}

fn contents(path: PathBuf) -> Result<String, ConfigError> {
    std::fs::read_to_string(&path).map_err(|reason| ConfigError::PostgresUrlFile { path, reason })
}

fn is_url(text: &str) -> bool {
    let rest = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        read(&Environment::new(variables.iter().copied()))
            .map(|url| url.map(|url| url.expose().to_owned()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_url_comes_from_the_variable_or_from_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("url");
        std::fs::write(&file, "postgresql://u:p@h/plik\n").unwrap();
        let file = file.to_str().unwrap();
        assert_eq!(url(&[]), Ok(None));
        assert_eq!(url(&[(URL, "")]), Ok(None));
        assert_eq!(
            url(&[(URL, "postgres://h/plik")]),
            Ok(Some("postgres://h/plik".to_owned()))
        );
        assert_eq!(
            url(&[(URL, ""), (URL_FILE, file)]),
            Ok(Some("postgresql://u:p@h/plik".to_owned()))
        );
        let both = url(&[(URL, "postgres://h/plik"), (URL_FILE, file)]).unwrap_err();
        assert!(both.contains(URL_FILE), "{both}");
        let absent = url(&[(URL_FILE, "/nonexistent/url")]).unwrap_err();
        assert!(absent.contains("/nonexistent/url"), "{absent}");
    }

    #[test]
    fn anything_else_is_refused_and_not_repeated() {
        for text in [
            "plik.db",
            "mysql://u:secret@h/plik",
            "host=h password=secret",
            "postgres://",
            "postgres://h/p secret",
        ] {
            let error = url(&[(URL, text)]).unwrap_err();
            assert_eq!(
                error, "PLIKD_POSTGRES_URL is not a PostgreSQL URL",
                "{text}"
            );
        }
    }
}
