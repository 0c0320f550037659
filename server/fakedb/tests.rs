use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use md5::{Digest, Md5};
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

use super::*;
use crate::config::{Driver, MetadataConfig, Secret};
use crate::metadata::table::TABLES;
use crate::metadata::{Metadata, MetadataError, OpenMode};

/// A small server with some of everything.
fn order(directory: &TempDir, name: &str) -> Order {
    Order {
        recipe: Recipe {
            seed: 1,
            counts: Counts {
                users: 10,
                tokens_per_user: 2,
                uploads_per_user: 20,
                files_per_upload: 5,
                anonymous_uploads: 30,
            },
            shares: Shares {
                removed: 10,
                missing: 10,
                uploading: 10,
                deleted: 10,
                soft_deleted: 10,
                streamed: 5,
                legacy: 10,
            },
            file_size: 0..=2000,
            now: Timestamp::constant(1_767_225_600, 0),
            zone: TimeZone::UTC,
        },
        output: directory.path().join(format!("{name}.db")),
        data: Some(directory.path().join(name)),
        force: false,
    }
}

fn open(order: &Order) -> Connection {
    Connection::open(&order.output).unwrap()
}

fn count(connection: &Connection, condition: &str) -> i64 {
    connection
        .query_row(&format!("SELECT COUNT(*) FROM {condition}"), (), |row| {
            row.get(0)
        })
        .unwrap()
}

/// Every row of every table, in the order of insertion.
fn contents(order: &Order) -> Vec<Vec<Value>> {
    let connection = open(order);
    let tables = TABLES.iter().map(|table| table.name).chain(["migrations"]);
    let mut rows = Vec::new();
    for table in tables {
        let sql = format!("SELECT * FROM {table} ORDER BY rowid");
        let mut select = connection.prepare(&sql).unwrap();
        let columns = select.column_count();
        let all = select
            .query_map((), |row| (0..columns).map(|n| row.get(n)).collect())
            .unwrap();
        rows.extend(all.map(Result::unwrap));
    }
    rows
}

