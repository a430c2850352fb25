//! Material that was dealt beforehand.

use std::time::Duration;

use ir::Party;
use ir::pair::Maker;
use processes::{Plan, RunError};
use text::PrivateModel;
use text::{Cancel, GenerateError, Model, Noise};

use crate::common::{World, order, simulated};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Nobody is there.
const NOWHERE: std::net::SocketAddr = std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

/// Tokens, and for how many there is material after each.
fn generate(model: &PrivateModel, prompt: &[u32], count: usize) -> Result<Vec<(u32, Option<u64>)>, GenerateError> {
    let mut session = model.begin(prompt, Noise::greedy(), &Cancel::default())?;
    (0..count).map(|_| session.next(None).map(|step| (step.token, step.material_tokens))).collect()
}

fn expected(prompt: &[u32], count: usize) -> Vec<u32> {
    simulated(prompt, count, &Noise::greedy(), 1).iter().map(|step| step.0).collect()
}

fn left(world: &World) -> [u64; 2] {
    [Party::Client, Party::Server].map(|party| world.stocks(party, Maker::Dealer).tokens())
}

#[test]
fn a_stock_needs_no_dealer_and_is_continued_by_one() {
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer();
    let server = world.server(dealer, 1);
    let client = world.party(server, dealer, 1);
    let plan = Plan::of(&client.loaded.module).unwrap();
    for (size, tokens) in [(4, 6), (8, 3), (4, 2)] {
        let made = client.prepare(&world.net, &plan, order(Some(size), tokens), &mut |_| true).unwrap();
        assert!(made.material_bytes > 30_000 && made.products_bytes > 10_000, "{}", made.material_bytes);
    }
    assert_eq!(left(&world), [11, 11]);
    // The greater of two; without a dealer.
    let got = generate(&world.client(server, NOWHERE, 1), &[20, 300, 41], 6).unwrap();
    let want: Vec<(u32, Option<u64>)> =
        expected(&[20, 300, 41], 6).into_iter().zip((0..6).map(|step| Some(7 - step))).collect();
    assert_eq!(got, want);
    assert_eq!(left(&world), [5, 5]);
    // A longer prompt has one of its own, which ends before the text does; then there is none.
    let model = world.client(server, dealer, 1);
    for material in [Some(0), None] {
        let got = generate(&model, &[9, 8, 7, 6, 5], 9).unwrap();
        assert_eq!(got.iter().map(|step| step.0).collect::<Vec<_>>(), expected(&[9, 8, 7, 6, 5], 9));
        assert_eq!(got.last().unwrap().1, material);
    }
    assert_eq!(left(&world), [2, 2]);
}

#[test]
fn a_stock_without_its_products_is_of_no_use() {
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer();
    let server = world.server(dealer, 1);
    let client = world.party(server, dealer, 1);
    let plan = Plan::of(&client.loaded.module).unwrap();
    let made = client.prepare(&world.net, &plan, order(Some(4), 3), &mut |_| true).unwrap();
    let stocks = std::fs::read_dir(world.folder.path().join("client/stock")).unwrap();
    let products = stocks.map(|stock| stock.unwrap().path().join("products")).next().expect("one was made");
    let file = std::fs::File::options().write(true).open(products).unwrap();
    let length = file.metadata().unwrap().len();
    assert!(length > made.products_bytes, "with tags");
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions()) & 0o777, 0o600);
    // The last step's are cut short.
    file.set_len(length - 1).unwrap();
    let error = generate(&world.client(server, dealer, 1), &[1, 2], 3).unwrap_err().to_string();
    assert!(error.contains("stock"), "{error}");
    assert_eq!(left(&world), [0, 0]);
}

/// What was dealt of a stock is kept, and the dealer deals the rest from the same seeds.
#[test]
fn a_dealing_that_ended_is_gone_on_with() {
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer();
    let server = world.server(dealer, 1);
    let client = world.party(server, dealer, 1);
    let plan = Plan::of(&client.loaded.module).unwrap();
    let whole = client.prepare(&world.net, &plan, order(8, 6), &mut |_| true).unwrap();
    let first = client.prepare(&world.net, &plan, order(4, 6), &mut |there| there < 2).unwrap();
    assert_eq!((first.tokens, left(&world)), (2, [8, 8]));
    let rest = client.prepare(&world.net, &plan, order(4, 6), &mut |_| true).unwrap();
    assert_eq!((rest.tokens, left(&world)), (4, [12, 12]));
    assert!(rest.material_bytes < whole.material_bytes && rest.products_bytes < whole.products_bytes);
    let got = generate(&world.client(server, NOWHERE, 1), &[20, 300, 41], 6).unwrap();
    assert_eq!(got.iter().map(|step| step.0).collect::<Vec<_>>(), expected(&[20, 300, 41], 6));
    assert_eq!(left(&world), [6, 6]);
}

#[test]
fn sizes_without_room_are_refused() {
    let world = World::new(TIMEOUT);
    let client = world.party(NOWHERE, NOWHERE, 1);
    let plan = Plan::of(&client.loaded.module).unwrap();
    let refused = |size, tokens| client.prepare(&world.net, &plan, order(size, tokens), &mut |_| true).unwrap_err();
    assert!(matches!(refused(Some(5), 1), RunError::NoPrefill { size: 5, .. }));
    assert!(matches!(refused(None, 70), RunError::NoRoom { tokens: 70, prefill: 4, most: 69 }));
}
