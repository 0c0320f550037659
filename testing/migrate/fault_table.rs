//! The table of faults in the manual: each row has its test, and says what the program says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::manual::MANUAL;

const HEADING: &str = "\n## What can go wrong\n";

/// Files whose tests are all about something that goes wrong: each of them is in the table.
const ALL_OF: &[&str] = &[
    "certificates",
    "continuations",
    "kills",
    "network",
    "outage",
    "retries",
    "sync_kills",
];

struct Row<'a> {
    fault: &'a str,
    message: Vec<&'a str>,
    exits: Vec<&'a str>,
    /// `file::function`
    tests: Vec<&'a str>,
}

fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn rows() -> Result<Vec<Row<'static>>> {
    let (_, section) = MANUAL.split_once(HEADING).context(HEADING)?;
    let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
    let lines = section.lines().filter(|line| line.starts_with("| "));
    let rows = lines.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        ensure!(cells.len() == 5, "not five cells: {line}");
        Ok(Row {
            fault: cells[0],
            message: quoted(cells[2]),
            exits: cells[3].split(", ").collect(),
            tests: quoted(cells[4]),
        })
    });
    // The first is the heading.
    rows.skip(1).collect()
}

/// The names of the tests of each file of this directory, by the name of the file.
fn tests() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut tests = BTreeMap::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testing/migrate");
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let Some(name) = name.strip_suffix(".rs") else {
            continue;
        };
        let text = fs::read_to_string(&path)?;
        let names = text.split("#[test]\n").skip(1).filter_map(|test| {
            let (_, signature) = test.split_once("fn ")?;
            signature.split('(').next().map(str::to_owned)
        });
        tests.insert(name.to_owned(), names.collect());
    }
    Ok(tests)
}

/// What a file of tests has but comments, as one line each: a text may go over two.
fn code(file: &str) -> Result<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testing/migrate");
    let mut code = String::new();
    for line in fs::read_to_string(directory.join(format!("{file}.rs")))?.lines() {
        let line = line.trim_start();
        if line.starts_with("//") {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(start) => code += start,
            None => {
                code += line;
                code += "\n";
            }
        }
    }
    Ok(code)
}

#[test]
fn each_fault_of_the_manual_has_its_test() -> Result<()> {
    let (rows, tests) = (rows()?, tests()?);
    ensure!(rows.len() > 20, "only {} faults", rows.len());
    let mut named = BTreeSet::new();
    for row in rows {
        ensure!(!row.tests.is_empty(), "no test: {}", row.fault);
        named.extend(row.tests.into_iter().map(str::to_owned));
    }
    let there: BTreeSet<String> = tests
        .iter()
        .flat_map(|(file, names)| names.iter().map(move |name| format!("{file}::{name}")))
        .collect();
    let absent: Vec<_> = named.difference(&there).collect();
    ensure!(absent.is_empty(), "there are no tests {absent:#?}");
    let is_fault = |test: &&String| {
        ALL_OF
            .iter()
            .any(|file| test.starts_with(&format!("{file}::")))
    };
    let left_out: Vec<_> = there.difference(&named).filter(is_fault).collect();
    ensure!(left_out.is_empty(), "not in the manual: {left_out:#?}");
    Ok(())
}

/// A message that no test looks for in what a run prints may be said by nobody any more.
#[test]
fn the_messages_of_the_faults_are_looked_for_by_their_tests() -> Result<()> {
    for row in rows()? {
        let files = row.tests.iter().filter_map(|test| test.split("::").next());
        let code: String = files.map(code).collect::<Result<_>>()?;
        for message in row.message {
            ensure!(
                code.contains(message),
                "no test of it looks for `{message}`: {}",
                row.fault
            );
        }
    }
    Ok(())
}

#[test]
fn the_exit_codes_of_the_faults_are_explained() -> Result<()> {
    let (_, section) = MANUAL
        .split_once("\n## Exit codes\n")
        .context("exit codes")?;
    let lines = section.lines().filter_map(|line| line.strip_prefix("| "));
    let codes = lines.filter_map(|line| line.split(" |").next());
    let codes: BTreeSet<&str> = codes.flat_map(|codes| codes.split(", ")).collect();
    for row in rows()? {
        ensure!(!row.exits.is_empty(), "no exit code: {}", row.fault);
        for exit in &row.exits {
            ensure!(codes.contains(exit), "{exit}: {}", row.fault);
        }
    }
    Ok(())
}
