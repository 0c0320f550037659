//! Databases of older releases, opened and brought to this version.

use std::collections::BTreeSet;

use super::place::{Place, number, rows, time};
use super::promises;
use crate::metadata::schema::{self, KNOWN_IDS, State};
use crate::metadata::table::{TABLES, V0001, V0007, V0011};
use crate::metadata::{Metadata, MetadataError, OpenMode};
use crate::model::FileStatus;

promises! {
    a_fresh_database_has_every_table_index_and_id,
    every_older_version_is_brought_to_this_one,
    every_older_version_can_be_read_as_it_is,
    the_first_releases_are_adopted,
    a_side_branch_keeps_its_table_and_id,
    an_upgrade_that_stopped_half_way_is_finished,
    a_start_that_stopped_half_way_is_finished,
    a_recorded_version_without_its_column_is_named,
    opening_twice_at_once_upgrades_once,
    opening_again_changes_nothing,
    tables_of_another_program_are_refused_and_left_alone,
}

/// Everything that this program needs is there, with the types of a fresh database.
fn assert_complete(place: &Place, state: &State) {
    for table in TABLES {
        for column in table.columns {
            assert!(
                state.has_column(table.name, column.name),
                "{}.{}",
                table.name,
                column.name
            );
        }
        for index in table.indexes {
            assert!(state.names.contains(index.name), "{}", index.name);
        }
    }
    if let Place::Postgres { .. } = place {
        for constraint in ["fk_uploads_files", "fk_users_tokens"] {
            assert!(state.names.contains(constraint), "{constraint}");
        }
    }
    let ids: BTreeSet<&str> = state.ids.iter().flatten().map(String::as_str).collect();
    assert!(KNOWN_IDS.iter().all(|id| ids.contains(id)), "{ids:?}");
    let count = state.ids.iter().flatten().count();
    assert_eq!(count, ids.len(), "an id is recorded twice");
}

/// The tables as they were at version `until`, with rows of that time.
fn database_at(place: &Place, until: &str) -> String {
    let dialect = place.dialect();
    let mut sql = vec![schema::ddl_migrations(dialect)];
    sql.push("INSERT INTO migrations (id) VALUES ('SCHEMA_INIT'), ('0000-cleaning')".to_owned());
    for id in KNOWN_IDS
        .iter()
        .filter(|id| **id != "SCHEMA_INIT" && **id <= until)
    {
        sql.push(format!("INSERT INTO migrations (id) VALUES ('{id}')"));
    }
    sql.extend(schema::ddl_until(dialect, until));
    sql.push(ROWS.to_owned());
    sql.join("; ")
}

/// Times in several offsets, a status of `''` and of NULL, a removed upload; columns of the first
/// version only.
const ROWS: &str = "\
    INSERT INTO users (id, provider, login, created_at) VALUES \
        ('local:admin', 'local', 'admin', '2022-01-31 10:07:13.631191+01:00'); \
    INSERT INTO tokens (token, comment, user_id, created_at) VALUES \
        ('t1', '', 'local:admin', '2022-01-31 10:07:14+01:00'); \
    INSERT INTO uploads (id, ttl, comments, \"user\", token, stream, one_shot, removable, \
            protected_by_password, created_at, deleted_at, expire_at) VALUES \
        ('live', 3600, '愛', '', '', FALSE, TRUE, TRUE, FALSE, '2022-01-31 10:07:13+01:00', NULL, \
            '2022-07-31 12:07:13+02:00'), \
        ('owned', 0, ' ', 'local:admin', 't1', FALSE, FALSE, FALSE, TRUE, \
            '2022-01-31 10:07:15+01:00', NULL, NULL), \
        ('gone', 86400, '', 'local:admin', '', FALSE, FALSE, FALSE, FALSE, \
            '2022-01-31 10:07:16+01:00', '2022-02-01 00:00:00+00:00', NULL); \
    INSERT INTO files (id, upload_id, name, status, size, created_at) VALUES \
        ('f1', 'live', '愛愛愛', 'uploaded', 42, '2022-01-31 10:07:13.631545+01:00'), \
        ('f2', 'live', '', '', 7, NULL), ('f3', 'live', NULL, NULL, NULL, NULL), \
        ('f4', 'owned', 'big', 'uploaded', 1048576, NULL), \
        ('f5', 'gone', '', 'removed', 5, NULL); \
    INSERT INTO settings (key, value) VALUES ('key1', 'val1')";

