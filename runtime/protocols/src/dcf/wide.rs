//! The steps of [`super::lanes`] with VAES and AVX-512: a vector holds four nodes as whole blocks, which stay in
//! registers from the hashes of children and payloads to the corrected child and its sums.

use super::lanes::{Alike, GROUP, Item, Items, Lanes, Line, VECTOR, Words};
use super::payload::{Components, Kind, OWN_TWEAK, Shape, child_tweak, half_tweak, leaf_tweak};
use super::{CHILD, CHILDREN, LEAF, PAYLOAD, signs};
use ir::Party;
use ir::dcf::MAX_COMPONENTS;
use kernels::aes128::wide::broadcast;
use kernels::ring::mask;
use std::arch::x86_64::*;

/// Low halves of blocks.
pub const LOW: __mmask8 = 0x55;

/// Vectors that take a step together: twice as many hashes are in flight.
const TOGETHER: usize = GROUP / VECTOR;

/// Round keys in every lane. Having them proves that the CPU has the features of this file's functions.
pub struct Keys {
    pub(super) child: [__m512i; 11],
    pub(super) payload: [__m512i; 11],
    pub(super) leaf: [__m512i; 11],
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

    /// See [`super::lanes::step`].
    #[allow(clippy::too_many_arguments)]
    pub(super) fn step(
        &self,
        shape: Shape,
        words: &Words,
        items: impl Items,
        number: usize,
        shift: u32,
        lanes: &mut Lanes,
    ) {
        macro_rules! with {
            ($($kind:ident),*) => {
                match shape.kind {
                    $(
                        // SAFETY: `self` proves that the features are there.
                        #[allow(unsafe_code)]
                        Kind::$kind => unsafe {
                            step::<{ Kind::$kind as u8 }, _>(self, shape, words, items, number, shift, lanes)
                        },
                    )*
                }
            };
        }
        with!(One, Two, Spare, Own)
    }

