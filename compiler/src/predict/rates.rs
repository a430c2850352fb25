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
pub const MESSAGE: f64 = 0.00e0;
/// 128 tokens, 12 layers; AMD EPYC, 2 cores with avx512f, 25 GB; load before the start 1.88; 2026-11-24, commit 2d6d492.
pub const RATES: &[Rate] = &[
    Rate { op: "input", client: 6.23e-13, server: 3.75e-12 },
    Rate { op: "narrow", client: 3.28e-10, server: 2.87e-10 },
    Rate { op: "down", client: 3.34e-10, server: 3.86e-10 },
    Rate { op: "up", client: 2.31e-10, server: 1.70e-10 },
    Rate { op: "point", client: 4.09e-12, server: 3.22e-12 },
    Rate { op: "add", client: 8.70e-10, server: 4.59e-10 },
    Rate { op: "sub", client: 9.80e-10, server: 5.86e-10 },
    Rate { op: "add_public", client: 6.08e-10, server: 2.25e-12 },
    Rate { op: "mul_public", client: 5.95e-10, server: 7.26e-10 },
    Rate { op: "add_weight", client: 0.00e0, server: 1.08e-9 },
    Rate { op: "reshape", client: 1.14e-11, server: 5.01e-12 },
    Rate { op: "transpose", client: 5.18e-10, server: 7.66e-10 },
    Rate { op: "slice", client: 8.50e-10, server: 5.81e-10 },
    Rate { op: "concat", client: 4.92e-10, server: 3.02e-10 },
    Rate { op: "pick", client: 1.38e-11, server: 8.89e-12 },
    Rate { op: "sum", client: 4.45e-10, server: 4.83e-10 },
    Rate { op: "row_sum", client: 4.96e-10, server: 5.07e-10 },
    Rate { op: "spread", client: 3.26e-9, server: 3.43e-9 },
    Rate { op: "linear", client: 2.69e-9, server: 1.46e-11 },
    Rate { op: "open", client: 3.31e-9, server: 1.93e-9 },
    Rate { op: "round", client: 2.65e-12, server: 2.05e-12 },
    Rate { op: "send", client: 9.93e-13, server: 3.41e-12 },
    Rate { op: "lift", client: 1.77e-9, server: 1.18e-9 },
    Rate { op: "square", client: 1.25e-9, server: 1.45e-9 },
    Rate { op: "sum_squares", client: 4.11e-9, server: 3.86e-9 },
    Rate { op: "mul", client: 3.18e-9, server: 3.55e-9 },
    Rate { op: "sddmm", client: 1.92e-10, server: 2.20e-10 },
    Rate { op: "spmm", client: 8.53e-11, server: 8.59e-11 },
    Rate { op: "series", client: 1.96e-9, server: 1.77e-9 },
    Rate { op: "spline", client: 2.74e-9, server: 2.75e-9 },
    Rate { op: "ge", client: 6.03e-9, server: 6.77e-9 },
    Rate { op: "reveal", client: 1.35e-9, server: 1.07e-9 },
];
