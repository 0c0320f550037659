//! Uploads and files.

use super::place::{Place, file, number, rows, time, upload};
use super::promises;
use crate::metadata::{Metadata, MetadataError, OpenMode, Orphans};
use crate::model::{File, FileStatus, Upload};

promises! {
    what_is_stored_comes_back,
    an_upload_and_its_files_are_stored_together_or_not_at_all,
    the_empty_id_matches_nothing,
    removing_an_upload_takes_its_files_out_of_service_once,
    a_removed_upload_takes_no_file_and_no_expiry,
    expiry_is_a_matter_of_instants,
    a_status_changes_only_from_the_one_expected,
    a_transfer_completes_once_and_writes_even_empty_values,
    an_upload_is_purged_when_its_files_are_deleted,
    a_purge_takes_forgotten_files_out_of_service,
    lists_page_without_gaps_and_repeats,
    files_are_listed_oldest_first_whatever_their_offset,
    orphans_go_and_rows_without_reference_stay,
    old_daily_counters_and_login_sessions_go,
    null_reads_as_empty,
    a_database_opened_to_read_only_is_not_written,
    what_was_never_initialised_cannot_be_read,
}

fn ids(files: &[File]) -> Vec<&str> {
    files.iter().map(|file| file.id.as_str()).collect()
}

async fn create(metadata: &Metadata, upload: &Upload, files: &[(&str, FileStatus)]) {
    let files: Vec<File> = files
        .iter()
        .map(|(id, status)| file(id, &upload.id, *status))
        .collect();
    metadata.create_upload(upload, &files).await.unwrap();
}

async fn status(metadata: &Metadata, id: &str) -> Option<FileStatus> {
    metadata.file(id).await.unwrap().map(|file| file.status)
}

async fn what_is_stored_comes_back(place: &Place) {
    let metadata = place.open().await;
    let (one, two) = (
        upload("one"),
        Upload {
            id: "two".into(),
            ..Upload::default()
        },
    );
    let stored = file("f1", "one", FileStatus::Uploaded);
    metadata
        .create_upload(&one, std::slice::from_ref(&stored))
        .await
        .unwrap();
    metadata.create_upload(&two, &[]).await.unwrap();
    metadata.close().await;

    let metadata = place.open().await;
    assert_eq!(metadata.upload("one").await.unwrap(), Some(one));
    assert_eq!(metadata.upload("two").await.unwrap(), Some(two));
    assert_eq!(metadata.upload("ONE").await.unwrap(), None);
    assert_eq!(metadata.file("f1").await.unwrap(), Some(stored));
    assert_eq!(metadata.file("f2").await.unwrap(), None);
    assert_eq!(metadata.count_files("one").await.unwrap(), 1);
    metadata.ping().await.unwrap();
}

async fn an_upload_and_its_files_are_stored_together_or_not_at_all(place: &Place) {
    let metadata = place.open().await;
    let twice = [
        file("same", "one", FileStatus::Missing),
        file("same", "one", FileStatus::Missing),
    ];
    let error = metadata
        .create_upload(&upload("one"), &twice)
        .await
        .unwrap_err();
    assert!(matches!(error, MetadataError::Failed { .. }), "{error:?}");
    assert_eq!(metadata.upload("one").await.unwrap(), None);
    assert_eq!(metadata.file("same").await.unwrap(), None);
}

async fn the_empty_id_matches_nothing(place: &Place) {
    let metadata = place.open().await;
    create(&metadata, &upload(""), &[("", FileStatus::Missing)]).await;
    let now = time("2030-01-01T00:00:00Z");
    assert_eq!(metadata.upload("").await.unwrap(), None);
    assert_eq!(metadata.file("").await.unwrap(), None);
    assert_eq!(metadata.files_of_upload("").await.unwrap(), []);
    assert_eq!(metadata.count_files("").await.unwrap(), 0);
    assert!(!metadata.set_expiry("", None).await.unwrap());
    assert!(!metadata.remove_upload("", now).await.unwrap());
    assert!(!metadata.purge_upload("").await.unwrap());
    let missing = file("", "", FileStatus::Missing);
    assert!(!metadata.add_file(&missing).await.unwrap());
    assert!(!metadata.complete_file(&missing).await.unwrap());
    assert!(
        !metadata
            .change_status("", FileStatus::Missing, FileStatus::Uploading)
            .await
            .unwrap()
    );
    assert_eq!(
        number(
            &metadata,
            "SELECT COUNT(*) FROM uploads WHERE deleted_at IS NULL"
        )
        .await,
        1
    );
}

