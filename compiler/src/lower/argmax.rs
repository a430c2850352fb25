//! The token with the greatest sum of its logit and the client's noise, of which the client alone learns.
//!
//! Noise     An input of the client, added to its share. Zeros give the greatest logit; a temperature times independent
//!           Gumbel numbers gives a sample of the softmax at that temperature. It is bounded by [`NOISE_BOUND`], so that
//!           a claim holds.
//! Rounds    One that opens the sums, then those of `choose`.

use ir::noise::NOISE_BOUND;
use ir::program::{Encoding, Input};
use ir::{Kind, MAX_WIDTH, Scale, Shape, Type, Value, choose};

use super::draft::Draft;

/// Name of the client's input.
pub const NOISE: &str = "noise";

/// Name of the output.
pub const TOKEN: &str = "token";

/// Fractional bits of a logit when it is compared: what is nearer than 2^-7 may be taken either way. A bit more costs
/// every comparison a bit online and up to two bytes of material.
const VALUE_SCALE: Scale = 7;

/// Lets the client learn which of `logits`, which are below `bound`, is the greatest with its noise.
pub fn choose_token(draft: &mut Draft, logits: Value, bound: f64) {
    let tokens: u32 = draft.shape(logits).iter().product();
    let (shape, claim) = (Shape(vec![tokens]), bound + NOISE_BOUND);
    // Logits that reach this far are compared more coarsely.
    let room = f64::from(choose::MAX_OPENING) - 2.0 - (claim + 1.0).log2().ceil();
    let scale = VALUE_SCALE.min(room as Scale);
    let ty = Type { kind: Kind::Share, width: MAX_WIDTH, scale, shape: shape.clone() };
    let noise = draft.input(Input { name: NOISE.to_owned(), shape, encoding: Encoding::Fixed, ty });
    let values = draft.at_scale(logits, scale);
    let values = draft.reshape(values, &[tokens]);
    let values = draft.add(values, noise);
    let opened = draft.open_within(values, claim);
    draft.choose(opened, TOKEN);
}
