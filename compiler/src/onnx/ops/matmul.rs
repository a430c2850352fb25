//! Matrix products.

use super::{Call, Handler, One, Results, Writer, size};
use crate::graph::Op;
use crate::onnx::build::{Builder, Value};

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("MatMul", |b, c| Ok(vec![product(&mut c.write(b), c.operand(0)?, c.operand(1)?)?])),
    ("Gemm", gemm),
    ("Einsum", einsum),
    ("com.microsoft.FusedMatMul", fused_matmul),
    ("com.microsoft.TransposeMatMul", fused_matmul),
];

/// A vector is a matrix of one row or one column.
fn product(w: &mut Writer, x: &Value, y: &Value) -> One {
    let (x_shape, y_shape) = (w.shape(x), w.shape(y));
    let (row, column) = (x_shape.len() == 1, y_shape.len() == 1);
    if !row && !column || x.view().is_some() && y.view().is_some() {
        return w.matmul(x, y);
    }
    let x = if row { w.reshape(x, &[1, x_shape[0]])? } else { x.clone() };
    let y = if column { w.reshape(y, &[y_shape[0], 1])? } else { y.clone() };
    let z = w.matmul(&x, &y)?;
    let mut shape = w.shape(&z);
    if column {
        shape.pop();
    }
    if row {
        shape.remove(shape.len() - usize::from(!column) - 1);
    }
    w.reshape(&z, &shape)
}

fn gemm(b: &mut Builder, c: &Call) -> Results {
    let mut w = c.write(b);
    let mut factors = Vec::new();
    for (i, name) in [(0, "transA"), (1, "transB")] {
        let x = c.operand(i)?;
        if w.shape(x).len() != 2 {
            return Err(format!("operand {i} is not a matrix"));
        }
        factors.push(if c.int(name, 0) == 0 { x.clone() } else { w.transpose(x, &[1, 0])? });
    }
    let y = w.matmul(&factors[0], &factors[1])?;
    let mut y = w.times(&y, c.float("alpha", 1.0))?;
    if let Some(bias) = c.optional(2) {
        let bias = w.times(bias, c.float("beta", 1.0))?;
        y = w.add(&y, &bias)?;
    }
    Ok(vec![y])
}

/// A product with its operands' last axes exchanged, and a factor.
fn fused_matmul(b: &mut Builder, c: &Call) -> Results {
    if c.int("transBatchA", 0) != 0 || c.int("transBatchB", 0) != 0 {
        return Err("it moves the batch".into());
    }
    let mut w = c.write(b);
    let mut factors = Vec::new();
    for (i, name) in [(0, "transA"), (1, "transB")] {
        let x = c.operand(i)?;
        let rank = w.shape(x).len();
        let mut perm: Vec<usize> = (0..rank).collect();
        if c.int(name, 0) != 0 && rank > 1 {
            perm.swap(rank - 2, rank - 1);
        }
        factors.push(w.transpose(x, &perm)?);
    }
    let y = product(&mut w, &factors[0], &factors[1])?;
    Ok(vec![w.times(&y, c.float("alpha", 1.0))?])
}

/// Greatest length of an equation: letters are compared with one another.
const MAX_EQUATION: usize = 1 << 10;

