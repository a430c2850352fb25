//! Reductions over axes, which stay as dimensions of one.

use ndarray::{ArrayD, ArrayView1, ArrayViewD, Axis};

use super::{Family, stranger};
use crate::graph::kernel::{Element, View, empty_last, from_vec, standard};
use crate::graph::shape::{Operands, Typed, axis_in};
use crate::graph::text::{ParseError, Parser, list};
use crate::graph::{DType, Op, Tensor};

pub(super) const FAMILY: Family = Family {
    name,
    attributes,
    parse: |parser, name, _| parse(parser, name),
    rule: |op, operands, _| rule(op, operands),
    kernel: |op, operands, _, _| Ok(kernel(op, operands)),
};

fn name(op: &Op) -> &'static str {
    match op {
        Op::ReduceMean { .. } => "reduce_mean",
        Op::ReduceSum { .. } => "reduce_sum",
        Op::ReduceMax { .. } => "reduce_max",
        Op::ArgMax { .. } => "arg_max",
        _ => stranger(op),
    }
}

fn attributes(op: &Op) -> String {
    match op {
        Op::ReduceMean { axes } | Op::ReduceSum { axes } | Op::ReduceMax { axes } => format!("axes {}", list(axes)),
        Op::ArgMax { axis, last } => format!("axis {axis}{}", if *last { ", last" } else { "" }),
        _ => stranger(op),
    }
}

fn parse(parser: &mut Parser<'_>, name: &str) -> Result<Option<Op>, ParseError> {
    if name == "arg_max" {
        let axis = parser.named("axis")?;
        let last = parser.eat(',');
        if last {
            parser.keyword("last")?;
        }
        return Ok(Some(Op::ArgMax { axis, last }));
    }
    if !matches!(name, "reduce_mean" | "reduce_sum" | "reduce_max") {
        return Ok(None);
    }
    parser.keyword("axes")?;
    let axes = parser.numbers()?;
    Ok(Some(match name {
        "reduce_mean" => Op::ReduceMean { axes },
        "reduce_sum" => Op::ReduceSum { axes },
        _ => Op::ReduceMax { axes },
    }))
}

fn rule(op: &Op, operands: Operands<'_>) -> Result<Typed, String> {
    operands.count(1..=1)?;
    let (axes, dtype) = match op {
        Op::ReduceSum { axes } if operands.dtype(0) == DType::I64 => (&axes[..], DType::I64),
        Op::ReduceMean { axes } | Op::ReduceSum { axes } | Op::ReduceMax { axes } => (&axes[..], DType::F32),
        Op::ArgMax { axis, .. } => (std::slice::from_ref(axis), DType::I64),
        _ => stranger(op),
    };
    if !(operands.dtype(0) == DType::F32 || dtype == DType::I64 && matches!(op, Op::ReduceSum { .. })) {
        return Err(format!("operand 0 holds {:?}", operands.dtype(0)));
    }
    let mut shape = operands.shape(0).clone();
    for &axis in axes {
        axis_in(axis, &shape)?;
        if shape[axis] == 0 && matches!(op, Op::ReduceMax { .. } | Op::ArgMax { .. }) {
            return Err(format!("axis {axis} of {:?} has no greatest element", operands.shape(0)));
        }
        shape[axis] = 1;
    }
    Ok((shape, dtype))
}

fn kernel(op: &Op, operands: &[View<'_>]) -> Tensor {
    let float = || f32::of(&operands[0]);
    match op {
        Op::ReduceSum { axes } => {
            match &operands[0] {
                View::I64(x) => Tensor::I64(empty_last(axes, x.shape()).into_iter().fold(x.to_owned(), |x, a| {
                    x.fold_axis(Axis(a), 0i64, |s, &e| s.wrapping_add(e)).insert_axis(Axis(a))
                })),
                _ => Tensor::F32(sum(float(), axes).mapv(|x| x as f32)),
            }
        }
        Op::ReduceMean { axes } => {
            let count: usize = axes.iter().map(|&a| operands[0].shape()[a]).product();
            Tensor::F32(sum(float(), axes).mapv(|x| (x / count as f64) as f32))
        }
        Op::ReduceMax { axes } => Tensor::F32(axes.iter().fold(float().to_owned(), |x, &a| {
            // A NaN wins, as in onnxruntime.
            let greater = |m: &f32, e: &f32| if e.is_nan() || *e > *m { *e } else { *m };
            standard(x.fold_axis(Axis(a), f32::NEG_INFINITY, greater).insert_axis(Axis(a)).view())
        })),
        &Op::ArgMax { axis, last } => {
            let greatest = |lane: ArrayView1<f32>| {
                let mut best = 0;
                for (i, x) in lane.iter().enumerate() {
                    if *x > lane[best] || last && *x == lane[best] {
                        best = i;
                    }
                }
                best as i64
            };
            let indices = float().map_axis(Axis(axis), greatest).insert_axis(Axis(axis));
            Tensor::I64(standard(indices.view()))
        }
        _ => stranger(op),
    }
}

/// Sum over axes, which stay as dimensions of one.
fn sum(x: &ArrayViewD<'_, f32>, axes: &[usize]) -> ArrayD<f64> {
    let axes = empty_last(axes, x.shape());
    axes.into_iter().fold(x.mapv(f64::from), |x, a| standard_f64(x.sum_axis(Axis(a)).insert_axis(Axis(a))))
}

fn standard_f64(x: ArrayD<f64>) -> ArrayD<f64> {
    let shape = x.shape().to_vec();
    from_vec(&shape, x.iter().copied().collect())
}
