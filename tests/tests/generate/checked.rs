//! What was checked is what is used: files that change, are swapped or lose a bit are refused, or change no text.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ir::pair::Maker;
use processes::client::Client;
use processes::keys::MasterKey;
use processes::setup::Cache;
use processes::weights_file::{WeightsFile, WeightsFileError};
use processes::{Loaded, Plan, RunError};
use tempfile::TempDir;
use text::{Cancel, GenerateError, Model, Noise, PrivateModel};

use crate::common::{CLIENT, MODEL, PAIR, World, copy, order, simulated, storage};

const TIMEOUT: Duration = Duration::from_secs(30);

const PROMPT: [u32; 3] = [20, 300, 41];

/// Tokens of a text.
const TOKENS: usize = 4;

/// Bits that are flipped in each file.
const ROUNDS: usize = 2;

fn generate(world: &World, client: Client) -> Result<Vec<u32>, GenerateError> {
    tokens(&PrivateModel::new(client, &world.net)?)
}

fn tokens(model: &PrivateModel) -> Result<Vec<u32>, GenerateError> {
    let mut session = model.begin(&PROMPT, Noise::greedy(), &Cancel::default())?;
    (0..TOKENS).map(|_| session.next(None).map(|step| step.token)).collect()
}

fn expected() -> Vec<u32> {
    simulated(&PROMPT, TOKENS, &Noise::greedy(), 1).iter().map(|step| step.0).collect()
}

/// A copy of a compiled model with a key, to be spoilt.
fn model(maker: Maker) -> TempDir {
    let from = match maker {
        Maker::Dealer => &MODEL,
        Maker::Pair => &PAIR,
    };
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.ssb", "model.ssw"] {
        std::fs::copy(from.path().join(name), folder.path().join(name)).unwrap();
    }
    MasterKey::beside(&folder.path().join("model.ssw")).unwrap();
    folder
}

/// The masked weights in a cache.
fn setup(cache: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(cache).unwrap().map(|file| file.unwrap().path());
    let first = files.next().expect("a setup was kept");
    assert!(files.next().is_none());
    first
}

/// What tells masked weights from others, in the head of their file; what follows is sealed anew each time.
fn digest(setup: &Path) -> [u8; 32] {
    std::fs::read(setup).unwrap()[8..40].try_into().unwrap()
}

/// A party with a cache of its own.
fn party(world: &World, server: SocketAddr, dealer: Option<SocketAddr>, cache: &str) -> Client {
    Client {
        cache: Cache::open(&world.folder.path().join(cache), storage(CLIENT)).unwrap(),
        ..world.party(server, dealer, 1)
    }
}

#[test]
fn weights_that_change_under_a_server_are_not_used() {
    for maker in [Maker::Dealer, Maker::Pair] {
        let folder = model(maker);
        let weights = folder.path().join("model.ssw");
        let mut world = World::of(folder.path(), TIMEOUT);
        let dealer = (maker == Maker::Dealer).then(|| world.dealer());
        let server = world.server(dealer, 1);
        let mut cache = 0;
        let mut text = || {
            cache += 1;
            generate(&world, party(&world, server, dealer, &format!("cache{cache}"))).unwrap()
        };
        assert_eq!(text(), expected());
        // In place, as `cp` writes: the file that the server has opened is the one that changes.
        let mut other = std::fs::read(&weights).unwrap();
        let half = other.len() / 2;
        other[half..].iter_mut().for_each(|byte| *byte ^= 1);
        std::fs::write(&weights, &other).unwrap();
        assert_eq!(text(), expected());
        std::fs::File::options().write(true).open(&weights).unwrap().set_len(100).unwrap();
        assert_eq!(text(), expected());
        std::fs::write(&weights, &other).unwrap();
        assert_eq!(text(), expected());
        if maker == Maker::Dealer {
            let setups = [1, 2, 3, 4].map(|n| digest(&setup(&world.folder.path().join(format!("cache{n}")))));
            let [first, rest @ ..] = setups;
            assert!(rest.iter().all(|setup| *setup == first), "one mask, one version");
        }
        // A server that starts now does not serve them.
        let loaded = world.loaded();
        let refused = WeightsFile::open(&weights, &loaded.module, loaded.hash).err().unwrap();
        assert!(matches!(&refused, WeightsFileError::Content { path, .. } if *path == weights));
    }
}

