//! What transfers of a pair send: bytes, choices and rounds. Tests hold them against the meter, to the byte.
//!
//! Correlations are counted as choices; what an engine sends to make them is apart: [`soft`], and for a silent engine
//! what [`crate::silent::Sizes`] tells: its request from the chooser and its response from the holder.

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
