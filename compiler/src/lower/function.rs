//! Functions of one number by a piecewise linear table: one opening, one round.
//!
//! Knots   On the integers of the argument, placed by bisection until each line is within its tolerance; where the function
//!         has a corner or a jump there is a knot, so what is piecewise linear (Relu, Clip, Floor) is exact.
//! Range   What calibration saw and a margin, within the function's domain. Elements outside are counted
//!         ([`Draft::watch`]); there the first and last lines go on, flat where the domain ends.
//! Poles   A range that a pole of the function lies in, or that touches one, has no table: refused with a reason.

use ir::{Scale, Table, Value};

use super::Context;
use super::arithmetic::log2_ceil;
use super::draft::Draft;
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::{Function, NodeId};

/// The range is taken this far beyond what was seen, in parts of the greatest absolute value of it.
const MARGIN: f64 = 0.5;

/// Beside a pole, the range is taken this many times nearer to it.
const NEARER: f64 = 4.0;

/// Nothing on a table's lines is farther from zero than this many times 1/x, x the nearest argument that was seen.
pub const BEYOND_POLE: f64 = 2.0 * NEARER;

/// Greatest error of a line: this, in absolute terms and relative to the function's value.
const TOLERANCE: f64 = 1.0 / 4096.0;

/// Most lines of a table.
const MOST_LINES: usize = 1 << 14;

/// Values of this size leave a product no room.
const GREATEST_VALUE: f64 = 1e12;

/// Fractional bits of a result of about one in size.
const RESULT_BITS: Scale = 14;

/// Greatest magnitude of a coefficient, as a power of two.
const COEFFICIENT_BITS: Scale = 60;

/// Fractional bits that an argument is read at, at least; jumps are exact for arguments of as many.
const ARGUMENT_BITS: Scale = 14;

/// Most bits of an argument's integer.
const ARGUMENT_WIDTH: Scale = 46;

/// Where f(x), x in `seen`, is read from.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Least argument of the table.
    pub lo: f64,
    /// Greatest argument of the table.
    pub hi: f64,
    /// Below `lo` the function keeps its value.
    pub flat_below: bool,
    /// Above `hi` the function keeps its value.
    pub flat_above: bool,
    /// What lies outside is no fault.
    pub everywhere: bool,
}

/// Lowers f(x), x being what `operand` computes in the graph.
pub fn lower(
    context: &Context,
    draft: &mut Draft,
    x: Value,
    id: NodeId,
    operand: NodeId,
    f: Function,
) -> Result<Value, Diagnostic> {
    if f == (Function::Power { exponent: 2.0 }) {
        return Ok(super::arithmetic::square(context, draft, x, context.claim(operand), id));
    }
    let seen = context.ranges.seen.get(&operand).and_then(|range| range.ends);
    let (lo, hi) = seen.unwrap_or((0.0, 0.0));
    apply(context, draft, x, id, (lo, hi), context.claim(operand), f)
}

/// f(x) for arguments like those `seen`, which are below `claim`.
pub fn apply(
    context: &Context,
    draft: &mut Draft,
    x: Value,
    id: NodeId,
    seen: (f64, f64),
    claim: f64,
    f: Function,
) -> Result<Value, Diagnostic> {
    let refuse = |why: String| {
        Diagnostic::new(Code::NoTable, format!("`{}` has no table on the calibrated range", f.name()))
            .at(format!("node \"{}\"", context.graph.node(id).origin))
            .because(why)
            .help("calibrate with inputs like the ones that will be asked; where the range holds a pole, keep the argument away from it in the model")
    };
    let reach = reach(f, seen, claim, context.ranges.margin).ok_or_else(|| {
        refuse(format!(
            "calibration saw arguments from {} to {}, where the function has no finite value or one beyond 10^12",
            seen.0, seen.1
        ))
    })?;
    by_table(draft, x, reach, claim, f, f.name()).ok_or_else(|| {
        refuse(format!(
            "between {} and {} it needs more than {MOST_LINES} lines, or values beyond 60 bits",
            reach.lo, reach.hi
        ))
    })
}

