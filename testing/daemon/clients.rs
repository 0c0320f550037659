//! The call sequences of the clients that exist.

use anyhow::Context;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::api::{content, form, said};
use crate::server::Server;

/// The command line client of Plik: `plik --oneshot -p foo:bar a.txt b.txt`.
#[tokio::test]
async fn the_command_line_client_uploads_and_downloads() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let file = |name: &str, reference: &str| {
        json!({
            "id": "", "fileName": name, "status": "", "fileMd5": "", "fileType": "", "fileSize": 0,
            "reference": reference, "createdAt": "0001-01-01T00:00:00Z",
        })
    };
    let params = json!({
        "id": "", "ttl": 3600, "extend_ttl": false, "downloadDomain": "", "comments": "hello",
        "files": [file("a.txt", "0"), file("b é.txt", "1")], "admin": false, "stream": false,
        "oneShot": true, "removable": false, "protectedByPassword": false, "login": "foo",
        "password": "bar", "token": "0fd2", "createdAt": "0001-01-01T00:00:00Z", "expireAt": null,
    });
    const CREDENTIALS: &str = "Basic Zm9vOmJhcg==";
    let request = server
        .post("/upload")
        .header("User-Agent", "plik_client/1.3.8")
        .header("X-ClientApp", "plik_cli")
        .header("X-ClientVersion", "linux-amd64-1.3.8")
        .header("X-PlikToken", "0fd2")
        .header("Authorization", CREDENTIALS)
        .header("Content-Type", "application/json")
        .body(params.to_string());
    let (status, text) = said(request).await?;
    assert_eq!(status, 200, "{text}");
    let upload: Value = serde_json::from_str(&text)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (id, token) = (text(&upload["id"]), text(&upload["uploadToken"]));

    let files = upload["files"].as_array().context("no files")?;
    let sent = files.iter().map(async |declared| {
        assert_eq!(declared["status"], "missing");
        let name = text(&declared["fileName"]);
        let encoded = name.replace(' ', "%20");
        let path = format!("/file/{id}/{}/{encoded}", text(&declared["id"]));
        let part = Part::stream(reqwest::Body::wrap_stream(futures::stream::iter(
            content(100_000, name.len() as u64)
                .chunks(7000)
                .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
                .collect::<Vec<_>>(),
        )));
        let part = part
            .file_name(name.clone())
            .mime_str("application/octet-stream")?;
        let request = server
            .post(&path)
            .header("X-UploadToken", &token)
            .header("Authorization", CREDENTIALS)
            .multipart(Form::new().part("file", part));
        let (status, answer) = said(request).await?;
        assert_eq!(status, 200, "{answer}");
        let file: Value = serde_json::from_str(&answer)?;
        assert_eq!(file["reference"], declared["reference"]);
        assert_eq!(file["status"], "uploaded");
        let get = server
            .get(&path)
            .header("Authorization", CREDENTIALS)
            .send()
            .await?;
        assert_eq!(get.bytes().await?, content(100_000, name.len() as u64));
        anyhow::Ok(())
    });
    for result in futures::future::join_all(sent).await {
        result?;
    }
    let get = server
        .get(&format!("/upload/{id}"))
        .header("Authorization", CREDENTIALS);
    let upload: Value = serde_json::from_str(&said(get).await?.1)?;
    assert_eq!(upload["files"].as_array().map(Vec::len), Some(2));
    assert_eq!(upload["files"][0]["status"], "deleted");
    let remove = server
        .delete(&format!("/upload/{id}"))
        .header("X-UploadToken", &token);
    assert_eq!(said(remove).await?.0, 200);
    Ok(())
}

/// `curl --form 'file=@a.txt' http://server`
#[tokio::test]
async fn a_quick_upload_answers_one_link() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let quick = server.post("").multipart(form("a b.txt", "hello"));
    let (status, link) = said(quick).await?;
    assert_eq!(status, 200);
    assert_eq!(link.lines().count(), 1);
    let path = link
        .trim_end()
        .strip_prefix(&server.url)
        .context("another server")?;
    assert!(
        path.starts_with("/file/") && path.ends_with("/a%20b.txt"),
        "{link}"
    );
    assert_eq!(said(server.get(path)).await?, (200, "hello".to_owned()));

    let (status, text) = said(server.post("/").body("no form")).await?;
    assert_eq!(status, 400);
    assert!(text.starts_with("invalid multipart form : "), "{text}");
    Ok(())
}

