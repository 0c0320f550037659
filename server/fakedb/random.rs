//! Numbers that look random and are the same on every machine and in every release.

/// Letters of ids, in the order of their bytes: a larger number is a larger text.
const ALPHANUMERIC: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Letters of text content; some lines among them.
const TEXT: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 012345678\n";

/// What a row is: rows of different kinds share no numbers.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Seed,
    User,
    Token,
    Upload,
    UploadOptions,
    UploadId,
    File,
    FileText,
    FileId,
    Content,
    Setting,
}

/// A stream of numbers, SplitMix64. Own code, because the generators of `rand` may give other
/// numbers in another release, and a seed must mean the same server for ever.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream that belongs to row `index` of a kind, whichever rows were asked for before.
    pub fn of(seed: u64, kind: Kind, index: u64) -> Self {
        Self(mix(
            mix(seed.wrapping_add(kind as u64)) ^ index.wrapping_mul(GOLDEN)
        ))
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// `length` characters of `a-z A-Z 0-9`.
    pub fn alphanumeric(&mut self, length: usize) -> String {
        (0..length)
            .map(|_| char::from(self.pick(ALPHANUMERIC)))
            .collect()
    }

    /// `length` hexadecimal digits.
    pub fn hex(&mut self, length: usize) -> String {
        (0..length)
            .map(|_| char::from(self.pick(b"0123456789abcdef")))
            .collect()
    }

    /// Fills `bytes` with the stream's next eight bytes each, or with letters if it is to be text.
    /// A stream filled in several steps gives the same bytes if each but the last is a multiple
    /// of eight long.
    pub fn fill(&mut self, bytes: &mut [u8], text: bool) {
        for word in bytes.chunks_mut(8) {
            word.copy_from_slice(&self.number().to_le_bytes()[..word.len()]);
        }
        if text {
            for byte in bytes {
                *byte = TEXT[usize::from(*byte & 63)];
            }
        }
    }
}

/// The odd number closest to 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Every bit of the answer depends on every bit of `value`.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The 16 characters of id number `index` of `total`. Ids look random and sort by `index`: rows
/// that are inserted in the order of their key build its index without searching it.
pub fn id(seed: u64, kind: Kind, index: u64, total: u64) -> String {
    const LEADING: u32 = 8;
    let mut random = Random::of(seed, kind, index);
    // Each id has a slot of its own among the numbers that eight letters can spell.
    let slot = 62_u64.pow(LEADING) / total.max(1);
    let mut number = index * slot + random.below(slot);
    let mut id = vec![b'0'; LEADING as usize];
    for letter in id.iter_mut().rev() {
        *letter = ALPHANUMERIC[(number % 62) as usize];
        number /= 62;
    }
    id.into_iter().map(char::from).collect::<String>() + &random.alphanumeric(8)
}

/// Puts the numbers below `total` into another order, one to one, so that neighbours part.
#[derive(Clone, Copy, Debug)]
pub struct Shuffle {
    total: u64,
    step: u64,
    start: u64,
}

impl Shuffle {
    pub fn new(total: u64, random: &mut Random) -> Self {
        // A step that shares no divisor with `total` comes by every number once.
        let near = (total as f64 * 0.618) as u64 + random.below(1 + total / 16);
        let step = (near.max(1)..)
            .find(|step| divisor(*step, total.max(1)) == 1)
            .unwrap_or(1);
        let start = random.below(total);
        Self { total, step, start }
    }

    pub fn at(self, index: u64) -> u64 {
        let place = u128::from(index) * u128::from(self.step) + u128::from(self.start);
        (place % u128::from(self.total)) as u64
    }
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        let mut random = Random::of(1, Kind::Content, 7);
        let mut bytes = [0; 11];
        random.fill(&mut bytes, false);
        assert_eq!(bytes, [190, 73, 160, 208, 186, 44, 41, 5, 54, 156, 14]);
        assert_eq!(id(1, Kind::FileId, 5, 10), "YM6Nk4LBtZkciflm");
    }

    #[test]
    fn kinds_and_rows_share_no_numbers() {
        let numbers: BTreeSet<u64> = [Kind::User, Kind::Token, Kind::Seed]
            .into_iter()
            .flat_map(|kind| (0..100).map(move |index| Random::of(1, kind, index).number()))
            .collect();
        assert_eq!(numbers.len(), 300);
    }

    #[test]
    fn ids_are_ascending_and_distinct() {
        for total in [1, 2, 1000] {
            let ids: Vec<_> = (0..total).map(|n| id(3, Kind::FileId, n, total)).collect();
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(ids.iter().all(|id| id.len() == 16));
        }
    }

    #[test]
    fn a_shuffle_comes_by_every_number_once() {
        for total in [1, 2, 3, 64, 100, 1009] {
            let shuffle = Shuffle::new(total, &mut Random::of(9, Kind::Seed, total));
            let seen: BTreeSet<_> = (0..total).map(|index| shuffle.at(index)).collect();
            assert_eq!(seen.len() as u64, total);
            assert!(seen.iter().all(|place| *place < total));
        }
    }

    #[test]
    fn content_filled_in_steps_is_the_same() {
        for text in [false, true] {
            let mut whole = [0; 100];
            Random::of(1, Kind::Content, 1).fill(&mut whole, text);
            let mut parts = [0; 100];
            let mut random = Random::of(1, Kind::Content, 1);
            for part in parts.chunks_mut(24) {
                random.fill(part, text);
            }
            assert_eq!(whole, parts);
            assert_eq!(text, whole.is_ascii());
        }
    }
}
