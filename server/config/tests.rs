//! Loading as a whole: which file, what it says, what the environment says over it, and the target
//! of a migration.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::key::{Section, Slot};
use super::*;

/// Loads a configuration from the text of a file and some variables.
pub(super) fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "plikd.cfg", text);
    load(Some(&path), &environment(variables))
}

/// The message of a configuration that must not load.
pub(super) fn refusal(text: &str) -> String {
    load_text(text, &[]).unwrap_err().to_string()
}

fn refused_variable(variable: &str, value: &str) -> String {
    load_text("", &[(variable, value)]).unwrap_err().to_string()
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().copied())
}

fn write(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

mod search {
    use super::*;

    #[test]
    fn the_first_place_that_has_a_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let flag = write(&dir, "flag.cfg", "ListenPort = 1");
        let variable = write(&dir, "variable.cfg", "ListenPort = 2");
        let here = write(&dir, "here.cfg", "ListenPort = 3");
        let etc = write(&dir, "etc.cfg", "ListenPort = 4");
        let absent = dir.path().join("absent.cfg");
        let places = |places: [&Path; 2]| Environment::default().with_places(places);
        let named =
            |value: &Path| Environment::new([("PLIKD_CONFIG", value)]).with_places([&here, &etc]);
        let port = |explicit: Option<&Path>, env: &Environment| {
            let loaded = load(explicit, env).unwrap();
            (loaded.config.listen_port, loaded.path)
        };

        assert_eq!(
            port(Some(&flag), &named(&variable)),
            (1, Some(flag.clone()))
        );
        assert_eq!(port(None, &named(&variable)), (2, Some(variable)));
        assert_eq!(port(None, &named(Path::new(""))), (3, Some(here.clone())));
        assert_eq!(port(None, &places([&here, &etc])), (3, Some(here)));
        assert_eq!(port(None, &places([&absent, &etc])), (4, Some(etc.clone())));
        assert_eq!(port(None, &places([dir.path(), &etc])), (4, Some(etc)));
        assert_eq!(port(None, &places([&absent, &absent])), (8080, None));
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent.cfg");
        let error = load(Some(&absent), &Environment::default()).unwrap_err();
        let expected = format!(
            "Unable to read config file {} : No such file",
            absent.display()
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(error.hint().is_some());

        let env = Environment::new([("PLIKD_CONFIG", dir.path())]);
        let error = load(None, &env).unwrap_err();
        let expected = format!("Unable to read config file {}", dir.path().display());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn without_file_and_environment_everything_is_built_in() {
        let loaded = load(None, &Environment::default()).unwrap();
        assert_eq!(loaded.config, Config::default());
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert_eq!(loaded.config.listen_port, 8080);
        assert_eq!(loaded.config.max_file_size, 10_000_000_000);
        assert_eq!(loaded.config.default_ttl, 30 * 86_400);
        assert_eq!(loaded.config.session_timeout, 365 * 86_400);
        assert_eq!(loaded.config.metadata.driver, Driver::Sqlite);
        assert_eq!(loaded.config.metadata.connection_string.expose(), "plik.db");
    }
}

mod file {
    use super::*;

    #[test]
    fn upper_and_lower_case_make_no_difference_at_the_top() {
        let loaded = load_text("maxfileperupload = 7\nLISTENPORT = 81", &[]).unwrap();
        assert_eq!(loaded.config.max_file_per_upload, 7);
        assert_eq!(loaded.config.listen_port, 81);
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }

    #[test]
    fn a_wrong_type_names_the_line_and_the_key() {
        let wrong = |text: &str| {
            let message = refusal(text);
            let (_, rest) = message.split_once("plikd.cfg : ").unwrap();
            rest.to_owned()
        };
        assert_eq!(
            wrong("\n# a comment\nDebug = 1\n"),
            "toml: line 3 (last key \"Debug\"): incompatible types: \
             found an integer, expected a boolean"
        );
        assert_eq!(
            wrong("listenPort = \"80\""),
            "toml: line 1 (last key \"listenPort\"): incompatible types: \
             found a string, expected an integer"
        );
        assert_eq!(
            wrong("ListenPort = 80.0"),
            "toml: line 1 (last key \"ListenPort\"): incompatible types: \
             found a float, expected an integer"
        );
        assert_eq!(
            wrong("UploadWhitelist = [\"::1\", 1]"),
            "toml: line 1 (last key \"UploadWhitelist\"): incompatible types: \
             found an integer, expected a list of strings"
        );
        assert_eq!(
            wrong("DataBackendConfig = \"files\""),
            "toml: line 1 (last key \"DataBackendConfig\"): incompatible types: \
             found a string, expected a table"
        );
        let message = refusal("Debug = 1");
        assert!(
            message.starts_with("unable to load config file "),
            "{message}"
        );
    }

    #[test]
    fn bad_syntax_names_the_line_and_quotes_nothing() {
        let error = load_text("Debug = true\nOvhApiSecret = \"hunter2\" x\n", &[]).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("plikd.cfg : toml: line 2: "), "{message}");
        assert!(
            !format!("{message} {error:?}").contains("hunter2"),
            "{error:?}"
        );

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latin1.cfg");
        std::fs::write(&path, b"Debug = true\nAbuseContact = \"caf\xe9\"").unwrap();
        let error = load(Some(&path), &Environment::default()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.ends_with("toml: line 2: the text is not UTF-8"),
            "{message}"
        );
    }

    #[test]
    fn the_same_key_twice_is_refused() {
        let message = refusal("Debug = true\nListenPort = 1\ndebug = false\n");
        assert!(
            message.ends_with("toml: line 3 (last key \"debug\"): set already on line 1"),
            "{message}"
        );
    }

    #[test]
    fn what_was_misspelt_is_known_also_when_something_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let text = "DataBackend = \"s3\"\n[DataBackendConfg]\nEndpoint = \"h\"";
        let path = write(&dir, "plikd.cfg", text);
        let mut warnings = Vec::new();
        let error = load_warning(Some(&path), &Environment::default(), &mut warnings).unwrap_err();
        assert!(error.to_string().ends_with("missing endpoint"), "{error}");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].ends_with("is ignored: did you mean DataBackendConfig?"));
    }

    #[test]
    fn unknown_keys_are_warned_of_and_nothing_more() {
        let text = "Colour = 1\nfeature_stream = \"disabled\"\nMetadataBackend = \"postgres\"\n\
                    [Theme]\nDark = true\n[DataBackendConfig]\nRegion = \"x\"\n\
                    MaxTTLStr = \"1d\"\n";
        let loaded = load_text(text, &[]).unwrap();
        assert_eq!(loaded.config, Config::default());
        let path = loaded.path.clone().unwrap();
        let warnings: Vec<_> = loaded
            .warnings
            .iter()
            .map(|warning| warning.replace(&path.display().to_string(), "plikd.cfg"))
            .collect();
        assert_eq!(
            warnings,
            [
                "unknown key Colour in plikd.cfg line 1 is ignored",
                "unknown key feature_stream in plikd.cfg line 2 is ignored: \
                 did you mean FeatureStream?",
                "unknown key MetadataBackend in plikd.cfg line 3 is ignored: \
                 did you mean Driver under [MetadataBackendConfig]?",
                "unknown table [Theme] in plikd.cfg line 4 is ignored",
                "unknown key MaxTTLStr in [DataBackendConfig] is ignored: \
                 it belongs at the top, above the first [table]",
                "unknown key Region in [DataBackendConfig] is ignored",
            ]
        );
    }
}

