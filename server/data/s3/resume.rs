//! Goes on in an upload in parts that an earlier try left.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::types::Part;

use super::encryption::with_customer_key;
use super::error::{Failure, Kind};
use super::{CustomerKey, Store, md5_of_e_tag, part};
use crate::config::Sse;
use crate::data::name::BlobName;
use crate::data::{BlobRef, DataError, SentPart, Transfer, Unfinished};
use crate::model::BackendDetails;

/// How long a clean-up may take: it must not hold up the end of the program for ever.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(60);

/// An upload that the server still knows.
pub(super) struct Resumed {
    pub upload_id: String,
    pub part_bytes: u64,
    /// What it was begun with.
    pub details: BackendDetails,
    /// The parts that are there and whose bytes are known, by their number.
    pub there: BTreeMap<i32, SentPart>,
}

/// The upload that the journal of `transfer` tells of, if it can be gone on in. One that cannot is
/// aborted.
pub(super) async fn find(
    store: &Arc<Store>,
    name: &BlobName,
    blob: &BlobRef,
    transfer: &Transfer,
) -> Result<Option<Resumed>, DataError> {
    let Some(journal) = &transfer.journal else {
        return Ok(None);
    };
    let found = journal.unfinished().await;
    let found = found.map_err(|source| DataError::Journal {
        id: name.id().to_owned(),
        source,
    })?;
    let Some((upload, recorded)) = found else {
        return Ok(None);
    };
    let failed = |failure| store.failed(format!("resume blob {}", name.id()), failure);
    if upload.key == store.key(name) && store.suits(&upload, blob, transfer.size_bytes) {
        let key = CustomerKey::of(&upload.details);
        match store.parts(&upload, key.as_ref()).await {
            Ok(parts) => {
                return Ok(Some(Resumed {
                    there: known(parts, recorded, store.e_tags_prove()),
                    upload_id: upload.upload_id,
                    part_bytes: upload.part_bytes,
                    details: upload.details,
                }));
            }
            Err(failure) if failure.kind == Kind::Missing => return Ok(None),
            // Not every server, and not every key, lets parts be listed.
            Err(failure) if failure.may_be_of_the_request() => {}
            Err(failure) => return Err(failed(failure)),
        }
    }
    let ended = store.abort(&upload.key, &upload.upload_id).await;
    ended.map_err(failed)?;
    Ok(None)
}

/// The listed parts of which it is known what bytes they are: from the record of the answer to
/// them, or from an ETag that can be believed to be their MD5.
fn known(parts: Vec<Part>, recorded: Vec<SentPart>, prove: bool) -> BTreeMap<i32, SentPart> {
    let recorded: HashMap<i32, SentPart> = recorded.into_iter().map(|p| (p.number, p)).collect();
    let parts = parts.into_iter().filter_map(|listed| {
        let number = listed.part_number()?;
        let e_tag = listed.e_tag()?.trim_matches('"').to_owned();
        let size_bytes = u64::try_from(listed.size()?).ok()?;
        let answered = recorded
            .get(&number)
            .filter(|part| part.e_tag == e_tag && part.size_bytes == size_bytes)
            .map(|part| part.md5);
        let md5 = answered.or_else(|| md5_of_e_tag(&e_tag).filter(|_| prove))?;
        let part = SentPart {
            number,
            e_tag,
            size_bytes,
            md5,
        };
        Some((number, part))
    });
    parts.collect()
}

impl Store {
    /// Whether the blob can be sent in the parts, and under the key, that `upload` was begun with.
    fn suits(&self, upload: &Unfinished, blob: &BlobRef, size_bytes: u64) -> bool {
        let key = upload.details.sse_key();
        let wanted = blob.details.sse_key();
        let same_key = match self.config.sse == Sse::Customer {
            true => key.is_some() && (wanted.is_none() || wanted == key),
            false => key.is_none(),
        };
        let part_bytes = upload.part_bytes;
        let same_parts = part_bytes == part::part_bytes(part_bytes, Some(size_bytes));
        same_key && same_parts && upload.size_bytes == size_bytes && size_bytes > part_bytes
    }

    /// The parts of an upload.
    async fn parts(
        &self,
        upload: &Unfinished,
        customer_key: Option<&CustomerKey>,
    ) -> Result<Vec<Part>, Failure> {
        let mut parts = Vec::new();
        let mut after = None;
        loop {
            let request = self
                .client
                .list_parts()
                .bucket(&self.config.bucket)
                .key(&upload.key)
                .upload_id(&upload.upload_id)
                .set_part_number_marker(after.clone());
            let request = with_customer_key!(request, customer_key);
            let mut answer = request.send().await?;
            parts.extend(answer.parts.take().unwrap_or_default());
            let next = answer.next_part_number_marker().map(str::to_owned);
            // A server that says that there is more, and not where, would be asked for ever.
            if answer.is_truncated() != Some(true) || next.is_none() || next == after {
                return Ok(parts);
            }
            after = next;
        }
    }

    /// Ends an upload. One that is not there any more is ended.
    pub(super) async fn abort(&self, key: &str, upload_id: &str) -> Result<(), Failure> {
        let aborting = self
            .client
            .abort_multipart_upload()
            .bucket(&self.config.bucket)
            .key(key)
            .upload_id(upload_id)
            .send();
        let failure = match tokio::time::timeout(CLEANUP_TIMEOUT, aborting).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => Failure::from(error),
            Err(_) => Failure::other("no answer in time"),
        };
        match failure.kind {
            Kind::Missing => Ok(()),
            _ => Err(failure),
        }
    }
}
