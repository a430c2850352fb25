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
use crate::{Use as Own, kind};
use ir::making::{self, Stack, Use};
use ir::rows::Rows;
use ir::{Op, Pattern, Program, StateId, Table, Value, Width};
use kernels::codec::dimensions;
use kernels::prg::Seed;
use kernels::ring::Buffer;
use std::collections::HashMap;

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
    let programs: Vec<&Program> = steps.iter().map(|step| step.program()).collect();
    for product in making::linear(&programs) {
        let factor = |&(number, i): &Use| {
            let (step, program) = (&steps[number], programs[number]);
            let Op::Linear { x, weight } = program.instrs[i].op else { panic!("a product with a weight") };
            Factor { client: step.own(seed, i), sizes: Sizes::of(program, x, weight), width: program.ty(x).width }
        };
        let factors: Vec<Factor> = product.uses.iter().map(factor).collect();
        let shares = linear::product(&factors, weights.map(|weights| weights.integers(product.weight)), pair)?;
        to.0.extend(product.uses.iter().map(|(number, i)| spot(&steps[*number], *i)).zip(shares));
    }
    for stack in making::stacks(&programs) {
        let shares = shares(&stack, steps, seed, cache, pair)?;
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

/// A party's share of the mask of an opening, which is of its seed. A factor, as in later steps again: what hides messages is of
/// other streams.
fn mask(step: Step, seed: &Seed, opening: Value) -> Buffer {
    let program = step.program();
    let Op::Open { x, width, .. } = program.instrs[opening.index()].op else { panic!("an opening") };
    let own: Own = step.own(seed, opening.index());
    own.elements(kind::MASK, 0..dimensions(&program.ty(x).shape).iter().product(), width)
}

/// The party's shares of the product of each use.
fn shares(
    stack: &Stack,
    steps: &[Step],
    seed: &Seed,
    cache: &Masks,
    pair: &mut dyn Transfers,
) -> Result<Vec<Buffer>, PairError> {
    let (first, op) = (steps[stack.uses[0].0].program(), |step: usize, i: usize| &steps[step].program().instrs[i].op);
    let (product, [left, right], _) = operands(first, op(stack.uses[0].0, stack.uses[0].1));
    // The right operand after the last step, and how many rows it has at each.
    let (shape, y, filled) = match stack.state {
        None => {
            let shape = dimensions(&first.ty(right).shape);
            let rows = shape[shape.len() - 2];
            (shape, mask(steps[stack.uses[0].0], seed, right), vec![rows; steps.len()])
        }
        Some(state) => rows(steps, seed, cache, state),
    };
    let [batch @ .., slots, k] = &shape[..] else { panic!("verified: two axes") };
    let batches: usize = batch.iter().product();
    // All rows below one another, in each batch, without what is kept of rows that are not there yet.
    let width = stack.uses.iter().map(|&(step, i)| steps[step].program().ty(Value(i as u32)).width).max();
    let (mut pattern, mut parts) = (Pattern { columns: *slots as u32, rows: Vec::new() }, Vec::new());
    for &(step, i) in &stack.uses {
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
                Product::Spmm => x.extend(there(own, *filled).zip(part).filter(|(there, _)| *there).map(|(_, v)| *v)),
            }
        }
    }
    let width: Width = width.expect("a use at least");
    let gram = product == Product::Sddmm && stack.state.is_none() && left == right;
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
