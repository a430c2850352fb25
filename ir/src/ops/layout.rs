//! Shapes, parts and sums: the same elements in other places, local.

use super::{Family, add_scaled, dim_inner};
use crate::eval::{Operands, spread, walk};
use crate::fault::{Code, Fault};
use crate::infer::*;
use crate::op::Op;
use crate::program::Program;
use crate::types::*;

/// The family.
pub(crate) struct Layout;

impl Family for Layout {
    fn infer(program: &Program, op: &Op) -> Result<Option<Type>, Fault> {
        let share = |v: &Value| share(program, *v);
        let ty = match op {
            Op::Reshape { x, shape } => {
                let x = share(x)?;
                if x.shape.elements() != shape.elements() {
                    return fault(Code::Shape, format!("{} and {shape} differ in their number of elements", x.shape));
                }
                Type { shape: shape.clone(), ..x.clone() }
            }
            Op::Expand { x, shape } => {
                let x = share(x)?;
                broadcast_into(&x.shape, shape)?;
                Type { shape: shape.clone(), ..x.clone() }
            }
            Op::Transpose { x, perm } => {
                let x = share(x)?;
                let mut sorted = perm.clone();
                sorted.sort_unstable();
                if !sorted.iter().copied().eq(0..x.shape.rank() as u32) {
                    return fault(
                        Code::Shape,
                        format!("{} is not a permutation of the axes of {}", Shape(perm.clone()), x.shape),
                    );
                }
                Type { shape: Shape(perm.iter().map(|&a| x.shape.0[a as usize]).collect()), ..x.clone() }
            }
            Op::Slice { x, axis, from, to } => {
                let x = share(x)?;
                let dim = dim(&x.shape, *axis)?;
                if from >= to || *to > dim {
                    return fault(Code::Shape, format!("{from} .. {to} is not a part of 0 .. {dim}"));
                }
                Type { shape: with_dim(&x.shape, *axis, to - from), ..x.clone() }
            }
            Op::Concat { xs, axis } => {
                let Some((first, rest)) = xs.split_first() else {
                    return fault(Code::Shape, "nothing to concatenate");
                };
                let first = share(first)?;
                let mut total = dim(&first.shape, *axis)?;
                for x in rest {
                    let x = share(x)?;
                    let part = dim(&x.shape, *axis)?;
                    if (x.width, x.scale) != (first.width, first.scale)
                        || with_dim(&x.shape, *axis, 1) != with_dim(&first.shape, *axis, 1)
                    {
                        return fault(Code::Shape, format!("{first} and {x} differ in more than axis {axis}"));
                    }
                    total = total
                        .checked_add(part)
                        .ok_or_else(|| Fault::new(Code::Shape, "the concatenated dimension overflows 32 bits"))?;
                }
                Type { shape: with_dim(&first.shape, *axis, total), ..first.clone() }
            }
            Op::Pick { x, index, axis } => {
                let (x, index) = (share(x)?, get(&program.publics, index.index(), "public")?);
                let dim = dim(&x.shape, *axis)?;
                bounded(index, dim, format_args!("axis {axis} of {}", x.shape))?;
                Type { shape: with_dim(&x.shape, *axis, 1), ..x.clone() }
            }
            Op::Sum { x, axis } => {
                let x = share(x)?;
                dim(&x.shape, *axis)?;
                Type { shape: with_dim(&x.shape, *axis, 1), ..x.clone() }
            }
            Op::RowSum { x, pattern: table, axis } => {
                let (x, (p, kept)) = (share(x)?, pattern(program, *table)?);
                equal_dims("axis", dim(&x.shape, *axis)?, "kept elements", kept)?;
                Type { shape: with_dim(&x.shape, *axis, p.rows.len() as u32), ..x.clone() }
            }
            Op::Spread { x, pattern: table, axis } => {
                let (x, (p, kept)) = (share(x)?, pattern(program, *table)?);
                equal_dims("axis", dim(&x.shape, *axis)?, "rows", p.rows.len() as u32)?;
                Type { shape: with_dim(&x.shape, *axis, kept), ..x.clone() }
            }
            Op::Keep { x, first, from, to, axis } => {
                let x = share(x)?;
                dim(&x.shape, *axis)?;
                for public in [first, from, to] {
                    get(&program.publics, public.index(), "public")?;
                }
                x.clone()
            }
            _ => unreachable!("an op of another family"),
        };
        Ok(Some(ty))
    }

