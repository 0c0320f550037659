use plikd::cmd::{self, Exit};

fn main() -> Exit {
    give_large_blocks_back();
    run()
}

#[tokio::main]
async fn run() -> Exit {
    cmd::main().await
}

/// Has memory from this size on given back to the system as soon as it is freed. Values of many
/// mebibytes would otherwise stay with each thread that has ever held one, in gaps that the next one
/// does not fit into; rows in batches, and parts of blobs, which are used again, are left alone.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_large_blocks_back() {
    const LARGE_BYTES: libc::c_int = 4 << 20;
    /// What a thread may keep for its next batches: asking the system for each would take longer.
    const KEPT_BYTES: libc::c_int = 8 << 20;
    for (setting, bytes) in [
        (libc::M_MMAP_THRESHOLD, LARGE_BYTES),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES),
    ] {
        // SAFETY: it takes two numbers and changes nothing but settings of the allocator, which must
        // not happen beside another thread that allocates: there is none before the runtime is made.
        // What it does not accept it ignores.
        unsafe { libc::mallopt(setting, bytes) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_large_blocks_back() {}