/// f(x) by a table on a range; `None` if there is none of an acceptable size. `x` is below `claim`.
pub fn by_table(draft: &mut Draft, x: Value, reach: Reach, claim: f64, f: Function, name: &str) -> Option<Value> {
    let far = claim.max(reach.lo.abs()).max(reach.hi.abs()).max(f64::from(-ARGUMENT_BITS).exp2());
    if far.is_nan() || far >= f64::from(ARGUMENT_WIDTH).exp2() {
        return None;
    }
    let scale = draft.scale(x).min(argument_scale(f, reach, far));
    let x = draft.down_to(x, scale);
    let unit = f64::from(scale).exp2();
    let (table, result) = table(f, reach, scale)?;
    let Table::Spline { knots, .. } = &table else { return None };
    let farthest = knots.iter().map(|k| k.unsigned_abs()).max().unwrap_or(0) as f64 / unit;
    let table = draft.table(name, table);
    let opened = draft.open_within(x, far.max(farthest) + 1.0 / unit);
    let value = match reach.everywhere {
        true => draft.spline_everywhere(opened, table),
        false => draft.spline(opened, table),
    };
    Some(draft.down_to(value, result))
}

/// Where a function's table reaches, if it is finite on the range seen.
fn reach(f: Function, (least, greatest): (f64, f64), claim: f64, margin: f64) -> Option<Reach> {
    let (from, to) = domain(f, least);
    let pole = |at: f64| at.is_finite() && !f.value(at).is_finite();
    if least < from || greatest > to || pole(from) && least <= from || pole(to) && greatest >= to {
        return None;
    }
    if is_piecewise_linear(f) {
        let far = claim.max(least.abs()).max(greatest.abs()).max(1e-3);
        return Some(Reach { lo: -far, hi: far, flat_below: false, flat_above: false, everywhere: false });
    }
    let size = least.abs().max(greatest.abs()).max(1e-3) * MARGIN * margin;
    let (mut lo, mut hi) = ((least - size).max(from), (greatest + size).min(to));
    if pole(from) && lo - from < (least - from) / NEARER {
        lo = from + (least - from) / NEARER;
    }
    if pole(to) && to - hi < (to - greatest) / NEARER {
        hi = to - (to - greatest) / NEARER;
    }
    // An exponential would not fit where nothing was seen.
    while f.value(hi).abs() > 1e9f64.max(4.0 * f.value(greatest).abs()) && hi > greatest {
        hi = greatest + (hi - greatest) * 0.5 - 1e-9;
    }
    while f.value(lo).abs() > 1e9f64.max(4.0 * f.value(least).abs()) && lo < least {
        lo = least - (least - lo) * 0.5 + 1e-9;
    }
    let (lo, hi) = (lo.min(least), hi.max(greatest));
    let within = [lo, hi, least, greatest].into_iter().all(|x| f.value(x).abs() < GREATEST_VALUE);
    within.then_some(Reach { lo, hi, flat_below: lo == from, flat_above: hi == to, everywhere: false })
}

/// The interval around or beside x in which a function has finite values.
fn domain(f: Function, x: f64) -> (f64, f64) {
    use std::f64::consts::{FRAC_PI_2, PI};
    let all = (f64::NEG_INFINITY, f64::INFINITY);
    let beside_zero = if x > 0.0 { (0.0, f64::INFINITY) } else { (f64::NEG_INFINITY, 0.0) };
    match f {
        Function::Log {} | Function::Sqrt {} => (0.0, f64::INFINITY),
        Function::Reciprocal {} => beside_zero,
        Function::Power { exponent } if exponent == exponent.trunc() && exponent >= 0.0 => all,
        Function::Power { exponent } if exponent == exponent.trunc() => beside_zero,
        Function::Power { .. } => (0.0, f64::INFINITY),
        Function::Acos {} | Function::Asin {} => (-1.0, 1.0),
        Function::Atanh {} => (-1.0, 1.0),
        Function::Acosh {} => (1.0, f64::INFINITY),
        Function::Tan {} => {
            let turn = (x / PI).round() * PI;
            (turn - FRAC_PI_2, turn + FRAC_PI_2)
        }
        _ => all,
    }
}

