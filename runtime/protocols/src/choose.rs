//! `choose`: the client learns which of many numbers is the greatest, and nobody anything more.
//!
//! Lift      Numbers come from an opening with a claim and are lifted by [`ir::choose::LIFT`] bits to n: whatever the shares
//!           were, any two of the results differ by less than 2^(n-1) (see the head of [`super`]: x lies between -3/4 and 3/4 of
//!           2^n0). Were differences to wrap, outcomes would be those of no ranking and would tell of the numbers.
//! Shuffle   By the server, then by the client: each draws a permutation that the other does not know. The one who shuffles
//!           receives the other's share under a mask a and applies its permutation p to the sum; the other holds b from then on.
//!           Dealt is d = a∘p - b (Chase, Ghosh and Poburinnaya, ASIACRYPT 2020, section 3):
//!               (x_s + (x_c - a))∘p + d  +  b  =  x∘p.
//!           In the second shuffle d comes from the client's seed and b is dealt, so that all of P0's is from its seed. Places
//!           go along; the server's permutation is its share of them, so they take part in the second shuffle alone.
//! Compare   x = v_i - v_j, y = x + r mod 2^n opened; then the bits of `digits` are opened under masks, and then the outcome:
//!           1 lets the earlier place go on. Equal numbers: the earlier place, which the shuffles make random.
//! Why safe  In an order that nobody knows, outcomes are those of a uniformly random ranking, for any numbers. The place that
//!           wins is public and independent of the token; the server's share of the token's index goes to the client.
//! Shapes    Numbers of any shape, flattened.
//! Dealt     [`ir::choose::Choosing::pieces`].
//! Online    [`ir::choose::Choosing::messages`].
//!
//! A permutation is applied by looking up memory at places that its owner alone knows; it is drawn for one step and used once.

use super::{Dealing, Opening, Source, TASK, Use, Vector, gather, kind, lift};
use crate::digits::{self, Comparing};
use crate::material::MaterialError;
use crate::pair::{Bits, Group, Making, PairError, Shuffle, own as made};
use ir::choose::{Choosing, Level};
use ir::digits::{DIGITS, MASKED, PRODUCTS};
use ir::{Party, Width};
use kernels::prg::Stream;
use kernels::ring::{self, Buffer};
use rayon::prelude::*;
use std::io;
use std::ops::Range;
use zeroize::Zeroizing;

/// Streams of a party's own in a `choose`, beside the mask of the openings ([`kind::MASK`]). Each party has those of the shuffle
/// in which it is the one who sends; the client has the addends of its own as well.
mod own {
    use super::kind::CORRELATION;

    /// Masks of the bits of a comparison.
    pub const BITS: u8 = CORRELATION + 32;
    /// The party's permutation.
    pub const PERMUTATION: u8 = CORRELATION + 33;
    /// a, of the numbers.
    pub const SENT: u8 = CORRELATION + 34;
    /// a, of the places.
    pub const SENT_PLACES: u8 = CORRELATION + 35;
    /// The client's b of the first shuffle.
    pub const KEPT: u8 = CORRELATION + 36;
    /// The client's d of the second shuffle, of the numbers.
    pub const ADDED: u8 = CORRELATION + 37;
    /// The same of the places.
    pub const ADDED_PLACES: u8 = CORRELATION + 38;
    /// What goes into the network of the shuffle by the other party, of the numbers.
    pub const WIRES: u8 = CORRELATION + 39;
    /// The same of the places.
    pub const WIRES_PLACES: u8 = CORRELATION + 40;
}

/// Elements `0..count` of a stream.
fn elements(own: Use, kind: u8, count: usize, bits: Width) -> Buffer {
    own.elements(kind, 0..count, bits)
}

/// A uniformly random permutation (Fisher and Yates; draws as in Lemire, ACM TOMACS 29(1), 2019, algorithm 5).
fn permutation(own: Use, count: usize) -> Zeroizing<Vec<u32>> {
    let mut numbers = Numbers { stream: own.stream(own::PERMUTATION), next: 0, drawn: Buffer::default(), at: 0 };
    let mut places = Zeroizing::new((0..count as u32).collect::<Vec<u32>>());
    for last in (1..count).rev() {
        places.swap(last, numbers.below(last as u64 + 1) as usize);
    }
    places
}

/// Uniform numbers of a stream, one after the other.
struct Numbers {
    stream: Stream,
    next: u64,
    drawn: Buffer,
    at: usize,
}

