//! Paths, methods, prefixes, and what the server tells about itself.

use reqwest::Method;
use serde_json::Value;

use crate::api::{raw, refusal, said};
use crate::server::Server;

#[tokio::test]
async fn the_server_tells_its_health_version_and_configuration() -> anyhow::Result<()> {
    let server = Server::start().await?;
    assert_eq!(said(server.get("/health")).await?, (200, "ok\n".to_owned()));
    let (status, version) = said(server.get("/version")).await?;
    assert_eq!(status, 200);
    let version: Value = serde_json::from_str(&version)?;
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["clients"], serde_json::json!([]));
    let (status, config) = said(server.get("/config")).await?;
    assert_eq!(status, 200);
    let config: Value = serde_json::from_str(&config)?;
    assert_eq!(config["maxFileSize"], 10_000_000_000_i64);
    assert_eq!(config["feature_one_shot"], "enabled");
    assert_eq!(config["feature_stream"], "disabled");
    assert_eq!(config["downloadDomainAlias"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let not_found = refusal(404, "404 page not found");
    for path in [
        "/nothing",
        "/upload/x/",
        "/me",
        "/stats",
        "/qrcode",
        "/auth/logout",
        "/archive/x/a.zip",
    ] {
        assert_eq!(said(server.get(path)).await?, not_found, "{path}");
    }
    for (method, path) in [
        (Method::GET, "/"),
        (Method::HEAD, "/config"),
        (Method::PUT, "/upload"),
        (Method::OPTIONS, "/upload"),
        (Method::OPTIONS, "/file/u/f/n"),
        (Method::PATCH, "/file/u/f/n"),
    ] {
        let answer = server.request(method.clone(), path).send().await?;
        assert_eq!(answer.status(), 405, "{method} {path}");
        assert!(!answer.headers().contains_key("allow"));
        assert_eq!(answer.text().await?, "");
    }
    Ok(())
}

#[tokio::test]
async fn unclean_paths_are_redirected() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for (target, location) in [
        ("//config?x=1", "/config?x=1"),
        ("/a/../config", "/config"),
        ("/file/./u//f", "/file/u/f"),
    ] {
        for method in ["GET", "POST"] {
            let request =
                format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = raw(&server, request.as_bytes()).await?;
            assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
            assert!(
                answer.contains(&format!("\r\nlocation: {location}\r\n")),
                "{answer}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn everything_lives_under_the_prefix() -> anyhow::Result<()> {
    let server = Server::with("Path = \"/sub/\"").await?;
    let not_found = refusal(404, "404 page not found");
    assert_eq!(said(server.get("/version")).await?, not_found);
    assert_eq!(said(server.get("/subversion")).await?, not_found);
    assert_eq!(said(server.get("/sub/version")).await?.0, 200);
    let answer = server.get("/sub").send().await?;
    assert_eq!(answer.status(), 301);
    assert_eq!(answer.headers()["location"], "/sub/");

    let quick = server
        .post("/sub/")
        .multipart(crate::api::form("a", "hello"));
    let (status, link) = said(quick).await?;
    assert_eq!(status, 200);
    let path = link
        .trim_end()
        .strip_prefix(&server.url)
        .unwrap_or_default();
    assert!(path.starts_with("/sub/file/"), "{link}");
    assert_eq!(said(server.get(path)).await?, (200, "hello".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_head_has_a_maximum_size() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let long = format!(
        "GET /config HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let answer = raw(&server, long.as_bytes()).await?;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    Ok(())
}
