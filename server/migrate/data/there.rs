//! Whether a blob is where it should be, and the right one.

use futures::StreamExt;

use super::BlobCopy;
use super::past::Past;
use crate::data::digest::hashed;
use crate::data::{BlobRef, BlobStat, ByteStream, DataError};
use crate::migrate::blob::BlobRow;
use crate::migrate::known::{InListing, Md5};
use crate::model::BackendDetails;

/// What the target has under the name of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    Blob(Presence),
    /// Other bytes, or such as nobody can tell from them.
    Other,
    Nothing,
}

/// How a blob is known to be in the target, with the right bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// By the listing, which the next run has too, and by what was proven before.
    Listed,
    /// The target was asked about it, or it was read.
    Asked,
}

impl BlobCopy {
    /// Whether a blob that an earlier run has left proven need not even be asked about: the target
    /// has one of that name and size, and its listing does not say that it is another. Of an
    /// encrypted one the key must be there too.
    pub(super) fn is_as_it_was(&self, row: &BlobRow) -> bool {
        let standing = self.known.in_listing(row);
        !self.to_keeps_keys && matches!(standing, InListing::Found(Md5::Same | Md5::Untold))
    }

    /// Whether the target has the blob with the size and digest that the row says. A row without a
    /// digest does not tell which bytes those are.
    pub(super) async fn there(&self, row: &BlobRow, past: &Past) -> Result<There, DataError> {
        let standing = self.known.in_listing(row);
        if standing == InListing::Absent {
            return Ok(There::Nothing);
        }
        if row.md5.is_none() {
            return Ok(There::Other);
        }
        let details = past.details();
        if self.to_keeps_keys && details.sse_key().is_none() {
            // Without its key a blob cannot be asked about, and nobody can read it either.
            return Ok(There::Other);
        }
        match standing {
            InListing::Different => return Ok(There::Other),
            InListing::Found(Md5::Same) => return Ok(There::Blob(Presence::Listed)),
            InListing::Found(Md5::Untold) if past.proves(row) => {
                return Ok(There::Blob(Presence::Listed));
            }
            InListing::Found(_) | InListing::Unknown | InListing::Absent => {}
        }
        let blob = BlobRef {
            details,
            ..row.blob()
        };
        let Some(stat) = self.to.stat(&blob).await? else {
            return Ok(There::Nothing);
        };
        if !row.may_have(stat.size_bytes) {
            return Ok(There::Other);
        }
        if stat.md5 == row.md5 || (stat.md5.is_none() && past.proves(row)) {
            return Ok(There::Blob(Presence::Asked));
        }
        // No digest is kept there, or one that need not be the MD5: the bytes decide.
        match self.to.get(&blob, None).await {
            Ok(found) => Ok(match md5_of(found.body, stat.size_bytes).await == row.md5 {
                true => There::Blob(Presence::Asked),
                false => There::Other,
            }),
            Err(DataError::NotFound { .. }) => Ok(There::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Whether the source seems to have the blob as `row` says: its store would copy the right MD5
    /// under a wrong size too. What it has otherwise is read, and named for that.
    pub(super) async fn is_held(&self, row: &BlobRow, source: &BlobRef) -> Result<bool, DataError> {
        if row.md5.is_none() {
            // There is nothing but the size to know it by, so the store looks at that.
            return Ok(true);
        }
        Ok(match self.held.in_listing(row) {
            InListing::Found(md5) => md5 != Md5::Other,
            InListing::Absent | InListing::Different => false,
            InListing::Unknown => {
                let stat = self.from.stat(source).await?;
                stat.is_some_and(|stat| row.may_have(stat.size_bytes))
            }
        })
    }

    /// The blob, if an earlier try has stored it, though its answer was lost.
    pub(super) async fn arrived(&self, row: &BlobRow) -> Result<Option<BlobStat>, DataError> {
        if row.md5.is_none() || self.to_keeps_keys {
            return Ok(None);
        }
        let blob = BlobRef {
            details: BackendDetails::default(),
            ..row.blob()
        };
        let stat = self.to.stat(&blob).await?;
        Ok(stat.filter(|stat| row.may_have(stat.size_bytes) && stat.md5 == row.md5))
    }
}

/// The MD5 of all of `body`, or `None` if it cannot be read to its end or has more than `size_bytes`.
async fn md5_of(body: ByteStream, size_bytes: u64) -> Option<[u8; 16]> {
    let (mut body, digest) = hashed(body);
    let mut left = size_bytes;
    while let Some(chunk) = body.next().await {
        left = left.checked_sub(chunk.ok()?.len() as u64)?;
    }
    digest.get().map(|digest| digest.md5)
}
