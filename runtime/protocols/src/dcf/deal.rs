//! The dealer's side: correction words.

use super::payload::{Components, Kind, Shape, child_tweak, leaf_tweak};
use super::{CHILD, CHILDREN, LEAF, Nodes, signed};
use ir::Party;
use ir::dcf::{Layout, MAX_COMPONENTS, STEP_WORDS};
use kernels::aes128::Block;
use kernels::cpu::{Cpu, multiversion};
use kernels::ring::{mask, pack_into};
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
    /// The two bits of the child that alpha takes, high and low, as masks.
    kept: [Vec<u64>; 2],
    betas: Components,
    /// The difference of the parties' sums along alpha's path: V_alpha in figure 1.
    totals: Components,
    /// Hashes, `[party][child]`: children and payloads.
    low: [[Vec<u64>; CHILDREN]; 2],
    high: [[Vec<u64>; CHILDREN]; 2],
    values: [[Components; CHILDREN]; 2],
    /// Words of a step: of seeds, the lowest bit of the last one, and that of the child that alpha takes.
    seed_low: [Vec<u64>; STEP_WORDS],
    seed_high: [Vec<u64>; STEP_WORDS],
    last_bit: Vec<u64>,
    kept_low: Vec<u64>,
    kept_high: Vec<u64>,
    gains: [Vec<u64>; STEP_WORDS],
    /// Words to be packed, `[element][step]`, `[element][step][3]` or `[element][payload of the leaf]`.
    controls: Vec<u64>,
    payloads: Components,
    last: Components,
}

/// Masks that are all ones where alpha takes a child, from the bits of the child that it takes.
#[inline(always)]
fn taken(high: u64, low: u64) -> [u64; CHILDREN] {
    [!high & !low, !high & low, high & !low, high & low]
}

/// Masks that are all ones where a child is smaller than the one that alpha takes.
#[inline(always)]
fn smaller(high: u64, low: u64) -> [u64; CHILDREN] {
    [high | low, high, high & low, 0]
}

multiversion! {
    /// Words of seeds with their control bits, as of figure 1, Gen, lines 6 to 9. `low` and `high` are hashes
    /// `[party][child]`.
    fn seed_words(
        kept: [&[u64]; 2], low: [[&[u64]; CHILDREN]; 2], high: [[&[u64]; CHILDREN]; 2],
        seed_low: [&mut [u64]; STEP_WORDS], seed_high: [&mut [u64]; STEP_WORDS], last_bit: &mut [u64],
        kept_low: &mut [u64], kept_high: &mut [u64],
    ) {
        let n = last_bit.len();
        let kept = kept.map(|x| &x[..n]);
        let (low, high) = (low.map(|p| p.map(|x| &x[..n])), high.map(|p| p.map(|x| &x[..n])));
        let (seed_low, seed_high) = (seed_low.map(|x| &mut x[..n]), seed_high.map(|x| &mut x[..n]));
        let (kept_low, kept_high) = (&mut kept_low[..n], &mut kept_high[..n]);
        for i in 0..n {
            let taken = taken(kept[0][i], kept[1][i]);
            // A child that alpha does not take loses its difference.
            let (mut word, mut word_high) = ([0; CHILDREN], [0; CHILDREN]);
            for c in 0..CHILDREN {
                word[c] = low[0][c][i] ^ low[1][c][i];
                word_high[c] = high[0][c][i] ^ high[1][c][i];
            }
            // The other one's word is the xor of theirs, but for the control bits, which are to differ.
            let total = word[0] ^ word[1] ^ word[2] ^ word[3] | 1;
            let total_high = word_high[0] ^ word_high[1] ^ word_high[2] ^ word_high[3];
            let (mut kept, mut kept_above) = (0, 0);
            for c in 0..CHILDREN {
                word[c] ^= total & taken[c];
                word_high[c] ^= total_high & taken[c];
                kept |= word[c] & taken[c];
                kept_above |= word_high[c] & taken[c];
            }
            for c in 0..STEP_WORDS {
                (seed_low[c][i], seed_high[c][i]) = (word[c], word_high[c]);
            }
            (last_bit[i], kept_low[i], kept_high[i]) = (word[3] & 1, kept, kept_above);
        }
    }
}

