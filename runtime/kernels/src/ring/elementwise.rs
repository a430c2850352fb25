//! Element-wise operations: in place on slices, and with broadcasting on tensors.

use super::{PARALLEL, Tensor, mask, strides};
use crate::cpu::{Cpu, multiversion};
use ir::Party;
use rayon::prelude::*;
use std::ops::Range;

/// Elements of a parallel task; a slice of this many fits in the second-level cache.
const TASK: usize = 1 << 13;

multiversion! {
    fn map2_kernel<F: Pair>(x: &mut [u64], y: &[u64], f: F) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = f.apply(*x, *y);
        }
    }
}

multiversion! {
    fn zip_kernel<F: Pair>(out: &mut [u64], x: &[u64], y: &[u64], f: F) {
        for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
            *out = f.apply(*x, *y);
        }
    }
}

multiversion! {
    fn map_kernel<F: Single>(x: &mut [u64], f: F) {
        for x in x {
            *x = f.apply(*x);
        }
    }
}

multiversion! {
    fn mul_add_kernel(acc: &mut [u64], x: &[u64], y: &[u64]) {
        for ((acc, x), y) in acc.iter_mut().zip(x).zip(y) {
            *acc = acc.wrapping_add(x.wrapping_mul(*y));
        }
    }
}

/// A function of an element, [`Fn`] by another name: a single bound, as `multiversion!` asks for.
trait Single: Copy + Send + Sync {
    fn apply(self, x: u64) -> u64;
}

/// A function of two elements.
trait Pair: Copy + Send + Sync {
    fn apply(self, x: u64, y: u64) -> u64;
}

impl<F: Fn(u64) -> u64 + Copy + Send + Sync> Single for F {
    #[inline(always)]
    fn apply(self, x: u64) -> u64 {
        self(x)
    }
}

impl<F: Fn(u64, u64) -> u64 + Copy + Send + Sync> Pair for F {
    #[inline(always)]
    fn apply(self, x: u64, y: u64) -> u64 {
        self(x, y)
    }
}

/// Replaces each element by `f` of it.
pub fn map_assign(x: &mut [u64], f: impl Fn(u64) -> u64 + Copy + Send + Sync) {
    let cpu = Cpu::get();
    if x.len() < PARALLEL {
        return map_kernel(cpu, x, f);
    }
    x.par_chunks_mut(TASK).for_each(|x| map_kernel(cpu, x, f));
}

/// Replaces each element of `x` by `f` of it and its counterpart in `y`.
pub fn zip_assign(x: &mut [u64], y: &[u64], f: impl Fn(u64, u64) -> u64 + Copy + Send + Sync) {
    assert_eq!(x.len(), y.len(), "lengths of the operands");
    let cpu = Cpu::get();
    if x.len() < PARALLEL {
        return map2_kernel(cpu, x, y, f);
    }
    x.par_chunks_mut(TASK).zip(y.par_chunks(TASK)).for_each(|(x, y)| map2_kernel(cpu, x, y, f));
}

/// x += y.
pub fn add_assign(x: &mut [u64], y: &[u64]) {
    zip_assign(x, y, u64::wrapping_add);
}

/// x -= y.
pub fn sub_assign(x: &mut [u64], y: &[u64]) {
    zip_assign(x, y, u64::wrapping_sub);
}

/// x *= y.
pub fn mul_assign(x: &mut [u64], y: &[u64]) {
    zip_assign(x, y, u64::wrapping_mul);
}

/// x *= k.
pub fn scale_assign(x: &mut [u64], k: u64) {
    map_assign(x, move |x| x.wrapping_mul(k));
}

/// acc += x·y.
pub fn mul_add_assign(acc: &mut [u64], x: &[u64], y: &[u64]) {
    assert!(acc.len() == x.len() && x.len() == y.len(), "lengths of the operands");
    let cpu = Cpu::get();
    if acc.len() < PARALLEL {
        return mul_add_kernel(cpu, acc, x, y);
    }
    let chunks = acc.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).zip(y.par_chunks(TASK));
    chunks.for_each(|((acc, x), y)| mul_add_kernel(cpu, acc, x, y));
}

