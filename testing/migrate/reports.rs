//! `--report` and `--json`: what `docs/operations/migration-report.md` promises to programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead, BufReader};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::places::{Database, Store};
use crate::scene::{NO_FILES, Run, SMALL, SOME, Scene, Server, finish, signal, wait_until};

const MANUAL: &str = include_str!("../../docs/operations/migration-report.md");

/// The cells of the rows of the table under a heading, of whatever level.
fn table(heading: &str) -> Result<Vec<Vec<&'static str>>> {
    let sections = MANUAL.split("\n## ");
    let mut sections = sections.flat_map(|section| section.split("\n### "));
    let section = sections.find(|section| section.starts_with(heading));
    let section = section.with_context(|| format!("no section `{heading}`"))?;
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &'static str| row.split('|').map(str::trim).skip(1).collect();
    Ok(rows.map(cells).collect())
}

/// The words between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The documented fields of the report, each with its types.
fn fields() -> Result<BTreeMap<String, BTreeSet<&'static str>>> {
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

fn type_of(value: &Value) -> &'static str {
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
fn flatten(path: &str, value: &Value, seen: &mut BTreeMap<String, BTreeSet<&'static str>>) {
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

fn report(scene: &Scene) -> Result<Value> {
    let text = fs::read_to_string(scene.path("report.json"))?;
    serde_json::from_str(&text).with_context(|| text)
}

fn kinds(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().into_iter().flatten();
    let mut kinds: Vec<&str> = findings
        .filter_map(|found| found["kind"].as_str())
        .collect();
    kinds.sort_unstable();
    kinds
}

/// Events of a run with `--json`; every line is one.
fn events(run: &Run) -> Result<Vec<Value>> {
    let parse = |line| serde_json::from_str(line).with_context(|| format!("`{line}`"));
    let events: Vec<Value> = run.stdout.lines().map(parse).collect::<Result<_>>()?;
    let name = |event: Option<&Value>| event.map(|event| event["event"].clone());
    ensure!(name(events.first()) == Some("start".into()), "{run}");
    ensure!(name(events.last()) == Some("end".into()), "{run}");
    ensure!(
        events.last().map(|end| &end["exit_code"]) == run.code.map(Value::from).as_ref(),
        "{run}"
    );
    Ok(events)
}

fn names(events: &[Value]) -> BTreeSet<&str> {
    let names = events.iter().filter_map(|event| event["event"].as_str());
    names.collect()
}

/// What a program is told of the rows and blobs that change or go.
#[test]
fn each_row_and_blob_that_a_run_changes_is_told_to_programs() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    from.database.add_upload("theUpload")?;
    from.database
        .add_file("theFile", "theUpload", "uploaded", b"bytes")?;
    from.store.put("theFile", b"bytes")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let user = from.database.value("SELECT min(id) FROM users")?;
    for sql in [
        "DELETE FROM files WHERE id = 'theFile'",
        "DELETE FROM uploads WHERE id = 'theUpload'",
        &format!("UPDATE users SET name = 'another' WHERE id = '{user}'"),
    ] {
        from.database.query(sql)?;
    }
    let options = ["--sync", "--delete", "--json", "--report", "report.json"];
    let dry = scene.migrate(&from, &to, &[&options[..], &["--dry-run"]].concat())?;
    let expected = ["blob_deleted", "deleted", "deleted", "updated"];
    events(&dry.expect(0)?)?;
    assert_eq!(kinds(&report(&scene)?), expected);
    let run = scene.migrate(&from, &to, &options)?.expect(0)?;
    assert_eq!(kinds(&report(&scene)?), expected);
    let told: Vec<[String; 2]> = events(&run)?
        .iter()
        .filter(|event| {
            let name = event["event"].as_str().unwrap_or_default();
            ["updated", "deleted", "blob_deleted"].contains(&name)
        })
        .map(|event| {
            ["table", "key"].map(|field| {
                let value = match event["event"] == "blob_deleted" {
                    true => &event[if field == "key" { "file" } else { "upload" }],
                    false => &event[field],
                };
                value.as_str().unwrap_or_default().to_owned()
            })
        })
        .collect();
    let expected = [
        ["users", &user],
        ["files", "theFile"],
        ["uploads", "theUpload"],
        ["theUpload", "theFile"],
    ];
    assert_eq!(told, expected.map(|pair| pair.map(str::to_owned)));
    Ok(())
}

