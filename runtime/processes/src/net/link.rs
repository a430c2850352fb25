//! The beginning of a link: who is at its other end, and the keys that protect its frames.
//!
//! TLS         Both ends prove the keys of their identities, which the other has pinned (`tls`).
//! Insecure    No identity and no secret: each end sends a number in the clear, and both make the keys of the frames' MAC from the two.
//!             That shows accidents, mixed-up connections and what is put in blindly; whoever reads the link can also change it.
//! Mixed up    The first bytes tell what the other end is: TLS, insecure, an older release, or no ssvm at all; each has its error.
//! Binding     32 bytes that only the two ends of this connection have in common: of TLS its exporter (RFC 8446, §7.5), of an insecure
//!             link what both sent; with both identities, of which an exporter does not have the connecting one's.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::conn::ended;
use super::seal::{Mac, Opener, Records, Seal};
use super::tls::{Admits, Verifier, alpn, connection, failed};
use super::{NetError, printable};
use crate::handshake::{Mismatch, PROTOCOL_VERSION, Role};
use crate::identity::{Identity, PublicKey};
use crate::limits::Limits;
use crate::pins::Pins;

/// Longest time that a stranger has to say who it is.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(4);

/// Longest wait until the other side has read why it was refused.
const LINGER: Duration = Duration::from_secs(1);

/// What links are, in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Links {
    /// Nobody else reads or changes what goes over them, and each end knows the other.
    Encrypted,
    /// Anybody may.
    Insecure,
}

impl Links {
    /// What logs and reports say of them.
    pub fn name(self) -> &'static str {
        match self {
            Links::Encrypted => "encrypted links",
            Links::Insecure => "INSECURE links",
        }
    }
}

impl serde::Serialize for Links {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

/// How the links of a process are protected.
pub enum Protection {
    /// By the keys of identities: this side's, and those that are pinned in the directory.
    Pinned {
        /// This side's.
        identity: Identity,
        /// Where the pins are.
        directory: std::path::PathBuf,
    },
    /// By keys that both ends are about to pin.
    Pairing(Identity),
    /// Not at all.
    Insecure,
}

impl Protection {
    /// What it makes of links.
    pub fn links(&self) -> Links {
        match self {
            Protection::Pinned { .. } | Protection::Pairing(_) => Links::Encrypted,
            Protection::Insecure => Links::Insecure,
        }
    }
}

/// Which end of a connection this side is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Connects,
    Listens,
}

/// Who is at the other end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its key.
    pub key: PublicKey,
    /// What it may be here: all roles in which it is pinned and that the connection is for. None in pairing.
    pub roles: Vec<Role>,
    /// What the user calls it in the first of them. Empty in pairing.
    pub name: String,
    /// What it may ask for in that role.
    pub limits: Limits,
}

/// A connection whose both ends know each other.
pub(super) struct Link {
    pub(super) stream: TcpStream,
    pub(super) seal: Seal,
    pub(super) opener: Opener,
    /// What came after the handshake, not yet opened.
    pub(super) rest: Vec<u8>,
    /// None on an insecure link.
    pub(super) peer: Option<Peer>,
    pub(super) binding: [u8; 32],
}

/// What a listener of these roles calls a guest.
pub(super) fn title(roles: &[Role]) -> &'static str {
    match roles {
        [role] => role.name(),
        _ => "party",
    }
}

/// Begins a link on a connection, within `limit`. The other end is to have one of these roles.
pub(super) async fn begin(
    mut stream: TcpStream,
    end: End,
    protection: &Protection,
    roles: &[Role],
    limit: Duration,
) -> Result<Link, NetError> {
    let peer = title(roles);
    stream.set_nodelay(true).map_err(|source| NetError::Io { peer, source })?;
    let (identity, admits, pairing) = match protection {
        Protection::Insecure => {
            let begun = timeout(limit, insecure(&mut stream, end, peer)).await;
            let (seal, opener, rest, binding) = begun.unwrap_or(Err(mute(peer, limit)))?;
            return Ok(Link { stream, seal, opener, rest, peer: None, binding });
        }
        Protection::Pinned { identity, directory } => {
            (identity, Admits::Pinned(Pins::read(directory)?, roles.to_vec()), false)
        }
        Protection::Pairing(identity) => (identity, Admits::Anyone, true),
    };
    let verifier = Verifier::new(admits, peer);
    let alpn = alpn(pairing);
    let mut conn =
        connection(end, identity, &verifier, alpn.clone()).map_err(|source| NetError::Tls { peer, source })?;
    let mut records = Records::new(if end == End::Listens { [3, 1] } else { [3, 3] });
    let shaken = match timeout(limit, shake(&mut stream, &mut conn, &mut records, peer)).await {
        Ok(shaken) => shaken,
        Err(_) => return Err(mute(peer, limit)),
    };
    let found = verifier.found();
    let (rest, found) = match (shaken, found) {
        (Ok(rest), Some(Ok(found))) if conn.alpn_protocol() == Some(&alpn[..]) => (rest, found),
        (shaken, found) => {
            // The other side should read the alert before it sees the end.
            farewell(&mut stream).await;
            let error = match (shaken, found) {
                (_, Some(Err(refused))) => refused,
                (Err(fault), _) => fault,
                (Ok(_), _) => NetError::Protocol { peer },
            };
            return Err(error);
        }
    };
    let binding = bind(&conn, end, identity.public(), found.key).map_err(|source| NetError::Tls { peer, source })?;
    // Whole frames are sealed at once.
    conn.set_buffer_limit(None);
    let conn = Arc::new(Mutex::new(conn));
    let (seal, opener) = (Seal::tls(conn.clone()), Opener::Tls(conn, records));
    Ok(Link { stream, seal, opener, rest, peer: Some(found), binding })
}

