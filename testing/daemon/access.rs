//! Who may see, change and remove an upload.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::api::{form, refusal, said};
use crate::server::Server;

#[tokio::test]
async fn an_upload_is_read_with_and_without_its_token() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.create(json!({ "comments": "c" })).await?;
    let path = format!("/upload/{}", upload.id);

    let text = server.get(&path).send().await?.text().await?;
    let created = upload.json["createdAt"].as_str().unwrap_or_default();
    let expires = upload.json["expireAt"].as_str().unwrap_or_default();
    let expected = format!(
        concat!(
            r#"{{"id":"{}","ttl":2592000,"extend_ttl":false,"downloadDomain":"","comments":"c","#,
            r#""files":[],"admin":false,"stream":false,"oneShot":false,"removable":false,"#,
            r#""protectedByPassword":false,"createdAt":"{}","expireAt":"{}"}}"#
        ),
        upload.id, created, expires
    );
    assert_eq!(text, expected);

    let request = server.get(&path).header("X-UploadToken", &upload.token);
    let json: Value = serde_json::from_str(&request.send().await?.text().await?)?;
    assert_eq!(
        (&json["admin"], &json["uploadToken"]),
        (&json!(true), &json!(upload.token))
    );

    let request = server.get(&path).header("X-UploadToken", "wrong");
    let json: Value = serde_json::from_str(&request.send().await?.text().await?)?;
    assert_eq!(
        (&json["admin"], json.get("uploadToken")),
        (&json!(false), None)
    );
    Ok(())
}

#[tokio::test]
async fn only_its_administrator_changes_an_upload() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.share(json!({}), "a.txt", "hello").await?;
    let path = upload.path(0);

    let add = server
        .post(&format!("/file/{}", upload.id))
        .multipart(form("b", "x"));
    let refused = refusal(403, "you are not allowed to add file to this upload");
    assert_eq!(said(add).await?, refused);
    let refused = refusal(403, "you are not allowed to remove files from this upload");
    assert_eq!(said(server.delete(&path)).await?, refused);
    let remove = || server.delete(&format!("/upload/{}", upload.id));
    let refused = refusal(403, "you are not allowed to remove this upload");
    assert_eq!(said(remove()).await?, refused);
    assert_eq!(said(remove().header("X-UploadToken", "")).await?, refused);

    let ok = (200, "ok".to_owned());
    assert_eq!(
        said(remove().header("X-UploadToken", &upload.token)).await?,
        ok
    );
    let gone = refusal(404, &format!("upload {} not found", upload.id));
    assert_eq!(
        said(remove().header("X-UploadToken", &upload.token)).await?,
        gone
    );
    assert_eq!(said(server.get(&path)).await?, gone);
    Ok(())
}

#[tokio::test]
async fn anybody_removes_what_is_removable() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server
        .share(json!({ "removable": true }), "a.txt", "hello")
        .await?;
    let ok = (200, "ok".to_owned());
    assert_eq!(said(server.delete(&upload.path(0))).await?, ok);
    assert_eq!(said(server.delete(&upload.path(0))).await?, ok, "again");
    assert_eq!(server.file_status(&upload).await?, "deleted");
    assert_eq!(
        server.home.files_below("files")?,
        Vec::<std::path::PathBuf>::new()
    );
    assert_eq!(
        said(server.delete(&format!("/upload/{}", upload.id))).await?,
        ok
    );
    Ok(())
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_echoed() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let params = json!({ "login": "foo", "password": "bar", "files": [{ "fileName": "a.txt" }] });
    let answer = server
        .post("/upload")
        .body(params.to_string())
        .send()
        .await?;
    let credentials = format!("Basic {}", BASE64_STANDARD.encode("foo:bar"));
    assert_eq!(answer.headers()["authorization"], credentials.as_str());
    let text = answer.text().await?;
    assert!(!text.contains("foo") && !text.contains("bar"), "{text}");

    let upload = server.create_with_file(params, "a.txt").await?;
    server.fill(&upload, "hello").await?;
    for path in [format!("/upload/{}", upload.id), upload.path(0)] {
        let answer = server.get(&path).send().await?;
        assert_eq!(answer.headers()["www-authenticate"], "Basic realm=\"plik\"");
        for (header, why) in [
            ("", "missing Authorization header"),
            ("Basic", "invalid Authorization header"),
            ("Basic a b", "invalid Authorization header"),
            ("basic eA==", "invalid http authorization scheme"),
            ("Basic eA==", "invalid credentials"),
        ] {
            let request = server.get(&path).header("Authorization", header);
            let text = "please provide valid credentials to access this upload";
            assert_eq!(
                said(request).await?,
                refusal(401, &format!("{text} : {why}"))
            );
        }
        let request = server.get(&path).header("Authorization", &credentials);
        assert_eq!(said(request).await?.0, 200);
        let request = server.get(&path).header("X-UploadToken", &upload.token);
        assert_eq!(said(request).await?.0, 200);
        // A browser can only prompt if it is not sent elsewhere.
        let request = server.get(&path).header("X-ClientApp", "web_client");
        assert_eq!(said(request).await?.0, 401);
    }
    Ok(())
}

