//! `plikd fakedb`: makes up a server.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::exit::{Exit, Failure, Outcome};
use crate::config::size;
use crate::fakedb::{self, Counts, FakedbError, Order, PASSWORD, Recipe, Shares, Totals};

/// The moment that a made-up server is seen at, so that every run makes the same one.
const EPOCH: Timestamp = Timestamp::constant(1_767_225_600, 0); // 2026-01-01T00:00:00Z

/// Make up a server: a SQLite database full of rows, and on request the bytes of its files
///
/// For trying out a migration on something of the size of the real server. The same options make
/// the same server on any machine in the same time zone. Shares are averages.
#[derive(Debug, clap::Args)]
pub struct FakedbArgs {
    /// Users, besides the administrator `admin`
    #[arg(long, value_name = "N", default_value_t = 1000)]
    users: u64,
    /// Tokens of each user
    #[arg(long, value_name = "N", default_value_t = 5)]
    tokens: u64,
    /// Uploads of each user
    #[arg(long, value_name = "N", default_value_t = 100)]
    uploads: u64,
    /// Files of each upload
    #[arg(long, value_name = "N", default_value_t = 10)]
    files: u64,
    /// Uploads without a user
    #[arg(long, value_name = "N", default_value_t = 100)]
    anon_uploads: u64,
    /// The database to create
    #[arg(long, value_name = "FILE", default_value = "/tmp/test-plik.db")]
    output: PathBuf,
    /// Also make the files' bytes, in this directory
    ///
    /// The MD5 of a file is that of its bytes only with this; without, it is made up.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Size of a file: `64KiB`, or a range such as `0..8MiB`, both ends included
    #[arg(long, value_name = "SIZE", default_value = "0..64KiB")]
    file_size: FileSize,
    /// Another number makes another server
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Files that are removed, their bytes still there, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 2, value_parser = percent())]
    removed: u8,
    /// Files that were announced and never came, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 2, value_parser = percent())]
    missing: u8,
    /// Files whose transfer was cut, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 1, value_parser = percent())]
    uploading: u8,
    /// Files whose bytes are deleted, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 2, value_parser = percent())]
    deleted: u8,
    /// Uploads that are removed and not yet purged, in percent; their files are removed or deleted
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = percent())]
    soft_deleted: u8,
    /// Uploads that were streamed, in percent; their files are deleted
    #[arg(long, value_name = "PERCENT", default_value_t = 1, value_parser = percent())]
    streamed: u8,
    /// Rows as an old release left them, with NULL in later columns, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 1, value_parser = percent())]
    legacy: u8,
    /// See the server at this moment, not at 2026-01-01T00:00:00Z
    ///
    /// What has a time to live has not expired then, so a server started on the database keeps it.
    #[arg(long)]
    now: bool,
    /// Replace the database, and write into a directory that is not empty; nothing else in that
    /// directory is touched
    #[arg(long)]
    force: bool,
}

fn percent() -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(0..=100)
}

/// Bytes, from the least to the most.
#[derive(Clone, Debug)]
struct FileSize(RangeInclusive<u64>);

impl FromStr for FileSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let range = bytes(least)?..=bytes(most)?;
        if range.is_empty() {
            return Err(format!("`{least}` is more than `{most}`"));
        }
        Ok(Self(range))
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let bytes = size::parse(text.trim()).map_err(|error| error.to_string())?;
    u64::try_from(bytes).map_err(|_| "a file has a size; it cannot be unlimited".to_owned())
}

impl FakedbArgs {
    fn order(self) -> Order {
        let now = if self.now {
            // Microseconds are what PostgreSQL keeps.
            Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap_or(EPOCH)
        } else {
            EPOCH
        };
        Order {
            recipe: Recipe {
                seed: self.seed,
                counts: Counts {
                    users: self.users,
                    tokens_per_user: self.tokens,
                    uploads_per_user: self.uploads,
                    files_per_upload: self.files,
                    anonymous_uploads: self.anon_uploads,
                },
                shares: Shares {
                    removed: self.removed,
                    missing: self.missing,
                    uploading: self.uploading,
                    deleted: self.deleted,
                    soft_deleted: self.soft_deleted,
                    streamed: self.streamed,
                    legacy: self.legacy,
                },
                file_size: self.file_size.0,
                now,
                zone: TimeZone::system(),
            },
            output: self.output,
            data: self.data,
            force: self.force,
        }
    }
}

