//! What the dealer sends for each instruction, piece by piece.
//!
//! A piece is a vector of elements of equal width, packed without gaps and padded to a byte. Corrections complete the
//! server's share of a correlation and go to the server; the words of comparison keys go to both parties. Pieces are
//! listed in stream order, which is the order of the correlations in the protocols' files. Those of zero bits vanish.
//! The pieces of a key are listed as bytes, since `dcf` packs them.

use crate::choose::{self, Choosing};
use crate::dcf::Layout;
use crate::op::Op;
use crate::ops::{Place, elements};
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
    let mut pieces = Pieces(Vec::new());
    instr.op.pieces(Place { program, instr, lift_bits: lift_bits[index] }, &mut pieces);
    pieces.0
}

/// The pieces of an instruction, as its family lists them.
pub(crate) struct Pieces(Vec<Piece>);

impl Pieces {
    /// Elements of `bits` bits for the server; none if there are no bits.
    pub fn corrections(&mut self, elements: u64, bits: i64) {
        if bits > 0 && elements > 0 {
            self.0.push(Piece { to: Receiver::Server, elements, bits: bits as u64 });
        }
    }

    /// The words of one comparison key for each element of an opening.
    pub fn key(&mut self, opening: &Type, layout: Layout) {
        let pieces = layout.piece_bytes(elements(&opening.shape)).into_iter().filter(|bytes| *bytes > 0);
        self.0.extend(pieces.map(|bytes| Piece { to: Receiver::Both, elements: bytes, bits: 8 }));
    }
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

/// The sizes of a `choose` among the elements of an opening.
pub fn choosing(program: &Program, x: Value) -> Choosing {
    let ty = program.ty(x);
    Choosing::new(elements(&ty.shape), ty.width)
}
