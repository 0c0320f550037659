use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use tempfile::TempDir;

use super::*;

const TABLE: &str = "CREATE TABLE t (id text PRIMARY KEY, at datetime, n integer, d datetime)";

struct Database {
    directory: TempDir,
    location: Location,
}

impl Database {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("plik 100%.db");
        let location = Location::parse(path.to_str().unwrap()).unwrap();
        Self {
            directory,
            location,
        }
    }

    /// A WAL database with one row, closed properly.
    fn closed() -> Self {
        let database = Self::new();
        let connection = database.wal();
        connection
            .execute_batch(&format!("{TABLE}; INSERT INTO t (id) VALUES ('one')"))
            .unwrap();
        drop(connection);
        database
    }

    fn wal(&self) -> Connection {
        let connection = connect(&self.location, Access::ReadWrite).unwrap();
        switch_to_wal(&connection, "it", Duration::from_secs(1)).unwrap();
        connection
    }

    /// What a crash leaves: the files as they are, without the last connection's clean-up.
    fn crashed(&self) -> Self {
        let crashed = Self::new();
        for (path, (bytes, _)) in self.files() {
            let name = path.file_name().unwrap();
            std::fs::write(crashed.directory.path().join(name), bytes).unwrap();
        }
        crashed
    }

    /// Every file beside the database, with its bytes and when it was written.
    fn files(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        std::fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let written = path.metadata().unwrap().modified().unwrap();
                let bytes = std::fs::read(&path).unwrap();
                (path, (bytes, written))
            })
            .collect()
    }
}

fn count(connection: &Connection) -> i64 {
    connection
        .query_row("SELECT COUNT(*) FROM t", (), |row| row.get(0))
        .unwrap()
}

#[test]
fn reading_a_closed_database_leaves_no_trace() {
    let database = Database::closed();
    let before = database.files();
    assert_eq!(before.len(), 1, "closing left a log behind");
    let one = connect(&database.location, Access::ReadOnly).unwrap();
    let two = connect(&database.location, Access::ReadOnly).unwrap();
    assert_eq!((count(&one), count(&two)), (1, 1));
    assert!(one.execute("DELETE FROM t", ()).is_err());
    drop(one);
    assert_eq!(count(&two), 1);
    drop(two);
    assert_eq!(database.files(), before);
}

#[test]
fn reading_beside_a_live_server_sees_its_log_and_leaves_it() {
    let database = Database::closed();
    let server = database.wal();
    server
        .execute("INSERT INTO t (id) VALUES ('two')", ())
        .unwrap();
    let names = |files: BTreeMap<PathBuf, _>| files.into_keys().collect::<Vec<_>>();
    let before = names(database.files());
    let reader = connect(&database.location, Access::ReadOnly).unwrap();
    assert_eq!(count(&reader), 2);
    server
        .execute("INSERT INTO t (id) VALUES ('three')", ())
        .unwrap();
    assert_eq!(count(&reader), 3);
    drop(reader);
    assert_eq!(names(database.files()), before);
    assert_eq!(count(&server), 3);
}

#[test]
fn reading_after_a_crash_sees_the_log_and_does_not_fold_it_in() {
    let database = Database::closed();
    let server = database.wal();
    server
        .execute("INSERT INTO t (id) VALUES ('two')", ())
        .unwrap();
    let crashed = database.crashed();
    drop(server);
    let database_bytes = std::fs::read(&crashed.location.path).unwrap();
    let reader = connect(&crashed.location, Access::ReadOnly).unwrap();
    assert_eq!(count(&reader), 2);
    drop(reader);
    assert_eq!(
        std::fs::read(&crashed.location.path).unwrap(),
        database_bytes
    );
    assert!(has_log(&crashed.location.path));
}

#[test]
fn the_log_is_found_by_a_symbolic_link_too() {
    let database = Database::closed();
    let server = database.wal();
    server
        .execute("INSERT INTO t (id) VALUES ('two')", ())
        .unwrap();
    let crashed = database.crashed();
    drop(server);
    let elsewhere = TempDir::new().unwrap();
    let link = elsewhere.path().join("link.db");
    std::os::unix::fs::symlink(&crashed.location.path, &link).unwrap();
    let before = std::fs::read(&crashed.location.path).unwrap();
    let location = Location::parse(link.to_str().unwrap()).unwrap();
    let reader = connect(&location, Access::ReadOnly).unwrap();
    assert_eq!(count(&reader), 2);
    drop(reader);
    assert_eq!(std::fs::read(&crashed.location.path).unwrap(), before);
    assert!(has_log(&crashed.location.file));
}