/// curl announces larger bodies and waits for permission to send them.
#[tokio::test]
async fn permission_to_send_is_given_before_a_refusal_only_if_it_is_needed() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let body = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\
                hello\r\n--XX--\r\n";
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n\
             Content-Type: multipart/form-data; boundary=XX\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
    };
    let mut connection = server.connect().await?;
    connection.write_all(head("/").as_bytes()).await?;
    let mut permission = [0; 25];
    connection.read_exact(&mut permission).await?;
    assert_eq!(&permission, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.write_all(body.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    let mut connection = server.connect().await?;
    connection
        .write_all(head("/file/nothing").as_bytes())
        .await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    Ok(())
}

/// The bash client sends keys in capitals with the content type of a form, and cuts the answer at
/// its commas.
#[tokio::test]
async fn the_bash_client_reads_the_answer_with_sed() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let request = server
        .post("/upload")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(r#"{ "OneShot" : false, "Removable" : false, "Ttl" : 0 }"#);
    let (_, text) = said(request).await?;
    let lines_with = |text: &str, key: &str| {
        let pattern = format!("\"{key}\"");
        text.split(',')
            .filter(|line| line.contains(&pattern))
            .count()
    };
    for key in ["id", "uploadToken", "downloadDomain"] {
        assert_eq!(lines_with(&text, key), 1, "{key} in {text}");
    }
    let upload: Value = serde_json::from_str(&text)?;
    let value = |key: &str| upload[key].as_str().unwrap_or_default();
    let add = server
        .post(&format!("/file/{}", value("id")))
        .multipart(form("a", "hello"));
    let (_, text) = said(add.header("X-UploadToken", value("uploadToken"))).await?;
    for key in ["id", "fileMd5", "fileName", "status"] {
        assert_eq!(lines_with(&text, key), 1, "{key} in {text}");
    }
    Ok(())
}

#[tokio::test]
async fn sharex_uploads_with_the_shape_of_old_clients() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let body = r#"{"ttl":1800,"removable":false,"oneShot":false,"comments":null,"login":null,
        "password":null,"files":{"0":{"fileName":"x.png","fileType":"image/png","fileSize":12}}}"#;
    let (status, text) = said(server.post("/upload").body(body)).await?;
    assert_eq!(status, 200, "{text}");
    let upload: Value = serde_json::from_str(&text)?;
    let files = upload["files"].as_object().context("files are no object")?;
    let (file_id, file) = files.iter().next().context("no file")?;
    let text_of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (id, token) = (text_of(&upload["id"]), text_of(&upload["uploadToken"]));
    let expected = format!(
        concat!(
            r#"{{"id":"{}","uploadDate":{},"ttl":1800,"downloadDomain":"","comments":"","files":"#,
            r#"{{"{}":{{"id":"{}","fileName":"x.png","status":"missing","fileMd5":"","#,
            r#""fileType":"image/png","fileSize":12,"reference":"","createdAt":"{}"}}}},"#,
            r#""uploadToken":"{}","admin":false,"stream":false,"oneShot":false,"removable":false,"#,
            r#""protectedByPassword":false,"protectedByYubikey":false}}"#
        ),
        id,
        upload["uploadDate"],
        file_id,
        file_id,
        text_of(&file["createdAt"]),
        token,
    );
    assert_eq!(text, expected);
    assert!(
        upload["uploadDate"]
            .as_i64()
            .is_some_and(|date| date < i64::from(i32::MAX))
    );

    let path = format!("/file/{id}/{file_id}/x.png");
    let send = server.post(&path).multipart(form("x.png", "\u{89}PNG"));
    let (status, text) = said(send.header("x-uploadtoken", token)).await?;
    assert_eq!(status, 200, "{text}");
    Ok(())
}
