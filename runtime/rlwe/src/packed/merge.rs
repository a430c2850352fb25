//! Merging ciphertexts: of two, in whose messages every coefficient whose place is a multiple of 2h counts, one in whose message
//! those at multiples of h do.
//!
//! With σ: X -> X^(N/h + 1), coefficients at even multiples of h stay where they are, at odd ones they change their sign. So
//! (x + X^h·y) + σ(x - X^h·y) has twice those of x at even multiples and twice those of y at odd ones; whatever else was there
//! does not matter, or is cancelled. The image of a ciphertext is one under σ(s): its first half is brought under s by a key, an
//! encryption of σ(s), as in Chen, Dai, Kim and Song, "Efficient homomorphic conversion between (ring) LWE ciphertexts", ACNS 2021.
//!
//! The first half is cut into digits: its residues modulo each prime, whole or, for less noise, in two parts of 15 bits. Number i of
//! the primes has an element of Z_q that is 1 modulo it and 0 modulo the others, so the key of a digit adds 2^(15·part)·σ(s) modulo that
//! prime alone, and the key of lower parts serves for whole residues as well.
//!
//! Ciphertexts under several secrets that share their first half go on sharing it, as keys share theirs: what is cut and transformed
//! is the shared half alone.

use super::plan::Plan;
use crate::ntt::{self, Factor, N, PRIMES, Prime, fold, invert, mul_mod};
use crate::rns::{PACKED, Scratch, Sums, Values, add_three, settle};
use kernels::cpu::{Cpu, multiversion};
use std::collections::HashMap;
use std::sync::OnceLock;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Distances that ciphertexts are merged at: powers of two.
pub const DISTANCES: usize = N.ilog2() as usize;

/// Residues of an element of Z_q.
pub const DIGITS: usize = 3;

/// Parts of a residue, at most.
pub const PARTS: usize = 2;

/// Bits of a part.
const PART: u32 = 15;

/// The greatest absolute value of a part.
const HALF: u64 = 1 << (PART - 1);

/// What the squares of a polynomial's digits add up to at most.
pub fn digits_squared(parts: usize) -> f64 {
    let greatest = if parts == 1 { (PRIMES[2] / 2) as f64 } else { HALF as f64 };
    (parts * DIGITS * N) as f64 * greatest * greatest
}

/// Ciphertexts under several secrets: the half that they share, then one for each of them. b_i + a·s_i is a message.
pub type Ciphertext = Vec<Values>;

/// A key of an automorphism, for whole residues or one part: for each of them encryptions of the image of each secret.
pub type Key = Vec<Ciphertext>;

/// The number of a key's first half.
pub fn key_number(log: usize, part: usize, digit: usize) -> u64 {
    ((log * PARTS + part) * DIGITS + digit) as u64
}

/// Which keys of automorphisms the server has: of each distance and part, for how many secrets.
#[derive(Default)]
pub struct Known([[usize; PARTS]; DISTANCES]);

impl Known {
    /// The keys that a plan takes and the server does not have yet, which it then has: distance, part, secret and digit.
    pub(super) fn learn(&mut self, plan: &Plan) -> Vec<(usize, usize, usize, usize)> {
        let mut lacking = Vec::new();
        for (log, part) in plan.keys() {
            let known = &mut self.0[log][part];
            let secrets = *known..plan.secrets();
            lacking.extend(secrets.flat_map(|i| (0..DIGITS).map(move |digit| (log, part, i, digit))));
            *known = plan.secrets().max(*known);
        }
        lacking
    }

    /// Bytes of these keys.
    pub(crate) fn lacking(&mut self, plan: &Plan) -> usize {
        self.learn(plan).len() * PACKED
    }
}

/// What merging at a distance takes.
struct Distance {
    /// Values of X^h, and their quotients for products ([`Factor`]).
    monomial: [Vec<u32>; 2],
    /// Where the image has the values of: of the polynomial at a root's power is that of the image at the root.
    places: Vec<u16>,
}

