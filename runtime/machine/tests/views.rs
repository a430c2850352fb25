//! What a party sees, its inputs fixed and all seeds fresh, has the distribution of noise: every bit of every element of
//! messages, corrections and comparison keys, neighbouring bits together, and the difference of any two elements of one
//! width. The same statistic must reject a mask that is left out, used twice or too narrow.

mod support;

use bytes::Bytes;
use ir::bytecode::Module;
use ir::material::{Receiver, lift_bits, pieces};
use ir::{Op, Party, Program, parse};
use kernels::ring::{Tensor, mask, pack, packed_len, unpack};
use machine::Machine;
use machine::link::{Recording, pair};
use protocols::cache::{Masks, Openings};
use protocols::dealer::{Seeds, deal, material_bytes};
use protocols::linear;
use protocols::material::{Material, MaterialError, queue};
use protocols::pair::{Products, make};
use protocols::step::Step;
use protocols::weights::Resident;
use protocols::{Maker, Use, Vector, open};
use std::time::Duration;
use support::{Rng, encoded, ideal};

/// Runs of each test. A feature that does not vary then deviates by 16 standard deviations.
const RUNS: usize = 256;

/// A limit that the greatest deviation of a million fair features stays below.
const LIMIT: f64 = 7.0;

/// Bytes of comparison keys are held against this many before them: two levels.
const KEY_REACH: usize = 32;

/// Longer views are compared within the same reach throughout.
const MANY: usize = 2000;

/// A view as elements with their widths; the same widths in every run.
type View = Vec<(u64, u8)>;

/// Greatest deviation from 1/2, in standard deviations, of the frequencies of all features.
fn deviation(views: &[View]) -> f64 {
    let runs = views.len() as f64;
    let widths: Vec<u8> = views[0].iter().map(|e| e.1).collect();
    let mut worst = 0f64;
    let mut feature = |width: u8, of: &dyn Fn(&View) -> u64| {
        let mut ones = [0u32; 64];
        for view in views {
            let v = of(view);
            (0..usize::from(width)).for_each(|bit| ones[bit] += (v >> bit & 1) as u32);
        }
        for &ones in &ones[..usize::from(width)] {
            worst = worst.max((2.0 * f64::from(ones) - runs).abs() / runs.sqrt());
        }
    };
    for (i, &width) in widths.iter().enumerate() {
        feature(width, &|view| view[i].0);
        feature(width - 1, &|view| view[i].0 ^ view[i].0 >> 1);
        // Bytes of keys are too many for all pairs, and so is what parties see who make their material.
        let near = width <= 8 || widths.len() > MANY;
        let first = if near { i.saturating_sub(KEY_REACH) } else { 0 };
        for j in (first..i).filter(|&j| widths[j] == width) {
            feature(width, &|view| view[i].0.wrapping_sub(view[j].0));
        }
    }
    worst
}

/// Material that is kept.
struct Kept<M> {
    material: M,
    bytes: Vec<u8>,
}

impl<M: Material> Material for Kept<M> {
    fn take(&mut self, length: usize) -> Result<Bytes, MaterialError> {
        let bytes = self.material.take(length)?;
        self.bytes.extend_from_slice(&bytes);
        Ok(bytes)
    }
}

/// A step of a session: the entry's number, its inputs and its public numbers.
type Arguments = (u32, Vec<Vec<i64>>, Vec<u32>);

