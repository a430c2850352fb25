//! Rates from the reports of a run whose parties had one core each, and the file that holds them.

use std::fmt::Write;

use ir::Program;

use super::rates::Rate;
use super::{Cores, work};

/// Seconds that each instruction of a run took a party, in program order.
pub struct Measured<'a> {
    /// The client's.
    pub client: &'a [f64],
    /// The server's.
    pub server: &'a [f64],
}

/// The rate of every op of a program that took time. Panics unless `measured` has an entry for each instruction.
pub fn fit(program: &Program, measured: &Measured<'_>) -> Vec<Rate> {
    assert_eq!([measured.client.len(), measured.server.len()], [program.instrs.len(); 2], "a report of this program");
    let work = work::work(program);
    let rate = |&(op, _): &(&'static str, u8)| {
        let rows = (0..work.len()).filter(|&i| program.instrs[i].op.mnemonic() == op);
        let (mut seconds, mut units) = ([0.0; 2], [0.0; 2]);
        for i in rows {
            seconds = [seconds[0] + measured.client[i], seconds[1] + measured.server[i]];
            units = [units[0] + work[i].client, units[1] + work[i].server];
        }
        let per = |party: usize| if units[party] > 0.0 { (seconds[party] / units[party]).max(0.0) } else { 0.0 };
        let rate = Rate { op, client: per(0), server: per(1) };
        (rate.client > 0.0 || rate.server > 0.0).then_some(rate)
    };
    ir::op::OPS.iter().filter_map(rate).collect()
}

/// Seconds of a message besides its bytes and its way, from a run that took `online_seconds` on a link that costs next to
/// nothing; see [`super::rates::MESSAGE`].
pub fn message_seconds(program: &Program, online_seconds: f64, cores: Cores, rates: &[Rate]) -> f64 {
    let cost = ir::cost::cost(program);
    let messages = cost.rounds + cost.one_way_messages;
    (online_seconds - super::work_seconds(program, cores, rates)).max(0.0) / messages.max(1) as f64
}

/// What `rates.rs` has from its marker line on; `origin` says where and when it was measured.
pub fn print(rates: &[Rate], message: f64, origin: &str) -> String {
    let mut out = format!("{MARKER}\n{MESSAGE}\npub const MESSAGE: f64 = {message:.2e};\n\n");
    let _ = write!(out, "/// {origin}\npub const RATES: &[Rate] = &[\n");
    for rate in rates {
        let _ = writeln!(
            out,
            "    Rate {{ op: \"{}\", client: {:.2e}, server: {:.2e} }},",
            rate.op, rate.client, rate.server
        );
    }
    out.push_str("];\n");
    out
}

const MESSAGE: &str = "/// Seconds of a message besides its bytes and its way: what a pass of parties that share the \
    cores takes beyond their work.";

/// The line of `rates.rs` from which the rest is made.
pub const MARKER: &str = "// All below is made by `cargo measure-gpt2 --fit`.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_seconds_over_units() {
        let program = ir::parse(include_str!("product.ssir")).unwrap_or_else(|e| panic!("{e}"));
        let work = work::work(&program);
        // Two seconds a unit at the client, three at the server.
        let client: Vec<f64> = work.iter().map(|w| 2.0 * w.client).collect();
        let server: Vec<f64> = work.iter().map(|w| 3.0 * w.server).collect();
        let rates = fit(&program, &Measured { client: &client, server: &server });
        let names: Vec<&str> = rates.iter().map(|rate| rate.op).collect();
        assert_eq!(names, ["input", "down", "linear", "open", "round", "send", "square", "reveal"]);
        for rate in &rates {
            // The client's `down` is done ahead.
            let expected = if rate.op == "down" { 0.0 } else { 2.0 };
            assert_eq!((rate.client, rate.server), (expected, 3.0), "{}", rate.op);
        }
        let printed = print(&rates[..1], 0.5, "Somewhere.");
        assert_eq!(
            printed.lines().collect::<Vec<_>>(),
            [
                MARKER,
                MESSAGE,
                "pub const MESSAGE: f64 = 5.00e-1;",
                "",
                "/// Somewhere.",
                "pub const RATES: &[Rate] = &[",
                "    Rate { op: \"input\", client: 2.00e0, server: 3.00e0 },",
                "];"
            ]
        );
    }
}
