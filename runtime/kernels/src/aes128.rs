//! AES-128 on many blocks at once, for the generator and for comparison keys.
//!
//! With VAES and AVX-512 thirty-two blocks are in flight, which is several times as fast as the `aes` crate's general
//! interface, and blocks become elements without leaving the registers; elsewhere that crate does the work, with AES-NI or in constant-time
//! software. Both are tested against each other.

use crate::cpu::Cpu;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A cipher block.
pub type Block = [u8; 16];

/// An expanded key. No `Debug`, and wiped when dropped.
#[derive(ZeroizeOnDrop)]
pub struct Aes128 {
    portable: aes::Aes128,
    /// Round keys, where the wide instructions exist.
    wide: Option<[Block; 11]>,
}

impl Aes128 {
    /// Expands a key, for the instructions that `cpu` allows and this CPU has.
    pub fn new(cpu: Cpu, key: &Block) -> Aes128 {
        #[allow(unused_mut, unused_assignments)]
        let mut wide = None;
        #[cfg(target_arch = "x86_64")]
        if cpu.level() >= crate::cpu::Level::Icelake
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("aes")
        {
            // SAFETY: `aes` and what else the function enables were detected.
            #[allow(unsafe_code)]
            let round_keys = unsafe { wide::expand(key) };
            wide = Some(round_keys);
        }
        Aes128 { portable: aes::Aes128::new(&Array::from(*key)), wide }
    }

    /// Round keys for [`wide`]: that they are there proves that VAES and all of [`crate::cpu::Level::Icelake`] may be used.
    #[cfg(target_arch = "x86_64")]
    pub fn wide_keys(&self) -> Option<&[Block; 11]> {
        self.wide.as_ref()
    }

    /// Encrypts blocks in place, each as a little-endian integer.
    pub fn encrypt(&self, blocks: &mut [u128]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(keys) = &self.wide {
            // SAFETY: `wide` is set only where the features were detected.
            #[allow(unsafe_code)]
            return unsafe { wide::encrypt_all(keys, blocks) };
        }
        let mut buffer = [[0; 16]; 64];
        for blocks in blocks.chunks_mut(buffer.len()) {
            let buffer = &mut buffer[..blocks.len()];
            blocks.iter().zip(&mut *buffer).for_each(|(x, bytes)| *bytes = x.to_le_bytes());
            self.portable.encrypt_blocks(Array::cast_slice_from_core_mut(buffer));
            blocks.iter_mut().zip(&*buffer).for_each(|(x, bytes)| *x = u128::from_le_bytes(*bytes));
        }
    }

    /// Blocks `first ..` of counter mode: the encrypted little-endian counter.
    pub fn counter(&self, first: u128, out: &mut [Block]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(keys) = &self.wide {
            // SAFETY: `wide` is set only where the features were detected.
            #[allow(unsafe_code)]
            return unsafe { wide::counter(keys, first, out) };
        }
        for (i, block) in out.iter_mut().enumerate() {
            *block = first.wrapping_add(i as u128).to_le_bytes();
        }
        self.portable.encrypt_blocks(Array::cast_slice_from_core_mut(out));
    }

    /// Elements `first ..` of counter mode: each the `low` bits of `SIZE` bytes, 1, 2, 4 or 8, as a little-endian integer.
    pub fn elements<const SIZE: usize>(&self, first: u64, low: u64, out: &mut [u64]) {
        const { assert!(SIZE == 1 || SIZE == 2 || SIZE == 4 || SIZE == 8) };
        #[cfg(target_arch = "x86_64")]
        if let Some(keys) = &self.wide {
            // SAFETY: `wide` is set only where the features were detected.
            #[allow(unsafe_code)]
            return unsafe { wide::elements::<SIZE>(keys, first, low, out) };
        }
        let mut blocks = [[0; 16]; 64];
        let (mut next, mut rest) = (first, out);
        while !rest.is_empty() {
            let in_block = (16 / SIZE) as u64;
            let skip = (next % in_block) as usize;
            let count = rest.len().min(blocks.len() * 16 / SIZE - skip);
            let used = &mut blocks[..((skip + count) * SIZE).div_ceil(16)];
            self.counter(u128::from(next / in_block), used);
            let (cells, _) = used.as_flattened().as_chunks::<SIZE>();
            let (done, after) = rest.split_at_mut(count);
            for (out, cell) in done.iter_mut().zip(&cells[skip..]) {
                let mut bytes = [0; 8];
                bytes[..SIZE].copy_from_slice(cell);
                *out = u64::from_le_bytes(bytes) & low;
            }
            used.as_flattened_mut().zeroize();
            (next, rest) = (next + count as u64, after);
        }
    }

