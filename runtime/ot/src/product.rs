//! Products of a number of one party's and one of the other's.
//!
//! Identity  x·y = Σ 2^i·x_i·y over the bits of x (Gilboa, "Two Party RSA Key Generation", CRYPTO 1999, section 4.1): a
//!           correlated transfer for each bit, mod 2^(N-i), which is all that its place leaves of it.
//! Shapes    One x may go with a row of y, at one choice a bit for the row.
//! Errors    None: exact mod 2^N.

use crate::bits::Bits;
use crate::channel::{Channel, exchange};
use crate::error::Error;
use crate::pair::{Pair, rows};
use crate::transfer::Form;
use kernels::ring::mask;

/// The forms of the bits of x, the lowest first.
pub(crate) fn forms(x_bits: u8, width: u8) -> impl Iterator<Item = Form> + Clone {
    assert!((1..=64).contains(&x_bits) && (1..=64).contains(&width), "widths are 1 to 64 bits");
    (0..x_bits.min(width)).map(move |i| Form::Sum(width - i))
}

impl Pair {
    /// Shares mod 2^`width` of this party's `x` times rows of the peer's `y`, and of the peer's x times rows of `y`, as
    /// chooser and as holder. Of x the low `x_bits` bits count, both parties' alike; rows have `len` numbers. Either may be
    /// empty if the peer's other one is.
    pub fn products(
        &mut self,
        channel: &mut dyn Channel,
        x: &[u64],
        x_bits: u8,
        y: &[u64],
        len: usize,
        width: u8,
    ) -> Result<[Vec<u64>; 2], Error> {
        let forms = forms(x_bits, width);
        let own = (0..).zip(forms.clone()).map(|(place, _)| Bits::of(x, place)).collect();
        let theirs = vec![rows(y, len); forms.clone().count()];
        let (mut chosen, mut offered) = self.choose(channel, own, &theirs)?;

        let add = |sum: &mut Vec<u64>, share: Vec<u64>, place: u64| {
            sum.iter_mut().zip(share).for_each(|(sum, x)| *sum = sum.wrapping_add(x << place) & mask(width));
        };
        let (mut message, mut held) = (Vec::new(), vec![0; y.len()]);
        for ((place, form), offered) in (0..).zip(forms.clone()).zip(&mut offered) {
            add(&mut held, offered.give(y, len, form, &mut message), place);
        }
        let count = x.len() * len;
        let got = exchange(channel, message, forms.clone().map(|form| form.message_bytes(count)).sum())?;
        let (mut rest, mut had) = (&got[..], vec![0; count]);
        for ((place, form), chosen) in (0..).zip(forms).zip(&mut chosen) {
            add(&mut had, chosen.get(&mut rest, len, form), place);
        }
        Ok([had, held])
    }
}
