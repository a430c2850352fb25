//! Pseudorandom ring elements from seeds.
//!
//! A [`Stream`] is AES-128 in counter mode under a key that BLAKE3, keyed with the 32-byte seed, derives from a
//! [`Domain`]. Different domains of a seed are independent streams; a stream is read at any position, so its elements do
//! not depend on how a reader splits its requests. An element of up to 8, 16, 32 or 64 bits takes 1, 2, 4 or 8 bytes of
//! the stream, little-endian, of which the low `width` bits are kept: narrow elements cost less.

use crate::aes128::Aes128;
use crate::cpu::Cpu;
use crate::ring::mask;
use rayon::prelude::*;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Blocks that are encrypted at once by [`Stream::fill_blocks`].
const BATCH: usize = 64;

/// Elements of a parallel task.
const TASK: usize = 1 << 15;

/// A secret from which streams are derived. No `Debug`, and wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

/// What a stream is for. Two uses of one seed never share a domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Domain {
    /// Step of the session.
    pub step: u32,
    /// Entry point of the program.
    pub entry: u32,
    /// Instruction or weight; `kind` tells which.
    pub index: u32,
    /// What the elements are.
    pub kind: u8,
}

impl Seed {
    /// A seed of these bytes.
    pub fn new(bytes: [u8; 32]) -> Seed {
        Seed(bytes)
    }

    /// A fresh seed from the operating system.
    pub fn random() -> Result<Seed, getrandom::Error> {
        let mut seed = Seed([0; 32]);
        getrandom::fill(&mut seed.0)?;
        Ok(seed)
    }

    /// The bytes, to be sent over an encrypted link or kept.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The stream of a domain.
    pub fn stream(&self, domain: Domain) -> Stream {
        let mut label = [0; 13];
        label[..4].copy_from_slice(&domain.step.to_le_bytes());
        label[4..8].copy_from_slice(&domain.entry.to_le_bytes());
        label[8..12].copy_from_slice(&domain.index.to_le_bytes());
        label[12] = domain.kind;
        let mut key: [u8; 32] = blake3::keyed_hash(&self.0, &label).into();
        let (head, _) = key.split_first_chunk().expect("more than a block");
        let cipher = Aes128::new(Cpu::get(), head);
        key.zeroize();
        Stream(cipher)
    }
}

/// An endless sequence of pseudorandom bits with random access. Wiped when dropped.
pub struct Stream(Aes128);

impl Stream {
    /// Elements `first ..` of the stream read as elements of `width` bits, as many as `out` has.
    pub fn fill(&self, first: u64, width: u8, out: &mut [u64]) {
        assert!((1..=64).contains(&width), "a width is 1 to 64 bits, not {width}");
        spread(out, |(i, out): (usize, &mut [u64])| {
            let first = first + (i * TASK) as u64;
            let low = mask(width);
            match element_bytes(width) {
                1 => self.0.elements::<1>(first, low, out),
                2 => self.0.elements::<2>(first, low, out),
                4 => self.0.elements::<4>(first, low, out),
                _ => self.0.elements::<8>(first, low, out),
            }
        });
    }

    /// The bytes of the stream from block `first` on: every element of `width` bits takes [`element_bytes`] of them.
    pub fn fill_bytes(&self, first: u64, out: &mut [[u8; 16]]) {
        self.0.counter(first.into(), out);
    }

    /// Blocks `first ..` of the stream, as little-endian integers. They overlap with its elements: a domain is read
    /// either by blocks or by elements.
    pub fn fill_blocks(&self, first: u64, out: &mut [u128]) {
        spread(out, |(i, out): (usize, &mut [u128])| {
            let mut next = u128::from(first) + (i * TASK) as u128;
            let mut buffer = [[0; 16]; BATCH];
            for out in out.chunks_mut(BATCH) {
                let blocks = &mut buffer[..out.len()];
                self.0.counter(next, blocks);
                out.iter_mut().zip(&*blocks).for_each(|(out, block)| *out = u128::from_le_bytes(*block));
                next += BATCH as u128;
            }
            buffer.zeroize();
        });
    }
}

