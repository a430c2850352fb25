//! Work on parts of vectors, on one core or on all.

use rayon::prelude::*;

/// Fewer tasks than this are not worth waking other cores.
const FEW: usize = 16;

/// Does every task, in the current rayon pool if there are many.
pub fn spread<T: Send>(tasks: impl Iterator<Item = T>, work: impl Fn(T) + Sync + Send) {
    let tasks: Vec<T> = tasks.collect();
    if tasks.len() < FEW {
        tasks.into_iter().for_each(work);
    } else {
        tasks.into_par_iter().for_each(work);
    }
}
