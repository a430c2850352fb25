//! The type of an instruction's result, from its operands: every rule of the op table's manual pages that concerns
//! kinds, widths, scales, shapes and the tables that an op reads.
//!
//! Sizes stay below [`MAX_ELEMENTS`] elements and [`MAX_RANK`] dimensions, so that no later count of bits overflows.

use crate::choose;
use crate::dcf::MAX_COMPONENTS;
use crate::exp;
use crate::fault::{Code, Fault};
use crate::op::Op;
use crate::program::{Program, Public, State};
use crate::types::*;

/// Most elements of a tensor. With [`crate::verify::MAX_TERMS`] this keeps every count of bits below 2^64.
pub const MAX_ELEMENTS: u64 = 1 << 40;

/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 8;

/// Least width of an opening with a spare bit: a value, its sign and the spare bit.
pub const MIN_CLAIMED_WIDTH: Width = 3;

/// Greatest number of bits of the period of a `series`: neighbouring steps differ by 2^-22, far above the error of the
/// public cosines.
pub const MAX_SERIES_WIDTH: Width = 24;

/// Most components of a `select`: with the bit itself they are the payload of one key.
pub const MAX_SELECTED: u32 = MAX_COMPONENTS as u32 - 1;

/// Least number of bits of the period of a `series`: a quarter of the period is a whole number of steps.
pub const MIN_SERIES_WIDTH: Width = 2;

/// Type of the result of `op` in `program`, whose earlier instructions have their types; `None` if it has no result.
pub fn infer(program: &Program, op: &Op) -> Result<Option<Type>, Fault> {
    let ty = result(program, op)?;
    if let Some(ty) = &ty {
        size(&ty.shape)?;
        width(ty.width)?;
    }
    Ok(ty)
}

/// Checks that a shape has no empty dimension and a size that can be counted.
pub fn size(shape: &Shape) -> Result<u64, Fault> {
    if shape.rank() > MAX_RANK {
        return Err(Fault::new(Code::Shape, format!("{} dimensions, at most {MAX_RANK}", shape.rank())));
    }
    if shape.0.contains(&0) {
        return Err(Fault::new(Code::Shape, format!("shape {shape} has a dimension of 0")));
    }
    match shape.elements() {
        Some(n) if n <= MAX_ELEMENTS => Ok(n),
        _ => Err(Fault::new(Code::Shape, format!("shape {shape} has more than {MAX_ELEMENTS} elements"))),
    }
}

