//! Number-theoretic transforms of length 4096 modulo primes of 30 bits, for products in Z\[X\]/(X^4096 + 1).
//!
//! The transforms and their order of twiddle factors are those of Longa and Naehrig, "Speeding up the number theoretic
//! transform for faster ideal lattice-based cryptography", CANS 2016; sums stay below 4p and products are reduced to below 2p
//! by a precomputed quotient, as in Harvey, "Faster arithmetic for number-theoretic transforms", J. Symb. Comp. 60, 2014. The
//! square of 64 x 64 elements is transposed halfway, so that every step is on whole rows and the compiler can use vectors. So
//! transformed elements are in an order of their own, which products element by element do not mind. No branch and no index
//! depends on an element.

use kernels::cpu::multiversion;
use std::sync::OnceLock;

/// Elements of a polynomial: the degree of the ring.
pub const N: usize = 4096;

/// Rows of the square, and their length.
const SIDE: usize = 64;

/// The primes: the greatest below 2^30 that are 1 mod 8192.
pub const PRIMES: [u64; 3] = [0x3fff_4001, 0x3ffe_e001, 0x3ffe_a001];

/// A factor and floor(factor·2^32 / p).
#[derive(Clone, Copy)]
pub struct Factor {
    pub value: u64,
    pub quotient: u64,
}

impl Factor {
    /// `value` is below p.
    pub const fn new(value: u64, p: u64) -> Factor {
        Factor { value, quotient: (value << 32) / p }
    }
}

/// Product of the low 32 bits.
#[inline(always)]
pub fn mul32(x: u64, y: u64) -> u64 {
    (x & 0xffff_ffff).wrapping_mul(y & 0xffff_ffff)
}

/// x·factor mod p, or p more. For x below 2^32.
#[inline(always)]
pub fn mul_mod(x: u64, value: u64, quotient: u64, p: u64) -> u64 {
    mul32(x, value).wrapping_sub(mul32(mul32(x, quotient) >> 32, p))
}

/// x, or x - m where x is m or more.
#[inline(always)]
pub fn fold(x: u64, m: u64) -> u64 {
    x.min(x.wrapping_sub(m))
}

/// What transforms modulo a prime multiply by, in one direction.
struct Twiddles {
    /// Of the steps between rows, by Longa and Naehrig's index m + i for m below [`SIDE`].
    rows: Vec<Factor>,
    /// Of the steps within rows, values and quotients: for m = SIDE·c, rows c - 1 .. 2·c - 1 of [`SIDE`] elements.
    columns: [Vec<u64>; 2],
}

impl Twiddles {
    /// Of the powers of `root`, a root of X^4096 + 1.
    fn new(root: u64, p: u64) -> Twiddles {
        let power = |i: usize| power(root, (i as u32).reverse_bits() as u64 >> (32 - N.ilog2()), p);
        let rows = (0..SIDE).map(|i| Factor::new(power(i), p)).collect();
        let mut columns = [const { Vec::new() }; 2];
        for c in [1, 2, 4, 8, 16, 32] {
            for r in 0..c {
                for i in 0..SIDE {
                    let factor = Factor::new(power(SIDE * c + i * c + r), p);
                    columns[0].push(factor.value);
                    columns[1].push(factor.quotient);
                }
            }
        }
        Twiddles { rows, columns }
    }
}

/// A prime and what its transforms need.
pub struct Prime {
    pub p: u64,
    forward: Twiddles,
    inverse: Twiddles,
}

/// base^exponent mod p, of public numbers.
pub const fn power(base: u64, exponent: u64, p: u64) -> u64 {
    let (mut result, mut square, mut rest) = (1, base % p, exponent);
    while rest > 0 {
        if rest & 1 == 1 {
            result = result * square % p;
        }
        square = square * square % p;
        rest >>= 1;
    }
    result
}

/// The inverse of x mod p.
pub const fn invert(x: u64, p: u64) -> u64 {
    power(x, p - 2, p)
}

impl Prime {
    fn new(p: u64) -> Prime {
        let roots = (2..).map(|x| power(x, (p - 1) / (2 * N as u64), p));
        let root = { roots }.find(|&root| power(root, N as u64, p) == p - 1).expect("half of all elements give a root");
        Prime { p, forward: Twiddles::new(root, p), inverse: Twiddles::new(invert(root, p), p) }
    }

    /// The three primes.
    pub fn all() -> &'static [Prime; 3] {
        static ALL: OnceLock<[Prime; 3]> = OnceLock::new();
        ALL.get_or_init(|| PRIMES.map(Prime::new))
    }
}

