//! Downloads: headers, ranges, types.

use reqwest::{Method, Response};
use serde_json::json;

use crate::api::{Upload, content, refusal, said};
use crate::server::Server;

fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    let value = answer.headers().get(name)?;
    std::str::from_utf8(value.as_bytes()).ok()
}

async fn ranged(server: &Server, upload: &Upload, range: &str) -> anyhow::Result<Response> {
    Ok(server
        .get(&upload.path(0))
        .header("Range", range)
        .send()
        .await?)
}

#[tokio::test]
async fn a_download_carries_its_length_name_and_protection() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.share(json!({}), "a b.txt", "hello").await?;
    for method in [Method::GET, Method::HEAD] {
        let answer = server
            .request(method.clone(), &upload.path(0))
            .send()
            .await?;
        assert_eq!(answer.status(), 200);
        for (name, expected) in [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", "5"),
            ("content-disposition", "filename=\"a b.txt\""),
            ("accept-ranges", "bytes"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            (
                "content-security-policy",
                "default-src 'none'; media-src 'self'; form-action 'none'; frame-ancestors 'none'; \
                 sandbox",
            ),
        ] {
            assert_eq!(header(&answer, name), Some(expected), "{method} {name}");
        }
        for absent in [
            "etag",
            "last-modified",
            "cache-control",
            "strict-transport-security",
        ] {
            assert_eq!(header(&answer, absent), None, "{method} {absent}");
        }
        let body = answer.text().await?;
        assert_eq!(body, if method == Method::GET { "hello" } else { "" });
    }
    let answer = server
        .get(&format!("{}?dl=1", upload.path(0)))
        .send()
        .await?;
    let expected = "attachment; filename=\"a b.txt\"";
    assert_eq!(header(&answer, "content-disposition"), Some(expected));
    let answer = server
        .get(&upload.path(0).replace("/file/", "/stream/"))
        .send()
        .await?;
    assert_eq!(answer.text().await?, "hello");
    Ok(())
}

#[tokio::test]
async fn behind_https_browsers_are_told_to_stay_there() -> anyhow::Result<()> {
    let server = Server::with("EnhancedWebSecurity = true").await?;
    let upload = server.share(json!({}), "a", "hello").await?;
    let answer = server.get(&upload.path(0)).send().await?;
    assert_eq!(
        header(&answer, "strict-transport-security"),
        Some("max-age=31536000")
    );
    assert_eq!(header(&answer, "x-xss-protection"), Some("1; mode=block"));
    Ok(())
}

#[tokio::test]
async fn active_content_is_served_as_bytes() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for (bytes, stored, served) in [
        (
            &b"<html>"[..],
            "text/html; charset=utf-8",
            "application/octet-stream",
        ),
        (
            b"<?xml version=\"1.0\"?>",
            "text/xml; charset=utf-8",
            "application/octet-stream",
        ),
        (b"%PDF-1.4", "application/pdf", "application/octet-stream"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png", "image/png"),
        (
            b"age-encryption.org/v1\n",
            "application/octet-stream",
            "application/octet-stream",
        ),
    ] {
        let upload = server.create_with_file(json!({}), "a").await?;
        assert_eq!(server.fill(&upload, bytes).await?["fileType"], stored);
        let answer = server.get(&upload.path(0)).send().await?;
        assert_eq!(header(&answer, "content-type"), Some(served));
    }
    let upload = server.share(json!({ "e2ee": "age" }), "a", "hello").await?;
    let answer = server.get(&upload.path(0)).send().await?;
    assert_eq!(
        header(&answer, "content-type"),
        Some("application/octet-stream")
    );
    let web = server
        .get(&upload.path(0))
        .header("X-ClientApp", "web_client")
        .send()
        .await?;
    assert_eq!(web.status(), 307);
    assert_eq!(
        header(&web, "location"),
        Some(format!("/#/?id={}", upload.id).as_str())
    );
    Ok(())
}

