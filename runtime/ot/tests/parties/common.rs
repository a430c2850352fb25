//! Both parties in threads of one process.

use ir::Party;
use kernels::prg::{Domain, Seed};
use kernels::ring::mask;
use ot::soft::{self, COLUMNS};
use ot::{Memory, Meter, Pair};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const PARTIES: [Party; 2] = [Party::Client, Party::Server];

/// How long a party waits for the other.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn seed(number: u8) -> Seed {
    Seed::new([number; 32])
}

/// Numbers of so many bits.
pub fn numbers(number: u8, count: usize, width: u8) -> Vec<u64> {
    let mut out = vec![0; count];
    seed(number).stream(Domain { step: 1, entry: 0, index: 0, kind: 200 }).fill(0, width, &mut out);
    out
}

/// Runs both parties' sides on these ends.
pub fn on<T: Send>(ends: [Memory; 2], side: impl Fn(Party, &mut Memory) -> T + Sync) -> [T; 2] {
    // An end is gone when its side is done.
    let [mut a, mut b] = ends;
    std::thread::scope(|scope| {
        let side = &side;
        let server = scope.spawn(move || side(Party::Server, &mut b));
        let client = side(Party::Client, &mut a);
        drop(a);
        [client, server.join().expect("the server's side")]
    })
}

/// The engines of the direction in which a party chooses, with base transfers from a trusted hand.
fn engines(session: u8, chooser: Party) -> (soft::Sender, soft::Receiver) {
    let stream = seed(session).stream(Domain { step: 2, entry: 0, index: chooser.index() as u32, kind: 200 });
    let mut blocks = [[0; 16]; 4 * COLUMNS + 1];
    stream.fill_bytes(0, &mut blocks);
    let delta = u128::from_le_bytes(blocks[0]) | 1;
    let keys: Vec<Seed> = blocks[1..].as_flattened().as_chunks::<32>().0.iter().map(|key| Seed::new(*key)).collect();
    let pairs = keys.as_chunks::<2>().0;
    let chosen: Vec<Seed> = (1..).zip(pairs).map(|(j, pair)| pair[(delta >> j) as usize & 1].clone()).collect();
    let (name, roots) = ([session; 32], seed(session.wrapping_mul(2) ^ chooser.index() as u8));
    let (receiver, message) = soft::Receiver::new(&name, pairs, &roots);
    (soft::Sender::new(&name, delta, &chosen, &message).unwrap(), receiver)
}

/// A party's pair, with base transfers from a trusted hand: what else there is depends on `session` alone.
pub fn pair(party: Party, session: u8) -> Pair {
    let (sender, receiver) = (engines(session, PARTIES[1 - party.index()]).0, engines(session, party).1);
    Pair::new(party, Box::new(receiver), Box::new(sender), [[session; 16], [!session; 16]])
}

/// Runs both parties' sides with a pair each.
pub fn run<T: Send>(session: u8, side: impl Fn(&mut Pair, &mut Memory) -> T + Sync) -> [T; 2] {
    on(Memory::pair(PATIENCE), |party, channel| side(&mut pair(party, session), channel))
}

/// What a side sent and how often it waited, from `before` on.
pub fn since(before: Meter, now: Meter) -> (u64, u64) {
    (now.sent_bytes - before.sent_bytes, now.rounds - before.rounds)
}

/// Messages in order.
pub type Log = Arc<Mutex<Vec<Vec<u8>>>>;

/// Ends, and all messages that each of them will have sent.
pub fn recorded() -> ([Memory; 2], [Log; 2]) {
    let mut ends = Memory::pair(PATIENCE);
    let logs = [(); 2].map(|()| Arc::new(Mutex::new(Vec::new())));
    for (end, log) in ends.iter_mut().zip(&logs) {
        let log = log.clone();
        end.tap(Box::new(move |bytes| log.lock().expect("a log").push(bytes.clone())));
    }
    (ends, logs)
}

/// Pearson's statistic of the low `bits` bits of the values against uniform ones, as a normal deviate (Wilson and Hilferty).
pub fn deviate(values: &[u64], bits: u8) -> f64 {
    let mut counts = vec![0u32; 1 << bits];
    values.iter().for_each(|v| counts[(v & mask(bits)) as usize] += 1);
    let (want, free) = (values.len() as f64 / counts.len() as f64, counts.len() as f64 - 1.0);
    let chi: f64 = counts.iter().map(|&got| (f64::from(got) - want).powi(2) / want).sum();
    ((chi / free).cbrt() - 1.0 + 2.0 / (9.0 * free)) / (2.0 / (9.0 * free)).sqrt()
}
