//! Files that are downloaded once.

use serde_json::json;

use crate::api::{content, refusal, said};
use crate::server::Server;

fn one_shot() -> serde_json::Value {
    json!({ "oneShot": true })
}

#[tokio::test]
async fn the_end_of_the_download_is_the_end_of_the_file() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for size in [0, 1, 5000, 3_000_000] {
        let bytes = content(size, 1);
        let upload = server.share(one_shot(), "a", bytes.clone()).await?;
        let path = upload.path(0);
        let id = upload.json["files"][0]["id"].as_str().unwrap_or_default();
        for _ in 0..2 {
            let head = server.head(&path).send().await?;
            assert_eq!(head.status(), 200, "HEAD consumes nothing");
        }
        let answer = server
            .get(&path)
            .header("Range", "bytes=0-0")
            .send()
            .await?;
        assert_eq!(answer.status(), 200, "a range is ignored");
        assert_eq!(
            answer.headers()["cache-control"],
            "no-cache, no-store, must-revalidate"
        );
        assert_eq!(answer.headers()["pragma"], "no-cache");
        assert_eq!(answer.headers()["expires"], "0");
        assert!(!answer.headers().contains_key("accept-ranges"));
        assert_eq!(answer.bytes().await?, bytes);

        let deleted = refusal(404, &format!("file a ({id}) is not available : deleted"));
        assert_eq!(said(server.get(&path)).await?, deleted, "{size}");
        assert_eq!(server.file_status(&upload).await?, "deleted");
    }
    assert!(server.home.files_below("files")?.is_empty());
    Ok(())
}

#[tokio::test]
async fn of_many_downloads_at_once_exactly_one_wins() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for round in 0..20 {
        let bytes = content(300_000, round);
        let upload = server.share(one_shot(), "a", bytes.clone()).await?;
        let path = upload.path(0);
        let callers = (0..10).map(async |_| {
            let answer = server.get(&path).send().await?;
            anyhow::Ok((answer.status().as_u16(), answer.bytes().await?))
        });
        let mut winners = 0;
        for answer in futures::future::join_all(callers).await {
            let (status, body) = answer?;
            if status == 200 {
                winners += 1;
                assert_eq!(body, bytes);
            } else {
                let text = String::from_utf8_lossy(&body);
                assert_eq!(status, 404, "{text}");
                let is_expected = text.ends_with(" is not available : removed\n")
                    || text.ends_with(" is not available : deleted\n");
                assert!(is_expected, "{text}");
            }
        }
        assert_eq!(winners, 1);
    }
    Ok(())
}

#[tokio::test]
async fn coming_too_early_does_not_consume_the_file() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.create_with_file(one_shot(), "a").await?;
    assert_eq!(said(server.get(&upload.path(0))).await?.0, 404);
    server.fill(&upload, "hello").await?;
    assert_eq!(
        said(server.get(&upload.path(0))).await?,
        (200, "hello".to_owned())
    );
    Ok(())
}

/// The bytes are at hand before the row says `removed`: they may be erased from then on.
#[tokio::test]
async fn a_file_whose_bytes_cannot_be_had_is_not_consumed() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.share(one_shot(), "a", "hello").await?;
    let blobs = server.home.files_below("files")?;
    let away = server.home.path("away");
    std::fs::rename(&blobs[0], &away)?;
    assert_eq!(said(server.get(&upload.path(0))).await?.0, 500);
    assert_eq!(server.file_status(&upload).await?, "uploaded");
    std::fs::rename(&away, &blobs[0])?;
    let back = said(server.get(&upload.path(0))).await?;
    assert_eq!(back, (200, "hello".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_download_broken_half_way_consumes_the_file() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server
        .share(one_shot(), "a", content(20_000_000, 1))
        .await?;
    let mut answer = server.get(&upload.path(0)).send().await?;
    assert!(answer.chunk().await?.is_some());
    drop(answer);
    server.await_status(&upload, "deleted").await?;
    assert!(server.home.files_below("files")?.is_empty());
    Ok(())
}

#[tokio::test]
async fn link_previews_do_not_consume_the_file() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.share(one_shot(), "a", "hello").await?;
    let text =
        "Messaging app link preview bots are not allowed to download one-shot or streaming files";
    for agent in [
        "Slackbot 1.0",
        "Mozilla/5.0 (compatible; Discordbot/2.0)",
        "x MicrosoftPreview",
    ] {
        let request = server.get(&upload.path(0)).header("User-Agent", agent);
        assert_eq!(said(request).await?, refusal(406, text), "{agent}");
        let request = server.head(&upload.path(0)).header("User-Agent", agent);
        assert_eq!(said(request).await?.0, 200, "{agent}");
    }
    let request = server.get(&upload.path(0)).header("User-Agent", "slackbot");
    assert_eq!(said(request).await?, (200, "hello".to_owned()));
    let normal = server.share(json!({}), "a", "hello").await?;
    let request = server.get(&normal.path(0)).header("User-Agent", "Slackbot");
    assert_eq!(said(request).await?, (200, "hello".to_owned()));
    Ok(())
}