/// Runs a session once and gives the views of client and server, without the final `reveal`s: those of all steps. A
/// session that forgets has the same seeds in every step and takes each for its first, which is a fault.
fn views(entries: &[Program], weights: &[Vec<i64>], steps: &[Arguments], forgets: bool, rng: &mut Rng) -> [View; 2] {
    let (client_seed, server_seed, weights_seed) = (rng.seed(), rng.seed(), rng.seed());
    let seeds = Seeds { client: &client_seed, server: &server_seed, weights: &weights_seed };
    let weights = Resident::new(weights.iter().map(|w| &w[..]));
    let masked = linear::mask_weights(entries, seeds.weights, &weights);
    let (mut at_dealer, mut at_client, mut at_server) = (Masks::default(), Openings::default(), Openings::default());
    let mut views = [View::new(), View::new()];
    for (number, (entry, inputs, publics)) in (0..).zip(steps) {
        if forgets {
            (at_dealer, at_client, at_server) = (Masks::default(), Openings::default(), Openings::default());
        }
        let step = Step { entries, entry: *entry, number: if forgets { 0 } else { number } };
        let program = step.program();
        let deadline = Duration::from_secs(60);
        let (client_link, server_link) = pair(deadline);
        let (mut client_link, mut server_link) = (Recording::new(client_link), Recording::new(server_link));
        let [client, server] =
            [Party::Client, Party::Server].map(|p| queue(material_bytes(program, Maker::Dealer, p), deadline));
        let (mut feed_client, material) = client;
        let mut client_material = Kept { material, bytes: Vec::new() };
        let (mut feed_server, material) = server;
        let mut server_material = Kept { material, bytes: Vec::new() };
        std::thread::scope(|scope| {
            let at_dealer = &mut at_dealer;
            scope.spawn(move || deal(step, seeds, at_dealer, &mut feed_client, &mut feed_server).unwrap());
            scope.spawn(|| {
                let server = Machine::server(step, seeds.server, publics, &weights).unwrap();
                server.run(&mut at_server, Vec::new(), &mut server_link, &mut server_material).unwrap();
            });
            let mut client = Machine::client(step, seeds.client, publics, &masked).unwrap();
            client.prepare(&mut client_link).unwrap();
            let inputs = encoded(program, inputs);
            client.run(&mut at_client, inputs, &mut client_link, &mut client_material).unwrap();
        });
        views[0].extend(elements(program, Party::Client, &client_link.received, Some(&client_material.bytes)));
        views[1].extend(elements(program, Party::Server, &server_link.received, Some(&server_material.bytes)));
    }
    views
}

/// Runs a session whose parties make their material once, and gives their views: what they see while they make it, and
/// the messages of the runs. `fault` changes what a party's engine gives it.
fn views_of_pair(
    entries: &[Program],
    weights: &[Vec<i64>],
    steps: &[Arguments],
    fault: Option<ideal::Fault>,
    rng: &mut Rng,
) -> [View; 2] {
    let (client_seed, server_seed) = (rng.seed(), rng.seed());
    let weights = Resident::new(weights.iter().map(|w| &w[..]));
    let mut masks: [Masks; 2] = Default::default();
    let (mut at_client, mut at_server) = (Openings::default(), Openings::default());
    let mut engines = ideal::ideal(rng);
    engines.iter_mut().for_each(|engine| engine.fault = fault);
    let mut views = [View::new(), View::new()];
    for (number, (entry, inputs, publics)) in (0..).zip(steps) {
        let step = Step { entries, entry: *entry, number };
        let (program, deadline) = (step.program(), Duration::from_secs(60));
        let (client_link, server_link) = pair(deadline);
        let (mut client_link, mut server_link) = (Recording::new(client_link), Recording::new(server_link));
        let (_, mut nothing) = queue(0, deadline);
        let (mut feed, mut material) = queue(ir::pair::server_bytes(program), deadline);
        let ([client_engine, server_engine], [client_masks, server_masks]) = (&mut engines, &mut masks);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                make(step, &client_seed, None, &mut Products::default(), client_masks, client_engine, &mut Vec::new())
                    .unwrap()
            });
            scope.spawn(|| {
                make(
                    step,
                    &server_seed,
                    Some(&weights),
                    &mut Products::default(),
                    server_masks,
                    server_engine,
                    &mut feed,
                )
                .unwrap()
            });
            scope.spawn(|| {
                let server = Machine::server_of_pair(step, &server_seed, publics, &weights).unwrap();
                server.run(&mut at_server, Vec::new(), &mut server_link, &mut material).unwrap();
            });
            let mut client = Machine::client_of_pair(step, &client_seed, publics).unwrap();
            client.prepare(&mut client_link).unwrap();
            client.run(&mut at_client, encoded(program, inputs), &mut client_link, &mut nothing).unwrap();
        });
        let links = [(Party::Client, &client_link), (Party::Server, &server_link)];
        for ((view, engine), (party, link)) in views.iter_mut().zip(&mut engines).zip(links) {
            view.append(&mut engine.seen);
            view.extend(elements(program, party, &link.received, None));
        }
    }
    views
}

