//! Whole sessions over loopback TCP, parties and dealer in threads.

use std::time::Duration;

use crate::common::{self, Files, Foreseen, SQUARE, TOKENS, World, client, count, ids, reals, simulated};
use processes::Dealing;
use processes::client::Client;
use processes::inputs::{decode, plan};

const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn a_run_equals_simulation_and_costs_what_is_claimed() {
    let files = Files::write(SQUARE);
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer(&files);
    let server = world.server(&files, dealer);
    let client = client(&files, server, dealer);
    let input = reals("x", &[[1.0, -0.5, 0.25, 2.0], [0.0, 3.0, -1.0, 0.125]]);
    let outcomes = world.ask(&client, &input).unwrap();

    let program = &client.loaded.module.entries[0];
    let cost = ir::cost::cost(program);
    let (_, runs) = plan(&client.loaded.module, &input).unwrap();
    // The same bytes, whenever they are dealt.
    let overlapped = Client { dealing: Dealing::Overlapped, ..common::client(&files, server, dealer) };
    let later = world.ask(&overlapped, &input).unwrap();
    assert!(later.iter().zip(&outcomes).all(|(a, b)| a.record.online.material_bytes == b.record.online.material_bytes));
    for (call, (outcome, run)) in outcomes.iter().zip(&runs).enumerate() {
        let [expected, _] = simulated(&files, run, call as u8);
        assert_eq!(outcome.outputs, decode(program, expected.outputs));
        let online = &outcome.record.online;
        assert_eq!(online.rounds, cost.rounds);
        assert_eq!(online.sent_bytes, cost.client_sent_bytes);
        assert!(cost.client_ahead_bytes > 0);
        assert_eq!(online.client_ahead_bytes, cost.client_ahead_bytes);
        assert_eq!(online.received_bytes, cost.server_sent_bytes);
        assert_eq!(online.material_bytes, cost.client_material_bytes);
        assert!(outcome.record.socket_sent_bytes > online.sent_bytes);
    }
    // x·w by hand: weights are (37 i + 11) mod 101 - 50 at 6 fractional bits.
    let w = |i: i64| ((i * 37 + 11) % 101 - 50) as f32 / 64.0;
    let product: f32 = [1.0, -0.5, 0.25, 2.0].iter().zip(0..).map(|(x, k)| x * w(3 * k)).sum();
    let got = outcomes[0].outputs[0].1[[0, 0]];
    assert!((got - product * product).abs() < 1e-3, "{got} against {}", product * product);
    let reached: Vec<f32> = (0..3).map(|t| outcomes[0].outputs[1].1[[0, 0, t]]).collect();
    assert_eq!(reached, [-1.0, 0.0, 1.0].map(|t| f32::from(product >= t)));
}

#[test]
fn the_setup_is_sent_once_and_again_if_it_is_damaged() {
    let files = Files::write(SQUARE);
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer(&files);
    let server = world.server(&files, dealer);
    let client = client(&files, server, dealer);
    let input = reals("x", &[[1.0, 2.0, 3.0, 4.0]]);
    let setup_bytes = || world.ask(&client, &input).unwrap()[0].record.setup_bytes;
    let whole = ir::cost::cost(&client.loaded.module.entries[0]).setup_bytes;
    assert_eq!(setup_bytes(), whole);
    assert_eq!(setup_bytes(), 0);
    assert_eq!(count(&files.path("cache"), "setup"), 1);

    let kept = std::fs::read_dir(files.path("cache")).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&kept).unwrap();
    let mut flipped = good.clone();
    flipped[10] ^= 1;
    for damaged in [&flipped[..], &good[..good.len() - 1], &[]] {
        std::fs::write(&kept, damaged).unwrap();
        assert_eq!(setup_bytes(), whole);
        // Sealed anew, with the same digest in its head.
        let mended = std::fs::read(&kept).unwrap();
        assert_eq!((mended.len(), &mended[..40]), (good.len(), &good[..40]));
    }
    assert_eq!(setup_bytes(), 0);
}

#[test]
fn a_short_prompt_gives_its_last_position() {
    let files = Files::write(TOKENS);
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer(&files);
    let server = world.server(&files, dealer);
    let client = client(&files, server, dealer);
    let w = |i: i64| ((i * 37 + 11) % 101 - 50) as f32 / 64.0;
    for prompt in [&[4, 2][..], &[1], &[0, 1, 2, 3]] {
        let outcomes = world.ask(&client, &ids("ids", prompt)).unwrap();
        let last = prompt[prompt.len() - 1];
        let expected: Vec<f32> = (0..3).map(|j| w(3 * last + j)).collect();
        assert_eq!(outcomes[0].outputs[0].1.iter().copied().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_burnt_session_is_refused() {
    let files = Files::write(SQUARE);
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer(&files);
    let server = world.server_with(&files, dealer, Foreseen::stuck(1));
    let client = client(&files, server, dealer);
    let input = reals("x", &[[1.0; 4]]);
    world.ask(&client, &input).unwrap();
    let error = world.ask(&client, &input).err().expect("a replayed session").to_string();
    assert_eq!(error, "session 07070707070707070707070707070707 was burnt before: its material must not be used again");
    // A client without the ledger is stopped by the server's.
    let other = processes::client::Client { state: files.state("elsewhere"), ..client };
    let error = world.ask(&other, &input).err().expect("a replayed session").to_string();
    assert_eq!(error, "the server gave up: the session was burnt before");
}

#[test]
fn clients_at_the_same_time_are_served_in_turn() {
    let files = Files::write(SQUARE);
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer(&files);
    let server = world.server(&files, dealer);
    let input = reals("x", &[[1.0, -0.5, 0.25, 2.0]]);
    std::thread::scope(|scope| {
        let ask = || world.ask(&client(&files, server, dealer), &input).map(|o| o[0].outputs[0].1[[0, 0]]);
        let asked: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let results: Vec<f32> = asked.into_iter().map(|t| t.join().unwrap().unwrap()).collect();
        assert!(results.iter().all(|y| (y - results[0]).abs() < 1e-3));
    });
}
