//! Parts of tensors, by public places.

use std::collections::HashMap;

use super::{Call, Handler, One, Results, Writer, axes_of, axis_of, dimension, fold, size};
use crate::graph::kernel::{View, from_vec};
use crate::graph::{DType, Op, Tensor};
use crate::onnx::build::{Builder, Value};
use crate::onnx::public;

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Gather", gather),
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd),
    ("ScatterElements", scatter_elements),
    ("Scatter", scatter_elements),
    ("ScatterND", scatter_nd),
    ("TensorScatter", tensor_scatter),
    ("Compress", compress),
    ("ReverseSequence", reverse_sequence),
    ("Concat", concat),
    ("Split", split),
    ("Slice", slice),
    ("Pad", pad),
    ("Trilu", trilu),
    ("NonZero", |b, c| fold(b, c, 1, |v| public::non_zero(&v[0]))),
];

/// Pieces that one node may be cut into.
const MAX_PIECES: usize = 1 << 12;

/// How often a reduction may name one place: each time is a copy of the whole tensor.
const MAX_LAYERS: usize = 1 << 8;

fn gather(b: &mut Builder, c: &Call) -> Results {
    let (data, ids) = (c.operand(0)?, c.operand(1)?);
    let data_shape = b.shape(data);
    let axis = axis_of(c.int("axis", 0), data_shape.len())?;
    if data.view().is_some() || ids.view().is_none() {
        return Ok(vec![b.apply(c.origin, Op::Gather { axis }, &[data.clone(), ids.clone()])?]);
    }
    // Known places of a secret tensor.
    let ids_shape = b.shape(ids);
    let ids = places(&c.integers(1)?, data_shape[axis])?;
    let mut w = c.write(b);
    let taken = take(&mut w, data, axis, &ids)?;
    Ok(vec![w.reshape(&taken, &[&data_shape[..axis], &ids_shape, &data_shape[axis + 1..]].concat())?])
}

/// Indices from the start; negative ones count from the end.
fn places(ids: &[i64], size: usize) -> Result<Vec<i64>, String> {
    ids.iter().map(|&i| place(i, size).map(|i| i as i64)).collect()
}

fn place(index: i64, size: usize) -> Result<usize, String> {
    let from_start = if index < 0 { index.saturating_add(size as i64) } else { index };
    let inside = usize::try_from(from_start).ok().filter(|&i| i < size);
    inside.ok_or_else(|| format!("an index is outside a dimension of {size}"))
}

/// Known places along an axis. Runs at equal distances are slices.
pub(super) fn take(w: &mut Writer, x: &Value, axis: usize, ids: &[i64]) -> One {
    if x.view().is_some() {
        return w.op(Op::Gather { axis }, &[x, &Value::integers(ids.to_vec())]);
    }
    let ids: Vec<usize> = places(ids, w.shape(x)[axis])?.into_iter().map(|i| i as usize).collect();
    let mut parts = Vec::new();
    let mut at = 0;
    while at < ids.len() {
        let step = ids.get(at + 1).map_or(1, |&next| next as i64 - ids[at] as i64);
        // Places that fall are taken one by one, so the length of their run is not looked for.
        let steps = |pair: &[usize]| step >= 0 && pair[1] as i64 - pair[0] as i64 == step;
        let run = ids[at..].windows(2).take_while(|pair| steps(pair)).count() + 1;
        let (part, length) = match step {
            1 => (w.slice(x, axis, ids[at], ids[at] + run)?, run),
            0 => {
                let one = w.slice(x, axis, ids[at], ids[at] + 1)?;
                let mut shape = w.shape(&one);
                shape[axis] = run;
                (w.expand(&one, &shape)?, run)
            }
            2.. if run > 2 => (every(w, x, axis, ids[at], run, step as usize)?, run),
            _ => (w.slice(x, axis, ids[at], ids[at] + 1)?, 1),
        };
        parts.push(part);
        at += length;
        if parts.len() > MAX_PIECES {
            return Err(format!("its places are scattered: more than {MAX_PIECES} pieces"));
        }
    }
    match parts.is_empty() {
        true => w.slice(x, axis, 0, 0),
        false => w.concat(axis, &parts),
    }
}

