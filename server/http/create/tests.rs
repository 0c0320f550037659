use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::http::json::Object;
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