    /// The hash x ^ AES(x) of x = `(low[i] ^ tweak, high[i])`, all slices of one length. `low` is the first half of a block
    /// as a little-endian integer.
    pub fn hash(&self, low: &[u64], high: &[u64], tweak: u64, out_low: &mut [u64], out_high: &mut [u64]) {
        let n = low.len();
        assert!(high.len() == n && out_low.len() == n && out_high.len() == n, "lengths of a batch");
        #[cfg(target_arch = "x86_64")]
        if let Some(keys) = &self.wide {
            // SAFETY: `wide` is set only where the features were detected.
            #[allow(unsafe_code)]
            return unsafe { wide::hash(keys, low, high, tweak, out_low, out_high) };
        }
        let mut blocks = [[0; 16]; 64];
        for from in (0..n).step_by(blocks.len()) {
            let range = from..(from + blocks.len()).min(n);
            let x = |i: usize| u128::from(high[i]) << 64 | u128::from(low[i] ^ tweak);
            range.clone().zip(&mut blocks).for_each(|(i, block)| *block = x(i).to_le_bytes());
            self.portable.encrypt_blocks(Array::cast_slice_from_core_mut(&mut blocks[..range.len()]));
            for (i, block) in range.zip(&blocks) {
                let y = x(i) ^ u128::from_le_bytes(*block);
                (out_low[i], out_high[i]) = (y as u64, (y >> 64) as u64);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
/// The cipher on vectors of 512 bits.
pub mod wide {
    use super::Block;
    use std::arch::x86_64::*;

    /// The key schedule of FIPS 197, section 5.2.
    #[target_feature(enable = "aes,avx512f")]
    pub(super) fn expand(key: &Block) -> [Block; 11] {
        macro_rules! schedule {
            ($key:ident: $($rcon:literal)*) => {{
                let mut keys = vec![$key];
                $(
                    let assist = _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$rcon>($key));
                    $key = _mm_xor_si128($key, _mm_slli_si128::<4>($key));
                    $key = _mm_xor_si128($key, _mm_slli_si128::<8>($key));
                    $key = _mm_xor_si128($key, assist);
                    keys.push($key);
                )*
                keys
            }};
        }
        let [low, high] = [0, 8].map(|i| i64::from_le_bytes(key[i..i + 8].try_into().expect("half a key")));
        let mut key = _mm_set_epi64x(high, low);
        let keys = schedule!(key: 0x01 0x02 0x04 0x08 0x10 0x20 0x40 0x80 0x1b 0x36);
        std::array::from_fn(|i| {
            let halves = [_mm_cvtsi128_si64(keys[i]), _mm_cvtsi128_si64(_mm_unpackhi_epi64(keys[i], keys[i]))];
            halves.map(i64::to_le_bytes).as_flattened().try_into().expect("a block")
        })
    }

    /// A round key in each of the four lanes.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F.
    #[target_feature(enable = "avx512f")]
    pub fn broadcast(keys: &[Block; 11]) -> [__m512i; 11] {
        // Loops here rather than `map`: a closure does not inherit the target features and might not be inlined.
        let mut wide = [_mm512_setzero_si512(); 11];
        for (wide, key) in wide.iter_mut().zip(keys) {
            let (low, high) = key.split_at(8);
            let half = |x: &[u8]| i64::from_le_bytes(x.try_into().expect("half a key"));
            *wide = _mm512_broadcast_i32x4(_mm_set_epi64x(half(high), half(low)));
        }
        wide
    }

    /// Encrypts vectors of four blocks.
    #[target_feature(enable = "vaes,avx512f")]
    #[inline]
    pub(super) fn encrypt<const N: usize>(keys: &[__m512i; 11], x: [__m512i; N]) -> [__m512i; N] {
        let mut x = x;
        for x in &mut x {
            *x = _mm512_xor_si512(*x, keys[0]);
        }
        for key in &keys[1..10] {
            for x in &mut x {
                *x = _mm512_aesenc_epi128(*x, *key);
            }
        }
        for x in &mut x {
            *x = _mm512_aesenclast_epi128(*x, keys[10]);
        }
        x
    }

    /// See [`super::Aes128::encrypt`].
    #[target_feature(enable = "vaes,avx512f")]
    pub(super) fn encrypt_all(keys: &[Block; 11], blocks: &mut [u128]) {
        let keys = broadcast(keys);
        for blocks in blocks.chunks_mut(4 * VECTORS) {
            let mut buffer = [0; 4 * VECTORS];
            let whole = blocks.len() == buffer.len();
            if !whole {
                buffer[..blocks.len()].copy_from_slice(blocks);
            }
            let at = if whole { blocks.as_mut_ptr() } else { buffer.as_mut_ptr() };
            let mut x = [_mm512_setzero_si512(); VECTORS];
            for (i, x) in x.iter_mut().enumerate() {
                // SAFETY: `at` points to 4 · VECTORS blocks, and the load needs no alignment.
                #[allow(unsafe_code)]
                unsafe {
                    *x = _mm512_loadu_si512(at.add(4 * i).cast());
                }
            }
            for (i, x) in encrypt(&keys, x).into_iter().enumerate() {
                // SAFETY: as for the load.
                #[allow(unsafe_code)]
                unsafe {
                    _mm512_storeu_si512(at.add(4 * i).cast(), x);
                }
            }
            if !whole {
                blocks.copy_from_slice(&buffer[..blocks.len()]);
            }
        }
    }

    /// See [`super::Aes128::counter`].
    #[target_feature(enable = "vaes,avx512f")]
    pub(super) fn counter(keys: &[Block; 11], first: u128, out: &mut [Block]) {
        let keys = broadcast(keys);
        let counters = |first: u128| {
            let half = |i: u128, high: bool| (first.wrapping_add(i) >> if high { 64 } else { 0 }) as i64;
            _mm512_set_epi64(
                half(3, true),
                half(3, false),
                half(2, true),
                half(2, false),
                half(1, true),
                half(1, false),
                half(0, true),
                half(0, false),
            )
        };
        let mut next = first;
        for out in out.chunks_mut(4 * VECTORS) {
            let mut x = [counters(next); VECTORS];
            if next as u64 <= u64::MAX - 4 * VECTORS as u64 {
                // No carry into the high half: one addition a vector.
                let step = _mm512_set_epi64(0, 4, 0, 4, 0, 4, 0, 4);
                for i in 1..VECTORS {
                    x[i] = _mm512_add_epi64(x[i - 1], step);
                }
            } else {
                for (i, x) in x.iter_mut().enumerate() {
                    *x = counters(next.wrapping_add(4 * i as u128));
                }
            }
            next = next.wrapping_add(4 * VECTORS as u128);
            let x = encrypt(&keys, x);
            let mut buffer = [[0; 16]; 4 * VECTORS];
            let whole = out.len() == buffer.len();
            let to = if whole { out.as_mut_ptr() } else { buffer.as_mut_ptr() };
            for (i, x) in x.into_iter().enumerate() {
                // SAFETY: `to` points to 4 · VECTORS blocks, and the store needs no alignment.
                #[allow(unsafe_code)]
                unsafe {
                    _mm512_storeu_si512(to.add(4 * i).cast(), x);
                }
            }
            if !whole {
                out.copy_from_slice(&buffer[..out.len()]);
            }
        }
    }

    /// Vectors of one step of [`elements`].
    const VECTORS: usize = 8;

    /// See [`super::Aes128::elements`].
    #[target_feature(enable = "vaes,avx512f,avx512bw,avx512vbmi")]
    pub(super) fn elements<const SIZE: usize>(keys: &[Block; 11], first: u64, low: u64, out: &mut [u64]) {
        let keys = broadcast(keys);
        let spread = Spread::new::<SIZE>(low);
        let in_block = 16 / SIZE as u64;
        let skip = first % in_block;
        let (mut block, mut rest) = (first / in_block, out);
        if skip > 0 {
            // The rest of a block that begins before the first element.
            let mut whole = [0; 16];
            let [x, _] = encrypt(&keys, counters(block));
            store::<SIZE>(&spread, x, &mut whole[..in_block as usize]);
            let count = rest.len().min((in_block - skip) as usize);
            let (head, after) = rest.split_at_mut(count);
            head.copy_from_slice(&whole[skip as usize..skip as usize + count]);
            (block, rest) = (block + 1, after);
        }
        // Blocks are fewer than 2^64: no carry into the high half of a counter.
        let in_vector = 64 / SIZE;
        let mut steps = rest.chunks_exact_mut(VECTORS * in_vector);
        for out in &mut steps {
            let x: [_; VECTORS] = encrypt(&keys, counters(block));
            for (x, out) in x.into_iter().zip(out.chunks_exact_mut(in_vector)) {
                for (part, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                    let y = spread.part::<SIZE>(x, part);
                    // SAFETY: `out` is eight elements, and the store needs no alignment.
                    #[allow(unsafe_code)]
                    unsafe {
                        _mm512_storeu_si512(out.as_mut_ptr().cast(), y)
                    }
                }
            }
            block += 4 * VECTORS as u64;
        }
        for out in steps.into_remainder().chunks_mut(VECTORS / 2 * in_vector) {
            let x: [_; VECTORS / 2] = encrypt(&keys, counters(block));
            for (x, out) in x.into_iter().zip(out.chunks_mut(in_vector)) {
                store::<SIZE>(&spread, x, out);
            }
            block += 2 * VECTORS as u64;
        }
    }

    /// Vectors of consecutive counters.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn counters<const N: usize>(first: u64) -> [__m512i; N] {
        let first = _mm512_set_epi64(0, first as i64, 0, first as i64, 0, first as i64, 0, first as i64);
        let mut x = [_mm512_add_epi64(first, _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0)); N];
        for i in 1..N {
            x[i] = _mm512_add_epi64(x[i - 1], _mm512_set_epi64(0, 4, 0, 4, 0, 4, 0, 4));
        }
        x
    }

    /// How the bytes of a vector become elements.
    struct Spread {
        /// Where the bytes of each eight elements lie.
        places: [__m512i; 8],
        /// The bytes of an element that are not zero.
        bytes: u64,
        low: __m512i,
    }

    impl Spread {
        #[target_feature(enable = "avx512f")]
        #[inline]
        fn new<const SIZE: usize>(low: u64) -> Spread {
            let mut places = [_mm512_setzero_si512(); 8];
            for (part, places) in places.iter_mut().enumerate().take(8 / SIZE) {
                let mut of = [0i64; 8];
                for (i, of) in of.iter_mut().enumerate() {
                    let first = ((8 * part + i) * SIZE) as i64;
                    *of = (0..SIZE as i64).fold(0, |bytes, b| bytes | (first + b) << (8 * b));
                }
                *places = _mm512_set_epi64(of[7], of[6], of[5], of[4], of[3], of[2], of[1], of[0]);
            }
            let bytes = 0x0101_0101_0101_0101 * ((1u64 << SIZE) - 1);
            Spread { places, bytes, low: _mm512_set1_epi64(low as i64) }
        }

        /// Elements `8·part ..` of a vector.
        #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
        #[inline]
        fn part<const SIZE: usize>(&self, x: __m512i, part: usize) -> __m512i {
            let spread = if SIZE == 8 { x } else { _mm512_maskz_permutexvar_epi8(self.bytes, self.places[part], x) };
            _mm512_and_si512(spread, self.low)
        }
    }

    /// The first elements of a vector, as many as `out` has.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    fn store<const SIZE: usize>(spread: &Spread, x: __m512i, out: &mut [u64]) {
        for (part, out) in out.chunks_mut(8).enumerate() {
            let there = (1u16 << out.len()) - 1;
            // SAFETY: the mask lets elements of `out` alone be written.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_mask_storeu_epi64(out.as_mut_ptr().cast(), there as u8, spread.part::<SIZE>(x, part))
            }
        }
    }

    /// Inputs of one step of [`hash`].
    const STEP: usize = 32;

    /// See [`super::Aes128::hash`], which checks the lengths.
    #[target_feature(enable = "vaes,avx512f")]
    pub(super) fn hash(
        keys: &[Block; 11],
        low: &[u64],
        high: &[u64],
        tweak: u64,
        out_low: &mut [u64],
        out_high: &mut [u64],
    ) {
        let keys = broadcast(keys);
        let (low_steps, low) = low.as_chunks::<STEP>();
        let (high_steps, high) = high.as_chunks::<STEP>();
        let (out_low_steps, out_low) = out_low.as_chunks_mut::<STEP>();
        let (out_high_steps, out_high) = out_high.as_chunks_mut::<STEP>();
        let steps = low_steps.iter().zip(high_steps).zip(out_low_steps.iter_mut().zip(out_high_steps));
        for ((low, high), (out_low, out_high)) in steps {
            hash_step(&keys, low, high, tweak, out_low, out_high);
        }
        // The rest, eight at a time and filled up with zeros.
        let rest = low.chunks(8).zip(high.chunks(8)).zip(out_low.chunks_mut(8).zip(out_high.chunks_mut(8)));
        for ((low, high), (out_low, out_high)) in rest {
            let n = low.len();
            let [mut x, mut y, mut out_x, mut out_y] = [[0; 8]; 4];
            x[..n].copy_from_slice(low);
            y[..n].copy_from_slice(high);
            hash_step(&keys, &x, &y, tweak, &mut out_x, &mut out_y);
            out_low.copy_from_slice(&out_x[..n]);
            out_high.copy_from_slice(&out_y[..n]);
        }
    }

    /// The hash of N inputs, N = 8 or [`STEP`].
    #[target_feature(enable = "vaes,avx512f")]
    #[inline]
    fn hash_step<const N: usize>(
        keys: &[__m512i; 11],
        low: &[u64; N],
        high: &[u64; N],
        tweak: u64,
        out_low: &mut [u64; N],
        out_high: &mut [u64; N],
    ) {
        const { assert!(N == 8 || N == STEP) };
        let tweak = _mm512_set1_epi64(tweak as i64);
        let vectors = N / 8;
        let mut x = [_mm512_setzero_si512(); STEP / 4];
        for i in 0..vectors {
            // SAFETY: `low` and `high` hold N = 8 · vectors elements, and the loads need no alignment.
            #[allow(unsafe_code)]
            let (low, high) = unsafe {
                let (low, high) = (low.as_ptr().add(8 * i), high.as_ptr().add(8 * i));
                (_mm512_loadu_si512(low.cast()), _mm512_loadu_si512(high.cast()))
            };
            let low = _mm512_xor_si512(low, tweak);
            // Blocks of even elements, then of odd ones: the same shuffle turns them back.
            x[2 * i] = _mm512_unpacklo_epi64(low, high);
            x[2 * i + 1] = _mm512_unpackhi_epi64(low, high);
        }
        let y: [__m512i; STEP / 4] = if N == 8 {
            let [a, b] = encrypt(keys, [x[0], x[1]]);
            let mut y = x;
            (y[0], y[1]) = (a, b);
            y
        } else {
            encrypt(keys, x)
        };
        for i in 0..vectors {
            let (a, b) = (_mm512_xor_si512(x[2 * i], y[2 * i]), _mm512_xor_si512(x[2 * i + 1], y[2 * i + 1]));
            // SAFETY: both outputs hold N = 8 · vectors elements, and the stores need no alignment.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_storeu_si512(out_low.as_mut_ptr().add(8 * i).cast(), _mm512_unpacklo_epi64(a, b));
                _mm512_storeu_si512(out_high.as_mut_ptr().add(8 * i).cast(), _mm512_unpackhi_epi64(a, b));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::test_elements;

    #[test]
    fn fips_197() {
        // Appendix C.1.
        let key: Block = std::array::from_fn(|i| i as u8);
        let plain = u128::from_le_bytes(std::array::from_fn(|i| 0x11 * i as u8));
        for cpu in Cpu::available() {
            let mut block = [[0; 16]];
            Aes128::new(cpu, &key).counter(plain, &mut block);
            assert_eq!(block, [0x69c4_e0d8_6a7b_0430_d8cd_b780_70b4_c55a_u128.to_be_bytes()], "{}", cpu.name());
        }
    }

    #[test]
    fn paths_agree() {
        let key: Block = std::array::from_fn(|i| 7 * i as u8 + 1);
        let portable = Aes128::new(Cpu::PORTABLE, &key);
        assert!(portable.wide.is_none());
        for cpu in Cpu::available() {
            let cipher = Aes128::new(cpu, &key);
            for n in [0, 1, 3, 4, 7, 8, 9, 31, 32, 33, 64, 100, 129, 1100] {
                for first in [0, 5, u128::from(u64::MAX) - 40, u128::MAX - 2] {
                    let mut got = vec![[0; 16]; n];
                    let mut want = got.clone();
                    cipher.counter(first, &mut got);
                    for (i, block) in want.iter_mut().enumerate() {
                        *block = first.wrapping_add(i as u128).to_le_bytes();
                    }
                    portable.portable.encrypt_blocks(Array::cast_slice_from_core_mut(&mut want));
                    assert_eq!(got, want, "{}, {n} blocks from {first}", cpu.name());
                }
                for first in [0, 1, 15, 16, 37, u64::from(u32::MAX)] {
                    let mut got = [(); 4].map(|()| vec![0; n]);
                    cipher.elements::<1>(first, 0x7f, &mut got[0]);
                    cipher.elements::<2>(first, u64::MAX, &mut got[1]);
                    cipher.elements::<4>(first, u64::MAX, &mut got[2]);
                    cipher.elements::<8>(first, u64::MAX >> 7, &mut got[3]);
                    for (size, got, low) in [(1, &got[0], 0x7f), (2, &got[1], 0xffff), (4, &got[2], 0xffff_ffff)]
                        .into_iter()
                        .chain([(8, &got[3], u64::MAX >> 7)])
                    {
                        let mut blocks = vec![[0; 16]; n * size / 16 + 2];
                        portable.counter(u128::from(first) * size as u128 / 16, &mut blocks);
                        let skip = (first as usize * size) % 16;
                        for (x, bytes) in got.iter().zip(blocks.as_flattened()[skip..].chunks(size)) {
                            let want = bytes.iter().rev().fold(0, |x, &b| x << 8 | u64::from(b)) & low;
                            assert_eq!(*x, want, "{}, {n} elements of {size} bytes from {first}", cpu.name());
                        }
                    }
                }
                let mut got: Vec<u128> = (0..n as u128).map(|i| (i * 0x1234_5678_9abc_def3) << 31).collect();
                let want: Vec<u128> = got
                    .iter()
                    .map(|x| {
                        let mut block = Array::from(x.to_le_bytes());
                        portable.portable.encrypt_block(&mut block);
                        u128::from_le_bytes(block.into())
                    })
                    .collect();
                cipher.encrypt(&mut got);
                assert_eq!(got, want, "{}, {n} blocks", cpu.name());
                let (low, high) = (test_elements(1, n), test_elements(2, n));
                for tweak in [0, 1, 77] {
                    let [mut got_low, mut got_high] = [vec![0; n], vec![0; n]];
                    cipher.hash(&low, &high, tweak, &mut got_low, &mut got_high);
                    for i in 0..n {
                        let x = u128::from(high[i]) << 64 | u128::from(low[i] ^ tweak);
                        let mut block = Array::from(x.to_le_bytes());
                        portable.portable.encrypt_block(&mut block);
                        let want = x ^ u128::from_le_bytes(block.into());
                        assert!(got_low[i] == want as u64 && got_high[i] == (want >> 64) as u64);
                    }
                }
            }
        }
    }
}
