//! Material of one step, made by both parties: what the dealer deals, in its order, though neighbouring instructions are made at
//! the same time.

use super::products::{Products, Weights, operands, products};
use super::together::{self, Job};
use super::{Making, PairError, Shares, Transfers};
use crate::cache::Masks;
use crate::linear;
use crate::matmul;
use crate::square::{self, Over};
use crate::step::Step;
use crate::{bit, cells, choose, compare, exp, extend, ge, mul, open};
use ir::exp::Exp;
use ir::making::{Part, batches, parts, takes, windows};
use ir::{Op, Program, Table, Value, Width, liveness, material};
use kernels::codec::dimensions;
use kernels::prg::Seed;
use kernels::ring::Buffer;
use std::io::Write;
use std::ops::Range;

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
        products(&[step], seed, weights, cache, pair, ready)?;
    }
    let program = step.program();
    let (lift_bits, own_masks) = (material::lift_bits(program), ir::pair::own_masks(program));
    let (exps, frees) = (exps(program), liveness::frees(program));
    let mut masks: Vec<Option<Shares>> = program.instrs.iter().map(|_| None).collect();
    for window in windows(program) {
        let place = |i: usize, made: Option<Buffer>| Place { step, seed, index: i, product: made };
        // Masks wait for nothing, and all else for masks alone.
        let of_masks: Vec<usize> =
            window.clone().filter(|&i| matches!(program.instrs[i].op, Op::Open { .. })).collect();
        let job = |&i: &usize| -> Job<'_, Shares> {
            let (place, lift_bits, form) = (place(i, None), lift_bits[i], (own_masks[i], exps[i]));
            Box::new(move |pair, made| place.open(lift_bits, form, pair, made))
        };
        let mut written: Vec<(usize, Vec<u8>)> = Vec::new();
        let made = together::run(pair, of_masks.iter().map(job).collect())?;
        for (i, (shares, bytes)) in of_masks.into_iter().zip(made) {
            masks[i] = Some(shares);
            written.push((i, bytes));
        }
        for i in window.clone() {
            if let Op::Cache { x, state, .. } = &program.instrs[i].op {
                let x = masks[x.index()].as_ref().expect("verified: a read follows its opening");
                let mask = crate::cache::make(cache, *state, &x.mask, program.ty(Value(i as u32)));
                let (width, bits, top) = (x.width, Buffer::default(), Buffer::default());
                masks[i] = Some(Shares { width, shape: mask.shape, bits, mask: mask.data, top });
            }
        }
        let of_reads: Vec<Part> =
            window.clone().filter(|&i| takes(&program.instrs[i].op)).flat_map(|i| parts(program, i)).collect();
        let masks_of = &masks;
        let mut job = |(i, part): &Part| -> Job<'_, ()> {
            let (place, part) = (place(*i, ready.take(step, *i)), part.clone());
            Box::new(move |pair, made| place.read(part, masks_of, pair, made))
        };
        for batch in batches(&of_reads) {
            let made = together::run(pair, batch.iter().map(&mut job).collect())?;
            written.extend(batch.iter().zip(made).map(|(&(i, _), ((), bytes))| (i, bytes)));
        }
        // In program order, and the blocks of one instruction in theirs.
        written.sort_by_key(|(i, _)| *i);
        written.iter().try_for_each(|(_, bytes)| to_server.write_all(bytes))?;
        window.for_each(|i| frees[i].iter().for_each(|v| masks[v.index()] = None));
    }
    cache.end();
    Ok(())
}

/// An instruction of a step, and its share of a product if that was made before.
struct Place<'a> {
    step: Step<'a>,
    seed: &'a Seed,
    index: usize,
    product: Option<Buffer>,
}

impl Place<'_> {
    /// Makes the mask of an opening.
    fn open(
        &self,
        lift_bits: Width,
        form: (bool, Option<open::Place>),
        pair: &mut dyn Transfers,
        made: &mut Vec<u8>,
    ) -> Result<Shares, PairError> {
        let program = self.step.program();
        let Op::Open { x, width, .. } = &program.instrs[self.index].op else { panic!("an opening") };
        let mut to = Making::new(self.step.own(self.seed, self.index), pair, made);
        open::make(&dimensions(&program.ty(*x).shape), *width, lift_bits, form, &mut to)
    }

    /// Makes what all other instructions take, or one block of it: see [`ir::making::parts`].
    fn read(
        self,
        block: Range<usize>,
        masks: &[Option<Shares>],
        pair: &mut dyn Transfers,
        made: &mut Vec<u8>,
    ) -> Result<(), PairError> {
        let Place { step, seed, index, product } = self;
        let program = step.program();
        let to = &mut Making::new(step.own(seed, index), pair, made);
        let opened = |v: &Value| masks[v.index()].as_ref().expect("verified: a read follows its opening");
        let count = |v: &Value| dimensions(&program.ty(*v).shape).iter().product();
        match &program.instrs[index].op {
            Op::Linear { x, .. } => linear::make(product.expect("made before"), program.ty(*x).width, to),
            Op::Extend { x, claim, width } => {
                extend::make(count(x), extend::Widths { claim: *claim, width: *width }, to)
            }
            Op::Exp { x, table, width } => {
                exp::make(opened(x), Exp::new(program.table(*table), program.ty(*x).scale), block, *width, to)
            }
            Op::Cells { x, table, width } => {
                cells::make(opened(x), cells::Lines::new(program.table(*table)), block, *width, to)
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
            op @ (Op::Sddmm { .. } | Op::Spmm { .. }) => {
                let width = program.ty(Value(index as u32)).width;
                let Some(made) = product else {
                    let (product, [x, y], pattern) = operands(program, op);
                    let narrow = !program.ty(x).is_whole();
                    return matmul::make(product, (opened(&x), narrow), opened(&y), pattern, width, to);
                };
                matmul::complete(made, width, to)
            }
            Op::Ge { x, width, .. } => ge::make(opened(x), block, *width, to),
            op => panic!("checked: `{}` can be made", op.mnemonic()),
        }
    }
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
