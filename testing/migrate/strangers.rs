//! What plikd does not know travels with the rest.

use anyhow::Result;

use crate::places::Database;
use crate::scene::{NO_FILES, SMALL, Scene, Server, run};

/// Columns of the first releases, the table of a development branch, and one of nobody's.
const STRANGERS: &[&str] = &[
    "ALTER TABLE uploads ADD COLUMN download_domain varchar(255)",
    "ALTER TABLE uploads ADD COLUMN is_admin bool",
    "UPDATE uploads SET download_domain = 'https://dl.example.org', is_admin = 1",
    "CREATE TABLE events (id text PRIMARY KEY, upload_id text, file_id text, file_name text, \
     file_size integer, type text, remote_ip text, user text, created_at datetime)",
    "CREATE INDEX idx_event_upload ON events (upload_id)",
    "CREATE INDEX idx_event_type ON events (type)",
    "INSERT INTO events VALUES ('e1', 'u', 'f', 'é.txt', 7, 'file_added', '::1', '', \
     '2026-01-02 03:04:05.123456+01:00'), ('e2', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "CREATE TABLE \"odd name\" (a integer, b text, v real, PRIMARY KEY (b, a))",
    "INSERT INTO \"odd name\" VALUES (1, 'x', 0.5), (2, 'x', NULL), (1, 'y', 3.0)",
    "INSERT INTO migrations (id) VALUES ('0009-upload-events')",
];

fn with_strangers(scene: &Scene) -> Result<Server> {
    let from = scene.made_up("from", SMALL)?;
    for sql in STRANGERS {
        from.database.query(sql)?;
    }
    Ok(from)
}

fn assert_arrived(from: &Server, to: &Server) -> Result<()> {
    // The dumps read only the types that Plik has.
    let known = |server: &Server| -> Result<Vec<String>> {
        let rows = server.database.rows_without(&["odd name.v"])?;
        Ok(rows
            .into_iter()
            .filter(|row| !row.starts_with("odd"))
            .collect())
    };
    assert_eq!(known(from)?, known(to)?);
    let odd = "SELECT a, b, v FROM \"odd name\" ORDER BY b, a";
    assert_eq!(
        to.database.query(odd)?,
        [["1", "x", "0.5"], ["2", "x", "NULL"], ["1", "y", "3"]]
    );
    let foreign = "SELECT count(*) FROM migrations WHERE id = '0009-upload-events'";
    assert_eq!(to.database.value(foreign)?, "1");
    let indexes = match &to.database {
        Database::Sqlite(_) => "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'idx_event_%'",
        Database::Postgres { .. } => {
            "SELECT count(*) FROM pg_class WHERE relname LIKE 'idx_event_%'"
        }
    };
    assert_eq!(to.database.value(indexes)?, "2");
    Ok(())
}

fn there_and_back(scene: &Scene, to: &Server) -> Result<()> {
    let (from, back) = (with_strangers(scene)?, scene.local("back")?);
    scene.migrate(&from, to, &["--dry-run"])?.expect(0)?;
    let run = scene.migrate(&from, to, &[])?.expect(0)?;
    assert_eq!(run.summary("events")?.copied, 2);
    assert_arrived(&from, to)?;
    let again = scene.migrate(&from, to, &[])?.expect(0)?;
    assert_eq!(again.summary("events")?.present, 2);
    scene.migrate(to, &back, &[])?.expect(0)?;
    assert_arrived(&from, &back)
}

