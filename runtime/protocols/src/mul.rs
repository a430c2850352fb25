//! `mul`: product of two values that were opened narrow, element by element.
//!
//! Identity  x = e - r + v·m and y = f - q + w·l with v = k·2^n, w = k'·2^n' (see the head of [`super`]):
//!           x·y = e·f - e·q - f·r + \[r·q\] + w·(e·l - \[r·l\]) + v·(f·m - \[m·q\]) + v·w·\[m·l\], brackets mark what is
//!           dealt here.
//! Shapes    x and y broadcast to the result. Scales add.
//! Dealt     For every element of the result: r·q at N bits, r·l at N - n', m·q at N - n, m·l at N - n - n'.
//! Online    Local. Exact mod 2^N within both claims.

use super::{Dealing, Mask, Opening, Parts, Source, TASK, Vector, View, client_bits, compute};
use crate::material::MaterialError;
use crate::pair::{Bits, Group, Making, PairError, Shares};
use ir::{Party, Width};
use kernels::cpu::{Cpu, multiversion};
use kernels::ring::{Broadcast, Buffer, Spread, Tensor};
use std::io;
use std::ops::Range;

/// A correlation, of r, m, q, l.
type Product = fn(u64, u64, u64, u64) -> u64;

/// A party's shares of the correlations.
pub struct Dealt {
    rq: Vector,
    rl: Vector,
    mq: Vector,
    ml: Vector,
}

/// Bits of the four correlations.
fn bits(x: Width, y: Width, width: Width) -> [Width; 4] {
    [width, width.saturating_sub(y), width.saturating_sub(x), width.saturating_sub(x.saturating_add(y))]
}

/// The dealer's side.
pub fn deal(x: &Mask, y: &Mask, width: Width, to: &mut Dealing) -> io::Result<()> {
    let Broadcast { shape, left, right } = Broadcast::new(&x.r.shape, &y.r.shape);
    let products: [Product; 4] =
        [|r, _, q, _| r.wrapping_mul(q), |r, _, _, l| r * l, |_, m, q, _| m * q, |_, m, _, l| m * l];
    for ((piece, bits), product) in (0..).zip(bits(x.width, y.width, width)).zip(products) {
        if bits == 0 {
            continue;
        }
        to.chunks(piece, 0..shape.iter().product(), bits, TASK, |first, out| {
            let mut other = vec![0; out.len()];
            left.copy(&x.r.data, first, out);
            right.copy(&y.r.data, first, &mut other);
            for (out, q) in out.iter_mut().zip(other) {
                *out = product(*out, *out >> (x.width - 1), q, q >> (y.width - 1));
            }
        })?;
    }
    Ok(())
}

/// Both parties' side in the dealer's place. Bits are those of the operand with fewer elements, if each goes with a row of the
/// other.
pub(crate) fn make(x: &Shares, y: &Shares, width: Width, to: &mut Making) -> Result<(), PairError> {
    let Broadcast { shape, left, right } = Broadcast::new(&x.shape, &y.shape);
    let elements: usize = shape.iter().product();
    // Copies of neighbouring elements that one of an operand becomes, if that is all that broadcasting does.
    let row = |few: &Shares, spread: &Spread| {
        let row = elements / few.len().max(1);
        let mut copies = Buffer::unset(elements);
        let places: Buffer = (0..few.len() as u64).collect();
        spread.copy(&places, 0, &mut copies);
        copies.iter().enumerate().all(|(i, &place)| (i / row) as u64 == place).then_some(row)
    };
    let all = |part: &Buffer, spread: &Spread| {
        let mut copies = Buffer::unset(if part.is_empty() { 0 } else { elements });
        if !part.is_empty() {
            spread.copy(part, 0, &mut copies);
        }
        copies
    };
    let every = |x: &Shares, spread: &Spread| Shares {
        width: x.width,
        shape: shape.clone(),
        bits: all(&x.bits, spread),
        mask: all(&x.mask, spread),
        top: all(&x.top, spread),
    };
    let [rq, rl, mq, ml] = bits(x.width, y.width, width);
    // Of r and m of one operand and bits of the other, in the order of the pieces: r·q, r·l, m·q, m·l.
    let mut pieces = |few: &Shares, many: &Shares, row: usize, swapped: bool| {
        let top = Bits::of(&few.bits, few.width - 1);
        let (of_mask, of_top) = if swapped { (mq, rl) } else { (rl, mq) };
        let mut masks = to.times(&few.bits, few.width, &many.mask, row, rq)?;
        to.correlation(Group::Sum, 0, 0, rq, std::mem::take(&mut masks))?;
        let single = |bits: Width, to: &mut Making| match bits {
            0 => Ok(Buffer::default()),
            _ => to.bit_times(top, &many.mask, row, bits),
        };
        let tops = |bits: Width, to: &mut Making| match bits {
            0 => Ok(Buffer::default()),
            _ => to.times(&few.bits, few.width, &many.top, row, bits),
        };
        let (single, tops) = (single(of_mask, to)?, tops(of_top, to)?);
        let [second, third] = if swapped { [tops, single] } else { [single, tops] };
        to.correlation(Group::Sum, 1, 0, rl, second)?;
        to.correlation(Group::Sum, 2, 0, mq, third)?;
        if ml > 0 {
            let both = to.bit_times(top, &many.top, row, ml)?;
            to.correlation(Group::Sum, 3, 0, ml, both)?;
        }
        Ok(())
    };
    match (row(x, &left), row(y, &right)) {
        (_, Some(row)) if left.is_identity() && (row > 1 || y.width <= x.width) => pieces(y, x, row, false),
        (Some(row), _) if right.is_identity() => pieces(x, y, row, true),
        _ => pieces(&every(y, &right), &every(x, &left), 1, false),
    }
}

