//! The files of an upload: adding, uploading and removing them.

use http::Response;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use tracing::info;

use super::access::{self, Access};
use super::body::{Body, RequestBody};
use super::create::{FileParams, Refusal, check_name, new_file};
use super::error::ApiError;
use super::multipart::Multipart;
use super::router::FilePath;
use super::state::{App, Caller};
use super::{answer_json, answer_text, json, transfer};
use crate::model::{File, FileStatus, Timestamp, Upload};

/// How often removing a file looks again when its status changes under its hands.
const ATTEMPTS: usize = 10;

/// A file as clients see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileAnswer<'a> {
    id: &'a str,
    file_name: &'a str,
    status: &'static str,
    file_md5: &'a str,
    file_type: &'a str,
    file_size: i64,
    reference: &'a str,
    #[serde(serialize_with = "json::time_or_zero")]
    created_at: Option<Timestamp>,
}

impl<'a> From<&'a File> for FileAnswer<'a> {
    fn from(file: &'a File) -> Self {
        Self {
            id: &file.id,
            file_name: &file.name,
            status: file.status.as_str(),
            file_md5: &file.md5,
            file_type: &file.mime_type,
            file_size: file.size,
            reference: &file.reference,
            created_at: file.created_at,
        }
    }
}

/// `POST /file/{upload}`: adds a file that was not declared.
pub async fn add(
    app: &App,
    caller: &Caller,
    body: &mut RequestBody,
    upload_id: &str,
) -> Result<Response<Body>, ApiError> {
    let access = access::open(app, caller, upload_id).await?;
    check_may_add(&access)?;
    check_is_room(app, &access.upload).await?;
    let mut content = Multipart::new(body, caller.headers.get(CONTENT_TYPE))?;
    let name = file_part(&mut content).await?;
    check_name(&name).map_err(ApiError::CreateFile)?;

    let file = uploading(app, &access.upload, name);
    let added = app.metadata.add_file(&file).await;
    if !added.map_err(|error| ApiError::internal("unable to create file", error))? {
        return Err(ApiError::UploadNotFound(upload_id.to_owned()));
    }
    receive(app, caller, file, &mut content).await
}

/// `POST /file/{upload}/{file}/{name}`: uploads a declared file.
pub async fn upload(
    app: &App,
    caller: &Caller,
    body: &mut RequestBody,
    path: &FilePath,
) -> Result<Response<Body>, ApiError> {
    let access = access::open(app, caller, &path.upload_id).await?;
    let mut file = find(app, &access.upload, path).await?;
    check_may_add(&access)?;
    let mut content = Multipart::new(body, caller.headers.get(CONTENT_TYPE))?;
    if file_part(&mut content).await? != file.name {
        return Err(ApiError::InvalidFileName);
    }
    if file.status != FileStatus::Missing {
        return Err(ApiError::FileStatus(file.status));
    }
    let (from, to) = (FileStatus::Missing, FileStatus::Uploading);
    let started = app.metadata.change_status(&file.id, from, to).await;
    if !started.map_err(|error| ApiError::internal("unable to update file", error))? {
        // Somebody else was faster; that one uploads or has removed the file.
        return Err(ApiError::FileStatus(current(app, &file).await?.status));
    }
    file.status = to;
    receive(app, caller, file, &mut content).await
}

/// `DELETE /file/{upload}/{file}/{name}`. Removing a file again changes nothing.
pub async fn remove(
    app: &App,
    caller: &Caller,
    path: &FilePath,
) -> Result<Response<Body>, ApiError> {
    let access = access::open(app, caller, &path.upload_id).await?;
    let mut file = find(app, &access.upload, path).await?;
    if !access.is_admin && !access.upload.removable {
        return Err(ApiError::RemoveFile);
    }
    for _ in 0..ATTEMPTS {
        if remove_as_found(app, &file).await? {
            info!(
                upload.id = file.upload_id, file.id, remote_ip = %caller.source_ip,
                "file {} removed", file.id
            );
            return Ok(answer_text("ok"));
        }
        file = current(app, &file).await?;
    }
    let source = "its status keeps changing";
    Err(ApiError::internal("unable to remove file", source))
}

