//! The file that a fresh load fills: beside the database, used by nobody else, and put in the
//! place of the database when it is whole. Until then a crash costs nothing but its rows, so it is
//! written without journal and without syncs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::{Access, Location, connect, failure};
use crate::metadata::MetadataError;
use crate::metadata::error::During;
use crate::metadata::fresh::FreshError;
use crate::metadata::layout::{Layout, quote};

/// Memory for pages, and as much again while an index is sorted. Rows come in key order, so every
/// tree grows at its right edge only and more would not be used.
const CACHE_KIB: i64 = 8 << 10;

/// Threads that sort an index beside the one that reads its table.
const SORTERS: i64 = 1;

/// What SQLite keeps beside a database that is open, or was not closed.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The file, open, and what it lacks yet.
pub struct Loading {
    pub connection: Connection,
    pub draft: Draft,
    /// The definitions of the indexes of the tables that are loaded.
    pub indexes: Vec<String>,
}

impl Loading {
    /// Makes a copy of the database that `real` is connected to, which must not be in a
    /// transaction: everything in it, but no index on `tables`, which are empty.
    ///
    /// `None` if a copy could not take the place of the database as it is: this user may not give
    /// it the same owner, it has a second name, or a trigger wants to see each row.
    pub fn create(
        location: &Location,
        real: &Connection,
        tables: &[Layout],
    ) -> Result<Option<Self>, MetadataError> {
        let label = location.to_string();
        let during = During {
            action: "prepare the load",
            backend: &label,
        };
        let failed = |error| failure(during, &error);
        if has_triggers(real).map_err(failed)? {
            return Ok(None);
        }
        let Some(draft) = Draft::create(location).map_err(|error| match error.kind() {
            ErrorKind::StorageFull => during.full(error),
            _ => during.failed(error),
        })?
        else {
            return Ok(None);
        };
        let path = ValueRef::Text(draft.path.as_os_str().as_bytes());
        real.execute("VACUUM INTO ?1", [ToSqlOutput::Borrowed(path)])
            .map_err(failed)?;
        let connection = connect(&draft.location(location), Access::ReadWrite)?;
        let indexes = prepare(&connection, tables).map_err(failed)?;
        Ok(Some(Self {
            connection,
            draft,
            indexes,
        }))
    }

    /// Does `work`, which leaves most of the file as it is, while what was written so far goes to
    /// disk: [`Loading::seal`] then has little to wait for.
    pub fn flush_beside<T>(
        &self,
        label: &str,
        work: impl FnOnce() -> Result<T, FreshError>,
    ) -> Result<T, FreshError> {
        let path = &self.draft.path;
        thread::scope(|scope| {
            let flush = scope.spawn(|| File::open(path).and_then(|file| file.sync_data()));
            let done = work()?;
            // An error of a disk is told once: to this sync, not to the last one.
            let flushed = flush
                .join()
                .unwrap_or_else(|_| Err(ErrorKind::Other.into()));
            flushed.map_err(|error| unsynced(label, error))?;
            Ok(done)
        })
    }

    /// Closes the file and waits until it is on disk, whole.
    pub fn seal(self, label: &str) -> Result<Draft, MetadataError> {
        let closed = self.connection.close();
        closed.map_err(|(_, error)| failure(finishing(label), &error))?;
        let synced = File::open(&self.draft.path).and_then(|file| file.sync_all());
        synced.map_err(|error| unsynced(label, error))?;
        Ok(self.draft)
    }
}

fn finishing(label: &str) -> During<'_> {
    During {
        action: "finish the load",
        backend: label,
    }
}

fn unsynced(label: &str, error: io::Error) -> MetadataError {
    match error.kind() {
        ErrorKind::StorageFull => finishing(label).full(error),
        _ => finishing(label).failed(error),
    }
}

fn has_triggers(connection: &Connection) -> rusqlite::Result<bool> {
    const SQL: &str = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'trigger'";
    connection.query_row(SQL, (), |row| row.get(0))
}

/// Drops the indexes of `tables`, and returns their definitions.
fn prepare(connection: &Connection, tables: &[Layout]) -> rusqlite::Result<Vec<String>> {
    connection.execute_batch(&format!(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; \
         PRAGMA cache_size = -{CACHE_KIB}; PRAGMA threads = {SORTERS};"
    ))?;
    let mut statement = connection.prepare(
        "SELECT tbl_name, name, sql FROM sqlite_schema \
         WHERE type = 'index' AND sql IS NOT NULL ORDER BY rowid",
    )?;
    let found = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let found: Vec<(String, String, String)> = found.collect::<rusqlite::Result<_>>()?;
    let mut definitions = Vec::new();
    for (table, name, definition) in found {
        if tables.iter().any(|layout| layout.name == table) {
            connection.execute(&format!("DROP INDEX {}", quote(&name)), ())?;
            definitions.push(definition);
        }
    }
    Ok(definitions)
}

