//! `parse(print(p)) == p`, `decode(encode(m)) == m`, and damaged files are refused without a panic.

use crate::programs::every_op;
use ir::bytecode::{DecodeError, Module, decode, encode, hash};
use ir::op::OPS;
use ir::*;
use std::collections::{BTreeMap, BTreeSet};

fn module() -> Module {
    let scheduled = every_op();
    let mut plain = Program { name: "plain".to_owned(), scheduled: false, ..scheduled.clone() };
    // Without a schedule there are no messages; what reads an opening stays, renumbered.
    let mut moved = Vec::new();
    let mut kept = Vec::new();
    for mut instr in plain.instrs {
        moved.push(Value(kept.len() as u32));
        if !matches!(instr.op, Op::Round {} | Op::Send {}) {
            instr.op.map_operands(|v| moved[v.index()]);
            kept.push(instr);
        }
    }
    plain.instrs = kept;
    let metadata =
        BTreeMap::from([("name", "tiny"), ("tokenizer", "tokenizer.json")].map(|(k, v)| (k.into(), v.into())));
    Module { metadata, commitment: [3; 32], entries: vec![scheduled, plain] }
}

#[test]
fn the_example_has_every_op_and_verifies() {
    let used: BTreeSet<u8> = every_op().instrs.iter().map(|i| i.op.code()).collect();
    let all: BTreeSet<u8> = OPS.iter().map(|(_, code)| *code).collect();
    assert_eq!(used, all);
    assert_eq!(all.len(), OPS.len(), "numbers are unique");
    for entry in module().entries {
        verify(&entry, &Limits::default()).unwrap();
    }
}

#[test]
fn text() {
    for entry in &module().entries {
        let text = print::program(entry);
        let parsed = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(&parsed, entry);
        assert_eq!(print::program(&parsed), text);
    }
    insta::assert_snapshot!(print::program(&every_op()));
}

#[test]
fn text_of_a_program_that_makes_no_sense() {
    let mut p = every_op();
    p.origins.push("unused".to_owned());
    p.instrs[3].op = Op::Linear { x: Value(999), weight: Weight(77) };
    p.instrs[4].op = Op::AddPublic { x: Value(40), table: TableId(12) };
    p.instrs[5].origin = Some(Origin(44));
    p.instrs[6].ty = None;
    p.instrs[7].ty = Some(Type { kind: Kind::Share, width: 255, scale: i16::MIN, shape: Shape(vec![u32::MAX; 9]) });
    assert_eq!(parse(&print::program(&p)).unwrap(), p);
}

#[test]
fn bytecode() {
    let module = module();
    let file = encode(&module);
    assert_eq!(decode(&file).unwrap(), module);
    assert_eq!(hash(&file), *blake3::hash(&file).as_bytes());
    assert!(module.entry("plain").is_some() && module.entry("other").is_none());
}

#[test]
fn cut_files_are_refused() {
    let file = encode(&module());
    for len in 0..file.len() {
        assert!(decode(&file[..len]).is_err(), "cut to {len} bytes");
    }
    assert!(matches!(decode(&[&file[..], &[0]].concat()), Err(DecodeError::Checksum)));
}

#[test]
fn flipped_bits_are_refused() {
    let file = encode(&module());
    for bit in 0..8 * file.len() {
        let mut bad = file.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&bad).is_err(), "bit {bit}");
    }
}

/// The checksum is no secret: whoever changes a file can make it fit again.
#[test]
fn forged_files_are_refused_or_are_programs() {
    let file = encode(&Module { entries: vec![every_op()], ..Module::default() });
    let content = file.len() - 32;
    let (mut refused, mut programs) = (0, 0);
    let mut check = |mut bad: Vec<u8>| {
        let checksum = blake3::hash(&bad);
        bad.extend(checksum.as_bytes());
        match decode(&bad) {
            Err(_) => refused += 1,
            Ok(module) => {
                programs += 1;
                for entry in &module.entries {
                    // Any answer is fine, a panic is not.
                    let verified = verify(entry, &Limits::default());
                    assert_eq!(parse(&print::program(entry)).ok(), Some(entry.clone()).filter(|_| parses(entry)));
                    if verified.is_ok() && entry.scheduled {
                        cost::cost(entry);
                    }
                }
            }
        }
    };
    for bit in 64..8 * content {
        let mut bad = file[..content].to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        check(bad);
    }
    for len in 8..content {
        check(file[..len].to_vec());
    }
    assert!(refused > 1000 && programs > 1000, "{refused} refused, {programs} programs");
}

/// Names are what text refers by, so equal names do not come back.
fn parses(p: &Program) -> bool {
    let tables: BTreeSet<&String> = p.tables.iter().map(|t| &t.name).collect();
    let origins: BTreeSet<&String> = p.origins.iter().collect();
    tables.len() == p.tables.len() && origins.len() == p.origins.len()
}

#[test]
fn versions_and_other_files_are_told_apart() {
    let mut file = encode(&module());
    file[4] = 9;
    assert_eq!(
        decode(&file).unwrap_err().to_string(),
        "bytecode version 9, this program reads version 3; compile the model again"
    );
    file[0] = b'X';
    assert!(matches!(decode(&file), Err(DecodeError::Magic)));
}

#[test]
fn a_length_beyond_the_file_allocates_nothing() {
    // `concat` of 2^32 - 1 operands in a file of a few bytes.
    let mut p = Program { name: "p".to_owned(), ..Program::default() };
    p.instrs.push(Instr { op: Op::Concat { xs: vec![Value(0x0fff_ffff); 1], axis: 0 }, ty: None, origin: None });
    let file = encode(&Module { entries: vec![p], ..Module::default() });
    let at = file.windows(3).position(|w| w == [0x23, 1, 0xff]).unwrap();
    let mut bad = file[..file.len() - 32].to_vec();
    bad.splice(at + 1..at + 6, [0xff, 0xff, 0xff, 0xff, 0x0f]);
    let checksum = blake3::hash(&bad);
    bad.extend(checksum.as_bytes());
    assert!(matches!(decode(&bad), Err(DecodeError::CutShort)), "{:?}", decode(&bad));
}
