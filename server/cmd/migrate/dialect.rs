//! `plikd migrate --dialect`: the rows to the other database, which follows from the configuration
//! and `PLIKD_POSTGRES_URL`. The engine is that of `--to`; only the ends are found another way, and
//! checked more strictly, because the server is to be started on the target at once.

mod lines;
mod room;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::say;
use crate::cmd::exit::{Exit, Failure};
use crate::config::{Driver, Loaded, MetadataConfig, Secret};
use crate::metadata::{
    self, Hold, Lock, MetadataError, MovedMarker, OpenMode, Snapshot, replace_file,
};
use crate::migrate::{Replacement, Report};
use crate::model::Timestamp;

pub use lines::DialectLines;

/// Between two looks at a lock that somebody holds.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// Where the rows go if the configuration names PostgreSQL too.
pub const DEFAULT_FILE: &str = "plik.db";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    Sqlite,
}

impl Dialect {
    /// # Errors
    ///
    /// Names those that there are.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "postgres" => Ok(Self::Postgres),
            "sqlite" => Ok(Self::Sqlite),
            other => Err(usage(format!(
                "Invalid dialect: {other}, allowed dialects: postgres, sqlite"
            ))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }
}

/// How strictly, and what to do with a target that is not empty.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub dry_run: bool,
    /// Replace what the target holds.
    pub overwrite: bool,
    /// Do not ask first.
    pub yes: bool,
    /// How long to wait for a server that has one of the databases.
    pub lock_timeout: Duration,
}

/// A move between the two databases of one server, both found fit.
pub struct Move {
    dialect: Dialect,
    pub from: MetadataConfig,
    /// For SQLite a file beside the one that is meant, until the move is complete.
    pub to: MetadataConfig,
    /// What a server will use afterwards.
    target: MetadataConfig,
    /// What the target holds is dropped, once the source was found fit.
    replacement: Option<Replacement>,
    /// No server starts on the source meanwhile: what it wrote would be left behind.
    source_lock: Option<Lock>,
}

impl Move {
    /// Finds both ends and asks for what `terms` do not allow. Nothing is written.
    pub async fn prepare(dialect: Dialect, terms: Terms, loaded: &Loaded) -> Result<Self, Failure> {
        let (from, target) = ends(dialect, loaded)?;
        let source_lock = locked(&from, terms.lock_timeout).await?;
        let source = Source::look(&from).await?;
        drop(locked(&target, terms.lock_timeout).await?);
        say("info: Getting uploads...");
        let to = match dialect {
            Dialect::Postgres => target.clone(),
            Dialect::Sqlite => MetadataConfig {
                connection_string: Secret::new(unfinished(&target)?.display().to_string()),
                ..target.clone()
            },
        };
        say(&source.line(&from));
        let replaces = room::is_to_be_cleared(&target, &from, terms).await?;
        Ok(Self {
            dialect,
            from,
            to,
            target,
            replacement: replaces.then(Replacement::default),
            source_lock,
        })
    }

    /// For the engine.
    pub fn replacement(&self) -> Option<&Replacement> {
        self.replacement.as_ref()
    }

    /// Why the move failed, and that what the target held is gone, if it is.
    pub fn failed(&self, failure: Failure) -> Failure {
        if self
            .replacement()
            .is_none_or(|replacement| replacement.dropped().is_none())
        {
            return failure;
        }
        let place = metadata::name_of(&self.target);
        let hint = failure.hint.clone();
        let hint = hint.unwrap_or_else(|| "run the same command again".to_owned());
        failure
            .context(format!(
                "the tables of {place} were dropped, and what replaces them is not complete"
            ))
            .with_hint(hint)
    }

