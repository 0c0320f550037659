//! Writes: all or nothing, durable, and none at the expense of another.

use super::place::{Place, administer, file, number, time, upload};
use super::promises;
use crate::config::MetadataConfig;
use crate::metadata::engine::{Expect, Statement, Written};
use crate::metadata::value::Value;
use crate::metadata::{Metadata, MetadataError, OpenMode};
use crate::model::FileStatus;

promises! {
    many_writers_at_once_are_all_durable,
    a_refused_write_changes_nothing_and_says_where,
    a_write_that_fails_harms_no_neighbour,
    closing_waits_for_writes_and_ends_later_calls,
    a_dropped_write_leaves_the_database_usable,
    an_upload_that_is_removed_takes_no_file_at_the_same_time,
}

fn setting(key: &str, value: &str) -> Statement {
    const SQL: &str = "INSERT INTO settings (key, value) VALUES ($1, $2)";
    Statement::new(SQL, [Value::from(key), Value::from(value)])
}

async fn write(metadata: &Metadata, statements: Vec<Statement>) -> Result<Written, MetadataError> {
    metadata.engine().write("test", statements).await
}

async fn settings(metadata: &Metadata) -> i64 {
    number(metadata, "SELECT COUNT(*) FROM settings").await
}

async fn many_writers_at_once_are_all_durable(place: &Place) {
    const WRITERS: usize = 500;
    let metadata = place.open().await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let metadata = metadata.clone();
            tokio::spawn(async move {
                let id = format!("upload{writer}");
                let files = [file(&format!("file{writer}"), &id, FileStatus::Missing)];
                metadata.create_upload(&upload(&id), &files).await.unwrap();
                assert!(
                    metadata.upload(&id).await.unwrap().is_some(),
                    "acknowledged"
                );
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    // No close: what was acknowledged must be there all the same.
    let again = place.try_open(OpenMode::ReadOnly).await.unwrap();
    for table in ["uploads", "files"] {
        let count = number(&again, &format!("SELECT COUNT(*) FROM {table}")).await;
        assert_eq!(count, WRITERS as i64);
    }
}

async fn a_refused_write_changes_nothing_and_says_where(place: &Place) {
    let metadata = place.open().await;
    let update = || Statement::new("UPDATE settings SET value = 'x' WHERE key = 'none'", []);
    let statements = vec![
        setting("a", "1"),
        update().expecting(Expect::AtLeastOne),
        setting("b", "1"),
    ];
    let refused = write(&metadata, statements).await.unwrap();
    assert_eq!(
        refused,
        Written::Refused {
            statement: 1,
            rows: 0
        }
    );
    assert_eq!(settings(&metadata).await, 0);
    let statements = vec![
        setting("a", "1"),
        update().expecting(Expect::None),
        Statement::new("UPDATE settings SET value = 'y'", []),
    ];
    assert_eq!(
        write(&metadata, statements).await.unwrap(),
        Written::Done(vec![1, 0, 1])
    );
}

async fn a_write_that_fails_harms_no_neighbour(place: &Place) {
    let metadata = place.open().await;
    write(&metadata, vec![setting("taken", "1")]).await.unwrap();
    let writers: Vec<_> = (0..60)
        .map(|writer| {
            let metadata = metadata.clone();
            tokio::spawn(async move {
                let good = setting(&format!("key{writer}"), "1");
                let statements = match writer % 3 {
                    0 => vec![good],
                    1 => vec![good, setting("taken", "2")],
                    _ => vec![good.expecting(Expect::None)],
                };
                write(&metadata, statements).await
            })
        })
        .collect();
    for (number, writer) in writers.into_iter().enumerate() {
        let outcome = writer.await.unwrap();
        match number % 3 {
            0 => assert_eq!(outcome.unwrap(), Written::Done(vec![1])),
            1 => assert!(
                matches!(outcome, Err(MetadataError::Failed { .. })),
                "{outcome:?}"
            ),
            _ => assert_eq!(
                outcome.unwrap(),
                Written::Refused {
                    statement: 0,
                    rows: 1
                }
            ),
        }
    }
    assert_eq!(settings(&metadata).await, 21);
    assert_eq!(
        number(&metadata, "SELECT COUNT(*) FROM settings WHERE value = '2'").await,
        0
    );
}

async fn closing_waits_for_writes_and_ends_later_calls(place: &Place) {
    let metadata = place.open().await;
    let writers: Vec<_> = (0..20)
        .map(|writer| {
            let metadata = metadata.clone();
            tokio::spawn(
                async move { write(&metadata, vec![setting(&writer.to_string(), "")]).await },
            )
        })
        .collect();
    let clone = metadata.clone();
    tokio::task::yield_now().await;
    metadata.close().await;
    let mut acknowledged = 0;
    for writer in writers {
        acknowledged += i64::from(writer.await.unwrap().is_ok());
    }
    assert!(clone.ping().await.is_err());
    assert!(clone.set_expiry("one", None).await.is_err());
    let metadata = place.open().await;
    assert_eq!(settings(&metadata).await, acknowledged);
}

async fn a_dropped_write_leaves_the_database_usable(place: &Place) {
    let metadata = place.open().await;
    for attempt in 0..50_u64 {
        let statements = vec![
            setting(&format!("a{attempt}"), ""),
            setting(&format!("b{attempt}"), ""),
        ];
        let patience = std::time::Duration::from_micros(attempt * 40);
        // Whether it was in time does not matter.
        let _ = tokio::time::timeout(patience, write(&metadata, statements)).await;
    }
    write(&metadata, vec![setting("last", "")]).await.unwrap();
    // Each pair is there or not, as a whole.
    assert_eq!(settings(&metadata).await % 2, 1);
}

async fn an_upload_that_is_removed_takes_no_file_at_the_same_time(place: &Place) {
    let metadata = place.open().await;
    let now = time("2026-11-20T21:00:00Z");
    for round in 0..10 {
        let id = format!("upload{round}");
        metadata.create_upload(&upload(&id), &[]).await.unwrap();
        let files: Vec<_> = (0..6)
            .map(|number| file(&format!("f{round}.{number}"), &id, FileStatus::Uploaded))
            .collect();
        let adding = futures::future::join_all(files.iter().map(|file| metadata.add_file(file)));
        let (added, removed) = tokio::join!(adding, metadata.remove_upload(&id, now));
        assert!(removed.unwrap());
        let added = added.into_iter().filter(|added| *added.as_ref().unwrap());
        assert_eq!(
            metadata.count_files(&id).await.unwrap(),
            added.count() as u64
        );
    }
    // Whatever was added in time was taken out of service with its upload.
    let served = "SELECT COUNT(*) FROM files WHERE status = 'uploaded'";
    assert_eq!(number(&metadata, served).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
async fn connections_that_the_server_ended_are_replaced() {
    const END_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    // With one connection the one that was lost has to make room for the next.
    for connections in [8, 1] {
        let place = Place::postgres().await;
        let config = MetadataConfig {
            max_open_conns: connections,
            ..place.config()
        };
        let metadata = Metadata::open(&config, OpenMode::Serve).await.unwrap();
        for round in 0..5 {
            let reads = (0..8).map(|_| metadata.ping());
            for read in futures::future::join_all(reads).await {
                read.unwrap();
            }
            administer(config.connection_string.expose(), END_ALL).await;
            if round % 2 == 0 {
                metadata.ping().await.unwrap();
            }
            let key = format!("key{round}");
            let written = write(&metadata, vec![setting(&key, "")]).await.unwrap();
            assert!(written.is_done());
        }
        assert_eq!(settings(&metadata).await, 5);
    }
}
