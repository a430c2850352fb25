//! Products: with weights, of openings, of packed matrices.

use super::{Family, Place, add_scaled, dim_inner, elements};
use crate::cost::InstrCost;
use crate::eval::Operands;
use crate::fault::{Code, Fault};
use crate::infer::*;
use crate::making::{Making, Requests, factors};
use crate::material::Pieces;
use crate::op::Op;
use crate::product::product;
use crate::program::Program;
use crate::types::*;
use crate::wire::packed_bytes;
use rayon::prelude::*;

/// The family.
pub(crate) struct Products;

impl Family for Products {
    fn infer(program: &Program, op: &Op) -> Result<Option<Type>, Fault> {
        let share = |v: &Value| share(program, *v);
        let opened = |v: &Value| opened(program, *v);
        let ty = match op {
            Op::Linear { x, weight } => {
                let (x, w) = (share(x)?, get(&program.weights, weight.index(), "weight")?);
                let (Some((&k, batch)), [rows, columns]) = (x.shape.0.split_last(), &w.shape.0[..]) else {
                    return fault(Code::Shape, format!("no product of {} and a weight {}", x.shape, w.shape));
                };
                equal_dims("last axis", k, "rows of the weight", *rows)?;
                size(&w.shape)?;
                Type { scale: scale_sum(x.scale, w.scale)?, shape: append(batch, &[*columns]), ..x.clone() }
            }
            Op::Square { x, width } => {
                let x = claimed(opened(x)?)?;
                shared(*width, scale_sum(x.scale, x.scale)?, x.shape.clone())
            }
            Op::SumSquares { x, width } => {
                let x = claimed(opened(x)?)?;
                let Some(last) = x.shape.rank().checked_sub(1) else {
                    return fault(Code::Shape, "a scalar has no last axis");
                };
                shared(*width, scale_sum(x.scale, x.scale)?, with_dim(&x.shape, last as u32, 1))
            }
            Op::Mul { x, y, width } => {
                let (x, y) = (claimed_or_cut(opened(x)?, *width)?, claimed_or_cut(opened(y)?, *width)?);
                shared(*width, scale_sum(x.scale, y.scale)?, broadcast(&x.shape, &y.shape)?)
            }
            Op::Sddmm { x, y, pattern: table } => {
                let (x, y, (p, kept)) = (whole(opened(x)?)?, whole(opened(y)?)?, pattern(program, *table)?);
                let ([batch @ .., rows, k], [batch_y @ .., columns, k_y]) = (&x.shape.0[..], &y.shape.0[..]) else {
                    return fault(
                        Code::Shape,
                        format!("no product of {} and {}: a matrix has two axes", x.shape, y.shape),
                    );
                };
                equal_batches(batch, batch_y)?;
                equal_dims("inner axis of x", *k, "of y", *k_y)?;
                equal_dims("rows of x", *rows, "of the pattern", p.rows.len() as u32)?;
                equal_dims("rows of y", *columns, "columns of the pattern", p.columns)?;
                shared(x.width.min(y.width), scale_sum(x.scale, y.scale)?, append(batch, &[kept]))
            }
            Op::Spmm { x, y, pattern: table } => {
                let (x, y, (p, kept)) = (opened(x)?, whole(opened(y)?)?, pattern(program, *table)?);
                let ([batch @ .., packed], [batch_y @ .., columns, k]) = (&x.shape.0[..], &y.shape.0[..]) else {
                    return fault(Code::Shape, format!("no product of {} and {}: too few axes", x.shape, y.shape));
                };
                equal_batches(batch, batch_y)?;
                equal_dims("last axis of x", *packed, "kept elements", kept)?;
                equal_dims("rows of y", *columns, "columns of the pattern", p.columns)?;
                let width = if x.is_whole() { x.width.min(y.width) } else { y.width };
                shared(width, scale_sum(x.scale, y.scale)?, append(batch, &[p.rows.len() as u32, *k]))
            }
            _ => unreachable!("an op of another family"),
        };
        Ok(Some(ty))
    }

