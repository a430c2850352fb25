//! Material of one step, made by both parties: instruction by instruction, as the dealer deals it.

use super::{Making, PairError, Shares, Transfers};
use crate::cache::Masks;
use crate::linear::{self, Factor, Sizes};
use crate::matmul::{self, Product};
use crate::square::{self, Over};
use crate::step::Step;
use crate::weights::ServerWeights;
use crate::{bit, blocks, cells, choose, compare, exp, extend, ge, mul, open};
use ir::exp::Exp;
use ir::{Op, Program, Table, Value, Weight, liveness, material};
use kernels::codec::dimensions;
use kernels::prg::Seed;
use kernels::ring::Buffer;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

/// What a party has of the weights.
pub type Weights<'a> = Option<&'a dyn ServerWeights>;

/// A party's shares of the products of steps with weights, until the steps are made.
#[derive(Default)]
pub struct Products(HashMap<Place, Buffer>);

/// A step, and an instruction of it.
type Place = (u32, usize);

impl Products {
    /// Whether a step's are there.
    pub fn has(&self, step: Step) -> bool {
        let mut linear = (0..).zip(&step.program().instrs).filter(|(_, instr)| matches!(instr.op, Op::Linear { .. }));
        linear.all(|(i, _)| self.0.contains_key(&(step.number, i)))
    }
}

/// Makes the products of several steps of a session, those of each weight together, for [`make`]. A party that fails to drops all.
pub fn products(
    steps: &[Step],
    seed: &Seed,
    weights: Weights,
    pair: &mut dyn Transfers,
    to: &mut Products,
) -> Result<(), PairError> {
    let mut uses: BTreeMap<Weight, Vec<(Place, Factor)>> = BTreeMap::new();
    for step in steps {
        let program = step.program();
        for (i, instr) in program.instrs.iter().enumerate() {
            let Op::Linear { x, weight } = instr.op else { continue };
            let (sizes, width) = (Sizes::of(program, x, weight), program.ty(x).width);
            let factor = Factor { client: step.own(seed, i), sizes, width };
            uses.entry(weight).or_default().push(((step.number, i), factor));
        }
    }
    for (weight, uses) in uses {
        let (places, factors): (Vec<_>, Vec<_>) = uses.into_iter().unzip();
        let shares = linear::products(&factors, weights.map(|weights| weights.integers(weight)), pair)?;
        to.0.extend(places.into_iter().zip(shares));
    }
    Ok(())
}

/// Makes one step of a session of a verified and scheduled module whose material can be made, see [`ir::pair`]. `seed` is the
/// party's, `weights` the server's; what the server keeps is written to `to_server`, the client keeps its seed. The step's products
/// are taken from `ready`, or made first. The shares of masks that later steps read stay in `cache`. A step that cannot begin is an error before a byte is sent, and one that
/// breaks ends the session.
pub fn make(
    step: Step,
    seed: &Seed,
    weights: Weights,
    ready: &mut Products,
    cache: &mut Masks,
    pair: &mut dyn Transfers,
    to_server: &mut dyn Write,
) -> Result<(), PairError> {
    cache.begin(step)?;
    if !ready.has(step) {
        products(&[step], seed, weights, pair, ready)?;
    }
    let program = step.program();
    let lift_bits = material::lift_bits(program);
    let exps = exps(program);
    let mut masks: Vec<Option<Shares>> = program.instrs.iter().map(|_| None).collect();
    for (i, frees) in liveness::frees(program).iter().enumerate() {
        let mut to = Making::new(step.own(seed, i), pair, to_server);
        let opened = |v: &Value| masks[v.index()].as_ref().expect("verified: a read follows its opening");
        let mut made = None;
        match &program.instrs[i].op {
            Op::Open { x, width, .. } => {
                let shape = dimensions(&program.ty(*x).shape);
                made = Some(open::make(&shape, *width, lift_bits[i], exps[i], &mut to)?);
            }
            Op::Cache { x, state, .. } => {
                let (x, all) = (opened(x), program.ty(Value(i as u32)));
                let mask = crate::cache::make(cache, *state, &x.mask, all);
                let (bits, top) = (Buffer::default(), Buffer::default());
                made = Some(Shares { width: x.width, shape: mask.shape, bits, mask: mask.data, top });
            }
            Op::Linear { x, .. } => {
                let share = ready.0.remove(&(step.number, i)).expect("made above");
                linear::make(share, program.ty(*x).width, &mut to)?;
            }
            Op::Extend { x, claim, width } => {
                let count = dimensions(&program.ty(*x).shape).iter().product();
                extend::make(count, extend::Widths { claim: *claim, width: *width }, &mut to)?;
            }
            Op::Exp { x, table, width } => {
                exp::make(opened(x), Exp::new(program.table(*table), program.ty(*x).scale), *width, &mut to)?;
            }
            Op::Cells { x, table, width } => {
                cells::make(opened(x), cells::Lines::new(program.table(*table)), *width, &mut to)?;
            }
            Op::Compare { x, table } => {
                let Table::Thresholds(thresholds) = program.table(*table) else { panic!("verified: thresholds") };
                compare::make(opened(x), thresholds.len(), &mut to)?;
            }
            Op::Bit { x, width } => {
                bit::make(dimensions(&program.ty(*x).shape).iter().product(), *width, &mut to)?;
            }
            Op::Choose { x, .. } => choose::make(&material::choosing(program, *x), &mut to)?,
            Op::Square { x, width } => square::make(opened(x), Over::Elements, *width, &mut to)?,
            Op::SumSquares { x, width } => square::make(opened(x), Over::Rows, *width, &mut to)?,
            Op::Mul { x, y, width } => mul::make(opened(x), opened(y), *width, &mut to)?,
            Op::Sddmm { x, y, pattern } => {
                product(program, i, Product::Sddmm, [x, y], *pattern, opened, &mut to)?;
            }
            Op::Spmm { x, y, pattern } => {
                product(program, i, Product::Spmm, [x, y], *pattern, opened, &mut to)?;
            }
            Op::Ge { x, width, .. } => {
                let x = opened(x);
                blocks(x.len()).try_for_each(|block| ge::make(x, block, *width, &mut to))?;
            }
            op => assert!(ir::pair::is_made(program, op), "checked: `{}` can be made", op.mnemonic()),
        }
        masks[i] = made;
        frees.iter().for_each(|v| masks[v.index()] = None);
    }
    cache.end();
    Ok(())
}

fn product<'m>(
    program: &Program,
    index: usize,
    product: Product,
    [x, y]: [&Value; 2],
    pattern: ir::TableId,
    opened: impl Fn(&Value) -> &'m Shares,
    to: &mut Making,
) -> Result<(), PairError> {
    let Table::Pattern(pattern) = program.table(pattern) else { panic!("verified: a pattern") };
    let narrow = !program.ty(*x).is_whole();
    matmul::make(product, (opened(x), narrow), opened(y), pattern, program.ty(Value(index as u32)).width, to)
}

/// Where `exp` reads each opening.
fn exps(program: &Program) -> Vec<Option<open::Place>> {
    let mut places = vec![None; program.instrs.len()];
    for instr in &program.instrs {
        if let Op::Exp { x, table, .. } = instr.op {
            places[x.index()] = Some(exp::place(Exp::new(program.table(table), program.ty(x).scale)));
        }
    }
    places
}