/// Of the distances 1, 2, 4, ..
fn distances() -> &'static [Distance] {
    static ALL: OnceLock<Vec<Distance>> = OnceLock::new();
    ALL.get_or_init(|| {
        let powers = powers();
        let mut at = vec![0; 2 * N];
        powers.iter().zip(0..).for_each(|(power, place)| at[*power] = place);
        let distance = |log: usize| {
            let mut monomial = Values::new();
            monomial.set_monomial(1 << log, 0, &mut Scratch::new());
            let exponent = (N >> log) + 1;
            let of = |i: usize| monomial.0[i * N..(i + 1) * N].iter().map(move |x| Factor::new((*x).into(), PRIMES[i]));
            let factors: Vec<Factor> = (0..PRIMES.len()).flat_map(of).collect();
            let monomial = [
                factors.iter().map(|factor| factor.value as u32).collect(),
                factors.iter().map(|factor| factor.quotient as u32).collect(),
            ];
            Distance { monomial, places: powers.iter().map(|power| at[power * exponent % (2 * N)]).collect() }
        };
        (0..DISTANCES).map(distance).collect()
    })
}

/// Which power of a root of X^4096 + 1 each place of transformed elements has the value at. The same for all primes.
fn powers() -> Vec<usize> {
    let prime = &Prime::all()[0];
    let (mut x, mut values) = (vec![0; N], vec![0; N]);
    x[1] = 1;
    ntt::forward(Cpu::get(), prime, &mut x, &mut values);
    let of = |value: u64| fold(fold(value, 2 * prime.p), prime.p);
    let (root, mut power, mut powers) = (of(values[0]), 1, HashMap::new());
    for i in 0..2 * N {
        powers.insert(power, i);
        power = power * root % prime.p;
    }
    values.iter().map(|value| powers[&of(*value)]).collect()
}

/// Becomes the image of `x` under the automorphism of the distance 2^log.
pub fn set_image(x: &Values, log: usize, out: &mut Values) {
    let places = &distances()[log].places;
    for (x, out) in x.0.chunks_exact(N).zip(out.0.chunks_exact_mut(N)) {
        out.iter_mut().zip(places).for_each(|(out, place)| *out = x[usize::from(*place)]);
    }
}

/// Adds what a part of a residue stands for, times `z`.
pub fn add_digit(values: &mut Values, digit: usize, part: usize, z: &Values) {
    let (range, p) = (digit * N..(digit + 1) * N, PRIMES[digit]);
    let factor = Factor::new(if part == 0 { 1 } else { 1 << PART }, p);
    for (out, z) in values.0[range.clone()].iter_mut().zip(&z.0[range]) {
        let z = fold(mul_mod((*z).into(), factor.value, factor.quotient, p), p);
        *out = fold(u64::from(*out) + z, p) as u32;
    }
}

multiversion! {
    /// Sum, below 3p, and difference, below 2p, of a and b·x, of residues below p; x with its quotients.
    fn turn(a: &[u32], b: &[u32], x: [&[u32]; 2], p: u64, sum: &mut [u64], difference: &mut [u32]) {
        let count = sum.len();
        let (a, b, difference) = (&a[..count], &b[..count], &mut difference[..count]);
        let (x, quotients) = (&x[0][..count], &x[1][..count]);
        for i in 0..count {
            let part = mul_mod(b[i].into(), x[i].into(), quotients[i].into(), p);
            sum[i] = u64::from(a[i]) + part;
            difference[i] = fold(u64::from(a[i]) + 2 * p - part, 2 * p) as u32;
        }
    }
}

multiversion! {
    /// The representatives of least absolute value, mod 2^64, of residues that are below 2p and times N.
    fn centre(residues: &[u64], p: u64, out: &mut [u64]) {
        let share = Factor::new(invert(N as u64, p), p);
        for (out, x) in out.iter_mut().zip(residues) {
            let x = fold(mul_mod(*x, share.value, share.quotient, p), p);
            *out = x.wrapping_sub(p & ((p >> 1).wrapping_sub(x) >> 63).wrapping_neg());
        }
    }
}

