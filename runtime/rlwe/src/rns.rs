//! Polynomials of Z_q\[X\] / (X^4096 + 1) for q the product of three primes, of 88 bits, by their values at the roots of
//! X^4096 + 1 modulo each: products are element by element.
//!
//! An element of Z_q is brought to 64 bits as round(2^64·x / q), up to [`TORUS_ERROR`]: by the Chinese remainder theorem x / q is
//! Σ_i w_i / p_i mod 1 with w_i = x·(q / p_i)^-1 mod p_i, as in Halevi, Polyakov and Shoup, "An improved RNS variant of the BFV
//! homomorphic encryption scheme", CT-RSA 2019, section 2. Nothing depends on time or place of an element's value.

use crate::ntt::{self, Factor, N, PRIMES, Prime, SIDE, fold, invert, mul_mod, mul32};
use crate::ring::reduce;
use kernels::cpu::{Cpu, multiversion};
use kernels::prg::Stream;
use kernels::ring::{packed_len, unpack_range};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bits of a residue modulo each prime.
const RESIDUES: [u8; 3] = [29, 29, 30];

/// Bytes of a polynomial's values, packed.
pub const PACKED: usize = (RESIDUES[0] + RESIDUES[1] + RESIDUES[2]) as usize * N / 8;

/// 2^64 / q: a number mod q is this much less when it is brought to 64 bits.
pub const SCALE: f64 = 18_446_744_073_709_551_616.0 / (PRIMES[0] as f64 * PRIMES[1] as f64 * PRIMES[2] as f64);

/// How far an element that is brought to 64 bits may be off to either side, in units.
pub const TORUS_ERROR: u64 = 2;

/// Products of residues whose sum, beside a sum that was shrunk, stays below 2^64.
pub const GROUP: usize = 15;

/// Values of one prime whose sums are in the first-level cache.
const BLOCK: usize = 1024;

/// Parts of a polynomial's values that are in work one after another.
pub const BLOCKS: usize = 3 * N / BLOCK;

/// Values modulo the three primes, below them. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Values(pub(crate) Vec<u32>);

/// Sums of products of values. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Sums(pub(crate) Vec<u64>);

/// Memory for what is in work. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Scratch {
    pub(crate) input: Vec<u64>,
    pub(crate) output: Vec<u64>,
    residues: Vec<u64>,
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch { input: vec![0; N], output: vec![0; N], residues: vec![0; 3 * N] }
    }
}

multiversion! {
    fn add_products(x: &[u32], y: &[u32], sums: &mut [u64]) {
        let count = sums.len();
        let (x, y) = (&x[..count], &y[..count]);
        for i in 0..count {
            sums[i] = sums[i].wrapping_add(u64::from(x[i]) * u64::from(y[i]));
        }
    }
}

multiversion! {
    /// Four pairs at once: the sums are read and written once for them. No closures here: the compiler would not put them into the
    /// loop.
    fn add_four(x: [&[u32]; 4], y: [&[u32]; 4], sums: &mut [u64]) {
        let count = sums.len();
        let ([a, b, c, d], [e, f, g, h]) = (x, y);
        let (a, b, c, d) = (&a[..count], &b[..count], &c[..count], &d[..count]);
        let (e, f, g, h) = (&e[..count], &f[..count], &g[..count], &h[..count]);
        for i in 0..count {
            let first = (u64::from(a[i]) * u64::from(e[i])).wrapping_add(u64::from(b[i]) * u64::from(f[i]));
            let second = (u64::from(c[i]) * u64::from(g[i])).wrapping_add(u64::from(d[i]) * u64::from(h[i]));
            sums[i] = sums[i].wrapping_add(first.wrapping_add(second));
        }
    }
}

multiversion! {
    /// The same for three pairs.
    pub(crate) fn add_three(x: [&[u32]; 3], y: [&[u32]; 3], sums: &mut [u64]) {
        let count = sums.len();
        let ([a, b, c], [e, f, g]) = (x, y);
        let (a, b, c) = (&a[..count], &b[..count], &c[..count]);
        let (e, f, g) = (&e[..count], &f[..count], &g[..count]);
        for i in 0..count {
            let first = (u64::from(a[i]) * u64::from(e[i])).wrapping_add(u64::from(b[i]) * u64::from(f[i]));
            sums[i] = sums[i].wrapping_add(first.wrapping_add(u64::from(c[i]) * u64::from(g[i])));
        }
    }
}

