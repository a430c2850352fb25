//! What the dealer sends for each instruction, piece by piece.
//!
//! A piece is a vector of elements of equal width, packed without gaps and padded to a byte. Corrections complete the
//! server's share of a correlation and go to the server; the words of comparison keys go to both parties. Pieces are
//! listed in stream order, which is the order of the correlations in the protocols' files. Those of zero bits vanish.
//! The pieces of a key are listed as bytes, since `dcf` packs them.

use crate::choose::{self, Choosing};
use crate::dcf::{Comparison, Layout};
use crate::op::Op;
use crate::program::Program;
use crate::types::*;
use crate::wire::packed_bytes;

/// Who receives a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receiver {
    /// P1 alone.
    Server,
    /// Both parties, the same bytes.
    Both,
}

/// A vector of `elements` elements of `bits` bits each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Who receives it.
    pub to: Receiver,
    /// Number of elements.
    pub elements: u64,
    /// Bits of each.
    pub bits: u64,
}

impl Piece {
    /// Bytes in the stream.
    pub fn bytes(&self) -> u64 {
        packed_bytes(self.elements, self.bits)
    }
}

/// Bytes that an instruction takes from the streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dealt {
    /// To the server alone.
    pub to_server_bytes: u64,
    /// To each of the parties.
    pub to_both_bytes: u64,
}

/// For every `open`, the bits that its readers lift it by: the greatest N - n over the reads of result width N that use
/// the shares of the mask's carry and top bit; 0 for the other instructions. Those shares are dealt at this width.
pub fn lift_bits(program: &Program) -> Vec<u8> {
    let mut bits = vec![0u8; program.instrs.len()];
    for instr in &program.instrs {
        if let Op::Choose { x, .. } = instr.op {
            bits[x.index()] = bits[x.index()].max(choose::LIFT);
        }
        // A product with a whole opening has no use for them.
        let width = match (&instr.op, &instr.ty) {
            (
                Op::Lift { .. } | Op::Square { .. } | Op::SumSquares { .. } | Op::Mul { .. } | Op::Spline { .. },
                Some(ty),
            ) => ty.width,
            (Op::Spmm { x, .. }, Some(ty)) if !program.ty(*x).is_whole() => ty.width,
            _ => continue,
        };
        for x in instr.op.operands() {
            let lift = &mut bits[x.index()];
            *lift = (*lift).max(width.saturating_sub(program.ty(x).width));
        }
    }
    bits
}

/// The weights that the entries of a module read under a mask, each with the greatest width of such a product: what the
/// client is sent once. The mask of a weight is one tensor mod 2^width; a narrower product reads its low bits.
pub fn masked_weights(entries: &[Program]) -> Vec<(Weight, Width)> {
    let mut widths = std::collections::BTreeMap::new();
    for program in entries {
        for instr in &program.instrs {
            let Op::Linear { x, weight } = instr.op else { continue };
            let width = widths.entry(weight).or_insert(0);
            *width = program.ty(x).width.max(*width);
        }
    }
    widths.into_iter().collect()
}

