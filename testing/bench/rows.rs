//! Rows between databases.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};

use crate::contest::{Amount, Attempt, Contest, PLIKD};
use crate::import::Import;
use crate::places::{Postgres, Stage, metadata_section, succeed};

/// Those that have rows, but for a few that every database has.
const TABLES: [&str; 7] = [
    "users",
    "tokens",
    "uploads",
    "files",
    "usage_stats",
    "download_stats_daily",
    "upload_stats_daily",
];
/// Tables that plikd needs for itself, in a database that it filled.
const BOOKKEEPING: &str = "plikd_migrate%";

/// The same rows in both kinds of database.
pub struct Rows {
    sqlite: PathBuf,
    postgres: Postgres,
    expected: Expected,
}

/// What must be in a target at the end.
#[derive(Clone)]
struct Expected {
    rows: [u64; TABLES.len()],
    /// Primary and foreign keys.
    keys: u64,
}

impl Rows {
    /// Makes them up, and has plikd load them.
    pub fn make_up(stage: &Stage) -> Result<Self> {
        let sqlite = stage.path("rows.db");
        let mut fakedb = stage.plikd();
        fakedb.args(["fakedb", "--anon-uploads=0", "--output"]);
        fakedb.arg(&sqlite);
        succeed(fakedb.args(["--users", &stage.scaled(1000).to_string()]))?;
        let postgres = stage.postgres()?;
        let mut load = stage.migration(&sqlite_section(&sqlite), &postgres.section(), METADATA)?;
        succeed(&mut load)?;
        let expected = Expected {
            rows: sqlite_rows(&sqlite)?,
            keys: keys_of(&postgres)?,
        };
        ensure!(expected.keys > 0, "the tables have no keys");
        Ok(Self {
            sqlite,
            postgres,
            expected,
        })
    }

    fn contest<'a>(&self, stage: &Stage) -> Contest<'a> {
        Contest {
            amount: Amount::Rows(self.expected.rows.iter().sum()),
            log: stage.directory().join("said"),
            contestants: Vec::new(),
        }
    }
}

const METADATA: &str = "--metadata-only";

fn sqlite_section(path: &Path) -> String {
    metadata_section("sqlite3", &path.display().to_string())
}

fn sqlite_rows(path: &Path) -> Result<[u64; TABLES.len()]> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut rows = [0; TABLES.len()];
    for (count, table) in rows.iter_mut().zip(TABLES) {
        let sql = format!("SELECT count(*) FROM {table}");
        let found: i64 = connection.query_row(&sql, (), |row| row.get(0))?;
        *count = u64::try_from(found)?;
    }
    Ok(rows)
}

fn postgres_rows(postgres: &Postgres) -> Result<[u64; TABLES.len()]> {
    let mut rows = [0; TABLES.len()];
    for (count, table) in rows.iter_mut().zip(TABLES) {
        *count = postgres.count(&format!("SELECT count(*) FROM {table}"))?;
    }
    Ok(rows)
}

fn keys_of(postgres: &Postgres) -> Result<u64> {
    postgres.count(&format!(
        "SELECT count(*) FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid \
         WHERE contype IN ('p', 'f') AND relname NOT LIKE '{BOOKKEEPING}' \
         AND relnamespace = 'public'::regnamespace"
    ))
}

/// Ends a run into PostgreSQL: every row is there, and every key is enforced.
fn into_postgres(command: Command, postgres: Postgres, expected: &Expected) -> Attempt<'static> {
    let expected = expected.clone();
    let check = move || {
        let rows = postgres_rows(&postgres)?;
        ensure!(
            rows == expected.rows,
            "rows: {rows:?}, not {:?}",
            expected.rows
        );
        let keys = keys_of(&postgres)?;
        ensure!(keys == expected.keys, "{keys} keys, not {}", expected.keys);
        Ok(())
    };
    Attempt {
        command,
        check: Box::new(check),
    }
}

