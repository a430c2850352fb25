//! Broken programs and what the parser or the verifier says about them. Each file of `tests/bad` has one fault, unless
//! its head says otherwise.

use crate::programs::every_op;
use ir::*;

#[test]
fn bad() {
    insta::glob!("..", "bad/*.ssir", |path| {
        let source = std::fs::read_to_string(path).unwrap();
        let message = match parse(&source) {
            Err(error) => error.to_string(),
            Ok(program) => {
                let faults = verify(&program, &Limits::default()).expect_err("a file in tests/bad has a fault");
                faults.iter().map(|f| format!("{:?}: {f}", f.code)).collect::<Vec<_>>().join("\n")
            }
        };
        insta::assert_snapshot!(message);
    });
}

/// Every limit, set one below what the example takes, is a fault; at what it takes, none.
#[test]
fn limits_bite() {
    let program = every_op();
    let cost = cost::cost(&program);
    let exact = Limits {
        policy: Policy::default(),
        elements: 36,
        peak_elements: cost.peak_elements,
        table_elements: 2 * 3 + 3 + 1 + 4 + (40 + 41 + 41) + 4 + 6 + 4 + 2 * 8,
        traffic_bytes: cost.client_sent_bytes + cost.server_sent_bytes,
        material_bytes: cost.client_material_bytes + cost.server_material_bytes,
        setup_bytes: cost.setup_bytes,
        macs: cost.macs,
    };
    verify(&program, &exact).unwrap();
    type Field = fn(&mut Limits) -> &mut u64;
    let fields: [(&str, Field); 7] = [
        ("elements of a tensor", |l| &mut l.elements),
        ("elements alive", |l| &mut l.peak_elements),
        ("elements of tables", |l| &mut l.table_elements),
        ("traffic", |l| &mut l.traffic_bytes),
        ("material", |l| &mut l.material_bytes),
        ("masked weights", |l| &mut l.setup_bytes),
        ("multiply-adds", |l| &mut l.macs),
    ];
    for (message, field) in fields {
        let mut limits = exact.clone();
        *field(&mut limits) -= 1;
        let faults = verify(&program, &limits).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].code, Code::Limit);
        assert!(faults[0].message.starts_with(message), "{}", faults[0]);
    }
}

#[test]
fn a_policy_can_let_the_server_learn() {
    let mut program = every_op();
    program.outputs[1].to = Party::Server;
    for instr in &mut program.instrs {
        if let Op::Reveal { output: OutputId(1), to, .. } = &mut instr.op {
            *to = Party::Server;
        }
    }
    let faults = verify(&program, &Limits::default()).unwrap_err();
    assert_eq!(faults.iter().map(|f| f.code).collect::<Vec<_>>(), [Code::Policy]);
    let policy = Policy { server_learns: ["flags".to_owned()].into() };
    verify(&program, &Limits { policy, ..Limits::default() }).unwrap();
}

/// Whatever single field of whatever instruction is changed, the verifier answers.
#[test]
fn one_wrong_operand_or_type_is_a_fault() {
    let program = every_op();
    for i in 0..program.instrs.len() {
        let mut bad = program.clone();
        if bad.instrs[i].op.operands().next().is_some() {
            bad.instrs[i].op.map_operands(|_| Value(i as u32));
            let faults = verify(&bad, &Limits::default()).unwrap_err();
            assert!(faults.iter().any(|f| f.code == Code::Order && f.value == Some(Value(i as u32))));
        }
        let mut bad = program.clone();
        bad.instrs[i].ty = match bad.instrs[i].ty.take() {
            Some(ty) => Some(Type { scale: ty.scale + 1, ..ty }),
            None => Some(program.instrs[0].ty.clone().unwrap()),
        };
        let faults = verify(&bad, &Limits::default()).unwrap_err();
        assert!(faults.iter().any(|f| f.code == Code::Declared && f.value == Some(Value(i as u32))), "{i}");
    }
}

