//! Tries out, under names that no blob can have, what an S3 server does with objects, and chooses
//! the ways of the backend accordingly.

mod findings;
mod scratch;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::TryStreamExt;
use md5::{Digest, Md5};

use super::error::{Failure, Kind};
use super::multipart::Multipart;
use super::part::{self, Prepared};
use super::{Store, copy, download, list};
use crate::data::{BlobStat, DataError, Feature, Proof, Trial};
use findings::{Checksums, Findings, Refused};
use scratch::{Name, Scratch};

/// What the scratch objects hold.
const BYTES: Bytes = Bytes::from_static(b"plikd tries out what this server does with objects.\n");
const OTHER_BYTES: &[u8] = b"These are other bytes than those that were sent here";
/// S3 takes no smaller part but the last.
const LEAST_PART_BYTES: usize = 5 << 20;

/// Nothing of it stays in the bucket; an error is one that cannot be written to.
pub(super) async fn run(store: &Arc<Store>, trial: Trial) -> Result<Vec<Feature>, DataError> {
    let scratch = Scratch::new(store, trial.id.clone());
    // In a task of its own: a caller that goes away leaves nothing behind either.
    let trying = store.cleanups.spawn(async move {
        let found = scratch.look(&trial).await;
        let removed = scratch.remove().await;
        found.map(|findings| findings.features(removed))
    });
    let tried = trying.await;
    tried.map_err(|error| {
        let failure = Failure::other(error.to_string());
        store.failed("be tried out", failure)
    })?
}

impl Scratch {
    async fn look(&self, trial: &Trial) -> Result<Findings, DataError> {
        let empty = self.write().await?;
        let (read, checksums, parts, condition, copies, list) = tokio::join!(
            self.read(),
            self.checksums(),
            self.parts(trial.largest_bytes),
            self.condition(),
            self.copies(trial),
            self.list()
        );
        let parts = parts?;
        let copies_of_parts = match copies {
            Some(Ok(true)) => self.copies_of_parts(trial, parts.as_ref()).await,
            _ => None,
        };
        Ok(Findings {
            read: read?,
            empty,
            parts,
            checksums,
            condition,
            copies,
            copies_of_parts,
            list,
        })
    }

    fn failed(&self, action: &str, failure: Failure) -> DataError {
        self.store.failed(action, failure)
    }

    /// Stores two objects, as blobs are stored, and tells what came of the empty one. That ETags
    /// are what they should be, and that bodies need not be signed, is found on the way.
    async fn write(&self) -> Result<Result<(), Failure>, DataError> {
        let (small, empty) = tokio::join!(
            self.put(Name::Small, BYTES),
            self.put(Name::Empty, Bytes::new())
        );
        small.map_err(|failure| self.failed("store an object on trial", failure))?;
        Ok(empty)
    }

    async fn put(&self, name: Name, bytes: Bytes) -> Result<(), Failure> {
        let target = self.target(name);
        let md5 = Md5::digest(&bytes).into();
        let put = target.put(bytes, Some(md5)).await;
        self.noted(name, put)
    }

    /// All but the first byte of the small object. Other bytes than were stored are an error.
    async fn read(&self) -> Result<Result<(), Failure>, DataError> {
        let target = self.target(Name::Small);
        let range = 1..BYTES.len() as u64;
        let opened = download::open(&self.store, target.key, target.customer_key, Some(range));
        let body = match opened.await {
            Ok(Some(blob)) => blob.body,
            Ok(None) => return Ok(Err(Failure::other("it is not there"))),
            Err(failure) => return Ok(Err(failure)),
        };
        match body.try_collect::<Vec<Bytes>>().await {
            Ok(chunks) if chunks.concat() == BYTES[1..] => Ok(Ok(())),
            Ok(_) => Err(self.failed(
                "give back an object as it was stored on trial",
                Failure::other("the bytes are others"),
            )),
            Err(error) => Ok(Err(Failure::other(error.to_string()))),
        }
    }

    async fn checksums(&self) -> Checksums {
        let (md5, signature) = tokio::join!(self.wrong_md5(), self.wrong_signature());
        let guards = matches!(md5, Refused::Yes);
        self.store.md5s_guard.store(guards, Ordering::Relaxed);
        Checksums {
            e_tags_prove: self.store.e_tags_prove(),
            md5,
            signature,
        }
    }

    /// Whether the server looks at `Content-MD5`, on requests as they are sent from now on.
    async fn wrong_md5(&self) -> Refused {
        let wrong = Md5::digest(OTHER_BYTES).into();
        let part = match self.store.e_tags_prove() {
            true => Prepared::unsigned(BYTES, Some(wrong)),
            false => Prepared::signed_over(BYTES, &BYTES).with_content_md5(wrong),
        };
        self.refused(Name::WrongMd5, part).await
    }

    /// Whether the server compares a body with the signature.
    async fn wrong_signature(&self) -> Refused {
        let part = Prepared::signed_over(BYTES, OTHER_BYTES);
        self.refused(Name::WrongSignature, part).await
    }