async fn removing_an_upload_takes_its_files_out_of_service_once(place: &Place) {
    use FileStatus::{Deleted, Missing, Removed, Uploaded, Uploading};
    let metadata = place.open().await;
    let files = [
        ("m", Missing),
        ("u", Uploading),
        ("d", Uploaded),
        ("r", Removed),
        ("x", Deleted),
        ("legacy", Missing),
        ("null", Missing),
    ];
    create(&metadata, &upload("one"), &files).await;
    create(&metadata, &upload("two"), &[("other", Uploaded)]).await;
    place
        .script(
            "UPDATE files SET status = '' WHERE id = 'legacy'; \
             UPDATE files SET status = NULL WHERE id = 'null'",
        )
        .await;
    assert_eq!(status(&metadata, "legacy").await, Some(Missing));
    assert_eq!(status(&metadata, "null").await, Some(Missing));

    let now = time("2026-11-20T21:00:00Z");
    assert!(metadata.remove_upload("one", now).await.unwrap());
    assert!(!metadata.remove_upload("one", now).await.unwrap());
    assert_eq!(metadata.upload("one").await.unwrap(), None);
    for (id, expected) in [
        ("m", Deleted),
        ("u", Removed),
        ("d", Removed),
        ("r", Removed),
        ("x", Deleted),
        ("legacy", Deleted),
        ("null", Deleted),
        ("other", Uploaded),
    ] {
        assert_eq!(status(&metadata, id).await, Some(expected), "{id}");
    }
    let removed = rows(&metadata, "SELECT deleted_at FROM uploads WHERE id = 'one'").await;
    assert_eq!(removed[0].time("deleted_at"), Some(now));
    assert!(metadata.upload("two").await.unwrap().is_some());
}

async fn a_removed_upload_takes_no_file_and_no_expiry(place: &Place) {
    let metadata = place.open().await;
    create(&metadata, &upload("one"), &[]).await;
    let expiry = Some(time("2027-01-01T00:00:00.000001Z"));
    assert!(metadata.set_expiry("one", expiry).await.unwrap());
    assert_eq!(
        metadata.upload("one").await.unwrap().unwrap().expire_at,
        expiry
    );
    assert!(metadata.set_expiry("one", None).await.unwrap());
    assert_eq!(
        metadata.upload("one").await.unwrap().unwrap().expire_at,
        None
    );
    assert!(
        metadata
            .add_file(&file("f1", "one", FileStatus::Missing))
            .await
            .unwrap()
    );
    let now = time("2026-11-20T21:00:00Z");
    assert!(metadata.remove_upload("one", now).await.unwrap());
    assert!(!metadata.set_expiry("one", expiry).await.unwrap());
    assert!(
        !metadata
            .add_file(&file("f2", "one", FileStatus::Missing))
            .await
            .unwrap()
    );
    assert!(
        !metadata
            .add_file(&file("f3", "nowhere", FileStatus::Missing))
            .await
            .unwrap()
    );
    assert_eq!(metadata.count_files("one").await.unwrap(), 1);
}

