//! Reads of openings: local, with the party's material.

use super::Machine;
use super::values::Values;
use ir::series::Series;
use ir::{Op, Table, TableId, Value};
use kernels::codec::dimensions;
use kernels::ring::Tensor;
use protocols::material::MaterialError;
use protocols::series::Terms;
use protocols::spline::{self, Steps};
use protocols::square::{self, Over};
use protocols::{Source, blocks, ge, lift, matmul, mul, select, series};
use std::ops::Range;

/// A read of openings.
pub(super) fn read(
    source: &mut Source,
    machine: &Machine,
    values: &Values,
    i: usize,
    op: &Op,
) -> Result<Tensor, MaterialError> {
    let (party, program) = (machine.party(), machine.program);
    let opening = |v: &Value| values.opening(*v);
    let product = |source: &mut Source, product, x: &Value, y: &Value, pattern: &TableId| {
        let ty = program.ty(Value(i as u32));
        let elements = dimensions(&ty.shape).iter().product();
        let (x, y) = (opening(x), opening(y));
        let dealt = matmul::Dealt::take(source, elements, x, y, ty.width)?;
        Ok(matmul::read(party, product, x, y, machine.pattern(*pattern), dealt))
    };
    let shape = || machine.shape(Value(i as u32));
    match op {
        Op::Lift { x, .. } => Ok(lift::read(party, opening(x))),
        Op::Square { x, width } | Op::SumSquares { x, width } => {
            let (x, over) = (opening(x), if matches!(op, Op::Square { .. }) { Over::Elements } else { Over::Rows });
            let dealt = square::Dealt::take(source, x, over, *width)?;
            Ok(square::read(party, x, over, dealt))
        }
        Op::Mul { x, y, width } => {
            let dealt = mul::Dealt::take(source, opening(x), opening(y), *width)?;
            Ok(mul::read(party, opening(x), opening(y), dealt))
        }
        Op::Sddmm { x, y, pattern } => product(source, matmul::Product::Sddmm, x, y, pattern),
        Op::Spmm { x, y, pattern } => product(source, matmul::Product::Spmm, x, y, pattern),
        Op::Series { x, table, width } => {
            let (ty, x, table) = (program.ty(*x), opening(x), program.table(*table));
            let Table::Series { c0, .. } = table else { panic!("verified: a series") };
            let series = Series::new(table, Terms::of(table, ty).period_bits);
            in_blocks(shape(), 1, |block, out| {
                let dealt = series::Dealt::take(source, block.clone(), series.terms(), *width)?;
                series::read(party, x, block, &series, *c0, dealt, out);
                Ok(())
            })
        }
        Op::Spline { x, table, width, ends } => {
            let Table::Spline { knots, a, b, .. } = program.table(*table) else { panic!("verified: a spline") };
            let (x, steps) = (opening(x), Steps::new(knots, a, b));
            in_blocks(shape(), if *ends { 2 } else { 1 }, |block, out| {
                let dealt = spline::Dealt::take(source, x, block.clone(), *width)?;
                spline::read(party, x, block, &steps, dealt, out);
                Ok(())
            })
        }
        Op::Ge { x, table, width } => {
            let Table::Thresholds(thresholds) = program.table(*table) else { panic!("verified: thresholds") };
            let x = opening(x);
            in_blocks(shape(), thresholds.len(), |block, out| {
                let dealt = ge::Dealt::take(source, x, block.clone(), *width)?;
                ge::read(party, x, block, thresholds, dealt, out);
                Ok(())
            })
        }
        Op::Select { d, y, width } => {
            let (d, y) = (opening(d), opening(y));
            let components = y.len() / d.len();
            in_blocks(shape(), components, |block, out| {
                let dealt = select::Dealt::take(source, d, components, block.clone(), *width)?;
                select::read(party, d, y, block, dealt, out);
                Ok(())
            })
        }
        op => unreachable!("`{}` reads no opening", op.mnemonic()),
    }
}

/// Computes a tensor block by block of an opening, `per` results for each of its elements.
fn in_blocks(
    shape: Vec<usize>,
    per: usize,
    mut f: impl FnMut(Range<usize>, &mut [u64]) -> Result<(), MaterialError>,
) -> Result<Tensor, MaterialError> {
    let mut out = Tensor::unset(&shape);
    for block in blocks(out.len() / per) {
        let results = block.start * per..block.end * per;
        f(block, &mut out.data[results])?;
    }
    Ok(out)
}
