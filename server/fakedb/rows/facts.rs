//! What an upload and its files need to know of each other, before either is a row.

use jiff::{SignedDuration, Timestamp};

use super::{OLDEST_UPLOAD, Rows, SECOND};
use crate::fakedb::random::{Kind, Random};
use crate::fakedb::recipe::Recipe;
use crate::model::{FileStatus, time};

/// What the files of an upload need to know of it.
pub(super) struct UploadFacts {
    pub(super) index: u64,
    /// Number of the owner, and of the token used.
    pub(super) owner: Option<u64>,
    pub(super) token: Option<u64>,
    pub(super) ttl: i64,
    pub(super) created_at: Timestamp,
    pub(super) deleted_at: Option<Timestamp>,
    pub(super) stream: bool,
    pub(super) is_legacy: bool,
    /// Somebody came for its files; how often for all of them at once.
    pub(super) archives: Option<u64>,
}

/// What an upload needs to know of its files.
pub(super) struct FileFacts {
    pub(super) status: FileStatus,
    pub(super) size: u64,
    pub(super) downloads: u64,
    pub(super) last_downloaded_at: Option<Timestamp>,
}

/// What the downloads of an upload come to: of single files, and of archives of all of them.
pub(super) struct Downloads {
    pub(super) single: u64,
    pub(super) single_bytes: u64,
    pub(super) archives: u64,
    pub(super) archive_bytes: u64,
    pub(super) last: Option<Timestamp>,
}

impl Downloads {
    pub(super) fn of(upload: &UploadFacts, files: &[FileFacts]) -> Self {
        let wanted = || files.iter().filter(|file| file.downloads > 0);
        let last = wanted().filter_map(|file| file.last_downloaded_at).max();
        let archives = last.and(upload.archives).unwrap_or(0);
        Self {
            single: wanted().map(|file| file.downloads).sum(),
            single_bytes: wanted().map(|file| file.downloads * file.size).sum(),
            archives,
            archive_bytes: archives * wanted().map(|file| file.size).sum::<u64>(),
            last,
        }
    }
}

impl Rows {
    /// Upload number `index`, which is not the place of its id.
    pub(super) fn upload_facts(&self, index: u64) -> UploadFacts {
        let Recipe { counts, shares, .. } = &self.recipe;
        let mut random = self.random(Kind::Upload, index);
        let owner = index
            .checked_sub(counts.anonymous_uploads)
            .map(|index| 1 + index / counts.uploads_per_user);
        let first = random.below(counts.tokens_per_user);
        let token = owner
            .filter(|_| counts.tokens_per_user > 0 && random.chance(60))
            .map(|owner| owner * counts.tokens_per_user + first);
        let ttl = random.pick(TTLS);
        // What has expired by now is not there any more.
        let oldest = match u64::try_from(ttl) {
            Ok(ttl) if ttl > 0 => OLDEST_UPLOAD.min(ttl * SECOND),
            _ => OLDEST_UPLOAD,
        };
        let age = random.below(oldest);
        let is_legacy = random.chance(shares.legacy);
        let deleted_at = random
            .chance(shares.soft_deleted)
            .then(|| self.before(random.below(age.max(1))));
        UploadFacts {
            index,
            owner,
            token,
            ttl,
            created_at: self.before(age),
            deleted_at,
            stream: random.chance(shares.streamed),
            is_legacy,
            // Old releases did not count downloads.
            archives: (!is_legacy && random.chance(10)).then(|| random.below(3)),
        }
    }

    pub(super) fn file_facts(&self, upload: &UploadFacts, ordinal: u64) -> FileFacts {
        let place = upload.index * self.recipe.counts.files_per_upload + ordinal;
        let mut random = self.random(Kind::File, place);
        let status = self.status(upload, &mut random);
        let wanted = upload.archives.is_some() && was_received(status) && !upload.stream;
        let end = upload.deleted_at.unwrap_or(self.recipe.now);
        let span = micros(end).saturating_sub(micros(upload.created_at));
        FileFacts {
            status,
            size: self.size(&mut random),
            downloads: if wanted { 1 + random.below(20) } else { 0 },
            last_downloaded_at: wanted
                .then(|| after(upload.created_at, random.below(span.unsigned_abs()))),
        }
    }

    fn status(&self, upload: &UploadFacts, random: &mut Random) -> FileStatus {
        let shares = &self.recipe.shares;
        if upload.stream {
            return FileStatus::Deleted;
        }
        if upload.deleted_at.is_some() {
            return random.pick(&[FileStatus::Removed, FileStatus::Deleted]);
        }
        let mut draw = random.below(100);
        for (status, share) in [
            (FileStatus::Removed, shares.removed),
            (FileStatus::Missing, shares.missing),
            (FileStatus::Uploading, shares.uploading),
            (FileStatus::Deleted, shares.deleted),
        ] {
            match draw.checked_sub(u64::from(share)) {
                None => return status,
                Some(rest) => draw = rest,
            }
        }
        FileStatus::Uploaded
    }

    /// The ends of the range come more often than by chance: they are where code breaks.
    fn size(&self, random: &mut Random) -> u64 {
        let (least, most) = self.recipe.file_size.clone().into_inner();
        match random.below(50) {
            0 => least,
            1 => most,
            _ => least + random.below(most - least + 1),
        }
    }
}

/// Times to live in seconds.
const TTLS: &[i64] = &[
    0,
    -1,
    1800,
    12 * 3600,
    86_400,
    3 * 86_400,
    7 * 86_400,
    30 * 86_400,
    30 * 86_400,
    30 * 86_400,
    90 * 86_400,
];

pub(super) fn expiry(upload: &UploadFacts) -> Option<Timestamp> {
    let ttl = u64::try_from(upload.ttl).ok().filter(|ttl| *ttl > 0)?;
    Some(after(upload.created_at, ttl * SECOND))
}

/// Whether the whole content arrived once.
pub(super) fn was_received(status: FileStatus) -> bool {
    matches!(
        status,
        FileStatus::Uploaded | FileStatus::Removed | FileStatus::Deleted
    )
}

pub(super) fn after(moment: Timestamp, micros: u64) -> Timestamp {
    offset(moment, micros as i64)
}

pub(super) fn offset(moment: Timestamp, micros: i64) -> Timestamp {
    // Saturating: what is made up is at most years away from a moment of the calendar.
    moment
        .saturating_add(SignedDuration::from_micros(micros))
        .unwrap_or(moment)
}

fn micros(moment: Timestamp) -> i64 {
    time::to_micros(moment)
}
