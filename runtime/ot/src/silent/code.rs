//! The local linear code: every row of a public random matrix has ten places.

use kernels::prg::{Domain, Seed, Stream};

/// Ones of a row (Yang and others, section 5.1, after Alekhnovich's assumption: d = 10).
pub const ONES: usize = 10;

/// Rows whose places are drawn at once.
const CHUNK: usize = 256;

/// Words of a stream that a row takes: two places a word.
const WORDS: usize = ONES / 2;

/// A public matrix without end, of so many columns.
pub struct Code {
    stream: Stream,
    columns: u64,
}

impl Code {
    /// From a public seed.
    pub fn new(seed: [u8; 32], columns: usize) -> Code {
        assert!(columns < 1 << 32, "a place is drawn from 32 bits");
        let stream = Seed::new(seed).stream(Domain { step: 0, entry: 0, index: 0, kind: 0 });
        Code { stream, columns: columns as u64 }
    }

    /// Adds the products of the rows from number `first` on and `x`, which has a block for each column.
    ///
    /// Places are uniform up to 2^-32 times the number of columns, and drawn with replacement.
    pub fn add(&self, first: u64, x: &[u128], rows: &mut [u128]) {
        let x = &x[..self.columns as usize];
        let (mut words, mut places) = ([0; WORDS * CHUNK], [[0; ONES]; CHUNK]);
        for (number, rows) in (0..).zip(rows.chunks_mut(CHUNK)) {
            let words = &mut words[..WORDS * rows.len()];
            self.stream.fill((first + number * CHUNK as u64) * WORDS as u64, 64, words);
            for (places, words) in places.iter_mut().zip(words.as_chunks::<WORDS>().0) {
                for (places, word) in places.as_chunks_mut::<2>().0.iter_mut().zip(words) {
                    *places = [word & 0xffff_ffff, word >> 32].map(|bits| ((bits * self.columns) >> 32) as u32);
                }
            }
            // Apart from the places, so that loads need not wait for anything.
            for (row, places) in rows.iter_mut().zip(&places) {
                *row ^= places.iter().fold(0, |sum, place| sum ^ x[*place as usize]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_linear_random_and_do_not_depend_on_the_split() {
        let columns = 1000;
        let code = Code::new([1; 32], columns);
        let mut hits = vec![0u32; columns];
        let rows = 600;
        for (column, hits) in hits.iter_mut().enumerate() {
            let mut x = vec![0; columns];
            x[column] = 1;
            let mut out = vec![0; rows];
            code.add(5, &x, &mut out);
            *hits = out.iter().map(|bit| *bit as u32).sum();
            let mut split = vec![0; rows];
            let (head, tail) = split.split_at_mut(77);
            code.add(5, &x, head);
            code.add(82, &x, tail);
            assert!(out == split);
        }
        // Ten places in each of 600 rows over 1000 columns: six a column, fewer by places that were drawn twice.
        let all: u32 = hits.iter().sum();
        assert!((5850..6000).contains(&all) && hits.iter().all(|h| *h < 25), "{all}");
    }
}