impl Dealt {
    /// Takes a party's material.
    pub fn take(source: &mut Source, x: &Opening, y: &Opening, width: Width) -> Result<Dealt, MaterialError> {
        let elements = Broadcast::new(x.shape(), y.shape()).shape.iter().product();
        let bits = bits(x.width, y.width, width);
        let mut take = |piece: u8| source.vector(piece, 0..elements, bits[usize::from(piece)]);
        Ok(Dealt { rq: take(0)?, rl: take(1)?, mq: take(2)?, ml: take(3)? })
    }
}

/// A party's side.
pub fn read(party: Party, x: &Opening, y: &Opening, dealt: Dealt) -> Tensor {
    let Broadcast { shape, left, right } = Broadcast::new(x.shape(), y.shape());
    let (x, y) = (Operand::new(x, &left), Operand::new(y, &right));
    let dealt = [&dealt.rq, &dealt.rl, &dealt.mq, &dealt.ml];
    let product = compute(dealt, shape.iter().product(), |range, dealt, [of_x, of_y], out| {
        let mut copies = <[Vec<u64>; 2]>::default();
        let [opened_x, opened_y] = &mut copies;
        let (x, y) = (x.view(range.clone(), of_x, opened_x), y.view(range, of_y, opened_y));
        products(Cpu::get(), x, y, dealt, client_bits(party), out);
    });
    Tensor::new(shape, product)
}

/// An operand and where its elements stand in the result.
struct Operand<'a> {
    x: &'a Opening,
    spread: &'a Spread,
    /// If they are copied, its parts: they are few beside the result.
    all: Option<[Buffer; 3]>,
}

impl<'a> Operand<'a> {
    fn new(x: &'a Opening, spread: &'a Spread) -> Self {
        let all = (!spread.is_identity()).then(|| x.vectors().map(|vector| vector.all(x.len())));
        Operand { x, spread, all }
    }

    /// The elements that elements `range` of the result combine: the operand's own, or copies.
    fn view<'b>(&'b self, range: Range<usize>, parts: &'b mut Parts, opened: &'b mut Vec<u64>) -> View<'b> {
        let (x, Some(all)) = (self.x, &self.all) else { return self.x.view(range, parts) };
        for (copy, part) in parts.0.iter_mut().zip(all).chain([(&mut *opened, &x.opened.data)]) {
            copy.resize(range.len(), 0);
            self.spread.copy(part, range.start, copy);
        }
        let [mask, carry, top] = parts.0.each_ref().map(|part| &part[..]);
        View { width: x.width, offset: x.offset(), opened, mask, carry, top }
    }
}

multiversion! {
    fn products(x: View<'_>, y: View<'_>, dealt: [&[u64]; 4], client: u64, out: &mut [u64]) {
        let (x, y, [rq, rl, mq, ml]) = (x.exactly(out.len()), y.exactly(out.len()), dealt.map(|d| &d[..out.len()]));
        for (i, out) in out.iter_mut().enumerate() {
            let (x, y) = (x.element(i), y.element(i));
            let narrow = (x.e.wrapping_mul(y.e) & client)
                .wrapping_sub(x.e.wrapping_mul(y.r))
                .wrapping_sub(y.e.wrapping_mul(x.r))
                .wrapping_add(rq[i]);
            let wrap_y = x.e.wrapping_mul(y.m).wrapping_sub(rl[i]);
            let wrap_x = y.e.wrapping_mul(x.m).wrapping_sub(mq[i]).wrapping_add(y.wrap.wrapping_mul(ml[i]));
            *out = narrow.wrapping_add(y.wrap.wrapping_mul(wrap_y)).wrapping_add(x.wrap.wrapping_mul(wrap_x));
        }
    }
}
