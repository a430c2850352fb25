//! Tensors with a dimension that is packed by a [`Pattern`]: the kept elements of a [rows, columns] matrix, row by row.

use ir::Pattern;
use kernels::cpu::{Cpu, multiversion};
use kernels::ring::Tensor;
use rayon::prelude::*;
use std::ops::Range;

/// First and last packed index of every row.
pub fn rows(pattern: &Pattern) -> impl Iterator<Item = Range<usize>> + Clone + '_ {
    pattern.rows.iter().scan(0, |start, &(from, to)| {
        let row = *start..*start + (to - from) as usize;
        *start = row.end;
        Some(row)
    })
}

/// Sum over each row: `axis` has the kept elements before, the rows after. Sums wrap mod 2^64.
pub fn row_sum(x: &Tensor, pattern: &Pattern, axis: usize) -> Tensor {
    let (kept, inner) = (x.shape[axis], x.shape[axis + 1..].iter().product::<usize>());
    let mut shape = x.shape.clone();
    shape[axis] = pattern.rows.len();
    let mut out = Tensor::zeros(&shape);
    let places: Vec<Range<usize>> = rows(pattern).collect();
    let of_block = |(block, sums): (&[u64], &mut [u64])| {
        for (row, sums) in places.iter().zip(sums.chunks_exact_mut(inner)) {
            add_rows(Cpu::get(), &block[row.start * inner..row.end * inner], sums);
        }
    };
    let (blocks, sums) = (x.data.par_chunks_exact(kept * inner), out.data.par_chunks_exact_mut(places.len() * inner));
    blocks.zip(sums).for_each(of_block);
    out
}

multiversion! {
    /// Adds rows, below one another, to one.
    fn add_rows(x: &[u64], sums: &mut [u64]) {
        if let [sum] = sums {
            for x in x {
                *sum = sum.wrapping_add(*x);
            }
            return;
        }
        for x in x.chunks_exact(sums.len()) {
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum = sum.wrapping_add(*x);
            }
        }
    }
}

/// Copies each row's element to all its kept elements: `axis` has the rows before, the kept elements after.
pub fn spread(x: &Tensor, pattern: &Pattern, axis: usize) -> Tensor {
    let inner = x.shape[axis + 1..].iter().product::<usize>();
    let mut shape = x.shape.clone();
    shape[axis] = usize::try_from(pattern.kept()).expect("verified: the result has this many elements");
    let mut out = Tensor::unset(&shape);
    let mut places = out.data.chunks_exact_mut(inner);
    for block in x.data.chunks_exact(pattern.rows.len() * inner) {
        for (row, &(from, to)) in block.chunks_exact(inner).zip(&pattern.rows) {
            places.by_ref().take((to - from) as usize).for_each(|place| place.copy_from_slice(row));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(shape: &[usize]) -> Tensor {
        Tensor::new(shape.to_vec(), (0..shape.iter().product::<usize>() as u64).collect::<Vec<_>>())
    }

    #[test]
    fn sums_and_copies_rows() {
        let pattern = Pattern { columns: 4, rows: vec![(0, 1), (1, 3), (0, 3)] };
        let sums = row_sum(&count(&[2, 6, 2]), &pattern, 1);
        assert_eq!(sums.shape, [2, 3, 2]);
        assert_eq!(sums.data[..], [0, 1, 2 + 4, 3 + 5, 24, 27, 12, 13, 30, 32, 60, 63]);
        let copies = spread(&count(&[3, 2]), &pattern, 0);
        assert_eq!(copies.shape, [6, 2]);
        assert_eq!(copies.data[..], [0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 4, 5]);
    }
}
