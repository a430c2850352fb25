//! `mul`: product of two values that were opened narrow, element by element.
//!
//! Identity  x = e - r + v·m and y = f - q + w·l with v = k·2^n, w = k'·2^n' (see the head of [`super`]):
//!           x·y = e·f - e·q - f·r + \[r·q\] + w·(e·l - \[r·l\]) + v·(f·m - \[m·q\]) + v·w·\[m·l\], brackets mark what is
//!           dealt here.
//! Shapes    x and y broadcast to the result. Scales add.
//! Dealt     For every element of the result: r·q at N bits, r·l at N - n', m·q at N - n, m·l at N - n - n'.
//! Online    Local. Exact mod 2^N within both claims.

use super::{Dealing, Mask, Opening, Source, gather, if_client};
use crate::material::MaterialError;
use crate::ring::{self, Tensor};
use ir::{Party, Width};
use std::io;

/// Which element of x and which of y an element of the result combines.
struct Pairs {
    shape: Vec<usize>,
    at: Vec<u64>,
}

impl Pairs {
    fn new(x: &[usize], y: &[usize]) -> Pairs {
        let count = |shape: &[usize]| {
            let elements = shape.iter().product::<usize>();
            assert!(u32::try_from(elements).is_ok(), "operands of `mul` have fewer than 2^32 elements");
            Tensor::new(shape.to_vec(), (0..elements as u64).collect())
        };
        let pairs = ring::broadcast(&count(x), &count(y), |x, y| x << 32 | y);
        Pairs { shape: pairs.shape, at: pairs.data }
    }

    #[inline(always)]
    fn at(&self, i: usize) -> (usize, usize) {
        ((self.at[i] >> 32) as usize, self.at[i] as u32 as usize)
    }
}

/// A correlation, of r, m, q, l.
type Product = fn(u64, u64, u64, u64) -> u64;

/// A party's shares of the correlations.
pub struct Dealt {
    pairs: Pairs,
    rq: Vec<u64>,
    rl: Vec<u64>,
    mq: Vec<u64>,
    ml: Vec<u64>,
}

/// Bits of the four correlations.
fn bits(x: Width, y: Width, width: Width) -> [Width; 4] {
    [width, width.saturating_sub(y), width.saturating_sub(x), width.saturating_sub(x.saturating_add(y))]
}

/// The dealer's side.
pub fn deal(x: &Mask, y: &Mask, width: Width, to: &mut Dealing) -> io::Result<()> {
    let pairs = Pairs::new(&x.r.shape, &y.r.shape);
    let products: [Product; 4] =
        [|r, _, q, _| r.wrapping_mul(q), |r, _, _, l| r * l, |_, m, q, _| m * q, |_, m, _, l| m * l];
    for ((piece, bits), product) in (0..).zip(bits(x.width, y.width, width)).zip(products) {
        to.correlation(piece, 0..pairs.at.len(), bits, |i| {
            let (i, j) = pairs.at(i);
            product(x.r.data[i], x.top(i), y.r.data[j], y.top(j))
        })?;
    }
    Ok(())
}

impl Dealt {
    /// Takes a party's material.
    pub fn take(source: &mut Source, x: &Opening, y: &Opening, width: Width) -> Result<Dealt, MaterialError> {
        let pairs = Pairs::new(x.shape(), y.shape());
        let bits = bits(x.width, y.width, width);
        let mut take = |piece: u8| source.correlation(piece, 0..pairs.at.len(), bits[usize::from(piece)]);
        Ok(Dealt { rq: take(0)?, rl: take(1)?, mq: take(2)?, ml: take(3)?, pairs })
    }
}

/// A party's side.
pub fn read(party: Party, x: &Opening, y: &Opening, dealt: Dealt) -> Tensor {
    let product = gather(dealt.rq.len(), |i| {
        let (x_at, y_at) = dealt.pairs.at(i);
        let (x, y) = (x.element(x_at), y.element(y_at));
        let narrow = if_client(party, x.e.wrapping_mul(y.e))
            .wrapping_sub(x.e.wrapping_mul(y.r))
            .wrapping_sub(y.e.wrapping_mul(x.r))
            .wrapping_add(dealt.rq[i]);
        let wrap_y = x.e.wrapping_mul(y.m).wrapping_sub(dealt.rl[i]);
        let wrap_x = y.e.wrapping_mul(x.m).wrapping_sub(dealt.mq[i]).wrapping_add(y.wrap.wrapping_mul(dealt.ml[i]));
        narrow.wrapping_add(y.wrap.wrapping_mul(wrap_y)).wrapping_add(x.wrap.wrapping_mul(wrap_x))
    });
    Tensor::new(dealt.pairs.shape, product)
}