    /// See [`super::lanes::finish`].
    pub(super) fn finish(
        &self,
        party: Party,
        shape: Shape,
        words: &Words,
        items: impl Items,
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

const ONE: u8 = Kind::One as u8;
const TWO: u8 = Kind::Two as u8;
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

/// The word of each lane in both halves. The caller has checked that they are there.
#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
#[allow(unsafe_code)]
unsafe fn spread(words: &[u64], at: [usize; VECTOR]) -> __m512i {
    let words = words.as_ptr();
    // SAFETY: all of `at` are within `words` by contract.
    unsafe {
        let low = _mm_set_epi64x(*words.add(at[1]) as i64, *words.add(at[0]) as i64);
        let high = _mm_set_epi64x(*words.add(at[3]) as i64, *words.add(at[2]) as i64);
        let x = _mm512_castsi256_si512(_mm256_set_m128i(high, low));
        _mm512_permutexvar_epi64(_mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0), x)
    }
}

/// The words of all children, which are there as the caller has checked.
#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code)]
unsafe fn line<T>(words: &[Line<T>], at: usize) -> __m512i {
    const { assert!(size_of::<Line<T>>() == 64) };
    // SAFETY: `at` is within `words` by contract, and a line is 64 bytes.
    unsafe { _mm512_loadu_si512(words.as_ptr().add(at).cast()) }
}

/// Of the words of each lane those of one child, `at` by line and child. The caller has checked that they are there.
#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code)]
pub unsafe fn words_of<T>(words: &[Line<T>], at: [(usize, usize); VECTOR]) -> __m512i {
    const { assert!(size_of::<Line<T>>() == 64) };
    let words = words.as_ptr().cast::<__m128i>();
    let place = |i: usize| CHILDREN * at[i].0 + at[i].1 % CHILDREN;
    // SAFETY: lines are within `words` by contract, a line has an entry of 16 bytes for each child, and the loads need no
    // alignment.
    unsafe {
        let x = _mm512_castsi128_si512(_mm_loadu_si128(words.add(place(0))));
        let x = _mm512_inserti32x4::<1>(x, _mm_loadu_si128(words.add(place(1))));
        let x = _mm512_inserti32x4::<2>(x, _mm_loadu_si128(words.add(place(2))));
        _mm512_inserti32x4::<3>(x, _mm_loadu_si128(words.add(place(3))))
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
    x = inner_rounds(keys, x);
    for i in 0..N {
        x[i] = _mm512_aesenclast_epi128(x[i], keys[i][10]);
    }
    side_by_side(&mut x);
    x
}

/// All rounds but the first key and the last round, side by side.
#[target_feature(enable = "vaes,avx512f")]
#[inline]
fn inner_rounds<const N: usize>(keys: [&[__m512i; 11]; N], x: [__m512i; N]) -> [__m512i; N] {
    let mut x = x;
    side_by_side(&mut x);
    for round in 1..10 {
        for (x, keys) in x.iter_mut().zip(keys) {
            *x = _mm512_aesenc_epi128(*x, keys[round]);
        }
        if round % 3 == 0 {
            side_by_side(&mut x);
        }
    }
    x
}

/// [`inner_rounds`] with either key, all side by side if there are [`TOGETHER`].
#[target_feature(enable = "vaes,avx512f")]
#[inline]
fn inner_rounds_of_both<const N: usize>(
    x_key: &[__m512i; 11],
    x: [__m512i; N],
    y_key: &[__m512i; 11],
    y: [__m512i; N],
) -> ([__m512i; N], [__m512i; N]) {
    let (mut x, mut y) = (x, y);
    if let ([x0, x1, x2, x3], [y0, y1, y2, y3]) = (&mut x[..], &mut y[..]) {
        let keys = [x_key, x_key, x_key, x_key, y_key, y_key, y_key, y_key];
        [*x0, *x1, *x2, *x3, *y0, *y1, *y2, *y3] = inner_rounds(keys, [*x0, *x1, *x2, *x3, *y0, *y1, *y2, *y3]);
        return (x, y);
    }
    (inner_rounds([x_key; N], x), inner_rounds([y_key; N], y))
}

/// Where the control bits of nodes are set: both halves.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn controls(x: __m512i) -> __mmask8 {
    _mm512_test_epi64_mask(_mm512_unpacklo_epi64(x, x), _mm512_set1_epi64(1))
}

/// Vectors beyond a run of `count` that step with it: two or three left over take less time filled up than by
/// themselves, as one hash is mostly waited for.
fn padding(count: usize) -> usize {
    match count % TOGETHER {
        0 | 1 => 0,
        rest => TOGETHER - rest,
    }
}

/// Panics where an item's lanes are not there, and gives the greatest place of its words.
#[inline]
fn check<I: Items>(shape: Shape, items: I, lanes: &Lanes) -> usize {
    let (mut vector, mut at) = (0, 0);
    // Those of a run ascend.
    for i in if I::ALIKE == Alike::All { items.len() - 1 } else { 0 }..items.len() {
        let item = items.get(i);
        vector = vector.max(item.vector);
        at = at.max(if I::ALIKE == Alike::None { item.at.into_iter().fold(0, u32::max) } else { item.at[0] });
    }
    let vectors = if I::ALIKE == Alike::All { vector as usize + 1 + padding(items.len()) } else { vector as usize + 1 };
    let end = VECTOR * vectors;
    assert!(lanes.seeds.len() >= end && lanes.sums.len() >= end && lanes.points.len() >= end, "lanes of an item");
    assert!(shape.components() < 3 || lanes.third.len() >= end, "lanes of an item");
    at as usize
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

/// The same reference, of which the compiler knows nothing: else it would copy all round keys to the stack before a loop,
/// and read them there, instead of reading them where they are.
#[inline(always)]
fn opaque<T>(x: &T) -> &T {
    let mut pointer: *const T = x;
    // SAFETY: no instructions, so the pointer stays what it was.
    #[allow(unsafe_code)]
    unsafe {
        std::arch::asm!("/* {} */", inout(reg) pointer, options(readonly, nostack, preserves_flags));
        &*pointer
    }
}

/// Constants of a step.
struct Step<'a> {
    keys: &'a Keys,
    words: &'a Words<'a>,
    number: usize,
    /// The lowest of the bits of a point that choose a child.
    shift: u32,
    /// See [`spare_shifts`]: down.
    down: __m512i,
    /// Words of seeds, payloads and component 2, where all lanes have them in common.
    alike: [__m512i; 3],
}

/// Words of a vector's lanes, chosen by child.
#[derive(Clone, Copy)]
enum Chosen {
    /// From these lines of seeds, payloads and component 2.
    Lines([__m512i; 3]),
    /// They are these.
    Lanes([__m512i; 3]),
}

impl Chosen {
    /// Seeds' words are number 0, payloads' 1, those of component 2 are number 2. `halves` numbers the words' halves.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn get(self, number: usize, control: __mmask8, halves: __m512i) -> __m512i {
        match self {
            Chosen::Lines(lines) => _mm512_maskz_permutexvar_epi64(control, halves, lines[number]),
            Chosen::Lanes(words) => _mm512_maskz_mov_epi64(control, words[number]),
        }
    }
}

