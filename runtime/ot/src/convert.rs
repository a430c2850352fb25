//! From shares of bits to shares of numbers.
//!
//! Identity  b0 ⊕ b1 = b0 + b1 - 2·b0·b1: P0 chooses by its bit, P1 holds its own, mod 2^(w-1). A number is the sum of its
//!           bits at their places, the bit at place t mod 2^(w-t).
//! Errors    None: exact.
//!
//! The lowest bit of a share is that of the party's share of the number: it is as random as that is.

use crate::bits::Bits;
use crate::channel::{Channel, exchange};
use crate::error::Error;
use crate::pair::Pair;
use crate::transfer::{Chosen, Form, Offered};
use ir::Party;
use kernels::ring::mask;

/// The form of what is transferred for each bit of a number of `bits` bits that is wanted mod 2^`width`: the highest bit
/// mod 2 needs no transfer.
pub(crate) fn forms(bits: u8, width: u8) -> impl Iterator<Item = Form> + Clone {
    assert!((1..=64).contains(&bits) && (1..=64).contains(&width), "widths are 1 to 64 bits");
    (0..bits.min(width - 1)).map(move |place| Form::Sum(width - 1 - place))
}

/// A party's own bits at their places, mod 2^`width`.
fn own(values: &[u64], bits: u8, width: u8) -> Vec<u64> {
    values.iter().map(|v| v & mask(bits.min(width))).collect()
}

/// Subtracts twice the product of the bits at a place.
fn subtract(sum: &mut [u64], product: &[u64], place: u64, width: u8) {
    sum.iter_mut().zip(product).for_each(|(x, p)| *x = x.wrapping_sub(p << place << 1) & mask(width));
}

/// P1's part of [`Pair::number`]: its shares, from the choices by P0's low bits in turn. Appends to the message.
pub fn hold_number(offered: &mut [Offered], values: &[u64], bits: u8, width: u8, message: &mut Vec<u8>) -> Vec<u64> {
    let mut sum = own(values, bits, width);
    for ((place, form), offered) in (0..).zip(forms(bits, width)).zip(offered) {
        let d: Vec<u64> = values.iter().map(|v| v >> place & 1).collect();
        subtract(&mut sum, &offered.give(&d, 1, form, message), place, width);
    }
    sum
}

/// P0's part of [`Pair::number`]. Takes P1's bytes off the front of the message.
pub fn choose_number(chosen: &mut [Chosen], values: &[u64], bits: u8, width: u8, message: &mut &[u8]) -> Vec<u64> {
    let mut sum = own(values, bits, width);
    for ((place, form), chosen) in (0..).zip(forms(bits, width)).zip(chosen) {
        subtract(&mut sum, &chosen.get(message, 1, form), place, width);
    }
    sum
}

/// Bytes of P1's message for `count` numbers.
pub fn number_bytes(count: usize, bits: u8, width: u8) -> usize {
    forms(bits, width).map(|form| form.message_bytes(count)).sum()
}

impl Pair {
    /// Shares mod 2^`width` of numbers of `bits` bits whose bits are shared by exclusive or: `values` are a party's shares
    /// of them. P0 chooses, P1 holds.
    pub fn number(
        &mut self,
        channel: &mut dyn Channel,
        values: &[u64],
        bits: u8,
        width: u8,
    ) -> Result<Vec<u64>, Error> {
        let transfers = forms(bits, width).count();
        match self.party() {
            Party::Client => {
                let choices = (0..).take(transfers).map(|place| Bits::of(values, place)).collect();
                let (mut chosen, _) = self.choose(channel, choices, &[])?;
                let got = exchange(channel, Vec::new(), number_bytes(values.len(), bits, width))?;
                Ok(choose_number(&mut chosen, values, bits, width, &mut &got[..]))
            }
            Party::Server => {
                let (_, mut offered) = self.choose(channel, Vec::new(), &vec![values.len(); transfers])?;
                let mut message = Vec::new();
                let share = hold_number(&mut offered, values, bits, width, &mut message);
                exchange(channel, message, 0)?;
                Ok(share)
            }
        }
    }

    /// Shares mod 2^`width` of bits that are shared by exclusive or.
    pub fn b2a(&mut self, channel: &mut dyn Channel, bits: &[u64], width: u8) -> Result<Vec<u64>, Error> {
        self.number(channel, bits, 1, width)
    }

    /// Shares mod 2^`width` of the product of a bit of P0's and one of P1's: each party gives its own.
    pub fn and(&mut self, channel: &mut dyn Channel, bits: &[u64], width: u8) -> Result<Vec<u64>, Error> {
        let form = Form::Sum(width);
        let [chosen, held] = match self.party() {
            Party::Client => self.correlate(channel, bits, &[], 1, form)?,
            Party::Server => {
                let own: Vec<u64> = bits.iter().map(|b| b & 1).collect();
                self.correlate(channel, &[], &own, 1, form)?
            }
        };
        Ok(if self.party() == Party::Client { chosen } else { held })
    }
}
