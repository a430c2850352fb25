//! Normalisations, softmax among them.

use super::reduce::{along_last, log_sum_exp, running_sum, squares};
use super::{Call, Handler, One, Results, Writer, axis_of, size};
use crate::graph::{Function, Op, Tensor};
use crate::onnx::build::{Builder, Value};

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Softmax", |b, c| rows(b, c, |w, x, axis| w.op(Op::Softmax { axis }, &[x]))),
    ("LogSoftmax", |b, c| rows(b, c, |w, x, axis| Ok(log_sum_exp(w, x, &[axis])?.1))),
    ("Hardmax", |b, c| rows(b, c, hardmax)),
    ("LayerNormalization", layer_normalization),
    ("RMSNormalization", rms_normalization),
    ("GroupNormalization", group_normalization),
    ("InstanceNormalization", instance_normalization),
    ("BatchNormalization", batch_normalization),
    ("MeanVarianceNormalization", mean_variance_normalization),
    ("LpNormalization", lp_normalization),
    ("LRN", local_response),
    ("com.microsoft.SkipLayerNormalization", |b, c| skip(b, c, false)),
    ("com.microsoft.SkipSimplifiedLayerNormalization", |b, c| skip(b, c, true)),
    ("com.microsoft.SimplifiedLayerNormalization", rms_normalization),
    ("SimplifiedLayerNormalization", rms_normalization),
];

/// Before opset 13 the operand is taken as a matrix, cut before `axis`, and its rows are normalised.
fn rows(b: &mut Builder, c: &Call, f: impl Fn(&mut Writer, &Value, usize) -> One) -> Results {
    let x = c.operand(0)?.clone();
    let shape = b.shape(&x);
    let axis = axis_of(c.int("axis", if c.opset < 13 { 1 } else { -1 }), shape.len())?;
    let mut w = c.write(b);
    if c.opset >= 13 || axis + 1 == shape.len() {
        return Ok(vec![f(&mut w, &x, axis)?]);
    }
    let x = w.reshape(&x, &[size(&shape[..axis]), size(&shape[axis..])])?;
    let y = f(&mut w, &x, 1)?;
    Ok(vec![w.reshape(&y, &shape)?])
}

/// One at the first of the greatest elements, else zero: an element is that if it is not below the greatest and none
/// before it is that.
fn hardmax(w: &mut Writer, x: &Value, axis: usize) -> One {
    let greatest = w.greatest(x, &[axis])?;
    let reaches = w.op(Op::LessOrEqual, &[&greatest, x])?;
    let reaches = w.op(Op::ToF32, &[&reaches])?;
    let before = running_sum(w, &reaches, axis, true, false)?;
    let rest = w.sub(&before, &reaches)?;
    let first = w.op(Op::Less, &[&rest, &Value::scalar(-0.5)])?;
    w.op(Op::ToF32, &[&first])
}

/// The last axes of a value as one, and its shape.
fn flat(w: &mut Writer, x: &Value, axis: usize) -> Result<(Value, Vec<usize>), String> {
    let shape = w.shape(x);
    let to = [&shape[..axis], &[size(&shape[axis..])]].concat();
    Ok((if axis + 1 == shape.len() { x.clone() } else { w.reshape(x, &to)? }, shape))
}

/// A gain or shift of the last axes, as a vector.
fn vector(w: &mut Writer, x: &Value, shape: &[usize]) -> One {
    let x = if size(&w.shape(x)) == size(shape) { x.clone() } else { w.expand(x, shape)? };
    w.reshape(&x, &[size(shape)])
}

/// Results are the normalised value and, where they are read, mean and inverse deviation.
fn layer_normalization(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?.clone();
    let (gain, shift) = (c.operand(1)?.clone(), c.optional(2).cloned());
    let y = layer_norm(b, c, &x, &gain, shift.as_ref(), c.float("epsilon", 1e-5))?;
    let mut w = c.write(b);
    if c.node.output.iter().skip(1).all(String::is_empty) {
        return Ok(vec![y]);
    }
    let rank = w.shape(&x).len();
    let axes: Vec<usize> = (axis_of(c.int("axis", -1), rank)?..rank).collect();
    let mean = w.mean(&x, &axes)?;
    let from_mean = w.sub(&x, &mean)?;
    let inverse = inverse_deviation(&mut w, &from_mean, &axes, c.float("epsilon", 1e-5))?;
    Ok(vec![y, mean, inverse])
}

