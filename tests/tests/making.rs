//! What making takes by the cost model is what two engines send each other, to the byte.

use std::fs::File;
use std::io::BufWriter;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ir::wire::message_bytes;
use ir::{Party, Program, Weight};
use kernels::prg::Seed;
use ot::{Channel, Memory, Pair};
use protocols::cache::Masks;
use protocols::pair::{Engine, Products, make, products};
use protocols::step::Step;
use protocols::weights::{Resident, ServerWeights};
use sscc::lower::variant::Link;
use sscc::predict::making::Session;
use tests::gpt2::{self, Gpt2Shape};
use tests::private::{Private, generation};

/// Bytes with frame headers that a party sent, and messages.
type Sent = (u64, u64);

/// A way that counts what a party sends.
struct Counted(Memory, Arc<Mutex<Sent>>);

impl Channel for Counted {
    fn send(&mut self, bytes: Vec<u8>) -> Result<(), ot::Error> {
        let mut sent = self.1.lock().unwrap();
        sent.0 += message_bytes(bytes.len() as u64);
        sent.1 += u64::from(!bytes.is_empty());
        drop(sent);
        self.0.send(bytes)
    }

    fn receive(&mut self, length: usize) -> Result<Vec<u8>, ot::Error> {
        self.0.receive(length)
    }
}

/// Makes steps of these entries, the products of as many as are made at once, and counts after every step what the client and the
/// server have sent.
fn made(entries: &[Program], steps: &[u32], weights: &Resident) -> Vec<[Sent; 2]> {
    let [client, server] = Memory::pair(Duration::from_secs(300));
    let counts = [Arc::default(), Arc::default()];
    let run = |party: Party, way: Memory| -> Vec<Sent> {
        let mut way = Counted(way, Arc::clone(&counts[party.index()]));
        let seeds = [(); 2].map(|()| Seed::random().unwrap());
        let mut engine = Engine::new(Pair::set_up(&mut way, party, [3; 32], &seeds[0]).unwrap());
        let weights = (party == Party::Server).then_some(weights as &dyn ServerWeights);
        let (mut ready, mut masks, mut after) = (Products::default(), Masks::default(), Vec::new());
        let all: Vec<Step> = (0..).zip(steps).map(|(number, &entry)| Step { entries, entry, number }).collect();
        for (number, step) in all.iter().enumerate() {
            let mut engine = engine.over(&mut way);
            if !ready.has(*step) {
                let rest = &all[number..];
                let together = &rest[..ir::making::together(rest.iter().map(|step| step.program()))];
                products(together, &seeds[1], weights, &masks, &mut engine, &mut ready).unwrap();
            }
            make(*step, &seeds[1], weights, &mut ready, &mut masks, &mut engine, &mut Vec::new()).unwrap();
            after.push(*way.1.lock().unwrap());
        }
        after
    };
    let [of_client, of_server] = std::thread::scope(|scope| {
        let server = scope.spawn(|| run(Party::Server, server));
        [run(Party::Client, client), server.join().unwrap()]
    });
    of_client.into_iter().zip(of_server).map(|(client, server)| [client, server]).collect()
}

/// What the cost model says of the same, and whose transfers are made in silence at the end.
fn foretold(entries: &[Program], steps: &[u32], weights: &Resident) -> (Vec<[u64; 3]>, [bool; 2]) {
    let squares = |weight: Weight| {
        let columns = *entries[0].weights[weight.index()].shape.0.last().unwrap() as usize;
        u64::from(u64::BITS - weights.integers(weight).greatest_square(columns).leading_zeros())
    };
    let programs = steps.iter().map(|&entry| &entries[entry as usize]).collect();
    let mut session = Session::new(programs, &squares, Link::WAN);
    let step = |_| {
        session.step().unwrap();
        let spent = session.spent();
        [spent.sent_bytes[0], spent.sent_bytes[1], spent.messages]
    };
    let after = steps.iter().map(step).collect();
    (after, session.silent())
}

/// Holds the two to each other; tells whose transfers are made in silence at the end.
fn equal(entries: &[Program], steps: &[u32], weights: &Resident) -> [bool; 2] {
    let made = made(entries, steps, weights);
    let made: Vec<[u64; 3]> =
        made.into_iter().map(|[client, server]| [client.0, server.0, client.1 + server.1]).collect();
    let (after, silent) = foretold(entries, steps, weights);
    assert_eq!(after, made, "bytes of the client, of the server, and messages, after each step");
    silent
}

/// Each op that can be made.
#[test]
fn every_op_takes_what_was_foretold() {
    let program = ir::parse(include_str!("../../runtime/machine/tests/programs/every_made.ssir"))
        .unwrap_or_else(|e| panic!("{e}"));
    equal(&[program], &[0], &Resident::new([&[3i64, -5, 7, 1, 0, 2, -1, 4][..]]));
}

/// A session of a prompt and tokens, whose products are made at once.
#[test]
fn a_text_takes_what_was_foretold() {
    let shape = Gpt2Shape { layers: 2, width: 64, heads: 4, vocabulary: 30_000, context: 16 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.onnx");
    gpt2::write(gpt2::build(shape, 1).unwrap(), &mut BufWriter::new(File::create(&path).unwrap())).unwrap();
    let mut options = generation(&path, None, &[8], &[12]);
    options.maker = ir::pair::Maker::Pair;
    let model = Private::compile(&options).unwrap_or_else(|e| panic!("{e}"));
    let silent = equal(&model.module.entries, &[0, 1, 1, 1, 1], model.weights());
    assert_eq!(silent, [true; 2], "choosing among so many words takes millions of transfers");
}