/// Every file below a directory, with its bytes.
fn blobs(order: &Order) -> BTreeMap<PathBuf, Vec<u8>> {
    let root = order.data.as_ref().unwrap();
    let mut found = BTreeMap::new();
    for directory in fs::read_dir(root).unwrap() {
        for blob in fs::read_dir(directory.unwrap().path()).unwrap() {
            let path = blob.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_owned();
            found.insert(relative, fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn the_same_seed_makes_the_same_server() {
    let directory = TempDir::new().unwrap();
    let first = order(&directory, "first");
    let second = order(&directory, "second");
    let mut other = order(&directory, "other");
    other.recipe.seed = 2;
    for order in [&first, &second, &other] {
        make(order).unwrap();
    }
    assert_eq!(contents(&first), contents(&second));
    assert_eq!(blobs(&first), blobs(&second));
    assert_ne!(contents(&first), contents(&other));
}

#[test]
fn there_is_as_much_as_was_ordered() {
    let directory = TempDir::new().unwrap();
    let order = order(&directory, "server");
    make(&order).unwrap();
    let connection = open(&order);
    for (what, expected) in [
        ("users", 11),
        ("users WHERE is_admin", 1),
        ("tokens", 22),
        ("uploads", 230),
        ("uploads WHERE user = ''", 30),
        ("files", 1150),
        ("settings", 1),
        ("migrations", 12),
        ("files WHERE upload_id NOT IN (SELECT id FROM uploads)", 0),
        (
            "(SELECT upload_id FROM files GROUP BY upload_id HAVING COUNT(*) <> 5)",
            0,
        ),
        ("tokens WHERE user_id NOT IN (SELECT id FROM users)", 0),
        (
            "uploads WHERE user <> '' AND user NOT IN (SELECT id FROM users)",
            0,
        ),
        (
            "uploads WHERE token <> '' AND token NOT IN \
          (SELECT token FROM tokens WHERE user_id = uploads.user)",
            0,
        ),
        // A row per user, per token, and two for nobody.
        ("usage_stats", 35),
    ] {
        assert_eq!(count(&connection, what), expected, "{what}");
    }
    for some in [
        "uploads WHERE deleted_at IS NOT NULL",
        "uploads WHERE expire_at IS NULL",
        "uploads WHERE stream",
        "uploads WHERE one_shot",
        "uploads WHERE protected_by_password",
        "uploads WHERE extend_ttl",
        "uploads WHERE extend_ttl IS NULL",
        "uploads WHERE e2ee = 'age'",
        "uploads WHERE download_count > 0",
        "users WHERE provider <> 'local'",
        "tokens WHERE token LIKE 'plik_%'",
        "files WHERE status = ''",
        "files WHERE status = 'missing'",
        "files WHERE status = 'uploading'",
        "files WHERE status = 'deleted'",
        "files WHERE size = 0",
        "files WHERE is_text",
        "download_stats_daily WHERE entity_type = 'file'",
        "download_stats_daily WHERE entity_type = 'upload'",
        "upload_stats_daily",
        "usage_stats WHERE downloaded_bytes > 0",
    ] {
        assert!(count(&connection, some) > 0, "no {some}");
    }
}

#[test]
fn every_file_that_promises_bytes_has_them_and_no_other_does() {
    let directory = TempDir::new().unwrap();
    let order = order(&directory, "server");
    let totals = make(&order).unwrap();
    let mut blobs = blobs(&order);
    assert_eq!(totals.blobs, blobs.len() as u64);
    assert_eq!(
        totals.blob_bytes,
        blobs.values().map(|blob| blob.len() as u64).sum::<u64>()
    );
    let connection = open(&order);
    let mut select = connection
        .prepare("SELECT id, size, md5 FROM files WHERE status IN ('uploaded', 'removed')")
        .unwrap();
    let mut rows = select.query(()).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let id: String = row.get(0).unwrap();
        let (size, md5): (i64, String) = (row.get(1).unwrap(), row.get(2).unwrap());
        let blob = blobs.remove(&Path::new(&id[..2]).join(&id)).unwrap();
        let digest: String = Md5::digest(&blob)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!((blob.len() as i64, digest), (size, md5), "{id}");
    }
    assert!(blobs.is_empty(), "blobs without a row: {:?}", blobs.keys());
}

#[test]
fn shares_are_kept_on_average() {
    let directory = TempDir::new().unwrap();
    let mut order = order(&directory, "server");
    order.data = None;
    order.recipe.counts.users = 100;
    make(&order).unwrap();
    let connection = open(&order);
    let live =
        "files JOIN uploads ON uploads.id = upload_id WHERE deleted_at IS NULL AND NOT stream";
    let all = count(&connection, live);
    for status in ["removed", "uploading", "deleted"] {
        let some = count(&connection, &format!("{live} AND status = '{status}'"));
        let percent = some as f64 * 100.0 / all as f64;
        assert!((9.0..11.0).contains(&percent), "{percent} % {status}");
    }
    let deleted = count(&connection, "uploads WHERE deleted_at IS NOT NULL");
    assert!(
        (150..270).contains(&deleted),
        "{deleted} of 2030 soft-deleted"
    );
}

#[test]
fn nothing_lies_in_the_future_and_times_follow_each_other() {
    let directory = TempDir::new().unwrap();
    let order = order(&directory, "server");
    make(&order).unwrap();
    let connection = open(&order);
    let now = "'2026-01-01 00:00:00+00:00'";
    for wrong in [
        format!("uploads WHERE created_at > {now} OR deleted_at > {now}"),
        format!("uploads WHERE expire_at < {now}"),
        "uploads WHERE deleted_at < created_at".to_owned(),
        "uploads WHERE last_downloaded_at < created_at".to_owned(),
        format!("files WHERE last_downloaded_at > {now}"),
        "uploads JOIN users ON users.id = user WHERE users.created_at > uploads.created_at"
            .to_owned(),
        "files WHERE (download_count > 0) <> (last_downloaded_at IS NOT NULL)".to_owned(),
        "uploads WHERE (download_count > 0) <> (last_downloaded_at IS NOT NULL)".to_owned(),
    ] {
        assert_eq!(count(&connection, &wrong), 0, "{wrong}");
    }
}

#[test]
fn what_is_there_is_not_replaced_unless_forced() {
    let directory = TempDir::new().unwrap();
    let mut order = order(&directory, "server");
    order.data = None;
    order.recipe.counts.users = 1;
    make(&order).unwrap();
    order.recipe.counts.users = 10;
    assert!(matches!(make(&order), Err(FakedbError::Exists { .. })));
    assert_eq!(count(&open(&order), "users"), 2);
    order.force = true;
    // What a server that died left behind would be replayed into the new database.
    let log = directory.path().join("server.db-wal");
    fs::write(&log, "old log").unwrap();
    make(&order).unwrap();
    assert!(!log.exists());
    assert_eq!(count(&open(&order), "users"), 11);
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["server.db", "server.db.lock"]);
}

#[test]
fn only_a_database_is_replaced_however_forced() {
    let directory = TempDir::new().unwrap();
    let mut order = order(&directory, "server");
    order.data = None;
    order.force = true;
    let refused = |order: &Order| matches!(make(order), Err(FakedbError::NotADatabase { .. }));

    fs::write(&order.output, "precious").unwrap();
    assert!(refused(&order));
    assert_eq!(fs::read_to_string(&order.output).unwrap(), "precious");

    fs::remove_file(&order.output).unwrap();
    let target = directory.path().join("target");
    fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, &order.output).unwrap();
    assert!(refused(&order));
    assert!(order.output.is_symlink());

    fs::remove_file(&order.output).unwrap();
    fs::create_dir(&order.output).unwrap();
    assert!(refused(&order));
    fs::remove_dir(&order.output).unwrap();
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");

    fs::write(&order.output, "").unwrap();
    make(&order).unwrap();
    assert_eq!(count(&open(&order), "users"), 11);
}

#[tokio::test]
async fn a_database_in_use_is_not_replaced_however_forced() {
    let directory = TempDir::new().unwrap();
    let mut order = order(&directory, "server");
    order.data = None;
    make(&order).unwrap();
    order.force = true;
    let config = MetadataConfig {
        driver: Driver::Sqlite,
        connection_string: Secret::new(order.output.display().to_string()),
        debug: false,
        slow_query_threshold: Duration::ZERO,
        max_open_conns: 0,
        max_idle_conns: 0,
    };
    let server = Metadata::open(&config, OpenMode::Serve).await.unwrap();
    let log = directory.path().join("server.db-wal");
    assert!(log.exists());
    let error = make(&order).unwrap_err();
    assert!(matches!(
        error,
        FakedbError::Metadata(MetadataError::InUse { .. })
    ));
    assert!(log.exists());
    server.ping().await.unwrap();
    server.close().await;
    make(&order).unwrap();
}

#[test]
fn a_directory_with_files_in_it_is_left_alone_unless_forced() {
    let directory = TempDir::new().unwrap();
    let mut order = order(&directory, "server");
    let data = order.data.clone().unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("precious"), "bytes").unwrap();
    assert!(matches!(make(&order), Err(FakedbError::NotEmpty { .. })));
    assert!(!order.output.exists());
    order.force = true;
    make(&order).unwrap();
    assert_eq!(fs::read_to_string(data.join("precious")).unwrap(), "bytes");
}

