//! Packing with byte permutations (AVX-512 VBMI), eight elements a step and from any bit on.
//!
//! Eight elements take exactly `width` bytes, so in every group of eight, element i begins at the same bit of the same
//! byte: one permutation, with shifts by less than a byte.

use super::mask;
use std::arch::x86_64::*;

/// Bytes that a group of eight elements may be read from: 64 and one more element.
pub const REACH: usize = 72;

/// Elements from `first` on, as many as `out` has. Panics where `bytes` ends before them.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub fn unpack(bytes: &[u8], width: u8, first: usize, out: &mut [u64]) {
    let width = usize::from(width);
    let bytes = &bytes[first * width / 8..];
    let places = Places::new(width, first * width % 8);
    // Groups that may read as far as they like, then the others, from a copy with room behind it.
    let free = if bytes.len() < REACH { 0 } else { (bytes.len() - REACH) / width + 1 };
    let (body, tail) = out.split_at_mut(out.len().min(8 * free));
    let (groups, last) = body.as_chunks_mut::<8>();
    for (out, from) in groups.iter_mut().zip((0..).step_by(width)) {
        let x = places.group(bytes, from);
        // SAFETY: `out` is eight elements, and the store needs no alignment.
        #[allow(unsafe_code)]
        unsafe {
            _mm512_storeu_si512(out.as_mut_ptr().cast(), x)
        }
    }
    if !last.is_empty() {
        store(last, places.group(bytes, groups.len() * width));
    }
    if !tail.is_empty() {
        let mut copy = [0; 2 * REACH];
        let rest = &bytes[free * width..];
        copy[..rest.len()].copy_from_slice(rest);
        for (out, from) in tail.chunks_mut(8).zip((0..).step_by(width)) {
            store(out, places.group(&copy, from));
        }
    }
}

/// The first elements of a vector, as many as `out` has.
#[target_feature(enable = "avx512f")]
#[inline]
fn store(out: &mut [u64], x: __m512i) {
    let there = (1u16 << out.len()) - 1;
    // SAFETY: the mask lets elements of `out` alone be written.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_mask_storeu_epi64(out.as_mut_ptr().cast(), there as u8, x)
    }
}

/// Where the elements of a group lie.
#[derive(Clone, Copy)]
pub struct Places {
    /// Eight bytes for each element.
    bytes: __m512i,
    /// Bits of the first byte that belong to the element before.
    shift: __m512i,
    low: __m512i,
    /// True if an element may end in a ninth byte.
    ninth: bool,
}

impl Places {
    /// Of elements of `width` bits whose first begins at bit `phase` of a byte.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn new(width: usize, phase: usize) -> Places {
        let bit = |i: usize| phase + i * width;
        let mut bytes = [0i64; 8];
        for (i, bytes) in bytes.iter_mut().enumerate() {
            // The last is byte 56 + 7 at most.
            *bytes = 0x0706_0504_0302_0100 + 0x0101_0101_0101_0101 * (bit(i) / 8) as i64;
        }
        let mut shift = [0i64; 8];
        for (i, shift) in shift.iter_mut().enumerate() {
            *shift = (bit(i) % 8) as i64;
        }
        Places {
            bytes: vector(bytes),
            shift: vector(shift),
            low: _mm512_set1_epi64(mask(width as u8) as i64),
            ninth: width > 57,
        }
    }

    /// The group whose bytes begin at `from`, with [`REACH`] bytes to read; above each element lie bits of the next ones.
    /// Of elements of more than 57 bits, the highest may miss.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    pub fn group_unmasked(&self, bytes: &[u8], from: usize) -> __m512i {
        let bytes = &bytes[from..from + REACH];
        // SAFETY: 72 bytes are there, and the load needs no alignment.
        #[allow(unsafe_code)]
        let x = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
        _mm512_srlv_epi64(_mm512_permutexvar_epi8(self.bytes, x), self.shift)
    }

    /// The group whose bytes begin at `from`, with [`REACH`] bytes to read.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    pub fn group(&self, bytes: &[u8], from: usize) -> __m512i {
        let mut y = self.group_unmasked(bytes, from);
        if self.ninth {
            // SAFETY: 72 bytes are there, or the slice before would have failed, and the load needs no alignment.
            #[allow(unsafe_code)]
            let next = unsafe { _mm512_loadu_si512(bytes[from + 8..from + REACH].as_ptr().cast()) };
            // A shift by 64 gives zero.
            let up = _mm512_sub_epi64(_mm512_set1_epi64(64), self.shift);
            y = _mm512_or_si512(y, _mm512_sllv_epi64(_mm512_permutexvar_epi8(self.bytes, next), up));
        }
        _mm512_and_si512(y, self.low)
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn vector(x: [i64; 8]) -> __m512i {
    _mm512_set_epi64(x[7], x[6], x[5], x[4], x[3], x[2], x[1], x[0])
}

