//! Element by element on shares, and what the server or both add or multiply by: local.

use super::Family;
use crate::eval::Operands;
use crate::fault::{Code, Fault};
use crate::infer::*;
use crate::op::Op;
use crate::program::Program;
use crate::types::*;

/// The family.
pub(crate) struct Elementwise;

impl Family for Elementwise {
    fn infer(program: &Program, op: &Op) -> Result<Option<Type>, Fault> {
        let share = |v: &Value| share(program, *v);
        let ty = match op {
            Op::Narrow { x, width } => {
                let x = share(x)?;
                if *width >= x.width {
                    return fault(Code::Width, format!("width {width} is not below the operand's {}", x.width));
                }
                Type { width: *width, ..x.clone() }
            }
            Op::Down { x, by } => {
                let x = share(x)?;
                if *by == 0 || *by >= x.width {
                    return fault(Code::Width, format!("a value of {} bits cannot go down by {by}", x.width));
                }
                Type { width: x.width - by, scale: scale_sum(x.scale, -i16::from(*by))?, ..x.clone() }
            }
            Op::Up { x, by } => {
                let x = share(x)?;
                if *by == 0 || x.width.checked_add(*by).is_none_or(|n| n > MAX_WIDTH) {
                    return fault(
                        Code::Width,
                        format!("a value of {} bits cannot go up by {by}: at most {MAX_WIDTH}", x.width),
                    );
                }
                Type { width: x.width + by, scale: scale_sum(x.scale, i16::from(*by))?, ..x.clone() }
            }
            Op::Point { x, scale } => Type { scale: *scale, ..share(x)?.clone() },
            Op::Add { x, y } | Op::Sub { x, y } => {
                let (x, y) = (share(x)?, share(y)?);
                if x.width != y.width {
                    return Err(Fault::new(Code::Width, format!("widths {} and {} differ", x.width, y.width))
                        .help("`narrow` the wider operand"));
                }
                equal_scales(x.scale, y.scale)?;
                Type { shape: broadcast(&x.shape, &y.shape)?, ..x.clone() }
            }
            Op::AddPublic { x, table } => {
                let x = share(x)?;
                equal_scales(x.scale, constant_into(program, *table, x)?)?;
                x.clone()
            }
            Op::MulPublic { x, table } => {
                let x = share(x)?;
                Type { scale: scale_sum(x.scale, constant_into(program, *table, x)?)?, ..x.clone() }
            }
            Op::AddWeight { x, weight } => {
                let (x, w) = (share(x)?, get(&program.weights, weight.index(), "weight")?);
                equal_scales(x.scale, w.scale)?;
                broadcast_into(&w.shape, &x.shape)?;
                x.clone()
            }
            Op::AddRow { x, weight, index } => {
                let (x, w) = (share(x)?, get(&program.weights, weight.index(), "weight")?);
                equal_scales(x.scale, w.scale)?;
                row(program, &w.shape, *index, &x.shape)?;
                x.clone()
            }
            Op::AddBand { x, weight, index } => {
                let (x, w) = (share(x)?, get(&program.weights, weight.index(), "weight")?);
                equal_scales(x.scale, w.scale)?;
                get(&program.publics, index.index(), "public")?;
                let ([h, _], [held, _]) = (&x.shape.0[..], &w.shape.0[..]) else {
                    return fault(
                        Code::Shape,
                        format!("a band of {} is added to a matrix, not to {}", w.shape, x.shape),
                    );
                };
                if held != h && *held != 1 {
                    return fault(Code::Shape, format!("{} has neither 1 nor {h} rows", w.shape));
                }
                x.clone()
            }
            Op::MulRow { x, table, index } => {
                let (x, (scale, shape)) = (share(x)?, constant(program, *table)?);
                row(program, shape, *index, &x.shape)?;
                Type { scale: scale_sum(x.scale, scale)?, ..x.clone() }
            }
            _ => unreachable!("an op of another family"),
        };
        Ok(Some(ty))
    }

    fn eval(run: &Operands<'_>, op: &Op) -> Vec<i64> {
        match op {
            Op::Narrow { x, .. } | Op::Point { x, .. } => run.value(x).to_vec(),
            Op::Down { x, by } => {
                // Half is at most 2^62; the sum is taken in 128 bits since the value may be near 2^63.
                let half = 1i128 << (by - 1);
                run.map(x, |v| ((i128::from(v) + half) >> by) as i64)
            }
            Op::Up { x, by } => run.map(x, |v| v << by),
            Op::Add { x, y } => run.both(x, y, i64::wrapping_add),
            Op::Sub { x, y } => run.both(x, y, i64::wrapping_sub),
            Op::AddPublic { x, table } => {
                let (shape, values) = held(run.program, *table);
                run.with(x, values, shape, i64::wrapping_add)
            }
            Op::MulPublic { x, table } => {
                let (shape, values) = held(run.program, *table);
                run.with(x, values, shape, i64::wrapping_mul)
            }
            Op::AddWeight { x, weight } => {
                let shape = &run.program.weights[weight.index()].shape;
                run.with(x, &run.arguments.weights.weight(weight.index()), shape, i64::wrapping_add)
            }
            Op::AddRow { x, weight, index } => {
                let d = run.program.weights[weight.index()].shape.0[1];
                let at = run.arguments.publics[index.index()] as usize * d as usize;
                let row = &run.arguments.weights.weight(weight.index())[at..at + d as usize];
                run.with(x, row, &Shape(vec![d]), i64::wrapping_add)
            }
            Op::AddBand { x, weight, index } => {
                let [held, n] = run.program.weights[weight.index()].shape.0[..] else { unreachable!("verified") };
                let (held, n, c) = (held as usize, n as usize, run.own.shape.0[1] as usize);
                let at = run.arguments.publics[index.index()];
                let weight = run.arguments.weights.weight(weight.index());
                let band = |row: usize, j: usize| {
                    let column = (at as usize).checked_sub(j).filter(|&column| column < n);
                    column.map_or(0, |column| weight[(row % held) * n + column])
                };
                run.value(x).iter().enumerate().map(|(i, v)| v.wrapping_add(band(i / c, i % c))).collect()
            }
            Op::MulRow { x, table, index } => {
                let (shape, values) = held(run.program, *table);
                let d = shape.0[1];
                let at = run.arguments.publics[index.index()] as usize * d as usize;
                let row = &values[at..at + d as usize];
                run.with(x, row, &Shape(vec![d]), i64::wrapping_mul)
            }
            _ => unreachable!("an op of another family"),
        }
    }
}

/// Shape and values of a constant of a verified program.
fn held(program: &Program, table: TableId) -> (&Shape, &[i64]) {
    let Table::Const { shape, values, .. } = program.table(table) else { unreachable!("verified") };
    (shape, values)
}
