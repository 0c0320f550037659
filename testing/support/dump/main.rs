//! Prints what a server's backends hold, one line per row or blob, so that two can be compared
//! with `diff`. Shares no code with what it checks, but for the reading of times.
//!
//! ```text
//! dump rows  FILE.db | postgres://…           one line per row of every migrated table
//! dump blobs DIRECTORY | http://K:S@host:port/bucket/prefix    file id, size and MD5 of every blob
//! ```
//!
//! Times are instants in microseconds, the precision of PostgreSQL, so that databases of both
//! kinds compare. The order of the lines is that of the backend: sort them.

mod blobs;
mod rows;

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

#[derive(Debug, Parser)]
enum Command {
    /// One line per row: the table, then its columns by name
    Rows(RowsArgs),
    /// One line per blob: file id, size, MD5
    Blobs(BlobsArgs),
}

#[derive(Debug, clap::Args)]
struct RowsArgs {
    /// A SQLite file, or the URL of a PostgreSQL database
    database: String,
    /// Leave this column out, as `table.column`
    #[arg(long, value_name = "COLUMN")]
    without: Vec<String>,
    /// Print SQLite's times as the text they are
    #[arg(long)]
    times_as_stored: bool,
}

#[derive(Debug, clap::Args)]
struct BlobsArgs {
    /// A directory, or the URL of an S3 bucket with credentials
    place: String,
    /// The database whose rows hold the keys of encrypted blobs
    #[arg(long, value_name = "DATABASE")]
    keys: Option<String>,
    /// What an object's name must start with
    #[arg(long, default_value = "")]
    prefix: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match Command::parse() {
        Command::Rows(args) => {
            let options = rows::Options {
                without: args.without,
                times_as_stored: args.times_as_stored,
            };
            rows::write(&args.database, &options, &mut out).await?;
        }
        Command::Blobs(args) => match args.place.starts_with("http://") {
            true => {
                let keys = args.keys.as_deref();
                blobs::write_bucket(&args.place, &args.prefix, keys, &mut out).await?;
            }
            false => blobs::write_directory(&PathBuf::from(args.place), &mut out)?,
        },
    }
    Ok(out.flush()?)
}