async fn assert_rows_of_old(metadata: &Metadata) {
    let live = metadata.upload("live").await.unwrap().unwrap();
    assert_eq!(live.comments, "愛");
    assert!(live.one_shot && live.removable && !live.stream && !live.extend_ttl);
    assert_eq!(live.expire_at, Some(time("2022-07-31T10:07:13Z")));
    let files = metadata.files_of_upload("live").await.unwrap();
    let statuses: Vec<FileStatus> = files.iter().map(|file| file.status).collect();
    use FileStatus::{Missing, Uploaded};
    assert_eq!(statuses, [Missing, Missing, Uploaded]);
    assert_eq!(files[2].name, "愛愛愛");
    assert!(metadata.upload("gone").await.unwrap().is_none());
    assert_eq!(metadata.removed_files("", 9).await.unwrap().len(), 1);
    let now = time("2022-07-31T10:08:00Z");
    assert_eq!(
        metadata.expired_uploads(now, "", 9).await.unwrap(),
        ["live"]
    );
    assert_eq!(number(metadata, "SELECT COUNT(*) FROM settings").await, 1);
}

/// The counters of [`ROWS`], worked out by hand.
async fn assert_counted(metadata: &Metadata) {
    let counted = rows(
        metadata,
        "SELECT * FROM usage_stats ORDER BY user_id, token",
    )
    .await;
    let scopes: Vec<String> = counted
        .iter()
        .map(|row| format!("{} {}", row.text("user_id"), row.text("token")))
        .collect();
    let expected = [
        "__anonymous__ ",
        "__deleted__ ",
        "local:admin ",
        "local:admin t1",
    ];
    assert_eq!(scopes, expected);
    for (scope, counters) in [
        (
            0,
            &[
                ("current_uploads", 1),
                ("lifetime_uploads", 1),
                ("current_files", 1),
                ("current_size", 42),
                ("current_one_shot_uploads", 1),
                ("current_comment_uploads", 1),
                ("current_ttl_1h1d_uploads", 1),
                ("current_ttl_none_uploads", 0),
                ("current_file_size_lt1m_files", 1),
            ][..],
        ),
        (1, &[("lifetime_uploads", 0), ("lifetime_users", 0)]),
        (
            2,
            &[
                ("current_uploads", 1),
                ("lifetime_uploads", 2),
                ("current_files", 1),
                ("lifetime_files", 2),
                ("current_size", 1_048_576),
                ("lifetime_size", 1_048_581),
                ("lifetime_users", 1),
                ("current_password_uploads", 1),
                ("current_comment_uploads", 0),
                ("current_ttl_none_uploads", 1),
                ("lifetime_ttl_1d7d_uploads", 1),
                ("current_ttl_1d7d_uploads", 0),
                ("lifetime_file_size_lt1m_files", 1),
                ("current_file_size_1m10m_files", 1),
            ],
        ),
        (
            3,
            &[
                ("current_uploads", 1),
                ("lifetime_uploads", 1),
                ("lifetime_users", 0),
            ],
        ),
    ] {
        for (counter, expected) in counters {
            let found = counted[scope].integer(counter);
            assert_eq!(found, *expected, "{counter} of {}", scopes[scope]);
        }
    }
    assert_eq!(
        counted[2].time("last_upload_at"),
        Some(time("2022-01-31T09:07:16Z"))
    );
    assert!(counted[1].time("started_at").is_some());
    let null =
        "SELECT COUNT(*) FROM uploads WHERE download_count IS NULL OR downloaded_bytes IS NULL";
    assert_eq!(number(metadata, null).await, 0);
    assert_eq!(
        number(
            metadata,
            "SELECT COUNT(*) FROM files WHERE download_count IS NULL"
        )
        .await,
        0
    );
}

