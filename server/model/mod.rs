//! What a server holds: uploads, their files, and the rules about them.
//!
//! Nothing here does I/O; clock and randomness are passed in.

mod details;
mod file;
pub mod id;
mod shard;
mod status;
pub mod time;
mod upload;

pub use details::BackendDetails;
pub use file::File;
pub use jiff::Timestamp;
pub use shard::{BadShard, Shard};
pub use status::FileStatus;
pub use upload::Upload;
