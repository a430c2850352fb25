//! The dealer's side: correction words.

use super::payload::{Components, Shape};
use super::{CHILD, LEAF, Nodes, signed};
use crate::aes128::Block;
use crate::cpu::{Cpu, multiversion};
use crate::ring::{mask, pack_into};
use ir::Party;
use ir::dcf::{Layout, MAX_COMPONENTS};
use rayon::prelude::*;
use std::ops::Range;

/// Elements that the dealer handles together: enough to fill the cipher's pipeline. A multiple of 8, so that packed
/// words of a block end on a byte.
const BLOCK: usize = 128;

/// Appends the correction words of a batch of keys to `out`.
///
/// `betas` has a vector for each component. Alphas are taken mod 2^input_bits. `roots0` and `roots1` come from the
/// seeds of the parties; their lowest bits are ignored.
pub fn deal(layout: Layout, alphas: &[u64], betas: &[&[u64]], roots0: &[u128], roots1: &[u128], out: &mut Vec<u8>) {
    let n = alphas.len();
    assert!(roots0.len() == n && roots1.len() == n, "a root an element");
    assert!(betas.len() == layout.components() && betas.iter().all(|b| b.len() == n), "a payload an element");

    let lengths = layout.piece_bytes(n as u64);
    let start = out.len();
    out.resize(start + lengths.iter().sum::<u64>() as usize, 0);
    // Every block has its part of every piece.
    let per_block = layout.piece_bytes(BLOCK as u64);
    let mut rest = &mut out[start..];
    let mut pieces = lengths.iter().zip(per_block).map(|(&length, per_block)| {
        let piece = rest.split_off_mut(..length as usize).expect("the sum of the lengths");
        piece.chunks_mut((per_block as usize).max(1))
    });
    let mut pieces: [_; 2 + 2 * MAX_COMPONENTS] = std::array::from_fn(|_| pieces.next().expect("a length a piece"));
    let tasks: Vec<_> = (0..n)
        .step_by(BLOCK)
        .map(|from| (from..(from + BLOCK).min(n), pieces.each_mut().map(|p| p.next().unwrap_or_default())))
        .collect();
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, (elements, pieces)| {
        scratch.deal(layout, alphas, betas, [roots0, roots1], elements, pieces);
    });
}

/// Buffers of one thread, of one entry an element.
#[derive(Default)]
struct Scratch {
    nodes: [Nodes; 2],
    /// All ones where alpha goes right.
    right: Vec<u64>,
    betas: Components,
    /// The difference of the parties' sums along alpha's path: V_alpha in figure 1.
    totals: Components,
    /// Hashes, `[party][side]`: children and payloads.
    low: [[Vec<u64>; 2]; 2],
    high: [[Vec<u64>; 2]; 2],
    values: [[Components; 2]; 2],
    /// Words of a level: the seed, the control bits of both sides, and that of the child that alpha keeps.
    seed_low: Vec<u64>,
    seed_high: Vec<u64>,
    bits: Vec<u64>,
    kept_bit: Vec<u64>,
    gains: Vec<u64>,
    /// Words to be packed, `[element][level]` or `[element][payload of the leaf]`.
    controls: Vec<u64>,
    payloads: Components,
    last: Components,
}

multiversion! {
    /// Figure 1, Gen, lines 6 to 9: words of seeds and control bits. `low` and `high` are hashes `[party][side]`.
    fn seed_words(
        right: &[u64], low: [[&[u64]; 2]; 2], high: [[&[u64]; 2]; 2],
        seed_low: &mut [u64], seed_high: &mut [u64], bits: &mut [u64], kept_bit: &mut [u64],
    ) {
        let n = right.len();
        let (low, high) = (low.map(|p| p.map(|x| &x[..n])), high.map(|p| p.map(|x| &x[..n])));
        let (seed_low, seed_high) = (&mut seed_low[..n], &mut seed_high[..n]);
        let (bits, kept_bit) = (&mut bits[..n], &mut kept_bit[..n]);
        for i in 0..n {
            let a = right[i] & 1;
            let (left, other) = (low[0][0][i] ^ low[1][0][i], low[0][1][i] ^ low[1][1][i]);
            let (left_high, other_high) = (high[0][0][i] ^ high[1][0][i], high[0][1][i] ^ high[1][1][i]);
            // The child that alpha does not take loses its difference.
            seed_low[i] = (other ^ ((other ^ left) & right[i])) & !1;
            seed_high[i] = other_high ^ ((other_high ^ left_high) & right[i]);
            let (left_bit, other_bit) = ((left ^ a ^ 1) & 1, (other ^ a) & 1);
            bits[i] = left_bit | other_bit << 1;
            kept_bit[i] = left_bit ^ ((left_bit ^ other_bit) & right[i]);
        }
    }
}

