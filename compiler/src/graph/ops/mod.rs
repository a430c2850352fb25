//! The ops of the graph, one file for each family: type rule, kernel and text of an op stand side by side.

mod arithmetic;
mod attention;
mod compare;
mod embed;
mod matmul;
mod moves;
mod norm;
mod pick;
mod reduce;
mod rotary;
mod softmax;
mod source;
mod unary;

pub use attention::{HeadScores, for_scores, windowed};

use super::kernel::View;
use super::shape::{Operands, Typed};
use super::text::{ParseError, Parser};
use super::{DType, Op, Tensor};

type Rule = fn(&Op, Operands<'_>, (&[usize], DType)) -> Result<Typed, String>;
type Kernel = fn(&Op, &[View<'_>], &[usize], Option<usize>) -> Result<Tensor, String>;

/// What there is to know about the ops of a file. Each function is called with ops of the family alone.
pub(super) struct Family {
    /// Name in the text form.
    pub name: fn(&Op) -> &'static str,
    /// Attributes in the text form, without braces; empty where there are none.
    pub attributes: fn(&Op) -> String,
    /// The op of a name, if the family has it, with the attributes that stand next; whether a brace stands before them.
    pub parse: fn(&mut Parser<'_>, &str, bool) -> Result<Option<Op>, ParseError>,
    /// Type of the result from those of the operands and what the node claims; errors are half sentences.
    pub rule: Rule,
    /// Computes a result of the given shape; see [`super::kernel::apply`].
    pub kernel: Kernel,
}

const FAMILIES: [&Family; 13] = [
    &source::FAMILY,
    &arithmetic::FAMILY,
    &unary::FAMILY,
    &compare::FAMILY,
    &moves::FAMILY,
    &reduce::FAMILY,
    &softmax::FAMILY,
    &matmul::FAMILY,
    &norm::FAMILY,
    &attention::FAMILY,
    &rotary::FAMILY,
    &embed::FAMILY,
    &pick::FAMILY,
];

/// The family of an op.
pub(super) fn family(op: &Op) -> &'static Family {
    match op {
        Op::Input { .. } | Op::Const(_) | Op::Weight { .. } => &source::FAMILY,
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Pow | Op::Neg | Op::ToF32 => &arithmetic::FAMILY,
        Op::Unary(_) => &unary::FAMILY,
        Op::Less | Op::LessOrEqual | Op::IsNaN | Op::Where => &compare::FAMILY,
        Op::Gather { .. } | Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } => &moves::FAMILY,
        Op::Concat { .. } | Op::Expand => &moves::FAMILY,
        Op::ReduceMean { .. } | Op::ReduceSum { .. } | Op::ReduceMax { .. } | Op::ArgMax { .. } => &reduce::FAMILY,
        Op::Softmax { .. } => &softmax::FAMILY,
        Op::MatMul | Op::Linear | Op::AddWeight => &matmul::FAMILY,
        Op::LayerNormalization { .. } | Op::Normalize { .. } => &norm::FAMILY,
        Op::Attention { .. } => &attention::FAMILY,
        Op::Rotary { .. } => &rotary::FAMILY,
        Op::Embed | Op::AddRow => &embed::FAMILY,
        Op::Pick { .. } => &pick::FAMILY,
    }
}

/// The op of a name and the attributes that stand next.
pub(super) fn parse(parser: &mut Parser<'_>, name: &str, braces: bool) -> Result<Option<Op>, ParseError> {
    for family in FAMILIES {
        if let Some(op) = (family.parse)(parser, name, braces)? {
            return Ok(Some(op));
        }
    }
    Ok(None)
}

/// The op of a name among ops without attributes.
fn plain(ops: &[Op], name: &str) -> Option<Op> {
    ops.iter().find(|op| op.name() == name).cloned()
}

/// For the last arm of a family's matches.
fn stranger(op: &Op) -> ! {
    unreachable!("{op:?} is not of this family")
}
