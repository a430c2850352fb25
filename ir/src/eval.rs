//! Cleartext reference: runs a program on plain integers, without shares. Tests compare the protocols with it.
//!
//! Every op is exact mod 2^width, with few exceptions. `down` rounds to nearest, halves up, where the protocol rounds
//! up or down: the two differ by at most 1. `series`, `exp` and `cells` see the mask 0, so they round other numbers than the
//! protocol: see [`series_tolerance`], [`crate::exp`] and [`cells_tolerance`].
//!
//! An opening outside its claim wraps here as the low bits do; the protocol's result is then another one, so the
//! evaluation counts such elements.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::exp::Exp;
use crate::liveness;
use crate::op::Op;
use crate::product::product;
use crate::program::Program;
use crate::rows::{self, Full, Rows};
use crate::series::Series;
use crate::types::*;

/// The result of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Evaluation {
    /// The declared outputs as signed integers at their value's scale, row-major.
    pub outputs: Vec<Vec<i64>>,
    /// Instructions that claim a range ([`Op::claim`]) and have elements outside of it, and how many.
    pub broken_claims: Vec<(Value, usize)>,
}

impl Evaluation {
    /// How many elements left their tables, if the program counts them ([`Program::outside`]).
    pub fn outside(&self, program: &Program) -> Option<i64> {
        program.outside().map(|output| self.outputs[output.index()][0])
    }
}

/// Arguments that do not fit the program.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EvalError {
    /// Not as many arguments of a kind as declared.
    #[error("the program has {expected} {what}s, not {found}")]
    Count {
        /// Input, weight or public.
        what: &'static str,
        /// As declared.
        expected: usize,
        /// As given.
        found: usize,
    },
    /// A tensor of another size.
    #[error("{what} {name:?} has {expected} elements, not {found}")]
    Size {
        /// Input or weight.
        what: &'static str,
        /// Its name.
        name: String,
        /// As declared.
        expected: u64,
        /// As given.
        found: usize,
    },
    /// A public number beyond its bound.
    #[error("public {name:?} is below {bound}, not {found}")]
    Public {
        /// Its name.
        name: String,
        /// As declared.
        bound: u32,
        /// As given.
        found: u32,
    },
    /// More rows than an entry has room for.
    #[error(transparent)]
    Full(#[from] Full),
}

/// What the steps of a session leave to the next: the rows of every state, in the clear.
#[derive(Clone, Default)]
pub struct Session {
    rows: Vec<Rows<i64>>,
}

/// Weights, one for each that the program declares: integers at its scale. They may be made when they are read, since all
/// of a large model take more memory than its file.
pub trait Weights: Sync {
    /// How many there are.
    fn count(&self) -> usize;
    /// Number of elements of one.
    fn elements(&self, index: usize) -> usize;
    /// One of them.
    fn weight(&self, index: usize) -> Cow<'_, [i64]>;
}

impl Weights for Vec<Vec<i64>> {
    fn count(&self) -> usize {
        self.len()
    }

    fn elements(&self, index: usize) -> usize {
        self[index].len()
    }

    fn weight(&self, index: usize) -> Cow<'_, [i64]> {
        Cow::Borrowed(&self[index])
    }
}

/// What a run takes.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    /// One for each declared input: encoded elements, in the shape of the input's type.
    pub inputs: &'a [Vec<i64>],
    /// The weights.
    pub weights: &'a dyn Weights,
    /// One for each declared public.
    pub publics: &'a [u32],
}

/// Runs a verified program.
pub fn eval(program: &Program, arguments: Arguments<'_>) -> Result<Evaluation, EvalError> {
    eval_with(program, arguments, |_, _| {})
}

/// Runs a verified program and shows every value, as signed integers, to `visit`.
pub fn eval_with(
    program: &Program,
    arguments: Arguments<'_>,
    visit: impl FnMut(Value, &[i64]),
) -> Result<Evaluation, EvalError> {
    Session::default().step_with(program, arguments, visit)
}

impl Session {
    /// Runs the next step, an entry of a verified module.
    pub fn step(&mut self, program: &Program, arguments: Arguments<'_>) -> Result<Evaluation, EvalError> {
        self.step_with(program, arguments, |_, _| {})
    }