    /// Makes the target the database of this server, and says how to start on it.
    pub async fn conclude(&self, report: &Report) -> Result<(), Failure> {
        self.refuse_unwatched()?;
        for table in &report.tables {
            if table.proof.is_some() {
                let rows = table.rows.copied + table.rows.present;
                say(&format!("info: verify {} {rows} rows ok", table.table));
            }
        }
        let now = Timestamp::now();
        match self.dialect {
            Dialect::Postgres => {
                if let Some(marker) = MovedMarker::of(&self.from) {
                    marker.write(now, &metadata::name_of(&self.target))?;
                }
            }
            Dialect::Sqlite => {
                let path = path_of(&self.target)?;
                let mut kept = path.clone().into_os_string();
                kept.push(format!(".bak-{}", now.strftime("%Y%m%dT%H%M%SZ")));
                let _lock = Lock::take(&self.target, OpenMode::Load).await?;
                let is_kept = path.exists();
                replace_file(&unfinished(&self.target)?, &path, Path::new(&kept))?;
                if is_kept {
                    say(&format!(
                        "info: the old file was kept as {}",
                        Path::new(&kept).display()
                    ));
                }
                if let Some(marker) = MovedMarker::of(&self.target) {
                    marker.remove()?;
                }
            }
        }
        self.say_what_is_next(report.left_behind());
        Ok(())
    }

    /// What a server has written to the source, while nothing kept it away, would be left behind.
    fn refuse_unwatched(&self) -> Result<(), Failure> {
        let hold = self.source_lock.as_ref().and_then(Lock::hold);
        if hold.is_none_or(Hold::is_held) {
            return Ok(());
        }
        let place = metadata::name_of(&self.from);
        let error = anyhow!(
            "the connection that kept servers away from {place} has ended meanwhile, so that one may \
             have written to it"
        );
        Err(Failure::new(Exit::Unreachable, error).with_hint(
            "stop whatever server runs on it, then run the same command again".to_owned(),
        ))
    }

    /// Only where an earlier move was cut off, and the source was served since: its rows have
    /// other values now than those that arrived.
    pub fn stale(&self) -> Failure {
        let place = metadata::name_of(&self.to);
        let error = anyhow!("{place} has rows of an earlier move that differ from the source");
        let remedy = match self.dialect {
            Dialect::Postgres => "add --overwrite".to_owned(),
            Dialect::Sqlite => format!("remove {}", place.trim_start_matches("sqlite ")),
        };
        Failure::new(Exit::Incomplete, error)
            .with_hint(format!("{remedy}, then run the same command again"))
    }

    fn say_what_is_next(&self, left_behind: u64) {
        let name = self.dialect.name();
        say(&match left_behind {
            0 => format!("success: Migration {name} completed"),
            errors => format!("warning: Migration {name} completed with {errors} errors"),
        });
        say(&match self.dialect {
            Dialect::Postgres => {
                "info: Please start server, will use Postgres database: plikd".to_owned()
            }
            Dialect::Sqlite => {
                let place = metadata::announcement(&self.target);
                let place = place.trim_start_matches("SQLite: ");
                format!(
                    "info: Please unset PLIKD_POSTGRES_URL and start server, will use SQLite \
                     database {place}: plikd"
                )
            }
        });
    }
}

/// The database to read, and the one that a server is to use afterwards.
fn ends(dialect: Dialect, loaded: &Loaded) -> Result<(MetadataConfig, MetadataConfig), Failure> {
    let current = &loaded.config.metadata;
    match (dialect, &loaded.aside) {
        (Dialect::Postgres, None) => Err(match current.driver {
            Driver::Postgres => usage("the configured database is already PostgreSQL"),
            Driver::Sqlite => no_variable(),
        }),
        (Dialect::Postgres, Some(aside)) => match &aside.configured {
            Some(file) if file.driver == Driver::Sqlite => Ok((file.clone(), current.clone())),
            Some(_) => Err(usage("the configured database is already PostgreSQL")),
            None => Err(usage(
                "[MetadataBackendConfig] names no database that could be moved",
            )),
        },
        (Dialect::Sqlite, aside) => {
            if aside.is_none() && current.driver == Driver::Sqlite {
                return Err(no_variable());
            }
            let configured = aside.as_ref().and_then(|aside| aside.configured.as_ref());
            let file = configured
                .filter(|config| config.driver == Driver::Sqlite)
                .map_or(DEFAULT_FILE, |config| config.connection_string.expose());
            let target = MetadataConfig {
                driver: Driver::Sqlite,
                connection_string: Secret::new(file),
                ..current.clone()
            };
            Ok((current.clone(), target))
        }
    }
}