#[test]
fn a_failure_leaves_no_database() {
    let directory = TempDir::new().unwrap();
    let mut order = order(&directory, "server");
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    order.data = Some(file.join("below"));
    order.force = true;
    assert!(matches!(make(&order), Err(FakedbError::Io { .. })));
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn nothing_can_be_ordered_and_too_much_cannot() {
    let directory = TempDir::new().unwrap();
    let mut order = order(&directory, "server");
    order.recipe.counts = Counts {
        users: 0,
        tokens_per_user: 0,
        uploads_per_user: 0,
        files_per_upload: 0,
        anonymous_uploads: 0,
    };
    make(&order).unwrap();
    assert_eq!(count(&open(&order), "users"), 1);
    order.force = true;
    order.recipe.shares.missing = 71;
    assert!(matches!(make(&order), Err(FakedbError::Options(_))));
    order.recipe.shares.missing = 0;
    order.recipe.counts.anonymous_uploads = u64::MAX;
    order.recipe.counts.files_per_upload = 2;
    assert!(matches!(make(&order), Err(FakedbError::Options(_))));
}

#[test]
fn a_database_opens_as_that_of_a_server() {
    let directory = TempDir::new().unwrap();
    let order = order(&directory, "server");
    make(&order).unwrap();
    let connection = open(&order);
    let mode: String = connection
        .query_row("PRAGMA journal_mode", (), |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
    let check: String = connection
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    assert_eq!(count(&connection, "pragma_foreign_key_check"), 0);
    assert_eq!(
        count(
            &connection,
            "sqlite_master WHERE type = 'index' AND name LIKE 'idx_%'"
        ),
        TABLES
            .iter()
            .map(|table| table.indexes.len() as i64)
            .sum::<i64>()
    );
}