multiversion! {
    /// Words of one component, as of figure 1, Gen, lines 10 to 12. `values` are payloads `[party][child]`.
    fn payload_words(
        kept: [&[u64]; 2], sign: &[u64], beta: &[u64], values: [[&[u64]; CHILDREN]; 2], low_bits: u64,
        totals: &mut [u64], out: [&mut [u64]; STEP_WORDS],
    ) {
        let n = totals.len();
        let (kept, values) = (kept.map(|x| &x[..n]), values.map(|p| p.map(|x| &x[..n])));
        let (sign, beta, out) = (&sign[..n], &beta[..n], out.map(|x| &mut x[..n]));
        for i in 0..n {
            let (taken, smaller) = (taken(kept[0][i], kept[1][i]), smaller(kept[0][i], kept[1][i]));
            // P0's payload less P1's is to become beta for what is smaller than alpha, and 0 for what is not.
            let mut gain = [0u64; CHILDREN];
            for c in 0..CHILDREN {
                let difference = values[0][c][i].wrapping_sub(values[1][c][i]);
                gain[c] = (beta[i] & smaller[c]).wrapping_sub(difference).wrapping_sub(totals[i]);
            }
            // Where alpha goes on there is no such aim: what words sum to is made zero there.
            let excess = gain[0].wrapping_add(gain[1]).wrapping_add(gain[2]).wrapping_sub(gain[3]);
            for c in 0..STEP_WORDS {
                out[c][i] = signed(sign[i], gain[c].wrapping_sub(excess & taken[c])) & low_bits;
            }
            totals[i] = signed(!taken[3], excess);
        }
    }
}

multiversion! {
    /// A party's nodes step to the children that alpha takes. `low` and `high` are hashes by child.
    fn keep(
        kept: [&[u64]; 2], low: [&[u64]; CHILDREN], high: [&[u64]; CHILDREN], word: [&[u64]; 2],
        node_low: &mut [u64], node_high: &mut [u64], control: &mut [u64],
    ) {
        let n = control.len();
        let (kept, word) = (kept.map(|x| &x[..n]), word.map(|x| &x[..n]));
        let (low, high) = (low.map(|x| &x[..n]), high.map(|x| &x[..n]));
        let (node_low, node_high) = (&mut node_low[..n], &mut node_high[..n]);
        for i in 0..n {
            let (taken, t) = (taken(kept[0][i], kept[1][i]), control[i]);
            let (mut x, mut above) = (word[0][i] & t, word[1][i] & t);
            for c in 0..CHILDREN {
                x ^= low[c][i] & taken[c];
                above ^= high[c][i] & taken[c];
            }
            (node_low[i], node_high[i], control[i]) = (x, above, (x & 1).wrapping_neg());
        }
    }
}

multiversion! {
    /// Words of one component of payload `index` of leaves: figure 1, Gen, line 17. `values` are by party, shifted up by
    /// some bits.
    fn last_words(
        inside: &[u64], index: u64, sign: &[u64], beta: &[u64], values: [&[u64]; 2], shift: u32, low_bits: u64,
        totals: &[u64], out: &mut [u64],
    ) {
        let n = inside.len();
        let (sign, beta, values) = (&sign[..n], &beta[..n], values.map(|x| &x[..n]));
        let (totals, out) = (&totals[..n], &mut out[..n]);
        for i in 0..n {
            let smaller = (index.wrapping_sub(inside[i]) as i64 >> 63) as u64;
            let difference = (values[0][i] >> shift).wrapping_sub(values[1][i] >> shift);
            let gain = (beta[i] & smaller).wrapping_sub(difference).wrapping_sub(totals[i]);
            out[i] = signed(sign[i], gain) & low_bits;
        }
    }
}

fn slices<const N: usize>(x: &[Vec<u64>; N]) -> [&[u64]; N] {
    x.each_ref().map(|x| &x[..])
}

