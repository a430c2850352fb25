//! The dealer's process: pairs the two parties of a session and streams their material.
//!
//! It keeps nothing: all material derives from the parties' seeds, goes out as it is made, and is forgotten with them. It
//! must not collude with either party.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ir::{Party, Program};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::stream::Outgoing;
use super::{Loaded, RunError, accept};
use crate::dealer::{Seeds, deal};
use crate::handshake::{self, Mismatch, Role, Session, greet};
use crate::net::frame::Kind;
use crate::net::{Conn, Listener, Net, NetError};
use crate::prg::Seed;

/// Sessions that are dealt at one time. More wait.
const DEALING: usize = 4;

/// Connections at one time. More are turned away.
const CONNECTIONS: usize = 64;

/// Bytes of a seed.
const SEED: usize = 32;

/// A party at the dealer.
struct Guest {
    party: Party,
    conn: Conn,
    entry: String,
    /// Its own seed and, from the server, the seed of its weights' masks.
    seeds: Vec<Seed>,
}

/// The party that came first.
struct Waiting {
    party: Party,
    entry: String,
    partner: oneshot::Sender<Guest>,
}

struct Desk {
    net: Net,
    loaded: Loaded,
    waiting: Mutex<HashMap<Session, Waiting>>,
    dealing: Semaphore,
}

/// Deals to all sessions that come, until told to stop.
pub fn serve(net: &Net, listener: &Listener, loaded: Loaded) {
    let desk = Desk { net: net.clone(), loaded, waiting: Mutex::default(), dealing: Semaphore::new(DEALING) };
    accept::serve(listener, "party", CONNECTIONS, desk, Desk::attend);
}

/// A guest that is sent away, and why.
struct Refused {
    conn: Conn,
    error: RunError,
}

impl Refused {
    fn new(conn: Conn, error: RunError) -> Box<Refused> {
        Box::new(Refused { conn, error })
    }
}

impl Desk {
    fn attend(&self, conn: Conn) {
        let (session, guest) = match self.admit(conn) {
            Ok(admitted) => admitted,
            Err(refused) => return refuse(refused.conn, &refused.error),
        };
        match self.pair(session, guest) {
            Ok(None) => {}
            Ok(Some((guest, partner))) => {
                let (client, server) = match guest.party {
                    Party::Client => (guest, partner),
                    Party::Server => (partner, guest),
                };
                self.deal(session, client, server);
            }
            Err(refused) => refuse(refused.conn, &refused.error),
        }
    }

    /// Handshake, then the party's seeds.
    fn admit(&self, mut conn: Conn) -> Result<(Session, Guest), Box<Refused>> {
        let mut admit = || -> Result<_, RunError> {
            let parties = [Role::Party(Party::Client), Role::Party(Party::Server)];
            let theirs = greet(&mut conn, &self.loaded.hello(Role::Dealer), &parties)?;
            let Role::Party(party) = theirs.role else { unreachable!("the roles that were asked for") };
            if self.loaded.module.entry(&theirs.entry).is_none() {
                return Err(handshake::unknown_entry(&self.loaded.module, &theirs.entry).into());
            }
            let count = 1 + party.index();
            let bytes = conn.receive_small(Kind::Seeds, count * SEED)?;
            let (seeds, rest) = bytes.as_chunks::<SEED>();
            if seeds.len() != count || !rest.is_empty() {
                let (expected, got) = (format!("{} bytes of seeds", count * SEED), format!("{} bytes", bytes.len()));
                return Err(NetError::BadFrame { peer: conn.peer(), expected, got }.into());
            }
            let seeds = seeds.iter().map(|seed| Seed::new(*seed)).collect();
            Ok((theirs.session, party, theirs.entry, seeds))
        };
        match admit() {
            Ok((session, party, entry, seeds)) => Ok((session, Guest { party, conn, entry, seeds })),
            Err(error) => Err(Refused::new(conn, error)),
        }
    }