fn result(program: &Program, op: &Op) -> Result<Option<Type>, Fault> {
    let share = |v: &Value| share(program, *v);
    let opened = |v: &Value| opened(program, *v);
    let ty = match op {
        Op::Input { input } => {
            let input = get(&program.inputs, input.index(), "input")?;
            match input.ty.kind {
                Kind::Share => input.ty.clone(),
                Kind::Opened { .. } => return fault(Code::Kind, format!("input {:?} is not a share", input.name)),
            }
        }
        Op::Narrow { x, width } => {
            let x = share(x)?;
            if *width >= x.width {
                return fault(Code::Width, format!("width {width} is not below the operand's {}", x.width));
            }
            Type { width: *width, ..x.clone() }
        }
        Op::Down { x, by } => {
            let x = share(x)?;
            if *by == 0 || *by >= x.width {
                return fault(Code::Width, format!("a value of {} bits cannot go down by {by}", x.width));
            }
            Type { width: x.width - by, scale: scale_sum(x.scale, -i16::from(*by))?, ..x.clone() }
        }
        Op::Up { x, by } => {
            let x = share(x)?;
            if *by == 0 || x.width.checked_add(*by).is_none_or(|n| n > MAX_WIDTH) {
                return fault(
                    Code::Width,
                    format!("a value of {} bits cannot go up by {by}: at most {MAX_WIDTH}", x.width),
                );
            }
            Type { width: x.width + by, scale: scale_sum(x.scale, i16::from(*by))?, ..x.clone() }
        }
        Op::Point { x, scale } => Type { scale: *scale, ..share(x)?.clone() },
        Op::Add { x, y } | Op::Sub { x, y } => {
            let (x, y) = (share(x)?, share(y)?);
            if x.width != y.width {
                return Err(Fault::new(Code::Width, format!("widths {} and {} differ", x.width, y.width))
                    .help("`narrow` the wider operand"));
            }
            equal_scales(x.scale, y.scale)?;
            Type { shape: broadcast(&x.shape, &y.shape)?, ..x.clone() }
        }
        Op::AddPublic { x, table } => {
            let x = share(x)?;
            equal_scales(x.scale, constant_into(program, *table, x)?)?;
            x.clone()
        }
        Op::MulPublic { x, table } => {
            let x = share(x)?;
            Type { scale: scale_sum(x.scale, constant_into(program, *table, x)?)?, ..x.clone() }
        }
        Op::AddWeight { x, weight } => {
            let (x, w) = (share(x)?, get(&program.weights, weight.index(), "weight")?);
            equal_scales(x.scale, w.scale)?;
            broadcast_into(&w.shape, &x.shape)?;
            x.clone()
        }
        Op::AddRow { x, weight, index } => {
            let (x, w) = (share(x)?, get(&program.weights, weight.index(), "weight")?);
            equal_scales(x.scale, w.scale)?;
            row(program, &w.shape, *index, &x.shape)?;
            x.clone()
        }
        Op::AddBand { x, weight, index } => {
            let (x, w) = (share(x)?, get(&program.weights, weight.index(), "weight")?);
            equal_scales(x.scale, w.scale)?;
            get(&program.publics, index.index(), "public")?;
            let ([h, _], [held, _]) = (&x.shape.0[..], &w.shape.0[..]) else {
                return fault(Code::Shape, format!("a band of {} is added to a matrix, not to {}", w.shape, x.shape));
            };
            if held != h && *held != 1 {
                return fault(Code::Shape, format!("{} has neither 1 nor {h} rows", w.shape));
            }
            x.clone()
        }
        Op::MulRow { x, table, index } => {
            let (x, (scale, shape)) = (share(x)?, constant(program, *table)?);
            row(program, shape, *index, &x.shape)?;
            Type { scale: scale_sum(x.scale, scale)?, ..x.clone() }
        }
        Op::Reshape { x, shape } => {
            let x = share(x)?;
            if x.shape.elements() != shape.elements() {
                return fault(Code::Shape, format!("{} and {shape} differ in their number of elements", x.shape));
            }
            Type { shape: shape.clone(), ..x.clone() }
        }
        Op::Expand { x, shape } => {
            let x = share(x)?;
            broadcast_into(&x.shape, shape)?;
            Type { shape: shape.clone(), ..x.clone() }
        }
        Op::Transpose { x, perm } => {
            let x = share(x)?;
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if !sorted.iter().copied().eq(0..x.shape.rank() as u32) {
                return fault(
                    Code::Shape,
                    format!("{} is not a permutation of the axes of {}", Shape(perm.clone()), x.shape),
                );
            }
            Type { shape: Shape(perm.iter().map(|&a| x.shape.0[a as usize]).collect()), ..x.clone() }
        }
        Op::Slice { x, axis, from, to } => {
            let x = share(x)?;
            let dim = dim(&x.shape, *axis)?;
            if from >= to || *to > dim {
                return fault(Code::Shape, format!("{from} .. {to} is not a part of 0 .. {dim}"));
            }
            Type { shape: with_dim(&x.shape, *axis, to - from), ..x.clone() }
        }
        Op::Concat { xs, axis } => {
            let Some((first, rest)) = xs.split_first() else {
                return fault(Code::Shape, "nothing to concatenate");
            };
            let first = share(first)?;
            let mut total = dim(&first.shape, *axis)?;
            for x in rest {
                let x = share(x)?;
                let part = dim(&x.shape, *axis)?;
                if (x.width, x.scale) != (first.width, first.scale)
                    || with_dim(&x.shape, *axis, 1) != with_dim(&first.shape, *axis, 1)
                {
                    return fault(Code::Shape, format!("{first} and {x} differ in more than axis {axis}"));
                }
                total = total
                    .checked_add(part)
                    .ok_or_else(|| Fault::new(Code::Shape, "the concatenated dimension overflows 32 bits"))?;
            }
            Type { shape: with_dim(&first.shape, *axis, total), ..first.clone() }
        }
        Op::Pick { x, index, axis } => {
            let (x, index) = (share(x)?, get(&program.publics, index.index(), "public")?);
            let dim = dim(&x.shape, *axis)?;
            bounded(index, dim, format_args!("axis {axis} of {}", x.shape))?;
            Type { shape: with_dim(&x.shape, *axis, 1), ..x.clone() }
        }
        Op::Sum { x, axis } => {
            let x = share(x)?;
            dim(&x.shape, *axis)?;
            Type { shape: with_dim(&x.shape, *axis, 1), ..x.clone() }
        }
        Op::RowSum { x, pattern: table, axis } => {
            let (x, (p, kept)) = (share(x)?, pattern(program, *table)?);
            equal_dims("axis", dim(&x.shape, *axis)?, "kept elements", kept)?;
            Type { shape: with_dim(&x.shape, *axis, p.rows.len() as u32), ..x.clone() }
        }
        Op::Spread { x, pattern: table, axis } => {
            let (x, (p, kept)) = (share(x)?, pattern(program, *table)?);
            equal_dims("axis", dim(&x.shape, *axis)?, "rows", p.rows.len() as u32)?;
            Type { shape: with_dim(&x.shape, *axis, kept), ..x.clone() }
        }
        Op::Keep { x, first, from, to, axis } => {
            let x = share(x)?;
            dim(&x.shape, *axis)?;
            for public in [first, from, to] {
                get(&program.publics, public.index(), "public")?;
            }
            x.clone()
        }
        Op::Linear { x, weight } => {
            let (x, w) = (share(x)?, get(&program.weights, weight.index(), "weight")?);
            let (Some((&k, batch)), [rows, columns]) = (x.shape.0.split_last(), &w.shape.0[..]) else {
                return fault(Code::Shape, format!("no product of {} and a weight {}", x.shape, w.shape));
            };
            equal_dims("last axis", k, "rows of the weight", *rows)?;
            size(&w.shape)?;
            Type { scale: scale_sum(x.scale, w.scale)?, shape: append(batch, &[*columns]), ..x.clone() }
        }
        Op::Open { x, width, whole } => {
            let x = share(x)?;
            let least = if *whole { 1 } else { MIN_CLAIMED_WIDTH };
            if *width < least || *width > x.width {
                return fault(
                    Code::Width,
                    format!("{width} bits are not within {least} ..= {}, the operand's width", x.width),
                );
            }
            Type { kind: Kind::Opened { whole: *whole }, width: *width, ..x.clone() }
        }
        Op::Round {} | Op::Send {} => return Ok(None),
        Op::Extend { x, claim, width } => {
            let x = share(x)?;
            if *claim < MIN_CLAIMED_WIDTH || *claim > x.width {
                let least = MIN_CLAIMED_WIDTH;
                return fault(
                    Code::Width,
                    format!("a claim of {claim} bits is not within {least} ..= {}, the operand's width", x.width),
                );
            }
            if width <= claim {
                return fault(Code::Width, format!("{claim} bits are not extended to {width}"));
            }
            shared(*width, x.scale, x.shape.clone())
        }
        Op::Exp { x, table, width } => {
            if let Some(Op::Cache { .. }) = program.instrs.get(x.index()).map(|instr| &instr.op) {
                return fault(
                    Code::Kind,
                    format!("o{} holds rows of earlier steps, whose masks are of no use here", x.0),
                );
            }
            let x = opened(x)?;
            let Table::Exp { public_scale, dealt_scale, values } =
                get(&program.tables, table.index(), "table").map(|t| &t.table)?
            else {
                return fault(Code::Table, "not a table of exp");
            };
            if !(0..=exp::MAX_SCALE).contains(&x.scale) {
                return fault(Code::Scale, format!("exp reads a scale of 0 ..= {}, not {}", exp::MAX_SCALE, x.scale));
            }
            window(x, values.len(), exp::cell_bits(x.scale))?;
            shared(*width, i16::from(*public_scale) + i16::from(*dealt_scale), x.shape.clone())
        }
        Op::Cells { x, table, width } => {
            let x = opened(x)?;
            let Table::Cells { scale, cell_bits, a, .. } =
                get(&program.tables, table.index(), "table").map(|t| &t.table)?
            else {
                return fault(Code::Table, "not a table of cells");
            };
            window(x, a.len(), *cell_bits)?;
            shared(*width, *scale, x.shape.clone())
        }
        Op::Lift { x, width } => shared(*width, claimed(opened(x)?)?.scale, opened(x)?.shape.clone()),
        Op::Square { x, width } => {
            let x = claimed(opened(x)?)?;
            shared(*width, scale_sum(x.scale, x.scale)?, x.shape.clone())
        }
        Op::SumSquares { x, width } => {
            let x = claimed(opened(x)?)?;
            let Some(last) = x.shape.rank().checked_sub(1) else {
                return fault(Code::Shape, "a scalar has no last axis");
            };
            shared(*width, scale_sum(x.scale, x.scale)?, with_dim(&x.shape, last as u32, 1))
        }
        Op::Mul { x, y, width } => {
            let (x, y) = (claimed_or_cut(opened(x)?, *width)?, claimed_or_cut(opened(y)?, *width)?);
            shared(*width, scale_sum(x.scale, y.scale)?, broadcast(&x.shape, &y.shape)?)
        }
        Op::Sddmm { x, y, pattern: table } => {
            let (x, y, (p, kept)) = (whole(opened(x)?)?, whole(opened(y)?)?, pattern(program, *table)?);
            let ([batch @ .., rows, k], [batch_y @ .., columns, k_y]) = (&x.shape.0[..], &y.shape.0[..]) else {
                return fault(Code::Shape, format!("no product of {} and {}: a matrix has two axes", x.shape, y.shape));
            };
            equal_batches(batch, batch_y)?;
            equal_dims("inner axis of x", *k, "of y", *k_y)?;
            equal_dims("rows of x", *rows, "of the pattern", p.rows.len() as u32)?;
            equal_dims("rows of y", *columns, "columns of the pattern", p.columns)?;
            shared(x.width.min(y.width), scale_sum(x.scale, y.scale)?, append(batch, &[kept]))
        }
        Op::Spmm { x, y, pattern: table } => {
            let (x, y, (p, kept)) = (opened(x)?, whole(opened(y)?)?, pattern(program, *table)?);
            let ([batch @ .., packed], [batch_y @ .., columns, k]) = (&x.shape.0[..], &y.shape.0[..]) else {
                return fault(Code::Shape, format!("no product of {} and {}: too few axes", x.shape, y.shape));
            };
            equal_batches(batch, batch_y)?;
            equal_dims("last axis of x", *packed, "kept elements", kept)?;
            equal_dims("rows of y", *columns, "columns of the pattern", p.columns)?;
            let width = if x.is_whole() { x.width.min(y.width) } else { y.width };
            shared(width, scale_sum(x.scale, y.scale)?, append(batch, &[p.rows.len() as u32, *k]))
        }
        Op::Series { x, table, width } => {
            let x = opened(x)?;
            let Table::Series { period_log2, public_scale, dealt_scale, .. } =
                get(&program.tables, table.index(), "table").map(|t| &t.table)?
            else {
                return fault(Code::Table, "not a series");
            };
            let needed = i32::from(*period_log2) + i32::from(x.scale);
            if needed > i32::from(x.width) {
                return Err(Fault::new(
                    Code::Width,
                    format!(
                        "a period of 2^{period_log2} at scale {} is {needed} bits, the opening has {}",
                        x.scale, x.width
                    ),
                )
                .help(format!("open at width {needed} or more")));
            }
            if !(i32::from(MIN_SERIES_WIDTH)..=i32::from(MAX_SERIES_WIDTH)).contains(&needed) {
                return fault(
                    Code::Width,
                    format!("a series reads {MIN_SERIES_WIDTH} ..= {MAX_SERIES_WIDTH} bits, a period has {needed}"),
                );
            }
            shared(*width, i16::from(*public_scale) + i16::from(*dealt_scale), x.shape.clone())
        }
        Op::Spline { x, table, width, ends } => {
            let x = claimed(opened(x)?)?;
            let Table::Spline { scale, knots, .. } = get(&program.tables, table.index(), "table").map(|t| &t.table)?
            else {
                return fault(Code::Table, "not a spline");
            };
            let reach = 1i64 << (x.width - 2);
            if let Some(knot) = knots.iter().find(|k| !(-reach..reach).contains(*k)) {
                return Err(Fault::new(
                    Code::Table,
                    format!("knot {knot} is outside the claim |x| < 2^{} of the opening", x.width - 2),
                )
                .help("open at a greater width, or drop the knots that no value reaches"));
            }
            if *ends && knots.len() < 2 {
                return fault(Code::Table, "between the ends lies nothing: the table has one knot");
            }
            shared(*width, *scale, if *ends { append(&x.shape.0, &[2]) } else { x.shape.clone() })
        }
        Op::Ge { x, table, width } => {
            let x = opened(x)?;
            let Table::Thresholds(thresholds) = get(&program.tables, table.index(), "table").map(|t| &t.table)? else {
                return fault(Code::Table, "not a table of thresholds");
            };
            if x.width < 2 {
                return fault(Code::Width, "a comparison reads the bits below the top one, the opening has 1 bit");
            }
            // The comparison is right while x - t fits the opening's ring.
            let (reach, room) = match x.kind {
                Kind::Opened { whole: true } => ((1i64 << (x.width - 1)) - 1, x.width - 1),
                _ => (1i64 << (x.width - 2), x.width - 2),
            };
            if let Some(t) = thresholds.iter().find(|t| !(-reach..=reach).contains(*t)) {
                return Err(Fault::new(
                    Code::Table,
                    format!("threshold {t} is beyond 2^{room}: the comparison would wrap"),
                )
                .help("open at a greater width"));
            }
            shared(*width, 0, append(&x.shape.0, &[thresholds.len() as u32]))
        }
        Op::Select { d, y, width } => {
            let (d, y) = (opened(d)?, whole(opened(y)?)?);
            if d.width < 2 {
                return fault(Code::Width, "a comparison reads the bits below the top one, the opening has 1 bit");
            }
            let Some((&components, batch)) = y.shape.0.split_last() else {
                return fault(Code::Shape, "a scalar has no components to select");
            };
            equal_batches(&d.shape.0, batch)?;
            if components > MAX_SELECTED {
                return fault(Code::Shape, format!("{components} components to select, at most {MAX_SELECTED}"));
            }
            if *width > y.width {
                return Err(Fault::new(Code::Width, format!("{width} bits of an opening of {}", y.width))
                    .help("open at the width of the result"));
            }
            shared(*width, y.scale, y.shape.clone())
        }
        Op::Cache { x, state, capacity } => {
            let (x, state) = (whole(opened(x)?)?, get(&program.states, state.index(), "state")?);
            let [.., rows, _] = x.shape.0[..] else {
                return fault(Code::Shape, format!("{} has no rows to append", x.shape));
            };
            if state.opening(rows).as_ref() != Some(x) {
                let fault = Fault::new(
                    mismatch(state, x),
                    format!(
                        "{x} is not made of rows of state {:?}: <{}.{}>{}",
                        state.name, state.width, state.scale, state.row
                    ),
                );
                return Err(fault.help("open at the state's width, all axes but the last two those of a row block"));
            }
            if *capacity < rows {
                return fault(Code::Shape, format!("{rows} rows do not fit a capacity of {capacity}"));
            }
            Type { shape: with_dim(&x.shape, x.shape.rank() as u32 - 2, *capacity), ..x.clone() }
        }
        Op::Reveal { x, output, .. } => {
            let x = share(x)?;
            let Some(output) = program.outputs.get(output.index()) else {
                return fault(Code::Policy, format!("output {} is not declared", output.0));
            };
            if x.shape.elements() != output.shape.elements() {
                return fault(
                    Code::Shape,
                    format!("output {:?} has shape {}, the value {}", output.name, output.shape, x.shape),
                );
            }
            return Ok(None);
        }
        Op::Choose { x, output } => {
            let x = claimed(opened(x)?)?;
            let count = x.shape.elements().unwrap_or(u64::MAX);
            if !(1..=MAX_CHOSEN).contains(&count) {
                return fault(Code::Shape, format!("one of {count} numbers is chosen, at most of {MAX_CHOSEN}"));
            }
            if x.width > choose::MAX_OPENING {
                let message =
                    format!("numbers opened at {} bits, at most {} can be compared", x.width, choose::MAX_OPENING);
                return Err(Fault::new(Code::Width, message).help("take them at a lower scale"));
            }
            let output = get(&program.outputs, output.index(), "output")?;
            if output.shape.elements() != Some(1) {
                let message = format!("output {:?} has shape {}, a place is one number", output.name, output.shape);
                return fault(Code::Shape, message);
            }
            return Ok(None);
        }
    };
    Ok(Some(ty))
}

