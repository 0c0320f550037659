//! The tables as data: the one list from which the DDL of both engines, the foreign-key order and
//! the rows of a migration come.

/// What a column holds. SQLite lets any value into any column, so this is what it *should* hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Text,
    /// 64 bits, signed.
    Integer,
    Boolean,
    /// An instant: text in SQLite, `timestamptz` in PostgreSQL.
    Time,
    /// Floating point; only in columns that this program does not know.
    Real,
    /// Bytes; only in columns that this program does not know.
    Bytes,
}

#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// PostgreSQL's `varchar(n)`, in characters; plain `text` without. SQLite has `text` for both.
    pub max_length: Option<u16>,
    /// The schema version that added it; the one of its table unless it came later.
    pub since: &'static str,
    /// Default of the column, which is then also part of a `NOT NULL` key where `not_null`.
    pub default: Option<&'static str>,
    pub not_null: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct ForeignKey {
    pub name: &'static str,
    pub column: &'static str,
    pub parent: &'static str,
    pub parent_column: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub struct Index {
    pub name: &'static str,
    pub columns: &'static [&'static str],
    pub since: &'static str,
}

/// One table that Plik (Go) knows.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub name: &'static str,
    pub since: &'static str,
    pub columns: &'static [Column],
    pub primary_key: &'static [&'static str],
    pub foreign_keys: &'static [ForeignKey],
    pub indexes: &'static [Index],
    /// Whether a migration carries its rows; login sessions of minutes are not worth carrying.
    pub migrated: bool,
}

impl Table {
    /// The table of that name, if it is one of [`TABLES`].
    pub fn find(name: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.name == name)
    }

    pub fn column(&self, name: &str) -> Option<&'static Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

pub const V0001: &str = "0001-initial";
pub const V0002: &str = "0002-user-limits";
pub const V0003: &str = "0003-extend-ttl";
pub const V0004: &str = "0004-max-user-size";
pub const V0005: &str = "0005-cli-auth-sessions";
pub const V0006: &str = "0006-user-profile-picture";
pub const V0007: &str = "0007-upload-e2ee";
pub const V0008: &str = "0008-user-theme";
pub const V0009: &str = "0009-file-is-text";
pub const V0010: &str = "0010-user-language";
pub const V0011: &str = "0011-stats";

const fn column(name: &'static str, kind: Kind, since: &'static str) -> Column {
    Column {
        name,
        kind,
        max_length: None,
        since,
        default: None,
        not_null: false,
    }
}

const fn text(name: &'static str, since: &'static str) -> Column {
    column(name, Kind::Text, since)
}

const fn varchar(name: &'static str, max_length: u16, since: &'static str) -> Column {
    let mut column = column(name, Kind::Text, since);
    column.max_length = Some(max_length);
    column
}

/// Part of a key of the counters: never NULL, empty unless given.
const fn scope(name: &'static str) -> Column {
    let mut column = varchar(name, 256, V0011);
    column.default = Some("");
    column.not_null = true;
    column
}

const fn integer(name: &'static str, since: &'static str) -> Column {
    column(name, Kind::Integer, since)
}

const fn boolean(name: &'static str, since: &'static str) -> Column {
    column(name, Kind::Boolean, since)
}

const fn time(name: &'static str, since: &'static str) -> Column {
    column(name, Kind::Time, since)
}

