//! The tables of the two backends, checked.

use std::time::Duration;

use super::error::{BackendProblem, ConfigError};
use super::key::{Section, read_table};
use super::keys::{FileSettings, MetadataSettings, S3Settings};
use super::value::Table;
use super::{
    BucketLookup, DataConfig, Driver, FileConfig, MetadataConfig, S3Config, Sse, duration, suggest,
};

const METADATA_TABLE: &str = "MetadataBackendConfig";
const DATA_TABLE: &str = "DataBackendConfig";

/// Slower statements are worth a warning, if the administrator does not say otherwise.
const SLOW_QUERY: Duration = Duration::from_secs(1);

/// What S3 allows for a part: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const PART_SIZES: std::ops::RangeInclusive<u64> = 5 << 20..=5 << 30;

pub(super) fn metadata(
    table: &Table,
    warnings: &mut Vec<String>,
) -> Result<MetadataConfig, ConfigError> {
    section(METADATA_TABLE, table, warnings)
        .and_then(metadata_config)
        .map_err(ConfigError::MetadataBackend)
}

pub(super) fn data(
    backend: &str,
    table: &Table,
    warnings: &mut Vec<String>,
) -> Result<DataConfig, ConfigError> {
    let config = match backend {
        "file" => section(DATA_TABLE, table, warnings)
            .and_then(file_config)
            .map(DataConfig::File),
        "s3" => section(DATA_TABLE, table, warnings)
            .and_then(s3_config)
            .map(DataConfig::S3),
        "swift" | "gcs" | "testing" => Err(BackendProblem::Missing {
            key: "DataBackend",
            name: backend.to_owned(),
            present: "file and s3",
        }),
        _ => Err(BackendProblem::UnknownBackend(backend.to_owned())),
    };
    config.map_err(ConfigError::DataBackend)
}

fn section<S: Section>(
    name: &'static str,
    table: &Table,
    warnings: &mut Vec<String>,
) -> Result<S, BackendProblem> {
    let (section, unknown) = read_table(table).map_err(|(key, wrong)| BackendProblem::Type {
        table: name,
        key,
        found: wrong.found,
        expected: wrong.expected,
    })?;
    warnings.extend(
        unknown
            .into_iter()
            .map(|key| match suggest::in_table::<S>(key) {
                Some(remark) => format!("unknown key {key} in [{name}] is ignored: {remark}"),
                None => format!("unknown key {key} in [{name}] is ignored"),
            }),
    );
    Ok(section)
}

fn metadata_config(settings: MetadataSettings) -> Result<MetadataConfig, BackendProblem> {
    let driver = match settings.driver.as_str() {
        "sqlite3" => Driver::Sqlite,
        "postgres" => Driver::Postgres,
        "mysql" => {
            return Err(BackendProblem::Missing {
                key: "Driver",
                name: settings.driver,
                present: "sqlite3 and postgres",
            });
        }
        _ => return Err(BackendProblem::UnknownDriver(settings.driver)),
    };
    if settings.erase_first {
        return Err(BackendProblem::EraseFirst);
    }
    // SQLite would open a database that is deleted when it is closed.
    if settings.connection_string.expose().is_empty() {
        return Err(BackendProblem::Empty {
            key: "ConnectionString",
        });
    }
    let is_default = settings.connection_string == MetadataSettings::default().connection_string;
    if driver == Driver::Postgres && is_default {
        return Err(BackendProblem::NoServer);
    }
    let place = settings.connection_string.expose();
    if driver == Driver::Sqlite && place.contains("://") && !place.starts_with("file:") {
        return Err(BackendProblem::NoPath);
    }
    Ok(MetadataConfig {
        driver,
        connection_string: settings.connection_string,
        debug: settings.debug,
        slow_query_threshold: match settings.slow_query_threshold.as_str() {
            "" => SLOW_QUERY,
            text => duration::parse_clock(text).map_err(BackendProblem::SlowQueryThreshold)?,
        },
        max_open_conns: count(settings.max_open_conns),
        max_idle_conns: count(settings.max_idle_conns),
    })
}

fn file_config(settings: FileSettings) -> Result<FileConfig, BackendProblem> {
    // The files would go to the root of the file system.
    if settings.directory.is_empty() {
        return Err(BackendProblem::Empty { key: "Directory" });
    }
    Ok(FileConfig {
        directory: settings.directory,
    })
}

