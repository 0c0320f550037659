//! What happens when a client, the administrator or the machine cuts something short.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::api::{content, refusal, said};
use crate::server::Server;

#[tokio::test]
async fn a_file_is_uploading_until_its_last_byte_is_there() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server
        .create_with_file(json!({ "oneShot": true }), "a")
        .await?;
    let connection = server.upload_in_part(&upload, 0).await?;
    let id = upload.json["files"][0]["id"].as_str().unwrap_or_default();
    let refused = refusal(404, &format!("file a ({id}) is not available : uploading"));
    assert_eq!(said(server.get(&upload.path(0))).await?, refused);
    drop(connection);
    Ok(())
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for sent in [0, 100, 5_000_000] {
        let upload = server.create_with_file(json!({}), "a").await?;
        let connection = server.upload_in_part(&upload, sent).await?;
        drop(connection);
        server.await_status(&upload, "deleted").await?;
        assert!(server.home.files_below("files")?.is_empty(), "{sent}");
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error_that_can_be_read() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.create_with_file(json!({}), "a").await?;
    let body = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhello";
    let request = server
        .post(&upload.path(0))
        .header("X-UploadToken", &upload.token)
        .header("Content-Type", "multipart/form-data; boundary=XX")
        .body(body);
    let reason = "the body ends before its last boundary";
    let text = format!("unable to read data from request body : {reason}");
    assert_eq!(said(request).await?, refusal(500, &text));
    assert_eq!(server.file_status(&upload).await?, "deleted");
    Ok(())
}

#[tokio::test]
async fn a_file_removed_while_it_is_uploaded_is_gone_in_the_end() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.create_with_file(json!({}), "a").await?;
    let mut connection = server.upload_in_part(&upload, 1_000_000).await?;
    let remove = server
        .delete(&upload.path(0))
        .header("X-UploadToken", &upload.token);
    assert_eq!(said(remove).await?, (200, "ok".to_owned()));
    connection.write_all(b"\r\n--XX--\r\n").await?;
    let mut answer = vec![0; 12];
    connection.read_exact(&mut answer).await?;
    assert_eq!(answer, b"HTTP/1.1 404");
    server.await_status(&upload, "deleted").await?;
    assert!(server.home.files_below("files")?.is_empty());
    Ok(())
}

/// The whole process dies in the middle of an upload, as in a power failure.
#[tokio::test]
async fn a_crash_leaves_nothing_visible_and_loses_nothing_acknowledged() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let whole = server
        .share(json!({}), "whole", content(2_000_000, 1))
        .await?;
    let cut = server.create_with_file(json!({}), "cut").await?;
    let connection = server.upload_in_part(&cut, 5_000_000).await?;

    let server = server.crash_and_restart().await?;
    drop(connection);
    assert_eq!(
        server.get(&whole.path(0)).send().await?.bytes().await?,
        content(2_000_000, 1)
    );
    assert_eq!(server.file_status(&cut).await?, "uploading");
    assert_eq!(said(server.get(&cut.path(0))).await?.0, 404);
    assert_eq!(
        server.home.files_below("files")?.len(),
        1,
        "what was half written is swept"
    );
    let remove = server
        .delete(&cut.path(0))
        .header("X-UploadToken", &cut.token);
    assert_eq!(said(remove).await?, (200, "ok".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_running_download_survives_the_request_to_stop() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let bytes = content(30_000_000, 1);
    let upload = server.share(json!({}), "a", bytes.clone()).await?;
    let idle = server.connect().await?;
    let mut answer = server.get(&upload.path(0)).send().await?;
    let mut received = answer.chunk().await?.unwrap_or_default().to_vec();

    server.signal(Signal::TERM)?;
    // Once the listener is closed, the server is on its way down.
    while server.connect().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while let Some(chunk) = answer.chunk().await? {
        received.extend_from_slice(&chunk);
    }
    assert!(received == bytes);
    let status = server.ended().await?;
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(
        server
            .log()
            .contains(&format!("[INFO    ] Shutdown server at {}\n", server.url))
    );
    drop(idle);
    Ok(())
}

#[tokio::test]
async fn a_second_signal_cuts_what_still_runs_and_cleans_up() -> anyhow::Result<()> {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start().await?;
        let download = server.share(json!({}), "a", content(30_000_000, 1)).await?;
        let mut stuck = server.get(&download.path(0)).send().await?;
        stuck.chunk().await?;
        let upload = server.create_with_file(json!({}), "b").await?;
        let _connection = server.upload_in_part(&upload, 1_000_000).await?;

        server.signal(Signal::TERM)?;
        while server.connect().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let asked = Instant::now();
        server.signal(signal)?;
        assert_eq!(server.ended().await?.code(), Some(0), "{}", server.log());
        assert!(asked.elapsed() < Duration::from_secs(10));

        let server = server.restart_ended().await?;
        assert_eq!(server.file_status(&upload).await?, "deleted");
        assert_eq!(server.file_status(&download).await?, "uploaded");
    }
    Ok(())
}

#[tokio::test]
async fn everything_is_there_after_a_restart() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server
        .share(json!({ "comments": "c" }), "a", "hello")
        .await?;
    let path = format!("/upload/{}", upload.id);
    let before = said(server.get(&path)).await?;
    let server = server.restart().await?;
    assert_eq!(said(server.get(&path)).await?, before);
    assert_eq!(
        said(server.get(&upload.path(0))).await?,
        (200, "hello".to_owned())
    );
    Ok(())
}
