//! The API: one file per resource, over HTTP/1.1.
//!
//! A request goes through `serve` (connections), [`App::handle`] (what holds for every request),
//! `router` (which endpoint) and `access` (which upload, and may the caller see it) to the file of
//! its resource. `error` turns every failure into its status and text.

mod access;
mod body;
mod create;
mod domain;
mod download;
mod error;
mod file;
mod handle;
mod info;
mod json;
mod multipart;
mod one_shot;
mod progress;
mod quick;
mod range;
mod router;
mod security;
mod serve;
mod size;
mod sniff;
mod source_ip;
mod state;
#[cfg(test)]
mod testing;
mod tls;
mod transfer;
mod upload;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use body::Body;
use error::ApiError;

pub use info::VERSION;
pub use serve::{Listener, ServeError, Shutdown, serve};
pub use state::{App, Clock};

/// The type of every answer but a file, JSON included: clients know it so.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

fn answer_text(text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

fn answer_json(value: &impl Serialize) -> Result<Response<Body>, ApiError> {
    let text = json::write(value);
    let text = text.map_err(|error| ApiError::internal("unable to serialize answer", error))?;
    Ok(answer_text(text))
}
