//! Kernels on integers mod 2^64, in memory order (row-major).
//!
//! An element of width n occupies the low n bits of a `u64`. Sums and products are taken mod 2^64 and are right mod 2^n
//! whatever the high bits hold; kernels whose result depends on high bits (`pack`, `down`) mask their input. Large
//! inputs are spread over the current rayon pool. Lengths that do not fit are our own mistakes, so they panic.

mod buffer;
mod elementwise;
mod matmul;
mod pack;
mod tensor;

pub use buffer::Buffer;
pub use elementwise::*;
pub use matmul::*;
pub use pack::*;
pub use tensor::*;

/// The low `width` bits set; `width` is at most 64.
pub const fn mask(width: u8) -> u64 {
    if width >= 64 { u64::MAX } else { (1 << width) - 1 }
}

/// Reproducible 64-bit data for tests (xorshift64*), here and in the crates above.
#[doc(hidden)]
pub fn test_elements(seed: u64, count: usize) -> Vec<u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    (0..count).map(|_| next()).collect()
}