fn mute(peer: &'static str, limit: Duration) -> NetError {
    NetError::Mute { peer, seconds: limit.as_secs_f64() }
}

/// Both ends' part of TLS, to its end; gives what came after it.
async fn shake(
    stream: &mut TcpStream,
    conn: &mut Connection,
    records: &mut Records,
    peer: &'static str,
) -> Result<Vec<u8>, NetError> {
    let (mut raw, mut filled, mut known, mut looked) = (vec![0; 1 << 14], 0, false, 0);
    loop {
        flush(stream, conn).await.map_err(|e| ended(peer, e))?;
        if !conn.is_handshaking() {
            raw.truncate(filled);
            return Ok(raw);
        }
        if filled == 0 || !known {
            match stream.read(&mut raw[filled..]).await.map_err(|e| ended(peer, e))? {
                0 if filled == 0 => return Err(NetError::Closed { peer }),
                0 => return Err(foreign(peer, &raw[..filled])),
                n => filled += n,
            }
        }
        if !known {
            match Opening::of(&raw[..filled]) {
                None => continue,
                Some(Opening::Tls) => known = true,
                Some(other) => {
                    // An insecure end shows by this that TLS is spoken here.
                    let _ = stream.write_all(&NO_TLS).await;
                    return Err(other.fault(peer, true, &raw[..filled]));
                }
            }
        }
        if !records.are_plain(&raw[looked..filled]) {
            return Err(NetError::Changed { peer });
        }
        // Up to the end of the handshake and not beyond it.
        let mut rest = &raw[..filled];
        let mut read = Ok(());
        while read.is_ok() && !rest.is_empty() && conn.is_handshaking() {
            read = conn
                .read_tls(&mut rest)
                .map_err(|e| ended(peer, e))
                .and_then(|_| conn.process_new_packets().map(drop).map_err(|e| failed(peer, e)));
        }
        let left = rest.len();
        if let Err(error) = read {
            // An alert, most likely.
            let _ = flush(stream, conn).await;
            return Err(error);
        }
        raw.copy_within(filled - left..filled, 0);
        (filled, looked) = (left, left);
    }
}

async fn flush(stream: &mut TcpStream, conn: &mut Connection) -> std::io::Result<()> {
    let mut out = Vec::new();
    while conn.wants_write() {
        conn.write_tls(&mut out)?;
    }
    stream.write_all(&out).await
}

/// Ends the sending half and reads on for a while: closing with unread bytes would take the reason with it.
async fn farewell(stream: &mut TcpStream) {
    let _ = stream.shutdown().await;
    let mut rest = [0; 1024];
    let drained = async { while matches!(stream.read(&mut rest).await, Ok(n) if n > 0) {} };
    let _ = timeout(LINGER, drained).await;
}

fn bind(conn: &Connection, end: End, ours: PublicKey, theirs: PublicKey) -> Result<[u8; 32], rustls::Error> {
    let exported = conn.export_keying_material(Zeroizing::new([0; 32]), b"EXPORTER-ssvm-link", None)?;
    let (connecting, listening) = if end == End::Connects { (ours, theirs) } else { (theirs, ours) };
    let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 binding of an encrypted link");
    hasher.update(&*exported).update(connecting.bytes()).update(listening.bytes());
    Ok(hasher.finalize().into())
}

/// What an insecure end sends first: these, its version, and a number.
const INSECURE: [u8; 8] = *b"SSVMOPEN";
const PREAMBLE: usize = 8 + 4 + 32;

