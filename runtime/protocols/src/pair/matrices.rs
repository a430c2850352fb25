//! Products of matrices over a channel to the peer, by ring learning with errors: in batches, or of few rows.

use super::engine::{Connected, Packed};
use super::{Factors, PairError};
use crate::weights::{Columns, Integers};
use ir::{Party, Width};
use kernels::ring::{self, Buffer, Tensor};
use rlwe::packed::{self, Rows};
use rlwe::product::{Digits, cut, groups, parts, tiles};
use rlwe::{Client, Plan, Server};

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

/// Adds columns, from number `from` on, to a matrix of so many.
fn add_columns(part: &Tensor, from: usize, columns: usize, out: &mut [u64]) {
    let count = part.shape[1];
    for (out, part) in out.chunks_exact_mut(columns).zip(part.data.chunks_exact(count)) {
        ring::add_assign(&mut out[from..from + count], part);
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
            for tile in tiles(of_depth.len()) {
                self.channel.send(client.encrypt(&block.slice(1, tile.start, tile.end)))?;
            }
            let out = &mut share[of_rows.start * columns..of_rows.end * columns];
            for tile in tiles(columns) {
                let answer = self.channel.receive(plan.answer_bytes(tile.len()))?;
                add_columns(&client.decrypt(&answer, tile.len())?, tile.start, columns, out);
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
            for tile in tiles(of_depth.len()) {
                server.receive(&self.channel.receive(plan.upload_bytes(tile.len()))?)?;
            }
            let out = &mut share[of_rows.start * columns..of_rows.end * columns];
            for tile in tiles(columns) {
                let (answer, part) = match weights.columns([of_depth.len(), columns], tile.clone()) {
                    Columns::Two(cells) => server.answer(&cells, tile.len()),
                    Columns::Four(cells) => server.answer(&cells, tile.len()),
                    Columns::Eight(cells) => server.answer(&cells, tile.len()),
                };
                self.channel.send(answer)?;
                add_columns(&part, tile.start, columns, out);
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
        let way = |ask: &Factors| Digits::new(ask.count, ask.sizes, ask.width);
        let ways = asked.iter().map(way).collect::<Result<Vec<_>, _>>()?;
        // The parts that products are made of: one for each digit of the server's numbers.
        let each = || {
            let digits = |(i, way): (usize, &Digits)| (0..way.count()).map(move |digit| (i, digit));
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
}
