//! `--dialect`: the rows of a server to its other database, and the server started there.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::locks::{Reader, is_waiting};
use crate::places::Database;
use crate::scene::{Counts, Run, SMALL, Scene, Server, finish, run, signal, wait_until};

/// A filled local server, and the PostgreSQL that it is to be moved to.
struct Stage {
    scene: Scene,
    local: Server,
    other: Database,
}

impl Stage {
    fn new() -> Result<Self> {
        let scene = Scene::new()?;
        Ok(Self {
            local: scene.made_up("plik", SMALL)?,
            other: Database::postgres()?,
            scene,
        })
    }

    /// The program with the variable set.
    fn plikd(&self, arguments: &[&str]) -> Command {
        let mut command = self.without_variable(arguments);
        command.env("PLIKD_POSTGRES_URL", self.other.url());
        command
    }

    fn without_variable(&self, arguments: &[&str]) -> Command {
        let mut command = self.scene.plikd();
        command
            .arg("--config")
            .arg(&self.local.config)
            .args(arguments);
        command
    }

    fn change(&self, to: &str, options: &[&str]) -> Result<Run> {
        let arguments = [&["migrate", "--dialect", to], options].concat();
        run(self.plikd(&arguments))
    }
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn there_and_back_and_no_server_starts_on_the_wrong_one() -> Result<()> {
    let stage = Stage::new()?;
    let rows = stage.local.database.rows()?;

    let empty = run(stage.plikd(&[]))?.expect(1)?;
    empty.says(&[
        "that database is empty while",
        "plikd migrate --dialect postgres",
    ])?;

    let before = stage.scene.listing()?;
    stage.change("postgres", &["--dry-run"])?.expect(0)?;
    stage.scene.is_as(&before)?;
    let there = stage.change("postgres", &[])?.expect(0)?;
    there.says(&[
        "info: Getting uploads...",
        "info: Source: SQLite ",
        "info: copy uploads 19/19",
        "info: verify uploads 19 rows ok",
        "success: Migration postgres completed",
        "info: Please start server, will use Postgres database: plikd",
    ])?;
    assert_eq!(stage.other.rows()?, rows);

    let section = stage.other.section();
    stage.scene.write("target.cfg", &section)?;
    let verify = ["migrate", "verify", "--to", "target.cfg", "--metadata-only"];
    run(stage.without_variable(&verify))?
        .expect(0)?
        .says(&["equal: compared in"])?;

    let moved = run(stage.without_variable(&[]))?.expect(1)?;
    moved.says(&["was migrated to PostgreSQL at", "--use-old-database"])?;

    let full = stage.change("sqlite", &[])?.expect(1)?;
    full.says(&[
        "the target already holds plikd data",
        "--overwrite replaces it",
    ])?;
    let back = stage.change("sqlite", &["--overwrite"])?.expect(0)?;
    back.says(&[
        "success: Migration sqlite completed",
        "unset PLIKD_POSTGRES_URL",
        "info: the old file was kept as ",
        "plik.db.bak-",
    ])?;
    assert_eq!(stage.local.database.rows()?, rows);
    let names: Vec<String> = fs::read_dir(stage.scene.path("."))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    assert!(
        names.iter().any(|name| name.starts_with("plik.db.bak-")),
        "{names:?}"
    );
    for gone in [
        "plik.db.moved",
        "plik.db.migrating",
        "plik.db.migrating.lock",
    ] {
        assert!(!names.iter().any(|name| name == gone), "{names:?}");
    }
    stage.scene.serve(&stage.local)?;
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_filled_postgres_is_replaced_only_when_somebody_says_so() -> Result<()> {
    let stage = Stage::new()?;
    stage.change("postgres", &[])?.expect(0)?;
    let moved_before = [
        "was migrated to PostgreSQL at",
        "already, nothing was done",
        "hint: start plikd (or",
    ];
    stage
        .change("postgres", &[])?
        .expect(1)?
        .says(&moved_before)?
        .never_says(&["--overwrite", "set PLIKD_POSTGRES_URL (or"])?;
    // The source has been left behind, and a server may have lived on in the target.
    let rows = stage.other.rows()?;
    let old = stage
        .change("postgres", &["--overwrite", "--yes"])?
        .expect(1)?;
    old.says(&moved_before)?;
    assert_eq!(stage.other.rows()?, rows);
    fs::remove_file(stage.scene.path("plik.db.moved"))?;
    stage
        .change("postgres", &[])?
        .expect(1)?
        .says(&["--overwrite replaces it"])?;
    let unasked = stage.change("postgres", &["--overwrite"])?.expect(2)?;
    unasked.says(&["nobody is there to confirm", "hint: add --yes"])?;
    let replaced = stage
        .change("postgres", &["--overwrite", "--yes"])?
        .expect(0)?;
    replaced.says(&["info: dropped ", "success: Migration postgres completed"])?;
    assert_eq!(stage.other.rows()?, stage.local.database.rows()?);
    Ok(())
}

/// A stage on which PostgreSQL holds rows that nobody else has.
fn filled() -> Result<Stage> {
    let stage = Stage::new()?;
    stage.change("postgres", &[])?.expect(0)?;
    fs::remove_file(stage.scene.path("plik.db.moved"))?;
    stage
        .other
        .query("UPDATE uploads SET comments = 'only here'")?;
    Ok(stage)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn nothing_is_dropped_for_a_source_that_cannot_be_moved() -> Result<()> {
    let stage = filled()?;
    let rows = stage.other.rows()?;
    let first = "(SELECT min(id) FROM uploads)";
    stage.local.database.query(&format!(
        "UPDATE uploads SET comments = CAST(x'410042' AS TEXT) WHERE id = {first}"
    ))?;
    let replace = ["--overwrite", "--yes"];
    let unfit = stage.change("postgres", &replace)?.expect(1)?;
    unfit
        .says(&["rejected: uploads", "nothing was written"])?
        .never_says(&["dropped"])?;
    assert_eq!(stage.other.rows()?, rows);
    stage
        .change("postgres", &[&replace[..], &["--strip-nul"]].concat())?
        .expect(0)?
        .says(&["info: dropped "])?;
    stage.local.database.query(&format!(
        "UPDATE uploads SET comments = 'AB' WHERE id = {first}"
    ))?;
    assert_eq!(stage.other.rows()?, stage.local.database.rows()?);
    Ok(())
}

/// What waits in PostgreSQL is not carried out for somebody who has gone.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn nothing_is_dropped_for_a_run_that_was_interrupted_while_it_waited() -> Result<()> {
    for asked in [Signal::INT, Signal::KILL] {
        let stage = filled()?;
        let rows = stage.other.rows()?;
        let reader = Reader::start(&stage.other)?;
        let mut run = stage.plikd(&["migrate", "--dialect", "postgres", "--overwrite", "--yes"]);
        let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        wait_until("the run waits", || is_waiting(&stage.other))?;
        signal(&run, asked)?;
        let ended = finish(run)?;
        if asked == Signal::INT {
            ended
                .expect(130)?
                .says(&["interrupted"])?
                .never_says(&["dropped"])?;
        }
        reader.end(&stage.other)?;
        wait_until("nobody waits", || Ok(!is_waiting(&stage.other)?))?;
        assert_eq!(stage.other.rows()?, rows);
    }
    Ok(())
}

/// PostgreSQL alone knows which texts its indexes can hold.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_move_that_fails_after_the_drop_says_what_is_gone_and_goes_on() -> Result<()> {
    let stage = filled()?;
    let (mut long, mut state) = (String::new(), 1_u64);
    while long.len() < 30_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        long += &format!("{state:016x}");
    }
    let local = &stage.local.database;
    local.query(&format!(
        "INSERT INTO users (id, name) VALUES ('{long}', 'long')"
    ))?;
    let replace = ["--overwrite", "--yes"];
    let failed = stage.change("postgres", &replace)?.expect(1)?;
    failed
        .says(&[
            "info: dropped ",
            "plikd: the tables of postgres ",
            " were dropped, and what replaces them is not complete: ",
        ])?
        .never_says(&["nothing was written"])?;
    local.query("DELETE FROM users WHERE name = 'long'")?;
    stage.change("postgres", &replace)?.expect(0)?;
    assert_eq!(stage.other.rows()?, local.rows()?);
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_dry_run_says_what_would_be_dropped_and_copied() -> Result<()> {
    let stage = filled()?;
    stage
        .other
        .query("INSERT INTO users (id, name) VALUES ('local:extra', 'extra')")?;
    let rows = stage.other.rows()?;
    let looked = stage.change("postgres", &["--overwrite", "--dry-run"])?;
    let looked = looked.expect(0)?.says(&[
        "info: would drop users (5 rows)",
        "info: would drop uploads (19 rows)",
        "info: would drop plikd_migrate_runs (1 row)",
        "info: compare users 4/4",
        "info: compare uploads 19/19",
    ])?;
    let looked = looked.never_says(&["info: dropped", "only in the target"])?;
    assert_eq!(looked.summary("uploads")?, Counts::copied(19));
    assert_eq!(stage.other.rows()?, rows);
    let json = ["--overwrite", "--dry-run", "--json"];
    stage
        .change("postgres", &json)?
        .says(&["\"event\":\"would_drop\"", "\"table\":\"uploads\""])?;

    let back = ["--overwrite", "--dry-run"];
    let back = stage.change("sqlite", &back)?.expect(0)?;
    back.says(&["info: would keep ", "plik.db (", " 19 uploads, "])?;
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_server_on_either_end_is_in_the_way() -> Result<()> {
    let stage = Stage::new()?;
    // The server of a test has no variable, so it is the one on the source.
    let daemon = stage.scene.serve(&stage.local)?;
    let refused = stage
        .change("postgres", &["--lock-timeout", "300ms"])?
        .expect(7)?;
    let hint = "hint: stop it first";
    refused
        .says(&["plikd is still running on sqlite ", " after 300ms", hint])?
        .never_says(&["Getting uploads"])?;
    let at_once = stage.change("postgres", &[])?.expect(7)?;
    at_once.says(&["plikd is running on sqlite ", hint])?;
    drop(daemon);
    stage.change("postgres", &[])?.expect(0)?;
    Ok(())
}

#[test]
fn what_cannot_be_meant_is_bad_usage() -> Result<()> {
    let scene = Scene::new()?;
    let local = scene.local("plik")?;
    let change = |url: Option<&str>, to: &str| -> Result<Run> {
        let mut command = scene.plikd();
        command.arg("--config").arg(&local.config);
        command.args(["migrate", "--dialect", to]);
        command.envs(url.map(|url| ("PLIKD_POSTGRES_URL", url)));
        run(command)
    };
    let somewhere = "postgres://nobody@127.0.0.1:1/plik";
    change(Some(somewhere), "mysql")?
        .expect(2)?
        .says(&["Invalid dialect: mysql, allowed dialects: postgres, sqlite"])?;
    for to in ["postgres", "sqlite"] {
        let text = [
            "PLIKD_POSTGRES_URL is not set",
            "hint: export PLIKD_POSTGRES_URL=",
        ];
        change(None, to)?.expect(2)?.says(&text)?;
    }
    let mut server = scene.plikd();
    server.arg("--config").arg(&local.config);
    server.env("PLIKD_POSTGRES_URL", somewhere);
    run(server)?
        .expect(4)?
        .says(&["is up and that PLIKD_POSTGRES_URL is right"])?
        .never_says(&["ConnectionString"])?;
    let absent = change(Some(somewhere), "postgres")?.expect(3)?;
    absent.says(&["no database at", "hint: start plikd once"])?;
    assert!(!scene.path("plik.db").exists());
    let back = change(Some(somewhere), "sqlite")?.expect(4)?;
    back.says(&["is up and that PLIKD_POSTGRES_URL is right"])?;
    fs::File::create(scene.path("plik.db")).context("an empty file")?;
    let empty = change(Some(somewhere), "postgres")?.expect(3)?;
    empty.says(&["no such table: uploads"])?;
    Ok(())
}
