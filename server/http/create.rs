//! What a new upload may be: the parameters a client sends, and the rules of the configuration.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rand::Rng;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::json::{Fields, Object, read_into, read_text_into};
use super::security;
use super::size::human;
use crate::config::{Config, Feature};
use crate::model::{BackendDetails, File, FileStatus, Timestamp, Upload, id};

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

/// What a client asks for when it creates an upload.
#[derive(Debug, Default)]
pub struct UploadParams {
    pub ttl: i64,
    pub extend_ttl: bool,
    pub one_shot: bool,
    pub removable: bool,
    pub stream: bool,
    pub comments: String,
    pub login: String,
    pub password: String,
    pub e2ee: String,
    pub files: Vec<FileParams>,
}

/// What a client announces of one file.
#[derive(Debug, Default)]
pub struct FileParams {
    pub file_name: String,
    pub file_type: String,
    pub file_size: i64,
    pub reference: String,
}

impl Fields for UploadParams {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "ttl" => read_into(&mut self.ttl, map),
            "extend_ttl" => read_into(&mut self.extend_ttl, map),
            "oneshot" => read_into(&mut self.one_shot, map),
            "removable" => read_into(&mut self.removable, map),
            "stream" => read_into(&mut self.stream, map),
            "comments" => read_text_into(&mut self.comments, map),
            "login" => read_text_into(&mut self.login, map),
            "password" => read_text_into(&mut self.password, map),
            "e2ee" => read_text_into(&mut self.e2ee, map),
            "files" => {
                let mut files: Vec<Object<FileParams>> = Vec::new();
                read_into(&mut files, map)?;
                self.files = files.into_iter().map(|file| file.0).collect();
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

impl Fields for FileParams {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "filename" => read_text_into(&mut self.file_name, map),
            "filetype" => read_text_into(&mut self.file_type, map),
            "filesize" => read_into(&mut self.file_size, map),
            "reference" => read_text_into(&mut self.reference, map),
            _ => Ok(false),
        }
    }
}

/// The shape that clients older than 1.3 and ShareX send: `files` is an object, its keys are of no
/// interest.
#[derive(Debug, Default)]
pub struct OldUploadParams(pub UploadParams);

impl Fields for OldUploadParams {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "files" => {
                let mut files = FilesByKey::default();
                read_into(&mut files, map)?;
                self.0.files = files.0;
                Ok(true)
            }
            "ttl" | "oneshot" | "removable" | "stream" | "comments" | "login" | "password" => {
                self.0.read(key, map)
            }
            _ => Ok(false),
        }
    }
}

/// The values of an object, in the order in which they are written.
#[derive(Default)]
struct FilesByKey(Vec<FileParams>);

impl<'de> Deserialize<'de> for FilesByKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FilesByKey::default())
    }
}

