//! Distributed comparison function: two keys whose evaluations at a public y sum to beta·1{y < alpha} mod 2^N.
//!
//! Source    Boyle, Chandran, Gilboa, Gupta, Ishai, Kumar, Rathee, "Function secret sharing for mixed-mode and
//!           fixed-point secure computation" (ePrint 2020/1392), figure 1. The tree stops early, with a vector of
//!           payloads at each leaf; see [`Layout`] for sizes and the order of the correction words.
//! Shapes    `alphas` and roots have one entry an element, `points` and outputs are `[element][point]`, payloads are a
//!           vector of components.
//! Generator Fixed-key AES, x -> x ^ AES_k(x) (Matyas, Meyer, Oseas; Guo, Katz, Wang, Yu, "Efficient and secure
//!           multiparty computation from fixed-key block ciphers", ePrint 2019/074), with one key for each of child
//!           seeds, payloads on the way and payloads at the leaf. A node has a control bit t and a seed s of 127 bits,
//!           stored in 128 with the lowest zero. Child `side` comes from x = s ^ side: its seed, with its control bit
//!           lowest. Components 2j and 2j + 1 of its payload are the halves of the hash of x = s ^ side ^ 2j; a last
//!           component without a partner takes the halves of the hash of x = s ^ 2j, one for each side. The leaf's
//!           payloads come from x = s ^ j, for as many j as they need.
//! Secrets   Roots, alphas, betas and everything derived from them: no branch and no address depends on them. Points
//!           are public.
//! Errors    A wrong number of bytes for the words; anything else is our own mistake and panics.

