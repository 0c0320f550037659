//! The list of what is checked before a run.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::events::events;
use crate::places::{Database, Store};
use crate::scene::{SMALL, Scene};

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
