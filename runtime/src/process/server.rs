//! The server's process: one session after another, until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ir::Party;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::dealer::{Leave, until_zero};
use super::material::collect;
use super::online::{meet, prepare, run};
use super::stream::Outgoing;
use super::{Entropy, Loaded, Record, RunError, Watch, chain, write_json};
use crate::handshake::{self, Hello, Role, Session, greet, hex};
use crate::keys::MasterKey;
use crate::ledger::Ledger;
use crate::meter::{Phases, Totals};
use crate::net::frame::Kind;
use crate::net::{Conn, Listener, Net, NetError};
use crate::protocol::linear::{WeightMask, mask_weight};
use crate::setup::layout;
use crate::vm::Machine;
use crate::weights::ServerWeights;
use crate::weights_file::WeightsFile;

/// Connections at one time. Those beyond are turned away, and all but one wait.
const CONNECTIONS: usize = 16;

/// What the server needs besides its sockets.
pub struct Server {
    /// The program.
    pub loaded: Loaded,
    /// Its weights.
    pub weights: WeightsFile,
    /// From which the weights' masks derive.
    pub key: MasterKey,
    /// Burnt sessions.
    pub ledger: Ledger,
    /// Where the dealer listens.
    pub dealer: SocketAddr,
    /// Where seeds and sessions come from.
    pub entropy: Box<dyn Entropy>,
    /// Where to write what the last session took.
    pub report: Option<PathBuf>,
}

/// The server's report.
#[derive(Serialize)]
struct ServerReport {
    preprocessing: &'static str,
    program: String,
    #[serde(flatten)]
    totals: Totals,
    session: Record,
}

struct Desk {
    net: Net,
    server: Server,
    running: Semaphore,
    guests: AtomicUsize,
}

/// Serves all clients that come, until told to stop.
pub fn serve(net: &Net, listener: &Listener, server: Server) {
    let desk = Arc::new(Desk { net: net.clone(), server, running: Semaphore::new(1), guests: AtomicUsize::new(0) });
    while let Some(conn) = listener.accept(Role::Party(Party::Client).name()) {
        if desk.guests.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
            desk.guests.fetch_sub(1, Ordering::SeqCst);
            tracing::warn!("a connection was turned away: {CONNECTIONS} are open");
            continue;
        }
        let desk = desk.clone();
        std::thread::spawn(move || {
            let _leave = Leave(&desk.guests);
            desk.attend(conn);
        });
    }
    until_zero(&desk.guests);
}

impl Desk {
    fn attend(&self, mut conn: Conn) {
        let session = match self.server.entropy.session() {
            Ok(session) => session,
            Err(error) => return refuse(conn, &error),
        };
        match self.session(&mut conn, session) {
            Ok(record) => {
                let seconds = record.phases.online_seconds;
                tracing::info!(%session, online_seconds = seconds, "session served (trusted dealer)");
                conn.close();
                self.report(record);
            }
            Err(error) => {
                tracing::warn!(%session, "session failed: {}", chain(&error));
                conn.fail(&error.for_peer());
            }
        }
    }

    /// A report that cannot be written ends no service.
    fn report(&self, session: Record) {
        let Some(path) = &self.server.report else { return };
        let program = hex(&self.server.loaded.hash);
        let totals = Totals::of([(&session.online, session.phases, session.setup_bytes)]);
        let report = ServerReport { preprocessing: "trusted dealer", program, totals, session };
        if let Err(error) = write_json(path, &report) {
            tracing::warn!("report: {}", chain(&error));
        }
    }

    fn session(&self, conn: &mut Conn, session: Session) -> Result<Record, RunError> {
        let Server { loaded, weights, key, ledger, dealer, entropy, .. } = &self.server;
        let (mut phases, mut watch) = (Phases::default(), Watch::start());
        let ours = Hello { session, ..loaded.hello(Role::Party(Party::Server)) };
        let theirs = greet(conn, &ours, &[Role::Party(Party::Client)])?;
        let program = handshake::entry(&loaded.module, &theirs)?;
        let index = loaded.entry_index(program);
        let cost = ir::cost::cost(program);
        conn.trust(cost.client_sent_bytes);
        let holds_setup = match conn.receive_small(Kind::Begin, 1, None)?.as_ref() {
            [0] => false,
            [1] => true,
            _ => {
                let (expected, got) = ("0 or 1 in a begin".to_owned(), "something else".to_owned());
                return Err(NetError::BadFrame { peer: conn.peer(), expected, got }.into());
            }
        };
        phases.handshake_seconds = watch.lap();

        // The machine's cores serve one session at a time.
        let permit = conn.during(self.running.acquire())?;
        let _permit = permit.expect("the semaphore is never closed");
        let mask_seed = key.mask_seed(&loaded.hash, &program.name);
        let weights = weights.of(program);
        if !holds_setup {
            for (step, piece) in layout(program).into_iter().enumerate() {
                let mut out = Outgoing::new(conn, Kind::Setup, step as u32, piece.bytes.len() as u64);
                let integers = weights.integers(piece.weight);
                let mask = WeightMask::new(&mask_seed, index, piece.weight);
                let sent = mask_weight(mask, integers, piece.width, &mut out);
                out.finish(sent.is_ok())?;
            }
        }
        phases.setup_seconds = watch.lap();

        let seed = entropy.seed()?;
        ledger.burn(Party::Server, &session)?;
        let hello = Hello { entry: program.name.clone(), ..ours };
        let (mut material, at_dealer) =
            collect(&self.net, *dealer, &hello, &[&seed, &mask_seed], cost.server_material_bytes, conn)?;
        phases.dealing_seconds = watch.lap();

        let mut machine = Machine::server(program, index, &seed, &theirs.publics, &weights)?;
        prepare(&mut machine, conn)?;
        phases.prepare_seconds = watch.lap();

        meet(conn, at_dealer)?;
        watch.lap();
        let finished = run(machine, Vec::new(), conn, &mut material)?;
        phases.online_seconds = watch.lap();
        conn.receive_small(Kind::Done, 0, None)?;
        let setup_bytes = if holds_setup { 0 } else { cost.setup_bytes };
        Ok(Record::new(session, phases, setup_bytes, conn, finished.report))
    }
}

fn refuse(conn: Conn, error: &RunError) {
    tracing::warn!("a client was turned away: {error}");
    conn.fail(&error.for_peer());
}
