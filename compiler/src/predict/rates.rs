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

/// Seconds per unit of an op by a table, client and server. What the table lacks takes what [`OTHERS`] say, or what the
/// op takes that is most [like](LIKE) it; no time with an empty table.
pub(super) fn of(rates: &[Rate], op: &Op) -> [f64; 2] {
    by_name(rates, op.mnemonic()).unwrap_or([0.0; 2])
}

/// Seconds per unit of an op of this mnemonic.
pub(super) fn by_name(rates: &[Rate], op: &str) -> Option<[f64; 2]> {
    let found =
        |rates: &[Rate], op: &str| rates.iter().find(|rate| rate.op == op).map(|rate| [rate.client, rate.server]);
    if rates.is_empty() {
        return None;
    }
    let like = || LIKE.iter().find(|(name, _)| *name == op).and_then(|(_, like)| found(rates, like));
    found(rates, op).or_else(|| found(OTHERS, op)).or_else(like)
}

/// Ops that the pass of the last fit has not.
const OTHERS: &[Rate] = &[
    // Estimated: 0.55 times what they took in a fit on a busy Intel Xeon of 2 cores (3.0e-9, 7.1e-10 and 1.7e-10; 2026-11-28), as
    // the other ops of that fit took 1.1 to 2.2 times what they take below.
    Rate { op: "extend", client: 1.70e-9, server: 1.80e-9 },
    Rate { op: "exp", client: 4.00e-10, server: 4.20e-10 },
    Rate { op: "cells", client: 9.50e-11, server: 9.50e-11 },
    // Estimated: the comparisons of a `choose` without its shuffles, and what `extend` takes.
    Rate { op: "compare", client: 3.00e-8, server: 3.00e-8 },
    Rate { op: "bit", client: 1.70e-9, server: 1.80e-9 },
    // Numbers and comparisons among 50,257, by `cargo bench -p protocols --bench kernels -- choices`.
    Rate { op: "choose", client: 5.20e-8, server: 5.20e-8 },
    // By the last fit of a pass that had it: AMD EPYC, 2 cores with avx512f; 2026-11-26, commit b8ba678.
    Rate { op: "series", client: 1.20e-9, server: 1.52e-9 },
];

/// What moves or computes as much an element as another op does. `select` evaluates keys as `spline` does, at one point
/// each, which shares less.
const LIKE: &[(&str, &str)] = &[
    ("add_row", "add_weight"),
    ("mul_row", "mul_public"),
    ("add_band", "add_weight"),
    ("keep", "slice"),
    ("expand", "concat"),
    ("cache", "concat"),
    ("select", "spline"),
];

// All below is made by `cargo measure-gpt2 --fit`.
/// Seconds of a message besides its bytes and its way: what a pass takes beyond work and waiting for it.
const MESSAGE: f64 = 3.27e-4;

/// 128 tokens, 12 layers; AMD EPYC, 2 cores with avx512f, 25 GB; load before the start 1.67; 2026-11-26, commit b8ba678.
const RATES: &[Rate] = &[
    Rate { op: "input", client: 5.45e-13, server: 4.11e-12 },
    Rate { op: "narrow", client: 1.91e-10, server: 1.12e-10 },
    Rate { op: "down", client: 1.08e-10, server: 8.71e-11 },
    Rate { op: "up", client: 8.94e-11, server: 8.10e-11 },
    Rate { op: "point", client: 2.25e-12, server: 1.32e-12 },
    Rate { op: "add", client: 3.04e-10, server: 2.08e-10 },
    Rate { op: "sub", client: 2.14e-10, server: 1.61e-10 },
    Rate { op: "add_public", client: 3.20e-10, server: 1.18e-12 },
    Rate { op: "mul_public", client: 3.26e-10, server: 2.75e-10 },
    Rate { op: "add_weight", client: 0.00e0, server: 4.60e-10 },
    Rate { op: "reshape", client: 4.81e-12, server: 3.27e-12 },
    Rate { op: "transpose", client: 1.54e-10, server: 2.17e-10 },
    Rate { op: "slice", client: 2.31e-10, server: 1.85e-10 },
    Rate { op: "concat", client: 4.14e-10, server: 3.49e-10 },
    Rate { op: "pick", client: 1.72e-11, server: 1.62e-11 },
    Rate { op: "sum", client: 3.02e-10, server: 2.40e-10 },
    Rate { op: "row_sum", client: 4.36e-10, server: 4.43e-10 },
    Rate { op: "spread", client: 3.23e-9, server: 3.05e-9 },
    Rate { op: "linear", client: 1.38e-9, server: 1.15e-11 },
    Rate { op: "open", client: 8.10e-10, server: 7.17e-10 },
    Rate { op: "round", client: 1.40e-12, server: 9.25e-13 },
    Rate { op: "send", client: 7.22e-13, server: 1.65e-12 },
    Rate { op: "lift", client: 1.30e-9, server: 1.11e-9 },
    Rate { op: "square", client: 1.05e-9, server: 1.33e-9 },
    Rate { op: "sum_squares", client: 3.63e-9, server: 3.85e-9 },
    Rate { op: "mul", client: 1.80e-9, server: 1.97e-9 },
    Rate { op: "sddmm", client: 1.63e-10, server: 1.35e-10 },
    Rate { op: "spmm", client: 6.05e-11, server: 5.81e-11 },
    Rate { op: "series", client: 1.20e-9, server: 1.52e-9 },
    Rate { op: "spline", client: 1.48e-9, server: 1.38e-9 },
    Rate { op: "ge", client: 3.23e-9, server: 2.65e-9 },
    Rate { op: "reveal", client: 7.05e-10, server: 6.10e-10 },
];