impl Numbers {
    fn word(&mut self) -> u64 {
        if self.at == self.drawn.len() {
            let mut drawn = Buffer::unset(TASK);
            self.stream.fill(self.next, 64, &mut drawn);
            (self.next, self.drawn, self.at) = (self.next + TASK as u64, drawn, 0);
        }
        self.at += 1;
        self.drawn[self.at - 1]
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        loop {
            let product = u128::from(self.word()) * u128::from(bound);
            if product as u64 >= bound || product as u64 >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }
}

/// The dealer's side.
pub fn deal(choosing: &Choosing, client: Use, server: Use, to: &mut Dealing) -> io::Result<()> {
    let (n, width) = (choosing.elements as usize, choosing.width);
    let (by_server, by_client) = (permutation(server, n), permutation(client, n));
    let moved = |a: &Buffer, p: &[u32], b: &Buffer| gather(n, |i| a[p[i] as usize].wrapping_sub(b[i]));
    let (sent, kept) = (elements(client, own::SENT, n, width), elements(client, own::KEPT, n, width));
    to.plain(&moved(&sent, &by_server, &kept), width)?;
    for (sent, added, bits) in [(own::SENT, own::ADDED, width), (own::SENT_PLACES, own::ADDED_PLACES, choosing.place)] {
        let (sent, added) = (elements(server, sent, n, bits), elements(client, added, n, bits));
        to.plain(&moved(&sent, &by_client, &added), bits)?;
    }

    let compared = choosing.comparisons() as usize;
    let both = |kind: u8, bits: Width, f: fn(u64, u64) -> u64| {
        let (mut client, server) = (elements(client, kind, compared, bits), elements(server, kind, compared, bits));
        client.iter_mut().zip(server.iter()).for_each(|(c, &s)| *c = f(*c, s) & ring::mask(bits));
        client
    };
    let r = both(kind::MASK, width, u64::wrapping_add);
    let masks = both(own::BITS, MASKED, |c, s| c ^ s);
    for index in 0..DIGITS {
        to.bits(index as u8, compared, 1 << choosing.digits[index], |i| {
            1 << digits::digit(&choosing.digits, r[i], index)
        })?;
    }
    to.bits(DIGITS as u8, compared, PRODUCTS, |i| digits::dealt(r[i] >> (width - 1), masks[i]))
}

/// Both parties' side in the dealer's place.
///
/// The first shuffle: with shares a' and b' of the client and d' = a'∘p - b' of the server, made by [`Making::shuffles`], the
/// client tells a - a' and b - b', and d = d' + (a - a')∘p - (b - b'). The second: the server tells a - a', the client takes that
/// into its d', tells how its seed's d differs, and the server's b takes the difference.
pub(crate) fn make(choosing: &Choosing, to: &mut Making) -> Result<(), PairError> {
    let (n, width, place) = (choosing.elements as usize, choosing.width, choosing.place);
    let party = to.party();
    let own_permutation = permutation(to.own(), n);
    let through = |v: &Buffer| gather(n, |i| v[own_permutation[i] as usize]);
    let shuffle = |owner, width, stream| Shuffle { owner, width, stream };
    let asked = [
        shuffle(Party::Server, width, own::WIRES),
        shuffle(Party::Client, width, own::WIRES),
        shuffle(Party::Client, place, own::WIRES_PLACES),
    ];
    let mut shuffled = to.shuffles(&own_permutation, &asked)?.into_iter();
    let mut next = || shuffled.next().expect("one for each");
    // Of the server.
    let [a_own, mut share] = next();
    match party {
        Party::Client => {
            let (mut sent, mut kept) = (to.numbers(own::SENT, n, width), to.numbers(own::KEPT, n, width));
            ring::sub_assign(&mut sent, &a_own);
            ring::sub_assign(&mut kept, &share);
            to.tell(&sent, width)?;
            to.tell(&kept, width)?;
        }
        Party::Server => {
            let (a, b) = (to.hear(n, width)?, to.hear(n, width)?);
            ring::add_assign(&mut share, &through(&a));
            ring::sub_assign(&mut share, &b);
            to.write(&share, width)?;
        }
    }
    // Of the client.
    for (sent, added, bits) in [(own::SENT, own::ADDED, width), (own::SENT_PLACES, own::ADDED_PLACES, place)] {
        let [a_own, mut share] = next();
        match party {
            Party::Client => {
                ring::add_assign(&mut share, &through(&to.hear(n, bits)?));
                ring::sub_assign(&mut share, &to.numbers(added, n, bits));
                to.tell(&share, bits)?;
            }
            Party::Server => {
                let mut sent = to.numbers(sent, n, bits);
                ring::sub_assign(&mut sent, &a_own);
                to.tell(&sent, bits)?;
                ring::add_assign(&mut share, &to.hear(n, bits)?);
                to.write(&share, bits)?;
            }
        }
    }

    let compared = choosing.comparisons() as usize;
    let bits = to.numbers(made::BITS, compared, width);
    let [r, _] = to.number(&bits, width, width)?;
    to.as_stream(Group::Sum, kind::MASK, 0, width, r)?;
    digits::make_units(&bits, &choosing.digits, to)?;
    let tops = Bits::of(&bits, width - 1).iter().collect();
    let products = digits::make(tops, &to.numbers(own::BITS, compared, MASKED), to)?;
    to.correlation(Group::Xor, DIGITS as u8, 0, PRODUCTS, products)?;
    Ok(())
}

/// A party's material.
pub struct Dealt {
    /// The party's share of the masks of the comparisons.
    masks: Vector,
    /// What was dealt for the shuffles: what the server adds, then its new shares of numbers and places. The client has none.
    shuffles: Option<[Buffer; 3]>,
    units: [Vector; DIGITS],
    products: Vector,
}

impl Dealt {
    /// Takes a party's material.
    pub fn take(source: &mut Source, choosing: &Choosing) -> Result<Dealt, MaterialError> {
        let (n, compared) = (choosing.elements as usize, choosing.comparisons() as usize);
        let shuffles = match source.party {
            Party::Client => None,
            Party::Server => {
                let mut plain = |bits: Width| source.plain(n, bits);
                Some([plain(choosing.width)?, plain(choosing.width)?, plain(choosing.place)?])
            }
        };
        let masks = source.mask(compared, choosing.width, false)?;
        let mut units: [Vector; DIGITS] = Default::default();
        for (index, unit) in units.iter_mut().enumerate() {
            *unit = source.vector(index as u8, 0..compared, 1 << choosing.digits[index])?;
        }
        Ok(Dealt { masks, shuffles, units, products: source.vector(DIGITS as u8, 0..compared, PRODUCTS)? })
    }
}

/// A party's side of one `choose`: what to send next and what to make of what comes, in the order of
/// [`Choosing::messages`].
pub struct Chooser<'a> {
    party: Party,
    own: Use<'a>,
    choosing: Choosing,
    shuffles: [Buffer; 3],
    masks: Vector,
    units: [Vector; DIGITS],
    products: Vector,
    /// The party's shares of numbers and places, by place.
    numbers: Buffer,
    places: Buffer,
    alive: Vec<u32>,
    /// Comparisons of the levels before.
    done: usize,
    /// Pairs of places that this level compares.
    pairs: Vec<[u32; 2]>,
    /// The party's half of what is being opened.
    half: Buffer,
    /// The comparisons of this level.
    state: Vec<Comparing>,
}

