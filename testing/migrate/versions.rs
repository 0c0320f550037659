//! Sources of every schema version, as the release that made them left them.

use std::fs;

use anyhow::Result;

use crate::places::Database;
use crate::scene::{Scene, Server};

/// The tables of the first version, as the second ORM generation declares them.
const FIRST: &str = "\
CREATE TABLE migrations (id varchar(255), PRIMARY KEY (id));
CREATE TABLE users (id text, provider text, login text, password text, name text, email text, is_admin numeric, created_at datetime, PRIMARY KEY (id));
CREATE TABLE tokens (token text, comment text, user_id text, created_at datetime, PRIMARY KEY (token), CONSTRAINT fk_users_tokens FOREIGN KEY (user_id) REFERENCES users(id));
CREATE TABLE uploads (id text, ttl integer, remote_ip text, comments text, upload_token text, user text, token text, stream numeric, one_shot numeric, removable numeric, protected_by_password numeric, login text, password text, created_at datetime, deleted_at datetime, expire_at datetime, PRIMARY KEY (id));
CREATE TABLE files (id text, upload_id text, name text, status text, md5 text, type text, size integer, reference text, backend_details text, created_at datetime, PRIMARY KEY (id), CONSTRAINT fk_uploads_files FOREIGN KEY (upload_id) REFERENCES uploads(id));
CREATE TABLE settings (key text, value text, PRIMARY KEY (key));
CREATE INDEX idx_upload_user ON uploads(user);
CREATE INDEX idx_upload_user_token ON uploads(token);
CREATE INDEX idx_upload_deleted_at ON uploads(deleted_at);
CREATE INDEX idx_upload_expire_at ON uploads(expire_at);
INSERT INTO migrations VALUES ('SCHEMA_INIT')";

/// What each later version adds.
const STEPS: &[(&str, &str)] = &[
    ("0001-initial", ""),
    (
        "0002-user-limits",
        "ALTER TABLE users ADD max_file_size integer; ALTER TABLE users ADD max_ttl integer",
    ),
    (
        "0003-extend-ttl",
        "ALTER TABLE uploads ADD extend_ttl numeric",
    ),
    (
        "0004-max-user-size",
        "ALTER TABLE users ADD max_user_size integer",
    ),
    (
        "0005-cli-auth-sessions",
        "CREATE TABLE cli_auth_sessions (code text, secret text, status text DEFAULT \"pending\", token text, created_at datetime, expires_at datetime, PRIMARY KEY (code))",
    ),
    (
        "0006-user-profile-picture",
        "ALTER TABLE users ADD profile_picture text",
    ),
    ("0007-upload-e2ee", "ALTER TABLE uploads ADD e2ee text"),
    ("0008-user-theme", "ALTER TABLE users ADD theme text"),
    ("0009-file-is-text", "ALTER TABLE files ADD is_text numeric"),
    ("0010-user-language", "ALTER TABLE users ADD language text"),
];

/// The tables of 1.3 to 1.3.2: other types, two more columns, nameless foreign keys.
const FIRST_GENERATION: &str = "\
CREATE TABLE \"migrations\" (\"id\" varchar(255), PRIMARY KEY (\"id\"));
CREATE TABLE \"users\" (\"id\" varchar(255), \"provider\" varchar(255), \"login\" varchar(255), \"password\" varchar(255), \"name\" varchar(255), \"email\" varchar(255), \"is_admin\" bool, \"created_at\" datetime, PRIMARY KEY (\"id\"));
CREATE TABLE \"tokens\" (\"token\" varchar(255), \"comment\" varchar(255), \"user_id\" varchar(255) REFERENCES users(id) ON UPDATE RESTRICT ON DELETE CASCADE, \"created_at\" datetime, PRIMARY KEY (\"token\"));
CREATE TABLE \"uploads\" (\"id\" varchar(255), \"ttl\" integer, \"download_domain\" varchar(255), \"remote_ip\" varchar(255), \"comments\" varchar(255), \"upload_token\" varchar(255), \"user\" varchar(255), \"token\" varchar(255), \"is_admin\" bool, \"stream\" bool, \"one_shot\" bool, \"removable\" bool, \"protected_by_password\" bool, \"login\" varchar(255), \"password\" varchar(255), \"created_at\" datetime, \"deleted_at\" datetime, \"expire_at\" datetime, PRIMARY KEY (\"id\"));
CREATE TABLE \"files\" (\"id\" varchar(255), \"upload_id\" varchar(255) REFERENCES uploads(id) ON UPDATE RESTRICT ON DELETE RESTRICT, \"name\" varchar(255), \"status\" varchar(255), \"md5\" varchar(255), \"type\" varchar(255), \"size\" bigint, \"reference\" varchar(255), \"backend_details\" varchar(255), \"created_at\" datetime, PRIMARY KEY (\"id\"));
CREATE TABLE \"settings\" (\"key\" varchar(255), \"value\" varchar(255), PRIMARY KEY (\"key\"));
INSERT INTO migrations VALUES ('SCHEMA_INIT')";