/// Runs `$packed` on groups of `$n` elements, the last filled up with zeros, and writes `$bytes` bytes of each result.
macro_rules! in_groups {
    ($n:expr, $bytes:expr, $elements:ident, $out:ident, $x:ident => $packed:expr) => {
        for (group, from) in $elements.chunks($n).zip((0..).step_by($bytes)) {
            let mut filled = [0; $n];
            let $x: &[u64; $n] = match group.try_into() {
                Ok(group) => group,
                Err(_) => {
                    filled[..group.len()].copy_from_slice(group);
                    &filled
                }
            };
            let packed = $packed;
            // What a store writes too much is zero, and the next one overwrites it.
            if let Some(to) = $out.get_mut(from..from + 64) {
                // SAFETY: 64 bytes, and the store needs no alignment.
                #[allow(unsafe_code)]
                unsafe {
                    _mm512_storeu_si512(to.as_mut_ptr().cast(), packed)
                }
            } else {
                let mut bytes = [0; 64];
                // SAFETY: as above.
                #[allow(unsafe_code)]
                unsafe {
                    _mm512_storeu_si512(bytes.as_mut_ptr().cast(), packed)
                }
                let to = &mut $out[from..];
                let count = to.len().min($bytes);
                to[..count].copy_from_slice(&bytes[..count]);
            }
        }
    };
}

/// Packs into `out` of the right length.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub fn pack(elements: &[u64], width: u8, out: &mut [u8]) {
    if width < 8 { pack_bits(elements, width, out) } else { pack_bytes(elements, width, out) }
}

/// The eight elements of a group at a vector's start.
#[target_feature(enable = "avx512f")]
#[inline]
fn load(x: &[u64; 8]) -> __m512i {
    // SAFETY: eight elements, and the load needs no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_loadu_si512(x.as_ptr().cast())
    }
}

/// Which bytes of shifted elements make up a group, for a width of at least a byte: then two elements meet in a byte at
/// most, an even one and an odd one.
struct Sources {
    /// From even elements, from odd ones, and from what the shift pushed out of either.
    bytes: [[u8; 64]; 3],
    /// Where there is any.
    there: [u64; 3],
}

const fn sources(width: usize) -> Sources {
    let (mut bytes, mut there) = ([[0; 64]; 3], [0; 3]);
    let mut element = 0;
    while element < 8 {
        let (first, last) = (element * width / 8, (element * width + width - 1) / 8);
        let mut byte = first;
        while byte <= last {
            let (from, at) = if byte - first < 8 { (element % 2, byte - first) } else { (2, 0) };
            bytes[from][byte] = (8 * element + at) as u8;
            there[from] |= 1 << byte;
            byte += 1;
        }
        element += 1;
    }
    Sources { bytes, there }
}

