//! Transfers as they should be: choices go to the peer in the clear, and shares are drawn by who holds the numbers.

use super::Rng;
use ir::{Party, Width};
use kernels::ring::{Buffer, Tensor, mask};
use protocols::pair::{Bits, Exchange, Factors, Group, Network, PairError, Transfers};
use protocols::weights::Integers;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// What may be wrong with the shares of who holds the numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// They are zero, so that the other party gets products.
    Bare,
    /// Each serves twice.
    Repeats,
}

/// One party's end.
pub struct Ideal {
    pub fault: Option<Fault>,
    party: Party,
    rng: Rng,
    to: Sender<Vec<u64>>,
    from: Receiver<Vec<u64>>,
    /// What the party received: shares, and what the peer told. In the order of the calls, with widths.
    pub seen: Vec<(u64, Width)>,
}

/// Both ends.
pub fn ideal(rng: &mut Rng) -> [Ideal; 2] {
    let ((to_server, of_client), (to_client, of_server)) = (channel(), channel());
    let end = |party, rng: &mut Rng, to, from| Ideal {
        fault: None,
        party,
        rng: Rng::new(rng.next()),
        to,
        from,
        seen: Vec::new(),
    };
    [end(Party::Client, rng, to_server, of_server), end(Party::Server, rng, to_client, of_client)]
}

impl Ideal {
    fn swap(&mut self, numbers: Vec<u64>) -> Result<Vec<u64>, PairError> {
        let lost = || PairError::Engine("the peer is gone".into());
        self.to.send(numbers).map_err(|_| lost())?;
        self.from.recv_timeout(Duration::from_secs(60)).map_err(|_| lost())
    }

    /// A holder's share after those that it has kept.
    fn share(&mut self, kept: &[u64], width: Width) -> u64 {
        match self.fault {
            Some(Fault::Bare) => 0,
            Some(Fault::Repeats) if kept.len() % 2 == 1 => kept[kept.len() - 1],
            _ => self.rng.next() & mask(width),
        }
    }

    fn one(&mut self, ask: &Exchange) -> Result<[Buffer; 2], PairError> {
        let Exchange { group, choices, held, row, width } = *ask;
        let theirs = self.swap(choices.iter().collect())?;
        assert_eq!(held.len(), theirs.len() * row, "a row for each of the peer's choices");
        let (mut kept, mut chosen) = (Vec::<u64>::new(), Vec::new());
        for (at, &d) in held.iter().enumerate() {
            let own = self.share(&kept, width);
            let product = if theirs[at / row] == 1 { d } else { 0 };
            kept.push(own);
            chosen.push(mask(width) & if group == Group::Sum { product.wrapping_sub(own) } else { product ^ own });
        }
        let chosen = self.swap(chosen)?;
        assert_eq!(chosen.len(), choices.len() * row);
        self.seen.extend(chosen.iter().map(|&v| (v, width)));
        Ok([chosen.into(), kept.into()])
    }
}

impl Transfers for Ideal {
    fn party(&self) -> Party {
        self.party
    }

    fn exchange(&mut self, asked: &[Exchange]) -> Result<Vec<[Buffer; 2]>, PairError> {
        asked.iter().map(|ask| self.one(ask)).collect()
    }

    fn switches(&mut self, asked: &[Network]) -> Result<Vec<Buffer>, PairError> {
        let mut one = |network: &Network| {
            let (width, group, row) = (network.width, Group::Sum, 1);
            if network.numbers.is_empty() {
                let choices = Bits::of(network.bits, 0);
                return Ok(self.one(&Exchange { group, choices, held: &[], row, width })?[0].clone());
            }
            let bits = self.swap(Vec::new())?;
            let mut kept = Vec::new();
            bits.iter().for_each(|_| kept.push(self.share(&kept, width)));
            let held = network.held(&kept);
            let all = bits.iter().zip(held.iter().zip(&kept));
            let chosen = all.map(|(bit, (d, own))| (bit * d).wrapping_sub(*own) & mask(width)).collect();
            self.swap(chosen)?;
            Ok(kept.into())
        };
        asked.iter().map(&mut one).collect()
    }

    fn client_product(&mut self, a: &Tensor, columns: usize, width: Width) -> Result<Buffer, PairError> {
        let share = self.swap(a.data.to_vec())?;
        assert_eq!(share.len(), a.shape[0] * columns, "a result for each row and column");
        self.seen.extend(share.iter().map(|&v| (v & mask(width), width)));
        Ok(share.into())
    }

    fn server_product(
        &mut self,
        weights: Integers,
        [rows, depth, columns]: [usize; 3],
        width: Width,
    ) -> Result<Buffer, PairError> {
        let lost = |_| PairError::Engine("the peer is gone".into());
        let a = self.from.recv_timeout(Duration::from_secs(60)).map_err(lost)?;
        let mut own = Vec::<u64>::new();
        for _ in 0..rows * columns {
            own.push(self.share(&own, width));
        }
        let mut product = own.iter().map(|v| v.wrapping_neg()).collect::<Vec<u64>>();
        weights.matmul_add(&a, rows, depth, columns, width, &mut product);
        product.iter_mut().for_each(|v| *v &= mask(width));
        self.to.send(product).map_err(|_| PairError::Engine("the peer is gone".into()))?;
        Ok(own.into())
    }

    fn private_products(&mut self, asked: &[Factors]) -> Result<Vec<Buffer>, PairError> {
        let mut one = |ask: &Factors| {
            let ([rows, depth, columns], mut all) = (ask.sizes, Vec::new());
            for own in ask.own.chunks_exact(ask.own.len() / ask.count) {
                let share = match self.party {
                    Party::Client => {
                        self.client_product(&Tensor::new(vec![rows, depth], own.to_vec()), columns, ask.width)?
                    }
                    Party::Server => {
                        let right: Vec<[u8; 8]> = own.iter().map(|x| x.to_le_bytes()).collect();
                        self.server_product(Integers::Eight(&right), ask.sizes, ask.width)?
                    }
                };
                all.extend(share.iter());
            }
            Ok(all.into())
        };
        asked.iter().map(&mut one).collect()
    }

    fn tell(&mut self, numbers: &[u64], width: Width) -> Result<(), PairError> {
        let numbers = numbers.iter().map(|v| v & mask(width)).collect();
        self.to.send(numbers).map_err(|_| PairError::Engine("the peer is gone".into()))
    }

    fn hear(&mut self, count: usize, width: Width) -> Result<Buffer, PairError> {
        let lost = |_| PairError::Engine("the peer is gone".into());
        let numbers = self.from.recv_timeout(Duration::from_secs(60)).map_err(lost)?;
        assert_eq!(numbers.len(), count, "as many as are waited for");
        self.seen.extend(numbers.iter().map(|&v| (v, width)));
        Ok(numbers.into())
    }
}
