//! Where a blob lies that something is wrong with.

use std::fmt;

use super::blob::BlobRow;
use super::error::Side;
use crate::data::{DataBackend, DataError};

/// Where the blob of a file is to be found, on each side where something may be wrong with it: a
/// path, or bucket and key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobPlaces {
    pub from: Option<String>,
    pub to: Option<String>,
}

impl BlobPlaces {
    /// Of a blob that is only on that side at fault, as `place` tells it.
    pub(super) fn on(side: Side, place: Option<String>) -> Self {
        match side {
            Side::Source => Self {
                from: place,
                to: None,
            },
            Side::Target => Self {
                from: None,
                to: place,
            },
        }
    }

    /// Of a blob whose copy failed like that: what cannot be read is on the side of the source, and
    /// anything else may be on either.
    pub(super) async fn of_failure(
        error: &DataError,
        row: &BlobRow,
        from: &dyn DataBackend,
        to: &dyn DataBackend,
    ) -> Self {
        let blob = row.blob();
        match error {
            DataError::NotFound { .. } => Self::on(Side::Source, from.place(&blob)),
            DataError::Body { .. } | DataError::WrongSize { .. } => {
                let found = from.found_at(&blob).await;
                Self::on(Side::Source, found.or_else(|| from.place(&blob)))
            }
            _ => Self {
                from: from.place(&blob),
                to: to.place(&blob),
            },
        }
    }
}

/// Behind the name of a blob: ` (PLACE)`, with the sides if there are two, or nothing.
impl fmt::Display for BlobPlaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (None, None) => Ok(()),
            (Some(place), None) | (None, Some(place)) => write!(f, " ({place})"),
            (Some(from), Some(to)) => write!(f, " (source {from}; target {to})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_places_are_told_with_their_sides() {
        let place = || Some("/a/b".to_owned());
        assert_eq!(BlobPlaces::default().to_string(), "");
        assert_eq!(BlobPlaces::on(Side::Target, place()).to_string(), " (/a/b)");
        let both = BlobPlaces {
            from: place(),
            to: Some("s3://h/b/k".to_owned()),
        };
        assert_eq!(both.to_string(), " (source /a/b; target s3://h/b/k)");
    }
}
