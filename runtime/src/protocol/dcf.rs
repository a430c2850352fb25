//! Distributed comparison function: two keys whose evaluations at a public y sum to beta·1{y < alpha} mod 2^N.
//!
//! Source    Boyle, Chandran, Gilboa, Gupta, Ishai, Kumar, Rathee, "Function secret sharing for mixed-mode and
//!           fixed-point secure computation" (ePrint 2020/1392), figure 1. The tree stops early, with a vector of
//!           payloads at each leaf; see [`Layout`] for sizes and the order of the correction words.
//! Shapes    `alphas` and roots have one entry an element, `points` and outputs are [element][point], payloads are a
//!           vector of components.
//! Generator Fixed-key AES, x -> x ^ AES_k(x) (Matyas, Meyer, Oseas; Guo, Katz, Wang, Yu, "Efficient and secure
//!           multiparty computation from fixed-key block ciphers", ePrint 2019/074), with one key for each of child
//!           seeds, payloads on the way and payloads at the leaf. A node is 128 bits whose lowest is its control bit t
//!           and whose others are its seed s, that bit zero. Child `side` comes from x = s ^ side. Its payload comes from
//!           x = s ^ side ^ 2j for blocks j = 0, 1, .. of two components each. The leaf's payloads come from x = s ^ j.
//! Secrets   Roots, alphas, betas and everything derived from them: no branch and no address depends on them. Points
//!           are public.
//! Errors    A wrong number of bytes for the words; anything else is our own mistake and panics.

use crate::ring::{mask, pack, unpack_range};
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use ir::Party;
use ir::dcf::Layout;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::LazyLock;

/// A cipher block, little-endian.
type Block = [u8; 16];

/// Fixed keys: digits of pi after the binary point, first 384 bits.
static CHILD: LazyLock<aes::Aes128> = LazyLock::new(|| fixed(0x243f_6a88_85a3_08d3_1319_8a2e_0370_7344));
static PAYLOAD: LazyLock<aes::Aes128> = LazyLock::new(|| fixed(0xa409_3822_299f_31d0_082e_fa98_ec4e_6c89));
static LEAF: LazyLock<aes::Aes128> = LazyLock::new(|| fixed(0x4528_21e6_38d0_1377_be54_66cf_34e9_0c6c));

