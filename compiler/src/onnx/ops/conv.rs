//! Convolutions and pools: windows of a tensor side by side, each position a row times a matrix.

use super::index::{every, padded_with, take};
use super::{Call, Handler, One, Results, Writer, size, stated};
use crate::graph::Op;
use crate::graph::shape::MAX_ROW;
use crate::onnx::build::{Builder, Value};

pub(super) const TABLE: &[(&str, Handler)] =
    &[("Conv", conv), ("MaxPool", max_pool), ("AveragePool", average_pool), ("LpPool", lp_pool)];

/// Greatest number of elements of a window, and of groups.
const MAX_WINDOW: usize = 1 << 9;
const MAX_GROUPS: usize = 64;

/// Windows along each axis after the first two.
struct Windows {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<(usize, usize)>,
    /// Number of windows.
    counts: Vec<usize>,
}

impl Windows {
    fn new(c: &Call, sizes: &[usize], kernel: Vec<usize>) -> Result<Windows, String> {
        let rank = sizes.len();
        let numbers = |name: &str| -> Result<Vec<usize>, String> {
            let found = c.ints(name).unwrap_or_else(|| vec![1; rank]);
            let found = found.into_iter().map(stated).collect::<Result<Vec<_>, _>>()?;
            if found.len() == rank && !found.contains(&0) { Ok(found) } else { Err(format!("its `{name}` do not fit")) }
        };
        let (strides, dilations) = (numbers("strides")?, numbers("dilations")?);
        if kernel.len() != rank || kernel.contains(&0) {
            return Err("its kernel does not fit its operand".into());
        }
        let span = |i: usize| dilations[i].saturating_mul(kernel[i] - 1).saturating_add(1);
        let given = c.ints("pads").unwrap_or_else(|| vec![0; 2 * rank]);
        let given = given.into_iter().map(stated).collect::<Result<Vec<_>, _>>()?;
        let (mut pads, mut counts) = (Vec::new(), Vec::new());
        for i in 0..rank {
            let auto = c.text("auto_pad", "NOTSET")?;
            let (mut pad, mut count) = match auto {
                "NOTSET" if given.len() == 2 * rank => ((given[i], given[i + rank]), 0),
                "VALID" => ((0, 0), 0),
                "SAME_UPPER" | "SAME_LOWER" => {
                    let count = sizes[i].div_ceil(strides[i]);
                    let total = (count.saturating_sub(1) * strides[i] + span(i)).saturating_sub(sizes[i]);
                    let (less, more) = (total / 2, total - total / 2);
                    (if auto == "SAME_UPPER" { (less, more) } else { (more, less) }, count)
                }
                _ => return Err("its pads do not fit".into()),
            };
            if count == 0 {
                let room = (sizes[i].saturating_add(pad.0).saturating_add(pad.1)).checked_sub(span(i));
                let room = room.ok_or("its kernel is greater than its operand")?;
                count = room / strides[i] + 1;
                // A last window may reach beyond the padding, if it begins before.
                if c.int("ceil_mode", 0) != 0 && room % strides[i] != 0 && count * strides[i] < sizes[i] + pad.0 {
                    pad.1 += count * strides[i] - room;
                    count += 1;
                }
            }
            if count > MAX_ROW {
                return Err(format!("it has {count} windows along an axis, more than {MAX_ROW}"));
            }
            pads.push(pad);
            counts.push(count);
        }
        Ok(Windows { kernel, strides, dilations, pads, counts })
    }

    /// For each element of a window, the tensor of these elements by window: [n, c, counts..]. Padding is filled with a
    /// number, or with elements of the same window.
    fn elements(&self, w: &mut Writer, x: &Value, fill: Option<f32>) -> Result<Vec<Value>, String> {
        if size(&self.kernel) > MAX_WINDOW {
            return Err(format!("its windows have more than {MAX_WINDOW} elements"));
        }
        let mut x = x.clone();
        if let Some(fill) = fill {
            for (i, &pads) in self.pads.iter().enumerate() {
                x = padded_with(w, &x, i + 2, pads, fill)?;
            }
        }
        let mut parts = vec![x];
        for i in 0..self.kernel.len() {
            let mut next = Vec::new();
            for part in &parts {
                for k in 0..self.kernel[i] {
                    let from = k * self.dilations[i];
                    next.push(match fill {
                        Some(_) => every(w, part, i + 2, from, self.counts[i], self.strides[i])?,
                        None => take(w, part, i + 2, &self.inside(i, from, w.shape(part)[i + 2])?)?,
                    });
                }
            }
            parts = next;
        }
        Ok(parts)
    }

