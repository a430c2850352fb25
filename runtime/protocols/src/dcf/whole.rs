//! Whole trees of one component with VAES and AVX-512: where there are many points for each leaf, every leaf is worked out
//! into a table, of which the points, which are public, pick their shares.

use super::lanes::{VECTOR, Words};
use super::payload::{Shape, child_tweak, half_tweak, leaf_tweak};
use super::wide::{Keys, LOW, add_halves, controls, encrypt_together, in_low, load, store, words_of};
use super::{CHILDREN, root_node, signs};
use ir::Party;
use ir::dcf::Layout;
use kernels::ring::mask;
use std::arch::x86_64::*;

/// Elements that are expanded together: two vectors of nodes.
pub const ELEMENTS: usize = 8;

/// Buffers. Vectors are of four elements, two for each node.
#[derive(Default)]
pub struct Trees {
    /// Seeds, with their control bits lowest, and payload sums of even children and of odd ones.
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
    let (steps, size, blocks) = (layout.steps(), layout.leaf_size(), Shape::new(layout).leaf_blocks());
    let leaves = 1 << layout.levels;
    let count = roots.len();
    assert!(0 < count && count <= ELEMENTS, "elements of two vectors");
    let end = (first + count) * steps;
    assert!(words.seeds.len() >= end && words.payloads.len() >= end, "words");
    let Trees { seeds, sums, last, table } = trees;
    seeds.resize(2 * leaves, [0; 8]);
    sums.resize(2 * leaves, [0; 8]);
    table.resize(ELEMENTS * blocks * leaves, [0; 16]);
    for (q, (seeds, sums)) in seeds.iter_mut().zip(&mut *sums).take(2).enumerate() {
        *sums = [0; 8];
        for (lane, seed) in seeds.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            // What exceeds the elements repeats the last one.
            let root = root_node(party, roots[(VECTOR * q + lane).min(count - 1)]);
            *seed = [root as u64, (root >> 64) as u64];
        }
    }
    let zero = _mm512_setzero_si512();
    let tweaks = [0, 1, 2, 3].map(|child| in_low(child_tweak(child)));
    let later = in_low(half_tweak(2));
    for step in 0..steps {
        // Words of children, and of pairs of them in halves, by vector.
        let (mut seed, mut payload) = ([[zero; CHILDREN]; 2], [[zero; 2]; 2]);
        for q in 0..2 {
            let mut at = [0; VECTOR];
            for (lane, at) in at.iter_mut().enumerate() {
                *at = (first + (VECTOR * q + lane).min(count - 1)) * steps + step;
            }
            for child in 0..CHILDREN {
                // SAFETY: the elements' words were checked to be there.
                #[allow(unsafe_code)]
                let words = unsafe {
                    let places = at.map(|at| (at, child));
                    (words_of(words.seeds, places), words_of(words.payloads, places))
                };
                seed[q][child] = words.0;
                let half = if child % 2 == 0 { LOW } else { !LOW };
                payload[q][child / 2] = _mm512_mask_mov_epi64(payload[q][child / 2], half, words.1);
            }
        }
        // From the last one on, as children take the places of later nodes.
        for node in (0..1 << (2 * step)).rev() {
            let parents: [_; 2] = std::array::from_fn(|q| (load(&seeds[2 * node + q]), load(&sums[2 * node + q])));
            let children: &mut [[u64; 8]; 2 * CHILDREN] = seeds[8 * node..].first_chunk_mut().expect("four children");
            let child_sums: &mut [[u64; 8]; 2 * CHILDREN] = sums[8 * node..].first_chunk_mut().expect("four children");
            for (q, (x, y)) in parents.into_iter().enumerate() {
                let control = controls(x);
                let [a, b, c, d] = tweaks.map(|tweak| _mm512_xor_si512(x, tweak));
                let inputs = [a, b, c, d, x, _mm512_xor_si512(x, later)];
                let (child, values) = (&keys.child, &keys.payload);
                let hashes = encrypt_together([child, child, child, child, values, values], inputs);
                for child in 0..CHILDREN {
                    let hash = _mm512_xor_si512(hashes[child], inputs[child]);
                    store(&mut children[2 * child + q], _mm512_mask_xor_epi64(hash, control, hash, seed[q][child]));
                    let half = if child % 2 == 0 { LOW } else { !LOW };
                    let pair = CHILDREN + child / 2;
                    let hash = _mm512_xor_si512(hashes[pair], inputs[pair]);
                    let hash = _mm512_mask_add_epi64(hash, control, hash, payload[q][child / 2]);
                    store(&mut child_sums[2 * child + q], _mm512_mask_add_epi64(y, half, y, hash));
                }
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
    let row = blocks * leaves;
    for leaf in 0..leaves {
        let (mut seed, mut control, mut sum) = ([zero; 2], [0; 2], [zero; 2]);
        for q in 0..2 {
            seed[q] = load(&seeds[2 * leaf + q]);
            control[q] = controls(seed[q]);
            sum[q] = repeat::<LOG2>(add_halves(load(&sums[2 * leaf + q])));
        }
        // Two blocks at a time; a leaf of one block has it twice.
        for block in (0..blocks).step_by(2) {
            let numbers = [block, (block + 1).min(blocks - 1)];
            let mut x = [zero; 4];
            for (i, x) in x.iter_mut().enumerate() {
                *x = _mm512_xor_si512(seed[i % 2], in_low(leaf_tweak(numbers[i / 2] as u64)));
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
