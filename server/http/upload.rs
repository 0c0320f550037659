//! Uploads: creating, reading and removing them.

use http::Response;
use http::header::{AUTHORIZATION, HeaderValue};
use serde::{Serialize, Serializer};
use tracing::info;

use super::access;
use super::body::{Body, RequestBody};
use super::create::{self, Draft, OldUploadParams, UploadParams};
use super::error::ApiError;
use super::file::FileAnswer;
use super::json::{self, Object};
use super::source_ip::is_whitelisted;
use super::state::{App, Caller};
use super::{answer_json, answer_text, domain};
use crate::config::Config;
use crate::model::{File, Timestamp, Upload};

/// Longest body of JSON, in bytes.
const MAX_JSON_BYTES: usize = 1024 * 1024;

/// An upload as clients see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UploadAnswer<'a> {
    id: &'a str,
    ttl: i64,
    #[serde(rename = "extend_ttl")]
    extend_ttl: bool,
    download_domain: &'a str,
    #[serde(rename = "downloadURL", skip_serializing_if = "Option::is_none")]
    download_url: Option<String>,
    comments: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    e2ee: &'a str,
    files: Option<Vec<FileAnswer<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_token: Option<&'a str>,
    admin: bool,
    stream: bool,
    one_shot: bool,
    removable: bool,
    protected_by_password: bool,
    #[serde(serialize_with = "json::time_or_zero")]
    created_at: Option<Timestamp>,
    #[serde(serialize_with = "json::time_or_null")]
    expire_at: Option<Timestamp>,
}

impl<'a> UploadAnswer<'a> {
    fn new(upload: &'a Upload, config: &'a Config, is_admin: bool) -> Self {
        Self {
            id: &upload.id,
            ttl: upload.ttl,
            extend_ttl: upload.extend_ttl,
            download_domain: &config.download_domain,
            download_url: domain::download_url(config),
            comments: &upload.comments,
            e2ee: &upload.e2ee,
            files: None,
            upload_token: is_admin.then_some(&upload.upload_token),
            admin: is_admin,
            stream: upload.stream,
            one_shot: upload.one_shot,
            removable: upload.removable,
            protected_by_password: upload.protected_by_password,
            created_at: upload.created_at,
            expire_at: upload.expire_at,
        }
    }
}

/// An upload as clients older than 1.3 and ShareX see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OldUploadAnswer<'a> {
    id: &'a str,
    upload_date: i64,
    ttl: i64,
    download_domain: &'a str,
    comments: &'a str,
    #[serde(serialize_with = "files_by_id")]
    files: &'a [File],
    upload_token: &'a str,
    admin: bool,
    stream: bool,
    one_shot: bool,
    removable: bool,
    protected_by_password: bool,
    protected_by_yubikey: bool,
}

impl<'a> OldUploadAnswer<'a> {
    fn new(draft: &'a Draft, config: &'a Config) -> Self {
        let upload = &draft.upload;
        Self {
            id: &upload.id,
            upload_date: upload.created_at.map_or(0, Timestamp::as_second),
            ttl: upload.ttl,
            download_domain: &config.download_domain,
            comments: &upload.comments,
            files: &draft.files,
            upload_token: &upload.upload_token,
            admin: false,
            stream: upload.stream,
            one_shot: upload.one_shot,
            removable: upload.removable,
            protected_by_password: upload.protected_by_password,
            protected_by_yubikey: false,
        }
    }
}

fn files_by_id<S: Serializer>(files: &&[File], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(files.iter().map(|file| (&file.id, FileAnswer::from(file))))
}

