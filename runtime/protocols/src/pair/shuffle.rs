//! A party's permutation of the peer's numbers, as shares, by a network of switches.
//!
//! Identity  A switch of the owner's bit c takes x0, x1 to x0 + t, x1 - t with t = c·(x1 - x0), of which one transfer gives shares:
//!           the other party goes on with its shares of the wires' numbers, the owner with its own, which begin as zero. At the
//!           ends the other party has a and b, the owner d = a∘p - b.
//!           (Permutation correlations: Chase, Ghosh and Poburinnaya, ASIACRYPT 2020, section 3.)
//! Network   Of n wires: switches of neighbours, a network of floor(n/2) wires above and one of the others below, switches of
//!           neighbours again; an odd last wire goes below (Beauquier and Darrot, Parallel Processing Letters 12, 2002).
//! Rounds    Two for each halving of n, one transfer a switch.
//! View      The owner sees its shares of t alone, which are uniform; the other party sees nothing.
//!
//! The owner looks up its own memory at places that its permutation tells.

use super::{Bits, Making, PairError};
use ir::Width;
use kernels::ring::{self, Buffer};
use std::ops::Range;

/// A network, or a part of one that lies at `wires`, on its way in or out.
struct Stage {
    parts: Vec<Range<usize>>,
    /// The owner's bits, a switch each, of all parts in order.
    bits: Buffer,
}

impl Stage {
    /// The first wires of the switches, in order.
    fn switches(&self) -> impl Iterator<Item = usize> + '_ {
        self.parts.iter().flat_map(|part| part.clone().step_by(2).filter(|&wire| wire + 1 < part.end))
    }
}

/// Stages in, then out, of a network of `n` wires. The owner gives the permutation: place i takes the number at `p[i]`.
fn stages(n: usize, p: Option<&[u32]>) -> (Vec<Stage>, Vec<Stage>) {
    let (mut ins, mut outs): (Vec<Stage>, Vec<Stage>) = (Vec::new(), Vec::new());
    let whole = 0..n;
    let mut parts = vec![whole];
    let mut routes = p.map(<[u32]>::to_vec);
    while parts.iter().any(|part| part.len() > 1) {
        let (mut bits_in, mut bits_out) = (Buffer::default(), Buffer::default());
        if let Some(routes) = &mut routes {
            let mut of_parts: [Vec<u64>; 2] = Default::default();
            for part in &parts {
                let [ins, outs] = route(&mut routes[part.clone()]);
                of_parts[0].extend(ins);
                of_parts[1].extend(outs);
            }
            [bits_in, bits_out] = of_parts.map(Buffer::from);
        }
        let halves = |part: &Range<usize>| {
            let middle = part.start + part.len() / 2;
            [part.start..middle, middle..part.end]
        };
        let next = parts.iter().flat_map(halves).filter(|part| !part.is_empty()).collect();
        ins.push(Stage { parts: parts.clone(), bits: bits_in });
        outs.push(Stage { parts: std::mem::replace(&mut parts, next), bits: bits_out });
    }
    outs.reverse();
    (ins, outs)
}

/// The bits of the switches in and out of a part, and in place of its permutation those of its halves.
fn route(p: &mut [u32]) -> [Vec<u64>; 2] {
    let n = p.len();
    let mut inverse = vec![0u32; n];
    p.iter().enumerate().for_each(|(place, &from)| inverse[from as usize] = place as u32);
    // Whether the number at a place, in or out, passes below.
    let (mut ins, mut outs) = (vec![None; n], vec![None; n]);
    // From an output that comes from below, or above, to all that follows from it.
    let mut follow = |first: usize, below: bool| {
        let mut place = first;
        while outs[place].is_none() {
            outs[place] = Some(below);
            let from = p[place] as usize;
            ins[from] = Some(below);
            let other = from ^ 1;
            if other >= n {
                break;
            }
            ins[other] = Some(!below);
            let to = inverse[other] as usize;
            outs[to] = Some(!below);
            if to ^ 1 >= n {
                break;
            }
            place = to ^ 1;
        }
    };
    if n % 2 == 1 {
        follow(n - 1, true);
    }
    (0..n).for_each(|place| follow(place, false));
    let mut halves = vec![0u32; n];
    for (place, &from) in p.iter().enumerate() {
        let below = outs[place] == Some(true);
        halves[if below { n / 2 } else { 0 } + place / 2] = from / 2;
    }
    p.copy_from_slice(&halves);
    let bits = |sides: Vec<Option<bool>>| {
        sides[..n / 2 * 2].iter().step_by(2).map(|side| u64::from(*side == Some(true))).collect()
    };
    [bits(ins), bits(outs)]
}

