//! `--report`, `--plan` and `--rejects`: a file that somebody needs is never lost by one of them.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::Result;
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::scene::{NO_FILES, Scene, run};

/// What a file is given to, with what the parser asks for beside it.
const OPTIONS: [&[&str]; 3] = [
    &["--report"],
    &["--plan"],
    &["--ignore-errors", "--rejects"],
];

#[test]
fn what_a_run_needs_is_never_written_over() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    fs::hard_link(scene.path("from.db"), scene.path("other-name.db"))?;
    symlink("from.db", scene.path("link.db"))?;
    // No rows yet, and so nothing to lose, would be said of an empty file.
    scene.write("limits.toml", "")?;
    scene.write("from.db-journal", "")?;
    let before = scene.listing()?;
    for (place, what) in [
        ("from.db", "a file of the database of this server"),
        ("./from.files/../from.db", "the database of this server"),
        ("other-name.db", "the database of this server"),
        ("link.db", "the database of this server"),
        ("from.db-wal", "the database of this server"),
        ("from.db-journal", "the database of this server"),
        ("from.cfg", "the configuration of this server"),
        ("to.cfg", "the configuration of the target"),
        ("to.db", "a file of the target's database"),
        ("to.db-wal", "the target's database"),
        ("to.db.loading", "the target's database"),
        ("limits.toml", "the file of --limits"),
    ] {
        for option in OPTIONS {
            let options = [option, &[place, "--limits", "limits.toml"]].concat();
            let said = [what, "hint: give --", "a file of its own"];
            scene
                .migrate(&from, &to, &options)?
                .expect(2)?
                .says(&said)?;
        }
        let options = ["--report", place, "--limits", "limits.toml"];
        scene
            .verify(&from, &to, &options)?
            .expect(2)?
            .says(&[what])?;
        scene.is_as(&before)?;
    }
    Ok(())
}

#[test]
fn two_files_of_one_run_have_two_names() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    let before = scene.listing()?;
    for options in [
        ["--ignore-errors", "--report=x", "--rejects=./x"],
        ["--json", "--report=x", "--plan=from.files/../x"],
    ] {
        scene
            .migrate(&from, &to, &options)?
            .expect(2)?
            .says(&["that is what --report names"])?;
        scene.is_as(&before)?;
    }
    scene.migrate(&from, &to, &["--plan=plan"])?.expect(0)?;
    let before = scene.listing()?;
    let mut follow = scene.plikd();
    follow.arg("--config").arg(&from.config);
    follow.args(["migrate", "--plan-file=plan", "--report=plan"]);
    run(follow)?
        .expect(2)?
        .says(&["--report cannot be plan: that is the plan that is run"])?;
    let mut replay = scene.plikd();
    replay.arg("--config").arg(&from.config);
    replay.args(["migrate", "replay", "x", "--rejects=to.db"]);
    run({
        replay.arg("--to").arg(&to.config);
        replay
    })?
    .expect(2)?
    .says(&["--rejects cannot be to.db: that is a file of the target's database"])?;
    scene.is_as(&before)
}

#[test]
fn only_an_earlier_report_or_plan_is_replaced() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    scene.write("notes", "{\"program\": \"plikd\"}\n")?;
    scene.migrate(&from, &to, &["--plan=plan"])?.expect(0)?;
    let run = ["--dry-run", "--report=report"];
    scene.migrate(&from, &to, &run)?.expect(0)?;
    let before = scene.listing()?;
    for options in [
        &["--report=notes"][..],
        &["--report=plan"],
        &["--plan=notes"],
        &["--plan=report"],
    ] {
        scene
            .migrate(&from, &to, options)?
            .expect(2)?
            .says(&["not an earlier one of this kind", "hint: give --"])?;
        scene.is_as(&before)?;
    }
    let report = fs::read(scene.path("report"))?;
    let plan = fs::read(scene.path("plan"))?;
    scene.migrate(&from, &to, &["--plan=plan"])?.expect(0)?;
    scene.migrate(&from, &to, &run)?.expect(0)?;
    assert_ne!(fs::read(scene.path("report"))?, report);
    assert_ne!(fs::read(scene.path("plan"))?, plan);
    // As a script has made it, to know that the name is its own.
    scene.write("empty", "")?;
    scene.migrate(&from, &to, &["--report=empty"])?.expect(0)?;
    Ok(())
}

/// A link to a file that is not there yet is that file.
#[test]
fn what_will_be_there_is_known_by_a_link_too() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    symlink("to.db", scene.path("link.db"))?;
    symlink("second", scene.path("first"))?;
    symlink("report", scene.path("second"))?;
    let before = scene.listing()?;
    for (options, said) in [
        (
            ["--ignore-errors", "--rejects=link.db"],
            "the target's database",
        ),
        (["--verbose", "--report=link.db"], "the target's database"),
        (
            ["--verbose", "--report=to.files"],
            "the directory of the target's blobs",
        ),
        (
            ["--verbose", "--report=from.files"],
            "the directory of this server's blobs",
        ),
    ] {
        scene
            .migrate(&from, &to, &options)?
            .expect(2)?
            .says(&[said])?;
        scene.is_as(&before)?;
    }
    let options = ["--ignore-errors", "--rejects=first", "--report=report"];
    let run = scene.migrate(&from, &to, &options)?.expect(2)?;
    run.says(&["that is what --report names"])?;
    scene.is_as(&before)
}

/// Such a file would take no rows, or never end.
#[test]
fn rejects_go_to_a_regular_file_only() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    mkfifoat(CWD, scene.path("pipe"), Mode::RWXU)?;
    for file in ["pipe", "/dev/zero", "/dev/full"] {
        let rejects = format!("--rejects={file}");
        scene
            .migrate(&from, &to, &["--ignore-errors", &rejects])?
            .expect(1)?
            .says(&[file, "it is no regular file"])?;
    }
    Ok(())
}
