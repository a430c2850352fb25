//! Where the cost of a program arises: rounds, bytes, material and predicted seconds, by layer of the model and by kind of op.
//!
//! Every figure of an entry is given to one of its instructions, so the sums are those of [`ir::cost`] to the byte and the round:
//! a message counts to the instruction that has most bytes in it, and so do the headers of its frames.

pub mod page;
pub mod text;

use ir::cost::{self, Cost};
use ir::wire::message_bytes;
use ir::{Op, Program, ahead, material, pair};

use crate::layers::Layers;
use crate::predict::parts::parts;
use crate::report::Place;

/// What some instructions cost in one run.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Share {
    /// Instructions.
    pub count: u64,
    /// Exchanges in both directions.
    pub rounds: u64,
    /// Messages in one direction.
    pub one_way_messages: u64,
    /// Bytes both ways, with headers.
    pub sent_bytes: u64,
    /// Material, where a dealer sends it: to both parties.
    pub dealt_bytes: u64,
    /// Material, where two parties make it: what the server keeps.
    pub made_bytes: u64,
    /// Predicted time of the online phase.
    pub seconds: f64,
}

impl Share {
    fn add(&mut self, other: &Share) {
        self.count += other.count;
        self.rounds += other.rounds;
        self.one_way_messages += other.one_way_messages;
        self.sent_bytes += other.sent_bytes;
        self.dealt_bytes = self.dealt_bytes.saturating_add(other.dealt_bytes);
        self.made_bytes = self.made_bytes.saturating_add(other.made_bytes);
        self.seconds += other.seconds;
    }
}

/// What an instruction is for, to a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Products with the owner's matrices.
    Weights,
    /// Products of two matrices of shares.
    Attention,
    /// Products element by element.
    Elements,
    /// Masked values that both learn.
    Openings,
    /// Exponentials, activations, roots.
    Functions,
    /// Comparisons, and choosing the token.
    Comparisons,
    /// What each party does alone, and outputs.
    Local,
}

impl Kind {
    /// All of them, in the order of tables.
    pub const ALL: [Kind; 7] = [
        Kind::Weights,
        Kind::Attention,
        Kind::Elements,
        Kind::Openings,
        Kind::Functions,
        Kind::Comparisons,
        Kind::Local,
    ];

    /// Of an op.
    pub fn of(op: &Op) -> Kind {
        match op {
            Op::Linear { .. } => Kind::Weights,
            Op::Sddmm { .. } | Op::Spmm { .. } => Kind::Attention,
            Op::Square { .. } | Op::SumSquares { .. } | Op::Mul { .. } => Kind::Elements,
            Op::Open { .. } | Op::Extend { .. } | Op::Lift { .. } | Op::Cache { .. } => Kind::Openings,
            Op::Exp { .. } | Op::Cells { .. } | Op::Series { .. } | Op::Spline { .. } => Kind::Functions,
            Op::Ge { .. } | Op::Select { .. } | Op::Compare { .. } | Op::Bit { .. } | Op::Choose { .. } => {
                Kind::Comparisons
            }
            _ => Kind::Local,
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Weights => "products with weights",
            Kind::Attention => "attention products",
            Kind::Elements => "products by element",
            Kind::Openings => "openings",
            Kind::Functions => "functions",
            Kind::Comparisons => "comparisons",
            Kind::Local => "local, outputs",
        }
    }
}

/// An entry, and what its parts cost.
pub struct Breakdown<'a> {
    /// The entry.
    pub program: &'a Program,
    /// Its cost.
    pub cost: Cost,
    /// Whether two parties can make its material.
    pub made: bool,
    /// Names of layers, in the order in which they are computed.
    pub layers: Vec<String>,
    /// By instruction: its layer, and what it costs.
    shares: Vec<(usize, Share)>,
}

