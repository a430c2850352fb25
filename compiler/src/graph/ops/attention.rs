//! Attention.

use ir::Pattern;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis, Ix2, IxDyn, Slice};

use super::softmax::softmax;
use super::{Family, stranger};
use crate::graph::kernel::{Element, View};
use crate::graph::shape::{Operands, Typed};
use crate::graph::text::{ParseError, Parser};
use crate::graph::{Bias, DType, Op, Tensor};

pub(super) const FAMILY: Family = Family {
    name: |_| "attention",
    attributes,
    parse: |parser, name, _| parse(parser, name),
    rule: |op, operands, _| rule(op, operands),
    kernel: |op, operands, _, _| Ok(Tensor::F32(kernel(op, operands))),
};

fn attributes(op: &Op) -> String {
    let Op::Attention { heads, kv_heads, pattern, softcap, bias, window, sinks } = op else { stranger(op) };
    let mut out = format!("heads {heads}");
    if kv_heads != heads {
        out += &format!(" on {kv_heads}");
    }
    if let Some(cap) = softcap {
        out += &format!(", softcap {cap:?}");
    }
    let bias = bias.map(|bias| FORMS.iter().find(|form| form.1 == bias).expect("a form of a bias").0);
    for name in bias.into_iter().chain(sinks.then_some("sinks")) {
        out += &format!(", {name}");
    }
    if let Some(window) = window {
        return format!("{out}, window {window}, {}x{}", pattern.rows.len(), pattern.columns);
    }
    format!("{out}, {}", pattern_text(pattern))
}

/// Names of the forms of a bias.
const FORMS: [(&str, Bias); 2] = [("biased", Bias::Scores), ("biased_by_distance", Bias::Distances)];

/// The causal pattern of which each row keeps the last `window` columns.
pub fn windowed(rows: u32, columns: u32, window: u32) -> Pattern {
    let mut pattern = Pattern::causal(rows, columns);
    pattern.rows.iter_mut().for_each(|(from, to)| *from = to.saturating_sub(window));
    pattern
}

fn pattern_text(pattern: &Pattern) -> String {
    let (rows, columns) = (pattern.rows.len() as u32, pattern.columns);
    if *pattern == Pattern::full(rows, columns) {
        format!("full {rows}x{columns}")
    } else if rows <= columns && *pattern == Pattern::causal(rows, columns) {
        format!("causal {rows}x{columns}")
    } else {
        let ranges: Vec<String> = pattern.rows.iter().map(|(from, to)| format!("{from}..{to}")).collect();
        format!("columns {columns}, rows {}", ranges.join(", "))
    }
}

fn parse(parser: &mut Parser<'_>, name: &str) -> Result<Option<Op>, ParseError> {
    if name != "attention" {
        return Ok(None);
    }
    let heads = parser.named("heads")?;
    let kv_heads = if parser.peek_word() == "on" { parser.named("on")? } else { heads };
    parser.expect(',')?;
    let mut softcap = None;
    if parser.peek_word() == "softcap" {
        softcap = Some(parser.named("softcap")?);
        parser.expect(',')?;
    }
    let mut bias = None;
    for (name, form) in FORMS {
        if parser.flag(name)? {
            bias = Some(form);
        }
    }
    let sinks = parser.flag("sinks")?;
    let (window, pattern) = parse_pattern(parser)?;
    Ok(Some(Op::Attention { heads, kv_heads, pattern, softcap, bias, window, sinks }))
}

fn parse_pattern(parser: &mut Parser<'_>) -> Result<(Option<u32>, Pattern), ParseError> {
    let start = parser.mark();
    let word = parser.word("a pattern")?;
    let window = if word == "window" { Some(parser.number()?) } else { None };
    match word {
        kind @ ("full" | "causal" | "window") => {
            if window.is_some() {
                parser.expect(',')?;
            }
            let (rows, columns): (u32, u32) = parser.pair("x", "a size such as 8x8")?;
            // The size is not backed by data, so it is held to what a sequence can be.
            if rows > 1 << 20 || kind != "full" && rows > columns || window == Some(0) {
                return Err(parser.error(start, format!("no {kind} pattern is {rows}x{columns}")));
            }
            Ok(match window {
                Some(size) => (window, windowed(rows, columns, size)),
                None if kind == "full" => (None, Pattern::full(rows, columns)),
                None => (None, Pattern::causal(rows, columns)),
            })
        }
        "columns" => {
            let columns = parser.number()?;
            parser.expect(',')?;
            parser.keyword("rows")?;
            let mut rows = vec![parser.range()?];
            while parser.eat(',') {
                rows.push(parser.range()?);
            }
            Ok((None, Pattern { columns, rows }))
        }
        word => Err(parser.error(start, format!("expected `full`, `causal`, `window` or `columns`, found `{word}`"))),
    }
}

