//! The steps of [`super::lanes`] with VAES and AVX-512: a vector holds four nodes as whole blocks, which stay in
//! registers from the hashes of children and payloads to the corrected child and its sums.

use super::lanes::{Item, Lanes, VECTOR, Words};
use super::payload::{Components, Kind, Shape};
use super::{CHILD, LEAF, PAYLOAD, signs};
use crate::aes128::Block;
use crate::aes128::wide::{broadcast, encrypt};
use crate::ring::mask;
use ir::Party;
use std::arch::x86_64::*;

/// Low halves of blocks.
pub const LOW: __mmask8 = 0x55;

/// Vectors that take a step together: twice as many hashes are in flight.
const TOGETHER: usize = 4;

/// Round keys in every lane. Having them proves that the CPU has the features of this file's functions.
pub struct Keys {
    pub child: [__m512i; 11],
    pub payload: [__m512i; 11],
    pub leaf: [__m512i; 11],
}

impl Keys {
    /// None where the CPU lacks the features, or is not to use them.
    pub fn get() -> Option<Keys> {
        let (child, payload, leaf) = (CHILD.wide_keys()?, PAYLOAD.wide_keys()?, LEAF.wide_keys()?);
        // SAFETY: a cipher has wide keys only where VAES and the rest were detected.
        #[allow(unsafe_code)]
        let keys = unsafe { Keys { child: broadcast(child), payload: broadcast(payload), leaf: broadcast(leaf) } };
        Some(keys)
    }

    /// See [`super::lanes::step`]. `shared`: the lanes of each item belong to one element.
    #[allow(clippy::too_many_arguments)]
    pub fn step(
        &self,
        shape: Shape,
        words: &Words,
        items: &[Item],
        shared: bool,
        level: usize,
        shift: u32,
        lanes: &mut Lanes,
    ) {
        let alike = shared && items.iter().all(|item| item.at[0] == items[0].at[0]);
        macro_rules! with {
            ($($kind:ident),*) => {
                match shape.kind {
                    $(
                        // SAFETY: `self` proves that the features are there.
                        #[allow(unsafe_code)]
                        Kind::$kind => unsafe {
                            match (shared, alike) {
                                (_, true) => {
                                    step::<{ Kind::$kind as u8 }, ALIKE>(self, shape, words, items, level, shift, lanes)
                                }
                                (true, _) => {
                                    step::<{ Kind::$kind as u8 }, ITEM>(self, shape, words, items, level, shift, lanes)
                                }
                                _ => step::<{ Kind::$kind as u8 }, LANE>(self, shape, words, items, level, shift, lanes),
                            }
                        },
                    )*
                }
            };
        }
        with!(One, Two, Spare, Own)
    }

    /// See [`super::lanes::finish`].
    pub fn finish(
        &self,
        party: Party,
        shape: Shape,
        words: &Words,
        items: &[Item],
        lanes: &Lanes,
        out: &mut Components,
    ) {
        // SAFETY: `self` proves that the features are there.
        #[allow(unsafe_code)]
        unsafe {
            finish(self, party, shape, words, items, lanes, out)
        }
    }
}

/// Which words are the same: in all items, in the lanes of each item, or none.
const ALIKE: u8 = 0;
const ITEM: u8 = 1;
const LANE: u8 = 2;

const ONE: u8 = Kind::One as u8;
const SPARE: u8 = Kind::Spare as u8;
const OWN: u8 = Kind::Own as u8;

#[target_feature(enable = "avx512f")]
#[inline]
pub fn load(x: &[u64; 8]) -> __m512i {
    // SAFETY: eight elements, and the load needs no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_loadu_si512(x.as_ptr().cast())
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub fn store(out: &mut [u64; 8], x: __m512i) {
    // SAFETY: eight elements, and the store needs no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_storeu_si512(out.as_mut_ptr().cast(), x)
    }
}

/// Four elements, each in both halves of a block. The caller has checked that they are there.
#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
#[allow(unsafe_code)]
unsafe fn load_doubled(x: *const u64) -> __m512i {
    // SAFETY: 32 bytes by contract, and the load needs no alignment.
    let x = unsafe { _mm256_loadu_si256(x.cast()) };
    _mm512_permutexvar_epi64(_mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0), _mm512_castsi256_si512(x))
}