/// Whether a function's lines go on for ever, so that its table is right on all of a claim.
fn is_piecewise_linear(f: Function) -> bool {
    use Function::*;
    matches!(
        f,
        Abs {}
            | Clip { .. }
            | HardSigmoid { .. }
            | LeakyRelu { .. }
            | Relu {}
            | Shrink { .. }
            | Sign {}
            | ThresholdedRelu { .. }
    ) || matches!(f, Power { exponent } if exponent == 1.0)
}

/// Whether small values count as much as large ones.
fn is_relative(f: Function) -> bool {
    match f {
        Function::Reciprocal {} => true,
        Function::Power { exponent } => exponent < 0.0,
        _ => false,
    }
}

/// First integers, at a scale, of the intervals on which a function is smooth, beyond the first.
fn corners(f: Function, lo: f64, hi: f64, scale: Scale) -> Vec<i64> {
    let unit = f64::from(scale).exp2();
    // The first integer not below x, and the first above it.
    let (at, above) = (|x: f64| (x * unit).ceil() as i64, |x: f64| (x * unit).floor() as i64 + 1);
    let whole = || lo.floor() as i64..=hi.ceil() as i64;
    match f {
        Function::Abs {} | Function::Relu {} | Function::LeakyRelu { .. } => vec![0],
        Function::Elu { .. } | Function::Selu { .. } | Function::Celu { .. } | Function::Softsign {} => vec![0],
        Function::Clip { low, high } => vec![at(low.into()), at(high.into())],
        Function::HardSigmoid { alpha, beta } if alpha != 0.0 => {
            let (alpha, beta) = (f64::from(alpha), f64::from(beta));
            vec![at(-beta / alpha), at((1.0 - beta) / alpha)]
        }
        Function::HardSwish {} => vec![at(-3.0), at(3.0)],
        Function::Sign {} => vec![0, 1],
        Function::ThresholdedRelu { alpha } => vec![above(alpha.into())],
        Function::Shrink { lambda, .. } => vec![at(-f64::from(lambda)), above(lambda.into())],
        Function::Floor {} => whole().map(|n| at(n as f64)).collect(),
        Function::Ceil {} => whole().map(|n| above(n as f64)).collect(),
        Function::Round {} => {
            let half = |n: i64| n as f64 + 0.5;
            whole().map(|n| if n % 2 == 0 { above(half(n)) } else { at(half(n)) }).collect()
        }
        _ => Vec::new(),
    }
}

/// Fractional bits at which the argument's rounding moves the result by half of the tolerance.
fn argument_scale(f: Function, reach: Reach, far: f64) -> Scale {
    let most = (ARGUMENT_WIDTH - log2_ceil(far)).min(40);
    let steps = 256;
    let step = (reach.hi - reach.lo) / f64::from(steps);
    let steepest = (0..steps)
        .map(|i| {
            let x = reach.lo + step * f64::from(i);
            let (a, b) = (f.value(x), f.value(x + step));
            (b - a).abs() / step / tolerance(f, a.abs().min(b.abs()))
        })
        .filter(|slope| slope.is_finite())
        .fold(0.0, f64::max);
    (log2_ceil(steepest) + 1).max(ARGUMENT_BITS).min(most)
}

fn tolerance(f: Function, value: f64) -> f64 {
    TOLERANCE * (value.abs() + if is_relative(f) { 0.0 } else { 1.0 })
}

/// A line from an integer on: value in the middle and slope.
struct Line {
    from: i64,
    middle: f64,
    value: f64,
    slope: f64,
    width: i64,
}

