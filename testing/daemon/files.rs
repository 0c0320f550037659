//! Uploading, adding and removing files.

use std::time::Duration;

use md5::{Digest, Md5};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::api::{content, form, refusal, said};
use crate::server::Server;

fn hex_md5(bytes: &[u8]) -> String {
    Md5::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[tokio::test]
async fn a_declared_file_is_uploaded_once() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.create_with_file(json!({}), "a.txt").await?;
    let path = upload.path(0);
    let not_available = |status: &str| {
        let id = upload.json["files"][0]["id"].as_str().unwrap_or_default();
        refusal(
            404,
            &format!("file a.txt ({id}) is not available : {status}"),
        )
    };
    assert_eq!(said(server.get(&path)).await?, not_available("missing"));

    let answer = server.send(&upload, &path, "a.txt", "hello").send().await?;
    let text = answer.text().await?;
    let declared = &upload.json["files"][0];
    let value = |key: &str| declared[key].as_str().unwrap_or_default();
    let expected = format!(
        concat!(
            r#"{{"id":"{}","fileName":"a.txt","status":"uploaded","#,
            r#""fileMd5":"5d41402abc4b2a76b9719d911017c592","fileType":"text/plain; charset=utf-8","#,
            r#""fileSize":5,"reference":"0","createdAt":"{}"}}"#
        ),
        value("id"),
        value("createdAt"),
    );
    assert_eq!(text, expected);
    assert_eq!(said(server.get(&path)).await?, (200, "hello".to_owned()));

    let again = server.send(&upload, &path, "a.txt", "other");
    let refused = refusal(400, "invalid file status uploaded, expected missing");
    assert_eq!(said(again).await?, refused);
    assert_eq!(said(server.get(&path)).await?, (200, "hello".to_owned()));
    Ok(())
}

#[tokio::test]
async fn many_callers_of_one_file_store_it_once() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.create_with_file(json!({}), "a").await?;
    let path = upload.path(0);
    let callers = (0..20).map(|_| said(server.send(&upload, &path, "a", content(200_000, 1))));
    let mut winners = 0;
    for answer in futures::future::join_all(callers).await {
        let (status, text) = answer?;
        winners += u32::from(status == 200);
        assert!(
            status == 200 || text.starts_with("invalid file status "),
            "{text}"
        );
    }
    assert_eq!(winners, 1);
    assert_eq!(
        server.get(&path).send().await?.bytes().await?,
        content(200_000, 1)
    );
    Ok(())
}

#[tokio::test]
async fn files_are_added_without_being_declared() -> anyhow::Result<()> {
    let server = Server::with("MaxFilePerUpload = 3").await?;
    let upload = server.create(json!({})).await?;
    let path = format!("/file/{}", upload.id);
    let bytes = content(300_000, 3);
    for name in ["a b é%?#.bin", "same", "same"] {
        let (status, text) = said(server.send(&upload, &path, name, bytes.clone())).await?;
        assert_eq!(status, 200, "{text}");
        let file: Value = serde_json::from_str(&text)?;
        assert_eq!(file["fileMd5"], hex_md5(&bytes));
        assert_eq!(file["fileSize"], 300_000);
        assert_eq!(file["fileType"], "application/octet-stream");
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        let id = file["id"].as_str().unwrap_or_default();
        let file = server.get(&format!("/file/{}/{id}/{name}", upload.id));
        assert_eq!(file.send().await?.bytes().await?, bytes);
    }
    let refused = refusal(400, "maximum number file per upload reached, limit is 3");
    assert_eq!(said(server.send(&upload, &path, "d", "x")).await?, refused);
    Ok(())
}

#[tokio::test]
async fn names_are_checked_and_lose_their_directories() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.create_with_file(json!({}), "a.txt").await?;
    let add = format!("/file/{}", upload.id);
    let (_, text) = said(server.send(&upload, &add, "../../etc/passwd", "x")).await?;
    assert_eq!(serde_json::from_str::<Value>(&text)?["fileName"], "passwd");
    let (_, text) = said(server.send(&upload, &add, r"dir\name", "x")).await?;
    assert_eq!(
        serde_json::from_str::<Value>(&text)?["fileName"],
        r"dir\name"
    );

    let long = "n".repeat(1025);
    let reason = "file name nnnnnnnnnnnnnnnnnnnn... is too long, maximum length is 1024 characters";
    let refused = refusal(400, &format!("unable to create file : {reason}"));
    assert_eq!(said(server.send(&upload, &add, &long, "x")).await?, refused);
    let refused = refusal(400, "unable to create file : missing file name");
    assert_eq!(said(server.send(&upload, &add, "/", "x")).await?, refused);

    let other = server.send(&upload, &upload.path(0), "b.txt", "x");
    assert_eq!(said(other).await?, refusal(400, "invalid file name"));
    let path = upload.path(0).replace("a.txt", "b.txt");
    let other = server.send(&upload, &path, "b.txt", "x");
    assert_eq!(said(other).await?, refusal(400, "invalid file name"));
    assert_eq!(
        said(server.get(&path)).await?,
        refusal(400, "invalid file name")
    );
    Ok(())
}