/// Elements at equal distances: the first, or the last, of blocks.
pub(super) fn every(w: &mut Writer, x: &Value, axis: usize, from: usize, count: usize, step: usize) -> One {
    let shape = w.shape(x);
    let (start, pick) = match () {
        () if step == 1 => return w.slice(x, axis, from, from + count),
        () if from + count * step <= shape[axis] => (from, 0),
        () if from + 1 >= step => (from + 1 - step, step - 1),
        () => {
            let last = from + (count - 1) * step;
            let last = w.slice(x, axis, last, last + 1)?;
            if count == 1 {
                return Ok(last);
            }
            let rest = every(w, x, axis, from, count - 1, step)?;
            return w.concat(axis, &[rest, last]);
        }
    };
    let x = w.slice(x, axis, start, start + count * step)?;
    let x = w.reshape(&x, &[&shape[..axis], &[count, step], &shape[axis + 1..]].concat())?;
    let x = w.slice(&x, axis + 1, pick, pick + 1)?;
    w.reshape(&x, &[&shape[..axis], &[count], &shape[axis + 1..]].concat())
}

/// Places in the tensor as one row, for each index along `axis`.
fn element_places(shape: &[usize], ids_shape: &[usize], ids: &[i64], axis: usize) -> Result<Vec<i64>, String> {
    let fits = shape.len() == ids_shape.len() && (0..shape.len()).all(|a| a == axis || ids_shape[a] <= shape[a]);
    if !fits {
        return Err(format!("indices of shape {ids_shape:?} do not fit {shape:?}"));
    }
    ids.iter()
        .enumerate()
        .map(|(at, &id)| {
            let mut rest = at;
            let mut index: Vec<usize> = ids_shape.iter().rev().map(|&d| (rest % d, rest /= d).0).collect();
            index.reverse();
            index[axis] = place(id, shape[axis])?;
            Ok(index.iter().zip(shape).fold(0, |at, (&i, &d)| at * d + i) as i64)
        })
        .collect()
}

fn gather_elements(b: &mut Builder, c: &Call) -> Results {
    let (data, ids) = (c.operand(0)?, c.operand(1)?);
    let (shape, ids_shape) = (b.shape(data), b.shape(ids));
    let axis = axis_of(c.int("axis", 0), shape.len())?;
    let places = element_places(&shape, &ids_shape, &c.integers(1)?, axis)?;
    let mut w = c.write(b);
    let flat = w.reshape(data, &[size(&shape)])?;
    let taken = take(&mut w, &flat, 0, &places)?;
    Ok(vec![w.reshape(&taken, &ids_shape)?])
}

/// For each index of the last axis, the place of a block; `batch` axes come before what is indexed.
fn block_places(
    shape: &[usize],
    ids_shape: &[usize],
    ids: &[i64],
    batch: usize,
) -> Result<(Vec<usize>, usize), String> {
    let depth = *ids_shape.last().ok_or("its indices have no dimension")?;
    if batch + depth > shape.len() || batch >= ids_shape.len() || ids_shape[..batch] != shape[..batch] {
        return Err(format!("indices of shape {ids_shape:?} do not fit {shape:?}"));
    }
    let count = size(&ids_shape[..ids_shape.len() - 1]);
    // Indices of no elements may claim any number of blocks.
    public::check_made(count, ids.len().max(public::MAX_MADE))?;
    let per_batch = size(&ids_shape[batch..ids_shape.len() - 1]);
    let found: Result<Vec<usize>, String> = (0..count)
        .map(|n| {
            let index = &ids[n * depth..(n + 1) * depth];
            let inside =
                index.iter().zip(&shape[batch..]).try_fold(0, |at, (&i, &d)| Ok::<_, String>(at * d + place(i, d)?));
            Ok(n / per_batch * size(&shape[batch..batch + depth]) + inside?)
        })
        .collect();
    Ok((found?, batch + depth))
}

