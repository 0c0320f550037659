//! Whatever a database holds: every row is in the target as what it means, or is named; nothing is
//! dropped in silence, and nothing is changed in silence.
//!
//! The databases come from a seed. `PLIKD_TEST_SEED` plays one again, `PLIKD_SOAK_SEEDS` tries that
//! many more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rusqlite::types::Value;
use serde_json::Value as Json;

use crate::hostile::{self, Fate, NO_KEY, Parent};
use crate::places::Database;
use crate::plain::{Plain, Row};
use crate::scene::{NO_FILES, Run, Scene, Server, unique};
use crate::values::bits;

/// Seeds that are always tried.
const SEEDS: std::ops::Range<u64> = 1..3;

/// A number from the environment, or the usual one.
pub fn setting(name: &str, usual: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(usual),
    }
}

/// Checks a property with every seed.
fn with_seeds(name: &str, property: fn(u64) -> Result<()>) -> Result<()> {
    let seeds: Vec<u64> = match std::env::var("PLIKD_TEST_SEED") {
        Ok(seed) => vec![seed.parse().context("PLIKD_TEST_SEED is no number")?],
        Err(_) => {
            let more = setting("PLIKD_SOAK_SEEDS", 0)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            SEEDS.chain((0..more).map(|number| now + number)).collect()
        }
    };
    for &seed in &seeds {
        property(seed).with_context(|| format!("{name}: PLIKD_TEST_SEED={seed}"))?;
    }
    println!("{name}: {} seeds", seeds.len());
    Ok(())
}

/// A row that should arrive, or not.
struct Expected {
    tag: String,
    fate: RowFate,
    /// The columns of its key.
    keys: &'static [&'static str],
}

#[derive(Clone, Debug, PartialEq)]
enum RowFate {
    Arrives(Row),
    Refused,
    /// Either refused, or there as this.
    Unsure(Row),
}

/// What a typed database makes of the rows of a hostile one, by table.
fn expectations(rows: &[hostile::Row]) -> BTreeMap<&'static str, Vec<Expected>> {
    let mut fates: Vec<RowFate> = Vec::new();
    for row in rows {
        let fate = match row.parent {
            Parent::Missing => RowFate::Refused,
            Parent::NotNeeded => fate_of(row),
            Parent::Row(at) => match (&fates[at], fate_of(row)) {
                (RowFate::Refused, _) => RowFate::Refused,
                (RowFate::Unsure(_), RowFate::Arrives(row)) => RowFate::Unsure(row),
                (_, fate) => fate,
            },
        };
        fates.push(fate);
    }
    let mut expected: BTreeMap<&'static str, Vec<Expected>> = BTreeMap::new();
    for (row, fate) in rows.iter().zip(fates) {
        expected.entry(row.table).or_default().push(Expected {
            tag: row.tag.clone(),
            fate,
            keys: row.keys,
        });
    }
    expected
}

fn fate_of(row: &hostile::Row) -> RowFate {
    let mut plain = Row::new();
    let mut is_sure = true;
    for (column, cell) in &row.cells {
        let value = match &cell.fate {
            Fate::Holds(value) => value,
            Fate::Refused => return RowFate::Refused,
            Fate::Unsure(value) => {
                is_sure = false;
                value
            }
        };
        plain.insert(column.clone(), value.clone());
    }
    match is_sure {
        true => RowFate::Arrives(plain),
        false => RowFate::Unsure(plain),
    }
}

/// The tag in the key of a row, or in a line about one.
fn tag_in(text: &str) -> Option<&str> {
    let end = text.find('~')?;
    let start = text[..end].rfind(['k', 'K'])?;
    let number = &text[start + 1..end];
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| &text[start..=end])
}

/// The tags of the rows of a table that a run has named as left out.
fn named(run: &Run, table: &str) -> Vec<String> {
    let lines = run.stderr.lines().chain(run.stdout.lines());
    let about = lines.filter_map(|line| {
        let line = line
            .strip_prefix("rejected: ")
            .or_else(|| line.strip_prefix("conflict: "))?;
        line.strip_prefix(table)?.strip_prefix(' ')
    });
    let tags = about.map(|key| tag_in(key.split(": ").next().unwrap_or(key)).unwrap_or(NO_KEY));
    tags.map(str::to_owned).collect()
}