multiversion! {
    /// Values below 4p, of their classes.
    fn shrink(x: &mut [u64], p: u64) {
        let (one, high) = (Factor::new(1, p), Factor::new((1 << 32) % p, p));
        for x in x.iter_mut() {
            let low = mul_mod(*x & 0xffff_ffff, one.value, one.quotient, p);
            *x = low + mul_mod(*x >> 32, high.value, high.quotient, p);
        }
    }
}

multiversion! {
    /// The residues of numbers below 4p.
    pub(crate) fn settle(x: &[u64], p: u64, out: &mut [u32]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = fold(fold(*x, 2 * p), p) as u32);
    }
}

multiversion! {
    /// Below 4p, of the classes of signed integers: `x` has what [`reduce`] gives of them as integers mod 2^64.
    fn sign(numbers: &[u64], p: u64, x: &mut [u64]) {
        // p - 2^64 mod p.
        let wrap = p - ((1 << 32) % p) * ((1 << 32) % p) % p;
        for (x, number) in x.iter_mut().zip(numbers) {
            *x = fold(*x, 2 * p) + (wrap & (number >> 63).wrapping_neg());
        }
    }
}

multiversion! {
    /// Below 4p: noise plus round(q·m / 2^width), where `x` has what [`reduce`] gives of t = q·m mod 2^width. With t as a signed
    /// number of `width` bits that is (q·m - t) / 2^width, and q is 0 mod p.
    fn embed(t: &[u64], noise: &[u64], width: u32, p: u64, inverse: Factor, x: &mut [u64]) {
        for ((x, t), noise) in x.iter_mut().zip(t).zip(noise) {
            let part = mul_mod(*x, inverse.value, inverse.quotient, p);
            *x = (3 * p).wrapping_sub(part).wrapping_add(t >> (width - 1)).wrapping_add(*noise);
        }
    }
}

/// (q / p_i)^-1 / N mod p_i, p_0 first.
const fn share(i: usize) -> Factor {
    let p = PRIMES[i];
    let others = PRIMES[(i + 1) % 3] % p * (PRIMES[(i + 2) % 3] % p) % p;
    Factor::new(invert(others * N as u64 % p, p), p)
}

const SHARES: [Factor; 3] = [share(0), share(1), share(2)];

/// The bits of 2^64 / p_i below its first, and 32 bits behind its point.
const fn fraction(i: usize) -> [u64; 2] {
    let whole = (1u128 << 96) / PRIMES[i] as u128;
    [(whole >> 32) as u64 - (1 << (64 - RESIDUES[i])), whole as u64 & 0xffff_ffff]
}

const FRACTIONS: [[u64; 2]; 3] = [fraction(0), fraction(1), fraction(2)];
const _: () = assert!(FRACTIONS[0][0] < 1 << 32 && FRACTIONS[1][0] < 1 << 32 && FRACTIONS[2][0] < 1 << 32);

multiversion! {
    /// Adds what residues below 2p, times N, of one prime are of x / q, in units of 2^-64.
    fn add_fraction(residues: &[u64], i: usize, out: &mut [u64]) {
        let (p, Factor { value, quotient }, [high, low]) = (PRIMES[i], SHARES[i], FRACTIONS[i]);
        for (out, x) in out.iter_mut().zip(residues) {
            let w = fold(mul_mod(*x, value, quotient, p), p);
            let part = (w << (64 - RESIDUES[i])).wrapping_add(mul32(w, high)).wrapping_add(mul32(w, low) >> 32);
            *out = out.wrapping_add(part);
        }
    }
}

impl Values {
    /// Of no polynomial yet.
    pub fn new() -> Values {
        Values(vec![0; 3 * N])
    }

    fn set(&mut self, scratch: &mut Scratch, residues: impl Fn(u64, &mut [u64])) {
        for (prime, out) in Prime::all().iter().zip(self.0.chunks_exact_mut(N)) {
            residues(prime.p, &mut scratch.input);
            ntt::forward(Cpu::get(), prime, &mut scratch.input, &mut scratch.output);
            settle(Cpu::get(), &scratch.output, prime.p, out);
        }
    }

