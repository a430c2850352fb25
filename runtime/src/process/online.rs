//! The online phase over a connection, the same for both parties.

use bytes::Bytes;

use super::RunError;
use super::link::{Held, PeerLink};
use crate::net::frame::Kind;
use crate::net::{Conn, NetError};
use crate::ring::Tensor;
use crate::vm::{Finished, Machine, VmError};

/// Waits until the other party has its material, too. Only then the dealer may see that this one is done with it.
pub(super) fn meet(conn: &mut Conn, at_dealer: Conn) -> Result<(), NetError> {
    conn.send_frame(Kind::Ready, 0, Bytes::new())?;
    conn.receive_small(Kind::Ready, 0, None)?;
    at_dealer.close();
    Ok(())
}

/// Does ahead what the input is not needed for.
pub(super) fn prepare(machine: &mut Machine<'_>, conn: &mut Conn) -> Result<(), RunError> {
    over(conn, |link| machine.prepare(link))
}

/// Runs a machine.
pub(super) fn run(
    machine: Machine<'_>,
    inputs: Vec<Tensor>,
    conn: &mut Conn,
    material: &mut Held,
) -> Result<Finished, RunError> {
    over(conn, |link| machine.run(inputs, link, material))
}

/// A fault of the connection is named in full.
fn over<T>(conn: &mut Conn, f: impl FnOnce(&mut PeerLink) -> Result<T, VmError>) -> Result<T, RunError> {
    let mut link = PeerLink::new(conn);
    let done = f(&mut link);
    match link.fault() {
        Some(fault) => Err(fault.into()),
        None => Ok(done?),
    }
}
