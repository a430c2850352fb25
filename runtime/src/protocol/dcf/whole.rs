//! Whole trees of one component with VAES and AVX-512: where there are many points for each leaf, every leaf is worked out
//! into a table, of which the points, which are public, pick their shares.

use super::lanes::{VECTOR, Words};
use super::payload::Shape;
use super::signs;
use super::wide::{Keys, LOW, add_halves, controls, encrypt_together, load, seed_words, spread, store};
use crate::ring::mask;
use ir::Party;
use ir::dcf::Layout;
use std::arch::x86_64::*;

/// Elements that are expanded together: two vectors of nodes.
pub const ELEMENTS: usize = 8;

/// Buffers. Vectors are of four elements, two for each node.
#[derive(Default)]
pub struct Trees {
    /// Seeds, with their control bits lowest, and payload sums of left children and of right ones.
    seeds: Vec<[u64; 8]>,
    sums: Vec<[u64; 8]>,
    /// Last words in the form of the leaf's blocks.
    last: Vec<[u64; 8]>,
    /// Shares, `[element][leaf][block]`.
    table: Vec<[u8; 16]>,
}

impl Keys {
    /// The shares of at most [`ELEMENTS`] elements at their `points`, `[element][point]`. `first` is the number of the
    /// first one among those that `words` are of. Panics unless there is one component.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn whole(
        &self,
        party: Party,
        layout: Layout,
        words: &Words,
        first: usize,
        roots: &[u128],
        points: &[u64],
        out: &mut [u64],
        trees: &mut Trees,
    ) {
        macro_rules! with {
            ($($log2:literal $type:ty),*) => {
                match Shape::new(layout).slot_log2 {
                    $($log2 => {
                        // SAFETY: `self` proves that the features are there.
                        #[allow(unsafe_code)]
                        unsafe {
                            expand::<$log2>(self, party, layout, words, first, roots, trees)
                        }
                        const BYTES: usize = size_of::<$type>();
                        let row = trees.table.len() / ELEMENTS;
                        let leaf = 16 / BYTES * (row >> layout.levels);
                        let per_element = points.len() / roots.len();
                        let rows = points.chunks_exact(per_element).zip(out.chunks_exact_mut(per_element));
                        for ((points, out), table) in rows.zip(trees.table.chunks_exact(row)) {
                            let (slots, _) = table.as_flattened().as_chunks::<BYTES>();
                            for (out, &y) in out.iter_mut().zip(points) {
                                let at = (y >> layout.leaf_log2) as usize * leaf + (y & mask(layout.leaf_log2)) as usize;
                                *out = u64::from(<$type>::from_le_bytes(slots[at]));
                            }
                        }
                    })*
                    _ => panic!("one component"),
                }
            };
        }
        with!(3 u8, 4 u16, 5 u32, 6 u64)
    }
}

/// Adds slots of 2^LOG2 bits.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn add<const LOG2: u32>(x: __m512i, y: __m512i) -> __m512i {
    match LOG2 {
        3 => _mm512_add_epi8(x, y),
        4 => _mm512_add_epi16(x, y),
        5 => _mm512_add_epi32(x, y),
        _ => _mm512_add_epi64(x, y),
    }
}

/// The lowest slot of each block in all its slots.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn repeat<const LOG2: u32>(x: __m512i) -> __m512i {
    let [low, high] = match LOG2 {
        3 => [0, 0],
        4 => [0x0100_0100_0100_0100; 2],
        5 => [0x0302_0100_0302_0100; 2],
        _ => [0x0706_0504_0302_0100; 2],
    };
    _mm512_shuffle_epi8(x, _mm512_set_epi64(high, low, high, low, high, low, high, low))
}