use crate::aes128::{Aes128, Block};
use crate::cpu::{Cpu, multiversion};
use crate::ring::{mask, pack, unpack_range};
use ir::Party;
use ir::dcf::Layout;
use rayon::prelude::*;
use std::ops::Range;
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
    pieces: [&'a [u8]; 4],
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
        let pieces = lengths.map(|n| {
            let (piece, tail) = rest.split_at(n as usize);
            rest = tail;
            piece
        });
        Ok(Key { layout, elements, pieces })
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

/// Where a leaf's payloads lie in its cipher blocks. A slot has 8, 16, 32 or 64 bits; the components of one payload are
/// neighbours and never straddle a block unless they need more than one.
#[derive(Clone, Copy)]
struct Leaf {
    /// Bits of a slot.
    slot: usize,
    /// log2 of the payloads in a block, if one block holds all components of a payload.
    per_block_log2: u32,
    /// Blocks of a payload.
    blocks: usize,
    /// Components of a payload that one block holds.
    components: usize,
}

/// One component's place in a leaf.
#[derive(Clone, Copy)]
struct Place {
    per_block_log2: u32,
    blocks: u64,
    block: u64,
    bit: u64,
}

impl Leaf {
    fn new(layout: Layout) -> Leaf {
        let slot = usize::from(layout.width).next_power_of_two().max(8);
        let components = usize::from(layout.components);
        let group = (components * slot).next_power_of_two();
        Leaf {
            slot,
            per_block_log2: if group < 128 { (128 / group).ilog2() } else { 0 },
            blocks: (components * slot).div_ceil(128),
            components: components.min(128 / slot),
        }
    }

    fn place(self, c: usize) -> Place {
        Place {
            per_block_log2: self.per_block_log2,
            blocks: self.blocks as u64,
            block: (c / self.components) as u64,
            bit: (c % self.components * self.slot) as u64,
        }
    }

    /// Blocks of a whole leaf.
    fn total(self, layout: Layout) -> usize {
        self.blocks * layout.leaf_size().div_ceil(1 << self.per_block_log2)
    }
}

impl Place {
    /// The block that holds payload `index`.
    fn block(self, index: u64) -> u64 {
        (index >> self.per_block_log2) * self.blocks + self.block
    }

    /// The slot of payload `index` in its block, with garbage above.
    fn slot(self, index: u64, low: u64, high: u64) -> u64 {
        let bit = ((index & mask(self.per_block_log2 as u8)) << (7 - self.per_block_log2)) + self.bit;
        (if bit < 64 { low } else { high }) >> (bit % 64)
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
    fn len(&self) -> usize {
        self.low.len()
    }

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

/// The payloads of both children of each node before correction, as [side][component] arrays of one element a node.
fn hash_payloads(nodes: &Nodes, components: usize, out: &mut Vec<Vec<u64>>) {
    out.resize(2 * components, Vec::new());
    out.iter_mut().for_each(|o| o.resize(nodes.len(), 0));
    for first in (0..components).step_by(2) {
        let places = if first + 1 < components {
            [0, 1].map(|side| (first ^ side, [side * components + first, side * components + first + 1])).to_vec()
        } else {
            vec![(first, [first, components + first])]
        };
        for (tweak, halves) in places {
            let [low, high] = out.get_disjoint_mut(halves).expect("distinct places");
            PAYLOAD.hash(&nodes.low, &nodes.high, tweak as u64, low, high);
        }
    }
}

multiversion! {
    /// Turns hashes into child nodes: corrects them where the parent's control bit is set and splits the control bit off.
    /// `word_low` holds the control bit of this side in its lowest bit.
    fn correct_children(
        parent: &[u64], word_low: &[u64], word_high: &[u64], low: &mut [u64], high: &mut [u64], control: &mut [u64],
    ) {
        let n = parent.len();
        let (word_low, word_high) = (&word_low[..n], &word_high[..n]);
        let (low, high, control) = (&mut low[..n], &mut high[..n], &mut control[..n]);
        for i in 0..n {
            let x = low[i] ^ (word_low[i] & parent[i]);
            high[i] ^= word_high[i] & parent[i];
            low[i] = x & !1;
            control[i] = (x & 1).wrapping_neg();
        }
    }
}

multiversion! {
    /// The sums on the way to the children: the parent's, the payload and, where its control bit is set, the word.
    fn add_payloads(parent: &[u64], sums: &[u64], payloads: &[u64], words: &[u64], out: &mut [u64]) {
        let n = parent.len();
        let (sums, payloads, words, out) = (&sums[..n], &payloads[..n], &words[..n], &mut out[..n]);
        for i in 0..n {
            out[i] = sums[i].wrapping_add(payloads[i]).wrapping_add(words[i] & parent[i]);
        }
    }
}

multiversion! {
    /// The side that each point takes, as a mask (all ones for right), and its input for the hash of that child.
    fn choose_sides(points: &[u64], shift: u32, seeds: &[u64], sides: &mut [u64], inputs: &mut [u64]) {
        let n = points.len();
        let (seeds, sides, inputs) = (&seeds[..n], &mut sides[..n], &mut inputs[..n]);
        for i in 0..n {
            let side = points[i] >> shift & 1;
            sides[i] = side.wrapping_neg();
            inputs[i] = seeds[i] | side;
        }
    }
}

multiversion! {
    /// out = left or right, by side.
    fn select_word(left: u64, right: u64, sides: &[u64], out: &mut [u64]) {
        for (out, side) in out.iter_mut().zip(sides) {
            *out = left ^ ((left ^ right) & side);
        }
    }
}

multiversion! {
    /// left = left or right, by side.
    fn select_assign(left: &mut [u64], right: &[u64], sides: &[u64]) {
        for ((x, y), side) in left.iter_mut().zip(right).zip(sides) {
            *x ^= (*x ^ y) & side;
        }
    }
}

/// Elements that the dealer handles together: enough to fill the cipher's pipeline.
const DEAL_BLOCK: usize = 64;

/// Appends the correction words of a batch of keys to `out`.
///
/// `betas` has a vector for each component. Alphas are taken mod 2^input_bits. `roots0` and `roots1` come from the
/// seeds of the parties; their lowest bits are ignored.
pub fn deal(layout: Layout, alphas: &[u64], betas: &[Vec<u64>], roots0: &[u128], roots1: &[u128], out: &mut Vec<u8>) {
    let n = alphas.len();
    let (levels, leaf, components) = (usize::from(layout.levels), layout.leaf_size(), usize::from(layout.components));
    assert!(roots0.len() == n && roots1.len() == n, "a root an element");
    assert!(betas.len() == components && betas.iter().all(|b| b.len() == n), "a payload an element");

    let mut words = Words {
        seeds: vec![[0; 16]; n * levels],
        controls: vec![0; n * levels],
        payloads: vec![0; components * n * levels],
        last: vec![0; components * n * leaf],
    };
    let mut tasks: Vec<DealTask> = Vec::with_capacity(n.div_ceil(DEAL_BLOCK));
    // A tree of no levels has empty pieces, which `chunks_mut` would leave out.
    let mut seeds = chunks(&mut words.seeds, DEAL_BLOCK * levels);
    let mut controls = chunks(&mut words.controls, DEAL_BLOCK * levels);
    let mut payloads: Vec<_> = (0..components)
        .zip(split(&mut words.payloads, n * levels))
        .map(|(_, p)| chunks(p, DEAL_BLOCK * levels))
        .collect();
    let mut last: Vec<_> =
        (0..components).zip(split(&mut words.last, n * leaf)).map(|(_, p)| chunks(p, DEAL_BLOCK * leaf)).collect();
    for from in (0..n).step_by(DEAL_BLOCK) {
        tasks.push(DealTask {
            elements: from..(from + DEAL_BLOCK).min(n),
            seeds: seeds.next().unwrap_or_default(),
            controls: controls.next().unwrap_or_default(),
            payloads: payloads.iter_mut().map(|p| p.next().unwrap_or_default()).collect(),
            last: last.iter_mut().map(|p| p.next().unwrap_or_default()).collect(),
        });
    }
    tasks.into_par_iter().for_each(|task| deal_block(layout, alphas, betas, [roots0, roots1], task));

    out.reserve(layout.words_bytes(n as u64) as usize);
    out.extend_from_slice(words.seeds.as_flattened());
    pack(&words.controls, 2, out);
    pack(&words.payloads, layout.width, out);
    pack(&words.last, layout.width, out);
}

/// Correction words, unpacked, in the order of [`Layout`].
#[derive(Default)]
struct Words {
    seeds: Vec<Block>,
    controls: Vec<u64>,
    payloads: Vec<u64>,
    last: Vec<u64>,
}

/// A block of elements and where its words go; `payloads` and `last` by component.
struct DealTask<'a> {
    elements: Range<usize>,
    seeds: &'a mut [Block],
    controls: &'a mut [u64],
    payloads: Vec<&'a mut [u64]>,
    last: Vec<&'a mut [u64]>,
}

/// `chunks_mut` that allows empty slices of empty chunks.
fn chunks<T>(x: &mut [T], size: usize) -> std::slice::ChunksMut<'_, T> {
    x.chunks_mut(size.max(1))
}

/// Equal parts of `x`, any number of them if they are empty.
fn split<T>(x: &mut [T], size: usize) -> impl Iterator<Item = &mut [T]> {
    let empty = size == 0;
    x.chunks_exact_mut(size.max(1)).chain(std::iter::repeat_with(|| &mut [][..]).take_while(move |_| empty))
}

/// Figure 1, Gen, for a block of elements at once.
fn deal_block(layout: Layout, alphas: &[u64], betas: &[Vec<u64>], roots: [&[u128]; 2], task: DealTask) {
    let DealTask { elements, seeds, controls, mut payloads, mut last } = task;
    let n = elements.len();
    let (levels, components) = (usize::from(layout.levels), usize::from(layout.components));
    let alphas: Vec<u64> = alphas[elements.clone()].iter().map(|a| a & mask(layout.input_bits)).collect();
    let betas: Vec<&[u64]> = betas.iter().map(|b| &b[elements.clone()]).collect();
    let mut nodes = [Nodes::default(), Nodes::default()];
    nodes[0].set_roots(Party::Client, &roots[0][elements.clone()]);
    nodes[1].set_roots(Party::Server, &roots[1][elements.clone()]);
    // The difference of the parties' sums along alpha's path, by component: V_alpha in figure 1.
    let mut totals = vec![vec![0u64; n]; components];
    // Hashes, [party][side].
    let mut low: [[Vec<u64>; 2]; 2] = Default::default();
    let mut high: [[Vec<u64>; 2]; 2] = Default::default();
    low.iter_mut().chain(&mut high).flatten().for_each(|x| x.resize(n, 0));
    let mut values = [Vec::new(), Vec::new()];

    for level in 0..levels {
        for p in 0..2 {
            for side in 0..2 {
                CHILD.hash(&nodes[p].low, &nodes[p].high, side as u64, &mut low[p][side], &mut high[p][side]);
            }
            hash_payloads(&nodes[p], components, &mut values[p]);
        }
        for e in 0..n {
            let a = alphas[e] >> (usize::from(layout.input_bits) - 1 - level) & 1;
            let right = a.wrapping_neg(); // All ones where alpha goes right: keep the right child, lose the left.
            let select = |left: u64, other: u64| left ^ ((left ^ other) & right);
            let difference = |x: &[[Vec<u64>; 2]; 2], side: usize| x[0][side][e] ^ x[1][side][e];
            let (left, other) = (difference(&low, 0), difference(&low, 1));
            let seed_low = select(other, left) & !1;
            let seed_high = select(difference(&high, 1), difference(&high, 0));
            let bits = [(left ^ a ^ 1) & 1, (other ^ a) & 1];
            seeds[e * levels + level] = (u128::from(seed_high) << 64 | u128::from(seed_low)).to_le_bytes();
            controls[e * levels + level] = bits[0] | bits[1] << 1;

            let sign = nodes[1].control[e];
            for c in 0..components {
                // P0's payload less P1's, by side.
                let payload = |at: usize| values[0][at][e].wrapping_sub(values[1][at][e]);
                let (v0, v1) = (payload(c), payload(components + c));
                // What is left of alpha is smaller than alpha and gets beta.
                let gain = (betas[c][e] & right).wrapping_sub(select(v1, v0)).wrapping_sub(totals[c][e]);
                payloads[c][e * levels + level] = signed(sign, gain) & mask(layout.width);
                totals[c][e] = totals[c][e].wrapping_add(select(v0, v1)).wrapping_add(gain);
            }

            let word_low = seed_low | select(bits[0], bits[1]);
            for p in 0..2 {
                let t = nodes[p].control[e];
                let x = select(low[p][0][e], low[p][1][e]) ^ (word_low & t);
                nodes[p].low[e] = x & !1;
                nodes[p].high[e] = select(high[p][0][e], high[p][1][e]) ^ (seed_high & t);
                nodes[p].control[e] = (x & 1).wrapping_neg();
            }
        }
    }

    let (shape, size) = (Leaf::new(layout), layout.leaf_size());
    let blocks = shape.total(layout);
    // The leaf's hashes, by party [element][block].
    let hashes = [0, 1].map(|p: usize| {
        let [mut low, mut high, mut input_low, mut input_high] = [const { Vec::new() }; 4];
        for (x, y) in nodes[p].low.iter().zip(&nodes[p].high) {
            input_low.extend((0..blocks as u64).map(|j| x ^ j));
            input_high.extend(std::iter::repeat_n(*y, blocks));
        }
        low.resize(input_low.len(), 0);
        high.resize(input_low.len(), 0);
        LEAF.hash(&input_low, &input_high, 0, &mut low, &mut high);
        [low, high]
    });
    for (c, last) in last.iter_mut().enumerate() {
        let place = shape.place(c);
        for (e, last) in last.chunks_exact_mut(size).enumerate() {
            let (beta, total, sign) = (betas[c][e], totals[c][e], nodes[1].control[e]);
            let inside = alphas[e] & mask(layout.leaf_log2);
            for (i, last) in (0u64..).zip(last) {
                let at = e * blocks + place.block(i) as usize;
                let payload = |[low, high]: &[Vec<u64>; 2]| place.slot(i, low[at], high[at]);
                let (v0, v1) = (payload(&hashes[0]), payload(&hashes[1]));
                let smaller = (i.wrapping_sub(inside) as i64 >> 63) as u64;
                let gain = (beta & smaller).wrapping_sub(v0.wrapping_sub(v1)).wrapping_sub(total);
                *last = signed(sign, gain) & mask(layout.width);
            }
        }
    }
}

/// Greatest number of points, or of leaves of whole trees, that are evaluated together: their state fits in the
/// second-level cache.
const POINT_BLOCK: usize = 2048;

/// Greatest number of elements that are evaluated together.
const ELEMENT_BLOCK: usize = 64;

/// Shares of beta·1{y < alpha} mod 2^width for a range of elements.
///
/// `roots` has the party's root of each element of the range, `points` as many points an element as it has elements,
/// each below 2^input_bits. `out` has, for each component, a slice of the length of `points`. It costs least if the
/// points of an element ascend or descend, cyclically: neighbours share what their paths have in common.
pub fn evaluate(
    party: Party,
    key: &Key,
    elements: Range<usize>,
    roots: &[u128],
    points: &[u64],
    out: &mut [&mut [u64]],
) {
    let layout = key.layout;
    assert!(elements.start <= elements.end && elements.end <= key.elements, "elements of a key");
    assert!(roots.len() == elements.len(), "a root an element");
    assert!(out.len() == usize::from(layout.components), "an output a component");
    assert!(out.iter().all(|o| o.len() == points.len()), "an output a point");
    if points.is_empty() {
        return;
    }
    let per_element = points.len() / elements.len();
    assert!(per_element * elements.len() == points.len(), "as many points for each element");
    assert!(points.iter().all(|y| y & !mask(layout.input_bits) == 0), "points have {} bits", layout.input_bits);

    let full = 1 << layout.levels.min(60) <= FULL_LEAVES_PER_POINT * per_element;
    let state = if full { per_element.max(1 << layout.levels) } else { per_element };
    let size = (POINT_BLOCK / state).clamp(1, ELEMENT_BLOCK);
    let size = if size > 8 { size / 8 * 8 } else { size }; // Whole vectors.
    let mut outs: Vec<_> = out.iter_mut().map(|o| o.chunks_mut(size * per_element)).collect();
    let tasks: Vec<_> = roots
        .chunks(size)
        .zip(points.chunks(size * per_element))
        .enumerate()
        .map(|(i, (roots, points))| {
            let out: Vec<&mut [u64]> = outs.iter_mut().map(|o| o.next().expect("an output a point")).collect();
            (elements.start + i * size, roots, points, out)
        })
        .collect();
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, (first, roots, points, mut out)| {
        scratch.load(key, first, roots.len());
        if full {
            scratch.expand(party, layout, roots);
        } else {
            scratch.follow(party, layout, roots, points);
        }
        scratch.finish(party, layout, points, full, &mut out);
    });
}