/// Another key masks anew.
#[test]
fn masked_weights_are_the_servers_or_are_fetched_anew() {
    let folder = model(Maker::Dealer);
    let mut world = World::of(folder.path(), TIMEOUT);
    let dealer = world.dealer();
    let cache = Cache::open(&world.folder.path().join("cache"), storage(CLIENT)).unwrap();
    let model = |world: &World, server| {
        let client = Client { cache: cache.clone(), ..world.party(server, dealer, 1) };
        PrivateModel::new(client, &world.net).unwrap()
    };
    let server = world.server(dealer, 1);
    let first = model(&world, server);
    assert_eq!(tokens(&first).unwrap(), expected());
    let kept = setup(&world.folder.path().join("cache"));
    let (content, old) = (|| digest(&kept), std::fs::read(&kept).unwrap());
    let (first_digest, written) = (content(), || std::fs::metadata(&kept).unwrap().modified().unwrap());
    let at = written();
    assert_eq!(tokens(&first).unwrap(), expected());
    assert_eq!(tokens(&model(&world, server)).unwrap(), expected());
    assert_eq!(written(), at, "it is there");
    // A replica with a key of its own, while the first's are in memory, too.
    std::fs::remove_file(folder.path().join("model.ssw.key")).unwrap();
    let replica = world.server(dealer, 1);
    assert_eq!(tokens(&model(&world, replica)).unwrap(), expected());
    assert_ne!(content(), first_digest, "masks of another key are others");
    assert_eq!(tokens(&first).unwrap(), expected());
    assert_eq!(content(), first_digest);
    // Damage of any kind is noticed by whoever reads the file, and mended.
    drop(first);
    let mut damaged = vec![old[..old.len() - 1].to_vec(), Vec::new()];
    for bit in [3, 70, 8 * 40, 8 * old.len() / 2, 8 * old.len() - 1] {
        damaged.push(old.clone());
        damaged.last_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
    }
    for bad in damaged {
        std::fs::write(&kept, &bad).unwrap();
        assert_eq!(tokens(&model(&world, server)).unwrap(), expected());
        let mended = std::fs::read(&kept).unwrap();
        assert!(mended != bad && mended.len() == old.len());
        assert_eq!(content(), first_digest);
    }
}

/// A generator that tells places, the same every time.
struct Places(u64);

impl Places {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}

/// All files below a folder, by their path in it.
fn files(folder: &Path, prefix: &Path, found: &mut Vec<PathBuf>) {
    for file in std::fs::read_dir(folder.join(prefix)).unwrap().map(Result::unwrap) {
        let path = prefix.join(file.file_name());
        match file.file_type().unwrap().is_dir() {
            true => files(folder, &path, found),
            false => found.push(path),
        }
    }
    found.sort();
}

/// A text of parties whose files lie in a folder: what both keep, and their models. A pair makes the rest of a stock before. Stocks are of no use
/// in a copy: the parties make new ones, or none.
fn attempt(folder: &Path, maker: Maker) -> Result<Vec<u32>, String> {
    let world = World::of(&folder.join("server-model"), TIMEOUT);
    for name in ["client", "server", "cache"] {
        copy(&folder.join(name), &world.folder.path().join(name));
    }
    attempt_in(world, &folder.join("client-model/model.ssb"), maker)
}

/// The same of parties in a world.
fn attempt_in(mut world: World, program: &Path, maker: Maker) -> Result<Vec<u32>, String> {
    let told = |error: RunError| processes::chain(&error);
    let program = || Loaded::open(program).map_err(told);
    let dealer = match maker {
        Maker::Dealer => Some(world.dealer_of(program()?)),
        Maker::Pair => None,
    };
    let server = world.try_server(dealer, 1).map_err(told)?;
    let client = || {
        let client = world.try_party(server, dealer, 1).map_err(told)?;
        Ok::<_, String>(Client { loaded: program()?, ..client })
    };
    let maker_of_rest = client()?;
    if maker == Maker::Pair && maker_of_rest.stocks().tokens() > 0 {
        let client = maker_of_rest;
        let plan = Plan::of(&client.loaded.module)?;
        client.prepare(&world.net, &plan, order(4, 2), &mut |_| true).map_err(told)?;
    }
    generate(&world, client()?).map_err(|error| processes::chain(&error))
}

