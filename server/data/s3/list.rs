//! Names the objects of the bucket, a page after the other.

use std::sync::Arc;

use aws_sdk_s3::types::{EncodingType, Object};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::error::Failure;
use super::{Store, client, md5_of_e_tag};
use crate::data::name::ids_of_key;
use crate::data::{BlobStat, DataError, Listed, Listing};

pub(super) fn list(store: &Arc<Store>) -> Listing {
    let prefix = &store.config.prefix;
    let below = (!prefix.is_empty()).then(|| format!("{prefix}/"));
    let pages = Pages::new(store, below);
    let pages = futures::stream::unfold(pages, |mut pages| async {
        let page = pages.next().await?;
        Some((page, pages))
    });
    Box::pin(pages)
}

/// An object of whatever name.
pub(super) struct Named {
    pub key: String,
    /// When it was stored, where the server tells.
    pub modified: Option<Timestamp>,
}

/// The objects, of those whose key begins with `prefix`, that the first page of a list has.
pub(super) async fn first_page(store: &Arc<Store>, prefix: String) -> Result<Vec<Named>, Failure> {
    let mut pages = Pages::new(store, Some(prefix));
    let page = pages.first().await?;
    let named = page.objects.into_iter().filter_map(|object| {
        let modified = object.last_modified.and_then(|time| {
            let millis = time.to_millis().ok()?;
            Timestamp::from_millisecond(millis).ok()
        });
        let key = decoded(object.key?, page.encoded)?;
        Some(Named { key, modified })
    });
    Ok(named.collect())
}

/// Of the request; there are servers that know the older one only.
#[derive(Clone, Copy)]
enum Version {
    One,
    Two,
}

struct Pages {
    store: Arc<Store>,
    prefix: Option<String>,
    version: Version,
    /// Where the next page begins; `Some(None)` for the first, `None` after the last.
    next: Option<Option<String>>,
}

/// What an answer holds of use.
struct Page {
    objects: Vec<Object>,
    next: Option<String>,
    truncated: bool,
    encoded: bool,
}

impl Pages {
    fn new(store: &Arc<Store>, prefix: Option<String>) -> Self {
        Self {
            store: Arc::clone(store),
            prefix,
            version: Version::Two,
            next: Some(None),
        }
    }

    async fn first(&mut self) -> Result<Page, Failure> {
        match self.ask(None).await {
            Err(failure) if failure.may_be_of_the_request() => {
                self.version = Version::One;
                // What is wrong besides the version is told by the older request too.
                self.ask(None).await
            }
            page => page,
        }
    }

    async fn next(&mut self) -> Option<Result<Vec<Listed>, DataError>> {
        let from = self.next.take()?;
        let page = match &from {
            None => self.first().await,
            from => self.ask(from.clone()).await,
        };
        let listed = page.and_then(|page| self.take(page, from));
        Some(listed.map_err(|failure| self.store.failed("list its blobs", failure)))
    }

    async fn ask(&self, from: Option<String>) -> Result<Page, Failure> {
        let (config, prefix) = (&self.store.config, self.prefix.clone());
        match self.version {
            Version::Two => {
                let request = self.store.client.list_objects_v2().bucket(&config.bucket);
                let answer = request
                    .set_prefix(prefix)
                    .set_continuation_token(from)
                    // A key of others may have characters that XML cannot hold.
                    .encoding_type(EncodingType::Url)
                    .customize()
                    .config_override(client::patient_part(0))
                    .send()
                    .await?;
                Ok(Page {
                    truncated: answer.is_truncated() == Some(true),
                    encoded: answer.encoding_type.is_some(),
                    next: answer.next_continuation_token,
                    objects: answer.contents.unwrap_or_default(),
                })
            }
            Version::One => {
                let request = self.store.client.list_objects().bucket(&config.bucket);
                let request = request.set_prefix(prefix).set_marker(from).customize();
                let request = request.config_override(client::patient_part(0));
                let answer = request.send().await?;
                let objects = answer.contents.unwrap_or_default();
                // Only answers with a delimiter tell where to go on.
                let last = objects.last().and_then(|object| object.key.clone());
                Ok(Page {
                    truncated: answer.is_truncated == Some(true),
                    encoded: false,
                    next: answer.next_marker.or(last),
                    objects,
                })
            }
        }
    }

    fn take(&mut self, page: Page, from: Option<String>) -> Result<Vec<Listed>, Failure> {
        if page.truncated {
            if page.next.is_none() || page.next == from {
                return Err(Failure::other(
                    "the answer is cut off, and does not tell where to go on",
                ));
            }
            self.next = Some(page.next);
        }
        let prefix = &self.store.config.prefix;
        let listed = page
            .objects
            .into_iter()
            .filter_map(|object| listed(object, prefix, page.encoded));
        Ok(listed.collect())
    }
}

fn decoded(key: String, encoded: bool) -> Option<String> {
    match encoded {
        true => Some(percent_decode_str(&key).decode_utf8().ok()?.into_owned()),
        false => Some(key),
    }
}

/// `None` for what no server has put there.
fn listed(object: Object, prefix: &str, encoded: bool) -> Option<Listed> {
    let key = object.key?;
    let key = decoded(key, encoded)?;
    let (file_id, upload_id) = ids_of_key(&key, prefix)?;
    Some(Listed {
        file_id: file_id.to_owned(),
        upload_id: upload_id.map(str::to_owned),
        stat: BlobStat {
            size_bytes: u64::try_from(object.size?).ok()?,
            md5: object.e_tag.as_deref().and_then(md5_of_e_tag),
        },
    })
}