/// 1 / sqrt(mean x² + e).
fn inverse_deviation(w: &mut Writer, x: &Value, axes: &[usize], epsilon: f32) -> One {
    let squared = w.op(Op::Pow, &[x, &Value::scalar(2.0)])?;
    let mean = w.mean(&squared, axes)?;
    let variance = w.add(&mean, &Value::scalar(epsilon))?;
    let deviation = w.unary(Function::Sqrt {}, &variance)?;
    w.unary(Function::Reciprocal {}, &deviation)
}

/// Layer normalisation over the axes from the node's `axis` on.
fn layer_norm(b: &mut Builder, c: &Call, x: &Value, gain: &Value, shift: Option<&Value>, epsilon: f32) -> One {
    let mut w = c.write(b);
    let axis = axis_of(c.int("axis", -1), w.shape(x).len())?;
    let (rows, shape) = flat(&mut w, x, axis)?;
    let gain = vector(&mut w, gain, &shape[axis..])?;
    let shift = shift.map(|shift| vector(&mut w, shift, &shape[axis..])).transpose()?;
    let y = layer_norm_rows(&mut w, &rows, &gain, shift.as_ref(), epsilon)?;
    if axis + 1 == shape.len() { Ok(y) } else { w.reshape(&y, &shape) }
}

/// Normalised rows with a gain and a shift, which are weights in one operation, or secret.
pub(super) fn layer_norm_rows(w: &mut Writer, rows: &Value, gain: &Value, shift: Option<&Value>, epsilon: f32) -> One {
    let width = w.shape(gain);
    let op = Op::LayerNormalization { epsilon };
    if gain.view().is_some() && shift.is_none_or(|shift| shift.view().is_some()) {
        let mut operands = vec![rows, gain];
        operands.extend(shift);
        return w.op(op, &operands);
    }
    let ones = w.constant(&width, 1.0)?;
    let y = w.op(op, &[rows, &ones])?;
    let y = w.mul(&y, gain)?;
    shift.map_or(Ok(y.clone()), |shift| w.add(&y, shift))
}

/// x / sqrt(mean x² + e) · gain, as exporters of older operator sets spell it.
pub(super) fn rms_norm(w: &mut Writer, x: &Value, gain: &Value, epsilon: f32) -> One {
    let axis = w.shape(x).len().checked_sub(1).ok_or("its operand has no rows")?;
    let inverse = inverse_deviation(w, x, &[axis], epsilon)?;
    let y = w.mul(x, &inverse)?;
    w.mul(&y, gain)
}

fn rms_normalization(b: &mut Builder, c: &Call) -> Results {
    let (x, gain) = (c.operand(0)?, c.operand(1)?);
    let mut w = c.write(b);
    let axis = axis_of(c.int("axis", -1), w.shape(x).len())?;
    let (rows, shape) = flat(&mut w, x, axis)?;
    let gain = vector(&mut w, gain, &shape[axis..])?;
    let y = rms_norm(&mut w, &rows, &gain, c.float("epsilon", 1e-5))?;
    let y = w.reshape(&y, &shape)?;
    Ok(vec![y])
}

/// A sum of two streams and a bias, normalised; the fourth result is the sum.
fn skip(b: &mut Builder, c: &Call, simplified: bool) -> Results {
    let epsilon = c.float("epsilon", 1e-12);
    let bias = if simplified { c.optional(3) } else { c.optional(4) };
    let mut w = c.write(b);
    let mut sum = w.add(c.operand(0)?, c.operand(1)?)?;
    if let Some(bias) = bias {
        sum = w.add(&sum, bias)?;
    }
    let gain = c.operand(2)?;
    let y = match simplified {
        true => rms_norm(&mut w, &sum, gain, epsilon)?,
        false => layer_norm_rows(&mut w, &sum, gain, c.optional(3), epsilon)?,
    };
    if c.node.output.iter().skip(1).take(2).any(|name| !name.is_empty()) {
        return Err("mean and deviation are read".into());
    }
    Ok(vec![y, Value::Unknown, Value::Unknown, sum])
}

