//! Distributed comparison function: two keys whose evaluations at a public y sum to beta·1{y < alpha} mod 2^N.
//!
//! Source    Boyle, Chandran, Gilboa, Gupta, Ishai, Kumar, Rathee, "Function secret sharing for mixed-mode and
//!           fixed-point secure computation" (ePrint 2020/1392), figure 1, with nodes of four children in place of two:
//!           half the hashes for 1.5 times the words. The tree stops early, with a vector of payloads at each leaf; see
//!           [`Layout`] for sizes and the order of the correction words.
//! Shapes    Alphas and roots have one entry an element, points are `[element][point]`, payloads are a vector of at most
//!           three components, each mod 2^(its width).
//! Generator Fixed-key AES, x -> x ^ AES_k(x) (Matyas, Meyer, Oseas; Guo, Katz, Wang, Yu, "Efficient and secure
//!           multiparty computation from fixed-key block ciphers", ePrint 2019/074), with one key for each of child
//!           nodes, payloads on the way and payloads at the leaf. A node is a block x, whose lowest bit is its control bit
//!           too; a tweak leaves that bit alone. Two bits of a point make the number c = 0..4 of a child, which is the hash
//!           of x ^ 2·c. A payload of one component is a half of the hash of x ^ (2·c & 4), the low one for even c. Of a
//!           longer payload, components 0 and 1 are the halves of the hash of x ^ 2·c. Component 2 is made of the bits that
//!           those two have no use for, if there are enough; else it is a half, low for even c, of the hash of
//!           x ^ 8 ^ (2·c & 4). The leaf's payloads come from x ^ 2·j, for as many j as they need.
//! Words     Node and payload of child c get word c if the node's control bit is set. The three children that alpha does
//!           not take lose the parties' difference, and their payloads sum to what beta·1{y < alpha} lacks: three words,
//!           which determine the fourth by a sum that is zero (the seeds' by xor, the payloads' with the last word
//!           negative), so that three, the first, are sent. Control bits have four of their own.
//! View      On alpha's path the nodes of the parties are independent. To a party, the word of a child that alpha does not
//!           take is hidden by the other's hash, of which nothing else is seen, one for each child; the words sent are an
//!           invertible function of those three, whichever they are. The last words are hidden as in figure 1.
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

use ir::Party;
use ir::dcf::{Layout, MAX_COMPONENTS};
use kernels::aes128::Aes128;
use kernels::cpu::Cpu;
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

/// Children of a node.
const CHILDREN: usize = 4;

/// Nodes of many trees, as parallel arrays: halves, and control bits once more as masks (all ones for a one).
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

    /// A party's roots, see [`root_node`].
    fn set_roots(&mut self, party: Party, roots: &[u128]) {
        self.resize(roots.len());
        for (i, &root) in roots.iter().enumerate() {
            let node = root_node(party, root);
            (self.low[i], self.high[i]) = (node as u64, (node >> 64) as u64);
        }
        self.control.fill(signs(party));
    }
}

/// The root of a party: its control bit is the party's number.
fn root_node(party: Party, root: u128) -> u128 {
    root & !1 | party.index() as u128
}

/// All ones for the party that negates its share.
fn signs(party: Party) -> u64 {
    (party.index() as u64).wrapping_neg()
}

/// `x`, or -x where `sign` is all ones.
fn signed(sign: u64, x: u64) -> u64 {
    (x ^ sign).wrapping_sub(sign)
}
