//! Resizing: along each axis a product with a public matrix of interpolation weights, or a choice of places.

use super::index::take;
use super::reduce::along_last;
use super::{Call, Handler, Results, axes_of, axis_of, dimension};
use crate::graph::Tensor;
use crate::graph::kernel::{View, from_vec};
use crate::onnx::build::{Builder, Value};

pub(super) const TABLE: &[(&str, Handler)] = &[("Resize", resize), ("Upsample", resize)];

/// Longest axis that is resized: each element of the result keeps a list of those that it is made of.
const MAX_AXIS: usize = 1 << 16;

/// How one axis changes.
struct Axis {
    from: usize,
    to: usize,
    scale: f64,
}

fn resize(b: &mut Builder, c: &Call) -> Results {
    let mut x = c.operand(0)?.clone();
    let shape = b.shape(&x);
    let axes = match c.ints("axes") {
        Some(axes) => {
            axes_of(&axes, shape.len())?;
            axes.iter().map(|&a| axis_of(a, shape.len())).collect::<Result<Vec<_>, _>>()?
        }
        None => (0..shape.len()).collect(),
    };
    let upsamples = c.node.op_type() == "Upsample";
    let (scales, sizes) = match () {
        () if upsamples && c.opset < 9 => (c.attribute("scales").map(|a| a.floats.clone()), None),
        () if upsamples || c.opset < 11 => (numbers(c, 1)?, None),
        () => (numbers(c, 2)?, c.optional(3).map(|_| c.integers(3)).transpose()?),
    };
    let plans: Vec<Axis> = match (scales.filter(|s| !s.is_empty()), sizes.filter(|s| !s.is_empty())) {
        (_, Some(sizes)) if sizes.len() == axes.len() => {
            if c.text("keep_aspect_ratio_policy", "stretch")? != "stretch" {
                return Err("it keeps the aspect ratio".into());
            }
            let to = |(&axis, &size): (&usize, &i64)| {
                let (from, to) = (shape[axis], dimension(size)?);
                Ok(Axis { from, to, scale: to as f64 / from as f64 })
            };
            axes.iter().zip(&sizes).map(to).collect::<Result<_, String>>()?
        }
        (Some(scales), _) if scales.len() == axes.len() => axes
            .iter()
            .zip(&scales)
            .map(|(&axis, &scale)| {
                let (from, scale) = (shape[axis], f64::from(scale));
                Axis { from, to: (from as f64 * scale).floor() as usize, scale }
            })
            .collect(),
        _ => return Err("neither its scales nor its sizes are known for all axes".into()),
    };
    let how = Interpolation::new(c, upsamples)?;
    for (&axis, plan) in axes.iter().zip(&plans) {
        if plan.from == plan.to && plan.scale == 1.0 {
            continue;
        }
        if plan.from == 0 || plan.from.max(plan.to) > MAX_AXIS {
            return Err(format!("{} elements do not become {}", plan.from, plan.to));
        }
        b.make(&[plan.from, plan.to])?;
        let places: Vec<Vec<(usize, f64)>> =
            (0..plan.to).map(|j| how.taps(how.place(j, plan)?, plan)).collect::<Result<_, String>>()?;
        let mut w = c.write(b);
        x = if how.mode == Mode::Nearest {
            let ids: Vec<i64> = places.iter().map(|taps| taps[0].0 as i64).collect();
            take(&mut w, &x, axis, &ids)?
        } else {
            let mut matrix = vec![0f64; plan.from * plan.to];
            for (j, taps) in places.iter().enumerate() {
                taps.iter().for_each(|&(i, weight)| matrix[i * plan.to + j] += weight);
            }
            let matrix = from_vec(&[plan.from, plan.to], matrix.into_iter().map(|x| x as f32).collect());
            let matrix = Value::public(Tensor::F32(matrix));
            along_last(&mut w, &x, axis, |w, x| w.matmul(x, &matrix))?
        };
    }
    Ok(vec![x])
}

