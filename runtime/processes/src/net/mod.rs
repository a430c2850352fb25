//! Sockets: frames, connections with deadlines, and the errors that both produce.
//!
//! Everything above this module is synchronous. A [`Conn`] owns two tokio tasks, one that reads and one that writes,
//! joined to the calling thread by bounded channels, past which short frames go when nothing waits; every call that waits
//! has a deadline and also ends when the process is told to stop. Links are not encrypted yet, so [`addr`] admits loopback
//! addresses alone unless told otherwise.

pub mod addr;
mod conn;
mod error;
pub mod frame;
mod outgoing;
mod pulse;
mod shape;

pub use conn::{Conn, Listener, Net, Options};
pub use error::{MAX_REASON, NetError, printable};
pub use shape::Shape;