#[test]
fn tables_columns_and_versions_survive() -> Result<()> {
    let scene = Scene::new()?;
    there_and_back(&scene, &scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn tables_columns_and_versions_survive_postgres() -> Result<()> {
    let scene = Scene::new()?;
    let to = scene.postgres("to")?;
    there_and_back(&scene, &to)
}

/// A query for the rows of the first would give those of the second too.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn rows_of_an_inherited_table_are_in_one_table_only() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", NO_FILES)?;
    let (from, to) = (scene.postgres("from")?, scene.local("to")?);
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    for sql in [
        "CREATE TABLE parent (id int PRIMARY KEY, v text)",
        "CREATE TABLE child (n int, PRIMARY KEY (id)) INHERITS (parent)",
        "INSERT INTO parent VALUES (1, 'p')",
        "INSERT INTO child VALUES (2, 'c', 5)",
        "CREATE TABLE whole (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE share PARTITION OF whole DEFAULT",
        "INSERT INTO whole VALUES (3, 'w')",
    ] {
        from.database.query(sql)?;
    }
    for options in [&[][..], &["--sync", "--delete"]] {
        scene.migrate(&from, &to, options)?.expect(0)?;
        let (parent, child) = ("SELECT id, v FROM parent", "SELECT id, v, n FROM child");
        assert_eq!(to.database.query(parent)?, [["1", "p"]]);
        assert_eq!(to.database.query(child)?, [["2", "c", "5"]]);
        assert_eq!(to.database.query("SELECT id FROM whole")?, [["3"]]);
    }
    Ok(())
}

#[test]
fn a_table_without_primary_key_is_a_problem() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database.query("CREATE TABLE notes (text text)")?;
    let before = scene.listing()?;
    for (options, code) in [(&["--dry-run"][..], 1), (&[], 1)] {
        scene.migrate(&from, &to, options)?.expect(code)?.says(&[
            "table notes has no primary key",
            "hint: give table notes a primary key",
        ])?;
    }
    scene.is_as(&before)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn names_that_differ_by_case_only_are_a_problem_for_sqlite() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.postgres("from")?, scene.local("to")?);
    scene
        .migrate(&scene.made_up("first", NO_FILES)?, &from, &[])?
        .expect(0)?;
    from.database.query(
        "CREATE TABLE ev (id text PRIMARY KEY); CREATE TABLE \"Ev\" (id text PRIMARY KEY); \
         ALTER TABLE users ADD COLUMN note text; ALTER TABLE users ADD COLUMN \"Note\" text",
    )?;
    let before = scene.listing()?;
    for options in [&["--dry-run"][..], &[]] {
        scene.migrate(&from, &to, options)?.expect(1)?.says(&[
            "✗ names: tables Ev and ev are the same name in SQLite",
            "hint: rename ev, or drop it",
            "✗ names: columns users.note and users.Note are the same name in SQLite",
            "hint: rename users.Note, or drop it",
        ])?;
    }
    scene.is_as(&before)?;
    let other = scene.postgres("other")?;
    scene.migrate(&from, &other, &[])?.expect(0)?;
    Ok(())
}

/// A table with a column that the database makes, and one that is called like the bookkeeping.
const GENERATED: &[&str] = &[
    "CREATE TABLE notes (id text PRIMARY KEY, price integer, \
     twice integer GENERATED ALWAYS AS (price * 2) STORED)",
    "INSERT INTO notes (id, price) VALUES ('n', 21)",
    "CREATE TABLE plikd_migrate_notes (id text PRIMARY KEY, text text)",
    "INSERT INTO plikd_migrate_notes VALUES ('one', 'of nobody')",
];

/// What cannot be written is named, unless the target makes it too; what is only called like
/// something else travels.
fn generated_columns(scene: &Scene, from: &Server, to: &Server, other: &Server) -> Result<()> {
    for sql in GENERATED {
        from.database.query(sql)?;
    }
    let told = [
        "! generated columns: the source makes their values from others, so they are left out: \
         notes.twice",
        "hint: create their tables in the target with them first",
    ];
    let dry = scene.migrate(from, to, &["--dry-run"])?.expect(0)?;
    dry.says(&told)?;
    let run = scene.migrate(from, to, &["--report", "report.json"])?;
    let run = run.expect(0)?.says(&told)?;
    assert_eq!(run.summary("plikd_migrate_notes")?.copied, 1);
    let report = std::fs::read_to_string(scene.path("report.json"))?;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    let finding = serde_json::json!({
        "kind": "column_left_out", "table": "notes", "columns": ["twice"],
    });
    assert_eq!(report["findings"], serde_json::json!([finding]));
    let notes = "SELECT * FROM notes";
    assert_eq!(to.database.query(notes)?, [["n", "21"]]);
    let text = "SELECT text FROM plikd_migrate_notes";
    assert_eq!(to.database.value(text)?, "of nobody");
    scene.verify(from, to, &[])?.expect(0)?;

    other.database.query(GENERATED[0])?;
    let run = scene.migrate(from, other, &[])?.expect(0)?;
    run.never_says(&["generated columns"])?;
    assert_eq!(other.database.query(notes)?, [["n", "21", "42"]]);
    Ok(())
}

