//! The list of keys as text: the commented example, and the tables of the manual.

use std::fmt::Write;

use super::env;
use super::key::{Key, Section, Slot};
use super::keys::{FileSettings, MetadataSettings, S3Settings, Settings};

const HEAD: &str = "\
# The configuration of plikd: every key with its built-in value.
#
# A key behind a #, without a space between, is off: an alternative to another key, or an older name.
# A variable of the environment overrides each key, such as PLIKD_LISTEN_PORT for ListenPort.
#
# Sizes:      \"10GB\", \"512MiB\", \"unlimited\"
# Durations:  \"30d\", \"1w2d\", \"1h30m\", or seconds
# Features:   \"disabled\", \"enabled\" (if asked for), \"default\" (preselected), \"forced\" (always)
#             Those without uploads to ask for them, such as FeatureClients, know the first two.
";

const FILE_HEAD: &str = "# Settings of DataBackend = \"file\".";
const S3_HEAD: &str = "# Settings of DataBackend = \"s3\", to be used in place of Directory.";

/// The commented example, `plikd.cfg`: every key, its documentation and its built-in value. Read as
/// a configuration, it changes nothing.
pub fn example() -> String {
    let mut out = HEAD.to_owned();
    for (heading, keys) in by_heading::<Settings>() {
        let _ = write!(out, "\n\n## {heading}\n");
        for key in keys.iter().filter(|key| !key.is_table()) {
            example_key(key, key.off, &mut out);
        }
    }
    out.push_str("\n# Settings of the database.\n[MetadataBackendConfig]\n");
    example_section::<MetadataSettings>(false, &mut out);
    let _ = write!(out, "\n{FILE_HEAD}\n[DataBackendConfig]\n");
    example_section::<FileSettings>(false, &mut out);
    let _ = write!(out, "\n{S3_HEAD}\n");
    example_section::<S3Settings>(true, &mut out);
    out
}

/// The tables of keys in Markdown, one per heading.
pub fn key_tables() -> String {
    let mut out = String::new();
    for (heading, keys) in by_heading::<Settings>() {
        let _ = write!(
            out,
            "### {heading}\n\n| Key | Type | Built-in value | Variable | Meaning |\n\
             |---|---|---|---|---|\n"
        );
        for key in keys {
            let variables: Vec<_> = env::names(env::OWN, key)
                .map(|name| format!("`{name}`"))
                .collect();
            let variables = variables.join(" or ");
            table_row(key, Some(&variables), &mut out);
        }
        out.push('\n');
    }
    backend_table::<MetadataSettings>("`[MetadataBackendConfig]`", &mut out);
    backend_table::<FileSettings>(
        "`[DataBackendConfig]` of `DataBackend = \"file\"`",
        &mut out,
    );
    backend_table::<S3Settings>("`[DataBackendConfig]` of `DataBackend = \"s3\"`", &mut out);
    out
}

fn example_section<S: Section>(off: bool, out: &mut String) {
    for key in S::KEYS {
        example_key(key, off || key.off, out);
    }
}

fn example_key<S: Section>(key: &Key<S>, off: bool, out: &mut String) {
    out.push('\n');
    for line in key.doc {
        let _ = writeln!(out, "#{line}");
    }
    let off = if off { "#" } else { "" };
    let _ = writeln!(out, "{off}{} = {}", key.name, key.built_in());
}

fn backend_table<S: Section>(title: &str, out: &mut String) {
    let _ = write!(
        out,
        "### {title}\n\n| Key | Type | Built-in value | Meaning |\n|---|---|---|---|\n"
    );
    for key in S::KEYS {
        table_row(key, None, out);
    }
    out.push('\n');
}

fn table_row<S: Section>(key: &Key<S>, variables: Option<&str>, out: &mut String) {
    let _ = write!(
        out,
        "| `{}` | {} | `{}` |",
        key.name,
        key.type_name,
        key.built_in()
    );
    if let Some(variables) = variables {
        let _ = write!(out, " {variables} |");
    }
    let _ = writeln!(out, "{} |", key.doc.concat());
}

/// The keys of a section, cut where the heading changes.
fn by_heading<S: Section>() -> impl Iterator<Item = (&'static str, &'static [Key<S>])> {
    S::KEYS
        .chunk_by(|a, b| a.heading == b.heading)
        .map(|keys| (keys[0].heading, keys))
}

