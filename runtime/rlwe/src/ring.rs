//! Products of polynomials mod 2^64 and X^4096 + 1, of which one is ternary.
//!
//! The product over the integers is below 2^76 in magnitude: a coefficient is a sum of 4096 of the others with signs. It is
//! taken modulo three primes of 30 bits ([`super::ntt`]) and put together by the Chinese remainder theorem, in Garner's way,
//! with a signed last digit. Nothing depends on time or place of a coefficient's value.

use crate::ntt::{self, Factor, N, PRIMES, Prime, fold, invert, mul_mod, mul32};
use kernels::cpu::{Cpu, multiversion};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A polynomial by its values modulo the three primes. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Transformed(Vec<u64>);

/// A factor of many products: values divided by N, and their quotients. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Prepared {
    values: Vec<u64>,
    quotients: Vec<u64>,
}

/// Memory for products. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Scratch {
    /// What a transform reads.
    input: Vec<u64>,
    /// Products modulo each prime.
    residues: Vec<u64>,
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch { input: vec![0; N], residues: vec![0; 3 * N] }
    }
}

multiversion! {
    /// Residues below 4p of coefficients mod 2^64, taken as integers from 0.
    pub fn reduce(x: &[u64], p: u64, out: &mut [u64]) {
        let (one, high) = (Factor::new(1, p), Factor::new((1 << 32) % p, p));
        for (out, x) in out.iter_mut().zip(x) {
            let low = mul_mod(x & 0xffff_ffff, one.value, one.quotient, p);
            *out = low + mul_mod(x >> 32, high.value, high.quotient, p);
        }
    }
}

multiversion! {
    /// Residues of coefficients between -p and 3p.
    fn reduce_small(x: &[u64], p: u64, out: &mut [u64]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = x.wrapping_add(p));
    }
}

multiversion! {
    /// out = x·factors, element by element: below 2p for x below 2^32.
    fn multiply_elements(x: &[u64], values: &[u64], quotients: &[u64], p: u64, out: &mut [u64]) {
        let count = out.len();
        let (x, values, quotients) = (&x[..count], &values[..count], &quotients[..count]);
        for i in 0..count {
            out[i] = mul_mod(x[i], values[i], quotients[i], p);
        }
    }
}

multiversion! {
    /// Divides values below 4p by N, reduces them, and gives their quotients. Without a division: its time would tell of them.
    fn prepare(values: &mut [u64], p: u64, quotients: &mut [u64]) {
        let scale = Factor::new(invert(N as u64, p), p);
        let inverse = u64::MAX / p;
        for (value, quotient) in values.iter_mut().zip(quotients) {
            *value = fold(mul_mod(*value, scale.value, scale.quotient, p), p);
            // Right, or one too small.
            let estimate = ((u128::from(*value) * u128::from(inverse)) >> 32) as u64;
            let rest = (*value << 32).wrapping_sub(estimate.wrapping_mul(p));
            *quotient = estimate + (((p - 1).wrapping_sub(rest)) >> 63);
        }
    }
}

const fn inverse_of(i: usize, j: usize) -> Factor {
    Factor::new(invert(PRIMES[i] % PRIMES[j], PRIMES[j]), PRIMES[j])
}

/// The inverse of the first prime modulo the second, and so on.
const INVERSE_01: Factor = inverse_of(0, 1);
const INVERSE_02: Factor = inverse_of(0, 2);
const INVERSE_12: Factor = inverse_of(1, 2);

multiversion! {
    /// The integers mod 2^64 with residues x, y, z below 2p, if they are small beside the product of the primes.
    fn join(x: &[u64], y: &[u64], z: &[u64], out: &mut [u64]) {
        const P: u64 = PRIMES[0];
        const Q: u64 = PRIMES[1];
        const R: u64 = PRIMES[2];
        const ALL: u64 = (P * Q).wrapping_mul(R);
        let count = out.len();
        let (x, y, z) = (&x[..count], &y[..count], &z[..count]);
        for i in 0..count {
            let first = fold(x[i], P);
            let y = (y[i] + 2 * Q).wrapping_sub(first);
            // Below 2q each, so that their difference may be folded.
            let second = fold(mul_mod(y, INVERSE_01.value, INVERSE_01.quotient, Q), Q);
            let z = fold(z[i], R).wrapping_add(2 * R).wrapping_sub(first);
            let z = mul_mod(z, INVERSE_02.value, INVERSE_02.quotient, R);
            let z = (z + 2 * R).wrapping_sub(second);
            let third = fold(mul_mod(z, INVERSE_12.value, INVERSE_12.quotient, R), R);
            // All ones for a negative digit: its upper half.
            let negative = (R / 2).wrapping_sub(third) >> 63;
            let top = mul32(P * Q, third).wrapping_add(mul32((P * Q) >> 32, third) << 32);
            let top = top.wrapping_sub(ALL & negative.wrapping_neg());
            out[i] = top.wrapping_add(mul32(P, second)).wrapping_add(first);
        }
    }
}

