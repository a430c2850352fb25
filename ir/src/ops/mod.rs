//! What each op is, by family: the type of its result, its meaning on plain integers, what is dealt for it and what it sends.
//!
//! The op table names the family of every row and expands to the calls of [`Family`], so a new op is a row there and its arms in one
//! file here, next to its like.

pub(crate) mod comparison;
pub(crate) mod elementwise;
pub(crate) mod function;
pub(crate) mod layout;
pub(crate) mod opening;
pub(crate) mod product;

use crate::cost::InstrCost;
use crate::eval::Operands;
use crate::fault::Fault;
use crate::making::{Making, Requests};
use crate::material::Pieces;
use crate::op::Op;
use crate::program::{Instr, Program};
use crate::types::*;
use crate::wire::packed_bytes;

/// The ops that one file describes. Its functions are called with ops of the family alone.
pub(crate) trait Family {
    /// Type of the result of `op` in `program`, whose earlier instructions have their types; `None` if it has no result.
    fn infer(program: &Program, op: &Op) -> Result<Option<Type>, Fault>;

    /// The elements of the result mod 2^64; the caller reduces them to its width.
    fn eval(at: &Operands<'_>, op: &Op) -> Vec<i64>;

    /// What the dealer sends, in stream order.
    fn pieces(_at: Place<'_>, _out: &mut Pieces) {}

    /// What the parties exchange to make what it takes, request by request.
    fn making(_at: Making<'_>, _out: &mut Requests) {}

    /// What it adds to messages, its masked weight, and the multiply-adds of a matrix product.
    fn cost(_at: Place<'_>, _cost: &mut InstrCost) {}
}

/// An instruction of a verified program, for what it costs.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The program.
    pub program: &'a Program,
    /// The instruction.
    pub instr: &'a Instr,
    /// What its readers lift it by, if it is an opening: see [`crate::material::lift_bits`].
    pub lift_bits: u8,
}

impl<'a> Place<'a> {
    /// Type of a value.
    pub fn ty(self, v: &Value) -> &'a Type {
        self.program.ty(*v)
    }

    /// Number of elements of a value.
    pub fn elements(self, v: &Value) -> u64 {
        elements(&self.ty(v).shape)
    }

    /// Size of the last axis of a value; 1 of a scalar.
    pub fn last(self, v: &Value) -> u64 {
        self.ty(v).shape.0.last().map_or(1, |&d| u64::from(d))
    }

    /// Width of a value, to be reckoned with.
    pub fn width(self, v: &Value) -> i64 {
        i64::from(self.ty(v).width)
    }

    /// Bytes of the elements of a value at `width` bits.
    pub fn packed(self, v: &Value, width: Width) -> u64 {
        packed_bytes(self.elements(v), width.into())
    }

    /// Elements and width of the result; none of an instruction without.
    pub fn own(self) -> (u64, i64) {
        self.instr.ty.as_ref().map_or((0, 0), |ty| (elements(&ty.shape), ty.width.into()))
    }
}

/// Elements of a verified shape.
pub(crate) fn elements(shape: &Shape) -> u64 {
    shape.elements().expect("verified: shapes have fewer than 2^40 elements")
}

/// Size of an axis, and elements of what follows it.
fn dim_inner(shape: &Shape, axis: u32) -> (usize, usize) {
    let (before, after) = shape.0.split_at(axis as usize + 1);
    (before[axis as usize] as usize, after.iter().map(|&d| d as usize).product())
}

/// Adds a multiple of a row.
fn add_scaled(out: &mut [i64], factor: i64, row: &[i64]) {
    for (o, v) in out.iter_mut().zip(row) {
        *o = o.wrapping_add(factor.wrapping_mul(*v));
    }
}
