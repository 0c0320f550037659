//! `plikd clean`.

use std::time::Duration;

use serde_json::json;

use crate::api::{content, refusal, said};
use crate::server::Server;

#[tokio::test]
async fn cleaning_erases_what_expired_and_what_was_removed_and_nothing_else() -> anyhow::Result<()>
{
    let server = Server::start().await?;
    let expired = server
        .share(json!({ "ttl": 1 }), "a", content(1000, 1))
        .await?;
    let removed = server.share(json!({}), "b", content(1000, 2)).await?;
    let kept = server.share(json!({}), "c", "hello").await?;
    let remove = server.delete(&format!("/upload/{}", removed.id));
    assert_eq!(
        said(remove.header("X-UploadToken", &removed.token))
            .await?
            .0,
        200
    );
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(server.home.files_below("files")?.len(), 3);

    // The server runs on meanwhile, as another one on the same backends might.
    let output = server.home.run(&["clean"]).await?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in [
        "Cleaning expired uploads...",
        "removed 1 expired uploads",
        "purged 2 deleted files",
        "purged 2 deleted uploads",
    ] {
        assert!(
            text.contains(&format!("[INFO    ] {line}")),
            "{line} is not in {text}"
        );
    }
    assert_eq!(server.home.files_below("files")?.len(), 1);
    let path = format!("/upload/{}", expired.id);
    let gone = refusal(404, &format!("upload {} not found", expired.id));
    assert_eq!(said(server.get(&path)).await?, gone);
    assert_eq!(
        said(server.get(&kept.path(0))).await?,
        (200, "hello".to_owned())
    );
    let database = rusqlite::Connection::open(server.home.path("plik.db"))?;
    let rows = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0));
    assert_eq!(rows("SELECT count(*) FROM uploads")?, 1);
    assert_eq!(rows("SELECT count(*) FROM files")?, 1);

    let again = String::from_utf8(server.home.run(&["clean"]).await?.stdout)?;
    assert!(again.contains("purged 0 deleted files"), "{again}");
    Ok(())
}

/// The server lives on in PostgreSQL, with the blobs that this database still tells to erase.
#[tokio::test]
async fn cleaning_leaves_a_database_that_was_moved_and_its_blobs_alone() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let expired = json!({ "ttl": 1 });
    server.share(expired, "a", content(1000, 1)).await?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let marker = server.home.path("plik.db.moved");
    std::fs::write(&marker, "2026-01-02T03:04:05Z\npostgres db:5432/plik\n")?;
    let output = server.home.run(&["clean"]).await?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr)?,
        "plikd: plik.db was migrated to PostgreSQL at 2026-01-02T03:04:05Z\nhint: set \
         PLIKD_POSTGRES_URL (or go on with the old data: plikd --use-old-database)\n"
    );
    assert_eq!(server.home.files_below("files")?.len(), 1);
    std::fs::remove_file(marker)?;
    let output = server.home.run(&["clean"]).await?;
    assert_eq!(output.status.code(), Some(0));
    assert!(server.home.files_below("files")?.is_empty());
    Ok(())
}
