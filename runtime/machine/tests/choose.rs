//! `choose`: the right place, at the cost that is claimed, and nothing but a random ranking in the open.

mod support;

use std::time::Duration;

use bytes::Bytes;
use ir::bytecode::Module;
use ir::choose::MAX_OPENING;
use ir::digits::MASKED;
use ir::program::{Encoding, Input, Output};
use ir::{Builder, Kind, Op, Party, Program, Shape, Type, Width};
use kernels::ring::unpack;
use machine::link::{Link, LinkError, Memory, Recording, pair};
use machine::{Cause, Finished, Machine, VmError};
use protocols::Maker;
use protocols::cache::{Masks, Openings};
use protocols::dealer::{Seeds, deal, material_bytes};
use protocols::linear;
use protocols::material::queue;
use protocols::step::Step;
use protocols::weights::Resident;
use support::{Case, Rng, encoded, push};

/// The place of the greatest of numbers that are opened at `opening` bits.
fn program(count: u32, opening: Width) -> Program {
    let mut b = Builder::new("choose");
    let shape = Shape(vec![count]);
    let ty = Type { kind: Kind::Share, width: 40, scale: 0, shape: shape.clone() };
    let input = b.input(Input { name: "x".into(), shape, encoding: Encoding::Fixed, ty });
    let output = b.output(Output { name: "place".into(), shape: Shape(vec![1]), to: Party::Client });
    let x = push(&mut b, Op::Input { input });
    let x = push(&mut b, Op::Open { x, width: opening, whole: false });
    push(&mut b, Op::Round {});
    push(&mut b, Op::Choose { x, output });
    b.scheduled();
    b.finish()
}

fn case(opening: Width, values: Vec<i64>) -> Case {
    Case { program: program(values.len() as u32, opening), inputs: vec![values], weights: vec![], publics: vec![] }
}

#[test]
fn the_greatest_wins() {
    let mut rng = Rng::new(40);
    for count in [1, 2, 3, 7, 8, 13, 100, 1000, 9000] {
        for opening in [3, 4, 5, 9, 16, 17, MAX_OPENING] {
            let values = rng.claimed(count, opening - 2);
            let case = case(opening, values.clone());
            for got in case.simulations(&mut rng) {
                assert_eq!(values.get(got[0][0] as usize), values.iter().max(), "{count} numbers of {opening} bits");
            }
            let first = values.iter().position(|v| Some(v) == values.iter().max());
            assert_eq!(case.reference().outputs, [[first.unwrap() as i64]]);
        }
    }
}

/// Numbers at both ends of what a claim allows differ by all that a comparison holds.
#[test]
fn the_ends_of_a_claim() {
    let mut rng = Rng::new(41);
    for opening in 3..=MAX_OPENING {
        let end = (1i64 << (opening - 2)) - 1;
        for _ in 0..10 {
            let values = vec![-end, end, 0, -end, end - 1, 1 - end];
            assert_eq!(case(opening, values).simulations(&mut rng), [[[1]], [[1]]], "{opening} bits");
        }
    }
}

/// Numbers beyond the claim are garbage, and some place wins all the same: comparisons never contradict each other.
#[test]
fn broken_claims_give_a_ranking() {
    let mut rng = Rng::new(42);
    for _ in 0..200 {
        let values: Vec<i64> = (0..20).map(|_| rng.within(0, 1 << 20) as i64 - (1 << 19)).collect();
        let got = case(6, values).simulate(&mut rng);
        assert!((0..20).contains(&got[0][0]));
    }
}

