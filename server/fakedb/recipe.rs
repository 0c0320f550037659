//! What a made-up server is made from: how much of everything, how much of it special, and a seed.

use std::fmt;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Besides the administrator, who has tokens and no uploads.
    pub users: u64,
    pub tokens_per_user: u64,
    pub uploads_per_user: u64,
    pub files_per_upload: u64,
    pub anonymous_uploads: u64,
}

impl Counts {
    pub fn all_users(&self) -> u64 {
        self.users + 1
    }

    pub fn tokens(&self) -> u64 {
        self.all_users() * self.tokens_per_user
    }

    pub fn uploads(&self) -> u64 {
        self.users * self.uploads_per_user + self.anonymous_uploads
    }

    pub fn files(&self) -> u64 {
        self.uploads() * self.files_per_upload
    }

    /// Whether every number of rows above can be counted in 64 bits.
    pub(super) fn fit(&self) -> bool {
        let uploads = self.users.checked_mul(self.uploads_per_user);
        let uploads = uploads.and_then(|uploads| uploads.checked_add(self.anonymous_uploads));
        let files = uploads.and_then(|uploads| uploads.checked_mul(self.files_per_upload));
        let users = self.users.checked_add(1);
        let tokens = users.and_then(|users| users.checked_mul(self.tokens_per_user));
        // Ids of eight letters and more tell apart this many.
        files.is_some_and(|files| files < 1 << 40) && tokens.is_some()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} users, {} tokens, {} uploads, {} files",
            self.all_users(),
            self.tokens(),
            self.uploads(),
            self.files()
        )
    }
}

/// How many of 100 rows are special, on average.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Of files: removed, bytes still there.
    pub removed: u8,
    /// Of files: announced, never received.
    pub missing: u8,
    /// Of files: transfer cut.
    pub uploading: u8,
    /// Of files: deleted, bytes gone.
    pub deleted: u8,
    /// Of uploads: removed, not yet purged; their files are removed or deleted.
    pub soft_deleted: u8,
    /// Of uploads: streamed; their files are deleted.
    pub streamed: u8,
    /// Of users, uploads and files: with NULL in later columns, as an old release left them.
    pub legacy: u8,
}

impl Shares {
    /// Every special file of 100.
    pub(super) fn files(&self) -> u32 {
        [self.removed, self.missing, self.uploading, self.deleted]
            .map(u32::from)
            .iter()
            .sum()
    }
}

/// Everything that decides what the server looks like.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub seed: u64,
    pub counts: Counts,
    pub shares: Shares,
    /// Bytes of a file.
    pub file_size: RangeInclusive<u64>,
    /// The moment the server is seen at: nothing happened later.
    pub now: Timestamp,
    /// Whose offset the times are written with.
    pub zone: TimeZone,
}