/// Greatest count of numbers that one is chosen of.
pub(crate) const MAX_CHOSEN: u64 = 1 << 20;

fn fault<T>(code: Code, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::new(code, message))
}

/// Element `index` of one of the program's lists.
pub(crate) fn get<'a, T>(list: &'a [T], index: usize, what: &str) -> Result<&'a T, Fault> {
    list.get(index).ok_or_else(|| {
        Fault::new(Code::Undefined, format!("there is no {what} {index}: the program has {}", list.len()))
    })
}

fn value(program: &Program, v: Value) -> Result<&Type, Fault> {
    get(&program.instrs, v.index(), "value")?
        .ty
        .as_ref()
        .ok_or_else(|| Fault::new(Code::Undefined, format!("instruction {} has no result", v.0)))
}

fn share(program: &Program, v: Value) -> Result<&Type, Fault> {
    match value(program, v)? {
        ty @ Type { kind: Kind::Share, .. } => Ok(ty),
        _ => Err(Fault::new(Code::Kind, format!("o{} is an opening, not a share", v.0)).help("read it with `lift`")),
    }
}

fn opened(program: &Program, v: Value) -> Result<&Type, Fault> {
    match value(program, v)? {
        ty @ Type { kind: Kind::Opened { .. }, .. } => Ok(ty),
        _ => Err(Fault::new(Code::Kind, format!("v{} is a share, not an opening", v.0)).help("`open` it first")),
    }
}

