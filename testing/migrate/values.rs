//! What SQLite holds and PostgreSQL may not: arrives as it is, or is named and left out.

use anyhow::{Result, ensure};

use crate::places::Database;
use crate::scene::{NO_FILES, Scene, Server};

/// Statements that spoil rows of a source, each with what is said about the row.
pub const FAULTS: &[(&str, &str)] = &[
    (
        "UPDATE users SET name = 'a' || char(0) || 'b' WHERE id = 'bad1'",
        "users bad1: name: the text has a NUL byte",
    ),
    (
        "UPDATE users SET name = CAST(x'61ff62' AS TEXT) WHERE id = 'bad2'",
        "users bad2: name: the text is not UTF-8",
    ),
    (
        "UPDATE users SET name = CAST(x'eda080' AS TEXT) WHERE id = 'bad3'",
        "users bad3: name: the text is not UTF-8",
    ),
    (
        "UPDATE users SET max_ttl = 1.5 WHERE id = 'bad4'",
        "users bad4: max_ttl: the number has a fraction",
    ),
    (
        "UPDATE users SET max_file_size = 9223372036854775808 WHERE id = 'bad5'",
        "users bad5: max_file_size: the number has a fraction or is out of range",
    ),
    (
        "UPDATE users SET is_admin = 2 WHERE id = 'bad6'",
        "users bad6: is_admin: the value is neither true nor false",
    ),
    (
        "UPDATE users SET is_admin = 'maybe' WHERE id = 'bad7'",
        "users bad7: is_admin: the value is neither true nor false",
    ),
    (
        "UPDATE users SET created_at = 'yesterday' WHERE id = 'bad8'",
        "users bad8: created_at: the value is no time",
    ),
    (
        "UPDATE users SET created_at = '2024-01-02 03:04:05.5 +0200 CEST m=+0.1' WHERE id = 'bad9'",
        "users bad9: created_at: the value is no time",
    ),
    (
        "UPDATE users SET created_at = 2460000.5 WHERE id = 'bada'",
        "users bada: created_at: the value is no time",
    ),
    (
        "UPDATE users SET max_user_size = 'lots' WHERE id = 'badb'",
        "users badb: max_user_size: the value is no number",
    ),
    (
        "UPDATE tokens SET user_id = printf('%.*c', 257, 'x') WHERE token = 'badtoken'",
        "tokens badtoken: user_id: the text is longer",
    ),
    (
        "INSERT INTO tokens (token, user_id) VALUES ('orphan', 'nobody')",
        "tokens orphan: user_id: it refers to a row of users that does not exist",
    ),
    (
        "INSERT INTO files (id, upload_id, status) VALUES ('orphan', 'nothing', 'missing')",
        "files orphan: upload_id: it refers to a row of uploads that does not exist",
    ),
    (
        "INSERT INTO users (id, name) VALUES (NULL, 'keyless')",
        "users NULL: id: a key must not be NULL",
    ),
    (
        "UPDATE uploads SET user = hex(randomblob(8000)) WHERE id = 'badupload'",
        "uploads badupload: ",
    ),
];

/// A source with one row for each fault, and rows around them that have none.
pub fn spoilt(scene: &Scene) -> Result<Server> {
    let from = scene.made_up("from", NO_FILES)?;
    add_victims(&from)?;
    for (sql, _) in FAULTS {
        from.database.query(sql)?;
    }
    Ok(from)
}

