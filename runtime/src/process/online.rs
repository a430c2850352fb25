//! The online phase over a connection, the same for both parties.

use bytes::Bytes;

use super::RunError;
use super::link::{Held, PeerLink};
use crate::net::frame::Kind;
use crate::net::{Conn, NetError};
use crate::protocol::cache::Openings;
use crate::ring::Tensor;
use crate::vm::{Finished, Machine};

/// Waits until the other party has its material, too. Only then the dealer may see that this one is done with it.
pub(super) fn meet(conn: &mut Conn, at_dealer: Conn) -> Result<(), NetError> {
    conn.send_frame(Kind::Ready, 0, Bytes::new())?;
    conn.receive_small(Kind::Ready, 0, None)?;
    at_dealer.close();
    Ok(())
}

/// Runs a machine, the only step of its session.
pub(super) fn run(
    machine: Machine<'_>,
    inputs: Vec<Tensor>,
    conn: &mut Conn,
    material: &mut Held,
) -> Result<Finished, RunError> {
    let mut link = PeerLink::new(conn);
    let ran = machine.run(&mut Openings::default(), inputs, &mut link, material);
    match link.fault() {
        Some(fault) => Err(fault.into()),
        None => Ok(ran?),
    }
}
