//! Rows that several processes bring into PostgreSQL, which know nothing of each other, and the run
//! that puts them together.

use std::fs;
use std::process::Child;
use std::thread::{sleep, spawn};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::fresh::DEFINITIONS;
use crate::locks::{end_sessions, has_session};
use crate::places::{Database, Store};
use crate::resume::{MANY_ROWS, refuses_to_serve};
use crate::scene::{SMALL, SOME, Scene, Server, assert_equal, finish, signal, wait_until};

const ROWS: &str = "--metadata-only";
const TABLES: [&str; 4] = ["users", "tokens", "uploads", "files"];
/// What a table may hold besides what Plik puts there.
const STRANGE: [&str; 3] = [
    "CREATE TABLE days (n integer, day datetime, PRIMARY KEY (n, day))",
    "INSERT INTO days VALUES (1, '2026-03-08 00:00:00+00:00'), (2, '2026-03-07 22:00:00-03:30'), \
     (-7, '2026-03-07 22:00:00Z')",
    "UPDATE files SET name = 'é' || name",
];

fn source(scene: &Scene) -> Result<Server> {
    let from = scene.made_up("from", SOME)?;
    for sql in STRANGE {
        from.database.query(sql)?;
    }
    Ok(from)
}

fn part(scene: &Scene, ends: (&Server, &Server), shard: &str, options: &[&str]) -> Result<Child> {
    let shard = format!("--shard={shard}");
    let options = [&[&*shard], options].concat();
    let (from, to) = ends;
    Ok(scene
        .migration(&from.config, &to.config, &options)
        .spawn()?)
}

/// A part that comes to its end.
fn whole_part(
    scene: &Scene,
    ends: (&Server, &Server),
    shard: &str,
    options: &[&str],
) -> Result<()> {
    finish(part(scene, ends, shard, options)?)?.expect(0)?;
    Ok(())
}

fn is_together(from: &Server, to: &Server, definitions: &[Vec<String>]) -> Result<()> {
    assert_eq!(from.database.rows()?, to.database.rows()?);
    assert_eq!(to.database.query(DEFINITIONS)?, definitions);
    for table in ["deferred", "checkpoints", "shards"] {
        let table = format!("plikd_migrate_{table}");
        assert_eq!(to.database.count(&table)?, 0, "{table}");
    }
    Ok(())
}

/// Indexes and constraints as a run of no part leaves them.
fn definitions(scene: &Scene, from: &Server) -> Result<Vec<Vec<String>>> {
    let whole = scene.postgres("whole")?;
    scene.migrate(from, &whole, &[ROWS])?.expect(0)?;
    whole.database.query(DEFINITIONS)
}

