//! What each op computes, on dense tensors: one kernel per op, for the evaluator and for constant folding alike.
//!
//! Floats are 32-bit as in onnxruntime; sums of means, norms and softmax accumulate in 64 bits. Operands and results are
//! in standard (row-major, contiguous) layout, and operands are typed as [`super::shape`] demands. What is left to go
//! wrong is in the data: an index out of range, an integer division by zero.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis, Dimension, Ix2, IxDyn, Slice, Zip};

use super::shape::broadcast;
use super::{DType, Op, Tensor};

/// A borrowed [`Tensor`].
#[derive(Clone)]
pub enum View<'a> {
    /// 32-bit floats.
    F32(ArrayViewD<'a, f32>),
    /// Integers.
    I64(ArrayViewD<'a, i64>),
    /// Booleans.
    Bool(ArrayViewD<'a, bool>),
}

impl View<'_> {
    /// Dimensions.
    pub fn shape(&self) -> &[usize] {
        match self {
            View::F32(a) => a.shape(),
            View::I64(a) => a.shape(),
            View::Bool(a) => a.shape(),
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            View::F32(_) => DType::F32,
            View::I64(_) => DType::I64,
            View::Bool(_) => DType::Bool,
        }
    }
}

impl Tensor {
    /// Borrows the elements.
    pub fn view(&self) -> View<'_> {
        match self {
            Tensor::F32(a) => View::F32(a.view()),
            Tensor::I64(a) => View::I64(a.view()),
            Tensor::Bool(a) => View::Bool(a.view()),
        }
    }
}

/// A type of element.
pub trait Element: Copy + Default + PartialEq + 'static {
    /// The elements of an operand that holds this type.
    fn of<'a, 'b>(view: &'b View<'a>) -> &'b ArrayViewD<'a, Self>;
    /// The other way.
    fn tensor(array: ArrayD<Self>) -> Tensor;
}

macro_rules! element {
    ($ty:ty, $variant:ident) => {
        impl Element for $ty {
            fn of<'a, 'b>(view: &'b View<'a>) -> &'b ArrayViewD<'a, $ty> {
                match view {
                    View::$variant(array) => array,
                    _ => panic!("an operand of type {:?} was checked to be {}", view.dtype(), stringify!($variant)),
                }
            }

            fn tensor(array: ArrayD<$ty>) -> Tensor {
                Tensor::$variant(array)
            }
        }
    };
}
element!(f32, F32);
element!(i64, I64);
element!(bool, Bool);

/// Instantiates an expression for the element type of a tensor.
macro_rules! for_dtype {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::graph::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::graph::DType::I64 => {
                type $T = i64;
                $body
            }
            $crate::graph::DType::Bool => {
                type $T = bool;
                $body
            }
        }
    };
}
pub(crate) use for_dtype;