    /// Runs the next step and shows every value, as signed integers, to `visit`.
    pub fn step_with(
        &mut self,
        program: &Program,
        arguments: Arguments<'_>,
        visit: impl FnMut(Value, &[i64]),
    ) -> Result<Evaluation, EvalError> {
        check(program, arguments)?;
        if self.rows.is_empty() {
            self.rows = program.states.iter().map(Rows::new).collect();
        }
        rows::fits(program, |state| self.rows[state.index()].len())?;
        Ok(run(program, arguments, self, visit))
    }
}

fn run(
    program: &Program,
    arguments: Arguments<'_>,
    session: &mut Session,
    mut visit: impl FnMut(Value, &[i64]),
) -> Evaluation {
    let mut run = Run {
        program,
        arguments,
        rows: &mut session.rows,
        values: vec![Vec::new(); program.instrs.len()],
        evaluation: Evaluation { outputs: vec![Vec::new(); program.outputs.len()], ..Evaluation::default() },
    };
    for (i, frees) in liveness::frees(program).into_iter().enumerate() {
        if let Some(ty) = &program.instrs[i].ty {
            let mut result = run.result(i);
            result.iter_mut().for_each(|v| *v = signed(*v, ty.width));
            assert_eq!(Some(result.len() as u64), ty.shape.elements(), "instruction {i} gives what its type says");
            visit(Value(i as u32), &result);
            run.values[i] = result;
        } else if let Op::Reveal { x, output, .. } = program.instrs[i].op {
            run.evaluation.outputs[output.index()] = run.values[x.index()].clone();
        } else if let Op::Choose { x, output } = program.instrs[i].op {
            // The first of several, where a run takes any.
            let places = run.values[x.index()].iter().zip(0i64..);
            let greatest = places.max_by_key(|&(&value, place)| (value, -place)).expect("verified: one or more");
            run.evaluation.outputs[output.index()] = vec![greatest.1];
        }
        frees.iter().for_each(|v| run.values[v.index()] = Vec::new());
    }
    run.evaluation
}

/// The low `width` bits of `x` as a signed integer.
pub fn signed(x: i64, width: Width) -> i64 {
    let unused = 64 - u32::from(width);
    x << unused >> unused
}

/// Greatest difference, in ulps of the result, between `series` as it is evaluated here and under any mask.
///
/// Per term: the dealt cosine and sine are off by at most 1 ulp of theirs, times public factors that sum to at most
/// 2·(|a| + |b|); those factors, one here and two there, are off by their rounding and by |a| + |b| times an error of the
/// public cosines ([`crate::series::Turn`]), times at most 1.
pub fn series_tolerance(table: &Table) -> i64 {
    let Table::Series { public_scale, dealt_scale, cos, sin, .. } = table else { panic!("not a series") };
    let sum = |k: usize| {
        let sum = i128::from(cos[k].unsigned_abs()) + sin.get(k).map_or(0, |b| i128::from(b.unsigned_abs()));
        sum << public_scale
    };
    let factors = |k: usize| (sum(k) >> SERIES_FRACTION) + 1;
    let turns = |k: usize| (3 * sum(k) * (k as i128 + 1)) >> (SERIES_FRACTION + 27);
    let total: i128 = (0..cos.len()).map(|k| 2 * factors(k) + ((2 + turns(k)) << dealt_scale)).sum();
    i64::try_from(total).unwrap_or(i64::MAX)
}

/// Greatest difference, in ulps of the result, between `cells` as it is evaluated here and under any mask, which reads the
/// line of a cell or of the next one.
pub fn cells_tolerance(table: &Table) -> i64 {
    let Table::Cells { cell_bits, a, b, .. } = table else { panic!("not a table of cells") };
    let cell = 1i64 << cell_bits;
    let difference = |j: usize| {
        let next = (j + 1) % a.len();
        let at = |d: i64| (a[j] + b[j] * d - a[next] - b[next] * (d - cell)).abs();
        at(0).max(at(cell - 1))
    };
    (0..a.len()).map(difference).max().expect("cells")
}