/// A constant for the low halves.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn in_low(x: u64) -> __m512i {
    _mm512_maskz_set1_epi64(LOW, x as i64)
}

#[target_feature(enable = "vaes,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn step<const KIND: u8, I: Items>(
    keys: &Keys,
    shape: Shape,
    words: &Words,
    items: I,
    number: usize,
    shift: u32,
    lanes: &mut Lanes,
) {
    if items.len() == 0 {
        return;
    }
    let at = check(shape, items, lanes) + number;
    let third = words.third.len() > at || KIND == ONE || KIND == TWO;
    assert!(words.seeds.len() > at && words.payloads.len() > at && third, "words of an item");
    let [down, _] = spare_shifts(shape);
    let first = items.get(0).at[0] as usize + number;
    // SAFETY: words of all items were checked.
    #[allow(unsafe_code)]
    let alike = unsafe { lines::<KIND>(words, first) };
    let constants = Step { keys, words, number, shift, down, alike };
    let count = items.len() + if I::ALIKE == Alike::All { padding(items.len()) } else { 0 };
    let mut i = 0;
    while i + TOGETHER <= count {
        // SAFETY: lanes and words of all items were checked.
        #[allow(unsafe_code)]
        unsafe {
            step_items::<KIND, I, TOGETHER>(&constants, items, i, lanes)
        }
        i += TOGETHER;
    }
    while i < count {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            step_items::<KIND, I, 1>(&constants, items, i, lanes)
        }
        i += 1;
    }
}

/// The words of all children, which are there as the caller has checked.
#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code)]
unsafe fn lines<const KIND: u8>(words: &Words, at: usize) -> [__m512i; 3] {
    // SAFETY: by contract.
    unsafe {
        let [seeds, payloads] = [line(words.seeds, at), line(words.payloads, at)];
        [seeds, payloads, if KIND == SPARE || KIND == OWN { line(words.third, at) } else { payloads }]
    }
}

/// An item's words, which are there as the caller has checked.
#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code)]
unsafe fn chosen<const KIND: u8, I: Items>(constants: &Step, item: Item, lanes: &Lanes) -> Chosen {
    let &Step { words, number, shift, alike, .. } = constants;
    let first = VECTOR * item.vector as usize;
    // SAFETY: by contract.
    unsafe {
        match I::ALIKE {
            Alike::All => Chosen::Lines(alike),
            Alike::Item => Chosen::Lines(lines::<KIND>(words, item.at[0] as usize + number)),
            Alike::None => {
                let mut places = [(0, 0); VECTOR];
                for (i, place) in places.iter_mut().enumerate() {
                    *place = (item.at[i] as usize + number, (lanes.points[first + i][0] >> shift) as usize);
                }
                let third = if KIND == SPARE || KIND == OWN { words_of(words.third, places) } else { alike[2] };
                Chosen::Lanes([words_of(words.seeds, places), words_of(words.payloads, places), third])
            }
        }
    }
}