/// The table, and the fractional bits of its results that mean something.
fn table(f: Function, reach: Reach, scale: Scale) -> Option<(Table, Scale)> {
    let unit = f64::from(scale).exp2();
    let first = (reach.lo * unit).floor() as i64;
    let end = ((reach.hi * unit).ceil() as i64 + 1).max(first + 2);
    let (lo, hi) = (reach.lo.min(reach.hi), reach.hi);
    let at = |x: i64| f.value((x as f64 / unit).clamp(lo, hi.max(lo)));
    let mut starts = vec![first];
    starts.extend(corners(f, reach.lo, reach.hi, scale).into_iter().filter(|k| (first + 1..end).contains(k)));
    starts.sort_unstable();
    starts.dedup();
    let mut lines = Vec::new();
    for (i, &from) in starts.iter().enumerate() {
        let to = starts.get(i + 1).copied().unwrap_or(end);
        refine(&at, &|v| tolerance(f, v), from, to, &mut lines)?;
    }
    let greatest = (0..=64).map(|i| at(first + (end - 1 - first) * i / 64).abs()).fold(0.0, f64::max);
    let least = if is_relative(f) { at(first).abs().min(at(end - 1).abs()) } else { greatest };
    let mut result = (RESULT_BITS - log2_ceil(least).min(0)).min(34);
    // Half a unit of b over half of the widest line moves a result by a quarter of its unit.
    let inexact = |line: &&Line| (line.slope * f64::from(result.min(60)).exp2()).fract() != 0.0;
    let widest = lines.iter().filter(inexact).map(|line| line.width).max().unwrap_or(0) as f64;
    let steepest =
        lines.iter().map(|line| (line.slope * end.abs().max(first.abs()) as f64).abs()).fold(greatest, f64::max);
    let most = COEFFICIENT_BITS - log2_ceil(steepest).max(0);
    result = result.min(most);
    let fine = if widest > 0.0 { (result + 2 + log2_ceil(widest)).min(most) } else { result };
    let one = f64::from(fine).exp2();
    let (mut knots, mut a, mut b) = (Vec::new(), Vec::new(), Vec::new());
    let flat = |v: f64| (v * one).round() as i64;
    for line in &lines {
        let slope = (line.slope * one).round();
        let offset = (line.value * one - slope * line.middle).round();
        if slope.abs() >= 2f64.powi(62) || offset.abs() >= 2f64.powi(62) {
            return None;
        }
        knots.push(line.from);
        a.push(offset as i64);
        b.push(slope as i64);
    }
    knots.push(end);
    match reach.flat_below {
        true => (a.insert(0, flat(at(first))), b.insert(0, 0)),
        false => (a.insert(0, a[0]), b.insert(0, b[0])),
    };
    match reach.flat_above {
        true => (a.push(flat(at(end - 1))), b.push(0)),
        false => (a.push(a[a.len() - 1]), b.push(b[b.len() - 1])),
    };
    Some((Table::Spline { scale: fine, knots, a, b }, result))
}

