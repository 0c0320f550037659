//! Writes a made-up server's rows into a new SQLite file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Statement, params};

use super::entities::{self, DailyDownloads};
use super::rows::Rows;
use super::{FakedbError, Totals};
use crate::metadata::{self, Dialect, Lock, schema, sqlite, stats};

const INSERT_USER: &str = "INSERT INTO users (id, provider, login, password, name, email, \
    profile_picture, theme, language, is_admin, max_file_size, max_user_size, max_ttl, created_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
const INSERT_TOKEN: &str =
    "INSERT INTO tokens (token, comment, user_id, created_at) VALUES (?1, ?2, ?3, ?4)";
const INSERT_UPLOAD: &str = "INSERT INTO uploads (id, ttl, extend_ttl, remote_ip, comments, e2ee, \
    upload_token, user, token, stream, one_shot, removable, protected_by_password, login, password, \
    download_count, last_downloaded_at, downloaded_bytes, created_at, deleted_at, expire_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
    ?20, ?21)";
const INSERT_FILE: &str = "INSERT INTO files (id, upload_id, name, status, md5, type, size, \
    is_text, reference, backend_details, download_count, last_downloaded_at, created_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, '', ?10, ?11, ?12)";
const INSERT_SETTING: &str =
    "INSERT INTO settings (key, value) VALUES ('authentication_signature_key', ?1)";
const INSERT_DOWNLOADS: &str = "INSERT INTO download_stats_daily (day, entity_type, entity_id, \
    downloads, bytes, user_id, token, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const ADD_UPLOAD: &str = "INSERT INTO upload_stats_daily (day, user_id, token, uploads, bytes, \
    updated_at) VALUES (?1, ?2, ?3, 1, ?4, ?5) ON CONFLICT (day, user_id, token) \
    DO UPDATE SET uploads = uploads + 1, bytes = bytes + excluded.bytes";
/// The counters of bytes, which the back-fill of the schema leaves at 0.
const ADD_BYTES: &str = "UPDATE usage_stats SET uploaded_bytes = lifetime_size, \
    downloaded_bytes = COALESCE(sums.bytes, 0) \
    FROM (SELECT iif(user = '', '__anonymous__', user) AS user_id, '' AS token, \
        SUM(downloaded_bytes) AS bytes FROM uploads GROUP BY user \
        UNION ALL SELECT user, token, SUM(downloaded_bytes) FROM uploads \
        WHERE token <> '' GROUP BY user, token) AS sums \
    WHERE usage_stats.user_id = sums.user_id AND usage_stats.token = sums.token";

/// A database under a name that nobody knows yet. It is removed unless it is published.
pub struct Database {
    partial: Partial,
    output: PathBuf,
    connection: Connection,
}

impl Database {
    /// Creates the tables in a new file beside `output`.
    pub fn create(output: &Path) -> Result<Self, FakedbError> {
        let partial = Partial(beside(output, ".partial"));
        remove(&partial.0)?;
        let database = Self {
            connection: sqlite::connect(&location(&partial.0), sqlite::Access::ReadWrite)?,
            partial,
            output: output.to_owned(),
        };
        database.run(create_tables)?;
        Ok(database)
    }

    /// Inserts everything but the files.
    pub fn insert_rows(&self, rows: &Rows) -> Result<(), FakedbError> {
        self.run(|connection| {
            insert_users(connection, rows)?;
            insert_tokens(connection, rows)?;
            insert_uploads(connection, rows)?;
            connection.execute(INSERT_SETTING, [rows.signature_key()])?;
            Ok(())
        })
    }