fn rule(op: &Op, operands: Operands<'_>) -> Result<Typed, String> {
    let Op::Attention { heads, kv_heads, pattern, bias, window, sinks, .. } = op else { stranger(op) };
    let extras = usize::from(bias.is_some()) + usize::from(*sinks);
    operands.count(3 + extras..=3 + extras)?;
    let (q, k, v) = (operands.float(0)?, operands.float(1)?, operands.float(2)?);
    let fits = [q, k, v].iter().all(|s| s.len() == 3 && s[0] == q[0])
        && *heads > 0
        && *kv_heads > 0
        && heads % kv_heads == 0
        && [(q, heads), (k, kv_heads), (v, kv_heads)].iter().all(|(s, parts)| s[2] % **parts == 0)
        && q[2] / heads == k[2] / kv_heads
        && k[1] == v[1]
        && (pattern.rows.len(), pattern.columns as usize) == (q[1], k[1])
        && pattern.rows.iter().all(|r| r.0 <= r.1 && r.1 <= pattern.columns);
    if !fits {
        let rows = pattern.rows.len();
        return Err(format!("q {q:?}, k {k:?}, v {v:?}, {heads} heads on {kv_heads}, {rows} rows kept"));
    }
    if let Some(form) = bias {
        let shape = operands.float(3)?;
        let fits = match (form, &shape[..]) {
            (Bias::Scores, [h, rows, columns]) => [1, *heads].contains(h) && (*rows, *columns) == (q[1], k[1]),
            (Bias::Distances, [h, n]) => {
                [1, *heads].contains(h) && distances(pattern).is_some_and(|greatest| (greatest as usize) < *n)
            }
            _ => false,
        };
        if !fits {
            return Err(format!("a bias of shape {shape:?} on {heads} heads of {}x{} scores", q[1], k[1]));
        }
    }
    if let Some(size) = *window
        && (size == 0 || q[1] > k[1] || *pattern != windowed(q[1] as u32, k[1] as u32, size))
    {
        return Err(format!("a pattern that is not causal with a window of {size}"));
    }
    if *sinks && operands.shape(2 + extras)[..] != [*heads] {
        return Err(format!("sinks of shape {:?} for {heads} heads", operands.shape(2 + extras)));
    }
    Ok((vec![q[0], q[1], v[2] / kv_heads * heads], DType::F32))
}

/// The greatest distance over which a kept score looks back; `None` if one looks ahead.
fn distances(pattern: &Pattern) -> Option<u32> {
    let before = pattern.columns.checked_sub(pattern.rows.len() as u32)?;
    let mut greatest = 0;
    for (i, &(from, to)) in pattern.rows.iter().enumerate().filter(|(_, (from, to))| from < to) {
        let at = before + i as u32;
        if to > at + 1 {
            return None;
        }
        greatest = greatest.max(at - from);
    }
    Some(greatest)
}

