//! What a migration is and did, as JSON: the words of `--json` and of `--report`.

use serde_json::{Value, json};

use super::summary::Summary;
use crate::cmd::exit::Outcome;
use crate::migrate::{
    BlobReport, End, Halves, MigrateError, Options, StatusReport, TableContent, TableProof,
    TableReport,
};

/// The options that decide what a run does.
pub fn options(options: &Options) -> Value {
    let halves = match options.halves {
        Halves::Both => "both",
        Halves::MetadataOnly => "metadata",
        Halves::DataOnly => "data",
    };
    json!({
        "halves": halves,
        "workers": options.workers.get(),
        "ignore_errors": options.ignore_errors,
        "verify": options.verify,
    })
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