/// The rows `first` and `first + distance` of SIDE elements.
#[inline(always)]
fn two_rows(x: &mut [u64], first: usize, distance: usize) -> (&mut [u64], &mut [u64]) {
    let (low, high) = x.split_at_mut((first + distance) * SIDE);
    (&mut low[first * SIDE..(first + 1) * SIDE], &mut high[..SIDE])
}

#[inline(always)]
fn transpose(x: &[u64], out: &mut [u64]) {
    const TILE: usize = 8;
    for row in (0..SIDE).step_by(TILE) {
        for column in (0..SIDE).step_by(TILE) {
            for i in 0..TILE {
                let line = &mut out[(column + i) * SIDE + row..][..TILE];
                for (j, out) in line.iter_mut().enumerate() {
                    *out = x[(row + j) * SIDE + column + i];
                }
            }
        }
    }
}

/// Sum and difference of x and y·factor: below 4p if x is.
#[inline(always)]
fn forward_step(x: &mut u64, y: &mut u64, value: u64, quotient: u64, p: u64) {
    let (sum, product) = (fold(*x, 2 * p), mul_mod(*y, value, quotient, p));
    (*x, *y) = (sum + product, (sum + 2 * p).wrapping_sub(product));
}

/// Sum, and difference times factor, of elements below 2p: below 2p.
#[inline(always)]
fn inverse_step(x: &mut u64, y: &mut u64, value: u64, quotient: u64, p: u64) {
    let (sum, difference) = (fold(*x + *y, 2 * p), (*x + 2 * p).wrapping_sub(*y));
    (*x, *y) = (sum, mul_mod(difference, value, quotient, p));
}

multiversion! {
    /// Transforms `x`, elements below 4p, which it spoils, into `out`, elements below 4p.
    pub fn forward(prime: &Prime, x: &mut [u64], out: &mut [u64]) {
        let (p, twiddles) = (prime.p, &prime.forward);
        let (x, out) = (&mut x[..N], &mut out[..N]);
        let mut m = 1;
        while m < SIDE {
            let t = N / (2 * m);
            for (block, factor) in x.chunks_exact_mut(2 * t).zip(&twiddles.rows[m..2 * m]) {
                let (low, high) = block.split_at_mut(t);
                for (x, y) in low.iter_mut().zip(high) {
                    forward_step(x, y, factor.value, factor.quotient, p);
                }
            }
            m *= 2;
        }
        transpose(x, out);
        let mut c = 1;
        while c < SIDE {
            let t = SIDE / (2 * c);
            for r in 0..c {
                let at = (c - 1 + r) * SIDE;
                let [values, quotients] = twiddles.columns.each_ref().map(|column| &column[at..at + SIDE]);
                for row in 2 * r * t..(2 * r + 1) * t {
                    let (low, high) = two_rows(out, row, t);
                    for i in 0..SIDE {
                        forward_step(&mut low[i], &mut high[i], values[i], quotients[i], p);
                    }
                }
            }
            c *= 2;
        }
    }
}

multiversion! {
    /// Transforms `x`, elements below 2p, which it spoils, back into `out`, times N, elements below 2p.
    pub fn inverse(prime: &Prime, x: &mut [u64], out: &mut [u64]) {
        let (p, twiddles) = (prime.p, &prime.inverse);
        let (x, out) = (&mut x[..N], &mut out[..N]);
        let mut c = SIDE / 2;
        while c > 0 {
            let t = SIDE / (2 * c);
            for r in 0..c {
                let at = (c - 1 + r) * SIDE;
                let [values, quotients] = twiddles.columns.each_ref().map(|column| &column[at..at + SIDE]);
                for row in 2 * r * t..(2 * r + 1) * t {
                    let (low, high) = two_rows(x, row, t);
                    for i in 0..SIDE {
                        inverse_step(&mut low[i], &mut high[i], values[i], quotients[i], p);
                    }
                }
            }
            c /= 2;
        }
        transpose(x, out);
        let mut m = SIDE / 2;
        while m > 0 {
            let t = N / (2 * m);
            for (block, factor) in out.chunks_exact_mut(2 * t).zip(&twiddles.rows[m..2 * m]) {
                let (low, high) = block.split_at_mut(t);
                for (x, y) in low.iter_mut().zip(high) {
                    inverse_step(x, y, factor.value, factor.quotient, p);
                }
            }
            m /= 2;
        }
    }
}