    /// Where the windows' element at a distance `from` lies along an axis that is not padded; what is padding moves to
    /// the nearest element of its window.
    fn inside(&self, i: usize, from: usize, size: usize) -> Result<Vec<i64>, String> {
        let (size, step) = (size as i64, self.dilations[i] as i64);
        (0..self.counts[i])
            .map(|n| {
                let at = (n * self.strides[i] + from) as i64 - self.pads[i].0 as i64;
                let at = if at < 0 { at.rem_euclid(step) } else { at };
                let at = if at >= size { at - (at - size + step) / step * step } else { at };
                let reach = (n * self.strides[i]) as i64 - self.pads[i].0 as i64;
                let reach = reach..=reach + step * (self.kernel[i] as i64 - 1);
                let fits = (0..size).contains(&at) && reach.contains(&at);
                if fits { Ok(at) } else { Err("a window holds nothing but padding".to_string()) }
            })
            .collect()
    }

    /// Whether windows lie side by side.
    fn are_patches(&self) -> bool {
        self.kernel == self.strides && self.dilations.iter().all(|&d| d == 1) && self.pads.iter().all(|&p| p == (0, 0))
    }
}

fn conv(b: &mut Builder, c: &Call) -> Results {
    let (x, weight) = (c.operand(0)?, c.operand(1)?);
    let (x_shape, w_shape) = (b.shape(x), b.shape(weight));
    let (&[n, channels, ref sizes @ ..], &[out, inner, ref kernel @ ..]) = (&x_shape[..], &w_shape[..]) else {
        return Err("its operands have no channels".into());
    };
    let groups = stated(c.int("group", 1))?;
    if groups == 0 || inner * groups != channels || out % groups != 0 {
        return Err(format!("{channels} channels in {groups} groups do not fit a kernel of shape {w_shape:?}"));
    }
    if groups > MAX_GROUPS {
        return Err(format!("it has {groups} groups, more than {MAX_GROUPS}"));
    }
    let windows = Windows::new(c, sizes, kernel.to_vec())?;
    let (places, area) = (size(&windows.counts), size(kernel));
    let mut w = c.write(b);
    // [n, c, places, area] or, where that costs nothing, [n, places, c·area].
    let rows = if windows.are_patches() && groups == 1 {
        patches(&mut w, x, &windows)?
    } else {
        let mut parts = Vec::new();
        for part in windows.elements(&mut w, x, Some(0.0))? {
            parts.push(w.reshape(&part, &[n, channels, 1, places])?);
        }
        let all = w.concat(2, &parts)?;
        let all = w.reshape(&all, &[n, channels * area, places])?;
        w.transpose(&all, &[0, 2, 1])?
    };
    let weight = w.reshape(weight, &[out, inner * area])?;
    let weight = w.transpose(&weight, &[1, 0])?;
    let mut parts = Vec::new();
    for g in 0..groups {
        let rows = w.slice(&rows, 2, g * inner * area, (g + 1) * inner * area)?;
        let part = w.slice(&weight, 1, g * (out / groups), (g + 1) * (out / groups))?;
        parts.push(w.op(Op::MatMul, &[&rows, &part])?);
    }
    let mut y = w.concat(2, &parts)?;
    if let Some(bias) = c.optional(2) {
        if w.shape(bias) != [out] {
            return Err(format!("its bias has shape {:?}, not [{out}]", w.shape(bias)));
        }
        y = w.add(&y, bias)?;
    }
    let y = w.transpose(&y, &[0, 2, 1])?;
    Ok(vec![w.reshape(&y, &[&[n, out], &windows.counts[..]].concat())?])
}

/// As vision transformers cut patches: [n, c, h, kh, w, kw] -> [n, h·w, c·kh·kw].
fn patches(w: &mut Writer, x: &Value, windows: &Windows) -> One {
    let rank = windows.kernel.len();
    let mut x = x.clone();
    for i in 0..rank {
        x = w.slice(&x, i + 2, 0, windows.counts[i] * windows.kernel[i])?;
    }
    let shape = w.shape(&x);
    let cut = (0..rank).flat_map(|i| [windows.counts[i], windows.kernel[i]]);
    let x = w.reshape(&x, &shape[..2].iter().copied().chain(cut).collect::<Vec<_>>())?;
    let perm = [0].into_iter().chain((0..rank).map(|i| 2 + 2 * i)).chain([1]).chain((0..rank).map(|i| 3 + 2 * i));
    let x = w.transpose(&x, &perm.collect::<Vec<_>>())?;
    w.reshape(&x, &[shape[0], size(&windows.counts), shape[1] * size(&windows.kernel)])
}