/// The whole tree is expanded where it has at most this many leaves for each point: it takes no bookkeeping.
const FULL_LEAVES_PER_POINT: usize = 2;

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    /// Elements in this block.
    count: usize,
    words: Words,
    /// Current nodes, and the sums on the way to them, [component][node].
    nodes: Nodes,
    sums: Vec<Vec<u64>>,
    next_nodes: Nodes,
    next_sums: Vec<Vec<u64>>,
    /// Hashes of payloads.
    payloads: Vec<Vec<u64>>,
    /// Correction words of one level by element: seeds with the control bit of each side, and payloads by component.
    level_low: [Vec<u64>; 2],
    level_high: Vec<u64>,
    level_payloads: Vec<Vec<u64>>,
    /// Of each current node, the number of the first point below it, and that point.
    leaders: Vec<u32>,
    leading: Vec<u64>,
    /// Current nodes of each element, which are neighbours.
    owned: Vec<u32>,
    /// Points by the level at which their path leaves that of the point before, and where each level begins.
    order: Vec<u32>,
    starts: Vec<u32>,
    /// Inputs of hashes and words, gathered for one node or point each.
    input_low: Vec<u64>,
    input_high: Vec<u64>,
    sides: Vec<u64>,
    word_low: Vec<u64>,
    word_high: Vec<u64>,
}

