//! The three processes of a run: [`client`], [`server`] and [`dealer`], as functions that take a [`Net`](crate::net::Net) and so run in a
//! process each, or in threads of one process.
//!
//! ```text
//! client                      server                      dealer
//!   hello      <------------->  hello                              mismatches end here
//!   begin      -------------->                                     does the client hold the masked weights?
//!              <--------------  setup                              once per model
//!   hello, seeds  ---------------------------------------->  hello
//!                               hello, seeds  ------------>        paired by session
//!              <--------------------------------------------  material
//!   prepare                                <-----------------  material
//!   ready      <------------->  ready
//!   online     <------------->  online
//!   done       -------------->
//! ```
//!
//! A party enters the session in its ledger before it connects to the dealer: from there on its material exists.

pub mod client;
pub mod dealer;
pub mod link;
pub mod server;

mod error;
mod material;
mod online;
mod parts;
mod program;
mod progress;
mod stream;

pub use error::{RunError, chain};
pub use parts::{Entropy, Os, Record, write_json};

use parts::Watch;
pub use program::Loaded;
