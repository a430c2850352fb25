//! Sessions: a prefill and decodes of one module share weights, masked weights and what was opened of K and V.

mod support;

use bytes::Bytes;
use ir::bytecode::Module;
use ir::eval::{self, Arguments};
use ir::verify::Limits;
use ir::{Program, cost, parse, verify_module};
use kernels::ring::packed_len;
use machine::link::{Link, LinkError};
use machine::simulate::{Engine, Session};
use machine::{Machine, Products, products, products_len};
use protocols::Maker;
use protocols::dealer::Seeds;
use protocols::linear;
use protocols::step::Step;
use protocols::weights::{Packed, Resident, masked};
use support::{Rng, check_cost, encoded, ideal};

const PREFILL: u32 = 0;
const DECODE: u32 = 1;

/// Slots that the prefill fills, padding included.
const PREFILLED: u32 = 4;

fn entries() -> Vec<Program> {
    let parsed = [include_str!("programs/prefill.ssir"), include_str!("programs/decode.ssir")].map(parse);
    let entries = parsed.map(|p| p.unwrap_or_else(|e| panic!("{e}"))).to_vec();
    let module = Module { entries, ..Module::default() };
    verify_module(&module, &Limits::default()).unwrap_or_else(|f| panic!("{}", f[0]));
    module.entries
}

/// `count` small integers.
fn small(rng: &mut Rng, count: usize) -> Vec<i64> {
    (0..count).map(|_| rng.within(0, 6) as i64 - 3).collect()
}

fn weights(rng: &mut Rng, entries: &[Program]) -> Vec<Vec<i64>> {
    entries[0].weights.iter().map(|w| small(rng, w.shape.elements().unwrap() as usize)).collect()
}

/// The publics of decode number `step`, from 1.
fn decode_publics(length: u32, step: u32) -> [u32; 4] {
    [length, PREFILLED, PREFILLED + step, length + step - 1]
}

#[test]
fn steps_give_what_the_reference_gives() {
    let entries = entries();
    let mut rng = Rng::new(60);
    for length in [1, 3, 4] {
        let weights = weights(&mut rng, &entries);
        let resident = Resident::new(weights.iter().map(|w| &w[..]));
        let (client, server, masks) = (rng.seed(), rng.seed(), rng.seed());
        let seeds = Seeds { client: &client, server: &server, weights: &masks };
        let mut session = Session::new(&entries, &resident, seeds);
        let [mut of_client, mut of_server] = ideal::ideal(&mut rng);
        let engines: [Engine; 2] = [&mut of_client, &mut of_server];
        let mut without_dealer = Session::of_pair(&entries, &resident, [&client, &server], engines);
        let mut reference = eval::Session::default();
        for step in 0..=8 {
            let (entry, rows, publics) = match step {
                0 => (PREFILL, 4, vec![length - 1]),
                _ => (DECODE, 1, decode_publics(length, step).to_vec()),
            };
            let (program, inputs) = (&entries[entry as usize], [small(&mut rng, rows * 8)]);
            // Products of all steps at once, of some in the middle, or of each when it begins.
            match (length, step) {
                (1, 0) => without_dealer.products(&[&[PREFILL][..], &[DECODE; 8]].concat()).unwrap(),
                (3, 2) => without_dealer.products(&[DECODE; 4]).unwrap(),
                _ => {}
            }
            let arguments = Arguments { inputs: &inputs, weights: &weights, publics: &publics };
            let want = reference.step(program, arguments).unwrap();
            let finished = session.step(entry, encoded(program, &inputs), &publics).unwrap_or_else(|e| panic!("{e}"));
            check_cost(program, Maker::Dealer, &finished);
            let made =
                without_dealer.step(entry, encoded(program, &inputs), &publics).unwrap_or_else(|e| panic!("{e}"));
            check_cost(program, Maker::Pair, &made);
            assert_eq!(made[0].outputs[0].as_ref(), Some(&want.outputs[0]), "step {step}, made by both");
            assert_eq!(finished[0].outputs[0].as_ref(), Some(&want.outputs[0]), "step {step} after {length} rows");
        }
        // The ninth decode has no slot, and asking for it costs nothing.
        let inputs = || encoded(&entries[1], &[vec![0; 8]]);
        for _ in 0..2 {
            let full = session.step(DECODE, inputs(), &decode_publics(length, 8)).err().expect("no slot is left");
            let expected = r#"entry "decode" has room for 12 rows of state "k": 12 are filled, 1 more were to come"#;
            assert_eq!(full.to_string(), expected);
        }
    }
}

