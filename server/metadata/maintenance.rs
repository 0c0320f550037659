//! What the cleaning drops besides uploads.

use super::engine::Statement;
use super::value::Value;
use super::{Metadata, MetadataError};
use crate::model::Timestamp;

/// Files of uploads that are not there. A file without any reference stays.
pub(super) const DELETE_ORPHAN_FILES: &str = "DELETE FROM files WHERE upload_id IS NOT NULL \
     AND NOT EXISTS (SELECT 1 FROM uploads WHERE uploads.id = files.upload_id)";

/// Tokens of users who are not there.
pub(super) const DELETE_ORPHAN_TOKENS: &str = "DELETE FROM tokens WHERE user_id IS NOT NULL \
     AND NOT EXISTS (SELECT 1 FROM users WHERE users.id = tokens.user_id)";

/// A token's counters go with the token.
const DELETE_STATS_OF_LOST_TOKENS: &str = "DELETE FROM usage_stats WHERE token <> '' \
     AND NOT EXISTS (SELECT 1 FROM tokens WHERE tokens.token = usage_stats.token)";

/// Rows that had lost their parent, and were deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphans {
    pub files: u64,
    pub tokens: u64,
}

impl Metadata {
    /// Deletes files without their upload and tokens without their user.
    pub async fn delete_orphans(&self) -> Result<Orphans, MetadataError> {
        let statements = vec![
            Statement::new(DELETE_ORPHAN_FILES, []),
            Statement::new(DELETE_ORPHAN_TOKENS, []),
            Statement::new(DELETE_STATS_OF_LOST_TOKENS, []),
        ];
        let written = self.engine().write("delete orphans", statements).await?;
        Ok(Orphans {
            files: written.rows(0),
            tokens: written.rows(1),
        })
    }

    /// Deletes the daily counters of days before `before`, and returns how many there were.
    pub async fn prune_daily_stats(&self, before: Timestamp) -> Result<u64, MetadataError> {
        let old = self.engine().dialect().is_before("day", "$1");
        let prune = |table: &str| {
            let sql = format!("DELETE FROM {table} WHERE {old}");
            Statement::new(sql, [Value::Time(before)])
        };
        let statements = vec![prune("download_stats_daily"), prune("upload_stats_daily")];
        let written = self
            .engine()
            .write("prune the daily counters", statements)
            .await?;
        Ok(written.rows(0) + written.rows(1))
    }

    /// Deletes the command line's login sessions that expired before `now`, and returns how many
    /// there were.
    pub async fn delete_expired_cli_sessions(&self, now: Timestamp) -> Result<u64, MetadataError> {
        let expired = self.engine().dialect().is_before("expires_at", "$1");
        let sql = format!("DELETE FROM cli_auth_sessions WHERE {expired}");
        let statements = vec![Statement::new(sql, [Value::Time(now)])];
        let written = self
            .engine()
            .write("delete expired login sessions", statements)
            .await?;
        Ok(written.rows(0))
    }
}
