//! Tables that are not Plik's own: what the target cannot have of them is told before anything is
//! written, and everything else arrives.

use anyhow::{Result, ensure};

use crate::places::Database;
use crate::scene::{NO_FILES, SMALL, Scene, Server, unique};

/// A server in PostgreSQL with these statements done in it.
fn postgres_with(scene: &Scene, sql: &[&str]) -> Result<Server> {
    let from = scene.postgres("from")?;
    let first = scene.made_up("first", NO_FILES)?;
    scene.migrate(&first, &from, &[])?.expect(0)?;
    for sql in sql {
        from.database.query(sql)?;
    }
    Ok(from)
}

/// Dry run, plan and run end with the same code, say the same, and write nothing.
fn refused(scene: &Scene, from: &Server, to: &Server, code: i32, told: &[&str]) -> Result<()> {
    let before = (scene.listing()?, relations(to)?);
    for options in [&["--dry-run"][..], &["--plan", "plan.json"], &[]] {
        let run = scene.migrate(from, to, options)?.expect(code)?;
        run.says(told)?;
    }
    assert_eq!((scene.listing()?, relations(to)?), before);
    Ok(())
}

/// What a target in PostgreSQL has; nothing of one that is a file.
fn relations(to: &Server) -> Result<Vec<Vec<String>>> {
    match &to.database {
        Database::Sqlite(_) => Ok(Vec::new()),
        postgres @ Database::Postgres { .. } => postgres.query(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
        ),
    }
}

/// Told so, the run goes on without it, names it and ends with 20, as its dry run does.
fn left_out(scene: &Scene, from: &Server, to: &Server, told: &[&str]) -> Result<()> {
    for options in [&["--dry-run", "--ignore-errors"][..], &["--ignore-errors"]] {
        let run = scene.migrate(from, to, options)?.expect(20)?;
        run.says(told)?.never_says(&["✗"])?;
    }
    assert_eq!(from.database.count("users")?, to.database.count("users")?);
    Ok(())
}

const TYPES: &[&str] = &[
    "CREATE TYPE mood AS ENUM ('sad', 'happy')",
    "CREATE DOMAIN degree AS integer CHECK (VALUE < 100)",
    "CREATE DOMAIN warmth AS degree",
    "CREATE DOMAIN label AS varchar(7)",
    "CREATE TABLE ev (id mood PRIMARY KEY, warmth warmth, label label, moods mood[], days date[])",
    "INSERT INTO ev VALUES ('sad', 5, 'seven', '{sad,happy}', '{2020-01-02}'), ('happy', 6, 'x', NULL, NULL)",
];

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn columns_of_enumerations_and_domains_become_what_holds_their_values() -> Result<()> {
    let scene = Scene::new()?;
    let from = postgres_with(&scene, TYPES)?;
    let rows = "SELECT id, warmth, label, moods, days FROM ev ORDER BY warmth";
    let held = from.database.query(rows)?;
    let to = scene.postgres("to")?;
    let told = [
        "! column types: the target has no type mood, so ev.id becomes text there",
        "! column types: the target has no type warmth, so ev.warmth becomes integer there",
        "! column types: the target has no type label, so ev.label becomes character varying(7) there",
        "! column types: the target has no type mood[], so ev.moods becomes text[] there",
        "hint: create type mood in the target first",
    ];
    let dry = scene.migrate(&from, &to, &["--dry-run"])?.expect(0)?;
    dry.says(&told)?;
    scene.migrate(&from, &to, &[])?.expect(0)?.says(&told)?;
    assert_eq!(to.database.query(rows)?, held);
    let types = "SELECT string_agg(data_type, ', ' ORDER BY ordinal_position) \
                 FROM information_schema.columns WHERE table_name = 'ev'";
    assert_eq!(
        to.database.value(types)?,
        "text, integer, character varying, ARRAY, ARRAY"
    );
    let again = scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(
        again.never_says(&["column types"])?.summary("ev")?.present,
        2
    );
    scene.verify(&from, &to, &[])?.expect(0)?;

    let file = scene.local("file")?;
    let run = scene.migrate(&from, &file, &[])?.expect(0)?;
    run.never_says(&["column types"])?;
    assert_eq!(file.database.query(rows)?, held);
    assert_eq!(
        file.database.value("SELECT typeof(warmth) FROM ev")?,
        "integer"
    );
    scene.verify(&from, &file, &[])?.expect(0)?;
    Ok(())
}

