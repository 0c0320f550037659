//! `plikd migrate verify`: whatever differs between two servers is found and named, and nothing is
//! written.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::places::{Database, Store};
use crate::scene::{NO_FILES, SMALL, Scene, Server};

/// Two servers that a migration has just made equal, with three files to play with.
fn equal_servers(scene: &Scene, to: Server) -> Result<(Server, Server)> {
    let from = scene.made_up("from", SMALL)?;
    from.database.add_upload("theUpload")?;
    for id in ["aaFile", "mmFile", "zzFile"] {
        from.database
            .add_file(id, "theUpload", "uploaded", id.as_bytes())?;
        from.store.put(id, id.as_bytes())?;
    }
    scene.migrate(&from, &to, &[])?.expect(0)?;
    Ok((from, to))
}

fn rows_are_named(scene: &Scene, to: Server) -> Result<()> {
    let (from, to) = equal_servers(scene, to)?;
    scene.verify(&from, &to, &[])?.expect(0)?.says(&["equal"])?;
    for sql in [
        "DELETE FROM files WHERE id = 'aaFile'",
        "UPDATE files SET name = 'other', size = 7 WHERE id = 'mmFile'",
    ] {
        to.database.query(sql)?;
    }
    to.database.add_upload("strayUpload")?;
    scene
        .verify(&from, &to, &[])?
        .expect(21)?
        .says(&[
            "missing: files aaFile",
            "different: files mmFile: name, size",
            "extra: uploads strayUpload",
            "1 missing, 1 different",
            "1 without row in the target",
            "target: blob aaFile of upload theUpload: its row is not in the target",
        ])?
        .never_says(&["zzFile"])?;
    // Each half alone sees its own.
    scene.verify(&from, &to, &["--data-only"])?.expect(0)?;
    scene
        .verify(&from, &to, &["--metadata-only"])?
        .expect(21)?
        .says(&["missing: files aaFile"])?
        .never_says(&["its row is not in the target"])?;
    Ok(())
}