fn s3_config(settings: S3Settings) -> Result<S3Config, BackendProblem> {
    let present = |key, text: &str, problem: &str| match text {
        "" => Err(wrong_s3(key, problem)),
        _ => Ok(()),
    };
    present("Endpoint", &settings.endpoint, "missing endpoint")?;
    // Not shown: who wrote a key before the host would find it in logs and reports.
    if settings.endpoint.contains(['/', '@', '?', '#', ' ']) {
        return Err(wrong_s3(
            "Endpoint",
            "Endpoint is a host or host:port, without https://, user, path or anything else",
        ));
    }
    present(
        "AccessKeyID",
        &settings.access_key_id,
        "missing access key ID",
    )?;
    let secret = settings.secret_access_key.expose();
    present("SecretAccessKey", secret, "missing secret access key")?;
    present("Bucket", &settings.bucket, "missing bucket name")?;
    present("Location", &settings.location, "missing location")?;
    let part_size = u64::try_from(settings.part_size)
        .ok()
        .filter(|size| PART_SIZES.contains(size))
        .ok_or_else(|| wrong_s3("PartSize", "invalid part size"))?;
    Ok(S3Config {
        part_size,
        sse: sse(settings.sse)?,
        bucket_lookup: bucket_lookup(&settings.bucket_lookup)?,
        part_upload_concurrency: concurrency(settings.part_upload_concurrency)?,
        endpoint: settings.endpoint,
        access_key_id: settings.access_key_id,
        secret_access_key: settings.secret_access_key,
        bucket: settings.bucket,
        location: settings.location,
        prefix: settings.prefix,
        use_ssl: settings.use_ssl,
        send_content_md5: settings.send_content_md5,
    })
}

fn sse(text: String) -> Result<Sse, BackendProblem> {
    match text.as_str() {
        "" => Ok(Sse::None),
        "S3" => Ok(Sse::S3),
        "SSE-C" => Ok(Sse::Customer),
        "KMS" => Err(BackendProblem::Kms),
        _ => Err(BackendProblem::Sse(text)),
    }
}

fn bucket_lookup(text: &str) -> Result<BucketLookup, BackendProblem> {
    match text {
        "auto" => Ok(BucketLookup::Auto),
        "dns" => Ok(BucketLookup::Dns),
        "path" => Ok(BucketLookup::Path),
        _ => Err(wrong_s3(
            "BucketLookup",
            &format!("invalid bucket lookup {text}"),
        )),
    }
}

fn concurrency(number: i64) -> Result<usize, BackendProblem> {
    usize::try_from(number)
        .map(|number| number.max(1))
        .map_err(|_| wrong_s3("PartUploadConcurrency", "invalid part upload concurrency"))
}

fn wrong_s3(key: &'static str, problem: &str) -> BackendProblem {
    BackendProblem::S3 {
        key,
        problem: problem.to_owned(),
    }
}

