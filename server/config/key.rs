//! What a key is: its name, its type, its documentation, and the place its value goes to.
//!
//! The lists of keys are in `keys.rs`, each written once with [`settings!`].

use super::Secret;
use super::value::{Table, Value};

/// One key of a section `S`.
pub(super) struct Key<S: 'static> {
    pub name: &'static str,
    /// The heading it stands under in the example and in the manual.
    pub heading: &'static str,
    /// The type as the manual calls it.
    pub type_name: &'static str,
    pub slot: Slot<S>,
    /// The lines of its documentation, as `///` leaves them.
    pub doc: &'static [&'static str],
    /// The default to show, as TOML, where the empty built-in value stands for another one.
    pub shown: Option<&'static str>,
    /// A second name of its environment variable, without the prefix.
    pub also: Option<&'static str>,
    /// Whether the example has it in a comment only, since it should not be set or another key
    /// takes its place.
    pub off: bool,
}

/// A section of the configuration: a struct with one field per key.
pub(super) trait Section: Default + 'static {
    const KEYS: &'static [Key<Self>];
}

/// Where the value of a key is kept.
pub(super) enum Slot<S: 'static> {
    Text(fn(&mut S) -> &mut String),
    Secret(fn(&mut S) -> &mut Secret),
    Flag(fn(&mut S) -> &mut bool),
    Number(fn(&mut S) -> &mut i64),
    List(fn(&mut S) -> &mut Vec<String>),
    Table(fn(&mut S) -> &mut Table),
}

/// Whether an integral float may stand for an integer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    Strict,
    /// As in the backend tables, whose values may have come as JSON.
    Convert,
}

/// A value of the wrong type; the texts have their articles.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub expected: &'static str,
    pub found: &'static str,
}

impl<S> Slot<S> {
    pub(super) fn assign(
        &self,
        section: &mut S,
        value: Value,
        numbers: Numbers,
    ) -> Result<(), Mismatch> {
        let found = value.kind();
        match (self, value) {
            (Self::Text(at), Value::Text(text)) => *at(section) = text,
            (Self::Secret(at), Value::Text(text)) => *at(section) = Secret::new(text),
            (Self::Flag(at), Value::Flag(flag)) => *at(section) = flag,
            (Self::Number(at), Value::Integer(number)) => *at(section) = number,
            (Self::Number(at), Value::Float(number)) if numbers == Numbers::Convert => {
                *at(section) = integral(number).ok_or(self.mismatch("a float with a fraction"))?;
            }
            (Self::List(at), Value::List(items)) => *at(section) = self.texts(items)?,
            (Self::Table(at), Value::Table(table)) => *at(section) = table,
            _ => return Err(self.mismatch(found)),
        }
        Ok(())
    }

    /// Assigns the text of an environment variable. The error does not repeat the text, which may
    /// be a secret.
    pub(super) fn assign_text(&self, section: &mut S, text: &str) -> Result<(), String> {
        match self {
            Self::Text(at) => *at(section) = text.to_owned(),
            Self::Secret(at) => *at(section) = Secret::new(text),
            Self::Flag(at) => {
                *at(section) = match text.to_ascii_lowercase().as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err("invalid boolean value".to_owned()),
                }
            }
            Self::Number(at) => {
                *at(section) = text.parse().map_err(|_| "invalid int value".to_owned())?;
            }
            Self::List(_) => json(text)
                .and_then(|value| {
                    self.assign(section, value, Numbers::Strict)
                        .map_err(|wrong| wrong.to_string())
                })
                .map_err(|problem| format!("invalid slice value : {problem}"))?,
            Self::Table(at) => match json(text) {
                Ok(Value::Table(table)) => at(section).extend(table),
                Ok(other) => return Err(format!("invalid map value : {}", self.wants(&other))),
                Err(problem) => return Err(format!("invalid map value : {problem}")),
            },
        }
        Ok(())
    }

    /// The value as TOML. A table is shown empty, since its keys have their own section.
    pub(super) fn show(&self, section: &mut S) -> String {
        let value = match self {
            Self::Text(at) => toml::Value::from(at(section).as_str()),
            Self::Secret(at) => toml::Value::from(at(section).expose()),
            Self::Flag(at) => toml::Value::from(*at(section)),
            Self::Number(at) => toml::Value::from(*at(section)),
            Self::List(at) => toml::Value::from(at(section).clone()),
            Self::Table(_) => toml::Value::Table(toml::Table::new()),
        };
        value.to_string()
    }

    fn texts(&self, items: Vec<Value>) -> Result<Vec<String>, Mismatch> {
        items
            .into_iter()
            .map(|item| match item {
                Value::Text(text) => Ok(text),
                other => Err(self.mismatch(other.kind())),
            })
            .collect()
    }

    fn wants(&self, value: &Value) -> String {
        self.mismatch(value.kind()).to_string()
    }

    fn mismatch(&self, found: &'static str) -> Mismatch {
        let expected = match self {
            Self::Text(_) | Self::Secret(_) => "a string",
            Self::Flag(_) => "a boolean",
            Self::Number(_) => "an integer",
            Self::List(_) => "a list of strings",
            Self::Table(_) => "a table",
        };
        Mismatch { expected, found }
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "found {}, expected {}", self.found, self.expected)
    }
}

