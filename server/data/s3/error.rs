//! What an S3 server, or the way to it, answered instead of what was asked for.

use std::error::Error;
use std::fmt;
use std::io;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::data::DataError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// 404, but not for the whole bucket.
    Missing,
    BucketMissing,
    /// 412: it is not in the state that was the condition.
    Unmatched,
    /// 400: also how an object with another SSE-C key, or in another region, is refused.
    BadRequest,
    Denied,
    Full,
    Unreachable,
    /// Its certificate is not to be trusted.
    Untrusted,
    /// It asks for fewer requests.
    Busy,
    /// What arrived is not what was sent.
    Damaged,
    /// An error of its own, or an answer that broke: the next request may do.
    Passing,
    Other,
}

/// How the TLS library says that it refused a certificate.
const NOT_TRUSTED: &str = "invalid peer certificate";

/// One failed request, after all its attempts.
#[derive(Debug)]
pub(super) struct Failure {
    pub kind: Kind,
    /// The region that the server says the bucket is in.
    pub region: Option<String>,
    text: String,
}

impl Failure {
    pub fn other(text: impl Into<String>) -> Self {
        Self {
            kind: Kind::Other,
            region: None,
            text: text.into(),
        }
    }

    /// A request that no server answered, for the reason that `text` gives.
    fn not_sent(text: String) -> Self {
        let kind = match text.contains(NOT_TRUSTED) {
            true => Kind::Untrusted,
            false => Kind::Unreachable,
        };
        Self {
            kind,
            region: None,
            text,
        }
    }

    pub fn bucket_missing() -> Self {
        Self {
            kind: Kind::BucketMissing,
            ..Self::other("there is no such bucket")
        }
    }

    fn answered(status: u16, code: Option<&str>, details: &[Option<&str>]) -> Self {
        let mut text = status.to_string();
        if let Some(code) = code {
            text = format!("{text} {code}");
        }
        for detail in details.iter().flatten().filter(|text| !text.is_empty()) {
            text = format!("{text}: {detail}");
        }
        Self {
            kind: kind_of(status, code),
            region: None,
            text,
        }
    }

    /// Whether the server may have refused how it was asked, rather than what it was asked for.
    pub fn may_be_of_the_request(&self) -> bool {
        matches!(self.kind, Kind::BadRequest | Kind::Denied | Kind::Other)
    }

    /// Whether the request may have been fulfilled all the same.
    pub fn may_be_done(&self) -> bool {
        matches!(self.kind, Kind::Unreachable | Kind::Busy | Kind::Passing)
    }

    /// As the failure of a part: an upload that is not there any more was ended by somebody else,
    /// and a new one may do.
    pub fn of_part(self) -> Self {
        let kind = match self.kind {
            Kind::Missing => Kind::Passing,
            kind => kind,
        };
        Self { kind, ..self }
    }

    /// The same, after what was tried.
    pub fn after(mut self, attempt: &str) -> Self {
        self.text = format!("{attempt} : {}", self.text);
        self
    }

    pub fn into_data_error(self, action: String, backend: String) -> DataError {
        match self.kind {
            Kind::Denied => DataError::Denied {
                action,
                backend,
                source: Box::new(self),
            },
            Kind::Full => DataError::Full {
                action,
                backend,
                source: Box::new(self),
            },
            Kind::Unreachable => DataError::Unreachable {
                action,
                backend,
                source: Box::new(self),
            },
            Kind::BucketMissing => DataError::BucketMissing {
                action,
                backend,
                source: Box::new(self),
            },
            Kind::Untrusted => DataError::Untrusted {
                action,
                backend,
                source: Box::new(self),
            },
            Kind::Busy => DataError::Busy {
                action,
                backend,
                source: Box::new(self),
            },
            Kind::Passing | Kind::Damaged => DataError::Passing {
                action,
                backend,
                source: Box::new(self),
            },
            Kind::Missing | Kind::Unmatched | Kind::BadRequest | Kind::Other => DataError::Failed {
                action,
                backend,
                source: Box::new(self),
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {}

/// As a body that is being read tells it.
impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            Kind::Unreachable | Kind::Busy | Kind::Damaged | Kind::Passing => {
                io::ErrorKind::ConnectionReset
            }
            Kind::Denied => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, failure)
    }
}

fn kind_of(status: u16, code: Option<&str>) -> Kind {
    match (status, code.unwrap_or_default()) {
        (_, "NoSuchBucket") => Kind::BucketMissing,
        (_, "XMinioStorageFull" | "QuotaExceeded" | "InsufficientCapacity") | (507, _) => {
            Kind::Full
        }
        (
            _,
            "SlowDown"
            | "ServiceUnavailable"
            | "Throttling"
            | "ThrottlingException"
            | "RequestThrottled"
            | "RequestLimitExceeded"
            | "BandwidthLimitExceeded"
            | "TooManyRequests",
        )
        | (429 | 503, _) => Kind::Busy,
        (_, "BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody") => Kind::Damaged,
        // The request did not arrive whole, or met another one; some of these come with a 400.
        (
            _,
            "RequestTimeout" | "OperationAborted" | "ConditionalRequestConflict" | "InternalError",
        )
        | (408 | 425 | 500 | 502 | 504, _) => Kind::Passing,
        (404, _) => Kind::Missing,
        (400, _) => Kind::BadRequest,
        (412, _) => Kind::Unmatched,
        (401 | 403, _) => Kind::Denied,
        _ => Kind::Other,
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        match &error {
            SdkError::ServiceError(answer) => {
                let metadata = answer.err().meta();
                let mut failure = Self::answered(
                    answer.raw().status().as_u16(),
                    metadata.code(),
                    &[metadata.message()],
                );
                if let Some(id) = metadata.request_id() {
                    failure.text = format!("{} (request {id})", failure.text);
                }
                failure.region = answer
                    .raw()
                    .headers()
                    .get("x-amz-bucket-region")
                    .map(str::to_owned);
                failure
            }
            SdkError::ResponseError(answer) => {
                let cause = causes(&error);
                let failure = Self::answered(answer.raw().status().as_u16(), None, &[Some(&cause)]);
                match failure.kind {
                    // An answer that cannot be read to its end says nothing about the request.
                    Kind::Other => Self {
                        kind: Kind::Passing,
                        ..failure
                    },
                    _ => failure,
                }
            }
            SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) => {
                Self::not_sent(causes(&error))
            }
            _ => Self::other(causes(&error)),
        }
    }
}