#[test]
fn the_builder_names_the_instruction() {
    let mut b = Builder::over(Program { instrs: Vec::new(), scheduled: false, ..every_op() });
    let origin = b.origin("block/0");
    let x = b.push(Op::Input { input: InputId(0) }, None).unwrap();
    let fault = b.push(Op::Lift { x, width: 40 }, Some(origin)).unwrap_err();
    insta::assert_snapshot!(fault);
    assert_eq!(b.origin("block/0"), origin);
    let same = b.program().tables[1].clone();
    assert_eq!(b.table("other name", same.table), TableId(1));
    let next = b.table("causal", Table::Thresholds(vec![5]));
    assert_eq!(b.program().tables[next.index()].name, "causal_2");
    let mut decl = b.program().weights[0].clone();
    assert_eq!(b.weight(decl.clone()), Ok(Weight(0)));
    decl.scale += 1;
    assert_eq!(b.weight(decl).unwrap_err().code, Code::Name);
}

/// What the entries of a module must agree on, one fault each.
#[test]
fn entries_agree() {
    let module = |change: &dyn Fn(&mut Program)| {
        let first = Program { name: "first".to_owned(), ..every_op() };
        let mut second = Program { name: "second".to_owned(), ..first.clone() };
        change(&mut second);
        bytecode::Module { entries: vec![first, second], ..Default::default() }
    };
    verify_module(&module(&|_| {}), &Limits::default()).unwrap();
    let faults = |change: &dyn Fn(&mut Program), limits: &Limits| {
        let faults = verify_module(&module(change), limits).unwrap_err();
        faults.iter().map(|f| format!("{:?}: {f}", f.code)).collect::<Vec<_>>().join("\n")
    };
    let changes: [&dyn Fn(&mut Program); 6] = [
        &|p| p.name = "first".to_owned(),
        &|p| p.states[0].name = "another".to_owned(),
        &|p| p.states.push(program::State { name: "more".to_owned(), ..p.states[0].clone() }),
        &|p| p.weights[1].name = "another".to_owned(),
        &|p| p.weights.truncate(3),
        // A weight that the other entry reads under a mask is added in this one.
        &|p| *p = Program { weights: p.weights.clone(), states: p.states.clone(), ..adds_head() },
    ];
    let mut said: Vec<String> = changes.iter().map(|change| faults(change, &Limits::default())).collect();
    let setup_bytes = cost::setup_bytes(&module(&|_| {}).entries);
    assert_eq!(setup_bytes, cost::cost(&every_op()).setup_bytes, "a weight is masked once for all entries");
    // A wider ring in the second entry: 20 elements of the embedding and 8 of the head.
    let narrow = Limits { setup_bytes, ..Limits::default() };
    said.push(faults(&|p| *p = wider(p), &narrow));
    insta::assert_snapshot!(said.join("\n\n"));
}

/// A program that adds what [`every_op`] multiplies by.
fn adds_head() -> Program {
    parse(
        r#"
schedule @second {
  in0 = input "x" [1,2] fixed : share<20.9>[1,2]
  w0 = weight "a" : server<.0>[1]
  w1 = weight "b" : server<.0>[1]
  w2 = weight "head" : server<.9>[4,2]
  p0 = public "row" < 4

  v0 = input in0 : share<20.9>[1,2]
  v1 = add_row v0, w2, p0 : share<20.9>[1,2]
}
"#,
    )
    .unwrap()
}

/// A program that multiplies by the embedding of [`every_op`] in a wider ring.
fn wider(p: &Program) -> Program {
    let mut b = Builder::over(Program {
        name: p.name.clone(),
        weights: p.weights.clone(),
        states: p.states.clone(),
        ..Program::default()
    });
    let input = b.input(crate::programs::fixed_input("x", crate::programs::share(40, 0, &[1, 5])));
    let x = b.push(Op::Input { input }, None).unwrap();
    b.push(Op::Linear { x, weight: Weight(0) }, None).unwrap();
    b.push(Op::Send {}, None).unwrap();
    b.scheduled();
    b.finish()
}
