//! Generation without a dealer: the two parties make what they consume, as they go or beforehand.

use std::time::Duration;

use ir::Party;
use ir::pair::Maker;
use processes::handshake::Mismatch;
use processes::{Plan, RunError, Stocks};
use text::PrivateModel;
use text::{Cancel, GenerateError, Model, Noise};

use crate::common::{PAIR, World, simulated};

const TIMEOUT: Duration = Duration::from_secs(60);

fn world() -> World {
    World::of(PAIR.path(), TIMEOUT)
}

/// Tokens, for how many there is material after each, and how many elements left their tables.
fn generate(model: &PrivateModel, prompt: &[u32], count: usize) -> Result<Vec<(u32, Option<u64>, u64)>, GenerateError> {
    let mut session = model.begin(prompt, Noise::greedy(), &Cancel::default())?;
    (0..count).map(|_| session.next().map(|step| (step.token, step.material_tokens, step.outside))).collect()
}

/// What the model gives on dealt material: roundings differ, tokens of a trained model seldom do.
fn expected(prompt: &[u32], count: usize) -> Vec<u32> {
    simulated(prompt, count, &Noise::greedy(), 1).iter().map(|step| step.0).collect()
}

#[test]
fn a_text_needs_nobody_else() {
    let mut world = world();
    let server = world.server(None, 1);
    let got = generate(&world.client(server, None, 1), &[20, 300, 41], 4).unwrap();
    assert_eq!(got.iter().map(|step| step.0).collect::<Vec<_>>(), expected(&[20, 300, 41], 4));
    assert!(got.iter().all(|&(_, left, outside)| (left, outside) == (None, 0)));
}

/// A stock serves any prompt of its size, and where it ends the session makes what follows itself, from the masks of the keys and
/// values that it keeps.
#[test]
fn a_stock_is_made_by_two_and_continued_by_them() {
    let mut world = world();
    let server = world.server(None, 1);
    let client = world.party(server, None, 1);
    let plan = Plan::of(&client.loaded.module).unwrap();
    let made = client.prepare(&world.net, &plan, Some(4), 2).unwrap();
    assert_eq!((made.material_bytes, made.products_bytes), (0, 0), "the client keeps its seed");
    let left = |party, name: &str| {
        Stocks::new(&world.folder.path().join(name), party, world.loaded().hash, Maker::Pair).tokens()
    };
    let both = || [left(Party::Client, "client"), left(Party::Server, "server")];
    assert_eq!(both(), [2, 2]);
    let got = generate(&world.client(server, None, 1), &[20, 300, 41], 4).unwrap();
    assert_eq!(got.iter().map(|step| step.0).collect::<Vec<_>>(), expected(&[20, 300, 41], 4));
    assert_eq!(got.iter().map(|step| step.1).collect::<Vec<_>>(), [Some(1), Some(0), Some(0), Some(0)]);
    assert_eq!(both(), [0, 0]);
}

/// A stock that a dealer dealt is none for two who have no dealer: it has another layout, and the dealer knows the masks.
#[test]
fn stocks_of_a_dealer_are_passed_over() {
    let mut world = world();
    let dealer = world.dealer();
    let with_dealer = world.server(dealer, 1);
    let plan = Plan::of(&world.loaded().module).unwrap();
    world.party(with_dealer, dealer, 1).prepare(&world.net, &plan, Some(4), 2).unwrap();
    let server = world.server(None, 1);
    let got = generate(&world.client(server, None, 1), &[20, 300, 41], 2).unwrap();
    assert_eq!(got.iter().map(|step| step.0).collect::<Vec<_>>(), expected(&[20, 300, 41], 2));
    assert!(got.iter().all(|&(_, left, _)| left.is_none()), "made on demand");
}

/// Both parties must mean the same source; and a program that takes a dealer says so.
#[test]
fn sources_must_agree() {
    let mut world = world();
    let (dealer, with_pair) = (world.dealer(), world.server(None, 1));
    let with_dealer = world.server(dealer, 1);
    let plan = Plan::of(&world.loaded().module).unwrap();
    for (server, source) in [(with_pair, Some(dealer)), (with_dealer, None)] {
        let error = world.party(server, source, 1).prepare(&world.net, &plan, Some(4), 1).unwrap_err();
        assert!(error.to_string().contains("material mismatch"), "{error}");
    }
    assert!(Mismatch::Maker { what: "" }.hint().contains("--dealer"));
    assert!(world.loaded().can_be_made().is_ok());
    assert!(matches!(crate::common::loaded().can_be_made(), Err(RunError::Unmade { .. })));
}