/// By width; nothing below 8.
static SOURCES: [Sources; 65] = {
    let mut all = [const { Sources { bytes: [[0; 64]; 3], there: [0; 3] } }; 65];
    let mut width = 8;
    while width <= 64 {
        all[width] = sources(width);
        width += 1;
    }
    all
};

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn pack_bytes(elements: &[u64], width: u8, out: &mut [u8]) {
    let width = usize::from(width);
    let Sources { bytes, there } = &SOURCES[width];
    let mut from = [_mm512_setzero_si512(); 3];
    for (from, bytes) in from.iter_mut().zip(bytes) {
        // SAFETY: 64 bytes, and the load needs no alignment.
        #[allow(unsafe_code)]
        unsafe {
            *from = _mm512_loadu_si512(bytes.as_ptr().cast());
        }
    }
    let mut shift = [0i64; 8];
    for (i, shift) in shift.iter_mut().enumerate() {
        *shift = (i * width % 8) as i64;
    }
    let (shift, low) = (vector(shift), _mm512_set1_epi64(mask(width as u8) as i64));
    let down = _mm512_sub_epi64(_mm512_set1_epi64(64), shift);
    in_groups!(8, width, elements, out, x => {
        let x = _mm512_and_si512(load(x), low);
        let y = _mm512_sllv_epi64(x, shift);
        let [even, odd] =
            [_mm512_maskz_permutexvar_epi8(there[0], from[0], y), _mm512_maskz_permutexvar_epi8(there[1], from[1], y)];
        let mut packed = _mm512_or_si512(even, odd);
        if there[2] != 0 {
            // A shift by 64 gives zero.
            let ninth = _mm512_srlv_epi64(x, down);
            packed = _mm512_or_si512(packed, _mm512_maskz_permutexvar_epi8(there[2], from[2], ninth));
        }
        packed
    });
}

/// Less than a byte: 64 elements are put into bytes, which join by multiplication with powers of two.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn pack_bits(elements: &[u64], width: u8, out: &mut [u8]) {
    let (low, bytes) = (_mm512_set1_epi64(mask(width) as i64), 8 * usize::from(width));
    // Byte j of lane l is element 8·j + l; and then byte j of the result is byte j mod width of a lane.
    let mut transpose = [0i64; 8];
    for (row, transpose) in transpose.iter_mut().enumerate() {
        *transpose = 0x3830_2820_1810_0800 + 0x0101_0101_0101_0101 * row as i64;
    }
    let mut close = [0i64; 8];
    for j in 0..bytes {
        close[j / 8] |= ((j / usize::from(width) * 8 + j % usize::from(width)) as i64) << (j % 8 * 8);
    }
    let (transpose, close, there) = (vector(transpose), vector(close), mask(bytes as u8));
    let pairs = _mm512_set1_epi16((1 << (width + 8) | 1) as u16 as i16);
    let fours = _mm512_set1_epi32(1 << (2 * width + 16) | 1);
    let up = _mm_cvtsi32_si128(4 * i32::from(width));
    in_groups!(64, bytes, elements, out, x => {
        let (rows, _) = x.as_chunks::<8>();
        let mut joined = _mm512_and_si512(load(&rows[0]), low);
        for (row, shift) in rows.iter().zip((0..).step_by(8)).skip(1) {
            let row = _mm512_and_si512(load(row), low);
            joined = _mm512_or_si512(joined, _mm512_sll_epi64(row, _mm_cvtsi32_si128(shift)));
        }
        // Lane l, byte j of `joined` is element 8·j + l; elements are below 2^7, the factors unsigned.
        let x = _mm512_permutexvar_epi8(transpose, joined);
        let x = _mm512_madd_epi16(_mm512_maddubs_epi16(pairs, x), fours);
        let first = _mm512_and_si512(x, _mm512_set1_epi64(0xffff_ffff));
        let x = _mm512_or_si512(first, _mm512_sll_epi64(_mm512_srli_epi64::<32>(x), up));
        _mm512_maskz_permutexvar_epi8(there, close, x)
    });
}
