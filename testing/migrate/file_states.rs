//! Every file is counted in the one state it is in after a run.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::places::Database;
use crate::reports::report;
use crate::scene::{SMALL, Scene, Server};

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