/// A database without a log, and a connection that has written half a transaction to its file.
fn in_a_transaction() -> (Database, Connection) {
    let database = Database::new();
    let server = connect(&database.location, Access::ReadWrite).unwrap();
    server
        .execute_batch(&format!(
            "{TABLE}; INSERT INTO t (id) VALUES ('one'); PRAGMA cache_size = 1; BEGIN; \
             INSERT INTO t (id) WITH RECURSIVE n (n) AS \
             (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 9999) SELECT n FROM n"
        ))
        .unwrap();
    (database, server)
}

#[test]
fn half_a_transaction_is_neither_read_nor_rolled_back() {
    let (database, server) = in_a_transaction();
    let crashed = database.crashed();
    drop(server);
    let before = crashed.files();
    assert_eq!(before.len(), 2, "there is no journal");
    let error = connect(&crashed.location, Access::ReadOnly).unwrap_err();
    assert!(matches!(error, MetadataError::CutOff { .. }), "{error:?}");
    assert_eq!(crashed.files(), before);
    // The remedy.
    drop(connect(&crashed.location, Access::ReadWrite).unwrap());
    let reader = connect(&crashed.location, Access::ReadOnly).unwrap();
    assert_eq!(count(&reader), 1);
}

#[test]
fn journals_that_are_over_or_of_somebody_alive_are_no_obstacle() {
    let database = Database::new();
    let server = connect(&database.location, Access::ReadWrite).unwrap();
    let journal = database.directory.path().join("plik 100%.db-journal");
    for (mode, bytes) in [
        ("DELETE", None),
        ("TRUNCATE", Some(0)),
        ("PERSIST", Some(1)),
    ] {
        let mode = server.pragma_update_and_check(None, "journal_mode", mode, |_| Ok(()));
        mode.unwrap();
        server
            .execute_batch("DROP TABLE IF EXISTS t; CREATE TABLE t (id text)")
            .unwrap();
        let found = std::fs::metadata(&journal)
            .ok()
            .map(|file| file.len().min(1));
        assert_eq!(found, bytes);
        // Neither between two transactions …
        let reader = connect(&database.location, Access::ReadOnly).unwrap();
        assert_eq!(count(&reader), 0);
        drop(reader);
        // … nor in the middle of one.
        server
            .execute_batch("BEGIN; INSERT INTO t (id) VALUES ('one')")
            .unwrap();
        let reader = connect(&database.location, Access::ReadOnly).unwrap();
        assert_eq!(count(&reader), 0);
        drop(reader);
        server.execute_batch("ROLLBACK").unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_database_in_a_directory_without_write_permission_can_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let database = Database::closed();
    let before = database.files();
    let permit = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(database.directory.path(), permissions).unwrap();
    };
    permit(0o555);
    let reader = connect(&database.location, Access::ReadOnly).unwrap();
    assert_eq!(count(&reader), 1);
    drop(reader);
    permit(0o755);
    assert_eq!(database.files(), before);
}

#[test]
fn an_immutable_database_is_found_whatever_its_name() {
    let database = Database::closed();
    let reader = open_immutable(&database.location).unwrap();
    assert_eq!(count(&reader), 1);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let database = Database::new();
    let missing = connect(&database.location, Access::ReadOnly).unwrap_err();
    assert!(matches!(missing, MetadataError::NotInitialised { .. }));
    assert!(!database.location.path.exists());

    std::fs::write(
        &database.location.path,
        "no database, but longer than nothing",
    )
    .unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let error = connect(&database.location, access).unwrap_err();
        assert!(
            matches!(error, MetadataError::NoDatabase { .. }),
            "{error:?}"
        );
    }

    let location = Location::parse("/nowhere/at/all/plik.db").unwrap();
    let error = connect(&location, Access::ReadWrite).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    assert!(matches!(error, MetadataError::Config(_)));

    let location = Location::parse("plik.db?mode=ro").unwrap();
    let error = connect(&location, Access::ReadWrite).unwrap_err();
    assert!(matches!(error, MetadataError::Config(_)), "{error:?}");
}