/// acc += k·x.
pub fn scale_add_assign(acc: &mut [u64], k: u64, x: &[u64]) {
    zip_assign(acc, x, move |acc, x| acc.wrapping_add(k.wrapping_mul(x)));
}

/// A party's share of x / 2^by, rounded up or down, from its share of x of width `width`; the result has width
/// `width - by`, in which it is reduced. The parties shift x0 and -x1: both errors are below one, with opposite signs,
/// and a wrap of the shares stays a multiple of 2^(width - by).
pub fn down_assign(party: Party, x: &mut [u64], width: u8, by: u8) {
    assert!(by < width && width <= 64, "`down` by {by} at width {width}");
    let (before, after) = (mask(width), mask(width - by));
    match party {
        Party::Client => map_assign(x, move |x| (x & before) >> by),
        Party::Server => map_assign(x, move |x| ((x.wrapping_neg() & before) >> by).wrapping_neg() & after),
    }
}

/// The shape of an element-wise operation under numpy's broadcasting rule, which the operands must satisfy.
pub fn broadcast_shape(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    let join = |i| match (dim(a, i), dim(b, i)) {
        (x, y) if x == y => x,
        (1, y) => y,
        (x, 1) => x,
        _ => panic!("shapes {a:?} and {b:?} do not broadcast"),
    };
    (0..rank).map(join).collect()
}

/// How two shapes become one under numpy's broadcasting rule, which they must satisfy.
pub struct Broadcast {
    /// The common shape.
    pub shape: Vec<usize>,
    /// Where the result's elements lie in the first operand.
    pub left: Spread,
    /// Where they lie in the second.
    pub right: Spread,
}

/// Where the elements of a row-major result lie in an operand that is repeated along some axes.
pub struct Spread {
    dims: Vec<usize>,
    /// Distance of neighbours in the operand; that of the last axis is 0 or 1.
    steps: Vec<usize>,
}

impl Broadcast {
    /// For operands of shapes `a` and `b`.
    pub fn new(a: &[usize], b: &[usize]) -> Broadcast {
        let shape = broadcast_shape(a, b);
        // Axes merge where both operands keep their stride pattern, so that the innermost run is as long as it can be.
        let axes = merge(&shape, &broadcast_strides(a, shape.len()), &broadcast_strides(b, shape.len()));
        let spread = |operand: usize| Spread {
            dims: axes.iter().map(|axis| axis[0]).collect(),
            steps: axes.iter().map(|axis| axis[1 + operand]).collect(),
        };
        Broadcast { left: spread(0), right: spread(1), shape }
    }
}

impl Spread {
    /// True if the operand has the elements of the result in their order.
    pub fn is_identity(&self) -> bool {
        self.steps == strides(&self.dims)
    }

    /// Elements of `x` for elements `range` of the result: its own, or copies.
    fn elements<'a>(&self, x: &'a [u64], range: Range<usize>, copies: &'a mut Vec<u64>) -> &'a [u64] {
        if self.is_identity() {
            return &x[range];
        }
        copies.resize(range.len(), 0);
        self.copy(x, range.start, copies);
        copies
    }

    /// Elements of `x` for the elements of the result from number `first` on, as many as `out` has.
    pub fn copy(&self, x: &[u64], first: usize, out: &mut [u64]) {
        let (&run, outer) = self.dims.split_last().expect("merged axes are never empty");
        let step = self.steps[outer.len()];
        let (mut row, mut skip, mut rest) = (first / run, first % run, out);
        while !rest.is_empty() {
            let (mut number, mut from) = (row, skip * step);
            for (&d, &s) in outer.iter().zip(&self.steps).rev() {
                from += number % d * s;
                number /= d;
            }
            let part;
            (part, rest) = rest.split_at_mut(rest.len().min(run - skip));
            match step {
                0 => part.fill(x[from]),
                _ => part.copy_from_slice(&x[from..from + part.len()]),
            }
            (row, skip) = (row + 1, 0);
        }
    }
}

