//! Number-theoretic transforms of length 4096 modulo primes of 29 and 30 bits, for products in Z\[X\]/(X^4096 + 1).
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
pub const SIDE: usize = 64;

/// The primes: the two greatest below 2^29 and the greatest below 2^30 that are 1 mod 8192, the least first.
pub const PRIMES: [u64; 3] = [0x1ffd_4001, 0x1fff_2001, 0x3fff_4001];

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

type Row = [u64; SIDE];

/// What seven factors of three levels of steps are: one for the first level, two for the second, four for the third. A factor and
/// its quotient, or a row of each.
type Seven<T> = [[T; 2]; 7];

/// What transforms modulo a prime multiply by, in one direction. For the first three levels, then for each of eight blocks in the
/// other three.
struct Twiddles {
    /// Of the steps between rows.
    rows: Vec<Seven<u64>>,
    /// Of the steps within rows, which are between rows of the transposed square.
    columns: Vec<Seven<Row>>,
}

impl Twiddles {
    /// Of the powers of `root`, a root of X^4096 + 1.
    fn new(root: u64, p: u64) -> Twiddles {
        // By Longa and Naehrig's index: block i of the level with m blocks has number m + i.
        let factor = |number: usize| {
            let Factor { value, quotient } =
                Factor::new(power(root, u64::from((number as u32).reverse_bits() >> (32 - N.ilog2())), p), p);
            [value, quotient]
        };
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        for (blocks, block) in [(1, 0)].into_iter().chain((0..8).map(|block| (8, block))) {
            let place = |k: usize| {
                let level = (k + 1).ilog2();
                (blocks << level, (block << level) + k + 1 - (1 << level))
            };
            rows.push(std::array::from_fn(|k| {
                let (m, i) = place(k);
                factor(m + i)
            }));
            columns.push(std::array::from_fn(|k| {
                let (m, i) = place(k);
                let row: [_; SIDE] = std::array::from_fn(|column| factor(SIDE * m + column * m + i));
                [row.map(|factor| factor[0]), row.map(|factor| factor[1])]
            }));
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

/// A step of two elements, and the order of levels. No closures here: the compiler would not put them into the loops.
trait Direction {
    /// Pairs of blocks of a level, and their distance, among eight elements.
    const LEVELS: [[usize; 2]; 3];

    fn step(x: &mut u64, y: &mut u64, factor: [u64; 2], p: u64);
}

struct Forward;

impl Direction for Forward {
    const LEVELS: [[usize; 2]; 3] = [[1, 4], [2, 2], [4, 1]];

    /// Sum and difference of x and y·factor: below 4p if x is.
    #[inline(always)]
    fn step(x: &mut u64, y: &mut u64, [value, quotient]: [u64; 2], p: u64) {
        let (sum, product) = (fold(*x, 2 * p), mul_mod(*y, value, quotient, p));
        (*x, *y) = (sum + product, (sum + 2 * p).wrapping_sub(product));
    }
}

struct Inverse;

impl Direction for Inverse {
    const LEVELS: [[usize; 2]; 3] = [[4, 1], [2, 2], [1, 4]];

    /// Sum, and difference times factor, of elements below 2p: below 2p.
    #[inline(always)]
    fn step(x: &mut u64, y: &mut u64, [value, quotient]: [u64; 2], p: u64) {
        let (sum, difference) = (fold(*x + *y, 2 * p), (*x + 2 * p).wrapping_sub(*y));
        (*x, *y) = (sum, mul_mod(difference, value, quotient, p));
    }
}

trait Factors {
    /// Number k, and its quotient, at a place of a row.
    fn at(&self, k: usize, place: usize) -> [u64; 2];
}

impl Factors for Seven<u64> {
    #[inline(always)]
    fn at(&self, k: usize, _: usize) -> [u64; 2] {
        self[k]
    }
}

impl Factors for Seven<Row> {
    #[inline(always)]
    fn at(&self, k: usize, place: usize) -> [u64; 2] {
        [self[k][0][place], self[k][1][place]]
    }
}

/// Three levels of steps at each place of eight rows, which are arguments of their own, so that the compiler knows that they do
/// not overlap.
#[inline(always)]
#[rustfmt::skip]
#[allow(clippy::too_many_arguments)]
fn on_rows<D: Direction, F: Factors>(
    a: &mut Row, b: &mut Row, c: &mut Row, d: &mut Row, e: &mut Row, f: &mut Row, g: &mut Row, h: &mut Row,
    factors: &F, p: u64,
) {
    for i in 0..SIDE {
        let mut x = [a[i], b[i], c[i], d[i], e[i], f[i], g[i], h[i]];
        for [pairs, distance] in D::LEVELS {
            for pair in 0..pairs {
                for low in 2 * pair * distance..(2 * pair + 1) * distance {
                    let (mut y, mut z) = (x[low], x[low + distance]);
                    D::step(&mut y, &mut z, factors.at(pairs - 1 + pair, i), p);
                    (x[low], x[low + distance]) = (y, z);
                }
            }
        }
        [a[i], b[i], c[i], d[i], e[i], f[i], g[i], h[i]] = x;
    }
}

/// [`on_rows`] on the rows `first`, `first + distance`, ..
#[inline(always)]
fn on_eight<D: Direction, F: Factors>(x: &mut [u64], first: usize, distance: usize, factors: &F, p: u64) {
    let rows = x.as_chunks_mut().0.get_disjoint_mut([0, 1, 2, 3, 4, 5, 6, 7].map(|k| first + k * distance));
    let [a, b, c, d, e, f, g, h] = rows.expect("eight of 64 rows");
    on_rows::<D, F>(a, b, c, d, e, f, g, h, factors, p);
}

multiversion! {
    /// Transforms `x`, elements below 4p, which it spoils, into `out`, elements below 4p.
    pub fn forward(prime: &Prime, x: &mut [u64], out: &mut [u64]) {
        let (p, twiddles) = (prime.p, &prime.forward);
        let (x, out) = (&mut x[..N], &mut out[..N]);
        for first in 0..8 {
            on_eight::<Forward, _>(x, first, 8, &twiddles.rows[0], p);
        }
        for block in 0..8 {
            on_eight::<Forward, _>(x, 8 * block, 1, &twiddles.rows[1 + block], p);
        }
        transpose(x, out);
        for first in 0..8 {
            on_eight::<Forward, _>(out, first, 8, &twiddles.columns[0], p);
        }
        for block in 0..8 {
            on_eight::<Forward, _>(out, 8 * block, 1, &twiddles.columns[1 + block], p);
        }
    }
}

multiversion! {
    /// The same for an `x` of which `few` rows of 64 elements, each as far from the next, may have something in their first `most`
    /// elements; what the others have does not matter. Both are powers of two. Most steps then have a zero, and copy.
    pub fn forward_few(prime: &Prime, few: usize, most: usize, x: &mut [u64], out: &mut [u64]) {
        let (p, twiddles) = (prime.p, &prime.forward);
        let (x, out) = (&mut x[..N], &mut out[..N]);
        let distance = SIDE / few;
        for level in 0..few.trailing_zeros() {
            let (blocks, half) = (1usize << level, few >> (level + 1));
            for block in 0..blocks {
                // Factors of the first three levels, or of one block of eight of the others.
                let (seven, k) = match level {
                    0..3 => (0, blocks - 1 + block),
                    _ => (1 + (block >> (level - 3)), (blocks >> 3) - 1 + block % (blocks >> 3)),
                };
                let factor = twiddles.rows[seven][k];
                for row in 2 * block * half..(2 * block + 1) * half {
                    let (left, right) = x.split_at_mut((row + half) * distance * SIDE);
                    let left = &mut left[row * distance * SIDE..][..most];
                    for (x, y) in left.iter_mut().zip(&mut right[..most]) {
                        Forward::step(x, y, factor, p);
                    }
                }
            }
        }
        let rows = most.max(8);
        for (i, row) in out[..rows * SIDE].chunks_exact_mut(SIDE).enumerate() {
            for (place, run) in row.chunks_exact_mut(distance).enumerate() {
                run.fill(if i < most { x[place * distance * SIDE + i] } else { 0 });
            }
        }
        if most > 8 {
            out[rows * SIDE..].fill(0);
            for first in 0..8 {
                on_eight::<Forward, _>(out, first, 8, &twiddles.columns[0], p);
            }
        } else {
            let (first, others) = out.split_at_mut(8 * SIDE);
            others.chunks_exact_mut(8 * SIDE).for_each(|block| block.copy_from_slice(first));
        }
        for block in 0..8 {
            on_eight::<Forward, _>(out, 8 * block, 1, &twiddles.columns[1 + block], p);
        }
    }
}

multiversion! {
    /// Transforms `x`, elements below 2p, which it spoils, back into `out`, times N, elements below 2p.
    pub fn inverse(prime: &Prime, x: &mut [u64], out: &mut [u64]) {
        let (p, twiddles) = (prime.p, &prime.inverse);
        let (x, out) = (&mut x[..N], &mut out[..N]);
        for block in 0..8 {
            on_eight::<Inverse, _>(x, 8 * block, 1, &twiddles.columns[1 + block], p);
        }
        for first in 0..8 {
            on_eight::<Inverse, _>(x, first, 8, &twiddles.columns[0], p);
        }
        transpose(x, out);
        for block in 0..8 {
            on_eight::<Inverse, _>(out, 8 * block, 1, &twiddles.rows[1 + block], p);
        }
        for first in 0..8 {
            on_eight::<Inverse, _>(out, first, 8, &twiddles.rows[0], p);
        }
    }
}