fn fixed(key: u128) -> aes::Aes128 {
    aes::Aes128::new(&Array::from(key.to_be_bytes()))
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

impl Leaf {
    fn new(layout: Layout) -> Leaf {
        let slot = usize::from(layout.width).next_power_of_two().max(8);
        let components = usize::from(layout.components);
        let group = (components * slot).next_power_of_two();
        Leaf {
            slot,
            per_block_log2: if group < 128 { (128 / group).ilog2() } else { 0 },
            blocks: group.div_ceil(128).min((components * slot).div_ceil(128)),
            components: components.min(128 / slot),
        }
    }

    /// Number of the first block of payload `index`.
    fn first_block(self, index: u64) -> u64 {
        (index >> self.per_block_log2) * self.blocks as u64
    }

    /// Bit, in its blocks, at which payload `index` starts.
    fn shift(self, index: u64) -> usize {
        let group = 128 >> self.per_block_log2;
        (index as usize & ((1 << self.per_block_log2) - 1)) * group
    }

    /// Blocks of a whole leaf.
    fn total(self, layout: Layout) -> usize {
        self.blocks * layout.leaf_size().div_ceil(1 << self.per_block_log2)
    }
}

/// Cipher blocks of the payload that goes with a child.
fn payload_blocks(layout: Layout) -> usize {
    usize::from(layout.components).div_ceil(2)
}

fn low(block: &Block) -> u64 {
    u64::from_le_bytes(*block.first_chunk().expect("eight bytes"))
}

fn high(block: &Block) -> u64 {
    u64::from_le_bytes(*block.last_chunk().expect("eight bytes"))
}

fn block(low: u64, high: u64) -> Block {
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

/// The root node of a party: its control bit is the party's number.
fn root_node(party: Party, root: u128) -> Block {
    (root & !1 | party.index() as u128).to_le_bytes()
}

/// A node's seed with `tweak` added to its low bits.
fn input(node: &Block, tweak: u64) -> Block {
    block((low(node) & !1) ^ tweak, high(node))
}

fn encrypt(key: &aes::Aes128, blocks: &mut [Block]) {
    key.encrypt_blocks(Array::cast_slice_from_core_mut(blocks));
}

/// All ones if the node's control bit is set.
fn control(node: &Block) -> u64 {
    (low(node) & 1).wrapping_neg()
}

/// `x`, or -x where `sign` is all ones.
fn signed(sign: u64, x: u64) -> u64 {
    (x ^ sign).wrapping_sub(sign)
}

/// The child whose cipher block is `encrypted`, from its parent: x ^ AES(x), corrected if the parent's control bit is
/// set. `word` holds the seed word and, in its lowest bit, the control bit of this side.
fn child(parent: &Block, side: u64, encrypted: &Block, word: &Block) -> Block {
    let t = control(parent);
    block(
        (low(parent) & !1) ^ side ^ low(encrypted) ^ (low(word) & t),
        high(parent) ^ high(encrypted) ^ (high(word) & t),
    )
}

/// Component `c` (0 or 1 of its block) of the payload that comes with the child.
fn payload(parent: &Block, tweak: u64, encrypted: &Block, c: usize) -> u64 {
    if c.is_multiple_of(2) { (low(parent) & !1) ^ tweak ^ low(encrypted) } else { high(parent) ^ high(encrypted) }
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
    let levels = usize::from(layout.levels);
    let components = usize::from(layout.components);
    let alphas: Vec<u64> = alphas[elements.clone()].iter().map(|a| a & mask(layout.input_bits)).collect();
    let mut nodes = [Party::Client, Party::Server]
        .map(|p| roots[p.index()][elements.clone()].iter().map(|&r| root_node(p, r)).collect::<Vec<_>>());
    // The difference of the parties' sums along alpha's path, by component: V_alpha in figure 1.
    let mut totals = vec![vec![0u64; n]; components];
    let blocks = payload_blocks(layout);
    // Both indexed [party][side][element], the payloads with their block before that.
    let mut child_buffer = vec![[0; 16]; 4 * n];
    let mut payload_buffer = vec![[0; 16]; blocks * 4 * n];

    for level in 0..levels {
        for (at, (party, side)) in [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().enumerate() {
            for (e, node) in nodes[party].iter().enumerate() {
                child_buffer[at * n + e] = input(node, side);
                for j in 0..blocks {
                    payload_buffer[(4 * j + at) * n + e] = input(node, side ^ (2 * j as u64));
                }
            }
        }
        encrypt(&CHILD, &mut child_buffer);
        encrypt(&PAYLOAD, &mut payload_buffer);

        for e in 0..n {
            let a = alphas[e] >> (usize::from(layout.input_bits) - 1 - level) & 1;
            let right = a.wrapping_neg(); // All ones where alpha goes right: keep the right child, lose the left.
            let select = |left: u64, other: u64| left ^ ((left ^ other) & right);
            let parents = [nodes[0][e], nodes[1][e]];
            // Children before correction: [party][side].
            let none = [0; 16];
            let g =
                [0, 1].map(|p| [0, 1].map(|s| child(&parents[p], s as u64, &child_buffer[(2 * p + s) * n + e], &none)));
            let difference = |s: usize| [low(&g[0][s]) ^ low(&g[1][s]), high(&g[0][s]) ^ high(&g[1][s])];
            let (left, other) = (difference(0), difference(1));
            let seed = block(select(other[0], left[0]) & !1, select(other[1], left[1]));
            let bits = [(left[0] ^ a ^ 1) & 1, (other[0] ^ a) & 1];
            seeds[e * levels + level] = seed;
            controls[e * levels + level] = bits[0] | bits[1] << 1;

            let sign = control(&parents[1]);
            for c in 0..components {
                let v = [0, 1].map(|p| {
                    [0, 1].map(|s: usize| {
                        let encrypted = &payload_buffer[(4 * (c / 2) + 2 * p + s) * n + e];
                        payload(&parents[p], s as u64 ^ (c as u64 & !1), encrypted, c)
                    })
                });
                let lost = select(v[1][1].wrapping_sub(v[0][1]), v[1][0].wrapping_sub(v[0][0]));
                let kept = select(v[0][0].wrapping_sub(v[1][0]), v[0][1].wrapping_sub(v[1][1]));
                // What is left of alpha is smaller than alpha and gets beta.
                let gain = lost.wrapping_sub(totals[c][e]).wrapping_add(betas[c][elements.start + e] & right);
                payloads[c][e * levels + level] = signed(sign, gain) & mask(layout.width);
                totals[c][e] = totals[c][e].wrapping_add(kept).wrapping_add(gain);
            }

            let word = block(low(&seed) | select(bits[0], bits[1]), high(&seed));
            for p in [0, 1] {
                let keep = block(select(low(&g[p][0]), low(&g[p][1])), select(high(&g[p][0]), high(&g[p][1])));
                let t = control(&parents[p]);
                nodes[p][e] = block(low(&keep) ^ (low(&word) & t), high(&keep) ^ (high(&word) & t));
            }
        }
    }

    let (shape, size) = (Leaf::new(layout), layout.leaf_size());
    let total = shape.total(layout);
    let mut leaf_buffer: Vec<Block> = Vec::with_capacity(2 * n * total);
    for node in nodes.iter().flatten() {
        leaf_buffer.extend((0..total).map(|j| input(node, j as u64)));
    }
    encrypt(&LEAF, &mut leaf_buffer);
    for e in 0..n {
        let sign = control(&nodes[1][e]);
        let inside = alphas[e] & mask(layout.leaf_log2);
        for i in 0..size {
            let smaller = ((i as u64).wrapping_sub(inside) as i64 >> 63) as u64;
            for (c, last) in last.iter_mut().enumerate() {
                let v = [0, 1].map(|p| {
                    let first = (p * n + e) * total;
                    leaf_value(shape, &nodes[p][e], i as u64, c, |j| leaf_buffer[first + j as usize])
                });
                let beta = betas[c][elements.start + e] & smaller;
                let gain = v[1].wrapping_sub(v[0]).wrapping_sub(totals[c][e]).wrapping_add(beta);
                last[e * size + i] = signed(sign, gain) & mask(layout.width);
            }
        }
    }
}

/// Component `c` of payload `index` of a leaf, garbage above its slot; `encrypted` gives the leaf's cipher blocks.
fn leaf_value(shape: Leaf, node: &Block, index: u64, c: usize, encrypted: impl Fn(u64) -> Block) -> u64 {
    let j = shape.first_block(index) + (c / shape.components) as u64;
    let bit = shape.shift(index) + c % shape.components * shape.slot;
    let value = u128::from_le_bytes(encrypted(j)) ^ u128::from_le_bytes(input(node, j));
    (value >> bit) as u64
}

/// Greatest number of points that are evaluated together: their state fits in the second-level cache.
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

    let size = (POINT_BLOCK / per_element).clamp(1, ELEMENT_BLOCK);
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
    let full = 1 << layout.levels.min(60) <= FULL_LEAVES_PER_POINT * per_element;
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
    nodes: Vec<Block>,
    sums: Vec<Vec<u64>>,
    next_nodes: Vec<Block>,
    next_sums: Vec<Vec<u64>>,
    /// Cipher blocks.
    children: Vec<Block>,
    payloads: Vec<Block>,
    /// Correction words of one level, [side][element] and [component][element].
    level_seeds: [Vec<Block>; 2],
    level_payloads: Vec<Vec<u64>>,
    /// Of each current node, the first point below it and that point's element.
    leaders: Vec<u32>,
    owners: Vec<u32>,
    /// Points by the level at which their path leaves that of the point before, and where each level begins.
    order: Vec<u32>,
    starts: Vec<u32>,
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
        words.seeds.clear();
        words.seeds.extend_from_slice(blocks);
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
        for (side, out) in self.level_seeds.iter_mut().enumerate() {
            out.clear();
            out.extend((0..count).map(|e| {
                let (seed, bits) = (&words.seeds[e * levels + level], words.controls[e * levels + level]);
                block(low(seed) & !1 | (bits >> side & 1), high(seed))
            }));
        }
        for (c, out) in self.level_payloads.iter_mut().enumerate() {
            out.clear();
            out.extend((0..count).map(|e| words.payloads[(c * count + e) * levels + level]));
        }
    }

    /// Expands the whole tree: afterwards the nodes are [leaf][element].
    fn expand(&mut self, party: Party, layout: Layout, roots: &[u128]) {
        let count = self.count;
        self.nodes.clear();
        self.nodes.extend(roots.iter().map(|&r| root_node(party, r)));
        for sums in &mut self.sums {
            sums.clear();
            sums.resize(count, 0);
        }
        for level in 0..usize::from(layout.levels) {
            self.load_level(layout, level);
            let total = 2 * self.nodes.len();
            self.children.resize(total, [0; 16]);
            self.next_nodes.resize(total, [0; 16]);
            let pairs = self.children.chunks_exact_mut(2 * count);
            for (children, parents) in pairs.zip(self.nodes.chunks_exact(count)) {
                let (left, right) = children.split_at_mut(count);
                for e in 0..count {
                    left[e] = input(&parents[e], 0);
                    right[e] = input(&parents[e], 1);
                }
            }
            encrypt(&CHILD, &mut self.children);
            let parents = self.nodes.chunks_exact(count);
            for (i, parents) in parents.enumerate() {
                for side in 0..2 {
                    let at = (2 * i + side) * count;
                    let (encrypted, words) = (&self.children[at..at + count], &self.level_seeds[side]);
                    let out = &mut self.next_nodes[at..at + count];
                    for e in 0..count {
                        out[e] = child(&parents[e], side as u64, &encrypted[e], &words[e]);
                    }
                }
            }
            self.payloads.resize(total, [0; 16]);
            for j in 0..payload_blocks(layout) {
                let pairs = self.payloads.chunks_exact_mut(2 * count);
                for (blocks, parents) in pairs.zip(self.nodes.chunks_exact(count)) {
                    let (left, right) = blocks.split_at_mut(count);
                    for e in 0..count {
                        left[e] = input(&parents[e], 2 * j as u64);
                        right[e] = input(&parents[e], 2 * j as u64 ^ 1);
                    }
                }
                encrypt(&PAYLOAD, &mut self.payloads);
                for c in 2 * j..(2 * j + 2).min(self.sums.len()) {
                    let (sums, words, next) = (&self.sums[c], &self.level_payloads[c], &mut self.next_sums[c]);
                    next.resize(total, 0);
                    for (i, parents) in self.nodes.chunks_exact(count).enumerate() {
                        let sums = &sums[i * count..(i + 1) * count];
                        for side in 0..2 {
                            let at = (2 * i + side) * count;
                            let encrypted = &self.payloads[at..at + count];
                            let next = &mut next[at..at + count];
                            for e in 0..count {
                                let v = payload(&parents[e], side as u64 ^ (2 * j as u64), &encrypted[e], c);
                                let correction = words[e] & control(&parents[e]);
                                next[e] = sums[e].wrapping_add(v).wrapping_add(correction);
                            }
                        }
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
        let (count, levels) = (self.count, usize::from(layout.levels));
        let per_element = points.len() / count;
        self.sort_by_level(layout, points, per_element);
        self.nodes.clear();
        self.nodes.extend(roots.iter().map(|&r| root_node(party, r)));
        self.leaders.clear();
        self.leaders.extend((0..count).map(|e| (e * per_element) as u32));
        self.owners.clear();
        self.owners.extend(0..count as u32);
        for sums in &mut self.sums {
            sums.clear();
            sums.resize(count, 0);
        }
        for level in 0..levels {
            self.insert(level, per_element);
            self.load_level(layout, level);
            let shift = usize::from(layout.input_bits) - 1 - level;
            let side = |leader: u32| points[leader as usize] >> shift & 1;
            self.children.clear();
            self.children.extend(self.nodes.iter().zip(&self.leaders).map(|(node, &p)| input(node, side(p))));
            for j in 0..payload_blocks(layout) {
                self.payloads.clear();
                let tweak = 2 * j as u64;
                let inputs = self.nodes.iter().zip(&self.leaders).map(|(node, &p)| input(node, side(p) ^ tweak));
                self.payloads.extend(inputs);
                encrypt(&PAYLOAD, &mut self.payloads);
                for c in 2 * j..(2 * j + 2).min(self.sums.len()) {
                    let (sums, words) = (&mut self.sums[c], &self.level_payloads[c]);
                    let nodes = self.nodes.iter().zip(&self.leaders).zip(&self.owners).zip(&self.payloads);
                    for (sum, (((node, &p), &e), encrypted)) in sums.iter_mut().zip(nodes) {
                        let correction = words[e as usize] & control(node);
                        let v = payload(node, side(p) ^ tweak, encrypted, c);
                        *sum = sum.wrapping_add(v).wrapping_add(correction);
                    }
                }
            }
            encrypt(&CHILD, &mut self.children);
            let leaders = self.leaders.iter().zip(&self.owners).zip(&self.children);
            for (node, ((&p, &e), encrypted)) in self.nodes.iter_mut().zip(leaders) {
                let side = side(p);
                *node = child(node, side, encrypted, &self.level_seeds[side as usize][e as usize]);
            }
        }
        self.insert(levels, per_element);
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
    fn insert(&mut self, level: usize, per_element: usize) {
        let new = &self.order[self.starts[level] as usize..self.starts[level + 1] as usize];
        let mut old = self.nodes.len();
        let total = old + new.len();
        self.nodes.resize(total, [0; 16]);
        self.leaders.resize(total, 0);
        self.owners.resize(total, 0);
        self.sums.iter_mut().for_each(|s| s.resize(total, 0));
        // Merged from the back; the first `old` entries are still in their places.
        let mut at = total;
        for &p in new.iter().rev() {
            loop {
                at -= 1;
                let inserted = self.leaders[old - 1] < p;
                self.nodes[at] = self.nodes[old - 1];
                self.sums.iter_mut().for_each(|s| s[at] = s[old - 1]);
                self.owners[at] = p / per_element as u32;
                if inserted {
                    self.leaders[at] = p;
                    break;
                }
                self.leaders[at] = self.leaders[old - 1];
                self.owners[at] = self.owners[old - 1];
                old -= 1;
            }
        }
        debug_assert_eq!(at, old, "every new point has its place");
    }

    /// Adds the leaves' payloads and writes the shares.
    fn finish(&mut self, party: Party, layout: Layout, points: &[u64], full: bool, out: &mut [&mut [u64]]) {
        let count = self.count;
        let per_element = points.len() / count;
        let (shape, size) = (Leaf::new(layout), layout.leaf_size());
        let node_of = |e: usize, p: usize| {
            if full { (points[p] >> layout.leaf_log2) as usize * count + e } else { p }
        };
        let inside = mask(layout.leaf_log2);
        let sign = (party.index() as u64).wrapping_neg();
        for j in 0..shape.blocks {
            self.children.clear();
            for e in 0..count {
                let range = e * per_element..(e + 1) * per_element;
                let first = |p: usize| shape.first_block(points[p] & inside) + j as u64;
                self.children.extend(range.map(|p| input(&self.nodes[node_of(e, p)], first(p))));
            }
            encrypt(&LEAF, &mut self.children);
            let from = j * shape.components;
            for (c, out) in out.iter_mut().enumerate().skip(from).take(shape.components) {
                for e in 0..count {
                    let last = &self.words.last[(c * count + e) * size..(c * count + e + 1) * size];
                    for p in e * per_element..(e + 1) * per_element {
                        let (at, index) = (node_of(e, p), points[p] & inside);
                        let node = &self.nodes[at];
                        let v = leaf_value(shape, node, index, c, |_| self.children[p]);
                        let correction = last[index as usize] & control(node);
                        let sum = self.sums[c][at].wrapping_add(v).wrapping_add(correction);
                        out[p] = signed(sign, sum) & mask(layout.width);
                    }
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
            for c in 0..self.betas.len() {
                for (p, y) in points.iter().enumerate() {
                    let e = range.start + p / per_element;
                    let want = if *y < self.alphas[e] { self.betas[c][e] & low } else { 0 };
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
            alphas.iter().flat_map(|a| (0..300u64).map(move |k| a.wrapping_sub(k * k * k << 4) & mask(37))).collect();
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
        let mut statistics = Vec::new();
        for level in 0..3 {
            let pick = |e: usize| e * 3 + level;
            // Two control bits of each of two neighbouring keys.
            let bits = |e: usize| words.controls[pick(2 * e)] | words.controls[pick(2 * e + 1)] << 2;
            statistics.push(chi_square((0..n / 2).map(bits)));
            for shift in [1, 60] {
                statistics.push(chi_square((0..n).map(|e| low(&words.seeds[pick(e)]) >> shift)));
                statistics.push(chi_square((0..n).map(|e| high(&words.seeds[pick(e)]) >> shift)));
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