/// The word of each lane in both halves. The caller has checked that they are there.
#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
#[allow(unsafe_code)]
pub unsafe fn spread<const SHARED: bool>(words: &[u64], at: [usize; VECTOR]) -> __m512i {
    let words = words.as_ptr();
    // SAFETY: all of `at` are within `words` by contract.
    unsafe {
        if SHARED {
            return _mm512_set1_epi64(*words.add(at[0]) as i64);
        }
        let low = _mm_set_epi64x(*words.add(at[1]) as i64, *words.add(at[0]) as i64);
        let high = _mm_set_epi64x(*words.add(at[3]) as i64, *words.add(at[2]) as i64);
        let x = _mm512_castsi256_si512(_mm256_set_m128i(high, low));
        _mm512_permutexvar_epi64(_mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0), x)
    }
}

/// The words of two components: halves of each lane. The caller has checked that they are there.
#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
#[allow(unsafe_code)]
unsafe fn pair<const SHARED: bool>(words: [&[u64]; 2], at: [usize; VECTOR]) -> __m512i {
    // SAFETY: all of `at` are within both by contract.
    unsafe { _mm512_mask_blend_epi64(LOW, spread::<SHARED>(words[1], at), spread::<SHARED>(words[0], at)) }
}

/// The seed's word of each lane. The caller has checked that they are there.
#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code)]
pub unsafe fn seed_words<const SHARED: bool>(words: &[Block], at: [usize; VECTOR]) -> __m512i {
    let words = words.as_ptr();
    // SAFETY: all of `at` are within `words` by contract, and the loads need no alignment.
    unsafe {
        if SHARED {
            return _mm512_broadcast_i32x4(_mm_loadu_si128(words.add(at[0]).cast()));
        }
        let x = _mm512_castsi128_si512(_mm_loadu_si128(words.add(at[0]).cast()));
        let x = _mm512_inserti32x4::<1>(x, _mm_loadu_si128(words.add(at[1]).cast()));
        let x = _mm512_inserti32x4::<2>(x, _mm_loadu_si128(words.add(at[2]).cast()));
        _mm512_inserti32x4::<3>(x, _mm_loadu_si128(words.add(at[3]).cast()))
    }
}

/// Makes the compiler have all of these in registers at this point. It would put one hash after the other, in as few
/// registers as it can.
macro_rules! side_by_side {
    ($($x:ident)*) => {
        // SAFETY: no instructions.
        unsafe {
            std::arch::asm!(
                $(concat!("/* {", stringify!($x), "} */"),)*
                $($x = inout(zmm_reg) *$x,)*
                options(nomem, nostack, preserves_flags),
            );
        }
    };
}

#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code)]
fn side_by_side(x: &mut [__m512i]) {
    match x {
        [a, b, c, d] => side_by_side!(a b c d),
        [a, b, c, d, e, f] => side_by_side!(a b c d e f),
        [a, b, c, d, e, f, g, h] => side_by_side!(a b c d e f g h),
        _ => {}
    }
}

/// Encrypts vectors of four blocks, each with its own key, side by side: 4, 6 or 8 of them.
#[target_feature(enable = "vaes,avx512f")]
#[inline]
pub fn encrypt_together<const N: usize>(keys: [&[__m512i; 11]; N], x: [__m512i; N]) -> [__m512i; N] {
    let mut x = x;
    for i in 0..N {
        x[i] = _mm512_xor_si512(x[i], keys[i][0]);
    }
    side_by_side(&mut x);
    for round in 1..10 {
        for (x, keys) in x.iter_mut().zip(keys) {
            *x = _mm512_aesenc_epi128(*x, keys[round]);
        }
        if round % 3 == 0 {
            side_by_side(&mut x);
        }
    }
    for i in 0..N {
        x[i] = _mm512_aesenclast_epi128(x[i], keys[i][10]);
    }
    side_by_side(&mut x);
    x
}

/// Encrypts with either key, all side by side if there are [`TOGETHER`].
#[target_feature(enable = "vaes,avx512f")]
#[inline]
fn encrypt_both<const N: usize>(
    x_key: &[__m512i; 11],
    x: [__m512i; N],
    y_key: &[__m512i; 11],
    y: [__m512i; N],
) -> ([__m512i; N], [__m512i; N]) {
    let (mut x, mut y) = (x, y);
    if let ([x0, x1, x2, x3], [y0, y1, y2, y3]) = (&mut x[..], &mut y[..]) {
        let keys = [x_key, x_key, x_key, x_key, y_key, y_key, y_key, y_key];
        [*x0, *x1, *x2, *x3, *y0, *y1, *y2, *y3] = encrypt_together(keys, [*x0, *x1, *x2, *x3, *y0, *y1, *y2, *y3]);
        return (x, y);
    }
    (encrypt(x_key, x), encrypt(y_key, y))
}