    /// Become those of signed coefficients, mod 2^64.
    pub fn set_signed(&mut self, x: &[u64], scratch: &mut Scratch) {
        assert_eq!(x.len(), N, "coefficients of a polynomial");
        self.set(scratch, |p, out| {
            reduce(Cpu::get(), x, p, out);
            sign(Cpu::get(), x, p, out);
        });
    }

    /// The same for coefficients of which `few` runs, each as far from the next, may be other than zero, in their first `most`, 64 at
    /// most. Both are powers of two.
    pub fn set_few(&mut self, [few, most]: [usize; 2], x: &[u64], scratch: &mut Scratch) {
        assert!(x.len() == N && few <= SIDE && most <= SIDE, "runs of a polynomial");
        for (prime, out) in Prime::all().iter().zip(self.0.chunks_exact_mut(N)) {
            for (run, x) in scratch.input.chunks_exact_mut(N / few).zip(x.chunks_exact(N / few)) {
                reduce(Cpu::get(), &x[..most], prime.p, &mut run[..most]);
                sign(Cpu::get(), &x[..most], prime.p, &mut run[..most]);
            }
            ntt::forward_few(Cpu::get(), prime, few, most, &mut scratch.input, &mut scratch.output);
            settle(Cpu::get(), &scratch.output, prime.p, out);
        }
    }

    /// Become those of q / 2^width times coefficients, rounded, plus noise. Bits of a coefficient above `width` mean nothing.
    pub fn set_message(&mut self, x: &mut [u64], noise: &[u64], width: u8, scratch: &mut Scratch) {
        let low = kernels::ring::mask(width);
        let q = PRIMES[0].wrapping_mul(PRIMES[1]).wrapping_mul(PRIMES[2]);
        x.iter_mut().for_each(|x| *x = x.wrapping_mul(q) & low);
        self.set(scratch, |p, out| {
            reduce(Cpu::get(), x, p, out);
            let inverse = Factor::new(invert(ntt::power(2, width.into(), p), p), p);
            embed(Cpu::get(), x, noise, width.into(), p, inverse, out);
        });
    }

    /// Become polynomial number `number` of a stream: uniform, by rejection, so in a time that depends on it. For public ones.
    pub fn set_uniform(&mut self, stream: &Stream, number: u64, scratch: &mut Scratch) {
        // A number of so many bits is a residue but for 2^-13; that 129 of 4224 are not is out of reach (2^-700).
        const SPARE: usize = 128;
        let input = &mut scratch.residues[..N + SPARE];
        for (i, (p, out)) in PRIMES.into_iter().zip(self.0.chunks_exact_mut(N)).enumerate() {
            stream.fill((number * 3 + i as u64) * (N + SPARE) as u64, RESIDUES[i], input);
            let mut residues = input.iter().filter(|x| **x < p);
            out.iter_mut().for_each(|out| *out = *residues.next().expect("spare numbers") as u32);
        }
    }

    /// Less x·y, element by element.
    pub fn sub_product(&mut self, x: &Values, y: &Values, scratch: &mut Scratch) {
        for (i, (p, out)) in PRIMES.into_iter().zip(self.0.chunks_exact_mut(N)).enumerate() {
            let range = i * N..(i + 1) * N;
            let sums = &mut scratch.input;
            sums.fill(0);
            add_products(Cpu::get(), &x.0[range.clone()], &y.0[range], sums);
            shrink(Cpu::get(), sums, p);
            sums.iter_mut().zip(&*out).for_each(|(sum, x)| *sum = fold(4 * p - *sum, 2 * p) + u64::from(*x));
            settle(Cpu::get(), sums, p, out);
        }
    }

    /// Become twice themselves.
    pub fn double(&mut self) {
        for (p, values) in PRIMES.into_iter().zip(self.0.chunks_exact_mut(N)) {
            values.iter_mut().for_each(|x| *x = fold(2 * u64::from(*x), p) as u32);
        }
    }

    /// Become sums times values.
    pub fn set_product(&mut self, sums: &mut Sums, factor: &Values) {
        sums.multiply(factor);
        self.set_sums(sums);
    }