    fn eval(run: &Operands<'_>, op: &Op) -> Vec<i64> {
        match op {
            Op::Reshape { x, .. } => run.value(x).to_vec(),
            Op::Expand { x, shape } => spread(run.value(x), &run.ty(x).shape, shape),
            Op::Keep { x, first, from, to, axis } => {
                let [first, from, to] = [first, from, to].map(|p| run.arguments.publics[p.index()] as usize);
                let (dim, inner) = dim_inner(&run.ty(x).shape, *axis);
                let kept = |i: usize| i < first || (from..to).contains(&i);
                run.value(x).iter().enumerate().map(|(i, &v)| if kept(i / inner % dim) { v } else { 0 }).collect()
            }
            Op::Transpose { x, perm } => transpose(run.value(x), &run.ty(x).shape, perm),
            Op::Slice { x, axis, from, to } => {
                let (dim, inner) = dim_inner(&run.ty(x).shape, *axis);
                let (from, to) = (*from as usize * inner, *to as usize * inner);
                run.value(x).chunks_exact(dim * inner).flat_map(|c| &c[from..to]).copied().collect()
            }
            Op::Concat { xs, axis } => {
                let parts: Vec<(&[i64], usize)> = xs
                    .iter()
                    .map(|x| {
                        let (dim, inner) = dim_inner(&run.ty(x).shape, *axis);
                        (run.value(x), dim * inner)
                    })
                    .collect();
                let outer = parts[0].0.len() / parts[0].1;
                (0..outer).flat_map(|o| parts.iter().flat_map(move |(x, n)| &x[o * n..][..*n])).copied().collect()
            }
            Op::Pick { x, index, axis } => {
                let (dim, inner) = dim_inner(&run.ty(x).shape, *axis);
                let at = run.arguments.publics[index.index()] as usize * inner;
                run.value(x).chunks_exact(dim * inner).flat_map(|c| &c[at..at + inner]).copied().collect()
            }
            Op::Sum { x, axis } => {
                let (dim, inner) = dim_inner(&run.ty(x).shape, *axis);
                sums(run.value(x), dim, inner, &[(0, dim)])
            }
            Op::RowSum { x, pattern, axis } => {
                let (dim, inner) = dim_inner(&run.ty(x).shape, *axis);
                sums(run.value(x), dim, inner, &row_ranges(run.program.table(*pattern)))
            }
            Op::Spread { x, pattern, axis } => {
                let (dim, inner) = dim_inner(&run.ty(x).shape, *axis);
                let ranges = row_ranges(run.program.table(*pattern));
                let mut out = Vec::new();
                for chunk in run.value(x).chunks_exact(dim * inner) {
                    for (row, (from, to)) in chunk.chunks_exact(inner).zip(&ranges) {
                        (*from..*to).for_each(|_| out.extend_from_slice(row));
                    }
                }
                out
            }
            _ => unreachable!("an op of another family"),
        }
    }
}

fn transpose(x: &[i64], shape: &Shape, perm: &[u32]) -> Vec<i64> {
    let mut strides = vec![1usize; shape.rank()];
    for axis in (1..shape.rank()).rev() {
        strides[axis - 1] = strides[axis] * shape.0[axis] as usize;
    }
    let pick = |of: &dyn Fn(usize) -> usize| perm.iter().map(|&a| of(a as usize)).collect::<Vec<_>>();
    let dims: Vec<u32> = perm.iter().map(|&a| shape.0[a as usize]).collect();
    walk(x, &dims, &pick(&|a| strides[a]))
}

/// Ranges of the kept elements of each row within a packed dimension.
fn row_ranges(table: &Table) -> Vec<(usize, usize)> {
    let Table::Pattern(p) = table else { unreachable!("verified") };
    let mut end = 0;
    p.rows
        .iter()
        .map(|(from, to)| {
            let start = end;
            end += (to - from) as usize;
            (start, end)
        })
        .collect()
}

/// Sums over ranges of an axis of `dim` elements with `inner` elements after it.
fn sums(x: &[i64], dim: usize, inner: usize, ranges: &[(usize, usize)]) -> Vec<i64> {
    let mut out = Vec::new();
    for chunk in x.chunks_exact(dim * inner) {
        for (from, to) in ranges {
            let mut sum = vec![0i64; inner];
            chunk[from * inner..to * inner].chunks_exact(inner).for_each(|row| add_scaled(&mut sum, 1, row));
            out.extend(sum);
        }
    }
    out
}