/// A fatal alert: `protocol_version`.
const NO_TLS: [u8; 7] = [21, 3, 3, 0, 2, 2, 70];

/// What the other end's first bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Opening {
    Tls,
    Insecure,
    /// Frames without a preamble.
    Older,
    Foreign,
}

impl Opening {
    /// None if there are too few bytes to tell.
    fn of(bytes: &[u8]) -> Option<Opening> {
        match bytes {
            // A handshake or an alert.
            [0x15 | 0x16, 3, ..] => Some(Opening::Tls),
            [0x15 | 0x16] => None,
            [b'S', b'S', b'V', b'M', rest @ ..] if rest.len() >= 4 => {
                Some(if bytes.starts_with(&INSECURE) { Opening::Insecure } else { Opening::Older })
            }
            _ if INSECURE.starts_with(bytes) => None,
            [b'S', b'S', b'V', b'M', ..] => None,
            _ => Some(Opening::Foreign),
        }
    }

    /// What that means to an end that encrypts, or to one that does not.
    fn fault(self, peer: &'static str, encrypts: bool, bytes: &[u8]) -> NetError {
        match self {
            Opening::Tls => NetError::Encrypted { peer },
            Opening::Insecure if encrypts => NetError::Unencrypted { peer },
            Opening::Older => NetError::Older { peer },
            Opening::Insecure | Opening::Foreign => foreign(peer, bytes),
        }
    }
}

fn foreign(peer: &'static str, bytes: &[u8]) -> NetError {
    let line = bytes.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    NetError::Foreign { peer, began: printable(&line[..line.len().min(32)]) }
}

type Begun = (Seal, Opener, Vec<u8>, [u8; 32]);

async fn insecure(stream: &mut TcpStream, end: End, peer: &'static str) -> Result<Begun, NetError> {
    let mut ours = [0; PREAMBLE];
    ours[..8].copy_from_slice(&INSECURE);
    ours[8..12].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    getrandom::fill(&mut ours[12..]).map_err(|e| NetError::Io { peer, source: std::io::Error::other(e) })?;
    stream.write_all(&ours).await.map_err(|e| ended(peer, e))?;
    let mut theirs = Vec::with_capacity(PREAMBLE);
    while theirs.len() < PREAMBLE {
        let before = theirs.len();
        let limited = (&mut *stream).take((PREAMBLE - before) as u64);
        if { limited }.read_buf(&mut theirs).await.map_err(|e| ended(peer, e))? == 0 {
            return Err(if before == 0 { NetError::Closed { peer } } else { foreign(peer, &theirs) });
        }
        match Opening::of(&theirs) {
            None | Some(Opening::Insecure) => {}
            Some(other) => {
                farewell(stream).await;
                return Err(other.fault(peer, false, &theirs));
            }
        }
    }
    let version = u32::from_le_bytes([theirs[8], theirs[9], theirs[10], theirs[11]]);
    if version != PROTOCOL_VERSION {
        farewell(stream).await;
        return Err(NetError::Version(Mismatch::Version { peer, ours: PROTOCOL_VERSION, theirs: version }));
    }
    let (connecting, listening) =
        if end == End::Connects { (&ours[..], &theirs[..]) } else { (&theirs[..], &ours[..]) };
    let mut keys = Zeroizing::new([0; 96]);
    let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 keys of an insecure link");
    hasher.update(connecting).update(listening).finalize_xof().fill(&mut *keys);
    let (keys, _) = keys.as_chunks::<32>();
    let (sends, receives) = if end == End::Connects { (keys[0], keys[1]) } else { (keys[1], keys[0]) };
    Ok((Seal::mac(Mac::new(sends)), Opener::Mac(Mac::new(receives)), Vec::new(), keys[2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_is_there() {
        for (bytes, opening) in [
            (&b"\x16\x03\x01"[..], Some(Opening::Tls)),
            (b"\x15\x03\x03", Some(Opening::Tls)),
            (b"\x16", None),
            (b"\x16\x02", Some(Opening::Foreign)),
            (b"", None),
            (b"SSV", None),
            (b"SSVMOPE", None),
            (b"SSVMOPEN", Some(Opening::Insecure)),
            (b"SSVM\x01\0\0", None),
            (b"SSVM\x01\0\0\0", Some(Opening::Older)),
            (b"SSX", Some(Opening::Foreign)),
            (b"HTTP/1.1 400", Some(Opening::Foreign)),
            (b"GET / ", Some(Opening::Foreign)),
        ] {
            assert_eq!(Opening::of(bytes), opening, "{bytes:?}");
        }
    }
}
