//! A party at the dealer: hands in its seeds and takes the session's material, in full, before the online phase.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};

use super::RunError;
use super::link::Held;
use super::progress::Progress;
use super::stream::receive;
use crate::handshake::{Hello, Role, greet};
use crate::net::frame::Kind;
use crate::net::{Conn, Net};
use crate::prg::Seed;

/// Connects to the dealer and receives `length` bytes. Gives up when the connection to the other party is lost. The dealer's
/// connection is handed back: the dealer takes its end as the end of the session, so it stays until both parties are ready.
pub(super) fn collect(
    net: &Net,
    dealer: SocketAddr,
    hello: &Hello,
    seeds: &[&Seed],
    length: u64,
    peer: &mut Conn,
) -> Result<(Held, Conn), RunError> {
    let mut conn = net.connect(Role::Dealer.name(), dealer, Some(peer))?;
    let result = dealt(&mut conn, hello, seeds, length, peer);
    match result {
        Ok(held) => Ok((held, conn)),
        Err(error) => {
            conn.fail(&error.for_peer());
            Err(error)
        }
    }
}

fn dealt(conn: &mut Conn, hello: &Hello, seeds: &[&Seed], length: u64, peer: &mut Conn) -> Result<Held, RunError> {
    greet(conn, hello, &[Role::Dealer])?;
    let mut bytes = BytesMut::new();
    seeds.iter().for_each(|seed| bytes.put_slice(seed.expose()));
    conn.send_frame(Kind::Seeds, 0, bytes.freeze())?;
    conn.trust(0);
    let progress = Progress::bytes("material", length);
    let mut chunks: VecDeque<Bytes> = VecDeque::new();
    let length = usize::try_from(length).expect("the verifier bounds the material's size");
    receive::<RunError>(conn, (Kind::Material, 0), length, Some(peer), |chunk| {
        progress.add(chunk.len());
        chunks.push_back(chunk);
        Ok(())
    })?;
    Ok(Held::new(chunks))
}
