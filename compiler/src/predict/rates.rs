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
const MESSAGE: f64 = 5.60e-4;

/// 128 tokens, 12 layers; AMD EPYC, 2 cores with avx512f, 25 GB; load before the start 1.38; 2026-11-24, commit 0dd06fa-dirty.
const RATES: &[Rate] = &[
    Rate { op: "input", client: 7.54e-13, server: 2.85e-12 },
    Rate { op: "narrow", client: 2.22e-10, server: 2.26e-10 },
    Rate { op: "down", client: 1.19e-10, server: 1.01e-10 },
    Rate { op: "up", client: 9.62e-11, server: 8.50e-11 },
    Rate { op: "point", client: 6.14e-12, server: 2.35e-12 },
    Rate { op: "add", client: 2.61e-10, server: 2.07e-10 },
    Rate { op: "sub", client: 1.95e-10, server: 1.87e-10 },
    Rate { op: "add_public", client: 3.06e-10, server: 1.12e-12 },
    Rate { op: "mul_public", client: 2.47e-10, server: 2.49e-10 },
    Rate { op: "add_weight", client: 0.00e0, server: 6.80e-10 },
    Rate { op: "reshape", client: 4.97e-12, server: 3.35e-12 },
    Rate { op: "transpose", client: 1.62e-10, server: 2.34e-10 },
    Rate { op: "slice", client: 1.47e-10, server: 2.02e-10 },
    Rate { op: "concat", client: 3.36e-10, server: 3.12e-10 },
    Rate { op: "pick", client: 1.78e-11, server: 1.59e-11 },
    Rate { op: "sum", client: 3.49e-10, server: 2.78e-10 },
    Rate { op: "row_sum", client: 4.70e-10, server: 3.95e-10 },
    Rate { op: "spread", client: 3.50e-9, server: 3.50e-9 },
    Rate { op: "linear", client: 1.68e-9, server: 1.15e-11 },
    Rate { op: "open", client: 1.27e-9, server: 1.84e-9 },
    Rate { op: "round", client: 1.69e-12, server: 1.30e-12 },
    Rate { op: "send", client: 6.59e-13, server: 2.23e-12 },
    Rate { op: "lift", client: 1.06e-9, server: 1.01e-9 },
    Rate { op: "square", client: 7.68e-10, server: 8.45e-10 },
    Rate { op: "sum_squares", client: 2.97e-9, server: 2.62e-9 },
    Rate { op: "mul", client: 1.77e-9, server: 2.08e-9 },
    Rate { op: "sddmm", client: 1.57e-10, server: 1.36e-10 },
    Rate { op: "spmm", client: 5.74e-11, server: 5.44e-11 },
    Rate { op: "series", client: 1.34e-9, server: 1.62e-9 },
    Rate { op: "spline", client: 2.21e-9, server: 2.07e-9 },
    Rate { op: "ge", client: 3.30e-9, server: 2.98e-9 },
    Rate { op: "reveal", client: 1.18e-9, server: 7.28e-10 },
];