/// `out` = `items`.
fn refill<T>(out: &mut Vec<T>, items: impl Iterator<Item = T>) {
    out.clear();
    out.extend(items);
}

impl Scratch {
    /// Unpacks the words of `count` elements.
    fn load(&mut self, key: &Key, first: usize, count: usize) {
        let layout = key.layout;
        let (levels, leaf, components) =
            (usize::from(layout.levels), layout.leaf_size(), usize::from(layout.components));
        let [seeds, controls, payloads, last] = key.pieces;
        let words = &mut self.words;
        self.count = count;
        let (blocks, _) = seeds[16 * first * levels..16 * (first + count) * levels].as_chunks();
        refill(&mut words.seeds, blocks.iter().copied());
        words.controls.resize(count * levels, 0);
        unpack_range(controls, 2, first * levels, &mut words.controls);
        words.payloads.resize(components * count * levels, 0);
        words.last.resize(components * count * leaf, 0);
        for c in 0..components {
            let at = c * key.elements + first;
            let payloads_c = &mut words.payloads[c * count * levels..(c + 1) * count * levels];
            unpack_range(payloads, layout.width, at * levels, payloads_c);
            let last_c = &mut words.last[c * count * leaf..(c + 1) * count * leaf];
            unpack_range(last, layout.width, at * leaf, last_c);
        }
        for buffers in [&mut self.sums, &mut self.next_sums, &mut self.level_payloads] {
            buffers.resize(components, Vec::new());
        }
    }

    /// Gathers the correction words of a level.
    fn load_level(&mut self, layout: Layout, level: usize) {
        let (levels, count, words) = (usize::from(layout.levels), self.count, &self.words);
        let seed = |e: usize| u128::from_le_bytes(words.seeds[e * levels + level]);
        for (side, out) in self.level_low.iter_mut().enumerate() {
            let control = |e: usize| words.controls[e * levels + level] >> side & 1;
            refill(out, (0..count).map(|e| seed(e) as u64 & !1 | control(e)));
        }
        refill(&mut self.level_high, (0..count).map(|e| (seed(e) >> 64) as u64));
        for (c, out) in self.level_payloads.iter_mut().enumerate() {
            refill(out, (0..count).map(|e| words.payloads[(c * count + e) * levels + level]));
        }
    }

    /// One node an element: the roots.
    fn start(&mut self, party: Party, roots: &[u128]) {
        self.nodes.set_roots(party, roots);
        for sums in &mut self.sums {
            sums.clear();
            sums.resize(roots.len(), 0);
        }
    }

