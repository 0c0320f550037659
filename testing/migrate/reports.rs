//! `--report`: what `docs/operations/migration-report.md` promises to programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::events::events;
use crate::places::{Database, Store};
use crate::scene::{NO_FILES, SMALL, SOME, Scene, Server, finish, signal, wait_until};

const MANUAL: &str = include_str!("../../docs/operations/migration-report.md");

/// The cells of the rows of the table under a heading, of whatever level.
pub fn table(heading: &str) -> Result<Vec<Vec<&'static str>>> {
    let sections = MANUAL.split("\n## ");
    let mut sections = sections.flat_map(|section| section.split("\n### "));
    let section = sections.find(|section| section.starts_with(heading));
    let section = section.with_context(|| format!("no section `{heading}`"))?;
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &'static str| row.split('|').map(str::trim).skip(1).collect();
    Ok(rows.map(cells).collect())
}

/// The words between backquotes.
pub fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The documented fields of the report, each with its types.
pub fn fields() -> Result<BTreeMap<String, BTreeSet<&'static str>>> {
    let mut fields = BTreeMap::new();
    for row in table("The report")? {
        for name in quoted(row[0]) {
            let mirrored = name.strip_prefix("from.").map(|rest| format!("to.{rest}"));
            for name in std::iter::once(name).chain(mirrored) {
                fields.insert(name, row[1].split(" or ").collect());
            }
        }
    }
    ensure!(fields.len() > 50, "the table was not read: {fields:?}");
    Ok(fields)
}

pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Every field below `value`, as the manual writes it, with the types it was seen with.
pub fn flatten(path: &str, value: &Value, seen: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                seen.entry(path.clone()).or_default().insert(type_of(value));
                flatten(&path, value, seen);
            }
        }
        Value::Array(items) => {
            for item in items {
                flatten(&format!("{path}[]"), item, seen);
            }
        }
        _ => {}
    }
}

pub fn report(scene: &Scene) -> Result<Value> {
    let text = fs::read_to_string(scene.path("report.json"))?;
    serde_json::from_str(&text).with_context(|| text)
}

pub fn kinds(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().into_iter().flatten();
    let mut kinds: Vec<&str> = findings
        .filter_map(|found| found["kind"].as_str())
        .collect();
    kinds.sort_unstable();
    kinds
}

/// Two servers with something of everything that can be found between them.
pub fn troubled(scene: &Scene) -> Result<(Server, Server)> {
    let from = scene.made_up("from", SMALL)?;
    let to = scene.local("to")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    from.database.add_upload("theUpload")?;
    for (id, status) in [("failedFile", "uploaded"), ("skippedFile", "removed")] {
        from.database.add_file(id, "theUpload", status, b"gone")?;
    }
    from.database
        .query("UPDATE users SET name = 'another' WHERE id = (SELECT min(id) FROM users)")?;
    from.database
        .query("UPDATE uploads SET comments = CAST(x'410042' AS TEXT) WHERE id = 'theUpload'")?;
    from.database
        .query("INSERT INTO tokens (token, user_id) VALUES ('orphan', 'nobody')")?;
    to.database.add_upload("extraUpload")?;
    Ok((from, to))
}

pub const TROUBLE: [&str; 4] = ["blob_failed", "blob_skipped", "conflict", "extra"];

/// Reports of a run that fails, of one that finds everything, and of one that cannot start.
#[test]
fn a_report_has_the_fields_of_the_manual_and_no_others() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = troubled(&scene)?;
    let mut seen = BTreeMap::new();
    let mut take = |options: &[&str], to: &Server, code: i32| -> Result<Value> {
        let options = [&["--report", "report.json"], options].concat();
        scene.migrate(&from, to, &options)?.expect(code)?;
        let report = report(&scene)?;
        assert_eq!(report["exit_code"], code);
        flatten("", &report, &mut seen);
        Ok(report)
    };
    let failed = take(&[], &to, 1)?;
    assert_eq!(failed["phase"], "blobs");
    ensure!(
        failed["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("--ignore-errors"))
    );
    take(&["--dry-run"], &to, 1)?;
    take(&["--dry-run", "--ignore-errors"], &to, 20)?;
    take(&["--metadata-only"], &to, 20)?;
    let found = take(&["--ignore-errors"], &to, 20)?;
    for kind in TROUBLE {
        ensure!(kinds(&found).contains(&kind), "no {kind}: {found:#}");
    }
    let unstartable = take(&[], &from, 2)?;
    assert_eq!(unstartable["problems"].as_array().map(Vec::len), Some(2));
    to.store.put("strayFile", b"stray")?;
    scene
        .verify(
            &from,
            &to,
            &["--report", "report.json", "--max-rps=900", "--nice=0"],
        )?
        .expect(21)?;
    let verified = report(&scene)?;
    assert_eq!(verified["exit_code"], 21);
    flatten("", &verified, &mut seen);
    let states = [&found, &verified].map(|report| report["file_states"].as_array());
    let states = states.into_iter().flatten().flatten();
    let states: BTreeSet<&str> = states.filter_map(|state| state["state"].as_str()).collect();
    let known = table("States of files")?;
    let known: BTreeSet<String> = known.iter().flat_map(|row| quoted(row[0])).collect();
    assert_eq!(states, known.iter().map(String::as_str).collect());

    let documented = fields()?;
    let undocumented: Vec<_> = seen
        .iter()
        .filter(|(name, types)| {
            documented
                .get(*name)
                .is_none_or(|known| !types.is_subset(known))
        })
        .collect();
    ensure!(
        undocumented.is_empty(),
        "not in the manual: {undocumented:#?}"
    );
    let absent: Vec<_> = documented
        .keys()
        .filter(|name| !seen.contains_key(*name))
        .collect();
    ensure!(absent.is_empty(), "never in a report: {absent:#?}");
    Ok(())
}

