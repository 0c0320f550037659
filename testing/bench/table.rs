//! The results as Markdown.

use std::fmt::Write;

use anyhow::{Context, Result};

use crate::contest::{Amount, Standing};
use crate::measure::{Usage, median};

const HEAD: &str = "\
| Work | Program | Time | CPU | Memory | Rate | plikd's time | plikd's CPU |
|---|---|--:|--:|--:|--:|--:|--:|
";

/// One table of everything: medians, and of each pair of runs the ratio.
///
/// # Errors
///
/// A standing is without plikd.
pub fn markdown(machine: &str, how: &str, standings: &[Standing]) -> Result<String> {
    let mut text = format!("{machine}; {how}\n\n{HEAD}");
    for standing in standings {
        let plikd = standing
            .results
            .first()
            .and_then(|(_, runs)| runs.as_ref().ok());
        let plikd = plikd.context("plikd has no result")?;
        for (index, (name, runs)) in standing.results.iter().enumerate() {
            let work = if index == 0 { standing.work } else { "" };
            let cells = match runs {
                Ok(runs) => cells(standing.amount, plikd, runs, index > 0),
                Err(error) => format!("failed: {} | | | | | ", first_line(error)),
            };
            writeln!(text, "| {work} | {name} | {cells} |")?;
        }
    }
    Ok(text)
}

fn cells(amount: Amount, plikd: &[Usage], runs: &[Usage], is_other: bool) -> String {
    let wall = |usage: &Usage| usage.wall.as_secs_f64();
    let cpu = |usage: &Usage| usage.cpu.as_secs_f64();
    let seconds = median(runs.iter().map(wall));
    let memory = median(runs.iter().map(|usage| usage.memory_bytes as f64));
    let ratio = |of: fn(&Usage) -> f64| {
        let pairs = plikd.iter().zip(runs);
        let ratio = median(pairs.map(|(plikd, other)| of(plikd) / of(other)));
        if is_other && ratio.is_finite() {
            format!("× {ratio:.2}")
        } else {
            String::new()
        }
    };
    format!(
        "{seconds:.2} s | {:.2} s | {:.0} MiB | {} | {} | {}",
        median(runs.iter().map(cpu)),
        memory / f64::from(1 << 20),
        rate(amount, seconds),
        ratio(|usage| usage.wall.as_secs_f64()),
        ratio(|usage| usage.cpu.as_secs_f64()),
    )
}

fn rate(amount: Amount, seconds: f64) -> String {
    match amount {
        Amount::Rows(rows) => format!("{:.0}k rows/s", rows as f64 / seconds / 1e3),
        Amount::Blobs(blobs) => format!("{:.0} blobs/s", blobs as f64 / seconds),
        Amount::Bytes(bytes) => {
            let mebibytes = bytes as f64 / f64::from(1 << 20);
            format!("{:.0} MiB/s", mebibytes / seconds)
        }
    }
}

/// What fits into a cell.
fn first_line(error: &anyhow::Error) -> String {
    const MAX_CHARS: usize = 100;
    let text = format!("{error:#}").replace('|', "/");
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(MAX_CHARS).collect()
}
