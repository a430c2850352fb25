//! Encryption of what is kept: stocks and masked weights.
//!
//! Storage key  of an identity, derived from its secret key (`identity`); without an identity a file in the state directory.
//! Witness      32 random bytes that the other party holds back. What is sealed under storage key *and* witness can be read by
//!              neither party alone, so a half of a stock that comes back from a backup is of no use without the other side,
//!              which gives a witness once.
//! Cipher       AES-256-GCM under a key of its own for every piece that is written: BLAKE3 of the storage key, the witness and a random salt that
//!              stands with the piece. So a nonce, the number of the chunk, is never used twice under a key, also where
//!              a stock is cut off and grown anew.
//! Chunks       of 64 KiB, one after another, and behind the last their tags, so that plain bytes lie in one piece when they were opened in
//!              place. Associated data are session, part, step and the chunk's number; lengths come from what is sealed itself.

use std::sync::Arc;

use rayon::prelude::*;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use zeroize::{Zeroize, Zeroizing};

/// Plain bytes of a chunk, but for the last.
pub const CHUNK: usize = 1 << 16;

/// Bytes of a tag.
pub const TAG: usize = 16;

/// Bytes of a salt.
pub const SALT: usize = 16;

/// Tells a piece's key from all others.
pub type Salt = [u8; SALT];

/// Chunks that are worth opening in more than one thread.
const MANY: usize = 16;

/// The key that all is sealed under which a user keeps.
#[derive(Clone)]
pub struct StorageKey(Arc<Zeroizing<[u8; 32]>>);

/// What the other party holds back.
#[derive(Clone)]
pub struct Witness(Zeroizing<[u8; 32]>);

impl Witness {
    /// A fresh one.
    pub fn random() -> Result<Witness, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes)?;
        Ok(Witness(bytes))
    }

    /// From its bytes.
    pub fn new(bytes: [u8; 32]) -> Witness {
        Witness(Zeroizing::new(bytes))
    }

    /// Its bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Bytes that are not what was sealed, or were sealed under another key.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
#[error("it changed on disk, or was kept under another key")]
pub struct Changed;

impl StorageKey {
    /// From bytes that are secret and uniform.
    pub fn new(bytes: [u8; 32]) -> StorageKey {
        StorageKey(Arc::new(Zeroizing::new(bytes)))
    }

    /// The key of what needs the witness, too.
    pub fn with(&self, witness: &Witness) -> StorageKey {
        let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 what is kept with a witness");
        hasher.update(&**self.0).update(witness.expose());
        StorageKey::new(*hasher.finalize().as_bytes())
    }

    /// The cipher of a piece.
    pub fn cipher(&self, salt: &Salt) -> Cipher {
        let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 a piece of what is kept");
        let mut key: [u8; 32] = hasher.update(&**self.0).update(salt).finalize().into();
        let cipher = UnboundKey::new(&AES_256_GCM, &key).expect("a key of 32 bytes");
        key.zeroize();
        Cipher(LessSafeKey::new(cipher))
    }

    /// Seals a few bytes: salt, ciphertext, tag. `what` tells them from others.
    pub fn seal(&self, what: &[u8], plain: &[u8]) -> Result<Vec<u8>, getrandom::Error> {
        let salt = salt()?;
        let mut bytes = [&salt[..], plain].concat();
        let tag = self.cipher(&salt).seal(&mut bytes[SALT..], what, 0);
        bytes.extend(tag);
        Ok(bytes)
    }

    /// What was sealed so.
    pub fn open(&self, what: &[u8], bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Changed> {
        let (salt, sealed) = bytes.split_first_chunk::<SALT>().ok_or(Changed)?;
        let (sealed, tag) = sealed.split_last_chunk::<TAG>().ok_or(Changed)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        self.cipher(salt).open_chunk(&mut plain, what, 0, tag)?;
        Ok(plain)
    }
}

/// A salt for a new piece.
pub fn salt() -> Result<Salt, getrandom::Error> {
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt)?;
    Ok(salt)
}

/// Of one piece, which it seals once.
pub struct Cipher(LessSafeKey);

