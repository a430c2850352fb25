//! Correlated blocks: what an engine of transfers makes, whichever it is.
//!
//! For every correlation the receiver has a block t with a uniform low bit, its choice, and the sender q = t ⊕ (t & 1)·Δ,
//! with a secret Δ whose low bit is 1; so the low bit of every q is 0. The other 127 bits of Δ and of the blocks are what
//! security rests on.

use crate::Error;
use zeroize::Zeroize;

/// The end of an engine that knows Δ.
pub trait CotSender: Send {
    /// Δ.
    fn delta(&self) -> u128;

    /// Correlations of the next extension where so many are wanted, at least one; it may be fewer or more. Both ends
    /// find the same number.
    fn batch(&self, wanted: usize) -> usize;

    /// Bytes of the receiver's request for an extension of a size that [`CotSender::batch`] gave.
    fn request_bytes(&self, batch: usize) -> usize;

    /// Takes the request, appends the blocks q and gives the response.
    fn respond(&mut self, batch: usize, request: &[u8], out: &mut Vec<u128>) -> Result<Vec<u8>, Error>;
}

/// The end of an engine that has choices.
pub trait CotReceiver: Send {
    /// As [`CotSender::batch`].
    fn batch(&self, wanted: usize) -> usize;

    /// The request for an extension.
    fn request(&mut self, batch: usize) -> Vec<u8>;

    /// Bytes of the response; none means that there is none.
    fn response_bytes(&self, batch: usize) -> usize;

    /// Takes the response and appends the blocks t.
    fn complete(&mut self, batch: usize, response: &[u8], out: &mut Vec<u128>) -> Result<(), Error>;
}

/// Blocks that were made and not yet used.
#[derive(Default)]
pub(crate) struct Stock {
    blocks: Vec<u128>,
    used: usize,
}

impl Stock {
    /// How many of `wanted` are missing.
    pub fn lacks(&self, wanted: usize) -> usize {
        wanted.saturating_sub(self.blocks.len() - self.used)
    }

    /// Room for more blocks behind those that there are.
    pub fn refill(&mut self) -> &mut Vec<u128> {
        self.blocks.copy_within(self.used.., 0);
        let left = self.blocks.len() - self.used;
        self.blocks[left..].zeroize();
        self.blocks.truncate(left);
        self.used = 0;
        &mut self.blocks
    }

    /// The next blocks, which are there. Each is given once.
    pub fn take(&mut self, count: usize) -> Vec<u128> {
        let taken = &mut self.blocks[self.used..][..count];
        let blocks = taken.to_vec();
        taken.zeroize();
        self.used += count;
        blocks
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.blocks.zeroize();
    }
}