/// A number of connections, where 0 and less mean the default.
fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{load_text, refusal};

    const ACCESS: &str = "Endpoint = \"s3.example.com:9000\"\nAccessKeyID = \"id\"\n\
                          SecretAccessKey = \"key\"\n";

    fn metadata_of(table: &str) -> MetadataConfig {
        let text = format!("[MetadataBackendConfig]\n{table}");
        load_text(&text, &[]).unwrap().config.metadata
    }

    fn refused_metadata(table: &str) -> String {
        let message = refusal(&format!("[MetadataBackendConfig]\n{table}"));
        let prefix = "unable to initialize metadata backend : ";
        message.strip_prefix(prefix).unwrap().to_owned()
    }

    fn s3_text(table: &str) -> String {
        format!("DataBackend = \"s3\"\n[DataBackendConfig]\n{table}")
    }

    fn s3_of(table: &str) -> S3Config {
        match load_text(&s3_text(table), &[]).unwrap().config.data {
            DataConfig::S3(s3) => s3,
            DataConfig::File(file) => panic!("{file:?}"),
        }
    }

    fn refused_s3(table: &str) -> String {
        let message = refusal(&s3_text(table));
        let prefix = "unable to initialize data backend : ";
        message.strip_prefix(prefix).unwrap().to_owned()
    }

    #[test]
    fn the_database_is_sqlite_or_postgres() {
        assert_eq!(metadata_of("").driver, Driver::Sqlite);
        assert_eq!(
            metadata_of("Driver = \"postgres\"\nConnectionString = \"postgres://db/plik\"").driver,
            Driver::Postgres
        );
        assert_eq!(
            refused_metadata("Driver = \"oracle\""),
            "Invalid metadata backend driver : oracle"
        );
        assert_eq!(
            refused_metadata("Driver = \"mysql\""),
            "Driver = \"mysql\" is not in this version, which has sqlite3 and postgres"
        );
    }

    #[test]
    fn a_database_that_would_be_emptied_or_lost_is_refused() {
        assert!(refused_metadata("EraseFirst = true").starts_with("EraseFirst = true would drop"));
        assert_eq!(metadata_of("EraseFirst = false"), metadata_of(""));
        assert_eq!(
            refused_metadata("ConnectionString = \"\""),
            "ConnectionString is empty"
        );
    }

    #[test]
    fn slow_queries_are_those_above_a_second_or_as_set() {
        let threshold = |table| metadata_of(table).slow_query_threshold;
        assert_eq!(threshold(""), Duration::from_secs(1));
        assert_eq!(
            threshold("SlowQueryThreshold = \"250ms\""),
            Duration::from_millis(250)
        );
        assert_eq!(threshold("SlowQueryThreshold = \"0\""), Duration::ZERO);
        assert_eq!(
            refused_metadata("SlowQueryThreshold = \"1d\""),
            "Unable to parse SlowQueryThreshold : time: unknown unit \"d\" in duration \"1d\""
        );
    }

    #[test]
    fn numbers_convert_and_other_types_are_refused() {
        let metadata = metadata_of("MaxOpenConns = 4.0\nMaxIdleConns = -1");
        assert_eq!((metadata.max_open_conns, metadata.max_idle_conns), (4, 0));
        assert_eq!(
            refused_metadata("MaxOpenConns = 4.5"),
            "MaxOpenConns in [MetadataBackendConfig]: found a float with a fraction, \
             expected an integer"
        );
        assert_eq!(
            refused_s3(&format!("{ACCESS}PartSize = \"5MB\"")),
            "PartSize in [DataBackendConfig]: found a string, expected an integer"
        );
    }

    #[test]
    fn settings_of_another_backend_are_told_where_they_belong() {
        let loaded = load_text("[DataBackendConfig]\nEndpoint = \"e\"", &[]).unwrap();
        assert_eq!(
            loaded.warnings,
            [
                "unknown key Endpoint in [DataBackendConfig] is ignored: it needs DataBackend = \"s3\""
            ]
        );
    }

    #[test]
    fn postgres_without_a_server_is_refused() {
        let text = "[MetadataBackendConfig]\nDriver = \"postgres\"";
        let error = load_text(text, &[]).unwrap_err();
        assert!(error.to_string().contains("names no server"), "{error}");
    }

    #[test]
    fn a_url_is_no_path_and_its_password_is_not_told() {
        let text = "[MetadataBackendConfig]\nConnectionString = \"mysql://u:secret@h/db\"";
        let error = load_text(text, &[]).unwrap_err().to_string();
        assert!(
            error.contains("is a URL") && !error.contains("secret"),
            "{error}"
        );
    }

    #[test]
    fn keys_of_the_tables_are_case_sensitive() {
        let text = "[MetadataBackendConfig]\ndriver = \"postgres\"";
        let loaded = load_text(text, &[]).unwrap();
        assert_eq!(loaded.config.metadata.driver, Driver::Sqlite);
        assert_eq!(
            loaded.warnings,
            ["unknown key driver in [MetadataBackendConfig] is ignored: did you mean Driver?"]
        );
    }

    #[test]
    fn data_is_kept_in_files_or_s3() {
        let file = |directory: &str| {
            DataConfig::File(FileConfig {
                directory: directory.to_owned(),
            })
        };
        let data = |text| load_text(text, &[]).unwrap().config.data;
        assert_eq!(data(""), file("files"));
        assert_eq!(
            data("[DataBackendConfig]\nDirectory = \"/srv\""),
            file("/srv")
        );
        let prefix = "unable to initialize data backend : ";
        for name in ["swift", "gcs", "testing"] {
            assert_eq!(
                refusal(&format!("DataBackend = \"{name}\"")),
                format!(
                    "{prefix}DataBackend = \"{name}\" is not in this version, which has file and s3"
                )
            );
        }
        assert_eq!(
            refusal("DataBackend = \"ftp\""),
            format!("{prefix}Invalid data backend ftp")
        );
        assert_eq!(
            refusal("[DataBackendConfig]\nDirectory = \"\""),
            format!("{prefix}Directory is empty")
        );
    }

    #[test]
    fn s3_has_its_defaults() {
        let expected = S3Config {
            endpoint: "s3.example.com:9000".to_owned(),
            access_key_id: "id".to_owned(),
            secret_access_key: crate::config::Secret::new("key"),
            bucket: "plik".to_owned(),
            location: "us-east-1".to_owned(),
            prefix: String::new(),
            use_ssl: false,
            part_size: 16 << 20,
            sse: Sse::None,
            part_upload_concurrency: 4,
            send_content_md5: false,
            bucket_lookup: BucketLookup::Auto,
        };
        assert_eq!(s3_of(ACCESS), expected);
    }

    #[test]
    fn s3_is_checked_in_order() {
        let mut table = "PartSize = 5242879\nLocation = \"\"\nBucket = \"\"\n".to_owned();
        let mut next = |problem: &str, addition: &str| {
            let message = format!("invalid s3 data backend config : {problem}");
            assert_eq!(refused_s3(&table), message);
            table = match addition.split_once(" = ") {
                Some((key, _)) if table.contains(key) => {
                    let kept = table.lines().filter(|line| !line.starts_with(key));
                    kept.map(|line| format!("{line}\n")).collect()
                }
                _ => table.clone(),
            } + addition
                + "\n";
        };
        next("missing endpoint", "Endpoint = \"e\"");
        next("missing access key ID", "AccessKeyID = \"i\"");
        next("missing secret access key", "SecretAccessKey = \"s\"");
        next("missing bucket name", "Bucket = \"b\"");
        next("missing location", "Location = \"l\"");
        next("invalid part size", "PartSize = 5242880");
        assert_eq!(s3_of(&table).part_size, 5 << 20);
    }

    #[test]
    fn s3_refuses_what_it_cannot_do() {
        let refused = |line: &str| refused_s3(&format!("{ACCESS}{line}"));
        let prefix = "invalid s3 data backend config : ";
        assert_eq!(
            refused("SSE = \"KMS\""),
            "KMS server side encryption is not yet implemented"
        );
        assert_eq!(refused("SSE = \"sse-c\""), "invalid SSE type sse-c");
        assert_eq!(
            refused("PartSize = -1"),
            format!("{prefix}invalid part size")
        );
        assert_eq!(
            refused("PartSize = 5368709121"),
            format!("{prefix}invalid part size")
        );
        assert_eq!(
            refused("BucketLookup = \"host\""),
            format!("{prefix}invalid bucket lookup host")
        );
        assert_eq!(
            refused("PartUploadConcurrency = -1"),
            format!("{prefix}invalid part upload concurrency")
        );
        let url = refused_s3("Endpoint = \"https://s3.example.com\"");
        assert!(
            url.starts_with(&format!("{prefix}Endpoint is a host")),
            "{url}"
        );
        for endpoint in ["user:secret@host:9000", "host?key=secret", "host#secret"] {
            let refused = refused_s3(&format!("Endpoint = \"{endpoint}\""));
            assert!(refused.contains("Endpoint is a host"), "{refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn s3_knows_its_words() {
        let s3 = |line: &str| s3_of(&format!("{ACCESS}{line}"));
        assert_eq!(s3("SSE = \"S3\"").sse, Sse::S3);
        assert_eq!(s3("SSE = \"SSE-C\"").sse, Sse::Customer);
        assert_eq!(
            s3("BucketLookup = \"dns\"").bucket_lookup,
            BucketLookup::Dns
        );
        assert_eq!(
            s3("BucketLookup = \"path\"").bucket_lookup,
            BucketLookup::Path
        );
        assert_eq!(s3("PartUploadConcurrency = 0").part_upload_concurrency, 1);
    }
}