    /// The guest with its partner, or nothing if the guest was handed to the partner, who came first.
    fn pair(&self, session: Session, guest: Guest) -> Result<Option<(Guest, Guest)>, Box<Refused>> {
        let (partner, arrival) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            match waiting.entry(session) {
                Entry::Vacant(place) => {
                    place.insert(Waiting { party: guest.party, entry: guest.entry.clone(), partner });
                }
                Entry::Occupied(first) if first.get().party == guest.party => {
                    let what = "this role is taken in this session";
                    return Err(Refused::new(guest.conn, Mismatch::Session { what }.into()));
                }
                Entry::Occupied(first) if first.get().entry != guest.entry => {
                    let what = "the parties of this session ask for different entries";
                    return Err(Refused::new(guest.conn, Mismatch::Session { what }.into()));
                }
                Entry::Occupied(first) => {
                    // Handing over fails only if the first guest is just leaving, which ends the session.
                    return match first.remove().partner.send(guest) {
                        Ok(()) => Ok(None),
                        Err(guest) => Err(Refused::new(
                            guest.conn,
                            Mismatch::Session { what: "the other party has left it" }.into(),
                        )),
                    };
                }
            }
        }
        let mut guest = guest;
        match guest.conn.during(async { timeout(self.net.timeout(), arrival).await }) {
            Ok(Ok(Ok(partner))) => Ok(Some((guest, partner))),
            lost => {
                self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
                let error = match lost {
                    Err(error) => error,
                    Ok(_) => {
                        let (peer, seconds) = (role(guest.party.peer()), self.net.timeout().as_secs_f64());
                        NetError::Timeout { peer, waiting: "hello", seconds }
                    }
                };
                Err(Refused::new(guest.conn, error.into()))
            }
        }
    }

    fn deal(&self, session: Session, mut client: Guest, mut server: Guest) {
        client.conn.trust(0);
        server.conn.trust(0);
        let begin = Instant::now();
        let dealt = client.conn.during(self.dealing.acquire()).and_then(|permit| {
            let _permit = permit.expect("the semaphore is never closed");
            let program = self.loaded.module.entry(&client.entry).expect("admitted with a known entry");
            self.stream(program, &mut client, &mut server)
        });
        match dealt {
            Ok(()) => {
                client.conn.close();
                server.conn.close();
                tracing::info!(%session, seconds = begin.elapsed().as_secs_f64(), "dealt (trusted dealer)");
            }
            Err(error) => {
                tracing::warn!(%session, "session failed: {error}");
                let reason = error.to_string();
                // Both farewells may take a while, and neither party should wait for the other's.
                std::thread::scope(|scope| {
                    scope.spawn(|| client.conn.fail(&reason));
                    server.conn.fail(&reason);
                });
            }
        }
    }

    fn stream(&self, program: &Program, client: &mut Guest, server: &mut Guest) -> Result<(), NetError> {
        let cost = ir::cost::per_instruction(program);
        let seeds = Seeds { client: &client.seeds[0], server: &server.seeds[0], weights: &server.seeds[1] };
        let (client_lost, server_lost) = (client.conn.lost(), server.conn.lost());
        let mut to_client = Outgoing::new(&mut client.conn, Kind::Material, 0, cost.client_material_bytes);
        let mut to_server = Outgoing::new(&mut server.conn, Kind::Material, 0, cost.server_material_bytes);
        to_client.in_vain_if(server_lost);
        to_server.in_vain_if(client_lost);
        let dealt = deal(program, self.loaded.entry_index(program), seeds, &mut to_client, &mut to_server);
        let (sent_client, sent_server) = (to_client.finish(dealt.is_ok()), to_server.finish(dealt.is_ok()));
        sent_client.and(sent_server)?;
        if dealt.is_ok() {
            // All is on its way; a party that has it may leave before this line.
            return Ok(());
        }
        // A write that stopped without a fault of its own did so because the other connection was lost.
        client.conn.check()?;
        server.conn.check()?;
        panic!("dealing fails only where writing does")
    }
}

fn role(party: Party) -> &'static str {
    Role::Party(party).name()
}

fn refuse(conn: Conn, error: &RunError) {
    tracing::warn!("a {} was turned away: {error}", conn.peer());
    conn.fail(&error.for_peer());
}
