//! Products of matrices that several steps take, made before the steps: those with weights, and those of two secrets whose masks are
//! of the parties' own seeds, so that nothing of a step need be made first.
//!
//! What rows of a state are multiplied by in one step after another is one product: the steps' rows below one another, times all
//! rows that the state has after the last of them. A row that a state did not have yet counts as zero in an earlier step.

use super::{Factors, PairError, Transfers};
use crate::cache::Masks;
use crate::linear::{self, Factor, Sizes};
use crate::matmul::{self, Batches, Product};
use crate::step::Step;
use crate::weights::ServerWeights;
use crate::{Use, kind};
use ir::rows::Rows;
use ir::{Op, Pattern, Program, StateId, Table, Value, Weight, Width};
use kernels::codec::dimensions;
use kernels::prg::Seed;
use kernels::ring::Buffer;
use std::collections::{BTreeMap, HashMap};

/// What a party has of the weights.
pub type Weights<'a> = Option<&'a dyn ServerWeights>;

/// A party's shares of the products of steps, until the steps are made.
#[derive(Default)]
pub struct Products(HashMap<Spot, Buffer>);

/// A step, its entry, and an instruction of it.
type Spot = (u32, u32, usize);

fn spot(step: &Step, index: usize) -> Spot {
    (step.number, step.entry, index)
}

impl Products {
    /// Whether a step's products with weights are there; the others were made with them.
    pub fn has(&self, step: Step) -> bool {
        let mut linear = (0..).zip(&step.program().instrs).filter(|(_, instr)| matches!(instr.op, Op::Linear { .. }));
        linear.all(|(i, _)| self.0.contains_key(&spot(&step, i)))
    }

    /// Takes an instruction's, if it is there.
    pub(super) fn take(&mut self, step: Step, index: usize) -> Option<Buffer> {
        self.0.remove(&spot(&step, index))
    }
}

/// Numbers that the products of a step are made of and results that are kept until it is made: what memory it takes to make them
/// before, about. Of products of two secrets one is in work at a time.
pub fn numbers(program: &Program) -> u64 {
    let elements = |v: Value| program.ty(v).shape.elements().unwrap_or(u64::MAX);
    let of = |(i, instr): (u32, &ir::Instr)| match instr.op {
        Op::Linear { x, .. } => elements(x).saturating_add(elements(Value(i))),
        Op::Sddmm { .. } | Op::Spmm { .. } => elements(Value(i)),
        _ => 0,
    };
    (0..).zip(&program.instrs).map(of).fold(0, u64::saturating_add)
}

/// Makes the products of neighbouring steps of a session, each of which the next, for [`super::make`]. `cache` has the shares of the
/// masks that earlier steps left. A party that fails to drops all.
pub fn products(
    steps: &[Step],
    seed: &Seed,
    weights: Weights,
    cache: &Masks,
    pair: &mut dyn Transfers,
    to: &mut Products,
) -> Result<(), PairError> {
    let mut uses: BTreeMap<Weight, Vec<(Spot, Factor)>> = BTreeMap::new();
    for step in steps {
        let program = step.program();
        for (i, instr) in program.instrs.iter().enumerate() {
            let Op::Linear { x, weight } = instr.op else { continue };
            let (sizes, width) = (Sizes::of(program, x, weight), program.ty(x).width);
            let factor = Factor { client: step.own(seed, i), sizes, width };
            uses.entry(weight).or_default().push((spot(step, i), factor));
        }
    }
    for (weight, uses) in uses {
        let (places, factors): (Vec<_>, Vec<_>) = uses.into_iter().unzip();
        let shares = linear::products(&factors, weights.map(|weights| weights.integers(weight)), pair)?;
        to.0.extend(places.into_iter().zip(shares));
    }
    for stack in stacks(steps) {
        let shares = stack.shares(steps, seed, cache, pair)?;
        let places = stack.uses.iter().map(|(step, i)| spot(&steps[*step], *i));
        to.0.extend(places.zip(shares));
    }
    Ok(())
}