/// Frames that a client sends ahead.
#[derive(Default)]
struct Frames(Vec<(u32, Bytes)>);

impl Link for Frames {
    fn send(&mut self, step: u32, frame: Bytes) -> Result<(), LinkError> {
        self.0.push((step, frame));
        Ok(())
    }

    fn receive(&mut self, _: u32, _: usize) -> Result<Bytes, LinkError> {
        Err(LinkError::Closed)
    }
}

/// Products that were made for many steps at once are those of each, and a client that has them reads no weight.
#[test]
fn products_made_beforehand_stand_in_for_the_weights() {
    let entries = entries();
    let mut rng = Rng::new(63);
    let weights = weights(&mut rng, &entries);
    let resident = Resident::new(weights.iter().map(|w| &w[..]));
    let (client, masks) = (rng.seed(), rng.seed());
    let (masked, nothing) = (linear::mask_weights(&entries, &masks, &resident), Packed::default());
    let steps: Vec<Step> = (0..4)
        .map(|number| Step { entries: &entries, entry: if number == 0 { PREFILL } else { DECODE }, number })
        .collect();
    let all = products(&steps, &client, &masked).unwrap();
    for (&step, packed) in steps.iter().zip(&all) {
        assert_eq!(packed, &products(&[step], &client, &masked).unwrap()[0]);
        assert_eq!(packed.len(), products_len(step.program()));
        let publics = match step.number {
            0 => vec![2],
            number => decode_publics(3, number).to_vec(),
        };
        let machine = |weights| Machine::client(step, &client, &publics, weights).unwrap();
        let [mut with, mut without] = [Frames::default(), Frames::default()];
        machine(&masked).prepare(&mut without).unwrap();
        assert!(machine(&nothing).prepare(&mut with).is_err(), "there is a product");
        let made = Products::new(step.program(), packed.clone().into()).expect("of this step");
        machine(&nothing).with_products(made).prepare(&mut with).unwrap();
        assert!(!with.0.is_empty() && with.0 == without.0, "step {}", step.number);
        assert!(Products::new(step.program(), packed[1..].to_vec().into()).is_none(), "a byte is missing");
    }
}

/// What padded the prompt is masked out forever: another padding gives the same results.
#[test]
fn padding_counts_for_nothing() {
    let entries = entries();
    let weights = weights(&mut Rng::new(61), &entries);
    let resident = Resident::new(weights.iter().map(|w| &w[..]));
    let run = |padding: i64| {
        let mut rng = Rng::new(62);
        let (client, server, masks) = (rng.seed(), rng.seed(), rng.seed());
        let seeds = Seeds { client: &client, server: &server, weights: &masks };
        let mut session = Session::new(&entries, &resident, seeds);
        let prompt = [small(&mut rng, 16), vec![padding; 16]].concat();
        let mut step = |entry: u32, x: Vec<i64>, publics: &[u32]| {
            let [client, _] = session.step(entry, encoded(&entries[entry as usize], &[x]), publics).unwrap();
            client.outputs.into_iter().next().flatten().expect("the client learns it")
        };
        let first = step(PREFILL, prompt, &[1]);
        [first, step(DECODE, vec![1; 8], &decode_publics(2, 1)), step(DECODE, vec![2; 8], &decode_publics(2, 2))]
    };
    assert_eq!(run(0), run(3));
}

/// One weight is masked once, for the widest product of all entries.
#[test]
fn masked_weights_serve_every_entry() {
    let entries = entries();
    let all: Vec<_> = masked(&entries).map(|(weight, width, elements)| (weight.0, width, elements)).collect();
    assert_eq!(all, [(0, 48, 8 * 24)]);
    assert_eq!(cost::setup_bytes(&entries), packed_len(8 * 24, 48) as u64);
    assert_eq!(cost::cost(&entries[1]).setup_bytes, packed_len(8 * 24, 30) as u64);
}

/// A step's material depends on the entries that ran, not on what a prompt has in it.
#[test]
fn a_step_costs_its_reads_alone() {
    let [_, decode] = &entries()[..] else { panic!("two entries") };
    let at = |op: &str| {
        let mut places = decode.instrs.iter().enumerate().filter(|(_, i)| i.op.mnemonic() == op);
        let per_instruction = &cost::cost(decode).per_instruction;
        places.by_ref().map(|(i, _)| per_instruction[i].dealt.to_server_bytes).collect::<Vec<_>>()
    };
    // 2·12 scores and 2·4 sums of 30 bits; nothing for what is kept.
    assert_eq!((at("sddmm"), at("spmm"), at("cache"), at("keep")), (vec![90], vec![30], vec![0, 0], vec![0]));
}
