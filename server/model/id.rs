//! Random identifiers, in the alphabets that Plik's clients know.

use rand::{Rng, RngExt};

/// Letters of ids, upload tokens and encryption keys.
const ALPHANUMERIC: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Crockford's base 32 in lower case, for upload ids that are read aloud (`UploadIDinB32`).
const CROCKFORD: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The length of a file id, and of an upload id unless `UploadIDLength` says otherwise.
pub const ID_LENGTH: usize = 16;
/// The length of an upload's own token.
pub const UPLOAD_TOKEN_LENGTH: usize = 32;

/// `length` random characters of `a-z A-Z 0-9`.
pub fn alphanumeric(length: usize, rng: &mut impl Rng) -> String {
    pick(ALPHANUMERIC, length, rng)
}

/// `length` random characters of Crockford's base 32, lower case.
pub fn crockford(length: usize, rng: &mut impl Rng) -> String {
    pick(CROCKFORD, length, rng)
}

fn pick(alphabet: &[u8], length: usize, rng: &mut impl Rng) -> String {
    (0..length)
        .map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn ids_have_the_length_and_alphabet_asked_for() {
        let mut rng = StdRng::seed_from_u64(1);
        let id = alphanumeric(1000, &mut rng);
        assert_eq!(id.len(), 1000);
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let id = crockford(1000, &mut rng);
        assert!(id.bytes().all(|byte| CROCKFORD.contains(&byte)));
    }

    #[test]
    fn two_ids_differ() {
        let mut rng = StdRng::seed_from_u64(1);
        assert_ne!(
            alphanumeric(ID_LENGTH, &mut rng),
            alphanumeric(ID_LENGTH, &mut rng)
        );
    }
}
