//! Arithmetic that models do on shapes, positions and masks only: ONNX operators that have no counterpart in the graph,
//! because none of their operands is ever secret. Semantics are ONNX's; each function says no more than that.

use ndarray::{ArrayD, ArrayViewD, Axis, Dimension, IxDyn};

use crate::graph::kernel::{Element, View, empty_last, for_dtype, from_vec, zip};
use crate::graph::{DType, Tensor};

/// Greatest number of elements that an operator may make out of fewer, where neither the size of the file nor that of its
/// inputs explains more: index and mask arithmetic needs no more.
pub const MAX_MADE: usize = 1 << 20;

/// Greatest size of a mask of rows and columns that the sizes of inputs explain.
pub const MAX_PLANE: usize = 1 << 28;

/// An error unless an operator may make so many elements out of fewer.
pub fn check_made(count: usize, most: usize) -> Result<(), String> {
    if count <= most { Ok(()) } else { Err(format!("it makes {count} elements out of fewer, more than {most}")) }
}

/// `Range`.
pub fn range(start: &View, limit: &View, delta: &View) -> Result<Tensor, String> {
    let too_long = || "it gives too many elements".to_string();
    match (one(start)?, one(limit)?, one(delta)?) {
        (Scalar::I64(start), Scalar::I64(limit), Scalar::I64(delta)) => {
            let (from, to, by) = (i128::from(start), i128::from(limit), i128::from(delta));
            if by == 0 {
                return Err("its step is zero".into());
            }
            let count = ((to - from + by - by.signum()) / by).max(0);
            let count = usize::try_from(count).ok().filter(|&n| n <= MAX_MADE).ok_or_else(too_long)?;
            Ok(Tensor::I64(from_vec(
                &[count],
                (0..count as i64).map(|i| start.wrapping_add(i.wrapping_mul(delta))).collect(),
            )))
        }
        (Scalar::F32(start), Scalar::F32(limit), Scalar::F32(delta)) => {
            let count = ((f64::from(limit) - f64::from(start)) / f64::from(delta)).ceil().max(0.0);
            if count > MAX_MADE as f64 {
                return Err(too_long());
            }
            let count = count as usize;
            Ok(Tensor::F32(from_vec(&[count], (0..count).map(|i| start + i as f32 * delta).collect())))
        }
        _ => Err("its operands differ in type".into()),
    }
}

enum Scalar {
    F32(f32),
    I64(i64),
}

fn one(view: &View) -> Result<Scalar, String> {
    match view {
        View::F32(a) if a.len() == 1 => Ok(Scalar::F32(*a.first().expect("one element"))),
        View::I64(a) if a.len() == 1 => Ok(Scalar::I64(*a.first().expect("one element"))),
        _ => Err("an operand is not a single number".into()),
    }
}

/// `ConstantOfShape`: one element, copied.
pub fn filled(shape: &[usize], element: &Tensor) -> Result<Tensor, String> {
    if element.view().shape().iter().product::<usize>() != 1 {
        return Err("its value is not a single element".into());
    }
    Ok(for_dtype!(element.dtype(), T => {
        let view = element.view();
        T::tensor(ArrayD::from_elem(IxDyn(shape), *T::of(&view).first().expect("one element")))
    }))
}

/// `Equal`.
pub fn equal(a: &View, b: &View) -> Result<Tensor, String> {
    if a.dtype() != b.dtype() {
        return Err("its operands differ in type".into());
    }
    for_dtype!(a.dtype(), T => zip(T::of(a), T::of(b), |a, b| a == b)).map(Tensor::Bool)
}

/// `Less` and its kin, of integers.
pub fn compare(a: &View, b: &View, f: fn(i64, i64) -> bool) -> Result<Tensor, String> {
    match (a, b) {
        (View::I64(a), View::I64(b)) => zip(a, b, f).map(Tensor::Bool),
        _ => Err("its operands are not integers".into()),
    }
}

/// `IsInf`: a test of floats.
pub fn test(a: &View, f: impl Fn(f32) -> bool) -> Result<Tensor, String> {
    match a {
        View::F32(a) => Ok(Tensor::Bool(a.mapv(f))),
        _ => Err(format!("its operand holds {:?}", a.dtype())),
    }
}

