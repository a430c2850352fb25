//! Weights as the virtual machine sees them: the server's integers and the client's masked ones.

use crate::ring;
use ir::Weight;

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

impl Integers<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        with_cells!(self, cells => cells.len())
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements mod 2^64 from `first` on, as many as `out` has.
    pub fn copy_to(&self, first: usize, out: &mut [u64]) {
        with_cells!(self, cells => {
            out.iter_mut().zip(&cells[first..first + out.len()]).for_each(|(out, cell)| *out = ring::Cell::widen(*cell));
        });
    }

    /// out += a·self for a [rows, k] and self [k, m].
    pub fn matmul_add(&self, a: &[u64], rows: usize, k: usize, m: usize, out: &mut [u64]) {
        with_cells!(self, cells => ring::matmul_add(a, cells, rows, k, m, out));
    }
}

/// The server's weights.
pub trait ServerWeights: Sync {
    /// The integers of a weight, as many as its declaration says.
    fn integers(&self, weight: Weight) -> Integers<'_>;
}

/// What the client holds in place of the weights of products: W - B, see [`crate::protocol::linear`].
pub trait MaskedWeights: Sync {
    /// Elements of W - B from `first` on, as many as `out` has.
    fn fill(&self, weight: Weight, first: usize, out: &mut [u64]) -> Result<(), WeightsError>;
}

/// Why masked weights could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The weight is not there.
    #[error("weight {0} is not among the masked weights; were they made for this program and entry?")]
    Missing(u32),
    /// The file is too short or cannot be read.
    #[error("reading masked weights")]
    Io(#[from] std::io::Error),
}
