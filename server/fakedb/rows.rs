//! The rows of a made-up server. Each is a function of the seed and of its number alone, so any
//! part of the server can be made without the rest, in any order and by several threads.

use std::fmt;
use std::ops::RangeInclusive;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::random::{Kind, Random, Shuffle, id};
use super::words;
use crate::model::{FileStatus, time};

/// The bcrypt hash of [`PASSWORD`], cost 14 as Plik (Go) writes it; made once, for it takes a second.
const PASSWORD_HASH: &str = "$2a$14$fakedbFAKEDBfakedbFAKOApU7PmarDR10u9OIa6nIuffaN0OBazm";
/// The password of every local user.
pub const PASSWORD: &str = "plikplik";
/// Credentials `foo` and `bar` of a protected upload, as uploads store them.
const UPLOAD_LOGIN: (&str, &str) = ("foo", "c44b06a6808bc297af0d0346c3c578d4");

const SECOND: u64 = 1_000_000;
const DAY: u64 = 24 * 3600 * SECOND;
/// Uploads are at most this old.
const OLDEST_UPLOAD: u64 = 60 * DAY;
/// Statistics per day go back this far, as cleaning leaves them.
const DAILY_STATISTICS: u64 = 30 * DAY;

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

/// A row of `users`.
pub struct User {
    pub id: String,
    pub provider: &'static str,
    pub login: String,
    pub password: &'static str,
    pub name: String,
    pub email: String,
    pub later: Option<LaterUser>,
    pub is_admin: bool,
    pub max_file_size: i64,
    pub max_ttl: i64,
    pub created_at: String,
}

/// Columns of `users` that the rows of old releases do not have.
pub struct LaterUser {
    pub profile_picture: String,
    pub theme: &'static str,
    pub language: &'static str,
    pub max_user_size: i64,
}

/// A row of `tokens`.
pub struct Token {
    pub token: String,
    pub comment: String,
    pub user_id: String,
    pub created_at: String,
}

/// A row of `uploads`, and what the statistics count of it.
pub struct Upload {
    pub id: String,
    pub ttl: i64,
    pub remote_ip: String,
    pub comments: &'static str,
    pub upload_token: String,
    pub user: String,
    pub token: String,
    pub stream: bool,
    pub one_shot: bool,
    pub removable: bool,
    pub protected_by_password: bool,
    pub login: &'static str,
    pub password: &'static str,
    pub later: Option<LaterUpload>,
    pub last_downloaded_at: Option<String>,
    pub created_at: String,
    pub deleted_at: Option<String>,
    pub expire_at: Option<String>,
    /// The day it was created and the bytes it brought, if its statistics are still kept.
    pub uploaded: Option<(String, i64)>,
    pub downloaded: Option<DailyDownloads>,
}

/// Columns of `uploads` that the rows of old releases do not have.
pub struct LaterUpload {
    pub extend_ttl: bool,
    pub e2ee: &'static str,
    pub download_count: i64,
    pub downloaded_bytes: i64,
}

/// A row of `files`, and what the statistics count of it.
pub struct File {
    pub id: String,
    pub upload_id: String,
    pub name: &'static str,
    pub status: &'static str,
    pub md5: String,
    pub mime_type: &'static str,
    pub size: u64,
    pub reference: String,
    pub later: Option<LaterFile>,
    pub last_downloaded_at: Option<String>,
    pub created_at: String,
    pub downloaded: Option<DailyDownloads>,
    /// The content is text, whatever the row says of it.
    pub is_text: bool,
    pub has_blob: bool,
}

/// Columns of `files` that the rows of old releases do not have.
pub struct LaterFile {
    pub is_text: bool,
    pub download_count: i64,
}

/// A row of `download_stats_daily`, but for the entity.
pub struct DailyDownloads {
    pub day: String,
    pub downloads: i64,
    pub bytes: i64,
    pub user: String,
    pub token: String,
}

