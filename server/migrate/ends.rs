//! What the two ends of a migration are, told without secrets.

use serde::{Deserialize, Serialize};

use super::{Endpoint, Halves};
use crate::config::{Driver, MetadataConfig};
use crate::data::Location;
use crate::metadata::{self, MetadataError, Snapshot};

/// Both ends, as far as they could be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    pub from: End,
    pub to: End,
}

/// One end: only what the run has to do with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub metadata: Option<DatabaseEnd>,
    pub data: Option<DataEnd>,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseEnd {
    /// `sqlite` or `postgres`.
    pub driver: String,
    /// As messages name it.
    pub place: String,
    /// The same for one database under whatever name; `None` if it does not exist yet.
    pub identity: Option<String>,
    /// Of the database engine.
    pub engine_version: Option<String>,
    /// In order; empty for a database without tables.
    pub schema_versions: Vec<String>,
}

/// A directory or bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataEnd {
    /// `file` or `s3`.
    pub driver: String,
    /// As messages name it.
    pub place: String,
    /// Device and inode of a directory; `None` for a directory that does not exist yet, and for a
    /// bucket, which its place tells from all others.
    pub identity: Option<String>,
}

impl Ends {
    /// What the configurations alone tell.
    pub(super) fn named(from: Endpoint<'_>, to: Endpoint<'_>, halves: Halves) -> Self {
        Self {
            from: End::named(from, halves),
            to: End::named(to, halves),
        }
    }
}

impl End {
    fn named(end: Endpoint<'_>, halves: Halves) -> Self {
        Self {
            metadata: halves
                .has_metadata()
                .then(|| DatabaseEnd::named(end.metadata)),
            data: halves
                .has_data()
                .then(|| Location::of(end.data).ok().map(DataEnd::at))
                .flatten(),
        }
    }

    /// Adds what the opened database tells. A database without tables has no schema versions.
    pub(super) async fn look(&mut self, database: &Snapshot) -> Result<(), MetadataError> {
        if let Some(end) = &mut self.metadata {
            end.identity = Some(database.identity().to_string());
            end.engine_version = Some(database.engine_version().await?);
            end.schema_versions = match database.versions().await {
                Ok(versions) => versions,
                Err(MetadataError::NotInitialised { .. }) => Vec::new(),
                Err(error) => return Err(error),
            };
            end.schema_versions.sort();
        }
        Ok(())
    }
}

impl DatabaseEnd {
    fn named(config: &MetadataConfig) -> Self {
        let driver = match config.driver {
            Driver::Sqlite => "sqlite",
            Driver::Postgres => "postgres",
        };
        Self {
            driver: driver.to_owned(),
            place: metadata::name_of(config),
            identity: None,
            engine_version: None,
            schema_versions: Vec::new(),
        }
    }
}

impl DataEnd {
    fn at(location: Location) -> Self {
        let (driver, identity) = match &location {
            Location::Directory { inode, .. } => ("file", *inode),
            Location::Bucket { .. } => ("s3", None),
        };
        Self {
            driver: driver.to_owned(),
            place: location.to_string(),
            identity: identity.map(|(device, inode)| format!("{device}:{inode}")),
        }
    }
}