    /// Inserts files, fastest in the order of their ids, up to the first batch that is an error.
    pub fn insert_files(
        &self,
        rows: &Rows,
        batches: impl Iterator<Item = Result<Vec<entities::File>, FakedbError>>,
    ) -> Result<Totals, FakedbError> {
        let failed = |source| self.failed(source);
        let mut file = self.connection.prepare(INSERT_FILE).map_err(failed)?;
        let mut daily = self.connection.prepare(INSERT_DOWNLOADS).map_err(failed)?;
        let mut totals = Totals::default();
        for batch in batches {
            for row in batch? {
                insert_file(&mut file, &row).map_err(failed)?;
                if let Some(downloads) = &row.downloaded {
                    insert_downloads(&mut daily, ("file", &row.id), downloads, rows)
                        .map_err(failed)?;
                }
                totals.add(&row);
            }
        }
        Ok(totals)
    }

    /// Builds the indexes and the counters, makes the file durable and gives it its name.
    pub fn publish(self, rows: &Rows) -> Result<(), FakedbError> {
        self.run(|connection| finish(connection, rows))?;
        let Self {
            partial,
            output,
            connection,
        } = self;
        connection
            .close()
            .map_err(|(_, source)| sqlite_error(&partial.0, source))?;
        File::open(&partial.0)
            .and_then(|file| file.sync_all())
            .map_err(|source| failed("sync", &partial.0, source))?;
        // The log of the database that is replaced would be applied to the new one.
        for suffix in LOGS {
            remove(&beside(&output, suffix))?;
        }
        fs::rename(&partial.0, &output).map_err(|source| failed("create", &output, source))
    }

    fn run(
        &self,
        action: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), FakedbError> {
        action(&self.connection).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> FakedbError {
        sqlite_error(&self.partial.0, source)
    }
}

/// Files that SQLite keeps beside a database.
const LOGS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The file at `output`, or one that SQLite would take for a part of it.
pub fn existing(output: &Path) -> Option<PathBuf> {
    let parts = LOGS.map(|suffix| beside(output, suffix));
    let mut files = std::iter::once(output.to_owned()).chain(parts);
    files.find(|path| path.symlink_metadata().is_ok())
}

/// The first bytes of every SQLite database that is not empty.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Makes sure that `output` may be replaced for as long as the lock is held: it is a database, or
/// an empty file that would become one, and nobody uses it. `None` if nothing is there.
pub fn claim(output: &Path) -> Result<Option<Lock>, FakedbError> {
    if existing(output).is_none() {
        return Ok(None);
    }
    // Before the lock, which is a new file beside `output`: that must not appear beside a device.
    if !is_database(output).map_err(|source| failed("read", output, source))? {
        let path = output.to_owned();
        return Err(FakedbError::NotADatabase { path });
    }
    Ok(Some(metadata::lock_alone(location(output))?))
}

/// Whether a database is there, or nothing yet. A link is none: what it leads to stays.
fn is_database(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    }
    let mut start = Vec::with_capacity(MAGIC.len());
    let file = File::open(path)?;
    file.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start.is_empty() || start == MAGIC)
}

fn location(path: &Path) -> sqlite::Location {
    sqlite::Location {
        path: path.to_owned(),
        file: path.to_owned(),
        busy_timeout: Duration::ZERO,
        may_create: true,
        read_only: false,
    }
}

/// Removes its file when dropped; one that has been renamed is not there any more.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Best effort: what remains is overwritten by the next run.
        let _ = fs::remove_file(&self.0);
    }
}

fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
    // Nothing is lost with a file that nobody knows: no journal, and one sync at the end.
    connection.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; \
         PRAGMA cache_size = -131072; BEGIN",
    )?;
    connection.execute_batch(&schema::ddl_migrations(Dialect::Sqlite))?;
    connection.execute_batch(&schema::ddl_tables(Dialect::Sqlite).join(";"))?;
    let mut record = connection.prepare("INSERT INTO migrations (id) VALUES (?1)")?;
    schema::KNOWN_IDS
        .iter()
        .try_for_each(|id| record.execute([id]).map(|_| ()))
}

