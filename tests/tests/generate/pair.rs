//! Generation without a dealer: the two parties make what they consume, as they go or beforehand.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use ir::Party;
use ir::pair::Maker;
use processes::client::Client;
use processes::handshake::Mismatch;
use processes::net::NetError;
use processes::{Os, Plan, RunError};
use text::PrivateModel;
use text::{Cancel, GenerateError, Model, Noise};
use tokio::sync::watch;

use crate::common::{PAIR, World, order, simulated};

const TIMEOUT: Duration = Duration::from_secs(60);

fn world() -> World {
    World::of(PAIR.path(), TIMEOUT)
}

/// Tokens, for how many there is material after each, and how many elements left their tables.
fn generate(model: &PrivateModel, prompt: &[u32], count: usize) -> Result<Vec<(u32, Option<u64>, u64)>, GenerateError> {
    let mut session = model.begin(prompt, Noise::greedy(), &Cancel::default())?;
    (0..count).map(|_| session.next(None).map(|step| (step.token, step.material_tokens, step.outside))).collect()
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
    let made = client.prepare(&world.net, &plan, order(Some(4), 2), &mut |_| true).unwrap();
    assert_eq!((made.material_bytes, made.products_bytes), (0, 0), "the client keeps its seed");
    let both = || [Party::Client, Party::Server].map(|party| world.stocks(party, Maker::Pair).tokens());
    assert_eq!(both(), [2, 2]);
    let got = generate(&world.client(server, None, 1), &[20, 300, 41], 4).unwrap();
    assert_eq!(got.iter().map(|step| step.0).collect::<Vec<_>>(), expected(&[20, 300, 41], 4));
    assert_eq!(got.iter().map(|step| step.1).collect::<Vec<_>>(), [Some(1), Some(0), Some(0), Some(0)]);
    assert_eq!(both(), [0, 0]);
}

/// A making that ends early leaves what is whole of its stock, and the next one makes the rest of it, from new seeds.
#[test]
fn a_making_that_ended_is_gone_on_with() {
    let mut world = world();
    let server = world.server(None, 1);
    let client = Client { entropy: Box::new(Os), ..world.party(server, None, 1) };
    let plan = Plan::of(&client.loaded.module).unwrap();
    let both = || [Party::Client, Party::Server].map(|party| world.stocks(party, Maker::Pair).tokens());
    let files = |name: &str| {
        let stocks = std::fs::read_dir(world.folder.path().join(name).join("stock")).unwrap();
        let mut files: Vec<String> = stocks
            .flat_map(|stock| std::fs::read_dir(stock.unwrap().path()).unwrap())
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        files
    };
    // By its owner's wish, between two steps.
    let made = client.prepare(&world.net, &plan, order(4, 9), &mut |there| there < 2).unwrap();
    assert_eq!((made.tokens, both()), (2, [2, 2]));
    // By a signal, in the middle of a step.
    let (stop, stopped) = watch::channel(false);
    let net = world.net.stopped_by(stopped);
    let mut asked = Vec::new();
    let error = client.prepare(&net, &plan, order(4, 9), &mut |there| {
        asked.push(there);
        if there == 4 {
            let stop = stop.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                stop.send_replace(true);
            });
        }
        true
    });
    assert!(matches!(error, Err(RunError::Net(NetError::Interrupted))));
    assert_eq!(asked[..3], [2, 3, 4]);
    let there = *asked.last().unwrap();
    assert!((4..9).contains(&there));
    // The server may have been done with the step; it may have to notice yet that the client is gone.
    assert_eq!(both()[0], there as u64);
    assert_eq!(files("client"), ["manifest", "masks", "material", "products", "reserved"]);
    let made = client.prepare(&world.net, &plan, order(4, 9), &mut |_| true).unwrap();
    assert!(made.tokens == 9 - there || made.tokens == 9 - there + 1, "{} of {there}", made.tokens);
    assert_eq!(both(), [9, 9]);
    for name in ["client", "server"] {
        assert_eq!(files(name), ["manifest", "material", "products", "reserved"]);
    }
    let model = PrivateModel::new(client, &world.net).unwrap();
    let got = generate(&model, &[20, 300, 41], 11).unwrap();
    assert_eq!(got.iter().map(|step| step.0).collect::<Vec<_>>(), expected(&[20, 300, 41], 11));
    assert_eq!(got.iter().map(|step| step.1).collect::<Vec<_>>()[7..], [Some(1), Some(0), Some(0), Some(0)]);
    assert_eq!(both(), [0, 0]);
}

