//! Products of any size, made of batches or of packed ciphertexts: which, how they are cut, and which messages both parties send. All
//! follows from sizes that both know, for those who make products and for those who want to know what that will take.

use crate::packed::{self, KEY_BYTES};
use crate::{Plan, PlanError};
use std::ops::Range;

/// Columns of a matrix that are sent, or answered, at once in a batch: a few tens of megabytes.
pub const TILE: usize = 256;

/// Rows of a batch, at most; see [`cut`].
const ROWS: usize = 4096;

/// Inner places of a batch, at most; see [`cut`].
const DEPTH: usize = 1 << 13;

/// Bytes of ciphertexts that are on their way before any is answered, about.
const AT_ONCE: usize = 32 << 20;

/// Rows and inner dimensions of the batches that a product is the sum of, which hold few enough ciphertexts at a time: the
/// server has 8 bytes for each inner place of 4096 and the rows.
pub fn cut(rows: usize, depth: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let blocks = |all: usize, each: usize| (0..all).step_by(each).map(move |from| from..all.min(from + each));
    blocks(rows, ROWS).flat_map(move |rows| blocks(depth, DEPTH).map(move |depth| (rows.clone(), depth)))
}

/// Ranges of so many columns that are sent or answered at once.
pub fn tiles(columns: usize) -> impl Iterator<Item = Range<usize>> {
    (0..columns).step_by(TILE).map(move |from| from..columns.min(from + TILE))
}

/// The plan of a product with weights if it is one of few rows: if it takes less so than in batches. Columns of weights have sums of
/// squares of `square` at most.
pub fn few_rows(sizes @ [rows, depth, columns]: [usize; 3], width: u8, square: u64) -> Option<packed::Plan> {
    let plan = packed::Plan::new(1, sizes, width, square.into()).ok()?;
    let batches = cut(rows, depth).map(|(rows, depth)| Plan::new(rows.len(), depth.len(), width, square));
    let seconds = batches.map(|plan| plan.map(|plan| plan.seconds(columns))).sum::<Result<f64, _>>();
    seconds.map_or(true, |seconds| plan.seconds() < seconds).then_some(plan)
}

/// Products of private matrices by digits of the server's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digits {
    /// Bits of a digit.
    pub bits: u8,
    /// Of each digit.
    pub plan: packed::Plan,
}

impl Digits {
    /// With few digits if the results are narrow, for the noise of a digit is as wide as that.
    pub fn new(count: usize, sizes @ [_, depth, _]: [usize; 3], width: u8) -> Result<Digits, PlanError> {
        let mut best: Option<(u64, Digits)> = None;
        let mut refused = None;
        for digits in 1..=3 {
            let bits = width.div_ceil(digits);
            let square = (depth as u128).saturating_mul(1 << (2 * (bits - 1)));
            match packed::Plan::new(count, sizes, width, square) {
                Ok(plan) => {
                    let error = plan.error_bound().saturating_mul(digits.into());
                    if best.as_ref().is_none_or(|(least, _)| error < *least) {
                        best = Some((error, Digits { bits, plan }));
                    }
                    if error <= packed::good_error(width) {
                        break;
                    }
                }
                Err(error) => refused = Some(error),
            }
        }
        match (best, refused) {
            (Some((_, way)), _) => Ok(way),
            (None, Some(error)) => Err(error),
            (None, None) => unreachable!("three are tried"),
        }
    }

    /// How many digits.
    pub fn count(&self) -> u8 {
        self.plan.width().div_ceil(self.bits)
    }
}

/// Neighbouring products whose ciphertexts are on their way together.
pub fn groups<T>(products: &[(packed::Plan, T)]) -> impl Iterator<Item = &[(packed::Plan, T)]> {
    let mut rest = products;
    std::iter::from_fn(move || {
        let (mut bytes, mut count) = (0, 0);
        while let Some((plan, _)) =
            rest.get(count).filter(|(plan, _)| count == 0 || bytes + plan.upload_bytes() <= AT_ONCE)
        {
            (bytes, count) = (bytes + plan.upload_bytes(), count + 1);
        }
        rest.split_off(..count).filter(|group| !group.is_empty())
    })
}

/// Answers of a product that make up a message.
pub fn parts(plan: &packed::Plan) -> impl Iterator<Item = Range<usize>> {
    let (all, each) = (plan.answers(), plan.answers_at_once());
    (0..all).step_by(each).map(move |from| from..all.min(from + each))
}