    fn eval(run: &Operands<'_>, op: &Op) -> Vec<i64> {
        match op {
            Op::Mul { x, y, .. } => run.both(x, y, i64::wrapping_mul),
            Op::Linear { x, weight } => {
                let shape = &run.program.weights[weight.index()].shape.0;
                product(
                    run.value(x),
                    &run.arguments.weights.weight(weight.index()),
                    shape[0] as usize,
                    shape[1] as usize,
                )
            }
            Op::Square { x, .. } => run.map(x, |v| v.wrapping_mul(v)),
            Op::SumSquares { x, .. } => {
                let (dim, _) = dim_inner(&run.ty(x).shape, run.ty(x).shape.rank() as u32 - 1);
                let sum = |row: &[i64]| row.iter().fold(0i64, |s, v| s.wrapping_add(v.wrapping_mul(*v)));
                run.value(x).chunks_exact(dim).map(sum).collect()
            }
            Op::Sddmm { x, y, pattern } => {
                let Table::Pattern(p) = run.program.table(*pattern) else { unreachable!("verified") };
                let k = run.ty(x).shape.0[run.ty(x).shape.rank() - 1] as usize;
                let batches = run
                    .value(x)
                    .par_chunks_exact(p.rows.len() * k)
                    .zip(run.value(y).par_chunks_exact(p.columns as usize * k));
                let scores = batches.flat_map_iter(|(x, y)| {
                    x.chunks_exact(k).zip(&p.rows).flat_map(move |(row, &(from, to))| {
                        let columns = y.chunks_exact(k).take(to as usize).skip(from as usize);
                        columns.map(move |column| {
                            row.iter().zip(column).fold(0i64, |s, (a, b)| s.wrapping_add(a.wrapping_mul(*b)))
                        })
                    })
                });
                scores.collect()
            }
            Op::Spmm { x, y, pattern } => {
                let Table::Pattern(p) = run.program.table(*pattern) else { unreachable!("verified") };
                let k = run.own.shape.0[run.own.shape.rank() - 1] as usize;
                let mut out = vec![0i64; run.own.shape.elements().expect("verified") as usize];
                let batches = run
                    .value(x)
                    .par_chunks_exact(p.kept() as usize)
                    .zip(run.value(y).par_chunks_exact(p.columns as usize * k));
                batches.zip(out.par_chunks_exact_mut(p.rows.len() * k)).for_each(|((x, y), out)| {
                    let mut x = x.iter();
                    for (out, &(from, to)) in out.chunks_exact_mut(k).zip(&p.rows) {
                        for (&v, row) in
                            x.by_ref().take((to - from) as usize).zip(y.chunks_exact(k).skip(from as usize))
                        {
                            add_scaled(out, v, row);
                        }
                    }
                });
                out
            }
            _ => unreachable!("an op of another family"),
        }
    }

    fn pieces(at: Place<'_>, out: &mut Pieces) {
        let (own, n) = at.own();
        match &at.instr.op {
            // r², then m·r.
            Op::Square { x, .. } | Op::SumSquares { x, .. } => {
                out.corrections(own, n);
                out.corrections(at.elements(x), n - at.width(x) - 1);
            }
            // r·q, r·m', m·q, m·m'.
            Op::Mul { x, y, .. } => {
                out.corrections(own, n);
                out.corrections(own, n - at.width(y));
                out.corrections(own, n - at.width(x));
                out.corrections(own, n - at.width(x) - at.width(y));
            }
            Op::Linear { .. } | Op::Sddmm { .. } => out.corrections(own, n),
            // A·B, then m·B if the left operand is narrow.
            Op::Spmm { x, y, .. } => {
                out.corrections(own, n);
                if !at.ty(x).is_whole() {
                    out.corrections(at.elements(x) * at.last(y), n - at.width(x));
                }
            }
            _ => {}
        }
    }

