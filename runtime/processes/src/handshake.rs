//! The handshake: who is there, and do both run the same.
//!
//! Either side of a connection sends a [`Hello`] at once, without waiting for the other's, and compares. Both compare the
//! same fields, so a mismatch has the same name on both sides and ends the connection before any share, seed or masked
//! weight is sent. The version comes first and alone decides whether the rest can be read.
//!
//! ```text
//! version 4 | role 1 | program 32 | commitment 32 | setup 32 | session 16 | link 32 | state 16 | entry 2 + n | publics 2 + 4n     little-endian
//! ```
//!
//! The client's session is zero (the server chooses it), and so is the dealer's; the state tells a party's state directory, and is zero
//! to and from the dealer, who keeps nothing; the server and the dealer leave entry and
//! publics empty, since the client chooses them. The link is zero but to the dealer, whom both parties tell what their own link
//! is: it deals to two who are linked to each other, and not to two whom somebody put together. The setup is zero but from a server
//! with a dealer to its clients: it names the masked weights that the client must have.
//!
//! A role that somebody claims is one in which its key is pinned, unless links are insecure.

use std::fmt;

use bytes::{BufMut, Bytes};
use ir::Party;

use crate::ledger::StateId;
use crate::net::frame::Kind;
use crate::net::{Conn, NetError, printable};
use crate::setup::SetupDigest;

/// Version of frames, handshake and message order. The bytecode has its own.
pub const PROTOCOL_VERSION: u32 = 12;

/// Greatest size of an encoded [`Hello`].
const MOST: usize = 4096;

/// Identifies a session: one run of one program with one set of material. Chosen at random by the server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Session(pub [u8; 16]);

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A process of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// One of the two that compute.
    Party(Party),
    /// The one that deals.
    Dealer,
}

impl Role {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Role::Party(Party::Client) => "client",
            Role::Party(Party::Server) => "server",
            Role::Dealer => "dealer",
        }
    }

    /// The role of this name.
    pub fn from_name(name: &str) -> Option<Role> {
        [Role::Party(Party::Client), Role::Party(Party::Server), Role::Dealer]
            .into_iter()
            .find(|role| role.name() == name)
    }

    fn code(self) -> u8 {
        match self {
            Role::Party(party) => party.index() as u8,
            Role::Dealer => 2,
        }
    }

    fn from_code(code: u8) -> Option<Role> {
        match code {
            0 => Some(Role::Party(Party::Client)),
            1 => Some(Role::Party(Party::Server)),
            2 => Some(Role::Dealer),
            _ => None,
        }
    }
}

/// What a process says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Its protocol version.
    pub version: u32,
    /// Its role.
    pub role: Role,
    /// Hash of its `.ssb` file.
    pub program: [u8; 32],
    /// Commitment to the weights that its program is for, and that the server has loaded.
    pub commitment: [u8; 32],
    /// Of a server's masked weights, told to its clients. Else zero.
    pub setup: SetupDigest,
    /// The session, or zero.
    pub session: Session,
    /// Told to the dealer: a digest of [`Conn::binding`] of the link between the parties. Else zero.
    pub link: [u8; 32],
    /// Tells a party's state directory from its others. To and from the dealer zero.
    pub state: StateId,
    /// Name of the entry to run, or empty.
    pub entry: String,
    /// Values of the entry's public run-time numbers, or empty.
    pub publics: Vec<u32>,
}

/// Two sides that do not fit.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mismatch {
    #[error("version mismatch: this side speaks protocol version {ours}, the {peer} version {theirs}")]
    Version { peer: &'static str, ours: u32, theirs: u32 },
    #[error("role mismatch: expected a {expected}, but a {got} is at the other end")]
    Role { expected: &'static str, got: &'static str },
    #[error("program mismatch: this side has program {ours}, the {peer} has {theirs}")]
    Program { peer: &'static str, ours: String, theirs: String },
    #[error("weights mismatch: this side's program is for weights {ours}, the {peer}'s for {theirs}")]
    Commitment { peer: &'static str, ours: String, theirs: String },
    #[error("entry mismatch: the client asks for entry `{wanted}`, the program has {known}")]
    Entry { wanted: String, known: String },
    #[error("entry mismatch: {what}")]
    Publics { what: String },
    #[error("session mismatch: {what}")]
    Session { what: &'static str },
    #[error("material mismatch: {what}")]
    Maker { what: &'static str },
    #[error("setup mismatch: the masked weights that arrived are not those that the server had named")]
    Setup,
}

impl Mismatch {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            Mismatch::Version { .. } => "the same release of ssvm on all sides",
            Mismatch::Role { .. } => {
                "check the addresses: `--connect` and `--listen` of the server, `--dealer` of the dealer"
            }
            Mismatch::Program { .. } => "the same `.ssb` file on all sides",
            Mismatch::Commitment { .. } => "the `.ssb` and `.ssw` files of one compilation",
            Mismatch::Entry { .. } => "an entry that the program has",
            Mismatch::Publics { .. } => "public inputs within the program's bounds",
            Mismatch::Session { .. } => "run again: every run gets a new session",
            Mismatch::Maker { .. } => "`--dealer` on both sides, or on neither",
            Mismatch::Setup => "run again; if it comes back, start the server anew",
        }
    }
}

/// A handshake that did not succeed.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum HandshakeError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

impl Hello {
    fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(128);
        bytes.put_u32_le(self.version);
        bytes.put_u8(self.role.code());
        bytes.put_slice(&self.program);
        bytes.put_slice(&self.commitment);
        bytes.put_slice(&self.setup.0);
        bytes.put_slice(&self.session.0);
        bytes.put_slice(&self.link);
        bytes.put_slice(&self.state.0);
        bytes.put_u16_le(self.entry.len().try_into().expect("a verified entry has a short name"));
        bytes.put_slice(self.entry.as_bytes());
        bytes.put_u16_le(self.publics.len().try_into().expect("a verified entry has few publics"));
        self.publics.iter().for_each(|x| bytes.put_u32_le(*x));
        bytes.into()
    }

    /// `None` if the bytes are no hello of this version.
    fn decode(bytes: &[u8]) -> Option<Hello> {
        let mut fields = Fields(bytes);
        let version = fields.u32()?;
        let role = Role::from_code(fields.array::<1>()?[0])?;
        let (program, commitment) = (fields.array()?, fields.array()?);
        let (setup, session) = (SetupDigest(fields.array()?), Session(fields.array()?));
        let (link, state) = (fields.array()?, StateId(fields.array()?));
        let length = fields.u16()?.into();
        let entry = std::str::from_utf8(fields.take(length)?).ok()?.to_owned();
        let publics = (0..fields.u16()?).map(|_| fields.u32()).collect::<Option<_>>()?;
        let whole = fields.0.is_empty();
        whole.then_some(Hello { version, role, program, commitment, setup, session, link, state, entry, publics })
    }
}

/// A cursor over foreign bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
}