/// Takes messages and, where there is some, dealt material apart.
fn elements(program: &Program, party: Party, messages: &[(u32, Vec<u8>)], material: Option<&[u8]>) -> View {
    let mut view = View::new();
    let take = |view: &mut View, bytes: &mut &[u8], count: u64, width: u8| {
        let (part, rest) = bytes.split_at((count * u64::from(width)).div_ceil(8) as usize);
        *bytes = rest;
        view.extend(unpack(part, width, count as usize).iter().map(|&v| (v, width)));
    };
    let count = |v: ir::Value| program.ty(v).shape.elements().unwrap();
    let mut messages = messages.iter();
    // What the client sends ahead comes first, and then is no part of the messages of the rounds.
    let ahead = ir::ahead::ahead(program).sent;
    for early in [true, false] {
        let mut waiting = Vec::new();
        for (i, instr) in program.instrs.iter().enumerate() {
            let here = match party {
                Party::Client => !early,
                Party::Server => early == ahead[i],
            };
            match instr.op {
                Op::Open { x, width, .. } if here => waiting.push((count(x), width)),
                Op::Extend { x, .. } | Op::Bit { x, .. } if here => waiting.push((count(x), 1)),
                Op::Compare { .. } if here => waiting.push((count(ir::Value(i as u32)), ir::digits::MASKED)),
                Op::Exp { x, width, .. } if here => waiting.push((count(x), width)),
                Op::Cells { x, width, .. } if here => waiting.extend([(count(x), width); 2]),
                Op::Linear { x, .. } if here && party == Party::Server => waiting.push((count(x), program.ty(x).width)),
                Op::Choose { x, .. } if !early => {
                    let choosing = ir::material::choosing(program, x);
                    let (step, message) = messages.next().expect("the messages of a `choose`, one after the other");
                    assert_eq!(*step, i as u32);
                    let mut rest = &message[..];
                    let numbers = (choosing.elements, choosing.width);
                    let mut parts = vec![numbers];
                    if party == Party::Client {
                        parts.push((choosing.elements, choosing.place));
                    }
                    for level in &choosing.levels {
                        parts.extend([choosing.width, ir::digits::MASKED, 1].map(|width| (level.pairs(), width)));
                    }
                    if party == Party::Client {
                        parts.push((1, choosing.place));
                    }
                    parts.into_iter().for_each(|(count, width)| take(&mut view, &mut rest, count, width));
                    assert!(rest.is_empty());
                }
                Op::Round {} | Op::Send {} if !waiting.is_empty() => {
                    let (step, message) = messages.next().expect("a message a round");
                    assert_eq!(*step, i as u32);
                    let mut rest = &message[..];
                    waiting.drain(..).for_each(|(count, width)| take(&mut view, &mut rest, count, width));
                    assert!(rest.is_empty());
                }
                _ => {}
            }
        }
    }
    // Only the client is told the outputs.
    assert!(party == Party::Client || messages.next().is_none());
    let Some(mut rest) = material else { return view };
    let lift_bits = lift_bits(program);
    for i in 0..program.instrs.len() {
        for piece in pieces(program, i, &lift_bits) {
            if piece.to == Receiver::Server && party == Party::Client {
                continue;
            }
            take(&mut view, &mut rest, piece.elements, piece.bits as u8);
        }
    }
    assert!(rest.is_empty());
    view
}

