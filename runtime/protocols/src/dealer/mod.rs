//! The dealer's logic: from three seeds and a program, the material of one step of a session. It never sees an opened
//! value.
//!
//! Material is written instruction by instruction, in program order, and within an instruction in the order of its
//! protocol's file. The masks of openings are kept until their last reader, those of cached ones as long as the session;
//! all else is made and dropped on the way, so memory does not grow with the program. The same seeds give the same bytes:
//! nothing else is random.

use crate::cache::{self, Masks};
use crate::linear::{Sizes, WeightMask};
use crate::matmul::Product;
use crate::series::Terms;
use crate::square::Over;
use crate::step::Step;
use crate::{
    Dealing, Maker, Mask, bit, blocks, cells, choose, compare, exp, extend, ge, linear, matmul, mul, open, select,
    series, spline, square,
};
use ir::exp::Exp;
use ir::{Op, Party, Program, Table, Value, Weight, Width, liveness, material};
use kernels::codec::dimensions;
use kernels::prg::Seed;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// What the material of a session derives from.
#[derive(Clone, Copy)]
pub struct Seeds<'a> {
    /// Known to client and dealer; new for every session.
    pub client: &'a Seed,
    /// Known to server and dealer; new for every session.
    pub server: &'a Seed,
    /// Known to server and dealer; one for each version of the weights.
    pub weights: &'a Seed,
}

/// Deals one step of a session of a verified and scheduled module. The masks that later steps read stay in `cache`; a
/// step that cannot begin is an error before a byte is written, and one that breaks ends the session.
pub fn deal(
    step: Step,
    seeds: Seeds,
    cache: &mut Masks,
    to_client: &mut dyn Write,
    to_server: &mut dyn Write,
) -> io::Result<()> {
    cache.begin(step).map_err(io::Error::other)?;
    let program = step.program();
    let lift_bits = material::lift_bits(program);
    let weight_widths: BTreeMap<Weight, Width> = material::masked_weights(step.entries).into_iter().collect();
    let mut masks: Vec<Option<Mask>> = program.instrs.iter().map(|_| None).collect();
    for (i, frees) in liveness::frees(program).iter().enumerate() {
        let [client, server] = [seeds.client, seeds.server].map(|seed| step.own(seed, i));
        let mut to = Dealing::new(client, server, to_client, to_server);
        masks[i] = match &program.instrs[i].op {
            Op::Open { x, width, .. } => {
                let shape = dimensions(&program.ty(*x).shape);
                let shares = [client, server].map(|own| open::mask(own, *width));
                Some(open::deal(&shape, shares, *width, lift_bits[i], &mut to)?)
            }
            Op::Linear { x, weight } => {
                let mask = WeightMask::new(seeds.weights, (*weight, weight_widths[weight]));
                linear::deal(client, mask, Sizes::of(program, *x, *weight), program.ty(*x).width, &mut to)?;
                None
            }
            Op::Extend { x, claim, width } => {
                let count = dimensions(&program.ty(*x).shape).iter().product();
                extend::deal(count, extend::Widths { claim: *claim, width: *width }, client, server, &mut to)?;
                None
            }
            Op::Exp { x, table, width } => {
                let exp = Exp::new(program.table(*table), program.ty(*x).scale);
                exp::deal(opened(&masks, *x), exp, *width, client, server, &mut to)?;
                None
            }
            Op::Cells { x, table, width } => {
                let lines = cells::Lines::new(program.table(*table));
                cells::deal(opened(&masks, *x), lines, *width, client, server, &mut to)?;
                None
            }
            Op::Compare { x, table } => {
                let Table::Thresholds(thresholds) = program.table(*table) else { panic!("verified: thresholds") };
                compare::deal(opened(&masks, *x), thresholds.len(), client, server, &mut to)?;
                None
            }
            Op::Bit { x, width } => {
                bit::deal(dimensions(&program.ty(*x).shape).iter().product(), *width, client, server, &mut to)?;
                None
            }
            Op::Choose { x, .. } => {
                choose::deal(&material::choosing(program, *x), client, server, &mut to)?;
                None
            }
            Op::Cache { x, state, .. } => {
                Some(cache::deal(cache, *state, opened(&masks, *x), program.ty(Value(i as u32))))
            }
            _ => {
                read(program, i, &masks, &mut to)?;
                None
            }
        };
        frees.iter().for_each(|v| masks[v.index()] = None);
        // Nothing of an instruction is held back while a later one waits for a party to make room.
        to_client.flush()?;
        to_server.flush()?;
    }
    cache.end();
    Ok(())
}

/// The mask of an opening.
fn opened(masks: &[Option<Mask>], v: Value) -> &Mask {
    masks[v.index()].as_ref().expect("verified: a read follows its opening")
}

/// Deals what a read of an opening takes; other instructions take nothing.
fn read(program: &Program, index: usize, masks: &[Option<Mask>], to: &mut Dealing) -> io::Result<()> {
    let mask = |v: &Value| opened(masks, *v);
    match &program.instrs[index].op {
        Op::Square { x, width } => square::deal(mask(x), Over::Elements, *width, to),
        Op::SumSquares { x, width } => square::deal(mask(x), Over::Rows, *width, to),
        Op::Mul { x, y, width } => mul::deal(mask(x), mask(y), *width, to),
        Op::Sddmm { x, y, pattern } => product(program, index, Product::Sddmm, [mask(x), mask(y)], *pattern, to),
        Op::Spmm { x, y, pattern } => product(program, index, Product::Spmm, [mask(x), mask(y)], *pattern, to),
        Op::Series { x, table, width } => {
            let terms = Terms::of(program.table(*table), program.ty(*x));
            blocks(mask(x).r.len()).try_for_each(|block| series::deal(mask(x), block, terms, *width, to))
        }
        Op::Spline { x, width, .. } => {
            blocks(mask(x).r.len()).try_for_each(|block| spline::deal(mask(x), block, *width, to))
        }
        Op::Ge { x, width, .. } => blocks(mask(x).r.len()).try_for_each(|block| ge::deal(mask(x), block, *width, to)),
        Op::Select { d, y, width } => {
            blocks(mask(d).r.len()).try_for_each(|block| select::deal(mask(d), mask(y), block, *width, to))
        }
        _ => Ok(()),
    }
}

fn product(
    program: &Program,
    index: usize,
    product: Product,
    [x, y]: [&Mask; 2],
    pattern: ir::TableId,
    to: &mut Dealing,
) -> io::Result<()> {
    let Table::Pattern(pattern) = program.table(pattern) else { panic!("verified: a pattern") };
    let narrow = program.instrs[index].op.operands().next().is_some_and(|x| !program.ty(x).is_whole());
    matmul::deal(product, (x, narrow), y, pattern, program.ty(Value(index as u32)).width, to)
}

/// Bytes of material that a step takes, from a dealer or from what both parties made.
pub fn material_bytes(program: &Program, maker: Maker, party: Party) -> u64 {
    let cost = ir::cost::per_instruction(program);
    match (maker, party) {
        (Maker::Dealer, Party::Client) => cost.client_material_bytes,
        (Maker::Dealer, Party::Server) => cost.server_material_bytes,
        (Maker::Pair, Party::Client) => 0,
        (Maker::Pair, Party::Server) => ir::pair::server_bytes(program),
    }
}