/// A file that is removed when this is dropped, unless it has become the database.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    database: PathBuf,
    published: bool,
}

impl Draft {
    /// An empty file with the owner and the permissions of the database. `None` if it cannot have
    /// them, or the database has a second name, which would stay with the old file.
    fn create(location: &Location) -> io::Result<Option<Self>> {
        let database = location.file.clone();
        let model = fs::metadata(&database)?;
        if model.nlink() > 1 {
            return Ok(None);
        }
        let path = loading_path(&database);
        remove_if_there(&path)?;
        let created = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let file = match created {
            Ok(file) => file,
            Err(error) if is_denied(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let draft = Self {
            path,
            database,
            published: false,
        };
        match dress(&file, &draft.path, &model) {
            Ok(()) => Ok(Some(draft)),
            Err(error) if is_denied(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn location(&self, database: &Location) -> Location {
        Location {
            path: self.path.clone(),
            file: self.path.clone(),
            may_create: false,
            ..database.clone()
        }
    }

    /// Becomes the database of `location`, which nobody of this program has open. After an error
    /// that is not [`Unpublished::Unsynced`] the database is as it was.
    pub fn publish(mut self, location: &Location) -> Result<(), Unpublished> {
        let held = self.hold(location).ok_or_else(|| {
            Unpublished::Refused("another program has the database open".to_owned())
        })?;
        fs::rename(&self.path, &self.database).map_err(|error| {
            Unpublished::Refused(format!("the database cannot be replaced: {error}"))
        })?;
        self.published = true;
        drop(held);
        let directory = self.database.parent().unwrap_or(Path::new("/"));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(Unpublished::Unsynced)
    }

    /// Keeps everybody else from opening the old file while it is replaced. `None` if somebody has
    /// it open, or had it when it died: their log would be taken for that of the new file, or they
    /// would remove that of the new file for theirs.
    fn hold(&self, location: &Location) -> Option<Connection> {
        let connection = connect(location, Access::ReadWrite).ok()?;
        connection.busy_timeout(Duration::ZERO).ok()?;
        // Only who has a database alone can do without its log.
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))
            .ok()?;
        connection.execute_batch("BEGIN EXCLUSIVE").ok()?;
        let mut companions = COMPANIONS.iter();
        let is_alone = mode == "delete"
            && !companions.any(|suffix| with_suffix(&self.database, suffix).exists());
        is_alone.then_some(connection)
    }
}

/// Why a load did not become the database.
#[derive(Debug)]
pub enum Unpublished {
    Refused(String),
    /// It has, but may be gone again after a power failure.
    Unsynced(io::Error),
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = remove_if_there(&self.path)
        {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes what a load that was killed has left behind. The database must be locked.
pub fn remove_leftover(location: &Location) {
    let path = loading_path(&location.file);
    if let Err(error) = remove_if_there(&path) {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives a new file the owner and the permissions of `model`.
fn dress(file: &File, path: &Path, model: &fs::Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (model.uid(), model.gid()) {
        chown(path, Some(model.uid()), Some(model.gid()))?;
    }
    file.set_permissions(model.permissions())
}

fn is_denied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}

fn loading_path(database: &Path) -> PathBuf {
    with_suffix(database, ".loading")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::super::switch_to_wal;
    use super::*;

    const TABLES: &str = "CREATE TABLE t (id text PRIMARY KEY, n integer); \
         CREATE INDEX t_n ON t (n); CREATE TABLE kept (id text PRIMARY KEY); \
         CREATE INDEX kept_id ON kept (id); INSERT INTO kept VALUES ('one')";

    struct Scene {
        directory: TempDir,
        location: Location,
        real: Connection,
    }

    impl Scene {
        fn new() -> Self {
            let directory = TempDir::new().unwrap();
            let path = directory.path().join("plik 100%.db");
            let location = Location::parse(path.to_str().unwrap()).unwrap();
            let real = connect(&location, Access::ReadWrite).unwrap();
            switch_to_wal(&real, "it", Duration::from_secs(1)).unwrap();
            real.execute_batch(TABLES).unwrap();
            Self {
                directory,
                location,
                real,
            }
        }

        fn create(&self) -> Option<Loading> {
            let table = Layout {
                name: "t".to_owned(),
                ..Layout::default()
            };
            Loading::create(&self.location, &self.real, &[table]).unwrap()
        }

        fn path(&self) -> PathBuf {
            loading_path(&self.location.path)
        }

        fn files(&self) -> usize {
            fs::read_dir(self.directory.path()).unwrap().count()
        }
    }

    fn indexes(connection: &Connection) -> Vec<String> {
        let sql = "SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE INDEX%' ORDER BY name";
        let mut indexes = connection.prepare(sql).unwrap();
        let names = indexes.query_map((), |row| row.get(0)).unwrap();
        names.collect::<rusqlite::Result<_>>().unwrap()
    }

    #[test]
    fn the_file_has_everything_but_the_indexes_of_what_is_loaded() {
        let scene = Scene::new();
        let loading = scene.create().unwrap();
        assert_eq!(indexes(&loading.connection), ["kept_id"]);
        assert_eq!(loading.indexes, ["CREATE INDEX t_n ON t (n)"]);
        let kept: String = loading
            .connection
            .query_row("SELECT id FROM kept", (), |row| row.get(0))
            .unwrap();
        assert_eq!(kept, "one");
        assert_eq!(indexes(&scene.real), ["kept_id", "t_n"]);
    }

    #[test]
    fn it_takes_the_place_of_the_database_with_its_permissions() {
        let scene = Scene::new();
        fs::set_permissions(&scene.location.path, fs::Permissions::from_mode(0o604)).unwrap();
        let loading = scene.create().unwrap();
        let insert = "INSERT INTO t VALUES ('new', 1)";
        loading.connection.execute(insert, ()).unwrap();
        let draft = loading.seal("it").unwrap();
        scene.real.close().unwrap();
        draft.publish(&scene.location).unwrap();
        let mode = fs::metadata(&scene.location.path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o604);
        let new = connect(&scene.location, Access::ReadOnly).unwrap();
        let id: String = new
            .query_row("SELECT id FROM t", (), |row| row.get(0))
            .unwrap();
        assert_eq!(id, "new");
        drop(new);
        assert_eq!(fs::read_dir(scene.directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn work_beside_a_flush_is_done_when_both_went_well() {
        let scene = Scene::new();
        let loading = scene.create().unwrap();
        assert_eq!(loading.flush_beside("it", || Ok(7)).unwrap(), 7);
        let refused = || Err::<(), _>(FreshError::Refused("no".to_owned()));
        let error = loading.flush_beside("it", refused).unwrap_err();
        assert!(matches!(error, FreshError::Refused(_)), "{error}");
        fs::remove_file(scene.path()).unwrap();
        let error = loading.flush_beside("it", || Ok(7)).unwrap_err();
        assert!(error.to_string().contains("finish the load"), "{error}");
    }

    #[test]
    fn given_up_it_leaves_nothing() {
        let scene = Scene::new();
        let before = scene.files();
        let loading = scene.create().unwrap();
        assert!(scene.path().exists());
        drop(loading);
        assert_eq!(scene.files(), before);
    }

    #[test]
    fn what_was_left_behind_is_replaced_or_removed() {
        let scene = Scene::new();
        fs::write(scene.path(), "no database").unwrap();
        drop(scene.create().unwrap());
        fs::write(scene.path(), "no database").unwrap();
        remove_leftover(&scene.location);
        assert!(!scene.path().exists());
    }

    #[test]
    fn a_symbolic_link_goes_on_to_lead_to_the_database() {
        let mut scene = Scene::new();
        let link = scene.directory.path().join("link.db");
        std::os::unix::fs::symlink(&scene.location.path, &link).unwrap();
        let path = scene.location.file;
        scene.location = Location::parse(link.to_str().unwrap()).unwrap();
        let draft = scene.create().unwrap().seal("it").unwrap();
        scene.real.close().unwrap();
        draft.publish(&scene.location).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn a_second_name_or_a_trigger_rules_it_out() {
        let scene = Scene::new();
        let other = scene.directory.path().join("other.db");
        fs::hard_link(&scene.location.path, &other).unwrap();
        assert!(scene.create().is_none());
        fs::remove_file(other).unwrap();
        assert!(scene.create().is_some());
        let trigger = "CREATE TRIGGER seen AFTER INSERT ON t BEGIN DELETE FROM kept; END";
        scene.real.execute(trigger, ()).unwrap();
        assert!(scene.create().is_none());
        assert!(!scene.path().exists());
    }

    #[test]
    fn a_database_that_is_open_elsewhere_is_not_replaced() {
        let scene = Scene::new();
        let other = connect(&scene.location, Access::ReadWrite).unwrap();
        let read = |connection: &Connection| {
            connection
                .query_row("SELECT count(*) FROM kept", (), |row| row.get::<_, i64>(0))
                .unwrap()
        };
        read(&other);
        let draft = scene.create().unwrap().seal("it").unwrap();
        scene.real.close().unwrap();
        let refused = draft.publish(&scene.location).unwrap_err();
        assert!(matches!(refused, Unpublished::Refused(_)), "{refused:?}");
        assert_eq!(read(&other), 1);
        assert!(!loading_path(&scene.location.path).exists());
    }
}