multiversion! {
    /// Figure 1, Gen, lines 10 to 12, for one component: its words. `values` are payloads `[party][side]`.
    fn payload_words(
        right: &[u64], sign: &[u64], beta: &[u64], values: [[&[u64]; 2]; 2], low_bits: u64,
        totals: &mut [u64], out: &mut [u64],
    ) {
        let n = right.len();
        let (sign, beta, values) = (&sign[..n], &beta[..n], values.map(|p| p.map(|x| &x[..n])));
        let (totals, out) = (&mut totals[..n], &mut out[..n]);
        for i in 0..n {
            // P0's payload less P1's, by side.
            let v0 = values[0][0][i].wrapping_sub(values[1][0][i]);
            let v1 = values[0][1][i].wrapping_sub(values[1][1][i]);
            let (kept, lost) = (v0 ^ ((v0 ^ v1) & right[i]), v1 ^ ((v0 ^ v1) & right[i]));
            // What is left of alpha is smaller than alpha and gets beta.
            let gain = (beta[i] & right[i]).wrapping_sub(lost).wrapping_sub(totals[i]);
            out[i] = signed(sign[i], gain) & low_bits;
            totals[i] = totals[i].wrapping_add(kept).wrapping_add(gain);
        }
    }
}

multiversion! {
    /// A party's nodes step to the children that alpha keeps. `low` and `high` are hashes by side.
    fn keep(
        right: &[u64], low: [&[u64]; 2], high: [&[u64]; 2], seed_low: &[u64], seed_high: &[u64], bit: &[u64],
        node_low: &mut [u64], node_high: &mut [u64], control: &mut [u64],
    ) {
        let n = right.len();
        let (low, high) = (low.map(|x| &x[..n]), high.map(|x| &x[..n]));
        let (seed_low, seed_high, bit) = (&seed_low[..n], &seed_high[..n], &bit[..n]);
        let (node_low, node_high, control) = (&mut node_low[..n], &mut node_high[..n], &mut control[..n]);
        for i in 0..n {
            let t = control[i];
            let x = low[0][i] ^ ((low[0][i] ^ low[1][i]) & right[i]) ^ ((seed_low[i] | bit[i]) & t);
            node_low[i] = x & !1;
            node_high[i] = high[0][i] ^ ((high[0][i] ^ high[1][i]) & right[i]) ^ (seed_high[i] & t);
            control[i] = (x & 1).wrapping_neg();
        }
    }
}

fn sides(x: &[Vec<u64>; 2]) -> [&[u64]; 2] {
    x.each_ref().map(|x| &x[..])
}

