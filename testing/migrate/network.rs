//! Networks and S3 servers that fail in the middle: a run ends as if nothing had been, or says
//! what is wrong; nothing half-written is visible, and the same command completes it.

use std::fs;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::own_s3::OwnS3;
use crate::places::{Database, Store};
use crate::properties::setting;
use crate::proxy::Direction::{self, ToClient, ToServer};
use crate::proxy::{Fault, Moment, Planned, Proxy};
use crate::scene::{Run, Scene, Server, finish, run, signal, wait_until};

/// Blobs that are much larger than the requests around them.
const BLOBS: &[&str] = &[
    "--users=1",
    "--tokens=1",
    "--uploads=3",
    "--files=5",
    "--anon-uploads=0",
    "--file-size=20..40KiB",
];
const ROWS: &[&str] = &[
    "--users=5",
    "--tokens=3",
    "--uploads=40",
    "--files=5",
    "--anon-uploads=0",
    "--file-size=0",
];

/// In how many places of what passes a fault is tried, unless `PLIKD_SOAK_PLACES` says otherwise.
const PLACES: u64 = 3;

/// A move from one server to another, one end of which is behind a proxy.
struct Crossing {
    scene: Scene,
    from: Server,
    to: Server,
    /// The end behind the proxy, and its address.
    behind: Behind,
    address: String,
    half: &'static str,
}

/// Makes the same crossing anew.
type Prepare = fn() -> Result<Crossing>;

#[derive(Clone, Copy)]
enum Behind {
    From,
    To,
}

impl Crossing {
    fn to_postgres() -> Result<Self> {
        let scene = Scene::new()?;
        let from = scene.made_up("from", ROWS)?;
        let to = scene.server("to", Database::postgres()?, directory(&scene, "to"))?;
        Self::of_rows(scene, from, to, Behind::To)
    }

    fn from_postgres() -> Result<Self> {
        let scene = Scene::new()?;
        let origin = scene.made_up("origin", ROWS)?;
        let from = scene.server("from", Database::postgres()?, directory(&scene, "from"))?;
        scene
            .migrate(&origin, &from, &["--metadata-only"])?
            .expect(0)?;
        let to = scene.local("to")?;
        Self::of_rows(scene, from, to, Behind::From)
    }

    fn of_rows(scene: Scene, from: Server, to: Server, behind: Behind) -> Result<Self> {
        let url = match behind {
            Behind::From => from.database.url(),
            Behind::To => to.database.url(),
        };
        let (_, place) = url.split_once('@').context("a URL with a password")?;
        let (address, _) = place.split_once('/').context("a URL with a database")?;
        Ok(Self {
            address: address.to_owned(),
            scene,
            from,
            to,
            behind,
            half: "--metadata-only",
        })
    }

    fn to_s3() -> Result<Self> {
        let scene = Scene::new()?;
        let from = scene.made_up("from", BLOBS)?;
        let to = scene.server("to", database(&scene, "to"), Store::bucket()?)?;
        Self::of_blobs(scene, from, to, Behind::To)
    }

    fn from_s3() -> Result<Self> {
        let scene = Scene::new()?;
        let origin = scene.made_up("origin", BLOBS)?;
        let from = scene.server("from", database(&scene, "from"), Store::bucket()?)?;
        scene.migrate(&origin, &from, &[])?.expect(0)?;
        let to = scene.local("to")?;
        Self::of_blobs(scene, from, to, Behind::From)
    }

    fn of_blobs(scene: Scene, from: Server, to: Server, behind: Behind) -> Result<Self> {
        let store = match behind {
            Behind::From => &from.store,
            Behind::To => &to.store,
        };
        let Store::Bucket { server, .. } = store else {
            anyhow::bail!("no bucket is behind the proxy")
        };
        let (_, address) = server.split_once('@').context("a URL with keys")?;
        Ok(Self {
            address: address.to_owned(),
            scene,
            from,
            to,
            behind,
            half: "",
        })
    }

    /// Both configurations, with the proxy in the place of the server behind it.
    fn configs(&self, proxy: &Proxy) -> Result<(PathBuf, PathBuf)> {
        let through = |server: &Server| {
            let text = fs::read_to_string(&server.config)?;
            ensure!(
                text.contains(&self.address),
                "no {} in {text}",
                self.address
            );
            let text = text.replace(&self.address, &proxy.address());
            self.scene.write("through.cfg", &text)
        };
        let (from, to) = (self.from.config.clone(), self.to.config.clone());
        Ok(match self.behind {
            Behind::From => (through(&self.from)?, to),
            Behind::To => (from, through(&self.to)?),
        })
    }