mod variables {
    use super::*;

    /// Every variable of the manual of Plik (Go) and ours, written out, so that a change of the rule
    /// or of a key shows.
    const NAMES: &str = "DEBUG DEBUG_REQUESTS LOG_LEVEL LISTEN_ADDRESS LISTEN_PORT METRICS_ADDRESS \
        METRICS_PORT PATH SSL_ENABLED SSL_CERT SSL_KEY TLS_VERSION NO_WEB_INTERFACE \
        WEBAPP_DIRECTORY CLIENTS_DIRECTORY CHANGELOG_DIRECTORY SOURCE_IP_HEADER UPLOAD_WHITELIST \
        ABUSE_CONTACT SESSION_TIMEOUT ENHANCED_WEB_SECURITY ASSUME_HTTPS \
        ENABLE_ARCHIVE_COMPRESSION STREAM_TIMEOUT_STR PLIK_DOMAIN DOWNLOAD_DOMAIN \
        DOWNLOAD_DOMAIN_ALIAS MAX_FILE_SIZE_STR MAX_FILE_SIZE MAX_USER_SIZE_STR MAX_USER_SIZE \
        MAX_FILE_PER_UPLOAD DEFAULT_TTL_STR DEFAULT_TTL MAX_TTL_STR MAX_TTL UPLOAD_ID_LENGTH \
        UPLOAD_I_DIN_B_32 UPLOAD_ID_IN_B32 FEATURE_AUTHENTICATION FEATURE_LOCAL_LOGIN \
        FEATURE_DELETE_ACCOUNT FEATURE_ONE_SHOT FEATURE_REMOVABLE FEATURE_STREAM \
        FEATURE_PASSWORD FEATURE_COMMENTS FEATURE_SET_TTL FEATURE_EXTEND_TTL FEATURE_CLIENTS \
        FEATURE_API_TOKENS FEATURE_GITHUB FEATURE_TEXT FEATURE_E_2_EE FEATURE_E2EE \
        GOOGLE_API_CLIENT_ID GOOGLE_API_SECRET GOOGLE_VALID_DOMAINS OVH_API_KEY OVH_API_SECRET \
        OVH_API_ENDPOINT OIDC_CLIENT_ID OIDC_CLIENT_SECRET OIDC_PROVIDER_URL OIDC_PROVIDER_NAME \
        OIDC_VALID_DOMAINS OIDC_REQUIRE_VERIFIED_EMAIL GIT_HUB_API_CLIENT_ID GITHUB_API_CLIENT_ID \
        GIT_HUB_API_SECRET GITHUB_API_SECRET GIT_HUB_VALID_ORGANIZATIONS \
        GITHUB_VALID_ORGANIZATIONS DEFAULT_ADMIN_LOGIN DEFAULT_ADMIN_PASSWORD PLUGINS_DIRECTORY \
        PRESET_PLUGINS_DIRECTORY UPGRADE_AUTO UPGRADE_SCRIPT_MEMORY_STR \
        UPGRADE_SCRIPT_TIMEOUT_STR AUTHENTICATION NO_ANONYMOUS_UPLOADS ONE_SHOT REMOVABLE STREAM \
        PROTECTED_BY_PASSWORD DATA_BACKEND DATA_BACKEND_CONFIG METADATA_BACKEND_CONFIG";

