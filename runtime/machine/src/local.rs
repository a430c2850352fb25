//! Instructions that neither send nor take material: each party works on its own share.

use super::values::Values;
use super::{Machine, Role};
use crate::packed;
use ir::{Op, Party, Value};
use kernels::codec::dimensions;
use kernels::ring::{self, Tensor};

/// The result of an instruction that takes neither material nor messages and reads shares alone. `frees` says what
/// nothing needs after it.
pub(super) fn local(machine: &Machine, values: &mut Values, op: &Op, frees: &[Value]) -> Option<Tensor> {
    let (program, party) = (machine.program, machine.party());
    Some(match op {
        // Bits above the width mean nothing, and a scale is but a name.
        Op::Narrow { x, .. } | Op::Point { x, .. } => values.consume(*x, frees),
        Op::Down { x, by } => {
            let mut share = values.consume(*x, frees);
            ring::down_assign(party, &mut share.data, program.ty(*x).width, *by);
            share
        }
        Op::Up { x, by } => {
            let (mut share, by) = (values.consume(*x, frees), *by);
            ring::map_assign(&mut share.data, move |x| x << by);
            share
        }
        Op::Add { x, y } => ring::broadcast(values.share(*x), values.share(*y), u64::wrapping_add),
        Op::Sub { x, y } => ring::broadcast(values.share(*x), values.share(*y), u64::wrapping_sub),
        Op::AddPublic { x, table } => match party {
            Party::Client => ring::broadcast(values.share(*x), &machine.constant(*table), u64::wrapping_add),
            Party::Server => values.consume(*x, frees),
        },
        Op::MulPublic { x, table } => ring::broadcast(values.share(*x), &machine.constant(*table), u64::wrapping_mul),
        Op::AddWeight { x, weight } => match machine.role {
            Role::Client(_) => values.consume(*x, frees),
            Role::Server(weights) => {
                let mut added = Tensor::zeros(&dimensions(&program.weights[weight.index()].shape));
                weights.integers(*weight).copy_to(0, &mut added.data);
                ring::broadcast(values.share(*x), &added, u64::wrapping_add)
            }
        },
        Op::AddRow { x, weight, index } => match machine.role {
            Role::Client(_) => values.consume(*x, frees),
            Role::Server(weights) => {
                let d = program.weights[weight.index()].shape.0[1] as usize;
                let mut row = Tensor::zeros(&[d]);
                weights.integers(*weight).copy_to(machine.public(*index) * d, &mut row.data);
                ring::broadcast(values.share(*x), &row, u64::wrapping_add)
            }
        },
        Op::AddBand { x, weight, index } => match machine.role {
            Role::Client(_) => values.consume(*x, frees),
            Role::Server(weights) => {
                let shape = dimensions(&program.weights[weight.index()].shape);
                let mut held = Tensor::zeros(&shape);
                weights.integers(*weight).copy_to(0, &mut held.data);
                let mut share = values.consume(*x, frees);
                let (n, c, at) = (shape[1], share.shape[1], machine.public(*index));
                for (i, row) in share.data.chunks_exact_mut(c).enumerate() {
                    let held = &held.data[i % shape[0] * n..][..n];
                    for (j, x) in row.iter_mut().enumerate().take(at + 1).filter(|(j, _)| at - j < n) {
                        *x = x.wrapping_add(held[at - j]);
                    }
                }
                share
            }
        },
        Op::MulRow { x, table, index } => {
            ring::broadcast(values.share(*x), &machine.constant_row(*table, machine.public(*index)), u64::wrapping_mul)
        }
        Op::Reshape { x, shape } => values.consume(*x, frees).reshape(&dimensions(shape)),
        Op::Transpose { x, perm } => {
            values.share(*x).transpose(&perm.iter().map(|&axis| axis as usize).collect::<Vec<_>>())
        }
        Op::Slice { x, axis, from, to } => values.share(*x).slice(*axis as usize, *from as usize, *to as usize),
        Op::Concat { xs, axis } => {
            Tensor::concat(&xs.iter().map(|x| values.share(*x)).collect::<Vec<_>>(), *axis as usize)
        }
        Op::Pick { x, index, axis } => {
            let at = machine.public(*index);
            values.share(*x).slice(*axis as usize, at, at + 1)
        }
        Op::Keep { x, first, from, to, axis } => {
            let [first, from, to] = [first, from, to].map(|p| machine.public(*p));
            let mut share = values.consume(*x, frees);
            share.clear_unless(*axis as usize, |i| i < first || (from..to).contains(&i));
            share
        }
        Op::Sum { x, axis } => values.share(*x).sum(*axis as usize),
        Op::RowSum { x, pattern, axis } => packed::row_sum(values.share(*x), machine.pattern(*pattern), *axis as usize),
        Op::Expand { x, shape } => ring::expand(values.share(*x), &dimensions(shape)),
        Op::Spread { x, pattern, axis } => packed::spread(values.share(*x), machine.pattern(*pattern), *axis as usize),
        _ => return None,
    })
}
