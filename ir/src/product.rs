//! Products of integer matrices mod 2^64, for the reference evaluator: as exact as a loop over `wrapping_mul`, and fast.
//!
//! Doubles hold integers below 2^53 exactly, and so do sums of products that stay below, in any order. So an operand is
//! cut into signed limbs that are narrow enough, each limb is multiplied in floating point, and the products are put
//! together mod 2^64. Where a weight is too wide for that, the loop is taken.

use ndarray::ArrayView2;
use rayon::prelude::*;

/// Bits of an integer that a double holds exactly.
const EXACT: u32 = 53;

/// Limbs narrower than this are not worth their number.
const LEAST_LIMB: u32 = 8;

/// Columns that are multiplied at once.
const BLOCK: usize = 64;

/// Rows below which a matrix is read once for each row as it is.
const FEW: usize = 4;

/// x [rows, k] times w [k, m] mod 2^64, row-major.
pub fn product(x: &[i64], w: &[i64], k: usize, m: usize) -> Vec<i64> {
    assert!(x.len().is_multiple_of(k) && w.len() == k * m, "whole rows, and a matrix of k rows");
    let rows = x.len() / k;
    let nonzero = x.iter().filter(|v| **v != 0).count();
    match limb(x, w, k) {
        // One-hot rows are mostly zeros.
        Some(limb) if rows >= FEW && nonzero * 8 >= x.len() => dense(x, w, (rows, k, m), limb),
        _ => sparse(x, w, k, m),
    }
}

/// Row by row, without the zeros.
fn sparse(x: &[i64], w: &[i64], k: usize, m: usize) -> Vec<i64> {
    let mut out = vec![0i64; x.len() / k * m];
    let part = m.div_ceil(rayon::current_num_threads()).max(BLOCK);
    for (row, out) in x.chunks_exact(k).zip(out.chunks_exact_mut(m)) {
        let places: Vec<usize> = (0..k).filter(|&i| row[i] != 0).collect();
        let add = |(at, out): (usize, &mut [i64])| {
            for &i in &places {
                let w = &w[i * m + at * part..][..out.len()];
                out.iter_mut().zip(w).for_each(|(o, w)| *o = o.wrapping_add(row[i].wrapping_mul(*w)));
            }
        };
        match places.len() * m < 1 << 16 {
            true => out.chunks_mut(part).enumerate().for_each(add),
            false => out.par_chunks_mut(part).enumerate().for_each(add),
        }
    }
    out
}

/// Bits of the limbs of x and their number.
fn limb(x: &[i64], w: &[i64], k: usize) -> Option<(u32, u32)> {
    let bits = |v: &[i64]| v.iter().map(|v| 64 - v.unsigned_abs().leading_zeros()).max().unwrap_or(0);
    // A sum of k products of a limb of at most 2^(limb - 1) and of numbers of `bits(w)` bits.
    let limb = EXACT.checked_sub(bits(w) + (usize::BITS - k.leading_zeros()))?;
    // A carry into the topmost limb may make it a bit longer.
    let count = (bits(x) + 1).div_ceil(limb.max(1)).max(1);
    (limb >= LEAST_LIMB).then_some((limb, count))
}

fn dense(x: &[i64], w: &[i64], (rows, k, m): (usize, usize, usize), (limb, count): (u32, u32)) -> Vec<i64> {
    let limbs: Vec<Vec<f64>> = (0..count).map(|i| x.iter().map(|&v| part(v, limb, i, count)).collect()).collect();
    let blocks: Vec<Vec<i64>> = (0..m.div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let (from, to) = (block * BLOCK, m.min((block + 1) * BLOCK));
            let columns: Vec<f64> = w.chunks_exact(m).flat_map(|row| &row[from..to]).map(|&v| v as f64).collect();
            let columns = ArrayView2::from_shape((k, to - from), &columns).expect("k rows of a block");
            let mut out = vec![0i64; rows * (to - from)];
            for (i, x) in (0..).zip(&limbs) {
                let product = ArrayView2::from_shape((rows, k), x).expect("rows of x").dot(&columns);
                for (o, p) in out.iter_mut().zip(&product) {
                    *o = o.wrapping_add((*p as i64).checked_shl(limb * i).unwrap_or(0));
                }
            }
            out
        })
        .collect();
    let mut out = vec![0i64; rows * m];
    for (out, row) in out.chunks_exact_mut(m).zip(0..) {
        for (out, block) in out.chunks_mut(BLOCK).zip(&blocks) {
            out.copy_from_slice(&block[row * out.len()..][..out.len()]);
        }
    }
    out
}

/// Limb i of v: v is the sum of limbs times 2^(limb·i); all but the last are in -2^(limb-1) .. 2^(limb-1).
fn part(v: i64, limb: u32, i: u32, count: u32) -> f64 {
    let mut rest = i128::from(v);
    for at in 0..=i {
        let low = (rest << (128 - limb)) >> (128 - limb);
        if at == i {
            return if i + 1 == count { rest as f64 } else { low as f64 };
        }
        rest = (rest - low) >> limb;
    }
    unreachable!("the loop ends at limb i")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, bits: u32, seed: u64) -> Vec<i64> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state as i64) >> (64 - bits)
            })
            .collect()
    }

    #[test]
    fn products_are_exact_mod_2_64() {
        for (rows, k, m) in [(1, 3, 5), (5, 7, 130), (9, 64, 64), (4, 300, 65)] {
            for (x_bits, w_bits) in [(1, 1), (12, 16), (20, 16), (33, 20), (63, 24), (64, 30), (64, 64), (40, 44)] {
                let mut x = numbers(rows * k, x_bits, 1);
                let mut w = numbers(k * m, w_bits, 2);
                // The extremes of both.
                (x[0], w[0]) = (i64::MIN >> (64 - x_bits), i64::MIN >> (64 - w_bits));
                (x[1], w[m]) = (i64::MAX >> (64 - x_bits), i64::MIN >> (64 - w_bits));
                let got = product(&x, &w, k, m);
                for (row, got) in x.chunks_exact(k).zip(got.chunks_exact(m)) {
                    for (column, got) in got.iter().enumerate() {
                        let want = (0..k).fold(0i64, |sum, i| sum.wrapping_add(row[i].wrapping_mul(w[i * m + column])));
                        assert_eq!(*got, want, "{rows}x{k}x{m}, {x_bits} and {w_bits} bits");
                    }
                }
            }
        }
    }

    #[test]
    fn one_hot_rows_choose_rows() {
        let (k, m) = (1000, 70);
        let w = numbers(k * m, 40, 3);
        let mut x = vec![0; 8 * k];
        (0..8).for_each(|row| x[row * k + 97 * row] = 1);
        let got = product(&x, &w, k, m);
        (0..8).for_each(|row| assert_eq!(got[row * m..][..m], w[97 * row * m..][..m]));
    }

    #[test]
    fn limbs_add_up() {
        for v in [0, 1, -1, 127, 128, -129, i64::MAX, i64::MIN, 0x0123_4567_89ab_cdef] {
            for limb in [8, 13, 25, 40] {
                let count = 65u32.div_ceil(limb);
                let sum: i128 = (0..count).map(|i| (part(v, limb, i, count) as i128) << (limb * i)).sum();
                assert_eq!(sum, i128::from(v), "{v} in limbs of {limb}");
            }
        }
    }
}
