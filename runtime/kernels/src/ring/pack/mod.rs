//! Bit packing: `count` elements of `width` bits as ceil(count·width/8) bytes, without gaps.
//!
//! Bit j of element i is bit i·width + j of the stream; bit b of the stream is bit b mod 8 of byte b / 8. Unused bits of
//! the last byte are zero when packed and ignored when unpacked. Where the CPU permutes bytes, [`vbmi`] does it all.
//! Elsewhere, sixty-four elements fill exactly `width` 64-bit words, so whole blocks of 64 go through code that is unrolled
//! for the width, with every shift a constant.

#[cfg(target_arch = "x86_64")]
pub(super) mod vbmi;

use super::{Buffer, mask};
use crate::cpu::Cpu;
use rayon::prelude::*;

/// Elements of a block.
const BLOCK: usize = 64;

/// Elements that one parallel task packs, a multiple of [`BLOCK`].
const TASK: usize = 1 << 15;

/// Bytes of `count` packed elements.
pub fn packed_len(count: usize, width: u8) -> usize {
    (count as u128 * u128::from(width)).div_ceil(8).try_into().expect("a packed vector fits in memory")
}

/// Appends the low `width` bits of each element to `out`. Panics unless 1 <= `width` <= 64.
pub fn pack(elements: &[u64], width: u8, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + packed_len(elements.len(), width), 0);
    pack_into(elements, width, &mut out[start..]);
}

/// As [`pack`], into `out` of exactly [`packed_len`] bytes.
pub fn pack_into(elements: &[u64], width: u8, out: &mut [u8]) {
    check_width(width);
    assert_eq!(out.len(), packed_len(elements.len(), width), "length of the packed bytes");
    if elements.len() <= TASK {
        return pack_serial(Cpu::get(), elements, width, out);
    }
    let bytes = TASK / 8 * usize::from(width);
    out.par_chunks_mut(bytes)
        .zip(elements.par_chunks(TASK))
        .for_each(|(out, x)| pack_serial(Cpu::get(), x, width, out));
}

/// The `count` elements packed in `bytes`. Panics unless 1 <= `width` <= 64 and `bytes` has exactly [`packed_len`]
/// bytes: callers check what they receive.
pub fn unpack(bytes: &[u8], width: u8, count: usize) -> Buffer {
    let mut out = Buffer::unset(count);
    assert_eq!(bytes.len(), packed_len(count, width), "length of the packed bytes");
    unpack_range(bytes, width, 0, &mut out);
    out
}

/// Elements `first ..` of a packed vector, as many as `out` has. Panics where `bytes` ends before them.
pub fn unpack_range(bytes: &[u8], width: u8, first: usize, out: &mut [u64]) {
    check_width(width);
    assert!(bytes.len() >= packed_len(first + out.len(), width), "a packed vector ends too early");
    if out.len() <= TASK {
        return unpack_serial(Cpu::get(), bytes, width, first, out);
    }
    out.par_chunks_mut(TASK)
        .enumerate()
        .for_each(|(i, out)| unpack_serial(Cpu::get(), bytes, width, first + i * TASK, out));
}

/// A packed vector in memory, for products.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    bytes: &'a [u8],
    width: u8,
}