impl<'a> Breakdown<'a> {
    /// Of a scheduled program that passed the verifier, at a place.
    pub fn new(program: &'a Program, place: &Place) -> Breakdown<'a> {
        let cost = cost::cost(program);
        let made = pair::unmade(program).is_none();
        let mut shares = messages(program, &cost);
        let seconds = parts(program, place.link, place.cores, &place.speed);
        let masks = pair::mask_bytes(program);
        for (index, (share, c)) in shares.iter_mut().zip(&cost.per_instruction).enumerate() {
            share.count = 1;
            share.dealt_bytes = c.dealt.to_both_bytes.saturating_mul(2).saturating_add(c.dealt.to_server_bytes);
            share.made_bytes = if made { c.dealt.to_server_bytes + masks[index] } else { 0 };
            share.seconds = seconds[index];
        }
        let layers = Layers::new(program);
        let mut layer = 0;
        let of = program.instrs.iter().map(|instr| {
            // A `round` comes from no node: it counts to the layer before it.
            if let Some(origin) = instr.origin {
                layer = layers.of(&program.origins[origin.index()]);
            }
            layer
        });
        let shares = of.zip(shares).collect();
        let layers = if layers.names.is_empty() { vec!["program".to_owned()] } else { layers.names };
        Breakdown { program, cost, made, layers, shares }
    }

    /// All of it.
    pub fn total(&self) -> Share {
        self.sum(|_, _| true)
    }

    /// What the instructions cost that are asked for, by layer and op.
    pub fn sum(&self, wanted: impl Fn(usize, &Op) -> bool) -> Share {
        let mut sum = Share::default();
        for (instr, (layer, share)) in self.program.instrs.iter().zip(&self.shares) {
            if wanted(*layer, &instr.op) {
                sum.add(share);
            }
        }
        sum
    }

    /// By layer, in their order.
    pub fn by_layer(&self) -> Vec<(&str, Share)> {
        let sum = |(at, name)| (name, self.sum(|layer, _| layer == at));
        self.layers.iter().map(String::as_str).enumerate().map(sum).collect()
    }

    /// By op that costs more than its place in the program, the kinds in their order.
    pub fn by_op(&self) -> Vec<(Kind, &'static str, Share)> {
        let mut rows = Vec::new();
        for kind in Kind::ALL {
            for &(name, _) in ir::op::OPS {
                let share = self.sum(|_, op| Kind::of(op) == kind && op.mnemonic() == name);
                let costs = share.rounds + share.one_way_messages + share.sent_bytes + share.dealt_bytes > 0;
                if share.count > 0 && (costs || share.made_bytes > 0 || share.seconds > 0.0) {
                    rows.push((kind, name, share));
                }
            }
        }
        rows
    }
}

/// Rounds, messages and bytes of every instruction; the sums are those of the cost.
fn messages(program: &Program, cost: &Cost) -> Vec<Share> {
    let mut shares = vec![Share::default(); program.instrs.len()];
    let sent_ahead = ahead::ahead(program).sent;
    let mut waiting: Vec<usize> = Vec::new();
    for (index, instr) in program.instrs.iter().enumerate() {
        let c = &cost.per_instruction[index];
        if let Op::Choose { x, .. } = instr.op {
            let choosing = material::choosing(program, x);
            shares[index].rounds = choosing.rounds();
            shares[index].one_way_messages = ir::choose::ONE_WAY;
            shares[index].sent_bytes =
                choosing.messages().iter().map(|m| message_bytes(m.client) + message_bytes(m.server)).sum();
            continue;
        }
        shares[index].sent_bytes += c.client_payload_bytes + c.server_payload_bytes;
        // An output is a message by itself; what waits goes on waiting.
        let own = [index];
        let sent: &[usize] = match instr.op {
            Op::Round {} | Op::Send {} => &waiting,
            Op::Reveal { .. } => &own,
            _ => {
                waiting.push(index);
                continue;
            }
        };
        let payload =
            |i: usize| cost.per_instruction[i].client_payload_bytes + cost.per_instruction[i].server_payload_bytes;
        let most =
            sent.iter().copied().filter(|&i| payload(i) > 0).reduce(|a, b| if payload(b) > payload(a) { b } else { a });
        let leader = &mut shares[most.unwrap_or(index)];
        match instr.op {
            Op::Round {} => leader.rounds += 1,
            _ => leader.one_way_messages += 1,
        }
        let early = |i: &usize| sent_ahead[*i] && !matches!(instr.op, Op::Reveal { .. });
        let of = |wanted: bool| {
            sent.iter().filter(|i| early(i) == wanted).map(|&i| cost.per_instruction[i].client_payload_bytes).sum()
        };
        let server = sent.iter().map(|&i| cost.per_instruction[i].server_payload_bytes).sum();
        leader.sent_bytes +=
            [of(true), of(false), server].into_iter().map(|bytes: u64| message_bytes(bytes) - bytes).sum::<u64>();
        if !matches!(instr.op, Op::Reveal { .. }) {
            waiting.clear();
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::variant::Link;
    use crate::predict::rates::Speed;
    use crate::predict::{Cores, predict};

    #[test]
    fn parts_are_the_whole() {
        let program = ir::parse(include_str!("../predict/product.ssir")).unwrap_or_else(|e| panic!("{e}"));
        let place = Place { link: Link::WAN, cores: Cores::DEFAULT, speed: Speed::built_in() };
        let breakdown = Breakdown::new(&program, &place);
        let (cost, total) = (&breakdown.cost, breakdown.total());
        assert_eq!((total.rounds, total.one_way_messages), (cost.rounds, cost.one_way_messages));
        assert_eq!(total.sent_bytes, cost.client_sent_bytes + cost.server_sent_bytes);
        assert_eq!(total.dealt_bytes, cost.client_material_bytes + cost.server_material_bytes);
        assert_eq!(total.made_bytes, pair::server_bytes(&program));
        let online = predict(&program, place.link, place.cores, &place.speed).online_seconds;
        assert!((total.seconds - online).abs() < 1e-9);
        // The product's message is the product's, the round the opening's, the output its own.
        let of = |name: &str| breakdown.by_op().into_iter().find(|(_, op, _)| *op == name).map(|(_, _, share)| share);
        let messages = |name: &str| of(name).map(|share| (share.rounds, share.one_way_messages));
        assert_eq!(messages("linear"), Some((0, 1)));
        assert_eq!((messages("open"), messages("reveal")), (Some((1, 0)), Some((0, 1))));
    }
}