#[tokio::test]
async fn a_form_that_is_none_is_told_apart() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.create(json!({})).await?;
    let send = |body: &str, content_type: &str| {
        server
            .post(&format!("/file/{}", upload.id))
            .header("X-UploadToken", &upload.token)
            .header("Content-Type", content_type)
            .body(body.to_owned())
    };
    for (body, content_type) in [
        ("hello", "text/plain"),
        ("hello", "multipart/form-data"),
        ("hello", "multipart/form-data; boundary=XX"),
        (
            "--XX\r\nno header\r\n\r\n\r\n--XX--",
            "multipart/form-data; boundary=XX",
        ),
    ] {
        let (status, text) = said(send(body, content_type)).await?;
        assert_eq!(status, 400);
        assert!(text.starts_with("invalid multipart form : "), "{text}");
    }
    let part = |header: &str| {
        format!("--XX\r\nContent-Disposition: form-data; {header}\r\n\r\nhello\r\n--XX--\r\n")
    };
    let multipart = "multipart/mixed; boundary=XX";
    let other = send(&part("name=\"other\"; filename=\"x\""), multipart);
    let refused = refusal(400, "missing file from multipart form");
    assert_eq!(said(other).await?, refused);
    let refused = refusal(400, "missing file name from multipart form");
    for header in ["name=\"file\"", "name=\"file\"; filename=\"\""] {
        assert_eq!(said(send(&part(header), multipart)).await?, refused);
    }
    let (status, text) = said(send(&part("name=file; filename*=UTF-8''%C3%A9"), multipart)).await?;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&text)?["fileName"], "é");
    Ok(())
}

#[tokio::test]
async fn parts_around_the_file_are_skipped() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.create(json!({})).await?;
    let form = Form::new()
        .text("before", "x".repeat(100_000))
        .part("file", Part::bytes(b"hello".to_vec()).file_name("a"))
        .part("file", Part::bytes(b"second".to_vec()).file_name("b"))
        .text("after", "y".repeat(100_000));
    let request = server.post(&format!("/file/{}", upload.id)).multipart(form);
    let (status, text) = said(request.header("X-UploadToken", &upload.token)).await?;
    assert_eq!(status, 200, "{text}");
    let file: Value = serde_json::from_str(&text)?;
    assert_eq!(said(server.get(&upload.path_of(&file))).await?.1, "hello");
    Ok(())
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_and_gone() -> anyhow::Result<()> {
    let server = Server::with("MaxFileSizeStr = \"100kB\"").await?;
    let fits = server.share(json!({}), "a", content(100_000, 1)).await?;
    assert_eq!(server.file_status(&fits).await?, "uploaded");
    let upload = server.create_with_file(json!({}), "a").await?;
    let send = server.send(&upload, &upload.path(0), "a", content(100_001, 1));
    let refused = refusal(400, "file too big (limit is set to 100 kB)");
    assert_eq!(said(send).await?, refused);
    assert_eq!(server.file_status(&upload).await?, "deleted");
    assert_eq!(server.home.files_below("files")?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_empty_file_is_a_file() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let params = json!({ "files": [{ "fileName": "a", "fileSize": 7 }] });
    let upload = server.create(params).await?;
    let file = server.fill(&upload, "").await?;
    assert_eq!(
        (&file["fileSize"], &file["fileType"]),
        (&json!(0), &json!(""))
    );
    assert_eq!(file["fileMd5"], "d41d8cd98f00b204e9800998ecf8427e");
    let answer = server.get(&upload.path(0)).send().await?;
    assert_eq!(answer.headers()["content-length"], "0");
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    Ok(())
}

#[tokio::test]
async fn files_and_uploads_nobody_knows_are_not_found() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.share(json!({}), "a", "x").await?;
    let other = server.share(json!({}), "b", "x").await?;
    let file_of_other = other.path(0).replace(&other.id, &upload.id);
    let id = other.json["files"][0]["id"].as_str().unwrap_or_default();
    assert_eq!(
        said(server.get(&file_of_other)).await?,
        refusal(404, &format!("file {id} not found"))
    );
    let unknown = server.get(&format!("/file/{}/nofile/a", upload.id));
    assert_eq!(said(unknown).await?, refusal(404, "file nofile not found"));
    for path in ["/upload/nothing", "/file/nothing/x/y"] {
        assert_eq!(
            said(server.get(path)).await?,
            refusal(404, "upload nothing not found")
        );
    }
    let add = server.post("/file/nothing").multipart(form("a", "b"));
    assert_eq!(said(add).await?, refusal(404, "upload nothing not found"));
    Ok(())
}