impl<'a> Packed<'a> {
    /// The elements of `width` bits that are packed in `bytes`. Panics unless 1 <= `width` <= 64.
    pub fn new(bytes: &'a [u8], width: u8) -> Packed<'a> {
        check_width(width);
        Packed { bytes, width }
    }

    /// Bits of an element.
    pub fn width(self) -> u8 {
        self.width
    }

    /// The bytes from an element on, and the bit of the first at which it begins.
    pub(super) fn from(self, first: usize) -> (&'a [u8], usize) {
        let bit = first * usize::from(self.width);
        (&self.bytes[bit / 8..], bit % 8)
    }

    /// Elements from `first` on, as [`unpack_range`].
    pub fn unpack(self, first: usize, out: &mut [u64]) {
        unpack_range(self.bytes, self.width, first, out);
    }
}

fn check_width(width: u8) {
    assert!((1..=64).contains(&width), "a width is 1 to 64 bits, not {width}");
}

/// One element, from at most nine bytes.
fn unpack_one(bytes: &[u8], width: u8, index: usize) -> u64 {
    let bit = index * usize::from(width);
    let from = bit / 8;
    let to = (bit + usize::from(width)).div_ceil(8);
    let mut word = [0; 16];
    word[..to - from].copy_from_slice(&bytes[from..to]);
    (u128::from_le_bytes(word) >> (bit % 8)) as u64 & mask(width)
}

fn pack_serial(cpu: Cpu, elements: &[u64], width: u8, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if cpu.level() == crate::cpu::Level::Icelake {
        // SAFETY: a `Cpu` of this level exists only if the features were detected.
        #[allow(unsafe_code)]
        return unsafe { vbmi::pack(elements, width, out) };
    }
    let kernel = PACK[usize::from(width) - 1];
    let (blocks, rest) = elements.as_chunks::<BLOCK>();
    let (whole, last) = out.split_at_mut(blocks.len() * BLOCK / 8 * usize::from(width));
    kernel(blocks, whole);
    if !rest.is_empty() {
        let (mut block, mut bytes) = ([0; BLOCK], [0; 8 * BLOCK]);
        block[..rest.len()].copy_from_slice(rest);
        kernel(&[block], &mut bytes[..BLOCK / 8 * usize::from(width)]);
        last.copy_from_slice(&bytes[..last.len()]);
    }
}

fn unpack_serial(cpu: Cpu, bytes: &[u8], width: u8, first: usize, out: &mut [u64]) {
    #[cfg(target_arch = "x86_64")]
    if cpu.level() == crate::cpu::Level::Icelake {
        // SAFETY: a `Cpu` of this level exists only if the features were detected.
        #[allow(unsafe_code)]
        return unsafe { vbmi::unpack(bytes, width, first, out) };
    }
    // Eight elements end on a byte.
    let single = (first.wrapping_neg() % 8).min(out.len());
    let (head, body) = out.split_at_mut(single);
    for (i, x) in head.iter_mut().enumerate() {
        *x = unpack_one(bytes, width, first + i);
    }
    let bytes = &bytes[packed_len(first + single, width).min(bytes.len())..];
    let kernel = UNPACK[usize::from(width) - 1];
    let (blocks, rest) = body.as_chunks_mut::<BLOCK>();
    let (whole, last) = bytes.split_at(blocks.len() * BLOCK / 8 * usize::from(width));
    kernel(whole, blocks);
    if !rest.is_empty() {
        let (mut block, mut padded) = ([[0; BLOCK]], [0; 8 * BLOCK]);
        let length = packed_len(rest.len(), width);
        padded[..length].copy_from_slice(&last[..length]);
        kernel(&padded[..BLOCK / 8 * usize::from(width)], &mut block);
        rest.copy_from_slice(&block[0][..rest.len()]);
    }
}

/// Runs `$step!(i)` for i = 0 .. 64 as separate statements, so that everything that depends on i is a constant.
macro_rules! unrolled {
    ($step:ident) => {
        unrolled!(@ $step 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34
            35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63)
    };
    (@ $step:ident $($i:literal)*) => { $( $step!($i); )* };
}

fn pack_blocks<const W: usize>(blocks: &[[u64; BLOCK]], out: &mut [u8]) {
    let low = mask(W as u8);
    for (block, out) in blocks.iter().zip(out.chunks_exact_mut(8 * W)) {
        let mut word = 0;
        // Element i goes to word i·W / 64; a word is written when its last bit is in.
        macro_rules! step {
            ($i:literal) => {
                let (at, shift, x) = ($i * W / 64, $i * W % 64, block[$i] & low);
                word |= x << shift;
                if shift + W >= 64 {
                    out[8 * at..8 * at + 8].copy_from_slice(&word.to_le_bytes());
                    word = if shift + W > 64 { x >> ((64 - shift) % 64) } else { 0 };
                }
            };
        }
        unrolled!(step);
        debug_assert_eq!(word, 0);
    }
}

fn unpack_blocks<const W: usize>(bytes: &[u8], blocks: &mut [[u64; BLOCK]]) {
    let low = mask(W as u8);
    for (block, bytes) in blocks.iter_mut().zip(bytes.chunks_exact(8 * W)) {
        let word = |at: usize| u64::from_le_bytes(bytes[8 * at..8 * at + 8].try_into().expect("eight bytes"));
        macro_rules! step {
            ($i:literal) => {
                let (at, shift) = ($i * W / 64, $i * W % 64);
                let mut x = word(at) >> shift;
                if shift + W > 64 {
                    x |= word(at + 1) << ((64 - shift) % 64);
                }
                block[$i] = x & low;
            };
        }
        unrolled!(step);
    }
}

type Pack = fn(&[[u64; BLOCK]], &mut [u8]);
type Unpack = fn(&[u8], &mut [[u64; BLOCK]]);

macro_rules! widths {
    ($f:ident) => {
        widths!(@ $f 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34
            35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64)
    };
    (@ $f:ident $($w:literal)*) => { [$( $f::<$w> ),*] };
}

/// The kernel of each width, from 1.
const PACK: [Pack; 64] = widths!(pack_blocks);
const UNPACK: [Unpack; 64] = widths!(unpack_blocks);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::test_elements;