/// Ends a run into SQLite.
fn into_sqlite(command: Command, path: PathBuf, expected: &Expected) -> Attempt<'static> {
    let expected = expected.clone();
    let check = move || {
        let rows = sqlite_rows(&path)?;
        ensure!(
            rows == expected.rows,
            "rows: {rows:?}, not {:?}",
            expected.rows
        );
        fs::remove_file(&path).context("the database cannot be removed")
    };
    Attempt {
        command,
        check: Box::new(check),
    }
}

pub fn sqlite_to_postgres(stage: &Stage) -> Result<Option<Contest<'_>>> {
    let rows = stage.rows()?;
    let from = sqlite_section(&rows.sqlite);
    let mut contest = rows.contest(stage);
    contest.add(PLIKD, move || {
        let to = stage.postgres()?;
        let command = stage.migration(&from, &to.section(), METADATA)?;
        Ok(into_postgres(command, to, &rows.expected))
    });
    if let Some(pgloader) = stage.tool("pgloader") {
        contest.add("pgloader", move || {
            let to = stage.postgres()?;
            let mut command = Command::new(&pgloader);
            command.arg(format!("sqlite://{}", rows.sqlite.display()));
            command.arg(to.url().replace("postgres://", "postgresql://"));
            Ok(into_postgres(command, to, &rows.expected))
        });
    }
    if let Some(psql) = stage.tool("psql") {
        let dump = Dump::of(stage, rows)?;
        contest.add("psql COPY, keys last", move || {
            let to = stage.postgres()?;
            let command = dump.load(stage, &psql, &to)?;
            Ok(into_postgres(command, to, &rows.expected))
        });
    }
    Ok(Some(contest))
}

pub fn postgres_to_sqlite(stage: &Stage) -> Result<Option<Contest<'_>>> {
    let rows = stage.rows()?;
    let from = rows.postgres.section();
    let mut contest = rows.contest(stage);
    contest.add(PLIKD, move || {
        let to = stage.path("to.db");
        let command = stage.migration(&from, &sqlite_section(&to), METADATA)?;
        Ok(into_sqlite(command, to, &rows.expected))
    });
    let tools = (
        stage.tool("bash"),
        stage.tool("psql"),
        stage.tool("sqlite3"),
    );
    if let (Some(bash), Some(psql), Some(sqlite3)) = tools {
        let import = Import::of(&rows.sqlite, &TABLES, stage.path("import"))?;
        contest.add("psql to sqlite3", move || {
            let to = stage.path("to.db");
            let from = rows.postgres.url();
            let command = import.command(&bash, &psql, &sqlite3, &from, &to);
            Ok(into_sqlite(command, to, &rows.expected))
        });
    }
    Ok(Some(contest))
}

pub fn postgres_to_postgres(stage: &Stage) -> Result<Option<Contest<'_>>> {
    let rows = stage.rows()?;
    let from = rows.postgres.section();
    let mut contest = rows.contest(stage);
    contest.add(PLIKD, move || {
        let to = stage.postgres()?;
        let command = stage.migration(&from, &to.section(), METADATA)?;
        Ok(into_postgres(command, to, &rows.expected))
    });
    if let (Some(psql), Some(bash)) = (stage.tool("psql"), stage.tool("bash")) {
        let dump = Dump::of(stage, rows)?;
        contest.add("psql COPY to COPY", move || {
            let to = stage.postgres()?;
            let mut command = Command::new(&bash);
            command.arg("-euo").arg("pipefail").arg("-c");
            command.arg(dump.pipes());
            command.arg("pipes").arg(&psql);
            command.arg(rows.postgres.url()).arg(to.url());
            Ok(into_postgres(command, to, &rows.expected))
        });
    }
    Ok(Some(contest))
}

pub fn sqlite_to_sqlite(stage: &Stage) -> Result<Option<Contest<'_>>> {
    let rows = stage.rows()?;
    let from = sqlite_section(&rows.sqlite);
    let mut contest = rows.contest(stage);
    contest.add(PLIKD, move || {
        let to = stage.path("to.db");
        let command = stage.migration(&from, &sqlite_section(&to), METADATA)?;
        Ok(into_sqlite(command, to, &rows.expected))
    });
    if let Some(sqlite3) = stage.tool("sqlite3") {
        // Copies pages, looks at no row: what the disk alone takes.
        contest.add("sqlite3 .backup", move || {
            let to = stage.path("to.db");
            let mut command = Command::new(&sqlite3);
            command.arg(&rows.sqlite);
            command.arg(format!(".backup {}", to.display()));
            Ok(into_sqlite(command, to, &rows.expected))
        });
    }
    Ok(Some(contest))
}

