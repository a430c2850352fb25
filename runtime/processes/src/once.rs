//! What the two parties tell each other so that what both keep is used once, also when a state directory comes back from a backup.
//!
//! ```text
//! client                      server
//!   begin      -------------->                                     the stock that it names, and counts
//!   kept       -------------->                                     before making: the stocks that it has
//!              <--------------  ready                              whether it has that, and counts
//!   (burns)
//!   witness    -------------->                                     without which the server cannot read its half
//!                               (burns)
//!              <--------------  witness                            without which the client cannot read its half
//! ```
//!
//! Witness  Each burns the session durably before it hands over what it holds back for the other's half, and a session that is burnt is
//!          refused: each gives it once, over the link to the one whose it is. So a half that comes back is of no use, as long as
//!          the other side's ledger does not come back with it. A crash between any two of these lines loses the stock, and no more. While a
//!          stock is made both have the other's, in memory.
//! Counts   How many sessions each has burnt with the other, and how many the other said last. Who says less than before was restored: it
//!          is told, removes its stocks with that party, which may be older than their use, and goes on from the count that it had reached.
//!          One that another session outran by a moment is told too, sees that its count is right, and only runs again.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::RunError;
use super::stock::{Stocks, hold, manifest, names, remove};
use super::{StockError, state::State};
use crate::handshake::{Hello, Mismatch};
use crate::ledger::{Marks, Peer};
use crate::net::frame::Kind;
use crate::net::{Conn, NetError};
use crate::vault::Witness;

/// Names of stocks that a client tells at most.
const NAMES: usize = 255;

/// The other end of a link.
pub(super) fn peer(conn: &Conn, hello: &Hello) -> Peer {
    Peer { key: conn.known().map_or([0; 32], |known| *known.key.bytes()), state: hello.state }
}

/// What a party says of sessions with the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    /// That it has burnt.
    pub(super) burnt: u64,
    /// That the other has burnt, as it said last.
    pub(super) seen: u64,
}

impl Counts {
    pub(super) const LENGTH: usize = 16;

    pub(super) fn of(marks: Marks) -> Counts {
        Counts { burnt: marks.ours, seen: marks.theirs }
    }

    pub(super) fn encode(self) -> [u8; Counts::LENGTH] {
        let [burnt, seen] = [self.burnt, self.seen].map(u64::to_le_bytes);
        [burnt, seen].concat().try_into().expect("16 bytes")
    }

    pub(super) fn decode(bytes: &[u8; Counts::LENGTH]) -> Counts {
        let ([burnt, seen], _) = bytes.as_chunks::<8>() else { unreachable!("16 bytes") };
        Counts { burnt: u64::from_le_bytes(*burnt), seen: u64::from_le_bytes(*seen) }
    }
}

/// What a server says of the stock that a client named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// It has so many whole steps of it.
    Steps(u32),
    /// It has none of that name with this client.
    Unknown,
    /// It has burnt its session.
    Used,
    /// Another session has named it.
    Held,
    /// It has one that it cannot use.
    Unusable,
    /// The client has burnt more than it says: its directory was restored.
    Restored,
}

/// A server's answer to a client's begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ready {
    pub(super) answer: Answer,
    pub(super) counts: Counts,
}

impl Ready {
    const LENGTH: usize = 5 + Counts::LENGTH;

    pub(super) fn send(self, conn: &mut Conn) -> Result<(), NetError> {
        conn.send_frame(Kind::Ready, 0, Bytes::copy_from_slice(&self.encode()))
    }

    pub(super) fn receive(conn: &mut Conn) -> Result<Ready, NetError> {
        let bytes = conn.receive_small(Kind::Ready, Ready::LENGTH)?;
        Ready::decode(&bytes).ok_or_else(|| odd(conn, "what the server says of a stock"))
    }

