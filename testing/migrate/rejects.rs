//! Rows that cannot go to the target: kept whole, mended, tried again, or changed on request.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::{Value, json};

use crate::places::{Database, Store};
use crate::scene::{NO_FILES, Run, Scene, Server, assert_equal, md5_hex, run};
use crate::values::{FAULTS, spoilt};

fn replay(scene: &Scene, file: &Path, to: &Server, options: &[&str]) -> Result<Run> {
    let mut command = scene.plikd();
    command
        .arg("--config")
        .arg(&to.config)
        .args(["migrate", "replay"]);
    command.arg(file).arg("--to").arg(&to.config).args(options);
    run(command)
}

fn lines(file: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(file)?;
    let lines = text.lines().map(|line| Ok(serde_json::from_str(line)?));
    lines.collect()
}

fn write(file: &Path, lines: &[Value]) -> Result<()> {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    Ok(fs::write(file, lines.join("\n"))?)
}

/// Runs with `--ignore-errors` and gives the file with the rows that were left out.
fn rejected(scene: &Scene, from: &Server, to: &Server) -> Result<(Run, PathBuf)> {
    let file = scene.path("rejects.jsonl");
    let path = file.display().to_string();
    let options = ["--ignore-errors", "--rejects", &path];
    Ok((scene.migrate(from, to, &options)?.expect(20)?, file))
}

/// What an administrator could write into the line, and the same as a change of the source.
fn mend(line: &mut Value) -> Result<String> {
    let table = line["table"].as_str().context("table")?.to_owned();
    let key = line["key"].as_str().context("key")?.to_owned();
    let (column, value, sql) = match (table.as_str(), key.as_str()) {
        ("users", "NULL") => {
            line["row"]["id"] = json!({ "text": "keyless" });
            return Ok("UPDATE users SET id = 'keyless' WHERE id IS NULL".to_owned());
        }
        ("tokens", _) => ("user_id", json!({ "text": "bad1.good" }), "'bad1.good'"),
        ("files", _) => ("upload_id", json!({ "text": "badupload" }), "'badupload'"),
        ("uploads", _) => ("user", json!({ "text": "short" }), "'short'"),
        _ => {
            let column = line["reasons"][0]["column"].as_str().context("column")?;
            match column {
                "name" => ("name", json!({ "text": "better" }), "'better'"),
                "is_admin" => ("is_admin", json!({ "integer": 1 }), "1"),
                "created_at" => ("created_at", json!(null), "NULL"),
                "max_ttl" => ("max_ttl", json!({ "real": "2" }), "2"),
                "max_file_size" => ("max_file_size", json!({ "integer": 7 }), "7"),
                _ => ("max_user_size", json!({ "integer": 7 }), "7"),
            }
        }
    };
    line["row"][column] = value;
    let id = if table == "tokens" { "token" } else { "id" };
    // The row names itself whole, where its key is shown in part.
    let whole = line["row"][id]["text"].as_str().context("id")?;
    Ok(format!(
        "UPDATE {table} SET \"{column}\" = {sql} WHERE {id} = '{whole}'"
    ))
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn every_fault_is_named_at_once_and_nothing_is_written() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (spoilt(&scene)?, scene.postgres("to")?);
    let named: Vec<String> = FAULTS
        .iter()
        .filter(|(_, said)| !said.starts_with("uploads"))
        .map(|(_, said)| format!("rejected: {said}"))
        .collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    scene
        .migrate(&from, &to, &[])?
        .expect(1)?
        .says(&named)?
        .says(&[
            "rejected: 15 rows in all",
            "--rejects",
            "--fix-orphans",
            "--strip-nul",
        ])?;
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
    assert_eq!(to.database.value(tables)?, "0");
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn rejected_rows_are_kept_whole_mended_and_replayed() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (spoilt(&scene)?, scene.postgres("to")?);
    let (_, file) = rejected(&scene, &from, &to)?;
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let mut kept = lines(&file)?;
    assert_eq!(kept.len(), FAULTS.len());
    let row = |key: &str| {
        let line = kept.iter().find(|line| line["key"] == key);
        line.map(|line| line["row"].clone()).context(key.to_owned())
    };
    assert_eq!(row("bad1")?["name"], json!({ "text_base64": "YQBi" }));
    assert_eq!(row("bad2")?["name"], json!({ "text_base64": "Yf9i" }));
    assert_eq!(row("bad4")?["max_ttl"], json!({ "real": "1.5" }));
    assert_eq!(row("bad6")?["is_admin"], json!({ "integer": 2 }));
    assert_eq!(row("NULL")?["id"], Value::Null);

    let changes: Vec<String> = kept.iter_mut().map(mend).collect::<Result<_>>()?;
    write(&file, &kept)?;
    replay(&scene, &scene.path("absent"), &to, &[])?
        .expect(2)?
        .says(&["absent cannot be read", "hint: "])?;
    let run = replay(&scene, &file, &to, &[])?.expect(0)?;
    assert_eq!(run.summary("users")?.copied, 12);
    // Not mended in the source yet.
    let instead = "extra: users bad1: in place of a row of the source that was rejected";
    let dry_run = ["--ignore-errors", "--dry-run", "-v"];
    let dry_run = scene.migrate(&from, &to, &dry_run)?.expect(20)?;
    dry_run.says(&["extra     users bad1: in place of a row of the source that was rejected"])?;
    let deleting = ["--ignore-errors", "--sync", "--delete"];
    for options in [&["--ignore-errors"][..], &deleting] {
        let run = scene.migrate(&from, &to, options)?.expect(20)?;
        run.says(&[instead, "rejected: users bad1: "])?
            .never_says(&["deleted: "])?;
    }
    scene
        .verify(&from, &to, &[])?
        .expect(21)?
        .says(&[instead, "cannot be held: users bad1: "])?;
    for change in changes {
        from.database.query(&change)?;
    }
    // The source, mended in the same way, has nothing that the target lacks.
    let again = scene.migrate(&from, &to, &[])?.expect(0)?;
    for table in ["users", "tokens", "uploads", "files"] {
        assert_eq!(again.summary(table)?.copied, 0, "{table}");
    }
    assert_eq!(from.database.rows()?, to.database.rows()?);
    let present = replay(&scene, &file, &to, &[])?.expect(0)?;
    assert_eq!(present.summary("users")?.present, 12);
    Ok(())
}

