//! What an unknown key was meant to be.

use super::key::Section;
use super::keys::{FileSettings, MetadataSettings, S3Settings, Settings};

/// Keys that other programs or published guides use, and what they are here.
const ALIASES: &[(&str, &str)] = &[
    ("MetadataBackend", "Driver under [MetadataBackendConfig]"),
    ("Region", "Location"),
];

/// What the server works out by itself, under the names it had in the settings of Plik (Go).
const DERIVED: &[&str] = &[
    "GoogleAuthentication",
    "OvhAuthentication",
    "OIDCAuthentication",
    "GitHubAuthentication",
    "LocalAuthentication",
    "DownloadURL",
];

/// A key or table that is none of ours.
pub(super) struct Unknown {
    /// What it is, its name, and where it stands.
    pub what: String,
    /// What it was meant to be, if that can be told.
    pub remark: Option<String>,
}

impl Unknown {
    /// For a configuration that is used nevertheless.
    pub(super) fn warning(&self) -> String {
        self.sentence(" is ignored")
    }

    /// For one that is not.
    pub(super) fn refusal(&self) -> String {
        self.sentence("")
    }

    fn sentence(&self, consequence: &str) -> String {
        let remark = self.remark.as_ref();
        let remark = remark.map(|remark| format!(": {remark}"));
        let remark = remark.unwrap_or_default();
        format!("unknown {}{consequence}{remark}", self.what)
    }
}

/// A remark on an unknown key at the top level, to stand after its name.
pub(super) fn at_top(name: &str) -> Option<String> {
    if DERIVED.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Some("it follows from other settings".to_owned());
    }
    if let Some(meant) = alias(name) {
        return Some(did_you_mean(meant));
    }
    if let Some(table) = table_of(name) {
        return Some(format!("it belongs under [{table}]"));
    }
    nearest(name, key_names::<Settings>()).map(did_you_mean)
}

/// A remark on an unknown key of a backend's table.
pub(super) fn in_table<S: Section>(name: &str) -> Option<String> {
    if let Some(meant) = alias(name).filter(|meant| key_names::<S>().any(|key| key == *meant)) {
        return Some(did_you_mean(meant));
    }
    // TOML: what follows a table's heading is in that table.
    if key_names::<Settings>().any(|key| key.eq_ignore_ascii_case(name)) {
        return Some("it belongs at the top, above the first [table]".to_owned());
    }
    if let Some(near) = nearest(name, key_names::<S>()) {
        return Some(did_you_mean(near));
    }
    let of_s3 = key_names::<S3Settings>().any(|key| key == name);
    of_s3.then(|| "it needs DataBackend = \"s3\"".to_owned())
}

/// The one of `names` that differs from `name` in case, underscores, or a typing error.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(name);
    let allowed = (folded.len() / 5).min(2);
    names
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn did_you_mean(name: &str) -> String {
    format!("did you mean {name}?")
}

fn alias(name: &str) -> Option<&'static str> {
    ALIASES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, meant)| *meant)
}

fn table_of(name: &str) -> Option<&'static str> {
    if key_names::<MetadataSettings>().any(|key| key == name) {
        Some("MetadataBackendConfig")
    } else if key_names::<FileSettings>().any(|key| key == name)
        || key_names::<S3Settings>().any(|key| key == name)
    {
        Some("DataBackendConfig")
    } else {
        None
    }
}

fn key_names<S: Section>() -> impl Iterator<Item = &'static str> {
    S::KEYS.iter().map(|key| key.name)
}

fn fold(name: &str) -> Vec<char> {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Levenshtein's: the fewest characters to insert, remove or change.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(name: &str) -> Option<String> {
        at_top(name)
    }

    #[test]
    fn a_near_miss_names_the_key() {
        for (name, key) in [
            ("feature_stream", "FeatureStream"),
            ("MaxFileSizeString", ""),
            ("ListenPrt", "ListenPort"),
            ("MaxFilesPerUpload", "MaxFilePerUpload"),
            ("Colour", ""),
        ] {
            let expected = (!key.is_empty()).then(|| did_you_mean(key));
            assert_eq!(top(name), expected, "{name}");
        }
        let key = in_table::<S3Settings>("AccessKeyId");
        assert_eq!(key, Some(did_you_mean("AccessKeyID")));
    }

    #[test]
    fn names_from_guides_and_other_places_are_known() {
        assert_eq!(
            top("MetadataBackend").as_deref(),
            Some("did you mean Driver under [MetadataBackendConfig]?")
        );
        assert_eq!(
            in_table::<S3Settings>("Region").as_deref(),
            Some("did you mean Location?")
        );
        assert_eq!(in_table::<FileSettings>("Region"), None);
        assert_eq!(
            top("Bucket").as_deref(),
            Some("it belongs under [DataBackendConfig]")
        );
        assert_eq!(
            in_table::<FileSettings>("MaxTTLStr").as_deref(),
            Some("it belongs at the top, above the first [table]")
        );
        assert_eq!(
            top("GoogleAuthentication").as_deref(),
            Some("it follows from other settings")
        );
    }

    #[test]
    fn distance_counts_single_changes() {
        let distance = |a, b| distance(&fold(a), &fold(b));
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
