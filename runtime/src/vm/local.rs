//! Instructions that neither send nor take material: each party works on its own share.

use super::Role;
use super::run::Run;
use crate::codec::dimensions;
use crate::packed;
use crate::ring::{self, Tensor};
use ir::{Op, Party, Value};

impl Run<'_, '_> {
    /// The result of an instruction that takes neither material nor messages and reads shares alone.
    pub(super) fn local(&mut self, op: &Op, frees: &[Value]) -> Option<Tensor> {
        let (program, party) = (self.machine.program, self.machine.party());
        Some(match op {
            Op::Input { input } => match party {
                Party::Client => self.inputs[input.index()].clone(),
                Party::Server => Tensor::zeros(&dimensions(&program.inputs[input.index()].ty.shape)),
            },
            // Bits above the width mean nothing, and a scale is but a name.
            Op::Narrow { x, .. } | Op::Point { x, .. } => self.consume(*x, frees),
            Op::Down { x, by } => {
                let mut share = self.consume(*x, frees);
                ring::down_assign(party, &mut share.data, program.ty(*x).width, *by);
                share
            }
            Op::Up { x, by } => {
                let (mut share, by) = (self.consume(*x, frees), *by);
                ring::map_assign(&mut share.data, move |x| x << by);
                share
            }
            Op::Add { x, y } => ring::broadcast(self.share(*x), self.share(*y), u64::wrapping_add),
            Op::Sub { x, y } => ring::broadcast(self.share(*x), self.share(*y), u64::wrapping_sub),
            Op::AddPublic { x, table } => match party {
                Party::Client => ring::broadcast(self.share(*x), &self.machine.constant(*table), u64::wrapping_add),
                Party::Server => self.consume(*x, frees),
            },
            Op::MulPublic { x, table } => {
                ring::broadcast(self.share(*x), &self.machine.constant(*table), u64::wrapping_mul)
            }
            Op::AddWeight { x, weight } => match self.machine.role {
                Role::Client(_) => self.consume(*x, frees),
                Role::Server(weights) => {
                    let mut added = Tensor::zeros(&dimensions(&program.weights[weight.index()].shape));
                    weights.integers(*weight).copy_to(0, &mut added.data);
                    ring::broadcast(self.share(*x), &added, u64::wrapping_add)
                }
            },
            Op::AddRow { x, weight, index } => match self.machine.role {
                Role::Client(_) => self.consume(*x, frees),
                Role::Server(weights) => {
                    let d = program.weights[weight.index()].shape.0[1] as usize;
                    let mut row = Tensor::zeros(&[d]);
                    weights.integers(*weight).copy_to(self.machine.public(*index) * d, &mut row.data);
                    ring::broadcast(self.share(*x), &row, u64::wrapping_add)
                }
            },
            Op::Reshape { x, shape } => self.consume(*x, frees).reshape(&dimensions(shape)),
            Op::Transpose { x, perm } => {
                self.share(*x).transpose(&perm.iter().map(|&axis| axis as usize).collect::<Vec<_>>())
            }
            Op::Slice { x, axis, from, to } => self.share(*x).slice(*axis as usize, *from as usize, *to as usize),
            Op::Concat { xs, axis } => {
                Tensor::concat(&xs.iter().map(|x| self.share(*x)).collect::<Vec<_>>(), *axis as usize)
            }
            Op::Pick { x, index, axis } => {
                let at = self.machine.public(*index);
                self.share(*x).slice(*axis as usize, at, at + 1)
            }
            Op::Keep { x, first, from, to, axis } => {
                let [first, from, to] = [first, from, to].map(|p| self.machine.public(*p));
                let mut share = self.consume(*x, frees);
                share.clear_unless(*axis as usize, |i| i < first || (from..to).contains(&i));
                share
            }
            Op::Sum { x, axis } => self.share(*x).sum(*axis as usize),
            Op::RowSum { x, pattern, axis } => {
                packed::row_sum(self.share(*x), self.machine.pattern(*pattern), *axis as usize)
            }
            Op::Spread { x, pattern, axis } => {
                packed::spread(self.share(*x), self.machine.pattern(*pattern), *axis as usize)
            }
            _ => return None,
        })
    }
}
