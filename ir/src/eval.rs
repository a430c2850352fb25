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

use crate::liveness;
use crate::op::Op;
use crate::program::Program;
use crate::rows::{self, Full, Rows};
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
    let mut values = vec![Vec::new(); program.instrs.len()];
    let mut evaluation = Evaluation { outputs: vec![Vec::new(); program.outputs.len()], ..Evaluation::default() };
    for ((i, instr), frees) in program.instrs.iter().enumerate().zip(liveness::frees(program)) {
        if let (Some(claim), Some(x)) = (instr.op.claim(), instr.op.operands().next()) {
            let limit = 1u64 << (claim - 2);
            let outside = values[x.index()].iter().filter(|v: &&i64| v.unsigned_abs() >= limit).count();
            if outside > 0 {
                evaluation.broken_claims.push((Value(i as u32), outside));
            }
        }
        match (&instr.op, &instr.ty) {
            (Op::Reveal { x, output, .. }, _) => evaluation.outputs[output.index()] = values[x.index()].clone(),
            (Op::Choose { x, output }, _) => {
                // The first of several, where a run takes any.
                let places = values[x.index()].iter().zip(0i64..);
                let greatest = places.max_by_key(|&(&value, place)| (value, -place)).expect("verified: one or more");
                evaluation.outputs[output.index()] = vec![greatest.1];
            }
            (op, Some(ty)) => {
                let mut result = match op {
                    Op::Cache { x, state, capacity } => {
                        let rows = &mut session.rows[state.index()];
                        rows.append(&values[x.index()]);
                        rows.all(*capacity as usize)
                    }
                    _ => op.eval(&Operands { program, arguments, own: ty, values: &values }),
                };
                result.iter_mut().for_each(|v| *v = signed(*v, ty.width));
                assert_eq!(Some(result.len() as u64), ty.shape.elements(), "instruction {i} gives what its type says");
                visit(Value(i as u32), &result);
                values[i] = result;
            }
            _ => {}
        }
        frees.iter().for_each(|v| values[v.index()] = Vec::new());
    }
    evaluation
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

/// What an op is evaluated on.
pub(crate) struct Operands<'a> {
    /// The program.
    pub program: &'a Program,
    /// What the run takes.
    pub arguments: Arguments<'a>,
    /// Type of the result.
    pub own: &'a Type,
    /// Signed values; empty before they are computed and after their last use.
    values: &'a [Vec<i64>],
}

impl<'a> Operands<'a> {
    /// Elements of an operand.
    pub fn value(&self, v: &Value) -> &'a [i64] {
        &self.values[v.index()]
    }

    /// Type of an operand.
    pub fn ty(&self, v: &Value) -> &'a Type {
        self.program.ty(*v)
    }

    /// A function of each element.
    pub fn map(&self, x: &Value, f: impl Fn(i64) -> i64 + Sync) -> Vec<i64> {
        self.value(x).par_iter().map(|&v| f(v)).collect()
    }

    /// A function of each element and that of another tensor, both broadcast to the result.
    pub fn with(&self, x: &Value, y: &[i64], y_shape: &Shape, f: fn(i64, i64) -> i64) -> Vec<i64> {
        let (x, y) = (spread(self.value(x), &self.ty(x).shape, &self.own.shape), spread(y, y_shape, &self.own.shape));
        x.into_iter().zip(y).map(|(x, y)| f(x, y)).collect()
    }

    /// A function of the elements of two operands.
    pub fn both(&self, x: &Value, y: &Value, f: fn(i64, i64) -> i64) -> Vec<i64> {
        self.with(x, self.value(y), &self.ty(y).shape, f)
    }
}

/// `x` repeated along the dimensions that it broadcasts over.
pub(crate) fn spread(x: &[i64], shape: &Shape, to: &Shape) -> Vec<i64> {
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

/// The elements of `x` at all multiples of `strides` below `dims`, in row-major order.
pub(crate) fn walk(x: &[i64], dims: &[u32], strides: &[usize]) -> Vec<i64> {
    let mut places = vec![0usize];
    for (&dim, &stride) in dims.iter().zip(strides) {
        places = places.iter().flat_map(|&p| (0..dim as usize).map(move |i| p + i * stride)).collect();
    }
    places.into_iter().map(|p| x[p]).collect()
}
