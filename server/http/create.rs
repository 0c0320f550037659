//! What a new upload may be: the parameters a client sends, and the rules of the configuration.

mod params;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rand::Rng;

use super::security;
use super::size::human;
use crate::config::{Config, Feature};
use crate::model::{BackendDetails, File, FileStatus, Timestamp, Upload, id};

pub use params::{FileParams, OldUploadParams, UploadParams};

/// Longest name of a file, in bytes.
const MAX_NAME_BYTES: usize = 1024;
/// Longest login or password, in characters.
const MAX_CREDENTIAL_CHARS: usize = 128;
/// The login of a password that came without one.
const DEFAULT_LOGIN: &str = "plik";

/// Why an upload or a file may not be created.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("anonymous uploads are disabled")]
    Anonymous,
    #[error("one shot uploads are disabled")]
    OneShot,
    #[error("removable uploads are disabled")]
    Removable,
    #[error("streaming uploads are disabled")]
    Stream,
    #[error("extend TTL is disabled")]
    ExtendTtl,
    #[error("cannot set infinite TTL (maximum allowed is : {max})")]
    InfiniteTtl { max: i64 },
    #[error("invalid TTL. (maximum allowed is : {max})")]
    LongTtl { max: i64 },
    #[error("upload password protection is disabled")]
    Password,
    #[error("server only accept uploads protected by password")]
    PasswordRequired,
    #[error("{what} is too long, maximum length is {MAX_CREDENTIAL_CHARS} characters")]
    LongCredential { what: &'static str },
    #[error("end-to-end encryption is disabled")]
    E2ee,
    #[error("too many files. maximum is {max}")]
    TooManyFiles { max: i64 },
    #[error("missing file name")]
    MissingFileName,
    #[error("invalid file name")]
    InvalidFileName,
    #[error("file name {start}... is too long, maximum length is {MAX_NAME_BYTES} characters")]
    LongFileName { start: String },
    #[error("file is too big ({}), maximum file size is {}", human(*.size_bytes), human(*.max))]
    FileTooBig { size_bytes: i64, max: i64 },
}

/// An upload that passed every rule, not stored yet.
#[derive(Debug)]
pub struct Draft {
    pub upload: Upload,
    pub files: Vec<File>,
    /// What opens a protected upload: the value of `Authorization` after `Basic `.
    pub credentials: Option<String>,
}

/// Applies the rules to what a client asks for, in the order in which clients know the errors.
pub fn draft(
    params: &UploadParams,
    config: &Config,
    remote_ip: &str,
    now: Timestamp,
    rng: &mut impl Rng,
) -> Result<Draft, Refusal> {
    if config.feature_authentication == Feature::Forced {
        return Err(Refusal::Anonymous);
    }
    let one_shot = flag(params.one_shot, config.feature_one_shot, Refusal::OneShot)?;
    let removable = flag(
        params.removable,
        config.feature_removable,
        Refusal::Removable,
    )?;
    if params.stream {
        return Err(Refusal::Stream);
    }
    let extend_ttl = flag(
        params.extend_ttl,
        config.feature_extend_ttl,
        Refusal::ExtendTtl,
    )?;
    let ttl = ttl(params.ttl, config)?;
    let login = protection(params, config)?;
    let credentials = login.map(|login| {
        let plain = format!("{login}:{}", params.password);
        BASE64_STANDARD.encode(plain)
    });
    if !params.e2ee.is_empty() && !config.feature_e2ee.is_available() {
        return Err(Refusal::E2ee);
    }
    check_count(params.files.len(), config)?;
    for file in &params.files {
        check_file(file, config)?;
    }

    let mut upload = Upload {
        id: upload_id(config, rng),
        ttl,
        extend_ttl,
        remote_ip: remote_ip.to_owned(),
        e2ee: params.e2ee.clone(),
        upload_token: id::alphanumeric(id::UPLOAD_TOKEN_LENGTH, rng),
        one_shot,
        removable,
        protected_by_password: credentials.is_some(),
        login: login.unwrap_or_default().to_owned(),
        password: credentials
            .as_deref()
            .map(security::hash_credentials)
            .unwrap_or_default(),
        created_at: Some(now),
        ..Upload::default()
    };
    if config.feature_comments.is_available() {
        upload.comments.clone_from(&params.comments);
    }
    upload.expire_at = upload.expiry_from(now);
    let files = params
        .files
        .iter()
        .map(|file| new_file(&upload.id, file, now, rng))
        .collect();
    Ok(Draft {
        upload,
        files,
        credentials,
    })
}