/// The pieces of instruction `index` of a verified program; `lift_bits` is what [`lift_bits`] gives for it.
pub fn pieces(program: &Program, index: usize, lift_bits: &[u8]) -> Vec<Piece> {
    let instr = &program.instrs[index];
    if let Op::Choose { x, .. } = instr.op {
        let to_server = |(elements, bits): (u64, Width)| Piece { to: Receiver::Server, elements, bits: bits.into() };
        return choosing(program, x).pieces().into_iter().filter(|piece| piece.0 > 0).map(to_server).collect();
    }
    let Some(ty) = &instr.ty else { return Vec::new() };
    let elements = |v: &Value| elements(&program.ty(*v).shape);
    let width = |v: &Value| i64::from(program.ty(*v).width);
    let (own, n) = (self::elements(&ty.shape), i64::from(ty.width));
    let mut out = Vec::new();
    let mut corrections = |elements: u64, bits: i64| {
        if bits > 0 {
            out.push(Piece { to: Receiver::Server, elements, bits: bits as u64 });
        }
    };
    match &instr.op {
        // Carry of the parties' shares of the mask, then its top bit.
        Op::Open { .. } => {
            let lift = i64::from(lift_bits[index]);
            corrections(own, lift);
            corrections(own, lift);
        }
        // r², then m·r.
        Op::Square { x, .. } | Op::SumSquares { x, .. } => {
            corrections(own, n);
            corrections(elements(x), n - width(x) - 1);
        }
        // r·q, r·m', m·q, m·m'.
        Op::Mul { x, y, .. } => {
            corrections(own, n);
            corrections(own, n - width(y));
            corrections(own, n - width(x));
            corrections(own, n - width(x) - width(y));
        }
        Op::Linear { .. } | Op::Sddmm { .. } => corrections(own, n),
        // A·B, then m·B if the left operand is narrow.
        Op::Spmm { x, y, .. } => {
            corrections(own, n);
            if !program.ty(*x).is_whole() {
                let k = program.ty(*y).shape.0.last().map_or(0, |&k| u64::from(k));
                corrections(elements(x) * k, n - width(x));
            }
        }
        // Cosines and sines, 2·K for every element.
        Op::Series { table, .. } => {
            let Table::Series { cos, .. } = program.table(*table) else { unreachable!("verified") };
            corrections(own * 2 * cos.len() as u64, n);
        }
        // The product of both parties' bits.
        Op::Extend { claim, .. } => corrections(own, n - i64::from(*claim)),
        // A unit vector; then the factor of the client's number, that of the server's, and the rest.
        Op::Exp { table, .. } => {
            let Table::Exp { values, .. } = program.table(*table) else { unreachable!("verified") };
            let (words, bits) = unit(values.len());
            corrections(own * words, bits);
            (0..3).for_each(|_| corrections(own, n));
        }
        // A unit vector; then the factor of the slope, and the rest.
        Op::Cells { table, .. } => {
            let Table::Cells { a, .. } = program.table(*table) else { unreachable!("verified") };
            let (words, bits) = unit(a.len());
            corrections(own * words, bits);
            (0..2).for_each(|_| corrections(own, n));
        }
        // m, then m·r, then the key.
        Op::Spline { x, .. } => {
            corrections(elements(x), n);
            corrections(elements(x), n);
            out.extend(key(program.ty(*x), Layout::spline(program.ty(*x).width, ty.width)));
        }
        // The comparison at every point; or m, then the key.
        Op::Ge { x, .. } => match Comparison::new(program.ty(*x).width, ty.width) {
            Comparison::Table { input_bits } => corrections(elements(x) << input_bits, n),
            Comparison::Key(layout) => {
                corrections(elements(x), n);
                out.extend(key(program.ty(*x), layout));
            }
        },
        // m, m·q, then the key.
        Op::Select { d, y, .. } => {
            corrections(elements(d), n);
            corrections(own, n);
            let components = program.ty(*y).shape.0.last().map_or(0, |&c| c as usize);
            out.extend(key(program.ty(*d), Layout::select(program.ty(*d).width, components, ty.width)));
        }
        _ => {}
    }
    out
}

/// A unit vector of `cells` bits: how many words it has, and the bits of each.
pub fn unit(cells: usize) -> (u64, i64) {
    ((cells as u64).div_ceil(64), cells.min(64) as i64)
}

/// Bytes of instruction `index`; see [`pieces`].
pub fn dealt(program: &Program, index: usize, lift_bits: &[u8]) -> Dealt {
    let mut dealt = Dealt::default();
    for piece in pieces(program, index, lift_bits) {
        match piece.to {
            Receiver::Server => dealt.to_server_bytes += piece.bytes(),
            Receiver::Both => dealt.to_both_bytes += piece.bytes(),
        }
    }
    dealt
}

/// The words of one comparison key per element of an opening.
fn key(opening: &Type, layout: Layout) -> Vec<Piece> {
    layout
        .piece_bytes(elements(&opening.shape))
        .into_iter()
        .filter(|bytes| *bytes > 0)
        .map(|bytes| Piece { to: Receiver::Both, elements: bytes, bits: 8 })
        .collect()
}

/// The sizes of a `choose` among the elements of an opening.
pub fn choosing(program: &Program, x: Value) -> Choosing {
    let ty = program.ty(x);
    Choosing::new(elements(&ty.shape), ty.width)
}

/// Elements of a verified shape.
pub(crate) fn elements(shape: &Shape) -> u64 {
    shape.elements().expect("verified: shapes have fewer than 2^40 elements")
}