fn parts_come_together(scene: &Scene, from: &Server) -> Result<()> {
    let to = scene.server("to", Database::postgres()?, Store::bucket()?)?;
    let definitions = definitions(scene, from)?;
    let mut dry = Vec::new();
    for number in 1..=3 {
        let run = part(scene, (from, &to), &format!("{number}/3"), &["--dry-run"])?;
        dry.push(finish(run)?.expect(0)?);
    }
    let parts: Vec<Child> = (1..=3)
        .map(|number| part(scene, (from, &to), &format!("{number}/3"), &[]))
        .collect::<Result<_>>()?;
    let mut done = Vec::new();
    for child in parts {
        let run = finish(child)?.expect(0)?;
        done.push(run.says(&["the other parts of 3 are there, migrate without --shard"])?);
    }
    for table in TABLES {
        let mut copied = 0;
        for (done, dry) in done.iter().zip(&dry) {
            let (done, dry) = (done.summary(table)?, dry.summary(table)?);
            assert_eq!(done, dry, "{table}");
            ensure!(table != "files" || done.copied > 0, "{done:?}");
            copied += done.copied;
        }
        assert_eq!(copied, from.database.count(table)?, "{table}");
    }
    refuses_to_serve(scene, &to)?;
    let last = scene.migrate(from, &to, &[])?.expect(0)?;
    for table in TABLES {
        let rows = last.summary(table)?;
        assert_eq!(
            (rows.copied, rows.present),
            (0, from.database.count(table)?)
        );
    }
    assert_eq!(last.summary("blobs")?.copied, 0);
    scene.verify(from, &to, &["--deep"])?.expect(0)?;
    assert_equal(from, &to)?;
    is_together(from, &to, &definitions)?;
    scene.serve(&to).map(drop)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn parts_that_come_at_once_are_put_together() -> Result<()> {
    let scene = Scene::new()?;
    let from = source(&scene)?;
    parts_come_together(&scene, &from)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn parts_of_a_postgres_are_put_together() -> Result<()> {
    let scene = Scene::new()?;
    let sqlite = source(&scene)?;
    let store = Store::Directory(scene.path("from.files"));
    let from = scene.server("postgres", Database::postgres()?, store)?;
    scene.migrate(&sqlite, &from, &[ROWS])?.expect(0)?;
    parts_come_together(&scene, &from)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_part_that_is_killed_goes_on_and_one_that_never_ran_is_brought_by_the_last() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", &[MANY_ROWS, &["--file-size=0"]].concat())?;
    let (to, definitions) = (scene.postgres("to")?, definitions(&scene, &from)?);
    let mut killed = 0;
    for round in 0..12 {
        let ends = (&from, &to);
        let run = part(&scene, ends, "2/3", &[ROWS])?;
        let other = (round == 5).then(|| part(&scene, ends, "1/3", &[ROWS]));
        sleep(Duration::from_millis(60 + round * 90));
        signal(&run, Signal::KILL)?;
        killed += u32::from(finish(run)?.code.is_none());
        if let Some(other) = other {
            finish(other?)?.expect(0)?;
        }
    }
    ensure!(killed > 2, "only {killed} were cut off");
    let again = finish(part(&scene, (&from, &to), "2/3", &[ROWS])?)?.expect(0)?;
    let once = "SELECT count(*) - count(DISTINCT id) FROM files";
    assert_eq!(to.database.value(once)?, "0");
    let last = scene.migrate(&from, &to, &[ROWS])?.expect(0)?;
    let (part, last) = (again.summary("files")?, last.summary("files")?);
    ensure!(
        last.present > part.copied && last.copied > 0,
        "{part:?} {last:?}"
    );
    is_together(&from, &to, &definitions)
}

/// Rows of many moments become those of the last.
#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn what_changes_between_the_parts_is_as_the_last_run_finds_it() -> Result<()> {
    let scene = Scene::new()?;
    let from = source(&scene)?;
    let to = scene.server("to", Database::postgres()?, Store::bucket()?)?;
    whole_part(&scene, (&from, &to), "1/2", &[])?;
    from.database.add_upload("between")?;
    from.database
        .add_file("betweenTheParts", "between", "uploaded", b"between")?;
    from.store.put("betweenTheParts", b"between")?;
    whole_part(&scene, (&from, &to), "2/2", &[])?;
    let gone = from.database.value(
        "SELECT id FROM files WHERE status = 'uploaded' AND id <> 'betweenTheParts' LIMIT 1",
    )?;
    for sql in [
        format!("DELETE FROM files WHERE id = '{gone}'"),
        "UPDATE uploads SET comments = 'changed' WHERE id IN (SELECT id FROM uploads LIMIT 9)"
            .to_owned(),
        "DELETE FROM tokens".to_owned(),
    ] {
        from.database.query(&sql)?;
    }
    fs::remove_file(from.store.path_of(&gone))?;
    let dry = scene.migrate(&from, &to, &["--dry-run"])?.expect(0)?;
    let dry = dry.says(&["to update", "to delete"])?;
    assert_eq!(dry.summary("blobs")?.failed, 0);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_equal(&from, &to)?;
    scene.verify(&from, &to, &["--deep"])?.expect(0)?;
    Ok(())
}

/// The part that brings a row need not be the one that tries its blob.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_row_does_not_come_without_its_bytes() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.postgres("to")?);
    let lost = from
        .database
        .value("SELECT id FROM files WHERE status = 'uploaded' LIMIT 1")?;
    fs::remove_file(from.store.path_of(&lost))?;
    let options = ["--ignore-errors"];
    let mut codes = Vec::new();
    for shard in ["1/2", "2/2"] {
        let run = finish(part(&scene, (&from, &to), shard, &options)?)?;
        codes.push(run.code);
    }
    codes.sort();
    assert_eq!(codes, [Some(0), Some(20)]);
    let last = scene.migrate(&from, &to, &options)?.expect(20)?;
    last.says(&["so the row is left out"])?;
    let found = format!("SELECT count(*) FROM files WHERE id = '{lost}'");
    assert_eq!(to.database.value(&found)?, "0");
    assert_eq!(
        to.database.count("files")?,
        from.database.count("files")? - 1
    );
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_part_with_an_orphan_stops_before_it_writes_or_leaves_it_out() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.postgres("to")?);
    from.database
        .query("UPDATE files SET upload_id = 'nobody' WHERE id = (SELECT min(id) FROM files)")?;
    let with_orphan = |options: &[&str]| -> Result<Vec<Option<i32>>> {
        let runs = ["1/2", "2/2"]
            .iter()
            .map(|shard| Ok(finish(part(&scene, (&from, &to), shard, options)?)?.code));
        let mut codes: Vec<_> = runs.collect::<Result<_>>()?;
        codes.sort();
        Ok(codes)
    };
    assert_eq!(with_orphan(&[ROWS])?, [Some(0), Some(1)]);
    assert_eq!(
        with_orphan(&[ROWS, "--ignore-errors"])?,
        [Some(0), Some(20)]
    );
    let last = scene
        .migrate(&from, &to, &[ROWS, "--ignore-errors"])?
        .expect(20)?;
    assert_eq!(last.summary("files")?.failed, 1);
    scene
        .migrate(&from, &to, &[ROWS, "--fix-orphans"])?
        .expect(0)?;
    assert_eq!(
        to.database.count("files")?,
        from.database.count("files")? - 1
    );
    Ok(())
}

