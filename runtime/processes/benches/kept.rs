//! What keeping costs: `cargo bench -p processes`, or one group, `-- ledger` or `-- steps`. Times on the clock; those of the ledger are of the disk
//! of the system's temporary directory (`TMPDIR`).

use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::time::Instant;

use ir::Party;
use processes::disk::Disk;
use processes::handshake::Session;
use processes::ledger::{Ledger, Peer, StateId};
use processes::vault::{CHUNK, StorageKey};

/// Sessions in the ledger, in lines of an earlier release, which it takes over.
const SESSIONS: [u64; 3] = [1_000, 100_000, 10_000_000];

/// Bytes of a token's step for a model of GPT-2 small's shape, by both parties.
const STEP: usize = 14 << 20;

const RUNS: usize = 51;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|group| group == name);
    if wanted("ledger") {
        SESSIONS.into_iter().for_each(ledger);
    }
    if wanted("steps") {
        steps();
    }
}

/// Milliseconds of a call, the median and the greatest of some.
fn milliseconds(mut call: impl FnMut(usize)) -> (f64, f64) {
    let mut all: Vec<f64> = (0..RUNS)
        .map(|run| {
            let begin = Instant::now();
            call(run);
            begin.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    (all[RUNS / 2], all[RUNS - 1])
}

fn session(number: u64) -> Session {
    Session(blake3::hash(&number.to_le_bytes()).as_bytes()[..16].try_into().expect("16 bytes"))
}

fn ledger(sessions: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let lines = std::fs::File::create(folder.path().join("ledger")).expect("a file");
    let mut lines = BufWriter::new(lines);
    (0..sessions).for_each(|number| writeln!(lines, "client {}", session(number)).expect("room on the disk"));
    drop(lines.into_inner().expect("room on the disk"));
    let open = || Ledger::open(folder.path(), Disk::default()).expect("a ledger");
    let begin = Instant::now();
    open();
    println!("{sessions} sessions: taken over in {:.2} s", begin.elapsed().as_secs_f64());
    let (median, most) = milliseconds(|_| drop(black_box(open())));
    println!("  opened in {median:.3} ms, at most {most:.3}");
    let (ledger, peer) = (open(), Peer { key: [1; 32], state: StateId([2; 16]) });
    let (median, most) = milliseconds(|run| {
        ledger.burn(Party::Client, &session(sessions + run as u64), &peer).expect("a new session");
    });
    println!("  a session burnt in {median:.3} ms, at most {most:.3}");
    let (median, most) = milliseconds(|run| {
        let burnt = ledger.burn(Party::Client, &session(run as u64), &peer);
        assert!(burnt.is_err(), "it was there");
    });
    println!("  one that was burnt refused in {median:.3} ms, at most {most:.3}");
}

fn steps() {
    let key = StorageKey::new([1; 32]);
    let cipher = || key.cipher(&[2; 16]);
    let (mut bytes, mut tags) = (vec![7; STEP], Vec::new());
    let (median, most) = milliseconds(|_| {
        let cipher = cipher();
        tags.clear();
        for (chunk, number) in bytes.chunks_mut(CHUNK).zip(0..) {
            tags.extend(cipher.seal(chunk, b"a step", number));
        }
    });
    println!("{} MiB sealed in {median:.2} ms, at most {most:.2}", STEP >> 20);
    let sealed = bytes.clone();
    let (median, most) = milliseconds(|_| {
        bytes.copy_from_slice(&sealed);
        cipher().open(&mut bytes, b"a step", &tags).expect("sealed so");
    });
    println!("  copied and opened in {median:.2} ms, at most {most:.2}");
    let (median, most) = milliseconds(|_| {
        black_box(blake3::hash(&bytes));
    });
    println!("  digested, which opening replaces, in {median:.2} ms, at most {most:.2}");
}
