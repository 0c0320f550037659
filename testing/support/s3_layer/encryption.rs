//! Objects whose key the client keeps (SSE-C).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use s3s::dto::{ETag, Metadata};
use s3s::{S3Result, s3_error};

/// Where the MD5 of an object's SSE-C key is kept: among its own metadata, never shown.
const SSE_MARK: &str = "plikd-sse-c-key-md5";

pub(super) fn take_mark(metadata: &mut Option<Metadata>) -> Option<String> {
    metadata.as_mut()?.remove(SSE_MARK)
}

pub(super) fn mark(metadata: &mut Option<Metadata>, sse: Option<&str>) {
    if let Some(sse) = sse {
        metadata
            .get_or_insert_default()
            .insert(SSE_MARK.to_owned(), sse.to_owned());
    }
}

/// The rules of S3 for objects whose key the client keeps.
pub(super) fn check_key_given(stored: Option<&str>, given: Option<&str>) -> S3Result<()> {
    match (stored, given) {
        (None, None) => Ok(()),
        (Some(stored), Some(given)) if stored == given => Ok(()),
        (Some(_), Some(_)) => Err(s3_error!(AccessDenied)),
        (Some(_), None) => Err(s3_error!(
            InvalidRequest,
            "The object was stored using a form of Server Side Encryption. The correct parameters \
             must be provided to retrieve the object."
        )),
        (None, Some(_)) => Err(s3_error!(
            InvalidRequest,
            "The encryption parameters are not applicable to this object."
        )),
    }
}

/// The MD5 of the key that a request brings, once algorithm, key and MD5 fit each other.
pub(super) fn customer_key_md5(
    algorithm: Option<&str>,
    key: Option<&str>,
    md5: Option<&str>,
) -> S3Result<Option<String>> {
    let (Some(algorithm), Some(key), Some(md5)) = (algorithm, key, md5) else {
        return match (algorithm, key, md5) {
            (None, None, None) => Ok(None),
            _ => Err(s3_error!(
                InvalidArgument,
                "SSE-C needs all of its three headers"
            )),
        };
    };
    let bytes = STANDARD
        .decode(key)
        .map_err(|error| s3_error!(error, InvalidArgument))?;
    if algorithm != "AES256" || bytes.len() != 32 || STANDARD.encode(Md5::digest(&bytes)) != md5 {
        return Err(s3_error!(InvalidArgument, "this is no SSE-C key"));
    }
    Ok(Some(md5.to_owned()))
}

/// With SSE-C the ETag of S3 is not the MD5 of the bytes.
pub(super) fn shown_e_tag(e_tag: ETag, sse: Option<&str>) -> ETag {
    let Some(sse) = sse else { return e_tag };
    let value = e_tag.into_value();
    let (digest, parts) = match value.split_once('-') {
        Some((digest, parts)) => (digest, format!("-{parts}")),
        None => (value.as_str(), String::new()),
    };
    let hidden = Md5::digest(format!("{digest}{sse}"));
    let hidden: String = hidden.iter().map(|byte| format!("{byte:02x}")).collect();
    ETag::Strong(format!("{hidden}{parts}"))
}