fn pool(b: &Builder, c: &Call) -> Result<Windows, String> {
    let shape = b.shape(c.operand(0)?);
    let kernel = c.ints("kernel_shape").ok_or("its kernel is missing")?;
    let kernel = kernel.into_iter().map(stated).collect::<Result<Vec<_>, _>>()?;
    Windows::new(c, shape.get(2..).ok_or("its operand has no channels")?, kernel)
}

/// Windows as a new last axis.
fn stacked(w: &mut Writer, parts: &[Value]) -> One {
    let mut wide = Vec::new();
    for part in parts {
        let shape = w.shape(part);
        wide.push(w.reshape(part, &[&shape[..], &[1]].concat())?);
    }
    let axis = w.shape(&wide[0]).len() - 1;
    w.concat(axis, &wide)
}

/// Takes the last axis away, which has one element.
fn without_last(w: &mut Writer, x: &Value) -> One {
    let shape = w.shape(x);
    w.reshape(x, &shape[..shape.len() - 1])
}

/// Greatest element of each window.
fn max_pool(b: &mut Builder, c: &Call) -> Results {
    if c.node.output.iter().skip(1).any(|name| !name.is_empty()) {
        return Err("places of the greatest elements are read".into());
    }
    let windows = pool(b, c)?;
    let mut w = c.write(b);
    let parts = windows.elements(&mut w, c.operand(0)?, None)?;
    let all = stacked(&mut w, &parts)?;
    let axis = w.shape(&all).len() - 1;
    let y = w.greatest(&all, &[axis])?;
    Ok(vec![without_last(&mut w, &y)?])
}

/// Sum of each window.
fn window_sums(w: &mut Writer, windows: &Windows, x: &Value) -> One {
    let parts = windows.elements(w, x, Some(0.0))?;
    let all = stacked(w, &parts)?;
    let axis = w.shape(&all).len() - 1;
    let sum = w.sum(&all, &[axis])?;
    without_last(w, &sum)
}

/// Mean of each window, over what is no padding unless that counts.
fn average_pool(b: &mut Builder, c: &Call) -> Results {
    let windows = pool(b, c)?;
    let x = c.operand(0)?;
    let mut w = c.write(b);
    let sums = window_sums(&mut w, &windows, x)?;
    let shape = w.shape(x);
    let mut ones = w.constant(&shape, 1.0)?;
    let mut counted = windows;
    if c.int("count_include_pad", 0) != 0 {
        // Padding that was asked for counts; what a last window reaches beyond it does not.
        let asked = c.ints("pads").unwrap_or_else(|| vec![0; 2 * counted.pads.len()]);
        for (i, pads) in counted.pads.iter_mut().enumerate() {
            let rank = asked.len() / 2;
            let after = if c.text("auto_pad", "NOTSET")? == "NOTSET" { stated(asked[i + rank])? } else { pads.1 };
            ones = padded_with(&mut w, &ones, i + 2, (pads.0, after), 1.0)?;
            *pads = (0, pads.1.saturating_sub(after));
        }
    }
    let counts = window_sums(&mut w, &counted, &ones)?;
    let one = Value::scalar(1.0);
    let inverse = w.div(&one, &counts)?;
    Ok(vec![w.mul(&sums, &inverse)?])
}

/// p-norm of each window.
fn lp_pool(b: &mut Builder, c: &Call) -> Results {
    use crate::graph::Function;
    let windows = pool(b, c)?;
    let x = c.operand(0)?;
    let mut w = c.write(b);
    let y = match c.int("p", 2) {
        1 => {
            let x = w.unary(Function::Abs {}, x)?;
            window_sums(&mut w, &windows, &x)?
        }
        2 => {
            let x = w.mul(x, x)?;
            let sums = window_sums(&mut w, &windows, &x)?;
            w.unary(Function::Sqrt {}, &sums)?
        }
        _ => return Err("its norm is neither the first nor the second".into()),
    };
    Ok(vec![y])
}