/// Steps of `N` items from number `from` on, whose lanes and words the caller has checked: without branches, or the
/// compiler would put one hash after the other, and not side by side. The key of a hash's last round has its input added,
/// and the seed's word where the control bit is set.
///
/// Three bits, those of the child and a half, number the half of a word in a line. They lie lowest in each half of
/// `halves`, with garbage above, and so do tweaks in the low ones.
#[target_feature(enable = "vaes,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
#[inline]
#[allow(unsafe_code)]
unsafe fn step_items<const KIND: u8, I: Items, const N: usize>(
    constants: &Step,
    items: I,
    from: usize,
    lanes: &mut Lanes,
) {
    // x ^ (y & z), and x ^ y ^ z
    const XOR_AND: i32 = 0x78;
    const XOR: i32 = 0x96;
    let &Step { keys, shift, down, .. } = constants;
    let Keys { child: child_key, payload: payload_key, .. } = opaque(keys);
    let zero = _mm512_setzero_si512();
    let (whole, half) = (in_low(child_tweak(3)), in_low(half_tweak(3)));
    // Rotates the lowest bit of the child to bit 1.
    let rotation = _mm512_set1_epi64(i64::from(shift) - 1);
    let (lowest, odd) = (_mm512_set1_epi64(1), _mm512_maskz_set1_epi64(!LOW, 1));
    let [child_first, child_last] = [child_key[0], child_key[10]];
    let [payload_first, payload_last] = [payload_key[0], payload_key[10]];
    let own = in_low(OWN_TWEAK);
    let (seeds, points) = (lanes.seeds.as_mut_ptr(), lanes.points.as_ptr());
    let (sums, third_sums) = (lanes.sums.as_mut_ptr(), lanes.third.as_mut_ptr());
    let (mut inputs, mut halves, mut control, mut firsts) = ([zero; N], [zero; N], [0; N], [0; N]);
    let (mut child, mut payload, mut third, mut third_inputs) = ([zero; N], [zero; N], [zero; N], [zero; N]);
    for i in 0..N {
        firsts[i] = VECTOR * items.get(from + i).vector as usize;
        // SAFETY: the item's lanes are there by contract, and the loads need no alignment.
        let (x, points) = unsafe {
            (_mm512_loadu_si512(seeds.add(firsts[i]).cast()), _mm512_loadu_si512(points.add(firsts[i]).cast()))
        };
        control[i] = controls(x);
        halves[i] = _mm512_ternarylogic_epi64::<0xca>(lowest, odd, _mm512_rorv_epi64(points, rotation));
        inputs[i] = _mm512_ternarylogic_epi64::<XOR_AND>(x, halves[i], whole);
        child[i] = _mm512_xor_si512(inputs[i], child_first);
        payload[i] = if KIND == ONE {
            _mm512_ternarylogic_epi64::<XOR_AND>(_mm512_xor_si512(x, payload_first), halves[i], half)
        } else {
            _mm512_xor_si512(inputs[i], payload_first)
        };
        if KIND == OWN {
            third_inputs[i] = _mm512_ternarylogic_epi64::<XOR_AND>(_mm512_xor_si512(x, own), halves[i], half);
            third[i] = _mm512_xor_si512(third_inputs[i], payload_first);
        }
    }
    let whitened = payload;
    let (children, payloads) = inner_rounds_of_both(child_key, child, payload_key, payload);
    let thirds = if KIND == OWN { inner_rounds([payload_key; N], third) } else { third };
    for i in 0..N {
        let (first, control, halves) = (firsts[i], control[i], halves[i]);
        // SAFETY: the item's lanes and words are there by contract, and loads and stores need no alignment.
        unsafe {
            let words = chosen::<KIND, I>(constants, items.get(from + i), lanes);
            let key = _mm512_ternarylogic_epi64::<XOR>(inputs[i], child_last, words.get(0, control, halves));
            _mm512_storeu_si512(seeds.add(first).cast(), _mm512_aesenclast_epi128(children[i], key));

            let key = if KIND == ONE {
                _mm512_ternarylogic_epi64::<XOR>(whitened[i], payload_first, payload_last)
            } else {
                _mm512_xor_si512(inputs[i], payload_last)
            };
            let x = _mm512_aesenclast_epi128(payloads[i], key);
            let value = if KIND == ONE { choose_half(x, halves) } else { x };
            let sum = sums.add(first).cast::<__m512i>();
            let y = _mm512_add_epi64(_mm512_loadu_si512(sum), value);
            _mm512_storeu_si512(sum, _mm512_add_epi64(y, words.get(1, control, halves)));
            if KIND == SPARE || KIND == OWN {
                let value = if KIND == SPARE {
                    _mm512_srlv_epi64(x, down)
                } else {
                    let key = _mm512_xor_si512(third_inputs[i], payload_last);
                    choose_half(_mm512_aesenclast_epi128(thirds[i], key), halves)
                };
                let sum = third_sums.add(first).cast::<__m512i>();
                let y = _mm512_add_epi64(_mm512_loadu_si512(sum), value);
                _mm512_storeu_si512(sum, _mm512_add_epi64(y, words.get(2, control, halves)));
            }
        }
    }
}