/// What the files of an upload need to know of it.
struct UploadFacts {
    index: u64,
    /// Number of the owner, and of the token used.
    owner: Option<u64>,
    token: Option<u64>,
    ttl: i64,
    created_at: Timestamp,
    deleted_at: Option<Timestamp>,
    stream: bool,
    is_legacy: bool,
    /// Somebody came for its files; how often for all of them at once.
    archives: Option<u64>,
}

/// What an upload needs to know of its files.
struct FileFacts {
    status: FileStatus,
    size: u64,
    downloads: u64,
    last_downloaded_at: Option<Timestamp>,
}

/// What the downloads of an upload come to: of single files, and of archives of all of them.
struct Downloads {
    single: u64,
    single_bytes: u64,
    archives: u64,
    archive_bytes: u64,
    last: Option<Timestamp>,
}

impl Downloads {
    fn of(upload: &UploadFacts, files: &[FileFacts]) -> Self {
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

/// Makes the rows of a [`Recipe`].
#[derive(Debug)]
pub struct Rows {
    recipe: Recipe,
    /// Which owner the upload with the n-th id belongs to.
    uploads: Shuffle,
    /// Which upload the file with the n-th id belongs to.
    files: Shuffle,
}

impl Rows {
    pub fn new(recipe: Recipe) -> Self {
        let mut random = Random::of(recipe.seed, Kind::Seed, 0);
        Self {
            uploads: Shuffle::new(recipe.counts.uploads(), &mut random),
            files: Shuffle::new(recipe.counts.files(), &mut random),
            recipe,
        }
    }

    pub fn counts(&self) -> Counts {
        self.recipe.counts
    }

    pub fn seed(&self) -> u64 {
        self.recipe.seed
    }

    /// The moment the server is seen at.
    pub fn now(&self) -> String {
        self.text(self.recipe.now)
    }

    /// The key of the login cookies.
    pub fn signature_key(&self) -> String {
        self.random(Kind::Setting, 0).alphanumeric(64)
    }

    /// User `index`; 0 is the administrator.
    pub fn user(&self, index: u64) -> User {
        let mut random = self.random(Kind::User, index);
        let (provider, login) = identity(index, &mut random);
        let is_local = provider == "local";
        let name = format!(
            "{} {}",
            random.pick(words::FIRST_NAMES),
            random.pick(words::LAST_NAMES)
        );
        let legacy = index > 0 && random.chance(self.recipe.shares.legacy);
        let profile_picture = if is_local {
            String::new()
        } else {
            format!("https://example.org/pictures/{index}.png")
        };
        User {
            id: format!("{provider}:{login}"),
            email: if login.contains('@') {
                login.clone()
            } else {
                format!("{login}@example.org")
            },
            provider,
            login,
            password: if is_local { PASSWORD_HASH } else { "" },
            name,
            later: (!legacy).then(|| LaterUser {
                profile_picture,
                theme: random.pick(words::THEMES),
                language: random.pick(words::LANGUAGES),
                max_user_size: random.pick(LIMITS),
            }),
            is_admin: index == 0,
            max_file_size: random.pick(LIMITS),
            max_ttl: random.pick(&[0, 0, 0, -1, 86_400 * 365]),
            created_at: self.text(self.before(OLDEST_UPLOAD + random.below(365 * DAY))),
        }
    }

    /// Token `index`; those of one user follow each other.
    pub fn token(&self, index: u64) -> Token {
        let mut random = self.random(Kind::Token, index);
        Token {
            token: self.token_text(index),
            comment: random.pick(words::DEVICES).to_owned(),
            user_id: self.user_id(index / self.recipe.counts.tokens_per_user),
            created_at: self.text(self.before(OLDEST_UPLOAD + random.below(60 * DAY))),
        }
    }

    /// The upload with the `index`-th id.
    pub fn upload(&self, index: u64) -> Upload {
        let facts = self.upload_facts(self.uploads.at(index));
        let mut random = self.random(Kind::UploadOptions, facts.index);
        let files: Vec<FileFacts> = (0..self.recipe.counts.files_per_upload)
            .map(|ordinal| self.file_facts(&facts, ordinal))
            .collect();
        let protected = random.chance(10);
        let (login, password) = if protected { UPLOAD_LOGIN } else { ("", "") };
        let downloads = Downloads::of(&facts, &files);
        Upload {
            id: self.upload_id(index),
            ttl: facts.ttl,
            remote_ip: remote_ip(&mut random),
            comments: random.pick(words::COMMENTS),
            upload_token: random.alphanumeric(32),
            user: self.owner(&facts),
            token: self.owner_token(&facts),
            stream: facts.stream,
            one_shot: random.chance(10),
            removable: random.chance(30),
            protected_by_password: protected,
            login,
            password,
            later: (!facts.is_legacy).then(|| LaterUpload {
                extend_ttl: facts.ttl > 0 && random.chance(10),
                e2ee: if random.chance(5) { "age" } else { "" },
                download_count: (downloads.single + downloads.archives) as i64,
                downloaded_bytes: (downloads.single_bytes + downloads.archive_bytes) as i64,
            }),
            last_downloaded_at: downloads.last.map(|last| self.text(last)),
            created_at: self.text(facts.created_at),
            deleted_at: facts.deleted_at.map(|deleted_at| self.text(deleted_at)),
            expire_at: expiry(&facts).map(|expire_at| self.text(expire_at)),
            uploaded: self.day(facts.created_at).map(|day| {
                let received = files.iter().filter(|file| was_received(file.status));
                (day, received.map(|file| file.size as i64).sum())
            }),
            downloaded: self.daily(
                &facts,
                downloads.last,
                downloads.archives,
                downloads.archive_bytes,
            ),
        }
    }

    /// The file with the `index`-th id. Its MD5 is made up: it is that of no content.
    pub fn file(&self, index: u64) -> File {
        let place = self.files.at(index);
        let upload = place / self.recipe.counts.files_per_upload;
        let facts = self.upload_facts(self.uploads.at(upload));
        let file = self.file_facts(&facts, place % self.recipe.counts.files_per_upload);
        let mut random = self.random(Kind::FileText, index);
        let (name, mime_type, is_text) = random.pick(words::FILES);
        let received = was_received(file.status);
        let downloads = file.downloads;
        let archives = file.last_downloaded_at.and(facts.archives).unwrap_or(0);
        File {
            id: id(
                self.recipe.seed,
                Kind::FileId,
                index,
                self.recipe.counts.files(),
            ),
            upload_id: self.upload_id(upload),
            name,
            status: match file.status {
                FileStatus::Missing if facts.is_legacy => "",
                status => status.as_str(),
            },
            md5: if received {
                random.hex(32)
            } else {
                String::new()
            },
            mime_type,
            size: file.size,
            reference: random.pick(&["", "0", "1"]).to_owned(),
            later: (!facts.is_legacy).then(|| LaterFile {
                is_text: received && is_text,
                download_count: (downloads + archives) as i64,
            }),
            last_downloaded_at: file.last_downloaded_at.map(|last| self.text(last)),
            created_at: self.text(after(facts.created_at, random.below(SECOND))),
            downloaded: self.daily(
                &facts,
                file.last_downloaded_at,
                downloads,
                downloads * file.size,
            ),
            is_text,
            has_blob: file.status.has_blob(),
        }
    }

    /// Upload number `index`, which is not the place of its id.
    fn upload_facts(&self, index: u64) -> UploadFacts {
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

    fn file_facts(&self, upload: &UploadFacts, ordinal: u64) -> FileFacts {
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

    fn upload_id(&self, index: u64) -> String {
        id(
            self.recipe.seed,
            Kind::UploadId,
            index,
            self.recipe.counts.uploads(),
        )
    }

    fn user_id(&self, index: u64) -> String {
        let (provider, login) = identity(index, &mut self.random(Kind::User, index));
        format!("{provider}:{login}")
    }

    fn owner(&self, upload: &UploadFacts) -> String {
        upload
            .owner
            .map_or_else(String::new, |owner| self.user_id(owner))
    }

    fn owner_token(&self, upload: &UploadFacts) -> String {
        upload
            .token
            .map_or_else(String::new, |token| self.token_text(token))
    }

    /// Half of the tokens are of the older form: a UUID whose fourth group starts with 4 to 7.
    fn token_text(&self, index: u64) -> String {
        let mut random = self.random(Kind::Token, index.wrapping_add(1 << 63));
        if random.chance(50) {
            return format!("plik_{}", random.alphanumeric(36));
        }
        let (a, b, c) = (random.hex(8), random.hex(4), random.hex(3));
        let (variant, d, e) = (random.pick(&[4, 5, 6, 7]), random.hex(3), random.hex(12));
        format!("{a}-{b}-4{c}-{variant}{d}-{e}")
    }

    fn daily(
        &self,
        upload: &UploadFacts,
        last: Option<Timestamp>,
        downloads: u64,
        bytes: u64,
    ) -> Option<DailyDownloads> {
        let day = self.day(last.filter(|_| downloads > 0)?)?;
        Some(DailyDownloads {
            day,
            downloads: downloads as i64,
            bytes: bytes as i64,
            user: self.owner(upload),
            token: self.owner_token(upload),
        })
    }

    /// Midnight UTC of a day whose statistics are still kept.
    fn day(&self, moment: Timestamp) -> Option<String> {
        (moment >= self.before(DAILY_STATISTICS)).then(|| {
            let midnight = moment.as_second().div_euclid(86_400) * 86_400;
            let midnight = Timestamp::from_second(midnight).unwrap_or(Timestamp::UNIX_EPOCH);
            time::format(midnight, &TimeZone::UTC)
        })
    }

    fn text(&self, moment: Timestamp) -> String {
        time::format(moment, &self.recipe.zone)
    }

    fn before(&self, age: u64) -> Timestamp {
        offset(self.recipe.now, -(age as i64))
    }

    fn random(&self, kind: Kind, index: u64) -> Random {
        Random::of(self.recipe.seed, kind, index)
    }
}

/// Limits of users in bytes: the server's, none, or their own.
const LIMITS: &[i64] = &[0, 0, 0, -1, 100_000_000_000];

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

/// Provider and login of a user.
fn identity(index: u64, random: &mut Random) -> (&'static str, String) {
    if index == 0 {
        return ("local", "admin".to_owned());
    }
    let login = format!("{}{index}", random.pick(words::LOGINS));
    match random.below(10) {
        0 | 1 => ("google", format!("{login}@example.org")),
        2 => ("ovh", format!("{}-ovh", random.hex(8) + &index.to_string())),
        3 => ("oidc", format!("{}-{index}", random.hex(16))),
        4 => ("github", login),
        _ => ("local", login),
    }
}

fn remote_ip(random: &mut Random) -> String {
    // Addresses reserved for documentation.
    if random.chance(30) {
        format!("2001:db8::{:x}", random.below(65_536))
    } else {
        format!("203.0.113.{}", random.below(256))
    }
}

fn expiry(upload: &UploadFacts) -> Option<Timestamp> {
    let ttl = u64::try_from(upload.ttl).ok().filter(|ttl| *ttl > 0)?;
    Some(after(upload.created_at, ttl * SECOND))
}

/// Whether the whole content arrived once.
fn was_received(status: FileStatus) -> bool {
    matches!(
        status,
        FileStatus::Uploaded | FileStatus::Removed | FileStatus::Deleted
    )
}

fn after(moment: Timestamp, micros: u64) -> Timestamp {
    offset(moment, micros as i64)
}

fn offset(moment: Timestamp, micros: i64) -> Timestamp {
    // Saturating: what is made up is at most years away from a moment of the calendar.
    moment
        .saturating_add(SignedDuration::from_micros(micros))
        .unwrap_or(moment)
}

fn micros(moment: Timestamp) -> i64 {
    time::to_micros(moment)
}