/// The value of a JSON text. Syntax errors give a line and a column, and no text.
fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str::<serde_json::Value>(text)
        .map(Value::from)
        .map_err(|error| error.to_string())
}

fn integral(number: f64) -> Option<i64> {
    // Within 2^53 every integral float is exact, and no setting needs more.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// Reads a backend's table into its section. Keys are case sensitive; the unknown ones are
/// returned.
pub(super) fn read_table<S: Section>(table: &Table) -> Result<(S, Vec<&str>), (String, Mismatch)> {
    let mut section = S::default();
    let mut unknown = Vec::new();
    for (name, value) in table {
        match S::KEYS.iter().find(|key| key.name == name) {
            Some(key) => key
                .slot
                .assign(&mut section, value.clone(), Numbers::Convert)
                .map_err(|wrong| (name.clone(), wrong))?,
            None => unknown.push(name.as_str()),
        }
    }
    Ok((section, unknown))
}

/// Declares a [`Section`]: from one list the struct, its defaults, and the table of its keys.
///
/// An entry reads `"Key" => field: type = default;`, with up to three notes before the semicolon:
/// `shown "toml"`, `also "VARIABLE"` and `off true`.
macro_rules! settings {
    ($(#[$meta:meta])* $name:ident { $($heading:literal { $(
        $(#[doc = $doc:literal])+
        $key:literal => $field:ident: $kind:ident = $default:expr
        $(, shown $shown:literal)? $(, also $also:literal)? $(, off $off:literal)?;
    )+ })+ }) => {
        $(#[$meta])*
        #[derive(Clone)]
        pub(super) struct $name {
            $($( $(#[doc = $doc])+ pub(super) $field: settings!(@type $kind), )+)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($( $field: settings!(@default $kind $default), )+)+ }
            }
        }

        impl $crate::config::key::Section for $name {
            const KEYS: &'static [$crate::config::key::Key<Self>] = &[$($(
                $crate::config::key::Key {
                    name: $key,
                    heading: $heading,
                    type_name: settings!(@name $kind),
                    slot: settings!(@slot $kind)(|section| &mut section.$field),
                    doc: &[$($doc),+],
                    shown: settings!(@option $($shown)?),
                    also: settings!(@option $($also)?),
                    off: settings!(@is $($off)?),
                },
            )+)+];
        }
    };

    (@type flag) => { bool };
    (@type number) => { i64 };
    (@type list) => { Vec<String> };
    (@type table) => { $crate::config::value::Table };
    (@type secret) => { $crate::config::Secret };
    (@type $text:ident) => { String };

    (@default flag $value:expr) => { $value };
    (@default number $value:expr) => { $value };
    (@default list $value:expr) => { Vec::from($value) };
    (@default table $value:expr) => { $value };
    (@default secret $value:expr) => { $crate::config::Secret::new($value) };
    (@default $text:ident $value:expr) => { String::from($value) };

    (@slot flag) => { $crate::config::key::Slot::Flag };
    (@slot number) => { $crate::config::key::Slot::Number };
    (@slot list) => { $crate::config::key::Slot::List };
    (@slot table) => { $crate::config::key::Slot::Table };
    (@slot secret) => { $crate::config::key::Slot::Secret };
    (@slot $text:ident) => { $crate::config::key::Slot::Text };

    (@name flag) => { "boolean" };
    (@name number) => { "integer" };
    (@name list) => { "list" };
    (@name table) => { "table" };
    (@name secret) => { "string" };
    (@name text) => { "string" };
    (@name size) => { "size" };
    (@name duration) => { "duration" };
    (@name feature) => { "feature" };
    (@name switch) => { "switch" };

    (@option) => { None };
    (@option $value:literal) => { Some($value) };
    (@is) => { false };
    (@is $value:literal) => { $value };
}
pub(super) use settings;
