//! Every table makes sense by itself, and its arithmetic stays inside 64 bits. What depends on the reader, such as
//! knots inside a claim, is checked where it is read ([`crate::infer()`]).

use crate::exp;
use crate::fault::{Code, Fault};
use crate::infer::size;
use crate::program::Program;
use crate::series::TURN_FRACTION;
use crate::types::*;

/// Most terms of a series.
pub const MAX_TERMS: usize = 1 << 12;

/// Bound on |cos| + |sin| of a term, so that a coefficient times a cosine of [`TURN_FRACTION`] bits is at most 2^62.
pub const MAX_COEFFICIENT: u64 = 1 << (62 - TURN_FRACTION);

/// Greatest `public_scale`; the coefficients themselves have [`SERIES_FRACTION`] bits.
pub const MAX_PUBLIC_SCALE: u8 = 32;

/// Most knots of a spline and thresholds of a comparison.
pub const MAX_KNOTS: usize = 1 << 16;

/// Most cells of a table: a unit vector of as many bits is dealt for every element.
pub const MAX_CELLS: usize = 1 << 12;

pub(super) fn check(program: &Program, faults: &mut Vec<Fault>) {
    for t in &program.tables {
        if let Err(message) = table(&t.table) {
            faults.push(Fault::new(Code::Table, format!("table {:?}: {message}", t.name)));
        }
    }
}

fn table(table: &Table) -> Result<(), String> {
    match table {
        Table::Series { public_scale, dealt_scale, cos, sin, .. } => {
            in_range("terms", cos.len(), 1, MAX_TERMS)?;
            if !sin.is_empty() && sin.len() != cos.len() {
                return Err(format!("{} cosines, {} sines", cos.len(), sin.len()));
            }
            in_range("public scale", usize::from(*public_scale), 0, MAX_PUBLIC_SCALE.into())?;
            in_range("dealt scale", usize::from(*dealt_scale), 0, SERIES_FRACTION.into())?;
            for (k, a) in cos.iter().enumerate() {
                let b = sin.get(k).copied().unwrap_or(0);
                if a.unsigned_abs().saturating_add(b.unsigned_abs()) > MAX_COEFFICIENT {
                    return Err(format!("|{a}| + |{b}| of term {} exceeds {MAX_COEFFICIENT}", k + 1));
                }
            }
            Ok(())
        }
        Table::Spline { knots, a, b, .. } => {
            in_range("knots", knots.len(), 1, MAX_KNOTS)?;
            ascending("knots", knots)?;
            if a.len() != knots.len() + 1 || b.len() != knots.len() + 1 {
                return Err(format!("{} knots, {} offsets, {} slopes", knots.len(), a.len(), b.len()));
            }
            Ok(())
        }
        Table::Exp { public_scale, dealt_scale, values } => {
            cells(values.len())?;
            in_range("public scale", usize::from(*public_scale), 0, 2 * usize::from(exp::FRACTION))?;
            in_range("dealt scale", usize::from(*dealt_scale), 0, exp::FRACTION.into())?;
            if let Some(value) = values.iter().find(|value| **value < 0) {
                return Err(format!("{value} is negative"));
            }
            small_sum("values", values)
        }
        Table::Cells { cell_bits, a, b, .. } => {
            cells(a.len())?;
            if a.len() != b.len() {
                return Err(format!("{} values, {} slopes", a.len(), b.len()));
            }
            in_range("cell bits", usize::from(*cell_bits), 1, 32)?;
            small_sum("values", a)?;
            small_sum("slopes", b)
        }
        Table::Thresholds(thresholds) => {
            in_range("thresholds", thresholds.len(), 1, MAX_KNOTS)?;
            ascending("thresholds", thresholds)
        }
        Table::Const { shape, values, .. } => {
            let elements = size(shape).map_err(|fault| fault.message)?;
            if values.len() as u64 != elements {
                return Err(format!("shape {shape} has {elements} elements, the table {}", values.len()));
            }
            Ok(())
        }
        Table::Pattern(pattern) => {
            in_range("rows", pattern.rows.len(), 1, u32::MAX as usize)?;
            if let Some(i) = pattern.rows.iter().position(|(from, to)| from >= to || *to > pattern.columns) {
                let (from, to) = pattern.rows[i];
                return Err(format!("row {i} keeps {from}..{to} of {} columns", pattern.columns));
            }
            if pattern.kept() > u64::from(u32::MAX) {
                return Err("more kept elements than 32 bits count".to_owned());
            }
            Ok(())
        }
    }
}

/// A power of two, so that the number of a cell is some bits of a mask.
fn cells(count: usize) -> Result<(), String> {
    in_range("cells", count, 2, MAX_CELLS)?;
    if count.is_power_of_two() { Ok(()) } else { Err(format!("{count} cells are no power of two")) }
}

/// A party adds up any of the numbers in 32 bits.
fn small_sum(what: &str, values: &[i64]) -> Result<(), String> {
    let sum = values.iter().try_fold(0u64, |sum, v| sum.checked_add(v.unsigned_abs()));
    match sum {
        Some(sum) if sum < 1 << 31 => Ok(()),
        _ => Err(format!("the {what} add up to 2^31 or more")),
    }
}

fn in_range(what: &str, n: usize, least: usize, most: usize) -> Result<(), String> {
    if (least..=most).contains(&n) { Ok(()) } else { Err(format!("{what}: {n}, not in {least} ..= {most}")) }
}

fn ascending(what: &str, values: &[i64]) -> Result<(), String> {
    match values.windows(2).find(|w| w[0] >= w[1]) {
        Some(w) => Err(format!("{what} do not ascend: {} before {}", w[0], w[1])),
        None => Ok(()),
    }
}