#[tokio::test]
async fn the_default_login_opens_what_was_protected_without_one() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let params = json!({ "password": "bar" }).to_string();
    let answer = server.post("/upload").body(params).send().await?;
    let credentials = answer.headers()["authorization"].to_str()?.to_owned();
    assert_eq!(
        credentials,
        format!("Basic {}", BASE64_STANDARD.encode("plik:bar"))
    );
    let json: Value = serde_json::from_str(&answer.text().await?)?;
    let path = format!("/upload/{}", json["id"].as_str().unwrap_or_default());
    assert_eq!(
        said(server.get(&path).header("Authorization", credentials))
            .await?
            .0,
        200
    );
    Ok(())
}

#[tokio::test]
async fn an_expired_upload_is_gone_for_everybody() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.share(json!({ "ttl": 1 }), "a.txt", "hello").await?;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let expired = refusal(404, &format!("upload {} has expired", upload.id));
    for path in [format!("/upload/{}", upload.id), upload.path(0)] {
        let request = server.get(&path).header("X-UploadToken", &upload.token);
        assert_eq!(said(request).await?, expired);
    }
    Ok(())
}

#[tokio::test]
async fn an_access_extends_the_time_to_live_if_the_upload_says_so() -> anyhow::Result<()> {
    let server = Server::with("FeatureExtendTTL = \"enabled\"").await?;
    let upload = server
        .share(json!({ "ttl": 60, "extend_ttl": true }), "a.txt", "x")
        .await?;
    let expiry = async || {
        let text = server
            .get(&format!("/upload/{}", upload.id))
            .send()
            .await?
            .text()
            .await?;
        let json: Value = serde_json::from_str(&text)?;
        anyhow::Ok(
            json["expireAt"]
                .as_str()
                .unwrap_or_default()
                .parse::<jiff::Timestamp>()?,
        )
    };
    let first = expiry().await?;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(said(server.get(&upload.path(0))).await?.0, 200);
    assert!(expiry().await? > first);
    Ok(())
}

#[tokio::test]
async fn only_listed_addresses_create_uploads() -> anyhow::Result<()> {
    let server = Server::with(
        "UploadWhitelist = [\"10.0.0.0/8\", \"192.0.2.7\"]\nSourceIpHeader = \"X-Real-IP\"",
    )
    .await?;
    let from = |address: &str| server.post("/upload").header("X-Real-IP", address);
    let untrusted = refusal(403, "untrusted source IP address");
    assert_eq!(said(server.post("/upload")).await?, untrusted);
    assert_eq!(said(from("192.0.2.8")).await?, untrusted);
    let quick = server.post("/").multipart(form("a", "b"));
    assert_eq!(said(quick).await?, untrusted);
    for address in ["10.1.2.3", "192.0.2.7", "::ffff:10.1.2.3"] {
        assert_eq!(said(from(address)).await?.0, 200, "{address}");
    }
    for address in ["10.0.0.1, 1.1.1.1", "10.0.0.1:80", "localhost"] {
        let refused = refusal(400, "invalid IP address");
        assert_eq!(said(from(address)).await?, refused, "{address}");
        let config = server.get("/config").header("X-Real-IP", address);
        assert_eq!(said(config).await?, refused, "{address}");
        let health = server.get("/health").header("X-Real-IP", address);
        assert_eq!(said(health).await?.0, 200, "{address}");
    }
    // Files are added to an upload from anywhere.
    let upload: Value = serde_json::from_str(&said(from("10.1.2.3")).await?.1)?;
    let text = |key: &str| upload[key].as_str().unwrap_or_default();
    let add = server
        .post(&format!("/file/{}", text("id")))
        .multipart(form("a", "b"));
    assert_eq!(
        said(add.header("X-UploadToken", text("uploadToken")))
            .await?
            .0,
        200
    );
    Ok(())
}