fn claimed(ty: &Type) -> Result<&Type, Fault> {
    match ty.kind {
        Kind::Opened { whole: false } => Ok(ty),
        _ => Err(Fault::new(Code::Kind, "the operand was opened whole: this read needs the spare bit")
            .help("open it without `whole`, at least 2 bits wider than its greatest absolute value")),
    }
}

/// An opening for a product mod 2^width: with a claim, or whole and no narrower than the product, so that nothing above
/// its own ring counts.
fn claimed_or_cut(ty: &Type, width: Width) -> Result<&Type, Fault> {
    if ty.width >= width { Ok(ty) } else { claimed(ty) }
}

fn whole(ty: &Type) -> Result<&Type, Fault> {
    match ty.kind {
        Kind::Opened { whole: true } => Ok(ty),
        _ => Err(Fault::new(Code::Kind, "the operand was opened with a claim: this read needs it whole")
            .help("open it with `whole`, at the width of the result")),
    }
}

/// Checks that an opening has the bits of a table of `cells` cells of 2^`cell_bits`.
fn window(x: &Type, cells: usize, cell_bits: u8) -> Result<(), Fault> {
    // A table is checked by itself, but perhaps later.
    let Some(number) = cells.checked_ilog2() else { return fault(Code::Table, "a table without cells") };
    let needed = number + u32::from(cell_bits);
    if needed > u32::from(x.width) {
        let message = format!("{cells} cells of 2^{cell_bits} are {needed} bits, the opening has {}", x.width);
        return Err(Fault::new(Code::Width, message).help(format!("open at width {needed} or more")));
    }
    Ok(())
}