/// Only the keys, which no part builds, find it.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn rows_that_the_keys_refuse_are_brought_again_and_named() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.postgres("to")?);
    let whole = definitions(&scene, &from)?;
    scene.serve(&to).map(drop)?;
    to.database
        .query("DELETE FROM settings; CREATE UNIQUE INDEX one_name ON files (name)")?;
    let twice = from
        .database
        .query("SELECT id FROM files ORDER BY id LIMIT 2")?;
    from.database.query("UPDATE files SET name = id")?;
    let (one, other) = (&twice[0][0], &twice[1][0]);
    from.database.query(&format!(
        "UPDATE files SET name = '{one}' WHERE id = '{other}'"
    ))?;
    for shard in ["1/2", "2/2"] {
        whole_part(&scene, (&from, &to), shard, &[ROWS])?;
    }
    assert_eq!(to.database.count("files")?, from.database.count("files")?);
    scene.migrate(&from, &to, &[ROWS])?.expect(1)?.says(&[
        other,
        "one_name",
        "an earlier load is undone",
    ])?;
    to.database.query("DROP INDEX one_name")?;
    scene.migrate(&from, &to, &[ROWS])?.expect(0)?;
    is_together(&from, &to, &whole)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_row_that_a_part_cannot_write_is_left_to_the_last_run_which_names_it() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.postgres("to")?);
    scene.serve(&to).map(drop)?;
    to.database
        .query("DELETE FROM settings; ALTER TABLE files ADD CHECK (name <> 'bad')")?;
    let bad = from.database.value("SELECT min(id) FROM files")?;
    from.database
        .query(&format!("UPDATE files SET name = 'bad' WHERE id = '{bad}'"))?;
    let mut refused = 0;
    for shard in ["1/2", "2/2"] {
        let run = finish(part(&scene, (&from, &to), shard, &[ROWS])?)?;
        if run.code != Some(0) {
            let run = run.expect(1)?;
            run.says(&[
                "refuses a row of table files in this part",
                "run the migration without",
            ])?;
            refused += 1;
        }
    }
    assert_eq!(refused, 1);
    let last = scene.migrate(&from, &to, &[ROWS, "--ignore-errors"])?;
    last.expect(20)?
        .says(&[&format!("rejected: files {bad}")])?;
    assert_eq!(
        to.database.count("files")?,
        from.database.count("files")? - 1
    );
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_part_of_another_number_or_source_is_refused_and_a_copy_is_the_same_source() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.postgres("to")?);
    // Its server makes up the key by which copies are known.
    scene.serve(&from).map(drop)?;
    whole_part(&scene, (&from, &to), "1/2", &[ROWS])?;
    let wrong = finish(part(&scene, (&from, &to), "1/3", &[ROWS])?)?;
    wrong
        .expect(2)?
        .says(&["are being loaded in 2 parts", "hint: give --shard K/2"])?;
    let other = scene.made_up("other", SMALL)?;
    let key = "UPDATE settings SET value = 'another' WHERE key = 'authentication_signature_key'";
    other.database.query(key)?;
    for options in [&[ROWS, "--shard=2/2"][..], &[ROWS]] {
        scene
            .migrate(&other, &to, options)?
            .expect(7)?
            .says(&["is the target of a migration from another source"])?;
    }
    let copy = scene.local("copy")?;
    let copying = format!("VACUUM INTO '{}'", scene.path("copy.db").display());
    from.database.query(&copying)?;
    whole_part(&scene, (&copy, &to), "2/2", &[ROWS])?;
    let last = scene.migrate(&from, &to, &[ROWS])?.expect(0)?;
    assert_eq!(last.summary("files")?.copied, 0);
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn rows_that_are_there_get_no_part_and_blobs_do() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.postgres("to")?);
    scene.migrate(&from, &to, &[ROWS])?.expect(0)?;
    let before = to.database.query(DEFINITIONS)?;
    finish(part(&scene, (&from, &to), "1/2", &[])?)?
        .expect(2)?
        .says(&[
            "takes no part of the rows: it has rows already",
            "--data-only",
        ])?;
    assert_eq!(to.database.query(DEFINITIONS)?, before);
    whole_part(&scene, (&from, &to), "1/2", &["--data-only"])?;
    let sqlite = scene.local("sqlite")?;
    finish(part(&scene, (&from, &sqlite), "1/2", &[ROWS])?)?
        .expect(2)?
        .says(&["by one run, not in parts", "hint: leave out --shard"])?;
    finish(part(&scene, (&from, &sqlite), "1/2", &[])?)?
        .expect(0)?
        .says(&[
            "part 1/2 of the blobs, no rows",
            "migrate the rows without --shard",
        ])?;
    ensure!(!scene.path("sqlite.db").exists(), "rows came");
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn parts_run_beside_each_other_and_beside_nobody_else() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.postgres("to")?);
    let ends = (&from, &to);
    let served = scene.serve(&to)?;
    to.database.query("DELETE FROM settings")?;
    finish(part(&scene, ends, "1/3", &[ROWS])?)?
        .expect(7)?
        .says(&["is in use by a server or another migration"])?;
    drop(served);
    whole_part(&scene, ends, "2/3", &[ROWS])?;
    // As by another process of the part that has not died yet.
    let url = to.database.url();
    let claim = "BEGIN; INSERT INTO plikd_migrate_shards VALUES ('', 'files', 1, 3, 0, 0); \
         SELECT pg_sleep(300)";
    let claimed = spawn(move || Database::query_url(&url, claim).is_err());
    let is_there = |condition| has_session(&to.database, condition);
    wait_until("it is claimed", || is_there("wait_event = 'PgSleep'"))?;
    let waiting = part(&scene, ends, "1/3", &[ROWS])?;
    wait_until("the part waits", || is_there("wait_event_type = 'Lock'"))?;
    scene
        .migrate(&from, &to, &[ROWS])?
        .expect(7)?
        .says(&["is in use by a migration into it, in parts"])?;
    finish(part(&scene, ends, "1/3", &[ROWS])?)?
        .expect(7)?
        .says(&["is in use by another run of this part"])?;
    refuses_to_start(&scene, &to)?;
    whole_part(&scene, ends, "3/3", &[ROWS])?;
    end_sessions(&to.database, "wait_event = 'PgSleep'")?;
    ensure!(claimed.join().unwrap_or(false), "it was not ended");
    finish(waiting)?.expect(0)?;
    let last = scene.migrate(&from, &to, &[ROWS])?.expect(0)?;
    assert_eq!(last.summary("files")?.copied, 0);
    assert_eq!(from.database.rows()?, to.database.rows()?);
    Ok(())
}

