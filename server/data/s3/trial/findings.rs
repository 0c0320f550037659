//! What a trial has found, as the items of a list.

use crate::data::Feature;
use crate::data::s3::error::Failure;
use crate::data::survey::Suitability::{Doubtful, Good, Unknown};

/// Whether the server refused what it should refuse.
pub enum Refused {
    Yes,
    No,
    /// It failed otherwise.
    Untold(Failure),
}

/// How the server checks what it receives.
pub struct Checksums {
    /// Its ETags are MD5s, and bodies that are not signed are taken.
    pub e_tags_prove: bool,
    /// A body with another `Content-MD5`.
    pub md5: Refused,
    /// A body under the signature of another.
    pub signature: Refused,
}

/// See the module. An object could be stored.
pub struct Findings {
    pub read: Result<(), Failure>,
    pub empty: Result<(), Failure>,
    pub parts: Option<Result<(), Failure>>,
    pub checksums: Checksums,
    pub condition: Refused,
    pub copies: Option<Result<bool, Failure>>,
    pub copies_of_parts: Option<Result<bool, Failure>>,
    pub list: Result<bool, Failure>,
}

impl Findings {
    /// With what came of removing the objects: the key of one that stays.
    pub fn features(self, removed: Result<(), (String, Failure)>) -> Vec<Feature> {
        let mut features = vec![
            objects(self.read),
            removal(removed),
            empty(self.empty),
            self.checksums.feature(),
            condition(self.condition),
            list(self.list),
        ];
        features.extend(self.parts.map(parts));
        features.extend(self.copies.map(copies));
        features.extend(self.copies_of_parts.map(copies_of_parts));
        features
    }
}

fn objects(read: Result<(), Failure>) -> Feature {
    const NAME: &str = "objects";
    match read {
        Ok(()) => Feature::new(NAME, Good, "can be stored and read"),
        Err(failure) => Feature::new(
            NAME,
            Doubtful,
            format!("can be stored, but not read: {failure}"),
        )
        .with_hint("allow this access key s3:GetObject: a server has to read them"),
    }
}

fn removal(removed: Result<(), (String, Failure)>) -> Feature {
    const NAME: &str = "removal of objects";
    match removed {
        Ok(()) => Feature::new(NAME, Good, "leaves nothing"),
        Err((key, failure)) => Feature::new(NAME, Doubtful, format!("{key} stays: {failure}"))
            .with_hint(
                "allow this access key s3:DeleteObject, or what users remove keeps its bytes, and remove that object",
            ),
    }
}

fn empty(stored: Result<(), Failure>) -> Feature {
    const NAME: &str = "empty objects";
    match stored {
        Ok(()) => Feature::new(NAME, Good, "can be stored"),
        Err(failure) if failure.may_be_done() => untold(NAME, &failure),
        Err(failure) => Feature::new(NAME, Doubtful, format!("are refused: {failure}"))
            .with_hint("empty files fail to be copied; --ignore-errors leaves them out"),
    }
}

fn parts(stored: Result<(), Failure>) -> Feature {
    const NAME: &str = "objects in parts";
    match stored {
        Ok(()) => Feature::new(NAME, Good, "can be stored"),
        Err(failure) => untold(NAME, &failure),
    }
}

impl Checksums {
    fn feature(self) -> Feature {
        const NAME: &str = "checksums";
        let (md5, signature) = match (self.md5, self.signature) {
            (Refused::Untold(failure), _) | (_, Refused::Untold(failure)) => {
                return untold(NAME, &failure);
            }
            (md5, signature) => (
                matches!(md5, Refused::Yes),
                matches!(signature, Refused::Yes),
            ),
        };
        match (self.e_tags_prove, md5, signature) {
            (true, true, _) => Feature::new(
                NAME,
                Good,
                "ETags prove what arrived and a wrong Content-MD5 is refused, so bytes need not be signed",
            ),
            (true, false, true) => Feature::new(
                NAME,
                Good,
                "ETags prove what arrived, but Content-MD5 is passed over: only parts are sent unsigned",
            ),
            (false, _, true) => Feature::new(NAME, Good, "all bytes are signed"),
            (false, true, false) => Feature::new(
                NAME,
                Doubtful,
                "the server looks at Content-MD5 only, not at the signature",
            )
            .with_hint("set SendContentMd5 = true for this bucket"),
            (true, false, false) => Feature::new(
                NAME,
                Doubtful,
                "damaged bytes are not refused; ETags tell of them, and they are sent again",
            )
            .with_hint("look at the blobs afterwards with `plikd migrate verify --deep`"),
            (false, false, false) => Feature::new(NAME, Doubtful, "damaged bytes are not refused")
                .with_hint("look at the blobs afterwards with `plikd migrate verify --deep`"),
        }
    }
}