/// More of them than a person reads.
#[test]
fn many_changes_are_named_on_request() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 50) \
         INSERT INTO uploads (id) SELECT 'many' || n FROM n";
    from.database.query(many)?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    for (option, named) in [("--json", 0), ("--sync", 20), ("-v", 50)] {
        from.database.query(&format!(
            "UPDATE uploads SET comments = '{option}' WHERE id LIKE 'many%'"
        ))?;
        let options: &[&str] = match option {
            "--sync" => &["--sync"],
            option => &["--sync", option],
        };
        let run = scene.migrate(&from, &to, options)?.expect(0)?;
        let lines = run.stderr.lines();
        let updated = lines.filter(|line| line.starts_with("updated: uploads many"));
        assert_eq!(updated.count(), named, "{run}");
        assert_eq!(run.stderr.contains("-v names all"), named == 20, "{run}");
    }
    Ok(())
}

/// A target that others have worked on for long.
#[test]
fn many_conflicts_and_rows_of_the_target_are_named_on_request() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    let many = |name: &str| {
        format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 50) \
             INSERT INTO uploads (id) SELECT '{name}' || n FROM n"
        )
    };
    from.database.query(&many("both"))?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    to.database.query(&many("mine"))?;
    to.database
        .query("UPDATE uploads SET comments = 'mine' WHERE id LIKE 'both%'")?;
    let capped = [
        "the first 20 rows in conflict are named above; -v names all",
        "the first 20 rows that only the target has are named above; -v names all",
    ];
    for (options, named) in [
        (&[][..], 20),
        (&["-v"], 50),
        (&["--dry-run"], 20),
        (&["--dry-run", "-v"], 50),
    ] {
        let run = scene.migrate(&from, &to, options)?.expect(20)?;
        let said = |start: &str| {
            let lines = run.stdout.lines().chain(run.stderr.lines());
            lines.filter(|line| line.starts_with(start)).count()
        };
        let (conflict, extra) = match options.contains(&"--dry-run") {
            true => ("conflict  uploads both", "extra     uploads mine"),
            false => ("conflict: uploads both", "extra: uploads mine"),
        };
        assert_eq!(said(conflict), named, "{run}");
        assert_eq!(said(extra), named, "{run}");
        for line in capped {
            assert_eq!(said(line), usize::from(named == 20), "{run}");
        }
    }
    Ok(())
}

/// Two servers with something of everything that can be found between them.
fn troubled(scene: &Scene) -> Result<(Server, Server)> {
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

const TROUBLE: [&str; 4] = ["blob_failed", "blob_skipped", "conflict", "extra"];

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

/// What a verification finds, as its report and its events have it.
#[test]
fn a_verification_tells_programs_every_difference() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = troubled(&scene)?;
    let options = ["--json", "--report", "report.json"];
    let run = scene.verify(&from, &to, &options)?.expect(21)?;
    let report = report(&scene)?;
    assert_eq!(
        kinds(&report),
        [
            "different",
            "extra",
            "file_without_row",
            "missing",
            "missing",
            "missing",
            "missing"
        ]
    );
    let finding = |kind: &str| {
        let findings = report["findings"].as_array().into_iter().flatten();
        let mut of_kind = findings.filter(|found| found["kind"] == kind);
        of_kind.next().cloned().unwrap_or_default()
    };
    assert_eq!(finding("different")["columns"], serde_json::json!(["name"]));
    assert_eq!(finding("extra")["key"], "extraUpload");
    assert_eq!(finding("file_without_row")["file"], "failedFile");
    let told: Vec<(Value, Value)> = events(&run)?
        .into_iter()
        .filter(|event| {
            ["row_difference", "file_difference"]
                .map(Value::from)
                .contains(&event["event"])
        })
        .map(|event| (event["standing"].clone(), event["key"].clone()))
        .collect();
    assert_eq!(told.len(), 7, "{run}");
    let table = |name: &str| {
        let tables = report["tables"].as_array().into_iter().flatten();
        let mut of_name = tables.filter(|table| table["table"] == name);
        of_name.next().cloned().unwrap_or_default()
    };
    assert_eq!(table("users")["different"], 1);
    assert_eq!(table("uploads")["extra"], 1);
    assert_eq!(table("files")["missing"], 2);
    ensure!(table("users")["proof"]["from"]["digest"] != table("users")["proof"]["to"]["digest"]);
    ensure!(
        report["to"]["metadata"]["identity"].is_string(),
        "{report:#}"
    );
    Ok(())
}