/// Judges one table: what was expected, what is in the target, and what was said.
fn judge(run: &Run, table: &str, expected: &[Expected], target: &Database) -> Result<()> {
    let mut found = target.plain(table)?;
    let total = found.len();
    let named = named(run, table);
    let is_named = |tag: &str| named.iter().any(|name| name == tag);
    let mut missing = 0;
    for row in expected {
        let wanted = match &row.fate {
            RowFate::Arrives(wanted) | RowFate::Unsure(wanted) => Some(wanted),
            RowFate::Refused => None,
        };
        let place = wanted.and_then(|wanted| found.iter().position(|row| row == wanted));
        if let Some(place) = place {
            found.swap_remove(place);
            continue;
        }
        missing += 1;
        let tag = &row.tag;
        ensure!(
            is_named(tag),
            "{table} {tag} is not there as {wanted:?}, and nobody says so; with that tag: {:?}; \
             named: {named:?}",
            with_tag(&found, tag, row.keys)
        );
        let has_twin = expected.iter().filter(|other| other.tag == *tag).count() > 1;
        ensure!(
            !matches!(row.fate, RowFate::Arrives(_)) || has_twin,
            "{table} {tag} was left out for no reason: {wanted:?}"
        );
    }
    ensure!(found.is_empty(), "{table} has what nobody sent: {found:?}");
    let unique: BTreeSet<&String> = named.iter().collect();
    ensure!(
        unique.len() <= missing,
        "{table}: {missing} rows are missing, named were {unique:?}"
    );
    let counts = run.summary(table.split(' ').next().unwrap_or(table))?;
    assert_eq!(
        (counts.copied, counts.failed + counts.conflicts),
        (total as u64, missing as u64),
        "{table}"
    );
    Ok(())
}

fn with_tag<'a>(rows: &'a [Row], tag: &str, keys: &[&str]) -> Vec<&'a Row> {
    let of = |row: &Row| match row.get(keys[keys.len() - 1]) {
        Some(Plain::Text(key)) => tag_in(key) == Some(tag),
        _ => false,
    };
    rows.iter().filter(|row| of(row)).collect()
}

/// A server with a database full of what that seed makes up.
fn hostile_server(scene: &Scene, seed: u64) -> Result<(Server, Vec<hostile::Row>)> {
    let from = scene.made_up("from", NO_FILES)?;
    // Children before parents.
    for table in [
        "files",
        "uploads",
        "tokens",
        "users",
        "settings",
        "usage_stats",
        "download_stats_daily",
        "upload_stats_daily",
    ] {
        from.database.query(&format!("DELETE FROM {table}"))?;
    }
    let rows = hostile::fill(&from.database, seed)?;
    Ok((from, rows))
}

const OPTIONS: &[&str] = &["--metadata-only", "--ignore-errors", "-v"];

/// Runs once, and once more: nothing is left to do then, and the same rows are named. The file of
/// rejected rows has each of them once.
fn migrate(scene: &Scene, from: &Server, to: &Server) -> Result<Run> {
    let file = scene.path(&format!("{}.jsonl", unique("rejects")));
    let rejects = format!("--rejects={}", file.display());
    let options = [OPTIONS, &[&rejects]].concat();
    let run = scene.migrate(from, to, &options)?.expect(20)?;
    let again = scene.migrate(from, to, &options)?.expect(20)?;
    let lines = fs::read_to_string(&file)?;
    let kept: Vec<Json> = lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    for table in hostile::tables() {
        let first = table.split(' ').next().unwrap_or(table);
        let (before, after) = (run.summary(first)?, again.summary(first)?);
        assert_eq!((after.copied, after.present), (0, before.copied), "{table}");
        let as_set = |run| named(run, table).into_iter().collect::<BTreeSet<_>>();
        assert_eq!(as_set(&again), as_set(&run), "{table}");
        let of_table = kept.iter().filter(|line| line["table"] == table);
        let failed = usize::try_from(before.failed)?;
        assert_eq!(of_table.count(), failed, "rejected rows of {table}");
    }
    Ok(run)
}

fn to_postgres_and_on(seed: u64) -> Result<()> {
    let scene = Scene::new()?;
    let (from, rows) = hostile_server(&scene, seed)?;
    let to = scene.postgres("to")?;
    let run = migrate(&scene, &from, &to).context("SQLite to PostgreSQL")?;
    for (table, expected) in expectations(&rows) {
        judge(&run, table, &expected, &to.database).context("SQLite to PostgreSQL")?;
    }
    for sql in POSTGRES_ONLY {
        to.database.query(sql)?;
    }
    let further = scene.postgres("further")?;
    scene
        .migrate(&to, &further, &["--metadata-only"])?
        .expect(0)?;
    for table in hostile::tables() {
        let (mut there, here) = (further.database.plain(table)?, to.database.plain(table)?);
        for row in &here {
            let place = there.iter().position(|other| other == row);
            let place = place.with_context(|| format!("{table}: not there: {row:?}"))?;
            there.swap_remove(place);
        }
        ensure!(there.is_empty(), "{table} has what nobody sent: {there:?}");
    }
    let back = scene.local("back")?;
    let run = migrate(&scene, &further, &back).context("PostgreSQL to SQLite")?;
    for table in hostile::tables() {
        let rows = further.database.plain(table)?;
        let expected: Vec<Expected> = rows.into_iter().map(|row| in_sqlite(table, row)).collect();
        judge(&run, table, &expected, &back.database).context("PostgreSQL to SQLite")?;
    }
    Ok(())
}

