//! The server's process: one session after another, until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use ir::Party;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::material::Delivery;
use super::online::run;
use super::stream::Outgoing;
use super::{Begin, Entropy, Loaded, Record, RunError, Watch, accept, chain, write_json};
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
}

/// Serves all clients that come, until told to stop.
pub fn serve(net: &Net, listener: &Listener, server: Server) {
    let desk = Desk { net: net.clone(), server, running: Semaphore::new(1) };
    accept::serve(listener, Role::Party(Party::Client).name(), CONNECTIONS, desk, Desk::attend);
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
        let begin = Begin::decode(&conn.receive_small(Kind::Begin, 1)?).ok_or_else(|| NetError::BadFrame {
            peer: conn.peer(),
            expected: "a begin with known choices".to_owned(),
            got: "something else".to_owned(),
        })?;
        phases.handshake_seconds = watch.lap();

        // The machine's cores serve one session at a time.
        let permit = conn.during(self.running.acquire())?;
        let _permit = permit.expect("the semaphore is never closed");
        let mask_seed = key.mask_seed(&loaded.hash, &program.name);
        let weights = weights.of(program);
        if !begin.holds_setup {
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
        let dealt = (program, cost.server_material_bytes);
        let seeds = [&seed, &mask_seed];
        let delivery = Delivery::begin(&self.net, *dealer, &hello, &seeds, dealt, begin.dealing, conn)?;
        phases.dealing_seconds = watch.lap();

        let machine = Machine::server(program, index, &seed, &theirs.publics, &weights)?;
        let finished = run(conn, delivery, begin.dealing, machine, Vec::new(), &mut watch, &mut phases)?;
        conn.receive_small(Kind::Done, 0)?;
        let setup_bytes = if begin.holds_setup { 0 } else { cost.setup_bytes };
        Ok(Record::new(session, phases, setup_bytes, conn, finished.report))
    }
}

fn refuse(conn: Conn, error: &RunError) {
    tracing::warn!("a client was turned away: {error}");
    conn.fail(&error.for_peer());
}