/// Their sizes are what is wrong with the rows: only the bytes that are there tell them.
#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn bytes_of_files_without_a_size_are_there_when_the_rows_are_mended() -> Result<()> {
    for store in [None, Some(Store::bucket()?)] {
        let scene = Scene::new()?;
        let from = scene.made_up("from", NO_FILES)?;
        let files = [("smallFile", vec![7; 70]), ("largeFile", vec![9; 20 << 20])];
        from.database.add_upload("theUpload")?;
        for (id, bytes) in &files {
            from.database.add_file(id, "theUpload", "uploaded", bytes)?;
            from.store.put(id, bytes)?;
        }
        from.database.query("UPDATE files SET size = 'big'")?;
        let store = store.unwrap_or_else(|| Store::Directory(scene.path("to.files")));
        let to = scene.server("to", Database::postgres()?, store)?;
        let (run, file) = rejected(&scene, &from, &to)?;
        assert_eq!(run.summary("blobs")?.copied, 2);
        let mut kept = lines(&file)?;
        assert_eq!(kept.len(), 2);
        for line in &mut kept {
            let (id, bytes) = &files[usize::from(line["key"] == "largeFile")];
            line["row"]["size"] = json!({ "integer": bytes.len() });
            let sql = format!("UPDATE files SET size = {} WHERE id = '{id}'", bytes.len());
            from.database.query(&sql)?;
        }
        write(&file, &kept)?;
        replay(&scene, &file, &to, &[])?.expect(0)?;
        assert_equal(&from, &to)?;
    }
    Ok(())
}

