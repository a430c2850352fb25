//! The three processes of a run: [`client`], [`server`] and [`dealer`], as functions that take a [`Net`](crate::net::Net) and so run in a
//! process each, or in threads of one process.
//!
//! ```text
//! client                      server                      dealer
//!   hello      <------------->  hello                              mismatches end here
//!   begin      -------------->                                     does the client hold the masked weights? dealt first?
//!              <--------------  setup                              once per model
//!   hello, seeds  ---------------------------------------->  hello
//!                               hello, seeds  ------------>        paired by session
//!              <--------------------------------------------  material
//!                                          <-----------------  material
//!   prepare    -------------->  prepare                            what the client sends ahead of its input
//!   ready      <------------->  ready
//!   online     <------------->  online
//!   done       -------------->
//! ```
//!
//! Material comes from the pairing on: in full before both are `ready`, or until the end of the online phase.
//!
//! A party enters the session in its ledger before it connects to the dealer: from there on its material exists.

pub mod client;
pub mod dealer;
pub mod link;
pub mod server;

mod accept;
mod error;
mod material;
mod online;
mod parts;
mod program;
mod progress;
mod stream;

pub use error::{RunError, chain};
pub use material::Dealing;
pub use parts::{Entropy, Os, Record, write_json};

use parts::{Begin, Watch};
pub use program::Loaded;
