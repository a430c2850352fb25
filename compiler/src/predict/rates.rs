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

/// What work and messages take on a machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Speed {
    /// By op, each at most once.
    pub rates: Vec<Rate>,
    /// Seconds of a message besides its bytes and its way.
    pub message: f64,
}

impl Speed {
    /// That of the machine where the project is measured.
    pub fn built_in() -> Speed {
        Speed { rates: RATES.to_vec(), message: MESSAGE }
    }
}

/// Seconds per unit of an op by a table, client and server; an op that the table lacks takes no time.
pub(super) fn of(rates: &[Rate], op: &Op) -> [f64; 2] {
    // The pass has no `select`. It evaluates keys as `spline` does, at one point each, which shares less.
    let mnemonic = if matches!(op, Op::Select { .. }) { "spline" } else { op.mnemonic() };
    let rate = rates.iter().find(|rate| rate.op == mnemonic);
    rate.map_or([0.0; 2], |rate| [rate.client, rate.server])
}

// All below is made by `cargo measure-gpt2 --fit`.
/// Seconds of a message besides its bytes and its way: what a pass takes beyond work and waiting for it.
const MESSAGE: f64 = 5.24e-4;

/// 128 tokens, 12 layers; AMD EPYC, 2 cores with avx512f, 25 GB; load before the start 1.31; 2026-11-26, commit 965e791.
const RATES: &[Rate] = &[
    Rate { op: "input", client: 6.40e-13, server: 3.60e-12 },
    Rate { op: "narrow", client: 1.68e-10, server: 1.13e-10 },
    Rate { op: "down", client: 1.26e-10, server: 9.13e-11 },
    Rate { op: "up", client: 1.18e-10, server: 8.51e-11 },
    Rate { op: "point", client: 2.45e-12, server: 1.80e-12 },
    Rate { op: "add", client: 2.98e-10, server: 2.25e-10 },
    Rate { op: "sub", client: 2.69e-10, server: 1.68e-10 },
    Rate { op: "add_public", client: 3.21e-10, server: 1.58e-12 },
    Rate { op: "mul_public", client: 3.90e-10, server: 2.87e-10 },
    Rate { op: "add_weight", client: 0.00e0, server: 4.76e-10 },
    Rate { op: "reshape", client: 6.46e-12, server: 3.60e-12 },
    Rate { op: "transpose", client: 1.69e-10, server: 2.12e-10 },
    Rate { op: "slice", client: 3.82e-10, server: 1.68e-10 },
    Rate { op: "concat", client: 3.76e-10, server: 3.40e-10 },
    Rate { op: "pick", client: 1.32e-11, server: 1.80e-11 },
    Rate { op: "sum", client: 4.18e-10, server: 3.30e-10 },
    Rate { op: "row_sum", client: 6.09e-10, server: 4.38e-10 },
    Rate { op: "spread", client: 3.77e-9, server: 3.46e-9 },
    Rate { op: "linear", client: 1.93e-9, server: 1.18e-11 },
    Rate { op: "open", client: 8.94e-10, server: 8.48e-10 },
    Rate { op: "round", client: 1.93e-12, server: 1.31e-12 },
    Rate { op: "send", client: 7.57e-13, server: 1.72e-12 },
    Rate { op: "lift", client: 1.41e-9, server: 9.45e-10 },
    Rate { op: "square", client: 1.19e-9, server: 1.40e-9 },
    Rate { op: "sum_squares", client: 4.17e-9, server: 4.34e-9 },
    Rate { op: "mul", client: 2.02e-9, server: 2.05e-9 },
    Rate { op: "sddmm", client: 1.66e-10, server: 1.44e-10 },
    Rate { op: "spmm", client: 6.37e-11, server: 5.95e-11 },
    Rate { op: "series", client: 1.26e-9, server: 1.61e-9 },
    Rate { op: "spline", client: 1.73e-9, server: 1.44e-9 },
    Rate { op: "ge", client: 3.76e-9, server: 3.08e-9 },
    Rate { op: "reveal", client: 2.62e-9, server: 7.51e-10 },
];
