//! Who may see an upload, and who administers it.

use http::header::{AUTHORIZATION, HeaderMap};

use super::error::ApiError;
use super::security::{hash_credentials, is_secret};
use super::state::{App, Caller};
use crate::model::Upload;

/// An upload that the caller may see.
pub struct Access {
    pub upload: Upload,
    /// The caller administers the upload: it may add and remove files.
    pub is_admin: bool,
}

/// Finds an upload for a caller, in the order in which clients know the refusals. An upload whose
/// time to live extends at each access has been extended.
pub async fn open(app: &App, caller: &Caller, upload_id: &str) -> Result<Access, ApiError> {
    let found = app.metadata.upload(upload_id).await;
    let mut upload = found
        .map_err(|error| ApiError::internal("unable to get upload", error))?
        .ok_or_else(|| ApiError::UploadNotFound(upload_id.to_owned()))?;
    let now = app.now();
    if upload.is_expired(now) {
        return Err(ApiError::UploadExpired(upload.id));
    }
    let is_admin = is_admin(&upload, &caller.headers);
    if upload.protected_by_password && !is_admin {
        check_credentials(&upload, &caller.headers).map_err(ApiError::Credentials)?;
    }
    if upload.extend_ttl && upload.ttl > 0 {
        upload.expire_at = upload.expiry_from(now);
        let extended = app.metadata.set_expiry(&upload.id, upload.expire_at).await;
        extended.map_err(|error| ApiError::internal("unable to extend upload", error))?;
    }
    Ok(Access { upload, is_admin })
}

fn is_admin(upload: &Upload, headers: &HeaderMap) -> bool {
    headers
        .get("x-uploadtoken")
        .is_some_and(|token| is_secret(token.as_bytes(), upload.upload_token.as_bytes()))
}

fn check_credentials(upload: &Upload, headers: &HeaderMap) -> Result<(), &'static str> {
    let header = headers.get(AUTHORIZATION).filter(|value| !value.is_empty());
    let header = header.ok_or("missing Authorization header")?;
    let mut pieces = header.as_bytes().split(|byte| *byte == b' ');
    let (Some(scheme), Some(credentials), None) = (pieces.next(), pieces.next(), pieces.next())
    else {
        return Err("invalid Authorization header");
    };
    if scheme != b"Basic" {
        return Err("invalid http authorization scheme");
    }
    let hash = hash_credentials(credentials);
    if !is_secret(hash.as_bytes(), upload.password.as_bytes()) {
        return Err("invalid credentials");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn credentials_are_checked_in_the_order_clients_know() {
        let upload = Upload {
            // base64("foo:bar") is Zm9vOmJhcg==
            password: "c44b06a6808bc297af0d0346c3c578d4".to_owned(),
            ..Upload::default()
        };
        let check = |value: &str| check_credentials(&upload, &headers("authorization", value));
        assert_eq!(check("Basic Zm9vOmJhcg=="), Ok(()));
        for value in ["Basic Zm9vOmJheg==", "Basic ", "Basic Zm9vOmJhcg"] {
            assert_eq!(check(value), Err("invalid credentials"), "{value}");
        }
        for value in ["Basic", "Basic  Zm9vOmJhcg==", "Basic a b"] {
            assert_eq!(check(value), Err("invalid Authorization header"), "{value}");
        }
        for value in ["basic Zm9vOmJhcg==", "Bearer x"] {
            assert_eq!(check(value), Err("invalid http authorization scheme"));
        }
        assert_eq!(
            check_credentials(&upload, &HeaderMap::new()),
            Err("missing Authorization header")
        );
    }

    #[test]
    fn an_upload_without_a_token_has_no_administrator() {
        let with_token = |token: &str| Upload {
            upload_token: token.to_owned(),
            ..Upload::default()
        };
        assert!(is_admin(
            &with_token("abc"),
            &headers("x-uploadtoken", "abc")
        ));
        assert!(!is_admin(
            &with_token("abc"),
            &headers("x-uploadtoken", "abd")
        ));
        assert!(!is_admin(&with_token(""), &headers("x-uploadtoken", "")));
        assert!(!is_admin(&with_token("abc"), &HeaderMap::new()));
    }
}