fn gather_nd(b: &mut Builder, c: &Call) -> Results {
    let (data, ids) = (c.operand(0)?, c.operand(1)?);
    let (shape, ids_shape) = (b.shape(data), b.shape(ids));
    let batch = dimension(c.int("batch_dims", 0))?;
    let (places, depth) = block_places(&shape, &ids_shape, &c.integers(1)?, batch)?;
    let places: Vec<i64> = places.into_iter().map(|p| p as i64).collect();
    let mut w = c.write(b);
    let blocks = w.reshape(data, &[size(&shape[..depth]), size(&shape[depth..])])?;
    let taken = take(&mut w, &blocks, 0, &places)?;
    Ok(vec![w.reshape(&taken, &[&ids_shape[..ids_shape.len() - 1], &shape[depth..]].concat())?])
}

/// Blocks of `data` in known places are replaced by blocks of `updates`, or combined with them. Where a place is named
/// several times, its updates come one after another.
fn scatter(w: &mut Writer, data: &Value, updates: &Value, places: &[usize], block: usize, reduction: &str) -> One {
    let shape = w.shape(data);
    let (rows, count) = (size(&shape) / block.max(1), places.len());
    let mut data = w.reshape(data, &[rows, block])?;
    let updates = w.reshape(updates, &[count, block])?;
    let mut left: Vec<usize> = (0..count).collect();
    let mut layers = 0;
    while !left.is_empty() {
        layers += 1;
        if layers > MAX_LAYERS {
            return Err(format!("a place is named more than {MAX_LAYERS} times"));
        }
        let mut layer: HashMap<usize, usize> = HashMap::new();
        let mut later = Vec::new();
        for n in left {
            match reduction {
                // The last one stands.
                "none" => drop(layer.insert(places[n], n)),
                _ if layer.contains_key(&places[n]) => later.push(n),
                _ => drop(layer.insert(places[n], n)),
            }
        }
        left = later;
        let mut order: Vec<(usize, usize)> = layer.into_iter().collect();
        order.sort_unstable();
        let (at, from): (Vec<i64>, Vec<i64>) = order.iter().map(|&(p, n)| (p as i64, n as i64)).unzip();
        let new = take(w, &updates, 0, &from)?;
        let new = match reduction {
            "none" => new,
            _ => {
                let old = take(w, &data, 0, &at)?;
                match reduction {
                    "add" => w.add(&old, &new)?,
                    "mul" => w.mul(&old, &new)?,
                    "max" => super::arithmetic::extreme(w, &old, &new, true)?,
                    "min" => super::arithmetic::extreme(w, &old, &new, false)?,
                    _ => return Err("its `reduction` is not known".into()),
                }
            }
        };
        let mut ids: Vec<i64> = (0..w.b.make(&[rows])? as i64).collect();
        order.iter().enumerate().for_each(|(n, &(p, _))| ids[p] = (rows + n) as i64);
        let both = w.concat(0, &[data, new])?;
        data = take(w, &both, 0, &ids)?;
    }
    w.reshape(&data, &shape)
}

fn scatter_elements(b: &mut Builder, c: &Call) -> Results {
    let (data, ids, updates) = (c.operand(0)?, c.operand(1)?, c.operand(2)?);
    let (shape, ids_shape) = (b.shape(data), b.shape(ids));
    if b.shape(updates) != ids_shape {
        return Err("its updates and its indices differ in shape".into());
    }
    let axis = axis_of(c.int("axis", 0), shape.len())?;
    let places = element_places(&shape, &ids_shape, &c.integers(1)?, axis)?;
    let places: Vec<usize> = places.into_iter().map(|p| p as usize).collect();
    Ok(vec![scatter(&mut c.write(b), data, updates, &places, 1, c.text("reduction", "none")?)?])
}