fn refuses_to_start(scene: &Scene, to: &Server) -> Result<()> {
    let mut server = scene.plikd();
    server.arg("--config").arg(&to.config);
    server.args(["server", "--port", "1"]);
    crate::scene::run(server)?.expect(7).map(drop)
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn keys_of_the_source_do_not_come_with_a_part() -> Result<()> {
    let scene = Scene::new()?;
    let first = scene.made_up("from", SMALL)?;
    let path = scene.serve(&first)?.upload(b"read me later")?;
    let store = Store::bucket_with("SSE = \"SSE-C\"")?;
    let from = scene.server("encrypted", Database::postgres()?, store)?;
    scene.migrate(&first, &from, &[])?.expect(0)?;
    let to = scene.server("to", Database::postgres()?, Store::bucket()?)?;
    for shard in ["1/2", "2/2"] {
        whole_part(&scene, (&from, &to), shard, &[])?;
    }
    let keys = "SELECT count(*) FROM files WHERE backend_details LIKE '%SSEKey%'";
    assert_eq!(to.database.value(keys)?, "0");
    let last = scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(last.summary("blobs")?.copied, 0);
    assert_eq!(scene.serve(&to)?.download(&path)?, b"read me later");
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_part_of_rows_is_planned_and_reported_as_one() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (source(&scene)?, scene.postgres("to")?);
    let planning = part(&scene, (&from, &to), "2/2", &[ROWS, "--plan=plan.json"])?;
    let planned = finish(planning)?.expect(0)?.summary("files")?.copied;
    // Others may come between a plan and its run.
    whole_part(&scene, (&from, &to), "1/2", &[ROWS])?;
    let mut run = scene.plikd();
    run.arg("--config").arg(&from.config);
    run.args(["migrate", "--plan-file=plan.json", "--report=report.json"]);
    let done = crate::scene::run(run)?.expect(0)?.summary("files")?.copied;
    let report = fs::read(scene.path("report.json"))?;
    let report: serde_json::Value = serde_json::from_slice(&report)?;
    assert_eq!(report["options"]["shard"], "2/2");
    let tables = report["tables"].as_array();
    let tables = tables.with_context(|| report.to_string())?;
    let files = tables.iter().find(|table| table["table"] == "files");
    let copied = files.and_then(|files| files["copied"].as_u64());
    assert_eq!((Some(done), Some(planned)), (copied, copied));
    ensure!(done < from.database.count("files")?, "all of it");
    Ok(())
}
