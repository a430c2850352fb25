//! How long every value is needed, and how many elements are alive at most.

use crate::op::Op;
use crate::program::Program;
use crate::types::*;

/// For every instruction, the index of the last instruction that needs its result: its last reader, the `round` or
/// `send` that completes it, or itself if nothing does.
pub fn last_uses(program: &Program) -> Vec<usize> {
    let mut last: Vec<usize> = (0..program.instrs.len()).collect();
    let mut pending = Vec::new();
    for (i, instr) in program.instrs.iter().enumerate() {
        match instr.op {
            ref op if op.exchanges() || matches!(op, Op::Linear { .. }) => pending.push(i),
            Op::Round {} | Op::Send {} => pending.drain(..).for_each(|p| last[p] = i),
            _ => {}
        }
        instr.op.operands().for_each(|v| last[v.index()] = i);
    }
    last
}

/// For every instruction, the values that nothing after it needs: they can be freed when it is done.
pub fn frees(program: &Program) -> Vec<Vec<Value>> {
    let mut frees = vec![Vec::new(); program.instrs.len()];
    for (value, last) in last_uses(program).into_iter().enumerate() {
        if program.instrs[value].ty.is_some() {
            frees[last].push(Value(value as u32));
        }
    }
    frees
}

/// The greatest number of elements alive at one time: while an instruction runs, its operands, its result and all
/// that later instructions need; and the rows of the session's states, which stay.
pub fn peak_elements(program: &Program) -> u64 {
    let size = |i: usize| program.instrs[i].ty.as_ref().and_then(|t| t.shape.elements()).unwrap_or(0);
    let caches = (0..program.instrs.len()).filter(|&i| matches!(program.instrs[i].op, Op::Cache { .. }));
    let kept = caches.fold(0u64, |kept, i| kept.saturating_add(size(i)));
    let (mut alive, mut peak) = (kept, kept);
    for (i, free) in frees(program).iter().enumerate() {
        alive = alive.saturating_add(size(i));
        peak = peak.max(alive);
        alive = free.iter().fold(alive, |alive, v| alive.saturating_sub(size(v.index())));
    }
    peak
}