#[tokio::test]
async fn a_range_is_a_part_of_the_file() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let bytes = content(1_000_000, 5);
    let upload = server.share(json!({}), "a", bytes.clone()).await?;
    for (range, first, end) in [
        ("bytes=0-", 0, 1_000_000),
        ("bytes=0-0", 0, 1),
        ("bytes=100-499999", 100, 500_000),
        ("bytes=999999-2000000", 999_999, 1_000_000),
        ("bytes=-5", 999_995, 1_000_000),
    ] {
        let answer = ranged(&server, &upload, range).await?;
        assert_eq!(answer.status(), 206, "{range}");
        let expected = format!("bytes {first}-{}/1000000", end - 1);
        assert_eq!(header(&answer, "content-range"), Some(expected.as_str()));
        assert_eq!(header(&answer, "accept-ranges"), Some("bytes"));
        assert_eq!(answer.bytes().await?, bytes[first..end], "{range}");
    }
    for range in ["bytes=1000000-", "bytes=-0", "bytes=b-a"] {
        let answer = ranged(&server, &upload, range).await?;
        assert_eq!(answer.status(), 416, "{range}");
        assert_eq!(header(&answer, "content-range"), Some("bytes */1000000"));
    }
    let answer = ranged(&server, &upload, "lines=1-2").await?;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await?, bytes);
    Ok(())
}

#[tokio::test]
async fn several_ranges_are_the_parts_of_one_answer() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.share(json!({}), "a", "0123456789").await?;
    let answer = ranged(&server, &upload, "bytes=0-1,8-,3-3").await?;
    assert_eq!(answer.status(), 206);
    let content_type = header(&answer, "content-type")
        .unwrap_or_default()
        .to_owned();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=");
    let boundary = boundary.unwrap_or_default().to_owned();
    assert_eq!(header(&answer, "content-range"), None);
    let length: usize = header(&answer, "content-length")
        .unwrap_or_default()
        .parse()?;
    let text = answer.text().await?;
    assert_eq!(text.len(), length);
    let part = |range: &str, bytes: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Range: bytes {range}/10\r\n\r\n{bytes}"
        )
    };
    let parts = [part("0-1", "01"), part("8-9", "89"), part("3-3", "3")];
    assert_eq!(text, format!("{}\r\n--{boundary}--\r\n", parts.concat()));
    Ok(())
}

#[tokio::test]
async fn a_file_that_the_backend_has_lost_is_a_failure_explained_in_debug_mode_only()
-> anyhow::Result<()> {
    for (settings, expected) in [
        ("", "internal server error\n"),
        ("Debug = true", "unable to get file : "),
    ] {
        let server = Server::with(settings).await?;
        let upload = server.share(json!({}), "a", "hello").await?;
        for file in server.home.files_below("files")? {
            std::fs::remove_file(file)?;
        }
        let (status, text) = said(server.get(&upload.path(0))).await?;
        assert_eq!(status, 500);
        assert!(text.starts_with(expected), "{text}");
        server
            .await_log("[CRITICAL] unable to get file error=")
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_web_interface_is_redirected_on_errors_and_nobody_else() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let path = "/file/no&up/x/y%20z?dl=1";
    let plain = server.get(path).header("User-Agent", "Mozilla/5.0");
    assert_eq!(said(plain).await?, refusal(404, "upload no&up not found"));
    for method in [Method::GET, Method::HEAD] {
        let web = server
            .request(method, path)
            .header("X-ClientApp", "web_client");
        let answer = web.send().await?;
        assert_eq!(answer.status(), 301);
        let expected = "/#/?err=upload%20no%26up%20not%20found&errcode=404\
                        &uri=%2Ffile%2Fno%26up%2Fx%2Fy%2520z%3Fdl%3D1";
        assert_eq!(header(&answer, "location"), Some(expected));
    }
    let web = server
        .get("/upload/nothing")
        .header("X-ClientApp", "web_client");
    assert_eq!(said(web).await?, refusal(404, "upload nothing not found"));
    Ok(())
}