multiversion! {
    /// Both signed parts of signed integers, mod 2^64: the lower stays.
    fn split(low: &mut [u64], high: &mut [u64]) {
        for (low, high) in low.iter_mut().zip(high) {
            let part = (low.wrapping_add(HALF) & (2 * HALF - 1)).wrapping_sub(HALF);
            *high = ((low.wrapping_sub(part) as i64) >> PART) as u64;
            *low = part;
        }
    }
}

multiversion! {
    /// Below 4p, of integers between -2p and 2p, mod 2^64.
    fn lift(x: &[u64], p: u64, out: &mut [u64]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = x.wrapping_add((2 * p) & (x >> 63).wrapping_neg()));
    }
}

/// Memory for a merging. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Work {
    scratch: Scratch,
    difference: Values,
    sums: Sums,
    /// Digits as integers.
    digits: Vec<u64>,
    /// Their values modulo each prime.
    values: Vec<Values>,
}

impl Work {
    pub fn new() -> Work {
        let (difference, sums, values) = (Values::new(), Sums::new(), vec![Values::new(); PARTS * DIGITS]);
        Work { scratch: Scratch::new(), difference, sums, digits: vec![0; PARTS * DIGITS * N], values }
    }
}

/// `even` becomes twice what it and `odd` are, merged at the distance 2^log. The keys, one for each part of residues, are of that
/// distance and at least as many secrets.
pub fn merge(even: &mut Ciphertext, odd: &Ciphertext, log: usize, keys: &[Key], work: &mut Work) {
    let (cpu, Distance { monomial, places }) = (Cpu::get(), &distances()[log]);
    let Work { scratch, difference, sums, digits, values } = work;
    let of = |i: usize| i * N..(i + 1) * N;
    for (number, (even, odd)) in even.iter_mut().zip(odd).enumerate() {
        for (i, p) in PRIMES.into_iter().enumerate() {
            let (sum, difference) = (&mut sums.0[of(i)], &mut difference.0[of(i)]);
            let factors = monomial.each_ref().map(|factors| &factors[of(i)]);
            turn(cpu, &even.0[of(i)], &odd.0[of(i)], factors, p, sum, difference);
        }
        if number == 0 {
            // The image of the shared half is cut, and does not stay.
            for (i, prime) in Prime::all().iter().enumerate() {
                let difference = &difference.0[of(i)];
                scratch
                    .input
                    .iter_mut()
                    .zip(places)
                    .for_each(|(out, place)| *out = difference[usize::from(*place)].into());
                ntt::inverse(cpu, prime, &mut scratch.input, &mut scratch.output);
                centre(cpu, &scratch.output, prime.p, &mut digits[of(i)]);
            }
            if keys.len() == PARTS {
                let (low, high) = digits.split_at_mut(DIGITS * N);
                split(cpu, low, high);
            }
            for (digit, values) in digits.chunks_exact(N).take(keys.len() * DIGITS).zip(&mut *values) {
                for (i, prime) in Prime::all().iter().enumerate() {
                    lift(cpu, digit, prime.p, &mut scratch.input);
                    ntt::forward(cpu, prime, &mut scratch.input, &mut scratch.output);
                    settle(cpu, &scratch.output, prime.p, &mut values.0[of(i)]);
                }
            }
        } else {
            for i in 0..PRIMES.len() {
                let difference = &difference.0[of(i)];
                let images = places.iter().map(|place| u64::from(difference[usize::from(*place)]));
                sums.0[of(i)].iter_mut().zip(images).for_each(|(sum, image)| *sum += image);
            }
        }
        for (key, values) in keys.iter().zip(values.chunks_exact(DIGITS)) {
            for i in 0..PRIMES.len() {
                let digits = [0, 1, 2].map(|d| &values[d].0[of(i)]);
                add_three(cpu, digits, [0, 1, 2].map(|d| &key[d][number].0[of(i)]), &mut sums.0[of(i)]);
            }
        }
        even.set_sums(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::ring::test_elements;

    #[test]
    fn images_are_those_of_the_automorphism() {
        let x = [3u64, 5, 7, 11];
        for log in 0..DISTANCES {
            let exponent = (N >> log) + 1;
            let places = [0, 1, 2 << log, N - 1];
            let (mut from, mut to) = (vec![0u64; N], vec![0u64; N]);
            for (place, x) in places.into_iter().zip(x) {
                from[place % N] = x;
            }
            for (place, x) in from.iter().enumerate() {
                let at = place * exponent % (2 * N);
                to[at % N] = if at < N { *x } else { x.wrapping_neg() };
            }
            let (mut a, mut b, mut image) = (Values::new(), Values::new(), Values::new());
            a.set_signed(&from, &mut Scratch::new());
            b.set_signed(&to, &mut Scratch::new());
            set_image(&a, log, &mut image);
            assert!(image.0 == b.0, "distance 2^{log}");
        }
    }

    #[test]
    fn digits_make_up_residues() {
        for p in PRIMES {
            let mut x: Vec<u64> = test_elements(p, N).iter().map(|x| x % p).collect();
            (x[0], x[1], x[2], x[3], x[4]) = (0, 1, p - 1, p / 2, p / 2 + 1);
            let times_n: Vec<u64> = x.iter().map(|x| x * N as u64 % p).collect();
            let mut low = vec![0; N];
            centre(Cpu::get(), &times_n, p, &mut low);
            for (x, centred) in x.iter().zip(&low) {
                let centred = *centred as i64;
                assert!(centred.unsigned_abs() <= PRIMES[2] / 2, "{centred}");
                assert_eq!(centred.rem_euclid(p as i64) as u64, *x);
            }
            let mut high = vec![0; N];
            split(Cpu::get(), &mut low, &mut high);
            for (x, (low, high)) in x.iter().zip(low.iter().zip(&high)) {
                let (low, high) = (*low as i64, *high as i64);
                assert!(low.abs().max(high.abs()) <= HALF as i64, "{low} {high}");
                assert_eq!((low + (high << PART)).rem_euclid(p as i64) as u64, *x);
            }
        }
    }

    #[test]
    fn instruction_sets_agree() {
        for p in PRIMES {
            let words = |seed| -> Vec<u32> { test_elements(seed, N).iter().map(|x| (x % p) as u32).collect() };
            let (a, b, x) = (words(1), words(2), words(3));
            let residues: Vec<u64> = test_elements(4, N).iter().map(|x| x % (2 * p)).collect();
            let quotients: Vec<u32> = x.iter().map(|x| Factor::new((*x).into(), p).quotient as u32).collect();
            let run = |cpu: Cpu| {
                let (mut sum, mut difference) = (vec![0; N], vec![0; N]);
                let (mut centred, mut lifted) = (vec![0; N], vec![0; N]);
                turn(cpu, &a, &b, [&x, &quotients], p, &mut sum, &mut difference);
                centre(cpu, &residues, p, &mut centred);
                lift(cpu, &centred, p, &mut lifted);
                let mut high = vec![0; N];
                split(cpu, &mut centred, &mut high);
                (sum, difference, centred, high, lifted)
            };
            assert!(Cpu::available().into_iter().all(|cpu| run(cpu) == run(Cpu::PORTABLE)));
            let (sum, difference, ..) = run(Cpu::get());
            for i in 0..N {
                let product = u64::from(b[i]) * u64::from(x[i]) % p;
                assert_eq!(sum[i] % p, (u64::from(a[i]) + product) % p);
                assert_eq!(u64::from(difference[i]) % p, (u64::from(a[i]) + p - product) % p);
            }
        }
    }
}