/// A known vector of floats.
fn numbers(c: &Call, i: usize) -> Result<Option<Vec<f32>>, String> {
    match c.optional(i).map(Value::view) {
        None => Ok(None),
        Some(Some(View::F32(a))) => Ok(Some(a.iter().copied().collect())),
        Some(_) => Err("its scales are not known".into()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// The attributes.
struct Interpolation<'a> {
    mode: Mode,
    transformation: &'a str,
    nearest: &'a str,
    /// The cubic's coefficient.
    a: f64,
    exclude_outside: bool,
    antialias: bool,
}

impl<'a> Interpolation<'a> {
    fn new(c: &'a Call, upsamples: bool) -> Result<Interpolation<'a>, String> {
        let old = upsamples || c.opset < 11;
        Ok(Interpolation {
            mode: match c.text("mode", "nearest")? {
                "nearest" => Mode::Nearest,
                "linear" => Mode::Linear,
                "cubic" => Mode::Cubic,
                _ => return Err("its `mode` is not known".into()),
            },
            transformation: if old { "asymmetric" } else { c.text("coordinate_transformation_mode", "half_pixel")? },
            nearest: if old { "floor" } else { c.text("nearest_mode", "round_prefer_floor")? },
            a: f64::from(c.float("cubic_coeff_a", -0.75)),
            exclude_outside: c.int("exclude_outside", 0) != 0,
            antialias: c.int("antialias", 0) != 0,
        })
    }

    /// Where an element of the result lies in the operand.
    fn place(&self, j: usize, axis: &Axis) -> Result<f64, String> {
        let j = j as f64;
        let half = (j + 0.5) / axis.scale - 0.5;
        Ok(match self.transformation {
            "half_pixel" => half,
            "pytorch_half_pixel" => {
                if axis.to > 1 {
                    half
                } else {
                    0.0
                }
            }
            "half_pixel_symmetric" => {
                let adjustment = axis.to as f64 / (axis.scale * axis.from as f64);
                half + axis.from as f64 / 2.0 * (1.0 - adjustment)
            }
            "asymmetric" => j / axis.scale,
            "align_corners" if axis.to == 1 => 0.0,
            "align_corners" => j * (axis.from - 1) as f64 / (axis.to - 1) as f64,
            other => return Err(format!("its coordinates are transformed by `{other}`")),
        })
    }

    /// Elements of the operand with their weights.
    fn taps(&self, place: f64, axis: &Axis) -> Result<Vec<(usize, f64)>, String> {
        if self.antialias && axis.scale < 1.0 {
            return Err("it smooths what it makes smaller".into());
        }
        let inside = |i: f64| i.clamp(0.0, (axis.from - 1) as f64) as usize;
        let (floor, rest) = (place.floor(), place - place.floor());
        Ok(match self.mode {
            Mode::Nearest => {
                let nearest = match self.nearest {
                    "floor" => floor,
                    "ceil" => place.ceil(),
                    "round_prefer_ceil" => (place + 0.5).floor(),
                    _ => (place - 0.5).ceil(),
                };
                vec![(inside(nearest), 1.0)]
            }
            Mode::Linear => vec![(inside(floor), 1.0 - rest), (inside(floor + 1.0), rest)],
            Mode::Cubic => {
                let a = self.a;
                let weight = |x: f64| match x.abs() {
                    x if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
                    x if x < 2.0 => a * (((x - 5.0) * x + 8.0) * x - 4.0),
                    _ => 0.0,
                };
                let mut taps: Vec<(f64, f64)> =
                    (-1..3).map(|k| (floor + f64::from(k), weight(rest - f64::from(k)))).collect();
                if self.exclude_outside {
                    taps.retain(|tap| (0.0..axis.from as f64).contains(&tap.0));
                    let sum: f64 = taps.iter().map(|tap| tap.1).sum();
                    taps.iter_mut().for_each(|tap| tap.1 /= sum);
                }
                taps.into_iter().map(|(i, weight)| (inside(i), weight)).collect()
            }
        })
    }
}