    fn making(of: Making<'_>, out: &mut Requests) {
        let (at, (own, n)) = (of.at, of.at.own());
        let width = n as Width;
        match &at.instr.op {
            Op::Linear { .. } => out.correlation(own, width),
            Op::Square { x, .. } | Op::SumSquares { x, .. } => {
                out.cross(at.elements(x), width - 1);
                out.correlation(own, width);
                let bits = width.saturating_sub(at.ty(x).width + 1);
                if bits > 0 {
                    out.bit_times(at.elements(x), 1, bits);
                    out.correlation(at.elements(x), bits);
                }
            }
            Op::Mul { x, y, .. } => products_of_elements(at, *x, *y, out),
            op @ (Op::Sddmm { .. } | Op::Spmm { .. }) => {
                if !of.ready {
                    out.products(factors(at.program, op, width));
                }
                out.correlation(own, width);
                if let Op::Spmm { x, y, .. } = op
                    && !of.ready
                    && !at.ty(x).is_whole()
                    && width > at.ty(x).width
                {
                    let bits = width - at.ty(x).width;
                    out.bit_times(at.elements(x), at.last(y), bits);
                    out.correlation(at.elements(x) * at.last(y), bits);
                }
            }
            _ => {}
        }
    }

    fn cost(at: Place<'_>, cost: &mut InstrCost) {
        match &at.instr.op {
            Op::Linear { x, weight } => {
                let width = at.ty(x).width;
                cost.client_payload_bytes = at.packed(x, width);
                cost.setup_bytes = packed_bytes(elements(&at.program.weights[weight.index()].shape), u64::from(width));
                cost.macs = at.own().0.saturating_mul(at.last(x));
            }
            Op::Sddmm { x, .. } => cost.macs = at.own().0.saturating_mul(at.last(x)),
            Op::Spmm { x, y, .. } => cost.macs = at.elements(x).saturating_mul(at.last(y)),
            _ => {}
        }
    }
}
/// `mul`: r·q, r·l, m·q and m·l, of the bits of the operand with fewer elements if each goes with neighbouring ones of the other.
fn products_of_elements(at: Place<'_>, x: Value, y: Value, out: &mut Requests) {
    let (own, width) = (at.own().0, at.own().1 as Width);
    let (nx, ny) = (at.ty(&x).width, at.ty(&y).width);
    let row = |few: &Value| copies(&at.ty(few).shape, &at.instr.ty.as_ref().expect("of a product").shape);
    let whole = |v: &Value| at.elements(v) == own;
    // The bits are those of y, or of x.
    let (few, row, swapped) = match (row(&x), row(&y)) {
        (_, Some(row)) if whole(&x) && (row > 1 || ny <= nx) => (y, row, false),
        (Some(row), _) if whole(&y) => (x, row, true),
        _ => (y, 1, false),
    };
    let (n, count) = (at.ty(&few).width, own / row);
    let (rl, mq, ml) =
        (width.saturating_sub(ny), width.saturating_sub(nx), width.saturating_sub(nx.saturating_add(ny)));
    let (of_mask, of_top) = if swapped { (mq, rl) } else { (rl, mq) };
    out.times(count, n, row, width);
    out.correlation(own, width);
    if of_mask > 0 {
        out.bit_times(count, row, of_mask);
    }
    if of_top > 0 {
        out.times(count, n, row, of_top);
    }
    out.correlation(own, rl);
    out.correlation(own, mq);
    if ml > 0 {
        out.bit_times(count, row, ml);
        out.correlation(own, ml);
    }
}

/// How many neighbouring elements of `full` each element of `few` is broadcast to, if that is all that broadcasting does.
fn copies(few: &Shape, full: &Shape) -> Option<u64> {
    let missing = full.rank() - few.rank();
    let own = |axis: usize| if axis < missing { 1 } else { few.0[axis - missing] };
    // Axes that are there, and behind them axes that are copied.
    let same = (0..full.rank()).take_while(|&axis| own(axis) == full.0[axis]).count();
    let copied = (same..full.rank()).all(|axis| own(axis) == 1);
    copied.then(|| full.0[same..].iter().map(|&d| u64::from(d)).product())
}
