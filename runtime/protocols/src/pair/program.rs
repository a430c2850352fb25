//! Material of one step, made by both parties: what the dealer deals, in its order, though neighbouring instructions are made at
//! the same time.

use super::together::{self, Job};
use super::{Making, PairError, Shares, Transfers};
use crate::cache::Masks;
use crate::linear::{self, Factor, Sizes};
use crate::matmul::{self, Product};
use crate::square::{self, Over};
use crate::step::Step;
use crate::weights::ServerWeights;
use crate::{bit, blocks, cells, choose, compare, exp, extend, ge, mul, open};
use ir::exp::Exp;
use ir::{Op, Program, Table, Value, Weight, Width, liveness, material};
use kernels::codec::dimensions;
use kernels::prg::Seed;
use kernels::ring::Buffer;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::ops::Range;

/// What a party has of the weights.
pub type Weights<'a> = Option<&'a dyn ServerWeights>;

/// A party's shares of the products of steps with weights, until the steps are made.
#[derive(Default)]
pub struct Products(HashMap<Spot, Buffer>);

/// A step, and an instruction of it.
type Spot = (u32, usize);

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
    let mut uses: BTreeMap<Weight, Vec<(Spot, Factor)>> = BTreeMap::new();
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
/// are taken from `ready`, or made first. The shares of masks that later steps read stay in `cache`. A step that cannot begin is an
/// error before a byte is sent, and one that breaks ends the session.
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
    let (lift_bits, exps, frees) = (material::lift_bits(program), exps(program), liveness::frees(program));
    let mut masks: Vec<Option<Shares>> = program.instrs.iter().map(|_| None).collect();
    for window in windows(program) {
        let place = |i: usize, made: Option<Buffer>| Place { step, seed, index: i, linear: made };
        // Masks wait for nothing, and all else for masks alone.
        let of_masks: Vec<usize> =
            window.clone().filter(|&i| matches!(program.instrs[i].op, Op::Open { .. })).collect();
        let job = |&i: &usize| -> Job<'_, Shares> {
            let (place, lift_bits, exp) = (place(i, None), lift_bits[i], exps[i]);
            Box::new(move |pair, made| place.open(lift_bits, exp, pair, made))
        };
        let mut written: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let made = together::run(pair, of_masks.iter().map(job).collect())?;
        for (i, (shares, bytes)) in of_masks.into_iter().zip(made) {
            masks[i] = Some(shares);
            written.insert(i, bytes);
        }
        for i in window.clone() {
            if let Op::Cache { x, state, .. } = &program.instrs[i].op {
                let x = masks[x.index()].as_ref().expect("verified: a read follows its opening");
                let mask = crate::cache::make(cache, *state, &x.mask, program.ty(Value(i as u32)));
                let (width, bits, top) = (x.width, Buffer::default(), Buffer::default());
                masks[i] = Some(Shares { width, shape: mask.shape, bits, mask: mask.data, top });
            }
        }
        let of_reads: Vec<usize> = window.clone().filter(|&i| takes(&program.instrs[i].op)).collect();
        let masks_of = &masks;
        let job = |&i: &usize| -> Job<'_, ()> {
            let place = place(i, ready.0.remove(&(step.number, i)));
            Box::new(move |pair, made| place.read(masks_of, pair, made))
        };
        let jobs = of_reads.iter().map(job).collect();
        let made = together::run(pair, jobs)?;
        written.extend(of_reads.into_iter().zip(made.into_iter().map(|((), bytes)| bytes)));
        written.values().try_for_each(|bytes| to_server.write_all(bytes))?;
        window.for_each(|i| frees[i].iter().for_each(|v| masks[v.index()] = None));
    }
    cache.end();
    Ok(())
}

/// Instructions that are made together, at most.
const JOBS: usize = 256;

/// Elements of what is made together, at most, unless a single instruction has more.
const ELEMENTS: u64 = 1 << 18;

