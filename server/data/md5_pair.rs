//! MD5 of a whole and of one part of it, in the time of one.
//!
//! Each step of MD5 waits for the step before, so a processor has most of its units idle. A second
//! state that takes the same words fills them: a blob and the part in hand are digested together.

/// What every digest begins with.
const FIRST: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
const BLOCK_BYTES: usize = 64;
/// Room for the length of the message, at the end of the last block.
const LENGTH_BYTES: usize = 8;

/// How far a step rotates, by its round and its place in a group of four.
const ROTATIONS: [[u32; 4]; 4] = [
    [7, 12, 17, 22],
    [5, 9, 14, 20],
    [4, 11, 16, 23],
    [6, 10, 15, 21],
];

/// RFC 1321: the integer part of 2^32 times the sine of 1 to 64.
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

type State = [u32; 4];

/// The MD5 of all bytes, and of those since the last [`Md5Pair::take_part`].
pub struct Md5Pair {
    whole: State,
    part: State,
    size_bytes: u64,
    part_bytes: u64,
    /// Bytes that do not fill a block yet.
    rest: Vec<u8>,
}

impl Default for Md5Pair {
    fn default() -> Self {
        Self::new()
    }
}

impl Md5Pair {
    pub fn new() -> Self {
        Self {
            whole: FIRST,
            part: FIRST,
            size_bytes: 0,
            part_bytes: 0,
            rest: Vec::with_capacity(2 * BLOCK_BYTES),
        }
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        self.size_bytes += bytes.len() as u64;
        self.part_bytes += bytes.len() as u64;
        if !self.rest.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.rest.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() < BLOCK_BYTES {
                return;
            }
            let block = std::mem::take(&mut self.rest);
            digest_both(&mut self.whole, &mut self.part, &block);
        }
        let (blocks, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK_BYTES);
        digest_both(&mut self.whole, &mut self.part, blocks);
        self.rest.extend_from_slice(rest);
    }

    /// The MD5 of the part, and another part begins. All parts but the last must be as long as a
    /// number of blocks of 64 bytes.
    pub fn take_part(&mut self) -> [u8; 16] {
        let digest = finished(self.part, self.part_bytes, &self.rest);
        self.part = FIRST;
        self.part_bytes = 0;
        digest
    }

    /// The MD5 of all bytes so far.
    pub fn whole(&self) -> [u8; 16] {
        finished(self.whole, self.size_bytes, &self.rest)
    }
}

/// The digest of a message of which `rest` is not in `state` yet.
fn finished(mut state: State, size_bytes: u64, rest: &[u8]) -> [u8; 16] {
    let mut end = rest.to_vec();
    end.push(0x80);
    let padded = (end.len() + LENGTH_BYTES).next_multiple_of(BLOCK_BYTES);
    end.resize(padded - LENGTH_BYTES, 0);
    end.extend_from_slice(&size_bytes.wrapping_mul(8).to_le_bytes());
    let mut unused = FIRST;
    digest_both(&mut state, &mut unused, &end);
    let mut digest = [0; 16];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

fn digest_both(one: &mut State, other: &mut State, blocks: &[u8]) {
    let (mut a, mut b) = (*one, *other);
    for block in blocks.chunks_exact(BLOCK_BYTES) {
        let mut words = [0; 16];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let (next_a, next_b) = digest_block(a, b, &words);
        (a, b) = (sum(a, next_a), sum(b, next_b));
    }
    (*one, *other) = (a, b);
}

fn sum(a: State, b: State) -> State {
    std::array::from_fn(|n| a[n].wrapping_add(b[n]))
}

/// The four rounds.
#[inline(always)]
fn digest_block(mut a: State, mut b: State, words: &[u32; 16]) -> (State, State) {
    sixteen(|n| {
        let add = words[n].wrapping_add(SINES[n]);
        a = step(a, add, ROTATIONS[0][n % 4], choose);
        b = step(b, add, ROTATIONS[0][n % 4], choose);
    });
    sixteen(|n| {
        let add = words[(5 * n + 1) % 16].wrapping_add(SINES[16 + n]);
        a = step(a, add, ROTATIONS[1][n % 4], choose_other);
        b = step(b, add, ROTATIONS[1][n % 4], choose_other);
    });
    sixteen(|n| {
        let add = words[(3 * n + 5) % 16].wrapping_add(SINES[32 + n]);
        a = step(a, add, ROTATIONS[2][n % 4], parity);
        b = step(b, add, ROTATIONS[2][n % 4], parity);
    });
    sixteen(|n| {
        let add = words[(7 * n) % 16].wrapping_add(SINES[48 + n]);
        a = step(a, add, ROTATIONS[3][n % 4], odd);
        b = step(b, add, ROTATIONS[3][n % 4], odd);
    });
    (a, b)
}

/// A loop that is unrolled for certain: only with constant numbers do the words of a state stay in
/// registers, which doubles the speed.
#[inline(always)]
fn sixteen(mut step: impl FnMut(usize)) {
    step(0);
    step(1);
    step(2);
    step(3);
    step(4);
    step(5);
    step(6);
    step(7);
    step(8);
    step(9);
    step(10);
    step(11);
    step(12);
    step(13);
    step(14);
    step(15);
}

#[inline(always)]
fn step(s: State, add: u32, rotation: u32, mix: impl Fn(u32, State) -> u32) -> State {
    let mixed = mix(s[0].wrapping_add(add), s);
    let new = s[1].wrapping_add(mixed.rotate_left(rotation));
    [s[3], new, s[1], s[2]]
}

#[inline(always)]
fn choose(t: u32, [_, x, y, z]: State) -> u32 {
    t.wrapping_add(z ^ (x & (y ^ z)))
}

/// As a sum of two, which need not wait for each other, in place of `or`: no bit is in both.
#[inline(always)]
fn choose_other(t: u32, [_, x, y, z]: State) -> u32 {
    t.wrapping_add(y & !z).wrapping_add(x & z)
}

#[inline(always)]
fn parity(t: u32, [_, x, y, z]: State) -> u32 {
    t.wrapping_add(x ^ y ^ z)
}

#[inline(always)]
fn odd(t: u32, [_, x, y, z]: State) -> u32 {
    t.wrapping_add(y ^ (x | !z))
}

#[cfg(test)]
mod tests {
    use md5::{Digest, Md5};

    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n * 7 + n / 251) as u8).collect()
    }

    fn md5(bytes: &[u8]) -> [u8; 16] {
        Md5::digest(bytes).into()
    }

    #[test]
    fn both_digests_are_those_of_md5_at_every_length() {
        for length in 0..300 {
            let content = bytes(length);
            let mut pair = Md5Pair::new();
            pair.update(&content);
            assert_eq!(pair.take_part(), md5(&content), "{length}");
            assert_eq!(pair.whole(), md5(&content), "{length}");
        }
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_come() {
        let content = bytes(10_000);
        for piece in [1, 3, 63, 64, 65, 127, 1000] {
            let mut pair = Md5Pair::new();
            content.chunks(piece).for_each(|piece| pair.update(piece));
            assert_eq!(pair.whole(), md5(&content), "{piece}");
        }
    }

    #[test]
    fn every_part_has_its_own_digest() {
        let content = bytes(10 * 640 + 17);
        let mut pair = Md5Pair::new();
        for part in content.chunks(640) {
            pair.update(&part[..100.min(part.len())]);
            pair.update(&part[100.min(part.len())..]);
            assert_eq!(pair.take_part(), md5(part));
        }
        assert_eq!(pair.whole(), md5(&content));
    }
}