/// The MD5 of such a file still proves its bytes.
#[test]
fn other_bytes_of_a_file_without_a_size_are_not_copied() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    from.database.add_upload("theUpload")?;
    for id in ["goodFile", "rottenFile"] {
        from.database
            .add_file(id, "theUpload", "uploaded", b"right")?;
        from.store.put(id, b"right")?;
    }
    from.store.put("rottenFile", b"wrong")?;
    from.database.query("UPDATE files SET size = 'big'")?;
    let to = scene.local("to")?;
    let run = scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?;
    let run = run.says(&["rottenFile", "MD5"])?;
    let blobs = run.summary("blobs")?;
    assert_eq!((blobs.copied, blobs.failed), (1, 1));
    ensure!(!to.store.path_of("rottenFile").exists());
    assert_eq!(fs::read(to.store.path_of("goodFile"))?, b"right");
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn what_is_not_mended_is_rejected_again() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (spoilt(&scene)?, scene.postgres("to")?);
    let (_, file) = rejected(&scene, &from, &to)?;
    let again = scene.path("again.jsonl");
    let options = ["--rejects", &again.display().to_string()];
    let run = replay(&scene, &file, &to, &options)?.expect(20)?;
    assert_eq!(run.summary("users")?.failed, 12);
    run.says(&["rejected: users bad1: name: the text has a NUL byte"])?;
    let rows = |file| -> Result<Vec<Value>> {
        let mut rows: Vec<Value> = lines(file)?
            .iter()
            .map(|line| line["row"].clone())
            .collect();
        rows.sort_by_key(Value::to_string);
        Ok(rows)
    };
    assert_eq!(rows(&file)?, rows(&again)?);
    // What is there already is not overwritten.
    replay(&scene, &file, &to, &options)?
        .expect(1)?
        .says(&["hint: give --rejects another file"])?
        .never_says(&["free space"])?;
    assert_eq!(rows(&file)?, rows(&again)?);
    Ok(())
}

/// The row of a file whose blob is in the target, with other values than the blob has.
fn a_promise_of_other_bytes_is_rejected(to: Server, scene: &Scene, md5: bool) -> Result<()> {
    let from = scene.made_up("from", NO_FILES)?;
    from.database.add_upload("theUpload")?;
    from.database
        .add_file("theFile", "theUpload", "uploaded", b"bytes")?;
    from.store.put("theFile", b"bytes")?;
    from.database
        .query("INSERT INTO files (id, upload_id, status) VALUES (NULL, 'theUpload', 'missing')")?;
    let (_, file) = rejected(scene, &from, &to)?;
    to.database
        .query("DELETE FROM files WHERE id = 'theFile'")?;
    let mut mended = lines(&file)?;
    assert_eq!(mended.len(), 1);
    let mut set = |column: &str, value: Value| -> Result<()> {
        mended[0]["row"][column] = value;
        write(&file, &mended)
    };
    set("id", json!({ "text": "theFile" }))?;
    set("status", json!({ "text": "uploaded" }))?;
    set("md5", json!({ "text": md5_hex(b"bytes") }))?;
    set("size", json!({ "integer": 3 }))?;
    let run = replay(scene, &file, &to, &[])?.expect(20)?;
    run.says(&["files theFile", "another: it has 5 bytes instead of 3"])?;
    set("size", json!({ "integer": 5 }))?;
    if md5 {
        set("md5", json!({ "text": md5_hex(b"other") }))?;
        let run = replay(scene, &file, &to, &[])?.expect(20)?;
        run.says(&["another: its MD5 is not the one of its row"])?;
        set("md5", json!({ "text": md5_hex(b"bytes") }))?;
    }
    let run = replay(scene, &file, &to, &[])?.expect(0)?;
    assert_eq!(run.summary("files")?.copied, 1);
    Ok(())
}

