//! The speed of a machine from a run whose parties had one core each, and the file that holds it.

use std::fmt::Write;

use ir::Program;

use super::rates::{Rate, Speed};
use super::{Cores, work};

/// What a run on a link that costs next to nothing took, one thread a party.
#[derive(Clone, PartialEq, Debug)]
pub struct Measured {
    /// Seconds that each instruction took the client, in program order.
    pub client: Vec<f64>,
    /// The same of the server.
    pub server: Vec<f64>,
    /// From the input to the output, at the client.
    pub online_seconds: f64,
}

/// The rate of every op of a program that took time, and of a message what the run took beyond work. Panics unless
/// `measured` has an entry for each instruction.
pub fn fit(program: &Program, measured: &Measured) -> Speed {
    let Measured { client, server, online_seconds } = measured;
    assert_eq!([client.len(), server.len()], [program.instrs.len(); 2], "a report of this program");
    let work = work::work(program);
    let rate = |&(op, _): &(&'static str, u8)| {
        let rows = (0..work.len()).filter(|&i| program.instrs[i].op.mnemonic() == op);
        let (mut seconds, mut units) = ([0.0; 2], [0.0; 2]);
        for i in rows {
            seconds = [seconds[0] + client[i], seconds[1] + server[i]];
            units = [units[0] + work[i].client, units[1] + work[i].server];
        }
        let per = |party: usize| if units[party] > 0.0 { (seconds[party] / units[party]).max(0.0) } else { 0.0 };
        let rate = Rate { op, client: per(0), server: per(1) };
        (rate.client > 0.0 || rate.server > 0.0).then_some(rate)
    };
    let rates: Vec<Rate> = ir::op::OPS.iter().filter_map(rate).collect();
    let cost = ir::cost::cost(program);
    let messages = (cost.rounds + cost.one_way_messages).max(1);
    let beyond = online_seconds - super::work_seconds(program, Cores::Each(1), &rates);
    Speed { rates, message: beyond.max(0.0) / messages as f64 }
}

/// What `rates.rs` has from its marker line on; `origin` says where and when it was measured.
pub fn print(speed: &Speed, origin: &str) -> String {
    let mut out = format!("{MARKER}\n{MESSAGE}\nconst MESSAGE: f64 = {:.2e};\n\n", speed.message);
    let _ = write!(out, "/// {origin}\nconst RATES: &[Rate] = &[\n");
    for rate in &speed.rates {
        let _ = writeln!(
            out,
            "    Rate {{ op: \"{}\", client: {:.2e}, server: {:.2e} }},",
            rate.op, rate.client, rate.server
        );
    }
    out.push_str("];\n");
    out
}

const MESSAGE: &str =
    "/// Seconds of a message besides its bytes and its way: what a pass takes beyond work and waiting for it.";

/// The line of `rates.rs` from which the rest is made.
pub const MARKER: &str = "// All below is made by `cargo measure-gpt2 --fit`.";

#[cfg(test)]
mod tests {
    use super::*;

    /// No op is predicted to take no time: what the measured pass lacks has a rate of its own.
    #[test]
    fn every_op_has_a_rate() {
        let built_in = Speed::built_in().rates;
        let rate = |op: &str| super::super::rates::by_name(&built_in, op);
        let none = |op: &&str| !rate(op).is_some_and(|rate| rate.iter().any(|&seconds| seconds > 0.0));
        let without: Vec<&str> = ir::op::OPS.iter().map(|&(op, _)| op).filter(none).collect();
        assert!(without.is_empty(), "{without:?}");
    }

    #[test]
    fn rates_are_seconds_over_units() {
        let program = ir::parse(include_str!("product.ssir")).unwrap_or_else(|e| panic!("{e}"));
        let work = work::work(&program);
        // Two seconds a unit at the client, three at the server.
        let client: Vec<f64> = work.iter().map(|w| 2.0 * w.client).collect();
        let server: Vec<f64> = work.iter().map(|w| 3.0 * w.server).collect();
        let mut measured = Measured { client, server, online_seconds: 0.0 };
        let Speed { mut rates, message } = fit(&program, &measured);
        assert_eq!(message, 0.0, "less time than work");
        // Three messages, of half a second each.
        measured.online_seconds = super::super::work_seconds(&program, Cores::Each(1), &rates) + 1.5;
        assert!((fit(&program, &measured).message - 0.5).abs() < 1e-9);
        let mut names: Vec<&str> = rates.iter().map(|rate| rate.op).collect();
        names.sort_unstable();
        assert_eq!(names, ["down", "input", "linear", "open", "reveal", "round", "send", "square"]);
        for rate in &rates {
            // The client's `down` is done ahead.
            let expected = if rate.op == "down" { 0.0 } else { 2.0 };
            assert_eq!((rate.client, rate.server), (expected, 3.0), "{}", rate.op);
        }
        rates.retain(|rate| rate.op == "input");
        let printed = print(&Speed { rates, message: 0.5 }, "Somewhere.");
        assert_eq!(
            printed.lines().collect::<Vec<_>>(),
            [
                MARKER,
                MESSAGE,
                "const MESSAGE: f64 = 5.00e-1;",
                "",
                "/// Somewhere.",
                "const RATES: &[Rate] = &[",
                "    Rate { op: \"input\", client: 2.00e0, server: 3.00e0 },",
                "];"
            ]
        );
    }
}