/// Where the control bits of nodes are set: both halves.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn controls(x: __m512i) -> __mmask8 {
    _mm512_test_epi64_mask(_mm512_unpacklo_epi64(x, x), _mm512_set1_epi64(1))
}

/// Panics where an item's lanes or words are not there; `before` is added to the places of words.
#[inline]
fn check<const WORDS: u8>(
    shape: Shape,
    items: &[Item],
    lanes: &Lanes,
    before: usize,
    seeds: Option<usize>,
    words: &[&[u64]],
) {
    let (mut vector, mut at) = (0, 0);
    for item in items {
        vector = vector.max(item.vector);
        at = at.max(if WORDS == LANE { item.at.into_iter().fold(0, u32::max) } else { item.at[0] });
    }
    let (end, at) = (VECTOR * (vector as usize + 1), at as usize + before);
    assert!(lanes.seeds.len() >= end && lanes.sums.len() >= end && lanes.points.len() >= end, "lanes of an item");
    assert!(shape.components() < 3 || lanes.third.len() >= end, "lanes of an item");
    assert!(words.iter().all(|words| at < words.len()) && seeds.is_none_or(|n| at < n), "words of an item");
}

/// Correction words of a vector's lanes.
#[derive(Clone, Copy)]
struct VectorWords {
    /// Of seeds, by side, with the control bit of that side lowest.
    left: __m512i,
    right: __m512i,
    /// Component 0 in both halves, or components 0 and 1.
    payload: __m512i,
    third: __m512i,
}

/// The words at these places, of which the caller has checked that they are there.
#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
#[allow(unsafe_code)]
unsafe fn vector_words<const KIND: u8, const SHARED: bool>(words: &Words, at: [usize; VECTOR]) -> VectorWords {
    let low = _mm512_maskz_set1_epi64(LOW, 1);
    // SAFETY: by contract.
    unsafe {
        let seed = seed_words::<SHARED>(words.seeds, at);
        let bits = spread::<SHARED>(words.controls, at);
        VectorWords {
            left: _mm512_ternarylogic_epi64::<0xca>(low, bits, seed),
            right: _mm512_ternarylogic_epi64::<0xca>(low, _mm512_srli_epi64::<1>(bits), seed),
            payload: if KIND == ONE {
                spread::<SHARED>(words.payloads[0], at)
            } else {
                pair::<SHARED>([words.payloads[0], words.payloads[1]], at)
            },
            third: if KIND == SPARE || KIND == OWN { spread::<SHARED>(words.payloads[2], at) } else { low },
        }
    }
}

/// How the bits of components 0 and 1 move into component 2, see [`Shape::spare`]: down, then up.
#[target_feature(enable = "avx512f")]
#[inline]
fn spare_shifts(shape: Shape) -> [__m512i; 2] {
    if shape.kind != Kind::Spare {
        return [_mm512_setzero_si512(); 2];
    }
    let [first, second, place] = shape.spare().map(i64::from);
    let (first, second) = (first + 1, second + 1);
    let down = _mm512_set_epi64(second, first, second, first, second, first, second, first);
    [down, _mm512_maskz_set1_epi64(!LOW, place)]
}

#[target_feature(enable = "avx512f")]
#[inline]
fn spare(payloads: __m512i, [down, up]: [__m512i; 2]) -> __m512i {
    _mm512_sllv_epi64(_mm512_srlv_epi64(payloads, down), up)
}

#[target_feature(enable = "vaes,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn step<const KIND: u8, const WORDS: u8>(
    keys: &Keys,
    shape: Shape,
    words: &Words,
    items: &[Item],
    level: usize,
    shift: u32,
    lanes: &mut Lanes,
) {
    let &Words { seeds, controls, payloads, .. } = words;
    let [p0, p1, p2] = payloads;
    if items.is_empty() {
        return;
    }
    check::<WORDS>(shape, items, lanes, level, Some(seeds.len()), &[controls, p0, p1, p2][..1 + shape.components()]);
    let spare = spare_shifts(shape);
    // SAFETY: words of all items were checked.
    #[allow(unsafe_code)]
    let alike = unsafe { vector_words::<KIND, true>(words, [items[0].at[0] as usize + level; VECTOR]) };
    let (groups, rest) = items.as_chunks::<TOGETHER>();
    for items in groups {
        // SAFETY: lanes and words of all items were checked.
        #[allow(unsafe_code)]
        unsafe {
            step_items::<KIND, WORDS, TOGETHER>(keys, spare, words, alike, items, level, shift, lanes)
        }
    }
    for item in rest {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            step_items::<KIND, WORDS, 1>(keys, spare, words, alike, &[*item], level, shift, lanes)
        }
    }
}