    fn options(&self) -> Vec<&str> {
        [self.half]
            .into_iter()
            .filter(|half| !half.is_empty())
            .collect()
    }

    fn migrate(&self, proxy: &Proxy) -> Result<Run> {
        let (from, to) = self.configs(proxy)?;
        run(self.scene.migration(&from, &to, &self.options()))
    }

    fn assert_equal(&self) -> Result<()> {
        assert_equal(&self.from, &self.to, self.half.is_empty())
    }

    fn assert_nothing_half_written(&self) -> Result<()> {
        assert_nothing_half_written(&self.from, &self.to, self.half.is_empty())
    }
}

fn directory(scene: &Scene, name: &str) -> Store {
    Store::Directory(scene.path(&format!("{name}.files")))
}

fn database(scene: &Scene, name: &str) -> Database {
    Database::Sqlite(scene.path(&format!("{name}.db")))
}

fn assert_equal(from: &Server, to: &Server, blobs: bool) -> Result<()> {
    assert_eq!(from.database.rows()?, to.database.rows()?);
    if blobs {
        let expected = from.store.blobs(&from.database)?;
        assert_eq!(expected, to.store.blobs(&to.database)?);
    }
    Ok(())
}

/// What can be seen at the target is the source's, whole, and no row lacks its bytes.
fn assert_nothing_half_written(from: &Server, to: &Server, blobs: bool) -> Result<()> {
    // A target without tables or a bucket yet shows nothing.
    let rows = to.database.count("files").unwrap_or(0);
    if blobs {
        let expected = from.store.blobs(&from.database)?;
        let found = to.store.blobs(&from.database).unwrap_or_default();
        let strange: Vec<_> = found.difference(&expected).collect();
        ensure!(strange.is_empty(), "at the target: {strange:?}");
        ensure!(
            rows == 0 || found == expected,
            "{rows} rows of files before all blobs were there"
        );
    }
    ensure!(
        rows <= from.database.count("files")?,
        "{rows} rows of files"
    );
    Ok(())
}

/// Where faults are tried: bytes that pass in an undisturbed run, in equal steps.
fn places(prepare: Prepare, direction: Direction) -> Result<Vec<u64>> {
    let crossing = prepare()?;
    let proxy = Proxy::start(&crossing.address, &[])?;
    crossing.migrate(&proxy)?.expect(0)?;
    crossing.assert_equal()?;
    let bytes = NonZeroU64::new(proxy.passed(direction)).context("nothing passed the proxy")?;
    let places = setting("PLIKD_SOAK_PLACES", PLACES)?;
    // Not the very end: a run may leave without having read the last of what it is sent.
    Ok((0..places)
        .map(|place| bytes.get() * 9 / 10 * place / places)
        .collect())
}

/// Plays the move once for each place, with the next of the faults there. One of the runs at least
/// comes to say what the manual says of such faults.
fn survives(prepare: Prepare, direction: Direction, faults: &[Fault], message: &str) -> Result<()> {
    let mut said = false;
    let places = places(prepare, direction)?;
    for (place, &fault) in places.into_iter().zip(faults.iter().cycle()) {
        let crossing = prepare()?;
        let planned = Planned(direction, Moment::Bytes(place), fault);
        let proxy = Proxy::start(&crossing.address, &[planned])?;
        let run = survives_once(&crossing, &proxy)
            .with_context(|| format!("{fault:?} {direction:?} at byte {place}"))?;
        said |= run.stderr.contains(message);
    }
    ensure!(said, "no run with {faults:?} {direction:?} says {message}");
    Ok(())
}

fn survives_once(crossing: &Crossing, proxy: &Proxy) -> Result<Run> {
    let broken = crossing.migrate(proxy)?;
    assert_eq!(proxy.fired(), 1, "the fault did not happen: {broken}");
    if broken.code != Some(0) {
        assert_failed_cleanly(&broken)?;
        crossing.assert_nothing_half_written()?;
        proxy.heal();
        crossing.migrate(proxy)?.expect(0)?;
    }
    crossing.assert_equal()?;
    Ok(broken)
}

/// What a run says that tries again.
const RETRY: &str = "retry ";
/// What is read goes on where it broke off, and an answer is asked for again, without a word.
const QUIETLY: &str = "";

/// Failed or unreachable, and said what, why and what to do.
fn assert_failed_cleanly(run: &Run) -> Result<()> {
    ensure!(matches!(run.code, Some(1 | 4)), "not 1 or 4: {run}");
    let said = run.stderr.lines().any(|line| line.contains("hint: "));
    ensure!(said, "no hint: {run}");
    ensure!(!run.stderr.contains("panicked"), "a panic: {run}");
    Ok(())
}

