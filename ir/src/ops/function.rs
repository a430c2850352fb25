//! Functions of one argument that read tables.

use super::{Family, Place};
use crate::cost::InstrCost;
use crate::dcf;
use crate::eval::Operands;
use crate::exp::{self, Exp};
use crate::fault::{Code, Fault};
use crate::infer::*;
use crate::making::{Making, Requests};
use crate::material::{Pieces, unit};
use crate::op::Op;
use crate::program::Program;
use crate::series::Series;
use crate::types::*;
use rayon::prelude::*;

/// The family.
pub(crate) struct Functions;

impl Family for Functions {
    fn infer(program: &Program, op: &Op) -> Result<Option<Type>, Fault> {
        let opened = |v: &Value| opened(program, *v);
        let ty = match op {
            Op::Exp { x, table, width } => {
                if let Some(Op::Cache { .. }) = program.instrs.get(x.index()).map(|instr| &instr.op) {
                    return fault(
                        Code::Kind,
                        format!("o{} holds rows of earlier steps, whose masks are of no use here", x.0),
                    );
                }
                let x = opened(x)?;
                let Table::Exp { public_scale, dealt_scale, values } =
                    get(&program.tables, table.index(), "table").map(|t| &t.table)?
                else {
                    return fault(Code::Table, "not a table of exp");
                };
                if !(0..=exp::MAX_SCALE).contains(&x.scale) {
                    return fault(
                        Code::Scale,
                        format!("exp reads a scale of 0 ..= {}, not {}", exp::MAX_SCALE, x.scale),
                    );
                }
                window(x, values.len(), exp::cell_bits(x.scale))?;
                shared(*width, i16::from(*public_scale) + i16::from(*dealt_scale), x.shape.clone())
            }
            Op::Cells { x, table, width } => {
                let x = opened(x)?;
                let Table::Cells { scale, cell_bits, a, .. } =
                    get(&program.tables, table.index(), "table").map(|t| &t.table)?
                else {
                    return fault(Code::Table, "not a table of cells");
                };
                window(x, a.len(), *cell_bits)?;
                shared(*width, *scale, x.shape.clone())
            }
            Op::Series { x, table, width } => {
                let x = opened(x)?;
                let Table::Series { period_log2, public_scale, dealt_scale, .. } =
                    get(&program.tables, table.index(), "table").map(|t| &t.table)?
                else {
                    return fault(Code::Table, "not a series");
                };
                let needed = i32::from(*period_log2) + i32::from(x.scale);
                if needed > i32::from(x.width) {
                    return Err(Fault::new(
                        Code::Width,
                        format!(
                            "a period of 2^{period_log2} at scale {} is {needed} bits, the opening has {}",
                            x.scale, x.width
                        ),
                    )
                    .help(format!("open at width {needed} or more")));
                }
                if !(i32::from(MIN_SERIES_WIDTH)..=i32::from(MAX_SERIES_WIDTH)).contains(&needed) {
                    return fault(
                        Code::Width,
                        format!("a series reads {MIN_SERIES_WIDTH} ..= {MAX_SERIES_WIDTH} bits, a period has {needed}"),
                    );
                }
                shared(*width, i16::from(*public_scale) + i16::from(*dealt_scale), x.shape.clone())
            }
            Op::Spline { x, table, width, ends } => {
                let x = claimed(opened(x)?)?;
                let Table::Spline { scale, knots, .. } =
                    get(&program.tables, table.index(), "table").map(|t| &t.table)?
                else {
                    return fault(Code::Table, "not a spline");
                };
                let reach = 1i64 << (x.width - 2);
                if let Some(knot) = knots.iter().find(|k| !(-reach..reach).contains(*k)) {
                    return Err(Fault::new(
                        Code::Table,
                        format!("knot {knot} is outside the claim |x| < 2^{} of the opening", x.width - 2),
                    )
                    .help("open at a greater width, or drop the knots that no value reaches"));
                }
                if *ends && knots.len() < 2 {
                    return fault(Code::Table, "between the ends lies nothing: the table has one knot");
                }
                shared(*width, *scale, if *ends { append(&x.shape.0, &[2]) } else { x.shape.clone() })
            }
            _ => unreachable!("an op of another family"),
        };
        Ok(Some(ty))
    }

