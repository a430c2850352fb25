//! What a session begins with, once the two parties have agreed on a stock or on none.

use ir::{Party, Program};
use kernels::prg::Seed;
use protocols::Maker;

use super::growth::{Begun, Growth};
use super::manifest::{Bond, Seeds};
use super::material::Dealt;
use super::once::Given;
use super::part::Part;
use super::rows::Kept;
use super::stock::{Reserved, Stock, Stocks};
use super::{Purpose, RunError};
use crate::handshake::Session;
use crate::ledger::{Marks, Peer};
use crate::net::Conn;

/// This side's half of a stock, before the other's witness is there.
pub(super) enum Half {
    Nothing,
    Use(Box<Reserved>),
    Grow(Box<Begun>),
}

/// See the module head.
pub(super) struct Started {
    pub(super) seeds: Seeds,
    pub(super) stock: Option<Dealt>,
    /// The stock that grows.
    pub(super) growth: Option<Growth>,
    /// The client's products of the stock.
    pub(super) products: Option<Part>,
    /// Of what the steps of a stock that grows have cached.
    pub(super) masks: Option<Kept>,
}

/// Burns the session, unless it is to be kept, and gives and takes what opens the halves of the stock of which both have the first `both`
/// steps.
pub(super) fn begin(
    stocks: &Stocks,
    entries: &[Program],
    conn: &mut Conn,
    (half, both): (Half, u32),
    (session, peer): (Session, Peer),
    (purpose, fresh): (Purpose, Seed),
) -> Result<Started, RunError> {
    let (ledger, party) = (&stocks.state.ledger, stocks.party);
    // What both make now takes a new seed; a dealer knows the session by its first.
    let of_pair = (stocks.maker == Maker::Pair).then(|| fresh.clone());
    let none = |seeds| Started { seeds, stock: None, growth: None, products: None, masks: None };
    match (half, purpose) {
        (Half::Use(reserved), _) => {
            let given = swap(conn, party, || {
                let burnt = ledger.burn(party, &session, &peer)?;
                let bond = reserved.bond();
                Ok(Given { witness: bond.held(), burnt, expires: bond.expires })
            })?;
            let Stock { mut seeds, mut entries, material, products } = reserved.take(&given.witness)?;
            ledger.raise(&peer, Marks { ours: 0, theirs: given.burnt })?;
            entries.truncate(both as usize);
            of_pair.into_iter().for_each(|seed| seeds.then(both, seed));
            let stock = Some(Dealt { entries, material: Some(material) });
            Ok(Started { stock, products: Some(products), ..none(seeds) })
        }
        (half, Purpose::Prepare) => {
            let bond = match &half {
                Half::Grow(begun) => begun.bond().clone(),
                _ => Bond::new(peer, stocks.state.days).map_err(RunError::Random)?,
            };
            let ours = || Ok(Given { witness: bond.held(), burnt: 0, expires: bond.expires });
            let given = swap(conn, party, ours)?;
            let Half::Grow(begun) = half else {
                let (seeds, bond) = (Seeds::one(fresh), bond.until(given.expires));
                let grown = Growth::begin(stocks.clone(), session, seeds.clone(), bond, &given.witness);
                return Ok(Started { growth: Some(grown), ..none(seeds) });
            };
            let (grown, masks) = begun.rewind(&given.witness, entries, both, of_pair)?;
            let (seeds, stock) = (grown.seeds().clone(), grown.dealt());
            Ok(Started { stock, masks, growth: Some(grown), ..none(seeds) })
        }
        (_, _) => {
            ledger.burn(party, &session, &peer)?;
            Ok(none(Seeds::one(fresh)))
        }
    }
}

/// Gives what this side holds back and takes what the other does. The client gives first, and the server makes nothing ready, and burns
/// nothing, before it has that.
fn swap(conn: &mut Conn, party: Party, ours: impl FnOnce() -> Result<Given, RunError>) -> Result<Given, RunError> {
    match party {
        Party::Client => {
            ours()?.send(conn)?;
            Ok(Given::receive(conn)?)
        }
        Party::Server => {
            let theirs = Given::receive(conn)?;
            ours()?.send(conn)?;
            Ok(theirs)
        }
    }
}