/// Lines that are within a tolerance on the integers from .. to.
fn refine(
    at: &dyn Fn(i64) -> f64,
    tolerance: &dyn Fn(f64) -> f64,
    from: i64,
    to: i64,
    lines: &mut Vec<Line>,
) -> Option<()> {
    let last = to - 1;
    let start = at(from);
    let slope = if from == last { 0.0 } else { (at(last) - start) / (last - from) as f64 };
    let value = |x: i64| start + slope * (x - from) as f64;
    let (mut below, mut above, mut allowed) = (0f64, 0f64, f64::INFINITY);
    let samples = 32.min(last - from);
    for i in 0..=samples {
        let x = if samples == 0 {
            from
        } else {
            from + (last - from) / samples * i + (last - from) % samples * i / samples
        };
        let exact = at(x);
        if !exact.is_finite() {
            return None;
        }
        let error = exact - value(x);
        (below, above) = (below.min(error), above.max(error));
        allowed = allowed.min(tolerance(exact));
    }
    if (above - below) / 2.0 > allowed && last - from > 1 {
        let middle = from + (to - from) / 2;
        refine(at, tolerance, from, middle, lines)?;
        return refine(at, tolerance, middle, to, lines);
    }
    if lines.len() >= MOST_LINES {
        return None;
    }
    let middle = (from as f64 + last as f64) / 2.0;
    let middle_value = start + slope * (middle - from as f64) + (above + below) / 2.0;
    lines.push(Line { from, middle, value: middle_value, slope, width: to - from });
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worst distance of a table to its function at integers on the range, in parts of the tolerance.
    fn worst(f: Function, lo: f64, hi: f64) -> (f64, usize) {
        let reach = reach(f, (lo, hi), 4.0 * lo.abs().max(hi.abs()), 1.0).expect("a range");
        let scale = argument_scale(f, reach, lo.abs().max(hi.abs()));
        let (table, _) = table(f, reach, scale).expect("a table");
        let Table::Spline { scale: fine, knots, a, b } = table else { unreachable!() };
        let unit = f64::from(scale).exp2();
        let mut greatest = 0f64;
        for i in 0..=5000 {
            let x = ((lo + (hi - lo) * f64::from(i) / 5000.0) * unit).round() as i64;
            let line = knots.partition_point(|&k| k <= x);
            let got = (i128::from(a[line]) + i128::from(b[line]) * i128::from(x)) as f64 / f64::from(fine).exp2();
            let want = f.value((x as f64 / unit).clamp(lo.min(hi), hi));
            greatest = greatest.max((got - want).abs() / tolerance(f, want));
        }
        (greatest, knots.len())
    }

    #[test]
    fn tables_keep_their_tolerance() {
        let cases = [
            (Function::Tanh {}, -8.0, 8.0),
            (Function::Sigmoid {}, -20.0, 20.0),
            (Function::Exp {}, -10.0, 5.0),
            (Function::Log {}, 0.01, 30.0),
            (Function::Sqrt {}, 0.0, 50.0),
            (Function::Reciprocal {}, 0.05, 9.0),
            (Function::Reciprocal {}, -9.0, -0.5),
            (Function::Erf {}, -3.0, 3.0),
            (Function::Acos {}, -1.0, 1.0),
            (Function::Mish {}, -9.0, 9.0),
            (Function::Power { exponent: -0.5 }, 0.1, 12.0),
            (Function::HardSwish {}, -9.0, 9.0),
            (Function::Selu { alpha: 1.67, gamma: 1.05 }, -5.0, 5.0),
        ];
        for (f, lo, hi) in cases {
            let (error, knots) = worst(f, lo, hi);
            assert!(error < 1.3 && knots < 1500, "{f:?}: {error} tolerances, {knots} knots");
        }
    }

    #[test]
    fn piecewise_linear_functions_are_exact() {
        let cases = [
            (Function::Relu {}, 3),
            (Function::Abs {}, 3),
            (Function::LeakyRelu { alpha: 0.25 }, 3),
            (Function::Clip { low: -1.0, high: 2.0 }, 4),
            (Function::Sign {}, 4),
            (Function::ThresholdedRelu { alpha: 0.5 }, 3),
            (Function::Shrink { lambda: 0.5, bias: 0.25 }, 4),
        ];
        for (f, most) in cases {
            let (error, knots) = worst(f, -7.0, 5.0);
            assert!(error < 1e-2 && knots <= most, "{f:?}: {error} tolerances, {knots} knots");
        }
        for f in [Function::Floor {}, Function::Ceil {}, Function::Round {}] {
            let (error, _) = worst(f, -7.0, 5.0);
            assert!(error < 1e-2, "{f:?}: {error} tolerances");
        }
    }

    #[test]
    fn poles_have_no_table() {
        assert!(reach(Function::Reciprocal {}, (-1.0, 1.0), 4.0, 1.0).is_none());
        assert!(reach(Function::Reciprocal {}, (0.0, 1.0), 4.0, 1.0).is_none());
        assert!(reach(Function::Log {}, (0.0, 1.0), 4.0, 1.0).is_none());
        assert!(reach(Function::Sqrt {}, (-0.5, 1.0), 4.0, 1.0).is_none());
        let near = reach(Function::Reciprocal {}, (0.5, 1.0), 4.0, 1.0).expect("positive");
        assert!(near.lo > 0.1 && near.hi < 2.0);
    }
}