#[test]
fn a_verification_names_more_differences_to_programs_than_to_people() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    // More than are looked at again.
    from.database.query(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1200) \
         INSERT INTO uploads (id) SELECT 'new' || n FROM n",
    )?;
    let options = ["--metadata-only", "--report", "report.json"];
    scene
        .verify(&from, &to, &options)?
        .expect(21)?
        .says(&["1,200 missing", "and 1,100 more"])?;
    assert_eq!(kinds(&report(&scene)?), ["missing"; 1200]);
    Ok(())
}

#[test]
fn an_interrupted_verification_tells_it_and_leaves_its_report() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SOME)?, scene.local("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let before = scene.listing()?;
    for (asked, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let options = [
            "--deep",
            "--bwlimit=1KiB",
            "--json",
            "--report",
            "report.json",
        ];
        let mut cut = scene.verification(&from, &to, &options).spawn()?;
        let said = cut.stdout.take().context("what it says")?;
        let mut lines = BufReader::new(said).lines();
        let is_begin = |line: &io::Result<String>| {
            let line = line.as_ref();
            line.is_ok_and(|line| line.contains("\"event\":\"blobs_begin\""))
        };
        lines.find(is_begin).context("no blob was begun")??;
        signal(&cut, asked)?;
        finish(cut)?.expect(code)?;
        let report = report(&scene)?;
        assert_eq!(report["exit_code"], code);
        let error = report["error"].as_str().unwrap_or_default();
        ensure!(error.ends_with("interrupted"), "{report:#}");
        ensure!(
            report["file_states"].is_null() && report["phase"] == "blobs",
            "{report:#}"
        );
        let done = &report["blobs_done"];
        ensure!(
            done["bytes"].as_u64() < done["bytes_total"].as_u64(),
            "{report:#}"
        );
        fs::remove_file(scene.path("report.json"))?;
    }
    scene.is_as(&before)
}

/// The files of each state, without those that no file is in.
fn states(report: &Value) -> BTreeMap<&str, u64> {
    let states = report["file_states"].as_array().into_iter().flatten();
    let states =
        states.filter_map(|state| Some((state["state"].as_str()?, state["files"].as_u64()?)));
    states.filter(|(_, files)| *files > 0).collect()
}