/// Stores the content of a file of which the row exists.
pub async fn receive_logged(
    app: &App,
    caller: &Caller,
    file: File,
    content: &mut Multipart<'_>,
) -> Result<File, ApiError> {
    let file = transfer::receive(app, file, content).await?;
    info!(
        upload.id = file.upload_id, file.id, size_bytes = file.size,
        remote_ip = %caller.source_ip, "file {} uploaded", file.id
    );
    Ok(file)
}

/// The row of a file that is about to be received.
pub fn uploading(app: &App, upload: &Upload, file_name: String) -> File {
    let params = FileParams {
        file_name,
        ..FileParams::default()
    };
    let mut file = new_file(&upload.id, &params, app.now(), &mut rand::rng());
    file.status = FileStatus::Uploading;
    file
}

/// Reads up to the part named `file`; its file name, without directories.
pub async fn file_part(content: &mut Multipart<'_>) -> Result<String, ApiError> {
    while let Some(part) = content.next_part().await? {
        if part.name.as_deref() == Some("file") {
            let name = part.file_name.filter(|name| !name.is_empty());
            return Ok(base_name(&name.ok_or(ApiError::MissingPartName)?).to_owned());
        }
    }
    Err(ApiError::MissingPart)
}

/// The file that a path names.
pub async fn find(app: &App, upload: &Upload, path: &FilePath) -> Result<File, ApiError> {
    let file = app.metadata.file(&path.file_id).await;
    let file = file
        .map_err(|error| ApiError::internal("unable to get file", error))?
        .filter(|file| file.upload_id == upload.id)
        .ok_or_else(|| ApiError::FileNotFound(path.file_id.clone()))?;
    if file.name != path.name {
        return Err(ApiError::InvalidFileName);
    }
    Ok(file)
}

/// The row of a file as it is now.
pub async fn current(app: &App, file: &File) -> Result<File, ApiError> {
    let current = app.metadata.file(&file.id).await;
    current
        .map_err(|error| ApiError::internal("unable to get file", error))?
        .ok_or_else(|| ApiError::FileNotFound(file.id.clone()))
}

async fn receive(
    app: &App,
    caller: &Caller,
    file: File,
    content: &mut Multipart<'_>,
) -> Result<Response<Body>, ApiError> {
    let file = receive_logged(app, caller, file, content).await?;
    answer_json(&FileAnswer::from(&file))
}

fn check_may_add(access: &Access) -> Result<(), ApiError> {
    if !access.is_admin {
        return Err(ApiError::AddFile);
    }
    if access.upload.stream {
        return Err(ApiError::StreamDisabled(Refusal::Stream));
    }
    Ok(())
}

async fn check_is_room(app: &App, upload: &Upload) -> Result<(), ApiError> {
    let max = app.config.max_file_per_upload;
    let count = app.metadata.count_files(&upload.id).await;
    let count = count.map_err(|error| ApiError::internal("unable to count files", error))?;
    if i64::try_from(count).unwrap_or(i64::MAX) >= max {
        return Err(ApiError::UploadIsFull { max });
    }
    Ok(())
}

/// Removes a file in the status it was found in; `false` if that has changed meanwhile.
async fn remove_as_found(app: &App, file: &File) -> Result<bool, ApiError> {
    let to = match file.status {
        FileStatus::Missing => FileStatus::Deleted,
        FileStatus::Uploading | FileStatus::Uploaded => FileStatus::Removed,
        FileStatus::Removed | FileStatus::Deleted => return Ok(true),
    };
    let changed = app.metadata.change_status(&file.id, file.status, to).await;
    let changed = changed.map_err(|error| ApiError::internal("unable to remove file", error))?;
    // The bytes of a running transfer are erased at its end, when no more of them can come.
    if changed && file.status == FileStatus::Uploaded {
        transfer::erase(app, file).await;
    }
    Ok(changed)
}

fn base_name(name: &str) -> &str {
    let name = name.trim_end_matches('/');
    name.rsplit_once('/').map_or(name, |(_, base)| base)
}

#[cfg(test)]
mod tests {
    use super::base_name;

    #[test]
    fn directories_are_dropped_from_names() {
        for (name, expected) in [
            ("a.txt", "a.txt"),
            ("../../etc/passwd", "passwd"),
            ("/abs/x", "x"),
            ("dir/", "dir"),
            ("/", ""),
            (r"C:\dir\x", r"C:\dir\x"),
        ] {
            assert_eq!(base_name(name), expected);
        }
    }
}
