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
    // The pass has no `select`. It evaluates keys as `spline` does, at one point each, which shares less.
    let mnemonic = if matches!(op, Op::Select { .. }) { "spline" } else { op.mnemonic() };
    let rate = rates.iter().find(|rate| rate.op == mnemonic);
    rate.map_or([0.0; 2], |rate| [rate.client, rate.server])
}

// All below is made by `cargo measure-gpt2 --fit`.
/// Seconds of a message besides its bytes and its way: what a pass of parties that share the cores takes beyond their work.
pub const MESSAGE: f64 = 5.00e-4;

/// 128 tokens, 12 layers; AMD EPYC, 2 cores with avx512f, 25 GB; load before the start 2.05; 2026-11-24, commit f01ade9.
pub const RATES: &[Rate] = &[
    Rate { op: "input", client: 7.18e-13, server: 3.08e-12 },
    Rate { op: "narrow", client: 2.23e-10, server: 2.73e-10 },
    Rate { op: "down", client: 1.30e-10, server: 1.46e-10 },
    Rate { op: "up", client: 1.30e-10, server: 1.37e-10 },
    Rate { op: "point", client: 3.41e-12, server: 3.71e-12 },
    Rate { op: "add", client: 3.68e-10, server: 3.18e-10 },
    Rate { op: "sub", client: 2.80e-10, server: 2.68e-10 },
    Rate { op: "add_public", client: 2.75e-10, server: 2.27e-12 },
    Rate { op: "mul_public", client: 2.77e-10, server: 3.17e-10 },
    Rate { op: "add_weight", client: 0.00e0, server: 7.91e-10 },
    Rate { op: "reshape", client: 6.38e-12, server: 4.54e-12 },
    Rate { op: "transpose", client: 2.28e-10, server: 3.62e-10 },
    Rate { op: "slice", client: 3.64e-10, server: 3.11e-10 },
    Rate { op: "concat", client: 4.78e-10, server: 4.34e-10 },
    Rate { op: "pick", client: 1.57e-11, server: 2.84e-11 },
    Rate { op: "sum", client: 3.60e-10, server: 3.93e-10 },
    Rate { op: "row_sum", client: 4.29e-10, server: 5.97e-10 },
    Rate { op: "spread", client: 3.48e-9, server: 3.97e-9 },
    Rate { op: "linear", client: 1.74e-9, server: 1.26e-11 },
    Rate { op: "open", client: 1.53e-9, server: 2.34e-9 },
    Rate { op: "round", client: 2.27e-12, server: 1.95e-12 },
    Rate { op: "send", client: 1.09e-12, server: 3.40e-12 },
    Rate { op: "lift", client: 1.27e-9, server: 1.31e-9 },
    Rate { op: "square", client: 1.10e-9, server: 1.24e-9 },
    Rate { op: "sum_squares", client: 3.30e-9, server: 3.82e-9 },
    Rate { op: "mul", client: 2.35e-9, server: 2.88e-9 },
    Rate { op: "sddmm", client: 1.59e-10, server: 2.02e-10 },
    Rate { op: "spmm", client: 6.06e-11, server: 7.07e-11 },
    Rate { op: "series", client: 1.53e-9, server: 2.08e-9 },
    Rate { op: "spline", client: 2.36e-9, server: 2.61e-9 },
    Rate { op: "ge", client: 3.61e-9, server: 4.12e-9 },
    Rate { op: "reveal", client: 1.10e-9, server: 8.21e-10 },
];
