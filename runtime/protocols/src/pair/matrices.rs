//! Products of matrices over a channel to the peer, by ring learning with errors: in batches, or of few rows.

use super::engine::{Connected, Packed};
use super::{Factors, PairError};
use crate::weights::{Columns, Integers};
use ir::{Party, Width};
use kernels::ring::{self, Buffer, Tensor};
use rlwe::packed::{self, Rows};
use rlwe::{Client, Plan, Server};
use std::ops::Range;

/// Columns of a matrix that are sent, or answered, at once: a few tens of megabytes.
const TILE: usize = 256;

/// Rows of a batch, at most; see [`cut`].
const ROWS: usize = 4096;

/// Inner places of a batch, at most; see [`cut`].
const DEPTH: usize = 1 << 13;

/// Bytes of ciphertexts that are on their way before any is answered, about.
const AT_ONCE: usize = 32 << 20;

impl From<rlwe::Error> for PairError {
    fn from(error: rlwe::Error) -> PairError {
        PairError::Engine(Box::new(error))
    }
}

impl From<rlwe::PlanError> for PairError {
    fn from(error: rlwe::PlanError) -> PairError {
        PairError::Engine(Box::new(error))
    }
}

/// Rows and inner dimensions of the batches that a product is the sum of, which hold few enough ciphertexts at a time: the
/// server has 8 bytes for each inner place of 4096 and the rows.
fn cut(rows: usize, depth: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let blocks = |all: usize, each: usize| (0..all).step_by(each).map(move |from| from..all.min(from + each));
    blocks(rows, ROWS).flat_map(move |rows| blocks(depth, DEPTH).map(move |depth| (rows.clone(), depth)))
}

/// Adds columns, from number `from` on, to a matrix of so many.
fn add_columns(part: &Tensor, from: usize, columns: usize, out: &mut [u64]) {
    let count = part.shape[1];
    for (out, part) in out.chunks_exact_mut(columns).zip(part.data.chunks_exact(count)) {
        ring::add_assign(&mut out[from..from + count], part);
    }
}

/// The plan of a product with weights if it is one of few rows: if it takes less so than in batches. Both parties ask with the same
/// numbers.
pub(super) fn few_rows(sizes @ [rows, depth, columns]: [usize; 3], width: Width, square: u64) -> Option<packed::Plan> {
    let plan = packed::Plan::new(1, sizes, width, square.into()).ok()?;
    let batches = cut(rows, depth).map(|(rows, depth)| Plan::new(rows.len(), depth.len(), width, square));
    let seconds = batches.map(|plan| plan.map(|plan| plan.seconds(columns))).sum::<Result<f64, _>>();
    seconds.map_or(true, |seconds| plan.seconds() < seconds).then_some(plan)
}

/// How products of private numbers are made.
struct Way {
    /// Bits of a digit of the server's numbers.
    bits: Width,
    /// Of each digit.
    plan: packed::Plan,
}

