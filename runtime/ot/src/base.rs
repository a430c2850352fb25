//! Base transfers: random oblivious transfers by public keys, in one exchange.
//!
//! The protocol of Masny and Rindal, "Endemic Oblivious Transfer" (CCS 2019), from Diffie-Hellman key agreement over
//! ristretto255. With G the generator and H_0, H_1 hashes into the group,
//!
//! ```text
//! receiver, choice b   R_{1-b} uniform,  R_b = a·G - H_b(R_{1-b})          sends R_0, R_1
//! sender               s uniform                                           sends S = s·G
//! sender               k_j = KDF(s·(R_j + H_j(R_{1-j})))                   both keys
//! receiver             k_b = KDF(a·S)
//! ```
//!
//! Neither message depends on the other, so both go at once. Every transfer has scalars of its own. Hashes take the
//! session and the number of the transfer, the KDF the whole transcript of the transfer too. Assumed: computational
//! Diffie-Hellman in ristretto255 and that BLAKE3 behaves as a random oracle. The paper proves the protocol against
//! active parties, with a party that deviates free to choose its own keys; what is built on it here is semi-honest.

use crate::error::{Error, check_length};
use crate::kind;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use kernels::prg::{Domain, Seed};
use subtle::{Choice, ConditionallySelectable};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a point.
const POINT: usize = 32;

/// Bytes that a sender sends for each transfer.
pub const SENDER_BYTES: usize = POINT;

/// Bytes that a receiver sends for each transfer.
pub const RECEIVER_BYTES: usize = 2 * POINT;

/// 64 bytes a transfer from a stream of the seed, wiped when dropped.
fn uniform(seed: &Seed, kind: u8, count: usize) -> Zeroizing<Vec<[u8; 16]>> {
    let mut blocks = Zeroizing::new(vec![[0; 16]; 4 * count]);
    seed.stream(Domain { step: 0, entry: 0, index: 0, kind }).fill_bytes(0, &mut blocks);
    blocks
}

/// Uniform scalars from 64 bytes each.
fn scalars(seed: &Seed, kind: u8, count: usize) -> Zeroizing<Vec<Scalar>> {
    let blocks = uniform(seed, kind, count);
    let wide = blocks.as_flattened().as_chunks::<64>().0.iter();
    Zeroizing::new(wide.map(Scalar::from_bytes_mod_order_wide).collect())
}

/// H_j of the point of the other choice, for the transfer of this number.
fn to_group(session: &[u8; 32], index: usize, choice: u8, point: &[u8; POINT]) -> RistrettoPoint {
    let mut hasher = blake3::Hasher::new_derive_key("ssvm base transfer, hash to the group, 1");
    hasher.update(session).update(&(index as u64).to_le_bytes()).update(&[choice]).update(point);
    let mut bytes = [0; 64];
    hasher.finalize_xof().fill(&mut bytes);
    RistrettoPoint::from_uniform_bytes(&bytes)
}

/// The key of a choice.
fn key(session: &[u8; 32], index: usize, choice: u8, transcript: [&[u8; POINT]; 3], secret: RistrettoPoint) -> Seed {
    let mut hasher = blake3::Hasher::new_derive_key("ssvm base transfer, key, 1");
    hasher.update(session).update(&(index as u64).to_le_bytes()).update(&[choice]);
    transcript.iter().for_each(|point| _ = hasher.update(*point));
    let secret = Zeroizing::new(secret.compress().to_bytes());
    hasher.update(&*secret);
    let mut bytes: [u8; 32] = hasher.finalize().into();
    hasher.zeroize();
    let key = Seed::new(bytes);
    bytes.zeroize();
    key
}

