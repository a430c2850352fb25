//! The dealer's process: pairs the two parties of a session and streams their material, step by step as both ask for it.
//!
//! It keeps nothing beyond a session: all material derives from the parties' seeds, goes out as it is made, and is
//! forgotten with them. It must not collude with either party.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ir::Party;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::stream::Outgoing;
use super::{Loaded, RunError, accept};
use crate::handshake::{self, Hello, Mismatch, Role, Session, greet};
use crate::net::frame::Kind;
use crate::net::{Conn, Listener, Net, NetError};
use kernels::prg::Seed;
use protocols::cache::Masks;
use protocols::dealer::{Seeds, deal};
use protocols::step::Step;

/// Sessions that are dealt at one time. More wait.
const DEALING: usize = 4;

/// Connections at one time. More are turned away.
const CONNECTIONS: usize = 64;

/// Bytes of a seed.
const SEED: usize = 32;

/// Bytes of a party's wish for a step.
const ASKED: usize = 5;

/// A party at the dealer.
struct Guest {
    party: Party,
    conn: Conn,
    entry: String,
    /// The parties' link to each other.
    link: [u8; 32],
    /// Its own seed and, from the server, the seed of its weights' masks.
    seeds: Vec<Seed>,
}

/// The party that came first.
struct Waiting {
    party: Party,
    entry: String,
    link: [u8; 32],
    partner: oneshot::Sender<Guest>,
}

/// Who may come.
pub const GUESTS: [Role; 2] = [Role::Party(Party::Client), Role::Party(Party::Server)];

struct Desk {
    net: Net,
    address: SocketAddr,
    loaded: Loaded,
    waiting: Mutex<HashMap<Session, Waiting>>,
    dealing: Semaphore,
}

/// Deals to all sessions that come, until told to stop.
pub fn serve(net: &Net, listener: &Listener, loaded: Loaded) {
    let desk = Desk {
        net: net.clone(),
        address: listener.address(),
        loaded,
        waiting: Mutex::default(),
        dealing: Semaphore::new(DEALING),
    };
    accept::serve(listener, CONNECTIONS, desk, Desk::attend);
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
            if conn.exposed() {
                return Err(NetError::SeedsInTheClear { address: self.address }.into());
            }
            let theirs = greet(&mut conn, &self.loaded.hello(Role::Dealer), &GUESTS)?;
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
            Ok((theirs, party, seeds))
        };
        match admit() {
            Ok((Hello { session, link, entry, .. }, party, seeds)) => {
                Ok((session, Guest { party, conn, entry, link, seeds }))
            }
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
                    place.insert(Waiting { party: guest.party, entry: guest.entry.clone(), link: guest.link, partner });
                }
                Entry::Occupied(first) if first.get().party == guest.party => {
                    let what = "this role is taken in this session";
                    return Err(Refused::new(guest.conn, Mismatch::Session { what }.into()));
                }
                Entry::Occupied(first) if first.get().entry != guest.entry => {
                    let what = "the parties of this session ask for different entries";
                    return Err(Refused::new(guest.conn, Mismatch::Session { what }.into()));
                }
                Entry::Occupied(first) if first.get().link != guest.link => {
                    let what = "the parties of this session are not linked to each other";
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
        // While a step is dealt, a party may ask for the next.
        client.conn.trust(ASKED as u64);
        server.conn.trust(ASKED as u64);
        let begin = Instant::now();
        match self.steps(&mut client, &mut server) {
            Ok(steps) => {
                client.conn.close();
                server.conn.close();
                let seconds = begin.elapsed().as_secs_f64();
                tracing::info!(%session, steps, seconds, "dealt (trusted dealer, {})", self.net.links().name());
            }
            Err(error) => {
                match error {
                    // At the end of a generation, what is dealt ahead is in vain.
                    RunError::Net(NetError::Closed { .. }) => tracing::info!(%session, "session ended: {error}"),
                    _ => tracing::warn!(%session, "session failed: {error}"),
                }
                let reason = error.for_peer();
                // Both farewells may take a while, and neither party should wait for the other's.
                std::thread::scope(|scope| {
                    scope.spawn(|| client.conn.fail(&reason));
                    server.conn.fail(&reason);
                });
            }
        }
    }

    /// Deals the steps that both ask for, until one leaves; gives their number.
    fn steps(&self, client: &mut Guest, server: &mut Guest) -> Result<u32, RunError> {
        let entries = &self.loaded.module.entries;
        let mut masks = Masks::default();
        for number in 0.. {
            let Some(Asked { entry, wanted }) = asked(number, client, server)? else { return Ok(number) };
            let Some(program) = entries.get(entry as usize) else {
                return Err(
                    Mismatch::Session { what: "a step of an entry that the program lacks was asked for" }.into()
                );
            };
            let step = Step { entries, entry, number };
            // Before a byte of it is sent, since this is no loss of a connection.
            masks.check(step).map_err(|error| RunError::Step { entry: program.name.clone(), error })?;
            let permit = client.conn.during(self.dealing.acquire())?.expect("the semaphore is never closed");
            match wanted {
                true => stream(step, &mut masks, client, server)?,
                false => deal(step, seeds(client, server), &mut masks, &mut io::sink(), &mut io::sink())
                    .expect("nothing fails to forget what it is given"),
            }
            drop(permit);
        }
        unreachable!("a state has room for some steps alone")
    }
}

