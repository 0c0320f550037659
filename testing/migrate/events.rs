//! `--json`: an event a line, as `docs/operations/migration-report.md` promises them to programs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::reports::{kinds, quoted, report, table, troubled};
use crate::scene::{Run, SMALL, Scene};

/// Events of a run with `--json`; every line is one.
pub fn events(run: &Run) -> Result<Vec<Value>> {
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

pub fn names(events: &[Value]) -> BTreeSet<&str> {
    let names = events.iter().filter_map(|event| event["event"].as_str());
    names.collect()
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
