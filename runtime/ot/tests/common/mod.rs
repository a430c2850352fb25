//! Both parties in threads of one process.

use ir::Party;
use kernels::prg::{Domain, Seed};
use kernels::ring::mask;
use ot::{Error, Memory, Meter, Pair};
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
    let [mut a, mut b] = ends;
    std::thread::scope(|scope| {
        let server = scope.spawn(|| side(Party::Server, &mut b));
        let client = side(Party::Client, &mut a);
        drop(a);
        [client, server.join().expect("the server's side")]
    })
}

/// A pair by IKNP, set up from seeds that depend on the party and on `session`.
pub fn pair(party: Party, channel: &mut Memory, session: u8) -> Result<Pair, Error> {
    Pair::iknp(channel, party, [session; 32], &seed(session.wrapping_mul(2) + party.index() as u8))
}

/// Runs both parties' sides with a pair each.
pub fn run<T: Send>(session: u8, side: impl Fn(&mut Pair, &mut Memory) -> T + Sync) -> [T; 2] {
    on(Memory::pair(PATIENCE), |party, channel| side(&mut pair(party, channel, session).expect("a pair"), channel))
}

/// What a side sent and how often it waited, from `before` on.
#[allow(dead_code)]
pub fn since(before: Meter, now: Meter) -> (u64, u64) {
    (now.sent_bytes - before.sent_bytes, now.rounds - before.rounds)
}

/// All messages that either end sends.
#[allow(dead_code)]
pub fn recorded() -> ([Memory; 2], [Arc<Mutex<Vec<Vec<u8>>>>; 2]) {
    let mut ends = Memory::pair(PATIENCE);
    let logs = [(); 2].map(|()| Arc::new(Mutex::new(Vec::new())));
    for (end, log) in ends.iter_mut().zip(&logs) {
        let log = log.clone();
        end.tap(Box::new(move |bytes| log.lock().expect("a log").push(bytes.clone())));
    }
    (ends, logs)
}

/// Pearson's statistic of the low `bits` bits of the values against uniform ones, as a normal deviate (Wilson and Hilferty).
#[allow(dead_code)]
pub fn deviate(values: &[u64], bits: u8) -> f64 {
    let mut counts = vec![0u32; 1 << bits];
    values.iter().for_each(|v| counts[(v & mask(bits)) as usize] += 1);
    let (want, free) = (values.len() as f64 / counts.len() as f64, counts.len() as f64 - 1.0);
    let chi: f64 = counts.iter().map(|&got| (f64::from(got) - want).powi(2) / want).sum();
    ((chi / free).cbrt() - 1.0 + 2.0 / (9.0 * free)) / (2.0 / (9.0 * free)).sqrt()
}