#[test]
fn a_mended_row_that_promises_other_bytes_is_rejected() -> Result<()> {
    let scene = Scene::new()?;
    a_promise_of_other_bytes_is_rejected(scene.local("to")?, &scene, false)
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_mended_row_that_promises_other_bytes_is_rejected_with_a_bucket() -> Result<()> {
    let scene = Scene::new()?;
    let database = Database::Sqlite(scene.path("to.db"));
    let to = scene.server("to", database, Store::bucket()?)?;
    a_promise_of_other_bytes_is_rejected(to, &scene, true)
}

#[test]
fn a_file_of_rejects_is_continued_and_never_overwritten() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database
        .query("INSERT INTO users (id, name) VALUES (NULL, 'one'), (NULL, 'two')")?;
    let (_, file) = rejected(&scene, &from, &to)?;
    let first = fs::read(&file)?;
    assert_eq!(lines(&file)?.len(), 2);
    from.database
        .query("INSERT INTO users (id, name) VALUES (NULL, 'three')")?;
    // A run that was killed while it wrote leaves half a line.
    fs::write(&file, [&first[..], b"{\"format\":1,\"sou"].concat())?;
    rejected(&scene, &from, &to)?;
    assert_eq!(lines(&file)?.len(), 3);
    ensure!(fs::read(&file)?.starts_with(&first));

    let mut mended = lines(&file)?;
    for (number, line) in mended.iter_mut().enumerate() {
        line["row"]["id"] = json!({ "text": format!("mended{number}") });
    }
    write(&file, &mended)?;
    replay(&scene, &file, &to, &[])?.expect(0)?;
    let names = "SELECT group_concat(name, ' ') FROM (SELECT name FROM users WHERE id LIKE 'mended%' ORDER BY id)";
    assert_eq!(to.database.value(names)?, "one two three");

    fs::write(&file, "notes of my own\n")?;
    let path = file.display().to_string();
    scene
        .migrate(&from, &to, &["--ignore-errors", "--rejects", &path])?
        .expect(2)?
        .says(&["something else than rejected rows of this source"])?;
    assert_eq!(fs::read_to_string(&file)?, "notes of my own\n");
    replay(&scene, &file, &to, &[])?
        .expect(1)?
        .says(&["line 1: it is no JSON"])?;
    Ok(())
}

#[test]
fn a_replay_that_was_cut_off_is_given_again() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database
        .query("INSERT INTO users (id, name) VALUES (NULL, 'one')")?;
    let (_, file) = rejected(&scene, &from, &to)?;
    let mut mended = lines(&file)?;
    mended[0]["row"]["id"] = json!({ "text": "mended" });
    write(&file, &mended)?;
    // What it writes down before its first row.
    to.database.query(&format!(
        "INSERT INTO plikd_migrate_checkpoints (source, table_name, copied, present, conflicts, \
         failed) VALUES ('rejects:{}', '', 0, 0, 0, 0)",
        file.display()
    ))?;
    replay(&scene, &file, &to, &[])?.expect(0)?;
    let name = to
        .database
        .value("SELECT name FROM users WHERE id = 'mended'")?;
    assert_eq!(name, "one");
    scene.serve(&to)?;
    Ok(())
}

#[test]
fn orphans_are_left_out_on_request_with_their_blobs() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database
        .add_file("orphanFile", "noUpload", "uploaded", b"bytes")?;
    // A directory without any blob would be taken for the wrong one.
    if let Store::Directory(path) = &from.store {
        std::fs::create_dir_all(path.join("an"))?;
        std::fs::write(path.join("an").join("another"), "bytes")?;
    }
    from.database
        .query("INSERT INTO tokens (token, user_id) VALUES ('orphan', 'nobody')")?;
    let run = scene.migrate(&from, &to, &["--fix-orphans"])?.expect(0)?;
    let run = run.says(&[
        "left out: tokens orphan: user_id: it refers to a row of users that does not exist",
        "left out: files orphanFile: upload_id: ",
        "found in files: 1 left out",
    ])?;
    assert_eq!(run.summary("blobs")?.copied, 0);
    assert_eq!(to.database.count("files")?, 0);
    assert_eq!(
        to.database.count("tokens")?,
        from.database.count("tokens")? - 1
    );
    Ok(())
}