async fn a_fresh_database_has_every_table_index_and_id(place: &Place) {
    place.open().await.close().await;
    let state = place.state().await;
    assert_complete(place, &state);
    assert_eq!(state.tables.len(), TABLES.len() + 1);
    assert_eq!(state.ids.iter().flatten().count(), KNOWN_IDS.len());
}

async fn every_older_version_is_brought_to_this_one(place: &Place) {
    // From 1.3.3 on; those before 1.3.6 recorded no version.
    for until in KNOWN_IDS.iter().skip(1) {
        let place = place.another().await;
        place.script(&database_at(&place, until)).await;
        if *until == V0001 {
            place
                .script("DELETE FROM migrations WHERE id <> 'SCHEMA_INIT'")
                .await;
        }
        let metadata = place.open().await;
        assert_rows_of_old(&metadata).await;
        if *until < V0011 {
            assert_counted(&metadata).await;
        }
        metadata.close().await;
        assert_complete(&place, &place.state().await);
    }
}

async fn every_older_version_can_be_read_as_it_is(place: &Place) {
    for until in KNOWN_IDS.iter().skip(1) {
        let place = place.another().await;
        place.script(&database_at(&place, until)).await;
        let before = place.state().await;
        let metadata = place.try_open(OpenMode::ReadOnly).await.unwrap();
        assert_rows_of_old(&metadata).await;
        metadata.close().await;
        let after = place.state().await;
        assert_eq!((before.ids, before.tables), (after.ids, after.tables));
    }
}