#[test]
fn rows_that_differ_are_named_with_their_columns() -> Result<()> {
    let scene = Scene::new()?;
    rows_are_named(&scene, scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn rows_that_differ_are_named_with_their_columns_in_postgres() -> Result<()> {
    let scene = Scene::new()?;
    rows_are_named(&scene, scene.postgres("to")?)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn two_postgres_databases_are_compared() -> Result<()> {
    let scene = Scene::new()?;
    let (_, from) = equal_servers(&scene, scene.postgres("to")?)?;
    let store = Store::Directory(scene.path("third.files"));
    let to = scene.server("third", Database::postgres()?, store)?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    scene.verify(&from, &to, &["--deep"])?.expect(0)?;
    to.database
        .query("UPDATE uploads SET comments = 'other' WHERE id = 'theUpload'")?;
    scene
        .verify(&from, &to, &[])?
        .expect(21)?
        .says(&["different: uploads theUpload: comments"])?;
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_migration_back_is_verified_too() -> Result<()> {
    let scene = Scene::new()?;
    let (_, from) = equal_servers(&scene, scene.postgres("to")?)?;
    let to = scene.local("third")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    scene.verify(&from, &to, &["--deep"])?.expect(0)?;
    to.database.query("DELETE FROM files WHERE id = 'zzFile'")?;
    scene
        .verify(&from, &to, &[])?
        .expect(21)?
        .says(&["missing: files zzFile"])?;
    Ok(())
}

#[test]
fn a_blob_that_is_gone_or_cut_is_found_without_reading_it() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = equal_servers(&scene, scene.local("to")?)?;
    to.store.put("aaFile", b"aa")?;
    fs::remove_file(to.store.path_of("mmFile"))?;
    fs::remove_file(from.store.path_of("zzFile"))?;
    let named = |side: &str, server: &Server, id: &str| {
        let path = server.store.path_of(id);
        format!(
            "{side}: blob {id} of upload theUpload ({}): ",
            path.display()
        )
    };
    scene.verify(&from, &to, &[])?.expect(21)?.says(&[
        &(named("target", &to, "aaFile") + "it has 2 bytes instead of 6"),
        &(named("target", &to, "mmFile") + "it is missing"),
        &(named("source", &from, "zzFile") + "it is missing"),
        "1 wrong in the source, 2 wrong in the target",
    ])?;
    fs::remove_file(from.store.path_of("mmFile"))?;
    scene.verify(&from, &to, &[])?.expect(21)?.says(&[&format!(
        "both: blob mmFile of upload theUpload (source {}; target {}): source: it is missing; \
             target: it is missing",
        from.store.path_of("mmFile").display(),
        to.store.path_of("mmFile").display()
    )])?;
    Ok(())
}

#[test]
fn a_blob_that_rotted_is_found_by_reading_it_and_its_side_is_named() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = equal_servers(&scene, scene.local("to")?)?;
    scene
        .verify(&from, &to, &["--deep", "--workers=2"])?
        .expect(0)?;
    to.store.put("aaFile", b"AAFile")?;
    from.store.put("zzFile", b"ZZFile")?;
    scene.verify(&from, &to, &[])?.expect(0)?;
    let wrong = |side: &str, path: PathBuf| {
        let path = path.display();
        format!("{side}{path}): its MD5 is not the one of its row")
    };
    scene.verify(&from, &to, &["--deep"])?.expect(21)?.says(&[
        &wrong(
            "target: blob aaFile of upload theUpload (",
            to.store.path_of("aaFile"),
        ),
        &wrong(
            "source: blob zzFile of upload theUpload (",
            from.store.path_of("zzFile"),
        ),
    ])?;
    // One that an older release stored is named where it is.
    let old = scene.path("to.files/th/theUpload/aaFile");
    fs::create_dir_all(old.parent().context("a directory")?)?;
    fs::rename(to.store.path_of("aaFile"), &old)?;
    scene
        .verify(&from, &to, &["--deep"])?
        .expect(21)?
        .says(&[&wrong("target: blob aaFile of upload theUpload (", old)])?;
    Ok(())
}

/// Nobody waits for what comes behind the bytes of the row.
#[test]
fn a_blob_that_is_much_too_long_is_not_read_to_its_end() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = equal_servers(&scene, scene.local("to")?)?;
    let blob = fs::File::options()
        .write(true)
        .open(to.store.path_of("aaFile"))?;
    // A hole: it takes no room on the disk, and to read it takes minutes.
    blob.set_len(64 << 30)?;
    let started = Instant::now();
    scene.verify(&from, &to, &["--deep"])?.expect(21)?.says(&[
        "target: blob aaFile of upload theUpload (",
        "): it has more than the 6 bytes of its row",
    ])?;
    ensure!(started.elapsed() < Duration::from_secs(20), "it was read");
    // To find out how it is, and to mend it, likewise.
    scene.migrate(&from, &to, &[])?.expect(0)?;
    scene.verify(&from, &to, &["--deep"])?.expect(0)?;
    Ok(())
}

/// Without a digest in the row the two sides still have each other.
#[test]
fn blobs_without_digest_are_compared_with_each_other() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = equal_servers(&scene, scene.local("to")?)?;
    for server in [&from, &to] {
        server
            .database
            .query("UPDATE files SET md5 = '' WHERE id = 'aaFile'")?;
    }
    scene.verify(&from, &to, &["--deep"])?.expect(0)?;
    to.store.put("aaFile", b"AAFile")?;
    scene
        .verify(&from, &to, &["--deep"])?
        .expect(21)?
        .says(&["both: blob aaFile", "no MD5 to tell"])?;
    Ok(())
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn blobs_in_a_bucket_are_verified() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.server(
        "to",
        Database::Sqlite(scene.path("to.db")),
        Store::bucket()?,
    )?;
    let (from, to) = equal_servers(&scene, to)?;
    for options in [&[][..], &["--deep"]] {
        scene.verify(&from, &to, options)?.expect(0)?;
    }
    let renamed = to
        .store
        .rename_objects(|key| key.contains("mmFile").then(|| format!("{key}x")))?;
    assert_eq!(renamed, 1);
    scene.verify(&from, &to, &[])?.expect(21)?.says(&[
        "target: blob mmFile of upload theUpload (s3://",
        "/theUpload.mmFile): it is missing",
    ])?;
    Ok(())
}

fn strays_are_told(scene: &Scene, to: Server) -> Result<()> {
    let (from, to) = equal_servers(scene, to)?;
    scene
        .verify(&from, &to, &[])?
        .expect(0)?
        .never_says(&["strays"])?;
    // A file that both sides have forgotten, and one that only the target has.
    for server in [&from, &to] {
        server
            .database
            .query("DELETE FROM files WHERE id = 'mmFile'")?;
    }
    to.database.query("DELETE FROM files WHERE id = 'zzFile'")?;
    for options in [&["--data-only"][..], &["--data-only", "--deep"]] {
        scene.verify(&from, &to, options)?.expect(0)?.says(&[
            "1 blob of the target that no row names, 6 B: no difference",
            "blob mmFile",
        ])?;
    }
    // That of a file whose row is missing is told as such.
    scene
        .verify(&from, &to, &["--report", "report.json"])?
        .expect(21)?
        .says(&[
            "1 blob of the target that no row names",
            "1 without row in the target",
        ])?;
    let report = fs::read_to_string(scene.path("report.json"))?;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    assert_eq!(
        report["strays"],
        serde_json::json!({"blobs": 1, "bytes": 6})
    );
    let findings = report["findings"].as_array().into_iter().flatten();
    let mut strays = findings.filter(|found| found["kind"] == "blob_stray");
    assert_eq!(strays.next().context("a stray")?["file"], "mmFile");
    Ok(())
}

