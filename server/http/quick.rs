//! `POST /`: one file, one link.

use http::Response;
use http::header::CONTENT_TYPE;
use percent_encoding::utf8_percent_encode;

use super::body::{Body, RequestBody};
use super::create::{UploadParams, check_name};
use super::error::ApiError;
use super::multipart::Multipart;
use super::router::SEGMENT;
use super::state::{App, Caller};
use super::{answer_text, file, upload};
use crate::model::File;

/// Creates an upload with default options, stores the file, and answers its link.
pub async fn upload(
    app: &App,
    caller: &Caller,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    let draft = upload::draft(app, caller, &UploadParams::default())?;
    let mut content = Multipart::new(body, caller.headers.get(CONTENT_TYPE))?;
    let name = file::file_part(&mut content).await?;
    check_name(&name).map_err(ApiError::CreateFile)?;
    let max = app.config.max_file_per_upload;
    if max < 1 {
        return Err(ApiError::UploadIsFull { max });
    }
    let file = file::uploading(app, &draft.upload, name);
    upload::store(app, caller, &draft.upload, std::slice::from_ref(&file)).await?;
    let file = file::receive_logged(app, caller, file, &mut content).await?;
    Ok(answer_text(format!("{}\n", link(app, &file))))
}

fn link(app: &App, file: &File) -> String {
    let name = utf8_percent_encode(&file.name, SEGMENT);
    let base = app.download_url();
    format!("{base}/file/{}/{}/{name}", file.upload_id, file.id)
}