impl Cipher {
    /// Seals the chunk of a number in place.
    pub fn seal(&self, chunk: &mut [u8], what: &[u8], number: u32) -> [u8; TAG] {
        let sealed = self.0.seal_in_place_separate_tag(nonce(number), associated(what, number), chunk);
        sealed.expect("a chunk is short").as_ref().try_into().expect("a tag of 16 bytes")
    }

    fn open_chunk(&self, chunk: &mut [u8], what: &[u8], number: u32, tag: &[u8; TAG]) -> Result<(), Changed> {
        let opened =
            self.0.open_in_place_separate_tag(nonce(number), associated(what, number), Tag::from(*tag), chunk, 0..);
        opened.map(drop).map_err(|_| Changed)
    }

    /// Opens all chunks of a piece in place, of which these are the tags.
    pub fn open(&self, bytes: &mut [u8], what: &[u8], tags: &[u8]) -> Result<(), Changed> {
        let (tags, rest) = tags.as_chunks::<TAG>();
        if !rest.is_empty() || tags.len() != bytes.len().div_ceil(CHUNK) {
            return Err(Changed);
        }
        let open = |((chunk, tag), number): ((&mut [u8], &[u8; TAG]), usize)| {
            self.open_chunk(chunk, what, u32::try_from(number).map_err(|_| Changed)?, tag)
        };
        match tags.len() {
            n if n < MANY => bytes.chunks_mut(CHUNK).zip(tags).zip(0..).try_for_each(open),
            _ => bytes.par_chunks_mut(CHUNK).zip(tags).zip(0..tags.len()).try_for_each(open),
        }
    }
}

/// Bytes of the tags of a piece of so many bytes.
pub fn tags(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK as u64) * TAG as u64
}

fn nonce(number: u32) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn associated(what: &[u8], number: u32) -> Aad<Vec<u8>> {
    Aad::from([what, &number.to_le_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_open_with_their_key_and_place_alone() {
        let key = StorageKey::new([1; 32]);
        let sealed = key.seal(b"place", b"secret").unwrap();
        assert_eq!(&key.open(b"place", &sealed).unwrap()[..], b"secret");
        assert!(!sealed.windows(6).any(|bytes| bytes == b"secret"));
        assert_ne!(sealed, key.seal(b"place", b"secret").unwrap());
        assert!(key.open(b"other", &sealed).is_err());
        let witness = Witness::new([2; 32]);
        assert!(key.with(&witness).open(b"place", &sealed).is_err());
        assert!(StorageKey::new([3; 32]).open(b"place", &sealed).is_err());
        for bit in 0..8 * sealed.len() {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open(b"place", &changed).is_err(), "bit {bit}");
        }
        assert!((0..sealed.len()).all(|length| key.open(b"place", &sealed[..length]).is_err()));
    }

    #[test]
    fn chunks_keep_their_order() {
        let cipher = StorageKey::new([1; 32]).cipher(&[7; SALT]);
        for length in [0, 1, CHUNK, CHUNK + 1, MANY * CHUNK + 5] {
            let plain: Vec<u8> = (0..length).map(|i| (i / 7) as u8).collect();
            let (mut bytes, mut all) = (plain.clone(), Vec::new());
            for (chunk, number) in bytes.chunks_mut(CHUNK).zip(0..) {
                all.extend(cipher.seal(chunk, b"x", number));
            }
            assert_eq!(all.len() as u64, tags(length as u64));
            let sealed = bytes.clone();
            cipher.open(&mut bytes, b"x", &all).unwrap();
            assert!(bytes == plain);
            if length > CHUNK + 1 {
                let mut swapped = sealed.clone();
                swapped[..2 * CHUNK].rotate_left(CHUNK);
                all[..2 * TAG].rotate_left(TAG);
                assert_eq!(cipher.open(&mut swapped, b"x", &all), Err(Changed));
            }
            assert_eq!(
                cipher.open(&mut sealed.clone(), b"x", &all[..all.len().saturating_sub(1)]).is_ok(),
                length == 0
            );
        }
    }
}
