//! The counters stay what a recount from the rows would say.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::place::{Place, file, number, rows, time, upload};
use super::promises;
use crate::metadata::table::{Kind, Table};
use crate::metadata::value::Row;
use crate::metadata::{Metadata, stats};
use crate::model::{File, FileStatus, Timestamp, Upload};

promises! {
    counters_stay_exact_whatever_happens,
    counters_stay_exact_when_writes_meet,
    daily_counters_add_up,
    a_user_without_counters_gets_them_and_a_token_does_not,
    a_transfer_that_fails_is_not_counted,
    the_two_scopes_without_a_user_are_there_after_every_start,
}

const USERS: &str = "\
    INSERT INTO users (id, created_at) VALUES ('local:one', '2026-01-01 00:00:00+00:00'), \
        ('local:two', '2026-01-01 00:00:00+00:00'); \
    INSERT INTO tokens (token, user_id) VALUES ('t1', 'local:one'), ('t2', 'local:two')";

/// Users and tokens, with their counters.
async fn opened(place: &Place) -> Metadata {
    let metadata = place.open().await;
    place.script(USERS).await;
    recount(&metadata).await;
    metadata
}

async fn recount(metadata: &Metadata) {
    let statements = stats::adopt(metadata.engine().dialect());
    let written = metadata
        .engine()
        .write("recount", statements)
        .await
        .unwrap();
    assert!(written.is_done());
}

/// Every counter that the back-fill can know, by scope.
async fn counted(metadata: &Metadata) -> Vec<String> {
    let sql = "SELECT * FROM usage_stats ORDER BY user_id, token";
    let columns = Table::find("usage_stats").unwrap().columns.iter();
    let known: Vec<&str> = columns
        .filter(|column| column.kind == Kind::Integer && column.name != "uploaded_bytes")
        .map(|column| column.name)
        .collect();
    let line = |row: &Row| {
        let counters: Vec<String> = known
            .iter()
            .filter(|name| row.integer(name) != 0)
            .map(|name| format!("{name}={}", row.integer(name)))
            .collect();
        format!(
            "{} {}: {}",
            row.text("user_id"),
            row.text("token"),
            counters.join(" ")
        )
    };
    rows(metadata, sql).await.iter().map(line).collect()
}

/// Random uploads and files, and what has become of them.
struct Life<'a> {
    metadata: &'a Metadata,
    rng: StdRng,
    uploads: Vec<String>,
    files: Vec<File>,
    completed: BTreeSet<String>,
}

impl Life<'_> {
    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())].clone()
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..10) {
            0 | 1 => self.create().await,
            2 => self.add().await,
            3 | 4 => self.start().await,
            5 | 6 => self.complete().await,
            7 => self.remove_file().await,
            8 => self.delete_file().await,
            _ => self.remove_upload().await,
        }
    }

    async fn create(&mut self) {
        let (user, token) = self.pick(&[
            ("", ""),
            ("local:one", ""),
            ("local:one", "t1"),
            ("local:two", "t2"),
            ("local:two", "revoked"),
            ("local:gone", ""),
        ]);
        let new = Upload {
            id: format!("u{}", self.uploads.len()),
            ttl: self.pick(&[
                -1, 0, 3599, 3600, 86_399, 86_400, 604_800, 2_592_000, 2_592_001,
            ]),
            extend_ttl: self.rng.random(),
            one_shot: self.rng.random(),
            removable: self.rng.random(),
            stream: self.rng.random(),
            protected_by_password: self.rng.random(),
            e2ee: self.pick(&["", "age"]).to_owned(),
            comments: self.pick(&["", " \n\u{3000}\t", " x "]).to_owned(),
            user: user.to_owned(),
            token: token.to_owned(),
            ..upload("")
        };
        let status = self.pick(&[FileStatus::Missing, FileStatus::Uploaded]);
        let first = self.file(&new.id, status);
        self.metadata
            .create_upload(&new, std::slice::from_ref(&first))
            .await
            .unwrap();
        if status == FileStatus::Uploaded {
            self.completed.insert(first.id.clone());
        }
        self.uploads.push(new.id);
        self.files.push(first);
    }

    fn file(&mut self, upload_id: &str, status: FileStatus) -> File {
        const MIB: i64 = 1 << 20;
        File {
            size: self.pick(&[
                0,
                MIB - 1,
                MIB,
                10 * MIB,
                100 * MIB,
                1024 * MIB,
                10 * 1024 * MIB,
                100 * 1024 * MIB,
            ]),
            ..file(&format!("f{}", self.files.len()), upload_id, status)
        }
    }

    async fn add(&mut self) {
        if self.uploads.is_empty() {
            return;
        }
        let upload_id = self.pick(&self.uploads.clone());
        let new = self.file(&upload_id, FileStatus::Missing);
        if self.metadata.add_file(&new).await.unwrap() {
            self.files.push(new);
        }
    }

    async fn change(&mut self, from: FileStatus, to: FileStatus) {
        if !self.files.is_empty() {
            let file = self.pick(&self.files.clone());
            self.metadata
                .change_status(&file.id, from, to)
                .await
                .unwrap();
        }
    }

    async fn start(&mut self) {
        self.change(FileStatus::Missing, FileStatus::Uploading)
            .await;
    }

    async fn complete(&mut self) {
        if !self.files.is_empty() {
            let mut file = self.pick(&self.files.clone());
            file.size /= 2;
            if self.metadata.complete_file(&file).await.unwrap() {
                self.completed.insert(file.id);
            }
        }
    }

    async fn remove_file(&mut self) {
        self.change(FileStatus::Uploaded, FileStatus::Removed).await;
    }

    async fn delete_file(&mut self) {
        self.change(FileStatus::Removed, FileStatus::Deleted).await;
    }

    async fn remove_upload(&mut self) {
        if !self.uploads.is_empty() {
            let id = self.pick(&self.uploads.clone());
            let now = Timestamp::now();
            self.metadata.remove_upload(&id, now).await.unwrap();
        }
    }
}