/// `And`, `Or`, `Xor`.
pub fn logic(a: &View, b: &View, f: fn(bool, bool) -> bool) -> Result<Tensor, String> {
    match (a, b) {
        (View::Bool(a), View::Bool(b)) => zip(a, b, f).map(Tensor::Bool),
        _ => Err("its operands are not booleans".into()),
    }
}

/// `Not`.
pub fn not(a: &View) -> Result<Tensor, String> {
    match a {
        View::Bool(a) => Ok(Tensor::Bool(a.mapv(|x| !x))),
        _ => Err("its operand is not boolean".into()),
    }
}

/// `Min`, `Max` and `Mod` of two operands.
pub fn numbers(a: &View, b: &View, float: fn(f32, f32) -> f32, integer: fn(i64, i64) -> i64) -> Result<Tensor, String> {
    match (a, b) {
        (View::F32(a), View::F32(b)) => zip(a, b, float).map(Tensor::F32),
        (View::I64(a), View::I64(b)) => zip(a, b, integer).map(Tensor::I64),
        _ => Err("its operands are not numbers of one type".into()),
    }
}

/// A function of integers, element by element.
pub fn integers(a: &View, f: fn(i64) -> i64) -> Result<Tensor, String> {
    match a {
        View::I64(a) => Ok(Tensor::I64(a.mapv(f))),
        _ => Err(format!("its operand holds {:?}", a.dtype())),
    }
}

/// `Cast` to integers (toward zero) or booleans (not zero).
pub fn cast(a: &View, to: DType) -> Tensor {
    match (a, to) {
        (View::F32(a), DType::I64) => Tensor::I64(a.mapv(|x| x as i64)),
        (View::F32(a), DType::Bool) => Tensor::Bool(a.mapv(|x| x != 0.0)),
        (View::F32(a), DType::F32) => Tensor::F32(a.to_owned()),
        (View::I64(a), DType::I64) => Tensor::I64(a.to_owned()),
        (View::I64(a), DType::Bool) => Tensor::Bool(a.mapv(|x| x != 0)),
        (View::I64(a), DType::F32) => Tensor::F32(a.mapv(|x| x as f32)),
        (View::Bool(a), DType::I64) => Tensor::I64(a.mapv(i64::from)),
        (View::Bool(a), DType::Bool) => Tensor::Bool(a.to_owned()),
        (View::Bool(a), DType::F32) => Tensor::F32(a.mapv(|x| f32::from(u8::from(x)))),
    }
}

/// `Trilu`: keeps the part on and above (`upper`) or on and below diagonal `k` of each matrix.
pub fn trilu(a: &View, k: i64, upper: bool) -> Result<Tensor, String> {
    let shape = a.shape().to_vec();
    let [.., rows, columns] = shape[..] else { return Err("its operand has no rows and columns".into()) };
    let kept = |at: usize| {
        let (row, column) = (at / columns % rows.max(1), at % columns);
        let distance = (column as i64).saturating_sub(row as i64);
        if upper { distance >= k } else { distance <= k }
    };
    Ok(for_dtype!(a.dtype(), T => {
        let kept = T::of(a).iter().enumerate().map(|(at, &x)| if kept(at) { x } else { T::default() });
        T::tensor(from_vec(&shape, kept.collect()))
    }))
}

/// `CumSum`.
pub fn cumsum(a: &View, axis: usize, exclusive: bool, reverse: bool) -> Result<Tensor, String> {
    fn run<T: Copy + Default>(
        a: &ArrayViewD<'_, T>,
        axis: usize,
        (exclusive, reverse): (bool, bool),
        add: fn(T, T) -> T,
    ) -> ArrayD<T> {
        let mut out = a.to_owned();
        for mut lane in out.lanes_mut(Axis(axis)) {
            let mut sum = T::default();
            for i in 0..lane.len() {
                let i = if reverse { lane.len() - 1 - i } else { i };
                let next = add(sum, lane[i]);
                lane[i] = if exclusive { sum } else { next };
                sum = next;
            }
        }
        out
    }
    match a {
        View::F32(a) => Ok(Tensor::F32(run(a, axis, (exclusive, reverse), |x, y| x + y))),
        View::I64(a) => Ok(Tensor::I64(run(a, axis, (exclusive, reverse), i64::wrapping_add))),
        View::Bool(_) => Err("its operand is boolean".into()),
    }
}