fn shared(width: Width, scale: Scale, shape: Shape) -> Type {
    Type { kind: Kind::Share, width, scale, shape }
}

fn width(width: Width) -> Result<(), Fault> {
    if (1..=MAX_WIDTH).contains(&width) {
        Ok(())
    } else {
        fault(Code::Width, format!("width {width} is not in 1 ..= {MAX_WIDTH}"))
    }
}

fn scale_sum(a: Scale, b: Scale) -> Result<Scale, Fault> {
    a.checked_add(b).ok_or_else(|| Fault::new(Code::Scale, format!("scale {a} + {b} overflows 16 bits")))
}

fn equal_scales(x: Scale, y: Scale) -> Result<(), Fault> {
    if x == y {
        return Ok(());
    }
    Err(Fault::new(Code::Scale, format!("scales {x} and {y} differ"))
        .help("bring one to the other's with `up` or `down`"))
}

/// Checks that a public number is an index of `count` things.
fn bounded(index: &Public, count: u32, what: std::fmt::Arguments<'_>) -> Result<(), Fault> {
    if index.bound <= count {
        return Ok(());
    }
    fault(Code::Shape, format!("public {:?} < {} can exceed {what}", index.name, index.bound))
}

/// Which rule an opening breaks that is not made of a state's rows.
fn mismatch(state: &State, x: &Type) -> Code {
    match x {
        _ if x.width != state.width => Code::Width,
        _ if x.scale != state.scale => Code::Scale,
        _ => Code::Shape,
    }
}

