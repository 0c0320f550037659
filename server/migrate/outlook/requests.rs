//! What an S3 server will be asked for.

use serde::Serialize;

use crate::config::DataConfig;
use crate::data;
use crate::migrate::report::Preview;

/// Objects that one listing names.
const LISTED: u64 = 1000;

/// Requests to S3 servers, if nothing is to be tried again. All are 0 where there is no bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Listings of the target, at least: of the blobs that are there already.
    pub listings: u64,
    /// Blobs that go in one piece.
    pub puts: u64,
    /// Blobs that go in parts: each takes one request to begin and one to complete.
    pub uploads: u64,
    /// Their parts.
    pub parts: u64,
    /// Reads of the source, at least: one per blob or part.
    pub gets: u64,
}

impl Requests {
    /// Of all kinds.
    pub fn total(&self) -> u64 {
        self.listings + self.puts + 2 * self.uploads + self.parts + self.gets
    }
}

/// Counts the requests while the blobs are looked at.
pub(super) struct Sizes<'a> {
    from: &'a DataConfig,
    to: &'a DataConfig,
    requests: Requests,
}

impl<'a> Sizes<'a> {
    pub fn new(from: &'a DataConfig, to: &'a DataConfig) -> Self {
        Self {
            from,
            to,
            requests: Requests::default(),
        }
    }

    /// A blob of that many bytes is to be copied.
    pub fn add(&mut self, size_bytes: u64) {
        let parts = data::parts_of(self.to, size_bytes);
        match parts {
            None => {}
            Some(1) => self.requests.puts += 1,
            Some(parts) => {
                self.requests.uploads += 1;
                self.requests.parts += parts;
            }
        }
        if matches!(self.from, DataConfig::S3(_)) {
            self.requests.gets += parts.unwrap_or(1);
        }
    }

    pub fn requests(self, preview: &Preview, to_is_absent: bool) -> Requests {
        let listings = match (self.to, &preview.blobs) {
            (DataConfig::S3(_), Some(blobs)) if !to_is_absent => {
                blobs.present.div_ceil(LISTED).max(1)
            }
            _ => 0,
        };
        Requests {
            listings,
            ..self.requests
        }
    }
}