    #[test]
    fn every_key_has_its_variables_under_the_names_of_plik() {
        let names: Vec<_> = Settings::KEYS
            .iter()
            .flat_map(|key| env::names("", key))
            .collect();
        assert_eq!(names, NAMES.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn every_variable_sets_its_key_and_no_other() {
        let shown = |settings: &Settings| -> Vec<String> {
            let mut copy = settings.clone();
            let show = |key: &key::Key<Settings>| match key.slot {
                Slot::Table(at) => format!("{:?}", at(&mut copy)),
                _ => key.slot.show(&mut copy),
            };
            Settings::KEYS.iter().map(show).collect()
        };
        let built_in = shown(&Settings::default());
        for (at, key) in Settings::KEYS.iter().enumerate() {
            let value = match key.slot {
                Slot::Text(_) | Slot::Secret(_) => "something",
                // One of the two is not the built-in value.
                Slot::Flag(_) if built_in[at] == "true" => "FALSE",
                Slot::Flag(_) => "True",
                Slot::Number(_) => "-77",
                Slot::List(_) => "[\"one\", \"two\"]",
                Slot::Table(_) => "{\"Key\": 5}",
            };
            for prefix in [env::OWN, env::TARGET] {
                for name in env::names(prefix, key) {
                    let mut settings = Settings::default();
                    environment(&[(&name, value)])
                        .apply(prefix, &mut settings)
                        .unwrap();
                    let differing: Vec<_> = shown(&settings)
                        .into_iter()
                        .zip(&built_in)
                        .enumerate()
                        .filter(|(_, (now, before))| now != *before)
                        .map(|(at, _)| at)
                        .collect();
                    assert_eq!(differing, [at], "{name}");
                }
            }
        }
    }

    #[test]
    fn they_win_over_the_file_and_lists_are_replaced() {
        let text = "ListenPort = 1\nUploadWhitelist = [\"10.0.0.1\"]";
        let variables = [
            ("PLIKD_LISTEN_PORT", "+2"),
            ("PLIKD_UPLOAD_WHITELIST", "[\"192.0.2.0/24\"]"),
        ];
        let config = load_text(text, &variables).unwrap().config;
        assert_eq!(config.listen_port, 2);
        assert_eq!(config.upload_whitelist, ["192.0.2.0/24".parse().unwrap()]);
    }

    #[test]
    fn of_two_spellings_the_odd_one_wins() {
        let both = [
            ("PLIKD_UPLOAD_ID_IN_B32", "false"),
            ("PLIKD_UPLOAD_I_DIN_B_32", "true"),
            ("PLIKD_GITHUB_API_CLIENT_ID", "natural"),
            ("PLIKD_GIT_HUB_API_CLIENT_ID", "odd"),
        ];
        let config = load_text("", &both).unwrap().config;
        assert!(config.upload_id_in_b32);
        assert_eq!(config.github_api_client_id, "odd");
    }

    #[test]
    fn tables_are_merged_key_by_key() {
        let text = "[MetadataBackendConfig]\nDriver = \"postgres\"\nConnectionString = \"old\"\n\
                    MaxOpenConns = 5";
        let json = "{\"ConnectionString\": \"new\", \"MaxIdleConns\": 3.0}";
        let variables = [("PLIKD_METADATA_BACKEND_CONFIG", json)];
        let metadata = load_text(text, &variables).unwrap().config.metadata;
        assert_eq!(metadata.driver, Driver::Postgres);
        assert_eq!(metadata.connection_string.expose(), "new");
        assert_eq!((metadata.max_open_conns, metadata.max_idle_conns), (5, 3));
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        for (variable, value, message) in [
            (
                "PLIKD_DEBUG",
                "",
                "unable to assign Debug : invalid boolean value",
            ),
            (
                "PLIKD_DEBUG",
                "yes",
                "unable to assign Debug : invalid boolean value",
            ),
            (
                "PLIKD_DEBUG",
                "1",
                "unable to assign Debug : invalid boolean value",
            ),
            (
                "PLIKD_LISTEN_PORT",
                "8o",
                "unable to assign ListenPort : invalid int value",
            ),
            (
                "PLIKD_LISTEN_PORT",
                "",
                "unable to assign ListenPort : invalid int value",
            ),
            (
                "PLIKD_UPLOAD_WHITELIST",
                "10.0.0.1",
                "unable to assign UploadWhitelist : invalid slice value : ",
            ),
            (
                "PLIKD_UPLOAD_WHITELIST",
                "[1]",
                "unable to assign UploadWhitelist : invalid slice value : \
                 found an integer, expected a list of strings",
            ),
            (
                "PLIKD_DATA_BACKEND_CONFIG",
                "[]",
                "unable to assign DataBackendConfig : invalid map value : \
                 found a list, expected a table",
            ),
        ] {
            let found = refused_variable(variable, value);
            assert!(found.starts_with(message), "{variable}={value}: {found}");
        }
        let error = load_text("", &[("PLIKD_UPLOAD_ID_IN_B32", "?")]).unwrap_err();
        let hint = error.hint();
        assert_eq!(
            hint.as_deref(),
            Some("correct or unset PLIKD_UPLOAD_ID_IN_B32")
        );
    }

    #[test]
    fn an_empty_variable_counts_as_set() {
        assert_eq!(
            refused_variable("PLIKD_DATA_BACKEND", ""),
            "unable to initialize data backend : Invalid data backend "
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_text_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let env = Environment::new([("PLIKD_PATH", std::ffi::OsStr::from_bytes(b"/\xff"))]);
        let error = load(None, &env).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unable to assign Path : the value is not UTF-8"
        );
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_not_repeated() {
        for value in [
            "\"postgres://u:hunter2@h/d\"",
            "{\"hunter2\": ",
            "{\"Driver\": {\"hunter2\": 1}}",
        ] {
            let error = load_text("", &[("PLIKD_METADATA_BACKEND_CONFIG", value)]).unwrap_err();
            let shown = format!("{error} {error:?} {:?}", error.hint());
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn what_is_loaded_shows_no_secret() {
        let text = "OvhApiSecret = \"hunter2\"\nDefaultAdminPassword = \"hunter2\"\n\
            DataBackend = \"s3\"\n\
            [DataBackendConfig]\nEndpoint = \"e\"\nAccessKeyID = \"i\"\nSecretAccessKey = \"hunter2\"\n\
            [MetadataBackendConfig]\nConnectionString = \"hunter2\"";
        let loaded = load_text(text, &[]).unwrap();
        assert_eq!(loaded.config.metadata.connection_string.expose(), "hunter2");
        assert!(!format!("{loaded:?}").contains("hunter2"));
    }
}

mod target {
    use super::*;

    const SOURCE: &str = "ListenPort = 81\nMaxFilePerUpload = 5\nDataBackend = \"s3\"\n\
        [DataBackendConfig]\nEndpoint = \"s3.example.com\"\nAccessKeyID = \"id\"\n\
        SecretAccessKey = \"key\"\nPrefix = \"source\"\n\
        [MetadataBackendConfig]\nConnectionString = \"source.db\"\nMaxOpenConns = 9\n";

    /// Loads the source, then the target over it.
    fn target(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let env = environment(variables);
        let source = load(Some(&write(&dir, "source.cfg", SOURCE)), &env).unwrap();
        load_target(&source, &write(&dir, "target.cfg", text), &env)
    }

    fn s3(config: &Config) -> &S3Config {
        match &config.data {
            DataConfig::S3(s3) => s3,
            DataConfig::File(file) => panic!("{file:?}"),
        }
    }

    #[test]
    fn a_section_replaces_the_whole_section_and_others_are_inherited() {
        let text = "maxfileperupload = 6\n[MetadataBackendConfig]\nDriver = \"postgres\"\n\
                    ConnectionString = \"postgres://target\"\n";
        let loaded = target(text, &[]).unwrap();
        let metadata = &loaded.config.metadata;
        assert_eq!(metadata.driver, Driver::Postgres);
        assert_eq!(metadata.connection_string.expose(), "postgres://target");
        assert_eq!(
            metadata.max_open_conns, 0,
            "the source's 9 is not inherited"
        );
        assert_eq!(s3(&loaded.config).prefix, "source");
        assert_eq!(loaded.config.listen_port, 81);
        assert_eq!(loaded.config.max_file_per_upload, 6);
        let moved = Sections {
            metadata: true,
            data: false,
        };
        assert_eq!(loaded.sets, moved);
    }

    #[test]
    fn either_key_of_the_data_backend_is_the_section() {
        let loaded = target("DataBackend = \"file\"", &[]).unwrap();
        let files = FileConfig {
            directory: "files".to_owned(),
        };
        assert_eq!(loaded.config.data, DataConfig::File(files));
        assert_eq!(
            loaded.config.metadata.connection_string.expose(),
            "source.db"
        );
        assert_eq!(loaded.warnings, Vec::<String>::new());

        // The source's kind of backend is part of the section, and so not inherited.
        let loaded = target("[DataBackendConfig]\nDirectory = \"blobs\"", &[]).unwrap();
        let blobs = FileConfig {
            directory: "blobs".to_owned(),
        };
        assert_eq!(loaded.config.data, DataConfig::File(blobs));
    }

    #[test]
    fn variables_of_the_server_stay_with_the_source() {
        let variables = [
            (
                "PLIKD_METADATA_BACKEND_CONFIG",
                "{\"ConnectionString\": \"variable.db\"}",
            ),
            ("PLIKD_DATA_BACKEND_CONFIG", "{\"Prefix\": \"variable\"}"),
            ("PLIKD_LISTEN_PORT", "82"),
        ];
        let text = "[MetadataBackendConfig]\nConnectionString = \"target.db\"";
        let config = target(text, &variables).unwrap().config;
        assert_eq!(config.metadata.connection_string.expose(), "target.db");
        assert_eq!(config.metadata.max_open_conns, 0);
        assert_eq!(
            s3(&config).prefix,
            "variable",
            "inherited as the source sees it"
        );
        assert_eq!(config.listen_port, 82);
    }

    #[test]
    fn the_postgres_variable_decides_for_the_source_and_never_for_a_target() {
        let variables = [("PLIKD_POSTGRES_URL", "postgres://u:p@h/plik")];
        let text = "[MetadataBackendConfig]\nDriver = \"sqlite3\"\nMaxOpenConns = 7\n\
                    ConnectionString = \"old.db\"\nEraseFirst = false";
        let loaded = load_text(text, &variables).unwrap();
        assert_eq!(loaded.config.metadata.driver, Driver::Postgres);
        assert_eq!(loaded.config.metadata.max_open_conns, 7);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let aside = loaded.aside.unwrap().configured.unwrap();
        assert_eq!(aside.driver, Driver::Sqlite);
        assert_eq!(aside.connection_string.expose(), "old.db");

        let unusable = "[MetadataBackendConfig]\nDriver = \"mysql\"";
        let aside = load_text(unusable, &variables).unwrap().aside;
        assert!(aside.unwrap().configured.is_none());
        assert!(load_text(text, &[]).unwrap().aside.is_none());

        let text = "[MetadataBackendConfig]\nConnectionString = \"new.db\"";
        let target = target(text, &variables).unwrap();
        assert_eq!(target.config.metadata.driver, Driver::Sqlite);
        assert_eq!(target.config.metadata.connection_string.expose(), "new.db");
        assert!(target.aside.is_none());
    }

    #[test]
    fn variables_of_the_target_lie_over_its_file() {
        let variables = [
            (
                "PLIKD_TARGET_METADATA_BACKEND_CONFIG",
                "{\"ConnectionString\": \"variable\"}",
            ),
            ("PLIKD_TARGET_LISTEN_PORT", "83"),
            ("PLIKD_TARGET_FEATURE_E2EE", "disabled"),
        ];
        let text = "ListenPort = 84\n[MetadataBackendConfig]\nDriver = \"postgres\"\n\
                    ConnectionString = \"file\"";
        let config = target(text, &variables).unwrap().config;
        assert_eq!(config.metadata.driver, Driver::Postgres);
        assert_eq!(config.metadata.connection_string.expose(), "variable");
        assert_eq!(config.listen_port, 83);
        assert_eq!(config.feature_e2ee, Feature::Disabled);

        // A variable alone is the section too.
        let loaded = target("", &variables).unwrap();
        assert_eq!(loaded.config.metadata.driver, Driver::Sqlite);
        assert_eq!(
            loaded.config.metadata.max_open_conns, 0,
            "the source's 9 is not inherited"
        );
        assert_eq!(
            loaded.config.metadata.connection_string.expose(),
            "variable"
        );
        assert_eq!(
            loaded.sets,
            Sections {
                metadata: true,
                data: false
            }
        );
    }

    #[test]
    fn a_target_that_moves_nothing_says_what_is_missing() {
        let text = "MetadataBackend = \"postgres\"\nListenPort = 1\n";
        let error = target(text, &[]).unwrap_err();
        assert!(matches!(error, ConfigError::NoTarget { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("sets neither [MetadataBackendConfig] nor DataBackend"));
        let hint = error.hint().unwrap();
        assert!(
            hint.contains("PLIKD_TARGET_METADATA_BACKEND_CONFIG"),
            "{hint}"
        );
        assert!(
            hint.contains("did you mean Driver under [MetadataBackendConfig]?"),
            "{hint}"
        );
    }

    #[test]
    fn only_what_the_target_adds_is_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let env = Environment::default();
        let source = write(&dir, "source.cfg", "EnhancedWebSecurity = true\nColour = 1");
        let source = load(Some(&source), &env).unwrap();
        assert_eq!(source.warnings.len(), 2);
        let text = "[DataBackendConfig]\nDirectory = \"x\"\n";
        let text = format!("LogLevel = \"debug\"\n{text}");
        let target = load_target(&source, &write(&dir, "target.cfg", &text), &env).unwrap();
        assert_eq!(target.warnings.len(), 1, "{:?}", target.warnings);
        assert!(target.warnings[0].contains("LogLevel"));
    }

    #[test]
    fn what_means_nothing_in_a_target_is_refused_and_not_left_out() {
        const S3: &str = "DataBackend = \"s3\"\n[DataBackendConfig]\nEndpoint = \"h\"\n\
                          AccessKeyID = \"k\"\nSecretAccessKey = \"s\"\nBucket = \"b\"\n";
        let said = |text: &str, variables: &[(&str, &str)]| {
            let error = target(text, variables).unwrap_err();
            assert!(
                matches!(error, ConfigError::UnknownInTarget { .. }),
                "{error:?}"
            );
            error.to_string()
        };
        assert!(target(S3, &[]).is_ok());
        for (line, meant) in [
            ("UseSSLL = true", "UseSSL"),
            ("Prefx = \"teamb\"", "Prefix"),
            ("Bukket = \"b\"", "Bucket"),
        ] {
            let text = said(&format!("{S3}{line}\n"), &[]);
            let key = line.split(' ').next().unwrap();
            let expected =
                format!("unknown key {key} in [DataBackendConfig]: did you mean {meant}?");
            assert!(text.ends_with(&expected), "{text}");
        }
        // Also where the source has the same fault, which it is only warned of.
        let both = "[MetadataBackendConfig]\nConectionString = \"x.db\"";
        assert!(said(both, &[]).contains("did you mean ConnectionString?"));
        let table = "[DataBackendConfg]\nEndpoint = \"h\"\n[MetadataBackendConfig]\n";
        assert!(said(table, &[]).contains("unknown table [DataBackendConfg] in "));
        let variable = [("PLIKD_TARGET_DATA_BACKENDS", "s3")];
        assert!(said(S3, &variable).contains("did you mean PLIKD_TARGET_DATA_BACKEND?"));
    }

    #[test]
    fn a_backend_that_is_incomplete_is_refused() {
        let error = target("DataBackend = \"s3\"", &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unable to initialize data backend : invalid s3 data backend config : missing endpoint",
            "nothing of the source's access slips in"
        );
    }
}
