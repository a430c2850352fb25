//! Seconds of one core per unit of [`super::work`], measured on a pass of GPT-2 small whose parties had a core each.

use ir::Op;

/// What a unit of an op's work takes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    /// The op's mnemonic.
    pub op: &'static str,
    /// Seconds per unit at the client.
    pub client: f64,
    /// Seconds per unit at the server.
    pub server: f64,
}

/// Seconds per unit of an op by a table, client and server; an op that the table lacks takes no time.
pub(super) fn of(rates: &[Rate], op: &Op) -> [f64; 2] {
    let rate = rates.iter().find(|rate| rate.op == op.mnemonic());
    rate.map_or([0.0; 2], |rate| [rate.client, rate.server])
}

// All below is made by `cargo measure-gpt2 --fit`.
/// 128 tokens, 12 layers; from reports of parties that share two cores, the server's products counted on both; AMD EPYC
/// (Zen 4, AVX-512), 2026-11-24, commit ce62f54.
pub const RATES: &[Rate] = &[
    Rate { op: "input", client: 1.10e-8, server: 1.25e-10 },
    Rate { op: "narrow", client: 1.57e-10, server: 1.33e-10 },
    Rate { op: "down", client: 5.53e-10, server: 1.84e-10 },
    Rate { op: "up", client: 1.23e-10, server: 1.23e-10 },
    Rate { op: "point", client: 2.63e-12, server: 1.97e-12 },
    Rate { op: "add", client: 3.24e-10, server: 3.20e-10 },
    Rate { op: "sub", client: 3.56e-10, server: 3.09e-10 },
    Rate { op: "add_public", client: 2.47e-10, server: 1.91e-12 },
    Rate { op: "mul_public", client: 2.64e-10, server: 2.21e-10 },
    Rate { op: "add_weight", client: 8.46e-13, server: 4.93e-10 },
    Rate { op: "reshape", client: 5.13e-12, server: 4.04e-12 },
    Rate { op: "transpose", client: 7.27e-10, server: 4.04e-10 },
    Rate { op: "slice", client: 3.16e-10, server: 2.93e-10 },
    Rate { op: "concat", client: 2.49e-10, server: 2.78e-10 },
    Rate { op: "pick", client: 1.57e-11, server: 1.49e-11 },
    Rate { op: "sum", client: 3.34e-10, server: 2.67e-10 },
    Rate { op: "row_sum", client: 4.35e-10, server: 3.94e-10 },
    Rate { op: "spread", client: 3.18e-9, server: 3.09e-9 },
    Rate { op: "linear", client: 3.11e-9, server: 9.54e-11 },
    Rate { op: "open", client: 4.86e-9, server: 2.75e-9 },
    Rate { op: "round", client: 5.63e-11, server: 7.26e-11 },
    Rate { op: "send", client: 1.17e-10, server: 1.50e-11 },
    Rate { op: "lift", client: 1.35e-9, server: 1.29e-9 },
    Rate { op: "square", client: 4.26e-9, server: 4.67e-9 },
    Rate { op: "sum_squares", client: 3.81e-9, server: 3.73e-9 },
    Rate { op: "mul", client: 6.09e-9, server: 6.01e-9 },
    Rate { op: "sddmm", client: 2.68e-10, server: 2.89e-10 },
    Rate { op: "spmm", client: 2.83e-10, server: 4.66e-10 },
    Rate { op: "series", client: 5.42e-9, server: 5.30e-9 },
    Rate { op: "spline", client: 6.41e-9, server: 6.30e-9 },
    Rate { op: "ge", client: 5.70e-9, server: 5.50e-9 },
    Rate { op: "reveal", client: 7.74e-12, server: 3.26e-12 },
];