fn check(program: &Program, arguments: Arguments<'_>) -> Result<(), EvalError> {
    let count = |what, expected, found| {
        if expected == found { Ok(()) } else { Err(EvalError::Count { what, expected, found }) }
    };
    let size = |what, name: &str, shape: &Shape, found: usize| match shape.elements() {
        Some(n) if n == found as u64 => Ok(()),
        n => Err(EvalError::Size { what, name: name.to_owned(), expected: n.unwrap_or(u64::MAX), found }),
    };
    count("input", program.inputs.len(), arguments.inputs.len())?;
    count("weight", program.weights.len(), arguments.weights.count())?;
    count("public", program.publics.len(), arguments.publics.len())?;
    for (decl, input) in program.inputs.iter().zip(arguments.inputs) {
        size("input", &decl.name, &decl.ty.shape, input.len())?;
    }
    for (index, decl) in program.weights.iter().enumerate() {
        size("weight", &decl.name, &decl.shape, arguments.weights.elements(index))?;
    }
    for (decl, &found) in program.publics.iter().zip(arguments.publics) {
        if found >= decl.bound {
            return Err(EvalError::Public { name: decl.name.clone(), bound: decl.bound, found });
        }
    }
    Ok(())
}

struct Run<'a> {
    program: &'a Program,
    arguments: Arguments<'a>,
    /// What the session keeps.
    rows: &'a mut [Rows<i64>],
    /// Signed values; empty before they are computed and after their last use.
    values: Vec<Vec<i64>>,
    evaluation: Evaluation,
}

