//! How much of the processor and the disks this process wants when others want them too.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, setpriority_process};

/// The last in the queue for the processor. For the disks too: Linux derives a process's place
/// there from this number, unless it was told another one.
const LOWEST: i32 = 19;

/// Lets every other program go first. It cannot be taken back: the operating system lets nobody
/// but root raise a priority again.
///
/// # Errors
///
/// When the operating system refuses.
pub fn lower_priority() -> io::Result<()> {
    // Linux keeps a priority for each thread. New ones inherit that of the one that starts them.
    for thread in fs::read_dir("/proc/self/task")? {
        let id = thread?.file_name();
        let id = id.to_str().and_then(|id| id.parse().ok());
        if let Some(thread) = id.and_then(Pid::from_raw) {
            match setpriority_process(Some(thread), LOWEST) {
                // It has ended meanwhile.
                Err(Errno::SRCH) => {}
                result => result?,
            }
        }
    }
    Ok(())
}
