//! What a migration is and did, as JSON: the words of `--json` and of `--report`.

use serde_json::{Map, Value, json};

use super::limits::LimitArgs;
use super::summary::Summary;
use crate::cmd::exit::OutcomeRef;
use crate::migrate::proof::{
    Difference, FileDifference, RowDifference, StrayBlob, TableVerdict, Verification, VerifyOptions,
};
use crate::migrate::{
    BlobReport, End, Finding, Halves, LintReport, MigrateError, Mode, Options, Preview, Report,
    Room, StatusReport, TableContent, TableLint, TableProof, TableReport,
};

/// The options that decide what a run does, and how fast it may.
pub fn options(options: &Options<'_>, limits: &LimitArgs) -> Value {
    let mode = match options.mode {
        Mode::Copy => "copy",
        Mode::Sync { delete: false } => "sync",
        Mode::Sync { delete: true } => "sync and delete",
    };
    let mut options = json!({
        "halves": halves(options.halves),
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
    });
    add(&mut options, limits.asked());
    options
}

/// The same of a verification.
pub fn verify_options(options: &VerifyOptions, limits: &LimitArgs) -> Value {
    let mut options = json!({
        "halves": halves(options.halves),
        "deep": options.deep,
        "workers": options.workers.get(),
    });
    add(&mut options, limits.asked());
    options
}

fn halves(halves: Halves) -> &'static str {
    match halves {
        Halves::Both => "both",
        Halves::MetadataOnly => "metadata",
        Halves::DataOnly => "data",
    }
}

fn add(object: &mut Value, fields: Map<String, Value>) {
    if let Value::Object(object) = object {
        object.extend(fields);
    }
}

/// A row that a verification found to differ.
pub fn row_difference(table: &str, row: &RowDifference) -> Value {
    let (columns, reason) = match &row.kind {
        Difference::Different(columns) => (columns.as_slice(), None),
        Difference::Rejected(reason) => (&[][..], Some(reason.as_str())),
        Difference::Extra(reason) => (&[][..], *reason),
        Difference::Missing => (&[][..], None),
    };
    json!({
        "table": table,
        "key": row.key,
        "standing": row.kind.as_str(),
        "columns": columns,
        "reason": reason,
    })
}

/// A blob that no row names.
pub fn stray(stray: &StrayBlob) -> Value {
    json!({"file": stray.file_id, "upload": stray.upload_id, "bytes": stray.size_bytes})
}

/// A file that a verification found to differ.
pub fn file_difference(file: &FileDifference) -> Value {
    json!({
        "file": file.file_id,
        "upload": file.upload_id,
        "standing": file.kind.as_str(),
        "from_place": file.places.from,
        "to_place": file.places.to,
        "reason": file.reason,
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
        "copied_by_store": report.copied_by_store,
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
    match summary {
        Summary::Run(report) => run(report),
        Summary::Preview(preview) => dry_run(preview),
        Summary::Plan(outlook) => dry_run(&outlook.preview),
        Summary::Verification(found) => verification(found),
    }
}

fn run(report: &Report) -> Value {
    json!({
        "tables": report.tables.iter().map(table).collect::<Value>(),
        "blobs": report.blobs.as_ref().map(blobs),
        "files": [],
        "file_states": report.files.map(|files| file_states(&files.each())),
        "equal_by_size": null,
        "strays": null,
        "lint": lint(&report.lint),
    })
}

fn dry_run(preview: &Preview) -> Value {
    json!({
        "tables": preview.tables.iter().map(table).collect::<Value>(),
        "blobs": preview.blobs.as_ref().map(blobs),
        "files": preview.statuses.iter().map(file_state).collect::<Value>(),
        "file_states": null,
        "equal_by_size": null,
        "strays": null,
        "lint": lint(&preview.lint),
    })
}

fn verification(found: &Verification) -> Value {
    let table = |table: &TableVerdict| {
        json!({
            "table": table.table,
            "missing": table.missing,
            "different": table.different,
            "extra": table.extra,
            "settled": table.settled,
            "obstacle": table.obstacle,
            "lost_columns": table.lost_columns,
            "proof": proof(&table.proof),
        })
    };
    let strays = found.files.as_ref().and_then(|files| files.strays.as_ref());
    json!({
        "tables": found.tables.iter().map(table).collect::<Value>(),
        "blobs": null,
        "files": null,
        "file_states": found.files.as_ref().map(|files| file_states(&files.states())),
        "equal_by_size": found.files.as_ref().map(|files| files.by_size),
        "strays": strays.map(|strays| json!({"blobs": strays.blobs, "bytes": strays.bytes})),
        "lint": null,
    })
}

fn file_states(states: &[(&str, u64)]) -> Value {
    let states = states.iter();
    states
        .map(|(state, files)| json!({"state": state, "files": files}))
        .collect()
}

/// How the run ended: the fields `exit_code`, `error`, `hint` and `problems`.
pub fn ending(outcome: OutcomeRef<'_>) -> Value {
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
