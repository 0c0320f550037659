//! What a migration is and did, as JSON: the words of `--json` and of `--report`.

use serde_json::{Value, json};

use super::summary::Summary;
use crate::cmd::exit::Outcome;
use crate::migrate::{
    BlobReport, End, Finding, Halves, LintReport, MigrateError, Mode, Options, Room, StatusReport,
    TableContent, TableLint, TableProof, TableReport,
};

/// The options that decide what a run does.
pub fn options(options: &Options<'_>) -> Value {
    let halves = match options.halves {
        Halves::Both => "both",
        Halves::MetadataOnly => "metadata",
        Halves::DataOnly => "data",
    };
    let mode = match options.mode {
        Mode::Copy => "copy",
        Mode::Sync { delete: false } => "sync",
        Mode::Sync { delete: true } => "sync and delete",
    };
    json!({
        "halves": halves,
        "mode": mode,
        "shard": options.shard.map(|shard| shard.to_string()),
        "workers": options.workers.get(),
        "ignore_errors": options.ignore_errors,
        "rejects": options.rejects.map(|path| path.display().to_string()),
        "fix_orphans": options.fix_orphans,
        "strip_nul": options.strip_nul,
        "verify": options.verify,
        "retries": options.retry.retries,
        "retry_for_seconds": options.retry.retry_for.as_secs(),
        "planned": options.expected.is_some(),
    })
}

/// What the lint says about a row.
pub fn finding(finding: &Finding) -> Value {
    json!({
        "table": finding.table,
        "key": finding.key,
        "column": finding.column,
        "kind": finding.reason.kind(),
        "reason": finding.reason.to_string(),
        "fix": finding.reason.fix(),
        "effect": finding.effect.as_str(),
    })
}

pub fn findings(found: &[Finding]) -> Value {
    found.iter().map(finding).collect()
}

/// What places must have room for.
pub fn rooms(rooms: &[Room]) -> Value {
    let room = |room: &Room| {
        json!({
            "place": room.place,
            "needed_bytes": room.needed_bytes,
            "available_bytes": room.available_bytes,
        })
    };
    rooms.iter().map(room).collect()
}

/// What the lint found, by table.
fn lint(lint: &LintReport) -> Value {
    let table = |table: &TableLint| {
        let rows = table.rows.iter();
        let rows: Value = rows
            .map(|(effect, rows)| json!({"effect": effect.as_str(), "rows": rows}))
            .collect();
        let kinds = table.kinds.iter();
        let kinds: Value = kinds
            .map(|(kind, count)| json!({"kind": kind, "count": count}))
            .collect();
        json!({"table": table.table, "rows": rows, "kinds": kinds})
    };
    lint.tables.iter().map(table).collect()
}

pub fn end(end: &End) -> Value {
    let metadata = end.metadata.as_ref().map(|database| {
        json!({
            "driver": database.driver,
            "place": database.place,
            "identity": database.identity,
            "engine_version": database.engine_version,
            "schema_versions": database.schema_versions,
        })
    });
    let data = end
        .data
        .as_ref()
        .map(|data| json!({"driver": data.driver, "place": data.place, "identity": data.identity}));
    json!({"metadata": metadata, "data": data})
}

pub fn table(report: &TableReport) -> Value {
    json!({
        "table": report.table,
        "copied": report.rows.copied,
        "present": report.rows.present,
        "conflicts": report.rows.conflicts,
        "updated": report.rows.updated,
        "deleted": report.rows.deleted,
        "failed": report.rows.failed,
        "extra": report.extra,
        "proof": report.proof.as_ref().map(proof),
    })
}

/// What the check at the end saw of a table.
fn proof(proof: &TableProof) -> Value {
    let content = |side: &TableContent| json!({"rows": side.rows, "digest": side.digest});
    json!({
        "from": content(&proof.source),
        "to": content(&proof.target),
        "rejected": proof.rejected,
    })
}

pub fn blobs(report: &BlobReport) -> Value {
    json!({
        "copied": report.copied,
        "present": report.present,
        "skipped": report.skipped,
        "failed": report.failed,
        "deleted": report.deleted,
        "bytes": report.bytes,
    })
}

pub fn file_state(report: &StatusReport) -> Value {
    json!({"status": report.status, "files": report.files, "bytes": report.bytes})
}

/// What a run that came to its end has to show.
pub fn summary(summary: &Summary) -> Value {
    let (tables, reported, states) = summary.parts();
    json!({
        "tables": tables.iter().map(table).collect::<Value>(),
        "blobs": reported.map(blobs),
        "files": states.iter().map(file_state).collect::<Value>(),
        "lint": lint(summary.lint()),
    })
}

/// How the run ended: the fields `exit_code`, `error`, `hint` and `problems`.
pub fn ending(outcome: &Outcome) -> Value {
    match outcome {
        Ok(exit) => json!({
            "exit_code": exit.code(),
            "error": null,
            "hint": null,
            "problems": [],
        }),
        Err(failure) => json!({
            "exit_code": failure.exit.code(),
            "error": format!("{:#}", failure.error),
            "hint": failure.hint,
            "problems": problems(failure.error.downcast_ref()),
        }),
    }
}

/// Everything that kept the run from starting, each with what to do.
fn problems(error: Option<&MigrateError>) -> Value {
    let Some(MigrateError::Preflight(problems)) = error else {
        return json!([]);
    };
    let problem = |problem: &crate::migrate::Problem| json!({"problem": problem.explain(), "hint": problem.hint()});
    problems.iter().map(problem).collect()
}