    /// Become the sums.
    pub fn set_sums(&mut self, sums: &mut Sums) {
        for (i, (p, out)) in PRIMES.into_iter().zip(self.0.chunks_exact_mut(N)).enumerate() {
            let sums = &mut sums.0[i * N..(i + 1) * N];
            shrink(Cpu::get(), sums, p);
            settle(Cpu::get(), sums, p, out);
        }
    }

    /// Become those of X^exponent / 2^halvings, mod q; the exponent is below 2·4096.
    pub fn set_monomial(&mut self, exponent: usize, halvings: u32, scratch: &mut Scratch) {
        let mut x = vec![0; N];
        x[exponent % N] = if exponent < N { 1 } else { u64::MAX };
        self.set_signed(&x, scratch);
        for (p, values) in PRIMES.into_iter().zip(self.0.chunks_exact_mut(N)) {
            let factor = invert(ntt::power(2, halvings.into(), p), p);
            values.iter_mut().for_each(|x| *x = (u64::from(*x) * factor % p) as u32);
        }
    }

    /// Packs the values into [`PACKED`] bytes.
    pub fn pack(&self, scratch: &mut Scratch, mut out: &mut [u8]) {
        for (values, bits) in self.0.chunks_exact(N).zip(RESIDUES) {
            scratch.input.iter_mut().zip(values).for_each(|(out, x)| *out = u64::from(*x));
            let part = out.split_off_mut(..packed_len(N, bits)).expect("room for all");
            kernels::ring::pack_into(&scratch.input, bits, part);
        }
    }

    /// Takes packed values; `None` if one of them is no residue.
    pub fn unpack(mut bytes: &[u8], scratch: &mut Scratch) -> Option<Values> {
        assert_eq!(bytes.len(), PACKED, "bytes of packed values");
        let mut values = Values::new();
        let mut fits = true;
        for ((out, p), bits) in values.0.chunks_exact_mut(N).zip(PRIMES).zip(RESIDUES) {
            let part = bytes.split_off(..packed_len(N, bits)).expect("bytes of all");
            unpack_range(part, bits, 0, &mut scratch.input);
            fits &= scratch.input.iter().all(|x| *x < p);
            out.iter_mut().zip(&scratch.input).for_each(|(out, x)| *out = *x as u32);
        }
        fits.then_some(values)
    }
}

impl Sums {
    /// Nothing.
    pub fn new() -> Sums {
        Sums(vec![0; 3 * N])
    }

    /// Becomes Σ of nothing.
    pub fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Adds values.
    pub fn add(&mut self, x: &Values) {
        self.0.iter_mut().zip(&x.0).for_each(|(sum, x)| *sum += u64::from(*x));
    }