#[test]
fn a_generated_column_is_named_where_it_is_left_out() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", SMALL)?, scene.local("to")?);
    generated_columns(&scene, &from, &to, &scene.local("other")?)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_generated_column_is_named_where_it_is_left_out_postgres() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.postgres("from")?, scene.local("to")?);
    scene
        .migrate(&scene.made_up("first", SMALL)?, &from, &[])?
        .expect(0)?;
    generated_columns(&scene, &from, &to, &scene.postgres("other")?)
}

/// What only the engine needs is no table of anybody.
#[test]
fn a_source_with_a_counter_of_its_own_is_no_problem() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database
        .query("CREATE TABLE notes (id integer PRIMARY KEY AUTOINCREMENT, text text)")?;
    from.database
        .query("INSERT INTO notes (text) VALUES ('one'), ('two')")?;
    from.database.query("ANALYZE")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(
        to.database
            .query("SELECT id, text FROM notes ORDER BY id")?,
        [["1", "one"], ["2", "two"]]
    );
    Ok(())
}

/// Keys that differ by case only, or that their table takes for equal, are read in one order.
#[test]
fn a_table_with_a_collation_of_its_own_is_compared_all_the_same() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    let database = &from.database;
    database.query("CREATE TABLE notes (id text COLLATE NOCASE PRIMARY KEY, text text)")?;
    database.query("INSERT INTO notes VALUES ('a', '1'), ('B', '2'), ('c', '3'), ('D', '4')")?;
    for expected in [0, 4] {
        let run = scene.migrate(&from, &to, &[])?.expect(0)?;
        assert_eq!(run.summary("notes")?.present, expected);
    }
    assert_eq!(to.database.count("notes")?, 4);
    Ok(())
}

/// Logins of the command line client live for minutes.
#[test]
fn logins_stay_behind() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database
        .query("INSERT INTO cli_auth_sessions (code, secret) VALUES ('ABCD', 'hush')")?;
    let run = scene
        .migrate(&from, &to, &[])?
        .expect(0)?
        .never_says(&["cli_auth_sessions", "hush"])?;
    assert_eq!(run.summary("users")?.copied, from.database.count("users")?);
    assert_eq!(to.database.count("cli_auth_sessions")?, 0);
    Ok(())
}

#[test]
fn nobody_hears_a_password() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    let to = scene.write(
        "to.cfg",
        "DataBackend = \"s3\"\n[DataBackendConfig]\nEndpoint = \"127.0.0.1:1\"\nAccessKeyID = \"key\"\n\
         SecretAccessKey = \"very-secret\"\nBucket = \"plik\"\n[MetadataBackendConfig]\nDriver = \"postgres\"\n\
         ConnectionString = \"host=127.0.0.1 port=1 user=plik password=very-secret dbname=plik\"\n",
    )?;
    for options in [&["--dry-run", "-v"][..], &[]] {
        let mut command = scene.migration(&from.config, &to, options);
        command.env("PLIKD_LOG_LEVEL", "DEBUG");
        let run = run(command)?.never_says(&["very-secret"])?;
        run.says(&["cannot be reached", "✗ "])?;
    }
    Ok(())
}

/// What Plik's ORM calls a boolean is any number to others.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn numbers_of_strangers_stay_numbers() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.postgres("to")?);
    from.database.query(
        "CREATE TABLE prices (id text PRIMARY KEY, price numeric(10,2), n numeric, d decimal, \
         sold boolean)",
    )?;
    from.database
        .query("INSERT INTO prices VALUES ('a', 9.99, 7, 1.5, 1), ('b', 1, 0, NULL, 0)")?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let all = "SELECT id, price, n, d, CASE WHEN sold THEN 'yes' ELSE 'no' END FROM prices";
    let back = scene.local("back")?;
    scene.migrate(&to, &back, &[])?.expect(0)?;
    let again = scene.postgres("again")?;
    scene.migrate(&back, &again, &[])?.expect(0)?;
    for server in [&to, &back, &again] {
        let rows = server.database.query(&format!("{all} ORDER BY id"))?;
        let expected = [
            ["a", "9.99", "7", "1.5", "yes"],
            ["b", "1", "0", "NULL", "no"],
        ];
        assert_eq!(rows, expected);
    }
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_number_that_would_lose_digits_is_rejected() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.postgres("to")?);
    from.database
        .query("CREATE TABLE prices (id text PRIMARY KEY, n numeric)")?;
    from.database
        .query("INSERT INTO prices VALUES ('a', 9007199254740993)")?;
    scene
        .migrate(&from, &to, &[])?
        .expect(1)?
        .says(&["prices a", "has more digits than the target's column keeps"])?;
    Ok(())
}
