//! A run over a connection, from what is done ahead of the input to the output: the same for both parties.

use bytes::Bytes;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::link::PeerLink;
use super::material::{Dealing, Delivery};
use super::{RunError, Watch};
use crate::net::frame::Kind;
use crate::net::{Conn, NetError};
use kernels::ring::Tensor;
use machine::meter::Phases;
use machine::{Finished, Machine, VmError};
use protocols::cache::Openings;

/// The threads of one session. The machine runs in one of them and hands work to the others without waking a thread for
/// every instruction. Not those of the process: the machine waits for its peer, and would keep others' work waiting.
pub(super) struct Threads(ThreadPool);

impl Threads {
    pub(super) fn new() -> Result<Threads, RunError> {
        let pool = ThreadPoolBuilder::new().num_threads(rayon::current_num_threads()).build();
        Ok(Threads(pool.map_err(RunError::Threads)?))
    }
}

/// Runs a machine over a connection, with material from a delivery, and says how long each phase took since `watch` was read.
pub(super) fn run(
    conn: &mut Conn,
    mut delivery: Delivery,
    dealing: Dealing,
    machine: Machine<'_>,
    inputs: Vec<Tensor>,
    watch: &mut Watch,
    phases: &mut Phases,
) -> Result<Finished, RunError> {
    let finished = phase_by_phase(conn, &mut delivery, dealing, machine, inputs, watch, phases);
    delivery.end(&finished);
    finished
}

fn phase_by_phase(
    conn: &mut Conn,
    delivery: &mut Delivery,
    dealing: Dealing,
    mut machine: Machine<'_>,
    inputs: Vec<Tensor>,
    watch: &mut Watch,
    phases: &mut Phases,
) -> Result<Finished, RunError> {
    let threads = Threads::new()?;
    // Material arrives meanwhile. If one fails the other soon does: the connection is shared, or the dealer told.
    let delivered = std::thread::scope(|scope| {
        let delivered = scope.spawn(|| match dealing {
            Dealing::First => delivery.complete(),
            Dealing::Overlapped => Ok(()),
        });
        over(conn, |link| machine.prepare(link))?;
        phases.prepare_seconds = watch.lap();
        Ok::<_, RunError>(delivered.join().expect("a delivery does not panic"))
    })?;
    in_full(conn, delivered)?;
    phases.dealing_seconds += watch.lap();
    meet(conn)?;
    watch.lap();
    let finished = step(&threads, conn, delivery, machine, &mut Openings::default(), inputs);
    phases.online_seconds = watch.lap();
    finished
}

/// Runs one step of a session, after what goes ahead if that was not done.
pub(super) fn step(
    threads: &Threads,
    conn: &mut Conn,
    delivery: &mut Delivery,
    machine: Machine<'_>,
    cache: &mut Openings,
    inputs: Vec<Tensor>,
) -> Result<Finished, RunError> {
    let finished = over(conn, |link| threads.0.install(|| machine.run(cache, inputs, link, delivery)));
    let delivered = delivery.fault().map_or(Ok(()), Err);
    in_full(conn, delivered)?;
    finished
}

/// Waits until the other party is as far.
fn meet(conn: &mut Conn) -> Result<(), NetError> {
    conn.send_frame(Kind::Ready, 0, Bytes::new())?;
    conn.receive_small(Kind::Ready, 0)?;
    Ok(())
}

/// A fault of the delivery, or what made it vain.
fn in_full(conn: &mut Conn, delivered: Result<(), NetError>) -> Result<(), NetError> {
    if let Err(NetError::Vain { .. }) = delivered {
        conn.check()?;
    }
    delivered
}

/// Runs `f` over the connection; a fault of the connection is named in full.
pub(super) fn over<T>(conn: &mut Conn, f: impl FnOnce(&mut PeerLink) -> Result<T, VmError>) -> Result<T, RunError> {
    let mut link = PeerLink::new(conn);
    let done = f(&mut link);
    match link.fault() {
        Some(fault) => Err(fault.into()),
        None => Ok(done?),
    }
}