/// A database of every shape, by name.
fn shapes() -> Vec<(String, String)> {
    let mut sql = FIRST.to_owned();
    let mut shapes = vec![
        ("first generation".to_owned(), FIRST_GENERATION.to_owned()),
        ("second generation".to_owned(), sql.clone()),
    ];
    for (version, step) in STEPS {
        sql = format!("{sql}; {step}; INSERT INTO migrations VALUES ('{version}')");
        shapes.push(((*version).to_owned(), sql.clone()));
    }
    shapes
}

const ROWS: &str = "
INSERT INTO users (id, provider, login, name, is_admin, created_at) VALUES ('local:joe', 'local', 'joe', 'Jo\u{eb}', 1, '2022-04-30 21:44:32.577398205+02:00');
INSERT INTO tokens (token, comment, user_id, created_at) VALUES ('4f3c1ab0-1111-4222-5333-444455556666', '', 'local:joe', '2022-04-30 21:44:32+02:00');
INSERT INTO uploads (id, ttl, comments, upload_token, user, token, stream, one_shot, removable, protected_by_password, login, password, created_at) VALUES ('theUpload0000000', 0, '', 'secret', 'local:joe', '', 0, 0, 0, 0, '', '', '2022-11-20 15:48:52.223437479-05:00');
INSERT INTO files (id, upload_id, name, status, md5, type, size, reference, backend_details, created_at) VALUES ('theFile000000000', 'theUpload0000000', 'n.txt', 'uploaded', '5eb63bbbe01eeed093cb22bb8f5acdc3', 'text/plain', 11, '', '', '2022-11-20 15:48:52+00:00'), ('legacyFile000000', 'theUpload0000000', 'n', '', '', '', 0, '', 'no json', NULL);
INSERT INTO settings VALUES ('authentication_signature_key', 'hush')";

fn source(scene: &Scene, sql: &str) -> Result<Server> {
    let from = scene.local("from")?;
    let Database::Sqlite(path) = &from.database else {
        unreachable!("a local server has a file")
    };
    rusqlite::Connection::open(path)?.execute_batch(&format!("{sql}; {ROWS}"))?;
    from.store.put("theFile000000000", b"hello world")?;
    Ok(from)
}

/// Everything arrives and is served, the target's counters count it, and the source has not
/// changed by a byte.
fn arrives_and_is_served(scene: &Scene, from: &Server, to: &Server) -> Result<()> {
    let database = scene.path("from.db");
    let before = fs::read(&database)?;
    scene.migrate(from, to, &["--dry-run"])?.expect(0)?;
    let run = scene
        .migrate(from, to, &[])?
        .expect(0)?
        .never_says(&["hush"])?;
    assert_eq!(before, fs::read(&database)?);
    for log in ["from.db-wal", "from.db-shm", "from.db-lock", "from.db.lock"] {
        assert!(!scene.path(log).exists(), "{log}");
    }
    assert_eq!(run.summary("files")?.copied, 2);
    assert_eq!(run.summary("blobs")?.copied, 1);
    let counted = "SELECT lifetime_uploads, lifetime_files, current_size FROM usage_stats \
         WHERE user_id = 'local:joe' AND token = ''";
    assert_eq!(to.database.query(counted)?, [["1", "1", "11"]]);
    let legacy =
        "SELECT status, backend_details, created_at FROM files WHERE id = 'legacyFile000000'";
    assert_eq!(to.database.query(legacy)?, [["", "no json", "NULL"]]);
    let again = scene.migrate(from, to, &[])?.expect(0)?;
    assert_eq!(again.summary("files")?.present, 2);
    assert_eq!(to.database.query(counted)?, [["1", "1", "11"]]);
    let download = "/file/theUpload0000000/theFile000000000/n.txt";
    assert_eq!(scene.serve(to)?.download(download)?, b"hello world");
    Ok(())
}

#[test]
fn every_version_arrives_in_sqlite() -> Result<()> {
    for (name, sql) in shapes() {
        let scene = Scene::new()?;
        let (from, to) = (source(&scene, &sql)?, scene.local("to")?);
        arrives_and_is_served(&scene, &from, &to).map_err(|error| error.context(name))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn every_version_arrives_in_postgres() -> Result<()> {
    for (name, sql) in shapes() {
        let scene = Scene::new()?;
        let from = source(&scene, &sql)?;
        let to = scene.postgres("to")?;
        arrives_and_is_served(&scene, &from, &to).map_err(|error| error.context(name))?;
    }
    Ok(())
}