/// [n, c, ..] in groups of channels; the gain is of groups before opset 21, of channels from then on.
fn group_normalization(b: &mut Builder, c: &Call) -> Results {
    let (x, gain, shift) = (c.operand(0)?, c.operand(1)?, c.operand(2)?);
    let mut w = c.write(b);
    let shape = w.shape(x);
    let groups = usize::try_from(c.int("num_groups", 0)).ok().filter(|&g| g > 0);
    let (Some(groups), &[n, channels, ..]) = (groups, &shape[..]) else {
        return Err("it has no groups of channels".into());
    };
    if channels % groups != 0 {
        return Err(format!("{groups} groups do not divide {channels} channels"));
    }
    let rows = w.reshape(x, &[n, groups, size(&shape[1..]) / groups])?;
    let ones = w.constant(&[size(&shape[1..]) / groups], 1.0)?;
    let y = w.op(Op::LayerNormalization { epsilon: c.float("epsilon", 1e-5) }, &[&rows, &ones])?;
    let parts = size(&w.shape(gain));
    let wide = [n, parts, size(&shape[1..]) / parts.max(1)];
    let y = w.reshape(&y, &wide)?;
    let y = scaled(&mut w, &y, gain, shift, &[parts, 1])?;
    Ok(vec![w.reshape(&y, &shape)?])
}

/// y · gain + shift, both in a shape.
fn scaled(w: &mut Writer, y: &Value, gain: &Value, shift: &Value, shape: &[usize]) -> One {
    let (gain, shift) = (w.reshape(gain, shape)?, w.reshape(shift, shape)?);
    let y = w.mul(y, &gain)?;
    w.add(&y, &shift)
}

fn instance_normalization(b: &mut Builder, c: &Call) -> Results {
    let (x, gain, shift) = (c.operand(0)?, c.operand(1)?, c.operand(2)?);
    let mut w = c.write(b);
    let shape = w.shape(x);
    let &[n, channels, ..] = &shape[..] else { return Err("its operand has no channels".into()) };
    let width = size(&shape[2..]);
    let rows = w.reshape(x, &[n, channels, width])?;
    let ones = w.constant(&[width], 1.0)?;
    let y = w.op(Op::LayerNormalization { epsilon: c.float("epsilon", 1e-5) }, &[&rows, &ones])?;
    let y = scaled(&mut w, &y, gain, shift, &[channels, 1])?;
    Ok(vec![w.reshape(&y, &shape)?])
}

/// Statistics of the batch itself, and what is left of the running ones.
fn batch_statistics(b: &mut Builder, c: &Call) -> Results {
    let operands: Vec<Value> = (0..5).map(|i| c.operand(i).cloned()).collect::<Result<_, _>>()?;
    let [x, gain, shift, mean, variance] = &operands[..] else { unreachable!("five were taken") };
    let mut w = c.write(b);
    let shape = w.shape(x);
    if shape.len() < 2 {
        return Err("its operand has no channels".into());
    }
    let mut perm: Vec<usize> = (0..shape.len()).collect();
    perm.swap(0, 1);
    let moved = w.transpose(x, &perm)?;
    let moved_shape = w.shape(&moved);
    let width = size(&moved_shape[1..]);
    let rows = w.reshape(&moved, &[shape[1], width])?;
    let ones = w.constant(&[width], 1.0)?;
    let y = w.op(Op::LayerNormalization { epsilon: c.float("epsilon", 1e-5) }, &[&rows, &ones])?;
    let y = scaled(&mut w, &y, gain, shift, &[shape[1], 1])?;
    let y = w.reshape(&y, &moved_shape)?;
    let y = w.transpose(&y, &perm)?;
    let seen_mean = w.mean(&rows, &[1])?;
    let from_mean = w.sub(&rows, &seen_mean)?;
    let squared = w.op(Op::Pow, &[&from_mean, &Value::scalar(2.0)])?;
    let seen_variance = w.mean(&squared, &[1])?;
    let momentum = c.float("momentum", 0.9);
    let mut running = |old: &Value, seen: &Value| -> One {
        let seen = w.reshape(seen, &[shape[1]])?;
        let (old, seen) = (w.times(old, momentum)?, w.times(&seen, 1.0 - momentum)?);
        w.add(&old, &seen)
    };
    Ok(vec![y, running(mean, &seen_mean)?, running(variance, &seen_variance)?])
}