fn scatter_nd(b: &mut Builder, c: &Call) -> Results {
    let (data, ids, updates) = (c.operand(0)?, c.operand(1)?, c.operand(2)?);
    let reduction = c.text("reduction", "none")?;
    if reduction == "none" && [data, updates].iter().all(|v| matches!(v, Value::Public(_))) {
        return fold(b, c, 3, |v| public::scatter_nd(&v[0], &v[1], &v[2]));
    }
    let (shape, ids_shape) = (b.shape(data), b.shape(ids));
    let (places, depth) = block_places(&shape, &ids_shape, &c.integers(1)?, 0)?;
    if b.shape(updates) != [&ids_shape[..ids_shape.len() - 1], &shape[depth..]].concat() {
        return Err("its updates do not fit its indices and data".into());
    }
    Ok(vec![scatter(&mut c.write(b), data, updates, &places, size(&shape[depth..]), reduction)?])
}

/// New rows in a cache, from a place on that each batch element has.
fn tensor_scatter(b: &mut Builder, c: &Call) -> Results {
    let (cache, new) = (c.operand(0)?, c.operand(1)?);
    let (shape, new_shape) = (b.shape(cache), b.shape(new));
    let axis = axis_of(c.int("axis", -2), shape.len())?;
    if axis == 0 || (0..shape.len()).any(|a| a != axis && new_shape.get(a) != Some(&shape[a])) {
        return Err("its update does not fit its cache".into());
    }
    let starts = match c.optional(2) {
        Some(_) => c.integers(2)?,
        None => vec![0; shape[0].min(MAX_PIECES + 1)],
    };
    if starts.len() > MAX_PIECES || starts.len() != shape[0] || new_shape.len() != shape.len() {
        return Err(format!("its starts do not fit a batch of {}", shape[0]));
    }
    let circular = c.text("mode", "linear")? == "circular";
    let mut w = c.write(b);
    let mut parts = Vec::new();
    for (n, &start) in starts.iter().enumerate() {
        let (old, new) = (w.slice(cache, 0, n, n + 1)?, w.slice(new, 0, n, n + 1)?);
        let both = w.concat(axis, &[old, new])?;
        let mut ids: Vec<i64> = (0..w.b.make(&shape[axis..=axis])? as i64).collect();
        for i in 0..new_shape[axis] {
            let at = start.saturating_add(i as i64);
            if at < 0 {
                return Err("a start is negative".into());
            }
            let at = if circular { at.rem_euclid(shape[axis].max(1) as i64) } else { at };
            ids[place(at, shape[axis])?] = (shape[axis] + i) as i64;
        }
        parts.push(take(&mut w, &both, axis, &ids)?);
    }
    Ok(vec![w.concat(0, &parts)?])
}

/// What is empty adds nothing: a cache of keys and values before the first token.
fn concat(b: &mut Builder, c: &Call) -> Results {
    let operands = (0..c.operands.len()).map(|i| c.operand(i).cloned()).collect::<Result<Vec<_>, _>>()?;
    let rank = b.shape(c.operand(0)?).len();
    let axis = axis_of(c.attribute("axis").and_then(|a| a.i).ok_or("its axis is missing")?, rank)?;
    Ok(vec![c.write(b).concat(axis, &operands)?])
}

fn split(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let shape = b.shape(x);
    let axis = axis_of(c.int("axis", 0), shape.len())?;
    let sizes = match c.moved("split", 1, 13)? {
        Some(sizes) if sizes.len() != c.node.output.len() => {
            return Err(format!("it names {} parts and has {} results", sizes.len(), c.node.output.len()));
        }
        Some(sizes) => sizes.into_iter().map(dimension).collect::<Result<Vec<_>, _>>()?,
        None => {
            let parts = c.node.output.len();
            let part = shape[axis].div_ceil(parts.max(1));
            (0..parts).map(|i| part.min(shape[axis].saturating_sub(i * part))).collect()
        }
    };
    if sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s)) != Some(shape[axis]) {
        return Err(format!("parts {sizes:?} do not make up dimension {}", shape[axis]));
    }
    let mut w = c.write(b);
    let mut from = 0;
    let mut parts = Vec::new();
    for size in sizes {
        parts.push(w.slice(x, axis, from, from + size)?);
        from += size;
    }
    Ok(parts)
}

