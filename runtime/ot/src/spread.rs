//! Work on parts of vectors, on one core or on all.

use rayon::prelude::*;

/// Does every task, in the current rayon pool if there are not fewer than `few`.
pub fn spread<T: Send>(few: usize, tasks: impl Iterator<Item = T>, work: impl Fn(T) + Sync + Send) {
    let tasks: Vec<T> = tasks.collect();
    if tasks.len() < few {
        tasks.into_iter().for_each(work);
    } else {
        tasks.into_par_iter().for_each(work);
    }
}
