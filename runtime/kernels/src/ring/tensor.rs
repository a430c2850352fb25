//! Tensors of ring elements and the operations that move elements or add them along an axis.

use super::Buffer;
use rayon::prelude::*;

/// Elements from which work is spread over threads.
pub(super) const PARALLEL: usize = 1 << 16;

/// Row-major elements mod 2^64 with a shape. Often a share, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Dimensions; a scalar has none.
    pub shape: Vec<usize>,
    /// As many elements as the product of the dimensions.
    pub data: Buffer,
}

/// Distance, in elements, between neighbours along each axis of a row-major tensor.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

impl Tensor {
    /// A tensor of these elements; their number is the product of the dimensions.
    pub fn new(shape: Vec<usize>, data: impl Into<Buffer>) -> Tensor {
        let data = data.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "elements of a tensor of shape {shape:?}");
        Tensor { shape, data }
    }

    /// All zeros.
    pub fn zeros(shape: &[usize]) -> Tensor {
        Tensor { shape: shape.to_vec(), data: Buffer::zeros(shape.iter().product()) }
    }

    /// Elements of any value, all of which are about to be written.
    pub fn unset(shape: &[usize]) -> Tensor {
        Tensor { shape: shape.to_vec(), data: Buffer::unset(shape.iter().product()) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// True if a dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The same elements in another shape.
    pub fn reshape(self, shape: &[usize]) -> Tensor {
        Tensor::new(shape.to_vec(), self.data)
    }

    /// Elements before, along and after `axis`: the tensor seen as [outer, axis, inner].
    fn around(&self, axis: usize) -> [usize; 3] {
        [self.shape[..axis].iter().product(), self.shape[axis], self.shape[axis + 1..].iter().product()]
    }

    /// Elements `from .. to` along `axis`.
    pub fn slice(&self, axis: usize, from: usize, to: usize) -> Tensor {
        let [outer, along, inner] = self.around(axis);
        assert!(from <= to && to <= along, "slice {from}..{to} of a dimension of {along}");
        let mut shape = self.shape.clone();
        shape[axis] = to - from;
        let (row, mut part) = ((to - from) * inner, Tensor::unset(&shape));
        if row == 1 {
            // Without a call of the system's copy for every element.
            let places = self.data[(from * inner).min(self.len())..].iter().step_by(along * inner);
            part.data.iter_mut().zip(places).for_each(|(part, x)| *part = *x);
            return part;
        }
        for i in 0..outer {
            part.data[i * row..(i + 1) * row].copy_from_slice(&self.data[(i * along + from) * inner..][..row]);
        }
        part
    }

    /// Zeroes the elements at every place i along `axis` but those that are to stay.
    pub fn clear_unless(&mut self, axis: usize, stays: impl Fn(usize) -> bool) {
        let [_, along, inner] = self.around(axis);
        if self.is_empty() {
            return;
        }
        for (i, part) in self.data.chunks_exact_mut(inner).enumerate() {
            if !stays(i % along) {
                part.fill(0);
            }
        }
    }

    /// One or more tensors one after another along `axis`; their other dimensions are equal.
    pub fn concat(parts: &[&Tensor], axis: usize) -> Tensor {
        let mut shape = parts[0].shape.clone();
        shape[axis] = parts.iter().map(|t| t.shape[axis]).sum();
        for t in parts {
            let others_equal =
                t.shape.len() == shape.len() && (0..shape.len()).all(|i| i == axis || t.shape[i] == shape[i]);
            assert!(others_equal, "shapes {:?} and {shape:?} cannot be joined along axis {axis}", t.shape);
        }
        let mut joined = Tensor::unset(&shape);
        let mut rest = &mut joined.data[..];
        for i in 0..parts[0].around(axis)[0] {
            for t in parts {
                let [_, along, inner] = t.around(axis);
                let place = rest.split_off_mut(..along * inner).expect("as many elements as the parts have");
                place.copy_from_slice(&t.data[i * along * inner..(i + 1) * along * inner]);
            }
        }
        joined
    }

    /// Sum along `axis`, whose dimension becomes 1.
    pub fn sum(&self, axis: usize) -> Tensor {
        let [_, along, inner] = self.around(axis);
        let mut shape = self.shape.clone();
        shape[axis] = 1;
        let mut sum = Tensor::zeros(&shape);
        if sum.is_empty() || along == 0 {
            return sum;
        }
        let add = |(sum, x): (&mut [u64], &[u64])| {
            if inner == 1 {
                sum[0] = x.iter().fold(0, |s: u64, &x| s.wrapping_add(x));
            } else {
                x.chunks_exact(inner).for_each(|row| super::add_assign(sum, row));
            }
        };
        if self.len() < PARALLEL {
            sum.data.chunks_exact_mut(inner).zip(self.data.chunks_exact(along * inner)).for_each(add);
        } else {
            sum.data.par_chunks_exact_mut(inner).zip(self.data.par_chunks_exact(along * inner)).for_each(add);
        }
        sum
    }

    /// Axes in the order `perm`: axis i of the result is axis `perm[i]`.
    pub fn transpose(&self, perm: &[usize]) -> Tensor {
        let mut seen = vec![false; self.shape.len()];
        perm.iter().for_each(|&p| seen[p] = true);
        assert!(perm.len() == seen.len() && seen.iter().all(|&s| s), "{perm:?} is not an order of the axes");
        let shape: Vec<usize> = perm.iter().map(|&p| self.shape[p]).collect();
        let from = strides(&self.shape);
        let steps: Vec<usize> = perm.iter().map(|&p| from[p]).collect();
        let mut out = Tensor::unset(&shape);
        if out.is_empty() {
            return out;
        }
        let (shape, steps) = merge_axes(&shape, &steps);
        permute(&self.data, &shape, &steps, &mut out.data);
        out
    }
}

/// Joins neighbouring result axes that are also neighbours in the source, and drops axes of one element. The result has
/// at least two axes.
fn merge_axes(shape: &[usize], steps: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (&d, &s) in shape.iter().zip(steps).filter(|(d, _)| **d != 1) {
        match merged.last_mut() {
            Some((dim, step)) if *step == d * s => (*dim, *step) = (*dim * d, s),
            _ => merged.push((d, s)),
        }
    }
    while merged.len() < 2 {
        merged.insert(0, (1, 0));
    }
    merged.into_iter().unzip()
}

/// Fills `out`, row-major of `shape`, from the strided source, one slab of the leading axes at a time.
fn permute(x: &[u64], shape: &[usize], steps: &[usize], out: &mut [u64]) {
    let rank = shape.len();
    // A slab is the last two axes of the result.
    let (rows, columns) = (shape[rank - 2], shape[rank - 1]);
    let (row_step, column_step) = (steps[rank - 2], steps[rank - 1]);
    let slab = |(i, out): (usize, &mut [u64])| {
        let mut rest = i;
        let mut base = 0;
        for axis in (0..rank - 2).rev() {
            base += rest % shape[axis] * steps[axis];
            rest /= shape[axis];
        }
        let x = &x[base..];
        if column_step == 1 {
            for (r, out) in out.chunks_exact_mut(columns).enumerate() {
                out.copy_from_slice(&x[r * row_step..r * row_step + columns]);
            }
            return;
        }
        // Tiles keep the source's lines in the first-level cache until all of their elements are used.
        const TILE: usize = 16;
        for r0 in (0..rows).step_by(TILE) {
            for c0 in (0..columns).step_by(TILE) {
                for r in r0..(r0 + TILE).min(rows) {
                    let line = &mut out[r * columns + c0..r * columns + (c0 + TILE).min(columns)];
                    for (c, out) in line.iter_mut().enumerate() {
                        *out = x[r * row_step + (c0 + c) * column_step];
                    }
                }
            }
        }
    };
    if x.len() < PARALLEL {
        out.chunks_exact_mut(rows * columns).enumerate().for_each(slab);
    } else {
        out.par_chunks_exact_mut(rows * columns).enumerate().for_each(slab);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::test_elements;

    fn tensor(seed: u64, shape: &[usize]) -> Tensor {
        Tensor::new(shape.to_vec(), test_elements(seed, shape.iter().product()))
    }

    /// Calls `f` with every index of `shape`, in row-major order.
    fn each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
        let s = strides(shape);
        for i in 0..shape.iter().product() {
            f(&s.iter().zip(shape).map(|(s, d)| i / s % d).collect::<Vec<_>>());
        }
    }

    fn at(t: &Tensor, index: &[usize]) -> u64 {
        t.data[strides(&t.shape).iter().zip(index).map(|(s, i)| s * i).sum::<usize>()]
    }

    #[test]
    fn transposes() {
        let cases: &[(&[usize], &[usize])] = &[
            (&[], &[]),
            (&[5], &[0]),
            (&[3, 4], &[1, 0]),
            (&[3, 4], &[0, 1]),
            (&[37, 70], &[1, 0]),
            (&[2, 17, 33], &[0, 2, 1]),
            (&[2, 17, 33], &[2, 0, 1]),
            (&[2, 17, 33], &[1, 2, 0]),
            (&[3, 1, 5, 4], &[2, 0, 3, 1]),
            (&[40, 12, 64], &[1, 0, 2]),
            (&[4, 130, 140], &[2, 1, 0]),
            (&[0, 3], &[1, 0]),
        ];
        for (shape, perm) in cases {
            let x = tensor(3, shape);
            let y = x.transpose(perm);
            assert_eq!(y.shape, perm.iter().map(|&p| shape[p]).collect::<Vec<_>>());
            each_index(&y.shape, |to| {
                let mut from = vec![0; to.len()];
                perm.iter().zip(to).for_each(|(&p, &i)| from[p] = i);
                assert_eq!(at(&y, to), at(&x, &from), "{shape:?} {perm:?} {to:?}");
            });
        }
    }

    #[test]
    fn slices_join_again() {
        for axis in 0..3 {
            let x = tensor(4, &[5, 6, 7]);
            let along = x.shape[axis];
            let parts = [x.slice(axis, 0, 2), x.slice(axis, 2, 2), x.slice(axis, 2, 3), x.slice(axis, 3, along)];
            assert_eq!(parts[3].shape[axis], along - 3);
            each_index(&parts[3].shape, |i| {
                let mut from = i.to_vec();
                from[axis] += 3;
                assert_eq!(at(&parts[3], i), at(&x, &from));
            });
            assert!(Tensor::concat(&parts.iter().collect::<Vec<_>>(), axis) == x);
        }
        let one = tensor(4, &[5, 7]).slice(1, 6, 7);
        assert!((0..5).all(|i| one.data[i] == at(&tensor(4, &[5, 7]), &[i, 6])));
        assert_eq!(Tensor::zeros(&[0, 7]).slice(1, 6, 7).shape, [0, 1]);
    }

    #[test]
    fn sums() {
        for shape in [vec![5, 6, 7], vec![1, 300, 400], vec![300, 400, 1], vec![0, 3, 2], vec![2, 0, 3]] {
            let x = tensor(5, &shape);
            for axis in 0..3 {
                let sum = x.sum(axis);
                let mut want = Tensor::zeros(&sum.shape);
                let steps = strides(&sum.shape);
                each_index(&shape, |i| {
                    let to: usize = (0..3).filter(|&a| a != axis).map(|a| i[a] * steps[a]).sum();
                    want.data[to] = want.data[to].wrapping_add(at(&x, i));
                });
                assert!(sum == want, "{shape:?}, axis {axis}");
            }
        }
    }
}