    /// Adds products of pairs, [`GROUP`] - 1 of them at most.
    pub fn add_products<'a>(&mut self, pairs: impl Iterator<Item = (&'a Values, &'a Values)> + Clone) {
        (0..BLOCKS).for_each(|block| self.add_block(block, pairs.clone()));
    }

    /// The same for one of [`BLOCKS`] parts of the values.
    pub fn add_block<'a>(&mut self, block: usize, mut pairs: impl Iterator<Item = (&'a Values, &'a Values)>) {
        let range = block * BLOCK..(block + 1) * BLOCK;
        let sums = &mut self.0[range.clone()];
        let mut next = || pairs.next().map(|(x, y)| (&x.0[range.clone()], &y.0[range.clone()]));
        while let Some(first) = next() {
            match (next(), next(), next()) {
                (Some(b), Some(c), Some(d)) => {
                    add_four(Cpu::get(), [first.0, b.0, c.0, d.0], [first.1, b.1, c.1, d.1], sums);
                }
                (second, third, fourth) => {
                    for (x, y) in [Some(first), second, third, fourth].into_iter().flatten() {
                        add_products(Cpu::get(), x, y, sums);
                    }
                }
            }
        }
        shrink(Cpu::get(), sums, PRIMES[block * BLOCK / N]);
    }

    /// Becomes the values.
    pub fn set(&mut self, x: &Values) {
        self.0.iter_mut().zip(&x.0).for_each(|(sum, x)| *sum = (*x).into());
    }

    /// Times values.
    fn multiply(&mut self, factor: &Values) {
        for ((p, sums), factor) in PRIMES.into_iter().zip(self.0.chunks_exact_mut(N)).zip(factor.0.chunks_exact(N)) {
            shrink(Cpu::get(), sums, p);
            sums.iter_mut().zip(factor).for_each(|(sum, x)| *sum *= u64::from(*x));
        }
    }

    /// The coefficients, brought to 64 bits.
    pub fn coefficients(&mut self, out: &mut [u64], scratch: &mut Scratch) {
        out.fill(TORUS_ERROR);
        for (i, (prime, sums)) in Prime::all().iter().zip(self.0.chunks_exact_mut(N)).enumerate() {
            shrink(Cpu::get(), sums, prime.p);
            sums.iter_mut().for_each(|x| *x = fold(*x, 2 * prime.p));
            ntt::inverse(Cpu::get(), prime, sums, &mut scratch.output);
            add_fraction(Cpu::get(), &scratch.output, i, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::prg::Seed;
    use kernels::ring::test_elements;

    const Q: u128 = PRIMES[0] as u128 * PRIMES[1] as u128 * PRIMES[2] as u128;

    fn values(x: &[u64]) -> Values {
        let mut values = Values::new();
        values.set_signed(x, &mut Scratch::new());
        values
    }

    fn coefficients(of: &[(&Values, &Values)]) -> Vec<u64> {
        let (mut sums, mut out) = (Sums::new(), vec![0; N]);
        of.chunks(GROUP - 1).for_each(|pairs| sums.add_products(pairs.iter().copied()));
        sums.coefficients(&mut out, &mut Scratch::new());
        out
    }

    /// round(2^64·x / q), of an integer.
    fn torus(x: i128) -> u64 {
        let x = x.rem_euclid(Q as i128) as u128;
        // By halves: x is below 2^90.
        let high = (x << 32) / Q;
        let rest = (x << 32) % Q;
        ((high << 32) + ((rest << 32) + Q / 2) / Q) as u64
    }

    fn assert_near(got: &[u64], want: &[i128]) {
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let error = got.wrapping_sub(torus(*want)) as i64;
            assert!(error.unsigned_abs() <= TORUS_ERROR + 1, "coefficient {i}: {got:x} is off by {error}");
        }
    }

    #[test]
    fn products_mod_q() {
        // A sum of as many products as there may be, of coefficients at their ends among them.
        for (width, terms) in [(64, 1), (40, 3), (40, 2 * GROUP + 1), (3, 40)] {
            let small = |seed| -> Vec<u64> {
                let shift = 64 - width;
                let mut x: Vec<u64> =
                    test_elements(seed, N).iter().map(|x| ((x << shift) as i64 >> shift) as u64).collect();
                (x[0], x[N - 1]) = (1 << (width - 1), (1u64 << (width - 1)).wrapping_neg());
                x
            };
            let mut want = vec![0i128; N];
            let mut parts = Vec::new();
            for term in 0..terms {
                let (x, mut y) = (small(100 + term as u64), vec![0; N]);
                (y[0], y[7], y[N - 1]) = (3, u64::MAX, 5);
                for (shift, factor) in [(0, 3), (7, -1), (N - 1, 5)] {
                    for (i, x) in x.iter().enumerate() {
                        let (at, sign) = ((i + shift) % N, if i + shift < N { 1 } else { -1 });
                        want[at] += i128::from(*x as i64) * factor * sign;
                    }
                }
                parts.push((values(&x), values(&y)));
            }
            let pairs: Vec<(&Values, &Values)> = parts.iter().map(|(x, y)| (x, y)).collect();
            assert_near(&coefficients(&pairs), &want);
        }
    }

    #[test]
    fn few_coefficients() {
        let mut scratch = Scratch::new();
        for log_few in 0..=6 {
            for log_most in 0..=6 {
                let [few, most]: [usize; 2] = [1 << log_few, 1 << log_most];
                let (mut x, numbers) = (vec![0; N], test_elements(9, few * most));
                for (run, numbers) in x.chunks_exact_mut(N / few).zip(numbers.chunks_exact(most)) {
                    run[..most].copy_from_slice(numbers);
                }
                let mut got = Values::new();
                got.set_few([few, most], &x, &mut scratch);
                assert!(got.0 == values(&x).0, "{few} runs of {most}");
            }
        }
    }

    #[test]
    fn messages_are_scaled_and_rounded() {
        let (mut scratch, mut one) = (Scratch::new(), vec![0; N]);
        one[0] = 1;
        for width in [1, 2, 7, 31, 32, 47, 63, 64] {
            let mut x = test_elements(u64::from(width), N);
            (x[0], x[1], x[2]) = (0, u64::MAX, 1 << (width - 1));
            let noise: Vec<u64> = (0..N as u64).map(|i| (i % 43).wrapping_sub(21)).collect();
            let low = kernels::ring::mask(width);
            let want: Vec<i128> = x
                .iter()
                .zip(&noise)
                .map(|(x, noise)| {
                    // q·m / 2^width, rounded: by halves, as the product has 154 bits.
                    let (m, power) = (u128::from(x & low), 1u128 << width);
                    let (high, rest) = (Q / power * m, Q % power * m);
                    (high + (rest + power / 2) / power) as i128 + i128::from(*noise as i64)
                })
                .collect();
            let mut message = Values::new();
            message.set_message(&mut x, &noise, width, &mut scratch);
            assert_near(&coefficients(&[(&message, &values(&one))]), &want);
        }
    }

    #[test]
    fn uniform_values_pack() {
        let (stream, mut scratch) = (Seed::new([3; 32]).stream(crate::use_of(0)), Scratch::new());
        let (mut x, mut y, mut z) = (Values::new(), Values::new(), Values::new());
        x.set_uniform(&stream, 0, &mut scratch);
        y.set_uniform(&stream, 1, &mut scratch);
        assert!(x.0 != y.0 && x.0.chunks(N).zip(PRIMES).all(|(x, p)| x.iter().all(|x| u64::from(*x) < p)));
        let mean = x.0.iter().map(|x| f64::from(*x)).sum::<f64>() / (3 * N) as f64 / 2f64.powi(29);
        assert!((mean - 2.0 / 3.0).abs() < 0.02, "{mean}");
        let mut bytes = vec![0; PACKED];
        x.pack(&mut scratch, &mut bytes);
        assert!(Values::unpack(&bytes, &mut scratch).is_some_and(|back| back.0 == x.0));
        bytes[..4].fill(0xff);
        assert!(Values::unpack(&bytes, &mut scratch).is_none());
        // x - y·1 + y·1 = x.
        let mut one = vec![0; N];
        one[0] = 1;
        z.set_uniform(&stream, 0, &mut scratch);
        z.sub_product(&y, &values(&one), &mut scratch);
        let mut sums = Sums::new();
        sums.add_products([(&y, &values(&one)), (&z, &values(&one))].into_iter());
        let mut back = vec![0; N];
        sums.coefficients(&mut back, &mut scratch);
        assert!(back == coefficients(&[(&x, &values(&one))]));
    }

    #[test]
    fn instruction_sets_agree() {
        let (x, small) = (test_elements(5, N), test_elements(6, N));
        let words: Vec<u32> = test_elements(7, N).iter().map(|x| (x >> 35) as u32).collect();
        for (i, p) in PRIMES.into_iter().enumerate() {
            let below: Vec<u64> = small.iter().map(|x| x % (2 * p)).collect();
            let run = |cpu: Cpu| {
                let (mut sums, mut shrunk, mut settled) = (x.clone(), x.clone(), vec![0; N]);
                add_products(cpu, &words, &words, &mut sums);
                add_four(cpu, [&words; 4], [&words; 4], &mut sums);
                add_three(cpu, [&words; 3], [&words; 3], &mut sums);
                shrink(cpu, &mut shrunk, p);
                settle(cpu, &shrunk, p, &mut settled);
                let mut few = vec![0; N];
                ntt::forward_few(cpu, &Prime::all()[i], 4, 16, &mut below.clone(), &mut few);
                let (mut signed, mut embedded, mut fraction) = (below.clone(), below.clone(), x.clone());
                sign(cpu, &small, p, &mut signed);
                embed(cpu, &x, &small, 64, p, Factor::new(5, p), &mut embedded);
                add_fraction(cpu, &below, i, &mut fraction);
                (sums, shrunk, settled, few, signed, embedded, fraction)
            };
            assert!(Cpu::available().into_iter().all(|cpu| run(cpu) == run(Cpu::PORTABLE)));
        }
    }
}
