//! `POST /upload`: what may be created, and what is answered.

use serde_json::{Value, json};

use crate::api::{refusal, said};
use crate::server::Server;

/// A refusal of `POST /upload`.
fn refused(reason: &str) -> (u16, String) {
    refusal(400, &format!("unable to create upload : {reason}"))
}

#[tokio::test]
async fn an_upload_is_answered_as_clients_read_it() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let params = json!({
        "ttl": 3600, "oneShot": true, "comments": "a <b> & c",
        "files": [{ "fileName": "a.txt", "fileType": "text/plain", "fileSize": 5, "reference": "0" }],
    });
    let answer = server
        .post("/upload")
        .body(params.to_string())
        .send()
        .await?;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["content-type"],
        "text/plain; charset=utf-8"
    );
    let text = answer.text().await?;
    let json: Value = serde_json::from_str(&text)?;
    let value = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
    let expected = format!(
        concat!(
            r#"{{"id":"{}","ttl":3600,"extend_ttl":false,"downloadDomain":"","#,
            r#""comments":"a \u003cb\u003e \u0026 c","files":[{{"id":"{}","fileName":"a.txt","#,
            r#""status":"missing","fileMd5":"","fileType":"text/plain","fileSize":5,"#,
            r#""reference":"0","createdAt":"{}"}}],"uploadToken":"{}","admin":true,"#,
            r#""stream":false,"oneShot":true,"removable":false,"protectedByPassword":false,"#,
            r#""createdAt":"{}","expireAt":"{}"}}"#
        ),
        value("/id"),
        value("/files/0/id"),
        value("/files/0/createdAt"),
        value("/uploadToken"),
        value("/createdAt"),
        value("/expireAt"),
    );
    assert_eq!(text, expected);
    assert_eq!((value("/id").len(), value("/uploadToken").len()), (16, 32));
    let created: jiff::Timestamp = value("/createdAt").parse()?;
    let expires: jiff::Timestamp = value("/expireAt").parse()?;
    assert_eq!(expires.duration_since(created).as_secs(), 3600);
    assert!(value("/createdAt").ends_with('Z'));
    Ok(())
}

#[tokio::test]
async fn an_empty_body_means_defaults() -> anyhow::Result<()> {
    let server = Server::with("DefaultTTLStr = \"2h\"\nMaxTTLStr = \"-1\"").await?;
    for body in ["", "null", "{}", r#"{"files":null,"ttl":0}"#] {
        let (status, text) = said(server.post("/upload").body(body)).await?;
        assert_eq!(status, 200, "{text}");
        let json: Value = serde_json::from_str(&text)?;
        assert_eq!(json["ttl"], 7200);
        assert_eq!(json["files"], Value::Null);
        assert_eq!(json["admin"], true);
    }
    let endless = server.create(json!({ "ttl": -1 })).await?;
    assert_eq!(
        (&endless.json["ttl"], &endless.json["expireAt"]),
        (&json!(-1), &Value::Null)
    );
    Ok(())
}

#[tokio::test]
async fn what_a_client_may_not_decide_has_no_effect() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server
        .create(json!({
            "id": "mine", "admin": false, "downloadDomain": "http://evil.example",
            "uploadIp": "1.2.3.4", "uploadToken": "token", "user": "admin", "token": "x",
            "createdAt": "2000-01-01T00:00:00Z", "expireAt": "2000-01-01T00:00:00Z",
        }))
        .await?;
    assert_ne!(upload.id, "mine");
    assert_ne!(upload.token, "token");
    assert_eq!(upload.json["downloadDomain"], "");
    assert_eq!(upload.json.get("uploadIp"), None);
    assert_eq!(upload.json.get("user"), None);
    assert!(upload.json["createdAt"].as_str() > Some("2020"));
    Ok(())
}

