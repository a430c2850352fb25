//! Which instructions a prediction's seconds are due to.
//!
//! Between two messages the later party's clock goes on by work, which is shared out among the instructions there by their own, and by the
//! message: its way, its bytes, and what is done with them as they come, shared out by bytes. Of a message without bytes all
//! goes to the instruction that sends it. A clock that waits for the other party's work counts that work.

use ir::ahead::ahead;
use ir::cost;
use ir::{Op, Program};

use super::rates::{self, Speed};
use super::{Clocks, Cores, work};
use crate::lower::variant::Link;

/// Seconds of every instruction of a scheduled program that passed the verifier; their sum is
/// [`online_seconds`](super::Prediction::online_seconds).
pub fn parts(program: &Program, link: Link, cores: Cores, speed: &Speed) -> Vec<f64> {
    let (cost, work) = (cost::cost(program), work::work(program));
    let clocks = Clocks { message: speed.message, ..Clocks::default() };
    let clocks = clocks.walked(program, &cost, &work, link, cores, &speed.rates);
    let sent_ahead = ahead(program).sent;
    let count = program.instrs.len();
    let bytes = |i: usize| match program.instrs[i].op {
        Op::Choose { .. } => 0.0,
        _ => {
            let c = &cost.per_instruction[i];
            (c.server_payload_bytes + if sent_ahead[i] { 0 } else { c.client_payload_bytes }) as f64
        }
    };
    // A message's own handling goes with its bytes.
    let own = |i: usize| match program.instrs[i].op {
        Op::Round {} | Op::Send {} | Op::Choose { .. } => 0.0,
        ref op => {
            let [client, server] = rates::of(&speed.rates, op);
            (client * work[i].client).max(server * work[i].server)
        }
    };
    let mut parts = vec![0.0; count];
    let mut share = |range: std::ops::Range<usize>, seconds: f64, weight: &dyn Fn(usize) -> f64| {
        let all: f64 = range.clone().map(weight).sum();
        match range.end.checked_sub(1) {
            Some(last) if all <= 0.0 => parts[last] += seconds,
            _ => range.for_each(|i| parts[i] += seconds * weight(i) / all),
        }
    };
    // Messages are sent one after another; what waits for one are the instructions since the last.
    let (mut from, mut now) = (0, 0.0);
    for mark in &clocks.marks {
        let to = mark.index + 1;
        share(from..to, mark.sent - now, &own);
        share(from..to, mark.there - mark.sent, &bytes);
        (from, now) = (to, mark.there);
    }
    if from < count {
        share(from..count, clocks.later() - now, &own);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::predict;
    use super::*;

    #[test]
    fn parts_add_up() {
        let program = ir::parse(include_str!("product.ssir")).unwrap_or_else(|e| panic!("{e}"));
        let speed = Speed::built_in();
        for (rtt_seconds, bits_per_second) in [(0.0, 1e12), (0.0, 8.0), (2.0, 1e12), (0.04, 1e8)] {
            let link = Link { rtt_seconds, bits_per_second };
            let parts = parts(&program, link, Cores::DEFAULT, &speed);
            let whole = predict(&program, link, Cores::DEFAULT, &speed).online_seconds;
            assert!((parts.iter().sum::<f64>() - whole).abs() <= 1e-9 * whole, "{parts:?}, {whole}");
            assert!(parts.iter().all(|seconds| *seconds >= 0.0), "{parts:?}");
        }
        // A byte takes a second: what sends most takes most, and a round itself nothing.
        let slow = parts(&program, Link { rtt_seconds: 0.0, bits_per_second: 8.0 }, Cores::DEFAULT, &speed);
        let most = (0..slow.len()).max_by(|&a, &b| slow[a].total_cmp(&slow[b])).expect("instructions");
        assert!(
            program.instrs[most].op.exchanges()
                || matches!(program.instrs[most].op, Op::Linear { .. } | Op::Reveal { .. })
        );
        for (instr, seconds) in program.instrs.iter().zip(&slow) {
            assert!(!matches!(instr.op, Op::Round {} | Op::Send {}) || *seconds == 0.0, "{slow:?}");
        }
    }
}