async fn expiry_is_a_matter_of_instants(place: &Place) {
    let metadata = place.open().await;
    for id in ["early", "late", "never", "removed", "unknown", "exact"] {
        create(&metadata, &upload(id), &[]).await;
    }
    // As text `early` sorts after the present and `late` before it.
    place
        .script(
            "UPDATE uploads SET expire_at = '2026-11-20 22:48:00+02:00' WHERE id = 'early'; \
             UPDATE uploads SET expire_at = '2026-11-20 16:50:00-05:00' WHERE id = 'late'; \
             UPDATE uploads SET expire_at = NULL WHERE id = 'never'; \
             UPDATE uploads SET expire_at = '2026-11-20 00:00:00+00:00', \
                 deleted_at = '2026-11-20 00:00:00+00:00' WHERE id = 'removed'; \
             UPDATE uploads SET expire_at = '0001-01-01 00:00:00+00:00' WHERE id = 'unknown'; \
             UPDATE uploads SET expire_at = '2026-11-20 20:49:00+00:00' WHERE id = 'exact'",
        )
        .await;
    let now = time("2026-11-20T20:49:00Z");
    assert_eq!(
        metadata.expired_uploads(now, "", 10).await.unwrap(),
        ["early"]
    );
    let later = time("2026-11-20T20:49:00.000001Z");
    assert_eq!(
        metadata.expired_uploads(later, "", 10).await.unwrap(),
        ["early", "exact"]
    );
    assert_eq!(
        metadata.expired_uploads(later, "early", 10).await.unwrap(),
        ["exact"]
    );
}

async fn a_status_changes_only_from_the_one_expected(place: &Place) {
    use FileStatus::{Missing, Uploaded, Uploading};
    let metadata = place.open().await;
    create(
        &metadata,
        &upload("one"),
        &[("f1", Missing), ("f2", Missing)],
    )
    .await;
    place
        .script("UPDATE files SET status = NULL WHERE id = 'f2'")
        .await;
    assert!(
        !metadata
            .change_status("f1", Uploading, Uploaded)
            .await
            .unwrap()
    );
    assert!(
        !metadata
            .change_status("nobody", Missing, Uploading)
            .await
            .unwrap()
    );
    assert!(
        metadata
            .change_status("f2", Missing, Uploading)
            .await
            .unwrap()
    );

    let attempts = (0..16).map(|_| metadata.change_status("f1", Missing, Uploading));
    let outcomes = futures::future::join_all(attempts).await;
    let won = outcomes
        .into_iter()
        .filter(|outcome| *outcome.as_ref().unwrap());
    assert_eq!(won.count(), 1);
    assert_eq!(status(&metadata, "f1").await, Some(Uploading));
}

async fn a_transfer_completes_once_and_writes_even_empty_values(place: &Place) {
    let metadata = place.open().await;
    create(&metadata, &upload("one"), &[("f1", FileStatus::Uploading)]).await;
    let empty = File {
        size: 0,
        md5: String::new(),
        mime_type: String::new(),
        is_text: false,
        backend_details: crate::model::BackendDetails::new("{\"SSEKey\":\"k\"}"),
        ..file("f1", "one", FileStatus::Uploading)
    };
    assert!(metadata.complete_file(&empty).await.unwrap());
    assert!(!metadata.complete_file(&empty).await.unwrap());
    let stored = metadata.file("f1").await.unwrap().unwrap();
    assert_eq!(
        stored,
        File {
            status: FileStatus::Uploaded,
            ..empty
        }
    );
}

async fn an_upload_is_purged_when_its_files_are_deleted(place: &Place) {
    use FileStatus::{Deleted, Removed, Uploaded};
    let metadata = place.open().await;
    create(
        &metadata,
        &upload("one"),
        &[("f1", Uploaded), ("f2", Deleted)],
    )
    .await;
    assert!(!metadata.purge_upload("one").await.unwrap(), "it is live");
    let now = time("2026-11-20T21:00:00Z");
    metadata.remove_upload("one", now).await.unwrap();
    assert_eq!(metadata.removed_uploads("", 10).await.unwrap(), ["one"]);
    assert!(!metadata.purge_upload("one").await.unwrap());
    assert_eq!(ids(&metadata.removed_files("", 10).await.unwrap()), ["f1"]);
    assert!(
        metadata
            .change_status("f1", Removed, Deleted)
            .await
            .unwrap()
    );
    assert!(metadata.purge_upload("one").await.unwrap());
    assert!(!metadata.purge_upload("one").await.unwrap());
    assert_eq!(metadata.removed_uploads("", 10).await.unwrap(), [""; 0]);
    assert_eq!(number(&metadata, "SELECT COUNT(*) FROM files").await, 0);
    assert_eq!(number(&metadata, "SELECT COUNT(*) FROM uploads").await, 0);
}

