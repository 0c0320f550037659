//! The same daemon on PostgreSQL and S3.

use anyhow::Context;
use serde_json::json;

use crate::api::{content, said};
use crate::server::{Home, Server};

/// A database of one's own; dropped with [`Database::drop_it`].
struct Database {
    maintenance: String,
    name: String,
}

impl Database {
    async fn create() -> anyhow::Result<Self> {
        let maintenance = std::env::var("PLIKD_TEST_POSTGRES")?;
        let mut rng = rand::rng();
        let name = plikd::model::id::crockford(16, &mut rng);
        let database = Self {
            maintenance,
            name: format!("plikd_daemon_{name}"),
        };
        database.execute("CREATE DATABASE").await?;
        Ok(database)
    }

    async fn drop_it(self) -> anyhow::Result<()> {
        self.execute("DROP DATABASE").await
    }

    async fn execute(&self, action: &str) -> anyhow::Result<()> {
        let (client, connection) =
            tokio_postgres::connect(&self.maintenance, tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        client
            .batch_execute(&format!("{action} {}", self.name))
            .await?;
        drop(client);
        Ok(connection.await??)
    }

    /// The maintenance URL with the name of this database in place of its own.
    fn url(&self) -> anyhow::Result<String> {
        let (server, _) = self
            .maintenance
            .rsplit_once('/')
            .context("no database in the URL")?;
        Ok(format!("{server}/{}", self.name))
    }
}

/// The table `[DataBackendConfig]` for a bucket of one's own.
fn bucket() -> anyhow::Result<String> {
    let url = std::env::var("PLIKD_TEST_S3")?;
    let rest = url.strip_prefix("http://").context("not an http URL")?;
    let (keys, endpoint) = rest.split_once('@').context("no keys in the URL")?;
    let (access, secret) = keys.split_once(':').context("no secret in the URL")?;
    let name = plikd::model::id::crockford(16, &mut rand::rng());
    Ok(format!(
        "[DataBackendConfig]\nEndpoint = \"{endpoint}\"\nAccessKeyID = \"{access}\"\n\
         SecretAccessKey = \"{secret}\"\nBucket = \"daemon-{name}\"\nLocation = \"us-east-1\"\n\
         UseSSL = false\n"
    ))
}

async fn exercise(server: &Server) -> anyhow::Result<()> {
    // Over the part size of S3, so in several parts.
    let bytes = content(20_000_000, 1);
    let upload = server
        .share(json!({ "comments": "é" }), "a.bin", bytes.clone())
        .await?;
    let whole = server.get(&upload.path(0)).send().await?.bytes().await?;
    assert!(whole == bytes);
    let part = server
        .get(&upload.path(0))
        .header("Range", "bytes=16777215-16777300");
    assert!(part.send().await?.bytes().await? == bytes[16_777_215..=16_777_300]);

    let once = server
        .share(json!({ "oneShot": true }), "b", content(1_000_000, 2))
        .await?;
    assert!(server.get(&once.path(0)).send().await?.bytes().await? == content(1_000_000, 2));
    assert!(
        said(server.get(&once.path(0)))
            .await?
            .1
            .ends_with(" : deleted\n")
    );

    let cut = server.create_with_file(json!({}), "c").await?;
    drop(server.upload_in_part(&cut, 6_000_000).await?);
    server.await_status(&cut, "deleted").await?;

    let remove = server.delete(&format!("/upload/{}", upload.id));
    assert_eq!(
        said(remove.header("X-UploadToken", &upload.token)).await?.0,
        200
    );
    let output = server.home.run(&["clean"]).await?;
    let text = String::from_utf8(output.stdout)?;
    assert!(text.contains("purged 1 deleted files"), "{text}");
    assert!(text.contains("purged 1 deleted uploads"), "{text}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
async fn the_daemon_serves_from_postgresql() -> anyhow::Result<()> {
    let database = Database::create().await?;
    let backends = format!(
        "[MetadataBackendConfig]\nDriver = \"postgres\"\nConnectionString = \"{}\"\n\
         [DataBackendConfig]\nDirectory = \"files\"\n",
        database.url()?
    );
    let server = Home::with_backends("", &backends)?.start().await?;
    exercise(&server).await?;
    let mut server = server;
    server.signal(rustix::process::Signal::TERM)?;
    assert_eq!(server.ended().await?.code(), Some(0));
    database.drop_it().await
}

#[tokio::test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
async fn the_daemon_serves_from_s3() -> anyhow::Result<()> {
    let backends = format!(
        "[MetadataBackendConfig]\nConnectionString = \"plik.db\"\n{}",
        bucket()?
    );
    let server = Home::with_backends("DataBackend = \"s3\"", &backends)?
        .start()
        .await?;
    exercise(&server).await
}
