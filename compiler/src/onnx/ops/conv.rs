//! Convolutions.

use super::{Call, Handler, Results};
use crate::graph::Op;
use crate::onnx::build::Builder;

pub(super) const TABLE: &[(&str, Handler)] = &[("Conv", conv)];

/// A convolution whose windows do not overlap, as vision transformers cut patches: each patch is a row times a matrix.
fn conv(b: &mut Builder, c: &Call) -> Results {
    let (x, w) = (c.operand(0)?.clone(), c.operand(1)?.clone());
    let (x_shape, w_shape) = (b.shape(&x), b.shape(&w));
    let (&[n, channels, height, width], &[out, w_channels, kh, kw]) = (&x_shape[..], &w_shape[..]) else {
        return Err("only two-dimensional convolutions are supported".into());
    };
    let stride = c.ints("strides").unwrap_or_else(|| vec![1, 1]);
    let plain = c.int("group", 1) == 1
        && c.ints("pads").is_none_or(|p| p.iter().all(|&p| p == 0))
        && c.ints("dilations").is_none_or(|d| d.iter().all(|&d| d == 1))
        && matches!(c.attribute("auto_pad").and_then(|a| a.s.as_deref()), None | Some(b"NOTSET" | b"VALID"));
    if !plain || channels != w_channels || stride != [kh as i64, kw as i64] || kh == 0 || kw == 0 {
        return Err(
            "only convolutions with stride equal to kernel, without padding, dilation or groups, are supported".into(),
        );
    }
    let (rows, columns) = (height / kh, width / kw);
    let o = c.origin;
    let x = b.apply(o, Op::Slice { axis: 2, from: 0, to: rows * kh }, &[x])?;
    let x = b.apply(o, Op::Slice { axis: 3, from: 0, to: columns * kw }, &[x])?;
    let x = b.shaped(o, Op::Reshape, &[x], &[n, channels, rows, kh, columns, kw])?;
    let x = b.apply(o, Op::Transpose { perm: vec![0, 2, 4, 1, 3, 5] }, &[x])?;
    let x = b.shaped(o, Op::Reshape, &[x], &[n, rows * columns, channels * kh * kw])?;
    let w = b.shaped(o, Op::Reshape, &[w], &[out, channels * kh * kw])?;
    let w = b.apply(o, Op::Transpose { perm: vec![1, 0] }, &[w])?;
    let mut y = b.apply(o, Op::MatMul, &[x, w])?;
    if let Some(bias) = c.optional(2) {
        y = b.apply(o, Op::Add, &[y, bias.clone()])?;
    }
    let y = b.apply(o, Op::Transpose { perm: vec![0, 2, 1] }, &[y])?;
    Ok(vec![b.shaped(o, Op::Reshape, &[y], &[n, out, rows, columns])?])
}
