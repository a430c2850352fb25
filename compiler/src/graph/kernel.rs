//! What each op computes, on dense tensors, for the evaluator and for constant folding alike: what the kernels in
//! [`super::ops`] share.
//!
//! Floats are 32-bit as in onnxruntime; sums of means, norms and softmax accumulate in 64 bits. Operands and results are
//! in standard (row-major, contiguous) layout, and operands are typed as [`super::shape`] demands. What is left to go
//! wrong is in the data: an index out of range, an integer division by zero.

use ndarray::{ArrayD, ArrayViewD, IxDyn, Zip};

use super::ops::family;
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
    (family(op).kernel)(op, operands, shape, position)
}

/// The given position, or the last, of `size`.
pub fn index(position: Option<usize>, size: usize) -> Result<usize, String> {
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

/// Least and greatest element, if there is any; what is not a number is passed over.
pub fn ends(values: &ArrayD<f32>) -> Option<(f32, f32)> {
    const LANES: usize = 16;
    let (mut least, mut greatest) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let mut take = |lane: usize, v: f32| {
        least[lane] = if v < least[lane] { v } else { least[lane] };
        greatest[lane] = if v > greatest[lane] { v } else { greatest[lane] };
    };
    match values.as_slice_memory_order() {
        Some(flat) => {
            let (chunks, rest) = flat.as_chunks::<LANES>();
            chunks.iter().for_each(|chunk| chunk.iter().enumerate().for_each(|(lane, &v)| take(lane, v)));
            rest.iter().for_each(|&v| take(0, v));
        }
        None => values.iter().for_each(|&v| take(0, v)),
    }
    let (lo, hi) =
        (least.into_iter().fold(f32::INFINITY, f32::min), greatest.into_iter().fold(f32::NEG_INFINITY, f32::max));
    (lo <= hi).then_some((lo, hi))
}

/// Axes in the order in which a reduction takes them one by one: those of no elements last, since what is made of nothing
/// is greater than it.
pub fn empty_last(axes: &[usize], shape: &[usize]) -> Vec<usize> {
    let (empty, full): (Vec<usize>, Vec<usize>) = axes.iter().partition(|&&axis| shape[axis] == 0);
    [full, empty].concat()
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
pub fn wide<'a, T>(view: &'a ArrayViewD<'_, T>, shape: &[usize]) -> ArrayViewD<'a, T> {
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
