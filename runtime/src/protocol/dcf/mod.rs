//! Distributed comparison function: two keys whose evaluations at a public y sum to beta·1{y < alpha} mod 2^N.
//!
//! Source    Boyle, Chandran, Gilboa, Gupta, Ishai, Kumar, Rathee, "Function secret sharing for mixed-mode and
//!           fixed-point secure computation" (ePrint 2020/1392), figure 1. The tree stops early, with a vector of
//!           payloads at each leaf; see [`Layout`] for sizes and the order of the correction words.
//! Shapes    Alphas and roots have one entry an element, points are `[element][point]`, payloads are a vector of at most
//!           three components, each mod 2^(its width).
//! Generator Fixed-key AES, x -> x ^ AES_k(x) (Matyas, Meyer, Oseas; Guo, Katz, Wang, Yu, "Efficient and secure
//!           multiparty computation from fixed-key block ciphers", ePrint 2019/074), with one key for each of child
//!           seeds, payloads on the way and payloads at the leaf. A node has a control bit t and a seed s of 127 bits,
//!           stored in 128 with the lowest zero. Child `side` comes from x = s ^ side: its seed, with its control bit
//!           lowest. A payload of one component is a half of the hash of x = s, the low one for the left child. Of a
//!           longer payload, components 0 and 1 are the halves of the hash of x = s ^ side. Component 2 is made of the
//!           bits that those two have no use for, if there are enough; else it is a half, by side, of the hash of
//!           x = s ^ 2. The leaf's payloads come from x = s ^ j, for as many j as they need.
//! Secrets   Roots, alphas, betas and everything derived from them: no branch and no address depends on them. Points
//!           are public.
//! Errors    A wrong number of bytes for the words; anything else is our own mistake and panics.

mod deal;
mod evaluate;
mod lanes;
mod paths;
mod payload;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod whole;
#[cfg(target_arch = "x86_64")]
mod wide;

pub use deal::deal;
pub use evaluate::{Keys, evaluate, wide_keys};

use crate::aes128::Aes128;
use crate::cpu::Cpu;
use ir::Party;
use ir::dcf::{Layout, MAX_COMPONENTS};
use std::sync::LazyLock;

/// Fixed keys: digits of pi after the binary point, first 384 bits.
static CHILD: LazyLock<Aes128> = LazyLock::new(|| fixed(0x243f_6a88_85a3_08d3_1319_8a2e_0370_7344));
static PAYLOAD: LazyLock<Aes128> = LazyLock::new(|| fixed(0xa409_3822_299f_31d0_082e_fa98_ec4e_6c89));
static LEAF: LazyLock<Aes128> = LazyLock::new(|| fixed(0x4528_21e6_38d0_1377_be54_66cf_34e9_0c6c));

fn fixed(key: u128) -> Aes128 {
    Aes128::new(Cpu::get(), &key.to_be_bytes())
}

/// Words that do not fit their layout.
#[derive(Debug, thiserror::Error)]
#[error("correction words of {elements} comparison keys take {expected} bytes, not {got}")]
pub struct WordsError {
    elements: usize,
    expected: u64,
    got: usize,
}

/// The correction words of a batch of keys. Both parties have the same; the bytes are read in place.
#[derive(Clone)]
pub struct Key<'a> {
    layout: Layout,
    elements: usize,
    seeds: &'a [u8],
    controls: &'a [u8],
    payloads: [&'a [u8]; MAX_COMPONENTS],
    last: [&'a [u8]; MAX_COMPONENTS],
}

impl<'a> Key<'a> {
    /// Takes `bytes` apart. Any bytes of the right number are a key.
    pub fn parse(layout: Layout, elements: usize, bytes: &'a [u8]) -> Result<Key<'a>, WordsError> {
        let lengths = layout.piece_bytes(elements as u64);
        let expected = lengths.iter().sum();
        if bytes.len() as u64 != expected {
            return Err(WordsError { elements, expected, got: bytes.len() });
        }
        let mut rest = bytes;
        let [seeds, controls, p0, p1, p2, l0, l1, l2] = lengths.map(|n| {
            let (piece, tail) = rest.split_at(n as usize);
            rest = tail;
            piece
        });
        Ok(Key { layout, elements, seeds, controls, payloads: [p0, p1, p2], last: [l0, l1, l2] })
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Its layout.
    pub fn layout(&self) -> Layout {
        self.layout
    }
}

/// Nodes of many trees, as parallel arrays: halves of the seeds, and control bits as masks (all ones for a one).
#[derive(Default)]
struct Nodes {
    low: Vec<u64>,
    high: Vec<u64>,
    control: Vec<u64>,
}

impl Nodes {
    fn resize(&mut self, n: usize) {
        for x in [&mut self.low, &mut self.high, &mut self.control] {
            x.resize(n, 0);
        }
    }

    /// A party's roots: the control bit is the party's number.
    fn set_roots(&mut self, party: Party, roots: &[u128]) {
        self.resize(roots.len());
        for (i, root) in roots.iter().enumerate() {
            (self.low[i], self.high[i]) = (*root as u64 & !1, (root >> 64) as u64);
        }
        self.control.fill(signs(party));
    }
}

/// All ones for the party that negates its share.
fn signs(party: Party) -> u64 {
    (party.index() as u64).wrapping_neg()
}

/// `x`, or -x where `sign` is all ones.
fn signed(sign: u64, x: u64) -> u64 {
    (x ^ sign).wrapping_sub(sign)
}