/// A file that was announced and of which nothing was received.
pub fn new_file(upload_id: &str, params: &FileParams, now: Timestamp, rng: &mut impl Rng) -> File {
    File {
        id: id::alphanumeric(id::ID_LENGTH, rng),
        upload_id: upload_id.to_owned(),
        name: params.file_name.clone(),
        status: FileStatus::Missing,
        md5: String::new(),
        mime_type: params.file_type.clone(),
        size: params.file_size.max(0),
        is_text: false,
        reference: params.reference.clone(),
        backend_details: BackendDetails::default(),
        created_at: Some(now),
    }
}

/// Whether a file may have this name.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::MissingFileName);
    }
    // As the last segment of a URL these are directories, which clients take out.
    if matches!(name, "." | "..") {
        return Err(Refusal::InvalidFileName);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Refusal::LongFileName {
            start: name[..name.floor_char_boundary(20)].to_owned(),
        });
    }
    Ok(())
}

fn check_count(count: usize, config: &Config) -> Result<(), Refusal> {
    let max = config.max_file_per_upload;
    if count > 0 && i64::try_from(count).unwrap_or(i64::MAX) > max {
        return Err(Refusal::TooManyFiles { max });
    }
    Ok(())
}

fn check_file(file: &FileParams, config: &Config) -> Result<(), Refusal> {
    check_name(&file.file_name)?;
    let max = config.max_file_size;
    if max > 0 && file.file_size > max {
        return Err(Refusal::FileTooBig {
            size_bytes: file.file_size,
            max,
        });
    }
    Ok(())
}

/// Whether an option is on: what was asked for, unless the configuration decides.
fn flag(requested: bool, feature: Feature, refusal: Refusal) -> Result<bool, Refusal> {
    match feature {
        Feature::Disabled if requested => Err(refusal),
        Feature::Forced => Ok(true),
        _ => Ok(requested),
    }
}

/// The time to live in seconds; 0 and less never end.
fn ttl(requested: i64, config: &Config) -> Result<i64, Refusal> {
    if !config.feature_set_ttl.is_available() {
        return Ok(config.default_ttl);
    }
    let ttl = if requested == 0 {
        config.default_ttl
    } else {
        requested
    };
    let max = config.max_ttl;
    if max > 0 && ttl <= 0 {
        return Err(Refusal::InfiniteTtl { max });
    }
    if max > 0 && ttl > max {
        return Err(Refusal::LongTtl { max });
    }
    Ok(ttl)
}

/// The login of a protected upload; `None` if it is not protected. A login without a password
/// protects nothing.
fn protection<'a>(params: &'a UploadParams, config: &Config) -> Result<Option<&'a str>, Refusal> {
    if params.password.is_empty() {
        return match config.feature_password {
            Feature::Forced => Err(Refusal::PasswordRequired),
            _ => Ok(None),
        };
    }
    if !config.feature_password.is_available() {
        return Err(Refusal::Password);
    }
    for (what, text) in [("login", &params.login), ("password", &params.password)] {
        if text.chars().count() > MAX_CREDENTIAL_CHARS {
            return Err(Refusal::LongCredential { what });
        }
    }
    if params.login.is_empty() {
        return Ok(Some(DEFAULT_LOGIN));
    }
    Ok(Some(&params.login))
}

fn upload_id(config: &Config, rng: &mut impl Rng) -> String {
    if config.upload_id_in_b32 {
        id::crockford(config.upload_id_length, rng)
    } else {
        id::alphanumeric(config.upload_id_length, rng)
    }
}

#[cfg(test)]
mod tests;
