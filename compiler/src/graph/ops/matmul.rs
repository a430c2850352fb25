//! Matrix products, and what is added to them.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis, Dimension, Ix2, IxDyn};

use super::{Family, plain, stranger};
use crate::graph::kernel::{Element, View, from_vec, wide};
use crate::graph::shape::{Operands, broadcast};
use crate::graph::{DType, Op, Tensor};

pub(super) const FAMILY: Family = Family {
    name,
    attributes: |_| String::new(),
    parse: |_, name, _| Ok(plain(&[Op::MatMul, Op::Linear, Op::AddWeight], name)),
    rule: |op, operands, _| rule(op, operands).map(|shape| (shape, DType::F32)),
    kernel: |op, operands, shape, _| Ok(Tensor::F32(kernel(op, operands, shape))),
};

fn name(op: &Op) -> &'static str {
    match op {
        Op::MatMul => "mat_mul",
        Op::Linear => "linear",
        Op::AddWeight => "add_weight",
        _ => stranger(op),
    }
}

fn rule(op: &Op, operands: Operands<'_>) -> Result<Vec<usize>, String> {
    operands.count(if matches!(op, Op::Linear) { 2..=3 } else { 2..=2 })?;
    let (x, w) = (operands.float(0)?, operands.float(1)?);
    match op {
        Op::MatMul => product(x, w),
        Op::Linear => {
            if w.len() != 2 || x.last() != Some(&w[0]) || operands.len() == 3 && operands.float(2)?[..] != w[1..] {
                return Err(format!("{x:?} times {w:?} and a bias"));
            }
            Ok([&x[..x.len() - 1], &w[1..]].concat())
        }
        Op::AddWeight => {
            if broadcast(x, w)? != *x {
                return Err(format!("{w:?} does not broadcast to {x:?}"));
            }
            Ok(x.clone())
        }
        _ => stranger(op),
    }
}

/// numpy's rule: the last two axes multiply, the others broadcast, a vector is a row or a column.
fn product(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let fault = || format!("shapes {a:?} and {b:?} do not multiply");
    let (a_batch, a_last) = a.split_at(a.len().saturating_sub(2));
    let (b_batch, b_last) = b.split_at(b.len().saturating_sub(2));
    let (rows, inner) = match *a_last {
        [k] => (None, k),
        [m, k] => (Some(m), k),
        _ => return Err(fault()),
    };
    let (other, columns) = match *b_last {
        [k] => (k, None),
        [k, n] => (k, Some(n)),
        _ => return Err(fault()),
    };
    if inner != other {
        return Err(fault());
    }
    let mut shape = broadcast(a_batch, b_batch).map_err(|_| fault())?;
    shape.extend(rows);
    shape.extend(columns);
    Ok(shape)
}

fn kernel(op: &Op, operands: &[View<'_>], shape: &[usize]) -> ArrayD<f32> {
    let float = |i: usize| f32::of(&operands[i]);
    match op {
        Op::MatMul => matmul(float(0), float(1), shape),
        Op::Linear => {
            let mut y = matmul(float(0), float(1), shape);
            if operands.len() == 3 {
                y += float(2);
            }
            y
        }
        Op::AddWeight => float(0).to_owned() + float(1),
        _ => stranger(op),
    }
}

/// The matrix at a batch index.
fn matrix<'a>(view: &'a ArrayViewD<'_, f32>, index: &[usize]) -> ArrayView2<'a, f32> {
    let view = index.iter().fold(view.view(), |v, &i| v.index_axis_move(Axis(0), i));
    view.into_dimensionality::<Ix2>().expect("two axes are left")
}

fn matmul(a: &ArrayViewD<'_, f32>, b: &ArrayViewD<'_, f32>, shape: &[usize]) -> ArrayD<f32> {
    // A vector is a matrix of one row or one column.
    let a = if a.ndim() == 1 { a.view().insert_axis(Axis(0)) } else { a.view() };
    let b = if b.ndim() == 1 { b.view().insert_axis(Axis(1)) } else { b.view() };
    let (m, k, n) = (a.shape()[a.ndim() - 2], a.shape()[a.ndim() - 1], b.shape()[b.ndim() - 1]);
    if b.ndim() == 2 {
        // All rows of a batch at once.
        let rows = a.shape()[..a.ndim() - 1].iter().product();
        let a = a.to_shape((rows, k)).expect("as many elements");
        let mut out = Array2::zeros((rows, n));
        general_mat_mul(1.0, &a, &matrix(&b, &[]), 0.0, &mut out);
        return from_vec(shape, out.into_raw_vec_and_offset().0);
    }
    let batch = broadcast(&a.shape()[..a.ndim() - 2], &b.shape()[..b.ndim() - 2]).expect("checked to broadcast");
    let (a_shape, b_shape) = ([&batch[..], &[m, k]].concat(), [&batch[..], &[k, n]].concat());
    let (a, b) = (wide(&a, &a_shape), wide(&b, &b_shape));
    let mut out = ArrayD::zeros(IxDyn(&[&batch[..], &[m, n]].concat()));
    for index in ndarray::indices(IxDyn(&batch)) {
        let index = index.as_array_view().to_vec();
        let target = index.iter().fold(out.view_mut(), |v, &i| v.index_axis_move(Axis(0), i));
        let mut target = target.into_dimensionality::<Ix2>().expect("two axes are left");
        general_mat_mul(1.0, &matrix(&a, &index), &matrix(&b, &index), 0.0, &mut target);
    }
    from_vec(shape, out.into_raw_vec_and_offset().0)
}