/// The half of each block that belongs to the lane's child, in both halves: the high one for odd children. Bit 1 of `halves`
/// says which.
#[target_feature(enable = "avx512f")]
#[inline]
fn choose_half(x: __m512i, halves: __m512i) -> __m512i {
    _mm512_castpd_si512(_mm512_permutevar_pd(_mm512_castsi512_pd(x), halves))
}

/// Halves of each block swapped and added: the sum in both.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn add_halves(x: __m512i) -> __m512i {
    _mm512_add_epi64(x, _mm512_shuffle_epi32::<0x4e>(x))
}

/// Greatest number of a leaf's payloads whose words stay in registers.
const LEAF_IN_REGISTERS: u64 = 16;

/// The last words of one element's leaf, if two vectors hold them. The caller has checked that they are there.
#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code)]
unsafe fn leaf_words(words: &[u64], at: usize, leaf_size: u64) -> [__m512i; 2] {
    let there = ((1u32 << leaf_size.min(LEAF_IN_REGISTERS)) - 1).to_le_bytes();
    // SAFETY: the masks let words of the leaf alone be read, which are there by contract.
    unsafe {
        let words = words.as_ptr().add(at);
        [
            _mm512_maskz_loadu_epi64(there[0], words.cast()),
            _mm512_maskz_loadu_epi64(there[1], words.wrapping_add(8).cast()),
        ]
    }
}

