//! What is divided among processes which know nothing of each other.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

/// One of several parts of a whole, as `2/4`: the second of four.
///
/// All parts together are the whole, and no two have anything in common. What is in which follows
/// from its key alone, in every release: the 128 bits of the key's XXH3, modulo the number of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    /// From 1 to `of`.
    number: NonZeroU32,
    of: NonZeroU32,
}

impl Shard {
    /// Whether what has that key is in it: the id of a blob's file, for example.
    pub fn holds(self, key: &[u8]) -> bool {
        let rest = XxHash3_128::oneshot(key) % u128::from(self.of.get());
        rest + 1 == u128::from(self.number.get())
    }

    /// Which one it is, from 1 on.
    pub fn number(self) -> NonZeroU32 {
        self.number
    }

    /// How many parts there are.
    pub fn of(self) -> NonZeroU32 {
        self.of
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// A text that names no part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a part of a whole: the second of four is 2/4")]
pub struct BadShard;

impl FromStr for Shard {
    type Err = BadShard;

    fn from_str(text: &str) -> Result<Self, BadShard> {
        let (number, of) = text.split_once('/').ok_or(BadShard)?;
        let (number, of) = (number.parse(), of.parse());
        match (number, of) {
            (Ok(number), Ok(of)) if number <= of => Ok(Self { number, of }),
            _ => Err(BadShard),
        }
    }
}

impl TryFrom<String> for Shard {
    type Error = BadShard;

    fn try_from(text: String) -> Result<Self, BadShard> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> impl Iterator<Item = String> {
        (0..10_000).map(|number| format!("{number:016x}"))
    }

    #[test]
    fn all_parts_together_are_the_whole_and_about_equal() {
        for of in [1, 2, 3, 7, 64] {
            let parts = (1..=of).map(|number| format!("{number}/{of}").parse::<Shard>().unwrap());
            let parts: Vec<_> = parts.collect();
            let mut sizes = vec![0_u32; parts.len()];
            for id in ids() {
                let holding: Vec<_> = (0..parts.len())
                    .filter(|n| parts[*n].holds(id.as_bytes()))
                    .collect();
                assert_eq!(holding.len(), 1, "{id}: {holding:?}");
                sizes[holding[0]] += 1;
            }
            let expected = 10_000 / of;
            assert!(
                sizes
                    .iter()
                    .all(|size| size.abs_diff(expected) < expected / 2),
                "{sizes:?}"
            );
        }
    }

    /// Hosts with different releases divide alike.
    #[test]
    fn what_is_in_which_part_never_changes() {
        let part = |id: &str| {
            let mut parts = (1..=4).map(|number| format!("{number}/4").parse::<Shard>().unwrap());
            parts
                .find(|part| part.holds(id.as_bytes()))
                .unwrap()
                .to_string()
        };
        let found = ["", "a", "AbCdEfGhIjKlMnOp", "0123456789abcdef"].map(part);
        assert_eq!(found, ["4/4", "4/4", "2/4", "1/4"]);
    }

    #[test]
    fn a_part_is_named_by_its_number_and_theirs() {
        for text in ["1/1", "2/4", "64/64"] {
            assert_eq!(text.parse::<Shard>().unwrap().to_string(), text);
        }
        for text in [
            "", "1", "/", "0/4", "5/4", "1/0", "-1/2", "1/2/3", "a/b", " 1/2",
        ] {
            assert_eq!(text.parse::<Shard>(), Err(BadShard), "{text}");
        }
    }
}