/// Nothing depends on it: blobs of one name are the same blob.
fn condition(refused: Refused) -> Feature {
    const NAME: &str = "conditional writes";
    match refused {
        Refused::Yes => Feature::new(NAME, Good, "If-None-Match is followed"),
        Refused::No => Feature::new(NAME, Good, "are not known there, and not needed"),
        Refused::Untold(failure) => untold(NAME, &failure),
    }
}

fn copies(copied: Result<bool, Failure>) -> Feature {
    const NAME: &str = "copies by the server";
    match copied {
        Ok(true) => Feature::new(NAME, Good, "are as good as their source, and used"),
        Ok(false) => Feature::new(
            NAME,
            Doubtful,
            "are refused, or cannot be proven: blobs are read and written, which takes longer",
        ),
        Err(failure) => untold(NAME, &failure),
    }
}

fn copies_of_parts(proven: Result<bool, Failure>) -> Feature {
    const NAME: &str = "copies of objects in parts";
    match proven {
        Ok(true) => Feature::new(NAME, Good, "tell the MD5 of the whole, and are used"),
        Ok(false) => Feature::new(
            NAME,
            Doubtful,
            "do not tell the MD5 of the whole: large blobs are read and written, which takes longer",
        ),
        Err(failure) => untold(NAME, &failure),
    }
}

fn list(in_order: Result<bool, Failure>) -> Feature {
    const NAME: &str = "lists";
    match in_order {
        Ok(true) => Feature::new(NAME, Good, "are whole and in order"),
        Ok(false) => Feature::new(
            NAME,
            Doubtful,
            "are not whole, or not in order: the bucket is asked about each blob instead",
        ),
        Err(failure) => untold(NAME, &failure),
    }
}

fn untold(name: &'static str, failure: &Failure) -> Feature {
    Feature::new(name, Unknown, format!("could not be tried out: {failure}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(is: bool) -> Refused {
        match is {
            true => Refused::Yes,
            false => Refused::No,
        }
    }

    #[test]
    fn a_server_that_compares_nothing_before_it_stores_is_doubtful() {
        for (e_tags_prove, md5, signature, suitability, hint) in [
            (true, true, true, Good, None),
            (true, true, false, Good, None),
            (true, false, true, Good, None),
            (false, true, true, Good, None),
            (false, false, true, Good, None),
            (false, true, false, Doubtful, Some("SendContentMd5 = true")),
            (true, false, false, Doubtful, Some("verify --deep")),
            (false, false, false, Doubtful, Some("verify --deep")),
        ] {
            let checksums = Checksums {
                e_tags_prove,
                md5: refused(md5),
                signature: refused(signature),
            };
            let feature = checksums.feature();
            assert_eq!(feature.suitability, suitability, "{feature:?}");
            let told = feature.hint.as_deref().unwrap_or_default();
            assert!(told.contains(hint.unwrap_or_default()), "{feature:?}");
            assert_eq!(told.is_empty(), hint.is_none(), "{feature:?}");
        }
    }

    #[test]
    fn what_could_not_be_tried_is_neither_well_nor_wrong() {
        let failed = || Failure::other("500 InternalError");
        let checksums = Checksums {
            e_tags_prove: true,
            md5: Refused::Yes,
            signature: Refused::Untold(failed()),
        };
        for feature in [
            checksums.feature(),
            condition(Refused::Untold(failed())),
            copies(Err(failed())),
            copies_of_parts(Err(failed())),
            list(Err(failed())),
            parts(Err(failed())),
        ] {
            assert_eq!(feature.suitability, Unknown, "{feature:?}");
            assert!(feature.detail.contains("500 InternalError"), "{feature:?}");
        }
    }
}