/// Sends `ours`, receives the peer's and compares version, role (one of `expected`), program and commitment.
pub fn greet(conn: &mut Conn, ours: &Hello, expected: &[Role]) -> Result<Hello, HandshakeError> {
    conn.send_frame(Kind::Hello, 0, ours.encode())?;
    let bytes = conn.receive_small(Kind::Hello, MOST)?;
    let peer = conn.peer();
    let bad =
        || NetError::BadFrame { peer, expected: "a hello".to_owned(), got: format!("{} other bytes", bytes.len()) };
    let version = Fields(&bytes).u32().ok_or_else(bad)?;
    if version != ours.version {
        return Err(Mismatch::Version { peer, ours: ours.version, theirs: version }.into());
    }
    let theirs = Hello::decode(&bytes).ok_or_else(bad)?;
    if !expected.contains(&theirs.role) {
        return Err(Mismatch::Role { expected: expected[0].name(), got: theirs.role.name() }.into());
    }
    if let Some(known) = conn.known()
        && !known.roles.contains(&theirs.role)
    {
        let expected = known.roles.first().map_or("nobody", |role| role.name());
        return Err(Mismatch::Role { expected, got: theirs.role.name() }.into());
    }
    let peer = theirs.role.name();
    conn.set_peer(peer);
    let short = |hash: &[u8; 32]| hex(&hash[..8]);
    if theirs.program != ours.program {
        return Err(Mismatch::Program { peer, ours: short(&ours.program), theirs: short(&theirs.program) }.into());
    }
    if theirs.commitment != ours.commitment {
        let (ours, theirs) = (short(&ours.commitment), short(&theirs.commitment));
        return Err(Mismatch::Commitment { peer, ours, theirs }.into());
    }
    conn.greeted();
    Ok(theirs)
}

/// What the parties tell the dealer of the link between them.
pub fn link_digest(conn: &Conn) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 a link between parties, for their dealer");
    hasher.update(conn.binding());
    hasher.finalize().into()
}

/// What to say about an entry that the program lacks.
pub fn unknown_entry(module: &ir::bytecode::Module, wanted: &str) -> Mismatch {
    let known = module.entries.iter().map(|e| format!("`{}`", e.name)).collect::<Vec<_>>().join(", ");
    Mismatch::Entry { wanted: printable(wanted.as_bytes()), known }
}

/// The entry that a client asks for, if the program has it and its publics are within their bounds.
pub fn entry<'a>(module: &'a ir::bytecode::Module, client: &Hello) -> Result<&'a ir::Program, Mismatch> {
    let program = module.entry(&client.entry).ok_or_else(|| unknown_entry(module, &client.entry))?;
    if client.publics.len() != program.publics.len() {
        let what = format!(
            "{} public numbers for entry `{}`, which takes {}",
            client.publics.len(),
            program.name,
            program.publics.len()
        );
        return Err(Mismatch::Publics { what });
    }
    for (value, public) in client.publics.iter().zip(&program.publics) {
        if *value >= public.bound {
            let what = format!("public `{}` is {value}, its bound is {}", public.name, public.bound);
            return Err(Mismatch::Publics { what });
        }
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            role: Role::Party(Party::Client),
            program: [1; 32],
            commitment: [2; 32],
            setup: SetupDigest([7; 32]),
            session: Session([3; 16]),
            link: [4; 32],
            state: StateId([8; 16]),
            entry: "main".to_owned(),
            publics: vec![5, 6],
        }
    }

    #[test]
    fn hellos_round_trip_and_no_prefix_decodes() {
        let bytes = hello().encode();
        assert_eq!(Hello::decode(&bytes), Some(hello()));
        for n in 0..bytes.len() {
            assert_eq!(Hello::decode(&bytes[..n]), None);
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(Hello::decode(&longer), None);
        let mut role = bytes.to_vec();
        role[4] = 3;
        assert_eq!(Hello::decode(&role), None);
    }
}