fn every_file_is_counted_once(scene: &Scene, to: Server) -> Result<()> {
    let from = scene.made_up("from", SMALL)?;
    let count = |condition: &str| -> Result<u64> {
        let count = from
            .database
            .value(&format!("SELECT count(*) FROM files WHERE {condition}"))?;
        Ok(count.parse()?)
    };
    scene
        .migrate(&from, &to, &["--report", "report.json"])?
        .expect(0)?;
    let whole = report(scene)?;
    let no_blob = count("status NOT IN ('uploaded', 'removed')")?;
    assert_eq!(states(&whole)["no_blob"], no_blob);
    assert_eq!(states(&whole).values().sum::<u64>(), count("true")?);
    // What every run has that found nothing wrong.
    ensure!(
        states(&whole)
            .keys()
            .all(|state| ["equal", "no_blob", "gone"].contains(state))
    );

    from.database.add_upload("theUpload")?;
    for (id, upload, status) in [
        ("failedFile", "theUpload", "uploaded"),
        ("goneFile", "theUpload", "removed"),
        ("orphanFile", "nobody", "uploaded"),
        ("rejectedFile", "theUpload", "missing"),
        ("newFile", "theUpload", "uploaded"),
    ] {
        from.database.add_file(id, upload, status, b"bytes")?;
    }
    for id in ["orphanFile", "newFile"] {
        from.store.put(id, b"bytes")?;
    }
    from.database.query(
        "UPDATE files SET name = 'another' WHERE id = (SELECT min(id) FROM files WHERE status = 'uploaded')",
    )?;
    let rejected = matches!(to.database, Database::Postgres { .. });
    if rejected {
        from.database
            .query("UPDATE files SET name = CAST(x'410042' AS TEXT) WHERE id = 'rejectedFile'")?;
    }
    let options = [
        "--ignore-errors",
        "--fix-orphans",
        "--report",
        "report.json",
    ];
    let run = scene.migrate(&from, &to, &options)?.expect(20)?;
    let mut expected = states(&whole);
    for (state, more) in [
        ("blob_failed", 1),
        ("gone", 1),
        ("left_out", 1),
        ("conflict", 1),
    ] {
        *expected.entry(state).or_default() += more;
    }
    // As many are equal as before: one is new, one is in conflict now.
    *expected
        .entry(if rejected { "rejected" } else { "no_blob" })
        .or_default() += 1;
    let found = report(scene)?;
    assert_eq!(states(&found), expected, "{run}");
    assert_eq!(states(&found).values().sum::<u64>(), count("true")?);
    run.says(&["row and blob of each file:", "1 blob failed"])?;
    // Nobody looked, or not at both halves.
    for option in ["--no-verify", "--metadata-only", "--data-only"] {
        let options = [
            "--ignore-errors",
            "--fix-orphans",
            "--report",
            "report.json",
            option,
        ];
        scene.migrate(&from, &to, &options)?;
        ensure!(report(scene)?["file_states"].is_null(), "{option}");
    }
    Ok(())
}