#[target_feature(enable = "vaes,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn finish<I: Items>(
    keys: &Keys,
    party: Party,
    shape: Shape,
    words: &Words,
    items: I,
    lanes: &Lanes,
    out: &mut Components,
) {
    let (zero, sign) = (_mm512_setzero_si512(), _mm512_set1_epi64(signs(party) as i64));
    let next_block = in_low(leaf_tweak(1));
    let inside = _mm512_set1_epi64(shape.inside() as i64);
    let per_block = _mm_cvtsi32_si128(shape.per_block_log2 as i32);
    let slot = _mm_cvtsi32_si128(shape.slot_log2 as i32);
    let in_block = _mm512_set1_epi64(mask(shape.per_block_log2 as u8) as i64);
    // From the number of a payload's block among first ones to the tweak.
    let tweak = _mm_cvtsi32_si128(shape.parts() as i32);
    let components = shape.components();
    let mut in_width = [_mm512_setzero_si512(); 3];
    for (in_width, width) in in_width.iter_mut().zip(shape.widths()) {
        *in_width = _mm512_set1_epi64(mask(width) as i64);
    }
    let [down, up] = spare_shifts(shape);
    let [l0, l1, l2] = words.last;
    if items.len() == 0 {
        return;
    }
    let at = check(shape, items, lanes) + shape.inside() as usize;
    assert!([l0, l1, l2].iter().take(components).all(|words| words.len() > at), "words of an item");
    assert!(out.iter().take(components).all(|out| out.len() >= lanes.seeds.len()), "a share a lane");
    let shares = out.each_mut().map(|out| out.as_mut_ptr());
    // A leaf that all have in common stays in registers.
    let in_registers = I::ALIKE == Alike::All && shape.inside() < LEAF_IN_REGISTERS;
    let mut leaf = [[zero; 2]; MAX_COMPONENTS];
    if in_registers {
        for (leaf, words) in leaf.iter_mut().zip(words.last).take(components) {
            // SAFETY: words of all items were checked, up to the last one of a leaf.
            #[allow(unsafe_code)]
            let words = unsafe { leaf_words(words, items.get(0).at[0] as usize, shape.inside() + 1) };
            *leaf = words;
        }
    }
    let mut from = 0;
    while from < items.len() {
        // The last one again, where there are no more.
        let (mut firsts, mut places) = ([0; TOGETHER], [[0; VECTOR]; TOGETHER]);
        let (mut control, mut index, mut x) = ([0; TOGETHER], [zero; TOGETHER], [zero; TOGETHER]);
        for i in 0..TOGETHER {
            let item = items.get((from + i).min(items.len() - 1));
            firsts[i] = VECTOR * item.vector as usize;
            // SAFETY: lanes of all items were checked, and the loads need no alignment.
            #[allow(unsafe_code)]
            let (seeds, points) = unsafe {
                let seeds = _mm512_loadu_si512(lanes.seeds.as_ptr().add(firsts[i]).cast());
                (seeds, _mm512_loadu_si512(lanes.points.as_ptr().add(firsts[i]).cast()))
            };
            control[i] = controls(seeds);
            index[i] = _mm512_and_si512(points, inside);
            let tweaks = _mm512_sll_epi64(_mm512_srl_epi64(index[i], per_block), tweak);
            x[i] = _mm512_mask_xor_epi64(seeds, LOW, seeds, tweaks);
            if !in_registers {
                for (lane, (place, at)) in (firsts[i]..).zip(places[i].iter_mut().zip(item.at)) {
                    *place = at as usize + (lanes.points[lane][0] & shape.inside()) as usize;
                }
            }
        }
        let hashes = encrypt_together([&keys.leaf; TOGETHER], x);
        let mut next = x;
        if shape.kind == Kind::Own {
            for x in &mut next {
                *x = _mm512_xor_si512(*x, next_block);
            }
            let inputs = next;
            next = encrypt_together([&keys.leaf; TOGETHER], inputs);
            for (next, input) in next.iter_mut().zip(inputs) {
                *next = _mm512_xor_si512(*next, input);
            }
        }
        for i in 0..TOGETHER {
            let (first, control, index) = (firsts[i], control[i], index[i]);
            let payloads = _mm512_xor_si512(hashes[i], x[i]);
            let word = |c: usize| {
                if in_registers {
                    return _mm512_permutex2var_epi64(leaf[c][0], index, leaf[c][1]);
                }
                // SAFETY: words of all items were checked, up to the last one of a leaf.
                #[allow(unsafe_code)]
                unsafe {
                    spread(words.last[c], places[i])
                }
            };
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
            // SAFETY: lanes of all items were checked, and the load needs no alignment.
            #[allow(unsafe_code)]
            let sum = unsafe { _mm512_loadu_si512(lanes.sums.as_ptr().add(first).cast()) };
            if shape.kind == Kind::One {
                let place = _mm512_sll_epi64(_mm512_and_si512(index, in_block), slot);
                let half = LOW ^ _mm512_test_epi64_mask(place, _mm512_set1_epi64(64));
                let place = _mm512_and_si512(place, _mm512_set1_epi64(63));
                let sum = _mm512_add_epi64(sum, add_halves(_mm512_maskz_srlv_epi64(half, payloads, place)));
                put(0, 0, _mm512_mask_add_epi64(sum, control, sum, word(0)));
                continue;
            }
            let sum = _mm512_add_epi64(sum, payloads);
            let sum = _mm512_mask_add_epi64(sum, control, sum, _mm512_mask_blend_epi64(LOW, word(1), word(0)));
            put(0, 0, sum);
            put(1, 1, sum);
            if components < 3 {
                continue;
            }
            // SAFETY: as above.
            #[allow(unsafe_code)]
            let sum = unsafe { _mm512_loadu_si512(lanes.third.as_ptr().add(first).cast()) };
            let sum = if shape.kind == Kind::Spare {
                add_halves(_mm512_sllv_epi64(_mm512_add_epi64(sum, _mm512_srlv_epi64(payloads, down)), up))
            } else {
                _mm512_add_epi64(sum, next[i])
            };
            put(2, 0, _mm512_mask_add_epi64(sum, control, sum, word(2)));
        }
        from += TOGETHER;
    }
}