    fn eval(run: &Operands<'_>, op: &Op) -> Vec<i64> {
        match op {
            Op::Series { x, table, .. } => {
                let table = run.program.table(*table);
                let Table::Series { period_log2, c0, dealt_scale, .. } = table else { unreachable!("verified") };
                let n = (i16::from(*period_log2) + run.ty(x).scale) as Width;
                let series = Series::new(table, n);
                let buffers = || (vec![0; series.terms()], vec![0; series.terms()]);
                let function = |(p, q): &mut (Vec<i64>, Vec<i64>), &v: &i64| {
                    series.coefficients(v as u64, p, q);
                    p.iter().fold(*c0, |sum, p| sum.wrapping_add(p << dealt_scale))
                };
                run.value(x).par_iter().map_init(buffers, function).collect()
            }
            Op::Exp { x, table, .. } => {
                let exp = Exp::new(run.program.table(*table), run.ty(x).scale);
                run.map(x, |v| exp.unmasked(v))
            }
            Op::Cells { x, table, .. } => {
                let Table::Cells { cell_bits, a, b, .. } = run.program.table(*table) else { unreachable!("verified") };
                let line = |v: i64| {
                    let (cell, d) = (v >> cell_bits, v & ((1 << cell_bits) - 1));
                    let at = cell as usize & (a.len() - 1);
                    a[at].wrapping_add(b[at].wrapping_mul(d))
                };
                run.map(x, line)
            }
            Op::Spline { x, table, ends, .. } => {
                let Table::Spline { knots, a, b, .. } = run.program.table(*table) else { unreachable!("verified") };
                let interval = |v: i64| knots.partition_point(|k| *k <= v);
                let line = |v: i64, i: usize| a[i].wrapping_add(b[i].wrapping_mul(v));
                if !ends {
                    return run.map(x, |v| line(v, interval(v)));
                }
                let both = |&v: &i64| {
                    let i = interval(v);
                    [line(v, i), i64::from(i == 0 || i == knots.len())]
                };
                run.value(x).par_iter().flat_map_iter(both).collect()
            }
            _ => unreachable!("an op of another family"),
        }
    }

    fn pieces(at: Place<'_>, out: &mut Pieces) {
        let (own, n) = at.own();
        match &at.instr.op {
            // Cosines and sines, 2·K for every element.
            Op::Series { table, .. } => {
                let Table::Series { cos, .. } = at.program.table(*table) else { unreachable!("verified") };
                out.corrections(own * 2 * cos.len() as u64, n);
            }
            // A unit vector; then the factor of the client's number, that of the server's, and the rest.
            Op::Exp { table, .. } => {
                let Table::Exp { values, .. } = at.program.table(*table) else { unreachable!("verified") };
                let (words, bits) = unit(values.len());
                out.corrections(own * words, bits);
                (0..3).for_each(|_| out.corrections(own, n));
            }
            // A unit vector; then the factor of the slope, and the rest.
            Op::Cells { table, .. } => {
                let Table::Cells { a, .. } = at.program.table(*table) else { unreachable!("verified") };
                let (words, bits) = unit(a.len());
                out.corrections(own * words, bits);
                (0..2).for_each(|_| out.corrections(own, n));
            }
            // m, then m·r, then the key.
            Op::Spline { x, width, .. } => {
                out.corrections(at.elements(x), n);
                out.corrections(at.elements(x), n);
                out.key(at.ty(x), dcf::Layout::spline(at.ty(x).width, *width));
            }
            _ => {}
        }
    }

    fn making(of: Making<'_>, out: &mut Requests) {
        match &of.at.instr.op {
            Op::Exp { x, table, width } => {
                let exp = Exp::new(of.at.program.table(*table), of.at.ty(x).scale);
                out.unit_vectors(of.block, exp.values.len().ilog2() as Width);
                out.flip(of.block, 1, *width);
                (0..2).for_each(|_| out.correlation(of.block, *width));
                out.crossed(of.block, exp.own_bits(), *width);
                out.correlation(of.block, *width);
            }
            Op::Cells { table, width, .. } => {
                let Table::Cells { cell_bits, a, .. } = of.at.program.table(*table) else { unreachable!("verified") };
                out.unit_vectors(of.block, a.len().ilog2() as Width);
                if *cell_bits > 0 {
                    out.number(of.block, *(cell_bits.min(width)), *width);
                    out.times(of.block, *cell_bits, 1, *width);
                }
                out.flip(of.block, 2, *width);
                (0..2).for_each(|_| out.correlation(of.block, *width));
            }
            _ => {}
        }
    }

    fn cost(at: Place<'_>, cost: &mut InstrCost) {
        match &at.instr.op {
            Op::Exp { x, width, .. } => {
                cost.client_payload_bytes = at.packed(x, *width);
                cost.server_payload_bytes = at.packed(x, *width);
            }
            Op::Cells { x, width, .. } => {
                cost.client_payload_bytes = 2 * at.packed(x, *width);
                cost.server_payload_bytes = 2 * at.packed(x, *width);
            }
            _ => {}
        }
    }
}