/// What only PostgreSQL can hold.
const POSTGRES_ONLY: &[&str] = &[
    "INSERT INTO users (id, created_at) VALUES ('k1001~', 'infinity'), ('k1002~', '-infinity'), \
     ('k1003~', '0044-03-15 12:00:00+00 BC'), ('k1004~', '10000-01-01 00:00:00+00'), \
     ('k1005~', '290000-12-31 23:59:59+00'), ('k1006~', '4714-11-24 00:00:00+00 BC')",
    "INSERT INTO uploads (id, weight) VALUES ('k1001~', 'NaN'), ('k1002~', '-infinity')",
];

/// What SQLite makes of a row of PostgreSQL: it has a text for the years that have four digits,
/// and no number that is none.
fn in_sqlite(table: &str, row: Row) -> Expected {
    /// The first and the last microsecond of the years 1 to 9999, but for a day at each end, where
    /// it depends on the zone.
    const SURE: std::ops::Range<i64> = -62_135_510_400_000_000..253_402_128_000_000_000;
    const DAYS: i64 = 3 * 86_400_000_000;
    let of = |value: &Plain| match value {
        Plain::Real(bits) if f64::from_bits(*bits).is_nan() => 2,
        Plain::Time(micros) if SURE.contains(micros) => 0,
        Plain::Time(micros) if (SURE.start - DAYS..SURE.end + DAYS).contains(micros) => 1,
        Plain::Time(_) => 2,
        _ => 0,
    };
    let tag = row.values().find_map(|value| match value {
        Plain::Text(text) => tag_in(text).map(str::to_owned),
        _ => None,
    });
    let worst = row.values().map(of).max().unwrap_or(0);
    let keys = hostile::keys(table);
    Expected {
        tag: tag.unwrap_or_default(),
        fate: match worst {
            0 => RowFate::Arrives(row),
            1 => RowFate::Unsure(row),
            _ => RowFate::Refused,
        },
        keys,
    }
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn every_row_arrives_in_postgres_and_comes_back_or_is_named() -> Result<()> {
    with_seeds("there and back", to_postgres_and_on)
}

/// Between two SQLite databases everything has a place but what has no key.
fn between_sqlite(seed: u64) -> Result<()> {
    let scene = Scene::new()?;
    let (from, rows) = hostile_server(&scene, seed)?;
    let to = scene.local("to")?;
    let run = scene.migrate(&from, &to, OPTIONS)?.expect(20)?;
    let is_keyless = |row: &hostile::Row| {
        let mut keys = row
            .cells
            .iter()
            .filter(|(name, _)| row.keys.contains(&name.as_str()));
        keys.any(|(_, cell)| cell.stored == Value::Null)
    };
    for table in hostile::tables() {
        let first = table.split(' ').next().unwrap_or(table);
        let counts = run.summary(first)?;
        let mut lost = rows
            .iter()
            .filter(|row| row.table == table && is_keyless(row));
        let named = named(&run, table);
        let lost: Vec<_> = lost.by_ref().collect();
        for row in &lost {
            ensure!(
                named.contains(&row.tag),
                "{table} {}: nobody says that it is not there",
                row.tag
            );
        }
        assert_eq!(counts.failed, lost.len() as u64, "{table}");
        // What has no key is taken out of the source, so that all the rest can be compared.
        let keys = hostile::keys(table)
            .iter()
            .map(|key| format!("\"{key}\" IS NULL"));
        let keys: Vec<String> = keys.collect();
        let quoted = table.replace('"', "\"\"");
        from.database.query(&format!(
            "DELETE FROM \"{quoted}\" WHERE {}",
            keys.join(" OR ")
        ))?;
        ensure!(
            bits(&from.database, table)? == bits(&to.database, table)?,
            "a value of {table} has changed"
        );
    }
    Ok(())
}

#[test]
fn between_two_sqlite_databases_every_bit_arrives() -> Result<()> {
    with_seeds("bit by bit", between_sqlite)
}

/// How many files the one upload has.
const FILES: u64 = 20_000;

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn an_upload_of_very_many_files_arrives_and_comes_back() -> Result<()> {
    let files = setting("PLIKD_SOAK_FILES", FILES)?;
    let scene = Scene::new()?;
    let from = scene.made_up("from", NO_FILES)?;
    from.database.add_upload("theUpload")?;
    from.database.query(&format!(
        "INSERT INTO files (id, upload_id, name, status, size) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {files}) \
         SELECT printf('%016x', i * 2654435761 % 2147483647 * 4294967296 + i), 'theUpload', \
         'file ' || i, 'deleted', i FROM n"
    ))?;
    let (to, back) = (scene.postgres("to")?, scene.local("back")?);
    let there = scene.migrate(&from, &to, &[])?.expect(0)?;
    assert_eq!(there.summary("files")?.copied, files);
    let and_back = scene.migrate(&to, &back, &[])?.expect(0)?;
    assert_eq!(and_back.summary("files")?.copied, files);
    assert_eq!(from.database.rows()?, back.database.rows()?);
    println!("an upload of {files} files went there and back");
    Ok(())
}