const fn index(name: &'static str, columns: &'static [&'static str], since: &'static str) -> Index {
    Index {
        name,
        columns,
        since,
    }
}

/// Every table, parents before children.
pub const TABLES: &[Table] = &[
    Table {
        name: "users",
        since: V0001,
        columns: &[
            text("id", V0001),
            text("provider", V0001),
            text("login", V0001),
            text("password", V0001),
            text("name", V0001),
            text("email", V0001),
            text("profile_picture", V0006),
            text("theme", V0008),
            text("language", V0010),
            boolean("is_admin", V0001),
            integer("max_file_size", V0002),
            integer("max_user_size", V0004),
            integer("max_ttl", V0002),
            time("created_at", V0001),
        ],
        primary_key: &["id"],
        foreign_keys: &[],
        indexes: &[],
        migrated: true,
    },
    Table {
        name: "tokens",
        since: V0001,
        columns: &[
            text("token", V0001),
            text("comment", V0001),
            varchar("user_id", 256, V0001),
            time("created_at", V0001),
        ],
        primary_key: &["token"],
        foreign_keys: &[ForeignKey {
            name: "fk_users_tokens",
            column: "user_id",
            parent: "users",
            parent_column: "id",
        }],
        indexes: &[],
        migrated: true,
    },
    Table {
        name: "uploads",
        since: V0001,
        columns: &[
            text("id", V0001),
            integer("ttl", V0001),
            boolean("extend_ttl", V0003),
            text("remote_ip", V0001),
            text("comments", V0001),
            text("e2ee", V0007),
            text("upload_token", V0001),
            text("user", V0001),
            text("token", V0001),
            boolean("stream", V0001),
            boolean("one_shot", V0001),
            boolean("removable", V0001),
            boolean("protected_by_password", V0001),
            text("login", V0001),
            text("password", V0001),
            integer("download_count", V0011),
            time("last_downloaded_at", V0011),
            integer("downloaded_bytes", V0011),
            time("created_at", V0001),
            time("deleted_at", V0001),
            time("expire_at", V0001),
        ],
        primary_key: &["id"],
        foreign_keys: &[],
        indexes: &[
            index("idx_upload_user", &["user"], V0001),
            index("idx_upload_user_token", &["token"], V0001),
            index("idx_upload_deleted_at", &["deleted_at"], V0001),
            index("idx_upload_expire_at", &["expire_at"], V0001),
            index("idx_upload_download_count", &["download_count"], V0011),
            index("idx_upload_downloaded_bytes", &["downloaded_bytes"], V0011),
        ],
        migrated: true,
    },
    Table {
        name: "files",
        since: V0001,
        columns: &[
            text("id", V0001),
            varchar("upload_id", 256, V0001),
            text("name", V0001),
            text("status", V0001),
            text("md5", V0001),
            text("type", V0001),
            integer("size", V0001),
            boolean("is_text", V0009),
            text("reference", V0001),
            text("backend_details", V0001),
            integer("download_count", V0011),
            time("last_downloaded_at", V0011),
            time("created_at", V0001),
        ],
        primary_key: &["id"],
        foreign_keys: &[ForeignKey {
            name: "fk_uploads_files",
            column: "upload_id",
            parent: "uploads",
            parent_column: "id",
        }],
        indexes: &[index("idx_file_upload_id", &["upload_id"], V0011)],
        migrated: true,
    },
    Table {
        name: "settings",
        since: V0001,
        columns: &[text("key", V0001), text("value", V0001)],
        primary_key: &["key"],
        foreign_keys: &[],
        indexes: &[],
        migrated: true,
    },
    Table {
        name: "usage_stats",
        since: V0011,
        columns: &[
            scope("user_id"),
            scope("token"),
            integer("current_uploads", V0011),
            integer("current_files", V0011),
            integer("current_size", V0011),
            integer("lifetime_uploads", V0011),
            integer("lifetime_files", V0011),
            integer("lifetime_size", V0011),
            integer("downloads", V0011),
            integer("downloaded_bytes", V0011),
            integer("uploaded_bytes", V0011),
            integer("lifetime_users", V0011),
            integer("current_password_uploads", V0011),
            integer("lifetime_password_uploads", V0011),
            integer("current_removable_uploads", V0011),
            integer("lifetime_removable_uploads", V0011),
            integer("current_one_shot_uploads", V0011),
            integer("lifetime_one_shot_uploads", V0011),
            integer("current_stream_uploads", V0011),
            integer("lifetime_stream_uploads", V0011),
            integer("current_extend_ttl_uploads", V0011),
            integer("lifetime_extend_ttl_uploads", V0011),
            integer("current_e2ee_uploads", V0011),
            integer("lifetime_e2ee_uploads", V0011),
            integer("current_comment_uploads", V0011),
            integer("lifetime_comment_uploads", V0011),
            integer("current_ttl_none_uploads", V0011),
            integer("lifetime_ttl_none_uploads", V0011),
            integer("current_ttl_lt1h_uploads", V0011),
            integer("lifetime_ttl_lt1h_uploads", V0011),
            integer("current_ttl_1h1d_uploads", V0011),
            integer("lifetime_ttl_1h1d_uploads", V0011),
            integer("current_ttl_1d7d_uploads", V0011),
            integer("lifetime_ttl_1d7d_uploads", V0011),
            integer("current_ttl_7d30d_uploads", V0011),
            integer("lifetime_ttl_7d30d_uploads", V0011),
            integer("current_ttl_gt30d_uploads", V0011),
            integer("lifetime_ttl_gt30d_uploads", V0011),
            integer("current_file_size_lt1m_files", V0011),
            integer("lifetime_file_size_lt1m_files", V0011),
            integer("current_file_size_1m10m_files", V0011),
            integer("lifetime_file_size_1m10m_files", V0011),
            integer("current_file_size_10m100m_files", V0011),
            integer("lifetime_file_size_10m100m_files", V0011),
            integer("current_file_size_100m1g_files", V0011),
            integer("lifetime_file_size_100m1g_files", V0011),
            integer("current_file_size_1g10g_files", V0011),
            integer("lifetime_file_size_1g10g_files", V0011),
            integer("current_file_size_10g100g_files", V0011),
            integer("lifetime_file_size_10g100g_files", V0011),
            integer("current_file_size_gt100g_files", V0011),
            integer("lifetime_file_size_gt100g_files", V0011),
            time("last_upload_at", V0011),
            time("started_at", V0011),
            time("created_at", V0011),
            time("updated_at", V0011),
        ],
        primary_key: &["user_id", "token"],
        foreign_keys: &[],
        indexes: &[index("idx_usage_stats_token", &["token"], V0011)],
        migrated: true,
    },
    Table {
        name: "download_stats_daily",
        since: V0011,
        columns: &[
            time("day", V0011),
            varchar("entity_type", 16, V0011),
            varchar("entity_id", 256, V0011),
            integer("downloads", V0011),
            integer("bytes", V0011),
            varchar("user_id", 256, V0011),
            varchar("token", 256, V0011),
            time("updated_at", V0011),
        ],
        primary_key: &["day", "entity_type", "entity_id"],
        foreign_keys: &[],
        indexes: &[index(
            "idx_download_stats_daily_user_day",
            &["user_id", "day"],
            V0011,
        )],
        migrated: true,
    },
    Table {
        name: "upload_stats_daily",
        since: V0011,
        columns: &[
            time("day", V0011),
            varchar("user_id", 256, V0011),
            varchar("token", 256, V0011),
            integer("uploads", V0011),
            integer("bytes", V0011),
            time("updated_at", V0011),
        ],
        primary_key: &["day", "user_id", "token"],
        foreign_keys: &[],
        indexes: &[index(
            "idx_upload_stats_daily_user_day",
            &["user_id", "day"],
            V0011,
        )],
        migrated: true,
    },
    Table {
        name: "cli_auth_sessions",
        since: V0005,
        columns: &[
            varchar("code", 16, V0005),
            varchar("secret", 64, V0005),
            Column {
                default: Some("pending"),
                ..varchar("status", 16, V0005)
            },
            varchar("token", 64, V0005),
            time("created_at", V0005),
            time("expires_at", V0005),
        ],
        primary_key: &["code"],
        foreign_keys: &[],
        indexes: &[index(
            "idx_cli_auth_sessions_expires_at",
            &["expires_at"],
            V0005,
        )],
        migrated: false,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_their_children() {
        for (position, table) in TABLES.iter().enumerate() {
            for key in table.foreign_keys {
                let parent = TABLES.iter().position(|other| other.name == key.parent);
                assert!(
                    parent.is_some_and(|parent| parent < position),
                    "{}",
                    table.name
                );
            }
        }
    }

    #[test]
    fn keys_and_indexes_name_columns_of_their_table() {
        for table in TABLES {
            let named = table.indexes.iter().flat_map(|index| index.columns);
            for column in table.primary_key.iter().chain(named) {
                assert!(table.column(column).is_some(), "{}.{column}", table.name);
            }
        }
    }
}
