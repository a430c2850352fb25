//! Give every value the least ring that its readers need, and every instruction its final form.
//!
//! Rewrites  a draft without widths  into  a program.
//! Why       Addition, products and scaling are exact mod 2^n, so a value needs no more bits than are read of it: an
//!           opening reads its own width, `down t` reads t more than its result, a sum what its result needs. Width is
//!           fixed by the opening claims alone and every other bit would be dealt, sent and multiplied for nothing.
//! Needs     Scales and claims of the lowering.
//! Keeps     Real values, order of instructions.
//! Skips     Instructions that nothing reads: they are dropped.
//!
//! What the entries of a module keep from step to step has one width in all of them.
//!
//! A read whose result would need more than 64 bits cannot be had. If a value on the way from there to what demands
//! the width may be lifted ([`Item::lift_point`]), an `extend` is put there; otherwise the overflow is
//! returned, and the pipeline lowers again with smaller scales.

use ir::{Instr, MAX_WIDTH, Op, Program, Scale, Type, Value, Width};

use crate::graph::NodeId;
use crate::lower::draft::{Draft, Item, LATER};

/// A read that needs more than 64 bits.
#[derive(Debug)]
pub struct Overflow {
    /// ONNX node.
    pub origin: String,
    /// Name of the op.
    pub op: &'static str,
    /// Fractional bits of its result.
    pub scale: Scale,
    /// Bits that its readers need.
    pub needed: u32,
    /// Graph nodes from there to the one that causes the demand, in order.
    pub chain: Vec<NodeId>,
}

/// Decides widths; inserts lifts where that helps, at the price of a round where there is no other way and `may_pay`
/// says so of the node.
pub fn run(draft: Draft, may_pay: &dyn Fn(NodeId) -> bool) -> Result<(Program, Draft), Overflow> {
    let (draft, demands) = decide(draft, may_pay)?;
    Ok((finish(&draft, &demands), draft))
}

/// The same for the entries of a module: a state is as wide as the entry needs it that needs most.
pub fn run_all(mut drafts: Vec<Draft>, may_pay: &dyn Fn(NodeId) -> bool) -> Result<Vec<(Program, Draft)>, Overflow> {
    loop {
        let decided = drafts.into_iter().map(|draft| decide(draft, may_pay)).collect::<Result<Vec<_>, _>>()?;
        let states = decided.first().map_or(0, |(draft, _)| draft.program.states.len());
        let mut widths = vec![LATER; states];
        for (draft, demands) in &decided {
            for (item, &demand) in draft.items.iter().zip(demands) {
                if let Op::Cache { state, .. } = item.op {
                    widths[state.index()] = widths[state.index()].max(demand as Width);
                }
            }
        }
        let wanted = |draft: &Draft| draft.program.states.iter().map(|s| s.width).eq(widths.iter().copied());
        if decided.iter().all(|(draft, _)| wanted(draft)) {
            return Ok(decided.into_iter().map(|(draft, demands)| (finish(&draft, &demands), draft)).collect());
        }
        drafts = decided.into_iter().map(|(draft, _)| draft).collect();
        for state in drafts.iter_mut().flat_map(|draft| draft.program.states.iter_mut().zip(&widths)) {
            state.0.width = *state.1;
        }
    }
}

/// The demands of a draft that fits, lifts inserted.
fn decide(mut draft: Draft, may_pay: &dyn Fn(NodeId) -> bool) -> Result<(Draft, Vec<u32>), Overflow> {
    loop {
        let demands = demands(&draft);
        let Some(overflow) = first_overflow(&draft, &demands) else {
            return Ok((draft, demands));
        };
        let chain = chain(&draft, &demands, overflow);
        match lift_point(&draft, &chain, may_pay) {
            Some(point) => insert_extend(&mut draft, point),
            None => {
                let mut nodes: Vec<NodeId> = chain.iter().map(|&i| draft.items[i].node).collect();
                nodes.dedup();
                let item = &draft.items[overflow];
                return Err(Overflow {
                    origin: draft.program.origins[item.origin.index()].clone(),
                    op: item.op.mnemonic(),
                    scale: item.scale,
                    needed: demands[overflow],
                    chain: nodes,
                });
            }
        }
    }
}

/// Bits that the readers of each instruction need of its result; 0 if there are none.
fn demands(draft: &Draft) -> Vec<u32> {
    let mut demands = vec![0; draft.items.len()];
    for (index, item) in draft.items.iter().enumerate().rev() {
        let mut own = demands[index];
        if own == 0 && item.op.declassifies().is_none() {
            continue;
        }
        if let Op::Cache { state, .. } = item.op {
            own = own.max(u32::from(draft.program.states[state.index()].width));
            demands[index] = own;
        }
        for operand in item.op.operands() {
            let need = need(draft, item, own);
            let demand = &mut demands[operand.index()];
            *demand = (*demand).max(need);
        }
    }
    demands
}

/// Bits of its operands that `item` needs so that `own` bits of its result are right.
fn need(draft: &Draft, item: &Item, own: u32) -> u32 {
    match &item.op {
        Op::Down { by, .. } => own + u32::from(*by),
        Op::Up { by, .. } => own.saturating_sub(u32::from(*by)).max(1),
        Op::Open { width: LATER, .. } => own,
        Op::Open { width, .. } => u32::from(*width),
        Op::Reveal { output, .. } => draft.output_width(*output),
        // The claim fits the operand's ring; where no reader needs more, nothing is extended.
        Op::Extend { claim, .. } => own.min(u32::from(*claim)),
        // The opening has the width of its own claim; of a share the low bit is read.
        Op::Choose { .. } | Op::Compare { .. } | Op::Bit { .. } => 1,
        _ => own,
    }
}

