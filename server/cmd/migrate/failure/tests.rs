use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use super::*;
use crate::data::DataError;
use crate::metadata::MetadataError;
use crate::migrate::{BlobPlaces, BlobProblem, Part, Side, TableFault, Unfit};

/// The place of an error in a list of all: a new one does not compile without a place here, and
/// without an end below the list has a hole.
fn ordinal(error: &MigrateError) -> usize {
    match error {
        MigrateError::Preflight(problems) => match &problems[0] {
            Problem::SamePlace { .. } => 0,
            Problem::Metadata { .. } => 1,
            Problem::Data { .. } => 2,
            Problem::NoSpace { .. } => 3,
            Problem::NoBlobs { .. } => 4,
            Problem::OthersRows { .. } => 5,
            Problem::Table(_) => 6,
            Problem::NoPlaceForKeys => 7,
            Problem::ShardWithKeys => 8,
            Problem::ShardOfFile => 24,
        },
        MigrateError::Moved(_) => 9,
        MigrateError::Metadata(_) => 10,
        MigrateError::Data(_) => 11,
        MigrateError::Rejected(_) => 12,
        MigrateError::Unfit(_) => 13,
        MigrateError::Rejects { .. } => 14,
        MigrateError::BadLines { .. } => 15,
        MigrateError::ReplayFile { .. } => 16,
        MigrateError::RejectsTaken(_) => 17,
        MigrateError::Blob(_) => 18,
        MigrateError::Interrupted => 19,
        MigrateError::Differs { .. } => 20,
        MigrateError::GivenUp { .. } => 21,
        MigrateError::Task(_) => 22,
        MigrateError::MassRemoval { .. } => 23,
        MigrateError::PartRefused { .. } => 25,
    }
}

const ERRORS: usize = 26;

fn in_use() -> MetadataError {
    MetadataError::InUse {
        backend: "sqlite x".to_owned(),
        by: "a server".to_owned(),
    }
}

fn unreachable() -> DataError {
    DataError::Unreachable {
        action: "store".to_owned(),
        backend: "s3".to_owned(),
        source: "gone".into(),
    }
}

/// What keeps a run from starting.
fn problems() -> Vec<(Problem, Exit)> {
    let place = || "files".to_owned();
    let same = Problem::SamePlace {
        half: "data",
        place: place(),
        both: false,
    };
    let not_initialised = Problem::Metadata {
        side: Side::Source,
        source: MetadataError::NotInitialised {
            backend: "sqlite x".to_owned(),
        },
    };
    let out_of_reach = Problem::Data {
        side: Side::Target,
        source: unreachable(),
    };
    let no_space = Problem::NoSpace {
        place: place(),
        free: 0,
        needed: 1,
    };
    let no_blobs = Problem::NoBlobs {
        place: place(),
        is_absent: true,
        promised: 1,
    };
    let others = Problem::OthersRows {
        place: place(),
        rows: "a user".to_owned(),
    };
    let table = |fault| {
        Problem::Table(Unfit {
            table: "notes".to_owned(),
            part: Part::Whole,
            fault,
        })
    };
    vec![
        (same, Exit::Usage),
        (not_initialised, Exit::NotInitialised),
        (out_of_reach, Exit::Unreachable),
        (no_space, Exit::Failed),
        (no_blobs, Exit::Failed),
        (others, Exit::InUse),
        (table(TableFault::NoPrimaryKey), Exit::Failed),
        (table(TableFault::Unreadable), Exit::Unreachable),
        (Problem::NoPlaceForKeys, Exit::Usage),
        (Problem::ShardWithKeys, Exit::Usage),
        (Problem::ShardOfFile, Exit::Usage),
    ]
}

fn failed_blob() -> MigrateError {
    MigrateError::Blob(Box::new(BlobProblem {
        file_id: "f".to_owned(),
        upload_id: "u".to_owned(),
        harmless: false,
        places: BlobPlaces::default(),
        reason: "it is missing".to_owned(),
    }))
}

#[tokio::test]
async fn every_end_has_the_exit_code_of_the_manual() {
    let path = || PathBuf::from("rejects.jsonl");
    let refused = || io::Error::from(io::ErrorKind::PermissionDenied);
    let panicked = tokio::spawn(std::future::pending::<()>());
    panicked.abort();
    let bad_lines = MigrateError::BadLines {
        path: path(),
        lines: vec![BadLine {
            line: 1,
            cause: "no row".to_owned(),
        }],
        total: 1,
    };
    let differs = MigrateError::Differs {
        table: "users".to_owned(),
        missing: 1,
        different: 0,
        example: None,
    };
    let mass_removal = MigrateError::MassRemoval {
        removed: 99,
        of: 100,
        place: "sqlite x".to_owned(),
    };
    let part_refused = MigrateError::PartRefused {
        table: "users".to_owned(),
        reason: "no".to_owned(),
    };
    let given_up = |source| MigrateError::GivenUp {
        seconds: 1,
        source: Box::new(source),
    };
    let rejects = MigrateError::Rejects {
        path: path(),
        source: refused(),
    };
    let unread = MigrateError::ReplayFile {
        path: path(),
        source: refused(),
    };
    let mut ends = vec![
        (MigrateError::Moved(Vec::new()), Exit::Usage),
        (MigrateError::Metadata(in_use()), Exit::InUse),
        (MigrateError::Data(unreachable()), Exit::Unreachable),
        (MigrateError::Rejected(Vec::new()), Exit::Failed),
        (MigrateError::Unfit(Box::default()), Exit::Failed),
        (rejects, Exit::Failed),
        (bad_lines, Exit::Failed),
        (unread, Exit::Usage),
        (MigrateError::RejectsTaken(path()), Exit::Usage),
        (failed_blob(), Exit::Failed),
        (MigrateError::Interrupted, Exit::Interrupted),
        (differs, Exit::Different),
        (mass_removal, Exit::Failed),
        (part_refused, Exit::Failed),
        // What was tried again for long ends as it would have ended at once.
        (given_up(MigrateError::Metadata(in_use())), Exit::InUse),
        (given_up(unreachable().into()), Exit::Unreachable),
        (panicked.await.unwrap_err().into(), Exit::Failed),
    ];
    let problems = problems().into_iter();
    ends.extend(problems.map(|(problem, exit)| (MigrateError::Preflight(vec![problem]), exit)));
    let mut seen = BTreeSet::new();
    for (error, exit) in ends {
        assert_eq!(exit_of(&error), exit, "{error:?}");
        seen.insert(ordinal(&error));
    }
    assert_eq!(seen, (0..ERRORS).collect(), "an error has no end here");
}

#[test]
fn a_failure_says_which_database_it_is_about() {
    let problem = || Problem::Metadata {
        side: Side::Target,
        source: in_use(),
    };
    let one = MigrateError::Preflight(vec![problem()]);
    assert_eq!(one.database(), Some("sqlite x"));
    assert_eq!(
        MigrateError::Metadata(in_use()).database(),
        Some("sqlite x")
    );
    let two = MigrateError::Preflight(vec![problem(), Problem::NoPlaceForKeys]);
    assert_eq!(two.database(), None, "each has its own remedy");
    assert_eq!(failed_blob().database(), None);
}