    /// Expands the whole tree: afterwards the nodes are [leaf][element], where bit i of a leaf's number is the side that
    /// its path takes at level i.
    fn expand(&mut self, party: Party, layout: Layout, roots: &[u128]) {
        let (cpu, count) = (Cpu::get(), self.count);
        self.start(party, roots);
        for level in 0..usize::from(layout.levels) {
            self.load_level(layout, level);
            let (parents, children) = (&self.nodes, &mut self.next_nodes);
            let total = parents.len();
            children.resize(2 * total);
            hash_payloads(parents, self.sums.len(), &mut self.payloads);
            for side in 0..2 {
                let range = side * total..(side + 1) * total;
                let (low, high) = (&mut children.low[range.clone()], &mut children.high[range.clone()]);
                CHILD.hash(&parents.low, &parents.high, side as u64, low, high);
                let control = children.control[range].chunks_exact_mut(count);
                let nodes = low.chunks_exact_mut(count).zip(high.chunks_exact_mut(count)).zip(control);
                for (parent, ((low, high), control)) in parents.control.chunks_exact(count).zip(nodes) {
                    correct_children(cpu, parent, &self.level_low[side], &self.level_high, low, high, control);
                }
            }
            for c in 0..self.sums.len() {
                let (sums, words, out) = (&self.sums[c], &self.level_payloads[c], &mut self.next_sums[c]);
                out.resize(2 * total, 0);
                for (side, out) in out.chunks_exact_mut(total).enumerate() {
                    let payloads = self.payloads[side * self.sums.len() + c].chunks_exact(count);
                    let nodes = parents.control.chunks_exact(count).zip(sums.chunks_exact(count)).zip(payloads);
                    for (out, ((parent, sums), payloads)) in out.chunks_exact_mut(count).zip(nodes) {
                        add_payloads(cpu, parent, sums, payloads, words, out);
                    }
                }
            }
            std::mem::swap(&mut self.nodes, &mut self.next_nodes);
            std::mem::swap(&mut self.sums, &mut self.next_sums);
        }
    }

    /// Follows the points' paths level by level: afterwards the nodes are those above each point, [element][point].
    ///
    /// A run of neighbouring points that agree in the bits so far has one node. A point that differs from the point
    /// before it from some level on gets a node of its own there, a copy of the run's.
    fn follow(&mut self, party: Party, layout: Layout, roots: &[u128], points: &[u64]) {
        let (cpu, count) = (Cpu::get(), self.count);
        let per_element = points.len() / count;
        self.sort_by_level(layout, points, per_element);
        self.start(party, roots);
        refill(&mut self.leaders, (0..count).map(|e| (e * per_element) as u32));
        refill(&mut self.leading, points.iter().step_by(per_element).copied());
        refill(&mut self.owned, std::iter::repeat_n(1, count));
        for level in 0..usize::from(layout.levels) {
            self.insert(level, points, per_element);
            self.load_level(layout, level);
            let (shift, total) = (u32::from(layout.input_bits) - 1 - level as u32, self.nodes.len());
            for x in [&mut self.sides, &mut self.input_low, &mut self.word_low, &mut self.word_high] {
                x.resize(total, 0);
            }
            choose_sides(cpu, &self.leading, shift, &self.nodes.low, &mut self.sides, &mut self.input_low);

            self.payloads.resize(2, Vec::new());
            let [first, second] = &mut self.payloads[..] else { unreachable!("two buffers") };
            first.resize(total, 0);
            second.resize(total, 0);
            for c in 0..self.sums.len() {
                let values = if c % 2 == 1 {
                    &*second // Hashed with its partner.
                } else if c + 1 < self.sums.len() {
                    PAYLOAD.hash(&self.input_low, &self.nodes.high, c as u64, first, second);
                    &*first
                } else {
                    PAYLOAD.hash(&self.nodes.low, &self.nodes.high, c as u64, first, second);
                    select_assign(cpu, first, second, &self.sides);
                    &*first
                };
                let mut words = &mut self.word_low[..];
                for (&n, &word) in self.owned.iter().zip(&self.level_payloads[c]) {
                    words.split_off_mut(..n as usize).expect("a word a node").fill(word);
                }
                self.next_sums[c].resize(total, 0);
                add_payloads(cpu, &self.nodes.control, &self.sums[c], values, &self.word_low, &mut self.next_sums[c]);
            }
            std::mem::swap(&mut self.sums, &mut self.next_sums);

            let children = &mut self.next_nodes;
            children.resize(total);
            CHILD.hash(&self.input_low, &self.nodes.high, 0, &mut children.low, &mut children.high);
            let mut from = 0;
            for (e, &n) in self.owned.iter().enumerate() {
                let range = from..from + n as usize;
                let [left, right] = [0, 1].map(|side: usize| self.level_low[side][e]);
                select_word(cpu, left, right, &self.sides[range.clone()], &mut self.word_low[range.clone()]);
                self.word_high[range].fill(self.level_high[e]);
                from += n as usize;
            }
            let Nodes { low, high, control } = children;
            correct_children(cpu, &self.nodes.control, &self.word_low, &self.word_high, low, high, control);
            std::mem::swap(&mut self.nodes, &mut self.next_nodes);
        }
        self.insert(usize::from(layout.levels), points, per_element);
    }

    /// Sorts the points, but for the first of each element, by the level at which they leave the point before them.
    fn sort_by_level(&mut self, layout: Layout, points: &[u64], per_element: usize) {
        let levels = usize::from(layout.levels);
        let level_of = |p: usize| {
            let difference = (points[p] ^ points[p - 1]) >> layout.leaf_log2;
            levels - (64 - difference.leading_zeros() as usize)
        };
        let starts = &mut self.starts;
        starts.clear();
        starts.resize(levels + 2, 0);
        let others = || (0..points.len()).filter(|p| p % per_element != 0);
        others().for_each(|p| starts[level_of(p) + 1] += 1);
        for level in 0..=levels {
            starts[level + 1] += starts[level];
        }
        self.order.resize(points.len(), 0);
        let mut next = starts.clone();
        for p in others() {
            let at = &mut next[level_of(p)];
            self.order[*at as usize] = p as u32;
            *at += 1;
        }
    }

