//! Order instructions into rounds.
//!
//! List scheduling: whatever is local runs as soon as its operands are there. When nothing local is left, messages go
//! out: a `round` if an opening that is ready lies on the critical path, with every other opening and product that is
//! ready riding along; a `send` if products alone can make headway. An opening that has slack waits for a round that
//! exists anyway. Lengths of paths count a round as two and a one-way message as one. Outputs are revealed at the end, one
//! after another: a party that is told earlier would wait for it before it goes on.

use std::collections::BTreeSet;

use ir::{Instr, Op, Program, Value};

/// Length of a round on a path.
const ROUND: u32 = 2;
/// Length of a one-way message on a path.
const SEND: u32 = 1;

fn length(op: &Op) -> u32 {
    match op {
        Op::Linear { .. } => SEND,
        op if op.exchanges() => ROUND,
        _ => 0,
    }
}

/// The same program, scheduled.
pub fn run(program: &Program) -> Program {
    assert!(!program.scheduled, "a program is scheduled once");
    let count = program.instrs.len();
    let operands: Vec<Vec<usize>> =
        program.instrs.iter().map(|i| i.op.operands().map(Value::index).collect()).collect();
    let mut readers = vec![Vec::new(); count];
    for (index, operands) in operands.iter().enumerate() {
        for &operand in operands {
            readers[operand].push(index);
        }
    }
    // Length of the longest path from an instruction, itself included, to the end.
    let mut remaining = vec![0; count];
    for index in (0..count).rev() {
        let after = readers[index].iter().map(|&r| remaining[r]).max().unwrap_or(0);
        remaining[index] = after + length(&program.instrs[index].op);
    }

    let mut missing: Vec<usize> = operands.iter().map(Vec::len).collect();
    let mut ready: BTreeSet<usize> = (0..count).filter(|&i| missing[i] == 0).collect();
    let (mut openings, mut products, mut reveals) = (Vec::new(), Vec::new(), Vec::new());
    let mut out = Program { instrs: Vec::with_capacity(count), scheduled: true, ..program.clone() };
    let mut names: Vec<Option<Value>> = vec![None; count];

    loop {
        while let Some(index) = ready.pop_first() {
            match program.instrs[index].op {
                ref op if op.exchanges() => openings.push(index),
                Op::Linear { .. } => products.push(index),
                Op::Reveal { .. } | Op::Choose { .. } => reveals.push(index),
                _ => {
                    emit(program, &mut out, &mut names, index);
                    release(&readers[index], &mut missing, &mut ready);
                }
            }
        }
        let critical = |list: &[usize]| list.iter().map(|&i| remaining[i]).max().unwrap_or(0);
        let (opening, product) = (critical(&openings), critical(&products));
        if opening == 0 && product == 0 {
            break;
        }
        // A product on the critical path goes first; what it leads to may share a round with the openings at hand.
        let round = opening >= product;
        let mut done: Vec<usize> = std::mem::take(&mut products);
        if round {
            done.append(&mut openings);
        }
        done.sort_unstable();
        for &index in &done {
            emit(program, &mut out, &mut names, index);
        }
        let op = if round { Op::Round {} } else { Op::Send {} };
        out.instrs.push(Instr { op, ty: None, origin: None });
        for &index in &done {
            release(&readers[index], &mut missing, &mut ready);
        }
    }
    reveals.sort_unstable();
    reveals.into_iter().for_each(|index| emit(program, &mut out, &mut names, index));
    assert!(names.iter().all(Option::is_some), "every instruction is scheduled");
    out
}

fn release(readers: &[usize], missing: &mut [usize], ready: &mut BTreeSet<usize>) {
    for &reader in readers {
        missing[reader] -= 1;
        if missing[reader] == 0 {
            ready.insert(reader);
        }
    }
}

fn emit(program: &Program, out: &mut Program, names: &mut [Option<Value>], index: usize) {
    let mut instr = program.instrs[index].clone();
    instr.op.map_operands(|v| names[v.index()].expect("operands come first"));
    out.instrs.push(instr);
    names[index] = Some(Value(out.instrs.len() as u32 - 1));
}
