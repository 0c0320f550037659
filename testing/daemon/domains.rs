//! Public domains: where downloads are allowed, and what else is not.

use reqwest::Method;
use serde_json::json;

use crate::api::{form, refusal, said};
use crate::server::Server;

const DOWNLOAD: &str = "DownloadDomain = \"https://dl.example\"\n\
                        DownloadDomainAlias = [\"https://alias.example:8443\"]\n";

#[tokio::test]
async fn files_are_downloaded_from_the_download_domain_only() -> anyhow::Result<()> {
    let server = Server::with(DOWNLOAD).await?;
    let upload = server.share(json!({}), "a", "hello").await?;
    assert_eq!(upload.json["downloadDomain"], "https://dl.example");
    assert_eq!(upload.json["downloadURL"], "https://dl.example");
    let get = |host: &str| server.get(&upload.path(0)).header("Host", host);
    for host in ["dl.example", "alias.example:8443"] {
        assert_eq!(said(get(host)).await?, (200, "hello".to_owned()), "{host}");
    }
    for host in ["other.example", "dl.example:443", "alias.example"] {
        let refused = refusal(400, &format!("Invalid download domain {host}"));
        assert_eq!(said(get(host)).await?, refused);
    }
    let upload = server
        .get(&format!("/upload/{}", upload.id))
        .header("Host", "other.example");
    assert_eq!(said(upload).await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn quick_uploads_link_to_the_public_domain_with_an_encoded_name() -> anyhow::Result<()> {
    for (settings, base) in [
        (DOWNLOAD, "https://dl.example/sub"),
        (
            "PlikDomain = \"https://plik.example\"",
            "https://plik.example/sub",
        ),
    ] {
        let server = Server::with(&format!("Path = \"/sub\"\n{settings}")).await?;
        let quick = server.post("/sub/").multipart(form("a b é.txt", "hello"));
        let (_, link) = said(quick).await?;
        assert!(link.starts_with(&format!("{base}/file/")), "{link}");
        assert!(link.ends_with("/a%20b%20%C3%A9.txt\n"), "{link}");
    }
    Ok(())
}

#[tokio::test]
async fn with_two_domains_the_download_domain_serves_downloads_only() -> anyhow::Result<()> {
    let server = Server::with(&format!(
        "PlikDomain = \"https://plik.example\"\n{DOWNLOAD}"
    ))
    .await?;
    let upload = server.share(json!({}), "a", "hello").await?;
    for path in ["/config?x=%20y", "/upload/u", "/", "/index.html"] {
        let answer = server.get(path).header("Host", "dl.example").send().await?;
        assert_eq!(answer.status(), 302, "{path}");
        let expected = format!("https://plik.example{path}");
        assert_eq!(answer.headers()["location"], expected.as_str());
    }
    let health = server.get("/health").header("Host", "dl.example");
    assert_eq!(said(health).await?.0, 200);
    let elsewhere = server.get("/config").header("Host", "plik.example");
    assert_eq!(said(elsewhere).await?.0, 200);

    let origin = "access-control-allow-origin";
    let download = server
        .get(&upload.path(0))
        .header("Host", "dl.example")
        .send()
        .await?;
    assert_eq!(download.headers()[origin], "https://plik.example");
    let path = "/file/nothing/x/y";
    let preflight = server
        .request(Method::OPTIONS, path)
        .header("Host", "dl.example");
    let preflight = preflight.send().await?;
    assert_eq!(preflight.status(), 200);
    assert_eq!(preflight.headers()[origin], "https://plik.example");
    Ok(())
}

#[tokio::test]
async fn a_prefix_is_kept_when_a_request_is_sent_to_the_other_domain() -> anyhow::Result<()> {
    let settings = format!("Path = \"/sub\"\nPlikDomain = \"https://plik.example\"\n{DOWNLOAD}");
    let server = Server::with(&settings).await?;
    let answer = server
        .get("/sub/config")
        .header("Host", "dl.example")
        .send()
        .await?;
    assert_eq!(answer.status(), 302);
    assert_eq!(
        answer.headers()["location"],
        "https://plik.example/sub/config"
    );
    Ok(())
}
