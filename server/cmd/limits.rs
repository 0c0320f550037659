//! How many connections fit into what the operating system lets this process open.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::debug;

/// However many files may be open, each connection costs memory.
const MAX_CONNECTIONS: u64 = 4096;
/// Database, log, libraries.
const OTHER_FILES: u64 = 64;
/// A transfer has a socket, and a file or another socket.
const FILES_PER_CONNECTION: u64 = 2;

/// The number of connections that can be served at a time. Raises the number of files that may be
/// open as far as this process may do so itself.
pub fn max_connections() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum;
    if limit.current != allowed {
        let before = limit.current;
        limit.current = allowed;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            debug!(%error, "unable to raise the number of open files");
            limit.current = before;
        }
    }
    connections_for(limit.current)
}

/// Connections for that many open files; `None` is any number.
fn connections_for(files: Option<u64>) -> usize {
    let connections = files.map_or(MAX_CONNECTIONS, |files| {
        files.saturating_sub(OTHER_FILES) / FILES_PER_CONNECTION
    });
    // At most MAX_CONNECTIONS, which fits.
    connections.clamp(1, MAX_CONNECTIONS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(connections_for(None), 4096);
        assert_eq!(connections_for(Some(1 << 20)), 4096);
        assert_eq!(connections_for(Some(1024)), 480);
        assert_eq!(connections_for(Some(0)), 1);
    }
}
