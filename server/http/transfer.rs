//! The bytes of a file on their way in: from a multipart part to the data backend.

use std::error::Error;
use std::io;

use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;
use tracing::warn;

use super::error::ApiError;
use super::multipart::{Multipart, MultipartError};
use super::sniff;
use super::state::App;
use crate::data::{BlobRef, ByteStream, digest};
use crate::model::{File, FileStatus};

/// Chunks that wait for the backend: enough to keep it busy, little enough to count for nothing.
const WAITING_CHUNKS: usize = 2;

/// Stores the content of `file`, whose row is `uploading`, and returns the file as it is then.
///
/// The bytes are on stable storage and the row says `uploaded` when this returns. After an error
/// the row is `deleted` and nothing is left of the bytes; what could not be cleaned up is left to
/// the cleaning routine.
pub async fn receive(
    app: &App,
    mut file: File,
    content: &mut Multipart<'_>,
) -> Result<File, ApiError> {
    match store(app, &mut file, content).await {
        Ok(()) => Ok(file),
        Err(error) => {
            discard(app, &file).await;
            Err(error)
        }
    }
}

/// Erases the bytes of a `removed` file, whose row is `deleted` then. A failure is logged and left
/// to the cleaning routine.
pub async fn erase(app: &App, file: &File) {
    if let Err(error) = app.data.remove(&BlobRef::from(file)).await {
        let error: &(dyn Error + 'static) = &error;
        warn!(
            file.id,
            error, "unable to delete file {}, will retry", file.id
        );
        return;
    }
    change_or_warn(app, file, FileStatus::Removed, FileStatus::Deleted).await;
}

async fn store(app: &App, file: &mut File, content: &mut Multipart<'_>) -> Result<(), ApiError> {
    let mut content = Limited {
        content,
        limit: app.config.max_file_size,
        size_bytes: 0,
    };
    let head = content.head().await?;
    let detected = sniff::detect(&head.concat());
    file.mime_type = detected.mime_type;
    file.is_text = detected.is_text;

    let (sender, mut receiver) = mpsc::channel(WAITING_CHUNKS);
    let body: ByteStream = Box::pin(stream::poll_fn(move |cx| receiver.poll_recv(cx)));
    let (body, digest) = digest::hashed(body);
    let blob = BlobRef::from(&*file);
    let (sent, stored) = tokio::join!(content.send(head, sender), app.data.put(&blob, body, None));
    // If the client failed, the backend did because of it.
    sent?;
    let stored = stored.map_err(|error| ApiError::internal("unable to save file", error))?;
    let digest = digest.get().ok_or_else(|| {
        ApiError::internal("unable to save file", "its bytes were not read to the end")
    })?;

    file.status = FileStatus::Uploaded;
    file.size = i64::try_from(stored.size_bytes).unwrap_or(i64::MAX);
    file.md5 = digest.md5_hex();
    file.backend_details = stored.details;
    let completed = app.metadata.complete_file(file).await;
    if !completed.map_err(|error| ApiError::internal("unable to update file", error))? {
        return Err(ApiError::FileNotAvailable {
            name: file.name.clone(),
            id: file.id.clone(),
            status: FileStatus::Removed,
        });
    }
    Ok(())
}

/// Gets rid of a file whose transfer failed.
async fn discard(app: &App, file: &File) {
    if !change_or_warn(app, file, FileStatus::Uploading, FileStatus::Removed).await {
        // Somebody removed the file or its upload meanwhile; or the row is `uploaded` after all,
        // and only the database's answer was lost: then the bytes must stay.
        match app.metadata.file(&file.id).await {
            Ok(Some(File { status, .. })) if status != FileStatus::Removed => return,
            Ok(_) => {}
            Err(error) => {
                let error: &(dyn Error + 'static) = &error;
                warn!(file.id, error, "unable to get file {}", file.id);
                return;
            }
        }
    }
    erase(app, file).await;
}

/// Changes a status; `false` if somebody else changed it before, or if that failed.
async fn change_or_warn(app: &App, file: &File, from: FileStatus, to: FileStatus) -> bool {
    let changed = app.metadata.change_status(&file.id, from, to).await;
    changed.unwrap_or_else(|error| {
        let error: &(dyn Error + 'static) = &error;
        warn!(
            file.id,
            error, "unable to mark file {} as {to}, it may stay {from}", file.id
        );
        false
    })
}

/// The content of a part, up to a maximum size.
struct Limited<'a, 'b> {
    content: &'a mut Multipart<'b>,
    /// Bytes; 0 or less is no limit.
    limit: i64,
    size_bytes: u64,
}

impl Limited<'_, '_> {
    async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        let chunk = self.content.chunk().await.map_err(|error| match error {
            MultipartError::LongHeader | MultipartError::BadHeader => ApiError::Multipart(error),
            error => ApiError::CutShort(error),
        })?;
        self.size_bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if u64::try_from(self.limit).is_ok_and(|limit| limit > 0 && self.size_bytes > limit) {
            return Err(ApiError::FileTooBig { limit: self.limit });
        }
        Ok(chunk)
    }

    /// The first chunks: enough of them to know what the file is.
    async fn head(&mut self) -> Result<Vec<Bytes>, ApiError> {
        let mut head = Vec::new();
        let mut size_bytes = 0;
        while size_bytes < sniff::HEAD_BYTES
            && let Some(chunk) = self.chunk().await?
        {
            size_bytes += chunk.len();
            head.push(chunk);
        }
        Ok(head)
    }

    /// Sends `head` and what follows it. An error is sent as well, so that the backend does not
    /// take what it has for the whole. A backend that has stopped listening has an error to tell.
    async fn send(
        &mut self,
        head: Vec<Bytes>,
        sender: mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), ApiError> {
        for chunk in head {
            if sender.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
        }
        loop {
            match self.chunk().await {
                Ok(Some(chunk)) => {
                    if sender.send(Ok(chunk)).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    // A backend that has failed on its own does not need to hear of it.
                    let _ = sender.send(Err(io::Error::other(error.to_string()))).await;
                    return Err(error);
                }
            }
        }
    }
}
