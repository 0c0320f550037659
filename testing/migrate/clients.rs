//! Clients of a living server, and what they must find on the server that follows it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::stream;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::hostile::Random;
use crate::places::block_on;

/// However fast the rest is, a client does so much.
const FEWEST_ACTS: u32 = 80;
/// The pieces of a body that takes its time.
const PIECES: usize = 8;
const PAUSE: Duration = Duration::from_millis(20);

/// Uploads, downloads and removes, and remembers what the server has promised.
pub struct Client {
    random: Random,
    kept: Vec<Kept>,
    /// Paths of what was removed, or taken for the only time.
    gone: Vec<String>,
}

/// A file that was uploaded and not removed.
struct Kept {
    upload: String,
    token: String,
    path: String,
    bytes: Vec<u8>,
    one_shot: bool,
}

/// How an upload is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Its bytes come in pieces.
    Slow,
    OneShot,
}

impl Client {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            kept: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Goes on until `done`, and for a while in any case.
    pub fn live(&mut self, url: &str, done: &AtomicBool) -> Result<()> {
        block_on(async {
            let server = Api::new(url);
            let mut acts = 0;
            while acts < FEWEST_ACTS || !done.load(Ordering::Relaxed) {
                self.act(&server).await?;
                acts += 1;
            }
            Ok(())
        })
    }

    async fn act(&mut self, server: &Api<'_>) -> Result<()> {
        match self.random.below(10) {
            0..4 => self.upload(server, Kind::Plain).await,
            4 => self.upload(server, Kind::Slow).await,
            5 => self.upload(server, Kind::OneShot).await,
            6 => self.download(server).await,
            7 => self.take_one_shot(server).await,
            8 => self.remove_file(server).await,
            _ => self.remove_upload(server).await,
        }
    }

    /// One upload of one to three files.
    async fn upload(&mut self, server: &Api<'_>, kind: Kind) -> Result<()> {
        let one_shot = kind == Kind::OneShot;
        let count = 1 + self.random.below(3);
        let files: Vec<_> = (0..count)
            .map(|number| json!({ "fileName": format!("{number}.bin"), "reference": number.to_string() }))
            .collect();
        let params = json!({ "oneShot": one_shot, "removable": true, "files": files });
        let created = server.create(&params).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        let (upload, token) = (text(&created["id"])?, text(&created["uploadToken"])?);
        for file in created["files"].as_array().context("files")? {
            let (id, name) = (text(&file["id"])?, text(&file["fileName"])?);
            let path = format!("/file/{upload}/{id}/{name}");
            let bytes = self.bytes();
            server
                .send(&path, &token, bytes.clone(), kind == Kind::Slow)
                .await?;
            self.kept.push(Kept {
                upload: upload.clone(),
                token: token.clone(),
                path,
                bytes,
                one_shot,
            });
        }
        Ok(())
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.random.below(6000);
        (0..length).map(|_| self.random.below(256) as u8).collect()
    }

    async fn download(&mut self, server: &Api<'_>) -> Result<()> {
        match self.some(|file| !file.one_shot) {
            Some(place) => server.holds(&self.kept[place]).await,
            None => Ok(()),
        }
    }

    async fn take_one_shot(&mut self, server: &Api<'_>) -> Result<()> {
        let Some(place) = self.some(|file| file.one_shot) else {
            return Ok(());
        };
        let file = self.kept.swap_remove(place);
        server.holds(&file).await?;
        self.gone.push(file.path);
        Ok(())
    }

    async fn remove_file(&mut self, server: &Api<'_>) -> Result<()> {
        let Some(place) = self.some(|_| true) else {
            return Ok(());
        };
        let file = self.kept.swap_remove(place);
        server.remove(&file.path, &file.token).await?;
        self.gone.push(file.path);
        Ok(())
    }