impl Way {
    /// With few digits if the results are narrow, for the noise of a digit is as wide as that.
    fn new(count: usize, sizes @ [_, depth, _]: [usize; 3], width: Width) -> Result<Way, PairError> {
        let mut best: Option<(u64, Way)> = None;
        let mut refused = None;
        for digits in 1..=3 {
            let bits = width.div_ceil(digits);
            let square = (depth as u128).saturating_mul(1 << (2 * (bits - 1)));
            match packed::Plan::new(count, sizes, width, square) {
                Ok(plan) => {
                    let error = plan.error_bound().saturating_mul(digits.into());
                    if best.as_ref().is_none_or(|(least, _)| error < *least) {
                        best = Some((error, Way { bits, plan }));
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
            (None, Some(error)) => Err(error.into()),
            (None, None) => unreachable!("three are tried"),
        }
    }

    fn digits(&self) -> Width {
        self.plan.width().div_ceil(self.bits)
    }
}

/// Digit number `digit` of signed numbers of `width` bits, itself signed, mod 2^64: the last has what is left.
fn digit(number: u64, width: Width, bits: Width, digit: Width) -> u64 {
    let signed = |x: u64, bits: Width| ((x << (64 - bits)) as i64) >> (64 - bits);
    let mut rest = signed(number, width);
    for _ in 0..digit {
        rest = rest.wrapping_sub(signed(rest as u64, bits)) >> bits;
    }
    let last = (digit + 1) * bits >= width;
    (if last { rest } else { signed(rest as u64, bits) }) as u64
}

impl Connected<'_> {
    /// The client's side of a product with weights in batches; columns of a weight have sums of squares of `square` at most.
    pub(super) fn client_batches(
        &mut self,
        a: &Tensor,
        columns: usize,
        width: Width,
        square: u64,
    ) -> Result<Buffer, PairError> {
        let [rows, depth] = a.shape[..] else { panic!("a matrix") };
        let mut share = Buffer::zeros(rows * columns);
        for (of_rows, of_depth) in cut(rows, depth) {
            let block = a.slice(0, of_rows.start, of_rows.end).slice(1, of_depth.start, of_depth.end);
            let plan = Plan::new(of_rows.len(), of_depth.len(), width, square)?;
            let mut client = Client::new(plan)?;
            self.channel.send(client.key())?;
            for from in (0..of_depth.len()).step_by(TILE) {
                self.channel.send(client.encrypt(&block.slice(1, from, of_depth.len().min(from + TILE))))?;
            }
            let out = &mut share[of_rows.start * columns..of_rows.end * columns];
            for from in (0..columns).step_by(TILE) {
                let count = TILE.min(columns - from);
                let answer = self.channel.receive(plan.answer_bytes(count))?;
                add_columns(&client.decrypt(&answer, count)?, from, columns, out);
            }
        }
        Ok(share)
    }

    /// The server's side.
    pub(super) fn server_batches(
        &mut self,
        weights: Integers,
        [rows, depth, columns]: [usize; 3],
        width: Width,
        square: u64,
    ) -> Result<Buffer, PairError> {
        let mut share = Buffer::zeros(rows * columns);
        for (of_rows, of_depth) in cut(rows, depth) {
            let weights = weights.range(of_depth.start * columns..of_depth.end * columns);
            let plan = Plan::new(of_rows.len(), of_depth.len(), width, square)?;
            let mut server = Server::new(plan, &self.channel.receive(plan.key_bytes())?)?;
            for from in (0..of_depth.len()).step_by(TILE) {
                let bytes = plan.upload_bytes(TILE.min(of_depth.len() - from));
                server.receive(&self.channel.receive(bytes)?)?;
            }
            let out = &mut share[of_rows.start * columns..of_rows.end * columns];
            for from in (0..columns).step_by(TILE) {
                let tile = from..columns.min(from + TILE);
                let (answer, part) = match weights.columns([of_depth.len(), columns], tile.clone()) {
                    Columns::Two(cells) => server.answer(&cells, tile.len()),
                    Columns::Four(cells) => server.answer(&cells, tile.len()),
                    Columns::Eight(cells) => server.answer(&cells, tile.len()),
                };
                self.channel.send(answer)?;
                add_columns(&part, from, columns, out);
            }
        }
        Ok(share)
    }

    /// The client's side of products of few rows: its shares. It sends some, then reads their answers.
    pub(super) fn client_packed(&mut self, products: &[(packed::Plan, &[u64])]) -> Result<Vec<Buffer>, PairError> {
        if let Packed::Unset = self.engine.packed {
            let client = packed::Client::new()?;
            self.channel.send(client.key())?;
            self.engine.packed = Packed::Client(Box::new(client));
        }
        let Packed::Client(client) = &mut self.engine.packed else { panic!("the client's end") };
        let mut shares = Vec::new();
        for group in groups(products) {
            for (plan, left) in group {
                let keys = client.merge_keys(plan);
                if !keys.is_empty() {
                    self.channel.send(keys)?;
                }
                self.channel.send(client.encrypt(plan, left))?;
            }
            for (plan, _) in group {
                let mut share = Buffer::zeros(plan.results());
                for answers in parts(plan) {
                    let message = self.channel.receive(plan.answer_bytes(answers.clone()))?;
                    plan.put(answers.clone(), &client.decrypt(plan, answers, &message)?, &mut share);
                }
                shares.push(share);
            }
        }
        Ok(shares)
    }

    /// The server's side.
    pub(super) fn server_packed(&mut self, products: &[(packed::Plan, Rows)]) -> Result<Vec<Buffer>, PairError> {
        if let Packed::Unset = self.engine.packed {
            let key = self.channel.receive(packed::KEY_BYTES)?;
            self.engine.packed = Packed::Server(Box::new(packed::Server::new(&key)?));
        }
        let Packed::Server(server) = &mut self.engine.packed else { panic!("the server's end") };
        let mut shares = Vec::new();
        for group in groups(products) {
            let mut operands = Vec::new();
            for (plan, _) in group {
                let keys = server.merge_key_bytes(plan);
                if keys > 0 {
                    server.take_merge_keys(plan, &self.channel.receive(keys)?)?;
                }
                operands.push(server.receive(plan, &self.channel.receive(plan.upload_bytes())?)?);
            }
            for ((plan, right), operand) in group.iter().zip(operands) {
                let mut share = Buffer::zeros(plan.results());
                for answers in parts(plan) {
                    let (message, part) = server.answer(&operand, *right, answers.clone());
                    self.channel.send(message)?;
                    plan.put(answers, &part, &mut share);
                }
                shares.push(share);
            }
        }
        Ok(shares)
    }

    /// Both parties' shares of products of private numbers: see [`super::Transfers::private_products`].
    pub(super) fn private(&mut self, asked: &[Factors]) -> Result<Vec<Buffer>, PairError> {
        let ways = asked.iter().map(|ask| Way::new(ask.count, ask.sizes, ask.width)).collect::<Result<Vec<_>, _>>()?;
        // The parts that products are made of: one for each digit of the server's numbers.
        let each = || {
            let digits = |(i, way): (usize, &Way)| (0..way.digits()).map(move |digit| (i, digit));
            ways.iter().enumerate().flat_map(digits)
        };
        let parts = match self.engine.pair.party() {
            Party::Client => {
                let shifted = |(i, digit): (usize, Width)| -> Buffer {
                    let up = ways[i].bits * digit;
                    asked[i].own.iter().map(|x| x << up).collect()
                };
                let left: Vec<Buffer> = each().map(shifted).collect();
                let products: Vec<_> = each().zip(&left).map(|((i, _), left)| (ways[i].plan, &left[..])).collect();
                self.client_packed(&products)?
            }
            Party::Server => {
                type Runs<'r> = Box<dyn Fn(usize, usize, &mut [u64]) + Sync + 'r>;
                let runs = |(i, number): (usize, Width)| {
                    let Factors { own, sizes: [.., columns], width, .. } = &asked[i];
                    let bits = ways[i].bits;
                    let runs = move |row: usize, first: usize, out: &mut [u64]| {
                        let own = &own[row * columns + first..][..out.len()];
                        out.iter_mut().zip(own).for_each(|(out, x)| *out = digit(*x, *width, bits, number));
                    };
                    Box::new(runs) as Runs
                };
                let rows: Vec<Runs> = each().map(runs).collect();
                let products: Vec<_> =
                    each().zip(&rows).map(|((i, _), rows)| (ways[i].plan, &**rows as Rows)).collect();
                self.server_packed(&products)?
            }
        };
        let result = |ask: &Factors| Buffer::zeros(ask.count * ask.sizes[0] * ask.sizes[2]);
        let mut shares: Vec<Buffer> = asked.iter().map(result).collect();
        for ((i, _), part) in each().zip(parts) {
            ring::add_assign(&mut shares[i], &part);
        }
        Ok(shares)
    }
}

/// Neighbouring products whose ciphertexts are on their way together.
fn groups<T>(products: &[(packed::Plan, T)]) -> impl Iterator<Item = &[(packed::Plan, T)]> {
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
fn parts(plan: &packed::Plan) -> impl Iterator<Item = Range<usize>> {
    let (all, each) = (plan.answers(), plan.answers_at_once());
    (0..all).step_by(each).map(move |from| from..all.min(from + each))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_make_up_a_number() {
        for (width, bits) in [(36, 36), (52, 26), (64, 32), (64, 22), (7, 3), (1, 1)] {
            let low = ring::mask(width);
            for x in [0, 1, low, low >> 1, (low >> 1) + 1, 0x1234_5678_9abc_def1 & low, 0xfedc_ba98_7654_3210 & low] {
                let count = width.div_ceil(bits);
                let sum = (0..count).fold(0u64, |sum, i| sum.wrapping_add(digit(x, width, bits, i) << (bits * i)));
                assert_eq!(sum & low, x, "{width} bits by {bits}");
                let most = 1i64 << (bits - 1);
                assert!((0..count).all(|i| (-most..=most).contains(&(digit(x, width, bits, i) as i64))));
            }
        }
    }

    #[test]
    fn wide_products_take_digits() {
        let way = |sizes, width| Way::new(12, sizes, width).unwrap();
        let heads = way([128, 64, 128], 39);
        assert!(heads.digits() == 1 && heads.plan.error_bound() <= 8);
        let wide = way([128, 64, 128], 50);
        assert!(wide.digits() == 2 && wide.plan.error_bound() <= packed::good_error(50));
        let rows = way([1, 768, 1], 60);
        assert!(rows.plan.count() == 12 && rows.plan.error_bound() <= 1 << 12, "{}", rows.plan.error_bound());
        assert!(Way::new(1, [1024, 1024, 64], 64).is_ok());
    }

    #[test]
    fn a_few_rows_are_packed_and_thousands_are_batches() {
        assert!(few_rows([1, 768, 50_257], 40, 768 << 22).is_some());
        assert!(few_rows([128, 768, 2304], 47, 768 << 22).is_some());
        assert!(few_rows([4096, 768, 768], 47, 768 << 22).is_none());
    }
}