fn finish(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    connection.execute_batch(&schema::ddl_indexes(Dialect::Sqlite).join(";"))?;
    connection.execute(&stats::back_fill(Dialect::Sqlite), [rows.now()])?;
    connection.execute(ADD_BYTES, [])?;
    // As every server leaves its database: the mode is a property of the file.
    connection.execute_batch("COMMIT; PRAGMA journal_mode = WAL")
}

fn insert_users(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    let mut insert = connection.prepare(INSERT_USER)?;
    for user in (0..rows.counts().all_users()).map(|index| rows.user(index)) {
        let later = user.later.as_ref();
        insert.execute(params![
            user.id,
            user.provider,
            user.login,
            user.password,
            user.name,
            user.email,
            later.map(|later| &later.profile_picture),
            later.map(|later| later.theme),
            later.map(|later| later.language),
            user.is_admin,
            user.max_file_size,
            later.map(|later| later.max_user_size),
            user.max_ttl,
            user.created_at,
        ])?;
    }
    Ok(())
}

fn insert_tokens(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    let mut insert = connection.prepare(INSERT_TOKEN)?;
    for token in (0..rows.counts().tokens()).map(|index| rows.token(index)) {
        insert.execute(params![
            token.token,
            token.comment,
            token.user_id,
            token.created_at
        ])?;
    }
    Ok(())
}

fn insert_uploads(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    let mut insert = connection.prepare(INSERT_UPLOAD)?;
    let mut add = connection.prepare(ADD_UPLOAD)?;
    let mut daily = connection.prepare(INSERT_DOWNLOADS)?;
    for upload in (0..rows.counts().uploads()).map(|index| rows.upload(index)) {
        insert_upload(&mut insert, &upload)?;
        if let Some((day, bytes)) = &upload.uploaded {
            add.execute(params![day, upload.user, upload.token, bytes, rows.now()])?;
        }
        if let Some(downloads) = &upload.downloaded {
            insert_downloads(&mut daily, ("upload", &upload.id), downloads, rows)?;
        }
    }
    Ok(())
}

fn insert_upload(insert: &mut Statement<'_>, upload: &entities::Upload) -> rusqlite::Result<()> {
    let later = upload.later.as_ref();
    insert.execute(params![
        upload.id,
        upload.ttl,
        later.map(|later| later.extend_ttl),
        upload.remote_ip,
        upload.comments,
        later.map(|later| later.e2ee),
        upload.upload_token,
        upload.user,
        upload.token,
        upload.stream,
        upload.one_shot,
        upload.removable,
        upload.protected_by_password,
        upload.login,
        upload.password,
        later.map(|later| later.download_count),
        upload.last_downloaded_at,
        later.map(|later| later.downloaded_bytes),
        upload.created_at,
        upload.deleted_at,
        upload.expire_at,
    ])?;
    Ok(())
}

fn insert_file(insert: &mut Statement<'_>, file: &entities::File) -> rusqlite::Result<()> {
    let later = file.later.as_ref();
    insert.execute(params![
        file.id,
        file.upload_id,
        file.name,
        file.status,
        file.md5,
        file.mime_type,
        file.size as i64,
        later.map(|later| later.is_text),
        file.reference,
        later.map(|later| later.download_count),
        file.last_downloaded_at,
        file.created_at,
    ])?;
    Ok(())
}

fn insert_downloads(
    insert: &mut Statement<'_>,
    (entity_type, entity_id): (&str, &str),
    downloads: &DailyDownloads,
    rows: &Rows,
) -> rusqlite::Result<()> {
    insert.execute(params![
        downloads.day,
        entity_type,
        entity_id,
        downloads.downloads,
        downloads.bytes,
        downloads.user,
        downloads.token,
        rows.now(),
    ])?;
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove(path: &Path) -> Result<(), FakedbError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> FakedbError {
    FakedbError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

fn sqlite_error(path: &Path, source: rusqlite::Error) -> FakedbError {
    FakedbError::Sqlite {
        path: path.to_owned(),
        source,
    }
}
