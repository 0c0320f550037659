//! Which database a command is about to work on, and what speaks against it: it was moved, or
//! another one was meant.

use std::path::PathBuf;

use anyhow::anyhow;
use tracing::info;

use super::exit::{Exit, Failure};
use crate::config::{Aside, Driver, Environment, Loaded, MetadataConfig};
use crate::metadata::{self, MetadataError, MovedMarker, Snapshot};

/// What an administrator insists on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Insistence {
    /// Start with an empty PostgreSQL although the SQLite file has uploads.
    pub fresh: bool,
    /// Start on a SQLite file that was moved to PostgreSQL.
    pub use_old_database: bool,
}

/// Refuses to start where that would leave the administrator's uploads behind unnoticed.
pub async fn check(loaded: &Loaded, insistence: Insistence) -> Result<(), Failure> {
    let database = &loaded.config.metadata;
    match &loaded.aside {
        Some(aside) if !insistence.fresh => refuse_empty(database, aside).await?,
        Some(_) => {}
        None if insistence.use_old_database => forget_move(database)?,
        None => refuse_moved(database)?,
    }
    info!("Using {}", metadata::announcement(database));
    Ok(())
}

/// PostgreSQL was chosen by the variable, but nothing has been moved to it yet.
async fn refuse_empty(database: &MetadataConfig, aside: &Aside) -> Result<(), Failure> {
    let Some(file) = aside
        .configured
        .as_ref()
        .filter(|config| config.driver == Driver::Sqlite)
    else {
        return Ok(());
    };
    // Once there is something in PostgreSQL, the file may be anything.
    if !Contents::of(database).await?.is_empty() {
        return Ok(());
    }
    let left = Contents::of(file).await?;
    if left.is_empty() {
        return Ok(());
    }
    let path = MovedMarker::of(file).map(|marker| marker.database().display().to_string());
    let error = anyhow!(
        "PLIKD_POSTGRES_URL is set, but that database is empty while {} holds {} uploads",
        path.unwrap_or_default(),
        left.uploads
    );
    Err(Failure::new(Exit::Failed, error)
        .with_hint("plikd migrate --dialect postgres (or start empty: plikd --fresh)".to_owned()))
}

/// Refuses to work on a database that was moved: its server lives on elsewhere, with the same
/// blobs.
pub fn refuse_moved(database: &MetadataConfig) -> Result<(), Failure> {
    match moved(database)? {
        None => Ok(()),
        Some(moved) => Err(Failure::new(Exit::Failed, anyhow!(moved)).with_hint(
            "set PLIKD_POSTGRES_URL (or go on with the old data: plikd --use-old-database)"
                .to_owned(),
        )),
    }
}

/// That the database was moved and when, in words, if it was.
pub fn moved(database: &MetadataConfig) -> Result<Option<String>, Failure> {
    let Some(marker) = MovedMarker::of(database) else {
        return Ok(None);
    };
    let path = marker.database().display();
    let time = marker.read()?;
    Ok(time.map(|time| format!("{path} was migrated to PostgreSQL at {time}")))
}

/// How the database of a command was found, as far as it changes what can be done about a failure.
pub struct Found {
    /// As messages name it.
    database: String,
    /// By `PLIKD_POSTGRES_URL`.
    by_variable: bool,
    /// Where a configuration file was looked for in vain.
    without_file: Option<Vec<PathBuf>>,
}

impl Found {
    pub fn of(loaded: &Loaded, env: &Environment) -> Self {
        Self {
            database: metadata::name_of(&loaded.config.metadata),
            by_variable: loaded.aside.is_some(),
            without_file: loaded.path.is_none().then(|| env.places().to_vec()),
        }
    }

    /// The failure with the remedy for the way in which its database was found.
    pub fn correct(&self, failure: Failure) -> Failure {
        let Some(hint) = &failure.hint else {
            return failure;
        };
        if failure.database.as_ref() != Some(&self.database) {
            return failure;
        }
        // Nobody reads the setting that is the remedy elsewhere.
        if self.by_variable {
            let hint = hint.replace("ConnectionString", "PLIKD_POSTGRES_URL");
            return failure.with_hint(hint);
        }
        match &self.without_file {
            // Most likely another database was meant.
            Some(places) if failure.exit == Exit::NotInitialised => {
                let places = places.iter().map(|place| place.display().to_string());
                let places = places.collect::<Vec<_>>().join(" nor ");
                let hint = format!(
                    "there is no configuration file, neither {places}: name it with --config; or \
                     {hint}"
                );
                failure.with_hint(hint)
            }
            _ => failure,
        }
    }
}

fn forget_move(database: &MetadataConfig) -> Result<(), Failure> {
    MovedMarker::of(database).map_or(Ok(()), |marker| Ok(marker.remove()?))
}

/// How much a database holds that people would miss.
struct Contents {
    users: u64,
    uploads: u64,
}

impl Contents {
    async fn of(config: &MetadataConfig) -> Result<Self, MetadataError> {
        let nothing = Self {
            users: 0,
            uploads: 0,
        };
        let snapshot = match Snapshot::open(config).await {
            Ok(snapshot) => snapshot,
            Err(MetadataError::NotInitialised { .. }) => return Ok(nothing),
            Err(error) => return Err(error),
        };
        if let Err(MetadataError::NotInitialised { .. }) = snapshot.versions().await {
            return Ok(nothing);
        }
        let tables = snapshot.layouts().await?;
        let mut counts = [0; 2];
        for (count, table) in counts.iter_mut().zip(["users", "uploads"]) {
            if tables.iter().any(|layout| layout.name == table) {
                *count = snapshot.count(table).await?;
            }
        }
        let [users, uploads] = counts;
        Ok(Self { users, uploads })
    }

    fn is_empty(&self) -> bool {
        self.users == 0 && self.uploads == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(by_variable: bool, without_file: bool) -> Found {
        Found {
            database: "sqlite plik.db".to_owned(),
            by_variable,
            without_file: without_file.then(|| vec![PathBuf::from("plikd.cfg")]),
        }
    }

    fn hint(found: &Found, backend: &str) -> String {
        let error = MetadataError::NotInitialised {
            backend: backend.to_owned(),
        };
        found.correct(error.into()).hint.unwrap()
    }

    #[test]
    fn a_remedy_is_that_of_the_way_in_which_the_database_was_found() {
        let said =
            |by_variable, without_file| hint(&found(by_variable, without_file), "sqlite plik.db");
        assert!(said(false, false).starts_with("check that ConnectionString is right"));
        assert!(said(true, false).starts_with("check that PLIKD_POSTGRES_URL is right"));
        assert!(said(false, true).starts_with("there is no configuration file, neither plikd.cfg"));
    }

    /// Its message names this server's database too, as part of its own name.
    #[test]
    fn the_remedy_for_another_database_stays_as_it_is() {
        for found in [found(true, false), found(false, true)] {
            let said = hint(&found, "sqlite plik.db.old");
            assert!(
                said.starts_with("check that ConnectionString is right"),
                "{said}"
            );
        }
    }
}