impl Scratch {
    /// Figure 1, Gen, for a block of elements at once.
    fn deal(
        &mut self,
        layout: Layout,
        alphas: &[u64],
        betas: &[&[u64]],
        roots: [&[u128]; 2],
        elements: Range<usize>,
        pieces: [&mut [u8]; 2 + 2 * MAX_COMPONENTS],
    ) {
        let (cpu, n, shape) = (Cpu::get(), elements.len(), Shape::new(layout));
        let (levels, components) = (usize::from(layout.levels), layout.components());
        let [seeds, control_bytes, p0, p1, p2, l0, l1, l2] = pieces;
        let seeds: &mut [Block] = seeds.as_chunks_mut().0;
        for (p, party) in [Party::Client, Party::Server].into_iter().enumerate() {
            self.nodes[p].set_roots(party, &roots[p][elements.clone()]);
        }
        for x in self.low.iter_mut().chain(&mut self.high).flatten() {
            x.resize(n, 0);
        }
        for x in [&mut self.right, &mut self.seed_low, &mut self.seed_high, &mut self.bits] {
            x.resize(n, 0);
        }
        self.kept_bit.resize(n, 0);
        self.gains.resize(n, 0);
        self.controls.resize(n * levels, 0);
        for (c, beta) in betas.iter().enumerate() {
            self.totals[c].clear();
            self.totals[c].resize(n, 0);
            self.payloads[c].resize(n * levels, 0);
            self.last[c].resize(n * layout.leaf_size(), 0);
            self.betas[c].clear();
            self.betas[c].extend_from_slice(&beta[elements.clone()]);
        }
        let alphas = &alphas[elements];

        for level in 0..levels {
            for p in 0..2 {
                let Nodes { low, high, .. } = &self.nodes[p];
                for side in 0..2 {
                    CHILD.hash(low, high, side as u64, &mut self.low[p][side], &mut self.high[p][side]);
                }
                shape.of_both(low, high, &mut self.values[p]);
            }
            let shift = usize::from(layout.input_bits) - 1 - level;
            self.right.iter_mut().zip(alphas).for_each(|(r, a)| *r = (a >> shift & 1).wrapping_neg());
            let (low, high) = (self.low.each_ref().map(sides), self.high.each_ref().map(sides));
            let (seed_low, seed_high, bits) = (&mut self.seed_low, &mut self.seed_high, &mut self.bits);
            seed_words(cpu, &self.right, low, high, seed_low, seed_high, bits, &mut self.kept_bit);
            let words = self.seed_low.iter().zip(&self.seed_high).zip(&self.bits);
            for (e, ((&low, &high), &bits)) in words.enumerate() {
                seeds[e * levels + level] = (u128::from(high) << 64 | u128::from(low)).to_le_bytes();
                self.controls[e * levels + level] = bits;
            }
            for c in 0..components {
                let values = self.values.each_ref().map(|p| p.each_ref().map(|side| &side[c][..]));
                let low_bits = mask(layout.widths()[c]);
                let (right, sign, totals) = (&self.right, &self.nodes[1].control, &mut self.totals[c]);
                payload_words(cpu, right, sign, &self.betas[c], values, low_bits, totals, &mut self.gains);
                let places = self.payloads[c].iter_mut().skip(level).step_by(levels);
                places.zip(&self.gains).for_each(|(place, &word)| *place = word);
            }
            for p in 0..2 {
                let Nodes { low: node_low, high: node_high, control } = &mut self.nodes[p];
                let (words, bit) = ([&self.seed_low, &self.seed_high], &self.kept_bit);
                keep(cpu, &self.right, low[p], high[p], words[0], words[1], bit, node_low, node_high, control);
            }
        }
        self.deal_leaves(layout, shape, alphas);
        pack_piece(&self.controls, 2, control_bytes);
        for (c, (payloads, last)) in [(p0, l0), (p1, l1), (p2, l2)].into_iter().enumerate().take(components) {
            pack_piece(&self.payloads[c], layout.widths()[c], payloads);
            pack_piece(&self.last[c], layout.widths()[c], last);
        }
    }

    /// The last words.
    fn deal_leaves(&mut self, layout: Layout, shape: Shape, alphas: &[u64]) {
        let (blocks, size) = (shape.leaf_blocks(), layout.leaf_size());
        // The leaf's hashes, by party `[element][block]`.
        let hashes = self.nodes.each_ref().map(|nodes| {
            let [mut low, mut high, mut input_low, mut input_high] = [const { Vec::new() }; 4];
            for (x, y) in nodes.low.iter().zip(&nodes.high) {
                input_low.extend((0..blocks as u64).map(|j| x ^ j));
                input_high.extend(std::iter::repeat_n(*y, blocks));
            }
            low.resize(input_low.len(), 0);
            high.resize(input_low.len(), 0);
            LEAF.hash(&input_low, &input_high, 0, &mut low, &mut high);
            [low, high]
        });
        for (e, alpha) in alphas.iter().enumerate() {
            let (inside, sign) = (alpha & mask(layout.leaf_log2), self.nodes[1].control[e]);
            for i in 0..size {
                let at = e * blocks + shape.block(i as u64) as usize;
                let smaller = ((i as u64).wrapping_sub(inside) as i64 >> 63) as u64;
                for (c, &width) in layout.widths().iter().enumerate() {
                    let [v0, v1] = hashes.each_ref().map(|[low, high]| {
                        shape.of_leaf(c, i as u64, &low[at..at + shape.parts()], &high[at..at + shape.parts()])
                    });
                    let difference = v0.wrapping_sub(v1);
                    let gain = (self.betas[c][e] & smaller).wrapping_sub(difference).wrapping_sub(self.totals[c][e]);
                    self.last[c][e * size + i] = signed(sign, gain) & mask(width);
                }
            }
        }
    }
}

fn pack_piece(words: &[u64], width: u8, out: &mut [u8]) {
    if !words.is_empty() {
        pack_into(words, width, out);
    }
}