/// The wires of a part in their order behind the switches in: what goes above, then what goes below; or back.
fn order(parts: &[Range<usize>], wires: &mut [u64], inwards: bool) {
    for part in parts {
        let wires = &mut wires[part.clone()];
        let (before, half) = (wires.to_vec(), wires.len() / 2);
        for (at, &number) in before.iter().enumerate() {
            let (pair, below) = (at / 2, at % 2 == 1 || at + 1 == before.len() && at % 2 == 0);
            let inside = if below { half + pair } else { pair };
            match inwards {
                true => wires[inside] = number,
                false => wires[at] = before[inside],
            }
        }
    }
}

impl Making<'_> {
    /// The owner's d for its permutation: place i of the result takes number `p[i]`.
    pub(crate) fn shuffle(&mut self, p: &[u32], width: Width) -> Result<Buffer, PairError> {
        self.network(p.len(), Some(p), Buffer::zeros(p.len()), width)
    }

    /// The other party's uniform a, from its stream `kind`, which serves nothing else, and b.
    pub(crate) fn shuffled(&mut self, kind: u8, n: usize, width: Width) -> Result<[Buffer; 2], PairError> {
        let a = self.numbers(kind, n, width);
        let b = self.network(n, None, a.clone(), width)?;
        Ok([a, b])
    }

    fn network(&mut self, n: usize, p: Option<&[u32]>, mut wires: Buffer, width: Width) -> Result<Buffer, PairError> {
        let (ins, outs) = stages(n, p);
        for stage in &ins {
            self.switch(stage, &mut wires, width)?;
            order(&stage.parts, &mut wires, true);
        }
        for stage in &outs {
            order(&stage.parts, &mut wires, false);
            // A part of two has its switch on the way in.
            self.switch(stage, &mut wires, width)?;
        }
        let full = ring::mask(width);
        ring::map_assign(&mut wires, move |v| v & full);
        Ok(wires)
    }

    /// One stage of switches. Shares of t: the owner's of its bits and the peer's differences, and of its own differences.
    fn switch(&mut self, stage: &Stage, wires: &mut [u64], width: Width) -> Result<(), PairError> {
        let firsts: Vec<usize> = stage.switches().collect();
        let differences: Buffer = firsts.iter().map(|&wire| wires[wire + 1].wrapping_sub(wires[wire])).collect();
        let owner = !stage.bits.is_empty();
        let held: &[u64] = if owner { &[] } else { &differences };
        let [chosen, kept] = self.sums(Bits::of(&stage.bits, 0), held, 1, width)?;
        for (i, &wire) in firsts.iter().enumerate() {
            let t = match owner {
                true => chosen[i].wrapping_add(differences[i] & stage.bits[i].wrapping_neg()),
                false => kept[i],
            };
            wires[wire] = wires[wire].wrapping_add(t);
            wires[wire + 1] = wires[wire + 1].wrapping_sub(t);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The switches of the network take every number where the permutation says.
    #[test]
    fn routes_lead_to_their_places() {
        for n in (1..40).chain([64, 65, 127, 1000]) {
            let mut p: Vec<u32> = (0..n as u32).collect();
            for round in 0..20u64 {
                for i in (1..n).rev() {
                    p.swap(i, (((i as u64 * 7919 + round * 104_729) * 2_654_435_761) >> 16) as usize % (i + 1));
                }
                let mut wires: Vec<u64> = (0..n as u64).collect();
                let (ins, outs) = stages(n, Some(&p));
                let switch = |stage: &Stage, wires: &mut [u64]| {
                    for (wire, &bit) in stage.switches().zip(stage.bits.iter()) {
                        if bit == 1 {
                            wires.swap(wire, wire + 1);
                        }
                    }
                };
                for stage in &ins {
                    switch(stage, &mut wires);
                    order(&stage.parts, &mut wires, true);
                }
                for stage in &outs {
                    order(&stage.parts, &mut wires, false);
                    switch(stage, &mut wires);
                }
                assert!(wires.iter().zip(&p).all(|(&got, &want)| got == u64::from(want)), "{p:?}");
                let sizes = |stages: &[Stage]| stages.iter().map(|s| s.switches().count()).collect::<Vec<_>>();
                let others = stages(n, None);
                assert_eq!((sizes(&ins), sizes(&outs)), (sizes(&others.0), sizes(&others.1)));
            }
        }
    }
}