fn no_variable() -> Failure {
    usage("PLIKD_POSTGRES_URL is not set").with_hint(
        "export PLIKD_POSTGRES_URL=\"postgres://user:password@host:5432/plik\"".to_owned(),
    )
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, anyhow!(message.into()))
}

/// The file that becomes the database when the move is complete.
fn unfinished(target: &MetadataConfig) -> Result<PathBuf, Failure> {
    let mut path = path_of(target)?.into_os_string();
    path.push(".migrating");
    Ok(path.into())
}

fn path_of(config: &MetadataConfig) -> Result<PathBuf, Failure> {
    metadata::sqlite_path(config).ok_or_else(|| usage("the database is no file"))
}

/// Waits until no server has the database, and keeps them away as far as that is possible.
async fn locked(config: &MetadataConfig, patience: Duration) -> Result<Option<Lock>, Failure> {
    let deadline = Instant::now() + patience;
    loop {
        match Lock::keep_away(config).await {
            Err(MetadataError::InUse { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(MetadataError::InUse { backend, .. }) => {
                let error = match patience.is_zero() {
                    true => anyhow!("plikd is running on {backend}"),
                    false => anyhow!("plikd is still running on {backend} after {patience:?}"),
                };
                return Err(Failure::new(Exit::InUse, error).with_hint("stop it first".to_owned()));
            }
            // The target may still be to be created.
            Err(MetadataError::NotInitialised { .. }) => return Ok(None),
            other => return Ok(other?),
        }
    }
}

/// What the source holds, for a person to recognise.
struct Source {
    version: String,
    counts: [u64; 3],
}

/// The tables that people know about.
const COUNTED: [&str; 3] = ["users", "uploads", "files"];

impl Source {
    async fn look(config: &MetadataConfig) -> Result<Self, Failure> {
        let never_started = |error: MetadataError| match error {
            MetadataError::NotInitialised { .. } => {
                let name = match metadata::sqlite_name(config) {
                    Some(path) if !path.exists() => format!("no database at {}", path.display()),
                    Some(_) => "Failed to get uploads: no such table: uploads".to_owned(),
                    None => "Failed to get uploads: relation \"uploads\" does not exist".to_owned(),
                };
                let hint = "start plikd once so that its database is created, stop it, then run \
                            this command again";
                Failure::new(Exit::NotInitialised, anyhow!(name))
                    .with_hint(hint.to_owned())
                    .about(Some(&metadata::name_of(config)))
            }
            other => other.into(),
        };
        let snapshot = Snapshot::open(config).await.map_err(never_started)?;
        let mut versions = snapshot.versions().await.map_err(never_started)?;
        // What is no number only says that the tables were made all at once.
        versions.retain(|id| id.starts_with(|first: char| first.is_ascii_digit()));
        versions.sort();
        snapshot.refuse_half_migrated().await?;
        let mut counts = [0; 3];
        for (count, table) in counts.iter_mut().zip(COUNTED) {
            *count = snapshot.count(table).await?;
        }
        Ok(Self {
            version: versions.pop().unwrap_or_default(),
            counts,
        })
    }

    fn line(&self, config: &MetadataConfig) -> String {
        let place = metadata::announcement(config).replacen(": ", " ", 1);
        let [users, uploads, files] = self.counts;
        let version = &self.version;
        format!(
            "info: Source: {place} ({version}, {users} users, {uploads} uploads, {files} files)"
        )
    }
}