/// The points of a peer's message.
fn points(bytes: &[u8]) -> Result<Vec<(RistrettoPoint, &[u8; POINT])>, Error> {
    let parse = |(index, bytes): (usize, &'_ [u8; POINT])| {
        let point = CompressedRistretto(*bytes).decompress().filter(|point| !point.is_identity());
        point.ok_or(Error::Point { index })
    };
    let points = bytes.as_chunks::<POINT>().0;
    points.iter().enumerate().map(|(index, bytes)| Ok((parse((index, bytes))?, bytes))).collect()
}

/// The end that gets both keys of every transfer, after its message was made.
pub struct Sender {
    session: [u8; 32],
    secrets: Zeroizing<Vec<Scalar>>,
    message: Vec<u8>,
}

impl Sender {
    /// For `count` transfers of a session, whose name no other run has; and its message. Randomness comes from the seed,
    /// which must be fresh.
    pub fn new(session: [u8; 32], count: usize, seed: &Seed) -> (Sender, Vec<u8>) {
        let secrets = scalars(seed, kind::BASE_SENDER, count);
        let points = secrets.iter().map(|s| RistrettoPoint::mul_base(s).compress().to_bytes());
        let message: Vec<u8> = points.flatten().collect();
        (Sender { session, secrets, message: message.clone() }, message)
    }

    /// Both keys of every transfer, from the receiver's message.
    pub fn keys(self, theirs: &[u8]) -> Result<Vec<[Seed; 2]>, Error> {
        check_length(theirs, RECEIVER_BYTES * self.secrets.len())?;
        let points = points(theirs)?;
        let own = self.message.as_chunks::<POINT>().0;
        let transfers = self.secrets.iter().zip(points.as_chunks::<2>().0).zip(own).enumerate();
        Ok(transfers
            .map(|(i, ((secret, [(r0, b0), (r1, b1)]), own))| {
                let derive = |choice, r: &RistrettoPoint, other: &[u8; POINT]| {
                    let shared = secret * (r + to_group(&self.session, i, choice, other));
                    key(&self.session, i, choice, [*b0, *b1, own], shared)
                };
                [derive(0, r0, b1), derive(1, r1, b0)]
            })
            .collect())
    }
}

/// The end that gets the keys of its choices, after its message was made.
pub struct Receiver {
    session: [u8; 32],
    secrets: Zeroizing<Vec<Scalar>>,
    choices: Zeroizing<Vec<u8>>,
    message: Vec<u8>,
}

impl Receiver {
    /// For transfers with these choices, each 0 or 1; and its message. See [`Sender::new`].
    pub fn new(session: [u8; 32], choices: Vec<u8>, seed: &Seed) -> (Receiver, Vec<u8>) {
        let choices = Zeroizing::new(choices);
        let secrets = scalars(seed, kind::BASE_RECEIVER, choices.len());
        let others = uniform(seed, kind::BASE_OTHER, choices.len());
        let mut message = Vec::with_capacity(RECEIVER_BYTES * choices.len());
        let each = choices.iter().zip(secrets.iter()).zip(others.as_flattened().as_chunks::<64>().0).enumerate();
        for (i, ((&choice, secret), other)) in each {
            assert!(choice <= 1, "a choice is 0 or 1");
            let other = RistrettoPoint::from_uniform_bytes(other);
            let hashed = to_group(&session, i, choice, &other.compress().to_bytes());
            let chosen = RistrettoPoint::mul_base(secret) - hashed;
            let bit = Choice::from(choice);
            for point in [
                RistrettoPoint::conditional_select(&chosen, &other, bit),
                RistrettoPoint::conditional_select(&other, &chosen, bit),
            ] {
                message.extend(point.compress().to_bytes());
            }
        }
        (Receiver { session, secrets, choices, message: message.clone() }, message)
    }