    async fn remove_upload(&mut self, server: &Api<'_>) -> Result<()> {
        let Some(place) = self.some(|_| true) else {
            return Ok(());
        };
        let (upload, token) = (
            self.kept[place].upload.clone(),
            self.kept[place].token.clone(),
        );
        server.remove(&format!("/upload/{upload}"), &token).await?;
        let (gone, kept) = std::mem::take(&mut self.kept)
            .into_iter()
            .partition(|file| file.upload == upload);
        self.kept = kept;
        let gone: Vec<Kept> = gone;
        self.gone.extend(gone.into_iter().map(|file| file.path));
        Ok(())
    }

    /// The place of any kept file that is `fit`.
    fn some(&mut self, fit: impl Fn(&Kept) -> bool) -> Option<usize> {
        let places: Vec<usize> = (0..self.kept.len())
            .filter(|place| fit(&self.kept[*place]))
            .collect();
        let chosen = self.random.below(places.len().max(1) as u64);
        places.get(chosen as usize).copied()
    }

    /// How many files it has, and how many it had.
    pub fn counts(&self) -> (usize, usize) {
        (self.kept.len(), self.gone.len())
    }

    /// Fails unless the server has all that was promised, byte for byte, and nothing that was
    /// removed. What can be taken only once is taken.
    pub fn finds_all(&self, url: &str) -> Result<()> {
        block_on(async {
            let server = Api::new(url);
            for file in &self.kept {
                server.holds(file).await?;
            }
            for path in &self.gone {
                let answer = server.get(path).await?;
                let status = answer.status();
                ensure!(
                    status == StatusCode::NOT_FOUND,
                    "{path} was removed: {status}"
                );
            }
            Ok(())
        })
    }
}

/// The API of a server.
struct Api<'a> {
    url: &'a str,
    client: reqwest::Client,
}

impl<'a> Api<'a> {
    fn new(url: &'a str) -> Self {
        Self {
            url,
            client: reqwest::Client::new(),
        }
    }

    fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        request.header("X-UploadToken", token)
    }

    async fn create(&self, params: &Value) -> Result<Value> {
        let request = self.client.post(format!("{}/upload", self.url));
        let answer = request.body(params.to_string()).send().await?;
        Ok(serde_json::from_str(
            &answer.error_for_status()?.text().await?,
        )?)
    }

    async fn send(&self, path: &str, token: &str, bytes: Vec<u8>, slowly: bool) -> Result<()> {
        let part = match slowly {
            true => Part::stream(in_pieces(bytes)),
            false => Part::bytes(bytes),
        };
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let form = Form::new().part("file", part.file_name(name));
        let request = self.request(Method::POST, path, token).multipart(form);
        succeeded(path, request).await
    }

    async fn get(&self, path: &str) -> Result<reqwest::Response> {
        Ok(self
            .client
            .get(format!("{}{path}", self.url))
            .send()
            .await?)
    }

    async fn holds(&self, file: &Kept) -> Result<()> {
        let answer = self.get(&file.path).await?.error_for_status();
        let bytes = answer.with_context(|| file.path.clone())?.bytes().await?;
        ensure!(bytes == file.bytes, "{} has other bytes", file.path);
        Ok(())
    }

    async fn remove(&self, path: &str, token: &str) -> Result<()> {
        succeeded(path, self.request(Method::DELETE, path, token)).await
    }
}

async fn succeeded(path: &str, request: RequestBuilder) -> Result<()> {
    let answer = request.send().await?.error_for_status();
    answer.with_context(|| path.to_owned()).map(|_| ())
}

/// A body that takes a while, and of which nobody knows the length.
fn in_pieces(bytes: Vec<u8>) -> Body {
    let length = bytes.len().div_ceil(PIECES).max(1);
    let pieces: Vec<_> = bytes.chunks(length).map(<[u8]>::to_vec).collect();
    Body::wrap_stream(stream::unfold(pieces.into_iter(), |mut pieces| async {
        tokio::time::sleep(PAUSE).await;
        let piece = pieces.next()?;
        Some((Ok::<_, std::io::Error>(piece), pieces))
    }))
}