fn kernel(op: &Op, operands: &[View<'_>]) -> ArrayD<f32> {
    let float = |i: usize| f32::of(&operands[i]);
    attention(float(0), float(1), float(2), &Scores::new(op, &operands[3..]))
}

/// What [`Op::Attention`] says of its scores.
struct Scores<'a, 'v> {
    heads: usize,
    kv_heads: usize,
    pattern: &'a Pattern,
    softcap: Option<f32>,
    bias: Option<(Bias, &'a ArrayViewD<'v, f32>)>,
    sinks: Option<&'a ArrayViewD<'v, f32>>,
}

impl<'a, 'v> Scores<'a, 'v> {
    /// `extras` are the operands after v.
    fn new(op: &'a Op, extras: &'a [View<'v>]) -> Scores<'a, 'v> {
        let Op::Attention { heads, kv_heads, pattern, softcap, bias, sinks, .. } = op else { stranger(op) };
        let float = |i: usize| f32::of(&extras[i]);
        let bias = bias.map(|form| (form, float(0)));
        let sinks = sinks.then(|| float(extras.len() - 1));
        Scores { heads: *heads, kv_heads: *kv_heads, pattern, softcap: *softcap, bias, sinks }
    }

    /// The scores of a head, as the softmax takes them; what the pattern drops stands there too.
    fn of(&self, q: ArrayView2<f32>, k: ArrayView2<f32>, head: usize) -> Array2<f32> {
        self.added(product(q, k), head)
    }

    /// Products of q and k, capped and with the bias.
    fn added(&self, mut scores: Array2<f32>, head: usize) -> Array2<f32> {
        if let Some(cap) = self.softcap {
            scores.mapv_inplace(|s| cap * (s / cap).tanh());
        }
        if let Some((form, bias)) = self.bias {
            let plane = bias.index_axis(Axis(0), if bias.shape()[0] == 1 { 0 } else { head });
            match form {
                Bias::Scores => scores += &plane.into_dimensionality::<Ix2>().expect("rank 2"),
                Bias::Distances => {
                    let before = scores.ncols() - scores.nrows();
                    for ((i, j), score) in scores.indexed_iter_mut() {
                        *score += (before + i).checked_sub(j).and_then(|d| plane.get([d])).copied().unwrap_or(0.0);
                    }
                }
            }
        }
        scores
    }
}

/// q·kᵀ.
fn product(q: ArrayView2<f32>, k: ArrayView2<f32>) -> Array2<f32> {
    let mut product = Array2::zeros((q.nrows(), k.nrows()));
    general_mat_mul(1.0, &q, &k.t(), 0.0, &mut product);
    product
}

/// What [`Op::Attention`] takes the softmax of, for a head of a batch element.
pub struct HeadScores {
    /// Scores; what the pattern drops stands there too.
    pub scores: Array2<f32>,
    /// One score more of every row.
    pub sink: Option<f32>,
    /// Greatest absolute value before the scores are capped.
    pub uncapped: f32,
}

/// Calls `f` for every head of every batch element, operands as the op's.
pub fn for_scores(op: &Op, operands: &[View<'_>], mut f: impl FnMut(HeadScores)) {
    let about = Scores::new(op, &operands[3..]);
    let (heads, group) = (about.heads, about.heads / about.kv_heads);
    let (q, k) = (f32::of(&operands[0]), f32::of(&operands[1]));
    for b in 0..q.shape()[0] {
        for h in 0..heads {
            let product = product(part(q, b, h, heads).view(), part(k, b, h / group, about.kv_heads).view());
            let uncapped = product.iter().fold(0f32, |m, s| m.max(s.abs()));
            f(HeadScores { scores: about.added(product, h), sink: about.sinks.map(|sinks| sinks[h]), uncapped });
        }
    }
}

/// Part `h` of `parts` of the last axis of a batch element.
fn part(x: &ArrayViewD<'_, f32>, b: usize, h: usize, parts: usize) -> Array2<f32> {
    let width = x.shape()[2] / parts;
    let x = x.index_axis(Axis(0), b).slice_axis(Axis(1), Slice::from(h * width..(h + 1) * width)).to_owned();
    x.into_dimensionality::<Ix2>().expect("rank 2")
}

/// See [`Op::Attention`]. A row that keeps nothing gives zeros.
fn attention(
    q: &ArrayViewD<'_, f32>,
    k: &ArrayViewD<'_, f32>,
    v: &ArrayViewD<'_, f32>,
    about: &Scores<'_, '_>,
) -> ArrayD<f32> {
    let (heads, group) = (about.heads, about.heads / about.kv_heads);
    let (batch, rows) = (q.shape()[0], q.shape()[1]);
    let width = v.shape()[2] / about.kv_heads;
    let mut out = ArrayD::zeros(IxDyn(&[batch, rows, heads * width]));
    for b in 0..batch {
        for h in 0..heads {
            let (queries, keys) = (part(q, b, h, heads), part(k, b, h / group, about.kv_heads));
            let mut scores = about.of(queries.view(), keys.view(), h);
            for (mut row, &(from, to)) in scores.rows_mut().into_iter().zip(&about.pattern.rows) {
                let (from, to) = (from as usize, to as usize);
                // A sink is one score more, dropped after the softmax.
                let mut sink = about.sinks.map(|sinks| sinks[h]);
                softmax(row.iter_mut().take(to).skip(from).chain(sink.as_mut()));
                row.iter_mut().enumerate().filter(|(j, _)| !(from..to).contains(j)).for_each(|(_, x)| *x = 0.0);
            }
            let target = out.index_axis_mut(Axis(0), b);
            let mut target = target.into_dimensionality::<Ix2>().expect("rank 2");
            let mut target = target.slice_axis_mut(Axis(1), Slice::from(h * width..(h + 1) * width));
            general_mat_mul(1.0, &scores, &part(v, b, h / group, about.kv_heads), 0.0, &mut target);
        }
    }
    out
}