/// `POST /upload`.
pub async fn create(
    app: &App,
    caller: &Caller,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    check_source(app, caller)?;
    let body = body
        .read(MAX_JSON_BYTES)
        .await
        .map_err(ApiError::ReadBody)?;
    let (params, is_old) = parse(&body)?;
    let draft = draft(app, caller, &params)?;
    store(app, caller, &draft.upload, &draft.files).await?;

    let mut response = if is_old {
        answer_json(&OldUploadAnswer::new(&draft, &app.config))?
    } else {
        let mut answer = UploadAnswer::new(&draft.upload, &app.config, true);
        let files = || draft.files.iter().map(FileAnswer::from).collect();
        answer.files = (!draft.files.is_empty()).then(files);
        answer_json(&answer)?
    };
    if let Some(credentials) = &draft.credentials
        && let Ok(value) = HeaderValue::try_from(format!("Basic {credentials}"))
    {
        response.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(response)
}

/// `GET /upload/{upload}`: with all files, the removed ones too.
pub async fn get(app: &App, caller: &Caller, id: &str) -> Result<Response<Body>, ApiError> {
    let access = access::open(app, caller, id).await?;
    let files = app.metadata.files_of_upload(id).await;
    let files = files.map_err(|error| ApiError::internal("unable to get files", error))?;
    let mut answer = UploadAnswer::new(&access.upload, &app.config, access.is_admin);
    answer.files = Some(files.iter().map(FileAnswer::from).collect());
    answer_json(&answer)
}

/// `DELETE /upload/{upload}`. The bytes and rows go with the next cleaning.
pub async fn remove(app: &App, caller: &Caller, id: &str) -> Result<Response<Body>, ApiError> {
    let access = access::open(app, caller, id).await?;
    if !access.is_admin && !access.upload.removable {
        return Err(ApiError::RemoveUpload);
    }
    let removed = app.metadata.remove_upload(id, app.now()).await;
    if !removed.map_err(|error| ApiError::internal("unable to remove upload", error))? {
        return Err(ApiError::UploadNotFound(id.to_owned()));
    }
    info!(upload.id = id, remote_ip = %caller.source_ip, "upload {id} removed");
    Ok(answer_text("ok"))
}

/// What `params` make of a caller's upload, if the caller may create one.
pub fn draft(app: &App, caller: &Caller, params: &UploadParams) -> Result<Draft, ApiError> {
    check_source(app, caller)?;
    let remote_ip = caller.source_ip.to_string();
    create::draft(params, &app.config, &remote_ip, app.now(), &mut rand::rng())
        .map_err(ApiError::CreateUpload)
}

/// Stores a new upload and its files.
pub async fn store(
    app: &App,
    caller: &Caller,
    upload: &Upload,
    files: &[File],
) -> Result<(), ApiError> {
    let created = app.metadata.create_upload(upload, files).await;
    created.map_err(|error| ApiError::internal("unable to create upload", error))?;
    info!(
        upload.id, files = files.len(), remote_ip = %caller.source_ip,
        "upload {} created", upload.id
    );
    Ok(())
}

fn check_source(app: &App, caller: &Caller) -> Result<(), ApiError> {
    if is_whitelisted(caller.source_ip, &app.config.upload_whitelist) {
        Ok(())
    } else {
        Err(ApiError::UntrustedSource)
    }
}

/// The error that is further into the body: the other one only says that the shape is another.
fn later(new: serde_json::Error, old: serde_json::Error) -> serde_json::Error {
    let place = |error: &serde_json::Error| (error.line(), error.column());
    if place(&old) > place(&new) { old } else { new }
}

/// Reads the parameters in either shape; whether it is the old one decides the shape of the answer.
fn parse(body: &[u8]) -> Result<(UploadParams, bool), ApiError> {
    if body.is_empty() {
        return Ok((UploadParams::default(), false));
    }
    match serde_json::from_slice::<Object<UploadParams>>(body) {
        Ok(params) => Ok((params.0, false)),
        Err(error) => serde_json::from_slice::<Object<OldUploadParams>>(body)
            .map(|params| (params.0.0, true))
            .map_err(|old_error| ApiError::ParseBody(later(error, old_error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_body_is_told_in_either_shape() {
        for body in [
            r#"{"files":[{"fileName":"a\u0000"}]}"#,
            r#"{"files":{"0":{"fileName":"a\u0000"}}}"#,
        ] {
            let text = parse(body.as_bytes()).unwrap_err().text(false);
            assert!(text.contains("NUL"), "{text}");
        }
    }
}