/// Every protocol once. Element counts are multiples of 8, so that no piece has padding.
const EVERY_PROTOCOL: &str = include_str!("programs/every_protocol.ssir");

/// How far the views of client and server deviate over many runs of a session.
fn deviations(entries: &[Program], steps: &[Arguments], forgets: bool, rng: &mut Rng) -> [f64; 2] {
    let module = Module { entries: entries.to_vec(), ..Module::default() };
    ir::verify_module(&module, &ir::verify::Limits::default()).unwrap_or_else(|f| panic!("{}", f[0]));
    let weights: Vec<_> = entries[0].weights.iter().map(|w| vec![3; w.shape.elements().unwrap() as usize]).collect();
    let (client, server): (Vec<View>, Vec<View>) =
        (0..RUNS).map(|_| views(entries, &weights, steps, forgets, rng).into()).unzip();
    [client, server].map(|views| {
        assert!(views[0].len() > 100, "{} elements are seen", views[0].len());
        deviation(&views)
    })
}

/// Demands that both parties' views of a session look uniform.
fn check_uniform(entries: &[Program], steps: &[Arguments], rng: &mut Rng) {
    for (party, worst) in ["client", "server"].into_iter().zip(deviations(entries, steps, false, rng)) {
        assert!(worst < LIMIT, "the {party}'s view of {} steps deviates by {worst} standard deviations", steps.len());
    }
}

/// How far the views of parties who make their material deviate over many runs, half as many since they are long: what does not
/// vary deviates by 11.
fn deviations_of_pair(
    entries: &[Program],
    steps: &[Arguments],
    fault: Option<ideal::Fault>,
    rng: &mut Rng,
) -> [f64; 2] {
    let weights: Vec<_> = entries[0].weights.iter().map(|w| vec![3; w.shape.elements().unwrap() as usize]).collect();
    let runs = (0..RUNS / 2).map(|_| views_of_pair(entries, &weights, steps, fault, rng).into());
    let (client, server): (Vec<View>, Vec<View>) = runs.unzip();
    [client, server].map(|views| deviation(&views))
}

/// The same value for every element of a program's inputs.
fn constant(program: &Program, value: i64) -> Vec<Vec<i64>> {
    program.inputs.iter().map(|i| vec![value; i.ty.shape.elements().unwrap() as usize]).collect()
}

#[test]
fn views_are_uniform() {
    let program = parse(EVERY_PROTOCOL).unwrap_or_else(|e| panic!("{e}"));
    assert!(ir::ahead::ahead(&program).sent.contains(&true), "an opening that the client sends ahead is among them");
    for value in [0, 1, -100] {
        let steps = [(0, constant(&program, value), Vec::new())];
        check_uniform(std::slice::from_ref(&program), &steps, &mut Rng::new(20 + value as u64));
    }
}