async fn counters_stay_exact_whatever_happens(place: &Place) {
    for seed in 0..3 {
        let place = place.another().await;
        let metadata = opened(&place).await;
        let mut life = Life {
            metadata: &metadata,
            rng: StdRng::seed_from_u64(seed),
            uploads: Vec::new(),
            files: Vec::new(),
            completed: BTreeSet::new(),
        };
        for _ in 0..200 {
            life.step().await;
        }
        let live = counted(&metadata).await;
        // The recount takes every deleted file for one that was uploaded once.
        let never = life
            .files
            .iter()
            .filter(|file| !life.completed.contains(&file.id));
        let never: Vec<String> = never.map(|file| format!("'{}'", file.id)).collect();
        let drop = format!("DELETE FROM files WHERE id IN ({})", never.join(", "));
        place.script(&drop).await;
        recount(&metadata).await;
        assert_eq!(live, counted(&metadata).await, "seed {seed}");
    }
}

async fn counters_stay_exact_when_writes_meet(place: &Place) {
    let metadata = opened(place).await;
    let lives = (0..12).map(|number| {
        let metadata = metadata.clone();
        tokio::spawn(async move {
            let id = format!("u{number}");
            let new = Upload {
                user: "local:one".to_owned(),
                token: "t1".to_owned(),
                ..upload(&id)
            };
            let files: Vec<File> = (0..4)
                .map(|n| file(&format!("f{number}.{n}"), &id, FileStatus::Uploading))
                .collect();
            metadata.create_upload(&new, &files).await.unwrap();
            let completing = files.iter().map(|file| metadata.complete_file(file));
            futures::future::join_all(completing).await;
            let (first, second, upload) = tokio::join!(
                metadata.change_status(&files[0].id, FileStatus::Uploaded, FileStatus::Removed),
                metadata.change_status(&files[0].id, FileStatus::Uploaded, FileStatus::Removed),
                async {
                    match number % 2 {
                        0 => metadata.remove_upload(&id, Timestamp::now()).await,
                        _ => Ok(true),
                    }
                },
            );
            assert!(!(first.unwrap() && second.unwrap()));
            assert!(upload.unwrap());
        })
    });
    for life in lives.collect::<Vec<_>>() {
        life.await.unwrap();
    }
    let live = counted(&metadata).await;
    recount(&metadata).await;
    assert_eq!(live, counted(&metadata).await);
    let current = "SELECT current_uploads FROM usage_stats WHERE token = 't1'";
    assert_eq!(number(&metadata, current).await, 6);
}

