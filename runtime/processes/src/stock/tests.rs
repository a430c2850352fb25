//! Stocks that are made, taken, damaged, copied and crashed.

use super::*;
use crate::RunError;
use crate::growth::{Begun, Growth};
use crate::handshake::hex;
use crate::ledger::StateId;
use kernels::prg::Seed;

const PEER: Peer = Peer { key: [8; 32], state: StateId([9; 16]) };

fn id(n: u8) -> Session {
    Session([n; 16])
}

/// What the other party holds back.
fn witness() -> Witness {
    Witness::new([6; 32])
}

fn state(directory: &Path) -> State {
    state_on(directory, Disk::default())
}

fn state_on(directory: &Path, disk: Disk) -> State {
    State::on(directory, StorageKey::new([5; 32]), disk).unwrap()
}

fn stocks(directory: &Path, maker: Maker) -> Stocks {
    state(directory).stocks(Party::Client, [1; 32], maker)
}

fn begin(stocks: &Stocks, n: u8, wanted: u32) -> Growth {
    let bond = Bond::new(PEER, stocks.state.days).unwrap();
    let seeds = Seeds::one(Seed::new([n; 32]));
    let mut growth = Growth::begin(stocks.clone(), id(n), seeds, bond, &witness());
    growth.want(wanted);
    growth
}

/// One of n steps, each with two bytes of material and one of products.
fn make(stocks: &Stocks, n: u8) -> Result<(), RunError> {
    let mut growth = begin(stocks, n, n.into());
    for entry in (0..u32::from(n)).map(|i| 3 + i) {
        growth.material(&[n, entry as u8])?;
        growth.made()?;
        growth.products(&[entry as u8])?;
        growth.whole(&[entry])?;
    }
    growth.settle()?;
    Ok(growth.end()?)
}

fn take(stocks: &Stocks, n: u8) -> Option<Stock> {
    let reserved = stocks.reserve(id(n), &PEER).unwrap()?;
    stocks.state.ledger.burn(Party::Client, &id(n), &PEER).unwrap();
    Some(reserved.take(&witness()).unwrap())
}

fn offered(stocks: &Stocks, entry: u32) -> (Option<(Session, u32)>, u64) {
    let (reserved, left) = stocks.offer(&PEER, entry);
    (reserved.map(|reserved| (reserved.named().session, reserved.named().steps)), left)
}