pub fn verify(stage: &Stage) -> Result<Option<Contest<'_>>> {
    let Ok(help) = succeed(stage.plikd().args(["migrate", "verify", "--help"])) else {
        return Ok(None);
    };
    let rows = stage.rows()?;
    let mut contest = rows.contest(stage);
    contest.add(PLIKD, move || {
        let (from, to) = (sqlite_section(&rows.sqlite), rows.postgres.section());
        let mut command = stage.verification(&from, &to)?;
        if help.contains(METADATA) {
            command.arg(METADATA);
        }
        // A difference is an exit code of its own: success says that everything was equal.
        let check = Box::new(|| Ok(()));
        Ok(Attempt { command, check })
    });
    Ok(Some(contest))
}

/// What `pg_dump` makes of the rows: tables without keys, the keys, and ready-made bytes.
struct Dump {
    directory: PathBuf,
    tables: Vec<String>,
}

impl Dump {
    fn of(stage: &Stage, rows: &Rows) -> Result<Self> {
        let directory = stage.path("dump");
        fs::create_dir(&directory)?;
        for section in ["pre-data", "post-data"] {
            let mut pg_dump = Command::new("pg_dump");
            pg_dump.arg("--dbname").arg(rows.postgres.url());
            pg_dump.arg(format!("--exclude-table={}", BOOKKEEPING.replace('%', "*")));
            pg_dump.arg(format!("--section={section}")).arg("--file");
            succeed(pg_dump.arg(directory.join(section)))?;
        }
        let tables = rows.postgres.values(&format!(
            "SELECT quote_ident(tablename) FROM pg_tables \
             WHERE schemaname = 'public' AND tablename NOT LIKE '{BOOKKEEPING}'"
        ))?;
        let mut out = Command::new("psql");
        out.args(["-Xqv", "ON_ERROR_STOP=1", "--dbname", &rows.postgres.url()]);
        for table in &tables {
            let to = directory.join(table);
            let to = to.display();
            out.arg("-c");
            out.arg(format!("\\copy {table} to '{to}' with (format binary)"));
        }
        succeed(&mut out)?;
        Ok(Self { directory, tables })
    }

    /// The fastest that PostgreSQL takes these rows: no program has to make the bytes.
    fn load(&self, stage: &Stage, psql: &Path, to: &Postgres) -> Result<Command> {
        let directory = self.directory.display();
        let mut script = format!("\\i {directory}/pre-data\n");
        for table in &self.tables {
            // `pg_dump` empties the search path for what follows.
            script +=
                &format!("\\copy public.{table} from '{directory}/{table}' with (format binary)\n");
        }
        script += &format!("\\i {directory}/post-data\n");
        let file = stage.path("load.sql");
        fs::write(&file, script)?;
        let mut command = Command::new(psql);
        command.args(["-Xqv", "ON_ERROR_STOP=1", "--dbname", &to.url(), "--file"]);
        command.arg(file);
        Ok(command)
    }

    /// Takes `psql` and the URLs of both ends.
    fn pipes(&self) -> String {
        let directory = self.directory.display();
        let run = |file: &str| {
            format!("\"$1\" -Xqv ON_ERROR_STOP=1 -d \"$3\" -o /dev/null -f {directory}/{file}\n")
        };
        let copy = |table: &String| {
            format!(
                "\"$1\" -Xqd \"$2\" -c 'COPY {table} TO STDOUT (FORMAT binary)' |\n\
                 \"$1\" -Xqd \"$3\" -c 'COPY {table} FROM STDIN (FORMAT binary)'\n"
            )
        };
        let tables: String = self.tables.iter().map(copy).collect();
        run("pre-data") + &tables + &run("post-data")
    }
}
