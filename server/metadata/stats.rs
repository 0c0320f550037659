//! The counters of uploads and files, per user, token and day.
//!
//! The SQL is made from one list of features, so that the back-fill and the changes that keep the
//! counters exact can not disagree about what is counted.

use std::fmt::Write;
use std::sync::LazyLock;

use jiff::tz::TimeZone;

use super::dialect::Dialect;
use super::engine::Statement;
use super::table::{Kind, Table};
use super::value::Value;
use crate::model::{Timestamp, Upload};

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

/// Which of the two kinds of counters a change is about.
#[derive(Clone, Copy)]
enum Change {
    /// Something new: what is and what was both grow.
    Add,
    /// It goes: only what is shrinks.
    Subtract,
}

/// Counters of the user (or of nobody) and, if it has a row, of the token: in this order, in which
/// everyone locks them.
const SCOPES: [&str; 2] = [
    "usage_stats.token = ''",
    "usage_stats.token = d.token AND d.token <> ''",
];

/// Counts an upload that the same write has just stored.
pub fn upload_created(dialect: Dialect, upload: &Upload, now: Timestamp) -> Vec<Statement> {
    static COUNT: LazyLock<[String; 2]> =
        LazyLock::new(|| SCOPES.map(|scope| upload_change(Change::Add, scope)));
    let created = upload.created_at.unwrap_or(now);
    let mut statements = vec![Statement::new(
        daily(dialect, "1", "0", "uploads AS u WHERE u.id = $1"),
        [
            Value::from(upload.id.as_str()),
            day_of(created),
            Value::Time(now),
        ],
    )];
    if !upload.user.is_empty() {
        let params = [Value::from(upload.user.as_str()), Value::Time(now)];
        statements.push(Statement::new(ensure_user(dialect), params));
    }
    let scopes = if upload.token.is_empty() { 1 } else { 2 };
    statements.extend(changes(&COUNT, &upload.id, now).into_iter().take(scopes));
    statements
}

/// Subtracts an upload and its files, which are still as they were: the write goes on to take
/// them out of service.
pub fn upload_leaves(id: &str, now: Timestamp) -> Vec<Statement> {
    static FILES: LazyLock<[String; 2]> =
        LazyLock::new(|| SCOPES.map(|scope| file_change(Change::Subtract, "f.upload_id", scope)));
    static UPLOAD: LazyLock<[String; 2]> =
        LazyLock::new(|| SCOPES.map(|scope| upload_change(Change::Subtract, scope)));
    let [files_of_user, files_of_token] = changes(&FILES, id, now);
    let [upload_of_user, upload_of_token] = changes(&UPLOAD, id, now);
    vec![
        files_of_user,
        upload_of_user,
        files_of_token,
        upload_of_token,
    ]
}

/// Counts a file that the same write has just made `uploaded`.
pub fn file_completed(dialect: Dialect, id: &str, now: Timestamp) -> Vec<Statement> {
    static COUNT: LazyLock<[String; 2]> =
        LazyLock::new(|| SCOPES.map(|scope| file_change(Change::Add, "f.id", scope)));
    const FROM: &str = "files AS f JOIN uploads AS u ON u.id = f.upload_id WHERE f.id = $1";
    let mut statements = vec![Statement::new(
        daily(dialect, "0", "COALESCE(f.size, 0)", FROM),
        [Value::from(id), day_of(now), Value::Time(now)],
    )];
    statements.extend(changes(&COUNT, id, now));
    statements
}

/// Subtracts a file that the same write goes on to take out of service.
pub fn file_leaves(id: &str, now: Timestamp) -> Vec<Statement> {
    static COUNT: LazyLock<[String; 2]> =
        LazyLock::new(|| SCOPES.map(|scope| file_change(Change::Subtract, "f.id", scope)));
    changes(&COUNT, id, now).into()
}

fn changes(sql: &'static [String; 2], id: &str, now: Timestamp) -> [Statement; 2] {
    let statement =
        |sql: &'static String| Statement::new(sql.as_str(), [Value::from(id), Value::Time(now)]);
    [statement(&sql[0]), statement(&sql[1])]
}

fn day_of(time: Timestamp) -> Value {
    Value::Day(time.to_zoned(TimeZone::UTC).date())
}