async fn a_purge_takes_forgotten_files_out_of_service(place: &Place) {
    use FileStatus::{Deleted, Missing, Removed, Uploading};
    let metadata = place.open().await;
    create(
        &metadata,
        &upload("one"),
        &[("f1", Uploading), ("f2", Missing)],
    )
    .await;
    create(&metadata, &upload("two"), &[("f3", Missing)]).await;
    place
        .script(
            "UPDATE uploads SET deleted_at = '2026-11-20 00:00:00+00:00'; \
             UPDATE files SET status = '' WHERE id = 'f2'; \
             UPDATE files SET status = NULL WHERE id = 'f3'",
        )
        .await;
    assert!(!metadata.purge_upload("one").await.unwrap());
    assert_eq!(status(&metadata, "f1").await, Some(Removed));
    assert_eq!(status(&metadata, "f2").await, Some(Deleted));
    assert!(
        metadata.purge_upload("two").await.unwrap(),
        "NULL holds nothing back"
    );
}

async fn lists_page_without_gaps_and_repeats(place: &Place) {
    let metadata = place.open().await;
    let mut expected = Vec::new();
    for number in 0..7 {
        let id = format!("upload{number}");
        create(
            &metadata,
            &upload(&id),
            &[(&format!("file{number}"), FileStatus::Removed)],
        )
        .await;
        expected.push(id);
    }
    let now = time("2030-01-01T00:00:00Z");
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let page = metadata.expired_uploads(now, &after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after.clone_from(last);
        found.extend(page);
    }
    assert_eq!(found, expected);
    for id in &expected {
        metadata.remove_upload(id, now).await.unwrap();
    }
    let first = metadata.removed_uploads("", 4).await.unwrap();
    let second = metadata.removed_uploads(&first[3], 4).await.unwrap();
    assert_eq!([first, second].concat(), expected);
    let first = metadata.removed_files("", 4).await.unwrap();
    let second = metadata.removed_files(&first[3].id, 4).await.unwrap();
    assert_eq!(ids(&second), ["file4", "file5", "file6"]);
}

async fn files_are_listed_oldest_first_whatever_their_offset(place: &Place) {
    let metadata = place.open().await;
    let files = ["f1", "f2", "f3", "f4"].map(|id| (id, FileStatus::Missing));
    create(&metadata, &upload("one"), &files).await;
    place
        .script(
            "UPDATE files SET created_at = '2026-11-20 20:49:00+00:00' WHERE id = 'f1'; \
             UPDATE files SET created_at = '2026-11-20 16:48:00-05:00' WHERE id = 'f2'; \
             UPDATE files SET created_at = NULL WHERE id = 'f3'; \
             UPDATE files SET created_at = '2026-11-20 20:49:00.000001+00:00' WHERE id = 'f4'",
        )
        .await;
    let files = metadata.files_of_upload("one").await.unwrap();
    assert_eq!(ids(&files), ["f3", "f1", "f4", "f2"]);
}

