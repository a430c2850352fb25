//! Trees of seeds: blocks for every leaf, of which the receiver lacks one.
//!
//! Goldreich, Goldwasser and Micali's tree. A node x has the children π_0(x) ⊕ x and π_1(x) ⊕ x, with π_b AES-128 under
//! public keys of the session; the children of node j at level i are the nodes j and j + 2^i of the next level, so that a
//! level is two contiguous halves. For each level the sender has the sums of both halves; the receiver gets that of the half
//! its path does not enter, and has all leaves but the one at the end of the path.
//!
//! Leaves have a low bit of 0. With the sum of all leaves and Δ, the receiver's leaf at the end of the path becomes the
//! sender's ⊕ Δ, whose low bit is 1: single-point correlated blocks.
//!
//! The path is secret: every level is touched as a whole, and no place depends on it.

use kernels::aes128::Aes128;
use kernels::cpu::{Cpu, multiversion};
use zeroize::Zeroize;

/// Blocks that stay in the nearest cache.
const CHUNK: usize = 256;

/// All bits but the lowest.
const LOW: u128 = !1;

/// The two permutations.
pub struct Trees([Aes128; 2]);

/// All ones where `i` is `place`.
#[inline(always)]
fn at(i: u64, place: u64) -> u128 {
    i128::from(((i ^ place).wrapping_sub(1) as i64) >> 63) as u128
}

multiversion! {
    /// Adds `change` to block `place`.
    fn patch(blocks: &mut [u128], place: u64, change: u128) {
        for (i, block) in (0..).zip(blocks) {
            *block ^= change & at(i, place);
        }
    }
}

/// The sum of blocks.
fn sum(blocks: &[u128]) -> u128 {
    blocks.iter().fold(0, |sum, x| sum ^ x)
}

impl Trees {
    /// With public keys.
    pub fn new(keys: [[u8; 16]; 2]) -> Trees {
        Trees(keys.map(|key| Aes128::new(Cpu::get(), &key)))
    }

    /// From the nodes of a level in `left`, those of the next in both halves; their sums.
    fn double(&self, left: &mut [u128], right: &mut [u128]) -> [u128; 2] {
        let (mut parents, mut sums) = ([0; CHUNK], [0, 0]);
        for (left, right) in left.chunks_mut(CHUNK).zip(right.chunks_mut(CHUNK)) {
            let parents = &mut parents[..left.len()];
            parents.copy_from_slice(left);
            right.copy_from_slice(left);
            for ((cipher, half), total) in self.0.iter().zip([left, right]).zip(&mut sums) {
                cipher.encrypt(half);
                half.iter_mut().zip(&*parents).for_each(|(x, parent)| *x ^= parent);
                *total ^= sum(half);
            }
        }
        parents.zeroize();
        sums
    }

    /// The sender's leaves from a root, as many as `leaves` has, a power of two; sums of both halves of every level, appended
    /// in turn; and the sum of the leaves.
    pub fn grow(&self, root: u128, leaves: &mut [u128], sums: &mut Vec<[u128; 2]>) -> u128 {
        leaves[0] = root;
        for level in 0..leaves.len().trailing_zeros() {
            let (left, right) = leaves[..2 << level].split_at_mut(1 << level);
            sums.push(self.double(left, right));
        }
        leaves.iter_mut().for_each(|leaf| *leaf &= LOW);
        sum(leaves)
    }

    /// The receiver's leaves: `path` is the place of the leaf that it lacks, `sums` for every level the sum of the half that
    /// the path does not enter, and `total` the sum of all leaves and Δ.
    pub fn follow(&self, path: u64, sums: &[u128], total: u128, leaves: &mut [u128]) {
        assert_eq!(1 << sums.len(), leaves.len(), "a sum for each level");
        // The node on the path is kept at 0, whose children are known.
        let nothing = self.0.each_ref().map(|cipher| {
            let mut x = [0];
            cipher.encrypt(&mut x);
            x[0]
        });
        leaves[0] = 0;
        for (level, other) in (0..).zip(sums) {
            let (left, right) = leaves[..2 << level].split_at_mut(1 << level);
            let halves = self.double(left, right);
            // The child on the path becomes 0, and the other one what its half's sum lacks.
            let into_right = u128::from(path >> level & 1).wrapping_neg();
            let change = [
                nothing[0] ^ (nothing[0] ^ other ^ halves[0]) & into_right,
                nothing[1] ^ (nothing[1] ^ other ^ halves[1]) & !into_right,
            ];
            for (half, change) in [left, right].into_iter().zip(change) {
                patch(Cpu::get(), half, path & ((1 << level) - 1), change);
            }
        }
        leaves.iter_mut().for_each(|leaf| *leaf &= LOW);
        let last = total ^ sum(leaves);
        patch(Cpu::get(), leaves, path, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::ring::test_elements;

    #[test]
    fn the_receiver_lacks_one_leaf_alone() {
        let trees = Trees::new([[1; 16], [2; 16]]);
        let delta = (u128::MAX / 7) | 1;
        for depth in 1..=10 {
            let mut leaves = vec![0; 1 << depth];
            let mut sums = Vec::new();
            let root = u128::from(test_elements(depth, 1)[0]) << 50;
            let total = trees.grow(root, &mut leaves, &mut sums) ^ delta;
            assert!(leaves.iter().all(|leaf| leaf & 1 == 0));
            for path in [0, (1 << depth) - 1, (1 << depth) / 3, (1 << depth) / 2] {
                let others: Vec<u128> =
                    sums.iter().enumerate().map(|(level, sums)| sums[1 - (path >> level & 1) as usize]).collect();
                let mut got = vec![9; 1 << depth];
                trees.follow(path, &others, total, &mut got);
                for (i, (got, leaf)) in got.iter().zip(&leaves).enumerate() {
                    let want = if i as u64 == path { leaf ^ delta } else { *leaf };
                    assert_eq!(*got, want, "leaf {i} of 2^{depth}, path {path}");
                }
            }
        }
    }
}