#[test]
fn a_report_counts_what_the_summary_counts() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    let run = scene
        .migrate(&from, &to, &["--report", "report.json"])?
        .expect(0)?;
    let report = report(&scene)?;
    let tables = report["tables"].as_array().context("tables")?;
    for table in tables {
        let name = table["table"].as_str().context("a name")?;
        assert_eq!(table["copied"], run.summary(name)?.copied, "{name}");
        assert_eq!(table["rows_done"], from.database.count(name)?, "{name}");
    }
    ensure!(tables.len() > 4, "{report:#}");
    assert_eq!(report["blobs"]["copied"], run.summary("blobs")?.copied);
    assert_eq!(
        report["blobs_done"]["blobs"],
        report["blobs_done"]["blobs_total"]
    );
    assert_eq!(
        report["blobs_done"]["bytes"],
        report["blobs_done"]["bytes_total"]
    );
    ensure!(kinds(&report).is_empty());
    let identity = |end: &str| report[end]["metadata"]["identity"].clone();
    ensure!(identity("from").is_string() && identity("to").is_null());
    Ok(())
}

#[test]
fn a_report_that_cannot_be_written_is_found_before_anything_is_done() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    fs::create_dir(scene.path("reports"))?;
    let before = scene.listing()?;
    for place in ["absent/report.json", "reports", "/dev/null"] {
        scene
            .migrate(&from, &to, &["--report", place])?
            .expect(2)?
            .says(&["cannot write a report to", place, "hint: give --report"])?;
        let told = scene
            .migrate(&from, &to, &["--json", "--report", place])?
            .expect(2)?;
        events(&told)?;
    }
    scene.is_as(&before)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn rejects_that_end_a_run_are_in_its_report() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    from.database
        .query("INSERT INTO users (id, name) VALUES (x'6162', 'bytes')")?;
    let files = Store::Directory(scene.path("to.files"));
    let to = scene.server("to", Database::postgres()?, files)?;
    let options = ["--metadata-only", "--report", "report.json"];
    scene.migrate(&from, &to, &options)?.expect(1)?;
    let report = report(&scene)?;
    assert_eq!(kinds(&report), ["reject"]);
    assert_eq!(report["findings"][0]["table"], "users");
    Ok(())
}

#[test]
fn an_interrupted_run_tells_it_and_leaves_its_report() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SOME)?;
    for (asked, code, name) in [
        (Signal::INT, 130, "one"),
        (Signal::TERM, 143, "other"),
        (Signal::HUP, 129, "third"),
    ] {
        let to = scene.local(name)?;
        let options = ["--json", "--report", "report.json", "--workers=1"];
        let cut = scene
            .migration(&from.config, &to.config, &options)
            .spawn()?;
        wait_until("blobs arrive", || {
            Ok(scene.path(&format!("{name}.files")).exists())
        })?;
        signal(&cut, asked)?;
        let run = finish(cut)?.expect(code)?;
        events(&run)?;
        let report = report(&scene)?;
        assert_eq!(report["exit_code"], code);
        ensure!(
            report["blobs"].is_null() && report["error"] == "interrupted",
            "{report:#}"
        );
        fs::remove_file(scene.path("report.json"))?;
    }
    Ok(())
}

#[test]
fn a_killed_run_leaves_no_report_that_looks_like_one() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.local("to")?);
    let cut = scene
        .migration(&from.config, &to.config, &["--report", "report.json"])
        .spawn()?;
    wait_until("blobs arrive", || Ok(scene.path("to.files").exists()))?;
    signal(&cut, Signal::KILL)?;
    finish(cut)?;
    ensure!(!scene.path("report.json").exists());
    scene
        .migrate(&from, &to, &["--report", "report.json"])?
        .expect(0)?;
    assert_eq!(report(&scene)?["exit_code"], 0);
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn no_secret_is_in_a_report_or_an_event() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let to = scene.server("to", Database::postgres()?, Store::bucket()?)?;
    let Store::Bucket { server, .. } = &to.store else {
        unreachable!("a bucket was made")
    };
    let mut secrets: Vec<String> = from.database.query("SELECT token FROM tokens")?.concat();
    for url in [server.clone(), to.database.url()] {
        let password = url
            .split("://")
            .nth(1)
            .and_then(|rest| rest.split('@').next());
        let password = password
            .and_then(|both| both.split(':').nth(1))
            .context("a password")?;
        secrets.push(password.to_owned());
    }
    for options in [&["--dry-run", "-v"][..], &[]] {
        let options = [&["--json", "--report", "report.json"], options].concat();
        let run = scene.migrate(&from, &to, &options)?.expect(0)?;
        let report = fs::read_to_string(scene.path("report.json"))?;
        events(&run)?;
        for secret in &secrets {
            ensure!(
                !secret.is_empty() && !report.contains(secret),
                "in the report: {secret}"
            );
            ensure!(
                !run.stdout.contains(secret) && !run.stderr.contains(secret),
                "{secret}"
            );
        }
    }
    let report = report(&scene)?;
    assert_eq!(report["to"]["metadata"]["driver"], "postgres");
    assert_eq!(report["to"]["data"]["driver"], "s3");
    Ok(())
}