/// The rows that faults are done to, each before one that has none.
fn add_victims(from: &Server) -> Result<()> {
    for number in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b"] {
        from.database.query(&format!(
            "INSERT INTO users (id, name) VALUES ('bad{number}', 'bad'), ('bad{number}.good', 'good')"
        ))?;
    }
    from.database
        .query("INSERT INTO tokens (token, user_id) VALUES ('badtoken', 'bad1.good')")?;
    from.database.add_upload("badupload")
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn rows_that_postgres_cannot_hold_are_named_and_left_out_when_told_so() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (spoilt(&scene)?, scene.postgres("to")?);
    let said: Vec<&str> = FAULTS.iter().map(|(_, said)| *said).collect();
    let run = scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?
        .says(&said)?;
    assert_eq!(run.summary("users")?.failed, 12);
    assert_eq!(run.summary("tokens")?.failed, 2);
    assert_eq!(run.summary("uploads")?.failed, 1);
    assert_eq!(run.summary("files")?.failed, 1);
    let good = to
        .database
        .value("SELECT count(*) FROM users WHERE id LIKE '%.good'")?;
    assert_eq!(good, "11");
    assert_eq!(
        to.database.count("users")?,
        from.database.count("users")? - 12
    );
    let run = scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?;
    assert_eq!(run.summary("users")?.copied, 0);
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_dry_run_names_the_rows_that_postgres_cannot_hold() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (spoilt(&scene)?, scene.postgres("to")?);
    let run = scene.migrate(&from, &to, &["--dry-run"])?.expect(1)?;
    let said: Vec<&str> = FAULTS.iter().map(|(_, said)| *said).collect();
    let run = run.says(&said)?;
    // What only PostgreSQL itself can tell is not known before.
    run.says(&["doubtful: uploads badupload: user: the text may be refused"])?;
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn each_fault_alone_ends_the_run_before_anything_is_written() -> Result<()> {
    for (sql, said) in FAULTS {
        let scene = Scene::new()?;
        let (from, to) = (scene.made_up("from", NO_FILES)?, scene.postgres("to")?);
        add_victims(&from)?;
        from.database.query(sql)?;
        let table = said.split(' ').next().unwrap_or_default();
        let run = scene.migrate(&from, &to, &[])?.expect(1)?;
        run.says(&[&format!("rejected: {said}"), "--ignore-errors"])?;
        if table != "uploads" {
            let tables = "SELECT count(*) FROM information_schema.tables \
                 WHERE table_schema = 'public'";
            assert_eq!(to.database.value(tables)?, "0", "in spite of: {said}");
            continue;
        }
        // Whether a text fits into an index is PostgreSQL's own to say.
        assert_eq!(to.database.count(table)?, 0, "in spite of: {said}");
        // The server does not start on what is half a migration.
        let mut server = scene.plikd();
        server
            .arg("--config")
            .arg(&to.config)
            .args(["server", "--port", "0"]);
        crate::scene::run(server)?
            .expect(7)?
            .says(&["is the target of a migration that was cut off"])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn values_that_mean_the_same_arrive() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.postgres("to")?);
    let times = [
        (
            "'2024-05-06 07:08:09.123456789+02:00'",
            "2024-05-06 05:08:09.123456",
        ),
        (
            "'2024-05-06 07:08:09.9999999-05:30'",
            "2024-05-06 12:38:09.999999",
        ),
        ("'2024-05-06T07:08:09.5+02:00'", "2024-05-06 05:08:09.5"),
        ("'2024-05-06T07:08:09Z'", "2024-05-06 07:08:09"),
        ("'2024-05-06 07:08:09'", "2024-05-06 07:08:09"),
        ("'2024-05-06 07:08'", "2024-05-06 07:08:00"),
        ("'2024-05-06'", "2024-05-06 00:00:00"),
        ("1714979289", "2024-05-06 07:08:09"),
        ("1714979289500", "2024-05-06 07:08:09.5"),
        ("'0001-01-01 00:00:00+00:00'", "0001-01-01 00:00:00"),
        (
            "'9999-12-29 23:59:59.999999+00:00'",
            "9999-12-29 23:59:59.999999",
        ),
        ("NULL", "NULL"),
    ];
    for (number, (value, _)) in times.iter().enumerate() {
        from.database.query(&format!(
            "INSERT INTO users (id, created_at) VALUES ('t{number}', {value})"
        ))?;
    }
    let values = [
        ("name", "'Zoë 😀 ''\"\\'", "Zoë 😀 '\"\\"),
        ("name", "x'616263'", "abc"),
        ("name", "12", "12"),
        ("name", "'trailing  '", "trailing  "),
        ("max_ttl", "2.0", "2"),
        ("max_ttl", "9223372036854775807", "9223372036854775807"),
        ("max_ttl", "-9223372036854775808", "-9223372036854775808"),
        ("is_admin", "'true'", "t"),
        ("is_admin", "0.0", "f"),
        ("is_admin", "NULL", "NULL"),
    ];
    for (number, (column, value, _)) in values.iter().enumerate() {
        from.database.query(&format!(
            "INSERT INTO users (id, {column}) VALUES ('v{number}', {value})"
        ))?;
    }
    let long = "é".repeat(256);
    from.database
        .query(&format!("INSERT INTO users (id) VALUES ('{long}')"))?;
    from.database.query(&format!(
        "INSERT INTO tokens (token, user_id) VALUES ('long', '{long}')"
    ))?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    for (number, (value, expected)) in times.iter().enumerate() {
        let sql = format!("SELECT created_at AT TIME ZONE 'UTC' FROM users WHERE id = 't{number}'");
        assert_eq!(to.database.value(&sql)?, *expected, "{value}");
    }
    for (number, (column, value, expected)) in values.iter().enumerate() {
        let sql = format!("SELECT {column} FROM users WHERE id = 'v{number}'");
        assert_eq!(to.database.value(&sql)?, *expected, "{column} {value}");
    }
    assert_eq!(
        to.database
            .value("SELECT user_id FROM tokens WHERE token = 'long'")?,
        long
    );
    Ok(())
}