/// Stocks are made while no text runs, and a text waits for none.
#[test]
fn stocks_are_made_between_texts() {
    let mut world = world();
    let server = world.server(None, 1);
    let model = world.client(server, None, 1);
    let size = |n| NonZeroUsize::new(n).unwrap();
    let _refill = model.refill(&world.net, size(8), size(5));
    let eventually = |what: &str, holds: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < TIMEOUT, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    eventually("some of a stock is made", &|| model.stock_tokens() >= 3);
    // The server has one place for texts, and the making another.
    let mut session = model.begin(&[20, 300, 41], Noise::greedy(), &Cancel::default()).unwrap();
    let first = session.next(None).unwrap();
    assert!(first.material_tokens.is_some_and(|left| left >= 1), "it takes what there is of the stock");
    let there = model.stock_tokens();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(model.stock_tokens(), there, "the making is held up");
    assert_eq!([first.token, session.next(None).unwrap().token], expected(&[20, 300, 41], 2)[..]);
    drop(session);
    // A stock of 5 tokens, as a text has at most, and one of the rest.
    eventually("both are made", &|| model.stock_tokens() == 8);
    let got = generate(&model, &[20, 300, 41], 5).unwrap();
    assert_eq!(got.iter().map(|step| step.1).collect::<Vec<_>>(), [7, 6, 5, 4, 3].map(Some));
    // A longer prompt has none, and the next one of its size has.
    generate(&model, &[9, 8, 7, 6, 5], 1).unwrap();
    eventually("there are some for longer prompts", &|| model.stock_tokens() >= 8 + 3);
    let got = generate(&model, &[9, 8, 7, 6, 5], 2).unwrap();
    assert_eq!(got.iter().map(|step| step.0).collect::<Vec<_>>(), expected(&[9, 8, 7, 6, 5], 2));
    assert!(got[1].1.is_some());
}

/// A party may have a step more than the other: a session uses those that both have, and makes the rest.
#[test]
fn parties_use_the_steps_that_both_have() {
    let mut world = world();
    let server = world.server(None, 1);
    let client = Client { entropy: Box::new(Os), ..world.party(server, None, 1) };
    let plan = Plan::of(&client.loaded.module).unwrap();
    let place = |name: &str| world.folder.path().join(name).join("stock");
    for (name, longer) in [("client", "server"), ("server", "client")] {
        // As if `name` had been cut off before it had the third token on disk.
        client.prepare(&world.net, &plan, order(4, 5), &mut |there| there < 2).unwrap();
        let stock = std::fs::read_dir(place(name)).unwrap().next().unwrap().unwrap().path();
        let before = std::fs::read(stock.join("manifest")).unwrap();
        client.prepare(&world.net, &plan, order(4, 5), &mut |there| there < 3).unwrap();
        std::fs::write(stock.join("manifest"), before).unwrap();
        let model = |client: Client| PrivateModel::new(client, &world.net).unwrap();
        let again = || Client { entropy: Box::new(Os), ..world.party(server, None, 1) };
        if longer == "server" {
            let made = client.prepare(&world.net, &plan, order(4, 5), &mut |_| true).unwrap();
            assert_eq!(made.tokens, 3, "the {longer}'s third token is made anew");
        }
        let got = generate(&model(again()), &[20, 300, 41], 5).unwrap();
        assert_eq!(got.iter().map(|step| step.0).collect::<Vec<_>>(), expected(&[20, 300, 41], 5));
        let left = if longer == "server" { [4, 3, 2, 1, 0] } else { [1, 0, 0, 0, 0] };
        assert_eq!(got.iter().map(|step| step.1).collect::<Vec<_>>(), left.map(Some), "{longer}");
    }
}

/// A stock that a dealer dealt is none for two who have no dealer: it has another layout, and the dealer knows the masks.
#[test]
fn stocks_of_a_dealer_are_passed_over() {
    let mut world = world();
    let dealer = world.dealer();
    let with_dealer = world.server(dealer, 1);
    let plan = Plan::of(&world.loaded().module).unwrap();
    world.party(with_dealer, dealer, 1).prepare(&world.net, &plan, order(Some(4), 2), &mut |_| true).unwrap();
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
        let error =
            world.party(server, source, 1).prepare(&world.net, &plan, order(Some(4), 1), &mut |_| true).unwrap_err();
        assert!(error.to_string().contains("material mismatch"), "{error}");
    }
    assert!(Mismatch::Maker { what: "" }.hint().contains("--dealer"));
    assert!(world.loaded().can_be_made().is_ok());
    assert!(matches!(crate::common::loaded().can_be_made(), Err(RunError::Unmade { .. })));
}
