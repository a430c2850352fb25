//! Right operands whose elements are packed without gaps.

use super::few::{self, Part};
use super::{Operand, View};
use crate::ring::Packed;
use std::ops::Range;

/// A row-major matrix.
pub struct Matrix<'a> {
    pub elements: Packed<'a>,
    pub columns: usize,
}

impl Operand for Matrix<'_> {
    type Cell = u64;

    fn view<'v>(&'v self, rows: Range<usize>, columns: Range<usize>, scratch: &'v mut Vec<u64>) -> View<'v, u64> {
        super::filled(|first, out| self.elements.unpack(first, out), self.columns, rows, columns, scratch)
    }

    fn few(&self, part: Part, out: &mut [&mut [u64]]) {
        few::made(&part, self, out);
    }
}