impl<'de> Visitor<'de> for FilesByKey {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of files")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((_, file)) = map.next_entry::<String, Object<FileParams>>()? {
            self.0.push(file.0);
        }
        Ok(self)
    }
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
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::http::testing::config;

    const IP: &str = "192.0.2.1";

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn create(params: &UploadParams, config: &Config) -> Result<Draft, Refusal> {
        draft(params, config, IP, now(), &mut StdRng::seed_from_u64(1))
    }

    fn refusal(params: UploadParams, config: &Config) -> String {
        create(&params, config).unwrap_err().to_string()
    }

    fn with_ttl(ttl: i64) -> UploadParams {
        UploadParams {
            ttl,
            ..UploadParams::default()
        }
    }

    fn with_file(file_name: &str, file_size: i64) -> UploadParams {
        let file = FileParams {
            file_name: file_name.to_owned(),
            file_size,
            ..FileParams::default()
        };
        UploadParams {
            files: vec![file],
            ..UploadParams::default()
        }
    }

    #[test]
    fn defaults_give_a_plain_upload_of_the_default_time_to_live() {
        let Draft {
            upload,
            files,
            credentials,
        } = create(&UploadParams::default(), &config()).unwrap();
        assert_eq!((upload.id.len(), upload.upload_token.len()), (16, 32));
        assert_eq!(upload.ttl, 2_592_000);
        assert_eq!(upload.expire_at, upload.expiry_from(now()));
        assert_eq!(upload.created_at, Some(now()));
        assert_eq!(upload.remote_ip, IP);
        assert!(!upload.one_shot && !upload.removable && !upload.stream && !upload.extend_ttl);
        assert!(!upload.protected_by_password && upload.password.is_empty());
        assert!(files.is_empty() && credentials.is_none());
    }

    #[test]
    fn ids_follow_the_configuration() {
        let mut config = config();
        config.upload_id_length = 40;
        config.upload_id_in_b32 = true;
        let id = create(&UploadParams::default(), &config).unwrap().upload.id;
        assert_eq!(id.len(), 40);
        assert!(id.bytes().all(|byte| !byte.is_ascii_uppercase()));
    }

    #[test]
    fn options_that_are_disabled_are_refused_and_forced_ones_are_set() {
        type Switch = fn(&mut Config) -> &mut Feature;
        let cases: [(UploadParams, Switch, &str); 3] = [
            (
                UploadParams {
                    one_shot: true,
                    ..UploadParams::default()
                },
                |config| &mut config.feature_one_shot,
                "one shot uploads are disabled",
            ),
            (
                UploadParams {
                    removable: true,
                    ..UploadParams::default()
                },
                |config| &mut config.feature_removable,
                "removable uploads are disabled",
            ),
            (
                UploadParams {
                    extend_ttl: true,
                    ..UploadParams::default()
                },
                |config| &mut config.feature_extend_ttl,
                "extend TTL is disabled",
            ),
        ];
        for (params, switch, text) in cases {
            let mut config = config();
            *switch(&mut config) = Feature::Disabled;
            assert_eq!(refusal(params, &config), text);
            *switch(&mut config) = Feature::Forced;
            let upload = create(&UploadParams::default(), &config).unwrap().upload;
            let is_set = upload.one_shot || upload.removable || upload.extend_ttl;
            assert!(is_set, "{text}");
        }
    }

    #[test]
    fn streaming_is_refused() {
        let params = UploadParams {
            stream: true,
            ..UploadParams::default()
        };
        assert_eq!(refusal(params, &config()), "streaming uploads are disabled");
    }

    #[test]
    fn forced_authentication_refuses_everybody() {
        let mut config = config();
        config.feature_authentication = Feature::Forced;
        let params = UploadParams {
            stream: true,
            ..UploadParams::default()
        };
        assert_eq!(refusal(params, &config), "anonymous uploads are disabled");
    }

    #[test]
    fn times_to_live_are_held_to_the_maximum() {
        let mut config = config();
        config.max_ttl = 100;
        config.default_ttl = 50;
        let ttl = |ttl, config: &Config| create(&with_ttl(ttl), config).map(|it| it.upload.ttl);
        assert_eq!(ttl(0, &config), Ok(50));
        assert_eq!(ttl(100, &config), Ok(100));
        assert_eq!(
            refusal(with_ttl(101), &config),
            "invalid TTL. (maximum allowed is : 100)"
        );
        assert_eq!(
            refusal(with_ttl(-1), &config),
            "cannot set infinite TTL (maximum allowed is : 100)"
        );
        config.default_ttl = -1;
        assert_eq!(ttl(0, &config), Err(Refusal::InfiniteTtl { max: 100 }));
        config.max_ttl = -1;
        assert_eq!(ttl(-7, &config), Ok(-7));
        assert_eq!(ttl(i64::MAX, &config), Ok(i64::MAX));
        config.feature_set_ttl = Feature::Disabled;
        config.max_ttl = 10;
        config.default_ttl = 50;
        assert_eq!(ttl(3, &config), Ok(50));
    }

    #[test]
    fn an_endless_upload_has_no_expiry() {
        let mut config = config();
        config.max_ttl = 0;
        let upload = create(&with_ttl(-1), &config).unwrap().upload;
        assert_eq!((upload.ttl, upload.expire_at), (-1, None));
    }

    #[test]
    fn a_password_protects_with_the_default_login() {
        let params = UploadParams {
            password: "bar".into(),
            ..UploadParams::default()
        };
        let draft = create(&params, &config()).unwrap();
        assert!(draft.upload.protected_by_password);
        assert_eq!(draft.upload.login, "plik");
        let credentials = draft.credentials.unwrap();
        assert_eq!(BASE64_STANDARD.decode(&credentials).unwrap(), b"plik:bar");
        assert_eq!(
            draft.upload.password,
            security::hash_credentials(&credentials)
        );
    }

    #[test]
    fn a_login_alone_protects_nothing() {
        let mut config = config();
        config.feature_password = Feature::Disabled;
        let params = UploadParams {
            login: "foo".into(),
            ..UploadParams::default()
        };
        let upload = create(&params, &config).unwrap().upload;
        assert!(!upload.protected_by_password && upload.login.is_empty());
    }

    #[test]
    fn passwords_follow_the_feature_and_have_a_maximum_length() {
        let mut config = config();
        let password = |text: &str| UploadParams {
            password: text.to_owned(),
            ..UploadParams::default()
        };
        assert_eq!(
            refusal(password(&"é".repeat(129)), &config),
            "password is too long, maximum length is 128 characters"
        );
        assert!(create(&password(&"é".repeat(128)), &config).is_ok());
        config.feature_password = Feature::Disabled;
        assert_eq!(
            refusal(password("x"), &config),
            "upload password protection is disabled"
        );
        config.feature_password = Feature::Forced;
        assert_eq!(
            refusal(password(""), &config),
            "server only accept uploads protected by password"
        );
    }

    #[test]
    fn comments_are_dropped_when_disabled() {
        let mut config = config();
        let params = UploadParams {
            comments: "hi".into(),
            ..UploadParams::default()
        };
        assert_eq!(create(&params, &config).unwrap().upload.comments, "hi");
        config.feature_comments = Feature::Disabled;
        assert_eq!(create(&params, &config).unwrap().upload.comments, "");
    }

    #[test]
    fn files_are_checked_for_number_name_and_size() {
        let mut config = config();
        config.max_file_size = 10_000_000_000;
        let draft = create(&with_file("a.txt", 5), &config).unwrap();
        assert_eq!(draft.files[0].name, "a.txt");
        assert_eq!(draft.files[0].status, FileStatus::Missing);
        assert_eq!(draft.files[0].upload_id, draft.upload.id);
        assert_eq!(refusal(with_file("", 5), &config), "missing file name");
        assert!(create(&with_file(&"x".repeat(1024), 5), &config).is_ok());
        assert_eq!(
            refusal(
                with_file(&format!("{}é{}", "x".repeat(19), "y".repeat(1024)), 5),
                &config
            ),
            "file name xxxxxxxxxxxxxxxxxxx... is too long, maximum length is 1024 characters"
        );
        assert_eq!(
            refusal(with_file("a", 20_000_000_000), &config),
            "file is too big (20 GB), maximum file size is 10 GB"
        );
        config.max_file_per_upload = 0;
        assert_eq!(
            refusal(with_file("a", 1), &config),
            "too many files. maximum is 0"
        );
        assert!(create(&UploadParams::default(), &config).is_ok());
    }

    #[test]
    fn a_name_that_no_url_can_end_in_is_refused() {
        for name in [".", ".."] {
            assert_eq!(check_name(name), Err(Refusal::InvalidFileName));
        }
        for name in ["...", ".a", "a.", " ."] {
            assert_eq!(check_name(name), Ok(()));
        }
    }

    #[test]
    fn both_shapes_of_the_body_are_read() {
        let new = r#"{ "OneShot" : true, "Ttl" : 60, "files":[{"fileName":"a","reference":"0"}] }"#;
        let params: Object<UploadParams> = serde_json::from_str(new).unwrap();
        assert!(params.0.one_shot);
        assert_eq!(params.0.ttl, 60);
        assert_eq!(params.0.files[0].reference, "0");

        let old = r#"{"ttl":1800,"comments":null,"login":null,"password":null,"extend_ttl":"?",
            "files":{"0":{"fileName":"x.png","fileType":"image/png","fileSize":12},"b":null}}"#;
        assert!(serde_json::from_str::<Object<UploadParams>>(old).is_err());
        let params: Object<OldUploadParams> = serde_json::from_str(old).unwrap();
        let params = params.0.0;
        assert_eq!((params.ttl, params.files.len()), (1800, 2));
        assert_eq!(params.files[0].file_type, "image/png");
        assert_eq!(params.files[0].file_size, 12);
    }
}