async fn orphans_go_and_rows_without_reference_stay(place: &Place) {
    let metadata = place.open().await;
    create(&metadata, &upload("one"), &[("kept", FileStatus::Missing)]).await;
    place
        .script(place.choose(
            "",
            "ALTER TABLE files DROP CONSTRAINT fk_uploads_files; \
             ALTER TABLE tokens DROP CONSTRAINT fk_users_tokens",
        ))
        .await;
    place
        .script(
            "INSERT INTO files (id, upload_id) VALUES ('lost', 'nowhere'), ('free', NULL); \
             INSERT INTO users (id) VALUES ('local:one'); \
             INSERT INTO tokens (token, user_id) VALUES ('t1', 'local:one'), ('t2', 'gone'), \
                 ('t3', NULL); \
             INSERT INTO usage_stats (user_id, token) VALUES ('local:one', 't1'), ('gone', 't2')",
        )
        .await;
    let orphans = metadata.delete_orphans().await.unwrap();
    assert_eq!(
        orphans,
        Orphans {
            files: 1,
            tokens: 1
        }
    );
    assert_eq!(
        metadata.delete_orphans().await.unwrap(),
        Orphans {
            files: 0,
            tokens: 0
        }
    );
    assert_eq!(number(&metadata, "SELECT COUNT(*) FROM files").await, 2);
    assert_eq!(number(&metadata, "SELECT COUNT(*) FROM tokens").await, 2);
    let counted = "SELECT COUNT(*) FROM usage_stats WHERE token <> ''";
    assert_eq!(number(&metadata, counted).await, 1);
}

async fn old_daily_counters_and_login_sessions_go(place: &Place) {
    let metadata = place.open().await;
    place
        .script(
            "INSERT INTO upload_stats_daily (day, user_id, token) VALUES \
                 ('2026-07-07 00:00:00+00:00', '', ''), ('2026-07-08 00:00:00+00:00', '', ''); \
             INSERT INTO download_stats_daily (day, entity_type, entity_id) VALUES \
                 ('2026-07-06 00:00:00+00:00', 'file', 'f'); \
             INSERT INTO cli_auth_sessions (code, expires_at) VALUES \
                 ('old', '2026-07-08 01:59:00+02:00'), ('new', '2026-07-07 20:01:00-04:00'), \
                 ('odd', NULL)",
        )
        .await;
    let before = time("2026-07-08T00:00:00Z");
    assert_eq!(metadata.prune_daily_stats(before).await.unwrap(), 2);
    assert_eq!(metadata.prune_daily_stats(before).await.unwrap(), 0);
    assert_eq!(
        metadata.delete_expired_cli_sessions(before).await.unwrap(),
        1
    );
    assert_eq!(
        number(&metadata, "SELECT COUNT(*) FROM cli_auth_sessions").await,
        2
    );
}

async fn null_reads_as_empty(place: &Place) {
    let metadata = place.open().await;
    place
        .script(
            "INSERT INTO uploads (id) VALUES ('one'); \
             INSERT INTO files (id, upload_id) VALUES ('f1', 'one')",
        )
        .await;
    let expected = Upload {
        id: "one".into(),
        ..Upload::default()
    };
    assert_eq!(metadata.upload("one").await.unwrap(), Some(expected));
    let file = metadata.file("f1").await.unwrap().unwrap();
    assert_eq!(file.status, FileStatus::Missing);
    assert_eq!(
        (file.name.as_str(), file.size, file.is_text),
        ("", 0, false)
    );
    assert_eq!(file.created_at, None);
}

async fn a_database_opened_to_read_only_is_not_written(place: &Place) {
    let metadata = place.open().await;
    create(&metadata, &upload("one"), &[("f1", FileStatus::Missing)]).await;
    metadata.close().await;
    let metadata = place.try_open(OpenMode::ReadOnly).await.unwrap();
    assert_eq!(metadata.upload("one").await.unwrap(), Some(upload("one")));
    assert_eq!(metadata.count_files("one").await.unwrap(), 1);
    let error = metadata.set_expiry("one", None).await.unwrap_err();
    assert!(matches!(error, MetadataError::Denied { .. }), "{error:?}");
    metadata.close().await;
}

async fn what_was_never_initialised_cannot_be_read(place: &Place) {
    let Err(error) = place.try_open(OpenMode::ReadOnly).await else {
        panic!("an empty database was opened");
    };
    assert!(
        matches!(error, MetadataError::NotInitialised { .. }),
        "{error:?}"
    );
    assert!(error.hint().is_some());
}
