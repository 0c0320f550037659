//! What one run of a program cost.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a program used, with everything that it started and waited for.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub wall: Duration,
    /// In user and kernel mode together.
    pub cpu: Duration,
    /// The most that any one process had resident. Never below what this program had when it
    /// started the other: the kernel counts from there.
    pub memory_bytes: u64,
}

/// Runs a program to its end. What it says goes to `log`.
///
/// # Errors
///
/// It cannot be started, or it does not succeed: then with the end of what it said.
pub fn run(command: &mut Command, log: &Path) -> Result<Usage> {
    let said = File::create(log).with_context(|| log.display().to_string())?;
    command
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said);
    let program = Path::new(command.get_program()).file_name();
    let program = program.unwrap_or_default().to_string_lossy().into_owned();
    let start = Instant::now();
    // Not waited for by its handle, which would throw the figures away.
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let (status, used) = wait(child.id())?;
    let wall = start.elapsed();
    if !status.success() {
        bail!("{program} ended with {status}:\n{}", end_of(log)?);
    }
    Ok(Usage {
        wall,
        cpu: duration(used.ru_utime)? + duration(used.ru_stime)?,
        memory_bytes: u64::try_from(used.ru_maxrss)? * 1024,
    })
}

fn wait(pid: u32) -> Result<(ExitStatus, libc::rusage)> {
    let pid = libc::pid_t::try_from(pid)?;
    let mut status = 0;
    let mut used = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to live, writable places of the types that `wait4` fills.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, used.as_mut_ptr()) };
        if waited == pid {
            // SAFETY: `rusage` is plain numbers, for which the zeros it began with are values too.
            let used = unsafe { used.assume_init() };
            return Ok((ExitStatus::from_raw(status), used));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error).context("cannot wait for a program");
        }
    }
}

fn duration(time: libc::timeval) -> Result<Duration> {
    let micros = u64::try_from(time.tv_usec)?;
    Ok(Duration::from_secs(u64::try_from(time.tv_sec)?) + Duration::from_micros(micros))
}

/// Enough of what a program said to see why it failed.
pub fn end_of(log: &Path) -> Result<String> {
    const LINES: usize = 5;
    let said = std::fs::read(log)?;
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    Ok(lines[lines.len().saturating_sub(LINES)..].join("\n"))
}

/// The value in the middle; of an even number, the mean of both.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => f64::NAN,
        (middle, 1) => values[middle],
        (middle, _) => f64::midpoint(values[middle - 1], values[middle]),
    }
}
