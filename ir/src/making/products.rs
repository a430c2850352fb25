//! Products of matrices that several steps take, which are made before the steps: those with weights, and those of two secrets whose
//! masks are of the parties' own seeds, so that nothing of a step need be made first.
//!
//! What rows of a state are multiplied by in one step after another is one product: the steps' rows below one another, times all
//! rows that the state has after the last of them.

use super::Factors;
use crate::op::Op;
use crate::ops::elements;
use crate::pair::own_masks;
use crate::program::Program;
use crate::types::*;
use std::collections::{BTreeMap, HashMap};

/// Rows of a product with a weight that is made at once, at most: what a ciphertext holds.
const BATCH_ROWS: u64 = 4096;

/// Numbers that products are made of, and results that are kept until their steps are made, at most.
const TOGETHER: u64 = 1 << 26;

/// Numbers that the products of a step are made of and results that are kept until it is made: what memory it takes to make them
/// before, about. Of products of two secrets one is in work at a time.
pub fn numbers(program: &Program) -> u64 {
    let elements = |v: Value| program.ty(v).shape.elements().unwrap_or(u64::MAX);
    let of = |(i, instr): (u32, &crate::Instr)| match instr.op {
        Op::Linear { x, .. } => elements(x).saturating_add(elements(Value(i))),
        Op::Sddmm { .. } | Op::Spmm { .. } => elements(Value(i)),
        _ => 0,
    };
    (0..).zip(&program.instrs).map(of).fold(0, u64::saturating_add)
}

/// How many of the steps of these programs, of which there is one at least, have their products made at once: as many as memory
/// has room for.
pub fn together<'p>(programs: impl IntoIterator<Item = &'p Program>) -> usize {
    let mut sum = 0u64;
    let fits = |(at, program): &(usize, &Program)| {
        sum = sum.saturating_add(numbers(program));
        *at == 0 || sum <= TOGETHER
    };
    programs.into_iter().enumerate().take_while(fits).count()
}

/// An instruction of one of several steps: the step's number among them, and its place.
pub type Use = (usize, usize);

/// A product with a weight, made at once for several uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Linear {
    /// The weight.
    pub weight: Weight,
    /// Its uses, in order.
    pub uses: Vec<Use>,
    /// Rows of all of them, inner dimension and columns.
    pub sizes: [u64; 3],
    /// Bits of a result: the greatest of the uses.
    pub width: Width,
}

/// The products with weights of neighbouring steps, in the order in which they are made.
pub fn linear(steps: &[&Program]) -> Vec<Linear> {
    let mut uses: BTreeMap<Weight, Vec<(Use, [u64; 3], Width)>> = BTreeMap::new();
    for (number, program) in steps.iter().enumerate() {
        for (i, instr) in program.instrs.iter().enumerate() {
            let Op::Linear { x, weight } = instr.op else { continue };
            let (x, w) = (program.ty(x), &program.weights[weight.index()].shape);
            let [k, m] = w.0[..] else { panic!("verified: a weight of a product is a matrix") };
            let rows = elements(&x.shape) / u64::from(k);
            uses.entry(weight).or_default().push(((number, i), [rows, k.into(), m.into()], x.width));
        }
    }
    let mut products = Vec::new();
    for (weight, uses) in uses {
        let mut now: Option<Linear> = None;
        for (of, sizes, width) in uses {
            match &mut now {
                Some(product) if product.sizes[0] + sizes[0] <= BATCH_ROWS => {
                    product.uses.push(of);
                    product.sizes[0] += sizes[0];
                    product.width = product.width.max(width);
                }
                _ => products.extend(now.replace(Linear { weight, uses: vec![of], sizes, width })),
            }
        }
        products.extend(now);
    }
    products
}

/// Products with the same right operand, in one step or in each of several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stack {
    /// The state whose rows are the right operand, unless that is opened in the step.
    pub state: Option<StateId>,
    /// The products.
    pub uses: Vec<Use>,
}

/// Whether a value is an opening of the step whose mask is of the parties' seeds.
fn is_own_opening(program: &Program, own: &[bool], x: Value) -> bool {
    own[x.index()] && matches!(program.instrs[x.index()].op, Op::Open { .. })
}

/// What an opening keeps from step to step, and whether it is of the parties' seeds.
fn kept(program: &Program, own: &[bool], y: Value) -> Option<(Option<StateId>, Value)> {
    match program.instrs[y.index()].op {
        Op::Open { .. } if own[y.index()] => Some((None, y)),
        Op::Cache { x, state, .. } if own[y.index()] && is_own_opening(program, own, x) => Some((Some(state), x)),
        _ => None,
    }
}

