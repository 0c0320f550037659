//! The counters of uploads and files, per user, token and day.
//!
//! The SQL is made from one list of features, so that the back-fill and the changes that keep the
//! counters exact can not disagree about what is counted.

use std::fmt::Write;
use std::sync::LazyLock;

use super::dialect::Dialect;
use super::engine::Statement;
use super::table::{Kind, Table};
use super::value::Value;
use crate::model::Timestamp;

/// The scope of uploads without a user.
pub const ANONYMOUS: &str = "__anonymous__";
/// The scope of users who are gone.
pub const DELETED: &str = "__deleted__";

/// A feature of a row, counted as `current_<name>` and `lifetime_<name>`.
struct Feature {
    name: &'static str,
    condition: &'static str,
}

const fn feature(name: &'static str, condition: &'static str) -> Feature {
    Feature { name, condition }
}

/// Features of an upload `u`.
const UPLOAD_FEATURES: &[Feature] = &[
    feature("password_uploads", "u.protected_by_password"),
    feature("removable_uploads", "u.removable"),
    feature("one_shot_uploads", "u.one_shot"),
    feature("stream_uploads", "u.stream"),
    feature("extend_ttl_uploads", "u.extend_ttl"),
    feature("e2ee_uploads", "u.e2ee <> ''"),
    // Not blank, in the sense of Unicode.
    feature(
        "comment_uploads",
        "trim(u.comments, '\t\n\u{b}\u{c}\r \u{85}\u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\
         \u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\
         \u{3000}') <> ''",
    ),
    feature("ttl_none_uploads", "COALESCE(u.ttl, 0) <= 0"),
    feature("ttl_lt1h_uploads", "u.ttl > 0 AND u.ttl < 3600"),
    feature("ttl_1h1d_uploads", "u.ttl >= 3600 AND u.ttl < 86400"),
    feature("ttl_1d7d_uploads", "u.ttl >= 86400 AND u.ttl < 604800"),
    feature("ttl_7d30d_uploads", "u.ttl >= 604800 AND u.ttl <= 2592000"),
    feature("ttl_gt30d_uploads", "u.ttl > 2592000"),
];

/// Features of a file `f`, by its size.
const FILE_FEATURES: &[Feature] = &[
    feature("file_size_lt1m_files", "COALESCE(f.size, 0) < 1048576"),
    feature(
        "file_size_1m10m_files",
        "f.size >= 1048576 AND f.size < 10485760",
    ),
    feature(
        "file_size_10m100m_files",
        "f.size >= 10485760 AND f.size < 104857600",
    ),
    feature(
        "file_size_100m1g_files",
        "f.size >= 104857600 AND f.size < 1073741824",
    ),
    feature(
        "file_size_1g10g_files",
        "f.size >= 1073741824 AND f.size < 10737418240",
    ),
    feature(
        "file_size_10g100g_files",
        "f.size >= 10737418240 AND f.size < 107374182400",
    ),
    feature("file_size_gt100g_files", "f.size >= 107374182400"),
];

/// The user scope of an upload `u`.
const SCOPE_OF_UPLOAD: &str =
    "CASE WHEN COALESCE(u.\"user\", '') = '' THEN '__anonymous__' ELSE u.\"user\" END";

/// The names of all counters, in the order of the table.
fn counters() -> impl Iterator<Item = &'static str> {
    let table = Table::find("usage_stats").into_iter();
    let columns = table.flat_map(|table| table.columns);
    let counters = columns.filter(|column| column.kind == Kind::Integer);
    counters.map(|column| column.name)
}

fn count_if(condition: &str) -> String {
    format!("CASE WHEN {condition} THEN 1 ELSE 0 END")
}

/// The statements that make the counters of version 0011 true: counters of old rows that the new
/// columns left NULL, which no increment would ever change, become 0, and the rows of
/// `usage_stats` are computed from the uploads and files, whatever was there.
pub fn adopt(dialect: Dialect) -> Vec<Statement> {
    vec![
        Statement::new(
            "UPDATE uploads SET download_count = COALESCE(download_count, 0), \
             downloaded_bytes = COALESCE(downloaded_bytes, 0) \
             WHERE download_count IS NULL OR downloaded_bytes IS NULL",
            [],
        ),
        Statement::new(
            "UPDATE files SET download_count = 0 WHERE download_count IS NULL",
            [],
        ),
        Statement::new("DELETE FROM usage_stats", []),
        Statement::new(back_fill(dialect), [Value::Time(Timestamp::now())]),
    ]
}