/// Bytes of a stream that an element of `width` bits takes.
pub const fn element_bytes(width: u8) -> usize {
    (width as usize).div_ceil(8).next_power_of_two()
}

/// Runs `f` on numbered chunks of [`TASK`] elements, in parallel if there is more than one.
fn spread<T: Send>(out: &mut [T], f: impl Fn((usize, &mut [T])) + Send + Sync) {
    if out.len() <= TASK {
        f((0, out));
    } else {
        out.par_chunks_mut(TASK).enumerate().for_each(f);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: Domain = Domain { step: 4, entry: 1, index: 2, kind: 3 };

    fn seed() -> Seed {
        Seed(std::array::from_fn(|i| i as u8))
    }

    fn elements(stream: &Stream, first: u64, width: u8, count: usize) -> Vec<u64> {
        let mut out = vec![0; count];
        stream.fill(first, width, &mut out);
        out
    }

    #[test]
    fn known_answers() {
        // Made by this code; a change of these values is a change of the protocol.
        let stream = seed().stream(DOMAIN);
        assert_eq!(elements(&stream, 0, 64, 2), KNOWN_64);
        assert_eq!(elements(&stream, 1000, 10, 4), KNOWN_10);
    }

    const KNOWN_64: [u64; 2] = [12166346353179403445, 2563741180826785037];
    const KNOWN_10: [u64; 4] = [681, 246, 502, 970];

    #[test]
    fn elements_do_not_depend_on_the_request() {
        let stream = seed().stream(DOMAIN);
        for width in [1, 8, 9, 16, 17, 32, 33, 64] {
            let all = elements(&stream, 0, width, 2 * TASK + 100);
            assert!(all.iter().all(|x| x & !mask(width) == 0));
            for (first, count) in [(0, 1), (1, 1), (3, 30), (15, 5000), (TASK - 1, 3), (TASK + 7, TASK + 1)] {
                let part = elements(&stream, first as u64, width, count);
                assert!(part == all[first..first + count], "width {width}, {count} elements from {first}");
            }
        }
        // The width only masks: elements of one size are the same bytes.
        let (wide, narrow) = (elements(&stream, 5, 32, 100), elements(&stream, 5, 20, 100));
        assert!(wide.iter().zip(&narrow).all(|(w, n)| w & mask(20) == *n));
        // Blocks are the same stream.
        let mut blocks = [0; 3];
        stream.fill_blocks(7, &mut blocks);
        let words = elements(&stream, 14, 64, 6);
        for i in 0..3 {
            assert_eq!(blocks[i], u128::from(words[2 * i + 1]) << 64 | u128::from(words[2 * i]));
        }
    }

    #[test]
    fn domains_and_seeds_are_separate() {
        let mut heads = Vec::new();
        for seed in [seed(), Seed([0; 32])] {
            for step in [0, 1, 256] {
                for entry in [0, 1, 256] {
                    for index in [0, 1, 256] {
                        for kind in [0, 1, 255] {
                            heads.push(elements(&seed.stream(Domain { step, entry, index, kind }), 0, 64, 2));
                        }
                    }
                }
            }
        }
        heads.sort();
        heads.dedup();
        assert_eq!(heads.len(), 162);
        assert!(Seed::random().unwrap().0 != Seed::random().unwrap().0);
    }

    #[test]
    fn elements_look_uniform() {
        let stream = seed().stream(DOMAIN);
        for (width, shift) in [(8, 0), (10, 2), (64, 56), (33, 0)] {
            let mut counts = [0u32; 256];
            elements(&stream, 0, width, 256 * 400).iter().for_each(|x| counts[(x >> shift & 255) as usize] += 1);
            let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 400.0).powi(2) / 400.0).sum();
            // 255 degrees of freedom: mean 255, standard deviation 22.6.
            assert!((142.0..368.0).contains(&chi), "chi-square {chi} at width {width}");
        }
    }
}