#[tokio::test]
async fn limits_and_features_are_refused_with_the_texts_clients_know() -> anyhow::Result<()> {
    let server = Server::with(
        "MaxFileSizeStr = \"10kB\"\nMaxFilePerUpload = 1\nMaxTTLStr = \"100\"\n\
         DefaultTTLStr = \"50\"\nFeatureOneShot = \"disabled\"\nFeatureRemovable = \"disabled\"\n\
         FeaturePassword = \"disabled\"\nFeatureExtendTTL = \"disabled\"\nFeatureE2EE = \"disabled\"",
    )
    .await?;
    let file = |name: &str, size: i64| json!({ "fileName": name, "fileSize": size });
    for (params, reason) in [
        (json!({ "oneShot": true }), "one shot uploads are disabled"),
        (
            json!({ "removable": true }),
            "removable uploads are disabled",
        ),
        (json!({ "stream": true }), "streaming uploads are disabled"),
        (json!({ "extend_ttl": true }), "extend TTL is disabled"),
        (
            json!({ "ttl": -1 }),
            "cannot set infinite TTL (maximum allowed is : 100)",
        ),
        (
            json!({ "ttl": 101 }),
            "invalid TTL. (maximum allowed is : 100)",
        ),
        (
            json!({ "password": "x" }),
            "upload password protection is disabled",
        ),
        (
            json!({ "e2ee": "age" }),
            "end-to-end encryption is disabled",
        ),
        (
            json!({ "files": [file("a", 1), file("b", 1)] }),
            "too many files. maximum is 1",
        ),
        (json!({ "files": [file("", 1)] }), "missing file name"),
        (json!({ "files": [null] }), "missing file name"),
        (
            json!({ "files": [file(&"n".repeat(1025), 1)] }),
            "file name nnnnnnnnnnnnnnnnnnnn... is too long, maximum length is 1024 characters",
        ),
        (
            json!({ "files": [file("a", 10_001)] }),
            "file is too big (10 kB), maximum file size is 10 kB",
        ),
    ] {
        assert_eq!(
            server.create_said(&params).await?,
            refused(reason),
            "{params}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_required_password_is_required() -> anyhow::Result<()> {
    let server = Server::with("FeaturePassword = \"forced\"").await?;
    let reason = "server only accept uploads protected by password";
    assert_eq!(server.create_said(&json!({})).await?, refused(reason));
    let quick = server.post("/").multipart(crate::api::form("a", "b"));
    assert_eq!(said(quick).await?, refused(reason));
    assert_eq!(
        server.create(json!({ "password": "x" })).await?.json["protectedByPassword"],
        true
    );
    Ok(())
}

#[tokio::test]
async fn types_are_strict_and_keys_are_not() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server
        .create(json!({ "OneShot": true, "TTL": 60, "unknown": { "a": [1] } }))
        .await?;
    assert_eq!(
        (&upload.json["oneShot"], &upload.json["ttl"]),
        (&json!(true), &json!(60))
    );
    for body in [
        r#"{"ttl":"60"}"#,
        r#"{"ttl":1.5}"#,
        r#"{"ttl":9223372036854775808}"#,
        r#"{"oneShot":"true"}"#,
        r#"{} {}"#,
        r#"{"#,
        "[]",
        r#"{"comments":"a\u0000b"}"#,
    ] {
        let (status, text) = said(server.post("/upload").body(body)).await?;
        assert_eq!(status, 400, "{body}");
        let prefix = "unable to deserialize request body : ";
        assert!(
            text.starts_with(prefix) && text.ends_with('\n'),
            "{body}: {text}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_body_of_more_than_a_mebibyte_is_refused() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let body = |size: usize| format!(r#"{{"comments":"{}"}}"#, "c".repeat(size - 15));
    let (status, _) = said(server.post("/upload").body(body(1024 * 1024))).await?;
    assert_eq!(status, 200);
    let said = said(server.post("/upload").body(body(1024 * 1024 + 1))).await?;
    assert_eq!(
        said,
        refusal(
            400,
            "unable to read request body : http: request body too large"
        )
    );
    Ok(())
}

#[tokio::test]
async fn with_authentication_nobody_is_taken_for_anonymous() -> anyhow::Result<()> {
    let server = Server::with("FeatureAuthentication = \"forced\"").await?;
    server
        .await_log("this version serves anonymous uploads only")
        .await?;
    assert_eq!(
        server.create_said(&json!({})).await?,
        refused("anonymous uploads are disabled")
    );
    let with_token = server.post("/upload").header("X-PlikToken", "some-token");
    assert_eq!(said(with_token).await?, refusal(403, "invalid token"));

    let server = Server::with("FeatureAuthentication = \"enabled\"").await?;
    server
        .await_log("this version serves anonymous uploads only")
        .await?;
    server.create(json!({})).await?;
    let with_token = server.get("/upload/x").header("X-PlikToken", "some-token");
    assert_eq!(said(with_token).await?, refusal(403, "invalid token"));

    let server = Server::start().await?;
    let with_token = server.post("/upload").header("X-PlikToken", "some-token");
    assert_eq!(said(with_token).await?.0, 200);
    Ok(())
}