/// Steps of a few items whose lanes and words the caller has checked: without branches, or the compiler would put one
/// hash after the other, and not side by side.
#[target_feature(enable = "vaes,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
#[inline]
#[allow(unsafe_code, clippy::too_many_arguments)]
unsafe fn step_items<const KIND: u8, const WORDS: u8, const N: usize>(
    keys: &Keys,
    spare_shifts: [__m512i; 2],
    words: &Words,
    alike: VectorWords,
    items: &[Item; N],
    level: usize,
    shift: u32,
    lanes: &mut Lanes,
) {
    let zero = _mm512_setzero_si512();
    let (low, bit) = (_mm512_maskz_set1_epi64(LOW, 1), _mm512_set1_epi64(1 << shift));
    let (seeds, points) = (lanes.seeds.as_mut_ptr(), lanes.points.as_ptr());
    let (sums, third_sums) = (lanes.sums.as_mut_ptr(), lanes.third.as_mut_ptr());
    let (mut child, mut payload, mut third) = ([zero; N], [zero; N], [zero; N]);
    let (mut right, mut control) = ([0; N], [0; N]);
    for (i, item) in items.iter().enumerate() {
        let first = VECTOR * item.vector as usize;
        // SAFETY: the item's lanes are there by contract, and the load needs no alignment.
        let (x, points) = unsafe { (_mm512_loadu_si512(seeds.add(first).cast()), load_doubled(points.add(first))) };
        right[i] = _mm512_test_epi64_mask(points, bit);
        control[i] = controls(x);
        let cleared = _mm512_andnot_si512(low, x);
        child[i] = _mm512_mask_or_epi64(cleared, right[i], cleared, low);
        payload[i] = if KIND == ONE { cleared } else { child[i] };
        third[i] = _mm512_xor_si512(cleared, _mm512_slli_epi64::<1>(low));
    }
    let (children, payloads) = encrypt_both(&keys.child, child, &keys.payload, payload);
    let thirds = if KIND == OWN { encrypt(&keys.payload, third) } else { third };
    for (i, item) in items.iter().enumerate() {
        let first = VECTOR * item.vector as usize;
        let mut at = item.at.map(|at| at as usize);
        for at in &mut at {
            *at += level;
        }
        let (right, control) = (right[i], control[i]);
        // The half of a payload that belongs to the side.
        let half = LOW ^ right;
        // SAFETY: the item's lanes and words are there by contract, and loads and stores need no alignment.
        unsafe {
            let words = match WORDS {
                ALIKE => alike,
                ITEM => vector_words::<KIND, true>(words, at),
                _ => vector_words::<KIND, false>(words, at),
            };
            let word = _mm512_mask_blend_epi64(right, words.left, words.right);
            let x = _mm512_xor_si512(children[i], child[i]);
            _mm512_storeu_si512(seeds.add(first).cast(), _mm512_mask_xor_epi64(x, control, x, word));

            let x = _mm512_xor_si512(payloads[i], payload[i]);
            let sum = sums.add(first).cast::<__m512i>();
            let y = _mm512_loadu_si512(sum);
            if KIND == ONE {
                let corrected = _mm512_mask_add_epi64(x, control, x, words.payload);
                _mm512_storeu_si512(sum, _mm512_mask_add_epi64(y, half, y, corrected));
            } else {
                let y = _mm512_add_epi64(y, x);
                _mm512_storeu_si512(sum, _mm512_mask_add_epi64(y, control, y, words.payload));
            }
            if KIND == SPARE || KIND == OWN {
                let sum = third_sums.add(first).cast::<__m512i>();
                let y = _mm512_loadu_si512(sum);
                let y = if KIND == SPARE {
                    _mm512_add_epi64(y, spare(x, spare_shifts))
                } else {
                    _mm512_mask_add_epi64(y, half, y, _mm512_xor_si512(thirds[i], third[i]))
                };
                _mm512_storeu_si512(sum, _mm512_mask_add_epi64(y, control & LOW, y, words.third));
            }
        }
    }
}

/// Halves of each block swapped and added: the sum in both.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn add_halves(x: __m512i) -> __m512i {
    _mm512_add_epi64(x, _mm512_shuffle_epi32::<0x4e>(x))
}