#[test]
fn a_lock_that_lasts_is_busy() {
    let database = Database::closed();
    let holder = database.wal();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let location = Location {
        busy_timeout: Duration::from_millis(20),
        ..database.location.clone()
    };
    let connection = connect(&location, Access::ReadWrite).unwrap();
    let error = connection.execute("DELETE FROM t", ()).unwrap_err();
    let error = failure(opening("sqlite it"), &error);
    assert!(matches!(error, MetadataError::Busy { .. }), "{error:?}");
}

#[test]
fn commits_are_synced_and_foreign_keys_are_not_enforced() {
    let database = Database::closed();
    let connection = database.wal();
    let pragma = |name: &str| -> String {
        connection
            .query_row(
                &format!("SELECT CAST({name} AS text) FROM pragma_{name}"),
                (),
                |row| row.get(0),
            )
            .unwrap()
    };
    assert_eq!(pragma("synchronous"), "2");
    assert_eq!(pragma("foreign_keys"), "0");
    assert_eq!(pragma("journal_mode"), "wal");
}

#[test]
fn times_are_stored_as_plik_go_writes_them() {
    let database = Database::closed();
    let connection = database.wal();
    let zone = TimeZone::fixed(jiff::tz::offset(-5));
    let time = "2026-11-20T20:48:52.2234Z".parse().unwrap();
    let day = jiff::civil::date(2026, 7, 8);
    // The numbers of the parameters count, not where they stand.
    let insert = Statement::new(
        "INSERT INTO t (d, at, id) VALUES ($3, $2, $1)",
        [Value::from("now"), Value::Time(time), Value::Day(day)],
    );
    run(&connection, &insert, &zone).unwrap();
    let stored: (String, String) = connection
        .query_row("SELECT at, d FROM t WHERE id = 'now'", (), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(stored.0, "2026-11-20 15:48:52.2234-05:00");
    assert_eq!(stored.1, "2026-07-08 00:00:00+00:00");
}

#[test]
fn values_of_any_storage_class_are_read() {
    let database = Database::closed();
    let connection = database.wal();
    let query = Statement::new(
        "SELECT 'a' AS t, 7 AS i, 7.0 AS whole, 1.5 AS part, x'ff41' AS bytes, NULL AS none",
        [],
    );
    let rows = rows(&connection, &query, &TimeZone::UTC).unwrap();
    let row = &rows[0];
    assert_eq!(row.text("t"), "a");
    assert_eq!(row.integer("i"), 7);
    assert_eq!(row.integer("whole"), 7);
    assert_eq!(row.text("part"), "1.5");
    assert_eq!(row.text("bytes"), "\u{fffd}A");
    assert_eq!(row.value("none"), &Value::Null);
}

#[tokio::test]
async fn a_write_that_finds_the_disk_full_harms_no_neighbour() {
    let database = Database::closed();
    let connection = database.wal();
    // A few pages more than there are.
    connection
        .pragma_update(None, "max_page_count", 24)
        .unwrap();
    let writer = Writer::start(connection, "sqlite it".to_owned(), TimeZone::UTC).unwrap();
    let insert = |id: String, size: usize| {
        let params = [Value::from(id.as_str()), Value::Text("x".repeat(size))];
        vec![Statement::new(
            "INSERT INTO t (id, at) VALUES ($1, $2)",
            params,
        )]
    };
    let writes = (0..30).map(|number| {
        let size = if number % 10 == 5 { 1 << 20 } else { 10 };
        writer.write("insert", insert(number.to_string(), size))
    });
    for (number, outcome) in futures::future::join_all(writes)
        .await
        .into_iter()
        .enumerate()
    {
        match number % 10 {
            5 => assert!(
                matches!(outcome, Err(MetadataError::Full { .. })),
                "{outcome:?}"
            ),
            _ => assert!(outcome.unwrap().is_done()),
        }
    }
    writer.close().await;
    let reader = connect(&database.location, Access::ReadOnly).unwrap();
    assert_eq!(count(&reader), 1 + 27);
}

#[test]
fn a_new_file_is_its_owners_alone_by_whatever_name_it_is_created() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (
        directory.path().join("plik.db"),
        directory.path().join("link"),
    );
    symlink(&file, &link).unwrap();
    let location = Location::parse(link.to_str().unwrap()).unwrap();
    connect(&location, Access::ReadWrite).unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