/// Names of what lies in the stocks' directory.
fn there(stocks: &Stocks) -> Vec<String> {
    let files = std::fs::read_dir(&stocks.directory).into_iter().flatten();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_stock_is_taken_once_and_by_its_program_and_party() {
    let folder = tempfile::tempdir().unwrap();
    let stocks = stocks(folder.path(), Maker::Dealer);
    assert_eq!((offered(&stocks, 3), stocks.tokens()), ((None, 0), 0));
    [2, 1, 3].into_iter().for_each(|n| make(&stocks, n).unwrap());
    let mut broken = begin(&stocks, 4, 1);
    broken.material(&[1]).unwrap();
    assert_eq!(there(&stocks).len(), 4);
    drop(broken);
    assert_eq!((offered(&stocks, 3), stocks.tokens()), ((Some((id(3), 3)), 3), 6));
    assert_eq!(offered(&stocks, 4), (None, 0));
    for (party, program, maker) in
        [(Party::Server, 1, Maker::Dealer), (Party::Client, 2, Maker::Dealer), (Party::Client, 1, Maker::Pair)]
    {
        let other = stocks.state.stocks(party, [program; 32], maker);
        assert_eq!((offered(&other, 3), other.tokens()), ((None, 0), 0));
    }
    for other in [Peer { key: [7; 32], ..PEER }, Peer { state: StateId([8; 16]), ..PEER }] {
        assert!(stocks.offer(&other, 3).0.is_none() && stocks.reserve(id(3), &other).unwrap().is_none());
    }
    // Who has named it keeps others off, in this process and in others.
    let again = self::stocks(folder.path(), Maker::Dealer);
    let held = stocks.reserve(id(3), &PEER).unwrap().expect("nobody else has it");
    assert!(stocks.reserve(id(3), &PEER).unwrap().is_none() && again.reserve(id(3), &PEER).unwrap().is_none());
    assert_eq!(offered(&again, 3), (Some((id(2), 2)), 4));
    assert!(stocks.state.kept().iter().find(|stock| stock.session == id(3)).unwrap().remove().is_err());
    drop(held);
    let mut stock = take(&stocks, 3).expect("it is there");
    assert!(take(&stocks, 3).is_none(), "it was taken");
    assert_eq!((stock.entries.clone(), stock.seeds.of(2).expose()), (vec![3, 4, 5], &[3; 32]));
    for entry in [3, 4, 5] {
        assert_eq!(stock.material.read(2).unwrap()[..], [3, entry]);
        assert_eq!(stock.products.read(1).unwrap()[..], [entry]);
    }
    assert!(stock.material.read(1).is_err() && stock.products.read(1).is_err(), "they have an end");
    assert_eq!((stocks.tokens(), there(&stocks).len()), (3, 2));
    // Of another release.
    std::fs::write(stocks.place(id(2)).join(MANIFEST), "{\"version\":7}\n").unwrap();
    assert_eq!((offered(&stocks, 3), stocks.tokens()), ((Some((id(1), 1)), 0), 1));
    let older = stocks.state.kept().into_iter().find(|stock| stock.session == id(2)).unwrap();
    assert_eq!(older.unusable, Some(Unusable::Version));
    older.remove().unwrap();
    assert_eq!(there(&stocks), [format!("client-{}", id(1))]);
}

#[test]
fn a_flipped_bit_is_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let stocks = stocks(folder.path(), Maker::Dealer);
    make(&stocks, 3).unwrap();
    let place = stocks.place(id(3));
    // Under another session's name it is nobody's.
    let other = stocks.place(id(2));
    std::fs::rename(&place, &other).unwrap();
    assert_eq!(stocks.tokens(), 0);
    std::fs::rename(&other, &place).unwrap();
    assert_eq!(stocks.tokens(), 3);
    let kept = || stocks.state.kept().into_iter().next().unwrap();
    kept().check().unwrap();
    let reserved = stocks.reserve(id(3), &PEER).unwrap().unwrap();
    let key = stocks.state.key.with(&witness());
    let (lengths, session) = ([(OF_MATERIAL, 2), (OF_PRODUCTS, 1)], id(3).0);
    let mut flipped = 0;
    for (part, length) in lengths {
        let path = place.join(PARTS[part]);
        let whole = std::fs::read(&path).unwrap();
        let step_length = whole.len() / 3;
        for bit in 0..8 * whole.len() {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, changed).unwrap();
            let sealed = Sealed { file: File::open(&path).unwrap(), key: key.clone(), session, part };
            let mut read = Part::new(sealed, path.clone(), reserved.manifest().marks[part].clone());
            let step = bit / 8 / step_length;
            (0..step).for_each(|_| drop(read.read(length).unwrap()));
            let error = read.read(length).unwrap_err();
            assert_eq!((&error.path, error.source.to_string()), (&path, format!("step {step} changed on disk")));
            let error = kept().check().unwrap_err();
            assert_eq!((&error.path, error.source.to_string()), (&path, format!("step {step} changed on disk")));
            flipped += 1;
        }
        assert!(!whole.windows(2).any(|bytes| bytes == [3, 4]), "nothing is in the clear");
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(kept().check().is_err());
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(flipped, 8 * 3 * (18 + 17));
    drop(reserved);
    let manifest = std::fs::read(place.join(MANIFEST)).unwrap();
    for bit in (0..8 * manifest.len()).step_by(7) {
        let mut changed = manifest.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(place.join(MANIFEST), changed).unwrap();
        assert!(stocks.reserve(id(3), &PEER).is_err() && stocks.tokens() == 0, "bit {bit}");
    }
    std::fs::write(place.join(MANIFEST), manifest).unwrap();
    // Without the other party's witness nothing is read.
    let reserved = stocks.reserve(id(3), &PEER).unwrap().unwrap();
    assert!(reserved.take(&Witness::new([7; 32])).is_err());
    // Nor under another storage key.
    make(&stocks, 3).unwrap();
    let other = State::open(folder.path(), StorageKey::new([4; 32])).unwrap();
    assert_eq!(other.stocks(Party::Client, [1; 32], Maker::Dealer).tokens(), 0);
    assert_eq!(other.kept()[0].unusable, Some(Unusable::Changed));
}

#[test]
fn a_stock_that_grows_is_taken_as_it_is_and_its_maker_ends() {
    let folder = tempfile::tempdir().unwrap();
    let stocks = stocks(folder.path(), Maker::Pair);
    let grow = |n: u8, steps: u32| {
        let mut growth = begin(&stocks, n, 5);
        for step in 0..steps {
            growth.made().unwrap();
            growth.whole(&[7 + step]).unwrap();
        }
        growth.settle().unwrap();
        growth
    };
    let (mut first, second) = (grow(1, 3), grow(2, 2));
    assert_eq!(stocks.begun(None, 7), None, "both are being made");
    let found = |n: u8| Begun::find(stocks.reserve(id(n), &PEER).unwrap().unwrap(), &stocks);
    assert!(matches!(found(1), Err(RunError::Growing)));
    drop(second);
    // One that nobody makes, though it is shorter.
    assert_eq!(offered(&stocks, 7).0.map(|named| named.1), Some(2));
    assert_eq!(stocks.begun(Some(&PEER), 7), Some((Named { session: id(2), steps: 2 }, 5)));
    let again = found(2).unwrap().expect("it is there");
    assert!(stocks.reserve(id(2), &PEER).unwrap().is_none(), "it is reserved until it is cut");
    // What follows has a seed of its own.
    let (mut again, _) = again.rewind(&witness(), &[], 0, Some(Seed::new([7; 32]))).unwrap();
    assert!(again.steps() == 0 && again.seeds().of(4).expose() == &[7; 32]);
    drop(stocks.reserve(id(2), &PEER).unwrap().expect("from then on it may be taken"));
    for entry in 7..10 {
        again.made().unwrap();
        again.whole(&[entry]).unwrap();
    }
    again.settle().unwrap();
    assert_eq!(take(&stocks, 1).expect("it is there").entries, [7, 8, 9]);
    first.made().unwrap();
    first.whole(&[10]).unwrap();
    assert!(matches!(first.settle(), Err(RunError::Taken)));
    first.end().unwrap();
    assert_eq!(stocks.tokens(), 3);
    for entry in [10, 11] {
        again.made().unwrap();
        again.whole(&[entry]).unwrap();
    }
    again.settle().unwrap();
    again.end().unwrap();
    assert!(found(2).unwrap().is_none(), "it has all that it was to have");
    assert_eq!((stocks.begun(None, 7), stocks.tokens()), (None, 5));
    assert_eq!(there(&stocks).len(), 1);
}

