//! A party's permutation of the peer's numbers, as shares, by a network of switches.
//!
//! Identity  A switch of the owner's bit c takes x0, x1 to x0 + t, x1 - t with t = c·(x1 - x0), of which one transfer gives shares:
//!           the other party goes on with its shares of the wires' numbers, the owner with its own, which begin as zero. At the
//!           ends the other party has a and b, the owner d = a∘p - b.
//!           (Permutation correlations: Chase, Ghosh and Poburinnaya, ASIACRYPT 2020, section 3.)
//! Network   Of n wires: switches of neighbours, a network of floor(n/2) wires above and one of the others below, switches of
//!           neighbours again; an odd last wire goes below (Beauquier and Darrot, Parallel Processing Letters 12, 2002).
//! Rounds    A message each way, and one transfer a switch: the other party's shares are pads of its own, so it knows all that goes into
//!           later stages before it sends anything.
//! View      The owner sees its shares of t alone, which are uniform; the other party sees nothing.
//!
//! The owner looks up its own memory at places that its permutation tells.

use super::{Making, PairError};
use ir::{Party, Width};
use kernels::ring::{self, Buffer};
use std::ops::Range;

/// The networks that one of `n` wires is made of, halving by halving, at their wires.
fn halvings(n: usize) -> Vec<Vec<Range<usize>>> {
    let whole = 0..n;
    let (mut all, mut parts) = (Vec::new(), vec![whole]);
    while parts.iter().any(|part| part.len() > 1) {
        let halves = |part: &Range<usize>| {
            let middle = part.start + part.len() / 2;
            [part.start..middle, middle..part.end]
        };
        let next = parts.iter().flat_map(halves).filter(|part| !part.is_empty()).collect();
        all.push(std::mem::replace(&mut parts, next));
    }
    all
}

/// The first wires of the switches of one stage, in order.
fn firsts(parts: &[Range<usize>]) -> impl Iterator<Item = usize> + '_ {
    parts.iter().flat_map(|part| part.clone().step_by(2).filter(|&wire| wire + 1 < part.end))
}

/// Takes numbers through a network. Of each switch, in order, `switch` is told its number and the second wire's number less the
/// first's, and gives what is added to the first and taken from the second.
fn through(wires: &mut [u64], mut switch: impl FnMut(usize, u64) -> u64) {
    let halvings = halvings(wires.len());
    let mut number = 0;
    let mut stage = |parts: &[Range<usize>], wires: &mut [u64]| {
        for wire in firsts(parts) {
            let t = switch(number, wires[wire + 1].wrapping_sub(wires[wire]));
            wires[wire] = wires[wire].wrapping_add(t);
            wires[wire + 1] = wires[wire + 1].wrapping_sub(t);
            number += 1;
        }
    };
    for parts in &halvings {
        stage(parts, wires);
        order(parts, wires, true);
    }
    for parts in halvings.iter().rev() {
        order(parts, wires, false);
        // A part of two has its switch on the way in.
        stage(parts, wires);
    }
}

/// The bits of all switches of the network for a permutation, in order: place i takes the number at `p[i]`.
fn routes(p: &[u32]) -> Buffer {
    let mut routes = p.to_vec();
    let (mut ins, mut outs) = (Vec::new(), Vec::new());
    for parts in halvings(p.len()) {
        let mut of_parts: [Vec<u64>; 2] = Default::default();
        for part in parts {
            let [ins, outs] = route(&mut routes[part]);
            of_parts[0].extend(ins);
            of_parts[1].extend(outs);
        }
        let [of_ins, of_outs] = of_parts;
        ins.extend(of_ins);
        outs.push(of_outs);
    }
    ins.into_iter().chain(outs.into_iter().rev().flatten()).collect()
}

/// A network of switches, as one party has it: its owner the bits, the other the numbers that go in. The other party's shares of
/// what its switches give do not depend on what it holds, so all stages go in one message.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    /// Wires, 1 or more.
    pub wires: usize,
    /// Bits of a number, from 1 to 64.
    pub width: Width,
    /// The owner's bits, one a switch in the order of the network; none at the other party.
    pub bits: &'a [u64],
    /// The other party's numbers, one a wire; none at the owner.
    pub numbers: &'a [u64],
}

impl Network<'_> {
    /// Switches of the network.
    pub fn switches(&self) -> usize {
        2 * halvings(self.wires).iter().map(|parts| firsts(parts).count()).sum::<usize>()
    }

    /// What the other party holds for each switch, from its shares of what all of them give.
    pub fn held(&self, kept: &[u64]) -> Buffer {
        let (mut wires, mut held) = (self.numbers.to_vec(), Buffer::zeros(kept.len()));
        through(&mut wires, |number, difference| {
            held[number] = difference;
            kept[number]
        });
        held
    }

    /// The party's shares of the numbers that come out, from those of what the switches give.
    fn out(&self, shares: &[u64]) -> Buffer {
        let mut wires = match self.numbers {
            [] => Buffer::zeros(self.wires),
            numbers => Buffer::from(numbers.to_vec()),
        };
        through(&mut wires, |number, difference| match self.bits {
            [] => shares[number],
            // Of the owner's bits and its own differences, too.
            bits => shares[number].wrapping_add(difference & bits[number].wrapping_neg()),
        });
        let full = ring::mask(self.width);
        ring::map_assign(&mut wires, move |v| v & full);
        wires
    }
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

/// Numbers that one party's permutation takes to their places.
pub(crate) struct Shuffle {
    /// Whose permutation.
    pub owner: Party,
    /// Bits of a number.
    pub width: Width,
    /// The other party's stream of its a, which serves nothing else.
    pub stream: u8,
}

impl Making<'_> {
    /// Of each, nothing and the owner's d for its permutation p, `own`, under which place i takes number `p[i]`; or the other
    /// party's uniform a and b. In one message each way.
    pub(crate) fn shuffles(&mut self, own: &[u32], asked: &[Shuffle]) -> Result<Vec<[Buffer; 2]>, PairError> {
        let (n, party) = (own.len(), self.party());
        let bits = routes(own);
        let numbers: Vec<Buffer> = asked
            .iter()
            .map(|ask| if ask.owner == party { Buffer::default() } else { self.numbers(ask.stream, n, ask.width) })
            .collect();
        let networks: Vec<Network> = asked
            .iter()
            .zip(&numbers)
            .map(|(ask, numbers)| Network {
                wires: n,
                width: ask.width,
                bits: if ask.owner == party { &bits } else { &[] },
                numbers,
            })
            .collect();
        let shares = self.pair.switches(&networks)?;
        let out: Vec<Buffer> = networks.iter().zip(&shares).map(|(network, shares)| network.out(shares)).collect();
        Ok(numbers.into_iter().zip(out).map(|(a, out)| [a, out]).collect())
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
                let bits = routes(&p);
                through(&mut wires, |number, difference| difference & bits[number].wrapping_neg());
                assert!(wires.iter().zip(&p).all(|(&got, &want)| got == u64::from(want)), "{p:?}");
                let other = Network { wires: n, width: 64, bits: &[], numbers: &wires };
                assert_eq!(bits.len(), other.switches());
            }
        }
    }
}
