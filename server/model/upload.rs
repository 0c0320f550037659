//! An upload: files that share a link, options and an expiry.

use super::Timestamp;

/// One row of `uploads`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Upload {
    pub id: String,
    /// Seconds to live; 0 or negative means for ever.
    pub ttl: i64,
    /// The expiry moves to now + `ttl` at each access.
    pub extend_ttl: bool,
    pub remote_ip: String,
    pub comments: String,
    /// Name of the end-to-end encryption scheme, or empty.
    pub e2ee: String,
    /// Who knows it administers the upload.
    pub upload_token: String,
    /// Owner, or empty for an anonymous upload.
    pub user: String,
    /// API token it was created with, or empty.
    pub token: String,
    pub stream: bool,
    pub one_shot: bool,
    pub removable: bool,
    pub protected_by_password: bool,
    pub login: String,
    /// Hash of the credentials.
    pub password: String,
    pub created_at: Option<Timestamp>,
    pub expire_at: Option<Timestamp>,
}

impl Upload {
    /// Whether `now` is past the expiry; the instant of the expiry itself still counts as live.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expire_at.is_some_and(|expire_at| now > expire_at)
    }

    /// When an access at `now` makes the upload expire: `None` if it never does. A time to live
    /// past the end of the calendar never ends.
    pub fn expiry_from(&self, now: Timestamp) -> Option<Timestamp> {
        (self.ttl > 0)
            .then(|| jiff::SignedDuration::from_secs(self.ttl))
            .and_then(|ttl| now.checked_add(ttl).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_upload_expires_strictly_after_its_expiry() {
        let upload = Upload {
            expire_at: Some(at(10)),
            ..Upload::default()
        };
        assert!(!upload.is_expired(at(10)));
        assert!(upload.is_expired(at(11)));
        assert!(!Upload::default().is_expired(at(11)));
    }

    #[test]
    fn expiry_follows_the_time_to_live_and_never_overflows() {
        let upload = |ttl| Upload {
            ttl,
            ..Upload::default()
        };
        assert_eq!(upload(60).expiry_from(at(1)), Some(at(61)));
        assert_eq!(upload(0).expiry_from(at(1)), None);
        assert_eq!(upload(-1).expiry_from(at(1)), None);
        assert_eq!(upload(i64::MAX).expiry_from(at(1)), None);
    }
}
