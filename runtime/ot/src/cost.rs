//! What transfers of a pair send: bytes, choices and rounds. Tests hold them against the meter, to the byte.
//!
//! Correlations are counted as choices; what an engine sends to make them is apart: [`soft`], and for a silent engine
//! what [`crate::silent::Sizes`] tells: its request from the chooser and its response from the holder.

use crate::pair::{FIRST_BYTES, SILENT_AFTER};
use crate::silent::SIZES;
use crate::soft as engine;
use crate::transfer::Form;

/// Of one transfer, by party: P0's first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Bytes that a party sends.
    pub sent_bytes: [usize; 2],
    /// Correlations that a party's choices take.
    pub choices: [usize; 2],
    /// Exchanges.
    pub rounds: usize,
}

/// Bytes that the choosing party sends by SoftSpokenOT to make so many correlations, none being left over.
pub fn soft(mut choices: usize) -> usize {
    let mut bytes = 0;
    while choices > 0 {
        let rows = engine::batch(choices);
        bytes += engine::request_bytes(rows);
        choices = choices.saturating_sub(rows);
    }
    bytes
}

/// Of [`crate::Pair::correlate`] with so many bits of P0's and of P1's. Vectors that go together send the sum of what each
/// sends alone, in as many rounds as one.
pub fn correlate(choices: [usize; 2], len: usize, form: Form) -> Cost {
    let sent = |party: usize| choices[party].div_ceil(8) + form.message_bytes(choices[1 - party] * len);
    Cost { sent_bytes: [sent(0), sent(1)], choices, rounds: 2 }
}

/// What a session of a [`crate::Pair`] sends to have correlations, call after call: who chooses has a stock of its own, which its
/// engine fills in batches.
#[derive(Default)]
pub struct Session {
    ways: [Way; 2],
}

/// Where a party chooses.
#[derive(Default)]
struct Way {
    left: usize,
    made: usize,
    silent: bool,
}

/// Bytes that P0 and P1 send at the same time.
pub type Exchange = [usize; 2];

impl Session {
    /// What setting it up sends.
    pub fn set_up() -> [Exchange; 2] {
        [[FIRST_BYTES; 2], [engine::SUMS_BYTES; 2]]
    }

    /// Whose choices, P0's and P1's, are made by the silent engine by now.
    pub fn silent(&self) -> [bool; 2] {
        [0, 1].map(|party| self.ways[party].silent)
    }

    /// What is sent before choices of P0's and of P1's are bound, so many, in [`crate::Pair::choose`].
    pub fn reserve(&mut self, choices: [usize; 2]) -> Vec<Exchange> {
        let mut exchanges = Vec::new();
        let goes_on = [0, 1].map(|party| {
            let way = &self.ways[party];
            !way.silent && way.made >= SILENT_AFTER && way.left < choices[party]
        });
        if goes_on != [false, false] {
            self.make(goes_on.map(|goes_on| if goes_on { SIZES.stock() } else { 0 }), &mut exchanges);
            for (way, _) in self.ways.iter_mut().zip(goes_on).filter(|(_, goes_on)| *goes_on) {
                (way.silent, way.left) = (true, way.left - SIZES.stock());
            }
        }
        self.make(choices, &mut exchanges);
        for (way, choices) in self.ways.iter_mut().zip(choices) {
            way.left -= choices;
        }
        exchanges
    }

    fn make(&mut self, wanted: [usize; 2], exchanges: &mut Vec<Exchange>) {
        loop {
            let lacking = [0, 1].map(|party| wanted[party].saturating_sub(self.ways[party].left));
            if lacking == [0, 0] {
                return;
            }
            let (mut requests, mut responses) = ([0; 2], [0; 2]);
            for (party, way) in self.ways.iter_mut().enumerate().filter(|(party, _)| lacking[*party] > 0) {
                let batch = if way.silent { SIZES.given() } else { engine::batch(lacking[party]) };
                (way.left, way.made) = (way.left + batch, way.made + batch);
                requests[party] = if way.silent { SIZES.request_bytes() } else { engine::request_bytes(batch) };
                responses[1 - party] = if way.silent { SIZES.response_bytes() } else { 0 };
            }
            exchanges.extend([requests, responses]);
        }
    }
}