/// A message of a product: from the client, or from the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// Bytes from the client.
    Client(usize),
    /// Bytes from the server.
    Server(usize),
}

/// What the products of a session send, in the order in which they are made: keys go with the first product that needs them.
#[derive(Default)]
pub struct Session {
    has_key: bool,
    keys: packed::Known,
}

impl Session {
    /// Of a product with weights whose columns have sums of squares of `square` at most.
    pub fn with_weights(
        &mut self,
        sizes @ [rows, depth, columns]: [usize; 3],
        width: u8,
        square: u64,
    ) -> Result<Vec<Message>, PlanError> {
        if let Some(plan) = few_rows(sizes, width, square) {
            return Ok(self.packed(&[(plan, ())]));
        }
        let mut messages = Vec::new();
        for (rows, depth) in cut(rows, depth) {
            let plan = Plan::new(rows.len(), depth.len(), width, square)?;
            messages.push(Message::Client(plan.key_bytes()));
            messages.extend(tiles(depth.len()).map(|tile| Message::Client(plan.upload_bytes(tile.len()))));
            messages.extend(tiles(columns).map(|tile| Message::Server(plan.answer_bytes(tile.len()))));
        }
        Ok(messages)
    }

    /// Of private products that are made at once: of each how many, sizes and width.
    pub fn private(&mut self, asked: &[(usize, [usize; 3], u8)]) -> Result<Vec<Message>, PlanError> {
        let mut plans = Vec::new();
        for &(count, sizes, width) in asked {
            let way = Digits::new(count, sizes, width)?;
            plans.extend((0..way.count()).map(|_| (way.plan, ())));
        }
        Ok(self.packed(&plans))
    }

    fn packed(&mut self, products: &[(packed::Plan, ())]) -> Vec<Message> {
        let mut messages = Vec::new();
        if !std::mem::replace(&mut self.has_key, true) {
            messages.push(Message::Client(KEY_BYTES));
        }
        for group in groups(products) {
            for (plan, ()) in group {
                let keys = self.keys.lacking(plan);
                if keys > 0 {
                    messages.push(Message::Client(keys));
                }
                messages.push(Message::Client(plan.upload_bytes()));
            }
            for (plan, ()) in group {
                messages.extend(parts(plan).map(|answers| Message::Server(plan.answer_bytes(answers))));
            }
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_products_take_digits() {
        let way = |sizes, width| Digits::new(12, sizes, width).unwrap();
        let heads = way([128, 64, 128], 39);
        assert!(heads.count() == 1 && heads.plan.error_bound() <= 8);
        let wide = way([128, 64, 128], 50);
        assert!(wide.count() == 2 && wide.plan.error_bound() <= packed::good_error(50));
        let rows = way([1, 768, 1], 60);
        assert!(rows.plan.count() == 12 && rows.plan.error_bound() <= 1 << 12, "{}", rows.plan.error_bound());
        assert!(Digits::new(1, [1024, 1024, 64], 64).is_ok());
    }

    #[test]
    fn a_few_rows_are_packed_and_thousands_are_batches() {
        assert!(few_rows([1, 768, 50_257], 40, 768 << 22).is_some());
        assert!(few_rows([128, 768, 2304], 47, 768 << 22).is_some());
        assert!(few_rows([4096, 768, 768], 47, 768 << 22).is_none());
    }

    /// Keys go once, and a batch has its own.
    #[test]
    fn later_products_send_less() {
        let sum = |messages: Vec<Message>| {
            messages
                .iter()
                .map(|m| match m {
                    Message::Client(n) | Message::Server(n) => *n,
                })
                .sum::<usize>()
        };
        let mut session = Session::default();
        let sizes = [1, 768, 3072];
        let (first, second) = (
            sum(session.with_weights(sizes, 40, 768 << 22).unwrap()),
            sum(session.with_weights(sizes, 40, 768 << 22).unwrap()),
        );
        assert!(first > second + KEY_BYTES, "{first} {second}");
        let batch = |session: &mut Session| sum(session.with_weights([4096, 768, 768], 47, 768 << 22).unwrap());
        assert_eq!(batch(&mut session), batch(&mut Session::default()));
    }
}
