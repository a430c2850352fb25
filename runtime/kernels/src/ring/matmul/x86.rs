//! What products of several schemes share of this architecture's instructions.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

/// Fetches what will be read soon into the second-level cache.
pub fn prefetch<T>(cells: &[T]) {
    for at in (0..cells.len()).step_by(64 / size_of::<T>()) {
        prefetch_at(cells, at);
    }
}

/// Fetches the cache line of a cell that will be read soon into the second-level cache; of any place, if there is no cell.
#[inline(always)]
pub fn prefetch_at<T>(cells: &[T], at: usize) {
    // SAFETY: a hint that reads nothing and faults nowhere. Every x86-64 has the instruction.
    #[allow(unsafe_code)]
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(cells.as_ptr().wrapping_add(at).cast())
    }
}

/// Defines a kernel for a whole tile: `TILE_ROWS` rows of three vectors, 24 of 32 registers. Written with intrinsics
/// because the vectoriser, left alone, moves the accumulators through memory.
macro_rules! whole_tile {
    ($name:ident, $features:literal, $row:ty, $word:ty, $broadcast:expr, $mul_add:expr) => {
        #[target_feature(enable = $features)]
        pub fn $name(left: &Left<$word>, right: &[$row], tile: &mut [$row; TILE_ROWS]) {
            const { assert!(size_of::<$row>() == 3 * size_of::<__m512i>(), "three vectors") };
            whole_tile!(@ left right tile $broadcast, $mul_add;
                0 x0 y0 z0, 1 x1 y1 z1, 2 x2 y2 z2, 3 x3 y3 z3, 4 x4 y4 z4, 5 x5 y5 z5, 6 x6 y6 z6, 7 x7 y7 z7);
        }
    };
    (@ $left:ident $right:ident $tile:ident $broadcast:expr, $mul_add:expr;
        $($r:literal $x:ident $y:ident $z:ident),*) => {
        $( let [mut $x, mut $y, mut $z] = [_mm512_setzero_si512(); 3]; )*
        for (step, b) in $right[..$right.len().min(STEPS)].iter().enumerate() {
            let b = b.0.as_ptr().cast::<__m512i>();
            // SAFETY: `b` points to a row, three vectors, and the load needs no alignment.
            #[allow(unsafe_code)]
            let (b0, b1, b2) =
                unsafe { (_mm512_loadu_si512(b), _mm512_loadu_si512(b.add(1)), _mm512_loadu_si512(b.add(2))) };
            $(
                let factor = $broadcast($left.0[$r][step]);
                $x = $mul_add($x, factor, b0);
                $y = $mul_add($y, factor, b1);
                $z = $mul_add($z, factor, b2);
            )*
        }
        $(
            let row = $tile[$r].0.as_mut_ptr().cast::<__m512i>();
            // SAFETY: `row` points to a row, three vectors, and the store needs no alignment.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_storeu_si512(row, $x);
                _mm512_storeu_si512(row.add(1), $y);
                _mm512_storeu_si512(row.add(2), $z);
            }
        )*
    };
}
pub(super) use whole_tile;
