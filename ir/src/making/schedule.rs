//! Which instructions are made together: those that do not wait for one another share their messages.

use super::job::{Making, Requests};
use super::{BLOCK, Job};
use crate::material::lift_bits;
use crate::op::Op;
use crate::ops::{Place, elements};
use crate::pair::own_masks;
use crate::program::Program;
use crate::types::{Table, Width};
use std::ops::Range;

/// Instructions that are made together, at most: each takes a thread that waits most of the time.
const JOBS: usize = 1024;

/// Elements of what is made together, at most, unless a single instruction has more.
const ELEMENTS: u64 = 1 << 19;

/// Whether an instruction takes material beside a mask.
pub fn takes(op: &Op) -> bool {
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

/// Neighbouring instructions of a verified program that are made together: first masks, which wait for nothing, then all else, which
/// waits for masks alone.
pub fn windows(program: &Program) -> Vec<Range<usize>> {
    let (mut windows, mut start, mut jobs, mut elements) = (Vec::new(), 0, 0, 0);
    for (i, instr) in program.instrs.iter().enumerate() {
        if !matches!(instr.op, Op::Open { .. }) && !takes(&instr.op) {
            continue;
        }
        let own = instr.ty.as_ref().and_then(|ty| ty.shape.elements()).unwrap_or(ELEMENTS);
        if jobs > 0 && (elements + own > ELEMENTS || jobs >= JOBS) {
            windows.push(start..i);
            (start, jobs, elements) = (i, 0, 0);
        }
        jobs += 1;
        elements += own;
    }
    windows.push(start..program.instrs.len());
    windows
}

/// What of an instruction is made by itself: an instruction, and elements of a block, whose words stand before those of the next, or
/// none if it is made as a whole.
pub type Part = (usize, Range<usize>);

/// The parts of an instruction.
pub fn parts(program: &Program, index: usize) -> impl Iterator<Item = Part> + use<> {
    let block = BLOCK as usize;
    let (all, each) = match &program.instrs[index].op {
        Op::Exp { x, .. } | Op::Cells { x, .. } | Op::Ge { x, .. } => (elements(&program.ty(*x).shape) as usize, block),
        _ => (0, block),
    };
    let blocks = (0..all).step_by(each).map(move |from| from..all.min(from + each));
    blocks.chain((all == 0).then_some(0..0)).map(move |block| (index, block))
}

/// Parts that are made at once: those of a window, unless one instruction of it has more elements than a window may.
pub fn batches(reads: &[Part]) -> impl Iterator<Item = &[Part]> {
    let mut elements = 0;
    reads.chunk_by(move |(_, part), (_, next)| {
        elements += part.len() as u64;
        let fits = elements + next.len() as u64 <= ELEMENTS;
        elements *= u64::from(fits);
        fits
    })
}

/// What a step of a verified and scheduled program asks for once its products are made, as `ready` says of each instruction: jobs
/// that are made together, one list after another.
pub fn jobs(program: &Program, ready: impl Fn(usize) -> bool) -> Vec<Vec<Job>> {
    let (lift_bits, own_masks, cells) = (lift_bits(program), own_masks(program), cells(program));
    let job = |(index, block): &Part| -> Job {
        let at = Place { program, instr: &program.instrs[*index], lift_bits: lift_bits[*index] };
        let mut requests = Requests::default();
        let (block, own_mask, cells) = (block.len() as u64, own_masks[*index], cells[*index]);
        at.instr.op.making(Making { at, block, own_mask, cells, ready: ready(*index) }, &mut requests);
        requests.0
    };
    let mut all = Vec::new();
    for window in windows(program) {
        let opens = |i: &usize| matches!(program.instrs[*i].op, Op::Open { .. });
        all.push(window.clone().filter(opens).map(|i| job(&(i, 0..0))).collect());
        let reads = window.filter(|i| takes(&program.instrs[*i].op));
        let reads: Vec<Part> = reads.flat_map(|i| parts(program, i)).collect();
        all.extend(batches(&reads).map(|batch| batch.iter().map(job).collect()));
    }
    all
}

/// Of each opening that `exp` reads, the bits of the number of a cell.
fn cells(program: &Program) -> Vec<Option<Width>> {
    let mut cells = vec![None; program.instrs.len()];
    for instr in &program.instrs {
        if let Op::Exp { x, table, .. } = instr.op
            && let Table::Exp { values, .. } = program.table(table)
        {
            cells[x.index()] = Some(values.len().ilog2() as Width);
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_no_more_elements_than_a_window_may() {
        let block = BLOCK as usize;
        let part = |blocks: usize| -> Vec<Part> { (0..blocks).map(|at| (7, at * block..(at + 1) * block)).collect() };
        let most = ELEMENTS as usize / block;
        let sizes = |reads: &[Part]| batches(reads).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&part(most)), [most]);
        assert_eq!(sizes(&part(2 * most + 1)), [most, most, 1]);
        // What is made as a whole goes with what stands before it.
        let mixed = [part(most), vec![(8, Range::default()); 3], part(1)].concat();
        assert_eq!(sizes(&mixed), [most + 3, 1]);
        assert!(sizes(&[]).is_empty());
    }
}
