//! What a party says when somebody does not do its part: the instruction, the ONNX node, a way out, never a value.

mod support;

use ir::program::{Encoding, Input, Output, Public};
use ir::{Builder, Kind, Op, Party, Program, Shape, Type};
use kernels::ring::Tensor;
use machine::Machine;
use machine::link::{Link, pair};
use protocols::cache::Openings;
use protocols::material::{Feed, Queue, queue};
use protocols::step::Step;
use protocols::weights::{Packed, Resident};
use std::io::Write;
use std::time::Duration;
use support::{Rng, push};

/// Opens an input, squares it and reveals the element at a public index.
fn program() -> Program {
    let mut b = Builder::new("square");
    let ty = Type { kind: Kind::Share, width: 20, scale: 0, shape: Shape(vec![8]) };
    let input = b.input(Input { name: "x".into(), shape: Shape(vec![8]), encoding: Encoding::Fixed, ty });
    let index = b.public(Public { name: "last".into(), bound: 8 });
    let output = b.output(Output { name: "y".into(), shape: Shape(vec![1]), to: Party::Client });
    let x = push(&mut b, Op::Input { input });
    let origin = Some(b.origin("h.0/pow"));
    let x = b.push(Op::Open { x, width: 16, whole: false }, origin).unwrap();
    push(&mut b, Op::Round {});
    let y = b.push(Op::Square { x, width: 40 }, origin).unwrap();
    let y = push(&mut b, Op::Pick { x: y, index, axis: 0 });
    push(&mut b, Op::Reveal { x: y, output, to: Party::Client });
    b.scheduled();
    b.finish()
}

/// The program's only step.
fn first(program: &Program) -> Step<'_> {
    Step::first(std::slice::from_ref(program), 0)
}

const DEADLINE: Duration = Duration::from_millis(50);

/// Runs the server against a peer and a dealer that are played by `play`, and gives what it says.
fn server_says(play: impl FnOnce(&mut dyn Link, &mut Feed)) -> String {
    let (program, seed, weights) = (program(), Rng::new(1).seed(), Resident::new([]));
    let (mut peer, mut link) = pair(DEADLINE);
    let (mut feed, mut material): (Feed, Queue) = queue(1 << 20, DEADLINE);
    play(&mut peer, &mut feed);
    let server = Machine::server(first(&program), &seed, &[3], &weights).unwrap();
    server.run(&mut Openings::default(), Vec::new(), &mut link, &mut material).err().expect("a fault").to_string()
}

#[test]
fn faults_name_the_instruction_and_the_node() {
    let says = server_says(|_, _| {});
    let expected = "no material from the dealer within 0 s; is it running?\n  node \"h.0/pow\"\n  \
                    o1 = open v0 {width=16}                      : opened<16.0>[8] from \"h.0/pow\"";
    assert_eq!(says, expected);

    let says = server_says(|_, feed| feed.fail("out of disk".into()));
    assert!(says.starts_with("the dealer stopped: out of disk\n"), "{says}");

    let material = |feed: &mut Feed| feed.write_all(&[7; 1000]).unwrap();
    let says = server_says(|_, feed| material(feed));
    assert!(says.starts_with("no message from the peer at step 2 within 0 s"), "{says}");
    assert!(says.ends_with("\n  round"), "{says}");

    let says = server_says(|peer, feed| {
        material(feed);
        peer.send(2, vec![0; 15].into()).unwrap();
    });
    assert!(says.starts_with("the peer's message at step 2 has 15 bytes, 16 were due"), "{says}");

    let says = server_says(|peer, feed| {
        material(feed);
        peer.send(5, vec![0; 16].into()).unwrap();
    });
    assert!(says.starts_with("the peer sent a message of step 5 where step 2 was due"), "{says}");
}

#[test]
fn arguments_are_checked_before_anything_is_sent() {
    let (program, seed, masked) = (program(), Rng::new(2).seed(), Packed::default());
    let says =
        |publics: &[u32]| Machine::client(first(&program), &seed, publics, &masked).err().expect("a fault").to_string();
    assert_eq!(says(&[]), "the program takes 1 public numbers, 0 were given");
    assert_eq!(says(&[8]), "public number \"last\" is 8, it must be below 8");

    let run = |inputs| {
        let (mut link, mut peer) = pair(DEADLINE);
        let (_, mut material) = queue(0, DEADLINE);
        let client = Machine::client(first(&program), &seed, &[0], &masked).unwrap();
        let says =
            client.run(&mut Openings::default(), inputs, &mut link, &mut material).err().expect("a fault").to_string();
        assert!(peer.receive(0, 1).is_err(), "nothing was sent");
        says
    };
    assert_eq!(run(vec![]), "the program takes 1 inputs from the client, 0 were given");
    assert_eq!(run(vec![Tensor::zeros(&[2, 4])]), "input \"x\" has another shape than the program was compiled for");
}

#[test]
fn a_report_says_who_is_trusted() {
    let mut rng = Rng::new(3);
    let case = support::Case { program: program(), inputs: vec![vec![5; 8]], weights: vec![], publics: vec![3] };
    let [client, _] = case.run(&mut rng);
    let report = serde_json::to_value(&client.report).unwrap();
    assert_eq!(report["preprocessing"], "trusted dealer");
    assert_eq!(report["rounds"], 1);
    assert_eq!(report["one_way_messages"], 1);
    let square = &report["instructions"][3];
    assert_eq!((&square["op"], &square["origin"]), (&"square".into(), &"h.0/pow".into()));
    assert!(square["compute_seconds"].as_f64().unwrap() >= 0.0);
}

/// What a step has sent is masked by material that must not serve again, so a session ends with its first failure. Bad
/// arguments are told before anything is sent, and cost nothing.
#[test]
fn a_failed_step_ends_the_session() {
    let (program, seed, masked) = (program(), Rng::new(4).seed(), Packed::default());
    let mut cache = Openings::default();
    let mut says = |number: u32, inputs: Vec<Tensor>| {
        let (mut link, _peer) = pair(DEADLINE);
        let (mut feed, mut material) = queue(1 << 20, DEADLINE);
        feed.write_all(&[7; 1000]).unwrap();
        let step = Step { number, ..first(&program) };
        let client = Machine::client(step, &seed, &[0], &masked).unwrap();
        let said = client.run(&mut cache, inputs, &mut link, &mut material).err().expect("a fault").to_string();
        said.lines().next().unwrap().to_owned()
    };
    let inputs = || vec![Tensor::zeros(&[8])];
    assert_eq!(says(0, vec![]), "the program takes 1 inputs from the client, 0 were given");
    assert_eq!(says(1, inputs()), "step 0 of the session is due, not step 1");
    assert!(says(0, inputs()).starts_with("no message from the peer at step 2 within 0 s"));
    for number in [0, 1] {
        let dead = "an earlier step of the session failed, and its material is burnt; begin a new session";
        assert_eq!(says(number, inputs()), dead);
    }
}