/// Makes the server and says how to start it.
pub async fn run(args: FakedbArgs) -> Outcome {
    let started = Instant::now();
    let making = tokio::task::spawn_blocking(|| {
        let order = args.order();
        fakedb::make(&order).map(|totals| (order, totals))
    });
    let (order, totals) = making.await.context("cannot make up a server")??;
    let seconds = started.elapsed().as_secs_f64();
    println!("{}", report(&order, &totals, seconds));
    Ok(Exit::Done)
}

impl From<FakedbError> for Failure {
    fn from(error: FakedbError) -> Self {
        let exit = match &error {
            FakedbError::Options(_) => Exit::Usage,
            FakedbError::Metadata(error) => Exit::from(error),
            _ => Exit::Failed,
        };
        let hint = error.hint();
        Self::new(exit, error).with_hint(hint)
    }
}

fn report(order: &Order, totals: &Totals, seconds: f64) -> String {
    let output = order.output.display();
    let mut text = format!("{output}: {} in {seconds:.1} s\n", order.recipe.counts);
    let Totals { blobs, blob_bytes } = totals;
    let settings = match &order.data {
        Some(data) => {
            text += &format!("{}: {blobs} blobs, {blob_bytes} bytes\n", data.display());
            format!(
                "{} \\\n    {} \\\n    ",
                setting("METADATA_BACKEND_CONFIG", "ConnectionString", &order.output),
                setting("DATA_BACKEND_CONFIG", "Directory", data)
            )
        }
        None => {
            text += &format!("no blobs; {blobs} files have a status that promises one\n");
            let database = setting("METADATA_BACKEND_CONFIG", "ConnectionString", &order.output);
            format!("{database} \\\n    ")
        }
    };
    text + &format!(
        "\nThe administrator is `admin`, password `{PASSWORD}`. To start a server on it:\n\n    \
         {settings}plikd"
    )
}

/// One member of a backend's configuration, as an assignment for the shell.
fn setting(variable: &str, member: &str, path: &Path) -> String {
    let json = serde_json::json!({ member: path.to_string_lossy() }).to_string();
    format!("PLIKD_{variable}='{}'", json.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::metadata::MetadataError;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: FakedbArgs,
    }

    fn order(args: &[&str]) -> Result<Order, clap::Error> {
        let args = ["fakedb"].iter().chain(args);
        Cli::try_parse_from(args).map(|cli| cli.args.order())
    }

    #[test]
    fn a_size_is_one_or_a_range() {
        let size = |text: &str| order(&["--file-size", text]).unwrap().recipe.file_size;
        assert_eq!(size("64KiB"), 65536..=65536);
        assert_eq!(size("0..8MiB"), 0..=8 << 20);
        assert_eq!(size("1kB .. 2kB"), 1000..=2000);
        for wrong in [
            "",
            "2..1",
            "..",
            "1..",
            "unlimited",
            "-1",
            "1..2..3",
            "9EB..10EB",
        ] {
            assert!(order(&["--file-size", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_are_percentages() {
        assert_eq!(
            order(&["--removed", "100"]).unwrap().recipe.shares.removed,
            100
        );
        assert!(order(&["--removed", "101"]).is_err());
        assert!(order(&["--removed", "-1"]).is_err());
    }

    #[test]
    fn the_same_server_is_made_unless_asked_for_now() {
        assert_eq!(order(&[]).unwrap().recipe.now, EPOCH);
        assert_eq!(EPOCH.to_string(), "2026-01-01T00:00:00Z");
        let now = order(&["--now"]).unwrap().recipe.now;
        assert!(now > EPOCH);
        assert_eq!(now.subsec_nanosecond() % 1000, 0);
    }

    #[test]
    fn a_database_in_use_has_the_exit_code_of_every_command() {
        let in_use = MetadataError::InUse {
            backend: "sqlite plik.db".to_owned(),
            by: "a server".to_owned(),
        };
        let failure = Failure::from(FakedbError::from(in_use));
        assert_eq!(failure.exit, Exit::InUse);
        assert_eq!(failure.hint.as_deref(), Some("stop it first"));
    }

    #[test]
    fn the_report_is_safe_to_paste_into_a_shell() {
        let mut order = order(&["--users", "1", "--output", "it's.db"]).unwrap();
        assert!(report(&order, &Totals::default(), 1.0).ends_with(
            r#"PLIKD_METADATA_BACKEND_CONFIG='{"ConnectionString":"it'\''s.db"}' \
    plikd"#
        ));
        order.data = Some(PathBuf::from("blobs"));
        assert!(
            report(&order, &Totals::default(), 1.0)
                .contains(r#"PLIKD_DATA_BACKEND_CONFIG='{"Directory":"blobs"}'"#)
        );
    }
}