/// The insert that computes every row: users, the two scopes without one, tokens. Counters that
/// say what *is* count live uploads and their uploaded files, those that say what *was* also
/// removed ones. `$1` is the time from which the counters count.
pub fn back_fill(dialect: Dialect) -> String {
    let names: Vec<&str> = counters().collect();
    let values: Vec<String> = counters().map(back_filled).collect();
    let now = dialect.time_param("$1");
    format!(
        "INSERT INTO usage_stats (user_id, token, {names}, last_upload_at, started_at, created_at, \
         updated_at) \
         WITH upload_scope AS ( \
           SELECT u.id, {SCOPE_OF_UPLOAD} AS user_id, '' AS token FROM uploads AS u \
           UNION ALL \
           SELECT u.id, {SCOPE_OF_UPLOAD}, u.token FROM uploads AS u WHERE u.token <> ''), \
         upload_sums AS ( \
           SELECT s.user_id, s.token, {uploads}, {latest} AS last_upload_at \
           FROM upload_scope AS s JOIN uploads AS u ON u.id = s.id GROUP BY s.user_id, s.token), \
         files_of_upload AS ( \
           SELECT f.upload_id, {files} FROM uploads AS u JOIN files AS f ON f.upload_id = u.id \
           WHERE f.status IN ('uploaded', 'removed', 'deleted') GROUP BY f.upload_id), \
         file_sums AS ( \
           SELECT s.user_id, s.token, {sums_of_files} \
           FROM upload_scope AS s JOIN files_of_upload AS f ON f.upload_id = s.id \
           GROUP BY s.user_id, s.token), \
         scope AS ( \
           SELECT id AS user_id, '' AS token, 1 AS users FROM users WHERE id <> '' \
           UNION ALL SELECT '{ANONYMOUS}', '', 0 UNION ALL SELECT '{DELETED}', '', 0 \
           UNION ALL SELECT user_id, token, 0 FROM tokens WHERE user_id <> '' AND token <> '') \
         SELECT s.user_id, s.token, {values}, u.last_upload_at, {now}, {now}, {now} \
         FROM scope AS s \
         LEFT JOIN upload_sums AS u ON u.user_id = s.user_id AND u.token = s.token \
         LEFT JOIN file_sums AS f ON f.user_id = s.user_id AND f.token = s.token",
        names = names.join(", "),
        values = values.join(", "),
        uploads = upload_sums(),
        files = file_sums(),
        sums_of_files = sums_of_file_sums(),
        latest = dialect.latest("u.created_at"),
    )
}

/// Where the back-fill takes a counter from.
fn back_filled(counter: &'static str) -> String {
    match counter {
        "downloads" => "CAST(COALESCE(u.downloads, 0) AS bigint)".to_owned(),
        // Nobody kept the bytes.
        "downloaded_bytes" | "uploaded_bytes" => "0".to_owned(),
        "lifetime_users" => "s.users".to_owned(),
        name if name.ends_with("_uploads") => format!("CAST(COALESCE(u.{name}, 0) AS bigint)"),
        name => format!("CAST(COALESCE(f.{name}, 0) AS bigint)"),
    }
}

fn upload_sums() -> String {
    let mut sums = format!(
        "COUNT(*) AS lifetime_uploads, SUM({}) AS current_uploads, \
         SUM(COALESCE(u.download_count, 0)) AS downloads",
        count_if("u.deleted_at IS NULL")
    );
    for Feature { name, condition } in UPLOAD_FEATURES {
        let lifetime = count_if(condition);
        let current = count_if(&format!("u.deleted_at IS NULL AND ({condition})"));
        // Writing to a string cannot fail.
        let _ = write!(
            sums,
            ", SUM({lifetime}) AS lifetime_{name}, SUM({current}) AS current_{name}"
        );
    }
    sums
}

/// The sums of the sums of [`file_sums`]. Each upload's files are read once for all its scopes.
fn sums_of_file_sums() -> String {
    let features = FILE_FEATURES.iter().map(|feature| feature.name);
    let names = ["files", "size"].into_iter().chain(features);
    let sums = names.flat_map(|name| {
        ["lifetime", "current"].map(|kind| format!("SUM(f.{kind}_{name}) AS {kind}_{name}"))
    });
    sums.collect::<Vec<_>>().join(", ")
}

fn file_sums() -> String {
    const CURRENT: &str = "u.deleted_at IS NULL AND f.status = 'uploaded'";
    let mut sums = format!(
        "COUNT(*) AS lifetime_files, SUM(COALESCE(f.size, 0)) AS lifetime_size, \
         SUM({}) AS current_files, \
         SUM(CASE WHEN {CURRENT} THEN COALESCE(f.size, 0) ELSE 0 END) AS current_size",
        count_if(CURRENT)
    );
    for Feature { name, condition } in FILE_FEATURES {
        let lifetime = count_if(condition);
        let current = count_if(&format!("{CURRENT} AND ({condition})"));
        let _ = write!(
            sums,
            ", SUM({lifetime}) AS lifetime_{name}, SUM({current}) AS current_{name}"
        );
    }
    sums
}

/// Drops the two scopes without a user from a database that has counted nothing yet.
pub fn drop_empty_sentinels() -> Statement {
    Statement::new(
        "DELETE FROM usage_stats WHERE user_id IN ($1, $2) AND token = '' \
         AND COALESCE(lifetime_uploads, 0) = 0 AND COALESCE(uploaded_bytes, 0) = 0 \
         AND COALESCE(downloads, 0) = 0 AND NOT EXISTS (SELECT 1 FROM uploads)",
        [Value::from(ANONYMOUS), Value::from(DELETED)],
    )
}

/// The statements of every start: the two scopes without a user have their rows, and a row
/// without any scope, which no version means to write, is dropped.
pub fn ensure_sentinels(now: Timestamp) -> Vec<Statement> {
    static INSERT: LazyLock<String> = LazyLock::new(|| {
        let names: Vec<&str> = counters().collect();
        let zeros: Vec<&str> = counters().map(|_| "0").collect();
        format!(
            "INSERT INTO usage_stats (user_id, token, {}, started_at, created_at, updated_at) \
             VALUES ($1, '', {}, $2, $2, $2) ON CONFLICT (user_id, token) DO NOTHING",
            names.join(", "),
            zeros.join(", ")
        )
    });
    let insert =
        |scope: &str| Statement::new(INSERT.as_str(), [Value::from(scope), Value::Time(now)]);
    vec![
        insert(ANONYMOUS),
        insert(DELETED),
        Statement::new(
            "DELETE FROM usage_stats WHERE user_id = '' AND token = ''",
            [],
        ),
    ]
}