/// Fills in the table.
#[target_feature(enable = "vaes,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn expand<const LOG2: u32>(
    keys: &Keys,
    party: Party,
    layout: Layout,
    words: &Words,
    first: usize,
    roots: &[u128],
    trees: &mut Trees,
) {
    let (levels, size, blocks) = (usize::from(layout.levels), layout.leaf_size(), Shape::new(layout).leaf_blocks());
    let count = roots.len();
    assert!(0 < count && count <= ELEMENTS, "elements of two vectors");
    let end = (first + count) * levels;
    assert!(words.seeds.len() >= end && words.controls.len() >= end && words.payloads[0].len() >= end, "words");
    let Trees { seeds, sums, last, table } = trees;
    seeds.resize(2 << levels, [0; 8]);
    sums.resize(2 << levels, [0; 8]);
    table.resize((ELEMENTS * blocks) << levels, [0; 16]);
    for (q, (seeds, sums)) in seeds.iter_mut().zip(&mut *sums).take(2).enumerate() {
        *sums = [0; 8];
        for (lane, seed) in seeds.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            // What exceeds the elements repeats the last one.
            let root = roots[(VECTOR * q + lane).min(count - 1)];
            *seed = [root as u64 & !1 | party.index() as u64, (root >> 64) as u64];
        }
    }
    let low = _mm512_maskz_set1_epi64(LOW, 1);
    for level in 0..levels {
        let (mut left, mut right, mut payload) = ([low; 2], [low; 2], [low; 2]);
        for q in 0..2 {
            let mut at = [0; VECTOR];
            for (lane, at) in at.iter_mut().enumerate() {
                *at = (first + (VECTOR * q + lane).min(count - 1)) * levels + level;
            }
            // SAFETY: the elements' words were checked to be there.
            #[allow(unsafe_code)]
            let (seed, bits, word) = unsafe {
                (
                    seed_words::<false>(words.seeds, at),
                    spread::<false>(words.controls, at),
                    spread::<false>(words.payloads[0], at),
                )
            };
            // The seed's word with the control bit of either side lowest.
            left[q] = _mm512_ternarylogic_epi64::<0xca>(low, bits, seed);
            right[q] = _mm512_ternarylogic_epi64::<0xca>(low, _mm512_srli_epi64::<1>(bits), seed);
            payload[q] = word;
        }
        // From the last one on, as children take the places of later nodes.
        for node in (0..1 << level).rev() {
            let parents: &[[u64; 8]; 2] = seeds[2 * node..].first_chunk().expect("two vectors a node");
            let x = [load(&parents[0]), load(&parents[1])];
            let y = [load(&sums[2 * node]), load(&sums[2 * node + 1])];
            let cleared = [_mm512_andnot_si512(low, x[0]), _mm512_andnot_si512(low, x[1])];
            let sided = [_mm512_or_si512(cleared[0], low), _mm512_or_si512(cleared[1], low)];
            let (child, values) = (&keys.child, &keys.payload);
            let inputs = [cleared[0], cleared[1], sided[0], sided[1], cleared[0], cleared[1]];
            let hashes = encrypt_together([child, child, child, child, values, values], inputs);
            let children: &mut [[u64; 8]; 4] = seeds[4 * node..].first_chunk_mut().expect("two children");
            let child_sums: &mut [[u64; 8]; 4] = sums[4 * node..].first_chunk_mut().expect("two children");
            for q in 0..2 {
                let control = controls(x[q]);
                let child = _mm512_xor_si512(hashes[q], cleared[q]);
                store(&mut children[q], _mm512_mask_xor_epi64(child, control, child, left[q]));
                let child = _mm512_xor_si512(hashes[2 + q], sided[q]);
                store(&mut children[2 + q], _mm512_mask_xor_epi64(child, control, child, right[q]));
                let hash = _mm512_xor_si512(hashes[4 + q], cleared[q]);
                let hash = _mm512_mask_add_epi64(hash, control, hash, payload[q]);
                store(&mut child_sums[q], _mm512_mask_add_epi64(y[q], LOW, y[q], hash));
                store(&mut child_sums[2 + q], _mm512_mask_add_epi64(y[q], !LOW, y[q], hash));
            }
        }
    }

    // Last words: slots of halves of blocks, `[block][element]`.
    last.resize(2 * blocks, [0; 8]);
    let in_half = 64 >> LOG2;
    for e in 0..ELEMENTS {
        let from = (first + e.min(count - 1)) * size;
        for (half, values) in words.last[0][from..from + size].chunks(in_half).enumerate() {
            let place = &mut last[half / 2 * 2 + e / VECTOR][2 * (e % VECTOR) + half % 2];
            *place = values.iter().rev().fold(0, |x, v| x << (1 << LOG2 & 63) | v);
        }
    }
    let sign = _mm512_set1_epi64(signs(party) as i64);
    // One in each slot, for the party that negates: -x is (x xor -1) + 1.
    let slot = |x: u64| (0..in_half).fold(0, |all, i| all | x << (i << LOG2)) as i64;
    let plus = _mm512_and_si512(sign, _mm512_set1_epi64(slot(1)));
    let in_width = _mm512_set1_epi64(slot(mask(layout.widths()[0])));
    let row = blocks << levels;
    for leaf in 0..1 << levels {
        let (mut cleared, mut control, mut sum) = ([low; 2], [0; 2], [low; 2]);
        for q in 0..2 {
            let x = load(&seeds[2 * leaf + q]);
            (control[q], cleared[q]) = (controls(x), _mm512_andnot_si512(low, x));
            sum[q] = repeat::<LOG2>(add_halves(load(&sums[2 * leaf + q])));
        }
        // Two blocks at a time; a leaf of one block has it twice.
        for block in (0..blocks).step_by(2) {
            let numbers = [block, (block + 1).min(blocks - 1)];
            let mut x = [low; 4];
            for (i, x) in x.iter_mut().enumerate() {
                let number = _mm512_maskz_set1_epi64(LOW, numbers[i / 2] as i64);
                *x = _mm512_xor_si512(cleared[i % 2], number);
            }
            let hashes = encrypt_together([&keys.leaf; 4], x);
            for i in 0..4 {
                let (q, block) = (i % 2, numbers[i / 2]);
                let hash = _mm512_xor_si512(hashes[i], x[i]);
                let word = _mm512_maskz_mov_epi64(control[q], load(&last[2 * block + q]));
                let share = add::<LOG2>(add::<LOG2>(hash, sum[q]), word);
                let share = _mm512_and_si512(add::<LOG2>(_mm512_xor_si512(share, sign), plus), in_width);
                let mut halves = [0; 8];
                store(&mut halves, share);
                for (lane, halves) in halves.as_chunks::<2>().0.iter().enumerate() {
                    let place = &mut table[(VECTOR * q + lane) * row + leaf * blocks + block];
                    *place = halves.map(u64::to_le_bytes).as_flattened().try_into().expect("a block");
                }
            }
        }
    }
}
