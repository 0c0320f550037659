//! Every dependency has a licence that `deny.toml` allows.
//!
//! What `cargo deny check licenses` does, from the same list, for those who have not installed it.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

#[test]
fn every_dependency_has_an_allowed_licence() -> Result<()> {
    let allowed = allowed()?;
    let mut refused = Vec::new();
    for package in dependencies()? {
        let licence = package.license.as_deref().unwrap_or("");
        if !Expression::parse(licence).is_ok_and(|expression| expression.is_met_by(&allowed)) {
            refused.push(format!("{} {}: `{licence}`", package.name, package.version));
        }
    }
    ensure!(
        refused.is_empty(),
        "not allowed by deny.toml:\n{}",
        refused.join("\n")
    );
    Ok(())
}

#[test]
fn every_allowed_licence_is_one_of_some_dependency() -> Result<()> {
    let mut used = BTreeSet::new();
    for package in dependencies()? {
        let licence = package.license.unwrap_or_default();
        used.extend(words(&licence).map(str::to_owned));
    }
    let unused: Vec<_> = allowed()?.difference(&used).cloned().collect();
    ensure!(unused.is_empty(), "in deny.toml for nothing: {unused:?}");
    Ok(())
}

#[test]
fn expressions_mean_what_spdx_says() -> Result<()> {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("ISC AND MIT", true),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("(GPL-3.0 OR MIT) AND BSD-3-Clause", false),
        // AND binds closer than OR.
        ("MIT OR GPL-3.0 AND BSD-3-Clause", true),
        // An exception widens a licence: it is as allowed as the licence.
        ("MIT WITH LLVM-exception", true),
    ] {
        let parsed = Expression::parse(expression).context(expression)?;
        assert_eq!(parsed.is_met_by(&allowed), met, "{expression}");
    }
    for malformed in ["", "MIT OR", "(MIT", "MIT ISC", "MIT)"] {
        assert!(Expression::parse(malformed).is_err(), "{malformed:?}");
    }
    Ok(())
}

fn allowed() -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml"))?;
    Ok(toml::from_str::<Policy>(&text)?.licenses.allow)
}

/// The packages built on this platform, for the program and for its tests.
fn dependencies() -> Result<Vec<Package>> {
    // Without the filter, cargo wants the sources of Windows' and others' packages too, which a
    // build here does not download.
    let metadata: Metadata = serde_json::from_slice(&output(
        Command::new(env!("CARGO"))
            .args(["metadata", "--offline", "--locked", "--format-version=1"])
            .args(["--filter-platform", &host()?])
            .current_dir(env!("CARGO_MANIFEST_DIR")),
    )?)?;
    let used: BTreeSet<_> = metadata.resolve.nodes.into_iter().map(|n| n.id).collect();
    let packages: Vec<_> = metadata
        .packages
        .into_iter()
        .filter(|package| used.contains(&package.id))
        .collect();
    ensure!(packages.len() > 1, "cargo metadata lists no dependency");
    Ok(packages)
}

fn host() -> Result<String> {
    let version = String::from_utf8(output(Command::new("rustc").arg("-vV"))?)?;
    version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("`rustc -vV` names no host")
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// A licence expression of SPDX, such as `(MIT OR Apache-2.0) AND ISC`.
enum Expression {
    Licence(String),
    Any(Vec<Expression>),
    All(Vec<Expression>),
}

impl Expression {
    fn parse(text: &str) -> Result<Self> {
        let mut words = words(text).collect::<Vec<_>>().into_iter().peekable();
        let expression = Self::any(&mut words)?;
        match words.next() {
            None => Ok(expression),
            Some(word) => bail!("`{word}` is unexpected in `{text}`"),
        }
    }

    fn any<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Result<Self> {
        let mut choices = vec![Self::all(words)?];
        while words.next_if(|word| matches!(*word, "OR" | "/")).is_some() {
            choices.push(Self::all(words)?);
        }
        Ok(Self::Any(choices))
    }

    fn all<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Result<Self> {
        let mut parts = vec![Self::one(words)?];
        while words.next_if_eq(&"AND").is_some() {
            parts.push(Self::one(words)?);
        }
        Ok(Self::All(parts))
    }

    fn one<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Result<Self> {
        match words.next() {
            Some("(") => {
                let inner = Self::any(words)?;
                ensure!(words.next() == Some(")"), "`)` is missing");
                Ok(inner)
            }
            Some(word) if !matches!(word, ")" | "OR" | "AND" | "WITH" | "/") => {
                if words.next_if_eq(&"WITH").is_some() {
                    words.next().context("the exception is missing")?;
                }
                Ok(Self::Licence(word.to_owned()))
            }
            other => bail!("a licence is expected, not {other:?}"),
        }
    }

    fn is_met_by(&self, allowed: &BTreeSet<String>) -> bool {
        match self {
            Self::Licence(name) => allowed.contains(name),
            Self::Any(choices) => choices.iter().any(|choice| choice.is_met_by(allowed)),
            Self::All(parts) => parts.iter().all(|part| part.is_met_by(allowed)),
        }
    }
}

/// Names, operators and parentheses. Old packages write `MIT/Apache-2.0` for a choice.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(['(', ')', '/', ' '])
        .flat_map(|piece| {
            let end = piece.len() - usize::from(piece.ends_with(['(', ')', '/', ' ']));
            [&piece[..end], piece[end..].trim()]
        })
        .filter(|word| !word.is_empty())
}