/// A value whose axes have letters; an axis of an ellipsis has a number.
struct Lettered {
    value: Value,
    axes: Vec<Letter>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Letter {
    Named(u8),
    /// Counted from the ellipsis' end.
    Ellipsis(usize),
}

fn letters(term: &str, rank: Option<usize>) -> Result<Vec<Letter>, String> {
    let bad = || format!("its equation has a term `{term}`, which is not understood");
    let (before, after) = term.split_once("...").unwrap_or((term, ""));
    let names = |text: &str| -> Result<Vec<Letter>, String> {
        text.bytes().map(|c| c.is_ascii_alphabetic().then_some(Letter::Named(c)).ok_or_else(bad)).collect()
    };
    let (before, after) = (names(before)?, names(after)?);
    let hidden = match rank {
        Some(rank) if term.contains("...") => rank.checked_sub(before.len() + after.len()).ok_or_else(bad)?,
        Some(rank) if rank != before.len() => return Err(bad()),
        _ => 0,
    };
    Ok(before.into_iter().chain((0..hidden).rev().map(Letter::Ellipsis)).chain(after).collect())
}

/// From the first operand on, each is multiplied with the next; a letter that no later term has is summed over.
fn einsum(b: &mut Builder, c: &Call) -> Results {
    let equation: String = c.text("equation", "")?.split_whitespace().collect();
    if equation.len() > MAX_EQUATION {
        return Err(format!("its equation has more than {MAX_EQUATION} letters"));
    }
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != c.operands.len() {
        return Err("its equation and its operands differ in number".into());
    }
    let mut w = c.write(b);
    let mut parts = Vec::new();
    for (i, term) in terms.iter().enumerate() {
        let value = c.operand(i)?.clone();
        let axes = letters(term, Some(w.shape(&value).len()))?;
        parts.push(diagonal(&mut w, Lettered { value, axes })?);
    }
    // The greatest ellipsis is the result's.
    let hidden: Vec<Letter> = parts
        .iter()
        .map(|p| p.axes.iter().copied().filter(|l| matches!(l, Letter::Ellipsis(_))).collect::<Vec<_>>())
        .max_by_key(Vec::len)
        .unwrap_or_default();
    let wanted: Vec<Letter> = match right {
        Some(text) => {
            let (before, after) = text.split_once("...").unwrap_or((text, ""));
            let middle = if text.contains("...") { &hidden[..] } else { &[] };
            [letters(before, None)?, middle.to_vec(), letters(after, None)?].concat()
        }
        None => {
            // Letters that occur once, in the order of the alphabet.
            let all: String = left.chars().filter(char::is_ascii_alphabetic).collect();
            let mut once: Vec<u8> = all.bytes().filter(|c| all.bytes().filter(|d| d == c).count() == 1).collect();
            once.sort_unstable();
            [hidden.clone(), once.into_iter().map(Letter::Named).collect()].concat()
        }
    };
    if wanted.iter().any(|l| !parts.iter().any(|p| p.axes.contains(l))) {
        return Err("its result has a letter that no operand has".into());
    }
    let mut parts = parts.into_iter();
    let mut left = parts.next().ok_or("it has no operand")?;
    let rest: Vec<Lettered> = parts.collect();
    for i in 0..rest.len() {
        let needed = |l: &Letter| wanted.contains(l) || rest[i + 1..].iter().any(|r| r.axes.contains(l));
        let alone = |l: &Letter| !needed(l) && !rest[i].axes.contains(l);
        left = summed(&mut w, left, alone)?;
        let other = Lettered { value: rest[i].value.clone(), axes: rest[i].axes.clone() };
        let right = {
            let alone = |l: &Letter| !needed(l) && !left.axes.contains(l);
            summed(&mut w, other, alone)?
        };
        left = contracted(&mut w, &left, &right, needed)?;
    }
    let left = summed(&mut w, left, |l| !wanted.contains(l))?;
    let y = ordered(&mut w, &left, &wanted)?;
    Ok(vec![y])
}

/// A letter that occurs twice in a term takes the diagonal.
fn diagonal(w: &mut Writer, mut x: Lettered) -> Result<Lettered, String> {
    let twice =
        |axes: &[Letter]| (0..axes.len()).find_map(|j| Some((axes[..j].iter().position(|l| *l == axes[j])?, j)));
    while let Some((i, j)) = twice(&x.axes) {
        let shape = w.shape(&x.value);
        let n = shape[i];
        if shape[j] != n {
            return Err("a letter of its equation has two sizes".into());
        }
        // Axes i and j to the end, as one, of which every (n + 1)-th element is taken.
        let others: Vec<usize> = (0..shape.len()).filter(|&a| a != i && a != j).collect();
        let perm = [&others[..], &[i, j]].concat();
        let moved = w.transpose(&x.value, &perm)?;
        let kept: Vec<usize> = others.iter().map(|&a| shape[a]).collect();
        let flat = w.reshape(&moved, &[&kept[..], &[n * n]].concat())?;
        let places: Vec<i64> = (0..n as i64).map(|k| k * (n as i64 + 1)).collect();
        let value = super::index::take(w, &flat, kept.len(), &places)?;
        let letter = x.axes[i];
        let axes = others.iter().map(|&a| x.axes[a]).chain([letter]).collect();
        x = Lettered { value, axes };
    }
    Ok(x)
}

fn summed(w: &mut Writer, x: Lettered, drops: impl Fn(&Letter) -> bool) -> Result<Lettered, String> {
    let axes: Vec<usize> = (0..x.axes.len()).filter(|&i| drops(&x.axes[i])).collect();
    if axes.is_empty() {
        return Ok(x);
    }
    let sum = w.sum(&x.value, &axes)?;
    let shape = w.shape(&sum);
    let kept: Vec<usize> = (0..shape.len()).filter(|i| !axes.contains(i)).collect();
    let value = w.reshape(&sum, &kept.iter().map(|&i| shape[i]).collect::<Vec<_>>())?;
    Ok(Lettered { value, axes: kept.iter().map(|&i| x.axes[i]).collect() })
}

/// Axes in an order; letters that it has not are new axes of one.
fn ordered(w: &mut Writer, x: &Lettered, order: &[Letter]) -> One {
    let perm: Vec<usize> = order.iter().filter_map(|l| x.axes.iter().position(|m| m == l)).collect();
    let moved = w.transpose(&x.value, &perm)?;
    let shape = w.shape(&x.value);
    let to: Vec<usize> = order.iter().map(|l| x.axes.iter().position(|m| m == l).map_or(1, |i| shape[i])).collect();
    w.reshape(&moved, &to)
}

/// The product of two, summed over the letters that both have and nothing needs: a batched matrix product.
fn contracted(
    w: &mut Writer,
    x: &Lettered,
    y: &Lettered,
    needed: impl Fn(&Letter) -> bool,
) -> Result<Lettered, String> {
    let sum: Vec<Letter> = x.axes.iter().copied().filter(|l| y.axes.contains(l) && !needed(l)).collect();
    let batch: Vec<Letter> = x.axes.iter().copied().filter(|l| y.axes.contains(l) && needed(l)).collect();
    let x_only: Vec<Letter> = x.axes.iter().copied().filter(|l| !y.axes.contains(l)).collect();
    let y_only: Vec<Letter> = y.axes.iter().copied().filter(|l| !x.axes.contains(l)).collect();
    let sizes = |w: &Writer, z: &Lettered, of: &[Letter]| -> Vec<usize> {
        let shape = w.shape(&z.value);
        of.iter().map(|l| z.axes.iter().position(|m| m == l).map_or(1, |i| shape[i])).collect()
    };
    let (x_batch, y_batch) = (sizes(w, x, &batch), sizes(w, y, &batch));
    let (rows, columns) = (sizes(w, x, &x_only), sizes(w, y, &y_only));
    let (inner, y_inner) = (sizes(w, x, &sum), sizes(w, y, &sum));
    if inner != y_inner {
        return Err("a letter of its equation has two sizes".into());
    }
    let result = [&batch[..], &x_only, &y_only].concat();
    if sum.is_empty() {
        let (a, b) = (ordered(w, x, &result)?, ordered(w, y, &result)?);
        return Ok(Lettered { value: w.mul(&a, &b)?, axes: result });
    }
    let a = ordered(w, x, &[&batch[..], &x_only, &sum].concat())?;
    let a = w.reshape(&a, &[&x_batch[..], &[size(&rows), size(&inner)]].concat())?;
    let b = ordered(w, y, &[&batch[..], &sum, &y_only].concat())?;
    let b = w.reshape(&b, &[&y_batch[..], &[size(&inner), size(&columns)]].concat())?;
    let product = w.op(Op::MatMul, &[&a, &b])?;
    let lead = w.shape(&product);
    let value = w.reshape(&product, &[&lead[..batch.len()], &rows, &columns].concat())?;
    Ok(Lettered { value, axes: result })
}