/// `f` of all pairs of elements, with broadcasting.
pub fn broadcast(a: &Tensor, b: &Tensor, f: impl Fn(u64, u64) -> u64 + Copy + Send + Sync) -> Tensor {
    let Broadcast { shape, left, right } = Broadcast::new(&a.shape, &b.shape);
    let mut out = Tensor::unset(&shape);
    let cpu = Cpu::get();
    let chunk = |copies: &mut [Vec<u64>; 2], (number, out): (usize, &mut [u64])| {
        let range = number * TASK..number * TASK + out.len();
        let [of_a, of_b] = copies;
        zip_kernel(cpu, out, left.elements(&a.data, range.clone(), of_a), right.elements(&b.data, range, of_b), f);
    };
    if out.len() < PARALLEL {
        out.data.chunks_mut(TASK).enumerate().for_each(|task| chunk(&mut Default::default(), task));
    } else {
        out.data.par_chunks_mut(TASK).enumerate().for_each_init(Default::default, chunk);
    }
    out
}

/// The elements of `x`, repeated along axes to make up `shape`, which numpy's rule must allow.
pub fn expand(x: &Tensor, shape: &[usize]) -> Tensor {
    let whole = Broadcast::new(&x.shape, shape);
    assert_eq!(whole.shape, shape, "an expansion of {:?}", x.shape);
    let mut out = Tensor::unset(shape);
    let chunk = |(number, out): (usize, &mut [u64])| whole.left.copy(&x.data, number * TASK, out);
    if out.len() < PARALLEL {
        out.data.chunks_mut(TASK).enumerate().for_each(chunk);
    } else {
        out.data.par_chunks_mut(TASK).enumerate().for_each(chunk);
    }
    out
}

/// Strides of a tensor seen in a shape of rank `rank`; zero where it is repeated.
fn broadcast_strides(shape: &[usize], rank: usize) -> Vec<usize> {
    let own = strides(shape).into_iter().zip(shape).map(|(s, &d)| if d == 1 { 0 } else { s });
    std::iter::repeat_n(0, rank - shape.len()).chain(own).collect()
}