/// A product of two secrets: which, its operands, and what is kept.
pub(super) fn operands<'p>(program: &'p Program, op: &Op) -> (Product, [Value; 2], &'p Pattern) {
    let (product, x, y, pattern) = match *op {
        Op::Sddmm { x, y, pattern } => (Product::Sddmm, x, y, pattern),
        Op::Spmm { x, y, pattern } => (Product::Spmm, x, y, pattern),
        _ => panic!("a product of two secrets"),
    };
    let Table::Pattern(pattern) = program.table(pattern) else { panic!("verified: a pattern") };
    (product, [x, y], pattern)
}

/// Products with the same right operand, in one step or in each of several.
struct Stack {
    /// The state whose rows are the right operand, unless that is opened in the step.
    state: Option<StateId>,
    /// Numbers of steps among those that are made together, and instructions.
    uses: Vec<(usize, usize)>,
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

/// The products that can be made before the steps.
fn stacks(steps: &[Step]) -> Vec<Stack> {
    let masks: Vec<Vec<bool>> = steps.iter().map(|step| ir::pair::own_masks(step.program())).collect();
    // A state's rows are of seeds if every step appends such.
    let mut mixed = Vec::new();
    for (step, own) in steps.iter().zip(&masks) {
        for instr in &step.program().instrs {
            if let Op::Cache { x, state, .. } = instr.op
                && !is_own_opening(step.program(), own, x)
            {
                mixed.push(state);
            }
        }
    }
    // By state, product, and how many such the step had before; or alone.
    let (mut stacks, mut of_states) = (Vec::new(), BTreeMap::<_, Stack>::new());
    for (number, (step, own)) in steps.iter().zip(&masks).enumerate() {
        let program = step.program();
        let mut before: HashMap<(StateId, bool), usize> = HashMap::new();
        for (i, instr) in program.instrs.iter().enumerate() {
            if !matches!(instr.op, Op::Sddmm { .. } | Op::Spmm { .. }) {
                continue;
            }
            let (product, [x, y], _) = operands(program, &instr.op);
            let of_seed = is_own_opening(program, own, x);
            match kept(program, own, y) {
                Some((None, _)) if of_seed => stacks.push(Stack { state: None, uses: vec![(number, i)] }),
                Some((Some(state), _)) if of_seed && !mixed.contains(&state) => {
                    let kind = (state, product == Product::Sddmm);
                    let count = before.entry(kind).or_default();
                    let stack =
                        of_states.entry((kind, *count)).or_insert(Stack { state: Some(state), uses: Vec::new() });
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

/// A party's share of the mask of an opening, which is of its seed. A factor, as in later steps again: what hides messages is of
/// other streams.
fn mask(step: Step, seed: &Seed, opening: Value) -> Buffer {
    let program = step.program();
    let Op::Open { x, width, .. } = program.instrs[opening.index()].op else { panic!("an opening") };
    let own: Use = step.own(seed, opening.index());
    own.elements(kind::MASK, 0..dimensions(&program.ty(x).shape).iter().product(), width)
}

impl Stack {
    /// The party's shares of the product of each use.
    fn shares(
        &self,
        steps: &[Step],
        seed: &Seed,
        cache: &Masks,
        pair: &mut dyn Transfers,
    ) -> Result<Vec<Buffer>, PairError> {
        let (first, op) =
            (steps[self.uses[0].0].program(), |step: usize, i: usize| &steps[step].program().instrs[i].op);
        let (product, [left, right], _) = operands(first, op(self.uses[0].0, self.uses[0].1));
        // The right operand after the last step, and how many rows it has at each.
        let (shape, y, filled) = match self.state {
            None => {
                let shape = dimensions(&first.ty(right).shape);
                let rows = shape[shape.len() - 2];
                (shape, mask(steps[self.uses[0].0], seed, right), vec![rows; steps.len()])
            }
            Some(state) => rows(steps, seed, cache, state),
        };
        let [batch @ .., slots, k] = &shape[..] else { panic!("verified: two axes") };
        let batches: usize = batch.iter().product();
        // All rows below one another, in each batch, without what is kept of rows that are not there yet.
        let width = self.uses.iter().map(|&(step, i)| steps[step].program().ty(Value(i as u32)).width).max();
        let (mut pattern, mut parts) = (Pattern { columns: *slots as u32, rows: Vec::new() }, Vec::new());
        for &(step, i) in &self.uses {
            let program = steps[step].program();
            let (_, [x, _], own) = operands(program, op(step, i));
            let there = |&(from, to): &(u32, u32)| (from.min(filled[step] as u32), to.min(filled[step] as u32));
            let rows = own.rows.iter().map(there);
            pattern.rows.extend(rows);
            parts.push((own, filled[step] as u32, mask(steps[step], seed, x)));
        }
        let mut x = Vec::new();
        for b in 0..batches {
            for (own, filled, mask) in &parts {
                let each = mask.len() / batches;
                let part = &mask[b * each..(b + 1) * each];
                match product {
                    Product::Sddmm => x.extend_from_slice(part),
                    Product::Spmm => {
                        x.extend(there(own, *filled).zip(part).filter(|(there, _)| *there).map(|(_, v)| *v))
                    }
                }
            }
        }
        let width: Width = width.expect("a use at least");
        let gram = product == Product::Sddmm && self.state.is_none() && left == right;
        let of = Batches { product, pattern: &pattern, x: &x, y: &y, y_shape: &shape, gram, width };
        let all = matmul::shares(&of, pair.party(), |asked: &[Factors]| pair.private_products(asked))?;
        // Each use its rows; nothing for what is not there yet.
        let (each, mut at) = (all.len() / batches.max(1), 0);
        let mut shares = Vec::new();
        for (own, filled, _) in &parts {
            let count = match product {
                Product::Sddmm => there(own, *filled).filter(|there| *there).count(),
                Product::Spmm => own.rows.len() * k,
            };
            let of_batch = (0..batches).flat_map(|b| {
                let mut made = all[b * each + at..][..count].iter().copied();
                let fill = match product {
                    Product::Spmm => Vec::new(),
                    Product::Sddmm => {
                        there(own, *filled).map(|there| if there { made.next().unwrap_or(0) } else { 0 }).collect()
                    }
                };
                fill.into_iter().chain(made)
            });
            shares.push(of_batch.collect());
            at += count;
        }
        Ok(shares)
    }
}

/// Of each element that a pattern keeps, row by row, whether its column is one of the first `filled`.
fn there(pattern: &Pattern, filled: u32) -> impl Iterator<Item = bool> {
    pattern.rows.iter().flat_map(move |&(from, to)| (from..to).map(move |column| column < filled))
}

/// The shape of a state's rows after the last step, the party's shares of their masks, and how many there are after each step.
fn rows(steps: &[Step], seed: &Seed, cache: &Masks, state: StateId) -> (Vec<usize>, Buffer, Vec<usize>) {
    let declared = &steps[0].program().states[state.index()];
    let mut rows = cache.rows(state).cloned().unwrap_or_else(|| Rows::new(declared));
    let mut filled = Vec::new();
    for step in steps {
        let program = step.program();
        for instr in &program.instrs {
            if let Op::Cache { x, state: of, .. } = instr.op
                && of == state
            {
                rows.append(&mask(*step, seed, x));
            }
        }
        filled.push(rows.len());
    }
    let [batch @ .., k] = &declared.row.0[..] else { panic!("verified: a block has dimensions") };
    let shape = batch.iter().map(|&d| d as usize).chain([rows.len(), *k as usize]).collect();
    (shape, Buffer::from(rows.all(rows.len())), filled)
}