/// A run with links of the caller's.
fn run<L: Link + Send>(
    program: &Program,
    values: &[i64],
    rng: &mut Rng,
    links: impl FnOnce(Memory, Memory) -> (L, L),
) -> ([Result<Finished, VmError>; 2], (L, L)) {
    let module = Module { entries: vec![program.clone()], ..Module::default() };
    let (client, server, weights) = (rng.seed(), rng.seed(), rng.seed());
    let seeds = Seeds { client: &client, server: &server, weights: &weights };
    let resident = Resident::new(std::iter::empty::<&[i64]>());
    let masked = linear::mask_weights(&module.entries, seeds.weights, &resident);
    let step = Step::first(&module.entries, 0);
    let deadline = Duration::from_secs(20);
    let (mut at_client, mut at_server) = pair_of(deadline, links);
    let [(mut feed_client, mut of_client), (mut feed_server, mut of_server)] =
        [Party::Client, Party::Server].map(|p| queue(material_bytes(program, Maker::Dealer, p), deadline));
    let results = std::thread::scope(|scope| {
        scope.spawn(move || deal(step, seeds, &mut Masks::default(), &mut feed_client, &mut feed_server));
        let server = scope.spawn(|| {
            let machine = Machine::server(step, seeds.server, &[], &resident).unwrap();
            machine.run(&mut Openings::default(), Vec::new(), &mut at_server, &mut of_server)
        });
        let mut machine = Machine::client(step, seeds.client, &[], &masked).unwrap();
        machine.prepare(&mut at_client).unwrap();
        let inputs = encoded(program, &[values.to_vec()]);
        let client = machine.run(&mut Openings::default(), inputs, &mut at_client, &mut of_client);
        [client, server.join().unwrap()]
    });
    (results, (at_client, at_server))
}

fn pair_of<L>(deadline: Duration, links: impl FnOnce(Memory, Memory) -> (L, L)) -> (L, L) {
    let (client, server) = pair(deadline);
    links(client, server)
}

/// The opened outcomes of the comparisons among three numbers, as a word of three bits.
fn outcomes(values: [i64; 3], rng: &mut Rng) -> usize {
    let program = program(3, 8);
    let record = |a, b| (Recording::new(a), Recording::new(b));
    let (results, (client, server)) = run(&program, &values, rng, record);
    assert!(results.iter().all(Result::is_ok));
    // After the opening: numbers and, for the client, places of the shuffle; differences; masked bits; then outcomes.
    let outcomes_at = |link: &Recording<_>, at: usize| unpack(&link.received[1].1[at..=at], 1, 3);
    let (from_server, from_client) = (outcomes_at(&client, 4 + 1 + 4 + 3), outcomes_at(&server, 4 + 4 + 3));
    (0..3).map(|i| ((from_server[i] ^ from_client[i]) as usize) << i).sum()
}

/// Whatever the numbers, each ranking is opened as often as any other: 3000 runs of each case, of which a ranking has 500 with
/// a deviation of 20.
#[test]
fn what_is_opened_is_a_random_ranking() {
    let mut rng = Rng::new(43);
    let mut tables = Vec::new();
    for values in [[1, 2, 3], [30, 20, -30], [-5, 9, 0]] {
        let mut found = [0; 8];
        (0..3000).for_each(|_| found[outcomes(values, &mut rng)] += 1);
        // Pairs are (0, 1), (0, 2), (1, 2): two words are cycles.
        assert_eq!((found[0b101], found[0b010]), (0, 0), "{found:?}");
        assert!(found.iter().all(|&n| n == 0 || (400..600).contains(&n)), "{values:?}: {found:?}");
        tables.push(found);
    }
    // Equal numbers: the earlier place, always.
    assert_eq!(outcomes([4, 4, 4], &mut rng), 0b111);
}

/// A link whose peer lies about one outcome.
struct Lying(Memory, usize);

impl Link for Lying {
    fn send(&mut self, step: u32, frame: Bytes) -> Result<(), LinkError> {
        self.0.send(step, frame)
    }

    fn receive(&mut self, step: u32, rest: usize) -> Result<Bytes, LinkError> {
        let frame = self.0.receive(step, rest)?;
        self.1 += 1;
        Ok(if self.1 == 5 { frame.iter().map(|byte| byte ^ 0b010).collect() } else { frame })
    }
}

#[test]
fn comparisons_of_no_order_are_an_error() {
    let (program, mut rng) = (program(3, 8), Rng::new(44));
    assert_eq!((MASKED, program.instrs.len()), (6, 4));
    let mut refused = 0;
    for _ in 0..30 {
        let (results, _) = run(&program, &[7, 8, 9], &mut rng, |a, b| (Lying(a, 0), Lying(b, 100)));
        if let Err(VmError::At(failure)) = &results[0] {
            assert!(matches!(failure.cause, Cause::Ranking), "{failure}");
            refused += 1;
        }
    }
    assert!((1..30).contains(&refused), "a third of the rankings become cycles: {refused}");
}