impl Run<'_> {
    /// The elements of an instruction's result mod 2^64; the caller reduces them to its width.
    fn result(&mut self, index: usize) -> Vec<i64> {
        let program = self.program;
        let instr = &program.instrs[index];
        let own = instr.ty.as_ref().expect("only called for results");
        let value = |v: &Value| &self.values[v.index()][..];
        let ty = |v: &Value| program.ty(*v);
        let map = |x: &Value, f: &(dyn Fn(i64) -> i64 + Sync)| value(x).par_iter().map(|&v| f(v)).collect::<Vec<_>>();
        let pair = |x: &[i64], x_shape: &Shape, y: &[i64], y_shape: &Shape, f: fn(i64, i64) -> i64| {
            let (x, y) = (spread(x, x_shape, &own.shape), spread(y, y_shape, &own.shape));
            x.into_iter().zip(y).map(|(x, y)| f(x, y)).collect::<Vec<_>>()
        };
        let both = |x: &Value, y: &Value, f| pair(value(x), &ty(x).shape, value(y), &ty(y).shape, f);
        let constant = |x: &Value, table: &TableId, f| {
            let Table::Const { shape, values, .. } = program.table(*table) else { unreachable!("verified") };
            pair(value(x), &ty(x).shape, values, shape, f)
        };
        match &instr.op {
            Op::Input { input } => self.arguments.inputs[input.index()].clone(),
            Op::Narrow { x, .. } | Op::Point { x, .. } | Op::Reshape { x, .. } | Op::Lift { x, .. } => {
                value(x).to_vec()
            }
            Op::Down { x, by } => {
                // Half is at most 2^62; the sum is taken in 128 bits since the value may be near 2^63.
                let half = 1i128 << (by - 1);
                map(x, &|v| ((i128::from(v) + half) >> by) as i64)
            }
            Op::Up { x, by } => map(x, &|v| v << by),
            Op::Add { x, y } => both(x, y, i64::wrapping_add),
            Op::Sub { x, y } => both(x, y, i64::wrapping_sub),
            Op::Mul { x, y, .. } => both(x, y, i64::wrapping_mul),
            Op::AddPublic { x, table } => constant(x, table, i64::wrapping_add),
            Op::MulPublic { x, table } => constant(x, table, i64::wrapping_mul),
            Op::AddWeight { x, weight } => {
                let shape = &program.weights[weight.index()].shape;
                pair(value(x), &ty(x).shape, &self.arguments.weights.weight(weight.index()), shape, i64::wrapping_add)
            }
            Op::AddRow { x, weight, index } => {
                let d = program.weights[weight.index()].shape.0[1];
                let at = self.arguments.publics[index.index()] as usize * d as usize;
                let table = self.arguments.weights.weight(weight.index());
                let row = &table[at..at + d as usize];
                pair(value(x), &ty(x).shape, row, &Shape(vec![d]), i64::wrapping_add)
            }
            Op::AddBand { x, weight, index } => {
                let [held, n] = program.weights[weight.index()].shape.0[..] else { unreachable!("verified") };
                let (held, n, c) = (held as usize, n as usize, own.shape.0[1] as usize);
                let at = self.arguments.publics[index.index()];
                let weight = self.arguments.weights.weight(weight.index());
                let band = |row: usize, j: usize| {
                    let column = (at as usize).checked_sub(j).filter(|&column| column < n);
                    column.map_or(0, |column| weight[(row % held) * n + column])
                };
                value(x).iter().enumerate().map(|(i, v)| v.wrapping_add(band(i / c, i % c))).collect()
            }
            Op::MulRow { x, table, index } => {
                let Table::Const { shape, values, .. } = program.table(*table) else { unreachable!("verified") };
                let d = shape.0[1];
                let at = self.arguments.publics[index.index()] as usize * d as usize;
                let row = &values[at..at + d as usize];
                pair(value(x), &ty(x).shape, row, &Shape(vec![d]), i64::wrapping_mul)
            }
            Op::Expand { x, shape } => spread(value(x), &ty(x).shape, shape),
            Op::Keep { x, first, from, to, axis } => {
                let [first, from, to] = [first, from, to].map(|p| self.arguments.publics[p.index()] as usize);
                let (dim, inner) = dim_inner(&ty(x).shape, *axis);
                let kept = |i: usize| i < first || (from..to).contains(&i);
                value(x).iter().enumerate().map(|(i, &v)| if kept(i / inner % dim) { v } else { 0 }).collect()
            }
            Op::Transpose { x, perm } => transpose(value(x), &ty(x).shape, perm),
            Op::Slice { x, axis, from, to } => {
                let (dim, inner) = dim_inner(&ty(x).shape, *axis);
                let (from, to) = (*from as usize * inner, *to as usize * inner);
                value(x).chunks_exact(dim * inner).flat_map(|c| &c[from..to]).copied().collect()
            }
            Op::Concat { xs, axis } => {
                let parts: Vec<(&[i64], usize)> = xs
                    .iter()
                    .map(|x| {
                        let (dim, inner) = dim_inner(&ty(x).shape, *axis);
                        (value(x), dim * inner)
                    })
                    .collect();
                let outer = parts[0].0.len() / parts[0].1;
                (0..outer).flat_map(|o| parts.iter().flat_map(move |(x, n)| &x[o * n..][..*n])).copied().collect()
            }
            Op::Pick { x, index, axis } => {
                let (dim, inner) = dim_inner(&ty(x).shape, *axis);
                let at = self.arguments.publics[index.index()] as usize * inner;
                value(x).chunks_exact(dim * inner).flat_map(|c| &c[at..at + inner]).copied().collect()
            }
            Op::Sum { x, axis } => {
                let (dim, inner) = dim_inner(&ty(x).shape, *axis);
                sums(value(x), dim, inner, &[(0, dim)])
            }
            Op::RowSum { x, pattern, axis } => {
                let (dim, inner) = dim_inner(&ty(x).shape, *axis);
                sums(value(x), dim, inner, &row_ranges(program.table(*pattern)))
            }
            Op::Spread { x, pattern, axis } => {
                let (dim, inner) = dim_inner(&ty(x).shape, *axis);
                let ranges = row_ranges(program.table(*pattern));
                let mut out = Vec::new();
                for chunk in value(x).chunks_exact(dim * inner) {
                    for (row, (from, to)) in chunk.chunks_exact(inner).zip(&ranges) {
                        (*from..*to).for_each(|_| out.extend_from_slice(row));
                    }
                }
                out
            }
            Op::Linear { x, weight } => {
                let shape = &program.weights[weight.index()].shape.0;
                product(value(x), &self.arguments.weights.weight(weight.index()), shape[0] as usize, shape[1] as usize)
            }
            Op::Open { x, .. } | Op::Extend { x, .. } => {
                if let Some(claim) = instr.op.claim() {
                    let limit = 1i64 << (claim - 2);
                    let outside = value(x).iter().filter(|v| v.unsigned_abs() >= limit as u64).count();
                    if outside > 0 {
                        self.evaluation.broken_claims.push((Value(index as u32), outside));
                    }
                }
                value(x).to_vec()
            }
            Op::Square { x, .. } => map(x, &|v| v.wrapping_mul(v)),
            Op::SumSquares { x, .. } => {
                let (dim, _) = dim_inner(&ty(x).shape, ty(x).shape.rank() as u32 - 1);
                let sum = |row: &[i64]| row.iter().fold(0i64, |s, v| s.wrapping_add(v.wrapping_mul(*v)));
                value(x).chunks_exact(dim).map(sum).collect()
            }
            Op::Sddmm { x, y, pattern } => {
                let Table::Pattern(p) = program.table(*pattern) else { unreachable!("verified") };
                let k = ty(x).shape.0[ty(x).shape.rank() - 1] as usize;
                let batches =
                    value(x).par_chunks_exact(p.rows.len() * k).zip(value(y).par_chunks_exact(p.columns as usize * k));
                let scores = batches.flat_map_iter(|(x, y)| {
                    x.chunks_exact(k).zip(&p.rows).flat_map(move |(row, &(from, to))| {
                        let columns = y.chunks_exact(k).take(to as usize).skip(from as usize);
                        columns.map(move |column| {
                            row.iter().zip(column).fold(0i64, |s, (a, b)| s.wrapping_add(a.wrapping_mul(*b)))
                        })
                    })
                });
                scores.collect()
            }
            Op::Spmm { x, y, pattern } => {
                let Table::Pattern(p) = program.table(*pattern) else { unreachable!("verified") };
                let k = own.shape.0[own.shape.rank() - 1] as usize;
                let mut out = vec![0i64; own.shape.elements().expect("verified") as usize];
                let batches =
                    value(x).par_chunks_exact(p.kept() as usize).zip(value(y).par_chunks_exact(p.columns as usize * k));
                batches.zip(out.par_chunks_exact_mut(p.rows.len() * k)).for_each(|((x, y), out)| {
                    let mut x = x.iter();
                    for (out, &(from, to)) in out.chunks_exact_mut(k).zip(&p.rows) {
                        for (&v, row) in
                            x.by_ref().take((to - from) as usize).zip(y.chunks_exact(k).skip(from as usize))
                        {
                            add_scaled(out, v, row);
                        }
                    }
                });
                out
            }
            Op::Series { x, table, .. } => {
                let table = program.table(*table);
                let Table::Series { period_log2, c0, dealt_scale, .. } = table else { unreachable!("verified") };
                let n = (i16::from(*period_log2) + ty(x).scale) as Width;
                let series = Series::new(table, n);
                let buffers = || (vec![0; series.terms()], vec![0; series.terms()]);
                let function = |(p, q): &mut (Vec<i64>, Vec<i64>), &v: &i64| {
                    series.coefficients(v as u64, p, q);
                    p.iter().fold(*c0, |sum, p| sum.wrapping_add(p << dealt_scale))
                };
                value(x).par_iter().map_init(buffers, function).collect()
            }
            Op::Exp { x, table, .. } => {
                let exp = Exp::new(program.table(*table), ty(x).scale);
                map(x, &|v| exp.unmasked(v))
            }
            Op::Cells { x, table, .. } => {
                let Table::Cells { cell_bits, a, b, .. } = program.table(*table) else { unreachable!("verified") };
                let line = |v: i64| {
                    let (cell, d) = (v >> cell_bits, v & ((1 << cell_bits) - 1));
                    let at = cell as usize & (a.len() - 1);
                    a[at].wrapping_add(b[at].wrapping_mul(d))
                };
                map(x, &line)
            }
            Op::Spline { x, table, ends, .. } => {
                let Table::Spline { knots, a, b, .. } = program.table(*table) else { unreachable!("verified") };
                let interval = |v: i64| knots.partition_point(|k| *k <= v);
                let line = |v: i64, i: usize| a[i].wrapping_add(b[i].wrapping_mul(v));
                if !ends {
                    return map(x, &|v| line(v, interval(v)));
                }
                let both = |&v: &i64| {
                    let i = interval(v);
                    [line(v, i), i64::from(i == 0 || i == knots.len())]
                };
                value(x).par_iter().flat_map_iter(both).collect()
            }
            Op::Ge { x, table, .. } => {
                let Table::Thresholds(thresholds) = program.table(*table) else { unreachable!("verified") };
                let n = ty(x).width;
                let reaches = |v: &i64, t: &i64| i64::from(signed(v.wrapping_sub(*t), n) >= 0);
                value(x).par_iter().flat_map_iter(|v| thresholds.iter().map(move |t| reaches(v, t))).collect()
            }
            Op::Select { d, y, .. } => {
                let components = value(y).len() / value(d).len();
                let chosen =
                    |(d, y): (&i64, &[i64])| y.iter().map(|&y| if *d >= 0 { y } else { 0 }).collect::<Vec<_>>();
                value(d).iter().zip(value(y).chunks_exact(components)).flat_map(chosen).collect()
            }
            Op::Cache { x, state, capacity } => {
                let rows = &mut self.rows[state.index()];
                rows.append(&self.values[x.index()]);
                rows.all(*capacity as usize)
            }
            Op::Round {} | Op::Send {} | Op::Reveal { .. } | Op::Choose { .. } => unreachable!("no result"),
        }
    }
}