    /// The keys of the choices, from the sender's message.
    pub fn keys(self, theirs: &[u8]) -> Result<Vec<Seed>, Error> {
        check_length(theirs, SENDER_BYTES * self.secrets.len())?;
        let own = self.message.as_chunks::<POINT>().0.as_chunks::<2>().0;
        let each = points(theirs)?.into_iter().zip(self.secrets.iter()).zip(own).zip(self.choices.iter()).enumerate();
        Ok(each
            .map(|(i, ((((point, bytes), secret), [b0, b1]), &choice))| {
                key(&self.session, i, choice, [b0, b1, bytes], secret * point)
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: [u8; 32] = [9; 32];

    fn seeds() -> [Seed; 2] {
        [1, 2].map(|byte| Seed::new([byte; 32]))
    }

    #[test]
    fn the_chosen_key_and_only_it() {
        for count in [0, 1, 3, 128] {
            let choices: Vec<u8> = (0..count).map(|i| (i * i / 3 % 2) as u8).collect();
            let [a, b] = seeds();
            let (sender, from_sender) = Sender::new(SESSION, count, &a);
            let (receiver, from_receiver) = Receiver::new(SESSION, choices.clone(), &b);
            assert_eq!((from_sender.len(), from_receiver.len()), (SENDER_BYTES * count, RECEIVER_BYTES * count));
            let both = sender.keys(&from_receiver).unwrap();
            let chosen = receiver.keys(&from_sender).unwrap();
            let mut all: Vec<[u8; 32]> = both.iter().flatten().map(|key| *key.expose()).collect();
            for ((both, chosen), choice) in both.iter().zip(&chosen).zip(choices) {
                assert!(both[usize::from(choice)].expose() == chosen.expose());
            }
            all.sort();
            all.dedup();
            assert_eq!(all.len(), 2 * count, "keys differ");
        }
    }

    #[test]
    fn sessions_differ() {
        let [a, b] = seeds();
        let (sender, from_sender) = Sender::new(SESSION, 1, &a);
        let (_, from_receiver) = Receiver::new(SESSION, vec![0], &b);
        let (other, _) = Receiver::new([8; 32], vec![0], &b);
        let (both, chosen) = (sender.keys(&from_receiver).unwrap(), other.keys(&from_sender).unwrap());
        assert!(both[0][0].expose() != chosen[0].expose());
    }

    #[test]
    fn bad_messages_are_errors() {
        let [a, b] = seeds();
        let sender = || Sender::new(SESSION, 2, &a);
        let receiver = || Receiver::new(SESSION, vec![1, 0], &b);
        let (good_sender, good_receiver) = (sender().1, receiver().1);
        for length in [0, 1, 63, 65, 127, 130] {
            assert!(matches!(sender().0.keys(&vec![0; length]), Err(Error::Length { expected: 128, .. })));
            assert!(matches!(receiver().0.keys(&vec![0; length / 2]), Err(Error::Length { expected: 64, .. })));
        }
        // The neutral point, an encoding that is not canonical, and one that is none.
        for bad in [[0; 32], [0xff; 32], [1; 32]] {
            let mut message = good_receiver.clone();
            message[64..96].copy_from_slice(&bad);
            assert!(matches!(sender().0.keys(&message), Err(Error::Point { index: 2 })));
            let mut message = good_sender.clone();
            message[32..].copy_from_slice(&bad);
            assert!(matches!(receiver().0.keys(&message), Err(Error::Point { index: 1 })));
        }
    }

    /// A message that another run made in part gives keys that the receiver has not.
    #[test]
    fn a_changed_message_changes_the_key() {
        let [a, b] = seeds();
        let (sender, from_sender) = Sender::new(SESSION, 1, &a);
        let (receiver, from_receiver) = Receiver::new(SESSION, vec![1], &b);
        let (_, other) = Receiver::new(SESSION, vec![1], &a);
        let mixed = [&other[..32], &from_receiver[32..]].concat();
        let both = sender.keys(&mixed).unwrap();
        let chosen = receiver.keys(&from_sender).unwrap();
        assert!(both.iter().flatten().all(|key| key.expose() != chosen[0].expose()));
    }
}
