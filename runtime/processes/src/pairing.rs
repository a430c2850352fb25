//! Two who pair over a network: each learns the other's key, and both see a code that the two of them compare.
//!
//! ```text
//! connects                    listens
//!   TLS        <------------->  TLS                                each proves its key; nobody is pinned yet
//!   commitment <------------->  commitment                         to a random number and the sender's key
//!   number     <------------->  number                             each only after the other's commitment is there
//! ```
//!
//! The code is 10 digits of a hash over the link (its exporter and both keys, see [`Conn::binding`]) and both numbers. Who stands between the
//! two has a link of its own with each, so the codes that they see are independent: with both commitments made before either number
//! is known, no search helps, and one attempt in 10^10 gives two that are equal. Nothing is pinned before the user says that
//! they are.

use std::net::SocketAddr;

use bytes::Bytes;
use subtle::ConstantTimeEq;

use crate::RunError;
use crate::handshake::Role;
use crate::identity::PublicKey;
use crate::net::frame::Kind;
use crate::net::{Conn, Listener, Net, NetError, Options};

/// Bytes of a number, and of a commitment to one.
const LENGTH: usize = 32;

/// A key that was met, and the code by which its owner is known.
pub struct Met {
    /// The other side's key.
    pub key: PublicKey,
    /// Two groups of five digits.
    pub code: String,
}

/// Meets whoever listens there; `net` is for pairing.
pub fn connect(net: &Net, address: SocketAddr, role: Role) -> Result<Met, RunError> {
    meet(net.connect(role, address, Options::default(), None)?, true)
}

/// Meets the next who connects and does its part; nobody if the process is told to stop.
pub fn listen(listener: &Listener) -> Option<Met> {
    loop {
        match meet(listener.accept()?, false) {
            Ok(met) => return Some(met),
            Err(error) => tracing::warn!("somebody who connected did not pair: {error}"),
        }
    }
}

/// Exchanges commitments, then numbers.
fn meet(mut conn: Conn, connects: bool) -> Result<Met, RunError> {
    let mut number = [0; LENGTH];
    getrandom::fill(&mut number).map_err(RunError::Random)?;
    let key = conn.known().expect("a link for pairing is encrypted").key;
    let done = exchange(&mut conn, connects, number);
    match done {
        Ok(code) => {
            conn.close();
            Ok(Met { key, code })
        }
        Err(error) => {
            conn.fail(&error.to_string());
            Err(error.into())
        }
    }
}

fn exchange(conn: &mut Conn, connects: bool, ours: [u8; LENGTH]) -> Result<String, NetError> {
    let binding = *conn.binding();
    conn.send_frame(Kind::Pairing, 0, Bytes::copy_from_slice(&commitment(&binding, connects, &ours)))?;
    let committed = conn.receive(Kind::Pairing, 0, LENGTH)?;
    conn.send_frame(Kind::Pairing, 1, Bytes::copy_from_slice(&ours))?;
    let theirs = conn.receive(Kind::Pairing, 1, LENGTH)?;
    if !bool::from(commitment(&binding, !connects, &theirs).ct_eq(&committed[..])) {
        let (expected, got) = ("the number that it had committed to".to_owned(), "another".to_owned());
        return Err(NetError::BadFrame { peer: conn.peer(), expected, got });
    }
    let (connecting, listening) = if connects { (&ours[..], &theirs[..]) } else { (&theirs[..], &ours[..]) };
    Ok(code(&binding, connecting, listening))
}

/// Of one end of a link: the other end's cannot be sent back.
fn commitment(binding: &[u8; LENGTH], connects: bool, number: &[u8]) -> [u8; LENGTH] {
    let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 commitment of one who pairs");
    hasher.update(binding).update(&[u8::from(connects)]).update(number);
    hasher.finalize().into()
}

fn code(binding: &[u8; LENGTH], connecting: &[u8], listening: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 code of two who pair");
    hasher.update(binding).update(connecting).update(listening);
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    // 64 bits: no remainder is favoured by more than one part in 10^9.
    let digits = u64::from_le_bytes(bytes) % 10_000_000_000;
    format!("{:05} {:05}", digits / 100_000, digits % 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_commitments_depend_on_all_they_are_of() {
        let of = |binding, a: u8, b: u8| code(&[binding; 32], &[a; 32], &[b; 32]);
        let first = of(1, 2, 3);
        assert!(first.len() == 11 && first.bytes().all(|b| b == b' ' || b.is_ascii_digit()), "{first}");
        assert!([of(9, 2, 3), of(1, 9, 3), of(1, 2, 9), of(1, 3, 2)].iter().all(|other| *other != first));
        let first = commitment(&[1; 32], true, &[2; 32]);
        let others = [commitment(&[1; 32], false, &[2; 32]), commitment(&[1; 32], true, &[3; 32])];
        assert!(others.iter().chain([&commitment(&[3; 32], true, &[2; 32])]).all(|other| *other != first));
    }
}