/// `x` repeated along the dimensions that it broadcasts over.
fn spread(x: &[i64], shape: &Shape, to: &Shape) -> Vec<i64> {
    if shape == to {
        return x.to_vec();
    }
    let missing = to.rank() - shape.rank();
    let mut strides = vec![0usize; to.rank()];
    let mut stride = 1;
    for axis in (0..shape.rank()).rev() {
        if shape.0[axis] != 1 {
            strides[missing + axis] = stride;
        }
        stride *= shape.0[axis] as usize;
    }
    walk(x, &to.0, &strides)
}

fn transpose(x: &[i64], shape: &Shape, perm: &[u32]) -> Vec<i64> {
    let mut strides = vec![1usize; shape.rank()];
    for axis in (1..shape.rank()).rev() {
        strides[axis - 1] = strides[axis] * shape.0[axis] as usize;
    }
    let pick = |of: &dyn Fn(usize) -> usize| perm.iter().map(|&a| of(a as usize)).collect::<Vec<_>>();
    let dims: Vec<u32> = perm.iter().map(|&a| shape.0[a as usize]).collect();
    walk(x, &dims, &pick(&|a| strides[a]))
}

/// The elements of `x` at all multiples of `strides` below `dims`, in row-major order.
fn walk(x: &[i64], dims: &[u32], strides: &[usize]) -> Vec<i64> {
    let mut places = vec![0usize];
    for (&dim, &stride) in dims.iter().zip(strides) {
        places = places.iter().flat_map(|&p| (0..dim as usize).map(move |i| p + i * stride)).collect();
    }
    places.into_iter().map(|p| x[p]).collect()
}