impl Transformed {
    /// Of no polynomial yet.
    pub fn new() -> Transformed {
        Transformed(vec![0; 3 * N])
    }

    fn set(&mut self, scratch: &mut Scratch, reduce: impl Fn(u64, &mut [u64])) {
        for (prime, out) in Prime::all().iter().zip(self.0.chunks_exact_mut(N)) {
            reduce(prime.p, &mut scratch.input);
            ntt::forward(Cpu::get(), prime, &mut scratch.input, out);
        }
    }

    /// Becomes that of `x`, coefficients mod 2^64.
    pub fn set_whole(&mut self, x: &[u64], scratch: &mut Scratch) {
        assert_eq!(x.len(), N, "coefficients of a polynomial");
        self.set(scratch, |p, out| reduce(Cpu::get(), x, p, out));
    }

    /// Becomes that of `x`, whose coefficients are small integers mod 2^64.
    pub fn set_small(&mut self, x: &[u64], scratch: &mut Scratch) {
        assert_eq!(x.len(), N, "coefficients of a polynomial");
        self.set(scratch, |p, out| reduce_small(Cpu::get(), x, p, out));
    }

    /// As a factor of many products.
    pub fn prepared(&self) -> Prepared {
        let mut values = self.0.clone();
        let mut quotients = vec![0; 3 * N];
        for ((prime, values), quotients) in
            Prime::all().iter().zip(values.chunks_exact_mut(N)).zip(quotients.chunks_exact_mut(N))
        {
            prepare(Cpu::get(), values, prime.p, quotients);
        }
        Prepared { values, quotients }
    }
}