/// Faults that break a connection.
const CUTS: [Fault; 3] = [Fault::Reset, Fault::Close, Fault::HalfClose];

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_connection_to_the_target_database_that_is_cut_anywhere() -> Result<()> {
    survives(Crossing::to_postgres, ToServer, &CUTS, RETRY)?;
    survives(Crossing::to_postgres, ToClient, &[Fault::Reset], RETRY)
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_connection_to_the_source_database_that_is_cut_anywhere() -> Result<()> {
    survives(Crossing::from_postgres, ToClient, &CUTS, RETRY)?;
    survives(Crossing::from_postgres, ToServer, &[Fault::Reset], RETRY)
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_connection_to_the_target_bucket_that_is_cut_anywhere() -> Result<()> {
    survives(Crossing::to_s3, ToServer, &CUTS, RETRY)?;
    survives(Crossing::to_s3, ToClient, &[Fault::Reset], QUIETLY)
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_connection_to_the_source_bucket_that_is_cut_anywhere() -> Result<()> {
    survives(Crossing::from_s3, ToClient, &CUTS, QUIETLY)?;
    survives(Crossing::from_s3, ToServer, &[Fault::Reset], QUIETLY)
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_byte_that_changes_on_the_way_never_becomes_a_blob() -> Result<()> {
    survives(Crossing::to_s3, ToServer, &[Fault::Corrupt], "MD5")?;
    survives(Crossing::from_s3, ToClient, &[Fault::Corrupt], "MD5")
}

#[test]
#[ignore = "needs PostgreSQL and S3: set PLIKD_TEST_POSTGRES and PLIKD_TEST_S3"]
fn a_slow_line_only_takes_longer() -> Result<()> {
    let crossings: [(Prepare, Direction); 4] = [
        (Crossing::to_postgres, ToServer),
        (Crossing::from_postgres, ToClient),
        (Crossing::to_s3, ToServer),
        (Crossing::from_s3, ToClient),
    ];
    for (prepare, direction) in crossings {
        for fault in [
            Fault::Delay(Duration::from_millis(300)),
            Fault::Throttle(2 << 20),
        ] {
            let crossing = prepare()?;
            let planned = Planned(direction, Moment::Bytes(2000), fault);
            let proxy = Proxy::start(&crossing.address, &[planned])?;
            crossing.migrate(&proxy)?.expect(0)?;
            assert_eq!(proxy.fired(), 1);
            crossing.assert_equal()?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn a_bucket_that_refuses_connections_for_a_moment_is_tried_again() -> Result<()> {
    let crossing = Crossing::to_s3()?;
    let refuse = Fault::Refuse(Duration::from_millis(200));
    let planned = Planned(ToServer, Moment::Bytes(50_000), refuse);
    let proxy = Proxy::start(&crossing.address, &[planned])?;
    crossing.migrate(&proxy)?.expect(0)?.says(&[RETRY])?;
    assert_eq!(proxy.fired(), 1);
    crossing.assert_equal()
}

/// Nobody knows whether a silent server still works: the run waits, and ends when it is told to.
#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn a_run_whose_database_says_nothing_any_more_can_be_interrupted() -> Result<()> {
    let crossing = Crossing::to_postgres()?;
    let places = places(Crossing::to_postgres, ToServer)?;
    let place = places[places.len() / 2];
    let planned = Planned(ToServer, Moment::Bytes(place), Fault::BlackHole);
    let proxy = Proxy::start(&crossing.address, &[planned])?;
    let (from, to) = crossing.configs(&proxy)?;
    let silent = crossing
        .scene
        .migration(&from, &to, &crossing.options())
        .spawn()?;
    wait_until("the server is silent", || Ok(proxy.fired() == 1))?;
    signal(&silent, Signal::INT)?;
    // The first asks to finish what is in hand, which cannot be; the second insists.
    std::thread::sleep(Duration::from_millis(200));
    let _ = signal(&silent, Signal::INT);
    finish(silent)?.expect(130)?;
    crossing.assert_nothing_half_written()?;
    drop(proxy);
    let proxy = Proxy::start(&crossing.address, &[])?;
    crossing.migrate(&proxy)?.expect(0)?;
    crossing.assert_equal()
}

/// What a fault of the S3 server comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It passes: the run succeeds.
    Done,
    /// The run ends with that code, and the same command completes it.
    Fails(i32),
    /// One or the other.
    Either,
}

/// A server of the test's own with these faults, in a scene with one blob of several parts.
fn with_faults(to_s3: bool, fault: &str, end: End) -> Result<Run> {
    let scene = Scene::new()?;
    let origin = scene.made_up("origin", BLOBS)?;
    origin.database.add_upload("theUpload")?;
    let large: Vec<u8> = (0..11_u32 << 20).map(|byte| (byte >> 9) as u8).collect();
    origin
        .database
        .add_file("largeFile", "theUpload", "uploaded", &large)?;
    origin.store.put("largeFile", &large)?;
    let bucket = |server: &str| Store::Bucket {
        server: server.to_owned(),
        bucket: "plik".into(),
        settings: "PartSize = 5242880".into(),
    };
    let (sound, url) = OwnS3::start(&scene, &[])?;
    let (from, to) = if to_s3 {
        let to = scene.server("to", database(&scene, "to"), bucket(&url))?;
        (origin, to)
    } else {
        let from = scene.server("from", database(&scene, "from"), bucket(&url))?;
        scene.migrate(&origin, &from, &[])?.expect(0)?;
        (from, scene.local("to")?)
    };
    drop(sound);
    let log = scene.path("faults.log");
    let log_option = log.display().to_string();
    let port = url.rsplit(':').next().context("a port")?;
    let options = ["--port", port, "--fault", fault, "--fault-log", &log_option];
    let (faulty, _) = OwnS3::start(&scene, &options)?;
    let run = scene.migrate(&from, &to, &[])?;
    ensure!(log.exists(), "the fault did not happen: {run}");
    if end != End::Either {
        let code = if let End::Fails(code) = end { code } else { 0 };
        ensure!(run.code == Some(code), "not exit code {code}: {run}");
    }
    drop(faulty);
    let (_sound, _) = OwnS3::start(&scene, &["--port", port])?;
    if run.code != Some(0) {
        assert_failed_cleanly(&run)?;
        assert_nothing_half_written(&from, &to, true)?;
        scene.migrate(&from, &to, &[])?.expect(0)?;
    }
    assert_equal(&from, &to, true)?;
    Ok(run)
}

/// One of the runs at least comes to say what the manual says of such faults; each that ends does.
fn each_ends(to_s3: bool, faults: &[(&str, End)], message: &str) -> Result<()> {
    let mut said = false;
    for (fault, end) in faults {
        let run = with_faults(to_s3, fault, *end).with_context(|| format!("with {fault}"))?;
        let says = run.stderr.contains(message);
        ensure!(says || !matches!(end, End::Fails(_)), "no {message}: {run}");
        said |= says;
    }
    ensure!(said, "no run says {message}: {faults:?}");
    Ok(())
}

#[test]
fn errors_of_a_target_bucket_that_pass_are_waited_out() -> Result<()> {
    each_ends(
        true,
        &[
            ("PutObject:3:500", End::Done),
            ("PutObject:3:503", End::Done),
            ("PutObject:2:slow=300", End::Done),
            ("CreateMultipartUpload:1:503", End::Done),
            ("UploadPart:2:500", End::Done),
            ("CompleteMultipartUpload:1:500", End::Done),
        ],
        RETRY,
    )
}

#[test]
fn errors_of_a_source_bucket_that_pass_are_waited_out() -> Result<()> {
    each_ends(
        false,
        &[
            ("GetObject:2:500", End::Done),
            ("GetObject:2:503", End::Done),
            ("GetObject:2:slow=300", End::Done),
        ],
        RETRY,
    )
}

#[test]
fn a_bucket_that_forbids_ends_the_run_at_once() -> Result<()> {
    each_ends(
        true,
        &[
            // A refusal that comes once may mean the unsigned bytes: they are sent again, signed.
            ("PutObject:3+:403", End::Fails(4)),
            ("UploadPart:2+:403", End::Fails(4)),
            ("CompleteMultipartUpload:1:403", End::Fails(4)),
        ],
        "refused to",
    )
}

#[test]
fn a_source_that_forbids_ends_the_run_at_once() -> Result<()> {
    each_ends(false, &[("GetObject:2:403", End::Fails(1))], "refused to")
}

#[test]
fn answers_of_a_target_bucket_that_lie_or_break_off_leave_nothing_wrong() -> Result<()> {
    each_ends(
        true,
        &[
            ("PutObject:2:truncate", End::Either),
            ("PutObject:2:etag", End::Either),
            ("UploadPart:1:etag", End::Either),
            ("CreateMultipartUpload:1:truncate", End::Either),
            ("CompleteMultipartUpload:1:error-in-200", End::Either),
            ("CompleteMultipartUpload:1:truncate", End::Either),
        ],
        RETRY,
    )
}

#[test]
fn answers_of_a_source_bucket_that_lie_or_break_off_leave_nothing_wrong() -> Result<()> {
    each_ends(
        false,
        &[
            ("GetObject:2:truncate", End::Either),
            ("GetObject:2:etag", End::Either),
            ("GetObject:2:error-in-200", End::Either),
        ],
        RETRY,
    )
}
