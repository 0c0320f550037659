//! What a client does with a server.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder, redirect};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::Server;

/// The status and the text of an answer.
pub type Said = (u16, String);

/// An upload as its creator knows it.
pub struct Upload {
    pub id: String,
    pub token: String,
    pub json: Value,
}

impl Upload {
    /// The path of a declared file, by its place.
    pub fn path(&self, index: usize) -> String {
        file_path(&self.id, &self.json["files"][index])
    }

    /// The same for the answer to an added file.
    pub fn path_of(&self, file: &Value) -> String {
        file_path(&self.id, file)
    }
}

fn file_path(upload_id: &str, file: &Value) -> String {
    let text = |key: &str| file[key].as_str().unwrap_or_default();
    format!("/file/{upload_id}/{}/{}", text("id"), text("fileName"))
}

/// A client that follows no redirect.
pub fn client() -> Client {
    static CLIENT: OnceLock<()> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // Fails if another test was faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::builder()
        .redirect(redirect::Policy::none())
        .timeout(Duration::from_secs(120))
        .build()
        .expect("a client without settings that could be wrong")
}

/// The status and text of the answer to a request.
pub async fn said(request: RequestBuilder) -> anyhow::Result<Said> {
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await?))
}

/// A multipart body with one file.
pub fn form(name: &str, content: impl Into<Vec<u8>>) -> Form {
    let part = Part::bytes(content.into()).file_name(name.to_owned());
    Form::new().part("file", part)
}

/// What [`said`] of a refusal.
pub fn refusal(status: u16, text: &str) -> Said {
    (status, format!("{text}\n"))
}

impl Server {
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        client().request(method, format!("{}{path}", self.url))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub fn head(&self, path: &str) -> RequestBuilder {
        self.request(Method::HEAD, path)
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    pub fn delete(&self, path: &str) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }

    /// What the server says to these creation parameters.
    pub async fn create_said(&self, params: &Value) -> anyhow::Result<Said> {
        said(self.post("/upload").body(params.to_string())).await
    }

    /// Creates an upload.
    pub async fn create(&self, params: Value) -> anyhow::Result<Upload> {
        let (status, text) = self.create_said(&params).await?;
        ensure!(status == 200, "{status} {text}");
        let json: Value = serde_json::from_str(&text)?;
        let text = |key: &str| json[key].as_str().map(str::to_owned).context("no such key");
        Ok(Upload {
            id: text("id")?,
            token: text("uploadToken")?,
            json,
        })
    }

    /// Creates an upload with `params` and one declared file `name`.
    pub async fn create_with_file(&self, mut params: Value, name: &str) -> anyhow::Result<Upload> {
        params["files"] = json!([{ "fileName": name, "reference": "0" }]);
        self.create(params).await
    }

    /// A request that sends `content` as `name`.
    pub fn send(
        &self,
        upload: &Upload,
        path: &str,
        name: &str,
        content: impl Into<Vec<u8>>,
    ) -> RequestBuilder {
        let request = self.post(path).multipart(form(name, content));
        request.header("X-UploadToken", &upload.token)
    }

    /// Uploads the declared file of an upload.
    pub async fn fill(
        &self,
        upload: &Upload,
        content: impl Into<Vec<u8>>,
    ) -> anyhow::Result<Value> {
        let name = upload.json["files"][0]["fileName"].as_str();
        let name = name.context("no file declared")?;
        let request = self.send(upload, &upload.path(0), name, content);
        let (status, text) = said(request).await?;
        ensure!(status == 200, "{status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Creates an upload with one file and uploads that.
    pub async fn share(
        &self,
        params: Value,
        name: &str,
        content: impl Into<Vec<u8>>,
    ) -> anyhow::Result<Upload> {
        let upload = self.create_with_file(params, name).await?;
        self.fill(&upload, content).await?;
        Ok(upload)
    }

    /// The status of the only file of an upload, as its administrator sees it.
    pub async fn file_status(&self, upload: &Upload) -> anyhow::Result<String> {
        let request = self.get(&format!("/upload/{}", upload.id));
        let answer = request
            .header("X-UploadToken", &upload.token)
            .send()
            .await?;
        let json: Value = serde_json::from_str(&answer.text().await?)?;
        let status = json["files"][0]["status"].as_str();
        Ok(status.context("no file")?.to_owned())
    }

    /// Waits until the only file of an upload has that status.
    pub async fn await_status(&self, upload: &Upload, expected: &str) -> anyhow::Result<()> {
        let mut status = String::new();
        for _ in 0..1000 {
            status = self.file_status(upload).await?;
            if status == expected {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("the file stays {status} instead of {expected}")
    }

    /// A connection on which a test writes and reads what it likes.
    pub async fn connect(&self) -> anyhow::Result<TcpStream> {
        Ok(TcpStream::connect(self.host()).await?)
    }

    /// Starts to upload the declared file of an upload, and stops in the middle: `sent` bytes of a
    /// body that announces many more.
    pub async fn upload_in_part(&self, upload: &Upload, sent: usize) -> anyhow::Result<TcpStream> {
        let name = upload.json["files"][0]["fileName"]
            .as_str()
            .unwrap_or_default();
        let mut connection = self.connect().await?;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nX-UploadToken: {}\r\nContent-Length: 1000000000\r\n\
             Content-Type: multipart/form-data; boundary=XX\r\n\r\n--XX\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n",
            upload.path(0),
            self.host(),
            upload.token
        );
        connection.write_all(head.as_bytes()).await?;
        connection.write_all(&content(sent, 7)).await?;
        self.await_status(upload, "uploading").await?;
        Ok(connection)
    }
}

/// Writes a request as it is and reads until the server closes the connection.
pub async fn raw(server: &Server, request: &[u8]) -> anyhow::Result<String> {
    let mut connection = server.connect().await?;
    connection.write_all(request).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Bytes that look like those of no format, the same for the same seed.
pub fn content(size_bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size_bytes + 8);
    while bytes.len() < size_bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size_bytes);
    bytes
}