/// Neighbouring instructions that are made together.
fn windows(program: &Program) -> Vec<Range<usize>> {
    let (mut windows, mut start, mut elements) = (Vec::new(), 0, 0);
    for (i, instr) in program.instrs.iter().enumerate() {
        let own = match matches!(instr.op, Op::Open { .. }) || takes(&instr.op) {
            true => instr.ty.as_ref().and_then(|ty| ty.shape.elements()).unwrap_or(ELEMENTS),
            false => 0,
        };
        if i > start && (elements + own > ELEMENTS || i - start >= JOBS) {
            windows.push(start..i);
            (start, elements) = (i, 0);
        }
        elements += own;
    }
    windows.push(start..program.instrs.len());
    windows
}

/// Whether an instruction takes material beside a mask.
fn takes(op: &Op) -> bool {
    matches!(
        op,
        Op::Linear { .. }
            | Op::Extend { .. }
            | Op::Exp { .. }
            | Op::Cells { .. }
            | Op::Compare { .. }
            | Op::Bit { .. }
            | Op::Choose { .. }
            | Op::Square { .. }
            | Op::SumSquares { .. }
            | Op::Mul { .. }
            | Op::Sddmm { .. }
            | Op::Spmm { .. }
            | Op::Ge { .. }
            | Op::Series { .. }
            | Op::Spline { .. }
            | Op::Select { .. }
    )
}

/// An instruction of a step, and its share of a product if it is one.
struct Place<'a> {
    step: Step<'a>,
    seed: &'a Seed,
    index: usize,
    linear: Option<Buffer>,
}

impl Place<'_> {
    /// Makes the mask of an opening.
    fn open(
        &self,
        lift_bits: Width,
        exp: Option<open::Place>,
        pair: &mut dyn Transfers,
        made: &mut Vec<u8>,
    ) -> Result<Shares, PairError> {
        let program = self.step.program();
        let Op::Open { x, width, .. } = &program.instrs[self.index].op else { panic!("an opening") };
        let mut to = Making::new(self.step.own(self.seed, self.index), pair, made);
        open::make(&dimensions(&program.ty(*x).shape), *width, lift_bits, exp, &mut to)
    }

    /// Makes what all other instructions take.
    fn read(self, masks: &[Option<Shares>], pair: &mut dyn Transfers, made: &mut Vec<u8>) -> Result<(), PairError> {
        let Place { step, seed, index, linear } = self;
        let program = step.program();
        let to = &mut Making::new(step.own(seed, index), pair, made);
        let opened = |v: &Value| masks[v.index()].as_ref().expect("verified: a read follows its opening");
        let count = |v: &Value| dimensions(&program.ty(*v).shape).iter().product();
        match &program.instrs[index].op {
            Op::Linear { x, .. } => linear::make(linear.expect("made before"), program.ty(*x).width, to),
            Op::Extend { x, claim, width } => {
                extend::make(count(x), extend::Widths { claim: *claim, width: *width }, to)
            }
            Op::Exp { x, table, width } => {
                exp::make(opened(x), Exp::new(program.table(*table), program.ty(*x).scale), *width, to)
            }
            Op::Cells { x, table, width } => {
                cells::make(opened(x), cells::Lines::new(program.table(*table)), *width, to)
            }
            Op::Compare { x, table } => {
                let Table::Thresholds(thresholds) = program.table(*table) else { panic!("verified: thresholds") };
                compare::make(opened(x), thresholds.len(), to)
            }
            Op::Bit { x, width } => bit::make(count(x), *width, to),
            Op::Choose { x, .. } => choose::make(&material::choosing(program, *x), to),
            Op::Square { x, width } => square::make(opened(x), Over::Elements, *width, to),
            Op::SumSquares { x, width } => square::make(opened(x), Over::Rows, *width, to),
            Op::Mul { x, y, width } => mul::make(opened(x), opened(y), *width, to),
            Op::Sddmm { x, y, pattern } => product(program, index, Product::Sddmm, [x, y], *pattern, opened, to),
            Op::Spmm { x, y, pattern } => product(program, index, Product::Spmm, [x, y], *pattern, opened, to),
            Op::Ge { x, width, .. } => {
                let x = opened(x);
                blocks(x.len()).try_for_each(|block| ge::make(x, block, *width, to))
            }
            op => panic!("checked: `{}` can be made", op.mnemonic()),
        }
    }
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