fn equal_dims(what: &str, a: u32, other: &str, b: u32) -> Result<(), Fault> {
    if a == b { Ok(()) } else { fault(Code::Shape, format!("{what}: {a}, {other}: {b}; they must be equal")) }
}

fn equal_batches(a: &[u32], b: &[u32]) -> Result<(), Fault> {
    if a == b {
        return Ok(());
    }
    fault(Code::Shape, format!("leading axes {} and {} differ", Shape(a.to_vec()), Shape(b.to_vec())))
}

fn broadcast(x: &Shape, y: &Shape) -> Result<Shape, Fault> {
    x.broadcast(y).ok_or_else(|| Fault::new(Code::Shape, format!("{x} and {y} do not broadcast")))
}

fn broadcast_into(small: &Shape, x: &Shape) -> Result<(), Fault> {
    if small.broadcast(x).as_ref() == Some(x) {
        return Ok(());
    }
    fault(Code::Shape, format!("{small} does not broadcast to {x}"))
}

fn dim(shape: &Shape, axis: u32) -> Result<u32, Fault> {
    shape.0.get(axis as usize).copied().ok_or_else(|| Fault::new(Code::Shape, format!("{shape} has no axis {axis}")))
}

fn with_dim(shape: &Shape, axis: u32, size: u32) -> Shape {
    let mut shape = shape.clone();
    shape.0[axis as usize] = size;
    shape
}