/// A target that has the types gets them; rows that are there already are found by their keys.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn columns_keep_the_types_that_the_target_has() -> Result<()> {
    let scene = Scene::new()?;
    let from = postgres_with(&scene, TYPES)?;
    from.database
        .query("CREATE TABLE notes (id uuid PRIMARY KEY, text text)")?;
    from.database
        .query("INSERT INTO notes VALUES ('c0a80101-0000-4000-8000-000000000001', 'one')")?;
    let to = scene.postgres("to")?;
    for sql in &TYPES[..4] {
        to.database.query(sql)?;
    }
    let run = scene.migrate(&from, &to, &[])?.expect(0)?;
    run.never_says(&["column types"])?;
    let declared = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
                    WHERE attrelid = 'ev'::regclass AND attnum > 0 ORDER BY attnum";
    assert_eq!(to.database.query(declared)?, from.database.query(declared)?);
    for (options, code) in [(&[][..], 0), (&["--sync"], 0)] {
        let run = scene.migrate(&from, &to, options)?.expect(code)?;
        assert_eq!(run.summary("ev")?.present, 2);
        assert_eq!(run.summary("notes")?.present, 1);
    }
    from.database
        .query("UPDATE ev SET warmth = 7 WHERE id = 'sad'")?;
    let run = scene.migrate(&from, &to, &[])?.expect(20)?;
    assert_eq!(run.summary("ev")?.conflicts, 1);
    from.database.query("DELETE FROM ev WHERE id = 'happy'")?;
    from.database.query("DELETE FROM notes")?;
    scene
        .migrate(&from, &to, &["--sync", "--delete"])?
        .expect(0)?;
    let rows = "SELECT id, warmth FROM ev";
    assert_eq!(to.database.query(rows)?, from.database.query(rows)?);
    assert_eq!(to.database.count("notes")?, 0);
    Ok(())
}

/// Such a domain counts as an array where PostgreSQL sorts types, and is none.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_domain_over_an_array_becomes_the_array() -> Result<()> {
    let scene = Scene::new()?;
    let from = postgres_with(
        &scene,
        &[
            "CREATE DOMAIN tags AS text[]",
            "CREATE TABLE ev (id text PRIMARY KEY, tags tags)",
            "INSERT INTO ev VALUES ('a', '{one,two}')",
        ],
    )?;
    let to = scene.postgres("to")?;
    let told = "the target has no type tags, so ev.tags becomes text[] there";
    let run = scene.migrate(&from, &to, &[])?.expect(0)?;
    run.says(&[told])?;
    assert_eq!(to.database.value("SELECT tags[2] FROM ev")?, "two");
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_type_that_nothing_stands_for_is_a_problem() -> Result<()> {
    let scene = Scene::new()?;
    let from = postgres_with(
        &scene,
        &[
            "CREATE TYPE pair AS (one integer, other text)",
            "CREATE TABLE ev (id text PRIMARY KEY, pair pair)",
            "INSERT INTO ev VALUES ('a', '(1,x)')",
            "ALTER TABLE users ADD COLUMN pair pair",
        ],
    )?;
    let to = scene.postgres("to")?;
    let told = [
        "✗ column types: column ev.pair has type pair, which the target does not have",
        "hint: create type pair in the target first",
        "✗ column types: column users.pair has type pair",
    ];
    refused(&scene, &from, &to, 1, &told)?;
    let told = [
        "! column types: column ev.pair has type pair, which the target does not have: table ev is left out",
        "left out: column ev.pair has type pair",
        "column users.pair is left out",
    ];
    left_out(&scene, &from, &to, &told)?;
    assert_eq!(to.database.value("SELECT to_regclass('ev') IS NULL")?, "t");
    // SQLite has it as text.
    let file = scene.local("file")?;
    scene.migrate(&from, &file, &[])?.expect(0)?;
    assert_eq!(file.database.value("SELECT pair FROM ev")?, "(1,x)");
    Ok(())
}

/// Without a schema before it, the name means the table of the catalog.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_table_called_like_one_of_postgres_is_a_problem() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    for sql in [
        "CREATE TABLE pg_user (id integer PRIMARY KEY, v text)",
        "INSERT INTO pg_user VALUES (1, 'x')",
    ] {
        from.database.query(sql)?;
    }
    let to = scene.postgres("to")?;
    let table = "table pg_user has the name of a table of PostgreSQL's own";
    let told = [
        &format!("✗ names: {table}"),
        "hint: rename table pg_user, or drop it if nothing needs it",
    ];
    refused(&scene, &from, &to, 1, &told)?;
    left_out(&scene, &from, &to, &[table])
}

