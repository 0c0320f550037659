//! How fast plikd migrates, beside other programs that move the same rows and blobs.
//!
//! `make bench` runs it, with a PostgreSQL and an S3 server of its own. Each workload is done by
//! plikd and by whoever else is there, in turn, each time from the same state, and what each left
//! behind is counted before its figures are taken.

mod blobs;
mod contest;
mod import;
mod machine;
mod measure;
mod places;
mod rows;
mod table;

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use contest::{Contest, Standing};
use places::Stage;

/// Measure migrations, beside other programs where they are installed
#[derive(Debug, Parser)]
struct Args {
    /// Size of the workloads: 1 is 1.1 million rows, 5,000 small blobs, 4 blobs of 256 MiB
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    scale: f64,
    /// How often each program does each workload
    #[arg(long, value_name = "N", default_value = "3")]
    rounds: NonZeroUsize,
    /// Blobs in flight, for every program
    #[arg(long, value_name = "N", default_value = "4")]
    workers: NonZeroUsize,
    /// Only workloads whose name has this in it
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Where the other programs are, if not in PATH
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
    /// Where the results go, as Markdown
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Cargo says so to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(
        args.scale > 0.0 && args.scale <= 100.0,
        "--scale is a number above 0, at most 100"
    );
    let stage = Stage::new(args.scale, args.workers, args.tools.as_deref())?;
    let mut standings = Vec::new();
    for (name, contest) in workloads() {
        if args.only.as_deref().is_none_or(|only| name.contains(only)) {
            standings.extend(measure(&stage, name, contest, args.rounds)?);
        }
    }
    ensure!(!standings.is_empty(), "no workload has such a name");
    let text = table::markdown(
        &machine::describe(&stage)?,
        &args_in_words(&args),
        &standings,
    )?;
    println!("{text}");
    fs::write(&args.output, text).with_context(|| args.output.display().to_string())?;
    stage.end()
}

/// Sets up one workload; `None` if this plikd cannot do it.
type Workload = for<'a> fn(&'a Stage) -> Result<Option<Contest<'a>>>;

fn workloads() -> Vec<(&'static str, Workload)> {
    vec![
        ("rows: SQLite to PostgreSQL", rows::sqlite_to_postgres),
        ("rows: PostgreSQL to SQLite", rows::postgres_to_sqlite),
        ("rows: PostgreSQL to PostgreSQL", rows::postgres_to_postgres),
        ("rows: SQLite to SQLite", rows::sqlite_to_sqlite),
        ("rows: verify, nothing changed", rows::verify),
        ("small blobs: local to S3", blobs::small_to_s3),
        ("small blobs: S3 to local", blobs::small_to_local),
        ("small blobs: S3 to S3", blobs::small_inside_s3),
        ("large blobs: local to S3", blobs::large_to_s3),
        ("large blobs: S3 to local", blobs::large_to_local),
        ("large blobs: S3 to S3", blobs::large_inside_s3),
    ]
}

fn measure(
    stage: &Stage,
    name: &'static str,
    workload: Workload,
    rounds: NonZeroUsize,
) -> Result<Option<Standing>> {
    eprintln!("{name}");
    let contest = workload(stage).with_context(|| format!("{name}: cannot be set up"))?;
    let Some(contest) = contest else {
        eprintln!("  left out: this plikd has no such command");
        return Ok(None);
    };
    contest.run(name, rounds).map(Some)
}

fn args_in_words(args: &Args) -> String {
    format!(
        "scale {}, rounds {}, workers {}",
        args.scale, args.rounds, args.workers
    )
}
