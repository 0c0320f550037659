//! The arguments of `plikd migrate`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::migrate::{Halves, Options};

/// Move this server's metadata and data to other backends
///
/// The source is this server's configuration, the target what FILE says differently. The source is
/// only read. Blobs are copied first, then rows, so that no row ever promises bytes that are not
/// there. Running the same command again resumes a run that was cut off, and copies only what is
/// missing.
#[derive(Debug, clap::Args)]
pub struct MigrateArgs {
    /// Configuration of the target, laid over the one of this server
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,

    /// Move the rows only: users, tokens, uploads, files, settings
    #[arg(long, conflicts_with = "data_only")]
    metadata_only: bool,

    /// Move the bytes of files only
    #[arg(long)]
    data_only: bool,

    /// Blobs copied at the same time
    #[arg(long, value_name = "N", default_value = "4")]
    workers: NonZeroUsize,

    /// Check both sides and show what would be done, without writing anything anywhere
    #[arg(long)]
    pub dry_run: bool,

    /// Carry on past rows and blobs that cannot be copied; each is named, the exit code is 20
    #[arg(long)]
    ignore_errors: bool,

    /// With --dry-run, list every row and blob
    #[arg(long, short, requires = "dry_run")]
    pub verbose: bool,

    /// Write what happens to standard output as it happens, one JSON object per line
    #[arg(long)]
    pub json: bool,

    /// Write a report of the run to FILE, as JSON, also if it fails
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

impl MigrateArgs {
    fn halves(&self) -> Halves {
        match (self.metadata_only, self.data_only) {
            (true, _) => Halves::MetadataOnly,
            (_, true) => Halves::DataOnly,
            _ => Halves::Both,
        }
    }

    pub fn options(&self) -> Options {
        Options {
            halves: self.halves(),
            workers: self.workers,
            ignore_errors: self.ignore_errors,
        }
    }
}