/// Every value of a table with its storage class, byte by byte.
pub fn bits(database: &Database, table: &str) -> Result<Vec<Vec<String>>> {
    let table = table.replace('"', "\"\"");
    let columns = database.query(&format!(
        "SELECT name FROM pragma_table_info('{table}') ORDER BY name",
        table = table.replace("\"\"", "\"")
    ))?;
    let columns: Vec<String> = columns
        .concat()
        .iter()
        .map(|name| format!("typeof(\"{name}\"), hex(\"{name}\")"))
        .collect();
    let mut rows = database.query(&format!("SELECT {} FROM \"{table}\"", columns.join(", ")))?;
    rows.sort();
    Ok(rows)
}

#[test]
fn from_sqlite_to_sqlite_every_value_stays_to_the_last_bit() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (
        scene.made_up("from", crate::scene::SMALL)?,
        scene.local("to")?,
    );
    add_victims(&from)?;
    for (sql, _) in FAULTS.iter().filter(|(sql, _)| !sql.contains("NULL")) {
        from.database.query(sql)?;
    }
    from.database.query("INSERT INTO users (id, name, created_at) VALUES ('real', 0.1, 1e300), ('blob', x'00ff', x'00'), (x'00ff', 'a key of bytes', NULL), ('', 'an empty key', NULL)")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    for table in [
        "users",
        "tokens",
        "uploads",
        "files",
        "settings",
        "usage_stats",
        "download_stats_daily",
        "upload_stats_daily",
    ] {
        ensure!(
            bits(&from.database, table)? == bits(&to.database, table)?,
            "a value of {table} has changed"
        );
    }
    let again = scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(
        again.summary("users")?.present,
        from.database.count("users")?
    );
    Ok(())
}

#[test]
fn a_key_of_null_cannot_be_told_apart_and_is_named() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database
        .query("INSERT INTO users (id, name) VALUES (NULL, 'one'), (NULL, 'two')")?;
    scene
        .migrate(&from, &to, &[])?
        .expect(1)?
        .says(&["rejected: users NULL: "])?;
    let run = scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?;
    assert_eq!(run.summary("users")?.failed, 2);
    assert_eq!(
        to.database
            .value("SELECT count(*) FROM users WHERE id IS NULL")?,
        "0"
    );
    let again = scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?;
    assert_eq!(
        again.summary("users")?.present,
        from.database.count("users")? - 2
    );
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn times_that_sqlite_cannot_write_are_named() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", NO_FILES)?;
    let (from, to) = (scene.postgres("from")?, scene.local("to")?);
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    let times = [
        "infinity",
        "-infinity",
        "0044-03-15 12:00:00+00 BC",
        "10000-01-01 00:00:00+00",
    ];
    for (number, time) in times.iter().enumerate() {
        from.database.query(&format!(
            "INSERT INTO users (id, name, created_at) VALUES ('t{number}', 'x', '{time}')"
        ))?;
    }
    from.database
        .query("ALTER TABLE users ADD COLUMN weight double precision")?;
    from.database
        .query("INSERT INTO users (id, name, weight) VALUES ('t4', 'x', 'NaN')")?;
    let dry = scene.migrate(&from, &to, &["--dry-run"])?.expect(1)?;
    scene.migrate(&from, &to, &[])?.expect(1)?.says(&[
        "rejected: users t0: created_at: SQLite has no text for a time so far away",
        "rejected: users t4: weight: SQLite would make NULL of a NaN",
    ])?;
    let run = scene
        .migrate(&from, &to, &["--ignore-errors"])?
        .expect(20)?;
    for run in [dry, run] {
        assert_eq!(run.summary("users")?.failed, 5);
        run.says(&[
            "users t0: created_at",
            "users t1: created_at",
            "users t2: created_at",
            "users t3: created_at",
        ])?;
    }
    assert_eq!(
        to.database.count("users")?,
        made_up.database.count("users")?
    );
    Ok(())
}
