//! What the figures were measured on.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::places::Stage;

/// Processor, memory, file system and the programs with their versions, in a line.
pub fn describe(stage: &Stage) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
        .map_or_else(String::new, |kib| format!(", {} GiB", kib >> 20));
    Ok(format!(
        "{cores} × {processor}{memory}, {}, PostgreSQL {}{}",
        file_system(stage),
        stage.postgres_version()?,
        versions(stage),
    ))
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The file system that the databases and blobs are on.
fn file_system(stage: &Stage) -> String {
    let asked = Command::new("stat")
        .args(["--file-system", "--format=%T"])
        .arg(stage.directory())
        .output();
    asked.map_or_else(
        |_| "unknown file system".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// Of the programs that are compared with, those that are installed.
fn versions(stage: &Stage) -> String {
    let programs = [
        ("pgloader", "--version"),
        ("s5cmd", "version"),
        ("rclone", "version"),
    ];
    let found = programs.into_iter().filter_map(|(name, option)| {
        let output = Command::new(stage.find(name)?).arg(option).output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let is_version =
            |word: &&str| word.contains('.') && word.contains(|c: char| c.is_ascii_digit());
        let version = said.split_whitespace().find(is_version)?;
        Some(format!(", {name} {}", version.trim_matches(['v', '"'])))
    });
    found.collect()
}