    async fn refused(&self, name: Name, part: Prepared) -> Refused {
        let target = self.target(name);
        let put = target.put_once(part).await;
        let failure = match self.noted(name, put) {
            Ok(_) => return Refused::No,
            Err(failure) if !failure.may_be_done() => return Refused::Yes,
            Err(failure) => failure,
        };
        // Some servers call it an error of their own: what counts is whether the object is there.
        let head = self.store.head(&target.key, target.customer_key.as_ref());
        match head.await {
            Ok(None) if failure.kind == Kind::Passing => Refused::Yes,
            Ok(_) | Err(_) => Refused::Untold(failure),
        }
    }

    /// `None` if no blob is so large that it goes in parts. A refusal is an error then: it would
    /// be found by a blob much later.
    async fn parts(&self, largest_bytes: u64) -> Result<Option<Result<(), Failure>>, DataError> {
        if largest_bytes <= part::part_bytes(self.store.config.part_size, Some(largest_bytes)) {
            return Ok(None);
        }
        match self.send_parts().await {
            Err(failure) if !failure.may_be_done() => {
                Err(self.failed("store an object in parts on trial", failure))
            }
            sent => Ok(Some(sent)),
        }
    }

    async fn send_parts(&self) -> Result<(), Failure> {
        self.abort_left().await;
        let sent = self.send_two_parts().await;
        self.noted(Name::Parts, sent)
    }

    async fn send_two_parts(&self) -> Result<(), Failure> {
        let first = first_part();
        let size_bytes = (first.len() + BYTES.len()) as u64;
        let mut multipart = Multipart::begin(self.target(Name::Parts)).await?;
        let sent = async {
            for bytes in [first, BYTES] {
                let md5 = Md5::digest(&bytes).into();
                multipart.send(bytes, Some(md5)).await?;
            }
            multipart.complete(size_bytes).await
        };
        let sent = sent.await;
        if sent.is_err() {
            multipart.abort().await;
        }
        sent
    }

    /// Whether an object that is there can be kept from being replaced.
    async fn condition(&self) -> Refused {
        let target = self.target(Name::Small);
        match target.put_if_absent(BYTES).await {
            Ok(()) => Refused::No,
            Err(failure) if failure.kind == Kind::Unmatched => Refused::Yes,
            Err(failure) if failure.may_be_of_the_request() => Refused::No,
            Err(failure) => Refused::Untold(failure),
        }
    }

    /// `None` if no blob is on this server already.
    async fn copies(&self, trial: &Trial) -> Option<Result<bool, Failure>> {
        let origin = trial.origin.as_ref()?;
        if !self.store.may_copy(origin) {
            return None;
        }
        let small = BlobStat {
            size_bytes: BYTES.len() as u64,
            md5: Some(Md5::digest(BYTES).into()),
        };
        let from = self.target(Name::Small).key;
        let copied = copy::within(self.target(Name::Copy), from, small, Proof::Before).await;
        let copied = self.noted(Name::Copy, copied);
        Some(match copied {
            Err(failure) if self.store.copying.is_error(&failure) => Err(failure),
            Err(failure) => {
                self.store.copying.give_up(&failure.to_string());
                Ok(false)
            }
            copied => copied,
        })
    }

    /// Whether the copy of an object that came in `parts` has the MD5 of the whole. `None` if no blob
    /// can have come in parts, or nothing can be stored so.
    async fn copies_of_parts(
        &self,
        trial: &Trial,
        parts: Option<&Result<(), Failure>>,
    ) -> Option<Result<bool, Failure>> {
        if trial.largest_bytes <= LEAST_PART_BYTES as u64 {
            return None;
        }
        match parts {
            Some(Ok(())) => {}
            Some(Err(_)) => return None,
            // Blobs of the source may have come in smaller parts than those to this bucket do.
            None => {
                if let Err(failure) = self.send_parts().await {
                    return Some(Err(failure));
                }
            }
        }
        let whole = [first_part(), BYTES].concat();
        let whole = BlobStat {
            size_bytes: whole.len() as u64,
            md5: Some(Md5::digest(&whole).into()),
        };
        let (from, to) = (self.target(Name::Parts).key, self.target(Name::CopyOfParts));
        self.store.copying.believe_digests(true);
        let copied = copy::within(to, from, whole, Proof::Afterwards).await;
        let is_proven = matches!(copied, Ok(true));
        self.store.copying.believe_digests(is_proven);
        Some(self.noted(Name::CopyOfParts, copied))
    }

    /// Whether a list has what is there, in order. Finds also what an earlier trial left.
    async fn list(&self) -> Result<bool, Failure> {
        let listed = match list::first_page(&self.store, self.prefix()).await {
            Ok(listed) => listed,
            Err(failure) => {
                let refused = failure.may_be_of_the_request() && failure.kind != Kind::Denied;
                self.store.can_list.store(!refused, Ordering::Relaxed);
                return Err(failure);
            }
        };
        let mut ours = [Name::Empty, Name::Small].map(|name| self.target(name).key);
        ours.sort();
        let is_there = |key: &String| listed.iter().any(|object| object.key == *key);
        let good = listed.is_sorted_by(|one, next| one.key < next.key) && ours.iter().all(is_there);
        self.store.can_list.store(good, Ordering::Relaxed);
        self.note_left(&listed);
        Ok(good)
    }
}

/// Of an object in two parts; the second is [`BYTES`].
fn first_part() -> Bytes {
    Bytes::from(vec![0; LEAST_PART_BYTES])
}