/// PostgreSQL would cut them, and find them no more.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn names_that_postgres_does_not_take_are_a_problem() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    let (long, fits) = ("ü".repeat(32), "x".repeat(63));
    for sql in [
        format!("CREATE TABLE {long} (id text PRIMARY KEY)"),
        format!("CREATE TABLE {fits} (id text PRIMARY KEY, {fits} text)"),
        format!("CREATE TABLE ev (id text PRIMARY KEY, {long} text, ctid text, \"\" text)"),
        "CREATE TABLE notes (id text PRIMARY KEY, text text)".to_owned(),
        format!("CREATE INDEX i{long} ON notes (text)"),
        format!("ALTER TABLE users ADD COLUMN {long} text"),
        format!("INSERT INTO {fits} VALUES ('a', 'b')"),
    ] {
        from.database.query(&sql)?;
    }
    let to = scene.postgres("to")?;
    let (table, column) = (
        format!("table {long} has a name of more"),
        format!("column users.{long} has"),
    );
    let told = [
        format!("✗ names: {table}"),
        format!(
            "hint: rename table {long}, or drop it if nothing needs it; or leave it out with --ignore-errors"
        ),
        format!("✗ names: column ev.{long} has a name of more than 63 bytes"),
        "✗ names: column ev.ctid cannot be in PostgreSQL".to_owned(),
        "✗ names: column ev. has an empty name".to_owned(),
        format!("✗ names: index notes.i{long} has a name"),
        format!("✗ names: {column}"),
    ];
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    refused(&scene, &from, &to, 1, &told)?;
    left_out(&scene, &from, &to, &[&table, &column, "index notes."])?;
    let ours = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname IN ('ev', 'notes')";
    assert_eq!(to.database.value(ours)?, "0");
    assert_eq!(to.database.count(&fits)?, 1);
    // The names of what is on its way are cut as well; these begin alike.
    let other = format!("{}y", &fits[1..]);
    from.database.query(&format!(
        "CREATE TABLE {other} (id text PRIMARY KEY, n integer)"
    ))?;
    from.database
        .query(&format!("INSERT INTO {other} VALUES ('a', 1)"))?;
    for expected in [0, 1] {
        let run = scene
            .migrate(&from, &to, &["--ignore-errors"])?
            .expect(20)?;
        assert_eq!(run.summary(&fits)?.present, 1);
        assert_eq!(run.summary(&other)?.present, expected);
    }
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_table_called_like_those_of_sqlite_is_a_problem_there_and_travels_elsewhere() -> Result<()> {
    let scene = Scene::new()?;
    let from = postgres_with(
        &scene,
        &[
            "CREATE TABLE sqlite_notes (id text PRIMARY KEY)",
            "INSERT INTO sqlite_notes VALUES ('a')",
        ],
    )?;
    let (file, to) = (scene.local("file")?, scene.postgres("to")?);
    let told = "table sqlite_notes cannot be in SQLite, whose own names begin with sqlite_";
    refused(
        &scene,
        &from,
        &file,
        1,
        &[
            &format!("✗ names: {told}"),
            "hint: rename table sqlite_notes",
        ],
    )?;
    left_out(&scene, &from, &file, &[&format!("left out: {told}")])?;
    let run = scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(run.summary("sqlite_notes")?.copied, 1);
    assert_eq!(to.database.count("sqlite_notes")?, 1);
    Ok(())
}

/// A strict table takes any value in such a column, and elsewhere the word means a number.
#[test]
fn a_column_of_any_type_keeps_each_value() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database
        .query("CREATE TABLE ev (id ANY PRIMARY KEY, v any, n integer) STRICT")?;
    from.database.query(
        "INSERT INTO ev VALUES ('007', '1e3', 1), (7, 1.5, 2), (8.5, x'3037', 3), (x'00', NULL, 4)",
    )?;
    scene.migrate(&from, &to, &["--dry-run"])?.expect(0)?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let rows = "SELECT quote(id), quote(v), typeof(id), typeof(v) FROM ev ORDER BY n";
    assert_eq!(to.database.query(rows)?, from.database.query(rows)?);
    scene.verify(&from, &to, &[])?.expect(0)?;
    Ok(())
}