async fn the_first_releases_are_adopted(place: &Place) {
    const SQLITE: &str = "\
        CREATE TABLE migrations (id VARCHAR(255) PRIMARY KEY); \
        CREATE TABLE \"uploads\" (\"id\" varchar(255),\"ttl\" integer,\"download_domain\" varchar(255),\
            \"remote_ip\" varchar(255),\"comments\" varchar(255),\"upload_token\" varchar(255),\
            \"user\" varchar(255),\"token\" varchar(255),\"is_admin\" bool,\"stream\" bool,\
            \"one_shot\" bool,\"removable\" bool,\"protected_by_password\" bool,\
            \"login\" varchar(255),\"password\" varchar(255),\"created_at\" datetime,\
            \"deleted_at\" datetime,\"expire_at\" datetime,PRIMARY KEY (\"id\")); \
        CREATE TABLE \"files\" (\"id\" varchar(255),\"upload_id\" varchar(255),\"name\" varchar(255),\
            \"status\" varchar(255),\"md5\" varchar(255),\"type\" varchar(255),\"size\" bigint,\
            \"reference\" varchar(255),\"backend_details\" varchar(255),\"created_at\" datetime,\
            PRIMARY KEY (\"id\"),FOREIGN KEY(upload_id) REFERENCES uploads(id) \
            ON DELETE RESTRICT ON UPDATE RESTRICT); \
        CREATE TABLE \"users\" (\"id\" varchar(255),\"provider\" varchar(255),\"login\" varchar(255),\
            \"password\" varchar(255),\"name\" varchar(255),\"email\" varchar(255),\"is_admin\" bool,\
            \"created_at\" datetime,PRIMARY KEY (\"id\")); \
        CREATE TABLE \"tokens\" (\"token\" varchar(255),\"comment\" varchar(255),\
            \"user_id\" varchar(255),\"created_at\" datetime,PRIMARY KEY (\"token\"),\
            FOREIGN KEY(user_id) REFERENCES users(id) ON DELETE CASCADE ON UPDATE RESTRICT); \
        CREATE TABLE \"settings\" (\"key\" varchar(255),\"value\" varchar(255),PRIMARY KEY (\"key\")); \
        INSERT INTO files (id, upload_id) VALUES ('lost', 'nowhere'); \
        INSERT INTO tokens (token, user_id) VALUES ('lost', 'nobody')";
    const POSTGRES: &str = "\
        CREATE TABLE migrations (id varchar(255) PRIMARY KEY); \
        CREATE TABLE uploads (id text PRIMARY KEY, ttl integer, download_domain text, remote_ip text, \
            comments text, upload_token text, \"user\" text, token text, is_admin boolean, \
            stream boolean, one_shot boolean, removable boolean, protected_by_password boolean, \
            login text, password text, created_at timestamptz, deleted_at timestamptz, \
            expire_at timestamptz); \
        CREATE TABLE files (id text PRIMARY KEY, upload_id varchar(255), name text, status text, \
            md5 text, type text, size bigint, reference text, backend_details text, \
            created_at timestamptz, CONSTRAINT files_upload_id_fkey FOREIGN KEY (upload_id) \
            REFERENCES uploads(id) ON UPDATE RESTRICT ON DELETE RESTRICT); \
        CREATE TABLE users (id text PRIMARY KEY, provider text, login text, password text, \
            name text, email text, is_admin boolean, created_at timestamptz); \
        CREATE TABLE tokens (token text PRIMARY KEY, comment text, user_id varchar(255), \
            created_at timestamptz, CONSTRAINT tokens_user_id_fkey FOREIGN KEY (user_id) \
            REFERENCES users(id) ON UPDATE RESTRICT ON DELETE CASCADE); \
        CREATE TABLE settings (key text PRIMARY KEY, value text)";
    place.script(place.choose(SQLITE, POSTGRES)).await;
    place
        .script("INSERT INTO migrations (id) VALUES ('SCHEMA_INIT')")
        .await;
    place.script(ROWS).await;
    place
        .script("UPDATE uploads SET download_domain = 'https://old.example'")
        .await;

    let metadata = place.open().await;
    assert_rows_of_old(&metadata).await;
    assert_counted(&metadata).await;
    assert_eq!(
        number(&metadata, "SELECT COUNT(*) FROM files WHERE id = 'lost'").await,
        0
    );
    assert_eq!(
        number(
            &metadata,
            "SELECT COUNT(*) FROM tokens WHERE token = 'lost'"
        )
        .await,
        0
    );
    let kept = "SELECT COUNT(*) FROM uploads WHERE download_domain = 'https://old.example'";
    assert_eq!(number(&metadata, kept).await, 3);
    let long = crate::model::Upload {
        id: "new".to_owned(),
        ttl: i64::from(i32::MAX) + 1,
        ..Default::default()
    };
    metadata.create_upload(&long, &[]).await.unwrap();
    assert_eq!(metadata.upload("new").await.unwrap(), Some(long));
    metadata.close().await;

    let state = place.state().await;
    assert_complete(place, &state);
    if let Place::Postgres { .. } = place {
        let upload_id = &state.tables["files"][1];
        assert_eq!(upload_id.type_name, "character varying(256)");
        assert!(
            state.names.contains("files_upload_id_fkey"),
            "the old key stays beside"
        );
    }
}

async fn a_side_branch_keeps_its_table_and_id(place: &Place) {
    place.script(&database_at(place, V0007)).await;
    place
        .script(
            "INSERT INTO migrations (id) VALUES ('0009-upload-events'), ('0012-from-tomorrow'); \
             CREATE TABLE events (id varchar(16), type varchar(32), PRIMARY KEY (id)); \
             INSERT INTO events (id, type) VALUES ('e1', 'file_added'); \
             ALTER TABLE uploads ADD mood text; \
             ALTER TABLE files ADD is_text boolean",
        )
        .await;
    let metadata = place.open().await;
    assert_rows_of_old(&metadata).await;
    assert_counted(&metadata).await;
    assert_eq!(number(&metadata, "SELECT COUNT(*) FROM events").await, 1);
    metadata.close().await;
    let state = place.state().await;
    assert_complete(place, &state);
    assert!(state.has_column("uploads", "mood"));
    assert_eq!(state.newer_id(), Some("0012-from-tomorrow"));
    let ids = state.ids.unwrap();
    assert!(ids.iter().any(|id| id == "0009-upload-events"));
}