    /// Bit by bit, as the module's head says.
    fn pack_plain(elements: &[u64], width: u8) -> Vec<u8> {
        let mut out = vec![0; packed_len(elements.len(), width)];
        for (i, &x) in elements.iter().enumerate() {
            for j in 0..usize::from(width) {
                let bit = i * usize::from(width) + j;
                out[bit / 8] |= ((x >> j & 1) as u8) << (bit % 8);
            }
        }
        out
    }

    #[test]
    fn all_widths_and_odd_counts() {
        for width in 1..=64 {
            for count in [0, 1, 2, 7, 8, 9, 63, 64, 65, 127, 128, 200] {
                let x = test_elements(u64::from(width) * 1000 + count as u64, count);
                for cpu in Cpu::available() {
                    let (mut bytes, mut out) = (vec![0; packed_len(count, width)], vec![0; count]);
                    pack_serial(cpu, &x, width, &mut bytes);
                    assert_eq!(bytes, pack_plain(&x, width), "{}, width {width}, count {count}", cpu.name());
                    unpack_serial(cpu, &bytes, width, 0, &mut out);
                    assert!(out.iter().zip(&x).all(|(out, x)| *out == x & mask(width)), "width {width}, count {count}");
                }
                let mut bytes = vec![0xa5];
                pack(&x, width, &mut bytes);
                assert_eq!(bytes[0], 0xa5, "pack appends");
                assert_eq!(bytes[1..], pack_plain(&x, width), "width {width}, count {count}");
                let low: Vec<u64> = x.iter().map(|x| x & mask(width)).collect();
                assert!(unpack(&bytes[1..], width, count)[..] == low, "width {width}, count {count}");
            }
        }
    }

    #[test]
    fn parallel_chunks_join_without_gaps() {
        for width in [1, 7, 10, 29, 33, 64] {
            let x = test_elements(9, 2 * TASK + 77);
            let mut bytes = Vec::new();
            pack(&x, width, &mut bytes);
            assert!(bytes == pack_plain(&x, width));
            let low: Vec<u64> = x.iter().map(|x| x & mask(width)).collect();
            assert!(unpack(&bytes, width, x.len())[..] == low);
        }
    }

    #[test]
    fn ranges() {
        for width in 1..=64 {
            let x = test_elements(5, 300);
            let mut bytes = Vec::new();
            pack(&x, width, &mut bytes);
            for (from, to) in [(0, 300), (1, 300), (7, 8), (8, 9), (13, 290), (64, 128), (299, 300), (300, 300), (3, 3)]
            {
                let low: Vec<u64> = x[from..to].iter().map(|x| x & mask(width)).collect();
                for cpu in Cpu::available() {
                    let mut out = vec![0; to - from];
                    unpack_serial(cpu, &bytes, width, from, &mut out);
                    assert!(out == low, "{}, width {width}, {from}..{to}", cpu.name());
                }
                let mut out = vec![0; to - from];
                unpack_range(&bytes, width, from, &mut out);
                assert!(out == low, "width {width}, {from}..{to}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "ends too early")]
    fn a_short_vector_is_noticed() {
        unpack_range(&[0; 9], 10, 0, &mut [0; 8]);
    }
}