fn slices_mut<const N: usize>(x: &mut [Vec<u64>; N]) -> [&mut [u64]; N] {
    x.each_mut().map(|x| &mut x[..])
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
        let (steps, components) = (layout.steps(), layout.components());
        let [seeds, control_bytes, p0, p1, p2, l0, l1, l2] = pieces;
        let seeds: &mut [Block] = seeds.as_chunks_mut().0;
        for (p, party) in [Party::Client, Party::Server].into_iter().enumerate() {
            self.nodes[p].set_roots(party, &roots[p][elements.clone()]);
        }
        let words = self.seed_low.iter_mut().chain(&mut self.seed_high).chain(&mut self.gains).chain(&mut self.kept);
        for x in self.low.iter_mut().chain(&mut self.high).flatten().chain(words) {
            x.resize(n, 0);
        }
        for x in [&mut self.last_bit, &mut self.kept_low, &mut self.kept_high] {
            x.resize(n, 0);
        }
        self.controls.resize(n * steps, 0);
        for (c, beta) in betas.iter().enumerate() {
            self.totals[c].clear();
            self.totals[c].resize(n, 0);
            self.payloads[c].resize(n * steps * STEP_WORDS, 0);
            self.last[c].resize(n * layout.leaf_size(), 0);
            self.betas[c].clear();
            self.betas[c].extend_from_slice(&beta[elements.clone()]);
        }
        let alphas = &alphas[elements];

        for step in 0..steps {
            for p in 0..2 {
                let Nodes { low, high, .. } = &self.nodes[p];
                let outs = self.low[p].iter_mut().zip(&mut self.high[p]);
                (0..).zip(outs).for_each(|(child, (x, y))| CHILD.hash(low, high, child_tweak(child), x, y));
                shape.of_children(low, high, &mut self.values[p]);
            }
            for (bit, kept) in self.kept.iter_mut().enumerate() {
                let shift = usize::from(layout.input_bits) - 1 - 2 * step - bit;
                kept.iter_mut().zip(alphas).for_each(|(k, a)| *k = (a >> shift & 1).wrapping_neg());
            }
            let kept = slices(&self.kept);
            let (low, high) = (self.low.each_ref().map(slices), self.high.each_ref().map(slices));
            let (seed_low, seed_high) = (slices_mut(&mut self.seed_low), slices_mut(&mut self.seed_high));
            let (kept_low, kept_high) = (&mut self.kept_low, &mut self.kept_high);
            seed_words(cpu, kept, low, high, seed_low, seed_high, &mut self.last_bit, kept_low, kept_high);
            let places = self.controls.iter_mut().skip(step).step_by(steps);
            places.zip(&self.last_bit).for_each(|(place, &bit)| *place = bit);
            for (word, (low, high)) in self.seed_low.iter().zip(&self.seed_high).enumerate() {
                let places = seeds.iter_mut().skip(step * STEP_WORDS + word).step_by(steps * STEP_WORDS);
                for (place, (&low, &high)) in places.zip(low.iter().zip(high)) {
                    *place = (u128::from(high) << 64 | u128::from(low)).to_le_bytes();
                }
            }
            for c in 0..components {
                let values = self.values.each_ref().map(|p| p.each_ref().map(|child| &child[c][..]));
                let (low_bits, gains) = (mask(layout.widths()[c]), slices_mut(&mut self.gains));
                let (sign, totals) = (&self.nodes[1].control, &mut self.totals[c]);
                payload_words(cpu, kept, sign, &self.betas[c], values, low_bits, totals, gains);
                for (word, gains) in self.gains.iter().enumerate() {
                    let places = self.payloads[c].iter_mut().skip(step * STEP_WORDS + word).step_by(steps * STEP_WORDS);
                    places.zip(gains).for_each(|(place, &gain)| *place = gain);
                }
            }
            for p in 0..2 {
                let Nodes { low: node_low, high: node_high, control } = &mut self.nodes[p];
                let word = [&self.kept_low[..], &self.kept_high];
                keep(cpu, kept, low[p], high[p], word, node_low, node_high, control);
            }
        }
        self.deal_leaves(layout, shape, alphas);
        pack_piece(&self.controls, 1, control_bytes);
        for (c, (payloads, last)) in [(p0, l0), (p1, l1), (p2, l2)].into_iter().enumerate().take(components) {
            pack_piece(&self.payloads[c], layout.widths()[c], payloads);
            pack_piece(&self.last[c], layout.widths()[c], last);
        }
    }

    /// The last words.
    fn deal_leaves(&mut self, layout: Layout, shape: Shape, alphas: &[u64]) {
        let (cpu, size) = (Cpu::get(), layout.leaf_size());
        let inside = &mut self.kept[0];
        inside.resize(alphas.len(), 0);
        inside.iter_mut().zip(alphas).for_each(|(inside, alpha)| *inside = alpha & mask(layout.leaf_log2));
        for index in 0..size as u64 {
            if shape.slot_bit(index) == 0 {
                for (p, Nodes { low, high, .. }) in self.nodes.iter().enumerate() {
                    for part in 0..shape.parts() {
                        let tweak = leaf_tweak(shape.block(index) + part as u64);
                        LEAF.hash(low, high, tweak, &mut self.low[p][part], &mut self.high[p][part]);
                    }
                    if shape.kind == Kind::Spare {
                        let third = &mut self.values[p][0][2];
                        third.resize(alphas.len(), 0);
                        shape.fill_spare(&self.low[p][0], &self.high[p][0], third);
                    }
                }
            }
            for (c, &width) in layout.widths().iter().enumerate() {
                let bit = shape.slot_bit(index);
                let values = [0, 1].map(|p: usize| match (c, shape.kind) {
                    (0, _) if bit < 64 => &self.low[p][0][..],
                    (0 | 1, _) => &self.high[p][0],
                    (_, Kind::Own) => &self.low[p][1],
                    _ => &self.values[p][0][2],
                });
                let (sign, out) = (&self.nodes[1].control, &mut self.gains[0]);
                let (beta, totals) = (&self.betas[c], &self.totals[c]);
                last_words(cpu, &self.kept[0], index, sign, beta, values, bit % 64, mask(width), totals, out);
                let places = self.last[c].iter_mut().skip(index as usize).step_by(size);
                places.zip(&*out).for_each(|(place, &word)| *place = word);
            }
        }
    }
}

fn pack_piece(words: &[u64], width: u8, out: &mut [u8]) {
    if !words.is_empty() {
        pack_into(words, width, out);
    }
}