/// A copy, whatever name it has and wherever it lies.
#[test]
fn what_was_made_elsewhere_or_long_ago_is_of_no_use() {
    let folder = tempfile::tempdir().unwrap();
    let [first, backup, other] = ["first", "backup", "other"].map(|name| folder.path().join(name));
    let kept = stocks(&first, Maker::Dealer);
    make(&kept, 2).unwrap();
    let copy = |from: &Path, to: &Path| {
        let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    };
    copy(&first, &backup);
    copy(&first, &other);
    // As a whole, and the stock alone, over what was used.
    let why = |stocks: &Stocks| stocks.state.kept()[0].unusable;
    assert_eq!(why(&stocks(&backup, Maker::Dealer)), Some(Unusable::Moved));
    drop(take(&kept, 2).unwrap());
    copy(&other.join("stock").join(format!("client-{}", id(2))), &first.join("stock"));
    assert_eq!(why(&kept), Some(Unusable::Used));
    std::fs::remove_dir_all(&first).unwrap();
    std::fs::rename(&backup, &first).unwrap();
    let kept = stocks(&first, Maker::Dealer);
    assert_eq!((why(&kept), kept.tokens()), (Some(Unusable::Moved), 0));
    assert!(kept.offer(&PEER, 3).0.is_none() && kept.reserve(id(2), &PEER).is_err());
    // In another state directory, with its place.
    let (a, b) = (stocks(&folder.path().join("a"), Maker::Dealer), stocks(&folder.path().join("b"), Maker::Dealer));
    make(&a, 1).unwrap();
    std::fs::create_dir_all(&b.directory).unwrap();
    std::fs::rename(a.place(id(1)), b.place(id(1))).unwrap();
    assert_eq!(why(&b), Some(Unusable::Moved));
    std::fs::rename(b.place(id(1)), a.place(id(1))).unwrap();
    assert_eq!(why(&a), None);
    // What has expired goes at the next start.
    let old = a.state.clone().keeping(0).stocks(Party::Client, [1; 32], Maker::Dealer);
    make(&old, 2).unwrap();
    assert_eq!((old.tokens(), there(&old).len()), (1, 2));
    assert_eq!(there(&stocks(a.state.directory(), Maker::Dealer)), [format!("client-{}", id(1))]);
    assert_eq!(hex(&id(1).0), id(1).to_string());
}

/// The process ends after each step of making and taking stocks: the next start finds each whole, or nothing of it, and none that was used.
#[test]
fn no_crash_leaves_a_part_or_what_was_used() {
    let mut points = 0;
    for steps in 0.. {
        let folder = tempfile::tempdir().unwrap();
        make(&stocks(folder.path(), Maker::Dealer), 1).unwrap();
        let disk = Disk::ending_after(steps);
        let used = std::cell::Cell::new(false);
        let run = || -> Result<(), RunError> {
            let stocks = state_on(folder.path(), disk.clone()).stocks(Party::Client, [1; 32], Maker::Dealer);
            make(&stocks, 2)?;
            let reserved = stocks.reserve(id(1), &PEER)?.expect("made before");
            stocks.state.ledger.burn(Party::Client, &id(1), &PEER)?;
            used.set(true);
            let mut stock = reserved.take(&witness())?;
            assert_eq!(stock.material.read(2)?[..], [1, 3]);
            Ok(())
        };
        let done = run();
        // What a process leaves that ends is what its temporary directories would remove.
        let again = stocks(folder.path(), Maker::Dealer);
        let names = there(&again);
        assert!(names.iter().all(|name| name.starts_with("client-")), "after {steps} steps: {names:?}");
        for stock in again.state.kept() {
            assert!(stock.unusable.is_none() && stock.check().is_ok(), "after {steps} steps");
            assert!(!used.get() || stock.session != id(1), "used, after {steps} steps");
        }
        // The stock that was being made is the only one that may be lost besides.
        let burnt = again.state.ledger.is_burnt(Party::Client, &id(1)).unwrap();
        assert!(burnt || again.tokens() >= 1);
        if take(&again, 2).is_none() {
            make(&again, 2).unwrap();
        }
        points += 1;
        if done.is_ok() {
            assert!(points > 30, "{points} points");
            return;
        }
    }
}
