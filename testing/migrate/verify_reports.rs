//! `--report` and `--json` of `plikd migrate verify`.

use std::fs;
use std::io::{self, BufRead, BufReader};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::events::events;
use crate::reports::{kinds, report, troubled};
use crate::scene::{SOME, Scene, finish, signal};

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