fn slice(b: &mut Builder, c: &Call) -> Results {
    let mut x = c.operand(0)?.clone();
    let rank = b.shape(&x).len();
    let starts = c.moved("starts", 1, 10)?.ok_or("its starts are missing")?;
    let ends = c.moved("ends", 2, 10)?.ok_or("its ends are missing")?;
    let axes = c.moved("axes", 3, 10)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = if c.opset >= 10 { c.moved("steps", 4, 10)? } else { None };
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("its starts, ends, axes and steps differ in number".into());
    }
    axes_of(&axes, rank)?;
    let mut w = c.write(b);
    for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
        let axis = axis_of(axis, rank)?;
        let size = w.shape(&x)[axis] as i64;
        let place =
            |i: i64, low: i64, high: i64| (if i < 0 { i.saturating_add(size) } else { i }).clamp(low, high.max(low));
        x = match step {
            0 => return Err("a step is zero".into()),
            1 => {
                let from = place(start, 0, size);
                let to = place(end, 0, size).max(from);
                w.slice(&x, axis, from as usize, to as usize)?
            }
            step => {
                let (from, to) = match step > 0 {
                    true => (place(start, 0, size), place(end, 0, size)),
                    false => (place(start, -1, size - 1), place(end, -1, size - 1)),
                };
                w.b.make(&[from.abs_diff(to).div_ceil(step.unsigned_abs()) as usize])?;
                let inside = |i: &i64| if step > 0 { *i < to } else { *i > to };
                let ids: Vec<i64> =
                    std::iter::successors(Some(from), |i| i.checked_add(step)).take_while(inside).collect();
                take(&mut w, &x, axis, &ids)?
            }
        };
    }
    Ok(vec![x])
}

/// How `Pad` fills.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    Constant,
    Edge,
    Reflect,
    Wrap,
}

fn pad(b: &mut Builder, c: &Call) -> Results {
    let mut x = c.operand(0)?.clone();
    let rank = b.shape(&x).len();
    let pads = c.moved("pads", 1, 11)?.ok_or("its pads are missing")?;
    let axes = match if c.opset >= 18 { c.moved("axes", 3, 18)? } else { None } {
        Some(axes) => {
            axes_of(&axes, rank)?;
            axes.iter().map(|&a| axis_of(a, rank)).collect::<Result<Vec<_>, _>>()?
        }
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
    }
    let fill = match c.text("mode", "constant")? {
        "constant" => Fill::Constant,
        "edge" => Fill::Edge,
        "reflect" => Fill::Reflect,
        "wrap" => Fill::Wrap,
        _ => return Err("its `mode` is not known".into()),
    };
    let zero = match b.typed(&x).1 {
        DType::F32 => Value::scalar(if c.opset < 11 { c.float("value", 0.0) } else { 0.0 }),
        DType::I64 => Value::public(Tensor::I64(ndarray::arr0(0).into_dyn())),
        DType::Bool => Value::public(Tensor::Bool(ndarray::arr0(false).into_dyn())),
    };
    let value = if c.opset < 11 { zero } else { c.optional(2).cloned().unwrap_or(zero) };
    let mut w = c.write(b);
    let value = w.reshape(&value, &[])?;
    for (n, &axis) in axes.iter().enumerate() {
        x = padded(&mut w, &x, axis, (pads[n], pads[n + axes.len()]), fill, &value)?;
    }
    Ok(vec![x])
}

