//! The rows of a made-up server. Each is a function of the seed and of its number alone, so any
//! part of the server can be made without the rest, in any order and by several threads.

mod facts;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::entities::{
    DailyDownloads, File, LaterFile, LaterUpload, LaterUser, Token, Upload, User,
};
use super::random::{Kind, Random, Shuffle, id};
use super::recipe::{Counts, Recipe};
use super::words;
use crate::model::{FileStatus, time};
use facts::{Downloads, FileFacts, UploadFacts, after, expiry, offset, was_received};

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
