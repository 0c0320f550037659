//! SIGINT, SIGTERM and SIGHUP as tokens: the first signal asks to stop, the second insists.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// A signal that ends the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, as from Ctrl-C.
    Interrupt,
    /// SIGTERM, as from a service manager.
    Terminate,
    /// SIGHUP, as from a terminal or a connection that goes away.
    HangUp,
}

impl Signal {
    /// What a shell expects of a program that this signal ended: 130, 143 or 129.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::HangUp => 129,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
        }
    }
}

/// The wish of the administrator that this process ends, as signals tell it.
#[derive(Debug)]
pub struct Shutdown {
    /// Cancelled by the first signal: take no new work, finish what is in hand.
    pub ask: CancellationToken,
    /// Cancelled by a further SIGINT or SIGTERM: drop what is in hand. A further SIGHUP is of the
    /// same cause as the first, since the terminal and the shell both send one.
    pub insist: CancellationToken,
    first: Arc<OnceLock<Signal>>,
    _task: AbortOnDropHandle<()>,
}

impl Shutdown {
    /// The first signal, if one came.
    pub fn signal(&self) -> Option<Signal> {
        self.first.get().copied()
    }

    /// The exit code of the first signal, if one came.
    pub fn exit_code(&self) -> Option<u8> {
        self.signal().map(Signal::exit_code)
    }
}

/// Takes SIGINT and SIGTERM over from the operating system, which would end the process at once.
///
/// They stay taken over when the result is dropped: keep it until the process ends. Must be called
/// within a runtime; one task waits for the signals, and ends with the result.
///
/// # Errors
///
/// When the operating system refuses.
pub fn listen() -> io::Result<Shutdown> {
    listen_to(None)
}

/// The same for SIGHUP too, unless the program was started so that it ignores it, as by `nohup`.
///
/// # Errors
///
/// As [`listen`].
pub fn listen_and_hang_up() -> io::Result<Shutdown> {
    match ignores_hangups() {
        true => listen(),
        false => listen_to(Some(signal(SignalKind::hangup())?)),
    }
}

/// Whether this process ignores SIGHUP. Where nobody tells, it is taken not to.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // One bit for each signal, of which SIGHUP is the first.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

fn listen_to(hangup: Option<Stream>) -> io::Result<Shutdown> {
    let signals = Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        hangup,
    };
    let (ask, insist) = (CancellationToken::new(), CancellationToken::new());
    let first = Arc::new(OnceLock::new());
    let task = tokio::spawn(forward(
        signals,
        ask.clone(),
        insist.clone(),
        Arc::clone(&first),
    ));
    Ok(Shutdown {
        ask,
        insist,
        first,
        _task: AbortOnDropHandle::new(task),
    })
}

/// SIGHUP, which asks to read a file again.
pub struct Hangups(Stream);

impl Hangups {
    /// Waits for the next one. `false` if none can come any more.
    pub async fn next(&mut self) -> bool {
        self.0.recv().await.is_some()
    }
}

/// Takes SIGHUP over from the operating system, which would end the process; for ever, as
/// [`listen`] does.
///
/// # Errors
///
/// When the operating system refuses.
pub fn hangups() -> io::Result<Hangups> {
    Ok(Hangups(signal(SignalKind::hangup())?))
}

async fn forward(
    mut signals: Signals,
    ask: CancellationToken,
    insist: CancellationToken,
    first: Arc<OnceLock<Signal>>,
) {
    let signal = signals.next().await;
    // Before the token, so that whoever sees the token sees the signal.
    first.get_or_init(|| signal);
    ask.cancel();
    while signals.next().await == Signal::HangUp {}
    insist.cancel();
}

struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hangup: Option<Stream>,
}

impl Signals {
    async fn next(&mut self) -> Signal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = hangup => Signal::HangUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    /// Signals reach the whole process, so one test sends them all, in turn.
    #[tokio::test]
    async fn the_first_signal_asks_and_the_second_insists() {
        for (first, second, code) in [
            ("INT", "TERM", 130),
            ("TERM", "TERM", 143),
            ("HUP", "INT", 129),
        ] {
            let shutdown = listen_and_hang_up().unwrap();
            assert_eq!((shutdown.signal(), shutdown.exit_code()), (None, None));

            send(first);
            arrives(&shutdown.ask).await;
            assert_eq!(shutdown.exit_code(), Some(code));
            send("HUP");
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(!shutdown.insist.is_cancelled());

            send(second);
            arrives(&shutdown.insist).await;
            assert_eq!(shutdown.exit_code(), Some(code), "the first signal decides");
        }
    }

    fn send(signal: &str) {
        // The shell's own `kill`, which is there even where no program of that name is.
        let command = format!("kill -s {signal} {}", std::process::id());
        let sent = Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(sent.success());
    }

    async fn arrives(token: &CancellationToken) {
        let waiting = tokio::time::timeout(Duration::from_secs(10), token.cancelled());
        waiting.await.unwrap();
    }
}