fn first_overflow(draft: &Draft, demands: &[u32]) -> Option<usize> {
    (0..draft.items.len()).find(|&i| demands[i] > u32::from(MAX_WIDTH))
}

/// The instructions from `start` to the opening or output that causes its demand, each reading the one before.
fn chain(draft: &Draft, demands: &[u32], start: usize) -> Vec<usize> {
    let mut chain = vec![start];
    let mut at = start;
    // An opening's own claim ends a chain; as its start, it stands for the read that wants so many bits.
    while at == start || !matches!(draft.items[at].op, Op::Open { width, .. } if width != LATER) {
        let next = (at + 1..draft.items.len()).find(|&reader| {
            let item = &draft.items[reader];
            let live = demands[reader] > 0 || item.op.declassifies().is_some();
            live && item.op.operands().any(|o| o.index() == at && need(draft, item, demands[reader]) == demands[at])
        });
        let Some(next) = next else { break };
        at = next;
        chain.push(at);
    }
    chain
}

/// Where on a chain width is regained: at the first place that costs no round, else at the one that sends least.
fn lift_point(draft: &Draft, chain: &[usize], may_pay: &dyn Fn(NodeId) -> bool) -> Option<usize> {
    // What ends the chain asks for the width and cannot give it.
    let places = || chain.iter().copied().filter_map(|i| Some((i, draft.items[i].lift_point?)));
    let free = places().find(|(_, point)| point.free);
    let bits =
        |i: usize, width: Width| draft.items[i].shape.elements().unwrap_or(u64::MAX).saturating_mul(width.into());
    let paid = || {
        let allowed = places().filter(|(i, _)| may_pay(draft.items[*i].node));
        allowed.min_by_key(|&(i, point)| bits(i, point.width))
    };
    free.or_else(paid).map(|(i, _)| i)
}

/// Puts `extend` after an instruction, for all of its readers.
fn insert_extend(draft: &mut Draft, point: usize) {
    let claim = draft.items[point].lift_point.take().expect("a lift point").width;
    for item in &mut draft.items[point + 1..] {
        item.op.map_operands(|v| if v.index() >= point { Value(v.0 + 1) } else { v });
    }
    let model = draft.items[point].clone();
    let extend = Item { op: Op::Extend { x: Value(point as u32), claim, width: LATER }, ..model };
    draft.items.insert(point + 1, extend);
}

/// Writes the program: dead instructions dropped, widths set, `narrow` put where an operand is wider than it may be.
fn finish(draft: &Draft, demands: &[u32]) -> Program {
    let mut program = draft.program.clone();
    let mut names: Vec<Option<Value>> = vec![None; draft.items.len()];
    for (index, item) in draft.items.iter().enumerate() {
        let mut own = demands[index];
        if let (Op::Input { .. }, Some(point)) = (&item.op, item.lift_point) {
            own = own.max(u32::from(point.width));
        }
        if own == 0 && item.op.declassifies().is_none() {
            continue;
        }
        let mut op = item.op.clone();
        op.map_operands(|v| names[v.index()].expect("an operand of a live instruction is live"));
        if let Op::Extend { x, claim, .. } = op
            && own <= u32::from(claim)
        {
            names[index] = Some(x);
            continue;
        }
        set_width(&mut op, own as Width);
        if let Op::Input { input } = op {
            program.inputs[input.index()].ty.width = own as Width;
        }
        // What takes its width from its operands gets the least that is right.
        let width = match op {
            Op::Add { .. } | Op::Sub { .. } | Op::Linear { .. } | Op::Concat { .. } => own as Width,
            Op::Up { .. } | Op::Reveal { .. } | Op::Extend { .. } => need(draft, item, own) as Width,
            _ => MAX_WIDTH,
        };
        op.map_operands(|v| narrow(&mut program, v, width, item));
        names[index] = Some(append(&mut program, op, item));
    }
    program
}

fn narrow(program: &mut Program, x: Value, width: Width, item: &Item) -> Value {
    if program.ty(x).width <= width {
        return x;
    }
    append(program, Op::Narrow { x, width }, item)
}

fn append(program: &mut Program, op: Op, item: &Item) -> Value {
    let ty: Option<Type> =
        ir::infer::infer(program, &op).unwrap_or_else(|fault| panic!("lowering is well typed: {fault}"));
    program.instrs.push(Instr { op, ty, origin: Some(item.origin) });
    Value(program.instrs.len() as u32 - 1)
}

fn set_width(op: &mut Op, own: Width) {
    match op {
        Op::Extend { width, .. }
        | Op::Bit { width, .. }
        | Op::Exp { width, .. }
        | Op::Cells { width, .. }
        | Op::Lift { width, .. }
        | Op::Square { width, .. }
        | Op::SumSquares { width, .. }
        | Op::Mul { width, .. }
        | Op::Series { width, .. }
        | Op::Spline { width, .. }
        | Op::Select { width, .. }
        | Op::Ge { width, .. } => *width = own,
        Op::Open { width, .. } if *width == LATER => *width = own,
        _ => {}
    }
}
