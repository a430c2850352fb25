//! Public arithmetic of `exp`, in integers only, so that both parties and the dealer get the same numbers.
//!
//! An opening of x with s fractional bits is cut into the number of a cell, 2^[`CELL_LOG2`] in size and so of k = CELL_LOG2 + s
//! bits, and what lies below. Parties' shares of the mask are r_p = rho_p·2^k + l_p, and with e = x + r0 + r1 mod 2^(n+k)
//!
//! ```text
//! exp(x) = T(e_high - rho0 - rho1) · E(e_low) · g(l_0) · g(l_1)
//! g(l) = exp(-l/2^s)      E(l) = g(2^k - l)      T(j) = exp((j + 1)·2^CELL_LOG2)
//! ```
//!
//! e is public, l_p is known to party p and to nobody else, rho to none. T is the program's table; the cell of x is one of three.
//! E has [`FRACTION`] bits, g those of the dealt factors. Nothing here has branches or tables, so it runs in vector registers.

use crate::types::{Scale, Table};

/// log2 of the size of a cell.
pub const CELL_LOG2: u8 = 1;

/// Fractional bits of the table and of E.
pub const FRACTION: u8 = 16;

/// Greatest scale of an opening.
pub const MAX_SCALE: Scale = 24;

/// Fractional bits of [`falling`].
const FALLING: u8 = 30;

/// 1/i! for i = 0, 1, .. at [`FALLING`] bits.
const TAYLOR: [i64; 9] = [1 << 30, 1 << 30, 1 << 29, 178_956_971, 44_739_243, 8_947_849, 1_491_308, 213_044, 26_631];

/// Bits of a cell of an opening of scale `s`, which is at most [`MAX_SCALE`].
pub fn cell_bits(s: Scale) -> u8 {
    CELL_LOG2 + s as u8
}

/// exp(-l/2^s) for 0 <= l <= 2^(s + CELL_LOG2), with 30 fractional bits, to 2^-26.
#[inline(always)]
fn falling(l: u64, s: u32) -> u64 {
    // A quarter of the argument is at most a half, where the next term is 2^-27; squared twice.
    let y = (l << 28) as i64 >> s;
    let product = |a: i64, b: i64| (a * b) >> FALLING;
    let quarter = TAYLOR[..8].iter().rev().fold(TAYLOR[8], |sum, c| c - product(sum, y));
    let half = product(quarter, quarter);
    product(half, half) as u64
}

/// A table and the scale of what it reads.
#[derive(Clone, Copy)]
pub struct Exp<'a> {
    /// T.
    pub values: &'a [i64],
    /// k.
    pub cell_bits: u8,
    scale: u32,
    public_scale: u32,
    dealt_scale: u32,
}

impl<'a> Exp<'a> {
    /// For a verified [`Table::Exp`] that reads an opening of scale `scale`; panics for another table.
    pub fn new(table: &'a Table, scale: Scale) -> Exp<'a> {
        let Table::Exp { public_scale, dealt_scale, values } = table else { panic!("not a table of exp") };
        let [public_scale, dealt_scale] = [*public_scale, *dealt_scale].map(u32::from);
        Exp { values, cell_bits: cell_bits(scale), scale: scale as u32, public_scale, dealt_scale }
    }

    /// g of a party's low bits, at the scale of the dealt factors.
    #[inline(always)]
    pub fn own(&self, l: u64) -> u64 {
        rounded(falling(l, self.scale), u32::from(FALLING) - self.dealt_scale)
    }

    /// Bits of g with a sign.
    pub fn own_bits(&self) -> u8 {
        self.own(0).ilog2() as u8 + 2
    }

    /// E of the low bits of an opening.
    #[inline(always)]
    pub fn public(&self, low: u64) -> u64 {
        rounded(falling((1 << self.cell_bits) - low, self.scale), u32::from(FALLING - FRACTION))
    }

    /// What a party sends under its mask: its reading of the table, below 2^31, times `public` and `own`.
    #[inline(always)]
    pub fn product(&self, reading: u64, public: u64, own: u64) -> u64 {
        rounded(reading * public * own, 2 * u32::from(FRACTION) + self.dealt_scale - self.public_scale)
    }

    /// The result under a mask of zero.
    pub fn unmasked(&self, x: i64) -> i64 {
        let (cell, low) = (x >> self.cell_bits, x as u64 & ((1 << self.cell_bits) - 1));
        let reading = self.values[cell as usize & (self.values.len() - 1)] as u64;
        (self.product(reading, self.public(low), self.own(0)) << self.dealt_scale) as i64
    }
}

/// x/2^by to the nearest, halves up.
#[inline(always)]
fn rounded(x: u64, by: u32) -> u64 {
    (x + (1 << by >> 1)) >> by
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falling_is_exp() {
        for s in [0, 1, 5, 10, 12, 24] {
            let count = 2u64 << s;
            for i in 0..=1000 {
                let l = i * count / 1000;
                let want = (-(l as f64) / f64::from(s).exp2()).exp();
                let got = falling(l, s) as f64 / 2f64.powi(30);
                assert!((got - want).abs() < 2f64.powi(-26), "exp(-{l}/2^{s}): {got} for {want}");
            }
        }
    }

    /// Both parties' readings differ in the cell of x alone, and what they send adds up to exp(x).
    #[test]
    fn masked_numbers_are_exp() {
        let s = 10;
        let values: Vec<i64> = (0..32i32)
            .map(|j| if j < 5 { j } else { j - 32 })
            .map(|j| (2.0 * f64::from(j + 1)).exp().min(3000.0))
            .map(|v| (v * 65536.0).round() as i64)
            .collect();
        let table = Table::Exp { public_scale: 14, dealt_scale: 15, values };
        let exp = Exp::new(&table, s);
        let unit = 2f64.powi(29);
        for i in 0..20_000u64 {
            let random = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let x = (random >> 20) as i64 % (40 << s) - (38 << s);
            let (r0, r1) = (random & 0xffff, random >> 40 & 0xffff);
            let e = (x as u64).wrapping_add(r0 + r1) & 0xffff;
            let (k, low) = (exp.cell_bits, |v: u64| v & ((1 << exp.cell_bits) - 1));
            let rho = (r0 >> k) + (r1 >> k);
            let bits = random.rotate_left(17) as u32;
            let read = |bits: u32| {
                (0..32u64)
                    .filter(|j| bits >> j & 1 == 1)
                    .map(|j| exp.values[((e >> k).wrapping_sub(j) & 31) as usize])
                    .sum::<i64>()
            };
            let (t0, t1) = (read(bits), read(bits ^ 1 << (rho & 31)));
            let (g0, g1) = (exp.own(low(r0)), exp.own(low(r1)));
            let [a0, a1] = [(t0, g0), (t1, g1)].map(|(t, g)| exp.product(t as u64, exp.public(low(e)), g) as i64);
            let sign = if bits >> (rho & 31) & 1 == 1 { 1 } else { -1 };
            let got = sign * (a0 * g1 as i64 - a1 * g0 as i64);
            let want = (x as f64 / f64::from(s).exp2()).exp();
            for got in [got, exp.unmasked(x)] {
                let error = (got as f64 / unit - want).abs();
                assert!(error < 1.2e-4 + 4e-4 * want, "exp({x}): off by {error}");
            }
        }
    }
}