/// Computes `op`. `shape` is the result's shape; `position` is the index that `Pick` and `AddRow` take, by default the last.
/// Sources have no kernel.
pub fn apply(op: &Op, operands: &[View<'_>], shape: &[usize], position: Option<usize>) -> Result<Tensor, String> {
    let float = |i: usize| f32::of(&operands[i]);
    match op {
        Op::Input { .. } | Op::Const(_) | Op::Weight { .. } => panic!("a source is not computed"),
        &Op::Gather { axis } => {
            for_dtype!(operands[0].dtype(), T => gather(T::of(&operands[0]), i64::of(&operands[1]), axis).map(T::tensor))
        }
        Op::MatMul => Ok(Tensor::F32(matmul(float(0), float(1), shape))),
        Op::Add => arithmetic(operands, |a, b| a + b, |a, b| Ok(a.wrapping_add(b))),
        Op::Sub => arithmetic(operands, |a, b| a - b, |a, b| Ok(a.wrapping_sub(b))),
        Op::Mul => arithmetic(operands, |a, b| a * b, |a, b| Ok(a.wrapping_mul(b))),
        Op::Div => arithmetic(
            operands,
            |a, b| a / b,
            |a, b| if b == 0 { Err("an integer is divided by zero".into()) } else { Ok(a.wrapping_div(b)) },
        ),
        Op::Pow => pow(operands),
        Op::Neg => Ok(match &operands[0] {
            View::I64(x) => Tensor::I64(x.mapv(i64::wrapping_neg)),
            _ => Tensor::F32(float(0).mapv(|x| -x)),
        }),
        &Op::Unary(f) => Ok(Tensor::F32(float(0).mapv(|x| f.value_f32(x)))),
        Op::Less => zip(float(0), float(1), |a, b| a < b).map(Tensor::Bool),
        Op::LessOrEqual => zip(float(0), float(1), |a, b| a <= b).map(Tensor::Bool),
        Op::Where => {
            let cond = bool::of(&operands[0]);
            Ok(
                for_dtype!(operands[1].dtype(), T => T::tensor(select(cond, T::of(&operands[1]), T::of(&operands[2]), shape))),
            )
        }
        Op::IsNaN => Ok(Tensor::Bool(float(0).mapv(f32::is_nan))),
        Op::ToF32 => Ok(Tensor::F32(match &operands[0] {
            View::F32(a) => a.to_owned(),
            View::I64(a) => a.mapv(|x| x as f32),
            View::Bool(a) => a.mapv(|x| f32::from(u8::from(x))),
        })),
        Op::Reshape => Ok(
            for_dtype!(operands[0].dtype(), T => T::tensor(from_vec(shape, T::of(&operands[0]).iter().copied().collect()))),
        ),
        Op::Transpose { perm } => Ok(
            for_dtype!(operands[0].dtype(), T => T::tensor(standard(T::of(&operands[0]).view().permuted_axes(IxDyn(perm))))),
        ),
        &Op::Slice { axis, from, to } => Ok(
            for_dtype!(operands[0].dtype(), T => T::tensor(standard(T::of(&operands[0]).slice_axis(Axis(axis), Slice::from(from..to))))),
        ),
        &Op::Concat { axis } => Ok(for_dtype!(operands[0].dtype(), T => {
            let parts: Vec<_> = operands.iter().map(T::of).collect();
            T::tensor(concat(&parts, axis, shape))
        })),
        Op::Expand => Ok(for_dtype!(operands[0].dtype(), T => T::tensor(standard(wide(T::of(&operands[0]), shape))))),
        &Op::Softmax { axis } => {
            let mut x = float(0).to_owned();
            for mut lane in x.lanes_mut(Axis(axis)) {
                softmax(lane.iter_mut());
            }
            Ok(Tensor::F32(x))
        }
        Op::ReduceSum { axes } => Ok(match &operands[0] {
            View::I64(x) => Tensor::I64(axes.iter().fold(x.to_owned(), |x, &a| {
                x.fold_axis(Axis(a), 0i64, |s, &e| s.wrapping_add(e)).insert_axis(Axis(a))
            })),
            _ => Tensor::F32(sum(float(0), axes).mapv(|x| x as f32)),
        }),
        Op::ReduceMean { axes } => {
            let count: usize = axes.iter().map(|&a| operands[0].shape()[a]).product();
            Ok(Tensor::F32(sum(float(0), axes).mapv(|x| (x / count as f64) as f32)))
        }
        Op::ReduceMax { axes } => Ok(Tensor::F32(axes.iter().fold(float(0).to_owned(), |x, &a| {
            // A NaN wins, as in onnxruntime.
            let greater = |m: &f32, e: &f32| if e.is_nan() || *e > *m { *e } else { *m };
            standard(x.fold_axis(Axis(a), f32::NEG_INFINITY, greater).insert_axis(Axis(a)).view())
        }))),
        &Op::ArgMax { axis, last } => {
            let greatest = |lane: ndarray::ArrayView1<f32>| {
                let mut best = 0;
                for (i, x) in lane.iter().enumerate() {
                    if *x > lane[best] || last && *x == lane[best] {
                        best = i;
                    }
                }
                best as i64
            };
            let indices = float(0).map_axis(Axis(axis), greatest).insert_axis(Axis(axis));
            Ok(Tensor::I64(standard(indices.view())))
        }
        &Op::LayerNormalization { epsilon } => {
            let mut x = normalize(float(0), epsilon, false);
            x *= float(1);
            if operands.len() == 3 {
                x += float(2);
            }
            Ok(Tensor::F32(x))
        }
        Op::Embed => {
            let (ids, table) = (i64::of(&operands[0]), float(1));
            if ids.iter().any(|id| usize::try_from(*id).map_or(true, |id| id >= table.shape()[0])) {
                return Err(format!("an id is outside 0..{}", table.shape()[0]));
            }
            gather(table, ids, 0).map(Tensor::F32)
        }
        Op::Linear => {
            let mut y = matmul(float(0), float(1), shape);
            if operands.len() == 3 {
                y += float(2);
            }
            Ok(Tensor::F32(y))
        }
        Op::AddWeight => Ok(Tensor::F32(float(0).to_owned() + float(1))),
        Op::AddRow => {
            let at = index(position, float(1).shape()[0])?;
            Ok(Tensor::F32(float(0).to_owned() + &float(1).index_axis(Axis(0), at)))
        }
        &Op::Normalize { epsilon, centred } => Ok(Tensor::F32(normalize(float(0), epsilon, centred))),
        Op::Rotary { heads, partner, at_position } => {
            let (x, cos, sin) = (float(0), float(1), float(2));
            let (rows, from) = (x.shape()[1], cos.shape()[0] - x.shape()[1]);
            let from = if *at_position { index(position, from + 1)? } else { 0 };
            let tables = Slice::from(from..from + rows);
            let (cos, sin) = (cos.slice_axis(Axis(0), tables), sin.slice_axis(Axis(0), tables));
            Ok(Tensor::F32(rotate(x, cos, sin, *heads, partner)))
        }
        Op::Attention { heads, kv_heads, pattern, softcap, biased, sinks } => {
            let bias = biased.then(|| float(3));
            let sinks = sinks.then(|| float(operands.len() - 1));
            let scores = Scores { heads: *heads, kv_heads: *kv_heads, pattern, softcap: *softcap, bias, sinks };
            Ok(Tensor::F32(attention(float(0), float(1), float(2), &scores)))
        }
        &Op::Pick { axis } => {
            let at = index(position, operands[0].shape()[axis])?;
            apply(&Op::Slice { axis, from: at, to: at + 1 }, operands, shape, None)
        }
    }
}

/// The given position, or the last, of `size`.
fn index(position: Option<usize>, size: usize) -> Result<usize, String> {
    match position.unwrap_or(size - 1) {
        at if at < size => Ok(at),
        at => Err(format!("position {at} is outside 0..{size}")),
    }
}

/// The elements as floats; booleans are 0 and 1.
pub fn floats(tensor: &Tensor) -> ArrayD<f32> {
    match tensor {
        Tensor::F32(a) => a.clone(),
        Tensor::I64(a) => a.mapv(|x| x as f32),
        Tensor::Bool(a) => a.mapv(|x| f32::from(u8::from(x))),
    }
}

/// An array in standard layout from row-major elements.
pub fn from_vec<T>(shape: &[usize], elements: Vec<T>) -> ArrayD<T> {
    ArrayD::from_shape_vec(IxDyn(shape), elements).expect("the shape has as many elements")
}

/// A copy in standard layout.
pub fn standard<T: Element>(view: ArrayViewD<'_, T>) -> ArrayD<T> {
    let mut out = ArrayD::default(view.raw_dim());
    out.assign(&view);
    out
}

/// A view broadcast to `shape`.
fn wide<'a, T>(view: &'a ArrayViewD<'_, T>, shape: &[usize]) -> ArrayViewD<'a, T> {
    view.broadcast(IxDyn(shape)).expect("shapes were checked to broadcast")
}

/// Element by element with broadcasting.
pub fn zip<A: Element, B: Element, R: Element>(
    a: &ArrayViewD<'_, A>,
    b: &ArrayViewD<'_, B>,
    mut f: impl FnMut(A, B) -> R,
) -> Result<ArrayD<R>, String> {
    let shape = broadcast(a.shape(), b.shape())?;
    let mut out = ArrayD::default(IxDyn(&shape));
    Zip::from(&mut out).and(wide(a, &shape)).and(wide(b, &shape)).for_each(|o, &a, &b| *o = f(a, b));
    Ok(out)
}

fn arithmetic(
    operands: &[View<'_>],
    float: impl Fn(f32, f32) -> f32,
    integer: impl Fn(i64, i64) -> Result<i64, String>,
) -> Result<Tensor, String> {
    if operands[0].dtype() == DType::F32 {
        return zip(f32::of(&operands[0]), f32::of(&operands[1]), float).map(Tensor::F32);
    }
    let mut fault = None;
    let out = zip(i64::of(&operands[0]), i64::of(&operands[1]), |a, b| {
        integer(a, b).unwrap_or_else(|e| {
            fault = Some(e);
            0
        })
    })?;
    fault.map_or(Ok(Tensor::I64(out)), Err)
}

fn pow(operands: &[View<'_>]) -> Result<Tensor, String> {
    let power = |x: f32, y: f32| match y {
        2.0 => x * x,
        3.0 => x * x * x,
        _ => x.powf(y),
    };
    match (&operands[0], &operands[1]) {
        (View::F32(x), View::F32(y)) => zip(x, y, power).map(Tensor::F32),
        (View::F32(x), View::I64(y)) => zip(x, y, |x, y| power(x, y as f32)).map(Tensor::F32),
        (View::I64(x), View::I64(y)) => {
            if y.iter().any(|y| u32::try_from(*y).is_err()) {
                return Err("an integer power is negative or too great".into());
            }
            zip(x, y, |x, y| x.wrapping_pow(y as u32)).map(Tensor::I64)
        }
        _ => unreachable!("checked by the type rules"),
    }
}

fn select<T: Element>(
    cond: &ArrayViewD<'_, bool>,
    x: &ArrayViewD<'_, T>,
    y: &ArrayViewD<'_, T>,
    shape: &[usize],
) -> ArrayD<T> {
    let mut out = ArrayD::default(IxDyn(shape));
    Zip::from(&mut out)
        .and(wide(cond, shape))
        .and(wide(x, shape))
        .and(wide(y, shape))
        .for_each(|o, &c, &x, &y| *o = if c { x } else { y });
    out
}

/// Indices count from the end when negative.
fn gather<T: Element>(data: &ArrayViewD<'_, T>, ids: &ArrayViewD<'_, i64>, axis: usize) -> Result<ArrayD<T>, String> {
    let size = data.shape()[axis];
    let (outer, inner) =
        (data.shape()[..axis].iter().product::<usize>(), data.shape()[axis + 1..].iter().product::<usize>());
    let picked: Vec<usize> = ids
        .iter()
        .map(|&id| {
            let id = if id < 0 { id + size as i64 } else { id };
            usize::try_from(id).ok().filter(|&id| id < size)
        })
        .collect::<Option<_>>()
        .ok_or_else(|| format!("an index is outside a dimension of {size}"))?;
    let data = data.as_standard_layout();
    let flat = data.as_slice().expect("standard layout");
    let shape = [&data.shape()[..axis], ids.shape(), &data.shape()[axis + 1..]].concat();
    let mut out = Vec::with_capacity(outer * picked.len() * inner);
    for o in 0..outer {
        for id in &picked {
            let from = (o * size + id) * inner;
            out.extend_from_slice(&flat[from..from + inner]);
        }
    }
    Ok(from_vec(&shape, out))
}

fn concat<T: Element>(parts: &[&ArrayViewD<'_, T>], axis: usize, shape: &[usize]) -> ArrayD<T> {
    let mut out = ArrayD::default(IxDyn(shape));
    let mut at = 0;
    for part in parts {
        let next = at + part.shape()[axis];
        out.slice_axis_mut(Axis(axis), Slice::from(at..next)).assign(part);
        at = next;
    }
    out
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

/// In place; a row without a finite element becomes NaN, as in onnxruntime.
fn softmax<'a>(row: impl Iterator<Item = &'a mut f32>) {
    let mut row: Vec<&mut f32> = row.collect();
    let max = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(**x));
    let mut sum = 0.0;
    for x in &mut row {
        **x = (**x - max).exp();
        sum += f64::from(**x);
    }
    for x in row {
        *x = (f64::from(*x) / sum) as f32;
    }
}

/// Sum over axes, which stay as dimensions of one.
fn sum(x: &ArrayViewD<'_, f32>, axes: &[usize]) -> ArrayD<f64> {
    axes.iter().fold(x.mapv(f64::from), |x, &a| standard_f64(x.sum_axis(Axis(a)).insert_axis(Axis(a))))
}

fn standard_f64(x: ArrayD<f64>) -> ArrayD<f64> {
    let shape = x.shape().to_vec();
    from_vec(&shape, x.iter().copied().collect())
}

/// See [`Op::Normalize`].
fn normalize(x: &ArrayViewD<'_, f32>, epsilon: f32, centred: bool) -> ArrayD<f32> {
    let mut x = x.to_owned();
    let last = Axis(x.ndim() - 1);
    for mut row in x.lanes_mut(last) {
        let count = row.len() as f64;
        let mean = if centred { 0.0 } else { row.iter().map(|&x| f64::from(x)).sum::<f64>() / count };
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
        let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
        row.mapv_inplace(|x| ((f64::from(x) - mean) * scale) as f32);
    }
    x
}

/// See [`Op::Rotary`].
fn rotate(
    x: &ArrayViewD<'_, f32>,
    cos: ArrayViewD<'_, f32>,
    sin: ArrayViewD<'_, f32>,
    heads: usize,
    partner: &[usize],
) -> ArrayD<f32> {
    let mut out = ArrayD::zeros(x.raw_dim());
    for (x, mut out) in x.axis_iter(Axis(0)).zip(out.axis_iter_mut(Axis(0))) {
        for (t, (x, mut out)) in x.axis_iter(Axis(0)).zip(out.axis_iter_mut(Axis(0))).enumerate() {
            for at in (0..heads).map(|h| h * partner.len()) {
                for (i, &p) in partner.iter().enumerate() {
                    out[at + i] = cos[[t, i]] * x[at + i] + sin[[t, i]] * x[at + p];
                }
            }
        }
    }
    out
}

/// What [`Op::Attention`] says of its scores.
struct Scores<'a> {
    heads: usize,
    kv_heads: usize,
    pattern: &'a ir::Pattern,
    softcap: Option<f32>,
    bias: Option<&'a ArrayViewD<'a, f32>>,
    sinks: Option<&'a ArrayViewD<'a, f32>>,
}

impl Scores<'_> {
    /// The scores of a head, as the softmax takes them; what the pattern drops stands there too.
    fn of(&self, q: ArrayView2<f32>, k: ArrayView2<f32>, head: usize) -> Array2<f32> {
        let mut scores = Array2::zeros((q.nrows(), k.nrows()));
        general_mat_mul(1.0, &q, &k.t(), 0.0, &mut scores);
        if let Some(cap) = self.softcap {
            scores.mapv_inplace(|s| cap * (s / cap).tanh());
        }
        if let Some(bias) = self.bias {
            let plane = bias.index_axis(Axis(0), if bias.shape()[0] == 1 { 0 } else { head });
            scores += &plane.into_dimensionality::<Ix2>().expect("rank 2");
        }
        scores
    }
}

/// Calls `f` with batch, head and the scores that [`Op::Attention`] takes the softmax of, operands as the op's.
pub fn for_scores(op: &Op, operands: &[View<'_>], mut f: impl FnMut(usize, usize, Array2<f32>)) {
    let Op::Attention { heads, kv_heads, pattern, softcap, biased, .. } = op else { panic!("not an attention") };
    let bias = biased.then(|| f32::of(&operands[3]));
    let scores = Scores { heads: *heads, kv_heads: *kv_heads, pattern, softcap: *softcap, bias, sinks: None };
    let (q, k) = (f32::of(&operands[0]), f32::of(&operands[1]));
    for b in 0..q.shape()[0] {
        for h in 0..*heads {
            let (q, k) = (part(q, b, h, *heads), part(k, b, h / (heads / kv_heads), *kv_heads));
            f(b, h, scores.of(q.view(), k.view(), h));
        }
    }
}

/// Part `h` of `parts` of the last axis of a batch element.
fn part(x: &ArrayViewD<'_, f32>, b: usize, h: usize, parts: usize) -> Array2<f32> {
    let width = x.shape()[2] / parts;
    let x = x.index_axis(Axis(0), b).slice_axis(Axis(1), Slice::from(h * width..(h + 1) * width)).to_owned();
    x.into_dimensionality::<Ix2>().expect("rank 2")
}

/// See [`Op::Attention`]. A row that keeps nothing gives zeros.
fn attention(
    q: &ArrayViewD<'_, f32>,
    k: &ArrayViewD<'_, f32>,
    v: &ArrayViewD<'_, f32>,
    about: &Scores<'_>,
) -> ArrayD<f32> {
    let (heads, group) = (about.heads, about.heads / about.kv_heads);
    let (batch, rows) = (q.shape()[0], q.shape()[1]);
    let width = v.shape()[2] / about.kv_heads;
    let mut out = ArrayD::zeros(IxDyn(&[batch, rows, heads * width]));
    for b in 0..batch {
        for h in 0..heads {
            let (queries, keys) = (part(q, b, h, heads), part(k, b, h / group, about.kv_heads));
            let mut scores = about.of(queries.view(), keys.view(), h);
            for (mut row, &(from, to)) in scores.rows_mut().into_iter().zip(&about.pattern.rows) {
                let (from, to) = (from as usize, to as usize);
                // A sink is one score more, dropped after the softmax.
                let mut sink = about.sinks.map(|sinks| sinks[h]);
                softmax(row.iter_mut().take(to).skip(from).chain(sink.as_mut()));
                row.iter_mut().enumerate().filter(|(j, _)| !(from..to).contains(j)).for_each(|(_, x)| *x = 0.0);
            }
            let target = out.index_axis_mut(Axis(0), b);
            let mut target = target.into_dimensionality::<Ix2>().expect("rank 2");
            let mut target = target.slice_axis_mut(Axis(1), Slice::from(h * width..(h + 1) * width));
            general_mat_mul(1.0, &scores, &part(v, b, h / group, about.kv_heads), 0.0, &mut target);
        }
    }
    out
}
