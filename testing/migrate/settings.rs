//! Options and configurations that mean nothing or contradict each other, and what the environment sets.

use std::path::Path;

use anyhow::Result;

use crate::places::Database;
use crate::scene::{NO_FILES, SMALL, Scene, run};

#[test]
fn options_that_exclude_each_other() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    scene
        .migrate(&from, &to, &["--metadata-only", "--data-only"])?
        .expect(2)?
        .says(&["--metadata-only", "cannot be used with"])?;
    for options in [&["--workers", "0"][..], &["--workers", "many"]] {
        scene.migrate(&from, &to, options)?.expect(2)?;
    }
    Ok(())
}

/// The administrator has a configuration, but is somewhere else.
#[test]
fn a_source_without_a_configuration_file_asks_for_it() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.local("to")?;
    if Path::new("/etc/plikd.cfg").exists() {
        return Ok(());
    }
    let mut command = scene.plikd();
    command
        .args(["migrate", "--dry-run", "--to"])
        .arg(&to.config);
    run(command)?.expect(3)?.says(&[
        "was never initialised",
        "hint: there is no configuration file, neither plikd.cfg nor /etc/plikd.cfg: name it with \
         --config; or check",
    ])?;
    Ok(())
}

#[test]
fn a_target_that_says_nothing_different() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    let to = scene.write("to.cfg", "ListenPort = 8081\n")?;
    let before = scene.listing()?;
    run(scene.migration(&from.config, &to, &[]))?
        .expect(2)?
        .says(&["to.cfg", "hint: "])?;
    run(scene.migration(&from.config, &scene.path("absent.cfg"), &[]))?.expect(2)?;
    scene.is_as(&before)?;
    Ok(())
}

/// What is mistyped would send the run to another place.
#[test]
fn a_target_with_a_setting_that_means_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    let text = "[MetadataBackendConfig]\nConectionString = \"to.db\"\n";
    let to = scene.write("to.cfg", text)?;
    let before = scene.listing()?;
    for options in [&["--dry-run"][..], &[]] {
        run(scene.migration(&from.config, &to, options))?
            .expect(2)?
            .says(&[
                "unknown key ConectionString in [MetadataBackendConfig]: did you mean \
                 ConnectionString?",
                "hint: nothing was done; correct what is named, or remove it",
            ])?;
    }
    scene.is_as(&before)?;
    Ok(())
}

/// Only a warning for the server, and the reason of what is missing then.
#[test]
fn a_misspelt_table_of_the_source_is_named_before_what_is_missing() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.local("to")?;
    let text = "DataBackend = \"s3\"\n[DataBackendConfg]\nEndpoint = \"h\"\n";
    let from = scene.write("from.cfg", text)?;
    run(scene.migration(&from, &to.config, &[]))?
        .expect(2)?
        .says(&[
            "warning: unknown table [DataBackendConfg] in ",
            "did you mean DataBackendConfig?",
            "missing endpoint",
        ])?;
    Ok(())
}

/// The setting that containers use for their own server would otherwise win over the file.
#[test]
fn the_environment_of_the_source_does_not_reach_the_target() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    let path = |name: &str| scene.path(name).display().to_string();
    let mut command = scene.migration(&scene.write("empty.cfg", "")?, &to.config, &[]);
    command.env(
        "PLIKD_METADATA_BACKEND_CONFIG",
        format!("{{\"ConnectionString\":\"{}\"}}", path("from.db")),
    );
    command.env(
        "PLIKD_DATA_BACKEND_CONFIG",
        format!("{{\"Directory\":\"{}\"}}", path("from.files")),
    );
    run(command)?.expect(0)?;
    assert_eq!(from.database.rows()?, to.database.rows()?);

    let mut command = scene.migration(&from.config, &to.config, &[]);
    command.env(
        "PLIKD_TARGET_METADATA_BACKEND_CONFIG",
        format!("{{\"ConnectionString\":\"{}\"}}", path("other.db")),
    );
    command.env(
        "PLIKD_TARGET_DATA_BACKEND_CONFIG",
        format!("{{\"Directory\":\"{}\"}}", path("other.files")),
    );
    run(command)?.expect(0)?;
    assert_eq!(
        from.database.rows()?,
        Database::Sqlite(scene.path("other.db")).rows()?
    );
    Ok(())
}