    fn encode(self) -> Vec<u8> {
        let (code, steps) = match self.answer {
            Answer::Steps(steps) => (0, steps),
            Answer::Unknown => (1, 0),
            Answer::Used => (2, 0),
            Answer::Held => (3, 0),
            Answer::Unusable => (4, 0),
            Answer::Restored => (5, 0u32),
        };
        [&[code][..], &steps.to_le_bytes(), &self.counts.encode()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Ready> {
        let (head, counts) = bytes.split_first_chunk::<5>()?;
        let steps = u32::from_le_bytes(head[1..].try_into().ok()?);
        let answer = match (head[0], steps) {
            (0, steps) => Answer::Steps(steps),
            (1, 0) => Answer::Unknown,
            (2, 0) => Answer::Used,
            (3, 0) => Answer::Held,
            (4, 0) => Answer::Unusable,
            (5, 0) => Answer::Restored,
            _ => return None,
        };
        Some(Ready { answer, counts: Counts::decode(counts.try_into().ok()?) })
    }
}

/// What a party hands over.
pub(super) struct Given {
    pub(super) witness: Witness,
    /// Sessions that it has burnt with the other.
    pub(super) burnt: u64,
    /// Until when the stock may be used, in seconds since 1970.
    pub(super) expires: u64,
}

impl Given {
    const LENGTH: usize = 48;

    pub(super) fn send(&self, conn: &mut Conn) -> Result<(), NetError> {
        let mut bytes = self.witness.expose().to_vec();
        bytes.extend(self.burnt.to_le_bytes());
        bytes.extend(self.expires.to_le_bytes());
        conn.send_frame(Kind::Witness, 0, Bytes::from_owner(Zeroizing::new(bytes)))
    }

    pub(super) fn receive(conn: &mut Conn) -> Result<Given, NetError> {
        let bytes = Zeroizing::new(conn.receive(Kind::Witness, 0, Given::LENGTH)?);
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let witness = Witness::new(*bytes.first_chunk().expect("48 bytes"));
        Ok(Given { witness, burnt: number(32), expires: number(40) })
    }
}

fn odd(conn: &Conn, expected: &str) -> NetError {
    let (expected, got) = (expected.to_owned(), "something else".to_owned());
    NetError::BadFrame { peer: conn.peer(), expected, got }
}

/// Heeds what a client says of the counts: an error if the directory here was restored, false if the client's was.
pub(super) fn heed_client(state: &State, peer: &Peer, said: Counts) -> Result<bool, RunError> {
    let marks = state.ledger.marks(peer)?;
    if said.seen > marks.ours {
        return Err(restored(state, peer, said.seen)?);
    }
    state.ledger.raise(peer, Marks { ours: 0, theirs: said.burnt })?;
    Ok(said.burnt >= marks.theirs)
}

/// Heeds what a server answers a client that had said `said`.
pub(super) fn heed_server(state: &State, peer: &Peer, said: Counts, ready: Ready) -> Result<(), RunError> {
    if ready.counts.burnt < said.seen {
        return Err(RunError::PeerRestored { peer: "server" });
    }
    if ready.answer == Answer::Restored {
        return Err(match ready.counts.seen > state.ledger.marks(peer)?.ours {
            true => restored(state, peer, ready.counts.seen)?,
            false => Mismatch::Session { what: "another session was burnt at this moment" }.into(),
        });
    }
    Ok(state.ledger.raise(peer, Marks { ours: 0, theirs: ready.counts.burnt })?)
}

/// Removes all stocks with a party, to whom this side has burnt more than it remembers, and goes on from its count.
fn restored(state: &State, peer: &Peer, burnt: u64) -> Result<RunError, RunError> {
    for (.., place) in names(&state.directory().join("stock")) {
        // One that somebody holds has been named, and is checked in that session.
        let of_peer = manifest(&state.key, &place).is_ok_and(|manifest| manifest.bond.peer == *peer);
        if let (true, Some(_held)) = (of_peer, hold(&place)) {
            remove(&state.disk, &place).map_err(|source| StockError { path: place.clone(), source })?;
        }
    }
    state.ledger.raise(peer, Marks { ours: burnt, theirs: 0 })?;
    Ok(RunError::Restored { path: state.directory().to_owned() })
}

/// Tells the server which stocks the client has with it: of others, which a crash cost the client, the server's halves are of no use.
pub(super) fn tell_kept(conn: &mut Conn, stocks: &Stocks, peer: &Peer) -> Result<(), NetError> {
    let names = stocks.sessions(peer);
    let bytes = match names.len() {
        // Nothing is told.
        n if n > NAMES => vec![0],
        _ => names.iter().flat_map(|session| session.0).collect(),
    };
    conn.send_frame(Kind::Kept, 0, bytes.into())
}

/// Removes the server's halves of stocks that a client has lost.
pub(super) fn forget_lost(conn: &mut Conn, stocks: &Stocks, peer: &Peer) -> Result<(), RunError> {
    let bytes = conn.receive_small(Kind::Kept, 16 * NAMES)?;
    let (names, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Ok(());
    }
    for session in stocks.sessions(peer).into_iter().filter(|session| !names.contains(&session.0)) {
        // One that is being made may not be durable there yet.
        if let Some(reserved) = stocks.reserve(session, peer)?.filter(|_| !stocks.grows(session)) {
            tracing::info!("stock {session} is removed: the client lacks its half");
            reserved.discard()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_round_trip_and_others_are_refused() {
        let counts = Counts { burnt: 3, seen: u64::MAX };
        let answers = [Answer::Unknown, Answer::Used, Answer::Held, Answer::Unusable, Answer::Restored];
        for answer in answers.into_iter().chain([0, 7].map(Answer::Steps)) {
            let ready = Ready { answer, counts };
            let bytes = ready.encode();
            assert_eq!((bytes.len(), Ready::decode(&bytes)), (Ready::LENGTH, Some(ready)));
            assert!((0..bytes.len()).all(|length| Ready::decode(&bytes[..length]).is_none()));
        }
        let mut odd = Ready { answer: Answer::Used, counts }.encode();
        odd[1] = 1;
        assert_eq!(Ready::decode(&odd), None);
        odd[..2].copy_from_slice(&[6, 0]);
        assert_eq!(Ready::decode(&odd), None);
    }
}
