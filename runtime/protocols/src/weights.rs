//! Weights as the virtual machine sees them: the server's integers and the client's masked ones.

use ir::material::masked_weights;
use ir::{Program, Weight, Width};
use kernels::codec::dimensions;
use kernels::ring;
use std::collections::HashMap;
use std::ops::Range;

/// A tensor of signed little-endian integers as they lie in a file, row-major.
#[derive(Clone, Copy)]
pub enum Integers<'a> {
    /// 16 bits each.
    Two(&'a [[u8; 2]]),
    /// 32 bits each.
    Four(&'a [[u8; 4]]),
    /// 64 bits each.
    Eight(&'a [[u8; 8]]),
}

/// Some columns of a matrix, in memory.
pub enum Columns {
    /// 16 bits each.
    Two(Vec<[u8; 2]>),
    /// 32 bits each.
    Four(Vec<[u8; 4]>),
    /// 64 bits each.
    Eight(Vec<[u8; 8]>),
}

/// Runs an expression with `$cells` bound to the slice of an [`Integers`].
macro_rules! with_cells {
    ($integers:expr, $cells:ident => $body:expr) => {
        match $integers {
            Integers::Two($cells) => $body,
            Integers::Four($cells) => $body,
            Integers::Eight($cells) => $body,
        }
    };
}

impl<'a> Integers<'a> {
    /// Some neighbouring elements.
    pub fn range(self, range: Range<usize>) -> Integers<'a> {
        match self {
            Integers::Two(cells) => Integers::Two(&cells[range]),
            Integers::Four(cells) => Integers::Four(&cells[range]),
            Integers::Eight(cells) => Integers::Eight(&cells[range]),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        with_cells!(self, cells => cells.len())
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Columns `columns` of a matrix [k, m], in their type.
    pub fn columns(self, [k, m]: [usize; 2], columns: Range<usize>) -> Columns {
        fn cut<T: Copy>(cells: &[T], [k, m]: [usize; 2], columns: Range<usize>) -> Vec<T> {
            (0..k).flat_map(|row| &cells[row * m..][columns.clone()]).copied().collect()
        }
        match self {
            Integers::Two(cells) => Columns::Two(cut(cells, [k, m], columns)),
            Integers::Four(cells) => Columns::Four(cut(cells, [k, m], columns)),
            Integers::Eight(cells) => Columns::Eight(cut(cells, [k, m], columns)),
        }
    }

    /// The greatest sum of squares of a column of a matrix with `m` of them.
    pub fn greatest_square(&self, m: usize) -> u64 {
        let mut sums = vec![0u64; m];
        let mut row = vec![0; m];
        for first in (0..self.len()).step_by(m.max(1)) {
            self.copy_to(first, &mut row);
            for (sum, w) in sums.iter_mut().zip(&row) {
                let size = (*w as i64).unsigned_abs();
                *sum = sum.saturating_add(size.saturating_mul(size));
            }
        }
        sums.into_iter().max().unwrap_or(0)
    }

    /// The elements mod 2^64 from `first` on, as many as `out` has.
    pub fn copy_to(&self, first: usize, out: &mut [u64]) {
        let range = first..first + out.len();
        with_cells!(self, cells => {
            out.iter_mut().zip(&cells[range]).for_each(|(out, cell)| *out = ring::Cell::widen(*cell));
        });
    }

    /// out += a·self for a [rows, k] and self [k, m], mod 2^`width`.
    pub fn matmul_add(&self, a: &[u64], rows: usize, k: usize, m: usize, width: Width, out: &mut [u64]) {
        with_cells!(self, cells => ring::matmul_add(a, cells, rows, k, m, width, out));
    }
}

/// The server's weights.
pub trait ServerWeights: Sync {
    /// The integers of a weight, as many as its declaration says.
    fn integers(&self, weight: Weight) -> Integers<'_>;
}

/// What the client holds in place of the weights of products: W - B, see [`crate::linear`].
pub trait MaskedWeights: Sync {
    /// W - B, row-major.
    fn masked(&self, weight: Weight) -> Result<ring::Packed<'_>, WeightsError>;
}

/// Why masked weights could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The weight is not there.
    #[error("weight {0} is not among the masked weights; were they made for this program?")]
    Missing(u32),
    /// Too few or too many bytes.
    #[error("weight {weight} takes {expected} masked bytes, not {got}; were they made for this program?")]
    Length {
        /// The weight.
        weight: u32,
        /// Bytes that the program implies.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The file is too short or cannot be read.
    #[error("reading masked weights")]
    Io(#[from] std::io::Error),
}

/// The weights that the client holds masked, for all entries of a module: each with the greatest width of its products and
/// its number of elements.
pub fn masked(entries: &[Program]) -> impl Iterator<Item = (Weight, Width, usize)> + '_ {
    masked_weights(entries).into_iter().map(|(weight, width)| {
        let shape = &entries[0].weights[weight.index()].shape;
        (weight, width, dimensions(shape).iter().product())
    })
}

/// Masked weights in memory, as they travel: packed.
#[derive(Default)]
pub struct Packed {
    weights: HashMap<Weight, (Width, Vec<u8>)>,
}

impl Packed {
    /// Adds the masked elements of a weight, packed at `width` bits.
    pub fn insert(
        &mut self,
        weight: Weight,
        width: Width,
        elements: usize,
        bytes: Vec<u8>,
    ) -> Result<(), WeightsError> {
        let expected = ring::packed_len(elements, width);
        if bytes.len() != expected {
            return Err(WeightsError::Length { weight: weight.0, expected: expected as u64, got: bytes.len() as u64 });
        }
        self.weights.insert(weight, (width, bytes));
        Ok(())
    }
}

impl MaskedWeights for Packed {
    fn masked(&self, weight: Weight) -> Result<ring::Packed<'_>, WeightsError> {
        let (width, bytes) = self.weights.get(&weight).ok_or(WeightsError::Missing(weight.0))?;
        Ok(ring::Packed::new(bytes, *width))
    }
}

/// A server's weights in memory, in the order of the program's declarations.
pub struct Resident(Vec<Vec<[u8; 8]>>);

impl Resident {
    /// From integers at each weight's scale.
    pub fn new<'a>(weights: impl IntoIterator<Item = &'a [i64]>) -> Resident {
        Resident(weights.into_iter().map(|w| w.iter().map(|v| v.to_le_bytes()).collect()).collect())
    }
}

impl ServerWeights for Resident {
    fn integers(&self, weight: Weight) -> Integers<'_> {
        Integers::Eight(&self.0[weight.index()])
    }
}