impl<S: Section> Key<S> {
    /// The built-in value, as TOML.
    fn built_in(&self) -> String {
        match self.shown {
            Some(shown) => shown.to_owned(),
            None => self.slot.show(&mut S::default()),
        }
    }

    fn is_table(&self) -> bool {
        matches!(self.slot, Slot::Table(_))
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::{Config, Environment, load};

    const BEGIN: &str = "<!-- keys: begin -->\n";
    const END: &str = "<!-- keys: end -->\n";

    fn in_tree(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    /// Compares a file of the tree with what it should be. With `PLIKD_BLESS` in the environment the
    /// file is written instead.
    fn assert_on_disk(path: &str, expected: impl Fn(&str) -> String) {
        let path = in_tree(path);
        let bless = std::env::var_os("PLIKD_BLESS").is_some();
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        let expected = expected(&found);
        if bless {
            std::fs::write(&path, &expected).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap();
        assert!(
            found == expected,
            "{} is out of date; run PLIKD_BLESS=1 cargo test --lib config::reference",
            path.display()
        );
    }

    #[test]
    fn the_example_on_disk_is_written_from_the_keys() {
        assert_on_disk("server/plikd.cfg", |_| example());
    }

    #[test]
    fn the_tables_of_the_manual_are_written_from_the_keys() {
        assert_on_disk("docs/configuration.md", |found| {
            let (before, rest) = found.split_once(BEGIN).unwrap();
            let (_, after) = rest.split_once(END).unwrap();
            format!("{before}{BEGIN}\n{}{END}{after}", key_tables())
        });
    }

    #[test]
    fn the_example_changes_nothing() {
        let loaded = load(Some(&in_tree("server/plikd.cfg")), &Environment::default()).unwrap();
        assert_eq!(loaded.config, Config::default());
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }

    /// The keys that are off become the only ones that are set, top-level ones as well as S3's.
    #[test]
    fn the_keys_that_are_off_stand_at_their_built_in_values_too() {
        let is_off = |line: &&str| {
            let name = line.trim_start_matches('#').split(" = ").next().unwrap();
            line.starts_with('#') && !name.is_empty() && !name.contains(' ')
        };
        let example = example();
        let off: Vec<_> = example
            .lines()
            .filter(is_off)
            .map(|line| line[1..].to_owned())
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plikd.cfg");
        let top = off
            .iter()
            .take_while(|line| !line.starts_with("EraseFirst"));
        let s3 = off.iter().skip_while(|line| !line.starts_with("Endpoint"));
        let required = [
            "Endpoint = \"\"",
            "AccessKeyID = \"\"",
            "SecretAccessKey = \"\"",
        ];

        let top: Vec<_> = top.cloned().collect();
        assert_eq!(top.len(), 10, "{top:?}");
        std::fs::write(&path, top.join("\n")).unwrap();
        let loaded = load(Some(&path), &Environment::default()).unwrap();
        assert_eq!(loaded.config, Config::default());

        let access = "Endpoint = \"e\"\nAccessKeyID = \"i\"\nSecretAccessKey = \"s\"\n";
        let s3: Vec<_> = s3
            .filter(|line| !required.contains(&line.as_str()))
            .cloned()
            .collect();
        assert_eq!(s3.len(), S3Settings::KEYS.len() - required.len());
        let table = format!("DataBackend = \"s3\"\n[DataBackendConfig]\n{access}");
        std::fs::write(&path, &table).unwrap();
        let bare = load(Some(&path), &Environment::default()).unwrap();
        std::fs::write(&path, table + &s3.join("\n")).unwrap();
        let full = load(Some(&path), &Environment::default()).unwrap();
        assert_eq!(full.config, bare.config);
        assert_eq!(full.warnings, bare.warnings);
    }

    #[test]
    fn every_key_stands_in_the_example_and_in_the_manual() {
        fn check<S: Section>() {
            let (example, tables) = (example(), key_tables());
            for key in S::KEYS {
                let line = match key.is_table() {
                    true => format!("\n[{}]\n", key.name),
                    false => format!("{} = {}\n", key.name, key.built_in()),
                };
                assert!(example.contains(&line), "{line}");
                assert!(tables.contains(&format!("| `{}` | ", key.name)));
            }
        }
        check::<Settings>();
        check::<MetadataSettings>();
        check::<FileSettings>();
        check::<S3Settings>();
    }
}