#[target_feature(enable = "vaes,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn finish(keys: &Keys, party: Party, shape: Shape, words: &Words, items: &[Item], lanes: &Lanes, out: &mut Components) {
    let (low, sign) = (_mm512_maskz_set1_epi64(LOW, 1), _mm512_set1_epi64(signs(party) as i64));
    let inside = _mm512_set1_epi64(shape.inside() as i64);
    let per_block = _mm_cvtsi32_si128(shape.per_block_log2 as i32);
    let slot = _mm_cvtsi32_si128(shape.slot_log2 as i32);
    let in_block = _mm512_set1_epi64(mask(shape.per_block_log2 as u8) as i64);
    let parts = _mm_cvtsi32_si128(shape.parts() as i32 - 1);
    let widths = shape.widths();
    let mut in_width = [_mm512_setzero_si512(); 3];
    for (in_width, width) in in_width.iter_mut().zip(widths) {
        *in_width = _mm512_set1_epi64(mask(width) as i64);
    }
    let spare_shifts = spare_shifts(shape);
    let [l0, l1, l2] = words.last;
    check::<LANE>(shape, items, lanes, shape.inside() as usize, None, &[l0, l1, l2][..shape.components()]);
    assert!(out.iter().take(shape.components()).all(|out| out.len() >= lanes.seeds.len()), "a share a lane");
    let shares = out.each_mut().map(|out| out.as_mut_ptr());
    for item in items {
        let first = VECTOR * item.vector as usize;
        // SAFETY: lanes of all items were checked, and the loads need no alignment.
        #[allow(unsafe_code)]
        let (x, points, sum) = unsafe {
            let x = _mm512_loadu_si512(lanes.seeds.as_ptr().add(first).cast());
            let sum = _mm512_loadu_si512(lanes.sums.as_ptr().add(first).cast());
            (x, load_doubled(lanes.points.as_ptr().add(first)), sum)
        };
        let control = controls(x);
        let index = _mm512_and_si512(points, inside);
        let mut at = item.at.map(|at| at as usize);
        for (at, y) in at.iter_mut().zip(&lanes.points[first..]) {
            *at += (y & shape.inside()) as usize;
        }
        // SAFETY: words of all items were checked, up to the last one of a leaf.
        #[allow(unsafe_code)]
        let word = |c: usize| unsafe { spread::<false>(words.last[c], at) };
        let block = _mm512_sll_epi64(_mm512_srl_epi64(index, per_block), parts);
        let cleared = _mm512_andnot_si512(low, x);
        let x = _mm512_mask_xor_epi64(cleared, LOW, cleared, block);
        let [y] = encrypt(&keys.leaf, [x]);
        let payloads = _mm512_xor_si512(x, y);
        // Writes the shares that the low or the high halves hold.
        let put = |c: usize, half: i64, sum: __m512i| {
            let x = _mm512_sub_epi64(_mm512_xor_si512(sum, sign), sign);
            let x = _mm512_and_si512(x, in_width[c]);
            let order = _mm512_set_epi64(0, 0, 0, 0, 6 + half, 4 + half, 2 + half, half);
            let x = _mm512_castsi512_si256(_mm512_permutexvar_epi64(order, x));
            // SAFETY: there is a share for each lane, and the store needs no alignment.
            #[allow(unsafe_code)]
            unsafe {
                _mm256_storeu_si256(shares[c].add(first).cast(), x)
            }
        };
        if shape.kind == Kind::One {
            let place = _mm512_sll_epi64(_mm512_and_si512(index, in_block), slot);
            let half = LOW ^ _mm512_test_epi64_mask(place, _mm512_set1_epi64(64));
            let place = _mm512_and_si512(place, _mm512_set1_epi64(63));
            let sum = _mm512_add_epi64(sum, _mm512_maskz_srlv_epi64(half, payloads, place));
            put(0, 0, add_halves(_mm512_mask_add_epi64(sum, control & LOW, sum, word(0))));
            continue;
        }
        let sum = _mm512_add_epi64(sum, payloads);
        let sum = _mm512_mask_add_epi64(sum, control, sum, _mm512_mask_blend_epi64(LOW, word(1), word(0)));
        put(0, 0, sum);
        put(1, 1, sum);
        let value = match shape.kind {
            Kind::One | Kind::Two => continue,
            Kind::Spare => spare(payloads, spare_shifts),
            Kind::Own => {
                let x = _mm512_xor_si512(x, low);
                let [y] = encrypt(&keys.leaf, [x]);
                _mm512_maskz_xor_epi64(LOW, x, y)
            }
        };
        // SAFETY: as above.
        #[allow(unsafe_code)]
        let sum = unsafe { _mm512_loadu_si512(lanes.third.as_ptr().add(first).cast()) };
        let sum = _mm512_add_epi64(sum, value);
        put(2, 0, add_halves(_mm512_mask_add_epi64(sum, control & LOW, sum, word(2))));
    }
}