/// The texts of an error's causes, without the outermost, which only names the kind.
fn causes(error: &dyn Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Wrappers often repeat what they wrap.
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_from_absence() {
        assert_eq!(kind_of(404, Some("NoSuchKey")), Kind::Missing);
        assert_eq!(kind_of(404, None), Kind::Missing);
        assert_eq!(kind_of(404, Some("NoSuchBucket")), Kind::BucketMissing);
        assert_eq!(kind_of(403, Some("AccessDenied")), Kind::Denied);
        assert_eq!(kind_of(403, None), Kind::Denied);
        assert_eq!(kind_of(507, Some("XMinioStorageFull")), Kind::Full);
        assert_eq!(kind_of(501, Some("NotImplemented")), Kind::Other);
    }

    fn error(status: u16, code: Option<&str>) -> DataError {
        Failure::answered(status, code, &[]).into_data_error("read".into(), "s3".into())
    }

    #[test]
    fn what_an_answer_means_for_the_next_try() {
        for (status, code, transient, fatal) in [
            (500, Some("InternalError"), true, false),
            (500, None, true, false),
            (502, None, true, false),
            (504, None, true, false),
            (400, Some("RequestTimeout"), true, false),
            (400, Some("IncompleteBody"), true, false),
            (400, Some("BadDigest"), true, false),
            (408, None, true, false),
            (409, Some("OperationAborted"), true, false),
            (503, Some("SlowDown"), true, true),
            (503, Some("ServiceUnavailable"), true, true),
            (503, None, true, true),
            (429, None, true, true),
            (400, Some("Throttling"), true, true),
            (403, Some("AccessDenied"), false, true),
            (403, Some("SignatureDoesNotMatch"), false, true),
            (403, Some("InvalidAccessKeyId"), false, true),
            (403, Some("RequestTimeTooSkewed"), false, true),
            (401, None, false, true),
            (404, Some("NoSuchBucket"), false, true),
            (507, None, false, true),
            (503, Some("XMinioStorageFull"), false, true),
            (400, Some("QuotaExceeded"), false, true),
            (404, Some("NoSuchKey"), false, false),
            (400, Some("InvalidArgument"), false, false),
            (412, Some("PreconditionFailed"), false, false),
            (501, Some("NotImplemented"), false, false),
        ] {
            let error = error(status, code);
            let found = (error.is_transient(), error.is_fatal());
            assert_eq!(found, (transient, fatal), "{status} {code:?}: {error:?}");
        }
    }

    #[test]
    fn a_certificate_that_nobody_vouches_for_does_not_get_better_by_waiting() {
        let cause = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let failure = Failure::not_sent(format!("io error: {cause}"));
        let error = failure.into_data_error("read".into(), "s3".into());
        assert!(!error.is_transient() && error.is_fatal(), "{error:?}");
        let failure = Failure::not_sent("tcp connect error: Connection refused".into());
        let error = failure.into_data_error("read".into(), "s3".into());
        assert!(error.is_transient() && error.is_fatal(), "{error:?}");
    }

    #[test]
    fn an_answer_is_shown_with_its_status_and_code() {
        let failure = Failure::answered(403, Some("AccessDenied"), &[Some("Access Denied")]);
        let error = failure.into_data_error("write blob x".into(), "s3://h/b".into());
        assert_eq!(error.to_string(), "s3://h/b refused to write blob x");
        assert_eq!(
            error.source().unwrap().to_string(),
            "403 AccessDenied: Access Denied"
        );
    }
}