fn append(dims: &[u32], more: &[u32]) -> Shape {
    Shape([dims, more].concat())
}

/// Scale of a constant that broadcasts to the shape of `x`. Its values count mod 2^width, like everything else: a value
/// that only a low part of is read needs no room for its constants.
fn constant_into(program: &Program, table: TableId, x: &Type) -> Result<Scale, Fault> {
    let (scale, shape) = constant(program, table)?;
    broadcast_into(shape, &x.shape)?;
    Ok(scale)
}

/// Scale and shape of a constant.
fn constant(program: &Program, table: TableId) -> Result<(Scale, &Shape), Fault> {
    match &get(&program.tables, table.index(), "table")?.table {
        Table::Const { scale, shape, .. } => Ok((*scale, shape)),
        _ => fault(Code::Table, "not a constant"),
    }
}

/// Checks that every row of a matrix, of which a public number picks one, is as long as the last axis of x.
fn row(program: &Program, matrix: &Shape, index: PublicId, x: &Shape) -> Result<(), Fault> {
    let index = get(&program.publics, index.index(), "public")?;
    let (Some(&last), [rows, d]) = (x.0.last(), &matrix.0[..]) else {
        return fault(Code::Shape, format!("{matrix} has no row for {x}"));
    };
    equal_dims("last axis", last, "columns", *d)?;
    bounded(index, *rows, format_args!("rows of {matrix}"))
}

/// A pattern and its number of kept elements.
fn pattern(program: &Program, table: TableId) -> Result<(&Pattern, u32), Fault> {
    let Table::Pattern(pattern) = &get(&program.tables, table.index(), "table")?.table else {
        return fault(Code::Table, "not a pattern");
    };
    let kept = u32::try_from(pattern.kept())
        .map_err(|_| Fault::new(Code::Table, "the pattern keeps more elements than 32 bits count"))?;
    if pattern.rows.len() > u32::MAX as usize {
        return fault(Code::Table, "the pattern has more rows than 32 bits count");
    }
    Ok((pattern, kept))
}
