//! The one download of a one-shot file.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use super::state::App;
use super::transfer;
use crate::data::ByteStream;
use crate::model::File;

/// The bytes of a `removed` file, which is erased while they are sent.
///
/// The last bytes leave when the row is `deleted`, so whoever has read the end and asks again
/// learns that. If the client goes away the file is erased all the same.
pub async fn consume(app: &Arc<App>, file: File, body: ByteStream, size_bytes: u64) -> ByteStream {
    if size_bytes == 0 {
        // Without a last chunk to hold back, the head of the answer is its end.
        transfer::erase(app, &file).await;
        return body;
    }
    let (sender, mut receiver) = mpsc::channel(1);
    let erased = send_then_erase(Arc::clone(app), file, body, sender);
    // A task of its own, because nobody polls a body whose client has gone.
    app.tasks.spawn(erased);
    Box::pin(stream::poll_fn(move |cx| receiver.poll_recv(cx)))
}

type Sender = mpsc::Sender<io::Result<Bytes>>;

async fn send_then_erase(app: Arc<App>, file: File, body: ByteStream, sender: Sender) {
    let last = send_but_last(body, &sender).await;
    transfer::erase(&app, &file).await;
    if let Some(last) = last {
        // The client may have gone; the file is erased either way.
        let _ = sender.send(last).await;
    }
}

/// Sends all chunks but the last, or the error that ends them, which is returned. `None` if there
/// is nothing left to send, or nobody to send it to.
async fn send_but_last(mut body: ByteStream, sender: &Sender) -> Option<io::Result<Bytes>> {
    let mut held = body.next().await?;
    while held.is_ok()
        && let Some(next) = body.next().await
    {
        sender.send(held).await.ok()?;
        held = next;
    }
    Some(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(chunks: &[&'static str]) -> ByteStream {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from(*chunk))).collect();
        Box::pin(stream::iter(chunks))
    }

    #[tokio::test]
    async fn the_last_chunk_is_held_back() {
        let (sender, mut receiver) = mpsc::channel(8);
        let last = send_but_last(body(&["a", "b", "c"]), &sender).await;
        assert_eq!(last.unwrap().unwrap(), "c");
        drop(sender);
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "a");
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "b");
        assert!(receiver.recv().await.is_none());
    }

    #[tokio::test]
    async fn an_empty_blob_and_a_lost_client_leave_nothing_to_send() {
        let (sender, receiver) = mpsc::channel(8);
        assert!(send_but_last(body(&[]), &sender).await.is_none());
        drop(receiver);
        assert!(send_but_last(body(&["a", "b"]), &sender).await.is_none());
    }

    #[tokio::test]
    async fn an_error_is_the_last_thing_sent() {
        let (sender, _receiver) = mpsc::channel(8);
        let broken = stream::iter([Ok(Bytes::from("a")), Err(io::Error::other("disk"))]);
        let last = send_but_last(Box::pin(broken), &sender).await;
        assert!(last.unwrap().is_err());
    }
}