#[test]
fn blobs_that_no_row_names_are_told_and_are_no_difference() -> Result<()> {
    let scene = Scene::new()?;
    strays_are_told(&scene, scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn blobs_that_no_row_names_are_told_and_are_no_difference_in_services() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.server("to", Database::postgres()?, Store::bucket()?)?;
    strays_are_told(&scene, to)
}

/// The states of the files, by a word, without those that none is in.
fn states(scene: &Scene) -> Result<Vec<(String, u64)>> {
    let report = fs::read_to_string(scene.path("report.json"))?;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    let states = report["file_states"].as_array().into_iter().flatten();
    let states = states.map(|state| {
        let word = state["state"].as_str().context("a word")?;
        Ok((
            word.to_owned(),
            state["files"].as_u64().context("a number")?,
        ))
    });
    let states: Vec<(String, u64)> = states.collect::<Result<_>>()?;
    Ok(states.into_iter().filter(|(_, files)| *files > 0).collect())
}

#[test]
fn every_file_is_in_exactly_one_state() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = equal_servers(&scene, scene.local("to")?)?;
    let total: u64 = from.database.value("SELECT count(*) FROM files")?.parse()?;
    let sum = |states: &[(String, u64)]| -> u64 { states.iter().map(|(_, files)| files).sum() };
    scene
        .verify(&from, &to, &["--report", "report.json"])?
        .expect(0)?;
    let before = states(&scene)?;
    assert_eq!(sum(&before), total);
    for sql in [
        "UPDATE files SET name = 'other' WHERE id = 'aaFile'",
        "DELETE FROM files WHERE id = 'mmFile'",
        "UPDATE files SET name = 'other' \
         WHERE id = (SELECT min(id) FROM files WHERE status NOT IN ('uploaded', 'removed'))",
        "DELETE FROM files WHERE id = (SELECT max(id) FROM files WHERE status NOT IN ('uploaded', 'removed'))",
    ] {
        to.database.query(sql)?;
    }
    fs::remove_file(to.store.path_of("zzFile"))?;
    scene
        .verify(&from, &to, &["--report", "report.json"])?
        .expect(21)?;
    let after = states(&scene)?;
    assert_eq!(sum(&after), total);
    let of = |states: &[(String, u64)], word: &str| {
        let mut of_word = states.iter().filter(|(state, _)| state == word);
        of_word.next().map_or(0, |(_, files)| *files)
    };
    assert_eq!(of(&after, "row_different"), 2, "{after:?}");
    assert_eq!(of(&after, "without_row"), 2, "{after:?}");
    assert_eq!(of(&after, "target_wrong"), 1, "{after:?}");
    assert_eq!(of(&after, "equal"), of(&before, "equal") - 3, "{after:?}");
    assert_eq!(
        of(&after, "no_blob"),
        of(&before, "no_blob") - 2,
        "{after:?}"
    );
    Ok(())
}

#[test]
fn a_removed_file_whose_bytes_are_gone_is_no_difference() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database.add_upload("theUpload")?;
    from.database
        .add_file("goneFile", "theUpload", "removed", b"bytes")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    scene
        .verify(&from, &to, &["--deep"])?
        .expect(0)?
        .says(&["1 removed and gone"])?;
    Ok(())
}

#[test]
fn a_verification_writes_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = equal_servers(&scene, scene.local("to")?)?;
    let before = scene.listing()?;
    scene.verify(&from, &to, &["--deep"])?.expect(0)?;
    scene.is_as(&before)?;
    // Not even a target that is not there.
    let absent = scene.local("absent")?;
    let before = scene.listing()?;
    scene
        .verify(&from, &absent, &[])?
        .expect(3)?
        .says(&["could not be compared", "the target cannot be used"])?;
    scene.is_as(&before)?;
    Ok(())
}

#[test]
fn a_server_is_not_compared_with_itself() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    scene
        .verify(&from, &from, &[])?
        .expect(2)?
        .says(&["source and target are the same"])?;
    Ok(())
}

