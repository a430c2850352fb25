//! Sockets: frames, connections with deadlines, and the errors that both produce.
//!
//! Everything above this module is synchronous. A [`Conn`] owns two tokio tasks, one that reads and one that writes,
//! joined to the calling thread by bounded channels, past which short frames go when nothing waits; every call that waits
//! has a deadline and also ends when the process is told to stop. What goes over a socket is encrypted for a peer whose key is
//! pinned, unless the user typed `--insecure` ([`Protection`]).

pub mod addr;
mod conn;
mod error;
pub mod frame;
mod link;
mod listener;
mod outgoing;
mod pulse;
mod refusal;
mod seal;
mod shape;
mod tls;

pub use conn::{Conn, Net, Options};
pub use error::{MAX_REASON, NetError, printable};
pub use link::{Links, Peer, Protection};
pub use listener::Listener;
pub use refusal::Refusal;
pub use shape::Shape;