/// `value` is a scalar that [`Fill::Constant`] fills with. Negative numbers cut.
fn padded(w: &mut Writer, x: &Value, axis: usize, (before, after): (i64, i64), fill: Fill, value: &Value) -> One {
    let shape = w.shape(x);
    let size = shape[axis] as i64;
    let (cut_before, cut_after) = (before.min(0).saturating_neg(), after.min(0).saturating_neg());
    if cut_before.saturating_add(cut_after) > size {
        return Err("it cuts more than there is".into());
    }
    let x = w.slice(x, axis, cut_before as usize, (size - cut_after) as usize)?;
    let (size, before, after) = (size - cut_before - cut_after, before.max(0), after.max(0));
    if before == 0 && after == 0 {
        return Ok(x);
    }
    if fill == Fill::Constant {
        let mut parts = vec![x.clone()];
        for (at, count) in [(0, before), (if before > 0 { 2 } else { 1 }, after)] {
            if count > 0 {
                let mut shape = shape.clone();
                shape[axis] = dimension(count)?;
                parts.insert(at, w.expand(value, &shape)?);
            }
        }
        return w.concat(axis, &parts);
    }
    if size == 0 {
        return Err("there is nothing to fill with".into());
    }
    w.b.make(&[(size as usize).saturating_add(before as usize).saturating_add(after as usize)])?;
    let source = |i: i64| match fill {
        Fill::Edge | Fill::Constant => i.clamp(0, size - 1),
        Fill::Wrap => i.rem_euclid(size),
        Fill::Reflect => {
            let period = (2 * (size - 1)).max(1);
            let i = i.rem_euclid(period);
            i.min(period - i).min(size - 1)
        }
    };
    let ids: Vec<i64> = (-before..size + after).map(source).collect();
    take(w, &x, axis, &ids)
}

/// Constant padding, as convolutions take it.
pub(super) fn padded_with(w: &mut Writer, x: &Value, axis: usize, pads: (usize, usize), value: f32) -> One {
    padded(w, x, axis, (pads.0 as i64, pads.1 as i64), Fill::Constant, &Value::scalar(value))
}

/// Of secret values a product with zeros and ones.
fn trilu(b: &mut Builder, c: &Call) -> Results {
    let k = match c.optional(1) {
        Some(_) => c.integers(1)?.first().copied().ok_or("its diagonal is empty")?,
        None => 0,
    };
    let upper = c.int("upper", 1) != 0;
    let x = c.operand(0)?;
    if x.view().is_some() {
        return fold(b, c, 1, |v| public::trilu(&v[0], k, upper));
    }
    let shape = b.shape(x);
    let plane = &shape[shape.len().saturating_sub(2)..];
    let ones = Tensor::F32(from_vec(plane, vec![1.0; b.make(plane)?]));
    let kept = public::trilu(&ones.view(), k, upper)?;
    Ok(vec![c.write(b).mul(x, &Value::public(kept))?])
}

/// Places whose condition is true.
fn compress(b: &mut Builder, c: &Call) -> Results {
    let mut x = c.operand(0)?.clone();
    let places: Vec<i64> = match c.operand(1)?.view() {
        Some(View::Bool(a)) => a.iter().zip(0..).filter(|(kept, _)| **kept).map(|(_, at)| at).collect(),
        _ => return Err("its condition is not public".into()),
    };
    let mut w = c.write(b);
    let shape = w.shape(&x);
    let axis = match c.attribute("axis").and_then(|a| a.i) {
        Some(axis) => axis_of(axis, shape.len())?,
        None => {
            x = w.reshape(&x, &[size(&shape)])?;
            0
        }
    };
    Ok(vec![take(&mut w, &x, axis, &places)?])
}

/// The first elements of each batch element, as many as its length says, backwards.
fn reverse_sequence(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let shape = b.shape(x);
    let (batch, time) = (axis_of(c.int("batch_axis", 1), shape.len())?, axis_of(c.int("time_axis", 0), shape.len())?);
    let lengths = c.integers(1)?;
    let fits = lengths.iter().all(|&n| usize::try_from(n).is_ok_and(|n| n <= shape[time]));
    if lengths.len() != shape[batch] || lengths.len() > MAX_PIECES || batch == time || !fits {
        return Err("its lengths do not fit its batch".into());
    }
    let mut w = c.write(b);
    let mut parts = Vec::new();
    for (n, &length) in lengths.iter().enumerate() {
        let row = w.slice(x, batch, n, n + 1)?;
        let ids: Vec<i64> =
            (0..w.b.make(&[shape[time]])? as i64).map(|i| if i < length { length - 1 - i } else { i }).collect();
        parts.push(take(&mut w, &row, time, &ids)?);
    }
    Ok(vec![w.concat(batch, &parts)?])
}
