//! Transposition of bit matrices: 128 columns of bits become one block a row.

use kernels::cpu::multiversion;

/// Rows are a multiple of this: eight words of each column go through the registers at once.
pub const ROWS: usize = 512;

/// Words of a column that are transposed together.
const LANES: usize = ROWS / 64;

/// Transposes 64 x 64 bits in every lane: bit r of word j comes to bit j of word r. Halves, quarters and so on of the
/// matrix change places, as in Warren, "Hacker's Delight", 7-3.
#[inline(always)]
fn square(x: &mut [[u64; LANES]; 64]) {
    let mut low = u64::MAX >> 32;
    let mut half = 32;
    while half > 0 {
        for from in (0..64).step_by(2 * half) {
            let (upper, lower) = x[from..from + 2 * half].split_at_mut(half);
            for (a, b) in upper.iter_mut().zip(lower) {
                for (a, b) in a.iter_mut().zip(b) {
                    let moved = (*a >> half ^ *b) & low;
                    *b ^= moved;
                    *a ^= moved << half;
                }
            }
        }
        half /= 2;
        low ^= low << half;
    }
}

multiversion! {
    /// Block r of `out` has bit r of column j as its bit j. Column j is the words `j·n .. (j+1)·n` of `columns`, n of them
    /// for 64·n rows, a multiple of [`ROWS`]; bits count from the lowest one.
    pub fn transpose(columns: &[u64], out: &mut [u128]) {
        let words = out.len() / 64;
        assert!(out.len().is_multiple_of(ROWS) && columns.len() == 128 * words, "a matrix of 128 columns");
        for (group, out) in out.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
            let mut halves = [[[0; LANES]; 64]; 2];
            for (half, columns) in halves.iter_mut().zip(columns.chunks_exact(64 * words)) {
                for (x, column) in half.iter_mut().zip(columns.chunks_exact(words)) {
                    x.copy_from_slice(&column[group * LANES..][..LANES]);
                }
                square(half);
            }
            let [low, high] = &halves;
            for (lane, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
                for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                    *out = u128::from(high[lane]) << 64 | u128::from(low[lane]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::cpu::Cpu;
    use kernels::ring::test_elements;

    #[test]
    fn every_bit_comes_to_its_place() {
        for cpu in Cpu::available() {
            for rows in [0, ROWS, 3 * ROWS] {
                let words = rows / 64;
                let columns = test_elements(3, 128 * words);
                let mut out = vec![0; rows];
                transpose(cpu, &columns, &mut out);
                for (row, block) in out.iter().enumerate() {
                    for column in 0..128 {
                        let bit = columns[column * words + row / 64] >> (row % 64) & 1;
                        assert_eq!((block >> column) as u64 & 1, bit, "{}, {row}, {column}", cpu.name());
                    }
                }
            }
        }
    }
}