/// The same database, for another role without a right to what it does not own.
fn for_somebody(scene: &Scene, server: &Server, name: &str) -> Result<Server> {
    let role = unique("weak");
    for sql in [
        format!("CREATE ROLE {role} LOGIN PASSWORD 'weak'"),
        format!("GRANT ALL ON SCHEMA public TO {role}"),
        format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"),
    ] {
        server.database.query(&sql)?;
    }
    let url = server.database.url();
    let (_, host) = url.rsplit_once('@').unwrap_or_default();
    let config = scene.write(
        &format!("{name}.cfg"),
        &format!(
            "{}[MetadataBackendConfig]\nDriver = \"postgres\"\n\
             ConnectionString = \"postgres://{role}:weak@{host}\"\n",
            server.store.section()
        ),
    )?;
    Ok(Server {
        config,
        database: Database::Sqlite(scene.path("nothing")),
        store: server.store.clone(),
    })
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_table_that_may_not_be_read_is_a_problem() -> Result<()> {
    let scene = Scene::new()?;
    let from = postgres_with(&scene, &[])?;
    let weak = for_somebody(&scene, &from, "weak")?;
    from.database
        .query("CREATE TABLE secrets (id text PRIMARY KEY)")?;
    let (file, to) = (scene.local("file")?, scene.postgres("to")?);
    let told = "table secrets of the source may not be read by this user";
    for to in [&file, &to] {
        let problem = format!("✗ rights: {told}");
        refused(
            &scene,
            &weak,
            to,
            4,
            &[&problem, "hint: GRANT SELECT ON secrets"],
        )?;
        for options in [&["--dry-run", "--ignore-errors"][..], &["--ignore-errors"]] {
            let run = scene.migrate(&weak, to, options)?.expect(20)?;
            run.says(&[&format!("left out: {told}")])?;
        }
        assert_eq!(from.database.count("users")?, to.database.count("users")?);
    }
    // What Plik needs is not left out.
    from.database.query("REVOKE ALL ON users FROM PUBLIC")?;
    let role = from.database.value("SELECT rolname FROM pg_roles WHERE rolname LIKE 'weak%' AND has_table_privilege(oid, 'users', 'SELECT') ORDER BY oid DESC")?;
    from.database
        .query(&format!("REVOKE ALL ON users FROM {role}"))?;
    let run = scene.migrate(&weak, &scene.local("other")?, &["--ignore-errors"])?;
    run.expect(4)?
        .says(&["✗ rights: table users of the source may not be read"])?;
    ensure!(!scene.path("other.db").exists(), "a database was written");
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_column_that_may_not_be_added_to_a_table_of_others_is_a_problem() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.postgres("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    let weak = for_somebody(&scene, &to, "weak")?;
    from.database
        .query("ALTER TABLE users ADD COLUMN note text")?;
    let told = "column users.note is not in the target, where this user may not add it";
    let problem = format!("✗ rights: {told}");
    refused(
        &scene,
        &from,
        &weak,
        4,
        &[
            &problem,
            "hint: add users.note in the target as the owner of users",
        ],
    )?;
    let run = scene.migrate(&from, &weak, &["--ignore-errors"])?;
    run.expect(20)?.says(&[&format!("left out: {told}")])?;
    Ok(())
}

/// What the target has under such a name is found before anything is written.
fn taken(scene: &Scene, to: &Server) -> Result<()> {
    let from = scene.made_up("from", SMALL)?;
    for table in ["ev", "other"] {
        from.database.query(&format!(
            "CREATE TABLE {table} (id text PRIMARY KEY, text text)"
        ))?;
    }
    to.database.query("CREATE VIEW ev AS SELECT 1 AS one")?;
    to.database
        .query("CREATE TABLE other (text text PRIMARY KEY, id text)")?;
    let told = [
        "✗ names: table ev cannot be created in the target: a view, an index or the like has its name",
        "hint: rename table ev, or what has its name in the target",
        "✗ primary keys: table other has the primary key (id), and (text) in the target",
    ];
    refused(scene, &from, to, 1, &told)?;
    left_out(
        scene,
        &from,
        to,
        &["table ev is left out", "table other is left out"],
    )
}

#[test]
fn a_name_that_is_taken_in_the_target_is_a_problem() -> Result<()> {
    let scene = Scene::new()?;
    taken(&scene, &scene.local("to")?)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_name_that_is_taken_in_the_target_is_a_problem_postgres() -> Result<()> {
    let scene = Scene::new()?;
    taken(&scene, &scene.postgres("to")?)
}

/// Programs hear of it too.
#[test]
fn a_table_that_is_left_out_is_in_the_report_and_among_the_events() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    from.database.query("CREATE TABLE notes (text text)")?;
    let run = scene.migrate(
        &from,
        &to,
        &["--ignore-errors", "--json", "--report", "report.json"],
    )?;
    let run = run.expect(20)?;
    let reason = "table notes has no primary key, so its rows cannot be told apart";
    let events = run
        .stdout
        .lines()
        .map(serde_json::from_str::<serde_json::Value>);
    let events: Vec<_> = events.collect::<Result<_, _>>()?;
    let told = events
        .iter()
        .find(|event| event["event"] == "table_left_out");
    ensure!(told.is_some_and(|told| told["table"] == "notes" && told["reason"] == reason));
    let report = std::fs::read_to_string(scene.path("report.json"))?;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    let finding = serde_json::json!({"kind": "table_left_out", "table": "notes", "reason": reason});
    assert_eq!(report["findings"], serde_json::json!([finding]));
    Ok(())
}