#[tokio::test]
async fn a_removed_file_stays_listed_and_is_not_served() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.share(json!({}), "a", "x").await?;
    let remove = || {
        server
            .delete(&upload.path(0))
            .header("X-UploadToken", &upload.token)
    };
    assert_eq!(said(remove()).await?, (200, "ok".to_owned()));
    assert_eq!(said(remove()).await?, (200, "ok".to_owned()));
    assert_eq!(server.file_status(&upload).await?, "deleted");
    let id = upload.json["files"][0]["id"].as_str().unwrap_or_default();
    let refused = refusal(404, &format!("file a ({id}) is not available : deleted"));
    assert_eq!(said(server.get(&upload.path(0))).await?, refused);

    let missing = server.create_with_file(json!({}), "a").await?;
    let remove = server
        .delete(&missing.path(0))
        .header("X-UploadToken", &missing.token);
    assert_eq!(said(remove).await?, (200, "ok".to_owned()));
    assert_eq!(server.file_status(&missing).await?, "deleted");
    let late = server.send(&missing, &missing.path(0), "a", "x");
    let refused = refusal(400, "invalid file status deleted, expected missing");
    assert_eq!(said(late).await?, refused);
    Ok(())
}

#[tokio::test]
async fn the_text_of_an_early_error_reaches_the_client() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.create(json!({})).await?;
    let refused = refusal(403, "you are not allowed to add file to this upload");
    for size in [0, 1000, 200_000] {
        for _ in 0..20 {
            let body = form("a", content(size, 1));
            let add = server.post(&format!("/file/{}", upload.id)).multipart(body);
            assert_eq!(said(add).await?, refused);
        }
    }
    Ok(())
}

/// Sends the whole of a body that is refused, and looks for the answer only when the server has
/// long said what it has to say.
async fn refused_late(server: &Server, size: usize, more: &str) -> anyhow::Result<String> {
    let upload = server.create(json!({})).await?;
    let mut connection = server.connect().await?;
    let head = format!(
        "POST /file/{} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n",
        upload.id
    );
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(&vec![0; size]).await?;
    connection.write_all(more.as_bytes()).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut answers = String::new();
    connection.read_to_string(&mut answers).await?;
    Ok(answers)
}

#[tokio::test]
async fn a_small_body_that_nobody_wants_keeps_the_connection_open() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let more = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = refused_late(&server, 200_000, more).await?;
    assert!(answers.starts_with("HTTP/1.1 403 "), "{answers}");
    assert!(answers.ends_with("\r\n\r\nok\n"), "{answers}");
    Ok(())
}

#[tokio::test]
async fn a_large_body_that_nobody_wants_does_not_reset_the_connection() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let answers = refused_late(&server, 1_500_000, "").await?;
    assert!(answers.starts_with("HTTP/1.1 403 "), "{answers}");
    assert!(answers.ends_with("you are not allowed to add file to this upload\n"));
    Ok(())
}

#[tokio::test]
async fn uploads_adopted_in_stream_mode_are_not_served() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.create_with_file(json!({}), "a").await?;
    let database = rusqlite::Connection::open(server.home.path("plik.db"))?;
    database.busy_timeout(Duration::from_secs(10))?;
    database.execute("UPDATE uploads SET stream = 1 WHERE id = ?1", [&upload.id])?;

    let path = upload.path(0).replace("/file/", "/stream/");
    let send = server.send(&upload, &path, "a", "x");
    assert_eq!(
        said(send).await?,
        refusal(400, "streaming uploads are disabled")
    );
    let id = upload.json["files"][0]["id"].as_str().unwrap_or_default();
    let refused = refusal(404, &format!("file a ({id}) is not available : missing"));
    assert_eq!(said(server.get(&path)).await?, refused);
    let remove = server.delete(&path).header("X-UploadToken", &upload.token);
    assert_eq!(said(remove).await?, (200, "ok".to_owned()));
    Ok(())
}

#[tokio::test]
async fn many_small_files_at_once_all_arrive() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let one = async |number: u64| {
        let bytes = content(1000 + number as usize, number);
        let upload = server.share(json!({}), "a.bin", bytes.clone()).await?;
        anyhow::ensure!(server.get(&upload.path(0)).send().await?.bytes().await? == bytes);
        let remove = server
            .delete(&upload.path(0))
            .header("X-UploadToken", &upload.token);
        anyhow::ensure!(said(remove).await?.0 == 200);
        anyhow::ensure!(said(server.get(&upload.path(0))).await?.0 == 404);
        Ok(())
    };
    for result in futures::future::join_all((0..200).map(one)).await {
        result?;
    }
    assert!(server.home.files_below("files")?.is_empty());
    Ok(())
}