/// A step that both parties ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Asked {
    entry: u32,
    /// They do not have its material yet; the steps after it need its masks in any case.
    wanted: bool,
}

impl Asked {
    fn decode(bytes: &[u8]) -> Option<Asked> {
        let [entry @ .., wanted @ 0..=1] = bytes else { return None };
        Some(Asked { entry: u32::from_le_bytes(entry.try_into().ok()?), wanted: *wanted == 1 })
    }
}

/// Step `number`, for which both ask; none if one has left between the steps.
fn asked(number: u32, client: &mut Guest, server: &mut Guest) -> Result<Option<Asked>, RunError> {
    let (client_lost, server_lost) = (client.conn.lost(), server.conn.lost());
    let mut both = Vec::new();
    for (guest, lost) in [(client, server_lost), (server, client_lost)] {
        match guest.conn.receive_some((Kind::Next, number), ASKED, &lost) {
            Ok(bytes) => both.push(Asked::decode(&bytes).ok_or_else(|| {
                let (expected, got) = ("an entry and a choice".to_owned(), format!("{} other bytes", bytes.len()));
                NetError::BadFrame { peer: guest.conn.peer(), expected, got }
            })?),
            // Whoever has what it wanted closes its connection.
            Err(NetError::Closed { .. } | NetError::Vain { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    if both[0] != both[1] {
        return Err(Mismatch::Session { what: "the parties of this session ask for different steps" }.into());
    }
    Ok(Some(both[0]))
}

fn seeds<'a>(client: &'a Guest, server: &'a Guest) -> Seeds<'a> {
    Seeds { client: &client.seeds[0], server: &server.seeds[0], weights: &server.seeds[1] }
}

/// Deals a step to both.
fn stream(step: Step, masks: &mut Masks, client: &mut Guest, server: &mut Guest) -> Result<(), NetError> {
    let cost = ir::cost::per_instruction(step.program());
    let seeds = Seeds { client: &client.seeds[0], server: &server.seeds[0], weights: &server.seeds[1] };
    let (client_lost, server_lost) = (client.conn.lost(), server.conn.lost());
    let mut to_client = Outgoing::new(&mut client.conn, Kind::Material, step.number, cost.client_material_bytes);
    let mut to_server = Outgoing::new(&mut server.conn, Kind::Material, step.number, cost.server_material_bytes);
    to_client.in_vain_if(server_lost);
    to_server.in_vain_if(client_lost);
    let dealt = deal(step, seeds, masks, &mut to_client, &mut to_server);
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

fn role(party: Party) -> &'static str {
    Role::Party(party).name()
}

fn refuse(conn: Conn, error: &RunError) {
    tracing::warn!("a {} was turned away: {error}", conn.peer());
    conn.fail(&error.for_peer());
}