    /// Gives the points that leave their predecessors at `level` nodes of their own.
    fn insert(&mut self, level: usize, points: &[u64], per_element: usize) {
        let new = &self.order[self.starts[level] as usize..self.starts[level + 1] as usize];
        let mut old = self.nodes.len();
        let total = old + new.len();
        self.nodes.resize(total);
        self.leaders.resize(total, 0);
        self.leading.resize(total, 0);
        self.sums.iter_mut().for_each(|s| s.resize(total, 0));
        let Nodes { low, high, control } = &mut self.nodes;
        // Merged from the back; the first `old` entries are still in their places.
        let mut end = total;
        for (already, &p) in new.iter().enumerate().rev() {
            let behind = self.leaders[..old].partition_point(|&leader| leader < p);
            let at = behind + already;
            for x in [&mut *low, &mut *high, &mut *control, &mut self.leading].into_iter().chain(&mut self.sums) {
                x.copy_within(behind..old, at + 1);
                x[at] = x[behind - 1];
            }
            self.leaders.copy_within(behind..old, at + 1);
            (self.leaders[at], self.leading[at]) = (p, points[p as usize]);
            self.owned[p as usize / per_element] += 1;
            (old, end) = (behind, at);
        }
        debug_assert_eq!(old, end, "every new point has its place");
    }

