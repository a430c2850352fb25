//! The token with the greatest sum of its logit and the client's noise: a tournament, of which the client alone learns
//! who wins.
//!
//! Noise     An input of the client, added to its share. Zeros give the greatest logit; a temperature times independent
//!           Gumbel numbers gives a sample of the softmax at that temperature. It is bounded by [`NOISE_BOUND`], so that
//!           a claim holds.
//! Rows      (value, index), both in one ring. Candidate i meets candidate i + m, m the half of those left; one that has
//!           nobody to meet goes on. The index counts from the row's own place, so that only the winner's step of 0 or m
//!           is added, and a public number is all that the first round knows of it.
//! A round   The difference of the values opened to compare, the difference of the rows opened whole; `select` gives the
//!           latter or nothing, and that is added to the second row. ceil(log2(tokens)) rounds.

use ir::noise::NOISE_BOUND;
use ir::program::{Encoding, Input, Output};
use ir::{Kind, MAX_WIDTH, Party, Scale, Shape, Table, Type, Value};

use super::draft::{Draft, LATER};

/// Name of the client's input.
pub const NOISE: &str = "noise";

/// Name of the output.
pub const TOKEN: &str = "token";

/// Fractional bits of a logit when it is compared: what is nearer than 2^-7 may be taken either way. A bit more costs a
/// comparison key in every pair another step, a fourteenth of all material of a token.
const VALUE_SCALE: Scale = 7;

/// Reveals the winner among the elements of `logits`, which are below `bound`.
pub fn choose_token(draft: &mut Draft, logits: Value, bound: f64) {
    let tokens: u32 = draft.shape(logits).iter().product();
    let shape = Shape(vec![1, tokens]);
    let ty = Type { kind: Kind::Share, width: MAX_WIDTH, scale: VALUE_SCALE, shape: shape.clone() };
    let noise = draft.input(Input { name: NOISE.to_owned(), shape, encoding: Encoding::Fixed, ty });
    let values = draft.at_scale(logits, VALUE_SCALE);
    let values = draft.reshape(values, &[1, tokens]);
    let values = draft.add(values, noise);
    let values = draft.reshape(values, &[tokens, 1]);
    let places = draft.sub(values, values);
    let mut rows = draft.concat(&[values, places], 1);
    while draft.shape(rows)[0] > 1 {
        rows = half(draft, rows, 2.0 * (bound + NOISE_BOUND));
    }
    let place = draft.slice(rows, 1, 1, 2);
    let place = draft.halve(place, -VALUE_SCALE);
    draft.output_bounds.push(f64::from(tokens));
    draft.reveal(place, Output { name: TOKEN.to_owned(), shape: Shape(vec![1]), to: Party::Client });
}

/// The winners of one round; differences of values are below `bound`.
fn half(draft: &mut Draft, rows: Value, bound: f64) -> Value {
    let count = draft.shape(rows)[0];
    let (pairs, left) = (count / 2, count.div_ceil(2));
    let step = Table::Const { scale: VALUE_SCALE, shape: Shape(vec![2]), values: vec![0, i64::from(left)] };
    let step = draft.table("step", step);
    let (first, second) = (draft.slice(rows, 0, 0, pairs), draft.slice(rows, 0, left, count));
    let second = draft.add_public(second, step);
    let difference = draft.sub(first, second);
    let value = draft.slice(difference, 1, 0, 1);
    let value = draft.reshape(value, &[pairs]);
    let compared = draft.open_to_compare(value, bound, 0.0);
    let whole = draft.open_whole(difference, LATER);
    let gained = draft.select(compared, whole);
    let winners = draft.add(second, gained);
    match left - pairs {
        0 => winners,
        _ => {
            let alone = draft.slice(rows, 0, pairs, left);
            draft.concat(&[winners, alone], 0)
        }
    }
}
