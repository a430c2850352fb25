//! Resources: a program that is well formed can still ask for more than its caller has.

use super::Policy;
use crate::cost::{self, InstrCost};
use crate::fault::{Code, Fault};
use crate::liveness;
use crate::print;
use crate::program::Program;
use crate::types::Table;

/// What the caller accepts of one run. The defaults fit a large model on a large machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Who may learn what.
    pub policy: Policy,
    /// Elements of one tensor.
    pub elements: u64,
    /// Elements of all tensors alive at one time; a share takes 8 bytes an element.
    pub peak_elements: u64,
    /// Elements of all public tables.
    pub table_elements: u64,
    /// Bytes of messages, both directions.
    pub traffic_bytes: u64,
    /// Bytes of material, both parties.
    pub material_bytes: u64,
    /// Bytes of masked weights.
    pub setup_bytes: u64,
    /// Multiply-adds of matrix products.
    pub macs: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            policy: Policy::default(),
            elements: 1 << 32,
            peak_elements: 1 << 33,
            table_elements: 1 << 26,
            traffic_bytes: 1 << 40,
            material_bytes: 1 << 44,
            setup_bytes: 1 << 40,
            macs: 1 << 50,
        }
    }
}

/// For a program without other faults.
pub(super) fn check(program: &Program, limits: &Limits, faults: &mut Vec<Fault>) {
    let cost = if program.scheduled { cost::cost(program) } else { cost::per_instruction(program) };
    let elements = |i: usize| program.instrs[i].ty.as_ref().and_then(|t| t.shape.elements()).unwrap_or(0);
    let largest = (0..program.instrs.len()).max_by_key(|&i| elements(i));
    let dearest = |of: fn(&InstrCost) -> u64| (0..program.instrs.len()).max_by_key(|&i| of(&cost.per_instruction[i]));

    let mut check = |what: &str, amount: u64, limit: u64, unit: fn(u64) -> String, culprit: Option<usize>| {
        if amount > limit {
            let fault = Fault::new(Code::Limit, format!("{what}: {}, the limit is {}", unit(amount), unit(limit)));
            faults.push(match culprit {
                Some(i) => fault
                    .at(program, i, &program.instrs[i])
                    .help("this instruction takes most; bind smaller sizes or raise the limit"),
                None => fault,
            });
        }
    };
    check("elements of a tensor", largest.map_or(0, elements), limits.elements, plain, largest);
    check("elements alive at one time", liveness::peak_elements(program), limits.peak_elements, plain, largest);
    check("elements of tables", table_elements(program), limits.table_elements, plain, None);
    check(
        "traffic",
        cost.client_sent_bytes.saturating_add(cost.server_sent_bytes),
        limits.traffic_bytes,
        print::bytes,
        dearest(|c| c.client_payload_bytes.saturating_add(c.server_payload_bytes)),
    );
    check(
        "material",
        cost.client_material_bytes.saturating_add(cost.server_material_bytes),
        limits.material_bytes,
        print::bytes,
        dearest(|c| c.dealt.to_both_bytes.saturating_add(c.dealt.to_server_bytes)),
    );
    check("masked weights", cost.setup_bytes, limits.setup_bytes, print::bytes, dearest(|c| c.setup_bytes));
    check("multiply-adds", cost.macs, limits.macs, plain, dearest(|c| c.macs));
}

fn plain(n: u64) -> String {
    n.to_string()
}

fn table_elements(program: &Program) -> u64 {
    let elements = |t: &Table| match t {
        Table::Series { cos, sin, .. } => cos.len() + sin.len(),
        Table::Spline { knots, a, b, .. } => knots.len() + a.len() + b.len(),
        Table::Exp { values, .. } => values.len(),
        Table::Cells { a, b, .. } => a.len() + b.len(),
        Table::Thresholds(t) => t.len(),
        Table::Const { values, .. } => values.len(),
        Table::Pattern(p) => 2 * p.rows.len(),
    };
    program.tables.iter().map(|t| elements(&t.table) as u64).sum()
}