/// [dimension, stride of a, stride of b] of the axes, neighbours joined where both strides allow it. The innermost
/// strides are 0 or 1.
fn merge(shape: &[usize], a: &[usize], b: &[usize]) -> Vec<[usize; 3]> {
    let mut merged: Vec<[usize; 3]> = Vec::new();
    for i in (0..shape.len()).filter(|&i| shape[i] != 1) {
        match merged.last_mut() {
            Some([d, sa, sb]) if *sa == shape[i] * a[i] && *sb == shape[i] * b[i] => {
                (*d, *sa, *sb) = (*d * shape[i], a[i], b[i]);
            }
            _ => merged.push([shape[i], a[i], b[i]]),
        }
    }
    if merged.last().is_none_or(|&[_, sa, sb]| sa > 1 || sb > 1) {
        merged.push([1, 0, 0]);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::test_elements;

    #[test]
    fn paths_agree() {
        for cpu in Cpu::available() {
            for count in [0, 1, 7, 8, 33, 1000] {
                let (x, y, acc) = (test_elements(1, count), test_elements(2, count), test_elements(3, count));
                let mut got = acc.clone();
                mul_add_kernel(cpu, &mut got, &x, &y);
                let want: Vec<u64> = (0..count).map(|i| acc[i].wrapping_add(x[i].wrapping_mul(y[i]))).collect();
                assert_eq!(got, want, "{}", cpu.name());
                let mut got = x.clone();
                map2_kernel(cpu, &mut got, &y, u64::wrapping_mul);
                map_kernel(cpu, &mut got, |x: u64| x.rotate_left(3));
                let want: Vec<u64> = (0..count).map(|i| x[i].wrapping_mul(y[i]).rotate_left(3)).collect();
                assert_eq!(got, want, "{}", cpu.name());
            }
        }
    }

    #[test]
    fn assignments_small_and_parallel() {
        for count in [5, PARALLEL + 3] {
            let (x, y, z) = (test_elements(1, count), test_elements(2, count), test_elements(3, count));
            type Op = (fn(&mut [u64], &[u64], &[u64]), fn(u64, u64, u64) -> u64);
            let ops: [Op; 6] = [
                (|x, y, _| add_assign(x, y), |x, y, _| x.wrapping_add(y)),
                (|x, y, _| sub_assign(x, y), |x, y, _| x.wrapping_sub(y)),
                (|x, y, _| mul_assign(x, y), |x, y, _| x.wrapping_mul(y)),
                (|x, _, _| scale_assign(x, 77), |x, _, _| x.wrapping_mul(77)),
                (mul_add_assign, |x, y, z| x.wrapping_add(y.wrapping_mul(z))),
                (|x, y, _| scale_add_assign(x, 91, y), |x, y, _| x.wrapping_add(y.wrapping_mul(91))),
            ];
            for (i, (op, plain)) in ops.iter().enumerate() {
                let mut got = x.clone();
                op(&mut got, &y, &z);
                assert!((0..count).all(|i| got[i] == plain(x[i], y[i], z[i])), "operation {i}");
            }
        }
    }

    #[test]
    fn down_rounds_to_a_neighbour_and_never_wraps() {
        for width in [2, 9, 33, 48, 64] {
            for by in [0, 1, width / 2, width - 1] {
                let noise = test_elements(6, 4000);
                for (v, x0) in test_elements(7, 4000).into_iter().zip(noise) {
                    // High bits of the shares stay as they are: garbage.
                    let (mut a, mut b) = ([x0], [v.wrapping_sub(x0)]);
                    down_assign(Party::Client, &mut a, width, by);
                    down_assign(Party::Server, &mut b, width, by);
                    assert!(a[0] <= mask(width - by) && b[0] <= mask(width - by));
                    let got = a[0].wrapping_add(b[0]) & mask(width - by);
                    let floor = (v & mask(width)) >> by;
                    let up = (floor + 1) & mask(width - by);
                    let exact = v & mask(by) == 0;
                    assert!(got == floor || !exact && got == up, "width {width} by {by}");
                }
            }
        }
    }

    #[test]
    fn broadcasts() {
        let cases: &[(&[usize], &[usize])] = &[
            (&[], &[]),
            (&[3], &[]),
            (&[], &[2, 3]),
            (&[4, 5], &[5]),
            (&[4, 5], &[4, 1]),
            (&[4, 1], &[1, 5]),
            (&[2, 3, 4], &[3, 1]),
            (&[2, 1, 4], &[3, 4]),
            (&[2, 1, 4, 1], &[1, 3, 1, 5]),
            (&[7, 1, 1], &[7, 6, 5]),
            (&[300, 400], &[300, 1]),
            (&[300, 400], &[400]),
            (&[1, 400, 300], &[400, 300]),
            (&[0, 4], &[1, 4]),
        ];
        for (sa, sb) in cases {
            for (sa, sb) in [(sa, sb), (sb, sa)] {
                let a = Tensor::new(sa.to_vec(), test_elements(8, sa.iter().product()));
                let b = Tensor::new(sb.to_vec(), test_elements(9, sb.iter().product()));
                let got = broadcast(&a, &b, |x, y| x.wrapping_sub(y));
                let rank = got.shape.len();
                let (ta, tb) = (broadcast_strides(sa, rank), broadcast_strides(sb, rank));
                let steps = strides(&got.shape);
                for (i, &x) in got.data.iter().enumerate() {
                    let from = |t: &[usize]| (0..rank).map(|k| i / steps[k] % got.shape[k] * t[k]).sum::<usize>();
                    assert_eq!(x, a.data[from(&ta)].wrapping_sub(b.data[from(&tb)]), "{sa:?} {sb:?}");
                }
                let zeros = Tensor::zeros(&got.shape);
                assert!(expand(&a, &got.shape) == broadcast(&a, &zeros, |x, _| x), "{sa:?} to {:?}", got.shape);
            }
        }
        assert_eq!(broadcast_shape(&[2, 1, 4, 1], &[3, 1, 5]), [2, 3, 4, 5]);
    }
}