/// Adds to the row of a day, a user (`''` for nobody) and a token. `$1` is the id, `$2` the day,
/// `$3` the time of the change.
fn daily(dialect: Dialect, uploads: &str, bytes: &str, from: &str) -> String {
    format!(
        "INSERT INTO upload_stats_daily (day, user_id, token, uploads, bytes, updated_at) \
         SELECT {day}, COALESCE(u.\"user\", ''), COALESCE(u.token, ''), {uploads}, {bytes}, {now} \
         FROM {from} \
         ON CONFLICT (day, user_id, token) DO UPDATE SET \
         uploads = COALESCE(upload_stats_daily.uploads, 0) + excluded.uploads, \
         bytes = COALESCE(upload_stats_daily.bytes, 0) + excluded.bytes, \
         updated_at = excluded.updated_at",
        day = dialect.time_param("$2"),
        now = dialect.time_param("$3"),
    )
}

/// Gives a user who lost it a new row. A token's row comes and goes with the token only.
fn ensure_user(dialect: Dialect) -> String {
    let names: Vec<&str> = counters().collect();
    let values: Vec<&str> = counters()
        .map(|name| if name == "lifetime_users" { "1" } else { "0" })
        .collect();
    format!(
        "INSERT INTO usage_stats (user_id, token, {}, started_at, created_at, updated_at) \
         SELECT id, '', {}, created_at, {now}, {now} FROM users WHERE id = $1 \
         ON CONFLICT (user_id, token) DO NOTHING",
        names.join(", "),
        values.join(", "),
        now = dialect.time_param("$2"),
    )
}

/// Adds or subtracts the upload `$1`.
fn upload_change(change: Change, scope: &str) -> String {
    let mut sets = Sets::new(change);
    let mut sums = String::from("1 AS uploads");
    sets.count("uploads");
    for Feature { name, condition } in UPLOAD_FEATURES {
        let _ = write!(sums, ", {} AS {name}", count_if(condition));
        sets.count(name);
    }
    if let Change::Add = change {
        sets.list.push("last_upload_at = d.created_at".to_owned());
    }
    update(
        &sets,
        &format!("{sums}, u.created_at"),
        "uploads AS u WHERE u.id = $1",
        scope,
    )
}

/// Adds or subtracts the uploaded files of live uploads whose `column` is `$1`.
fn file_change(change: Change, column: &str, scope: &str) -> String {
    let mut sets = Sets::new(change);
    let mut sums =
        String::from("COUNT(*) AS files, CAST(SUM(COALESCE(f.size, 0)) AS bigint) AS size");
    sets.count("files");
    sets.count("size");
    for Feature { name, condition } in FILE_FEATURES {
        let _ = write!(sums, ", SUM({}) AS {name}", count_if(condition));
        sets.count(name);
    }
    if let Change::Add = change {
        sets.push("uploaded_bytes", '+', "size");
    }
    let from = format!(
        "files AS f JOIN uploads AS u ON u.id = f.upload_id \
         WHERE {column} = $1 AND f.status = 'uploaded' AND u.deleted_at IS NULL GROUP BY u.id"
    );
    update(&sets, &sums, &from, scope)
}

fn update(sets: &Sets, sums: &str, from: &str, scope: &str) -> String {
    format!(
        "UPDATE usage_stats SET {}, updated_at = $2 \
         FROM (SELECT {SCOPE_OF_UPLOAD} AS user_id, COALESCE(u.token, '') AS token, {sums} \
         FROM {from}) AS d WHERE usage_stats.user_id = d.user_id AND {scope}",
        sets.list.join(", ")
    )
}

/// The assignments of an update.
struct Sets {
    change: Change,
    list: Vec<String>,
}

impl Sets {
    fn new(change: Change) -> Self {
        Self {
            change,
            list: Vec::new(),
        }
    }

    /// Changes the counters of something by the column of that name.
    fn count(&mut self, name: &str) {
        let current = format!("current_{name}");
        match self.change {
            Change::Add => {
                self.push(&current, '+', name);
                self.push(&format!("lifetime_{name}"), '+', name);
            }
            Change::Subtract => self.push(&current, '-', name),
        }
    }

    /// A counter that is NULL, as Plik (Go) leaves those it does not know, counts as 0.
    fn push(&mut self, counter: &str, operator: char, column: &str) {
        self.list.push(format!(
            "{counter} = COALESCE(usage_stats.{counter}, 0) {operator} d.{column}"
        ));
    }
}
