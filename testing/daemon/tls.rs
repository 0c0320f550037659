//! HTTPS.

use std::sync::Arc;

use crate::api::{client, form, said};
use crate::server::{Home, Server};

const SETTINGS: &str = "SslEnabled = true\nSslCert = \"plik.crt\"\nSslKey = \"plik.key\"\n";

fn issue(home: &Home) -> anyhow::Result<String> {
    let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    std::fs::write(home.path("plik.crt"), issued.cert.pem())?;
    std::fs::write(home.path("plik.key"), issued.signing_key.serialize_pem())?;
    Ok(issued.cert.pem())
}

#[tokio::test]
async fn everything_works_over_tls() -> anyhow::Result<()> {
    let home = Home::new(SETTINGS)?;
    let certificate = issue(&home)?;
    let server = Server::start_in(Arc::new(home), &[]).await?;
    assert!(
        server.url.starts_with("https://127.0.0.1:"),
        "{}",
        server.url
    );

    // The shared client installs the cryptography that this one needs, too.
    drop(client());
    let client = reqwest::Client::builder()
        .add_root_certificate(reqwest::Certificate::from_pem(certificate.as_bytes())?)
        .build()?;
    let quick = client.post(&server.url).multipart(form("a", "hello"));
    let (status, link) = said(quick).await?;
    assert_eq!(status, 200);
    assert!(link.starts_with(&server.url), "{link}");
    let answer = client.get(link.trim_end()).send().await?;
    assert_eq!(
        answer.headers()["strict-transport-security"],
        "max-age=31536000"
    );
    assert_eq!(answer.text().await?, "hello");
    Ok(())
}

#[tokio::test]
async fn without_a_usable_certificate_the_server_does_not_start() -> anyhow::Result<()> {
    for (settings, expected) in [
        (
            "SslEnabled = true",
            "unable to start plik server without ssl certificates",
        ),
        (SETTINGS, "unable to read the certificate plik.crt"),
    ] {
        let output = Home::new(settings)?.run(&[]).await?;
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr)?;
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("\nhint: "), "{text}");
    }
    Ok(())
}
