//! Blobs as lines: `file id, size, MD5`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use plikd::model::BackendDetails;

use super::rows;

/// Every file below a directory. One that is not where a blob belongs is named by its path, so
/// that leftovers show.
pub fn write_directory(root: &Path, out: &mut impl Write) -> Result<()> {
    let directories = fs::read_dir(root).with_context(|| root.display().to_string())?;
    for directory in directories {
        let directory = directory?;
        if !directory.file_type()?.is_dir() {
            writeln!(out, "unexpected {}", directory.path().display())?;
            continue;
        }
        for blob in fs::read_dir(directory.path())? {
            let path = blob?.path();
            let name = name_of(&path);
            if name.get(..2) != Some(&name_of(&directory.path())) || name.contains('.') {
                writeln!(out, "unexpected {}", path.display())?;
                continue;
            }
            let (size, md5) = digest(&mut File::open(&path)?)?;
            writeln!(out, "{name} {size} {md5}")?;
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn digest(file: &mut File) -> io::Result<(u64, String)> {
    let (mut md5, mut size, mut buffer) = (Md5::new(), 0, vec![0; 256 * 1024]);
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok((size, hex(md5)));
        }
        md5.update(&buffer[..length]);
        size += length as u64;
    }
}

fn hex(md5: Md5) -> String {
    md5.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Every blob of `http://KEY:SECRET@host:port/bucket` that starts with `prefix`.
pub async fn write_bucket(
    url: &str,
    prefix: &str,
    keys: Option<&str>,
    out: &mut impl Write,
) -> Result<()> {
    let (client, bucket) = connect(url).context("the URL is not http://KEY:SECRET@host/bucket")?;
    let details = match keys {
        Some(database) => rows::details(database).await?,
        None => BTreeMap::new(),
    };
    let mut pages = client
        .list_objects_v2()
        .bucket(bucket)
        .prefix(prefix)
        .into_paginator()
        .send();
    while let Some(page) = pages.next().await {
        for object in page?.contents() {
            let key = object.key().context("an object has no name")?;
            // Of a run that was killed before its first blob: the next one removes it.
            if key.contains("plikd-trial-") {
                continue;
            }
            // `<prefix><upload id>.<file id>`
            let id = key.rsplit(['/', '.']).next().unwrap_or(key);
            // What a run that was killed among its trials has left is no blob; a later one removes it.
            if id.starts_with("plikd-trial-") {
                continue;
            }
            let details = details.get(id).map(BackendDetails::new);
            let sse_key = details.and_then(|details| details.sse_key());
            let body = get(&client, bucket, key, sse_key).await?;
            let (size, md5) = digest_stream(body).await?;
            writeln!(out, "{id} {size} {md5}")?;
        }
    }
    Ok(())
}

/// A client, and the bucket that `http://KEY:SECRET@host:port/bucket` names.
pub fn connect(url: &str) -> Option<(Client, &str)> {
    let (credentials, place) = url.strip_prefix("http://")?.split_once('@')?;
    let (access_key, secret_key) = credentials.split_once(':')?;
    let (host, bucket) = place.split_once('/')?;
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::from_keys(access_key, secret_key, None))
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://{host}"))
        .force_path_style(true)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Some((Client::from_conf(config), bucket))
}

async fn get(
    client: &Client,
    bucket: &str,
    key: &str,
    sse_key: Option<String>,
) -> Result<ByteStream> {
    let request = client.get_object().bucket(bucket).key(key);
    let request = match sse_key {
        Some(sse_key) => request
            .sse_customer_algorithm("AES256")
            .sse_customer_key_md5(STANDARD.encode(Md5::digest(&sse_key)))
            .sse_customer_key(STANDARD.encode(sse_key)),
        None => request,
    };
    let object = request.send().await.with_context(|| key.to_owned())?;
    Ok(object.body)
}

async fn digest_stream(mut body: ByteStream) -> Result<(u64, String)> {
    let (mut md5, mut size) = (Md5::new(), 0);
    while let Some(bytes) = body.try_next().await? {
        md5.update(&bytes);
        size += bytes.len() as u64;
    }
    Ok((size, hex(md5)))
}