/// A text, and then a stock; a pair's has a step to come, and so masks of what it keeps.
fn kept(model: &Path, maker: Maker) -> World {
    let mut world = World::of(model, TIMEOUT);
    let dealer = (maker == Maker::Dealer).then(|| world.dealer());
    let server = world.server(dealer, 1);
    generate(&world, party(&world, server, dealer, "cache")).unwrap();
    stock(&world, server, dealer, maker);
    world
}

fn stock(world: &World, server: SocketAddr, dealer: Option<SocketAddr>, maker: Maker) {
    let client = party(world, server, dealer, "cache");
    let plan = Plan::of(&client.loaded.module).unwrap();
    let goes_on = |there| maker == Maker::Dealer || there < 1;
    client.prepare(&world.net, &plan, order(4, 2), &mut { goes_on }).unwrap();
}

/// One bit of any file of a stock, in its place: the text is the same, or there is none.
#[test]
fn a_flipped_bit_in_a_stock_is_refused_or_changes_nothing() {
    let (want, mut refused) = (expected(), 0);
    // A dealer's have products, and a pair's masks, and material at the server alone.
    let files = [
        (Maker::Dealer, "client", "manifest"),
        (Maker::Dealer, "server", "manifest"),
        (Maker::Dealer, "client", "material"),
        (Maker::Dealer, "server", "material"),
        (Maker::Dealer, "client", "products"),
        (Maker::Pair, "server", "material"),
        (Maker::Pair, "client", "masks"),
        (Maker::Pair, "server", "masks"),
    ];
    for (number, (maker, side, name)) in files.into_iter().enumerate() {
        let model = model(maker);
        let folder = kept(model.path(), maker).end();
        let stock = std::fs::read_dir(folder.path().join(side).join("stock")).unwrap().next().unwrap().unwrap();
        let path = stock.path().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        let bit = Places(number as u64).below(8 * bytes.len() as u64) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, bytes).unwrap();
        let world = World::over(model.path(), TIMEOUT, folder);
        match attempt_in(world, &model.path().join("model.ssb"), maker) {
            Ok(text) => assert_eq!(text, want, "bit {bit} of {side}'s {name} changed the text"),
            Err(error) => {
                assert!(error.contains("stock") || error.contains("files"), "{side}'s {name}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused >= 3, "{refused}");
}

/// One bit of any file that a party keeps or was given: the text is the same, or there is none.
#[test]
fn a_flipped_bit_in_any_file_is_refused_or_changes_nothing() {
    for maker in [Maker::Dealer, Maker::Pair] {
        let (model, folder) = (model(maker), tempfile::tempdir().unwrap());
        let world = kept(model.path(), maker).end();
        for name in ["client", "server", "cache"] {
            copy(&world.path().join(name), &folder.path().join(name));
        }
        for name in ["client-model", "server-model"] {
            copy(model.path(), &folder.path().join(name));
        }
        for name in ["model.ssw", "model.ssw.key"] {
            std::fs::remove_file(folder.path().join("client-model").join(name)).unwrap();
        }
        let want = expected();
        assert_eq!(attempt(folder.path(), maker).unwrap(), want);
        let mut all = Vec::new();
        files(folder.path(), Path::new(""), &mut all);
        let (mut places, mut refused) = (Places(1), 0);
        for round in 0..ROUNDS {
            for name in &all {
                let path = folder.path().join(name);
                let whole = std::fs::read(&path).unwrap();
                // Those of stocks are of no use in a copy, and have a test of their own.
                if whole.is_empty() || name.components().any(|part| part.as_os_str() == "stock") {
                    continue;
                }
                let bit = places.below(8 * whole.len() as u64) as usize;
                let mut changed = whole.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&path, changed).unwrap();
                match attempt(folder.path(), maker) {
                    Ok(text) => {
                        assert_eq!(text, want, "round {round}: bit {bit} of {} changed the text", name.display())
                    }
                    Err(_) => refused += 1,
                }
                std::fs::write(&path, whole).unwrap();
            }
        }
        assert!(refused > ROUNDS, "{refused} of {} attempts were refused", ROUNDS * all.len());
    }
}
