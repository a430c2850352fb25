//! Memory for elements that is used again: a pass needs tensors of the same few sizes over and over, and memory that goes
//! back to the operating system has to be cleared, mapped and unmapped each time.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Elements from which memory is kept. Below, the allocator does not ask the operating system either.
const LEAST: usize = 1 << 13;

/// Elements that are kept at most, 512 MiB.
const MOST: usize = 1 << 26;

/// A vector of elements of fixed length. Its memory has held other vectors and will hold others again.
#[derive(Default)]
pub struct Buffer {
    /// At least `len` elements.
    memory: Vec<u64>,
    len: usize,
    /// Whether the memory is of a size class and goes to the pool. That of a vector does not, or the pool would grow with
    /// every vector that comes from elsewhere.
    pooled: bool,
}

/// Memory that nothing uses.
struct Pool {
    /// By length; each vector is as long as its capacity says it was made.
    free: BTreeMap<usize, Vec<Vec<u64>>>,
    /// Elements of all of them.
    kept: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), kept: 0 });

fn pool() -> MutexGuard<'static, Pool> {
    // No code that holds the lock can leave the pool half changed.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The length of the memory for `len` elements: eight sizes between powers of two, so that little is left unused and
/// similar sizes serve each other.
fn size_class(len: usize) -> usize {
    len.next_multiple_of((len.next_power_of_two() / 16).max(1))
}

impl Buffer {
    /// `len` elements of any value: whoever asks writes all of them.
    pub fn unset(len: usize) -> Buffer {
        let mut buffer = Buffer::taken(len).unwrap_or_else(|| Buffer::fresh(len));
        if cfg!(debug_assertions) {
            buffer.fill(0xbad0_bad0_bad0_bad0);
        }
        buffer
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Buffer {
        match Buffer::taken(len) {
            Some(mut buffer) => {
                buffer.fill(0);
                buffer
            }
            None => Buffer::fresh(len),
        }
    }

    /// Zeros in memory from the allocator.
    fn fresh(len: usize) -> Buffer {
        match len < LEAST {
            true => Buffer::from(vec![0; len]),
            false => Buffer { memory: vec![0; size_class(len)], len, pooled: true },
        }
    }

    /// From memory that is kept, if there is some of that size.
    fn taken(len: usize) -> Option<Buffer> {
        if len < LEAST {
            return None;
        }
        let mut pool = pool();
        let memory = pool.free.get_mut(&size_class(len))?.pop()?;
        pool.kept -= memory.len();
        Some(Buffer { memory, len, pooled: true })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.pooled {
            return;
        }
        let (length, mut pool) = (self.memory.len(), pool());
        if pool.kept + length <= MOST {
            pool.kept += length;
            pool.free.entry(length).or_default().push(std::mem::take(&mut self.memory));
        }
    }
}

impl Deref for Buffer {
    type Target = [u64];

    // Other crates index elements in their innermost loops.
    #[inline]
    fn deref(&self) -> &[u64] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u64] {
        &mut self.memory[..self.len]
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        let mut copy = Buffer::unset(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Buffer) -> bool {
        **self == **other
    }
}

impl Eq for Buffer {}

impl From<Vec<u64>> for Buffer {
    fn from(memory: Vec<u64>) -> Buffer {
        Buffer { len: memory.len(), memory, pooled: false }
    }
}

impl FromIterator<u64> for Buffer {
    fn from_iter<I: IntoIterator<Item = u64>>(elements: I) -> Buffer {
        Buffer::from(Vec::from_iter(elements))
    }
}

impl AsRef<[u64]> for Buffer {
    #[inline]
    fn as_ref(&self) -> &[u64] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_waste_little() {
        for len in (LEAST..4 * LEAST).chain([1_000_000, 12_345_678]) {
            let class = size_class(len);
            assert!(len <= class && class <= len + len / 8, "{len} in {class}");
            assert_eq!(size_class(class), class, "memory of a class goes back to it");
        }
    }

    #[test]
    fn memory_is_used_again() {
        // A size of its own, since tests share the pool.
        let len = 3_141_592;
        let mut first = Buffer::unset(len);
        first.fill(7);
        let place = first.as_ptr();
        drop(first);
        let zeros = Buffer::zeros(len - 5);
        assert_eq!((zeros.as_ptr(), zeros.len()), (place, len - 5));
        assert!(zeros.iter().all(|&x| x == 0));
        let copy = zeros.clone();
        assert_ne!(copy.as_ptr(), place, "in use");
        assert!(copy == zeros);
        drop((zeros, copy));
        let vector = Buffer::from(vec![0; size_class(len)]);
        let place = vector.as_ptr();
        drop(vector);
        assert!((0..3).map(|_| Buffer::unset(len)).all(|buffer| buffer.as_ptr() != place), "of a vector");
        assert_eq!(Buffer::from(vec![1, 2])[..], [1, 2]);
        assert!(Buffer::default().is_empty());
    }
}