impl<'a> Chooser<'a> {
    /// Starts with the opened numbers.
    pub fn new(party: Party, own: Use<'a>, choosing: Choosing, x: &Opening, dealt: Dealt) -> Chooser<'a> {
        let n = choosing.elements as usize;
        let mut numbers = lift::read(party, x).data;
        numbers.iter_mut().for_each(|v| *v &= ring::mask(choosing.width));
        Chooser {
            party,
            own,
            shuffles: dealt.shuffles.unwrap_or_default(),
            masks: dealt.masks,
            units: dealt.units,
            products: dealt.products,
            numbers,
            places: Buffer::zeros(n),
            alive: (0..n as u32).collect(),
            done: 0,
            pairs: Vec::new(),
            half: Buffer::default(),
            state: Vec::new(),
            choosing,
        }
    }

    fn masked(&self, share: &Buffer, kind: u8, bits: Width) -> Buffer {
        let mask = elements(self.own, kind, share.len(), bits);
        gather(share.len(), |i| share[i].wrapping_sub(mask[i]))
    }

    /// The client's message for the server's shuffle; it holds new shares from here on.
    pub fn give_to_server(&mut self) -> Buffer {
        let width = self.choosing.width;
        let message = self.masked(&self.numbers, own::SENT, width);
        self.numbers = elements(self.own, own::KEPT, self.numbers.len(), width);
        message
    }

    /// The server shuffles.
    pub fn shuffle_by_server(&mut self, message: &[u64]) {
        let n = message.len();
        let (p, d) = (permutation(self.own, n), std::mem::take(&mut self.shuffles[0]));
        let numbers = &self.numbers;
        let shuffled = gather(n, |i| {
            let from = p[i] as usize;
            numbers[from].wrapping_add(message[from]).wrapping_add(d[i])
        });
        (self.numbers, self.places) = (shuffled, gather(n, |i| u64::from(p[i])));
    }

    /// The server's messages for the client's shuffle, numbers and places; it holds new shares from here on.
    pub fn give_to_client(&mut self) -> [Buffer; 2] {
        let message = [
            self.masked(&self.numbers, own::SENT, self.choosing.width),
            self.masked(&self.places, own::SENT_PLACES, self.choosing.place),
        ];
        let [_, numbers, places] = std::mem::take(&mut self.shuffles);
        (self.numbers, self.places) = (numbers, places);
        message
    }

    /// The client shuffles.
    pub fn shuffle_by_client(&mut self, numbers: &[u64], places: &[u64]) {
        let n = numbers.len();
        let p = permutation(self.own, n);
        let added = elements(self.own, own::ADDED, n, self.choosing.width);
        let added_places = elements(self.own, own::ADDED_PLACES, n, self.choosing.place);
        let share = &self.numbers;
        let shuffled = gather(n, |i| {
            let from = p[i] as usize;
            share[from].wrapping_add(numbers[from]).wrapping_add(added[i])
        });
        (self.numbers, self.places) = (shuffled, gather(n, |i| places[p[i] as usize].wrapping_add(added_places[i])));
    }

    /// The comparisons of this level among all.
    fn range(&self) -> Range<usize> {
        self.done..self.done + self.pairs.len()
    }

    /// Begins a level: the party's half of the masked differences.
    pub fn differences(&mut self, level: Level) -> &[u64] {
        assert_eq!(level.alive, self.alive.len() as u64, "levels follow one another");
        self.pairs.clear();
        for group in self.alive.chunks(level.group as usize) {
            for (i, &second) in group.iter().enumerate() {
                self.pairs.extend(group[..i].iter().map(|&first| [first, second]));
            }
        }
        let width = self.choosing.width;
        let mut half = Buffer::unset(self.pairs.len());
        self.masks.fill(self.done, &mut half);
        let (numbers, pairs) = (&self.numbers, &self.pairs);
        half.par_iter_mut().zip(pairs).with_min_len(TASK).for_each(|(half, &[first, second])| {
            let difference = numbers[first as usize].wrapping_sub(numbers[second as usize]);
            *half = half.wrapping_add(difference) & ring::mask(width);
        });
        self.half = half;
        &self.half
    }

    /// With the peer's half of the differences: the party's half of the masked bits.
    pub fn bits(&mut self, peer: &[u64]) -> &[u64] {
        let (range, choosing, client) = (self.range(), &self.choosing, u64::from(self.party == Party::Client));
        let masks = self.own.elements(own::BITS, range.clone(), MASKED);
        self.state.resize(range.len(), Comparing::default());
        let (units, products) = (&self.units, &self.products);
        let chunks = self.half.par_chunks_mut(TASK).zip(self.state.par_chunks_mut(TASK));
        let chunks = chunks.zip(peer.par_chunks(TASK)).zip(masks.par_chunks(TASK)).enumerate();
        let buffers = || std::array::from_fn::<_, { DIGITS + 1 }, _>(|_| vec![0; TASK]);
        chunks.for_each_init(buffers, |buffers, (number, (((half, state), peer), masks))| {
            let first = range.start + number * TASK;
            for (buffer, dealt) in buffers.iter_mut().zip(units.iter().chain([products])) {
                dealt.fill(first, &mut buffer[..half.len()]);
            }
            for (i, ((half, state), peer)) in half.iter_mut().zip(state).zip(peer).enumerate() {
                let y = half.wrapping_add(*peer) & ring::mask(choosing.width);
                let digits = std::array::from_fn(|index| digits::digit(&choosing.digits, y, index));
                let unit = |index: usize| std::slice::from_ref(&buffers[index][i]);
                let above = y >> (choosing.width - 1) == 1;
                (*state, *half) = Comparing::begin(digits, above, unit, buffers[DIGITS][i], masks[i], client);
            }
        });
        &self.half
    }

    /// With the peer's half of the masked bits: the party's share of the outcomes.
    pub fn outcomes(&mut self, peer: &[u64]) -> &[u64] {
        let client = u64::from(self.party == Party::Client);
        let all = self.half.par_iter_mut().zip(&self.state).zip(peer).with_min_len(TASK);
        all.for_each(|((half, state), peer)| *half = state.outcome(*half ^ peer, client));
        &self.half
    }

    /// With the peer's share of the outcomes: who is left. Ends the level. False if the outcomes are those of no ranking, which
    /// an honest peer's are.
    #[must_use]
    pub fn decide(&mut self, peer: &[u64], level: Level) -> bool {
        let mut lost = vec![false; self.numbers.len()];
        for ((own, peer), &[first, second]) in self.half.iter().zip(peer).zip(&self.pairs) {
            // What is left of a group lost to nobody.
            lost[if own ^ peer == 1 { second } else { first } as usize] = true;
        }
        self.done += self.pairs.len();
        self.alive.retain(|&place| !lost[place as usize]);
        self.alive.len() as u64 == level.left()
    }

    /// The party's share of the index of the one that is left, once all levels are done.
    pub fn winner(&self) -> u64 {
        self.places[self.alive[0] as usize] & ring::mask(self.choosing.place)
    }

    /// The index, from both shares.
    pub fn index(&self, peer: u64) -> i64 {
        (self.winner().wrapping_add(peer) & ring::mask(self.choosing.place)) as i64
    }
}