/// What parties see while they make their material, and then in the run, is uniform together.
#[test]
fn views_of_parties_without_a_dealer_are_uniform() {
    let program = parse(include_str!("programs/every_made.ssir")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(ir::pair::unmade(&program), None);
    let steps = [(0, constant(&program, -20), Vec::new())];
    let worst = deviations_of_pair(std::slice::from_ref(&program), &steps, None, &mut Rng::new(27));
    assert!(worst.iter().all(|worst| *worst < LIMIT), "views deviate by {worst:?} standard deviations");
}

/// Steps that make material one after another, over what was cached; and engines whose shares are not.
#[test]
fn views_of_a_session_without_a_dealer_are_uniform() {
    let sources = [include_str!("programs/prefill.ssir"), include_str!("programs/decode.ssir")];
    let entries = sources.map(|s| parse(s).unwrap_or_else(|e| panic!("{e}")));
    let [prompt, row] = [0, 1].map(|entry| constant(&entries[entry], 1));
    let steps = [(0, prompt, vec![1]), (1, row, vec![2, 4, 5, 2])];
    let worst = deviations_of_pair(&entries, &steps, None, &mut Rng::new(28));
    assert!(worst.iter().all(|worst| *worst < LIMIT), "views deviate by {worst:?} standard deviations");
    for fault in [ideal::Fault::Bare, ideal::Fault::Repeats] {
        let worst = deviations_of_pair(&entries, &steps, Some(fault), &mut Rng::new(29));
        assert!(worst.iter().any(|worst| *worst > LIMIT), "{fault:?} deviates by {worst:?} only");
    }
}

/// What later steps open and are dealt is uniform next to what was cached: no mask serves two steps.
#[test]
fn views_of_a_session_are_uniform() {
    let sources = [include_str!("programs/prefill.ssir"), include_str!("programs/decode.ssir")];
    let entries = sources.map(|s| parse(s).unwrap_or_else(|e| panic!("{e}")));
    for value in [0, 1] {
        let [prompt, row] = [0, 1].map(|entry| constant(&entries[entry], value));
        let steps = [(0, prompt, vec![1]), (1, row.clone(), vec![2, 4, 5, 2]), (1, row, vec![2, 4, 6, 3])];
        check_uniform(&entries, &steps, &mut Rng::new(24 + value as u64));
    }
}

#[test]
fn the_statistic_rejects_a_session_that_forgets_its_steps() {
    let sources = [include_str!("programs/prefill.ssir"), include_str!("programs/decode.ssir")];
    let entries = sources.map(|s| parse(s).unwrap_or_else(|e| panic!("{e}")));
    let row = constant(&entries[1], 1);
    let steps = [2, 3, 4].map(|position| (1, row.clone(), vec![0, 0, 1, position]));
    let found = deviations(&entries, &steps, true, &mut Rng::new(26));
    assert!(found.iter().all(|worst| *worst > LIMIT), "steps under the same masks deviate by {found:?} only");
}

/// Changes the mask of an opening.
type Fault<'a> = &'a dyn Fn(&mut [u64]);

/// The client's halves of an opening of 16 equal elements, with a fault in the mask.
fn halves(fault: impl Fn(&mut [u64]), whole: bool) -> Vec<View> {
    const WIDTH: u8 = 20;
    let mut rng = Rng::new(30);
    let x = Tensor::new(vec![16], vec![5; 16]);
    let half = |_| {
        let seed = rng.seed();
        let mut mask = open::mask(Use { seed: &seed, step: 0, entry: 0, index: 0 }, WIDTH).all(x.len());
        fault(&mut mask);
        let (mut packed, mut message) = (Vec::new(), vec![0; packed_len(x.len(), WIDTH)]);
        pack(&mask, WIDTH, &mut packed);
        let mask = Vector::Packed { bytes: packed.into(), bits: WIDTH };
        open::send(Party::Client, &x, mask, WIDTH, whole, open::Dealt::default(), &mut message);
        unpack(&message, WIDTH, x.len()).iter().map(|&v| (v, WIDTH)).collect()
    };
    (0..RUNS).map(half).collect()
}

#[test]
fn the_statistic_rejects_faulty_masks() {
    for whole in [false, true] {
        let sound = deviation(&halves(|_| {}, whole));
        assert!(sound < LIMIT, "a sound opening deviates by {sound}");
        let faults: [(&str, Fault); 4] = [
            ("left out", &|mask| mask[7] = 0),
            ("used twice", &|mask| mask[11] = mask[2]),
            ("one bit too narrow", &|r| r[0] &= mask(19)),
            ("two bits too narrow", &|r| r.iter_mut().for_each(|r| *r &= mask(18))),
        ];
        for (name, fault) in faults {
            let found = deviation(&halves(fault, whole));
            assert!(found > LIMIT, "a mask {name} deviates by {found} only");
        }
    }
}