/// `ScatterND` without a reduction: `updates` in the places that `indices` name.
pub fn scatter_nd(data: &View, indices: &View, updates: &View) -> Result<Tensor, String> {
    let View::I64(indices) = indices else { return Err("its indices are not integers".into()) };
    if data.dtype() != updates.dtype() {
        return Err("its data and updates differ in type".into());
    }
    let depth = indices.shape().last().copied().ok_or("its indices have no dimension")?;
    let batch = &indices.shape()[..indices.ndim() - 1];
    if depth > data.shape().len() || [batch, &data.shape()[depth..]].concat() != updates.shape() {
        return Err("its updates do not fit its indices and data".into());
    }
    let block: usize = data.shape()[depth..].iter().product();
    // Updates of no elements may claim any number of blocks.
    check_made(batch.iter().product(), data.shape().iter().product::<usize>().max(MAX_MADE))?;
    let places: Vec<usize> = from_vec(&[batch.iter().product(), depth], indices.iter().copied().collect())
        .outer_iter()
        .map(|index| {
            index.iter().zip(data.shape()).try_fold(0usize, |at, (&i, &size)| {
                let i = if i < 0 { i.checked_add(size as i64)? } else { i };
                usize::try_from(i).ok().filter(|&i| i < size).map(|i| at * size + i)
            })
        })
        .collect::<Option<_>>()
        .ok_or("an index is out of range")?;
    Ok(for_dtype!(data.dtype(), T => {
        let mut out: Vec<T> = T::of(data).iter().copied().collect();
        let updates: Vec<T> = T::of(updates).iter().copied().collect();
        for (n, &at) in places.iter().enumerate() {
            out[at * block..(at + 1) * block].copy_from_slice(&updates[n * block..(n + 1) * block]);
        }
        T::tensor(from_vec(data.shape(), out))
    }))
}

/// `ReduceMax`, `ReduceMin`, `ReduceProd`, dimensions kept. What reduces nothing is the neutral element, which of integers
/// `ReduceProd` alone has here.
pub fn reduce(
    a: &View,
    axes: &[usize],
    (float, none): (fn(f32, f32) -> f32, f32),
    (integer, no_integer): (fn(i64, i64) -> i64, i64),
) -> Result<Tensor, String> {
    fn run<T: Element>(a: &ArrayViewD<'_, T>, axes: &[usize], f: fn(T, T) -> T, none: T) -> ArrayD<T> {
        empty_last(axes, a.shape()).into_iter().fold(a.to_owned(), |x, axis| {
            let lanes = x.lanes(Axis(axis)).into_iter();
            let values: Vec<T> = lanes.map(|lane| lane.iter().copied().reduce(f).unwrap_or(none)).collect();
            let mut shape = x.raw_dim();
            shape.slice_mut()[axis] = 1;
            from_vec(shape.slice(), values)
        })
    }
    match a {
        View::F32(a) => Ok(Tensor::F32(run(a, axes, float, none))),
        View::I64(a) => Ok(Tensor::I64(run(a, axes, integer, no_integer))),
        // The greatest truth is their disjunction.
        View::Bool(a) => {
            let numbers = a.mapv(i64::from);
            Ok(Tensor::Bool(run(&numbers.view(), axes, integer, no_integer).mapv(|x| x > 0)))
        }
    }
}

/// `NonZero`: the indices of what is not zero or false, by dimension.
pub fn non_zero(a: &View) -> Result<Tensor, String> {
    let rank = a.shape().len();
    check_made(a.shape().iter().product::<usize>().saturating_mul(rank), 4 * MAX_MADE)?;
    let cast = cast(a, DType::Bool);
    let Tensor::Bool(truths) = &cast else { unreachable!("a cast gives what it is asked for") };
    let found: Vec<Vec<i64>> = truths
        .indexed_iter()
        .filter(|(_, truth)| **truth)
        .map(|(index, _)| index.as_array_view().iter().map(|&i| i as i64).collect())
        .collect();
    let elements = (0..rank).flat_map(|axis| found.iter().map(move |index| index[axis])).collect();
    Ok(Tensor::I64(from_vec(&[rank, found.len()], elements)))
}