/// Rows that cannot go to the target are none of those that are there.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_repeated_run_counts_what_is_there_beside_what_is_rejected() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.postgres("to")?);
    let present = from.database.count("users")?;
    from.database
        .query("INSERT INTO users (id, created_at) VALUES ('bad', 'soon'), ('worse', 'never')")?;
    for mode in [&["--ignore-errors"][..], &["--ignore-errors", "--sync"]] {
        let run = scene.migrate(&from, &to, mode)?.expect(20)?;
        assert_eq!(run.summary("users")?.failed, 2);
        for row in ["rejected: users bad", "rejected: users worse"] {
            assert_eq!(run.stderr.matches(row).count(), 1, "{run}");
        }
        if mode.len() > 1 {
            assert_eq!(run.summary("users")?.present, present);
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn orphans_of_a_database_without_foreign_keys_are_found() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", NO_FILES)?;
    let (from, to) = (scene.postgres("from")?, scene.postgres("to")?);
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    from.database
        .query("ALTER TABLE tokens DROP CONSTRAINT fk_users_tokens")?;
    from.database
        .query("INSERT INTO tokens (token, user_id) VALUES ('orphan', 'nobody')")?;
    from.database
        .query("INSERT INTO users (id, created_at) VALUES ('endless', 'infinity')")?;
    from.database
        .query("INSERT INTO tokens (token, user_id) VALUES ('child', 'endless')")?;
    scene.migrate(&from, &to, &[])?.expect(1)?.says(&[
        "rejected: tokens orphan: user_id: it refers to a row of users that does not exist",
    ])?;
    scene.migrate(&from, &to, &["--fix-orphans"])?.expect(0)?;
    assert_eq!(
        to.database.count("tokens")?,
        from.database.count("tokens")? - 1
    );
    // SQLite holds orphans, but no infinite time, nor what depends on it.
    let local = scene.local("local")?;
    scene.migrate(&from, &local, &[])?.expect(1)?.says(&[
        "rejected: users endless: created_at: SQLite has no text",
        "rejected: tokens child: user_id: it refers to a row of users that is rejected too",
        "kept: tokens orphan: ",
    ])?;
    let (run, file) = rejected(&scene, &from, &local)?;
    assert_eq!(
        (run.summary("users")?.failed, run.summary("tokens")?.failed),
        (1, 1)
    );
    let mut kept = lines(&file)?;
    assert_eq!(kept[0]["row"]["created_at"], json!({ "time": "infinity" }));
    kept[0]["row"]["created_at"] = json!({ "time": "2024-05-06T07:08:09Z" });
    // Children first: they are written behind their parents all the same.
    kept.reverse();
    write(&file, &kept)?;
    replay(&scene, &file, &local, &[])?.expect(0)?;
    assert_eq!(
        local.database.count("tokens")?,
        from.database.count("tokens")?
    );
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn nul_bytes_are_removed_on_request_except_from_keys() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.postgres("to")?);
    from.database
        .query("INSERT INTO users (id, name) VALUES ('nul', 'a' || char(0) || 'b' || char(0))")?;
    let run = scene.migrate(&from, &to, &["--strip-nul"])?.expect(0)?;
    run.says(&[
        "mended: users nul: name: the text has a NUL byte",
        "found in users: 1 mended",
    ])?;
    let name = "SELECT name FROM users WHERE id = 'nul'";
    assert_eq!(to.database.value(name)?, "ab");
    from.database
        .query("INSERT INTO users (id, name) VALUES ('n' || char(0) || 'ul', 'another')")?;
    let run = scene.migrate(&from, &to, &["--strip-nul"])?.expect(1)?;
    run.says(&["id: the text has a NUL byte", "rejected: 1 row in all"])?;
    let run = scene
        .migrate(&from, &to, &["--strip-nul", "--ignore-errors"])?
        .expect(20)?;
    assert_eq!(
        run.summary("users")?.present,
        from.database.count("users")? - 1
    );
    Ok(())
}

/// It is read twice: what a pipe has said once, it does not say again.
#[test]
fn a_replay_of_a_pipe_is_refused() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.made_up("to", NO_FILES)?;
    let pipe = scene.path("pipe");
    mkfifoat(CWD, &pipe, Mode::RWXU)?;
    let run = replay(&scene, &pipe, &to, &[])?;
    ensure!(matches!(run.code, Some(1 | 2)), "{:?}", run.code);
    run.says(&["it is no regular file"])?;
    Ok(())
}
