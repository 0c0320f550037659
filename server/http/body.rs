//! Bodies of requests and answers, which are never held in memory as a whole unless small.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use http::header::EXPECT;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};

use crate::data::{BoxError, ByteStream};

/// The body of an answer, or of a request as it comes from the connection.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What is read of a body that nobody wants, so that the client, which may still be writing, gets
/// to read the answer, and so that the connection can serve the next request.
const DRAINED_BYTES: usize = 256 * 1024;

/// How long a client is waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// One that sends nothing for this long has gone.
    silence: Duration,
    /// For the whole of a body that nobody wants.
    drain: Duration,
}

const PATIENCE: Patience = Patience {
    silence: Duration::from_secs(300),
    drain: Duration::from_secs(2),
};

/// An answer without body.
pub fn empty() -> Body {
    BodyExt::boxed_unsync(Empty::new().map_err(|never| match never {}))
}

/// An answer held in memory.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    BodyExt::boxed_unsync(Full::new(bytes.into()).map_err(|never| match never {}))
}

/// An answer that is made while it is sent.
pub fn stream(bytes: ByteStream) -> Body {
    let frames = bytes.map_ok(Frame::data).map_err(BoxError::from);
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the connection broke")]
    Broken(#[source] BoxError),
    #[error("nothing arrived for minutes")]
    Silent,
    #[error("http: request body too large")]
    TooLarge,
}

/// The body of a request while it is read.
pub struct RequestBody {
    body: Body,
    is_started: bool,
    is_ended: bool,
    awaits_permission: bool,
    patience: Patience,
}

impl RequestBody {
    pub fn new(body: Body, headers: &HeaderMap) -> Self {
        let expects_continue =
            |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        Self {
            body,
            is_started: false,
            is_ended: false,
            awaits_permission: headers.get(EXPECT).is_some_and(expects_continue),
            patience: PATIENCE,
        }
    }

    /// The next bytes; `None` at the end. Gives up on a client that stays silent for minutes.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.is_started = true;
        while !self.is_ended {
            let frame = tokio::time::timeout(self.patience.silence, self.body.frame()).await;
            let frame = frame
                .map_err(|_| BodyError::Silent)
                .and_then(|frame| frame.transpose().map_err(BodyError::Broken));
            match frame {
                Ok(Some(frame)) => {
                    // Anything else than data are trailers, which nobody reads.
                    if let Ok(bytes) = frame.into_data()
                        && !bytes.is_empty()
                    {
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) => self.is_ended = true,
                Err(error) => {
                    self.is_ended = true;
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// [`BodyError::TooLarge`] beyond `limit` bytes; the rest has not been read then.
    pub async fn read(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.chunk().await? {
            if whole.len() + bytes.len() > limit {
                return Err(BodyError::TooLarge);
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    /// Reads and drops what is left, within bounds. A client that waits for permission to send its
    /// body has sent nothing, and will not.
    pub async fn drain(mut self) {
        if self.awaits_permission && !self.is_started {
            return;
        }
        let patience = self.patience.drain;
        let read = async {
            let mut drained = 0;
            while drained < DRAINED_BYTES
                && let Ok(Some(bytes)) = self.chunk().await
            {
                drained += bytes.len();
            }
        };
        // Running out of time is no error: the answer is sent all the same.
        let _ = tokio::time::timeout(patience, read).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::stream;

    use super::*;

    fn body(chunks: Vec<io::Result<Bytes>>) -> RequestBody {
        let bytes = Box::pin(futures::stream::iter(chunks));
        RequestBody::new(super::stream(bytes), &HeaderMap::new())
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_the_limit() {
        let chunks = || {
            vec![
                Ok(Bytes::from("ab")),
                Ok(Bytes::new()),
                Ok(Bytes::from("cd")),
            ]
        };
        assert_eq!(body(chunks()).read(4).await.unwrap(), "abcd");
        let error = body(chunks()).read(3).await.unwrap_err();
        assert_eq!(error.to_string(), "http: request body too large");
    }

    #[tokio::test]
    async fn a_broken_body_is_an_error_once() {
        let mut body = body(vec![Ok(Bytes::from("ab")), Err(io::Error::other("gone"))]);
        assert_eq!(body.chunk().await.unwrap().unwrap(), "ab");
        assert!(matches!(body.chunk().await, Err(BodyError::Broken(_))));
        assert!(matches!(body.chunk().await, Ok(None)));
    }

    fn impatient(
        bytes: impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> RequestBody {
        let mut body = RequestBody::new(super::stream(Box::pin(bytes)), &HeaderMap::new());
        body.patience = Patience {
            silence: Duration::from_millis(5),
            drain: Duration::from_millis(5),
        };
        body
    }

    #[tokio::test]
    async fn a_silent_client_is_given_up() {
        let mut body = impatient(stream::pending());
        assert!(matches!(body.chunk().await, Err(BodyError::Silent)));
    }

    #[tokio::test]
    async fn draining_is_bounded_in_bytes_and_time() {
        let chunk = || Ok(Bytes::from(vec![0; 64 * 1024]));
        let mut endless = impatient(stream::repeat_with(chunk));
        endless.patience.drain = Duration::from_secs(3600);
        endless.drain().await;
        let mut silent = impatient(stream::pending());
        silent.patience.silence = Duration::from_secs(3600);
        silent.drain().await;
    }

    #[tokio::test]
    async fn a_client_that_awaits_permission_is_not_asked_for_its_body() {
        let headers = HeaderMap::from_iter([(EXPECT, HeaderValue::from_static("100-Continue"))]);
        let poll = || -> io::Result<Bytes> { panic!("the body was asked for") };
        let bytes = stream::repeat_with(poll);
        RequestBody::new(super::stream(Box::pin(bytes)), &headers)
            .drain()
            .await;
    }
}
