//! Rows of tables: of token ids, and of a position.

use ndarray::{ArrayD, Axis};

use super::moves::gather;
use super::{Family, plain, stranger};
use crate::graph::kernel::{Element, View, index};
use crate::graph::shape::{Operands, Typed};
use crate::graph::{DType, Op, Tensor};

pub(super) const FAMILY: Family = Family {
    name: |op| match op {
        Op::Embed => "embed",
        Op::AddRow => "add_row",
        _ => stranger(op),
    },
    attributes: |_| String::new(),
    parse: |_, name, _| Ok(plain(&[Op::Embed, Op::AddRow], name)),
    rule: |op, operands, _| rule(op, operands),
    kernel: |op, operands, _, position| kernel(op, operands, position).map(Tensor::F32),
};

fn rule(op: &Op, operands: Operands<'_>) -> Result<Typed, String> {
    operands.count(2..=2)?;
    let table = operands.float(1)?;
    match op {
        Op::Embed => {
            if operands.dtype(0) != DType::I64 || table.len() != 2 {
                return Err(format!("ids hold {:?}, the table is {table:?}", operands.dtype(0)));
            }
            Ok(([operands.shape(0), &table[1..]].concat(), DType::F32))
        }
        Op::AddRow => {
            let x = operands.float(0)?;
            if table.len() != 2 || table[0] == 0 || x.last() != Some(&table[1]) {
                return Err(format!("no row of {table:?} to add to {x:?}"));
            }
            Ok((x.clone(), DType::F32))
        }
        _ => stranger(op),
    }
}

fn kernel(op: &Op, operands: &[View<'_>], position: Option<usize>) -> Result<ArrayD<f32>, String> {
    let table = f32::of(&operands[1]);
    match op {
        Op::Embed => {
            let ids = i64::of(&operands[0]);
            if ids.iter().any(|id| usize::try_from(*id).map_or(true, |id| id >= table.shape()[0])) {
                return Err(format!("an id is outside 0..{}", table.shape()[0]));
            }
            gather(table, ids, 0)
        }
        Op::AddRow => {
            let at = index(position, table.shape()[0])?;
            Ok(f32::of(&operands[0]).to_owned() + &table.index_axis(Axis(0), at))
        }
        _ => stranger(op),
    }
}