#[test]
fn a_column_and_a_table_that_the_target_lacks_are_named() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = equal_servers(&scene, scene.local("to")?)?;
    for sql in [
        "ALTER TABLE uploads ADD COLUMN note text",
        "CREATE TABLE notes (id text PRIMARY KEY)",
        "INSERT INTO notes VALUES ('one'), ('two')",
    ] {
        from.database.query(sql)?;
    }
    scene
        .verify(&from, &to, &["--metadata-only"])?
        .expect(21)?
        .says(&[
            "column note: the target does not have it",
            "the target has no such table, 2 missing",
        ])?;
    scene.migrate(&from, &to, &[])?;
    scene
        .verify(&from, &to, &["--metadata-only"])?
        .says(&["notes", "2 in the target, equal"])?;
    Ok(())
}

#[test]
fn more_than_a_hundred_differences_are_counted() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = equal_servers(&scene, scene.local("to")?)?;
    for number in 0..150 {
        from.database.add_upload(&format!("new{number:03}"))?;
    }
    let found = scene
        .verify(&from, &to, &["--metadata-only"])?
        .expect(21)?
        .says(&["150 missing", "missing: uploads new099", "and 50 more"])?;
    found.never_says(&["missing: uploads new100"])?;
    Ok(())
}

/// A source in use is not told to differ in rows that were copied while it was looked at.
#[test]
fn a_difference_that_passes_is_not_told() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = equal_servers(&scene, scene.local("to")?)?;
    from.database.add_upload("lateUpload")?;
    let mut verification = scene
        .verification(&from, &to, &["--metadata-only"])
        .spawn()?;
    let said = verification.stderr.take().context("no standard error")?;
    let mut said = BufReader::new(said).lines();
    while !said
        .next()
        .context("it ended early")??
        .contains("uploads: ")
    {}
    to.database.add_upload("lateUpload")?;
    crate::scene::finish(verification)?
        .expect(0)
        .context("the row came while it was looked for")?
        .says(&["1 in use, equal at a second look"])?;
    Ok(())
}

#[test]
fn the_check_at_the_end_can_be_left_out() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = equal_servers(&scene, scene.local("to")?)?;
    from.database
        .query("DELETE FROM files WHERE id = 'zzFile'")?;
    scene
        .migrate(&from, &to, &[])?
        .expect(20)?
        .says(&["extra: files zzFile"])?;
    scene
        .migrate(&from, &to, &["--no-verify"])?
        .expect(0)?
        .never_says(&["extra", "omparing source and target"])?;
    let digests = to
        .database
        .value("SELECT count(*) FROM plikd_migrate_runs WHERE summary LIKE '%\"digest\":null%'")?;
    assert_eq!(digests, "1", "only the run without check has no digests");
    Ok(())
}

#[test]
fn a_target_that_nothing_was_migrated_to_is_told_so() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    scene
        .verify(&from, &to, &[])?
        .expect(3)?
        .says(&["the target cannot be used", "hint: run the migration first"])?
        .never_says(&["start the server"])?;
    Ok(())
}

#[test]
fn what_is_next_follows_from_what_differs() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = equal_servers(&scene, scene.local("to")?)?;
    to.database.add_upload("strayUpload")?;
    let again = "next: run the migration again";
    scene
        .verify(&from, &to, &["--metadata-only"])?
        .expect(21)?
        .says(&["next: look at the rows that only the target has"])?
        .never_says(&[again])?;
    to.database.query("DELETE FROM files WHERE id = 'aaFile'")?;
    scene
        .verify(&from, &to, &["--metadata-only"])?
        .expect(21)?
        .says(&[again])?;
    Ok(())
}

/// The name of another directory, or a disk that is not mounted: no blob is where it should be.
#[test]
fn a_place_that_has_none_of_the_blobs_is_told_once() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = equal_servers(&scene, scene.local("to")?)?;
    let elsewhere = scene.server(
        "elsewhere",
        Database::Sqlite(scene.path("to.db")),
        Store::Directory(scene.path("elsewhere.files")),
    )?;
    fs::create_dir(scene.path("elsewhere.files"))?;
    for options in [&[][..], &["--deep"]] {
        let run = scene.verify(&from, &elsewhere, options)?.expect(21)?;
        run.says(&[
            "elsewhere.files has none of these blobs",
            "next: see that the configuration names the right place for the blobs of the target",
        ])?
        .never_says(&["it is missing", "remove the blobs"])?;
    }
    // One that is there makes the others missing.
    fs::rename(
        to.store.path_of("aaFile").with_file_name(""),
        scene.path("elsewhere.files/aa"),
    )?;
    scene
        .verify(&from, &elsewhere, &[])?
        .expect(21)?
        .says(&[
            "target: blob mmFile of upload theUpload (",
            "): it is missing",
        ])?
        .never_says(&["has none of these"])?;
    Ok(())
}