impl Prepared {
    /// The first coefficients of the product with `x`, mod 2^64, as many as `out` has. One of the two is ternary.
    pub fn multiply(&self, x: &Transformed, out: &mut [u64], scratch: &mut Scratch) {
        assert!(out.len() <= N, "coefficients of a polynomial");
        let Scratch { input, residues } = scratch;
        for (i, (prime, residues)) in Prime::all().iter().zip(residues.chunks_exact_mut(N)).enumerate() {
            let range = i * N..(i + 1) * N;
            let (values, quotients) = (&self.values[range.clone()], &self.quotients[range.clone()]);
            multiply_elements(Cpu::get(), &x.0[range], values, quotients, prime.p, input);
            ntt::inverse(Cpu::get(), prime, input, residues);
        }
        let (x, rest) = residues.split_at(N);
        let (y, z) = rest.split_at(N);
        join(Cpu::get(), x, y, z, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::ring::test_elements;

    /// A ternary polynomial, mod 2^64.
    fn ternary(seed: u64) -> Vec<u64> {
        test_elements(seed, N).iter().map(|x| (x >> 7) % 3).map(|x| x.wrapping_sub(1)).collect()
    }

    fn plain(x: &[u64], y: &[u64]) -> Vec<u64> {
        let mut out = vec![0u64; N];
        for (i, x) in x.iter().enumerate().filter(|(_, x)| **x != 0) {
            for (j, y) in y.iter().enumerate() {
                let product = x.wrapping_mul(*y);
                let at = &mut out[(i + j) % N];
                *at = if i + j < N { at.wrapping_add(product) } else { at.wrapping_sub(product) };
            }
        }
        out
    }

    fn product(whole: &[u64], small: &[u64], prepare_whole: bool) -> Vec<u64> {
        let (mut x, mut y, mut scratch) = (Transformed::new(), Transformed::new(), Scratch::new());
        x.set_whole(whole, &mut scratch);
        y.set_small(small, &mut scratch);
        let mut out = vec![0; N];
        match prepare_whole {
            true => x.prepared().multiply(&y, &mut out, &mut scratch),
            false => y.prepared().multiply(&x, &mut out, &mut scratch),
        }
        out
    }

    #[test]
    fn products() {
        let mut single = vec![0; N];
        single[N - 1] = u64::MAX;
        let mut alternating = vec![1; N];
        alternating.iter_mut().step_by(2).for_each(|x| *x = u64::MAX);
        let wholes = [test_elements(1, N), vec![u64::MAX; N], vec![1 << 63; N], single.clone(), vec![0; N]];
        let smalls = [ternary(2), vec![1; N], vec![u64::MAX; N], single, alternating];
        for whole in &wholes {
            for small in &smalls {
                let want = plain(whole, small);
                assert!(product(whole, small, true) == want);
                assert!(product(whole, small, false) == want);
            }
        }
    }

    #[test]
    fn quotients() {
        for prime in Prime::all() {
            let mut values = test_elements(6, 1000);
            values.iter_mut().for_each(|x| *x %= 4 * prime.p);
            values.extend([0, 1, prime.p - 1, prime.p, 2 * prime.p, 4 * prime.p - 1]);
            let mut quotients = vec![0; values.len()];
            prepare(Cpu::get(), &mut values, prime.p, &mut quotients);
            assert!(
                values.iter().zip(&quotients).all(|(x, q)| *x < prime.p && Factor::new(*x, prime.p).quotient == *q)
            );
        }
    }

    #[test]
    fn a_part_of_a_product() {
        let (whole, small) = (test_elements(3, N), ternary(4));
        let want = product(&whole, &small, false);
        let (mut x, mut y, mut scratch) = (Transformed::new(), Transformed::new(), Scratch::new());
        x.set_whole(&whole, &mut scratch);
        y.set_small(&small, &mut scratch);
        for count in [0, 1, 7, 100, N - 1] {
            let mut out = vec![0; count];
            y.prepared().multiply(&x, &mut out, &mut scratch);
            assert!(out == want[..count]);
        }
    }

    #[test]
    fn instruction_sets_agree() {
        let mut x = [test_elements(5, N), vec![0xffff_ffff; N]].concat();
        for prime in Prime::all() {
            x.iter_mut().for_each(|x| *x %= 2 * prime.p);
            let run = |cpu: Cpu| {
                let (mut there, mut back, mut low) = (vec![0; N], vec![0; N], vec![0; N]);
                for x in x.chunks_exact(N) {
                    ntt::forward(cpu, prime, &mut x.to_vec(), &mut there);
                    ntt::inverse(cpu, prime, &mut x.to_vec(), &mut back);
                    reduce(cpu, x, prime.p, &mut low);
                }
                let (mut joined, mut product, mut small) = (vec![0; N], vec![0; N], vec![0; N]);
                join(cpu, &x[..N], &back, &x[N..], &mut joined);
                multiply_elements(cpu, &low, &x[..N], &x[N..], prime.p, &mut product);
                reduce_small(cpu, &x[..N], prime.p, &mut small);
                prepare(cpu, &mut low, prime.p, &mut x[..N].to_vec());
                (there, back, low, joined, product, small)
            };
            let want = run(Cpu::PORTABLE);
            assert!(Cpu::available().into_iter().all(|cpu| run(cpu) == want));
        }
    }

    #[test]
    fn transforms_stay_in_their_bounds() {
        for prime in Prime::all() {
            for start in [4 * prime.p - 1, 3 * prime.p, 0] {
                let (mut x, mut there, mut back) = (vec![start; N], vec![0; N], vec![0; N]);
                ntt::forward(Cpu::get(), prime, &mut x, &mut there);
                assert!(there.iter().all(|x| *x < 4 * prime.p));
                there.iter_mut().for_each(|x| *x = fold(*x, 2 * prime.p));
                ntt::inverse(Cpu::get(), prime, &mut there, &mut back);
                assert!(back.iter().all(|x| *x < 2 * prime.p && *x % prime.p == start % prime.p * N as u64 % prime.p));
            }
        }
    }
}
