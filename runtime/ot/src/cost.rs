//! What operations of a pair send: bytes, choices and rounds. Tests hold them against the meter, to the byte.
//!
//! Correlations are counted as choices; what an engine sends to make them is apart: [`iknp`], and for a silent engine
//! what [`crate::silent::Sizes`] tells: its request from the chooser and its response from the holder.

use crate::transfer::Form;
use crate::{convert, iknp as engine, product};

/// Of one operation, by party: P0's first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Bytes that a party sends.
    pub sent_bytes: [usize; 2],
    /// Correlations that a party's choices take.
    pub choices: [usize; 2],
    /// Exchanges.
    pub rounds: usize,
}

impl Cost {
    /// Choices in vectors of so many each, P0's and P1's.
    fn choose(&mut self, vectors: [usize; 2], counts: [usize; 2]) {
        self.rounds += 1;
        for party in 0..2 {
            self.choices[party] += vectors[party] * counts[party];
            self.sent_bytes[party] += vectors[party] * counts[party].div_ceil(8);
        }
    }

    /// A message of numbers for the choices of each party, from the other one.
    fn give(&mut self, forms: impl Iterator<Item = Form> + Clone, counts: [usize; 2]) {
        self.rounds += 1;
        for (chooser, count) in counts.into_iter().enumerate() {
            self.sent_bytes[1 - chooser] += forms.clone().map(|form| form.message_bytes(count)).sum::<usize>();
        }
    }
}

/// Bytes that the choosing party sends by IKNP to make so many correlations, none being left over.
pub fn iknp(mut choices: usize) -> usize {
    let mut bytes = 0;
    while choices > 0 {
        let rows = engine::batch(choices);
        bytes += engine::request_bytes(rows);
        choices = choices.saturating_sub(rows);
    }
    bytes
}

/// Of [`crate::Pair::correlate`] with so many bits of P0's and of P1's.
pub fn correlate(choices: [usize; 2], len: usize, form: Form) -> Cost {
    let mut cost = Cost::default();
    cost.choose([1, 1], choices);
    cost.give([form].into_iter(), choices.map(|count| count * len));
    cost
}

/// Of [`crate::Pair::transfer`] with so many bits of P0's and of P1's.
pub fn transfer(choices: [usize; 2], len: usize, width: u8) -> Cost {
    let mut cost = Cost::default();
    cost.choose([1, 1], choices);
    cost.give([Form::Xor(width); 2].into_iter(), choices.map(|count| count * len));
    cost
}

/// Of [`crate::Pair::products`] with so many x of P0's and of P1's.
pub fn products(counts: [usize; 2], x_bits: u8, len: usize, width: u8) -> Cost {
    let forms = product::forms(x_bits, width);
    let mut cost = Cost::default();
    cost.choose([forms.clone().count(); 2], counts);
    cost.give(forms, counts.map(|count| count * len));
    cost
}

/// Of [`crate::Pair::number`].
pub fn number(count: usize, bits: u8, width: u8) -> Cost {
    let (forms, mut cost) = (convert::forms(bits, width), Cost::default());
    if forms.clone().count() > 0 {
        cost.choose([forms.clone().count(), 0], [count, 0]);
        cost.give(forms, [count, 0]);
    }
    cost
}

/// Of [`crate::Pair::b2a`].
pub fn b2a(count: usize, width: u8) -> Cost {
    number(count, 1, width)
}

/// Of [`crate::Pair::and`].
pub fn and(count: usize, width: u8) -> Cost {
    correlate([count, 0], 1, Form::Sum(width))
}

/// Of [`crate::Pair::units`].
pub fn units(count: usize, bits: u8) -> Cost {
    let mut cost = Cost::default();
    if bits > 1 {
        cost.choose([usize::from(bits) - 1; 2], [count; 2]);
    }
    for place in 1..bits {
        let (form, len) = Form::string(1 << place);
        cost.give([form].into_iter(), [count * len; 2]);
    }
    cost
}

/// Of [`crate::Pair::index`].
pub fn index(count: usize, bits: u8) -> Cost {
    let mut cost = units(count, bits);
    if bits > 1 {
        cost.choices[0] += count;
        cost.sent_bytes[0] += count.div_ceil(8);
        cost.sent_bytes[1] += convert::number_bytes(count, bits, bits);
    }
    cost
}

/// Of [`crate::Pair::flip`] with so many signs.
pub fn flip(count: usize, len: usize, width: u8) -> Cost {
    correlate([count; 2], len, Form::Sum(width))
}