#[test]
fn every_file_is_in_exactly_one_state_after_a_run() -> Result<()> {
    let scene = Scene::new()?;
    every_file_is_counted_once(&scene, scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn every_file_is_in_exactly_one_state_after_a_run_to_postgres() -> Result<()> {
    let scene = Scene::new()?;
    every_file_is_counted_once(&scene, scene.postgres("to")?)
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
    let before = scene.listing()?;
    for place in ["absent/report.json", "from.files", "/dev/null"] {
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

/// Told only by loads into an empty database, where something fails that can pass, where the limits
/// change, and where PostgreSQL makes room.
const SELDOM: [&str; 7] = [
    "fresh_begin",
    "fresh_abandoned",
    "keys",
    "retry",
    "limits",
    "dropped",
    "would_drop",
];

#[test]
fn events_have_the_fields_of_the_manual_and_no_others() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = troubled(&scene)?;
    from.database.query(
        "CREATE TABLE made (id integer PRIMARY KEY, twice integer GENERATED ALWAYS AS (id * 2))",
    )?;
    let mut documented = BTreeMap::new();
    for row in table("The events")? {
        let name = quoted(row[0]).next().context("a name")?;
        let fields: BTreeSet<String> = quoted(row[1])
            .chain(["event".to_owned(), "time".to_owned()])
            .collect();
        documented.insert(name, fields);
    }
    let mut seen = BTreeSet::new();
    from.database
        .query("INSERT INTO settings (key, value) VALUES ('old', 'value')")?;
    let mut all = Vec::new();
    for (options, code) in [
        (&["--dry-run", "--json"][..], 1),
        (&["--ignore-errors", "--json"], 20),
    ] {
        let run = scene.migrate(&from, &to, options)?.expect(code)?;
        all.extend(events(&run)?);
    }
    from.database
        .query("DELETE FROM settings WHERE key = 'old'")?;
    from.database.query(
        "UPDATE files SET status = 'deleted' WHERE id = \
         (SELECT min(id) FROM files WHERE status = 'uploaded' AND id <> 'failedFile')",
    )?;
    from.database.query("CREATE TABLE keyless (text text)")?;
    let options = ["--ignore-errors", "--sync", "--delete", "--json"];
    let run = scene.migrate(&from, &to, &options)?.expect(20)?;
    all.extend(events(&run)?);
    to.store.put("strayFile", b"stray")?;
    all.extend(events(&scene.verify(&from, &to, &["--json"])?.expect(21)?)?);
    for event in all {
        let name = event["event"].as_str().context("a name")?.to_owned();
        let fields: BTreeSet<String> = event
            .as_object()
            .context("an object")?
            .keys()
            .cloned()
            .collect();
        assert_eq!(Some(&fields), documented.get(&name), "{event}");
        let time = event["time"].as_str().context("a time")?;
        time.parse::<jiff::Timestamp>()?;
        seen.insert(name);
    }
    let absent: Vec<_> = documented
        .keys()
        .filter(|name| !seen.contains(*name) && !SELDOM.contains(&name.as_str()))
        .collect();
    ensure!(absent.is_empty(), "never told: {absent:?}");
    Ok(())
}

#[test]
fn a_failure_ends_the_events_with_its_reason() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let run = scene.migrate(&from, &from, &["--json"])?.expect(2)?;
    let events = events(&run)?;
    let end = events.last().context("an end")?;
    ensure!(
        end["error"]
            .as_str()
            .is_some_and(|error| error.contains("2 problems"))
    );
    ensure!(
        end["hint"].is_string() && end["problems"].as_array().is_some_and(|all| all.len() == 2)
    );
    // Also where the configuration of the target is not even readable.
    let absent = scene.path("absent.cfg");
    let run = crate::scene::run(scene.migration(&from.config, &absent, &["--json"]))?.expect(2)?;
    assert_eq!(names(&self::events(&run)?).len(), 2);
    Ok(())
}

/// The names of the checks, by what they came to.
fn checks(events: &[Value], verdict: &str) -> Vec<String> {
    let checks = events.iter().filter(|event| event["event"] == "check");
    let of_verdict = checks.filter(|check| check["verdict"] == verdict);
    of_verdict
        .filter_map(|check| check["name"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn what_was_checked_is_listed_at_the_beginning_and_by_a_dry_run() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    let expected = [
        "source metadata",
        "target metadata",
        "source data",
        "target data",
        "places",
        "space",
    ];
    for options in [&["--dry-run"][..], &[]] {
        let run = scene
            .migrate(&from, &to, &[options, &["--json"]].concat())?
            .expect(0)?;
        let passed = checks(&events(&run)?, "passed");
        for name in expected {
            ensure!(passed.iter().any(|passed| passed == name), "{name}: {run}");
        }
    }
    scene
        .migrate(&from, &to, &[])?
        .expect(0)?
        .says(&["✓ places: source and target are apart"])?;
    let run = scene.migrate(&from, &from, &["--json"])?.expect(2)?;
    assert_eq!(checks(&events(&run)?, "failed"), ["places", "places"]);
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn services_are_asked_how_they_are_set_up() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let to = scene.server("to", Database::postgres()?, Store::bucket()?)?;
    // The bucket must be there to be asked about.
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let run = scene
        .migrate(&from, &to, &["--json", "--dry-run"])?
        .expect(0)?;
    let events = events(&run)?;
    ensure!(checks(&events, "failed").is_empty(), "{run}");
    let all = ["passed", "doubtful", "unknown"]
        .map(|verdict| checks(&events, verdict))
        .concat();
    for name in [
        "clock",
        "versions",
        "object lock",
        "lifecycle rules",
        "encryption",
        "connections",
    ] {
        ensure!(all.iter().any(|known| known == name), "{name}: {run}");
    }
    ensure!(
        checks(&events, "passed").contains(&"clock".to_owned()),
        "{run}"
    );
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