    /// Adds the leaves' payloads and writes the shares. `full` tells whose nodes there are, those of `expand` or those of
    /// `follow`.
    fn finish(&mut self, party: Party, layout: Layout, points: &[u64], full: bool, out: &mut [&mut [u64]]) {
        let (count, per_element) = (self.count, points.len() / self.count);
        let (shape, size) = (Leaf::new(layout), layout.leaf_size());
        let (inside, sign) = (mask(layout.leaf_log2), signs(party));
        // Each point's node.
        if full {
            let number = |leaf: u64| leaf.reverse_bits().checked_shr(64 - u32::from(layout.levels)).unwrap_or(0);
            refill(&mut self.starts, (0..1 << layout.levels).map(|leaf| number(leaf) as u32 * count as u32));
            self.order.resize(points.len(), 0);
            let elements = self.order.chunks_exact_mut(per_element).zip(points.chunks_exact(per_element));
            for (e, (order, points)) in (0u32..).zip(elements) {
                for (at, y) in order.iter_mut().zip(points) {
                    *at = self.starts[(y >> layout.leaf_log2) as usize] + e;
                }
            }
        } else {
            refill(&mut self.order, 0..points.len() as u32);
        }
        for x in [&mut self.input_low, &mut self.input_high, &mut self.word_low, &mut self.word_high] {
            x.resize(points.len(), 0);
        }
        for (c, out) in out.iter_mut().enumerate() {
            let place = shape.place(c);
            if c % shape.components == 0 {
                let inputs = self.input_low.iter_mut().zip(&mut self.input_high);
                for ((low, high), (&at, y)) in inputs.zip(self.order.iter().zip(points)) {
                    *low = self.nodes.low[at as usize] ^ place.block(y & inside);
                    *high = self.nodes.high[at as usize];
                }
                LEAF.hash(&self.input_low, &self.input_high, 0, &mut self.word_low, &mut self.word_high);
            }
            let (sums, control) = (&self.sums[c], &self.nodes.control);
            let last = self.words.last[c * count * size..(c + 1) * count * size].chunks_exact(size);
            let hashes = self.word_low.chunks_exact(per_element).zip(self.word_high.chunks_exact(per_element));
            let elements = self.order.chunks_exact(per_element).zip(points.chunks_exact(per_element)).zip(hashes);
            for ((out, last), ((order, points), (low, high))) in
                out.chunks_exact_mut(per_element).zip(last).zip(elements)
            {
                let hashes = low.iter().zip(high);
                for ((out, (&at, y)), (&low, &high)) in out.iter_mut().zip(order.iter().zip(points)).zip(hashes) {
                    let index = y & inside;
                    let correction = last[index as usize] & control[at as usize];
                    let value = place.slot(index, low, high).wrapping_add(correction).wrapping_add(sums[at as usize]);
                    *out = signed(sign, value) & mask(layout.width);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::test_elements;

    const PARTIES: [Party; 2] = [Party::Client, Party::Server];

    /// A batch with everything needed to evaluate it.
    struct Batch {
        layout: Layout,
        alphas: Vec<u64>,
        betas: Vec<Vec<u64>>,
        roots: [Vec<u128>; 2],
        words: Vec<u8>,
    }

    fn test_roots(seed: u64, n: usize) -> Vec<u128> {
        test_elements(seed, 2 * n).chunks(2).map(|c| u128::from(c[0]) << 64 | u128::from(c[1])).collect()
    }

    impl Batch {
        fn new(layout: Layout, alphas: Vec<u64>, seed: u64) -> Batch {
            let n = alphas.len();
            let betas = (0..layout.components).map(|c| test_elements(seed + 2 + u64::from(c), n)).collect();
            Batch::with(layout, alphas, betas, [test_roots(seed, n), test_roots(seed + 1, n)])
        }

        fn with(layout: Layout, alphas: Vec<u64>, betas: Vec<Vec<u64>>, roots: [Vec<u128>; 2]) -> Batch {
            let mut words = vec![1, 2, 3];
            deal(layout, &alphas, &betas, &roots[0], &roots[1], &mut words);
            assert_eq!(words.drain(..3).collect::<Vec<_>>(), [1, 2, 3], "deal appends");
            Batch { layout, alphas, betas, roots, words }
        }

        fn evaluate(&self, party: Party, range: Range<usize>, points: &[u64]) -> Vec<Vec<u64>> {
            let key = Key::parse(self.layout, self.alphas.len(), &self.words).unwrap();
            let mut out = vec![vec![u64::MAX; points.len()]; self.betas.len()];
            let mut slices: Vec<&mut [u64]> = out.iter_mut().map(|o| &mut o[..]).collect();
            evaluate(party, &key, range.clone(), &self.roots[party.index()][range], points, &mut slices);
            out
        }

        /// Shares of the range's elements at the points, checked and returned.
        fn check(&self, range: Range<usize>, points: &[u64]) -> [Vec<Vec<u64>>; 2] {
            let shares = PARTIES.map(|p| self.evaluate(p, range.clone(), points));
            let per_element = points.len() / range.len();
            let low = mask(self.layout.width);
            for (c, betas) in self.betas.iter().enumerate() {
                for (p, y) in points.iter().enumerate() {
                    let e = range.start + p / per_element;
                    let want = if *y < self.alphas[e] { betas[e] & low } else { 0 };
                    let [a, b] = [0, 1].map(|i: usize| shares[i][c][p]);
                    assert!(a <= low && b <= low);
                    assert_eq!(a.wrapping_add(b) & low, want, "{:?}, element {e}, point {y}", self.layout);
                }
            }
            shares
        }
    }

    #[test]
    fn every_alpha_and_point_of_small_trees() {
        for bits in [1, 2, 5, 7] {
            for leaf_log2 in 0..=bits {
                for (components, width) in [(1, 1), (1, 8), (1, 10), (2, 16), (3, 33), (3, 64), (5, 7)] {
                    let layout = Layout::with_leaf(bits, components, width, leaf_log2);
                    let all: Vec<u64> = (0..1 << bits).collect();
                    let batch = Batch::new(layout, all.clone(), 1);
                    assert_eq!(batch.words.len() as u64, layout.words_bytes(all.len() as u64));
                    let points: Vec<u64> = all.iter().flat_map(|_| all.iter().copied()).collect();
                    let whole = batch.check(0..all.len(), &points);
                    // One point for each element takes the other way through the tree.
                    let single: Vec<u64> = all.iter().map(|a| a ^ (a >> 1)).collect();
                    let shares = batch.check(0..all.len(), &single);
                    for (e, &y) in single.iter().enumerate() {
                        let at = e * all.len() + y as usize;
                        assert!((0..2).all(|p| shares[p][0][e] == whole[p][0][at]), "the two ways agree");
                    }
                }
            }
        }
    }

    #[test]
    fn random_points_of_large_trees() {
        for (bits, components, width) in [(16, 1, 9), (31, 3, 64), (39, 3, 60), (63, 2, 64), (63, 1, 1)] {
            let layout = Layout::new(bits, components, width);
            let n = 150;
            let alphas: Vec<u64> = test_elements(9, n).iter().map(|x| x & mask(bits)).collect();
            let batch = Batch::new(layout, alphas.clone(), 10);
            // Points near alpha matter most; then the ends, repetitions, runs and random ones.
            let noise = test_elements(11, n);
            let near = |i: usize| {
                let a = alphas[i];
                [
                    a,
                    a.wrapping_sub(1),
                    a + 1,
                    a ^ 1,
                    a,
                    a,
                    0,
                    mask(bits),
                    noise[i],
                    noise[i] + 1,
                    noise[i] + 2,
                    !noise[i],
                ]
            };
            let points: Vec<u64> = (0..n).flat_map(near).map(|y| y & mask(bits)).collect();
            let shares = batch.check(0..n, &points);
            // A range of elements gives the same shares.
            let part = batch.check(70..131, &points[12 * 70..12 * 131]);
            for p in 0..2 {
                for c in 0..usize::from(components) {
                    assert!(part[p][c] == shares[p][c][12 * 70..12 * 131]);
                }
            }
        }
    }

    #[test]
    fn many_points_ascending_and_cyclic() {
        let layout = Layout::new(37, 3, 64);
        let n = 20;
        let alphas: Vec<u64> = test_elements(9, n).iter().map(|x| x & mask(37)).collect();
        let batch = Batch::new(layout, alphas.clone(), 3);
        // Knots at growing distances, shifted around the circle: as a spline has them.
        let points: Vec<u64> =
            alphas.iter().flat_map(|a| (0..300u64).map(move |k| a.wrapping_sub((k * k * k) << 4) & mask(37))).collect();
        batch.check(0..n, &points);
    }

    #[test]
    fn no_elements_and_no_points() {
        let layout = Layout::new(9, 1, 10);
        let batch = Batch::new(layout, vec![], 1);
        assert!(batch.words.is_empty());
        batch.evaluate(Party::Client, 0..0, &[]);
        Batch::new(layout, vec![3, 4], 1).evaluate(Party::Client, 1..2, &[]);
    }

    #[test]
    fn words_of_another_size_are_refused() {
        let layout = Layout::new(9, 1, 10);
        let error = Key::parse(layout, 2, &[0; 5]).err().unwrap();
        assert_eq!(error.to_string(), "correction words of 2 comparison keys take 216 bytes, not 5");
    }

    /// Words and shares of a few keys; a change of these is a change of the protocol. Each line: layout, then in
    /// hexadecimal the BLAKE3 hash of words and of either party's outputs, 16 bytes of each.
    #[test]
    fn known_answers() {
        let layouts = [(9, 1, 8), (9, 1, 10), (28, 1, 40), (30, 3, 64), (31, 2, 33), (5, 5, 7), (63, 3, 16)];
        let mut got = String::new();
        for (bits, components, width) in layouts {
            let layout = Layout::new(bits, components, width);
            let alphas: Vec<u64> = test_elements(40, 10).iter().map(|x| x & mask(bits)).collect();
            let batch = Batch::new(layout, alphas.clone(), 41);
            let points: Vec<u64> = alphas.iter().flat_map(|&a| [a, a.saturating_sub(1), a / 2, mask(bits)]).collect();
            let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex()[..32].to_owned();
            let shares = batch
                .check(0..10, &points)
                .map(|out| hash(&out.concat().iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()));
            got += &format!("{bits} {components} {width} {} {} {}\n", hash(&batch.words), shares[0], shares[1]);
        }
        assert_eq!(got, include_str!("dcf_known_answers.txt"));
    }

    /// The smallest key worked out from the formulas of figure 1 (one level, a leaf of one
    /// payload), with the block cipher of the `aes` crate and none of this file's code.
    #[test]
    fn one_level_by_the_formulas() {
        use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
        let hash = |key: u128, x: u128| {
            let mut block = Array::from(x.to_le_bytes());
            aes::Aes128::new(&Array::from(key.to_be_bytes())).encrypt_block(&mut block);
            x ^ u128::from_le_bytes(block.into())
        };
        let child = |s: u128, side: u128| hash(0x243f_6a88_85a3_08d3_1319_8a2e_0370_7344, s ^ side);
        let payload = |s: u128, side: u32| (hash(0xa409_3822_299f_31d0_082e_fa98_ec4e_6c89, s) >> (64 * side)) as u64;
        let leaf = |s: u128| hash(0x4528_21e6_38d0_1377_be54_66cf_34e9_0c6c, s) as u64;
        for alpha in [0, 1] {
            let batch = Batch::new(Layout::with_leaf(1, 1, 64, 0), vec![alpha], 8);
            let (beta, s) = (batch.betas[0][0], [batch.roots[0][0] & !1, batch.roots[1][0] & !1]);
            let (keep, lose) = (alpha as usize, 1 - alpha as usize);
            let g = s.map(|s| [child(s, 0), child(s, 1)]);
            let v = s.map(|s| [payload(s, 0), payload(s, 1)]);
            let seed = (g[0][lose] ^ g[1][lose]) & !1;
            let bits = [(g[0][0] ^ g[1][0]) as u64 & 1 ^ alpha ^ 1, (g[0][1] ^ g[1][1]) as u64 & 1 ^ alpha];
            // P1's control bit at the root is one: signs flip.
            let mut word = v[0][lose].wrapping_sub(v[1][lose]);
            if lose == 0 {
                word = word.wrapping_sub(beta);
            }
            let total = v[0][keep].wrapping_sub(v[1][keep]).wrapping_sub(word);
            let t = [(g[0][keep] & 1) as u64, (g[1][keep] as u64 & 1) ^ bits[keep]];
            let ends = [g[0][keep] & !1, (g[1][keep] & !1) ^ seed];
            assert_eq!(t[0] ^ t[1], 1, "on alpha's path the control bits differ");
            let last = leaf(ends[1]).wrapping_sub(leaf(ends[0])).wrapping_sub(total);
            let last = if t[1] == 1 { last.wrapping_neg() } else { last };
            let mut want = seed.to_le_bytes().to_vec();
            want.push((bits[0] | bits[1] << 1) as u8);
            want.extend(word.to_le_bytes());
            want.extend(last.to_le_bytes());
            assert_eq!(batch.words, want, "alpha {alpha}");
        }
    }

    /// Chi-square of 16 equally likely values, over its degrees of freedom: about 1 ± 0.37.
    fn chi_square(values: impl Iterator<Item = u64>) -> f64 {
        let mut counts = [0u32; 16];
        values.for_each(|v| counts[(v & 15) as usize] += 1);
        let expected = f64::from(counts.iter().sum::<u32>()) / 16.0;
        counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum::<f64>() / 15.0
    }

    /// The greatest statistic over every word of the key and every output of either party, many keys of one alpha.
    fn worst_statistic(alpha: u64, roots: [Vec<u128>; 2]) -> f64 {
        let n = roots[0].len();
        let layout = Layout::with_leaf(4, 1, 8, 1);
        let batch = Batch::with(layout, vec![alpha; n], vec![vec![77; n]], roots);
        let mut scratch = Scratch::default();
        scratch.load(&Key::parse(layout, n, &batch.words).unwrap(), 0, n);
        let words = &scratch.words;
        let seed = |at: usize| u128::from_le_bytes(words.seeds[at]);
        let mut statistics = Vec::new();
        for level in 0..3 {
            let pick = |e: usize| e * 3 + level;
            // Two control bits of each of two neighbouring keys.
            let bits = |e: usize| words.controls[pick(2 * e)] | words.controls[pick(2 * e + 1)] << 2;
            statistics.push(chi_square((0..n / 2).map(bits)));
            for shift in [1, 60] {
                statistics.push(chi_square((0..n).map(|e| (seed(pick(e)) >> shift) as u64)));
                statistics.push(chi_square((0..n).map(|e| (seed(pick(e)) >> (64 + shift)) as u64)));
            }
            for shift in [0, 4] {
                statistics.push(chi_square((0..n).map(|e| words.payloads[pick(e)] >> shift)));
            }
        }
        for i in 0..2 {
            statistics.push(chi_square((0..n).map(|e| words.last[2 * e + i])));
        }
        for party in PARTIES {
            for y in 0..16 {
                let out = batch.evaluate(party, 0..n, &vec![y; n]);
                statistics.push(chi_square(out[0].iter().copied()));
                statistics.push(chi_square(out[0].iter().map(|v| v >> 4)));
            }
        }
        statistics.into_iter().fold(0.0, f64::max)
    }

    #[test]
    fn words_and_outputs_are_uniform() {
        let n = 8000;
        for alpha in [0, 5, 15] {
            // 6 standard deviations of the statistic above its mean.
            let worst = worst_statistic(alpha, [test_roots(21, n), test_roots(22, n)]);
            assert!(worst < 3.2, "statistic {worst} for alpha {alpha}");
        }
        // The statistic sees faults: roots that are equal, and roots that repeat.
        let equal = worst_statistic(5, [test_roots(21, n), test_roots(21, n)]);
        assert!(equal > 100.0, "equal roots give {equal}");
        let repeat = |seed| test_roots(seed, 100).into_iter().cycle().take(n).collect::<Vec<_>>();
        let repeated = worst_statistic(5, [repeat(21), repeat(22)]);
        assert!(repeated > 100.0, "repeated roots give {repeated}");
    }
}