async fn an_upgrade_that_stopped_half_way_is_finished(place: &Place) {
    // Plik (Go) alters tables and records versions without a transaction around both.
    place.script(&database_at(place, V0011)).await;
    place
        .script(
            "DELETE FROM migrations WHERE id > '0003'; \
             DROP TABLE upload_stats_daily; \
             INSERT INTO usage_stats (user_id, token, current_uploads) VALUES ('half', '', 9)",
        )
        .await;
    place
        .script("INSERT INTO migrations (id) VALUES ('SCHEMA_INIT')")
        .await;
    let metadata = place.open().await;
    assert_rows_of_old(&metadata).await;
    assert_counted(&metadata).await;
    metadata.close().await;
    assert_complete(place, &place.state().await);
}

async fn a_start_that_stopped_half_way_is_finished(place: &Place) {
    place.script(&database_at(place, V0001)).await;
    place
        .script("DELETE FROM migrations; DROP TABLE settings")
        .await;
    let metadata = place.open().await;
    assert_counted(&metadata).await;
    metadata.close().await;
    assert_complete(place, &place.state().await);
}

async fn a_recorded_version_without_its_column_is_named(place: &Place) {
    place.script(&database_at(place, V0011)).await;
    place.script("ALTER TABLE uploads DROP COLUMN e2ee").await;
    let Err(error) = place.try_open(OpenMode::Serve).await else {
        panic!("it was opened");
    };
    assert!(matches!(error, MetadataError::Layout { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("uploads") && text.contains("e2ee"), "{text}");
}

async fn opening_twice_at_once_upgrades_once(place: &Place) {
    for old in [None, Some(V0001)] {
        let place = place.another().await;
        if let Some(old) = old {
            place.script(&database_at(&place, old)).await;
        }
        let opening = (0..4).map(|_| place.open());
        for metadata in futures::future::join_all(opening).await {
            metadata.close().await;
        }
        assert_complete(&place, &place.state().await);
    }
}

async fn opening_again_changes_nothing(place: &Place) {
    place.script(&database_at(place, V0001)).await;
    place.open().await.close().await;
    let before = place.state().await;
    let metadata = place.open().await;
    let counters = "SELECT * FROM usage_stats ORDER BY user_id, token";
    let counted = rows(&metadata, counters).await;
    metadata.close().await;
    let metadata = place.open().await;
    assert_eq!(rows(&metadata, counters).await, counted);
    metadata.close().await;
    let after = place.state().await;
    assert_eq!(
        (before.ids, before.tables, before.names),
        (after.ids, after.tables, after.names)
    );
}

async fn tables_of_another_program_are_refused_and_left_alone(place: &Place) {
    let settings = "CREATE TABLE settings (key text, value text, PRIMARY KEY (key))";
    for (foreign, named) in [
        ("CREATE TABLE users (id text, name text)", "migrations"),
        ("CREATE TABLE migrations (version text)", "migrations"),
        (
            "CREATE TABLE migrations (id text); \
             INSERT INTO migrations (id) VALUES ('20200101_create_users')",
            "migrations",
        ),
        (
            "CREATE TABLE migrations (id text); CREATE TABLE users (id text, name text)",
            "provider",
        ),
        (
            "CREATE TABLE migrations (id text); \
             INSERT INTO migrations (id) VALUES ('SCHEMA_INIT'), ('0001-initial')",
            "users",
        ),
    ] {
        let place = place.another().await;
        place.script(foreign).await;
        place.script(settings).await;
        let before = place.state().await;
        for mode in [OpenMode::Serve, OpenMode::ReadOnly] {
            let Err(error) = place.try_open(mode).await else {
                panic!("opened: {foreign}");
            };
            assert!(matches!(error, MetadataError::Layout { .. }), "{error:?}");
            assert!(error.to_string().contains(named), "{error}");
        }
        let after = place.state().await;
        assert_eq!((before.tables, before.ids), (after.tables, after.ids));
    }
}