async fn daily_counters_add_up(place: &Place) {
    let metadata = opened(place).await;
    let day = time("2026-11-20T23:59:59Z");
    for (id, user, token) in [("a", "", ""), ("b", "", ""), ("c", "local:one", "t1")] {
        let new = Upload {
            user: user.to_owned(),
            token: token.to_owned(),
            created_at: Some(day),
            ..upload(id)
        };
        let files = [file(&format!("f{id}"), id, FileStatus::Uploading)];
        metadata.create_upload(&new, &files).await.unwrap();
        metadata.complete_file(&files[0]).await.unwrap();
    }
    let created = "SELECT * FROM upload_stats_daily WHERE uploads > 0 ORDER BY user_id";
    let created = rows(&metadata, created).await;
    let line = |row: &Row| {
        let scope = format!("{}/{}", row.text("user_id"), row.text("token"));
        (scope, row.integer("uploads"), row.time("day"))
    };
    let midnight = Some(time("2026-11-20T00:00:00Z"));
    let found: Vec<_> = created.iter().map(line).collect();
    assert_eq!(
        found,
        [
            ("/".to_owned(), 2, midnight),
            ("local:one/t1".to_owned(), 1, midnight)
        ]
    );
    assert_eq!(
        number(
            &metadata,
            "SELECT CAST(SUM(bytes) AS bigint) FROM upload_stats_daily"
        )
        .await,
        3 * 42
    );
    let uploaded = "SELECT uploaded_bytes FROM usage_stats WHERE user_id = '__anonymous__'";
    assert_eq!(number(&metadata, uploaded).await, 2 * 42);
    let last = rows(
        &metadata,
        "SELECT last_upload_at FROM usage_stats WHERE token = 't1'",
    )
    .await;
    assert_eq!(last[0].time("last_upload_at"), Some(day));
}

async fn a_user_without_counters_gets_them_and_a_token_does_not(place: &Place) {
    let metadata = place.open().await;
    place.script(USERS).await;
    let new = Upload {
        user: "local:one".to_owned(),
        token: "t1".to_owned(),
        ..upload("one")
    };
    metadata.create_upload(&new, &[]).await.unwrap();
    let scopes = rows(
        &metadata,
        "SELECT * FROM usage_stats WHERE user_id = 'local:one'",
    )
    .await;
    assert_eq!(scopes.len(), 1);
    assert_eq!(scopes[0].text("token"), "");
    assert_eq!(scopes[0].integer("current_uploads"), 1);
    assert_eq!(scopes[0].integer("lifetime_users"), 1);
    assert_eq!(
        scopes[0].time("started_at"),
        Some(time("2026-01-01T00:00:00Z"))
    );
}

async fn a_transfer_that_fails_is_not_counted(place: &Place) {
    let metadata = opened(place).await;
    metadata
        .create_upload(&upload("one"), &[file("f1", "one", FileStatus::Uploading)])
        .await
        .unwrap();
    let before = counted(&metadata).await;
    use FileStatus::{Deleted, Removed, Uploading};
    assert!(
        metadata
            .change_status("f1", Uploading, Removed)
            .await
            .unwrap()
    );
    assert!(
        !metadata
            .complete_file(&file("f1", "one", Uploading))
            .await
            .unwrap()
    );
    assert!(
        metadata
            .change_status("f1", Removed, Deleted)
            .await
            .unwrap()
    );
    assert_eq!(counted(&metadata).await, before);
}

async fn the_two_scopes_without_a_user_are_there_after_every_start(place: &Place) {
    place.open().await.close().await;
    place
        .script(
            "DELETE FROM usage_stats; \
             INSERT INTO usage_stats (user_id, token, current_uploads) VALUES ('', '', 7), \
                 ('__anonymous__', '', 5)",
        )
        .await;
    let metadata = place.open().await;
    let scopes = rows(&metadata, "SELECT * FROM usage_stats ORDER BY user_id").await;
    let found: Vec<_> = scopes
        .iter()
        .map(|row| (row.text("user_id"), row.integer("current_uploads")))
        .collect();
    assert_eq!(
        found,
        [
            (stats::ANONYMOUS.to_owned(), 5),
            (stats::DELETED.to_owned(), 0)
        ]
    );
}
