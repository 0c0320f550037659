//! `plikd.cfg`: which file, and what it says.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::ConfigError;
use super::env::{self, Environment};
use super::key::{Key, Numbers, Section};
use super::keys::Settings;
use super::suggest::{self, Unknown};
use super::value::Value;

/// The configuration file: `explicit`, else the one that `PLIKD_CONFIG` names, else the first
/// place of `env` that is a file, else none.
///
/// # Errors
///
/// When `explicit` or `PLIKD_CONFIG` names a directory, or a file that is not there.
pub fn find(explicit: Option<&Path>, env: &Environment) -> Result<Option<PathBuf>, ConfigError> {
    let variable = env.variable(env::FILE).filter(|value| !value.is_empty());
    match explicit.or(variable.map(Path::new)) {
        Some(path) => named(path).map(Some),
        None => Ok(env.places().iter().find(|place| place.is_file()).cloned()),
    }
}

/// The path, if it can be read as a file.
fn named(path: &Path) -> Result<PathBuf, ConfigError> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(ConfigError::Directory { path: path.into() }),
        Ok(_) => Ok(path.into()),
        Err(reason) => Err(ConfigError::Unreadable {
            path: path.into(),
            reason,
        }),
    }
}

/// A file's top-level keys, in the file's order.
pub(super) struct Document {
    path: PathBuf,
    entries: Vec<Entry>,
}

struct Entry {
    /// As written in the file.
    name: String,
    line: usize,
    value: Value,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let path = named(path)?;
        match std::fs::read(&path) {
            Ok(bytes) => Self::parse(path, &bytes),
            Err(reason) => Err(ConfigError::Unreadable { path, reason }),
        }
    }

    fn parse(path: PathBuf, bytes: &[u8]) -> Result<Self, ConfigError> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                return Err(ConfigError::Syntax {
                    path,
                    line: line_of(bytes, error.valid_up_to()),
                    problem: "the text is not UTF-8".to_owned(),
                });
            }
        };
        // Only the message: the error's own display quotes the line, which may hold a password.
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.clone(),
            line: line_of(bytes, error.span().map_or(bytes.len(), |span| span.start)),
            problem: error.message().to_owned(),
        })?;
        let mut entries: Vec<_> = table
            .get_ref()
            .iter()
            .map(|(name, value)| Entry {
                name: name.get_ref().to_string(),
                line: line_of(bytes, name.span().start),
                value: value.get_ref().into(),
            })
            .collect();
        entries.sort_by_key(|entry| entry.line);
        let document = Self { path, entries };
        document.refuse_twins()?;
        Ok(document)
    }

    /// Whether the file has the key.
    pub(super) fn sets(&self, key: &str) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.name.eq_ignore_ascii_case(key))
    }

    /// Lays the file over the settings.
    pub(super) fn apply(&self, settings: &mut Settings) -> Result<(), ConfigError> {
        for entry in &self.entries {
            let Some(key) = entry.key() else { continue };
            key.slot
                .assign(settings, entry.value.clone(), Numbers::Strict)
                .map_err(|wrong| ConfigError::Type {
                    path: self.path.clone(),
                    line: entry.line,
                    key: entry.name.clone(),
                    found: wrong.found,
                    expected: wrong.expected,
                })?;
        }
        Ok(())
    }

    /// The keys that are none of ours.
    pub(super) fn unknown(&self) -> impl Iterator<Item = Unknown> {
        let unknown = self.entries.iter().filter(|entry| entry.key().is_none());
        unknown.map(|entry| {
            let what = match entry.value {
                Value::Table(_) => format!("table [{}]", entry.name),
                _ => format!("key {}", entry.name),
            };
            Unknown {
                what: format!("{what} in {} line {}", self.path.display(), entry.line),
                remark: suggest::at_top(&entry.name),
            }
        })
    }

    /// TOML tells `Debug` and `debug` apart, the settings do not, and neither has the better claim.
    fn refuse_twins(&self) -> Result<(), ConfigError> {
        for (at, entry) in self.entries.iter().enumerate() {
            let twin = self.entries[..at]
                .iter()
                .find(|earlier| entry.key().is_some() && earlier.is_same_as(entry));
            if let Some(twin) = twin {
                return Err(ConfigError::Twice {
                    path: self.path.clone(),
                    line: entry.line,
                    key: entry.name.clone(),
                    first: twin.line,
                });
            }
        }
        Ok(())
    }
}

impl Entry {
    fn key(&self) -> Option<&'static Key<Settings>> {
        Settings::KEYS
            .iter()
            .find(|key| key.name.eq_ignore_ascii_case(&self.name))
    }

    fn is_same_as(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
    }
}

/// The line of a byte, from 1.
fn line_of(bytes: &[u8], at: usize) -> usize {
    let before = &bytes[..at.min(bytes.len())];
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}
