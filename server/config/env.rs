//! The environment: `PLIKD_*` variables, and the places a configuration file is looked for.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::ConfigError;
use super::key::{Key, Section};
use super::keys::Settings;
use super::{postgres_url, suggest};

/// The prefix of a server's own variables.
pub(super) const OWN: &str = "PLIKD_";
/// The prefix of the variables for the target of a migration.
pub(super) const TARGET: &str = "PLIKD_TARGET_";
/// Names the configuration file.
pub(super) const FILE: &str = "PLIKD_CONFIG";

/// What the configuration may take from outside its file. The default is nothing; a test makes its
/// own.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
    places: Vec<PathBuf>,
}

impl Environment {
    /// The variables of this process; `plikd.cfg` in the working directory, then
    /// `/etc/plikd.cfg`.
    pub fn of_process() -> Self {
        Self::new(std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with(OWN).then_some((name, value))
        }))
        .with_places(["plikd.cfg", "/etc/plikd.cfg"])
    }

    /// These variables, and no place to look for a file.
    pub fn new<N: Into<String>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self {
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            ..Self::default()
        }
    }

    /// Looks for a configuration file in these places, of which the first that exists counts.
    pub fn with_places<P: Into<PathBuf>>(mut self, places: impl IntoIterator<Item = P>) -> Self {
        self.places = places.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(name).map(OsString::as_os_str)
    }

    /// Where a configuration file is looked for if nobody names one.
    pub fn places(&self) -> &[PathBuf] {
        &self.places
    }

    /// Whether a variable of this prefix sets the key.
    pub(super) fn sets(&self, prefix: &str, key: &str) -> bool {
        Settings::KEYS
            .iter()
            .filter(|known| known.name == key)
            .any(|known| self.find(prefix, known).is_some())
    }

    /// Lays the variables of this prefix over the settings. A variable that is empty counts as
    /// set.
    pub(super) fn apply(&self, prefix: &str, settings: &mut Settings) -> Result<(), ConfigError> {
        for key in Settings::KEYS {
            let Some((variable, value)) = self.find(prefix, key) else {
                continue;
            };
            let assigned = match value.to_str() {
                Some(text) => key.slot.assign_text(settings, text),
                None => Err("the value is not UTF-8".to_owned()),
            };
            assigned.map_err(|problem| ConfigError::Variable {
                key: key.name,
                variable,
                problem,
            })?;
        }
        Ok(())
    }

    /// A warning for each variable of this prefix that looks like the misspelt name of a key.
    /// Others are left alone, since many programs set variables for many reasons.
    pub(super) fn misspelt(&self, prefix: &str) -> Vec<String> {
        let names: Vec<_> = Settings::KEYS
            .iter()
            .flat_map(|key| names(prefix, key))
            .collect();
        self.variables
            .keys()
            .filter(|name| name.starts_with(prefix) && !names.contains(name))
            .filter(|name| ![postgres_url::URL, postgres_url::URL_FILE].contains(&name.as_str()))
            .filter(|name| prefix == TARGET || !name.starts_with(TARGET))
            .filter_map(|name| {
                let meant = suggest::nearest(name, names.iter().map(String::as_str))?;
                Some(format!(
                    "variable {name} sets nothing; did you mean {meant}?"
                ))
            })
            .collect()
    }

    fn find(&self, prefix: &str, key: &Key<Settings>) -> Option<(String, &OsStr)> {
        names(prefix, key).find_map(|name| Some((name.clone(), self.variable(&name)?)))
    }
}

/// The variables that set a key: the one by the rule, which wins, then the natural spelling where
/// the rule gives an odd one.
pub(super) fn names<S>(prefix: &str, key: &Key<S>) -> impl Iterator<Item = String> {
    [Some(screaming(key.name)), key.also.map(str::to_owned)]
        .into_iter()
        .flatten()
        .map(move |name| format!("{prefix}{name}"))
}

/// The key in screaming snake case. An underscore goes between lower and upper case, before the
/// last capital of a run that goes on in lower case, and around digits.
fn screaming(key: &str) -> String {
    let chars: Vec<char> = key.chars().collect();
    let mut name = String::new();
    for (at, &c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| chars[at]);
        let after = chars.get(at + 1);
        let starts_word = before.is_some_and(|before| {
            before.is_ascii_digit() != c.is_ascii_digit()
                || c.is_ascii_uppercase()
                    && (before.is_ascii_lowercase() || after.is_some_and(char::is_ascii_lowercase))
        });
        if starts_word {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_names_every_variable_as_plik_does() {
        for (key, name) in [
            ("Debug", "DEBUG"),
            ("UploadIDinB32", "UPLOAD_I_DIN_B_32"),
            ("FeatureE2EE", "FEATURE_E_2_EE"),
            ("GitHubApiClientID", "GIT_HUB_API_CLIENT_ID"),
            ("OIDCProviderURL", "OIDC_PROVIDER_URL"),
            ("OIDCClientID", "OIDC_CLIENT_ID"),
            ("AssumeHTTPS", "ASSUME_HTTPS"),
            ("MaxTTLStr", "MAX_TTL_STR"),
            ("UploadIDLength", "UPLOAD_ID_LENGTH"),
            ("FeatureSetTTL", "FEATURE_SET_TTL"),
        ] {
            assert_eq!(screaming(key), name);
        }
    }

    #[test]
    fn only_near_misses_are_called_misspelt() {
        let env = Environment::new([
            ("PLIKD_MAX_FILESIZE_STR", "1GB"),
            ("PLIKD_SERVICE_HOST", "10.0.0.1"),
            ("PLIKD_TARGET_DATA_BACKENDS", "s3"),
            ("PLIKD_DEBUG", "true"),
        ]);
        assert_eq!(
            env.misspelt(OWN),
            ["variable PLIKD_MAX_FILESIZE_STR sets nothing; did you mean PLIKD_MAX_FILE_SIZE_STR?"]
        );
        assert_eq!(
            env.misspelt(TARGET),
            ["variable PLIKD_TARGET_DATA_BACKENDS sets nothing; \
              did you mean PLIKD_TARGET_DATA_BACKEND?"]
        );
    }
}