/// The products of two secrets of neighbouring steps that are made before the steps, in their order.
pub fn stacks(steps: &[&Program]) -> Vec<Stack> {
    let masks: Vec<Vec<bool>> = steps.iter().map(|program| own_masks(program)).collect();
    // A state's rows are of seeds if every step appends such.
    let mut mixed = Vec::new();
    for (program, own) in steps.iter().zip(&masks) {
        for instr in &program.instrs {
            if let Op::Cache { x, state, .. } = instr.op
                && !is_own_opening(program, own, x)
            {
                mixed.push(state);
            }
        }
    }
    // By state, product, and how many such the step had before; or alone.
    let (mut stacks, mut of_states) = (Vec::new(), BTreeMap::<_, Stack>::new());
    for (number, (program, own)) in steps.iter().zip(&masks).enumerate() {
        let mut before: HashMap<(StateId, bool), usize> = HashMap::new();
        for (i, instr) in program.instrs.iter().enumerate() {
            let (x, y, keeps) = match instr.op {
                Op::Sddmm { x, y, .. } => (x, y, true),
                Op::Spmm { x, y, .. } => (x, y, false),
                _ => continue,
            };
            let of_seed = is_own_opening(program, own, x);
            match kept(program, own, y) {
                Some((None, _)) if of_seed => stacks.push(Stack { state: None, uses: vec![(number, i)] }),
                Some((Some(state), _)) if of_seed && !mixed.contains(&state) => {
                    let count = before.entry((state, keeps)).or_default();
                    let stack = of_states
                        .entry((state, keeps, *count))
                        .or_insert(Stack { state: Some(state), uses: Vec::new() });
                    stack.uses.push((number, i));
                    *count += 1;
                }
                _ => {}
            }
        }
    }
    stacks.extend(of_states.into_values());
    stacks
}

/// The products of private matrices that `sddmm` or `spmm` takes by itself: each party's share of x times the other's of y. Of a
/// matrix times its own transpose one product gives the other.
pub fn factors(program: &Program, op: &Op, width: Width) -> Vec<Factors> {
    let (Op::Sddmm { x, y, .. } | Op::Spmm { x, y, .. }) = op else { panic!("a product of two secrets") };
    let [batch @ .., slots, k] = &program.ty(*y).shape.0[..] else { panic!("verified: two axes") };
    let batches = batch.iter().map(|&d| u64::from(d)).product();
    let rows = pattern(program, op).rows.len() as u64;
    crossed(matches!(op, Op::Sddmm { .. }), x == y, batches, [rows, (*slots).into(), (*k).into()], width)
}

fn pattern<'p>(program: &'p Program, op: &Op) -> &'p Pattern {
    let (Op::Sddmm { pattern, .. } | Op::Spmm { pattern, .. }) = op else { panic!("a product of two secrets") };
    let Table::Pattern(pattern) = program.table(*pattern) else { panic!("verified: a pattern") };
    pattern
}

fn crossed(keeps: bool, gram: bool, count: u64, [rows, slots, k]: [u64; 3], width: Width) -> Vec<Factors> {
    let [inner, columns] = if keeps { [k, slots] } else { [slots, k] };
    let first = Factors { count, sizes: [rows, inner, columns], width };
    let second = Factors { count, sizes: [columns, inner, rows], width };
    if gram { vec![first] } else { vec![first, second] }
}

impl Stack {
    /// The products of private matrices that it takes; `filled` has the rows of each state before the first step.
    pub fn factors(&self, steps: &[&Program], filled: &[u64]) -> Vec<Factors> {
        let op = |&(step, i): &Use| (steps[step], &steps[step].instrs[i].op);
        let (first, of_first) = op(&self.uses[0]);
        let (Op::Sddmm { x, y, .. } | Op::Spmm { x, y, .. }) = of_first else { panic!("a product of two secrets") };
        let [batch @ .., rows, k] = &first.ty(*y).shape.0[..] else { panic!("verified: two axes") };
        let slots = match self.state {
            None => u64::from(*rows),
            Some(state) => filled[state.index()] + steps.iter().map(|program| appended(program, state)).sum::<u64>(),
        };
        let batches = batch.iter().map(|&d| u64::from(d)).product();
        let rows = self.uses.iter().map(op).map(|(program, op)| pattern(program, op).rows.len() as u64).sum();
        let width = self.uses.iter().map(|&(step, i)| steps[step].ty(Value(i as u32)).width).max();
        let keeps = matches!(of_first, Op::Sddmm { .. });
        let sizes = [rows, slots, (*k).into()];
        crossed(keeps, keeps && self.state.is_none() && x == y, batches, sizes, width.expect("a use at least"))
    }
}

/// Rows that a step appends to a state.
fn appended(program: &Program, state: StateId) -> u64 {
    let of = |instr: &crate::Instr| match instr.op {
        Op::Cache { x, state: of, .. } if of == state => match program.ty(x).shape.0[..] {
            [.., rows, _] => u64::from(rows),
            _ => panic!("verified: rows of a state"),
        },
        _ => 0,
    };
    program.instrs.iter().map(of).sum()
}

/// Rows of each state after a step of a program, with those before.
pub fn fill(filled: &mut Vec<u64>, program: &Program) {
    filled.resize(program.states.len(), 0);
    for (filled, state) in filled.iter_mut().zip(0..) {
        *filled += appended(program, StateId(state));
    }
}
