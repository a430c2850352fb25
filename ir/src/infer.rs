//! The type of an instruction's result, from its operands: what the families of `crate::ops` ask of kinds, widths, scales, shapes and
//! tables.
//!
//! Sizes stay below [`MAX_ELEMENTS`] elements and [`MAX_RANK`] dimensions, so that no later count of bits overflows.

use crate::dcf::MAX_COMPONENTS;
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
    let ty = op.infer(program)?;
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

/// Greatest count of numbers that one is chosen of.
pub(crate) const MAX_CHOSEN: u64 = 1 << 20;

pub(crate) fn fault<T>(code: Code, message: impl Into<String>) -> Result<T, Fault> {
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

pub(crate) fn share(program: &Program, v: Value) -> Result<&Type, Fault> {
    match value(program, v)? {
        ty @ Type { kind: Kind::Share, .. } => Ok(ty),
        _ => Err(Fault::new(Code::Kind, format!("o{} is an opening, not a share", v.0)).help("read it with `lift`")),
    }
}

pub(crate) fn opened(program: &Program, v: Value) -> Result<&Type, Fault> {
    match value(program, v)? {
        ty @ Type { kind: Kind::Opened { .. }, .. } => Ok(ty),
        _ => Err(Fault::new(Code::Kind, format!("v{} is a share, not an opening", v.0)).help("`open` it first")),
    }
}

pub(crate) fn claimed(ty: &Type) -> Result<&Type, Fault> {
    match ty.kind {
        Kind::Opened { whole: false } => Ok(ty),
        _ => Err(Fault::new(Code::Kind, "the operand was opened whole: this read needs the spare bit")
            .help("open it without `whole`, at least 2 bits wider than its greatest absolute value")),
    }
}

/// An opening for a product mod 2^width: with a claim, or whole and no narrower than the product, so that nothing above
/// its own ring counts.
pub(crate) fn claimed_or_cut(ty: &Type, width: Width) -> Result<&Type, Fault> {
    if ty.width >= width { Ok(ty) } else { claimed(ty) }
}

pub(crate) fn whole(ty: &Type) -> Result<&Type, Fault> {
    match ty.kind {
        Kind::Opened { whole: true } => Ok(ty),
        _ => Err(Fault::new(Code::Kind, "the operand was opened with a claim: this read needs it whole")
            .help("open it with `whole`, at the width of the result")),
    }
}

/// Checks that an opening has the bits of a table of `cells` cells of 2^`cell_bits`.
pub(crate) fn window(x: &Type, cells: usize, cell_bits: u8) -> Result<(), Fault> {
    // A table is checked by itself, but perhaps later.
    let Some(number) = cells.checked_ilog2() else { return fault(Code::Table, "a table without cells") };
    let needed = number + u32::from(cell_bits);
    if needed > u32::from(x.width) {
        let message = format!("{cells} cells of 2^{cell_bits} are {needed} bits, the opening has {}", x.width);
        return Err(Fault::new(Code::Width, message).help(format!("open at width {needed} or more")));
    }
    Ok(())
}

pub(crate) fn shared(width: Width, scale: Scale, shape: Shape) -> Type {
    Type { kind: Kind::Share, width, scale, shape }
}

fn width(width: Width) -> Result<(), Fault> {
    if (1..=MAX_WIDTH).contains(&width) {
        Ok(())
    } else {
        fault(Code::Width, format!("width {width} is not in 1 ..= {MAX_WIDTH}"))
    }
}

pub(crate) fn scale_sum(a: Scale, b: Scale) -> Result<Scale, Fault> {
    a.checked_add(b).ok_or_else(|| Fault::new(Code::Scale, format!("scale {a} + {b} overflows 16 bits")))
}

pub(crate) fn equal_scales(x: Scale, y: Scale) -> Result<(), Fault> {
    if x == y {
        return Ok(());
    }
    Err(Fault::new(Code::Scale, format!("scales {x} and {y} differ"))
        .help("bring one to the other's with `up` or `down`"))
}

/// Checks that a public number is an index of `count` things.
pub(crate) fn bounded(index: &Public, count: u32, what: std::fmt::Arguments<'_>) -> Result<(), Fault> {
    if index.bound <= count {
        return Ok(());
    }
    fault(Code::Shape, format!("public {:?} < {} can exceed {what}", index.name, index.bound))
}

/// Which rule an opening breaks that is not made of a state's rows.
pub(crate) fn mismatch(state: &State, x: &Type) -> Code {
    match x {
        _ if x.width != state.width => Code::Width,
        _ if x.scale != state.scale => Code::Scale,
        _ => Code::Shape,
    }
}

pub(crate) fn equal_dims(what: &str, a: u32, other: &str, b: u32) -> Result<(), Fault> {
    if a == b { Ok(()) } else { fault(Code::Shape, format!("{what}: {a}, {other}: {b}; they must be equal")) }
}

pub(crate) fn equal_batches(a: &[u32], b: &[u32]) -> Result<(), Fault> {
    if a == b {
        return Ok(());
    }
    fault(Code::Shape, format!("leading axes {} and {} differ", Shape(a.to_vec()), Shape(b.to_vec())))
}

pub(crate) fn broadcast(x: &Shape, y: &Shape) -> Result<Shape, Fault> {
    x.broadcast(y).ok_or_else(|| Fault::new(Code::Shape, format!("{x} and {y} do not broadcast")))
}

pub(crate) fn broadcast_into(small: &Shape, x: &Shape) -> Result<(), Fault> {
    if small.broadcast(x).as_ref() == Some(x) {
        return Ok(());
    }
    fault(Code::Shape, format!("{small} does not broadcast to {x}"))
}

pub(crate) fn dim(shape: &Shape, axis: u32) -> Result<u32, Fault> {
    shape.0.get(axis as usize).copied().ok_or_else(|| Fault::new(Code::Shape, format!("{shape} has no axis {axis}")))
}

pub(crate) fn with_dim(shape: &Shape, axis: u32, size: u32) -> Shape {
    let mut shape = shape.clone();
    shape.0[axis as usize] = size;
    shape
}

pub(crate) fn append(dims: &[u32], more: &[u32]) -> Shape {
    Shape([dims, more].concat())
}

/// Scale of a constant that broadcasts to the shape of `x`. Its values count mod 2^width, like everything else: a value
/// that only a low part of is read needs no room for its constants.
pub(crate) fn constant_into(program: &Program, table: TableId, x: &Type) -> Result<Scale, Fault> {
    let (scale, shape) = constant(program, table)?;
    broadcast_into(shape, &x.shape)?;
    Ok(scale)
}

/// Scale and shape of a constant.
pub(crate) fn constant(program: &Program, table: TableId) -> Result<(Scale, &Shape), Fault> {
    match &get(&program.tables, table.index(), "table")?.table {
        Table::Const { scale, shape, .. } => Ok((*scale, shape)),
        _ => fault(Code::Table, "not a constant"),
    }
}

/// Checks that every row of a matrix, of which a public number picks one, is as long as the last axis of x.
pub(crate) fn row(program: &Program, matrix: &Shape, index: PublicId, x: &Shape) -> Result<(), Fault> {
    let index = get(&program.publics, index.index(), "public")?;
    let (Some(&last), [rows, d]) = (x.0.last(), &matrix.0[..]) else {
        return fault(Code::Shape, format!("{matrix} has no row for {x}"));
    };
    equal_dims("last axis", last, "columns", *d)?;
    bounded(index, *rows, format_args!("rows of {matrix}"))
}

/// A pattern and its number of kept elements.
pub(crate) fn pattern(program: &Program, table: TableId) -> Result<(&Pattern, u32), Fault> {
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