/// Size of an axis, and elements of what follows it.
fn dim_inner(shape: &Shape, axis: u32) -> (usize, usize) {
    let (before, after) = shape.0.split_at(axis as usize + 1);
    (before[axis as usize] as usize, after.iter().map(|&d| d as usize).product())
}

/// Ranges of the kept elements of each row within a packed dimension.
fn row_ranges(table: &Table) -> Vec<(usize, usize)> {
    let Table::Pattern(p) = table else { unreachable!("verified") };
    let mut end = 0;
    p.rows
        .iter()
        .map(|(from, to)| {
            let start = end;
            end += (to - from) as usize;
            (start, end)
        })
        .collect()
}

/// Sums over ranges of an axis of `dim` elements with `inner` elements after it.
fn sums(x: &[i64], dim: usize, inner: usize, ranges: &[(usize, usize)]) -> Vec<i64> {
    let mut out = Vec::new();
    for chunk in x.chunks_exact(dim * inner) {
        for (from, to) in ranges {
            let mut sum = vec![0i64; inner];
            chunk[from * inner..to * inner].chunks_exact(inner).for_each(|row| add_scaled(&mut sum, 1, row));
            out.extend(sum);
        }
    }
    out
}

fn add_scaled(out: &mut [i64], factor: i64, row: &[i64]) {
    for (o, v) in out.iter_mut().zip(row) {
        *o = o.wrapping_add(factor.wrapping_mul(*v));
    }
}