/// Statistics are operands, so that a gain and a shift for each channel are left; in training they are those of the batch.
fn batch_normalization(b: &mut Builder, c: &Call) -> Results {
    if c.opset >= 14 && c.int("training_mode", 0) != 0 {
        return batch_statistics(b, c);
    }
    if c.node.output.iter().skip(1).any(|name| !name.is_empty()) {
        return Err("it is in training mode".into());
    }
    let operands: Vec<Value> = (0..5).map(|i| c.operand(i).cloned()).collect::<Result<_, _>>()?;
    let [x, gain, shift, mean, variance] = &operands[..] else { unreachable!("five were taken") };
    let mut w = c.write(b);
    let shape = w.shape(x);
    let &[_, channels, ..] = &shape[..] else { return Err("its operand has no channels".into()) };
    let along: Vec<usize> = [channels].into_iter().chain(shape[2..].iter().map(|_| 1)).collect();
    let variance = w.add(variance, &Value::scalar(c.float("epsilon", 1e-5)))?;
    let deviation = w.unary(Function::Sqrt {}, &variance)?;
    let factor = w.div(gain, &deviation)?;
    let moved = w.mul(mean, &factor)?;
    let summand = w.sub(shift, &moved)?;
    Ok(vec![scaled(&mut w, x, &factor, &summand, &along)?])
}

fn mean_variance_normalization(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let mut w = c.write(b);
    let shape = w.shape(x);
    let axes = super::axes_of(&c.ints("axes").unwrap_or_else(|| vec![0, 2, 3]), shape.len())?;
    let others = (0..shape.len()).filter(|i| !axes.contains(i));
    let perm: Vec<usize> = others.chain(axes.iter().copied()).collect();
    let width: usize = axes.iter().map(|&a| shape[a]).product();
    let moved = w.transpose(x, &perm)?;
    let moved_shape = w.shape(&moved);
    let rows = w.reshape(&moved, &[size(&shape) / width.max(1), width])?;
    let ones = w.constant(&[width], 1.0)?;
    let y = w.op(Op::LayerNormalization { epsilon: 1e-12 }, &[&rows, &ones])?;
    let y = w.reshape(&y, &moved_shape)?;
    let mut back = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    Ok(vec![w.transpose(&y, &back)?])
}

fn lp_normalization(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let mut w = c.write(b);
    let axis = axis_of(c.int("axis", -1), w.shape(x).len())?;
    let p = c.int("p", 2);
    let y = along_last(&mut w, x, axis, |w, x| {
        let last = [w.shape(x).len() - 1];
        let norm = match p {
            1 => {
                let x = w.unary(Function::Abs {}, x)?;
                w.sum(&x, &last)?
            }
            2 => {
                // In the words of a normalisation of rows; what is nothing but zeros stays so.
                let sum = squares(w, x, &last)?;
                let sum = w.plus(&sum, 1e-10)?;
                let norm = w.unary(Function::Sqrt {}, &sum)?;
                return w.div(x, &norm);
            }
            _ => return Err("its norm is neither the first nor the second".into()),
        };
        // What is nothing but zeros stays so.
        let norm = w.plus(&norm, f32::MIN_POSITIVE)?;
        w.div(x, &norm)
    })?;
    Ok(vec![y])
}

/// x / (bias + alpha / size · Σ x² over neighbouring channels)^beta: the sum is a product with a band of ones.
fn local_response(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let mut w = c.write(b);
    let window = super::dimension(c.int("size", 0))?;
    let channels = *w.shape(x).get(1).ok_or("its operand has no channels")?;
    let (before, after) = (window.saturating_sub(1) / 2, window / 2);
    let near = |from: usize, to: usize| from + before >= to && from <= to + after;
    let band = (0..w.b.make(&[channels, channels])?)
        .map(|at| f32::from(u8::from(near(at / channels, at % channels))))
        .collect();
    let band = Value::public(Tensor::F32(crate::graph::kernel::from_vec(&[channels, channels], band)));
    let squares = w.mul(x, x)?;
    let sums = along_last(&mut w, &squares, 1, |w, x| w.matmul(x, &band))?;
    let scaled = w.times(&sums, c.float("alpha", 1e-4) / window.max(1) as f32)?;
    let base = w.plus(&scaled, c.float("bias", 1.0))?;
    let factor = w.unary(Function::Power { exponent: -c.float("beta", 0.75) }, &base)?;
    Ok(vec![w.mul(x, &factor)?])
}
